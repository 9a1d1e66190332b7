"""The arguments of a fit: checked, and made what the trainers take."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _validation
from .plan import AS_IS, DRAWN, GIVEN, MAX_ROWS


def sample_order(shuffle: bool | ArrayLike, epochs: int, n: int) -> tuple[int, NDArray[np.int32] | None]:
    """(kind of order, the order where it is given) of `Model.fit`'s argument."""
    if n > MAX_ROWS:
        raise ValueError(f"X must hold at most {MAX_ROWS} samples, got {n}")
    if isinstance(shuffle, (bool, np.bool_)):
        return (DRAWN if shuffle else AS_IS), None
    order = _validation.array("shuffle", shuffle)
    if order.dtype.kind not in "iu" or order.shape != (epochs, n):
        raise ValueError(
            f"shuffle must be True, False or an integer array of shape ({epochs}, {n}), "
            f"got {order.dtype} of shape {order.shape}"
        )
    order = np.array(order, order="C")  # they become addresses, so nobody may change them from now on
    if order.size and not (order.min() >= 0 and order.max() < n):
        raise ValueError(f"shuffle must hold sample indices in [0, {n}), got {order.min()} to {order.max()}")
    return GIVEN, order.astype(np.int32, copy=False)
