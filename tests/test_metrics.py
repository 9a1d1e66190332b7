"""Metrics against scikit-learn's."""

import functools

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, r2_score

from fastnn import Model, metrics


def test_accuracy():
    rng = np.random.default_rng(0)
    true, predicted = rng.integers(0, 3, (2, 100))
    assert metrics.accuracy(true, predicted) == accuracy_score(true, predicted)
    assert metrics.accuracy(true, true) == 1


@pytest.mark.parametrize("shape", [(50, 1), (50, 4), (50,)])
def test_r2(shape):
    true, predicted = np.random.default_rng(0).normal(size=(2, *shape))
    assert metrics.r2(true, predicted) == pytest.approx(r2_score(true, predicted), rel=1e-12)


def test_r2_of_constant_targets():
    true = np.ones((5, 2))
    for predicted in (np.ones((5, 2)), np.zeros((5, 2)), np.ones((5, 2)) * [1, 0]):
        assert metrics.r2(true, predicted) == r2_score(true, predicted)


def test_r2_does_not_lose_small_spreads_in_float32():
    true = (1000 + np.linspace(0, 0.5, 64)).astype(np.float32)[:, None]
    predicted = true + np.float32(2**-10)
    assert metrics.r2(true, predicted) == pytest.approx(
        r2_score(true.astype(float), predicted.astype(float)), rel=1e-12
    )


def test_r2_of_integer_classes_does_not_overflow():
    true = np.array([0, 2**30, 5], np.int32)
    predicted = np.array([2**31 - 1, -(2**30), 5])
    assert metrics.r2(true, predicted) == pytest.approx(r2_score(true.astype(float), predicted.astype(float)))


def test_a_metric_without_a_name():
    score = functools.partial(lambda y_true, y_pred, scale: scale * np.mean(y_true == y_pred), scale=100)
    result = Model([2, 2], init="zeros").evaluate([[0, 1], [1, 0]], [0, 1], metric=score)
    assert result == {"loss": 0.25, "metric": 50.0}


def test_r2_of_huge_targets():
    """Their squares overflow, and the mean of equal ones is not exact."""
    true, predicted = np.random.default_rng(0).normal(size=(2, 50, 2))
    expected = pytest.approx(r2_score(true, predicted), rel=1e-12)
    assert metrics.r2(1e200 * true, 1e200 * predicted) == expected
    assert metrics.r2(true, predicted, np.full(50, 1e300)) == expected
    assert (
        metrics.r2(np.array([[1.0], [2.0], [3.0]]), np.array([[1.0], [2.0], [1e300]]), np.array([1.0, 1.0, 0.0])) == 1
    )
    assert metrics.r2(np.full((12, 1), 1e200), predicted[:12, :1]) == 0
    assert metrics.r2(np.full((12, 1), 0.1), np.full((12, 1), 0.1)) == 1


def test_r2_of_outputs_about_to_overflow():
    assert metrics.r2(np.array([[0.0], [1.0]]), np.array([[1e200], [1e200]])) == -np.inf
