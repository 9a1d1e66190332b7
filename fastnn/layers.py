"""The architecture: what a user writes, normalised to a tuple of frozen `Dense` layers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from . import _validation
from ._validation import shown
from .custom import Activation
from .kernels.activations import ACTIVATIONS, ROW_WISE, ActivationFormula, formula
from .kernels.loss_functions import LOSSES, TargetsKind
from .losses import AnyLoss, check, kernel_name, name_of

HIDDEN = tuple(ACTIVATIONS)
NAMES = (*HIDDEN, *ROW_WISE)
MAX_UNITS = 2**31 - 1  # in a layer


@dataclass(frozen=True)
class Dense:
    """A fully connected layer: a = activation(W @ a_below + b).

    Parameters
    ----------
    units : int
        Number of neurons, at least 1.
    activation : str or Activation
        "sigmoid" 1/(1 + e^-z), "hard_sigmoid" (z + 3) / 6 within [0, 1], "tanh", "identity" z, "exp" e^z, "step" (1
        where z > 0, the perceptron), "softplus" log(1 + e^z), "relu" max(z, 0). Others that go on below zero:
        "leaky_relu" with 0.01 z, "elu" with e^z - 1, "selu" with 1.76 (e^z - 1), and 1.05 z above, so that mean 0 and
        variance 1 stay (Klambauer et al. 2017), "gelu" z Phi(z) with the standard normal distribution (Hendrycks and
        Gimpel 2016), "silu" z sigmoid(z). For the last layer also "softmax" e^z / sum e^z over the layer's neurons.
        Or your own, see `Activation`.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.Model([4, fastnn.Dense(16, "tanh"), fastnn.Dense(1, "identity")]).sizes
    (4, 16, 1)
    """

    units: int
    activation: str | Activation = "sigmoid"

    def __post_init__(self) -> None:
        object.__setattr__(self, "units", _validation.integer("units", self.units, 1, MAX_UNITS))
        check_activation("activation", self.activation, NAMES)

    @property
    def _kernel(self) -> str:
        """The kernels' name of its activation."""
        return self.activation if isinstance(self.activation, str) else self.activation._kernel

    @property
    def _formula(self) -> ActivationFormula:
        """The kernels' row of its activation, which states all facts about it."""
        return formula(self._kernel)


def check_activation(name: str, value: object, allowed: Iterable[str]) -> None:
    """Raise where it is neither one of the allowed names nor a user's own activation."""
    if not isinstance(value, Activation):
        _validation.choice(name, value, allowed)


def architecture(
    layers: Iterable[int | Dense], activation: str | Activation, output: str | Activation
) -> tuple[int, tuple[Dense, ...]]:
    """(n_inputs, layers) of a list such as [784, 30, 10] or [784, Dense(30, "tanh"), 10]."""
    check_activation("activation", activation, HIDDEN)
    check_activation("output", output, NAMES)
    items = _validation.items("sizes", layers, "a sequence such as [784, 30, 10]")
    if len(items) < 2:
        raise ValueError(
            f"sizes must name the inputs and at least one layer, such as [784, 30, 10], got {shown(items)}"
        )
    if isinstance(items[0], Dense):
        raise TypeError(f"sizes[0] must be the number of inputs, an integer, got {shown(items[0])}")
    dense = []
    for i, item in enumerate(items[1:], 1):
        if not isinstance(item, Dense):
            default = output if i == len(items) - 1 else activation
            item = Dense(_validation.integer(f"sizes[{i}]", item, 1, MAX_UNITS), default)
        dense.append(item)
    return _validation.integer("sizes[0]", items[0], 1, MAX_UNITS), tuple(dense)


@dataclass(frozen=True)
class Architecture:
    """All of a model that is no number which training changes. It is checked when it is made."""

    n_inputs: int
    layers: tuple[Dense, ...]
    loss: AnyLoss
    dtype: str
    input_scale: float | None = None
    frozen: frozenset[int] = frozenset()  # indices of layers that do not train

    def __post_init__(self) -> None:
        _validation.choice("dtype", self.dtype, _validation.DTYPES)
        check(self.loss, self.dtype)
        if self.input_scale is not None and abs(self.input_scale) > float(np.finfo(self.dtype).max):
            raise ValueError(f"input_scale must be finite in {self.dtype}, got {self.input_scale!r}")
        output = self.layers[-1]
        if abs(output._formula.threshold) > float(np.finfo(self.dtype).max):
            raise ValueError(f"the range of the output must lie within {self.dtype}'s, got {output.activation!r}")
        if any(layer.activation == "softmax" for layer in self.layers[:-1]):
            raise ValueError('"softmax" is an activation of the last layer only')
        if not kernel_name(self.loss, output._kernel):
            raise ValueError(f"loss {self.loss_name!r} does not go with the output activation {output.activation!r}")
        if output.activation == "softmax" and output.units == 1:
            raise ValueError(
                '"softmax" needs at least two outputs, got 1; use "sigmoid" for two classes with one output'
            )

    @property
    def loss_name(self) -> str:
        """The loss's name, without its parameter."""
        return name_of(self.loss)

    @property
    def targets(self) -> TargetsKind:
        """The targets that the loss takes."""
        return LOSSES[kernel_name(self.loss, self.layers[-1]._kernel)].targets

    @property
    def sizes(self) -> tuple[int, ...]:
        """Inputs, then each layer's neurons."""
        return (self.n_inputs, *(layer.units for layer in self.layers))

    def described(self) -> str:
        """The call of `Model` that makes such a network, as its repr shows it."""
        inner = ", ".join([str(self.n_inputs), *(f"Dense({d.units}, {d.activation!r})" for d in self.layers)])
        scale = "" if self.input_scale is None else f", input_scale={self.input_scale!r}"
        return f"Model([{inner}], loss={self.loss!r}{scale}, dtype={self.dtype!r})"
