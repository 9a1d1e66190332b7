"""A network in the making, from the layers of another system: what it reads, fastnn's layers and their tensors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..model import Model
from ..settings.layers import AnyLayer, BatchNorm, Dense, LayerNorm, PReLU, Residual, Scale
from ..settings.losses import AnyLoss

Array = NDArray[Any]


class Unfit(ValueError):
    """Why a part of a network is none that fastnn has. Who reads the network says which part that is."""


class Imported:
    """Layers in the making, of a network or of a `Residual`; all numbers are in float64 until the model is made.

    An affine map is folded into the dense layer below or above it, or into the map of the inputs.
    """

    def __init__(self, n_inputs: int | None = None, *, inner: bool = False):
        self.n_inputs, self.width, self.inner = n_inputs, n_inputs, inner
        self.layers: list[AnyLayer] = []
        self.tensors: list[dict[str, Array]] = []  # of each numbered layer, those in a Residual too
        self.shift, self.scale = np.zeros(()), np.ones(())  # of the inputs, () or (n_inputs,)
        self.pending: tuple[Array, Array] | None = None  # a factor and an offset for the next dense layer

    def reads(self, width: int) -> None:
        """Say how many numbers the next layer reads; raises where that is another number than there are."""
        if self.width is None:
            self.n_inputs = self.width = width
        if self.width != width:
            raise Unfit(f"it reads {width} numbers, where there are {self.width}")

    def dense(self, weight: Array, bias: Array) -> None:
        """Add a dense layer: weight (units, fan_in), bias (units,)."""
        units, fan_in = weight.shape
        self.reads(fan_in)
        weight, bias = _finite(weight), _finite(bias)
        if self.pending is not None:
            factor, offset = self.pending
            bias = bias + weight @ np.broadcast_to(offset, (fan_in,))
            weight = weight * factor
            self.pending = None
        self.add(Dense(units, "identity"), weight=weight, bias=bias)

    def add(self, layer: AnyLayer, **tensors: Array) -> None:
        """Add a layer whose tensors have fastnn's names and shapes."""
        self.flush()
        self._goes_on()
        if self.width is None:
            raise Unfit("nothing before it says how many inputs there are")
        self.layers.append(layer)
        self.tensors.append({name: _finite(tensor) for name, tensor in tensors.items()})
        self.width = layer._units(self.width)

    def add_residual(self, block: Imported) -> None:
        """Add a `Residual` of layers that read what there is now."""
        block.flush()
        if not block.layers:
            raise Unfit("it adds a value to itself")
        assert block.n_inputs is not None
        self.reads(block.n_inputs)
        if block.width != self.width:
            raise Unfit(f"it adds {block.width} numbers to {self.width}")
        block._goes_on()
        self.flush()
        self._goes_on()
        self.layers.append(Residual(*block.layers))
        self.tensors += block.tensors

    def affine(self, factor: Any, offset: Any) -> None:
        """Multiply by a factor and add an offset, both () or (width,)."""
        factor, offset = _finite(factor), _finite(offset)
        last = self.layers[-1] if self.layers else None
        if self.pending is not None:
            self.pending = self.pending[0] * factor, self.pending[1] * factor + offset
        elif last is None and not self.inner and np.all(self.scale * factor != 0):
            scale = self.scale * factor
            self.shift, self.scale = self.shift - offset / scale, scale
        elif isinstance(last, (Dense, LayerNorm)) and last.activation == "identity":
            found = self.tensors[-1]
            column = factor if factor.ndim == 0 or isinstance(last, LayerNorm) else factor[:, None]
            self.tensors[-1] = {"weight": found["weight"] * column, "bias": found["bias"] * factor + offset}
        else:
            self.pending = factor, offset

    def activate(self, activation: str) -> None:
        """Add an activation."""
        if activation == "identity":
            return
        self.flush()
        if activation == "softmax":
            self._fold_norm()
        last = self.layers[-1] if self.layers else None
        if not isinstance(last, (Dense, LayerNorm, BatchNorm, Residual)):
            raise Unfit(f"fastnn has {activation} after a dense layer, a normalisation or a Residual alone")
        if last.activation != "identity":
            raise Unfit(f"it follows another activation, {last.activation}")
        if activation == "softmax" and not (isinstance(last, Dense) and last.units > 1):
            raise Unfit("a softmax must follow a dense layer of at least two outputs")
        if isinstance(last, Residual):
            self.layers[-1] = Residual(*last.layers, activation=activation)
        else:
            self.layers[-1] = replace(last, activation=activation)

    def prelu(self, slope: Array) -> None:
        """Add a slope below zero, (1,) for all neurons or (width,)."""
        if self.width is None or slope.size not in (1, self.width):
            raise Unfit(f"it has {slope.size} slopes, where there are {self.width or 'no'} neurons")
        self.add(PReLU(), weight=np.broadcast_to(slope.ravel(), (self.width,)))

    def flush(self) -> None:
        """Make a layer of an affine map that no dense layer takes."""
        if self.pending is None:
            return
        (factor, offset), self.pending = self.pending, None
        if np.any(offset):
            raise Unfit("it adds an offset where no dense layer is beside it")
        assert self.width is not None
        self.add(Scale(), weight=np.broadcast_to(factor, (self.width,)))

    def _goes_on(self) -> None:
        """Raise where nothing may follow."""
        if self.layers and self.layers[-1].activation == "softmax":
            raise Unfit("it follows a softmax, which must be the last one")

    def _fold_norm(self) -> None:
        """Fold a batch normalisation at the end into the dense layer below it, because a network ends with one."""
        *_, below, last = None, None, *self.layers
        if isinstance(last, BatchNorm) and isinstance(below, Dense) and below.activation == "identity":
            self.layers.pop()
            self.affine(*last.folded(self.tensors.pop()))
            self.activate(last.activation)

    def end(self, output: str | None = None) -> Dense:
        """The last layer, a dense one, with an activation more; raises where it is another one."""
        if self.width is None:
            raise Unfit("it has no dense layer")
        if output is not None:
            self.activate(output)
        self.flush()
        self._fold_norm()
        last = self.layers[-1] if self.layers else None
        if not isinstance(last, Dense):
            raise Unfit("the last layer must be a dense one")
        return last

    def model(self, output: str | None, loss: AnyLoss | None, dtype: str, rng: Any) -> Model:
        """The model, with an activation more for its outputs and a loss; None stands for none and for the usual one."""
        last = self.end(output)
        assert self.n_inputs is not None
        made = Model(
            [self.n_inputs, *self.layers],
            loss=usual_loss(last.activation) if loss is None else loss,
            init="zeros",
            input_shift=_number(self.shift, 0.0),
            input_scale=_number(self.scale, 1.0),
            dtype=dtype,
            rng=rng,
        )
        for places, tensors in zip(made.tensors, self.tensors, strict=True):
            for name, place in places.items():
                with np.errstate(over="ignore"):
                    place[...] = tensors[name]
        if not np.isfinite(made.parameters).all():
            raise Unfit(f"its parameters must be finite in {dtype}")
        made._network.check_least(made.parameters)
        return made


def usual_loss(activation: Any) -> str:
    """The loss of a network whose file says none, by the activation of its outputs."""
    return "cross_entropy" if activation in ("softmax", "sigmoid") else "quadratic"


def _finite(numbers: Any) -> Array:
    """Numbers in float64."""
    found = np.asarray(numbers, np.float64)
    if not np.isfinite(found).all():
        raise Unfit("its parameters must be finite")
    return found


def _number(array: Array, neutral: float) -> Any:
    """A shift or a scale as `Model` takes it: one number where all are equal, None where it changes nothing."""
    first = array.flat[0]
    if np.any(array != first):
        return array
    return None if first == neutral else float(first)
