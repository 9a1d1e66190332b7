"""Callbacks that come with fastnn. Any callable that takes the model is one; see `Model.fit`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import _validation

if TYPE_CHECKING:
    from .history import History

MONITORS = ("loss", "val_loss", "val_metric")


class EarlyStopping:
    """Ends a fit that no longer improves, and gives the model the parameters of its best epoch.

    Parameters
    ----------
    monitor : str
        What is watched: "loss", or of the validation set "val_loss" or "val_metric".
    patience : int
        After so many epochs in a row without improvement the fit ends, at least 1.
    min_delta : float
        How much better than the best a value must be to count as an improvement, at least 0.
    mode : str or None
        Whether less is better, "min", or more, "max". None is "max" for "val_metric", else "min".
    restore_best : bool
        Give the model the parameters of the best epoch when the fit ends, also when it ends by itself. The optimizer's
        state stays that of the last epoch.

    Attributes
    ----------
    best : float
        The best value of the latest fit, NaN before there is one.
    best_epoch : int
        Its epoch, counted from 1; 0 before there is one.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> X = np.linspace(0, 1, 40)[:, None]
    >>> model = fastnn.Model([1, 1], output="identity", rng=0)
    >>> stopping = fastnn.EarlyStopping("loss", patience=3, min_delta=1e-4)
    >>> history = model.fit(X, 2 * X, epochs=1000, batch_size=10, callbacks=[stopping])
    >>> len(history.loss) < 1000
    True
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        *,
        patience: int = 10,
        min_delta: float = 0.0,
        mode: str | None = None,
        restore_best: bool = True,
    ):
        self.monitor = _validation.choice("monitor", monitor, MONITORS)
        self.patience = _validation.integer("patience", patience, 1)
        self.min_delta = _validation.number("min_delta", min_delta, 0.0)
        usual = "max" if self.monitor == "val_metric" else "min"
        self.mode = _validation.choice("mode", usual if mode is None else mode, ("min", "max"))
        self.restore_best = _validation.boolean("restore_best", restore_best)
        self._begin(None)

    def _begin(self, history: History | None) -> None:
        self._history = history  # of the fit that is watched
        self.best, self.best_epoch, self._waited = math.nan, 0, 0
        self._parameters: NDArray[Any] | None = None

    def __call__(self, model: Any) -> bool:
        """What `Model.fit` calls after each epoch: whether to end."""
        history = model.history
        if history is not self._history:
            self._begin(history)
        values = getattr(history, self.monitor)
        if not values:
            raise ValueError(f"monitor must be 'loss' in a fit without validation data, got {self.monitor!r}")
        sign = 1 if self.mode == "min" else -1
        value = values[-1]
        if not sign * value >= sign * self.best - self.min_delta and not math.isnan(value):
            self.best, self.best_epoch, self._waited = value, len(values), 0
            self._parameters = model.parameters.copy() if self.restore_best else None
        else:
            self._waited += 1
        return self._waited >= self.patience

    def on_end(self, model: Any) -> None:
        """What `Model.fit` calls when it ends, but not after an exception."""
        if self._parameters is not None and self._history is model.history:
            np.copyto(model.parameters, self._parameters)
        self._parameters = None
