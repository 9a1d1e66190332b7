"""The loss of a Gaussian, with two outputs a target: against the reference, by central differences, in models."""

import numpy as np
import pytest

import fastnn
from fastnn import Model
from fastnn.kernels import reference
from fastnn.kernels.programs import records

from ..cases import DTYPES, EPS
from ..differences import central_differences
from .kernel_calls import EVERY_TARGET, HOW, Net, call, padded

NAME = "identity_gaussian"
rng = np.random.default_rng(5)


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", EVERY_TARGET)
@pytest.mark.parametrize("shape", [(1, 1), (3, 9), (17, 16), (5, 33), (40, 3)])
@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_value_and_the_slopes(weighted, columns, shape, dtype, target):
    """What lies in the padding counts neither in the value nor in the slopes, whose padding is zero."""
    rows, n = shape
    z, y = rng.standard_normal((rows, 2 * n)).astype(dtype), rng.standard_normal(shape).astype(dtype)
    z[:, n:] *= 4
    w = rng.uniform(0.5, 2, rows).astype(dtype) if weighted else np.ones(rows, dtype)
    z_there, y_there = (z.T, y.T) if columns else (z, y)
    a, b = padded(z_there), padded(y_there)
    length, of_y = z_there.shape[1], y_there.shape[1]
    a[:, length:], b[:, of_y:] = 1000, 1000
    d, total = np.full_like(a, np.nan), np.array([7.0])
    given = {"d": d[:, :length], "a": a[:, :length], "y": b[:, :of_y], "scale": np.array([0.25]), "total": total}
    given |= {"w": padded(w[None])[:, :rows]} if weighted else {}
    call(dtype, f"{NAME}{'_weighted' * weighted}{'_columns' * columns}", target, **given)
    z, y, w = (array.astype("f8") for array in (z, y, w))
    _, value, slope = reference.LOGIT_LOSSES[NAME]
    want, values = 0.25 * w[:, None] * slope(z, y), [value(z[i : i + 1], y[i : i + 1]) for i in range(rows)]
    size = np.abs(want).max() + 1
    assert total[0] - 7 == pytest.approx(w @ values, abs=40 * EPS[dtype] * (1 + w @ np.abs(values)))
    np.testing.assert_allclose(d[:, :length].T if columns else d[:, :length], want, atol=20 * EPS[dtype] * size)
    assert not d[:, length:].any()


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", EVERY_TARGET)
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("batch_size", [1, 7, 32])
@pytest.mark.parametrize("n_targets", [1, 5])
@pytest.mark.parametrize("weighted", [False, True])
def test_training_as_the_reference_does(weighted, n_targets, batch_size, how, dtype, target, orientation):
    rows, names = 61, ["tanh", "identity"]
    n = Net([5, 18, 2 * n_targets], names, dtype, 3, loss=NAME, target=target, orientation=orientation(how))
    x, y = (rng.standard_normal((rows, width)).astype(dtype) for width in (5, n_targets))
    weights = rng.uniform(0.5, 2, rows).astype(dtype) if weighted else None
    of_twin = None if weights is None else weights.astype("f8")
    order, exact = np.array([rng.permutation(rows) for _ in range(2)], np.int32), (x.astype("f8"), y.astype("f8"))
    want_losses, want = reference.train(n.twin, *exact, order, batch_size, 0.02, loss_name=NAME, weights=of_twin)
    total, _ = reference.gradients(n.twin, *exact, NAME, of_twin)
    outputs, out = reference.forward(n.twin, exact[0])[-1], np.empty((rows, 2 * n_targets), dtype)
    count = rows if weights is None else weights.sum(dtype="f8")
    assert n.sweep(x, y, out, weights=weights) == pytest.approx(total / count, rel=100 * EPS[dtype])
    np.testing.assert_allclose(out, outputs, atol=20 * EPS[dtype], rtol=20 * EPS[dtype])
    done = n.train(x, y, batch_size, (0.02,), 2, records.GIVEN, order, weights=weights)
    np.testing.assert_allclose(done.losses, want_losses, rtol=500 * EPS[dtype])
    for got, pair in zip(n.layout.views(n.parameters), want, strict=True):
        for g, w in zip(got, pair[:2], strict=True):
            np.testing.assert_allclose(g, w, atol=500 * EPS[dtype])
    assert not n.padding(n.parameters).any()


@pytest.mark.parametrize("how", HOW)
def test_gradients_by_central_differences(how, orientation):
    """Some variances are about as small as what is added to them."""
    n = Net([4, 5, 6], ["sigmoid", "identity"], "float64", 5, loss=NAME, orientation=orientation(how))
    n.layout.views(n.parameters)[-1][1][3:] = -3, -14, 1
    x, y = rng.standard_normal((20, 4)), 1e-3 * rng.standard_normal((20, 3))
    _, gradient = n.gradients(x, y)
    numeric = central_differences(lambda: n.sweep(x, y), n.parameters, places=n.used)
    np.testing.assert_allclose(numeric[n.used], gradient[n.used], atol=1e-8 * np.abs(gradient).max())


@pytest.mark.parametrize("sizes", [[20, 70, 260], [4, 24, 2]])
def test_any_number_of_threads_gives_the_same_bits(sizes):
    x, y, results = rng.standard_normal((700, sizes[0])), rng.standard_normal((700, sizes[-1] // 2)), []
    for threads in (1, 2, 3):
        net = Net(sizes, ["tanh", "identity"], "float32", 3, loss=NAME)
        options = {"optimizer": "adam", "threads": threads}
        done = net.train(x.astype("f4"), y.astype("f4"), 300, (0.01, 0.9, 0.999, 1e-8), 2, records.DRAWN, **options)
        results.append((net.parameters.tobytes(), done.losses.tobytes()))
    assert len(set(results)) == 1


# ---- models ----


def noisy(n=3000):
    """(X, y, the deviation of y's noise): two targets, of which each has noise of its own that follows from X."""
    X = rng.uniform(-1, 1, (n, 2))
    means, deviations = np.c_[np.sin(3 * X[:, 0]), X[:, 1] ** 2], np.exp(np.c_[X[:, 1] - 1.5, X[:, 0] - 2])
    return X, means + deviations * rng.standard_normal((n, 2)), means, deviations


def test_means_and_deviations_are_learned():
    X, y, means, deviations = noisy()
    model = Model([2, 24, 4], activation="tanh", output="identity", loss="gaussian", rng=0)
    model.fit(X, y, epochs=60, batch_size=32, optimizer="adam")
    found, spread = model.predict(X, return_std=True)
    assert found.shape == spread.shape == y.shape
    outputs = model.predict(X)
    np.testing.assert_array_equal(found, outputs[:, :2])
    np.testing.assert_allclose(spread, np.sqrt(np.exp(outputs[:, 2:].astype("f8")) + 1e-6), rtol=1e-6)
    assert np.abs(found - means).mean() < 0.05
    assert np.abs(np.log(spread / deviations)).mean() < 0.15
    assert np.mean(np.abs(y - found) < spread) == pytest.approx(0.683, abs=0.03)
    scores = model.evaluate(X, y, metric=["r2", "rmse"])
    assert scores["loss"] == pytest.approx(
        np.mean(np.sum(np.log(spread) + ((y - found) / spread) ** 2 / 2, axis=1)), 1e-4
    )
    nll = fastnn.Metric(lambda y, a: np.mean(((y - a[:, :2]) / spread) ** 2), "squares", takes="outputs")
    mae = fastnn.Metric(lambda y, a: np.abs(y - a).mean(), "mae")
    assert model.evaluate(X, y, metric=nll)["squares"] == pytest.approx(np.mean(((y - found) / spread) ** 2), 1e-4)
    assert model.evaluate(X, y, metric=mae)["mae"] == pytest.approx(np.abs(y - found).mean(), 1e-4)
    assert scores["rmse"] == pytest.approx(np.sqrt(((y - found) ** 2).mean(axis=0)).mean(), 1e-4)


def test_a_model_of_a_gaussian_comes_back(tmp_path):
    model = Model([3, 4, 2], output="identity", loss="gaussian", rng=0)
    X, y = rng.standard_normal((20, 3)), rng.standard_normal(20)
    model.fit(X, y, epochs=1, batch_size=5, optimizer="adam", validation_fraction=0.2)
    assert (model.history.metric, len(model.history.val_loss)) == ("r2", 1)
    model.save(tmp_path / "model.safetensors")
    loaded = fastnn.load(tmp_path / "model.safetensors")
    assert loaded.loss_name == "gaussian"
    steps = [[each.partial_fit(X, y, optimizer="adam") for _ in range(3)] for each in (model, loaded)]
    assert steps[0] == steps[1]
    with pytest.raises(ValueError, match="needs 2 outputs for each target, got 3"):
        model.replace_head(3)


def test_a_spread_of_nothing_is_finite():
    """A network that fits exactly may give any log variance; the variance has a least value."""
    model = Model([1, 2], output="identity", loss="gaussian", init="zeros", rng=0)
    model.biases[0][1] = -200
    assert model.predict([[0.0]], return_std=True)[1] == pytest.approx(1e-3)
    assert model.loss([[0.0]], [0.0]) == pytest.approx(np.log(1e-6) / 2)
    assert np.isfinite(model.loss([[0.0]], [1.0]))


def test_large_targets_that_were_not_learned():
    X, y, _, _ = noisy(200)
    of_mean = np.sum(np.log((1000 * y).var(axis=0) + 1e-6) + 1) / 2
    model = Model([2, 4, 4], activation="tanh", output="identity", loss="gaussian", rng=0)
    with pytest.warns(UserWarning, match=f"but predicting the mean of y has {of_mean:g}. y is about .* scale it"):
        model.fit(X, 1000 * y, epochs=2, batch_size=20, optimizer="adam")
    model.fit(X, y, epochs=2, batch_size=20, optimizer="adam")


@pytest.mark.parametrize(
    ("n_out", "y", "match"),
    [
        (4, [0, 1, 1], r"y must have shape \(3, 2\), got \(3,\)"),
        (4, np.zeros((3, 4)), r"y must have shape \(3, 2\), got \(3, 4\)"),
        (2, np.zeros((3, 2)), r"y must have shape \(3,\) or \(3, 1\), got \(3, 2\)"),
        (2, [0.0, np.nan, 1.0], "y must be finite in float32"),
    ],
)
def test_targets_are_numbers(n_out, y, match):
    model = Model([1, n_out], output="identity", loss="gaussian", rng=0)
    with pytest.raises(ValueError, match=match):
        model.fit(np.zeros((3, 1)), y, epochs=1, batch_size=2)


def test_what_does_not_go_with_a_gaussian():
    model = Model([1, 2], output="identity", loss="gaussian", rng=0)
    with pytest.raises(ValueError, match="X has no classes: the loss 'gaussian' is of numeric targets"):
        model.classify([[0.0]])
    with pytest.raises(ValueError, match="metric 'accuracy' needs class indices"):
        model.evaluate([[0.0]], [1], metric="accuracy")
    with pytest.raises(ValueError, match="label_smoothing needs"):
        model.fit([[0.0]], [1.0], epochs=1, batch_size=1, label_smoothing=0.1)
    with pytest.raises(ValueError, match="does not go with the output activation 'sigmoid'"):
        Model([1, 2], loss="gaussian")
    with pytest.raises(ValueError, match="return_std needs the loss 'gaussian', got 'quadratic'"):
        Model([1, 2]).predict([[0.0]], return_std=True)
