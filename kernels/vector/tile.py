"""The tile, the one generator behind all products, and a single sample's product and rank-one update."""

import math
from typing import NamedTuple

from llvmlite import ir

from ..cpu.flow import for_range
from ..cpu.simd import I64, Simd, Vec, int64, prefetch_line
from ..cpu.target import LINE_BYTES
from .function import vector_function
from .matrix import ITEMSIZE

PREFETCH_MIN_K = 64  # shorter sums pay more for prefetching than they wait for memory
GROUP_ROW = 3  # the most columns of a group's tile of a single row, which has accumulators for several k
MAX_ROW_REGISTERS = 7  # rows of A whose offsets stay in registers while k runs


class _At(NamedTuple):
    """Where an operand starts, and its strides: int64 values."""

    address: ir.Value
    row_stride: ir.Value
    col_stride: ir.Value | None = None


def _tile(s, rows, lines, ways, k, a, b_operand, c0, c, finish=lambda s, total: total):
    """Write C[i, j] = finish(C0[i, j] + sum_k A[i, k] * B[k, j]) for a tile of `rows` x `lines`, kept in registers.

    A tile of few accumulators hides the latency of an fma by walking several k at once, `ways` of them. The last of
    the lines may be half a one, with a vector less or half a vector. The operands are `_At`. A c0 with a column stride
    is a single column. A B with one has elements that are lines, of which the vector is a part, and so have A and C.
    """
    b, grouped = s.b, b_operand.col_stride is not None
    vectors = lines if grouped else lines * s.target.vectors_per_line
    step = LINE_BYTES // s.itemsize if grouped else s.lanes  # from one vector of a row to the next
    columns = [s] * int(vectors)  # the writer of each vector in a row
    if vectors != int(vectors):
        columns.append(Simd(b, s.dtype, s.target, s.vector_bytes // 2))
    places = [(i, j) for i in range(rows) for j in range(len(columns))]
    a_rows = [b.mul(a.row_stride, int64(i)) for i in range(rows)]
    if rows <= MAX_ROW_REGISTERS:
        # LLVM would add the stride again and again in each step of k, a chain as long as the multiply-adds take (empty
        # assembly hides that these are multiples of one number): 1.01x to 1.05x on the networks of the bench.
        kind = ir.FunctionType(I64, [I64])
        a_rows[1:] = [b.asm(kind, "", "=r,0", [row], False) for row in a_rows[1:]]

    b_columns = [b.mul(b_operand.col_stride, int64(j)) for j in range(len(columns))] if grouped else []

    def row_of(operand, i):
        return b.add(operand.address, b.mul(operand.row_stride, int64(i)))

    def of_b(row, j):
        return columns[j].load(b.add(row, b_columns[j])) if grouped else columns[j].load(row, j * step)

    def of_a(row, i):
        place = b.add(row, a_rows[i])
        return s.load(place) if grouped else s.load_scalar(place)

    def start(i, j):
        if c0.col_stride is None:
            return columns[j].load(row_of(c0, i), j * step)
        return columns[j].splat(columns[j].load_scalar(row_of(c0, i)))

    first = {(i, j): start(i, j) for i, j in places}

    def loop(a_at, b_at, count, sums, steps):
        """Walk `count` times so many steps of k; step u of each adds to the accumulators sums[u], which then rotate."""
        entry, body, done = b.block, b.append_basic_block("k"), b.append_basic_block("k_done")
        b.cbranch(b.icmp_signed(">", count, int64(0)), body, done)
        b.position_at_end(body)
        left, pa, pb = (b.phi(I64) for _ in range(3))
        phis = [{(i, j): b.phi(columns[j].vector) for i, j in places} for _ in sums]
        new = []
        x, y = pa, pb
        for u in range(steps):
            bv = [of_b(y, j) for j in range(len(columns))]
            av = [of_a(x, i) for i in range(rows)]
            new.append(
                {
                    (i, j): columns[j].fma(
                        av[i] if grouped else columns[j].splat(av[i]), bv[j], Vec(columns[j], phis[u][i, j])
                    )
                    for i, j in places
                }
            )
            x, y = b.add(x, a.col_stride), b.add(y, b_operand.row_stride)
        carried = [(left, count, b.sub(left, int64(1))), (pa, a_at, x), (pb, b_at, y)]
        kept = [{(i, j): Vec(columns[j], phi) for (i, j), phi in each.items()} for each in phis[steps:]]
        carried += [(phis[u][ij], sums[u][ij].v, then[ij].v) for u, then in enumerate(kept + new) for ij in places]
        for phi, start, following in carried:
            phi.add_incoming(start, entry)
            phi.add_incoming(following, body)
        b.cbranch(b.icmp_signed("!=", carried[0][2], int64(0)), body, done)
        b.position_at_end(done)
        ends = []
        for phi, start, following in carried[1:]:
            end = b.phi(phi.type)
            end.add_incoming(start, entry)
            end.add_incoming(following, body)
            ends.append(end)
        sums = [
            {ij: Vec(columns[ij[1]], ends[2 + u * len(places) + n]) for n, ij in enumerate(places)}
            for u in range(len(sums))
        ]
        return ends[0], ends[1], sums

    if ways == 1:
        _, _, (total,) = loop(a.address, b_operand.address, k, [first], 1)
    else:  # number i of k adds to accumulator i % ways, so that zeros behind the last k change nothing
        zero = {(i, j): columns[j].const(0.0) for i, j in places}
        starts = a.address, b_operand.address
        *starts, sums = loop(*starts, b.sdiv(k, int64(ways)), [first] + [zero] * (ways - 1), ways)
        _, _, sums = loop(*starts, b.srem(k, int64(ways)), sums, 1)
        while len(sums) > 1:  # the same pairs, however often they have rotated
            pairs = zip(sums[: len(sums) // 2], sums[len(sums) // 2 :], strict=True)
            sums = [{ij: x[ij] + y[ij] for ij in places} for x, y in pairs]
        (total,) = sums
    for i, j in places:
        columns[j].store(finish(columns[j], total[i, j]), row_of(c, i), j * step)


def tiles_signature(start: str) -> str:
    """The signature of `tiles` for what the sums start from: "rows" of C0, or one number for each row, a "column"."""
    shape = {"rows": "m,n", "column": "m,1"}[start]
    return (
        "tiles k=A.cols A:r[m,k] A.row_stride A.col_stride B:r[k,n] B.row_stride "
        f"C0:r[{shape}] C0.row_stride C:w[m,n] C.row_stride"
    )


def tiles(code, rows, lines, start):
    """C = C0 + A @ B for tiles of `rows` x `lines`, one below the other. A has any strides.

    C0 may be rows: a row stride of 0 starts every row from the same one, a bias or zeros; C0 = C accumulates. Or it is
    a column: a number for each row, the bias of transposed products.
    """
    b, s, target = code.b, code.simd(), code.target
    n, k, a, a_row, a_k, bb, b_k, c0, c0_row, c, c_row = code.arguments
    # An element's bits do not depend on the width of its tile. They depend on the height for a single row alone, and
    # only where sums start from rows. Where tiles have two rows at most, the last of an odd number is no such row.
    in_order = rows > 1 or start == "column" or target.most_rows(lines) <= 2
    ways = 1 if in_order else max(1, 8 // target.vectors_per_line)
    with for_range(b, n) as at:
        first = b.mul(at, int64(rows))
        pa, pc0, pc = (b.add(p, b.mul(first, stride)) for p, stride in ((a, a_row), (c0, c0_row), (c, c_row)))
        with b.if_then(b.icmp_signed(">=", k, int64(PREFETCH_MIN_K))):
            _prefetch_tile(code, rows, lines, b.add(pc, b.mul(c_row, int64(rows))), c_row)
        first_sums = _At(pc0, c0_row, int64(0) if start == "column" else None)
        _tile(s, rows, lines, ways, k, _At(pa, a_row, a_k), _At(bb, b_k), first_sums, _At(pc, c_row))


PACKED_TILES = "tiles k A:r B:r[k,n] B.row_stride C0:r[m,n] C0.row_stride C:w[m,n] C.row_stride"
PACK = "tiles k=X.rows X:r[k,m] X.row_stride out:w"


def _prefetch_tile(code, rows, lines, start, row_stride):
    """Fetch the lines of the tile at an address into the L1 cache: the next one's, while this one is computed."""
    b = code.b
    for i in range(rows):
        row = b.add(start, b.mul(row_stride, int64(i)))
        for j in range(math.ceil(lines)):
            prefetch_line(b, b.add(row, int64(j * LINE_BYTES)), 1)


def packed_tiles(code, rows, lines):
    """`tiles` whose A is packed, see `pack`."""
    b, s = code.b, code.simd()
    n, k, a, bb, b_k, c0, c0_row, c, c_row = code.arguments
    size, step = int64(s.itemsize), int64(rows * s.itemsize)
    with for_range(b, n) as at:
        first, pa = b.mul(at, int64(rows)), b.add(a, b.mul(b.mul(at, k), step))
        pc0, pc = (b.add(p, b.mul(first, stride)) for p, stride in ((c0, c0_row), (c, c_row)))
        _prefetch_tile(code, rows, lines, b.add(pc, b.mul(c_row, int64(rows))), c_row)
        _tile(s, rows, lines, 1, k, _At(pa, size, step), _At(bb, b_k), _At(pc0, c0_row), _At(pc, c_row))


def pack(code, rows):
    """A tile behind the other, `rows` of A's rows each: in each, the numbers of a step of k side by side.

    X = A.T has contiguous rows. Whole vectors are stored, so a few numbers behind the last are written too.
    """
    n, k, x, row, out = code.arguments
    step = rows * ITEMSIZE[code.dtype]
    b, s = code.b, code.simd(min(code.target.vector_bytes, max(16, 1 << (step - 1).bit_length())))
    whole = rows // s.lanes
    with for_range(b, n) as tile, for_range(b, k) as i:
        start = b.add(b.add(x, b.mul(tile, int64(step))), b.mul(i, row))
        end = b.add(out, b.mul(b.add(b.mul(tile, k), i), int64(step)))
        for v in range(whole):
            s.store(s.load(start, v * s.lanes), end, v * s.lanes)
        if rows % s.lanes:
            s.store(s.load_first(rows % s.lanes, start, whole * s.lanes), end, whole * s.lanes)


def group_tiles_signature(transposed: bool) -> str:
    """The signature of `group_tiles`: B's rows are contiguous, or its columns."""
    b_stride = "B.col_stride" if transposed else "B.row_stride"
    return (
        "grid k=A.cols A:r[m,k] A.row_stride A.col_stride B:r[k,n] "
        f"{b_stride} C0:r[m,n] C0.row_stride C:w[m,n] C.row_stride"
    )


def grid(down: int, across: int) -> int:
    """So many tiles below each other, and side by side, as one argument: an operation holds no more."""
    return down << 32 | across


def ways_of_a_row(target) -> int:
    """How many k a product of a single row walks at once, whose tile has too few accumulators."""
    return 1 if target.most_rows(1) <= 2 else max(1, 8 // target.vectors_per_line)


def group_tiles(code, rows, cols, transposed, ways=1):
    """C = C0 + A @ B of each network of a group, for a grid of tiles of `rows` x `cols`, as `tiles`.

    The grid's two halves say how many tiles there are down and across; see `grid`.
    A has any strides. All operands differ from network to network. A sum runs through k in its order, or `ways` of it.
    """
    b, s = code.b, code.simd(code.target.vector_bytes)
    shape, k, a, a_row, a_k, bb, b_stride, c0, c0_row, c, c_row = code.arguments
    down, across = b.lshr(shape, int64(32)), b.and_(shape, int64(2**32 - 1))
    b_k, b_col = (int64(LINE_BYTES), b_stride) if transposed else (b_stride, int64(LINE_BYTES))
    with (
        for_range(b, across) as column,
        for_range(b, down) as row,
        for_range(b, int64(0), int64(LINE_BYTES), int64(s.vector_bytes)) as part,
    ):
        first, at = b.mul(row, int64(rows)), b.mul(column, int64(cols))
        skip = b.add(part, b.mul(at, int64(LINE_BYTES)))
        pa, pb = b.add(b.add(a, part), b.mul(first, a_row)), b.add(b.add(bb, part), b.mul(at, b_col))
        pc0, pc = (b.add(b.add(p, skip), b.mul(first, stride)) for p, stride in ((c0, c0_row), (c, c_row)))
        _tile(s, rows, cols, ways, k, _At(pa, a_row, a_k), _At(pb, b_k, b_col), _At(pc0, c0_row), _At(pc, c_row))


@vector_function("lines=out.lines k=x.cols x:r[1,k] W:r[k,n] W.row_stride C0:r[1,n] out:w[1,n]")
def gemv(code, activation):
    """out = activation(simd, C0 + x @ W) for a single row x."""
    b, s = code.b, code.simd()
    lines, k, x, w, w_row, c0, out = code.arguments
    nothing, size, first = int64(0), int64(s.itemsize), int64(0)
    for width in code.target.row_widths:
        stop = b.and_(lines, int64(-width))
        with for_range(b, first, stop, int64(width)) as j:
            skip = b.mul(j, int64(LINE_BYTES))
            pw, pc0, pc = (b.add(p, skip) for p in (w, c0, out))
            ways = max(1, 8 // (width * s.target.vectors_per_line))
            places = _At(x, nothing, size), _At(pw, w_row), _At(pc0, nothing), _At(pc, nothing)
            _tile(s, 1, width, ways, k, *places, activation)
        first = stop


def _add_row(s, factor, ds, start, end):
    """The vectors from `end` on = those from `start` on + factor * ds."""
    for i, d in enumerate(ds):
        s.store(s.fma(factor, d, s.load(start, i * s.lanes)), end, i * s.lanes)


@vector_function("lines=d.lines m=x.cols x:r[1,m] d:r[1,n] C0:r[p,n] C0.row_stride C:w[p,n] C.row_stride")
def ger(code):
    """C[i] = C0[i] + x[i] * d for i < m, and C[m] = C0[m] + d: one sample's gradient of W and, behind it, of b."""
    b, s = code.b, code.simd()
    lines, m, x, d, c0, c0_row, c, c_row = code.arguments
    first = int64(0)
    for width in code.target.row_widths:
        stop = b.and_(lines, int64(-width))
        with for_range(b, first, stop, int64(width)) as column:
            skip = b.mul(column, int64(LINE_BYTES))
            ds = [s.load(b.add(d, skip), i * s.lanes) for i in range(width * s.target.vectors_per_line)]
            start, end = b.add(c0, skip), b.add(c, skip)
            with for_range(b, m) as row:
                factor = s.splat(s.load_scalar(b.add(x, b.mul(row, int64(s.itemsize)))))
                _add_row(s, factor, ds, b.add(start, b.mul(row, c0_row)), b.add(end, b.mul(row, c_row)))
            _add_row(s, s.const(1.0), ds, b.add(start, b.mul(m, c0_row)), b.add(end, b.mul(m, c_row)))
        first = stop
