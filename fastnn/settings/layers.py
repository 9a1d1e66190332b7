"""The architecture: what a user writes, normalised to a tuple of frozen layers, and to the list that kernels walk."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import scalars
from ..checks.scalars import MAX_UNITS, shown
from ..kernels.formulas import loss_functions
from ..kernels.formulas.activations import ACTIVATIONS, ROW_WISE, ActivationFormula, formula
from ..kernels.formulas.loss_functions import LOSSES, LossFormula, TargetsKind
from ..kernels.programs.layers import batch_norm, embedding, layer_norm, prelu, residual, scale
from ..kernels.programs.layers.dense import DENSE
from ..kernels.programs.layers.layer import Kind, Tensor
from . import input_map
from .custom import Activation
from .input_map import NEUTRAL, InputNumbers
from .losses import AnyLoss, check, kernel_name, name_of

HIDDEN = tuple(ACTIVATIONS)
NAMES = (*HIDDEN, *ROW_WISE)
MAX_CATEGORIES = 2**24  # float32 holds all smaller codes
WIDEST = 16  # the widest row of a table where nothing is said
KNOWN = 8  # architectures that are found again by the arguments of `Model`


class _Layer:
    """A layer as a user writes it."""

    activation: str | Activation = "identity"

    @property
    def _kernel(self) -> str:
        """The kernels' name of the activation."""
        return self.activation if isinstance(self.activation, str) else self.activation._kernel

    @property
    def _formula(self) -> ActivationFormula:
        """The kernels' row of the activation, which states all facts about it."""
        return formula(self._kernel)

    @property
    def _kind(self) -> Kind:
        """The kernels' kind of layer, with its settings."""
        raise NotImplementedError

    def _units(self, fan_in: int) -> int:
        """How many neurons the layer has where it reads so many."""
        return fan_in

    def _described(self) -> str:
        """The call that makes the layer."""
        return repr(self)


@dataclass(frozen=True)
class Dense(_Layer):
    """A fully connected layer: a = activation(W @ a_below + b).

    Parameters
    ----------
    units : int
        Number of neurons, at least 1.
    activation : str or Activation
        "sigmoid" 1/(1 + e^-z), "hard_sigmoid" (z + 3) / 6 within [0, 1], "tanh", "identity" z, "exp" e^z, "step" (1
        where z > 0, the perceptron), "softplus" log(1 + e^z), "relu" max(z, 0). Others that go on below zero:
        "leaky_relu" with 0.01 z, "elu" with e^z - 1, "selu" with 1.76 (e^z - 1), and 1.05 z above, so that mean 0 and
        variance 1 stay (Klambauer et al. 2017), "gelu" z Phi(z) with the standard normal distribution (Hendrycks and
        Gimpel 2016), "silu" z sigmoid(z), "mish" z tanh(log(1 + e^z)) (Misra 2019). For the last layer also "softmax"
        e^z / sum e^z over the layer's neurons. Or your own, see `Activation`.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.Model([4, fastnn.Dense(16, "tanh"), fastnn.Dense(1, "identity")]).sizes
    (4, 16, 1)
    """

    units: int
    activation: str | Activation = "sigmoid"

    def __post_init__(self) -> None:
        object.__setattr__(self, "units", scalars.integer("units", self.units, 1, MAX_UNITS))
        check_activation("activation", self.activation, NAMES)

    @property
    def _kind(self) -> Kind:
        return DENSE

    def _units(self, fan_in: int) -> int:
        return self.units

    def _described(self) -> str:
        return f"Dense({self.units}, {self.activation!r})"


@dataclass(frozen=True)
class Scale(_Layer):
    """A trainable factor for each neuron: a = weight * a_below, elementwise. The factors begin at 1.

    In front of a network for tables it learns how much each feature counts (Holzmueller, Grinsztajn and Steinwart 2024,
    RealMLP). `weights[l]` is (units,), and `biases[l]` is empty.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.Model([4, fastnn.Scale(), fastnn.Dense(16, "relu"), 1]).weights[0]
    array([1., 1., 1., 1.], dtype=float32)
    """

    @property
    def _kind(self) -> Kind:
        return scale.Scale()


@dataclass(frozen=True)
class PReLU(_Layer):
    """A trained slope below zero for each neuron: a = x where x > 0, else weight * x (He, Zhang, Ren and Sun 2015).

    x is what the layer below gives, such as a `Dense` with "identity". At zero the derivative is the slope, as in
    PyTorch. `weights[l]` is (units,), and `biases[l]` is empty. Penalties and `max_norm` leave slopes alone; the
    weight decay of `AdamW` and `Lion` is of all parameters. Dropout of the layer below drops the outputs of this one
    too, because it gives 0 for 0.

    Parameters
    ----------
    init : float
        What all slopes begin with, finite in the model's dtype. The default is PyTorch's; with 0 it begins as "relu".

    Examples
    --------
    >>> import fastnn
    >>> model = fastnn.Model([4, fastnn.Dense(3, "identity"), fastnn.PReLU(), fastnn.Dense(1, "identity")])
    >>> model.weights[1]
    array([0.25, 0.25, 0.25], dtype=float32)
    """

    init: float = 0.25

    def __post_init__(self) -> None:
        object.__setattr__(self, "init", scalars.number("init", self.init, -math.inf, open_low=True))

    @property
    def _kind(self) -> Kind:
        return prelu.PReLU(self.init)


@dataclass(frozen=True)
class LayerNorm(_Layer):
    """Normalise each sample over the neurons of the layer below (Ba, Kiros and Hinton 2016).

    a = f(weight * (x - mean) / sqrt(variance + epsilon) + bias), with the mean and the variance of the sample's x, and
    a weight and a bias for each neuron, which begin at 1 and 0. `weights[l]` and `biases[l]` are (units,).

    Parameters
    ----------
    epsilon : float
        Is added to the variance, above 0. The default is PyTorch's.
    activation : str or Activation
        f, see `Dense`; not "softmax".

    Examples
    --------
    >>> import fastnn
    >>> fastnn.Model([4, fastnn.Dense(16, "identity"), fastnn.LayerNorm(activation="relu"), 1]).sizes
    (4, 16, 16, 1)
    """

    epsilon: float = 1e-5
    activation: str | Activation = "identity"

    def __post_init__(self) -> None:
        _check_epsilon(self)
        check_activation("activation", self.activation, HIDDEN)

    @property
    def _kind(self) -> Kind:
        return layer_norm.LayerNorm(self.epsilon)


@dataclass(frozen=True)
class BatchNorm(_Layer):
    """Normalise each neuron of the layer below over the samples of a batch (Ioffe and Szegedy 2015).

    a = f(weight * (x - mean) / sqrt(variance + epsilon) + bias), with the mean and the variance of the batch while it
    trains. Weight and bias begin at 1 and 0; `weights[l]` and `biases[l]` are (units,). Prediction takes running
    statistics in their place, which begin at 0 and 1 and do not train. Each step moves them by `momentum` towards the
    batch's mean and unbiased variance, as in PyTorch. They are tensors of a file. A frozen layer takes them always.

    A batch is normalised as a whole, so it must fit into a block: `fit` says how many rows that are at most. A batch of
    one row raises ValueError. `gradients` takes the statistics of its samples.

    Parameters
    ----------
    momentum : float
        The share of a batch in the running statistics, in [0, 1]. The default is PyTorch's.
    epsilon : float
        Is added to the variance, above 0. The default is PyTorch's.
    activation : str or Activation
        f, see `Dense`; not "softmax".

    Examples
    --------
    >>> import fastnn
    >>> fastnn.Model([4, fastnn.Dense(16, "identity"), fastnn.BatchNorm(activation="relu"), 1]).sizes
    (4, 16, 16, 1)
    """

    momentum: float = 0.1
    epsilon: float = 1e-5
    activation: str | Activation = "identity"

    def __post_init__(self) -> None:
        momentum = scalars.number("momentum", self.momentum, 0.0)
        if momentum > 1:
            raise ValueError(f"momentum must be in [0, 1], got {self.momentum!r}")
        object.__setattr__(self, "momentum", momentum)
        _check_epsilon(self)
        check_activation("activation", self.activation, HIDDEN)

    @property
    def _kind(self) -> Kind:
        return batch_norm.BatchNorm(self.epsilon, self.momentum)

    def folded(self, tensors: dict[str, NDArray[Any]]) -> tuple[NDArray[Any], NDArray[Any]]:
        """(factor, shift), both (units,): what the layer does in a prediction, before f: x * factor + shift.

        `tensors` are "weight", "bias", "running_mean" and "running_variance", as `Model.tensors` gives them. Exports
        write the affine map in place of the layer, or fold it into the dense layer below.

        Examples
        --------
        >>> import fastnn
        >>> model = fastnn.Model([4, fastnn.BatchNorm(epsilon=1.0), 1])
        >>> factor, shift = model.layers[0].folded(model.tensors[0])
        >>> print(factor.round(3))
        [0.707 0.707 0.707 0.707]
        """
        factor = tensors["weight"] / np.sqrt(tensors["running_variance"] + tensors["weight"].dtype.type(self.epsilon))
        return factor, tensors["bias"] - tensors["running_mean"] * factor


@dataclass(frozen=True)
class Embedding(_Layer):
    """A trained vector for each category: the first layer of a network whose inputs hold codes beside numbers.

    A code is a whole number from 0 to categories - 1. The outputs are the columns of numbers as they are, in their
    order; then for each column of codes the row of its table for the code, in the order of `columns`. So the layer has
    n_inputs - n_columns + the sum of the widths neurons. A dense layer on one-hot inputs computes the same.

    The tables are `model.tensors[0]["embedding_3"]`, (categories, width) for column 3, and so in files. `weights[0]`
    has them one below the other, (sum of categories, largest width): what lies behind a narrower table is zero, and no
    parameter. `biases[0]` is empty. `init` draws a table as the weights of a dense layer with `width` inputs and a
    neuron a category: "scaled" has variance 1/width. Penalties, `max_norm`, dropout and `input_noise` leave tables and
    codes alone. An optimizer updates whole tables in each step, so its time grows with the number of categories; but
    SGD without clipping and factors, on batches of one block, changes the rows of the batch alone.

    Training, `evaluate`, `gradients` and `backward` raise ValueError for any other number in a column of codes, before
    anything changes. `predict` and `forward` give NaN for its row, as they do for NaN. Derivatives by codes are zero.
    Sparse X raises TypeError. Shifts and scales of inputs must leave codes as they are, else there is a ValueError.

    Parameters
    ----------
    columns : sequence of int
        The columns of X that hold codes, each once.
    categories : sequence of int
        How many categories each of them has, 1 to 2^24.
    widths : sequence of int, int or None
        How wide the rows of each table are; a number is for all. None is 1.6 categories^0.56, rounded, but at most 16.

    Examples
    --------
    >>> import fastnn
    >>> model = fastnn.Model([4, fastnn.Embedding([1, 3], [7, 50]), fastnn.Dense(16, "relu"), 1])
    >>> model.layers[0], model.sizes
    (Embedding(columns=(1, 3), categories=(7, 50), widths=(5, 14)), (4, 21, 16, 1))
    >>> model.tensors[0]["embedding_3"].shape
    (50, 14)
    """

    columns: tuple[int, ...]
    categories: tuple[int, ...]
    widths: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        columns = _integers("columns", self.columns, 0, MAX_UNITS - 1)
        categories = _integers("categories", self.categories, 1, MAX_CATEGORIES)
        if self.widths is None:
            widths = tuple(min(WIDEST, round(1.6 * n**0.56)) for n in categories)
        elif isinstance(self.widths, Iterable):
            widths = _integers("widths", self.widths, 1, MAX_UNITS)
        else:
            widths = (scalars.integer("widths", self.widths, 1, MAX_UNITS),) * len(columns)
        if not columns or len(set(columns)) < len(columns):
            raise ValueError(f"columns must name at least one column, and each once, got {shown(columns)}")
        for name, found in (("categories", categories), ("widths", widths)):
            if len(found) != len(columns):
                raise ValueError(f"{name} must have a number for each of {len(columns)} columns, got {shown(found)}")
        for name, found in (("columns", columns), ("categories", categories), ("widths", widths)):
            object.__setattr__(self, name, found)

    @property
    def _kind(self) -> embedding.Embedding:
        assert self.widths is not None
        return embedding.Embedding(self.columns, self.categories, self.widths)

    def _units(self, fan_in: int) -> int:
        if max(self.columns) >= fan_in:
            raise ValueError(f"Embedding's columns must be below {fan_in}, the number of inputs, got {self.columns}")
        return fan_in - len(self.columns) + sum(self._kind.widths)


@dataclass(frozen=True, init=False)
class Residual(_Layer):
    """Layers whose input is added to the output of the last one: a = f(a_last + x) (He et al. 2016).

    The last of the layers must be as wide as what the first one reads; the model raises ValueError where it is not. A
    `Residual` may hold others. The numbers of layers, in `weights`, `freeze` and files, go through the layers in it,
    and the sum has none.

    Parameters
    ----------
    layers : Dense, PReLU, Scale, LayerNorm, BatchNorm or Residual
        At least one, in their order.
    activation : str or Activation
        f of the sum, see `Dense`; not "softmax".

    Examples
    --------
    >>> import fastnn
    >>> block = fastnn.Residual(fastnn.LayerNorm(), fastnn.Dense(32, "relu"), fastnn.Dense(16, "identity"))
    >>> fastnn.Model([4, fastnn.Dense(16, "relu"), block, 1]).sizes
    (4, 16, 16, 32, 16, 1)
    """

    layers: tuple[AnyLayer, ...]
    activation: str | Activation = "identity"

    def __init__(self, *layers: AnyLayer, activation: str | Activation = "identity"):
        if not layers:
            raise ValueError("Residual must have at least one layer, got none")
        for i, layer in enumerate(layers):
            if not isinstance(layer, _Layer):
                raise TypeError(f"Residual's layers[{i}] must be a layer such as Dense(16), got {shown(layer)}")
        check_activation("activation", activation, HIDDEN)
        object.__setattr__(self, "layers", layers)
        object.__setattr__(self, "activation", activation)

    def _described(self) -> str:
        inner = [layer._described() for layer in self.layers]
        if self.activation != "identity":
            inner.append(f"activation={self.activation!r}")
        return f"Residual({', '.join(inner)})"

    def __repr__(self) -> str:
        return self._described()


AnyLayer = Dense | PReLU | Scale | LayerNorm | BatchNorm | Embedding | Residual


@dataclass(frozen=True)
class Node:
    """A layer as the kernels compute it, in its place in the list; the sum of a `Residual` is one too."""

    layer: AnyLayer
    kind: Kind
    fan_in: int
    units: int
    number: int | None  # among the layers that have tensors; None for a sum

    @cached_property
    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors that lie in the vector of parameters."""
        return self.kind.tensors(self.fan_in)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the tensors by name, as users and files see them."""
        names = (tensor.name for tensor in self.tensors)
        return {name: self.kind.shape(name, self.fan_in, self.units) for name in names}

    @property
    def pair_shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The shapes of the layer's entries in `Model.weights` and `Model.biases`."""
        rows = sum(tensor.rows for tensor in self.tensors), self.kind.row_width(self.units)
        return self.shapes.get("weight", rows), self.shapes.get("bias", (0,))

    @property
    def n_parameters(self) -> int:
        """How many numbers of the layer train."""
        return sum(tensor.size(self.units) for tensor in self.tensors if tensor.trains)


def _nodes(layers: Iterable[AnyLayer], width: int) -> tuple[Node, ...]:
    """The nodes of some layers that read `width` numbers."""
    nodes: list[Node] = []
    numbers = itertools.count()

    def add(each: Iterable[AnyLayer]) -> int:
        """Append layers; gives how wide the last one is."""
        for layer in each:
            fan_in = nodes[-1].units if nodes else width
            if isinstance(layer, Residual):
                start = len(nodes) - 1
                units = add(layer.layers)
                if units != fan_in:
                    raise ValueError(
                        "Residual must end with a layer as wide as what it reads, because both are added, "
                        f"got {units} neurons after {fan_in} for {layer!r}"
                    )
                nodes.append(Node(layer, residual.Residual((start,)), units, units, None))
            else:
                nodes.append(Node(layer, layer._kind, fan_in, layer._units(fan_in), next(numbers)))
        return nodes[-1].units

    add(layers)
    return tuple(nodes)


def _integers(name: str, value: Any, low: int, high: int) -> tuple[int, ...]:
    found = scalars.items(name, value, "a sequence of integers")
    return tuple(scalars.integer(f"{name}[{i}]", each, low, high) for i, each in enumerate(found))


def _each(layers: Iterable[AnyLayer]) -> Iterator[AnyLayer]:
    """Layers, and those in a `Residual`."""
    for layer in layers:
        yield from _each(layer.layers) if isinstance(layer, Residual) else [layer]


def _check_epsilon(layer: LayerNorm | BatchNorm) -> None:
    object.__setattr__(layer, "epsilon", scalars.number("epsilon", layer.epsilon, 0.0, open_low=True))


def check_activation(name: str, value: object, allowed: Iterable[str]) -> None:
    """Raise where a value is neither one of the allowed names nor a user's own activation."""
    if not isinstance(value, Activation):
        scalars.choice(name, value, allowed)


_WITH_TENSORS: tuple[AnyLayer, ...] = (
    Dense(1),
    Scale(),
    PReLU(),
    LayerNorm(),
    BatchNorm(),
    Embedding((0,), (1,)),
)
_TRAINED = {type(each).__name__: [t.kind for t in each._kind.tensors(1) if t.trains] for each in _WITH_TENSORS}
# The kinds of tensors that train, then the same behind their kinds of layers.
TENSOR_NAMES = (
    *dict.fromkeys(itertools.chain(*_TRAINED.values())),
    *(f"{layer}.{name}" for layer, names in _TRAINED.items() for name in names),
)


@dataclass(frozen=True)
class Architecture:
    """All of a model but the numbers that training changes. It is checked when it is made."""

    n_inputs: int
    layers: tuple[AnyLayer, ...]
    loss: AnyLoss
    dtype: str
    input_scale: InputNumbers = None
    frozen: frozenset[int] = frozenset()  # numbers of layers that do not train
    input_shift: InputNumbers = None
    own_inputs: bool = False  # whether each member of a population has a shift and a scale of its own, not these

    def __post_init__(self) -> None:
        scalars.choice("dtype", self.dtype, scalars.DTYPES)
        check(self.loss, self.dtype)
        for name in NEUTRAL:
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, input_map.checked(name, value, self.n_inputs, self.dtype))
        self._check_layers()
        if self.embedding is not None:
            self.check_codes(self.affine)
        if not kernel_name(self.loss, self.head._kernel):
            fits = ", ".join(repr(name) for name in loss_functions.NAMES if kernel_name(name, self.head._kernel))
            what = f"loss {self.loss_name!r} does not go with the output activation {self.head.activation!r}"
            raise ValueError(f"{what}; losses that do: {fits}")
        outputs = self._loss_formula.outputs
        if self.head.units % outputs:
            units = self.head.units
            raise ValueError(f"loss {self.loss_name!r} needs {outputs} outputs for each target, got {units} in all")

    def check_codes(self, affine: NDArray[np.float64]) -> None:
        """Raise where a shift or a scale (.., 2, n_inputs) would change codes."""
        if self.embedding is not None:
            columns = list(self.embedding.columns)
            found = affine[..., columns].reshape(-1, 2, len(columns))
            wrong = np.argwhere(found != [[0], [1]])
            if len(wrong):
                member, which, k = wrong[0]
                name, value = list(NEUTRAL)[which], found[member, which, k]
                what = f"{NEUTRAL[name]:g} for column {columns[k]}, of which an Embedding reads codes"
                raise ValueError(f"{name} must be {what}, got {value:g}")

    def _check_layers(self) -> None:
        number, first = np.finfo(self.dtype), self.layers[0]
        least, most = float(number.tiny), float(number.max)
        if any(isinstance(each, Embedding) for each in _each(self.layers[not isinstance(first, Residual) :])):
            raise ValueError(f"Embedding must be the first layer, because it reads columns of X, got {first!r} there")
        if not isinstance(self.layers[-1], Dense):
            raise ValueError(f"the last layer must be Dense, got {shown(self.layers[-1])}")
        output = self.head
        if abs(output._formula.threshold) > most:
            raise ValueError(f"the range of the output must lie within {self.dtype}'s, got {output.activation!r}")
        if any(node.layer._kernel in ROW_WISE for node in self.nodes[:-1]):
            raise ValueError('"softmax" is an activation of the last layer only')
        for layer in (node.layer for node in self.nodes):
            if isinstance(layer, (LayerNorm, BatchNorm)) and not least <= layer.epsilon <= most:
                raise ValueError(f"epsilon must be a normal number in {self.dtype}, got {layer.epsilon!r}")
            if isinstance(layer, PReLU) and abs(layer.init) > most:
                raise ValueError(f"init of PReLU must be a finite number in {self.dtype}, got {layer.init!r}")
        if output.activation == "softmax" and output.units == 1:
            raise ValueError(
                '"softmax" needs at least two outputs, got 1; use "sigmoid" for two classes with one output'
            )

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone, without what follows from them."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @property
    def loss_name(self) -> str:
        """The loss's name, without its parameter."""
        return name_of(self.loss)

    @property
    def _loss_formula(self) -> LossFormula:
        return LOSSES[kernel_name(self.loss, self.head._kernel)]

    @property
    def embedding(self) -> Embedding | None:
        """The first layer, if some inputs are codes."""
        first = self.layers[0]
        return first if isinstance(first, Embedding) else None

    @cached_property
    def shifted(self) -> bool:
        """Whether programs read the shift and the scale of the inputs, instead of a scale that they hold."""
        several = isinstance(self.input_scale, tuple) or isinstance(self.input_shift, tuple)
        return several or self.own_inputs or bool(self.input_shift)

    @property
    def affine(self) -> NDArray[np.float64]:
        """The shift and the scale of each input, (2, n_inputs); not of the members of a population."""
        found = np.empty((2, self.n_inputs))
        for row, (name, neutral) in zip(found, NEUTRAL.items(), strict=True):
            value = getattr(self, name)
            row[:] = neutral if value is None else value
        return found

    @cached_property
    def targets(self) -> TargetsKind:
        """The targets that the loss takes."""
        return self._loss_formula.targets

    @cached_property
    def n_targets(self) -> int:
        """How many targets a sample has: as many as outputs, unless the loss takes several for each."""
        return self.head.units // self._loss_formula.outputs

    @property
    def head(self) -> Dense:
        """The last layer."""
        head = self.layers[-1]
        assert isinstance(head, Dense)
        return head

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """The list of layers that the kernels walk."""
        return _nodes(self.layers, self.n_inputs)

    @cached_property
    def numbered(self) -> tuple[Node, ...]:
        """The nodes that have tensors, in the order of their numbers."""
        return tuple(node for node in self.nodes if node.number is not None)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Inputs, then each numbered layer's neurons."""
        return (self.n_inputs, *(node.units for node in self.numbered))

    def described(self, name: str = "Model", members: str = "") -> str:
        """The call of `Model` that makes such a network, as its repr shows it; or that of `Population`."""
        inner = ", ".join([str(self.n_inputs), *(layer._described() for layer in self.layers)])
        inputs = "".join(input_map.shown(each, getattr(self, each)) for each in NEUTRAL)
        inputs += ", <input_shift and input_scale of each member>" * self.own_inputs
        return f"{name}([{inner}]{members}, loss={self.loss!r}{inputs}, dtype={self.dtype!r})"


def architecture(
    sizes_or_layers: Iterable[int | AnyLayer],
    activation: str | Activation,
    output: str | Activation,
    loss: AnyLoss,
    dtype: str,
    input_scale: Any,
    input_shift: Any = None,
) -> Architecture:
    """The architecture that such arguments of `Model` describe, a list such as [784, Dense(30, "tanh"), 10]."""
    items = scalars.items("sizes", sizes_or_layers, "a sequence such as [784, 30, 10]")
    rest = activation, output, loss, dtype, input_scale, input_shift
    if {int, *map(type, items)} == {int} and {*map(type, rest)} <= {str, float, type(None)}:
        return _known(*items, *rest)
    return _checked(items, rest)


@functools.lru_cache(KNOWN, typed=True)
def _known(*arguments: Any) -> Architecture:
    """What `_checked` gives for numbers and names, which keep nothing of the user's in memory."""
    return _checked(list(arguments[:-6]), arguments[-6:])


def _checked(items: list[Any], rest: tuple[Any, ...]) -> Architecture:
    """The architecture of a list of sizes and layers, and of the other arguments; raises for a wrong one."""
    activation, output, loss, dtype, input_scale, input_shift = rest
    check_activation("activation", activation, HIDDEN)
    check_activation("output", output, NAMES)
    if len(items) < 2:
        raise ValueError(
            f"sizes must name the inputs and at least one layer, such as [784, 30, 10], got {shown(items)}"
        )
    if isinstance(items[0], _Layer):
        raise TypeError(f"sizes[0] must be the number of inputs, an integer, got {shown(items[0])}")
    layers = []
    for i, item in enumerate(items[1:], 1):
        if not isinstance(item, _Layer):
            default = output if i == len(items) - 1 else activation
            item = Dense(scalars.integer(f"sizes[{i}]", item, 1, MAX_UNITS), default)
        layers.append(item)
    n_inputs = scalars.integer("sizes[0]", items[0], 1, MAX_UNITS)
    return Architecture(n_inputs, tuple(layers), loss, dtype, input_scale, input_shift=input_shift)
