"""MLPClassifier and MLPRegressor give the numbers, warnings and errors of scikit-learn's, fitted side by side."""

import collections
import concurrent.futures
import copy
import inspect
import itertools
import json
import pickle
import signal
import warnings
from xml.etree import ElementTree

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import sklearn
import sklearn.neural_network as originals
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_digits
from sklearn.ensemble import BaggingClassifier, BaggingRegressor, StackingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neural_network import _base, _multilayer_perceptron, _stochastic_optimizers
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags

import fastnn
from fastnn.kernels.programs import strategy
from fastnn.kernels.running import entry
from fastnn.network import threads
from fastnn.training import thread_tuner
from fastnn.training.steps import Steps

REGRESSION = ("single", "outputs", "poisson")
KINDS = ("binary", "multiclass", "multilabel", "strings", *REGRESSION)
SOLVERS = ("sgd", "adam", "lbfgs")
# What the package's estimators have beside scikit-learn's parameters and arguments of fit.
OWN = {"dropout": 0.0, "l1": 0.0, "max_norm": None, "clip_norm": None, "clip_value": None, "scoring": None}
OWN |= {"callbacks": None, "progress": False, "threads": None, "max_time": None}
VALIDATION = ("X_val", "y_val", "sample_weight_val")


def samples(kind, n=60, seed=0):
    """(X, y) of a kind: 6 features, y from a random teacher with noise."""
    draw = np.random.default_rng(seed)
    X, noise = draw.standard_normal((n, 6)), draw.standard_normal((n, 3))
    scores = np.tanh(X @ np.random.default_rng(99).standard_normal((6, 3))) + 0.3 * noise
    targets = {
        "binary": lambda: np.where(scores[:, 0] > 0, 7, 3),
        "multiclass": lambda: scores.argmax(axis=1),
        "multilabel": lambda: (scores > 0).astype(int),
        "strings": lambda: np.array(["ash", "elm", "oak"])[scores.argmax(axis=1)],
        "single": lambda: scores[:, 0],
        "outputs": lambda: scores,
        "poisson": lambda: draw.poisson(np.exp(scores[:, 0])),
    }
    return X, targets[kind]()


def pair(kind, **parameters):
    """(the package's estimator, scikit-learn's) with equal parameters, small and quick unless the parameters differ."""
    name = "MLPRegressor" if kind in REGRESSION else "MLPClassifier"
    parameters = {
        "hidden_layer_sizes": (5,),
        "max_iter": 10,
        "random_state": 5,
        "learning_rate_init": 0.01,
    } | parameters
    if kind == "poisson":
        parameters["loss"] = "poisson"
    return getattr(fastnn, name)(**parameters), getattr(originals, name)(**copy.deepcopy(parameters))


def attempt(function, *arguments, **options):
    """(the value or the error, the warnings); without the warnings of NumPy's arithmetic, which are no promise."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            value = function(*arguments, **options)
        except Exception as error:
            value = f"{type(error).__name__}: {error}"
    return value, [(w.category, str(w.message)) for w in caught if w.category is not RuntimeWarning]


def fitted(estimator):
    """What training leaves in an estimator, a copy: what is public, and what scikit-learn's own tests look at."""
    own = ("validation_loss_curve_", "stopped_by_")
    seen = {name: value for name, value in vars(estimator).items() if name.endswith("_") and name not in own}
    if "_no_improvement_count" in vars(estimator):
        seen["_no_improvement_count"] = estimator._no_improvement_count
    if "_optimizer" in vars(estimator):
        seen["_optimizer.learning_rate"] = estimator._optimizer.learning_rate
    if "_random_state" in vars(estimator):
        seen["_random_state"] = estimator._random_state.get_state()
    return copy.deepcopy(seen)


def outputs(estimator, X, y):
    """What the estimator's methods give for X and y."""
    names = [name for name in ("predict", "predict_proba", "predict_log_proba") if hasattr(estimator, name)]
    with np.errstate(divide="ignore"):
        given = {name: getattr(estimator, name)(X) for name in names}
    if "predict_log_proba" in given:  # of less than 1e-3, it would show little but rounding errors
        given["predict_log_proba"] = np.where(given["predict_proba"] > 1e-3, given["predict_log_proba"], 0)
    return given | {"score": estimator.score(X, y)}


def check(name, got, want, rel):
    """Equal; or, for floats, as near as `rel` times the largest magnitude of the array."""
    if isinstance(want, list | tuple):
        assert type(got) is type(want), name
        assert len(got) == len(want), name
        for i, (g, w) in enumerate(zip(got, want, strict=True)):
            check(f"{name}[{i}]", g, w, rel)
    elif isinstance(want, np.ndarray):
        assert type(got) is np.ndarray, name
        assert (got.shape, got.dtype) == (want.shape, want.dtype), name
        if want.dtype.kind == "f":
            np.testing.assert_allclose(got, want, rtol=0, atol=rel * np.abs(want).max(initial=0), err_msg=name)
        else:
            np.testing.assert_array_equal(got, want, err_msg=name)
    elif isinstance(want, float | np.floating):
        assert isinstance(got, float | np.floating), name
        absolute = rel if "score" in name else rel / 1000  # R2 may be near 0, as a difference of larger numbers
        assert got == pytest.approx(want, rel=rel, abs=absolute, nan_ok=True), name
    else:
        assert got == want, name


def check_all(got, want, rel):
    assert got.keys() == want.keys()
    for name, value in want.items():
        check(name, got[name], value, rel)


def compare(mine, theirs, X, y, rel=1e-9):
    """Both must show the same."""
    check_all(fitted(mine), fitted(theirs), rel)
    check_all(outputs(mine, X, y), outputs(theirs, X, y), rel)


def follow(mine, theirs, method, X, y, rel=1e-9, **options):
    """Call a method of both, which must give the estimator and the same warnings; then they must show the same."""
    (one, said), (other, want) = (attempt(getattr(e, method), X, y, **options) for e in (mine, theirs))
    assert other is theirs
    assert one is mine, one
    assert said == want
    new_y = y[:40]
    new_X = np.random.default_rng(77).standard_normal((len(new_y), X.shape[1])).astype(X.dtype)
    compare(mine, theirs, new_X, new_y, rel)


# ---- the same trajectory ----

OPTIONS = {
    "kind": KINDS,
    "activation": ("identity", "logistic", "tanh", "relu"),
    "solver": SOLVERS,
    "batch_size": ("auto", 1, 7, 32, 1000),
    "alpha": (0.0, 1e-4, 0.1, 1.0),
    "learning_rate": ("constant", "invscaling", "adaptive"),
    "momentum": (0.9, 0.5, 0.0),
    "nesterovs_momentum": (True, False),
    "early_stopping": (False, True),
    "weights": ("none", "random", "zeros"),
    "warm_start": (False, True),
    "shuffle": (True, False),
    "hidden_layer_sizes": ((), (5,), (20, 7), (100,)),
    "patience": ((10, 1e-4), (2, 0.05)),
}


def pairs(case):
    """Of settings."""
    return set(itertools.combinations(sorted((name, repr(value)) for name, value in case.items()), 2))


def is_valid(case):
    """A batch whose weights are all zero is an error: see test_a_batch_without_weight."""
    return (case["batch_size"], case["weights"]) != (1, "zeros")


def table(rows):
    """Cases: each is, of some random ones, the one with the most pairs of settings that no earlier one has."""
    draw, seen, chosen = np.random.default_rng(2), set(), []
    while len(chosen) < rows:
        drawn = [{name: v[draw.integers(len(v))] for name, v in OPTIONS.items()} for _ in range(20)]
        chosen.append(max(filter(is_valid, drawn), key=lambda case: len(pairs(case) - seen)))
        seen |= pairs(chosen[-1])
    return chosen


TABLE = table(250)


def test_the_table_has_every_pair_of_settings():
    names = [[(name, repr(value)) for value in values] for name, values in sorted(OPTIONS.items())]
    every = {p for one, other in itertools.combinations(names, 2) for p in itertools.product(one, other)}
    every.remove((("batch_size", "1"), ("weights", "'zeros'")))
    assert set().union(*map(pairs, TABLE)) == every


@pytest.mark.pairs
@pytest.mark.parametrize("case", TABLE, ids=lambda case: "-".join(map(str, case.values())).replace(" ", ""))
def test_the_same_trajectory(case):
    settings = case.copy()
    kind, weighted = settings.pop("kind"), settings.pop("weights")
    patience, tol = settings.pop("patience")
    # Ten steps of lbfgs, compared coarsely: its line searches multiply what rounding leaves.
    epochs, rel = (10, 1e-6) if case["solver"] == "lbfgs" else (20, 1e-9)
    mine, theirs = pair(kind, **settings, max_iter=epochs, n_iter_no_change=patience, tol=tol)
    X, y = samples(kind, 16 if case["batch_size"] == 1 else 60)
    weights = np.random.default_rng(4).uniform(0.1, 3, len(X))
    if weighted == "zeros":
        weights[[3, 20, 33]] = 0  # so few that no batch is without weight
    follow(mine, theirs, "fit", X, y, rel, sample_weight=None if weighted == "none" else weights)
    if case["warm_start"]:
        few, changed = slice(1, -4), {"learning_rate_init": 0.005, "alpha": 0.01}
        for estimator in (mine, theirs):
            estimator.set_params(**changed)
        given = None if weighted == "none" else weights[few]
        follow(mine, theirs, "fit", X[few], y[few], rel, sample_weight=given)


@pytest.mark.parametrize("solver", SOLVERS)
def test_images(solver):
    """More samples, of digits, in batches of 200."""
    X, y = load_digits(return_X_y=True)
    X = X / 16
    mine, theirs = pair("multiclass", solver=solver, hidden_layer_sizes=(100, 30), max_iter=4)
    rel = 1e-6 if solver == "lbfgs" else 1e-9
    said = [attempt(e.fit, X[:1500], y[:1500])[1] for e in (mine, theirs)]
    assert said[0] == said[1]
    compare(mine, theirs, X[1500:], y[1500:], rel)


def test_very_many_samples():
    draw = np.random.default_rng(1)
    X = draw.standard_normal((270_000, 2))
    mine, theirs = pair("single", max_iter=3, batch_size=20_000)
    follow(mine, theirs, "fit", X, np.sin(X[:, 0]))


@pytest.mark.parametrize(
    ("early_stopping", "learning_rate"), [(False, "constant"), (True, "constant"), (False, "adaptive")]
)
@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("kind", ["multiclass", "single"])
def test_until_it_stops(kind, solver, early_stopping, learning_rate):
    """Hundreds of epochs, stopped by tol; then again."""
    settings = {"early_stopping": early_stopping, "learning_rate": learning_rate, "learning_rate_init": 0.003}
    mine, theirs = pair(kind, solver=solver, max_iter=2000, tol=3e-3, random_state=np.random.RandomState(8), **settings)
    for _ in range(2):
        follow(mine, theirs, "fit", *samples(kind), rel=1e-8)
        assert 10 < theirs.n_iter_ < 2000


@pytest.mark.parametrize("n_iter_no_change", [1, np.inf])
def test_no_improvement(n_iter_no_change):
    mine, theirs = pair("binary", solver="sgd", tol=1e9, max_iter=150, n_iter_no_change=n_iter_no_change)
    follow(mine, theirs, "fit", *samples("binary"))
    assert theirs.n_iter_ == (3 if n_iter_no_change == 1 else 150)


@pytest.mark.parametrize("sizes", [3, [4, 3], np.array([4]), (1, 1, 1, 1), range(3, 5)])
def test_hidden_layer_sizes_of_any_form(sizes):
    follow(*pair("multiclass", hidden_layer_sizes=sizes), "fit", *samples("multiclass"))


@pytest.mark.parametrize("solver", SOLVERS)
def test_one_class(solver):
    X = samples("binary")[0]
    follow(*pair("binary", solver=solver), "fit", X, np.full(60, "elm"), rel=1e-6 if solver == "lbfgs" else 1e-9)


@pytest.mark.parametrize(
    "parameters", [{"beta_1": 0.0}, {"beta_2": 0.0}, {"beta_1": 0.5, "beta_2": 0.8, "epsilon": 0.1}]
)
def test_parameters_of_adam(parameters):
    follow(*pair("multiclass", **parameters), "fit", *samples("multiclass"))


@pytest.mark.parametrize(
    "parameters", [{"power_t": 0.0}, {"power_t": 0.9}, {"momentum": 1.0}, {"momentum": 1, "alpha": 1}]
)
def test_parameters_of_sgd(parameters):
    mine, theirs = pair("multiclass", solver="sgd", learning_rate="invscaling", **parameters)
    follow(mine, theirs, "fit", *samples("multiclass"))


@pytest.mark.parametrize("parameters", [{"max_fun": 5}, {"tol": 0.5}, {"max_iter": 1}, {"alpha": 0, "max_iter": 40}])
@pytest.mark.parametrize("kind", ["strings", "single"])
def test_parameters_of_lbfgs(kind, parameters):
    follow(*pair(kind, solver="lbfgs", **parameters), "fit", *samples(kind), rel=1e-5)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_saturated_probabilities(kind, solver):
    """Nearly all are exactly 0 or 1; scikit-learn clips them in the loss alone, and goes on with their differences."""
    X, y = samples(kind)
    X *= {"sgd": 1e3, "adam": 1e6}[solver]
    mine, theirs = pair(kind, solver=solver, hidden_layer_sizes=(), batch_size=10)
    follow(mine, theirs, "fit", X, y)
    with np.errstate(divide="ignore"):
        got, want, logarithms = mine.predict_proba(X), theirs.predict_proba(X), mine.predict_log_proba(X)
    assert np.isin(want, [0, 1]).mean() > 0.9
    check("predict_proba", got, want, 1e-9)
    np.testing.assert_array_equal(np.isneginf(logarithms), got == 0)


# ---- weights ----


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel", "outputs", "poisson"])
def test_a_batch_without_weight(kind, solver, method):
    """It is an error of NumPy's average, in scikit-learn's loss."""
    X, y = samples(kind)
    weights = np.ones(60)
    weights[30:40] = 0
    errors = []
    for estimator in pair(kind, solver=solver, batch_size=10, shuffle=False):
        attempt(estimator.fit, X, y)
        errors += attempt(getattr(estimator, method), X, y, sample_weight=weights)[:1]
    assert errors == ["ZeroDivisionError: Weights sum to zero, can't be normalized"] * 2


@pytest.mark.parametrize(
    "weights", [[1, 2] * 30, np.ones(60, np.float32), pd.Series(np.arange(60)), 2.0, [-0.1] + [1] * 59]
)
def test_weights_of_any_form(weights):
    mine, theirs = pair("multiclass")
    follow(mine, theirs, "fit", *samples("multiclass"), sample_weight=weights)


# ---- partial_fit ----


def chunks(kind, weighted=False):
    """Arguments for three calls of partial_fit."""
    X, y = samples(kind)
    weights = np.random.default_rng(2).uniform(0.1, 3, 60)
    for i in range(3):
        options = {"sample_weight": weights[i::3]} if weighted else {}
        if i == 0 and kind not in REGRESSION:
            options["classes"] = range(3) if kind == "multilabel" else np.unique(y)
        yield (X[i::3], y[i::3]), options


@pytest.mark.pairs
@pytest.mark.parametrize("random_state", [3, np.random.RandomState(3)], ids=["seed", "generator"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("kind", KINDS)
def test_partial_fit(kind, solver, weighted, random_state):
    """A seed is taken anew by each call; a generator goes on, and ends where scikit-learn leaves it."""
    mine, theirs = pair(kind, solver=solver, batch_size=6, random_state=copy.deepcopy(random_state))
    for data, options in chunks(kind, weighted):
        follow(mine, theirs, "partial_fit", *data, **options)
    if random_state != 3:
        states = [generator.get_state() for generator in (mine.random_state, theirs.random_state, random_state)]
        check("state", states[0], states[1], 0)
        assert states[1][2] != states[2][2]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("batch_size", ["auto", 7, 96, 150])
@pytest.mark.parametrize("kind", ["multiclass", "single"])
def test_partial_fit_on_any_number_of_samples(kind, batch_size, weighted):
    """All by the same plan, whose programs are those of a few heights; batches that are sums of them, too."""
    X, y = samples(kind, 330)
    weights = np.random.default_rng(2).uniform(0.1, 3, 330)
    mine, theirs = pair(kind, batch_size=batch_size, hidden_layer_sizes=(9, 5), alpha=0.01)
    options = {"classes": range(3)} if kind == "multiclass" else {}
    for n in (330, 100, 5, 7, 33, 201, 150, 329):
        more = {"sample_weight": weights[-n:]} if weighted else {}
        follow(mine, theirs, "partial_fit", X[-n:], y[-n:], **options, **more)
        options = {}
    (plan,) = mine._engine.network.plans
    assert plan.kind.any_rows
    assert plan.programs.rows.count(200 if batch_size == "auto" else batch_size) == (2 if batch_size in (7, 96) else 1)


@pytest.mark.parametrize("how", ["row-major", "feature-major"])
@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_partial_fit_on_threads_has_the_same_bits(solver, how, monkeypatch, orientation):
    monkeypatch.setattr(threads, "available_threads", lambda: 3)
    monkeypatch.setattr(threads, "FIT_MULTIPLY_ADDS", 0)
    monkeypatch.setattr(strategy, "THREAD_MULTIPLY_ADDS", 1)
    monkeypatch.setattr(strategy, "SHARD_SAMPLES", 32)
    orientation(how)
    tried = itertools.cycle([1, 3])
    monkeypatch.setattr(thread_tuner.ThreadTuner, "choose", lambda self: (next(tried) if self.threads > 1 else 1, 1.0))
    X, y = samples("multiclass", 500)
    one, several = (fastnn.MLPClassifier((70, 40), solver=solver, random_state=0, alpha=0.1, threads=n) for n in (1, 3))
    for n in (500, 130, 33, 1, 401, 200):
        for made in (one, several):
            made.partial_fit(X[:n], y[:n], classes=range(3))
        for mine, other in zip(several.coefs_ + several.intercepts_, one.coefs_ + one.intercepts_, strict=True):
            np.testing.assert_array_equal(mine, other)
    assert [1, 3] in [sorted(plan.by_threads) for plan in several._engine.network.plans]


def test_a_prediction_of_many_rows_shares_threads(monkeypatch):
    X, y = samples("multiclass", 3000)
    made = fastnn.MLPClassifier((20,), max_iter=2, random_state=0, threads=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = made.fit(X, y).predict_proba(X)
    network, asked = made._engine.network, []
    monkeypatch.setattr(threads, "available_threads", lambda: 4)
    monkeypatch.setattr(threads, "PARALLEL_MULTIPLY_ADDS", 0)
    network.inference.block_rows = 100
    predict = network.inference.predict
    monkeypatch.setattr(network.inference, "predict", lambda x, out, n=1: (asked.append(n), predict(x, out, n))[1])
    np.testing.assert_array_equal(made.predict_proba(X), expected)
    assert asked == [2]


def test_partial_fit_with_classes_that_come_later():
    mine, theirs = pair("strings")
    X, y = samples("strings")
    follow(mine, theirs, "partial_fit", X[y == "elm"], y[y == "elm"], classes=["ash", "beech", "elm", "oak"])
    follow(mine, theirs, "partial_fit", X[y != "elm"], y[y != "elm"])


def test_partial_fit_with_one_sample():
    X, y = samples("binary")
    mine, theirs = pair("binary", batch_size=1)
    for i in range(5):
        follow(mine, theirs, "partial_fit", X[i : i + 1], y[i : i + 1], classes=[3, 7])


def test_partial_fit_with_lbfgs():
    """scikit-learn's regressor allows it, unlike its classifier; it trains to the end."""
    X, y = samples("single")
    mine, theirs = pair("single", solver="lbfgs")
    for _ in range(2):
        follow(mine, theirs, "partial_fit", X, y, 1e-6)


@pytest.mark.pairs
@pytest.mark.parametrize("warm_start", [False, True])
@pytest.mark.parametrize("kind", ["strings", "single"])
@pytest.mark.parametrize("methods", ["fp", "fpp", "pf", "ppfpf", "ffp"])
def test_fit_and_partial_fit_in_turn(methods, kind, warm_start):
    """partial_fit goes on with the optimizer of fit; fit begins with a new one, and with warm_start at the weights."""
    X, y = samples(kind)
    for solver in ("sgd", "adam"):
        mine, theirs = pair(kind, solver=solver, batch_size=8, warm_start=warm_start)
        for i, letter in enumerate(methods):
            options = {} if letter == "f" or kind == "single" else {"classes": np.unique(y)}
            follow(mine, theirs, {"f": "fit", "p": "partial_fit"}[letter], X[i:50], y[i:50], **options)


# What scikit-learn reads at each call, and what it keeps in the optimizer that the first call makes.
@pytest.mark.parametrize(
    "changed",
    [
        {"alpha": 2.0},
        {"batch_size": 3, "shuffle": False},
        {"activation": "tanh"},
        {"learning_rate_init": 0.5, "momentum": 0.1, "nesterovs_momentum": False, "beta_1": 0.1, "epsilon": 1.0},
        {"learning_rate": "invscaling"},
        {"solver": "adam"},
        {"solver": "sgd"},
        {"tol": 1e9, "n_iter_no_change": 1},
        {"random_state": 11},
        {"hidden_layer_sizes": (9,)},
        {"max_iter": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_parameters_changed_between_calls(solver, changed):
    X, y = samples("multiclass")
    mine, theirs = pair("multiclass", solver=solver, batch_size=8)
    follow(mine, theirs, "partial_fit", X, y, classes=range(3))
    mine.set_params(**changed), theirs.set_params(**changed)
    compare(mine, theirs, X, y)
    for _ in range(4):
        follow(mine, theirs, "partial_fit", X, y)


def test_an_adaptive_rate_falls_in_partial_fit():
    X, y = samples("single")
    mine, theirs = pair("single", solver="sgd", learning_rate="adaptive", tol=1e9, n_iter_no_change=1)
    for _ in range(8):
        follow(mine, theirs, "partial_fit", X, y)
    assert theirs._optimizer.learning_rate < 0.001


@pytest.mark.parametrize("changed", [{"hidden_layer_sizes": (9,)}, {"activation": "tanh"}, {"solver": "adam"}], ids=str)
def test_parameters_changed_before_a_warm_start(changed):
    """The old weights stay, whatever their number."""
    X, y = samples("multiclass")
    mine, theirs = pair("multiclass", solver="sgd", warm_start=True)
    follow(mine, theirs, "fit", X, y)
    mine.set_params(**changed), theirs.set_params(**changed)
    follow(mine, theirs, "fit", X, y)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_early_stopping_that_starts_warm_and_never_improves(solver):
    """Its weights are the last, not the best: scikit-learn trains those that it kept as the best."""
    X, y = samples("single")
    mine, theirs = pair("single", solver=solver, warm_start=True, early_stopping=True, max_iter=60)
    follow(mine, theirs, "fit", X, y)
    best = theirs.best_validation_score_
    mine.set_params(learning_rate_init=1e-7), theirs.set_params(learning_rate_init=1e-7)
    follow(mine, theirs, "fit", -X, y)
    assert theirs.best_validation_score_ == best


def test_the_global_generator():
    """Where random_state is None."""
    shared, states = np.random.mtrand._rand, []
    before = shared.get_state()
    try:
        mine, theirs = pair("multiclass", random_state=None, max_iter=80, tol=0.01, n_iter_no_change=2)
        for estimator in (mine, theirs):
            shared.set_state(np.random.RandomState(4).get_state())
            attempt(estimator.fit, *samples("multiclass"))
            states.append(shared.get_state())
    finally:
        shared.set_state(before)
    assert 2 < theirs.n_iter_ < 80
    check("state", *states, 0)
    compare(mine, theirs, *samples("multiclass", seed=1))


# ---- types of input ----


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", KINDS)
def test_float32(kind, solver):
    """It stays float32; but lbfgs, which computes with float32, leaves float64 weights."""
    X, y = samples(kind)
    y = y.astype(np.float32) if kind in REGRESSION else y
    mine, theirs = pair(kind, solver=solver)
    follow(mine, theirs, "fit", X.astype(np.float32), y, rel=1e-3 if solver == "lbfgs" else 1e-4)
    assert {w.dtype.name for w in mine.coefs_} == {"float64" if solver == "lbfgs" else "float32"}
    follow(mine, theirs, "fit", X, y, rel=1e-5 if solver == "lbfgs" else 1e-9)
    assert {w.dtype.name for w in mine.coefs_} == {"float64"}


FORMS = {
    "float16": lambda X: X.astype(np.float16),
    "longdouble": lambda X: X.astype(np.longdouble),
    "big-endian": lambda X: X.astype(">f8"),
    "int64": lambda X: (4 * X).astype(np.int64),
    "int32": lambda X: (4 * X).astype(np.int32),
    "int8": lambda X: (4 * X).astype(np.int8),
    "bool": lambda X: X > 0,
    "object": lambda X: X.astype(object),
    "fortran": np.asfortranarray,
    "reversed": lambda X: X[::-1, ::-1],
    "strided": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    "read-only": lambda X: np.frombuffer(X.tobytes()).reshape(X.shape),
    "list": lambda X: X.tolist(),
    "frame": pd.DataFrame,
    "named frame": lambda X: pd.DataFrame(X, columns=list("abcdef")),
    "float32": lambda X: X.astype(np.float32),
    "float64": lambda X: X,
    "csr": scipy.sparse.csr_array,
    "csc": scipy.sparse.csc_array,
    "csr_matrix": scipy.sparse.csr_matrix,
    "csc_matrix": scipy.sparse.csc_matrix,
    "coo": scipy.sparse.coo_array,
    "csr float32": lambda X: scipy.sparse.csr_array(X.astype(np.float32)),
}


@pytest.mark.parametrize("form", FORMS)
def test_samples_of_any_form(form):
    """What is no float32 becomes float64."""
    X, y = samples("binary")
    given = FORMS[form](X)
    mine, theirs = pair("binary", batch_size=20)
    assert attempt(mine.fit, given, y)[1] == attempt(theirs.fit, given, y)[1]
    rel = 1e-4 if "float32" in form else 1e-9
    check_all(fitted(mine), fitted(theirs), rel)
    for data in (given, X):
        want = attempt(theirs.predict_proba, data)
        got = attempt(mine.predict_proba, data)
        assert got[1] == want[1]
        check(form, got[0], want[0], rel)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["multiclass", "single"])
def test_predictions_for_any_form(kind, dtype, form):
    """Their type is that of the product of X and the weights."""
    X, y = samples(kind)
    mine, theirs = pair(kind, hidden_layer_sizes=(7, 4))
    for estimator in (mine, theirs):
        attempt(estimator.fit, X.astype(dtype), y)
    mine.coefs_, mine.intercepts_ = copy.deepcopy((theirs.coefs_, theirs.intercepts_))
    given = FORMS[form](X)
    rel = 1e-5 if "float32" in dtype + form else 1e-12
    for method in ("predict_proba", "predict_log_proba", "predict") if kind == "multiclass" else ("predict",):
        (got, said), (want, other) = (attempt(getattr(e, method), given) for e in (mine, theirs))
        assert said == other
        check(method, got, want, rel)


@pytest.mark.pairs
@pytest.mark.parametrize("container", ["csr_array", "csc_array", "csr_matrix", "csc_matrix"])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", KINDS)
def test_sparse_samples_are_as_dense_ones(kind, solver, container):
    X, y = samples(kind)
    X[np.abs(X) < 0.8] = 0
    sparse = getattr(scipy.sparse, container)(X)
    (mine, theirs), (dense, _) = (pair(kind, solver=solver, batch_size=16) for _ in range(2))
    rel = 1e-6 if solver == "lbfgs" else 1e-9
    said = [attempt(e.fit, data, y)[1] for e, data in ((mine, sparse), (theirs, sparse), (dense, X))]
    assert said[0] == said[1] == said[2]
    compare(mine, theirs, sparse, y, rel)
    check_all(fitted(mine), fitted(dense), rel)
    check_all(outputs(mine, sparse, y), outputs(dense, X, y), rel)
    if solver != "lbfgs":
        follow(mine, theirs, "partial_fit", sparse, y)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_frames(early_stopping):
    """Names of features are kept; samples without them, or with others, warn or fail as in scikit-learn."""
    X, y = samples("strings")
    frame = pd.DataFrame(X, columns=[f"feature {i}" for i in range(6)])
    mine, theirs = pair("strings", early_stopping=early_stopping)
    assert attempt(mine.fit, frame, pd.Series(y))[1] == attempt(theirs.fit, frame, pd.Series(y))[1]
    compare(mine, theirs, frame, y)
    assert "feature_names_in_" in fitted(theirs)
    for data in (X, frame[frame.columns[::-1]], frame.rename(columns={"feature 3": "other"}), frame.iloc[:, :5]):
        for method in ("predict", "predict_proba"):
            got, want = (attempt(getattr(e, method), data) for e in (mine, theirs))
            assert got[1] == want[1]
            check(method, got[0], want[0], 1e-9)


Y_FORMS = {
    "list": ("strings", lambda y: y.tolist()),
    "object": ("strings", lambda y: y.astype(object)),
    "series": ("strings", pd.Series),
    "categories": ("strings", pd.Categorical),
    "bool": ("binary", lambda y: y == 3),
    "float": ("multiclass", lambda y: y.astype(float)),
    "column": ("multiclass", lambda y: y[:, None]),
    "labels as bool": ("multilabel", lambda y: y == 1),
    "labels as a list": ("multilabel", lambda y: y.tolist()),
    "labels as a frame": ("multilabel", pd.DataFrame),
    "numbers": ("single", lambda y: y.tolist()),
    "float32": ("single", lambda y: y.astype(np.float32)),
    "ints": ("outputs", lambda y: (9 * y).astype(np.int16)),
    "a column": ("single", lambda y: y[:, None]),
    "fortran": ("outputs", np.asfortranarray),
    "counts": ("poisson", lambda y: y.astype(np.uint8)),
    "large": ("single", lambda y: 100 * y),
}


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("form", Y_FORMS)
def test_targets_of_any_form(form, solver):
    kind, convert = Y_FORMS[form]
    X, y = samples(kind)
    mine, theirs = pair(kind, solver=solver)
    assert attempt(mine.fit, X, convert(y))[1] == attempt(theirs.fit, X, convert(y))[1]
    compare(mine, theirs, X, convert(y), 1e-6 if solver == "lbfgs" else 1e-9)


# ---- coefs_ and intercepts_ ----


def fill_with_zeros(e):
    e.coefs_[0][...] = 0
    e.intercepts_[0][...] = 0


def assign_half(e):
    e.coefs_[0] = e.coefs_[0] / 2
    e.intercepts_[1] = e.intercepts_[1] / 2


def edit_elements(e):
    e.coefs_[1][2, 0] += 1
    e.intercepts_[0][:2] -= 1


def replace_lists(e):
    e.coefs_ = [w * 0.5 for w in e.coefs_]
    e.intercepts_ = [b + 1 for b in e.intercepts_]


def swap_orders(e):
    e.coefs_ = [np.asfortranarray(w) for w in e.coefs_]


def drop_units(e):
    e.coefs_ = [e.coefs_[0][:, :3], e.coefs_[1][:3]]
    e.intercepts_ = [e.intercepts_[0][:3], e.intercepts_[1]]


def share_an_array(e):
    e.intercepts_[0] = e.coefs_[0][0] * 1


def append_a_layer(e):
    e.coefs_.insert(1, np.eye(5)), e.intercepts_.insert(1, np.full(5, 0.25))
    e.n_layers_ += 1


COPIES = {"itself": lambda e: e, "pickle": lambda e: pickle.loads(pickle.dumps(e)), "deepcopy": copy.deepcopy}
EDITS = (fill_with_zeros, assign_half, edit_elements, replace_lists, swap_orders, drop_units, share_an_array)


CLASSES = {
    "few": lambda dtype: np.tile([5, -3, 9, 0], 9).astype(dtype),
    "two": lambda dtype: np.tile([5, -3], 18).astype(dtype),
    "one": lambda dtype: np.full(36, 4, dtype),
    "many": lambda dtype: np.arange(36).astype(dtype),
}


@pytest.mark.filterwarnings("ignore:The number of unique classes is greater:UserWarning")
@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "float64", "uint8"])
@pytest.mark.parametrize("kind", CLASSES)
def test_plain_arrays_are_validated_as_by_scikit_learn(kind, dtype):
    X, y = np.random.default_rng(0).random((36, 2)), CLASSES[kind](dtype)
    ours, theirs = fastnn.MLPClassifier(), originals.MLPClassifier()
    known, fewer, new = (X, y[::-1].copy()), (X, np.full(36, y[0], dtype)), (X, y + 1)
    for arguments in [(X, y, False, True), (*known, True, False), (*fewer, True, False), (*new, True, False)]:
        same(*(outcome(each._validate_input, *arguments) for each in (ours, theirs)))
        same(ours.classes_, theirs.classes_)
        assert ours.n_features_in_ == theirs.n_features_in_ == 2
        assert vars(ours._label_binarizer).keys() == vars(theirs._label_binarizer).keys()
        assert ours._label_binarizer.y_type_ == theirs._label_binarizer.y_type_
        assert ours._label_binarizer.sparse_input_ == theirs._label_binarizer.sparse_input_
        same(ours._label_binarizer.classes_, theirs._label_binarizer.classes_)


def outcome(function, *arguments, **named):
    """What a call gives, or its error."""
    try:
        return function(*arguments, **named)
    except ValueError as error:
        return str(error)


def same(mine, theirs):
    """Assert equal values, dtypes and shapes."""
    assert type(mine) is type(theirs)
    if isinstance(mine, tuple):
        for pair_of_arrays in zip(mine, theirs, strict=True):
            same(*pair_of_arrays)
    elif isinstance(mine, np.ndarray):
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs, strict=True)
    else:
        assert mine == theirs


@pytest.mark.parametrize("wrong", ["features", "nan", "length", "warm"])
def test_wrong_plain_arrays_have_the_errors_of_scikit_learn(wrong):
    X, y = np.random.default_rng(0).random((36, 2)), np.tile([0, 1], 18)
    results = []
    for module in (fastnn, originals):
        made = module.MLPClassifier(max_iter=2, warm_start=wrong == "warm", random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made.partial_fit(X, y, classes=[0, 1])
            if wrong == "features":
                results.append(outcome(made.partial_fit, np.ones((36, 3)), y))
            elif wrong == "nan":
                results.append(outcome(made.fit, np.where(X < 0.1, np.nan, X), y))
            elif wrong == "length":
                results.append(outcome(made.fit, X, y[1:]))
            else:
                results.append(outcome(made.fit, X, y * 2))
    assert isinstance(results[0], str)
    assert results[0] == results[1]


@pytest.mark.pairs
@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize("edit", [*EDITS, append_a_layer])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", ["multiclass", "single"])
def test_edited_coefficients_predict(kind, solver, edit, copied):
    X, y = samples(kind)
    rel = 1e-6 if solver == "lbfgs" else 1e-9
    mine, theirs = pair(kind, solver=solver)
    follow(mine, theirs, "fit", X, y, rel)
    mine, theirs = COPIES[copied](mine), COPIES[copied](theirs)
    before = theirs._forward_pass_fast(X)
    edit(mine), edit(theirs)
    compare(mine, theirs, X, y, rel)
    assert edit is swap_orders or np.abs(theirs._forward_pass_fast(X) - before).max() > 1e-3


@pytest.mark.pairs
@pytest.mark.parametrize("edit", [e for e in EDITS if e is not drop_units])
@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("method", ["partial_fit", "fit"])
def test_edited_coefficients_are_trained(method, solver, edit):
    X, y = samples("multiclass")
    mine, theirs = pair("multiclass", solver=solver, warm_start=True, batch_size=8)
    follow(mine, theirs, "fit", X, y)
    edit(mine), edit(theirs)
    follow(mine, theirs, method, X, y)
    follow(mine, theirs, "partial_fit", X, y)


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("solver", SOLVERS)
def test_edits_in_place_after_training(solver, early_stopping):
    """What fit leaves in the list is what predict reads."""
    X, y = samples("outputs")
    mine, theirs = pair("outputs", solver=solver, early_stopping=early_stopping)
    follow(mine, theirs, "fit", X, y, rel=1e-6 if solver == "lbfgs" else 1e-9)
    before = mine.predict(X)
    mine.intercepts_[-1] += 0.5
    np.testing.assert_allclose(mine.predict(X), before + 0.5, rtol=1e-9, atol=1e-12)
    mine.coefs_[-1] *= 2
    np.testing.assert_allclose(mine.predict(X), 2 * before - mine.intercepts_[-1] + 1, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("warm_start", [False, True])
def test_an_array_of_an_earlier_fit(warm_start, solver):
    """A new fit makes new arrays; warm_start trains the old ones in place, but for lbfgs."""
    X, y = samples("single")
    changed = []
    for estimator in pair("single", solver=solver, warm_start=warm_start):
        attempt(estimator.fit, X, y)
        arrays = estimator.coefs_ + estimator.intercepts_
        before = copy.deepcopy(arrays)
        attempt(estimator.fit, X[:30], -y[:30])
        attempt(estimator.predict, X)
        changed.append([bool((a != b).any()) for a, b in zip(arrays, before, strict=True)])
        assert all((a != b).any() for a, b in zip(estimator.coefs_ + estimator.intercepts_, before, strict=True))
    assert changed[1] == [warm_start and solver != "lbfgs"] * 4
    assert changed[0] == changed[1]


def test_a_copy_is_a_copy():
    X, y = samples("multiclass")
    mine, _ = pair("multiclass", solver="sgd")
    attempt(mine.fit, X, y)
    want, copies = mine.predict_proba(X), [copy.deepcopy(mine), pickle.loads(pickle.dumps(mine))]
    for other in copies:
        other.coefs_[0][...] = 0
        other.partial_fit(X, y)
        assert np.abs(other.predict_proba(X) - want).max() > 1e-3
    np.testing.assert_array_equal(mine.predict_proba(X), want)


def test_an_activation_changed_after_training():
    mine, theirs = pair("outputs", activation="relu")
    X, y = samples("outputs")
    follow(mine, theirs, "fit", X, y)
    for activation in ("tanh", "identity", "logistic", "relu"):
        mine.set_params(activation=activation), theirs.set_params(activation=activation)
        compare(mine, theirs, X, y)


# ---- nothing is delegated ----


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_computed_by_scikit_learn(kind, solver, early_stopping, monkeypatch):
    X, y = samples(kind)
    (mine, theirs), (again, also) = (pair(kind, solver=solver, early_stopping=early_stopping) for _ in range(2))
    attempt(theirs.fit, X, y)
    want = [(fitted(theirs), outputs(theirs, X, y))]
    also.set_params(early_stopping=False), again.set_params(early_stopping=False)
    if solver != "lbfgs":
        for data, options in chunks(kind):
            also.partial_fit(*data, **options)
        want.append((fitted(also), outputs(also, X, y)))

    def refuse(*_, **__):
        raise AssertionError("scikit-learn computes")

    base = _multilayer_perceptron.BaseMultilayerPerceptron
    for name in ("_backprop", "_forward_pass", "_forward_pass_fast", "_compute_loss_grad"):
        monkeypatch.setattr(base, name, refuse)
    for name in ("BaseOptimizer", "SGDOptimizer", "AdamOptimizer"):
        monkeypatch.setattr(getattr(_stochastic_optimizers, name), "update_params", refuse)
        monkeypatch.setattr(getattr(_stochastic_optimizers, name), "_get_updates", refuse, raising=False)
    for functions in (_base.ACTIVATIONS, _base.DERIVATIVES, _base.LOSS_FUNCTIONS):
        for name in functions:
            monkeypatch.setitem(functions, name, refuse)
    value, _ = attempt(mine.fit, X, y)
    assert value is mine
    got = [(fitted(mine), outputs(mine, X, y))]
    if solver != "lbfgs":
        for data, options in chunks(kind):
            again.partial_fit(*data, **options)
        got.append((fitted(again), outputs(again, X, y)))
    for one, other in zip(got, want, strict=True):
        for shown, expected in zip(one, other, strict=True):
            check_all(shown, expected, 1e-6 if solver == "lbfgs" else 1e-9)


# ---- what is printed ----


@pytest.mark.parametrize(
    "parameters",
    [
        {"solver": "sgd"},
        {"solver": "adam", "verbose": 3},
        {"solver": "lbfgs"},
        {"tol": 1e9, "n_iter_no_change": 2},
        {"early_stopping": True},
        {"early_stopping": True, "tol": 1e9, "n_iter_no_change": 2},
        {"solver": "sgd", "learning_rate": "adaptive", "tol": 1e9, "n_iter_no_change": 1, "max_iter": 60},
        {"solver": "sgd", "learning_rate": "adaptive", "tol": 1e9, "n_iter_no_change": 1, "early_stopping": True},
        {"warm_start": True, "n_iter_no_change": 1, "tol": 1e9},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["multiclass", "single"])
def test_verbose(kind, parameters, capsys):
    X, y = samples(kind)
    printed = []
    for estimator in pair(kind, **({"verbose": True} | parameters)):
        attempt(estimator.fit, X, y)
        attempt(estimator.fit, X[:50], y[:50])
        if parameters.get("solver") != "lbfgs":
            attempt(estimator.partial_fit, X, y)
        printed.append(capsys.readouterr())
    assert printed[0] == printed[1]
    assert bool(printed[1].out) == (parameters.get("solver") != "lbfgs")


# ---- errors ----

X_BAD = np.full((60, 6), np.nan)
MISUSES = {
    "not fitted": ({}, lambda e, X, y: e.predict(X)),
    "nan": ({}, lambda e, X, y: e.fit(X_BAD, y)),
    "infinite": ({}, lambda e, X, y: e.fit(X_BAD.clip(np.inf) + np.inf, y)),
    "no samples": ({}, lambda e, X, y: e.fit(X[:0], y[:0])),
    "one dimension": ({}, lambda e, X, y: e.fit(X[0], y)),
    "three dimensions": ({}, lambda e, X, y: e.fit(X[None], y)),
    "complex": ({}, lambda e, X, y: e.fit(X * 1j, y)),
    "text": ({}, lambda e, X, y: e.fit(X.astype(str) + "a", y)),
    "other lengths": ({}, lambda e, X, y: e.fit(X, y[:30])),
    "no y": ({}, lambda e, X, y: e.fit(X, None)),
    "weights of another length": ({}, lambda e, X, y: e.fit(X, y, sample_weight=np.ones(30))),
    "weights of two dimensions": ({}, lambda e, X, y: e.fit(X, y, sample_weight=np.ones((60, 2)))),
    "weights that are nan": ({}, lambda e, X, y: e.fit(X, y, sample_weight=np.full(60, np.nan))),
    "alpha": ({"alpha": -1}, lambda e, X, y: e.fit(X, y)),
    "batch_size": ({"batch_size": 0}, lambda e, X, y: e.fit(X, y)),
    "solver": ({"solver": "newton"}, lambda e, X, y: e.fit(X, y)),
    "activation": ({"activation": "swish"}, lambda e, X, y: e.fit(X, y)),
    "momentum": ({"momentum": 1.5}, lambda e, X, y: e.fit(X, y)),
    "max_iter": ({"max_iter": 0}, lambda e, X, y: e.partial_fit(X, y)),
    "random_state": ({"random_state": "a"}, lambda e, X, y: e.fit(X, y)),
    "zero units": ({"hidden_layer_sizes": (5, 0)}, lambda e, X, y: e.fit(X, y)),
    "partial_fit with early stopping": (
        {"early_stopping": True},
        lambda e, X, y: e.fit(X, y).partial_fit(X, y),
    ),
    "a small validation set": ({"early_stopping": True}, lambda e, X, y: e.fit(X[:4], y[[0, 1, 0, 1]])),
    "no validation set": ({"early_stopping": True, "validation_fraction": 0.0}, lambda e, X, y: e.fit(X, y)),
    "predicting nan": ({}, lambda e, X, y: e.fit(X, y).predict(X_BAD)),
    "predicting one nan": ({}, lambda e, X, y: e.fit(X, y).predict(np.where(X[3, 3] == X, np.nan, X))),
    "predicting both infinities": ({}, lambda e, X, y: e.fit(X, y).predict(np.where(X > 0, np.inf, -np.inf))),
    "predicting other features": ({}, lambda e, X, y: e.fit(X, y).predict(X[:, :5])),
    "predicting one dimension": ({}, lambda e, X, y: e.fit(X, y).predict(X[0])),
    "predicting nothing": ({}, lambda e, X, y: e.fit(X, y).predict(X[:0])),
    "predicting text": ({}, lambda e, X, y: e.fit(X, y).predict(X.astype(str) + "a")),
    "predicting complex": ({}, lambda e, X, y: e.fit(X, y).predict(X * 1j)),
    "scoring another length": ({}, lambda e, X, y: e.fit(X, y).score(X, y[:30])),
}
CLASS_MISUSES = {
    "partial_fit with lbfgs": ({"solver": "lbfgs"}, lambda e, X, y: e.partial_fit(X, y, classes=[3, 7])),
    "partial_fit without classes": ({}, lambda e, X, y: e.partial_fit(X, y)),
    "other classes": ({}, lambda e, X, y: e.partial_fit(X, y, classes=[3, 7]).partial_fit(X, y, classes=[3, 8])),
    "unknown classes": ({}, lambda e, X, y: e.partial_fit(X, y, classes=[3, 7]).partial_fit(X, y + 1)),
    "too few classes": ({}, lambda e, X, y: e.partial_fit(X, y, classes=[3])),
    "warm start without a class": ({"warm_start": True}, lambda e, X, y: e.fit(X, y).fit(X, y * 0 + 3)),
    "partial_fit without a class": ({"warm_start": True}, lambda e, X, y: e.fit(X, y).partial_fit(X, y * 0 + 3)),
    "a class of one sample": ({"early_stopping": True}, lambda e, X, y: e.fit(X, np.arange(60) // 59)),
    "fractions as classes": ({}, lambda e, X, y: e.fit(X, X[:, 0])),
}


@pytest.mark.parametrize(
    ("kind", "misuse"),
    [
        *itertools.product(["binary", "single"], MISUSES.values()),
        *itertools.product(["binary"], CLASS_MISUSES.values()),
    ],
    ids=[*(f"{kind}-{name}" for kind in ("binary", "single") for name in MISUSES), *CLASS_MISUSES],
)
def test_errors(kind, misuse):
    """The same, and the estimator is left with the same attributes."""
    parameters, do = misuse
    X, y = samples(kind)
    (mine, theirs), left = pair(kind, **parameters), []
    got, want = (attempt(do, estimator, X, y) for estimator in (mine, theirs))
    assert isinstance(want[0], str)
    if "InvalidParameterError" in want[0]:  # some parameters may be more here
        got, want = ((value.split(" must be ")[0], said) for value, said in (got, want))
    assert got == want
    for estimator in (mine, theirs):
        left.append(fitted(estimator))
        left[-1].pop("_optimizer.learning_rate", None)
    check_all(left[0], left[1], 1e-9)


def test_an_estimator_that_is_not_fitted():
    for kind in ("binary", "single"):
        mine, _ = pair(kind)
        for method in ("predict", "score") if kind == "single" else ("predict", "predict_proba", "score"):
            with pytest.raises(NotFittedError, match=f"This {type(mine).__name__} instance is not fitted yet"):
                getattr(mine, method)(*samples(kind)[: 1 + (method == "score")])


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_weights_that_are_not_finite(solver, early_stopping):
    """An error; the next fit is as any other."""
    X, y = samples("single")
    mine, theirs = pair("single", solver=solver, early_stopping=early_stopping)
    huge = np.finfo(float).max * np.random.default_rng(0).uniform(size=X.shape)
    (one, said), (other, want) = (attempt(e.fit, huge, y) for e in (mine, theirs))
    if early_stopping:  # it ends with the best weights, which here are the first
        assert other is theirs
        assert one is mine, one
        assert said == want
        check("coefs_", mine.coefs_, theirs.coefs_, 1e-9)
    else:
        assert other.startswith("ValueError: Solver produced non-finite parameter weights. The input data may contain")
        assert one == other
    follow(mine, theirs, "fit", X, y)


@pytest.mark.parametrize("kind", ["single", "multiclass"])
def test_lbfgs_with_values_too_large(kind):
    """Its line search fails, and it warns."""
    X, y = samples(kind)
    mine, theirs = pair(kind, solver="lbfgs")
    huge = np.finfo(float).max * np.random.default_rng(0).uniform(size=X.shape)
    (one, said), (other, want) = (attempt(e.fit, huge, y) for e in (mine, theirs))
    assert other is theirs
    assert one is mine
    assert said == want
    check_all(fitted(mine), fitted(theirs), 1e-9)


@pytest.mark.parametrize("kind", ["single", "multiclass"])
def test_early_stopping_outlives_divergence(kind):
    """Its scores are nan from then on (a classifier's is that of some class), and it ends with the best weights."""
    X, y = samples(kind)
    settings = {"activation": "identity", "solver": "sgd", "learning_rate_init": 1e3 if kind == "multiclass" else 1.0}
    mine, theirs = pair(kind, **settings, early_stopping=True, alpha=1.0, batch_size=4, max_iter=40)
    X = X * 1e3
    (one, said), (other, want) = (attempt(e.fit, X, y) for e in (mine, theirs))
    assert other is theirs
    assert one is mine, one
    assert said == want
    got, want = fitted(mine), fitted(theirs)
    assert not np.isfinite(want["loss_curve_"][-1])
    assert np.isnan(want["validation_scores_"]).any() == (kind == "single")
    for name in ("n_iter_", "t_", "coefs_", "intercepts_", "best_validation_score_", "_no_improvement_count"):
        check(name, got[name], want[name], 1e-9)
    check("validation_scores_", np.isnan(got["validation_scores_"]), np.isnan(want["validation_scores_"]), 0)


def test_an_error_of_partial_fit_changes_nothing():
    X, y = samples("binary")
    mine, theirs = pair("binary", solver="sgd")
    follow(mine, theirs, "partial_fit", X, y, classes=[3, 7])
    for bad in ((X_BAD, y), (X, y + 1), (X[:, :5], y), (X, y[:30])):
        got, want = (attempt(e.partial_fit, *bad) for e in (mine, theirs))
        assert got == want
        compare(mine, theirs, X, y)
    follow(mine, theirs, "partial_fit", X, y)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_an_interrupted_fit(early_stopping, monkeypatch):
    """It warns, and the estimator has the epochs that were trained."""
    train, sent = entry.train, []

    def interrupted(*arguments):
        done = train(*arguments)
        if arguments[-3]["epoch"][0] >= 30 and not sent:
            sent.append(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return done

    X, y = samples("multiclass")
    settings = {"tol": 0.0, "n_iter_no_change": np.inf, "early_stopping": early_stopping}
    mine, theirs = pair("multiclass", max_iter=10**6, **settings)
    attempt(clone(mine).set_params(max_iter=3).fit, X, y)  # whatever happens once happens here
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(entry, "train", interrupted)
            value, said = attempt(mine.fit, X, y)
    finally:
        signal.signal(signal.SIGINT, before)
    assert value is mine
    assert said == [(UserWarning, "Training interrupted by user.")]
    assert 30 <= mine.n_iter_ < 10**6
    assert len(mine.loss_curve_) == mine.n_iter_
    assert mine.loss_ == mine.loss_curve_[-1]
    assert mine.t_ == mine.n_iter_ * (54 if early_stopping else 60)
    attempt(theirs.set_params(max_iter=20).fit, X, y)
    check("loss_curve_", mine.loss_curve_[:20], theirs.loss_curve_, 1e-9)
    if early_stopping:
        assert mine.best_validation_score_ == max(mine.validation_scores_)
    else:
        assert mine.best_loss_ == min(mine.loss_curve_)
    attempt(mine.set_params(max_iter=20).fit, X, y)
    compare(mine, theirs, X, y)


# ---- scikit-learn's tools ----


@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_parameters_signatures_and_tags(name):
    ours, theirs = getattr(fastnn, name), getattr(originals, name)
    assert issubclass(ours, theirs)
    added = {
        "__init__": OWN,
        "fit": dict.fromkeys(VALIDATION),
        "set_fit_request": dict.fromkeys(VALIDATION, "$UNCHANGED$"),
    }
    for method in ["__init__", *(method for method in dir(theirs) if not method.startswith("_"))]:
        mine, want = ([*inspect.signature(getattr(cls, method)).parameters.values()] for cls in (ours, theirs))
        own = [p for p in mine if p.name in added.get(method, {})]
        assert {p.name: p.default for p in own} == added.get(method, {}), method
        assert {p.kind for p in own} <= {inspect.Parameter.KEYWORD_ONLY}, method
        theirs_first = [(p.name, p.default, p.kind) for p in mine if p not in own]
        assert theirs_first == [(p.name, p.default, p.kind) for p in want], method
    assert ours().get_params() == theirs().get_params() | OWN
    assert get_tags(ours()) == get_tags(theirs())
    assert repr(ours(alpha=1, solver="lbfgs")) == f"{name}(alpha=1, solver='lbfgs')"
    assert [hasattr(cls(solver="lbfgs"), "partial_fit") for cls in (ours, theirs)] == [name == "MLPRegressor"] * 2
    with sklearn.config_context(enable_metadata_routing=True):
        requests = [cls().set_fit_request(sample_weight=True).get_metadata_routing() for cls in (ours, theirs)]
    wanted = [request.fit.requests for request in requests]
    assert wanted[0] == wanted[1] | dict.fromkeys(VALIDATION)


COMPANY = {
    "pipeline": lambda mlp: make_pipeline(StandardScaler(), mlp),
    "frames": lambda mlp: make_pipeline(StandardScaler(), mlp).set_output(transform="pandas"),
    "grid": lambda mlp: GridSearchCV(mlp, {"alpha": [1e-4, 1.0], "hidden_layer_sizes": [3, (4, 3)]}, cv=2),
    "grid of pipelines": lambda mlp: GridSearchCV(
        make_pipeline(StandardScaler(), mlp), {f"{type(mlp).__name__.lower()}__solver": ["sgd", "lbfgs"]}, cv=3
    ),
}
CLASSIFIERS = {
    "calibrated": lambda mlp: CalibratedClassifierCV(mlp, cv=2),
    "stacking": lambda mlp: StackingClassifier([("a", mlp), ("b", clone(mlp))], LogisticRegression(), cv=2),
    "bagging": lambda mlp: BaggingClassifier(mlp, n_estimators=3, random_state=1),
    "one vs rest": OneVsRestClassifier,
}
REGRESSORS = {
    "bagging": lambda mlp: BaggingRegressor(mlp, n_estimators=3, random_state=1),
    "transformed": lambda mlp: TransformedTargetRegressor(mlp, transformer=StandardScaler()),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "make"),
    [
        *(pytest.param(kind, f, id=f"{kind}-{n}") for kind in ("strings", "single") for n, f in COMPANY.items()),
        *(pytest.param(kind, f, id=f"{kind}-{n}") for kind in ("binary", "strings") for n, f in CLASSIFIERS.items()),
        *(pytest.param("single", f, id=f"single-{n}") for n, f in REGRESSORS.items()),
    ],
)
def test_in_the_company_of_scikit_learn(kind, make):
    X, y = samples(kind)
    new = samples(kind, 25, seed=1)[0]
    mine, theirs = map(make, pair(kind, max_iter=30))
    assert attempt(mine.fit, X, y)[1] == attempt(theirs.fit, X, y)[1]
    rel = 1e-6 if isinstance(mine, GridSearchCV) else 1e-9  # one of its candidates is trained with lbfgs
    check_all(outputs(mine, new, y[:25]), outputs(theirs, new, y[:25]), rel)
    if isinstance(mine, GridSearchCV):
        assert mine.best_params_ == theirs.best_params_
        scores = [search.cv_results_["mean_test_score"] for search in (mine, theirs)]
        check("score", scores[0], scores[1], rel)


@pytest.mark.parametrize("kind", ["strings", "multilabel", "outputs", "poisson"])
def test_cross_validation(kind):
    X, y = samples(kind)
    got, want = (
        [attempt(f, e, X, y, cv=3)[0] for f in (cross_val_score, cross_val_predict)] for e in pair(kind, solver="sgd")
    )
    check("score", got, want, 1e-9)


@pytest.mark.pairs
@pytest.mark.parametrize("random_state", [3, np.random.RandomState(3)], ids=["seed", "generator"])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", ["strings", "outputs"])
@pytest.mark.parametrize("how", ["pickle", "joblib", "deepcopy"])
def test_a_copy_goes_on(how, kind, solver, random_state, tmp_path):
    """As it predicts, so it trains: with the optimizer's averages, and with the generator's state."""

    def copied(estimator):
        if how == "joblib":
            joblib.dump(estimator, tmp_path / "estimator")
            return joblib.load(tmp_path / "estimator")
        return copy.deepcopy(estimator) if how == "deepcopy" else pickle.loads(pickle.dumps(estimator))

    X, y = samples(kind)
    rel = 1e-6 if solver == "lbfgs" else 1e-9
    mine, theirs = pair(kind, solver=solver, warm_start=True, random_state=copy.deepcopy(random_state))
    mine, theirs = copied(mine), copied(theirs)
    follow(mine, theirs, "fit", X, y, rel)
    mine, theirs = copied(mine), copied(theirs)
    compare(mine, theirs, X, y, rel)
    for _ in range(2):
        follow(mine, theirs, "fit" if solver == "lbfgs" else "partial_fit", X, y, rel)
        mine, theirs = copied(copied(mine)), copied(theirs)
    follow(mine, theirs, "fit", X, y, 1e-5 if solver == "lbfgs" else 1e-9)


@pytest.mark.parametrize("how", [*COPIES, "from_sklearn"])
@pytest.mark.parametrize(("solver", "rate"), [("sgd", 0.3), ("adam", 0.05)])
def test_a_copy_goes_on_with_early_stopping(how, solver, rate):
    """Where no further epoch is better, scikit-learn keeps the last one, because its best coefficients are these."""
    X, y = samples("binary")
    mine, theirs = pair("binary", solver=solver, learning_rate_init=rate, early_stopping=True, warm_start=True)
    for each in (mine, theirs):
        attempt(each.fit, X, y)
    mine = fastnn.MLPClassifier.from_sklearn(theirs) if how == "from_sklearn" else COPIES[how](mine)
    best = theirs.best_validation_score_
    for each in (mine, theirs):
        each.set_params(max_iter=3)
    opposite = y.max() + y.min() - y
    for _ in range(2):
        follow(mine, theirs, "fit", X, opposite)
        assert theirs.best_validation_score_ == best


def test_a_clone_has_only_the_parameters():
    mine, theirs = pair("binary", hidden_layer_sizes=(4, 2), alpha=0.5)
    attempt(mine.fit, *samples("binary"))
    cloned = clone(mine)
    assert type(cloned) is fastnn.MLPClassifier
    assert cloned.get_params() == theirs.get_params() | OWN
    assert fitted(cloned) == {}
    follow(cloned, theirs, "fit", *samples("binary"))


def test_predictions_from_threads_at_once():
    X, y = samples("multiclass")
    mine, _ = pair("multiclass")
    attempt(mine.fit, X, y)
    want = mine.predict_proba(X)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        given = list(pool.map(lambda i: mine.predict_proba(X[i % 50 :]), range(200)))
    for i, probabilities in enumerate(given):
        np.testing.assert_allclose(probabilities, want[i % 50 :], rtol=1e-12)


# ---- from and to scikit-learn ----


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", KINDS)
def test_from_scikit_learn(kind, solver):
    """A fitted estimator of scikit-learn's goes on as one of the package's; itself it stays as it is."""
    X, y = samples(kind)
    rel = 1e-6 if solver == "lbfgs" else 1e-9
    _, theirs = pair(kind, solver=solver, warm_start=True, batch_size=8)
    attempt(theirs.fit, X, y)
    before = pickle.dumps(theirs)
    mine = getattr(fastnn, type(theirs).__name__).from_sklearn(theirs)
    assert type(mine) is getattr(fastnn, type(theirs).__name__)
    assert mine.get_params() == theirs.get_params() | OWN
    check_all(fitted(mine), fitted(theirs), 0)
    check_all(outputs(mine, X, y), outputs(theirs, X, y), 1e-12)
    attempt(copy.deepcopy(mine).fit, -X, y)
    assert pickle.dumps(theirs) == before
    for method in ("fit",) if solver == "lbfgs" else ("partial_fit", "partial_fit", "fit", "partial_fit"):
        follow(mine, theirs, method, X, y, rel)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", KINDS)
def test_to_scikit_learn(kind, solver):
    """And back."""
    X, y = samples(kind)
    rel = 1e-6 if solver == "lbfgs" else 1e-9
    mine, theirs = pair(kind, solver=solver, warm_start=True, batch_size=8)
    follow(mine, theirs, "fit", X, y, rel)
    made = mine.to_sklearn()
    assert type(made) is type(theirs)
    assert made.get_params() == theirs.get_params()
    check_all(fitted(made), fitted(mine), 0)
    check_all(outputs(made, X, y), outputs(mine, X, y), 1e-12)
    kept = mine.predict(X)
    for method in ("fit",) if solver == "lbfgs" else ("partial_fit", "partial_fit", "fit", "partial_fit"):
        follow(made, theirs, method, X, y, rel)
    np.testing.assert_array_equal(mine.predict(X), kept)
    assert pickle.loads(pickle.dumps(made)).predict(X).tolist() == made.predict(X).tolist()
    back = type(mine).from_sklearn(made)
    follow(back, theirs, "fit" if solver == "lbfgs" else "partial_fit", X, y, 1e-5 if solver == "lbfgs" else 1e-9)


@pytest.mark.parametrize("kind", ["binary", "single"])
def test_conversion_before_training(kind):
    mine, theirs = pair(kind, alpha=0.5)
    for made, kin in ((type(mine).from_sklearn(theirs), mine), (mine.to_sklearn(), theirs)):
        assert type(made) is type(kin)
        assert made.get_params() == kin.get_params()
        assert fitted(made) == {}
    follow(type(mine).from_sklearn(theirs), mine.to_sklearn(), "fit", *samples(kind))


@pytest.mark.slow
def test_what_to_sklearn_gives_needs_no_fastnn(run_python, tmp_path):
    mine, _ = pair("strings")
    X, y = samples("strings")
    attempt(mine.fit, X, y)
    joblib.dump((mine.to_sklearn(), X), tmp_path / "estimator")
    source = """
import sys, joblib
estimator, X = joblib.load(sys.argv[1])
assert "fastnn" not in sys.modules
print(" ".join(estimator.predict(X)))
"""
    assert run_python(source, tmp_path / "estimator").stdout.split() == mine.predict(X).tolist()


# ---- scikit-learn's own tests ----


@pytest.mark.slow
def test_the_tests_of_scikit_learn(run_python, tmp_path):
    """Those of its two estimators, with the package's in their place; away from the settings of this repository."""
    source = "import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))"
    report, settings = tmp_path / "report.xml", tmp_path / "pytest.ini"
    settings.write_text("[pytest]\n")
    options = ["-c", settings, "--rootdir", tmp_path, "-p", "no:cacheprovider", "-W", "default"]
    what = ["-p", "tests.fastnn.sklearn_rebind", f"--junitxml={report}"]
    what += ["--pyargs", "sklearn.neural_network.tests.test_mlp"]
    environment = {"PYTEST_ADDOPTS": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": 1, "SKLEARN_TESTS_GLOBAL_RANDOM_SEED": 42}
    done = run_python(source, *options, *what, check=False, **environment)
    counts = ElementTree.parse(report).getroot().find("testsuite").attrib
    names = ("tests", "failures", "errors", "skipped")
    assert [int(counts[name]) for name in names] == [59, 0, 0, 0], done.stdout
    assert done.returncode == 0


CHECKS = """
import json, sys, warnings
import fastnn
from sklearn.utils.estimator_checks import check_estimator

warnings.simplefilter("ignore")
estimator = getattr(fastnn, sys.argv[1])(max_iter=100)
results = check_estimator(estimator, on_fail=None, on_skip=None)
print(json.dumps([(result["check_name"], result["status"], repr(result["exception"])) for result in results]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "want"), [("MLPClassifier", {"passed": 66, "skipped": 1}), ("MLPRegressor", {"passed": 60})]
)
def test_the_checks_of_scikit_learn(name, want, run_python):
    """The one that is skipped is about decision_function, which they do not have."""
    results = json.loads(run_python(CHECKS, name, SCIPY_ARRAY_API=1).stdout)
    assert [result for result in results if result[1] == "failed"] == []
    assert collections.Counter(status for _, status, _ in results) == want


ENDS = [
    *(("fit", name) for name in ("settings_of", "_init_coef", "arrays_of", "EstimatorTrainer")),
    *(("warm_start", name) for name in ("check_goes_on", "settings_of")),
    *(("partial_fit", name) for name in ("check_goes_on", "batch_size_of", "EstimatorTrainer")),
    *(("warm_start", name) for name in ("Steps", "EstimatorFit", "Progress")),
]


@pytest.mark.parametrize(("kind", "name"), ENDS)
def test_an_interrupt_before_training_leaves_the_estimator(kind, name, monkeypatch):
    X, y = np.random.default_rng(0).normal(size=(60, 4)), np.arange(60) % 3
    own = fastnn.MLPClassifier((8,), max_iter=3, random_state=0, warm_start=kind == "warm_start")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own.fit(X, y)
    own.predict(X)
    twin, expected, attributes = copy.deepcopy(own), own.predict_proba(X), dict(vars(own))
    for place in (fastnn.estimators.estimators, fastnn.estimators.estimator_training, fastnn.MLPClassifier):
        if hasattr(place, name):
            monkeypatch.setattr(place, name, interrupt)
    call = own.partial_fit if kind == "partial_fit" else own.fit
    with pytest.raises(KeyboardInterrupt):
        call(X, y % 2 if kind == "fit" else y)
    monkeypatch.undo()
    now = vars(own)
    assert now.keys() == attributes.keys()
    assert all(now[key] is value for key, value in attributes.items())
    np.testing.assert_array_equal(own.predict_proba(X), expected)
    for estimator in (own, twin):
        estimator.partial_fit(X, y)
    np.testing.assert_array_equal(own.predict_proba(X), twin.predict_proba(X))


def interrupt(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize("early_stopping", [False, True])
def test_an_interrupt_between_two_epochs_of_one_piece(early_stopping, monkeypatch):
    """What is known of the epochs that ended belongs to the coefficients."""
    X, y = samples("multiclass")
    options = {"early_stopping": early_stopping, "max_iter": 40}
    mine, _ = pair("multiclass", **options)
    advance, calls = Steps.advance, []

    def interrupted(fit, until):
        advance(fit, min(until, fit.epoch + 1))
        calls.append(fit.epoch)
        if len(calls) == 7:
            raise KeyboardInterrupt

    monkeypatch.setattr(Steps, "advance", interrupted)
    _, warned = attempt(mine.fit, X, y)
    monkeypatch.undo()
    whole, _ = pair("multiclass", **options | {"max_iter": 7})
    attempt(whole.fit, X, y)
    assert (UserWarning, "Training interrupted by user.") in warned
    for name in ("n_iter_", "t_", "loss_", "loss_curve_"):
        assert getattr(mine, name) == getattr(whole, name), name
    if not early_stopping:  # which has the best of those that were scored
        for got, want in zip(mine.coefs_, whole.coefs_, strict=True):
            np.testing.assert_array_equal(got, want)
    if not early_stopping:  # whose epochs are drawn one by one
        whole._random_state.shuffle(np.arange(len(X)))  # for the epoch under way
    for got, want in zip(mine._random_state.get_state(), whole._random_state.get_state(), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("change", [lambda X: X.indices.__setitem__(0, 6), lambda X: X.indptr.__setitem__(0, -1)])
def test_a_sparse_matrix_that_lies_outside_itself(change):
    X, y = samples("multiclass")
    mine, _ = pair("multiclass")
    attempt(mine.fit, X, y)
    rows = scipy.sparse.csr_matrix(X)
    change(rows)
    with pytest.raises(ValueError, match="sparse matrix whose indptr and indices lie within its data and shape"):
        mine._forward_pass_fast(rows, check_input=False)
