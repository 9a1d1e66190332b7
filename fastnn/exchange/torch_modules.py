"""A model as a module of PyTorch, and modules for what PyTorch has none for. This file imports PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..checks.scalars import shown
from ..model import Model
from ..settings import layers as kinds
from ..settings.custom import Activation

FAR = 40.0  # above it PyTorch's softplus gives x, which it is to 1e-17 there


class InputMap(nn.Module):
    """(x - shift) * scale, each (n_inputs,). The shift is a pair of numbers, so that it loses no precision."""

    def __init__(self, high: torch.Tensor, low: torch.Tensor, scale: torch.Tensor):
        super().__init__()
        for name, value in (("high", high), ("low", low), ("scale", scale)):
            self.register_buffer(name, value)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ((x - self.high) - self.low).to(self.scale.dtype) * self.scale


class Residual(nn.Module):
    """What a module gives, and what it reads, added."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) + x


class Factors(nn.Module):
    """A trained factor for each neuron."""

    def __init__(self, weight: torch.Tensor):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight


class Tables(nn.Module):
    """Columns of numbers as they are, then rows of tables for columns of codes, see `fastnn.Embedding`."""

    def __init__(self, n_inputs: int, columns: Iterable[int], tables: Iterable[torch.Tensor]):
        super().__init__()
        self.n_inputs, self.columns = n_inputs, tuple(columns)
        self.numbers = [i for i in range(n_inputs) if i not in self.columns]
        self.tables = nn.ModuleList(nn.Embedding.from_pretrained(table, freeze=False) for table in tables)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = [table(x[:, i].long()) for i, table in zip(self.columns, self.tables, strict=True)]
        return torch.cat([x[:, self.numbers], *rows], dim=1)


class Exp(nn.Module):
    """e^x."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.exp()


class Step(nn.Module):
    """1 where x > 0, else 0."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x > 0).to(x.dtype)


# The module of each activation, made anew.
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "hard_sigmoid": nn.Hardsigmoid,
    "tanh": nn.Tanh,
    "exp": Exp,
    "step": Step,
    "softplus": lambda: nn.Softplus(threshold=FAR),
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "softmax": lambda: nn.Softmax(dim=1),
}


def module_of(model: Model) -> nn.Sequential:
    """The module of a model, in evaluation mode, see `Model.to_torch`."""
    architecture, tensors = model._network.architecture, iter(enumerate(model.tensors))
    modules = list[nn.Module]()
    shift, scale = architecture.affine
    if shift.any() or (scale != 1).any():
        high = shift.astype(model.dtype)
        modules.append(InputMap(*(_tensor(each, model.dtype) for each in (high, shift - high, scale))))
    modules += _modules(architecture.layers, model, tensors, model.sizes[0])
    return nn.Sequential(*modules).eval()


def _modules(
    layers: Iterable[kinds.AnyLayer], model: Model, tensors: Iterator[tuple[int, dict[str, Any]]], width: int
) -> Iterator[nn.Module]:
    """The modules of layers that read `width` numbers."""
    for layer in layers:
        if isinstance(layer, kinds.Residual):
            yield Residual(nn.Sequential(*_modules(layer.layers, model, tensors, width)))
        else:
            number, found = next(tensors)
            module = _module(layer, {name: _tensor(each, model.dtype) for name, each in found.items()}, width)
            width = layer._units(width)
            yield module.requires_grad_(number not in model.frozen)
        activation = layer.activation
        if isinstance(activation, Activation):
            raise ValueError(f"a module of PyTorch has no activation of your own, got {shown(activation.name)}")
        if activation != "identity":
            yield ACTIVATIONS[activation]()


def _module(layer: kinds.AnyLayer, found: dict[str, torch.Tensor], width: int) -> nn.Module:
    """The module of a layer with its tensors."""
    if isinstance(layer, kinds.Scale):
        return Factors(found["weight"])
    if isinstance(layer, kinds.Embedding):
        return Tables(width, layer.columns, found.values())
    made: nn.Module
    dtype = found["weight"].dtype
    if isinstance(layer, kinds.Dense):
        made = nn.utils.skip_init(nn.Linear, width, layer.units, dtype=dtype)
    elif isinstance(layer, kinds.PReLU):
        made = nn.PReLU(width, dtype=dtype)
    elif isinstance(layer, kinds.LayerNorm):
        made = nn.LayerNorm(width, layer.epsilon, dtype=dtype)
    elif isinstance(layer, kinds.BatchNorm):
        made = nn.BatchNorm1d(width, layer.epsilon, layer.momentum, dtype=dtype)
    else:
        raise TypeError(f"PyTorch has no module for {shown(layer)}")
    names = {"running_variance": "running_var"}
    made.load_state_dict({names.get(name, name): each for name, each in found.items()}, strict=False)
    return made


def _tensor(array: NDArray[Any], dtype: str) -> torch.Tensor:
    """A tensor with a copy of an array."""
    return torch.from_numpy(np.array(array, dtype, order="C"))
