"""The baseline in Numba: mini-batch SGD on sigmoid layers with the quadratic cost, as plain loops.

Each function is a formula of docs/learn, written element by element. `prange` shares the outer loop of a
product among threads: samples in the passes, neurons in the update, so no two threads write the same element. The
arrays are float32 and contiguous, and the innermost loop runs along a row, so that LLVM makes vector code of it.

What was measured and kept (one core): weights as (fan_out, fan_in), 1.0 to 1.9 times as fast as the other way round;
no `prange` for a single thread, where starting the loops takes longer than a step of 64-32-10 on one sample.
"""

import numpy as np
from numba import config, njit, prange

ONE = np.float32(1)
compiled = njit(parallel=config.NUMBA_NUM_THREADS > 1, fastmath={"contract", "nsz", "reassoc"})


@njit
def gather(rows, batch, into):
    """into[i] = rows[batch[i]]: rows (n_samples, width), batch (n,), into (at least n, width)."""
    for i in range(len(batch)):
        for k in range(rows.shape[1]):
            into[i, k] = rows[batch[i], k]


@compiled
def forward(x, W, b, a):
    """a = sigmoid(W x + b): x (n, fan_in), W (fan_out, fan_in), b (fan_out,), a (n, fan_out)."""
    for i in prange(len(x)):
        for j in range(len(W)):
            z = b[j]
            for k in range(W.shape[1]):
                z += W[j, k] * x[i, k]
            a[i, j] = ONE / (ONE + np.exp(-z))


@njit
def output_delta(a, y, d):
    """d = (a - y) * sigmoid'(z), where sigmoid'(z) = a (1 - a): all (n, n_outputs)."""
    for i in range(len(a)):
        for j in range(a.shape[1]):
            d[i, j] = (a[i, j] - y[i, j]) * a[i, j] * (ONE - a[i, j])


@compiled
def hidden_delta(W, d, a, below):
    """below = W^T d * sigmoid'(z), for the outputs a of the layer below: a and below (n, fan_in), d (n, fan_out)."""
    for i in prange(len(a)):
        below[i] = 0
        for j in range(len(W)):
            for k in range(W.shape[1]):
                below[i, k] += W[j, k] * d[i, j]
        for k in range(W.shape[1]):
            below[i, k] *= a[i, k] * (ONE - a[i, k])


@compiled
def descend(W, b, d, x, rate):
    """W -= rate * d^T x and b -= rate * d, summed over the samples: d (n, fan_out), x (n, fan_in)."""
    for j in prange(len(W)):
        for i in range(len(x)):
            step = rate * d[i, j]
            b[j] -= step
            for k in range(W.shape[1]):
                W[j, k] -= step * x[i, k]


@njit
def epoch(X, Y, order, learning_rate, W, b, a, d, y):
    """Train on the samples X and targets Y in that order. W and b of each layer change; the other arrays are buffers
    with as many rows as a batch: a[0] and y hold its samples and targets, a[l + 1] and d[l] layer l's outputs and
    deltas."""
    for start in range(0, len(order), len(y)):
        batch = order[start : start + len(y)]
        n = len(batch)
        gather(X, batch, a[0])
        gather(Y, batch, y)
        for l in range(len(W)):
            forward(a[l][:n], W[l], b[l], a[l + 1][:n])
        output_delta(a[-1][:n], y[:n], d[-1][:n])
        for l in range(len(W) - 1, 0, -1):
            hidden_delta(W[l], d[l][:n], a[l][:n], d[l - 1][:n])
        for l in range(len(W)):
            descend(W[l], b[l], d[l][:n], a[l][:n], np.float32(learning_rate / n))


class NumbaMLP:
    """A network of sigmoid layers. parameters is [(weights (fan_out, fan_in), biases (fan_out,)), ...]."""

    def __init__(self, sizes, parameters):
        self.sizes = tuple(sizes)
        self.weights = tuple(np.array(weights, np.float32, order="C") for weights, _ in parameters)
        self.biases = tuple(np.array(biases, np.float32) for _, biases in parameters)

    def fit(self, X, labels, order, batch_size, learning_rate):
        """Train on X, float32 (n, n_inputs), and class indices (n,); `order` yields the n indices of each epoch."""
        Y = np.eye(self.sizes[-1], dtype=np.float32)[labels]
        a = tuple(np.empty((batch_size, size), np.float32) for size in self.sizes)
        d = tuple(np.empty_like(each) for each in a[1:])
        for indices in order:
            indices = np.asarray(indices, np.intp)  # each type of index would be compiled again
            epoch(X, Y, indices, learning_rate, self.weights, self.biases, a, d, np.empty_like(a[-1]))
