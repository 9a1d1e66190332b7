"""samples: gathering, class indices and outputs against NumPy's indexing, remainders of rows and columns included."""

import numpy as np
import pytest

from fastnn.kernels import reference

from ..cases import DTYPES
from .kernel_calls import EVERY_TARGET, call, on_targets, padded

rng = np.random.default_rng(0)


def whole_vectors(n, dtype, target):
    """n elements rounded up to whole vectors."""
    lanes = target.vector_bytes // np.dtype(dtype).itemsize
    return -(-n // lanes) * lanes


def numbers(order, first, rows):
    """The numbers of so many rows, and behind them some of rows that are nowhere: who reads one finds no memory."""
    return np.append(order[first : first + rows], np.full(64, 2**31 - 1)).astype(np.int32)


def filled(shape, dtype):
    """A padded matrix full of NaN."""
    return np.full_like(padded(np.zeros(shape, dtype)), np.nan)


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["values", "uint8"])
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize(("target", "width"), on_targets([1, 3, 16, 17, 64, 100], [1, 17, 100]))
def test_gather(dtype, kind, width, ordered, target):
    source = rng.integers(0, 256, (40, width)).astype(np.uint8 if kind == "uint8" else dtype)
    order = rng.permutation(40).astype(np.int32)
    scale, rows, first = 1 / 255, 9, 5
    out, here = filled((rows, width), dtype), numbers(order, first, rows)
    call(
        dtype,
        "gather_uint8" if kind == "uint8" else "gather",
        target,
        order=here.ctypes.data if ordered else 0,
        remaining=40 - first - rows,
        source=source if ordered else source[first:],
        out=out[:, :width],
        scale=scale,
    )
    want = reference.gather(source.astype(dtype), order if ordered else [], first, rows, np.dtype(dtype).type(scale))
    np.testing.assert_array_equal(out[:, :width], want)
    assert not out[:, width : whole_vectors(width, dtype, target)].any()
    assert np.isnan(out[:, whole_vectors(width, dtype, target) :]).all()


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["values", "uint8"])
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize(("target", "width"), on_targets([1, 4, 16, 37], [4, 37]))
def test_gather_columns(dtype, kind, width, ordered, target):
    source = rng.integers(0, 256, (40, width)).astype(np.uint8 if kind == "uint8" else dtype)
    order = rng.permutation(40).astype(np.int32)
    scale, first = 1 / 255, 5
    for rows in (1, 9, 16, 35):
        out, here = filled((width + 1, rows), dtype), numbers(order, first, rows)
        call(
            dtype,
            "gather_uint8_columns" if kind == "uint8" else "gather_columns",
            target,
            order=here.ctypes.data if ordered else 0,
            remaining=0,
            source=source if ordered else source[first:],
            out=out[:width, :rows],
            scale=scale,
        )
        scale_there = np.dtype(dtype).type(scale)
        want = reference.gather(source.astype(dtype), order if ordered else [], first, rows, scale_there)
        np.testing.assert_array_equal(out[:width, :rows], want.T)
        assert not out[:width, rows : whole_vectors(rows, dtype, target)].any()
        assert np.isnan(out[width]).all()


@pytest.mark.pairs
@pytest.mark.parametrize("target", EVERY_TARGET)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [True, False])
@pytest.mark.parametrize("ordered", [True, False])
def test_one_hot(dtype, ordered, columns, target):
    labels, order = rng.integers(0, 19, 40).astype(np.int32), rng.permutation(40).astype(np.int32)
    picked = (labels[order] if ordered else labels)[5:14]
    want = reference.one_hot(picked, 19)
    name, want = ("one_hot_columns", want.T) if columns else ("one_hot", want)
    out, n = filled(want.shape, dtype), want.shape[1]
    column = (labels if ordered else labels[5:]).reshape(-1, 1)
    here = numbers(order, 5, 9)
    call(dtype, name, target, order=here.ctypes.data if ordered else 0, remaining=0, source=column, out=out[:, :n])
    np.testing.assert_array_equal(out[:, :n], want)
    assert not out[:, n : whole_vectors(n, dtype, target)].any()


@pytest.mark.parametrize("target", EVERY_TARGET)
@pytest.mark.parametrize("dtype", DTYPES)
def test_unpad(dtype, target):
    source = padded(rng.standard_normal((7, 19)).astype(dtype))
    out = np.full((8, 19), -1, dtype)
    call(dtype, "unpad", target, source=source[:, :19], out=out[:7])
    np.testing.assert_array_equal(out[:7], source[:, :19])
    assert (out[7] == -1).all()
