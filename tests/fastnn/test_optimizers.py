"""Optimizers: against the reference over whole fits, their state, and what they refuse."""

import copy
from dataclasses import replace

import numpy as np
import pytest

from fastnn import SGD, Adagrad, Adam, AdamW, DivergenceError, Lion, Model, Momentum, Nadam, RMSprop
from fastnn.kernels import reference
from fastnn.kernels.cpu.target import HOST
from fastnn.settings.optimizers import Optimizer

from ..cases import DTYPES, EPS, JUMPING, OPTIMIZERS, SETTINGS, settings_of

STEADY = [name for name in OPTIMIZERS if name not in JUMPING]  # whose steps follow rounding errors smoothly


def problem(n, sizes, dtype):
    rng = np.random.default_rng(5)
    X, y = rng.standard_normal((n, sizes[0])), rng.standard_normal((n, sizes[-1]))
    return X.astype(dtype), y.astype(dtype), np.array([rng.permutation(n) for _ in range(3)])


def twin(model):
    layers = zip(model.weights, model.biases, model.layers, strict=True)
    return [(w.T.astype("f8"), b.astype("f8"), layer.activation) for w, b, layer in layers]


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", STEADY)
@pytest.mark.parametrize(("n", "batch_size"), [(50, 1), (61, 8), (100, 100), (1100, 1100), (1500, 1400)])
@pytest.mark.parametrize("how", ["feature-major", "row-major"])
def test_against_the_reference(name, n, batch_size, dtype, how, orientation):
    """Batches of one, with a remainder, of the whole set, and of more than one block."""
    orientation(how)
    sizes = [5, 9, 18, 3]
    X, y, order = problem(n, sizes, dtype)
    model = Model(sizes, activation="tanh", output="identity", dtype=dtype, rng=1)
    assert (model._network.layout.block_rows < batch_size) == (batch_size > 1024)
    want_losses, want = reference.train(
        twin(model), X.astype("f8"), y.astype("f8"), order, batch_size, *SETTINGS[name], optimizer=name
    )
    history = model.fit(X, y, epochs=3, batch_size=batch_size, optimizer=OPTIMIZERS[name], shuffle=order)
    tolerance = 3000 * EPS[dtype]  # Adam divides by small numbers
    np.testing.assert_allclose(history.loss, want_losses, rtol=tolerance)
    for w, b, (want_w, want_b, _) in zip(model.weights, model.biases, want, strict=True):
        np.testing.assert_allclose(w, want_w.T, atol=tolerance)
        np.testing.assert_allclose(b, want_b, atol=tolerance)
    used = np.zeros(model.parameters.size, bool)
    for w, b in model._network.layout.views(used):
        w[...], b[...] = True, True
    assert not model.parameters[~used].any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
@pytest.mark.parametrize("batch_size", [1, 8, 61])
def test_lion_against_the_reference(batch_size, weight_decay, dtype):
    """Its steps are discontinuous, so a gradient near zero may go either way in float32: nearly all agree."""
    X, y, order = problem(61, [5, 9, 3], dtype)
    model = Model([5, 9, 3], activation="tanh", output="identity", dtype=dtype, rng=1)
    settings = 0.003, 0.9, 0.95, weight_decay
    data = X.astype("f8"), y.astype("f8")
    _, want = reference.train(twin(model), *data, order, batch_size, *settings, optimizer="lion")
    model.fit(X, y, epochs=3, batch_size=batch_size, optimizer=Lion(*settings), shuffle=order)
    errors = [abs(w - want_w.T) for w, (want_w, *_) in zip(model.weights, want, strict=True)]
    errors += [abs(b - want_b) for b, (_, want_b, _) in zip(model.biases, want, strict=True)]
    error = np.concatenate([each.ravel() for each in errors])
    assert (error < 3000 * EPS[dtype]).mean() > (0.9 if dtype == "float32" else 0.999)
    assert error.max() < 0.03


@pytest.mark.parametrize("beta2", [0.9999999, 0.99999999, 1 - 1e-12])
def test_adam_with_a_beta_close_to_one(beta2):
    """float32(0.9999999) is not that, and float32(0.99999999) is 1."""
    sizes, settings = [5, 9, 3], (0.01, 0.9, beta2, 1e-8)
    X, y, order = problem(50, sizes, "float32")
    model = Model(sizes, activation="tanh", output="identity", rng=1)
    exact = twin(model), X.astype("f8"), y.astype("f8"), order, 10
    want_losses, want = reference.train(*exact, *settings, optimizer="adam")
    history = model.fit(X, y, epochs=3, batch_size=10, optimizer=Adam(*settings), shuffle=order)
    np.testing.assert_allclose(history.loss, want_losses, rtol=1e-5)
    for w, b, (want_w, want_b, _) in zip(model.weights, model.biases, want, strict=True):
        np.testing.assert_allclose(w, want_w.T, atol=1e-5)
        np.testing.assert_allclose(b, want_b, atol=1e-5)


@pytest.mark.parametrize("name", STEADY)
def test_a_further_fit_goes_on_from_the_state(name):
    optimizer = OPTIMIZERS[name]
    X, y, _ = problem(64, [5, 9, 3], "float32")
    one, two, three = (Model([5, 9, 3], output="identity", rng=1) for _ in range(3))
    one.fit(X, y, epochs=5, batch_size=8, optimizer=optimizer)
    two.fit(X, y, epochs=2, batch_size=8, optimizer=optimizer)
    three.fit(X, y, epochs=2, batch_size=8, optimizer=optimizer)
    copied = copy.deepcopy(two)
    for model in (two, copied):
        model.fit(X, y, epochs=3, batch_size=8, optimizer=copy.deepcopy(optimizer))
        np.testing.assert_array_equal(model.parameters, one.parameters)
    three.fit(X, y, epochs=0, batch_size=8, optimizer=SGD(0.7))  # does nothing
    three.fit(X, y, epochs=3, batch_size=8, optimizer=optimizer)
    np.testing.assert_array_equal(three.parameters, one.parameters)


@pytest.mark.parametrize("name", STEADY)
def test_another_optimizer_and_a_change_of_the_network_start_afresh(name):
    optimizer = OPTIMIZERS[name]
    X, y, _ = problem(64, [5, 9, 3], "float32")
    one, two, three = (Model([5, 9, 3], output="identity", rng=1) for _ in range(3))
    for model in (one, two, three):
        model.fit(X, y, epochs=2, batch_size=8, optimizer=optimizer)
        other = optimizer if model is one else SGD(1e-30)  # which changes no weight
        model.fit(X, y, epochs=1, batch_size=8, optimizer=other)
    one.parameters[...] = three.parameters
    three.freeze(())
    for model in (one, two, three):
        model.fit(X, y, epochs=3, batch_size=8, optimizer=optimizer)
    np.testing.assert_array_equal(two.parameters, three.parameters)
    assert (one.parameters == two.parameters).all() == name.startswith("sgd")


@pytest.mark.parametrize("name", STEADY)
def test_the_same_optimizer_with_other_settings_starts_afresh(name):
    X, y, _ = problem(64, [5, 9, 3], "float32")
    other = replace(OPTIMIZERS[name], learning_rate=0.003)
    model, fresh = (Model([5, 9, 3], output="identity", rng=1) for _ in range(2))
    model.fit(X, y, epochs=2, batch_size=8, optimizer=OPTIMIZERS[name])
    fresh.parameters[...] = model.parameters
    for each in (model, fresh):
        each.fit(X, y, epochs=2, batch_size=8, shuffle=False, optimizer=other)
    np.testing.assert_array_equal(model.parameters, fresh.parameters)


@pytest.mark.parametrize("name", STEADY)
def test_a_fit_that_is_cut_off_leaves_the_state_of_the_last_epoch(name):
    optimizer = OPTIMIZERS[name]
    X, y, _ = problem(64, [5, 9, 3], "float32")
    whole, cut = (Model([5, 9, 3], output="identity", rng=1) for _ in range(2))
    whole.fit(X, y, epochs=6, batch_size=8, optimizer=optimizer)

    def stop(model):
        if len(model.history.loss) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut.fit(X, y, epochs=6, batch_size=8, optimizer=optimizer, callbacks=[stop])
    cut.fit(X, y, epochs=2, batch_size=8, optimizer=optimizer)
    np.testing.assert_array_equal(cut.parameters, whole.parameters)


def test_divergence_with_momentum_keeps_the_last_good_epoch():
    X, y, _ = problem(64, [5, 3], "float32")
    model = Model([5, 3], output="identity", rng=1)
    with pytest.raises(DivergenceError) as error:
        model.fit(X, y, epochs=500, batch_size=8, optimizer=Momentum(3.0), shuffle=False)
    again = Model([5, 3], output="identity", rng=1)
    again.fit(X, y, epochs=error.value.epoch - 1, batch_size=8, optimizer=Momentum(3.0), shuffle=False)
    np.testing.assert_array_equal(model.parameters, again.parameters)
    np.testing.assert_array_equal(model._network.optimizer_state()[1], again._network.optimizer_state()[1])


@pytest.mark.parametrize("name", STEADY)
@pytest.mark.parametrize("n", [64, 1100])
def test_frozen_layers_keep_their_bits(name, n):
    X, y, _ = problem(n, [5, 9, 3], "float32")
    model = Model([5, 9, 3], output="identity", rng=1)
    model.weights[0][0, 0] = -0.0
    before = [w.copy() for w in model.weights]
    model.freeze(0)
    model.fit(X, y, epochs=2, batch_size=n, optimizer=OPTIMIZERS[name])
    assert before[0].tobytes() == model.weights[0].tobytes()
    assert (before[1] != model.weights[1]).any()


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Momentum(momentum=1.0), "momentum must be .* got 1.0"),
        (lambda: Momentum(nesterov=1), "nesterov must be True or False, got 1"),
        (lambda: Momentum(nesterov=np.zeros(2)), "nesterov must be True or False, got array"),
        (lambda: Adam(beta1=-0.1), "beta1 must be .* got -0.1"),
        (lambda: Adam(beta2=1), "beta2 must be .* got 1"),
        (lambda: Adam(epsilon=0), "epsilon must be .* got 0"),
        (lambda: Adam(learning_rate=0), "learning_rate must be .* got 0"),
        (lambda: AdamW(weight_decay=-1), "weight_decay must be .* got -1"),
        (lambda: AdamW(beta1=1), "beta1 must be .* got 1"),
        (lambda: Nadam(momentum_decay=-1), "momentum_decay must be .* got -1"),
        (lambda: RMSprop(alpha=1), "alpha must be .* got 1"),
        (lambda: Adagrad(epsilon=0), "epsilon must be .* got 0"),
        (lambda: Lion(weight_decay=np.inf), "weight_decay must be .* got inf"),
        (lambda: SGD(-1), "learning_rate must be .* got -1"),
        (lambda: Optimizer(0.1), "optimizer must be one such as SGD.0.1., got Optimizer, which has no rule"),
    ],
)
def test_settings_out_of_range(make, match):
    with pytest.raises((ValueError, TypeError), match=match):
        make()


def test_names():
    X, y, _ = problem(20, [5, 3], "float32")
    for optimizer in (SGD(), Momentum(), Adam(), AdamW(), Nadam(), RMSprop(), Adagrad(), Lion()):
        name = type(optimizer).__name__.lower()
        one, two = (Model([5, 3], output="identity", rng=1) for _ in range(2))
        one.fit(X, y, epochs=2, batch_size=4, optimizer=name)
        two.fit(X, y, epochs=2, batch_size=4, optimizer=optimizer)
        np.testing.assert_array_equal(one.parameters, two.parameters)


@pytest.mark.parametrize("optimizer", [SGD(0.3), Adam(0.01), Adam(0.01, epsilon=1e-3, epsilon_hat=True)])
def test_an_l2_penalty(optimizer, blobs):
    """A step goes down the gradient of the mean loss plus l2 / 2 times the sum of W^2, which the loss contains."""
    X, y = blobs
    model = Model([6, 7, 3], dtype="float64", rng=0)
    squares = sum((w**2).sum() for w in model.weights)
    loss = model.loss(X, y)
    gradients = [(dw + 0.2 * w, db) for (dw, db), w in zip(model.gradients(X, y), model.weights, strict=True)]
    name, settings = optimizer._kernel, settings_of(optimizer)
    want = []
    for arrays, own in zip(zip(model.weights, model.biases, strict=True), gradients, strict=True):
        for p, g in zip(arrays, own, strict=True):
            vectors = [np.zeros_like(p), np.zeros_like(p)]
            want.append(reference.OPTIMIZERS[name](p.copy(), g, 1, vectors, *settings)[0])
    history = model.fit(X, y, epochs=1, batch_size=len(X), optimizer=optimizer, l2=0.2)
    assert history.loss == [pytest.approx(loss + 0.1 * squares, rel=1e-12)]
    got = [a for arrays in zip(model.weights, model.biases, strict=True) for a in arrays]
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-14)


def test_a_penalty_must_not_be_negative(blobs, state):
    model = Model([6, 7, 3], rng=0)
    before = state(model)
    with pytest.raises(ValueError, match=r"l2 must be a finite number at least 0, got -0.1"):
        model.fit(*blobs, epochs=1, batch_size=10, l2=-0.1)
    assert state(model) == before


@pytest.mark.skipif(not HOST.triple.startswith("x86"), reason="only x86's subnormal numbers are flushed")
@pytest.mark.parametrize("steps", ["fit", "partial_fit"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_means_of_gradients_that_have_become_zero_end_at_zero(dtype, steps):
    """Subnormal numbers take a hundred times as long. Outside of training, arithmetic is what it was."""
    model = Model([2, 1], output="identity", dtype=dtype, rng=0)
    X, y = np.array([[1.0, 1.0], [1.0, 0.0]], dtype), np.array([1, 2], dtype)
    optimizer = Adam(0.001, beta1=0.5, beta2=0.5)
    model.fit(X, y, epochs=3, batch_size=2, optimizer=optimizer)
    X[:, 1] = 0  # from now on the second weight has no gradient
    seen = []
    for _ in range(140 if dtype == "float32" else 1100):
        if steps == "fit":
            model.fit(X, y, epochs=1, batch_size=2, optimizer=optimizer)
        else:
            model.partial_fit(X, y, optimizer=optimizer)
        vectors = model._network.vectors_for(optimizer)
        seen.append(np.abs(vectors[vectors != 0]).min())
        limits = np.finfo(dtype)
        assert np.array([limits.tiny], dtype)[0] / 2 > 0  # NumPy's arithmetic is what it was
    assert limits.tiny <= min(seen) < 2 * limits.tiny
    mean_of_gradient = model._network.layout.views(vectors[: vectors.size // 2])[0][0]
    assert mean_of_gradient[1, 0] == 0
