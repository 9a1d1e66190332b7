"""Optimizers other than plain SGD: a vector function each, and the scalars of a step.

A function takes the parameters p, the gradient g and the optimizer's own vectors, and returns the new p and vectors;
`c` holds the scalars that `prepare` sets once a step. Plain SGD has none: its update is part of the gradient's product.
"""

import math

from numba import njit


def _momentum(s, c, p, g, v):
    """v = momentum * v - learning_rate * g; p += v (Polyak 1964, as in scikit-learn)."""
    rate, momentum = c[:2]
    v = momentum * v - rate * g
    return p + v, v


def _nesterov(s, c, p, g, v):
    """As `_momentum`, but p takes the step from where v leads (Sutskever et al. 2013, as in scikit-learn)."""
    rate, momentum = c[:2]
    v = momentum * v - rate * g
    return p + (momentum * v - rate * g), v


def _adam(s, c, p, g, m, v):
    """Kingma and Ba 2015, with the bias corrections in the two scalars (their section 2)."""
    step, epsilon, beta_1, beta_2 = c[:4]
    m = s.fma(beta_1, m - g, g)
    v = s.fma(beta_2, v - g * g, g * g)
    return p - step * m / (s.call("sqrt", v) + epsilon), m, v


OPTIMIZERS = {"momentum": _momentum, "nesterov": _nesterov, "adam": _adam}
VECTORS = {"sgd": 0, "momentum": 1, "nesterov": 1, "adam": 2}  # of their own, like the parameters
N_SCALARS = 4

# cells: what a step's operations read and write. The scalars begin at SCALARS; what is written has a line of its own.
SCALE, SCALARS, TOTAL = 0, 1, 8
N_CELLS = 16

# settings: the optimizer as `entry.train` takes it; the last four are Adam's running powers of beta_1 and beta_2,
# and what they were at the end of the last finished epoch.
KIND, RATE, BETA_1, BETA_2, EPSILON, POWER_1, POWER_2, KEPT_1, KEPT_2 = range(9)
KINDS = {name: kind for kind, name in enumerate(VECTORS)}
_SGD, _ADAM = KINDS["sgd"], KINDS["adam"]


@njit(nogil=True)
def prepare(settings, cells, count):
    """Set the cells for a batch of `count` samples: the scale of its gradient, and the scalars."""
    cells[TOTAL] = 0.0
    if settings[KIND] == _SGD:
        cells[SCALE] = -settings[RATE] / count
        return
    cells[SCALE] = 1.0 / count
    cells[SCALARS], cells[SCALARS + 1] = settings[RATE], settings[BETA_1]
    if settings[KIND] == _ADAM:
        settings[POWER_1] *= settings[BETA_1]
        settings[POWER_2] *= settings[BETA_2]
        root = math.sqrt(1.0 - settings[POWER_2])
        cells[SCALARS] = settings[RATE] * root / (1.0 - settings[POWER_1])
        cells[SCALARS + 1] = settings[EPSILON] * root
        cells[SCALARS + 2], cells[SCALARS + 3] = settings[BETA_1], settings[BETA_2]
