"""Names of other packages, and fastnn's names in their place, for the messages of errors."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

# Names of arguments, and what to write in their place: the one that a function has, if there are several.
ARGUMENTS: dict[str, str | tuple[str, ...]] = {
    **dict.fromkeys(("seed", "random_state", "random_seed"), "rng"),
    **dict.fromkeys(("n_epochs", "num_epochs", "nb_epoch", "max_iter"), "epochs"),
    **dict.fromkeys(("lr", "learning_rate", "learning_rate_init"), "optimizer=SGD(0.1)"),
    **dict.fromkeys(("solver", "optim"), "optimizer"),
    **dict.fromkeys(("validation_split", "val_split"), "validation_fraction"),
    **dict.fromkeys(("val_data", "eval_set"), "validation_data"),
    **dict.fromkeys(("hidden_layer_sizes", "hidden_layers", "layers", "sizes", "layer_sizes"), "sizes_or_layers"),
    **dict.fromkeys(("criterion", "loss_fn", "loss_function"), "loss"),
    **dict.fromkeys(("output_activation", "out_activation", "final_activation"), "output"),
    **dict.fromkeys(("kernel_initializer", "initializer", "weight_init"), "init"),
    **dict.fromkeys(("sample_weights", "weights"), "sample_weight"),
    **dict.fromkeys(("class_weights",), "class_weight"),
    **dict.fromkeys(("weight_decay", "l2_reg"), "l2"),
    **dict.fromkeys(("batch", "bs", "minibatch_size", "mini_batch_size"), "batch_size"),
    **dict.fromkeys(("n_jobs", "num_threads", "n_threads"), "threads"),
    **dict.fromkeys(
        ("patience", "early_stopping", "n_iter_no_change"),
        ('callbacks=[EarlyStopping("val_loss", patience=10)]', 'stopping=Patience(10, "val_loss")'),
    ),
    **dict.fromkeys(("momentum", "nesterov"), "optimizer=Momentum(0.01)"),
    "progress_bar": "progress",
}

_CROSS_ENTROPY = '"cross_entropy", with the output "softmax" or, for two classes in one output, "sigmoid"'
_HE, _GLOROT = '"he_normal" or "he_uniform"', '"glorot_normal" or "glorot_uniform"'
_NESTEROV, _LBFGS = "Momentum(0.01, nesterov=True) is Nesterov's", "LBFGS() is an optimizer of fit"

# Values of arguments in small letters, and what to write in their place.
VALUES: dict[str, dict[str, str]] = {
    "loss": {
        **dict.fromkeys(
            ("mse", "l2", "mean_squared_error", "squared_error"), '"quadratic" is half of the squared error'
        ),
        **dict.fromkeys(("mae", "l1", "mean_absolute_error"), 'it is "absolute_error"'),
        **dict.fromkeys(
            ("bce", "binary_crossentropy", "binary_cross_entropy"), 'it is "cross_entropy", with the output "sigmoid"'
        ),
        **dict.fromkeys(
            ("crossentropy", "ce", "nll", "log_loss", "categorical_crossentropy", "sparse_categorical_crossentropy"),
            f"it is {_CROSS_ENTROPY}",
        ),
        **dict.fromkeys(("smooth_l1", "huber_loss"), 'it is "huber"'),
        **dict.fromkeys(("logcosh",), 'it is "log_cosh"'),
        **dict.fromkeys(
            ("gaussian_nll", "gaussiannll", "gaussiannllloss", "gaussian_nll_loss"),
            'it is "gaussian", with two outputs for each target',
        ),
    },
    "activation": {
        **dict.fromkeys(("linear", "none"), 'it is "identity"'),
        **dict.fromkeys(("logistic",), 'it is "sigmoid"'),
        **dict.fromkeys(("swish",), 'it is "silu"'),
        **dict.fromkeys(("lrelu", "leakyrelu"), 'it is "leaky_relu"'),
        **dict.fromkeys(("hardsigmoid",), 'it is "hard_sigmoid"'),
        **dict.fromkeys(("heaviside", "threshold", "binary_step"), 'it is "step"'),
        **dict.fromkeys(("exponential",), 'it is "exp"'),
        "softmax": 'only the last layer can have it: output="softmax"',
    },
    "init": {
        **dict.fromkeys(("he", "kaiming"), f"it is {_HE}"),
        **dict.fromkeys(("xavier", "glorot"), f"it is {_GLOROT}"),
        **dict.fromkeys(("lecun",), 'it is "lecun_normal" or "lecun_uniform"'),
        **dict.fromkeys(("kaiming_normal",), 'it is "he_normal"'),
        **dict.fromkeys(("kaiming_uniform",), 'it is "he_uniform"'),
        **dict.fromkeys(("xavier_normal",), 'it is "glorot_normal"'),
        **dict.fromkeys(("xavier_uniform",), 'it is "glorot_uniform"'),
        **dict.fromkeys(("zero",), 'it is "zeros"'),
        **dict.fromkeys(("gaussian",), 'it is "normal"'),
    },
    "optimizer": {
        **dict.fromkeys(("nag", "nesterov"), _NESTEROV),
        **dict.fromkeys(("lbfgs", "l-bfgs", "l_bfgs"), _LBFGS),
        **dict.fromkeys(("gd", "gradient_descent"), 'it is "sgd"'),
    },
    "metric": {
        **dict.fromkeys(("acc",), 'it is "accuracy"'),
        **dict.fromkeys(("r2_score",), 'it is "r2"'),
    },
}
VALUES["output"] = VALUES["activation"]

_owners: dict[str, str] = {}  # for each argument, the function that has it


def hint(argument: str, value: object, allowed: list[str]) -> str:
    """What to write in place of a value that an argument does not take, as the end of a message, or ""."""
    if value is not None and not isinstance(value, str):
        return ""
    small = str(value).lower()
    if small in allowed:
        return f"; it is {small!r}"
    found = VALUES.get(argument.split("[")[0], {}).get(small)
    return f"; {found}" if found else ""


def explained(function: F) -> F:
    """Decorator: the error for arguments of other packages, or by position, says how fastnn has them.

    A correct call costs one call in between: names are looked at only after a TypeError.
    """
    name = function.__qualname__.removesuffix(".__init__")
    parameters = list(inspect.signature(function).parameters.values())
    first = [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    named = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY]
    for each in parameters[1:]:
        _owners.setdefault(each.name, name)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except TypeError:
            other = next((each for each in kwargs if each not in first + named), None)
            if other is not None:
                found = other if other in _owners else ARGUMENTS.get(other, "")
                several = (found,) if isinstance(found, str) else found
                ours = next((each for each in several if each.split("=")[0] in first + named), several[0])
                argument = ours.split("=")[0]
                place = "" if argument in first + named else f", an argument of {_owners.get(argument)}"
                advice = f"; fastnn has {ours}{place}" if ours else ""
                raise TypeError(f"{name}() got an unexpected keyword argument {other!r}{advice}") from None
            if len(args) > len(first):
                pairs = zip(named, args[len(first) :], strict=False)
                written = ", ".join(f"{key}={value!r:.40}" for key, value in pairs)
                allowed = " and ".join(first[1:])
                raise TypeError(f"{name}() takes {allowed} by position, the others by name: {written}") from None
            raise

    return call  # type: ignore[return-value]
