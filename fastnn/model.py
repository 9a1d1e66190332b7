"""Model: an architecture and one vector of parameters; fit, predict, evaluate, gradients."""

from __future__ import annotations

import copy
import math
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Unpack, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import uncertainty
from .checks import file_paths, scalars
from .checks.other_names import explained
from .checks.scalars import MAX_UNITS
from .data import arrays
from .data.streams import Stream
from .derivatives import Derivatives
from .files import model_file, storage
from .files.exportable import ConvertibleNetwork
from .jobs.engines import engine_of
from .jobs.workers import Workers
from .network.claims import BUSY, Claims
from .network.network import Network
from .reports import metrics, summary
from .reports.history import History
from .reports.progress import Progress
from .reports.scoring import Labelled, decide, evaluate, nan_rows, two_numbers
from .settings import initialisers, input_map
from .settings.custom import Activation
from .settings.initialisers import Init
from .settings.layers import AnyLayer, Dense, architecture
from .settings.losses import AnyLoss
from .settings.optimizers import SGD, FullBatch, Optimizer
from .training import arguments, step
from .training.arguments import AnyMetric, Dropout
from .training.fit import Fit, Rate, Trainer
from .training.fit_warnings import after_fit
from .training.trainers import trainer_for
from .uncertainty import How, Pair, stated


class Model(Derivatives, ConvertibleNetwork):
    """A feedforward network, trained by backpropagation.

    Parameters
    ----------
    sizes_or_layers : sequence of int or layers
        The number of inputs, then one entry a layer: `[784, 30, 10]` or `[784, Dense(30, "tanh"), 10]`. Layers are
        `Dense`, `PReLU`, `Residual`, `Scale`, `LayerNorm` and `BatchNorm`, and first of all `Embedding`; the last one
        is `Dense`, and a number stands for one.
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
        "gaussian", with an identity output: C = 1/n sum (log v + (y - m)^2 / v) / 2, a Gaussian's negative log
        likelihood without its constant (Nix and Weigend 1994). A target has two outputs: the first half of all are the
        means m, the others s give the variances v = e^s + 1e-6. See `predict`.
    init : str, or sequence with an entry for each layer
        How the weights of dense layers and tables of an `Embedding` are drawn; biases are zero, but for "normal".
        "scaled" or "lecun_normal": normal with standard deviation 1/sqrt(fan_in) (LeCun et al. 1998).
        "glorot_normal": sqrt(2 / (fan_in + fan_out)) (Glorot and Bengio 2010). "he_normal", for relu and the like:
        sqrt(2 / fan_in) (He et al. 2015). "lecun_uniform", "glorot_uniform" and "he_uniform": uniform with those
        standard deviations, so within sqrt(3) times them. "orthogonal": rows or columns of W orthonormal (Saxe et al.
        2014), by NumPy's QR, whose last bits may follow its number of threads. "normal": weights and biases unit
        Gaussian, as in Nielsen's first network. "zeros". An entry of a sequence is one of these names or a pair of
        arrays (W, b), shaped like `weights[l]` and `biases[l]`.
    input_shift, input_scale : float, array (n_inputs,) or None
        X becomes (X - input_shift) * input_scale in fit, predict, evaluate and every other call alike. Both are saved
        with the model. A number, such as the scale 1/255 for uint8 images, is for all inputs; an array has one for each
        of them, see `standardize`. X stays as it is: float64 X is subtracted in float64, and what is left is rounded to
        dtype; the shift of float32 X is a pair of float32 numbers, which hold 48 bits of it. None is 0 and 1.
    dtype : str
        "float32" or "float64", of parameters, inputs and outputs.
    rng : None, int or numpy.random.Generator
        Draws the parameters and seeds the order of samples. The same seed gives the same bits on the same kind of
        CPU.

    Attributes
    ----------
    weights, biases : tuples of arrays
        `weights[l][j, k]` is the weight from neuron k to neuron j of layer l, shape (fan_out, fan_in); biases
        (fan_out,). Writable views: `model.weights[0][...] = W`. An `Embedding` has its tables as weights; other layers
        have a weight a neuron.
    parameters : array
        The vector that holds them all, padding included, C-ordered in dtype; zero padding must stay zero.
    n_parameters : int
        Their number without padding.
    sizes : tuple of int
        Inputs, then each layer's neurons.
    loss_name, input_shift, input_scale, dtype : str, float or array or None, the same, str
        As they were given. An array is a copy, in float64.
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
        sizes_or_layers: Iterable[int | AnyLayer],
        *,
        activation: str | Activation = "sigmoid",
        output: str | Activation = "sigmoid",
        loss: AnyLoss = "quadratic",
        init: Init = "scaled",
        input_shift: ArrayLike | None = None,
        input_scale: ArrayLike | None = None,
        dtype: str = "float32",
        rng: int | np.random.Generator | None = None,
    ):
        description = architecture(sizes_or_layers, activation, output, loss, dtype, input_scale, input_shift)
        generator = scalars.generator(rng)
        inits = initialisers.of_layers(init, description.numbered, dtype)
        network = Network(description)
        initialisers.set_layers(network.tensors, description.numbered, inits, generator)
        network.seed(int(generator.integers(2**64, dtype=np.uint64)))
        split_seed = int(generator.integers(2**63))
        self._set(network, split_seed, None)

    def _set(self, network: Network, split_seed: int, history: History | None) -> None:
        self._network = network
        self._split_seed = split_seed  # draws what validation_fraction sets aside
        self._feature_names: tuple[str, ...] | None = None  # the columns of the frame that trained first
        self.history = history
        self._rate: Rate | None = None  # the rate of the latest fit
        self._claims = Claims()

    # ---- structure ----

    @property
    def weights(self) -> tuple[NDArray[Any], ...]:
        return tuple(w.view() for w in self._network.weights)

    @property
    def biases(self) -> tuple[NDArray[Any], ...]:
        return tuple(b.view() for b in self._network.biases)

    @property
    def tensors(self) -> list[dict[str, NDArray[Any]]]:
        """The tensors of each layer by name, as files have them: "weight", "bias", for `BatchNorm` running statistics.

        They are views of `parameters`, in the shapes of `weights` and `biases`.
        """
        return [{name: tensor.view() for name, tensor in tensors.items()} for tensors in self._network.tensors]

    @property
    def parameters(self) -> NDArray[Any]:
        return self._network.parameters.view()

    @property
    def n_parameters(self) -> int:
        return self._network.layout.n_parameters

    @property
    def sizes(self) -> tuple[int, ...]:
        return self._network.architecture.sizes

    @property
    def layers(self) -> tuple[AnyLayer, ...]:
        """The layers' specification: `Model([n_inputs, *model.layers])` is a model of the same layers."""
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
    def input_shift(self) -> float | NDArray[np.float64] | None:
        return input_map.given(self._network.architecture.input_shift)

    @property
    def input_scale(self) -> float | NDArray[np.float64] | None:
        return input_map.given(self._network.architecture.input_scale)

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
        rate.request(value)

    def __repr__(self) -> str:
        return self._network.architecture.described()

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

    @classmethod
    def _of(cls, contents: model_file.Contents) -> Model:
        """The model that a file holds."""
        model = object.__new__(cls)
        model._set(contents.network, contents.split_seed, None)
        model._feature_names = contents.feature_names
        return model

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
        dropout: Dropout | Sequence[Dropout] = 0.0,
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
        workers: int | None = None,
        average: int | str = "epoch",
        engine: Any = None,
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
            integers that are all 0 or 1 are classes where the activation's range is 0 to 1, such as a sigmoid's; any
            others are numeric targets. For the hinge loss -1 and 1, or 0 and 1, which are classes where there is one
            output.
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
            Adds l2 / 2 times the sum of the squares of all weights of dense layers that train, without biases, to the
            mean loss of each batch (Nielsen, eq. 87, with l2 = lambda / n). `history.loss` contains it; `evaluate` and
            val_loss do not.
        l1 : float
            The same with l1 times the sum of the absolute values (Nielsen, eq. 95); the derivative of |0| is 0.
        max_norm : float or None
            After each step, a neuron of a dense layer whose weights have a larger Euclidean norm gets them scaled to
            it (Srivastava et al. 2014). This takes one extra pass over the weights that train, on one thread.
        dropout : float, schedule, callable or sequence of these
            The share of the outputs of each hidden dense layer that becomes zero while it trains, in [0, 1), or one
            share for each. The others are divided by 1 - dropout (Srivastava et al. 2014, scaled as in PyTorch), so
            that prediction needs nothing. Each batch draws others; which ones follows from the seed. Or how the share
            changes: a schedule such as `CosineDecay`, or a function of the epoch. The epochs count from 0, those of
            `history` included.
        input_noise : float
            The standard deviation of normal noise that is added to the samples, after input_shift and input_scale, at
            least 0.
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
        workers : int or None
            So many workers train, each on samples of its own, and what they leave is averaged, weighted by the rows of
            each (local SGD, Stich 2019). A seed and a number of workers give the same bits on any engine. The samples
            are rows i, i + workers, .. of arrays, whole files of a `Stream`, or row groups or parts of its files where
            they are fewer. They must be dense, `shuffle` True or False, and the optimizer one of batches.
        average : "epoch" or int
            What a worker does between two averages: an epoch of its samples, or so many steps.
        engine : None, str or engine
            Where workers train: here on `threads`, on "processes" of this machine, on "ray", or on a `Processes` or a
            `Ray`.

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
            Before it trains: targets that the output unit cannot reach; workers that make fewer than 20,000 steps each,
            or more than 2,000 between two averages; with a validation set and no metric, the floats 0.0 and 1.0 as
            targets of a single unit whose range is 0 to 1, such as a sigmoid's; with no metric, 0 and 1 alone as
            targets of a single unit with an `Activation` that states no range. After two epochs or more:
            targets of 100 or more with an identity output, and a loss, quadratic or gaussian, above that of their mean.
            After a fit by an optimizer of the whole set: most of a quadratic loss, or of arctanh_error, comes from
            outputs at the wrong end of a range with two ends, such as a sigmoid's, and one of them is so for half of
            the samples whose target is at the other end.
        """
        named = locals()
        del named["self"]
        values = arguments.FitArguments(**named)
        subject, chosen = self._subject, engine_of(engine)
        request = arguments.checked(subject, values)
        claim = threading.Lock()
        with claim, Progress(bool(progress), bool(verbose), request.options.epochs, request.history) as report:
            self._claims.take(claim)
            if self._network is not subject.network:  # since the arguments were checked
                raise RuntimeError(BUSY)
            trainer: Trainer
            if workers is None:
                trainer = trainer_for(subject.network, request)
            else:
                trainer = Workers(subject, request, values, chosen)
            self.history, self._rate = request.history, trainer.rate
            self._feature_names = self._feature_names or request.columns
            call = lambda callback: self._claims.call_back(claim, callback, self)  # noqa: E731
            Fit(trainer, lambda: self._network, report, request.scored, request.callbacks, call).run()
            self._claims.give_back(claim)
        for found in after_fit(trainer.network, request):
            warnings.warn(found, stacklevel=3)
        return request.history

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
        claim, claims = threading.Lock(), self._claims.made
        with claim:
            claims.append(claim)
            if claims[0] is not claim:
                self._claims.check(claim)
            stepper = self._network.stepper
            if (
                sample_weight is None
                and stepper is not None
                and type(X) is np.ndarray
                and type(y) is np.ndarray
                and stepper.takes(X, y)
                and stepper.requested is optimizer
            ):
                status, loss = stepper(X, y)
                if status:
                    step.explain(self._subject, X, y)
            else:
                loss = step.first_step(self._subject, X, y, optimizer, sample_weight)
                self._feature_names = self._feature_names or arrays.column_names(X)
            claims.remove(claim)
            return loss

    # ---- use ----

    @overload
    def predict(self, X: ArrayLike, *, return_std: Literal[True], **how: Unpack[How]) -> Pair: ...
    @overload
    def predict(self, X: ArrayLike, *, return_std: Literal[False] = False, **how: Unpack[How]) -> NDArray[Any]: ...
    @stated
    def predict(self, X: ArrayLike, **options: Any) -> Any:
        """The outputs, (n, n_out) in the model's dtype, for X (n, n_inputs). NaN in gives NaN out.

        May be called from several threads at once. `threads` is the most threads one call uses; None is the number
        that the CPU affinity, OMP_NUM_THREADS and NUMBA_NUM_THREADS allow. The result has the same bits for any. A row
        has the same bits in a prediction of any number of rows from 2 on; a single row is summed in another order.

        With `return_std=True` and the loss "gaussian": a pair of means and standard deviations, (n, n_targets) each.
        With `dropout`, as in `fit`, and `samples`, 50 where nothing is said: (samples, n, n_out), the outputs while
        those of hidden layers are dropped (Gal and Ghahramani 2016). `rng`, a seed or a generator, draws which. Raises
        ValueError for `return_std` with another loss, and for `samples` or `rng` without `dropout`.

        Examples
        --------
        >>> import fastnn
        >>> fastnn.Model([3, 2], init="zeros").predict([[1, 2, 3]])
        array([[0.5, 0.5]], dtype=float32)
        """
        if not options and (outputs := self._network.inference.quick(X)) is not None:
            return outputs
        network = self._network
        if options.keys() <= {"threads"}:
            return self._predict(network, X, options.get("threads"))
        return uncertainty.predict(network, self._inputs(X, finite=False), **options)

    def _predict(self, network: Network, X: ArrayLike, threads: int | None) -> NDArray[Any]:
        inference = network.inference
        if threads is not None:
            scalars.integer("threads", threads, 1)
        if (outputs := inference.block(X)) is not None:
            return outputs
        inputs = self._inputs(X, finite=False)
        return inference.outputs_of(inputs, threads)

    def classify(self, X: ArrayLike, *, threads: int | None = None) -> NDArray[np.intp]:
        """The class indices, (n,), for X (n, n_inputs): the largest output, the lower index of equal ones.

        A single output unit decides for 1 above the middle of its activation's range where that has two ends, such as
        0.5 for a sigmoid, and above 0 where it has not. Raises ValueError where an output is NaN, because it decides
        nothing.
        """
        network = self._network
        outputs = self._predict(network, X, threads)
        undecided = nan_rows(outputs)
        if len(undecided):
            raise ValueError(f"X must give outputs that are numbers, got NaN for X[{undecided[0]}]")
        return decide(outputs, network.architecture)

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
        weights = arrays.weights(sample_weight, len(inputs), self.dtype)
        if metric is None and (found := two_numbers(network.architecture, targets, scored=True)):
            warnings.warn(found, stacklevel=3)
        chosen = metrics.resolve(metric, targets, network.architecture.head)
        loss, values = evaluate(network, Labelled(inputs, targets, weights), chosen)
        return {"loss": loss} | values

    def loss(self, X: ArrayLike, y: ArrayLike) -> float:
        """The mean loss over the samples."""
        network, inputs = self._network, self._inputs(X)
        return network.inference.evaluate(inputs, self._targets(y, len(inputs), network=network).array)[0]

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
        frozen = scalars.indices("layers", layers, len(self._network.tensors))
        claim = threading.Lock()
        with claim:
            self._claims.take_for_change(claim)
            old = self._network
            self._network = Network(replace(old.architecture, frozen=frozen), old.random, old.noise, old.parameters)

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
        n_out = scalars.integer("n_out", n_out, 1, MAX_UNITS)
        head = Dense(n_out, self._network.architecture.head.activation if activation is None else activation)
        node = replace(self._network.architecture.nodes[-1], layer=head, units=n_out)
        inits = initialisers.of_layers(init, [node], self.dtype)
        generator = scalars.generator(rng)
        claim = threading.Lock()
        with claim:
            self._claims.take_for_change(claim)
            old = self._network
            new = old.with_head(head)
            initialisers.set_layers(new.tensors[-1:], [node], inits, generator)
            self._network = new

    def save(self, path: str | os.PathLike[str], *, optimizer: bool = True) -> None:
        """Write the model to a safetensors file, which `fastnn.load` reads.

        One unpadded tensor an array ("layers.0.weight" (fan_out, fan_in), "layers.0.bias"); the architecture, the
        states of the generators, a format version and a checksum in the header. With `optimizer`, what the optimizer
        that trained last keeps too ("optimizer.m.layers.0.weight"), which may be as large as the parameters or twice
        as large: so a fit of the loaded model goes on as if it had not been saved. Not where its learning rate or its
        weight decay is a function of the user's: then a warning says so. The file appears whole or not at all,
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
        optimizer, path = scalars.boolean("optimizer", optimizer), file_paths.path(path)
        contents = model_file.Contents(self._network, self._split_seed, self._feature_names)
        storage.write(path, *model_file.written(contents, optimizer))
