"""Products of matrices over the tile: the operations that make one up.

`ops` is a `Program`. Sizes count elements, addresses and strides bytes. Columns of B and C are counted in units of
64 bytes, because every row is padded to them.
"""

import itertools

from .simd import TILE_ROWS, TILE_UNITS, UNIT_BYTES


def _widths(units):
    """Columns of tiles for a width of `units`: two units where there are many, so that tiles are nearly square."""
    while units > 0:
        width = units if units <= TILE_UNITS else min(2, TILE_UNITS)
        yield width
        units -= width


def _column(ops, m, width, k, a, a_row, a_k, b, b_k, c0, c0_row, c, c_row):
    """One column of tiles, as even as they come: of two heights at most."""
    count = -(-m // TILE_ROWS[width])
    low, high = m // count, m % count
    for rows, n in ((low + 1, high), (low, count - high)):
        if n:
            ops.add(f"tiles_{rows}x{width}", n, k, a, a_row, a_k, b, b_k, c0, c0_row, c, c_row)
            done = n * rows
            a, c0, c = a + done * a_row, c0 + done * c0_row, c + done * c_row


def matmul(ops, m, units, k, a, a_row, a_k, b, b_row, c0, c0_row, c, c_row, between=()):
    """C = C0 + A @ B: A is (m, k) with any strides (A.T @ B too), B (k, units), C (m, units).

    C0 is what the sum starts from: a bias (c0_row = 0), zeros, or C itself, which updates it in place. `between`
    holds operations (name, *arguments) to be spread evenly through the product, which is split by rows for them.
    """
    widths = list(_widths(units))
    between = list(between)
    pieces = max(1, min(-(-len(between) // len(widths)), m // TILE_ROWS[widths[0]]))
    edges = [m * i // pieces for i in range(pieces + 1)]
    done, total = 0, pieces * len(widths)
    for i, width in enumerate(widths):
        for j, (first, stop) in enumerate(itertools.pairwise(edges)):
            due = len(between) * (i * pieces + j + 1) // total
            for operation in between[done:due]:
                ops.add(*operation)
            done = due
            places = a + first * a_row, a_row, a_k, b, b_row, c0 + first * c0_row, c0_row, c + first * c_row, c_row
            _column(ops, stop - first, width, k, *places)
        skip = width * UNIT_BYTES
        b, c0, c = b + skip, c0 + skip, c + skip


def matmul_nt(ops, itemsize, m, n, k, a, a_row, b, b_row, zeros, c, c_row, panel):
    """C = A @ B.T: A is (m, k), B (n, k), C (m, n padded with zeros to whole units); rows are padded to units.

    B is transposed in registers into `panel`: k padded to units, by at most TILE_UNITS units. `zeros` holds as many
    units as the widest panel.
    """
    unit = UNIT_BYTES // itemsize
    for width in _widths(-(-n // unit)):
        panel_row = width * UNIT_BYTES
        ops.add("transpose", n, k, b, b_row, zeros, panel, panel_row)
        _column(ops, m, width, k, a, a_row, itemsize, panel, panel_row, zeros, 0, c, c_row)
        b, c, n = b + width * unit * b_row, c + panel_row, n - width * unit
