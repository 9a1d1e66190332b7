"""Embedding in whole networks: against the reference, a network on one-hot inputs, and by central differences."""

import copy
import itertools
import pickle
import re
from dataclasses import replace

import numpy as np
import pytest
import safetensors
import scipy.sparse

import fastnn
from fastnn import (
    SGD,
    Adam,
    BatchNorm,
    Dense,
    Embedding,
    LayerNorm,
    Model,
    Momentum,
    Population,
    PReLU,
    Residual,
    Scale,
    Stream,
)
from fastnn.kernels import reference
from fastnn.kernels.programs import strategy
from fastnn.kernels.running import entry, pool
from fastnn.network import threads
from fastnn.training import thread_tuner
from fastnn.training.options import RuleValues

from ..cases import DTYPES, EPS
from ..kernels.kernel_calls import twin_of

N_IN, N_OUT = 6, 3
TABLES = Embedding([1, 4, 2], [7, 40, 2], [3, 20, 1])
NETS = {
    "dense": [TABLES, Dense(17, "tanh")],
    "narrow": [Embedding([4], [40], 2), Dense(3, "tanh")],
    "codes alone": [Embedding([5, 0, 1, 2, 4, 3], [9, 1, 7, 2, 40, 3], 4), Dense(9, "gelu")],
    "norms": [TABLES, LayerNorm(0.1), Dense(9, "tanh"), Scale()],
    "residual": [TABLES, Residual(Dense(5, "tanh"), Dense(27, "identity")), Dense(8, "silu")],
    "no hidden layer": [TABLES],
}
WITH_BATCHES = [TABLES, BatchNorm(), Dense(9, "tanh")]


def network(layers, loss="cross_entropy", dtype="float64", output="softmax", **options):
    """A model with such layers below the last one, of which the tables are not small."""
    model = Model([N_IN, *layers, Dense(N_OUT, output)], loss=loss, dtype=dtype, rng=1, **options)
    r = np.random.default_rng(2)
    for tensor in model.tensors[0].values():
        tensor[...] = r.normal(size=tensor.shape)
    return model


def samples(n, dtype="float64", seed=3, layer=None):
    """(X, y, the targets as rows); codes in the columns of a layer, of `TABLES` where nothing is said."""
    r = np.random.default_rng(seed)
    X, y = r.normal(size=(n, N_IN)).astype(dtype), r.integers(0, N_OUT, n)
    layer = layer or TABLES
    for column, categories in zip(layer.columns, layer.categories, strict=True):
        X[:, column] = r.integers(0, categories, n)
    return X, y, np.eye(N_OUT)[y]


def samples_for(layers, n, dtype="float64", seed=3):
    return samples(n, dtype, seed, layers[0])


def numbers_of(layer):
    """The columns of the inputs that are no codes."""
    return [i for i in range(N_IN) if i not in layer.columns]


def bits(model):
    return model.parameters.tobytes()


def padding_is_zero(model, vector):
    used = np.zeros(vector.size, bool)
    for tensors in model._network.tensors_of(used):
        for tensor in tensors.values():
            tensor[...] = True
    assert used.sum() == sum(tensor.size for tensors in model.tensors for tensor in tensors.values())
    assert not vector[~used].any()


def arrays_of(layer):
    """The arrays of a layer of the reference, in the order of a model's tensors."""
    if isinstance(layer, reference.Embedding):
        return layer.tables
    return [array.T for array in layer if isinstance(array, np.ndarray)]


def same(model, network, tolerance):
    """Raise where a model does not hold what the reference does."""
    for tensors, layer in zip(model.tensors, reference.numbered(network), strict=True):
        for (name, got), want in zip(tensors.items(), arrays_of(layer), strict=True):
            np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance, err_msg=name)
    padding_is_zero(model, model.parameters)


# ---- the mathematics ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NETS)
def test_outputs_and_gradients_equal_the_reference(name, dtype):
    """A single sample, few, a remainder of lanes, and more than a block."""
    model = network(NETS[name], dtype=dtype)
    exact, block = twin_of(model), model._network.layout.block_rows
    for n in (1, 2, 33, 300, block + 1):
        X, y, rows = samples_for(NETS[name], n, dtype)
        x, tolerance = X.astype("f8"), 2000 * EPS[dtype]
        outputs = reference.forward(exact, x)
        np.testing.assert_allclose(model.predict(X), outputs[-1], atol=tolerance)
        np.testing.assert_allclose(model.forward(X), outputs[-1], atol=tolerance)
        for got, want in zip(model.hidden_activations(X), outputs[1:-1], strict=True):
            np.testing.assert_allclose(got, want, atol=tolerance)
        loss, summed = reference.gradients(exact, x, rows, "softmax_cross_entropy")
        assert model.loss(X, y) == pytest.approx(loss / n, rel=tolerance)
        found = model._network.inference.gradients(X, y.astype(np.int32))
        padding_is_zero(model, found)
        for tensors, parts in zip(model._network.tensors_of(found), summed, strict=True):
            for (tensor, got), part in zip(tensors.items(), parts, strict=True):
                want = part if tensor.startswith("embedding") else part.T
                np.testing.assert_allclose(got, want / n, atol=tolerance)


@pytest.mark.parametrize("name", NETS)
def test_derivatives_by_the_inputs(name):
    """Those by codes are zero, those of the outputs along a direction do not see it there."""
    model, layer = network(NETS[name]), NETS[name][0]
    exact = twin_of(model)
    for n in (1, 33):
        X, _, _ = samples_for(NETS[name], n)
        r = np.random.default_rng(n)
        found, V, d_a = model.input_gradients(X), r.normal(size=X.shape), r.normal(size=(n, N_OUT))
        np.testing.assert_allclose(found, reference.input_gradients(exact, X), atol=1e-13)
        assert not found[:, :, list(layer.columns)].any()
        np.testing.assert_allclose(model.jvp(X, V), np.einsum("ikj,ij->ik", found, V), atol=1e-12)
        _, d_x = model.backward(X, d_a, inputs=True)
        np.testing.assert_allclose(d_x, np.einsum("ikj,ik->ij", found, d_a), atol=1e-12)


@pytest.mark.parametrize("name", NETS)
def test_central_differences(name):
    """The gradient by all parameters; the derivatives by numbers, first and second."""
    model = network(NETS[name])
    X, y, _ = samples_for(NETS[name], 33)
    inference, targets, h = model._network.inference, y.astype(np.int32), 1e-6
    found = model._network.tensors_of(inference.gradients(X, targets))
    for tensors, gradients in zip(model.tensors, found, strict=True):
        for tensor, got in zip(tensors.values(), gradients.values(), strict=True):
            for index in np.ndindex(tensor.shape):
                values, kept = [], tensor[index]
                for step in (h, -h):
                    tensor[index] = kept + step
                    values.append(inference.loss_and_gradient(X, targets)[0])
                tensor[index] = kept
                assert got[index] == pytest.approx((values[0] - values[1]) / (2 * h), abs=1e-8)
    by_inputs, twice = model.input_gradients(X), model.hessian(X, output=1)
    assert not twice[:, list(NETS[name][0].columns)].any()
    np.testing.assert_allclose(model.hessian(X, output=1, diagonal=True), np.einsum("ijj->ij", twice), atol=1e-13)
    for j in numbers_of(NETS[name][0]):
        step = h * np.eye(N_IN)[j]
        numeric = (model.predict(X + step) - model.predict(X - step)) / (2 * h)
        np.testing.assert_allclose(by_inputs[:, :, j], numeric, atol=1e-8)
        numeric = (model.input_gradients(X + step) - model.input_gradients(X - step))[:, 1] / (2 * h)
        np.testing.assert_allclose(twice[:, j], numeric, atol=1e-7)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(12))
def test_tables_of_any_shapes(seed, dtype):
    """Random columns in any order, narrow tables beside wide ones, few categories and many; a step of training."""
    r = np.random.default_rng(seed)
    n_inputs = int(r.integers(1, 40))
    columns = r.permutation(n_inputs)[: r.integers(1, n_inputs + 1)]
    categories, widths = (np.exp(r.uniform(0, np.log(most), len(columns))).astype(int) for most in (300, 40))
    layer, n = Embedding(columns, categories, widths), int(r.integers(2, 90))
    model = Model([n_inputs, layer, Dense(5, "tanh"), Dense(2, "identity")], dtype=dtype, rng=seed)
    X = r.normal(size=(n, n_inputs)).astype(dtype)
    X[:, columns] = r.integers(0, categories, (n, len(columns)))
    Y, exact, tolerance = r.normal(size=(n, 2)).astype(dtype), twin_of(model), 500 * EPS[dtype]
    np.testing.assert_allclose(model.predict(X), reference.forward(exact, X.astype("f8"))[-1], atol=tolerance)
    data = X.astype("f8"), Y.astype("f8"), np.arange(n)[None]
    losses, want = reference.train(exact, *data, 16, 0.01, 0.5, optimizer="momentum")
    history = model.fit(X, Y, epochs=1, batch_size=16, optimizer=Momentum(0.01, 0.5), shuffle=False)
    np.testing.assert_allclose(history.loss, losses, rtol=tolerance)
    same(model, want, tolerance)


def one_hot_of(layer, X):
    """Inputs for a network without tables: the numbers, then for each column of codes a one at the code."""
    parts = [np.eye(n)[X[:, column].astype(int)] for column, n in zip(layer.columns, layer.categories, strict=True)]
    return np.hstack([X[:, numbers_of(layer)], *parts])


@pytest.mark.parametrize("name", ["dense", "narrow", "codes alone"])
def test_it_is_a_network_on_one_hot_inputs(name):
    """Whose first weights are the products of tables and weights; so gradients are too."""
    model, layer = network(NETS[name]), NETS[name][0]
    X, y, _ = samples_for(NETS[name], 90)
    Z, n_numbers = one_hot_of(layer, X), len(numbers_of(layer))
    edges = np.cumsum([n_numbers, *layer.widths])
    W, tables = model.weights[1], [*model.tensors[0].values()]
    of_tables = [W[:, first:stop] for first, stop in itertools.pairwise(edges)]
    other = Model([Z.shape[1], *model.layers[1:]], loss="cross_entropy", dtype="float64")
    products = [part @ table.T for part, table in zip(of_tables, tables, strict=True)]
    other.weights[0][...] = np.hstack([W[:, :n_numbers], *products])
    other.biases[0][...] = model.biases[1]
    other.weights[1][...], other.biases[1][...] = model.weights[2], model.biases[2]
    np.testing.assert_allclose(model.predict(X), other.predict(Z), atol=1e-12)
    (of_weights, _), of_head = other.gradients(Z, y)
    found = model.gradients(X, y)
    np.testing.assert_allclose(found[2][0], of_head[0], atol=1e-12)
    np.testing.assert_allclose(found[1][0][:, :n_numbers], of_weights[:, :n_numbers], atol=1e-12)
    first, row = n_numbers, 0
    for table, part, (begin, end) in zip(tables, of_tables, itertools.pairwise(edges), strict=True):
        of_codes = of_weights[:, first : first + len(table)]  # the product's derivative: those of both factors follow
        got = found[0][0][row : row + len(table), : table.shape[1]]
        np.testing.assert_allclose(got, of_codes.T @ part, atol=1e-12)
        np.testing.assert_allclose(found[1][0][:, begin:end], of_codes @ table, atol=1e-12)
        first, row = first + len(table), row + len(table)


# ---- training ----

OPTIMIZERS = {
    "sgd": (SGD(0.05), (0.05,)),
    "momentum": (Momentum(0.02, 0.6), (0.02, 0.6)),
    "adam": (Adam(0.01, 0.8, 0.95, 1e-6), (0.01, 0.8, 0.95, 1e-6)),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", NETS)
def test_fits_equal_the_reference(name, optimizer):
    """Single samples, a remainder, a whole set, and batches of several blocks."""
    block = network(NETS[name])._network.layout.block_rows
    chosen, settings = OPTIMIZERS[optimizer]
    for n, batch_size in ((61, 8), (256, 256), (20, 1), (block + 60, block + 40)):
        model = network(NETS[name])
        X, y, rows = samples_for(NETS[name], n)
        order = np.array([np.random.default_rng(i).permutation(n) for i in range(3)])
        given = {"loss_name": "softmax_cross_entropy", "optimizer": optimizer}
        losses, want = reference.train(twin_of(model), X, rows, order, batch_size, *settings, **given)
        history = model.fit(X, y, epochs=3, batch_size=batch_size, optimizer=chosen, shuffle=order)
        np.testing.assert_allclose(history.loss, losses, rtol=1e-9)
        same(model, want, 1e-9)


def test_a_float32_fit_equals_the_reference():
    model = network(NETS["norms"], dtype="float32")
    X, y, rows = samples(128, "float32")
    order = np.array([np.random.default_rng(i).permutation(128) for i in range(2)])
    given = {"loss_name": "softmax_cross_entropy"}
    losses, want = reference.train(twin_of(model), X.astype("f8"), rows, order, 30, 0.05, **given)
    history = model.fit(X, y, epochs=2, batch_size=30, optimizer=SGD(0.05), shuffle=order)
    np.testing.assert_allclose(history.loss, losses, rtol=1e-4)
    same(model, want, 2e-4)


RULES = {
    "dropout": ({"dropout": 0.4}, {"rules": RuleValues(dropout=(0.0, 0.4, 0.0))}),
    "noise": ({"input_noise": 0.3}, {"rules": RuleValues(input_noise=0.3)}),
    "smoothing": ({"label_smoothing": 0.1}, {"rules": RuleValues(label_smoothing=0.1)}),
    "norms": ({"max_norm": 0.7}, {"rules": RuleValues(max_norm=0.7)}),
    "clipped norm": ({"clip_norm": 0.1}, {"rules": RuleValues(clip_norm=0.1)}),
    "clipped values": ({"clip_value": 0.01}, {"rules": RuleValues(clip_value=0.01)}),
    "l2": ({"l2": 0.1}, {"l2": (0.1, 0.0)}),
    "l1": ({"l1": 0.05}, {"l1": (0.05, 0.0)}),
    "weights": ({"sample_weight": True}, {}),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("name", "optimizer"), [("dense", "sgd"), ("narrow", "adam"), ("codes alone", "sgd")])
def test_rules_equal_the_reference(name, rule, optimizer):
    """Noise is added to numbers alone; penalties and limits of norms are of the weights of dense layers."""
    model = network(NETS[name])
    X, y, rows = samples_for(NETS[name], 63)
    order = np.array([np.random.default_rng(i).permutation(63) for i in range(2)])
    options, given = (dict(each) for each in RULES[rule])
    chosen, settings = OPTIMIZERS[optimizer]
    if rule == "weights":
        options["sample_weight"] = given["weights"] = np.random.default_rng(5).uniform(0.1, 2, 63)
    if rule.startswith("clipped"):
        chosen, options = replace(chosen, **options), {}
    given |= {"optimizer": optimizer, "seed": model._network.noise, "loss_name": "softmax_cross_entropy"}
    losses, want = reference.train(twin_of(model), X, rows, order, 20, *settings, **given)
    history = model.fit(X, y, epochs=2, batch_size=20, optimizer=chosen, shuffle=order, **options)
    np.testing.assert_allclose(history.loss, losses, rtol=1e-8)
    same(model, want, 1e-6 if rule == "noise" else 1e-9)  # normal numbers come from an approximation


@pytest.fixture
def shared(monkeypatch):
    """Whatever can be shared among threads is, on any machine; a list notes the threads that helped."""
    helped, kernel = [], entry.help_train
    monkeypatch.setattr(threads, "FIT_MULTIPLY_ADDS", 0)
    monkeypatch.setattr(threads, "PARALLEL_MULTIPLY_ADDS", 0)
    monkeypatch.setattr(threads, "available_threads", lambda: 3)
    monkeypatch.setattr(strategy, "THREAD_MULTIPLY_ADDS", 1)
    monkeypatch.setattr(thread_tuner.ThreadTuner, "choose", lambda self: (self.threads, 1.0))
    monkeypatch.setattr(entry, "help_train", lambda *a: (helped.append(a[-1]), kernel(*a))[1])
    monkeypatch.setattr(pool, "PATIENCE", 300.0)  # however slow the machine is
    return helped


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("batch_size", [32, 700])
def test_any_number_of_threads_gives_the_same_bits(batch_size, optimizer, dtype, shared):
    """They share the rows of tables, in batches of one block and of several."""
    X, y, _ = samples(700, dtype)
    layers, found = [TABLES, Dense(200, "relu"), Dense(70, "tanh")], {}
    for count in (1, 2, 3):
        model = network(layers, dtype=dtype)
        given = {"l2": 1e-3, "dropout": 0.2, "input_noise": 0.1} if optimizer == "adam" else {}
        model.fit(X, y, epochs=2, batch_size=batch_size, optimizer=optimizer, threads=count, **given)
        found[count] = bits(model), tuple(model.history.loss)
        assert np.isfinite(model.history.loss).all()
        padding_is_zero(model, model.parameters)
    assert found[1] == found[2] == found[3]
    assert shared


WIDE = Embedding([1, 4, 2], [7, 40, 2], [60, 60, 1])
ON_TABLES = {  # layers of as many neurons, which threads could share
    "scale": [Scale()],
    "prelu": [PReLU(0.1)],
    "batch norm": [BatchNorm(activation="tanh")],
    "layer norm": [LayerNorm(0.1)],
    "residual": [Residual(Dense(124, "tanh")), Scale()],
    "residual without products": [Residual(PReLU(), activation="tanh"), Dense(90, "tanh")],
}


@pytest.mark.parametrize("name", ON_TABLES)
def test_threads_share_what_stands_on_tables(name, shared):
    """Every worker computes all outputs of an Embedding, which belong to no thread alone."""
    X, y, _ = samples(300)
    found = []
    for count in (1, 2, 3):
        model = network([WIDE, *ON_TABLES[name], Dense(90, "tanh")])
        model.fit(X, y, epochs=2, batch_size=32, optimizer="adam", threads=count, shuffle=False)
        found.append((bits(model), tuple(model.history.loss)))
    assert found[0] == found[1] == found[2]
    assert shared
    order = np.tile(np.arange(300), (2, 1))
    exact = twin_of(network([WIDE, *ON_TABLES[name], Dense(90, "tanh")]))
    given = {"optimizer": "adam", "loss_name": "softmax_cross_entropy"}
    losses, _ = reference.train(exact, X, np.eye(N_OUT)[y], order, 32, 0.001, 0.9, 0.999, 1e-8, **given)
    np.testing.assert_allclose(found[0][1], losses, rtol=1e-9)


def test_threads_share_no_columns_of_a_table_as_wide_as_its_layer(shared):
    codes, y = np.random.default_rng(0).integers(0, 50, (300, 1)), np.arange(300) % 3
    found = []
    for count in (1, 2, 3):
        layers = [1, Embedding([0], [50], [70]), Dense(90, "tanh"), Dense(3, "softmax")]
        model = Model(layers, loss="cross_entropy", dtype="float64", rng=0)
        before = model.tensors[0]["embedding_0"].copy()
        model.fit(codes, y, epochs=2, batch_size=32, threads=count)
        found.append(bits(model))
    assert found[0] == found[1] == found[2]
    assert shared
    moved = (model.tensors[0]["embedding_0"] != before).all(axis=1)
    assert moved.sum() == len(np.unique(codes))


@pytest.mark.parametrize("name", NETS)
def test_a_fit_in_two_parts(name, short_calls):
    """And in calls of a block each."""
    X, y, _ = samples_for(NETS[name], 62)
    models, given = [network(NETS[name]) for _ in range(3)], {"batch_size": 16, "optimizer": "adam"}
    models[0].fit(X, y, epochs=5, **given)
    for epochs in (2, 3):
        models[1].fit(X, y, epochs=epochs, **given)
    short_calls()
    models[2].fit(X, y, epochs=5, **given)
    assert bits(models[0]) == bits(models[1]) == bits(models[2])


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_has_the_same_bits_in_any_prediction(dtype, shared):
    model = network([TABLES, Dense(40, "relu")], dtype=dtype)
    X, _, _ = samples(1500, dtype)
    want = model.predict(X, threads=1)
    for n in (2, 3, 5, 31, 32, 33, 200, 1100):
        np.testing.assert_array_equal(model.predict(X[:n], threads=1), want[:n])
    np.testing.assert_array_equal(model.predict(X, threads=3), want)
    np.testing.assert_allclose(model.predict(X[:1]), want[:1], atol=200 * EPS[dtype])


def test_steps_of_any_number_of_rows():
    """`partial_fit` against the reference, in turns of rows that go back and forth."""
    model = network(NETS["dense"])
    exact, block = twin_of(model), model._network.layout.block_rows
    for i, n in enumerate([2, 33, 1, 100, block, block + 1, 2]):
        X, y, rows = samples(n, seed=i)
        given = np.arange(n)[None], n, 0.05
        (loss,), exact = reference.train(exact, X, rows, *given, loss_name="softmax_cross_entropy")
        assert model.partial_fit(X, y, optimizer=SGD(0.05)) == pytest.approx(loss, rel=1e-9)
        same(model, exact, 1e-9)


def test_steps_on_gradients_from_outside():
    """What `step` does is what `partial_fit` does by the same gradient."""
    models = [network(NETS["dense"], loss="quadratic", output="identity") for _ in range(2)]
    r, optimizer = np.random.default_rng(0), Adam(0.01)
    for n in (40, 40, 9, 1):
        X, Y = samples(n)[0], r.normal(size=(n, N_OUT))
        models[0].partial_fit(X, Y, optimizer=optimizer)
        models[1].step(X, (models[1].forward(X) - Y) / n, optimizer=optimizer)
        np.testing.assert_allclose(models[0].vector, models[1].vector, atol=1e-12)


def test_the_running_statistics_of_batch_norm_follow_it():
    model = network(WITH_BATCHES)
    X, y, rows = samples(60)
    order = np.arange(60)[None]
    losses, want = reference.train(twin_of(model), X, rows, order, 20, 0.1, loss_name="softmax_cross_entropy")
    history = model.fit(X, y, epochs=1, batch_size=20, optimizer=SGD(0.1), shuffle=False)
    np.testing.assert_allclose(history.loss, losses, rtol=1e-10)
    same(model, want, 1e-10)


def test_plain_sgd_changes_the_rows_of_a_batch_alone():
    model = network(NETS["dense"])
    X, y, _ = samples(20)
    before = {name: table.copy() for name, table in model.tensors[0].items()}
    model.fit(X, y, epochs=1, batch_size=20, optimizer=SGD(0.1))
    for column in TABLES.columns:
        changed = (model.tensors[0][f"embedding_{column}"] != before[f"embedding_{column}"]).any(axis=1)
        assert np.flatnonzero(changed).tolist() == np.unique(X[:, column]).tolist()


@pytest.mark.parametrize("frozen", [[0], [1], [0, 1]])
def test_frozen_layers_stay(frozen):
    model, free = (network(NETS["dense"]) for _ in range(2))
    model.freeze(frozen)
    X, y, _ = samples(62)
    before = [{name: tensor.copy() for name, tensor in tensors.items()} for tensors in model.tensors]
    for i, (pair, want) in enumerate(zip(model.gradients(X, y), free.gradients(X, y), strict=True)):
        for got, each in zip(pair, want, strict=True):
            np.testing.assert_allclose(got, 0 * each if i in frozen else each, atol=1e-14)
    model.fit(X, y, epochs=2, batch_size=16, optimizer="adam", l2=0.1, max_norm=0.5)
    for i, (tensors, kept) in enumerate(zip(model.tensors, before, strict=True)):
        for name, tensor in tensors.items():
            assert np.array_equal(tensor, kept[name]) == (i in frozen), (i, name)


def test_lbfgs_and_levenberg_marquardt():
    X, _, _ = samples(40)
    Y = np.tanh(X[:, [0, 3, 5]] + X[:, [1]] % 2)
    for optimizer in (fastnn.LBFGS(), fastnn.LevenbergMarquardt()):
        model = network(NETS["narrow"], loss="quadratic", output="tanh")
        before = model.loss(X, Y)
        history = model.fit(X, Y, epochs=15, batch_size=40, optimizer=optimizer)
        assert history.loss[-1] < 0.5 * before
        padding_is_zero(model, model.parameters)


def test_the_jacobian_of_single_samples():
    model = network(NETS["dense"], loss="quadratic", output="tanh")
    X, _, _ = samples(9)
    outputs, exact = model.predict(X), twin_of(model)
    for k, unit in enumerate(np.eye(N_OUT)):
        for row, vector in enumerate(model._network.inference.jacobian(X, outputs, k)):
            here = X[row : row + 1]
            _, want = reference.gradients(exact, here, reference.forward(exact, here)[-1] - unit)
            for tensors, parts in zip(model._network.tensors_of(vector), want, strict=True):
                for (name, got), part in zip(tensors.items(), parts, strict=True):
                    np.testing.assert_allclose(got, part if name.startswith("embedding") else part.T, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch_size", [1, 16, 600])
def test_a_member_of_a_population_has_the_bits_of_a_model(batch_size, dtype):
    X, y, _ = samples({1: 11, 16: 75, 600: 700}[batch_size], dtype)
    Y, layers = (y[:, None] / 2).astype(dtype), [N_IN, TABLES, Dense(6, "tanh"), 1]
    rates, given = [0.01, 0.001, 0.1], {"epochs": 3, "batch_size": batch_size, "dropout": 0.2, "input_noise": 0.1}
    population = Population(layers, 3, dtype=dtype, rng=0)
    population.fit(X, Y, optimizer=Adam(np.array(rates)), threads=2, **given)
    outputs = population.predict(X)
    for i, rate in enumerate(rates):
        model = Model(layers, dtype=dtype, rng=i)
        model.fit(X, Y, optimizer=Adam(rate), **given)
        assert bits(population[i]) == bits(model)
        np.testing.assert_array_equal(outputs[i], model.predict(X))


# ---- samples ----


def test_samples_of_all_kinds():
    """Bytes, integers, float32 in a float64 model, a Fortran array, a stream, a frame: the bits of the same numbers."""
    pandas = pytest.importorskip("pandas")
    X, y, _ = samples(64)
    X = np.abs(np.floor(X)).astype(np.uint8)
    given = {"epochs": 2, "batch_size": 16, "shuffle": False, "optimizer": "adam"}

    def trained(X, y=y):
        model = network(NETS["dense"])
        model.fit(*((X,) if y is None else (X, y)), **given)
        return model

    plain = trained(X.astype("f8"))
    outputs = plain.predict(X.astype("f8"))
    others = {
        "bytes": X,
        "integers": X.astype(int),
        "float32": X.astype("f4"),
        "columns": np.asfortranarray(X.astype("f8")),
        "frame": pandas.DataFrame(X, columns=list("abcdef")),
    }
    for kind, same_numbers in others.items():
        model = trained(same_numbers)
        assert bits(model) == bits(plain), kind
        np.testing.assert_array_equal(model.predict(same_numbers), outputs)
    assert bits(trained(Stream([(X[:30], y[:30]), (X[30:], y[30:])]), None)) == bits(plain)


WRONG = [7, -1, 0.5, 1e30, 2.0**24]


def refused(model, X, y, names="X"):
    """Calls that refuse samples, by what they are."""
    rows = np.eye(N_OUT)[y]
    given = {"epochs": 2, "batch_size": 8}
    good, _, _ = samples(len(X))
    return {
        "fit": lambda: model.fit(X, y, **given),
        "validation": lambda: model.fit(good, y, validation_data=(X, y), **given),
        "stream": lambda: model.fit(Stream([(X, y)]), **given),
        "lbfgs": lambda: model.fit(X, y, epochs=1, batch_size=99, optimizer=fastnn.LBFGS()),
        "partial_fit": lambda: model.partial_fit(X, y),
        "weighted partial_fit": lambda: model.partial_fit(X, y, sample_weight=np.ones(len(X))),
        "evaluate": lambda: model.evaluate(X, y),
        "loss": lambda: model.loss(X, y),
        "gradients": lambda: model.gradients(X, y),
        "backward": lambda: model.backward(X, rows),
        "backward to inputs": lambda: model.backward(X, rows, inputs=True),
        "step": lambda: model.step(X, rows),
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("wrong", WRONG)
def test_a_code_that_is_none_is_refused_before_anything_changes(wrong, dtype, state):
    """Also by what has taken good samples of the kind before."""
    model = network(NETS["dense"], dtype=dtype)
    X, y, _ = samples(40, dtype)
    for call in refused(model, X, y).values():
        call()
        call()
    X[17, 1] = wrong
    told = re.escape("must hold codes, whole numbers in [0, 7), got ")
    for name, call in refused(model, X, y).items():
        before = state(model)
        where = r"validation_data\[0\]" if name == "validation" else "X"
        with pytest.raises(ValueError, match=f"column 1 of {where} {told}{where}.17, 1. = "):
            call()
        assert state(model) == before, name
    assert np.isnan(model.predict(X)).any(axis=1).nonzero()[0].tolist() == [17]
    assert np.isnan(model.predict(X[17:18])).all()
    assert np.isnan(model.forward(X)[17]).all()
    assert np.isnan(model.hidden_activations(X)[0][17]).any()
    assert np.isnan(model.hessian(X)[17]).any()
    with pytest.raises(ValueError, match=r"NaN for X\[17\]"):
        model.classify(X)


@pytest.mark.parametrize("loss", ["quadratic", "absolute_error", "huber", "log_cosh", "quantile", "hinge"])
def test_a_step_on_a_wrong_code_is_undone_with_any_loss(loss, state):
    """`partial_fit` on samples like the last ones looks at the codes only where the loss is no number."""
    model = network(NETS["dense"], loss=loss, output="identity")
    X, _, rows = samples(8)
    for _ in range(2):
        model.partial_fit(X, rows)
    X[3, 4] = 40
    before = state(model)
    with pytest.raises(ValueError, match=r"column 4 of X must hold codes.*got X\[3, 4\] = 40.0"):
        model.partial_fit(X, rows)
    assert state(model) == before


def test_nan_is_refused_in_training_and_stays_in_its_row():
    model = network(NETS["dense"])
    X, y, _ = samples(20)
    X[7, 4] = np.nan
    with pytest.raises(ValueError, match=r"X must be finite in float64, got X\[7, 4\] = nan"):
        model.fit(X, y, epochs=1, batch_size=5)
    assert np.isnan(model.predict(X)).any(axis=1).nonzero()[0].tolist() == [7]
    assert np.isnan(model.jvp(X, np.ones_like(X))[7]).any()
    assert np.isnan(model.input_gradients(X)[7][:, numbers_of(TABLES)]).all()


def test_a_population_refuses_a_wrong_code_and_predicts_nan():
    population = Population([N_IN, TABLES, Dense(4, "tanh"), 1], 3, rng=0)
    X, y, _ = samples(20, "float32")
    X[3, 2] = 2
    before = population.vectors
    with pytest.raises(ValueError, match=r"column 2 of X must hold codes.*in \[0, 2\), got X\[3, 2\] = 2.0"):
        population.fit(X, y[:, None] / 2, epochs=1, batch_size=5)
    assert (population.vectors == before).all()
    assert np.isnan(population.predict(X)).any(axis=(0, 2)).nonzero()[0].tolist() == [3]


def test_a_frame_says_the_column_by_its_name():
    pandas = pytest.importorskip("pandas")
    X, y, _ = samples(20)
    X[3, 2] = 2
    with pytest.raises(ValueError, match=r"column 2 of X must hold codes.*got X\[3, 2\] = 2.0 in column 'c'"):
        network(NETS["dense"]).fit(pandas.DataFrame(X, columns=list("abcdef")), y, epochs=1, batch_size=5)


def test_sparse_samples_are_refused():
    model, (X, y, _) = network(NETS["dense"]), samples(20)
    sparse = scipy.sparse.csr_matrix(X)
    for call in (lambda: model.predict(sparse), lambda: model.fit(sparse, y, epochs=1, batch_size=5)):
        with pytest.raises(TypeError, match=r"X must be dense for an Embedding, got a sparse matrix; its toarray\(\)"):
            call()
    assert model.hessian(sparse).shape == (20, N_IN, N_IN)  # which makes it dense


# ---- the model ----


def test_weights_and_tensors():
    """`weights` has the tables one below the other."""
    model = network(NETS["dense"])
    assert {name: tensor.shape for name, tensor in model.tensors[0].items()} == {
        "embedding_1": (7, 3),
        "embedding_4": (40, 20),
        "embedding_2": (2, 1),
    }
    assert model.weights[0].shape == (49, 20)
    assert model.biases[0].shape == (0,)
    np.testing.assert_array_equal(model.weights[0][:7, :3], model.tensors[0]["embedding_1"])
    np.testing.assert_array_equal(model.weights[0][7:47], model.tensors[0]["embedding_4"])
    np.testing.assert_array_equal(model.weights[0][47:, :1], model.tensors[0]["embedding_2"])
    assert not model.weights[0][:7, 3:].any()
    flat = np.concatenate([tensor.ravel() for tensors in model.tensors for tensor in tensors.values()])
    np.testing.assert_array_equal(model.vector, flat)
    model.vector = -flat
    np.testing.assert_array_equal(model.tensors[0]["embedding_4"].ravel(), -flat[21:821])


def test_sizes_summary_and_repr():
    model = network(NETS["dense"])
    model.freeze(0)
    trained = 24 + 3 + (27 * 17 + 17) + (17 * 3 + 3) - 27
    tables = 7 * 3 + 40 * 20 + 2
    assert model.sizes == (6, 27, 17, 3)
    assert model.n_parameters == trained + tables
    assert model.summary().splitlines()[:-1] == [
        "layer  units  activation  parameters  trains",
        "    0     27  Embedding          823  frozen",
        "    1     17  tanh               476  yes",
        "    2      3  softmax             54  yes",
        "6 inputs, loss cross_entropy, float64",
    ]
    assert model.summary().splitlines()[-1].startswith(f"{trained + tables:,} parameters, of which {trained} train;")
    again = eval(repr(model), {name: getattr(fastnn, name) for name in ("Model", "Dense", "Embedding")})
    assert again.layers == model.layers == Model([6, *model.layers], output="softmax", loss="cross_entropy").layers


@pytest.mark.parametrize("dtype", DTYPES)
def test_saved_and_loaded_it_goes_on_with_the_same_bits(dtype, tmp_path):
    model, path = network(NETS["norms"], dtype=dtype), tmp_path / "model.safetensors"
    X, y, _ = samples(62, dtype)
    given = {"batch_size": 16, "optimizer": "adam", "dropout": 0.2, "input_noise": 0.1}
    model.fit(X, y, epochs=3, **given)
    model.save(path)
    with safetensors.safe_open(path, "numpy") as file:
        np.testing.assert_array_equal(file.get_tensor("layers.0.embedding_4"), model.tensors[0]["embedding_4"])
        assert file.get_tensor("optimizer.m.layers.0.embedding_1").shape == (7, 3)
    others = fastnn.load(path), pickle.loads(pickle.dumps(model)), copy.deepcopy(model)
    model.fit(X, y, epochs=2, **given)
    for other in others:
        assert (other.layers, repr(other)) == (model.layers, repr(model))
        other.fit(X, y, epochs=2, **given)
        assert bits(other) == bits(model)


def test_a_population_in_a_file(tmp_path):
    population, path = Population([N_IN, TABLES, Dense(4, "tanh"), 1], 3, rng=0), tmp_path / "some.safetensors"
    X, y, _ = samples(40, "float32")
    population.fit(X, y[:, None] / 2, epochs=2, batch_size=8, optimizer="adam")
    population.save(path)
    loaded = fastnn.load(path)
    for each in (population, loaded):
        each.fit(X, y[:, None] / 2, epochs=2, batch_size=8, optimizer="adam")
    np.testing.assert_array_equal(loaded.vectors, population.vectors)


@pytest.mark.parametrize("init", ["scaled", "normal", "zeros", "glorot_uniform", "he_normal", "orthogonal"])
def test_initial_tables(init):
    """A table is drawn as the weights of a dense layer; members of a population are drawn alike."""
    layers = [N_IN, Embedding([1, 4], [30, 500], [4, 9]), Dense(8, "tanh"), 1]
    deviations = {"scaled": 1 / 3, "normal": 1.0, "zeros": 0.0, "glorot_uniform": (2 / 509) ** 0.5}
    deviations |= {"he_normal": (2 / 9) ** 0.5, "orthogonal": 500**-0.5}
    model = Model(layers, init=init, rng=3)
    table = model.tensors[0]["embedding_4"]
    assert table.std() == pytest.approx(deviations[init], rel=0.05)
    if init == "orthogonal":
        np.testing.assert_allclose(table.T @ table, np.eye(9), atol=1e-5)
    population = Population(layers, 2, init=init, rng=3)
    assert bits(population[0]) == bits(model)
    assert bits(population[1]) == bits(Model(layers, init=init, rng=4))


def test_initial_tables_that_are_given():
    source = network(NETS["dense"])
    given = list(zip(source.weights, source.biases, strict=True))
    layers = [N_IN, *source.layers]
    made = {"loss": "cross_entropy", "dtype": "float64", "init": given}
    assert bits(Model(layers, **made)) == bits(source)
    assert bits(Population(layers, 2, **made)[1]) == bits(source)
    with pytest.raises(ValueError, match=r"init\[0\]\[0\] must have shape \(49, 20\), got \(49, 19\)"):
        Model(layers, **made | {"init": [(np.zeros((49, 19)), []), "zeros", "zeros"]})


def test_another_head_and_blend():
    model, (X, _, _) = network(NETS["dense"]), samples(20)
    hidden = model.hidden_activations(X)
    model.replace_head(5, rng=3)
    for before, now in zip(hidden, model.hidden_activations(X), strict=True):
        np.testing.assert_array_equal(now, before)
    other = copy.deepcopy(model)
    other.parameters[...] = 0
    other.blend(model, 0.5)
    np.testing.assert_array_equal(other.vector, model.vector / 2)


def test_default_widths():
    """1.6 categories^0.56, rounded, at most 16."""
    found = Embedding(range(7), [1, 2, 3, 7, 50, 60, 1000]).widths
    assert found == (2, 2, 3, 5, 14, 16, 16)
    assert Embedding(np.array([3]), np.array([5])) == Embedding((3,), (5,), 4)


ERRORS = {
    "no columns": (lambda: Embedding([], []), ValueError, "columns must name at least one column"),
    "a column twice": (lambda: Embedding([1, 1], [2, 2]), ValueError, r"each once, got \(1, 1\)"),
    "a negative column": (lambda: Embedding([-1], [2]), ValueError, r"columns\[0\] must be at least 0, got -1"),
    "a name": (lambda: Embedding(["a"], [2]), TypeError, r"columns\[0\] must be an integer, got 'a'"),
    "a number": (lambda: Embedding(3, [2]), TypeError, "columns must be a sequence of integers, got 3"),
    "no category": (lambda: Embedding([1], [0]), ValueError, r"categories\[0\] must be at least 1, got 0"),
    "too many": (lambda: Embedding([1], [2**24 + 1]), ValueError, r"categories\[0\] must be at most 16777216"),
    "few categories": (lambda: Embedding([1, 2], [5]), ValueError, r"number for each of 2 columns, got \(5,\)"),
    "few widths": (lambda: Embedding([1, 2], [5, 6], [3]), ValueError, r"widths must have.*2 columns, got \(3,\)"),
    "no width": (lambda: Embedding([1], [5], 0), ValueError, "widths must be at least 1, got 0"),
    "a width of text": (lambda: Embedding([1], [5], "3"), TypeError, "widths must be a sequence of integers, got '3'"),
    "no such column": (
        lambda: Model([6, Embedding([2, 6], [5, 5]), 1]),
        ValueError,
        r"Embedding's columns must be below 6, the number of inputs, got \(2, 6\)",
    ),
    "second": (lambda: Model([6, Dense(6), TABLES, 1]), ValueError, "Embedding must be the first layer"),
    "twice": (lambda: Model([6, TABLES, TABLES, 1]), ValueError, "Embedding must be the first layer"),
    "inside": (lambda: Model([6, Residual(TABLES, Dense(6)), 1]), ValueError, "Embedding must be the first layer"),
    "last": (lambda: Model([6, TABLES]), ValueError, "the last layer must be Dense"),
    "scaled": (
        lambda: Model([6, TABLES, 1], input_scale=0.5),
        ValueError,
        r"input_scale must be 1 for column \d, of which an Embedding reads codes, got 0\.5",
    ),
    "shifted": (
        lambda: Population([6, TABLES, 1], 2, input_shift=np.eye(2, 6, TABLES.columns[0])),
        ValueError,
        r"input_shift must be 0 for column \d, of which an Embedding reads codes, got 1",
    ),
}


def test_other_columns_may_be_shifted_and_scaled():
    """As if they had come so, to the bit; X may be float64."""
    n, others, rng = 40, [i for i in range(6) if i not in TABLES.columns], np.random.default_rng(5)
    shift, scale = np.zeros(6), np.ones(6)
    shift[others], scale[others] = 0.5, 2.0
    X = rng.integers(-8, 8, (n, 6)).astype("f8")
    for column, categories in zip(TABLES.columns, TABLES.categories, strict=True):
        X[:, column] = rng.integers(0, categories, n)
    y = rng.standard_normal((n, 1))
    for dtype in ("f4", "f8"):
        model, plain = (
            Model([6, TABLES, 5, 1], output="identity", rng=0, **each)
            for each in ({"input_shift": shift, "input_scale": scale}, {})
        )
        for each, rows in ((model, X.astype(dtype)), (plain, (X - shift) * scale)):
            each.fit(rows, y, epochs=3, batch_size=16, optimizer="adam")
        np.testing.assert_array_equal(model.vector, plain.vector)
        np.testing.assert_array_equal(model.predict(X.astype(dtype)), plain.predict((X - shift) * scale))


@pytest.mark.parametrize("call", ERRORS)
def test_errors_say_what_is_wrong(call):
    function, kind, words = ERRORS[call]
    with pytest.raises(kind, match=words):
        function()


def test_a_wrong_file_is_refused(tmp_path):
    model, path = network(NETS["dense"]), tmp_path / "model.safetensors"
    from fastnn.files import model_file

    description = model_file.described(model._network.architecture)
    layer = description["layers"][0]
    assert layer == {"kind": "Embedding", "columns": (1, 4, 2), "categories": (7, 40, 2), "widths": (3, 20, 1)}
    model.save(path)
    assert fastnn.load(path).layers == model.layers
    for wrong in ({"columns": [9, 4, 2]}, {"categories": [7, 40]}, {"widths": "abc"}, {"columns": None}):
        with pytest.raises((ValueError, TypeError)):
            model_file.architecture_of({**description, "layers": [{**layer, **wrong}, *description["layers"][1:]]}, {})
