"""What engines have in common."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..checks.scalars import shown
from ..jobs.nodes import ENVIRONMENTS


def module(name: str, extra: str) -> Any:
    """A module of another package, or an error that says how to get it."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        package = name.partition(".")[0]
        if (error.name or "").partition(".")[0] != package:
            raise
        raise ModuleNotFoundError(f"this engine needs {package}: pip install 'fastnn-numba[{extra}]'") from error


def checked_isa(isa: Any) -> str | None:
    """An instruction set that can be asked for."""
    if isa not in ENVIRONMENTS:
        raise ValueError(f"isa must be 'avx2' or None, got {shown(isa)}")
    found: str | None = isa
    return found
