"""Optimizers, each stated in one place: its settings, what it keeps, how its scalars advance, and the update.

A new optimizer is a row of `OPTIMIZERS`, its twin in `reference` and a class in `fastnn.settings.optimizers`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

MAX_NUMBERS = 7  # float64 numbers of an optimizer's state, and of its scalars
POSITIONS = {"step": 5, "epoch": 6}  # numbers of the state that count steps and epochs, if the rate changes


@dataclass(frozen=True)
class UpdateRule:
    """What training needs to know of an optimizer.

    advance(simd, count, *settings, *state) gives, for a batch of `count` samples, three tuples of float64 numbers: the
    scale that the loss's derivative is multiplied by, the new state, and the scalars of the update.

    update(simd, scalars, p, g, *vectors) gives the new parameters p and the new vectors; g is the gradient.
    None is plain SGD: its scale holds the learning rate, and its update is part of the gradient's product.
    """

    settings: tuple[str, ...]  # constants of a fit, by their names in `fastnn.settings.optimizers`
    advance: Callable[..., tuple[tuple[Any, ...], ...]]
    update: Callable[..., tuple[Any, ...]] | None = None
    state: dict[str, float] = field(default_factory=dict)  # numbers that each step changes, before the first one
    vectors: tuple[str, ...] = ()  # vectors laid out like the parameters, zero before the first step
    n_scalars: int = 0
    not_negative: tuple[str, ...] = ()  # vectors whose elements are never negative: means of squares, sizes of steps


def _sgd_advance(s, count, learning_rate):
    return (-learning_rate / count,), (), ()


def _constant(s, count, *settings):
    """The update's scalars are the settings."""
    return (1.0 / count,), (), settings


def _descent(s, c, p, g):
    return (p - c[0] * g,)


def _momentum(s, c, p, g, v):
    """v = momentum * v - learning_rate * g; p += v (Polyak 1964, as in scikit-learn)."""
    rate, momentum = c
    v = momentum * v - rate * g
    return p + v, v


def _nesterov(s, c, p, g, v):
    """As `_momentum`, but p takes the step from where v leads (Sutskever et al. 2013, as in scikit-learn)."""
    rate, momentum = c
    v = momentum * v - rate * g
    return p + (momentum * v - rate * g), v


def _adam_advance(s, count, learning_rate, beta1, beta2, epsilon, power1, power2):
    """power1 and power2 are beta1^t and beta2^t; the bias corrections are in two scalars (section 2 of the paper).

    The update gets 1 - beta, taken in float64: a float32 beta close to 1 would lose it, and the correction with it.
    """
    power1, power2 = power1 * beta1, power2 * beta2
    root = s.sqrt(1.0 - power2)
    scalars = learning_rate * root / (1.0 - power1), epsilon * root, 1.0 - beta1, 1.0 - beta2
    return (1.0 / count,), (power1, power2), scalars


def _adam_hat_advance(s, count, learning_rate, beta1, beta2, epsilon, power1, power2):
    """As `_adam_advance`, but with the paper's "epsilon hat", which is added to the root of v itself (section 2)."""
    scale, state, (step, _, *rates) = _adam_advance(s, count, learning_rate, beta1, beta2, epsilon, power1, power2)
    return scale, state, (step, epsilon, *rates)


def _adam(s, c, p, g, m, v):
    """Kingma and Ba 2015: m += (1 - beta1) (g - m), v += (1 - beta2) (g^2 - v)."""
    step, epsilon, rate1, rate2 = c
    m = s.fma(rate1, g - m, m)
    v = s.fma(rate2, s.fma(g, g, -v), v)
    return s.over_root(p, step, m, v, epsilon), m, v


def _adamw_advance(s, count, learning_rate, beta1, beta2, epsilon, weight_decay, power1, power2):
    scale, state, scalars = _adam_advance(s, count, learning_rate, beta1, beta2, epsilon, power1, power2)
    return scale, state, (*scalars, 1.0 - learning_rate * weight_decay)


def _adamw(s, c, p, g, m, v):
    """Loshchilov and Hutter 2019: the parameters shrink by themselves, and then take Adam's step."""
    return _adam(s, c[:4], p * c[4], g, m, v)


def _nadam_advance(s, count, learning_rate, beta1, beta2, epsilon, shrink, power, product, power2):
    """power is shrink^t, product that of all mu_t = beta1 (1 - shrink^t / 2), as in PyTorch."""
    now, following = (beta1 * (1.0 - power * shrink * 0.5), beta1 * (1.0 - power * shrink * shrink * 0.5))
    product, power2 = product * now, power2 * beta2
    root = s.sqrt(1.0 - power2)
    of_gradient = learning_rate * root * (1.0 - now) / (1.0 - product)
    of_mean = learning_rate * root * following / (1.0 - product * following)
    scalars = of_mean, epsilon * root, 1.0 - beta1, 1.0 - beta2, of_gradient
    return (1.0 / count,), (power * shrink, product, power2), scalars


def _nadam(s, c, p, g, m, v):
    """Dozat 2016: Adam that takes the gradient's step from where m leads."""
    of_mean, epsilon, rate1, rate2, of_gradient = c
    m = s.fma(rate1, g - m, m)
    v = s.fma(rate2, s.fma(g, g, -v), v)
    return s.over_root(p, s.const(1.0), of_mean * m + of_gradient * g, v, epsilon), m, v


def _rmsprop_advance(s, count, learning_rate, alpha, epsilon):
    return (1.0 / count,), (), (learning_rate, epsilon, 1.0 - alpha)


def _rmsprop(s, c, p, g, v):
    """Tieleman and Hinton 2012: v += (1 - alpha) (g^2 - v)."""
    rate, epsilon, rest = c
    v = s.fma(rest, s.fma(g, g, -v), v)
    return s.over_root(p, rate, g, v, epsilon), v


def _adagrad(s, c, p, g, v):
    """Duchi, Hazan and Singer 2011: v sums the squares."""
    rate, epsilon = c
    v = s.fma(g, g, v)
    return s.over_root(p, rate, g, v, epsilon), v


def _lion_advance(s, count, learning_rate, beta1, beta2, weight_decay):
    return (1.0 / count,), (), (learning_rate, 1.0 - beta1, 1.0 - beta2, 1.0 - learning_rate * weight_decay)


def _lion(s, c, p, g, m):
    """Chen et al. 2023: the sign of a mean of gradient and m."""
    rate, rate1, rate2, kept = c
    u, zero = s.fma(rate1, g - m, m), s.const(0.0)
    step = s.select(s.less(zero, u), rate, s.select(s.less(u, zero), -rate, u))
    return p * kept - step, s.fma(rate2, g - m, m)


def _rprop(s, c, p, g, before, size):
    """Riedmiller and Braun 1993, as in PyTorch: the size of each step by the signs of two gradients.

    Where the gradient has been zero so far the size is stored as zero, so that padding stays zero.
    """
    rate, minus, plus, smallest, largest = c
    zero = s.const(0.0)
    product = g * before
    factor = s.select(s.less(zero, product), plus, s.select(s.less(product, zero), minus, s.const(1.0)))
    new = s.select(s.b.fcmp_ordered("==", size.v, zero.v), rate, size) * factor
    new = s.select(s.less(new, smallest), smallest, new)
    new = s.select(s.less(largest, new), largest, new)
    g = s.select(s.less(product, zero), zero, g)
    step = s.select(s.less(zero, g), new, s.select(s.less(g, zero), -new, g))
    unchanged = s.b.fcmp_ordered("==", product.v, zero.v)
    moved = s.select(s.b.fcmp_ordered("==", g.v, zero.v), s.select(unchanged, size, new), new)
    return p - step, g, moved


_MOMENTUM: dict[str, Any] = {
    "settings": ("learning_rate", "momentum"),
    "advance": _constant,
    "vectors": ("v",),
    "n_scalars": 2,
}
_ADAM: dict[str, Any] = {
    "settings": ("learning_rate", "beta1", "beta2", "epsilon"),
    "update": _adam,
    "state": {"power1": 1.0, "power2": 1.0},
    "vectors": ("m", "v"),
    "n_scalars": 4,
    "not_negative": ("v",),
}
OPTIMIZERS = {
    "sgd": UpdateRule(("learning_rate",), _sgd_advance),
    "sgd_with_gradient": UpdateRule(("learning_rate",), _constant, _descent, n_scalars=1),  # for clipping and factors
    "momentum": UpdateRule(update=_momentum, **_MOMENTUM),
    "nesterov": UpdateRule(update=_nesterov, **_MOMENTUM),
    "adam": UpdateRule(advance=_adam_advance, **_ADAM),
    "adam_hat": UpdateRule(advance=_adam_hat_advance, **_ADAM),
    "adamw": UpdateRule(
        ("learning_rate", "beta1", "beta2", "epsilon", "weight_decay"),
        _adamw_advance,
        _adamw,
        {"power1": 1.0, "power2": 1.0},
        ("m", "v"),
        5,
        ("v",),
    ),
    "nadam": UpdateRule(
        ("learning_rate", "beta1", "beta2", "epsilon", "_shrink"),
        _nadam_advance,
        _nadam,
        {"power": 1.0, "product": 1.0, "power2": 1.0},
        ("m", "v"),
        5,
        ("v",),
    ),
    "rmsprop": UpdateRule(("learning_rate", "alpha", "epsilon"), _rmsprop_advance, _rmsprop, {}, ("v",), 3, ("v",)),
    "adagrad": UpdateRule(("learning_rate", "epsilon"), _constant, _adagrad, {}, ("v",), 2, ("v",)),
    "rprop": UpdateRule(
        ("learning_rate", "eta_minus", "eta_plus", "smallest", "largest"),
        _constant,
        _rprop,
        {},
        ("before", "size"),
        5,
        ("size",),
    ),
    "lion": UpdateRule(("learning_rate", "beta1", "beta2", "weight_decay"), _lion_advance, _lion, {}, ("m",), 4),
}
