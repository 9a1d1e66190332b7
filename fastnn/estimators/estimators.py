"""MLPClassifier and MLPRegressor: scikit-learn's estimators with the same numbers, trained by fastnn's kernels.

They are subclasses of scikit-learn's. Parameters, validation of input, labels, tags and scores are inherited; whatever
computes with the network is replaced. The parameters live in a `Network`, and `coefs_` and `intercepts_` are views of
it, as long as nobody assigns others.
"""

from __future__ import annotations

import copy
import functools
import math
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import sklearn.neural_network as originals
from numpy.typing import NDArray
from sklearn.base import _fit_context
from sklearn.callback import CallbackSupportMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, check_scoring
from sklearn.neural_network._multilayer_perceptron import BaseMultilayerPerceptron
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from ..checks import scalars
from ..checks.scalars import shown
from ..data import arrays
from ..files import model_file
from ..files.model_file import Tensors
from ..network.claims import Claims
from ..network.network import Network
from ..network.threads import check_wanted
from ..reports.progress import Progress
from ..settings import optimizers
from ..settings.custom import Activation, Loss
from ..settings.layers import HIDDEN, Architecture, Dense
from ..settings.learning_rates import LearningRate
from ..settings.losses import Huber, Quantile
from ..settings.optimizers import Optimizer
from ..training.fit_warnings import not_learned
from . import saving
from .estimator_training import (
    Engine,
    EstimatorFit,
    EstimatorTrainer,
    FastnnSolver,
    Tasks,
    arrays_of,
    batch_size_of,
    check_goes_on,
    copy_vectors,
    held_out,
    hidden_activations,
    kept_of,
    optimizer_of,
    outputs_of,
    rows_of,
    samples_of,
    settings_of,
    solver_of,
    validation_set,
    values_of,
)
from .saving import Saved

ENDS = ("tol", "max_iter", "max_time", "callbacks", "interrupt", "divergence")  # what a fit may be stopped by
KINDS = ("binary", "multiclass")  # the targets, by scikit-learn's names, that stand for one class each

_POSITIVE = [Interval(Real, 0, None, closed="neither"), None]
# Parameters that scikit-learn's estimators do not have: what they may be. Those of TRAINING are not for lbfgs.
EXTRA_PARAMETERS: dict[str, list[Any]] = {
    "dropout": [Interval(Real, 0, 1, closed="left"), list, tuple],
    "l1": [Interval(Real, 0, None, closed="left")],
    "max_norm": _POSITIVE,
    "clip_norm": _POSITIVE,
    "clip_value": _POSITIVE,
    "scoring": [str, callable, None],
    "callbacks": [list, tuple, None],
    "progress": ["boolean"],
    "threads": [Interval(Integral, 1, None, closed="left"), None],
    "max_time": _POSITIVE,
}
TRAINING = ("dropout", "l1", "max_norm", "clip_norm", "clip_value", "callbacks", "progress", "max_time")
CHANGE_NUMBERS = (*TRAINING[:5], "scoring")
_WIDER: dict[str, list[Any]] = {
    "activation": [StrOptions({"logistic", *HIDDEN}), list, tuple, Activation],
    "solver": [StrOptions({"lbfgs", *optimizers.BY_NAME}), Optimizer],
    "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"}), LearningRate, callable],
}
_REGRESSION_LOSSES = ("squared_error", "poisson", "absolute_error", "huber", "log_cosh", "quantile")


def _store(estimator: Any, init: Callable[..., None], parameters: dict[str, Any]) -> None:
    """Keep the arguments of __init__ as they are: scikit-learn's by its own, the others here."""
    parameters = {name: value for name, value in parameters.items() if name not in ("self", "__class__")}
    for name in EXTRA_PARAMETERS:
        setattr(estimator, name, parameters.pop(name))
    init(**parameters)


def _check(estimator: Any, validation: Any) -> None:
    """Raise where parameters do not go together, before anything is changed."""
    if estimator.solver == "lbfgs":
        for name in TRAINING:
            if value := getattr(estimator, name):
                raise ValueError(f"{name} needs a stochastic solver, got {name}={shown(value)} and solver='lbfgs'")
        if not isinstance(estimator.learning_rate, str):
            raise ValueError("learning_rate can be a schedule with a stochastic solver, got solver='lbfgs'")
        if validation is not None:
            raise ValueError("X_val needs a stochastic solver, got solver='lbfgs'")
    else:
        settings_of(estimator)
        for each in scalars.callables("callbacks", estimator.callbacks or ()):
            if hasattr(each, "on_begin"):
                raise TypeError(f"callbacks must be callables that take the estimator, got {shown(each)} for a Model")
        if estimator.early_stopping and estimator.scoring not in (None, "loss"):
            check_scoring(estimator, estimator.scoring)
    n_hidden = np.size(estimator.hidden_layer_sizes)
    hidden_activations(estimator.activation, n_hidden)
    scalars.dropout(estimator.dropout, n_hidden)


class _Trained(Saved, CallbackSupportMixin, BaseMultilayerPerceptron):
    """What both estimators replace of scikit-learn's."""

    _trained, _needed = "coefs_", {"n_iter_", "t_"}
    _noted: ClassVar[dict[str, Callable[[str, Any], Any]]] = {
        **dict.fromkeys(("n_iter_", "t_", "_no_improvement_count"), saving.count),
        **{"loss_": saving.number, "loss_curve_": saving.numbers},
        **dict.fromkeys(("best_loss_", "best_validation_score_"), saving.number_or_none),
        **dict.fromkeys(("validation_scores_", "validation_loss_curve_"), saving.numbers_or_none),
        "stopped_by_": lambda name, value: scalars.choice(name, value, ENDS),
    }

    _engine: Engine | None = None
    _no_improvement_count: int
    best_loss_: Any
    _best_coefs: Any
    _best_intercepts: Any
    _optimizer_state: Any = None  # what the kernels' optimizer and dropout know, between unpickling and training
    # While a fit lasts: the solver asked for, until training begins; (X, y, weights) to validate on; whether X of
    # `predict` was checked.
    _solver: Any = None
    _validation: Any = None
    _is_scoring = False
    solver: Any
    validation_loss_curve_: Any

    def _current_engine(self) -> Engine:
        """The engine, with the parameters that the estimator has now.

        Memory that the coefficients were views of is not overwritten when somebody assigns others, because the old ones
        may still be in use. Then another engine takes copies, and goes on with the optimizer.
        """
        engine = self._engine
        if engine is not None and engine.is_current(self):
            return engine
        coefs, intercepts = arrays_of(self.coefs_, self.intercepts_)
        if engine is None or engine.lent or not engine.fits(self, coefs):
            made = Engine(self, coefs, intercepts)
            if engine is not None:
                made.go_on_from(kept_of(engine.network))
            self._engine = made
            return made
        engine.take(coefs, intercepts)
        return engine

    def _lend(self, engine: Engine) -> None:
        """Make the coefficients views of the network's memory; the best ones too, where they are the same lists."""
        held = vars(self)
        same = "coefs_" in held and held.get("_best_coefs") is held["coefs_"]
        self.coefs_, self.intercepts_ = list(engine.coefs), list(engine.intercepts)
        if same:
            self._best_coefs, self._best_intercepts = self.coefs_, self.intercepts_
        engine.lent, engine.wider, self._engine = True, False, engine

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        for name in ("_solver", "_validation", "_is_scoring", "_claims"):
            state.pop(name, None)
        engine = state.pop("_engine", None)
        if engine is not None:
            if self._optimizer_state is None:
                state["_optimizer_state"] = kept_of(engine.network)
            for name, best in (("coefs_", "_best_coefs"), ("intercepts_", "_best_intercepts")):
                copied = [a.copy() if isinstance(a, np.ndarray) else a for a in state[name]]
                if state.get(best) is state[name]:
                    state[best] = copied
                state[name] = copied
        return state

    @classmethod
    @functools.cache
    def _get_param_names(cls) -> list[str]:  # inspecting the signature takes longer than a small epoch
        names: list[str] = super()._get_param_names()
        return names

    # ---- conversion ----

    @classmethod
    def from_sklearn(cls, fitted: Any) -> Any:
        """An estimator like a fitted one of scikit-learn: it predicts the same and goes on training the same.

        Raises TypeError for what is none of scikit-learn's class. `fastnn.from_sklearn` makes a `Model` of a Pipeline.
        """
        original = originals.MLPClassifier if issubclass(cls, originals.MLPClassifier) else originals.MLPRegressor
        if not isinstance(fitted, original):
            told = "fastnn.from_sklearn makes a Model of a Pipeline"
            raise TypeError(f"fitted must be scikit-learn's {original.__name__}, got {shown(fitted)}; {told}")
        made = cls(**fitted.get_params(deep=False))
        made.__dict__.update(copy.deepcopy(vars(fitted)))
        if hasattr(fitted, "_optimizer"):
            network, optimizer = made._current_engine().network, optimizer_of(fitted._optimizer)
            numbers = network.state["numbers"] * 0
            if isinstance(fitted._optimizer, AdamOptimizer):
                numbers[0, :2] = optimizer.beta1**fitted._optimizer.t, optimizer.beta2**fitted._optimizer.t
            network.restore_optimizer(optimizer, network.vectors_for(optimizer) * 0, numbers)
            copy_vectors(fitted._optimizer, network, optimizer, to_network=True)
        return made

    def to_sklearn(self) -> Any:
        """An estimator of scikit-learn's class that is like this one. Raises ValueError for what that does not have."""
        parameters = self.get_params(deep=False)
        extra = {name: parameters.pop(name) for name in EXTRA_PARAMETERS}
        for name in CHANGE_NUMBERS:
            if extra[name]:
                raise ValueError(f"{name} is a parameter that scikit-learn does not have, got {shown(extra[name])}")
        original = originals.MLPClassifier if isinstance(self, originals.MLPClassifier) else originals.MLPRegressor
        made = original(**parameters)
        made._validate_params()
        solver = getattr(self, "_optimizer", None)
        if isinstance(solver, FastnnSolver) or getattr(solver, "more", None):
            raise ValueError("solver must be one of scikit-learn's in the last fit, with its learning rate; it was not")
        state = copy.deepcopy(self.__getstate__())
        for name in ("_optimizer_state", "_skl_callbacks"):
            state.pop(name, None)
        made.__dict__.update({name: value for name, value in state.items() if name != "_sklearn_version"})
        if hasattr(self, "_optimizer"):
            network, optimizer = self._current_engine().network, optimizer_of(self._optimizer)
            parameters = made.coefs_ + made.intercepts_
            for name in ("ms", "vs") if isinstance(self._optimizer, AdamOptimizer) else ("velocities",):
                setattr(made._optimizer, name, [np.zeros_like(p) for p in parameters])
            copy_vectors(made._optimizer, network, optimizer, to_network=False)
        return made

    # ---- files ----

    def _solver_values(self) -> dict[str, Any]:
        return values_of(self._optimizer) if hasattr(self, "_optimizer") else {}

    def _written(self, optimizer: bool) -> tuple[dict[str, Any], Tensors, Architecture]:
        engine = Engine(self, *arrays_of(self.coefs_, self.intercepts_))
        if engine.wider:
            raise ValueError("coefs_ must be of float64 at most to be saved, got wider ones")
        kept = self._optimizer_state
        engine.go_on_from(kept_of(self._engine.network) if kept is None and self._engine is not None else kept)
        network = engine.network
        goes_on = optimizer and hasattr(self, "_optimizer") and network.optimizer == optimizer_of(self._optimizer)
        contents = model_file.Contents(network, 0, saving.names_of(self))
        description, tensors = model_file.written(contents, goes_on)
        best, coefs = (self._best_coefs, self._best_intercepts), (self.coefs_, self.intercepts_)
        scored = getattr(self, "best_validation_score_", None) is not None
        if scored and [id(a) for each in best for a in each] != [id(a) for each in coefs for a in each]:
            other = Engine(self, engine.coefs, engine.intercepts)
            other.take(*arrays_of(*best))
            tensors |= model_file.tensors_of("best.", other.network, other.network.parameters)
        return description, tensors, engine.architecture

    def _take(self, solver: dict[str, Any], d: dict[str, Any], tensors: Tensors, custom: Mapping[str, Any]) -> None:
        _check(self, None)
        used = None
        if solver:
            self._optimizer = solver_of(type(self), solver)
            used = optimizer_of(self._optimizer) if "optimizer" in d else None
        if "optimizer" in d:
            settings = {name: d["optimizer"][name] for name in ("name", "settings")}
            if used is None or optimizers.described(used) != settings:
                raise ValueError(f"the optimizer must be that of the last fit, got {shown(settings)}")
        best = {name[5:]: tensor for name, tensor in tensors.items() if name.startswith("best.")}
        rest = {name: tensor for name, tensor in tensors.items() if not name.startswith("best.")}
        found = model_file.read(d, rest, custom, used)
        network, head = found.network, found.network.architecture.head
        if any(type(layer) is not Dense for layer in network.architecture.layers):
            raise ValueError("all layers of an estimator must be Dense")
        saving.named(self, network.architecture.n_inputs, found.feature_names)
        self.out_activation_ = "logistic" if head.activation == "sigmoid" else head.activation
        self.n_layers_, self.n_outputs_ = len(network.weights) + 1, head.units
        engine = Engine(self, [w.T for w in network.weights], list(network.biases))
        if engine.architecture != network.architecture:
            raise ValueError(f"its layers must be those of its parameters, got {shown(network.architecture.layers)}")
        self._check_outputs()
        engine.go_on_from(kept_of(network))
        self._lend(engine)
        self._best_coefs, self._best_intercepts = self.coefs_, self.intercepts_
        if best:
            plain = {name: value for name, value in d.items() if name != "optimizer"}
            other = model_file.read(plain, best, custom).network
            self._best_coefs, self._best_intercepts = [w.T for w in other.weights], list(other.biases)

    def _check_outputs(self) -> None:
        """Raise where the outputs are not those of the targets."""
        scalars.choice("the activation of the outputs", self.out_activation_, ("identity", "exp"))

    # ---- prediction ----

    def _plain_outputs(self, X: Any) -> NDArray[Any] | None:
        """The outputs for an array that scikit-learn would take as it is, without its validation; else None."""
        if self._engine is None or not hasattr(self, "coefs_"):
            return None
        engine = self._current_engine()
        network = engine.network
        return (
            outputs_of(network, X, self.threads)
            if is_plain(X, network.inference.dtype, self) and not engine.wider
            else None
        )

    def _forward_pass_fast(self, X: Any, check_input: bool = True) -> NDArray[Any]:
        """The outputs, (n, n_outputs)."""
        check_input = check_input and not self._is_scoring
        outputs = self._plain_outputs(X) if check_input else None
        if outputs is not None:
            return outputs
        if check_input:
            X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        network, coefs = self._current_engine().network, list(self.coefs_)
        outputs = outputs_of(network, X, self.threads)
        dtype = np.result_type(X.dtype, *(getattr(w, "dtype", np.float64) for w in coefs))
        return outputs.astype(dtype if dtype.kind == "f" else np.result_type(X.dtype, outputs.dtype), copy=False)

    # ---- what the network does inside ----

    def hidden_activations(self, X: Any) -> list[NDArray[Any]]:
        """The outputs of the hidden layers for X, (n, n_features): one array (n, units) a layer.

        They are views of one array in the dtype of the network: float32 where the coefficients are, else float64. The
        list is empty where there is no hidden layer. Raises what `predict` raises for X.

        Examples
        --------
        >>> import fastnn
        >>> X, y = fastnn.load_digits()
        >>> model = fastnn.MLPClassifier((20, 10), solver="lbfgs", random_state=0).fit(X[:200], y[:200])
        >>> [a.shape for a in model.hidden_activations(X[:5])]
        [(5, 20), (5, 10)]
        """
        network, rows = self._checked(X)
        return network.inference.hidden_activations(rows)

    def input_gradients(self, X: Any) -> NDArray[Any]:
        """The derivative of each output by each input: (n, n_outputs, n_features), for X (n, n_features).

        Outputs are the regressor's values and the classifier's probabilities: of two classes that of classes_[1] alone,
        of several labels that of each. The result has the dtype of the network: float32 where the coefficients have it,
        else float64. The derivative of "step" is taken as 1, as in training. See `Model.input_gradients` for the
        formula. Raises what `predict` raises for X.

        Examples
        --------
        >>> import numpy as np, fastnn
        >>> X = np.linspace(-1, 1, 100)[:, None]
        >>> model = fastnn.MLPRegressor(activation="tanh", solver="lbfgs", alpha=0, tol=1e-6, random_state=2)
        >>> model = model.fit(X, X[:, 0] ** 2)
        >>> model.input_gradients([[0.5]]).round(1)  # of x^2 it is 2 x
        array([[[1.]]])
        """
        network, rows = self._checked(X)
        return network.inference.input_gradients(rows)

    def _checked(self, X: Any) -> tuple[Network, NDArray[Any]]:
        """The network, and X, validated, as its kernels take it."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse=["csr", "csc"], dtype=(np.float64, np.float32), reset=False)
        network = self._current_engine().network
        return network, rows_of(network, X)

    # ---- training ----

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Any:
        """Fit to X and y; see scikit-learn's.

        Parameters
        ----------
        X : array or sparse matrix (n, n_features)
        y : array (n,) or (n, n_outputs)
        sample_weight : array (n,) or None
        X_val, y_val : like X and y, or None
            A validation set, whose loss after each epoch is in `validation_loss_curve_`. With early_stopping=True it
            takes the place of a part of X. Not for solver "lbfgs".
        sample_weight_val : array or None
            The weights of its samples.

        Returns
        -------
        self
        """
        if (X_val is None) != (y_val is None) or (X_val is None and sample_weight_val is not None):
            raise ValueError("X_val and y_val must be given together, and sample_weight_val with them alone")
        validation = None if X_val is None else (X_val, y_val, sample_weight_val)
        return self._fit(X, y, sample_weight=sample_weight, incremental=False, validation=validation)

    def _fit(self, X: Any, y: Any, sample_weight: Any = None, incremental: bool = False, validation: Any = None) -> Any:
        _check(self, validation)
        claims, claim = self.__dict__.setdefault("_claims", Claims()), threading.Lock()
        with claim:
            claims.take(claim)
            before = dict(vars(self))
            self._validation = validation
            self._solver = solver = self.solver
            if solver not in ("sgd", "adam", "lbfgs"):
                self.solver = "adam"  # until `_fit_stochastic` begins: scikit-learn's code knows no others
            try:
                return super()._fit(X, y, sample_weight=sample_weight, incremental=incremental)
            except KeyboardInterrupt:
                if self._solver is not None:  # training has not begun; after errors the state is scikit-learn's
                    self.__dict__ = before
                raise
            finally:
                if self._solver is not None:
                    self.solver = solver
                for name in ("_solver", "_validation"):
                    self.__dict__.pop(name, None)
                claims.give_back(claim)

    def _that_goes_on(self, X: Any, y: NDArray[Any], reset: bool) -> tuple[Any, NDArray[Any]]:
        """(X, y), validated; raises where further training cannot be on them."""
        if not reset and hasattr(self, "coefs_"):
            check_goes_on(self, X, y)
        return X, y

    def set_callbacks(self, *callbacks: Any) -> Any:
        """Set callbacks that follow scikit-learn's protocol, such as sklearn.callback.ProgressBar, for each `fit`.

        They see the fit as one task, and each epoch as a task of it, which one ends the fit after by returning True
        from on_fit_task_end. `partial_fit` does not call them. Returns self. A solver "lbfgs" ignores them with a
        warning.
        """
        if self.solver == "lbfgs" and callbacks:
            warnings.warn(f"{type(self).__name__} ignores callbacks with solver='lbfgs'", stacklevel=2)
        return super().set_callbacks(*callbacks)

    def _check_solver(self) -> bool:
        if self.solver == "lbfgs":
            super()._check_solver()
        return True

    def _initialize(self, y: Any, layer_units: Any, dtype: Any) -> None:
        super()._initialize(y, layer_units, dtype)
        self.validation_loss_curve_ = None

    def _init_coef(self, fan_in: int, fan_out: int, dtype: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        """scikit-learn's, by the activation of the layer; of the output layer by that of the last hidden one."""
        activation, layer = self.activation, len(self.coefs_)
        if isinstance(activation, (list, tuple)):
            activation = activation[min(layer, len(activation) - 1)] if activation else "identity"
        bound = np.sqrt((2.0 if activation in ("logistic", "sigmoid") else 6.0) / (fan_in + fan_out))
        drawn = (self._random_state.uniform(-bound, bound, shape) for shape in ((fan_in, fan_out), fan_out))
        coefs, intercepts = (array.astype(dtype, copy=False) for array in drawn)
        return coefs, intercepts

    def _fit_stochastic(
        self,
        X: Any,
        y: NDArray[Any],
        sample_weight: NDArray[Any] | None,
        activations: Any,
        deltas: Any,
        coef_grads: Any,
        intercept_grads: Any,
        layer_units: Any,
        incremental: bool,
    ) -> None:
        started = time.monotonic()
        self.solver = self._solver
        afresh = not incremental or not hasattr(self, "_optimizer")
        if afresh:
            self._optimizer = settings_of(self)
            self._optimizer_state = None
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        held = None
        if self._validation is not None:
            held = validation_set(self, *self._validation)
        elif self.early_stopping:
            X, y, sample_weight, held = held_out(self, X, y, sample_weight)
        batch_size = batch_size_of(self, X.shape[0])
        tasks = None if incremental else Tasks.of(self, X, y, sample_weight)
        if tasks is not None:
            tasks.begin()
        engine = self._current_engine()
        engine.go_on_from(self._optimizer_state)
        self._optimizer_state = None
        trainer = EstimatorTrainer(self, engine, X, y, sample_weight, batch_size, incremental, afresh)
        if afresh and trainer.options.rules.kinds.random:
            engine.network.state["noise"] = self._random_state.randint(2**63 - 1, dtype=np.int64)
            trainer.resume(engine.network)
        with Progress(self.progress and not incremental, False, trainer.epochs, trainer.history) as progress:
            fit = EstimatorFit(self, engine, trainer, progress, held)
            fit.watch(tasks, started)
            self._lend(engine)
            self.n_iter_, self.stopped_by_ = 0, "max_iter"
            try:
                self._solver = None
                fit.run()
            except KeyboardInterrupt:
                trainer.note(trainer.steps.epoch)
                if self.n_iter_ and not trainer.early_stopping:
                    trainer.note_waiting()
                trainer.interrupted()
                self.stopped_by_ = "interrupt"
                warnings.warn("Training interrupted by user.", stacklevel=2)
        if self.stopped_by_ == "max_iter" and not incremental and self.n_iter_ == trainer.epochs:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({trainer.epochs}) reached and the optimization "
                "hasn't converged yet.",
                ConvergenceWarning,
                stacklevel=2,
            )
        if trainer.early_stopping:
            engine.take(*arrays_of(self._best_coefs, self._best_intercepts))
            self._lend(engine)
            self._best_coefs, self._best_intercepts = self.coefs_, self.intercepts_  # as scikit-learn has them
        if tasks is not None:
            tasks.close()
        if sample_weight is None and len(self.loss_curve_) > 1 and engine.kind[-1] == "squared_error":
            found = not_learned(self.loss_ * trainer.options.n_means, trainer.samples.targets)
            if found and not incremental and self.stopped_by_ != "interrupt":
                warnings.warn(found, stacklevel=2)

    def _score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """By what early stopping judges; more is better."""
        if self.scoring is None:
            return super()._score(X, y, sample_weight=sample_weight)
        if self.scoring == "loss":
            return -self.validation_loss_curve_[-1]
        if not all(np.isfinite(w).all() for w in self.coefs_):
            return math.nan
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        self._is_scoring = True
        try:
            return check_scoring(self, self.scoring)(self, X, y, **weights)
        finally:
            del self._is_scoring

    def _fit_lbfgs(self, X: Any, y: Any, *others: Any) -> None:
        engine, kept = self._engine, self._optimizer_state
        if engine is not None and kept is None:  # scikit-learn's partial_fit goes on with the optimizer of before
            kept = kept_of(engine.network)
        self._engine = self._solver = None
        try:
            super()._fit_lbfgs(X, y, *others)
        finally:
            self._engine, self._optimizer_state = None, kept
        self._lend(self._current_engine())  # in float64, as SciPy's result is

    def _loss_grad_lbfgs(
        self, packed_coef_inter: NDArray[Any], X: Any, y: Any, sample_weight: Any, *_: Any
    ) -> tuple[float, NDArray[Any]]:
        """(loss, its gradient), as scikit-learn packs it: all coefficients, then all intercepts."""
        check_wanted()
        self._unpack(packed_coef_inter)
        network = self._current_engine().network
        samples = samples_of(network, X, y, sample_weight)
        loss, gradient = network.inference.loss_and_gradient(*samples)
        views = network.layout.views(gradient)
        weight = len(samples.inputs) if sample_weight is None else sample_weight.sum()
        if self.loss == "squared_error":
            loss /= self.n_outputs_
        loss += 0.5 * self.alpha / weight * sum(np.vdot(w, w) for w in self.coefs_)
        parts = [dw + self.alpha / weight * w for (dw, _), w in zip(views, self.coefs_, strict=True)]
        return loss, np.concatenate([a.ravel() for a in (*parts, *(db for _, db in views))])


class MLPClassifier(_Trained, originals.MLPClassifier):
    """scikit-learn's MLPClassifier with the same parameters, attributes and numbers, faster, and with further ones.

    Only what `sklearn.neural_network.MLPClassifier` does not have stands here. All of it is off by default.

    Parameters
    ----------
    activation : str, Activation, or a list of them
        Beside scikit-learn's names those of `Dense`, such as "gelu"; your own; or one a hidden layer. A layer's weights
        are drawn by its activation, those of the output layer by that of the last hidden one.
    solver : str or optimizer
        Beside scikit-learn's names those of fastnn's optimizers in lower case, such as "adamw", or an object such as
        AdamW(0.01). These have their own settings: learning_rate_init, momentum, beta_1 and the like are ignored. Rprop
        takes all samples in each step.
    learning_rate : str, schedule or function of the epoch
        A schedule such as `CosineDecay`, in place of learning_rate_init or of the optimizer's own rate.
    dropout : float or list
        The share of each hidden layer's outputs that becomes zero while it trains, in [0, 1), or one a hidden layer.
    l1 : float
        Adds l1 times the sum of the absolute weights, divided by a batch's weight as alpha is, at least 0.
    max_norm : float or None
        The largest Euclidean norm of a neuron's weights after each step, above 0.
    clip_norm, clip_value : float or None
        Limits of the gradient's norm, or of each of its elements, above 0; not both.
    scoring : None, "loss", str or callable
        By what early stopping judges: accuracy or R2 (None), the loss, or a scorer of scikit-learn's.
    callbacks : list of callables or None
        Each is called with the estimator after each epoch. One that returns True ends the fit.
    progress : bool
        Show a bar of tqdm.
    threads : int or None
        The most threads that a fit uses, at least 1. None: what the CPU affinity and the environment allow.
    max_time : float or None
        Seconds, above 0. The fit ends after the epoch in which they are over, without a warning.

    Attributes
    ----------
    validation_loss_curve_ : list or None
        The loss on the validation set after each epoch, without penalties, where there is such a set.
    stopped_by_ : str
        What ended the fit: "tol", "max_iter", "max_time", "callbacks", "interrupt" or "divergence"; not with lbfgs.

    Errors of parameters are scikit-learn's InvalidParameterError, a ValueError, or ValueError where two do not go
    together. lbfgs refuses dropout, l1, max_norm, the clips, callbacks, progress, max_time, schedules and X_val.

    Examples
    --------
    >>> import fastnn
    >>> X, y = fastnn.load_digits()
    >>> model = fastnn.MLPClassifier(random_state=0, max_iter=500).fit(X[:1000], y[:1000])
    >>> model.score(X[1000:], y[1000:]) > 0.9
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **originals.MLPClassifier._parameter_constraints,
        **_WIDER,
        **EXTRA_PARAMETERS,
    }
    classes_: NDArray[Any]
    _needed: ClassVar[set[str]] = _Trained._needed | {"classes_", "y_type_", "sparse_input_"}
    _noted: ClassVar[dict[str, Callable[[str, Any], Any]]] = {
        **_Trained._noted,
        "classes_": saving.classes,
        "y_type_": lambda name, value: scalars.choice(name, value, (*KINDS, "multilabel-indicator")),
        "sparse_input_": scalars.boolean,
    }

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: Any = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: Any = 0.0,
        l1: float = 0.0,
        max_norm: float | None = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        scoring: Any = None,
        callbacks: Any = None,
        progress: bool = False,
        threads: int | None = None,
        max_time: float | None = None,
    ) -> None:
        _store(self, super().__init__, locals())

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, NDArray[Any]]:
        """(X, the classes of y as a Boolean matrix). Plain arrays skip scikit-learn's checks, most of a short fit."""
        if _is_plain_set(X, y, self, reset) and y.dtype.kind == "i":
            afresh = not hasattr(self, "classes_") or not (self.warm_start or incremental)
            classes = np.unique(y) if afresh else self.classes_
            codes = np.searchsorted(classes, y)
            # scikit-learn warns of more classes, and it has rules of its own for a single one
            if 1 < len(classes) <= len(y) // 2 and (afresh or _knows(self, y, codes)):
                if afresh:
                    self._label_binarizer = made = LabelBinarizer()
                    made.classes_ = self.classes_ = classes
                    made.y_type_, made.sparse_input_ = KINDS[len(classes) > 2], False
                self.n_features_in_ = X.shape[1]
                found = (codes[:, None] == np.arange(len(classes)))[:, -1 if len(classes) == 2 else 0 :]
                return self._that_goes_on(X, found, reset)
        X, y = super()._validate_input(X, y, incremental, reset)
        return self._that_goes_on(X, y, reset)

    def _values(self) -> dict[str, Any]:
        return vars(self) | {name: getattr(self._label_binarizer, name) for name in ("y_type_", "sparse_input_")}

    def _check_outputs(self) -> None:
        """Raise where classes and outputs do not fit, and bring scikit-learn's binarizer of the classes back."""
        self._label_binarizer = made = LabelBinarizer()
        for name in ("y_type_", "sparse_input_"):
            setattr(made, name, self.__dict__.pop(name))
        n, n_outputs, several = len(self.classes_), self.n_outputs_, made.y_type_ not in KINDS
        made.classes_ = np.arange(n_outputs) if several else self.classes_
        expected = "softmax" if made.y_type_ == "multiclass" else "logistic"
        fits = n <= 2 and n_outputs == 1 if made.y_type_ == "binary" else n == n_outputs and (several or n > 2)
        if not fits or self.out_activation_ != expected:
            what = f"{n_outputs} outputs of {shown(self.out_activation_)}"
            raise ValueError(f"{n} classes of {made.y_type_} targets must have outputs of their own, got {what}")

    def predict(self, X: Any) -> NDArray[Any]:
        """The classes, (n,), or for several labels (n, n_classes); see scikit-learn's."""
        outputs = None if self._engine is None or self._label_binarizer.y_type_ not in KINDS else self._plain_outputs(X)
        if outputs is None:
            return super().predict(X)
        chosen = outputs.argmax(axis=1) if outputs.shape[1] > 1 else (outputs[:, 0] > 0.5).astype(np.intp)
        return self.classes_.take(chosen, mode="clip")  # where there is one class, it is that

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The accuracy of `predict` for X; see scikit-learn's."""
        return _accuracy(y, self.predict(X), sample_weight=sample_weight)

    def _score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        if self.scoring is not None:
            return super()._score(X, y, sample_weight)
        score: float = self._score_with_function(X, y, sample_weight, _accuracy)
        return score

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """The probabilities, (n, n_classes); see scikit-learn's."""
        outputs = self._plain_outputs(X)
        if outputs is None:
            return super().predict_proba(X)
        return outputs if outputs.shape[1] > 1 else np.hstack([1 - outputs, outputs])


class MLPRegressor(_Trained, originals.MLPRegressor):
    """scikit-learn's MLPRegressor with the same parameters, attributes and numbers, faster, and with further ones.

    See `sklearn.neural_network.MLPRegressor`. Further parameters are those of `MLPClassifier`, and:

    Parameters
    ----------
    loss : str, Huber, Quantile or Loss
        Beside "squared_error" and "poisson" also "absolute_error", "huber", "log_cosh", "quantile", as for a `Model`:
        summed over the outputs, where the squared error is a mean over them.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> X = np.linspace(-1, 1, 100)[:, None]
    >>> model = fastnn.MLPRegressor(hidden_layer_sizes=20, solver="lbfgs", random_state=0).fit(X, X[:, 0] ** 2)
    >>> bool(model.score(X, X[:, 0] ** 2) > 0.99)
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **originals.MLPRegressor._parameter_constraints,
        **_WIDER,
        **EXTRA_PARAMETERS,
        "loss": [StrOptions(set(_REGRESSION_LOSSES)), Huber, Quantile, Loss],
    }

    def __init__(
        self,
        loss: Any = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: Any = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: Any = 0.0,
        l1: float = 0.0,
        max_norm: float | None = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        scoring: Any = None,
        callbacks: Any = None,
        progress: bool = False,
        threads: int | None = None,
        max_time: float | None = None,
    ) -> None:
        _store(self, super().__init__, locals())

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, NDArray[Any]]:
        """(X, y). Plain arrays skip scikit-learn's checks."""
        if _is_plain_set(X, y, self, reset) and y.dtype.kind == "f" and arrays.sum_is_finite(y):
            self.n_features_in_ = X.shape[1]
            return self._that_goes_on(X, y, reset)
        X, y = super()._validate_input(X, y, incremental, reset)
        return self._that_goes_on(X, y, reset)

    def predict(self, X: Any) -> NDArray[Any]:
        """The values, (n,), or for several outputs (n, n_outputs); see scikit-learn's."""
        outputs = self._plain_outputs(X)
        if outputs is None:
            return super().predict(X)
        return outputs if outputs.shape[1] > 1 else outputs.ravel()


def _accuracy(y: Any, predicted: Any, sample_weight: Any = None) -> float:
    """scikit-learn's accuracy_score, whose checks take ten times as long as an accuracy of whole numbers."""
    plain = type(y) is np.ndarray and y.ndim == 1 and y.size and y.dtype.kind == predicted.dtype.kind == "i"
    if plain and y.shape == predicted.shape and sample_weight is None:
        return float(np.mean(y == predicted))
    found: float = accuracy_score(y, predicted, sample_weight=sample_weight)
    return found


def is_plain(X: Any, dtype: Any, estimator: Any) -> bool:
    """Whether X needs no validation by scikit-learn, because it would be taken as it is."""
    return (
        type(X) is np.ndarray
        and X.dtype == dtype
        and X.ndim == 2
        and X.shape[0] > 0
        and X.shape[1] == estimator.n_features_in_
        and X.flags.carray
        and not hasattr(estimator, "feature_names_in_")
        and arrays.sum_is_finite(X)
    )


def _is_plain_set(X: Any, y: Any, estimator: Any, reset: bool) -> bool:
    """Whether X, and the shape of y, need no validation by scikit-learn for training."""
    return (
        type(X) is type(y) is np.ndarray
        and X.dtype in (np.float64, np.float32)
        and X.ndim == 2
        and X.size > 0
        and y.shape == X.shape[:1]
        and X.flags.carray
        and y.flags.carray
        and not hasattr(estimator, "feature_names_in_")
        and (reset or X.shape[1] == estimator.n_features_in_)
        and arrays.sum_is_finite(X)
    )


def _knows(classifier: Any, y: NDArray[Any], codes: NDArray[Any]) -> bool:
    """Whether all classes of y, at `codes` among those known, are among them."""
    classes = classifier.classes_
    return (
        not classifier.warm_start
        and classes.dtype.kind == "i"
        and classifier._label_binarizer.y_type_ in KINDS
        and bool((classes[np.minimum(codes, len(classes) - 1)] == y).all())
    )
