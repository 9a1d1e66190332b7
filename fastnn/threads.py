"""Threads: how many, which number is faster now, and the one door to Numba's parallel functions."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from . import _validation

PARALLEL_MULTIPLY_ADDS = 5_000_000  # of a prediction, below which a parallel region costs more than it gives
FIT_MULTIPLY_ADDS = 50_000_000  # of a whole fit, below which starting threads costs more than they give
TRIAL, WARM_UP = 0.1, 0.02  # parts of a call: to try another number of threads for, and before that to fill the caches
FIRST_PATIENCE, MAX_PATIENCE = 0.1, 2.0  # seconds until the slower number is tried again (exponential back-off)

_lock = threading.Lock()
_owner: int | None = None  # the process that first used Numba's threads; they do not survive a fork


def available_threads() -> int:
    """The threads this process may use: its CPU affinity, OMP_NUM_THREADS and NUMBA_NUM_THREADS, the least of them."""
    counts = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1]
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        value = os.environ.get(name, "").split(",")[0].strip()
        if value.isdecimal() and int(value) > 0:
            counts.append(int(value))
    return min(counts)


def resolve_threads(threads: int | None) -> int:
    """`threads`, a maximum, made a number."""
    if threads is None:
        return available_threads()
    return min(_validation.integer("threads", threads, 1), available_threads())


@contextmanager
def door() -> Iterator[bool]:
    """Whether the caller may enter a parallel function now; if not, the serial twin gives the same bits.

    Some of Numba's threading layers abort when two threads enter, or in a forked child of a process that used them.
    """
    global _owner
    if not _lock.acquire(blocking=False):
        yield False
        return
    try:
        if _owner is None:
            _owner = os.getpid()
        yield _owner == os.getpid()
    finally:
        _lock.release()


class ThreadTuner:
    """Finds out which number of threads is faster now: all of them, unless other processes take cores away.

    A step waits for its slowest thread, and one that shares its core may wait for milliseconds. The result has the same
    bits for any number, so that this may be decided by the clock. The number that seems slower is tried again, the more
    rarely the more often it was.
    """

    def __init__(self, threads: int, call_seconds: float):
        self.threads, self.call_seconds = threads, call_seconds
        self.clock = 0.0  # seconds of training
        self.last = 0  # threads of the last call
        self.measured = [0.0, 0]  # seconds and steps not yet counted
        self.step_seconds: dict[int, float] = {}
        self.measured_at = {1: 0.0, threads: 0.0}
        self.patience = FIRST_PATIENCE
        self.switch_seconds = 0.0  # that a change of the number takes

    def choose(self) -> tuple[int, float]:
        """(threads, what part of a usual call to try them for)."""
        if self.threads == 1:
            return 1, 1.0
        unknown = [threads for threads in (self.threads, 1) if threads not in self.step_seconds]
        best, other = sorted((self.threads, 1), key=lambda threads: self.step_seconds.get(threads, 0.0))
        due = self.clock - self.measured_at[other] > max(self.patience, 30 * self.switch_seconds)
        threads, part = (unknown[0], TRIAL) if unknown else (other, TRIAL) if due else (best, 1.0)
        return threads, part if threads == self.last else WARM_UP

    def note(self, threads: int, seconds: float, steps: int) -> None:
        """What a call took. The first one after a change does not count, because the caches are cold."""
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
