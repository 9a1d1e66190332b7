"""Samples with dropout: their mean, their spread, their bits. A Gaussian's deviations are in `test_gaussian`."""

import inspect
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy import sparse

from fastnn import Dense, LayerNorm, Model
from fastnn.network import inference, threads

rng = np.random.default_rng(7)


def linear_head(n_out=3, **options):
    """A model whose outputs are sums over its hidden neurons, of which each is dropped or not."""
    return Model([5, Dense(40, "tanh"), Dense(n_out, "identity")], rng=0, **options)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("how", ["row-major", "feature-major"])
@pytest.mark.parametrize("n", [1, 2, 37])
def test_mean_and_variance(n, how, dtype, orientation):
    """A neuron's part w a becomes 0 or w a / (1 - p): the variance is the sum of p / (1 - p) (w a)^2."""
    orientation(how)
    model, X, samples = linear_head(dtype=dtype), rng.standard_normal((n, 5)), 4000
    drawn = model.predict(X, dropout=0.3, samples=samples, rng=1)
    assert (drawn.shape, drawn.dtype) == ((samples, n, 3), dtype)
    parts = model.hidden_activations(X)[0][:, None, :] * model.weights[1]
    variances = 0.3 / 0.7 * (parts.astype("f8") ** 2).sum(axis=-1)
    errors = (drawn.mean(axis=0, dtype="f8") - model.predict(X)) / np.sqrt(variances / samples)
    assert np.abs(errors).max() < 5
    np.testing.assert_allclose(drawn.var(axis=0, dtype="f8"), variances, rtol=0.15)


def test_samples_are_independent():
    """No two samples, and no two rows of a sample, drop the same neurons."""
    drawn = linear_head().predict(np.ones((20, 5)), dropout=0.5, samples=30, rng=0)
    assert len(np.unique(drawn.reshape(600, 3), axis=0)) == 600
    spread = np.corrcoef(drawn[:, :, 0].T) - np.eye(20)
    assert np.abs(spread).max() < 0.75


@pytest.mark.parametrize("limit", [1, 45, 10**9])
def test_a_seed_gives_the_same_samples(limit, monkeypatch):
    """However many samples have a key: the limit of its numbers is that of the hash, 2^32."""
    monkeypatch.setattr(inference, "DRAWN_COUNTERS", limit * 40)
    model, X = linear_head(), rng.standard_normal((9, 5))
    drawn = model.predict(X, dropout=0.3, samples=12, rng=3)
    np.testing.assert_array_equal(drawn, model.predict(X, dropout=[0.3], samples=12, rng=np.random.default_rng(3)))
    assert len(np.unique(drawn[:, 0, 0])) == 12
    assert (drawn != model.predict(X, dropout=0.3, samples=12, rng=4)).all()
    assert (model.predict(X, dropout=0.3, samples=2) != model.predict(X, dropout=0.3, samples=2)).all()


@pytest.mark.parametrize("n", [1, 600])
def test_threads_and_the_kinds_of_rows_keep_the_bits(n, monkeypatch):
    """Frames of floats, sparse rows and rows that lie apart give the samples of an array."""
    monkeypatch.setattr(threads, "PARALLEL_MULTIPLY_ADDS", 0)
    model, X = linear_head(), rng.integers(0, 3, (n, 5)).astype(np.float32)
    options = {"dropout": 0.2, "samples": 7, "rng": 2}
    drawn = model.predict(X, threads=1, **options)
    for other in (X.astype(np.uint8), np.asfortranarray(X), sparse.csr_array(X), X.tolist()):
        np.testing.assert_array_equal(model.predict(other, **options), drawn)
    np.testing.assert_array_equal(model.predict(X, threads=2, **options), drawn)


def test_nothing_dropped_is_a_prediction():
    model, X = linear_head(), rng.standard_normal((30, 5))
    want = np.repeat(model.predict(X)[None], 3, axis=0)
    for dropout in (0, 0.0, [0.0]):
        np.testing.assert_array_equal(model.predict(X, dropout=dropout, samples=3), want)
    assert model.predict(X, dropout=0.1).shape == (50, 30, 3)


def test_each_hidden_layer_has_its_rate():
    """With the second layer's outputs alone dropped, and others in between, only its part of the sum varies."""
    layers = [5, Dense(6, "relu"), LayerNorm(), Dense(8, "tanh"), Dense(2, "softmax")]
    model, X = Model(layers, loss="cross_entropy", rng=0), rng.standard_normal((4, 5))
    drawn = model.predict(X, dropout=[0.0, 0.5], samples=200, rng=0)
    np.testing.assert_allclose(drawn.sum(axis=2), 1, rtol=1e-6)
    hidden, (W, b) = model.hidden_activations(X)[-1], (model.weights[-1], model.biases[-1])
    logits = np.log(drawn[:, :, 0]) - np.log(drawn[:, :, 1])  # b and the sum over those that are left, twice as large
    part = 2 * hidden * (W[0] - W[1])
    combinations = ((np.arange(2**8)[:, None] >> np.arange(8)) & 1).astype(np.float32)
    possible = combinations @ part.T + (b[0] - b[1])  # (2^8, 4)
    nearest = np.abs(logits[:, None, :] - possible[None]).min(axis=1)
    assert nearest.max() < 1e-4


def test_deviations_of_samples():
    """Both at once: each sample has its means and its deviations."""
    model = Model([3, 8, 4], output="identity", loss="gaussian", rng=0)
    X = rng.standard_normal((6, 3))
    outputs = model.predict(X, dropout=0.2, samples=5, rng=0)
    means, deviations = model.predict(X, dropout=0.2, samples=5, rng=0, return_std=True)
    np.testing.assert_array_equal(means, outputs[..., :2])
    np.testing.assert_allclose(deviations, np.sqrt(np.exp(outputs[..., 2:]) + 1e-6), rtol=1e-6)


def test_the_options_are_stated():
    names = ["self", "X", "threads", "return_std", "dropout", "samples", "rng"]
    parameters = inspect.signature(Model.predict).parameters
    assert list(parameters) == names
    assert {parameters[name].kind for name in names[2:]} == {inspect.Parameter.KEYWORD_ONLY}


def test_calls_at_the_same_time():
    """Each has the samples of its seed."""
    model, X = linear_head(), rng.standard_normal((3, 5))
    want = [model.predict(X, dropout=0.3, samples=20, rng=seed) for seed in range(40)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda seed: model.predict(X, dropout=0.3, samples=20, rng=seed), range(40)))
    finally:
        sys.setswitchinterval(interval)
    np.testing.assert_array_equal(found, want)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"dropout": 1.0}, ValueError, "dropout must be a finite number at least 0 and below 1, got 1.0"),
        ({"dropout": [0.1, 0.2]}, ValueError, "dropout must be a number, or one a hidden layer, 1"),
        ({"dropout": 0.1, "samples": 0}, ValueError, "samples must be at least 1, got 0"),
        ({"dropout": 0.1, "rng": -1}, ValueError, "rng must be at least 0, got -1"),
        ({"dropout": 0.1, "threads": 0}, ValueError, "threads must be at least 1, got 0"),
        ({"samples": 5}, ValueError, "samples needs dropout, got dropout=None"),
        ({"rng": 5}, ValueError, "rng needs dropout, got dropout=None"),
        ({"return_std": 1}, TypeError, "return_std must be True or False, got 1"),
        ({"seed": 1}, TypeError, r"predict\(\) got an unexpected keyword argument 'seed'"),
    ],
)
def test_wrong_options(options, error, match):
    with pytest.raises(error, match=match):
        linear_head().predict(np.zeros((2, 5)), **options)
