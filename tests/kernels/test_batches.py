"""batches: the drawn order against its twin, and its distribution."""

import itertools
from collections import Counter

import numpy as np
import pytest

from fastnn.kernels import reference
from fastnn.kernels.programs.program import Code, Program, bindings
from fastnn.kernels.running import entry
from fastnn.kernels.vector import batches

from .kernel_calls import ONLY, library, on_targets


def drawing(n, seed, target):
    """(draw, order, state): draw() writes the next order of n."""
    state, order = np.array([seed], np.uint64), np.empty(n, np.int32)
    program = Program(target, "float32", rows=1)
    program.add("draw_order", order=order.ctypes.data, n=n, state=state.ctypes.data)
    code, table = Code([program], library("float32", target)), bindings()

    def draw(used=(order, state)):
        """The code knows only where these arrays lie, so they must live as long as this function."""
        entry.sweep(code.operations, code.patches, code.parts, ONLY, table, 0, 1)

    return draw, order, state


@pytest.mark.parametrize(("target", "n"), on_targets([1, 2, 3, 10, 257]))
def test_draw_order_matches_the_reference(n, target):
    draw, order, state = drawing(n, 42 + n, target)
    want_state = 42 + n
    for _ in range(3):
        draw()
        want, want_state = reference.draw_order(n, want_state)
        np.testing.assert_array_equal(order, want)
        assert int(state[0]) == want_state


@pytest.mark.slow
@pytest.mark.parametrize(("target", "n"), on_targets([300_000]))
def test_a_number_that_would_make_the_range_uneven_is_drawn_again(n, target):
    """So rarely that it takes a long order."""
    draw, order, state = drawing(n, 42, target)
    draw()
    want, want_state = reference.draw_order(n, 42)
    drawn = (want_state - 42) * pow(batches.GROWTH, -1, 2**64) % 2**64
    assert drawn > n
    np.testing.assert_array_equal(order, want)
    assert int(state[0]) == want_state


@pytest.mark.parametrize(("target", "n"), on_targets([4]))
def test_draw_order_is_uniform(n, target):
    draw, order, _ = drawing(n, 7, target)
    draws = 24_000
    counts = Counter()
    for _ in range(draws):
        draw()
        counts[tuple(order.tolist())] += 1
    assert set(counts) == set(itertools.permutations(range(n)))
    expected = draws / 24
    chi_squared = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi_squared < 49.7  # 23 degrees of freedom: one in a thousand lies above
