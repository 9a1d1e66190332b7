"""The order of the samples in an epoch."""

import numpy as np
from numba import njit

STEP = np.uint64(0x9E3779B97F4A7C15)


@njit(nogil=True)
def _mixed(z):
    """64 random bits from the state z of SplitMix64 (Steele, Lea and Flood 2014), which grows by STEP each time."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(nogil=True)
def draw_order(order, state):
    """Fill order, int32 (n,), with a random permutation (Fisher-Yates), unbiased (Lemire 2019). state is uint64[1]."""
    mask = np.uint64(0xFFFFFFFF)
    z = state[0]  # not read from memory again for each
    for i in range(order.size):
        span = np.uint64(i + 1)
        z += STEP
        product = (_mixed(z) >> np.uint64(32)) * span
        if (product & mask) < span:
            threshold = (np.uint64(0x100000000) - span) % span
            while (product & mask) < threshold:
                z += STEP
                product = (_mixed(z) >> np.uint64(32)) * span
        j = np.int64(product >> np.uint64(32))
        order[i] = order[j]
        order[j] = i
    state[0] = z
