"""How much one kernel call does: Ctrl-C, progress bars and other threads wait for it."""

from __future__ import annotations

import time
from collections.abc import Iterator

CALL_SECONDS = 0.05  # how long a kernel call may run
FIRST_CALL = 2e7  # multiply-adds of the first call of training, before its speed is known
FIRST_SWEEP = 5e8  # multiply-adds of the first call of a prediction or the like, which mostly is the only one
PIECE_BYTES = 2**25  # how many bytes of an array NumPy checks or copies at a time


class CallLength:
    """How many blocks of samples the next kernel call takes, by the time of the last one."""

    def __init__(self, multiply_adds: float, first: float):
        """multiply_adds: those of a block. first: those of the first call."""
        self.blocks = max(1, int(first / multiply_adds))

    def note(self, seconds: float, done: int) -> None:
        """Note that a call did `done` blocks. It may have ended early, at the end of an epoch or of the samples."""
        wanted = int(done * CALL_SECONDS / max(seconds, 1e-9))
        whole = done == self.blocks
        self.blocks = max(1, min(wanted, 4 * self.blocks) if whole else max(wanted, self.blocks))


def pieces(n: int, rows: int, multiply_adds: float) -> Iterator[tuple[int, int]]:
    """(first, stop) of consecutive rows, n in all, each piece a multiple of `rows` but the last one.

    The last one has more than one row, unless n is 1. multiply_adds: those of a row. The caller's time for each piece
    decides how long the next one is.
    """
    length, first = CallLength(multiply_adds * rows, FIRST_SWEEP), 0
    while first < n:
        stop = min(n, first + length.blocks * rows)
        stop = n if stop == n - 1 else stop
        began = time.perf_counter()
        yield first, stop
        length.note(time.perf_counter() - began, -(-(stop - first) // rows))
        first = stop


def row_slices(n: int, row_bytes: int) -> Iterator[slice]:
    """Slices of n rows, each about PIECE_BYTES large, for what NumPy does in one uninterruptible call."""
    rows = max(1, PIECE_BYTES // max(1, row_bytes))
    for first in range(0, n, rows):
        yield slice(first, min(n, first + rows))
