"""The range test of learning rates, against a loop of single steps at constant rates."""

import pickle

import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.sparse

import fastnn
from fastnn import LBFGS, SGD, DivergenceError, Model, find_learning_rate


def found_by_hand(model, X, y, batch_size, low, high, steps):
    """(rates, losses, smoothed) by SGD with a constant rate a step."""
    twin, random = pickle.loads(pickle.dumps(model)), np.random.default_rng(0)
    rates = np.geomspace(low, high, steps).tolist()
    losses, smoothed, order = [], [], []
    for rate in rates:
        if len(order) < batch_size:
            order = random.permutation(len(X)).tolist()
        rows, order = order[:batch_size], order[batch_size:]
        losses.append(twin.partial_fit(X[rows], y[rows], optimizer=SGD(rate)))
        weights = 0.9 ** np.arange(len(losses))[::-1]
        smoothed.append(float(weights @ losses / weights.sum()))
        if smoothed[-1] > 4 * min(smoothed):
            break
    return rates[: len(losses)], losses, smoothed


@pytest.mark.parametrize(("steps", "high", "ends_early"), [(30, 1.0, False), (60, 1000.0, True)])
def test_a_step_at_each_rate(steps, high, ends_early):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(50, 4)), rng.normal(size=50)
    model = Model([4, fastnn.Dense(8, "tanh"), 1], output="identity", dtype="float64", rng=0)
    model.fit(X, y, epochs=1, batch_size=10, optimizer="adam")
    before = pickle.dumps(model)
    found = find_learning_rate(model, X, y, batch_size=16, low=1e-4, high=high, steps=steps)
    assert pickle.dumps(model) == before
    rates, losses, smoothed = found_by_hand(model, X, y, 16, 1e-4, high, steps)
    assert (len(rates) < steps) == ends_early
    for values, expected in ((found.rates, rates), (found.losses, losses), (found.smoothed, smoothed)):
        np.testing.assert_allclose(values, expected, rtol=1e-9)
    assert found.suggestion == pytest.approx(max(1e-4, rates[int(np.argmin(smoothed))] / 10))


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam", "rmsprop"])
def test_its_suggestion_trains(optimizer):
    """Far better than a rate of a hundredth."""
    X, y = fastnn.load_digits()
    layers = [64, fastnn.Dense(32, "relu"), fastnn.Dense(10, "softmax")]
    make = {name.lower(): getattr(fastnn, name) for name in ("SGD", "Momentum", "Adam", "RMSprop")}[optimizer]

    def loss(rate):
        model = Model(layers, loss="cross_entropy", rng=0)
        return model.fit(X, y, epochs=3, batch_size=32, optimizer=make(rate)).loss[-1]

    model = Model(layers, loss="cross_entropy", rng=0)
    rate = find_learning_rate(model, X, y, batch_size=32, optimizer=optimizer).suggestion
    assert loss(rate) < 0.5 < loss(rate / 100)


def test_training_that_diverges_ends_the_test():
    X = np.linspace(-1, 1, 40)[:, None]
    model = Model([1, 1], output="identity", rng=0)
    found = find_learning_rate(model, X, 2 * X, batch_size=10, low=1e-3, high=1e25, steps=40)
    assert 1 < len(found.rates) == len(found.losses) == len(found.smoothed) < 40
    with pytest.raises(DivergenceError):
        find_learning_rate(model, X, 1e30 * X, batch_size=10, low=1e10, high=1e20)


def test_kinds_of_samples():
    rng = np.random.default_rng(0)
    X = np.where(rng.random((30, 4)) < 0.5, 0, rng.normal(size=(30, 4)))
    model = Model([4, 2], rng=0)
    results = [
        find_learning_rate(model, data, labels, batch_size=40, steps=5).losses
        for data in (X, scipy.sparse.coo_array(X), X.tolist())
        for labels in (np.arange(30) % 2, np.eye(2)[np.arange(30) % 2])
    ]
    assert all(losses == results[0] for losses in results)


def test_its_plot():
    found = fastnn.rate_search.LearningRates([0.1, 1.0], [3.0, 2.0], [3.0, 2.4], 0.1)
    _, axes = plt.subplots(1, 2)
    assert found.plot(axes[1]) is axes[1]
    curves = {line.get_label(): (line.get_xdata(), line.get_ydata()) for line in found.plot().get_lines()}
    plt.close("all")
    assert list(curves) == ["loss", "smoothed", "suggestion 0.1"]
    np.testing.assert_array_equal(curves["loss"], ([0.1, 1.0], [3.0, 2.0]))
    np.testing.assert_array_equal(curves["smoothed"], ([0.1, 1.0], [3.0, 2.4]))
    assert list(curves["suggestion 0.1"][0]) == [0.1, 0.1]


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"model": 3}, TypeError, "model must be a Model, got 3"),
        ({"X": [[1.0]]}, ValueError, r"X must have shape \(n, 2\), got \(1, 1\)"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ({"optimizer": LBFGS()}, ValueError, "optimizer LBFGS takes no steps by batches"),
        ({"low": 0}, ValueError, "low must be a finite number above 0, got 0"),
        ({"low": 2, "high": 1}, ValueError, r"high must be a finite number above 2 and below 2e\+30, got 1"),
        ({"steps": 1}, ValueError, "steps must be at least 2, got 1"),
    ],
)
def test_bad_arguments(arguments, error, match):
    usual = {"model": Model([2, 1], rng=0), "X": [[0.0, 1.0], [1.0, 0.0]], "y": [0, 1], "batch_size": 1}
    with pytest.raises(error, match=match):
        find_learning_rate(**usual | arguments)


def test_losses_below_zero():
    """A likelihood's loss may be negative: a rise of it is measured by how far it fell."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((600, 3))
    y = X[:, 0] + 0.01 * rng.standard_normal(600)
    model = Model([3, 16, 2], activation="tanh", output="identity", loss="gaussian", rng=0)
    model.fit(X, y, epochs=50, batch_size=32, optimizer="adam")
    found = find_learning_rate(model, X, y, batch_size=32, optimizer="adam")
    assert found.losses[0] < -1
    assert len(found.losses) > 40
    assert found.smoothed[-1] > min(found.smoothed) + 1
    assert 1e-6 <= found.suggestion < 0.01
