"""Across lanes: the transpose, products that are summed over the lanes of their operands, and softmax."""

from llvmlite import ir

from ..cpu.flow import for_range, variable, variable_of
from ..cpu.simd import DOUBLE, I32, I64, Vec, int64, load_double, store_double
from ..cpu.target import LINE_BYTES
from .function import vector_function


def _swap(s, x, y, half):
    """Rows x and y = x + half of a matrix with the off-diagonal halves of its blocks of 2 * half rows swapped."""
    low = [j + s.lanes - half if j & half else j for j in range(s.lanes)]
    high = [j + s.lanes if j & half else j + half for j in range(s.lanes)]
    masks = (ir.Constant(ir.VectorType(I32, s.lanes), m) for m in (low, high))
    return tuple(Vec(s, s.b.shuffle_vector(x.v, y.v, m)) for m in masks)


def _sum_lanes(s, vectors):
    """The vector of the sums over the lanes of as many vectors: a transpose that adds the two rows at each stage."""
    half = 1
    while half < s.lanes:
        vectors = [x + y for x, y in (_swap(s, x, y, half) for x, y in zip(vectors[::2], vectors[1::2], strict=True))]
        half *= 2
    return vectors[0]


def transposed(s, rows, n=None):
    """The columns of a square of n vectors, by blocks of 2, 4, .. rows (Eklundh 1972).

    n is the number of lanes by default. With a smaller n each vector holds the rows of several squares side by side.
    """
    n = s.lanes if n is None else n
    vectors, half = list(rows), 1
    while half < n:
        for i in range(n):
            if not i & half:
                vectors[i], vectors[i + half] = _swap(s, vectors[i], vectors[i + half], half)
        half *= 2
    return vectors


def _load_rows(s, n, source, row, zeros):
    """One vector from each of as many rows as there are lanes; rows from n on give the vector at `zeros`."""
    b = s.b
    for i in range(s.lanes):
        yield s.load(b.select(b.icmp_signed("<", int64(i), n), b.add(source, b.mul(row, int64(i))), zeros))


@vector_function("n=source.rows k=source.cols source:r[n,k] source.row_stride zeros:r[1,z] out:w[k,w] out.row_stride")
def transpose(code):
    """out = source.T, its rows filled up with zeros to their stride; rows of the source from n on read `zeros`."""
    b, s = code.b, code.simd()
    n, k, source, row, zeros, out, out_row = code.arguments
    step, size = int64(s.lanes), int64(s.itemsize)
    with (
        for_range(b, int64(0), b.sdiv(out_row, size), step) as i0,
        for_range(b, int64(0), k, step) as j0,
    ):
        corner = b.add(source, b.add(b.mul(row, i0), b.mul(j0, size)))
        vectors = transposed(s, _load_rows(s, b.sub(n, i0), corner, row, zeros))
        end = b.add(out, b.add(b.mul(out_row, j0), b.mul(i0, size)))
        left = b.sub(k, j0)
        for j, vector in enumerate(vectors):
            with b.if_then(b.icmp_signed("<", int64(j), left)):
                s.store(vector, b.add(end, b.mul(out_row, int64(j))))


GEMV_BACKWARD = (
    "n=B.rows width=out.padded_cols length=x.row_bytes x:r[1,k] B:r[n,k] B.row_stride zeros:r[1,w] out:w[1,n] z:r[1,n]"
)


@vector_function(GEMV_BACKWARD)
def gemv_backward(code, backward):
    """out[j] = backward(simd, the inner product of x and row B[j], z[j]); zeros up to whole lines.

    The padding of x and B is zero, and so is `zeros`, which is read in place of rows behind the last. Where the
    operation has a share too, it is the last argument of `backward`.
    """
    b, s = code.b, code.simd()
    n, width, length, a, bb, b_row, zeros, c, below, *share = code.arguments
    shares = [s.splat_double(load_double(b, each)) for each in share]
    with for_range(b, int64(0), width, int64(s.lanes)) as j:
        left, start = b.sub(n, j), b.add(bb, b.mul(b_row, j))
        entry, body, done = b.block, b.append_basic_block("k"), b.append_basic_block("k_done")
        b.branch(body)
        b.position_at_end(body)
        k = b.phi(I64)
        sums = [b.phi(s.vector) for _ in range(s.lanes)]
        x = s.load(b.add(a, k))
        rows = _load_rows(s, left, b.add(start, k), b_row, zeros)
        new = [s.fma(x, y, Vec(s, total)) for y, total in zip(rows, sums, strict=True)]
        following = b.add(k, int64(s.vector_bytes))
        for phi, first, after in [
            (k, int64(0), following),
            *((p, s.const(0.0).v, v.v) for p, v in zip(sums, new, strict=True)),
        ]:
            phi.add_incoming(first, entry)
            phi.add_incoming(after, body)
        b.cbranch(b.icmp_signed("<", following, length), body, done)
        b.position_at_end(done)
        skip = b.mul(j, int64(s.itemsize))
        s.store(backward(s, _sum_lanes(s, new), s.load(b.add(below, skip)), *shares), b.add(c, skip))


@vector_function(
    "m=A.rows n=B.rows length=A.row_bytes A:r[m,k] A.row_stride B:r[n,k] B.row_stride zeros:r[1,z] "
    "C:rw[m,n] C.row_stride"
)
def inner(code):
    """C[i, j] += the inner product of rows A[i] and B[j], in lanes that are summed when all are done.

    The padding of A and B is zero. Columns of C from n on, up to a multiple of four, keep their value.
    """
    b, s = code.b, code.simd()
    m, n, length, a, a_row, bb, b_row, zeros, c, c_row = code.arguments
    height, width = code.target.inner_tile
    four = ir.VectorType(s.scalar, width)
    with (
        for_range(b, int64(0), m, int64(height)) as i0,
        for_range(b, int64(0), n, int64(width)) as j0,
    ):

        def rows(how_many, start, row, first, count):
            for i in range(how_many):
                at = b.add(first, int64(i))
                yield b.select(b.icmp_signed("<", at, count), b.add(start, b.mul(row, at)), zeros)

        xs, ys = list(rows(height, a, a_row, i0, m)), list(rows(width, bb, b_row, j0, n))
        entry, body, done = b.block, b.append_basic_block("k"), b.append_basic_block("k_done")
        b.branch(body)
        b.position_at_end(body)
        k = b.phi(I64)
        sums = [b.phi(s.vector) for _ in range(height * width)]
        x, y = ([s.load(b.add(p, k)) for p in pointers] for pointers in (xs, ys))
        new = [s.fma(x[t // width], y[t % width], Vec(s, total)) for t, total in enumerate(sums)]
        following = b.add(k, int64(s.vector_bytes))
        zero = s.const(0.0).v
        for phi, first, after in [(k, int64(0), following), *((p, zero, v.v) for p, v in zip(sums, new, strict=True))]:
            phi.add_incoming(first, entry)
            phi.add_incoming(after, body)
        b.cbranch(b.icmp_signed("<", following, length), body, done)
        b.position_at_end(done)
        summed_up = [_sum_lanes(s, new[t : t + s.lanes]) for t in range(0, height * width, s.lanes)]
        for i in range(height):
            at = b.add(i0, int64(i))
            start = i * width
            pair = summed_up[start // s.lanes], summed_up[min((start + width - 1) // s.lanes, len(summed_up) - 1)]
            lanes = [
                (start + j) % s.lanes + (s.lanes if (start + j) // s.lanes != start // s.lanes else 0)
                for j in range(width)
            ]
            values = b.shuffle_vector(pair[0].v, pair[1].v, ir.Constant(ir.VectorType(I32, width), lanes))
            with b.if_then(b.icmp_signed("<", at, m)):
                p = s.pointer(b.add(c, b.add(b.mul(c_row, at), b.mul(j0, int64(s.itemsize)))))
                b.store(b.fadd(b.load(p, typ=four, align=s.itemsize), values), p, align=s.itemsize)


class _Softmax:
    """A sample's outputs, or a vector of samples': what `softmax` and its loss walk over.

    Row by row the lanes are outputs of one sample, and the last ones may be padding; column by column each lane is a
    sample of its own.
    """

    def __init__(self, code, count, step, n, across):
        """The next vector lies `step` bytes further; there are `count` of them, of n outputs or samples in all."""
        self.b, self.s, self.count, self.step, self.n, self.across = code.b, code.simd(), count, step, n, across
        self.lowest = self.s.const(-1.7e308 if self.s.double else -3.4e38)

    def _walk(self):
        """A loop over the vectors: gives each one's offset, and which of its lanes count, None for all."""
        b, s = self.b, self.s
        return for_range(b, self.count), lambda i: (
            b.mul(i, self.step),
            s.lanes_below(b.sub(self.n, b.mul(i, int64(s.lanes)))) if self.across else None,
        )

    def exponentials(self, z, out):
        """out = exp(z - max z); gives (max z, the sum of out) in every lane that shares them."""
        b, s = self.b, self.s
        most, total = (variable_of(b, ir.Constant(s.vector, ir.Undefined)) for _ in range(2))
        b.store(self.lowest.v, most)
        b.store(s.const(0.0).v, total)
        loop, at = self._walk()
        with loop as i:
            offset, inside = at(i)
            x = s.load(b.add(z, offset))
            x = x if inside is None else s.select(inside, x, self.lowest)
            b.store(s.select(s.less(Vec(s, b.load(most)), x), x, Vec(s, b.load(most))).v, most)
        largest = Vec(s, b.load(most))
        if self.across:
            largest = s.splat(s.reduce("fmax", largest.v))
        loop, at = self._walk()
        with loop as i:
            offset, inside = at(i)
            e = s.exp(s.load(b.add(z, offset)) - largest, negative=True)
            e = e if inside is None else s.select(inside, e, s.const(0.0))
            s.store(e, b.add(out, offset))
            b.store((Vec(s, b.load(total)) + e).v, total)
        sums = Vec(s, b.load(total))
        return largest, s.splat(s.sum_of_lanes(sums.v)) if self.across else sums

    def divide(self, out, sums):
        """out = out / sums, zeros behind."""
        loop, at = self._walk()
        with loop as i:
            place = self.b.add(out, at(i)[0])
            self.s.store(self.s.load(place) / sums, place)

    def losses(self, z, y, d, largest, sums, scale, inside, y_step, weight=None, most=None):
        """d = scale * weight * (d / sums - y); gives the losses by lanes, float64.

        That is weight times the sum over the outputs of y (log sums + max z - z), where `most` limits the bracket.
        """
        b, s = self.b, self.s
        wide = ir.VectorType(DOUBLE, s.lanes)
        scale = scale if weight is None else scale * weight
        total = variable_of(b, ir.Constant(wide, ir.Undefined))
        b.store(ir.Constant(wide, [0.0] * s.lanes), total)
        log_sum, highest = s.wide(s.log(sums).v), s.wide(largest.v)
        loop, at = self._walk()
        with loop as i:
            offset, counted = at(i)
            counted = inside if counted is None else counted
            target = s.load(b.add(y, b.mul(i, y_step)))
            place = b.add(d, offset)
            delta = (s.load(place) / sums - target) * scale
            s.store(delta if counted is None else s.select(counted, delta, s.const(0.0)), place)
            below = b.fadd(b.fsub(highest, s.wide(s.load(b.add(z, offset)).v)), log_sum)
            if most is not None:
                limit = ir.Constant(wide, [most[s.double]] * s.lanes)
                below = b.select(b.fcmp_ordered(">", below, limit), limit, below)
            value = b.fmul(s.wide(target.v), below)
            if counted is not None:
                value = b.select(counted, value, ir.Constant(wide, [0.0] * s.lanes))
            b.store(b.fadd(b.load(total), value), total)
        return b.load(total) if weight is None else b.fmul(b.load(total), s.wide(weight.v))


def _of_a_row(code, n):
    """What walks over a sample's n outputs, in a row."""
    if code.per_network:
        return _Softmax(code, n, int64(LINE_BYTES), n, across=False)
    return _Softmax(code, _vectors(code, n), int64(code.target.vector_bytes), n, across=True)


def _vectors(code, n):
    """The vectors that n numbers fill, in whole lines."""
    b, s = code.b, code.simd()
    n_bytes = b.and_(b.add(b.mul(n, int64(s.itemsize)), int64(LINE_BYTES - 1)), int64(-LINE_BYTES))
    return b.sdiv(n_bytes, int64(s.vector_bytes))


@vector_function("rows=z.rows n=z.cols z.row_stride out:w[r,c] z:r[r,c]")
def softmax(code):
    """out[i, j] = exp(z[i, j]) / the sum over j of exp(z[i, j]), written with the row's largest taken off."""
    b = code.b
    rows, n, stride, out, z = code.arguments
    walk = _of_a_row(code, n)
    with for_range(b, rows) as row:
        here, there = (b.add(p, b.mul(row, stride)) for p in (z, out))
        _, sums = walk.exponentials(here, there)
        walk.divide(there, sums)


@vector_function("rows=a.rows n=a.cols a.row_stride d:rw[r,c] a:r[r,c]")
def softmax_backward(code):
    """d[i, j] = a[i, j] * (d[i, j] - the sum over j of d[i, j] * a[i, j]), zeros in the padding."""
    b, s = code.b, code.simd()
    rows, n, stride, d, a = code.arguments
    count, total = n if code.per_network else _vectors(code, n), variable(b, s.vector)

    def each_vector():
        """A loop over a row's vectors: gives the offset, and a function that makes lanes behind the row zero."""
        with for_range(b, count) as at:
            inside = None if code.per_network else s.lanes_below(b.sub(n, b.mul(at, int64(s.lanes))))
            only = lambda v: v if inside is None else s.select(inside, v, s.const(0.0))  # noqa: E731
            yield b.mul(at, int64(s.vector_bytes)), only

    with for_range(b, rows) as row:
        deltas, outputs = (b.add(p, b.mul(row, stride)) for p in (d, a))
        b.store(s.const(0.0).v, total)
        for i, inside in each_vector():
            product = s.load(b.add(deltas, i)) * s.load(b.add(outputs, i))
            b.store((Vec(s, b.load(total)) + inside(product)).v, total)
        summed = Vec(s, b.load(total)) if code.per_network else s.splat(s.sum_of_lanes(b.load(total)))
        for i, inside in each_vector():
            place = b.add(deltas, i)
            s.store(inside(s.load(b.add(outputs, i)) * (s.load(place) - summed)), place)


def softmax_cross_entropy(code, most=None, weighted=""):
    """total -= the sum of y log softmax(a), and d = scale * (softmax(a) - y): a holds logits, a sample a row.

    The value is log(sum exp(a - max a)) + max a - a, taken in float64, so that it is finite for any logits. `most`
    limits -log softmax(a).
    """
    b, s = code.b, code.simd()
    rows, n, stride, d, z, y, y_stride, scale, cell, *weights = code.arguments
    scale, step = code.number(s, scale), int64(s.vector_bytes)
    walk = _of_a_row(code, n)
    with for_range(b, rows) as row:
        here, there = (b.add(p, b.mul(row, stride)) for p in (z, d))
        target = b.add(y, b.mul(row, y_stride))
        largest, sums = walk.exponentials(here, there)
        weight = code.element(s, weights[0], row) if weighted else None
        value = walk.losses(here, target, there, largest, sums, scale, None, step, weight, most)
        code.add_to_total(s, value, cell)


def softmax_cross_entropy_columns(code, most=None, weighted=""):
    """As `softmax_cross_entropy`, a sample a column."""
    b, s = code.b, code.simd()
    rows, n, stride, d, z, y, y_stride, scale, cell, *weights = code.arguments
    scale, step = s.splat_double(load_double(b, scale)), int64(s.vector_bytes)
    walk = _Softmax(code, rows, stride, n, across=False)
    with for_range(b, _vectors(code, n)) as column:
        here, there, target = (b.add(p, b.mul(column, step)) for p in (z, d, y))
        inside = s.lanes_below(b.sub(n, b.mul(column, int64(s.lanes))))
        largest, sums = walk.exponentials(here, there)
        weight = s.load(b.add(weights[0], b.mul(column, step))) if weighted else None
        value = walk.losses(here, target, there, largest, sums, scale, inside, y_stride, weight, most)
        store_double(b, s.sum_of_lanes(value, load_double(b, cell)), cell)
