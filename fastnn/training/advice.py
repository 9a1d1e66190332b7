"""What a fit warns of when it has ended."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGE_TARGETS = 100.0  # above which a fit that has not learned says so


def not_learned(loss: float, targets: NDArray[Any]) -> str:
    """What to say where targets are large and the squared error, half its sum over the outputs, is that of their mean.

    "" where there is nothing to say.
    """
    if not loss > LARGE_TARGETS:
        return ""
    with np.errstate(all="ignore"):
        means, deviations = (f(targets, axis=0, dtype=np.float64) for f in (np.mean, np.std))
        size, of_mean = float(np.abs(means).max() + deviations.max()), float((deviations**2).sum() / 2)
    if size < LARGE_TARGETS or loss <= of_mean:
        return ""
    return (
        f"the loss is {loss:g}, but predicting the mean of y has {of_mean:g}. y is about {size:g}: "
        "scale it, such as (y - y.mean()) / y.std(), or train longer."
    )
