"""What a fit of a population recorded."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FINISHED, STOPPED, DIVERGED = STATUSES = "finished", "stopped", "diverged"


class PopulationHistory:
    """What a fit of a population recorded: arrays with a row for each of n members.

    `epochs` in a shape is the most epochs that a member was to do. `len(history)` is n.

    Attributes
    ----------
    loss : array (n, epochs), float64
        The mean over the epoch's samples of the loss before each update; NaN after a member's last epoch.
    val_loss : array (n, epochs), float64
        The loss on the validation set after each epoch; NaN where there is none.
    epochs : array (n,), int64
        How many epochs each has done.
    status : array (n,) of str
        "finished": all its epochs are done. "stopped": it stopped before, by `Patience`, `Halving`, `max_time` or an
        exception. "diverged": an epoch ended with a loss or a parameter that is not finite; the member has the
        parameters of the epoch before.
    best_epoch : array (n,), int64
        The epoch, counted from 1, with the least loss: of the validation set if there is one. With `Patience` the
        epoch that it found the best. 0 where there is none.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> X = np.linspace(0, 1, 10)[:, None]
    >>> population = fastnn.Population([1, 1], 3, output="identity", rng=0)
    >>> history = population.fit(X, X, epochs=np.array([1, 2, 3]), batch_size=5)
    >>> np.isnan(history.loss).sum(axis=1).tolist(), history.status.tolist()
    ([2, 1, 0], ['finished', 'finished', 'finished'])
    """

    def __init__(
        self,
        loss: NDArray[np.float64],
        val_loss: NDArray[np.float64],
        epochs: NDArray[np.int64],
        status: NDArray[Any],
        best_epoch: NDArray[np.int64] | None = None,
    ):
        self.loss, self.val_loss, self.epochs, self.status = loss, val_loss, epochs, status
        self.best_epoch = self._best_epoch() if best_epoch is None else best_epoch

    @property
    def _watched(self) -> NDArray[np.float64]:
        """The losses on the validation set if there is one, else those of training."""
        return self.loss if np.isnan(self.val_loss).all() else self.val_loss

    def _best_epoch(self) -> NDArray[np.int64]:
        """The epoch of each member that has the least loss."""
        watched = self._watched
        if watched.shape[1] == 0:
            return np.zeros(len(watched), np.int64)
        known = np.where(np.isnan(watched), np.inf, watched)
        return np.where(np.isnan(watched).all(axis=1), 0, known.argmin(axis=1) + 1)

    @property
    def scores(self) -> NDArray[np.float64]:
        """The loss (n,) of each member's best epoch, which `Population.best` compares; inf where there is none."""
        watched = self._watched
        found = np.full(len(watched), np.inf)
        some = np.flatnonzero((self.best_epoch > 0) & (self.best_epoch <= watched.shape[1]))
        values = watched[some, self.best_epoch[some] - 1]
        found[some] = np.where(np.isnan(values), np.inf, values)
        return found

    def take(self, which: NDArray[np.int64]) -> PopulationHistory:
        """The history of some members."""
        rest = self.epochs[which], self.status[which], self.best_epoch[which]
        return PopulationHistory(self.loss[which], self.val_loss[which], *rest)

    def __len__(self) -> int:
        return len(self.epochs)

    def __repr__(self) -> str:
        counts = ", ".join(f"{(self.status == name).sum()} {name}" for name in STATUSES)
        return f"PopulationHistory of {len(self)} members: {counts}"
