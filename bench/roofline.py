"""What one core of this machine can do: its multiply-add peak and its memory's reading speed."""

import numpy as np
from numba import njit

from fastnn.kernels.cpu.target import HOST
from fastnn.kernels.loops import instructions
from fastnn.kernels.programs.memory import aligned_zeros
from fastnn.kernels.programs.program import OPERATION_WORDS, Code, Program
from fastnn.kernels.vector.library import library
from fastnn.kernels.vector.matrix import LINE_BYTES, Matrix

from .timing import least_seconds

ROUNDS, OPTIONS = 10, {}
L1_BYTES = 24 * 1024  # bytes of all operands together; they fit in a first-level cache of 32 KiB


@njit(nogil=True)
def repeat(operations, times):
    """Run a program several times."""
    for _ in range(times):
        instructions.run_program(instructions.address(operations), operations.size // OPERATION_WORDS)


@njit(nogil=True, fastmath={"reassoc", "nsz"})
def _sum(x):
    total = x.dtype.type(0)
    for i in range(x.size):
        total += x[i]
    return total


def fma_peak(dtype="float32", rounds=ROUNDS, seconds=0.005):
    """GFLOP/s of one core with all operands in L1: the best of the library's tallest tiles, a few repeats each."""
    rng = np.random.default_rng(0)
    itemsize = np.dtype(dtype).itemsize
    best = 0.0
    for lines in range(1, HOST.tile_lines + 1):
        rows, columns = HOST.tile_rows[lines], lines * LINE_BYTES // itemsize
        k = L1_BYTES // ((rows + columns) * itemsize)
        a, b, c = (
            aligned_zeros(n * itemsize, dtype).reshape(-1, width)
            for n, width in ((k * rows, rows), ((k + 1) * columns, columns), (rows * columns, columns))
        )
        a[...], b[...] = rng.random(a.shape), rng.random(b.shape)
        A, B, C = (Matrix.row_major(x.ctypes.data, *x.shape, x.strides[0], dtype) for x in (a, b, c))
        program = Program(HOST, dtype)  # c = b[0] + a.T @ b[1:]
        program.add(f"tiles_{rows}x{lines}", C=C, A=A.T, B=B[1:, :], C0=B[:1, :].broadcast(rows), tiles=1)
        operations = Code([program], library(dtype)).operations
        repeat(operations, 1)
        if not np.allclose(c, b[0] + a.T @ b[1:], rtol=1e-4):
            raise ArithmeticError(f"the tile of {rows} rows and {lines} lines is wrong")
        calls = max(1, int(seconds / least_seconds(lambda: repeat(operations, 100), 3, 0) * 100))  # noqa: B023
        least = least_seconds(lambda: repeat(operations, calls), rounds, 0)  # noqa: B023
        best = max(best, 2 * k * rows * columns * calls / least / 1e9)
    return best


def read_bandwidth(n_bytes=2**28, rounds=ROUNDS):
    """GB/s at which one core reads an array that is larger than the caches."""
    x = np.ones(n_bytes // 4, np.float32)
    _sum(x[:16])
    return n_bytes / least_seconds(lambda: _sum(x), rounds, 0) / 1e9


def run(options):
    """Print both."""
    seconds, n_bytes = (1e-4, 2**16) if options.quick else (0.005, 2**28)
    one, other = (fma_peak(dtype, options.rounds, seconds) for dtype in ("float32", "float64"))
    print(f"one core: {one:.1f} GFLOP/s float32, {other:.1f} float64")
    print(f"memory read: {read_bandwidth(n_bytes, options.rounds):.1f} GB/s")
