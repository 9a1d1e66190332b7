"""What ONNX's elementwise operators compute, and which of fastnn's activations a few of them are together."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels.formulas.activations import ALPHA, SCALE
from ..settings.layers import HIDDEN
from . import numpy_steps

Array = NDArray[Any]
Attributes = dict[str, Any]
TOLERANCE = 3e-7  # relative, above 1: files have constants of single precision
LINEAR = 1e-12  # relative error of an affine map
NEAR = np.concatenate([np.linspace(-20, 20, 161), np.linspace(-1, 1, 38), np.geomspace(21, 60, 9)])
FAR = np.array([1e2, 3e2, 1e3, 1e5, 1e10, 1e30])  # where formulas may overflow, which a network does not reach
POINTS = np.concatenate([NEAR, -NEAR[-9:], FAR, -FAR])
POINTS.flags.writeable = False


def _clip(attributes: Attributes, x: Array, least: Any = None, most: Any = None) -> Array:
    least = attributes.get("min") if least is None else least
    most = attributes.get("max") if most is None else most
    x = x if least is None else np.maximum(x, least)
    return x if most is None else np.minimum(x, most)


def _selu(attributes: Attributes, x: Array) -> Array:
    alpha, gamma = attributes.get("alpha", ALPHA), attributes.get("gamma", SCALE)
    return gamma * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _gelu(attributes: Attributes, x: Array) -> Array:
    if attributes.get("approximate", b"none") == b"none":
        return numpy_steps.gelu(x)
    return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _divided(x: Array, y: Array) -> Array:
    return x // y if x.dtype.kind in "iu" and y.dtype.kind in "iu" else x / y


def _of(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that has no attributes. NumPy's take a further argument, which they would write into."""

    def value(attributes: Attributes, *x: Any) -> Any:
        if len(x) != getattr(function, "nin", len(x)):
            raise TypeError(f"it reads {len(x)} values")
        return function(*x)

    return value


def _folded(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of two arguments for any number of them."""
    return lambda attributes, *x: functools.reduce(function, x)


# By the name of an operator: its value, from its attributes and the arrays that it reads.
ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "Abs": _of(np.abs),
    "Neg": _of(np.negative),
    "Exp": _of(np.exp),
    "Log": _of(np.log),
    "Sqrt": _of(np.sqrt),
    "Reciprocal": _of(np.reciprocal),
    "Erf": _of(np.vectorize(math.erf, otypes=[np.float64])),
    "Floor": _of(np.floor),
    "Sign": _of(np.sign),
    "IsNaN": _of(np.isnan),
    "Not": _of(np.logical_not),
    "And": _of(np.logical_and),
    "Or": _of(np.logical_or),
    "Greater": _of(np.greater),
    "GreaterOrEqual": _of(np.greater_equal),
    "Less": _of(np.less),
    "LessOrEqual": _of(np.less_equal),
    "Equal": _of(np.equal),
    "Where": lambda a, condition, x, y: np.where(condition, x, y),
    "Add": _of(np.add),
    "Sub": _of(np.subtract),
    "Mul": _of(np.multiply),
    "Div": _of(_divided),
    "Pow": _of(np.power),
    "Sum": _folded(np.add),
    "Max": _folded(np.maximum),
    "Min": _folded(np.minimum),
    "Clip": _clip,
    "Relu": _of(numpy_steps.relu),
    "Sigmoid": _of(numpy_steps.sigmoid),
    "Tanh": _of(np.tanh),
    "Softplus": _of(numpy_steps.softplus),
    "Softsign": _of(lambda x: x / (1 + np.abs(x))),
    "Mish": _of(numpy_steps.mish),
    "HardSwish": _of(lambda x: x * numpy_steps.hard_sigmoid(x)),
    "Gelu": _gelu,
    "Selu": _selu,
    "Elu": lambda a, x: np.where(x > 0, x, a.get("alpha", 1.0) * np.expm1(np.minimum(x, 0))),
    "Celu": lambda a, x: np.where(x > 0, x, (c := a.get("alpha", 1.0)) * np.expm1(np.minimum(x, 0) / c)),
    "LeakyRelu": lambda a, x: np.where(x > 0, x, a.get("alpha", 0.01) * x),
    "ThresholdedRelu": lambda a, x: np.where(x > a.get("alpha", 1.0), x, 0.0),
    "HardSigmoid": lambda a, x: np.clip(a.get("alpha", 0.2) * x + a.get("beta", 0.5), 0, 1),
    "Swish": lambda a, x: x * numpy_steps.sigmoid(a.get("alpha", 1.0) * x),
    "PRelu": lambda a, x, slope: np.where(x > 0, x, slope * x),
    "Cast": _of(lambda x: x + 0.0),  # of what a comparison gives
}
COMPARISONS = ("IsNaN", "Not", "And", "Or", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal")
# Why an operator is no activation of fastnn, where it is none.
REASONS = {
    "LeakyRelu": "alpha must be 0.01",
    "Elu": "alpha must be 1",
    "Celu": "alpha must be 1",
    "Selu": "alpha and gamma must be those of Klambauer et al. 2017",
    "HardSigmoid": "alpha must be 1/6 and beta 1/2",
    "Gelu": "approximate must be none",
    "Swish": "alpha must be 1",
    "Clip": "fastnn has no activation that is cut off, such as relu6",
}


@functools.cache
def _expected() -> dict[str, Array]:
    """What each activation gives for POINTS."""
    with np.errstate(all="ignore"):
        named = {name: getattr(numpy_steps, name)(POINTS) for name in HIDDEN if name != "identity"}
    return {"identity": POINTS, **named}


def recognised(found: Array) -> str | None:
    """The name of the activation that gives found (points, columns) for POINTS, or None."""
    return next((name for name, each in _expected().items() if _close(found, each[:, None], TOLERANCE)), None)


def slopes(found: Array) -> Array | None:
    """The slopes (columns,) below zero of what is x above it, or None where found (points, columns) is not that."""
    x = POINTS[:, None]
    with np.errstate(all="ignore"):
        below = -found[np.flatnonzero(POINTS == -1)[0]]
        expected = np.where(x > 0, x, x * below)
    return below if _close(found, expected, TOLERANCE) else None


def affine(found: Array) -> tuple[Array, Array] | None:
    """(factor, offset), each (columns,), of an affine map, or None where found (points, columns) is none."""
    below, middle, above = (found[np.flatnonzero(x == POINTS)[0]] for x in (-1, 0, 1))
    with np.errstate(all="ignore"):
        factor = (above - below) / 2
        expected = POINTS[:, None] * factor + middle
    return (factor, middle) if _close(found, expected, LINEAR) else None


def _close(found: Array, expected: Array, tolerance: float) -> bool:
    """Whether values are equal up to rounding; far from zero a formula may overflow, but not give another number."""
    with np.errstate(all="ignore"):
        close = np.abs(found - expected) <= tolerance * (1 + np.abs(expected))
    near = np.abs(POINTS)[:, None] < FAR[0]
    return bool((close | (~near & ~(np.isfinite(found) & np.isfinite(expected)))).all())
