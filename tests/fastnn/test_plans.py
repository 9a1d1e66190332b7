"""Plans: the programs of training that a model keeps for the next fit of the same kind. They change no bits."""

import copy
import functools
import gc
import os
import pickle
import threading
import weakref
from dataclasses import replace

import numpy as np
import pytest

import fastnn
from fastnn import SGD, Adam, Dense, DivergenceError, Huber, Model, Momentum
from fastnn.kernels.programs import strategy
from fastnn.kernels.programs.program import SETTINGS, Program
from fastnn.kernels.vector import library
from fastnn.network import network
from fastnn.network import threads as fastnn_threads
from fastnn.training import thread_tuner
from fastnn.training.plan import Plan
from fastnn.training.step import Stepper

from ..cases import OPTIMIZERS
from ..twin import Twin

# What is special in it: (orientation, sizes, batch size, samples). The last batch is smaller in all but the first.
WAYS = {
    "single": ("row-major", [5, 9, 3], 1, 40),
    "row major": ("row-major", [5, 40, 3], 7, 61),
    "feature major": ("feature-major", [4, 10, 3], 256, 700),
    "several blocks": ("row-major", [6, 40, 3], 1400, 3000),
    "several feature-major blocks": ("feature-major", [6, 10, 3], 1400, 3000),
}
SOME_OPTIMIZERS = ("sgd", "momentum", "nesterov", "adam")


@pytest.fixture(autouse=True)
def programs_of_their_own(monkeypatch):
    """Networks share no programs here."""
    monkeypatch.setattr(network, "SHARED_BYTES", 0)


@pytest.fixture
def way(orientation):
    """A function of how a batch is computed: (sizes, batch size, samples)."""

    def choose(name):
        how, *rest = WAYS[name]
        orientation(how)
        return rest

    return choose


def samples(n, sizes, seed=0, dtype="float32"):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, sizes[0])).astype(dtype), rng.integers(0, sizes[-1], n)


def plans(model):
    return list(model._network.plans)


def bits(model):
    optimizer, vectors, numbers = model._network.optimizer_state() or (None, np.empty(0), np.empty(0))
    return model.parameters.tobytes(), model._network.random, optimizer, vectors.tobytes(), numbers.tobytes()


def bound(plan):
    """The addresses that a plan's bindings hold, but that of the plan's settings, which is there always."""
    addresses = plan.bindings["address"].tolist()
    assert addresses[SETTINGS] == plan.settings.ctypes.data
    return [i for i, address in enumerate(addresses) if address and i != SETTINGS]


# ---- the same bits ----


@pytest.mark.parametrize("optimizer", SOME_OPTIMIZERS)
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("name", WAYS)
def test_a_second_fit_uses_the_plan_and_gives_the_bits_of_one_longer_fit(name, shuffle, optimizer, way):
    sizes, batch_size, n = way(name)
    X, y = samples(n, sizes)
    options = {"batch_size": batch_size, "shuffle": shuffle, "optimizer": OPTIMIZERS[optimizer]}
    once, again, afresh = (Model(sizes, rng=0) for _ in range(3))
    once.fit(X, y, epochs=5, **options)
    for model in (again, afresh):
        model.fit(X, y, epochs=2, **options)
    (plan,) = plans(again)
    afresh._network.plans.clear()
    for model in (again, afresh):
        model.fit(X, y, epochs=3, **options)
    assert plans(again) == [plan]
    assert plans(afresh) != [plan]
    assert bits(again) == bits(once) == bits(afresh)
    assert again.history.loss == once.history.loss[2:] == afresh.history.loss


CHANGES = {
    "learning_rate": ({"optimizer": Adam(0.01)}, {"optimizer": Adam(0.003)}),
    "momentum": ({"optimizer": Momentum(0.1, 0.9)}, {"optimizer": Momentum(0.1, 0.5)}),
    "l2": ({"l2": 0.1}, {"l2": 0.01}),
    "l1": ({"l1": 0.1}, {"l1": 0.01}),
    "dropout": ({"dropout": 0.2}, {"dropout": 0.5}),
    "input_noise": ({"input_noise": 0.1}, {"input_noise": 0.4}),
    "label_smoothing": ({"label_smoothing": 0.1}, {"label_smoothing": 0.3}),
    "max_norm": ({"max_norm": 1.0}, {"max_norm": 0.5}),
    "clip_value": ({"optimizer": SGD(0.1, clip_value=0.1)}, {"optimizer": SGD(0.1, clip_value=0.001)}),
    "clip_norm": ({"optimizer": SGD(0.1, clip_norm=0.1)}, {"optimizer": SGD(0.1, clip_norm=0.02)}),
    "min_derivative": ({"min_derivative": 0.1}, {"min_derivative": 0.9}),
}


@pytest.fixture
def written(monkeypatch):
    """A list that gets the name of each operation that is written from now on."""
    names, add = [], Program.add

    def noted(program, name, **arguments):
        names.append(name)
        return add(program, name, **arguments)

    monkeypatch.setattr(Program, "add", noted)
    return names


@pytest.mark.parametrize("batch_size", [1, 16])
@pytest.mark.parametrize("changed", CHANGES)
def test_a_fit_with_another_value_writes_no_program(changed, batch_size, written):
    """It gives the bits of programs that were written for it."""
    X, y = samples(61, [5, 9, 3])
    options = {"epochs": 2, "batch_size": batch_size}
    model, afresh, same = (Model([5, 9, 3], loss="cross_entropy", rng=0) for _ in range(3))
    first, second = CHANGES[changed]
    for each in (model, afresh, same):
        each.fit(X, y, **options, **first)
    afresh._network.plans.clear()
    written.clear()
    model.fit(X, y, **options, **second)
    same.fit(X, y, **options, **first)
    assert written == []
    afresh.fit(X, y, **options, **second)
    assert written
    assert bits(model) == bits(afresh) != bits(same)


def test_a_loss_with_another_parameter_writes_no_program(written, monkeypatch):
    """Models that differ by it alone share their programs. Their losses are those of the formula."""
    monkeypatch.setattr(network, "SHARED_BYTES", 2**20)
    network._shared_programs.cache_clear()
    X, _ = samples(61, [5, 9, 1], dtype="float64")
    y, counts = 3 * np.sin(X[:, 0]), []
    for delta in (0.3, 2.0):
        model = Model([5, 9, 1], output="identity", loss=Huber(delta), dtype="float64", rng=0)
        written.clear()
        model.partial_fit(X, y)
        model.fit(X, y, epochs=2, batch_size=16)  # the model gives back the plan of partial_fit
        size = np.abs(model.predict(X)[:, 0] - y)
        want = np.where(size > delta, delta * (size - delta / 2), size**2 / 2).mean()
        assert model.evaluate(X, y)["loss"] == pytest.approx(want, rel=1e-12)
        gradient = model.gradients(X, y)[-1][1]
        error = np.clip(model.predict(X)[:, 0] - y, -delta, delta)
        assert gradient == pytest.approx(error.mean(), rel=1e-12)
        counts.append(len(written))
    assert counts[0] > counts[1] == 0


@pytest.mark.parametrize("name", WAYS)
def test_other_samples_of_the_same_kind(name, way):
    """Each fit against the textbook's SGD, from other arrays and in other orders."""
    sizes, batch_size, n = way(name)
    model = Model(sizes, dtype="float64", rng=0)
    twin, seen = Twin(model), []
    for seed in range(4):
        X, y = samples(n, sizes, seed, "float64")
        order = np.array([np.random.default_rng(seed).permutation(n) for _ in range(2)])
        history = model.fit(X, y, epochs=2, batch_size=batch_size, shuffle=order, optimizer=SGD(0.2))
        losses = twin.sgd(X, np.eye(sizes[-1])[y], order, batch_size, 0.2)
        assert history.loss == pytest.approx(losses, rel=1e-11)
        assert twin.relative_error(model) < 1e-11
        seen += plans(model)
    assert len({*map(id, seen)}) == 1


@pytest.mark.parametrize("name", WAYS)
def test_another_number_of_samples_with_the_same_remainder(name, way):
    sizes, batch_size, n = way(name)
    model, twin = Model(sizes, rng=0), Model(sizes, rng=0)
    for rows in (n, n + 2 * batch_size, n - batch_size, n):
        X, y = samples(rows, sizes, rows)
        for each in (model, twin):
            each.fit(X, y, epochs=2, batch_size=batch_size)
        twin._network.plans.clear()
        assert len(plans(model)) == 1
        assert bits(model) == bits(twin)
    X, y = samples(n + 1, sizes)
    for each in (model, twin):
        each.fit(X, y, epochs=2, batch_size=batch_size)
    assert len(plans(model)) == (1 if batch_size == 1 else 2)  # another remainder
    assert bits(model) == bits(twin)


def test_orders_of_each_kind_in_turn():
    X, y = samples(61, [5, 40, 3], dtype="float64")
    model = Model([5, 40, 3], dtype="float64", rng=0)
    twin = Twin(model)
    given = np.array([np.random.default_rng(1).permutation(61) for _ in range(2)])
    for shuffle, order in ((False, np.tile(np.arange(61), (2, 1))), (given, given), (given[:, ::-1], given[:, ::-1])):
        for _ in range(2):
            model.fit(X, y, epochs=2, batch_size=7, shuffle=shuffle)
            twin.sgd(X, np.eye(3)[y], order, 7, 0.1)
            assert twin.relative_error(model) < 1e-11
    assert len(plans(model)) == 1


def test_bytes_then_floats():
    """Two kinds, whose bits are the same where the numbers are."""
    sizes = [5, 40, 3]
    X = np.random.default_rng(0).integers(0, 256, (61, 5), dtype=np.uint8)
    y = np.arange(61) % 3
    model, twin = Model(sizes, input_scale=1 / 255, rng=0), Model(sizes, input_scale=1 / 255, rng=0)
    for _ in range(3):
        for given in (X, X.astype(np.float32)):
            model.fit(given, y, epochs=2, batch_size=7)
            twin.fit(X, y, epochs=2, batch_size=7)
            assert bits(model) == bits(twin)
    assert [plan.kind.sources.x.dtype for plan in plans(model)] == ["uint8", "float32"]
    assert len(plans(twin)) == 1


def test_class_indices_then_rows_of_targets():
    X, y = samples(61, [5, 40, 3])
    model, twin = Model([5, 40, 3], rng=0), Model([5, 40, 3], rng=0)
    for _ in range(3):
        for target in (y, fastnn.one_hot(y, 3)):
            model.fit(X, target, epochs=2, batch_size=7)
            twin.fit(X, y, epochs=2, batch_size=7)
            assert bits(model) == bits(twin)
    assert len(plans(model)) == 2


@pytest.mark.parametrize(
    ("first", "second"), [(SGD(0.2), SGD(0.05)), (Momentum(0.05), Momentum(0.01, 0.5)), (Adam(0.01), Adam(0.02, 0.8))]
)
def test_other_settings_of_the_optimizer(first, second):
    """The plan is the same, and its state starts afresh."""
    X, y = samples(61, [5, 40, 3])
    model, twin = Model([5, 40, 3], rng=0), Model([5, 40, 3], rng=0)
    for optimizer in (first, second, first, first):
        for each in (model, twin):
            each.fit(X, y, epochs=2, batch_size=7, optimizer=optimizer)
        twin._network.plans.clear()
        assert bits(model) == bits(twin)
    assert len(plans(model)) == 1


def test_another_optimizer_in_between():
    X, y = samples(61, [5, 40, 3])
    model, twin = Model([5, 40, 3], rng=0), Model([5, 40, 3], rng=0)
    for name in ("adam", "sgd", "adam", "momentum", "momentum", "adam"):
        for each in (model, twin):
            each.fit(X, y, epochs=2, batch_size=7, optimizer=OPTIMIZERS[name])
        twin._network.plans.clear()
        assert bits(model) == bits(twin)


def test_steps_among_fits():
    """A step uses a plan of its own kind; what other optimizers did in between is not undone."""
    X, y = samples(20, [5, 40, 3])
    adam = Adam(0.01)
    model, twin = Model([5, 40, 3], rng=0), Model([5, 40, 3], rng=0)

    def both(train):
        for each in (model, twin):
            train(each)
        twin._network.plans.clear()
        twin._network.stepper = None
        assert bits(model) == bits(twin)

    for optimizer in (SGD(0.1), adam, Momentum(0.1), adam):
        both(lambda m: m.partial_fit(X, y, optimizer=adam))
        both(lambda m, optimizer=optimizer: m.fit(X, y, epochs=2, batch_size=7, optimizer=optimizer))
        both(lambda m: m.fit(X, y, epochs=1, batch_size=7, optimizer=adam))
        both(lambda m: m.partial_fit(X, y, optimizer=adam))
        both(lambda m: m.fit(X, y, epochs=1, batch_size=20, optimizer=adam))  # the plan of a step
        both(lambda m: m.partial_fit(X, y, optimizer=adam))


@pytest.fixture
def on_two_threads(monkeypatch, orientation):
    """Fits go row-major on two threads."""
    monkeypatch.setattr(fastnn_threads, "available_threads", lambda: 2)
    monkeypatch.setattr(fastnn_threads, "FIT_MULTIPLY_ADDS", 0)
    monkeypatch.setattr(strategy, "THREAD_MULTIPLY_ADDS", 1)
    orientation("row-major")
    monkeypatch.setattr(thread_tuner.ThreadTuner, "choose", lambda self: (self.threads, 1.0))


def test_on_two_threads(on_two_threads):
    """Threads train in memory of their own, which the next fit finds as the last one left it."""
    X, y = samples(200, [20, 70, 40])
    model, alone = Model([20, 70, 40], rng=0), Model([20, 70, 40], rng=0)
    for epochs in (1, 2, 1):
        model.fit(X, y, epochs=epochs, batch_size=32, optimizer="adam", threads=2)
        model.weights[0][0, 0] = epochs
        alone.fit(X, y, epochs=epochs, batch_size=32, optimizer="adam", threads=1)
        alone.weights[0][0, 0] = epochs
        assert bits(model) == bits(alone)
    assert [plan.threads for plan in plans(model)] == [2]


def test_two_models_in_two_threads():
    data = [samples(61, [5, 40, 3], seed) for seed in range(2)]

    def train(seed, model, results):
        X, y = data[seed]
        for batch_size in (7, 10, 7, 61, 10, 7):
            model.fit(X, y, epochs=3, batch_size=batch_size, optimizer="adam")
        results[seed] = bits(model)

    expected, results, start = {}, {}, threading.Barrier(2)
    for seed in range(2):
        train(seed, Model([5, 40, 3], rng=seed), expected)

    def work(seed):
        start.wait()
        train(seed, Model([5, 40, 3], rng=seed), results)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert results == expected


# ---- how many are kept, and how long ----


def test_fits_in_turn_find_their_plans():
    X, y = samples(61, [5, 40, 3])
    model = Model([5, 40, 3], rng=0)
    kept = []
    for batch_size in (7, 10, 7, 10):
        model.fit(X, y, epochs=1, batch_size=batch_size)
        kept.append(next(plan for plan in plans(model) if plan.kind.batch_size == batch_size))
    assert kept[0] is kept[2]
    assert kept[1] is kept[3]
    model.fit(X, y, epochs=1, batch_size=12)
    model.fit(X, y, epochs=1, batch_size=13)
    model.fit(X, y, epochs=1, batch_size=14)
    assert sorted(plan.kind.batch_size for plan in plans(model)) == [12, 13, 14]
    assert len(plans(model)) == network.MAX_PLANS


def test_fifty_kinds_leave_the_memory_of_three():
    """Without the collector of circles: a plan and its buffers go with the last reference."""
    X, y = samples(61, [5, 40, 3])
    model, made = Model([5, 40, 3], rng=0), []
    gc.collect()
    gc.disable()
    try:
        for batch_size in range(1, 51):
            model.fit(X, y, epochs=1, batch_size=batch_size, optimizer="adam")
            plan = plans(model)[-1]
            works = [programs.work for programs in plan.by_threads.values()]
            made += [weakref.ref(each) for each in (plan, plan.buffers.parameters.base, *works)]
            del plan, works
            alive = [ref() for ref in made[::3] if ref() is not None]
            assert alive == plans(model)
            assert len(alive) <= 3
            del alive
        assert sum(ref() is not None for ref in made) == 9
    finally:
        gc.enable()


def test_no_sample_is_kept_alive():
    model = Model([5, 40, 3], rng=0)
    for shuffle in (True, False, np.zeros((1, 61), int)):
        X, y = samples(61, [5, 40, 3])
        targets = fastnn.one_hot(y, 3)
        model.fit(X, targets, epochs=1, batch_size=7, shuffle=shuffle)
        data = [weakref.ref(X), weakref.ref(targets)]
        del X, targets
        assert [ref() for ref in data] == [None, None]


@pytest.mark.parametrize("change", [lambda m: m.freeze(0), lambda m: m.freeze([]), lambda m: m.replace_head(3, rng=1)])
def test_another_network_drops_them(change):
    X, y = samples(61, [5, 40, 3])
    model, twin = Model([5, 40, 3], rng=0), Model([5, 40, 3], rng=0)
    for each in (model, twin):
        each.fit(X, y, epochs=2, batch_size=7)
    twin._network.plans.clear()
    old = weakref.ref(plans(model)[0])
    for each in (model, twin):
        change(each)
    assert plans(model) == []
    assert old() is None
    for each in (model, twin):
        each.fit(X, y, epochs=2, batch_size=7)
    assert bits(model) == bits(twin)


def test_a_callback_that_freezes_a_layer(monkeypatch):
    """From the second epoch on another network trains, with a plan of its own."""
    X, y = samples(61, [5, 40, 3], dtype="float64")
    order = np.array([np.random.default_rng(1).permutation(61) for _ in range(3)])
    model = Model([5, 40, 3], dtype="float64", rng=0)
    twin, seen, make = Twin(model), [], Plan.__init__

    def freeze(m):
        if len(m.history.loss) == 1:
            m.freeze(0)

    def made(plan, layout, *arguments):
        seen.append(plan)
        make(plan, layout, *arguments)

    monkeypatch.setattr(Plan, "__init__", made)
    model.fit(X, y, epochs=3, batch_size=7, shuffle=order, callbacks=[freeze])
    twin.sgd(X, np.eye(3)[y], order[:1], 7, 0.1)
    twin.sgd(X, np.eye(3)[y], order[1:], 7, 0.1, frozen=(0,))
    assert twin.relative_error(model) < 1e-11
    assert [plan.layout.frozen for plan in seen] == [set(), {0}]
    assert plans(model) == seen[1:]
    assert [bound(plan) for plan in seen] == [[]] * 2


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_carry_none(copied):
    X, y = samples(61, [5, 40, 3])
    model = Model([5, 40, 3], rng=0)
    model.fit(X, y, epochs=1, batch_size=7, optimizer="adam")
    size = len(pickle.dumps(model))
    model.fit(X, y, epochs=1, batch_size=10, optimizer="adam")
    other = copied(model)
    assert plans(other) == []
    assert len(plans(model)) == 2
    assert abs(len(pickle.dumps(model)) - size) < 16  # the length of numbers
    for each in (model, other):
        each.fit(X, y, epochs=2, batch_size=7, optimizer="adam")
    assert bits(model) == bits(other)
    assert not set(map(id, plans(model))) & set(map(id, plans(other)))


# ---- after a fit, however it ended ----


def test_no_address_is_left(monkeypatch):
    X, y = samples(61, [5, 40, 3])
    model, during, train = Model([5, 40, 3], rng=0), [], Plan.train
    monkeypatch.setattr(Plan, "train", lambda plan, *a: (during.append(bound(plan)), train(plan, *a)))
    for shuffle in (True, False, np.zeros((2, 61), int)):
        model.fit(X, y, epochs=2, batch_size=7, shuffle=shuffle)
        assert [bound(plan) for plan in plans(model)] == [[]]
        assert plans(model)[0].of_network is None
    assert all(during)  # there were some


class Stop(Exception):
    """What a callback raises."""


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt])
def test_after_an_exception(error):
    X, y = samples(61, [5, 40, 3])
    model, twin = Model([5, 40, 3], rng=0), Model([5, 40, 3], rng=0)

    def stop(m):
        if len(m.history.loss) == 2:
            raise error

    with pytest.raises(error):
        model.fit(X, y, epochs=5, batch_size=7, optimizer="adam", callbacks=[stop])
    assert [bound(plan) for plan in plans(model)] == [[]]
    (plan,) = plans(model)
    model.fit(X, y, epochs=3, batch_size=7, optimizer="adam")
    twin.fit(X, y, epochs=5, batch_size=7, optimizer="adam")
    assert plans(model) == [plan]
    assert bits(model) == bits(twin)


def test_after_an_interrupt_within_an_epoch(interrupt_after):
    X, y = samples(61, [5, 40, 3])
    model, twin = Model([5, 40, 3], rng=0), Model([5, 40, 3], rng=0)
    with interrupt_after(14):  # an epoch has nine steps
        model.fit(X, y, epochs=5, batch_size=7, optimizer="adam")
    assert [bound(plan) for plan in plans(model)] == [[]]
    (plan,) = plans(model)
    model.fit(X, y, epochs=4, batch_size=7, optimizer="adam")
    twin.fit(X, y, epochs=5, batch_size=7, optimizer="adam")
    assert plans(model) == [plan]
    assert bits(model) == bits(twin)


def test_after_divergence():
    X, y = samples(61, [5, 3])
    model = Model([5, 3], activation="identity", output="identity", rng=0)
    with pytest.raises(DivergenceError) as error:
        model.fit(X, y, epochs=500, batch_size=7, optimizer=Momentum(3.0))
    assert [bound(plan) for plan in plans(model)] == [[]]
    (plan,) = plans(model)
    twin = Model([5, 3], activation="identity", output="identity", rng=0)
    twin.fit(X, y, epochs=error.value.epoch - 1, batch_size=7, optimizer=Momentum(3.0))
    assert bits(model) == bits(twin)
    twin._network.plans.clear()
    for each in (model, twin):
        each.parameters[...] *= 1e-20
        each.fit(X, y, epochs=2, batch_size=7, optimizer=Momentum(0.01))
    assert plans(model) == [plan]
    assert bits(model) == bits(twin)


def after_what_diverged(optimizer, spoiled=None, **values):
    """Check that a fit whose plan served one that diverged has the bits of a first one.

    Rows of 70 neurons are padded to whole lines, and not every product writes what is behind them.
    """
    X, y = samples(61, [5, 3])
    model, twin = (Model([5, Dense(70, "relu"), 3], output="identity", rng=0) for _ in range(2))
    start, more = model.parameters.copy(), {"epochs": 2, "batch_size": 20}
    with pytest.raises(DivergenceError):
        model.fit(3e37 * X, y, optimizer=replace(optimizer, learning_rate=1e30), **more, **values | (spoiled or {}))
    assert (model.parameters == start).all()
    (plan,) = plans(model)
    for each in (model, twin):
        each._network.seed(0)
        each.fit(X, y, optimizer=optimizer, **more, **values)
    assert plans(model) == [plan]
    assert bits(model) == bits(twin)


@pytest.mark.parametrize("kind", [SGD, Adam])
@pytest.mark.parametrize("how", ["row-major", "feature-major"])
def test_what_diverged_leaves_no_nan_for_others(kind, how, orientation):
    """The factor of the gradient is NaN, or that of the weights is infinite, and both multiply padding too."""
    orientation(how)
    after_what_diverged(kind(0.01, clip_norm=1e30))
    after_what_diverged(kind(0.01), {"l2": 1e300}, l2=0.01)


@pytest.mark.parametrize("kind", [SGD, Adam])
def test_what_diverged_on_two_threads_leaves_no_nan_for_others(kind, on_two_threads):
    """Threads train parameters of their own, whose padding no network has."""
    after_what_diverged(kind(0.01))
    after_what_diverged(kind(0.01, clip_norm=1e30))


@pytest.mark.parametrize("kind", [SGD, Adam])
@pytest.mark.parametrize("rows", [1, 20, 2500])
@pytest.mark.parametrize("how", ["row-major", "feature-major"])
def test_a_step_after_one_that_diverged(kind, rows, how, orientation):
    orientation(how)
    X, y = samples(rows, [5, 3])
    layers = [5, Dense(70, "relu"), 3]
    model, twin = (Model(layers, output="identity", loss="log_cosh", rng=0) for _ in range(2))
    optimizer = kind(0.01, clip_norm=1e30)
    for each in (model, twin):
        each.parameters[...] *= 1e3  # so that outputs of large samples are inf - inf
        each.partial_fit(X, y, optimizer=optimizer)
        each.partial_fit(X, y, optimizer=optimizer)
    with pytest.raises(DivergenceError):
        model.partial_fit(3e37 * X, y, optimizer=optimizer)
    assert bits(model) == bits(twin)
    assert model.partial_fit(X, y, optimizer=optimizer) == twin.partial_fit(X, y, optimizer=optimizer)
    assert bits(model) == bits(twin)


def test_after_a_progress_bar_that_fails(monkeypatch):
    X, y = samples(61, [5, 40, 3])
    model, twin = Model([5, 40, 3], rng=0), Model([5, 40, 3], rng=0)

    def broken(*_):
        raise OSError("no terminal")

    with monkeypatch.context() as patch:
        patch.setattr(fastnn.model, "Progress", broken)
        with pytest.raises(OSError, match="no terminal"):
            model.fit(X, y, epochs=3, batch_size=7, progress=True)
    assert not any(bound(plan) for plan in plans(model))
    for each in (model, twin):
        each.fit(X, y, epochs=2, batch_size=7)
    assert bits(model) == bits(twin)


# ---- fork ----


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_in_between(run_python):
    """The child makes plans of its own, and the parent goes on with its."""
    source = """
import os, signal, warnings
import numpy as np
from fastnn import Model; from fastnn.network import threads
from fastnn.network import network
from fastnn.training import thread_tuner
from fastnn.kernels.vector import library; from fastnn.kernels.programs import strategy

warnings.simplefilter("ignore", DeprecationWarning)  # from Python 3.12 on: "may lead to deadlocks in the child"
threads.available_threads, threads.FIT_MULTIPLY_ADDS, strategy.THREAD_MULTIPLY_ADDS = lambda: 2, 0, 1
thread_tuner.ThreadTuner.choose = lambda self: (self.threads, 1.0)
network.ORIENTATION = "row-major"
network.SHARED_BYTES = 0
X = np.random.default_rng(0).normal(size=(300, 20)).astype(np.float32)
y = np.arange(300) % 40

def fit(model, **options):
    model.fit(X, y, epochs=2, batch_size=32, optimizer="adam", **options)
    return model.parameters.tobytes()

alone, model = Model([20, 70, 40], rng=0), Model([20, 70, 40], rng=0)
expected = [fit(alone, threads=1) for _ in range(3)]
assert fit(model, threads=2) == expected[0]
(plan,) = model._network.plans
assert plan.threads == 2
child = os.fork()
if child == 0:
    signal.alarm(600)
    try:
        right = [fit(model, threads=2) for _ in range(2)] == expected[1:]
        (mine,) = model._network.plans
        os._exit(0 if right and mine is not plan else 3)
    finally:
        os._exit(4)
assert fit(model, threads=2) == expected[1]
assert os.waitpid(child, 0)[1] == 0
assert fit(model, threads=2) == expected[2]
assert list(model._network.plans) == [plan]
print("done")
"""
    assert run_python(source).stdout == "done\n"


@pytest.mark.parametrize("optimizer", [SGD(0.5), Momentum(0.02), Adam(0.01)])
def test_a_compilation_that_fails_leaves_the_model_as_it_was(optimizer, monkeypatch, state):
    """Its optimizer's state too: the next fit goes on from there."""
    X, y = samples(61, [5, 40, 3])
    model, twin = Model([5, 40, 3], rng=0), Model([5, 40, 3], rng=0)
    for each in (model, twin):
        each.fit(X, y, epochs=2, batch_size=7, optimizer=Momentum(0.01))
    before = state(model)

    def broken(*_):
        raise RuntimeError("no compiler")

    with monkeypatch.context() as patch:
        patch.setattr(library.Library, "addresses", broken)
        with pytest.raises(RuntimeError, match="no compiler"):
            model.fit(X, y, epochs=1, batch_size=9, optimizer=optimizer)
    assert state(model) == before
    for each in (model, twin):
        each.fit(X, y, epochs=1, batch_size=7, optimizer=Momentum(0.01))
    assert bits(model) == bits(twin)


def test_a_step_while_another_thread_takes_one(monkeypatch):
    X, y = samples(7, [5, 3])
    model, alone = Model([5, 3], rng=0), Model([5, 3], rng=0)
    for each in (model, alone):
        each.partial_fit(X, y)
    step, refused = Stepper.__call__, []

    def other(call):
        try:
            call()
        except RuntimeError as error:
            refused.append(str(error))

    def slow(stepper, inputs, targets):
        for call in (lambda: model.partial_fit(X, y), lambda: model.fit(X, y, epochs=1, batch_size=7)):
            thread = threading.Thread(target=other, args=(call,))
            thread.start()
            thread.join()
        return step(stepper, inputs, targets)

    with monkeypatch.context() as patched:
        patched.setattr(Stepper, "__call__", slow)
        model.partial_fit(X, y)
    assert len(refused) == 2
    assert all("while it is being trained" in text for text in refused)
    alone.partial_fit(X, y)
    assert bits(model) == bits(alone)
    model.partial_fit(X, y)  # the claim has ended


def test_each_step_checks_that_targets_are_probabilities():
    X = samples(4, [5, 3])[0]
    model = Model([5, fastnn.Dense(3, "softmax")], loss="cross_entropy", rng=0)
    good, bad = np.full((4, 3), 1 / 3, np.float32), np.full((4, 3), 0.5, np.float32)
    model.partial_fit(X, good)
    before = bits(model)
    with pytest.raises(ValueError, match="y must sum to 1"):
        model.partial_fit(X, bad)
    assert bits(model) == before
    assert model.partial_fit(X, good) > 0


# ---- networks of one architecture share them ----


@pytest.fixture
def twins(monkeypatch):
    """A function that makes pairs of equal models: the first ones share programs, each second one has its own."""

    def make(n, sizes, **options):
        pairs = []
        for seed in range(n):
            monkeypatch.setattr(network, "SHARED_BYTES", 2**20)
            sharing = Model(sizes, rng=seed, **options)
            monkeypatch.setattr(network, "SHARED_BYTES", 0)
            pairs.append((sharing, Model(sizes, rng=seed, **options)))
        first = pairs[0][0]._network
        assert all(mine._network.plans is first.plans for mine, _ in pairs)
        assert all(mine._network.inference.idle is first.inference.idle for mine, _ in pairs)
        assert len({id(other._network.plans) for _, other in pairs}) == n
        return pairs

    return make


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", SOME_OPTIMIZERS)
@pytest.mark.parametrize("name", WAYS)
def test_models_in_turn(name, optimizer, dtype, way, twins):
    """Fits, single steps, predictions, losses and gradients of three models that use each other's programs."""
    sizes, batch_size, n = way(name)
    X, y = samples(n, sizes, dtype=dtype)
    pairs = twins(3, sizes, dtype=dtype)
    used = []
    for _ in range(2):
        for pair in pairs:
            for model in pair:
                model.fit(X, y, epochs=2, batch_size=batch_size, optimizer=OPTIMIZERS[optimizer])
                for _ in range(2):
                    model.partial_fit(X[:20], y[:20], optimizer=OPTIMIZERS[optimizer])
            used.append({id(plan) for plan in plans(pair[0])})
            one, other = pair
            assert bits(one) == bits(other)
            for rows in (1, 5, n):
                np.testing.assert_array_equal(one.predict(X[:rows]), other.predict(X[:rows]))
            assert one.evaluate(X, y) == other.evaluate(X, y)
            for a, b in zip(one.gradients(X, y), other.gradients(X, y), strict=True):
                np.testing.assert_array_equal(a[0], b[0])
    assert set.intersection(*used)
    assert len(pairs[0][0]._network.inference.idle) == 1


def test_a_fit_in_a_callback_of_another(twins):
    X, y = samples(61, [5, 40, 3])
    pairs = twins(2, [5, 40, 3])
    for outer, inner in zip(*pairs, strict=True):
        fit = functools.partial(inner.fit, X, y, epochs=2, batch_size=7)
        outer.fit(X, y, epochs=3, batch_size=7, callbacks=[lambda model, fit=fit: fit() and None])
    for one, other in pairs:
        assert bits(one) == bits(other)


def test_models_on_threads_of_their_own(twins):
    """Each thread trains, steps and predicts with its model while the others do."""
    X, y = samples(61, [5, 40, 3])
    pairs = twins(4, [5, 40, 3])

    def work(model):
        for i in range(20):
            model.fit(X, y, epochs=3, batch_size=7 + i % 2, optimizer="adam")
            model.partial_fit(X, y, optimizer="adam")
            model.predict(X[: 1 + i])

    workers = [threading.Thread(target=work, args=(mine,)) for mine, _ in pairs]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for mine, other in pairs:
        work(other)
        assert bits(mine) == bits(other)


def test_a_step_between_the_steps_of_another(twins):
    """Each has a program that no one else may take meanwhile."""
    X, y = samples(61, [5, 40, 3])
    pairs = twins(2, [5, 40, 3])
    for _ in range(5):
        for one, other in pairs:
            assert one.partial_fit(X, y) == other.partial_fit(X, y)
    (first, _), (second, _) = pairs
    assert first._network.stepper.plan is not second._network.stepper.plan
    assert len(plans(first)) == 1  # the first step of a fresh optimizer is a fit
    for n in (5, 33, 61, 5):
        for one, other in pairs:
            assert one.partial_fit(X[:n], y[:n]) == other.partial_fit(X[:n], y[:n])
    for one, other in pairs:
        assert bits(one) == bits(other)
    assert not [plan for plan in plans(first) if plan.kind.in_place]  # both steppers have theirs still


def test_what_outlives_the_networks(monkeypatch):
    """Programs of some small architectures; none of a large one, and no network."""
    monkeypatch.setattr(network, "SHARED_BYTES", 2**20)
    X, y = samples(61, [5, 40, 3])
    alive = []
    for units in range(1, 21):
        model = Model([5, units, 3], rng=0)
        model.fit(X, y, epochs=1, batch_size=10)
        model.predict(X)
        model.loss(X, y)
        inference = model._network.inference
        kept = plans(model)[0], inference.idle[0], inference.blocks, model._network, model.parameters
        alive.append([weakref.ref(each) for each in kept])
        del kept, inference
    model = None
    for position in (0, 1, 2):
        outlived = [refs[position]() is not None for refs in alive]
        assert outlived == [False] * (20 - network.MAX_ARCHITECTURES) + [True] * network.MAX_ARCHITECTURES
    assert [ref() for refs in alive for ref in refs[3:]] == [None] * 40
    model = Model([500, 800, 3], rng=0)
    model.fit(*samples(61, [500, 800, 3]), epochs=1, batch_size=10)
    plan = weakref.ref(plans(model)[0])
    del model
    assert plan() is None


def test_a_freeze_in_a_callback_that_is_interrupted(monkeypatch):
    """The plan of the network before it does not wait where the frozen one's would."""
    monkeypatch.setattr(network, "SHARED_BYTES", 2**20)
    X, y = samples(61, [5, 40, 3])
    make = Plan.__init__

    def interrupted(plan, layout, *arguments):
        if layout.frozen:
            raise KeyboardInterrupt
        make(plan, layout, *arguments)

    model, other = Model([5, 40, 3], rng=0), Model([5, 40, 3], rng=1)
    with monkeypatch.context() as patched:
        patched.setattr(Plan, "__init__", interrupted)
        with pytest.raises(KeyboardInterrupt):
            model.fit(X, y, epochs=3, batch_size=7, callbacks=[lambda m: m.freeze(0)])
    other.freeze(0)
    for each in (model, other):
        before = each.weights[0].copy()
        each.fit(X, y, epochs=2, batch_size=7)
        np.testing.assert_array_equal(each.weights[0], before)
