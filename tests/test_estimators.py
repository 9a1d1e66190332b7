"""MLPClassifier and MLPRegressor beside scikit-learn's: the same numbers, in the same places, by other means."""

import contextlib
import copy
import io
import itertools
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the extra sklearn is not installed")
import joblib
import scipy.sparse
import sklearn.neural_network as originals
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_iris, make_multilabel_classification, make_regression
from sklearn.ensemble import BaggingClassifier, StackingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neural_network._multilayer_perceptron import BaseMultilayerPerceptron
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, BaseOptimizer, SGDOptimizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastnn

ROOT = Path(__file__).resolve().parent.parent
EXACT = 1e-9  # of an array's largest magnitude; a line search amplifies rounding
TOLERANCE = {"lbfgs": 1e-6, "sgd": EXACT, "adam": EXACT}


def data():
    """{kind: (class name, X, y, parameters)}."""
    X, y = load_iris(return_X_y=True)
    X, order = StandardScaler().fit_transform(X), np.random.default_rng(0).permutation(150)
    X, y = X[order][:101], y[order][:101]
    many, labels = make_multilabel_classification(80, 6, n_classes=4, random_state=0)
    R, one = make_regression(90, 5, n_informative=4, random_state=0)
    _, two = make_regression(90, 5, n_targets=3, random_state=1)
    return {
        "binary": ("MLPClassifier", X, y == 1, {}),
        "multiclass": ("MLPClassifier", X, y, {}),
        "strings": ("MLPClassifier", X, np.array(["a", "b", "c"])[y], {}),
        "multilabel": ("MLPClassifier", many / 10, labels, {}),
        "regression": ("MLPRegressor", R, one / 50, {}),
        "several outputs": ("MLPRegressor", R, two / 50, {}),
        "poisson": ("MLPRegressor", R / 3, np.random.default_rng(1).poisson(3, 90), {"loss": "poisson"}),
    }


DATA = data()
CHOICES = {
    "activation": ["identity", "logistic", "tanh", "relu"],
    "solver": ["sgd", "adam", "sgd", "adam", "lbfgs"],
    "batch_size": ["auto", 1, 7, 32, 1000],
    "alpha": [0, 1e-4, 0.1, 1],
    "learning_rate": ["constant", "invscaling", "adaptive"],
    "learning_rate_init": [0.001, 0.01],
    "momentum": [0.9, 0, 0.5],
    "nesterovs_momentum": [True, False],
    "early_stopping": [False, False, True],
    "n_iter_no_change": [10, 2, np.inf],
    "tol": [1e-4, 1e-2, 0],
    "shuffle": [True, True, False],
    "hidden_layer_sizes": [(), (5,), (20, 7), (100,)],
    "warm_start": [False, True],
    "epsilon": [1e-8, 1e-3],
}
WEIGHTS = ["none", "none", "random", "with zeros"]


def random_case(seed):
    """(kind, parameters, weights) of a case of the grid."""
    rng = np.random.default_rng(seed)
    chosen = {name: values[rng.integers(len(values))] for name, values in CHOICES.items()}
    chosen |= {"random_state": int(rng.integers(100)), "max_iter": 10 if chosen["solver"] == "lbfgs" else 20}
    kind = sorted(DATA)[rng.integers(len(DATA))]
    n, how = len(DATA[kind][1]), WEIGHTS[rng.integers(len(WEIGHTS))]
    weights = None if how == "none" else rng.uniform(0.2, 3, n)
    if how == "with zeros" and chosen["batch_size"] not in (1, 7):  # a batch without weight is an error there
        weights[rng.random(n) < 0.3] = 0
    if kind == "poisson":
        chosen["learning_rate_init"] = 0.001
    return kind, chosen, weights


def both(kind, parameters):
    """(scikit-learn's estimator, fastnn's)."""
    name, _, _, more = DATA[kind]
    return tuple(getattr(module, name)(**parameters | more) for module in (originals, fastnn))


def recorded(call):
    """(what a call gives, the kinds and messages of its warnings, what it printed)."""
    printed = io.StringIO()
    with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(printed):
        warnings.simplefilter("always")
        result = call()
    return result, [(w.category, str(w.message)) for w in caught], printed.getvalue()


def check_close(got, want, tolerance, what):
    """Compare arrays by the largest magnitude of the one that is wanted."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, what
    assert got.dtype == want.dtype, what
    limit = max(tolerance * np.abs(want).max(initial=0), 1e-12)
    assert np.abs(got - want).max(initial=0) <= limit, what


ATTRIBUTES = ["n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_", "_no_improvement_count"]
LISTS = ["loss_curve_", "validation_scores_", "loss_", "best_loss_", "best_validation_score_"]


def check_same(mine, theirs, X, tolerance=EXACT):
    """Raise where two fitted estimators differ in what can be seen of them."""
    for name in ("coefs_", "intercepts_"):
        for i, (got, want) in enumerate(zip(getattr(mine, name), getattr(theirs, name), strict=True)):
            check_close(got, want, tolerance, f"{name}[{i}]")
    for name in ATTRIBUTES:
        assert getattr(mine, name, None) == getattr(theirs, name, None), name
    for name in LISTS:
        want = getattr(theirs, name, None)
        if want is None:
            assert getattr(mine, name, None) is None, name
        else:
            np.testing.assert_allclose(getattr(mine, name), want, rtol=tolerance, atol=1e-12, err_msg=name)
    if hasattr(theirs, "classes_"):
        np.testing.assert_array_equal(mine.classes_, theirs.classes_)
        check_close(mine.predict_proba(X), theirs.predict_proba(X), tolerance, "predict_proba")
        np.testing.assert_array_equal(mine.predict(X), theirs.predict(X))
    else:
        check_close(mine.predict(X), theirs.predict(X), tolerance, "predict")
    assert {**mine.get_params(), "random_state": 0} == {**theirs.get_params(), "random_state": 0}


@pytest.mark.parametrize("seed", range(250))
def test_the_same_trajectory(seed):
    kind, parameters, weights = random_case(seed)
    theirs, mine = both(kind, parameters)
    _, X, y, _ = DATA[kind]
    for _ in range(2 if parameters["warm_start"] else 1):
        _, want, _ = recorded(lambda: theirs.fit(X, y, sample_weight=weights))
        _, got, _ = recorded(lambda: mine.fit(X, y, sample_weight=weights))
        assert got == want
        check_same(mine, theirs, X, TOLERANCE[parameters["solver"]])
        assert mine.score(X, y) == pytest.approx(theirs.score(X, y), rel=1e-9)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("random_state", [3, "shared"])
@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("kind", DATA)
def test_partial_fit(kind, solver, random_state, weighted):
    """An int seeds each call again; a shared generator ends in the same state."""
    _, X, y, _ = DATA[kind]
    states = [np.random.RandomState(5) if random_state == "shared" else random_state for _ in range(2)]
    estimators = [both(kind, {"solver": solver, "random_state": state})[i] for i, state in enumerate(states)]
    weights = np.random.default_rng(0).uniform(0.5, 2, len(X)) if weighted else None
    given = {"classes": np.arange(4) if kind == "multilabel" else np.unique(y)} if DATA[kind][0][3] == "C" else {}
    for half in (slice(0, 60), slice(60, None), slice(None)):
        for estimator in estimators:
            part = None if weights is None else weights[half]
            estimator.partial_fit(X[half], y[half], sample_weight=part, **given)
    check_same(estimators[1], estimators[0], X)
    if random_state == "shared":
        for got, want in zip(states[1].get_state()[1:3], states[0].get_state()[1:3], strict=True):
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("parameters", [{"tol": 0.1, "n_iter_no_change": 1}, {"early_stopping": True}, {}])
def test_a_shared_generator_ends_in_the_same_state(parameters):
    _, X, y, _ = DATA["multiclass"]
    states = [np.random.RandomState(5) for _ in range(2)]
    for module, state in zip((originals, fastnn), states, strict=True):
        recorded(lambda module=module, state=state: module.MLPClassifier(random_state=state, **parameters).fit(X, y))
    np.testing.assert_array_equal(states[0].get_state()[1], states[1].get_state()[1])
    assert states[0].get_state()[2] == states[1].get_state()[2]


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", ">f8"])
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
def test_types(solver, dtype):
    _, X, y, _ = DATA["multiclass"]
    X = (10 * X).astype(dtype) if dtype == "int64" else X.astype(dtype)
    theirs, mine = (m.MLPClassifier(solver=solver, max_iter=10, random_state=0) for m in (originals, fastnn))
    recorded(lambda: theirs.fit(X, y))
    recorded(lambda: mine.fit(X, y))
    if dtype != "float32":
        check_same(mine, theirs, X.astype(float), TOLERANCE[solver])
        return
    assert {a.dtype for a in (*mine.coefs_, *mine.intercepts_, mine.predict_proba(X))} == {np.dtype("float32")}
    for got, want in zip(mine.coefs_, theirs.coefs_, strict=True):
        np.testing.assert_allclose(got, want, atol=2e-3 if solver == "lbfgs" else 1e-4)


@pytest.mark.parametrize("learning_rate", ["constant", "adaptive"])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_verbose(early_stopping, learning_rate):
    _, X, y, _ = DATA["multiclass"]
    options = {"verbose": True, "max_iter": 40, "early_stopping": early_stopping, "learning_rate": learning_rate}
    options |= {"solver": "sgd", "n_iter_no_change": 2, "tol": 0.01, "learning_rate_init": 0.1, "random_state": 0}
    printed = [recorded(lambda m=m: m.MLPClassifier(**options).fit(X, y))[2] for m in (originals, fastnn)]
    assert printed[0] == printed[1]
    assert "Iteration 1, loss = " in printed[1]


def fitted(kind="multiclass", module=fastnn, **parameters):
    name, X, y, more = DATA[kind]
    estimator = getattr(module, name)(**{"random_state": 0, "max_iter": 5} | more | parameters)
    recorded(lambda: estimator.fit(X, y))
    return estimator, X, y


def replace_an_array(estimator):
    estimator.coefs_[0] = np.ones_like(estimator.coefs_[0])


def replace_the_list(estimator):
    estimator.intercepts_ = [np.full_like(b, 0.1) for b in estimator.intercepts_]


def edit_in_place(estimator):
    estimator.coefs_[-1][...] *= -1
    estimator.intercepts_[0] += 1


def grow(estimator):
    """Another architecture."""
    rng = np.random.default_rng(0)
    estimator.coefs_[:] = [rng.normal(size=(a, b)) for a, b in ((4, 30), (30, 3))]
    estimator.intercepts_[:] = [rng.normal(size=b) for b in (30, 3)]


@pytest.mark.parametrize("change", [replace_an_array, replace_the_list, edit_in_place, grow])
@pytest.mark.parametrize("unpickled", [False, True])
def test_the_coefficients_are_what_predict_uses(unpickled, change):
    mine, X, _ = fitted(hidden_layer_sizes=7)
    theirs, _, _ = fitted(module=originals, hidden_layer_sizes=7)
    mine.predict(X)
    if unpickled:
        mine = pickle.loads(pickle.dumps(mine))
    assert type(mine.coefs_) is list
    for estimator in (mine, theirs):
        change(estimator)
    check_close(mine.predict_proba(X), theirs.predict_proba(X), EXACT, "predict_proba")
    change(mine)
    change(theirs)
    check_close(mine.predict_proba(X), theirs.predict_proba(X), EXACT, "predict_proba")


@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
def test_nothing_is_delegated(kind, solver, monkeypatch):
    def fail(*_, **__):
        raise AssertionError("scikit-learn's own code computed")

    for name in ("_backprop", "_forward_pass", "_forward_pass_fast", "_compute_loss_grad", "_loss_grad_lbfgs"):
        monkeypatch.setattr(BaseMultilayerPerceptron, name, fail)
    monkeypatch.setattr(BaseOptimizer, "update_params", fail)
    for optimizer in (SGDOptimizer, AdamOptimizer):
        monkeypatch.setattr(optimizer, "_get_updates", fail)
    estimator, X, y = fitted(kind, solver=solver, early_stopping=solver != "lbfgs")
    assert np.isfinite(estimator.score(X, y))
    if solver != "lbfgs":
        estimator.set_params(early_stopping=False).partial_fit(X, y)
    if hasattr(estimator, "predict_proba"):
        assert estimator.predict_proba(X).shape[0] == len(X)


@pytest.mark.parametrize("form", [scipy.sparse.csr_matrix, scipy.sparse.csc_matrix, scipy.sparse.csr_array])
@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
def test_sparse_rows(solver, form):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(70, 30)) * (rng.random((70, 30)) < 0.2), rng.integers(0, 3, 70)
    options = {"solver": solver, "max_iter": 5, "random_state": 0}
    mine, dense = fastnn.MLPClassifier(**options), fastnn.MLPClassifier(**options)
    recorded(lambda: mine.fit(form(X), y))
    recorded(lambda: dense.fit(X, y))
    check_same(mine, dense, X)
    np.testing.assert_array_equal(mine.predict_proba(form(X)), dense.predict_proba(X))


def inside_pipeline(make, X, y):
    return make_pipeline(StandardScaler(), make()).fit(X, y).predict_proba(X)


def inside_grid_search(make, X, y):
    search = GridSearchCV(make(), {"alpha": [1e-4, 1.0], "hidden_layer_sizes": [(5,), (9,)]}, cv=3).fit(X, y)
    return np.append(search.predict_proba(X), search.cv_results_["mean_test_score"][:3][None], axis=0)


def inside_calibration(make, X, y):
    return CalibratedClassifierCV(make(), cv=2).fit(X, y).predict_proba(X)


def inside_stacking(make, X, y):
    stack = StackingClassifier([("a", make()), ("b", LogisticRegression())], cv=2)
    return stack.fit(X, y).predict_proba(X)


def inside_bagging(make, X, y):
    return BaggingClassifier(make(), n_estimators=3, random_state=0).fit(X, y).predict_proba(X)


def cross_validated(make, X, y):
    return cross_val_score(make(), X, y, cv=3)


@pytest.mark.parametrize(
    "use",
    [inside_pipeline, inside_grid_search, inside_calibration, inside_stacking, inside_bagging, cross_validated],
)
def test_inside_scikit_learn(use):
    _, X, y, _ = DATA["multiclass"]
    results = []
    for module in (originals, fastnn):
        make = lambda m=module: m.MLPClassifier(hidden_layer_sizes=8, max_iter=15, random_state=0)  # noqa: E731
        results.append(recorded(lambda make=make: use(make, X, y))[0])
    np.testing.assert_allclose(results[1], results[0], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("kind", DATA)
def test_copies_and_files(kind, tmp_path):
    """They predict the same, go on training the same, and share nothing."""
    mine, X, y = fitted(kind, warm_start=True, solver="adam")
    joblib.dump(mine, tmp_path / "file")
    twins = [copy.copy(mine), copy.deepcopy(mine), pickle.loads(pickle.dumps(mine)), joblib.load(tmp_path / "file")]
    before = [a.copy() for a in mine.coefs_]
    for twin in twins:
        np.testing.assert_array_equal(twin.predict(X), mine.predict(X))
        twin.partial_fit(X, y)
    for got, want in zip(mine.coefs_, before, strict=True):
        np.testing.assert_array_equal(got, want)
    mine.partial_fit(X, y)
    for twin in twins:
        for got, want in zip(twin.coefs_, mine.coefs_, strict=True):
            np.testing.assert_array_equal(got, want)
    fresh = clone(mine)
    assert not hasattr(fresh, "coefs_")
    assert fresh.get_params() == mine.get_params()


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("kind", DATA)
def test_conversion_both_ways(kind, solver):
    theirs, X, y = fitted(kind, originals, solver=solver)
    mine, _, _ = fitted(kind, solver=solver)
    taken, given = type(mine).from_sklearn(theirs), mine.to_sklearn()
    assert type(given) is type(theirs)
    check_same(taken, theirs, X)
    check_same(mine, given, X)
    if solver != "lbfgs":
        for estimator in (theirs, taken, mine, given):
            estimator.partial_fit(X, y)
        check_same(taken, theirs, X)
        check_same(mine, given, X)
        check_same(taken, given, X)


def test_the_columns_of_a_frame():
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    _, X, y, _ = DATA["multiclass"]
    frame = pd.DataFrame(X, columns=list("abcd"))
    mine = fastnn.MLPClassifier(max_iter=5, random_state=0)
    recorded(lambda: mine.fit(frame, y))
    assert mine.feature_names_in_.tolist() == list("abcd")
    np.testing.assert_array_equal(mine.predict(frame), fitted()[0].predict(X))
    with pytest.raises(ValueError, match="Feature names must be in the same order"):
        mine.predict(frame[list("dcba")])
    assert recorded(lambda: mine.predict(X))[1][0][0] is UserWarning


def test_output_as_a_frame():
    pytest.importorskip("pandas", reason="pandas is not installed")
    _, X, y, _ = DATA["multiclass"]
    pipe = make_pipeline(StandardScaler().set_output(transform="pandas"), fastnn.MLPClassifier(max_iter=5))
    recorded(lambda: pipe.fit(X, y))
    assert pipe[-1].feature_names_in_.tolist() == ["x0", "x1", "x2", "x3"]


def test_bad_input_is_refused_as_there():
    _, X, y, _ = DATA["multiclass"]
    mine, _, _ = fitted()
    for bad in (X[:, :3], np.full_like(X, np.nan), X[0], [["a"] * 4], X[:0]):
        messages = []
        for estimator in (mine, fitted(module=originals)[0]):
            with pytest.raises(ValueError, match=r".") as error:
                estimator.predict(bad)
            messages.append(str(error.value))
        assert messages[0] == messages[1]
    for parameters in ({"solver": "newton"}, {"alpha": -1}, {"hidden_layer_sizes": (0,)}, {"batch_size": 0}):
        messages = []
        for module in (originals, fastnn):
            with pytest.raises(ValueError, match=r".") as error:
                module.MLPClassifier(**parameters).fit(X, y)
            messages.append(str(error.value))
        assert messages[0] == messages[1]


def test_divergence():
    """scikit-learn goes on to the last iteration; fastnn stops, and the coefficients are finite."""
    _, X, y, _ = DATA["regression"]
    mine = fastnn.MLPRegressor(solver="sgd", learning_rate_init=1e3, random_state=0)
    with pytest.raises(ValueError, match="Solver produced non-finite parameter weights"):
        mine.fit(X, y * 1e3)
    assert all(np.isfinite(w).all() for w in mine.coefs_)


def test_threads_change_no_bit(monkeypatch):
    monkeypatch.setattr("fastnn.threads.FIT_MULTIPLY_ADDS", 0)
    monkeypatch.setattr("fastnn.kernels.strategy.THREAD_MULTIPLY_ADDS", 1)
    results = []
    for count in (1, 2):
        monkeypatch.setattr("fastnn.threads.available_threads", lambda count=count: count)
        results.append([a.tobytes() for a in fitted("multiclass", batch_size=64, hidden_layer_sizes=(80,))[0].coefs_])
    assert results[0] == results[1]


# ---- scikit-learn's own tests ----


def run_pytest(*arguments, **env):
    """Run pytest without this project's options; gives what it printed."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, *arguments]
    path = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=os.environ | path | env, capture_output=True, text=True, timeout=500)
    return done.stdout


def test_scikit_learns_tests_of_its_mlp():
    printed = run_pytest("-p", "tests.sklearn_rebind", "--pyargs", "sklearn.neural_network.tests.test_mlp")
    assert "59 passed" in printed.splitlines()[-1], printed


CHECKS = """
import warnings
import fastnn
from sklearn.utils.estimator_checks import check_estimator

warnings.simplefilter("ignore")
for kind in (fastnn.MLPClassifier, fastnn.MLPRegressor):
    results = check_estimator(kind(), on_fail=None, on_skip=None)
    for result in results:
        if result["status"] == "failed":
            print(result["check_name"], result["exception"])
    print([sum(result["status"] == status for result in results) for status in ("passed", "skipped", "failed")])
"""


def test_the_estimator_checks():
    pytest.importorskip("pandas", reason="some of the checks need pandas")
    done = subprocess.run(
        [sys.executable, "-c", CHECKS],
        env=os.environ | {"SCIPY_ARRAY_API": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.stdout.splitlines() == ["[66, 1, 0]", "[60, 0, 0]"], done.stdout + done.stderr


def test_the_grid_has_every_choice():
    seen = [random_case(seed)[1] for seed in range(250)]
    for name, values in CHOICES.items():
        assert {case[name] for case in seen} == set(values), name
    pairs = set(itertools.product(("sgd", "adam"), (False, True)))
    assert {(case["solver"], case["early_stopping"]) for case in seen} >= pairs
