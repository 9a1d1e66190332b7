"""Model: an architecture and one vector of parameters; fit, predict, evaluate, gradients."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _validation, metrics, parallel, storage, training
from ._validation import Targets
from .kernels import entry, losses, network, programs
from .kernels import optimizers as kernel
from .layers import Dense, architecture
from .metrics import Metric
from .optimizers import SGD, Optimizer
from .training import History, State, _Pace

INITS = ("scaled", "normal", "zeros")
_THRESHOLDS = {"sigmoid": 0.5, "step": 0.5}  # of a single output unit; 0 for the others


class Model:
    """A feedforward network of fully connected layers, trained by backpropagation.

    Parameters
    ----------
    sizes_or_layers : sequence of int or Dense
        The number of inputs, then one entry a layer: `[784, 30, 10]` or `[784, Dense(30, "tanh"), 10]`.
    activation, output : str
        Activation of hidden layers and of the last one where an entry is an int: "sigmoid", "tanh", "relu",
        "identity" or "step".
    loss : str
        "quadratic": C = 1/(2n) sum ||y - a||^2 (Nielsen, Neural Networks and Deep Learning, eq. 6).
    init : str
        "scaled": weights normal with standard deviation 1/sqrt(fan_in), biases zero. "normal": weights and biases
        unit Gaussian, as in Nielsen's first network. "zeros".
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
    history : History or None
        Of the latest fit.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> xor = fastnn.Model([2, 8, 1], activation="tanh", rng=0)
    >>> X, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 1, 0])
    >>> history = xor.fit(X, y, epochs=3000, batch_size=4, optimizer=fastnn.SGD(1.0))
    >>> xor.classify(X)
    array([0, 1, 1, 0])
    """

    def __init__(
        self,
        sizes_or_layers: Iterable[int | Dense],
        *,
        activation: str = "sigmoid",
        output: str = "sigmoid",
        loss: str = "quadratic",
        init: str = "scaled",
        input_scale: float | None = None,
        dtype: str = "float32",
        rng: int | np.random.Generator | None = None,
    ):
        self._n_inputs, self._layers = architecture(sizes_or_layers, activation, output)
        self.loss_name = _validation.choice("loss", loss, losses.LOSSES)
        self._dtype = _validation.choice("dtype", dtype, _validation.DTYPES)
        _validation.choice("init", init, INITS)
        self.input_scale = None if input_scale is None else _validation.number("input_scale", input_scale, -np.inf)
        generator = _generator(rng)
        if self.input_scale is not None and abs(self.input_scale) > float(np.finfo(self._dtype).max):
            raise ValueError(f"input_scale must be finite in {self._dtype}, got {input_scale!r}")
        self._frozen: frozenset[int] = frozenset()
        self._network = self._lay_out()
        for i in range(len(self._layers)):
            self._network.initialise(i, init, generator)
        self._random = np.repeat(generator.integers(2**64, dtype=np.uint64), 2)  # see entry.train
        self._split_seed = int(generator.integers(2**63))  # of validation_fraction
        self.history: History | None = None
        self._state: State | None = None  # of the optimizer, for a further fit
        self._pace: tuple[tuple[Any, ...], _Pace] | None = None  # and the kind of fit that it is of
        self._fitting = False

    # ---- structure ----

    def _lay_out(self, parameters: NDArray[Any] | None = None) -> _Network:
        """A network of the model's sizes and frozen layers, with new parameters (zeros) or the ones given."""
        names = [layer.activation for layer in self._layers]
        layout = network.Layout(self.sizes, names, self.loss_name, self._dtype, self._frozen)
        return _Network(layout, 1.0 if self.input_scale is None else self.input_scale, parameters)

    @property
    def _layout(self) -> network.Layout:
        return self._network.layout

    @property
    def weights(self) -> tuple[NDArray[Any], ...]:
        return self._network.weights

    @property
    def biases(self) -> tuple[NDArray[Any], ...]:
        return self._network.biases

    @property
    def parameters(self) -> NDArray[Any]:
        return self._network.parameters

    @property
    def n_parameters(self) -> int:
        return sum(w.size + b.size for w, b in zip(self.weights, self.biases, strict=True))

    @property
    def sizes(self) -> tuple[int, ...]:
        return (self._n_inputs, *(layer.units for layer in self._layers))

    @property
    def layers(self) -> tuple[Dense, ...]:
        """The layers' specification."""
        return self._layers

    @property
    def dtype(self) -> str:
        """ "float32" or "float64"."""
        return self._dtype

    @property
    def frozen(self) -> frozenset[int]:
        """The indices of the layers that do not train."""
        return self._frozen

    def __repr__(self) -> str:
        inner = ", ".join([str(self._n_inputs), *(f"Dense({d.units}, {d.activation!r})" for d in self._layers)])
        scale = "" if self.input_scale is None else f", input_scale={self.input_scale!r}"
        return f"Model([{inner}], loss={self.loss_name!r}{scale}, dtype={self._dtype!r})"

    def __getstate__(self) -> dict[str, Any]:
        kept = ("_n_inputs", "_layers", "loss_name", "_dtype", "input_scale", "_frozen", "_random", "_split_seed")
        state = {name: self.__dict__[name] for name in (*kept, "history", "_state")}
        return {**state, "parameters": self.parameters}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        parameters = state.pop("parameters")
        self.__dict__.update(state)
        self._random = self._random.copy()
        self._pace = None
        self._fitting = False
        self._network = self._lay_out()
        self._network.parameters[...] = parameters

    # ---- training ----

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        epochs: int,
        batch_size: int,
        optimizer: Optimizer | str = SGD(0.1),
        validation_data: tuple[ArrayLike, ArrayLike] | None = None,
        validation_fraction: float | None = None,
        shuffle: bool | ArrayLike = True,
        metric: str | Metric | None = None,
        callbacks: Sequence[Callable[[Model], object]] = (),
        progress: bool | None = None,
        threads: int | None = None,
    ) -> History:
        """Train by mini-batch gradient descent.

        Parameters
        ----------
        X : array (n, n_inputs)
            float32, float64, integers or uint8; a memmap, a pandas or a polars frame. Not copied where it is
            C-ordered in the model's dtype, or uint8.
        y : array (n,) or (n, n_out)
            Class indices, made one-hot where there are several outputs, or numeric targets. With one output,
            integers that are all 0 or 1 are classes for a sigmoid or step unit; any others are numeric targets.
        epochs : int
            How many times every sample is seen.
        batch_size : int
            Samples in a step; the last batch of an epoch may be smaller. n (or more) is gradient descent on the
            whole set.
        optimizer : SGD, Momentum, Adam or one of "sgd", "momentum", "adam"
            Default SGD(0.1). A further fit with an equal optimizer goes on from its state, another starts afresh.
        validation_data : (X, y) or None
            Scored after each epoch: history.val_loss and history.val_metric.
        validation_fraction : float or None
            Set this share of the samples aside for validation instead, in (0, 1); the choice follows the seed and
            is the same in a further fit.
        shuffle : bool or array (epochs, n)
            True: a new random order each epoch. False: the order of X. An integer array: the order of each epoch.
        metric : str, callable or None
            For the validation set: "accuracy", "r2" or `metric(y_true, y_pred)`, where y_pred are class indices if
            y holds such, else outputs. None: accuracy for class indices, else r2.
        callbacks : sequence of callables
            Each is called with the model after every epoch; one that returns True ends the training.
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
        """
        if validation_data is not None and validation_fraction is not None:
            raise ValueError("validation_data and validation_fraction exclude each other, got both")
        threads = parallel.resolve_threads(threads)
        inputs = self._inputs(X)
        targets = self._targets(y, len(inputs))
        self._check_trainable()
        validation = None
        if validation_data is not None:
            if not isinstance(validation_data, (tuple, list)) or len(validation_data) != 2:
                raise TypeError(f"validation_data must be a pair (X, y), got {_brief(validation_data)}")
            validation_inputs = self._inputs(validation_data[0], "validation_data[0]")
            validation_targets = self._targets(validation_data[1], len(validation_inputs), "validation_data[1]")
            validation = validation_inputs, validation_targets
        elif validation_fraction is not None:
            inputs, targets, validation = self._split(inputs, targets, validation_fraction)
        return training.fit(
            self,
            inputs,
            targets,
            epochs=epochs,
            batch_size=batch_size,
            optimizer=optimizer,
            validation=validation,
            shuffle=shuffle,
            metric=metric,
            callbacks=callbacks,
            progress=progress,
            threads=threads,
        )

    def _check_trainable(self) -> None:
        steps = [layer.activation == "step" for layer in self._layers]
        if any(steps) and len(steps) > 1:
            raise ValueError(
                f"fit cannot train {self!r}: a step neuron's output does not change with small changes of its weights, "
                'so its derivative is zero and backpropagation has nothing to pass on; only a single layer of "step" '
                'learns, by the perceptron rule. Use "sigmoid", or set the weights by hand.'
            )

    def _split(
        self, inputs: NDArray[Any], targets: Targets, fraction: float
    ) -> tuple[NDArray[Any], Targets, tuple[NDArray[Any], Targets]]:
        fraction = _validation.number("validation_fraction", fraction, 0.0, 1.0, open_low=True)
        n_held = round(fraction * len(inputs))
        if not 0 < n_held < len(inputs):
            raise ValueError(
                f"validation_fraction must leave a sample on both sides, got {fraction:g} of {len(inputs)} samples"
            )
        order = np.random.default_rng(self._split_seed).permutation(len(inputs))
        held, rest = np.sort(order[:n_held]), np.sort(order[n_held:])

        def part(rows: NDArray[Any]) -> Targets:
            return Targets(targets.array[rows], None if targets.classes is None else targets.classes[rows])

        return inputs[rest], part(rest), (inputs[held], part(held))

    # ---- use ----

    def predict(self, X: ArrayLike, *, threads: int | None = None) -> NDArray[Any]:
        """The outputs, (n, n_out) in the model's dtype, for X (n, n_inputs). NaN in gives NaN out.

        May be called from several threads at once. `threads` is the most threads one call uses; None is the number
        that the CPU affinity, OMP_NUM_THREADS and NUMBA_NUM_THREADS allow. The result has the same bits for any.

        Examples
        --------
        >>> import fastnn
        >>> fastnn.Model([3, 2], init="zeros").predict([[1, 2, 3]])
        array([[0.5, 0.5]], dtype=float32)
        """
        net = self._network
        if threads is not None:
            _validation.integer("threads", threads, 1)
        if type(X) is np.ndarray and X.flags.carray and X.dtype == net.layout.dtype and X.ndim == 2:
            # As the kernels take it: a few rows cost microseconds, so nothing is done that need not be.
            n, width = X.shape
            if width == self._n_inputs and 0 < n <= net.layout.block_rows:
                return net.predict_block(X)
        inputs = self._inputs(X, finite=False)
        out = net.outputs(len(inputs))
        threads = min(parallel.resolve_threads(threads), -(-len(inputs) // net.layout.block_rows))
        if threads > 1 and len(inputs) * self.n_parameters > parallel.WORTH_IT:
            with parallel.door() as opened:
                if opened:
                    net.predict_on(threads, inputs, out)
                    return out
        net.sweep(inputs, None, out)
        return out

    def classify(self, X: ArrayLike, *, threads: int | None = None) -> NDArray[np.intp]:
        """The class indices, (n,), for X (n, n_inputs): the largest output, the lower index of equal ones.

        A single output unit decides between 0 and 1: above 0.5 for sigmoid and step, above 0 for the others.
        """
        return self._decide(self.predict(X, threads=threads))

    def evaluate(self, X: ArrayLike, y: ArrayLike, *, metric: str | Metric | None = None) -> dict[str, float]:
        """{"loss": the mean loss, metric's name: its value}; the metric as in `fit`.

        Examples
        --------
        >>> import fastnn
        >>> fastnn.Model([2, 2], init="zeros").evaluate([[0, 1], [1, 0]], [0, 1])
        {'loss': 0.25, 'accuracy': 0.5}
        """
        inputs = self._inputs(X)
        targets = self._targets(y, len(inputs))
        name, score = metrics.resolve(metric, targets)
        loss, outputs = self._network.evaluate(inputs, targets)
        return {"loss": loss, name: self._score(score, targets, outputs)}

    def loss(self, X: ArrayLike, y: ArrayLike) -> float:
        """The mean loss over the samples."""
        inputs = self._inputs(X)
        return self._network.evaluate(inputs, self._targets(y, len(inputs)))[0]

    def gradients(self, X: ArrayLike, y: ArrayLike) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        """The gradient of `loss`, averaged over the samples, by backpropagation (Nielsen, eq. BP1 to BP4).

        Returns a list of (dW, db), one a layer, shaped like `weights` and `biases`; zeros for a frozen layer.
        For a single layer of step neurons it is the perceptron rule's, (a - y) x.
        """
        inputs = self._inputs(X)
        targets = self._targets(y, len(inputs))
        self._check_trainable()
        net = self._network
        gradient = network.aligned_zeros(net.layout.n_bytes, self._dtype)
        net.sweep(inputs, targets, None, gradient)
        return [(dw.T, db) for dw, db in net.layout.views(gradient)]

    def _score(self, score: Metric, targets: Targets, outputs: NDArray[Any]) -> float:
        return float(score(targets.truth, outputs if targets.classes is None else self._decide(outputs)))

    def _decide(self, outputs: NDArray[Any]) -> NDArray[np.intp]:
        if outputs.shape[1] > 1:
            return outputs.argmax(axis=1)
        return (outputs[:, 0] > _THRESHOLDS.get(self._layers[-1].activation, 0.0)).astype(np.intp)

    def _inputs(self, X: ArrayLike, name: str = "X", finite: bool = True) -> NDArray[Any]:
        return _validation.inputs(X, self._n_inputs, self._dtype, name=name, finite=finite)

    def _targets(self, y: ArrayLike, n: int, name: str = "y") -> Targets:
        last = self._layers[-1]
        return _validation.targets(y, n, last.units, self._dtype, binary=last.activation in _THRESHOLDS, name=name)

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
        chosen = [layers] if not isinstance(layers, Iterable) else list(layers)
        n = len(self._layers)
        for i in chosen:
            if not -n <= _validation.integer("layers", i, -n) < n:
                raise ValueError(f"layers must be indices in [{-n}, {n}), got {i}")
        self._frozen = frozenset(i % n for i in chosen)
        self._network = self._lay_out(self.parameters)
        self._state = None

    def replace_head(
        self,
        n_out: int,
        *,
        activation: str | None = None,
        init: str = "scaled",
        rng: int | np.random.Generator | None = None,
    ) -> None:
        """Put a fresh output layer of n_out neurons in place of the last one; the other layers keep their parameters.

        The optimizer's state is reset. `activation` is the old head's unless given; `init` and `rng` are as in `Model`.
        """
        n_out = _validation.integer("n_out", n_out, 1)
        head = Dense(n_out, self._layers[-1].activation if activation is None else activation)
        _validation.choice("init", init, INITS)
        generator = _generator(rng)
        self._layers = (*self._layers[:-1], head)
        self._frozen -= {len(self._layers) - 1}
        old, new = self._network, self._lay_out()
        for i in range(len(self._layers) - 1):
            new.weights[i][...], new.biases[i][...] = old.weights[i], old.biases[i]
        new.initialise(len(self._layers) - 1, init, generator)
        self._network = new
        self._state = None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a safetensors file, which `fastnn.load` reads.

        One unpadded tensor an array ("layers.0.weight" (fan_out, fan_in), "layers.0.bias"); the architecture, the
        state of the shuffling and a format version in the header. The file appears whole or not at all.
        """
        storage.save(self, Path(path))


class _Network:
    """A layout, parameters in it, and what runs them. A model replaces it as a whole: a call sees one or the other."""

    def __init__(self, layout: network.Layout, scale: float, parameters: NDArray[Any] | None = None):
        self.layout, self.scale = layout, scale
        self.parameters = network.aligned_zeros(layout.n_bytes, layout.dtype) if parameters is None else parameters
        views = layout.views(self.parameters)
        self.weights, self.biases = tuple(w.T for w, _ in views), tuple(b for _, b in views)
        self.idle: list[_Sweep] = []  # each is used by one call at a time

    def initialise(self, i: int, init: str, generator: np.random.Generator) -> None:
        """Draw layer i's parameters."""
        weights, biases = self.weights[i], self.biases[i]
        biases[...] = generator.standard_normal(biases.shape) if init == "normal" else 0
        if init == "zeros":
            weights[...] = 0
        else:
            scale = 1 / np.sqrt(weights.shape[1]) if init == "scaled" else 1.0
            weights[...] = scale * generator.standard_normal(weights.shape)

    def outputs(self, n: int) -> NDArray[Any]:
        """Room for the outputs of n samples."""
        return np.empty((n, self.layout.sizes[-1]), self.layout.dtype)

    def borrow(self) -> _Sweep:
        """An idle sweep, or a new one; append it to `idle` afterwards."""
        try:
            return self.idle.pop()
        except IndexError:
            return _Sweep(self)

    def predict_block(self, X: NDArray[Any]) -> NDArray[Any]:
        """The outputs for at most a block of rows, C-ordered in the layout's dtype."""
        sweep = self.borrow()
        out = self.outputs(len(X))
        entry.run_block(sweep.block(X), X, out)
        self.idle.append(sweep)
        return out

    def sweep(
        self,
        inputs: NDArray[Any],
        targets: Targets | None,
        out: NDArray[Any] | None,
        gradient: NDArray[Any] | None = None,
    ) -> float:
        """Go over all samples once: fill out, add to gradient; returns the mean loss if there are targets."""
        sweep = self.borrow()
        loss = sweep(inputs, targets, out, gradient)
        self.idle.append(sweep)
        return loss

    def evaluate(self, inputs: NDArray[Any], targets: Targets) -> tuple[float, NDArray[Any]]:
        """(mean loss, outputs)."""
        out = self.outputs(len(inputs))
        return self.sweep(inputs, targets, out), out

    def predict_on(self, threads: int, inputs: NDArray[Any], out: NDArray[Any]) -> None:
        """Fill out on several threads, each with a workspace of its own."""
        sweeps = [self.borrow() for _ in range(threads)]
        codes = [sweep.code(inputs, None, None) for sweep in sweeps]
        stacked = np.stack([code.code for code in codes])
        n, rows = len(inputs), self.layout.block_rows
        entry.sweep_parallel(stacked, codes[0].parts, _sources(inputs, None, out), n, rows)
        self.idle += sweeps


class _Sweep:
    """A workspace and the programs in it for passes over samples without training, kept for the next call."""

    KEPT = 8  # programs: one for every number of rows seen lately

    def __init__(self, net: _Network):
        self.layout, self.parameters, self.scale = net.layout, net.parameters, net.scale
        self.library = entry.library(net.layout.dtype)
        self.work = programs.Workspace(self.layout, self.layout.block_rows)
        self.codes: dict[Any, programs.Code] = {}
        self.blocks: dict[int, NDArray[np.int64]] = {}  # of `block`

    def code(self, inputs: NDArray[Any], targets: Targets | None, gradient: NDArray[Any] | None) -> programs.Code:
        """The programs for the blocks of so many rows of such inputs and targets."""
        key = (len(inputs), inputs.dtype, None if targets is None else targets.array.ndim)
        if gradient is None and key in self.codes:
            return self.codes[key]
        x, y = network.Source.of(inputs), None if targets is None else network.Source.of(targets.array)
        arguments = self.library, self.layout, self.parameters.ctypes.data, self.work, x, y
        sizes = programs.block_sizes(self.layout, [len(inputs)])
        if gradient is not None:
            self.work.forget()
            target = network.Target(gradient.ctypes.data)
            return programs.Code([(programs.gradients(*arguments, n, self.scale, target), n) for n in sizes])
        if len(self.codes) == self.KEPT:
            self.codes.clear()
            self.blocks.clear()
        if y is None and x.operation == "gather" and self.scale == 1 and len(inputs) > self.layout.block_rows:
            code = programs.Code([programs.predict_in_place(*arguments[:-1], n) for n in sizes])
        else:
            code = programs.Code([(programs.predict(*arguments, n, self.scale), n) for n in sizes])
        self.codes[key] = code
        return code

    def block(self, X: NDArray[Any]) -> NDArray[np.int64]:
        """The one program that predicts as many rows as X has, in the layout's dtype."""
        n = len(X)
        try:
            return self.blocks[n]
        except KeyError:
            code: NDArray[np.int64] = self.code(X, None, None).code
            return self.blocks.setdefault(n, code)

    def __call__(
        self,
        inputs: NDArray[Any],
        targets: Targets | None,
        out: NDArray[Any] | None,
        gradient: NDArray[Any] | None,
    ) -> float:
        n, code = len(inputs), self.code(inputs, targets, gradient)
        self.work.cells[[kernel.SCALE, kernel.TOTAL]] = 1 / n, 0
        entry.sweep(code.code, code.parts, _sources(inputs, targets, out), n, self.layout.block_rows)
        return float(self.work.cells[kernel.TOTAL] / n)


def _sources(inputs: NDArray[Any], targets: Targets | None, out: NDArray[Any] | None) -> NDArray[np.int64]:
    """Addresses and row strides of the arrays of a sweep; 0 for one that is not there."""
    arrays = (inputs, None if targets is None else targets.array, out)
    return np.array([(0, 0) if a is None else (a.ctypes.data, a.strides[0]) for a in arrays], np.int64)


def _brief(value: object) -> str:
    length = f" of length {len(value)}" if isinstance(value, (tuple, list)) else ""
    return f"a {type(value).__name__}{length}"


def _generator(rng: int | np.random.Generator | None) -> np.random.Generator:
    if rng is None or isinstance(rng, np.random.Generator):
        return np.random.default_rng(rng)
    return np.random.default_rng(_validation.integer("rng", rng, 0))
