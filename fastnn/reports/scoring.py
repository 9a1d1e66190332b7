"""Losses and metrics of a network on labelled samples, and the classes that outputs stand for."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data import arrays
from ..data.arrays import Targets
from ..data.samples import Samples
from ..kernels.formulas.activations import UNBOUNDED
from ..network.network import Network
from ..settings.custom import Activation
from ..settings.layers import Architecture
from .metrics import Metric


class Labelled(NamedTuple):
    """Samples with what their targets mean: inputs as the kernels read them, targets, and weights if there are any."""

    inputs: NDArray[Any]
    targets: Targets
    weights: NDArray[Any] | None = None

    @property
    def samples(self) -> Samples:
        """What the kernels read of it."""
        return Samples(self.inputs, self.targets.array, self.weights)


def decide(outputs: NDArray[Any], architecture: Architecture) -> NDArray[np.intp]:
    """The class indices that outputs (n, n_out) stand for; raises ValueError where they stand for none."""
    if architecture.targets == "numbers":
        raise ValueError(f"X has no classes: the loss {architecture.loss_name!r} is of numeric targets")
    if outputs.shape[1] > 1:
        return outputs.argmax(axis=1)
    return (outputs[:, 0] > architecture.head._formula.threshold).astype(np.intp)


def nan_rows(outputs: NDArray[Any]) -> NDArray[np.intp]:
    """The indices of rows that hold a NaN."""
    if arrays.sum_is_finite(outputs):
        return np.empty(0, np.intp)
    return np.flatnonzero(np.isnan(outputs).any(axis=1))


def evaluate(network: Network, data: Labelled, metrics: list[Metric]) -> tuple[float, dict[str, float]]:
    """(mean loss, {metric's name: its value})."""
    loss, outputs = network.inference.evaluate(*data.samples)
    if data.targets.classes is not None and len(nan_rows(outputs)):
        return loss, {str(each.name): math.nan for each in metrics}  # an output that is no number decides nothing
    classes = functools.partial(decide, architecture=network.architecture)
    return loss, {str(each.name): each.score(data.targets, outputs, classes, data.weights) for each in metrics}


class Scored(NamedTuple):
    """A set that a fit scores after each epoch: the prefix of its metrics' names, "val_" or "", and the metrics."""

    prefix: str
    data: Labelled
    metrics: list[Metric]

    @property
    def names(self) -> list[str]:
        """The names of the lists in a History."""
        return ["val_loss"] * bool(self.prefix) + [f"{self.prefix}{each.name}" for each in self.metrics]

    def scores(self, network: Network) -> dict[str, float]:
        """The values of these lists."""
        loss, values = evaluate(network, self.data, self.metrics)
        found = {"val_loss": loss} if self.prefix else {}
        return found | {f"{self.prefix}{name}": value for name, value in values.items()}


def two_numbers(architecture: Architecture, targets: Targets, scored: bool) -> str:
    """What to say of numeric targets 0 and 1 that look like two classes, or ""; scored: whether r2 is taken of them.

    Floats do where the output is a probability. Integers do too where the user's activation states no range.
    """
    last = architecture.head
    if targets.classes is not None or last.units > 1:
        return ""
    unstated = isinstance(last.activation, Activation) and last._formula.range == UNBOUNDED
    if not unstated and not (scored and last._formula.gives_probabilities):
        return ""
    values = targets.array
    if not (values.min() == 0 and values.max() == 1 and ((values == 0) | (values == 1)).all()):
        return ""
    if unstated:
        return (
            f"y holds 0 and 1 alone, but the output {last.activation!r} states no range, so they are numeric "
            "targets: the metric is r2, and classify decides for 1 above 0. For two classes give the Activation "
            'its range, such as range=(0, 1); for numeric targets say metric="r2".'
        )
    return (
        "y holds the floats 0.0 and 1.0, which are numeric targets, so the metric is r2. For two classes, "
        "and accuracy, give integers: y.astype(int)."
    )


def out_of_reach(architecture: Architecture, targets: Targets) -> str:
    """What to say of numeric targets that the output activation cannot give, or ""."""
    if targets.classes is not None or architecture.targets != "any":
        return ""  # else the loss has had them checked
    last = architecture.head
    return arrays.out_of_reach(targets.array, last.activation, *last._formula.range)
