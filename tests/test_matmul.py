"""matmul: the products on random shapes, remainders of rows, columns and k included."""

import numpy as np
import pytest

from fastnn.kernels import matmul, network, reference, simd

from .kernel_calls import DTYPES, EPS, padded, run

rng = np.random.default_rng(1)
EDGES = [(1, 1, 1), (1, 300, 1), (300, 1, 1), (1, 1, 300), (12, 16, 32), (13, 17, 33), (24, 48, 64), (11, 31, 49)]
SHAPES = EDGES + [tuple(int(v) for v in np.exp(rng.uniform(0, np.log(300), 3))) for _ in range(40)]


def tolerance(dtype, k):
    return 4 * EPS[dtype] * (k + 4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("start", ["zeros", "bias", "itself"])
def test_matmul(dtype, transposed, start):
    for m, k, n in SHAPES:
        a = rng.standard_normal((k, m) if transposed else (m, k)).astype(dtype)
        b, c = padded(rng.standard_normal((k, n)).astype(dtype)), padded(rng.standard_normal((m, n)).astype(dtype))
        c0 = {"zeros": np.zeros_like(c[:1]), "bias": padded(rng.standard_normal((1, n)).astype(dtype)), "itself": c}[
            start
        ]
        size = a.itemsize
        want = reference.matmul((a.T if transposed else a).astype("f8"), b.astype("f8"), c0.astype("f8"))
        a_row, a_k = (size, m * size) if transposed else (k * size, size)
        c0_row = c.shape[1] * size if start == "itself" else 0
        sizes, row = (m, c.strides[0] // simd.UNIT_BYTES, k), c.strides[0]
        places = a.ctypes.data, a_row, a_k, b.ctypes.data, b.strides[0], c0.ctypes.data, c0_row, c.ctypes.data, row
        before, panel = c.copy(), network.aligned_zeros(k * simd.TILE_UNITS * simd.UNIT_BYTES, dtype)
        run(dtype, lambda ops, arguments=(*sizes, *places): matmul.matmul(ops, *arguments))
        np.testing.assert_allclose(c, want, atol=tolerance(dtype, k), err_msg=f"{m} x {k} x {n}")
        unpacked = c.copy()
        c[...] = before
        packed = *sizes, *places, (), (panel.ctypes.data, size)
        run(dtype, lambda ops, arguments=packed: matmul.matmul(ops, *arguments))
        np.testing.assert_array_equal(c, unpacked, err_msg=f"{m} x {k} x {n}, packed")


@pytest.mark.parametrize("dtype", DTYPES)
def test_half_of_the_last_unit(dtype):
    """Neurons that fill at most half of it: the same bits as with all of it."""
    half = simd.UNIT_BYTES // np.dtype(dtype).itemsize // 2
    for units in range(6):
        for m, k, n in [(1, 9, 1), (5, 30, half), (37, 12, half - 1)]:
            n = n + 2 * half * units
            a = rng.standard_normal((m, k)).astype(dtype)
            b, c0 = padded(rng.standard_normal((k, n)).astype(dtype)), padded(rng.standard_normal((1, n)).astype(dtype))
            results = []
            for width in (units + 1, units + 0.5):
                c = np.full((m, b.shape[1]), 7, dtype)
                places = a.ctypes.data, a.strides[0], a.itemsize, b.ctypes.data, b.strides[0], c0.ctypes.data, 0
                places = *places, c.ctypes.data, c.strides[0]
                run(dtype, lambda ops, w=width, p=places, s=(m, k): matmul.matmul(ops, s[0], w, s[1], *p))
                results.append(c[:, :n])
            np.testing.assert_array_equal(*results)
            want = reference.matmul(a.astype("f8"), b.astype("f8"), c0.astype("f8"))
            np.testing.assert_allclose(results[1], want[:, :n], atol=tolerance(dtype, k))


@pytest.mark.parametrize("dtype", DTYPES)
def test_matmul_nt(dtype):
    for m, k, n in SHAPES:
        a, b = padded(rng.standard_normal((m, k)).astype(dtype)), padded(rng.standard_normal((n, k)).astype(dtype))
        c = np.full_like(padded(np.zeros((m, n), dtype)), np.nan)
        zeros = np.zeros(c.shape[1], dtype)
        panel = np.full(b.shape[1] * simd.TILE_UNITS * simd.UNIT_BYTES // a.itemsize, np.nan, dtype)
        whole = [(k, b.ctypes.data, b.strides[0])]
        unit = simd.UNIT_BYTES // a.itemsize
        left = np.ascontiguousarray(b[:, :unit])
        parts = [(unit, left.ctypes.data, left.strides[0]), (k - unit, b[:, unit:].ctypes.data, b.strides[0])]
        want = reference.matmul_nt(a.astype("f8"), b.astype("f8"))
        for bs in [whole, parts] if k > unit else [whole]:
            c[...] = np.nan
            places = a.ctypes.data, a.strides[0], bs, zeros.ctypes.data, c.ctypes.data, c.strides[0], panel.ctypes.data
            run(dtype, lambda ops, s=(a.itemsize, m, n), p=places: matmul.matmul_nt(ops, *s, *p))
            np.testing.assert_allclose(c[:, :n], want, atol=tolerance(dtype, k), err_msg=f"{m} x {k} x {n}")
            assert not c[:, n:].any()
