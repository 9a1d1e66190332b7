"""Activations: value and derivative, a pair of vector functions each.

The value takes z. `backward` multiplies the delta d by the derivative, which the activation's output a determines for
all of these; one that needs z instead says `from_z`, and its layer keeps z. Both write vector code (see `simd.Simd`). A
new activation is a row of `ACTIVATIONS` and its twin in `reference`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from .simd import Simd, Vec


@dataclass(frozen=True)
class Activation:
    """value(simd, z), and backward(simd, d, a), or backward(simd, d, z) with `from_z`."""

    value: Callable[[Simd, Vec], Vec]
    backward: Callable[[Simd, Vec, Vec], Vec]
    from_z: bool = False
    unit_derivative: bool = False  # the delta passes as it is


def _if_positive(s, x, value):
    """value where x > 0 or x is NaN, zero elsewhere."""
    return s.select(s.b.fcmp_unordered(">", x.v, s.const(0.0).v), value, s.const(0.0))


def _step(s, z):
    one = s.select(s.less(s.const(0.0), z), s.const(1.0), s.const(0.0))
    return s.select(s.b.fcmp_unordered("uno", z.v, z.v), z, one)


def _unchanged(s, d, a):
    return d


def _gelu(s, z):
    """z Phi(z) (Hendrycks and Gimpel 2016, the exact form)."""
    return s.normal(z)[0] * s.select(s.less(z, s.const(-40.0)), s.const(-40.0), z)  # 0 for -infinity


def _gelu_backward(s, d, z):
    below, density = s.normal(z)
    return d * (below + s.clip(z, 40.0) * density)


# The step has no useful derivative: its delta passes as it is, and so a single layer of step neurons learns by the
# perceptron rule (Rosenblatt 1958).
ACTIVATIONS = {
    "identity": Activation(lambda s, z: z, _unchanged, unit_derivative=True),
    "sigmoid": Activation(lambda s, z: s.sigmoid(z), lambda s, d, a: d * (a - a * a)),
    "tanh": Activation(lambda s, z: s.tanh(z), lambda s, d, a: d * (s.const(1.0) - a * a)),
    "relu": Activation(lambda s, z: _if_positive(s, z, z), lambda s, d, a: _if_positive(s, a, d)),
    "gelu": Activation(_gelu, _gelu_backward, from_z=True),
    "exp": Activation(lambda s, z: s.exp(z), lambda s, d, a: d * a),
    "step": Activation(_step, _unchanged, unit_derivative=True),
}
ROW_WISE = ("softmax",)  # of all outputs of a sample, for the last layer with a loss that takes its logits
