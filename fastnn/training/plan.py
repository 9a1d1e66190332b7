"""Plans: the programs and buffers of a kind of fit, and what is bound to them."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..checks import calls
from ..data.samples import Samples
from ..kernels.formulas.loss_functions import LOSSES
from ..kernels.formulas.update_rules import OPTIMIZERS, POSITIONS
from ..kernels.programs import program, records, strategy, training_programs
from ..kernels.programs.memory import STATE, Layout, Trainable, Workspace, aligned_zeros
from ..kernels.programs.program import (
    AFFINE,
    ORDER,
    PARAMETERS,
    RATES,
    REMAINING,
    SAMPLES,
    SETTINGS,
    TARGETS,
    WEIGHTS,
    Code,
    bind,
    bindings,
)
from ..kernels.programs.sources import Sources
from ..kernels.running import entry, pool
from ..kernels.running.python_api import address_of
from ..kernels.vector.barriers import MAILBOX
from ..kernels.vector.library import library
from ..kernels.vector.matrix import Symbol
from ..network.input_loading import Loading
from ..network.network import Network
from ..network.threads import forks
from ..settings.learning_rates import LearningRate
from ..settings.optimizers import Optimizer
from .options import AS_IS, DRAWN, NO_PENALTY, Options
from .thread_tuner import ThreadTuner

MAX_ROWS = 2**31 - 1  # the most samples: their numbers are int32
# The fields of RUN, as most fits begin.
_FRESH_RUN = dict.fromkeys(records.RUN.names or (), 0) | {"patience": -1, "best": np.inf}
NOBODY = np.zeros(1, MAILBOX)  # the mailbox of a call without helping threads


class ThreadPrograms:
    """The programs that train with a given number of threads, and the buffers whose addresses they contain."""

    def __init__(self, plan: Plan, threads: int):
        layout, kind = plan.layout, plan.kind
        self.threads, self.library = threads, library(layout.dtype)
        self.layout = strategy.sharded(layout, kind.batch_size, threads)
        buffers, live = plan.buffers, plan.live
        if self.layout is not layout:
            parameters, vectors = (aligned_zeros(n * self.layout.n_bytes, layout.dtype) for n in (1, plan.n_vectors))
            buffers = buffers._replace(parameters=parameters, vectors=vectors)
            live = buffers.trainable(self.layout)
        self.buffers = buffers
        needed = kind.any_rows or training_programs.needs_gradient(layout, kind.batch_size, kind.optimizer)
        self.gradient = aligned_zeros(self.layout.n_bytes if needed else 0, layout.dtype)
        rows = layout.block_rows if kind.any_rows else min(kind.batch_size, layout.block_rows)
        self.work = Workspace(self.layout, rows, threads, kind.rules.dropped)
        self.training = training_programs.Training(kind, plan.scale, self.work, live, plan.kept, self.gradient)
        self._write()

    def _write(self) -> None:
        self.of_workers = self.training.programs(self.threads)  # print(programs.of_workers[worker][i]) shows one
        self.code = Code((program for programs in self.of_workers for program in programs), self.library)
        self.pick = self.training.pick()

    def prepare(self, *batches: int) -> None:
        """Get ready for batches of so many rows, which are those that it was made for."""

    def hand_over(self, other: ThreadPrograms, within_a_batch: bool) -> None:
        """Let another go on from here."""
        here, there = self.layout.n_bytes // self.layout.itemsize, other.layout.n_bytes // other.layout.itemsize
        pairs = []
        if other.layout is not self.layout:
            pairs = [(self.buffers.parameters, other.buffers.parameters), (self.buffers.vectors, other.buffers.vectors)]
        if within_a_batch:
            pairs.append((self.gradient, other.gradient))
            other.work.take_step(self.work)
        for array, out in pairs:
            for vector, place in zip(array.reshape(-1, here), out.reshape(-1, there), strict=True):
                self.layout.convert(vector, other.layout, place)

    def arguments(self, plan: Plan, mailbox: NDArray[Any]) -> tuple[Any, ...]:
        """What every worker's function takes."""
        code = self.code
        return code.operations, code.patches, code.parts.reshape(self.threads, -1), plan.bindings, mailbox


class AnyRows(ThreadPrograms):
    """Programs for batches of any number of rows: those of a few heights, written when needed.

    A batch whose number of rows is a height, or the kind's batch_size, has a program of its own for each worker. Any
    other is the sum of several heights: the gradients of its blocks are added up before the update.
    """

    def _write(self) -> None:
        self.most = self.layout.block_rows
        heights, usual = strategy.heights(self.most), self.training.kind.batch_size
        whole = strategy.heights(self.most, every=self.layout.whole_batch)
        batches = sorted({*whole, usual} if 0 < usual <= self.most else whole)
        self.pick = training_programs.pick(batches, self.most)
        self.rows, self.n_batches = (*batches, *heights), len(batches)
        self.in_blocks = self._for_batches_of(self.most + 1)
        self.workers = [self.work.worker(index, self.threads) for index in range(self.threads)]
        self.around = [Code(self.in_blocks.around(worker), self.library) for worker in self.workers]
        self.blocks: list[list[Code | None]] = [[None] * len(self.rows) for _ in self.workers]
        self.code = self._joined(self.blocks)

    def _for_batches_of(self, rows: int) -> training_programs.Training:
        return replace(self.training, kind=self.training.kind._replace(batch_size=rows))

    def _joined(self, blocks: list[list[Code | None]]) -> Code:
        """All of them, worker by worker."""
        return Code.joined(code for around, its in zip(self.around, blocks, strict=True) for code in (around, *its))

    def prepare(self, *batches: int) -> None:
        """Write the programs for batches of so many rows that are not there yet."""
        due = set[int]()
        for n in batches:
            whole = int(self.pick[training_programs.BATCH, min(n, self.pick.shape[1] - 1)]) - training_programs.BLOCKS
            due.update([whole] if whole >= 0 else (self.n_batches + i for i in strategy.numbers(n, self.most)))
        missing = [i for i in due if self.blocks[-1][i] is None]
        if not missing:
            return
        blocks = [its.copy() for its in self.blocks]
        for i in missing:
            rows = self.rows[i]
            training = self._for_batches_of(rows) if i < self.n_batches else self.in_blocks
            how = strategy.choose(self.layout, self.training.kind.batch_size or rows)
            for worker, its in zip(self.workers, blocks, strict=True):
                its[i] = Code([training.block(how, rows, worker)], self.library)
        self.code = self._joined(blocks)
        self.blocks = blocks  # at last: an exception before leaves nothing out of the code


class Buffers(NamedTuple):
    """What training changes: the parameters, the optimizer's vectors, and one record of STATE."""

    parameters: NDArray[Any]
    vectors: NDArray[Any]
    state: NDArray[Any]

    def trainable(self, layout: Layout) -> Trainable:
        """As programs know it."""
        n_vectors = self.vectors.nbytes // layout.n_bytes
        parameters, vectors, state = (array.ctypes.data for array in (self.parameters, self.vectors, self.state))
        return Trainable.at(layout, parameters, vectors, n_vectors, state)


class Plan:
    """The programs and buffers of a kind of fit, for one thread and for several. A further fit of the kind binds them.

    Training changes `live`: parameters, the optimizer's vectors, and STATE. What the last finished epoch left is
    `kept`, and that is the network's own memory, to which the compiled code copies when an epoch ends: so an exception
    at any place leaves the network whole. A plan `in_place` has them the other way round, for single steps: the
    network's memory is live, and what it was before the step is kept, for the compiled code to go back to.

    A plan outlives the fit, and may serve another network of the layout next, but holds no reference to a network or a
    user's data.
    """

    def __init__(self, layout: Layout, scale: float | None, kind: training_programs.Kind):
        """The scale of the inputs is None where they are shifted."""
        self.layout, self.scale, self.kind = layout, scale, kind
        self.n_vectors = len(OPTIMIZERS[kind.optimizer].vectors)
        parameters, vectors = (aligned_zeros(n * layout.n_bytes, layout.dtype) for n in (1, self.n_vectors))
        self.buffers = Buffers(parameters, vectors, aligned_zeros(STATE.itemsize, STATE))
        self.of_network: Buffers | None = None  # while a fit lasts
        its_parameters, its_vectors, its_state = map(Symbol, ("parameters", "vectors", "state"))
        pair = (
            self.buffers.trainable(layout),
            Trainable.at(layout, its_parameters, its_vectors, self.n_vectors, its_state),
        )
        self.live, self.kept = reversed(pair) if kind.in_place else pair
        self.forks = forks()
        self.settings = aligned_zeros(layout.settings_dtype.itemsize, layout.settings_dtype)
        self.optimizer_settings = self.settings["optimizer"][0]  # a view
        self.unbound = bindings()  # the bindings between two fits
        bind(self.unbound, SETTINGS, self.settings.ctypes.data)
        self.bindings = self.unbound.copy()
        self.network_addresses = self.bindings["address"][PARAMETERS : program.STATE + 1]  # a view
        self.rates = np.empty(0)  # a rate for each step or epoch of a call
        self.order = np.empty(0, np.int32)  # drawn
        self.run = np.zeros(1, records.RUN)  # where the bound fit is
        self.threads = strategy.max_threads(self.layout, kind.batch_size, kind.max_threads)
        make = AnyRows if kind.any_rows else ThreadPrograms
        self.by_threads: dict[int, ThreadPrograms] = {threads: make(self, threads) for threads in {1, self.threads}}
        self.programs = self.by_threads[1]
        self.tuner = ThreadTuner(self.threads, calls.CALL_SECONDS)
        if not kind.in_place:
            self._compile()

    def _compile(self) -> None:
        """Compile or load the kernels, outside the timed part, and the helpers' here, where an error would be seen."""
        mailbox = _mailbox()
        mailbox["stopped"] = 1
        for threads, made in self.by_threads.items():
            arguments = made.arguments(self, mailbox)
            entry.train(*arguments, made.pick, made.work.step, self.run, np.zeros(1), 0)
            if threads > 1:
                entry.help_train(*arguments, 0)

    def bind(self, options: Options, samples: Samples, order: NDArray[np.int32] | None = None) -> None:
        """Get ready for a fit on these samples; order is that of `options`, or of the epochs that are left."""
        n, table, ordered = len(samples.inputs), self.bindings, options.ordered
        batch_size = options.batch_size or n
        for made in self.by_threads.values():
            made.gradient.fill(0)  # one that diverged, or was interrupted then, may have left NaN in the padding
            if self.kind.any_rows:
                made.prepare(*{min(n, batch_size), n % batch_size} - {0})
        if ordered == DRAWN:
            if len(self.order) != n:
                self.order = np.empty(n, np.int32)
            order = self.order
        if ordered == AS_IS:
            bind(table, ORDER, 0)
            bind(table, REMAINING, 0)  # there is no order to prefetch by
        else:
            assert order is not None
            bind(table, REMAINING, n, -1)
            self.bind_order(order)
        for symbol, array in zip((SAMPLES, TARGETS, WEIGHTS), samples, strict=True):
            if array is not None:  # the stride of a single row may be anything
                bind(table, symbol, address_of(array), array[:1].nbytes if ordered == AS_IS else 0)
        options.write(self.settings)
        self.run = run_record(options, n)  # a new one, because a History reads the last one
        self.tuner.last = 0

    def bind_order(self, order: NDArray[np.int32]) -> None:
        """Go on with these orders, (epochs, n), in a fit that is given them."""
        bind(self.bindings, ORDER, address_of(order), 4)

    def bind_loading(self, loading: Loading) -> None:
        """Load the samples so, where they are shifted."""
        if loading.scale is None:
            bind(self.bindings, AFFINE, loading.address)

    def attach(self, network: Network, optimizer: Optimizer) -> None:
        """Serve a network from now on."""
        vectors = network.vectors_for(optimizer)
        self.of_network = Buffers(network.parameters, vectors, network.state)
        self.network_addresses[:] = network.addresses(vectors)
        self.bind_loading(network.loading)
        if LOSSES[self.layout.loss].parameter is not None:
            self.settings["loss_parameter"] = network.settings["loss_parameter"]

    def position(self, per: str) -> int:
        """How many steps or epochs the optimizer has done, where they count."""
        return int(self.buffers.state["numbers"][0, POSITIONS[per]])

    def bind_rates(self, learning_rate: LearningRate, most: int) -> None:
        """The learning rates of as many steps or epochs as a call can do."""
        per = self.kind.rate_per
        position = self.position(per)
        self.rates = rates = learning_rate._checked_rates("learning_rate", per, position, most)
        bind(self.bindings, RATES, rates.ctypes.data - 8 * position)

    def load(self, network: Network, optimizer: Optimizer, fresh: bool = False) -> None:
        """Copy the network's memory, and start the optimizer afresh in the copy unless an equal one has trained."""
        buffers = self.buffers
        self.programs = self.by_threads[1]
        buffers.parameters[:] = network.parameters
        buffers.state[:] = network.state
        known = network.optimizer
        if not fresh and (known is optimizer or known == optimizer):
            buffers.vectors[:] = network.vectors_for(optimizer)
        else:
            network.start(optimizer, buffers.vectors, buffers.state)

    def release(self, network: Network) -> None:
        """Forget samples and network, and wait for the next fit of the kind, of this network or another."""
        self.bindings[...] = self.unbound
        self.of_network = None
        if self.layout is network.layout:
            network.plans.append(self)

    def take(self, threads: int) -> None:
        """Go on with so many threads."""
        if threads != self.programs.threads:
            self.programs.hand_over(self.by_threads[threads], within_a_batch=bool(self.run["row"][0]))
            self.programs = self.by_threads[threads]

    def train(self, losses: NDArray[np.float64], blocks: int) -> None:
        """One kernel call on the samples that are bound, with the threads that were taken; with one if none comes."""
        if self.programs.threads > 1:
            if self._train_on_threads(losses, blocks):
                return
            self.take(1)
        made = self.programs
        entry.train(*made.arguments(self, NOBODY), made.pick, made.work.step, self.run, losses, blocks)

    def _train_on_threads(self, losses: NDArray[np.float64], blocks: int) -> bool:
        """Whether all helping threads came in time. If not, nothing was done, and one that comes later does nothing.

        The compiled call has waited for their work. So nobody need wait for the threads, but that they may have ended.
        """
        made, mailbox, call = self.programs, _mailbox(), pool.allocate_lock()
        arguments, ended = made.arguments(self, mailbox), []
        with call:
            try:
                for worker in range(1, made.threads):
                    ended.append(pool.allocate_lock())
                    ended[-1].acquire()
                    if not pool.start(_help, call, ended[-1], arguments, worker):
                        return False
                latest = time.perf_counter() + pool.PATIENCE
                while not entry.train(*arguments, made.pick, made.work.step, self.run, losses, blocks):
                    if time.perf_counter() > latest:
                        return False
            finally:
                mailbox["stopped"] = 1
        for lock in ended:
            lock.acquire(timeout=pool.PATIENCE)
        return True


def _mailbox() -> NDArray[Any]:
    return aligned_zeros(MAILBOX.itemsize, MAILBOX)


def _help(call: Any, ended: Any, arguments: tuple[Any, ...], worker: int) -> None:
    """What a helping thread runs while the call is held, whatever exceptions have done to its clean-up."""
    try:
        while call.locked() and entry.help_train(*arguments, worker):
            pass
    finally:
        ended.release()


def run_record(options: Options, n: int) -> NDArray[Any]:
    """Where a fit on n samples is before its first step: a record RUN. Each call says to which epoch it goes."""
    batches = {"n_samples": n, "batch_size": options.batch_size or n, "ordered": options.ordered}
    reports = {"batch_means": options.batch_means, "loss_scale": 1 / options.n_means}
    fields = _FRESH_RUN | batches | reports
    return np.array([tuple(fields.values())], records.RUN)  # a third of the time that it takes to set five fields


def kind_of(options: Options, samples: Samples) -> training_programs.Kind:
    """The kind of a fit on such samples."""
    sources = Sources.of(*samples)
    return training_programs.Kind(
        batch_size=options.batch_size,
        optimizer=options.optimizer._kernel,
        sources=sources.once if options.any_rows else sources,
        last_batch=0 if options.any_rows else len(samples.inputs) % options.batch_size,
        any_rows=options.any_rows,
        in_place=options.in_place,
        max_threads=options.max_threads,
        l2=options.l2 != NO_PENALTY,
        l1=options.l1 != NO_PENALTY,
        rules=options.rules.kinds,
        rate_per=options.rate_per or "",
        partial=options.partial and bool(options.rate_per),  # else it makes no difference
        **options.optimizer._kinds_of_tensors,
    )


def plan_for(network: Network, options: Options, samples: Samples) -> Plan:
    """A plan for this kind of fit, attached to the network: one that waits, or a new one. `release` it afterwards."""
    network.forget_stepper()
    kind = kind_of(options, samples)
    plan = waiting_plan(network.plans, network.layout, kind) or Plan(network.layout, network.loading.scale, kind)
    plan.attach(network, options.optimizer)
    return plan


def waiting_plan(plans: deque[Plan], layout: Layout, kind: training_programs.Kind) -> Plan | None:
    """Take a plan of the kind, if one waits."""
    for plan in list(plans):
        if plan.kind == kind and plan.layout is layout:
            try:
                plans.remove(plan)
            except ValueError:  # another thread took it
                continue
            if plan.forks == forks():  # else its helping threads are not there
                return plan
    return None
