"""Populations: each member has the bits of a model that is trained alone."""

import contextlib

import numpy as np
import pytest

from fastnn import (
    SGD,
    Adam,
    AdamW,
    BatchNorm,
    CosineDecay,
    Dense,
    DivergenceError,
    EarlyStopping,
    ExponentialDecay,
    Halving,
    Huber,
    LayerNorm,
    Lion,
    Model,
    Momentum,
    Nadam,
    OneCycle,
    Patience,
    Population,
    Residual,
    RMSprop,
    Scale,
)

from ..cases import DTYPES

rng = np.random.default_rng(5)
SIZES = [5, 7, 1]


@pytest.fixture(autouse=True)
def many_threads_pay(monkeypatch):
    """Small fits run on the threads that they may use, and no other network's plans serve here."""
    monkeypatch.setattr("fastnn.network.threads.FIT_MULTIPLY_ADDS", 0)
    monkeypatch.setattr("fastnn.network.threads.PARALLEL_MULTIPLY_ADDS", 0)
    monkeypatch.setattr("fastnn.network.threads.available_threads", lambda: 3)
    monkeypatch.setattr("fastnn.network.network.SHARED_BYTES", 0)


def data(rows=75, n_in=5, dtype="float32"):
    return rng.standard_normal((rows, n_in)).astype(dtype), rng.uniform(0.1, 0.9, (rows, 1)).astype(dtype)


def left(model):
    """All that training leaves in a model but its history."""
    network = model._network
    state = network.optimizer_state()
    vectors = None if state is None else (repr(state[0]), state[1].tobytes(), state[2].tobytes())
    return network.parameters.tobytes(), network.random, network.noise, model._split_seed, vectors


def same(population, models, val=False):
    """Each member has the bits of a model, in every respect; gives the members that diverged."""
    history = population.history
    for i, model in enumerate(models):
        assert left(population[i]) == left(model), i
        done = len(model.history.loss)
        assert history.epochs[i] == done
        assert history.loss[i, :done].tolist() == model.history.loss
        assert np.isnan(history.loss[i, done:]).all()
        if val:
            assert history.val_loss[i, :done].tolist() == model.history.val_loss
    return np.flatnonzero(history.status == "diverged").tolist()


def fitted(models, arguments, X, y, **common):
    """Fit models one by one, each with the values of its own that `arguments` has for it."""
    for i, model in enumerate(models):
        own = {name: values[i] for name, values in arguments.items()}
        with contextlib.suppress(DivergenceError):
            model.fit(X, y, threads=1, **common, **own)
    return models


def models_of(n, sizes=SIZES, first=0, **arguments):
    return [Model(sizes, rng=first + i, **arguments) for i in range(n)]


# ---- the bits of single fits ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch_size", [1, 32, 600])
@pytest.mark.parametrize("how", ["row-major", "feature-major"])
def test_each_member_has_the_bits_of_a_model(how, batch_size, dtype, orientation):
    """A batch of one sample, of one block and of several; rates, penalties and dropout differ, and are zero for one."""
    orientation(how)
    X, y = data({1: 11, 32: 75, 600: 700}[batch_size], dtype=dtype)
    rates, l2, dropout = np.geomspace(1e-4, 0.05, 7), np.linspace(0, 1e-2, 7), np.linspace(0, 0.6, 7)
    population = Population(SIZES, 7, dtype=dtype, rng=0)
    common = {"epochs": 3, "batch_size": batch_size}
    population.fit(X, y, optimizer=Adam(rates), l2=l2, dropout=dropout, threads=2, **common)
    own = {"optimizer": [Adam(rate) for rate in rates.tolist()], "l2": l2.tolist(), "dropout": dropout.tolist()}
    same(population, fitted(models_of(7, dtype=dtype), own, X, y, **common))


@pytest.mark.parametrize("n", [1, 7, 40])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_member_is_the_same_among_any_others(n, threads):
    X, y = data()
    seeds = rng.permutation(100)[:n].tolist()
    rates = 1e-3 * (1 + np.array(seeds))
    population = Population(SIZES, n, rng=seeds)
    population.fit(X, y, epochs=2, batch_size=20, optimizer=Momentum(rates), dropout=0.1, threads=threads)
    assert population.seeds == seeds
    models = [Model(SIZES, rng=seed) for seed in seeds]
    own = {"optimizer": [Momentum(rate) for rate in rates.tolist()]}
    same(population, fitted(models, own, X, y, epochs=2, batch_size=20, dropout=0.1))


def slower(epoch):
    return 0.1 / (1 + epoch)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda r: SGD(r),
        lambda r: SGD(r, clip_value=r),
        lambda r: Momentum(0.1, momentum=r),
        lambda r: Momentum(r, nesterov=True),
        lambda r: Adam(0.01, beta1=r, beta2=r, epsilon=r, epsilon_hat=True),
        lambda r: AdamW(r, weight_decay=r),
        lambda r: Nadam(0.01, momentum_decay=r),
        lambda r: RMSprop(r, clip_norm=r),
        lambda r: Lion(0.01, beta1=r),
        lambda r: SGD(CosineDecay(r, length=3, warmup=1)),
        lambda r: Adam(OneCycle(r, length=12)),
        lambda r: Adam(ExponentialDecay(0.1, gamma=0.5, per="step"), beta1=r),
        lambda r: SGD(slower, clip_norm=r),
    ],
)
def test_every_number_of_an_optimizer_may_be_an_array(optimizer):
    """A second fit goes on from the state of the first."""
    X, y = data()
    numbers = np.array([0.05, 0.3, 0.2])
    population, models = Population(SIZES, 3, rng=0), models_of(3)
    for epochs in (2, 3):
        population.fit(X, y, epochs=epochs, batch_size=20, optimizer=optimizer(numbers))
        own = {"optimizer": [optimizer(number) for number in numbers.tolist()]}
        fitted(models, own, X, y, epochs=epochs, batch_size=20)
        same(population, models)


def test_rules_batches_and_epochs_may_differ():
    """Members of other batch sizes, with and without a limit of norms, are trained in groups."""
    X, y = data(70, dtype="float64")
    weights = rng.uniform(0.5, 2, 70)
    own = {
        "epochs": [2, 0, 4, 3],
        "batch_size": [16, 70, 16, 100],
        "max_norm": [None, 0.5, 0.7, None],
        "l1": [0.0, 1e-3, 1e-2, 1e-3],
        "input_noise": [0.1, 0.0, 0.2, 0.3],
        "min_derivative": [0.0, 0.1, 0.05, 0.2],
        "optimizer": [Adam(0.01), SGD(0.3), Adam(0.02), SGD(0.2, clip_norm=0.1)],
    }
    arrays = {name: np.array(values) for name, values in own.items() if name not in ("max_norm", "optimizer")}
    arrays |= {"optimizer": own["optimizer"], "max_norm": np.array([np.nan, 0.5, 0.7, np.nan])}
    population = Population(SIZES, 4, loss=Huber(0.3), output="identity", dtype="float64", rng=0)
    population.fit(X, y, sample_weight=weights, **arrays)
    models = models_of(4, loss=Huber(0.3), output="identity", dtype="float64")
    own["max_norm"] = [None, 0.5, 0.7, None]
    fitted(models, own, X, y, sample_weight=weights)
    same(population, [model for i, model in enumerate(models) if i != 1 or model.history.loss == []])
    assert population.history.status.tolist() == ["finished"] * 4


@pytest.mark.parametrize("how", ["row-major", "feature-major"])
def test_every_kind_of_layer(how, orientation):
    orientation(how)
    X, y = data(75, 8)
    norm, block = BatchNorm(activation="tanh"), Residual(LayerNorm(), Dense(16, "gelu"), Scale())
    layers = [8, Dense(16, "identity"), norm, block, 1]
    population = Population(layers, 5, rng=0)
    population.fit(X, y, epochs=3, batch_size=25, optimizer=Adam(np.geomspace(1e-3, 0.1, 5)), threads=2)
    own = {"optimizer": [Adam(rate) for rate in np.geomspace(1e-3, 0.1, 5).tolist()]}
    same(population, fitted(models_of(5, layers), own, X, y, epochs=3, batch_size=25))


@pytest.mark.parametrize("shuffle", [False, "given"])
def test_other_orders(shuffle):
    X, y = data()
    order = np.array([rng.permutation(75) for _ in range(3)]) if shuffle else False
    population = Population(SIZES, 3, rng=0)
    population.fit(X, y, epochs=3, batch_size=20, shuffle=order, threads=2)
    same(population, fitted(models_of(3), {}, X, y, epochs=3, batch_size=20, shuffle=order))


@pytest.mark.parametrize("how", ["row-major", "feature-major"])
def test_one_that_diverges_stops_alone(how, orientation):
    """In the first epoch or later; its gradient is NaN, and so is what a clipped norm scales."""
    orientation(how)
    X, y = data()
    rates = np.array([1e6, 0.01, 3.0, 0.02, 1e30])
    arguments = {"activation": "identity", "output": "identity"}
    population = Population(SIZES, 5, rng=0, **arguments)
    population.fit(X, y, epochs=20, batch_size=20, optimizer=Momentum(rates))
    own = {"optimizer": [Momentum(rate) for rate in rates.tolist()]}
    diverged = same(population, fitted(models_of(5, **arguments), own, X, y, epochs=20, batch_size=20))
    assert {0, 4} <= {*diverged} <= {0, 2, 4}
    assert np.isfinite(population.vectors).all()


# ---- samples ----


def test_rows_are_chosen_without_a_copy():
    """Index arrays, a mask, and counts; with and without an order that is drawn; weights follow the rows."""
    X, y = data()
    weights = rng.uniform(0.5, 2, 75).astype(np.float32)
    mask = rng.random((4, 75)) < 0.6
    counts = rng.integers(0, 3, (4, 75))
    lists = [rng.permutation(75)[: 10 + 7 * i] for i in range(4)]
    for rows, chosen in (
        (mask, [np.flatnonzero(each) for each in mask]),
        (counts, [np.repeat(np.arange(75), each) for each in counts]),
        (lists, lists),
    ):
        for shuffle in (True, False):
            population, models = Population(SIZES, 4, rng=0), models_of(4)
            common = {"epochs": 2, "batch_size": 16, "shuffle": shuffle, "dropout": 0.2}
            population.fit(X, y, rows=rows, sample_weight=weights, threads=2, **common)
            for model, some in zip(models, chosen, strict=True):
                model.fit(X[some], y[some], sample_weight=weights[some], threads=1, **common)
            same(population, models)


def test_the_rest_of_the_rows_validates():
    X, y = data()
    mask = rng.random((3, 75)) < 0.7
    for weights in (None, rng.uniform(0.5, 2, 75).astype(np.float32)):
        population, models = Population(SIZES, 3, rng=0), models_of(3)
        population.fit(X, y, epochs=3, batch_size=16, rows=mask, validation_data="rest", sample_weight=weights)
        for model, some in zip(models, mask, strict=True):
            own = [array[some] for array in (X, y)]
            held = [array[~some] for array in (X, y)]
            w = None if weights is None else weights[some]
            held += [] if weights is None else [weights[~some]]
            model.fit(*own, epochs=3, batch_size=16, validation_data=held, sample_weight=w, threads=1)
        same(population, models, val=True)


def test_targets_of_each_member():
    """Of one output and of classes, for all members, for each; with weights of each."""
    X, _ = data()
    Y = rng.uniform(0.1, 0.9, (3, 75)).astype(np.float32)
    weights = rng.uniform(0.5, 2, (3, 75))
    population, models = Population(SIZES, 3, rng=0), models_of(3)
    population.fit(X, Y, epochs=2, batch_size=16, sample_weight=weights)
    for model, y, w in zip(models, Y, weights, strict=True):
        model.fit(X, y, epochs=2, batch_size=16, sample_weight=w, threads=1)
    same(population, models)
    classes = rng.integers(0, 4, (3, 75))
    arguments = {"output": "softmax", "loss": "cross_entropy"}
    for weight in ({0: 2.0, 3: 0.5}, "balanced"):
        population, models = Population([5, 4], 3, rng=0, **arguments), models_of(3, [5, 4], **arguments)
        population.fit(X, classes, epochs=2, batch_size=16, class_weight=weight, label_smoothing=0.1)
        for model, y in zip(models, classes, strict=True):
            model.fit(X, y, epochs=2, batch_size=16, class_weight=weight, label_smoothing=0.1, threads=1)
        same(population, models)


def test_samples_of_each_member():
    """As one array with a set for each, and ragged; a set may be smaller than a batch."""
    X, y = rng.standard_normal((3, 40, 5)).astype(np.float32), rng.uniform(0.1, 0.9, (3, 40, 1)).astype(np.float32)
    population, models = Population(SIZES, 3, rng=0), models_of(3)
    population.fit(X, y, epochs=2, batch_size=16, validation_data=(X[:, :9], y[:, :9]))
    for model, own, targets in zip(models, X, y, strict=True):
        model.fit(own, targets, epochs=2, batch_size=16, validation_data=(own[:9], targets[:9]), threads=1)
    same(population, models, val=True)
    edges = np.array([0, 5, 25, 26, 75, 91])
    X, y = data(91)
    population, models = Population(SIZES, 5, rng=0), models_of(5)
    population.fit((X, edges), y, epochs=3, batch_size=16, optimizer=Adam(0.01), threads=2)
    for model, first, stop in zip(models, edges[:-1], edges[1:], strict=True):
        model.fit(X[first:stop], y[first:stop], epochs=3, batch_size=16, optimizer=Adam(0.01), threads=1)
    same(population, models)
    found = population.evaluate((X, edges), y)
    for i, model in enumerate(models):
        rows = slice(edges[i], edges[i + 1])
        if edges[i + 1] - edges[i] > 1:  # r2 of a single row is a matter of its own
            assert {name: values[i] for name, values in found.items()} == model.evaluate(X[rows], y[rows])


def test_a_fraction_is_held_out_by_each_member():
    X, y = data()
    for rows in (None, [rng.permutation(75)[:40] for _ in range(3)]):
        population, models = Population(SIZES, 3, rng=0), models_of(3)
        population.fit(X, y, epochs=2, batch_size=16, validation_fraction=0.3, rows=rows)
        for i, model in enumerate(models):
            some = slice(None) if rows is None else rows[i]
            model.fit(X[some], y[some], epochs=2, batch_size=16, validation_fraction=0.3, threads=1)
        same(population, models, val=True)


def test_bytes_frames_and_sparse_samples():
    pandas, sparse = pytest.importorskip("pandas"), pytest.importorskip("scipy.sparse")
    y = rng.uniform(0.1, 0.9, 50)
    X = rng.integers(0, 255, (50, 5)).astype(np.uint8)
    for samples in (
        X,
        pandas.DataFrame(X, columns=list("abcde")),
        sparse.csr_array((X * (X > 100)).astype(np.float32)),
    ):
        population, models = Population(SIZES, 2, input_scale=1 / 255, rng=0), models_of(2, input_scale=1 / 255)
        population.fit(samples, y, epochs=2, batch_size=16)
        same(population, fitted(models, {}, samples, y, epochs=2, batch_size=16))
        np.testing.assert_array_equal(population.predict(samples)[1], models[1].predict(samples))


# ---- when members stop ----


def test_patience_is_that_of_a_single_fit():
    """With a patience for each; the best epoch is kept, but not the state of the optimizer."""
    X, y = data()
    held = data(20)
    population, models = Population(SIZES, 4, rng=0), models_of(4)
    rates, patience = [0.001, 3.0, 8.0, 20.0], [3, 1, 2, 4]
    optimizer = Momentum(np.array(rates))
    common = {"epochs": 15, "batch_size": 16, "validation_data": held}
    history = population.fit(X, y, optimizer=optimizer, stopping=Patience(np.array(patience)), threads=2, **common)
    stops = []
    for model, rate, epochs in zip(models, rates, patience, strict=True):
        stops.append(EarlyStopping(patience=epochs))
        model.fit(X, y, optimizer=Momentum(rate), callbacks=stops[-1:], threads=1, **common)
    same(population, models, val=True)
    assert history.best_epoch.tolist() == [stop.best_epoch for stop in stops]
    assert len({*history.epochs.tolist()}) > 1
    assert [*(history.epochs < 15)] == [status == "stopped" for status in history.status]


def test_patience_on_the_training_loss_without_restoring():
    X, y = data()
    population, models = Population(SIZES, 3, rng=0), models_of(3)
    rates = [0.001, 5.0, 20.0]
    stopping = Patience(2, min_delta=1e-4, restore_best=False)
    population.fit(X, y, epochs=12, batch_size=16, optimizer=SGD(np.array(rates)), stopping=stopping)
    for model, rate in zip(models, rates, strict=True):
        stop = EarlyStopping("loss", patience=2, min_delta=1e-4, restore_best=False)
        model.fit(X, y, epochs=12, batch_size=16, optimizer=SGD(rate), callbacks=[stop], threads=1)
    same(population, models)


@pytest.mark.parametrize("held", [False, True])
def test_halving_lets_the_best_go_on(held):
    """27 members: 9 of them train past epoch 2, 3 past 6, 1 past 18; each has the bits of a fit of its length."""
    X, y = data()
    rates = np.geomspace(1e-4, 1, 27)
    common = {"batch_size": 16} | ({"validation_data": data(20)} if held else {})
    population = Population(SIZES, 27, rng=0)
    optimizer, stopping = Adam(rates), Halving(eta=3, min_epochs=2)
    history = population.fit(X, y, epochs=20, optimizer=optimizer, stopping=stopping, **common)
    assert sorted(history.epochs.tolist()) == [2] * 18 + [6] * 6 + [18] * 2 + [20]
    values = history.val_loss if held else history.loss
    for rung in (2, 6, 18):
        there, on = history.epochs >= rung, history.epochs > rung
        assert values[on, rung - 1].max() < values[there & ~on, rung - 1].min()
    own = {"optimizer": [Adam(rate) for rate in rates.tolist()], "epochs": history.epochs.tolist()}
    same(population, fitted(models_of(27), own, X, y, **common), val=held)
    assert (history.status == "finished").sum() == 1


def test_max_time_gives_all_members_as_many_epochs():
    X, y = data()
    population = Population(SIZES, 5, rng=0)
    history = population.fit(X, y, epochs=10**6, batch_size=16, max_time=1e-9)
    assert history.epochs.tolist() == [1] * 5
    assert history.status.tolist() == ["stopped"] * 5
    same(population, fitted(models_of(5), {}, X, y, epochs=1, batch_size=16))


def test_two_fits_are_one():
    """Whatever the length of compiled calls, and with an epoch of several calls."""
    X, y = data()
    whole, parts = Population(SIZES, 3, rng=0), Population(SIZES, 3, rng=0)
    arguments = {"batch_size": 16, "optimizer": Adam(np.array([0.1, 0.2, 0.3]) / 10), "dropout": 0.3}
    whole.fit(X, y, epochs=5, **arguments)
    for epochs in (2, 3):
        parts.fit(X, y, epochs=epochs, **arguments)
    assert [left(a) for a in whole] == [left(b) for b in parts]
    again = Population(SIZES, 3, rng=0)
    again.fit(X, y, epochs=5, **arguments)
    again.fit(X, y, epochs=1, **arguments | {"optimizer": Adam(np.array([0.1, 0.2, 0.4]) / 10)})
    models = models_of(3)
    for model, rate, last in zip(models, [0.1, 0.2, 0.3], [0.1, 0.2, 0.4], strict=True):
        for epochs, used in ((5, rate), (1, last)):
            model.fit(X, y, epochs=epochs, batch_size=16, optimizer=Adam(used / 10), dropout=0.3, threads=1)
    assert [left(a) for a in again] == [left(b) for b in models]  # the third one began afresh


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("batch_size", [16, 600])
def test_short_calls_leave_the_same_bits(batch_size, threads, short_calls):
    """Members stop within an epoch, and within a batch, and go on."""
    X, y = data(700 if batch_size == 600 else 75)
    expected = Population(SIZES, 5, rng=0)
    expected.fit(X, y, epochs=2, batch_size=batch_size, optimizer=Adam(0.01), dropout=0.2)
    short_calls()
    found = Population(SIZES, 5, rng=0)
    found.fit(X, y, epochs=2, batch_size=batch_size, optimizer=Adam(0.01), dropout=0.2, threads=threads)
    assert [left(a) for a in found] == [left(b) for b in expected]
    np.testing.assert_array_equal(found.history.loss, expected.history.loss)
