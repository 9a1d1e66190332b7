"""The kernels' twins in plain NumPy, float64: the oracle they are tested against. Written for reading, not for speed.

A network is a list of (W, b, activation) with W of shape (fan_in, fan_out), as the kernels hold it. Samples are rows.
"""

import math
from statistics import NormalDist
from typing import Any

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


def forward(network, x):
    """[x, the outputs of each layer]."""
    return _forward(network, x)[0]


def _forward(network, x, factors=None):
    """([x, the outputs of each layer], [z and the output of each layer's activation]); factors multiply the outputs."""
    outputs, sources = [x], []
    for i, (w, b, activation) in enumerate(network):
        z = matmul(outputs[-1], w, b)
        outputs.append(softmax(z) if activation == "softmax" else ACTIVATIONS[activation][0](z))
        sources.append((z, outputs[-1]))
        if factors is not None:
            outputs[-1] = outputs[-1] * factors[i]
    return outputs, sources


def input_gradients(network, x):
    """The derivatives of the outputs by the inputs, (n, outputs, inputs): of one output after another."""
    outputs, sources = _forward(network, x)
    found = []
    for k in range(outputs[-1].shape[1]):
        d = np.zeros_like(outputs[-1])
        d[:, k] = 1
        for i in range(len(network) - 1, -1, -1):
            w, _, name = network[i]
            d = softmax_backward(d, outputs[i + 1]) if name == "softmax" else d * _derivative(name, sources[i], 0.0)
            d = matmul_nt(d, w)
        found.append(d)
    return np.stack(found, axis=1)


def loss(name, a, y, *parameter):
    """(summed loss, its derivative in a)."""
    value, slope = LOSSES[name]
    return value(a, y, *parameter), slope(a, y, *parameter)


LARGEST_DERIVATIVES = {"sigmoid": 0.25, "tanh": 1.0}  # largest f' of activations that saturate on both sides


def _derivative(activation, source, share):
    """f', for an activation that saturates at least a share of its largest value."""
    slope = ACTIVATIONS[activation][1](*source)
    return np.maximum(slope, share * LARGEST_DERIVATIVES[activation]) if activation in LARGEST_DERIVATIVES else slope


def gradients(network, x, y, loss_name="quadratic", weights=None, factors=None, share=0.0):
    """(summed loss, [(dW, db), ..]): the gradients summed over the samples, each by its weight.

    factors, an array (n, fan_out) a layer, multiply the outputs of layers, as dropout does. Derivatives of activations
    that saturate count as at least a share of the largest one.
    """
    outputs, sources = _forward(network, x, factors)
    if loss_name in LOGIT_LOSSES:
        w, b, _ = network[-1]
        _, value, slope = LOGIT_LOSSES[loss_name]
        at_last = matmul(outputs[-2], w, b)
        total, d = value(at_last, y), slope(at_last, y)
    else:
        value, at_last = LOSSES[loss_name][0], outputs[-1]
        total, d = loss(loss_name, at_last, y)
        d = d * _derivative(network[-1][2], sources[-1], share)
    if weights is not None:
        rows = [slice(i, i + 1) for i in range(len(x))]
        total = sum(weight * value(at_last[row], y[row]) for weight, row in zip(weights, rows, strict=True))
        d = d * weights[:, None]
    result = []
    for i in range(len(network) - 1, -1, -1):
        w, _, _ = network[i]
        result.append((outputs[i].T @ d, d.sum(axis=0)))
        if i:
            d = matmul_nt(d, w) * _derivative(network[i - 1][2], sources[i - 1], share)
            d = d if factors is None else d * factors[i - 1]
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


def _by_rules(rules, network, x, y, key, first):
    """(samples, targets, factors of the layers' outputs) of a batch whose first sample is `first` in its epoch."""
    if rules is None:
        return x, y, None
    n = len(x)
    if rules.input_noise:
        x = x + rules.input_noise * normal(key, 0, first, n, x.shape[1])
    if rules.label_smoothing:
        other = 1 / y.shape[1] if network[-1][2] == "softmax" else 0.5
        y = (1 - rules.label_smoothing) * y + rules.label_smoothing * other
    widths = enumerate((len(b), rate) for (_, b, _), rate in zip(network, rules.dropout, strict=bool(rules.dropout)))
    factors = [dropout_factors(key, i + 1, first, n, width, rate) for i, (width, rate) in widths]
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
):
    """(mean loss of each epoch, the network after them); order is (epochs, n), settings the optimizer's.

    weights (n,) are the samples', one each if there are none. l2[0] / 2 times the sum of W^2 is added to the mean loss
    of a batch, l2[1] / 2 times it to the sum; l1 times the sum of |W|. rules has the values of the rules, by the
    names in `memory.settings_dtype`; `seed` is the state of the generator of their keys. With batch_means the mean
    loss is that of the batches' means. Where there are rates, they are the learning rates of all steps, in place of
    settings[0].
    """
    losses, t, draws = [], 0, rules is not None and bool(rules.input_noise or any(rules.dropout))
    vectors = [[[np.zeros_like(p), np.zeros_like(p)] for p in layer[:2]] for layer in network]
    for indices in order:
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
            value, summed = gradients(network, inputs, targets, loss_name, of_batch, factors, share)
            c, c1 = (strength[0] * count + strength[1] for strength in (l2, l1))
            value += sum(c / 2 * np.sum(w**2) + c1 * np.sum(np.abs(w)) for w, *_ in network)
            pairs = zip(summed, network, strict=True)
            summed = [[dw + c * w + c1 * np.sign(w), db] for (dw, db), (w, *_) in pairs]
            if rules and rules.clip_value:
                summed = [[count * np.clip(g / count, -rules.clip_value, rules.clip_value) for g in x] for x in summed]
            if rules and rules.clip_norm:
                norm = np.sqrt(sum(np.sum((g / count) ** 2) for x in summed for g in x))
                summed = [[g * min(1, rules.clip_norm / (norm + 1e-6)) for g in x] for x in summed]
            share = len(batch) / count if batch_means else 1
            total, counted = total + share * value, counted + share * count
            t += 1
            network = [list(layer) for layer in network]
            settings = settings if rates is None else (rates[t - 1], *settings[1:])
            for layer, gradient, state in zip(network, summed, vectors, strict=True):
                for i, g in enumerate(gradient):
                    layer[i], state[i] = OPTIMIZERS[optimizer](layer[i], g / count, t, state[i], *settings)
                if rules and rules.max_norm:
                    layer[0] = layer[0] * np.minimum(1, rules.max_norm / np.linalg.norm(layer[0], axis=0))
        losses.append(total / counted)
    return losses, [tuple(layer) for layer in network]
