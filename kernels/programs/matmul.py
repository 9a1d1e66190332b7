"""Products of matrices over the tile: the operations that make one up, whichever way the operands lie.

A row of C is walked in columns of tiles. The tile wants C and B with contiguous rows, and takes A with any strides. So
where C's columns are contiguous, the transposed product is computed (C.T = C0.T + B.T @ A.T); and where B's are, B is
packed: transposed into the pack buffer, a column of tiles at a time. Where a product of A.T is wide, A is packed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence

from ..cpu.target import LINE_BYTES, Target
from ..vector.matrix import ITEMSIZE, Matrix, networks_of, padded
from ..vector.tile import GROUP_ROW, grid
from .program import Operation, Program, elementwise

PACKED_COLUMNS = 2  # columns of tiles that pay for packing the samples
PACKED_ROWS = 120  # rows of the gradient for which the samples are packed at a time
GROUP_SUM = 64  # terms of a group's sums that tiles add at a time: the lines of a tile's A and B fit the L1 cache
TRANSPOSE, INNER_SUMS = 90, 4  # vector operations that transpose a square in registers, and that sum one sum's lanes
L1_BYTES = 2**15  # what is larger leaves the L1 cache before it is read again
RANGE_BYTES = 2**14  # about so many bytes of a larger C go to the epilogue at a time, while they are in the cache

TileRange = tuple[slice, slice]  # rows and columns of C, a range of complete tiles
WHOLE = slice(None), slice(None)


def no_epilogue(tile_range: TileRange) -> None:
    """The epilogue of a product that needs none."""


def _tile_widths(target: Target, lines: float) -> Iterator[float]:
    """The widths of the columns of tiles.

    Half a line at the end makes the last column half a line narrower, where the CPU has such tiles, or counts whole.
    """
    narrow = target.half_line_width or math.inf
    halved = lines != int(lines) and lines >= narrow
    left = int(lines - narrow) if halved else math.ceil(lines)
    while left > 0:
        width = left if left <= target.tile_lines else target.usual_lines
        yield width
        left -= width
    if halved:
        yield narrow


def _lines(c: Matrix) -> float:
    """How many lines a row of C fills, to the next half."""
    return math.ceil(2 * c.cols * c.itemsize / LINE_BYTES) / 2


def _row_widths(target: Target, lines: int) -> Iterator[float]:
    """The widths of the columns of tiles of a single row, the widest first."""
    for width in target.row_widths:
        yield from [width] * (lines // width)
        lines %= width


def _tile_heights(target: Target, m: int, width: float) -> list[tuple[int, int]]:
    """A column of tiles, as even as they come: (height, number) twice at most."""
    return [(1, 1)] if m == 1 else _even(m, target.most_rows(width))


def _even(m: int, most: int) -> list[tuple[int, int]]:
    """m as a sum of numbers that differ by 1 at most, none above `most`: one or two pairs (number, how often)."""
    count = -(-m // most)
    low, high = m // count, m % count
    return [(rows, n) for rows, n in ((low + 1, high), (low, count - high)) if n]


def matmul(
    program: Program,
    c: Matrix,
    a: Matrix,
    b: Matrix | Sequence[Matrix],
    c0: Matrix,
    *,
    pack_buffer: Matrix | None = None,
    zeros: Matrix | None = None,
    interleave: Iterable[Operation] = (),
    epilogue: Callable[[TileRange], None] = no_epilogue,
) -> None:
    """C = C0 + A @ B: A is (m, k), B (k, n), C and C0 (m, n). Rows of C are padded to whole lines.

    C0 is what the sum starts from: a bias or zeros in each row, or C itself, which is then updated in place. Each sum
    runs through k in its order, whichever way the operands lie, but for a C of a single row. A B that is transposed may
    be several matrices, one below the other; pack_buffer holds k rows of the widest tiles for it. zeros is a row of at
    least that width, read behind B's last column. `interleave` holds operations to spread evenly through the product.
    `epilogue` adds the operations for a range of C that is complete, while it is in the L1 cache.
    """
    stack = [b] if isinstance(b, Matrix) else list(b)
    k, n = sum(matrix.rows for matrix in stack), stack[0].cols
    if (a.rows, a.cols, n) != (c.rows, k, c.cols) or any(matrix.cols != n for matrix in stack):
        raise ValueError(f"{c} = {a} @ {' '.join(map(str, stack))}: the shapes do not fit")
    swap = not c.is_row_major
    if swap:
        (matrix,) = stack
        a, stack, c, c0 = matrix.T, [a.T], c.T, c0.T
    if networks_of(c.dtype)[1] > 1:
        program.extend(interleave)
        _group_matmul(program, c, a, stack[0], c0, epilogue)
        return
    pack = not stack[0].is_row_major
    whole = swap or pack  # whole lines of C have to be written: padding of samples, or of a transposed B
    start_column = swap and c0.col_stride == 0  # a bias, one for each row of the transposed product
    columns = _tile_columns(program.target, c, whole, start_column)
    spread = _Spread(program, interleave, sum(count for _, heights in columns for _, count in heights))
    first = 0  # column
    begin, in_ranges = 0, c.rows * c.row_stride > L1_BYTES
    for width, heights in columns:
        stop = min(first + math.ceil(width) * LINE_BYTES // c.itemsize, c.cols)
        b_column = stack[0][:, first:stop]
        if pack:
            b_column = _packed(program, stack, first, stop, width, pack_buffer, zeros)
        row = 0
        for height, count in heights:
            while count:
                now = spread.take(count)
                rows = slice(row, row + now * height)
                program.add(
                    f"tiles_{height}x{width}{'_column' * start_column}",
                    C=c[rows, first:stop],
                    A=a[rows, :],
                    B=b_column,
                    C0=c0[rows, 0:1] if start_column else c0[rows, first:stop],
                    tiles=now,
                )
                row, count = row + now * height, count - now
        if in_ranges and ((stop - begin) * c.rows * c.itemsize >= RANGE_BYTES or stop == c.cols):
            tile_range = slice(0, c.rows), slice(begin, stop)
            epilogue(tile_range[::-1] if swap else tile_range)
            begin = stop
        first = stop
    spread.finish()
    if not in_ranges:
        epilogue(WHOLE)


def _tile_columns(
    target: Target, c: Matrix, whole: bool, start_column: bool
) -> list[tuple[float, list[tuple[int, int]]]]:
    """The columns of tiles of a product: each one's width in lines, and its heights."""
    lines = _lines(c)
    if start_column and c.rows == 1:
        widths = _row_widths(target, math.ceil(lines))
    else:
        widths = _tile_widths(target, math.ceil(lines) if whole else lines)
    return [(width, _tile_heights(target, c.rows, width)) for width in widths]


def _group_matmul(
    program: Program, c: Matrix, a: Matrix, b: Matrix, c0: Matrix, epilogue: Callable[[TileRange], None]
) -> None:
    """C = C0 + A @ B of a group of networks, whose elements are lines: B is not packed, and may be transposed.

    Tiles are as even as they come, and as square as possible: one of r x w takes r + w loads for r * w multiply-adds.
    Longer sums are added in pieces, each to what the one before has left in C.
    """
    most, ending = program.target.group_tile_rows, "" if b.is_row_major else "_transposed"
    widest = max(w for w in range(1, len(most)) if most[w] >= min(c.rows, w))
    ranged = c.rows * c.row_stride > L1_BYTES
    at_once = RANGE_BYTES // (c.rows * LINE_BYTES) if ranged else c.cols
    for width, cols, across in _runs(c.cols, widest, at_once):
        for _, terms, _ in _runs(a.cols, GROUP_SUM, 1):
            start = c if terms.start else c0
            for height, rows, down in _runs(c.rows, most[width]):
                operands = {"C": c[rows, cols], "A": a[rows, terms], "B": b[terms, cols], "C0": start[rows, cols]}
                program.add(f"group_tiles_{height}x{width}{ending}", grid=grid(down, across), **operands)
        if ranged:
            epilogue((slice(0, c.rows), cols))
    if not ranged:
        epilogue(WHOLE)


def _runs(n: int, most: int, at_once: int | None = None) -> Iterator[tuple[int, slice, int]]:
    """n in parts that are as even as they come, none above `most`, in runs of equal ones: (a part, the run, how many).

    A run has one part, or at most `at_once` of n in all.
    """
    first = 0
    for size, count in _even(n, most):
        longest = count if at_once is None else max(1, at_once // size)
        for done in range(0, count, longest):
            parts = min(longest, count - done)
            yield size, slice(first, first + parts * size), parts
            first += parts * size


class _Spread:
    """Operations that are spread evenly through the tiles of a product."""

    def __init__(self, program: Program, operations: Iterable[Operation], tiles: int):
        self.program, self.operations, self.tiles = program, list(operations), tiles
        self.done = self.added = 0  # tiles, and operations

    def take(self, count: int) -> int:
        """How many of so many tiles come before the next operation; those that are due now are added."""
        while self._due() <= self.done:
            self.program.extend([self.operations[self.added]])
            self.added += 1
        now = min(count, self._due() - self.done)
        self.done += now
        return now

    def _due(self) -> int:
        """The number of tiles before the next operation."""
        n = len(self.operations)
        return self.tiles if self.added == n else self.tiles * (self.added + 1) // (n + 1)

    def finish(self) -> None:
        """Add the operations that are left."""
        self.program.extend(self.operations[self.added :])


def _packed(
    program: Program,
    stack: Sequence[Matrix],
    first: int,
    stop: int,
    width: float,
    pack_buffer: Matrix | None,
    zeros: Matrix | None,
) -> Matrix:
    """Columns `first` to `stop` of B's matrices, packed: in the pack buffer, whose rows are as wide as a tile."""
    if pack_buffer is None:
        raise ValueError(f"{stack[0]} has to be packed, and there is no pack buffer")
    row_stride = math.ceil(width) * LINE_BYTES
    size = pack_buffer.itemsize
    k, done = sum(matrix.rows for matrix in stack), 0
    packed = Matrix.row_major(pack_buffer.address, k, row_stride // size, row_stride, pack_buffer.dtype, "pack_buffer")
    for matrix in stack:
        place = packed[done : done + matrix.rows, :]
        # All columns from the first on: the transpose reads only as many as a row of `place` has room for.
        program.add("transpose", source=matrix[:, first:].T, out=place, zeros=zeros)
        done += matrix.rows
    return packed[:, : stop - first]


def zeros_like(matrix: Matrix, zeros: Matrix) -> Matrix:
    """Zeros of a matrix's shape, a row of them repeated along its contiguous axis."""
    if matrix.is_row_major:
        return zeros[:, : matrix.cols].broadcast(matrix.rows)
    return zeros[:, : matrix.rows].broadcast(matrix.cols).T


def affine(
    program: Program, out: Matrix, x: Matrix, w: Matrix, b: Matrix, epilogue: Callable[[TileRange], None] = no_epilogue
) -> None:
    """out = x @ W + b; `epilogue` is as in `matmul`."""
    matmul(program, out, x, w, b.broadcast(out.rows), epilogue=epilogue)


def matmul_tn(
    program: Program,
    c: Matrix,
    a: Matrix,
    b: Matrix,
    c0: Matrix,
    *,
    pack_buffer: Matrix,
    zeros: Matrix,
    interleave: Iterable[Operation] = (),
) -> None:
    """C = C0 + A.T @ B: the sum over the samples, rows of A and B, of their outer products.

    Where samples are contiguous in both, inner products of their columns may take fewer operations than transposing B.
    """
    if not b.is_row_major and _inner_pays(program.target, a, b):
        if c0 is not c:
            elementwise(program, "zero", c)
        program.extend(interleave)
        program.add("inner", A=a.T, B=b.T, C=c, zeros=zeros)
        return
    wide = _columns_of_packed(program.target, c, a, b)
    if wide:
        _multiply_packed(program, c[:, :wide], a, b[:, :wide], c0[:, :wide], pack_buffer, interleave)
        if wide == c.cols:
            return
        c, b, c0, interleave = c[:, wide:], b[:, wide:], c0[:, wide:], ()
    matmul(program, c, a.T, b, c0, pack_buffer=pack_buffer, zeros=zeros, interleave=interleave)


def _columns_of_packed(target: Target, c: Matrix, a: Matrix, b: Matrix) -> int:
    """How many columns of C = A.T @ B pay for packing A: none, or whole tiles of the usual width.

    Each tile walks A's rows. Where B exceeds the L1 cache, they would come from further away for each column of tiles.
    """
    if not all(matrix.is_row_major for matrix in (c, a, b)) or c.rows == 1 or networks_of(c.dtype)[1] > 1:
        return 0
    widths = _tile_widths(target, _lines(c))
    wide = sum(1 for _ in itertools.takewhile(lambda width: width == target.usual_lines, widths))
    if wide < PACKED_COLUMNS or b.rows * b.row_bytes < L1_BYTES:
        return 0
    return min(c.cols, wide * target.usual_lines * LINE_BYTES // c.itemsize)


def packed_bytes(samples: int, row_bytes: int, dtype: str) -> int:
    """What `matmul_tn` needs in the pack buffer to pack A, for so many samples and rows of B of so many bytes."""
    if networks_of(dtype)[1] > 1 or samples * row_bytes < L1_BYTES:
        return 0
    return padded(PACKED_ROWS * samples * ITEMSIZE[dtype]) + LINE_BYTES  # whole vectors are stored behind the last


def _multiply_packed(
    program: Program, c: Matrix, a: Matrix, b: Matrix, c0: Matrix, pack_buffer: Matrix, interleave: Iterable[Operation]
) -> None:
    """C = C0 + A.T @ B for whole columns of tiles, some rows of C at a time, for which A is packed."""
    if (a.cols, a.rows, b.cols) != (c.rows, b.rows, c.cols):
        raise ValueError(f"{c} = {a.T} @ {b}: the shapes do not fit")
    width, k = program.target.usual_lines, a.rows
    most, across = program.target.most_rows(width), width * LINE_BYTES // c.itemsize
    tiles = [height for height, count in _even(c.rows, most) for _ in range(count)]
    blocks = [size for size, count in _even(len(tiles), PACKED_ROWS // most) for _ in range(count)]
    spread, row = _Spread(program, interleave, len(tiles) * -(-c.cols // across)), 0
    for size in blocks:
        place, parts = pack_buffer.address, []
        for height, same in itertools.groupby(tiles[:size]):
            count = len(list(same))
            packed = Matrix.row_major(place, count * k, height, height * c.itemsize, c.dtype, "pack_buffer")
            parts.append((row, height, count, packed))
            program.add(f"pack_{height}", X=a[:, row : row + count * height], out=packed, tiles=count)
            place, row = place + count * k * packed.row_stride, row + count * height
        del tiles[:size]
        for first in range(0, c.cols, across):
            cols = slice(first, min(first + across, c.cols))
            for start, height, count, packed in parts:
                done = 0
                while done < count:
                    now = spread.take(count - done)
                    rows = slice(start + done * height, start + (done + now) * height)
                    operands = {"A": packed[done * k : (done + now) * k, :], "B": b[:, cols], "C0": c0[rows, cols]}
                    program.add(f"packed_tiles_{height}x{width}", C=c[rows, cols], k=k, tiles=now, **operands)
                    done += now
    spread.finish()


def _inner_pays(target: Target, a: Matrix, b: Matrix) -> bool:
    over_lanes, transposed = tn_operations(target, a.itemsize, a.rows, a.cols, b.cols)
    return over_lanes <= transposed


def tn_operations(target: Target, itemsize: int, samples: int, m: int, n: int) -> tuple[int, int]:
    """Vector operations of A.T @ B over contiguous samples: as inner products, and as a product with B transposed."""
    lengths = padded(samples * itemsize) // target.vector_bytes
    across = padded(n * itemsize) // target.vector_bytes
    height, width = target.inner_tile
    tiles, sums = -(-m // height) * -(-n // width), height * width
    return tiles * sums * (lengths + INNER_SUMS), across * (lengths * TRANSPOSE + (samples + 4) * m)


def column_sums(program: Program, out: Matrix, d: Matrix, ones: Matrix, zeros: Matrix) -> None:
    """out = the sums of D's columns, zeros in its padding: a row of ones times D."""
    if networks_of(d.dtype)[1] > 1:
        for width, cols, across in _runs(d.cols, GROUP_ROW):
            operands = {"C": out[:, cols], "A": ones, "B": d[:, cols], "C0": zeros[:, cols]}
            program.add(f"group_row_{width}", grid=grid(1, across), **operands)
    elif d.is_row_major:
        out, d = out.with_padding(), d.with_padding()
        matmul(program, out, ones, d, zeros[:, : out.cols])
    else:
        program.add("identity_gemv_backward", out=out, x=ones, B=d.T, zeros=zeros, z=out)
