"""Checks of arguments that are no arrays. Every error names the argument, the value and what was expected."""

from __future__ import annotations

import operator
import reprlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from numbers import Real
from typing import Any

import numpy as np

from . import other_names

MAX_UNITS = 2**31 - 1  # in a layer

DTYPES = ("float32", "float64")

_SHORT = reprlib.Repr()

_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 120


def shown(value: object) -> str:
    """A value in a message: its repr, shortened where it is long."""
    try:
        return _SHORT.repr(value)
    except (RecursionError, ValueError):  # a list nested very deeply, an int of very many digits
        return f"a value of type {type(value).__name__}"


def choice(name: str, value: object, allowed: Iterable[str]) -> str:
    """value, if it is one of the allowed names."""
    allowed = list(allowed)
    if not isinstance(value, str) or value not in allowed:
        hint = other_names.hint(name, value, allowed)
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {shown(value)}{hint}")
    return value


def integer(name: str, value: Any, low: int, high: int | None = None) -> int:
    """value as an int of at least low and at most high; a bool or a float is refused."""
    number = None
    if not isinstance(value, (bool, np.bool_)):  # an older NumPy takes one for a number, with a warning
        with suppress(TypeError):
            number = operator.index(value)
    if number is None:
        raise TypeError(f"{name} must be an integer, got {shown(value)}")
    if number < low:
        raise ValueError(f"{name} must be at least {low}, got {shown(number)}")
    if high is not None and number > high:
        raise ValueError(f"{name} must be at most {high}, got {shown(number)}")
    return number


def items(name: str, value: Any, expected: str) -> list[Any]:
    """The items of an iterable; a string is refused."""
    cause = None
    if not isinstance(value, (str, bytes)):
        try:
            return list(value)
        except (TypeError, ValueError, NotImplementedError) as error:  # a memoryview of two dimensions gives the last
            cause = error
    raise TypeError(f"{name} must be {expected}, got {shown(value)}") from cause


def boolean(name: str, value: Any) -> bool:
    """value, if it is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {shown(value)}")
    return value


def boolean_or_none(name: str, value: Any) -> None:
    """Raise for anything but True, False, also NumPy's, and None."""
    if value is not None and not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True, False or None, got {shown(value)}")


def callables(name: str, value: Any) -> list[Callable[..., object]]:
    """The callables of an iterable."""
    found = items(name, value, "a sequence of callables")
    for item in found:
        if not callable(item):
            raise TypeError(f"{name} must be callables that take the model, got {shown(item)}")
    return found


def number(name: str, value: Any, low: float, high: float = np.inf, *, open_low: bool = False) -> float:
    """value as a finite float in [low, high), or in (low, high) with open_low; a bool or a string is refused."""
    if type(value) is float and low <= value < high and not (open_low and value == low):
        return value  # and so it is finite: what most are costs little
    if not isinstance(value, Real) or isinstance(value, (bool, np.timedelta64)):
        raise TypeError(f"{name} must be a number, got {shown(value)}")
    try:
        result = float(value)
    except OverflowError:
        result = np.inf
    if not (np.isfinite(result) and low <= result < high and not (open_low and result == low)):
        bound = f" {'above' if open_low else 'at least'} {low:g}" if low > -np.inf else ""
        top = f" and below {high:g}" if high < np.inf else ""
        raise ValueError(f"{name} must be a finite number{bound}{top}, got {shown(value)}")
    return result


def share(name: str, value: Any) -> float:
    """value as a float in [0, 1)."""
    return number(name, value, 0.0, 1.0)


def dropout(value: Any, n_hidden: int, check: Callable[[str, Any], Any] = share) -> tuple[Any, ...]:
    """The share of each layer's outputs that is dropped, from a number or one a hidden layer; () where none is.

    `check` gives a share for what stands for it.
    """
    given = [value] * n_hidden if isinstance(value, Real) else items("dropout", value, "a number or a sequence of them")
    if len(given) != n_hidden:
        raise ValueError(f"dropout must be a number, or one a hidden layer, {n_hidden}, got {shown(value)}")
    rates = [check("dropout", rate) for rate in given]
    return (*rates, 0.0) if any(rates) else ()


def indices(name: str, value: Any, n: int) -> frozenset[int]:
    """The indices below n that an integer or an iterable of them names; negative ones count from the end."""
    found = items(name, value, "indices") if isinstance(value, Iterable) else [value]
    for i in found:
        if not -n <= integer(name, i, -n) < n:
            raise ValueError(f"{name} must be indices in [{-n}, {n}), got {shown(i)}")
    return frozenset(i % n for i in found)


def generator(rng: Any) -> np.random.Generator:
    """The generator that the argument rng stands for: None, a seed, or one of NumPy's."""
    if rng is None or isinstance(rng, np.random.Generator):
        return np.random.default_rng(rng)
    return np.random.default_rng(integer("rng", rng, 0))
