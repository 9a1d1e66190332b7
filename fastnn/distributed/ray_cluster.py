"""A Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

from ..checks import scalars
from ..checks.scalars import shown
from ..jobs.nodes import ENVIRONMENTS
from .settings import Shared, module


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


class Ray(Shared):
    """An engine: the machines of a Ray cluster (extra `ray`), or this one as a cluster of one.

    Where `ray.init` was called before, its cluster is taken. Else `address` is joined, or Ray starts here.

    Parameters
    ----------
    address : str or None
        Of a cluster that runs, as `ray.init` takes it: "auto", "ray://host:10001". None is that of the environment
        variable RAY_ADDRESS; without one Ray starts on this machine.
    chunk_seconds : float
        About how long a task lasts, of a fit that is cut into tasks; never less than a second.
    retries : int
        How often a task begins again whose worker or machine died.
    timeout : float
        Seconds without any result after which a run ends with a TimeoutError.
    isa : "avx2" or None
        Where machines have CPUs of several kinds: "avx2" gives the same bits on all that have AVX2. None refuses a
        machine whose CPU is of another kind than that of the caller.
    object_store_memory : int or None
        Bytes of the memory that holds shared arrays on a machine that is started here. Containers with a small /dev/shm
        need it: Ray then takes files in its place.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.Ray(address="auto", retries=1)
    Ray(address='auto')
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        chunk_seconds: float = 2.0,
        retries: int = 3,
        timeout: float = 300.0,
        isa: str | None = None,
        object_store_memory: int | None = None,
    ):
        if address is not None and not isinstance(address, str):
            raise TypeError(f"address must be a string or None, got {shown(address)}")
        self.address = address
        super().__init__(chunk_seconds, retries, timeout, isa, address=address, object_store_memory=object_store_memory)
        if object_store_memory is not None:
            scalars.integer("object_store_memory", object_store_memory, 1)
        self._memory = object_store_memory
        self._remote: Any = None

    def __repr__(self) -> str:
        return f"Ray(address={self.address!r})"

    @property
    def _ray(self) -> Any:
        return module("ray", "ray")

    @property
    def n_workers(self) -> int:
        """How many CPUs the cluster has now."""
        self.start()
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def start(self) -> None:
        """Join the cluster, or start one, unless that was done."""
        ray = self._ray
        if not ray.is_initialized():
            address = self.address or os.environ.get("RAY_ADDRESS") or "local"
            local = {"include_dashboard": False, "object_store_memory": self._memory} if address == "local" else {}
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", **local)
        if self._remote is None:
            environment = ENVIRONMENTS[self.isa] | {"OMP_NUM_THREADS": "1"}
            how = {"num_cpus": 1, "max_retries": self.retries, "runtime_env": {"env_vars": environment}}
            self._remote = ray.remote(**how)(_call)

    def put(self, value: Any) -> Any:
        """A reference to the value in Ray's object store."""
        self.start()
        return self._ray.put(value)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Hashable:
        """Begin a call; gives a ticket."""
        self.start()
        found: Hashable = self._remote.remote(function, *arguments)
        return found

    def wait(self, tickets: Sequence[Hashable], seconds: float) -> list[tuple[Hashable, Any]]:
        """(ticket, result) of calls that are done, of at least one unless the seconds are over before."""
        ray = self._ray
        done, _ = ray.wait(list(tickets), num_returns=1, timeout=seconds)
        if done:
            more, _ = ray.wait(list(tickets), num_returns=len(tickets), timeout=0)
            done = more
        return [(ticket, self._result(ticket, seconds)) for ticket in done]

    def _result(self, ticket: Any, seconds: float) -> Any:
        ray = self._ray
        try:
            return ray.get(ticket, timeout=seconds)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.GetTimeoutError:
            raise
        except ray.exceptions.RayError as error:  # its worker died too often, or what it gave is lost
            raise RuntimeError(f"a task has no result after {self.retries} retries: {error}") from error

    def cancel(self, tickets: Iterable[Hashable]) -> None:
        """End calls, also those that run."""
        for ticket in tickets:
            self._ray.cancel(ticket, force=True)
