"""Metrics: how well a model does, for a person to read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _validation
from ._validation import Targets

Metric = Callable[..., float]


def accuracy(y_true: NDArray[Any], y_pred: NDArray[Any], sample_weight: NDArray[Any] | None = None) -> float:
    """The share of class indices, (n,), that agree; each sample counts by its weight, (n,)."""
    return float(np.average(y_true == y_pred, weights=sample_weight))


def r2(y_true: NDArray[Any], y_pred: NDArray[Any], sample_weight: NDArray[Any] | None = None) -> float:
    """The coefficient of determination, 1 - sum (y - a)^2 / sum (y - mean y)^2, averaged over the outputs.

    As in scikit-learn, an output whose targets are all equal scores 1 where it is met exactly, else 0.
    """
    weights = np.ones(len(y_true)) if sample_weight is None else sample_weight / sample_weight.max().astype(np.float64)
    y_true, y_pred, weights = (array[weights > 0] for array in (y_true, y_pred, weights))
    size = np.abs(y_true, dtype=np.float64).max(axis=0)
    size = np.where(size == 0, 1, size)  # the score does not depend on it, but the squares of large targets would
    y_true = y_true / size
    with np.errstate(over="ignore"):  # a model about to diverge scores -inf, as it should
        residual = weights @ (y_true - y_pred / size) ** 2
        spread = weights @ (y_true - np.average(y_true, axis=0, weights=weights)) ** 2
        constant = (y_true == y_true[0]).all(axis=0) | (spread == 0)
        scores = 1 - residual / np.where(constant, 1, spread)
        return float(np.mean(np.where(constant, residual == 0, scores)))


METRICS: dict[str, Metric] = {"accuracy": accuracy, "r2": r2}


def resolve(metric: str | Metric | None, targets: Targets) -> tuple[str, Metric]:
    """(name, function) of a metric; None means accuracy for class indices and r2 for numeric targets."""
    if metric is None:
        metric = "r2" if targets.classes is None else "accuracy"
    if callable(metric):
        return getattr(metric, "__name__", "metric"), metric
    name = _validation.choice("metric", metric, METRICS)
    if name == "accuracy" and targets.classes is None:
        raise ValueError("metric 'accuracy' needs class indices in y, got numeric targets")
    return name, METRICS[name]
