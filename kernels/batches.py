"""Batches: the order of the samples, and gathering a block of rows and targets into the workspace."""

import numpy as np
from numba import njit


@njit(nogil=True)
def _random(state):
    """The next 64 bits of SplitMix64 (Steele, Lea and Flood 2014); state is uint64[1]."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(nogil=True)
def draw_order(order, state):
    """Fill order, int32 (n,), with a random permutation (Fisher-Yates), unbiased (Lemire 2019)."""
    mask = np.uint64(0xFFFFFFFF)
    for i in range(order.size):
        span = np.uint64(i + 1)
        product = (_random(state) >> np.uint64(32)) * span
        if (product & mask) < span:
            threshold = (np.uint64(0x100000000) - span) % span
            while (product & mask) < threshold:
                product = (_random(state) >> np.uint64(32)) * span
        j = np.int64(product >> np.uint64(32))
        order[i] = order[j]
        order[j] = i


@njit(nogil=True)
def gather(source, order, first, rows, scale, work, out, out_row):
    """Rows of `source` into work: out[i] = scale * source[order[first + i]] for i < rows.

    source is (n, width), C order; without an order its rows follow one another. out and out_row are an offset and a
    stride in work, in bytes; scale is of work's dtype.
    """
    width = source.shape[1]
    for i in range(rows):
        row = order[first + i] if order.shape[0] else first + i
        start = (out + i * out_row) // work.itemsize
        if scale == 1:
            for j in range(width):
                work[start + j] = source[row, j]
        else:
            for j in range(width):
                work[start + j] = scale * source[row, j]


@njit(nogil=True)
def gather_one_hot(labels, order, first, rows, width, work, out, out_row):
    """`gather` of the one-hot rows of class indices; labels is int32 (n,)."""
    for i in range(rows):
        row = order[first + i] if order.shape[0] else first + i
        start = (out + i * out_row) // work.itemsize
        for j in range(width):
            work[start + j] = 0
        work[start + labels[row]] = 1
