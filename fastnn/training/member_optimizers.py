"""The optimizers of a population's members: a few kinds, and a table of their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks.scalars import shown
from ..kernels.formulas.update_rules import OPTIMIZERS
from ..settings import optimizers
from ..settings.each import Each
from ..settings.optimizers import FullBatch, Optimizer, schedules

MAX_FIELDS = 8  # numbers that an optimizer has


def _numbers_of(optimizer: Optimizer) -> dict[str, Any]:
    """The numbers of an optimizer by the names of their fields; of a schedule its `learning_rate`, if it has one."""
    found = {each.name: getattr(optimizer, each.name) for each in fields(optimizer)}
    found |= {name: getattr(schedule, "learning_rate", 0.0) for name, schedule in schedules(optimizer).items()}
    return {name: value for name, value in found.items() if value is not None and not isinstance(value, (bool, tuple))}


def _with(optimizer: Optimizer, numbers: dict[str, float]) -> Optimizer:
    """A copy of an optimizer with other numbers, which were checked."""
    made = optimizers.as_it_is(optimizer)
    vars(made).update(numbers)
    for name, schedule in schedules(optimizer).items():
        if hasattr(schedule, "learning_rate"):
            schedule = optimizers.as_it_is(schedule)
            vars(schedule)["learning_rate"] = numbers[name]
        vars(made)[name] = schedule
    return made


@dataclass(frozen=True, eq=False)
class MemberOptimizers:
    """The optimizer of each of n members: its kind, and its numbers in the order of the kind's fields."""

    kinds: tuple[Optimizer, ...]  # whose numbers are zero
    which: NDArray[np.int64]  # (n,)
    numbers: NDArray[np.float64]  # (n, MAX_FIELDS), zeros behind

    @classmethod
    def of(cls, optimizer: Any, n: int) -> MemberOptimizers:
        """The optimizers that an argument stands for: one, whose numbers may be arrays (n,), or a sequence of n."""
        if isinstance(optimizer, (list, tuple)):
            return cls._of_sequence(optimizer, n)
        if isinstance(optimizer, FullBatch):
            raise ValueError(f"optimizer must take steps by batches to train a population, got {shown(optimizer)}")
        if not isinstance(optimizer, Optimizer):
            optimizer = optimizers.resolve(optimizer)
        table, values = np.zeros((n, MAX_FIELDS)), _numbers_of(optimizer)
        for column, (name, value) in enumerate(values.items()):
            if isinstance(value, Each) and len(value) != n:
                raise ValueError(
                    f"{name} of {type(optimizer).__name__} must be a number, or an array of one for each of {n} "
                    f"members, got {len(value)}"
                )
            table[:, column] = value.values if isinstance(value, Each) else value
        return cls((_with(optimizer, dict.fromkeys(values, 0.0)),), np.zeros(n, np.int64), table)

    @classmethod
    def _of_sequence(cls, found: Sequence[Any], n: int) -> MemberOptimizers:
        """The optimizers of a sequence with one for each member."""
        if len(found) != n:
            raise ValueError(f"optimizer must be one, or a sequence of one for each of {n} members, got {len(found)}")
        if any(isinstance(each, FullBatch) for each in found):
            raise ValueError("optimizer must take steps by batches to train a population, got one of the whole set")
        known: dict[int, MemberOptimizers] = {}  # most are the same object
        made = []
        for each in found:
            resolved = known.get(id(each))
            if resolved is None:
                resolved = known[id(each)] = cls.of(optimizers.resolve(each), 1)
            made.append(resolved)
        return cls.joined(made)

    @classmethod
    def joined(cls, parts: Sequence[MemberOptimizers]) -> MemberOptimizers:
        """The members of several, one after another."""
        kinds: list[Optimizer] = []
        which = []
        for part in parts:
            for kind in part.kinds:
                if kind not in kinds:
                    kinds.append(kind)
            places = np.array([kinds.index(kind) for kind in part.kinds])
            which.append(places[part.which])
        numbers = np.concatenate([part.numbers for part in parts])
        return cls(tuple(kinds), np.concatenate(which), numbers)

    def __len__(self) -> int:
        return len(self.which)

    def __getitem__(self, i: int) -> Optimizer:
        """The optimizer of a member."""
        kind = self.kinds[self.which[i]]
        return _with(kind, dict(zip(_numbers_of(kind), self.numbers[i].tolist(), strict=False)))

    @property
    def n_vectors(self) -> int:
        """The most vectors that one of the kinds has."""
        return max(len(OPTIMIZERS[kind._kernel].vectors) for kind in self.kinds)

    @property
    def changes(self) -> bool:
        """Whether a weight decay changes by epoch."""
        return any(optimizers.decay_schedule(kind) for kind in self.kinds)

    def take(self, which: NDArray[np.int64]) -> MemberOptimizers:
        """The optimizers of some members."""
        return MemberOptimizers(self.kinds, self.which[which], self.numbers[which])

    def same(self, other: MemberOptimizers) -> NDArray[np.bool_]:
        """Which members have equal optimizers in both."""
        alike = np.array([[kind == another for another in other.kinds] for kind in self.kinds])
        return alike[self.which, other.which] & (self.numbers == other.numbers).all(axis=1)

    def column(self, kind: int, name: str) -> NDArray[np.float64]:
        """The numbers (n,) of a field of a kind; what it gives for members of other kinds means nothing."""
        return self.numbers[:, list(_numbers_of(self.kinds[kind])).index(name)]

    def settings(self, kind: int) -> NDArray[np.float64]:
        """The numbers (n, settings) as the kernel of a kind takes them; NaN for one that changes."""
        optimizer, columns = self.kinds[kind], []
        changing = schedules(optimizer)
        for name in OPTIMIZERS[optimizer._kernel].settings:
            if name in changing:
                columns.append(np.full(len(self), np.nan))
            elif name.startswith("_"):  # what follows from a number, by Python's arithmetic
                columns.append(self._derived(kind, name))
            else:
                columns.append(self.column(kind, name))
        return np.stack(columns, axis=1)

    def check(self, kind: int, which: NDArray[np.int64]) -> None:
        """Raise where the numbers of members of a kind are none that such an optimizer takes."""
        optimizer = self.kinds[kind]
        values: dict[str, Any] = {name: self.column(kind, name)[which] for name in _numbers_of(optimizer)}
        for name, schedule in schedules(optimizer).items():
            first = values.pop(name)
            values[name] = replace(schedule, learning_rate=first) if hasattr(schedule, "learning_rate") else schedule  # type: ignore[type-var]
        replace(optimizer, **values)

    def _derived(self, kind: int, name: str) -> NDArray[np.float64]:
        """A property of the optimizers of a kind, which is taken once for equal numbers."""
        rows, places = np.unique(self.numbers, axis=0, return_inverse=True)
        names = list(_numbers_of(self.kinds[kind]))
        made = [_with(self.kinds[kind], dict(zip(names, row, strict=False))) for row in rows.tolist()]
        return np.array([float(getattr(each, name)) for each in made])[places.ravel()]
