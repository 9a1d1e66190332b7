"""The architecture: what a user writes, normalised to a tuple of frozen `Dense` layers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from . import _validation
from .kernels.activations import ACTIVATIONS, ROW_WISE

NAMES = (*ACTIVATIONS, *ROW_WISE)


@dataclass(frozen=True)
class Dense:
    """A fully connected layer: a = activation(W @ a_below + b).

    Parameters
    ----------
    units : int
        Number of neurons, at least 1.
    activation : str
        "sigmoid" 1/(1 + e^-z), "tanh", "relu" max(z, 0), "gelu" z Phi(z) with the standard normal distribution
        (Hendrycks and Gimpel 2016), "identity" z, or "step" (1 where z > 0, the perceptron). For the last layer also
        "softmax" e^z / sum e^z over the layer's neurons.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.Model([4, fastnn.Dense(16, "tanh"), fastnn.Dense(1, "identity")]).sizes
    (4, 16, 1)
    """

    units: int
    activation: str = "sigmoid"

    def __post_init__(self) -> None:
        object.__setattr__(self, "units", _validation.integer("units", self.units, 1))
        _validation.choice("activation", self.activation, NAMES)


def architecture(layers: Iterable[int | Dense], activation: str, output: str) -> tuple[int, tuple[Dense, ...]]:
    """(n_inputs, layers) of a list such as [784, 30, 10] or [784, Dense(30, "tanh"), 10]."""
    _validation.choice("activation", activation, ACTIVATIONS)
    _validation.choice("output", output, NAMES)
    if isinstance(layers, (str, bytes)) or not isinstance(layers, Iterable):
        raise TypeError(f"sizes must be a sequence such as [784, 30, 10], got {layers!r}")
    items: Sequence[int | Dense] = list(layers)
    if len(items) < 2:
        raise ValueError(f"sizes must name the inputs and at least one layer, such as [784, 30, 10], got {items!r}")
    if isinstance(items[0], Dense):
        raise TypeError(f"sizes[0] must be the number of inputs, an integer, got {items[0]!r}")
    dense = []
    for i, item in enumerate(items[1:], 1):
        if not isinstance(item, Dense):
            default = output if i == len(items) - 1 else activation
            item = Dense(_validation.integer(f"sizes[{i}]", item, 1), default)
        dense.append(item)
    return _validation.integer("sizes[0]", items[0], 1), tuple(dense)
