"""What `Model.fit` does against overfitting: l1, max_norm, dropout, input noise, label smoothing, clipped gradients.

`tests/test_schedule.py` compares the kernels with the reference.
"""

import copy

import numpy as np
import pytest

from fastnn import LBFGS, SGD, Adam, Dense, Model, threads

rng = np.random.default_rng(5)
X = rng.standard_normal((90, 6))
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 1)
ALL = {"l1": 1e-3, "max_norm": 2.0, "dropout": [0.3, 0.2], "input_noise": 0.2, "label_smoothing": 0.1}


def new(**options):
    layers = [6, Dense(20, "relu"), Dense(11, "tanh"), Dense(3, "softmax")]
    return Model(layers, **{"loss": "cross_entropy", "rng": 0} | options)


def test_l1_is_part_of_the_loss_and_makes_weights_zero():
    model = Model([6, 3], output="identity", dtype="float64", rng=0)
    start = sum(np.abs(w).sum() for w in model.weights)
    plain = copy.deepcopy(model)
    targets = X[:, :3] * [1, 1, 0]
    loss = model.fit(X, targets, epochs=1, batch_size=90, l1=0.2).loss[0]
    assert loss == pytest.approx(plain.fit(X, targets, epochs=1, batch_size=90).loss[0] + 0.2 * start, rel=1e-12)
    model.fit(X, targets, epochs=2000, batch_size=90, optimizer=SGD(0.05), l1=0.2)
    # The optimum of each weight is that without a penalty, 0.2 / E[x^2] nearer to zero, or zero.
    want = np.zeros((3, 6))
    want[[0, 1], [0, 1]] = 1
    assert np.abs(model.weights[0] - want * 0.8).max() < 0.1
    assert np.abs(model.weights[0][2]).max() < 0.02


def test_norms_stay_within_max_norm():
    model = new()
    model.fit(X, Y, epochs=10, batch_size=9, optimizer=Adam(0.02), max_norm=1.5)
    norms = np.concatenate([np.linalg.norm(w, axis=1) for w in model.weights])
    assert norms.max() == pytest.approx(1.5, rel=1e-6)
    assert norms.min() < 1.4


def test_dropout_is_off_outside_training():
    """The mean of many batches' losses is nearer to the expected one than dropout moves each."""
    model = Model([6, 40, 1], activation="identity", output="identity", dtype="float64", init="normal", rng=0)
    targets = np.zeros(90)
    exact = model.predict(X)[:, 0]
    w1, w2 = model.weights
    hidden = X @ w1.T + model.biases[0]
    variance = (hidden**2 * w2[0] ** 2).sum(1)  # of a sum of independent terms, of which half stay, doubled
    history = model.fit(X, targets, epochs=400, batch_size=90, optimizer=SGD(1e-12), dropout=0.5)
    want = (exact**2 + variance) / 2
    assert np.mean(history.loss) == pytest.approx(want.mean(), rel=0.05)
    np.testing.assert_allclose(model.predict(X)[:, 0], exact, rtol=1e-6)


@pytest.mark.parametrize("noise", [0.5, 2.0])
def test_noise_has_its_deviation(noise):
    model = Model([6, 1], output="identity", dtype="float64", init="normal", rng=0)
    clean = model.predict(X)[:, 0]
    history = model.fit(X, clean, epochs=400, batch_size=90, optimizer=SGD(1e-12), input_noise=noise)
    want = noise**2 * (model.weights[0] ** 2).sum() / 2
    assert np.mean(history.loss) == pytest.approx(want, rel=0.05)


@pytest.mark.parametrize("optimizer", [Adam(0.01, clip_norm=0.5), SGD(0.1, clip_value=0.05), SGD(0.1)], ids=repr)
@pytest.mark.parametrize("batch_size", [1, 20, 90])
def test_two_fits_are_one(batch_size, optimizer):
    """Also of a copy between them: what draws dropout and noise is part of the model."""
    once, parts = new(), new()
    options = {"batch_size": batch_size, "optimizer": optimizer, **ALL}
    losses = once.fit(X, Y, epochs=6, **options).loss
    first = parts.fit(X, Y, epochs=2, **options).loss
    parts = copy.deepcopy(parts)
    assert first + parts.fit(X, Y, epochs=4, **options).loss == losses
    np.testing.assert_array_equal(once.parameters, parts.parameters)


def test_each_batch_and_each_seed_drop_others():
    losses = {
        tuple(new(rng=seed).fit(X, Y, epochs=1, batch_size=90, dropout=0.5, shuffle=False).loss) for seed in (0, 1)
    }
    assert len(losses) == 2
    still = new().fit(X, Y, epochs=3, batch_size=90, dropout=0.5, optimizer=SGD(1e-30)).loss
    assert len(set(still)) == 3


def test_threads_change_no_bit(monkeypatch):
    """With threads forced, whatever the machine has."""
    monkeypatch.setattr(threads, "available_threads", lambda: 2)
    monkeypatch.setattr(threads, "FIT_MULTIPLY_ADDS", 0)
    monkeypatch.setattr(threads.ThreadTuner, "choose", lambda self: (self.threads, 1.0))
    models = [Model([64, Dense(256, "relu"), Dense(10, "softmax")], loss="cross_entropy", rng=0) for _ in range(2)]
    samples, labels = rng.standard_normal((512, 64)), rng.integers(0, 10, 512)
    options = {"epochs": 3, "batch_size": 128, "optimizer": Adam(clip_norm=0.3), "dropout": 0.4, "max_norm": 1.0}
    losses = [
        model.fit(samples, labels, threads=count, l1=1e-4, **options).loss
        for model, count in zip(models, (1, 2), strict=True)
    ]
    assert losses[0] == losses[1]
    np.testing.assert_array_equal(models[0].parameters, models[1].parameters)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"l1": -1}, "l1 must be a finite number at least 0, got -1"),
        ({"max_norm": 0}, "max_norm must be a finite number above 0, got 0"),
        ({"dropout": 1.0}, "dropout must be a finite number at least 0 and below 1, got 1.0"),
        ({"dropout": [0.5]}, r"dropout must be a number, or one a hidden layer, 2, got \[0.5\]"),
        ({"input_noise": float("nan")}, "input_noise must be a finite number at least 0, got nan"),
        ({"label_smoothing": 1}, "label_smoothing must be a finite number at least 0 and below 1, got 1"),
        ({"optimizer": LBFGS(), "batch_size": 90, "dropout": 0.5}, "optimizer LBFGS takes l2, but no l1"),
        ({"optimizer": LBFGS(), "batch_size": 90, "l1": 0.5}, "optimizer LBFGS takes l2, but no l1"),
    ],
)
def test_wrong_arguments(options, message, state):
    model = new()
    before = state(model)
    with pytest.raises(ValueError, match=message):
        model.fit(X, Y, **{"epochs": 1, "batch_size": 10} | options)
    assert state(model) == before


def test_label_smoothing_needs_cross_entropy():
    with pytest.raises(ValueError, match="label_smoothing needs the loss 'cross_entropy', got 'quadratic'"):
        Model([6, 3]).fit(X, Y, epochs=1, batch_size=10, label_smoothing=0.1)


def test_no_hidden_layer_takes_no_dropout():
    with pytest.raises(ValueError, match="dropout must be a number, or one a hidden layer, 0"):
        Model([6, 3]).fit(X, Y, epochs=1, batch_size=10, dropout=[0.1])
    Model([6, 3]).fit(X, Y, epochs=1, batch_size=10, dropout=0.1)  # there is nothing to drop


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(0.1, clip_norm=0), "clip_norm must be a finite number above 0, got 0"),
        (lambda: Adam(clip_value=-1), "clip_value must be a finite number above 0, got -1"),
        (lambda: Adam(clip_value=1, clip_norm=2), "clip_value and clip_norm exclude each other, got 1.0 and 2.0"),
    ],
)
def test_wrong_clips(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_clip_is_shown():
    assert repr(SGD(0.1)) == "SGD(learning_rate=0.1)"
    assert repr(SGD(0.1, clip_norm=2)) == "SGD(learning_rate=0.1, clip_norm=2.0)"
