"""Derivatives of a model's outputs and of its loss, and training by gradients that the user computed."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .checks import scalars
from .data import arrays
from .data.arrays import Targets
from .kernels.running import entry
from .network import curvature
from .network.claims import BUSY, Claims
from .network.network import Network
from .settings.optimizers import SGD, Optimizer
from .training import arguments, tape
from .training.arguments import Subject


class Derivatives:
    """What `Model` has of derivatives. `Model` sets the attributes."""

    _network: Network
    _split_seed: int
    _feature_names: tuple[str, ...] | None
    _claims: Claims

    @property
    def _subject(self) -> Subject:
        return Subject(self._network, self._feature_names, self._split_seed)

    def _inputs(self, X: ArrayLike, finite: bool = True) -> NDArray[Any]:
        return arguments.inputs_of(self._network.architecture, X, self._feature_names, finite=finite)

    def _targets(self, y: ArrayLike, n: int, network: Network | None = None) -> Targets:
        """y for a network, this model's unless one is passed; a call of the model must go on with the same."""
        return arguments.targets_of((self._network if network is None else network).architecture, y, n)

    # ---- of the loss and the outputs ----

    def gradients(self, X: ArrayLike, y: ArrayLike) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        """The gradient of `loss`, averaged over the samples, by backpropagation (Nielsen, eq. BP1 to BP4).

        Returns a list of (dW, db), one a layer, shaped like `weights` and `biases`; zeros for a frozen layer.
        For a single layer of step neurons it is the perceptron rule's, (a - y) x.
        """
        network, inputs = self._network, self._inputs(X)
        targets = self._targets(y, len(inputs), network=network)
        arguments.check_trainable(network.architecture)
        arguments.check_rows(network.layout, len(inputs))
        return network.pairs_of(network.inference.gradients(inputs, targets.array))

    def hidden_activations(self, X: ArrayLike) -> list[NDArray[Any]]:
        """The outputs of the hidden layers for X (n, n_inputs): a list of arrays (n, units), one a hidden layer.

        They are a^l = f(W^l a^(l-1) + b^l) (Nielsen, eq. 25), in the model's dtype: views of one array. The sum of a
        `Residual` follows the outputs of its layers. The list is empty where there is no hidden layer. NaN in gives NaN
        out. X is as in `predict`, and so are the errors: a ValueError for another shape or for other columns of a
        frame, a TypeError for what holds no numbers.

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
        softmax is a_k ((k = j) - a_j). Inputs are those of X as given, so `input_scale` of input j is a factor. The
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

    def jacobian(self, X: ArrayLike) -> NDArray[Any]:
        """What `input_gradients` gives, (n, n_out, n_inputs), by the name that other packages have for it.

        Examples
        --------
        >>> import fastnn
        >>> fastnn.Model([3, 2], output="identity", init="zeros").jacobian([[1, 2, 3]]).shape
        (1, 2, 3)
        """
        return self.input_gradients(X)

    def jvp(self, X: ArrayLike, V: ArrayLike) -> NDArray[Any]:
        """The derivative of the outputs along a direction for each sample, (n, n_out) in the model's dtype.

        `[i, k]` is the sum over j of da_k / dx_j V[i, j], with the derivatives of `input_gradients`. It takes about
        as long as two predictions, whatever the number of outputs. X and V are (n, n_inputs). NaN in X gives NaN out. X
        is as in `predict`, and so are the errors; ValueError or TypeError for V of another shape, or where V holds
        anything but finite numbers.

        Examples
        --------
        >>> import numpy as np, fastnn
        >>> model = fastnn.Model([3, 2], output="identity", rng=0)
        >>> np.allclose(model.jvp([[1, 2, 3]], [[1, 0, 0]]), model.weights[0][:, 0])
        True
        """
        network = self._network
        inputs = arguments.inputs_of(network.architecture, X, self._feature_names, finite=False)
        shape = len(inputs), network.layout.sizes[0]
        return network.inference.jvp(inputs, arrays.parameters("V", V, shape, network.architecture.dtype))

    def hessian(self, X: ArrayLike, *, output: int = 0, diagonal: bool = False) -> NDArray[Any]:
        """The second derivatives of an output by the inputs, (n, n_inputs, n_inputs) in the model's dtype.

        `[i, j, l]` is d^2 a_k / dx_j dx_l for sample i and output k; with `diagonal` the result is (n, n_inputs), those
        with j = l alone. They are exact: each layer's part in closed form, in float64 for both dtypes. Inputs are those
        of X as given, so `input_scale` of both is a factor. A relu adds nothing, because its pieces are straight.
        NaN in gives NaN out. X is as in `predict`, and so are the errors; ValueError for an output that there is not,
        and for a model with "step" or an `Activation` of your own, whose second derivatives are not known.

        Examples
        --------
        >>> import fastnn
        >>> model = fastnn.Model([2, 1], output="exp")
        >>> model.weights[0][...] = [[1, 2]]
        >>> model.hessian([[0, 0]])
        array([[[1., 2.],
                [2., 4.]]], dtype=float32)
        """
        network = self._network
        output = scalars.integer("output", output, 0, network.layout.sizes[-1] - 1)
        diagonal = scalars.boolean("diagonal", diagonal)
        curvature.check_twice(network)
        if arrays.is_sparse(X):
            X = X.toarray()  # type: ignore[union-attr]
        inputs = arguments.inputs_of(network.architecture, X, self._feature_names, finite=False)
        return curvature.hessian(network, inputs, output, diagonal)

    # ---- gradients from outside ----

    def forward(self, X: ArrayLike, *, dropout: float | Sequence[float] = 0.0) -> NDArray[Any]:
        """The outputs, (n, n_out) in the model's dtype, for X (n, n_inputs); the activations are kept for `backward`.

        The outputs are those of `predict` up to rounding, but that BatchNorm takes the mean and variance of X, as in
        training, and so needs two rows or more.
        `dropout` is as in `fit`, and off unless asked for: then outputs of hidden layers become zero, drawn by the
        model's generator; `backward` and `step` on the same X drop the same ones. Each thread has its own last
        `forward`. X is as in `predict`, and so are the errors; RuntimeError where dropout is asked for while the model
        is being trained, because both draw numbers.

        Examples
        --------
        >>> import numpy as np, fastnn
        >>> model = fastnn.Model([3, 4, 2], rng=0)
        >>> X = np.ones((5, 3), np.float32)
        >>> outputs = model.forward(X)
        >>> gradient = model.backward(X, outputs - 1)
        >>> gradient.shape, np.array_equal(outputs, model.predict(X))
        ((26,), True)
        """
        network = self._network
        if type(dropout) is float and dropout == 0.0 and (found := tape.quick_forward(network, X)) is not None:
            return found
        rates = arguments.dropout_rates(network.architecture, dropout)
        inputs = arguments.inputs_of(network.architecture, X, self._feature_names, finite=False)
        arguments.check_rows(network.layout, len(inputs))
        if not rates:
            return tape.forward(network, inputs, rates)
        claim = threading.Lock()
        with claim:
            self._claims.take(claim)
            if self._network is not network:  # since the arguments were checked
                raise RuntimeError(BUSY)
            outputs = tape.forward(network, inputs, rates)
            self._claims.give_back(claim)
        return outputs

    @overload
    def backward(self, X: ArrayLike, dA: ArrayLike, *, inputs: Literal[False] = ...) -> NDArray[Any]: ...

    @overload
    def backward(self, X: ArrayLike, dA: ArrayLike, *, inputs: Literal[True]) -> tuple[NDArray[Any], NDArray[Any]]: ...

    def backward(
        self, X: ArrayLike, dA: ArrayLike, *, inputs: bool = False
    ) -> NDArray[Any] | tuple[NDArray[Any], NDArray[Any]]:
        """The gradient of any function of the outputs, from its derivative dA by the outputs, by backpropagation.

        Parameters
        ----------
        X : array (n, n_inputs)
            As in `fit`. Where the last `forward` of this thread had the same X, and the parameters are the same, its
            activations serve; else they are computed. The result is the same, but for dropout: that is on if it was on
            in that `forward`, and drops what it dropped.
        dA : array (n, n_out), or (n,) with one output
            `dA[i, k]` is dC/da_k for sample i, by the outputs as `forward` gives them: by probabilities, not logits,
            with a softmax or sigmoid output, whatever the model's loss is. C is a sum over the samples: for a mean,
            divide by n.
        inputs : bool
            Whether to give dC/dX too.

        Returns
        -------
        gradient, or (gradient, dX) with `inputs`
            In the model's dtype. The gradient is flat and has the order of `vector`; zeros for frozen layers and for
            running statistics. dX is (n, n_inputs), by X as given: `input_scale` of each input is a factor.

        Raises ValueError or TypeError for X or dA that cannot be used, or are not finite.

        Examples
        --------
        >>> import numpy as np, fastnn
        >>> model = fastnn.Model([3, 2], output="identity", rng=0)
        >>> X, y = np.array([[1.0, 2, 3], [4, 5, 6]]), np.array([[1, 0], [0, 1]])
        >>> gradient, dX = model.backward(X, (model.forward(X) - y) / len(X), inputs=True)
        >>> dX.shape, [dW.shape for dW, db in model.gradients(X, y)], gradient.shape
        ((2, 3), [(2, 3)], (8,))
        """
        inputs = scalars.boolean("inputs", inputs)
        gradient, d_x = tape.backward(self._subject, X, dA, inputs)
        return (gradient, d_x) if inputs else gradient

    def step(self, X: ArrayLike, dA: ArrayLike, *, optimizer: Optimizer | str = SGD(0.1)) -> None:
        """One step of an optimizer on the gradient that `backward` gives.

        X and dA are as in `backward`, the optimizer as in `partial_fit`, with its clipping: a further step or fit with
        an equal one goes on from its state. `history` stays as it is. The running statistics of BatchNorm follow those
        of X. The loss of the model, its targets and penalties play no part.

        Raises
        ------
        ValueError, TypeError
            For an argument that cannot be used; the model is unchanged.
        DivergenceError
            When an output or a parameter is not finite; the model then is as it was before.

        Examples
        --------
        >>> import numpy as np, fastnn
        >>> model, adam = fastnn.Model([2, 8, 1], output="identity", rng=0), fastnn.Adam(0.01, clip_norm=1.0)
        >>> X = np.array([[0, 1], [1, 0], [1, 1]], np.float32)
        >>> for _ in range(300):
        ...     model.step(X, (model.forward(X) - [[1], [2], [3]]) / len(X), optimizer=adam)
        >>> model.predict(X).round(1).ravel().tolist()
        [1.0, 2.0, 3.0]
        """
        claim, claims = threading.Lock(), self._claims.made
        with claim:
            claims.append(claim)
            if claims[0] is not claim:
                self._claims.check(claim)
            if not tape.quick_step(self._network, X, dA, optimizer):
                tape.step(self._subject, X, dA, optimizer)
                self._feature_names = self._feature_names or arrays.column_names(X)
            claims.remove(claim)

    @property
    def vector(self) -> NDArray[Any]:
        """All parameters in one flat array without padding, in the model's dtype; to set it changes the model.

        It holds tensor after tensor as `tensors` has them, each C-ordered in its shape: the weight (fan_out, fan_in) of
        the first layer, its bias, and so on, running statistics included. It is a copy: a change of it changes nothing.
        The optimizer's state stays when it is set. Raises ValueError for another shape, for numbers that are not
        finite, and for a negative running variance; RuntimeError while the model is being trained, but in a callback.

        Examples
        --------
        >>> import numpy as np, fastnn
        >>> model = fastnn.Model([2, 1], rng=0)
        >>> model.vector = np.array([1, 2, 3])
        >>> model.weights[0], model.biases[0]
        (array([[1., 2.]], dtype=float32), array([3.], dtype=float32))
        """
        network = self._network
        return network.parameters.take(network.layout.elements)

    @vector.setter
    def vector(self, value: ArrayLike) -> None:
        claim = threading.Lock()
        with claim:
            self._claims.take_for_change(claim)
            network = self._network
            elements = network.layout.elements
            values = arrays.parameters("vector", value, elements.shape, network.architecture.dtype)
            changed = network.parameters.copy()
            changed[elements] = values
            network.check_least(changed)
            network.parameters[:] = changed

    def blend(self, other: Derivatives, tau: float) -> None:
        """Move the parameters towards those of another model: self += tau * (other - self) (Polyak averaging).

        `other` has the same layers, in the same dtype; tau is in [0, 1]. Running statistics move too. The optimizer's
        state stays. Raises TypeError or ValueError for another kind of model or another tau; RuntimeError while the
        model is being trained, but in a callback.

        Examples
        --------
        >>> import fastnn
        >>> target, model = (fastnn.Model([2, 1], init=init) for init in ("zeros", "normal"))
        >>> target.blend(model, 0.5)
        >>> (target.weights[0] == 0.5 * model.weights[0]).all()
        np.True_
        """
        if not isinstance(other, Derivatives):
            raise TypeError(f"other must be a Model, got {scalars.shown(other)}")
        tau = scalars.number("tau", tau, 0.0, np.nextafter(1.0, 2.0))
        claim = threading.Lock()
        with claim:
            self._claims.take_for_change(claim)
            network, blended = self._network, other._network
            both = network.architecture, blended.architecture
            here, there = ((each.n_inputs, each.layers, each.dtype) for each in both)
            if here != there:
                raise ValueError(f"other must have the layers and dtype of {self!r}, got {other!r}")
            entry.blend(network.parameters, blended.parameters, tau)
