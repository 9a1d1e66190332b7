"""tables: rows by codes, and gradients added by codes, remainders included, and the reference."""

import numpy as np
import pytest

from fastnn.kernels import reference

from ..cases import DTYPES
from .kernel_calls import EVERY_TARGET, call, on_targets, padded

rng = np.random.default_rng(0)
# Samples, rows of the table, its width.
SHAPES = [(1, 1, 1), (2, 5, 3), (3, 1, 16), (7, 300, 15), (33, 4, 17), (64, 50, 8), (129, 9, 40)]
ON_ALL = on_targets(SHAPES)


def operands(dtype, shape, place=3):
    """(a table whose padding is zero, codes in column `place` of the inputs, a matrix of NaN, columns of it)."""
    n, categories, width = shape
    table = padded(rng.standard_normal((categories, width)).astype(dtype))
    inputs = padded(rng.standard_normal((n, place + 2)).astype(dtype))
    inputs[:, place] = rng.integers(0, categories, n)
    outputs = padded(np.full((n, place + width + 2), np.nan, dtype))
    return table[:, :width], inputs[:, place : place + 1], outputs, slice(place, place + width)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("target", "shape"), ON_ALL)
def test_rows_by_codes(target, shape, dtype):
    """What lies beside the rows stays."""
    table, codes, outputs, columns = operands(dtype, shape)
    outputs[:] = 7
    call(dtype, "embed", target, out=outputs[:, columns], codes=codes, table=table)
    np.testing.assert_array_equal(outputs[:, columns], table[codes[:, 0].astype(int)])
    assert (np.delete(outputs, columns, axis=1) == 7).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", EVERY_TARGET)
def test_what_is_no_code_gives_nan(target, dtype):
    table, _, outputs, columns = operands(dtype, (12, 5, 6))
    no_codes = [-1, -0.5, 0.5, 3.75, 5, 5.5, 2.0**31, 2.0**63, -(2.0**70), np.nan, np.inf, -np.inf]
    codes = np.array(no_codes, dtype)[:, None]
    call(dtype, "embed", target, out=outputs[:, columns], codes=codes, table=table)
    assert np.isnan(outputs[:, columns]).all()
    np.testing.assert_array_equal(reference.embed(table, codes[:, 0]), outputs[:, columns])
    codes[:] = -0.0
    call(dtype, "embed", target, out=outputs[:, columns], codes=codes, table=table)
    np.testing.assert_array_equal(outputs[:, columns], np.tile(table[0], (12, 1)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("target", "shape"), ON_ALL)
def test_gradients_by_codes(target, shape, dtype):
    """Some rows of a table, in the order of the samples, onto what is there: sums of the same bits as one by one."""
    n, categories, width = shape
    _, codes, d, columns = operands(dtype, shape)
    d[:, columns] = rng.standard_normal((n, width))
    start = rng.standard_normal((categories, width)).astype(dtype)
    half = categories // 2
    for first, stop in ((0, categories), (0, half), (half, categories), (categories - 1, categories)):
        if first == stop:
            continue
        out, want = padded(start[first:stop]), start[first:stop].copy()
        reference.add_by_codes(want, d[:, columns], codes[:, 0], first)
        arguments = {"out": out[:, :width], "first": first, "codes": codes, "d": d[:, columns]}
        call(dtype, "add_by_codes", target, **arguments)
        np.testing.assert_array_equal(out[:, :width], want)
        assert not out[:, width:].any()  # though what lies behind in d is no number


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", EVERY_TARGET)
def test_no_gradient_goes_outside_of_the_rows(target, dtype):
    whole = padded(np.zeros((9, 5), dtype))
    codes = np.array([-1, 0, 2, 6, 7, 1e30, -1e30, np.nan, np.inf], dtype)[:, None]
    d = padded(np.ones((9, 5), dtype))[:, :5]
    call(dtype, "add_by_codes", target, out=whole[3:7, :5], first=2, codes=codes, d=d)
    want = np.zeros((9, 5))
    want[3] = 1  # code 2 alone is one of 2 to 5
    np.testing.assert_array_equal(whole[:, :5], want)
    assert not whole[:, 5:].any()
