"""Fits by Levenberg and Marquardt: against the same steps in plain NumPy, and what a fit promises."""

import numpy as np
import pytest

from fastnn import LBFGS, Dense, DivergenceError, EarlyStopping, LevenbergMarquardt, Model, Rprop

rng = np.random.default_rng(0)
X = rng.uniform(-1, 1, (60, 3))
Y = np.stack([np.sin(3 * X[:, 0]) * X[:, 1], X[:, 2] ** 2], axis=1)


def new(dtype="float64", output="identity", n_out=2, **options):
    return Model([3, Dense(7, "tanh"), Dense(n_out, output)], dtype=dtype, rng=0, **options)


def flat(model):
    return np.concatenate([a.ravel() for pair in zip(model.weights, model.biases, strict=True) for a in pair])


def put(model, vector):
    at = 0
    for pair in zip(model.weights, model.biases, strict=True):
        for a in pair:
            a[...] = vector[at : at + a.size].reshape(a.shape)
            at += a.size


def by_hand(model, epochs, l2, weights, damping=1e-3):
    """(losses, vector) of the algorithm with a Jacobian by central differences of `predict`."""
    shares = np.full(60, 1 / 60) if weights is None else weights / weights.sum()
    is_weight = np.concatenate(
        [np.full(a.size, a.ndim == 2) for pair in zip(model.weights, model.biases, strict=True) for a in pair]
    )

    def outputs(x):
        put(model, x)
        return model.predict(X)

    def loss(x):
        return (shares @ (outputs(x) - Y) ** 2).sum() / 2 + l2 / 2 * (x[is_weight] ** 2).sum()

    x, losses = flat(model), []
    for _ in range(epochs):
        steps = 1e-5 * np.eye(len(x))
        jacobian = np.stack([(outputs(x + e) - outputs(x - e)) / 2e-5 for e in steps], axis=2)  # (n, n_out, parameters)
        gradient = np.einsum("i,ik,ikp->p", shares, outputs(x) - Y, jacobian) + l2 * is_weight * x
        hessian = np.einsum("i,ikp,ikq->pq", shares, jacobian, jacobian) + np.diag(l2 * is_weight)
        losses.append(loss(x))
        while True:
            trial = x - np.linalg.solve(hessian + damping * np.eye(len(x)), gradient)
            if loss(trial) < losses[-1]:
                break
            damping *= 10
        x, damping = trial, damping / 10
    return losses, x


@pytest.mark.parametrize("output", ["identity", "tanh"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("l2", [0.0, 0.01])
def test_as_in_plain_numpy(l2, weighted, output):
    weights = rng.random(60) if weighted else None
    model = new(output=output)
    losses, want = by_hand(new(output=output), 5, l2, weights)
    history = model.fit(X, Y, epochs=5, batch_size=60, l2=l2, sample_weight=weights, optimizer=LevenbergMarquardt())
    assert history.loss == pytest.approx(losses, rel=1e-6)
    np.testing.assert_allclose(flat(model), want, atol=1e-5)


def test_it_needs_fewer_iterations_than_lbfgs():
    models = new(), new()
    for model, optimizer in zip(models, (LevenbergMarquardt(), LBFGS()), strict=True):
        model.fit(X, Y, epochs=60, batch_size=60, optimizer=optimizer)
    assert models[0].loss(X, Y) < 0.1 * models[1].loss(X, Y)


def test_it_ends_when_it_has_converged():
    model = new()
    history = model.fit(X, Y, epochs=10_000, batch_size=60, l2=0.01, optimizer=LevenbergMarquardt())
    assert 5 < len(history.loss) < 1000
    assert (np.diff(history.loss) < 0).all()
    for (dw, db), w in zip(model.gradients(X, Y), model.weights, strict=True):
        assert np.abs(dw + 0.01 * w).max() < 1e-8
        assert np.abs(db).max() < 1e-8


def test_pieces_of_the_jacobian_change_nothing_but_rounding(monkeypatch):
    whole, pieces = new(), new()
    whole.fit(X, Y, epochs=4, batch_size=60, optimizer=LevenbergMarquardt())
    monkeypatch.setattr("fastnn.training.levenberg_marquardt.JACOBIAN_BYTES", 1)
    pieces.fit(X, Y, epochs=4, batch_size=60, optimizer=LevenbergMarquardt())
    np.testing.assert_allclose(flat(whole), flat(pieces), rtol=1e-6, atol=1e-8)


def test_frozen_layers_stay_and_float32_works():
    model = new("float32")
    model.freeze(0)
    before, start = model.weights[0].copy(), model.loss(X, Y)
    model.fit(X, Y, epochs=5, batch_size=60, optimizer=LevenbergMarquardt())
    np.testing.assert_array_equal(model.weights[0], before)
    assert model.loss(X, Y) < 0.5 * start


def test_class_indices_and_early_stopping():
    y = (X[:, 0] > 0).astype(int)
    model, stopping = new(output="sigmoid"), EarlyStopping("loss", patience=2, min_delta=1e-3)
    history = model.fit(X, y, epochs=200, batch_size=60, optimizer=LevenbergMarquardt(), callbacks=[stopping])
    assert len(history.loss) < 200
    assert (model.classify(X) == y).mean() > 0.9


def test_a_callback_that_changes_the_model():
    model = new()
    with pytest.raises(RuntimeError, match="a callback changed the model, which LevenbergMarquardt cannot follow"):
        model.fit(X, Y, epochs=3, batch_size=60, optimizer=LevenbergMarquardt(), callbacks=[lambda m: m.freeze(0)])


def test_divergence_at_the_start(state):
    model = new()
    model.weights[1][...] = 1e200
    before = state(model)
    with pytest.raises(DivergenceError, match="training diverged in epoch 1"):
        model.fit(X, Y, epochs=3, batch_size=60, optimizer=LevenbergMarquardt())
    assert state(model)[0] == before[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 59}, "optimizer LevenbergMarquardt needs all 60 samples in a batch"),
        ({"l1": 0.1}, "optimizer LevenbergMarquardt takes l2, but no l1"),
        ({"max_norm": 1.0}, "optimizer LevenbergMarquardt takes l2, but no l1, max_norm"),
        ({"optimizer": Rprop(), "batch_size": 10}, "optimizer Rprop needs all 60 samples in a batch"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        new().fit(X, Y, **{"epochs": 1, "batch_size": 60, "optimizer": LevenbergMarquardt()} | options)


def test_it_needs_the_quadratic_loss():
    with pytest.raises(ValueError, match="optimizer LevenbergMarquardt needs the loss 'quadratic', got 'huber'"):
        new(loss="huber").fit(X, Y, epochs=1, batch_size=60, optimizer=LevenbergMarquardt())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LevenbergMarquardt(damping=0), "damping must be a finite number above 0, got 0"),
        (lambda: LevenbergMarquardt(factor=1), "factor must be a finite number above 1, got 1"),
        (lambda: LevenbergMarquardt(tolerance=-1), "tolerance must be a finite number at least 0, got -1"),
        (lambda: Rprop(eta_plus=1), "eta_plus must be a finite number above 1, got 1"),
        (lambda: Rprop(smallest=0), "smallest must be a finite number above 0, got 0"),
    ],
)
def test_wrong_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()
