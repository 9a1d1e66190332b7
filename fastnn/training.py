"""The fit loop: plans, epochs, validation, stopping."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .history import DivergenceError, History
from .kernels import entry, schedule, strategy
from .kernels.library import library
from .kernels.memory import STATE, Workspace, aligned_zeros
from .kernels.optimizers import MAX_NUMBERS, OPTIMIZERS
from .kernels.program import ORDER, REMAINING, SAMPLES, TARGETS, WEIGHTS, Code, bind, bindings
from .kernels.schedule import Sources
from .network import Network
from .optimizers import Optimizer
from .threads import ThreadTuner

CALL_SECONDS = 0.05  # how long one kernel call may run: Ctrl-C and the progress bar wait for it
FIRST_CALL = 2e7  # multiply-adds of the first call, before its speed is known
MAX_PLANS = 2  # that a network keeps
AS_IS, DRAWN, GIVEN = entry.AS_IS, entry.DRAWN, entry.GIVEN


class Samples(NamedTuple):
    """A sample set as the kernels read it: C-ordered arrays of as many rows; weights (n,) where samples have any."""

    inputs: NDArray[Any]
    targets: NDArray[Any]
    weights: NDArray[Any] | None = None


class Schedule:
    """How so many threads train: in which layout, in which memory, and by which programs, which know it by address."""

    def __init__(self, plan: Plan, threads: int):
        layout, kind = plan.layout, plan.kind
        self.threads, self.library = threads, library(layout.dtype)
        self.layout = strategy.sharded(layout, kind.batch_size, threads)
        # Parameters and the optimizer's vectors, and both as they were at the end of the last finished epoch: the
        # network's own memory where it has this layout, or as much again.
        self.live, self.kept = [plan.parameters, plan.optimizer_vectors], plan.kept
        if self.layout is not layout:
            lengths = [a.nbytes // layout.n_bytes * self.layout.n_bytes for a in self.live]
            self.live, self.kept = ([aligned_zeros(n, layout.dtype) for n in lengths] for _ in range(2))
        needed = schedule.needs_gradient(layout, kind.batch_size, kind.optimizer)
        self.gradient = aligned_zeros(self.layout.n_bytes if needed else 0, layout.dtype)
        self.work = Workspace(self.layout, min(kind.batch_size, layout.block_rows), threads)
        training = schedule.Training(
            layout=self.layout,
            work=self.work,
            sources=kind.sources,
            input_scale=plan.scale,
            n_samples=kind.remainder,
            batch_size=kind.batch_size,
            optimizer=kind.optimizer,
            live=self.live,
            kept=self.kept,
            gradient=self.gradient,
            settings=plan.settings,
            state=plan.state,
            kept_state=plan.kept_state,
        )
        self.programs = training.programs(threads)  # print(schedule.programs[worker][i]) shows one
        self.code = Code((program for programs in self.programs for program in programs), self.library)
        self.parts = self.code.parts.reshape(threads, -1)

    def hand_over(self, other: Schedule) -> None:
        """Let another go on from here."""
        if other.layout is self.layout:
            return
        mine, its = self.layout.n_bytes // self.layout.itemsize, other.layout.n_bytes // other.layout.itemsize
        for array, out in zip([*self.live, *self.kept], [*other.live, *other.kept], strict=True):
            for vector, place in zip(array.reshape(-1, mine), out.reshape(-1, its), strict=True):
                self.layout.convert(vector, other.layout, place)

    def arguments(self, plan: Plan) -> tuple[Any, ...]:
        """What every worker's function takes."""
        return self.code.operations, self.code.patches, self.parts, plan.bindings, self.work.mailbox


@dataclass(frozen=True)
class FitKind:
    """What the programs of a fit depend on beside the network."""

    batch_size: int
    remainder: int  # samples of an epoch's last batch, if it is a smaller one
    optimizer: str
    max_threads: int
    sources: Sources


class Plan:
    """The programs and buffers of a kind of fit, for one thread and for several. A further fit of the kind binds them.

    It outlives the fit, but holds no reference to a user's data.
    """

    def __init__(self, network: Network, kind: FitKind, optimizer_vectors: NDArray[Any]):
        self.layout, self.scale, self.kind = network.layout, network.scale, kind
        self.parameters, self.optimizer_vectors, self.state = network.parameters, optimizer_vectors, network.state
        self.process = os.getpid()
        self.kept = [aligned_zeros(array.nbytes, array.dtype) for array in (self.parameters, optimizer_vectors)]
        self.kept_state = aligned_zeros(STATE.itemsize, STATE)
        self.settings = aligned_zeros(8 * MAX_NUMBERS, np.float64)
        self.bindings = bindings()
        self.order = np.empty(0, np.int32)  # drawn
        self.run = np.zeros(1, entry.RUN)
        self.threads = strategy.max_threads(self.layout, kind.batch_size, kind.max_threads)
        self.tuner = ThreadTuner(self.threads, CALL_SECONDS)
        self.schedules = {threads: Schedule(self, threads) for threads in {1, self.threads}}
        self.schedule = self.schedules[1]
        self._compile()

    def _compile(self) -> None:
        """Compile or load the kernels, outside the timed part, and the helpers' here, where an error would be seen."""
        for threads, made in self.schedules.items():
            arguments = made.arguments(self)
            made.work.mailbox["stopped"] = 1
            entry.train(*arguments, made.work.step, self.run, np.zeros(1), 0)
            if threads > 1:
                entry.help_train(*arguments, 0)

    def bind(self, optimizer: Optimizer, samples: Samples, ordered: int, order: Any = None) -> None:
        """Get ready for a fit on these samples; order is int32 (epochs, n) where it is given."""
        n, run, table = len(samples.inputs), self.run, self.bindings
        if ordered == DRAWN:
            if len(self.order) != n:
                self.order = np.empty(n, np.int32)
            order = self.order
        if ordered == AS_IS:
            bind(table, ORDER, 0)
            bind(table, REMAINING, 0)  # there is no order to prefetch by
        else:
            bind(table, REMAINING, n, -1)
            bind(table, ORDER, order.ctypes.data, 4)
        for symbol, array in zip((SAMPLES, TARGETS, WEIGHTS), samples, strict=True):
            if array is not None:
                bind(table, symbol, array.ctypes.data, array.strides[0] if ordered == AS_IS else 0)
        names = OPTIMIZERS[self.kind.optimizer].settings
        self.settings[: len(names)] = [getattr(optimizer, name) for name in names]
        run[0] = (n, self.kind.batch_size, self.layout.block_rows, ordered, 0, 0, 0, entry.RUNNING, 0.0)
        self.tuner.last = 0
        self.keep()

    def release(self) -> None:
        """Forget the samples."""
        self.bindings[...] = 0

    def keep(self) -> None:
        """What the memory holds now is what is to be kept."""
        self.kept[0][:] = self.parameters
        self.kept[1][:] = self.optimizer_vectors
        self.kept_state[:] = self.state

    def restore(self) -> None:
        """Go back to what was kept."""
        self.parameters[:] = self.kept[0]
        self.optimizer_vectors[:] = self.kept[1]
        self.state[:] = self.kept_state

    def take(self, threads: int) -> None:
        """Go on with so many threads."""
        if threads != self.schedule.threads:
            self.schedule.hand_over(self.schedules[threads])
            self.schedule = self.schedules[threads]

    def train(self, losses: NDArray[np.float64], steps: int) -> None:
        """One kernel call, with the threads that were taken. The helping threads end with it, whatever happens."""
        made = self.schedule
        if made.threads > 1:
            self._train_on_threads(losses, steps)
        else:
            entry.train(*made.arguments(self), made.work.step, self.run, losses, steps)

    def _train_on_threads(self, losses: NDArray[np.float64], steps: int) -> None:
        made, helpers = self.schedule, list[threading.Thread]()
        mailbox, arguments = made.work.mailbox, made.arguments(self)
        mailbox[...] = 0
        try:
            for worker in range(1, made.threads):
                helper = threading.Thread(target=entry.help_train, args=(*arguments, worker), daemon=True)
                try:
                    helper.start()
                except RuntimeError:  # the system gives no more threads; those that run are told to end below
                    mailbox["stopped"] = 1
                    self.take(1)
                    break
                helpers.append(helper)
            now = self.schedule
            entry.train(*now.arguments(self), now.work.step, self.run, losses, steps)
        finally:
            mailbox["stopped"] = 1
            for helper in helpers:
                helper.join()


def plan_for(network: Network, optimizer: Optimizer, samples: Samples, batch_size: int, max_threads: int) -> Plan:
    """The network's plan for this kind of fit, kept from the last one or made now."""
    network.stepper = None  # another one binds the plans now
    state = network.state_for(optimizer)
    remainder = len(samples.inputs) % batch_size
    kind = FitKind(batch_size, remainder, optimizer._kernel, max_threads, Sources.of(*samples))
    plans: dict[FitKind, Plan] = network.plans  # the one used last is the last
    plan = plans.pop(kind, None)
    if plan is None or plan.optimizer_vectors is not state.vectors or plan.process != os.getpid():
        while len(plans) >= MAX_PLANS:
            del plans[next(iter(plans))]
        plan = Plan(network, kind, state.vectors)
    network.start(optimizer, state)  # nothing can fail from here on
    return plans.setdefault(kind, plan)


class Stepper:
    """Single steps of training, for `Model.partial_fit`: as little Python as can be.

    It serves X (n, n_inputs) in the network's dtype or uint8, and y int64 (n,) or (n, n_out) in the network's dtype, of
    the shapes that it was made for.
    """

    def __init__(self, plan: Plan, optimizer: Optimizer, samples: Samples, given: NDArray[Any]):
        """given is what y is when `samples.targets` was made of it."""
        inputs, targets, _ = samples
        plan.bind(optimizer, samples, AS_IS)
        plan.release()
        self.plan, self.rows = plan, len(inputs)
        self.asked_for: Optimizer | str = optimizer  # the argument of `partial_fit`
        self.x_shape, self.x_dtype, self.y_shape, self.y_dtype = inputs.shape, inputs.dtype, given.shape, given.dtype
        table = plan.bindings
        bind(table, SAMPLES, 0, inputs.strides[0])
        bind(table, TARGETS, 0, targets.strides[0])
        made = plan.schedules[1]
        arrays = made.code.operations, made.code.patches, made.parts[0], table, made.work.step
        self.arguments = (*arrays, np.zeros(self.rows, np.int32), plan.layout.sizes[-1])

    def takes(self, X: NDArray[Any], y: NDArray[Any]) -> bool:
        """Whether these are as it was made for."""
        return (
            X.shape == self.x_shape
            and y.shape == self.y_shape
            and X.dtype is self.x_dtype
            and y.dtype is self.y_dtype
            and X.flags.carray
            and y.flags.carray
        )

    def __call__(self, X: NDArray[Any], y: NDArray[Any]) -> tuple[int, float]:
        """One step; gives the status of `entry.train_step` and the mean loss."""
        status, total = entry.train_step(*self.arguments, X, y)
        if status == 3:
            self.plan.restore()
        return status, total / self.rows


@dataclass
class Options:
    """The arguments of `Model.fit` after they were checked; callbacks are bound to the model."""

    epochs: int
    batch_size: int
    optimizer: Optimizer
    ordered: int
    order: NDArray[np.int32] | None  # (epochs, n) where it is given
    callbacks: Sequence[Callable[[], object]]
    max_threads: int


Validate = Callable[[], tuple[float, float]]


class Fit:
    """One fit's position. The kernel alone moves it, so an exception anywhere leaves it consistent.

    `current` gives the network that the model has now, because a callback may put another in its place.
    """

    def __init__(
        self,
        current: Callable[[], Network],
        samples: Samples,
        options: Options,
        history: History,
    ):
        self.current, self.network, self.samples = current, current(), samples
        self.options, self.history = options, history
        self.steps_per_epoch = -(-len(samples.inputs) // options.batch_size)
        self.losses = np.zeros(max(1, options.epochs))
        self.plan = self._bound_plan(options.order)
        per_step = 3 * options.batch_size * sum(w.size + b.size for w, b in self._arrays())
        self.steps = max(1, int(FIRST_CALL / per_step))
        self.window = [0.0, 0]  # seconds and steps since the last finished epoch

    def _arrays(self) -> Any:
        return zip(self.network.weights, self.network.biases, strict=True)

    def _bound_plan(self, order: NDArray[np.int32] | None) -> Plan:
        o = self.options
        plan = plan_for(self.network, o.optimizer, self.samples, o.batch_size, o.max_threads)
        plan.bind(o.optimizer, self.samples, o.ordered, order)
        return plan

    @property
    def epoch(self) -> int:
        """Epochs finished."""
        return int(self.plan.run["epoch"][0])

    def run(self, validate: Validate | None, report: Callable[[int], None]) -> None:
        """The loop: train, validate, call back; however it ends, the network is left as a finished epoch left it."""
        options, history = self.options, self.history
        watched = validate is not None or bool(options.callbacks)
        try:
            while self.epoch < options.epochs:
                before = self.epoch
                self.advance(before + 1 if watched else options.epochs)
                stop = False
                if self.epoch > before and watched:
                    self.plan.take(1)
                    if validate is not None:
                        loss, value = validate()
                        history.val_loss.append(loss)
                        history.val_metric.append(value)
                    answers = [callback() for callback in options.callbacks]
                    stop = any(isinstance(answer, (bool, np.bool_)) and answer for answer in answers)
                    if options.callbacks and not stop:
                        self._follow()
                report(self.epoch - before)
                if stop:
                    break
        finally:
            self._settle(validated=validate is not None)

    def advance(self, until: int) -> None:
        """One kernel call: up to about CALL_SECONDS of steps, but not past the epoch `until`."""
        plan, run = self.plan, self.plan.run[0]
        before = run["epoch"] * self.steps_per_epoch + run["step"]
        run["epochs"] = until
        threads, part = plan.tuner.choose()
        switched = time.perf_counter()
        plan.take(threads)
        start = time.perf_counter()
        if threads != plan.tuner.last:
            plan.tuner.switch_seconds = start - switched
        plan.train(self.losses, max(1, int(self.steps * part)))
        seconds = time.perf_counter() - start
        self._record()
        if run["status"] == entry.DIVERGED:
            epoch = self.epoch + 1
            raise DivergenceError(
                f"training diverged in epoch {epoch}: its loss is {self.losses[epoch - 1]:g} or a parameter is not "
                f"finite. The model holds the parameters after {self.epoch} epochs; try a lower learning_rate.",
                epoch,
            )
        done = int(run["epoch"] * self.steps_per_epoch + run["step"] - before)
        plan.tuner.note(threads, seconds, done)
        self._clock(time.perf_counter() - switched, done)

    def _follow(self) -> None:
        """Take over what callbacks did to the model between two epochs."""
        network = self.current()
        if network.parameters is not self.network.parameters:
            raise RuntimeError("a callback called replace_head, which fit cannot follow; return True to end it first")
        if network is not self.network:  # it called freeze
            self.network, position, old = network, self.plan.run.copy(), self.plan
            order = None if self.options.order is None else self.options.order[int(position["epoch"][0]) :]
            self.plan = self._bound_plan(order)
            self.plan.run[:] = position
            old.release()
        self.plan.keep()

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

    def _settle(self, validated: bool) -> None:
        """Leave the network as it was at the end of the last finished epoch, and the history of one length."""
        self._record()
        self.plan.take(1)
        history = self.history
        history.seconds.extend([float("nan")] * (len(history.loss) - len(history.seconds)))
        if validated:
            for values in (history.val_loss, history.val_metric):
                values.extend([float("nan")] * (len(history.loss) - len(values)))
        if self.plan.run["step"][0] != 0:
            self.plan.restore()
        self.plan.release()


def sample_order(shuffle: bool | ArrayLike, epochs: int, n: int) -> tuple[int, NDArray[np.int32] | None]:
    """(kind of order, the order where it is given) of `Model.fit`'s argument."""
    if n > np.iinfo(np.int32).max:
        raise ValueError(f"X must hold at most {np.iinfo(np.int32).max} samples, got {n}")
    if isinstance(shuffle, (bool, np.bool_)):
        return (DRAWN if shuffle else AS_IS), None
    order = np.asarray(shuffle)
    if order.dtype.kind not in "iu" or order.shape != (epochs, n):
        raise ValueError(
            f"shuffle must be True, False or an integer array of shape ({epochs}, {n}), "
            f"got {order.dtype} of shape {order.shape}"
        )
    if order.size and not (order.min() >= 0 and order.max() < n):
        raise ValueError(f"shuffle must hold sample indices in [0, {n}), got {order.min()} to {order.max()}")
    return GIVEN, np.array(order, np.int32, order="C")


class ProgressBar:
    """A tqdm bar that counts epochs and shows the losses, or nothing."""

    def __init__(self, shown: bool, epochs: int, history: History):
        self.bar, self.history = None, history
        if shown:
            from tqdm.auto import tqdm

            self.bar = tqdm(total=epochs, unit="epoch")

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def __call__(self, epochs: int) -> None:
        """So many more epochs have ended."""
        if self.bar is None or not epochs:
            return
        history = self.history
        shown = {"loss": history.loss[-1]}
        if history.val_loss:
            shown |= {"val_loss": history.val_loss[-1], f"val_{history.metric}": history.val_metric[-1]}
        self.bar.set_postfix({name: f"{value:.4f}" for name, value in shown.items()}, refresh=False)
        self.bar.update(epochs)
