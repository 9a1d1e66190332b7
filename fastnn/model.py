"""Model: an architecture and one vector of parameters; fit, predict, evaluate, gradients."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _validation, metrics, parallel, storage, training
from ._validation import Inputs, Targets
from .kernels import activations, entry, losses, network
from .layers import Dense, architecture
from .metrics import Metric
from .optimizers import SGD, Optimizer
from .training import History

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
        self._frozen: frozenset[int] = frozenset()
        self._set_up()
        for i in range(len(self._layers)):
            self._initialise(i, init, generator)
        self._random = np.repeat(generator.integers(2**64, dtype=np.uint64), 2)  # see entry.train
        self._split_seed = int(generator.integers(2**63))  # of validation_fraction
        self.history: History | None = None

    # ---- structure ----

    def _layout(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        codes = [activations.CODES[layer.activation] for layer in self._layers]
        return network.layout(self.sizes, codes, losses.CODES[self.loss_name], self._dtype, self._frozen)

    def _set_up(self) -> None:
        """Lay the network out and allocate its parameters."""
        self._net, self._table = self._layout()
        self._parameters = network.aligned_zeros(self._net[network.N_BYTES], self._dtype)
        self._views()

    def _views(self) -> None:
        itemsize = self._parameters.itemsize
        weights, biases = [], []
        for row in self._table:
            w, b, ld = row[[network.W, network.B, network.LD]] // itemsize
            fan_in, fan_out = row[[network.FAN_IN, network.FAN_OUT]]
            weights.append(self._parameters[w:b].reshape(fan_in, ld)[:, :fan_out].T)
            biases.append(self._parameters[b : b + fan_out])
        self._weights, self._biases = tuple(weights), tuple(biases)
        self._workspaces: list[NDArray[Any]] = []  # idle ones, for predict; see _borrowed

    def _initialise(self, i: int, init: str, generator: np.random.Generator) -> None:
        weights, biases = self._weights[i], self._biases[i]
        biases[...] = generator.standard_normal(biases.shape) if init == "normal" else 0
        if init == "zeros":
            weights[...] = 0
        else:
            scale = 1 / np.sqrt(weights.shape[1]) if init == "scaled" else 1.0
            weights[...] = scale * generator.standard_normal(weights.shape)

    @property
    def weights(self) -> tuple[NDArray[Any], ...]:
        return self._weights

    @property
    def biases(self) -> tuple[NDArray[Any], ...]:
        return self._biases

    @property
    def parameters(self) -> NDArray[Any]:
        return self._parameters

    @property
    def n_parameters(self) -> int:
        return sum(w.size + b.size for w, b in zip(self._weights, self._biases, strict=True))

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
        kept = ("_n_inputs", "_layers", "loss_name", "_dtype", "input_scale", "_frozen", "_random")
        return {name: self.__dict__[name] for name in (*kept, "_split_seed", "history", "_parameters")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        parameters = state.pop("_parameters")
        self.__dict__.update(state)
        self._random = self._random.copy()
        self._set_up()
        self._parameters[...] = parameters

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
            Class indices, made one-hot where there are several outputs, or numeric targets.
        epochs : int
            How many times every sample is seen.
        batch_size : int
            Samples in a step; the last batch of an epoch may be smaller. n (or more) is gradient descent on the
            whole set.
        optimizer : SGD or "sgd"
            Default SGD(0.1).
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
            The most threads to use. Training itself runs on one.

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
        parallel.resolve_threads(threads)
        inputs = self._inputs(X)
        targets = self._targets(y, inputs.n)
        self._check_trainable()
        validation = None
        if validation_data is not None:
            if not isinstance(validation_data, (tuple, list)) or len(validation_data) != 2:
                raise TypeError(f"validation_data must be a pair (X, y), got {type(validation_data).__name__}")
            validation_inputs = self._inputs(validation_data[0], "validation_data[0]")
            validation_targets = self._targets(validation_data[1], validation_inputs.n, "validation_data[1]")
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
        self, inputs: Inputs, targets: Targets, fraction: float
    ) -> tuple[Inputs, Targets, tuple[Inputs, Targets]]:
        fraction = _validation.number("validation_fraction", fraction, 0.0, 1.0, open_low=True)
        n_held = round(fraction * inputs.n)
        if not 0 < n_held < inputs.n:
            raise ValueError(
                f"validation_fraction must leave a sample on both sides, got {fraction:g} of {inputs.n} samples"
            )
        order = np.random.default_rng(self._split_seed).permutation(inputs.n)
        held, rest = np.sort(order[:n_held]), np.sort(order[n_held:])

        def part(arrays: Any, rows: NDArray[Any]) -> Any:
            return type(arrays)(*(a if a is None or not len(a) else a[rows] for a in arrays))

        return part(inputs, rest), part(targets, rest), (part(inputs, held), part(targets, held))

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
        inputs = self._inputs(X, finite=False)
        out = np.empty((inputs.n, self.sizes[-1]), self._dtype)
        net, scale = self._ready(), self._scale
        data = (*inputs, np.empty((0, 0), self._dtype), np.empty(0, np.int32))
        threads = min(parallel.resolve_threads(threads), -(-inputs.n // int(net[network.BLOCK_ROWS])))
        if threads > 1 and inputs.n * self.n_parameters > parallel.WORTH_IT:
            with parallel.door() as opened:
                if opened:
                    works = network.aligned_zeros(threads * net[network.WORK], self._dtype).reshape(threads, -1)
                    entry.predict_parallel(net, self._table, self._parameters, works, data, scale, out)
                    return out
        work = self._borrow()
        entry.predict(net, self._table, self._parameters, work, data, scale, out)
        self._workspaces.append(work)
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
        targets = self._targets(y, inputs.n)
        name, score = metrics.resolve(metric, targets)
        loss, outputs = self._evaluate(inputs, targets)
        return {"loss": loss, name: self._score(score, targets, outputs)}

    def loss(self, X: ArrayLike, y: ArrayLike) -> float:
        """The mean loss over the samples."""
        inputs = self._inputs(X)
        return self._evaluate(inputs, self._targets(y, inputs.n))[0]

    def gradients(self, X: ArrayLike, y: ArrayLike) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        """The gradient of `loss`, averaged over the samples, by backpropagation (Nielsen, eq. BP1 to BP4).

        Returns a list of (dW, db), one a layer, shaped like `weights` and `biases`; zeros for a frozen layer.
        For a single layer of step neurons it is the perceptron rule's, (a - y) x.
        """
        inputs = self._inputs(X)
        targets = self._targets(y, inputs.n)
        self._check_trainable()
        net, work = self._ready(), self._borrow()
        gradient = network.aligned_zeros(net[network.N_BYTES], self._dtype)
        data = (*inputs, targets.values, targets.labels)
        entry.gradients(net, self._table, self._parameters, gradient, work, data, self._scale)
        self._workspaces.append(work)
        shell = Model.__new__(Model)
        shell._table, shell._parameters = self._table, gradient
        shell._views()
        return list(zip(shell._weights, shell._biases, strict=True))

    def _evaluate(self, inputs: Inputs, targets: Targets) -> tuple[float, NDArray[Any]]:
        net, work = self._ready(), self._borrow()
        out = np.empty((inputs.n, self.sizes[-1]), self._dtype)
        data = (*inputs, targets.values, targets.labels)
        loss = entry.evaluate(net, self._table, self._parameters, work, data, self._scale, out)
        self._workspaces.append(work)
        return loss, out

    def _score(self, score: Metric, targets: Targets, outputs: NDArray[Any]) -> float:
        return float(score(targets.truth, outputs if targets.classes is None else self._decide(outputs)))

    def _decide(self, outputs: NDArray[Any]) -> NDArray[np.intp]:
        if outputs.shape[1] > 1:
            return outputs.argmax(axis=1)
        return (outputs[:, 0] > _THRESHOLDS.get(self._layers[-1].activation, 0.0)).astype(np.intp)

    def _inputs(self, X: ArrayLike, name: str = "X", finite: bool = True) -> Inputs:
        return _validation.inputs(X, self._n_inputs, self._dtype, name=name, finite=finite)

    def _targets(self, y: ArrayLike, n: int, name: str = "y") -> Targets:
        last = self._layers[-1]
        return _validation.targets(y, n, last.units, self._dtype, binary=last.activation in _THRESHOLDS, name=name)

    @property
    def _scale(self) -> float:
        return 1.0 if self.input_scale is None else self.input_scale

    def _ready(self) -> NDArray[np.int64]:
        """`net` with the address of the library, which is compiled or loaded when it is first needed."""
        if not self._net[network.LIB]:
            self._net[network.LIB] = entry.library(self._dtype).ctypes.data
        return self._net

    def _borrow(self) -> NDArray[Any]:
        """An idle workspace; the caller appends it to _workspaces when done, so that two calls never share one."""
        try:
            return self._workspaces.pop()
        except IndexError:
            return network.workspace(self._net, self._dtype)

    # ---- transfer learning and files ----

    def freeze(self, layers: int | Iterable[int]) -> None:
        """Let only the other layers train from now on; an empty list lets all of them.

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
        net, table = self._layout()
        net[network.LIB] = self._net[network.LIB]
        self._net[:], self._table[:] = net, table  # in place: the views stay, and a fit under way goes on with it

    def replace_head(
        self,
        n_out: int,
        *,
        activation: str | None = None,
        init: str = "scaled",
        rng: int | np.random.Generator | None = None,
    ) -> None:
        """Put a fresh output layer of n_out neurons in place of the last one; the other layers keep their parameters.

        `activation` is the old head's unless given; `init` and `rng` are as in `Model`.
        """
        n_out = _validation.integer("n_out", n_out, 1)
        head = Dense(n_out, self._layers[-1].activation if activation is None else activation)
        _validation.choice("init", init, INITS)
        generator = _generator(rng)
        self._layers = (*self._layers[:-1], head)
        self._frozen -= {len(self._layers) - 1}
        self._rebuild()
        self._initialise(len(self._layers) - 1, init, generator)

    def _rebuild(self) -> None:
        """Lay the network out again; layers that kept their shape keep their parameters."""
        old = [*self._weights], [*self._biases]
        self._set_up()
        for new, kept in zip((self._weights, self._biases), old, strict=True):
            for array, before in zip(new, kept, strict=True):
                if array.shape == before.shape:
                    array[...] = before

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a safetensors file, which `fastnn.load` reads.

        One unpadded tensor an array ("layers.0.weight" (fan_out, fan_in), "layers.0.bias"); the architecture, the
        state of the shuffling and a format version in the header. The file appears whole or not at all.
        """
        storage.save(self, Path(path))


def _generator(rng: int | np.random.Generator | None) -> np.random.Generator:
    if rng is None or isinstance(rng, np.random.Generator):
        return np.random.default_rng(rng)
    return np.random.default_rng(_validation.integer("rng", rng, 0))
