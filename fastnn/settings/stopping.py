"""When members of a population stop before their last epoch: what a user configures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checks import scalars
from .each import Each, number_or_array


@dataclass(frozen=True)
class Patience:
    """Each member of a population stops when it no longer improves, and keeps the parameters of its best epoch.

    Parameters
    ----------
    epochs : int or array (n,)
        After so many epochs in a row without improvement a member stops, at least 1. Default 5.
    monitor : "val_loss", "loss" or None
        What must improve. None, the default, is the loss on the validation set where `Population.fit` has one, else the
        training loss.
    min_delta : float
        How much below the best a loss must be to count as an improvement, at least 0. Default 0.
    restore_best : bool
        Give each member the parameters of its best epoch when the fit ends, also where no member stopped before. The
        state of the optimizer stays that of the last epoch. Default True.
    keep_last : bool
        Of epochs whose losses equal the least one exactly, the last is the best epoch, not the first. Such an epoch is
        no improvement: the member does not train longer. Default False.

    A member stops where `Model.fit` with `EarlyStopping(monitor, patience=epochs)` stops, which has the other settings
    too, and has the same best epoch. Raises ValueError or TypeError for numbers that cannot be used.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.Patience(5)
    Patience(epochs=5, monitor=None, min_delta=0.0, restore_best=True, keep_last=False)
    """

    epochs: Any = 5
    monitor: str | None = None
    min_delta: float = 0.0
    restore_best: bool = True
    keep_last: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.epochs, (np.ndarray, Each)):
            found = number_or_array("epochs", self.epochs, 1)
            if (found.values != np.floor(found.values)).any():
                raise TypeError("epochs of Patience must be integers, got an array of other numbers")
            object.__setattr__(self, "epochs", found)
        else:
            object.__setattr__(self, "epochs", scalars.integer("epochs", self.epochs, 1))
        if self.monitor is not None:
            scalars.choice("monitor", self.monitor, ("val_loss", "loss"))
        object.__setattr__(self, "min_delta", scalars.number("min_delta", self.min_delta, 0.0))
        scalars.boolean("restore_best", self.restore_best)
        scalars.boolean("keep_last", self.keep_last)


@dataclass(frozen=True)
class Halving:
    """Members of a population compete: now and then the best of them go on, the others stop (successive halving).

    After `min_epochs` epochs the best 1/eta of the members go on, after eta times as many epochs the best 1/eta of
    those, and so on, while another epoch follows (Jamieson and Talwalkar 2016). Their number is rounded up, as in
    scikit-learn. The others keep the parameters of their last epoch. A member that goes on never begins again. Of
    members with equal losses the first ones go on. One that diverged has left before.

    Parameters
    ----------
    eta : int
        Of eta members one goes on, at least 2. Default 3.
    min_epochs : int
        How many epochs all members do before they compete, at least 1. Default 3.
    monitor : "val_loss", "loss" or None
        By which loss they compete. None, the default, is that on the validation set where `Population.fit` has one,
        else the training loss.

    Raises ValueError or TypeError for numbers that cannot be used.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.Halving(eta=3, min_epochs=3)
    Halving(eta=3, min_epochs=3, monitor=None)
    """

    eta: int = 3
    min_epochs: int = 3
    monitor: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "eta", scalars.integer("eta", self.eta, 2))
        object.__setattr__(self, "min_epochs", scalars.integer("min_epochs", self.min_epochs, 1))
        if self.monitor is not None:
            scalars.choice("monitor", self.monitor, ("val_loss", "loss"))

    def next_rung(self, epoch: int) -> int:
        """The first epoch above this one after which members compete."""
        rung = self.min_epochs
        while rung <= epoch:
            rung *= self.eta
        return rung
