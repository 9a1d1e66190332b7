"""`from_keras`: a network of Keras as a `Model`."""

from __future__ import annotations

import contextlib
import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import file_paths, scalars
from ..checks.scalars import MAX_UNITS, shown
from ..kernels.formulas.activations import LEAK
from ..model import Model
from ..settings import losses
from ..settings.layers import BatchNorm, Dense, LayerNorm
from ..settings.losses import AnyLoss, Huber
from . import keras_files
from .imported import Imported
from .keras_files import KerasModel, Variable

LEAST_DEVIATION = 1e-7  # what Keras divides by at least where it normalises inputs
ACTIVATIONS = {  # Keras' names and fastnn's
    "linear": "identity",
    "relu": "relu",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "softmax": "softmax",
    "elu": "elu",
    "selu": "selu",
    "gelu": "gelu",
    "silu": "silu",
    "swish": "silu",
    "mish": "mish",
    "softplus": "softplus",
    "exponential": "exp",
    "hard_sigmoid": "hard_sigmoid",
}
LOSSES = {  # Keras' names, of functions and of classes, and fastnn's
    **dict.fromkeys(("mse", "mean_squared_error", "MeanSquaredError"), "quadratic"),
    **dict.fromkeys(("mae", "mean_absolute_error", "MeanAbsoluteError"), "absolute_error"),
    **dict.fromkeys(("huber", "huber_loss", "Huber"), "huber"),
    **dict.fromkeys(("log_cosh", "logcosh", "LogCosh"), "log_cosh"),
    **dict.fromkeys(("hinge", "Hinge"), "hinge"),
    **dict.fromkeys(("poisson", "Poisson"), "poisson"),
    **dict.fromkeys(("binary_crossentropy", "bce", "BinaryCrossentropy"), "cross_entropy"),
    **dict.fromkeys(("categorical_crossentropy", "CategoricalCrossentropy"), "cross_entropy"),
    **dict.fromkeys(("sparse_categorical_crossentropy", "SparseCategoricalCrossentropy"), "cross_entropy"),
}
_SMALL = ("float16", "bfloat16", "float32", "mixed_float16", "mixed_bfloat16")  # policies that become float32


def from_keras(path_or_model: Any, *, loss: AnyLoss | None = None) -> Model:
    """A network of Keras as a `Model`, which predicts the same and goes on training.

    Read are a `.keras` file of Keras 3, the older HDF5 files (`.h5`), both with h5py alone and without Keras, and a
    model of Keras in memory. Nothing in a file runs. Sequential models and Functional ones that are a single chain of
    layers: `Dense`, `BatchNormalization`, `LayerNormalization`, `PReLU`, activations, `Flatten`, `Normalization` and
    `Rescaling`. Layers for training alone, such as `Dropout`, are left out. Layers that do not train are frozen.
    Numbers of 16 bits become float32. The optimizer stays behind.

    Parameters
    ----------
    path_or_model : str, path or model of Keras
        A file needs the extra `keras`, which is h5py.
    loss : str, Huber, Quantile or Loss
        As of `Model`. None takes the one that the network was compiled with, where fastnn has it for that output; else
        a `UserWarning` says so. A network that was not compiled gets "cross_entropy" with softmax, else "quadratic".

    Raises ValueError, which names the layer, its class and the reason, for a network that fastnn cannot hold, and for a
    file that is damaged; FileNotFoundError where there is none.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> class Layer:  # as Keras has it
    ...     name = "dense"
    ...
    ...     def get_weights(self):
    ...         return [np.array([[1.0], [2.0]]), np.array([3.0])]
    >>> class Sequential:
    ...     layers = [Layer()]
    ...
    ...     def get_config(self):
    ...         inputs = {"class_name": "InputLayer", "config": {"name": "inputs", "batch_shape": [None, 2]}}
    ...         dense = {"class_name": "Dense", "config": {"name": "dense", "units": 1}}
    ...         return {"layers": [inputs, dense]}
    >>> fastnn.from_keras(Sequential()).predict([[10, 100]])
    array([[213.]], dtype=float32)
    """
    if loss is not None:
        losses.check(loss, "float64")
    if isinstance(path_or_model, (str, os.PathLike)):
        with keras_files.opened(file_paths.path(path_or_model)) as found:
            return _model_of(found, loss)
    if not all(hasattr(path_or_model, name) for name in ("get_config", "layers")):
        raise TypeError(f"path_or_model must be a path or a model of Keras, got {shown(path_or_model)}")
    return _model_of(keras_files.of_object(path_or_model), loss)


# ---- layers in the making ----


@dataclass(frozen=True)
class KerasLayer:
    """A layer as Keras describes it."""

    kind: str  # the name of its class
    name: str
    config: dict[str, Any]
    version: int  # of Keras: 2 or 3
    variables: Callable[[], list[Variable]]

    @contextlib.contextmanager
    def named(self) -> Iterator[None]:
        """A context whose errors name the layer."""
        try:
            yield
        except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
            said = str(error) or type(error).__name__
            raise ValueError(f"layer {shown(self.name)} of class {shown(self.kind)}: {said}") from None

    def flag(self, key: str, default: bool) -> bool:
        return scalars.boolean(key, self.config.get(key, default))

    def number(self, key: str, default: float) -> float:
        return scalars.number(key, self.config.get(key, default), -math.inf)

    def must_lack(self, *keys: str) -> None:
        """Raise where one of such settings is set."""
        for key in keys:
            if self.config.get(key):
                raise ValueError(f"fastnn has no {key}, got {shown(self.config[key])}")


class _Network(Imported):
    """A network in the making, whose values have axes until they are flattened."""

    def __init__(self, shape: tuple[int, ...], dtype: str, n_bytes: float):
        super().__init__(scalars.integer("the number of inputs", math.prod(shape), 1, MAX_UNITS))
        self.shape, self.dtype = shape, dtype
        self.n_bytes = n_bytes  # of arrays that may still be made

    def row(self) -> int:
        """How many numbers a row has."""
        if len(self.shape) != 1:
            raise ValueError(f"it reads values of shape {self.shape}, fastnn has rows of numbers: Flatten them first")
        return self.shape[0]

    def take(self, n_bytes: int) -> None:
        """Note that an array is made; raises where arrays would need more memory than the file can have numbers."""
        self.n_bytes -= n_bytes
        if self.n_bytes < 0:
            raise ValueError("it has more numbers than the file")

    def read(self, source: KerasLayer, shapes: Sequence[tuple[int, ...]], further: int = 0) -> list[NDArray[Any]]:
        """The first variables of a layer, which must have these shapes, in the network's dtype; further may follow."""
        found = source.variables()
        if len(found) != len(shapes) + further or any(
            variable.shape != shape for variable, shape in zip(found, shapes, strict=False)
        ):
            got = [variable.shape for variable in found]
            raise ValueError(f"it must have variables of the shapes {[*shapes]}{' and a count' * further}, got {got}")
        arrays = []
        for variable in found[: len(shapes)]:
            self.take(variable.n_bytes)
            with np.errstate(over="ignore"):
                values = np.asarray(variable.read()).astype(self.dtype, copy=False)
            if not np.isfinite(values).all():
                raise ValueError(f"its variables must be finite in {self.dtype}")
            arrays.append(values)
        return arrays

    def filled(self, value: float, width: int) -> NDArray[Any]:
        """A vector in place of a variable that a layer does not have."""
        self.take(width * np.dtype(self.dtype).itemsize)
        return np.full(width, value, self.dtype)


# ---- what each class of layers becomes ----


def _dense(network: _Network, source: KerasLayer) -> None:
    source.must_lack("quantization_config", "lora_rank")
    width = network.row()
    config = source.config
    units = scalars.integer("units", config.get("units", config.get("output_dim")), 1, MAX_UNITS)  # or as of Keras 1
    with_bias = source.flag("use_bias", config.get("bias", True))
    kernel, *biases = network.read(source, [(width, units), *[(units,)] * with_bias])
    bias = biases[0] if biases else network.filled(0.0, units)
    network.dense(kernel.T, bias)
    network.shape = (units,)
    network.activate(_activation(config.get("activation"), source.version))


def _gains(source: KerasLayer, width: int) -> list[tuple[int, ...]]:
    """The shapes of a normalisation's factors and shifts."""
    if source.config.get("axis", -1) not in (-1, 1, [-1], [1]):
        raise ValueError(f"axis must be -1, got {shown(source.config['axis'])}")
    return [(width,)] * (source.flag("scale", True) + source.flag("center", True))


def _with_gains(network: _Network, source: KerasLayer, found: list[NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """A normalisation's weight and bias, of which a layer of Keras may lack one or both; takes them from `found`."""
    return {
        name: found.pop(0) if source.flag(key, True) else network.filled(neutral, network.row())
        for name, key, neutral in (("weight", "scale", 1.0), ("bias", "center", 0.0))
    }


def _batch_norm(network: _Network, source: KerasLayer) -> None:
    source.must_lack("renorm", "virtual_batch_size")
    width = network.row()
    found = network.read(source, [*_gains(source, width), (width,), (width,)])
    gains = _with_gains(network, source, found)
    mean, variance = found
    if (variance < 0).any():
        raise ValueError("its moving variance must not be negative")
    layer = BatchNorm(1.0 - source.number("momentum", 0.99), source.number("epsilon", 1e-3))
    network.add(layer, **gains, running_mean=mean, running_variance=variance)


def _layer_norm(network: _Network, source: KerasLayer) -> None:
    source.must_lack("rms_scaling")
    found = network.read(source, _gains(source, network.row()))
    network.add(LayerNorm(source.number("epsilon", 1e-3)), **_with_gains(network, source, found))


def _prelu(network: _Network, source: KerasLayer) -> None:
    source.must_lack("shared_axes")
    (slopes,) = network.read(source, [(network.row(),)])
    network.prelu(slopes)


def _normalization(network: _Network, source: KerasLayer) -> None:
    axis = source.config.get("axis", -1)
    if axis not in (-1, 1, [-1], [1], (-1,), (1,), None, [], ()):
        raise ValueError(f"axis must be -1 or None, got {shown(axis)}")
    shape = () if axis in (None, [], ()) else (network.row(),)
    mean, variance = (source.config.get(name) for name in ("mean", "variance"))
    if mean is None:
        mean, variance = network.read(source, [shape, shape], further=1)
    mean, variance = _numbers(network, "mean", mean), _numbers(network, "variance", variance)
    if (variance < 0).any():
        raise ValueError("its variance must not be negative")
    deviation = np.maximum(np.sqrt(variance), LEAST_DEVIATION)
    if source.flag("invert", False):
        network.affine(deviation, mean)
    else:
        network.affine(1.0, -mean)
        network.affine(1 / deviation, 0.0)


def _rescaling(network: _Network, source: KerasLayer) -> None:
    scale = _numbers(network, "scale", source.config.get("scale"))
    network.affine(scale, _numbers(network, "offset", source.config.get("offset", 0.0)))


def _numbers(network: _Network, name: str, value: Any) -> NDArray[np.float64]:
    """A number of a config, (), or one for each value of a row."""
    if isinstance(value, dict) and value.get("class_name") == "__numpy__":
        value = value["config"]["value"]
    try:
        found = np.array(value, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a number or a list of them, got {shown(value)}") from None
    if found.size != 1 and found.shape != (network.row(),):
        raise ValueError(f"{name} must be a number, or {network.row()}, got the shape {found.shape}")
    return found.reshape(()) if found.size == 1 else found


def _flatten(network: _Network, source: KerasLayer) -> None:
    if source.config.get("data_format") == "channels_first" and len(network.shape) > 1:
        raise ValueError("data_format must be 'channels_last', because the others come in another order")
    network.shape = (math.prod(network.shape),)


def _reshape(network: _Network, source: KerasLayer) -> None:
    target, n = source.config.get("target_shape"), math.prod(network.shape)
    if not isinstance(target, (list, tuple)) or [*target] not in ([n], [-1]):
        raise ValueError(f"target_shape must be that of rows, [{n}], got {shown(target)}")
    network.shape = (n,)


def _ignored(network: _Network, source: KerasLayer) -> None:
    """Of training alone."""


def _activated(network: _Network, source: KerasLayer) -> None:
    network.activate(_activation({"class_name": source.kind, "config": source.config}, source.version))


def _activation(found: Any, version: int) -> str:
    """fastnn's name of what Keras has as an activation: a name, or the description of a layer."""
    if found is None:
        return "identity"
    if isinstance(found, str):
        if found == "leaky_relu":
            raise ValueError(f"its leaky_relu has the slope 0.2 below zero, fastnn's {LEAK}")
        if found == "hard_sigmoid" and version < 3:
            raise ValueError("hard_sigmoid of Keras 2 is 0.2 x + 0.5, fastnn's x / 6 + 0.5")
        if found not in ACTIVATIONS:
            raise ValueError(f"fastnn has no activation {shown(found)}")
        return ACTIVATIONS[found]
    kind, config = (found.get("class_name"), found.get("config")) if isinstance(found, dict) else (None, None)
    if kind not in _ACTIVATION_LAYERS or not isinstance(config, dict):
        raise ValueError(f"fastnn has no activation {shown(found)}")
    return _ACTIVATION_LAYERS[kind](config, version)


def _relu(config: dict[str, Any], version: int) -> str:
    for key, none in (("max_value", None), ("threshold", 0)):
        if (value := config.get(key)) not in (None, none):
            raise ValueError(f"fastnn's relu has no {key}, got {shown(value)}")
    slope = config.get("negative_slope")
    return "relu" if slope is None or _number("negative_slope", slope) == 0 else _leaky(slope)


def _leaky(slope: Any) -> str:
    if abs(_number("the slope", slope) - LEAK) > 1e-9:  # a slope may have been rounded to float32
        raise ValueError(f"its slope below zero is {slope:g}, that of fastnn's leaky_relu {LEAK}")
    return "leaky_relu"


def _elu(config: dict[str, Any], version: int) -> str:
    if _number("alpha", config.get("alpha", 1.0)) != 1:
        raise ValueError(f"fastnn's elu has alpha 1, got {config['alpha']:g}")
    return "elu"


def _softmax(config: dict[str, Any], version: int) -> str:
    if config.get("axis", -1) not in (-1, 1, [-1], [1]):
        raise ValueError(f"axis of softmax must be -1, got {shown(config['axis'])}")
    return "softmax"


def _number(name: str, value: Any) -> float:
    return scalars.number(name, value, -math.inf)


_ACTIVATION_LAYERS: dict[Any, Callable[[dict[str, Any], int], str]] = {
    "Activation": lambda config, version: _activation(_named(config.get("activation")), version),
    "ReLU": _relu,
    "LeakyReLU": lambda config, version: _leaky(config.get("negative_slope", config.get("alpha", 0.3))),
    "ELU": _elu,
    "Softmax": _softmax,
}


def _named(activation: Any) -> Any:
    """What an Activation layer has, unless it is one itself, so that descriptions do not lie in each other."""
    if isinstance(activation, dict) and activation.get("class_name") == "Activation":
        raise ValueError("its activation must not be a layer Activation")
    return activation


_LAYERS: dict[str, Callable[[_Network, KerasLayer], None]] = {
    "Dense": _dense,
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "PReLU": _prelu,
    "Normalization": _normalization,
    "Rescaling": _rescaling,
    "Flatten": _flatten,
    "Reshape": _reshape,
    **dict.fromkeys(_ACTIVATION_LAYERS, _activated),
    **dict.fromkeys(("Dropout", "AlphaDropout", "GaussianDropout", "GaussianNoise"), _ignored),
    **dict.fromkeys(("ActivityRegularization", "Identity"), _ignored),
}


# ---- the chain ----


def _model_of(found: KerasModel, loss: AnyLoss | None) -> Model:
    """The model of Keras' description and variables."""
    sources, shape = _chain(found)
    network = _Network(shape, _dtype(sources), found.n_bytes + 2**20)
    of_layers = list[KerasLayer]()
    for source in sources:
        with source.named():
            if source.kind not in _LAYERS:
                raise ValueError("fastnn has no such layer")
            _LAYERS[source.kind](network, source)
        n = len(network.layers)  # a softmax may fold the normalisation before it
        of_layers = of_layers[:n] + [source] * (n - len(of_layers))
    if not of_layers:
        raise ValueError("it has no layer Dense")
    with of_layers[-1].named():
        head = network.end()
    loss = _loss(found.loss, head) if loss is None else loss
    model = network.model(None, loss, network.dtype, None)
    frozen = [i for i in range(len(model.layers)) if not of_layers[i].flag("trainable", True)]
    if frozen:
        model.freeze(frozen)
    return model


def _chain(found: KerasModel) -> tuple[list[KerasLayer], tuple[int, ...]]:
    """(the layers behind the inputs, in their order; the shape of the inputs without their rows)."""
    config = found.config
    if found.kind not in ("Sequential", "Functional", "Model"):
        raise ValueError(f"a model of Keras must be Sequential or Functional, got the class {shown(found.kind)}")
    if not isinstance(config, dict) or not isinstance(config.get("layers"), list) or not config["layers"]:
        raise ValueError("a model of Keras must have a list of layers")
    described, sources = config["layers"], []
    for i, each in enumerate(described):
        sources.append(_source(each, i, found))
    if "input_layers" in config:
        order = _order(config, described, sources)
    elif found.kind == "Sequential":
        order = [*range(len(sources))]
    else:
        raise ValueError("a Functional model must have input_layers")
    first = sources[order[0]]
    shapes = [first.config.get(key) for key in ("batch_shape", "batch_input_shape")]
    shapes += [config.get("build_input_shape")]
    with first.named():
        if first.kind == "InputLayer":
            first_of_rest = order[1:]
            if first.config.get("ragged"):
                raise ValueError("fastnn has no ragged inputs")
            if not str(first.config.get("dtype", "float32")).startswith(("float", "int", "uint", "bfloat", "bool")):
                raise ValueError(f"inputs must be numbers, got {shown(first.config.get('dtype'))}")
        else:
            first_of_rest = order
        shape = next((shape for shape in shapes if shape is not None), None)
        if not isinstance(shape, (list, tuple)) or len(shape) < 2:
            raise ValueError(f"the shape of the inputs must be that of rows of numbers, got {shown(shape)}")
        sizes = tuple(scalars.integer("the shape of the inputs", n, 1, MAX_UNITS) for n in shape[1:])
    return [sources[i] for i in first_of_rest], sizes


def _source(described: Any, index: int, found: KerasModel) -> KerasLayer:
    """A layer of a model's description."""
    config = described.get("config") if isinstance(described, dict) else None
    kind = described.get("class_name") if isinstance(described, dict) else None
    if not isinstance(kind, str) or not isinstance(config, dict):
        raise ValueError(f"layers[{index}] must have a class_name and a config, got {shown(described)}")
    name, module = config.get("name"), described.get("module")
    source = KerasLayer(kind, str(name)[:100], config, found.version, lambda: found.variables_of(index))
    with source.named():
        if not (module is None or str(module).startswith("keras")) or described.get("registered_name") not in (
            None,
            kind,
        ):
            raise ValueError("it is not one of Keras' own")
    return source


def _order(config: dict[str, Any], described: list[Any], sources: list[KerasLayer]) -> list[int]:
    """The indices of a Functional model's layers, from its inputs on, where each reads the one before it."""
    numbers = {source.config.get("name"): i for i, source in enumerate(sources)}
    if len(numbers) < len(sources):
        raise ValueError("a Functional model must have layers of different names")
    start, end = (_one(key, config.get(key)) for key in ("input_layers", "output_layers"))
    order, name = list[int](), end
    while len(order) < len(sources):
        if name not in numbers:
            raise ValueError(f"a layer reads {shown(name)}, which is no layer")
        order.append(numbers[name])
        if name == start:
            break
        with sources[order[-1]].named():
            name = _read_by(described[order[-1]].get("inbound_nodes"))
    if name != start or len(order) < len(sources):
        left = next((source for i, source in enumerate(sources) if i not in order), sources[order[-1]])
        with left.named():
            raise ValueError("fastnn has chains of layers, and this one lies beside the chain to the output")
    return order[::-1]


def _one(key: str, found: Any) -> Any:
    """The name in a list of the one input or output of a model: ["name", 0, 0], or that in a list."""
    if isinstance(found, (list, tuple)) and len(found) == 1:
        found = found[0]
    if not isinstance(found, (list, tuple)) or len(found) != 3 or not isinstance(found[0], str):
        raise ValueError(f"a Functional model must have one of {key}, got {shown(found)}")
    return found[0]


def _read_by(nodes: Any) -> str:
    """The name of the one layer that a layer reads, once."""
    if not isinstance(nodes, (list, tuple)) or len(nodes) != 1:
        count = len(nodes) if isinstance(nodes, (list, tuple)) else shown(nodes)
        raise ValueError(f"fastnn has layers that are used once, got {count} uses")
    node = nodes[0]
    if isinstance(node, dict):  # of Keras 3: arguments, some of them descriptions of values
        arguments, more = node.get("args", ()), node.get("kwargs")
        reads = [value for each in arguments for value in (each if isinstance(each, (list, tuple)) else [each])]
        found = [each["config"]["keras_history"] for each in reads if isinstance(each, dict)]
    else:  # of Keras 2: [["name", 0, 0, {}]]
        found, reads, more = [each[:3] for each in node], node, node[0][3] if len(node[0]) > 3 else {}
    if len(found) != 1 or len(reads) != 1:
        raise ValueError(f"fastnn has layers that read one other, got {len(reads)}")
    if more and any(value not in (None, False) for value in more.values()):
        raise ValueError(f"fastnn has no arguments of calls, got {shown(more)}")
    name, node_index, place = found[0]
    if node_index or place or not isinstance(name, str):
        raise ValueError(f"fastnn has layers with one output, got {shown(found[0])}")
    return name


def _dtype(sources: Sequence[KerasLayer]) -> str:
    """float64 where a layer has it, else float32."""
    found = "float32"
    for source in sources:
        policy = source.config.get("dtype", "float32")
        with source.named():
            if isinstance(policy, dict):
                policy = policy["config"]["name"]
            if policy == "float64":
                found = "float64"
            elif policy not in _SMALL:
                raise ValueError(f"its numbers must be float16, bfloat16, float32 or float64, got {shown(policy)}")
    return found


# ---- the loss ----


def _loss(compiled: Any, head: Dense) -> AnyLoss:
    """The loss that a network was compiled with, where fastnn has it for the output; else a default."""
    default = "cross_entropy" if head.activation == "softmax" else "quadratic"
    if compiled is None:
        return default
    name, settings = compiled, dict[str, Any]()
    if isinstance(compiled, dict):
        name, config = compiled.get("class_name"), compiled.get("config")
        name = config if name == "function" else name
        settings = config if isinstance(config, dict) else settings
    loss: AnyLoss | None = LOSSES.get(name) if isinstance(name, str) else None
    if loss == "huber" and "delta" in settings:
        with contextlib.suppress(TypeError, ValueError):
            loss = Huber(settings["delta"])
    if loss is None or settings.get("from_logits") or not losses.kernel_name(loss, str(head.activation)):
        warnings.warn(
            f"the network was compiled with the loss {shown(name)}, which fastnn has not for the output "
            f"{head.activation!r}; loss is {default!r}, and from_keras(.., loss=..) takes another one",
            stacklevel=4,
        )
        return default
    return loss
