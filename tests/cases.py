"""The one table of dtypes, optimizers, activations and losses that tests take their cases from.

A row of the kernels' ACTIVATIONS, LOSSES or OPTIMIZERS that is missing here fails `test_cases.py`.
"""

import re

from fastnn import SGD, Adagrad, Adam, AdamW, Lion, Momentum, Nadam, RMSprop, Rprop
from fastnn.kernels.formulas import activations, loss_functions
from fastnn.kernels.formulas.update_rules import OPTIMIZERS as UPDATE_RULES

DTYPES = ("float32", "float64")
EPS = {"float32": 2.0**-23, "float64": 2.0**-52}

# By the names of the kernels' rows, with settings that are not the defaults, at rates that train small networks.
OPTIMIZERS = {
    "sgd": SGD(0.02),
    "sgd_with_gradient": SGD(0.02, clip_norm=1e6),  # which clips nothing
    "momentum": Momentum(0.01, 0.6),
    "nesterov": Momentum(0.01, 0.6, nesterov=True),
    "adam": Adam(0.005, 0.8, 0.95, 1e-6),
    "adam_hat": Adam(0.005, 0.8, 0.95, 1e-6, epsilon_hat=True),
    "adamw": AdamW(0.005, 0.8, 0.95, 1e-6, 0.3),
    "nadam": Nadam(0.005, 0.8, 0.95, 1e-6, 0.1),
    "rmsprop": RMSprop(0.005, 0.8, 1e-6),
    "adagrad": Adagrad(0.005, 1e-6),
    "lion": Lion(0.001, 0.8, 0.9, 0.3),
    "rprop": Rprop(0.001, 0.5, 1.2, 1e-4, 0.01),
}
JUMPING = ("lion", "rprop")  # their steps follow the signs of gradients, which may go either way near zero
WHOLE_SET = ("rprop",)  # takes all samples in each step


def settings_of(optimizer):
    """The numbers of an optimizer, as its kernel and `reference` take them."""
    return tuple(getattr(optimizer, name) for name in UPDATE_RULES[optimizer._kernel].settings)


def kinds_of_tensors(optimizer):
    """What of an optimizer differs by kinds of tensors, as `reference` takes it."""
    return {"rate_factors": optimizer.learning_rate_factors, "decay_biases": optimizer.decay_biases}


SETTINGS = {name: settings_of(optimizer) for name, optimizer in OPTIMIZERS.items()}

# Activations by what tests may do with them: a derivative that is continuous, one that jumps, and none that trains
# hidden layers.
SMOOTH = ("identity", "sigmoid", "tanh", "gelu", "elu", "silu", "mish", "softplus", "exp")
KINKED = ("relu", "leaky_relu", "selu", "hard_sigmoid")
STEPS = ("step",)
ACTIVATIONS = (*SMOOTH, *KINKED, *STEPS)
ROW_WISE = ("softmax",)
GROWING = ("exp",)  # outputs that grow without bound where a hidden layer has them

# By the names of the kernels' rows: an output activation that goes with the loss, and its parameter if it has one.
LOSSES = {
    "quadratic": ("sigmoid", None),
    "absolute_error": ("identity", None),
    "huber": ("identity", 0.3),
    "log_cosh": ("identity", None),
    "quantile": ("tanh", 0.9),
    "sigmoid_arctanh_error": ("sigmoid", None),
    "hard_sigmoid_arctanh_error": ("hard_sigmoid", None),
    "tanh_arctanh_error": ("tanh", None),
    "sigmoid_cross_entropy": ("sigmoid", None),
    "softmax_cross_entropy": ("softmax", None),
    "sigmoid_clipped_cross_entropy": ("sigmoid", None),
    "softmax_clipped_cross_entropy": ("softmax", None),
    "exp_poisson": ("exp", None),
    "identity_hinge": ("identity", None),
    "identity_gaussian": ("identity", None),
}
PARAMETERS = {name: parameter for name, (_, parameter) in LOSSES.items() if parameter is not None}


def built_in(rows):
    """The names of the rows that come with fastnn: a user's own functions are rows too, once they are used."""
    return {name for name, row in rows.items() if not row.linked}


def missing():
    """The rows of the kernels' tables that this table does not have, and those that it has and they do not."""
    pairs = [
        (built_in(activations.ACTIVATIONS), ACTIVATIONS),
        (set(activations.ROW_WISE), ROW_WISE),
        (built_in(loss_functions.LOSSES) - {loss_functions.OUTSIDE}, LOSSES),  # no name for `Model`
        (set(UPDATE_RULES), OPTIMIZERS),
    ]
    return {name for there, here in pairs for name in there.symmetric_difference(here)}


def name_of(value):
    """A value as text for the name of a case: without addresses, which differ from run to run."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value), flags=re.IGNORECASE)
