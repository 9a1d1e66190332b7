"""Data: IDX files, scikit-learn's digits, one-hot rows."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import file_paths, scalars
from ..checks.file_paths import naming
from ..checks.scalars import MAX_UNITS, shown
from . import arrays

_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MAX_DIMENSIONS = 64  # the most dimensions of a NumPy array
_READ_BYTES = 2**20  # how many bytes are read at once


def load_idx(path: str | os.PathLike[str]) -> NDArray[Any]:
    """The array in an IDX file, the format of MNIST (http://yann.lecun.com/exdb/mnist), gzipped or not.

    The array has the file's shape and type, in native byte order: (60000, 28, 28) uint8 for MNIST's training
    images. Raises ValueError for a file that is truncated, too long, not IDX or of more than 64 dimensions,
    FileNotFoundError, and TypeError for a path that is neither a string nor a path object.

    The header is read first, then only as many bytes as it says. So the memory is limited by the array's size, for a
    gzipped file too, and by the amount of data in the file. A header that promises more takes no memory.

    Examples
    --------
    >>> import fastnn, tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp(), "labels-idx1-ubyte")
    >>> _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]))
    >>> fastnn.load_idx(path)
    array([7, 2, 1], dtype=uint8)
    """
    path = file_paths.path(path)
    with naming(path), open(path, "rb") as file:
        if file.peek(2)[:2] != b"\x1f\x8b":
            return _read_idx(path, file)
        try:
            with gzip.GzipFile(fileobj=file) as unpacked:
                return _read_idx(path, unpacked)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"path must name a whole gzip file, got {str(path)!r}: {error}") from None


def _read_idx(path: Path, file: BinaryIO | gzip.GzipFile) -> NDArray[Any]:
    """The array in an open IDX file."""
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in _IDX_TYPES:
        raise ValueError(f"path must name an IDX file, got {str(path)!r}, which starts with {start!r}")
    dtype, n_dimensions = np.dtype(_IDX_TYPES[start[2]]), start[3]
    if n_dimensions > _MAX_DIMENSIONS:
        raise ValueError(
            f"path must name an IDX file of at most {_MAX_DIMENSIONS} dimensions, got {str(path)!r} of {n_dimensions}"
        )
    sizes = _read(file, 4 * n_dimensions)
    shape = tuple(map(int, np.ndarray(len(sizes) // 4, ">u4", sizes)))
    size = math.prod(shape) * dtype.itemsize
    data = _read(file, size + 1)  # the end of a gzip file, with its checksum, is read too
    if len(sizes) < 4 * n_dimensions or len(data) != size:
        before = 4 + 4 * n_dimensions
        prefix = "at least " if len(data) > size else ""
        raise ValueError(
            f"path must name a whole IDX file, got {str(path)!r} with {prefix}{4 + len(sizes) + len(data)} bytes where "
            f"its header says {before + size}"
        )
    try:
        array = np.ndarray(shape, dtype, data)
    except ValueError as error:  # no elements, but the other sizes are too large
        raise ValueError(f"path must name an IDX file of a possible shape, got {str(path)!r}: {error}") from None
    native = dtype.newbyteorder("=")
    return array if dtype == native else array.byteswap(inplace=True).view(native)


def _read(file: BinaryIO | gzip.GzipFile, size: int) -> bytearray:
    """Read `size` bytes, or fewer at the file's end. The memory grows with what is there, not with `size`."""
    data = bytearray()
    while len(data) < size and (piece := file.read(min(_READ_BYTES, size - len(data)))):
        data += piece
    return data


def load_digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """scikit-learn's embedded 8 x 8 digits: X (1797, 64) float32 in [0, 1], y (1797,) class indices.

    Needs scikit-learn, no download. The order is mixed but fixed, so that X[:1500] and X[1500:] split it.
    """
    try:
        from sklearn.datasets import load_digits as sklearn_digits
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("load_digits needs scikit-learn: pip install 'fastnn-numba[sklearn]'") from error

    X, y = sklearn_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))
    return np.ascontiguousarray(X[order] / 16, np.float32), y[order].astype(np.int64)


def one_hot(labels: ArrayLike, n_classes: int) -> NDArray[np.float32]:
    """Rows of zeros with a one at the class index: (n, n_classes) float32 for labels (n,).

    `fit` does this itself; a target row for a custom loss or a plot may still want it. Raises ValueError for labels
    that are not integers in [0, n_classes) of shape (n,).

    Examples
    --------
    >>> import fastnn
    >>> fastnn.one_hot([2, 0], 3)
    array([[0., 0., 1.],
           [1., 0., 0.]], dtype=float32)
    """
    n_classes = scalars.integer("n_classes", n_classes, 1, MAX_UNITS)
    array = arrays.array("labels", labels)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(
            f"labels must be integers of shape (n,), got {array.dtype} of shape {array.shape}: {shown(labels)}"
        )
    if len(array) and not (array.min() >= 0 and array.max() < n_classes):
        raise ValueError(f"labels must lie in [0, {n_classes}), got {array.min()} to {array.max()}")
    rows = np.zeros((len(array), n_classes), np.float32)
    rows[np.arange(len(array)), array] = 1
    return rows
