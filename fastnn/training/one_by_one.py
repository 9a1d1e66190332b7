"""Training of many networks one after another: threads take members, each in the programs and buffers of a plan."""

from __future__ import annotations

import functools
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import calls
from ..kernels.programs import records
from ..kernels.programs.memory import Layout, aligned_zeros
from ..kernels.programs.program import PARAMETERS, SETTINGS, VECTORS, bind
from ..kernels.running import entry, pool
from ..kernels.running.python_api import address_of
from ..kernels.vector.barriers import MAILBOX
from ..network.input_loading import Loading
from .members import Members, MemberSamples, MemberTask, rolled_back
from .plan import Plan, waiting_plan


@functools.lru_cache
def _words(layout: Layout) -> NDArray[np.int64]:
    """Where each word of 4 bytes of an unpadded vector lies in one laid out like the parameters."""
    return words_of(layout, layout.elements)


def words_of(layout: Layout, elements: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where the words of 4 bytes of some elements of a vector lie, for a group of networks those of the first one."""
    words_of_number = np.arange(np.dtype(layout.number_dtype).itemsize // 4)
    return np.ascontiguousarray((elements[:, None] * (layout.itemsize // 4) + words_of_number).ravel())


def task_record(layout: Layout, members: Members, samples: MemberSamples, loading: Loading) -> NDArray[Any]:
    """A record TASK of what training and predicting have in common."""
    record, words = np.zeros(1, records.TASK), _words(layout)
    record["words"], record["n_words"], record["n_bytes"] = address_of(words), len(words), layout.n_bytes
    record["vectors"], record["states"] = address_of(members.vectors), address_of(members.states)
    record["affine"], record["affine_stride"] = loading.address, loading.stride
    for name, source in {"input": samples.x, "target": samples.y, "weight": samples.w}.items():
        record[f"{name}_stride"] = 0 if source is None else source.row_stride
    return record


def training_record(layout: Layout, task: MemberTask) -> NDArray[Any]:
    """The record TASK of a task, for a layout of one network or of a group of them."""
    record, settings = task_record(layout, task.members, task.samples, task.loading), task.settings
    record["n_vectors"], record["block_rows"] = task.n_vectors, layout.block_rows
    if task.n_vectors:
        vectors = task.members.optimizer_vectors
        assert vectors is not None
        record["optimizer_vectors"], record["optimizer_stride"] = address_of(vectors), vectors.strides[0]
    record["start"], record["settings"] = address_of(task.start), address_of(settings)
    record["settings_stride"] = settings.itemsize if len(settings) > 1 else 0
    record["settings_bytes"] = settings.itemsize
    if task.order is not None:
        record["order"] = address_of(task.order)
    return record


def on_threads(function: Callable[..., Any], slots: Sequence[tuple[Any, ...]]) -> None:
    """Call a function of `entry` with the arguments of each slot, at once; threads that come too late do nothing.

    The last argument is the number of the worker, that of the slot in this call. The compiled call of the first slot
    waits for the others. So when it has ended, nothing of theirs is written.
    """
    call = pool.allocate_lock()
    with call:
        for worker in range(1, len(slots)):
            if not pool.start(_help, call, function, (*slots[worker], worker)):
                break
        function(*slots[0], 0)


def _help(call: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """What a helping thread runs while the call is held."""
    while call.locked() and function(*arguments):
        pass


class Slot:
    """A plan of one thread, and the padded memory of the member that it trains."""

    def __init__(self, task: MemberTask):
        layout, n_bytes = task.layout, task.layout.n_bytes
        self.plans: deque[Any] = task.programs.plans
        self.plan = waiting_plan(self.plans, layout, task.kind) or Plan(layout, task.loading.scale, task.kind)
        self.plan.programs = self.plan.by_threads[1]
        self.memory = aligned_zeros((1 + task.n_vectors) * n_bytes, layout.dtype)
        self.order = np.empty(task.samples.places["n"][task.which].max(initial=0), np.int32)
        self.record = np.zeros(1, records.SLOT)
        parameters, record, buffers = address_of(self.memory), self.record, self.plan.buffers
        record["resident"] = -1
        record["parameters"], record["vectors"] = parameters, parameters + n_bytes
        record["live_vectors"], record["live_state"] = map(address_of, (buffers.vectors, buffers.state))
        record["settings"], record["order"] = address_of(self.plan.settings), address_of(self.order)
        table = self.plan.bindings
        bind(table, PARAMETERS, parameters)
        bind(table, VECTORS, parameters + n_bytes)
        bind(table, SETTINGS, address_of(self.plan.settings))

    def close(self) -> None:
        """Give the plan back."""
        self.plan.bindings[...] = self.plan.unbound
        self.plans.append(self.plan)


class OneByOne:
    """An engine that trains one member after another in compiled code, on several threads; see `members.Engine`.

    Each member has the bits of `Model.fit` with its seed, whatever the threads, the order and the number of members.
    """

    def __init__(self, task: MemberTask, threads: int):
        self.task = task
        self.slots = [Slot(task) for _ in range(threads)]
        self.record = training_record(task.layout, task)
        self.until = np.zeros(len(task.members), np.int64)
        multiply_adds = 3 * min(task.kind.batch_size, task.layout.block_rows) * task.layout.multiply_adds
        self.length = calls.CallLength(multiply_adds, task.first_call)
        self._call(np.empty(0, np.int64), 0)  # compiles, or loads, outside of the timed part

    def _noted(self, name: str) -> list[int]:
        """A field of the slots' records."""
        return [int(slot.record[name][0]) for slot in self.slots]

    def _roll_back(self, slots: Sequence[Slot]) -> None:
        """Let the epochs that slots are within begin again."""
        found = [int(slot.record["resident"][0]) for slot in slots]
        rolled_back(self.task.runs, self.task.losses, [i for i in found if i >= 0])
        for slot in slots:
            slot.record["resident"] = -1

    def advance(self, which: NDArray[np.int64], until: NDArray[np.int64], seconds: float) -> None:
        """One compiled call; see `members.Engine`."""
        share = min(1.0, seconds / calls.CALL_SECONDS) if calls.CALL_SECONDS else 1.0
        self.until[which] = until
        within = self._noted("resident")
        self._roll_back([slot for slot, i in zip(self.slots, within, strict=True) if i >= 0 and i not in which])
        queue = which[~np.isin(which, within)]
        # This thread goes on with the member within an epoch that has waited longest, since helpers may come too late.
        self.slots.sort(key=lambda slot: (slot.record["resident"][0] < 0, slot.record["entered"][0]))
        before, start = self._noted("done")[0], time.perf_counter()
        self._call(queue, max(1, int(self.length.blocks * share)))
        self.length.note(time.perf_counter() - start, self._noted("done")[0] - before)

    def _call(self, queue: NDArray[np.int64], blocks: int) -> None:
        task, mailbox = self.task, aligned_zeros(MAILBOX.itemsize, MAILBOX)
        of_task = self.record, task.samples.places, queue, self.until, task.runs, task.losses, blocks
        arguments = []
        for slot in self.slots:
            made = slot.plan.programs
            of_plan = made.arguments(slot.plan, mailbox)
            arguments.append((*of_plan, made.pick, made.work.step, slot.record, *of_task))
        on_threads(entry.train_members, arguments)

    def close(self) -> None:
        """Give the plans back; see `members.Engine`."""
        slots, self.slots = self.slots, []
        self._roll_back(slots)
        for slot in slots:
            slot.close()
