"""`verify`: whether the file of an export computes what the network computed."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..checks import file_paths
from . import exporting
from .scripts import CHANGED, LINE

SECONDS = 120  # that a file's self test may take
_LINE = re.compile(LINE.format(rows=r"(\d+)", error=r"(\S+)", ulp=r"(\S+)", wrong=r"(\d+)") + f"({CHANGED})?")


class Verification(NamedTuple):
    """What a file computes for the rows that were recorded in it."""

    rows: int  # how many there are
    error: float  # the largest one of outputs, relative to those above 1 in size; infinite where a NaN is new
    ulp: float  # the largest one of outputs, in units in the last place of what was recorded
    wrong_labels: int  # rows whose label or labels differ
    intact: bool  # whether parameters, labels and names are those that were written, where the file has a checksum
    passed: bool  # the error is within the file's tolerance, no label differs, and it is intact


def verify(path: str | os.PathLike[str]) -> Verification:
    """Run the self test of a file that `export` wrote: whether it computes what the network computed.

    The file runs: Python, node or a compiler must be there for what the suffix says, and code in the file does what it
    does. So verify only files that you would run.

    Parameters
    ----------
    path : str or path
        Ending in ".onnx", ".h", ".mjs" or ".py".

    Returns
    -------
    Verification
        A named tuple of `rows`, how many were recorded; `error`, the largest one of their outputs, relative to those
        above 1 in size; `ulp`, the largest one in units in the last place of the network's dtype; `wrong_labels`, the
        rows whose label differs; `intact`, whether parameters, labels and names have the checksum of those that were
        written; and `passed`.

    Raises FileNotFoundError where there is no file, or not what runs it; ValueError for another suffix, and for a file
    that does not run to its end.

    Examples
    --------
    >>> import fastnn, tempfile, os, pathlib
    >>> path = os.path.join(tempfile.mkdtemp(), "net.py")
    >>> fastnn.Model([2, 3, 1], rng=0).export(path, labels=["no", "yes"])
    >>> fastnn.verify(path).passed
    True
    >>> changed = pathlib.Path(path).read_text().replace("'no', 'yes'", "'yes', 'no'", 1)
    >>> _ = pathlib.Path(path).write_text(changed)
    >>> fastnn.verify(path).passed
    False
    """
    path = file_paths.path(path)
    form = exporting.format_of(path)
    if not path.is_file():
        raise FileNotFoundError(f"path must name a file, got {str(path)!r}, which is none")
    found: Verification = form.verify(path)
    return found


def of_command(command: Sequence[str], path: Path) -> Verification:
    """What a command says that runs the self test of a file, and prints `LINE`. Its exit code 0 is that it passed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise ValueError(f"path must name a file that runs, got {str(path)!r}, not done in {SECONDS} s") from None
    found = _LINE.fullmatch(done.stdout.strip())
    if found is None:
        told = (done.stderr or done.stdout).strip().splitlines() or ["nothing"]
        raise ValueError(f"path must name a file that runs, got {str(path)!r}, which said: {told[-1]}")
    rows, error, ulp, wrong, changed = found.groups()
    return Verification(int(rows), float(error), float(ulp), int(wrong), not changed, done.returncode == 0)


def errors(found: Any, expected: Any) -> tuple[float, float]:
    """The largest errors of outputs: relative to those above 1 in size, and in units in the last place."""
    with np.errstate(all="ignore"):
        distance = np.abs(found.astype(np.float64) - expected)
        same = (found == expected) | (np.isnan(found) & np.isnan(expected))
        size = np.abs(expected)
        both = [np.where(same, 0, distance / unit) for unit in (np.maximum(size, 1), np.spacing(size))]
    relative, ulp = [float(np.nan_to_num(each, nan=np.inf, posinf=np.inf).max(initial=0)) for each in both]
    return (relative, ulp)
