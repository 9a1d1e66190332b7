"""matrix: parts and transposes lie where NumPy's views do, and print as a person would write them."""

import numpy as np
import pytest

from fastnn.kernels.programs.memory import aligned_zeros
from fastnn.kernels.vector.matrix import LINE_BYTES, Matrix, Symbol, padded

from .kernel_calls import contents, matrix


def numbered(rows, cols, width, dtype="float32"):
    """An array whose elements are 0, 1, .. with rows of `width` elements, of which `cols` are its own."""
    memory = aligned_zeros(rows * width * np.dtype(dtype).itemsize, dtype)
    memory[:] = np.arange(memory.size)
    return memory.reshape(rows, width)[:, :cols]


def same(part, view):
    assert (part.rows, part.cols) == view.shape
    np.testing.assert_array_equal(contents(part), view)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint8"])
def test_parts_and_transposes(dtype):
    array = numbered(7, 5, 24, dtype)
    m = matrix(array, "m")
    same(m, array)
    same(m.T, array.T)
    same(m.T.T, array)
    for rows in (slice(None), slice(2, 6), slice(3), slice(4, None), slice(3, 3), slice(0, 7)):
        for cols in (slice(None), slice(1, 3), slice(4, 5), slice(5, 5)):
            same(m[rows, cols], array[rows, cols])
            same(m[rows, cols].T, array[rows, cols].T)
            same(m.T[cols, rows], array.T[cols, rows])
    same(m[2:6, 1:][1:3, 2:4], array[2:6, 1:][1:3, 2:4])
    assert m.dtype == dtype
    assert m.itemsize == array.itemsize
    assert m[1:2, 2:3].base is m
    assert m.T[1:2, 2:3].T.base is m


def test_where_rows_and_columns_lie():
    m = Matrix.row_major(640, 3, 5, 128, "float32", "m")
    assert (m.address, m.rows, m.cols, m.row_stride, m.col_stride) == (640, 3, 5, 128, 4)
    assert m.is_row_major
    assert not m.T.is_row_major
    assert (m.row_bytes, m.padded_cols, m.lines) == (64, 16, 1)
    f = Matrix.feature_major(640, 3, 5, 192, "float64", "f")
    assert (f.address, f.rows, f.cols, f.row_stride, f.col_stride) == (640, 3, 5, 8, 192)
    assert not f.is_row_major
    assert f.T.is_row_major
    assert (f.T.row_bytes, f.T.padded_cols, f.T.lines) == (64, 8, 1)
    assert Matrix.row_major(640, 1, 17, 128, "float32").lines == 2


@pytest.mark.parametrize(
    "index",
    [
        np.s_[0:4, 0:2],
        np.s_[0:3, 0:6],
        np.s_[2:1, 0:2],
        np.s_[0:1, 4:3],
        np.s_[-1:2, 0:2],
        np.s_[0:2, -1:],
        np.s_[4:, 0:1],
    ],
    ids=str,
)
def test_what_is_out_of_range_is_no_part(index):
    """The last ones count from the end in Python; not here, where they would hide a mistake."""
    m = Matrix.row_major(640, 3, 5, 64, "float32", "weights")
    with pytest.raises(IndexError, match=r"is not a part of weights"):
        m[index]
    with pytest.raises(IndexError, match=r"is not a part of weights\.T"):
        m.T[index[::-1]]


def test_a_row_repeated():
    array = numbered(1, 5, 16)
    row = matrix(array, "bias")
    same(row.broadcast(4), np.broadcast_to(array, (4, 5)))
    same(row[:, 1:3].broadcast(4)[1:3, :], np.broadcast_to(array[:, 1:3], (2, 2)))
    same(row.broadcast(4).T, np.broadcast_to(array, (4, 5)).T)
    with pytest.raises(ValueError, match="only a single row can be repeated, not W"):
        Matrix.row_major(640, 2, 5, 64, "float32", "W").broadcast(4)


def test_more_rows_and_columns_behind():
    array = numbered(5, 16, 16)
    w = matrix(array[:3, :7])
    same(w.taller(1), array[:4, :7])
    same(w.taller(2)[3:, :], array[3:5, :7])
    same(w.T.taller(2).T, array[:3, :9])
    same(w.with_padding(), array[:3])
    assert w.taller(1).base is w


@pytest.mark.parametrize(("cols", "width"), [(5, 16), (16, 16), (17, 32), (5, 32)])
def test_flat(cols, width):
    """Whole rows become one long row, padding included, whichever way the matrix lies."""
    array = numbered(6, cols, width)
    everything = np.lib.stride_tricks.as_strided(array, (1, 6 * width), (0, 4))
    turned = matrix(array.T)
    for m, one, some in ((matrix(array), np.s_[2:3, :], np.s_[2:4, :]), (turned, np.s_[:, 2:3], np.s_[:, 2:4])):
        same(m.flat(), everything)
        same(m[some].flat(), everything[:, 2 * width : 4 * width])
        same(m[one].flat(), everything[:, 2 * width : 3 * width])
        assert m.flat().base is m


def test_flat_leaves_parts_of_rows_as_they_are():
    """But for a matrix with columns that are contiguous, of which it takes the transpose: it has the same elements."""
    array = numbered(6, 40, 48)
    for part in (matrix(array)[:, :16], matrix(array)[1:5, 16:]):
        assert part.flat() == part
        assert part.T.flat() == part
    turned = matrix(array.T)[16:32, :]
    assert turned.flat() == turned.T


def test_symbols():
    start = Symbol("samples")
    assert start + 64 == Symbol("samples", 64)
    assert start + 64 + 8 == Symbol("samples", 72)
    assert str(start) == "<samples>"
    assert str(start + 72) == "<samples + 72>"
    m = Matrix.row_major(start, 10, 5, 64, "float32", "samples")
    assert m[2:3, 1:].address == Symbol("samples", 2 * 64 + 4)
    assert m[2:, :].T[1:, 3:].address == Symbol("samples", 5 * 64 + 4)
    assert m[2:, :].base is m


def test_padded():
    assert [padded(n) for n in (0, 1, 63, 64, 65, 200)] == [0, 64, 64, 64, 128, 256]
    assert LINE_BYTES == 64


def test_what_a_person_reads():
    m = Matrix.row_major(6400, 16, 24, 128, "float32", "a1")
    f = Matrix.feature_major(6400, 16, 24, 64, "float32", "a1")
    for a in (m, f):
        assert str(a) == "a1"
        assert str(a[:, :]) == "a1"
        assert str(a[2:6, 8:]) == "a1[2:6, 8:24]"
        assert str(a[2:6, 8:][1:2, 1:5]) == "a1[3:4, 9:13]"
        assert str(a.T) == "a1.T"
        assert str(a.T.T) == "a1"
        assert str(a[2:6, 8:].T) == "a1[2:6, 8:24].T"
        assert str(a.T[8:, 2:6]) == "a1[2:6, 8:24].T"
        assert str(a.T[8:, 2:6].T) == "a1[2:6, 8:24]"
        assert str(a.flat()) == "a1"
    assert str(m.taller(1)) == "a1[0:17, 0:24]"
    assert str(m[:1, :].broadcast(5)) == "a1 in each row"
    assert str(m[4:, :].flat()) == "a1 + 512"
    assert str(Matrix.row_major(6400, 2, 3, 64, "float32")) == "float32@6400"
    assert str(Matrix.row_major(Symbol("samples"), 2, 3, 64, "float32", "x")[1:, :]) == "x[1:2, 0:3]"


def test_what_a_person_reads_of_a_single_row_or_column():
    m = Matrix.row_major(6400, 16, 24, 128, "float32", "a1")
    f = Matrix.feature_major(6400, 16, 24, 64, "float32", "a1")
    for a in (m, f):
        assert str(a[3:4, :]) == "a1[3:4, 0:24]"
        assert str(a[:, 3:4]) == "a1[0:16, 3:4]"
        assert str(a[:, 3:4].T) == "a1[0:16, 3:4].T"
        assert str(a[3:4, :].T) == "a1[3:4, 0:24].T"
        assert str(a[3:4, 5:6].T) == "a1[3:4, 5:6].T"
    column = Matrix.row_major(6400, 16, 1, 64, "float32", "y")
    assert (str(column), str(column.T)) == ("y", "y.T")
