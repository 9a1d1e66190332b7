"""Training of many networks in groups: each lane of the vector holds a network, and threads share the members."""

from __future__ import annotations

import functools
import time
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import calls
from ..kernels.formulas.update_rules import OPTIMIZERS
from ..kernels.programs import lane_records
from ..kernels.programs.group_programs import GroupTraining
from ..kernels.programs.memory import STATE, STEP, Layout, Trainable, Workspace, aligned_zeros
from ..kernels.programs.program import SETTINGS, Code, bind, bindings
from ..kernels.programs.sources import Source
from ..kernels.programs.training_programs import BLOCKS, Kind, needs_gradient
from ..kernels.running import entry
from ..kernels.running.python_api import address_of
from ..kernels.vector.barriers import MAILBOX
from ..kernels.vector.library import library
from ..network.threads import forks
from .members import MemberTask, rolled_back
from .one_by_one import on_threads, training_record, words_of
from .plan import waiting_plan

RATE_PER = {"": 0, "step": 1, "epoch": 2}


@functools.lru_cache
def _padding(layout: Layout) -> NDArray[np.int64]:
    """Where each word of 4 bytes lies in a vector that belongs to no parameter."""
    return words_of(layout, np.setdiff1d(np.arange(layout.n_bytes // layout.itemsize), layout.elements))


class GroupPlan:
    """The programs and the memory of a group of networks, for a kind of fit. A further fit of the kind binds them."""

    def __init__(self, layout: Layout, scale: float | None, kind: Kind):
        """layout is a group's; scale is None where inputs are shifted.

        Without a last batch in the kind, batches of fewer rows are part of whole ones.
        """
        self.layout, self.kind, self.forks = layout, kind, forks()
        n, rows = layout.networks, kind.batch_size
        n_vectors = len(OPTIMIZERS[kind.optimizer].vectors)
        n_bytes, dtype = layout.n_bytes, layout.number_dtype
        self.live, self.kept, self.copy = (aligned_zeros((1 + n_vectors) * n_bytes, dtype) for _ in range(3))
        self.state, self.kept_state = (aligned_zeros(STATE.itemsize * n, np.int64).reshape(-1, n) for _ in range(2))
        self.settings = aligned_zeros(layout.settings_dtype.itemsize, np.float64).reshape(-1, n)
        self.scratch = np.zeros((1 + STATE.itemsize // 8, n))
        self.work = work = Workspace(layout, rows, 1, kind.rules.dropped)
        self.gradient = aligned_zeros(n_bytes if needs_gradient(layout, rows, kind.optimizer) else 0, dtype)
        live, kept = (
            Trainable.at(layout, at, at + n_bytes, n_vectors, address_of(state))
            for at, state in ((address_of(self.live), self.state), (address_of(self.kept), self.kept_state))
        )
        training = GroupTraining(kind, scale, work, live, kept, self.gradient)
        (programs,) = training.programs(1)
        self.code = Code(programs, library(layout.dtype))
        self.pick = training.pick()
        if not kind.last_batch:
            self.pick[...] = BLOCKS
        self.bindings = bindings()
        bind(self.bindings, SETTINGS, address_of(self.settings))
        self.code = self.code.written(self.bindings)  # nothing else has a symbol
        self.code.parts = self.code.parts.copy()
        self.code.parts["patches"] = 0
        assert work.group is not None
        self.table = work.group.view(np.int64).reshape(-1, n)
        self.step = work.step.view(np.float64).reshape(STEP.itemsize // 8, n)


class GroupSlot:
    """A plan of a group, and the lanes' orders, while a task is trained."""

    def __init__(self, task: MemberTask, kind: Kind, in_step: bool):
        layout = task.layout.group
        self.plans: deque[Any] = task.programs.plans
        waiting: Any = waiting_plan(self.plans, layout, kind)
        self.plan: GroupPlan = waiting or GroupPlan(layout, task.loading.scale, kind)
        plan, n = self.plan, layout.networks
        self.lanes, self.sums = np.zeros((lane_records.LANE_FIELDS, n), np.int64), np.zeros((lane_records.LANE_SUMS, n))
        self.lanes[lane_records.MEMBER] = -1
        self.orders = np.empty((n, task.samples.places["n"][task.which].max(initial=0)), np.int32)
        plan.table[lane_records.ORDERS] = address_of(self.orders) + np.arange(n) * self.orders.strides[0]
        self.record = record = np.zeros(1, lane_records.GROUP_SLOT)
        record["batch_means"] = task.runs["batch_means"][task.which].any()
        record["in_step"], record["rate_per"] = in_step, RATE_PER[kind.rate_per]
        record["weighted"] = kind.sources.w is not None
        record["live"], record["kept"], record["copy"] = map(address_of, (plan.live, plan.kept, plan.copy))
        record["gradient"] = address_of(plan.gradient) if plan.gradient.size else 0
        record["n_bytes"], record["itemsize"] = layout.n_bytes, plan.live.itemsize
        padding = _padding(layout)
        record["padding"], record["n_padding"] = address_of(padding), len(padding)

    def close(self) -> None:
        """Give the plan back."""
        self.plans.append(self.plan)


class Lanes:
    """An engine that trains a group of members at once, a network in each lane; see `members.Engine`."""

    def __init__(self, task: MemberTask, threads: int):
        self.task, layout = task, task.layout.group
        rows = task.samples.places["n"][task.which]
        in_step = len(rows) == 0 or bool((rows == rows[0]).all())
        kind = task.kind._replace(last_batch=int(rows[0]) % task.kind.batch_size if in_step and len(rows) else 0)
        if not in_step and kind.sources.w is None:  # rows that are missing have no weight
            w = Source.of_rows("weights", 1, layout.number_dtype)
            kind = kind._replace(sources=kind.sources._replace(w=w))
        self.slots = [GroupSlot(task, kind, in_step) for _ in range(threads)]
        self.record = training_record(layout, task)
        self.until = np.zeros(len(task.members), np.int64)
        multiply_adds = 3 * task.kind.batch_size * task.layout.multiply_adds * layout.networks
        self.length = calls.CallLength(multiply_adds, task.first_call)
        self._call(np.empty(0, np.int64), 0)  # compiles, or loads, outside of the timed part

    def _within(self) -> NDArray[np.int64]:
        """The members that lanes hold."""
        held = np.concatenate([slot.lanes[lane_records.MEMBER] for slot in self.slots])
        return held[held >= 0]

    def _roll_back(self, slot: GroupSlot, leaving: NDArray[np.bool_] | bool = True) -> None:
        """Let the epochs that lanes are within begin again, and free the lanes."""
        members = slot.lanes[lane_records.MEMBER]
        leaving = (members >= 0) & leaving
        rolled_back(self.task.runs, self.task.losses, members[leaving].tolist())
        members[leaving] = -1

    def advance(self, which: NDArray[np.int64], until: NDArray[np.int64], seconds: float) -> None:
        """One compiled call; see `members.Engine`."""
        share = min(1.0, seconds / calls.CALL_SECONDS) if calls.CALL_SECONDS else 1.0
        self.until[which] = until
        for slot in self.slots:
            self._roll_back(slot, ~np.isin(slot.lanes[lane_records.MEMBER], which))
        queue = which[~np.isin(which, self._within())]
        before = [int(slot.record["entered"][0]) for slot in self.slots]
        steps = max(1, int(self.length.blocks * share))
        start, done = time.perf_counter(), self._done()
        self._call(queue, steps)
        self.length.note(time.perf_counter() - start, self._done() - done)
        for slot, entered in zip(self.slots, before, strict=True):
            if slot.record["entered"][0] == entered:
                self._roll_back(slot)

    def _call(self, queue: NDArray[np.int64], steps: int) -> None:
        task, mailbox, arguments = self.task, aligned_zeros(MAILBOX.itemsize, MAILBOX), []
        for slot in self.slots:
            plan, code = slot.plan, slot.plan.code
            arguments.append(
                (
                    *(code.operations, code.patches, code.parts.reshape(1, -1), plan.bindings, mailbox, plan.pick),
                    *(plan.step, slot.record, slot.lanes, slot.sums, self.record, task.samples.places, queue),
                    *(self.until, task.runs, task.losses, plan.table, plan.state, plan.kept_state, plan.settings),
                    *(plan.scratch, steps),
                )
            )
        on_threads(entry.train_groups, arguments)

    def _done(self) -> int:
        """How many steps the group has done that has done the most."""
        return max(int(slot.record["done"][0]) for slot in self.slots)

    def close(self) -> None:
        """Give the plans back; see `members.Engine`."""
        slots, self.slots = self.slots, []
        for slot in slots:
            self._roll_back(slot)
            slot.close()
