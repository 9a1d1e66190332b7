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

FEWEST_ROWS, MOST_ROWS = 20, 10_000  # that show the range of values
LEVELS = MOST - LEAST + 0.06  # steps between the ends of a range: no whole number, so that few values lie between two
SUM_MOST = 2**31 - 1
WEIGHT_MOST, BIAS_MOST, SHIFT_MOST = 127, 2**29, 62
BITS_MOST = 100  # of outputs in fixed point
LARGEST = 2.0**120  # of outputs
CURVE = 8  # 2^CURVE pieces have curved outputs
TRIED = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.15, 0.1)  # shares of a range, of which the best one is taken
WIDER = 0.1  # of a feature's range, at each end, for rows that are not in those of calibration
# Ways to make the ranges of features, of which the best one is taken: how much wider than the values they are, and the
# share of the values that may be clipped, both at each end.
RANGES = ((WIDER, 0), (0, 0), (0, 1e-4), (0, 1e-3), (0, 1e-2))
NEARLY = 1.5  # times the least error: as good, where ranges are wider
BALANCES = 10  # rounds in which steps of features and scales of weights follow each other
SAMPLE = 20_000  # values that tell which one is the best
CONSTANT = 1e-12  # of the squares of an output: where they differ less, by rounding in float32, it is constant
TIE = 1e-4  # of a step: how near to the middle of two integers other systems may round otherwise
ROUNDING = 2.0**-23  # of the terms of a sum: what float32 may do to it
TOLERANCE = 1e-5  # of outputs that other systems compute, relative to those above 1 in size, at least
SMALLEST = 2.0**-120  # of scales, for float32 to hold them

PROBABLE = ("sigmoid", "softmax")  # activations that give probabilities
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
    Of an output that is constant, errors are relative to its size.
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
    def of(cls, X: Array, weight: Array, wider: float, beyond: float) -> Inputs:
        """Those of rows X (rows, n_inputs) float64, that a weight multiplies, in one of the RANGES.

        A feature with rare large values has large weights, beside which those of others are rounded away. So others
        have longer steps than their ranges ask for: the rounding of x and that of its weight are in balance.
        """
        low, high = np.quantile(X, [beyond, 1 - beyond], axis=0)
        low, high = low - wider * (high - low), high + wider * (high - low)
        step = shortest = (high - low) / LEVELS
        of_steps, of_weights = np.square(weight).sum(axis=0), X.clip(low, high).var(axis=0)
        for _ in range(BALANCES):
            rounding = np.square(np.abs(weight * step).max(axis=1) / WEIGHT_MOST).sum()
            ratio = np.divide(of_weights * rounding, of_steps, out=np.zeros_like(step), where=of_steps > 0)
            step = np.where(shortest > 0, np.clip(ratio**0.25, shortest, high - low), 0)
        most = np.maximum(np.abs(low), np.abs(high))
        bits = np.where(most > 0, 28 - np.frexp(most)[1], 0).clip(-100, 155).astype(np.int64)
        zero = np.rint(np.ldexp((low + high + step) / 2, bits)).astype(np.int64)
        middle = np.ldexp(zero.astype(np.float64), -bits)  # of -128 and 127
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
        scale = (high - low) / LEVELS
        scale = scale if scale > SMALLEST else 1.0
        return cls(scale, int(np.clip(round(LEAST - low / scale), LEAST, MOST)))

    def exact(self, x: Array) -> Array:
        """q before it is rounded."""
        return x / self.scale + self.zero

    def integers(self, x: Array) -> Array:
        """int8 of numbers."""
        return integer_steps.clipped(np.floor(self.exact(x) + 0.5)).astype(np.int64)

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

    def scaled_sums(self, q: Array) -> Array:
        """Sums for int8, times the multipliers: those of the last layer are in fixed point."""
        return integer_steps.scaled(integer_steps.sums(q, self.weight, self.bias), self.multiplier, self.shift)

    def integers(self, q: Array) -> Array:
        """int8 for int8."""
        found = integer_steps.clipped(self.scaled_sums(q) + self.zero, self.least)
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
        return [*found, self.head.scaled_sums(found[-1])]

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
        return self.head.function in PROBABLE

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

        Where they are not computed exactly, rows are taken in which no number lies between two integers, and outputs
        are those of real numbers.
        """
        n = self.computation.n_inputs
        X = matrix("rows", X, n)
        X = arrays.parameters("rows", X, (len(X), n), "float32")
        if exactly:
            X = np.ascontiguousarray(X[:ROWS])
            z = self.integers(X)[-1]
            return SelfTest(X, self.outputs(z), self.predictions(z), 0.0)
        margins = self._margins(X)
        far = int((margins > 0).sum())
        X = np.ascontiguousarray(X[np.sort(np.argsort(-margins, kind="stable")[: min(max(far, 1), ROWS)])])
        read = self.integers(X)[-2]
        exact, rounded = (self._real_outputs(read, dtype) for dtype in ("float64", "float32"))
        apart = np.abs(rounded - exact) / np.maximum(np.abs(exact), 1)  # what rounding does in any order of sums
        outputs = exact.astype(np.float32)
        return SelfTest(X, outputs, self.computation.predictions(outputs), max(TOLERANCE, 4 * float(apart.max())))

    def _real_outputs(self, q: Array, dtype: str) -> Array:
        """Outputs for what the last layer reads, where real numbers of a dtype compute them."""
        head, read = self.head, self.layers[-2].given if len(self.layers) > 1 else Scale(1.0, 0)
        assert read is not None
        weight = (head.weight * (head.scale / read.scale)[:, None]).astype(dtype)
        z = read.values(q).astype(dtype) @ weight.T + (head.offset * head.scale).astype(dtype)
        return _activated(head.step, z)

    def _margins(self, X: Array) -> Array:
        """How far each row is from where float32 could round a number to another integer, in steps."""
        numbers, q, zero = self.inputs.exact(X.astype(np.float64)), self.inputs.integers(X), 0
        found = [_from_halves(numbers).min(axis=1)]
        for layer in self.layers:
            sums = integer_steps.sums(q, layer.weight, layer.bias)
            rounding = ROUNDING * (np.abs(q - zero) @ np.abs(layer.weight).T + np.abs(layer.offset))
            if layer.function == "step":
                found.append((np.abs(sums) - rounding).min(axis=1))
            if layer.given is None:
                break
            if layer.function != "step":
                read = layer.sums or layer.given
                apart = _from_halves(read.exact(sums * layer.scale)) - rounding * layer.scale / read.scale
                found.append(apart.min(axis=1))
            if layer.sums is not None:
                read_again = layer.sums.values(integer_steps.clipped(layer.scaled_sums(q) + layer.zero))
                found.append(_from_halves(layer.given.exact(_activated(layer.step, read_again))).min(axis=1))
            q, zero = layer.integers(q), layer.given.zero
        return np.min(found, axis=0) - TIE


def _from_halves(numbers: Array) -> Array:
    """How far numbers are from the middle of two integers."""
    return np.abs(numbers - np.floor(numbers) - 0.5)


# ---- from a computation ----


def quantized(computation: Computation, calibrate: Any, least_agreement: float) -> tuple[Quantized, QuantizationReport]:
    """A computation in int8, by rows (n, n_inputs) whose values its ranges hold; MOST_ROWS of them, evenly spread.

    Raises ValueError for what int8 cannot hold, and where predictions agree less than `least_agreement`.
    """
    shift, scale, found = _chain(computation)
    n = computation.n_inputs
    X = matrix("calibrate", calibrate, n, FEWEST_ROWS)
    rows = arrays.parameters("calibrate", X, (len(X), n), "float32")
    every = -(-len(X) // MOST_ROWS)
    X, rows = X[::every], rows[::every]
    values = computation.values(X, "float64")
    if not all(np.abs(value).max() <= np.finfo(np.float32).max for value in values):
        raise ValueError("calibrate must be rows whose values in each layer are finite in float32, got larger ones")
    inputs = _inputs(computation, rows, values[-1], found[0][0].operands["weight"].astype(np.float64) * scale)
    layers = list[Layer]()
    factor, offset = scale * inputs.step, (inputs.middle - shift) * scale  # q * factor + offset is what weights read
    read, zero = inputs.integers(rows), 0
    for i, (dense, activation, value) in enumerate(found):
        weight, bias = (dense.operands[name].astype(np.float64) for name in ("weight", "bias"))
        last = i == len(found) - 1
        sums = values[dense_value(value, activation)]
        layer = _layer(weight * factor, bias + weight @ offset, read - zero, zero, sums, activation)
        layers.append(layer if last else _hidden(layer, sums, values[value]))
        if not last:
            read, given = layers[-1].integers(read), layers[-1].given
            assert given is not None
            factor, offset, zero = np.full(weight.shape[0], given.scale), np.zeros(weight.shape[0]), given.zero
    head, bits = _head(layers[-1])
    curve = _curve(head, head.scaled_sums(read), bits)
    whole = Quantized(replace(computation, dtype="float32"), inputs, (*layers[:-1], head), bits, curve)
    report = _report(whole, computation, rows, values, [INPUTS, *(value for _, _, value in found)])
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


def _inputs(computation: Computation, rows: Array, outputs: Array, weight: Array) -> Inputs:
    """The inputs' integers, in the widest ranges of those that change outputs the least, nearly."""
    X = rows.astype(np.float64)
    tried = [Inputs.of(X, weight, *each) for each in RANGES]
    with np.errstate(all="ignore"):
        found = [_continued(computation, each.values(each.integers(rows)), INPUTS) for each in tried]
        lost = np.array([np.square(each - outputs).mean() for each in found])
    lost[np.isnan(lost)] = np.inf
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
    """(multipliers below 2^31, shifts from 1 on) of factors: factor = multiplier / 2^shift.

    Factors above 2^30, which take every sum but 0 beyond int8, are as 2^30.
    """
    shift = np.clip(31 - np.frexp(factor)[1], 1, SHIFT_MOST).astype(np.int64)
    multiplier = np.minimum(np.floor(np.ldexp(factor, shift) + 0.5), SUM_MOST)
    return multiplier.astype(np.int64), shift


def _layer(weight: Array, bias: Array, read: Array, zero: int, sums: Array, activation: Step | None) -> Layer:
    """A layer of real weights, for rows of what it reads, int8 less its zero, and what their sums should be.

    The bias takes up the error of the sums in the median, which rare large values that are clipped do not move.
    """
    function = "identity" if activation is None else activation.function
    scale = np.maximum(np.abs(weight).max(axis=1) / WEIGHT_MOST, np.abs(bias) / BIAS_MOST)
    scale[scale == 0] = 1
    integers = np.rint(weight / scale[:, None]).astype(np.int64)
    left = sums / scale - read.astype(np.float64) @ integers.T.astype(np.float64)
    offset = np.rint(np.median(left, axis=0)).clip(-BIAS_MOST, BIAS_MOST).astype(np.int64)
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
    probable = layer.function in PROBABLE
    bits = min(UNIT if probable else BITS_MOST, 30 - int(np.frexp(largest * (1 + 1e-6))[1]))  # and rounding
    if largest > LARGEST or (probable and bits < 0):
        raise ValueError(f"int8 takes smaller sums for {layer.function!r} as the last layer, got up to {largest:g}")
    multiplier, shift = _multipliers(np.ldexp(layer.scale, bits))
    return replace(layer, multiplier=multiplier, shift=shift), bits


def _curve(head: Layer, z: Array, bits: int) -> Curve | None:
    """The table of an activation of the last layer that is neither straight nor a probability, for sums like those."""
    if head.function in (*STRAIGHT, *PROBABLE):
        return None
    low, high = int(z.min()), int(z.max())
    wider = (high - low) // 4 or 2**CURVE
    shift = max(0, (high - low + 2 * wider - 1).bit_length() - CURVE)
    first = low - wider
    values = _activated(head.step, np.ldexp(first + np.arange(2**CURVE + 1.0) * 2.0**shift, -bits))
    values = np.clip(values, -LARGEST, LARGEST)
    out = min(BITS_MOST, 30 - int(np.frexp(np.abs(values).max())[1]))
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
    spread, size = np.square(exact - exact.mean(axis=0)).sum(axis=0), np.square(exact).sum(axis=0)
    spread = np.where(spread > CONSTANT * size, spread, size)
    lost = np.square(found - exact).sum(axis=0)
    return float((1 - np.divide(lost, spread, out=(lost > 0).astype(float), where=spread > 0)).min())
