"""The kernels' twins in plain NumPy, float64: the oracle they are tested against. Written for reading, not for speed.

A network is a list of (W, b, activation) with W of shape (fan_in, fan_out), as the kernels hold it. Samples are rows.
"""

import math
from typing import Any

import numpy as np

_erfc = np.vectorize(math.erfc, otypes=[float])


def _normal_below(z):
    """The standard normal distribution at z."""
    return 0.5 * _erfc(-z / np.sqrt(2))


# name: (value of z, derivative in terms of the output a, or of z for those in FROM_Z)
FROM_Z = ("gelu", "silu")


def _sigmoid(z):
    return np.where(z < 0, np.exp(-np.abs(z)), 1) / (1 + np.exp(-np.abs(z)))


_SCALE, _ALPHA = 1.0507009873554805, 1.6732632423543772  # of selu
ACTIVATIONS: dict[str, Any] = {
    "identity": (lambda z: z, lambda a: np.ones_like(a)),
    "sigmoid": (_sigmoid, lambda a: a * (1 - a)),
    "tanh": (np.tanh, lambda a: 1 - a**2),
    "relu": (lambda z: np.where(np.isnan(z) | (z > 0), z, 0.0), lambda a: (a > 0) * 1.0),
    "gelu": (lambda z: z * _normal_below(z), lambda z: _normal_below(z) + z * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)),
    "leaky_relu": (lambda z: np.where(z > 0, z, 0.01 * z), lambda a: np.where(a > 0, 1, 0.01)),
    "elu": (lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))), lambda a: np.where(a > 0, 1, a + 1)),
    "selu": (
        lambda z: _SCALE * np.where(z > 0, z, _ALPHA * np.expm1(np.minimum(z, 0))),
        lambda a: np.where(a > 0, _SCALE, a + _SCALE * _ALPHA),
    ),
    "silu": (lambda z: z * _sigmoid(z), lambda z: _sigmoid(z) * (1 + z * (1 - _sigmoid(z)))),
    "softplus": (lambda z: np.logaddexp(0, z), lambda a: -np.expm1(-a)),
    "hard_sigmoid": (lambda z: np.clip((z + 3) / 6, 0, 1), lambda a: ((a > 0) & (a < 1)) / 6),
    "exp": (np.exp, lambda a: a),
    "step": (lambda z: np.where(np.isnan(z), z, np.where(z > 0, 1.0, 0.0)), lambda a: np.ones_like(a)),
}
# name: (summed value, derivative in a)
LOSSES = {
    "quadratic": (lambda a, y: 0.5 * np.sum((a - y) ** 2), lambda a, y: a - y),
    "absolute_error": (lambda a, y: np.sum(np.abs(a - y)), lambda a, y: np.sign(a - y)),
    "huber": (
        lambda a, y: np.sum(np.where(np.abs(a - y) < 1, 0.5 * (a - y) ** 2, np.abs(a - y) - 0.5)),
        lambda a, y: np.clip(a - y, -1, 1),
    ),
    "log_cosh": (lambda a, y: np.sum(np.log1p(np.sinh(a - y) ** 2)) / 2, lambda a, y: np.tanh(a - y)),
}


def softmax(z):
    """exp(z) / sum of exp(z) over the outputs, rows."""
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


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


# name: (output activation, summed value, derivative in z), of the logits z
LOGIT_LOSSES = {
    "sigmoid_cross_entropy": (
        ACTIVATIONS["sigmoid"][0],
        _sigmoid_cross_entropy,
        lambda z, y: ACTIVATIONS["sigmoid"][0](z) - y,
    ),
    "softmax_cross_entropy": (softmax, _softmax_cross_entropy, lambda z, y: softmax(z) - y),
    "exp_poisson": (np.exp, _poisson, lambda z, y: np.exp(z) - y),
}
LOGIT_LOSSES |= {
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


def draw_order(n, state):
    """(permutation of n, next state): Fisher-Yates inside out, with SplitMix64 and Lemire's unbiased range."""
    bits = 2**64 - 1

    def high_half():
        nonlocal state
        state = (state + 0x9E3779B97F4A7C15) & bits
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & bits
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & bits
        return (z ^ (z >> 31)) >> 32

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


def forward(network, x):
    """[x, the outputs of each layer]."""
    return _forward(network, x)[0]


def _forward(network, x):
    """([x, the outputs of each layer], [what each layer's derivative is taken from])."""
    outputs, sources = [x], []
    for w, b, activation in network:
        z = matmul(outputs[-1], w, b)
        outputs.append(softmax(z) if activation == "softmax" else ACTIVATIONS[activation][0](z))
        sources.append(z if activation in FROM_Z else outputs[-1])
    return outputs, sources


def loss(name, a, y):
    """(summed loss, its derivative in a)."""
    value, slope = LOSSES[name]
    return value(a, y), slope(a, y)


def gradients(network, x, y, loss_name="quadratic", weights=None):
    """(summed loss, [(dW, db), ..]): the gradients summed over the samples, each by its weight."""
    if weights is not None:
        parts = [gradients(network, x[i : i + 1], y[i : i + 1], loss_name) for i in range(len(x))]
        total = sum(w * value for w, (value, _) in zip(weights, parts, strict=True))
        layers = zip(*(part for _, part in parts), strict=True)
        return total, [tuple(sum(w * g[k] for w, g in zip(weights, x, strict=True)) for k in (0, 1)) for x in layers]
    outputs, sources = _forward(network, x)
    if loss_name in LOGIT_LOSSES:
        w, b, _ = network[-1]
        _, value, slope = LOGIT_LOSSES[loss_name]
        z = matmul(outputs[-2], w, b)
        total, d = value(z, y), slope(z, y)
    else:
        total, d = loss(loss_name, outputs[-1], y)
        d = d * ACTIVATIONS[network[-1][2]][1](sources[-1])
    result = []
    for i in range(len(network) - 1, -1, -1):
        w, _, _ = network[i]
        result.append((outputs[i].T @ d, d.sum(axis=0)))
        if i:
            d = matmul_nt(d, w) * ACTIVATIONS[network[i - 1][2]][1](sources[i - 1])
    return total, result[::-1]


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


OPTIMIZERS = {
    "sgd": lambda p, g, t, vectors, learning_rate: (p - learning_rate * g, []),
    "momentum": _momentum,
    "nesterov": _nesterov,
    "adam": _adam,
    "adam_hat": _adam_hat,
    "adamw": _adamw,
    "nadam": _nadam,
    "rmsprop": _rmsprop,
    "adagrad": _adagrad,
    "lion": _lion,
}


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
    batch_means=False,
    rates=None,
):
    """(mean loss of each epoch, the network after them); order is (epochs, n), settings the optimizer's.

    weights (n,) are the samples', one each if there are none. l2[0] / 2 times the sum of W^2 is added to the mean loss
    of a batch, l2[1] / 2 times it to the sum. With batch_means the mean loss is that of the batches' means. Where there
    are rates, they are the learning rates of all steps, in place of settings[0].
    """
    weights = np.ones(len(x)) if weights is None else weights
    losses, t = [], 0
    vectors = [[[np.zeros_like(p), np.zeros_like(p)] for p in layer[:2]] for layer in network]
    for indices in order:
        total, counted = 0.0, 0.0
        for first in range(0, len(indices), batch_size):
            batch = indices[first : first + batch_size]
            count = weights[batch].sum()
            if count == 0:
                continue
            value, summed = gradients(network, x[batch], y[batch], loss_name, weights[batch])
            c = l2[0] * count + l2[1]
            value += c / 2 * sum(np.sum(w**2) for w, *_ in network)
            summed = [(dw + c * w, db) for (dw, db), (w, *_) in zip(summed, network, strict=True)]
            share = len(batch) / count if batch_means else 1
            total, counted = total + share * value, counted + share * count
            t += 1
            network = [list(layer) for layer in network]
            settings = settings if rates is None else (rates[t - 1], *settings[1:])
            for layer, gradient, own in zip(network, summed, vectors, strict=True):
                for i, g in enumerate(gradient):
                    layer[i], own[i] = OPTIMIZERS[optimizer](layer[i], g / count, t, own[i], *settings)
        losses.append(total / counted)
    return losses, [tuple(layer) for layer in network]
