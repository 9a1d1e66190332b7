"""tile: every tile that a target has, and the product and rank-one update of a single sample, against NumPy."""

import numpy as np
import pytest

from fastnn.kernels import reference
from fastnn.kernels.vector.matrix import LINE_BYTES

from ..cases import DTYPES, EPS
from .kernel_calls import EVERY_TARGET, call, matrix, on_targets, padded

rng = np.random.default_rng(0)
LAYERS = [(1, 1), (4, 24), (7, 40), (24, 3), (64, 32), (101, 100)]
UPDATES = [(1, 1), (4, 24), (7, 40), (24, 3), (64, 32), (33, 100)]


@pytest.mark.pairs
@pytest.mark.parametrize("target", EVERY_TARGET)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [1, 2, 7, 8, 9, 40, 64])
@pytest.mark.parametrize("tiles", [1, 3])
def test_every_tile(tiles, k, dtype, target):
    for rows, lines in target.tiles:
        width, m = int(lines * LINE_BYTES) // np.dtype(dtype).itemsize, tiles * rows
        a, b, c = (rng.standard_normal(s).astype(dtype) for s in ((m, k), (k, width), (m, width)))
        want, a_columns = a.astype("f8") @ b + c, np.asfortranarray(a)
        bias = rng.standard_normal(width).astype(dtype)
        for x, c0, wanted in (
            (matrix(a), None, want),
            (matrix(a_columns), None, want),
            (matrix(a), matrix(bias).broadcast(m), want - c + bias),
        ):
            out = np.full_like(c, np.nan) if c0 else c.copy()
            operands = {"A": x, "B": b, "C0": c0 or matrix(out), "C": out}
            call(dtype, f"tiles_{rows}x{lines}", target, tiles=tiles, **operands)
            np.testing.assert_allclose(out, wanted, atol=4 * EPS[dtype] * (k + 1), err_msg=f"{rows} x {lines}")


@pytest.mark.parametrize("target", EVERY_TARGET)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("tiles", "k"), [(1, 1), (3, 1), (1, 40), (3, 7), (3, 64)])
def test_tiles_of_packed_rows(tiles, k, dtype, target):
    """`pack` lays a tile's rows side by side, one tile behind the other, and reads nothing behind the last row."""
    lines = target.usual_lines
    width = lines * LINE_BYTES // np.dtype(dtype).itemsize
    for rows in range(1, target.most_rows(lines) + 1):
        m = tiles * rows
        x, b, c = (rng.standard_normal(s).astype(dtype) for s in ((k, m), (k, width), (m, width)))
        want, packed = x.T.astype("f8") @ b + c, np.full(tiles * k * rows + LINE_BYTES, 7, dtype)
        place = matrix(packed[: tiles * k * rows].reshape(-1, rows))
        call(dtype, f"pack_{rows}", target, tiles=tiles, X=x, out=place)
        np.testing.assert_array_equal(
            packed[: tiles * k * rows].reshape(tiles, k, rows), x.reshape(k, tiles, rows).swapaxes(0, 1)
        )
        name, operands = f"packed_tiles_{rows}x{lines}", {"A": place, "B": b, "C0": c, "C": c}
        call(dtype, name, target, tiles=tiles, k=k, **operands)
        np.testing.assert_allclose(c, want, atol=4 * EPS[dtype] * (k + 1), err_msg=name)


@pytest.mark.pairs
@pytest.mark.parametrize("target", EVERY_TARGET)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [1, 7, 40])
@pytest.mark.parametrize("tiles", [1, 3])
def test_tiles_whose_sums_start_from_a_column(tiles, k, dtype, target):
    """The sums run through k in its order: the same bits as those of the transposed product, row by row."""
    for rows, lines in target.column_tiles:
        width, m = int(lines * LINE_BYTES) // np.dtype(dtype).itemsize, tiles * rows
        a, b, bias = (rng.standard_normal(s).astype(dtype) for s in ((m, k), (k, width), (m, 1)))
        out = np.full((m, width), np.nan, dtype)
        call(dtype, f"tiles_{rows}x{lines}_column", target, tiles=tiles, A=a, B=b, C0=bias, C=out)
        np.testing.assert_allclose(out, a.astype("f8") @ b + bias, atol=4 * EPS[dtype] * (k + 1))
        line = LINE_BYTES // np.dtype(dtype).itemsize
        turned = np.full((2, line), np.nan, dtype)
        w = np.zeros((k, line), dtype)
        w[:, : min(m, line)] = a.T[:, :line]
        start = np.zeros((1, line), dtype)
        start[0, : min(m, line)] = bias[:line, 0]
        operands = {"A": np.ascontiguousarray(b.T[:2]), "B": w, "C0": matrix(start).broadcast(2), "C": turned}
        call(dtype, "tiles_2x1", target, tiles=1, **operands)
        np.testing.assert_array_equal(turned[:, : min(m, line)], out.T[:2, :line])


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", reference.ACTIVATIONS)
@pytest.mark.parametrize("target", EVERY_TARGET)
def test_a_single_sample_through_a_layer(name, dtype, target):
    for k, n in LAYERS:
        x, w, bias = (rng.standard_normal(s).astype(dtype) for s in ((1, k), (k, n), (1, n)))
        w_padded, b_padded = padded(w), padded(bias)
        out = np.full_like(b_padded, np.nan)
        call(dtype, f"{name}_gemv", target, x=x, W=w_padded[:, :n], C0=b_padded[:, :n], out=out[:, :n])
        want = reference.ACTIVATIONS[name][0](x.astype("f8") @ w + bias)
        error = 8 * EPS[dtype] * (k + 4)  # of z, which exp multiplies by e^z
        rtol = error if name == "exp" else 1e-7
        np.testing.assert_allclose(out[:, :n], want, atol=error, rtol=rtol, err_msg=f"{k} x {n}")


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize(("target", "shape"), on_targets(UPDATES, [(1, 1), (7, 40), (33, 100)]))
def test_the_rank_one_update_of_a_single_sample(shape, overwrite, dtype, target):
    """Of W, and of b, which lies behind it."""
    m, n = shape
    x, d = rng.standard_normal((1, m)).astype(dtype), padded(rng.standard_normal((1, n)).astype(dtype))
    c = padded(rng.standard_normal((m + 1, n)).astype(dtype))
    zeros = np.zeros_like(d)
    start = matrix(zeros[:, :n]).broadcast(m + 1) if overwrite else matrix(c[:, :n])
    want = np.append(x, 1).astype("f8")[:, None] * d + (0 if overwrite else c)
    call(dtype, "ger", target, x=x, d=d[:, :n], C0=start, C=c[:, :n])
    np.testing.assert_allclose(c, want, atol=4 * EPS[dtype])
