"""What a fit recorded, and the error that ends one."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class DivergenceError(ArithmeticError):
    """Training ended an epoch with a loss or a parameter that is not finite.

    `epoch` counts from 1. The model holds the parameters of the epoch before it.
    """

    def __init__(self, message: str, epoch: int):
        super().__init__(message, epoch)
        self.epoch = epoch

    def __str__(self) -> str:
        return str(self.args[0])


class History:
    """What a fit recorded, one entry an epoch, as lists of equal length.

    loss is the mean over the epoch's samples of the loss before each update; val_loss and val_metric are taken on
    the validation set after the epoch (empty without one); seconds is the time of the epoch without validation. What
    is not known of an epoch, because an exception came before it was measured, is NaN. metric is the metric's name.

    The losses, and how many epochs there are, are read from what the kernels write as they finish an epoch. So they
    belong to the model's parameters at any time.
    """

    def __init__(
        self,
        loss: Sequence[float] = (),
        val_loss: Sequence[float] = (),
        val_metric: Sequence[float] = (),
        seconds: Sequence[float] = (),
        metric: str | None = None,
    ):
        self.metric = metric
        self._losses = np.array(loss, np.float64)
        self._epochs: Callable[[], int] = functools.partial(len, self._losses)
        self._loss, self._val_loss, self._val_metric = list(loss), list(val_loss), list(val_metric)
        self._seconds = list(seconds)
        self._validated = bool(val_loss)

    def _record(self, losses: NDArray[np.float64], epochs: Callable[[], int], validated: bool) -> None:
        """Read the losses from an array from now on, as many as epochs() says."""
        self._losses, self._epochs, self._validated = losses, epochs, validated

    def _score(self, epoch: int, loss: float, metric: float) -> None:
        """Note what the validation set says after an epoch, counted from 1."""
        for values, value in ((self._val_loss, loss), (self._val_metric, metric)):
            _fill(values, epoch - 1)
            values.append(value)

    @property
    def loss(self) -> list[float]:
        n, known = self._epochs(), len(self._loss)
        if known != n:
            self._loss[known:n] = self._losses[known:n].tolist()
            del self._loss[n:]
        return self._loss

    @property
    def val_loss(self) -> list[float]:
        return _fill(self._val_loss, self._epochs() if self._validated else 0)

    @property
    def val_metric(self) -> list[float]:
        return _fill(self._val_metric, self._epochs() if self._validated else 0)

    @property
    def seconds(self) -> list[float]:
        return _fill(self._seconds, self._epochs())

    def _lists(self) -> dict[str, Any]:
        """The arguments of an equal History."""
        return {name: getattr(self, name) for name in ("loss", "val_loss", "val_metric", "seconds", "metric")}

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(History, **{name: copy.copy(value) for name, value in self._lists().items()}), ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and self._lists() == other._lists()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"History({', '.join(f'{name}={value!r}' for name, value in self._lists().items())})"

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the curves with matplotlib: the losses, and the validation metric on a second axis."""
        from .plots import plot_curves

        return plot_curves(self.loss, self.val_loss, self.val_metric, self.metric, ax)


def _fill(values: list[float], n: int) -> list[float]:
    """Make a list n long: what is missing is NaN."""
    values[len(values) : n] = [math.nan] * (n - len(values))
    del values[n:]
    return values
