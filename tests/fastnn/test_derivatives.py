"""Gradients from outside, steps on them, the flat vector, and derivatives by the inputs."""

import copy
import threading

import numpy as np
import pandas
import pytest
import scipy.sparse

from fastnn import (
    SGD,
    Activation,
    Adam,
    BatchNorm,
    CosineDecay,
    Dense,
    DivergenceError,
    ExponentialDecay,
    LayerNorm,
    Model,
    PReLU,
    Residual,
    Scale,
)
from fastnn.checks import calls
from fastnn.kernels import reference
from fastnn.kernels.running import entry
from fastnn.network import curvature
from fastnn.training import tape

from .. import cases
from ..cases import DTYPES, EPS
from ..kernels.kernel_calls import twin_of
from .test_layer_kinds import NETS, WITHOUT_BATCHES, network, padding_is_zero

HOW = ["row-major", "feature-major"]
rng = np.random.default_rng(0)


def flat(gradients):
    """Pairs (dW, db) as one vector."""
    return np.concatenate([part.ravel() for pair in gradients for part in pair])


def trained(model):
    """Which elements of the model's vector are no running statistics."""
    named = (item for tensors in model.tensors for item in tensors.items())
    return np.concatenate([np.full(tensor.size, not name.startswith("running")) for name, tensor in named])


def tanh_model(dtype="float32", sizes=(5, 9, 8, 3), **options):
    return Model(list(sizes), activation="tanh", output="identity", dtype=dtype, rng=1, **options)


def problem(n, dtype="float32", n_in=5, n_out=3):
    return rng.normal(size=(n, n_in)).astype(dtype), rng.normal(size=(n, n_out)).astype(dtype)


# ---- backward ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("how", ["", *HOW])
@pytest.mark.parametrize("name", ["dense", *NETS])
def test_backward_of_the_quadratic_cost_gives_the_bits_of_gradients(name, how, dtype, orientation):
    """A single row, a few, a sum of heights, several shards, several blocks; with and without a `forward` before."""
    orientation(how)
    layers = NETS.get(name, [Dense(70, "relu"), Dense(9, "silu")])
    model = network(layers, loss="quadratic", dtype=dtype, input_scale=0.7)
    block, keep = model._network.layout.block_rows, trained(model)
    batches = name in NETS and name not in WITHOUT_BATCHES
    for n in (2, 33, block) if batches else (1, 2, 33, 64, 300, 2 * block + 1):
        X, y = rng.normal(size=(n, 6)).astype(dtype), rng.uniform(-1, 1, (n, 3)).astype(dtype)
        want = flat(model.gradients(X, y))
        for _ in range(2):
            outputs = model.forward(X)
            d_a = (outputs - y) * np.dtype(dtype).type(1 / n)
            gradient = model.backward(X, d_a)
            assert gradient[keep].tobytes() == want.tobytes()
            assert not gradient[~keep].any()
            np.testing.assert_array_equal(model.backward(X, d_a, inputs=True)[0], gradient)
        np.testing.assert_array_equal(copy.deepcopy(model).backward(X, d_a), gradient)
        if not batches:
            np.testing.assert_allclose(outputs, model.predict(X), atol=2000 * EPS[dtype])


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("output", [*cases.ACTIVATIONS, "softmax"])
@pytest.mark.parametrize("hidden", cases.ACTIVATIONS)
def test_both_gradients_equal_the_reference(hidden, output, how, orientation):
    """By the outputs as the user sees them, of a softmax too; the loss of the model plays no part."""
    orientation(how)
    options = {"output": output, "loss": "cross_entropy" if output == "softmax" else "quadratic"}
    model = Model([4, 9, 6, 3], activation=hidden, dtype="float64", input_scale=0.5, rng=2, **options)
    for b in model.biases:
        b[...] = rng.uniform(0.2, 0.8, b.shape)
    for n in (1, 6, 40, 300):
        X, d_a = rng.normal(size=(n, 4)), rng.normal(size=(n, 3))
        outputs, d_x, gradients = reference.backward(twin_of(model), 0.5 * X, d_a)
        np.testing.assert_allclose(model.forward(X), outputs, rtol=1e-12, atol=1e-13)
        got = model.backward(X, d_a, inputs=True)
        if "step" in (hidden, output):
            with pytest.raises(ValueError, match="cannot train"):
                model.backward(X, d_a)
        else:
            np.testing.assert_array_equal(model.backward(X, d_a), got[0])
        size = max(1, np.abs(flat(gradients)).max())
        np.testing.assert_allclose(got[0], flat([(dw.T, db) for dw, db in gradients]), atol=1e-12 * size)
        np.testing.assert_allclose(got[1], 0.5 * d_x, atol=1e-12 * size)


@pytest.mark.parametrize("name", WITHOUT_BATCHES)
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("n", [1, 40, 300])
def test_gradients_by_the_inputs_of_kinds_of_layers_equal_the_reference(name, how, n, orientation):
    orientation(how)
    model = network(NETS[name])
    X, d_a = rng.normal(size=(n, 6)), rng.normal(size=(n, 3))
    want = reference.backward(twin_of(model), X, d_a)[1]
    for _ in range(2):  # at first without the activations of a `forward`
        np.testing.assert_allclose(model.backward(X, d_a, inputs=True)[1], want, atol=1e-11)
        model.forward(X)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("n", [40, 100, 600])
def test_dropout_is_drawn_once_and_the_same_in_backward(n, how, orientation):
    """In one block, in a sum of blocks and in several; also where parameters have changed since."""
    orientation(how)
    model, rates = tanh_model("float64"), (0.3, 0.5)
    X, d_a = problem(n, "float64")
    plain = model.forward(X)
    noise = model._network.noise
    for turn in range(3):
        outputs = model.forward(X, dropout=rates)
        key, noise = reference.split_mix(noise)
        assert model._network.noise == noise
        layers = enumerate(zip((9, 8), rates, strict=True), 1)
        factors = [reference.dropout_factors(key, i, 0, n, width, rate) for i, (width, rate) in layers]
        factors.append(np.ones((n, 3)))
        want = reference.backward(twin_of(model), X, d_a, factors)
        np.testing.assert_allclose(outputs, want[0], atol=1e-12)
        assert np.abs(outputs - plain).max() > 0.1
        if turn == 1:
            model.weights[0][...] *= 0.9
            want = reference.backward(twin_of(model), X, d_a, factors)
        for inputs in (False, True):
            found = model.backward(X.copy(), d_a, inputs=inputs)
            gradient = found[0] if inputs else found
            np.testing.assert_allclose(gradient, flat([(dw.T, db) for dw, db in want[2]]), atol=1e-11)
        np.testing.assert_allclose(found[1], want[1], atol=1e-12)
        model.step(X, d_a, optimizer=SGD(0.1))
        twin = twin_of(model)
        X_other = X + 1  # no forward had these
        want = reference.backward(twin, X_other, d_a)
        np.testing.assert_allclose(model.backward(X_other, d_a, inputs=True)[1], want[1], atol=1e-12)
    np.testing.assert_array_equal(model.forward(X), model.predict(X))
    assert model._network.noise == noise  # without dropout nothing is drawn


def test_a_step_after_a_forward_with_dropout_drops_the_same():
    model = tanh_model("float64")
    X, d_a = problem(64, "float64")
    for _ in range(3):
        model.forward(X, dropout=0.5)
        gradient, before = model.backward(X, d_a), model.vector
        model.step(X, d_a, optimizer=SGD(0.01))
        np.testing.assert_allclose(model.vector, before - 0.01 * gradient, atol=1e-15)


CHANGES = {
    "nothing": lambda model, X: None,
    "the samples": lambda model, X: X.__setitem__((3, 2), 9.0),
    "a sample's sign of zero": lambda model, X: X.__setitem__((3, 2), -0.0),
    "a weight": lambda model, X: model.weights[1].__setitem__((0, 0), 9.0),
    "the vector": lambda model, X: setattr(model, "vector", 2 * model.vector),
    "a blend": lambda model, X: model.blend(tanh_model(sizes=(5, 9, 8, 3)), 0.5) or model.weights[0].fill(0.1),
    "a step": lambda model, X: model.step(X, np.ones((len(X), 3), np.float32), optimizer=SGD(0.1)),
    "another forward": lambda model, X: model.forward(X + 1),
    "a forward of fewer rows": lambda model, X: model.forward(X[:20]),
    "another backward": lambda model, X: model.backward(X + 1, np.ones((len(X), 3), np.float32)),
    "a forward of bytes": lambda model, X: model.forward(np.ones((len(X), 5), np.uint8)),
    "a fit": lambda model, X: model.fit(X, np.ones((len(X), 3)), epochs=1, batch_size=16),
    "a prediction": lambda model, X: model.predict(X + 1),
}


@pytest.mark.parametrize("n", [1, 7, 64, 300])
@pytest.mark.parametrize("change", CHANGES)
def test_activations_serve_again_only_where_they_are_the_same(change, n):
    model = tanh_model()
    X, d_a = problem(max(n, 64))
    X[3, 2] = 0.0
    X, d_a = X[-n:].copy() if n < 4 else X[:n].copy(), d_a[:n].copy()
    model.forward(X)
    if not (n < 4 and "sample" in change):
        CHANGES[change](model, X)
    fresh = tanh_model()
    fresh.parameters[...] = model.parameters
    want = fresh.backward(X.copy(), d_a, inputs=True)
    for got, expected in zip(model.backward(X, d_a, inputs=True), want, strict=True):
        assert got.tobytes() == expected.tobytes()
    model.step(X, d_a, optimizer="adam")
    fresh.step(X, d_a, optimizer="adam")
    assert model.vector.tobytes() == fresh.vector.tobytes()


def test_the_activations_of_forward_serve_backward(monkeypatch):
    """What is in the buffers is taken: a change of them that nobody can make shows it."""
    model = tanh_model()
    X, d_a = problem(64)
    model.forward(X)
    want = model.backward(X, d_a)
    used = model._network.tapes.latest
    assert used.work.step["held"] == 64
    for buffer in used.work._buffers:
        buffer *= 0.5
    assert np.abs(model.backward(X, d_a) - want).max() > 1e-3


@pytest.mark.parametrize("dtype", DTYPES)
def test_x_of_any_kind(dtype):
    model = tanh_model(dtype, input_scale=1 / 64)
    whole = rng.integers(0, 200, (50, 5)) * (rng.random((50, 5)) < 0.6)
    d_a = rng.normal(size=(50, 3))
    outputs, (gradient, d_x) = model.forward(whole.astype(dtype)), model.backward(whole.astype(dtype), d_a, inputs=True)
    kinds = np.uint8, np.int64, np.float16, np.float32, np.float64, object
    forms = [whole.astype(kind) for kind in kinds]
    forms += [np.asfortranarray(whole), whole.tolist(), scipy.sparse.csr_array(whole), pandas.DataFrame(whole)]
    for X in forms:
        tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype == "float32" else {"rtol": 1e-12, "atol": 1e-14}
        for _ in range(2):
            np.testing.assert_allclose(model.forward(X), outputs, **tolerance)
            got = model.backward(X, d_a.tolist(), inputs=True)
            np.testing.assert_allclose(got[0], gradient, rtol=1e-4, atol=tolerance["atol"])
            np.testing.assert_allclose(got[1], d_x, **tolerance)
        other = copy.deepcopy(model)
        for _ in range(3):
            other.step(X, d_a, optimizer=SGD(0.01))
        assert np.isfinite(other.vector).all()
    read_only = whole.astype(dtype)
    read_only.flags.writeable = False
    np.testing.assert_array_equal(model.backward(read_only, d_a), gradient)


def test_nan_in_x_gives_nan_out_of_forward_and_an_error_of_backward():
    model = tanh_model()
    X, d_a = problem(64)
    model.forward(X)
    X[5, 1] = np.nan
    outputs = model.forward(X)
    assert np.isnan(outputs[5]).all()
    assert np.isfinite(np.delete(outputs, 5, 0)).all()
    with pytest.raises(ValueError, match=r"X must be finite in float32, got X\[5, 1\] = nan"):
        model.backward(X, d_a)
    X[5, 1], d_a[2, 0] = 0, np.inf
    with pytest.raises(ValueError, match=r"dA must be finite in float32, got dA\[2, 0\] = inf"):
        model.backward(X, d_a)
    d_a[2, 0] = 0
    np.testing.assert_array_equal(model.backward(X, d_a), tanh_model().backward(X, d_a))


def test_the_gradient_of_a_frozen_layer_is_zero():
    model = tanh_model()
    X, d_a = problem(64)
    whole, d_x = model.backward(X, d_a, inputs=True)
    model.freeze([0, 2])
    gradient, again = model.backward(X, d_a, inputs=True)
    assert gradient[54:134].tobytes() == whole[54:134].tobytes()
    assert not gradient[:54].any()
    assert not gradient[134:].any()
    assert again.tobytes() == d_x.tobytes()
    model.freeze([0, 1, 2])
    np.testing.assert_array_equal(model.backward(X, d_a, inputs=True)[1], d_x)
    before = model.vector
    model.step(X, d_a)
    np.testing.assert_array_equal(model.vector, before)


# ---- step ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("how", ["", *HOW])
@pytest.mark.parametrize("name", cases.OPTIMIZERS)
def test_steps_on_the_quadratic_cost_are_those_of_partial_fit(name, how, dtype, orientation):
    """As many rows as a power of two, so that the division by their number changes no bit; then any number."""
    orientation(how)
    optimizer = cases.OPTIMIZERS[name]
    stepped, other = tanh_model(dtype), tanh_model(dtype)
    for n in (64, 64, 64, 16, 8, 1, 64, 128):
        X, y = problem(n, dtype)
        outputs = stepped.forward(X) if n != 16 else stepped.predict(X)
        stepped.step(X, (outputs - y) * np.dtype(dtype).type(1 / n), optimizer=optimizer)
        other.partial_fit(X, y, optimizer=optimizer)
        np.testing.assert_allclose(stepped.vector, other.vector, rtol=200 * EPS[dtype], atol=20 * EPS[dtype])
    padding_is_zero(stepped._network, stepped.parameters)
    assert stepped._network.optimizer == other._network.optimizer


@pytest.mark.parametrize("rule", [{"clip_norm": 0.01}, {"clip_value": 0.003}])
@pytest.mark.parametrize("n", [1, 40, 100, 700])
def test_a_step_clips(rule, n):
    model, X, d_a = tanh_model("float64"), *problem(n, "float64")
    for _ in range(3):
        gradient, before = model.backward(X, d_a), model.vector
        model.step(X, d_a, optimizer=SGD(0.5, **rule))
        norm = np.linalg.norm(gradient) + 1e-6
        clipped = np.clip(gradient, -0.003, 0.003) if "clip_value" in rule else gradient * 0.01 / norm
        np.testing.assert_allclose(model.vector, before - 0.5 * clipped, atol=1e-13)


@pytest.mark.parametrize("rate", [ExponentialDecay(0.1, 0.5), CosineDecay(0.1, 4, per="step"), 0.1])
def test_rates_optimizers_and_long_steps(rate, monkeypatch):
    """By a schedule each step counts as an epoch, as one of `partial_fit` does; long steps are cut."""
    X, d_a = problem(600, "float64")
    model, long = tanh_model("float64"), tanh_model("float64")
    rates = [rate] * 4 if rate == 0.1 else rate.rates(0, 4)
    called = []
    for each in rates:
        gradient, before = model.backward(X, d_a), model.vector
        model.step(X, d_a, optimizer=SGD(rate))
        np.testing.assert_allclose(model.vector, before - each * gradient, atol=1e-12)
        with monkeypatch.context() as patch:
            patch.setattr(calls, "FIRST_SWEEP", 0)
            patch.setattr(calls, "CALL_SECONDS", 0)
            patch.setattr(entry, "outside_step", lambda *a, f=entry.outside_step: (called.append(a), f(*a))[1])
            long._network.tapes.idle.clear()
            long.step(X, d_a, optimizer=SGD(rate))
        np.testing.assert_array_equal(long.vector, model.vector)
    assert len(called) == 4 * -(-600 // model._network.layout.block_rows) > 4
    model.step(X, d_a, optimizer=Adam(0.01))
    fresh = tanh_model("float64")
    fresh.vector = long.vector
    fresh.step(X, d_a, optimizer=Adam(0.01))
    np.testing.assert_array_equal(model.vector, fresh.vector)


def test_steps_and_fits_by_an_equal_optimizer_go_on_from_one_state():
    X, y = problem(64)
    models = [tanh_model() for _ in range(2)]
    for kind in ("step", "partial_fit", "fit", "step", "step", "fit", "partial_fit"):
        for model, how in zip(models, (kind, "partial_fit"), strict=True):
            if how == "step":
                model.step(X, (model.forward(X) - y) / 64, optimizer=Adam(0.01))
            elif how == "fit":
                model.fit(X, y, epochs=1, batch_size=64, optimizer=Adam(0.01), shuffle=False)
            else:
                model.partial_fit(X, y, optimizer=Adam(0.01))
        np.testing.assert_allclose(models[0].vector, models[1].vector, atol=1e-6)
    loaded = copy.deepcopy(models[0])
    for model in (models[0], loaded):
        model.step(X, y / 64, optimizer=Adam(0.01))
    assert loaded.vector.tobytes() == models[0].vector.tobytes()


@pytest.mark.parametrize("before", [0, 3])
@pytest.mark.parametrize("bad", ["outputs", "parameters"])
def test_a_step_that_is_not_finite_changes_nothing(bad, before, state):
    model, X, d_a = tanh_model(), *problem(64)
    optimizer = Adam(0.01) if bad == "outputs" else SGD(1e30)
    for _ in range(before):
        model.step(X, d_a * 1e-30, optimizer=optimizer)
    if bad == "outputs":
        model.weights[2][...] = 3e38
    kept = state(model)
    for _ in range(2):
        with pytest.raises(DivergenceError, match="training diverged in this step"):
            model.step(X, d_a if bad == "outputs" else d_a * 3e37, optimizer=optimizer)
        assert state(model) == kept
    model.weights[2][...] = 0.1
    twin = copy.deepcopy(model)
    for each in (model, twin):
        each.step(X, d_a * 1e-30, optimizer=optimizer)
    assert model.vector.tobytes() == twin.vector.tobytes()


def test_running_statistics_follow_a_step_and_no_backward():
    layers = [5, Dense(9, "tanh"), BatchNorm(), Dense(3, "identity")]
    stepped, other = (Model(layers, dtype="float64", rng=3) for _ in range(2))
    X, y = problem(32, "float64")
    for _ in range(4):
        before = stepped.vector
        outputs = stepped.forward(X)
        stepped.backward(X, outputs, inputs=True)
        assert stepped.vector.tobytes() == before.tobytes()
        stepped.step(X, (outputs - y) / 32, optimizer=Adam(0.01))
        other.partial_fit(X, y, optimizer=Adam(0.01))
        np.testing.assert_allclose(stepped.vector, other.vector, atol=1e-13)
    with pytest.raises(ValueError, match="X must have 2 to"):
        stepped.forward(X[:1])


# ---- errors ----


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda m: m.forward([[1, 2]]), ValueError, r"X must have shape \(n, 5\), got \(1, 2\)"),
        (lambda m: m.forward(np.ones((2, 5)), dropout=1.5), ValueError, "dropout must be a finite number at least 0"),
        (lambda m: m.forward(np.ones((2, 5)), dropout=[0.1]), ValueError, "dropout must be a number, or one a hidden"),
        (lambda m: m.forward(np.ones((0, 5))), ValueError, "X must hold at least one sample"),
        (
            lambda m: m.backward(np.ones((2, 5)), np.ones((3, 3))),
            ValueError,
            r"dA must have shape \(2, 3\), got \(3, 3",
        ),
        (lambda m: m.backward(np.ones((2, 5)), np.ones(2)), ValueError, r"dA must have shape \(2, 3\), got \(2,\)"),
        (lambda m: m.backward(np.ones((2, 5)), np.ones((2, 3)), inputs=1), TypeError, "inputs must be True or False"),
        (lambda m: m.step(np.ones((2, 5)), np.ones((2, 2))), ValueError, r"dA must have shape \(2, 3\), got \(2, 2\)"),
        (lambda m: m.step(np.ones((2, 5)), np.ones((2, 3)), optimizer="lbfgs"), ValueError, "optimizer must be one of"),
        (lambda m: m.step(np.ones((2, 5)), [["a"] * 3] * 2), TypeError, "dA must hold numbers"),
        (lambda m: setattr(m, "vector", np.ones(5)), ValueError, r"vector must have shape \(161,\), got \(5,\)"),
        (lambda m: setattr(m, "vector", np.full(161, np.nan)), ValueError, "vector must be finite in float32, got vec"),
        (lambda m: m.blend(3, 0.5), TypeError, "other must be a Model, got 3"),
        (lambda m: m.blend(tanh_model("float64"), 0.5), ValueError, r"other must have the layers and dtype of Model\("),
        (lambda m: m.blend(Model([5, 9, 8, 3]), 0.5), ValueError, r"other must have the layers and dtype of Model\("),
        (lambda m: m.blend(m, 1.5), ValueError, "tau must be a finite number at least 0"),
        (lambda m: m.hessian(np.ones((2, 5)), output=3), ValueError, "output must be at most 2, got 3"),
        (lambda m: m.hessian(np.ones((2, 5)), diagonal=0), TypeError, "diagonal must be True or False"),
        (lambda m: m.jvp(np.ones((2, 5)), np.ones((1, 5))), ValueError, r"V must have shape \(2, 5\), got \(1, 5\)"),
        (lambda m: m.jvp(np.ones((1, 5)), [[np.nan] * 5]), ValueError, r"V must be finite in float32"),
    ],
)
def test_errors_name_the_argument_and_change_nothing(call, error, text, state):
    model = tanh_model()
    model.step(*problem(8))
    kept = state(model)
    with pytest.raises(error, match=text):
        call(model)
    assert state(model) == kept


@pytest.mark.parametrize("shape", [(), (5,), (8, 4), (8, 5, 1), (0, 5)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_other_shapes_after_a_right_one(shape, dtype):
    """The quick way of calls like the last ones takes none of these."""
    model, (X, d_a) = tanh_model(), problem(8)
    for _ in range(2):
        model.forward(X)
        model.backward(X, d_a)
        model.step(X, d_a)
    wrong = np.ones(shape, dtype)
    for call in (model.forward, lambda X: model.backward(X, d_a), lambda X: model.step(X, d_a)):
        with pytest.raises(ValueError, match=r"X must (have shape \(n, 5\)|hold at least one sample)"):
            call(wrong)
    for call in (lambda dA: model.backward(X, dA), lambda dA: model.step(X, dA)):
        with pytest.raises(ValueError, match=r"dA must have shape \(8, 3\)"):
            call(wrong)


def test_columns_of_a_frame():
    frame = pandas.DataFrame(rng.normal(size=(8, 5)), columns=list("abcde"))
    model = tanh_model()
    model.step(frame, np.ones((8, 3)))
    assert model.feature_names == tuple("abcde")
    for call in (model.forward, model.jacobian, model.hessian, lambda X: model.backward(X, np.ones((8, 3)))):
        with pytest.raises(ValueError, match="X must have the columns"):
            call(frame[list("edcba")])


def test_a_column_of_a_single_output_may_be_flat():
    model = tanh_model(sizes=(5, 9, 1))
    X, d_a = problem(20, n_out=1)
    np.testing.assert_array_equal(model.backward(X, d_a[:, 0]), model.backward(X, d_a))
    model.step(X, d_a[:, 0].tolist(), optimizer="adam")


# ---- threads ----


def test_threads_have_their_own_activations(monkeypatch):
    """Each goes forward, waits until all have, and goes back."""
    model, n_threads, wrong = tanh_model(), 4, []
    data = [problem(64) for _ in range(n_threads)]
    wants = [tanh_model().backward(X, d_a) for X, d_a in data]
    barrier = threading.Barrier(n_threads)

    def work(X, d_a, want):
        for _ in range(20):
            model.forward(X)
            barrier.wait()
            wrong.extend([1] * (model.backward(X, d_a).tobytes() != want.tobytes()))
            wrong.extend([1] * (int(model._network.tapes.latest.work.step["held"][0]) != 64))

    threads = [threading.Thread(target=work, args=(*pair, want)) for pair, want in zip(data, wants, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("inner", ["forward", "backward", "step"])
def test_a_call_within_a_call(inner, monkeypatch):
    """As by a signal handler: the inner call, on other samples, changes nothing of the outer one."""
    model, (X, d_a), (other, _) = tanh_model(), problem(64), problem(64)
    want = tanh_model().forward(X), tanh_model().backward(X, d_a)
    model.forward(X)
    real, inside = entry.forward, []

    def within(*arguments):
        if not inside:
            inside.append(1)
            monkeypatch.setattr(entry, "forward", real)
            if inner == "step":
                model.step(other, d_a * 0)
            else:
                getattr(model, inner)(*(other, d_a)[: 1 + (inner == "backward")])
        return real(*arguments)

    monkeypatch.setattr(entry, "forward", within)
    assert model.forward(X).tobytes() == want[0].tobytes()
    assert inside
    assert model.backward(X, d_a).tobytes() == want[1].tobytes()
    assert len(model._network.tapes.idle) <= tape.MAX_TAPES


@pytest.mark.parametrize("name", ["forward", "backward", "outside_step"])
def test_an_interrupt_in_a_call_leaves_the_model_whole(name, monkeypatch, state):
    model, (X, d_a) = tanh_model(), problem(64)
    calls_of = {
        "forward": lambda: model.forward(X),
        "backward": lambda: model.backward(X, d_a),
        "outside_step": lambda: model.step(X, d_a, optimizer="adam"),
    }
    for known in (False, True):
        kept = state(model)

        def interrupted(*arguments):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(entry, name, interrupted)
            with pytest.raises(KeyboardInterrupt):
                calls_of[name]()
        assert state(model) == kept, known
        fresh = copy.deepcopy(model)
        for each in (model, fresh):
            each.forward(X)
            each.step(X, d_a, optimizer="adam")
        assert fresh.vector.tobytes() == model.vector.tobytes()


def test_only_one_caller_trains():
    model, (X, d_a) = tanh_model(), problem(64)
    seen = []

    def callback(inner):
        for call in (lambda: inner.step(X, d_a), lambda: inner.forward(X, dropout=0.5)):
            with pytest.raises(RuntimeError, match="while it is being trained"):
                call()
        inner.vector = inner.vector * 0.5
        inner.blend(inner, 0.5)
        seen.append(inner.forward(X).shape)

    model.fit(X, d_a, epochs=1, batch_size=8, callbacks=[callback])
    assert seen == [(64, 3)]


# ---- vector and blend ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["norms in a residual", "all", "scale"])
def test_the_vector_holds_tensor_after_tensor(name, dtype):
    model = network(NETS[name], dtype=dtype)
    vector = model.vector
    assert vector.dtype == dtype
    want = np.concatenate([tensor.ravel() for tensors in model.tensors for tensor in tensors.values()])
    assert vector.tobytes() == want.tobytes()
    vector[...] = 0  # a copy
    assert model.vector.tobytes() == want.tobytes()
    model.vector = np.arange(len(want))[::-1] + 0.5
    np.testing.assert_array_equal(model.vector, np.arange(len(want))[::-1] + 0.5)
    padding_is_zero(model._network, model.parameters)


def test_a_negative_variance_is_refused():
    model = Model([3, BatchNorm(), 2])
    before = model.vector
    vector = before.copy()
    vector[10] = -1
    with pytest.raises(ValueError, match=r"layers.0.running_variance must be at least 0, got -1"):
        model.vector = vector
    np.testing.assert_array_equal(model.vector, before)


@pytest.mark.parametrize("dtype", DTYPES)
def test_blend(dtype):
    """The optimizer's state stays: the next step is the same as that of a copy whose vector was set."""
    model, other = network(NETS["all"], dtype=dtype), network(NETS["all"], dtype=dtype)
    X, d_a = rng.normal(size=(32, 6)).astype(dtype), rng.normal(size=(32, 3)).astype(dtype)
    model.step(X, d_a, optimizer="adam")
    twin = copy.deepcopy(model)
    here, there = model.vector, other.vector
    model.blend(other, 0.25)
    np.testing.assert_allclose(model.vector, here + 0.25 * (there - here), rtol=4 * EPS[dtype], atol=4 * EPS[dtype])
    np.testing.assert_array_equal(other.vector, there)
    twin.vector = model.vector
    for each in (model, twin):
        each.step(X, d_a, optimizer="adam")
    assert model.vector.tobytes() == twin.vector.tobytes()
    for tau, want in ((0, model.vector), (0.0, model.vector), (1, there)):
        model.blend(other, tau)
        np.testing.assert_allclose(model.vector, want, rtol=4 * EPS[dtype], atol=4 * EPS[dtype])


# ---- derivatives by the inputs ----


def test_jacobian_is_input_gradients():
    model, (X, _) = tanh_model(), problem(20)
    assert model.jacobian(X).tobytes() == model.input_gradients(X).tobytes()


TWICE = [name for name in cases.ACTIVATIONS if name not in cases.STEPS]
SECOND = {
    **{name: [Dense(7, name), Dense(6, "tanh"), Dense(3, "identity")] for name in TWICE},
    **{f"{name} output": [Dense(7, "tanh"), Dense(3, name)] for name in TWICE},
    "softmax": [Dense(7, "silu"), Dense(3, "softmax")],
    "no hidden layer": [Dense(3, "softmax")],
    "kinds": [Dense(6, "tanh"), LayerNorm(0.1), Residual(Dense(6, "silu"), LayerNorm(0.01, "tanh")), Dense(3, "tanh")],
    "kinds at the inputs": [Residual(Dense(5, "gelu"), Dense(4)), LayerNorm(0.3, "exp"), Scale(), Dense(3, "softmax")],
    "prelu": [PReLU(), Dense(7, "identity"), PReLU(), Residual(Dense(7, "tanh"), PReLU()), Dense(3, "softmax")],
    "batch": [BatchNorm(), Dense(6, "tanh"), BatchNorm(activation="silu"), Dense(3, "softmax")],
}


def of_second(name, dtype="float64"):
    layers = SECOND[name]
    loss = "cross_entropy" if layers[-1].activation == "softmax" else "quadratic"
    model = Model([4, *layers], loss=loss, dtype=dtype, input_scale=0.7, rng=1)
    for tensors in model.tensors:
        for kind, tensor in tensors.items():
            if tensor.ndim == 1:
                tensor[...] = (
                    rng.uniform(0.5, 1.5, tensor.shape) if kind != "bias" else rng.normal(0, 0.5, tensor.shape)
                )
    return model


@pytest.mark.parametrize("name", SECOND)
def test_second_derivatives_equal_central_differences_of_first_ones(name):
    model, X, h = of_second(name), rng.normal(size=(12, 4)), 1e-5
    for k in range(3):
        got = model.hessian(X, output=k)
        ends = [(model.jacobian(X + e)[:, k], model.jacobian(X - e)[:, k]) for e in h * np.eye(4)]
        want = np.stack([(above - below) / (2 * h) for above, below in ends], axis=2)
        far = np.abs(got - want) > 1e-8 * max(1, np.abs(want).max())
        kinked = any(each in name.split() for each in (*cases.KINKED, "prelu"))
        assert far.any(axis=(1, 2)).sum() <= (2 if kinked else 0)
        np.testing.assert_allclose(got, np.swapaxes(got, 1, 2), atol=1e-13 * max(1, np.abs(got).max()))
        diagonal = model.hessian(X, output=k, diagonal=True)
        np.testing.assert_allclose(diagonal, np.einsum("nii->ni", got), atol=1e-13 * max(1, np.abs(got).max()))


@pytest.mark.parametrize("name", ["tanh", "kinds", "prelu", "batch"])
def test_second_derivatives_in_float32_and_in_pieces(name, monkeypatch):
    model, exact = of_second(name, "float32"), of_second(name)
    exact.vector = model.vector
    X = rng.normal(size=(30, 4)).astype("f4")
    for diagonal in (False, True):
        got, want = (each.hessian(X, output=1, diagonal=diagonal) for each in (model, exact))
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7)
        monkeypatch.setattr(curvature, "PIECE", 4 * 7 * 4)
        np.testing.assert_allclose(exact.hessian(X, output=1, diagonal=diagonal), want, atol=1e-13)
    X[3, 1] = np.nan
    found = model.hessian(X)
    assert np.isnan(found[3]).all()
    assert np.isfinite(np.delete(found, 3, 0)).all()


def test_every_activation_has_a_second_derivative():
    assert curvature.SECOND_DERIVATIVES.keys() == set(TWICE)
    model = Model([2, Dense(3, Activation(lambda z: z * z, lambda z: 2 * z, name="square")), 1])
    with pytest.raises(ValueError, match=r"hessian needs second derivatives, which are not known of .*square"):
        model.hessian([[1, 2]])
    assert model.jvp([[1, 2]], [[1, 0]]).shape == (1, 1)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", SECOND)
def test_tangents_are_products_with_the_jacobian(name, how, orientation):
    orientation(how)
    for dtype in DTYPES:
        model = of_second(name, dtype)
        for n in (1, 2, 40, 300, 1500):
            X, V = (rng.normal(size=(n, 4)).astype(dtype) for _ in range(2))
            jacobian = model.jacobian(X)
            size = max(1, np.abs(jacobian).max())
            want = np.einsum("nki,ni->nk", jacobian.astype("f8"), V.astype("f8"))
            got = model.jvp(X, V)
            assert got.dtype == dtype
            np.testing.assert_allclose(got, want, atol=100 * EPS[dtype] * size)
    X[7] = np.nan
    got = model.jvp(X, V)
    if not any(each in name.split() for each in ("identity", "step", "relu", "leaky_relu", "selu", "hard_sigmoid")):
        assert np.isnan(got[7]).all()
    assert np.isfinite(np.delete(got, 7, 0)).all()
