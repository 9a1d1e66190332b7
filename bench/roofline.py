"""What one core of this machine can do: its multiply-add peak and its memory's reading speed.

`python -m bench.roofline` prints both.
"""

import time

import numpy as np
from numba import njit

from fastnn.kernels import entry, library, simd
from fastnn.kernels.network import Program, aligned_zeros

L1_BYTES = 24 * 1024  # of operands: fits in a first-level cache of 32 KiB


@njit(nogil=True)
def _repeat(program, times):
    """Run a program, int64 (operations, WIDTH), several times."""
    for _ in range(times):
        library.run_program(simd.address(program), program.shape[0])


@njit(nogil=True, fastmath={"reassoc", "nsz"})
def _sum(x):
    total = x.dtype.type(0)
    for i in range(x.size):
        total += x[i]
    return total


def _best(function, repeats):
    """The least seconds of a call."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def fma_peak(dtype="float32", repeats=10, seconds=0.005):
    """GFLOP/s of one core with all operands in L1: the best of the library's tallest tiles, a few repeats each."""
    rng = np.random.default_rng(0)
    itemsize = np.dtype(dtype).itemsize
    best = 0.0
    for units in range(1, simd.TILE_UNITS + 1):
        rows, columns = simd.TILE_ROWS[units], units * simd.UNIT_BYTES // itemsize
        k = L1_BYTES // ((rows + columns) * itemsize)
        a, b, c = (
            aligned_zeros(n * itemsize, dtype).reshape(-1, width)
            for n, width in ((k * rows, rows), ((k + 1) * columns, columns), (rows * columns, columns))
        )
        a[...], b[...] = rng.random(a.shape), rng.random(b.shape)
        ops, row = Program(entry.library(dtype)), columns * itemsize  # c = b[0] + a.T @ b[1:]
        places = a.ctypes.data, itemsize, rows * itemsize, b.ctypes.data + row, row, b.ctypes.data, 0, c.ctypes.data
        ops.add(f"tiles_{rows}x{units}", 1, k, *places, row)
        program = ops.array()
        _repeat(program, 1)
        if not np.allclose(c, b[0] + a.T @ b[1:], rtol=1e-4):
            raise ArithmeticError(f"the tile of {rows} rows and {units} units is wrong")
        calls = max(1, int(seconds / _best(lambda program=program: _repeat(program, 100), 3) * 100))
        least = _best(lambda program=program, calls=calls: _repeat(program, calls), repeats)
        best = max(best, 2 * k * rows * columns * calls / least / 1e9)
    return best


def read_bandwidth(n_bytes=2**28, repeats=5):
    """GB/s at which one core reads an array that is larger than the caches."""
    x = np.ones(n_bytes // 4, np.float32)
    _sum(x[:16])
    return n_bytes / _best(lambda: _sum(x), repeats) / 1e9


if __name__ == "__main__":
    print(f"one core: {fma_peak():.1f} GFLOP/s float32, {fma_peak('float64'):.1f} float64")
    print(f"memory read: {read_bandwidth():.1f} GB/s")
