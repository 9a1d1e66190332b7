"""Factors of the learning rate by kinds of tensors, and weight decay without biases: against the reference."""

import copy
import itertools
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
from safetensors import safe_open

import fastnn
from fastnn import (
    SGD,
    Adam,
    AdamW,
    BatchNorm,
    CosineDecay,
    Dense,
    Embedding,
    LayerNorm,
    Lion,
    Model,
    Momentum,
    Population,
    PReLU,
    Residual,
    Rprop,
    Scale,
    Stream,
)
from fastnn.files import model_file
from fastnn.kernels import reference
from fastnn.kernels.programs import strategy
from fastnn.kernels.programs.memory import MAX_FACTORS
from fastnn.kernels.running import entry, pool
from fastnn.network import threads
from fastnn.settings.layers import TENSOR_NAMES
from fastnn.training import thread_tuner
from fastnn.training.options import RuleValues

from ..cases import DTYPES, EPS, JUMPING, OPTIMIZERS, WHOLE_SET, kinds_of_tensors, settings_of
from ..kernels.kernel_calls import twin_of
from .test_storage import rewrite

FACTORS = {"bias": 0.25, "weight": 0.5, "Scale.weight": 3.0, "LayerNorm.bias": 0.0, "embedding": 2.0}
BY_BATCHES = {name: each for name, each in OPTIMIZERS.items() if name not in WHOLE_SET}
NETS = {
    "dense": [Dense(9, "tanh"), Dense(18, "sigmoid")],
    "kinds": [Scale(), Dense(17, "tanh"), Residual(LayerNorm(), Dense(17, "gelu")), Scale()],
    "slopes": [Dense(9, "identity"), PReLU()],
    "batch norm": [BatchNorm(activation="tanh"), Dense(9, "tanh")],
    "embedding": [Embedding([1, 3], [7, 30], [5, 3]), Scale(), Dense(8, "tanh")],
}


def with_factors(optimizer, factors=None, **more):
    """The optimizer with such factors, those above by default, and by what name the reference has it."""
    made = replace(optimizer, learning_rate_factors=FACTORS if factors is None else factors, **more)
    return made, {"sgd": "sgd_with_gradient"}.get(made._kernel, made._kernel)


def samples(net, n, dtype="float64"):
    """(X, y)."""
    r = np.random.default_rng(3)
    X = r.normal(size=(n, 5)).astype(dtype)
    if net == "embedding":
        X[:, [1, 3]] = r.integers(0, [7, 30], (n, 2))
    return X, r.normal(size=(n, 3)).astype(dtype)


def model_of(net, dtype="float64", **options):
    model = Model([5, *NETS[net], Dense(3, "identity")], dtype=dtype, rng=1, **options)
    model.biases[-1][...] = 0.5  # so that a decay of biases shows
    return model


def arrays(model):
    """The tensors that train, by the number of the layer and name."""
    found = ((i, name, each) for i, tensors in enumerate(model.tensors) for name, each in tensors.items())
    return {(i, name): each for i, name, each in found if not name.startswith("running")}


def compare(model, network, tolerance, jumps=False):
    """Raise where a model does not hold what the reference does."""
    want = [each.T for layer in reference.numbered(network) for each in reference.trained(layer)]
    for (where, got), expected in zip(arrays(model).items(), want, strict=True):
        expected = expected.T if "embedding" in where[1] else expected
        if jumps:
            assert np.median(np.abs(got - expected)) < tolerance, where
        else:
            np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance, err_msg=str(where))


# ---- against the reference ----


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BY_BATCHES)
@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize(("n", "batch_size"), [(30, 1), (61, 8), (100, 100), (1500, 1400)])
@pytest.mark.parametrize("how", ["feature-major", "row-major"])
def test_fits_equal_the_reference(name, net, n, batch_size, dtype, how, orientation):
    """Single samples, a remainder, the whole set, and batches of several blocks."""
    orientation(how)
    if net == "batch norm":  # which takes batches of several rows in a block
        batch_size = {1: 4, 1400: 250}.get(batch_size, batch_size)
    optimizer, kernel = with_factors(BY_BATCHES[name])
    model, (X, y) = model_of(net, dtype), samples(net, n, dtype)
    order = np.array([np.random.default_rng(i).permutation(n) for i in range(3)])
    given = X.astype("f8"), y.astype("f8"), order, batch_size, *settings_of(optimizer)
    losses, want = reference.train(twin_of(model), *given, optimizer=kernel, **kinds_of_tensors(optimizer))
    history = model.fit(X, y, epochs=3, batch_size=batch_size, optimizer=optimizer, shuffle=order)
    tolerance, jumps = 5000 * EPS[dtype], name in JUMPING
    np.testing.assert_allclose(history.loss, losses, rtol=0.01 if jumps else tolerance)
    compare(model, want, tolerance, jumps)
    frozen = model_of(net, dtype)
    for where, each in arrays(frozen).items():
        if net == "kinds" and where == (2, "bias"):  # of LayerNorm
            np.testing.assert_array_equal(arrays(model)[where], each)


@pytest.mark.parametrize("decay_biases", [True, False])
@pytest.mark.parametrize("factors", [{}, {"bias": 0.5, "Scale.weight": 2}])
@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("kind", [AdamW, Lion])
def test_what_a_weight_decay_shrinks(kind, net, factors, decay_biases):
    """The reference's settings of each tensor; in particular the weights of dense layers alone."""
    optimizer = kind(0.01, weight_decay=0.4, learning_rate_factors=factors, decay_biases=decay_biases)
    model, (X, y) = model_of(net), samples(net, 61)
    order = np.array([np.random.default_rng(i).permutation(61) for i in range(2)])
    settings, names = settings_of(optimizer), kinds_of_tensors(optimizer)
    losses, want = reference.train(twin_of(model), X, y, order, 8, *settings, optimizer=optimizer._kernel, **names)
    history = model.fit(X, y, epochs=2, batch_size=8, optimizer=optimizer, shuffle=order)
    np.testing.assert_allclose(history.loss, losses, rtol=1e-9)
    compare(model, want, 1e-9)


@pytest.mark.parametrize("kind", [AdamW, Lion])
def test_without_a_gradient_decay_alone_is_left(kind):
    """Inputs and targets of zero, biases of zero: dense weights become w (1 - rate decay)^steps, a Scale stays."""
    X, y = np.zeros((20, 4)), np.zeros((20, 2))
    model = Model([4, Scale(), Dense(6, "identity"), Dense(2, "identity")], dtype="float64", rng=0)
    before = {where: each.copy() for where, each in arrays(model).items()}
    optimizer = kind(0.1, weight_decay=0.3, decay_biases=False, learning_rate_factors={"Dense.weight": 0.5})
    model.fit(X, y, epochs=2, batch_size=10, optimizer=optimizer)
    for where, each in arrays(model).items():
        kept = 1.0 if where == (0, "weight") else (1 - 0.05 * 0.3) ** 4
        np.testing.assert_allclose(each, before[where] * kept, rtol=1e-14)


RULES = {
    "clipped norm": ({"clip_norm": 0.1}, {}, {"rules": RuleValues(clip_norm=0.1)}),
    "clipped values": ({"clip_value": 0.01}, {}, {"rules": RuleValues(clip_value=0.01)}),
    "l2": ({}, {"l2": 0.1}, {"l2": (0.1, 0.0)}),
    "l1": ({}, {"l1": 0.05}, {"l1": (0.05, 0.0)}),
    "max norm": ({}, {"max_norm": 0.7}, {"rules": RuleValues(max_norm=0.7)}),
    "weights": ({}, {"sample_weight": True}, {}),
    "schedule": ({"learning_rate": CosineDecay(0.02, length=2, warmup=1)}, {}, {}),
    "schedule of steps": ({"learning_rate": CosineDecay(0.02, length=10, per="step")}, {}, {}),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("optimizer", [SGD(0.02), Momentum(0.02, 0.6), AdamW(0.01, weight_decay=0.2)], ids=repr)
@pytest.mark.parametrize("batch_size", [20, 1100])
def test_rules_equal_the_reference(rule, optimizer, batch_size):
    """The norm is that of the whole gradient, as without factors."""
    settings, options, given = (dict(each) for each in RULES[rule])
    n = 1300 if batch_size > 1000 else 61
    optimizer, kernel = with_factors(optimizer, **settings)
    model, (X, y) = model_of("kinds"), samples("kinds", n)
    order = np.array([np.random.default_rng(i).permutation(n) for i in range(2)])
    if rule == "weights":
        options["sample_weight"] = given["weights"] = np.random.default_rng(5).uniform(0.1, 2, n)
    numbers = settings_of(optimizer)
    if "learning_rate" in settings:
        steps, schedule = -(-n // batch_size), optimizer.learning_rate
        of_step = schedule.rates(0, 2 * steps)
        given["rates"] = of_step if schedule.per == "step" else schedule.rates(0, 2).repeat(steps)
    given |= {"optimizer": kernel} | kinds_of_tensors(optimizer)
    losses, want = reference.train(twin_of(model), X, y, order, batch_size, *numbers, **given)
    history = model.fit(X, y, epochs=2, batch_size=batch_size, optimizer=optimizer, shuffle=order, **options)
    np.testing.assert_allclose(history.loss, losses, rtol=1e-8)
    compare(model, want, 1e-8)


# ---- the same bits ----


@pytest.mark.parametrize("name", BY_BATCHES)
def test_factors_of_one_change_no_bit(name):
    """Nor do names of layers that the model does not have; plain SGD takes the way that has a gradient."""
    optimizer, (X, y) = BY_BATCHES[name], samples("kinds", 61, "float32")
    if name == "sgd":
        optimizer = replace(optimizer, clip_norm=1e6)  # which clips nothing
    found = []
    for factors in (None, {"weight": 1, "bias": 1}, {"BatchNorm.weight": 5.0, "embedding": 0}):
        model = model_of("kinds", "float32")
        model.fit(X, y, epochs=2, batch_size=8, optimizer=replace(optimizer, learning_rate_factors=factors))
        found.append(model.parameters.tobytes())
    assert found[0] == found[1] == found[2]


def test_a_name_with_its_kind_of_layer_counts_first():
    """And a kind that is frozen stays, as a frozen layer does, while the others train."""
    X, y = samples("kinds", 61)
    for factors, frozen in (
        ({"weight": 0, "Scale.weight": 2.0}, {(1, "weight"), (2, "weight"), (3, "weight"), (5, "weight")}),
        ({"bias": 0}, {(1, "bias"), (2, "bias"), (3, "bias"), (5, "bias")}),
        ({"Dense.bias": 0, "bias": 3.0}, {(1, "bias"), (3, "bias"), (5, "bias")}),
    ):
        model = model_of("kinds")
        before = {where: each.copy() for where, each in arrays(model).items()}
        model.fit(X, y, epochs=2, batch_size=8, optimizer=Adam(0.01, learning_rate_factors=factors))
        stayed = {where for where, each in arrays(model).items() if (each == before[where]).all()}
        assert stayed == frozen


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch_size", [32, 512])
@pytest.mark.parametrize("optimizer", [SGD(0.01), AdamW(0.01, weight_decay=0.1, decay_biases=False)], ids=repr)
@pytest.mark.parametrize("first", ["dense", "embedding"])
def test_any_number_of_threads_gives_the_same_bits(
    first, optimizer, batch_size, dtype, monkeypatch, short_calls, orientation
):
    """They share columns, or shards of samples. Where their number changes within a batch, its scalars go along."""
    if batch_size == 32:
        orientation("row-major")
    helped, kernel, turns = [], entry.help_train, itertools.count()
    monkeypatch.setattr(threads, "FIT_MULTIPLY_ADDS", 0)
    monkeypatch.setattr(threads, "available_threads", lambda: 3)
    monkeypatch.setattr(strategy, "THREAD_MULTIPLY_ADDS", 1)
    monkeypatch.setattr(pool, "PATIENCE", 300.0)  # however slow the machine is
    monkeypatch.setattr(entry, "help_train", lambda *a: (helped.append(a[-1]), kernel(*a))[1])
    X, y = samples(first, 900, dtype)
    layers = [*NETS["embedding"][:1]] if first == "embedding" else []
    optimizer, found = with_factors(optimizer)[0], {}
    for count in (1, 2, 3, "changing"):

        def choose(self, count=count):
            return ([1, self.threads][next(turns) % 2] if count == "changing" else self.threads), 1.0

        monkeypatch.setattr(thread_tuner.ThreadTuner, "choose", choose)
        if count == "changing":
            short_calls()
        model = Model(
            [5, *layers, Scale(), Dense(200, "relu"), LayerNorm(), Dense(70, "tanh"), 3],
            dtype=dtype,
            output="identity",
            rng=0,
        )
        model.fit(
            X, y, epochs=2, batch_size=batch_size, optimizer=optimizer, threads=3 if count == "changing" else count
        )
        found[count] = model.parameters.tobytes()
    assert helped
    assert len(set(found.values())) == 1


@pytest.mark.parametrize(
    "optimizer", [SGD(0.02), Adam(0.01), Lion(0.001, weight_decay=0.2, decay_biases=False)], ids=repr
)
def test_fits_in_parts_files_and_copies(optimizer, tmp_path):
    """A further fit with an equal optimizer goes on from its state; one with other factors starts afresh."""
    optimizer, (X, y) = with_factors(optimizer)[0], samples("kinds", 61)
    whole, other = model_of("kinds"), model_of("kinds")
    whole.fit(X, y, epochs=5, batch_size=8, optimizer=optimizer)
    other.fit(X, y, epochs=2, batch_size=8, optimizer=optimizer)
    other.save(tmp_path / "model")
    copies = [other, copy.deepcopy(other), pickle.loads(pickle.dumps(other)), fastnn.load(tmp_path / "model")]
    again = replace(optimizer, learning_rate_factors=dict(reversed(FACTORS.items())))
    assert again == optimizer
    for model in copies:
        assert model._network.optimizer == optimizer
        model.fit(X, y, epochs=3, batch_size=8, optimizer=pickle.loads(pickle.dumps(again)))
        np.testing.assert_array_equal(model.parameters, whole.parameters)
    changed = replace(optimizer, learning_rate_factors=FACTORS | {"bias": 0.3})
    assert changed != optimizer
    for steps in (whole, copies[1]):
        steps.fit(X, y, epochs=1, batch_size=8, optimizer=changed)
        assert steps._network.optimizer == changed


def test_single_steps_and_streams():
    """`partial_fit`, `step` on the gradient of the loss, and a stream give the bits of a fit."""
    optimizer, (X, y) = with_factors(AdamW(0.01, weight_decay=0.3, decay_biases=False))[0], samples("kinds", 32)
    fitted, stepped, outside, streamed = (model_of("kinds") for _ in range(4))
    for _ in range(3):
        fitted.fit(X, y, epochs=1, batch_size=32, optimizer=optimizer, shuffle=False)
        stepped.partial_fit(X, y, optimizer=optimizer)
        outside.step(X, (outside.forward(X) - y) / 32, optimizer=optimizer)
        streamed.fit(
            Stream([(X[:20], y[:20]), (X[20:], y[20:])]), epochs=1, batch_size=32, optimizer=optimizer, shuffle=False
        )
    np.testing.assert_array_equal(stepped.parameters, fitted.parameters)
    np.testing.assert_array_equal(streamed.parameters, fitted.parameters)
    np.testing.assert_allclose(outside.parameters, fitted.parameters, rtol=1e-9, atol=1e-12)


# ---- populations ----


@pytest.mark.parametrize("in_lanes", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BY_BATCHES)
def test_members_have_the_bits_of_models(name, dtype, in_lanes, monkeypatch):
    """Factors that all share, with rates of their own; then a list, in which factors differ and some have none."""
    monkeypatch.setattr(strategy, "lanes_pay", lambda layout, batch_size: in_lanes)
    monkeypatch.setattr("fastnn.network.network.ORIENTATION", "row-major")
    (X, y), base, n = samples("dense", 60, dtype), BY_BATCHES[name], 5
    rates = np.linspace(0.5, 1.5, n) * base.learning_rate
    shared = with_factors(base, learning_rate=rates)[0]
    alone = [with_factors(base, learning_rate=rate)[0] for rate in rates.tolist()]
    sets = [None, {"bias": 0.1}, {"weight": 2.0, "bias": 0}, {"bias": 0.2}, {"bias": 0.1}]
    mixed = [replace(base, learning_rate_factors=factors) for factors in sets]
    if hasattr(base, "weight_decay"):
        mixed[1] = replace(mixed[1], decay_biases=False)
    for given, own in ((shared, alone), (mixed, mixed)):
        population = Population([5, *NETS["dense"], 3], n, output="identity", dtype=dtype, rng=0)
        for _ in range(2):  # which goes on
            population.fit(X, y, epochs=2, batch_size=16, optimizer=given, threads=2)
        for i, optimizer in enumerate(own):
            model = Model([5, *NETS["dense"], 3], output="identity", dtype=dtype, rng=i)
            model.fit(X, y, epochs=4, batch_size=16, optimizer=optimizer)
            assert population[i].parameters.tobytes() == model.parameters.tobytes(), i
            assert population[i]._network.optimizer == optimizer


@pytest.mark.parametrize("in_lanes", [False, True])
def test_steps_and_files_of_populations(in_lanes, monkeypatch, tmp_path):
    monkeypatch.setattr(strategy, "lanes_pay", lambda layout, batch_size: in_lanes)
    monkeypatch.setattr("fastnn.network.network.ORIENTATION", "row-major")
    (X, y), sizes = samples("dense", 32), [5, *NETS["dense"], 3]
    optimizers = [AdamW(0.01, learning_rate_factors={"bias": 0.1 * i}, decay_biases=i > 1) for i in range(3)]
    population = Population(sizes, 3, output="identity", dtype="float64", rng=0)
    models = [Model(sizes, output="identity", dtype="float64", rng=i) for i in range(3)]
    for at in range(4):
        if at == 2:
            population.save(tmp_path / "population")
            population = fastnn.load(tmp_path / "population")
        d_a = (population.forward(X) - y) / 32
        population.step(X, d_a, optimizer=optimizers)
        for i, model in enumerate(models):
            model.step(X, d_a[i], optimizer=optimizers[i])
            np.testing.assert_allclose(population[i].parameters, model.parameters, rtol=1e-9, atol=1e-12)
    assert [population[i]._network.optimizer for i in range(3)] == optimizers


# ---- names, values, files of before ----


def test_the_names_are_those_of_the_layers():
    """Of every kind of layer of a file; kernels know a kind of layer by the same name. The record has room for all."""
    nets = {type(layer).__name__ for layers in NETS.values() for layer in layers} | {"Dense"}
    assert {name.split(".")[0] for name in TENSOR_NAMES if "." in name} == {*model_file.KINDS} - {"Residual"}
    assert nets | {"LayerNorm"} == {*model_file.KINDS}  # which stands in the Residual
    found = set()
    for net in NETS:
        for node in model_of(net)._network.architecture.numbered:
            assert type(node.kind).__name__ == type(node.layer).__name__
            for tensor in (each for each in node.tensors if each.trains):
                found |= {tensor.kind, f"{type(node.layer).__name__}.{tensor.kind}"}
                assert tensor.kind in tensor.name
    assert found == {*TENSOR_NAMES}
    assert len(TENSOR_NAMES) <= MAX_FACTORS
    assert all(f'"{name}"' in fastnn.optimizers.Optimizer.__doc__ for name in TENSOR_NAMES if name != "Embedding")


def test_all_names_at_once():
    optimizer = with_factors(Adam(0.01), {name: 0.1 * i for i, name in enumerate(TENSOR_NAMES)})[0]
    for net in NETS:
        model, (X, y) = model_of(net), samples(net, 40)
        order = np.array([np.random.default_rng(1).permutation(40)])
        given = settings_of(optimizer), kinds_of_tensors(optimizer)
        _, want = reference.train(twin_of(model), X, y, order, 10, *given[0], optimizer="adam", **given[1])
        model.fit(X, y, epochs=1, batch_size=10, optimizer=optimizer, shuffle=order)
        compare(model, want, 1e-9)


def test_how_factors_are_kept_and_shown():
    one = SGD(0.1, learning_rate_factors={"weight": 2, "bias": np.float32(0.5)})
    assert one.learning_rate_factors == (("bias", 0.5), ("weight", 2.0))
    assert repr(one) == "SGD(learning_rate=0.1, learning_rate_factors={'bias': 0.5, 'weight': 2.0})"
    assert one == SGD(0.1, learning_rate_factors=[("bias", 0.5), ("weight", 2.0)])
    assert len({one, eval(repr(one)), copy.copy(one), SGD(0.1)}) == 2
    assert SGD(0.1, learning_rate_factors={}) == SGD(0.1)
    assert repr(SGD(0.1)) == "SGD(learning_rate=0.1)"
    assert "decay_biases=False" in repr(AdamW(decay_biases=False))
    assert AdamW(decay_biases=False) != AdamW() == AdamW(decay_biases=True)
    assert "decay" not in repr(Lion()).replace("weight_decay", "")


@pytest.mark.parametrize("kind", ["model", "population", "estimator"])
def test_a_file_of_before_goes_on(kind, tmp_path):
    """It does not have the settings; without them all tensors follow alike."""
    (X, y), path = samples("dense", 40), tmp_path / "file"
    given, optimizer = {"batch_size": 8, "epochs": 2}, AdamW(0.01)
    if kind == "estimator":
        made = fastnn.MLPClassifier((5,), solver=optimizer, max_iter=3, random_state=0)
        with pytest.warns(Warning, match="Maximum iterations"):
            made.fit(X, y[:, 0] > 0)
    else:
        made = Model([5, 4, 3], output="identity", rng=0)
        made = Population.from_models([made]) if kind == "population" else made
        made.fit(X, y, optimizer=optimizer, **given)
    made.save(path)
    with safe_open(path, "numpy") as file:
        description = json.loads(file.metadata()["model"])
    described = description.get("optimizer", {}).get("settings") or description["optimizers"][0]["settings"]
    assert not {"learning_rate_factors", "decay_biases"} & described.keys()
    if kind == "estimator":  # whose parameters have all settings
        solver = description["estimator"]["parameters"]["solver"]["settings"]["settings"]
        assert solver.pop("learning_rate_factors") is None
        assert solver.pop("decay_biases")
        rewrite(path, model=description)
    loaded = fastnn.load(path)
    for each in (made, loaded):
        if kind == "estimator":
            each.partial_fit(X, y[:, 0] > 0)
        else:
            each.fit(X, y, optimizer=optimizer, **given)
    if kind == "estimator":
        np.testing.assert_array_equal(loaded.coefs_[0], made.coefs_[0])
    else:
        np.testing.assert_array_equal(loaded.predict(X), made.predict(X))


@pytest.mark.parametrize(
    ("factors", "error", "message"),
    [
        (
            {"biases": 0.1},
            ValueError,
            r"names in learning_rate_factors must be one of 'weight', 'bias', .* got 'biases'",
        ),
        ({"running_mean": 0.1}, ValueError, r"must be one of .* got 'running_mean'"),
        ({3: 0.1}, ValueError, r"must be one of .* got 3"),
        ({"bias": -1}, ValueError, r"learning_rate_factors\['bias'\] must be a finite number at least 0, got -1"),
        ({"bias": np.nan}, ValueError, r"learning_rate_factors\['bias'\] must be a finite number at least 0, got nan"),
        ({"bias": np.inf}, ValueError, r"learning_rate_factors\['bias'\] must be a finite number at least 0, got inf"),
        ({"bias": "much"}, TypeError, r"learning_rate_factors\['bias'\] must be a number, got 'much'"),
        ({"bias": np.ones(2)}, TypeError, r"learning_rate_factors\['bias'\] must be a number, got array"),
        (0.1, TypeError, r"learning_rate_factors must be factors by names, such as \{'bias': 0.1\}, got 0.1"),
        ("bias", TypeError, r"learning_rate_factors must be factors by names, .* got 'bias'"),
        ([1, 2], TypeError, r"learning_rate_factors must be factors by names, .* got \[1, 2\]"),
    ],
)
def test_what_are_no_factors(factors, error, message):
    with pytest.raises(error, match=message):
        SGD(0.1, learning_rate_factors=factors)


def test_what_takes_none():
    with pytest.raises(ValueError, match=r"learning_rate_factors of Rprop must be None, got \{'bias': 0.1\}, but its"):
        Rprop(learning_rate_factors={"bias": 0.1})
    for kind in (fastnn.LBFGS, fastnn.LevenbergMarquardt):
        with pytest.raises(TypeError, match="learning_rate_factors"):
            kind(learning_rate_factors={"bias": 0.1})
    with pytest.raises(TypeError, match="decay_biases must be True or False, got 1"):
        AdamW(decay_biases=1)
    with pytest.raises(TypeError, match="decay_biases"):
        Adam(decay_biases=False)


def test_an_estimator_takes_them_and_is_saved(tmp_path):
    """Biases stay as they were drawn, in a further fit after a file too."""
    (X, y), kind = samples("dense", 40), fastnn.MLPClassifier
    optimizer = AdamW(0.01, learning_rate_factors={"bias": 0, "weight": 2}, decay_biases=False)
    made = kind((5,), solver=optimizer, max_iter=3, random_state=0)
    with pytest.warns(Warning, match="Maximum iterations"):
        made.fit(X, y[:, 0] > 0)
    drawn = [each.copy() for each in made.intercepts_]
    made.save(tmp_path / "file")
    loaded = fastnn.load(tmp_path / "file")
    assert loaded.solver == optimizer
    for each in (made, loaded):
        each.partial_fit(X, y[:, 0] > 0)
    for got, want in zip(loaded.coefs_, made.coefs_, strict=True):
        np.testing.assert_array_equal(got, want)
    for got, first in zip(loaded.intercepts_, drawn, strict=True):
        np.testing.assert_array_equal(got, first)
