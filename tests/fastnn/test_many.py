"""Many networks in one compiled call, against fits one by one."""

import contextlib
import copy

import numpy as np
import pytest

from fastnn import (
    SGD,
    Adam,
    BatchNorm,
    CosineDecay,
    Dense,
    DivergenceError,
    Huber,
    LayerNorm,
    Model,
    Momentum,
    Residual,
    Scale,
)
from fastnn.data.samples import Samples
from fastnn.kernels.programs import strategy
from fastnn.kernels.running import entry
from fastnn.training.many import train_many
from fastnn.training.options import AS_IS, DRAWN, GIVEN, Options, Penalty, RuleValues

from ..cases import DTYPES

rng = np.random.default_rng(5)


@pytest.fixture(autouse=True)
def programs_of_this_test(monkeypatch):
    """No other network's plans serve here, which may be of another orientation."""
    monkeypatch.setattr("fastnn.network.network.SHARED_BYTES", 0)


def samples(n, dtype, n_in=8):
    return rng.standard_normal((n, n_in)).astype(dtype), rng.uniform(0.1, 0.9, (n, 1)).astype(dtype)


def what_a_fit_leaves(model, optimizer):
    network = model._network
    return [array.tobytes() for array in (network.parameters, network.state, network.vectors_for(optimizer))]


def compare(models, X, y, optimizers, dropouts, batch_size=32, epochs=3, weights=None, **values):
    """Train copies of models at once; then the models one by one, whose bits are expected."""
    twins = [copy.deepcopy(model) for model in models]
    rules = [RuleValues((rate, 0.0), **values) for rate in dropouts]
    common = {"ordered": DRAWN, "l2": Penalty(1e-3)}
    fits = [
        Options(epochs, min(batch_size, len(X)), optimizer, rules=rule, **common)
        for optimizer, rule in zip(optimizers, rules, strict=True)
    ]
    runs, losses = train_many([twin._network for twin in twins], fits, Samples(X, y, weights))
    more = {"batch_size": batch_size, "epochs": epochs, "sample_weight": weights, "l2": 1e-3, "threads": 1}
    for i, (model, twin, optimizer, rate) in enumerate(zip(models, twins, optimizers, dropouts, strict=True)):
        with contextlib.suppress(DivergenceError):
            ends = entry.DIVERGED
            model.fit(X, y, optimizer=optimizer, dropout=rate, **more, **values)
            ends = entry.RUNNING
        done = len(model.history.loss)
        assert (runs["status"][i], runs["epoch"][i]) == (ends, done)
        assert losses[i, :done].tolist() == model.history.loss
        assert what_a_fit_leaves(twin, optimizer) == what_a_fit_leaves(model, optimizer)
    return runs


def the_values(n, kind):
    """(optimizers, rates of dropout), all different."""
    rates = np.geomspace(1e-3, 0.3, n) if kind is SGD else np.geomspace(1e-4, 0.05, n)
    return [kind(float(rate)) for rate in rates], np.linspace(0.05, 0.6, n).tolist()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", [SGD, Adam])
@pytest.mark.parametrize("batch_size", [1, 32, 600])
@pytest.mark.parametrize("how", ["row-major", "feature-major"])
def test_a_hundred_networks_have_the_bits_of_single_fits(how, batch_size, kind, dtype, orientation):
    """A batch of one sample, of one block and of several."""
    orientation(how)
    X, y = samples({1: 11, 32: 75, 600: 700}[batch_size], dtype)
    models = [Model([8, 16, 1], dtype=dtype, rng=seed) for seed in range(100)]
    layout = models[0]._network.layout
    assert strategy.choose(layout, batch_size) == ("single" if batch_size == 1 else how)
    assert (batch_size > layout.block_rows) == (batch_size == 600)
    compare(models, X, y, *the_values(100, kind), batch_size=batch_size, epochs=2)


@pytest.mark.slow
def test_a_thousand_networks():
    X, y = samples(96, "float32")
    models = [Model([8, 16, 1], rng=seed) for seed in range(1000)]
    compare(models, X, y, *the_values(1000, Adam))


@pytest.mark.parametrize("how", ["row-major", "feature-major"])
def test_networks_with_every_kind_of_layer(how, orientation):
    """Each has running statistics of its own."""
    orientation(how)
    X, y = samples(75, "float32")
    norm, block = BatchNorm(activation="tanh"), Residual(LayerNorm(), Dense(16, "gelu"), Scale())
    models = [Model([8, Dense(16, "identity"), norm, block, 1], rng=seed) for seed in range(20)]
    twins = [copy.deepcopy(model) for model in models]
    optimizers, _ = the_values(20, Adam)
    fits = [Options(3, 32, optimizer, DRAWN) for optimizer in optimizers]
    _, losses = train_many([twin._network for twin in twins], fits, Samples(X, y))
    for model, twin, optimizer, of_twin in zip(models, twins, optimizers, losses, strict=True):
        history = model.fit(X, y, epochs=3, batch_size=32, optimizer=optimizer, threads=1)
        assert of_twin.tolist() == history.loss
        assert what_a_fit_leaves(twin, optimizer) == what_a_fit_leaves(model, optimizer)
    assert len({twin.tensors[1]["running_mean"].tobytes() for twin in twins}) == 20


def test_each_value_may_differ():
    """Every setting of the optimizer, every rule, the loss's parameter, the epochs; with weights, in a second fit."""
    X, y = samples(70, "float64")
    weights = rng.uniform(0.5, 2, 70)
    models = [Model([8, 16, 1], output="identity", loss=Huber(d), dtype="float64", rng=0) for d in (0.1, 0.4, 1.5)]
    for model in models:
        model.fit(X, y, epochs=2, batch_size=16, optimizer=Adam(0.01))
    twins = [copy.deepcopy(model) for model in models]
    optimizers, rules, fits = [], [], []
    for i in (1, 2, 3):
        optimizers.append(Adam(0.01 * i, beta1=0.8 + i / 100, beta2=0.9 + i / 100, clip_norm=0.1 * i))
        rules.append(RuleValues((0.1 * i, 0.0), input_noise=0.1 * i, max_norm=0.5 + i, min_derivative=0.1 * i))
        penalties = {"l1": Penalty(i / 100), "l2": Penalty(i / 50)}
        fits.append(Options(2 + i, 16, optimizers[-1], DRAWN, rules=rules[-1], **penalties))
    runs, losses = train_many([twin._network for twin in twins], fits, Samples(X, y, weights))
    assert runs["epoch"].tolist() == [3, 4, 5]
    for i, (model, twin) in enumerate(zip(models, twins, strict=True)):
        more = {name: getattr(rules[i], name) for name in ("input_noise", "max_norm", "min_derivative")}
        history = model.fit(
            *(X, y),
            **{"epochs": 3 + i, "batch_size": 16, "optimizer": optimizers[i], "sample_weight": weights, "threads": 1},
            **{"l1": fits[i].l1.of_mean, "l2": fits[i].l2.of_mean, "dropout": rules[i].dropout[0], **more},
        )
        assert losses[i].tolist() == history.loss + [0.0] * (2 - i)
        assert what_a_fit_leaves(twin, optimizers[i]) == what_a_fit_leaves(model, optimizers[i])


@pytest.mark.parametrize("how", ["row-major", "feature-major"])
def test_one_that_diverges_stops_alone(how, orientation):
    """In the first epoch or later, before and behind others."""
    orientation(how)
    X, y = samples(75, "float32")
    models = [Model([8, 16, 1], activation="identity", output="identity", rng=seed) for seed in range(6)]
    rates = [1e30, 0.01, 5.0, 0.02, 1e30, 0.03]
    runs = compare(models, X, y, [Momentum(rate) for rate in rates], [0.1] * 6, epochs=20)
    assert [bool(status) for status in runs["status"]] == [True, False, True, False, True, False]
    assert runs["epoch"][[0, 4]].tolist() == [0, 0]
    assert 0 < runs["epoch"][2] < 20


@pytest.mark.parametrize("how", ["row-major", "feature-major"])
def test_one_whose_gradient_is_not_finite_leaves_nothing_to_the_next(how, orientation):
    """Its norm is NaN, and so is what it scales, padding included."""
    orientation(how)
    X, y = samples(75, "float32")
    models = [Model([8, 70, 1], activation="relu", output="identity", rng=seed) for seed in range(3)]
    models[1].parameters[...] *= 1e30
    runs = compare(models, X, y, [Adam(0.01, clip_norm=1e30)] * 3, [0.1] * 3)
    assert runs["status"].tolist() == [entry.RUNNING, entry.DIVERGED, entry.RUNNING]


@pytest.mark.parametrize("ordered", ["as is", "given"])
def test_other_orders(ordered):
    """All networks see the samples in the same order."""
    X, y = samples(75, "float32")
    order = np.array([rng.permutation(75) for _ in range(3)], np.int32) if ordered == "given" else None
    models = [Model([8, 16, 1], rng=seed) for seed in range(3)]
    twins = [copy.deepcopy(model) for model in models]
    fits = [Options(3, 20, Adam(), GIVEN if ordered == "given" else AS_IS, order) for _ in models]
    train_many([twin._network for twin in twins], fits, Samples(X, y))
    for model, twin in zip(models, twins, strict=True):
        model.fit(X, y, epochs=3, batch_size=20, optimizer=Adam(), shuffle=False if order is None else order)
        assert what_a_fit_leaves(twin, Adam()) == what_a_fit_leaves(model, Adam())


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"rules": RuleValues((0.5, 0.0))}, "one kind"),
        ({"ordered": AS_IS}, "orders of one kind"),
        ({"l2": Penalty(0.1)}, "one kind"),
    ],
)
def test_what_cannot_be_trained_at_once(second, message):
    X, y = samples(40, "float32")
    networks = [Model([8, 16, 1], rng=seed)._network for seed in range(2)]
    fits = [Options(1, 10, Adam(), **({"ordered": DRAWN} | more)) for more in ({}, second)]
    before = [network.parameters.copy() for network in networks]
    with pytest.raises(ValueError, match=message):
        train_many(networks, fits, Samples(X, y))
    np.testing.assert_array_equal([network.parameters for network in networks], before)


def test_rates_that_change_are_refused():
    network = Model([8, 16, 1], rng=0)._network
    with pytest.raises(ValueError, match="constant learning rates"):
        train_many([network], [Options(1, 10, Adam(CosineDecay(0.1, 10)))], Samples(*samples(40, "float32")))


def test_networks_of_another_architecture_are_refused():
    networks = [Model(sizes, rng=0)._network for sizes in ([8, 16, 1], [8, 17, 1])]
    with pytest.raises(ValueError, match="one architecture"):
        train_many(networks, [Options(1, 10, Adam())] * 2, Samples(*samples(40, "float32")))


def test_single_steps_before_and_afterwards():
    """`partial_fit` keeps a plan in its network's memory until something else trains it."""
    X, y = samples(40, "float32")
    models = [Model([8, 16, 1], rng=seed) for seed in range(3)]
    for model in models:
        model.partial_fit(X, y, optimizer=Adam(0.01))
    twins = [copy.deepcopy(model) for model in models]
    for twin in twins:
        twin.partial_fit(X, y, optimizer=Adam(0.01))
    for model in models:
        model.partial_fit(X, y, optimizer=Adam(0.01))
    fits = [Options(2, 10, Adam(0.01), DRAWN)] * 3
    train_many([twin._network for twin in twins], fits, Samples(X, y))
    for model, twin in zip(models, twins, strict=True):
        model.fit(X, y, epochs=2, batch_size=10, optimizer=Adam(0.01))
        for each in (model, twin):
            each.partial_fit(X, y, optimizer=Adam(0.01))
        assert what_a_fit_leaves(twin, Adam(0.01)) == what_a_fit_leaves(model, Adam(0.01))
