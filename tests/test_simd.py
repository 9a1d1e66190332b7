"""simd, activations, losses: vector functions against float64 NumPy, tiles against np.dot, on the CPU at hand.

`test_targets.py` runs this file again for other CPUs.
"""

import numpy as np
import pytest

from fastnn.kernels import reference, simd

from .kernel_calls import DTYPES, EPS, activate, call, loss, padded, slope

rng = np.random.default_rng(0)
# In units in the last place of the exact result (80-bit arithmetic where the platform has it).
ULPS = 2.0 if simd.HAS_FMA else 2.1


def exact(name, x):
    x = x.astype(np.longdouble)
    if name != "sigmoid":
        return {"tanh": np.tanh, "exp": np.exp}[name](x)
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["exp", "sigmoid", "tanh"])
def test_within_two_ulp_over_the_whole_range(name, dtype):
    n, edge = 200_000, 110 if dtype == "float32" else 750
    tiny = np.log(np.finfo(dtype).tiny)
    z = np.concatenate(
        [
            rng.uniform(-edge, edge, n),
            rng.uniform(-4, 4, n),
            rng.uniform(-0.5, 0.5, n),
            np.exp(rng.uniform(tiny, np.log(edge), n)) * rng.choice([-1, 1], n),
        ]
    ).astype(dtype)
    got, want = activate(name, z, dtype), exact(name, z)
    largest = np.finfo(dtype).max
    np.testing.assert_array_equal(np.isinf(got), want > largest * (1 + EPS[dtype] / 4))
    got, want, z = got[want <= largest], want[want <= largest], z[want <= largest]
    ulp = np.spacing(np.abs(want).astype(dtype)).astype(np.longdouble)
    worst = np.argmax(np.abs(got - want) / ulp)
    assert abs(got[worst] - want[worst]) / ulp[worst] <= ULPS, f"{name}({z[worst]!r})"


@pytest.mark.parametrize("dtype", DTYPES)
def test_special_values(dtype):
    z = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e30, -1e30]
    np.testing.assert_array_equal(activate("sigmoid", z, dtype), [np.nan, 1, 0, 0.5, 0.5, 1, 0])
    np.testing.assert_array_equal(activate("tanh", z, dtype), [np.nan, 1, -1, 0, 0, 1, -1])
    assert np.signbit(activate("tanh", [-0.0], dtype)[0])
    np.testing.assert_array_equal(activate("exp", z, dtype), [np.nan, np.inf, 0, 1, 1, np.inf, 0])
    np.testing.assert_array_equal(activate("relu", z, dtype), [np.nan, np.inf, 0, 0, 0, np.array(1e30, dtype), 0])
    np.testing.assert_array_equal(
        activate("step", [np.nan, -1, 0, 1e-30, 5, np.inf, -np.inf], dtype), [np.nan, 0, 0, 1, 1, 1, 0]
    )
    np.testing.assert_array_equal(activate("identity", z, dtype), np.array(z, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", reference.ACTIVATIONS)
def test_activations_and_slopes_match_the_reference(name, dtype):
    value, derivative = reference.ACTIVATIONS[name]
    z = rng.normal(0, 3, 160)
    a = activate(name, z, dtype)
    np.testing.assert_allclose(a, value(z.astype(dtype).astype("f8")), rtol=4 * EPS[dtype])
    d = rng.standard_normal(160).astype(dtype)
    np.testing.assert_allclose(slope(name, d, a, dtype), d * derivative(a.astype("f8")), atol=4 * EPS[dtype])


@pytest.mark.parametrize("name", ["identity", "sigmoid", "tanh", "relu"])
def test_slopes_by_central_differences(name):
    z, h = rng.normal(0, 2, 64), 1e-6
    z = z[np.abs(z) > 1e-3]  # relu has no derivative at 0
    numeric = (activate(name, z + h, "float64") - activate(name, z - h, "float64")) / (2 * h)
    analytic = slope(name, np.ones_like(z), activate(name, z, "float64"), "float64")[: z.size]
    np.testing.assert_allclose(analytic, numeric, atol=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (3, 10), (5, 16), (7, 33), (2, 300)])
@pytest.mark.parametrize("name", reference.LOSSES)
def test_losses_match_the_reference(name, shape, dtype):
    a, y = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    total, d = loss(name, a, y, -0.25, dtype)
    value, derivative = reference.loss(name, a.astype("f8"), y.astype("f8"))
    assert total == pytest.approx(value, rel=10 * EPS[dtype])
    np.testing.assert_allclose(d[:, : shape[1]], -0.25 * derivative, atol=4 * EPS[dtype])
    assert not d[:, shape[1] :].any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [1, 2, 7, 8, 9, 40])
@pytest.mark.parametrize(("rows", "units"), simd.TILES)
def test_every_tile(rows, units, k, dtype):
    width = int(units * simd.UNIT_BYTES) // np.dtype(dtype).itemsize
    for n in (1, 3):
        a, b, c = (rng.standard_normal(s).astype(dtype) for s in ((n * rows, k), (k, width), (n * rows, width)))
        want = a.astype("f8") @ b + c
        size, row = a.itemsize, c.strides[0]
        call(dtype, f"tiles_{rows}x{units}", n, k, a, k * size, size, b, b.strides[0], c, row, c, row)
        np.testing.assert_allclose(c, want, atol=4 * EPS[dtype] * (k + 1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", reference.ACTIVATIONS)
@pytest.mark.parametrize(("k", "n"), [(1, 1), (4, 24), (7, 40), (24, 3), (64, 32), (101, 100)])
def test_a_row_through_a_layer(name, k, n, dtype):
    x, w, bias = (rng.standard_normal(shape).astype(dtype) for shape in ((1, k), (k, n), (1, n)))
    w_padded, b_padded = padded(w), padded(bias)
    out = np.full_like(b_padded, np.nan)
    units = out.nbytes // simd.UNIT_BYTES
    call(dtype, f"{name}_row", units, k, x, w_padded, w_padded.strides[0], b_padded, out)
    want = reference.ACTIVATIONS[name][0](x.astype("f8") @ w + bias)
    np.testing.assert_allclose(out[:, :n], want, atol=8 * EPS[dtype] * (k + 4))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", reference.ACTIVATIONS)
@pytest.mark.parametrize(("n", "k"), [(1, 1), (24, 3), (16, 16), (17, 40), (32, 10), (101, 100)])
def test_the_delta_of_a_row(name, n, k, dtype):
    d, w = padded(rng.standard_normal((1, k)).astype(dtype)), padded(rng.standard_normal((n, k)).astype(dtype))
    below = padded(rng.uniform(0.1, 0.9, (1, n)).astype(dtype))
    out, zeros = np.full_like(below, np.nan), np.zeros(simd.UNIT_BYTES // d.itemsize, dtype)
    call(dtype, f"{name}_dots", n, out.shape[1], d.nbytes, d, w, w.strides[0], zeros, out, below)
    slopes = reference.ACTIVATIONS[name][1](below.astype("f8"))
    want = reference.matmul_nt(d.astype("f8"), w.astype("f8")) * slopes[:, :n]
    np.testing.assert_allclose(out[:, :n], want, atol=8 * EPS[dtype] * (k + 4))
    assert not out[:, n:].any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize(("m", "n"), [(1, 1), (4, 24), (7, 40), (24, 3), (64, 32), (33, 100)])
def test_rank_one(m, n, fresh, dtype):
    x, d = rng.standard_normal(m).astype(dtype), padded(rng.standard_normal((1, n)).astype(dtype))
    c = padded(rng.standard_normal((m + 1, n)).astype(dtype))
    start = np.zeros_like(d) if fresh else c
    want = np.append(x, 1).astype("f8")[:, None] * d + (0 if fresh else c)
    row = c.strides[0]
    call(dtype, "rank_one", row // simd.UNIT_BYTES, m, x, d, start, 0 if fresh else row, c, row)
    np.testing.assert_allclose(c, want, atol=4 * EPS[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_transpose(dtype):
    lanes, itemsize = simd.VECTOR_BYTES // np.dtype(dtype).itemsize, np.dtype(dtype).itemsize
    for n, k, units in [(1, 1, 1), (lanes, lanes, 1), (lanes - 1, lanes + 1, 2), (3 * lanes, 5, 3), (17, 40, 2)]:
        width = units * simd.UNIT_BYTES // itemsize
        n = min(n, width)
        source = padded(rng.standard_normal((n, k)).astype(dtype))
        out = np.full((source.shape[1], width), np.nan, dtype)
        call(dtype, "transpose", n, k, source, source.strides[0], np.zeros(lanes, dtype), out, out.strides[0])
        want = np.zeros((k, width))
        want[:, :n] = source[:, :k].T
        np.testing.assert_array_equal(out[:k], want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["floats", "bytes"])
@pytest.mark.parametrize("width", [1, 3, 16, 17, 64, 100])
@pytest.mark.parametrize("ordered", [True, False])
def test_gather(dtype, kind, width, ordered):
    source = rng.integers(0, 256, (40, width)).astype(np.uint8 if kind == "bytes" else dtype)
    order = rng.permutation(40).astype(np.int32)
    scale, rows, first = 1 / 255, 9, 5
    out = np.full_like(padded(np.zeros((rows, width), dtype)), np.nan)
    name = "gather_bytes" if kind == "bytes" else "gather"
    start = (order[first:], source) if ordered else (0, source[first:])
    bits = int(np.float64(scale).view(np.int64))
    call(dtype, name, rows, start[0], 40 - first - rows, start[1], source.strides[0], out, out.strides[0], width, bits)
    want = reference.gather(source.astype(dtype), order if ordered else [], first, rows, np.dtype(dtype).type(scale))
    np.testing.assert_array_equal(out[:, :width], want)
    vector = simd.VECTOR_BYTES // out.itemsize
    assert not out[:, width : -(-width // vector) * vector].any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["floats", "bytes"])
@pytest.mark.parametrize("width", [1, 4, 16, 37])
@pytest.mark.parametrize("ordered", [True, False])
def test_gather_columns(dtype, kind, width, ordered):
    source = rng.integers(0, 256, (40, width)).astype(np.uint8 if kind == "bytes" else dtype)
    order = rng.permutation(40).astype(np.int32)
    scale, first = 1 / 255, 5
    bits = int(np.float64(scale).view(np.int64))
    for rows in (1, 9, 16, 35):
        out = np.full_like(padded(np.zeros((width + 1, rows), dtype)), np.nan)
        start = (order[first:], source) if ordered else (0, source[first:])
        name = "gather_bytes_columns" if kind == "bytes" else "gather_columns"
        call(dtype, name, rows, start[0], 0, start[1], source.strides[0], out, out.strides[0], width, bits)
        scale_there = np.dtype(dtype).type(scale)
        want = reference.gather(source.astype(dtype), order if ordered else [], first, rows, scale_there)
        np.testing.assert_array_equal(out[:width, :rows], want.T)
        vector = simd.VECTOR_BYTES // out.itemsize
        assert not out[:width, rows : -(-rows // vector) * vector].any()
        assert np.isnan(out[width]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [True, False])
@pytest.mark.parametrize("ordered", [True, False])
def test_one_hot(dtype, ordered, columns):
    labels, order = rng.integers(0, 19, 40).astype(np.int32), rng.permutation(40).astype(np.int32)
    picked = (labels[order] if ordered else labels)[5:14]
    want = reference.one_hot(picked, 19)
    name, want = ("one_hot_columns", want.T) if columns else ("one_hot", want)
    out = np.full_like(padded(np.zeros(want.shape, dtype)), np.nan)
    start = (order[5:], labels) if ordered else (0, labels[5:])
    call(dtype, name, 9, start[0], 0, start[1], 4, out, out.strides[0], 19)
    np.testing.assert_array_equal(out[:, : want.shape[1]], want)
    vector = simd.VECTOR_BYTES // out.itemsize
    assert not out[:, want.shape[1] : -(-want.shape[1] // vector) * vector].any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_unpad(dtype):
    source = padded(rng.standard_normal((7, 19)).astype(dtype))
    out = np.full((8, 19), -1, dtype)
    call(dtype, "unpad", 7, 19, source, source.strides[0], out, out.strides[0])
    np.testing.assert_array_equal(out[:7], source[:, :19])
    assert (out[7] == -1).all()
