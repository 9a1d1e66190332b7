"""A model as a file holds it: a description, and tensors by name."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..checks import scalars
from ..checks.scalars import shown
from ..data import arrays
from ..kernels.formulas.update_rules import MAX_NUMBERS, OPTIMIZERS, POSITIONS
from ..network.network import Network
from ..settings import losses, optimizers
from ..settings.custom import Activation, Loss
from ..settings.layers import AnyLayer, Architecture, BatchNorm, Dense, Embedding, LayerNorm, PReLU, Residual, Scale
from ..settings.optimizers import Optimizer

MAX_STEPS = 2**48  # that an optimizer has done: a microsecond each, they take nine years
_ALL = Dense, PReLU, Scale, LayerNorm, BatchNorm, Embedding, Residual
KINDS: dict[str, Any] = {kind.__name__: kind for kind in _ALL}
Tensors = dict[str, NDArray[Any]]


class Contents(NamedTuple):
    """What a file holds of a model."""

    network: Network
    split_seed: int
    feature_names: tuple[str, ...] | None


def written(contents: Contents, optimizer: bool) -> tuple[dict[str, Any], Tensors]:
    """(the description, the tensors) of a model; with `optimizer`, of what its optimizer keeps too."""
    network = contents.network
    description = {
        **described(network.architecture),
        "random": network.random,
        "noise": network.noise,
        "split_seed": contents.split_seed,
        "feature_names": contents.feature_names,
    }
    tensors = tensors_of("", network, network.parameters)
    state = network.optimizer_state() if optimizer else None
    if state is not None:
        used, vectors, numbers = state
        settings = optimizers.described(used)
        if settings is None:
            what, why = f"{type(used).__name__}'s state", "its learning rate or weight decay is a function"
            without = "optimizer=False leaves it out without a warning"
            warnings.warn(f"{what} is not saved, because {why}; {without}", stacklevel=3)
        else:
            description["optimizer"] = {**settings, "numbers": numbers.ravel().tolist()}
            names = OPTIMIZERS[used._kernel].vectors
            for name, vector in zip(names, vectors.reshape(-1, network.parameters.size), strict=True):
                tensors |= tensors_of(f"optimizer.{name}.", network, vector)
    return description, tensors


def described(architecture: Architecture) -> dict[str, Any]:
    """What stands for an architecture in a file."""
    by_name(functions_of(architecture))
    return {
        "n_inputs": architecture.n_inputs,
        "layers": [_described(layer) for layer in architecture.layers],
        "loss": losses.described(architecture.loss),
        "dtype": architecture.dtype,
        "input_shift": architecture.input_shift,
        "input_scale": architecture.input_scale,
        "frozen": sorted(architecture.frozen),
    }


def read(
    d: dict[str, Any], tensors: Tensors, custom: Mapping[str, Any], optimizer: Optimizer | None = None
) -> Contents:
    """The model of a description and its tensors, as `written` gave them; raises where they do not fit each other.

    With `optimizer` that is the one described; its numbers may lie outside what fastnn's own allow.
    """
    architecture, used = architecture_of(d, custom), optimizer
    if used is None and "optimizer" in d:
        used = optimizers.resolve(optimizers.restored(d["optimizer"]))
    names = () if used is None else OPTIMIZERS[used._kernel].vectors
    prefixes = ["", *(f"optimizer.{name}." for name in names)]
    _check_shapes(architecture, prefixes, tensors)
    network = Network(architecture, scalars.integer("random", d["random"], 0))
    if "noise" in d:
        network.state["noise"] = scalars.integer("noise", d["noise"], 0)
    _read_tensors(tensors, "", network, network.parameters)
    network.check_least(network.parameters)
    if used is not None:
        numbers = _numbers(used, d["optimizer"]["numbers"])
        vectors = network.vectors_for(used) * 0
        for name, prefix, vector in zip(names, prefixes[1:], vectors.reshape(-1, network.parameters.size), strict=True):
            _read_tensors(tensors, prefix, network, vector)
            if name in OPTIMIZERS[used._kernel].not_negative and vector.min() < 0:
                raise ValueError(f"the tensors optimizer.{name} must not be negative, got {vector.min():g}")
        network.restore_optimizer(used, vectors, numbers)
    split_seed = scalars.integer("split_seed", d["split_seed"], 0)
    return Contents(network, split_seed, arrays.feature_names(d.get("feature_names"), architecture.n_inputs))


def architecture_of(d: dict[str, Any], custom: Mapping[str, Any]) -> Architecture:
    """The architecture of a description."""
    layers = tuple(_layer(layer, custom) for layer in d["layers"])
    n_inputs = scalars.integer("n_inputs", d["n_inputs"], 1)
    if not layers:
        raise ValueError("it has no layer")
    loss = losses.restored(user_function(d["loss"], Loss, custom))
    inputs = {"input_shift": d.get("input_shift"), "input_scale": d["input_scale"]}
    architecture = Architecture(n_inputs, layers, loss, d["dtype"], **inputs)
    most = len(architecture.numbered) - 1
    return replace(architecture, frozen=frozenset(scalars.integer("frozen", i, 0, most) for i in d["frozen"]))


def _check_shapes(architecture: Architecture, prefixes: list[str], tensors: Tensors) -> None:
    """Raise where the tensors are not those of such layers, once for each prefix."""
    shapes: dict[str, tuple[int, ...]] = {}
    dtype = architecture.dtype
    for prefix, node in itertools.product(prefixes, architecture.numbered):
        shapes |= {f"{prefix}layers.{node.number}.{name}": shape for name, shape in node.shapes.items()}
    if shapes.keys() != tensors.keys():
        raise ValueError(f"its tensors are {sorted(tensors)}, not {sorted(shapes)}")
    for name, tensor in tensors.items():
        if tensor.shape != shapes[name] or tensor.dtype != dtype:
            raise ValueError(f"{name} is {tensor.dtype} {tensor.shape}, not {dtype} {shapes[name]}")


def tensors_of(prefix: str, network: Network, vector: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """The tensors of a file for a vector laid out like the parameters."""
    layers = enumerate(network.tensors_of(vector))
    return {f"{prefix}layers.{i}.{name}": tensor for i, each in layers for name, tensor in each.items()}


def _read_tensors(tensors: dict[str, NDArray[Any]], prefix: str, network: Network, vector: NDArray[Any]) -> None:
    """Copy such tensors into a vector."""
    for name, place in tensors_of(prefix, network, vector).items():
        place[...] = tensors[name]


def _numbers(optimizer: Optimizer, found: Any) -> NDArray[np.float64]:
    """An optimizer's numbers in a file, as STATE holds them: powers in [0, 1], zeros, and the steps and epochs done."""
    if not isinstance(found, list) or len(found) != MAX_NUMBERS:
        raise ValueError(f"an optimizer's numbers must be a list of {MAX_NUMBERS}, got {shown(found)}")
    highest = dict.fromkeys(range(len(OPTIMIZERS[optimizer._kernel].state)), 1.0)
    highest |= dict.fromkeys(POSITIONS.values(), float(MAX_STEPS))
    for i, value in enumerate(found):
        number, most = scalars.number(f"numbers[{i}]", value, 0.0), highest.get(i, 0.0)
        if number > most or (most > 1 and not number.is_integer()):
            kind = "a whole number" if most > 1 else "a number"
            raise ValueError(f"numbers[{i}] must be {kind} of at most {most:g}, got {shown(value)}")
    return np.array([found], np.float64)


def functions_of(architecture: Architecture) -> list[Any]:
    """The activations of all layers, and the loss: names, or functions of the user's."""
    return [*(node.layer.activation for node in architecture.nodes), architecture.loss]


def by_name(values: Iterable[Any]) -> dict[str, Activation | Loss]:
    """The functions of the user's among values, by their names; raises where two have one name."""
    known: dict[str, Activation | Loss] = {}
    for each in values:
        if isinstance(each, (Activation, Loss)) and known.setdefault(each.name, each) != each:
            raise ValueError(
                f"a file holds functions of your own by their names, so they must differ, got {each.name!r} for two: "
                f"{type(known[each.name]).__name__}(..., name='...') gives a name"
            )
    return known


def _described(layer: AnyLayer) -> dict[str, Any]:
    """What stands for a layer in a file: its settings, and its kind where that is not `Dense`."""
    found = {name: getattr(layer, name) for name in layer.__dataclass_fields__}
    if isinstance(layer, Residual):
        found["layers"] = [_described(each) for each in layer.layers]
    if isinstance(layer.activation, Activation):
        found["activation"] = {"custom": layer.activation.name}
    return found if isinstance(layer, Dense) else {"kind": type(layer).__name__, **found}


def _layer(description: Any, custom: Mapping[str, Any]) -> AnyLayer:
    """The layer of a description."""
    settings = dict(description)
    name = scalars.choice("kind", settings.pop("kind", "Dense"), KINDS)
    kind, expected = KINDS[name], KINDS[name].__dataclass_fields__.keys()
    if settings.keys() != expected:
        raise ValueError(f"a layer {name} must have the settings {sorted(expected)}, got {sorted(settings)}")
    if "activation" in settings:
        settings["activation"] = user_function(settings["activation"], Activation, custom)
    inner = [_layer(each, custom) for each in settings.pop("layers", ())]
    return kind(*inner, **settings)


def user_function(description: Any, kind: type, custom: Mapping[str, Any]) -> Any:
    """A user's activation or loss of the kind, where a file names one; else what the file has."""
    if not isinstance(description, dict) or "custom" not in description:
        return description
    name = description["custom"]
    if not isinstance(found := custom.get(name), kind):
        raise ValueError(f"custom must map {name!r} to the {kind.__name__} that the model uses, got {shown(found)}")
    return found
