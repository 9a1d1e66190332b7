"""How much one kernel call does: Ctrl-C, progress bars and other threads wait for it."""

from __future__ import annotations

import time
from collections.abc import Iterator

CALL_SECONDS = 0.05  # how long a kernel call may run
FIRST_CALL = 2e7  # multiply-adds of the first call, before its speed is known
PIECE_BYTES = 2**26  # of an array that NumPy checks or copies at a time


class CallLength:
    """How many blocks of samples the next kernel call takes on, by how long the last one took."""

    def __init__(self, multiply_adds: float):
        """multiply_adds are those of a block."""
        self.blocks = max(1, int(FIRST_CALL / multiply_adds))

    def note(self, seconds: float, done: int) -> None:
        """A call did so many blocks. It may have ended early, at the end of an epoch or of the samples."""
        wanted = int(done * CALL_SECONDS / max(seconds, 1e-9))
        whole = done == self.blocks
        self.blocks = max(1, min(wanted, 4 * self.blocks) if whole else max(wanted, self.blocks))


def pieces(n: int, block_rows: int, multiply_adds: float) -> Iterator[tuple[int, int]]:
    """(first, stop) of consecutive rows, whole blocks, n in all; what is done with each piece is timed.

    multiply_adds are those of a row.
    """
    length, first = CallLength(multiply_adds * block_rows), 0
    while first < n:
        stop = min(n, first + length.blocks * block_rows)
        began = time.perf_counter()
        yield first, stop
        length.note(time.perf_counter() - began, -(-(stop - first) // block_rows))
        first = stop


def row_slices(n: int, row_bytes: int) -> Iterator[slice]:
    """Slices of n rows, each about PIECE_BYTES large, for what NumPy does in one uninterruptible call."""
    rows = max(1, PIECE_BYTES // max(1, row_bytes))
    for first in range(0, n, rows):
        yield slice(first, min(n, first + rows))
