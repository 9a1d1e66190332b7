"""Losses: the value and its derivative, a pair as in Nielsen's book, from which the delta follows.

Both sum over the outputs of a row; the average over examples is the caller's scale. Most are a vector function of
outputs and targets. One that is named by an output activation takes the logits z of the last layer instead, and gives
dC/dz: its value is finite for any logits, and the activation's derivative cancels.
"""

from collections.abc import Callable
from dataclasses import dataclass

from .simd import Simd, Vec


@dataclass(frozen=True)
class Loss:
    """function(simd, a, y) gives (value, dC/da), or (value, dC/dz) of (simd, z, y) with `from_logits`.

    None stands for a function of whole rows; see `reductions`.
    """

    function: Callable[[Simd, Vec, Vec], tuple[Vec, Vec]] | None
    from_logits: bool = False


def _quadratic(s, a, y):
    difference = a - y
    return difference * difference * 0.5, difference


def _sigmoid_cross_entropy(s, z, y):
    """-y log a - (1 - y) log(1 - a) with a = sigmoid(z) is max(z, 0) - z y + log(1 + e^-|z|)."""
    value = s.select(s.less(s.const(0.0), z), z, s.const(0.0)) - z * y + s.log1p(s.exp(-s.abs(z), negative=True))
    return value, s.sigmoid(z) - y


# By name, and by name and output activation where that makes a difference.
LOSSES = {
    "quadratic": Loss(_quadratic),
    "sigmoid_cross_entropy": Loss(_sigmoid_cross_entropy, from_logits=True),
    "softmax_cross_entropy": Loss(None, from_logits=True),
}
NAMES = ("quadratic", "cross_entropy")  # for `Model`


def kernel_name(loss: str, output: str) -> str:
    """The key in LOSSES of a loss with an output activation, or "" where the two do not go together."""
    if loss == "cross_entropy":
        return next((name for name in LOSSES if name == f"{output}_{loss}"), "")
    return "" if output == "softmax" else loss
