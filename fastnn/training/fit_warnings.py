"""What a fit warns of when it has ended."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.arrays import Targets, take_rows
from ..data.samples import Samples
from ..kernels.formulas.loss_functions import LEAST_VARIANCE
from ..network.network import Network
from ..reports.history import History
from ..settings.losses import kernel_name
from ..settings.optimizers import FullBatch, Rprop
from .arguments import Request

LARGE_TARGETS = 100.0  # above which a fit that has not learned says so
SATURATED = 0.99  # how far off an output is at the wrong end, as a share of its range
SATURATED_ROWS = 1000  # at most, by which a fit finds whether outputs are so
SMALL_LOSS = 1e-3  # below which it does not look


def not_learned(loss: float, targets: NDArray[Any], gaussian: bool = False) -> str:
    """What to say where targets are large and the squared error, half its sum over the outputs, is that of their mean.

    Or the loss of a Gaussian is that of their mean and variance. "" where there is nothing to say.
    """
    if not loss > (math.log(LARGE_TARGETS) if gaussian else LARGE_TARGETS):
        return ""
    with np.errstate(all="ignore"):
        means, deviations = (f(targets, axis=0, dtype=np.float64) for f in (np.mean, np.std))
        squares = np.log(deviations**2 + LEAST_VARIANCE) + 1 if gaussian else deviations**2
        size, of_mean = float(np.abs(means).max() + deviations.max()), float(squares.sum() / 2)
    if size < LARGE_TARGETS or loss <= of_mean:
        return ""
    return (
        f"the loss is {loss:g}, but predicting the mean of y has {of_mean:g}. y is about {size:g}: "
        "scale it, such as (y - y.mean()) / y.std(), or train longer."
    )


def after_fit(network: Network, request: Request) -> list[str]:
    """What to warn of after the fit of a request."""
    options, data, history = request.options, request.data, request.history
    if request.chunks is not None:
        return []
    found = [] if data.weights is not None else [has_not_learned(network, data.targets, history)]
    if options.epochs and isinstance(options.optimizer, (FullBatch, Rprop)):
        found.append(saturated(network, data.samples, history))
    return [text for text in found if text]


def has_not_learned(network: Network, targets: Targets, history: History) -> str:
    """What to say where targets are large and the loss is above that of their mean, or ""."""
    if len(history.loss) < 2 or targets.classes is not None:
        return ""  # the loss of a first epoch is that of its first steps too
    architecture = network.architecture
    if architecture.loss not in ("quadratic", "gaussian") or architecture.head.activation != "identity":
        return ""
    return not_learned(history.loss[-1], targets.array, architecture.loss == "gaussian")


def saturated(network: Network, samples: Samples, history: History) -> str:
    """What to say where most of the error is in outputs that are saturated and wrong, or "".

    Labels that are wrong themselves give such outputs too, but for few of the samples of a class. So does a rare class
    that nothing tells from the others, but then the mean of the output is right.
    """
    architecture, last = network.architecture, network.architecture.head
    formula = last._formula
    if architecture.loss not in ("quadratic", "arctanh_error") or not formula.bounded or formula.unit_derivative:
        return ""
    if history.loss and history.loss[-1] < SMALL_LOSS:
        return ""
    rows = np.arange(0, len(samples.inputs), -(-len(samples.inputs) // SATURATED_ROWS))
    targets = samples.targets[rows]
    _, outputs = network.inference.evaluate(take_rows(samples.inputs, rows), targets)
    if targets.ndim == 1:
        targets = targets[:, None] == np.arange(outputs.shape[1])
    low, high = formula.range
    errors = (outputs - np.clip(targets.astype(np.float64), low, high)) / (high - low)
    weights = np.ones((len(rows), 1)) if samples.weights is None else samples.weights[rows, None]
    sizes, ends = weights * np.abs(errors), targets > formula.threshold
    squares, wrong, found = sizes * np.abs(errors), np.abs(errors) > SATURATED, []
    for end in (ends, ~ends):
        all_wrong = sizes.sum(axis=0, where=end & wrong)
        half = all_wrong >= np.maximum((weights * end).sum(axis=0) / 2, 1e-30)
        found += np.flatnonzero(half & (np.abs((weights * errors).sum(axis=0)) >= all_wrong / 2)).tolist()
    share = squares.sum(where=wrong) / max(squares.sum(), 1e-300)
    if share <= 0.5 or not found:
        return ""
    instead = ""
    if architecture.loss == "quadratic" and kernel_name("arctanh_error", last._kernel):
        instead = '; where the output must stay, loss="arctanh_error"'
    elif formula.backward_at_least:
        instead = "; where the output must stay, fit(min_derivative=0.0396) by Rprop"
    return (
        f"training may be stuck: {share:.0%} of what is left of the squared error is in outputs at the wrong end of "
        f"{last.activation!r}, and output {min(found)} is there for half or more of the samples whose target is at the "
        'other end. Their gradient is almost zero. Use output="softmax" or "sigmoid" with loss="cross_entropy"'
        f"{instead}."
    )
