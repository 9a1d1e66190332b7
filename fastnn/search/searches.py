"""scikit-learn's searches and cross-validation, which train fastnn's estimators on threads.

The code is scikit-learn's. Only where it calls joblib's `Parallel`, it calls `threaded.Threads` here,
or `elsewhere.Elsewhere` where there is an engine or a checkpoint.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any

import sklearn.model_selection as originals
from sklearn.base import _fit_context
from sklearn.model_selection._search import BaseSearchCV
from sklearn.model_selection._search_successive_halving import HalvingRandomSearchCV as _HalvingRandomSearchCV
from sklearn.utils._param_validation import validate_params

from ..checks.scalars import shown
from ..estimators.estimators import MLPClassifier, MLPRegressor
from ..jobs.engines import engine_of
from .elsewhere import Elsewhere
from .threaded import Threads, delayed, last_step

# What is added to scikit-learn's parameters.
ADDED = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in ("engine", "checkpoint")]


def _calling(parallel: Any, function: Any) -> Callable[..., Any]:
    """A function of scikit-learn's, without its checks of arguments, which calls `parallel` in place of `Parallel`."""
    plain, names = inspect.unwrap(function), {"Parallel": parallel, "delayed": delayed}
    if not names.keys() <= plain.__globals__.keys():
        raise ImportError(f"fastnn.search needs a scikit-learn whose {plain.__module__} has {[*names]}")
    made = FunctionType(plain.__code__, plain.__globals__ | names, None, plain.__defaults__, plain.__closure__)
    made.__kwdefaults__ = plain.__kwdefaults__
    return functools.update_wrapper(made, plain)


def _is_ours(estimator: Any) -> bool:
    """Whether the estimator is one of fastnn's, or a Pipeline that ends in one."""
    return isinstance(last_step(estimator)[0], (MLPClassifier, MLPRegressor))


def _fit_calling(parallel: Any) -> Any:
    """The fit of searches, with its checks of arguments."""
    return _fit_context(prefer_skip_nested_validation=False)(_calling(parallel, BaseSearchCV.fit))


_fit = _fit_calling(Threads)


def _init(original: Any) -> Any:
    """What makes a search: scikit-learn's parameters, the engine and the checkpoint."""

    def __init__(self: Any, *args: Any, engine: Any = None, checkpoint: Any = None, **others: Any) -> None:
        original.__init__(self, *args, **others)
        self.engine, self.checkpoint = engine, checkpoint

    _show_signature(__init__, original.__init__)
    return __init__


def _show_signature(function: Any, original: Any) -> None:
    """Let a function have the signature of scikit-learn's, and what is added."""
    signature = inspect.signature(original)
    function.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *ADDED])


class _OnThreads(BaseSearchCV):
    """What the searches replace: it stands before scikit-learn's BaseSearchCV in their order of bases."""

    def fit(self, X: Any, y: Any = None, **params: Any) -> Any:
        """Search; see scikit-learn's.

        Parameters
        ----------
        X : array or sparse matrix (n, n_features)
        y : array (n,) or (n, n_outputs)
        **params
            What scikit-learn's takes: groups, sample_weight and the like.

        Returns
        -------
        self
        """
        engine = engine_of(self.engine)
        if engine is None and self.checkpoint is None:
            return (_fit if _is_ours(self.estimator) else BaseSearchCV.fit)(self, X, y, **params)
        if getattr(self, "_skl_callbacks", None):
            name, value = ("engine", engine) if engine is not None else ("checkpoint", self.checkpoint)
            raise ValueError(f"{name} must be None for a search with callbacks, which are here, got {shown(value)}")
        return _fit_calling(functools.partial(Elsewhere, engine, self.checkpoint))(self, X, y, **params)


class GridSearchCV(originals.GridSearchCV, _OnThreads):
    """scikit-learn's GridSearchCV with the same parameters, attributes and numbers, on threads of one process.

    See `sklearn.model_selection.GridSearchCV`. The threads train candidates where `estimator` is an `MLPClassifier` or
    `MLPRegressor` of fastnn's, or a Pipeline that ends in one. All else goes the way of scikit-learn's class.

    Parameters
    ----------
    n_jobs : int or None
        The most fits at a time. None: as many as there are threads. A negative one counts from these, as in joblib. The
        fits share the threads: with as many fits as threads each has one.
    pre_dispatch : ignored
    engine : None, "processes", "ray", fastnn.Processes or fastnn.Ray
        What fits candidates elsewhere, of any estimator, each on one thread; then n_jobs has no effect. Each machine
        gets X and y once. scikit-learn's callbacks of a search need None, the default: threads of this process.
    checkpoint : str, path or None
        A folder for the results of fits that have ended. A later search on equal X and y takes from there what it needs
        and fits the rest, with engine=None one after another. The files are pickles, which run code when they are read:
        use a folder that nobody else writes to.

    Each candidate has the bits of its estimator fitted alone. With random_state=None candidates draw from NumPy's own
    generator in the order in which they come. Ctrl-C ends a search and its fits within about 0.1 seconds; within a
    second where a step of a Pipeline that is not fastnn's lasts longer, and that thread ends after the step. While the
    best candidate is fitted again to all samples, Ctrl-C ends that fit early, with a warning, and the search is
    complete.

    Raises what scikit-learn's raises, and ValueError where n_jobs is 0.

    Examples
    --------
    >>> import fastnn
    >>> from fastnn.search import GridSearchCV
    >>> X, y = fastnn.load_digits()
    >>> estimator = fastnn.MLPClassifier(tol=0.1, random_state=0)
    >>> GridSearchCV(estimator, {"hidden_layer_sizes": [(2,), (50,)]}, cv=3).fit(X, y).best_params_
    {'hidden_layer_sizes': (50,)}
    """

    __init__ = _init(originals.GridSearchCV)


class RandomizedSearchCV(originals.RandomizedSearchCV, _OnThreads):
    """scikit-learn's RandomizedSearchCV with the same parameters, attributes and numbers, on threads of one process.

    See `sklearn.model_selection.RandomizedSearchCV`; what `GridSearchCV` says holds here too.

    Examples
    --------
    >>> import fastnn
    >>> from fastnn.search import RandomizedSearchCV
    >>> X, y = fastnn.load_digits()
    >>> estimator = fastnn.MLPClassifier(tol=0.1, random_state=0)
    >>> search = RandomizedSearchCV(estimator, {"alpha": [0.01, 0.1, 1]}, n_iter=2, cv=3, random_state=0)
    >>> bool(search.fit(X, y).best_score_ > 0.9)
    True
    """

    __init__ = _init(originals.RandomizedSearchCV)


class HalvingRandomSearchCV(_HalvingRandomSearchCV, _OnThreads):
    """scikit-learn's HalvingRandomSearchCV with the same parameters, attributes and numbers, on threads of one process.

    See `sklearn.model_selection.HalvingRandomSearchCV`; what `GridSearchCV` says holds here too. As there, each rung
    fits its candidates afresh. It needs no import of sklearn.experimental.

    Examples
    --------
    >>> import fastnn
    >>> from fastnn.search import HalvingRandomSearchCV
    >>> X, y = fastnn.load_digits()
    >>> estimator = fastnn.MLPClassifier(tol=0.1, random_state=0)
    >>> search = HalvingRandomSearchCV(estimator, {"alpha": [0.01, 0.1, 1]}, n_candidates=3, cv=3, random_state=0)
    >>> search.fit(X, y).n_candidates_
    [3, 1]
    """

    __init__ = _init(_HalvingRandomSearchCV)


def _function(parallel: Any, original: Any) -> Any:
    """A function of scikit-learn's that calls `parallel`, with its checks of arguments."""
    checks: Any = validate_params(
        inspect.unwrap(original)._skl_parameter_constraints, prefer_skip_nested_validation=False
    )
    return checks(_calling(parallel, original))


_cross_validate = _function(Threads, originals.cross_validate)
_cross_val_predict = _function(Threads, originals.cross_val_predict)


def _of(original: Any, on_threads: Any, estimator: Any, engine: Any, checkpoint: Any) -> Any:
    """Which of these functions serves an estimator, or the same one on an engine or with a checkpoint."""
    engine = engine_of(engine)
    if engine is not None or checkpoint is not None:
        return _function(functools.partial(Elsewhere, engine, checkpoint), original)
    return on_threads if _is_ours(estimator) else original


def cross_validate(
    estimator: Any, X: Any, y: Any = None, *, engine: Any = None, checkpoint: Any = None, **others: Any
) -> dict[str, Any]:
    """scikit-learn's cross_validate with the same parameters and results, on threads of one process.

    See `sklearn.model_selection.cross_validate`; what `GridSearchCV` says of threads, n_jobs and Ctrl-C holds here too.

    Parameters
    ----------
    estimator : MLPClassifier, MLPRegressor or a Pipeline that ends in one
        Any other goes to scikit-learn's function.
    X : array or sparse matrix (n, n_features)
    y : array (n,) or (n, n_outputs)
    groups, scoring, cv, n_jobs, verbose, params, return_train_score, return_estimator, return_indices, error_score
        scikit-learn's.
    engine, checkpoint
        As in `GridSearchCV`.

    Returns
    -------
    dict
        Arrays (n_splits,): fit_time, score_time, test_score, and what the arguments ask for.

    Examples
    --------
    >>> import fastnn
    >>> from fastnn.search import cross_validate
    >>> X, y = fastnn.load_digits()
    >>> cross_validate(fastnn.MLPClassifier(tol=0.1, random_state=0), X, y, cv=3)["test_score"].shape
    (3,)
    """
    function = _of(originals.cross_validate, _cross_validate, estimator, engine, checkpoint)
    found: dict[str, Any] = function(estimator, X, y, **others)
    return found


def cross_val_predict(
    estimator: Any, X: Any, y: Any = None, *, engine: Any = None, checkpoint: Any = None, **others: Any
) -> Any:
    """scikit-learn's cross_val_predict with the same parameters and results, on threads of one process.

    See `sklearn.model_selection.cross_val_predict`; what `GridSearchCV` says of threads, n_jobs and Ctrl-C holds here
    too.

    Parameters
    ----------
    estimator : MLPClassifier, MLPRegressor or a Pipeline that ends in one
        Any other goes to scikit-learn's function.
    X : array or sparse matrix (n, n_features)
    y : array (n,) or (n, n_outputs)
    groups, cv, n_jobs, verbose, params, method
        scikit-learn's.
    engine, checkpoint
        As in `GridSearchCV`.

    Returns
    -------
    array (n,), (n, n_outputs) or (n, n_classes)
        For each sample what `method` of the estimator that was not trained on it gives.

    Examples
    --------
    >>> import fastnn
    >>> from fastnn.search import cross_val_predict
    >>> X, y = fastnn.load_digits()
    >>> found = cross_val_predict(fastnn.MLPClassifier(tol=0.1, random_state=0), X, y, cv=3)
    >>> bool((found == y).mean() > 0.9)
    True
    """
    function = _of(originals.cross_val_predict, _cross_val_predict, estimator, engine, checkpoint)
    return function(estimator, X, y, **others)


_show_signature(cross_validate, originals.cross_validate)
_show_signature(cross_val_predict, originals.cross_val_predict)
