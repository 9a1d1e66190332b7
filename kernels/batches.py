"""The order of the samples in an epoch."""

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
