"""Many networks of one architecture: their memory, their samples, and what an engine that trains them is told.

Everything is an array over the members. Two engines serve the same interface: one network after another
(`one_by_one.OneByOne`), and lanes that each hold a network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..kernels.programs.memory import STATE, Layout, aligned_zeros
from ..kernels.programs.sources import Source, Sources
from ..kernels.programs.training_programs import Kind
from ..kernels.running import entry
from ..kernels.running.python_api import address_of
from ..network.network import Programs
from ..settings.layers import Architecture


@dataclass
class Members:
    """The memory of n networks of one architecture: what the last finished epoch of each has left.

    Vectors are unpadded. The order of their P numbers is that of `Layout.elements`.
    """

    vectors: NDArray[Any]  # (n, P), C-ordered, in the networks' dtype
    states: NDArray[Any]  # (n,) records STATE; a state's `optimizer` is the number of the fit that trained last
    optimizer_vectors: NDArray[Any] | None = None  # (n, V, P), C-ordered; V is at least what the last optimizer has

    @classmethod
    def zeros(cls, layout: Layout, n: int) -> Members:
        """Members whose parameters and states are zero."""
        vectors = np.zeros((n, len(layout.elements)), layout.dtype)
        return cls(vectors, aligned_zeros(n * STATE.itemsize, STATE))

    def __len__(self) -> int:
        return len(self.vectors)


class Rows(NamedTuple):
    """An array of samples, one behind the other, and which of its rows belong to each of n members."""

    array: NDArray[Any]  # (all rows, ...), C-ordered
    starts: NDArray[np.int64]  # (n,): the first row of each
    counts: NDArray[np.int64]  # (n,): how many rows it has

    @classmethod
    def shared(cls, array: NDArray[Any], n: int) -> Rows:
        """All rows for each of n members."""
        return cls(array, np.zeros(n, np.int64), np.full(n, len(array), np.int64))

    @property
    def addresses(self) -> NDArray[np.int64]:
        """Where the first row of each member lies."""
        return np.int64(address_of(self.array)) + self.starts * self.array[:1].nbytes


class Numbers(NamedTuple):
    """Flat int32 numbers of rows that members see, counted from each one's first row: those of i lie between edges."""

    rows: NDArray[np.int32]
    edges: NDArray[np.int64]  # (n + 1,)


@dataclass(frozen=True)
class MemberSamples:
    """Where the samples of each of n members lie. It keeps alive what the addresses lead to."""

    places: NDArray[Any]  # (n,) records entry.PLACE
    x: Source  # what is common to all
    y: Source | None
    w: Source | None
    arrays: tuple[Any, ...] = field(repr=False, default=())

    @classmethod
    def of(
        cls, inputs: Rows, targets: Rows | None = None, weights: Rows | None = None, numbers: Numbers | None = None
    ) -> MemberSamples:
        """The samples of members that see all their rows, or those with some numbers."""
        places = np.zeros(len(inputs.starts), entry.PLACE)
        places["inputs"], places["n"] = inputs.addresses, inputs.counts
        y = w = None
        if targets is not None:
            places["targets"], y = targets.addresses, Source.of("targets", targets.array)
        if weights is not None:
            places["weights"], w = weights.addresses, Source.of("weights", weights.array)
        if numbers is not None:
            places["rows"] = address_of(numbers.rows) + 4 * numbers.edges[:-1]
            places["n"] = np.diff(numbers.edges)
        return cls(places, Source.of("samples", inputs.array), y, w, (inputs, targets, weights, numbers))

    @property
    def sources(self) -> Sources:
        """The kinds of arrays, of samples that have targets."""
        assert self.y is not None
        return Sources(self.x, self.y, self.w)

    def __len__(self) -> int:
        return len(self.places)

    def part(self, which: NDArray[np.int64] | slice) -> MemberSamples:
        """The samples of some members."""
        return MemberSamples(self.places[which], self.x, self.y, self.w, self.arrays)


@dataclass(frozen=True)
class MemberTask:
    """What an engine trains: members that see their samples in one kind of fit, each with values of its own.

    All arrays have an entry for each member of the population, whether this task trains it or not.
    """

    architecture: Architecture
    programs: Programs  # of the architecture: its layout, and plans that wait
    scale: float  # of the inputs
    kind: Kind  # of one thread
    members: Members
    settings: NDArray[Any]  # (n,) records `layout.settings_dtype`, or one for all; nothing is written here
    runs: NDArray[Any]  # (n,) records entry.RUN
    losses: NDArray[np.float64]  # (n, most epochs)
    samples: MemberSamples
    start: NDArray[Any]  # (1,) record STATE of a fresh optimizer: its `optimizer` is this fit's number, its `numbers`
    n_vectors: int  # how many vectors the optimizer has
    order: NDArray[np.int32] | None = None  # (epochs, rows), where it is given; the same for all

    @property
    def layout(self) -> Layout:
        """Where parameters lie in a padded vector."""
        return self.programs.layout


class Engine(Protocol):
    """What trains the members of a task."""

    def __init__(self, task: MemberTask, threads: int): ...

    def advance(self, which: NDArray[np.int64], until: NDArray[np.int64], seconds: float) -> None:
        """Train members `which` (m,), each to the end of its epoch until[i], or stop after about so many seconds.

        Afterwards `runs` says how far each is, and its status: one that diverged is marked, keeps its last finite
        parameters, and no other notices. The memory of members holds what each one's last finished epoch left. One
        within an epoch goes on from there in the next call that trains it.
        """

    def close(self) -> None:
        """Give back what was taken. The epochs that have begun count as not begun."""


def rolled_back(runs: NDArray[Any], losses: NDArray[np.float64], which: Sequence[int]) -> None:
    """Let the epoch that members are within begin again: their memory is as it was before."""
    for i in which:
        runs[i]["step"] = runs[i]["row"] = 0
        runs[i]["count"] = 0.0
        losses[i, runs[i]["epoch"]] = 0.0
