"""A fit of a population: rounds in which all members that go on reach an epoch, and what follows each round."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import calls
from ..kernels.formulas.update_rules import OPTIMIZERS, POSITIONS
from ..kernels.programs import records, strategy
from ..kernels.programs.memory import STATE, Layout, aligned_zeros
from ..kernels.programs.sources import Sources
from ..kernels.programs.training_programs import Kind
from ..network.input_loading import Loading
from ..network.network import Programs
from ..reports.population_history import DIVERGED, FINISHED, STOPPED, PopulationHistory
from ..reports.progress import PopulationProgress
from ..settings import learning_rates, optimizers
from ..settings.each import Each
from ..settings.layers import Architecture
from ..settings.learning_rates import LearningRate
from ..settings.stopping import Halving, Patience
from .lanes import Lanes
from .member_arguments import PopulationRequest
from .member_passes import MemberPasses
from .members import Engine, Members, MemberTask
from .one_by_one import OneByOne
from .options import GIVEN

RATES_AT_A_TIME = 2**22  # learning rates of all members that are computed for a round


@dataclass
class Bucket:
    """The members of a fit that are of one kind, and the engine that trains them, while they train."""

    task: MemberTask
    schedule: LearningRate | None  # of the learning rate, where it changes or weight decay does
    weight_decay: LearningRate | None  # where it changes
    engine: Engine | None = None
    rates: NDArray[np.float64] | None = None  # of the schedule, until an epoch
    rates_until: int = 0

    @property
    def which(self) -> NDArray[np.int64]:
        """The numbers of the members."""
        return self.task.which


class PopulationFit:
    """One fit of a population. What it has done can be read at any time: the members' memory, and `history`."""

    def __init__(
        self,
        architecture: Architecture,
        programs: Programs,
        members: Members,
        request: PopulationRequest,
        number: int,
        report: PopulationProgress,
    ):
        """`number` is what the members' states call the optimizers of this fit."""
        self.members, self.request, self.report = members, request, report
        layout, n = programs.layout, len(members)
        self.epochs = request.epochs
        self.used: Any = None  # what else must live as long as the engines
        self.runs = runs_of(request)
        most = int(request.epochs.max(initial=0))
        self.losses, self.val_losses = np.zeros((n, most)), np.full((n, most if request.held else 0), np.nan)
        self.stopped = np.zeros(n, np.bool_)
        self.best, self.best_epoch = np.full(n, np.nan), np.zeros(n, np.int64)
        self.settings = request.values.settings(layout, request.optimizers, architecture.loss)
        self.by_epoch = request.values.changes or request.optimizers.changes  # whether settings change
        loading = Loading.of(architecture, layout, members.affines)
        array, rounded = request.data.inputs.array, loading
        if most > 1:
            array, rounded = loading.rounded(layout, array)
        self.samples = replace(request.data, inputs=request.data.inputs._replace(array=array)).samples()
        self.buckets = _buckets(architecture, programs, rounded, self, number)
        if request.held is not None:
            self.held, self.totals = request.held.data.samples(), request.held.totals
            self.passes = MemberPasses(programs, loading, self.settings, members)
        self.stopping = request.stopping
        self.waited = np.zeros(n, np.int64)
        self.best_vectors: NDArray[Any] | None = None
        self.end = None if request.max_time is None else time.perf_counter() + request.max_time

    # ---- what is known ----

    @property
    def history(self) -> PopulationHistory:
        """What has been recorded so far."""
        done = self.runs["epoch"]
        column = np.arange(self.losses.shape[1])
        loss = np.where(column < done[:, None], self.losses, np.nan)
        val_loss = self.val_losses.copy() if self.request.held else np.broadcast_to(np.nan, loss.shape)
        status = np.where(done >= self.epochs, FINISHED, STOPPED)
        status[self.runs["status"] == records.DIVERGED] = DIVERGED
        best_epoch = self.best_epoch.copy() if isinstance(self.stopping, Patience) else None
        return PopulationHistory(loss, val_loss, done.copy(), status, best_epoch)

    @property
    def live(self) -> NDArray[np.bool_]:
        """Which members go on."""
        return (self.runs["epoch"] < self.epochs) & (self.runs["status"] == records.RUNNING) & ~self.stopped

    # ---- the loop ----

    def run(self, closes: bool = True) -> None:
        """Train to the end. Engines that do not close then wait for more epochs, unless there is an error."""
        silent = self.request.values.rules.random & self.request.values.silent(len(self.members))
        noise = self.members.states["noise"][silent]
        try:
            done = 0
            while (live := self.live).any():
                goal = self._next_round(done, live)
                before = self.runs["epoch"].copy()
                self._reach(goal, closes)
                self._after_round(np.flatnonzero(self.runs["epoch"] > before))
                done = goal
                self._tell(goal)
                if self.end is not None and time.perf_counter() >= self.end:
                    break
        except BaseException:
            closes = True
            raise
        finally:
            self.members.states["noise"][silent] = noise  # as a fit without these rules leaves it
            if closes:
                self.close()
        some, vectors = self.best_so_far
        self.members.vectors[some] = vectors

    @property
    def best_so_far(self) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """(which members have had a better epoch than their last, its vectors), where a `Patience` keeps them."""
        if self.best_vectors is None:
            return np.zeros(0, np.int64), self.members.vectors[:0]
        some = (self.best_epoch > 0) & (self.best_epoch < self.runs["epoch"])
        some &= self.runs["status"] != records.DIVERGED
        return np.flatnonzero(some), self.best_vectors[some]

    def _tell(self, epoch: int) -> None:
        """Say what a round has come to."""
        if self.report.lines:
            found = {"loss": self.losses[:, epoch - 1][self.runs["epoch"] >= epoch]}
            if self.request.held is not None:
                found["val_loss"] = self.val_losses[:, epoch - 1]
            least = {name: float(np.nanmin(values)) for name, values in found.items() if np.isfinite(values).any()}
            self.report.round(epoch, int(self.live.sum()), least)

    def _next_round(self, done: int, live: NDArray[np.bool_]) -> int:
        """The epoch that live members train to, all of which have done as many."""
        last = int(self.epochs[live].max())
        looks = self.request.held is not None or isinstance(self.stopping, Patience) or self.end is not None
        if looks or self.by_epoch:
            return done + 1
        if isinstance(self.stopping, Halving):
            last = min(last, self.stopping.next_rung(done))
        return min([last, *(done + self._epochs_of_rates(bucket) for bucket in self.buckets if bucket.schedule)])

    def _epochs_of_rates(self, bucket: Bucket) -> int:
        """For how many epochs learning rates are computed at a time."""
        per_epoch = self._positions(bucket.which, bucket.task.kind.rate_per)
        return max(1, RATES_AT_A_TIME // (int(per_epoch.max(initial=1)) * max(1, len(per_epoch))))

    def _positions(self, which: NDArray[np.int64], per: str) -> NDArray[np.int64]:
        """How many learning rates an epoch of each of some members takes."""
        if per == "epoch":
            return np.ones(len(which), np.int64)
        runs = self.runs[which]
        return -(-runs["n_samples"] // runs["batch_size"])

    def _reach(self, goal: int, closes: bool) -> None:
        """Train all live members to an epoch, or to their last one before it; engines close if nothing follows."""
        until, live = np.minimum(self.epochs, goal), self.live
        if self.request.values.changes:
            self.request.values.write_dropout(self.settings, np.flatnonzero(live), self.request.first + goal - 1)
        for bucket in self.buckets:
            which = self._pending(bucket.which[live[bucket.which]], until)
            if not len(which):
                continue
            if bucket.engine is None:
                bucket.engine = engine_for(bucket.task, min(self.request.threads, len(which)))
            self._write_weight_decay(bucket, which)
            self._bind_rates(bucket, which, goal)
            while len(which):
                bucket.engine.advance(which, until[which], calls.CALL_SECONDS)
                self.report.epochs(lambda: int(self.runs["epoch"].sum()))
                which = self._pending(which, until)
            if closes and not (self.epochs[bucket.which] > goal).any():
                bucket.engine.close()
                bucket.engine = None

    def _pending(self, which: NDArray[np.int64], until: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which of some members have not reached their epoch, and still train."""
        runs = self.runs
        return which[(runs["epoch"][which] < until[which]) & (runs["status"][which] == records.RUNNING)]

    def _bind_rates(self, bucket: Bucket, which: NDArray[np.int64], goal: int) -> None:
        """Compute the learning rates that members take until an epoch, or further; those of a user's function not."""
        if bucket.schedule is None or goal <= bucket.rates_until:
            return
        further = goal
        if isinstance(bucket.schedule, learning_rates.NAMED):
            done = int(self.runs["epoch"][which].min())
            further = max(goal, min(int(self.epochs[which].max()), done + self._epochs_of_rates(bucket)))
        try:
            self._bind_rates_until(bucket, which, further)
        except ValueError:
            if further == goal:
                raise
            self._bind_rates_until(bucket, which, goal)  # the wrong rate is that of an epoch which may never come

    def _bind_rates_until(self, bucket: Bucket, which: NDArray[np.int64], goal: int) -> None:
        assert bucket.schedule is not None
        per, done = bucket.task.kind.rate_per, self.runs["epoch"][which]
        positions = self._done(bucket, which, per)
        ends = positions + (np.minimum(self.epochs[which], goal) - done) * self._positions(which, per)
        first = int(positions.min())
        firsts, places = np.unique(self._numbers(bucket, "learning_rate")[which], return_inverse=True)
        table = bucket.schedule._rates_of_members(firsts, "learning_rate", per, first, int(ends.max()) - first)
        self.samples.places["rates"][which] = table.ctypes.data + table.strides[0] * places - 8 * first
        bucket.rates, bucket.rates_until = table, goal

    def _write_weight_decay(self, bucket: Bucket, which: NDArray[np.int64]) -> None:
        """Write the weight decay of the epoch that is each member's next one, where it changes."""
        if bucket.weight_decay is None:
            return
        place = OPTIMIZERS[bucket.task.kind.optimizer].settings.index("weight_decay")
        positions, firsts = self._done(bucket, which, "epoch"), self._numbers(bucket, "weight_decay")[which]
        for position in np.unique(positions).tolist():
            some = positions == position
            rates = bucket.weight_decay._rates_of_members(firsts[some], "weight_decay", "epoch", position, 1)
            self.settings["optimizer"][which[some], place] = rates[:, 0]

    def _done(self, bucket: Bucket, which: NDArray[np.int64], per: str) -> NDArray[np.int64]:
        """How many steps or epochs the optimizers of members have done."""
        states, number = self.members.states[which], bucket.task.start["optimizer"][0]
        return np.where(states["optimizer"] == number, states["numbers"][:, POSITIONS[per]], 0).astype(np.int64)

    def _numbers(self, bucket: Bucket, name: str) -> NDArray[np.float64]:
        """A number of the optimizers, of which those of the bucket's members mean something."""
        return self.request.optimizers.column(int(self.request.optimizers.which[bucket.which[0]]), name)

    def close(self) -> None:
        """Close the engines."""
        for bucket in self.buckets:
            engine, bucket.engine = bucket.engine, None
            if engine is not None:
                engine.close()

    # ---- what follows a round ----

    def _after_round(self, which: NDArray[np.int64]) -> None:
        """Score the members that ended an epoch in the round, and let some of them stop."""
        epochs = self.runs["epoch"][which]
        if self.request.held is not None:
            some = self.held.part(which)
            found = self.passes.losses_on(which, some, self.totals[which], self.request.threads)
            self.val_losses[which, epochs - 1] = found
        if self.stopping is None:
            return
        monitor = watched(self.stopping, self.request.held is not None)
        values = (self.losses if monitor == "loss" else self.val_losses)[which, epochs - 1]
        if isinstance(self.stopping, Patience):
            self._be_patient(self.stopping, which, epochs, values)
        else:
            self._halve(self.stopping, which, epochs, values)

    def _be_patient(
        self, patience: Patience, which: NDArray[np.int64], epochs: NDArray[np.int64], values: NDArray[np.float64]
    ) -> None:
        """Note which members improve, and stop those that have not for some epochs."""
        better = ~(values >= self.best[which] - patience.min_delta) & ~np.isnan(values)
        kept = better | (values == self.best[which]) if patience.keep_last else better
        some = which[kept]
        if patience.restore_best:
            if self.best_vectors is None:
                self.best_vectors = self.members.vectors.copy()
            self.best_vectors[some] = self.members.vectors[some]
        self.best[some], self.best_epoch[some] = values[kept], epochs[kept]
        self.waited[which] = np.where(better, 0, self.waited[which] + 1)
        most = patience.epochs.values[which] if isinstance(patience.epochs, Each) else patience.epochs
        self.stopped[which] = self.waited[which] >= most

    def _halve(
        self, halving: Halving, which: NDArray[np.int64], epochs: NDArray[np.int64], values: NDArray[np.float64]
    ) -> None:
        """At a rung, stop all but the best of the members that would go on."""
        rung = int(epochs.max(initial=0))
        if halving.next_rung(rung - 1) != rung:
            return
        live = self.live[which] & (epochs == rung)
        self.stopped[losers(halving, which[live], values[live])] = True


def losers(halving: Halving, which: NDArray[np.int64], scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """The members among `which` (m,) that stop at a rung, by their losses (m,)."""
    stay = -(-len(which) // halving.eta)
    order = np.argsort(np.where(np.isnan(scores), np.inf, scores), kind="stable")
    return which[order[stay:]]


def watched(stopping: Patience | Halving, held: bool) -> str:
    """The loss that members are compared by."""
    return stopping.monitor or ("val_loss" if held else "loss")


def runs_of(request: PopulationRequest) -> NDArray[Any]:
    """The records RUN of all members, before their first step."""
    runs = np.zeros(len(request.epochs), records.RUN)
    runs["n_samples"], runs["batch_size"], runs["ordered"] = request.data.counts, request.batch_sizes, request.ordered
    runs["patience"], runs["best"], runs["loss_scale"] = -1, np.inf, 1.0
    return runs


def _in_lanes(layout: Layout, batch_size: int, sources: Sources) -> bool:
    """Whether lanes hold the networks that train such batches of samples; it does not depend on their number."""
    return sources.x.operation != "gather_sparse" and strategy.lanes_pay(layout, batch_size)


def engine_for(task: MemberTask, threads: int) -> Engine:
    """What trains the members of a task."""
    in_lanes = _in_lanes(task.layout, task.kind.batch_size, task.kind.sources)
    return Lanes(task, threads) if in_lanes else OneByOne(task, threads)


def _buckets(
    architecture: Architecture, programs: Programs, loading: Loading, fit: PopulationFit, number: int
) -> list[Bucket]:
    """The members of a fit by their kinds."""
    request, samples = fit.request, fit.samples
    limited = ~np.isnan(np.broadcast_to(request.values.max_norm, len(fit.members)))
    last = request.data.counts % request.batch_sizes  # lanes hold members of any number of rows side by side
    for batch_size in np.unique(request.batch_sizes).tolist():
        if _in_lanes(programs.layout, batch_size, samples.sources):
            last[request.batch_sizes == batch_size] = 0
    keys = np.stack([request.batch_sizes, last, request.optimizers.which, limited], axis=1)
    if (keys == keys[0]).all():  # a millisecond less for a thousand members
        found, places = keys[:1], np.zeros(len(keys), np.int64)
    else:
        found, places = np.unique(keys, axis=0, return_inverse=True)
    order = np.argsort(places.ravel(), kind="stable")
    edges = np.searchsorted(places.ravel()[order], np.arange(len(found) + 1))
    buckets = []
    for i, (batch_size, last_batch, kind, limit) in enumerate(found.tolist()):
        optimizer = request.optimizers.kinds[kind]
        rule, per = OPTIMIZERS[optimizer._kernel], optimizers.per_of(optimizer)
        start = aligned_zeros(STATE.itemsize, STATE)
        start["optimizer"], start["numbers"][0, : len(rule.state)] = number, list(rule.state.values())
        rules = request.values.rules._replace(
            max_norm=bool(limit), clip_value=optimizer.clip_value is not None, clip_norm=optimizer.clip_norm is not None
        )
        of_kind = Kind(
            batch_size=batch_size,
            optimizer=optimizer._kernel,
            sources=samples.sources,
            last_batch=last_batch,
            l2=bool(np.any(request.values.l2)),
            l1=bool(np.any(request.values.l1)),
            rules=rules,
            rate_per=per,
            summed=request.summed,
            **optimizer._kinds_of_tensors,
        )
        task = MemberTask(
            which=order[edges[i] : edges[i + 1]],
            architecture=architecture,
            programs=programs,
            loading=loading,
            kind=of_kind,
            members=fit.members,
            settings=fit.settings,
            runs=fit.runs,
            losses=fit.losses,
            samples=samples,
            start=start,
            n_vectors=len(rule.vectors),
            order=request.order if request.ordered == GIVEN else None,
        )
        schedule = learning_rates.schedule_of(optimizer.learning_rate) if per else None
        buckets.append(Bucket(task, schedule, optimizers.decay_schedule(optimizer)))
    return buckets
