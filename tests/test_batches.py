"""batches: the drawn order against its twin, and its distribution."""

import itertools
from collections import Counter

import numpy as np
import pytest

from fastnn.kernels import batches, reference


@pytest.mark.parametrize("n", [1, 2, 3, 10, 257])
def test_draw_order_matches_the_reference(n):
    state, order = np.array([42 + n], np.uint64), np.empty(n, np.int32)
    want_state = 42 + n
    for _ in range(3):
        batches.draw_order(order, state)
        want, want_state = reference.draw_order(n, want_state)
        np.testing.assert_array_equal(order, want)
        assert int(state[0]) == want_state


def test_draw_order_is_uniform():
    state, order = np.array([7], np.uint64), np.empty(4, np.int32)
    draws = 24_000
    counts = Counter()
    for _ in range(draws):
        batches.draw_order(order, state)
        counts[tuple(order.tolist())] += 1
    assert set(counts) == set(itertools.permutations(range(4)))
    expected = draws / 24
    chi_squared = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi_squared < 49.7  # 23 degrees of freedom: one in a thousand lies above
