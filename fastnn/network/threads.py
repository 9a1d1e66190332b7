"""Threads: how many, who may enter Numba's parallel functions, and what forks change."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from ..checks import scalars
from ..kernels.running import pool

PARALLEL_MULTIPLY_ADDS = 5_000_000  # a prediction of fewer is faster on one thread
FIT_MULTIPLY_ADDS = 50_000_000  # a whole fit of fewer is faster on one thread


class _Helping(threading.local):
    """Whom this thread works for: how many threads its calls may use, and whether its caller still waits."""

    most: int | None = None
    is_wanted: Callable[[], bool] | None = None


_helping = _Helping()
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
    """The number of threads for `threads`, a maximum; None is all that are available here."""
    most = available_threads() if _helping.most is None else _helping.most
    return most if threads is None else min(scalars.integer("threads", threads, 1), most)


class Unwanted(BaseException):
    """Ends work that its caller does not wait for any more."""


@contextmanager
def helping(is_wanted: Callable[[], bool], most: int) -> Iterator[None]:
    """In here this thread works for a caller that `is_wanted` tells of, and its calls use at most so many threads."""
    before = _helping.is_wanted, _helping.most
    _helping.is_wanted = is_wanted if before[0] is None else lambda: is_wanted() and bool(before[0] and before[0]())
    _helping.most = most
    try:
        yield
    finally:
        _helping.is_wanted, _helping.most = before


def is_helping() -> bool:
    """Whether this thread works for a caller in another one."""
    return _helping.is_wanted is not None


def check_wanted() -> None:
    """Raise Unwanted where this thread's work is for a caller that does not wait for it any more."""
    is_wanted = _helping.is_wanted
    if is_wanted is not None and not is_wanted():
        raise Unwanted


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
