"""Data: IDX files, scikit-learn's digits, one-hot rows."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _validation

_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def load_idx(path: str | os.PathLike[str]) -> NDArray[Any]:
    """The array in an IDX file, the format of MNIST (http://yann.lecun.com/exdb/mnist), gzipped or not.

    The array has the file's shape and type, in native byte order: (60000, 28, 28) uint8 for MNIST's training
    images. Raises ValueError for a file that is truncated, too long or not IDX, and FileNotFoundError.

    Examples
    --------
    >>> import fastnn, tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp(), "labels-idx1-ubyte")
    >>> _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]))
    >>> fastnn.load_idx(path)
    array([7, 2, 1], dtype=uint8)
    """
    path = Path(path)
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"path must name a whole gzip file, got {str(path)!r}: {error}") from None
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_TYPES:
        raise ValueError(f"path must name an IDX file, got {str(path)!r}, which starts with {content[:4]!r}")
    start = 4 + 4 * content[3]
    dtype = np.dtype(_IDX_TYPES[content[2]])
    shape = tuple(map(int, np.frombuffer(content[4:start], ">u4"))) if len(content) >= start else ()
    size = start + int(np.prod(shape, dtype=object)) * dtype.itemsize
    if len(content) != size:
        raise ValueError(
            f"path must name a whole IDX file, got {str(path)!r} with {len(content)} bytes where its header says {size}"
        )
    return np.frombuffer(content, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


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

    `fit` does this itself; a target row for a custom loss or a plot may still want it.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.one_hot([2, 0], 3)
    array([[0., 0., 1.],
           [1., 0., 0.]], dtype=float32)
    """
    n_classes = _validation.integer("n_classes", n_classes, 1)
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(f"labels must be integers of shape (n,), got {labels.dtype} of shape {labels.shape}")
    if len(labels) and not (labels.min() >= 0 and labels.max() < n_classes):
        raise ValueError(f"labels must lie in [0, {n_classes}), got {labels.min()} to {labels.max()}")
    return np.eye(n_classes, dtype=np.float32)[labels]
