"""Losses and metrics of a network on labelled samples, and the classes that outputs stand for."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _validation
from ._validation import Targets
from .layers import Architecture
from .metrics import Metric
from .network import Network
from .samples import Samples

# The outputs of a single unit above it are class 1; 0 for the other activations.
THRESHOLDS: dict[Any, float] = {"sigmoid": 0.5, "hard_sigmoid": 0.5, "step": 0.5}


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
    """The class indices that outputs (n, n_out) stand for."""
    if outputs.shape[1] > 1:
        return outputs.argmax(axis=1)
    return (outputs[:, 0] > THRESHOLDS.get(architecture.layers[-1].activation, 0.0)).astype(np.intp)


def nan_rows(outputs: NDArray[Any]) -> NDArray[np.intp]:
    """The indices of rows that hold a NaN."""
    if _validation.sum_is_finite(outputs):
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


def float_classes(architecture: Architecture, targets: Targets) -> str:
    """What to say where floats look like two classes, so that a default metric is not the one that was meant; or ""."""
    last, values = architecture.layers[-1], targets.array
    if targets.classes is not None or last.units > 1 or last.activation not in THRESHOLDS:
        return ""
    if not (values.min() == 0 and values.max() == 1 and ((values == 0) | (values == 1)).all()):
        return ""
    return (
        "y holds the floats 0.0 and 1.0, which are numeric targets, so the metric is r2. For two classes, "
        "and accuracy, give integers: y.astype(int)."
    )
