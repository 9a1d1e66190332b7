"""What an engine is to the rest of the package: something that calls functions elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any, Protocol

from ..checks.scalars import shown
from .nodes import Node

NAMES = {"processes": "Processes", "ray": "Ray"}  # by name: the public names of engines
AHEAD = 2  # tasks for each worker that are begun, so that none waits for the next one


class Engine(Protocol):
    """What calls functions elsewhere. Tasks are pure: one may be called twice, where a worker dies."""

    isa: str | None  # the instruction set that it has, if one was asked for
    chunk_seconds: float  # about how long a task lasts
    timeout: float  # seconds without any result after which a run ends with an error

    @property
    def n_workers(self) -> int:
        """How many tasks run at a time."""

    def start(self) -> None:
        """Start workers, unless they run."""

    def put(self, value: Any) -> Any:
        """Something that among the arguments of a task stands for a value: each machine gets it once, read-only."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Hashable:
        """Begin a call; gives a ticket."""

    def wait(self, tickets: Sequence[Hashable], seconds: float) -> list[tuple[Hashable, Any]]:
        """(ticket, result) of calls that are done, of at least one unless the seconds are over before.

        Raises what a call raised; RuntimeError where its worker died more often than the engine tries again.
        """

    def cancel(self, tickets: Iterable[Hashable]) -> None:
        """End calls that nobody waits for any more, also those that run."""


def engine_of(engine: Any) -> Engine | None:
    """The engine of an argument `engine`: None, a name of `NAMES`, or an object."""
    if engine is None:
        return None
    if isinstance(engine, str) and engine in NAMES:
        return _named(engine)
    methods, settings = ("start", "put", "submit", "wait", "cancel"), ("isa", "chunk_seconds", "timeout")
    if all(callable(getattr(engine, name, None)) for name in methods) and all(
        hasattr(engine, name) for name in settings
    ):
        return engine
    raise TypeError(
        f"engine must be None, {', '.join(map(repr, NAMES))}, or a fastnn.Processes or fastnn.Ray, got {shown(engine)}"
    )


@lru_cache
def _named(name: str) -> Engine:
    """The engine of a name, which is made once: its workers serve later calls too."""
    found: Engine = getattr(import_module(__package__.partition(".")[0]), NAMES[name])()
    return found


class Here:
    """An engine that is this process: it calls one task after another, each when somebody waits for it."""

    isa: str | None = None
    chunk_seconds, timeout = 2.0, float("inf")

    def __init__(self) -> None:
        self._calls = dict[Hashable, tuple[Any, ...]]()  # by ticket

    @property
    def n_workers(self) -> int:
        """One, on as many threads as a task takes."""
        return 1

    def start(self) -> None:
        """Nothing has to start."""

    def put(self, value: Any) -> Any:
        """The value itself."""
        return value

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Hashable:
        """Note a call; gives a ticket."""
        ticket = object()
        self._calls[ticket] = function, *arguments
        return ticket

    def wait(self, tickets: Sequence[Hashable], seconds: float) -> list[tuple[Hashable, Any]]:
        """Call the first of these."""
        function, *arguments = self._calls.pop(tickets[0])
        return [(tickets[0], function(*arguments))]

    def cancel(self, tickets: Iterable[Hashable]) -> None:
        """Forget calls."""
        for ticket in tickets:
            self._calls.pop(ticket, None)


def called(expected: Node, what: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """A task: what the function gives, on a node that gives the bits of the run. `what` is named in its errors."""
    Node.here().check(expected, "a node of the engine")
    try:
        return function(*arguments)
    except Exception as error:
        error.add_note(f"in {what}")
        raise


def node_of(engine: Engine) -> Node:
    """What the workers of an engine must be like: this process, or one with its instruction set."""
    here = Node.here()
    return here if engine.isa is None else here._replace(cpu=engine.isa)


class Run:
    """Tasks of one function on an engine, whose results come in any order."""

    def __init__(self, engine: Engine, function: Callable[..., Any], what: str, node: Node | None = None):
        """what: what a task is called in errors. node: what every worker must be like; None is as this process."""
        self.engine, self.function, self.what = engine, function, what
        self.node = node or node_of(engine)
        self._numbers = dict[Hashable, Any]()  # of the tasks that run

    def put(self, value: Any) -> Any:
        """Something that stands for a value among the arguments of a task."""
        return self.engine.put(value)

    @property
    def n_running(self) -> int:
        """How many tasks have begun and not ended."""
        return len(self._numbers)

    def begin(self, number: Any, *arguments: Any) -> None:
        """Begin a task; its number is named in errors."""
        what = f"{self.what} {number}"
        self._numbers[self.engine.submit(called, self.node, what, self.function, *arguments)] = number

    def done(self, seconds: float | None = None) -> list[tuple[Any, Any]]:
        """(number, result) of tasks that have ended, at least one; none where the seconds are over before.

        Raises TimeoutError where nothing ends in the engine's timeout.
        """
        wait = self.engine.timeout if seconds is None else min(seconds, self.engine.timeout)
        found = self.engine.wait(list(self._numbers), wait)
        if not found and (seconds is None or seconds >= self.engine.timeout):
            raise TimeoutError(
                f"no task of {self.n_running} ended in {self.engine.timeout:g} s on {self.engine}: {self.what} "
                f"{next(iter(self._numbers.values()))} and others; timeout= of the engine is how long to wait"
            )
        return [(self._numbers.pop(ticket), result) for ticket, result in found]

    def results(self, tasks: Iterable[tuple[Any, Sequence[Any]]]) -> Iterator[tuple[Any, Any]]:
        """(number, result) of tasks (number, arguments), as they end; only a few begin before others end."""
        waiting = iter(tasks)
        with self:
            while True:
                while self.n_running < AHEAD * self.engine.n_workers and (task := next(waiting, None)) is not None:
                    self.begin(task[0], *task[1])
                if not self.n_running:
                    return
                yield from self.done()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        """End what nobody waits for any more."""
        left, self._numbers = list(self._numbers), {}
        if left:
            with contextlib.suppress(Exception):
                self.engine.cancel(left)
