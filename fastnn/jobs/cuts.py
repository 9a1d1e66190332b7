"""How long tasks are: a line of items is cut into parts that last about equally long, by the time of earlier ones."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

GROWTH = 16  # times as much work as that of the last part whose time is known


class Span(NamedTuple):
    """Consecutive items."""

    start: int
    stop: int

    @property
    def items(self) -> slice:
        """What takes them from an array."""
        return slice(self.start, self.stop)

    def __str__(self) -> str:
        return f"{self.start} to {self.stop - 1}"


class Cuts:
    """Consecutive parts of n items. The first ones are small, so that their time tells how long the next ones are."""

    def __init__(self, work: NDArray[np.float64], seconds: float, workers: int, least: int = 1):
        """work (n,): of each item, in any unit. seconds: of a part. least: items of which a part has a multiple."""
        self._ends, self._seconds, self._workers, self._least = np.cumsum(work), seconds, workers, least
        self._first, self._most = 0, 0.0  # the next part's first item; its work at most, 0 if that is not known

    def next(self) -> Span | None:
        """The next part; None where nothing is left."""
        first, n = self._first, len(self._ends)
        if first == n:
            return None
        done, least = self._work(Span(0, first)), self._least
        wanted = min(self._most, (self._ends[-1] - done) / self._workers)
        stop = int(np.searchsorted(self._ends, done + wanted, "right")) if wanted else first
        self._first = min(n, first + max(1, -(-(stop - first) // least)) * least)
        return Span(first, self._first)

    def note(self, part: Span, seconds: float) -> None:
        """A part took so long."""
        work = self._work(part)
        self._most = work * min(GROWTH, self._seconds / max(seconds, 1e-9))

    def _work(self, part: Span) -> float:
        """The work of a part."""
        before = self._ends[part.start - 1] if part.start else 0.0
        return float(self._ends[part.stop - 1] - before) if part.stop else 0.0
