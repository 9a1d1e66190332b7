"""Fits by L-BFGS: against SciPy on a loss in plain NumPy, and what a fit promises."""

import gc
import sys
import weakref

import numpy as np
import pytest
from scipy.optimize import minimize

import fastnn
from fastnn import LBFGS, Adam, Dense, DivergenceError, EarlyStopping, Model
from fastnn.kernels import reference

SIZES = [4, 7, 3]


def samples(n=60, dtype="float64"):
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, 4)).astype(dtype), rng.integers(0, 3, n)


def new_model(dtype="float64", **options):
    layers = [4, Dense(7, "tanh"), Dense(3, "softmax")]
    return Model(layers, loss="cross_entropy", init="scaled", dtype=dtype, rng=0, **options)


def by_hand(model, X, Y, epochs, l2=0.0, weights=None, memory=10):
    """(losses before each iteration, the network afterwards), from the model's parameters on."""
    shapes = [(w.T.shape, b.shape) for w, b in zip(model.weights, model.biases, strict=True)]
    names = [layer.activation for layer in model.layers]
    weights = np.ones(len(X)) if weights is None else weights

    def network(x):
        layers, at = [], 0
        for (shape, bias), name in zip(shapes, names, strict=True):
            n = shape[0] * shape[1]
            layers.append((x[at : at + n].reshape(shape), x[at + n : at + n + bias[0]], name))
            at += n + bias[0]
        return layers

    def evaluate(x):
        layers = network(x)
        value, summed = reference.gradients(layers, X, Y, "softmax_cross_entropy", weights)
        value = value / weights.sum() + l2 / 2 * sum(np.sum(w**2) for w, *_ in layers)
        pairs = zip(summed, layers, strict=True)
        parts = [a.ravel() for (dw, db), (w, *_) in pairs for a in (dw / weights.sum() + l2 * w, db / weights.sum())]
        return value, np.concatenate(parts)

    start = np.concatenate([a.ravel() for w, b in zip(model.weights, model.biases, strict=True) for a in (w.T, b)])
    values = [evaluate(start)[0]]
    options = {"maxiter": epochs, "maxcor": memory, "gtol": 1e-5, "ftol": 64 * np.finfo(float).eps}

    def after(intermediate_result):
        values.append(intermediate_result.fun)

    done = minimize(evaluate, start, method="L-BFGS-B", jac=True, callback=after, options=options)
    return values[:-1], network(done.x)


@pytest.mark.parametrize("memory", [3, 10])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("l2", [0.0, 0.02])
def test_as_scipy_on_plain_numpy(l2, weighted, memory):
    X, y = samples()
    weights = np.random.default_rng(1).random(60) if weighted else None
    model = new_model()
    losses, network = by_hand(model, X, np.eye(3)[y], 12, l2, weights, memory)
    options = {"l2": l2, "sample_weight": weights, "optimizer": LBFGS(memory)}
    history = model.fit(X, y, epochs=12, batch_size=60, **options)
    assert history.loss == pytest.approx(losses, rel=1e-6)
    assert len(history.loss) == len(history.seconds) == 12
    for w, b, (want_w, want_b, _) in zip(model.weights, model.biases, network, strict=True):
        np.testing.assert_allclose(w.T, want_w, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(b, want_b, rtol=1e-5, atol=1e-6)


def test_it_ends_when_it_has_converged():
    X, y = samples()
    model = new_model()
    history = model.fit(X, y, epochs=100_000, batch_size=10**6, l2=0.05, optimizer=LBFGS())
    assert 10 < len(history.loss) < 1000
    assert (np.diff(history.loss) < 0).all()
    for (dw, db), w in zip(model.gradients(X, y), model.weights, strict=True):
        assert np.abs(dw + 0.05 * w).max() < 2e-5
        assert np.abs(db).max() < 2e-5


def test_float32_with_validation_and_early_stopping():
    X, y = samples(300, "float32")
    model, stopping = new_model("float32"), EarlyStopping("val_loss", patience=4)
    rest = {"validation_data": (X[200:], y[200:]), "callbacks": [stopping]}
    history = model.fit(X[:200], y[:200], epochs=200, batch_size=200, optimizer=LBFGS(), **rest)
    assert len(history.loss) == len(history.val_loss) == len(history.val_metric) < 200
    assert stopping.best == min(history.val_loss)
    assert model.loss(X[200:], y[200:]) == pytest.approx(stopping.best, rel=1e-6)


def test_frozen_layers_stay():
    X, y = samples()
    model = new_model()
    model.freeze(0)
    before = model.weights[0].copy(), model.biases[0].copy(), model.weights[1].copy()
    model.fit(X, y, epochs=5, batch_size=60, l2=0.1, optimizer=LBFGS())
    np.testing.assert_array_equal(model.weights[0], before[0])
    np.testing.assert_array_equal(model.biases[0], before[1])
    assert (model.weights[1] != before[2]).any()


def test_another_optimizer_starts_afresh_afterwards():
    X, y = samples()
    one, other = new_model(), new_model()
    one.fit(X, y, epochs=3, batch_size=7, optimizer=Adam(0.01))
    one.fit(X, y, epochs=3, batch_size=60, optimizer=LBFGS())
    np.copyto(other.parameters, one.parameters)
    for model in (one, other):
        model.fit(X, y, epochs=1, batch_size=60, shuffle=False, optimizer=Adam(0.01))
    np.testing.assert_array_equal(one.parameters, other.parameters)


def test_an_interrupt_leaves_the_last_iteration():
    X, y = samples()
    model, twin, seen = new_model(), new_model(), []

    def interrupt(model):
        seen.append(model.parameters.copy())
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y, epochs=10, batch_size=60, optimizer=LBFGS(), callbacks=[interrupt])
    history = twin.fit(X, y, epochs=10, batch_size=60, optimizer=LBFGS())
    assert model.history.loss == history.loss[:3]
    np.testing.assert_array_equal(model.parameters, seen[-1])
    model.fit(X, y, epochs=1, batch_size=7)  # it can be used


def test_a_callback_that_changes_the_model():
    X, y = samples()

    def change(model):
        model.weights[0][...] = 0

    with pytest.raises(RuntimeError, match="a callback changed the model, which LBFGS cannot follow"):
        new_model().fit(X, y, epochs=10, batch_size=60, optimizer=LBFGS(), callbacks=[change])


def test_divergence():
    model = fastnn.Model([1, Dense(1, "identity")], dtype="float64", rng=0)
    before = model.parameters.copy()
    with pytest.raises(DivergenceError, match="training diverged in epoch 1") as raised:
        model.fit(np.array([[1e300]]), np.array([-1e300]), epochs=5, batch_size=1, optimizer=LBFGS())
    assert raised.value.epoch == 1
    np.testing.assert_array_equal(model.parameters, before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 59}, "optimizer LBFGS needs all 60 samples in a batch and no order of them, got batch_size 59"),
        ({"batch_size": 60, "shuffle": np.zeros((5, 60), int)}, "no order of them"),
    ],
)
def test_what_a_fit_cannot_use(arguments, message, state):
    X, y = samples()
    model = new_model()
    before = state(model)
    with pytest.raises(ValueError, match=message):
        model.fit(X, y, epochs=5, optimizer=LBFGS(), **arguments)
    with pytest.raises(ValueError, match="LBFGS takes no steps by batches"):
        model.partial_fit(X, y, optimizer=LBFGS())
    assert state(model) == before


@pytest.mark.parametrize("given", [{"memory": 0}, {"tolerance": -1.0}])
def test_settings(given):
    with pytest.raises(ValueError, match="must be"):
        LBFGS(**given)


def test_without_scipy(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(ImportError, match="LBFGS needs SciPy: pip install scipy"):
        new_model().fit(*samples(), epochs=1, batch_size=60, optimizer=LBFGS())


def test_single_steps_start_afresh_afterwards():
    X, y = samples()
    one, adam = new_model(), Adam(0.01)
    for _ in range(5):
        one.partial_fit(X, y, optimizer=adam)
    one.fit(X, y, epochs=2, batch_size=60, optimizer=LBFGS())
    other = new_model()
    np.copyto(other.parameters, one.parameters)
    for model in (one, other):
        model.partial_fit(X, y, optimizer=adam)
    np.testing.assert_array_equal(one.parameters, other.parameters)


def test_a_fit_of_no_epochs_and_one_without_scipy_change_nothing(monkeypatch, state):
    X, y = samples()
    model = new_model()
    model.fit(X, y, epochs=2, batch_size=7, optimizer=Adam(0.01))
    optimizer = model._network.optimizer
    model.fit(X, y, epochs=0, batch_size=60, optimizer=LBFGS())
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(ImportError):
        model.fit(X, y, epochs=1, batch_size=60, optimizer=LBFGS())
    assert model._network.optimizer is optimizer


def test_a_history_keeps_no_samples():
    X, y = samples()
    model = new_model()
    model.fit(X, y, epochs=2, batch_size=60, optimizer=LBFGS())
    data = weakref.ref(X)
    del X
    gc.collect()
    assert data() is None
