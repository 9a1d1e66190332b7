"""Model: an architecture and one vector of parameters; fit, predict, evaluate, gradients."""

from __future__ import annotations

import copy
import functools
import itertools
import json
import math
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import (
    _validation,
    full_batch,
    initialisers,
    lbfgs,
    levenberg_marquardt,
    losses,
    metrics,
    optimizers,
    storage,
    streams,
    summary,
    training,
)
from . import threads as _threads
from ._other_names import explained
from ._validation import Targets, shown, take_rows
from .custom import Activation, Loss
from .history import DivergenceError, History
from .initialisers import Init
from .kernels.block_programs import Rules
from .kernels.memory import Layout
from .kernels.passes import saturates
from .kernels.update_rules import MAX_NUMBERS, OPTIMIZERS, POSITIONS
from .layers import MAX_UNITS, Architecture, Dense, architecture
from .losses import AnyLoss, described, restored, takes_any_numbers
from .metrics import Metric
from .network import Network
from .optimizers import LBFGS, SGD, FullBatch, LevenbergMarquardt, Optimizer, Rprop
from .streams import Stream

SATURATED = 0.99  # of an output's range: how far off it is at the wrong end
SATURATED_ROWS = 1000  # at most, by which a fit finds whether outputs are so
SMALL_LOSS = 1e-3  # below which it does not look
MAX_EPOCHS = 10**8  # a float64 of history each
MAX_STEPS = 2**48  # that an optimizer has done: a microsecond each, they take nine years
# Of a single output unit; 0 for the others.
_THRESHOLDS: dict[Any, float] = {"sigmoid": 0.5, "hard_sigmoid": 0.5, "step": 0.5}


_FULL_BATCH: dict[type[FullBatch], type[full_batch.Fit]] = {
    LBFGS: lbfgs.Fit,
    LevenbergMarquardt: levenberg_marquardt.Fit,
}
AnyMetric = str | Metric | Callable[..., float]
_Labelled = tuple[NDArray[Any], Targets, NDArray[Any] | None]  # samples, targets, weights


class Model:
    """A feedforward network of fully connected layers, trained by backpropagation.

    Parameters
    ----------
    sizes_or_layers : sequence of int or Dense
        The number of inputs, then one entry a layer: `[784, 30, 10]` or `[784, Dense(30, "tanh"), 10]`.
    activation, output : str or Activation
        Activation of hidden layers and of the last one where an entry is an int, see `Dense`; of the last one also
        "softmax", with the loss "cross_entropy".
    loss : str, Huber, Quantile or Loss
        "quadratic": C = 1/(2n) sum ||y - a||^2 (Nielsen, Neural Networks and Deep Learning, eq. 6).
        "cross_entropy", with a softmax output: C = -1/n sum y log a, from class indices or from probabilities y that
        sum to 1 in each row. With a sigmoid output: C = -1/n sum (y log a + (1 - y) log(1 - a)), each output a
        probability of its own (Nielsen, eq. 57 and 63). Both are taken from the logits, and so finite for any of them.
        "clipped_cross_entropy": the same, but its value counts -log p as at most -log(epsilon of dtype), as
        scikit-learn's does. "poisson", with an exp output: C = 1/n sum (y log(y / a) - y + a), half the deviance of
        counts y, at least 0.
        Of errors e = a - y, summed over the outputs and averaged over the samples: "absolute_error" |e|; "huber"
        e^2 / 2 where |e| < 1, else |e| - 1/2 (Huber 1964), see `Huber`; "log_cosh" log cosh e; "quantile" |e| / 2, see
        `Quantile`. "arctanh_error", with a sigmoid or hard_sigmoid output: (1 + e) log(1 + e) + (1 - e) log(1 - e),
        whose slope 2 artanh e grows without end where an output is saturated and wrong (Fahlman 1988; FANN's default);
        the slope is at most 17, and a straight line goes on from |e| = 1. With a tanh output twice that of e / 2.
        "hinge", with an identity output: C = 1/n sum max(0, 1 - t z), where t is -1 or 1 (Cortes and Vapnik 1995), one
        output against all others.
    init : str, or sequence with an entry for each layer
        How weights are drawn; biases are zero, but for "normal". "scaled" or "lecun_normal": normal with standard
        deviation 1/sqrt(fan_in) (LeCun et al. 1998). "glorot_normal": sqrt(2 / (fan_in + fan_out)) (Glorot and Bengio
        2010). "he_normal", for relu and the like: sqrt(2 / fan_in) (He et al. 2015). "lecun_uniform", "glorot_uniform"
        and "he_uniform": uniform with those standard deviations, so within sqrt(3) times them. "orthogonal": rows or
        columns of W orthonormal (Saxe et al. 2014), by NumPy's QR, whose last bits may follow its number of threads.
        "normal": weights and biases unit Gaussian, as in Nielsen's first network. "zeros". An entry of a sequence is
        one of these names or a pair of arrays (W, b), shaped like `weights[l]` and `biases[l]`.
    input_scale : float or None
        Multiplies X in fit, predict and evaluate alike, and is saved with the model: 1/255 for uint8 images.
    dtype : str
        "float32" or "float64", of parameters, inputs and outputs.
    rng : None, int or numpy.random.Generator
        Draws the parameters and seeds the order of samples. The same seed gives the same bits on the same kind of
        CPU.

    Attributes
    ----------
    weights, biases : tuples of arrays
        `weights[l][j, k]` is the weight from neuron k to neuron j of layer l, shape (fan_out, fan_in); biases
        (fan_out,). Writable views: `model.weights[0][...] = W`.
    parameters : array
        The vector that holds them all, padding included, C-ordered in dtype; zero padding must stay zero.
    n_parameters : int
        Their number without padding.
    sizes : tuple of int
        Inputs, then each layer's neurons.
    loss_name, input_scale, dtype : str, float or None, str
        As they were given.
    history : History or None
        Of the latest fit.
    learning_rate : float
        Of its last step; a callback may set it.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> xor = fastnn.Model([2, 8, 1], activation="tanh", rng=0)
    >>> X, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 1, 0])
    >>> history = xor.fit(X, y, epochs=3000, batch_size=4, optimizer=fastnn.SGD(1.0))
    >>> xor.classify(X)
    array([0, 1, 1, 0])
    """

    @explained
    def __init__(
        self,
        sizes_or_layers: Iterable[int | Dense],
        *,
        activation: str | Activation = "sigmoid",
        output: str | Activation = "sigmoid",
        loss: AnyLoss = "quadratic",
        init: Init = "scaled",
        input_scale: float | None = None,
        dtype: str = "float32",
        rng: int | np.random.Generator | None = None,
    ):
        n_inputs, layers = architecture(sizes_or_layers, activation, output)
        if input_scale is not None:
            input_scale = _validation.number("input_scale", input_scale, -np.inf)
        generator = _generator(rng)
        description = Architecture(n_inputs, layers, loss, dtype, input_scale)
        inits = initialisers.of_layers(init, list(itertools.pairwise(description.sizes)), dtype)
        network = Network(description)
        for weights, biases, each in zip(network.weights, network.biases, inits, strict=True):
            initialisers.set_layer(weights, biases, each, generator)
        network.seed(int(generator.integers(2**64, dtype=np.uint64)))
        split_seed = int(generator.integers(2**63))
        self._set(network, split_seed, None)

    def _set(self, network: Network, split_seed: int, history: History | None) -> None:
        self._network = network
        self._split_seed = split_seed  # of validation_fraction
        self._feature_names: tuple[str, ...] | None = None  # of the frame that trained first
        self.history = history
        self._rate: training.Rate | None = None  # of the latest fit
        self._claims = _threads.Claims()

    # ---- structure ----

    @property
    def weights(self) -> tuple[NDArray[Any], ...]:
        return tuple(w.view() for w in self._network.weights)

    @property
    def biases(self) -> tuple[NDArray[Any], ...]:
        return tuple(b.view() for b in self._network.biases)

    @property
    def parameters(self) -> NDArray[Any]:
        return self._network.parameters.view()

    @property
    def n_parameters(self) -> int:
        return self._network.layout.multiply_adds

    @property
    def sizes(self) -> tuple[int, ...]:
        return self._network.architecture.sizes

    @property
    def layers(self) -> tuple[Dense, ...]:
        """The layers' specification."""
        return self._network.architecture.layers

    @property
    def loss_name(self) -> str:
        """The loss's name."""
        return self._network.architecture.loss_name

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        """The names of the columns of the frame that trained first, in their order; None where none did.

        From then on `fit`, `partial_fit`, `predict` and the others raise ValueError for a frame with other columns, or
        in another order. Arrays, and frames whose names are not all strings, are taken as they are.
        """
        return self._feature_names

    @property
    def input_scale(self) -> float | None:
        return self._network.architecture.input_scale

    @property
    def dtype(self) -> str:
        """ "float32" or "float64"."""
        return self._network.architecture.dtype

    @property
    def frozen(self) -> frozenset[int]:
        """The indices of the layers that do not train."""
        return self._network.architecture.frozen

    @property
    def learning_rate(self) -> float:
        """The learning rate of the last step of a fit, NaN before one and with LBFGS.

        A callback may set it, above 0, where the optimizer's is a constant: for the rest of the fit. The optimizer and
        its state stay as they are, so a further fit begins with the optimizer's rate.
        """
        return math.nan if self._rate is None else self._rate.now

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        rate = self._rate
        if rate is None or not self._claims.in_callback():
            raise RuntimeError("learning_rate can be set by a callback of a fit alone; else give fit another optimizer")
        if not rate.constant:
            raise ValueError("learning_rate can be set where the optimizer's is a number, got a schedule or LBFGS")
        value = _validation.number("learning_rate", value, 0.0, open_low=True)
        rate.now = rate.asked = value

    def __repr__(self) -> str:
        inner = ", ".join([str(self.sizes[0]), *(f"Dense({d.units}, {d.activation!r})" for d in self.layers)])
        scale = "" if self.input_scale is None else f", input_scale={self.input_scale!r}"
        return f"Model([{inner}], loss={self._network.architecture.loss!r}{scale}, dtype={self.dtype!r})"

    def summary(self) -> str:
        """A table of the layers, then inputs, loss, dtype, the number of parameters and their memory, as plain text.

        A notebook shows the same for a model. `print(model.summary())` shows it elsewhere.

        Examples
        --------
        >>> import fastnn
        >>> print(fastnn.Model([784, fastnn.Dense(30, "relu"), 10]).summary())
        layer  units  activation  parameters  trains
            0     30  relu            23,550  yes
            1     10  sigmoid            310  yes
        784 inputs, loss quadratic, float32
        23,860 parameters, of which 23,860 train; 100.1 KiB with their padding
        """
        return summary.text(self._network.architecture, self.parameters.nbytes)

    def _repr_html_(self) -> str:
        return summary.as_html(self._network.architecture, self.parameters.nbytes)

    def __getstate__(self) -> dict[str, Any]:
        network = self._network
        return {
            "architecture": network.architecture,
            "parameters": network.parameters.copy(),
            "random": network.random,
            "noise": network.noise,
            "optimizer": network.optimizer_state(),
            "split_seed": self._split_seed,
            "feature_names": self._feature_names,
            "history": copy.copy(self.history),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        network = Network(state["architecture"], state["random"], state["noise"])
        network.parameters[...] = state["parameters"]
        if state["optimizer"] is not None:
            network.restore_optimizer(*state["optimizer"])
        self._set(network, state["split_seed"], state["history"])
        self._feature_names = state.get("feature_names")

    # ---- training ----

    @explained
    def fit(
        self,
        X: ArrayLike | Stream,
        y: ArrayLike | None = None,
        *,
        epochs: int,
        batch_size: int,
        optimizer: Optimizer | FullBatch | str = SGD(0.1),
        validation_data: tuple[ArrayLike, ...] | None = None,
        validation_fraction: float | None = None,
        sample_weight: ArrayLike | None = None,
        class_weight: Mapping[int, float] | str | None = None,
        l2: float = 0.0,
        l1: float = 0.0,
        max_norm: float | None = None,
        dropout: float | Sequence[float] = 0.0,
        input_noise: float = 0.0,
        label_smoothing: float = 0.0,
        min_derivative: float = 0.0,
        shuffle: bool | ArrayLike = True,
        metric: AnyMetric | Sequence[AnyMetric] | None = None,
        train_metric: bool = False,
        callbacks: Sequence[Callable[[Model], object]] = (),
        history: History | None = None,
        verbose: int = 0,
        progress: bool | None = None,
        threads: int | None = None,
    ) -> History:
        """Train by mini-batch gradient descent.

        Parameters
        ----------
        X : array (n, n_inputs)
            float32, float64, integers or uint8; a memmap, a pandas or a polars frame. Not copied where it is
            C-ordered in the model's dtype, or uint8. Or a sparse matrix of SciPy, whose rows are read one by one. Or a
            `Stream` of samples that do not fit in memory, which holds y and sample_weight too. The names of a frame's
            columns are remembered, see `feature_names`.
        y : array (n,) or (n, n_out)
            Class indices, made one-hot where there are several outputs, or numeric targets. With one output,
            integers that are all 0 or 1 are classes for a sigmoid or step unit; any others are numeric targets. For the
            hinge loss -1 and 1, or 0 and 1, which are classes where there is one output.
        epochs : int
            How many times every sample is seen.
        batch_size : int
            Samples in a step; the last batch of an epoch may be smaller. n (or more) is gradient descent on the
            whole set.
        optimizer : optimizer or str
            SGD, Momentum, Adam, AdamW, Nadam, RMSprop, Adagrad, Lion, Rprop, LBFGS, LevenbergMarquardt, or the name of
            one but the last two, such as "adam". Default SGD(0.1). A further fit with an equal optimizer goes on from
            its state, another starts afresh. Its learning rate may change while it trains, see `CosineDecay` and the
            others.
        validation_data : (X, y), (X, y, sample_weight) or None
            Scored after each epoch: history.val_loss and history.metrics, weighted where it has weights. Each is as
            for training.
        validation_fraction : float or None
            Set this share of the samples aside for validation instead, in (0, 1); the choice follows the seed and
            is the same in a further fit.
        sample_weight : array (n,) or None
            How much each sample counts, at least 0: the loss and the gradient of a batch are divided by the sum of its
            samples' weights. A batch whose weights are all zero changes nothing.
        class_weight : dict {class: weight}, "balanced" or None
            Multiplies the weights of the samples by that of their class; one that is not named has weight 1, and
            y need not hold one that is. "balanced" is n / (number of classes * samples of the class), as in
            scikit-learn. y must hold class indices.
        l2 : float
            Adds l2 / 2 times the sum of the squares of all weights that train, without biases, to the mean loss of each
            batch (Nielsen, eq. 87, with l2 = lambda / n). `history.loss` contains it; `evaluate` and val_loss do not.
        l1 : float
            The same with l1 times the sum of the absolute values (Nielsen, eq. 95); the derivative of |0| is 0.
        max_norm : float or None
            After each step, a neuron whose weights have a larger Euclidean norm gets them scaled to it (Srivastava et
            al. 2014), in a pass more over all weights that train, on one thread.
        dropout : float or sequence of float
            The share of the outputs of each hidden layer that becomes zero while it trains, in [0, 1), or one share a
            hidden layer. The others are divided by 1 - dropout (Srivastava et al. 2014, scaled as in PyTorch), so that
            prediction needs nothing. Each batch draws others; which ones follows from the seed.
        input_noise : float
            The standard deviation of normal noise that is added to the samples, after input_scale, at least 0.
        label_smoothing : float
            For cross-entropy: the share of each target that is spread over all classes, in [0, 1), as in PyTorch
            (Szegedy et al. 2016); with a sigmoid output over both.
        min_derivative : float
            In [0, 1): the derivative of a sigmoid or tanh neuron counts as at least this share of its largest value,
            which is 1/4 for sigmoid and 1 for tanh, so that neurons that are saturated and wrong still learn. FANN's is
            0.0396; Fahlman (1988) calls it eliminating the flat spot. What is followed then is no gradient, so neither
            LBFGS nor LevenbergMarquardt takes it. `gradients` stays exact.
        shuffle : bool or array (epochs, n)
            True: a new random order each epoch. False: the order of X. An integer array: the order of each epoch.
        metric : str, callable, Metric, a sequence of them, or None
            For the validation set. For class indices "accuracy", "top_3" (or another number: the class is among the 3
            largest outputs), "log_loss", "auc" (of several classes the mean of each against the rest; it needs
            scikit-learn). For numeric targets "r2", "mae", "rmse". Or `metric(y_true, y_pred)`, where y_pred are class
            indices if y holds such, else outputs; scikit-learn's that need scores get outputs, see `Metric`. None:
            accuracy for class indices, else r2. "val_accuracy" in history.metrics is then that of the validation set;
            history.val_metric is the first one.
        train_metric : bool
            Take the metrics of the training set too, after each epoch: history.metrics["accuracy"], weighted as the
            samples are. This costs a prediction of the whole training set an epoch.
        callbacks : sequence of callables
            Each is called with the model after every epoch; one that returns True ends the training. It finds what is
            known in `history`, and may set `learning_rate`. If it has a method on_begin(model), that is called before
            the first epoch; on_end(model) when the fit ends, but not by an exception. See `EarlyStopping`.
        history : History or None
            One that this fit goes on with: `model.history`, for example. The epochs are appended to it. None is a new
            one. A further fit with it, an equal optimizer and the same callbacks is the rest of one long fit to them.
        verbose : int or bool
            1 prints a line an epoch on standard output: its number, seconds, losses and metrics. 0 prints nothing.
        progress : bool or None
            True shows a progress bar on standard error.
        threads : int or None
            The most threads to use; None is as many as the CPU affinity, OMP_NUM_THREADS and NUMBA_NUM_THREADS allow.
            A batch too small to share runs on fewer. The result has the same bits for any number.

        Returns
        -------
        History
            Also kept as `model.history`. A further fit goes on from the parameters as they are.

        Raises
        ------
        ValueError, TypeError
            For an argument that cannot be used; the model is unchanged.
        DivergenceError
            When an epoch ends with a loss or parameter that is not finite; the model then holds the parameters of
            the last epoch that ended well, as it does after KeyboardInterrupt.

        Warns
        -----
        UserWarning
            Before it trains: targets that the output unit cannot reach; with a validation set and no metric, the floats
            0.0 and 1.0 as targets of a single sigmoid or step unit. After two epochs or more: targets of 100 or more
            with an identity output, and a quadratic loss that is not below that of their mean. After a fit by an
            optimizer of the whole set: most of a quadratic loss, or of arctanh_error, comes from outputs at the wrong
            end of a sigmoid or tanh, and one of them is so for half of the samples whose target is at the other end.
        """
        network = self._network
        if validation_data is not None and validation_fraction is not None:
            raise ValueError("validation_data and validation_fraction exclude each other, got both")
        if threads is not None:
            threads = _validation.integer("threads", threads, 1)
        stream = X if isinstance(X, Stream) else None
        if stream is not None:
            self._check_stream(y, sample_weight, validation_fraction, train_metric, shuffle)
            check = streams.OneKind(functools.partial(self._samples, class_weight, True))
            inputs, targets, weights = stream._first(check)
            columns = check.names
        else:
            inputs, targets, weights = self._samples(class_weight, False, X, y, sample_weight)
            columns = _validation.column_names(X)
        objective, numbers = training.PLAIN, (l2, l1, dropout, input_noise, label_smoothing, min_derivative)
        # Where all are off, as in most small fits, none is checked: 7 of a fit's 100 us.
        if max_norm is not None or not all(type(each) is float and each == 0.0 for each in numbers):
            objective = training.Objective(
                l2=(_validation.number("l2", l2, 0.0), 0.0),
                l1=(_validation.number("l1", l1, 0.0), 0.0),
                rules=self._rules(max_norm, dropout, input_noise, label_smoothing, min_derivative),
            )
        self._check_trainable()
        validation: _Labelled | None = None
        if validation_data is not None:
            validation = self._validation_set(validation_data, columns)
        elif validation_fraction is not None:
            (inputs, targets, weights), validation = self._split(inputs, targets, weights, validation_fraction)
        epochs = _validation.integer("epochs", epochs, 0, MAX_EPOCHS)
        n = len(inputs)
        if stream is not None:
            stream._check_epochs(epochs)
            n = training.MAX_ROWS  # it may have as many
        batch_size = min(_validation.integer("batch_size", batch_size, 1), n)
        given = optimizer if isinstance(optimizer, FullBatch) else optimizers.resolve(optimizer)
        optimizer = optimizers.as_it_is(given)
        self._check_full_batch(optimizer, objective, batch_size, None if stream is not None else n, shuffle)
        callbacks = _validation.callables("callbacks", callbacks)
        _validation.boolean("train_metric", train_metric)
        if history is not None and not isinstance(history, History):
            raise TypeError(f"history must be a History or None, got {shown(history)}")
        if not isinstance(verbose, bool):
            verbose = _validation.integer("verbose", verbose, 0, 1)
        if progress is not None and not isinstance(progress, (bool, np.bool_)):
            raise TypeError(f"progress must be True, False or None, got {shown(progress)}")
        ordered, order = training.sample_order(shuffle, epochs, n)
        if order is not None and weights is not None and not all(weights[row].any() for row in order):
            raise ValueError("shuffle must give each epoch a sample whose weight is above zero")
        scored = {"val_": validation} if validation else {}
        if train_metric:
            scored[""] = inputs, targets, weights
        parts = [(prefix, each, metrics.resolve(metric, each[1], self.layers[-1])) for prefix, each in scored.items()]
        chosen = parts[0][2] if parts else metrics.resolve(metric, targets, self.layers[-1])
        work = 3 * epochs * n * self.n_parameters
        shared = work > _threads.FIT_MULTIPLY_ADDS and self._network.max_threads(batch_size) > 1
        max_threads = _threads.resolve_threads(threads) if shared else 1
        if targets.classes is None and (found := _validation.out_of_reach(targets.array, self.layers[-1]._kernel)):
            warnings.warn(found, stacklevel=3)
        if metric is None and validation is not None:
            self._warn_of_float_classes(validation[1])
        mine = threading.Lock()
        bound = [functools.partial(self._claims.call_back, mine, callback, self) for callback in callbacks]
        history = History() if history is None else history
        samples = training.Samples(inputs, targets.array, weights)
        names = [f"{prefix}{each.name}" for prefix, _, some in parts for each in some]
        scores = training.Validation(
            chosen[0].name if validation else None,
            ["val_loss", *names] if validation else names,
            functools.partial(self._scores, parts),
        )
        of_epochs = scores if parts else None
        with mine, training.Report(bool(progress), bool(verbose), epochs, history) as report:
            self._claims.take(mine)
            if self._network is not network:  # since the arguments were checked
                raise RuntimeError(_threads.BUSY)
            fit: full_batch.Fit | training.Fit | streams.Fit
            if isinstance(optimizer, FullBatch):
                kind, l2 = _FULL_BATCH[type(optimizer)], objective.l2[0]
                fit = kind(lambda: self._network, samples, optimizer, epochs, l2, bound, history, of_epochs)
            else:
                options = training.Options(
                    epochs=epochs,
                    batch_size=batch_size,
                    optimizer=optimizer,
                    ordered=ordered,
                    order=order,
                    callbacks=bound,
                    max_threads=max_threads,
                    objective=objective,
                )
                if stream is None:
                    fit = training.Fit(lambda: self._network, samples, options, history, of_epochs)
                else:
                    chunks = functools.partial(stream._chunks, functools.partial(_part, check), batch_size)
                    fit = streams.Fit(lambda: self._network, chunks, options, history, of_epochs)
            self.history, self._rate = history, fit.rate
            self._feature_names = self._feature_names or columns
            for callback in callbacks:
                if hasattr(callback, "on_begin"):
                    self._claims.call_back(mine, callback.on_begin, self)
                    fit.follow()
            fit.run(report)
            for callback in callbacks:
                if hasattr(callback, "on_end"):
                    self._claims.call_back(mine, callback.on_end, self)
            self._claims.give_back(mine)
        if weights is None and stream is None and (found := self._not_learned(targets, history)):
            warnings.warn(found, stacklevel=3)
        if (
            epochs
            and isinstance(optimizer, (FullBatch, Rprop))
            and (found := _saturated(fit.network, samples, history))
        ):
            warnings.warn(found, stacklevel=3)
        return history

    def _samples(self, class_weight: Any, partial: bool, X: Any, y: Any, sample_weight: ArrayLike | None) -> _Labelled:
        """The arguments of `fit` as the kernels take them; partial ones are some samples of a stream."""
        inputs = self._inputs(X)
        targets = self._targets(y, len(inputs))
        weights = _validation.weights(sample_weight, len(inputs), self.dtype, partial=partial)
        if class_weight is not None:
            each = targets.classes
            n_classes = max(2, self.layers[-1].units)
            weights = _validation.class_weights(class_weight, each, weights, self.dtype, n_classes, partial=partial)
        return inputs, targets, weights

    def _validation_set(self, given: Any, columns: tuple[str, ...] | None) -> _Labelled:
        """The argument validation_data as the kernels take it; columns are the names of those that train."""
        if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
            raise TypeError(f"validation_data must be a pair (X, y) or (X, y, sample_weight), got {_brief(given)}")
        X, y, *weights = given
        _validation.same_columns("validation_data[0]", X, columns)
        inputs = self._inputs(X, "validation_data[0]")
        targets = self._targets(y, len(inputs), "validation_data[1]")
        sample_weight = weights[0] if weights else None
        return inputs, targets, _validation.weights(sample_weight, len(inputs), self.dtype, name="validation_data[2]")

    def _check_stream(
        self, y: Any, sample_weight: Any, validation_fraction: Any, train_metric: Any, shuffle: Any
    ) -> None:
        """Raise for arguments of `fit` that go with samples in memory."""
        for name, value in {"y": y, "sample_weight": sample_weight}.items():
            if value is not None:
                raise TypeError(f"{name} must be None with a Stream, which holds it, got {shown(value)}")
        if validation_fraction is not None or train_metric:
            raise ValueError("validation_fraction and train_metric need samples in memory; give validation_data")
        if not isinstance(shuffle, (bool, np.bool_)):
            raise TypeError(f"shuffle must be True or False with a Stream, got {shown(shuffle)}")

    def _check_full_batch(self, optimizer: Any, objective: Any, batch_size: int, n: int | None, shuffle: Any) -> None:
        """Raise where one that needs all samples at once cannot do what is asked for. n is None of a stream."""
        name = type(optimizer).__name__
        if isinstance(optimizer, FullBatch):
            if objective.l1[0] or objective.rules != training.Objective().rules:
                raise ValueError(
                    f"optimizer {name} takes l2, but no l1, max_norm, dropout, noise, label_smoothing or min_derivative"
                )
            if isinstance(optimizer, LevenbergMarquardt) and self._network.architecture.loss != "quadratic":
                raise ValueError(f"optimizer {name} needs the loss 'quadratic', got {self.loss_name!r}")
        elif not isinstance(optimizer, Rprop):
            return
        if n is None:
            raise ValueError(f"optimizer {name} needs all samples in memory, got a Stream")
        if batch_size < n or not isinstance(shuffle, (bool, np.bool_)):
            raise ValueError(
                f"optimizer {name} needs all {n} samples in a batch and no order of them, "
                f"got batch_size {batch_size} and shuffle {shown(shuffle)}"
            )

    def _rules(self, max_norm: Any, dropout: Any, input_noise: Any, label_smoothing: Any, min_derivative: Any) -> Rules:
        """The arguments of `fit` for the kernels."""
        label_smoothing = _validation.number("label_smoothing", label_smoothing, 0.0, 1.0)
        if label_smoothing and not losses.is_cross_entropy(self._network.architecture.loss):
            raise ValueError(f"label_smoothing needs the loss 'cross_entropy', got {self.loss_name!r}")
        min_derivative = _validation.number("min_derivative", min_derivative, 0.0, 1.0)
        if min_derivative and not saturates(self._network.layout):
            raise ValueError(
                "min_derivative needs a layer of 'sigmoid' or 'tanh' that trains and whose derivative is taken (a "
                f"cross-entropy takes none of the last layer), got {min_derivative!r} for {self!r}"
            )
        return Rules(
            dropout=_validation.dropout(dropout, len(self.layers) - 1),
            input_noise=_validation.number("input_noise", input_noise, 0.0),
            label_smoothing=label_smoothing,
            max_norm=None if max_norm is None else _validation.number("max_norm", max_norm, 0.0, open_low=True),
            min_derivative=min_derivative,
        )

    def _warn_of_float_classes(self, targets: Targets) -> None:
        """Where floats look like two classes, so that a default metric is not the one that was meant."""
        if targets.classes is None and self.layers[-1].units == 1 and self.layers[-1].activation in _THRESHOLDS:
            values = targets.array
            if values.min() == 0 and values.max() == 1 and ((values == 0) | (values == 1)).all():
                warnings.warn(
                    "y holds the floats 0.0 and 1.0, which are numeric targets, so the metric is r2. For two classes, "
                    "and accuracy, give integers: y.astype(int).",
                    stacklevel=4,
                )

    def _not_learned(self, targets: Targets, history: History) -> str:
        """What to say where targets are large and the loss is above that of their mean, or ""."""
        if len(history.loss) < 2 or targets.classes is not None:
            return ""  # the loss of a first epoch is that of its first steps too
        if self._network.architecture.loss != "quadratic" or self.layers[-1].activation != "identity":
            return ""
        return training.not_learned(history.loss[-1], targets.array)

    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        optimizer: Optimizer | str = SGD(0.1),
        sample_weight: ArrayLike | None = None,
    ) -> float:
        """One step of training on all rows given; gives their mean loss before it.

        X, y, optimizer and sample_weight are as in `fit`. A further step or fit with an equal optimizer goes on from
        its state. Nothing is shuffled, and `history` stays as it is. A step agrees with one of `fit` on the same batch
        up to rounding: it sums over blocks of rows, whose number follows from that of the rows alone.

        Raises
        ------
        ValueError, TypeError
            For an argument that cannot be used; the model is unchanged.
        DivergenceError
            When the loss or a parameter is not finite; the model then is as it was before.

        Examples
        --------
        >>> import numpy as np, fastnn
        >>> model = fastnn.Model([2, 1], output="identity", rng=0)
        >>> X, y = np.array([[0, 1], [1, 0], [1, 1]]), np.array([1, 2, 3])
        >>> losses = [model.partial_fit(X, y) for _ in range(200)]
        >>> losses[-1] < 0.01 * losses[0]
        True
        """
        mine, claims = threading.Lock(), self._claims.made
        with mine:
            claims.append(mine)
            if claims[0] is not mine:
                self._claims.check(mine)
            stepper = self._network.stepper
            if (
                sample_weight is None
                and stepper is not None
                and type(X) is np.ndarray
                and type(y) is np.ndarray
                and stepper.takes(X, y)
                and stepper.asked_for is optimizer
            ):
                status, loss = stepper(X, y)
                if status:
                    self._explain_step(X, y)
            else:
                if sample_weight is None:
                    loss = self._first_step(X, y, optimizer)
                else:
                    loss = self._whole_step(X, y, optimizers.resolve(optimizer), sample_weight)
                self._feature_names = self._feature_names or _validation.column_names(X)
            claims.remove(mine)
            return loss

    def _explain_step(self, X: NDArray[Any], y: NDArray[Any]) -> None:
        """Raise the error of a step that was not done."""
        self._inputs(X)
        self._targets(y, len(X))
        raise DivergenceError("training diverged in this step; try a lower learning_rate", 1)

    def _first_step(self, X: Any, y: Any, asked_for: Optimizer | str) -> float:
        """A step on rows unlike the last ones."""
        optimizer = optimizers.resolve(asked_for)
        inputs = self._inputs(X)
        other = self._network.optimizer != optimizer  # if the step diverges, the old one's state must stay
        sparse, varies = _validation.is_sparse(X), not isinstance(optimizer.learning_rate, float)
        if other or sparse or varies or 3 * len(inputs) * self.n_parameters > training.LONG_STEP:
            return self._whole_step(X if sparse else inputs, y, optimizer)
        targets = self._targets(y, len(inputs)).array
        self._check_trainable()
        given = targets.astype(np.int64) if targets.ndim == 1 else np.require(targets, requirements="W")
        inputs = np.require(inputs, requirements="W")
        stepper = training.Stepper(self._network, optimizer, training.Samples(inputs, targets), given)
        stepper.asked_for = asked_for
        # The step itself does not check probabilities or counts.
        if takes_any_numbers(self._network.architecture.loss) or targets.ndim == 1:
            self._network.stepper = stepper
        status, loss = stepper(inputs, given)
        if self._network.stepper is not stepper:
            stepper.plan.release(self._network)
        if status:
            self._explain_step(inputs, given)
        return loss

    def _whole_step(
        self, X: ArrayLike, y: ArrayLike, optimizer: Optimizer, sample_weight: ArrayLike | None = None
    ) -> float:
        """`partial_fit` with weights, or on so many rows that Ctrl-C must not wait: an epoch of a single batch."""
        inputs = self._inputs(X)
        targets = self._targets(y, len(inputs))
        weights = _validation.weights(sample_weight, len(inputs), self.dtype)
        self._check_trainable()
        samples = training.Samples(inputs, targets.array, weights)
        options = training.Options(1, len(inputs), optimizer, training.AS_IS, None, [], 1)
        history = History()
        training.Fit(lambda: self._network, samples, options, history).run(lambda epochs: None)
        return history.loss[0]

    def _check_trainable(self) -> None:
        steps = [layer.activation == "step" for layer in self.layers]
        if any(steps) and len(steps) > 1:
            raise ValueError(
                f"fit cannot train {self!r}: a step neuron's output does not change with small changes of its weights, "
                'so its derivative is zero and backpropagation has nothing to pass on; only a single layer of "step" '
                'learns, by the perceptron rule. Use "sigmoid", or set the weights by hand.'
            )

    def _split(
        self, inputs: NDArray[Any], targets: Targets, weights: NDArray[Any] | None, fraction: float
    ) -> tuple[_Labelled, _Labelled]:
        """The samples to train on, and those that are held out."""
        fraction = _validation.number("validation_fraction", fraction, 0.0, 1.0, open_low=True)
        n_held = round(fraction * len(inputs))
        if not 0 < n_held < len(inputs):
            raise ValueError(
                f"validation_fraction must leave a sample on both sides, got {fraction:g} of {len(inputs)} samples"
            )
        order = np.random.default_rng(self._split_seed).permutation(len(inputs))

        def part(rows: NDArray[Any]) -> _Labelled:
            classes = None if targets.classes is None else targets.classes[rows]
            chosen = None if weights is None else weights[rows]
            if chosen is not None and not chosen.any():
                raise ValueError(
                    "validation_fraction must leave a sample of some weight on both sides, got none on one"
                )
            return take_rows(inputs, rows), Targets(take_rows(targets.array, rows), classes), chosen

        return part(np.sort(order[n_held:])), part(np.sort(order[:n_held]))

    # ---- use ----

    def predict(self, X: ArrayLike, *, threads: int | None = None) -> NDArray[Any]:
        """The outputs, (n, n_out) in the model's dtype, for X (n, n_inputs). NaN in gives NaN out.

        May be called from several threads at once. `threads` is the most threads one call uses; None is the number
        that the CPU affinity, OMP_NUM_THREADS and NUMBA_NUM_THREADS allow. The result has the same bits for any. A row
        has the same bits in a prediction of any number of rows from 2 on; a single row is summed in another order.

        Examples
        --------
        >>> import fastnn
        >>> fastnn.Model([3, 2], init="zeros").predict([[1, 2, 3]])
        array([[0.5, 0.5]], dtype=float32)
        """
        network = self._network
        if threads is None and (outputs := network.inference.quick(X)) is not None:
            return outputs
        return self._predict(network, X, threads)

    def _predict(self, network: Network, X: ArrayLike, threads: int | None) -> NDArray[Any]:
        inference = network.inference
        if threads is not None:
            _validation.integer("threads", threads, 1)
        if (outputs := inference.block(X)) is not None:
            return outputs
        inputs = self._inputs(X, finite=False)
        if (outputs := inference.block(inputs)) is not None:
            return outputs
        out = inference.outputs(len(inputs))
        max_threads = 1
        if len(inputs) * inference.multiply_adds > _threads.PARALLEL_MULTIPLY_ADDS:
            max_threads = min(_threads.resolve_threads(threads), -(-len(inputs) // inference.block_rows))
        inference.predict(inputs, out, max_threads)
        return out

    def classify(self, X: ArrayLike, *, threads: int | None = None) -> NDArray[np.intp]:
        """The class indices, (n,), for X (n, n_inputs): the largest output, the lower index of equal ones.

        A single output unit decides between 0 and 1: above 0.5 for sigmoid and step, above 0 for the others. Raises
        ValueError where an output is NaN, because it decides nothing.
        """
        network = self._network
        outputs = self._predict(network, X, threads)
        undecided = _nan_rows(outputs)
        if len(undecided):
            raise ValueError(f"X must give outputs that are numbers, got NaN for X[{undecided[0]}]")
        return _decide(outputs, network.architecture)

    @explained
    def evaluate(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        metric: AnyMetric | Sequence[AnyMetric] | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> dict[str, float]:
        """{"loss": the mean loss, metric's name: its value}; the metric, or several, as in `fit`.

        With sample_weight, (n,), the mean is a weighted one, and so are the metrics that have a name here; a callable
        gets no weights unless it is a `Metric` that says so.

        Examples
        --------
        >>> import fastnn
        >>> fastnn.Model([2, 2], init="zeros").evaluate([[0, 1], [1, 0]], [0, 1])
        {'loss': 0.25, 'accuracy': 0.5}
        """
        network = self._network
        inputs = self._inputs(X)
        targets = self._targets(y, len(inputs), network=network)
        weights = _validation.weights(sample_weight, len(inputs), self.dtype)
        if metric is None:
            self._warn_of_float_classes(targets)
        chosen = metrics.resolve(metric, targets, network.architecture.layers[-1])
        loss, values = self._evaluate(network, inputs, targets, weights, chosen)
        return {"loss": loss} | values

    def _evaluate(
        self,
        network: Network,
        inputs: NDArray[Any],
        targets: Targets,
        weights: NDArray[Any] | None,
        chosen: list[Metric],
    ) -> tuple[float, dict[str, float]]:
        """(mean loss, {metric's name: its value})."""
        loss, outputs = network.inference.evaluate(inputs, targets.array, weights)
        if targets.classes is not None and len(_nan_rows(outputs)):
            return loss, {str(each.name): math.nan for each in chosen}  # an output that is no number decides nothing
        decide = functools.partial(_decide, architecture=network.architecture)
        return loss, {str(each.name): each.score(targets, outputs, decide, weights) for each in chosen}

    def _scores(self, parts: list[tuple[str, _Labelled, list[Metric]]]) -> dict[str, float]:
        """What a fit records after an epoch: for each part of the samples the metrics, and the loss of "val_"."""
        found: dict[str, float] = {}
        for prefix, labelled, chosen in parts:
            loss, values = self._evaluate(self._network, *labelled, chosen)
            found |= {"val_loss": loss} if prefix else {}
            found |= {f"{prefix}{name}": value for name, value in values.items()}
        return found

    def loss(self, X: ArrayLike, y: ArrayLike) -> float:
        """The mean loss over the samples."""
        network, inputs = self._network, self._inputs(X)
        return network.inference.evaluate(inputs, self._targets(y, len(inputs), network=network).array)[0]

    def gradients(self, X: ArrayLike, y: ArrayLike) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        """The gradient of `loss`, averaged over the samples, by backpropagation (Nielsen, eq. BP1 to BP4).

        Returns a list of (dW, db), one a layer, shaped like `weights` and `biases`; zeros for a frozen layer.
        For a single layer of step neurons it is the perceptron rule's, (a - y) x.
        """
        network, inputs = self._network, self._inputs(X)
        targets = self._targets(y, len(inputs), network=network)
        self._check_trainable()
        gradient = network.inference.gradients(inputs, targets.array)
        return [(dw.T, db) for dw, db in network.layout.views(gradient)]

    def hidden_activations(self, X: ArrayLike) -> list[NDArray[Any]]:
        """The outputs of the hidden layers for X (n, n_inputs): a list of arrays (n, units), one a hidden layer.

        They are a^l = f(W^l a^(l-1) + b^l) (Nielsen, eq. 25), in the model's dtype: views of one array. The list is
        empty where there is no hidden layer. NaN in gives NaN out. X is as in `predict`, and so are the errors: a
        ValueError for another shape or for other columns of a frame, a TypeError for what holds no numbers.

        Examples
        --------
        >>> import fastnn
        >>> model = fastnn.Model([3, 4, 2, 1], init="zeros")
        >>> model.hidden_activations([[1, 2, 3]])[1]
        array([[0.5, 0.5]], dtype=float32)
        """
        return self._network.inference.hidden_activations(self._inputs(X, finite=False))

    def input_gradients(self, X: ArrayLike) -> NDArray[Any]:
        """The derivative of each output by each input, (n, n_out, n_inputs) in the model's dtype, for X (n, n_inputs).

        `[i, k, j]` is da_k / dx_j for sample i, by backpropagation: J = f'(z^L) W^L .. f'(z^1) W^1, where f' of a
        softmax is a_k ((k = j) - a_j). Inputs are those of X as given, so `input_scale` is a factor of the result. The
        derivative of "step" is taken as 1, as in training. NaN in gives NaN out. X is as in `predict`, and so are the
        errors: a ValueError for another shape or for other columns of a frame, a TypeError for what holds no numbers.

        Examples
        --------
        >>> import numpy as np, fastnn
        >>> model = fastnn.Model([3, 2], output="identity")
        >>> gradients = model.input_gradients([[1, 2, 3], [4, 5, 6]])
        >>> gradients.shape, np.array_equal(gradients[0], model.weights[0])
        ((2, 2, 3), True)
        """
        return self._network.inference.input_gradients(self._inputs(X, finite=False))

    def _inputs(self, X: ArrayLike, name: str = "X", finite: bool = True) -> NDArray[Any]:
        if self._feature_names is not None:
            _validation.same_columns(name, X, self._feature_names)
        return _validation.inputs(X, self.sizes[0], self.dtype, name=name, finite=finite)

    def _targets(self, y: ArrayLike, n: int, name: str = "y", network: Network | None = None) -> Targets:
        """y for a network, this model's own one unless given; one call of the model must go on with the same."""
        architecture = (self._network if network is None else network).architecture
        last = architecture.layers[-1]
        kind = "" if takes_any_numbers(architecture.loss) else last._kernel
        binary = last.activation in _THRESHOLDS or kind == "identity"
        return _validation.targets(y, n, last.units, self.dtype, binary=binary, output=kind, name=name)

    # ---- transfer learning and files ----

    def freeze(self, layers: int | Iterable[int]) -> None:
        """Let only the other layers train from now on; an empty list lets all of them. Resets the optimizer's state.

        `layers` are indices, negative ones from the end.

        Examples
        --------
        >>> import fastnn
        >>> model = fastnn.Model([64, 32, 10])
        >>> model.freeze(0)
        >>> sorted(model.frozen)
        [0]
        """
        chosen = _validation.items("layers", layers, "indices") if isinstance(layers, Iterable) else [layers]
        n = len(self.layers)
        for i in chosen:
            if not -n <= _validation.integer("layers", i, -n) < n:
                raise ValueError(f"layers must be indices in [{-n}, {n}), got {shown(i)}")
        mine = threading.Lock()
        with mine:
            self._claims.take_for_change(mine)
            old = self._network
            architecture = replace(old.architecture, frozen=frozenset(i % n for i in chosen))
            self._network = Network(architecture, old.random, old.noise, old.parameters)

    @explained
    def replace_head(
        self,
        n_out: int,
        *,
        activation: str | Activation | None = None,
        init: Init = "scaled",
        rng: int | np.random.Generator | None = None,
    ) -> None:
        """Put a fresh output layer of n_out neurons in place of the last one; the other layers keep their parameters.

        The optimizer's state is reset. `activation` is the old head's unless given; `init` and `rng` are as in `Model`.
        """
        n_out = _validation.integer("n_out", n_out, 1, MAX_UNITS)
        head = Dense(n_out, self.layers[-1].activation if activation is None else activation)
        inits = initialisers.of_layers(init, [(self.sizes[-2], n_out)], self.dtype)
        generator = _generator(rng)
        mine = threading.Lock()
        with mine:
            self._claims.take_for_change(mine)
            old = self._network
            below = old.architecture.layers[:-1]
            frozen = old.architecture.frozen - {len(below)}
            new = Network(replace(old.architecture, layers=(*below, head), frozen=frozen), old.random, old.noise)
            for i in range(len(below)):
                new.weights[i][...], new.biases[i][...] = old.weights[i], old.biases[i]
            initialisers.set_layer(new.weights[-1], new.biases[-1], inits[0], generator)
            self._network = new

    def save(self, path: str | os.PathLike[str], *, optimizer: bool = True) -> None:
        """Write the model to a safetensors file, which `fastnn.load` reads.

        One unpadded tensor an array ("layers.0.weight" (fan_out, fan_in), "layers.0.bias"); the architecture, the
        states of the generators, a format version and a checksum in the header. With `optimizer`, what the optimizer
        that trained last keeps too ("optimizer.m.layers.0.weight"), which may be as large as the parameters or twice
        as large: so a fit of the loaded model goes on as if it had not been saved. Not where its learning rate is a
        function of the user's: then a warning says so. The file appears whole or not at all,
        even if the process or the machine stops meanwhile. An existing file is replaced and keeps its permission bits;
        a symbolic link stays, and its target is replaced. Of an `Activation` or a `Loss` of your own it holds the name.

        Raises ValueError for parameters that are not finite, for different functions of your own with one name, and for
        a path that ends as files of another format do, such as ".onnx", before anything is written; TypeError for a
        path that is neither a string nor a path object; OSError where the folder does not exist or cannot be written
        to.

        Examples
        --------
        >>> import fastnn, tempfile, os
        >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
        >>> fastnn.Model([4, 3], rng=0).save(path)
        >>> os.listdir(os.path.dirname(path))
        ['model.safetensors']
        """
        network = self._network
        architecture = network.architecture
        _check_names(architecture)
        description = {
            "n_inputs": architecture.n_inputs,
            "layers": [{"units": layer.units, "activation": _described(layer)} for layer in architecture.layers],
            "loss": described(architecture.loss),
            "dtype": architecture.dtype,
            "input_scale": architecture.input_scale,
            "frozen": sorted(architecture.frozen),
            "random": network.random,
            "noise": network.noise,
            "split_seed": self._split_seed,
            "feature_names": self._feature_names,
        }
        tensors = _tensors("", network.layout, network.parameters)
        state = network.optimizer_state() if _validation.boolean("optimizer", optimizer) else None
        path = _validation.path(path)
        if state is not None:
            used, vectors, numbers = state
            settings = optimizers.described(used)
            if settings is None:
                what = f"{type(used).__name__}'s state is not saved, because its learning rate is a function"
                warnings.warn(f"{what}; optimizer=False leaves it out without a warning", stacklevel=2)
            else:
                description["optimizer"] = {**settings, "numbers": numbers.ravel().tolist()}
                names = OPTIMIZERS[used._kernel].vectors
                for name, vector in zip(names, vectors.reshape(-1, network.parameters.size), strict=True):
                    tensors |= _tensors(f"optimizer.{name}.", network.layout, vector)
        storage.write(path, description, tensors)

    @classmethod
    def _restored(cls, d: dict[str, Any], tensors: dict[str, NDArray[Any]], custom: Mapping[str, Any]) -> Model:
        """The model of a description and its tensors, as `save` wrote them; raises where they do not fit each other."""
        layers = [Dense(layer["units"], _own(layer["activation"], Activation, custom)) for layer in d["layers"]]
        sizes = [_validation.integer("n_inputs", d["n_inputs"], 1), *(layer.units for layer in layers)]
        used = optimizers.resolve(optimizers.restored(d["optimizer"])) if "optimizer" in d else None
        names = () if used is None else OPTIMIZERS[used._kernel].vectors
        prefixes = ["", *(f"optimizer.{name}." for name in names)]
        shapes: dict[str, tuple[int, ...]] = {}
        for prefix, (i, (fan_in, fan_out)) in itertools.product(prefixes, enumerate(itertools.pairwise(sizes))):
            shapes |= {f"{prefix}layers.{i}.weight": (fan_out, fan_in), f"{prefix}layers.{i}.bias": (fan_out,)}
        if shapes.keys() != tensors.keys():
            raise ValueError(f"its tensors are {sorted(tensors)}, not {sorted(shapes)}")
        for name, tensor in tensors.items():
            if tensor.shape != shapes[name] or tensor.dtype != d["dtype"]:
                raise ValueError(f"{name} is {tensor.dtype} {tensor.shape}, not {d['dtype']} {shapes[name]}")
        loss = restored(_own(d["loss"], Loss, custom))
        settings = {"loss": loss, "dtype": d["dtype"], "input_scale": d["input_scale"]}
        model = cls([sizes[0], *layers], init="zeros", rng=0, **settings)
        model.freeze(d["frozen"])
        network = model._network
        network.seed(_validation.integer("random", d["random"], 0))
        if "noise" in d:
            network.state["noise"] = _validation.integer("noise", d["noise"], 0)
        _read_tensors(tensors, "", network.layout, network.parameters)
        if used is not None:
            numbers = _numbers(used, d["optimizer"]["numbers"])
            vectors = network.vectors_for(used) * 0
            for name, prefix, vector in zip(
                names, prefixes[1:], vectors.reshape(-1, network.parameters.size), strict=True
            ):
                _read_tensors(tensors, prefix, network.layout, vector)
                if name in OPTIMIZERS[used._kernel].not_negative and vector.min() < 0:
                    raise ValueError(f"the tensors optimizer.{name} must not be negative, got {vector.min():g}")
            network.restore_optimizer(used, vectors, numbers)
        model._split_seed = _validation.integer("split_seed", d["split_seed"], 0)
        model._feature_names = _validation.feature_names(d.get("feature_names"), sizes[0])
        return model


def load(path: str | os.PathLike[str], *, custom: Mapping[str, Activation | Loss] | None = None) -> Model:
    """The model that `Model.save` wrote to the file.

    A file holds the names of activations and losses of your own, but not their functions: `custom` maps the names to
    them. Nothing can tell whether they are the functions that the model was trained with.

    Raises ValueError for a file that is truncated, changed since it was saved, not safetensors, not fastnn's, of a
    newer format version, with parameters that are not finite or an optimizer's state that cannot be. Raises
    FileNotFoundError where there is no file, and TypeError for a path that is neither a string nor a path object.

    Examples
    --------
    >>> import fastnn, tempfile, os
    >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
    >>> fastnn.Model([4, 3], rng=0).save(path)
    >>> fastnn.load(path).sizes
    (4, 3)
    """
    path = _validation.path(path)
    if custom is not None and not isinstance(custom, Mapping):
        raise TypeError(f"custom must be a dict of names and what they stand for, got {shown(custom)}")
    description, tensors = storage.read(path)
    try:
        return Model._restored(json.loads(description), tensors, custom or {})
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"path must name a consistent model file, got {str(path)!r}: {error}") from None


def _tensors(prefix: str, layout: Layout, vector: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """The tensors of a file for a vector laid out like the parameters."""
    found: dict[str, NDArray[Any]] = {}
    for i, (weights, biases) in enumerate(layout.views(vector)):
        found |= {f"{prefix}layers.{i}.weight": weights.T, f"{prefix}layers.{i}.bias": biases}
    return found


def _read_tensors(tensors: dict[str, NDArray[Any]], prefix: str, layout: Layout, vector: NDArray[Any]) -> None:
    """Copy such tensors into a vector."""
    for name, place in _tensors(prefix, layout, vector).items():
        place[...] = tensors[name]


def _numbers(optimizer: Optimizer, found: Any) -> NDArray[np.float64]:
    """An optimizer's numbers in a file, as STATE holds them: powers in [0, 1], zeros, and the steps and epochs done."""
    if not isinstance(found, list) or len(found) != MAX_NUMBERS:
        raise ValueError(f"an optimizer's numbers must be a list of {MAX_NUMBERS}, got {shown(found)}")
    highest = dict.fromkeys(range(len(OPTIMIZERS[optimizer._kernel].state)), 1.0)
    highest |= dict.fromkeys(POSITIONS.values(), float(MAX_STEPS))
    for i, value in enumerate(found):
        number, most = _validation.number(f"numbers[{i}]", value, 0.0), highest.get(i, 0.0)
        if number > most or (most > 1 and not number.is_integer()):
            kind = "a whole number" if most > 1 else "a number"
            raise ValueError(f"numbers[{i}] must be {kind} of at most {most:g}, got {shown(value)}")
    return np.array([found], np.float64)


def _check_names(architecture: Architecture) -> None:
    """Raise where a file would have one name for different functions of the user's."""
    own = (Activation, Loss)
    known: dict[str, Activation | Loss] = {}
    for each in (*(layer.activation for layer in architecture.layers), architecture.loss):
        if isinstance(each, own) and known.setdefault(each.name, each) != each:
            raise ValueError(
                f"a file holds functions of your own by their names, so they must differ, got {each.name!r} for two: "
                f"{type(known[each.name]).__name__}(..., name='...') gives a name"
            )


def _described(layer: Dense) -> Any:
    """What stands for its activation in a file."""
    return {"custom": layer.activation.name} if isinstance(layer.activation, Activation) else layer.activation


def _own(description: Any, kind: type, custom: Mapping[str, Any]) -> Any:
    """A user's own activation or loss of the kind, where a file names one; else what the file has."""
    if not isinstance(description, dict) or "custom" not in description:
        return description
    name = description["custom"]
    if not isinstance(found := custom.get(name), kind):
        raise ValueError(f"custom must map {name!r} to the {kind.__name__} that the model uses, got {shown(found)}")
    return found


def _decide(outputs: NDArray[Any], architecture: Architecture) -> NDArray[np.intp]:
    """The class indices that outputs (n, n_out) stand for."""
    if outputs.shape[1] > 1:
        return outputs.argmax(axis=1)
    return (outputs[:, 0] > _THRESHOLDS.get(architecture.layers[-1].activation, 0.0)).astype(np.intp)


def _saturated(network: Network, samples: training.Samples, history: History) -> str:
    """What to say where most of the error is in outputs that are saturated and wrong, or "".

    Labels that are wrong themselves give such outputs too, but for few of the samples of a class. So does a rare class
    that nothing tells from the others, but then the mean of the output is right.
    """
    architecture, output = network.architecture, network.architecture.layers[-1].activation
    if architecture.loss not in ("quadratic", "arctanh_error") or output not in ("sigmoid", "hard_sigmoid", "tanh"):
        return ""
    if history.loss and history.loss[-1] < SMALL_LOSS:
        return ""
    rows = np.arange(0, len(samples.inputs), -(-len(samples.inputs) // SATURATED_ROWS))
    targets = samples.targets[rows]
    _, outputs = network.inference.evaluate(take_rows(samples.inputs, rows), targets)
    if targets.ndim == 1:
        targets = targets[:, None] == np.arange(outputs.shape[1])
    low, high = _validation.RANGES[output]
    errors = (outputs - np.clip(targets.astype(np.float64), low, high)) / (high - low)
    weights = np.ones((len(rows), 1)) if samples.weights is None else samples.weights[rows, None]
    sizes, ends = weights * np.abs(errors), targets > (low + high) / 2
    squares, wrong, found = sizes * np.abs(errors), np.abs(errors) > SATURATED, []
    for end in (ends, ~ends):
        all_wrong = sizes.sum(axis=0, where=end & wrong)
        half = all_wrong >= np.maximum((weights * end).sum(axis=0) / 2, 1e-30)
        found += np.flatnonzero(half & (np.abs((weights * errors).sum(axis=0)) >= all_wrong / 2)).tolist()
    share = squares.sum(where=wrong) / max(squares.sum(), 1e-300)
    if share <= 0.5 or not found:
        return ""
    instead = 'loss="arctanh_error"' if architecture.loss == "quadratic" else "fit(min_derivative=0.0396) by Rprop"
    return (
        f"training may be stuck: {share:.0%} of what is left of the squared error is in outputs at the wrong end of "
        f"{output!r}, and output {min(found)} is there for half or more of the samples whose target is at the other "
        'end. Their gradient is almost zero. Use output="softmax" or "sigmoid" with loss="cross_entropy"; where the '
        f"output must stay, {instead}."
    )


def _nan_rows(outputs: NDArray[Any]) -> NDArray[np.intp]:
    """The indices of rows that hold a NaN."""
    if _validation.sum_is_finite(outputs):
        return np.empty(0, np.intp)
    return np.flatnonzero(np.isnan(outputs).any(axis=1))


def _part(check: Callable[[Any, Any, Any], _Labelled], X: Any, y: Any, sample_weight: Any) -> training.Samples:
    """Samples of a stream."""
    inputs, targets, weights = check(X, y, sample_weight)
    return training.Samples(inputs, targets.array, weights)


def _brief(value: object) -> str:
    length = f" of length {len(value)}" if isinstance(value, (tuple, list)) else ""
    return f"a {type(value).__name__}{length}"


def _generator(rng: int | np.random.Generator | None) -> np.random.Generator:
    if rng is None or isinstance(rng, np.random.Generator):
        return np.random.default_rng(rng)
    return np.random.default_rng(_validation.integer("rng", rng, 0))
