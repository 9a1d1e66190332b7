"""Results as CSV or JSON, on standard output or in a file."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """A value of NumPy as one of Python; a float32 with the digits that it needs."""
    if isinstance(value, np.floating):
        return float(str(value))
    return value.item() if isinstance(value, np.generic) else value


def column(values: Any) -> list[Any]:
    """An array (n,) as a list of Python's values."""
    return [plain(each) for each in np.asarray(values)]


def as_json(value: Any) -> str:
    """JSON, in which a number that is not finite is null."""
    return json.dumps(_finite(value), indent=2, ensure_ascii=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _finite(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    value = plain(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_csv(columns: Mapping[str, list[Any]]) -> str:
    """Columns of one length as CSV; a missing value is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()


def as_records(columns: Mapping[str, list[Any]]) -> str:
    """Columns of one length as a JSON list with an object for each row, a row a line."""
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    lines = [json.dumps(_finite(row), ensure_ascii=False) for row in rows]
    return "[" + ",\n ".join(lines) + "]\n"


def write(text: str, path: str = "-") -> None:
    """Write text to a file, or to standard output for "-". The file appears whole or not at all."""
    if path == "-":
        sys.stdout.write(text)
        return
    target = Path(path)
    if target.exists() and not target.is_file():  # a pipe or a device
        target.write_text(text, encoding="utf-8", newline="")
        return
    target = target.resolve()
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8", newline="")
        beside.replace(target)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, path) from None
