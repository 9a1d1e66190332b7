"""A fit of a population in chunks of members, which engines train elsewhere and checkpoints keep."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..checks.scalars import shown
from ..files import model_file, population_file, storage
from ..files.population_file import Contents
from ..kernels.programs import strategy
from ..network.network import programs_of, without_parameter
from ..reports.population_history import DIVERGED, FINISHED, STOPPED, PopulationHistory
from ..reports.progress import PopulationProgress
from ..settings.layers import Architecture
from ..settings.stopping import Halving, Patience
from ..training.member_arguments import PopulationRequest
from ..training.member_data import MemberData
from ..training.members import Members
from ..training.rounds import PopulationFit, losers, watched
from .checkpoints import Checkpoint, described
from .cuts import Cuts, Span
from .engines import Engine, Here, Run, node_of


class Whole(NamedTuple):
    """What all chunks of a fit have in common, which each machine gets once."""

    architecture: Architecture
    request: PopulationRequest
    number: int  # what the members' states call the optimizers of the fit


class Part(NamedTuple):
    """Which part of a fit a task does: members, from an epoch to another one at most."""

    which: NDArray[np.int64]
    first: int
    last: int
    max_time: float | None
    threads: int


class Trained(NamedTuple):
    """What a task gives back."""

    members: Members
    history: PopulationHistory
    is_whole: bool  # whether `max_time` took nothing from it
    seconds: float


def trained(whole: Whole, part: Part, members: Members) -> Trained:
    """A task: the members of a part, after their epochs."""
    began = time.perf_counter()
    architecture, request = whole.architecture, whole.request.part(part.which, part.first, part.last)
    request = request._replace(max_time=part.max_time, threads=min(part.threads, len(members)))
    members = members.take(np.arange(len(members)))  # in memory as the kernels need it
    programs = programs_of(without_parameter(architecture))
    silent = PopulationProgress(bar=False, lines=False, epochs=0)
    fit = PopulationFit(architecture, programs, members, request, whole.number, silent)
    fit.run()
    return Trained(members, fit.history, not fit.live.any(), time.perf_counter() - began)


class ChunkedFit:
    """One fit of a population, in chunks. It has of `PopulationFit` what a population uses."""

    def __init__(
        self, contents: Contents, request: PopulationRequest, report: PopulationProgress, engine: Any, checkpoint: Any
    ):
        """engine: an `Engine`, or None for this process. checkpoint: the folder, or None."""
        self.contents, self.members, self.request, self.report = contents, contents.members, request, report
        self.engine: Engine = Here() if engine is None else engine
        self.threads = request.threads if engine is None else 1
        self.checkpoint: Checkpoint | None = None
        if checkpoint is not None:
            self.checkpoint = Checkpoint(
                checkpoint, "Population.fit", node_of(self.engine), _settings(contents, request)
            )
        number = self.members.train_by(request.optimizers, request.optimizers.n_vectors)
        self.whole = Whole(contents.architecture, _as_sent(request), number)
        n, most = len(self.members), int(request.epochs.max(initial=0))
        self.losses, self.val_losses = np.full((n, most), np.nan), np.full((n, most), np.nan)
        self.epochs, self.best_epoch = np.zeros(n, np.int64), np.zeros(n, np.int64)
        self.diverged, self.stopped = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
        self.sent: Any = None  # what stands for `whole` on the engine
        self.end = None if request.max_time is None else time.perf_counter() + request.max_time

    @property
    def history(self) -> PopulationHistory:
        """What has been recorded so far."""
        status = np.where(self.epochs >= self.request.epochs, FINISHED, STOPPED)
        status[self.diverged] = DIVERGED
        best_epoch = self.best_epoch.copy() if isinstance(self.request.stopping, Patience) else None
        return PopulationHistory(self.losses.copy(), self.val_losses.copy(), self.epochs.copy(), status, best_epoch)

    @property
    def live(self) -> NDArray[np.bool_]:
        """Which members go on."""
        return (self.epochs < self.request.epochs) & ~self.diverged & ~self.stopped

    @property
    def best_so_far(self) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Chunks that have ended are as `Patience` leaves them: nobody has another epoch that is better."""
        return np.zeros(0, np.int64), self.members.vectors[:0]

    def run(self) -> None:
        """Train to the end. Between the rungs of `Halving` all members wait for each other."""
        stopping, done, number = self.request.stopping, 0, 0
        with Run(self.engine, trained, "the fit of") as run:
            while (live := self.live).any() and not self._is_over():
                last = int(self.request.epochs[live].max())
                if isinstance(stopping, Halving):
                    last = min(last, stopping.next_rung(done))
                self._train(run, np.flatnonzero(live), number, (done, last))
                if isinstance(stopping, Halving) and stopping.next_rung(last - 1) == last:
                    some = np.flatnonzero(self.live & (self.epochs == last))
                    held = self.request.held is not None
                    values = self.losses if watched(stopping, held) == "loss" else self.val_losses
                    self.stopped[losers(stopping, some, values[some, last - 1])] = True
                done, number = last, number + 1

    def _is_over(self) -> bool:
        """Whether the time is over."""
        return self.end is not None and time.perf_counter() >= self.end

    def _train(self, run: Run, which: NDArray[np.int64], number: int, between: tuple[int, int]) -> None:
        """Train members from an epoch to another one, as far as a checkpoint does not hold them."""
        if self.checkpoint is not None:
            for description, tensors in self.checkpoint.chunks(number):
                which = np.setdiff1d(which, self._restore(description, tensors, between))
        if not len(which):
            return
        request, kinds = self.request, (which, self.request.optimizers.which[which], self.request.batch_sizes[which])
        which = which[np.lexsort(kinds)]  # members of one kind train side by side
        work = np.maximum(
            1.0, (np.minimum(request.epochs, between[1])[which] - between[0]) * request.data.counts[which]
        )
        cuts = Cuts(work, max(1.0, self.engine.chunk_seconds), self.engine.n_workers, self._least(which))
        parts = dict[str, Span]()
        for name, result in run.results(self._tasks(run, cuts, parts, which, between)):
            part = parts.pop(name)
            cuts.note(part, result.seconds)
            self._merge(
                which[part.items], between[0], result.members, result.history, result.members.states["optimizer"]
            )
            if self.checkpoint is not None and result.is_whole:
                self.checkpoint.add(number, *self._kept(which[part.items], result))
            self._tell()

    def _least(self, which: NDArray[np.int64]) -> int:
        """How many members train at once on a thread."""
        layout = programs_of(without_parameter(self.whole.architecture)).layout
        in_lanes = strategy.lanes_pay(layout, int(self.request.batch_sizes[which].max()))
        return layout.group.networks * self.threads if in_lanes else self.threads

    def _tasks(
        self, run: Run, cuts: Cuts, parts: dict[str, Span], which: NDArray[np.int64], between: tuple[int, int]
    ) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """(name, arguments) of the tasks, whose places in `which` are noted in `parts`, until the time is over."""
        self.sent = run.put(self.whole) if self.sent is None else self.sent
        while not self._is_over() and (part := cuts.next()) is not None:
            some = which[part.items]
            name = f"members {shown(some.tolist())}"
            parts[name] = part
            left = None if self.end is None else max(1e-9, self.end - time.perf_counter())
            yield name, (self.sent, Part(some, *between, left, self.threads), self.members.take(some))

    def _merge(
        self,
        which: NDArray[np.int64],
        first: int,
        members: Members,
        history: PopulationHistory,
        numbers: NDArray[Any],
    ) -> None:
        """Take over what became of members since an epoch. `numbers` are those that states have of optimizers."""
        mine = self.members
        mine.vectors[which], mine.states[which] = members.vectors, members.states
        mine.states["optimizer"][which] = numbers
        if mine.optimizer_vectors is not None and members.optimizer_vectors is not None:
            mine.optimizer_vectors[which, : members.optimizer_vectors.shape[1]] = members.optimizer_vectors
        columns = slice(first, first + history.loss.shape[1])
        self.losses[which, columns], self.val_losses[which, columns] = history.loss, history.val_loss
        self.epochs[which], self.best_epoch[which] = first + history.epochs, history.best_epoch
        self.diverged[which], self.stopped[which] = history.status == DIVERGED, history.status == STOPPED

    def _tell(self) -> None:
        """Say what the chunks have come to that have ended."""
        self.report.epochs(lambda: int(self.epochs.sum()))
        if self.report.lines:
            self.report.chunk(int((self.epochs > 0).sum()), len(self.members), self.history.scores)

    # ---- checkpoints ----

    def _kept(self, which: NDArray[np.int64], result: Trained) -> tuple[dict[str, Any], storage.Tensors]:
        """(description, tensors) of a chunk that has ended: a population's, and what its fit recorded."""
        seeds, history = self.contents.seeds, result.history
        seeds = None if seeds is None else [seeds[i] for i in which.tolist()]
        split_seeds = self.contents.split_seeds[which]
        contents = self.contents._replace(members=result.members, split_seeds=split_seeds, seeds=seeds)
        description, tensors = population_file.written(contents, optimizer=True)
        rest = {name: getattr(history, name).tolist() for name in ("epochs", "status", "best_epoch")}
        description["fit"] = {"members": which.tolist(), **rest}
        for name in ("loss", "val_loss"):
            bits = np.ascontiguousarray(getattr(history, name)).view(np.uint64)
            tensors[population_file.OF_FIT + name] = population_file.halves(bits)
        return description, tensors

    def _restore(
        self, description: dict[str, Any], tensors: storage.Tensors, between: tuple[int, int]
    ) -> NDArray[np.int64]:
        """Take over what a checkpoint holds of a chunk; gives its members."""
        custom = model_file.by_name(model_file.functions_of(self.contents.architecture))
        members = population_file.read(description, tensors, custom).members
        recorded = description["fit"]
        which, epochs = np.array(recorded["members"], np.int64), np.array(recorded["epochs"], np.int64)
        loss, val_loss = (
            population_file.whole(name, tensors[population_file.OF_FIT + name]).view(np.float64)
            for name in ("loss", "val_loss")
        )
        status, best_epoch = np.array(recorded["status"]), np.array(recorded["best_epoch"], np.int64)
        history = PopulationHistory(loss, val_loss, epochs, status, best_epoch)
        mine = members.trained & members.latest.same(self.request.optimizers.take(which))
        numbers = np.where(mine, self.whole.number, self.members.states["optimizer"][which])
        self._merge(which, between[0], members, history, numbers)
        self._tell()
        return which


def _as_sent(request: PopulationRequest) -> PopulationRequest:
    """A request without what no task reads."""
    held = request.held
    if held is not None:
        held = held._replace(data=replace(held.data, classes=None))
    return request._replace(data=replace(request.data, classes=None), held=held, columns=None)


def _settings(contents: Contents, request: PopulationRequest) -> dict[str, Any]:
    """What a fit depends on, by the names of arguments; raises where no file can tell whether two are equal."""
    members, values, held = contents.members, request.values, request.held
    goes_on = members.trained & members.latest.same(request.optimizers)
    vectors = members.optimizer_vectors
    return {
        "architecture": model_file.described(contents.architecture),
        "parameters": (members.vectors, members.affines),
        "seeds": (members.states["random"], members.states["noise"], contents.split_seeds),
        "the optimizers' state": (
            *(goes_on, members.states["numbers"][goes_on]),
            None if vectors is None or not goes_on.any() else vectors[goes_on],
        ),
        **_described_data(request.data),
        "validation_data": None if held is None else (_described_data(held.data), held.totals),
        "epochs": request.epochs,
        "batch_size": request.batch_sizes,
        "optimizer": (
            *([described("optimizer", kind) for kind in request.optimizers.kinds], request.optimizers.which),
            request.optimizers.numbers,
        ),
        **{name: value for name, value in vars(values).items() if name != "dropout"},
        "dropout": [described("dropout", each) for each in values.dropout],
        "shuffle": (request.ordered, request.order),
        "stopping": described("stopping", request.stopping),
    }


def _described_data(data: MemberData) -> dict[str, Any]:
    """The samples of a fit, by the names of arguments."""
    return {
        "X": tuple(data.inputs),
        "y": None if data.targets is None else tuple(data.targets),
        "sample_weight or class_weight": None if data.weights is None else tuple(data.weights),
        "rows or validation_fraction": None if data.numbers is None else tuple(data.numbers),
    }
