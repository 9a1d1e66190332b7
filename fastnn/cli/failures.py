"""What ends a command early, and what it says on standard error."""

from __future__ import annotations

import contextlib
import re
import sys
import warnings
from collections.abc import Iterator
from typing import Any

USAGE, DATA, THRESHOLD, INTERRUPTED = 2, 3, 4, 130  # exit codes


class Failure(Exception):
    """A message of one line for the user, and the exit code of the command."""

    def __init__(self, message: str, code: int = DATA):
        super().__init__(message)
        self.code = code


def say(message: str) -> None:
    """Write a line to standard error."""
    print(f"fastnn: {' '.join(message.split())}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def warnings_as_lines() -> Iterator[None]:
    """A context in which a warning is a line on standard error, without the place in the code."""

    def show(message: Warning | str, *where: Any, **more: Any) -> None:
        say(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def as_options(error: BaseException) -> str:
    """The message of an error of an estimator, in which its parameters are the options of the command line."""
    found = told(error).replace(" of X ", " ")
    for name in ("drop", "categorical", "numeric"):
        found = found.replace(f"{name}= ", f"--{name} ")
    return re.sub(r"(in row \d++)(?!, counted)", r"\1, counted from 0", found, count=1)


def told(error: BaseException) -> str:
    """The message of an error; one of the system begins with the file."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] == "sklearn":
        return 'estimators need scikit-learn: pip install "fastnn-numba[sklearn]"'
    return str(error) or type(error).__name__
