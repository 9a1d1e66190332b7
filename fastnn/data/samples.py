"""Samples as the kernels read them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from numpy.typing import NDArray


class Samples(NamedTuple):
    """A sample set: C-ordered arrays of as many rows; weights (n,) where samples have any."""

    inputs: NDArray[Any]
    targets: NDArray[Any]
    weights: NDArray[Any] | None = None

    def each(self, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Samples:
        """What a function makes of each array."""
        weights = None if self.weights is None else change(self.weights)
        return Samples(change(self.inputs), change(self.targets), weights)
