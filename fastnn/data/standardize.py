"""The shift and the scale that give each column of a table mean 0 and standard deviation 1."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..checks import calls
from . import arrays
from .streams import Stream


def standardize(X: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean of each column of X and 1 / its standard deviation: `input_shift` and `input_scale` of a `Model`.

    X is an array (n, n_inputs), a frame, a sparse matrix of SciPy or a `Stream`, which is read once; one of an iterator
    has nothing left then. Both results are float64 (n_inputs,). The deviation is that of all n rows, as scikit-learn's
    `StandardScaler` takes it; a column of equal numbers has the scale 1. The zeros of a sparse matrix count as any
    other numbers, so the results are those of the dense one. All is computed in float64 by the updates of Chan, Golub
    and LeVeque (1983), which lose nothing to a mean far from zero.

    Raises ValueError for X without rows or with a number that is not finite, TypeError for X without numbers.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> X, y = np.array([[1000, 1], [1002, 3], [1004, 1], [1006, 3]]), np.array([0, 0, 1, 1])
    >>> shift, scale = fastnn.standardize(X)
    >>> print(shift, scale.round(3))
    [1003.    2.] [0.447 1.   ]
    >>> model = fastnn.Model([2, 8, 1], input_shift=shift, input_scale=scale)
    >>> history = model.fit(X, y, epochs=5, batch_size=4)
    """
    found: _Moments | None = None
    for part in _parts(X):
        if found is not None and len(part.mean) != len(found.mean):
            raise ValueError(f"X must have {len(found.mean)} columns in all batches, got {len(part.mean)}")
        found = part if found is None else found.joined(part)
    if found is None:
        raise ValueError("X must hold at least one sample, got none")
    return found.mean, found.scale


class _Moments(NamedTuple):
    """Of each column the number of rows, the mean, the sum of squares around it, the least and the largest number."""

    n: NDArray[np.float64]
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @classmethod
    def of(cls, rows: NDArray[np.float64]) -> _Moments:
        """Those of some rows."""
        centre = rows - rows[0]  # small numbers, whose sum loses nothing
        shift = centre.mean(axis=0)
        centre -= shift
        n = np.full(rows.shape[1], float(len(rows)))
        return cls(n, rows[0] + shift, (centre * centre).sum(axis=0), rows.min(axis=0), rows.max(axis=0))

    @classmethod
    def of_sparse(cls, X: Any) -> _Moments:
        """Those of a sparse matrix: of what it stores, joined with those of its zeros."""
        X = X.tocsc(copy=True)
        X.sum_duplicates()
        values, starts, counts = X.data.astype(np.float64), X.indptr[:-1], np.diff(X.indptr).astype(np.float64)
        stored = counts > 0
        column = np.repeat(np.arange(len(counts)), np.diff(X.indptr))
        mean, squares, low, high = (np.zeros(len(counts)) for _ in range(4))
        first = values[starts[stored]]
        mean[stored] = first
        shift = np.bincount(column, values - mean[column], len(counts))[stored] / counts[stored]
        mean[stored] += shift
        squares += np.bincount(column, (values - mean[column]) ** 2, len(counts))
        low[~stored], high[~stored] = np.inf, -np.inf
        if stored.any():
            low[stored] = np.minimum.reduceat(values, starts[stored])
            high[stored] = np.maximum.reduceat(values, starts[stored])
        zeros, none = X.shape[0] - counts, np.zeros(len(counts))
        ends = (np.where(zeros > 0, 0.0, end) for end in (np.inf, -np.inf))
        return cls(counts, mean, squares, low, high).joined(cls(zeros, none, none, *ends))

    def joined(self, other: _Moments) -> _Moments:
        """Those of all rows of both."""
        n, gap = self.n + other.n, other.mean - self.mean
        mean = self.mean + gap * (other.n / n)
        squares = self.squares + other.squares + gap * gap * (self.n * other.n / n)
        return _Moments(n, mean, squares, np.minimum(self.low, other.low), np.maximum(self.high, other.high))

    @property
    def scale(self) -> NDArray[np.float64]:
        """1 / the standard deviation; 1 where all numbers are equal."""
        deviation = np.sqrt(self.squares / self.n)
        deviation[(self.low == self.high) | (deviation == 0)] = 1.0
        return 1 / deviation


def _parts(X: Any) -> Iterator[_Moments]:
    """The moments of some rows of X after others."""
    if isinstance(X, Stream):
        for rows in X._inputs():
            yield from _parts(rows)
    elif arrays.is_sparse(X):
        if X.ndim != 2 or X.dtype.kind not in "biuf":
            raise TypeError(f"X must be a sparse matrix of numbers, got {X.ndim} dimensions of dtype {X.dtype}")
        if X.shape[0]:
            arrays.check_finite("X.data", X.data, X.data)
            yield _Moments.of_sparse(X)
    else:
        found = arrays.numeric("X", X)
        if found.ndim != 2:
            raise ValueError(f"X must have shape (n, n_inputs), got {found.shape}")
        arrays.check_finite("X", found, X)
        for some in calls.row_slices(len(found), 8 * max(1, found.shape[1])):
            yield _Moments.of(found[some].astype(np.float64))
