"""Processes of this machine, by loky, which joblib has."""

from __future__ import annotations

import os
import pickle
import shutil
import tempfile
import threading
import uuid
import weakref
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..checks import scalars
from ..jobs.nodes import ENVIRONMENTS
from ..network import threads
from .settings import Shared, module


class _Place(NamedTuple):
    """Where a value lies in a file: the bytes of a pickle and of the buffers of its arrays."""

    path: str
    edges: tuple[tuple[int, int], ...]


class _Stored:
    """A value in a file, which is removed when nothing refers to this object any more."""

    def __init__(self, value: Any, path: Path):
        buffers: list[Any] = []
        text = module("cloudpickle", "processes").dumps(value, 5, buffer_callback=buffers.append)
        edges = []
        with open(path, "xb") as file:
            weakref.finalize(self, _remove, path, os.getpid())
            for each in (text, *(buffer.raw() for buffer in buffers)):
                file.write(bytes(-file.tell() % 64))
                edges.append((file.tell(), file.tell() + len(each)))
                file.write(each)
        self.place = _Place(str(path), tuple(edges))


def _remove(path: Path, process: int) -> None:
    """Remove a file or a folder of a process, in that one alone: one that was forked from it knows of them too."""
    if os.getpid() != process:
        return
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):  # it is gone, or a system such as Windows keeps it while a process maps it
            path.unlink()


@lru_cache(maxsize=4)
def _loaded(place: _Place) -> Any:
    """The value in a file, whose arrays are mapped into memory, read-only: all processes share them."""
    content = np.memmap(place.path, np.uint8, "r").data
    text, *buffers = (content[first:stop] for first, stop in place.edges)
    return pickle.loads(text, buffers=buffers)


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*(_loaded(each) if isinstance(each, _Place) else each for each in arguments))


class _Call(NamedTuple):
    """A call that has begun."""

    future: Any
    executor: Any  # the processes that it began on
    tries: int
    call: tuple[Any, ...]


def _gone() -> tuple[type[BaseException], ...]:
    """The errors of calls whose processes are gone."""
    loky = module("joblib.externals.loky.process_executor", "processes")
    return loky.BrokenProcessPool, loky.ShutdownExecutorError


class Processes(Shared):
    """An engine: other processes of this machine, which train, search or predict beside each other.

    Threads do the same with less memory and no start; processes help where something in Python takes the time, such as
    steps of a Pipeline that are not fastnn's. They need joblib: the extra `processes`.

    Parameters
    ----------
    n_workers : int or None
        How many processes. None: as many as fastnn takes threads.
    chunk_seconds : float
        About how long a task lasts, of a fit that is cut into tasks; never less than a second.
    retries : int
        How often a task begins again after a process died. The others end with it, and their tasks begin again too.
    timeout : float
        Seconds without any result after which a run ends with a TimeoutError.
    isa : "avx2" or None
        "avx2" has the bits of every CPU with AVX2.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.Processes(n_workers=2)
    Processes(n_workers=2)
    """

    def __init__(
        self,
        n_workers: int | None = None,
        *,
        chunk_seconds: float = 1.0,
        retries: int = 3,
        timeout: float = 300.0,
        isa: str | None = None,
    ):
        self._n = threads.resolve_threads(None) if n_workers is None else scalars.integer("n_workers", n_workers, 1)
        super().__init__(chunk_seconds, retries, timeout, isa, n_workers=self._n)
        self._begin_afresh()

    def _begin_afresh(self) -> None:
        """Know of no process."""
        self._executor: Any = None
        self._folder: Path | None = None
        self._calls = dict[Hashable, _Call]()  # by ticket
        self._lock = threading.RLock()
        self._forks = threads.forks()

    def __repr__(self) -> str:
        return f"Processes(n_workers={self._n})"

    @property
    def n_workers(self) -> int:
        """How many processes there are."""
        return self._n

    def start(self) -> None:
        """Start the processes, unless they run. A process that was forked has none of those that there were before."""
        if self._forks != threads.forks():
            self._begin_afresh()
        if self._executor is None:
            loky = module("joblib.externals.loky", "processes")
            environment = ENVIRONMENTS[self.isa] | {"OMP_NUM_THREADS": "1"}
            self._executor = loky.ProcessPoolExecutor(max_workers=self._n, timeout=60, env=environment)

    def put(self, value: Any) -> Any:
        """A file that holds the value."""
        self.start()
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="fastnn-"))
            weakref.finalize(self, _remove, self._folder, os.getpid())
        return _Stored(value, self._folder / uuid.uuid4().hex)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Hashable:
        """Begin a call; gives a ticket."""
        ticket = uuid.uuid4().hex
        self._begin(ticket, 0, (function, *arguments))
        return ticket

    def _begin(self, ticket: Hashable, tries: int, call: tuple[Any, ...]) -> None:
        sent = [each.place if isinstance(each, _Stored) else each for each in call]
        self.start()  # a fork has a lock of its own
        with self._lock:
            self.start()
            try:
                future = self._executor.submit(_call, *sent)
            except _gone():  # a process that waited for calls has died
                self._stop(self._executor)
                self.start()
                future = self._executor.submit(_call, *sent)
            self._calls[ticket] = _Call(future, self._executor, tries, call)

    def wait(self, tickets: Sequence[Hashable], seconds: float) -> list[tuple[Hashable, Any]]:
        """(ticket, result) of calls that are done, of at least one unless the seconds are over before."""
        futures = {self._calls[ticket].future: ticket for ticket in tickets}
        done, _ = wait(futures, timeout=seconds, return_when=FIRST_COMPLETED)
        for future in done:
            if isinstance(error := future.exception(), _gone()):
                self._begin_again(self._calls[futures[future]].executor, error)
                return self.wait(tickets, seconds)
        for future in done:
            del self._calls[futures[future]]
        return [(futures[future], future.result()) for future in done]

    def _begin_again(self, executor: Any, error: BaseException) -> None:
        """Begin the calls again that were on processes of which one died: the others end with it."""
        with self._lock:
            self._stop(executor)
            for ticket, call in list(self._calls.items()):
                if call.executor is not executor or (call.future.done() and call.future.exception() is None):
                    continue
                if call.tries >= self.retries:
                    raise RuntimeError(f"a task's process died {call.tries + 1} times: {error}")
                self._begin(ticket, call.tries + 1, call.call)

    def cancel(self, tickets: Iterable[Hashable]) -> None:
        """End calls, and the processes with them; others start when they are needed."""
        with self._lock:
            for call in [self._calls.pop(ticket) for ticket in tickets if ticket in self._calls]:
                self._stop(call.executor)

    def _stop(self, executor: Any) -> None:
        executor.shutdown(wait=False, kill_workers=True)
        if self._executor is executor:
            self._executor = None
