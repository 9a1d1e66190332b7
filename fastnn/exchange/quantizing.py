"""A network of integers: int8 values and weights, sums of int32, made of a `Computation` and rows that show its values.

A value is scale * (q - zero) for its int8 q. The inputs have a scale for each feature, what a layer gives has one, and
weights have one for each neuron. So the scaler of the inputs lies in the integers that read them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data import arrays
from . import integer_steps
from .computation import INPUTS, LABELS, NUMBERS, OWN, Computation, Step
from .integer_steps import LEAST, MOST, UNIT
from .self_test import ROWS, SelfTest, matrix

Array = NDArray[Any]

FEWEST_ROWS = 20  # that show the range of values
LEVELS = MOST - LEAST + 0.06  # steps between the ends of a range: no whole number, so that few values lie between two
SUM_MOST = 2**31 - 1
WEIGHT_MOST, BIAS_MOST, SHIFT_MOST = 127, 2**29, 62
BITS_MOST, UNIT_BITS_MOST = 100, 30  # of outputs in fixed point, and where a curved function reads them
LARGEST = 2.0**120  # of outputs
CURVE = 8  # 2^CURVE pieces have curved outputs
TRIED = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.15, 0.1)  # shares of a range, of which the best one is taken
BEYOND = (
    0,
    1e-4,
    1e-3,
    1e-2,
)  # shares of a feature's values that may be clipped at each end, of which the best is taken
NEARLY = 1.25  # times the least error: as good, where less is clipped
BALANCES = 10  # rounds in which steps of features and scales of weights follow each other
SAMPLE = 20_000  # values that tell which one is the best
TIE = 1e-4  # of a step: how near to the middle of two integers other systems may round otherwise

STRAIGHT = ("identity", "relu", "step")  # activations that need no table
CURVED = (
    "sigmoid",
    "hard_sigmoid",
    "tanh",
    "exp",
    "softplus",
    "leaky_relu",
    "elu",
    "selu",
    "gelu",
    "silu",
    "mish",
    OWN,
)


class LayerReport(NamedTuple):
    """What int8 does to the values of a layer."""

    layer: str
    error: float  # of its values, the root of the mean square, relative to that of the values
    clipped: float  # the share of its values that lie beyond its range
    agreement: float  # of predictions, with integers up to this layer and float behind it


class QuantizationReport(NamedTuple):
    """What int8 does to a network, by the rows that it was calibrated with.

    Agreement is the share of classes or labels that are the same; of numbers it is R2, the lowest one of the outputs.
    """

    layers: tuple[LayerReport, ...]
    agreement: float

    def __str__(self) -> str:
        lines = [f"{'layer':<24}{'error':>10}{'clipped':>10}{'agreement':>11}"]
        lines += [f"{name:<24}{error:>10.4f}{cut:>10.4f}{same:>11.4f}" for name, error, cut, same in self.layers]
        return "\n".join(lines)


@dataclass(frozen=True)
class Inputs:
    """How inputs become int8: q = (x - middle) / step, in integers by fixed point."""

    middle: Array  # (n_inputs,) float64
    step: Array
    bits: Array  # of x and of zero in fixed point
    zero: Array  # the middle
    multiplier: Array  # and shift: what takes fixed point to q
    shift: Array

    @classmethod
    def of(cls, X: Array, weight: Array, beyond: float) -> Inputs:
        """Those of rows X (rows, n_inputs) float64, but for a share beyond each end, that a weight multiplies.

        A feature with rare large values has large weights, beside which those of others are rounded away. So others
        have longer steps than their ranges ask for: the rounding of x and that of its weight are in balance.
        """
        low, high = np.quantile(X, [beyond, 1 - beyond], axis=0)
        step = shortest = (high - low) / LEVELS
        of_steps, of_weights = np.square(weight).sum(axis=0), X.var(axis=0)
        for _ in range(BALANCES):
            rounding = np.square(np.abs(weight * step).max(axis=1) / WEIGHT_MOST).sum()
            ratio = np.divide(of_weights * rounding, of_steps, out=np.zeros_like(step), where=of_steps > 0)
            step = np.where(shortest > 0, np.maximum(shortest, ratio**0.25), 0)
        middle = (low + high + step) / 2  # of -128 and 127
        most = np.maximum(np.abs(low), np.abs(high))
        bits = np.where(most > 0, 28 - np.frexp(most)[1], 0).clip(-100, 155).astype(np.int64)
        zero = np.rint(np.ldexp(middle, bits)).astype(np.int64)
        factor = np.divide(np.ldexp(1.0, -bits), step, out=np.zeros_like(step), where=step > 0)
        return cls(middle, step, bits, zero, *_multipliers(factor))

    def integers(self, X: Array) -> Array:
        """Rows of float32 as int8."""
        x = integer_steps.fixed(X, self.bits)
        found = integer_steps.clipped(integer_steps.scaled(x - self.zero, self.multiplier, self.shift))
        return np.where(np.isnan(X), 0, found)

    def exact(self, X: Array) -> Array:
        """The same before it is rounded, in float64."""
        return np.divide(X - self.middle, self.step, out=np.zeros(X.shape), where=self.step > 0)

    def values(self, q: Array | int) -> Array:
        """What integers stand for."""
        return self.middle + q * self.step


@dataclass(frozen=True)
class Scale:
    """scale * (q - zero)."""

    scale: float
    zero: int

    @classmethod
    def of(cls, low: float, high: float) -> Scale:
        """That of a range, which holds zero."""
        scale = (high - low) / LEVELS or 1.0
        return cls(scale, int(np.clip(round(LEAST - low / scale), LEAST, MOST)))

    def exact(self, x: Array) -> Array:
        """q before it is rounded."""
        return x / self.scale + self.zero

    def integers(self, x: Array) -> Array:
        """int8 of numbers."""
        return integer_steps.clipped(np.floor(self.exact(x) + 0.5).astype(np.int64))

    def values(self, q: Array | int) -> Any:
        """What integers stand for."""
        return self.scale * (q - self.zero)


@dataclass(frozen=True)
class Layer:
    """A dense layer: sums of int32, of which neuron i's is worth scale[i]; and, if not the last one, what it gives."""

    weight: Array  # (units, fan_in) int8
    bias: Array  # (units,) int32
    offset: Array  # the bias where inputs would have no zero
    scale: Array
    multiplier: Array  # and shift: what takes sums to int8, or to outputs in fixed point
    shift: Array
    function: str
    step: Step | None = None  # of the activation
    sums: Scale | None = None  # what a table of a curved activation reads
    table: Array | None = None  # (256,) int8
    given: Scale | None = None

    @property
    def least(self) -> int:
        """Of what is not curved."""
        return self.given.zero if self.given is not None and self.function == "relu" else LEAST

    @property
    def zero(self) -> int:
        """Of what sums become."""
        found = self.sums or self.given
        return 0 if found is None else found.zero

    def integers(self, q: Array) -> Array:
        """int8 for int8."""
        found = integer_steps.scaled(integer_steps.sums(q, self.weight, self.bias), self.multiplier, self.shift)
        found = integer_steps.clipped(found + self.zero, self.least)
        return found if self.table is None else self.table[found - LEAST]


@dataclass(frozen=True)
class Curve:
    """A function of outputs in fixed point, by a table."""

    table: Array  # (2^CURVE + 1,) int32
    first: int
    shift: int
    bits: int  # of the table


@dataclass(frozen=True)
class Quantized:
    """A network of integers."""

    computation: Computation  # in float32, whose last value the outputs stand for
    inputs: Inputs
    layers: tuple[Layer, ...]
    bits: int  # of the sums of the last layer in fixed point
    curve: Curve | None  # of the last layer

    @property
    def head(self) -> Layer:
        """The last layer."""
        return self.layers[-1]

    def integers(self, X: Array) -> list[Array]:
        """int8 of rows X (rows, n_inputs) and of what each layer but the last gives, then the last one's sums."""
        found = [self.inputs.integers(np.asarray(X, np.float32))]
        for layer in self.layers[:-1]:
            found.append(layer.integers(found[-1]))
        sums = integer_steps.sums(found[-1], self.head.weight, self.head.bias)
        return [*found, integer_steps.scaled(sums, self.head.multiplier, self.head.shift)]

    def fixed_outputs(self, z: Array) -> tuple[Array, int]:
        """(outputs in fixed point, their bits) for sums in fixed point."""
        if self.head.function == "softmax":
            return integer_steps.softmax(z, self.bits), UNIT
        if self.head.function == "sigmoid":
            return integer_steps.sigmoid(z, self.bits), UNIT
        if self.head.function == "relu":
            return np.maximum(z, 0), self.bits
        if self.head.function == "step":
            return (z > 0).astype(np.int64), 0
        if self.curve is not None:
            curve = self.curve
            return integer_steps.interpolated(z, curve.table, curve.first, curve.shift), curve.bits
        return z, self.bits

    def outputs(self, z: Array) -> NDArray[np.float32]:
        """Outputs (rows, n_outputs) for sums in fixed point."""
        return integer_steps.numbers(*self.fixed_outputs(z))

    def exact_outputs(self, z: Array) -> Array:
        """The same where the activation is computed by real numbers."""
        return _activated(self.head.step, integer_steps.numbers(z, self.bits).astype(np.float64))

    @property
    def threshold(self) -> int:
        """What a single output in fixed point, or its sum where that decides, is compared with."""
        threshold = self.computation.decision.threshold
        if self.decides_by_sums:
            threshold = np.log(threshold / (1 - threshold)) if 0 < threshold < 1 else np.copysign(1e9, threshold - 0.5)
            return int(np.clip(np.floor(np.ldexp(threshold, self.bits)), -SUM_MOST, SUM_MOST))
        bits = self.fixed_outputs(np.zeros((1, self.head.weight.shape[0]), np.int64))[1]
        return int(np.clip(np.floor(np.ldexp(threshold, bits)), -SUM_MOST, SUM_MOST))

    @property
    def decides_by_sums(self) -> bool:
        """Whether classes follow from sums, which is more exact than from probabilities."""
        return self.head.function in ("sigmoid", "softmax")

    def predictions(self, z: Array) -> Array:
        """What the integers decide, see `Computation.predictions`."""
        decision = self.computation.decision
        if decision.kind == NUMBERS:
            return self.computation.predictions(self.outputs(z))
        found = z if self.decides_by_sums else self.fixed_outputs(z)[0]
        if decision.kind == LABELS:
            return (found > self.threshold).astype(np.int64)
        assert decision.labels is not None
        if found.shape[1] == 1:
            return decision.labels[(found[:, 0] > self.threshold).astype(int)]
        return decision.labels[found.argmax(axis=1)]

    def self_test(self, X: Array, *, exactly: bool) -> SelfTest:
        """Rows and what the integers give for them.

        Where they are not computed exactly, rows are taken in which no number lies between two integers.
        """
        n = self.computation.n_inputs
        X = matrix("rows", X, n)
        X = arrays.parameters("rows", X, (len(X), n), "float32")
        if not exactly:
            order = np.argsort(-self._distances(X), kind="stable")
            far = int((self._distances(X) > TIE).sum())
            X = X[np.sort(order[: min(max(far, 1), ROWS)])]
        X = np.ascontiguousarray(X[:ROWS])
        z = self.integers(X)[-1]
        outputs = self.outputs(z) if exactly else self.exact_outputs(z).astype(np.float32)
        return SelfTest(X, outputs, self.predictions(z), 0.0 if exactly else 1e-5)

    def _distances(self, X: Array) -> Array:
        """How far each row is from where a number could be rounded otherwise, in steps."""
        numbers, q = [self.inputs.exact(X.astype(np.float64))], self.inputs.integers(X)
        for layer in self.layers[:-1]:
            sums = integer_steps.sums(q, layer.weight, layer.bias) * layer.scale
            numbers.append((layer.sums or layer.given).exact(sums))  # type: ignore[union-attr]
            q = layer.integers(q)
        return np.min([np.abs(each - np.floor(each) - 0.5).min(axis=1) for each in numbers], axis=0)


# ---- from a computation ----


def quantized(computation: Computation, calibrate: Any, least_agreement: float) -> tuple[Quantized, QuantizationReport]:
    """A computation in int8, by rows (n, n_inputs) whose values its ranges hold.

    Raises ValueError for what int8 cannot hold, and where predictions agree less than `least_agreement`.
    """
    shift, scale, found = _chain(computation)
    n = computation.n_inputs
    X = matrix("calibrate", calibrate, n, FEWEST_ROWS)
    X = arrays.parameters("calibrate", X, (len(X), n), "float64")
    values = computation.values(X, "float64")
    inputs = _inputs(computation, X, values[-1], found[0][0].operands["weight"].astype(np.float64) * scale)
    layers = list[Layer]()
    factor, offset = scale * inputs.step, (inputs.middle - shift) * scale  # q * factor + offset is what weights read
    read, zero = inputs.integers(X.astype(np.float32)), 0
    for i, (dense, activation, value) in enumerate(found):
        weight, bias = (dense.operands[name].astype(np.float64) for name in ("weight", "bias"))
        last = i == len(found) - 1
        layer = _layer(weight * factor, bias + weight @ offset, zero, read.mean(axis=0), activation)
        layers.append(layer if last else _hidden(layer, values[dense_value(value, activation)], values[value]))
        if not last:
            read, given = layers[-1].integers(read), layers[-1].given
            assert given is not None
            factor, offset, zero = np.full(weight.shape[0], given.scale), np.zeros(weight.shape[0]), given.zero
    head, bits = _head(layers[-1])
    curve = _curve(head, values[dense_value(found[-1][2], found[-1][1])], bits)
    whole = Quantized(replace(computation, dtype="float32"), inputs, (*layers[:-1], head), bits, curve)
    report = _report(whole, computation, X, values, [INPUTS, *(value for _, _, value in found)])
    if least_agreement > 0 and report.agreement < least_agreement:
        raise ValueError(
            f"int8 must keep {least_agreement:.0%} of the predictions, got {report.agreement:.1%}; least_agreement=0 "
            f"takes it all the same:\n{report}"
        )
    return whole, report


def dense_value(value: int, activation: Step | None) -> int:
    """The value of the dense layer below an activation's."""
    return value if activation is None else value - 1


def _chain(computation: Computation) -> tuple[Array, Array, list[tuple[Step, Step | None, int]]]:
    """((x - shift) * scale is what the first layer reads, and (dense, activation, the number of its value) of each)."""
    steps = list(computation.steps)
    shift, scale = np.zeros(computation.n_inputs), np.ones(computation.n_inputs)
    layers, at = list[tuple[Step, Step | None, int]](), 0
    if computation.inputs:
        raise ValueError("int8 takes networks whose inputs are numbers, not tables")
    if any(step.reads != (i,) for i, step in enumerate(steps)):
        raise ValueError("int8 takes dense layers one after another, this network has values that several steps read")
    while at < len(steps) and steps[at].own is None and steps[at].function == "shifted":
        high, low, factor = (steps[at].operands[name].astype(np.float64) for name in ("high", "low", "scale"))
        shift = shift + (high + low) / np.where(scale == 0, 1, scale)
        scale, at = scale * factor, at + 1
    while at < len(steps):
        if steps[at].function != "dense" or steps[at].own is not None:
            raise ValueError(f"int8 takes dense layers and activations, this network has {_named(steps[at])!r}")
        activation = None
        if at + 1 < len(steps) and steps[at + 1].function in (*STRAIGHT, *CURVED, "softmax"):
            activation = steps[at + 1]
        layers.append((steps[at], activation, at + (2 if activation else 1)))
        at += 2 if activation else 1
    if not layers:
        raise ValueError("int8 takes dense layers, this network has none")
    return shift, scale, layers


def _inputs(computation: Computation, X: Array, outputs: Array, weight: Array) -> Inputs:
    """The inputs' integers: of the shares that could lie beyond their ranges, that which changes outputs the least."""
    tried = [Inputs.of(X, weight, beyond) for beyond in BEYOND]
    rows = X.astype(np.float32)
    found = [_continued(computation, each.values(each.integers(rows)), INPUTS) for each in tried]
    lost = np.array([np.square(each - outputs).mean() for each in found])
    return tried[int(np.flatnonzero(lost <= NEARLY * lost.min())[0])]


def _named(step: Step) -> str:
    return step.function if step.own is None else step.own.name


def _range(values: Array, lost: Callable[[Array, Array], Array] | None = None) -> tuple[float, float]:
    """The part of the range of values that loses the least, by the mean square of what int8 makes; it holds 0."""
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    values = values[:: max(1, values.size // SAMPLE)]
    least, found = np.inf, (low, high)
    for below in TRIED:
        for above in TRIED:
            ends = low * below, high * above
            step = (ends[1] - ends[0]) / LEVELS or 1.0
            near = np.rint((np.clip(values, *ends) - ends[0]) / step) * step + ends[0]
            error = float(np.square(near - values if lost is None else lost(near, values)).mean())
            if error < least:
                least, found = error, ends
    return found


def _multipliers(factor: Array) -> tuple[Array, Array]:
    """(multipliers below 2^31, shifts) of factors: factor = multiplier / 2^shift."""
    part, exponent = np.frexp(factor)
    shift = 31 - exponent
    over = np.maximum(shift - SHIFT_MOST, 0)
    if (shift < 1).any():
        raise ValueError("int8 takes layers whose sums fit in 32 bits, this network has larger ones")
    multiplier = np.floor(np.ldexp(part, 31 - over) + 0.5)
    multiplier = np.where(multiplier > SUM_MOST, SUM_MOST, multiplier)
    return multiplier.astype(np.int64), np.where(factor == 0, 1, shift - over).astype(np.int64)


def _layer(weight: Array, bias: Array, zero: int, means: Array, activation: Step | None) -> Layer:
    """A layer of real weights, of int8 inputs with some means: the bias takes up what rounding does in the mean."""
    function = "identity" if activation is None else activation.function
    scale = np.maximum(np.abs(weight).max(axis=1) / WEIGHT_MOST, np.abs(bias) / BIAS_MOST)
    scale[scale == 0] = 1
    integers = np.rint(weight / scale[:, None]).astype(np.int64)
    offset = np.rint(bias / scale + (weight / scale[:, None] - integers) @ (means - zero)).astype(np.int64)
    total = offset - zero * integers.sum(axis=1)
    if (np.abs(integers).sum(axis=1) * -LEAST + np.abs(total) > SUM_MOST).any():
        raise ValueError(f"int8 takes layers whose sums fit in 32 bits, got one of {weight.shape[1]} inputs")
    none = np.zeros(0, np.int64)
    return Layer(integers, total, offset, scale, none, none, function, activation)


def _hidden(layer: Layer, sums: Array, values: Array) -> Layer:
    """A layer that gives int8, with the sums and values of the rows."""
    if layer.function == "step":  # a sum above 0 is 1 at least
        given = Scale(1 / (MOST - LEAST), LEAST)
        factor = np.full_like(layer.scale, MOST - LEAST)
    elif layer.function in STRAIGHT:
        given = Scale.of(*_range(values))
        factor = layer.scale / given.scale
    else:
        given = Scale.of(*_range(values))
        lost = lambda q, x: _activated(layer.step, q) - _activated(layer.step, x)  # noqa: E731
        read = Scale.of(*_range(sums, lost))
        table = given.integers(_activated(layer.step, read.values(np.arange(LEAST, MOST + 1))))
        multiplier, shift = _multipliers(layer.scale / read.scale)
        return replace(layer, multiplier=multiplier, shift=shift, sums=read, table=table, given=given)
    multiplier, shift = _multipliers(factor)
    return replace(layer, multiplier=multiplier, shift=shift, given=given)


def _activated(step: Step | None, x: Array) -> Array:
    """An activation of real numbers, which has no NaN."""
    if step is None:
        return x
    with np.errstate(all="ignore"):
        return np.nan_to_num(step.value(x))


def _head(layer: Layer) -> tuple[Layer, int]:
    """The last layer, whose sums come in fixed point, and the bits of it."""
    largest = (layer.scale * (np.abs(layer.weight).sum(axis=1) * -LEAST + np.abs(layer.bias))).max()
    most = BITS_MOST if layer.function in STRAIGHT else UNIT_BITS_MOST
    bits = min(most, 30 - int(np.frexp(largest)[1]))
    if largest > LARGEST or (bits < 0 and layer.function not in STRAIGHT):
        raise ValueError(f"int8 takes smaller sums for {layer.function!r} as the last layer, got up to {largest:g}")
    multiplier, shift = _multipliers(np.ldexp(layer.scale, bits))
    return replace(layer, multiplier=multiplier, shift=shift), bits


def _curve(head: Layer, sums: Array, bits: int) -> Curve | None:
    """The table of an activation of the last layer that is neither straight nor a probability."""
    if head.function in ("identity", "relu", "step", "sigmoid", "softmax"):
        return None
    low, high = float(sums.min()), float(sums.max())
    wider = (high - low) / 4 or 1.0
    first = int(np.floor(np.ldexp(low - wider, bits)))
    length = int(np.ceil(np.ldexp(high - low + 2 * wider, bits)))
    shift = max(0, int(np.ceil(np.log2(max(length, 1)))) - CURVE)
    first = max(first, -SUM_MOST)
    points = np.ldexp(float(first) + np.arange(2**CURVE + 1.0) * 2.0**shift, -bits)
    values = _activated(head.step, points)
    out = min(UNIT_BITS_MOST, 30 - int(np.frexp(np.abs(values).max(initial=1e-9))[1]))
    return Curve(np.rint(np.ldexp(values, out)).astype(np.int64), first, shift, out)


# ---- how well it does ----


def _report(
    whole: Quantized, computation: Computation, X: Array, values: list[Array], places: list[int]
) -> QuantizationReport:
    """What the integers make of rows X, whose exact values are given; places are those of the inputs and layers."""
    integers, exact = whole.integers(X), computation.predictions(values[-1])
    scales = [whole.inputs, *(layer.given for layer in whole.layers[:-1])]
    rows = list[LayerReport]()
    for i, (scale, place) in enumerate(zip(scales, places, strict=False)):
        assert scale is not None
        found = scale.values(integers[i])
        rest = computation.predictions(_continued(computation, found, place))
        beyond = (values[place] < scale.values(LEAST - 1)) | (values[place] > scale.values(MOST + 1))
        name = "inputs" if i == 0 else _title(whole.layers[i - 1], i)
        error = _relative(found, values[place])
        rows.append(LayerReport(name, error, float(beyond.mean()), _agreement(computation, rest, exact)))
    same = _agreement(computation, whole.predictions(integers[-1]), exact)
    error = _relative(whole.outputs(integers[-1]), values[-1])
    return QuantizationReport((*rows, LayerReport(_title(whole.head, len(whole.layers)), error, 0.0, same)), same)


def _title(layer: Layer, number: int) -> str:
    function = layer.function if layer.step is None or layer.step.own is None else layer.step.own.name
    return f"{number}: {len(layer.bias)}, {function}"


def _continued(computation: Computation, found: Array, place: int) -> Array:
    """The outputs in float64 where a value is as found. The steps before it are left out."""
    for step in computation.steps[place:]:
        with np.errstate(all="ignore"):
            found = step.value(found)
    return found


def _relative(found: Array, exact: Array) -> float:
    """The root of the mean square of errors, relative to that of exact values."""
    size = np.sqrt(np.square(exact).mean())
    return float(np.sqrt(np.square(found - exact).mean()) / (size or 1))


def _agreement(computation: Computation, found: Array, exact: Array) -> float:
    """Of predictions, see `QuantizationReport`."""
    if computation.decision.kind != NUMBERS:
        return float((found == exact).mean())
    found, exact = found.reshape(len(found), -1), exact.reshape(len(exact), -1)
    spread = np.square(exact - exact.mean(axis=0)).sum(axis=0)
    lost = np.square(found - exact).sum(axis=0)
    return float((1 - np.divide(lost, spread, out=(lost > 0).astype(float), where=spread > 0)).min())
