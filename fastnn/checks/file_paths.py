"""Paths: the check of one, and errors of the system that name it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .scalars import shown


def path(value: Any) -> Path:
    """value as a Path, if it is a string or an object that stands for one; bytes are refused. "~" is expanded."""
    try:
        text = os.fspath(value)
    except TypeError:
        text = None
    if not isinstance(text, str):
        raise TypeError(f"path must be a string or a path object, got {shown(value)}")
    if "\0" in text:
        raise ValueError(f"path must not hold a null character, got {shown(text)}")
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise ValueError(f"path must be a name that the system can encode, got {shown(text)}") from None
    return Path(os.path.expanduser(text))


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add the file's name to an OSError that has none, as reading and writing raise it."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise
