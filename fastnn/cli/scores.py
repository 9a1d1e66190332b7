"""Scores of predictions: how good they are, by name."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_LEAST = 1e-15  # a probability that the logarithm is taken of


def keys(values: Any) -> NDArray[Any]:
    """Labels (n,) as text, so that 1, 1.0 and "1" are one label in all files."""
    return np.array([_key(each) for each in np.asarray(values).tolist()], str)


def _key(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def of_classes(true: Any, predicted: Any, probabilities: Any, classes: Any) -> dict[str, float]:
    """Scores of predicted labels (n,), and of probabilities (n, n_classes) where there are some.

    "accuracy"; "balanced_accuracy", the mean of the classes' shares that are found; "log_loss", -1/n sum log p of the
    true class; "auc", of two classes: how often the second one has the higher probability in a pair of both.
    """
    labels, found = keys(true), keys(predicted)
    right = labels == found
    scores = {
        "accuracy": float(right.mean()),
        "balanced_accuracy": float(np.mean([right[labels == each].mean() for each in np.unique(labels)])),
    }
    if probabilities is not None:
        known = keys(classes)
        of_true = np.where(labels[:, None] == known, probabilities, 0.0).sum(axis=1, dtype=np.float64)
        scores["log_loss"] = float(-np.log(np.maximum(of_true, _LEAST)).mean())
        if len(known) == 2:
            scores["auc"] = _auc(labels == known[1], np.asarray(probabilities[:, 1], np.float64))
    return scores


def _auc(positive: NDArray[np.bool_], values: NDArray[np.float64]) -> float:
    """The area under the ROC curve by ranks, equal values sharing theirs; NaN where a class has no row."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    n = int(positive.sum())
    pairs = n * (len(values) - n)
    return float((ranks[positive].sum() - n * (n + 1) / 2) / pairs) if pairs else float("nan")


def of_numbers(true: Any, predicted: Any) -> dict[str, float]:
    """Scores of predicted numbers (n,): "r2", "rmse" and "mae"; r2 is NaN where all true ones are equal."""
    y = np.asarray(true, np.float64)
    errors = np.asarray(predicted, np.float64) - y
    total = float(np.square(y - y.mean()).sum())
    squares = float(np.square(errors).sum())
    return {
        "r2": 1 - squares / total if total > 0 else float("nan"),
        "rmse": float(np.sqrt(squares / len(y))),
        "mae": float(np.abs(errors).mean()),
    }
