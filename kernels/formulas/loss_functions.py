"""Losses: the value and its derivative, a pair as in Nielsen's book, from which the delta follows.

Both sum over the outputs of a row; the average over examples is the caller's scale. Most are a vector function of
outputs and targets. One with `from_logits` takes the logits z of the last layer instead, and gives dC/dz: its value is
finite for any logits, and the activation's derivative cancels. One that is named by an output activation goes with it
alone. One with several `outputs` takes as many of them for a target.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ..cpu.simd import Vec
from ..cpu.target import Target
from .activations import ROW_WISE

# By whether the dtype is float64.
TINY = {False: 1.2e-38, True: 2.3e-308}  # a little more than the smallest normal number
LARGEST_LOG = {False: 15.942385, True: 36.04365338911715}  # -log of the machine epsilon
STEEPEST = 17.0  # the limit of arctanh_error's slope, which has no end: FANN's
LEAST_VARIANCE = 1e-6  # what is added to the variance of a Gaussian (Lakshminarayanan et al. 2017)


TargetsKind = Literal["any", "numbers", "counts", "signs", "probabilities", "distributions"]


@dataclass(frozen=True)
class LossFormula:
    """function(simd, a, y) gives (value, dC/da), or (value, dC/dz) of (simd, z, y) with `from_logits`.

    None stands for a function of whole rows; see `reductions`. One that has a parameter, whose default is given, takes
    it behind y. It lies in the record of settings, so that no program and no compiled code has a value of it.

    With several `outputs` a target has as many of them, so many targets apart: function(simd, z_0, z_1, .., y) gives
    (value, slope_0, slope_1, ..).

    `targets` says which numbers y may be: numbers are any, but never class indices, counts are at least 0, signs -1
    and 1 (or 0 and 1), probabilities in [0, 1], and the rows of distributions are probabilities that sum to 1.
    """

    function: Callable[..., tuple[Vec, Vec]] | None
    targets: TargetsKind
    from_logits: bool = False
    parameter: float | None = None
    outputs: int = 1
    linked: Callable[[str, Target], list[str]] | None = None  # assembly that its code calls, see `custom`

    @property
    def by_sample(self) -> bool:
        """Whether outputs of a sample belong together: then the functions of samples in rows and in columns differ."""
        return self.function is None or self.outputs > 1


def _quadratic(s, a, y):
    difference = a - y
    return difference * difference * 0.5, difference


def _absolute_error(s, a, y):
    """|a - y|, whose derivative at 0 is taken as 0."""
    e, zero = a - y, s.const(0.0)
    sign = s.select(s.less(zero, e), s.const(1.0), s.select(s.less(e, zero), s.const(-1.0), e))
    return s.abs(e), sign


def _huber(s, a, y, delta):
    """e^2 / 2 where |e| = |a - y| <= delta, else delta (|e| - delta / 2) (Huber 1964)."""
    e = a - y
    size = s.abs(e)
    far = s.less(delta, size)
    return s.select(far, delta * (size - delta * 0.5), e * e * 0.5), s.select(far, s.copysign(delta, e), e)


def _quantile(s, a, y, q):
    """q (y - a) where a < y, else (1 - q) (a - y) (Koenker and Bassett 1978); its derivative at a = y is taken as 0."""
    e, zero, above = a - y, s.const(0.0), s.const(1.0) - q
    slope = s.select(s.less(e, zero), -q, s.select(s.less(zero, e), above, e))
    return s.select(s.less(e, zero), -q, above) * e, slope


def _hinge(s, z, y):
    """max(0, 1 - t z), where t is 1 for y > 0 and else -1 (Cortes and Vapnik 1995)."""
    zero, one = s.const(0.0), s.const(1.0)
    t = s.select(s.less(zero, y), one, s.const(-1.0))
    margin = one - t * z
    slope = s.select(s.less(zero, margin), -t, s.select(s.b.fcmp_ordered("<=", margin.v, zero.v), zero, margin))
    return s.select(s.less(margin, zero), zero, margin), slope


def _log_cosh(s, a, y):
    """log cosh e = log(1 + sinh^2 e) / 2, or |e| + log(1 + e^-2|e|) - log 2; sinh^2 from t = tanh e, the derivative."""
    e = a - y
    size, t = s.abs(e), s.tanh(e)
    near = s.less(size, s.const(0.75))
    square = s.select(near, t * t, s.const(0.0))
    small = s.log1p(square / (s.const(1.0) - square)) * 0.5
    large = size + s.log1p(s.exp(size * -2.0, negative=True)) - math.log(2)
    return s.select(near, small, large), t


def _of_error(s, e):
    """(1 + e) log(1 + e) + (1 - e) log(1 - e) and its slope log((1 + e) / (1 - e)) = 2 artanh e (Fahlman 1988).

    The slope is at most STEEPEST in size. For |e| >= 1 the value goes on as a straight line of that slope. Near zero
    the value is |e| slope + log(1 - e^2), where the formula would cancel.
    """
    one, size = s.const(1.0), s.abs(e)
    near, outside = s.less(size, s.const(0.5)), s.b.fcmp_ordered(">=", size.v, one.v)
    above = s.log1p(size)
    x = s.select(outside, s.const(-0.5), s.select(near, -size * size, -size))
    below = s.log1p(x)  # log(1 - e^2) near zero, else log(1 - |e|)
    slope = above - s.select(near, below - above, below)
    value = s.select(near, size * slope + below, (one + size) * above + (one - size) * below)
    slope = s.clip(s.select(outside, s.const(STEEPEST), slope), STEEPEST)
    value = s.select(outside, (size - one) * STEEPEST + 2 * math.log(2), value)
    return value, s.copysign(slope, e)


def _arctanh_error(s, a, y):
    """The loss of outputs between 0 and 1, whose error e = a - y lies between -1 and 1."""
    return _of_error(s, a - y)


def _halved_arctanh_error(s, a, y):
    """The loss of outputs between -1 and 1: twice that of e = (a - y) / 2, with the slope of e (as FANN takes it)."""
    value, slope = _of_error(s, (a - y) * 0.5)
    return value * 2.0, slope


def _poisson(s, z, y):
    """y log (y / a) - y + a with a = e^z, which is y (log y - z) - y + e^z: half the deviance."""
    a, least = s.exp(z), s.const(TINY[s.double])
    log_y = s.select(s.less(y, least), s.const(0.0), s.log(s.select(s.less(y, least), s.const(1.0), y)))
    return y * (log_y - z) - y + a, a - y


def _clipped(s, value):
    """value, at most -log epsilon: the losses of a probability that is clipped to [epsilon, 1 - epsilon]."""
    most = s.const(LARGEST_LOG[s.double])
    return s.select(s.less(most, value), most, value)


def _sigmoid_cross_entropy(s, z, y):
    """-y log a - (1 - y) log(1 - a) with a = sigmoid(z) is max(z, 0) - z y + log(1 + e^-|z|)."""
    value = s.select(s.less(s.const(0.0), z), z, s.const(0.0)) - z * y + s.log1p(s.exp(-s.abs(z), negative=True))
    return value, s.sigmoid(z) - y


def _clipped_sigmoid_cross_entropy(s, z, y):
    value, slope = _sigmoid_cross_entropy(s, z, y)
    return _clipped(s, value), slope


def _gaussian(s, mean, log_variance, y):
    """(log v + (y - mean)^2 / v) / 2, where v is e^log_variance and a little more (Nix and Weigend 1994)."""
    e, of_output = mean - y, s.exp(log_variance)
    variance = of_output + LEAST_VARIANCE
    inverse = s.const(1.0) / variance
    scaled = e * inverse
    square = e * scaled
    return (s.log(variance) + square) * 0.5, scaled, (s.const(1.0) - square) * (of_output * inverse) * 0.5


# By name and, where the loss goes with one output activation alone, that output.
_ROWS = {
    ("quadratic", ""): LossFormula(_quadratic, "any"),
    ("absolute_error", ""): LossFormula(_absolute_error, "any"),
    ("huber", ""): LossFormula(_huber, "any", parameter=1.0),
    ("log_cosh", ""): LossFormula(_log_cosh, "any"),
    ("quantile", ""): LossFormula(_quantile, "any", parameter=0.5),
    ("arctanh_error", "sigmoid"): LossFormula(_arctanh_error, "any"),
    ("arctanh_error", "hard_sigmoid"): LossFormula(_arctanh_error, "any"),
    ("arctanh_error", "tanh"): LossFormula(_halved_arctanh_error, "any"),
    ("cross_entropy", "sigmoid"): LossFormula(_sigmoid_cross_entropy, "probabilities", from_logits=True),
    ("cross_entropy", "softmax"): LossFormula(None, "distributions", from_logits=True),
    ("clipped_cross_entropy", "sigmoid"): LossFormula(
        _clipped_sigmoid_cross_entropy, "probabilities", from_logits=True
    ),
    ("clipped_cross_entropy", "softmax"): LossFormula(None, "distributions", from_logits=True),
    ("poisson", "exp"): LossFormula(_poisson, "counts", from_logits=True),
    ("hinge", "identity"): LossFormula(_hinge, "signs", from_logits=True),
    ("gaussian", "identity"): LossFormula(_gaussian, "numbers", from_logits=True, outputs=2),
}
NAMES = tuple(dict.fromkeys(name for name, _ in _ROWS))  # for `Model`
LOSSES = {f"{output}_{name}" if output else name: row for (name, output), row in _ROWS.items()}
# The loss of a gradient that the user computed: y holds dC/da, whatever the output activation is.
OUTSIDE = "outside"
LOSSES[OUTSIDE] = LossFormula(lambda s, a, y: (a * y, y), "any")


def kernel_name(loss: str, output: str) -> str:
    """The key in LOSSES of a loss with an output activation, or "" where the two do not go together."""
    if loss in LOSSES:
        return "" if output in ROW_WISE else loss
    return name if (name := f"{output}_{loss}") in LOSSES else ""
