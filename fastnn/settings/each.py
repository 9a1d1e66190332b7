"""A number for each member of a population, in place of a single one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import scalars


class Each:
    """A number for each of n members of a population, float64: what an array becomes in a frozen object of settings.

    Nobody can change it, and two that hold equal numbers are equal.
    """

    __slots__ = ("values",)

    def __init__(self, values: NDArray[np.float64]):
        self.values = np.array(values, np.float64)
        self.values.flags.writeable = False

    def __len__(self) -> int:
        return len(self.values)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self.values.copy() if dtype is None else self.values.astype(dtype)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Each) and np.array_equal(self.values, other.values)

    def __hash__(self) -> int:
        return hash(self.values.tobytes())

    def __reduce__(self) -> tuple[Any, ...]:
        return Each, (self.values,)

    def __repr__(self) -> str:
        return f"array of {len(self)} from {self.values.min():g} to {self.values.max():g}"


def is_array(value: Any) -> bool:
    """Whether a value is meant as a number for each member: an array of one axis or several."""
    return isinstance(value, Each) or (isinstance(value, np.ndarray) and value.ndim > 0)


def numbers(
    name: str, value: Any, low: float, high: float = np.inf, *, open_low: bool = False, n: int | None = None
) -> NDArray[np.float64]:
    """The numbers of such a value, float64 (n,), each as `scalars.number` takes it; n may be any where it is None."""
    if isinstance(value, Each):
        found = value.values
    else:
        if value.ndim != 1 or value.dtype.kind not in "iuf" or not len(value):
            kind = f"{value.dtype} of shape {value.shape}"
            raise TypeError(f"{name} must be a number, or an array (n,) of numbers, got an array of {kind}")
        found = value.astype(np.float64)
    if n is not None and len(found) != n:
        raise ValueError(f"{name} must be a number, or an array of one for each of {n} members, got {len(found)}")
    fits = np.isfinite(found) & (found >= low) & (found < high)
    if open_low:
        fits &= found > low
    if not fits.all():
        i = int(np.flatnonzero(~fits)[0])
        scalars.number(f"{name}[{i}]", float(found[i]), low, high, open_low=open_low)
    return found


def number_or_array(name: str, value: Any, low: float, high: float = np.inf, *, open_low: bool = False) -> Any:
    """A number, or `Each` for an array of them."""
    if is_array(value):
        return Each(numbers(name, value, low, high, open_low=open_low))
    return scalars.number(name, value, low, high, open_low=open_low)
