"""The baseline: mini-batch SGD on sigmoid layers with the quadratic cost, as fast as plain NumPy runs it.

What was measured and kept (samples/s on one core, AVX-512): weights as (fan_in, fan_out) and a batch's samples in
rows (the other three combinations: -10% to +5%, mostly slower); gathering some 256 rows at a time and making all
views once (+10% to +30% at small batches); a(1 - a) of all layers in one go and constants as 0-d arrays (+5% to +30%).
"""

from itertools import pairwise

import numpy as np

GATHERED_ROWS = 256
ONE = np.array(1, np.float32)


class NumpyMLP:
    """A network of sigmoid layers. parameters is [(weights (fan_out, fan_in), biases (fan_out,)), ...].

    All parameters lie in one vector and their gradients in another, so that the update is one addition. Biases are
    kept negated: -(z + b) = -b - z then costs no more than adding them, and is what the sigmoid's exp wants.
    """

    def __init__(self, sizes, parameters):
        self.sizes = tuple(sizes)
        self._parameters = np.empty(sum((i + 1) * o for i, o in pairwise(sizes)), np.float32)
        self._gradient = np.empty_like(self._parameters)
        self._W, self._minus_b = self._views(self._parameters)
        self._dW, self._minus_db = self._views(self._gradient)
        for W, minus_b, (weights, biases) in zip(self._W, self._minus_b, parameters, strict=True):
            W[...] = weights.T
            minus_b[...] = -biases
        self._buffers = {}  # by the number of rows: the batch size and that of the last batch

    def _views(self, vector):
        """Each layer's (fan_in, fan_out) and (1, fan_out) in a vector laid out like the parameters."""
        matrices, rows = [], []
        for i, o in pairwise(self.sizes):
            matrices.append(vector[: i * o].reshape(i, o))
            rows.append(vector[i * o : (i + 1) * o].reshape(1, o))
            vector = vector[(i + 1) * o :]
        return matrices, rows

    @property
    def weights(self):
        return [W.T for W in self._W]

    @property
    def biases(self):
        return [-minus_b[0] for minus_b in self._minus_b]

    def fit(self, X, labels, order, batch_size, learning_rate):
        """Train on X, float32 (n, n_inputs), and class indices (n,); `order` yields the n indices of each epoch."""
        targets = np.eye(self.sizes[-1], dtype=np.float32)[labels]
        chunk = max(1, GATHERED_ROWS // batch_size) * batch_size
        x, y = (np.empty((chunk, a.shape[1]), np.float32) for a in (X, targets))
        whole = [(x[i : i + batch_size], y[i : i + batch_size]) for i in range(0, chunk, batch_size)]
        whole = [(rows, rows.T, goals) for rows, goals in whole]
        with np.errstate(over="ignore"):  # exp(-z) of a very negative z is infinite, its sigmoid zero
            for indices in order:
                for start in range(0, len(X), chunk):
                    chosen = indices[start : start + chunk]
                    n = len(chosen)
                    # "clip" writes straight into out, where "raise" fills a temporary first
                    np.take(X, chosen, axis=0, out=x[:n], mode="clip")
                    np.take(targets, chosen, axis=0, out=y[:n], mode="clip")
                    for rows, rows_T, goals in whole[: n // batch_size]:
                        self._step(rows, rows_T, goals, batch_size, learning_rate)
                    if left := n % batch_size:
                        rows = x[n - left : n]
                        self._step(rows, rows.T, y[n - left : n], left, learning_rate)

    def _allocate(self, n):
        """The buffers of a batch of n rows, and the operands of its products."""
        units = self.sizes[1:]
        flat_a, flat_slope = np.empty((2, n * sum(units)), np.float32)
        ends = n * np.cumsum(units)
        a, slope = ([v.reshape(n, -1) for v in np.split(flat, ends[:-1])] for flat in (flat_a, flat_slope))
        d = [np.empty((n, k), np.float32) for k in units]
        forward = list(zip(self._W, self._minus_b, a, strict=True))
        minus_ones = np.full((1, n), -1, np.float32)
        backward = [  # from the last layer down to the second
            (d[l], slope[l], a[l - 1].T, self._dW[l], self._minus_db[l], self._W[l].T, d[l - 1])
            for l in range(len(units) - 1, 0, -1)
        ]
        return forward, backward, flat_a, flat_slope, d[-1], d[0], slope[0], minus_ones, np.empty((), np.float32)

    def _step(self, x, x_T, y, n, learning_rate):
        """One step of SGD on a batch of n rows."""
        if n not in self._buffers:
            self._buffers[n] = self._allocate(n)
        forward, backward, flat_a, flat_slope, d_last, d_first, slope_first, minus_ones, scale = self._buffers[n]
        a = x
        for W, minus_b, z in forward:  # z becomes a = 1 / (1 + exp(-(a_below W + b)))
            np.dot(a, W, out=z)
            np.subtract(minus_b, z, out=z)
            np.exp(z, out=z)
            np.add(z, ONE, out=z)
            a = np.reciprocal(z, out=z)
        np.multiply(flat_a, flat_a, out=flat_slope)
        np.subtract(flat_a, flat_slope, out=flat_slope)
        scale[...] = -learning_rate / n  # scales the deltas, the smallest arrays: then gradients are the update
        np.subtract(a, y, out=d_last)
        np.multiply(d_last, scale, out=d_last)
        for d, slope, below_T, dW, minus_db, W_T, d_below in backward:
            np.multiply(d, slope, out=d)
            np.dot(below_T, d, out=dW)
            np.dot(minus_ones, d, out=minus_db)
            np.dot(d, W_T, out=d_below)
        np.multiply(d_first, slope_first, out=d_first)
        np.dot(x_T, d_first, out=self._dW[0])
        np.dot(minus_ones, d_first, out=self._minus_db[0])
        np.add(self._parameters, self._gradient, out=self._parameters)
