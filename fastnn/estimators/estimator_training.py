"""What an estimator of `estimators` trains: its network, its optimizer, the sets it trains and validates on, epochs.

The estimators themselves are scikit-learn's, so they are `Any` here.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
import time
import warnings
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from sklearn.base import is_classifier
from sklearn.model_selection import train_test_split
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, BaseOptimizer, SGDOptimizer
from sklearn.utils.multiclass import unique_labels
from sklearn.utils.validation import _check_sample_weight, column_or_1d, validate_data

from ..checks import scalars
from ..checks.scalars import shown
from ..data import arrays
from ..data.samples import Samples
from ..kernels.programs import records
from ..network.network import Network
from ..network.threads import check_wanted
from ..reports.history import DivergenceError, History
from ..settings import optimizers
from ..settings.custom import Activation
from ..settings.layers import HIDDEN, Architecture, Dense
from ..settings.optimizers import Adam, Momentum, Optimizer, Rprop
from ..training.arguments import max_threads
from ..training.fit import Fit, Trainer, any_says_stop
from ..training.options import Options, Penalty, RuleValues
from ..training.plan import MAX_ROWS
from ..training.steps import Steps
from .saving import count, number

ACTIVATIONS = {"logistic": "sigmoid"}  # by scikit-learn's names; all others are equal
LOSSES = {"log_loss": "clipped_cross_entropy", "squared_error": "quadratic"}  # the same
ORDER_BYTES = 2**20  # how many bytes of orders are drawn at a time
MAX_ORDERS = 64
NOT_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and need to be preprocessed."
)


def _kind(estimator: Any) -> tuple[Any, ...]:
    """What a network depends on beside its coefficients."""
    activation = estimator.activation
    if isinstance(activation, list):
        activation = tuple(activation)
    return activation, estimator.out_activation_, estimator.loss


def hidden_activations(activation: Any, n_hidden: int) -> list[Any]:
    """fastnn's names of the hidden layers' activations, or objects, for the parameter `activation`."""
    found = list(activation) if isinstance(activation, (list, tuple)) else [activation] * n_hidden
    if len(found) != n_hidden:
        raise ValueError(f"activation must be one, or one a hidden layer, {n_hidden}, got {shown(activation)}")
    for each in found:
        if not isinstance(each, Activation):
            scalars.choice("activation", each, ("logistic", *HIDDEN))
    return [ACTIVATIONS.get(each, each) for each in found]


def arrays_of(coefs: Any, intercepts: Any) -> tuple[list[Any], list[Any]]:
    """The coefficients and intercepts as arrays that fit together, of any type and container that holds real numbers.

    Raises ValueError or TypeError, which names the array. An intercept may have one number for all neurons, as in
    scikit-learn.
    """
    if len(coefs) != len(intercepts) or not len(coefs):
        raise ValueError(f"coefs_ and intercepts_ must have an array a layer, got {len(coefs)} and {len(intercepts)}")
    weights, biases = list[Any](), list[Any]()
    for i, (coef, intercept) in enumerate(zip(list(coefs), list(intercepts), strict=True)):
        w, b = _numbers(f"coefs_[{i}]", coef), _numbers(f"intercepts_[{i}]", intercept)
        if w.ndim != 2 or 0 in w.shape or (i and w.shape[0] != weights[-1].shape[1]):
            rows = weights[-1].shape[1] if i else "n_features"
            raise ValueError(f"coefs_[{i}] must have shape ({rows}, n), got shape {w.shape}")
        n = w.shape[1]
        if b.shape != (n,):
            if b.shape not in ((), (1,), (1, 1), (1, n)):
                raise ValueError(f"intercepts_[{i}] must have shape ({n},), got shape {b.shape}")
            b = np.broadcast_to(b.reshape(-1), n)
        weights.append(w)
        biases.append(b)
    return weights, biases


def _numbers(name: str, values: Any) -> NDArray[Any]:
    """An array of real numbers."""
    array = np.asarray(values.toarray() if scipy.sparse.issparse(values) else values)
    if array.dtype.kind == "O":
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError):
            raise TypeError(f"{name} must hold numbers, got {shown(values)}") from None
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold real numbers, got an array of dtype {array.dtype}")
    return array


def _dtype_for(coefs: list[Any]) -> str:
    """The network's dtype: float32 where that holds all coefficients, else float64."""
    return "float32" if np.result_type(np.float32, *(w.dtype for w in coefs)) == np.float32 else "float64"


def check_goes_on(estimator: Any, X: Any, y: NDArray[Any]) -> None:
    """Raise where further training is on samples, or with hidden layers, that the coefficients are not for.

    scikit-learn's stochastic solvers do not look at the sizes of hidden layers, only at their number.
    """
    shapes = [np.shape(w) for w in estimator.coefs_]
    if not shapes or any(len(shape) != 2 for shape in shapes):
        arrays_of(estimator.coefs_, estimator.intercepts_)
    hidden, asked = [shape[1] for shape in shapes[:-1]], np.atleast_1d(estimator.hidden_layer_sizes).tolist()
    if hidden != asked and (len(hidden) != len(asked) or estimator.solver == "lbfgs"):
        raise ValueError(f"hidden_layer_sizes must be those of coefs_, {hidden}, where training goes on, got {asked}")
    if X.shape[1] != shapes[0][0]:
        raise ValueError(f"X must have {shapes[0][0]} features, as coefs_[0] has rows, got {X.shape[1]}")
    n_outputs = y.shape[1] if y.ndim == 2 else 1
    if n_outputs != shapes[-1][1]:
        raise ValueError(f"y must have {shapes[-1][1]} outputs, as coefs_[-1] has columns, got {n_outputs}")


class Engine:
    """The network of an estimator, in the memory of which its coefficients lie."""

    def __init__(self, estimator: Any, coefs: list[Any], intercepts: list[Any]):
        """The arrays are those of `arrays_of`."""
        self.kind = activation, out_activation, loss = _kind(estimator)
        sizes = (coefs[0].shape[0], *(w.shape[1] for w in coefs))
        output = ACTIVATIONS.get(out_activation, out_activation)
        names = [*hidden_activations(activation, len(coefs) - 1), output]
        layers = tuple(itertools.starmap(Dense, zip(sizes[1:], names, strict=True)))
        self.architecture = Architecture(sizes[0], layers, LOSSES.get(loss, loss), _dtype_for(coefs))
        self.network = Network(self.architecture)
        views = self.network.layout.views(self.network.parameters)
        self.coefs, self.intercepts = [w for w, _ in views], [b for _, b in views]
        self.lent = False  # whether an estimator's coefficients are views of its memory
        self.wider = False  # whether the coefficients that it took are of a wider type, such as np.longdouble
        self.take(coefs, intercepts)

    def go_on_from(self, kept: Any) -> None:
        """Take over what `kept_of` gave of another network: the optimizer's state only where the sizes are the same."""
        if kept is not None:
            state, self.network.state["noise"] = kept
            restore_optimizer(self.network, state)

    def is_current(self, estimator: Any) -> bool:
        """Whether the estimator's coefficients are the network's, and its activations and loss too."""
        coefs, intercepts = estimator.coefs_, estimator.intercepts_
        return (
            len(coefs) == len(intercepts) == len(self.coefs)
            and all(map(operator.is_, coefs, self.coefs))
            and all(map(operator.is_, intercepts, self.intercepts))
            and self.kind == _kind(estimator)
        )

    def fits(self, estimator: Any, coefs: list[Any]) -> bool:
        """Whether it is a network for these coefficients."""
        return (
            [w.shape for w in coefs] == [w.shape for w in self.coefs]
            and _dtype_for(coefs) == self.architecture.dtype
            and self.kind == _kind(estimator)
        )

    def take(self, coefs: list[Any], intercepts: list[Any]) -> None:
        """Copy what does not lie in the network's memory; the arrays are those of `arrays_of`."""
        shapes, expected = [w.shape for w in coefs], [w.shape for w in self.coefs]
        if shapes != expected:
            raise ValueError(f"coefs_ must keep their shapes while fit lasts, {expected}, got {shapes}")
        for place, array in zip((*self.coefs, *self.intercepts), (*coefs, *intercepts), strict=True):
            if array is not place:
                place[...] = array
        self.wider = np.result_type(self.architecture.dtype, *(w.dtype for w in coefs)) != self.architecture.dtype


def _pieces_of(network: Network, vectors: NDArray[Any]) -> list[list[NDArray[Any]]]:
    """The parts of vectors that are laid out like the parameters, by vector, for each array of weights and biases."""
    layout = network.layout
    rows = vectors.reshape(-1, layout.n_bytes // layout.itemsize)
    return [[part for views in layout.views(row) for part in views] for row in rows]


def optimizer_state(network: Network) -> tuple[Optimizer, list[list[NDArray[Any]]], NDArray[Any]] | None:
    """Copies of what the optimizer knows: itself, its vectors, a list of arrays each, and its numbers.

    It is good for another dtype too.
    """
    state = network.optimizer_state()
    return None if state is None else (state[0], _pieces_of(network, state[1]), state[2])


def kept_of(network: Network) -> tuple[Any, int]:
    """Copies of what the optimizer knows, and the state of what draws dropout."""
    return optimizer_state(network), network.noise


def restore_optimizer(network: Network, state: Any) -> None:
    """Go on from what `optimizer_state` gave, if it was of a network of the same sizes."""
    if state is None:
        return
    optimizer, kept, numbers = state
    vectors = network.vectors_for(optimizer).copy()
    here = _pieces_of(network, vectors)
    if [[a.shape for a in parts] for parts in here] != [[a.shape for a in parts] for parts in kept]:
        return
    for parts, kept_parts in zip(here, kept, strict=True):
        for out, array in zip(parts, kept_parts, strict=True):
            out[...] = array
    network.restore_optimizer(optimizer, vectors, numbers)


class EstimatorTrainer(Trainer):
    """Steps of an estimator: in the orders that scikit-learn's generator draws, by its rules of learning rate."""

    def __init__(
        self,
        estimator: Any,
        engine: Engine,
        X: Any,
        y: Any,
        sample_weight: Any,
        batch_size: int,
        goes_on: bool,
        fresh: bool,
    ):
        """With `goes_on` calls on other numbers of samples follow; with `fresh` the optimizer starts afresh."""
        self.estimator, self.network = estimator, engine.network
        self.optimizer, self.random = estimator._optimizer, estimator._random_state
        self.shuffle, self.early_stopping = bool(estimator.shuffle), bool(estimator.early_stopping)
        self.samples = samples_of(self.network, X, y, sample_weight)
        self.n = n = len(self.samples.inputs)
        # Batches without weight can only be where a weight is not positive.
        self.doubtful = None if sample_weight is None or np.all(sample_weight > 0) else np.array(sample_weight)
        exponent = 0 if sample_weight is None else common_exponent(sample_weight)
        self.epochs = 1 if goes_on else int(estimator.max_iter)
        self.rows = max(1, min(MAX_ORDERS, self.epochs, ORDER_BYTES // (4 * n)))
        self.order = np.empty((self.rows, n), np.int32)
        self.indices = np.arange(n)
        at_most_all = min(n, batch_size)
        self.options = Options(
            epochs=self.epochs,
            batch_size=batch_size if goes_on else at_most_all,
            optimizer=optimizer_of(self.optimizer),
            ordered=records.GIVEN if self.shuffle else records.AS_IS,
            order=self.order,
            max_threads=max_threads(self.network, estimator.threads, int(estimator.max_iter) * n, at_most_all),
            l2=Penalty(of_sum=float(np.ldexp(float(estimator.alpha), -exponent))),
            l1=Penalty(of_sum=float(np.ldexp(float(estimator.l1), -exponent))),
            batch_means=sample_weight is not None,
            n_means=self.network.layout.sizes[-1] if engine.kind[-1] == "squared_error" else 1,
            rules=RuleValues(
                dropout=scalars.dropout(estimator.dropout, len(engine.coefs) - 1),
                max_norm=None if estimator.max_norm is None else float(estimator.max_norm),
            ),
            any_rows=goes_on,
            fresh=fresh,
        )
        self.history = History()
        self.steps = Steps(self.network, self.samples, self.options, self.history)
        self.rate, self.record = self.steps.rate, self.steps.run_record[0]
        self.begins_at = estimator.t_, len(estimator.loss_curve_)
        self.done = 0  # epochs, with those after a divergence
        self.drawn: Any = None  # the generator's state before the last orders, the first epoch of these, their number
        self.left: NDArray[Any] | None = None  # the last finite parameters, once training has diverged
        self.descends = isinstance(self.optimizer, SGDOptimizer) and self.rate.constant
        self.one_by_one = self.descends and self.optimizer.lr_schedule == "invscaling"
        if not self.early_stopping:
            self.record["best"] = np.inf if estimator.best_loss_ is None else estimator.best_loss_
            self.record["waited"] = estimator._no_improvement_count

    @property
    def epoch(self) -> int:
        """The number of epochs that have ended."""
        return self.done

    def advance(self, until: int) -> None:
        """Train on for as many epochs as there are orders drawn at a time, but not past the epoch `until`."""
        estimator, record, optimizer = self.estimator, self.record, self.optimizer
        if record["status"] == records.STALLED:  # and it was told to go on
            record["status"], record["waited"] = records.RUNNING, estimator._no_improvement_count
        if not self.early_stopping:  # scikit-learn reads these after each epoch, and callbacks may set them
            record["patience"], record["tol"] = min(estimator.n_iter_no_change, 2**62), estimator.tol
        most = 1 if self.one_by_one or self.left is not None else self.rows
        begins, stop = self.done, min(until, self.done + most)
        if self.descends:
            self.steps.plan.optimizer_settings[0] = optimizer.learning_rate
        state = None
        if self.shuffle:
            state = self._draw(stop - begins)
            self.steps.plan.bind_order(self.order)
            self.drawn = state, begins, stop - begins
        else:
            self._check_weights(self.indices)
        self._train(stop)
        done = stop - begins if self.left is not None else self.steps.epoch - begins
        if state is not None and done < stop - begins:
            self._redraw(state, done)
        if isinstance(optimizer, AdamOptimizer):
            self._note_adam(done)
        elif not self.descends:
            optimizer.learning_rate = self.rate.now
        self.done += done

    def check(self, network: Network, stop: bool) -> None:
        """Raise where callbacks left coefficients that are not finite, unless training did."""
        if self.left is None:
            self.steps.check(network, stop)

    def resume(self, network: Network) -> None:
        """Go on with the coefficients that callbacks left."""
        if self.left is None:
            self.steps.resume(network)

    def _draw(self, epochs: int) -> Any:
        """Write the orders of some epochs; gives the state of the generator before."""
        random = self.random
        state = random.get_state(legacy=False), self.indices
        for row in range(epochs):
            order = np.arange(self.n)
            random.shuffle(order)
            self.indices = self.indices[order]
            self.order[row] = self.indices
            self._check_weights(self.indices)
        return state

    def _check_weights(self, order: NDArray[Any]) -> None:
        """Raise as scikit-learn does for a batch without weight."""
        if self.doubtful is not None:
            starts = np.arange(0, self.n, self.options.batch_size)
            if not np.add.reduceat(self.doubtful[order], starts).all():
                raise ZeroDivisionError("Weights sum to zero, can't be normalized")

    def _redraw(self, state: Any, epochs: int) -> None:
        """Bring the generator to where it is after fewer epochs."""
        self.random.set_state(state[0])
        self.indices = state[1]
        self._draw(epochs)

    def interrupted(self) -> None:
        """Bring the generator to where scikit-learn's is: the order of the epoch that did not end is drawn."""
        if self.drawn is not None:
            state, first, drawn = self.drawn
            self._redraw(state, min(self.steps.epoch + 1 - first, drawn))

    def _train(self, stop: int) -> None:
        try:
            while self.steps.epoch < stop and self.record["status"] == records.RUNNING:
                check_wanted()
                self.steps.advance(stop)
        except DivergenceError:
            if not self.early_stopping:
                self.note(self.steps.epoch)
                self.estimator.stopped_by_ = "divergence"
                raise ValueError(NOT_FINITE) from None
            # scikit-learn goes on with NaN, and ends with the best parameters
            self.left = self.network.parameters.copy()
            for array in (*self.network.weights, *self.network.biases):
                array[...] = np.nan

    def _note_adam(self, epochs: int) -> None:
        """Keep the step and the rate that scikit-learn's optimizer would have."""
        optimizer = self.optimizer
        optimizer.t += epochs * -(-self.n // self.options.batch_size)
        rate = np.sqrt(1 - optimizer.beta_2**optimizer.t) / (1 - optimizer.beta_1**optimizer.t)
        optimizer.learning_rate = (optimizer.learning_rate_init if self.rate.constant else self.rate.now) * rate

    def note(self, epochs: int) -> None:
        """Let the estimator know of as many epochs as are done."""
        estimator, (t, curve) = self.estimator, self.begins_at
        estimator.n_iter_, estimator.t_ = epochs, t + epochs * self.n
        known = self.steps.losses[: min(epochs, self.steps.epoch)].tolist()
        estimator.loss_curve_[curve:] = known + [math.nan] * (epochs - len(known))
        if epochs:
            estimator.loss_ = estimator.loss_curve_[-1]

    def note_waiting(self) -> None:
        """Let the estimator know of the epochs without improvement, and of the best loss."""
        estimator = self.estimator
        estimator._no_improvement_count, estimator.best_loss_ = int(self.record["waited"]), float(self.record["best"])

    def close(self) -> None:
        """Forget the samples; after a fit that diverged, the parameters are those that it left."""
        if self.left is not None:
            self.network.parameters[...] = self.left
        self.steps.close()


class EstimatorFit(Fit):
    """A fit of an estimator: after an epoch it gets scikit-learn's attributes, and its rules say when to stop."""

    def __init__(self, estimator: Any, engine: Engine, trainer: EstimatorTrainer, report: Any, held: _Held | None):
        """held is what is validated on."""
        super().__init__(trainer, lambda: engine.network, lambda ended: trainer.left is None and report(ended))
        self.estimator, self.engine, self.steps, self.held = estimator, engine, trainer, held
        self.callbacks = [functools.partial(callback, estimator) for callback in estimator.callbacks or ()]
        self.tasks: Tasks | None = None
        self.started = 0.0
        if held is not None:
            self.scored_samples = samples_of(engine.network, held.X, held.targets, held.weights)
            estimator.validation_loss_curve_ = getattr(estimator, "validation_loss_curve_", None) or []

    def watch(self, tasks: Tasks | None, started: float) -> None:
        """Report to scikit-learn's callbacks, if there are any; come back after each epoch where somebody looks.

        max_time counts from when the fit started.
        """
        self.tasks, self.started, estimator = tasks, started, self.estimator
        if tasks is not None:
            self.callbacks.append(tasks.end)
        looks = self.held is not None or estimator.verbose or self.callbacks or estimator.progress or estimator.max_time
        self.trainer.watched = bool(looks)

    def score(self) -> None:
        """Set the attributes of scikit-learn, which callbacks may read."""
        estimator, trainer, held = self.estimator, self.steps, self.held
        trainer.note(trainer.epoch)
        if estimator.verbose:
            print(f"Iteration {estimator.n_iter_}, loss = {estimator.loss_:.8f}")
        if held is not None:
            loss = self.engine.network.inference.evaluate(*self.scored_samples)[0] / trainer.options.n_means
            estimator.validation_loss_curve_.append(loss)
        if trainer.early_stopping and held is not None:
            estimator._update_no_improvement_count(True, held.X, held.y, held.weights)
        else:
            trainer.note_waiting()
        trainer.optimizer.iteration_ends(estimator.t_)

    def call_back(self) -> bool:
        """Call all callbacks, and find out what ends the fit: stopped_by_ says it."""
        estimator = self.estimator
        called_off = any_says_stop([callback() for callback in self.callbacks])
        if self.callbacks and not self.engine.is_current(estimator):
            try:
                self.engine.take(*arrays_of(estimator.coefs_, estimator.intercepts_))
            finally:
                estimator._lend(self.engine)
        if estimator._no_improvement_count > estimator.n_iter_no_change and self._out_of_patience():
            estimator.stopped_by_ = "tol"
        elif called_off:
            estimator.stopped_by_ = "callbacks"
        elif estimator.max_time is not None and time.monotonic() - self.started >= estimator.max_time:
            estimator.stopped_by_ = "max_time"
        else:
            if self.tasks is not None and self.trainer.epoch < self.trainer.epochs:
                self.tasks.begin()
            return False
        return True

    def _out_of_patience(self) -> bool:
        """What scikit-learn's optimizer says to epochs without improvement: stop, or go on with a lower rate."""
        estimator = self.estimator
        what = "Validation score" if self.steps.early_stopping else "Training loss"
        message = f"{what} did not improve more than tol={estimator.tol:f} for "
        message += f"{estimator.n_iter_no_change:d} consecutive epochs."
        if self.steps.optimizer.trigger_stopping(message, estimator.verbose):
            return True
        estimator._no_improvement_count = 0
        return False


class Tasks:
    """What scikit-learn's callbacks see of a fit: one task that has a task for each epoch."""

    def __init__(self, estimator: Any, X: Any, y: NDArray[Any], sample_weight: Any):
        self.estimator = estimator
        self.epoch: Any = None
        self.open = False
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self.fit_arguments = {"X": X, "y": lambda: _as_given(estimator, y), "metadata": metadata}
        self.fit = estimator._init_callback_context(max_subtasks=estimator.max_iter)
        self.fit.call_on_fit_task_begin(estimator=estimator, **self.fit_arguments)

    @classmethod
    def of(cls, estimator: Any, *fit_arguments: Any) -> Tasks | None:
        """The tasks of an estimator, or None if it has no callbacks, be they a search's: they would see nothing."""
        return cls(estimator, *fit_arguments) if hasattr(estimator, "_skl_callbacks") else None

    def begin(self) -> None:
        """An epoch begins."""
        self.epoch, self.open = self.fit.subcontext("epoch"), True
        self.epoch.call_on_fit_task_begin(estimator=self.estimator, **self.fit_arguments)

    def end(self) -> bool:
        """It has ended; whether the fit shall end."""
        self.open = False
        return bool(self._end(self.epoch))

    def close(self) -> None:
        """The fit has ended, with an epoch that Ctrl-C cut short."""
        if self.open:
            self.epoch.call_on_fit_task_end(estimator=self.estimator)
        self._end(self.fit)

    def _end(self, task: Any) -> Any:
        # A copy of the estimator is one that is fitted: `__getstate__` copies its coefficients.
        return task.call_on_fit_task_end(estimator=self.estimator, **self.fit_arguments, reconstruction_attributes={})


def _as_given(estimator: Any, y: NDArray[Any]) -> NDArray[Any]:
    """The targets of training as a user gave them."""
    if is_classifier(estimator):
        return estimator._label_binarizer.inverse_transform(y)
    return y.ravel() if y.ndim == 2 and y.shape[1] == 1 else y


def outputs_of(network: Network, X: Any, threads: int | None = None) -> NDArray[Any]:
    """The outputs for X, dense or sparse, on at most so many threads."""
    inference = network.inference
    if (outputs := inference.block(X)) is not None:
        return outputs
    return inference.outputs_of(rows_of(network, X), threads)


def rows_of(network: Network, X: Any) -> NDArray[Any]:
    """X, validated by scikit-learn, as the kernels take it; raises ValueError where the network has other inputs."""
    n_in, dtype = network.inference.n_in, network.inference.dtype
    if X.ndim != 2 or X.shape[1] != n_in:
        raise ValueError(f"X must have {n_in} features, as coefs_[0] has rows, got shape {X.shape}")
    return arrays.SparseRows.of(X, dtype) if scipy.sparse.issparse(X) else _as(X, dtype)


def _as(array: NDArray[Any], dtype: Any) -> NDArray[Any]:
    """An array C-ordered in dtype: an object of our own, whose shape nobody else can set."""
    if array.dtype == dtype:
        return np.ascontiguousarray(array).view()
    with np.errstate(all="ignore"):  # a number too small for dtype is zero
        return np.ascontiguousarray(array, dtype).view()


def common_exponent(sample_weight: NDArray[Any]) -> int:
    """e, so that the largest magnitude of the weights is 2**e times a number in [0.5, 1), or 0."""
    return int(np.frexp(np.abs(np.asarray(sample_weight, np.float64)).max(initial=0))[1])


def samples_of(network: Network, X: Any, y: NDArray[Any], sample_weight: Any) -> Samples:
    """The samples as the kernels take them; raises ValueError where they are not those of the network.

    The power of two of `common_exponent` is taken out of the weights, so that their sums neither vanish nor overflow.
    """
    dtype = network.inference.dtype
    inputs = rows_of(network, X)
    if y.ndim == 1:
        y = y.reshape(-1, 1)
    if y.shape != (len(inputs), network.inference.n_out):
        raise ValueError(
            f"y must have shape {len(inputs), network.inference.n_out}, as coefs_[-1] has columns, got shape {y.shape}"
        )
    classes = network.architecture.head.activation == "softmax"
    targets = y.argmax(axis=1).astype(np.int32) if classes else _as(y, dtype)
    weights = None
    if sample_weight is not None:
        with np.errstate(all="ignore"):
            weights = np.ldexp(np.asarray(sample_weight, np.float64), -common_exponent(sample_weight)).astype(dtype)
        if weights.shape != inputs.shape[:1]:
            raise ValueError(f"sample_weight must have shape {inputs.shape[:1]}, got {weights.shape}")
    return Samples(inputs, targets, weights)


class FastnnSolver(BaseOptimizer):
    """One of fastnn's optimizers, with scikit-learn's rule for when a fit stops."""

    def __init__(self, optimizer: Optimizer) -> None:
        super().__init__(math.nan)
        self.optimizer = optimizer


def settings_of(estimator: Any) -> Any:
    """scikit-learn's optimizer object, for its settings and its rules of learning rate and stopping.

    `more` is what it has no place for.
    """
    more = {name: value for name in ("clip_norm", "clip_value") if (value := getattr(estimator, name)) is not None}
    if len(more) == 2:
        raise ValueError(f"clip_norm and clip_value exclude each other, got {more['clip_norm']}, {more['clip_value']}")
    solver = estimator._solver or estimator.solver
    if not isinstance(estimator.learning_rate, str):
        more["learning_rate"] = estimator.learning_rate
    made: Any
    if solver == "adam":
        settings = estimator.learning_rate_init, estimator.beta_1, estimator.beta_2, estimator.epsilon
        made = AdamOptimizer([], *settings)
    elif solver == "sgd":
        schedule = estimator.learning_rate_init, estimator.learning_rate
        made = SGDOptimizer([], *schedule, estimator.momentum, estimator.nesterovs_momentum, estimator.power_t)
    else:
        return FastnnSolver(replace(optimizers.resolve(solver), **more))
    made.more = more
    return made


def optimizer_of(solver: Any) -> Any:
    """The optimizer that trains, from scikit-learn's. Its numbers may lie outside what fastnn's own allow."""
    if isinstance(solver, FastnnSolver):
        return solver.optimizer
    made: Any
    more = getattr(solver, "more", {})
    if isinstance(solver, AdamOptimizer):
        made = Adam(epsilon_hat=True, **more)
        numbers = {"beta1": solver.beta_1, "beta2": solver.beta_2, "epsilon": solver.epsilon}
    else:
        made = Momentum(nesterov=bool(solver.nesterov), **more)
        numbers = {"momentum": solver.momentum}
    for name, value in ({"learning_rate": solver.learning_rate_init} | numbers).items():
        if name not in more:
            object.__setattr__(made, name, float(value))
    return made


def values_of(solver: Any) -> dict[str, Any]:
    """The parameters from which `settings_of` makes such an optimizer object, its rate and its steps."""
    more, found = getattr(solver, "more", {}), dict[str, Any]()
    if isinstance(solver, FastnnSolver):
        found = {"solver": solver.optimizer}
    elif isinstance(solver, AdamOptimizer):
        found = {"solver": "adam", **{name: getattr(solver, name) for name in ("beta_1", "beta_2", "epsilon")}}
    else:
        found = {"solver": "sgd", **{name: getattr(solver, name) for name in ("momentum", "power_t")}}
        found |= {"learning_rate": solver.lr_schedule, "nesterovs_momentum": solver.nesterov}
    if not isinstance(solver, FastnnSolver):
        found["learning_rate_init"] = solver.learning_rate_init
    return {**found, **more, "rate": solver.learning_rate, "t": getattr(solver, "t", 0)}


def solver_of(kind: Any, values: dict[str, Any]) -> Any:
    """The optimizer object of what `values_of` gave, with the rules of the estimator's class for its parameters."""
    parameters = {name: value for name, value in values.items() if name not in ("rate", "t")}
    asked = kind(**parameters)
    asked._validate_params()
    if asked.solver == "lbfgs":
        raise ValueError("the solver of a file must be stochastic, got 'lbfgs'")
    made = settings_of(asked)
    made.learning_rate = number("rate", values["rate"])
    if isinstance(made, AdamOptimizer):
        made.t = count("t", values["t"])
    return made


def batch_size_of(estimator: Any, n: int) -> int:
    """The samples in a step: there may be fewer, n."""
    optimizer = getattr(estimator._optimizer, "optimizer", None)
    if estimator.batch_size == "auto":
        return MAX_ROWS if isinstance(optimizer, Rprop) else 200
    if isinstance(optimizer, Rprop) and estimator.batch_size < n:
        raise ValueError(f"solver Rprop needs all {n} samples in a batch, got batch_size={estimator.batch_size}")
    if estimator.batch_size > n:
        warnings.warn(
            "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=3
        )
    return min(max(1, int(estimator.batch_size)), MAX_ROWS)


def copy_vectors(solver: Any, network: Network, optimizer: Optimizer, *, to_network: bool) -> None:
    """Copy the vectors of scikit-learn's optimizer to those of the network, or back."""
    names = ("ms", "vs") if isinstance(solver, AdamOptimizer) else ("velocities",)
    vectors = np.split(network.vectors_for(optimizer), len(names))
    for name, vector in zip(names, vectors, strict=True):
        views = network.layout.views(vector)
        for here, there in zip([*(w for w, _ in views), *(b for _, b in views)], getattr(solver, name), strict=True):
            if to_network:
                here[...] = there
            else:
                there[...] = here


class _Held(NamedTuple):
    """Samples to validate on: y as a user gives it, and as a matrix for the loss."""

    X: Any
    y: NDArray[Any]
    weights: NDArray[Any] | None
    targets: NDArray[Any]


def held_out(estimator: Any, X: Any, y: Any, sample_weight: Any) -> tuple[Any, Any, Any, _Held]:
    """(X, y, weights to train on, what to validate on), split as scikit-learn does."""
    stratify = y if is_classifier(estimator) and estimator.n_outputs_ == 1 else None
    split = (X, y) if sample_weight is None else (X, y, sample_weight)
    parts: Any = train_test_split(
        *split, random_state=estimator._random_state, test_size=estimator.validation_fraction, stratify=stratify
    )
    train, held = [*parts[::2], None][:3], [*parts[1::2], None][:3]
    if held[0].shape[0] < 2:
        raise ValueError("The validation set is too small. Increase 'validation_fraction' or the size of your dataset.")
    return train[0], train[1], train[2], _Held(held[0], _as_given(estimator, held[1]), held[2], held[1])


def validation_set(estimator: Any, X: Any, y: Any, sample_weight: Any) -> _Held:
    """X_val, y_val and sample_weight_val, which must be like those that were given to train on."""
    of_classes = is_classifier(estimator)
    accepted = {"accept_sparse": ["csr", "csc"], "multi_output": True, "dtype": (np.float64, np.float32)}
    X, y = validate_data(estimator, X, y, **accepted, y_numeric=not of_classes, reset=False)
    if y.ndim == 2 and y.shape[1] == 1:
        y = column_or_1d(y)
    if sample_weight is not None:
        sample_weight = _check_sample_weight(sample_weight, X)
    targets = y
    if of_classes:
        unknown = np.setdiff1d(unique_labels(y), estimator.classes_)
        if len(unknown):
            which = shown(unknown.tolist()[0])
            raise ValueError(f"y_val must hold classes of y, got {which}, which is none of {estimator.classes_}")
        targets = estimator._label_binarizer.transform(y).astype(bool)
    targets = targets.reshape(len(y), -1)
    if targets.shape[1] != estimator.n_outputs_:
        raise ValueError(f"y_val must have {estimator.n_outputs_} outputs as y has, got shape {y.shape}")
    return _Held(X, y, sample_weight, targets)
