"""Callbacks that come with fastnn. Any callable that takes the model is one; see `Model.fit`."""

from __future__ import annotations

import csv
import io
import math
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..checks import file_paths, scalars
from ..checks.file_paths import naming
from ..checks.scalars import shown

if TYPE_CHECKING:
    from .history import History

LESS_IS_BETTER = ("loss", "error", "deviance", "mae", "mse", "rmse")


class _Monitor:
    """A callback that watches a value which the fit records: the value, its best, and whether it improved.

    What it knows of a fit are the values in its History. The History may be new to it, or may have gone on without it,
    as after a restart of the process. Then it takes in the values as at the end of each epoch. An epoch without a
    value, NaN, does not count then.
    """

    keep_last = False  # whether the last of equally good epochs is the best one, not the first

    def __init__(self, monitor: str, min_delta: float, mode: str | None):
        if not isinstance(monitor, str):
            raise TypeError(f"monitor must be a string, got {shown(monitor)}")
        self.monitor = monitor
        self.min_delta = scalars.number("min_delta", min_delta, 0.0)
        self.mode = None if mode is None else scalars.choice("mode", mode, ("min", "max"))
        self._begin(None)

    def _begin(self, history: History | None) -> None:
        self._history = history  # what the watched fit records
        self.best, self.best_epoch = math.nan, 0
        self._seen: list[float] = []  # the values of the epochs so far

    def _watch(self, model: Any) -> tuple[list[float], int]:
        """The values of the model's fit, and 1 where less is better, else -1."""
        history = model.history
        found = {"loss": history.loss}
        if history.metric is not None:
            found |= {"val_loss": history.val_loss, "val_metric": history.val_metric}
        found |= history.metrics
        if self.monitor not in found:
            known = ", ".join(map(repr, found))
            raise ValueError(
                f"monitor must be one of {known}, which this fit records, got {self.monitor!r}; what begins with "
                "'val_' needs validation data, a metric of the training set train_metric=True"
            )
        name = f"val_{history.metric}" if self.monitor == "val_metric" else self.monitor
        less = name.endswith(LESS_IS_BETTER) if self.mode is None else self.mode == "min"
        return found[self.monitor], 1 if less else -1

    def _take(self, value: float, sign: int) -> bool:
        """Take in the next epoch's value; gives whether it is better than the best by min_delta, and so the best."""
        better = not sign * value >= sign * self.best - self.min_delta and not math.isnan(value)
        if better or (self.keep_last and value == self.best):
            self.best, self.best_epoch = value, len(self._seen) + 1
        self._seen.append(value)  # last: after Ctrl-C above, the value is taken again
        return better

    def _catch_up(self, history: History, values: list[float], sign: int) -> None:
        """Take in the values of epochs that ended before this callback was called, and no others."""
        if history is not self._history or len(self._seen) > len(values):
            self._begin(history)
        for value in values[len(self._seen) :]:
            better = self._take(value, sign)
            if not math.isnan(value):
                self._count(better)

    def _count(self, better: bool) -> None:
        """Count the epochs without improvement, in a callback that needs their number."""

    @property
    def _is_best(self) -> bool:
        """Whether the latest epoch is the best one."""
        return self.best_epoch == len(self._seen) > 0

    def _improves(self, model: Any) -> bool:
        """Whether the latest value is better than the best by min_delta; then it is the best."""
        values, sign = self._watch(model)
        if model.history is not self._history or len(self._seen) != len(values) - 1:
            self._catch_up(model.history, values[:-1], sign)
        return self._take(values[-1], sign)

    def on_begin(self, model: Any) -> None:
        """What `Model.fit` calls before the first epoch. Raises ValueError for a monitor that is not recorded."""
        values, sign = self._watch(model)
        if not np.array_equal(self._seen, values[: len(self._seen)], equal_nan=True):
            self._history = None  # the user has edited it
        self._catch_up(model.history, values, sign)


class EarlyStopping(_Monitor):
    """Ends a fit that no longer improves, and gives the model the parameters of its best epoch.

    Parameters
    ----------
    monitor : str
        What is watched: "loss", "val_loss", or a metric that the fit records, such as "val_accuracy" or "accuracy" (see
        `metric` and `train_metric` of `Model.fit`). "val_metric" is the first one of the validation set.
    patience : int
        After so many epochs in a row without improvement the fit ends, at least 1.
    min_delta : float
        How much better than the best a value must be to count as an improvement, at least 0.
    mode : str or None
        Whether less is better, "min", or more, "max". None goes by the name, which scikit-learn's metrics follow too:
        "min" where it ends in "loss", "error", "deviance", "mae", "mse" or "rmse", else "max".
    restore_best : bool
        Give the model the parameters of the best epoch when the fit ends, also when it ends by itself. The optimizer's
        state stays that of the last epoch.
    keep_last : bool
        Of epochs whose values equal the best one exactly, the last is the best epoch, not the first. Patience does not
        count such an epoch as an improvement.

    A fit that goes on with a History (`Model.fit(history=...)`) goes on with best and patience too. With a new object,
    as after a restart of the process, they follow from the values in the History. But a new object does not know the
    parameters of the epochs in the History. If the best epoch is one of them, the model keeps the parameters of the
    last epoch of the fit. But if it is the last epoch in the History, the model gets the parameters that it had when
    the fit began. Any other fit begins afresh.

    Attributes
    ----------
    best : float
        The best value of the latest fit, NaN before there is one.
    best_epoch : int
        The epoch of the best value, counted from 1; 0 before there is one.

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
        keep_last: bool = False,
    ):
        self.patience = scalars.integer("patience", patience, 1)
        self.restore_best = scalars.boolean("restore_best", restore_best)
        self.keep_last = scalars.boolean("keep_last", keep_last)
        super().__init__(monitor, min_delta, mode)

    def _begin(self, history: History | None) -> None:
        super()._begin(history)
        self._waited = 0
        self._parameters: NDArray[Any] | None = None

    def __call__(self, model: Any) -> bool:
        """What `Model.fit` calls after each epoch: whether to end."""
        self._count(self._improves(model))
        if self._is_best:
            self._keep(model)
        return self._waited >= self.patience

    def _count(self, better: bool) -> None:
        self._waited = 0 if better else self._waited + 1
        if self._is_best:
            self._parameters = None  # they were those of an epoch that is no longer the best

    def _keep(self, model: Any) -> None:
        self._parameters = model.parameters.copy() if self.restore_best else None

    def on_begin(self, model: Any) -> None:
        """What `Model.fit` calls before the first epoch. Raises ValueError for a monitor that is not recorded."""
        super().on_begin(model)
        if self._parameters is None and self.best_epoch == len(model.history.loss) > 0:
            self._keep(model)

    def on_end(self, model: Any) -> None:
        """What `Model.fit` calls when it ends, but not after an exception."""
        best = self._parameters
        if best is not None and self._history is model.history and best.shape == model.parameters.shape:
            np.copyto(model.parameters, best)


class ModelCheckpoint(_Monitor):
    """Saves the model after each epoch that is the best so far, or after every epoch.

    Parameters
    ----------
    path : str or path object
        Where `Model.save` writes to. "{epoch}" in it stands for the number of the epoch, counted from 1, also as
        "{epoch:03}"; without it a file is replaced by the next one. Other braces are doubled, "{{" and "}}".
    monitor, min_delta, mode, keep_last
        As in `EarlyStopping`: they say which epoch is the best.
    save_best_only : bool
        False saves every epoch, and watches nothing.

    A fit that goes on with a History (`Model.fit(history=...)`) saves an epoch that is better than all in the History,
    with `keep_last` also one that is as good as the best.
    So does a new object, as after a restart of the process. Any other fit begins afresh.

    Attributes
    ----------
    best, best_epoch
        As in `EarlyStopping`.
    saved : pathlib.Path or None
        The file that was written last.

    Raises what `Model.save` raises, which ends the fit. The model then holds the parameters of the epoch.

    Examples
    --------
    >>> import fastnn, os, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> saving = fastnn.ModelCheckpoint(os.path.join(folder, "{epoch:02}.safetensors"), save_best_only=False)
    >>> history = fastnn.Model([1, 1]).fit([[0], [1]], [0, 1], epochs=2, batch_size=1, callbacks=[saving])
    >>> sorted(os.listdir(folder)), fastnn.load(saving.saved).sizes
    (['01.safetensors', '02.safetensors'], (1, 1))
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        monitor: str = "val_loss",
        *,
        min_delta: float = 0.0,
        mode: str | None = None,
        save_best_only: bool = True,
        keep_last: bool = False,
    ):
        self.path = file_paths.path(path)
        self.saved: Path | None = None
        self.save_best_only = scalars.boolean("save_best_only", save_best_only)
        self.keep_last = scalars.boolean("keep_last", keep_last)
        try:
            self._path_of(1)
        except (KeyError, IndexError, ValueError, AttributeError, TypeError):
            raise ValueError(f"path must hold no braces but {{epoch}}, {{{{ and }}}}, got {shown(path)}") from None
        super().__init__(monitor, min_delta, mode)

    def _path_of(self, epoch: int) -> Path:
        return Path(str(self.path).format(epoch=epoch))

    def __call__(self, model: Any) -> None:
        """What `Model.fit` calls after each epoch."""
        if self.save_best_only:
            self._improves(model)
        if not self.save_best_only or self._is_best:
            path = self._path_of(len(model.history.loss))
            model.save(path)
            self.saved = path

    def on_begin(self, model: Any) -> None:
        """What `Model.fit` calls before the first epoch."""
        if self.save_best_only:
            super().on_begin(model)


class TargetReached(_Monitor):
    """Ends a fit when a value is good enough.

    Parameters
    ----------
    monitor, mode
        As in `EarlyStopping`.
    value : float
        The fit ends after the first epoch with this value or a better one.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> X = np.linspace(0, 1, 40)[:, None]
    >>> model = fastnn.Model([1, 1], output="identity", rng=0)
    >>> reached = fastnn.TargetReached("loss", 0.01)
    >>> history = model.fit(X, 2 * X, epochs=1000, batch_size=10, callbacks=[reached])
    >>> history.loss[-1] <= 0.01 < history.loss[-2]
    True
    """

    def __init__(self, monitor: str, value: float, *, mode: str | None = None):
        self.value = scalars.number("value", value, -math.inf)
        super().__init__(monitor, 0.0, mode)

    def __call__(self, model: Any) -> bool:
        """What `Model.fit` calls after each epoch: whether to end."""
        values, sign = self._watch(model)
        return sign * values[-1] <= sign * self.value


class ReduceOnPlateau(_Monitor):
    """Multiplies the learning rate by a factor when a value no longer improves: PyTorch's ReduceLROnPlateau.

    The optimizer's learning rate must be a number, not a schedule. LBFGS has none, so it cannot be used. The optimizer
    keeps its state.

    Parameters
    ----------
    monitor, mode
        As in `EarlyStopping`.
    factor : float
        In (0, 1).
    patience : int
        So many epochs in a row may bring no improvement, at least 0; the next one reduces the rate.
    min_delta : float
        How much better than the best a value must be to count as an improvement, at least 0 (PyTorch's threshold, with
        threshold_mode="abs").
    cooldown : int
        So many epochs after a reduction do not count, at least 0.
    min_rate : float
        The lowest rate, at least 0. A reduction by 1e-8 or less is left out.

    A fit that goes on with a History (`Model.fit(history=...)`) goes on with the state and the rate. With a new object,
    as after a restart of the process, the state follows from the values in the History. The rate is the last one in the
    History, if that is lower than one before it. Any other fit begins afresh, with the optimizer's rate.

    Attributes
    ----------
    learning_rate : float or None
        The rate that this callback set last; None before it has set one.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> X = np.linspace(0, 1, 40)[:, None]
    >>> model = fastnn.Model([1, 1], output="identity", rng=0)
    >>> plateau = fastnn.ReduceOnPlateau("loss", factor=0.5, patience=2, min_delta=0.001)
    >>> history = model.fit(X, 2 * X, epochs=100, batch_size=10, callbacks=[plateau])
    >>> history.learning_rate[0], history.learning_rate[-1] < 0.05
    (0.1, True)
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        *,
        factor: float = 0.1,
        patience: int = 10,
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_rate: float = 0.0,
        mode: str | None = None,
    ):
        self.factor = scalars.number("factor", factor, 0.0, 1.0, open_low=True)
        self.patience = scalars.integer("patience", patience, 0)
        self.cooldown = scalars.integer("cooldown", cooldown, 0)
        self.min_rate = scalars.number("min_rate", min_rate, 0.0)
        super().__init__(monitor, min_delta, mode)

    def _begin(self, history: History | None) -> None:
        super()._begin(history)
        self._waited = self._cooling = 0
        self._due = False  # whether the last epoch asks for a lower rate
        self.learning_rate: float | None = None

    def on_begin(self, model: Any) -> None:
        """What `Model.fit` calls before the first epoch. Raises ValueError where the rate cannot be set."""
        before = len(self._seen) if self._history is model.history else 0
        super().on_begin(model)
        if len(self._seen) > before:
            rates = [rate for rate in model.history.learning_rate if rate > 0]
            self.learning_rate = rates[-1] if rates and rates[-1] < max(rates) else self.learning_rate
        model.learning_rate = model.learning_rate if self.learning_rate is None else self.learning_rate
        self._reduce(model)

    def __call__(self, model: Any) -> None:
        """What `Model.fit` calls after each epoch."""
        self._count(self._improves(model))
        self._reduce(model)

    def _count(self, better: bool) -> None:
        self._waited = 0 if better else self._waited + 1
        if self._cooling:
            self._cooling, self._waited = self._cooling - 1, 0
        self._due = self._waited > self.patience
        if self._due:
            self._waited, self._cooling = 0, self.cooldown

    def _reduce(self, model: Any) -> None:
        """Lower the rate, if the last epoch asks for it."""
        due, self._due = self._due, False
        reduced = max(model.learning_rate * self.factor, self.min_rate)
        if due and model.learning_rate - reduced > 1e-8:
            model.learning_rate = self.learning_rate = reduced


class TimeLimit:
    """Ends a fit after the first epoch that ends so many seconds or more after the fit began.

    Parameters
    ----------
    seconds : float
        Above 0. Validation and other callbacks count too.

    Examples
    --------
    >>> import fastnn
    >>> limit = fastnn.TimeLimit(0.05)
    >>> history = fastnn.Model([1, 1]).fit([[0], [1]], [0, 1], epochs=10**6, batch_size=1, callbacks=[limit])
    >>> len(history.loss) < 10**6
    True
    """

    def __init__(self, seconds: float):
        self.seconds = scalars.number("seconds", seconds, 0.0, open_low=True)
        self._started = math.nan

    def on_begin(self, model: Any) -> None:
        """What `Model.fit` calls before the first epoch."""
        self._started = time.monotonic()

    def __call__(self, model: Any) -> bool:
        """What `Model.fit` calls after each epoch: whether to end."""
        return time.monotonic() - self._started >= self.seconds


class CSVLogger:
    """Writes a line of a CSV file after each epoch: epoch, losses, metrics, learning_rate, seconds.

    The columns are those of `History.to_frame`. A line ends in "\\n". It is in the file as soon as the epoch has ended.

    Parameters
    ----------
    path : str or path object
        The file.
    append : bool
        False: each fit begins the file anew. True: a fit appends to the lines of the file, which must have the same
        columns. The last line may have no end, because a process was killed while it wrote. Then the line is removed
        where it lacks a number. Else it gets its end, and its last number, the seconds, may be cut.

    Raises ValueError, before the first epoch, where the file has other columns, and OSError where it cannot be written.

    Examples
    --------
    >>> import fastnn, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "log.csv")
    >>> logger = fastnn.CSVLogger(path)
    >>> history = fastnn.Model([1, 1]).fit([[0], [1]], [0, 1], epochs=2, batch_size=1, callbacks=[logger])
    >>> with open(path) as file:
    ...     print(file.readline().strip(), len(file.readlines()))
    epoch,loss,learning_rate,seconds 2
    """

    def __init__(self, path: str | os.PathLike[str], append: bool = False):
        self.path = file_paths.path(path)
        self.append = scalars.boolean("append", append)

    def on_begin(self, model: Any) -> None:
        """What `Model.fit` calls before the first epoch."""
        columns = ["epoch", *model.history._lists()]
        goes_on = self.append and self.path.is_file()  # a pipe or a device holds no lines
        with naming(self.path), open(self.path, "ab+" if goes_on else "wb") as file:
            if not goes_on or not self._mended(file, columns):
                file.write(_csv_line(columns))

    def _mended(self, file: BinaryIO, columns: list[str]) -> bool:
        """Whether the file begins with the columns; a last line that has no end is removed, or gets its end."""
        file.seek(0)
        lines = file.read().splitlines(keepends=True)
        if not lines or (len(lines) == 1 and _csv_line(columns).startswith(lines[0]) and lines != [_csv_line(columns)]):
            file.truncate(0)  # the line of columns was cut: the file begins anew
            return False
        fields = [next(csv.reader([line.decode(errors="replace")]), []) for line in (lines[0], lines[-1])]
        if fields[0] != columns:
            raise ValueError(f"path must name a CSV file with the columns {columns}, got {self.path} with {fields[0]}")
        if not lines[-1].endswith(b"\n"):
            if len(fields[1]) < len(columns) or not all(map(_is_number, fields[1])):
                file.truncate(sum(map(len, lines[:-1])))
            else:
                file.write(b"\n")
        return True

    def __call__(self, model: Any) -> None:
        """What `Model.fit` calls after each epoch."""
        with naming(self.path), open(self.path, "ab") as file:
            file.write(_csv_line(model.history._row(len(model.history.loss)).values()))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _csv_line(values: Iterable[Any]) -> bytes:
    """A line of a CSV file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue().encode()
