"""Estimators whose coefficients, parameters or weights are changed in unusual ways, beside scikit-learn's."""

import copy
import pickle
import sys
import tempfile
import threading
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import sklearn.neural_network as originals
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import StandardScaler

import fastnn

from .test_estimators import attempt, check, pair, samples

set_hypothesis_home_dir(Path(tempfile.gettempdir(), "fastnn-hypothesis"))  # not in the checkout

X = np.random.default_rng(0).normal(size=(60, 4))
Y = X[:, 0].copy()
DIGITS = np.arange(60) % 10


def fitted(estimator, *data, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return estimator.fit(*data, **options)


# ---- what callbacks and threads change while a fit lasts ----


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_callback_that_sets_shuffle(shuffle):
    """The order of the fit is that which it began with."""
    options = {"hidden_layer_sizes": (8,), "max_iter": 200, "random_state": 0, "shuffle": shuffle, "tol": 0.0}
    plain = fitted(fastnn.MLPRegressor(**options, callbacks=[lambda e: None]), X, Y)
    made = fastnn.MLPRegressor(**options, callbacks=[lambda e: e.set_params(shuffle=not shuffle) and None])
    fitted(made, X, Y)
    assert made.loss_curve_ == plain.loss_curve_
    assert made.shuffle is not shuffle


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize(
    "changed",
    [
        {"batch_size": 1},
        {"early_stopping": True},
        {"early_stopping": False},
        {"max_iter": 10**19},
        {"warm_start": True},
        {"random_state": 3},
        {"learning_rate_init": 1e9},
        {"alpha": 1e9},
        {"hidden_layer_sizes": (1, 2, 3)},
        {"solver": "lbfgs"},
        {"callbacks": None},
        {"progress": True},
        {"threads": 1},
        {"dropout": 0.9},
    ],
    ids=str,
)
def test_a_fit_goes_on_with_the_parameters_that_it_began_with(changed, early_stopping):
    options = {"hidden_layer_sizes": (8,), "max_iter": 30, "random_state": 0, "tol": 0.0}
    options["early_stopping"] = early_stopping
    plain = fitted(fastnn.MLPRegressor(**options, callbacks=[lambda e: None]), X, Y)
    made = fitted(fastnn.MLPRegressor(**options, callbacks=[lambda e: e.set_params(**changed) and None]), X, Y)
    assert made.loss_curve_ == plain.loss_curve_
    for name, value in changed.items():
        assert getattr(made, name) == value
    for got, want in zip(made.coefs_, plain.coefs_, strict=True):
        np.testing.assert_array_equal(got, want)


def test_a_callback_may_set_when_the_fit_stops():
    """tol and n_iter_no_change are read after each epoch, as in scikit-learn."""

    def later(estimator):
        if estimator.n_iter_ == 5:
            estimator.set_params(n_iter_no_change=3, tol=1e9)

    made = fitted(fastnn.MLPRegressor(hidden_layer_sizes=(8,), max_iter=200, tol=0.0, callbacks=[later]), X, Y)
    assert (made.stopped_by_, made.n_iter_) == ("tol", 9)  # 4 epochs without improvement are more than 3


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_callback_that_trains_the_estimator(method):
    def again(estimator):
        getattr(estimator.set_params(solver="sgd"), method)(X, Y)

    with pytest.raises(RuntimeError, match="while it is being trained"):
        fastnn.MLPRegressor(hidden_layer_sizes=(8,), callbacks=[again]).fit(X, Y)


def test_a_callback_that_leaves_coefficients_of_another_shape():
    def change(estimator):
        estimator.coefs_[-1], estimator.intercepts_[-1] = np.ones((8, 3)), np.ones(3)

    made = fastnn.MLPRegressor(hidden_layer_sizes=(8,), callbacks=[change])
    with pytest.raises(ValueError, match="coefs_ must keep their shapes"):
        made.fit(X, Y)
    assert [w.shape for w in made.coefs_] == [(4, 8), (8, 1)]
    assert np.isfinite(made.predict(X)).all()


def test_threads_that_train_one_estimator_on_other_data():
    """They have results or errors."""
    made, allowed, wrong = fastnn.MLPClassifier((8,), max_iter=3, random_state=0), [], []
    interval, ended = sys.getswitchinterval(), threading.Event()
    jobs = [
        lambda: made.fit(X, DIGITS),
        lambda: made.fit(X[:, :3], DIGITS % 3),
        lambda: made.partial_fit(X, DIGITS),
        lambda: made.predict_proba(X),
        lambda: made.predict(X[:, :3]),
    ]

    def go(job):
        for _ in range(40):
            if ended.is_set():
                return
            try:
                job()
            except (ValueError, RuntimeError, AttributeError, IndexError, TypeError) as error:
                allowed.append(error)
            except BaseException as error:
                wrong.append(error)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sys.setswitchinterval(1e-6)
        try:
            threads = [threading.Thread(target=go, args=(job,)) for job in jobs]
            [t.start() for t in threads]
            [t.join() for t in threads]
        finally:
            sys.setswitchinterval(interval)
            ended.set()
        assert wrong == []
        made.fit(X, DIGITS)
        want = fitted(fastnn.MLPClassifier((8,), max_iter=3, random_state=0), X, DIGITS)
    np.testing.assert_array_equal(made.predict_proba(X), want.predict_proba(X))


# ---- coefficients that are not those of the samples ----


def fewer_outputs(e):
    e.coefs_[-1], e.intercepts_[-1] = np.zeros((8, 2)), np.zeros(2)


def more_classes(e):
    e._label_binarizer.classes_ = e.classes_ = np.arange(12)


def other_inputs(e):
    e.coefs_[0] = np.zeros((3, 8))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (fewer_outputs, r"y must have 2 outputs, as coefs_\[-1\] has columns, got 10"),
        (more_classes, r"y must have 10 outputs, as coefs_\[-1\] has columns, got 12"),
        (other_inputs, r"X must have 3 features, as coefs_\[0\] has rows, got 4"),
    ],
)
def test_coefficients_that_are_not_for_the_samples(change, message):
    made = fitted(fastnn.MLPClassifier((8,), max_iter=5), X, DIGITS)
    change(made)
    before = dict(vars(made))
    for _ in range(3):
        with pytest.raises(ValueError, match=message):
            made.partial_fit(X, DIGITS)
    after = dict(vars(made))
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in after if name != "_random_state")


def test_samples_of_another_width_than_the_coefficients():
    made = fitted(fastnn.MLPRegressor(hidden_layer_sizes=(8,), max_iter=5), X, Y)
    made.n_features_in_ = 3
    with pytest.raises(ValueError, match=r"X must have 4 features, as coefs_\[0\] has rows, got shape \(60, 3\)"):
        made.predict(X[:, :3])


@pytest.mark.parametrize("shape", [(1, 1), (4, 1), (8,), (0, 1), (8, 1, 1)])
def test_coefficients_are_not_broadcast(shape):
    mine, theirs = (
        fitted(module.MLPRegressor(hidden_layer_sizes=(8,), max_iter=5), X, Y) for module in (fastnn, originals)
    )
    mine.coefs_[1], theirs.coefs_[1] = np.ones(shape), np.ones(shape)
    if shape not in ((8,), (8, 1, 1)):
        with pytest.raises(ValueError, match="mismatch"):
            theirs.predict(X)
    with pytest.raises(ValueError, match=r"coefs_\[1\] must have shape \(8, n\), got shape"):
        mine.predict(X)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_another_number_of_targets(method):
    made = fitted(fastnn.MLPRegressor(hidden_layer_sizes=(8,), max_iter=5, warm_start=True), X, Y)
    with pytest.raises(ValueError, match=r"y must have 1 outputs, as .* got 3"):
        getattr(made, method)(X, np.tile(Y[:, None], 3))
    assert made.n_outputs_ == 1


@pytest.mark.parametrize(("solver", "sizes"), [("adam", (8, 4)), ("sgd", ()), ("lbfgs", (9,))])
def test_a_warm_start_with_other_hidden_layers(solver, sizes):
    """scikit-learn raises for these too, some error."""
    for module in (fastnn, originals):
        made = fitted(module.MLPRegressor(hidden_layer_sizes=(8,), max_iter=5, warm_start=True), X, Y)
        made.set_params(solver=solver, hidden_layer_sizes=sizes)
        message = r"hidden_layer_sizes must be those of coefs_, \[8\]" if module is fastnn else None
        with pytest.raises((TypeError, ValueError, AttributeError, IndexError), match=message):
            fitted(made, X, Y)


# ---- coefficients of any type ----

TYPES = ("f2", "f4", "f8", "int8", "bool", "longdouble")
CONTAINERS = {"csr": scipy.sparse.csr_array, "list": lambda w: w.tolist(), "fortran": np.asfortranarray}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("samples_dtype", ["f4", "f8"])
def test_coefficients_of_any_type_predict(dtype, solver, samples_dtype):
    given = X.astype(samples_dtype)
    mine, theirs = (
        fitted(module.MLPClassifier((8,), max_iter=5, random_state=0, solver=solver), given, DIGITS)
        for module in (fastnn, originals)
    )
    theirs.coefs_ = [(4 * w).astype(dtype) for w in theirs.coefs_]
    mine.coefs_ = copy.deepcopy(theirs.coefs_)
    mine.intercepts_ = copy.deepcopy(theirs.intercepts_)
    for each in (mine, copy.deepcopy(mine), pickle.loads(pickle.dumps(mine))):
        for _ in range(2):
            got, want = each.predict_proba(given), theirs.predict_proba(given)
            assert got.dtype == want.dtype
            np.testing.assert_allclose(got, want, atol=1e-3 if dtype == "f2" else 1e-5)


@pytest.mark.parametrize("container", CONTAINERS)
def test_coefficients_in_any_container(container):
    mine = fitted(fastnn.MLPRegressor(hidden_layer_sizes=(8,), max_iter=5, random_state=0), X, Y)
    want = mine.predict(X)
    mine.coefs_ = [CONTAINERS[container](w) for w in mine.coefs_]
    for each in (mine, copy.deepcopy(mine), pickle.loads(pickle.dumps(mine))):
        np.testing.assert_allclose(each.predict(X), want, rtol=1e-12)


@pytest.mark.parametrize("value", [np.array([["a"]]), np.ones((4, 8), complex), np.full((4, 8), "a", object)], ids=str)
def test_coefficients_that_are_no_numbers(value):
    mine = fitted(fastnn.MLPRegressor(hidden_layer_sizes=(8,), max_iter=5), X, Y)
    mine.coefs_[0] = value
    with pytest.raises((TypeError, ValueError), match=r"coefs_\[0\] must"):
        mine.predict(X)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("copied", [lambda e: e, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
def test_the_optimizer_goes_on_in_another_dtype(solver, copied):
    mine, theirs = (
        fitted(module.MLPClassifier((8,), max_iter=5, random_state=0, solver=solver), X.astype("f4"), DIGITS)
        for module in (fastnn, originals)
    )
    mine, theirs = copied(mine), copied(theirs)
    for each in (mine, theirs):
        each.coefs_ = [w.astype("f8") for w in each.coefs_]
        each.intercepts_ = [b.astype("f8") for b in each.intercepts_]
    mine, theirs = copied(mine), copied(theirs)
    for _ in range(3):
        for each in (mine, theirs):
            each.partial_fit(X, DIGITS)
    for got, want in zip(mine.coefs_, theirs.coefs_, strict=True):
        assert got.dtype == want.dtype == np.float64
        np.testing.assert_allclose(got, want, atol=1e-6)


# ---- weights, losses and numbers of epochs ----


@pytest.mark.parametrize("size", [1e-38, 1e-300, 1e36, 1e300, -1.0, -1e36])
def test_weights_of_any_size(size):
    weights, many = np.full(60, size), {"alpha": 0.0, "max_iter": 30, "random_state": 0, "learning_rate_init": 0.01}
    plain = fitted(fastnn.MLPClassifier((16,), **many), X.astype("f4"), DIGITS)
    tiny = fitted(fastnn.MLPClassifier((16,), **many), X.astype("f4"), DIGITS, sample_weight=weights)
    np.testing.assert_allclose(tiny.loss_curve_, plain.loss_curve_, rtol=1e-5)
    for alpha in (0.0, 1e-4) if abs(size) > 1e-3 else (0.0,):
        mine, theirs = (
            fitted(module.MLPClassifier((16,), **many | {"alpha": alpha}), X, DIGITS, sample_weight=weights)
            for module in (fastnn, originals)
        )
        np.testing.assert_allclose(mine.loss_curve_, theirs.loss_curve_, rtol=1e-7)


@pytest.mark.parametrize("kind", ["binary", "single"])
def test_weights_of_mixed_sign(kind):
    inputs, targets = samples(kind)
    weights = np.random.default_rng(1).normal(size=60)
    mine, theirs = pair(kind, batch_size=20, max_iter=20)
    fitted(mine, inputs, targets, sample_weight=weights), fitted(theirs, inputs, targets, sample_weight=weights)
    check("loss_curve_", mine.loss_curve_, theirs.loss_curve_, 1e-7)
    weights = np.tile([1.0, -1.0], 30)
    for each in pair(kind, batch_size=20, shuffle=False):
        with pytest.raises(ZeroDivisionError, match="Weights sum to zero"):
            each.fit(inputs, targets, sample_weight=weights)


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("max_iter", [10**10, 10**19])
def test_epochs_without_a_limit(max_iter, early_stopping):
    options = {"max_iter": max_iter, "tol": 0.1, "early_stopping": early_stopping, "random_state": 0}
    mine, theirs = (module.MLPClassifier((4,), **options).fit(X, DIGITS % 2) for module in (fastnn, originals))
    assert mine.n_iter_ == theirs.n_iter_
    check("loss_curve_", mine.loss_curve_, theirs.loss_curve_, 1e-9)


def test_what_a_diverged_fit_tells():
    made = fastnn.MLPRegressor(hidden_layer_sizes=(8,), solver="sgd", learning_rate_init=10, max_iter=50)
    made.set_params(random_state=0)
    with pytest.raises(ValueError, match="non-finite"):
        made.fit(X * 10, Y)
    assert made.n_iter_ == len(made.loss_curve_) > 0
    assert made.loss_ == made.loss_curve_[-1]
    assert made.t_ == 60 * made.n_iter_
    assert made.stopped_by_ == "divergence"
    whole = fitted(clone(made).set_params(max_iter=made.n_iter_), X * 10, Y)
    assert whole.loss_curve_ == made.loss_curve_
    for got, want in zip(made.coefs_, whole.coefs_, strict=True):
        np.testing.assert_array_equal(got, want)


def test_early_stopping_whose_scores_are_all_nan():
    """It ends with the initial coefficients, as in scikit-learn."""
    settings = {"early_stopping": True, "solver": "sgd", "learning_rate_init": 1e30, "random_state": 0, "max_iter": 5}
    settings |= {"activation": "identity", "hidden_layer_sizes": (8,)}
    mine, theirs = (fitted(module.MLPRegressor(**settings), X, Y) for module in (fastnn, originals))
    for got, want in zip(mine.coefs_, theirs.coefs_, strict=True):
        np.testing.assert_allclose(got, want)


def test_large_targets_that_were_not_learned():
    inputs, targets = load_diabetes(return_X_y=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = fastnn.MLPRegressor(random_state=0).fit(inputs, targets)
    assert made.score(inputs, targets) < 0
    assert [str(w.message)[:12] for w in caught if w.category is UserWarning] == ["the loss is "]
    scaled = TransformedTargetRegressor(fastnn.MLPRegressor(random_state=0), transformer=StandardScaler())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scaled.fit(inputs, targets)
    assert [w for w in caught if w.category is UserWarning] == []
    assert scaled.score(inputs, targets) > 0.5


# ---- labels and validation sets of any form ----

LABELS = {
    **{name: DIGITS.astype(name) for name in ("int8", "uint8", "int16", "uint32", "uint64", "float32", "float64")},
    "bool": DIGITS % 2 == 0,
    "str": np.array(["a", "bcd", "ef", "g"])[DIGITS % 4],
    "object": np.array(["a", "bcd", "ef", "g"], object)[DIGITS % 4],
    "category": pd.Series(np.array(["a", "bcd"])[DIGITS % 2], dtype="category"),
    "list": [np.str_("x"), np.str_("long")] * 30,
}


@pytest.mark.parametrize("form", LABELS)
def test_classes_have_the_dtype_of_scikit_learn(form):
    mine, theirs = (
        fitted(module.MLPClassifier((4,), max_iter=3, random_state=0), X, LABELS[form])
        for module in (fastnn, originals)
    )
    assert mine.classes_.dtype == theirs.classes_.dtype
    for rows in (X[:7], X, X.tolist()):
        got, want = mine.predict(rows), theirs.predict(rows)
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("form", ["csr", "csc", "list", "frame", "float32"])
def test_a_validation_set_of_any_form(form):
    convert = {
        "csr": scipy.sparse.csr_matrix,
        "csc": scipy.sparse.csc_matrix,
        "list": lambda a: a.tolist(),
        "frame": lambda a: pd.DataFrame(a, columns=list("abcd")),
        "float32": lambda a: a.astype("f4"),
    }[form]
    train = convert(X) if form == "frame" else X
    made = fastnn.MLPClassifier((4,), max_iter=3, random_state=0)
    weights = np.linspace(1, 2, 60)
    want = fitted(clone(made), X, DIGITS, X_val=X, y_val=DIGITS, sample_weight_val=weights)
    fitted(made, train, DIGITS.tolist(), X_val=convert(X), y_val=DIGITS.tolist(), sample_weight_val=weights.tolist())
    np.testing.assert_allclose(made.validation_loss_curve_, want.validation_loss_curve_, rtol=1e-6)
    if form == "frame":
        with pytest.raises(ValueError, match="feature names"):
            fitted(made, train, DIGITS, X_val=train[list("dcba")], y_val=DIGITS)


# ---- a walk side by side ----


class SideBySide(RuleBasedStateMachine):
    """Both estimators go the same way."""

    @initialize(kind=st.sampled_from(["binary", "multiclass", "single"]), solver=st.sampled_from(["sgd", "adam"]))
    def begin(self, kind, solver):
        self.X, self.y = samples(kind)
        self.both = pair(kind, solver=solver, max_iter=3, batch_size=16)
        self.call("fit", self.X, self.y)

    def call(self, method, *arguments):
        (one, _), (other, _) = (attempt(getattr(each, method), *arguments) for each in self.both)
        assert isinstance(one, str) == isinstance(other, str), (one, other)
        if isinstance(other, str):
            assert one.split(":")[0] == other.split(":")[0]
        self.same()

    def same(self):
        mine, theirs = self.both
        for name in ("coefs_", "intercepts_", "loss_curve_"):
            if hasattr(theirs, name):
                got, want = getattr(mine, name), getattr(theirs, name)
                for g, w in zip(got, want, strict=True):
                    np.testing.assert_allclose(g, w, rtol=1e-3, atol=1e-4)
        got, want = mine.predict(self.X), theirs.predict(self.X)
        assert got.dtype == want.dtype
        assert mine.n_iter_ == theirs.n_iter_
        if hasattr(mine, "predict_proba"):
            np.testing.assert_array_equal(mine.classes_, theirs.classes_)
            assert mine.classes_.dtype == theirs.classes_.dtype
            np.testing.assert_allclose(mine.predict_proba(self.X), theirs.predict_proba(self.X), atol=1e-3)
        else:
            np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-3)

    @rule(dtype=st.sampled_from(["f4", "f8"]))
    def fit(self, dtype):
        self.call("fit", self.X.astype(dtype), self.y)

    @precondition(lambda self: self.both[0].solver != "lbfgs" and not self.both[0].early_stopping)
    @rule(dtype=st.sampled_from(["f4", "f8"]))
    def partial_fit(self, dtype):
        self.call("partial_fit", self.X.astype(dtype), self.y)

    @rule(
        parameter=st.sampled_from(
            [
                {"solver": "sgd"},
                {"solver": "adam"},
                {"solver": "lbfgs"},
                {"warm_start": True},
                {"warm_start": False},
                {"activation": "tanh"},
                {"activation": "relu"},
                {"shuffle": False},
                {"shuffle": True},
                {"early_stopping": True},
                {"early_stopping": False},
                {"hidden_layer_sizes": (5,)},
                {"hidden_layer_sizes": (4,)},
            ]
        )
    )
    def set_params(self, parameter):
        for each in self.both:
            each.set_params(**parameter)
        self.same()

    @rule(dtype=st.sampled_from(["f4", "f8"]))
    def assign(self, dtype):
        for each in self.both:
            each.coefs_ = [np.array(w, dtype) for w in each.coefs_]
            each.intercepts_ = [np.array(b, dtype) for b in each.intercepts_]
        self.same()

    @rule(layer=st.integers(0, 1))
    def edit(self, layer):
        for each in self.both:
            each.coefs_[layer][...] *= 0.5
            each.intercepts_[layer][:1] += 0.25
        self.same()

    @rule(how=st.sampled_from([copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))]))
    def copies(self, how):
        self.both = tuple(how(each) for each in self.both)
        self.same()

    @rule()
    def clones(self):
        self.both = tuple(clone(each) for each in self.both)
        self.call("fit", self.X, self.y)


SideBySide.TestCase.settings = settings(
    max_examples=15,
    stateful_step_count=12,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
TestSideBySide = pytest.mark.filterwarnings("ignore")(SideBySide.TestCase)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", [fastnn.MLPClassifier, fastnn.MLPRegressor])
def test_numbers_that_vanish_are_no_errors(kind, dtype):
    """Where a user has NumPy raise: the same numbers as where it does not."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4)).astype(dtype)
    X[3, 1], X[5, 2] = 1e-62, 1e-40
    y = (X[:, 0] > 0).astype(int) if kind is fastnn.MLPClassifier else np.where(X[:, 0] > 0, X[:, 1], 1e-62)
    weights = np.where(rng.random(60) < 0.5, 1e-60, 1.0)

    def result():
        made = kind(hidden_layer_sizes=(8,), max_iter=3, random_state=0, tol=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made.fit(X, y, sample_weight=weights)
        made.partial_fit(X, y)
        return made.predict(X), made.coefs_[0]

    want = result()
    with np.errstate(all="raise"):
        got = result()
    for mine, other in zip(got, want, strict=True):
        np.testing.assert_array_equal(mine, other)
