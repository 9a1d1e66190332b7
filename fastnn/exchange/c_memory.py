"""Where the values of a computation lie in C: on the stack, in as little of it as the times allow in which they live.

Numbers of the network's type lie in the array `work`, the parts of dates of a table, which are double, in `parts`.
Step i takes place at time i and gives value i + 1. Steps of `GATHERED` take each value that they read as soon as it is
there, so that of many networks whose outputs are averaged one is in memory at a time.
"""

from __future__ import annotations

from . import c_columns, c_functions
from .c_functions import Place
from .computation import INPUTS, KEPT, Computation

GATHERED = ("joined", "mean")
WRITERS = c_functions.WRITERS | c_columns.WRITERS


class Plan:
    """Where each value lies, the inputs first, and how many numbers the arrays have for those in between."""

    def __init__(self, computation: Computation):
        self._steps, self._widths = computation.steps, computation.widths
        n = len(self._steps)
        self._readers = [
            [i for i, step in enumerate(self._steps) for read in step.reads if read == v] for v in range(n + 1)
        ]
        self._inside = {v: found for v in range(1, n) if (found := self._owner(v)) is not None}
        self.places = [Place("x", 0, self._widths[INPUTS])] * (n + 1)
        self.sizes = {"work": 0, "parts": 0}
        self._place(n)

    def _owner(self, value: int) -> tuple[int, int] | None:
        """The value that this one lies in, and where in it, if another one takes it over and nothing else reads it."""
        if len(self._readers[value]) != 1:
            return None
        (reader,) = self._readers[value]
        step = self._steps[reader]
        if step.function == "joined" and step.own is None:
            return reader + 1, sum(self._widths[read] for read in step.reads[: step.reads.index(value)])
        gathered = step.function == "mean" and step.own is None
        in_place = step.own is not None or WRITERS[step.function].in_place
        takes = value == min(step.reads) if gathered else in_place and value == step.reads[0]
        return (reader + 1, 0) if takes else None

    def _outermost(self, value: int) -> tuple[int, int]:
        """The value that a value lies in and that lies in no other, and where in it."""
        first = 0
        while value in self._inside:
            value, more = self._inside[value]
            first += more
        return value, first

    def _life(self, value: int) -> tuple[int, int]:
        """The first and the last time in which a value is needed."""
        step, born = self._steps[value - 1], value - 1
        if step.function in GATHERED and step.own is None:
            born = min(read - 1 for read in step.reads)
        gone = [value - 1 if self._steps[i].function in GATHERED else i for i in self._readers[value]]
        return born, max(gone, default=len(self._steps))

    def _place(self, n: int) -> None:
        lives = dict[int, tuple[int, int]]()
        for value in range(1, n + 1):
            outer, _ = self._outermost(value)
            (born, gone), (first, last) = self._life(value), lives.get(outer, (n, -1))
            lives[outer] = min(born, first), max(gone, last)
        starts, arrays = dict[int, int](), dict[int, str]()
        for value in sorted(lives.keys() - {n}, key=lambda value: -self._widths[value]):  # the largest first
            array = arrays[value] = "parts" if self._steps[value - 1].function in KEPT else "work"
            meanwhile = [v for v in starts if lives[v][0] <= lives[value][1] and lives[value][0] <= lives[v][1]]
            start = 0
            for other in sorted((v for v in meanwhile if arrays[v] == array), key=starts.__getitem__):
                if starts[other] < start + self._widths[value]:
                    start = max(start, starts[other] + self._widths[other])
            starts[value] = start
            self.sizes[array] = max(self.sizes[array], start + self._widths[value])
        for value in range(1, n + 1):
            outer, first = self._outermost(value)
            array = arrays.get(outer, "y")
            self.places[value] = Place(array, first + starts.get(outer, 0), self._widths[value])
