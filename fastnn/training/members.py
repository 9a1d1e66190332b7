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

from ..checks import calls
from ..kernels.programs import records
from ..kernels.programs.memory import STATE, Layout, aligned_zeros
from ..kernels.programs.sources import Source, Sources
from ..kernels.programs.training_programs import Kind
from ..kernels.running.python_api import address_of
from ..network.input_loading import Loading
from ..network.network import Programs
from ..settings.layers import Architecture
from ..settings.optimizers import SGD
from .member_optimizers import MemberOptimizers


def _aligned(states: NDArray[Any]) -> NDArray[Any]:
    """A copy of records STATE where the kernels can read it."""
    found = aligned_zeros(len(states) * STATE.itemsize, STATE)
    found[:] = states
    return found


@dataclass
class Members:
    """The memory of n networks of one architecture: what the last finished epoch of each has left.

    Vectors are unpadded. The order of their P numbers is that of `Layout.elements`.
    """

    vectors: NDArray[Any]  # (n, P), C-ordered, in the networks' dtype
    states: NDArray[Any]  # (n,) records STATE; a state's `optimizer` is the number of the fit that trained last
    optimizer_vectors: NDArray[Any] | None = None  # (n, V, P), C-ordered; V is at least what the last optimizer has
    optimizers: dict[int, MemberOptimizers] = field(default_factory=dict)  # of fits, by the numbers that states have
    affines: NDArray[np.float64] | None = None  # (n, 2, n_inputs): the shift and the scale, where each has its own

    @classmethod
    def zeros(cls, layout: Layout, n: int) -> Members:
        """Members whose parameters and states are zero."""
        return cls.of(np.zeros((n, len(layout.elements)), layout.dtype))

    @classmethod
    def of(cls, vectors: NDArray[Any]) -> Members:
        """Members with these parameters, whose states are zero."""
        return cls(vectors, aligned_zeros(len(vectors) * STATE.itemsize, STATE))

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def trained(self) -> NDArray[np.bool_]:
        """Which members have an optimizer that goes on from its state."""
        return np.isin(self.states["optimizer"], list(self.optimizers))

    @property
    def latest(self) -> MemberOptimizers:
        """The optimizers that trained each member last; for one that none has trained it means nothing."""
        n, numbers = len(self), self.states["optimizer"]
        parts, places = [], []
        for number, optimizers in self.optimizers.items():
            places.append(np.flatnonzero(numbers == number))
            parts.append(optimizers.take(places[-1]))
        places.append(np.flatnonzero(~self.trained))
        parts.append(MemberOptimizers.of(SGD(), len(places[-1])))
        joined = MemberOptimizers.joined([part for part in parts if len(part)])
        return joined.take(np.argsort(np.concatenate(places), kind="stable")) if n else joined

    def with_one_number(self) -> Members:
        """These members, whose optimizers are known by one number."""
        states = _aligned(self.states)
        states["optimizer"] = self.trained
        latest = {1: self.latest} if self.trained.any() else {}
        return Members(self.vectors, states, self.optimizer_vectors, latest, self.affines)

    def take(self, which: NDArray[np.int64]) -> Members:
        """Copies of some members."""
        vectors, optimizers = self.optimizer_vectors, {k: each.take(which) for k, each in self.optimizers.items()}
        some = None if vectors is None else vectors[which]
        affines = None if self.affines is None else self.affines[which]
        return Members(self.vectors[which], _aligned(self.states[which]), some, optimizers, affines)

    @classmethod
    def joined(cls, parts: Sequence[Members]) -> Members:
        """Copies of the members of several, one after another. All have shifts and scales of their own, or none has."""
        parts = [part.with_one_number() for part in parts]
        vectors = np.concatenate([part.vectors for part in parts])
        states = _aligned(np.concatenate([part.states for part in parts]))
        found = [part.optimizer_vectors for part in parts]
        most = max((each.shape[1] for each in found if each is not None), default=0)
        further = np.zeros((len(vectors), most, vectors.shape[1]), vectors.dtype) if most else None
        first = 0
        for part, each in zip(parts, found, strict=True):
            if each is not None and further is not None:
                further[first : first + len(part), : each.shape[1]] = each
            first += len(part)
        optimizers = {1: MemberOptimizers.joined([part.latest for part in parts])} if states["optimizer"].any() else {}
        affines = [part.affines for part in parts if part.affines is not None]
        return cls(vectors, states, further, optimizers, np.concatenate(affines) if affines else None)

    def train_by(self, optimizers: MemberOptimizers, n_vectors: int) -> int:
        """Make room for optimizers that have so many vectors; gives their number.

        A member whose last optimizer equals its new one has that number from now on. Any other's gets it when its first
        epoch ends: until then it keeps what it has.
        """
        if self.optimizer_vectors is None or self.optimizer_vectors.shape[1] < n_vectors:
            n, size = self.vectors.shape
            larger = np.zeros((n, n_vectors, size), self.vectors.dtype)
            if self.optimizer_vectors is not None:
                larger[:, : self.optimizer_vectors.shape[1]] = self.optimizer_vectors
            self.optimizer_vectors = larger
        number = max(self.optimizers, default=0) + 1
        known = dict(self.optimizers)
        self.optimizers = {**known, number: optimizers}
        for old, others in known.items():
            goes_on = (self.states["optimizer"] == old) & others.same(optimizers)
            self.states["optimizer"][goes_on] = number
        used = set(np.unique(self.states["optimizer"]).tolist()) | {number}
        self.optimizers = {each: found for each, found in self.optimizers.items() if each in used}
        return number


class Rows(NamedTuple):
    """An array of samples, one behind the other, and which of its rows belong to each of n members."""

    array: NDArray[Any]  # (all rows, ...), C-ordered
    starts: NDArray[np.int64]  # (n,): the first row of each
    counts: NDArray[np.int64]  # (n,): how many rows it has

    @classmethod
    def shared(cls, array: NDArray[Any], n: int) -> Rows:
        """All rows for each of n members."""
        return cls(array, np.zeros(n, np.int64), np.full(n, len(array), np.int64))

    def take(self, which: NDArray[np.int64]) -> Rows:
        """Those of some members."""
        return Rows(self.array, self.starts[which], self.counts[which])

    @property
    def whole(self) -> bool:
        """Whether each member has all rows of the array."""
        return not self.starts.any() and bool((self.counts == len(self.array)).all())

    @property
    def addresses(self) -> NDArray[np.int64]:
        """Where the first row of each member lies."""
        return np.int64(address_of(self.array)) + self.starts * self.array[:1].nbytes


class Numbers(NamedTuple):
    """Flat int32 numbers of rows that members see, counted from each one's first row: those of i lie between edges."""

    rows: NDArray[np.int32]
    edges: NDArray[np.int64]  # (n + 1,)

    def take(self, which: NDArray[np.int64]) -> Numbers:
        """Those of some members."""
        parts = [self.rows[self.edges[i] : self.edges[i + 1]] for i in which.tolist()]
        return Numbers(np.concatenate(parts), np.append(0, np.cumsum([len(part) for part in parts])))


@dataclass(frozen=True)
class MemberSamples:
    """Where the samples of each of n members lie. It keeps alive what the addresses lead to."""

    places: NDArray[Any]  # (n,) records records.PLACE
    x: Source  # what is common to all
    y: Source | None
    w: Source | None
    arrays: tuple[Any, ...] = field(repr=False, default=())

    @classmethod
    def of(
        cls, inputs: Rows, targets: Rows | None = None, weights: Rows | None = None, numbers: Numbers | None = None
    ) -> MemberSamples:
        """The samples of members that see all their rows, or those with some numbers."""

        def source(symbol: str, rows: Rows) -> Source:
            return Source.of(symbol, rows.array[: rows.counts.max(initial=1)])  # what a member sees of it

        places = np.zeros(len(inputs.starts), records.PLACE)
        places["inputs"], places["n"] = inputs.addresses, inputs.counts
        y = w = None
        if targets is not None:
            places["targets"], y = targets.addresses, source("targets", targets)
        if weights is not None:
            places["weights"], w = weights.addresses, source("weights", weights)
        if numbers is not None:
            places["rows"] = address_of(numbers.rows) + 4 * numbers.edges[:-1]
            places["n"] = np.diff(numbers.edges)
        return cls(places, source("samples", inputs), y, w, (inputs, targets, weights, numbers))

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

    Arrays over members have an entry for each member of the population, whether this task trains it or not.
    """

    which: NDArray[np.int64]  # the numbers of the members that it trains
    architecture: Architecture
    programs: Programs  # of the architecture: its layout, and plans that wait
    loading: Loading  # of the inputs
    kind: Kind  # of one thread
    members: Members
    settings: NDArray[Any]  # (n,) records `layout.settings_dtype`, or one for all; an engine writes nothing here
    runs: NDArray[Any]  # (n,) records records.RUN
    losses: NDArray[np.float64]  # (n, most epochs)
    samples: MemberSamples
    start: NDArray[Any]  # (1,) record STATE of a fresh optimizer: its `optimizer` is this fit's number, its `numbers`
    n_vectors: int  # how many vectors the optimizer has
    order: NDArray[np.int32] | None = None  # (epochs, rows), where it is given; the same for all

    @property
    def layout(self) -> Layout:
        """Where parameters lie in a padded vector."""
        return self.programs.layout

    @property
    def first_call(self) -> float:
        """Multiply-adds of the first compiled call, which mostly is the only one of a single step."""
        return calls.FIRST_SWEEP if self.kind.summed else calls.FIRST_CALL


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
