"""What one core of this machine can do: its multiply-add peak and its memory's reading speed.

`python -m bench.roofline` prints both.
"""

import time

import numpy as np
from numba import njit

from fastnn.kernels import entry, library, simd
from fastnn.kernels.network import aligned_zeros

L1_BYTES = 24 * 1024  # of operands: fits in a first-level cache of 32 KiB


@njit(nogil=True)
def _call_tile(lib, place, a, b, c, k, calls):
    """`calls` times c = b[0] + a.T @ b, for a (k, rows) and b (k + 1, columns) in the same dtype."""
    a_row, a_k, row = a.itemsize, a.shape[1] * a.itemsize, b.shape[1] * b.itemsize
    bias, below = simd.address(b), simd.address(b) + row
    for _ in range(calls):
        library.call_tile(
            lib, place, simd.address(a), a_row, a_k, below, row, k, bias, np.int64(0), simd.address(c), row
        )


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
    table = entry.library(dtype)
    rng = np.random.default_rng(0)
    unit = simd.UNIT_BYTES // np.dtype(dtype).itemsize
    best = 0.0
    for units in range(1, simd.TILE_UNITS + 1):
        rows, columns = simd.TILE_ROWS[units], units * unit
        k = L1_BYTES // ((rows + columns) * np.dtype(dtype).itemsize)
        a, b, c = (
            aligned_zeros(n * np.dtype(dtype).itemsize, dtype).reshape(-1, width)
            for n, width in ((k * rows, rows), ((k + 1) * columns, columns), (rows * columns, columns))
        )
        a[...], b[...] = rng.random(a.shape), rng.random(b.shape)
        arguments = table.ctypes.data, units * library.TILE_STRIDE + rows, a, b, c, k
        _call_tile(*arguments, 1)
        if not np.allclose(c, b[0] + a.T @ b[1:], rtol=1e-4):
            raise ArithmeticError(f"the tile of {rows} rows and {units} units is wrong")
        calls = max(1, int(seconds / _best(lambda arguments=arguments: _call_tile(*arguments, 100), 3) * 100))
        least = _best(lambda arguments=arguments, calls=calls: _call_tile(*arguments, calls), repeats)
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
