"""Sample weights in fit, partial_fit and evaluate, against the reference; a batch of no weight changes nothing."""

import numpy as np
import pytest

from fastnn import SGD, Adam, ExponentialDecay, Model, Stream
from fastnn.kernels import reference
from fastnn.kernels.programs import records

from ..cases import DTYPES, EPS
from ..kernels.kernel_calls import EVERY_TARGET, HOW, Net

rng = np.random.default_rng(12)
LOSSES = {"quadratic": "sigmoid", "sigmoid_cross_entropy": "sigmoid", "softmax_cross_entropy": "softmax"}
LOSSES |= {"huber": "identity", "quantile": "tanh", "identity_hinge": "identity", "tanh_arctanh_error": "tanh"}


def weights_of(n, dtype="float64"):
    """Of n samples, a third of them zero."""
    weights = rng.uniform(0.1, 3, n).astype(dtype)
    weights[rng.random(n) < 0.33] = 0
    weights[0] = 1
    return weights


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", EVERY_TARGET)
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("batch_size", [1, 7, 300])
@pytest.mark.parametrize("loss", LOSSES)
def test_training_as_the_reference_does(loss, batch_size, how, dtype, target, orientation):
    """Losses and gradients are divided by the batch's sum of weights; some batches have none."""
    rows = 700 if batch_size == 300 else 40
    n = Net([5, 9, 3], ["tanh", LOSSES[loss]], dtype, 3, loss, target=target, orientation=orientation(how))
    x, labels = rng.standard_normal((rows, 5)).astype(dtype), rng.integers(0, 3, rows)
    y, weights = reference.one_hot(labels, 3), weights_of(rows, dtype)
    order = np.array([rng.permutation(rows) for _ in range(2)], np.int32)
    if batch_size == 7:
        weights[order[0][7:14]] = 0
    exact = x.astype("f8"), y, order, batch_size
    want_losses, want = reference.train(n.twin, *exact, 0.1, loss_name=loss, weights=weights.astype("f8"))
    total, _ = reference.gradients(n.twin, x.astype("f8"), y, loss, weights.astype("f8"))
    value = n.sweep(x, labels.astype(np.int32), weights=weights)
    assert value == pytest.approx(total / weights.sum(dtype="f8"), rel=50 * EPS[dtype])
    done = n.train(x, labels.astype(np.int32), batch_size, (0.1,), 2, records.GIVEN, order, weights=weights)
    np.testing.assert_allclose(done.losses, want_losses, rtol=500 * EPS[dtype])
    for got, pair in zip(n.layout.views(n.parameters), want, strict=True):
        for g, w in zip(got, pair[:2], strict=True):
            np.testing.assert_allclose(g, w, atol=500 * EPS[dtype])
    assert not n.padding(n.parameters).any()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("sizes", [[20, 70, 40], [4, 24, 3]])
def test_any_number_of_threads_gives_the_same_bits(loss, sizes):
    x, y = rng.standard_normal((700, sizes[0])).astype("f4"), rng.integers(0, sizes[-1], 700).astype(np.int32)
    weights, results = weights_of(700, "f4"), []
    for threads in (1, 2, 3):
        net = Net(sizes, ["tanh", LOSSES[loss]], "float32", 3, loss=loss)
        settings = (0.01, 0.9, 0.999, 1e-8)
        options = {"optimizer": "adam", "threads": threads, "weights": weights}
        done = net.train(x, y, 300, settings, 2, records.DRAWN, **options)
        results.append((net.parameters.tobytes(), done.losses.tobytes()))
    assert len(set(results)) == 1


@pytest.mark.parametrize("optimizer", [SGD(0.5), Adam(0.05)])
@pytest.mark.parametrize("batch_size", [1, 6, 30])
def test_equal_weights_are_no_weights(optimizer, batch_size):
    X, y = rng.standard_normal((30, 4)), rng.integers(0, 3, 30)
    models = [Model([4, 8, 3], dtype="float64", rng=0) for _ in range(3)]
    options = {"epochs": 3, "batch_size": batch_size, "optimizer": optimizer, "shuffle": False}
    for model, weights in zip(models, (None, np.ones(30), np.full(30, 2)), strict=True):
        model.fit(X, y, sample_weight=weights, **options)
    np.testing.assert_allclose(models[1].parameters, models[0].parameters, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(models[2].parameters, models[0].parameters, rtol=1e-10, atol=1e-14)


def test_a_weight_of_three_is_a_sample_taken_three_times():
    X, y, times = rng.standard_normal((30, 4)), rng.integers(0, 3, 30), rng.integers(1, 4, 30)
    one, other = (Model([4, 8, 3], dtype="float64", rng=0) for _ in range(2))
    options = {"epochs": 3, "shuffle": False, "optimizer": "adam"}
    one.fit(X, y, sample_weight=times, batch_size=30, **options)
    other.fit(np.repeat(X, times, axis=0), np.repeat(y, times), batch_size=int(times.sum()), **options)
    np.testing.assert_allclose(one.parameters, other.parameters, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_a_batch_of_no_weight_changes_nothing(optimizer):
    """Neither parameters nor the optimizer's state: as if the batch were not there."""
    X, y = rng.standard_normal((24, 4)), rng.integers(0, 3, 24)
    weights = np.ones(24)
    weights[8:16] = 0
    one, other = Model([4, 8, 3], rng=0), Model([4, 8, 3], rng=0)
    options = {"epochs": 2, "batch_size": 8, "shuffle": False, "optimizer": optimizer}
    one.fit(X, y, sample_weight=weights, **options)
    rest = np.r_[0:8, 16:24]
    other.fit(X[rest], y[rest], sample_weight=weights[rest], **options)
    np.testing.assert_array_equal(one.parameters, other.parameters)
    assert one.history.loss == other.history.loss


@pytest.mark.parametrize("source", ["memory", "stream"])
@pytest.mark.parametrize("calls_are", ["long", "short"])
@pytest.mark.parametrize("per", ["step", "epoch"])
def test_a_learning_rate_is_that_of_the_last_step(source, calls_are, per, short_calls):
    """A batch of no weight is no step: after three steps an epoch the rate of a fit per step is halved three times."""
    if calls_are == "short":
        short_calls()
    X, y, weights = rng.standard_normal((60, 4)), rng.integers(0, 3, 60), np.ones(60)
    weights[30:] = 0
    given = (X, y) if source == "memory" else (Stream.from_arrays(X, y, weights, buffer_rows=10),)
    options = {"sample_weight": weights} if source == "memory" else {}
    model = Model([4, 3], loss="cross_entropy", output="softmax", rng=0)
    optimizer = SGD(ExponentialDecay(0.1, gamma=0.5, per=per))
    model.fit(*given, epochs=3, batch_size=10, shuffle=False, optimizer=optimizer, **options)
    expected = 0.1 * 0.5 ** np.array([2, 5, 8] if per == "step" else [0, 1, 2])
    np.testing.assert_allclose(model.history.learning_rate, expected, rtol=1e-12)
    assert model.learning_rate == model.history.learning_rate[-1]


@pytest.mark.parametrize("output", ["sigmoid", "softmax"])
def test_evaluate(output):
    loss = "cross_entropy" if output == "softmax" else "quadratic"
    model = Model([4, 8, 3], output=output, loss=loss, dtype="float64", rng=0)
    X, y, weights = rng.standard_normal((700, 4)), rng.integers(0, 3, 700), weights_of(700)
    each = [model.loss(X[i : i + 1], y[i : i + 1]) for i in range(700)]
    found = model.evaluate(X, y, sample_weight=weights)
    assert found["loss"] == pytest.approx(np.average(each, weights=weights), rel=1e-12)
    assert found["accuracy"] == pytest.approx(np.average(model.classify(X) == y, weights=weights), rel=1e-12)
    assert model.evaluate(X, y, sample_weight=np.full(700, 0.5)) == pytest.approx(model.evaluate(X, y), rel=1e-12)


def test_evaluate_with_other_metrics():
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    model = Model([4, 8, 2], output="identity", dtype="float64", rng=0)
    X, y, weights = rng.standard_normal((50, 4)), rng.standard_normal((50, 2)), weights_of(50)
    want = metrics.r2_score(y, model.predict(X), sample_weight=weights)
    assert model.evaluate(X, y, sample_weight=weights)["r2"] == pytest.approx(want, rel=1e-12)

    def metric(y_true, y_pred):
        return len(y_true)

    assert model.evaluate(X, y, sample_weight=weights, metric=metric)["metric"] == 50


def test_steps_are_epochs_of_one_batch():
    X, y, weights = rng.standard_normal((9, 5)), rng.integers(0, 3, 9), weights_of(9)
    one, other = Model([5, 7, 3], rng=0), Model([5, 7, 3], rng=0)
    losses = [one.partial_fit(X, y, sample_weight=weights, optimizer="adam") for _ in range(4)]
    other.fit(X, y, epochs=4, batch_size=9, shuffle=False, sample_weight=weights, optimizer="adam")
    assert losses == other.history.loss
    np.testing.assert_array_equal(one.parameters, other.parameters)


def test_validation_fraction_takes_the_weights_along():
    X, y, weights = rng.standard_normal((60, 4)), rng.integers(0, 3, 60), weights_of(60)
    model = Model([4, 8, 3], rng=0)
    model.fit(X, y, epochs=1, batch_size=5, validation_fraction=0.25, sample_weight=weights)
    held = np.sort(np.random.default_rng(model._split_seed).permutation(60)[:15])
    scored = model.evaluate(X[held], y[held], sample_weight=weights[held])
    assert (model.history.val_loss, model.history.val_metric) == ([scored["loss"]], [scored["accuracy"]])


@pytest.mark.parametrize(
    ("weights", "error", "match"),
    [
        (np.zeros(9), ValueError, "must have an element above zero, got 9 zeros"),
        (np.r_[1.0, -0.5, np.ones(7)], ValueError, r"must not be negative, got sample_weight\[1\] = -0.5"),
        (np.ones(3), ValueError, r"must have shape \(9,\), got \(3,\)"),
        (np.full(9, np.inf), ValueError, r"must be finite in float64, got sample_weight\[0\] = inf"),
        (["a"] * 9, TypeError, "must hold numbers"),
    ],
)
def test_bad_weights(weights, error, match, state):
    X, y = rng.standard_normal((9, 4)), rng.integers(0, 3, 9)
    model = Model([4, 3], rng=0)
    before = state(model)
    for call in (
        lambda: model.fit(X, y, epochs=1, batch_size=3, sample_weight=weights),
        lambda: model.partial_fit(X, y, sample_weight=weights),
        lambda: model.evaluate(X, y, sample_weight=weights),
    ):
        with pytest.raises(error, match=f"sample_weight {match}"):
            call()
    assert state(model) == before


# ---- by classes ----


@pytest.mark.parametrize("sizes", [[6, 8, 3], [6, 1]])
@pytest.mark.parametrize("given", [None, "random"])
@pytest.mark.parametrize("class_weight", [{0: 2.0, 1: 0.5}, "balanced", {1: 0}])
def test_weights_of_classes_are_weights_of_their_samples(class_weight, given, sizes, blobs):
    X, y = blobs
    X, y = X[:250], y[:250] if sizes[-1] == 3 else (y[:250] > 1) * 1
    own = None if given is None else weights_of(250)
    counts = np.bincount(y)
    by_class = (
        {i: 250 / (len(counts) * n) for i, n in enumerate(counts)} if class_weight == "balanced" else class_weight
    )
    weights = np.array([by_class.get(i, 1.0) for i in y]) * (1 if own is None else own)
    mine, expected = Model(sizes, rng=0), Model(sizes, rng=0)
    mine.fit(X, y, epochs=2, batch_size=10, class_weight=class_weight, sample_weight=own)
    expected.fit(X, y, epochs=2, batch_size=10, sample_weight=weights)
    np.testing.assert_allclose(mine.history.loss, expected.history.loss, rtol=1e-5)
    np.testing.assert_allclose(mine.parameters, expected.parameters, atol=1e-5)


@pytest.mark.parametrize(
    ("class_weight", "y", "error", "match"),
    [
        ("even", [0, 1], ValueError, "class_weight must be one of 'balanced', got 'even'"),
        (3, [0, 1], TypeError, "class_weight must be a dict, 'balanced' or None, got 3"),
        ({2: 1.0}, [0, 1], ValueError, r"keys, integers in \[0, 2\), got the key 2"),
        ({"a": 1.0}, [0, 1], TypeError, r"class_weight must have class indices as keys, .* \[0, 2\), got the key 'a'"),
        ({0: -1.0}, [0, 1], ValueError, r"class_weight\[0\] must be a finite number at least 0, got -1.0"),
        ({0: 0, 1: 0}, [0, 1], ValueError, "class_weight must have an element above zero, got 2 zeros"),
        ("balanced", [0.5, 1.0], ValueError, "class_weight needs class indices in y, got numeric targets"),
    ],
)
def test_bad_weights_of_classes(class_weight, y, error, match, state):
    model = Model([2, 1], rng=0)
    before = state(model)
    with pytest.raises(error, match=match):
        model.fit([[0, 1], [1, 0]], y, epochs=1, batch_size=1, class_weight=class_weight)
    assert state(model) == before


@pytest.mark.parametrize(("sizes", "n_classes"), [([6, 8, 3], 3), ([6, 1], 2)])
def test_a_class_with_a_weight_may_be_absent(sizes, n_classes, blobs):
    """As in a fold without a rare class."""
    X = blobs[0][:250]
    y = np.zeros(250, int)
    weights = {i: 2.0 * i + 1 for i in range(n_classes)}
    mine, expected = Model(sizes, rng=0), Model(sizes, rng=0)
    mine.fit(X, y, epochs=2, batch_size=10, class_weight=weights)
    expected.fit(X, y, epochs=2, batch_size=10)
    np.testing.assert_array_equal(mine.parameters, expected.parameters)


def test_a_column_of_weights():
    X, y, weights = rng.standard_normal((60, 4)), rng.integers(0, 3, 60), weights_of(60)
    one, other = Model([4, 3], rng=0), Model([4, 3], rng=0)
    one.fit(X, y, epochs=1, batch_size=5, sample_weight=weights[:, None])
    other.fit(X, y, epochs=1, batch_size=5, sample_weight=weights)
    np.testing.assert_array_equal(one.parameters, other.parameters)


@pytest.mark.parametrize("kind", ["array", "sparse", "frame", "memmap"])
def test_validation_takes_what_training_takes(kind, tmp_path):
    X, y, weights = rng.standard_normal((60, 4)), rng.integers(0, 3, 60), weights_of(60)
    V, v, w = X[:20].copy(), y[:20], weights[:20]
    if kind == "sparse":
        scipy_sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
        given = scipy_sparse.csr_array(V), v.tolist(), list(w)
    elif kind == "frame":
        pandas = pytest.importorskip("pandas", reason="pandas is not installed")
        frame = pandas.DataFrame(V, columns=list("abcd")).assign(y=v, w=w)
        given = frame[list("abcd")], frame["y"], frame["w"]
    else:
        mapped = np.memmap(tmp_path / "V", np.float64, "w+", shape=V.shape)
        mapped[...] = V
        given = (mapped if kind == "memmap" else V), v, w
    model = Model([4, 8, 3], output="softmax", loss="cross_entropy", rng=0)
    named = {"metric": ["accuracy", "log_loss"]}
    history = model.fit(X, y, epochs=3, batch_size=5, validation_data=given, sample_weight=weights, **named)
    scored = model.evaluate(V, v, sample_weight=w, **named)
    assert history.val_loss[-1] == pytest.approx(scored["loss"], rel=1e-6)
    for name in ("accuracy", "log_loss"):
        assert history.metrics[f"val_{name}"][-1] == pytest.approx(scored[name], rel=1e-6)
    p = model.predict(V)[np.arange(20), v].astype(float)
    assert history.val_loss[-1] == pytest.approx(np.average(-np.log(p), weights=w), rel=1e-5)
    with pytest.raises(ValueError, match=r"validation_data\[2\] must have shape \(20,\), got \(19,\)"):
        model.fit(X, y, epochs=3, batch_size=5, validation_data=(V, v, w[1:]))


def test_an_order_without_a_sample_of_some_weight():
    model = Model([3, 2], rng=0)
    before = model.parameters.copy()
    order = np.array([[0, 2, 0, 1], [0, 1, 0, 1]])
    with pytest.raises(ValueError, match="shuffle must give each epoch a sample whose weight is above zero"):
        model.fit(np.ones((4, 3)), np.ones((4, 2)), epochs=2, batch_size=1, sample_weight=[0, 0, 1, 1], shuffle=order)
    np.testing.assert_array_equal(model.parameters, before)
