"""The fit loop: epochs, validation, stopping, History."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _validation, metrics, optimizers
from ._validation import Targets
from .kernels import barrier, entry, network, programs
from .kernels import optimizers as kernel
from .metrics import Metric
from .optimizers import Optimizer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .model import Model

CALL_SECONDS = 0.05  # how long one kernel call may run: Ctrl-C and the progress bar wait for it
TRIAL, WARMING = 0.1, 0.02  # parts of a call: to try another number of threads for, and before that to fill the caches
SOON, LATE = 0.1, 2.0  # seconds until the number that was slower is tried again: at first, and at most
MOST_EPOCHS = 10**8  # a float64 of history each
FIRST_CALL = 2e7  # multiply-adds of the first call, before its speed is known


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
        from .plots import plot_history

        return plot_history(self, ax)


class State:
    """What an optimizer knows of a model's training: its own vectors, laid out like the parameters, and settings."""

    def __init__(self, optimizer: Optimizer, n_bytes: int, dtype: str):
        self.optimizer = optimizer
        self.settings = optimizer._settings()
        self.vectors = network.aligned_zeros(kernel.VECTORS[optimizer._kernel] * n_bytes, dtype)


def fit(
    model: Model,
    inputs: NDArray[Any],
    targets: Targets,
    *,
    epochs: int,
    batch_size: int,
    optimizer: Optimizer | str,
    validation: tuple[NDArray[Any], Targets] | None,
    shuffle: bool | ArrayLike,
    metric: str | Metric | None,
    callbacks: Sequence[Callable[[Model], object]],
    progress: bool | None,
    threads: int,
) -> History:
    """`Model.fit` after its data was checked."""
    epochs = _validation.integer("epochs", epochs, 0)
    if epochs > MOST_EPOCHS:
        raise ValueError(f"epochs must be at most {MOST_EPOCHS}, got {epochs}")
    batch_size = min(_validation.integer("batch_size", batch_size, 1), len(inputs))
    optimizer = optimizers.resolve(optimizer)
    if not isinstance(callbacks, Iterable):
        raise TypeError(f"callbacks must be a sequence of callables, got {callbacks!r}")
    callbacks = list(callbacks)
    for callback in callbacks:
        if not callable(callback):
            raise TypeError(f"callbacks must be callables that take the model, got {callback!r}")
    if progress is not None and not isinstance(progress, (bool, np.bool_)):
        raise TypeError(f"progress must be True, False or None, got {progress!r}")
    mode, order = _order(shuffle, epochs, len(inputs))
    scored = metrics.resolve(metric, validation[1] if validation else targets)

    if model._fitting:
        raise RuntimeError("fit was called on a model while it is being fitted, by a callback or another thread")
    model._fitting = True
    try:
        history = History(metric=scored[0] if validation else None)
        run = _Run(model, inputs, targets, epochs, batch_size, optimizer, mode, order, history, threads)
        with _progress_bar(progress, epochs) as bar:
            model.history = history
            _epochs(run, epochs, validation, scored[1], callbacks, bar)
    finally:
        model._fitting = False
    return history


def _epochs(
    run: _Run,
    epochs: int,
    validation: tuple[NDArray[Any], Targets] | None,
    score: Metric,
    callbacks: Sequence[Callable[[Model], object]],
    bar: _progress_bar,
) -> None:
    """The loop: train, validate, call back; however it ends, the run is settled."""
    model, history = run.model, run.history
    try:
        while run.epoch < epochs:
            before = run.epoch
            run.advance(before + 1 if validation is not None or callbacks else epochs)
            stop = False
            if run.epoch > before and (validation is not None or callbacks):
                run.show()
                if validation is not None:
                    loss, outputs = model._network.evaluate(*validation)
                    value = model._score(score, validation[1], outputs)
                    history.val_loss.append(loss)
                    history.val_metric.append(value)
                answers = [callback(model) for callback in callbacks]
                stop = any(isinstance(answer, (bool, np.bool_)) and answer for answer in answers)
                if callbacks and not stop:
                    run.keep()
            bar(run.epoch - before, history)
            if stop:
                break
    finally:
        run.settle(validated=validation is not None)


class _Pace:
    """Which number of threads is faster now: all of them, unless other processes take cores away.

    A step waits for its slowest thread, and one that shares its core may wait for milliseconds. The result has the same
    bits for any number, so that this may be decided by the clock. The number that seems slower is tried again, the more
    rarely the more often it was. A model keeps what it knows for its next fit of the same kind.
    """

    def __init__(self, threads: int):
        self.most = threads
        self.clock = 0.0  # seconds of training
        self.last = 0  # threads of the last call
        self.spent = [0.0, 0]  # seconds and steps not yet counted
        self.step: dict[int, float] = {}  # seconds
        self.known_at = {1: 0.0, threads: 0.0}
        self.patience = SOON
        self.change = 0.0  # seconds from one way to the other

    def choose(self) -> tuple[int, float]:
        """(threads, what part of a usual call to try them for)."""
        if self.most == 1:
            return 1, 1.0
        unknown = [threads for threads in (self.most, 1) if threads not in self.step]
        best, other = sorted((self.most, 1), key=lambda threads: self.step.get(threads, 0.0))
        due = self.clock - self.known_at[other] > max(self.patience, 30 * self.change)
        threads, part = (unknown[0], TRIAL) if unknown else (other, TRIAL) if due else (best, 1.0)
        return threads, part if threads == self.last else WARMING

    def note(self, threads: int, seconds: float, steps: int) -> None:
        """What a call took. The first one after a change does not count, because the caches are cold."""
        self.clock += seconds
        if threads != self.last:
            self.last, self.spent = threads, [0.0, 0]
            return
        self.spent[0] += seconds
        self.spent[1] += steps
        if self.spent[0] < TRIAL * CALL_SECONDS / 2 or not self.spent[1]:
            return
        best = min(self.step, key=self.step.__getitem__, default=threads)
        self.step[threads], self.known_at[threads] = self.spent[0] / self.spent[1], self.clock
        self.spent = [0.0, 0]
        if best != min(self.step, key=self.step.__getitem__):
            self.patience = SOON
        elif threads != best:
            self.patience = min(2 * self.patience, LATE)


@dataclass
class _Way:
    """How so many threads train: in which layout, with what memory, which the program knows by address, and program."""

    layout: network.Layout
    state: list[NDArray[Any]]  # parameters, the optimizer's vectors, and both at the end of the last finished epoch
    gradient: NDArray[Any]
    work: programs.Workspace
    code: programs.Code

    def hand_over(self, other: _Way) -> None:
        """Let another go on from here."""
        if other.layout is self.layout:
            return
        n, other_n = (layout.n_bytes // layout.itemsize for layout in (self.layout, other.layout))
        for mine, its in zip(self.state, other.state, strict=True):
            for vector, out in zip(mine.reshape(-1, n), its.reshape(-1, other_n), strict=True):
                self.layout.convert(vector, other.layout, out)


class _Run:
    """One fit's buffers and position. The kernel alone moves it, so an exception anywhere leaves it consistent."""

    def __init__(
        self,
        model: Model,
        inputs: NDArray[Any],
        targets: Targets,
        epochs: int,
        batch_size: int,
        optimizer: Optimizer,
        mode: int,
        order: NDArray[np.int32],
        history: History,
        threads: int,
    ):
        self.model, self.history, self.most_threads = model, history, threads
        self.inputs, self.targets, self.batch_size = inputs, targets, batch_size
        self.sources = np.array([(a.ctypes.data, a.strides[0]) for a in (inputs, targets.array)], np.int64)
        self.steps_per_epoch = -(-len(inputs) // batch_size)
        self.position = np.zeros(8, np.int64)
        fixed = [entry.N_SAMPLES, entry.BATCH_SIZE, entry.BLOCK_ROWS, entry.ORDERED]
        self.position[fixed] = len(inputs), batch_size, model._layout.block_rows, mode
        self.losses = np.zeros(epochs)
        self.parameters, self.snapshot = model.parameters, model.parameters.copy()
        self.optimizer, self.order = optimizer, order
        self._write_programs()
        # Compiles or loads the kernels, outside the timed part, and the helpers' here, where an error would be seen.
        self._train(0)
        if self.threads > 1:
            code = self.ways[self.threads].code
            entry.compile_help(code.code, code.parts, self.sources)
        self.steps = max(1, int(FIRST_CALL / (3 * batch_size * model.n_parameters)))
        self.window = [0.0, 0]  # seconds and steps since the last finished epoch

    def _write_programs(self) -> None:
        """The kernel's arguments, for the layers that train now."""
        model = self.model
        self.layout = layout = model._layout
        if model._state is None or model._state.optimizer != self.optimizer:
            model._state = State(self.optimizer, layout.n_bytes, model.dtype)
        self.state = state = model._state
        self.vectors_before = state.vectors.copy()
        self.threads = programs.worth(layout, self.batch_size, self.most_threads)
        self.pace = self._known_pace()
        self.ways = {n: self._way(n) for n in {1, self.threads}}
        self.way = self.ways[1]

    def _known_pace(self) -> _Pace:
        """The pace of the model's last fit on threads, if it was of this kind."""
        if self.threads == 1:
            return _Pace(1)
        kind = self.layout, self.batch_size, self.optimizer._kernel, self.threads
        if self.model._pace is None or self.model._pace[0] != kind:
            self.model._pace = kind, _Pace(self.threads)
        pace = self.model._pace[1]
        pace.last = 0
        return pace

    def _way(self, threads: int) -> _Way:
        """For so many threads: the model's own memory where it has their layout, or as much again."""
        layout, batch_size, name = self.layout, self.batch_size, self.optimizer._kernel
        parted = programs.parted(layout, batch_size, threads)
        state = [self.parameters, self.state.vectors, self.snapshot, self.vectors_before]
        if parted is not layout:
            lengths = [a.nbytes // layout.n_bytes * parted.n_bytes for a in state]
            state = [network.aligned_zeros(length, layout.dtype) for length in lengths]
        needed = programs.needs_gradient(layout, batch_size, name)
        gradient = network.aligned_zeros(parted.n_bytes if needed else 0, layout.dtype)
        work = programs.Workspace(parted, min(batch_size, layout.block_rows), threads)
        vectors = [state[1].ctypes.data + i * parted.n_bytes for i in range(kernel.VECTORS[name])]
        samples = network.Source.of(self.inputs), network.Source.of(self.targets.array)
        places = entry.library(layout.dtype), parted, state[0].ctypes.data, work, *samples
        step = batch_size, self.model._network.scale, name, gradient.ctypes.data, vectors
        return _Way(parted, state, gradient, work, programs.train(*places, *step, threads))

    def _take(self, threads: int) -> None:
        """Go on the way that so many threads train."""
        self.way.hand_over(self.ways[threads])
        self.way = self.ways[threads]

    def _train(self, steps: int) -> None:
        """One kernel call, the way that was taken. The helping threads end with it, whatever happens."""
        code, job, helpers = self.way.code, self.way.work.job, list[threading.Thread]()
        job[:] = 0
        try:
            for thread in range(1, len(code.parts)):
                arguments = code.code, code.parts, self.sources, job, thread
                helper = threading.Thread(target=entry.help_train, args=arguments, daemon=True)
                try:
                    helper.start()
                except RuntimeError:  # the system gives no more threads; those that run are told to end below
                    job[barrier.STOPPED] = 1
                    self._take(1)
                    break
                helpers.append(helper)
            way, code, work = self.way, self.way.code, self.way.work
            live, kept = tuple(way.state[:2]), tuple(way.state[2:])
            rest = self.order, self.model._random, self.state.settings, self.position, self.losses
            entry.train(code.code, code.parts, self.sources, work.cells, work.job, live, kept, *rest, steps)
        finally:
            job[barrier.STOPPED] = 1
            for helper in helpers:
                helper.join()

    def show(self) -> None:
        """Let the model have the parameters of now."""
        self._take(1)

    @property
    def epoch(self) -> int:
        """Epochs finished."""
        return int(self.position[entry.EPOCH])

    def advance(self, until: int) -> None:
        """One kernel call: up to about CALL_SECONDS of steps, but not past the epoch `until`."""
        position = self.position
        before = position[entry.EPOCH] * self.steps_per_epoch + position[entry.STEP]
        position[entry.EPOCHS] = until
        threads, part = self.pace.choose()
        changed = time.perf_counter()
        self._take(threads)
        start = time.perf_counter()
        if threads != self.pace.last:
            self.pace.change = start - changed
        self._train(max(1, int(self.steps * part)))
        seconds = time.perf_counter() - start
        self._record()
        if position[entry.STATUS] == entry.DIVERGED:
            epoch = self.epoch + 1
            raise DivergenceError(
                f"training diverged in epoch {epoch}: its loss is {self.losses[epoch - 1]:g} or a parameter is not "
                f"finite. The model holds the parameters after {self.epoch} epochs; try a lower learning_rate.",
                epoch,
            )
        done = int(position[entry.EPOCH] * self.steps_per_epoch + position[entry.STEP] - before)
        self.pace.note(threads, seconds, done)
        self._clock(time.perf_counter() - changed, done)

    def keep(self) -> None:
        """Take over what callbacks did to the model between two epochs."""
        if self.model.parameters is not self.parameters:
            raise RuntimeError("a callback called replace_head, which fit cannot follow; return True to end it first")
        if self.model._layout is not self.layout:  # it called freeze
            self._write_programs()
        self.snapshot[:] = self.parameters

    def _clock(self, seconds: float, done: int) -> None:
        """Share the seconds among the epochs that ended, and choose the length of the next call."""
        self.window[0] += seconds
        self.window[1] += done
        history = self.history
        while len(history.seconds) < len(history.loss):
            share = self.window[0] * self.steps_per_epoch / self.window[1]
            history.seconds.append(share)
            self.window[0] -= share
            self.window[1] -= self.steps_per_epoch
        wanted = int(done * CALL_SECONDS / max(seconds, 1e-9))
        self.steps = max(1, min(wanted, 4 * self.steps) if done == self.steps else max(wanted, self.steps))

    def _record(self) -> None:
        loss = self.history.loss
        loss.extend(self.losses[len(loss) : self.epoch].tolist())

    def settle(self, validated: bool) -> None:
        """Leave the model as it was at the end of the last finished epoch, and the history of one length."""
        self._record()
        self.show()
        history = self.history
        history.seconds.extend([float("nan")] * (len(history.loss) - len(history.seconds)))
        if validated:
            for values in (history.val_loss, history.val_metric):
                values.extend([float("nan")] * (len(history.loss) - len(values)))
        if self.position[entry.STEP] != 0:
            self.model.parameters[:] = self.snapshot
            self.model._random[0] = self.model._random[1]
            self.state.vectors[:] = self.vectors_before
            settings = self.state.settings
            settings[[kernel.POWER_1, kernel.POWER_2]] = settings[[kernel.KEPT_1, kernel.KEPT_2]]


def _order(shuffle: bool | ArrayLike, epochs: int, n: int) -> tuple[int, NDArray[np.int32]]:
    """(mode, order) for the kernel."""
    if n > np.iinfo(np.int32).max:
        raise ValueError(f"X must hold at most {np.iinfo(np.int32).max} samples, got {n}")
    if isinstance(shuffle, (bool, np.bool_)):
        return (entry.DRAWN, np.empty((1, n), np.int32)) if shuffle else (entry.AS_IS, np.empty((1, 0), np.int32))
    order = np.asarray(shuffle)
    if order.dtype.kind not in "iu" or order.shape != (epochs, n):
        raise ValueError(
            f"shuffle must be True, False or an integer array of shape ({epochs}, {n}), "
            f"got {order.dtype} of shape {order.shape}"
        )
    if order.size and not (order.min() >= 0 and order.max() < n):
        raise ValueError(f"shuffle must hold sample indices in [0, {n}), got {order.min()} to {order.max()}")
    return entry.GIVEN, np.array(order, np.int32, order="C")


class _progress_bar:
    """A tqdm bar that counts epochs and shows the losses, or nothing."""

    def __init__(self, shown: bool | None, epochs: int):
        self.bar = None
        if shown:
            from tqdm.auto import tqdm

            self.bar = tqdm(total=epochs, unit="epoch")

    def __enter__(self) -> _progress_bar:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def __call__(self, epochs: int, history: History) -> None:
        if self.bar is None or not epochs:
            return
        shown = {"loss": history.loss[-1]}
        if history.val_loss:
            shown |= {"val_loss": history.val_loss[-1], f"val_{history.metric}": history.val_metric[-1]}
        self.bar.set_postfix({name: f"{value:.4f}" for name, value in shown.items()}, refresh=False)
        self.bar.update(epochs)
