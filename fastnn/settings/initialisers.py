"""Initialisation: what the parameters of a layer are before it trains. One table, by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import scalars
from ..checks.scalars import shown
from ..data import arrays
from ..kernels.programs.layers.layer import Tensor
from .layers import Node

Init = str | Sequence[str | tuple[ArrayLike, ArrayLike]]  # what `Model(init=)` takes
AT_A_TIME = 2**13  # how many normal numbers are drawn at a time, which stay in the cache


def _pieces(n: int) -> list[int]:
    """The sizes of the pieces in which n normal numbers are drawn."""
    return [min(AT_A_TIME, n - start) for start in range(0, n, AT_A_TIME)]


def _uniform_numbers(n: int) -> int:
    """How many uniform numbers it takes to make n normal ones."""
    return sum(piece + piece % 2 for piece in _pieces(n))


def _normal_piece(uniform: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Fill out (members, n) with standard normal numbers from uniform (members, n or n + 1) (Box and Muller 1958).

    NumPy's logarithm, sine and cosine are vector code, so that this takes less than half the time of standard_normal.
    They are that of contiguous arrays, whatever their length: so a member has the same bits among any others.
    """
    half = uniform.shape[1] // 2
    radius, angle = (np.ascontiguousarray(part) for part in (uniform[:, :half], uniform[:, half:]))
    radius[...] = np.sqrt(-2 * np.log1p(-radius))
    angle *= 2 * np.pi
    np.multiply(radius, np.cos(angle), out=out[:, :half])
    rest = out.shape[1] - half
    np.multiply(radius[:, :rest], np.sin(angle)[:, :rest], out=out[:, half:])


def _standard_normal(generator: np.random.Generator, n: int) -> NDArray[np.float32]:
    """n standard normal numbers."""
    out, start = np.empty((1, n), np.float32), 0
    for piece in _pieces(n):
        _normal_piece(generator.random((1, piece + piece % 2), np.float32), out[:, start : start + piece])
        start += piece
    return out[0]


def _normal_of_members(uniform: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """The standard normal numbers (members, n) that generators of such uniform numbers give."""
    out, start, first = np.empty((len(uniform), n), np.float32), 0, 0
    for piece in _pieces(n):
        stop = first + piece + piece % 2
        _normal_piece(uniform[:, first:stop], out[:, start : start + piece])
        start, first = start + piece, stop
    return out


@dataclass(frozen=True)
class _Normal:
    """Gaussians of a standard deviation that depends on fan_in and fan_out."""

    deviation: Callable[[int, int], float]

    def __call__(self, generator: np.random.Generator, fan_in: int, fan_out: int) -> NDArray[Any]:
        weights = _standard_normal(generator, fan_in * fan_out)
        weights *= np.float32(self.deviation(fan_in, fan_out))
        return weights.reshape(fan_in, fan_out)

    def uniform_numbers(self, fan_in: int, fan_out: int) -> int:
        return _uniform_numbers(fan_in * fan_out)

    def of_members(self, uniform: NDArray[np.float32], fan_in: int, fan_out: int) -> NDArray[np.float32]:
        weights = _normal_of_members(uniform, fan_in * fan_out)
        weights *= np.float32(self.deviation(fan_in, fan_out))
        return weights.reshape(-1, fan_in, fan_out)


@dataclass(frozen=True)
class _Uniform:
    """Uniform numbers in [-b, b), b = sqrt(3) times the standard deviation."""

    deviation: Callable[[int, int], float]

    def __call__(self, generator: np.random.Generator, fan_in: int, fan_out: int) -> NDArray[Any]:
        return self.of_members(generator.random((1, fan_in * fan_out), np.float32), fan_in, fan_out)[0]

    def uniform_numbers(self, fan_in: int, fan_out: int) -> int:
        return fan_in * fan_out

    def of_members(self, uniform: NDArray[np.float32], fan_in: int, fan_out: int) -> NDArray[np.float32]:
        weights = uniform - np.float32(0.5)
        weights *= np.float32(2 * np.sqrt(3) * self.deviation(fan_in, fan_out))
        return weights.reshape(-1, fan_in, fan_out)


class _Zeros:
    def __call__(self, generator: np.random.Generator, fan_in: int, fan_out: int) -> NDArray[Any]:
        return np.zeros((fan_in, fan_out), np.float32)

    def uniform_numbers(self, fan_in: int, fan_out: int) -> int:
        return 0

    def of_members(self, uniform: NDArray[np.float32], fan_in: int, fan_out: int) -> NDArray[np.float32]:
        return np.zeros((len(uniform), fan_in, fan_out), np.float32)


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
INITS: dict[str, Callable[[np.random.Generator, int, int], NDArray[Any]]] = {
    "scaled": _Normal(_lecun),
    "normal": _Normal(lambda fan_in, fan_out: 1.0),
    "zeros": _Zeros(),
    "glorot_uniform": _Uniform(_glorot),
    "glorot_normal": _Normal(_glorot),
    "he_uniform": _Uniform(_he),
    "he_normal": _Normal(_he),
    "lecun_uniform": _Uniform(_lecun),
    "lecun_normal": _Normal(_lecun),
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
            shapes = enumerate(node.pair_shapes)
            entries[i] = [arrays.parameters(f"init[{i}][{j}]", each[j], shape, dtype) for j, shape in shapes]
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
    """Write the tensors of layers, by what `of_layers` gave. A name draws weights of dense layers, and tables."""
    for tensors, node, init in zip(layers, nodes, inits, strict=True):
        _set_layer(tensors, node, init, generator)


def _set_layer(tensors: dict[str, NDArray[Any]], node: Node, init: Any, generator: np.random.Generator) -> None:
    given = {} if isinstance(init, str) else _parts(node, init)
    for tensor in node.tensors:
        tensors[tensor.name][...] = given.get(tensor.name, tensor.start)
    if isinstance(init, str):
        if _draws_bias(node, init):
            tensors["bias"][...] = _standard_normal(generator, node.units)
        for tensor in node.tensors:
            if fans := _fans(node, tensor):
                tensors[tensor.name].T[...] = INITS[init](generator, *fans)


def _fans(node: Node, tensor: Tensor) -> tuple[int, int] | None:
    """(fan_in, fan_out) that a name draws a tensor for, whose transpose has that shape; None where it draws none."""
    if tensor.cols is not None:
        return tensor.cols, tensor.rows
    return (node.fan_in, node.units) if node.kind.multiplies and tensor.name == "weight" else None


def _draws_bias(node: Node, init: str) -> bool:
    """Whether biases are drawn too, before the weights."""
    return init == "normal" and node.kind.multiplies


def _parts(node: Node, pair: Sequence[NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The tensors that a pair (W, b) holds: of tables W has one below the other."""
    weight, bias = pair
    found, first = {"weight": weight, "bias": bias}, 0
    for tensor in node.tensors:
        if tensor.cols is not None:
            found[tensor.name] = weight[first : first + tensor.rows, : tensor.cols]
            first += tensor.rows
    return found


# ---- many networks at once ----


def uniform_numbers(nodes: Sequence[Node], inits: Sequence[Any]) -> int | None:
    """How many uniform numbers the parameters are made from; None where they are drawn in another way."""
    total = 0
    for node, init in zip(nodes, inits, strict=True):
        fans = [_fans(node, tensor) for tensor in node.tensors] if isinstance(init, str) else []
        for each in filter(None, fans):
            draw = INITS[init]
            if not isinstance(draw, (_Normal, _Uniform, _Zeros)):
                return None
            total += draw.uniform_numbers(*each)
        total += _uniform_numbers(node.units) if fans and _draws_bias(node, init) else 0
    return total


def set_members(
    vectors: NDArray[Any], nodes: Sequence[Node], inits: Sequence[Any], uniform: NDArray[np.float32]
) -> None:
    """Write the unpadded parameters of members, (n, P), as `set_layers` writes those of one from such numbers."""
    place, first = 0, 0
    for node, init in zip(nodes, inits, strict=True):
        given: dict[str, Any] = {} if isinstance(init, str) else _parts(node, init)
        if isinstance(init, str) and _draws_bias(node, init):
            stop = first + _uniform_numbers(node.units)
            given["bias"], first = _normal_of_members(uniform[:, first:stop], node.units), stop
        for tensor in node.tensors:
            shape, fans = node.shapes[tensor.name], _fans(node, tensor)
            out = vectors[:, place : place + math.prod(shape)]
            place += math.prod(shape)
            if isinstance(init, str) and fans:
                draw: Any = INITS[init]
                stop = first + draw.uniform_numbers(*fans)
                weights = draw.of_members(uniform[:, first:stop], *fans)
                out.reshape(len(vectors), *reversed(fans))[...] = weights.transpose(0, 2, 1)
                first = stop
            else:
                value = given.get(tensor.name, tensor.start)
                out[...] = value if isinstance(init, str) else np.ravel(value)
