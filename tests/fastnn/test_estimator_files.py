"""Files of estimators: what comes back is what was saved, bit for bit, and all else gives a clear error."""

import copy
import json
import os
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import sklearn.neural_network as originals
from safetensors import safe_open
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import fastnn
from fastnn.files.population_file import halves, whole

from ..cases import name_of
from .test_storage import REMOVED, rewrite

X = np.random.default_rng(0).normal(size=(60, 4))
Y = X[:, 0] - X[:, 1] ** 2
DIGITS = np.arange(60) % 3
LABELS = (np.arange(60)[:, None] % [2, 3, 5] == 0).astype(int)
SMALL = {"hidden_layer_sizes": (5,), "max_iter": 3, "random_state": 0}
FIT = [
    *("loss_", "best_loss_", "loss_curve_", "validation_scores_", "best_validation_score_", "t_", "n_iter_"),
    *("n_layers_", "n_outputs_", "out_activation_", "coefs_", "intercepts_", "_no_improvement_count"),
    *("classes_", "n_features_in_", "feature_names_in_", "stopped_by_", "validation_loss_curve_"),
]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "estimator.safetensors"


def quiet(method, *data, **options):
    """What a method gives, without its warnings of few epochs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return method(*data, **options)


def fitted(kind, *data, **parameters):
    return quiet(
        kind(**SMALL | parameters).fit, *data or ((X, Y) if issubclass(kind, fastnn.MLPRegressor) else (X, DIGITS))
    )


def loaded(estimator, path, **options):
    estimator.save(path)
    return fastnn.load(path, **options)


def text(value):
    """A value with its types and all its digits."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype.str} {value.shape} {value.tolist() if value.dtype == object else value.tobytes()}"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__} {[text(each) for each in value]}"
    if isinstance(value, np.random.RandomState):
        return str([text(each) for each in value.get_state()])
    return f"{type(value).__name__} {value!r}"


def check_same(got, want, rows=X):
    """Raise unless two estimators have the same parameters, attributes and predictions, bit for bit."""
    assert type(got) is type(want)
    mine, theirs = got.get_params(deep=False), want.get_params(deep=False)
    assert {name: text(value) for name, value in mine.items()} == {name: text(value) for name, value in theirs.items()}
    for name in FIT:
        assert hasattr(got, name) == hasattr(want, name), name
        assert text(getattr(got, name, None)) == text(getattr(want, name, None)), name
    for method in ("predict", "predict_proba", "predict_log_proba"):
        if hasattr(want, method):
            assert text(getattr(got, method)(rows)) == text(getattr(want, method)(rows))


# ---- what comes back ----

C, R = fastnn.MLPClassifier, fastnn.MLPRegressor
CASES = [
    *((C, {"solver": solver}) for solver in ("adam", "sgd", "lbfgs", "nadam", "sgd")),
    (C, {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": np.float32(0.01), "momentum": 1.0}),
    (R, {"solver": "sgd", "learning_rate": "adaptive", "tol": 10.0, "n_iter_no_change": 1, "max_iter": 8}),
    (R, {"solver": "sgd", "learning_rate": fastnn.StepDecay(0.01, 2), "clip_norm": 0.5, "nesterovs_momentum": False}),
    (C, {"epsilon": 1e-35, "beta_1": np.float64(0.8), "clip_value": 0.1, "dropout": [0.5], "alpha": np.float16(0.1)}),
    (C, {"solver": fastnn.AdamW(fastnn.CosineDecay(0.01, 9), weight_decay=0.1), "dropout": 0.3, "l1": 0.01}),
    (R, {"learning_rate": fastnn.OneCycle(0.01, 100), "loss": fastnn.Huber(0.7), "max_norm": 2, "max_time": 100.0}),
    (R, {"loss": fastnn.Quantile(0.9), "hidden_layer_sizes": np.array([5, 4]), "activation": ("gelu", "tanh")}),
    (R, {"loss": "squared_error", "n_iter_no_change": np.inf, "verbose": False, "batch_size": 7, "threads": 1}),
    (C, {"activation": ["tanh"], "hidden_layer_sizes": 5, "shuffle": False, "callbacks": [], "scoring": "accuracy"}),
    (C, {"early_stopping": True, "validation_fraction": 0.2, "random_state": 2**32 - 1}),
    (C, {"random_state": np.random.RandomState(3), "warm_start": True}),
]


@pytest.mark.parametrize(("kind", "parameters"), CASES, ids=name_of)
def test_an_estimator_comes_back_and_goes_on(kind, parameters, path):
    """partial_fit and a warm-started fit of what was loaded give the bits of what was never saved."""
    made = fitted(kind, **copy.deepcopy(parameters))
    y = Y if kind is R else DIGITS
    quiet(made.fit, X, y)  # a shared generator is not where it began
    found = loaded(made, path)
    check_same(found, made)
    assert text(found.score(X, y)) == text(made.score(X, y))
    again = loaded(pickle.loads(pickle.dumps(found)), path)
    check_same(again, made)
    if made.solver != "lbfgs" and not made.early_stopping:
        for each in (made, found, again):
            for rows in (slice(0, 30), slice(7, 60), slice(0, 30)):
                quiet(each.partial_fit, X[rows], y[rows])
        check_same(found, made)
        check_same(again, made)
        found = loaded(made, path)
    for each in (made, found):
        quiet(each.set_params(warm_start=True).fit, X, y)
    check_same(found, made)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_dtype_comes_back(dtype, path):
    made = fitted(C, X.astype(dtype), DIGITS)
    found = loaded(made, path)
    check_same(found, made, X.astype(dtype))
    assert found.coefs_[0].dtype == found.predict_proba(X.astype(dtype)).dtype == dtype
    assert found.predict_proba(X).dtype == np.float64
    if dtype == "float32":
        for each in (made, found):  # what the coefficients are, not what X was
            each.coefs_ = [w.astype("f8") for w in each.coefs_]
            each.intercepts_ = [b.astype("f8") for b in each.intercepts_]
        found = loaded(found, path)
        for each in (made, found):
            each.partial_fit(X, DIGITS)
        check_same(found, made)


BIG = np.array([2**62 + 1, 2**62 + 3, -(2**63)])
CLASSES = {
    **{name: np.array([0, 1, 5], name) for name in ("int8", "uint8", "int16", ">i4", "float16", "float32", "float64")},
    "int64": BIG,
    "uint64": np.array([2**64 - 1, 2**63 + 1, 0], "uint64"),
    "bool": np.array([False, True, True]),
    "text": np.array(["b", "ä\u4e2d", ""], "<U9"),
    "object": np.array(["b", "a long one", "\U0001f600"], object),
    "dates": np.array(["2024-01-01", "1900-05-05", "2100-12-31"], "M8[D]"),
    "one class": np.array(["x", "x", "x"]),
    "two classes": np.array([7, -7, 7]),
}


@pytest.mark.parametrize("form", CLASSES)
def test_classes_of_any_dtype(form, path):
    labels = CLASSES[form][DIGITS]
    made = fitted(C, X, labels)
    found = loaded(made, path)
    check_same(found, made)
    if form not in ("text", "object"):  # of which scikit-learn's MLP makes the narrowest strings
        assert found.classes_.dtype == labels.dtype
    assert set(found.classes_.tolist()) == set(labels.tolist())
    assert set(found.predict(X).tolist()) <= set(labels.tolist())
    for each in (made, found):
        each.partial_fit(X, labels)
    check_same(found, made)
    if len(set(labels.tolist())) > 1:
        ensemble = fitted(fastnn.MLPEnsembleClassifier, X, labels, n_estimators=2)
        check_same(loaded(ensemble, path), ensemble)
        assert ensemble.classes_.dtype == labels.dtype


def test_classes_that_only_partial_fit_knew(path):
    made = C((5,), random_state=0)
    made.partial_fit(X, DIGITS, classes=[0, 1, 2, 9])
    found = loaded(made, path)
    assert found.classes_.tolist() == [0, 1, 2, 9]
    for each in (made, found):
        each.partial_fit(X, np.where(DIGITS == 1, 9, 0))
    check_same(found, made)


@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_matrix])
@pytest.mark.parametrize("n", [2, 3])
def test_several_labels(form, n, path):
    made = fitted(C, X, form(LABELS[:, :n]))
    found = loaded(made, path)
    assert scipy.sparse.issparse(found.predict(X)) == scipy.sparse.issparse(made.predict(X))
    dense = [
        each.predict(X).toarray() if scipy.sparse.issparse(each.predict(X)) else each.predict(X)
        for each in (found, made)
    ]
    assert text(dense[0]) == text(dense[1])
    assert text(found.predict_proba(X)) == text(made.predict_proba(X))
    for each in (made, found):
        each.partial_fit(X, form(LABELS[:, :n]))
    assert text(found.coefs_) == text(made.coefs_)


def test_several_targets(path):
    made = fitted(R, X, X[:, :2])
    check_same(loaded(made, path), made)


def test_early_stopping_goes_on_from_the_best_epoch(path):
    """The best coefficients are those of before, the same arrays or others."""
    made = fitted(C, early_stopping=True, max_iter=30, warm_start=True, n_iter_no_change=2)
    found = loaded(made, path)
    for each in (made, found):
        each.best_validation_score_ = 1.0  # so no epoch is better, and the best coefficients stay
        quiet(each.fit, X, DIGITS)
    check_same(found, made)
    for each in (made, found):
        each.coefs_, each.intercepts_ = [w + 1 for w in each.coefs_], [b + 1 for b in each.intercepts_]
    other = loaded(found, path)
    assert text(other._best_coefs) == text([np.array(w) for w in made._best_coefs])
    assert text(other._best_intercepts) == text(made._best_intercepts)
    for each in (made, found, other):
        quiet(each.fit, X, DIGITS)
    check_same(found, made)
    check_same(other, made)


def test_functions_of_the_users_by_their_names(path):
    double = fastnn.Activation(lambda z: 2.0 * z, lambda z: 2.0, name="double")
    same = fastnn.Activation(lambda z: 1.0 * z, lambda z: 1.0, name="same")
    square = fastnn.Loss(lambda a, y: (a - y) ** 2, lambda a, y: 2 * (a - y), name="square")
    custom = {"double": double, "same": same, "square": square}
    made = fitted(R, activation=[double, same], hidden_layer_sizes=(5, 4), loss=square)
    made.save(path)
    found = fastnn.load(path, custom=custom)
    check_same(found, made)
    for each in (made, found):
        each.partial_fit(X, Y)
    check_same(found, made)
    with pytest.raises(ValueError, match="custom must map 'same' to the Activation that the model uses, got None"):
        fastnn.load(path, custom={"double": double, "square": square})
    made.set_params(activation=[fastnn.Activation(lambda z: z, lambda z: 1.0, name="double"), double])
    with pytest.raises(ValueError, match="they must differ, got 'double' for two"):
        made.save(path)
    ensemble = fitted(fastnn.MLPEnsembleRegressor, X, Y, n_estimators=2, activation=double, loss=square)
    check_same(loaded(ensemble, path, custom=custom), ensemble)
    ensemble.set_params(activation=same)  # a file names both
    check_same(loaded(ensemble, path, custom=custom), ensemble)


def test_parameters_that_were_set_after_the_fit(path):
    """They come back too, and the optimizer goes on as it was set in the last fit."""
    made = fitted(C, solver="sgd", momentum=0.5)
    made.set_params(solver="adam", momentum=0.25, max_iter=np.int32(7), alpha=0.5, hidden_layer_sizes=[5])
    found = loaded(made, path)
    check_same(found, made)
    for each in (made, found):
        each.partial_fit(X, DIGITS)
    check_same(found, made)
    assert found._optimizer.momentum == 0.5


def test_the_optimizer_is_kept_over_a_fit_with_lbfgs(path):
    made = fitted(C)
    quiet(made.set_params(solver="lbfgs", warm_start=True).fit, X, DIGITS)
    made.set_params(solver="adam", warm_start=False)
    found = loaded(made, path)
    for each in (made, found):
        each.partial_fit(X, DIGITS)
    check_same(found, made)


def test_one_of_scikit_learns_goes_on(path):
    theirs = quiet(originals.MLPClassifier(**SMALL).fit, X, DIGITS)
    made = C.from_sklearn(theirs)
    found = loaded(made, path)
    for each in (made, found):
        each.partial_fit(X, DIGITS)
    check_same(found, made)
    theirs.partial_fit(X, DIGITS)
    np.testing.assert_allclose(found.to_sklearn().coefs_[0], theirs.coefs_[0], rtol=1e-9)


def test_without_the_optimizer(path):
    """The file is smaller, and partial_fit begins with a fresh optimizer."""
    made = fitted(C)
    made.save(path)
    size = path.stat().st_size
    made.save(path, optimizer=False)
    found = fastnn.load(path)
    check_same(found, made)
    assert path.stat().st_size < size - 2 * 8 * sum(w.size for w in made.coefs_)
    del made._optimizer
    for each in (made, found):
        each.partial_fit(X, DIGITS)
    check_same(found, made)
    with pytest.raises(TypeError, match="optimizer must be True or False, got 1"):
        made.save(path, optimizer=1)


def test_in_another_process(path):
    made = fitted(C, pd.DataFrame(X, columns=list("dcba")), np.array(["x", "yes", "zz"])[DIGITS])
    made.save(path)
    source = f"""if True:
        import sys
        import numpy as np
        import fastnn
        assert "sklearn" not in sys.modules
        X = np.frombuffer(sys.stdin.buffer.read()).reshape(60, 4)
        made = fastnn.load({str(path)!r})
        made.feature_names_in_.tolist() == list("dcba") or sys.exit("names")
        del made.feature_names_in_
        sys.stdout.buffer.write(made.predict_proba(X).tobytes() + "".join(made.predict(X)).encode())
    """
    done = subprocess.run([sys.executable, "-c", source], input=X.tobytes(), capture_output=True, check=True)
    frame = pd.DataFrame(X, columns=list("dcba"))
    assert done.stdout == made.predict_proba(frame).tobytes() + "".join(made.predict(frame)).encode()


# ---- names of features ----


def frames():
    """A frame, and others that do not go with it."""
    frame = pd.DataFrame(X, columns=["a", "b", "ä", "d"])
    yield frame
    yield frame[["b", "a", "ä", "d"]]
    yield frame.assign(e=1.0)
    yield frame[["a", "b", "ä"]]
    yield frame.rename(columns={"a": "A"})


@pytest.mark.parametrize("kind", [C, R, fastnn.MLPEnsembleClassifier, fastnn.MLPEnsembleRegressor])
def test_columns_in_another_order_are_refused(kind, path):
    """As in scikit-learn, after load too."""
    right, *wrong = frames()
    original = originals.MLPRegressor if kind is R else originals.MLPClassifier
    theirs = quiet(original(**SMALL).fit, right, DIGITS)
    made = fitted(kind, right, DIGITS)
    found = loaded(made, path)
    assert text(found.feature_names_in_) == text(theirs.feature_names_in_)
    check_same(found, made, right)
    for each in (made, found, theirs):
        for other in wrong:
            with pytest.raises(ValueError, match="The feature names should match those that were passed during fit"):
                each.predict(other)
        if hasattr(each, "partial_fit"):
            with pytest.raises(ValueError, match="The feature names should match"):
                each.partial_fit(wrong[0], DIGITS)
        with pytest.warns(UserWarning, match="X does not have valid feature names"):
            each.predict(X)


def test_a_model_refuses_columns_in_another_order(path):
    right, *wrong = frames()
    made = fastnn.Model([4, 3], rng=0)
    made.fit(right, DIGITS, epochs=1, batch_size=20)
    found = loaded(made, path)
    np.testing.assert_array_equal(found.predict(right), made.predict(right))
    for each in (made, found):
        for other in wrong:
            with pytest.raises(ValueError, match="X must have the columns of the frame that trained first"):
                each.predict(other)


# ---- ensembles ----


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        (fastnn.MLPEnsembleClassifier, {"bootstrap": True, "solver": fastnn.Adam(fastnn.StepDecay(0.01, 2))}),
        (fastnn.MLPEnsembleClassifier, {"early_stopping": True, "max_iter": 20, "n_iter_no_change": 2}),
        (fastnn.MLPEnsembleRegressor, {"loss": "gaussian", "solver": "sgd", "max_norm": np.float32(0.7)}),
        (fastnn.MLPEnsembleRegressor, {"loss": fastnn.Huber(0.5), "activation": ["gelu"], "dropout": (0.1,)}),
        (fastnn.MLPEnsembleRegressor, {"solver": fastnn.Adam(np.array([0.1, 0.2, 0.3]))}),
    ],
    ids=str,
)
def test_an_ensemble_comes_back(kind, parameters, path):
    made = fitted(kind, X, DIGITS, n_estimators=3, **parameters)
    found = loaded(made, path)
    check_same(found, made)
    if kind is fastnn.MLPEnsembleRegressor:
        assert text(found.predict(X, return_std=True)) == text(made.predict(X, return_std=True))
    for name in ("loss", "val_loss", "epochs", "status", "best_epoch"):
        assert text(getattr(found.history_, name)) == text(getattr(made.history_, name))
    named = {"adam": fastnn.Adam(), "sgd": fastnn.Momentum(0.001, nesterov=True)}
    for each in (made, found):  # with an equal optimizer the networks go on from its state
        each.population_.fit(X, DIGITS, epochs=1, optimizer=named.get(made.solver, made.solver), batch_size=20)
    assert text(found.population_.vectors) == text(made.population_.vectors)


def test_an_ensemble_of_several_targets(path):
    for y in (X[:, :2], X[:, :1].ravel()):
        made = fitted(fastnn.MLPEnsembleRegressor, X, y, n_estimators=2, loss="gaussian")
        check_same(loaded(made, path), made)


def test_an_ensemble_without_members_that_diverged(path):
    made = fitted(fastnn.MLPEnsembleRegressor, X, Y, n_estimators=3, solver=fastnn.SGD(np.array([1e30, 0.01, 0.01])))
    assert (len(made.population_), len(made.history_)) == (2, 3)
    found = loaded(made, path)
    check_same(found, made)
    assert text(found.history_.loss) == text(made.history_.loss)


def test_an_ensemble_whose_fit_was_interrupted(path):
    made = fitted(fastnn.MLPEnsembleClassifier, X, DIGITS, n_estimators=2)
    made.history_ = None
    del made.n_iter_
    found = loaded(made, path)
    assert found.history_ is None
    check_same(found, made)


def test_numbers_of_64_bits_in_halves():
    numbers = np.array([[0, 1, 2**32, 2**63, 2**64 - 1]], np.uint64)
    found = halves(numbers)
    assert found.tolist() == [[0, 0, 1, 2**31, 2**32 - 1, 0, 1, 0, 0, 2**32 - 1]]
    assert text(whole("x", found)) == text(numbers)


# ---- what is not saved ----

UNSAVED = [
    (C, {"callbacks": [print]}, TypeError, "callbacks must hold numbers, .* no functions of Python, got <built-in"),
    (C, {"scoring": lambda e, X, y: 0.0}, TypeError, "scoring must hold"),
    (C, {"learning_rate": lambda epoch: 0.1}, TypeError, "learning_rate must hold"),
    (C, {"solver": fastnn.Adam(lambda epoch: 0.1)}, TypeError, "solver must hold .*, got Adam"),
    (C, {"random_state": np.random.RandomState(np.random.PCG64(0))}, TypeError, "random_state must hold"),
    (C, {"alpha": -1.0}, ValueError, "The 'alpha' parameter of MLPClassifier must be"),
    (R, {"loss": "hinge"}, ValueError, "The 'loss' parameter of MLPRegressor must be"),
    (R, {"activation": ["relu", "relu"]}, ValueError, "activation must be one, or one a hidden layer, 1"),
    (fastnn.MLPEnsembleClassifier, {"solver": fastnn.SGD(lambda epoch: 0.1)}, TypeError, "solver must hold"),
    (fastnn.MLPEnsembleRegressor, {"n_estimators": 0}, ValueError, "The 'n_estimators' parameter"),
]


@pytest.mark.parametrize(("kind", "parameters", "error", "message"), UNSAVED, ids=lambda value: name_of(value)[:40])
def test_parameters_that_no_file_holds(kind, parameters, error, message, path):
    """They are refused before anything is written."""
    made = fitted(kind)
    made.save(path)
    before = path.read_bytes()
    made.set_params(**parameters)
    with pytest.raises(error, match=message):
        made.save(path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_function_of_the_last_fit(path):
    made = fitted(C, learning_rate=lambda epoch: 0.1)
    made.set_params(learning_rate="constant")
    with pytest.raises(TypeError, match="learning_rate of the last fit must hold numbers"):
        made.save(path)
    made.save(path, optimizer=False)
    check_same(fastnn.load(path), made)


class Own(C):
    """A class of a user's."""


def change(name, value):
    """A function that sets an attribute."""
    return lambda estimator: setattr(estimator, name, value)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda e: e.set_callbacks(object()), ValueError, "set_callbacks must have none to be saved"),
        (lambda e: setattr(e, "__class__", Own), TypeError, "must be of fastnn's own class to be saved, got Own"),
        (lambda e: e.coefs_[0].fill(np.nan), ValueError, "must be finite to be saved, got layers.0.weight"),
        (change("coefs_", [np.ones((4, 5), "longdouble"), np.ones((5, 3))]), ValueError, "coefs_ must be of float64"),
        (change("coefs_", [np.ones((4, 5))]), ValueError, "coefs_ and intercepts_ must have an array a layer"),
        (
            change("classes_", np.arange(4)),
            ValueError,
            "4 classes of multiclass targets must have outputs of their own",
        ),
        (change("classes_", np.array([2, 1, 0])), ValueError, "classes_ must be sorted labels, all different"),
        (change("classes_", np.array([None, 1, 2])), TypeError, "classes_ must be"),
        (change("n_iter_", "3"), TypeError, "n_iter_ must be an integer, got '3'"),
        (change("loss_curve_", [object()]), TypeError, "loss_curve_ must hold"),
    ],
)
def test_estimators_that_no_file_holds(change, error, message, path):
    made = fitted(C)
    if "set_callbacks" in message:
        made._skl_callbacks = [object()]
    else:
        change(made)
    with pytest.raises(error, match=message):
        made.save(path)
    assert not os.listdir(path.parent)


@pytest.mark.parametrize("kind", [C, R, fastnn.MLPEnsembleClassifier, fastnn.MLPEnsembleRegressor])
def test_an_estimator_that_is_not_fitted(kind, path):
    made = fitted(kind)
    for each in (kind(), clone(made), kind(random_state=np.random.PCG64(0))):
        with pytest.raises(NotFittedError, match=f"This {kind.__name__} instance is not fitted yet"):
            each.save(path)
    assert not os.listdir(path.parent)
    with pytest.raises(ValueError, match=r"path must not end in '.pkl'"):
        made.save(path.with_suffix(".pkl"))
    with pytest.raises(ValueError, match=r"path must not end in '.h', C format, .*`export` writes such a file"):
        made.save(path.with_suffix(".h"))
    with pytest.raises(TypeError, match="path must be a string or a path object, got None"):
        made.save(None)


# ---- files that were changed ----


def description(path):
    with safe_open(path, "numpy") as file:
        return json.loads(file.metadata()["model"])


def edited(found, *keys, value):
    """A description with another value behind keys."""
    found = copy.deepcopy(found)
    place = found
    for key in keys[:-1]:
        place = place[key]
    if value is REMOVED:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    return found


ARRAY = {"dtype": "<i8", "shape": [3], "values": [0, 1, 2]}
P, A, S = (("estimator", part) for part in ("parameters", "attributes", "solver"))
CHANGES = [
    (("estimator",), [], "an estimator|list indices"),
    (("estimator", "kind"), "Model", "kind must be one of 'MLPClassifier'"),
    (("estimator", "kind"), "MLPRegressor", "MLPRegressor must have the parameters"),
    (("estimator", "kind"), "MLPEnsembleClassifier", "MLPEnsembleClassifier must have the parameters"),
    (("estimator", "more"), 1, "an estimator must have"),
    (P, [], "parameters must be values by name"),
    ((*P, "alpha"), REMOVED, "MLPClassifier must have the parameters"),
    ((*P, "colour"), 1, "MLPClassifier must have the parameters"),
    ((*P, "alpha"), "0.1", "The 'alpha' parameter of MLPClassifier must be"),
    ((*P, "alpha"), {"float": "nan"}, "The 'alpha' parameter of MLPClassifier must be"),
    ((*P, "alpha"), {"float": "1.0"}, "alpha must be one of 'nan'"),
    ((*P, "alpha"), {"function": "print"}, "alpha must be a value with one name of"),
    ((*P, "alpha"), {"array": {"dtype": "<f4", "shape": [], "values": [0.1]}}, "alpha must hold values of dtype <f4"),
    ((*P, "alpha"), {"array": {"dtype": "V8", "shape": [], "values": [0.1]}}, "alpha must be an array of numbers"),
    ((*P, "max_iter"), 1.5, "The 'max_iter' parameter"),
    ((*P, "random_state"), -1, "The 'random_state' parameter"),
    ((*P, "random_state"), {"random_state": [[0] * 624, 625, 0, 0.0]}, "random_state must be at most 624, got 625"),
    ((*P, "random_state"), {"random_state": [[0] * 623, 0, 0, 0.0]}, r"random_state must have shape \(624,\)"),
    ((*P, "callbacks"), ["print"], "callbacks must be callables that take the model, got 'print'"),
    ((*P, "activation"), "tanh", "its layers must be those of its parameters"),
    ((*P, "activation"), {"Activation": "mine"}, "custom must map 'mine'"),
    ((*P, "hidden_layer_sizes"), {"tuple": 5}, "hidden_layer_sizes must hold the items of a tuple"),
    ((*P, "solver"), {"settings": {"name": "Model", "settings": {}}}, "name must be one of 'SGD'"),
    ((*P, "solver"), {"settings": {"name": "Adam", "settings": {"learning_rate": -1.0}}}, "learning_rate must be"),
    ((*A, "n_iter_"), REMOVED, r"attributes must have \['n_iter_'\]"),
    ((*A, "n_iter_"), -1, "n_iter_ must be at least 0, got -1"),
    ((*A, "t_"), 2**63, "t_ must be at most"),
    ((*A, "__class__"), 1, "attributes must be one of"),
    ((*A, "coefs_"), [1], "attributes must be one of"),
    ((*A, "loss_curve_"), [1.0, "2"], "loss_curve_ must be a number, got '2'"),
    ((*A, "loss_curve_"), 1.0, "loss_curve_ must be a list of numbers, got 1.0"),
    ((*A, "stopped_by_"), "me", "stopped_by_ must be one of 'tol'"),
    ((*A, "classes_"), REMOVED, r"attributes must have \['classes_'\]"),
    ((*A, "classes_"), [0, 1, 2], "classes_ must be an array of labels"),
    ((*A, "classes_"), {"array": ARRAY | {"shape": [2], "values": [0, 1]}}, "2 classes of multiclass targets"),
    ((*A, "classes_"), {"array": ARRAY | {"values": [0, 1, 1]}}, "classes_ must be sorted labels, all different"),
    ((*A, "classes_"), {"array": ARRAY | {"values": [0, 1]}}, r"classes_ must have shape \(3,\), got 2"),
    ((*A, "classes_"), {"array": ARRAY | {"shape": [3, 1]}}, "classes_ must be an array of labels"),
    ((*A, "classes_"), {"array": ARRAY | {"dtype": "|i1", "values": [0, 1, 300]}}, "out of bounds for int8"),
    ((*A, "classes_"), {"array": ARRAY | {"values": [0, 1, 2.5]}}, "classes_ must hold values of dtype <i8"),
    ((*A, "classes_"), {"array": ARRAY | {"dtype": "<U1", "values": ["a", "b", "cc"]}}, "values of dtype <U1"),
    ((*A, "classes_"), {"array": ARRAY | {"dtype": "<U500000000", "values": ["a", "b", "c"]}}, "bytes at most"),
    ((*A, "classes_"), {"array": ARRAY | {"dtype": "|O", "values": [None, "b", "c"]}}, "numbers or strings, got None"),
    ((*A, "y_type_"), "binary", "3 classes of binary targets must have outputs of their own"),
    ((*A, "y_type_"), "multilabel-indicator", "3 classes of multilabel-indicator targets must have"),
    ((*A, "y_type_"), "continuous", "y_type_ must be one of"),
    ((*A, "sparse_input_"), 1, "sparse_input_ must be True or False, got 1"),
    (S, {}, "the optimizer must be that of the last fit"),
    ((*S, "beta_1"), 0.8, "the optimizer must be that of the last fit"),
    ((*S, "beta_1"), 2.0, "The 'beta_1' parameter"),
    ((*S, "solver"), "lbfgs", "the solver of a file must be stochastic"),
    ((*S, "colour"), 1, "unexpected keyword argument 'colour'"),
    ((*S, "rate"), "1", "rate must be a number, got '1'"),
    ((*S, "t"), -1, "t must be at least 0"),
    (("optimizer", "settings", "beta1"), 0.8, "the optimizer must be that of the last fit"),
    (("optimizer", "numbers"), [2.0] * 7, "must be a number of at most 1"),
    (("layers", 0, "units"), 4, r"layers\.[01]\.\w+ is float64"),
    (("n_inputs",), 3, "layers.0.weight is float64"),
    (("feature_names",), ["a"], "feature_names must name 4 columns, got 1"),
    (("loss",), "quadratic", "its layers must be|output"),
    (("noise",), -1, "noise must be at least 0"),
]


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """(bytes of a classifier's file, its description)."""
    path = tmp_path_factory.mktemp("content") / "a"
    fitted(C).save(path)
    return path.read_bytes(), description(path)


@pytest.mark.parametrize(("keys", "value", "message"), CHANGES, ids=lambda value: name_of(value)[:50])
def test_a_file_that_was_changed(keys, value, message, content, path):
    path.write_bytes(content[0])
    changed = edited(content[1], *keys, value=value)
    assert changed != content[1]
    rewrite(path, model=changed)
    with pytest.raises(ValueError, match=f"path must name a consistent model file, got .*estimator.*({message})"):
        fastnn.load(path)


def test_layers_that_no_estimator_has(content, path):
    fastnn.Model([4, 5, fastnn.Scale(), 3], rng=0).save(path)
    rewrite(path, model={"estimator": content[1]["estimator"] | {"solver": {}}})
    with pytest.raises(ValueError, match="all layers of an estimator must be Dense"):
        fastnn.load(path)


def test_tensors_that_do_not_fit(content, path):
    for tensors, message in [
        ({"layers.0.weight": REMOVED}, "its tensors are"),
        ({"layers.0.weight": np.ones((4, 4))}, "layers.0.weight is float64"),
        ({"best.layers.0.weight": np.ones((5, 4))}, "its tensors are"),
        ({"optimizer.v.layers.0.bias": -np.ones(5)}, "must not be negative"),
    ]:
        path.write_bytes(content[0])
        rewrite(path, tensors=tensors)
        with pytest.raises(ValueError, match=message):
            fastnn.load(path)


@pytest.mark.parametrize(
    ("keys", "value", "tensors", "message"),
    [
        ((*A, "_gaussian"), True, {}, "2 targets|targets of the loss"),
        ((*A, "_one_axis"), REMOVED, {}, r"attributes must have \['_one_axis'\]"),
        (S, {"rate": 1.0}, {}, "an ensemble must have no solver of a last fit"),
        ((*P, "loss"), {"loss": {"name": "huber", "delta": -1.0}}, {}, "delta must be"),
        ((*P, "loss"), "huber", {"history.loss": np.full((2, 6), 0.5)}, "history.loss must hold integers of 32 bits"),
        ((*P, "loss"), "huber", {"history.val_loss": np.zeros((1, 6))}, "history.val_loss is float64"),
        (
            (*P, "loss"),
            "huber",
            {"history.epochs": np.array([4.0, 3.0])},
            r"history.epochs must be integers in \[0, 3\]",
        ),
        ((*P, "loss"), "huber", {"history.status": np.array([1.5, 0])}, "history.status must be integers"),
        ((*P, "loss"), "huber", {"history.status": REMOVED}, "the tensors of a history are"),
    ],
    ids=lambda value: name_of(value)[:50],
)
def test_a_file_of_an_ensemble_that_was_changed(keys, value, tensors, message, path):
    fitted(fastnn.MLPEnsembleRegressor, X, Y, n_estimators=2).save(path)
    changed = edited(description(path), *keys, value=value)
    rewrite(path, model=changed, tensors=tensors)
    with pytest.raises(ValueError, match=f"path must name a consistent model file, got .*({message})"):
        fastnn.load(path)
