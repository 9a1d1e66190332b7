"""Activations: value and derivative, a pair of vector functions each.

The value takes z. `backward` multiplies the delta d by the derivative, which the activation's output a determines for
most of these; one that needs z instead says `from_z`, and its layer keeps z. Both write vector code (see `simd.Simd`).
A new activation is a row of `ACTIVATIONS` and its twin in `reference`. Every other fact about an activation, such as
what targets its outputs can reach or how `classify` decides, follows from its row.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from ..cpu.simd import Simd, Vec
from ..cpu.target import Target

LEAK = 0.01  # the slope of leaky_relu below zero (Maas, Hannun and Ng 2013)
SCALE, ALPHA = 1.0507009873554804934, 1.6732632423543772848  # constants of selu, with which mean 0 and variance 1 stay
# The least outputs of gelu, silu and mish.
LEAST_GELU, LEAST_SILU, LEAST_MISH = -0.16997120747990366, -0.2784645427610738, -0.3088434130172504
# Vector operations of a value and its backward: where they compare and select, and where they take an exponential.
CHEAP, EXPONENTIAL = 8, 34
UNBOUNDED = -math.inf, math.inf
POSITIVE = 0.0, math.inf
PROBABILITY = 0.0, 1.0


@dataclass(frozen=True)
class ActivationFormula:
    """value(simd, z), and backward(simd, d, a), or backward(simd, d, z) with `from_z`.

    None stands for functions of whole rows; see `reductions`. The range and the cost of a row have no defaults, so that
    none is forgotten.
    """

    value: Callable[[Simd, Vec], Vec] | None
    backward: Callable[[Simd, Vec, Vec], Vec] | None
    range: tuple[float, float]  # the greatest lower and the least upper bound of the outputs
    cost: int  # vector operations of value and backward, by which `strategy` chooses
    row_cost: int | None = None  # the same where lanes hold outputs; None: as many
    from_z: bool = False
    unit_derivative: bool = False  # the delta passes as it is
    linked: Callable[[str, Target], list[str]] | None = None  # assembly that its code calls, see `custom`
    # backward_at_least(simd, d, a, share) takes a derivative of at least this share of the largest one.
    backward_at_least: Callable[[Simd, Vec, Vec, Vec], Vec] | None = None

    @cached_property
    def bounded(self) -> bool:
        """Whether the range is bounded on both sides."""
        return math.isfinite(self.range[0]) and math.isfinite(self.range[1])

    @cached_property
    def threshold(self) -> float:
        """The output of a single unit above which it decides for class 1: the middle of a bounded range, else 0."""
        return self.range[0] / 2 + self.range[1] / 2 if self.bounded else 0.0

    @cached_property
    def gives_probabilities(self) -> bool:
        """Whether an output is the probability of a class."""
        return self.range == PROBABILITY


def _saturating(value, derivative, largest, **facts):
    """A row whose derivative goes to zero on both sides: derivative(simd, a), and its largest value."""

    def at_least(s, d, a, share):
        slope, least = derivative(s, a), share * largest
        return d * s.select(s.less(slope, least), least, slope)

    return ActivationFormula(value, lambda s, d, a: d * derivative(s, a), backward_at_least=at_least, **facts)


def _if_positive(s, x, value):
    """value where x > 0 or x is NaN, zero elsewhere."""
    return s.select(s.b.fcmp_unordered(">", x.v, s.const(0.0).v), value, s.const(0.0))


def _step(s, z):
    one = s.select(s.less(s.const(0.0), z), s.const(1.0), s.const(0.0))
    return s.select(s.b.fcmp_unordered("uno", z.v, z.v), z, one)


def _unchanged(s, d, a):
    return d


def _exp_backward(s, d, a):
    """d a, but 0 for d = 0: in padding, where a may have grown to infinity, too."""
    return s.select(s.b.fcmp_ordered("==", d.v, s.const(0.0).v), d, d * a)


def _gelu(s, z):
    """z Phi(z) (Hendrycks and Gimpel 2016, the exact form)."""
    return s.normal(z)[0] * s.select(s.less(z, s.const(-40.0)), s.const(-40.0), z)  # 0 for -infinity


def _gelu_backward(s, d, z):
    below, density = s.normal(z)
    return d * (below + s.clip(z, 40.0) * density)


def _leaky(s, z, x):
    """x where z > 0, a hundredth of it elsewhere."""
    return s.select(s.less(s.const(0.0), z), x, x * LEAK)


def _negative_part(s, z):
    """z where it is below zero or NaN, else zero."""
    return s.select(s.less(s.const(0.0), z), s.const(0.0), z)


def _elu(s, z):
    """z, or e^z - 1 where z < 0 (Clevert, Unterthiner and Hochreiter 2016)."""
    return s.select(s.less(s.const(0.0), z), z, s.expm1(_negative_part(s, z)))


def _elu_backward(s, d, a):
    return d * (_negative_part(s, a) + 1.0)


def _selu(s, z):
    """SCALE z, or SCALE ALPHA (e^z - 1) where z < 0 (Klambauer et al. 2017)."""
    return s.select(s.less(s.const(0.0), z), z * SCALE, s.expm1(_negative_part(s, z)) * (SCALE * ALPHA))


def _selu_backward(s, d, a):
    return d * s.select(s.less(s.const(0.0), a), s.const(SCALE), a + SCALE * ALPHA)


def _silu(s, z):
    """z sigmoid(z) (Elfwing, Uchibe and Doya 2018)."""
    return s.sigmoid(z) * s.select(s.less(z, s.const(-1e4)), s.const(-1e4), z)  # 0 for -infinity


def _silu_backward(s, d, z):
    z = s.clip(z, 1e4)
    a = s.sigmoid(z)
    return d * (a + a * z * (s.const(1.0) - a))


def _mish_parts(s, z):
    """n, e = e^z and z, where tanh(log(1 + e)) = n / (n + 2); all of them for z of at most 20, where that is 1."""
    z = s.select(s.less(s.const(20.0), z), s.const(20.0), z)
    e = s.exp(z)
    return e * (e + 2.0), e, z


def _mish(s, z):
    """z tanh(log(1 + e^z)) (Misra 2019)."""
    n, _, _ = _mish_parts(s, z)
    return n / (n + 2.0) * s.select(s.less(z, s.const(-1e4)), s.const(-1e4), z)  # 0 for -infinity


def _mish_backward(s, d, z):
    n, e, z = _mish_parts(s, z)
    inverse = s.const(1.0) / (n + 2.0)
    slope = e * (e + 1.0) * inverse * inverse * 4.0  # of the tanh
    return d * (n * inverse + s.clip(z, 1e4) * slope)


def _softplus(s, z):
    """log(1 + e^z) = max(z, 0) + log(1 + e^-|z|) (Dugas et al. 2001), for every z, where PyTorch takes z above 20."""
    return s.select(s.less(z, s.const(0.0)), s.const(0.0), z) + s.log1p(s.exp(-s.abs(z), negative=True))


def _softplus_backward(s, d, a):
    """sigmoid(z) = 1 - e^-a."""
    return d * -s.expm1(-a)


def _hard_sigmoid(s, z):
    """(z + 3) / 6, at least 0 and at most 1, as in PyTorch (Courbariaux, Bengio and David 2015)."""
    a = (z + 3.0) * (1 / 6)
    a = s.select(s.less(a, s.const(0.0)), s.const(0.0), a)
    return s.select(s.less(s.const(1.0), a), s.const(1.0), a)


def _hard_sigmoid_backward(s, d, a):
    below = s.select(s.b.fcmp_unordered("<", a.v, s.const(1.0).v), d * (1 / 6), s.const(0.0))
    return _if_positive(s, a, below)


# The step has no useful derivative: its delta passes as it is, and so a single layer of step neurons learns by the
# perceptron rule (Rosenblatt 1958).
ACTIVATIONS = {
    "identity": ActivationFormula(lambda s, z: z, _unchanged, UNBOUNDED, CHEAP, unit_derivative=True),
    "sigmoid": _saturating(
        lambda s, z: s.sigmoid(z), lambda s, a: a - a * a, largest=0.25, range=PROBABILITY, cost=EXPONENTIAL
    ),
    "tanh": _saturating(
        lambda s, z: s.tanh(z), lambda s, a: s.const(1.0) - a * a, largest=1.0, range=(-1.0, 1.0), cost=EXPONENTIAL
    ),
    "relu": ActivationFormula(
        lambda s, z: _if_positive(s, z, z), lambda s, d, a: _if_positive(s, a, d), POSITIVE, CHEAP
    ),
    "gelu": ActivationFormula(_gelu, _gelu_backward, (LEAST_GELU, math.inf), EXPONENTIAL, from_z=True),
    "leaky_relu": ActivationFormula(lambda s, z: _leaky(s, z, z), lambda s, d, a: _leaky(s, a, d), UNBOUNDED, CHEAP),
    "elu": ActivationFormula(_elu, _elu_backward, (-1.0, math.inf), EXPONENTIAL),
    "selu": ActivationFormula(_selu, _selu_backward, (-SCALE * ALPHA, math.inf), EXPONENTIAL),
    "silu": ActivationFormula(_silu, _silu_backward, (LEAST_SILU, math.inf), EXPONENTIAL, from_z=True),
    "mish": ActivationFormula(_mish, _mish_backward, (LEAST_MISH, math.inf), EXPONENTIAL, from_z=True),
    "softplus": ActivationFormula(_softplus, _softplus_backward, POSITIVE, EXPONENTIAL),
    "hard_sigmoid": ActivationFormula(_hard_sigmoid, _hard_sigmoid_backward, PROBABILITY, CHEAP),
    "exp": ActivationFormula(lambda s, z: s.exp(z), _exp_backward, POSITIVE, EXPONENTIAL),
    "step": ActivationFormula(_step, _unchanged, PROBABILITY, CHEAP, unit_derivative=True),
}
# Functions of all outputs of a sample, for the last layer with a loss that takes its logits.
ROW_WISE = {"softmax": ActivationFormula(None, None, PROBABILITY, EXPONENTIAL, row_cost=90)}


def formula(name: str) -> ActivationFormula:
    """The row of an activation."""
    return ROW_WISE[name] if name in ROW_WISE else ACTIVATIONS[name]
