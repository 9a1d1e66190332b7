"""`Model.to_keras`: a network as a model of Keras."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from ..kernels.formulas.activations import LEAK
from ..model import Model
from ..settings.layers import BatchNorm, Dense, LayerNorm, PReLU
from .keras_import import ACTIVATIONS, LEAST_DEVIATION

_NAMES = {ours: theirs for theirs, ours in ACTIVATIONS.items() if theirs != "swish"}


def to_keras(model: Model) -> Any:
    """A Sequential model of Keras that predicts what a model predicts, see `Model.to_keras`."""
    for i, layer in enumerate(model.layers):
        if not isinstance(layer, (Dense, BatchNorm, LayerNorm, PReLU)):
            raise ValueError(f"Keras has no layer such as layers[{i}], {type(layer).__name__}")
        if layer.activation != "leaky_relu" and layer.activation not in _NAMES:
            raise ValueError(f"Keras has no activation such as that of layers[{i}], {layer.activation!r}")
    keras = _keras()
    layers = [*_inputs(keras, model)]
    for i, (layer, tensors) in enumerate(zip(model.layers, model.tensors, strict=True)):
        made = _layer(keras, layer, model.dtype)
        made[0].trainable = i not in model.frozen
        made[0].build((None, model.sizes[i]))
        weights = [tensor.T for tensor in tensors.values()]
        made[0].set_weights(weights)
        if made[0].get_weights()[0].dtype != model.dtype:
            raise ValueError(f"Keras' backend must hold {model.dtype}; JAX needs jax_enable_x64 for float64")
        layers += made
    return keras.Sequential([keras.Input((model.sizes[0],), dtype=model.dtype), *layers])


def _keras() -> Any:
    """The package keras, or an error that says how to get it."""
    try:
        return import_module("keras")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("to_keras needs Keras 3 and one of its backends: pip install keras") from error


def _inputs(keras: Any, model: Model) -> list[Any]:
    """What shifts and scales the inputs, where that is needed."""
    shift, scale = (np.asarray(0.0 if each is None else each) for each in (model.input_shift, model.input_scale))
    scale = np.ones(()) if model.input_scale is None else scale
    if not shift.any():
        return [keras.layers.Rescaling(scale.tolist(), dtype=model.dtype)] if (scale != 1).any() else []
    shift, scale = np.broadcast_arrays(shift, scale)
    if (scale >= LEAST_DEVIATION).all() and (scale <= 1 / LEAST_DEVIATION).all():
        numbers = {"mean": shift.tolist(), "variance": (scale**-2.0).tolist()}
        return [keras.layers.Normalization(axis=-1 if shift.ndim else None, **numbers, dtype=model.dtype)]
    return [keras.layers.Rescaling(scale.tolist(), (0 - shift * scale).tolist(), dtype=model.dtype)]


def _layer(keras: Any, layer: Any, dtype: str) -> list[Any]:
    """A layer of Keras, and what activates it."""
    kinds = keras.layers
    leaky = [kinds.LeakyReLU(negative_slope=LEAK, dtype=dtype)] if layer.activation == "leaky_relu" else []
    name = None if leaky else _NAMES[layer.activation]
    if isinstance(layer, Dense):
        return [kinds.Dense(layer.units, activation=name, dtype=dtype), *leaky]
    activated = leaky if leaky or name == "linear" else [kinds.Activation(name, dtype=dtype)]
    if isinstance(layer, BatchNorm):
        settings = {"momentum": 1 - layer.momentum, "epsilon": layer.epsilon}
        return [kinds.BatchNormalization(**settings, dtype=dtype), *activated]
    if isinstance(layer, LayerNorm):
        return [kinds.LayerNormalization(epsilon=layer.epsilon, dtype=dtype), *activated]
    return [kinds.PReLU(dtype=dtype)]
