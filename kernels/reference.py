"""The kernels' twins in plain NumPy, float64: the oracle they are tested against. Written for reading, not for speed.

A network is a list of layers: (W, b, activation) with W of shape (fan_in, fan_out), as the kernels hold it, or one of
the others below. Samples are rows.
"""

import copy
import itertools
import math
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

_erfc = np.vectorize(math.erfc, otypes=[float])


def _normal_below(z):
    """The standard normal distribution at z."""
    return 0.5 * _erfc(-z / np.sqrt(2))


def _sigmoid(z):
    return np.where(z < 0, np.exp(-np.abs(z)), 1) / (1 + np.exp(-np.abs(z)))


_SCALE, _ALPHA = 1.0507009873554805, 1.6732632423543772  # constants of selu
# name: (value of z, derivative of z and the output a)
ACTIVATIONS: dict[str, Any] = {
    "identity": (lambda z: z, lambda z, a: np.ones_like(a)),
    "sigmoid": (_sigmoid, lambda z, a: a * (1 - a)),
    "tanh": (np.tanh, lambda z, a: 1 - a**2),
    "relu": (lambda z: np.where(np.isnan(z) | (z > 0), z, 0.0), lambda z, a: (a > 0) * 1.0),
    "gelu": (
        lambda z: z * _normal_below(z),
        lambda z, a: _normal_below(z) + z * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi),
    ),
    "leaky_relu": (lambda z: np.where(z > 0, z, 0.01 * z), lambda z, a: np.where(a > 0, 1, 0.01)),
    "elu": (lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))), lambda z, a: np.where(a > 0, 1, a + 1)),
    "selu": (
        lambda z: _SCALE * np.where(z > 0, z, _ALPHA * np.expm1(np.minimum(z, 0))),
        lambda z, a: np.where(a > 0, _SCALE, a + _SCALE * _ALPHA),
    ),
    "silu": (lambda z: z * _sigmoid(z), lambda z, a: _sigmoid(z) * (1 + z * (1 - _sigmoid(z)))),
    "mish": (
        lambda z: z * np.tanh(np.logaddexp(0, z)),
        lambda z, a: np.tanh(np.logaddexp(0, z)) + z * _sigmoid(z) / np.cosh(np.minimum(np.logaddexp(0, z), 350)) ** 2,
    ),
    "softplus": (lambda z: np.logaddexp(0, z), lambda z, a: -np.expm1(-a)),
    "hard_sigmoid": (lambda z: np.clip((z + 3) / 6, 0, 1), lambda z, a: ((a > 0) & (a < 1)) / 6),
    "exp": (np.exp, lambda z, a: a),
    "step": (lambda z: np.where(np.isnan(z), z, np.where(z > 0, 1.0, 0.0)), lambda z, a: np.ones_like(a)),
}


def _arctanh_error(e):
    """(1 + e) log(1 + e) + (1 - e) log(1 - e), beyond 1 a straight line, without cancellation near zero."""
    size = np.abs(e)
    inside = np.minimum(size, np.nextafter(1, 0))
    near = np.log1p(-(inside**2)) + 2 * inside * np.arctanh(inside)
    far = (1 + inside) * np.log1p(inside) + (1 - inside) * np.log1p(-inside)
    return np.where(size < 0.5, near, np.where(size < 1, far, 2 * np.log(2) + 17 * (size - 1)))


def _arctanh_slope(e):
    size = np.minimum(np.abs(e), np.nextafter(1, 0))
    return np.sign(e) * np.minimum(2 * np.arctanh(size), 17)


_ARCTANH = lambda a, y: np.sum(_arctanh_error(a - y)), lambda a, y: _arctanh_slope(a - y)
# name: (summed value, derivative in a); a parameter of the loss is a third argument
LOSSES: dict[str, Any] = {
    "quadratic": (lambda a, y: 0.5 * np.sum((a - y) ** 2), lambda a, y: a - y),
    "absolute_error": (lambda a, y: np.sum(np.abs(a - y)), lambda a, y: np.sign(a - y)),
    "huber": (
        lambda a, y, delta=1.0: np.sum(
            np.where(np.abs(a - y) < delta, 0.5 * (a - y) ** 2, delta * (np.abs(a - y) - 0.5 * delta))
        ),
        lambda a, y, delta=1.0: np.clip(a - y, -delta, delta),
    ),
    "quantile": (
        lambda a, y, q=0.5: np.sum(np.maximum(q * (y - a), (q - 1) * (y - a))),
        lambda a, y, q=0.5: np.where(a < y, -q, np.where(a > y, 1 - q, a - y)),
    ),
    "log_cosh": (lambda a, y: np.sum(np.log1p(np.sinh(a - y) ** 2)) / 2, lambda a, y: np.tanh(a - y)),
    "sigmoid_arctanh_error": _ARCTANH,
    "hard_sigmoid_arctanh_error": _ARCTANH,
    "tanh_arctanh_error": (
        lambda a, y: 2 * np.sum(_arctanh_error((a - y) / 2)),
        lambda a, y: _arctanh_slope((a - y) / 2),
    ),
    "outside": (lambda a, y: np.sum(a * y), lambda a, y: y),  # y is a derivative in a that the user computed
}


def softmax(z):
    """exp(z) / sum of exp(z) over the outputs, rows."""
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def softmax_backward(d, a):
    """dC/dz from dC/da, rows, of a softmax's outputs a."""
    return a * (d - (d * a).sum(axis=1, keepdims=True))


def _softmax_cross_entropy(z, y):
    largest = z.max(axis=1, keepdims=True)
    log_sum = largest + np.log(np.exp(z - largest).sum(axis=1, keepdims=True))
    return np.sum(y * (log_sum - z))


def _sigmoid_cross_entropy(z, y):
    return np.sum(np.maximum(z, 0) - z * y + np.log1p(np.exp(-np.abs(z))))


# -log of the machine epsilon: what -log p is limited to where probabilities are clipped, by dtype
CLIPS = {"float32": 23 * math.log(2), "float64": 52 * math.log(2)}


def _clipped_softmax_cross_entropy(z, y, most=CLIPS["float64"]):
    return np.sum(y * np.minimum(-np.log(softmax(z)), most))


def _clipped_sigmoid_cross_entropy(z, y, most=CLIPS["float64"]):
    return np.sum(np.minimum(np.maximum(z, 0) - z * y + np.log1p(np.exp(-np.abs(z))), most))


def _poisson(z, y):
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sum(np.where(y > 0, y * np.log(y), 0) - y * z - y + np.exp(z))


def _sign(y):
    return np.where(y > 0, 1.0, -1.0)


# name: (output activation, summed value, derivative in z), of the logits z
LOGIT_LOSSES = {
    "sigmoid_cross_entropy": (
        ACTIVATIONS["sigmoid"][0],
        _sigmoid_cross_entropy,
        lambda z, y: ACTIVATIONS["sigmoid"][0](z) - y,
    ),
    "softmax_cross_entropy": (softmax, _softmax_cross_entropy, lambda z, y: softmax(z) - y),
    "exp_poisson": (np.exp, _poisson, lambda z, y: np.exp(z) - y),
    "identity_hinge": (
        lambda z: z,
        lambda z, y: np.sum(np.maximum(0, 1 - _sign(y) * z)),
        lambda z, y: np.where(_sign(y) * z < 1, -_sign(y), 0.0),
    ),
}


def _gaussian(z):
    """(means, variances, what the variances would be without the little that is added)."""
    means, logs = np.split(z, 2, axis=1)
    return means, np.exp(logs) + 1e-6, np.exp(logs)


def _gaussian_value(z, y):
    means, variances, _ = _gaussian(z)
    return np.sum(np.log(variances) + (y - means) ** 2 / variances) / 2


def _gaussian_slope(z, y):
    means, variances, inner = _gaussian(z)
    return np.hstack([(means - y) / variances, inner / variances * (1 - (y - means) ** 2 / variances) / 2])


LOGIT_LOSSES |= {
    "identity_gaussian": (lambda z: z, _gaussian_value, _gaussian_slope),
    "sigmoid_clipped_cross_entropy": (
        ACTIVATIONS["sigmoid"][0],
        _clipped_sigmoid_cross_entropy,
        LOGIT_LOSSES["sigmoid_cross_entropy"][2],
    ),
    "softmax_clipped_cross_entropy": (
        softmax,
        _clipped_softmax_cross_entropy,
        LOGIT_LOSSES["softmax_cross_entropy"][2],
    ),
}


def matmul(a, b, c0):
    """C0 + A @ B; for A.T @ B pass A.T."""
    return c0 + a @ b


def matmul_nt(a, b):
    """A @ B.T."""
    return a @ b.T


def one_hot(labels, n_out):
    """The rows of zeros with a one at the label."""
    return np.eye(n_out)[labels]


def gather(source, order, first, rows, scale):
    """scale * source[order[first : first + rows]]; an empty order is the order of source."""
    return scale * (source[order[first : first + rows]] if len(order) else source[first : first + rows])


def gather_shifted(source, order, first, rows, shift, scale):
    """(source[order[first : first + rows]] - shift) * scale; an empty order is the order of source."""
    return scale * (gather(source, order, first, rows, 1.0) - shift)


def split_mix(state):
    """(64 random bits, next state): SplitMix64 (Steele, Lea and Flood 2014)."""
    bits = 2**64 - 1
    state = (state + 0x9E3779B97F4A7C15) & bits
    z = state
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & bits
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & bits
    return z ^ (z >> 31), state


def random_bits(key, salt, first, rows, width):
    """32 random bits for each neuron of samples `first`, `first` + 1, .., (rows, width) uint32."""
    low, high = np.uint32((key ^ salt * 0x9E3779B9) % 2**32), np.uint32(key >> 32)
    x = (np.arange(first * width, (first + rows) * width) % 2**32).astype(np.uint32)
    x ^= low
    x = (x ^ x >> np.uint32(16)) * np.uint32(0x7FEB352D)
    x ^= high
    x = (x ^ x >> np.uint32(15)) * np.uint32(0x846CA68B)
    return (x ^ x >> np.uint32(16)).reshape(rows, width)


def dropout_factors(key, salt, first, rows, width, rate):
    """What outputs are multiplied by: 0 with probability `rate`, else 1 / (1 - rate)."""
    return (random_bits(key, salt, first, rows, width) >= rate * 2**32) / (1 - rate)


def normal(key, salt, first, rows, width):
    """Standard normal numbers, of 23 random bits each."""
    inverse = np.vectorize(NormalDist().inv_cdf, otypes=[float])
    return inverse(((random_bits(key, salt, first, rows, width) >> np.uint32(9)) + 0.5) / 2**23)


def draw_order(n, state):
    """(permutation of n, next state): Fisher-Yates inside out, with SplitMix64 and Lemire's unbiased range."""

    def high_half():
        nonlocal state
        value, state = split_mix(state)
        return value >> 32

    order = []
    for i in range(n):
        span = i + 1
        product = high_half() * span
        while product % 2**32 < 2**32 % span:
            product = high_half() * span
        j = product >> 32
        order.append(i)
        order[i], order[j] = order[j], i
    return np.array(order), state


# Layers beside the dense (W, b, activation). Numbers of each neuron are (n,). A running mean and variance do not train.
class Residual(NamedTuple):
    """f(the output of the last of some layers + the input of the first)."""

    layers: list[Any]
    activation: str = "identity"


class Scale(NamedTuple):
    """weight * x."""

    weight: Any
    activation: str = "identity"


class PReLU(NamedTuple):
    """x where x > 0, else weight * x."""

    weight: Any
    activation: str = "identity"


class LayerNorm(NamedTuple):
    """f(weight * x' + bias), x' being x normalised over the neurons of each sample."""

    weight: Any
    bias: Any
    activation: str = "identity"
    epsilon: float = 1e-5


class BatchNorm(NamedTuple):
    """f(weight * x' + bias), x' being x normalised over the samples, or in prediction by the running statistics."""

    weight: Any
    bias: Any
    running_mean: Any
    running_variance: Any
    activation: str = "identity"
    epsilon: float = 1e-5
    momentum: float = 0.1


class Embedding(NamedTuple):
    """The columns of x that are no codes; then for each column of codes the rows of its table, (categories, width)."""

    tables: list[Any]
    columns: tuple[int, ...]
    activation: str = "identity"


@dataclass
class _Pass:
    """How samples go through a network, and what the layers gave: a layer in a `Residual` counts like any other."""

    factors: list[Any] | None = None  # what multiplies the output of each layer
    share: float = 0.0  # of the largest derivative, see `_derivative`
    batch: bool = False  # whether BatchNorm takes the statistics of the samples
    track: bool = False  # whether its running statistics follow them
    outputs: list[Any] = field(default_factory=list)


# Each function takes (layer, x, pass). It gives z and a function, from dC/dz to dC/dx and the gradients of the layers
# that have parameters: a list with a tuple of arrays for each.
def _dense(layer, x, _):
    w, b, _ = layer
    return matmul(x, w, b), lambda d: (matmul_nt(d, w), [(x.T @ d, d.sum(axis=0))])


def _scale(layer, x, _):
    return x * layer.weight, lambda d: (d * layer.weight, [((x * d).sum(axis=0),)])


def sloped(y, x, slope):
    """y where x > 0, else y * slope, a number a neuron."""
    return np.where(x > 0, y, y * slope)


def _prelu(layer, x, _):
    gradient = lambda d: [((np.minimum(x, 0) * d).sum(axis=0),)]  # noqa: E731
    return sloped(x, x, layer.weight), lambda d: (sloped(d, x, layer.weight), gradient(d))


def normalise(x, axis, epsilon):
    """(x', mean, variance, 1 / sqrt(variance + epsilon)) over an axis, which stays."""
    mean, variance = x.mean(axis, keepdims=True), x.var(axis, keepdims=True)
    root = 1 / np.sqrt(variance + epsilon)
    return (x - mean) * root, mean, variance, root


def normalise_backward(d, x, root, axis):
    """dC/dx from dC/dx' and x', which is normalised over an axis."""
    return root * (d - d.mean(axis, keepdims=True) - x * (d * x).mean(axis, keepdims=True))


def _normalised(layer, x, backward):
    """weight * x' + bias; `backward` makes dC/dx of dC/dx'."""
    gradients = lambda d: [((x * d).sum(axis=0), d.sum(axis=0))]  # noqa: E731
    return layer.weight * x + layer.bias, lambda d: (backward(d * layer.weight), gradients(d))


def _layer_norm(layer, x, _):
    x, _, _, root = normalise(x, 1, layer.epsilon)
    return _normalised(layer, x, lambda d: normalise_backward(d, x, root, 1))


def _batch_norm(layer, x, how):
    mean, variance = layer.running_mean, layer.running_variance
    if not how.batch:
        root = 1 / np.sqrt(variance + layer.epsilon)
        return _normalised(layer, (x - mean) * root, lambda d: d * root)
    n, (x, of_batch, of_squares, root) = len(x), normalise(x, 0, layer.epsilon)
    if how.track:
        mean += layer.momentum * (of_batch[0] - mean)
        variance += layer.momentum * (of_squares[0] * n / (n - 1) - variance)
    return _normalised(layer, x, lambda d: normalise_backward(d, x, root, 0))


def _residual(layer, x, how):
    z, backward = _through(layer.layers, x, how)

    def both(d):
        dx, gradients = backward(d)
        return dx + d, gradients

    return z + x, both


def embed(table, codes):
    """table[codes]; NaN where a code is none of the table."""
    known = (codes >= 0) & (codes < len(table)) & (codes == np.floor(codes))
    return np.where(known[:, None], table[np.where(known, codes, 0).astype(int)], np.nan)


def add_by_codes(out, d, codes, first=0):
    """out[codes[i] - first] += d[i], for codes that out has a row for."""
    for code, row in zip(codes, d, strict=True):
        if first <= code < first + len(out):
            out[int(code) - first] += row


def _embedding(layer, x, _):
    tables, columns = layer.tables, list(layer.columns)
    codes, numbers = x[:, columns].T, np.setdiff1d(np.arange(x.shape[1]), columns)
    z = np.hstack([x[:, numbers], *map(embed, tables, codes)])

    def backward(d):
        dx, gradients = np.zeros_like(x), [np.zeros_like(table) for table in tables]
        dx[:, numbers] = d[:, : len(numbers)]
        edges = np.cumsum([len(numbers), *(table.shape[1] for table in tables)])
        for gradient, of_column, (first, stop) in zip(gradients, codes, itertools.pairwise(edges), strict=True):
            add_by_codes(gradient, d[:, first:stop], of_column)
        return dx, [tuple(gradients)]

    return z, backward


KINDS = {tuple: _dense, Scale: _scale, LayerNorm: _layer_norm, BatchNorm: _batch_norm, Residual: _residual}
KINDS |= {Embedding: _embedding, PReLU: _prelu}


def _through(layers, x, how):
    """(the output of some layers, the function from its derivative to dC/dx and the gradients of all these layers)."""
    backwards = []
    for layer in layers:
        x, backward = _activated(layer, x, how)
        backwards.append(backward)

    def backward(d):
        gradients = []
        for each in reversed(backwards):
            d, further = each(d)
            gradients = further + gradients
        return d, gradients

    return x, backward


def _activated(layer, x, how):
    """What `_through` gives, for a single layer with its activation and its factors."""
    z, backward = KINDS[type(layer)](layer, x, how)
    name = layer[2] if type(layer) is tuple else layer.activation
    a = softmax(z) if name == "softmax" else ACTIVATIONS[name][0](z)
    factor = 1.0 if how.factors is None else how.factors[len(how.outputs)]
    how.outputs.append(a * factor)

    def through_activation(d):
        d = d * factor
        return backward(softmax_backward(d, a) if name == "softmax" else d * _derivative(name, (z, a), how.share))

    return a * factor, through_activation


def numbered(network):
    """The layers that have parameters, in the order of their numbers."""
    for layer in network:
        yield from numbered(layer.layers) if isinstance(layer, Residual) else [layer]


def widths(network, width):
    """How many outputs each layer has, those in a `Residual` and the sum included; `width` is that of the inputs."""
    for layer in network:
        if isinstance(layer, Residual):
            yield from widths(layer.layers, width)
        if isinstance(layer, Embedding):
            width += sum(table.shape[1] - 1 for table in layer.tables)
        width = len(layer[1]) if type(layer) is tuple else width
        yield width


def trained(layer):
    """The arrays of a layer that train."""
    if isinstance(layer, Embedding):
        return layer.tables
    return layer[: 1 if isinstance(layer, (Scale, PReLU)) else 2]


def forward(network, x):
    """[x, the outputs of each layer]; the sum of a `Residual` follows the outputs of its layers."""
    how = _Pass()
    _through(network, x, how)
    return [x, *how.outputs]


def input_gradients(network, x):
    """The derivatives of the outputs by the inputs, (n, outputs, inputs): of one output after another."""
    outputs, backward = _through(network, x, _Pass())
    unit = np.eye(outputs.shape[1])
    return np.stack([backward(np.tile(row, (len(x), 1)))[0] for row in unit], axis=1)


def backward(network, x, d_a, factors=None, statistics="batch"):
    """(the outputs, dC/dx, [(dW, db), ..]) for dC/da; factors and statistics are as in `gradients`."""
    outputs, through = _through(network, x, _Pass(factors, batch=statistics != "running"))
    return outputs, *through(d_a)


def loss(name, a, y, *parameter):
    """(summed loss, its derivative in a)."""
    value, slope = LOSSES[name]
    return value(a, y, *parameter), slope(a, y, *parameter)


LARGEST_DERIVATIVES = {"sigmoid": 0.25, "tanh": 1.0}  # largest f' of activations that saturate on both sides


def _derivative(activation, source, share):
    """f', for an activation that saturates at least a share of its largest value."""
    slope = ACTIVATIONS[activation][1](*source)
    return np.maximum(slope, share * LARGEST_DERIVATIVES[activation]) if activation in LARGEST_DERIVATIVES else slope


def gradients(network, x, y, loss_name="quadratic", weights=None, factors=None, share=0.0, statistics="batch"):
    """(summed loss, [(dW, db), ..]): the gradients summed over the samples, each by its weight.

    factors, an array (n, fan_out) a layer, multiply the outputs of layers, as dropout does. Derivatives of activations
    that saturate count as at least a share of the largest one. BatchNorm takes the statistics of the samples, or the
    "running" ones; "tracked" lets the running ones follow.
    """
    value, slope = LOSSES.get(loss_name, LOGIT_LOSSES.get(loss_name, ())[-2:])
    if loss_name in LOGIT_LOSSES:
        network = [*network[:-1], (*network[-1][:2], "identity")]
    a, backward = _through(network, x, _Pass(factors, share, statistics != "running", statistics == "tracked"))
    d = slope(a, y)
    if weights is None:
        return value(a, y), backward(d)[1]
    rows = [slice(i, i + 1) for i in range(len(x))]
    return sum(w * value(a[i], y[i]) for w, i in zip(weights, rows, strict=True)), backward(d * weights[:, None])[1]


# name: (p, g, t, vectors, settings) -> (p, vectors); t counts steps from 1
def _momentum(p, g, t, vectors, learning_rate, momentum):
    v = momentum * vectors[0] - learning_rate * g
    return p + v, [v]


def _nesterov(p, g, t, vectors, learning_rate, momentum):
    v = momentum * vectors[0] - learning_rate * g
    return p + momentum * v - learning_rate * g, [v]


def _adam(p, g, t, vectors, learning_rate, beta_1, beta_2, epsilon):
    m = beta_1 * vectors[0] + (1 - beta_1) * g
    v = beta_2 * vectors[1] + (1 - beta_2) * g**2
    m_hat, v_hat = m / (1 - beta_1**t), v / (1 - beta_2**t)
    return p - learning_rate * m_hat / (np.sqrt(v_hat) + epsilon), [m, v]


def _adam_hat(p, g, t, vectors, learning_rate, beta_1, beta_2, epsilon):
    m = beta_1 * vectors[0] + (1 - beta_1) * g
    v = beta_2 * vectors[1] + (1 - beta_2) * g**2
    rate = learning_rate * np.sqrt(1 - beta_2**t) / (1 - beta_1**t)
    return p - rate * m / (np.sqrt(v) + epsilon), [m, v]


def _adamw(p, g, t, vectors, learning_rate, beta_1, beta_2, epsilon, weight_decay):
    return _adam(p - learning_rate * weight_decay * p, g, t, vectors, learning_rate, beta_1, beta_2, epsilon)


def _nadam(p, g, t, vectors, learning_rate, beta_1, beta_2, epsilon, shrink):
    mus = [beta_1 * (1 - 0.5 * shrink**i) for i in range(1, t + 2)]
    m = beta_1 * vectors[0] + (1 - beta_1) * g
    v = beta_2 * vectors[1] + (1 - beta_2) * g**2
    step = mus[t] / (1 - np.prod(mus)) * m + (1 - mus[t - 1]) / (1 - np.prod(mus[:t])) * g
    return p - learning_rate * step / (np.sqrt(v / (1 - beta_2**t)) + epsilon), [m, v]


def _rmsprop(p, g, t, vectors, learning_rate, alpha, epsilon):
    v = alpha * vectors[0] + (1 - alpha) * g**2
    return p - learning_rate * g / (np.sqrt(v) + epsilon), [v]


def _adagrad(p, g, t, vectors, learning_rate, epsilon):
    v = vectors[0] + g**2
    return p - learning_rate * g / (np.sqrt(v) + epsilon), [v]


def _lion(p, g, t, vectors, learning_rate, beta_1, beta_2, weight_decay):
    step = np.sign(beta_1 * vectors[0] + (1 - beta_1) * g)
    return p - learning_rate * (step + weight_decay * p), [beta_2 * vectors[0] + (1 - beta_2) * g]


def _rprop(p, g, t, vectors, learning_rate, eta_minus, eta_plus, smallest, largest):
    before, size = vectors[0], np.where(vectors[1] == 0, learning_rate, vectors[1])
    product = g * before
    size = np.clip(size * np.where(product > 0, eta_plus, np.where(product < 0, eta_minus, 1)), smallest, largest)
    never = (vectors[1] == 0) & (g == 0)  # its size is kept as zero until there is a gradient
    g = np.where(product < 0, 0, g)
    return p - np.sign(g) * size, [g, np.where(never, 0, size)]


OPTIMIZERS = {
    "sgd": lambda p, g, t, vectors, learning_rate: (p - learning_rate * g, []),
    "sgd_with_gradient": lambda p, g, t, vectors, learning_rate: (p - learning_rate * g, []),
    "momentum": _momentum,
    "nesterov": _nesterov,
    "adam": _adam,
    "adam_hat": _adam_hat,
    "adamw": _adamw,
    "nadam": _nadam,
    "rmsprop": _rmsprop,
    "adagrad": _adagrad,
    "lion": _lion,
    "rprop": _rprop,
}


def own_settings(settings, layer, i, rate_factors=(), decay_biases=True):
    """An optimizer's settings for array i of those of a layer that train; the first one is the learning rate.

    rate_factors has those of the learning rate by names, "bias" or "Dense.bias", which counts first. Without
    decay_biases the last setting, a weight decay, is for weights of dense layers alone.
    """
    kind, factors = "Dense" if type(layer) is tuple else type(layer).__name__, dict(rate_factors or ())
    name = "embedding" if kind == "Embedding" else ("weight", "bias")[i]
    rate, *rest = settings
    if not decay_biases and (kind, name) != ("Dense", "weight"):
        rest[-1] = 0.0
    return rate * factors.get(f"{kind}.{name}", factors.get(name, 1.0)), *rest


def _by_rules(rules, network, x, y, key, first):
    """(samples, targets, factors of the layers' outputs) of a batch whose first sample is `first` in its epoch."""
    if rules is None:
        return x, y, None
    n = len(x)
    if rules.input_noise:
        noise = normal(key, 0, first, n, x.shape[1])
        if isinstance(network[0], Embedding):
            noise[:, network[0].columns] = 0
        x = x + rules.input_noise * noise
    if rules.label_smoothing:
        other = 1 / y.shape[1] if network[-1][2] == "softmax" else 0.5
        y = (1 - rules.label_smoothing) * y + rules.label_smoothing * other
    pairs = enumerate(zip(widths(network, x.shape[1]), rules.dropout, strict=True)) if rules.dropout else ()
    factors = [dropout_factors(key, i + 1, first, n, width, rate) for i, (width, rate) in pairs]
    return x, y, factors or None


def train(
    network,
    x,
    y,
    order,
    batch_size,
    *settings,
    loss_name="quadratic",
    optimizer="sgd",
    weights=None,
    l2=(0.0, 0.0),
    l1=(0.0, 0.0),
    rules=None,
    seed=0,
    batch_means=False,
    rates=None,
    rate_factors=(),
    decay_biases=True,
):
    """(mean loss of each epoch, the network after them); order is (epochs, n), settings the optimizer's.

    weights (n,) are the samples', one each if there are none. l2[0] / 2 times the sum of W^2 is added to the mean loss
    of a batch, l2[1] / 2 times it to the sum; l1 times the sum of |W|. rules has the values of the rules, by the
    names in `memory.settings_dtype`, or is a list of these for each epoch; `seed` is the state of the generator of
    their keys. With batch_means the mean loss is that of the batches' means. Where there are rates, they are the
    learning rates of all steps, in place of settings[0], or (steps, k) numbers in place of the first k settings.
    rate_factors and decay_biases: see `own_settings`.
    """
    losses, t, network = [], 0, copy.deepcopy(network)
    each_rules = rules if isinstance(rules, list) else [rules] * len(order)
    draws = any(each is not None and bool(each.input_noise or any(each.dropout)) for each in each_rules)
    layers = list(numbered(network))
    arrays = [trained(layer) for layer in layers]  # changed in place
    dense = [type(layer) is tuple for layer in layers]  # whose weights have penalties
    vectors = [[[np.zeros_like(p), np.zeros_like(p)] for p in layer] for layer in arrays]
    for indices, rules in zip(order, each_rules, strict=True):
        total, counted = 0.0, 0.0
        for first in range(0, len(indices), batch_size):
            batch = indices[first : first + batch_size]
            of_batch = None if weights is None else weights[batch]
            count = float(len(batch)) if of_batch is None else of_batch.sum()
            if count == 0:
                continue
            key, seed = split_mix(seed) if draws else (0, seed)
            inputs, targets, factors = _by_rules(rules, network, x[batch], y[batch], key, first)
            share = rules.min_derivative if rules else 0.0
            chosen = loss_name, of_batch, factors, share, "tracked"
            value, summed = gradients(network, inputs, targets, *chosen)
            c, c1 = (strength[0] * count + strength[1] for strength in (l2, l1))
            for (w, *_), gradient in itertools.compress(zip(arrays, summed, strict=True), dense):
                value += c / 2 * np.sum(w**2) + c1 * np.sum(np.abs(w))
                gradient[0][...] += c * w + c1 * np.sign(w)
            if rules and rules.clip_value:
                summed = [[count * np.clip(g / count, -rules.clip_value, rules.clip_value) for g in x] for x in summed]
            if rules and rules.clip_norm:
                norm = np.sqrt(sum(np.sum((g / count) ** 2) for x in summed for g in x))
                summed = [[g * min(1, rules.clip_norm / (norm + 1e-6)) for g in x] for x in summed]
            share = len(batch) / count if batch_means else 1
            total, counted = total + share * value, counted + share * count
            t += 1
            now = () if rates is None else np.atleast_1d(rates[t - 1])
            settings = (*now, *settings[len(now) :])
            for layer, its, gradient, state in zip(layers, arrays, summed, vectors, strict=True):
                for i, (p, g) in enumerate(zip(its, gradient, strict=True)):
                    own = own_settings(settings, layer, i, rate_factors, decay_biases)
                    p[...], state[i] = OPTIMIZERS[optimizer](p, g / count, t, state[i], *own)
            for w, _ in itertools.compress(arrays, dense) if rules and rules.max_norm else ():
                w *= np.minimum(1, rules.max_norm / np.linalg.norm(w, axis=0))
        losses.append(total / counted)
    return losses, network
