"""What engines have in common."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Any, Self

from ..checks import scalars
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


class Shared:
    """What engines have in common: numbers of settings. A copy of one is itself, a pickle holds its settings alone."""

    def __init__(self, chunk_seconds: float, retries: int, timeout: float, isa: str | None, **others: Any):
        self.chunk_seconds = scalars.number("chunk_seconds", chunk_seconds, 0.0)
        self.retries = scalars.integer("retries", retries, 0)
        self.timeout = scalars.number("timeout", timeout, 0.0, open_low=True)
        self.isa = _checked_isa(isa)
        self._settings = {"chunk_seconds": chunk_seconds, "retries": retries, "timeout": timeout, "isa": isa, **others}

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: Any) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), **self._settings), ()


def _checked_isa(isa: Any) -> str | None:
    """An instruction set that can be asked for."""
    if isa not in ENVIRONMENTS:
        raise ValueError(f"isa must be 'avx2' or None, got {shown(isa)}")
    found: str | None = isa
    return found
