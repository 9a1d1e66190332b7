"""What a fit recorded, and the error that ends one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

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


@dataclass
class History:
    """What a fit recorded, one entry an epoch.

    loss is the mean over the epoch's samples of the loss before each update; val_loss and val_metric are taken on
    the validation set after the epoch (empty without one); seconds is the time of the epoch without validation.
    """

    loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_metric: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    metric: str | None = None

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the curves with matplotlib: the losses, and the validation metric on a second axis."""
        from .plots import plot_curves

        return plot_curves(self.loss, self.val_loss, self.val_metric, self.metric, ax)
