"""Residual, Scale, LayerNorm and BatchNorm in whole networks: against the reference and by central differences."""

from dataclasses import replace

import numpy as np
import pytest

from fastnn import SGD, Adam, BatchNorm, Dense, LayerNorm, Model, Momentum, Residual, RMSprop, Scale
from fastnn.kernels import reference, strategy
from fastnn.kernels.block_programs import Rules
from fastnn.kernels.target import LINE_BYTES

from .kernel_calls import DTYPES, EPS, HOW, choose, twin_of

# Each kind alone, as the first layer and in the middle; then some together.
NETS = {
    "residual": [Dense(8, "tanh"), Residual(Dense(5, "sigmoid"), Dense(8, "tanh"))],
    "residual of the inputs": [Residual(Dense(5, "gelu"), Dense(6, "identity"), activation="softplus")],
    "nested": [Dense(9, "tanh"), Residual(Residual(Dense(9, "gelu")), Dense(9, "tanh"), activation="silu")],
    "nested at once": [Residual(Residual(Residual(Dense(6, "tanh"))), Dense(6, "gelu")), Dense(20, "tanh")],
    "scale": [Scale(), Dense(17, "tanh"), Scale()],
    "layer norm": [LayerNorm(), Dense(17, "identity"), LayerNorm(0.1, "gelu")],
    "batch norm": [BatchNorm(), Dense(17, "identity"), BatchNorm(0.3, 0.1, "tanh")],
    "norms in a residual": [Residual(LayerNorm(), Scale(), Dense(20, "tanh"), Dense(6, "identity")), LayerNorm()],
    "all": [
        Dense(9, "identity"),
        BatchNorm(activation="softplus"),
        Residual(LayerNorm(), Dense(33, "sigmoid"), Residual(Scale(), BatchNorm()), Dense(9, "identity")),
        Scale(),
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
def how(request, monkeypatch):
    """Batches are computed in one of the orientations, and predictions too."""
    choose(request.param, monkeypatch)
    turned = request.param == "feature-major"

    def predicts(layout, rows):
        return turned and rows * layout.itemsize >= 2 * LINE_BYTES and all(kind.ordered for kind in layout.kinds)

    monkeypatch.setattr(strategy, "predicts_feature_major", predicts)
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


@pytest.mark.parametrize("name", ["nested", "all", "layer norm"])
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
    "noise": ({"input_noise": 0.3}, {"rules": Rules(input_noise=0.3)}),
    "smoothing": ({"label_smoothing": 0.1}, {"rules": Rules(label_smoothing=0.1)}),
    "norms": ({"max_norm": 0.7}, {"rules": Rules(max_norm=0.7)}),
    "clipped norm": ({"clip_norm": 0.1}, {"rules": Rules(clip_norm=0.1)}),
    "clipped values": ({"clip_value": 0.01}, {"rules": Rules(clip_value=0.01)}),
    "derivatives": ({"min_derivative": 0.3}, {"rules": Rules(min_derivative=0.3)}),
    "l2": ({"l2": 0.1}, {"l2": (0.1, 0.0)}),
    "l1": ({"l1": 0.05}, {"l1": (0.05, 0.0)}),
    "weights": ({"sample_weight": True}, {}),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("name", "optimizer"), [("all", "sgd"), ("nested", "adam"), ("norms in a residual", "sgd")])
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
        given["rules"] = Rules(dropout=(*rates, 0.0))
    if rule.startswith("clipped"):
        chosen = replace(chosen, **options)
        options = {}
    given |= {"optimizer": optimizer, "seed": model._network.noise, "loss_name": "softmax_cross_entropy"}
    losses, want = reference.train(twin_of(model), X, rows, order, batch_size, *settings, **given)
    history = model.fit(X, y, epochs=2, batch_size=batch_size, optimizer=chosen, shuffle=order, **options)
    np.testing.assert_allclose(history.loss, losses, rtol=1e-8)
    same(model, want, 1e-6 if rule == "noise" else 1e-9)  # normal numbers come from an approximation
