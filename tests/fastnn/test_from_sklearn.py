"""Pipelines and MLPs of scikit-learn as models: they predict the same, train on, are saved and exported."""

import copy
import pickle
import runpy

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the extra sklearn is not installed")

from sklearn import datasets
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, OneHotEncoder, RobustScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier

import fastnn

from ..cases import DTYPES

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
rng = np.random.default_rng(0)
SCALERS = {
    "standard": [StandardScaler()],
    "range": [MinMaxScaler((-1, 2))],
    "one": [StandardScaler(with_mean=False)],
    "several": [MaxAbsScaler(), Pipeline([("inner", StandardScaler()), ("same", "passthrough")]), RobustScaler()],
}
SETS = ["iris", "wine", "breast_cancer", "digits", "diabetes"]


def data(name, dtype):
    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    return X.astype(dtype), y


def outputs_of(fitted, X):
    """What the model of a fitted estimator gives: (n, n_outputs)."""
    if not hasattr(fitted, "predict_proba"):
        return fitted.predict(X).reshape(len(X), -1)
    found = fitted.predict_proba(X)
    return found[:, 1:] if found.shape[1] == 2 and len(fitted.classes_) == 2 else found


def same(model, fitted, X, bound, theirs=None):
    """The model predicts for X what the fitted estimator does, for X or in other numbers."""
    found, expected = model.predict(X), outputs_of(fitted, X if theirs is None else theirs)
    assert found.shape == expected.shape
    size = np.maximum(np.abs(expected), 1)
    np.testing.assert_allclose(found / size, expected / size, 0, bound)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scalers", SCALERS)
@pytest.mark.parametrize("name", SETS)
def test_predictions(name, scalers, dtype):
    """Of raw inputs, to 1e-6 and 1e-12; classes are places in `classes_`."""
    X, y = data(name, dtype)
    last = (MLPRegressor if name == "diabetes" else MLPClassifier)(
        hidden_layer_sizes=(20,), max_iter=40, random_state=0
    )
    fitted = make_pipeline(*SCALERS[scalers], last).fit(X, y)
    model = fastnn.from_sklearn(fitted)
    assert (model.dtype, model.feature_names) == (dtype, None)
    same(model, fitted, X, {"float32": 1e-6, "float64": 1e-12}[dtype])
    if name != "diabetes":
        np.testing.assert_array_equal(fitted.classes_[model.classify(X)], fitted.predict(X))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ratio", [1e3, 1e6])
def test_numbers_far_from_zero(ratio, dtype):
    """2e-6 of float64 on the same rows, where scikit-learn's own float32 loses all digits."""
    X = (rng.standard_normal((200, 3)) + ratio).astype(np.float32)
    y = X[:, 0].astype(float) - ratio
    fitted = make_pipeline(StandardScaler(), MLPRegressor(hidden_layer_sizes=8, max_iter=50, random_state=0))
    fitted.fit(X.astype(float), y)
    last = fitted[-1]
    last.coefs_ = [w.astype(dtype) for w in last.coefs_]
    last.intercepts_ = [b.astype(dtype) for b in last.intercepts_]
    for given in (X, X.astype(float)):
        same(fastnn.from_sklearn(fitted), fitted, given, {"float32": 2e-6, "float64": 1e-9}[dtype], X.astype(float))


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("kind", ["two", "three", "labels", "number", "numbers", "counts"])
def test_mlps_alone(kind, activation):
    """Those of scikit-learn and of fastnn, with all outputs."""
    X = rng.normal(0, 1, (80, 4))
    y = {
        "two": np.where(X[:, 0] > 0, "yes", "no"),
        "three": rng.integers(0, 3, 80),
        "labels": (X[:, :3] > 0).astype(int),
        "number": X[:, 0],
        "numbers": X[:, :2],
        "counts": np.exp(X[:, 0]),
    }[kind]
    how = {"hidden_layer_sizes": (6, 5), "activation": activation, "max_iter": 10, "random_state": 0}
    if kind == "counts":
        how["loss"] = "poisson"
    for module in (fastnn, None):
        is_classifier = kind in ("two", "three", "labels")
        theirs = MLPClassifier if is_classifier else MLPRegressor
        fitted = (theirs if module is None else getattr(fastnn, theirs.__name__))(**how).fit(X, y)
        model = fastnn.from_sklearn(fitted)
        same(model, fitted, X, 1e-12)
        losses = {"counts": "poisson", "number": "quadratic", "numbers": "quadratic"}
        assert model.loss_name == losses.get(kind, "cross_entropy")
        assert (model.input_shift, model.input_scale) == (None, None)


def test_activations_and_losses_of_fastnn():
    X = rng.normal(3, 2, (80, 4))
    last = fastnn.MLPRegressor(fastnn.Huber(0.5), (6, 5), ["gelu", "mish"], max_iter=10, random_state=0)
    fitted = make_pipeline(StandardScaler(), last).fit(X, X[:, 0])
    model = fastnn.from_sklearn(fitted)
    assert [layer.activation for layer in model.layers] == ["gelu", "mish", "identity"]
    assert "loss=Huber(delta=0.5)" in repr(model)
    same(model, fitted, X, 1e-12)
    assert fastnn.from_sklearn(fitted, loss="absolute_error").loss_name == "absolute_error"


def test_it_trains_and_is_saved_and_exported(tmp_path):
    """On raw inputs; the Pipeline stays as it is."""
    X, y = data("wine", "float64")
    fitted = make_pipeline(StandardScaler(), MLPClassifier(8, max_iter=30, random_state=0)).fit(X, y)
    before = pickle.dumps(fitted[-1].coefs_)
    model = fastnn.from_sklearn(fitted, rng=0)
    first = model.evaluate(X, y)["loss"]
    kept = copy.deepcopy(model)
    model.fit(X, y, epochs=30, batch_size=16, optimizer=fastnn.Adam(0.01))
    assert model.evaluate(X, y)["loss"] < 0.5 * first
    assert pickle.dumps(fitted[-1].coefs_) == before
    again = fastnn.from_sklearn(fitted, rng=0)
    again.fit(X, y, epochs=30, batch_size=16, optimizer=fastnn.Adam(0.01))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    kept.save(tmp_path / "net.safetensors")
    same(fastnn.load(tmp_path / "net.safetensors"), fitted, X, 1e-12)
    kept.export(tmp_path / "net.py", labels=["a", "b", "c"], rows=X)
    net = runpy.run_path(str(tmp_path / "net.py"))
    np.testing.assert_allclose(net["predict_proba"](X), fitted.predict_proba(X), 0, 1e-12)


@pytest.mark.parametrize("n_targets", [1, 2])
def test_scalers_of_targets(n_targets):
    """They are part of the last layer: the model gives the targets' units, also inside and around a Pipeline."""
    X = rng.normal(3, 2, (80, 4))
    y = X[:, :n_targets] * [30, 5][:n_targets] + 1000
    last = MLPRegressor(hidden_layer_sizes=(6,), activation="tanh", max_iter=20, random_state=0)
    both = make_pipeline(MinMaxScaler((-1, 2)), RobustScaler())
    for fitted in (
        TransformedTargetRegressor(last, transformer=StandardScaler()),
        make_pipeline(StandardScaler(), TransformedTargetRegressor(last, transformer=both)),
        TransformedTargetRegressor(make_pipeline(StandardScaler(), last), transformer=MaxAbsScaler()),
        TransformedTargetRegressor(TransformedTargetRegressor(last, transformer=StandardScaler()), transformer=both),
        TransformedTargetRegressor(last),
    ):
        fitted.fit(X, y if n_targets > 1 else y[:, 0])
        same(fastnn.from_sklearn(fitted), fitted, X, 1e-12)


def test_targets_that_a_model_cannot_scale():
    X = np.abs(rng.normal(3, 2, (80, 4)))
    last = MLPRegressor(hidden_layer_sizes=(6,), max_iter=5, random_state=0)
    logs = TransformedTargetRegressor(last, func=np.log, inverse_func=np.exp).fit(X, X[:, 0])
    expected = r"got a TransformedTargetRegressor: a model has no exponential of its outputs; fastnn.export takes it"
    with pytest.raises(ValueError, match=expected):
        fastnn.from_sklearn(logs)
    last.set_params(loss="poisson")
    counts = TransformedTargetRegressor(last, transformer=MaxAbsScaler()).fit(X, X[:, 0])
    with pytest.raises(ValueError, match=r"got 'regressor' \(MLPRegressor\): its outputs must be numbers of any size"):
        fastnn.from_sklearn(counts)


def test_names_of_columns():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    X, y = data("iris", "float64")
    frame = pandas.DataFrame(X, columns=["a", "b", "c", "d"])
    for fitted in (
        make_pipeline(StandardScaler(), MLPClassifier(5, max_iter=5, random_state=0)).fit(frame, y),
        MLPClassifier(5, max_iter=5, random_state=0).fit(frame, y),
    ):
        model = fastnn.from_sklearn(fitted)
        assert model.feature_names == ("a", "b", "c", "d")
        np.testing.assert_allclose(model.predict(frame), fitted.predict_proba(frame), 0, 1e-12)
        with pytest.raises(ValueError, match="X must have the columns of the frame that trained first"):
            model.predict(frame[["d", "b", "a", "c"]])


def test_what_is_refused():
    X, y = rng.normal(size=(40, 3)), rng.integers(0, 3, 40)
    last = MLPClassifier(4, max_iter=5, random_state=0)
    encoder = ColumnTransformer([("encode", OneHotEncoder(), [0])], remainder="passthrough")
    codes = np.column_stack([y, X])
    expected = "a pipeline must have steps that fastnn has, got "
    other = "a model has scalers alone; fastnn.export takes a pipeline, fastnn.TabularClassifier reads tables"
    for fitted, told in (
        (
            make_pipeline(encoder, last).fit(codes, y),
            rf"'columntransformer' \(ColumnTransformer\): {other}",
        ),
        (
            Pipeline([("first", Pipeline([("code", OneHotEncoder())])), ("last", last)]).fit(codes[:, :1], y),
            r"'first.code' \(OneHotEncoder\): a model has scalers alone",
        ),
        (
            make_pipeline(MinMaxScaler(clip=True), last).fit(X, y),
            r"'minmaxscaler' \(MinMaxScaler\): clip must be False, because a model does not clip its inputs",
        ),
        (
            make_pipeline(StandardScaler(), DecisionTreeClassifier()).fit(X, y),
            r"'decisiontreeclassifier' \(DecisionTreeClassifier\): the last step must be an MLPClassifier or",
        ),
        (
            make_pipeline(fastnn.MLPEnsembleClassifier(2, max_iter=2, random_state=0)).fit(X, y),
            r"'mlpensembleclassifier' \(MLPEnsembleClassifier\): the last step must be an MLPClassifier or",
        ),
        (make_pipeline(StandardScaler(), MLPClassifier()), r"'standardscaler' \(StandardScaler\): This StandardScaler"),
        (MLPClassifier(), "a MLPClassifier: This MLPClassifier instance is not fitted yet"),
        (
            make_pipeline(StandardScaler().fit(X[:, :2]), copy.deepcopy(last).fit(X, y)),
            r"'standardscaler' \(StandardScaler\): it reads 2 numbers, where there are 3",
        ),
    ):
        with pytest.raises(ValueError, match=expected + told):
            fastnn.from_sklearn(fitted)
    for wrong in (DecisionTreeClassifier().fit(X, y), "net.pkl", fastnn.Model([2, 1])):
        with pytest.raises(
            TypeError, match="fitted must be a Pipeline, a TransformedTargetRegressor or an MLP of scikit-learn, got"
        ):
            fastnn.from_sklearn(wrong)
    fitted = make_pipeline(StandardScaler(), last).fit(X, y)
    with pytest.raises(
        TypeError, match=r"fitted must be scikit-learn's MLPClassifier, got Pipeline\((?s:.*)from_sklearn"
    ):
        fastnn.MLPClassifier.from_sklearn(fitted)
    with pytest.raises(TypeError, match="fitted must be scikit-learn's MLPRegressor, got MLPClassifier"):
        fastnn.MLPRegressor.from_sklearn(fitted[-1])
    with pytest.raises(ValueError, match="loss 'poisson' "):
        fastnn.from_sklearn(fitted, loss="poisson")


def test_parameters_that_are_not_finite():
    X, y = rng.normal(size=(40, 3)), rng.integers(0, 3, 40)
    fitted = make_pipeline(StandardScaler(), MLPClassifier(4, max_iter=5, random_state=0)).fit(X, y)
    fitted[0].mean_[1] = np.nan
    with pytest.raises(ValueError, match=r"'standardscaler' \(StandardScaler\): what it has learnt must be finite"):
        fastnn.from_sklearn(fitted)
    fitted[0].mean_[1] = 0
    fitted[1].coefs_[0][0, 0] = np.inf
    with pytest.raises(ValueError, match=r"'mlpclassifier' \(MLPClassifier\): its parameters must be finite"):
        fastnn.from_sklearn(fitted)
