"""What a network of int8 computes, in NumPy: the integers that the C code of it has, bit for bit.

All are arrays of int64 here, whatever type holds them in C. A real number in fixed point is an integer times 2^-bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

LEAST, MOST = -128, 127  # of int8
FIXED_MOST = 2**30  # of an input in fixed point
UNIT = 30  # the bits of numbers from 0 to 1
FRACTION = 24  # the bits of the fraction of an exponent
PER_LOG2 = 1549082005  # 2^UNIT / log(2)
# 2^-r for 0 <= r <= 1, from the constant on, in UNIT bits: the polynomial of the smallest largest error, 5e-8.
POWERS = (1073741767, -744256916, 257891330, -59379090, 9891919, -1018155)


def scaled(x: Array, multiplier: Any, shift: Any) -> Array:
    """x * multiplier / 2^shift, rounded to the nearest, halves up."""
    found: Array = (x * multiplier + (1 << (shift - 1))) >> shift
    return found


def fixed(x: Array, bits: Any) -> Array:
    """Numbers of float32 in fixed point, halves away from zero, within FIXED_MOST; 0 for NaN.

    What is infinite is as 2^128, which its bits are.
    """
    finite = np.clip(x.astype(np.float64), -(2.0**128), 2.0**128)
    with np.errstate(invalid="ignore"):  # of NaN
        size = np.minimum(np.floor(np.abs(np.ldexp(finite, bits)) + 0.5), FIXED_MOST)
    return np.where(np.isnan(x), 0, np.copysign(size, x)).astype(np.int64)


def clipped(x: Array, least: int = LEAST) -> Array:
    """What int8 can hold, and not less than something."""
    return np.clip(x, least, MOST)


def sums(x: Array, weight: Array, bias: Array) -> Array:
    """The products with weight (units, fan_in), and bias (units,). All fit in int32, so float64 has them exactly."""
    found: Array = (x.astype(np.float64) @ weight.T.astype(np.float64)).astype(np.int64) + bias
    return found


def exponential(below: Array, bits: int) -> Array:
    """e^-x in UNIT bits for x >= 0 in fixed point."""
    exponent = (below * PER_LOG2) >> (UNIT + bits - FRACTION)
    fraction = exponent & (2**FRACTION - 1)
    found = np.full_like(exponent, POWERS[-1])
    for power in POWERS[-2::-1]:
        found = power + ((found * fraction) >> FRACTION)
    return found >> np.minimum(exponent >> FRACTION, UNIT + 1)


def inverse(x: Array) -> tuple[Array, Array]:
    """(y, shift) with 1 / x = y / 2^(UNIT + shift) for x >= 2^UNIT in UNIT bits, by one of Newton's steps."""
    shift = np.zeros_like(x)
    while (large := x >= 2 ** (UNIT + 1)).any():
        x, shift = np.where(large, x >> 1, x), shift + large
    first = (2**32 - 1) // (x >> 15)
    return (first * (2 ** (UNIT + 1) - ((x * first) >> 17))) >> 17, shift


def sigmoid(x: Array, bits: int) -> Array:
    """1 / (1 + e^-x) in UNIT bits."""
    e = exponential(np.abs(x), bits)
    y, shift = inverse(2**UNIT + e)
    return (np.where(x < 0, e, 2**UNIT) * y) >> (UNIT + shift)


def softmax(x: Array, bits: int) -> Array:
    """e^x / the sum of e^x over each row, in UNIT bits."""
    e = exponential(x.max(axis=1, keepdims=True) - x, bits)
    y, shift = inverse(e.sum(axis=1, keepdims=True))
    return (e * y) >> (UNIT + shift)


def interpolated(x: Array, table: Array, first: int, shift: int) -> Array:
    """A function of x by a table of its values at first and at each 2^shift further; those of the ends beyond them."""
    at = np.clip(x - first, 0, ((len(table) - 1) << shift) - 1)
    place = at >> shift
    low = table[place]
    return low + (((table[place + 1] - low) * (at - (place << shift))) >> shift)


def numbers(x: Array, bits: int) -> NDArray[np.float32]:
    """Numbers in fixed point as float32."""
    return np.ldexp(x.astype(np.float64), -bits).astype(np.float32)
