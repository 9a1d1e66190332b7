"""fastnn.search: equal to scikit-learn's classes over our estimators, on threads of one process."""

import copy
import inspect
import itertools
import pickle
import signal
import threading
import time
import warnings

import numpy as np
import pytest
import scipy.sparse
import sklearn
import sklearn.model_selection as originals
from scipy.stats import loguniform
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection._search_successive_halving import HalvingRandomSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastnn
from fastnn import search
from fastnn.estimators import estimator_training
from fastnn.network import threads
from fastnn.search import threaded

from .engines import Calls

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

rng = np.random.default_rng(5)
X = rng.normal(size=(90, 4))
LABELS = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0.5)
NUMBERS = X @ [1.0, -2.0, 0.5, 0.0] + 0.1 * rng.normal(size=90)
WEIGHTS = rng.uniform(1, 2, 90)
GROUPS = np.arange(90) % 4
ORIGINALS = {
    "GridSearchCV": originals.GridSearchCV,
    "RandomizedSearchCV": originals.RandomizedSearchCV,
    "HalvingRandomSearchCV": HalvingRandomSearchCV,
}


@pytest.fixture
def three_cpus(monkeypatch):
    """A machine with three CPUs."""
    monkeypatch.setattr(threads, "available_threads", lambda: 3)


def classifier(**parameters):
    return fastnn.MLPClassifier(**{"hidden_layer_sizes": (5,), "max_iter": 4, "random_state": 1} | parameters)


def regressor(**parameters):
    return fastnn.MLPRegressor(**{"hidden_layer_sizes": (5,), "max_iter": 4, "random_state": 1} | parameters)


def assert_same_results(found, expected):
    """Equal but for times."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if not name.endswith("_time"):
            np.testing.assert_array_equal(found[name], value, err_msg=name)
            np.testing.assert_array_equal(np.ma.getmaskarray(found[name]), np.ma.getmaskarray(value), err_msg=name)


def assert_same_estimator(found, expected):
    found, expected = (threaded.last_step(each)[0] for each in (found, expected))
    assert repr(found.get_params()) == repr(expected.get_params())
    if hasattr(expected, "coefs_"):
        assert getattr(found, "loss_curve_", None) == getattr(expected, "loss_curve_", None)
        for a, b in zip(found.coefs_ + found.intercepts_, expected.coefs_ + expected.intercepts_, strict=True):
            np.testing.assert_array_equal(a, b)


def assert_same_search(name, *arguments, data, fit=None, **options):
    """Search with scikit-learn's class and with ours, with one job and with all; gives ours."""
    expected = ORIGINALS[name](*arguments, **options).fit(*copy.deepcopy(data), **(fit or {}))
    for n_jobs in (1, None):
        found = getattr(search, name)(*arguments, **options, n_jobs=n_jobs).fit(*copy.deepcopy(data), **(fit or {}))
        assert_same_results(found.cv_results_, expected.cv_results_)
        for attribute in ("best_index_", "best_score_", "best_params_", "n_splits_", "multimetric_", "n_resources_"):
            assert hasattr(found, attribute) == hasattr(expected, attribute)
            if hasattr(expected, attribute):
                assert getattr(found, attribute) == getattr(expected, attribute)
        assert hasattr(found, "best_estimator_") == hasattr(expected, "best_estimator_")
        if hasattr(expected, "best_estimator_"):
            assert_same_estimator(found.best_estimator_, expected.best_estimator_)
            predictions = (each.predict(copy.deepcopy(data[0])) for each in (found, expected))
            np.testing.assert_array_equal(*predictions)
    return found


class Step(TransformerMixin, BaseEstimator):
    """A step of a Pipeline, which calls a function; it changes X in place, as a step with copy=False may."""

    def __init__(self, call=None, number=0):
        self.call, self.number = call, number

    def fit(self, X, y=None):
        if self.call is not None:
            self.call.function(self.number)
        return self

    def transform(self, X):
        X *= 0.5
        return X


class Call:
    """A function that `clone` copies as a reference."""

    def __init__(self, function):
        self.function = function

    def __deepcopy__(self, memo):
        return self

    __call__ = property(lambda self: self.function)


# ---- the same results ----


def test_a_grid_of_classifiers(three_cpus):
    grid = {"hidden_layer_sizes": [(4,), (6, 3)], "alpha": [1e-4, 1.0]}
    found = assert_same_search(
        "GridSearchCV",
        classifier(),
        grid,
        cv=3,
        return_train_score=True,
        data=(X, LABELS),
        fit={"sample_weight": WEIGHTS},
    )
    assert isinstance(found, originals.GridSearchCV)


def first_of(results):
    return int(np.argmin(results["param_mlpregressor__alpha"].astype(float)))


def test_pipelines_several_scores_and_a_refit_that_is_a_function(three_cpus):
    pipeline = make_pipeline(StandardScaler(copy=False), Step(), regressor())
    grid = {"mlpregressor__alpha": [0.1, 1e-4], "standardscaler__with_mean": [True, False]}
    scoring = {"r2": "r2", "error": "neg_mean_absolute_error"}
    options = {"scoring": scoring, "refit": first_of, "cv": originals.GroupKFold(3), "return_train_score": True}
    assert_same_search("GridSearchCV", pipeline, grid, **options, data=(X, NUMBERS), fit={"groups": GROUPS})


def test_random_candidates_with_early_stopping_and_failures(three_cpus):
    space = {"learning_rate_init": [0.01, 1e200], "hidden_layer_sizes": [(3,), (0,), "x"], "alpha": loguniform(1e-5, 1)}
    options = {"n_iter": 6, "random_state": 3, "cv": 2, "error_score": -7.0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = assert_same_search(
            "RandomizedSearchCV", classifier(early_stopping=True), space, **options, data=(X, LABELS)
        )
    assert {-7.0} < {*found.cv_results_["mean_test_score"]}


def test_halving(three_cpus):
    options = {"n_candidates": 4, "factor": 2, "min_resources": 30, "cv": 2, "random_state": 0}
    found = assert_same_search(
        "HalvingRandomSearchCV", regressor(), {"alpha": loguniform(1e-5, 10)}, **options, data=(X, NUMBERS)
    )
    assert found.n_candidates_ == [4, 2]


MORE = {
    "lbfgs": ("GridSearchCV", classifier(solver="lbfgs"), {"alpha": [1e-4, 1.0]}, {"cv": 3}, LABELS),
    "no refit": ("GridSearchCV", regressor(), {"alpha": [1e-4, 1.0]}, {"cv": 3, "refit": False}, NUMBERS),
    "one metric of several": (
        "GridSearchCV",
        classifier(),
        [{"alpha": [1e-4]}, {"batch_size": [16, 32]}],
        {"scoring": ["accuracy", "neg_log_loss"], "refit": "neg_log_loss"},
        LABELS,
    ),
    "shuffled splits": (
        "RandomizedSearchCV",
        regressor(solver="sgd", learning_rate="invscaling"),
        {"momentum": [0.1, 0.5], "power_t": [0.3, 0.5]},
        {"n_iter": 3, "random_state": 0, "cv": originals.ShuffleSplit(3, random_state=0)},
        NUMBERS,
    ),
    "several outputs": (
        "GridSearchCV",
        regressor(),
        {"activation": ["tanh", "gelu", ["relu"]]},
        {"cv": 3},
        np.stack([NUMBERS, -NUMBERS], axis=1),
    ),
    "whole estimators": (
        "GridSearchCV",
        make_pipeline(StandardScaler(), classifier()),
        {"mlpclassifier": [classifier(alpha=1.0), LogisticRegression()], "standardscaler": [None, StandardScaler()]},
        {"cv": 3},
        LABELS,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", MORE)
@pytest.mark.parametrize("kind", ["array", "sparse", "frame", "float32", "list"])
def test_more_searches(case, kind, three_cpus):
    pd = pytest.importorskip("pandas") if kind == "frame" else None
    name, estimator, candidates, options, y = MORE[case]
    if kind == "sparse" and case == "whole estimators":
        pytest.skip("StandardScaler subtracts no means from sparse rows")
    inputs = {
        "array": lambda: X,
        "sparse": lambda: scipy.sparse.csr_array(X),
        "frame": lambda: pd.DataFrame(X, columns=list("abcd")),
        "float32": lambda: X.astype(np.float32),
        "list": X.tolist,
    }[kind]()
    assert_same_search(name, estimator, candidates, **options, data=(inputs, y))


@pytest.mark.parametrize(
    ("estimator", "y"), [(classifier(), LABELS), (make_pipeline(StandardScaler(), regressor()), NUMBERS)]
)
def test_cross_validate(estimator, y, three_cpus):
    options = {"cv": 3, "return_train_score": True, "return_estimator": True, "return_indices": True}
    expected = originals.cross_validate(estimator, X, y, **options)
    found = search.cross_validate(estimator, X, y, **options)
    for each, other in zip(found.pop("estimator"), expected.pop("estimator"), strict=True):
        assert_same_estimator(each, other)
    for which in ("train", "test"):
        for each, other in zip(found["indices"][which], expected["indices"][which], strict=True):
            np.testing.assert_array_equal(each, other)
    del found["indices"], expected["indices"]
    assert_same_results(found, expected)


@pytest.mark.parametrize("method", ["predict", "predict_proba"])
def test_cross_val_predict(method, three_cpus):
    options = {"cv": originals.KFold(4), "method": method, "params": {"sample_weight": WEIGHTS}}
    expected = originals.cross_val_predict(classifier(), X, LABELS, **options)
    np.testing.assert_array_equal(search.cross_val_predict(classifier(), X, y=LABELS, **options), expected)


# ---- threads ----


def test_as_many_candidates_train_at_a_time_as_there_are_threads(three_cpus):
    """Each of three waits for the other two. They see the caller's settings, and use one thread each."""
    meeting, seen = threading.Barrier(3), []

    def meet(estimator):
        meeting.wait(timeout=300)
        seen.append((threads.resolve_threads(None), sklearn.get_config()["working_memory"], np.geterr()["under"]))

    with sklearn.config_context(working_memory=77), np.errstate(under="call"):
        search.cross_validate(classifier(max_iter=1, callbacks=[meet]), X, LABELS, cv=3)
    assert seen == [(1, 77, "call")] * 3
    assert threads.resolve_threads(None) == 3


@pytest.mark.parametrize(("n_jobs", "folds", "each"), [(None, 2, 4), (3, 5, 2), (-6, 5, 2), (1, 2, 8), (99, 9, 1)])
def test_fits_share_the_threads(n_jobs, folds, each, monkeypatch):
    monkeypatch.setattr(threads, "available_threads", lambda: 8)
    seen = []
    step = Step(Call(lambda _: seen.append(threads.resolve_threads(None))))
    search.cross_validate(make_pipeline(step, classifier(max_iter=1)), X, LABELS, cv=folds, n_jobs=n_jobs)
    assert seen == [each] * folds
    with pytest.raises(ValueError, match="n_jobs must be None or an integer other than 0, got 0"):
        search.cross_validate(classifier(), X, LABELS, n_jobs=0)


def test_candidates_of_a_kind_share_programs():
    """Kinds of large networks are the first ones."""
    grid = originals.ParameterGrid({"mlpclassifier__hidden_layer_sizes": [(3,), (9, 9), "x"], "step__number": [1, 2]})
    pipeline, task = make_pipeline(Step(), classifier()), threaded.delayed(print)
    tasks = [task(pipeline, X, LABELS, train=np.arange(n), parameters=each) for each in grid for n in (5, 6)]
    ordered = sorted(tasks, key=threaded._kind)
    found = [(t.keywords["parameters"]["mlpclassifier__hidden_layer_sizes"], len(t.keywords["train"])) for t in ordered]
    assert found == [(size, n) for size in ((9, 9), (3,), "x") for n in (5, 5, 6, 6)]
    assert len({threaded._kind(each) for each in tasks}) == 6


def test_a_thread_stays_with_a_kind_as_long_as_it_can():
    made = threaded.ThreadedCalls([print] * 6, ["b", "a", "b", "c", "b", "a"])
    one, two = made.take(None), made.take(None)
    assert (one, two) == ((1, "a"), (0, "b"))
    assert [made.take("b") for _ in range(2)] == [(2, "b"), (4, "b")]
    assert made.take("b") == (3, "c")  # where no other thread is
    assert made.take("c") == (5, "a")
    assert made.take("a") is None


@pytest.mark.parametrize("started", [0, 1])
def test_where_the_system_starts_no_threads(started, three_cpus, monkeypatch):
    start, count = threaded.pool.start, iter(range(99))
    monkeypatch.setattr(threaded.pool, "start", lambda *arguments: next(count) < started and start(*arguments))
    assert_same_search("GridSearchCV", classifier(), {"alpha": [1e-4, 1.0]}, cv=2, data=(X, LABELS))


def test_a_search_in_a_candidate_of_another(three_cpus):
    """It stays in its thread."""
    seen = set()

    class Searching(Step):
        def fit(self, X, y=None):
            inner = search.GridSearchCV(make_pipeline(Step(self.call), classifier()), {"step__number": [1, 2]}, cv=2)
            self.best_ = inner.fit(X, LABELS[: len(X)]).best_score_
            seen.add(threading.get_ident())
            return self

    threads_of_steps = set()
    step = Searching(Call(lambda _: threads_of_steps.add(threading.get_ident())))
    search.cross_validate(make_pipeline(step, classifier()), X, LABELS, cv=3)
    assert threads_of_steps == seen


def test_filters_of_warnings_are_as_before(three_cpus):
    before = warnings.filters
    search.cross_validate(classifier(), X, LABELS, cv=3)
    assert warnings.filters is before


def test_warnings_that_are_errors_fail_candidates(three_cpus):
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        with pytest.raises(ValueError, match="All the 3 fits failed"):
            search.cross_validate(classifier(), X, LABELS, cv=3)


# ---- errors and Ctrl-C ----


@pytest.fixture
def ended(monkeypatch):
    """A list that notes threads which have ended."""
    noted, help_ = [], threaded.ThreadedCalls._help

    def noting(self, *arguments):
        help_(self, *arguments)
        noted.append(threading.get_ident())

    monkeypatch.setattr(threaded.ThreadedCalls, "_help", noting)
    return noted


def wait_until(condition):
    while not condition():
        time.sleep(0.01)


ENDLESS = {"max_iter": 10**9, "n_iter_no_change": 10**9, "max_fun": 10**9, "tol": 0.0}


def test_the_error_of_the_first_candidate_that_raises(three_cpus, ended):
    """Another one may raise earlier, and ends those after it."""
    second_has_raised = threading.Event()

    def fail(number):
        if number == 1:
            assert second_has_raised.wait(timeout=300)
        if number == 2:
            second_has_raised.set()
        if number < 3:
            raise OSError(f"candidate {number}")

    pipeline = make_pipeline(Step(Call(fail)), classifier(**ENDLESS))
    made = search.GridSearchCV(pipeline, {"step__number": [1, 2, 3, 4]}, cv=2, error_score="raise")
    with pytest.raises(OSError, match="candidate 1"):
        made.fit(X, LABELS)
    assert len(ended) == 3


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("seconds", [300, 0])  # that the search waits for its threads: 0 is like a second Ctrl-C
def test_ctrl_c_ends_a_search_and_its_threads(solver, seconds, three_cpus, ended, monkeypatch):
    import _thread

    monkeypatch.setattr(threaded, "LAST_SECONDS", seconds)
    begun, meeting = itertools.count(), threading.Barrier(3, action=_thread.interrupt_main)

    def meet(_):
        if next(begun) < 3:  # LBFGS may end by itself, and another candidate begin
            meeting.wait(timeout=300)

    pipeline = make_pipeline(Step(Call(meet)), classifier(solver=solver, **ENDLESS))
    made = search.GridSearchCV(pipeline, {"step__number": [1, 2, 3, 4]}, cv=2)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            made.fit(X, LABELS)
    finally:
        signal.signal(signal.SIGINT, before)
    if seconds:
        assert len(ended) == 3
    wait_until(lambda: len(ended) == 3)
    assert not hasattr(made, "cv_results_")


# ---- what goes to scikit-learn, and names ----


def test_other_estimators_go_to_scikit_learn(monkeypatch):
    monkeypatch.delattr(threaded.Threads, "__call__")
    logistic = LogisticRegression()
    assert_same_search("GridSearchCV", logistic, {"C": [0.1, 1.0]}, cv=3, data=(X, LABELS))
    expected = originals.cross_validate(logistic, X, LABELS)
    assert_same_results(search.cross_validate(logistic, X, LABELS), expected)
    np.testing.assert_array_equal(
        search.cross_val_predict(logistic, X, LABELS), originals.cross_val_predict(logistic, X, LABELS)
    )


def test_searches_are_estimators_of_scikit_learn(three_cpus):
    estimator, options = classifier(), {"param_grid": {"alpha": [1e-4, 1.0]}, "cv": 2, "n_jobs": 2}
    made = search.GridSearchCV(estimator, **options)
    assert made.get_params() == originals.GridSearchCV(estimator, **options).get_params() | {
        "engine": None,
        "checkpoint": None,
    }
    fitted = clone(made).fit(X, LABELS)
    assert repr(fitted).startswith("GridSearchCV(")
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict(X), fitted.predict(X))
    for name in ("cross_validate", "cross_val_predict"):
        here, there = (inspect.signature(getattr(module, name)).parameters for module in (search, originals))
        assert [*here] == [*there, "engine", "checkpoint"]
        assert all(str(here[parameter]) == str(there[parameter]) for parameter in there)
    with pytest.raises(ValueError, match="The 'verbose' parameter of cross_validate must be"):
        search.cross_validate(classifier(), X, LABELS, verbose="much")
    with pytest.raises(ValueError, match="The 'n_jobs' parameter of GridSearchCV must be"):
        made.set_params(n_jobs="all").fit(X, LABELS)


# ---- on an engine ----


@pytest.mark.parametrize("kind", ORIGINALS)
def test_searches_on_an_engine(kind, three_cpus):
    """Candidates that are Pipelines, or of others, too. X and y are sent once, also by a search with rungs."""
    grid = {"alpha": [1e-4, 1e-2, 1.0]}
    engine = Calls()
    number = {"RandomizedSearchCV": "n_iter", "HalvingRandomSearchCV": "n_candidates"}.get(kind)
    options = {"cv": 3, "engine": engine} | ({} if number is None else {number: 3, "random_state": 0})
    expected = getattr(search, kind)(classifier(), grid, **options | {"engine": None}).fit(X, LABELS)
    found = getattr(search, kind)(classifier(), grid, **options).fit(X, LABELS)
    assert_same_results(found.cv_results_, expected.cv_results_)
    assert_same_estimator(found.best_estimator_, expected.best_estimator_)
    assert len(engine.puts) == 2
    assert engine.ended > 1
    steps = make_pipeline(StandardScaler(), LogisticRegression())
    grid = {"logisticregression__C": [0.1, 1.0, 10.0]}
    found = getattr(search, kind)(steps, grid, **options).fit(X, LABELS)
    expected = ORIGINALS[kind](steps, grid, **{name: v for name, v in options.items() if name != "engine"})
    assert_same_results(found.cv_results_, expected.fit(X, LABELS).cv_results_)


@pytest.mark.parametrize("kind", ORIGINALS)
@pytest.mark.parametrize("on_engine", [False, True])
def test_a_search_goes_on_from_a_checkpoint(kind, on_engine, three_cpus, tmp_path):
    """What has ended is not fitted again; candidates that are new are."""
    number = {"RandomizedSearchCV": "n_iter", "HalvingRandomSearchCV": "n_candidates"}.get(kind)
    options = {"cv": 3} | ({} if number is None else {number: 2, "random_state": 0})
    grid = {"alpha": [1e-4, 1e-2]}
    expected = getattr(search, kind)(classifier(), grid, **options).fit(X, LABELS)
    for n_fits in (len(expected.cv_results_["params"]) * 3, 0):
        engine = Calls()
        how = options | {"checkpoint": tmp_path / "run", "engine": engine if on_engine else None}
        found = getattr(search, kind)(classifier(), grid, **how).fit(X, LABELS)
        assert_same_results(found.cv_results_, expected.cv_results_)
        assert_same_estimator(found.best_estimator_, expected.best_estimator_)
        if on_engine:
            assert (engine.ended > 0) == (n_fits > 0)
        there = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").glob("*.pickle")}
        if n_fits:
            written = there
            assert len(there) == n_fits
        assert there == written


def test_a_checkpoint_of_a_search_that_ended_in_the_middle(three_cpus, tmp_path):
    """What its fits gave before the error is there, and a call with further candidates fits only these."""
    grid = {"alpha": [1e-4, -1.0]}
    with pytest.raises(ValueError, match="alpha"):
        search.GridSearchCV(classifier(), grid, cv=3, checkpoint=tmp_path, error_score="raise").fit(X, LABELS)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.pickle")}
    assert 0 < len(before) <= 3
    search.GridSearchCV(classifier(), {"alpha": [1e-4, 1.0]}, cv=3, checkpoint=tmp_path, error_score="raise").fit(
        X, LABELS
    )
    after = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.pickle")}
    assert len(after) == 6
    assert before.items() <= after.items()
    scores = search.cross_validate(classifier(), X, LABELS, cv=3, checkpoint=tmp_path / "other")["test_score"]
    np.testing.assert_array_equal(scores, search.cross_validate(classifier(), X, LABELS, cv=3)["test_score"])
    found = search.cross_val_predict(classifier(), X, LABELS, cv=3, checkpoint=tmp_path / "other")
    np.testing.assert_array_equal(found, search.cross_val_predict(classifier(), X, LABELS, cv=3))


def test_a_checkpoint_of_another_search(three_cpus, tmp_path):
    search.cross_validate(classifier(), X, LABELS, cv=2, checkpoint=tmp_path)
    with pytest.raises(
        ValueError, match=r"checkpoint must be of a call that is equal to this one, .* differ: X; another"
    ):
        search.cross_validate(classifier(), X + 1, LABELS, cv=2, checkpoint=tmp_path)
    made = search.GridSearchCV(classifier(), {"alpha": [1.0]}, checkpoint=tmp_path).set_callbacks(Tasks())
    with pytest.raises(ValueError, match="checkpoint must be None for a search with callbacks"):
        made.fit(X, LABELS)
    with pytest.raises(ValueError, match="checkpoint needs what pickle takes, got"):
        search.cross_validate(classifier(), X, LABELS, cv=2, checkpoint=tmp_path, scoring=lambda *_: 1.0)


def test_cross_validation_on_an_engine(three_cpus):
    estimator, engine = classifier(), Calls()
    options = {"cv": 5, "return_estimator": True, "return_train_score": True, "return_indices": True}
    found = search.cross_validate(estimator, X, LABELS, engine=engine, **options)
    expected = search.cross_validate(estimator, X, LABELS, **options)
    assert found.keys() == expected.keys()
    for name in ("test_score", "train_score"):
        np.testing.assert_array_equal(found[name], expected[name])
    for a, b in zip(found["estimator"], expected["estimator"], strict=True):
        assert_same_estimator(a, b)
    for method in ("predict", "predict_proba"):
        found, expected = (
            search.cross_val_predict(estimator, X, LABELS, method=method, engine=each) for each in (engine, None)
        )
        np.testing.assert_array_equal(found, expected)


def test_a_search_on_an_engine_is_an_estimator(three_cpus):
    engine = fastnn.Processes(2)
    made = search.GridSearchCV(classifier(), {"alpha": [1e-4, 1.0]}, cv=2, engine=engine)
    assert clone(made).engine is engine
    assert made.get_params()["engine"] is engine
    assert "engine=Processes(n_workers=2)" in repr(made)
    fitted = made.fit(X, LABELS)
    again = pickle.loads(pickle.dumps(fitted))
    assert repr(again.engine) == repr(engine)
    np.testing.assert_array_equal(again.predict(X), fitted.predict(X))
    expected = made.set_params(engine=None).fit(X, LABELS)
    assert_same_results(fitted.cv_results_, expected.cv_results_)


def test_warnings_and_errors_of_an_engine(three_cpus):
    with pytest.warns(ConvergenceWarning, match="Maximum iterations"):
        search.cross_validate(classifier(), X, LABELS, cv=2, engine=Calls())

    def fail(number):
        raise RuntimeError("a step failed")

    steps = make_pipeline(Step(Call(fail)), classifier())
    with pytest.raises(RuntimeError, match="a step failed") as error:
        search.cross_validate(steps, X, LABELS, cv=2, engine=Calls(), error_score="raise")
    assert error.value.__notes__ == ["in fits 1 to 1"]
    with pytest.raises(TypeError, match="engine must be None"):
        search.GridSearchCV(classifier(), {"alpha": [1.0]}, engine="dask").fit(X, LABELS)
    made = search.GridSearchCV(classifier(), {"alpha": [1.0]}, engine=Calls()).set_callbacks(Tasks())
    with pytest.raises(ValueError, match="engine must be None for a search with callbacks"):
        made.fit(X, LABELS)


def test_the_search_needs_scikit_learn(run_python):
    source = """
import sys, fastnn
assert "sklearn" not in sys.modules
import fastnn.search
assert "sklearn" in sys.modules and fastnn.search.GridSearchCV.__name__ == "GridSearchCV"
"""
    run_python(source)
    source = "import sys; sys.modules['sklearn'] = None; import fastnn; fastnn.search.GridSearchCV"
    need = "ModuleNotFoundError: fastnn.search needs scikit-learn: pip install 'fastnn-numba[sklearn]'"
    assert run_python(source, check=False).stderr.splitlines()[-1] == need


class Tasks:
    """A callback of scikit-learn's protocol, which a search gives to its candidates."""

    max_propagation_depth = None

    def __init__(self):
        self.seen = []

    def __deepcopy__(self, memo):
        return self

    def setup(self, estimator, context):
        self.seen.append(("setup", context.estimator_name))

    def teardown(self, estimator, context):
        self.seen.append(("teardown", context.estimator_name))

    def on_fit_task_begin(self, estimator, context):
        self.seen.append(("begin", context.estimator_name, context.task_name))

    def on_fit_task_end(self, estimator, context):
        self.seen.append(("end", context.estimator_name, context.task_name))


def test_callbacks_of_a_search_see_the_same_tasks(three_cpus):
    found = []
    for module in (search, originals):
        callback = Tasks()
        module.GridSearchCV(classifier(), {"alpha": [1e-4, 1.0]}, cv=2).set_callbacks(callback).fit(X, LABELS)
        found.append(sorted(callback.seen))
    assert found[0] == found[1]
    assert found[0].count(("end", "MLPClassifier", "epoch")) == 5 * 4


# ---- what a search costs ----


@pytest.mark.parametrize("module", [originals, search])
def test_a_search_without_callbacks_stops_no_fit_after_each_epoch(module, monkeypatch):
    """scikit-learn's searches tell each candidate of their tasks, callbacks or not."""
    stops, score = [], estimator_training.EstimatorFit.score
    monkeypatch.setattr(estimator_training.EstimatorFit, "score", lambda fit: (stops.append(1), score(fit)))
    module.GridSearchCV(classifier(max_iter=20), {"alpha": [1.0]}, cv=2).fit(X, LABELS)
    assert len(stops) == 3
