"""Metrics against scikit-learn's."""

import functools
import re

import numpy as np
import pytest
import sklearn.metrics
from sklearn.metrics import accuracy_score, r2_score, roc_auc_score

from fastnn import Dense, Metric, Model
from fastnn.reports import metrics


def test_accuracy():
    rng = np.random.default_rng(0)
    true, predicted = rng.integers(0, 3, (2, 100))
    assert metrics.accuracy(true, predicted) == accuracy_score(true, predicted)
    assert metrics.accuracy(true, true) == 1


@pytest.mark.parametrize("shape", [(50, 1), (50, 4), (50,)])
def test_r2(shape):
    true, predicted = np.random.default_rng(0).normal(size=(2, *shape))
    assert metrics.r2(true, predicted) == pytest.approx(r2_score(true, predicted), rel=1e-12)


def test_r2_of_constant_targets():
    true = np.ones((5, 2))
    for predicted in (np.ones((5, 2)), np.zeros((5, 2)), np.ones((5, 2)) * [1, 0]):
        assert metrics.r2(true, predicted) == r2_score(true, predicted)


def test_r2_does_not_lose_small_spreads_in_float32():
    true = (1000 + np.linspace(0, 0.5, 64)).astype(np.float32)[:, None]
    predicted = true + np.float32(2**-10)
    assert metrics.r2(true, predicted) == pytest.approx(
        r2_score(true.astype(float), predicted.astype(float)), rel=1e-12
    )


def test_r2_of_integer_classes_does_not_overflow():
    true = np.array([0, 2**30, 5], np.int32)
    predicted = np.array([2**31 - 1, -(2**30), 5])
    assert metrics.r2(true, predicted) == pytest.approx(r2_score(true.astype(float), predicted.astype(float)))


def test_a_metric_without_a_name():
    score = functools.partial(lambda y_true, y_pred, scale: scale * np.mean(y_true == y_pred), scale=100)
    result = Model([2, 2], init="zeros").evaluate([[0, 1], [1, 0]], [0, 1], metric=score)
    assert result == {"loss": 0.25, "metric": 50.0}


def test_r2_of_huge_targets():
    """Their squares overflow, and the mean of equal ones is not exact."""
    true, predicted = np.random.default_rng(0).normal(size=(2, 50, 2))
    expected = pytest.approx(r2_score(true, predicted), rel=1e-12)
    assert metrics.r2(1e200 * true, 1e200 * predicted) == expected
    assert metrics.r2(true, predicted, np.full(50, 1e300)) == expected
    assert (
        metrics.r2(np.array([[1.0], [2.0], [3.0]]), np.array([[1.0], [2.0], [1e300]]), np.array([1.0, 1.0, 0.0])) == 1
    )
    assert metrics.r2(np.full((12, 1), 1e200), predicted[:12, :1]) == 0
    assert metrics.r2(np.full((12, 1), 0.1), np.full((12, 1), 0.1)) == 1


def test_r2_of_outputs_about_to_overflow():
    assert metrics.r2(np.array([[0.0], [1.0]]), np.array([[1e200], [1e200]])) == -np.inf


# ---- of a model ----


def trained(n_out, output="sigmoid", loss="cross_entropy", dtype="float64"):
    """A model that has learned a little, samples, their classes and weights, some of them zero."""
    rng = np.random.default_rng(0)
    classes = max(2, n_out)
    y = rng.integers(0, classes, 90)
    X = rng.normal(size=(90, 4)) + np.eye(4)[y]
    model = Model([4, Dense(n_out, output)], loss=loss, dtype=dtype, rng=0)
    model.fit(X, y, epochs=2, batch_size=10)
    return model, X, y, np.where(rng.random(90) < 0.1, 0, rng.random(90))


OF_TWO_CLASSES = {
    "log_loss": sklearn.metrics.log_loss,
    "auc": roc_auc_score,
    "accuracy": lambda y, p, sample_weight=None: accuracy_score(y, p > 0.5, sample_weight=sample_weight),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("n_out", "output"), [(1, "sigmoid"), (2, "softmax")])
@pytest.mark.parametrize("name", OF_TWO_CLASSES)
def test_metrics_of_two_classes(name, n_out, output, dtype):
    model, X, y, weights = trained(n_out, output, dtype=dtype)
    p = model.predict(X)[:, -1].astype(float)
    for more in ({}, {"sample_weight": weights}):
        expected = OF_TWO_CLASSES[name](y, p, **more)
        assert model.evaluate(X, y, metric=name, **more)[name] == pytest.approx(expected, rel=1e-6)


OF_MANY_CLASSES = {
    "log_loss": sklearn.metrics.log_loss,
    "auc": lambda y, p, sample_weight=None: np.mean(
        [roc_auc_score(y == k, p[:, k], sample_weight=sample_weight) for k in range(4)]
    ),
    "top_2": functools.partial(sklearn.metrics.top_k_accuracy_score, k=2),
    "top_3": functools.partial(sklearn.metrics.top_k_accuracy_score, k=3),
    "top_1": lambda y, p, sample_weight=None: accuracy_score(y, p.argmax(axis=1), sample_weight=sample_weight),
    "top_9": lambda y, p, sample_weight=None: 1.0,
}


@pytest.mark.parametrize("name", OF_MANY_CLASSES)
def test_metrics_of_many_classes(name):
    model, X, y, weights = trained(4, "softmax")
    for more in ({}, {"sample_weight": weights}):
        expected = OF_MANY_CLASSES[name](y, model.predict(X), **more)
        assert model.evaluate(X, y, metric=name, **more)[name] == pytest.approx(expected, rel=1e-12)
    whole = roc_auc_score(y, model.predict(X), multi_class="ovr", average="macro")
    assert model.evaluate(X, y, metric="auc")["auc"] == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_metrics_of_numbers(weighted):
    rng = np.random.default_rng(0)
    X, Y, weights = rng.normal(size=(50, 4)), rng.normal(size=(50, 2)), rng.random(50)
    model = Model([4, 2], output="identity", dtype="float64", rng=0)
    more = {"sample_weight": weights} if weighted else {}
    expected = {
        "mae": sklearn.metrics.mean_absolute_error(Y, model.predict(X), **more),
        "rmse": sklearn.metrics.root_mean_squared_error(Y, model.predict(X), **more),
        "r2": r2_score(Y, model.predict(X), **more),
    }
    found = model.evaluate(X, Y, metric=list(expected), **more)
    assert list(found) == ["loss", *expected]
    assert found == pytest.approx({"loss": found["loss"], **expected}, rel=1e-12)


def test_equal_outputs_count_in_the_order_of_their_indices():
    """As `classify` does: so "top_1" is the accuracy."""
    outputs = np.array([[1.0, 1.0, 1.0], [0.0, 2.0, 2.0]])
    ranks = {(0, 0): 0, (1, 0): 1, (2, 0): 2, (0, 1): 2, (1, 1): 0, (2, 1): 1}  # of (class, row)
    for (label, row), rank in ranks.items():
        for k in (1, 2, 3):
            assert metrics.top_k(np.array([label]), outputs[row : row + 1], k=k) == (rank < k)


def test_the_area_of_classes_that_do_not_occur():
    outputs = np.random.default_rng(0).random((20, 3))
    y = np.arange(20) % 2
    expected = (roc_auc_score(y == 0, outputs[:, 0]) + roc_auc_score(y == 1, outputs[:, 1])) / 2
    assert metrics.auc(y, outputs) == pytest.approx(expected, rel=1e-12)
    assert np.isnan(metrics.auc(np.zeros(20, int), outputs))
    assert np.isnan(metrics.auc(y, outputs[:, 0], (y == 1).astype(float)))


@pytest.mark.parametrize(("n_out", "output"), [(1, "sigmoid"), (2, "softmax")])
@pytest.mark.parametrize("name", ["roc_auc_score", "log_loss", "average_precision_score", "brier_score_loss"])
def test_functions_of_scikit_learn_that_need_scores_get_them(name, n_out, output):
    model, X, y, _ = trained(n_out, output)
    function = getattr(sklearn.metrics, name)
    found = model.evaluate(X, y, metric=function)[name]
    assert found == pytest.approx(function(y, model.predict(X)[:, -1]), rel=1e-12)
    assert found != pytest.approx(function(y, model.classify(X)), rel=1e-3)


def test_functions_of_scikit_learn_on_many_classes():
    model, X, y, _ = trained(4, "softmax")
    score = functools.partial(roc_auc_score, multi_class="ovo")
    assert model.evaluate(X, y, metric=score) == {"loss": model.loss(X, y), "roc_auc_score": score(y, model.predict(X))}
    with pytest.raises(ValueError, match="multi_class must be in"):  # scikit-learn says what to do
        model.evaluate(X, y, metric=roc_auc_score)
    assert model.evaluate(X, y, metric=accuracy_score)["accuracy_score"] == accuracy_score(y, model.classify(X))


def test_what_a_metric_takes():
    model, X, y, weights = trained(3, "softmax")
    got = {}

    def note(name, *arguments, **more):
        got[name] = [*arguments, *more.values()]
        return 0.0

    def metric(name, **options):
        return Metric(functools.partial(note, name), name, **options)

    chosen = [metric("classes"), metric("outputs", takes="outputs"), metric("weighted", weighted=True)]
    model.evaluate(X, y, metric=chosen, sample_weight=weights)
    for name, expected in {
        "classes": [y, model.classify(X)],
        "outputs": [y, model.predict(X)],
        "weighted": [y, model.classify(X), weights],
    }.items():
        for array, other in zip(got[name], expected, strict=True):
            np.testing.assert_array_equal(array, other)
    model.evaluate(X, y, metric=chosen)
    assert len(got["weighted"]) == 2
    numbers = Model([4, 1], output="identity", dtype="float64")
    numbers.evaluate(X, X[:, 0], metric=chosen)
    assert [array.shape for array in got["classes"]] == [(90, 1), (90, 1)]
    assert [array.shape for array in got["outputs"]] == [(90,), (90,)]
    assert (got["outputs"][1] == numbers.predict(X)[:, 0]).all()


def test_a_metric_cannot_change_what_the_next_one_gets():
    model, X, y, _ = trained(3, "softmax")

    def spoil(y_true, y_pred):
        y_true[...] = 0
        y_pred[...] = 0
        return 1.0

    expected = model.evaluate(X, y, metric="top_2")
    found = model.evaluate(X, y, metric=[spoil, Metric(spoil, "outputs", takes="outputs"), "top_2"])
    assert found == {"loss": expected["loss"], "spoil": 1.0, "outputs": 1.0, "top_2": expected["top_2"]}


@pytest.mark.parametrize("value", [None, "good", [0.5, 1.0], 1j])
def test_a_metric_that_gives_no_number(value):
    def share(y_true, y_pred):
        return value

    model = Model([2, 1], rng=0)
    with pytest.raises(TypeError, match=f"metric 'share' must give a number, got {re.escape(repr(value))}"):
        model.evaluate(np.ones((4, 2)), np.ones((4, 1)), metric=share)


def test_metrics_that_do_not_fit_the_model():
    model, X, y, _ = trained(1)
    with pytest.raises(ValueError, match="metric 'top_2' needs three outputs or more, got 1"):
        model.evaluate(X, y, metric="top_2")
    for name in ("auc", "log_loss", "top_3"):
        with pytest.raises(ValueError, match=f"metric '{name}' needs class indices in y, got numeric targets"):
            model.evaluate(X, y.astype(float), metric=name)
    with pytest.raises(ValueError, match="metric must hold one or more metrics of different names"):
        model.evaluate(X, y, metric=["accuracy", Metric(accuracy_score, "accuracy")])


@pytest.mark.parametrize("output", ["sigmoid", "hard_sigmoid", "step"])
def test_log_loss_of_one_output_whose_range_is_0_to_1(output):
    """Of outputs 0 and 1 it is the limit for each wrong one."""
    model = Model([1, 1], output=output, init="zeros", dtype="float64")
    model.weights[0][...], X, y = 1, np.array([[-9.0], [-1.0], [0.5], [9.0]]), np.array([1, 0, 0, 1])
    p = model.predict(X)[:, 0]
    of_class = np.clip(np.where(y == 1, p, 1 - p), np.finfo("f8").eps, 1)
    assert model.evaluate(X, y, metric="log_loss")["log_loss"] == pytest.approx(-np.log(of_class).mean(), rel=1e-12)


def test_log_loss_of_one_output_that_is_no_probability():
    model = Model([1, 1], output="identity", loss="hinge", rng=0)
    with pytest.raises(ValueError, match=r"one output with the range \(0, 1\), .*got Dense\(units=1, activation='id"):
        model.evaluate([[1.0], [2.0]], [0, 1], metric="log_loss")


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"function": 3}, TypeError, "function must be callable, got 3"),
        ({"name": 3}, TypeError, "name must be a string or None, got 3"),
        ({"name": "loss"}, ValueError, "name of a metric must be none of .*, got 'loss'"),
        ({"name": "val_x"}, ValueError, "name of a metric must .* not begin with 'val_', got 'val_x'"),
        ({"takes": "logits"}, ValueError, "takes must be one of 'classes', 'outputs', got 'logits'"),
        ({"weighted": 1}, TypeError, "weighted must be True or False, got 1"),
    ],
)
def test_bad_arguments_of_a_metric(arguments, error, match):
    with pytest.raises(error, match=match):
        Metric(**{"function": max} | arguments)
