"""MLPEnsembleClassifier and MLPEnsembleRegressor: many networks that train at once, as estimators of scikit-learn."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from ..checks import scalars
from ..checks.scalars import shown
from ..population import Population
from ..reports.population_history import DIVERGED, FINISHED, PopulationHistory
from ..settings import optimizers
from ..settings.custom import Activation, Loss
from ..settings.layers import HIDDEN, Architecture, Dense
from ..settings.losses import Huber, Quantile
from ..settings.optimizers import Momentum, Optimizer
from ..settings.stopping import Patience
from ..training.fit_warnings import not_learned
from ..uncertainty import parted
from . import saving
from .estimator_training import LOSSES, NOT_FINITE, hidden_activations
from .estimators import is_plain
from .saved_population import SavedPopulation

MAX_SEED = 2**31 - 1
REGRESSION_LOSSES = ("squared_error", "poisson", "absolute_error", "huber", "log_cosh", "quantile", "gaussian")
SOLVERS = set(optimizers.BY_NAME) - {"lbfgs", "levenberg_marquardt"}


class _Threads(Interval):  # type: ignore[misc]
    """A number of threads, at least 1. True is 1 for `Interval`, but not for the networks."""

    def __init__(self) -> None:
        super().__init__(Integral, 1, None, closed="left")

    def is_satisfied_by(self, val: Any) -> bool:
        return not isinstance(val, bool) and bool(super().is_satisfied_by(val))


THREADS = [_Threads(), None]
_COUNT = [Interval(Integral, 1, None, closed="left")]
_NOT_NEGATIVE, _POSITIVE = [Interval(Real, 0, None, closed="left")], [Interval(Real, 0, None, closed="neither")]
CONSTRAINTS: dict[str, list[Any]] = {
    "n_estimators": _COUNT,
    "bootstrap": ["boolean"],
    "hidden_layer_sizes": ["array-like", *_COUNT],
    "activation": [StrOptions({"logistic", *HIDDEN}), list, tuple, Activation],
    "solver": [StrOptions(SOLVERS), Optimizer],
    "alpha": _NOT_NEGATIVE,
    "batch_size": [StrOptions({"auto"}), *_COUNT],
    "learning_rate_init": _POSITIVE,
    "max_iter": _COUNT,
    "shuffle": ["boolean"],
    "random_state": ["random_state"],
    "tol": _NOT_NEGATIVE,
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "n_iter_no_change": _COUNT,
    "dropout": [Interval(Real, 0, 1, closed="left"), list, tuple],
    "l1": _NOT_NEGATIVE,
    "max_norm": [*_POSITIVE, None],
    "progress": ["boolean"],
    "threads": THREADS,
    "max_time": [*_POSITIVE, None],
}


class _Ensemble(SavedPopulation, BaseEstimator):  # type: ignore[misc]
    """What both ensembles have in common."""

    _noted: ClassVar[dict[str, Callable[[str, Any], Any]]] = {"n_iter_": saving.count}

    n_features_in_: int
    n_iter_: int

    @contextmanager
    def _changed_by_training_alone(self) -> Iterator[None]:
        """A fit that fails leaves the estimator as it was; so does Ctrl-C before the training begins."""
        before = dict(vars(self))
        try:
            yield
        except BaseException as error:
            if isinstance(error, Exception) or vars(self).get("population_") is before.get("population_"):
                self.__dict__ = before
            raise

    def _train(self, X: Any, y: Any, n_outputs: int, output: str, loss: Any, means: int) -> Any:
        """Train a population on checked samples; the loss is `means` times that of `MLPRegressor`."""
        p: Any = self
        hidden = [int(units) for units in np.atleast_1d(np.asarray(p.hidden_layer_sizes, dtype=object))]
        names = hidden_activations(p.activation, len(hidden))
        seeds = check_random_state(p.random_state).randint(MAX_SEED, size=p.n_estimators)
        layers = [Dense(units, name) for units, name in zip(hidden, names, strict=True)]
        sizes = [X.shape[1], *layers, Dense(n_outputs, output)]
        population = Population(sizes, p.n_estimators, loss=loss, dtype=str(X.dtype), rng=seeds)
        n = len(X)
        batch_size = min(n, 200 if p.batch_size == "auto" else p.batch_size)
        how: dict[str, Any] = {}
        if p.bootstrap:
            how["rows"] = [_drawn_rows(seed, n) for seed in seeds.tolist()]
        if p.early_stopping and p.bootstrap:
            how["validation_data"] = "rest"
        elif p.early_stopping:
            how["validation_fraction"] = p.validation_fraction
        monitor = "val_loss" if p.early_stopping else "loss"
        self.population_, self.history_ = population, None
        population.fit(
            X,
            y,
            epochs=p.max_iter,
            batch_size=batch_size,
            optimizer=_optimizer(p.solver, p.learning_rate_init),
            l2=p.alpha * means / batch_size,
            l1=p.l1 * means / batch_size,
            max_norm=p.max_norm,
            dropout=list(p.dropout) if isinstance(p.dropout, tuple) else p.dropout,
            shuffle=p.shuffle,
            stopping=Patience(int(p.n_iter_no_change), monitor, float(p.tol) * means, restore_best=p.early_stopping),
            max_time=p.max_time,
            progress=p.progress,
            threads=p.threads,
            **how,
        )
        self._keep_finite()
        return self

    def _keep_finite(self) -> None:
        """Leave out members that diverged, and warn of those that have not converged."""
        history: Any = self.population_.history
        fine = finite_members(history, stacklevel=5)
        if not fine.all():
            self.population_ = self.population_[fine]
        self.history_, self.n_iter_ = history, int(history.epochs.max())
        late = (history.status == FINISHED).sum()
        if late:
            what = f"{late} of {len(fine)} networks reached max_iter={self.n_iter_} epochs and have not converged yet"
            warnings.warn(what, ConvergenceWarning, stacklevel=4)

    def _reductions(self, X: Any, reduces: Sequence[Any]) -> list[NDArray[Any]]:
        """Results of all members for X, see `Population._reductions`."""
        p: Any = self
        dtype = self.population_.dtype
        if not is_plain(X, dtype, self):
            X = validate_data(self, X, dtype=(np.float64, np.float32), reset=False, order="C")
        return self.population_._reductions(np.ascontiguousarray(X, dtype), reduces, p.threads)


def finite_members(history: PopulationHistory, stacklevel: int) -> NDArray[np.bool_]:
    """Which members (n,) of a fit did not diverge; warns of those that did, and raises ValueError where all did."""
    fine: NDArray[np.bool_] = history.status != DIVERGED
    if not fine.any():
        raise ValueError(NOT_FINITE)
    if not fine.all():
        warnings.warn(f"{(~fine).sum()} of {len(fine)} networks diverged and are left out", stacklevel=stacklevel)
    return fine


def _drawn_rows(seed: int, n: int) -> NDArray[np.int64]:
    """A bootstrap sample of n rows, which follows from a member's seed, and leaves out a row at least, if n > 1."""
    generator = np.random.default_rng((seed, n))
    while True:
        rows = generator.integers(n, size=n)
        if n == 1 or len(np.unique(rows)) < n:
            return rows


def _optimizer(solver: Any, rate: float) -> Optimizer:
    """The optimizer of the parameters solver and learning_rate_init."""
    if isinstance(solver, Optimizer):
        return solver
    if solver == "sgd":  # as in scikit-learn
        return Momentum(float(rate), nesterov=True)
    return replace(optimizers.resolve(solver), learning_rate=float(rate))


def _mixture(outputs: NDArray[Any]) -> NDArray[Any]:
    """The mean and the standard deviation, (rows, 2 targets), of a mixture of the members' Gaussians."""
    means, deviations = parted(outputs)
    variance = (deviations**2).mean(axis=0) + means.var(axis=0)
    return np.concatenate([means.mean(axis=0), np.sqrt(variance)], axis=1)


class MLPEnsembleClassifier(ClassifierMixin, _Ensemble):  # type: ignore[misc]
    """A deep ensemble of classifiers: networks of different seeds, trained at once, whose probabilities are averaged.

    Parameters
    ----------
    n_estimators : int
        How many networks. Default 10.
    bootstrap : bool
        Each network sees rows of its own, as many as there are, drawn with replacement; else all see all rows.
    hidden_layer_sizes, activation, alpha, batch_size, max_iter, shuffle, dropout, l1, max_norm, progress, threads
        As in `MLPClassifier`.
    solver : str or optimizer
        "adam", "sgd" (with Nesterov's momentum of 0.9), another name of fastnn's optimizers in lower case, or an object
        such as AdamW(CosineDecay(0.01, 100)). None that needs the whole set, such as lbfgs.
    learning_rate_init : float
        The rate of a solver that is named.
    random_state : int, RandomState or None
        Draws the seeds of the networks.
    tol, n_iter_no_change : float, int
        A network stops when its loss has not fallen by tol for n_iter_no_change epochs.
    early_stopping, validation_fraction : bool, float
        Watch the loss on rows that are held out, and keep each network's best epoch: the rows that its bootstrap sample
        leaves out, or else a share of the rows.
    max_time : float or None
        About how many seconds the fit may take.

    Attributes
    ----------
    population_ : Population
        The networks, without those that diverged. `population_[i]` is a `Model`.
    history_ : PopulationHistory
        The losses of all networks.
    classes_ : array (n_classes,)
    n_iter_ : int
        The most epochs that one of them did.

    The networks start and are drawn as `Model` does it, not as scikit-learn's. After Ctrl-C `population_` has what the
    last finished epochs left.

    Examples
    --------
    >>> import fastnn
    >>> X, y = fastnn.load_digits()
    >>> model = fastnn.MLPEnsembleClassifier(5, solver=fastnn.Adam(0.01), random_state=0).fit(X[:500], y[:500])
    >>> bool(model.score(X[500:], y[500:]) > 0.9)
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = CONSTRAINTS
    _needed: ClassVar[set[str]] = {"classes_"}
    _noted: ClassVar[dict[str, Callable[[str, Any], Any]]] = {**_Ensemble._noted, "classes_": saving.classes}

    def __init__(
        self,
        n_estimators: int = 10,
        *,
        bootstrap: bool = False,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate_init: float = 0.001,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        dropout: Any = 0.0,
        l1: float = 0.0,
        max_norm: float | None = None,
        progress: bool = False,
        threads: int | None = None,
        max_time: float | None = None,
    ) -> None:
        store(self, locals())

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any) -> MLPEnsembleClassifier:
        """Train on X (n, n_features) and y (n,), labels of any kind, two at least; gives the estimator."""
        with self._changed_by_training_alone():
            X, y = validate_data(self, X, y, dtype=(np.float64, np.float32), order="C")
            check_classification_targets(y)
            self.classes_, codes = np.unique(y, return_inverse=True)
            n_classes = len(self.classes_)
            if n_classes < 2:
                raise ValueError(f"y must hold two classes at least, got 1 class, {shown(self.classes_.tolist()[0])}")
            if n_classes == 2:
                return self._train(X, codes[:, None].astype(X.dtype), 1, "sigmoid", "cross_entropy", 1)
            return self._train(X, codes.astype(np.int64), n_classes, "softmax", "cross_entropy", 1)

    def _check_outputs(self, architecture: Architecture) -> None:
        n, head = len(self.classes_), architecture.head
        if n < 2 or (head.units, head.activation) != ((1, "sigmoid") if n == 2 else (n, "softmax")):
            raise ValueError(f"{n} classes must have outputs of their own, got {shown(head)}")

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """The probabilities (n, n_classes): each is the mean of what the networks give."""
        check_is_fitted(self)
        (outputs,) = self._reductions(X, ("mean",))
        return outputs if outputs.shape[1] > 1 else np.hstack([1 - outputs, outputs])

    def predict(self, X: Any) -> NDArray[Any]:
        """The classes (n,) with the highest mean probabilities."""
        chosen = self.predict_proba(X).argmax(axis=1)
        found: NDArray[Any] = self.classes_[chosen]
        return found


class MLPEnsembleRegressor(RegressorMixin, _Ensemble):  # type: ignore[misc]
    """A deep ensemble of regressors: networks of different seeds, trained at once. Their spread says how sure they are.

    Parameters are those of `MLPEnsembleClassifier`, and:

    Parameters
    ----------
    loss : str, Huber, Quantile or Loss
        As in `MLPRegressor`; or "gaussian": then each network gives a mean and a variance of each target, and the
        standard deviation is that of the mixture of their Gaussians (Lakshminarayanan et al. 2017). With other losses
        it has no part of the noise of y.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> X = np.linspace(-1, 1, 100)[:, None]
    >>> model = fastnn.MLPEnsembleRegressor(5, learning_rate_init=0.01, random_state=0).fit(X, X[:, 0] ** 2)
    >>> mean, std = model.predict([[0.5], [3.0]], return_std=True)
    >>> bool(abs(mean[0] - 0.25) < 0.1), bool(std[1] > std[0])
    (True, True)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = CONSTRAINTS | {
        "loss": [StrOptions(set(REGRESSION_LOSSES)), Huber, Quantile, Loss]
    }
    _needed: ClassVar[set[str]] = {"_one_axis", "_gaussian"}
    _noted: ClassVar[dict[str, Callable[[str, Any], Any]]] = _Ensemble._noted | dict.fromkeys(_needed, scalars.boolean)

    def __init__(
        self,
        n_estimators: int = 10,
        *,
        bootstrap: bool = False,
        loss: Any = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate_init: float = 0.001,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        dropout: Any = 0.0,
        l1: float = 0.0,
        max_norm: float | None = None,
        progress: bool = False,
        threads: int | None = None,
        max_time: float | None = None,
    ) -> None:
        store(self, locals())

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any) -> MLPEnsembleRegressor:
        """Train on X (n, n_features) and y, (n,) or (n, n_outputs); gives the estimator."""
        with self._changed_by_training_alone():
            X, y = validate_data(
                self, X, y, dtype=(np.float64, np.float32), order="C", multi_output=True, y_numeric=True
            )
            if y.ndim == 2 and y.shape[1] == 1:
                y = column_or_1d(y, warn=True)
            self._one_axis = y.ndim == 1
            y = y.reshape(len(y), -1).astype(X.dtype)
            loss: Any = self.loss
            self._gaussian = loss == "gaussian"
            n_outputs = y.shape[1] * (1 + self._gaussian)
            means = y.shape[1] if loss == "squared_error" else 1
            output = "exp" if loss == "poisson" else "identity"
            self._train(X, y, n_outputs, output, LOSSES.get(loss, loss), means)
            if loss in ("squared_error", "gaussian"):
                history: Any = self.history_
                last = history.loss[np.arange(len(history)), history.epochs - 1]
                if found := not_learned(float(np.nanmedian(last)), y, self._gaussian):
                    warnings.warn(found, stacklevel=2)
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _check_outputs(self, architecture: Architecture) -> None:
        n_targets, gaussian = architecture.head.units // (1 + self._gaussian), architecture.loss_name == "gaussian"
        if gaussian != self._gaussian or (self._one_axis and n_targets != 1):
            raise ValueError(f"{n_targets} targets of the loss {architecture.loss_name!r} must fit the outputs")

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """The mean of the networks' predictions, (n,) or (n, n_outputs).

        With return_std=True a pair: the mean, and the standard deviation of the same shape.
        """
        check_is_fitted(self)
        if self._gaussian:
            found = np.split(self._reductions(X, (_mixture,))[0], 2, axis=1)
        else:
            found = self._reductions(X, ("mean", "std") if return_std else ("mean",))
        found = [each[:, 0] if self._one_axis else each for each in found]
        return tuple(found) if return_std else found[0]


def store(estimator: Any, parameters: dict[str, Any]) -> None:
    """Keep the arguments of __init__ as they are."""
    for name, value in parameters.items():
        if name not in ("self", "__class__"):
            setattr(estimator, name, value)
