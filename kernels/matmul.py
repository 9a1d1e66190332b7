"""Products of matrices over the tile: the operations that make one up.

`ops` is a `Program`. Sizes count elements, addresses and strides bytes. Columns of B and C are counted in units of
64 bytes, because every row is padded to them.
"""

import math

from .library import bits
from .simd import HALVED, TILE_ROWS, TILE_UNITS, UNIT_BYTES


def _widths(units):
    """Columns of tiles for a width of `units`: two units where there are many, so that tiles are nearly square.

    Half a unit at the end makes the last column HALVED, where the CPU has such tiles, or counts as a whole one.
    """
    halved = HALVED and units != int(units) and units >= HALVED
    units = int(units - HALVED) if halved else math.ceil(units)
    while units > 0:
        width = units if units <= TILE_UNITS else min(2, TILE_UNITS)
        yield width
        units -= width
    if halved:
        yield HALVED


def _column(m, width):
    """One column of tiles, as even as they come: (height, number) twice at most."""
    count = -(-m // TILE_ROWS[math.ceil(width)])
    low, high = m // count, m % count
    return [(rows, n) for rows, n in ((low + 1, high), (low, count - high)) if n]


def matmul(ops, m, units, k, a, a_row, a_k, b, b_row, c0, c0_row, c, c_row, between=(), pack=None):
    """C = C0 + A @ B: A is (m, k) with any strides (A.T @ B too), B (k, units), C (m, units).

    C0 is what the sum starts from: a bias (c0_row = 0), zeros, or C itself, which updates it in place. Where `units`
    ends in a half, the other half of C's last unit may keep its value. `between` holds operations (name, *arguments) to
    be spread evenly through the product. `pack`, (place for k by TILE_UNITS units, itemsize), copies what a column of
    tiles needs of B there first: its rows may lie a page each apart, more pages than the core keeps the addresses of.
    """
    between = list(between)
    columns = [(width, _column(m, width)) for width in _widths(units)]
    total = sum(n for _, column in columns for _, n in column)
    done = added = 0  # tiles, and operations between them
    for width, column in columns:
        pa, pb, pb_row, pc0, pc = a, b, b_row, c0, c
        if pack:
            (pb, size), pb_row = pack, math.ceil(width) * UNIT_BYTES
            ops.add("gather", k, 0, 0, b, b_row, pb, pb_row, pb_row // size, bits(1.0))
        for rows, n in column:
            while n:
                due = total if added == len(between) else total * (added + 1) // (len(between) + 1)
                if due <= done:
                    ops.add(*between[added])
                    added += 1
                    continue
                now = min(n, due - done)
                ops.add(f"tiles_{rows}x{width}", now, k, pa, a_row, a_k, pb, pb_row, pc0, c0_row, pc, c_row)
                height = now * rows
                pa, pc0, pc = pa + height * a_row, pc0 + height * c0_row, pc + height * c_row
                n, done = n - now, done + now
        skip = math.ceil(width) * UNIT_BYTES
        b, c0, c = b + skip, c0 + skip, c + skip
    for operation in between[added:]:
        ops.add(*operation)


def matmul_nt(ops, itemsize, m, n, a, a_row, bs, zeros, c, c_row, panel):
    """C = A @ B.T: A is (m, k), B (n, k), C (m, n padded with zeros to whole units); rows are padded to units.

    bs are the parts that B's columns lie in: (columns, address, stride of rows), whole units but for the last. B is
    transposed in registers into `panel`: k padded to units, by at most TILE_UNITS units. `zeros` holds as many units
    as the widest panel.
    """
    unit, k, done = UNIT_BYTES // itemsize, sum(part[0] for part in bs), 0
    for width in _widths(-(-n // unit)):
        panel_row, at = width * UNIT_BYTES, panel
        for part_k, b, b_row in bs:
            ops.add("transpose", n - done, part_k, b + done * b_row, b_row, zeros, at, panel_row)
            at += part_k * panel_row
        matmul(ops, m, width, k, a, a_row, itemsize, panel, panel_row, zeros, 0, c, c_row)
        c, done = c + panel_row, done + width * unit
