"""samples: gathering, class indices and outputs against NumPy's indexing, remainders of rows and columns included."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse

from fastnn.data import arrays
from fastnn.kernels import reference
from fastnn.kernels.programs.memory import Layout
from fastnn.network.input_loading import operands

from ..cases import DTYPES
from .kernel_calls import EVERY_TARGET, call, matrix, on_targets, padded

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


def operand_of(shift, scale, dtype):
    """The operand of a shifted gather, whose rows are padded; see `Layout.affine`."""
    layout = Layout((len(shift), 1), ("identity",), "quadratic", dtype)
    made = operands(layout, np.stack([shift, scale])[None])
    assert not made.reshape(layout.affine.rows, -1)[:3, len(shift) :].any()
    return replace(layout.affine, address=matrix(made).address)  # `matrix` keeps it


def far_from_zero(shape, kind, dtype):
    """(rows, shift, scale): numbers whose mean is up to a million deviations, or bytes."""
    width = shape[1]
    if kind == "uint8":
        return rng.integers(0, 256, shape).astype(np.uint8), rng.uniform(90, 160, width), np.full(width, -1 / 73.7)
    mean, deviation = rng.choice([0.0, 1.0, -1e3, 1e6], width), rng.uniform(0.5, 2, width)
    rows = mean * deviation + deviation * rng.standard_normal(shape)
    return rows.astype("float64" if kind == "float64" else dtype), rows.mean(axis=0), 1 / deviation


SHIFTED_KINDS = {"values": "", "uint8": "_uint8", "float64": "_float64"}
LEFT = {"float32": 2e-6, "float64": 1e-13}  # the error of numbers of size 1, or of a few of them


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", SHIFTED_KINDS)
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize(("target", "width"), on_targets([1, 3, 16, 17, 64, 100], [1, 17, 100]))
def test_shifted(dtype, kind, width, ordered, target):
    source, shift, scale = far_from_zero((40, width), kind, dtype)
    order, rows, first = rng.permutation(40).astype(np.int32), 9, 5
    affine = operand_of(shift, scale, dtype)
    out, here = filled((rows, width), dtype), numbers(order, first, rows)
    place = {"order": here.ctypes.data if ordered else 0, "source": source if ordered else source[first:]}
    call(dtype, f"gather_shifted{SHIFTED_KINDS[kind]}", target, remaining=0, out=out[:, :width], affine=affine, **place)
    want = reference.gather_shifted(source, order if ordered else [], first, rows, shift, scale)
    np.testing.assert_allclose(out[:, :width], want, rtol=0, atol=LEFT[dtype])
    assert not out[:, width : whole_vectors(width, dtype, target)].any()
    assert np.isnan(out[:, whole_vectors(width, dtype, target) :]).all()


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", SHIFTED_KINDS)
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize(("target", "width"), on_targets([1, 4, 16, 37], [4, 37]))
def test_shifted_columns(dtype, kind, width, ordered, target):
    """The bits of rows."""
    source, shift, scale = far_from_zero((40, width), kind, dtype)
    order, first, name = rng.permutation(40).astype(np.int32), 5, f"gather_shifted{SHIFTED_KINDS[kind]}"
    affine = operand_of(shift, scale, dtype)
    for rows in (1, 9, 16, 35):
        here = numbers(order, first, rows)
        place = {"order": here.ctypes.data if ordered else 0, "source": source if ordered else source[first:]}
        place |= {"remaining": 0, "affine": affine}
        out, want = filled((width + 1, rows), dtype), filled((rows, width), dtype)
        call(dtype, f"{name}_columns", target, out=out[:width, :rows], **place)
        call(dtype, name, target, out=want[:, :width], **place)
        np.testing.assert_array_equal(out[:width, :rows], want[:, :width].T)
        assert not out[:width, rows : whole_vectors(rows, dtype, target)].any()
        assert np.isnan(out[width]).all()


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [True, False])
@pytest.mark.parametrize(("target", "width"), on_targets([1, 4, 16, 37], [4, 37]))
def test_shifted_sparse(dtype, columns, width, target):
    """The bits of the dense rows in float64; a zero becomes -shift * scale."""
    source, shift, scale = far_from_zero((40, width), "float64", dtype)
    source[rng.random(source.shape) < 0.7] = 0
    source[11] = 0
    table = arrays.SparseRows.of(scipy.sparse.csr_array(source), dtype, shifted=True)
    order, rows = rng.permutation(40), 9
    affine = operand_of(shift, scale, dtype)
    here, shape = numbers(order, 5, rows), (width, rows) if columns else (rows, width)
    out, want = filled(shape, dtype), filled((rows, width), dtype)
    place = {"order": here.ctypes.data, "remaining": 0, "affine": affine}
    name, n = f"gather_shifted_sparse{'_columns' * columns}", shape[1]
    call(dtype, name, target, source=np.asarray(table), out=out[:, :n], **place)
    call(dtype, "gather_shifted_float64", target, source=source, out=want[:, :width], **place)
    found = out[:, :n].T if columns else out[:, :n]
    np.testing.assert_array_equal(found, want[:, :width])
    np.testing.assert_allclose(found, (source[order[5:14]] - shift) * scale, rtol=2e-6)
    assert not out[:, n : whole_vectors(n, dtype, target)].any()


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
