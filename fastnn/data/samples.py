"""Samples as the kernels read them."""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy.typing import NDArray


class Samples(NamedTuple):
    """A sample set: C-ordered arrays of as many rows; weights (n,) where samples have any."""

    inputs: NDArray[Any]
    targets: NDArray[Any]
    weights: NDArray[Any] | None = None
