"""What the steps of a computation do, in NumPy alone: for tests of exports, and the text of exported Python files.

x are arrays (rows, width), whose dtype the results have. A name here is that of a step, see `computation.Step`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# ---- what moves or weighs numbers ----


def shifted(x: Array, high: Array, low: Array, scale: Array) -> Array:
    """((x - high) - low) * scale, each (width,): the shift is in two numbers, which one of float32 could not hold."""
    return ((x - high) - low) * scale


def columns(x: Array, which: Array) -> Array:
    """Some columns (width,)."""
    return x[:, which]


def looked_up(x: Array, column: int, table: Array) -> Array:
    """The rows of a table (categories, width) for the codes in a column; NaN for what is no code."""
    codes = x[:, column]
    known = (codes >= 0) & (codes < len(table)) & (codes == np.floor(codes))
    found = table[np.where(known, codes, 0).astype(int)].astype(x.dtype)
    found[~known] = np.nan
    return found


def joined(*x: Array) -> Array:
    """Several values side by side."""
    return np.concatenate(x, axis=1)


def dense(x: Array, weight: Array, bias: Array) -> Array:
    """The products with weight (width, fan_in), and bias (width,)."""
    return x @ weight.T + bias


def affine(x: Array, factor: Array, shift: Array) -> Array:
    """x * factor + shift, each (width,)."""
    return x * factor + shift


def normalised(x: Array, epsilon: float) -> Array:
    """(x - mean) / sqrt(variance + epsilon) of each row."""
    centred = x - x.mean(axis=1, keepdims=True)
    return centred / np.sqrt((centred * centred).mean(axis=1, keepdims=True) + x.dtype.type(epsilon))


def added(x: Array, y: Array) -> Array:
    """x + y."""
    return x + y


def sloped(x: Array, slope: Array) -> Array:
    """x, or x * slope (width,) below zero."""
    return np.where(x > 0, x, x * slope)


def mean(*x: Array) -> Array:
    """The mean of several values."""
    return sum(x[1:], x[0]) / x[0].dtype.type(len(x))


def clipped(x: Array, least: Array, most: Array) -> Array:
    """x within [least, most], each (width,)."""
    return np.minimum(np.maximum(x, least), most)


def imputed(x: Array, fill: Array) -> Array:
    """x, or fill (width,) where x is NaN."""
    return np.where(np.isnan(x), fill, x)


def deviations(x: Array, least: float) -> Array:
    """sqrt(e^x + least), of logarithms of variances."""
    return np.sqrt(np.exp(x) + x.dtype.type(least))


def mixture(*x: Array) -> Array:
    """The mean and the deviation of a mixture of several Gaussians: each value has means, then deviations."""
    means, inner = np.split(np.stack(x), 2, axis=2)
    middle = means.mean(axis=0)
    variance = (inner * inner).mean(axis=0) + ((means - middle) ** 2).mean(axis=0)
    return np.concatenate([middle, np.sqrt(variance)], axis=1)


# ---- activations ----


def sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x)."""
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def hard_sigmoid(x: Array) -> Array:
    """(x + 3) / 6 within [0, 1]."""
    return np.minimum(np.maximum((x + 3) / 6, 0), 1)


def tanh(x: Array) -> Array:
    """The hyperbolic tangent."""
    return np.tanh(x)


def exp(x: Array) -> Array:
    """e^x."""
    return np.exp(x)


def step(x: Array) -> Array:
    """1 where x > 0, else 0; NaN for NaN."""
    return np.where(np.isnan(x), x, x > 0).astype(x.dtype)


def softplus(x: Array) -> Array:
    """log(1 + e^x)."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def relu(x: Array) -> Array:
    """The larger one of x and 0."""
    return np.maximum(x, 0)


def leaky_relu(x: Array) -> Array:
    """x, or 0.01 x below zero."""
    return np.where(x > 0, x, x * x.dtype.type(0.01))


def elu(x: Array) -> Array:
    """x, or e^x - 1 below zero."""
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def selu(x: Array) -> Array:
    """1.05 x, or 1.76 (e^x - 1) below zero."""
    scale, alpha = x.dtype.type(1.0507009873554805), x.dtype.type(1.6732632423543772)
    return scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def gelu(x: Array) -> Array:
    """x Phi(x), with the standard normal distribution."""
    from math import erfc

    below = np.vectorize(erfc, otypes=[np.float64])(-x / np.sqrt(2)) / 2
    return np.where(x < -40, 0, x * below).astype(x.dtype)


def silu(x: Array) -> Array:
    """x sigmoid(x)."""
    e = np.exp(-np.abs(x))
    return np.maximum(x, -1000) * (np.where(x < 0, e, 1) / (1 + e))


def mish(x: Array) -> Array:
    """x tanh(log(1 + e^x))."""
    return np.maximum(x, -1000) * np.tanh(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))


def softmax(x: Array) -> Array:
    """e^x / the sum of e^x over each row."""
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)
