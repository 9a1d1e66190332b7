"""Kinds of layers but Embedding in whole networks: against the reference and by central differences."""

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
from fastnn import SGD, Adam, BatchNorm, Dense, LayerNorm, Model, Momentum, PReLU, Residual, RMSprop, Scale, Stream
from fastnn.checks import calls
from fastnn.kernels import reference
from fastnn.kernels.programs import records, strategy
from fastnn.kernels.programs.layers import batch_norm, layer_norm, prelu, residual, scale
from fastnn.kernels.programs.layers.dense import DENSE
from fastnn.kernels.running import entry, pool
from fastnn.network import threads
from fastnn.training import thread_tuner
from fastnn.training.options import RuleValues

from ..cases import DTYPES, EPS
from ..kernels.kernel_calls import EVERY_TARGET, HOW, Net, twin_of

# Each kind alone, as the first layer and in the middle; then some together.
NETS = {
    "residual": [Dense(8, "tanh"), Residual(Dense(5, "sigmoid"), Dense(8, "tanh"))],
    "residual of the inputs": [Residual(Dense(5, "gelu"), Dense(6, "identity"), activation="softplus")],
    "nested": [Dense(9, "tanh"), Residual(Residual(Dense(9, "gelu")), Dense(9, "tanh"), activation="silu")],
    "nested at once": [Residual(Residual(Residual(Dense(6, "tanh"))), Dense(6, "gelu")), Dense(20, "tanh")],
    "scale": [Scale(), Dense(17, "tanh"), Scale()],
    "prelu": [PReLU(), Dense(17, "identity"), PReLU(-0.5), Dense(9, "tanh"), PReLU()],
    "prelu in a residual": [Residual(PReLU(), Residual(PReLU(0.0), activation="tanh"), Dense(6, "identity")), PReLU()],
    "layer norm": [LayerNorm(), Dense(17, "identity"), LayerNorm(0.1, "gelu")],
    "batch norm": [BatchNorm(), Dense(17, "identity"), BatchNorm(0.3, 0.1, "tanh")],
    "norms in a residual": [Residual(LayerNorm(), Scale(), Dense(20, "tanh"), Dense(6, "identity")), LayerNorm()],
    "all": [
        Dense(9, "identity"),
        BatchNorm(activation="softplus"),
        Residual(LayerNorm(), Dense(33, "sigmoid"), Residual(Scale(), BatchNorm()), Dense(9, "identity")),
        Scale(),
        PReLU(),
    ],
    "layers without products": [Scale(), Residual(LayerNorm(activation="sigmoid")), Residual(Scale(), Scale())],
}
WITHOUT_BATCHES = [name for name in NETS if name not in ("batch norm", "all")]
OUTPUTS = {"quadratic": "tanh", "cross_entropy": "softmax"}


def network(layers, n_inputs=6, loss="cross_entropy", dtype="float64", n_out=3, **options):
    """A model with such hidden layers, whose parameters are all drawn."""
    model = Model([n_inputs, *layers, Dense(n_out, OUTPUTS[loss])], loss=loss, dtype=dtype, rng=1, **options)
    r = np.random.default_rng(2)
    for tensors in model.tensors:
        for name, tensor in tensors.items():
            if tensor.ndim == 1:
                tensor[...] = r.uniform(0.4, 1.6, tensor.shape) if name != "bias" else r.normal(0, 0.5, tensor.shape)
    return model


def samples(n, n_inputs=6, n_out=3, dtype="float64", seed=3):
    """(X, y, the targets as rows)."""
    r = np.random.default_rng(seed)
    X, y = r.normal(size=(n, n_inputs)).astype(dtype), r.integers(0, n_out, n)
    return X, y, np.eye(n_out)[y]


def each(network):
    """The arrays of a network for `reference`, by the number of the layer and the name of the tensor."""
    names = "weight", "bias", "running_mean", "running_variance"
    for i, layer in enumerate(reference.numbered(network)):
        arrays = [array for array in layer if isinstance(array, np.ndarray)]
        yield from ((i, name, array.T) for name, array in zip(names, arrays, strict=False))


def same(model, network, tolerance):
    """Raise where a model does not hold what the reference does."""
    for i, name, want in each(network):
        got = model.tensors[i][name]
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance, err_msg=f"{name} {i}")
    padding_is_zero(model._network, model.parameters)


def padding_is_zero(network, vector):
    used = np.zeros(vector.size, bool)
    for tensors in network.tensors_of(used):
        for tensor in tensors.values():
            tensor[...] = True
    assert not vector[~used].any()


@pytest.fixture(params=HOW)
def how(request, orientation):
    """Batches are computed in one of the orientations, and predictions too."""
    orientation(request.param)
    return request.param


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NETS)
def test_outputs_and_gradients_equal_the_reference(name, dtype, how):
    """A single sample, few, a remainder of lanes, several shards, and more than a block."""
    model = network(NETS[name], dtype=dtype)
    exact, block = twin_of(model), model._network.layout.block_rows
    for n in (1, 2, 33, 300, block + 1) if name in WITHOUT_BATCHES else (2, 33, block):
        X, y, rows = samples(n, dtype=dtype)
        outputs = reference.forward(exact, X.astype("f8"))
        tolerance = (2000 if n > 2 else 20000) * EPS[dtype]  # the variance of two samples may be small
        np.testing.assert_allclose(model.predict(X), outputs[-1], atol=tolerance)
        for got, want in zip(model.hidden_activations(X), outputs[1:-1], strict=True):
            np.testing.assert_allclose(got, want, atol=tolerance)
        want = reference.input_gradients(exact, X.astype("f8"))
        np.testing.assert_allclose(model.input_gradients(X), want, atol=tolerance)
        want_loss, want = reference.gradients(exact, X.astype("f8"), rows, "softmax_cross_entropy")
        inference = model._network.inference
        loss, vector = inference.loss_and_gradient(X, y.astype(np.int32))
        assert loss == pytest.approx(want_loss / n, rel=tolerance)
        padding_is_zero(model._network, vector)
        for (dw, db), parts in zip(model.gradients(X, y), want, strict=True):
            for got, part in zip((dw, db) if len(parts) == 2 else (dw,), parts, strict=True):
                np.testing.assert_allclose(got.T, part / n, atol=tolerance)
            assert len(parts) == 2 or db.size == 0


@pytest.mark.parametrize("name", NETS)
def test_central_differences(name, how):
    model = network(NETS[name])
    X, y, _ = samples(33)
    inference, targets, h = model._network.inference, y.astype(np.int32), 1e-6
    found = model.gradients(X, y)
    for tensors, pair in zip(model.tensors, found, strict=True):
        for tensor, got in zip((tensors["weight"], tensors.get("bias", np.empty(0))), pair, strict=True):
            for index in np.ndindex(tensor.shape):
                values, kept = [], tensor[index]
                for step in (h, -h):
                    tensor[index] = kept + step
                    values.append(inference.loss_and_gradient(X, targets)[0])
                tensor[index] = kept
                assert got[index] == pytest.approx((values[0] - values[1]) / (2 * h), abs=1e-8)
    numeric = np.empty((33, 3, 6))
    for j, step in enumerate(h * np.eye(6)):
        numeric[:, :, j] = (model.predict(X + step) - model.predict(X - step)) / (2 * h)
    np.testing.assert_allclose(model.input_gradients(X), numeric, atol=1e-8)


def test_a_relu_after_the_sum(how):
    """Whose derivative is taken of the sum, not of what is added."""
    model = network([Dense(8, "relu"), Residual(Dense(8, "relu"), Dense(8, "identity"), activation="relu")])
    X, y, rows = samples(40)
    _, want = reference.gradients(twin_of(model), X, rows, "softmax_cross_entropy")
    for pair, parts in zip(model.gradients(X, y), want, strict=True):
        for got, part in zip(pair, parts, strict=True):
            np.testing.assert_allclose(got.T, part / 40, atol=1e-13)


def any_network(width, dtype, target, how):
    """Every kind in the kernels' memory, with activations that are not zero at zero."""
    kinds = [scale.Scale(), DENSE, residual.Residual((-1,)), layer_norm.LayerNorm(0.1), DENSE]
    kinds += [batch_norm.BatchNorm(0.1, 0.2), DENSE, residual.Residual((4,)), prelu.PReLU(0.25), DENSE]
    names = ["identity", "tanh", "tanh", "exp", "tanh", "sigmoid", "tanh", "softplus", "identity", "identity"]
    return Net([*[width] * 5, *[width + 1] * 5, 2], names, dtype, width, target=target, orientation=how, kinds=kinds)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("how", HOW[::2])
@pytest.mark.parametrize("target", EVERY_TARGET)
def test_all_kinds_on_every_target(target, how, dtype):
    """Where a line holds several vectors too: widths of a few neurons, of most of a line, and of more than one."""
    tolerance = 20000 * EPS[dtype]
    for width in (3, 9, 13, 21):
        for rows in (2, 7, 32, 256):
            n, r = any_network(width, dtype, target, how), np.random.default_rng(rows)
            x, y = r.standard_normal((rows, width)).astype(dtype), r.standard_normal((rows, 2)).astype(dtype)
            out, exact = np.empty((rows, 2), dtype), (x.astype("f8"), y.astype("f8"))
            n.sweep(x, out=out)
            np.testing.assert_allclose(out, reference.forward(n.twin, exact[0])[-1], rtol=tolerance, atol=tolerance)
            value, gradient = n.gradients(x, y)
            want_value, want = reference.gradients(n.twin, *exact)
            assert value == pytest.approx(want_value / rows, rel=tolerance)
            for tensors, parts in zip(filter(None, n.layout.tensors(gradient)), want, strict=True):
                for got, part in zip(tensors.values(), parts, strict=False):
                    size = max(1.0, np.abs(part).max() / rows)
                    np.testing.assert_allclose(got.T, part / rows, atol=tolerance * size)
            assert not n.padding(gradient).any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("how", HOW[::2])
@pytest.mark.parametrize("target", EVERY_TARGET)
def test_what_lies_behind_the_neurons_does_not_grow(target, how, dtype):
    """exp(exp(..)) from batch to batch would soon be infinite, and its product with a delta of zero no number."""
    for width in (3, 9, 13):
        n, r = any_network(width, dtype, target, how), np.random.default_rng(width)
        x, y = r.standard_normal((60, width)).astype(dtype), r.standard_normal((60, 2)).astype(dtype)
        order = np.tile(np.arange(60, dtype=np.int32), (2, 1))
        losses, want = reference.train(n.twin, x.astype("f8"), y.astype("f8"), order, 8, 1e-3)
        done = n.train(x, y, 8, (1e-3,), 2, records.GIVEN, order)
        tolerance = 20000 * EPS[dtype]
        np.testing.assert_allclose(done.losses, losses, rtol=tolerance)
        for layer, got in zip(reference.numbered(want), reference.numbered(n.twin), strict=True):
            for one, other in zip(got, layer, strict=True):
                if isinstance(other, np.ndarray):
                    np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)
        assert not n.padding(n.parameters).any()


OPTIMIZERS = {
    "sgd": (SGD(0.05), (0.05,)),
    "momentum": (Momentum(0.02, 0.6), (0.02, 0.6)),
    "adam": (Adam(0.01, 0.8, 0.95, 1e-6), (0.01, 0.8, 0.95, 1e-6)),
    "rmsprop": (RMSprop(0.005, 0.9, 1e-6), (0.005, 0.9, 1e-6)),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", NETS)
def test_fits_equal_the_reference(name, optimizer, how):
    """Single samples, a remainder, several shards, and batches of several blocks where the layers take them."""
    block = network(NETS[name])._network.layout.block_rows
    cases = [(61, 8), (256, 256)] + ([(20, 1), (block + 60, block + 40)] if name in WITHOUT_BATCHES else [])
    chosen, settings = OPTIMIZERS[optimizer]
    for n, batch_size in cases:
        model = network(NETS[name])
        X, y, rows = samples(n)
        order = np.array([np.random.default_rng(i).permutation(n) for i in range(3)])
        given = {"loss_name": "softmax_cross_entropy", "optimizer": optimizer}
        losses, want = reference.train(twin_of(model), X, rows, order, batch_size, *settings, **given)
        history = model.fit(X, y, epochs=3, batch_size=batch_size, optimizer=chosen, shuffle=order)
        np.testing.assert_allclose(history.loss, losses, rtol=1e-9)
        same(model, want, 1e-9)


@pytest.mark.parametrize("name", ["nested", "all", "layer norm", "prelu"])
def test_float32_fits_equal_the_reference(name, how):
    model = network(NETS[name], dtype="float32")
    X, y, rows = samples(128, dtype="float32")
    order = np.array([np.random.default_rng(i).permutation(128) for i in range(2)])
    losses, want = reference.train(
        twin_of(model), X.astype("f8"), rows, order, 30, 0.05, loss_name="softmax_cross_entropy"
    )
    history = model.fit(X, y, epochs=2, batch_size=30, optimizer=SGD(0.05), shuffle=order)
    np.testing.assert_allclose(history.loss, losses, rtol=1e-4)
    same(model, want, 2e-4)


# (options of fit, or of the optimizer, those of the reference); the test fills in what depends on the network.
RULES = {
    "dropout": ({"dropout": 0.4}, {}),
    "noise": ({"input_noise": 0.3}, {"rules": RuleValues(input_noise=0.3)}),
    "smoothing": ({"label_smoothing": 0.1}, {"rules": RuleValues(label_smoothing=0.1)}),
    "norms": ({"max_norm": 0.7}, {"rules": RuleValues(max_norm=0.7)}),
    "clipped norm": ({"clip_norm": 0.1}, {"rules": RuleValues(clip_norm=0.1)}),
    "clipped values": ({"clip_value": 0.01}, {"rules": RuleValues(clip_value=0.01)}),
    "derivatives": ({"min_derivative": 0.3}, {"rules": RuleValues(min_derivative=0.3)}),
    "l2": ({"l2": 0.1}, {"l2": (0.1, 0.0)}),
    "l1": ({"l1": 0.05}, {"l1": (0.05, 0.0)}),
    "weights": ({"sample_weight": True}, {}),
}


RULED = [("all", "sgd"), ("nested", "adam"), ("norms in a residual", "sgd"), ("prelu", "adam")]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("name", "optimizer"), RULED)
def test_rules_equal_the_reference(name, rule, optimizer, how):
    """Penalties and limits of norms are of the weights of dense layers alone."""
    n, batch_size = 63, 20
    model = network(NETS[name])
    X, y, rows = samples(n)
    order = np.array([np.random.default_rng(i).permutation(n) for i in range(2)])
    options, given = (dict(each) for each in RULES[rule])
    chosen, settings = OPTIMIZERS[optimizer]
    if rule == "weights":
        options["sample_weight"] = given["weights"] = np.random.default_rng(5).uniform(0.1, 2, n)
    if rule == "dropout":
        nodes = model._network.architecture.nodes
        rates = [0.4 * isinstance(node.layer, Dense) for node in nodes[:-1]]
        given["rules"] = RuleValues(dropout=(*rates, 0.0))
    if rule.startswith("clipped"):
        chosen = replace(chosen, **options)
        options = {}
    given |= {"optimizer": optimizer, "seed": model._network.noise, "loss_name": "softmax_cross_entropy"}
    losses, want = reference.train(twin_of(model), X, rows, order, batch_size, *settings, **given)
    history = model.fit(X, y, epochs=2, batch_size=batch_size, optimizer=chosen, shuffle=order, **options)
    np.testing.assert_allclose(history.loss, losses, rtol=1e-8)
    same(model, want, 1e-6 if rule == "noise" else 1e-9)  # normal numbers come from an approximation


# ---- threads, and what is cut ----


@pytest.fixture
def shared(monkeypatch):
    """Whatever can be shared among threads is, on any machine; a list notes the threads that helped."""
    helped, kernel = [], entry.help_train
    monkeypatch.setattr(threads, "available_threads", lambda: 8)
    monkeypatch.setattr(threads, "FIT_MULTIPLY_ADDS", 0)
    monkeypatch.setattr(threads, "PARALLEL_MULTIPLY_ADDS", 0)
    monkeypatch.setattr(strategy, "THREAD_MULTIPLY_ADDS", 1)
    monkeypatch.setattr(thread_tuner.ThreadTuner, "choose", lambda self: (self.threads, 1.0))
    monkeypatch.setattr(entry, "help_train", lambda *a: (helped.append(a[-1]), kernel(*a))[1])
    monkeypatch.setattr(pool, "PATIENCE", 300.0)  # however slow the machine is
    return helped


WIDE = {
    "wide": [
        Dense(200, "identity"),
        BatchNorm(activation="relu"),
        Residual(LayerNorm(), Dense(200, "gelu"), Scale(), Dense(200, "identity"), activation="tanh"),
    ],
    "wide and narrow": [
        PReLU(),
        Residual(Dense(90, "tanh"), LayerNorm(), PReLU(), Dense(40, "identity")),
        Dense(7, "tanh"),
        Residual(Dense(70, "tanh"), Residual(Scale(), LayerNorm()), Dense(7, "identity")),
        Dense(130, "identity"),
        LayerNorm(activation="silu"),
        PReLU(),
    ],
}


def bits(model):
    return model.parameters.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("batch_size", [32, 256])
@pytest.mark.parametrize("name", WIDE)
def test_any_number_of_threads_gives_the_same_bits(name, batch_size, optimizer, dtype, how, shared):
    """Layers whose columns threads share, and shards of samples; a frozen layer, dropout and the penalties too."""
    X, y, _ = samples(300, 40, 5, dtype)
    found = {}
    for count in (1, 2, 3):
        model = network(WIDE[name], 40, dtype=dtype, n_out=5)
        model.freeze([2])
        given = {"l2": 1e-3, "dropout": 0.2, "max_norm": 3.0} if optimizer == "adam" else {}
        model.fit(X, y, epochs=2, batch_size=batch_size, optimizer=optimizer, threads=count, **given)
        found[count] = bits(model), tuple(model.history.loss)
        assert np.isfinite(model.history.loss).all()
    assert found[1] == found[2] == found[3]
    if how != "feature-major":
        assert shared


@pytest.mark.parametrize("name", NETS)
def test_a_fit_in_two_parts(name, how):
    X, y, _ = samples(62)
    models = [network(NETS[name]) for _ in range(2)]
    given = {"batch_size": 16, "optimizer": "adam"}
    models[0].fit(X, y, epochs=5, **given)
    models[1].fit(X, y, epochs=2, **given)
    models[1].fit(X, y, epochs=3, **given)
    assert bits(models[0]) == bits(models[1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*NETS, *WIDE])
def test_a_row_has_the_same_bits_in_any_prediction(name, dtype, shared):
    n_inputs = 40 if name in WIDE else 6
    model = network((NETS | WIDE)[name], n_inputs, dtype=dtype)
    X, _, _ = samples(1500, n_inputs, dtype=dtype)
    want = model.predict(X, threads=1)
    for n in (2, 3, 5, 31, 32, 33, 64, 200, 300, 1100):
        np.testing.assert_array_equal(model.predict(X[:n], threads=1), want[:n])
    for count in (2, 3):
        np.testing.assert_array_equal(model.predict(X, threads=count), want)
    np.testing.assert_allclose(model.predict(X[:1]), want[:1], atol=200 * EPS[dtype])
    np.testing.assert_array_equal(model.predict(np.asfortranarray(X)), want)


@pytest.mark.parametrize("name", NETS)
def test_steps_of_any_number_of_rows(name, how):
    """`partial_fit` against the reference, in turns of rows that go back and forth."""
    model, block = network(NETS[name]), network(NETS[name])._network.layout.block_rows
    exact, few = twin_of(model), [1] if name in WITHOUT_BATCHES else []
    turns = [2, 33, 7, 100, 2, 250, *few, block, *few, 33] + ([block + 1, 2 * block + 9, 2] if few else [])
    for i, n in enumerate(turns):
        X, y, rows = samples(n, seed=i)
        given = np.arange(n)[None], n, 0.05
        (loss,), exact = reference.train(exact, X, rows, *given, loss_name="softmax_cross_entropy")
        assert model.partial_fit(X, y, optimizer=SGD(0.05)) == pytest.approx(loss, rel=1e-9)
        same(model, exact, 1e-9)


@pytest.mark.parametrize("name", ["all", "norms in a residual"])
def test_a_step_of_partial_fit_is_one_of_fit(name):
    X, y, _ = samples(33)
    models = [network(NETS[name]) for _ in range(2)]
    for _ in range(3):
        models[0].partial_fit(X, y, optimizer="adam")
    models[1].fit(X, y, epochs=3, batch_size=33, optimizer="adam", shuffle=False)
    np.testing.assert_allclose(models[0].parameters, models[1].parameters, atol=1e-12)


def test_find_learning_rate_and_early_stopping():
    X, y, _ = samples(120)
    model = network(NETS["all"])
    before = bits(model)
    found = fastnn.find_learning_rate(model, X, y, batch_size=30, optimizer="adam", high=1.0, steps=40)
    assert bits(model) == before
    assert 1e-5 <= found.suggestion < 1
    stop = fastnn.EarlyStopping(patience=2, monitor="val_loss")
    given = {"validation_data": samples(50, seed=9)[:2], "callbacks": [stop]}
    history = model.fit(X, y, epochs=200, batch_size=30, optimizer=Adam(0.02), **given)
    assert len(history.loss) < 200
    best = min(history.val_loss)  # and its running statistics
    assert model.loss(*given["validation_data"]) == pytest.approx(best, rel=1e-12)


# ---- BatchNorm ----


def with_batch_norm(dtype="float64", **settings):
    return network([Dense(9, "identity"), BatchNorm(**settings), Dense(5, "tanh")], dtype=dtype)


def running(model):
    """The running statistics of the layer above."""
    tensors = model.tensors[1]
    return np.array([tensors["running_mean"], tensors["running_variance"]])


def test_a_batch_that_is_too_large_for_a_block():
    model = with_batch_norm()
    block, before = model._network.layout.block_rows, bits(model)
    X, y, _ = samples(2 * block)
    named = f"at most {block} for this network, because BatchNorm normalises a batch as a whole, got {block + 1}"
    for data in ((X, y), (Stream([(X, y)]),)):
        with pytest.raises(ValueError, match=f"batch_size must be {named}"):
            model.fit(*data, epochs=1, batch_size=block + 1)
    with pytest.raises(ValueError, match=f"batch_size must be at most {block}.*got {2 * block}"):
        model.fit(X, y, epochs=1, batch_size=2 * block, optimizer=fastnn.LBFGS())
    rows = f"X must have 2 to {block} rows for this network, because BatchNorm.*got {block + 1}"
    more = X[: block + 1], y[: block + 1]
    model.partial_fit(X[:5], y[:5])  # a stepper that could turn to other rows
    before = bits(model)
    for call in (model.partial_fit, model.gradients):
        with pytest.raises(ValueError, match=rows):
            call(*more)
    with pytest.raises(ValueError, match=rows):
        model.partial_fit(*more, sample_weight=np.ones(block + 1))
    assert bits(model) == before
    model.fit(X, y, epochs=1, batch_size=block)
    assert np.isfinite(model.history.loss).all()


def test_a_batch_of_a_single_row():
    model = with_batch_norm()
    X, y, _ = samples(33)
    model.partial_fit(X, y)
    before = bits(model)
    with pytest.raises(ValueError, match="batches of two rows or more for BatchNorm, got 1"):
        model.fit(X, y, epochs=1, batch_size=1)
    with pytest.raises(ValueError, match="got 16 for 33 samples, whose last batch is a single one"):
        model.fit(X, y, epochs=1, batch_size=16)
    with pytest.raises(ValueError, match="got 8 for 25 samples, whose last batch is a single one"):
        model.fit(X, y, epochs=1, batch_size=8, validation_fraction=0.25)
    with pytest.raises(ValueError, match="batches of two rows or more for BatchNorm, got 1"):
        model.fit(Stream([(X, y)]), epochs=1, batch_size=1)
    for call in (model.partial_fit, model.gradients):
        with pytest.raises(ValueError, match=r"X must have 2 to .* rows .* got 1"):
            call(X[:1], y[:1])
    with pytest.raises(ValueError, match=r"X must have 2 to .* rows .* got 1"):
        model.partial_fit(X[:1], y[:1], sample_weight=[2.0])
    assert bits(model) == before
    assert model.predict(X[:1]).shape == (1, 3)  # which takes the running statistics
    assert model.evaluate(X[:1], y[:1])["loss"] > 0


def test_a_stream_whose_last_batch_is_a_single_row():
    """How many rows a stream has shows at its end: what the parts before it did stays, as where a file ends early."""
    model = with_batch_norm()
    X, y, _ = samples(33)
    with pytest.raises(ValueError, match="got 16 for 33 samples, whose last batch is a single one"):
        model.fit(Stream([(X, y)], buffer_rows=16), epochs=1, batch_size=16, shuffle=False)
    assert np.isfinite(model.parameters).all()
    model.fit(Stream([(X, y)], buffer_rows=16), epochs=1, batch_size=11, shuffle=False)
    assert len(model.history.loss) == 1


def test_levenberg_marquardt_refuses_it():
    model = Model([6, BatchNorm(), 1], output="tanh", dtype="float64", rng=0)
    with pytest.raises(ValueError, match=r"LevenbergMarquardt.*BatchNorm"):
        model.fit(*samples(20)[:2], epochs=1, batch_size=20, optimizer=fastnn.LevenbergMarquardt())


def test_levenberg_marquardt_takes_the_other_kinds():
    """It takes the derivatives of each output in each sample by the parameters."""
    layers = [Dense(5, "tanh"), Residual(LayerNorm(), Scale(), Dense(5, "tanh")), PReLU()]
    model = network(layers, loss="quadratic")
    X, _, _ = samples(40)
    outputs, exact, inference = model.predict(X), twin_of(model), model._network.inference
    for k, unit in enumerate(np.eye(3)):
        for row, vector in enumerate(inference.jacobian(X, outputs, k)):
            here = slice(row, row + 1)
            _, want = reference.gradients(exact, X[here], reference.forward(exact, X[here])[-1] - unit)
            for tensors, parts in zip(model._network.tensors_of(vector), want, strict=True):
                for got, part in zip(tensors.values(), parts, strict=True):
                    np.testing.assert_allclose(got.T, part, atol=1e-12)
    y = np.tanh(X[:, :3])
    before = model.loss(X, y)
    history = model.fit(X, y, epochs=15, batch_size=40, optimizer=fastnn.LevenbergMarquardt())
    assert history.loss[-1] < 0.05 * before
    padding_is_zero(model._network, model.parameters)


@pytest.mark.parametrize("frozen", [[], [0], [1]])
def test_lbfgs_lets_the_running_statistics_follow(frozen):
    """Each iteration is one batch to them."""
    model = with_batch_norm(momentum=0.25)
    model.freeze(frozen)
    X, y, rows = samples(100)
    means, inside, statistics = [running(model)], [], []
    history = model.fit(
        X, y, epochs=6, batch_size=100, optimizer=fastnn.LBFGS(), callbacks=[lambda m: inside.append(twin_of(m))]
    )
    assert history.loss[-1] < history.loss[0]
    for network_then in inside:
        statistics.append(np.array([network_then[1].running_mean, network_then[1].running_variance]))
        (w, b, _), mean = network_then[0], means[-1]
        z = X @ w + b
        of_batch = np.array([z.mean(axis=0), z.var(axis=0, ddof=1)])
        means.append(mean if 1 in frozen else mean + 0.25 * (of_batch - mean))
        np.testing.assert_allclose(statistics[-1], means[-1], atol=1e-12)
    value, _ = reference.gradients(twin_of(model), X, rows, "softmax_cross_entropy")
    padding_is_zero(model._network, model.parameters)
    if not frozen:  # the loss that is minimised is that of the batch's statistics
        loss, _ = model._network.inference.loss_and_gradient(X, y.astype(np.int32))
        assert loss == pytest.approx(value / 100, rel=1e-12)


def test_a_frozen_one_keeps_its_running_statistics_and_takes_them(how):
    """Any batch will do then, single rows too; what is below it trains."""
    model = network([Dense(9, "identity"), BatchNorm(0.5, 0.1, "tanh"), Dense(5, "tanh")])
    model.freeze(1)
    X, y, rows = samples(61)
    for batch_size in (20, 1, 61):
        exact = twin_of(model)
        for first in range(0, 61, batch_size):
            batch = X[first : first + batch_size], rows[first : first + batch_size]
            _, summed = reference.gradients(exact, *batch, "softmax_cross_entropy", statistics="running")
            for i in (0, 2, 3):
                for array, gradient in zip(exact[i], summed[i], strict=False):
                    array -= 0.1 * gradient / len(batch[0])
        model.fit(X, y, epochs=1, batch_size=batch_size, optimizer=SGD(0.1), shuffle=False)
        same(model, exact, 1e-12)
    _, summed = reference.gradients(exact, X, rows, "softmax_cross_entropy", statistics="running")
    for i, (pair, parts) in enumerate(zip(model.gradients(X, y), summed, strict=True)):
        for got, part in zip(pair, parts, strict=True):
            np.testing.assert_allclose(got.T, part / 61 if i != 1 else 0 * part, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_folded(dtype):
    model = with_batch_norm(dtype, epsilon=0.01, activation="silu")
    X, y, _ = samples(64, dtype=dtype)
    model.fit(X, y, epochs=3, batch_size=16)
    factor, shift = model.layers[1].folded(model.tensors[1])
    assert factor.dtype == shift.dtype == dtype
    below, above, _ = model.hidden_activations(X)
    np.testing.assert_allclose(
        above, reference.ACTIVATIONS["silu"][0](below.astype("f8") * factor + shift), atol=30 * EPS[dtype]
    )
    merged = Model([6, Dense(9, "silu"), *model.layers[2:]], loss="cross_entropy", dtype=dtype)
    merged.weights[0][...] = model.weights[0] * factor[:, None]
    merged.biases[0][...] = model.biases[0] * factor + shift
    for i in (1, 2):
        merged.weights[i][...], merged.biases[i][...] = model.weights[i + 1], model.biases[i + 1]
    np.testing.assert_allclose(merged.predict(X), model.predict(X), atol=100 * EPS[dtype])


def test_a_diverging_fit_keeps_the_last_finite_running_statistics():
    X, y = samples(60)[0], samples(60, n_out=1)[0][:, :1] * 10
    models = [Model([6, 5, BatchNorm(), Dense(1, "identity")], dtype="float64", rng=0) for _ in range(2)]
    with pytest.raises(fastnn.DivergenceError) as error:
        models[0].fit(X, y, epochs=5000, batch_size=20, optimizer=Momentum(30.0, 0.9))
    assert error.value.epoch > 1
    models[1].fit(X, y, epochs=error.value.epoch - 1, batch_size=20, optimizer=Momentum(30.0, 0.9))
    assert bits(models[0]) == bits(models[1])
    assert np.isfinite(models[0].parameters).all()


def test_a_step_that_diverges_leaves_the_running_statistics():
    model = with_batch_norm()
    X, y, _ = samples(20)
    model.partial_fit(X, y)
    model.weights[3][0, 0] = np.inf
    before = bits(model)
    with pytest.raises(fastnn.DivergenceError):
        model.partial_fit(X, y)
    assert bits(model) == before


def test_an_interrupted_fit_keeps_those_of_the_last_epoch(monkeypatch):
    X, y, _ = samples(64)
    models = [with_batch_norm() for _ in range(2)]
    train, seen = entry.train, []

    def interrupted(*arguments):
        train(*arguments)
        seen.append(1)
        if len(seen) == 14:  # an epoch has eight batches
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(calls, "FIRST_CALL", 0)
        patch.setattr(calls, "CALL_SECONDS", 0)
        patch.setattr(entry, "train", interrupted)
        with pytest.raises(KeyboardInterrupt):
            models[0].fit(X, y, epochs=5, batch_size=8, optimizer="adam")
    done = len(models[0].history.loss)
    assert done == 1
    models[1].fit(X, y, epochs=done, batch_size=8, optimizer="adam")
    assert bits(models[0]) == bits(models[1])
    for model in models:
        model.fit(X, y, epochs=2, batch_size=8, optimizer="adam")
    assert bits(models[0]) == bits(models[1])


# ---- PReLU ----


@pytest.mark.parametrize("dtype", DTYPES)
def test_slopes_of_any_sign(dtype, how):
    """What a neuron gives does not tell then which side it is on. At zero it gives zero and has the slope."""
    model = network([PReLU(), Dense(20, "identity"), PReLU(), Dense(9, "tanh")], dtype=dtype)
    r, tolerance = np.random.default_rng(4), 2000 * EPS[dtype]
    for i in (0, 2):
        model.weights[i][...] = r.normal(size=model.weights[i].shape)
        model.weights[i][:2] = 0, -1
    exact = twin_of(model)
    for n in (1, 5, 33, 300):
        X, y, rows = samples(n, dtype=dtype)
        X[::3, 1:4] = 0
        want = reference.input_gradients(exact, X.astype("f8"))
        np.testing.assert_allclose(model.input_gradients(X), want, atol=tolerance)
        V = r.normal(size=X.shape).astype(dtype)
        np.testing.assert_allclose(model.jvp(X, V), np.einsum("nij,nj->ni", want, V), atol=tolerance)
        _, want = reference.gradients(exact, X.astype("f8"), rows, "softmax_cross_entropy")
        for got, parts in zip(model.gradients(X, y), want, strict=True):
            np.testing.assert_allclose(got[0].T, parts[0] / n, atol=tolerance)
        d_a = r.normal(size=(n, 3)).astype(dtype)
        outputs, d_x, _ = reference.backward(exact, X.astype("f8"), d_a.astype("f8"))
        np.testing.assert_allclose(model.forward(X), outputs, atol=tolerance)
        _, got = model.backward(X, d_a, inputs=True)
        np.testing.assert_allclose(got, d_x, atol=tolerance)


def test_a_slope_that_is_no_number_shows(how):
    model = network([Dense(9, "identity"), PReLU(), Dense(9, "tanh")])
    X, y, _ = samples(40)
    below = model.hidden_activations(X)[0][:, 3] <= 0
    model.weights[1][3] = np.nan
    outputs = model.predict(X)
    np.testing.assert_array_equal(np.isnan(outputs), np.tile(below[:, None], 3))
    with pytest.raises(fastnn.DivergenceError):
        model.fit(X, y, epochs=1, batch_size=40)


# ---- the model ----

EVERY = [  # each kind, with its settings
    Dense(9, "identity"),
    BatchNorm(0.2, 0.01, "gelu"),
    Residual(LayerNorm(1e-3, "tanh"), Residual(Scale(), Dense(9, "silu")), activation="relu"),
    LayerNorm(),
    Scale(),
    PReLU(0.1),
]


def names_of(layers):
    """The tensors of layers, in the order of a file's numbers."""
    found = []
    for layer in layers:
        if isinstance(layer, Residual):
            found += names_of(layer.layers)
        else:
            running = ["running_mean", "running_variance"] * isinstance(layer, BatchNorm)
            found.append(["weight", *(["bias"] * (not isinstance(layer, (Scale, PReLU)))), *running])
    return found


@pytest.mark.parametrize("dtype", DTYPES)
def test_saved_and_loaded_it_goes_on_with_the_same_bits(dtype, tmp_path):
    model, path = network(EVERY, dtype=dtype), tmp_path / "model.safetensors"
    X, y, _ = samples(62, dtype=dtype)
    given = {"batch_size": 16, "optimizer": "adam", "dropout": 0.2}
    model.fit(X, y, epochs=3, **given)
    model.freeze([2])
    model.fit(X, y, epochs=2, **given)
    model.save(path)
    named = names_of([*EVERY, Dense(3)])
    with safetensors.safe_open(path, "numpy") as file:
        there = [name for name in file.keys() if name.startswith("layers")]  # noqa: SIM118
        assert sorted(there) == sorted(f"layers.{i}.{name}" for i, names in enumerate(named) for name in names)
        np.testing.assert_array_equal(file.get_tensor("layers.1.running_mean"), model.tensors[1]["running_mean"])
        assert file.get_tensor("optimizer.m.layers.3.weight").shape == (9,)
    loaded, pickled, copied = fastnn.load(path), pickle.loads(pickle.dumps(model)), copy.deepcopy(model)
    for other in (loaded, pickled, copied):
        assert other.layers == model.layers
        assert repr(other) == repr(model)
        assert other.frozen == {2}
        np.testing.assert_array_equal(other.predict(X), model.predict(X))
    model.fit(X, y, epochs=2, **given)
    for other in (loaded, pickled, copied):
        other.fit(X, y, epochs=2, **given)
        assert bits(other) == bits(model)


def softsign(z):
    return z / (1 + abs(z))


def softsign_slope(z):
    return 1 / (1 + abs(z)) ** 2


def test_a_function_of_the_users_in_a_file(tmp_path):
    soft = fastnn.Activation(softsign, softsign_slope)
    layers = [Residual(LayerNorm(activation=soft), activation=soft), Dense(4, "tanh"), BatchNorm(activation=soft)]
    model, path = network(layers), tmp_path / "model.safetensors"
    X, _, _ = samples(20)
    model.save(path)
    with pytest.raises(ValueError, match=soft.name):
        fastnn.load(path)
    loaded = fastnn.load(path, custom={soft.name: soft})
    assert loaded.layers == model.layers
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


def test_functions_of_the_users_train_in_every_kind(how, monkeypatch):
    soft = fastnn.Activation(softsign, softsign_slope)
    monkeypatch.setitem(reference.ACTIVATIONS, soft, (softsign, lambda z, a: softsign_slope(z)))
    layers = [LayerNorm(activation=soft), Residual(BatchNorm(activation=soft), Dense(6, soft), activation=soft)]
    model = network(layers)
    X, y, rows = samples(40)
    _, want = reference.gradients(twin_of(model), X, rows, "softmax_cross_entropy")
    for pair, parts in zip(model.gradients(X, y), want, strict=True):
        for got, part in zip(pair, parts, strict=True):
            np.testing.assert_allclose(got.T, part / 40, atol=1e-12)
    np.testing.assert_allclose(model.predict(X), reference.forward(twin_of(model), X)[-1], atol=1e-13)


def test_the_repr_makes_such_a_model():
    model = network(EVERY)
    again = Model([6, *model.layers], loss="cross_entropy", dtype="float64")
    assert repr(again) == repr(model)
    named = {
        name: getattr(fastnn, name)
        for name in ("Model", "Dense", "PReLU", "Residual", "Scale", "LayerNorm", "BatchNorm")
    }
    evaluated = eval(repr(model), named)
    assert evaluated.layers == model.layers
    assert (evaluated.dtype, evaluated.loss_name, evaluated.sizes) == ("float64", "cross_entropy", model.sizes)


def test_summary_and_sizes():
    model = network(EVERY)
    model.freeze([1, -1])
    assert model.sizes == (6, 9, 9, 9, 9, 9, 9, 9, 9, 3)
    trained = 6 * 9 + 9 + 9 * 2 + 9 * 2 + 9 + 9 * 9 + 9 + 9 * 2 + 9 + 9 + 9 * 3 + 3
    assert model.n_parameters == trained
    assert model.summary().splitlines() == [
        "layer  units  activation       parameters  trains",
        "    0      9  identity                 63  yes",
        "    1      9  BatchNorm, gelu          18  frozen",
        "    2      9  LayerNorm, tanh          18  yes",
        "    3      9  Scale                     9  yes",
        "    4      9  silu                     90  yes",
        "           9  Residual                  0",
        "           9  Residual, relu            0",
        "    5      9  LayerNorm                18  yes",
        "    6      9  Scale                     9  yes",
        "    7      9  PReLU                     9  yes",
        "    8      3  softmax                  30  frozen",
        "6 inputs, loss cross_entropy, float64",
        f"{trained} parameters, of which {trained - 18 - 30} train; 4.1 KiB with their padding",
    ]
    assert "Residual, relu" in model._repr_html_()


@pytest.mark.parametrize("frozen", [[0], [1], [2, 3], [4], [0, 1, 2, 3], [5, 6, 8], [7], [0, 2, 4, 6]])
def test_frozen_layers_stay(frozen, how):
    """Whatever kind they are of; the others have the gradients of the network where all train."""
    model, free = network(EVERY), network(EVERY)
    model.freeze(frozen)
    X, y, _ = samples(62)
    before = [{name: tensor.copy() for name, tensor in tensors.items()} for tensors in model.tensors]
    if 1 not in frozen:
        for i, (pair, want) in enumerate(zip(model.gradients(X, y), free.gradients(X, y), strict=True)):
            for got, each in zip(pair, want, strict=True):
                np.testing.assert_allclose(got, 0 * each if i in frozen else each, atol=1e-14)
    model.fit(X, y, epochs=2, batch_size=16, optimizer="adam", l2=0.1, max_norm=0.5)
    for i, (tensors, kept) in enumerate(zip(model.tensors, before, strict=True)):
        for name, tensor in tensors.items():
            assert np.array_equal(tensor, kept[name]) == (i in frozen), (i, name)


def test_frozen_below_a_residual_that_begins_at_the_inputs(how):
    """Nothing below the lowest layer that trains needs a delta, but the sum passes one to what is above it."""
    layers = [Residual(Dense(6, "tanh")), Residual(Dense(5, "tanh"), Dense(6, "tanh")), Dense(4, "tanh")]
    X, y, _ = samples(40)
    want = network(layers).gradients(X, y)
    for frozen in ([0], [1], [0, 1], [0, 2], [1, 2], [0, 1, 2]):
        model = network(layers)
        model.freeze(frozen)
        for i, (pair, wanted) in enumerate(zip(model.gradients(X, y), want, strict=True)):
            for got, each in zip(pair, wanted, strict=True):
                np.testing.assert_allclose(got, 0 * each if i in frozen else each, atol=1e-14)


def test_another_head():
    model = network(EVERY)
    model.freeze([1, 8])
    X, _, _ = samples(20)
    before, tensors = model.hidden_activations(X), [dict(each) for each in model.tensors]
    model.replace_head(5, rng=3)
    assert model.sizes == (6, 9, 9, 9, 9, 9, 9, 9, 9, 5)
    assert model.frozen == {1}
    for kept, now in zip(tensors[:-1], model.tensors, strict=False):
        assert all(np.array_equal(kept[name], now[name]) for name in kept)
    for a, b in zip(before, model.hidden_activations(X), strict=True):
        np.testing.assert_array_equal(a, b)
    model.fit(X, np.arange(20) % 5, epochs=2, batch_size=10)
    assert np.isfinite(model.history.loss).all()


def test_hidden_activations_have_the_sums():
    model = network([Dense(5, "tanh"), Residual(Dense(5, "tanh"), Scale(), activation="relu")])
    X, _, _ = samples(20)
    first, inner, scaled, summed = model.hidden_activations(X)
    np.testing.assert_allclose(scaled, inner * model.weights[2], atol=1e-15)
    np.testing.assert_array_equal(summed, np.maximum(first + scaled, 0))


@pytest.mark.parametrize("name", ["residual of the inputs", "layer norm", "batch norm", "scale", "prelu", "all"])
def test_samples_of_all_kinds(name):
    """Bytes with a scale, sparse rows, float32 in a float64 model, a stream: the bits of the same numbers."""
    r = np.random.default_rng(0)
    X, y = r.integers(0, 4, (64, 6)).astype(np.uint8), r.integers(0, 3, 64)
    given = {"epochs": 2, "batch_size": 16, "shuffle": False, "optimizer": "adam"}

    def trained(X, y=y, **options):
        model = network(NETS[name], input_scale=0.25, **options)
        model.fit(*((X,) if y is None else (X, y)), **given)
        return model

    plain = trained(X.astype("f8"))
    others = {
        "bytes": trained(X),
        "float32": trained(X.astype("f4")),
        "sparse": trained(scipy.sparse.csr_matrix(X.astype("f8"))),
        "stream": trained(Stream([(X[:30], y[:30]), (X[30:], y[30:])]), None),
    }
    for kind, model in others.items():
        assert bits(model) == bits(plain), kind
    outputs = plain.predict(X.astype("f8"))
    for same_numbers in (X, X.astype("f4"), scipy.sparse.csr_matrix(X.astype("f8"))):
        np.testing.assert_array_equal(plain.predict(same_numbers), outputs)
    unscaled = network(NETS[name])
    unscaled.parameters[...] = plain.parameters
    np.testing.assert_allclose(unscaled.predict(X / 4), outputs, atol=1e-13)
    np.testing.assert_allclose(plain.input_gradients(X), unscaled.input_gradients(X / 4) / 4, atol=1e-13)


def test_a_batch_of_no_weight_changes_no_running_statistics():
    X, y, _ = samples(48)
    weights = np.repeat([1.0, 0.0, 1.0], 16)
    models = [with_batch_norm() for _ in range(2)]
    models[0].fit(X, y, epochs=1, batch_size=16, sample_weight=weights, shuffle=False)
    models[1].fit(X[weights > 0], y[weights > 0], epochs=1, batch_size=16, shuffle=False)
    np.testing.assert_allclose(models[0].parameters, models[1].parameters, atol=1e-15)


def test_initial_parameters():
    """Names draw the weights of dense layers, as in a network without the other kinds."""
    plain = Model([6, Dense(9, "tanh"), 3], init="normal", rng=5)
    model = Model([6, Scale(), Dense(9, "tanh"), BatchNorm(), LayerNorm(), PReLU(-0.5), 3], init="normal", rng=5)
    for i, j in ((0, 1), (1, 5)):
        np.testing.assert_array_equal(model.weights[j], plain.weights[i])
        np.testing.assert_array_equal(model.biases[j], plain.biases[i])
    for i in (0, 2, 3):
        for name, tensor in model.tensors[i].items():
            assert (tensor == (1 if name in ("weight", "running_variance") else 0)).all()
    assert (model.weights[4] == -0.5).all()
    pair = np.full(9, 2.0), np.full(9, 3.0)
    given = [(np.arange(6), []), "zeros", pair, "scaled", "scaled"]
    model = Model([6, Scale(), Dense(9, "tanh"), BatchNorm(), LayerNorm(), 3], init=given, rng=5)
    np.testing.assert_array_equal(model.weights[0], np.arange(6))
    assert (model.weights[2] == 2).all()
    assert (model.biases[2] == 3).all()
    assert not model.tensors[2]["running_mean"].any()
    with pytest.raises(ValueError, match=r"init\[2\]\[0\] must have shape"):
        Model([6, Scale(), Dense(9, "tanh"), BatchNorm(), 3], init=["zeros", "zeros", ([1], [1]), "zeros"])


ERRORS = {
    "unequal widths": (lambda: Model([6, Residual(Dense(5)), 1]), ValueError, "got 5 neurons after 6"),
    "unequal inside": (
        lambda: Model([6, Residual(Dense(5), Residual(Dense(4)), Dense(6)), 1]),
        ValueError,
        "got 4 neurons after 5",
    ),
    "empty": (lambda: Residual(), ValueError, "Residual must have at least one layer"),
    "a number": (lambda: Residual(Dense(5), 6), TypeError, r"Residual's layers\[1\] must be a layer"),
    "a class": (lambda: Model([6, Scale, 1]), TypeError, "must be an integer"),
    "a list": (lambda: Residual([Dense(5)]), TypeError, r"layers\[0\] must be a layer"),
    "last": (lambda: Model([6, Dense(3), Scale()]), ValueError, r"the last layer must be Dense, got Scale\(\)"),
    "only": (lambda: Model([6, Residual(Dense(6))]), ValueError, "the last layer must be Dense"),
    "first": (lambda: Model([Scale(), 6, 1]), TypeError, r"sizes\[0\] must be the number of inputs"),
    "softmax inside": (
        lambda: Model([6, Residual(Dense(6, "softmax")), 2], loss="cross_entropy", output="softmax"),
        ValueError,
        '"softmax" is an activation of the last layer only',
    ),
    "softmax of a sum": (lambda: Residual(Dense(6), activation="softmax"), ValueError, "activation must be one of"),
    "softmax of a norm": (lambda: LayerNorm(activation="softmax"), ValueError, "activation must be one of"),
    "slope NaN": (lambda: PReLU(np.nan), ValueError, "init must be a finite number, got nan"),
    "slope infinite": (lambda: PReLU(-np.inf), ValueError, "init must be a finite number, got -inf"),
    "slope a string": (lambda: PReLU("zeros"), TypeError, "init must be a number, got 'zeros'"),
    "slope for float32": (
        lambda: Model([6, Residual(PReLU(1e39)), 1]),
        ValueError,
        r"init of PReLU must be a finite number in float32, got 1e\+39",
    ),
    "slopes last": (lambda: Model([6, Dense(3), PReLU()]), ValueError, r"the last layer must be Dense, got PReLU\(ini"),
    "epsilon zero": (lambda: LayerNorm(0.0), ValueError, "epsilon must be"),
    "epsilon NaN": (lambda: BatchNorm(epsilon=np.nan), ValueError, "epsilon must be"),
    "epsilon a string": (lambda: LayerNorm("tanh"), TypeError, "epsilon must be"),
    "momentum": (lambda: BatchNorm(1.5), ValueError, r"momentum must be in \[0, 1\], got 1.5"),
    "momentum below": (lambda: BatchNorm(-0.1), ValueError, "momentum must be"),
    "step": (
        lambda: Model([6, LayerNorm(activation="step"), 1]).fit(*samples(9)[:2], epochs=1, batch_size=3),
        ValueError,
        "a step neuron's output does not change",
    ),
    "dropout": (
        lambda: Model([6, Scale(), 5, 3]).fit(*samples(9)[:2], epochs=1, batch_size=3, dropout=[0.1, 0.2]),
        ValueError,
        "dropout must",
    ),
    "frozen": (lambda: Model([6, Residual(Dense(6)), 1]).freeze(2), ValueError, r"indices in \[-2, 2\)"),
    "init": (lambda: Model([6, Residual(Dense(6)), 1], init=["zeros"]), ValueError, "each of 2 layers"),
}


@pytest.mark.parametrize("call", ERRORS)
def test_errors_say_what_is_wrong(call):
    function, kind, words = ERRORS[call]
    with pytest.raises(kind, match=words):
        function()


def test_an_epsilon_that_is_no_normal_number_in_float32():
    """Where the variance is zero, its root would have no inverse."""
    for epsilon, layer in itertools.product((1e-60, 1e-40, 1e60), (LayerNorm, BatchNorm)):
        with pytest.raises(ValueError, match=re.escape(f"number in float32, got {epsilon!r}")):
            Model([6, Residual(layer(epsilon=epsilon)), 1], dtype="float32")
    assert Model([6, LayerNorm(1e-60), 1], dtype="float64").layers[0].epsilon == 1e-60


def test_constant_features_and_samples(how):
    """Whose variance is zero."""
    for layer in (LayerNorm(), BatchNorm()):
        model = network([layer, Dense(5, "tanh")])
        X, y = np.ones((40, 6)) * 3, np.arange(40) % 3
        np.testing.assert_allclose(model.gradients(X, y)[0][0], 0, atol=1e-12)
        model.fit(X, y, epochs=3, batch_size=20)
        assert np.isfinite(model.parameters).all()


def test_nan_stays_in_its_row():
    X, _, _ = samples(40)
    X[7, 2] = np.nan
    for name in NETS:
        outputs = network(NETS[name]).predict(X)
        assert np.isnan(outputs[7]).any(), name
        assert np.isfinite(np.delete(outputs, 7, axis=0)).all(), name


@pytest.mark.parametrize("activation", ["exp", "softplus", "elu"])
def test_activations_whose_value_at_zero_is_not(activation, how):
    """What lies behind the neurons must not grow from batch to batch, on CPUs whose lines hold several vectors too."""
    model = network([LayerNorm(activation=activation), Scale(), Dense(7, "tanh")])
    X, y, rows = samples(40)
    exact = twin_of(model)
    order = np.tile(np.arange(40), (20, 1))
    losses, want = reference.train(exact, X, rows, order, 8, 0.01, loss_name="softmax_cross_entropy")
    history = model.fit(X, y, epochs=20, batch_size=8, optimizer=SGD(0.01), shuffle=False)
    np.testing.assert_allclose(history.loss, losses, rtol=1e-9)
    same(model, want, 1e-9)


def test_a_network_without_them_writes_what_it_did():
    """Each operation of a dense network's programs is one that a dense network needs."""
    layout = Model([6, 9, 3])._network.layout
    assert layout.only_multiplied
    assert not layout.whole_batch
    assert all(not layer.kind.buffers for layer in layout.layers)
