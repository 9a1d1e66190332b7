"""Populations: each member has the bits of a model that is trained alone."""

import contextlib
import copy
import pickle

import numpy as np
import pytest

import fastnn
from fastnn import (
    SGD,
    Adam,
    AdamW,
    BatchNorm,
    CosineDecay,
    Dense,
    DivergenceError,
    EarlyStopping,
    Embedding,
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
    PReLU,
    Residual,
    RMSprop,
    Rprop,
    Scale,
    StepDecay,
)

from ..cases import DTYPES

rng = np.random.default_rng(5)
SIZES = [5, 7, 1]


# By the engine that trains members: the compiled function, and the module of the engine.
ENGINES = {"one by one": ("train_members", "one_by_one"), "in lanes": ("train_groups", "lanes")}


def takes_lanes(layout):
    """Whether programs can be written for a network in each lane."""
    return all(layer.kind.group_cost(layer) is not None for layer in layout.layers)


@pytest.fixture(autouse=True, params=ENGINES)
def engine(request, monkeypatch):
    """Members train one after another, or in lanes. Then models compute row-major, whose sums have the same order."""
    in_lanes = request.param == "in lanes"

    def lanes_pay(layout, batch_size):
        return in_lanes and batch_size <= layout.block_rows and takes_lanes(layout)

    monkeypatch.setattr("fastnn.kernels.programs.strategy.lanes_pay", lanes_pay)
    if in_lanes:
        monkeypatch.setattr("fastnn.network.network.ORIENTATION", "row-major")
    return request.param


def skip_where_sums_have_another_order(engine, how="", batch_size=2):
    if engine == "in lanes" and (how.startswith("feature-major") or batch_size == 1):
        pytest.skip("a model sums feature-major, or a single sample, in another order than lanes")


def avoid_single_rows(counts):
    """Take some rows from members whose last batch of 16 were a single row."""
    for each in counts:
        if each.sum() % 16 == 1:
            each[each.argmax()] = 0


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
        np.testing.assert_allclose(history.loss[i, :done], model.history.loss, rtol=1e-13)
        assert np.isnan(history.loss[i, done:]).all()
        if val:
            np.testing.assert_allclose(history.val_loss[i, :done], model.history.val_loss, rtol=1e-13)
    return np.flatnonzero(history.status == "diverged").tolist()


def fitted(models, arguments, X, y, **common):
    """Fit models one by one, each with the values of its own that `arguments` has for it."""
    for i, model in enumerate(models):
        alone = {name: values[i] for name, values in arguments.items()}
        with contextlib.suppress(DivergenceError):
            model.fit(X, y, threads=1, **common, **alone)
    return models


def models_of(n, sizes=SIZES, first=0, **arguments):
    return [Model(sizes, rng=first + i, **arguments) for i in range(n)]


# ---- the bits of single fits ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch_size", [1, 32, 600])
@pytest.mark.parametrize("how", ["row-major", "feature-major"])
def test_each_member_has_the_bits_of_a_model(how, batch_size, dtype, orientation, engine):
    """A batch of one sample, of one block and of several; rates, penalties and dropout differ, and are zero for one."""
    skip_where_sums_have_another_order(engine, how, batch_size)
    orientation(how)
    X, y = data({1: 11, 32: 75, 600: 700}[batch_size], dtype=dtype)
    rates, l2, dropout = np.geomspace(1e-4, 0.05, 7), np.linspace(0, 1e-2, 7), np.linspace(0, 0.6, 7)
    population = Population(SIZES, 7, dtype=dtype, rng=0)
    common = {"epochs": 3, "batch_size": batch_size}
    population.fit(X, y, optimizer=Adam(rates), l2=l2, dropout=dropout, threads=2, **common)
    alone = {"optimizer": [Adam(rate) for rate in rates.tolist()], "l2": l2.tolist(), "dropout": dropout.tolist()}
    same(population, fitted(models_of(7, dtype=dtype), alone, X, y, **common))


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
    alone = {"optimizer": [Momentum(rate) for rate in rates.tolist()]}
    same(population, fitted(models, alone, X, y, epochs=2, batch_size=20, dropout=0.1))


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
        lambda r: AdamW(r, weight_decay=StepDecay(r, every=2, gamma=0.5)),
        lambda r: AdamW(CosineDecay(r, length=18, per="step"), weight_decay=slower),
        lambda r: Lion(CosineDecay(0.01, length=4), weight_decay=CosineDecay(r, length=4, hold=1), clip_value=r),
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
        alone = {"optimizer": [optimizer(number) for number in numbers.tolist()]}
        fitted(models, alone, X, y, epochs=epochs, batch_size=20)
        same(population, models)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch_size", [16, 75])
@pytest.mark.parametrize(
    "dropout",
    [
        lambda r: StepDecay(r, every=2, gamma=0.5),
        lambda r: [CosineDecay(r, length=4, hold=1), 0.3],
        lambda r: [0.0, lambda epoch: 0.6 / (1 + epoch)],
        lambda r: lambda epoch: 0.4 * (epoch % 2),
    ],
)
def test_dropout_and_weight_decay_may_change_by_epoch(dropout, batch_size, dtype):
    """In populations whose members stop at other epochs, with optimizers of several kinds; a further fit goes on."""
    sizes, numbers = [5, 7, 6, 1], np.array([0.05, 0.3, 0.2, 0.6, 0.1])
    X, y = data(dtype=dtype)

    def optimizers(numbers):
        made = [AdamW(0.01, weight_decay=StepDecay(r, every=2)) for r in numbers]
        return [*made[:3], Lion(0.01, weight_decay=slower), Adam(0.01)]

    population, models = Population(sizes, 5, dtype=dtype, rng=0), models_of(5, sizes, dtype=dtype)
    epochs = np.array([4, 2, 5, 3, 4])
    for _ in range(2):
        options = {"batch_size": batch_size, "threads": 2}
        made = optimizers(numbers.tolist())
        population.fit(X, y, epochs=epochs, optimizer=made, dropout=dropout(numbers), **options)
        alone = {"epochs": epochs.tolist(), "optimizer": made}
        fitted(
            models, alone | {"dropout": [dropout(number) for number in numbers.tolist()]}, X, y, batch_size=batch_size
        )
        same(population, models)
        joined = Population.from_models([*models[:2], *population[2:]])
        assert joined.vectors.tobytes() == population.vectors.tobytes()
        population = joined


def test_weight_decay_goes_on_where_each_member_stands(tmp_path):
    """After a file: members that have done other numbers of epochs have other weight decays in one round."""
    X, y = data()
    population, models = Population(SIZES, 4, rng=0), models_of(4)
    made = AdamW(0.02, weight_decay=CosineDecay(np.array([0.9, 0.5, 0.7, 0.2]), length=7))
    alone = [AdamW(0.02, weight_decay=CosineDecay(first, length=7)) for first in (0.9, 0.5, 0.7, 0.2)]
    epochs = [3, 0, 5, 2]
    population.fit(X, y, epochs=np.array(epochs), batch_size=16, optimizer=made)
    population.save(tmp_path / "file")
    pickled, population = pickle.loads(pickle.dumps(population)), fastnn.load(tmp_path / "file")
    population.fit(X, y, epochs=4, batch_size=16, optimizer=made)
    pickled.fit(X, y, epochs=4, batch_size=16, optimizer=made)
    for model, optimizer, before in zip(models, alone, epochs, strict=True):
        for more in (before, 4):
            model.fit(X, y, epochs=more, batch_size=16, optimizer=optimizer, threads=1)
    same(population, models)
    same(pickled, models)
    population.fit(X, y, epochs=1, batch_size=16, optimizer=AdamW(weight_decay=slower))
    with pytest.warns(UserWarning, match="because a learning rate or a weight decay is a function"):
        population.save(tmp_path / "file")


@pytest.mark.parametrize("count", [2, 9, 17])
def test_weight_decay_goes_on_after_ctrl_c(count, interrupt_after, engine):
    """Each member does the epochs that it lacks: all have the bits of a fit without Ctrl-C."""
    X, y = data()
    made = AdamW(0.02, weight_decay=CosineDecay(np.array([0.9, 0.5, 0.7, 0.2]), length=5))
    population, whole = Population(SIZES, 4, rng=0), Population(SIZES, 4, rng=0)
    options = {"batch_size": 16, "optimizer": made, "threads": 1}
    whole.fit(X, y, epochs=5, **options)
    with interrupt_after(count, name=ENGINES[engine][0]):
        population.fit(X, y, epochs=5, **options)
    done = population.history.epochs
    assert done.max() < 5
    population.fit(X, y, epochs=5 - done, **options)
    assert [left(model) for model in population] == [left(model) for model in whole]


def test_rules_batches_and_epochs_may_differ():
    """Members of other batch sizes, with and without a limit of norms, are trained in groups."""
    X, y = data(70, dtype="float64")
    weights = rng.uniform(0.5, 2, 70)
    alone = {
        "epochs": [2, 0, 4, 3],
        "batch_size": [16, 70, 16, 100],
        "max_norm": [None, 0.5, 0.7, None],
        "l1": [0.0, 1e-3, 1e-2, 1e-3],
        "input_noise": [0.1, 0.0, 0.2, 0.3],
        "min_derivative": [0.0, 0.1, 0.05, 0.2],
        "optimizer": [Adam(0.01), SGD(0.3), Adam(0.02), SGD(0.2, clip_norm=0.1)],
    }
    arrays = {name: np.array(values) for name, values in alone.items() if name not in ("max_norm", "optimizer")}
    arrays |= {"optimizer": alone["optimizer"], "max_norm": np.array([np.nan, 0.5, 0.7, np.nan])}
    population = Population(SIZES, 4, loss=Huber(0.3), output="identity", dtype="float64", rng=0)
    population.fit(X, y, sample_weight=weights, **arrays)
    models = models_of(4, loss=Huber(0.3), output="identity", dtype="float64")
    alone["max_norm"] = [None, 0.5, 0.7, None]
    fitted(models, alone, X, y, sample_weight=weights)
    same(population, [model for i, model in enumerate(models) if i != 1 or model.history.loss == []])
    assert population.history.status.tolist() == ["finished"] * 4


@pytest.mark.parametrize("how", ["row-major", "feature-major"])
def test_every_kind_of_layer(how, orientation, engine):
    skip_where_sums_have_another_order(engine, how)
    orientation(how)
    X, y = data(75, 8)
    norm, block = BatchNorm(activation="tanh"), Residual(LayerNorm(), Dense(16, "gelu"), Scale())
    layers = [8, Dense(16, "identity"), norm, block, 1]
    population = Population(layers, 5, rng=0)
    population.fit(X, y, epochs=3, batch_size=25, optimizer=Adam(np.geomspace(1e-3, 0.1, 5)), threads=2)
    alone = {"optimizer": [Adam(rate) for rate in np.geomspace(1e-3, 0.1, 5).tolist()]}
    same(population, fitted(models_of(5, layers), alone, X, y, epochs=3, batch_size=25))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("how", ["row-major", "feature-major"])
def test_slopes_below_zero(how, dtype, orientation, engine, tmp_path):
    """Of networks in lanes too, with a layer that is frozen, rules and weights of samples; and from a file."""
    skip_where_sums_have_another_order(engine, how)
    orientation(how)
    X, y = data(75, 8, dtype)
    layers = [8, PReLU(), Dense(16, "identity"), PReLU(0.0), Dense(5, "identity"), PReLU(-1.0), 1]
    rates, common = np.geomspace(1e-3, 0.1, 20), {"epochs": 3, "batch_size": 32, "dropout": 0.2, "max_norm": 2.0}
    common["sample_weight"] = rng.uniform(0.5, 2, 75).astype(dtype)
    models = models_of(20, layers, dtype=dtype)
    for model in models:
        model.freeze([2])
    population = Population.from_models(models)
    population.fit(X, y, optimizer=Adam(rates), l2=rates, threads=2, **common)
    alone = {"optimizer": [Adam(rate) for rate in rates.tolist()], "l2": rates.tolist()}
    same(population, fitted(models, alone, X, y, **common))
    for member in population:
        assert (member.weights[0] != 0.25).all()
        assert (member.weights[2] == 0).all()
    population.save(tmp_path / "members")
    loaded = fastnn.load(tmp_path / "members")
    assert loaded[3].layers == models[3].layers
    assert [left(member) for member in loaded] == [left(member) for member in population]


@pytest.mark.parametrize("shuffle", [False, "given"])
def test_other_orders(shuffle):
    X, y = data()
    order = np.array([rng.permutation(75) for _ in range(3)]) if shuffle else False
    population = Population(SIZES, 3, rng=0)
    population.fit(X, y, epochs=3, batch_size=20, shuffle=order, threads=2)
    same(population, fitted(models_of(3), {}, X, y, epochs=3, batch_size=20, shuffle=order))


@pytest.mark.parametrize("how", ["row-major", "feature-major"])
def test_one_that_diverges_stops_alone(how, orientation, engine):
    """In the first epoch or later; its gradient is NaN, and so is what a clipped norm scales."""
    skip_where_sums_have_another_order(engine, how)
    orientation(how)
    X, y = data()
    rates = np.array([1e6, 0.01, 3.0, 0.02, 1e30])
    arguments = {"activation": "identity", "output": "identity"}
    population = Population(SIZES, 5, rng=0, **arguments)
    population.fit(X, y, epochs=20, batch_size=20, optimizer=Momentum(rates))
    alone = {"optimizer": [Momentum(rate) for rate in rates.tolist()]}
    diverged = same(population, fitted(models_of(5, **arguments), alone, X, y, epochs=20, batch_size=20))
    assert {0, 4} <= {*diverged} <= {0, 2, 4}
    assert np.isfinite(population.vectors).all()


@pytest.mark.parametrize("how", ["row-major", "feature-major"])
def test_one_whose_gradient_is_not_finite_leaves_nothing_to_the_next(how, orientation, engine):
    """Its norm is NaN, and so is what it scales, padding included."""
    skip_where_sums_have_another_order(engine, how)
    orientation(how)
    X, y = data(75, 8)
    arguments, sizes = {"activation": "relu", "output": "identity"}, [8, 70, 1]
    population, models = Population(sizes, 3, rng=0, **arguments), models_of(3, sizes, **arguments)
    factors = np.float32([[1], [1e30], [1]])
    population.vectors = population.vectors * factors
    models[1].parameters[...] *= factors[1]
    optimizer = Adam(0.01, clip_norm=1e30)
    population.fit(X, y, epochs=3, batch_size=32, optimizer=optimizer)
    assert same(population, fitted(models, {}, X, y, epochs=3, batch_size=32, optimizer=optimizer)) == [1]


@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_nothing_is_left_in_padding(clip_norm, orientation, engine):
    """Rows of 64 outputs have padding in lanes: of members that diverged before, and of lanes that held none."""
    orientation("row-major")
    X, y = data(75, 8)
    arguments, sizes, rates = {"activation": "tanh", "output": "identity"}, [8, 64, 1], np.full(19, 1e-3)
    rates[:16] = 1e30
    population = Population(sizes, 19, rng=0, **arguments)
    optimizer = Adam(rates, clip_norm=clip_norm)
    history = population.fit(X, y, epochs=2, batch_size=25, optimizer=optimizer, threads=1)
    assert history.status.tolist() == ["diverged"] * 16 + ["finished"] * 3
    models = models_of(19, sizes, **arguments)[16:]
    for model in models:
        model.fit(X, y, epochs=2, batch_size=25, optimizer=Adam(1e-3, clip_norm=clip_norm), threads=1)
    same(population[16:], models)


@pytest.mark.slow
def test_a_thousand_members():
    X, y = data(96)
    rates, dropout = np.geomspace(1e-4, 0.05, 1000), np.linspace(0.05, 0.6, 1000)
    population = Population(SIZES, 1000, rng=0)
    population.fit(X, y, epochs=3, batch_size=32, optimizer=Adam(rates), dropout=dropout, threads=2)
    alone = {"optimizer": [Adam(rate) for rate in rates.tolist()], "dropout": dropout.tolist()}
    same(population, fitted(models_of(1000), alone, X, y, epochs=3, batch_size=32))


# ---- samples ----


def test_rows_are_chosen_without_a_copy():
    """Index arrays, a mask, and counts; with and without an order that is drawn; weights follow the rows."""
    X, y = data()
    weights = rng.uniform(0.5, 2, 75).astype(np.float32)
    mask, counts = rng.random((4, 75)) < 0.6, rng.integers(0, 3, (4, 75))
    lists = [rng.permutation(75)[: 10 + 8 * i] for i in range(4)]
    avoid_single_rows((*mask, *counts))
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
    avoid_single_rows(mask)
    for weights in (None, rng.uniform(0.5, 2, 75).astype(np.float32)):
        population, models = Population(SIZES, 3, rng=0), models_of(3)
        population.fit(X, y, epochs=3, batch_size=16, rows=mask, validation_data="rest", sample_weight=weights)
        for model, some in zip(models, mask, strict=True):
            alone = [array[some] for array in (X, y)]
            held = [array[~some] for array in (X, y)]
            w = None if weights is None else weights[some]
            held += [] if weights is None else [weights[~some]]
            model.fit(*alone, epochs=3, batch_size=16, validation_data=held, sample_weight=w, threads=1)
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


@pytest.mark.parametrize("class_weight", [{0: 2.0}, "balanced"])
@pytest.mark.parametrize("weighted", [False, True])
def test_weights_of_classes_among_chosen_rows(class_weight, weighted):
    """They follow from the rows that a member sees, and those that are left out have none."""
    X, y = rng.standard_normal((60, 5)), rng.integers(0, 2, 60)
    weights = rng.uniform(0.5, 2, 60) if weighted else None
    counts = rng.integers(0, 3, (3, 60))
    avoid_single_rows(counts)
    population, models = Population(SIZES, 3, rng=0), models_of(3)
    common = {"epochs": 2, "batch_size": 16, "class_weight": class_weight}
    population.fit(X, y, rows=counts, validation_data="rest", sample_weight=weights, **common)
    for model, count in zip(models, counts, strict=True):
        some, rest = np.repeat(np.arange(60), count), np.flatnonzero(count == 0)
        held = [X[rest], y[rest]] + ([weights[rest]] if weighted else [])
        alone = weights[some] if weighted else None
        model.fit(X[some], y[some], sample_weight=alone, validation_data=held, threads=1, **common)
    same(population, models, val=True)


def test_several_outputs_of_each_member():
    """Probabilities (n, rows, n_out), with rows and weights; and (n, rows) where rows and members are as many."""
    X, Y, weights = np.asfortranarray(rng.standard_normal((3, 20, 5))), rng.random((3, 20, 4)), rng.random((3, 20))
    Y /= Y.sum(axis=2, keepdims=True)
    rows = [[1, 2, 3, 5], [4, 4, 19, 2], [0, 7]]
    arguments = {"output": "softmax", "loss": "cross_entropy"}
    population, models = Population([5, 4], 3, rng=0, **arguments), models_of(3, [5, 4], **arguments)
    population.fit(X, Y, epochs=2, batch_size=2, rows=rows, sample_weight=weights)
    for model, x, y, w, some in zip(models, X, Y, weights, rows, strict=True):
        model.fit(x[some], y[some], epochs=2, batch_size=2, sample_weight=w[some], threads=1)
    same(population, models)
    X, Y = rng.standard_normal((3, 5)), rng.uniform(0.1, 0.9, (3, 3))
    population, models = Population(SIZES, 3, rng=0), models_of(3)
    population.fit(X[::-1], Y, epochs=2, batch_size=3)
    for model, y in zip(models, Y, strict=True):
        model.fit(X[::-1], y, epochs=2, batch_size=3, threads=1)
    same(population, models)


def test_samples_of_each_member(engine):
    """As one array with a set for each, and ragged; a set may be smaller than a batch."""
    X, y = rng.standard_normal((3, 40, 5)).astype(np.float32), rng.uniform(0.1, 0.9, (3, 40, 1)).astype(np.float32)
    population, models = Population(SIZES, 3, rng=0), models_of(3)
    population.fit(X, y, epochs=2, batch_size=16, validation_data=(X[:, :9], y[:, :9]))
    for model, alone, targets in zip(models, X, y, strict=True):
        model.fit(alone, targets, epochs=2, batch_size=16, validation_data=(alone[:9], targets[:9]), threads=1)
    same(population, models, val=True)
    edges = np.array([0, 5, 25, 26, 75, 91] if engine == "one by one" else [0, 5, 25, 27, 75, 91])
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


def test_rows_of_a_ragged_array_that_are_nobodys():
    """Before, between and behind those of members they count in no sum, of weights or of classes."""
    X, y, weights = rng.standard_normal((30, 5)), rng.integers(0, 2, 30), rng.uniform(0.5, 2, 30)
    for edges in (np.array([0, 12]), np.array([3, 20]), np.array([2, 9, 21])):
        n = len(edges) - 1
        population, models = Population(SIZES, n, rng=0), models_of(n)
        common = {"epochs": 2, "batch_size": 7, "class_weight": "balanced"}
        held = (X, edges), y, weights
        population.fit((X, edges), y, sample_weight=weights, validation_data=held, **common)
        for model, first, stop in zip(models, edges[:-1], edges[1:], strict=True):
            alone = [array[first:stop] for array in (X, y, weights)]
            model.fit(*alone[:2], sample_weight=alone[2], validation_data=alone, threads=1, **common)
        same(population, models, val=True)


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


@pytest.mark.parametrize("named", [False, True])
def test_rates_of_rounds(named):
    """Members are scored after each epoch, and rates change; a function is asked for no later epoch."""
    X, y = data()
    asked = []

    def rate(epoch):
        asked.append(epoch)
        return 4.0 * 0.5**epoch

    schedule = ExponentialDecay(4.0, gamma=0.5) if named else rate
    population, models = Population(SIZES, 3, rng=0), models_of(3)
    common = {"epochs": 30, "batch_size": 16, "validation_data": data(20)}
    population.fit(X, y, optimizer=SGD(schedule), stopping=Patience(2, min_delta=1e-3), **common)
    longest = int(population.history.epochs.max())
    assert longest < 25
    assert named or sorted({*asked}) == list(range(longest))
    for model in models:
        stop = EarlyStopping(patience=2, min_delta=1e-3)
        model.fit(X, y, optimizer=SGD(schedule), callbacks=[stop], threads=1, **common)
    same(population, models, val=True)


@pytest.mark.parametrize("restore", [True, False])
@pytest.mark.parametrize("keep_last", [False, True])
def test_patience_keeps_the_first_or_the_last_of_equally_good_epochs(keep_last, restore):
    """The weight trains, the bias has a gradient of zero, and the validation set shows the bias alone."""
    X = np.array([[-1.0], [1.0]], np.float32)
    y = 2 * X
    rates, patience = [0.1, 0.2, 0.05], [3, 5, 30]
    population, models = Population([1, 1], 3, output="identity", rng=0), models_of(3, [1, 1], output="identity")
    common = {"epochs": 20, "batch_size": 2, "validation_data": (np.zeros((1, 1), np.float32), np.ones((1, 1)))}
    vectors = population.vectors
    vectors[:, 1] = 0  # the biases, whose gradient is zero
    population.vectors = vectors
    for model in models:
        model.biases[0][...] = 0
    stopping = Patience(np.array(patience), restore_best=restore, keep_last=keep_last)
    history = population.fit(X, y, optimizer=SGD(np.array(rates)), stopping=stopping, **common)
    for model, rate, epochs in zip(models, rates, patience, strict=True):
        stop = EarlyStopping(patience=epochs, restore_best=restore, keep_last=keep_last)
        model.fit(X, y, optimizer=SGD(rate), callbacks=[stop], threads=1, **common)
    same(population, models, val=True)
    assert history.epochs.tolist() == [4, 6, 20]
    assert history.best_epoch.tolist() == ([4, 6, 20] if keep_last else [1, 1, 1])
    assert (history.val_loss[:, :4] == 0.5).all()
    steps = [4, 6, 20] if keep_last or not restore else [1, 1, 1]
    want = 2 + (vectors[:, 0] - 2) * (1 - np.array(rates)) ** steps
    np.testing.assert_allclose(population.vectors[:, 0], want, rtol=1e-5)


def test_a_rate_of_an_epoch_that_never_comes_is_no_error():
    """1000^103 is infinite, and all members have stopped before."""
    X, y = data()
    population = Population(SIZES, 3, rng=0)
    growing = SGD(ExponentialDecay(1e-6, gamma=1e3))
    with pytest.raises(ValueError, match="learning_rate must be finite and at least 0, got inf for epoch 103"):
        population.fit(X, y, epochs=200, batch_size=16, optimizer=growing)
    stopping = Patience(2, min_delta=1e3)
    history = population.fit(X, y, epochs=200, batch_size=16, optimizer=growing, stopping=stopping)
    assert history.epochs.tolist() == [3, 3, 3]


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
    alone = {"optimizer": [Adam(rate) for rate in rates.tolist()], "epochs": history.epochs.tolist()}
    same(population, fitted(models_of(27), alone, X, y, **common), val=held)
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


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
def test_helping_threads_may_never_come(share, short_calls, monkeypatch):
    """Or in some calls alone: then the first thread goes on with what they have left within an epoch."""
    from fastnn.kernels.running import pool

    X, y = data()
    expected, found = Population(SIZES, 5, rng=0), Population(SIZES, 5, rng=0)
    expected.fit(X, y, epochs=3, batch_size=16, optimizer=Adam(0.01))
    start, chance = pool.start, np.random.default_rng(0)
    monkeypatch.setattr(pool, "start", lambda *arguments: chance.random() < share and start(*arguments))
    short_calls()
    found.fit(X, y, epochs=3, batch_size=16, optimizer=Adam(0.01), threads=3)
    assert [left(a) for a in found] == [left(b) for b in expected]
    np.testing.assert_array_equal(found.history.loss, expected.history.loss)


def test_threads_of_an_earlier_call_do_nothing(short_calls, monkeypatch):
    """Not even where another worker has the slot by now that was theirs."""
    from fastnn.kernels.running import pool

    X, y = data()
    expected, found = Population(SIZES, 5, rng=0), Population(SIZES, 5, rng=0)
    expected.fit(X, y, epochs=3, batch_size=16, optimizer=Adam(0.01))
    start, chance, earlier, given = pool.start, np.random.default_rng(0), [], []

    def start_some(helping, call, function, arguments):
        given.extend(function(*late) for of_call, late in earlier[-8:] if of_call is not call)
        earlier.append((call, arguments))
        return chance.random() < 0.7 and start(helping, call, function, arguments)

    monkeypatch.setattr(pool, "start", start_some)
    short_calls()
    found.fit(X, y, epochs=3, batch_size=16, optimizer=Adam(0.01), threads=3)
    assert len(given) > 20
    assert not any(given)
    assert [left(a) for a in found] == [left(b) for b in expected]
    np.testing.assert_array_equal(found.history.loss, expected.history.loss)


# ---- what may come between ----


@pytest.mark.parametrize("count", range(1, 24, 3))
def test_ctrl_c_keeps_the_last_finished_epoch_of_each(count, interrupt_after, engine):
    """And what is left of the epochs gives the bits of a fit without Ctrl-C."""
    X, y = data()
    arguments = {"batch_size": 40, "optimizer": Adam(np.array([0.01, 0.02, 0.03])), "dropout": 0.2, "threads": 1}
    whole, population = Population(SIZES, 3, rng=0), Population(SIZES, 3, rng=0)
    count = count if engine == "one by one" else 1 + count // 3  # three members share the calls
    whole.fit(X, y, epochs=4, **arguments)
    with interrupt_after(count, name=ENGINES[engine][0]):
        population.fit(X, y, epochs=4, validation_data=(X, y) if count % 3 == 0 else None, **arguments)
    done = population.history.epochs
    models = models_of(3)
    for model, rate, epochs in zip(models, (0.01, 0.02, 0.03), done.tolist(), strict=True):
        model.fit(X, y, epochs=epochs, batch_size=40, optimizer=Adam(rate), dropout=0.2, threads=1)
    for i, model in enumerate(models):
        if done[i]:
            assert left(population[i]) == left(model)
        np.testing.assert_allclose(population.history.loss[i, : done[i]], model.history.loss, rtol=1e-13)
    assert set(population.history.status) <= {"stopped", "finished"}
    population.fit(X, y, epochs=4 - done, **arguments)
    assert [left(a) for a in population] == [left(b) for b in whole]


def test_a_second_ctrl_c_in_the_clean_up(interrupt_after, monkeypatch, engine):
    """Nothing is lost, and a further fit is possible."""
    X, y = data()
    population, models = Population(SIZES, 3, rng=0), models_of(3)

    def interrupted(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, interrupt_after(12, name=ENGINES[engine][0]):
        patch.setattr(f"fastnn.training.{ENGINES[engine][1]}.rolled_back", interrupted)
        population.fit(X, y, epochs=3, batch_size=16, threads=1)
    done = population.history.epochs
    same(population, fitted(models, {"epochs": done.tolist()}, X, y, batch_size=16))
    population.fit(X, y, epochs=3 - done, batch_size=16)
    same(population, fitted(models, {"epochs": (3 - done).tolist()}, X, y, batch_size=16))


def test_ctrl_c_comes_while_threads_help(interrupt_after, engine):
    X, y = data()
    population, models = Population(SIZES, 9, rng=0), models_of(9)
    with interrupt_after(40, name=ENGINES[engine][0]):
        population.fit(X, y, epochs=30, batch_size=16, threads=3)
    done = population.history.epochs.tolist()
    alone = {"epochs": done}
    fitted(models, alone, X, y, batch_size=16)
    assert (
        population.vectors.tobytes() == np.array([m.parameters[m._network.layout.elements] for m in models]).tobytes()
    )


def test_an_interrupted_first_epoch_keeps_the_state_of_the_optimizer(interrupt_after, engine):
    X, y = data()
    population = Population(SIZES, 2, rng=0)
    population.fit(X, y, epochs=2, batch_size=16, optimizer=Adam(0.01))
    before = [left(model) for model in population]
    with interrupt_after(2, name=ENGINES[engine][0]):
        population.fit(X, y, epochs=2, batch_size=16, optimizer=Momentum(0.01))
    assert [left(model) for model in population] == before


def test_a_population_is_trained_by_one_at_a_time(monkeypatch, engine):
    X, y = data()
    population = Population(SIZES, 3, rng=0)
    found = []

    def during(*arguments):
        if arguments[-1] > 0:  # a thread that helps may come when the fit has ended
            return train(*arguments)
        for call in (
            lambda: population.fit(X, y, epochs=1, batch_size=16),
            lambda: population.replace([0], [1]),
            lambda: setattr(population, "vectors", population.vectors),
        ):
            with pytest.raises(RuntimeError, match="while it is being trained"):
                call()
        found.append(population.predict(X).shape)
        return train(*arguments)

    from fastnn.kernels.running import entry

    train = getattr(entry, ENGINES[engine][0])
    monkeypatch.setattr(entry, ENGINES[engine][0], during)
    population.fit(X, y, epochs=1, batch_size=16)
    assert set(found) == {(3, 75, 1)}
    monkeypatch.setattr(entry, ENGINES[engine][0], train)
    population.fit(X, y, epochs=1, batch_size=16)


# ---- use ----


def test_predictions_are_those_of_the_models():
    X, _ = data(700)
    arguments = {"output": "softmax", "loss": "cross_entropy"}
    population, models = Population([5, 8, 3], 4, rng=0, **arguments), models_of(4, [5, 8, 3], **arguments)
    for rows in (1, 2, 33, 700):
        for threads in (1, 2):
            found = population.predict(X[:rows], threads=threads)
            np.testing.assert_array_equal(found, [model.predict(X[:rows]) for model in models])
    outputs = np.array([model.predict(X) for model in models])
    np.testing.assert_array_equal(population.predict(X, "mean"), outputs.mean(axis=0))
    np.testing.assert_array_equal(population.predict(X, "std"), outputs.std(axis=0))
    quantiles = population.predict(X, "quantiles", q=(0, 0.25, 1))
    np.testing.assert_allclose(quantiles, np.quantile(outputs, (0, 0.25, 1), axis=0), rtol=1e-6)
    classes = np.array([model.classify(X) for model in models])
    votes = [np.bincount(column, minlength=3).argmax() for column in classes.T]
    assert population.predict(X, "vote").tolist() == votes
    each = population.predict_each(X[:400].reshape(4, 100, 5))
    np.testing.assert_array_equal(each, [m.predict(X[100 * i : 100 * i + 100]) for i, m in enumerate(models)])


def test_reductions_of_many_rows_go_piece_by_piece(monkeypatch):
    """A last row is never alone, because its sums would have another order."""
    monkeypatch.setattr("fastnn.population.REDUCE_BYTES", 1)
    X, _ = data(9)
    population = Population(SIZES, 4, rng=0)
    np.testing.assert_array_equal(population.predict(X, "mean"), population.predict(X).mean(axis=0))
    assert population.predict(X, "quantiles").shape == (3, 9, 1)


def test_evaluations_are_those_of_the_models():
    X = rng.standard_normal((60, 5))
    labels, weights = rng.integers(0, 3, 60), rng.uniform(0.1, 2, 60)
    arguments = {"output": "softmax", "loss": "cross_entropy"}
    population, models = Population([5, 8, 3], 3, rng=0, **arguments), models_of(3, [5, 8, 3], **arguments)
    for weight in (None, weights):
        found = population.evaluate(X, labels, sample_weight=weight, metric=["accuracy", "log_loss"])
        for i, model in enumerate(models):
            expected = model.evaluate(X, labels, sample_weight=weight, metric=["accuracy", "log_loss"])
            assert {name: values[i] for name, values in found.items()} == expected
    alone = rng.integers(0, 3, (3, 60))
    found = population.evaluate(X, alone)["accuracy"]
    assert found.tolist() == [m.evaluate(X, y)["accuracy"] for m, y in zip(models, alone, strict=True)]


# ---- members ----


def trained(n=4, **arguments):
    X, y = data()
    population = Population(SIZES, n, rng=0)
    optimizer = Adam(np.linspace(0.01, 0.05, n), clip_norm=1.0)
    population.fit(X, y, epochs=2, batch_size=16, optimizer=optimizer, validation_data=data(20), **arguments)
    return population


def goes_on(population, models):
    """Fits of both give the same bits."""
    X, y = data()
    rates = np.linspace(0.01, 0.05, 4)[: len(population)]
    population.fit(X, y, epochs=2, batch_size=16, optimizer=Adam(rates, clip_norm=1.0))
    for model, rate in zip(models, rates.tolist(), strict=True):
        model.fit(X, y, epochs=2, batch_size=16, optimizer=Adam(rate, clip_norm=1.0), threads=1)
    same(population, models)


def test_members_slices_and_iteration():
    population = trained()
    assert len(population) == 4
    before = [left(model) for model in population]
    assert [left(population[i]) for i in (-1, np.int64(2))] == [before[3], before[2]]
    for key, expected in (
        (slice(1, 3), [1, 2]),
        ([3, 0, 3], [3, 0, 3]),
        (np.array([True, False, True, False]), [0, 2]),
    ):
        some = population[key]
        assert isinstance(some, Population)
        assert [left(model) for model in some] == [before[i] for i in expected]
        assert some.seeds == expected
        np.testing.assert_array_equal(some.history.val_loss, population.history.val_loss[expected])
    population[0].weights[0][...] = 0  # a copy
    assert [left(model) for model in population] == before
    model = population[1]
    assert model.history.val_loss == population.history.val_loss[1].tolist()
    for wrong in (4, -5):
        with pytest.raises((IndexError, ValueError), match="a member's number must be"):
            population[wrong]
    with pytest.raises(TypeError, match=r"a member's number must be an integer, got 1\.5"):
        population[1.5]
    with pytest.raises(IndexError, match="must have members"):
        population[4:]
    goes_on(population, list(Population.concatenate([population[:2], population[2:]])))


def test_the_best_members():
    population = trained()
    order = np.argsort(population.history.val_loss.min(axis=1)).tolist()
    assert left(population.best()) == left(population[order[0]])
    assert population.best(3).seeds == order[:3]
    with pytest.raises(ValueError, match="best needs a fit"):
        Population(SIZES, 2).best()
    with pytest.raises(ValueError, match="k must be at most 4, got 5"):
        population.best(5)


def test_replaced_members_have_the_winners_parameters_and_state():
    population = trained()
    before = [population[i] for i in range(4)]
    population.replace([3, 0], [1, 1])
    for i, source in enumerate((1, 1, 2, 1)):
        network, winner = population[i]._network, before[source]._network
        assert network.parameters.tobytes() == winner.parameters.tobytes()
        assert network.optimizer == winner.optimizer
        assert network.optimizer_state()[1].tobytes() == winner.optimizer_state()[1].tobytes()
        assert (network.random, network.noise) == (before[i]._network.random, before[i]._network.noise)
    for wrong, message in (
        (([0], [1, 2]), "as many"),
        (([4], [0]), "losers must be indices"),
        (([0], [0.5]), "winners"),
    ):
        with pytest.raises(ValueError, match=message):
            population.replace(*wrong)


def test_populations_of_models_and_of_populations():
    """With other optimizers, and with none."""
    X, y = data()
    models = [*trained(2), *models_of(2, first=2)]
    models[1].fit(X, y, epochs=1, batch_size=16, optimizer="lion")
    population = Population.from_models(models)
    assert [left(model) for model in population] == [left(model) for model in models]
    assert population.seeds is None
    joined = Population.concatenate([population, trained(1), Population(SIZES, 1, rng=7)])
    assert len(joined) == 6
    assert left(joined[1]) == left(models[1])
    assert left(joined[5]) == left(Model(SIZES, rng=7))
    goes_on(population, models)
    with pytest.raises(ValueError, match="models must have one architecture"):
        Population.from_models([Model([5, 1]), Model([5, 2])])
    with pytest.raises(ValueError, match="populations must have one architecture"):
        Population.concatenate([Population([5, 1], 1), Population([5, 2], 1)])
    for function, wrong in ((Population.from_models, [1]), (Population.concatenate, [])):
        with pytest.raises(TypeError, match="must be one or more"):
            function(wrong)


def test_vectors_without_padding():
    population, models = Population(SIZES, 3, rng=0), models_of(3)
    expected = [np.concatenate([t.ravel() for layer in m.tensors for t in layer.values()]) for m in models]
    np.testing.assert_array_equal(population.vectors, expected)
    population.vectors = population.vectors[::-1] * 2
    np.testing.assert_array_equal(population[0].weights[0], 2 * models[2].weights[0])
    population.vectors[...] = 0  # a copy
    assert population.vectors.any()
    for wrong, message in (
        (np.zeros((3, 5)), r"vectors must have shape \(3, 50\)"),
        (population.vectors * np.nan, "finite"),
    ):
        with pytest.raises(ValueError, match=message):
            population.vectors = wrong


def test_members_take_little_memory():
    """Parameters and two vectors of Adam without padding, and a record of the generators."""
    X, y = data(20, 4)
    population = Population([4, 8, 1], 100, rng=0)
    population.fit(X, y, epochs=1, batch_size=20, optimizer="adam")
    members = population._members
    assert members.optimizer_vectors.shape == (100, 2, 49)
    assert sum(a.nbytes for a in (members.vectors, members.optimizer_vectors, members.states)) <= 100 * 4 * 49 * 4


# ---- seeds ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("first", [0, 2**32 - 2, 2**64 - 2, 2**128 - 2])
@pytest.mark.parametrize(
    ("sizes", "init"),
    [
        ([4, 8, 1], "scaled"),
        ([3, 5, 2], "normal"),
        ([100, 101, 3], "glorot_normal"),
        ([3, 5, 2], "he_uniform"),
        ([3, 4, 4], "orthogonal"),
        ([3, 2], "zeros"),
        ([4, 7, 1], ["lecun_uniform", (np.ones((1, 7)), np.ones(1))]),
        ([5, Dense(6), BatchNorm(), Residual(LayerNorm(), Dense(6)), Scale(), PReLU(0.1), 2], "he_normal"),
        ([5, Embedding([3, 0], [40, 1000], [3, 9]), Dense(6), 2], "normal"),
    ],
)
def test_members_are_drawn_as_models(sizes, init, first, dtype):
    population = Population(sizes, 4, init=init, dtype=dtype, rng=first)
    models = [Model(sizes, init=init, dtype=dtype, rng=first + i) for i in range(4)]
    assert [left(member) for member in population] == [left(model) for model in models]
    assert population.seeds == [first + i for i in range(4)]


def test_ten_thousand_members_are_drawn_as_by_numpy():
    """A row's numbers are the same wherever it lies in the arrays that NumPy's functions take at once."""
    seeds = rng.integers(2**63, size=10_000)
    vectors = Population([3, 5, 1], 10_000, rng=seeds).vectors
    for i in range(0, 10_000, 97):
        model = Model([3, 5, 1], rng=int(seeds[i]))
        assert vectors[i].tobytes() == model.parameters[model._network.layout.elements].tobytes()


def test_seeds_of_a_generator():
    first, second = (Population(SIZES, 3, rng=np.random.default_rng(3)) for _ in range(2))
    assert first.seeds == second.seeds
    assert first[1].parameters.tobytes() == Model(SIZES, rng=first.seeds[1]).parameters.tobytes()
    assert Population(SIZES, 3).seeds != Population(SIZES, 3).seeds


# ---- files ----


@pytest.mark.parametrize("how", ["file", "pickle", "copy"])
@pytest.mark.parametrize("kinds", [1, 2])
def test_a_copy_goes_on_with_the_same_bits(how, kinds, tmp_path):
    population = trained()
    if kinds == 2:
        X, y = data()
        used = [Adam(0.01), SGD(0.1), AdamW(CosineDecay(0.1, length=9)), SGD(0.2)]
        population.fit(X, y, epochs=1, batch_size=16, optimizer=used)
    if how == "file":
        population.save(tmp_path / "population.safetensors")
        found = fastnn.load(tmp_path / "population.safetensors")
    else:
        found = copy.deepcopy(population) if how == "copy" else pickle.loads(pickle.dumps(population))
    assert isinstance(found, Population)
    assert [left(a) for a in found] == [left(b) for b in population]
    assert found.seeds == population.seeds
    assert repr(found) == repr(population)
    if kinds == 1:
        goes_on(found, list(population))


def test_what_a_file_of_a_population_holds(tmp_path):
    from safetensors.numpy import load_file

    population = trained()
    population.save(tmp_path / "population.safetensors")
    tensors = load_file(tmp_path / "population.safetensors")
    np.testing.assert_array_equal(tensors["vectors"], population.vectors)
    assert tensors["optimizer.vector1"].shape == (4, 50)
    population.save(tmp_path / "population.safetensors", optimizer=False)
    found = fastnn.load(tmp_path / "population.safetensors")
    assert found[0]._network.optimizer is None
    np.testing.assert_array_equal(found.vectors, population.vectors)


def test_a_file_holds_the_vectors_of_the_last_optimizers_alone(tmp_path):
    """Others that members, or those beside them, had before leave none behind."""
    X, y = data()
    mixed = Population(SIZES, 4, rng=0)
    mixed.fit(X, y, epochs=1, batch_size=16, optimizer=["adam", "sgd", "momentum", "sgd"])
    changed = trained()
    changed.fit(X, y, epochs=1, batch_size=16, optimizer="sgd")
    for population in (mixed, mixed[1::2], mixed[2:], changed):
        population.save(tmp_path / "population.safetensors")
        found = fastnn.load(tmp_path / "population.safetensors")
        assert [left(a) for a in found] == [left(b) for b in population]


def test_a_file_with_a_users_learning_rate_leaves_the_state_out(tmp_path):
    X, y = data()
    population = Population(SIZES, 2, rng=0)
    population.fit(X, y, epochs=1, batch_size=16, optimizer=SGD(slower))
    with pytest.warns(UserWarning, match="state is not saved"):
        population.save(tmp_path / "population.safetensors")
    assert fastnn.load(tmp_path / "population.safetensors")[0]._network.optimizer is None


# ---- wrong arguments ----

WRONG = [
    (
        {"optimizer": Adam(np.array([0.1, 0.2]))},
        ValueError,
        "learning_rate of Adam must be a number, or an array",
    ),
    ({"optimizer": [SGD(0.1)] * 2}, ValueError, "optimizer must be one, or a sequence of one for each of 3 members"),
    ({"optimizer": fastnn.LBFGS()}, ValueError, "optimizer must take steps by batches"),
    ({"optimizer": Rprop()}, ValueError, "Rprop needs all 75 samples in a batch, got batch_size 16"),
    ({"l2": np.array([0.1, np.nan, 0.1])}, ValueError, r"l2\[1\] must be a finite number at least 0, got nan"),
    ({"l2": np.array([0.1, 0.1])}, ValueError, "l2 must be a number, or an array of one for each of 3 members, got 2"),
    ({"l1": -1.0}, ValueError, "l1 must be a finite number at least 0"),
    ({"l1": np.array([["a"]])}, TypeError, "l1 must be a number, or an array"),
    (
        {"dropout": np.array([0.1, 1.0, 0.1])},
        ValueError,
        r"dropout\[1\] must be a finite number at least 0 and",
    ),
    ({"dropout": np.zeros((3, 2))}, ValueError, r"dropout must have shape \(3,\) or \(3, 1\)"),
    ({"max_norm": np.array([1.0, 0.0, np.nan])}, ValueError, r"max_norm\[1\] must be a finite number above 0"),
    ({"label_smoothing": np.array([0, 0, 0.1])}, ValueError, "label_smoothing needs the loss 'cross_entropy'"),
    ({"epochs": np.array([1, -1, 1])}, ValueError, r"epochs\[1\] must be at least 0, got -1"),
    ({"epochs": np.array([1.0, 1.0, 1.0])}, TypeError, "epochs must be an integer, or an array of one for each of 3"),
    ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
    ({"rows": [[0], [1]]}, TypeError, "rows must be a list of 3 index arrays"),
    ({"rows": [[0], [1], [75]]}, ValueError, r"rows\[2\] must hold indices in \[0, 75\), got 75"),
    ({"rows": [[0], [1], [-1]]}, ValueError, r"rows\[2\] must hold indices in \[0, 75\), got -1"),
    ({"rows": [[0], [1], [0.5]]}, TypeError, r"rows\[2\] must be an array of integers"),
    ({"rows": [[0], [1], []]}, (ValueError, TypeError), r"rows"),
    ({"rows": np.zeros((3, 75), bool)}, ValueError, "rows must leave each member at least one row, got none for 0"),
    ({"rows": np.zeros((3, 74), bool)}, ValueError, r"rows must be a list of 3 index arrays, or a mask or counts of"),
    ({"rows": -np.ones((3, 75), int)}, ValueError, "rows must hold counts of at least 0, got -1"),
    ({"rows": np.full((3, 75), 2**63, np.uint64)}, ValueError, "rows must hold counts of at least 0, got 9223372036"),
    ({"validation_data": "rest"}, ValueError, "validation_data 'rest' is what `rows` leaves out"),
    ({"validation_data": "rest", "rows": np.ones((3, 75), bool)}, ValueError, "rows must leave out a row of each"),
    ({"validation_data": "all"}, ValueError, "validation_data must be one of 'rest'"),
    ({"validation_data": (1,)}, TypeError, "validation_data must be a pair"),
    ({"validation_fraction": 0.001}, ValueError, "validation_fraction must leave a sample on both sides"),
    ({"sample_weight": np.zeros((3, 75))}, ValueError, "sample_weight must have an element above zero"),
    ({"sample_weight": np.ones(7)}, ValueError, r"sample_weight must have shape \(75,\)"),
    ({"sample_weight": np.eye(3, 75), "rows": [[0], [0], [0]]}, ValueError, "for each member, got zeros for 1"),
    ({"shuffle": np.zeros((1, 75), int), "rows": [[0]] * 3}, ValueError, "shuffle must be True or False where members"),
    ({"stopping": 5}, TypeError, "stopping must be a Patience, a Halving or None, got 5"),
    ({"stopping": Patience(monitor="val_loss")}, ValueError, "monitor 'val_loss' needs validation_data"),
    ({"stopping": Patience(np.array([1, 2]))}, ValueError, "epochs of Patience must be a number, or an array of one"),
    ({"max_time": 0}, ValueError, "max_time must be a finite number above 0"),
    ({"threads": 0}, ValueError, "threads must be at least 1"),
    ({"progress": 3}, TypeError, "progress must be True, False or None"),
    ({"lr": 0.1}, TypeError, "unexpected keyword argument 'lr'; fastnn has optimizer"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), WRONG)
def test_a_wrong_argument_changes_nothing(arguments, error, message):
    X, y = data()
    population = Population(SIZES, 3, rng=0)
    before = [left(model) for model in population]
    with pytest.raises(error, match=message):
        population.fit(X, y, **{"epochs": 1, "batch_size": 16} | arguments)
    assert [left(model) for model in population] == before
    assert population.history is None


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (np.zeros((4, 9, 5)), np.zeros((4, 9)), r"X must have shape \(rows, 5\) or \(3, rows, 5\), got \(4, 9, 5\)"),
        (np.zeros((9, 4)), np.zeros(9), r"X must have shape \(n, 5\)"),
        ((np.zeros((9, 5)), [0, 3, 9]), np.zeros(9), r"X\[1\] must be 4 integers"),
        ((np.zeros((9, 5)), [0, 3, 3, 9]), np.zeros(9), r"X\[1\] must rise .*, got \[0, 3, 3, 9\]"),
        ((np.zeros((9, 5)), [0, 3, 4, 10]), np.zeros(9), r"X\[1\] must rise"),
        ((np.zeros((9, 5)), [0, 3, 4, 9]), np.zeros(8), r"y must have shape \(9,\) or \(9, 1\)"),
        (np.zeros((9, 5)), np.zeros((2, 9)), "y must have shape"),
        (np.full((9, 5), np.nan), np.zeros(9), r"X must be finite in float32, got X\[0, 0\] = nan"),
    ],
)
def test_samples_that_do_not_fit(X, y, message):
    with pytest.raises(ValueError, match=message):
        Population(SIZES, 3).fit(X, y, epochs=1, batch_size=3)


def test_samples_that_must_be_others():
    population, X = Population(SIZES, 3), np.zeros((9, 5))
    with pytest.raises(TypeError, match="X must be in memory for a population, got a Stream"):
        population.fit(fastnn.Stream([[X, X[:, 0]]]), None, epochs=1, batch_size=3)
    for call in (lambda: population.evaluate(X, None), lambda: population.fit(X, None, epochs=1, batch_size=3)):
        with pytest.raises(TypeError, match="y must hold the targets, got None"):
            call()
    with pytest.raises(
        ValueError, match=r"X must have shape \(rows, 5\); predict_each takes rows of each member's own"
    ):
        population.predict(np.zeros((3, 9, 5)))
    with pytest.raises(ValueError, match=r"X must have shape \(3, b, 5\), got \(9, 5\)"):
        population.predict_each(X)
    with pytest.raises(ValueError, match="reduce must be one of 'mean', 'std', 'quantiles', 'vote', got 'median'"):
        population.predict(X, "median")
    with pytest.raises(ValueError, match="q must be"):
        population.predict(X, "quantiles", q=[1.5])


def test_few_learning_rates_at_a_time(monkeypatch):
    """A fit whose table of rates would be large goes on in rounds, with the same bits."""
    monkeypatch.setattr("fastnn.training.rounds.RATES_AT_A_TIME", 1)
    X, y = data()
    population, models = Population(SIZES, 3, rng=0), models_of(3)
    rates = np.array([0.1, 0.2, 0.3])
    population.fit(X, y, epochs=4, batch_size=16, optimizer=SGD(CosineDecay(rates, length=18, per="step")))
    alone = {"optimizer": [SGD(CosineDecay(rate, length=18, per="step")) for rate in rates.tolist()]}
    same(population, fitted(models, alone, X, y, epochs=4, batch_size=16))


def test_a_rate_that_cannot_be_ends_the_fit():
    X, y = data()
    population = Population(SIZES, 2, rng=0)
    message = r"learning_rate must be finite .* got inf for epoch 1 from ExponentialDecay\(learning_rate=1e\+300"
    with pytest.raises(ValueError, match=message):
        population.fit(X, y, epochs=3, batch_size=16, optimizer=SGD(ExponentialDecay(np.array([1, 1e300]), gamma=1e9)))
    assert population.history.epochs.tolist() == [0, 0]


def test_a_model_takes_no_arrays():
    X, y = data()
    for optimizer, name in (
        (Adam(np.array([0.1, 0.2])), "learning_rate of Adam"),
        (Adam(0.1, beta1=np.array([0.1, 0.2])), "beta1 of Adam"),
        (SGD(CosineDecay(np.array([0.1, 0.2]), length=3)), "learning_rate of SGD"),
    ):
        for call in (
            lambda m, o: m.fit(X, y, epochs=1, batch_size=9, optimizer=o),
            lambda m, o: m.partial_fit(X, y, optimizer=o),
        ):
            with pytest.raises(ValueError, match=f"{name} must be a number here, got an array; Population.fit takes"):
                call(Model(SIZES), optimizer)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Population(SIZES, 0), ValueError, "n must be at least 1, got 0"),
        (lambda: Population(SIZES, 2, rng=[1]), ValueError, "rng must be a seed, or a sequence of one for each of 2"),
        (lambda: Population(SIZES, 2, rng=[1, -1]), ValueError, r"rng\[1\] must be at least 0"),
        (lambda: Population(SIZES, 2, rng=1.5), TypeError, "rng must be an integer, got 1.5"),
        (lambda: Population(SIZES, 2, seed=1), TypeError, "fastnn has rng"),
        (lambda: Patience(0), ValueError, "epochs must be at least 1"),
        (lambda: Patience(np.array([1.5])), TypeError, "epochs of Patience must be integers"),
        (lambda: Patience(monitor="accuracy"), ValueError, "monitor must be one of 'val_loss', 'loss'"),
        (lambda: Patience(keep_last=1), TypeError, "keep_last must be True or False, got 1"),
        (lambda: Halving(eta=1), ValueError, "eta must be at least 2"),
        (lambda: Adam(np.array([0.1, -1])), ValueError, r"learning_rate\[1\] must be a finite number above 0, got -1"),
        (lambda: Adam(np.zeros((2, 2))), TypeError, "learning_rate must be a number, or an array"),
    ],
)
def test_wrong_settings(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_arrays_in_settings_are_copies_that_compare():
    rates = np.array([0.1, 0.2])
    optimizer = Adam(rates)
    assert optimizer == Adam(np.array([0.1, 0.2])) != Adam(np.array([0.1, 0.3]))
    assert len({optimizer, Adam(np.array([0.1, 0.2]))}) == 1
    rates[...] = 5
    assert np.asarray(optimizer.learning_rate).tolist() == [0.1, 0.2]
    assert optimizer == pickle.loads(pickle.dumps(optimizer)) == Adam(np.array([0.1, 0.2]))
    assert repr(optimizer).startswith("Adam(learning_rate=array of 2 from 0.1 to 0.2, beta1=0.9")


def test_targets_out_of_reach_are_told():
    X, y = data()
    population = Population(SIZES, 2, rng=0)
    with pytest.warns(UserWarning, match="no training reaches those outside") as found:
        population.fit(X, y + 3, epochs=1, batch_size=16)
    assert [each.filename for each in found] == [__file__]


def test_what_a_fit_tells(capsys):
    X, y = data()
    population = Population(SIZES, 3, rng=0)
    population.fit(X, y, epochs=2, batch_size=16, validation_data=(X, y), verbose=1, progress=True)
    printed = capsys.readouterr()
    assert "6/6" in printed.err
    lines = (printed.out + printed.err).splitlines()
    losses = population.history.loss.min(axis=0)
    assert any(f"epoch 2  0 members go on  least loss {losses[1]:.4g}  least val_loss" in line for line in lines)
    assert "3 members" in population.summary()


# ---- lanes and models that sum in another order ----


@pytest.mark.parametrize(
    ("sizes", "batch_size", "arguments"),
    [
        ([8, Dense(16, "tanh"), 1], 32, {"output": "identity"}),
        ([8, Dense(16, "identity"), PReLU(), 1], 32, {"output": "identity"}),
        ([5, Dense(6, "relu"), 3], 8, {"output": "softmax", "loss": "cross_entropy"}),
        ([3, Dense(4, "silu"), 2], 1, {"output": "identity", "loss": "gaussian"}),
    ],
)
def test_members_in_lanes_agree_with_models_up_to_rounding(sizes, batch_size, arguments, engine, monkeypatch):
    """One step in both dtypes, and twenty epochs in float64, whichever way the model computes."""
    if engine == "one by one":
        pytest.skip("such members have the bits of models")
    monkeypatch.setattr("fastnn.network.network.ORIENTATION", "")
    n_in = sizes[0]
    X = rng.standard_normal((70, n_in))
    y = rng.integers(0, 3, 70) if "cross_entropy" in arguments.values() else rng.uniform(0.1, 0.9, (70, 1))
    for dtype, epochs, rows, tolerance in (("float32", 1, batch_size, 1e-6), ("float64", 20, 70, 1e-9)):
        some, targets = X[:rows].astype(dtype), y[:rows]
        population, models = Population(sizes, 3, rng=0, dtype=dtype, **arguments), []
        for i in range(3):
            models.append(Model(sizes, rng=i, dtype=dtype, **arguments))
            models[-1].fit(some, targets, epochs=epochs, batch_size=batch_size, optimizer=Adam(0.01), threads=1)
        population.fit(some, targets, epochs=epochs, batch_size=batch_size, optimizer=Adam(0.01))
        for member, model in zip(population, models, strict=True):
            size = max(np.abs(weight).max() for weight in model.weights)
            np.testing.assert_allclose(member.parameters, model.parameters, atol=tolerance * size)


@pytest.mark.parametrize("n", [1, 3, 40])
def test_lanes_do_not_follow_from_the_number_of_members(n, engine, monkeypatch):
    """The last of n members has the bits of a member alone, with samples of its own beside smaller and larger sets."""
    if engine == "one by one":
        pytest.skip("such members have the bits of models")
    monkeypatch.undo()  # what `strategy` chooses
    counts = rng.integers(2, 60, n)
    edges = np.concatenate([[0], np.cumsum(counts)])
    X, y = rng.standard_normal((edges[-1], 4)), rng.standard_normal((edges[-1], 1))
    arguments = {"epochs": 5, "batch_size": 16, "optimizer": Adam(0.01)}
    layers = [4, Dense(8, "tanh"), 1]
    population = Population(layers, n, output="identity", rng=3)
    population.fit((X, edges), y, threads=2, **arguments)
    alone = Population(layers, 1, output="identity", rng=[3 + n - 1])
    alone.fit(X[edges[-2] :], y[edges[-2] :], **arguments)
    assert left(population[n - 1]) == left(alone[0])
    np.testing.assert_array_equal(population.history.loss[-1], alone.history.loss[0])


def test_samples_of_no_weight_change_nothing(engine):
    """Of a whole batch, beside members that have weights."""
    X, y = data(48)
    weights = rng.uniform(0.5, 2, (3, 48)).astype(np.float32)
    weights[1, 16:32] = 0
    population, models = Population(SIZES, 3, rng=0), models_of(3)
    arguments = {"epochs": 3, "batch_size": 16, "optimizer": Adam(0.01), "dropout": 0.2, "shuffle": False}
    population.fit(X, y, sample_weight=weights, **arguments)
    for model, some in zip(models, weights, strict=True):
        model.fit(X, y, sample_weight=some, threads=1, **arguments)
    same(population, models)


def test_lanes_without_a_member_stay_at_their_row(engine, monkeypatch):
    """However many steps the others take: they read nothing but the first row of another's samples."""
    if engine == "one by one":
        pytest.skip("no lanes")
    from fastnn.kernels.programs import lane_records
    from fastnn.kernels.running import entry

    train, found = entry.train_groups, []

    def during(*arguments):
        result = train(*arguments)
        lanes, table = arguments[8], arguments[16]
        idle = lanes[lane_records.MEMBER] < 0
        found.append((table[lane_records.LAST, idle], lanes[lane_records.DONE, idle]))
        return result

    monkeypatch.setattr(entry, "train_groups", during)
    X, y = data(64)
    Population(SIZES, 3, rng=0).fit(X, y, epochs=20, batch_size=16, threads=1)
    assert len(found) > 1
    for last, done in found[1:]:
        assert len(last) >= 5
        assert last.min() >= 0
        assert not done.any()
