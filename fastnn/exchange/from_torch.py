"""`from_torch`: a sequential module of PyTorch as a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import numpy as np

from ..checks import scalars
from ..checks.scalars import shown
from ..model import Model
from ..settings.layers import NAMES, BatchNorm, Embedding, LayerNorm
from ..settings.losses import AnyLoss
from .imported import Array, Imported, Unfit

_DTYPES = {"float16": "float32", "bfloat16": "float32", "float32": "float32", "float64": "float64"}
_EXPECTED = "module must be a network of layers that fastnn has"


def from_torch(module: Any, *, output: str | None = None, loss: AnyLoss | None = None, rng: Any = None) -> Model:
    """A `Model` with the layers and the parameters of a PyTorch module, which can be trained further.

    The module is a `Sequential`, nested ones too, of Linear, BatchNorm1d, LayerNorm, PReLU and activations of fastnn:
    ReLU, LeakyReLU(0.01), ELU(1), SELU, GELU (the exact one), SiLU, Mish, Sigmoid, Tanh, Softplus, Hardsigmoid, and at
    the end Softmax(dim=1). Identity, Flatten and Dropout are left out: `fit` has an argument `dropout`. What
    `Model.to_torch` gives comes back. A parameter of float16 or bfloat16 becomes float32. No layer is frozen.

    Parameters
    ----------
    module : torch.nn.Module
        It is not changed, and shares no memory with the model.
    output : str
        The activation of outputs that the module leaves to its loss: "softmax" for CrossEntropyLoss, "sigmoid" for
        BCEWithLogitsLoss. None adds none.
    loss : str, Huber, Quantile or Loss
        As of `Model`, because a module says none. None is "cross_entropy" for outputs of a softmax or a sigmoid, else
        "quadratic".
    rng : None, int or numpy.random.Generator
        Seeds the order of samples, as of `Model`.

    Raises ValueError for any other module, with its path, its type and the reason; TypeError for what is no module;
    ModuleNotFoundError where PyTorch is not installed. A last BatchNorm1d is folded into the Linear below it.
    Softplus(1, 20) gives x above 20, where fastnn computes on: they differ by at most 2e-9.

    Examples
    --------
    >>> import fastnn
    >>> from torch import nn  # doctest: +SKIP
    >>> module = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))  # doctest: +SKIP
    >>> fastnn.from_torch(module, output="softmax")  # doctest: +SKIP
    Model([4, Dense(16, 'relu'), Dense(3, 'softmax')], loss='cross_entropy', dtype='float32')
    """
    if output is not None:
        scalars.choice("output", output, NAMES)
    nn = torch().nn
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, got {shown(module)}")
    network, leaves = Imported(), list(_leaves(nn, module, ""))
    dtype = _dtype(leaves)
    for path, each in leaves:
        try:
            _add(nn, network, each)
        except ValueError as error:
            raise ValueError(f"{_EXPECTED}, got {_named(path, each)}: {error}") from None
    try:
        return network.model(output, loss, dtype, rng)
    except Unfit as error:
        raise ValueError(f"{_EXPECTED}, got {_named('', module)}: {error}") from None


def torch() -> Any:
    """The package torch, or an error that says how to get it."""
    try:
        return import_module("torch")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("modules of PyTorch need PyTorch: pip install 'fastnn-numba[torch]'") from error


def _leaves(nn: Any, module: Any, path: str) -> Iterator[tuple[str, Any]]:
    """(path, module) of what a module runs one after the other."""
    if type(module) is nn.Sequential and not _hooks(module):
        for name, each in module._modules.items():
            yield from _leaves(nn, each, f"{path}.{name}".lstrip("."))
    else:
        yield path, module


def _named(path: str, module: Any) -> str:
    """A module in a message."""
    kind = type(module).__name__
    return f"{path!r} ({kind})" if path else f"a {kind}"


def _hooks(module: Any) -> bool:
    """Whether a module has functions of the user's beside its own."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _dtype(leaves: list[tuple[str, Any]]) -> str:
    """The model's dtype."""
    found: dict[str, str] = {}
    for path, module in leaves:
        for name, parameter in module.named_parameters():
            kind = str(parameter.dtype).removeprefix("torch.")
            if kind not in _DTYPES:
                where = _named(path, module)
                raise ValueError(f"{_EXPECTED}, got {where}: its {name} has the dtype {kind}, not one of {[*_DTYPES]}")
            found.setdefault(_DTYPES[kind], f"{_named(path, module)} with {kind}")
    if len(found) > 1:
        raise ValueError(f"{_EXPECTED}, of one dtype, got {' and '.join(found.values())}")
    return next(iter(found), "float32")


def _array(tensor: Any, default: float, size: int) -> Array:
    """A tensor in float64, or (size,) of a number where a module has none."""
    if tensor is None:
        return np.full(size, default)
    if tensor.is_meta:
        raise Unfit("its parameters are on the device meta, which holds no numbers")
    found: Array = tensor.detach().cpu().double().numpy().copy()
    return found


def _add(nn: Any, network: Imported, module: Any) -> None:
    """Add what a module does to a network. Only modules of PyTorch's own types: others may compute something else."""
    kind = type(module)
    if _hooks(module):
        raise Unfit("it has hooks, which may change what it computes")
    if kind is nn.Linear:
        network.dense(_array(module.weight, 0, 0), _array(module.bias, 0, module.out_features))
    elif kind is nn.BatchNorm1d:
        _add_batch_norm(network, module)
    elif kind is nn.LayerNorm:
        if len(module.normalized_shape) != 1:
            raise Unfit(f"normalized_shape must be the number of neurons, got {module.normalized_shape}")
        (units,) = module.normalized_shape
        network.reads(units)
        weight, bias = _array(module.weight, 1, units), _array(module.bias, 0, units)
        network.add(LayerNorm(module.eps), weight=weight, bias=bias)
    elif kind is nn.PReLU:
        network.prelu(_array(module.weight, 0, 0))
    elif kind is nn.Softmax:
        if module.dim not in (1, -1):
            raise Unfit(f"dim must be 1 or -1, the outputs of a row, got {module.dim}")
        network.activate("softmax")
    elif kind is nn.Flatten:
        if (module.start_dim, module.end_dim) not in ((1, -1), (1, 1)):
            raise Unfit("it must leave rows as they are, start_dim=1 and end_dim=-1")
    elif kind in (nn.Identity, nn.Dropout, nn.AlphaDropout):
        pass
    elif (name := _activation(nn, module)) is not None:
        network.activate(name)
    else:
        _add_own(nn, network, module)


def _activation(nn: Any, module: Any) -> str | None:
    """The name of an activation, or None where a module is none; raises for one that fastnn has not."""
    plain = {
        nn.ReLU: "relu",
        nn.SELU: "selu",
        nn.SiLU: "silu",
        nn.Mish: "mish",
        nn.Sigmoid: "sigmoid",
        nn.Tanh: "tanh",
        nn.Hardsigmoid: "hard_sigmoid",
    }
    # With settings: the name, and what is wrong with them.
    settings: dict[Any, tuple[str, Callable[[], str]]] = {
        nn.LeakyReLU: ("leaky_relu", lambda: _other("negative_slope", module.negative_slope, 0.01)),
        nn.ELU: ("elu", lambda: _other("alpha", module.alpha, 1)),
        nn.GELU: ("gelu", lambda: _other("approximate", module.approximate, "none")),
        nn.Softplus: (
            "softplus",
            lambda: (
                _other("beta", module.beta, 1)
                or ("" if module.threshold >= 20 else f"threshold must be at least 20, got {module.threshold}")
            ),
        ),
    }
    kind = type(module)
    if kind in settings:
        name, wrong = settings[kind]
        if reason := wrong():
            raise Unfit(reason)
        return name
    return plain.get(kind)


def _other(name: str, value: Any, ours: Any) -> str:
    """What is wrong where a setting is not the one that fastnn has, or ""."""
    return "" if value == ours else f"{name} must be {ours!r}, as fastnn has it, got {value!r}"


def _add_batch_norm(network: Imported, module: Any) -> None:
    """Add a batch normalisation."""
    units = module.num_features
    if module.running_mean is None:
        raise Unfit("track_running_stats must be True: fastnn predicts by running statistics")
    if module.momentum is None:
        raise Unfit("momentum must be a number, got None")
    network.reads(units)
    tensors = {
        "weight": _array(module.weight, 1, units),
        "bias": _array(module.bias, 0, units),
        "running_mean": _array(module.running_mean, 0, units),
        "running_variance": _array(module.running_var, 1, units),
    }
    network.add(BatchNorm(module.momentum, module.eps), **tensors)


def _add_own(nn: Any, network: Imported, module: Any) -> None:
    """Add one of fastnn's own modules, which `Model.to_torch` makes."""
    own, kind = import_module(".torch_modules", __package__), type(module)
    if kind is own.InputMap:
        scale, high, low = (_array(each, 0, 0) for each in (module.scale, module.high, module.low))
        network.reads(len(scale))
        if network.layers:
            raise Unfit("it must be the first module")
        network.shift, network.scale = high + low, scale
    elif kind is own.Residual:
        block, leaves = Imported(network.width, inner=True), list(_leaves(nn, module.inner, "inner"))
        for path, each in leaves:
            try:
                _add(nn, block, each)
            except ValueError as error:
                raise Unfit(f"{_named(path, each)}: {error}") from None
        network.add_residual(block)
    elif kind is own.Factors:
        network.reads(len(module.weight))
        network.add(own.kinds.Scale(), weight=_array(module.weight, 0, 0))
    elif kind is own.Tables:
        tables = [_array(each.weight, 0, 0) for each in module.tables]
        categories, widths = zip(*(table.shape for table in tables), strict=True)
        layer = Embedding(module.columns, categories, widths)
        network.reads(module.n_inputs)
        named = zip(module.columns, tables, strict=True)
        network.add(layer, **{f"embedding_{column}": table for column, table in named})
    elif kind in (own.Exp, own.Step):
        network.activate(kind.__name__.lower())
    else:
        raise Unfit("fastnn has no such layer")
