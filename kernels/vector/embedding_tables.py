"""Tables: the row for a code, and the gradient of the rows of a batch's codes.

A code is a whole number from 0 on, in the network's dtype. A table's rows are padded to whole lines with zeros.
"""

from llvmlite import ir

from ..cpu.flow import declared, for_range
from ..cpu.simd import DOUBLE, I32, I64, Vec, int64
from .function import vector_function


def _number(s, i):
    """The int64 i as a number of the dtype, exact up to 2^24."""
    number = s.b.sitofp(i, DOUBLE)
    return number if s.double else s.b.fptrunc(number, s.scalar)


def _both(b, *masks):
    found, *others = masks
    for mask in others:
        found = b.and_(found, mask)
    return found


def _row_of(s, code, first, rows):
    """(whether a code is one of so many from `first` on, the number of its row among them, which is 0 if it is none).

    NaN is none.
    """
    b = s.b
    low, high = _number(s, first), _number(s, b.add(first, rows))
    inside = _both(b, b.fcmp_ordered(">=", code, low), b.fcmp_ordered("<", code, high))
    return inside, b.sub(b.fptosi(b.select(inside, code, low), I64), first)


class _Rows:
    """The vectors of rows of n elements, whose last one may be a part of one."""

    def __init__(self, s, n):
        self.s, self.n = s, n
        self.whole = s.b.and_(n, int64(-s.lanes))
        mask = ir.VectorType(ir.IntType(1), s.lanes)
        pointer, suffix = ir.PointerType(), f"{s.suffix}.p0"
        kinds = {
            "load": ir.FunctionType(s.vector, [pointer, I32, mask, s.vector]),
            "store": ir.FunctionType(ir.VoidType(), [s.vector, pointer, I32, mask]),
        }
        self.masked = {name: declared(s.b.module, kind, f"llvm.masked.{name}.{suffix}") for name, kind in kinds.items()}
        self.inside = s.lanes_below(s.b.sub(n, self.whole))
        self.align = ir.Constant(I32, s.itemsize)

    def each(self, do):
        """Write do(offset in bytes, whether the vector is whole) for the vectors of a row."""
        b, size = self.s.b, int64(self.s.itemsize)
        with for_range(b, int64(0), self.whole, int64(self.s.lanes)) as k:
            do(b.mul(k, size), True)
        with b.if_then(b.icmp_signed("<", self.whole, self.n)):
            do(b.mul(self.whole, size), False)

    def load(self, place, whole):
        """A vector; where it is no whole one zeros behind, and memory behind is not read."""
        if whole:
            return self.s.load(place)
        arguments = self.s.pointer(place), self.align, self.inside, self.s.const(0.0).v
        return Vec(self.s, self.s.b.call(self.masked["load"], arguments))

    def store(self, value, place, whole):
        """Write a vector, or as much of it as there is."""
        if whole:
            self.s.store(value, place)
        else:
            self.s.b.call(self.masked["store"], [value.v, self.s.pointer(place), self.align, self.inside])


_CODES = "codes:r[r,1] codes.row_stride"


@vector_function(
    f"rows=out.rows n=out.cols out:w[r,c] out.row_stride {_CODES} categories=table.rows table:r[t,c] table.row_stride"
)
def embed(code):
    """out[i] = table[codes[i]]; NaN where that is no code of the table. Nothing behind the last column is written."""
    b, s = code.b, code.simd()
    rows, n, out, out_row, codes, codes_row, categories, table, table_row = code.arguments
    vectors, mask = _Rows(s, n), ir.VectorType(ir.IntType(1), s.lanes)
    with for_range(b, rows) as at:
        found = s.load_scalar(b.add(codes, b.mul(at, codes_row)))
        inside, row = _row_of(s, found, int64(0), categories)
        known = _both(b, inside, b.fcmp_ordered("==", found, _number(s, row)))
        start, end = b.add(table, b.mul(row, table_row)), b.add(out, b.mul(at, out_row))
        lanes = b.select(known, ir.Constant(mask, [True] * s.lanes), ir.Constant(mask, [False] * s.lanes))

        def copy(offset, whole, start=start, end=end, lanes=lanes):
            value = s.select(lanes, s.load(b.add(start, offset)), s.const(float("nan")))
            vectors.store(value, b.add(end, offset), whole)

        vectors.each(copy)


@vector_function(f"rows=d.rows n=d.cols d:r[r,c] d.row_stride {_CODES} first count=out.rows out:rw[t,c] out.row_stride")
def add_by_codes(code):
    """out[codes[i] - first] += d[i] for the codes from `first` on that out has a row for, in the order of the samples.

    What lies behind a row of out stays.
    """
    b, s = code.b, code.simd()
    rows, n, d, d_row, codes, codes_row, first, count, out, out_row = code.arguments
    vectors = _Rows(s, n)
    with for_range(b, rows) as at:
        found = s.load_scalar(b.add(codes, b.mul(at, codes_row)))
        inside, row = _row_of(s, found, first, count)
        with b.if_then(inside):
            start, end = b.add(d, b.mul(at, d_row)), b.add(out, b.mul(row, out_row))

            def add(offset, whole, start=start, end=end):
                place = b.add(end, offset)
                s.store(s.load(place) + vectors.load(b.add(start, offset), whole), place)

            vectors.each(add)
