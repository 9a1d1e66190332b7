"""MLPClassifier and MLPRegressor: scikit-learn's estimators with the same numbers, trained by fastnn's kernels.

They are subclasses of scikit-learn's. Parameters, validation of input, labels, tags and scores are inherited; whatever
computes with the network is replaced. The parameters live in a `Network`, and `coefs_` and `intercepts_` are views of
it, as long as nobody assigns others.
"""

from __future__ import annotations

import copy
import functools
import itertools
import operator
import warnings
from typing import Any

import numpy as np
import scipy.sparse
import sklearn.neural_network as originals
from numpy.typing import NDArray
from sklearn.base import is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network._multilayer_perceptron import BaseMultilayerPerceptron
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.validation import validate_data

from . import _validation, training
from . import threads as _threads
from .history import DivergenceError, History
from .kernels import entry
from .layers import Architecture, Dense
from .network import Network
from .optimizers import Adam, Momentum, Optimizer

ACTIVATIONS = {"logistic": "sigmoid"}  # by scikit-learn's names; all others are equal
LOSSES = {"log_loss": "clipped_cross_entropy", "squared_error": "quadratic", "poisson": "poisson"}
KINDS = ("binary", "multiclass")  # of targets, by scikit-learn's names, of which one class is chosen
ORDER_BYTES = 2**20  # of the orders of samples that are drawn at a time
MAX_ORDERS = 64
NOT_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and need to be preprocessed."
)


class _Engine:
    """The network of an estimator, in the memory of which its coefficients lie."""

    def __init__(self, estimator: Any, coefs: list[Any], intercepts: list[Any]):
        sizes = (coefs[0].shape[0], *(w.shape[1] for w in coefs))
        hidden = [estimator.activation] * (len(coefs) - 1)
        names = [ACTIVATIONS.get(name, name) for name in (*hidden, estimator.out_activation_)]
        layers = tuple(itertools.starmap(Dense, zip(sizes[1:], names, strict=True)))
        dtype = np.result_type(*coefs).name
        self.architecture = Architecture(sizes[0], layers, LOSSES[estimator.loss], dtype)
        self.network = Network(self.architecture)
        views = self.network.layout.views(self.network.parameters)
        self.coefs, self.intercepts = [w for w, _ in views], [b for _, b in views]
        self.kind = estimator.activation, estimator.out_activation_, estimator.loss
        self.lent = False  # whether an estimator's coefficients are views of its memory
        self.take(coefs, intercepts)

    def go_on_from(self, other: _Engine) -> None:
        """Take over the optimizer's state of a network of the same sizes."""
        state = other.network.optimizer_state()
        if state is not None and other.architecture.sizes == self.architecture.sizes:
            self.network.restore_optimizer(*state)

    def is_current(self, estimator: Any) -> bool:
        """Whether the estimator's coefficients are the network's, and its activations and loss too."""
        coefs, intercepts = estimator.coefs_, estimator.intercepts_
        return (
            len(coefs) == len(intercepts) == len(self.coefs)
            and all(map(operator.is_, coefs, self.coefs))
            and all(map(operator.is_, intercepts, self.intercepts))
            and self.kind == (estimator.activation, estimator.out_activation_, estimator.loss)
        )

    def fits(self, estimator: Any, coefs: list[Any]) -> bool:
        """Whether it is a network for these coefficients."""
        return (
            [w.shape for w in coefs] == [w.shape for w in self.coefs]
            and np.result_type(*coefs) == self.architecture.dtype
            and self.kind == (estimator.activation, estimator.out_activation_, estimator.loss)
        )

    def take(self, coefs: list[Any], intercepts: list[Any]) -> None:
        """Copy what does not lie in the network's memory."""
        for mine, given in itertools.chain(
            zip(self.coefs, coefs, strict=True), zip(self.intercepts, intercepts, strict=True)
        ):
            if given is not mine:
                mine[...] = given


class _Trained(BaseMultilayerPerceptron):
    """What both estimators replace of scikit-learn's."""

    _engine: _Engine | None = None
    _no_improvement_count: int
    best_loss_: Any
    _optimizer_state: Any = None  # of the kernels', between unpickling and training

    def _network(self) -> _Engine:
        """The engine, with the parameters that the estimator has now.

        Memory that the coefficients were views of is not overwritten when somebody assigns others, because the old ones
        may still be in use. Then another engine takes copies, and goes on with the optimizer.
        """
        engine = self._engine
        if engine is not None and engine.is_current(self):
            return engine
        coefs, intercepts = self.coefs_, self.intercepts_
        if engine is None or engine.lent or not engine.fits(self, coefs):
            self._engine = _Engine(self, coefs, intercepts)
            if engine is not None:
                self._engine.go_on_from(engine)
            return self._engine
        engine.take(coefs, intercepts)
        return engine

    def _lend(self, engine: _Engine) -> None:
        """Make the coefficients views of the network's memory."""
        self.coefs_, self.intercepts_ = list(engine.coefs), list(engine.intercepts)
        engine.lent = True

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        engine = state.pop("_engine", None)
        if engine is not None:
            state["_optimizer_state"] = engine.network.optimizer_state()
            for name in ("coefs_", "intercepts_"):
                state[name] = [a.copy() for a in state[name]]
        return state

    @classmethod
    @functools.cache
    def _get_param_names(cls) -> list[str]:  # inspecting the signature takes longer than a small epoch
        names: list[str] = super()._get_param_names()
        return names

    # ---- conversion ----

    @classmethod
    def from_sklearn(cls, fitted: Any) -> Any:
        """The same estimator as a fitted one of scikit-learn: it predicts the same and goes on training the same."""
        made = cls(**fitted.get_params(deep=False))
        made.__dict__.update(copy.deepcopy(vars(fitted)))
        if hasattr(fitted, "_optimizer"):
            network, optimizer = made._network().network, _optimizer_of(fitted._optimizer)
            numbers = network.state["numbers"] * 0
            if isinstance(fitted._optimizer, AdamOptimizer):
                numbers[0, :2] = optimizer.beta1**fitted._optimizer.t, optimizer.beta2**fitted._optimizer.t
            network.restore_optimizer(optimizer, network.vectors_for(optimizer) * 0, numbers)
            _copy_vectors(fitted._optimizer, network, optimizer, to_network=True)
        return made

    def to_sklearn(self) -> Any:
        """The same estimator of scikit-learn's class."""
        made = next(c for c in type(self).__mro__ if c.__module__.startswith("sklearn."))(**self.get_params(deep=False))
        state = copy.deepcopy(self.__getstate__())
        state.pop("_optimizer_state", None)
        made.__dict__.update({name: value for name, value in state.items() if name != "_sklearn_version"})
        if hasattr(self, "_optimizer"):
            network, optimizer = self._network().network, _optimizer_of(self._optimizer)
            parameters = made.coefs_ + made.intercepts_
            for name in ("ms", "vs") if isinstance(self._optimizer, AdamOptimizer) else ("velocities",):
                setattr(made._optimizer, name, [np.zeros_like(p) for p in parameters])
            _copy_vectors(made._optimizer, network, optimizer, to_network=False)
        return made

    # ---- prediction ----

    def _plain_outputs(self, X: Any) -> NDArray[Any] | None:
        """The outputs for an array that scikit-learn would take as it is, without its validation; else None."""
        if self._engine is None or not hasattr(self, "coefs_"):
            return None
        network = self._network().network
        return _outputs(network, X) if _is_plain(X, network.inference.dtype, self) else None

    def _forward_pass_fast(self, X: Any, check_input: bool = True) -> NDArray[Any]:
        """The outputs, (n, n_outputs)."""
        outputs = self._plain_outputs(X) if check_input else None
        if outputs is not None:
            return outputs
        if check_input:
            X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        network = self._network().network
        dtype = network.inference.dtype
        return _outputs(network, X).astype(np.result_type(X.dtype, dtype), copy=False)

    # ---- training ----

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
        if not incremental or not hasattr(self, "_optimizer"):
            self._optimizer = _settings_of(self)
            self._optimizer_state = None
            if self._engine is not None:
                self._engine.network.state["optimizer"] = 0  # it starts afresh
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        held = None
        if self.early_stopping:
            X, y, sample_weight, held = _held_out(self, X, y, sample_weight)
        n_samples = X.shape[0]
        if self.batch_size == "auto":
            batch_size = min(200, n_samples)
        else:
            if self.batch_size > n_samples:
                warnings.warn(
                    "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=2
                )
            batch_size = int(np.clip(self.batch_size, 1, n_samples))
        engine = self._network()
        if self._optimizer_state is not None:
            engine.network.restore_optimizer(*self._optimizer_state)
        self._optimizer_state = None
        run = _Run(self, engine, X, y, sample_weight, batch_size)
        self._lend(engine)
        self.n_iter_ = 0
        best = None
        try:
            max_iter = 1 if incremental else self.max_iter
            for epochs in run.pieces(max_iter, held is not None or self.verbose):
                run.note(epochs)
                if self.verbose:
                    print(f"Iteration {self.n_iter_}, loss = {self.loss_:.8f}")
                if held is None:
                    self._no_improvement_count, self.best_loss_ = run.waited()
                else:
                    before = self.best_validation_score_
                    self._update_no_improvement_count(True, *held)
                    if self.best_validation_score_ > before:
                        best = engine.network.parameters.copy()
                self._optimizer.iteration_ends(self.t_)
                if self._no_improvement_count > self.n_iter_no_change and self._stops(held is not None):
                    break
                if not incremental and self.n_iter_ == self.max_iter:
                    warnings.warn(
                        f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the optimization "
                        "hasn't converged yet.",
                        ConvergenceWarning,
                        stacklevel=2,
                    )
        except KeyboardInterrupt:
            run.note(run.epochs)
            run.interrupted()
            warnings.warn("Training interrupted by user.", stacklevel=2)
        finally:
            run.close()
        if held is not None:
            if best is not None:
                engine.network.parameters[...] = best
            self._lend(engine)

    def _stops(self, early_stopping: bool) -> bool:
        """What scikit-learn's optimizer says to epochs without improvement: stop, or go on with a lower rate."""
        what = "Validation score" if early_stopping else "Training loss"
        message = f"{what} did not improve more than tol={self.tol:f} for {self.n_iter_no_change:d} consecutive epochs."
        if self._optimizer.trigger_stopping(message, self.verbose):
            return True
        self._no_improvement_count = 0
        return False

    def _fit_lbfgs(self, X: Any, y: Any, *others: Any) -> None:
        super()._fit_lbfgs(X, y, *others)
        self._engine = None
        self._lend(self._network())  # in float64, as SciPy's result is

    def _loss_grad_lbfgs(
        self, packed_coef_inter: NDArray[Any], X: Any, y: Any, sample_weight: Any, *_: Any
    ) -> tuple[float, NDArray[Any]]:
        """(loss, its gradient), as scikit-learn packs it: all coefficients, then all intercepts."""
        self._unpack(packed_coef_inter)
        network = self._network().network
        samples = _samples(network, X, y, sample_weight, self.out_activation_)
        loss, gradient = network.inference.loss_and_gradient(*samples)
        views = network.layout.views(gradient)
        weight = len(samples.inputs) if sample_weight is None else sample_weight.sum()
        if self.loss == "squared_error":
            loss /= self.n_outputs_
        loss += 0.5 * self.alpha / weight * sum(np.vdot(w, w) for w in self.coefs_)
        parts = [dw + self.alpha / weight * w for (dw, _), w in zip(views, self.coefs_, strict=True)]
        return loss, np.concatenate([a.ravel() for a in (*parts, *(db for _, db in views))])


class MLPClassifier(_Trained, originals.MLPClassifier):
    """scikit-learn's MLPClassifier with the same parameters, attributes and numbers, faster.

    See `sklearn.neural_network.MLPClassifier`.

    Examples
    --------
    >>> import fastnn
    >>> X, y = fastnn.load_digits()
    >>> model = fastnn.MLPClassifier(random_state=0, max_iter=500).fit(X[:1000], y[:1000])
    >>> model.score(X[1000:], y[1000:]) > 0.9
    True
    """

    classes_: NDArray[Any]

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
                return X, (codes[:, None] == np.arange(len(classes)))[:, -1 if len(classes) == 2 else 0 :]
        return super()._validate_input(X, y, incremental, reset)

    def predict(self, X: Any) -> NDArray[Any]:
        """The classes, (n,), or for several labels (n, n_classes); see scikit-learn's."""
        outputs = None if self._engine is None or self._label_binarizer.y_type_ not in KINDS else self._plain_outputs(X)
        if outputs is None:
            return super().predict(X)
        chosen = outputs.argmax(axis=1) if outputs.shape[1] > 1 else (outputs[:, 0] > 0.5).astype(np.intp)
        return self.classes_.take(chosen, mode="clip")  # of one class there is only one

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """The probabilities, (n, n_classes); see scikit-learn's."""
        outputs = self._plain_outputs(X)
        if outputs is None:
            return super().predict_proba(X)
        return outputs if outputs.shape[1] > 1 else np.hstack([1 - outputs, outputs])


class MLPRegressor(_Trained, originals.MLPRegressor):
    """scikit-learn's MLPRegressor with the same parameters, attributes and numbers, faster.

    See `sklearn.neural_network.MLPRegressor`.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> X = np.linspace(-1, 1, 100)[:, None]
    >>> model = fastnn.MLPRegressor(hidden_layer_sizes=20, solver="lbfgs", random_state=0).fit(X, X[:, 0] ** 2)
    >>> bool(model.score(X, X[:, 0] ** 2) > 0.99)
    True
    """

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, NDArray[Any]]:
        """(X, y). Plain arrays skip scikit-learn's checks."""
        if _is_plain_set(X, y, self, reset) and y.dtype.kind == "f" and _validation.sum_is_finite(y):
            self.n_features_in_ = X.shape[1]
            return X, y
        return super()._validate_input(X, y, incremental, reset)

    def predict(self, X: Any) -> NDArray[Any]:
        """The values, (n,), or for several outputs (n, n_outputs); see scikit-learn's."""
        outputs = self._plain_outputs(X)
        if outputs is None:
            return super().predict(X)
        return outputs if outputs.shape[1] > 1 else outputs.ravel()


class _Run:
    """Training of an estimator, some epochs at a time."""

    def __init__(self, estimator: Any, engine: _Engine, X: Any, y: Any, sample_weight: Any, batch_size: int):
        self.estimator, self.network = estimator, engine.network
        self.samples = _samples(self.network, X, y, sample_weight, estimator.out_activation_)
        self.n = n = len(self.samples.inputs)
        self.zeros = sample_weight is not None and not np.all(sample_weight)
        n_means = estimator.n_outputs_ if estimator.loss == "squared_error" else 1
        objective = training.Objective(
            l2=(0.0, float(estimator.alpha)), batch_means=sample_weight is not None, n_means=n_means
        )
        work = 3 * estimator.max_iter * n * self.network.layout.multiply_adds
        shared = work > _threads.FIT_MULTIPLY_ADDS and self.network.max_threads(batch_size) > 1
        self.rows = max(1, min(MAX_ORDERS, estimator.max_iter, ORDER_BYTES // (4 * n)))
        self.order = np.empty((self.rows, n), np.int32)
        self.indices = np.arange(n)
        options = training.Options(
            epochs=estimator.max_iter,
            batch_size=batch_size,
            optimizer=_optimizer_of(estimator._optimizer),
            ordered=entry.GIVEN if estimator.shuffle else entry.AS_IS,
            order=self.order,
            callbacks=[],
            max_threads=_threads.available_threads() if shared else 1,
            objective=objective,
        )
        self.fit = training.Fit(lambda: self.network, self.samples, options, History())
        self.plan, self.run = self.fit.plan, self.fit.run_record[0]
        self.begins_at = estimator.t_, len(estimator.loss_curve_)
        self.drawn: Any = None  # of the last orders: the generator's state before, the first epoch, how many
        self.left: NDArray[Any] | None = None  # the last finite parameters, once training has diverged

    def pieces(self, epochs: int, one_by_one: bool) -> Any:
        """Train some epochs again and again; gives how many are done."""
        estimator, run = self.estimator, self.run
        optimizer = estimator._optimizer  # of the solver that training began with
        descends = isinstance(optimizer, SGDOptimizer)
        schedule = descends and optimizer.lr_schedule == "invscaling"
        stops = not estimator.early_stopping
        if stops:
            patience = estimator.n_iter_no_change
            run["patience"] = 2**62 if patience == np.inf else patience
            run["tol"], run["best"] = estimator.tol, estimator.best_loss_
            run["waited"] = estimator._no_improvement_count
        epoch = 0
        while epoch < epochs:
            most = 1 if one_by_one or schedule or self.left is not None else self.rows
            stop = min(epochs, epoch + most)
            if descends:
                self.plan.settings[0] = optimizer.learning_rate
            state = None
            if estimator.shuffle:
                state = self._draw(stop - epoch)
                self.drawn = state, epoch, stop - epoch
            else:
                self._check_weights(self.indices)
            self._train(stop)
            done = stop - epoch if self.left is not None else int(run["epoch"]) - epoch
            if state is not None and done < stop - epoch:
                self._redraw(state, done)
            if not descends:
                self._note_adam(done)
            epoch += done
            yield epoch
            if run["status"] == entry.STALLED:  # and it was told to go on
                run["status"], run["waited"] = entry.RUNNING, 0

    def _draw(self, epochs: int) -> Any:
        """Write the orders of some epochs; gives the state of the generator before."""
        random = self.estimator._random_state
        state = random.get_state(legacy=False), self.indices
        for row in range(epochs):
            order = np.arange(self.n)
            random.shuffle(order)
            self.indices = self.indices[order]
            self.order[row] = self.indices
            self._check_weights(self.indices)
        self.plan.bind_order(self.order)
        return state

    def _check_weights(self, order: NDArray[Any]) -> None:
        """Raise as scikit-learn does for a batch without weight."""
        weights = self.samples.weights
        if weights is not None and self.zeros:
            starts = np.arange(0, self.n, self.plan.kind.batch_size)
            if not np.add.reduceat(weights[order], starts).all():
                raise ZeroDivisionError("Weights sum to zero, can't be normalized")

    def _redraw(self, state: Any, epochs: int) -> None:
        """Bring the generator to where it is after fewer epochs."""
        self.estimator._random_state.set_state(state[0])
        self.indices = state[1]
        self._draw(epochs)

    def interrupted(self) -> None:
        """Bring the generator to where scikit-learn's is: the order of the epoch that did not end is drawn."""
        if self.drawn is not None:
            state, first, drawn = self.drawn
            self._redraw(state, min(self.epochs + 1 - first, drawn))

    def _train(self, stop: int) -> None:
        try:
            while self.run["epoch"] < stop and self.run["status"] == entry.RUNNING:
                self.fit.advance(stop)
        except DivergenceError:
            if not self.estimator.early_stopping:
                raise ValueError(NOT_FINITE) from None
            # scikit-learn goes on with NaN, and ends with the best parameters
            self.left = self.network.parameters.copy()
            for array in (*self.network.weights, *self.network.biases):
                array[...] = np.nan
            self.fit.losses[stop - 1 :] = np.nan

    def _note_adam(self, epochs: int) -> None:
        """Keep the step and the rate that scikit-learn's optimizer would have."""
        optimizer = self.estimator._optimizer
        optimizer.t += epochs * -(-self.n // self.plan.kind.batch_size)
        rate = np.sqrt(1 - optimizer.beta_2**optimizer.t) / (1 - optimizer.beta_1**optimizer.t)
        optimizer.learning_rate = optimizer.learning_rate_init * rate

    @property
    def epochs(self) -> int:
        """Epochs finished."""
        return int(self.run["epoch"])

    def note(self, epochs: int) -> None:
        """Let the estimator know of as many epochs as are done."""
        estimator, (t, curve) = self.estimator, self.begins_at
        estimator.n_iter_, estimator.t_ = epochs, t + epochs * self.n
        estimator.loss_curve_[curve:] = self.fit.losses[:epochs].tolist()
        if epochs:
            estimator.loss_ = estimator.loss_curve_[-1]

    def waited(self) -> tuple[int, float]:
        """(epochs without improvement, the best loss)."""
        return int(self.run["waited"]), float(self.run["best"])

    def close(self) -> None:
        """Forget the samples; after a fit that diverged, the parameters are those that it left."""
        if self.left is not None:
            self.network.parameters[...] = self.left
        self.plan.release(self.network)


def _outputs(network: Network, X: Any) -> NDArray[Any]:
    """The outputs for X, dense or sparse."""
    inference = network.inference
    if type(X) is np.ndarray and X.dtype == inference.dtype and X.flags.carray and 0 < len(X) <= inference.block_rows:
        return inference.predict_block(X)
    rows = _rows(X, inference.dtype)
    out = inference.outputs(len(rows))
    if len(rows):
        inference.predict(rows, out)
    return out


def _rows(X: Any, dtype: Any) -> NDArray[Any]:
    """X, validated, as the kernels take it."""
    return _validation.SparseRows.of(X, dtype) if scipy.sparse.issparse(X) else np.ascontiguousarray(X, dtype)


def _is_plain(X: Any, dtype: Any, estimator: Any) -> bool:
    """Whether X needs no validation by scikit-learn, because it would be taken as it is."""
    return (
        type(X) is np.ndarray
        and X.dtype == dtype
        and X.ndim == 2
        and X.shape[0] > 0
        and X.shape[1] == estimator.n_features_in_
        and X.flags.carray
        and not hasattr(estimator, "feature_names_in_")
        and _validation.sum_is_finite(X)
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
        and _validation.sum_is_finite(X)
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


def _samples(network: Network, X: Any, y: NDArray[Any], sample_weight: Any, output: str) -> training.Samples:
    """The samples as the kernels take them."""
    dtype = network.inference.dtype
    inputs = _rows(X, dtype)
    if y.ndim == 1:
        y = y.reshape(-1, 1)
    targets = y.argmax(axis=1).astype(np.int32) if output == "softmax" else np.ascontiguousarray(y, dtype)
    weights = None if sample_weight is None else np.array(sample_weight, dtype)
    return training.Samples(inputs, targets, weights)


def _settings_of(estimator: Any) -> Any:
    """scikit-learn's optimizer object, for its settings and its rules of learning rate and stopping."""
    if estimator.solver == "adam":
        settings = estimator.learning_rate_init, estimator.beta_1, estimator.beta_2, estimator.epsilon
        return AdamOptimizer([], *settings)
    schedule = estimator.learning_rate_init, estimator.learning_rate
    return SGDOptimizer([], *schedule, estimator.momentum, estimator.nesterovs_momentum, estimator.power_t)


def _optimizer_of(theirs: Any) -> Any:
    """The optimizer that trains, from scikit-learn's. Its numbers may lie outside what fastnn's own allow."""
    made: Any
    if isinstance(theirs, AdamOptimizer):
        made = Adam(epsilon_hat=True)
        numbers = {"beta1": theirs.beta_1, "beta2": theirs.beta_2, "epsilon": theirs.epsilon}
    else:
        made = Momentum(nesterov=bool(theirs.nesterov))
        numbers = {"momentum": theirs.momentum}
    for name, value in (numbers | {"learning_rate": theirs.learning_rate_init}).items():
        object.__setattr__(made, name, float(value))
    return made


def _copy_vectors(theirs: Any, network: Network, optimizer: Optimizer, *, to_network: bool) -> None:
    """Copy the vectors of scikit-learn's optimizer to those of the network, or back."""
    names = ("ms", "vs") if isinstance(theirs, AdamOptimizer) else ("velocities",)
    vectors = np.split(network.vectors_for(optimizer), len(names))
    for name, vector in zip(names, vectors, strict=True):
        views = network.layout.views(vector)
        for mine, given in zip([*(w for w, _ in views), *(b for _, b in views)], getattr(theirs, name), strict=True):
            if to_network:
                mine[...] = given
            else:
                given[...] = mine


def _held_out(estimator: Any, X: Any, y: Any, sample_weight: Any) -> tuple[Any, Any, Any, Any]:
    """(X, y, weights to train on, (X, y, weights) to score), split as scikit-learn does."""
    stratify = y if is_classifier(estimator) and estimator.n_outputs_ == 1 else None
    arrays = (X, y) if sample_weight is None else (X, y, sample_weight)
    parts: Any = train_test_split(
        *arrays, random_state=estimator._random_state, test_size=estimator.validation_fraction, stratify=stratify
    )
    train, held = [*parts[::2], None][:3], [*parts[1::2], None][:3]
    if held[0].shape[0] < 2:
        raise ValueError("The validation set is too small. Increase 'validation_fraction' or the size of your dataset.")
    if is_classifier(estimator):
        held[1] = estimator._label_binarizer.inverse_transform(held[1])
    return train[0], train[1], train[2], held
