"""reductions: the transpose and the sums over lanes, on shapes that leave remainders of rows, columns and lanes."""

import numpy as np
import pytest

from fastnn.kernels import reference
from fastnn.kernels.vector.matrix import LINE_BYTES

from ..cases import DTYPES, EPS
from .kernel_calls import EVERY_TARGET, call, on_targets, padded

rng = np.random.default_rng(0)
DELTAS = [(1, 1), (24, 3), (16, 16), (17, 40), (32, 10), (101, 100)]
PRODUCTS = [(1, 1, 1), (4, 4, 16), (5, 3, 17), (25, 23, 256), (7, 18, 40)]


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", reference.ACTIVATIONS)
@pytest.mark.parametrize("target", EVERY_TARGET)
def test_the_delta_of_a_single_sample(name, dtype, target):
    for n, k in DELTAS:
        d, w = padded(rng.standard_normal((1, k)).astype(dtype)), padded(rng.standard_normal((n, k)).astype(dtype))
        below = padded(rng.uniform(0.1, 0.9, (1, n)).astype(dtype))
        out, zeros = np.full_like(below, np.nan), np.zeros(LINE_BYTES // d.itemsize, dtype)
        operands = {"x": d[:, :k], "B": w[:, :k], "zeros": zeros, "out": out[:, :n], "z": below[:, :n]}
        call(dtype, f"{name}_gemv_backward", target, **operands)
        slopes = reference.ACTIVATIONS[name][1](below.astype("f8"), below.astype("f8"))
        want = reference.matmul_nt(d.astype("f8"), w.astype("f8")) * slopes[:, :n]
        np.testing.assert_allclose(out[:, :n], want, atol=8 * EPS[dtype] * (k + 4), err_msg=f"{n} x {k}")
        assert not out[:, n:].any()


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("target", "shape"), on_targets([(1, 1), (3, 5), (4, 16), (9, 17), (2, 100)]))
def test_the_delta_of_a_softmax(shape, dtype, target):
    """NaN in the padding changes nothing; the padding becomes zero; NaN in a row stays in the row."""
    rows, n = shape
    a = padded(reference.softmax(rng.standard_normal((rows, n))).astype(dtype))
    d = padded(rng.standard_normal((rows, n)).astype(dtype))
    a[:, n:] = d[:, n:] = np.nan
    d[rows // 2, n // 2] = np.nan
    want = reference.softmax_backward(d[:, :n].astype("f8"), a[:, :n].astype("f8"))
    call(dtype, "softmax_backward", target, d=d[:, :n], a=a[:, :n])
    np.testing.assert_allclose(d[:, :n], want, atol=4 * EPS[dtype] * n)
    assert np.isnan(d[rows // 2]).sum() == n
    assert not d[:, n:].any()


@pytest.mark.parametrize("target", EVERY_TARGET)
@pytest.mark.parametrize("dtype", DTYPES)
def test_transpose(dtype, target):
    itemsize = np.dtype(dtype).itemsize
    lanes = target.vector_bytes // itemsize
    for n, k, lines in [(1, 1, 1), (lanes, lanes, 1), (lanes - 1, lanes + 1, 2), (3 * lanes, 5, 3), (17, 40, 2)]:
        width = lines * LINE_BYTES // itemsize
        n = min(n, width)
        source = padded(rng.standard_normal((n, k)).astype(dtype))
        out = np.full((source.shape[1], width), np.nan, dtype)
        zeros = np.zeros(lanes, dtype)
        call(dtype, "transpose", target, source=source[:, :k], zeros=zeros, out=out[:k])
        want = np.zeros((k, width))
        want[:, :n] = source[:, :k].T
        np.testing.assert_array_equal(out[:k], want)


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("target", "shape"), on_targets(PRODUCTS))
def test_inner_products_over_the_samples(shape, dtype, target):
    """Of feature-major matrices, whose rows are contiguous; what lies around C keeps its value."""
    m, n, samples = shape
    a, b = (padded(rng.standard_normal((rows, samples)).astype(dtype)) for rows in (m, n))
    c = rng.standard_normal((m + 1, 26)).astype(dtype)
    zeros, want = np.zeros_like(a[0]), c.astype("f8")
    want[:m, :n] += a.astype("f8") @ b.T
    call(dtype, "inner", target, A=a[:, :samples], B=b[:, :samples], zeros=zeros, C=c[:m, :n])
    np.testing.assert_allclose(c, want, atol=4 * EPS[dtype] * (samples + 4))
