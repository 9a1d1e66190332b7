"""What a fit recorded, and the error that ends one."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas
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

    loss is the mean over the epoch's samples of the loss before each update; val_loss is taken on the validation set
    after the epoch (empty without one); learning_rate is that of the epoch's last step, NaN with LBFGS; seconds is the
    time of the epoch without validation. What is not known of an epoch, because an exception came before it was
    measured, is NaN.

    metrics is a dict of such lists: "val_accuracy" of the validation set, and "accuracy" of the training set where
    `fit(train_metric=True)` asked for it. metric is the name of the first metric of the validation set, and val_metric
    its list.

    The losses, and how many epochs there are, are read from what the kernels write as they finish an epoch. So they
    belong to the model's parameters at any time. `fit(history=...)` appends a further fit's epochs. A list of something
    that was not recorded in one of the two fits holds NaN there.
    """

    def __init__(
        self,
        loss: Sequence[float] = (),
        val_loss: Sequence[float] = (),
        val_metric: Sequence[float] = (),
        seconds: Sequence[float] = (),
        metric: str | None = None,
        learning_rate: Sequence[float] = (),
        metrics: Mapping[str, Sequence[float]] | None = None,
    ):
        self.metric = metric
        losses = np.array(loss, np.float64)
        # The epochs before the fit that records, its losses, and how many it has done: one value, replaced as a whole.
        self._source: tuple[int, NDArray[np.float64], Callable[[], int]] = 0, losses, functools.partial(len, losses)
        self._loss, self._seconds, self._learning_rate = list(loss), list(seconds), list(learning_rate)
        scores = {"val_loss": val_loss} if len(val_loss) else {}
        scores |= ({f"val_{metric}": val_metric} if len(val_metric) else {}) | dict(metrics or {})
        self._scores = {name: list(values) for name, values in scores.items()}

    @property
    def loss(self) -> list[float]:
        first, losses, epochs = self._source
        n = first + epochs()
        if len(self._loss) != n:
            if len(self._loss) < first:
                _fill(self._loss, first)
            known = len(self._loss)
            self._loss[known:n] = losses[known - first : n - first].tolist()
            del self._loss[n:]
        return self._loss

    def _filled(self, values: list[float]) -> list[float]:
        return _fill(values, self._source[0] + self._source[2]())

    @property
    def val_loss(self) -> list[float]:
        return self._filled(self._scores.get("val_loss", [])) if "val_loss" in self._scores else []

    @property
    def val_metric(self) -> list[float]:
        return self.metrics.get(f"val_{self.metric}", [])

    @property
    def metrics(self) -> dict[str, list[float]]:
        return {name: self._filled(values) for name, values in self._scores.items() if name != "val_loss"}

    @property
    def learning_rate(self) -> list[float]:
        return self._filled(self._learning_rate)

    @property
    def seconds(self) -> list[float]:
        return self._filled(self._seconds)

    def _lists(self) -> dict[str, list[float]]:
        """All lists by name, of equal length: those that are recorded."""
        scores = {name: self._filled(values) for name, values in self._scores.items()}
        return {"loss": self.loss, **scores, "learning_rate": self.learning_rate, "seconds": self.seconds}

    def _row(self, epoch: int) -> dict[str, float]:
        """What is known of an epoch, counted from 1."""
        return {"epoch": epoch, **{name: values[epoch - 1] for name, values in self._lists().items()}}

    def _arguments(self) -> dict[str, Any]:
        """The arguments that make an equal History."""
        names = ("loss", "val_loss", "seconds", "metric", "learning_rate", "metrics")
        return {name: copy.deepcopy(getattr(self, name)) for name in names}

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(History, **self._arguments()), ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and repr(self) == repr(other)  # NaN is like NaN

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"History({', '.join(f'{name}={value!r}' for name, value in self._arguments().items())})"

    def to_frame(self) -> pandas.DataFrame:
        """A pandas frame, one row an epoch: "epoch", counted from 1, and a column for each list that is recorded."""
        import pandas

        return pandas.DataFrame({"epoch": np.arange(1, len(self.loss) + 1), **self._lists()})

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the curves with matplotlib: the losses, and the metrics on a second axis."""
        from ..plots import plot_curves

        return plot_curves(self.loss, self.val_loss, self.metrics, ax)


class Recorder:
    """What a trainer writes a fit's epochs into a History with. The epochs of other fits in it stay as they are."""

    def __init__(
        self,
        history: History,
        losses: NDArray[np.float64],
        epochs: Callable[[], int],
        scored: Iterable[Any] = (),
    ):
        """The History has as many further epochs as epochs() says, with losses of an array.

        scored are the sets, `scoring.Scored`, whose scores will be noted.
        """
        history._lists()  # all are as long as they should be
        self.history, self.first = history, len(history.loss)
        for each in scored:
            for name in each.names:
                history._scores.setdefault(name, [])
            if each.prefix:  # the validation set's
                history.metric = each.metrics[0].name
        history._source = self.first, losses, epochs

    def losses_are_in(self, losses: NDArray[np.float64]) -> None:
        """Read the losses of the fit in another, longer array, which holds those so far."""
        first, _, epochs = self.history._source
        self.history._source = first, losses, epochs

    def score(self, epoch: int, scores: Mapping[str, float]) -> None:
        """Note what is measured after an epoch of the fit, counted from 1."""
        for name, value in scores.items():
            _fill(self.history._scores[name], self.first + epoch - 1).append(value)

    def rates(self, epoch: int, rates: list[float]) -> None:
        """Note the learning rates of the fit's last epochs up to one, counted from 1."""
        _fill(self.history._learning_rate, self.first + epoch - len(rates)).extend(rates)

    @property
    def timed(self) -> int:
        """How many epochs of the fit have their seconds."""
        return len(self.history._seconds) - self.first

    def seconds(self, seconds: float) -> None:
        """Note the seconds of the next epoch that has none."""
        self.history._seconds.append(seconds)


def _fill(values: list[float], n: int) -> list[float]:
    """Make a list n long: what is missing is NaN."""
    values[len(values) : n] = [math.nan] * (n - len(values))
    del values[n:]
    return values
