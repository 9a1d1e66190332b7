"""Initialisation: what the parameters of a layer are before it trains. One table, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import scalars
from ..checks.scalars import shown
from ..data import arrays
from .layers import Node

Init = str | Sequence[str | tuple[ArrayLike, ArrayLike]]  # what `Model(init=)` takes
Drawn = Callable[[np.random.Generator, int, int], NDArray[Any]]
AT_A_TIME = 2**13  # how many normal numbers are drawn at a time


def _standard_normal(generator: np.random.Generator, n: int) -> NDArray[np.float32]:
    """n standard normal numbers (Box and Muller 1958), so many at a time as stay in the cache.

    NumPy's logarithm, sine and cosine are vector code, so that this takes less than half the time of standard_normal.
    """
    out = np.empty(n, np.float32)
    for start in range(0, n, AT_A_TIME):
        now = out[start : start + AT_A_TIME]
        half = -(-len(now) // 2)
        radius, angle = generator.random((2, half), np.float32)
        radius[...] = np.sqrt(-2 * np.log1p(-radius))
        angle *= 2 * np.pi
        np.multiply(radius, np.cos(angle), out=now[:half])
        np.multiply(radius[: len(now) - half], np.sin(angle[: len(now) - half]), out=now[half:])
    return out


def _normal(deviation: Callable[[int, int], float]) -> Drawn:
    """Draw Gaussians of a standard deviation that depends on fan_in and fan_out."""

    def draw(generator: np.random.Generator, fan_in: int, fan_out: int) -> NDArray[Any]:
        weights = _standard_normal(generator, fan_in * fan_out)
        weights *= np.float32(deviation(fan_in, fan_out))
        return weights.reshape(fan_in, fan_out)

    return draw


def _uniform(deviation: Callable[[int, int], float]) -> Drawn:
    """Draw uniformly from [-b, b), b = sqrt(3) times the standard deviation."""

    def draw(generator: np.random.Generator, fan_in: int, fan_out: int) -> NDArray[Any]:
        weights = generator.random((fan_in, fan_out), np.float32)
        weights -= np.float32(0.5)
        weights *= np.float32(2 * np.sqrt(3) * deviation(fan_in, fan_out))
        return weights

    return draw


def _orthogonal(generator: np.random.Generator, fan_in: int, fan_out: int) -> NDArray[Any]:
    """Q of a normal matrix, with the signs that make the diagonal of R positive, so that each Q is equally likely."""
    gaussian = _standard_normal(generator, fan_in * fan_out).astype(np.float64)
    q, r = np.linalg.qr(gaussian.reshape(max(fan_in, fan_out), -1))
    q *= np.where(r.diagonal() < 0, -1, 1)
    return q if fan_in >= fan_out else q.T


def _glorot(fan_in: int, fan_out: int) -> float:
    return float(np.sqrt(2 / (fan_in + fan_out)))


def _he(fan_in: int, fan_out: int) -> float:
    return float(np.sqrt(2 / fan_in))


def _lecun(fan_in: int, fan_out: int) -> float:
    return float(1 / np.sqrt(fan_in))


# How the weights, (fan_in, fan_out), are drawn.
INITS: dict[str, Drawn] = {
    "scaled": _normal(_lecun),
    "normal": _normal(lambda fan_in, fan_out: 1.0),
    "zeros": lambda generator, fan_in, fan_out: np.zeros((fan_in, fan_out), np.float32),
    "glorot_uniform": _uniform(_glorot),
    "glorot_normal": _normal(_glorot),
    "he_uniform": _uniform(_he),
    "he_normal": _normal(_he),
    "lecun_uniform": _uniform(_lecun),
    "lecun_normal": _normal(_lecun),
    "orthogonal": _orthogonal,
}


def of_layers(init: Init, layers: Sequence[Node], dtype: str) -> list[Any]:
    """A name, or a pair of arrays (W, b), for each layer. All are checked."""
    if isinstance(init, str) or not isinstance(init, Iterable):
        return [scalars.choice("init", init, INITS)] * len(layers)
    entries = scalars.items("init", init, "a name, or a sequence of a name or a pair (W, b) for each layer")
    if len(entries) != len(layers):
        raise ValueError(
            f"init must have a name or a pair (W, b) for each of {len(layers)} layers, got {shown(entries)}"
        )
    for i, (each, node) in enumerate(zip(entries, layers, strict=True)):
        if isinstance(each, (tuple, list)) and len(each) == 2:
            shapes = node.shapes["weight"], node.shapes.get("bias", (0,))
            entries[i] = [arrays.parameters(f"init[{i}][{j}]", each[j], shapes[j], dtype) for j in (0, 1)]
        elif isinstance(each, str):
            scalars.choice(f"init[{i}]", each, INITS)
        else:
            raise TypeError(f"init[{i}] must be a name or a pair of arrays (W, b), got {shown(each)}")
    return entries


def set_layers(
    layers: Sequence[dict[str, NDArray[Any]]],
    nodes: Sequence[Node],
    inits: Sequence[Any],
    generator: np.random.Generator,
) -> None:
    """Write the tensors of layers, by what `of_layers` gave. A name draws those of dense layers."""
    for tensors, node, init in zip(layers, nodes, inits, strict=True):
        _set_layer(tensors, node, init, generator)


def _set_layer(tensors: dict[str, NDArray[Any]], node: Node, init: Any, generator: np.random.Generator) -> None:
    drawn = isinstance(init, str) and node.kind.multiplies
    for tensor in node.tensors:
        if not (drawn and tensor.name == "weight"):
            tensors[tensor.name].fill(tensor.start)
    if drawn:
        if init == "normal":
            tensors["bias"][...] = _standard_normal(generator, node.units)
        tensors["weight"].T[...] = INITS[init](generator, node.fan_in, node.units)
    elif not isinstance(init, str):
        for name, value in zip(("weight", "bias"), init, strict=True):
            if name in tensors:
                tensors[name][...] = value
