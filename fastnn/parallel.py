"""Threads: how many, and the one door to Numba's parallel functions."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from . import _validation

WORTH_IT = 5_000_000  # multiply-adds below which starting a parallel region costs more than it gives

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
