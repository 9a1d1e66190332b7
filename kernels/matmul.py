"""Products of matrices over the tile: one driver, blocked over rows and columns.

All arguments are int64: sizes, byte addresses, strides in bytes. `lib` is the library's table. Columns of B and C
are counted in units of 64 bytes, because every row is padded to them.
"""

from numba import njit

from .library import TILE_STRIDE, TRANSPOSE, call_tile, call_transpose
from .simd import TILE_ROWS, TILE_UNITS, UNIT_BYTES, VECTOR_BYTES


@njit(nogil=True)
def _column(lib, m, width, k, a, a_row, a_k, b, b_row, c0, c0_row, c, c_row):
    """C = C0 + A @ B for one column of tiles, `width` units wide; the rows are dealt to them evenly."""
    tiles = (m + TILE_ROWS[width] - 1) // TILE_ROWS[width]
    small = m // tiles
    larger = m - small * tiles
    for t in range(tiles):
        rows = small + 1 if t < larger else small
        call_tile(lib, width * TILE_STRIDE + rows, a, a_row, a_k, b, b_row, k, c0, c0_row, c, c_row)
        a, c0, c = a + rows * a_row, c0 + rows * c0_row, c + rows * c_row


@njit(nogil=True)
def matmul(lib, m, units, k, a, a_row, a_k, b, b_row, c0, c0_row, c, c_row):
    """C = C0 + A @ B: A is (m, k) with any strides (A.T @ B too), B (k, units), C (m, units).

    C0 is what the sum starts from: a bias (c0_row = 0), zeros, or C itself, which updates it in place.
    """
    while units > 0:
        width = units if units <= TILE_UNITS else min(2, TILE_UNITS)
        _column(lib, m, width, k, a, a_row, a_k, b, b_row, c0, c0_row, c, c_row)
        skip = width * UNIT_BYTES
        b, c0, c, units = b + skip, c0 + skip, c + skip, units - width


@njit(nogil=True)
def matmul_nt(lib, itemsize, m, n, k, a, a_row, b, b_row, zeros, c, c_row, panel):
    """C = A @ B.T: A is (m, k), B (n, k), C (m, n padded with zeros to whole units).

    B, its rows padded to units, is transposed in registers into `panel`: k padded to units, by at most TILE_UNITS
    units. `zeros` holds as many units as the widest panel.
    """
    unit = UNIT_BYTES // itemsize
    lanes = VECTOR_BYTES // itemsize
    units = (n + unit - 1) // unit
    while units > 0:
        width = units if units <= TILE_UNITS else min(2, TILE_UNITS)
        panel_row = width * UNIT_BYTES
        for i in range(0, width * unit, lanes):
            for j in range(0, k, lanes):
                source, out = b + i * b_row + j * itemsize, panel + j * panel_row + i * itemsize
                call_transpose(lib, TRANSPOSE, n - i, source, b_row, zeros, out, panel_row)
        _column(lib, m, width, k, a, a_row, itemsize, panel, panel_row, zeros, 0, c, c_row)
        b += width * unit * b_row
        c += panel_row
        n, units = n - width * unit, units - width
