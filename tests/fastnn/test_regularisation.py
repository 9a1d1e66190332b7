"""The rules of `Model.fit`: l1, max_norm, dropout, input noise, label smoothing, clipped gradients, min_derivative.

`tests/kernels/test_training_programs.py` compares the kernels with the reference.
"""

import copy

import numpy as np
import pytest

from fastnn import LBFGS, SGD, Adam, Dense, LevenbergMarquardt, Model, Rprop, Stream
from fastnn.kernels import reference
from fastnn.network import threads
from fastnn.training import thread_tuner

rng = np.random.default_rng(5)
X = rng.standard_normal((90, 6))
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 1)
ALL = {"l1": 1e-3, "max_norm": 2.0, "dropout": [0.3, 0.2], "input_noise": 0.2, "label_smoothing": 0.1}
ALL |= {"min_derivative": 0.1}


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
    monkeypatch.setattr(thread_tuner.ThreadTuner, "choose", lambda self: (self.threads, 1.0))
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
        ({"min_derivative": 1.0}, "min_derivative must be a finite number at least 0 and below 1, got 1"),
        ({"min_derivative": -0.1}, "min_derivative must be a finite number at least 0 and below 1, got -0.1"),
        (
            {"optimizer": LBFGS(), "batch_size": 90, "min_derivative": 0.1},
            "LBFGS takes l2, but no .* or min_derivative",
        ),
        (
            {"optimizer": LevenbergMarquardt(), "batch_size": 90, "min_derivative": 0.1},
            "LevenbergMarquardt takes l2, but no .* or min_derivative",
        ),
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


@pytest.mark.parametrize(
    ("model", "frozen"),
    [
        (lambda: Model([6, Dense(5, "relu"), Dense(3, "softmax")], loss="cross_entropy"), []),
        (lambda: Model([6, 3], loss="cross_entropy"), []),  # whose derivative cancels
        (lambda: Model([6, Dense(5, "tanh"), Dense(3, "identity")]), [0]),
        (lambda: Model([6, 3]), [0]),
    ],
)
def test_min_derivative_needs_a_derivative_of_a_sigmoid_or_tanh(model, frozen, state):
    made = model()
    made.freeze(frozen)
    before = state(made)
    with pytest.raises(ValueError, match="min_derivative needs a layer of 'sigmoid' or 'tanh' that trains"):
        made.fit(X, Y, epochs=1, batch_size=10, min_derivative=0.1)
    assert state(made) == before


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch_size", [1, 7, 64, 90])
@pytest.mark.parametrize("frozen", [[], [0], [1], [0, 2]])
@pytest.mark.parametrize(("hidden", "output"), [("sigmoid", "tanh"), ("tanh", "sigmoid"), ("relu", "sigmoid")])
def test_a_step_with_min_derivative(hidden, output, frozen, batch_size, dtype):
    """By the reference's deltas, of the first batch; where all is saturated, the plain step is far smaller."""
    model = Model([6, 20, 11, 3], activation=hidden, output=output, dtype=dtype, init="normal", rng=0)
    model.freeze(frozen)
    plain, rows = copy.deepcopy(model), slice(0, batch_size)
    layers = [
        (w.T.astype("f8"), b.astype("f8"), layer.activation)
        for w, b, layer in zip(model.weights, model.biases, model.layers, strict=True)
    ]
    targets = np.eye(3)[Y]
    _, want = reference.gradients(layers, X[rows].astype(dtype).astype("f8"), targets[rows], share=0.3)
    options = {"epochs": 1, "batch_size": batch_size, "optimizer": SGD(0.1), "shuffle": False}
    model.fit(X[rows], Y[rows], min_derivative=0.3, **options)
    plain.fit(X[rows], Y[rows], **options)
    assert (model.weights[1] != plain.weights[1]).any() == (1 not in frozen)
    for i, (w, b, (dw, db)) in enumerate(zip(model.weights, model.biases, want, strict=True)):
        before, share = layers[i], 0 if i in frozen else 0.1 / batch_size
        np.testing.assert_allclose(w.T, before[0] - share * dw, atol=2e-6 if dtype == "float32" else 1e-13)
        np.testing.assert_allclose(b, before[1] - share * db, atol=2e-6 if dtype == "float32" else 1e-13)


def test_min_derivative_leaves_all_but_training_as_it_is(tmp_path):
    """gradients, loss and predictions; what is saved; a further fit without it; partial_fit."""
    model, plain = (Model([6, 20, 3], rng=0) for _ in range(2))
    model.fit(X, Y, epochs=1, batch_size=90, min_derivative=0.3)
    for w, other in zip(plain.weights + plain.biases, model.weights + model.biases, strict=True):
        w[...] = other
    assert model.loss(X, Y) == plain.loss(X, Y)
    for pair, other in zip(model.gradients(X, Y), plain.gradients(X, Y), strict=True):
        for got, want in zip(pair, other, strict=True):
            np.testing.assert_array_equal(got, want)
    for each in (model, plain):
        each.fit(X, Y, epochs=1, batch_size=90, shuffle=False)
        each.partial_fit(X, Y)
    np.testing.assert_array_equal(model.parameters, plain.parameters)


@pytest.mark.filterwarnings("ignore:training may be stuck:UserWarning")  # labels are drawn
@pytest.mark.parametrize(
    "options", [{"optimizer": Rprop(), "batch_size": 512}, {"optimizer": Adam(), "batch_size": 128}, {"batch_size": 32}]
)
def test_min_derivative_has_the_same_bits_on_threads_and_in_a_stream(options, monkeypatch):
    monkeypatch.setattr(threads, "available_threads", lambda: 2)
    monkeypatch.setattr(threads, "FIT_MULTIPLY_ADDS", 0)
    monkeypatch.setattr(thread_tuner.ThreadTuner, "choose", lambda self: (self.threads, 1.0))
    samples, labels = rng.standard_normal((512, 64)).astype("f4"), rng.integers(0, 10, 512)
    options = {"epochs": 3, "min_derivative": 0.2, "dropout": 0.2, "shuffle": False} | options
    results = []
    for count in (1, 2):
        model = Model([64, Dense(256, "tanh"), 10], init="normal", rng=0)
        results.append((model.fit(samples, labels, threads=count, **options).loss, model.parameters.tobytes()))
    assert results[0] == results[1]
    if not isinstance(options.get("optimizer"), Rprop):
        parts = [slice(0, 256), slice(256, 512)]
        model = Model([64, Dense(256, "tanh"), 10], init="normal", rng=0)
        model.fit(Stream([(samples[part], labels[part]) for part in parts]), **options)
        assert model.parameters.tobytes() == results[0][1]


@pytest.mark.parametrize("loss", ["quadratic", "arctanh_error"])
def test_min_derivative_brings_back_what_is_at_the_wrong_end(loss):
    """Outputs of e^-12, which the plain derivative all but leaves where they are."""
    accuracies = []
    for share in (0.0, 0.0396):
        model = Model([2, 2], loss=loss, init="zeros", rng=0)
        model.weights[0][...] = [[-12, 12], [12, -12]]
        labels = np.arange(100) % 2
        model.fit(np.eye(2)[labels], labels, epochs=400, batch_size=100, optimizer=SGD(20.0), min_derivative=share)
        accuracies.append(model.evaluate(np.eye(2)[labels], labels)["accuracy"])
    assert accuracies == [0, 1]


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
