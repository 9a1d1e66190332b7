"""The fit loop: against a naive SGD, its promises about bits, validation, callbacks, divergence, interruption."""

import functools
import os
import threading
import time
import warnings

import numpy as np
import pytest

import fastnn
from fastnn import SGD, Adam, Dense, DivergenceError, History, Model, Momentum
from fastnn.checks import calls
from fastnn.kernels.programs import training_programs
from fastnn.training import trainers
from fastnn.training.step import Stepper
from fastnn.training.steps import Steps

from ..twin import Twin

DTYPES = ["float32", "float64"]
TOLERANCE = {"float32": 1e-4, "float64": 1e-11}


def bits(model):
    return model.parameters.tobytes()


def orders(epochs, n, seed=0):
    rng = np.random.default_rng(seed)
    return np.array([rng.permutation(n) for _ in range(epochs)])


@pytest.fixture(params=["as is", "one step a call"])
def chunks(request, short_calls):
    """Runs a test once more with kernel calls of a single step."""
    if request.param != "as is":
        short_calls()


# ---- the algorithm ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("sizes", "activation", "output", "n", "batch_size"),
    [
        ([3, 1], "sigmoid", "sigmoid", 10, 1),
        ([5, 7, 3], "sigmoid", "sigmoid", 23, 1),
        ([5, 7, 3], "tanh", "tanh", 23, 4),
        ([1, 18, 1], "tanh", "identity", 40, 7),
        ([20, 33, 16, 4], "relu", "sigmoid", 50, 10),
        ([64, 30, 10], "sigmoid", "sigmoid", 101, 10),
        ([9, 4, 2], "identity", "identity", 31, 31),
        ([9, 4, 2], "sigmoid", "relu", 31, 1000),
        ([4, 8, 8, 3], "tanh", "identity", 230, 64),
        ([4, 8, 8, 3], "gelu", "identity", 230, 64),
        ([20, 33, 16, 4], "gelu", "gelu", 50, 10),
        ([5, 7, 3], "gelu", "gelu", 23, 1),
        ([2, 3, 1], "relu", "sigmoid", 200, 100),
        ([3, 5, 4], "sigmoid", "tanh", 2300, 1100),
        ([6, 40, 3], "tanh", "sigmoid", 3000, 1100),
        ([6, 40, 3], "tanh", "sigmoid", 2500, 2500),
    ],
)
def test_fit_is_plain_sgd(sizes, activation, output, n, batch_size, dtype):
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(n, sizes[0])), rng.random(size=(n, sizes[-1]))
    model = Model(sizes, activation=activation, output=output, dtype=dtype, rng=1)
    twin, order = Twin(model), orders(3, n)
    history = model.fit(X, Y, epochs=3, batch_size=batch_size, shuffle=order, optimizer=SGD(0.2))
    losses = twin.sgd(X, Y, order, batch_size, 0.2)
    assert twin.relative_error(model) < TOLERANCE[dtype]
    assert history.loss == pytest.approx(losses, rel=TOLERANCE[dtype])


def test_class_indices_are_one_hot_targets(blobs):
    X, y = blobs
    models = [Model([6, 9, 3], rng=0) for _ in range(3)]
    for model, target in zip(models, (y, fastnn.one_hot(y, 3), y[:, None]), strict=True):
        model.fit(X, target, epochs=2, batch_size=7)
    assert len({bits(model) for model in models}) == 1


def test_one_output_takes_targets_of_shape_n_or_n_1():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 4)), rng.normal(size=30)
    first, second = (Model([4, 9, 1], output="identity", rng=0) for _ in range(2))
    twin, order = Twin(first), orders(2, 30)
    for model, target in ((first, y), (second, y[:, None])):
        model.fit(X, target, epochs=2, batch_size=4, shuffle=order)
    twin.sgd(X, y[:, None], order, 4, 0.1)
    assert bits(first) == bits(second)
    assert twin.relative_error(first) < 1e-4


def test_the_loss_is_taken_before_each_update():
    """With one batch an epoch it is the loss of the parameters as they were."""
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(20, 4)), rng.random(size=(20, 2))
    model = Model([4, 9, 2], dtype="float64", rng=0)
    expected = []
    model.fit(X, Y, epochs=0, batch_size=20)
    for _ in range(4):
        expected.append(Twin(model).losses(X, Y).mean())
        model.fit(X, Y, epochs=1, batch_size=20, shuffle=False, optimizer=SGD(1.0))
        assert model.history.loss == pytest.approx(expected[-1:], rel=1e-13)


@pytest.mark.parametrize("batch_size", [1, 7, 100, 1400])
@pytest.mark.parametrize("n", [300, 12_000])  # samples of 7 KiB, and more than are read without being prefetched
def test_shuffle_false_is_the_order_of_x(n, batch_size, blobs):
    X, y = (np.tile(array.T, n // 300).T for array in blobs)
    first, second = Model([6, 9, 3], rng=0), Model([6, 9, 3], rng=0)
    first.fit(X, y, epochs=2, batch_size=batch_size, shuffle=False)
    second.fit(X, y, epochs=2, batch_size=batch_size, shuffle=np.tile(np.arange(n), (2, 1)))
    assert bits(first) == bits(second)
    assert first.history.loss == second.history.loss


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint16", ">i8"])
def test_the_order_may_be_of_any_integer_type(dtype, blobs):
    X, y = blobs
    order = orders(2, 300)
    first, second = Model([6, 9, 3], rng=0), Model([6, 9, 3], rng=0)
    first.fit(X, y, epochs=2, batch_size=7, shuffle=order)
    second.fit(X, y, epochs=2, batch_size=7, shuffle=np.asfortranarray(order.astype(dtype)))
    assert bits(first) == bits(second)


def test_shuffle_true_visits_every_sample_once_in_a_new_order():
    """The bias falls with every sample of this network, so each weight's change tells when its sample was seen."""
    n, rate = 60, 1e-3
    model = Model([n, 1], output="identity", dtype="float64", init="zeros", rng=0)
    model.weights[0][...] = 1
    seen = []
    for _ in range(3):
        twin = Twin(model)
        model.fit(np.eye(n), np.zeros(n), epochs=1, batch_size=1, optimizer=SGD(rate))
        bias_then = (twin.weights[0] - model.weights[0])[0] / rate - twin.weights[0][0]
        order = np.argsort(-bias_then)
        twin.sgd(np.eye(n), np.zeros((n, 1)), [order], 1, rate)
        assert twin.relative_error(model) < 1e-13
        seen.append(tuple(order))
    assert len({*seen, tuple(range(n))}) == 4


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_uint8_with_input_scale_equals_scaled_floats(dtype, shuffle):
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 256, (70, 20), dtype=np.uint8), rng.integers(0, 3, 70)
    models = [Model([20, 18, 3], dtype=dtype, input_scale=scale, rng=0) for scale in (1 / 255, 1 / 255, 1 / 255, None)]
    scaled = X.astype(dtype) * np.array(1 / 255, dtype)
    for model, given in zip(models, (X, X.astype(dtype), X.astype(np.int16), scaled), strict=True):
        model.fit(given, y, epochs=3, batch_size=8, shuffle=shuffle, validation_data=(given, y))
    assert len({bits(model) for model in models}) == 1
    assert all(model.history.loss == models[0].history.loss for model in models)
    assert all(model.history.val_loss == models[0].history.val_loss for model in models)


def test_bools_are_zeros_and_ones():
    X = np.random.default_rng(0).random((40, 5)) > 0.5
    first, second = Model([5, 2], rng=0), Model([5, 2], rng=0)
    first.fit(X, X[:, 0], epochs=2, batch_size=3)
    second.fit(X.astype(float), X[:, 0].astype(int), epochs=2, batch_size=3)
    assert bits(first) == bits(second)


@pytest.mark.parametrize("optimizer", ["sgd", SGD(), SGD(0.1), SGD(learning_rate=np.float32(0.1))])
def test_the_default_optimizer_is_sgd_of_a_tenth(optimizer, blobs):
    first, second = Model([6, 9, 3], dtype="float32", rng=0), Model([6, 9, 3], dtype="float32", rng=0)
    first.fit(*blobs, epochs=1, batch_size=10)
    second.fit(*blobs, epochs=1, batch_size=10, optimizer=optimizer)
    np.testing.assert_allclose(first.parameters, second.parameters, rtol=1e-6, atol=1e-9)


# ---- the same bits ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", [{}, {"shuffle": False}, {"validation_fraction": 0.3}])
def test_two_fits_equal_one_longer_fit(dtype, options, blobs, chunks):
    X, y = blobs
    once, twice = Model([6, 9, 3], dtype=dtype, rng=0), Model([6, 9, 3], dtype=dtype, rng=0)
    whole = once.fit(X, y, epochs=5, batch_size=7, **options)
    first = twice.fit(X, y, epochs=2, batch_size=7, **options)
    second = twice.fit(X, y, epochs=3, batch_size=7, **options)
    assert bits(once) == bits(twice)
    assert once._network.random == twice._network.random
    assert whole.loss == first.loss + second.loss
    assert whole.val_loss == first.val_loss + second.val_loss


@pytest.mark.parametrize("shuffle", [True, False, "given"])
@pytest.mark.parametrize("batch_size", [1, 7, 300])
def test_how_calls_are_chunked_is_invisible(shuffle, batch_size, blobs, monkeypatch):
    X, y = blobs
    shuffle = orders(4, 300) if shuffle == "given" else shuffle
    models = []
    for first_call, seconds in ((calls.FIRST_CALL, calls.CALL_SECONDS), (0, 0), (20_000, 1e-5), (1e9, 10)):
        monkeypatch.setattr(calls, "FIRST_CALL", first_call)
        monkeypatch.setattr(calls, "CALL_SECONDS", seconds)
        models.append(Model([6, 9, 3], rng=0))
        models[-1].fit(X, y, epochs=4, batch_size=batch_size, shuffle=shuffle)
    assert len({bits(model) for model in models}) == 1
    assert len({model._network.random for model in models}) == 1
    assert len({tuple(model.history.loss) for model in models}) == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_place_of_the_samples_in_memory_changes_no_bits(dtype, blobs):
    X, y = blobs
    results = set()
    for start in range(4):
        space = np.empty(X.size + 4, dtype)
        shifted = space[start : start + X.size].reshape(X.shape)
        shifted[...] = X
        model = Model([6, 9, 3], dtype=dtype, rng=0)
        model.fit(shifted, y, epochs=2, batch_size=7)
        results.add((bits(model), model.predict(shifted).tobytes()))
    assert len(results) == 1


def test_watching_changes_no_bits(blobs):
    X, y = blobs
    plain, watched = Model([6, 9, 3], rng=0), Model([6, 9, 3], rng=0)
    plain.fit(X, y, epochs=3, batch_size=7)
    watched.fit(X, y, epochs=3, batch_size=7, validation_data=(X, y), callbacks=[lambda m: m.predict(X)], threads=1)
    assert bits(plain) == bits(watched)
    assert plain.history.loss == watched.history.loss


# ---- History and validation ----


def test_history_of_a_fit(blobs):
    X, y = blobs
    model = Model([6, 9, 3], rng=0)
    assert model.history is None
    start = time.perf_counter()
    history = model.fit(X, y, epochs=5, batch_size=7)
    elapsed = time.perf_counter() - start
    assert isinstance(history, History)
    assert model.history is history
    assert len(history.loss) == len(history.seconds) == 5
    assert all(type(value) is float for value in history.loss)
    assert history.val_loss == history.val_metric == []
    assert history.metric is None
    assert all(seconds > 0 for seconds in history.seconds)
    assert sum(history.seconds) <= elapsed
    assert model.fit(X, y, epochs=1, batch_size=7) is model.history
    assert len(model.history.loss) == 1
    assert len(history.loss) == 5


def test_no_epochs(blobs, state):
    model = Model([6, 9, 3], rng=0)
    before = state(model)
    history = model.fit(*blobs, epochs=0, batch_size=7, validation_data=blobs)
    assert history == History(metric="accuracy", metrics={"val_accuracy": []})
    assert state(model)[:2] == before[:2]


def test_validation_data_is_scored_after_each_epoch(blobs, chunks):
    X, y = blobs
    model, twin = Model([6, 9, 3], rng=0), Model([6, 9, 3], rng=0)
    held = X[:50] + 1, y[:50]
    history = model.fit(X, y, epochs=3, batch_size=7, validation_data=held)
    assert history.metric == "accuracy"
    for epoch in range(3):
        twin.fit(X, y, epochs=1, batch_size=7)
        assert twin.evaluate(*held) == {"loss": history.val_loss[epoch], "accuracy": history.val_metric[epoch]}
    assert len(history.val_loss) == len(history.val_metric) == len(history.seconds) == 3


def test_validation_metric(blobs):
    X, y = blobs
    Y = fastnn.one_hot(y, 3)
    model = Model([6, 9, 3], rng=0)
    assert model.fit(X, Y, epochs=1, batch_size=7, validation_data=[X, Y]).metric == "r2"
    assert model.history.val_metric == [model.evaluate(X, Y)["r2"]]

    def wrong(y_true, y_pred):
        return np.sum(y_true != y_pred)

    assert model.fit(X, y, epochs=1, batch_size=7, validation_data=(X, y), metric=wrong).metric == "wrong"
    assert model.history.val_metric == [np.sum(model.classify(X) != y)]


class Held:
    """A metric that notes the targets it is given."""

    def __init__(self):
        self.targets = []

    def __call__(self, y_true, y_pred):
        self.targets.append(y_true[:, 0].copy())
        return 0.0


@pytest.mark.parametrize(("fraction", "n_held"), [(0.2, 12), (0.5, 30), (1 / 60, 1), (0.99, 59)])
def test_validation_fraction_trains_on_the_rest(fraction, n_held):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 4)), np.arange(60.0) / 60
    model, held = Model([4, 9, 1], dtype="float64", rng=0), Held()
    twin, order = Twin(model), orders(3, 60 - n_held)
    history = model.fit(X, y, epochs=3, batch_size=7, validation_fraction=fraction, shuffle=order, metric=held)
    assert len(held.targets) == 3
    assert all((targets == held.targets[0]).all() for targets in held.targets)
    inside = np.isin(y, held.targets[0])
    assert inside.sum() == len(held.targets[0]) == n_held
    losses = twin.sgd(X[~inside], y[~inside, None], order, 7, 0.1)
    assert history.loss == pytest.approx(losses, rel=1e-11)
    assert twin.relative_error(model) < 1e-11
    assert history.val_loss[-1] == pytest.approx(twin.losses(X[inside], y[inside, None]).mean(), rel=1e-11)


def test_validation_fraction_follows_the_seed_and_stays():
    X, y = np.random.default_rng(0).normal(size=(60, 4)), np.arange(60.0) / 60

    def held(model):
        metric = Held()
        model.fit(X, y, epochs=1, batch_size=7, validation_fraction=0.25, metric=metric)
        return tuple(metric.targets[0])

    first, second, other = Model([4, 1], rng=0), Model([4, 1], rng=0), Model([4, 1], rng=1)
    choice = held(first)
    assert held(first) == choice
    assert held(second) == choice
    assert held(other) != choice


def test_validation_fraction_of_class_indices_and_bytes(blobs):
    X, y = blobs
    X = np.clip(X * 20 + 100, 0, 255).astype(np.uint8)
    first, second = (Model([6, 9, 3], input_scale=1 / 255, rng=0) for _ in range(2))
    first.fit(X, y, epochs=2, batch_size=7, validation_fraction=0.2)
    second.fit(X.astype(float), y, epochs=2, batch_size=7, validation_fraction=0.2)
    assert first.history.metric == "accuracy"
    assert first.history.val_metric == second.history.val_metric
    assert first.history.val_loss == second.history.val_loss


# ---- callbacks, progress ----


def test_callbacks_are_called_each_epoch_in_order(blobs, chunks):
    calls = []
    model = Model([6, 9, 3], rng=0)

    def note(name):
        return lambda m: calls.append((name, m is model, len(m.history.loss), len(m.history.val_loss)))

    model.fit(*blobs, epochs=3, batch_size=7, validation_data=blobs, callbacks=(note("a"), note("b")))
    assert calls == [(name, True, epoch, epoch) for epoch in (1, 2, 3) for name in "ab"]


@pytest.mark.parametrize("answer", [True, np.True_])
def test_a_callback_that_returns_true_ends_the_training(answer, blobs, chunks):
    X, y = blobs
    model, twin = Model([6, 9, 3], rng=0), Model([6, 9, 3], rng=0)
    later = []
    stop = [lambda m: answer if len(m.history.loss) == 2 else None, later.append]
    history = model.fit(X, y, epochs=9, batch_size=7, callbacks=stop)
    twin.fit(X, y, epochs=2, batch_size=7)
    assert len(history.loss) == len(history.seconds) == len(later) == 2
    assert bits(model) == bits(twin)
    for each in (model, twin):
        each.fit(X, y, epochs=2, batch_size=7)
    assert bits(model) == bits(twin)


@pytest.mark.parametrize("answer", [None, False, np.False_, 1, "yes", [True]])
def test_other_answers_do_not_end_it(answer, blobs):
    assert len(Model([6, 3]).fit(*blobs, epochs=3, batch_size=7, callbacks=[lambda m: answer]).loss) == 3


def test_callbacks_may_be_a_generator(blobs):
    calls = []
    Model([6, 3]).fit(*blobs, epochs=3, batch_size=7, callbacks=(calls.append for _ in range(2)))
    assert len(calls) == 6


def test_a_callback_may_change_parameters():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(30, 4)), rng.random(size=(30, 2))
    model = Model([4, 9, 2], dtype="float64", rng=0)
    twin, order = Twin(model), orders(3, 30)

    def shrink(m):
        m.parameters[...] *= 0.5

    model.fit(X, Y, epochs=3, batch_size=7, shuffle=order, callbacks=[shrink])
    for row in order:
        twin.sgd(X, Y, [row], 7, 0.1)
        for array in (*twin.weights, *twin.biases):
            array *= 0.5
    assert twin.relative_error(model) < 1e-11


def test_a_callback_cannot_replace_the_head_and_go_on(blobs):
    model = Model([6, 9, 3], rng=0)
    with pytest.raises(RuntimeError, match="replace_head"):
        model.fit(*blobs, epochs=3, batch_size=7, callbacks=[lambda m: m.replace_head(3)])
    assert model.fit(*blobs, epochs=3, batch_size=7, callbacks=[lambda m: m.replace_head(3) or True]).loss


def test_an_exception_from_a_callback_leaves_the_finished_epochs(blobs, chunks):
    X, y = blobs
    model, twin = Model([6, 9, 3], rng=0), Model([6, 9, 3], rng=0)

    def fail(m):
        if len(m.history.loss) == 3:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        model.fit(X, y, epochs=9, batch_size=7, validation_data=(X, y), callbacks=[fail])
    twin.fit(X, y, epochs=3, batch_size=7, validation_data=(X, y))
    assert model.history.loss == twin.history.loss
    assert model.history.val_loss == twin.history.val_loss
    assert len(model.history.seconds) == 3
    for each in (model, twin):
        each.fit(X, y, epochs=2, batch_size=7)
    assert bits(model) == bits(twin)


def test_an_exception_from_a_metric_leaves_lists_of_one_length(blobs):
    X, y = blobs
    model, calls = Model([6, 9, 3], rng=0), []

    def metric(y_true, y_pred):
        calls.append(1)
        if len(calls) == 2:
            raise ZeroDivisionError
        return 0.5

    with pytest.raises(ZeroDivisionError):
        model.fit(X, y, epochs=9, batch_size=7, validation_data=(X, y), metric=metric)
    history = model.history
    assert len(history.loss) == len(history.seconds) == len(history.val_loss) == len(history.val_metric) == 2
    assert history.val_metric[0] == 0.5
    assert np.isnan(history.val_metric[1])


def test_progress_goes_to_standard_error(blobs, capsys):
    history = Model([6, 9, 3], rng=0).fit(*blobs, epochs=3, batch_size=7, progress=True, validation_data=blobs)
    out, err = capsys.readouterr()
    assert out == ""
    last = err.split("\r")[-1]
    assert "3/3" in last
    assert f"loss={history.loss[-1]:.4f}" in last
    assert f"val_loss={history.val_loss[-1]:.4f}" in last
    assert "val_accu" in last  # older versions of tqdm cut the line at 80 columns


@pytest.mark.parametrize("progress", [None, False])
def test_no_progress_is_silent(progress, blobs, capsys):
    Model([6, 9, 3], rng=0).fit(*blobs, epochs=2, batch_size=7, progress=progress)
    assert capsys.readouterr() == ("", "")


# ---- the perceptron ----


def test_a_single_step_layer_learns_by_the_perceptron_rule():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 3)), rng.integers(0, 2, 40)
    model = Model([3, 1], output="step", dtype="float64", rng=0)
    w, b = model.weights[0][0].copy(), model.biases[0][0]
    order = orders(4, 40)
    for i in order.ravel():
        fired = 1 if w @ X[i] + b > 0 else 0
        w += 0.5 * (y[i] - fired) * X[i]
        b += 0.5 * (y[i] - fired)
    model.fit(X, y, epochs=4, batch_size=1, shuffle=order, optimizer=SGD(0.5))
    np.testing.assert_allclose(model.weights[0][0], w, rtol=1e-12)
    np.testing.assert_allclose(model.biases[0], [b], rtol=1e-12)


@pytest.mark.parametrize("truth", [[0, 0, 0, 1], [0, 1, 1, 1], [1, 1, 1, 0]])
def test_a_perceptron_learns_and_or_nand(truth):
    X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    model = Model([2, 1], output="step", rng=0)
    model.fit(X, truth, epochs=100, batch_size=1)
    np.testing.assert_array_equal(model.classify(X), truth)
    assert model.history.loss[-1] == 0


@pytest.mark.parametrize(
    "layers",
    [[4, Dense(5, "step"), 3], [4, 5, Dense(3, "step")], [4, Dense(5, "step"), Dense(3, "step")]],
)
def test_a_deeper_network_of_step_neurons_cannot_be_trained(layers, state):
    model = Model(layers, rng=0)
    before = state(model)
    for call in (
        lambda: model.fit(np.ones((2, 4)), [0, 1], epochs=1, batch_size=1),
        lambda: model.gradients(np.ones((2, 4)), [0, 1]),
    ):
        with pytest.raises(ValueError, match=r"step neuron.*derivative is zero.*perceptron rule"):
            call()
    assert state(model) == before
    assert model.predict(np.ones((2, 4))).shape == (2, 3)


# ---- divergence ----


def first_bad_epoch(twin, X, Y, order, batch_size, rate, frozen):
    with np.errstate(all="ignore"):
        for epoch, row in enumerate(order, 1):
            losses = twin.sgd(X, Y, [row], batch_size, rate, frozen)
            if not all(np.isfinite(a).all() for a in (losses, *twin.weights, *twin.biases)):
                return epoch
    return None


@pytest.mark.parametrize("validated", [False, True])
@pytest.mark.parametrize(("activation", "frozen"), [("identity", ()), ("relu", (0,))])
def test_divergence_is_raised_in_its_epoch(activation, frozen, validated, chunks):
    rng = np.random.default_rng(0)
    X, Y = rng.random(size=(20, 4)) + 0.5, rng.normal(size=(20, 2)) + 5
    held = {"validation_data": (X, Y)} if validated else {}
    make = {"activation": activation, "output": "identity", "dtype": "float64", "rng": 0}
    model, twin, rate = Model([4, 9, 2], **make), Model([4, 9, 2], **make), 2.0
    for each in (model, twin):
        each.freeze(frozen)
    order = orders(3000, 20)
    epoch = first_bad_epoch(Twin(model), X, Y, order, 20, rate, frozen)
    assert epoch is not None
    assert epoch > 2
    options = {"batch_size": 20, "optimizer": SGD(rate), **held}
    with pytest.raises(DivergenceError, match=rf"diverged in epoch {epoch}\b.*learning_rate") as error:
        model.fit(X, Y, epochs=3000, shuffle=order, **options)
    assert error.value.epoch == epoch
    assert isinstance(error.value, ArithmeticError)
    twin.fit(X, Y, epochs=epoch - 1, shuffle=order[: epoch - 1], **options)
    assert np.isfinite(model.parameters).all()
    assert bits(model) == bits(twin)
    assert model.history.loss == twin.history.loss
    assert model.history.val_loss == twin.history.val_loss
    assert len(model.history.seconds) == epoch - 1


def test_divergence_restores_the_random_state(blobs):
    X, y = blobs
    make = {"activation": "identity", "output": "identity", "rng": 0}
    model, twin = Model([6, 9, 3], **make), Model([6, 9, 3], **make)
    with pytest.raises(DivergenceError) as error:
        model.fit(X, y, epochs=400, batch_size=300, optimizer=SGD(1.0))
    twin.fit(X, y, epochs=error.value.epoch - 1, batch_size=300, optimizer=SGD(1.0))
    for each in (model, twin):
        each.parameters[...] *= 1e-30
        each.fit(X, y, epochs=3, batch_size=50, optimizer=SGD(1e-3))
    assert bits(model) == bits(twin)


@pytest.mark.parametrize("label", [-1, 3, 2**40])
def test_a_further_step_on_a_class_that_there_is_not(label, blobs):
    """The compiled step looks at the labels before it changes anything."""
    X, y = blobs
    model = Model([6, 9, 3], rng=0)
    for _ in range(2):
        model.partial_fit(X, y, optimizer="adam")
    before, wrong = bits(model), y.copy()
    wrong[7] = label
    with pytest.raises(ValueError, match=rf"y must hold class indices in \[0, 3\), got y\[7\] = {label}"):
        model.partial_fit(X, wrong, optimizer="adam")
    assert bits(model) == before


@pytest.mark.parametrize("optimizer", [SGD(0.1), Momentum(0.02), Momentum(0.01), Adam()])
def test_a_step_that_diverges_leaves_the_state_of_another_optimizer(optimizer, blobs):
    X, y = blobs
    rows = np.eye(3)[y]
    model, twin = (Model([X.shape[1], 3], activation="identity", output="identity", rng=0) for _ in range(2))
    for each in (model, twin):
        each.fit(X, rows, epochs=2, batch_size=10, optimizer=Momentum(0.01))
    for _ in range(2):
        with pytest.raises(DivergenceError):
            model.partial_fit(X, rows * 1e30, optimizer=optimizer)
    for each in (model, twin):
        each.fit(X, rows, epochs=1, batch_size=10, optimizer=Momentum(0.01))
    assert model.parameters.tobytes() == twin.parameters.tobytes()


def test_divergence_in_the_first_epoch_leaves_the_model_as_it_was(blobs, state):
    model = Model([6, 9, 3], activation="identity", output="identity", rng=0)
    before = state(model)
    with pytest.raises(DivergenceError) as error:
        model.fit(*blobs, epochs=5, batch_size=1, optimizer=SGD(1e6))
    assert error.value.epoch == 1
    assert state(model)[:2] == before[:2]
    assert model.history == History()


def test_divergence_keeps_what_a_callback_did(blobs):
    X, y = blobs
    model = Model([6, 9, 3], activation="identity", output="identity", rng=0)

    def reset(m):
        m.parameters[...] = 0
        m.biases[-1][0] = 1e30  # its square is beyond float32

    with pytest.raises(DivergenceError) as error:
        model.fit(X, y, epochs=5, batch_size=100, callbacks=[reset])
    assert error.value.epoch == 2
    assert np.count_nonzero(model.parameters) == 1
    assert model.biases[-1][0] == np.float32(1e30)


# ---- interruption ----


@pytest.mark.parametrize("steps", [1, 43, 44, 86, 100])
@pytest.mark.parametrize("shuffle", [True, "given"])
def test_an_interrupt_leaves_the_last_finished_epoch(steps, shuffle, blobs, interrupt_after):
    """43 batches an epoch, one a call; the interrupt comes after `steps` of them."""
    X, y = blobs
    given = orders(4, 300)
    model, twin = Model([6, 9, 3], rng=0), Model([6, 9, 3], rng=0)
    with interrupt_after(steps + 1):
        model.fit(X, y, epochs=4, batch_size=7, shuffle=True if shuffle is True else given)
    done = steps // 43
    twin.fit(X, y, epochs=done, batch_size=7, shuffle=True if shuffle is True else given[:done])
    assert len(model.history.loss) == len(model.history.seconds) == done
    assert model.history.loss == twin.history.loss
    assert bits(model) == bits(twin)
    for each in (model, twin):
        each.fit(X, y, epochs=2, batch_size=7)
    assert bits(model) == bits(twin)


INTERRUPTED = """
import os, signal, sys, threading
import numpy as np
from fastnn import Model, SGD
from fastnn.kernels.running import entry

validated = sys.argv[1] == "validated"
rng = np.random.default_rng(0)
X, y = rng.normal(size=(40_000, 64)).astype(np.float32), rng.integers(0, 10, 40_000)
held = {"validation_data": (X[:20_000], y[:20_000])} if validated else {}

def make():
    return Model([64, 200, 10], rng=0)

def fit(model, epochs, **more):
    return model.fit(X, y, epochs=epochs, batch_size=10, optimizer=SGD(0.1), **held, **more)

fit(make(), 1)  # compile first, so that the signal comes while training
model = make()
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
train, begun = entry.train, []

def interrupted(*arguments):
    # The signal comes while the 20th call works, or soon after it.
    begun.append(1)
    if len(begun) == 20:
        threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT)).start()
    return train(*arguments)

entry.train = interrupted
try:
    fit(model, 1_000_000)
except KeyboardInterrupt:
    print("interrupted")
entry.train = train
done = len(model.history.loss)
assert len(model.history.seconds) == done
assert len(model.history.val_loss) == (done if validated else 0)
twin = make()
fit(twin, done)
assert twin.parameters.tobytes() == model.parameters.tobytes()
assert twin.history.loss == model.history.loss
fit(model, 1)
fit(twin, 1)
assert twin.parameters.tobytes() == model.parameters.tobytes()
assert twin.history.loss == model.history.loss
"""


@pytest.mark.parametrize("validated", ["plain", "validated"])
def test_ctrl_c(validated, run_python):
    assert run_python(INTERRUPTED, validated).stdout == "interrupted\n"


def test_what_a_metric_writes_changes_nothing(blobs):
    """It gets copies: the kernels read labels as addresses."""
    X, y = blobs
    mine, expected = Model([6, 9, 3], rng=0), Model([6, 9, 3], rng=0)

    def spoil(truth, predicted):
        score = float((truth == predicted).mean())
        truth *= 1_000_000
        predicted[...] = -1
        return score

    expected.fit(X, y, epochs=3, batch_size=10, validation_data=(X, y))
    mine.fit(X, y, epochs=3, batch_size=10, validation_data=(X, y), metric=spoil)
    assert mine.history.val_loss == expected.history.val_loss
    assert mine.history.val_metric == expected.history.val_metric
    np.testing.assert_array_equal(mine.parameters, expected.parameters)
    assert mine.evaluate(X, y, metric=spoil)["spoil"] == expected.evaluate(X, y)["accuracy"]


def test_an_order_changed_by_a_callback_does_not_matter(blobs):
    X, y = blobs
    mine, expected = Model([6, 9, 3], rng=0), Model([6, 9, 3], rng=0)
    order = orders(3, 300).astype(np.int32)
    expected.fit(X, y, epochs=3, batch_size=10, shuffle=order.copy())

    def spoil(model):
        order[:] = 2**30

    mine.fit(X, y, epochs=3, batch_size=10, shuffle=order, callbacks=[spoil])
    np.testing.assert_array_equal(mine.parameters, expected.parameters)


def test_a_history_that_a_callback_spoils_stays_whole(blobs):
    X, y = blobs
    model = Model([6, 9, 3], rng=0)

    def spoil(m):
        for values in (m.history.loss, m.history.val_loss, m.history.val_metric, m.history.seconds):
            values.clear()
            values.extend([1.0] * 20)

    history = model.fit(X, y, epochs=4, batch_size=10, validation_data=(X, y), callbacks=[spoil])
    assert {len(v) for v in (history.loss, history.val_loss, history.val_metric, history.seconds)} == {4}


def test_a_callback_that_leaves_nan_ends_the_fit(blobs):
    X, y = blobs
    model, twin = Model([6, 9, 3], rng=0), Model([6, 9, 3], rng=0)

    def spoil(m):
        if len(m.history.loss) == 2:
            m.weights[0][0, 0] = np.nan

    with pytest.raises(ValueError, match="callbacks must leave finite parameters, got one that is not after epoch 2"):
        model.fit(X, y, epochs=4, batch_size=10, callbacks=[spoil])
    twin.fit(X, y, epochs=2, batch_size=10)
    assert bits(model) == bits(twin)


def test_labels_changed_by_a_callback_do_not_matter(blobs):
    X, y = blobs
    mine, expected = Model([6, 9, 3], rng=0), Model([6, 9, 3], rng=0)
    labels = y.astype(np.int32)
    expected.fit(X, labels.copy(), epochs=3, batch_size=10)

    def spoil(model):
        labels[:] = 2**30

    mine.fit(X, labels, epochs=3, batch_size=10, callbacks=[spoil])
    np.testing.assert_array_equal(mine.parameters, expected.parameters)


def test_a_fit_within_a_fit_is_refused(blobs):
    X, y = blobs
    model = Model([6, 9, 3], rng=0)
    with pytest.raises(RuntimeError, match="while it is being trained"):
        model.fit(X, y, epochs=3, batch_size=10, callbacks=[lambda m: m.fit(X, y, epochs=1, batch_size=10)])
    assert len(model.history.loss) == 1
    model.fit(X, y, epochs=2, batch_size=10)
    assert len(model.history.loss) == 2


CHANGES = [lambda m: m.freeze(0), lambda m: m.replace_head(3, rng=0)]


class Changes:
    """Places where a fit calls what a user wrote, other than a callback: each changes the model there, once."""

    def __init__(self, model, change):
        self.model, self.change, self.refused = model, change, None

    def __call__(self):
        if self.refused is None:
            self.refused = ""
            try:
                self.change(self.model)
            except RuntimeError as error:
                self.refused = str(error)

    def metric(self, X, y):
        def score(truth, found):
            self()
            return 1.0

        return (X, y), {"validation_data": (X, y), "metric": score}

    def training_metric(self, X, y):
        return (X, y), {"metric": self.metric(X, y)[1]["metric"], "train_metric": True}

    def rate(self, X, y):
        return (X, y), {"optimizer": SGD(lambda epoch: (self(), 0.1)[1])}

    def schedule(self, X, y):
        class Own(fastnn.settings.learning_rates.LearningRate):
            per = "step"

            def rates(own, first, n):
                self()
                return np.full(n, 0.1)

        return (X, y), {"optimizer": SGD(Own())}

    def stream(self, X, y):
        class Batches:
            epochs = 0

            def __iter__(own):
                own.epochs += 1
                yield X, y
                if own.epochs > 1:
                    self()

        return (fastnn.Stream(Batches()), None), {}

    def full_batch(self, X, y):
        return (X, y), self.metric(X, y)[1] | {"optimizer": fastnn.LBFGS(), "batch_size": len(X)}

    def thread_of_a_callback(self, X, y):
        def callback(model):
            thread = threading.Thread(target=self)
            thread.start()
            thread.join()

        return (X, y), {"callbacks": [callback]}


PLACES = [name for name in vars(Changes) if not name.startswith("_")]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("place", PLACES)
def test_only_a_callback_may_change_the_network(place, change, blobs):
    X, y = blobs
    model, twin = Model([6, 9, 3], rng=0), Model([6, 9, 3], rng=0)
    changes, others = Changes(model, change), Changes(twin, lambda m: None)
    for each, where in ((model, changes), (twin, others)):
        samples, options = getattr(where, place)(X, y)
        each.fit(*samples, **({"epochs": 3, "batch_size": 10} | options))
    assert "Only a callback of the fit may call freeze" in changes.refused
    assert (model.frozen, bits(model)) == (frozenset(), bits(twin))
    assert model.history.loss == twin.history.loss
    change(model)  # now it may


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_while_the_arguments_are_checked_is_found(change, blobs):
    X, y = blobs

    class Labels:
        def __array__(self, dtype=None, copy=None):
            change(model)
            return y

    model = Model([6, 9, 3], rng=0)
    with pytest.raises(RuntimeError, match="while it is being trained"):
        model.fit(X, Labels(), epochs=1, batch_size=10)
    with pytest.raises(RuntimeError, match="while it is being trained"):
        model.partial_fit(X, Labels())
    assert model.history is None


def test_one_call_goes_on_with_the_network_that_it_checked_its_arguments_for(blobs):
    """A smaller head could not be asked for the classes of the former."""
    X, y = blobs

    class Labels:
        def __array__(self, dtype=None, copy=None):
            model.replace_head(1)
            return y

    for call in (
        lambda m, labels: m.evaluate(X, labels),
        lambda m, labels: m.loss(X, labels),
        lambda m, labels: [a.tobytes() for pair in m.gradients(X, labels) for a in pair],
    ):
        model, twin = Model([6, 9, 3], rng=0), Model([6, 9, 3], rng=0)
        assert call(model, Labels()) == call(twin, y)
        assert model.sizes == (6, 9, 1)


@pytest.mark.parametrize("optimizer", ["sgd", fastnn.LBFGS()])
def test_a_callback_that_ends_the_fit_may_replace_the_head(optimizer, blobs):
    X, y = blobs

    def end(model):
        model.replace_head(2, rng=0)
        return True

    model = Model([6, 9, 3], rng=0)
    model.fit(X, y, epochs=5, batch_size=len(X), optimizer=optimizer, callbacks=[end])
    assert (model.sizes, len(model.history.loss)) == ((6, 9, 2), 1)


@pytest.mark.parametrize("when", ["on_begin", "on_end"])
def test_freeze_when_a_fit_begins_or_ends(when, blobs):
    X, y = blobs

    class Freezes:
        def __call__(self, model):
            pass

    setattr(Freezes, when, lambda self, model: model.freeze(0))
    model, twin = Model([6, 9, 3], rng=0), Model([6, 9, 3], rng=0)
    if when == "on_begin":
        twin.freeze(0)
    model.fit(X, y, epochs=2, batch_size=10, callbacks=[Freezes()])
    twin.fit(X, y, epochs=2, batch_size=10)
    assert (model.frozen, bits(model)) == (frozenset({0}), bits(twin))


# ---- objects that change meanwhile ----


def test_settings_are_those_of_the_beginning(blobs):
    """An optimizer is frozen, but Python can change it all the same."""
    X, y = blobs
    settings = {Momentum(0.1): {"nesterov": True}, Adam(0.1): {"epsilon_hat": True, "beta1": 0.1}}
    settings[fastnn.LevenbergMarquardt()] = {"factor": 1.0, "tolerance": 1e9}
    for optimizer, changed in settings.items():

        def callback(model, optimizer=optimizer, changed=changed):
            for name, value in changed.items():
                object.__setattr__(optimizer, name, value)
            if not isinstance(optimizer, fastnn.LevenbergMarquardt):
                model.freeze(())  # another plan

        model, twin = Model([6, 9, 3], rng=0), Model([6, 9, 3], rng=0)
        plain = [lambda m: m.freeze(())] if "LevenbergMarquardt" not in repr(optimizer) else []
        options = {"epochs": 3, "batch_size": len(X)}
        twin.fit(X, y, optimizer=optimizer, callbacks=plain, **options)
        model.fit(X, y, optimizer=optimizer, callbacks=[callback], **options)
        assert bits(model) == bits(twin)


def alter(array, **attributes):
    """Set an array's shape or dtype where it lies. NumPy warns of it, but a user still can."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        for name, value in attributes.items():
            setattr(array, name, value)


def test_a_shape_that_a_callback_sets(blobs):
    """What was checked is what is used, with programs for either shape at hand."""
    rng = np.random.default_rng(0)
    arrays = {
        "X": rng.random((400, 8), np.float32),
        "y": rng.random((400, 2), np.float32),
        "V": rng.random((400, 8), np.float32),
        "v": rng.random((400, 2), np.float32),
        "w": rng.random(400, np.float32),
        "order": np.array([rng.permutation(400) for _ in range(6)]),
    }

    def trained(callback):
        model = Model([8, 5, 2], rng=0)
        a = {name: array.copy() for name, array in arrays.items()}
        options = {"sample_weight": a["w"], "shuffle": a["order"], "validation_data": (a["V"], a["v"])}
        done = functools.partial(callback, a)
        model.fit(a["X"], a["y"], epochs=6, batch_size=10, callbacks=[done], train_metric=True, **options)
        return bits(model), model.history.loss, model.history.val_loss, model.history.metrics

    def change(a, model):
        for array in a.values():
            alter(array, shape=(-1,) if array.ndim == 2 else (-1, 1), dtype=np.uint8)

    assert trained(change) == trained(lambda a, model: None)


def test_no_argument_is_handed_on_as_the_object_that_the_caller_has(blobs, monkeypatch):
    X, y = blobs[0], np.random.default_rng(0).random((len(blobs[0]), 3), np.float32)
    seen = []

    def spy(network, samples, *rest):
        seen.extend(samples[:2])
        return Steps(network, samples, *rest)

    monkeypatch.setattr(trainers, "Steps", spy)
    for given in (X.astype("f4"), (255 * X).astype(np.uint8), np.tile(X, (400, 1)).astype("f4")):
        targets = np.tile(y, (len(given) // len(y), 1))
        Model([6, 9, 3], rng=0).fit(given, targets, epochs=1, batch_size=len(given))
        inputs, wanted = seen[-2:]
        assert inputs is not given
        assert wanted is not targets
        assert np.shares_memory(inputs, given)
        assert np.shares_memory(wanted, targets)


@pytest.mark.parametrize("name", ["x", "y", "labels"])
def test_a_shape_set_between_the_check_and_the_step(name, monkeypatch):
    """`partial_fit` has no view of its own: the compiled step takes the rows that it was made for, or refuses."""
    rng = np.random.default_rng(0)
    X, y = rng.random((10, 8), np.float32), rng.random((10, 2), np.float32)
    y = rng.integers(0, 2, 10) if name == "labels" else y
    model, twin = Model([8, 5, 2], rng=0), Model([8, 5, 2], rng=0)
    for each in (model, twin):
        each.partial_fit(X, y)
        each.partial_fit(X, y)
    array, takes = (X if name == "x" else y), Stepper.takes

    def change(self, *arrays):
        answer = takes(self, *arrays)
        alter(array, shape=(80, 1) if name == "x" else (20,) if name == "y" else (10, 1))
        return answer

    monkeypatch.setattr(Stepper, "takes", change)
    if name == "x":  # the same memory
        model.partial_fit(X, y)
        monkeypatch.undo()
        twin.partial_fit(X.reshape(10, 8), y)
    else:
        with pytest.raises((ValueError, DivergenceError)):
            model.partial_fit(X, y)
    assert bits(model) == bits(twin)


@pytest.mark.parametrize("change", CHANGES)
def test_another_thread_cannot_change_the_network_under_a_fit(change, blobs):
    X, y = blobs
    model, twin = Model([6, 9, 3], rng=0), Model([6, 9, 3], rng=0)
    refused = []

    def work():
        try:
            change(model)
        except RuntimeError as error:
            refused.append(str(error))

    def other(_):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    model.fit(X, y, epochs=2, batch_size=10, callbacks=[other])
    twin.fit(X, y, epochs=2, batch_size=10)
    assert len(refused) == 2
    assert all("while it is being trained" in text for text in refused)
    assert (model.frozen, bits(model)) == (frozenset(), bits(twin))
    change(model)  # now it may


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("from_thread", [False, True])
def test_a_child_forked_during_a_fit_may_fit_its_copy(from_thread, run_python):
    source = """
import os, sys, threading, warnings
import numpy as np
from fastnn import Model

warnings.simplefilter("ignore", DeprecationWarning)  # from Python 3.12 on: "may lead to deadlocks in the child"
X, y = np.random.default_rng(0).normal(size=(300, 6)), np.arange(300) % 3
model, twin = Model([6, 9, 3], rng=0), Model([6, 9, 3], rng=0)
twin.fit(X, y, epochs=1, batch_size=10)
twin.fit(X, y, epochs=2, batch_size=10)
statuses = []

def fork():
    child = os.fork()
    if child == 0:
        model.fit(X, y, epochs=2, batch_size=10)
        os._exit(0 if model.parameters.tobytes() == twin.parameters.tobytes() else 3)
    statuses.append(os.waitpid(child, 0)[1])

def callback(_):
    if len(statuses) == 0:
        if sys.argv[1] == "True":
            thread = threading.Thread(target=fork)
            thread.start()
            thread.join()
        else:
            fork()

model.fit(X, y, epochs=3, batch_size=10, callbacks=[callback])
assert model.parameters.tobytes() == twin.parameters.tobytes()
print(statuses)
"""
    assert run_python(source, from_thread).stdout == "[0]\n"


def test_a_progress_bar_that_fails_leaves_the_model_usable(blobs, monkeypatch):
    """Nothing was trained, and the next fit is not taken for one within a fit."""
    X, y = blobs
    model = Model([6, 9, 3], rng=0)
    before = model.parameters.copy()

    def broken(*_):
        raise OSError("no terminal")

    with monkeypatch.context() as patch:
        patch.setattr(fastnn.model, "Progress", broken)
        with pytest.raises(OSError, match="no terminal"):
            model.fit(X, y, epochs=3, batch_size=10, progress=True)
    np.testing.assert_array_equal(model.parameters, before)
    assert len(model.fit(X, y, epochs=2, batch_size=10).loss) == 2


def test_a_hidden_layer_of_exp():
    """Whose padding grows with each step where nobody writes it: e^e^0 and so on."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((200, 5)), rng.integers(0, 3, 200)
    for width in (20, 36, 40, 100):
        for dtype in ("float32", "float64"):
            for _ in range(3):
                model = Model([5, Dense(width, "exp"), 3], init="scaled", dtype=dtype, rng=0)
                for w in model.weights:
                    w *= 0.1
                history = model.fit(X, y, epochs=5, batch_size=20, optimizer=SGD(0.01))
                assert history.loss[-1] < history.loss[0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", [fastnn.SGD(0.3), fastnn.Adam(0.01), fastnn.SGD(0.3, clip_norm=0.1)])
@pytest.mark.parametrize("sizes", [[6, 9, 3], [30, 40, 3]], ids=["feature-major", "row-major"])
def test_steps_on_any_number_of_rows(sizes, optimizer, dtype):
    """Those whose number is a height, and sums of several, are the steps of `fit` up to rounding."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(1300, sizes[0])).astype(dtype), rng.integers(0, 3, 1300)
    model, twin = (fastnn.Model(sizes, dtype=dtype, rng=0) for _ in range(2))
    tolerance = 2e-4 if dtype == "float32" else 1e-9
    for n in (1, 2, 32, 33, 100, 1, 257, 1024, 1025, 1300, 59, 400, 401, 402, 3):
        loss = model.partial_fit(X[:n], y[:n], optimizer=optimizer)
        history = twin.fit(X[:n], y[:n], epochs=1, batch_size=n, shuffle=False, optimizer=optimizer)
        assert loss == pytest.approx(history.loss[0], rel=tolerance)
        np.testing.assert_allclose(model.parameters, twin.parameters, atol=tolerance, err_msg=f"{n} rows")


def test_a_step_on_a_new_number_of_rows_costs_no_program(monkeypatch):
    rng, written, write = np.random.default_rng(0), [], training_programs.block_program
    X, y = rng.normal(size=(500, 6)).astype(np.float32), rng.integers(0, 3, 500)
    model = fastnn.Model([6, 11, 3], rng=0)
    model.partial_fit(X, y)
    for n in range(1, 501):
        model.partial_fit(X[:n], y[:n])
    monkeypatch.setattr(training_programs, "block_program", lambda *given: written.append(given[2]) or write(*given))
    for n in rng.integers(1, 501, 200):
        assert np.isfinite(model.partial_fit(X[:n], y[:n]))
    assert written == []
