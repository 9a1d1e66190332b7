"""The shift and the scale of a network's inputs, which become (x - shift) * scale: a number, or one for each input."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import scalars
from ..data import arrays

InputNumbers = float | tuple[float, ...] | None  # what an architecture has: nothing, a number, or one for each input
NEUTRAL = {"input_shift": 0.0, "input_scale": 1.0}  # what nothing stands for


def checked(name: str, value: Any, n_inputs: int, dtype: str) -> InputNumbers:
    """A shift or a scale as an architecture has it; raises where it is no such thing, or not finite in the dtype."""
    if value is None:
        return None
    if not _is_array(value):
        number = scalars.number(name, value, -np.inf) + 0.0  # no -0.0: equal ones are alike
        if abs(number) > float(np.finfo(dtype).max):
            raise ValueError(f"{name} must be finite in {dtype}, got {value!r}")
        return number
    return tuple(_numbers(name, value, (n_inputs,), dtype).tolist())


def _is_array(value: Any) -> bool:
    """Whether a value is meant as several numbers."""
    return isinstance(value, (list, tuple)) or (hasattr(value, "__array__") and getattr(value, "ndim", 2) > 0)


def _numbers(name: str, value: Any, shape: tuple[int, ...], dtype: str) -> NDArray[np.float64]:
    found = arrays.parameters(name, value, shape, "float64") + 0.0
    outside = np.argwhere(np.abs(found) > np.finfo(dtype).max)
    if len(outside):
        place = tuple(map(int, outside[0]))
        raise ValueError(f"{name} must be finite in {dtype}, got {name}{list(place)} = {found[place]}")
    return found


def is_of_members(name: str, value: Any) -> bool:
    """Whether a shift or a scale has a row for each member of a population."""
    return _is_array(value) and arrays.array(name, value).ndim == 2


def of_members(
    shift: ArrayLike | None, scale: ArrayLike | None, n: int, n_inputs: int, dtype: str
) -> NDArray[np.float64]:
    """The shift and the scale of each of n members, (n, 2, n_inputs), where at least one has a row for each."""
    found = np.empty((n, 2, n_inputs))
    for i, (name, value) in enumerate({"input_shift": shift, "input_scale": scale}.items()):
        if is_of_members(name, value):
            found[:, i] = _numbers(name, value, (n, n_inputs), dtype)
        else:
            number = checked(name, value, n_inputs, dtype)
            found[:, i] = NEUTRAL[name] if number is None else number
    return found


def shown(name: str, value: InputNumbers) -> str:
    """A shift or a scale in the call that makes a network, "" where it is not given."""
    return "" if value is None else f", {name}={scalars.shown(value)}"


def told(name: str, value: InputNumbers) -> str:
    """A shift or a scale in a summary."""
    if value is None:
        return ""
    return f", {name} of each input" if isinstance(value, tuple) else f", {name} {value:g}"


def given(value: InputNumbers) -> float | NDArray[np.float64] | None:
    """A shift or a scale as a user gave it: a new array (n_inputs,) where it is one."""
    return np.array(value) if isinstance(value, tuple) else value
