"""Fits and scores on threads: what scikit-learn's functions call here in place of joblib's `Parallel`."""

from __future__ import annotations

import contextvars
import functools
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable
from numbers import Integral
from typing import Any

import numpy as np
import sklearn
from sklearn.pipeline import Pipeline

from ..kernels.running import pool
from ..network import threads

POLL_SECONDS = 0.1  # between two looks at whether a thread has ended: some systems interrupt no wait
LAST_SECONDS = 1.0  # to wait for a thread after an exception
# What programs depend on, beside the numbers of samples and features.
PROGRAM_PARAMETERS = ("hidden_layer_sizes", "activation", "solver", "batch_size", "early_stopping", "loss", "dropout")


def last_step(estimator: Any) -> tuple[Any, str]:
    """What a Pipeline ends in, or the estimator itself; and what the names of its parameters begin with."""
    prefix = ""
    while isinstance(estimator, Pipeline) and estimator.steps:
        name, estimator = estimator.steps[-1]
        prefix += f"{name}__"
    return estimator, prefix


class Threads:
    """Calls tasks on threads of this process. It has of joblib's `Parallel` what scikit-learn's searches use."""

    def __init__(self, n_jobs: int | None = None, **_: Any):
        """n_jobs: the most tasks at a time. joblib's other arguments say how it fills queues and what it prints."""
        most = threads.resolve_threads(None)
        if n_jobs == 0:
            raise ValueError("n_jobs must be None or an integer other than 0, got 0")
        if n_jobs is None:
            self.n = most
        else:
            self.n = min(n_jobs, most) if n_jobs > 0 else max(1, most + 1 + n_jobs)

    def __enter__(self) -> Threads:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __call__(self, tasks: Iterable[Callable[[], Any]]) -> list[Any]:
        """What the tasks give, in their order."""
        calls = list(tasks)
        return ThreadedCalls(calls, [_kind(call) for call in calls]).run(self.n)


def delayed(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that gives a task for `Threads`: the call of `function` with its arguments."""
    return functools.partial(functools.partial, function)


def _kind(task: Any) -> tuple[Any, ...]:
    """What tasks that share programs have in common; kinds of large networks are the first when they are sorted."""
    arguments = task.keywords | dict(zip(("estimator", "X", "y", "train"), task.args, strict=False))
    estimator, prefix = last_step(arguments["estimator"])
    values = estimator.get_params(deep=False)
    values |= {name.removeprefix(prefix): value for name, value in (arguments.get("parameters") or {}).items()}
    sizes = np.ravel(np.array(values.get("hidden_layer_sizes"), object))
    units = sum(size for size in sizes if isinstance(size, Integral))
    return -units, repr([values.get(name) for name in PROGRAM_PARAMETERS]), np.size(arguments["train"])


class ThreadedCalls:
    """Calls that threads make one after another, until all are made, one raises, or nobody waits for them any more."""

    def __init__(self, calls: list[Any], kinds: list[Any]):
        """calls: functions without arguments. kinds: theirs; a thread stays with a kind as long as calls of it wait."""
        self.calls = calls
        self.waiting: dict[Any, deque[int]] = {kind: deque() for kind in sorted({*kinds})}
        for i, kind in enumerate(kinds):
            self.waiting[kind].append(i)
        self.n_threads, self.choosing = dict.fromkeys(self.waiting, 0), pool.allocate_lock()  # how many are at a kind
        self.results: list[Any] = [None] * len(calls)
        self.errors: dict[int, BaseException] = {}
        self.caller = pool.allocate_lock()  # held while the caller waits
        self.config = sklearn.get_config()  # of the caller's thread

    def is_wanted(self, i: int) -> bool:
        """Whether somebody waits for call i: after an error those before it are, because one may raise too."""
        return bool(self.caller.locked()) and i < min(list(self.errors), default=len(self.calls))

    def run(self, n_threads: int) -> list[Any]:
        """Make all calls, so many at a time. Raises what the first call in the list that raises does."""
        n_threads = 1 if threads.is_helping() else max(1, min(n_threads, len(self.calls)))
        share = max(1, threads.resolve_threads(None) // n_threads)
        working: list[Any] = []
        with warnings.catch_warnings():  # threads that use it at the same time may leave filters of each other
            try:
                with self.caller:
                    if not threads.is_helping():
                        self._start(n_threads, share, working)
                    if not working:
                        self._work(share)
                    while working:
                        if working[-1].acquire(timeout=POLL_SECONDS):
                            working.pop()
            finally:
                latest = time.monotonic() + LAST_SECONDS
                for lock in working:  # after an exception they see that the caller has left
                    lock.acquire(timeout=max(0.0, latest - time.monotonic()))
        threads.check_wanted()
        if self.errors:
            raise self.errors[min(self.errors)]
        return self.results

    def _start(self, n_threads: int, share: int, working: list[Any]) -> None:
        """Start threads, as far as the system does. Each has a lock in `working`, which it releases when it ends."""
        for _ in range(n_threads):
            lock = pool.allocate_lock()
            lock.acquire()
            if not pool.start(contextvars.copy_context().run, self._help, lock, share):
                return
            working.append(lock)

    def _help(self, working: Any, share: int) -> None:
        """What a thread does."""
        try:
            self._work(share)
        finally:
            working.release()

    def take(self, kind: Any) -> tuple[int, Any] | None:
        """(the number of a call that waits, its kind), of the kind that the thread is at; or None where none waits.

        Where none of this kind waits, the thread goes to one that the fewest threads are at, the first of these. So
        programs are written for few threads, and large networks do not begin last.
        """
        with self.choosing:
            if not self.waiting.get(kind):
                if kind is not None:
                    self.n_threads[kind] -= 1
                left = [each for each, calls in self.waiting.items() if calls]
                if not left:
                    return None
                kind = min(left, key=self.n_threads.__getitem__)
                self.n_threads[kind] += 1
            return self.waiting[kind].popleft(), kind

    def _work(self, share: int) -> None:
        """Make calls until none waits, each on at most so many threads."""
        kind = None
        with sklearn.config_context(**self.config):
            while (taken := self.take(kind)) is not None:
                i, kind = taken
                call, self.calls[i] = self.calls[i], None  # it holds the estimator
                try:
                    with threads.helping(functools.partial(self.is_wanted, i), share):
                        threads.check_wanted()
                        self.results[i] = call()
                except threads.Unwanted:
                    pass
                except BaseException as error:
                    self.errors[i] = error
