"""Second derivatives of an output by the inputs, in closed form, layer by layer.

J are the derivatives of a layer's weighted inputs z by the inputs x, and g those of the output by the layer's outputs
a = f(z). Each layer adds J^T diag(g f''(z)) J to the output's Hessian. LayerNorm and softmax mix neurons, and add their
second derivatives. Forward gives J, backward g. All is computed in float64, by NumPy: most of the time goes to products
of small matrices, which BLAS does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels.formulas.activations import ALPHA, LEAK, SCALE
from ..kernels.programs.layers.layer import INPUTS
from ..settings.layers import BatchNorm, Dense, Embedding, LayerNorm, PReLU, Residual, Scale
from .network import Network

Array = NDArray[np.float64]
Derivatives = tuple[Array, Array, Array]  # a = f(z), f'(z) and f''(z)
_ERFC = np.frompyfunc(math.erfc, 1, 1)
PIECE = 16_000  # numbers of a layer's J for the rows that are taken at a time: larger arrays are mapped anew each time


def _sigmoid(z: Array) -> Array:
    small = np.exp(-np.abs(z))
    return np.where(z < 0, small, 1.0) / (1.0 + small)


def _of_sigmoid(z: Array) -> Derivatives:
    a = _sigmoid(z)
    slope = a * (1 - a)
    return a, slope, slope * (1 - 2 * a)


def _of_tanh(z: Array) -> Derivatives:
    a = np.tanh(z)
    slope = 1 - a * a
    return a, slope, -2 * a * slope


def _of_gelu(z: Array) -> Derivatives:
    below = 0.5 * np.asarray(_ERFC(-z / math.sqrt(2)), np.float64)
    density = np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return z * below, below + z * density, density * (2 - z * z)


def _of_silu(z: Array) -> Derivatives:
    s = _sigmoid(z)
    slope = s * (1 - s)
    return z * s, s + z * slope, slope * (2 + z * (1 - 2 * s))


def _of_mish(z: Array) -> Derivatives:
    s, w = _sigmoid(z), np.tanh(np.logaddexp(0, z))
    slope = s * (1 - w * w)
    return z * w, w + z * slope, slope * (2 + z * (1 - s - 2 * s * w))


def _of_softplus(z: Array) -> Derivatives:
    s = _sigmoid(z)
    return np.logaddexp(0, z), s, s * (1 - s)


def _of_exp(z: Array) -> Derivatives:
    a = np.exp(z)
    return a, a, a


def _elu(scale: float, alpha: float) -> Callable[[Array], Derivatives]:
    def function(z: Array) -> Derivatives:
        below, positive = np.exp(np.minimum(z, 0)), z > 0
        a = scale * np.where(positive, z, alpha * np.expm1(np.minimum(z, 0)))
        return a, scale * np.where(positive, 1, alpha * below), scale * np.where(positive, 0, alpha * below)

    return function


def _straight(value: Callable[[Array], Any], slope: Callable[[Array], Any]) -> Callable[[Array], Derivatives]:
    """A function of straight pieces. At a kink it has the slope that training takes."""
    return lambda z: (value(z), slope(z) * np.ones_like(z), np.zeros_like(z))


# By the names of the rows of ACTIVATIONS; "step" has no derivative, and training takes another one.
SECOND_DERIVATIVES: dict[str, Callable[[Array], Derivatives]] = {
    "identity": _straight(lambda z: z, lambda z: 1.0),
    "sigmoid": _of_sigmoid,
    "tanh": _of_tanh,
    "relu": _straight(lambda z: np.maximum(z, 0), lambda z: z > 0),
    "gelu": _of_gelu,
    "leaky_relu": _straight(lambda z: np.where(z > 0, z, LEAK * z), lambda z: np.where(z > 0, 1.0, LEAK)),
    "elu": _elu(1.0, 1.0),
    "selu": _elu(SCALE, ALPHA),
    "silu": _of_silu,
    "mish": _of_mish,
    "softplus": _of_softplus,
    "hard_sigmoid": _straight(lambda z: np.clip((z + 3) / 6, 0, 1), lambda z: (np.abs(z) < 3) / 6),
    "exp": _of_exp,
}


def check_twice(network: Network) -> None:
    """Raise ValueError where an activation has no second derivative here, as one of the user's own."""
    for node in network.architecture.nodes:
        if node.layer._kernel not in (*SECOND_DERIVATIVES, "softmax"):
            raise ValueError(f"hessian needs second derivatives, which are not known of {node.layer.activation!r}")


def hessian(network: Network, inputs: NDArray[Any], k: int, diagonal: bool) -> NDArray[Any]:
    """The second derivatives of output k by the inputs, (n, n_in, n_in), or their diagonal, (n, n_in)."""
    n_in, widest = network.layout.sizes[0], max(network.layout.sizes)
    shape = (len(inputs), n_in) if diagonal else (len(inputs), n_in, n_in)
    found, rows = np.empty(shape, network.layout.dtype), max(1, PIECE // (n_in * widest))
    tensors = [{name: t.astype(np.float64) for name, t in each.items()} for each in _tensors(network)]
    with np.errstate(all="ignore"):  # NaN in gives NaN out
        for first in range(0, len(inputs), rows):
            piece = slice(first, first + rows)
            found[piece] = _Pass(network, tensors, inputs[piece].astype(np.float64), diagonal).of(k)
    return found


def _tensors(network: Network) -> list[dict[str, NDArray[Any]]]:
    """The tensors of each node; none for the sum of a residual block."""
    return network.layout.tensors(network.parameters)


def _rows_times(of: Array, weight: Array) -> Array:
    """The product of (n, n_in, k) and (k, m), as one of two matrices."""
    return (of.reshape(-1, of.shape[2]) @ weight).reshape(*of.shape[:2], -1)


def _onto(of: Array, vector: Array) -> Array:
    """The sums over the neurons of the derivatives times a vector (n, neurons): (n, n_in)."""
    return (of @ vector[:, :, None])[:, :, 0]


def _embedded(layer: Embedding, tensors: dict[str, Array], x: Array) -> Array:
    """What an `Embedding` makes of inputs: NaN where there is no such code."""
    parts = [np.delete(x, layer.columns, axis=1)]
    for column, table in zip(layer.columns, tensors.values(), strict=True):
        codes = x[:, column]
        known = (codes >= 0) & (codes < len(table)) & (codes == np.floor(codes))
        parts.append(np.where(known[:, None], table[np.where(known, codes, 0).astype(np.intp)], np.nan))
    return np.hstack(parts)


def _of_numbers(layer: Embedding, n_in: int, n_out: int) -> Array:
    """The derivatives of an `Embedding`'s outputs by its inputs, (n_in, n_out): those of numbers by themselves."""
    found, numbers = np.zeros((n_in, n_out)), np.delete(np.arange(n_in), layer.columns)
    found[numbers, np.arange(len(numbers))] = 1
    return found


class _Pass:
    """The way of some rows through the network, forward, and back from an output. Arrays are (n[, n_in], neurons)."""

    def __init__(self, network: Network, tensors: list[dict[str, Array]], x: Array, diagonal: bool):
        self.diagonal, self.layers = diagonal, list(zip(network.architecture.nodes, tensors, strict=True))
        self.reads = [layer.reads for layer in network.layout.layers]
        shift, scale = network.architecture.affine
        self.n = len(x)
        self.a: dict[int, Array] = {INPUTS: (x - shift) * scale}
        self.of_a: dict[int, Array] = {INPUTS: np.diag(scale)[None]}  # the derivatives of a by the inputs
        self.of_z: list[Array] = []
        self.slopes: list[tuple[Array, Array]] = []  # f'(z) and f''(z)
        self.normal: dict[int, tuple[Array, Array]] = {}  # of LayerNorm: the normalised inputs, and 1 / root
        for i in range(len(self.layers)):
            self._forward(i)

    def _forward(self, i: int) -> None:
        (node, tensors), read = self.layers[i], self.reads[i]
        layer, x, of_x = node.layer, self.a[read[0]], self.of_a[read[0]]
        if isinstance(layer, Residual):
            z, of_z = x + self.a[read[1]], of_x + self.of_a[read[1]]
        elif isinstance(layer, Dense):
            z, of_z = x @ tensors["weight"].T + tensors["bias"], _rows_times(of_x, tensors["weight"].T)
        elif isinstance(layer, Embedding):
            z, of_z = _embedded(layer, tensors, x), _rows_times(of_x, _of_numbers(layer, x.shape[1], node.units))
        elif isinstance(layer, LayerNorm):
            centred = x - x.mean(1, keepdims=True)
            inverse = 1 / np.sqrt((centred * centred).mean(1, keepdims=True) + layer.epsilon)
            self.normal[i] = normal, inverse = centred * inverse, inverse
            z = tensors["weight"] * normal + tensors["bias"]
            along = of_x - of_x.mean(2, keepdims=True)
            along = along - normal[:, None] * (of_x @ normal[:, :, None] / x.shape[1])
            of_z = (tensors["weight"] * inverse)[:, None] * along
        else:
            factor = self._factor(i)
            shift = tensors["bias"] - factor * tensors["running_mean"] if isinstance(layer, BatchNorm) else 0.0
            z, of_z = factor * x + shift, factor[..., None, :] * of_x
        if layer._kernel == "softmax":
            e = np.exp(z - z.max(1, keepdims=True))
            a, slopes = e / e.sum(1, keepdims=True), (z, z)
            of_a = of_z
        else:
            a, slope, second = SECOND_DERIVATIVES[layer._kernel](z)
            of_a, slopes = slope[:, None] * of_z, (slope, second)
        self.a[i], self.of_a[i] = a, of_a
        self.of_z.append(of_z)
        self.slopes.append(slopes)

    def _factor(self, i: int) -> Array:
        """What a layer without products multiplies each neuron by; of `PReLU` it depends on the row."""
        node, tensors = self.layers[i]
        if isinstance(node.layer, PReLU):
            return np.where(self.a[self.reads[i][0]] > 0, 1.0, tensors["weight"])
        if isinstance(node.layer, BatchNorm):
            return tensors["weight"] / np.sqrt(tensors["running_variance"] + node.layer.epsilon)
        assert isinstance(node.layer, Scale)
        return tensors["weight"]

    def _squares(self, of: Array, factors: Array) -> Array:
        """The sum over the neurons of a factor times the square of the derivatives: of diag(factors) of^T."""
        if self.diagonal:
            return _onto(of * of, factors)
        return of * factors[:, None] @ np.swapaxes(of, 1, 2)

    def _products(self, u: Array, v: Array) -> Array:
        """u v^T of two vectors (n, n_in)."""
        return u * v if self.diagonal else u[:, :, None] * v[:, None, :]

    def of(self, k: int) -> Array:
        """The second derivatives of output k."""
        last = len(self.layers) - 1
        g: dict[int, Array] = {i: np.zeros_like(a) for i, a in self.a.items()}
        g[last][:, k] = 1
        total: Any = 0.0
        for i in range(last, -1, -1):
            (node, tensors), of_z = self.layers[i], self.of_z[i]
            layer = node.layer
            if layer._kernel == "softmax":
                d, added = self._softmax(i, k)
            else:
                d, added = g[i] * self.slopes[i][0], self._squares(of_z, g[i] * self.slopes[i][1])
            total = total + added
            if isinstance(layer, Residual):
                g[self.reads[i][1]] += d
            elif isinstance(layer, Dense):
                d = d @ tensors["weight"]
            elif isinstance(layer, Embedding):
                d = d @ _of_numbers(layer, node.fan_in, node.units).T
            elif isinstance(layer, LayerNorm):
                d, added = self._layer_norm(i, d * tensors["weight"])
                total = total + added
            else:
                d = d * self._factor(i)
            g[self.reads[i][0]] += d
        return np.broadcast_to(total, (self.n, *np.shape(total)[1:]))

    def _softmax(self, i: int, k: int) -> tuple[Array, Array]:
        """The derivatives of a_k by z: a_k (e_k - a), then a_k ((e_k - a) (e_k - a)^T - diag(a) + a a^T)."""
        a, of_z = self.a[i], self.of_z[i]
        other = -a
        other[:, k] += 1
        u, mean = (_onto(of_z, each) for each in (other, a))
        scale = a[:, k : k + 1] if self.diagonal else a[:, k, None, None]
        added = self._products(u, u) - self._squares(of_z, a) + self._products(mean, mean)
        return a[:, k : k + 1] * other, scale * added

    def _layer_norm(self, i: int, c: Array) -> tuple[Array, Array]:
        """The derivatives of c^T x', where x' is the normalised x of N neurons and r the root of its variance.

        The first one is u / r. The second one along J is
        -(q (J^T J - s s^T / N - p p^T / N) + (p (u^T J)^T + (u^T J) p^T) / N) / r^2 with q = c^T x' / N,
        u = c - mean c - q x', s the column sums of J, and p = J^T x'.
        """
        (normal, inverse), of_x = self.normal[i], self.of_a[self.reads[i][0]]
        count = c.shape[1]
        q = (c * normal).mean(1, keepdims=True)
        u = c - c.mean(1, keepdims=True) - q * normal
        p, of_u = (_onto(of_x, each) for each in (normal, u))
        s = np.broadcast_to(of_x.sum(2), p.shape)
        squares = self._squares(of_x, np.ones_like(c)) - (self._products(s, s) + self._products(p, p)) / count
        crossed = (self._products(p, of_u) + self._products(of_u, p)) / count
        places = slice(None), slice(None), *([None] * (not self.diagonal))
        return u * inverse, -(inverse * inverse)[places] * (q[places] * squares + crossed)
