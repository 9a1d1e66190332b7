"""Threads: how many, which number is faster now, and who may enter Numba's parallel functions."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from . import _validation
from .kernels import pool

PARALLEL_MULTIPLY_ADDS = 5_000_000  # a prediction of fewer is faster on one thread
FIT_MULTIPLY_ADDS = 50_000_000  # a whole fit of fewer is faster on one thread
TRIAL, WARM_UP = 0.1, 0.02  # fractions of a call that try another number of threads, and before that fill the caches
BUSY = (
    "fit, partial_fit, freeze or replace_head was called on a model while it is being trained. Only a callback of the "
    "fit may call freeze, in the thread that fits"
)
FIRST_PATIENCE, MAX_PATIENCE = 0.1, 2.0  # seconds until the slower number is tried again (exponential back-off)

_lock = threading.Lock()  # held by whoever is in a parallel function
_forks = 0  # how often this process or one before it forked since the import


def forks() -> int:
    """How often this process or one before it forked since the import: another process has another number."""
    return _forks


def _after_fork() -> None:
    global _forks, _lock
    _forks += 1
    _lock = threading.Lock()  # another thread may have held the old one


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def available_threads() -> int:
    """The threads this process may use: its CPU affinity, OMP_NUM_THREADS and NUMBA_NUM_THREADS, the least of them."""
    counts = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1]
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        value = os.environ.get(name, "").split(",")[0].strip()
        if value.isdecimal() and int(value) > 0:
            counts.append(int(value))
    return min(counts)


def resolve_threads(threads: int | None) -> int:
    """The number of threads for `threads`, a maximum; None is all that are available."""
    if threads is None:
        return available_threads()
    return min(_validation.integer("threads", threads, 1), available_threads())


@contextmanager
def numba_pool() -> Iterator[bool]:
    """Yields whether Numba's pool of threads is free and safe to use; if not, threads of Python give the same bits.

    Numba's threads do not survive a fork. For other reasons see `kernels.pool`.
    """
    if _forks or not _lock.acquire(blocking=False):
        yield False
        return
    lock = _lock
    try:
        yield pool.usable()
    finally:
        lock.release()


def run_on_threads(tasks: Sequence[Callable[[], object]]) -> None:
    """Call all tasks, in new threads where the system starts some. This thread calls those that no other has begun.

    A task may be called twice, if the thread that began it dies. After an exception some may still run, so each must
    hold a reference to all memory that it uses.
    """
    waiting, done = deque(enumerate(tasks)), [False] * len(tasks)
    helpers: list[Any] = []
    for _ in tasks[1:]:
        if not pool.start(_help, waiting, helpers, done):
            break
    _take_tasks(waiting, done)
    for working in helpers:  # each of the others finds nothing to do, however late it comes
        with working:
            pass
    for i, task in enumerate(tasks):
        if not done[i]:
            task()


def _help(waiting: deque[Any], helpers: list[Any], done: list[bool]) -> None:
    """What a thread of `run_on_threads` does. It enters its lock in `helpers` before it begins a task."""
    working = pool.allocate_lock()
    with working:
        helpers.append(working)
        _take_tasks(waiting, done)


def _take_tasks(waiting: deque[Any], done: list[bool]) -> None:
    """Do tasks until none waits."""
    with suppress(IndexError):
        while True:
            i, task = waiting.popleft()
            task()
            done[i] = True


class Claims:
    """Who trains or changes a model: one at a time.

    A claim is a lock that the claimant holds in a `with` statement. The first one in a list that is held counts. So
    nothing has to be undone when an exception comes, wherever it comes.
    """

    def __init__(self) -> None:
        self.made: list[Any] = []
        self._forks = forks()
        self._calling: tuple[Any, int] | None = None  # the claim and the thread of a fit that is calling a callback

    def take(self, claim: Any) -> None:
        """Enter a claim, a lock that is held; raises RuntimeError where another claim is held."""
        self.made.append(claim)
        if self.made[0] is not claim:
            self.check(claim)

    def give_back(self, claim: Any) -> None:
        """Forget a claim: only to save time, because a lock that is no longer held does not count."""
        with suppress(ValueError):
            self.made.remove(claim)

    def call_back(self, claim: Any, callback: Callable[..., object], *arguments: Any) -> object:
        """Call a callback of the fit that has this claim: meanwhile the callback may change the model."""
        self._calling = claim, threading.get_ident()
        try:
            return callback(*arguments)
        finally:
            self._calling = None

    def take_for_change(self, claim: Any) -> None:
        """Enter a claim for a change of the model's structure, unless a callback of a fit makes the change."""
        if not self.in_callback():
            self.take(claim)

    def in_callback(self) -> bool:
        """Whether the caller is a callback of a fit, in the fit's thread."""
        calling = self._calling
        return calling is not None and calling[0].locked() and calling[1] == threading.get_ident()

    def check(self, claim: Any) -> None:
        """Raise where a claim before this one is held; forget claims that are not."""
        if self._forks != forks():  # the parent process's claims are not ours
            self.made, self._forks = [claim], forks()
            return
        for earlier in list(self.made):
            if earlier is claim:
                return
            if earlier.locked():
                raise RuntimeError(BUSY)
            self.give_back(earlier)


class ThreadTuner:
    """Finds out which number of threads is faster now: all of them, unless other processes take cores away.

    A step waits for its slowest thread. A thread that shares its core with another process may wait for milliseconds.
    The result has the same bits for any number, so the clock may decide. The number that seems slower is tried again
    after longer and longer times.
    """

    def __init__(self, threads: int, call_seconds: float):
        self.threads, self.call_seconds = threads, call_seconds
        self.clock = 0.0  # seconds of training
        self.last = 0  # threads of the last call
        self.measured = [0.0, 0]  # seconds and steps not yet counted
        self.step_seconds: dict[int, float] = {}
        self.measured_at = {1: 0.0, threads: 0.0}
        self.patience = FIRST_PATIENCE
        self.switch_seconds = 0.0  # how long a change of the number takes

    def choose(self) -> tuple[int, float]:
        """(threads, the fraction of a usual call to run with them)."""
        if self.threads == 1:
            return 1, 1.0
        unknown = [threads for threads in (self.threads, 1) if threads not in self.step_seconds]
        best, other = sorted((self.threads, 1), key=lambda threads: self.step_seconds.get(threads, 0.0))
        due = self.clock - self.measured_at[other] > max(self.patience, 30 * self.switch_seconds)
        threads, fraction = (unknown[0], TRIAL) if unknown else (other, TRIAL) if due else (best, 1.0)
        return threads, fraction if threads == self.last else WARM_UP

    def note(self, threads: int, seconds: float, steps: int) -> None:
        """Note how long a call took. The first call after a change does not count, because the caches are cold."""
        self.clock += seconds
        if threads != self.last:
            self.last, self.measured = threads, [0.0, 0]
            return
        self.measured[0] += seconds
        self.measured[1] += steps
        if self.measured[0] < TRIAL * self.call_seconds / 2 or not self.measured[1]:
            return
        best = min(self.step_seconds, key=self.step_seconds.__getitem__, default=threads)
        self.step_seconds[threads], self.measured_at[threads] = self.measured[0] / self.measured[1], self.clock
        self.measured = [0.0, 0]
        if best != min(self.step_seconds, key=self.step_seconds.__getitem__):
            self.patience = FIRST_PATIENCE
        elif threads != best:
            self.patience = min(2 * self.patience, MAX_PATIENCE)
