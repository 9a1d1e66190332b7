"""Windows of a series: what a network reads to forecast, and what follows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from ..checks import scalars
from . import arrays

MOST = 2**31  # steps that arguments may name


def windows(
    series: ArrayLike, *, lags: int, horizon: int = 1, target: int | None = None, stride: int = 1
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The windows of a series as X and y for `fit`: `lags` steps, and the `horizon` steps that follow them.

    Both are read-only views of the series, so they take no memory. `fit` copies them; a `Stream.from_arrays(X, y)`
    copies some rows at a time.

    Parameters
    ----------
    series : array (n,) or (n, channels)
        Numbers, the oldest step first; a pandas or polars series or frame. Several channels are copied once where they
        are not C-ordered, as those of a frame may be.
    lags : int
        The steps in a row of X.
    horizon : int
        The steps in a row of y. Default 1, the next one.
    target : int or None
        The channel that y has; None is all of them.
    stride : int
        The steps from a window to the next one. Default 1.

    Returns
    -------
    X : array (rows, lags * channels)
        The oldest step first, and the channels of a step side by side, in the dtype of the series.
    y : array (rows, horizon), or (rows, horizon * channels) where the target is None
        Row i of X begins at step i * stride, and y follows it. rows is (n - lags - horizon) // stride + 1.

    Raises
    ------
    ValueError, TypeError
        For arguments that cannot be used, and for a series of fewer steps than a window has.

    Examples
    --------
    >>> import fastnn
    >>> X, y = fastnn.windows([10, 20, 30, 40, 50], lags=3)
    >>> X, y
    (array([[10, 20, 30], [20, 30, 40]]), array([[40], [50]]))
    """
    values = arrays.numeric("series", series)
    if values.ndim not in (1, 2) or values.size == 0:
        raise ValueError(f"series must have shape (n,) or (n, channels), got {values.shape}")
    lags, horizon = scalars.integer("lags", lags, 1, MOST), scalars.integer("horizon", horizon, 1, MOST)
    stride = scalars.integer("stride", stride, 1, MOST)
    n, channels = len(values), 1 if values.ndim == 1 else values.shape[1]
    if target is not None:
        target = scalars.integer("target", target, -channels, channels - 1)
    if n < lags + horizon:
        raise ValueError(f"series must have at least lags + horizon = {lags + horizon} steps, got {n}")
    steps = values.reshape(n, 1) if channels == 1 else np.ascontiguousarray(values)
    goals = steps if target is None else steps[:, target % channels : target % channels + 1]
    return _rows(steps[: n - horizon], lags, stride), _rows(goals[lags:], horizon, stride)


def _rows(steps: NDArray[Any], length: int, stride: int) -> NDArray[Any]:
    """The windows of so many steps, (rows, length * channels), of steps (n, channels): a view."""
    channels = steps.shape[1]
    if channels == 1:
        return sliding_window_view(steps[:, 0], length)[::stride]
    return sliding_window_view(steps.reshape(-1), length * channels)[:: channels * stride]
