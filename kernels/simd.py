"""Vector code for the CPU that Numba compiles for: lanes, elementwise functions, and the one tile generator.

The functions here write LLVM vector instructions into a module of Numba's. `library` decides which of them exist,
compiles them once per dtype, and lets kernels call them by address. Addresses and strides are int64, in bytes.
"""

import contextlib
import itertools
import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

I32, I64 = ir.IntType(32), ir.IntType(64)
UNIT_BYTES = 64  # rows are padded to whole units on every CPU: one AVX-512 register, two AVX, four SSE or NEON


# ---- the CPU ---------------------------------------------------------------------------------------------------


def _target():
    """(bytes of a vector register, number of such registers, whether it has fused multiply-add)."""
    triple, _, features = cpu_target.target_context.codegen().magic_tuple()
    has = set(features.split(","))
    if not triple.startswith(("x86_64", "i686")):
        return 16, 32, True
    if "+avx512f" in has:
        return 64, 32, True
    if "+avx" in has:
        return 32, 16, "+fma" in has
    return 16, 16, False


VECTOR_BYTES, REGISTERS, HAS_FMA = _target()
VECTORS_PER_UNIT = UNIT_BYTES // VECTOR_BYTES


def _tile_rows(units):
    """The most rows of a tile `units` wide: its accumulators, the vectors of B and one of A fit the registers.

    But no more than 12 units of accumulators: they hide the latency of the multiply-add, and loading and storing more
    than that takes longer than the tiles before and after overlap.
    """
    width = units * VECTORS_PER_UNIT
    return min(12 // units, (REGISTERS - width - 1) // width)


# The most rows by width in units; tiles wider than one unit exist only where three rows of them fit the registers.
TILE_ROWS = (0, _tile_rows(1), *itertools.takewhile(lambda rows: rows >= 3, map(_tile_rows, (2, 3))))
TILE_UNITS = len(TILE_ROWS) - 1
TILES = [(rows, units) for units in range(1, TILE_UNITS + 1) for rows in range(1, TILE_ROWS[units] + 1)]
# Where a unit is one vector and the last unit at most half full, half a vector takes half the time.
HALVED = TILE_UNITS - 0.5 if VECTORS_PER_UNIT == 1 else None
TILES += [(rows, HALVED) for rows in range(1, TILE_ROWS[TILE_UNITS] + 1) if HALVED]
# Vectors of an activation at once: each step of it waits for the one before, so the CPU needs others to go on with.
AT_ONCE = 8 if VECTOR_BYTES == 64 else 4
WIDTHS_OF_ONE_ROW = (2, 1)  # in units: more would be too few additions at once per loop, fewer too many loads


class Simd:
    """Writes vector instructions of one dtype at a builder's position; `Vec` gives them Python's operators."""

    def __init__(self, builder, numba_type, vector_bytes=VECTOR_BYTES):
        self.b = builder
        self.double = numba_type == types.float64
        self.itemsize = 8 if self.double else 4
        self.lanes = vector_bytes // self.itemsize
        self.scalar = ir.DoubleType() if self.double else ir.FloatType()
        self.vector = ir.VectorType(self.scalar, self.lanes)
        self.int = ir.IntType(8 * self.itemsize)
        self.int_vector = ir.VectorType(self.int, self.lanes)
        self.suffix = f"v{self.lanes}f{8 * self.itemsize}"

    # Constants and conversions
    def const(self, x):
        x = x if self.double else float(np.float32(x))
        return Vec(self, ir.Constant(self.vector, [x] * self.lanes))

    def int_const(self, x):
        return ir.Constant(self.int_vector, [x] * self.lanes)

    def splat(self, scalar):
        first = self.b.insert_element(ir.Constant(self.vector, ir.Undefined), scalar, ir.Constant(I32, 0))
        zeros = ir.Constant(ir.VectorType(I32, self.lanes), [0] * self.lanes)
        return Vec(self, self.b.shuffle_vector(first, ir.Constant(self.vector, ir.Undefined), zeros))

    # Memory: `p` is a byte address (an i64 value), `offset` a constant count of elements
    def pointer(self, p, offset=0):
        if offset:
            p = self.b.add(p, ir.Constant(I64, offset * self.itemsize))
        return self.b.inttoptr(p, ir.PointerType())

    def load(self, p, offset=0):
        return Vec(self, self.b.load(self.pointer(p, offset), typ=self.vector, align=self.itemsize))

    def load_scalar(self, p):
        return self.b.load(self.pointer(p), typ=self.scalar, align=self.itemsize)

    def store(self, value, p, offset=0):
        self.b.store(value.v, self.pointer(p, offset), align=self.itemsize)

    # Arithmetic
    def call(self, name, *args):
        kind = ir.FunctionType(self.vector, [self.vector] * len(args))
        fn = cgutils.get_or_insert_function(self.b.module, kind, f"llvm.{name}.{self.suffix}")
        return Vec(self, self.b.call(fn, [a.v for a in args]))

    def fma(self, x, y, z):
        """x * y + z, fused where the CPU can (elsewhere `llvm.fma` would call the C library for each lane)."""
        return self.call("fma", x, y, z) if HAS_FMA else x * y + z

    def select(self, mask, x, y):
        return Vec(self, self.b.select(mask, x.v, y.v))

    def less(self, x, y):
        """x < y in each lane; false where either is NaN."""
        return self.b.fcmp_ordered("<", x.v, y.v)

    def horner(self, r, coefficients):
        p = self.const(coefficients[0])
        for c in coefficients[1:]:
            p = self.fma(p, r, self.const(c))
        return p

    def bits(self, x):
        return self.b.bitcast(x.v, self.int_vector)

    def abs(self, x):
        return self.call("fabs", x)

    def copysign(self, x, sign):
        return self.call("copysign", x, sign)

    # exp and its kin. With x = n log(2) + r and |r| <= log(2)/2, exp(x) = 2^n exp(r). The polynomial is the
    # minimax one of (exp(r) - 1 - r) / r^2 (Remez in 60 digits; exp(r) - 1 is off by less than 2^-26 and 2^-61 of
    # itself). log(2) is split into a part with trailing zeros and the rest (Cephes): n times the first is exact.
    EXP32 = (0.00139461084808415, 0.00836640718696728, 0.04166628899678368, 0.16666545008978477, 0.50000000586640342)
    EXP64 = (
        *(2.0924215308449428e-9, 2.510875038415366e-8, 2.7557243657134645e-7, 2.7557245131693480e-6),
        *(2.4801587359245472e-5, 1.9841269885087524e-4, 1.3888888888867701e-3, 8.3333333333221040e-3),
        *(4.1666666666666699e-2, 0.16666666666666676, 0.5),
    )

    _LOG2 = ((0.693359375, -2.12194440e-4), (6.93145751953125e-1, 1.42860682030941723212e-6))

    def _reduce(self, x):
        """n as ints, n, r, and r before the last, inexact part of n log(2) was taken off."""
        magic = self.const(1.5 * 2.0 ** (52 if self.double else 23))  # adding it rounds to an integer
        shifted = self.fma(x, self.const(1 / math.log(2)), magic)
        n = shifted - magic
        exact = self.fma(n, self.const(-self._LOG2[self.double][0]), x)
        r = self.fma(n, self.const(-self._LOG2[self.double][1]), exact)
        return self.b.sub(self.bits(shifted), self.bits(magic)), n, r, exact

    def _power_of_two(self, n):
        """2^n for ints n within the normal range of exponents."""
        bias, shift = (1023, 52) if self.double else (127, 23)
        bits = self.b.shl(self.b.add(n, self.int_const(bias)), self.int_const(shift))
        return Vec(self, self.b.bitcast(bits, self.vector))

    def _expm1_reduced(self, r, rest=None):
        """exp(r + rest) - 1 for |r| <= log(2)/2."""
        p = self.horner(r, self.EXP64 if self.double else self.EXP32)
        return self.fma(p, r * r, r) if rest is None else r + self.fma(p, r * r, rest)

    def _at_least(self, low, x):
        """The larger one, or x where it is NaN, because a comparison with it is false."""
        return self.select(self.less(x, self.const(low)), self.const(low), x)

    def _scale(self, x, n, n_int):
        """x * 2^n, through the subnormals and to infinity. n is given as floats and as ints."""
        if VECTOR_BYTES == 64:
            return self._avx512("mask.scalef", x, n, x, rounding=[4])  # round as the CPU is set
        half = self.b.ashr(n_int, self.int_const(1))  # two factors: 2^n alone may lie outside the normal numbers
        return x * self._power_of_two(half) * self._power_of_two(self.b.sub(n_int, half))

    def _avx512(self, name, *vectors, rounding=()):
        """An instruction that only AVX-512 has, on each of the registers that the vectors fill; all lanes."""
        lanes = VECTOR_BYTES // self.itemsize
        register, mask = ir.VectorType(self.scalar, lanes), ir.IntType(lanes)
        kind = ir.FunctionType(register, [register] * len(vectors) + [mask] + [I32] * len(rounding))
        name = f"llvm.x86.avx512.{name}.p{'d' if self.double else 's'}.512"
        fn = cgutils.get_or_insert_function(self.b.module, kind, name)
        rest = ir.Constant(mask, -1), *(ir.Constant(I32, r) for r in rounding)
        results = []
        for first in range(0, self.lanes, lanes):
            here = ir.Constant(ir.VectorType(I32, lanes), list(range(first, first + lanes)))
            results.append(self.b.call(fn, [*(self.b.shuffle_vector(v.v, v.v, here) for v in vectors), *rest]))
        while len(results) > 1:  # side by side
            lanes *= 2
            both = ir.Constant(ir.VectorType(I32, lanes), list(range(lanes)))
            results = [self.b.shuffle_vector(x, y, both) for x, y in zip(results[::2], results[1::2], strict=True)]
        return Vec(self, results[0])

    def _inverse(self, y, rest=None):
        """1 / (y + rest); AVX-512 has a start of 14 bits, from which Newton steps are faster than a division."""
        if VECTOR_BYTES < 64:
            return self.const(1.0) / y
        inverse = self._avx512("rcp14", y, y)
        for last in (False, True) if self.double else (True,):
            error = self.fma(-y, inverse, self.const(1.0))
            if last and rest is not None:
                error = self.fma(-rest, inverse, error)
            inverse = self.fma(inverse, error, inverse)
        return inverse

    def _divide(self, x, y, rest):
        """x / (y + rest) for a rest that rounding took from y, with a Newton step on the quotient."""
        inverse = self._inverse(y)
        quotient = x * inverse
        error = self._residual(x, quotient, y) - quotient * rest
        return self.fma(error, inverse, quotient)

    def _residual(self, x, u, v):
        """x - u * v for x close to u * v, as if the product were exact (without fma: Dekker 1971)."""
        if HAS_FMA:
            return self.fma(-u, v, x)
        halves = []
        for w in (u, v):
            shifted = w * (2.0 ** (27 if self.double else 12) + 1.0)
            high = shifted - (shifted - w)
            halves.append((high, w - high))
        (a, b), (c, d) = halves
        return x - a * c - a * d - b * c - b * d

    def exp(self, x, negative=False):
        """e^x, to infinity and down through the subnormals; NaN gives NaN. `negative` promises x <= 0."""
        x = self._at_least(-746.0 if self.double else -104.5, x)
        if not negative:
            high = self.const(710.0 if self.double else 89.0)
            x = self.select(self.less(high, x), high, x)
        n_int, n, r, _ = self._reduce(x)
        return self._scale(self._expm1_reduced(r) + 1.0, n, n_int)

    def sigmoid(self, x):
        """1 / (1 + e^-x), written with e^-|x| so that it keeps its relative accuracy for negative x."""
        e = self.exp(-self.abs(x), negative=True)
        y = e + 1.0
        top, rest = self.select(self.less(x, self.const(0.0)), e, self.const(1.0)), e - (y - 1.0)
        return top * self._inverse(y, rest) if VECTOR_BYTES == 64 else self._divide(top, y, rest)

    def tanh(self, x):
        """-m / (2 + m) with m = e^(-2|x|) - 1 taken without cancellation; the sign is put back."""
        n_int, n, r, exact = self._reduce(self._at_least(-60.0, self.abs(x) * -2.0))
        rest = self.fma(n, self.const(-self._LOG2[self.double][1]), exact - r)  # what rounding took from r
        scale = self._power_of_two(n_int)
        m = self.fma(scale, self._expm1_reduced(r, rest), scale - 1.0)
        y = m + 2.0
        return self.copysign(self._divide(-m, y, m - (y - 2.0)), x)


class Vec:
    """A vector value with operators; a Python float on the other side becomes a constant."""

    def __init__(self, simd, v):
        self.simd, self.v = simd, v

    def _op(self, name, other):
        other = other if isinstance(other, Vec) else self.simd.const(other)
        return Vec(self.simd, getattr(self.simd.b, name)(self.v, other.v))

    def __add__(self, other):
        return self._op("fadd", other)

    def __sub__(self, other):
        return self._op("fsub", other)

    def __mul__(self, other):
        return self._op("fmul", other)

    def __truediv__(self, other):
        return self._op("fdiv", other)

    def __neg__(self):
        return Vec(self.simd, self.simd.b.fneg(self.v))


# ---- the functions of the library: each takes the address of an operation, and its arguments lie there ------------

MOST_ARGUMENTS = 11


def _at(x):
    return ir.Constant(I64, x)


def _function(module, name, n_arguments):
    """(function, builder, arguments) of `void name(operation)`: the int64 arguments follow the function's address."""
    fn = ir.Function(module, ir.FunctionType(ir.VoidType(), [I64]), name)
    fn.linkage = "internal"
    b = ir.IRBuilder(fn.append_basic_block("entry"))
    slots = (b.inttoptr(b.add(fn.args[0], _at(8 * (i + 1))), ir.PointerType()) for i in range(n_arguments))
    return fn, b, [b.load(slot, typ=I64) for slot in slots]


def _load_double(b, p):
    return b.load(b.inttoptr(p, ir.PointerType()), typ=ir.DoubleType())


def _splat_int(b, x, lanes):
    kind = ir.VectorType(I64, lanes)
    first = b.insert_element(ir.Constant(kind, ir.Undefined), x, ir.Constant(I32, 0))
    zeros = ir.Constant(ir.VectorType(I32, lanes), [0] * lanes)
    return b.shuffle_vector(first, ir.Constant(kind, ir.Undefined), zeros)


def elementwise(module, numba_type, name, function, at_once=1):
    """out[i, j] = function(simd, x[i, j], y[i, j]) over `rows` rows of n bytes, whole units; out may be x or y.

    Arguments: rows, n, stride, out, x, y; the rows of all three lie `stride` bytes apart. The function is written for
    `at_once` vectors side by side, and for what is left over for one.
    """
    fn, b, (rows, n, stride, out, x, y) = _function(module, name, 6)
    with cgutils.for_range(b, rows, intp=I64) as row:
        start = b.mul(row.index, stride)
        p, q, r = (b.add(start, place) for place in (out, x, y))
        first = _at(0)
        for width in sorted({at_once * VECTOR_BYTES, VECTOR_BYTES}, reverse=True):
            s, stop = Simd(b, numba_type, width), b.and_(n, _at(-width))
            with cgutils.for_range_slice(b, first, stop, _at(width), I64) as (i, _):
                s.store(function(s, s.load(b.add(q, i)), s.load(b.add(r, i))), b.add(p, i))
            first = stop
    b.ret_void()
    return fn


def update(module, numba_type, name, function, vectors, scalars):
    """p and the optimizer's own vectors = function(simd, scalars, p, g, *vectors) over rows of n bytes.

    Arguments: rows, n, stride, scalars (the address of so many float64), p, g, then each vector; the rows of all these
    lie `stride` bytes apart.
    """
    fn, b, (rows, n, stride, cells, *places) = _function(module, name, 6 + vectors)
    s = Simd(b, numba_type)
    values = []
    for i in range(scalars):
        value = _load_double(b, b.add(cells, _at(8 * i)))
        values.append(s.splat(value if s.double else b.fptrunc(value, s.scalar)))
    with cgutils.for_range(b, rows, intp=I64) as row:
        start = b.mul(row.index, stride)
        p, g, *own = (b.add(place, start) for place in places)
        with cgutils.for_range_slice(b, _at(0), n, _at(VECTOR_BYTES), I64) as (i, _):
            here = [b.add(q, i) for q in (p, g, *own)]
            results = function(s, values, *map(s.load, here))
            for result, place in zip(results, [here[0], *here[2:]], strict=True):
                s.store(result, place)
    b.ret_void()
    return fn


def summed(module, numba_type, name, function):
    """total += the sum of value over a block, and d = scale * slope, where function(simd, x, y) = (value, slope).

    Arguments: rows, n, stride, d, x, y, y_stride, scale, total. The block's rows have n elements, padded to whole
    units, and lie `stride` bytes apart, y's `y_stride`; padding does not count and is written as zero. scale and total
    are addresses of float64; so is the sum taken.
    """
    fn, b, (rows, n, stride, d, x, y, y_stride, scale, cell) = _function(module, name, 9)
    s = Simd(b, numba_type)
    wide = ir.VectorType(ir.DoubleType(), s.lanes)
    total = cgutils.alloca_once_value(b, ir.Constant(wide, [0.0] * s.lanes))
    scale = _load_double(b, scale)
    scale = s.splat(scale if s.double else b.fptrunc(scale, s.scalar))
    lane = ir.Constant(ir.VectorType(I64, s.lanes), list(range(s.lanes)))
    size = _at(s.itemsize)
    padded = b.and_(b.add(b.mul(n, size), _at(UNIT_BYTES - 1)), _at(-UNIT_BYTES))
    with cgutils.for_range(b, rows, intp=I64) as row:
        start = b.mul(row.index, stride)
        with cgutils.for_range_slice(b, _at(0), padded, _at(VECTOR_BYTES), I64) as (j, _):
            p, q = b.add(start, j), b.add(b.mul(row.index, y_stride), j)
            value, slope = function(s, s.load(b.add(x, p)), s.load(b.add(y, q)))
            left = b.sub(n, b.sdiv(j, size))
            inside = b.icmp_signed("<", lane, _splat_int(b, left, s.lanes))
            s.store(s.select(inside, slope * scale, s.const(0.0)), b.add(d, p))
            value = s.select(inside, value, s.const(0.0)).v
            if not s.double:
                value = b.fpext(value, wide)
            b.store(b.fadd(b.load(total), value), total)
    kind = ir.FunctionType(ir.DoubleType(), [ir.DoubleType(), wide])
    reduce = cgutils.get_or_insert_function(module, kind, f"llvm.vector.reduce.fadd.v{s.lanes}f64")
    value = b.call(reduce, [_load_double(b, cell), b.load(total)], fastmath=("reassoc",))
    b.store(value, b.inttoptr(cell, ir.PointerType()))
    b.ret_void()
    return fn


@contextlib.contextmanager
def _each_row(b, rows, order, first=None, last=None):
    """A loop over i < rows: gives (i, the number of its row in the source).

    That is the int32 number in place first + i at `order`, at most in place `last`, or first + i where order is 0.
    """
    nothing = cgutils.alloca_once_value(b, ir.Constant(I32, 0))
    ordered = b.icmp_signed("!=", order, _at(0))
    with cgutils.for_range(b, rows, intp=I64) as at:
        i = at.index if first is None else b.add(first, at.index)
        i = i if last is None else b.select(b.icmp_signed("<", i, last), i, last)
        place = b.select(ordered, b.add(order, b.mul(i, _at(4))), b.ptrtoint(nothing, I64))
        yield at.index, b.select(ordered, _load_int32(b, place), i)


def _load_int32(b, p):
    return b.sext(b.load(b.inttoptr(p, ir.PointerType()), typ=I32, align=4), I64)


class _Reader:
    """Reads whole vectors of a source's elements, its own dtype or uint8, as the network's dtype times a scale."""

    def __init__(self, s, scale, source_type):
        scale = s.b.bitcast(scale, ir.DoubleType())
        self.s, self.scale = s, s.splat(scale if s.double else s.b.fptrunc(scale, s.scalar))
        self.is_bytes = source_type == types.uint8
        self.itemsize = 1 if self.is_bytes else s.itemsize
        self.kind = ir.VectorType(ir.IntType(8) if self.is_bytes else s.scalar, s.lanes)
        self.lane = ir.Constant(ir.VectorType(I64, s.lanes), list(range(s.lanes)))
        mask = ir.VectorType(ir.IntType(1), s.lanes)
        signature = ir.FunctionType(self.kind, [ir.PointerType(), I32, mask, self.kind])
        name = f"llvm.masked.load.v{s.lanes}{'i8' if self.is_bytes else s.suffix[-3:]}.p0"
        self.masked_load = cgutils.get_or_insert_function(s.b.module, signature, name)

    def pointer(self, start, element):
        b = self.s.b
        return b.inttoptr(b.add(start, b.mul(element, _at(self.itemsize))), ir.PointerType())

    def whole(self, start, element):
        """The vector at an element of the row at the address `start`."""
        return self._converted(self.s.b.load(self.pointer(start, element), typ=self.kind, align=self.itemsize))

    def first(self, n, start, element):
        """Its first n lanes, zero behind; nothing behind is touched."""
        inside = self.s.b.icmp_signed("<", self.lane, _splat_int(self.s.b, n, self.s.lanes))
        arguments = ir.Constant(I32, self.itemsize), inside, ir.Constant(self.kind, [0] * self.s.lanes)
        return self._converted(self.s.b.call(self.masked_load, [self.pointer(start, element), *arguments]))

    def _converted(self, v):
        return Vec(self.s, self.s.b.uitofp(v, self.s.vector) if self.is_bytes else v) * self.scale


def gather(module, numba_type, name, source_type):
    """out[i] = scale * source[order[i]] for i < rows, n elements a row.

    Arguments: rows, order, left, source, row, out, out_row, n, scale. order is the address of int32 row numbers, or 0
    for the rows as they come; row and out_row are strides. The source's elements are of source_type: the network's
    dtype or uint8. scale is the bits of a float64. The rest of an output row's last vector becomes zero. `left`
    numbers are left in the order; see `prefetch`.
    """
    fn, b, (rows, order, _, source, row, out, out_row, n, scale) = _function(module, name, 9)
    s = Simd(b, numba_type)
    reader, whole, size = _Reader(s, scale, source_type), b.and_(n, _at(-s.lanes)), _at(s.itemsize)
    with _each_row(b, rows, order) as (i, j):
        start, end = b.add(source, b.mul(row, j)), b.add(out, b.mul(out_row, i))
        with cgutils.for_range_slice(b, _at(0), whole, _at(s.lanes), I64) as (k, _):
            s.store(reader.whole(start, k), b.add(end, b.mul(k, size)))
        with b.if_then(b.icmp_signed("<", whole, n)):
            s.store(reader.first(b.sub(n, whole), start, whole), b.add(end, b.mul(whole, size)))
    b.ret_void()
    return fn


def gather_columns(module, numba_type, name, source_type):
    """out[k, i] = scale * source[order[i], k] for k < n, i < rows; zeros behind, up to whole vectors.

    Arguments as in `gather`; out_row is the stride of k.
    """
    fn, b, (rows, order, _, source, row, out, out_row, n, scale) = _function(module, name, 9)
    s = Simd(b, numba_type)
    reader, step = _Reader(s, scale, source_type), _at(s.lanes)
    starts = cgutils.alloca_once(b, I64, size=s.lanes)
    place = [b.gep(starts, [_at(r)], source_etype=I64) for r in range(s.lanes)]
    with cgutils.for_range_slice(b, _at(0), rows, step, I64) as (i0, _):
        count = b.sub(rows, i0)
        with _each_row(b, step, order, i0, b.sub(rows, _at(1))) as (r, j):
            b.store(b.add(source, b.mul(row, j)), b.gep(starts, [r], source_etype=I64))
        inside = b.icmp_signed("<", reader.lane, _splat_int(b, count, s.lanes))
        with cgutils.for_range_slice(b, _at(0), n, step, I64) as (k0, _):
            left = b.sub(n, k0)
            lines = (reader.first(left, b.load(p, typ=I64), k0) for p in place)
            for k, column in enumerate(_transposed(s, lines)):
                with b.if_then(b.icmp_signed("<", _at(k), left)):
                    start = b.add(b.mul(out_row, b.add(k0, _at(k))), b.mul(i0, _at(s.itemsize)))
                    s.store(s.select(inside, column, s.const(0.0)), b.add(out, start))
    b.ret_void()
    return fn


def _fetch_line(b, place, level):
    """Fetch a line into the L1 or L2 cache, to read it."""
    signature = ir.FunctionType(ir.VoidType(), [ir.PointerType(), I32, I32, I32])
    function = cgutils.get_or_insert_function(b.module, signature, "llvm.prefetch.p0")
    b.call(function, [b.inttoptr(place, ir.PointerType()), *(ir.Constant(I32, x) for x in (0, 4 - level, 1))])


def prefetch(module, numba_type, name, level):
    """Fetch bytes `start` to `end` of rows `first` to `stop` of the next batch into the cache of a level, 1 or 2.

    Arguments: first, stop, start, end, ahead, distance. The next batch's rows come `ahead` numbers further in the order
    of this one's gather, which lies `distance` bytes from this operation.
    """
    fn, b, (first, stop, start, end, ahead, distance) = _function(module, name, 6)
    batch = b.add(fn.args[0], distance)
    _, order, left, source, row = (
        b.load(b.inttoptr(b.add(batch, _at(8 * (i + 1))), ir.PointerType()), typ=I64) for i in range(5)
    )
    left = b.sub(left, ahead)
    stop = b.select(b.icmp_signed("<", left, stop), left, stop)
    with cgutils.for_range_slice(b, first, stop, _at(1), I64) as (i, _):
        place = b.add(source, b.mul(row, _load_int32(b, b.add(order, b.mul(b.add(ahead, i), _at(4))))))
        with cgutils.for_range_slice(b, start, end, _at(64), I64) as (k, _):
            _fetch_line(b, b.add(place, k), level)
    b.ret_void()
    return fn


def fetch(module, numba_type, name):
    """Fetch n bytes that lie `ahead` bytes behind an address into the L2 cache. Arguments: n, ahead, address."""
    fn, b, (n, ahead, start) = _function(module, name, 3)
    start = b.add(start, ahead)
    with cgutils.for_range_slice(b, _at(0), n, _at(64), I64) as (k, _):
        _fetch_line(b, b.add(start, k), 2)
    b.ret_void()
    return fn


def one_hot(module, numba_type, name):
    """out[i] = zeros with a one at source[order[i]] for i < rows; source holds int32 class indices.

    Arguments as in `gather`; row, n and scale do not count.
    """
    fn, b, (rows, order, _, labels, _, out, out_row) = _function(module, name, 7)
    s = Simd(b, numba_type)
    with _each_row(b, rows, order) as (i, j):
        start = b.add(out, b.mul(out_row, i))
        with cgutils.for_range_slice(b, _at(0), out_row, _at(VECTOR_BYTES), I64) as (k, _):
            s.store(s.const(0.0), b.add(start, k))
        label = _load_int32(b, b.add(labels, b.mul(j, _at(4))))
        b.store(ir.Constant(s.scalar, 1.0), s.pointer(b.add(start, b.mul(label, _at(s.itemsize)))))
    b.ret_void()
    return fn


def one_hot_columns(module, numba_type, name):
    """out[k, i] = 1 where k = source[order[i]], 0 elsewhere, for k < n. Arguments as in `gather_columns`."""
    fn, b, (rows, order, _, labels, _, out, out_row, n) = _function(module, name, 8)
    s = Simd(b, numba_type)
    width = b.mul(rows, _at(s.itemsize))
    with (
        cgutils.for_range(b, n, intp=I64) as k,
        cgutils.for_range_slice(b, _at(0), width, _at(VECTOR_BYTES), I64) as (i, _),
    ):
        s.store(s.const(0.0), b.add(b.add(out, b.mul(out_row, k.index)), i))
    with _each_row(b, rows, order) as (i, j):
        start = b.add(out, b.mul(out_row, _load_int32(b, b.add(labels, b.mul(j, _at(4))))))
        b.store(ir.Constant(s.scalar, 1.0), s.pointer(b.add(start, b.mul(i, _at(s.itemsize)))))
    b.ret_void()
    return fn


def collect(module, numba_type, name):
    """total += each of n values, which become zero: float64, a unit apart. Arguments: n, values, total."""
    fn, b, (n, values, total) = _function(module, name, 3)
    total = b.inttoptr(total, ir.PointerType())
    with cgutils.for_range(b, n, intp=I64) as at:
        value = b.inttoptr(b.add(values, b.mul(at.index, _at(UNIT_BYTES))), ir.PointerType())
        b.store(b.fadd(b.load(total, typ=ir.DoubleType()), b.load(value, typ=ir.DoubleType())), total)
        b.store(ir.Constant(ir.DoubleType(), 0.0), value)
    b.ret_void()
    return fn


def unpad(module, numba_type, name):
    """Copy the first n elements of every row, one by one. Arguments: rows, n, source, row, out, out_row."""
    fn, b, (rows, n, source, row, out, out_row) = _function(module, name, 6)
    s = Simd(b, numba_type)
    with cgutils.for_range(b, rows, intp=I64) as at:
        start, end = b.add(source, b.mul(row, at.index)), b.add(out, b.mul(out_row, at.index))
        with cgutils.for_range(b, n, intp=I64) as element:
            j = b.mul(element.index, _at(s.itemsize))
            b.store(s.load_scalar(b.add(start, j)), s.pointer(b.add(end, j)))
    b.ret_void()
    return fn


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


def _transposed(s, rows):
    """The columns of a square of as many vectors as there are lanes, by blocks of 2, 4, .. rows (Eklundh 1972)."""
    vectors, half = list(rows), 1
    while half < s.lanes:
        for i in range(s.lanes):
            if not i & half:
                vectors[i], vectors[i + half] = _swap(s, vectors[i], vectors[i + half], half)
        half *= 2
    return vectors


def _load_rows(s, n, source, row, zeros):
    """One vector from each of as many rows as there are lanes; rows from n on give the vector at `zeros`."""
    b = s.b
    for i in range(s.lanes):
        yield s.load(b.select(b.icmp_signed("<", _at(i), n), b.add(source, b.mul(row, _at(i))), zeros))


def transpose(module, numba_type, name):
    """out[j, i] = source[i, j] for i < width, j < k, both counted in elements and padded up to whole vectors.

    Arguments: n, k, source, row, zeros, out, out_row. Rows of the source from n on read the vector at `zeros`; `row`
    and `out_row`, which is the width, are in bytes.
    """
    fn, b, (n, k, source, row, zeros, out, out_row) = _function(module, name, 7)
    s = Simd(b, numba_type)
    step, size = _at(s.lanes), _at(s.itemsize)
    with (
        cgutils.for_range_slice(b, _at(0), b.sdiv(out_row, size), step, I64) as (i0, _),
        cgutils.for_range_slice(b, _at(0), k, step, I64) as (j0, _),
    ):
        corner = b.add(source, b.add(b.mul(row, i0), b.mul(j0, size)))
        vectors = _transposed(s, _load_rows(s, b.sub(n, i0), corner, row, zeros))
        end = b.add(out, b.add(b.mul(out_row, j0), b.mul(i0, size)))
        for j, vector in enumerate(vectors):
            s.store(vector, b.add(end, b.mul(out_row, _at(j))))
    b.ret_void()
    return fn


def dots(module, numba_type, name, slope):
    """c[j] = slope(simd, dot product of a and row b[j], below[j]) for j < n; zeros up to `width`, whole vectors.

    Arguments: n, width, length, a, b, b_row, zeros, c, below. a and the rows of b are `length` bytes, whole units;
    `zeros` is a vector.
    """
    fn, b, (n, width, length, a, bb, b_row, zeros, c, below) = _function(module, name, 9)
    s = Simd(b, numba_type)
    with cgutils.for_range_slice(b, _at(0), width, _at(s.lanes), I64) as (j, _):
        left, start = b.sub(n, j), b.add(bb, b.mul(b_row, j))
        entry, body, done = b.block, b.append_basic_block("k"), b.append_basic_block("k_done")
        b.branch(body)
        b.position_at_end(body)
        k = b.phi(I64)
        sums = [b.phi(s.vector) for _ in range(s.lanes)]
        x = s.load(b.add(a, k))
        rows = _load_rows(s, left, b.add(start, k), b_row, zeros)
        new = [s.fma(x, y, Vec(s, total)) for y, total in zip(rows, sums, strict=True)]
        following = b.add(k, _at(VECTOR_BYTES))
        for phi, first, after in [
            (k, _at(0), following),
            *((p, s.const(0.0).v, v.v) for p, v in zip(sums, new, strict=True)),
        ]:
            phi.add_incoming(first, entry)
            phi.add_incoming(after, body)
        b.cbranch(b.icmp_signed("<", following, length), body, done)
        b.position_at_end(done)
        skip = b.mul(j, _at(s.itemsize))
        s.store(slope(s, _sum_lanes(s, new), s.load(b.add(below, skip))), b.add(c, skip))
    b.ret_void()
    return fn


def outer(module, numba_type, name):
    """c[i, j] += the dot product of rows a[i] and b[j], i < m, j < n: samples lie in lanes, summed when all are done.

    Arguments: m, n, length, a, a_row, b, b_row, zeros, c, c_row. The rows of a, b and zeros are `length` bytes, whole
    units. Columns of c from n on, up to a multiple of four, keep their value.
    """
    fn, b, (m, n, length, a, a_row, bb, b_row, zeros, c, c_row) = _function(module, name, 10)
    s = Simd(b, numba_type)
    side = 4  # a block of side x side sums stays in registers
    four = ir.VectorType(s.scalar, side)
    with (
        cgutils.for_range_slice(b, _at(0), m, _at(side), I64) as (i0, _),
        cgutils.for_range_slice(b, _at(0), n, _at(side), I64) as (j0, _),
    ):

        def rows(start, row, first, count):
            for i in range(side):
                at = b.add(first, _at(i))
                yield b.select(b.icmp_signed("<", at, count), b.add(start, b.mul(row, at)), zeros)

        xs, ys = list(rows(a, a_row, i0, m)), list(rows(bb, b_row, j0, n))
        entry, body, done = b.block, b.append_basic_block("k"), b.append_basic_block("k_done")
        b.branch(body)
        b.position_at_end(body)
        k = b.phi(I64)
        sums = [b.phi(s.vector) for _ in range(side * side)]
        x, y = ([s.load(b.add(p, k)) for p in pointers] for pointers in (xs, ys))
        new = [s.fma(x[t // side], y[t % side], Vec(s, total)) for t, total in enumerate(sums)]
        following = b.add(k, _at(VECTOR_BYTES))
        zero = s.const(0.0).v
        for phi, first, after in [(k, _at(0), following), *((p, zero, v.v) for p, v in zip(sums, new, strict=True))]:
            phi.add_incoming(first, entry)
            phi.add_incoming(after, body)
        b.cbranch(b.icmp_signed("<", following, length), body, done)
        b.position_at_end(done)
        summed_up = [_sum_lanes(s, new[t : t + s.lanes]) for t in range(0, side * side, s.lanes)]
        for i in range(side):
            at = b.add(i0, _at(i))
            start = i * side
            parts = summed_up[start // s.lanes], summed_up[min((start + side - 1) // s.lanes, len(summed_up) - 1)]
            lanes = [
                (start + j) % s.lanes + (s.lanes if (start + j) // s.lanes != start // s.lanes else 0)
                for j in range(side)
            ]
            values = b.shuffle_vector(parts[0].v, parts[1].v, ir.Constant(ir.VectorType(I32, side), lanes))
            with b.if_then(b.icmp_signed("<", at, m)):
                p = s.pointer(b.add(c, b.add(b.mul(c_row, at), b.mul(j0, _at(s.itemsize)))))
                b.store(b.fadd(b.load(p, typ=four, align=s.itemsize), values), p, align=s.itemsize)
    b.ret_void()
    return fn


# ---- the tile ----------------------------------------------------------------------------------------------------


def _tile(s, rows, units, ways, k, a, a_row, a_k, bb, b_k, c0, c0_row, c, c_row, finish=lambda s, total: total):
    """Write C[i, j] = finish(C0[i, j] + sum_k A[i, k] * B[k, j]) for a block of `rows` x `units`, kept in registers.

    A block of few accumulators hides the latency of an fma by walking several k at once, `ways` of them. The last of
    the units may be half a one.
    """
    b = s.b
    columns = [s] * int(units * VECTORS_PER_UNIT)  # what writes each vector of a row
    if units != int(units):
        columns.append(Simd(b, types.float64 if s.double else types.float32, VECTOR_BYTES // 2))
    block = [(i, j) for i in range(rows) for j in range(len(columns))]
    a_rows = [b.mul(a_row, _at(i)) for i in range(rows)]
    first = {(i, j): columns[j].load(b.add(c0, b.mul(c0_row, _at(i))), j * s.lanes) for i, j in block}

    def loop(a, bb, count, sums):
        """Walk `count` times len(sums) steps of k; step u of each adds to the accumulators sums[u]."""
        entry, body, done = b.block, b.append_basic_block("k"), b.append_basic_block("k_done")
        b.cbranch(b.icmp_signed(">", count, _at(0)), body, done)
        b.position_at_end(body)
        left, pa, pb = (b.phi(I64) for _ in range(3))
        phis = [{(i, j): b.phi(columns[j].vector) for i, j in block} for _ in sums]
        new = []
        x, y = pa, pb
        for u in range(len(sums)):
            bv = [column.load(y, j * s.lanes) for j, column in enumerate(columns)]
            av = [s.load_scalar(b.add(x, a_rows[i])) for i in range(rows)]
            new.append(
                {
                    (i, j): columns[j].fma(columns[j].splat(av[i]), bv[j], Vec(columns[j], phis[u][i, j]))
                    for i, j in block
                }
            )
            x, y = b.add(x, a_k), b.add(y, b_k)
        carried = [(left, count, b.sub(left, _at(1))), (pa, a, x), (pb, bb, y)]
        carried += [(phis[u][ij], sums[u][ij].v, new[u][ij].v) for u in range(len(sums)) for ij in block]
        for phi, start, following in carried:
            phi.add_incoming(start, entry)
            phi.add_incoming(following, body)
        b.cbranch(b.icmp_signed(">", carried[0][2], _at(0)), body, done)
        b.position_at_end(done)
        ends = []
        for phi, start, following in carried[1:]:
            end = b.phi(phi.type)
            end.add_incoming(start, entry)
            end.add_incoming(following, body)
            ends.append(end)
        sums = [
            {ij: Vec(columns[ij[1]], ends[2 + u * len(block) + n]) for n, ij in enumerate(block)}
            for u in range(len(sums))
        ]
        return ends[0], ends[1], sums

    if ways == 1:
        _, _, (total,) = loop(a, bb, k, [first])
    else:
        zero = {(i, j): columns[j].const(0.0) for i, j in block}
        a, bb, sums = loop(a, bb, b.sdiv(k, _at(ways)), [first] + [zero] * (ways - 1))
        while len(sums) > 1:
            pairs = zip(sums[: len(sums) // 2], sums[len(sums) // 2 :], strict=True)
            sums = [{ij: x[ij] + y[ij] for ij in block} for x, y in pairs]
        _, _, (total,) = loop(a, bb, b.srem(k, _at(ways)), sums)
    for i, j in block:
        columns[j].store(finish(columns[j], total[i, j]), b.add(c, b.mul(c_row, _at(i))), j * s.lanes)


def tiles(module, numba_type, name, rows, units):
    """C = C0 + A @ B for tiles of `rows` x `units`, one below the other: A is (m, k), B (k, units), C (m, units).

    Arguments: tiles, k, a, a_row, a_k, b, b_k, c0, c0_row, c, c_row; strides in bytes. A has any strides. c0_row = 0
    starts every row from the same one, a bias or zeros; c0 = c accumulates.
    """
    fn, b, (n, k, a, a_row, a_k, bb, b_k, c0, c0_row, c, c_row) = _function(module, name, 11)
    s = Simd(b, numba_type)
    # What an element comes to depends neither on the width of its tile nor, but for a single row, on the height. Where
    # tiles have two rows at most, the last of an odd number is no such row.
    ways = max(1, 8 // VECTORS_PER_UNIT) if rows == 1 and TILE_ROWS[math.ceil(units)] > 2 else 1
    with cgutils.for_range(b, n, intp=I64) as at:
        first = b.mul(at.index, _at(rows))
        pa, pc0, pc = (b.add(p, b.mul(first, stride)) for p, stride in ((a, a_row), (c0, c0_row), (c, c_row)))
        _tile(s, rows, units, ways, k, pa, a_row, a_k, bb, b_k, pc0, c0_row, pc, c_row)
    b.ret_void()
    return fn


def row(module, numba_type, name, activation):
    """out = activation(simd, c0 + x @ W) for a single row x of k elements; W is (k, units).

    Arguments: units, k, x, w, w_row, c0, out.
    """
    fn, b, (units, k, x, w, w_row, c0, out) = _function(module, name, 7)
    s = Simd(b, numba_type)
    nothing, size, first = _at(0), _at(s.itemsize), _at(0)
    for width in WIDTHS_OF_ONE_ROW:
        stop = b.and_(units, _at(-width))
        with cgutils.for_range_slice(b, first, stop, _at(width), I64) as (j, _):
            skip = b.mul(j, _at(UNIT_BYTES))
            pw, pc0, pc = (b.add(p, skip) for p in (w, c0, out))
            ways = max(1, 8 // (width * VECTORS_PER_UNIT))
            _tile(s, 1, width, ways, k, x, nothing, size, pw, w_row, pc0, nothing, pc, nothing, activation)
        first = stop
    b.ret_void()
    return fn


def _add_row(s, factor, ds, start, end):
    """The vectors from `end` on = those from `start` on + factor * ds."""
    for i, d in enumerate(ds):
        s.store(s.fma(factor, d, s.load(start, i * s.lanes)), end, i * s.lanes)


def rank_one(module, numba_type, name):
    """C[i] = C0[i] + x[i] * d for i < m, and C[m] = C0[m] + d: the gradient of W and, behind it, of b from one sample.

    Arguments: units, m, x, d, c0, c0_row, c, c_row. The rows of d, C0 and C are so many units.
    """
    fn, b, (units, m, x, d, c0, c0_row, c, c_row) = _function(module, name, 8)
    s = Simd(b, numba_type)
    first = _at(0)
    for width in WIDTHS_OF_ONE_ROW:
        stop = b.and_(units, _at(-width))
        with cgutils.for_range_slice(b, first, stop, _at(width), I64) as (column, _):
            skip = b.mul(column, _at(UNIT_BYTES))
            ds = [s.load(b.add(d, skip), i * s.lanes) for i in range(width * VECTORS_PER_UNIT)]
            start, end = b.add(c0, skip), b.add(c, skip)
            with cgutils.for_range(b, m, intp=I64) as row:
                factor = s.splat(s.load_scalar(b.add(x, b.mul(row.index, _at(s.itemsize)))))
                _add_row(s, factor, ds, b.add(start, b.mul(row.index, c0_row)), b.add(end, b.mul(row.index, c_row)))
            _add_row(s, s.const(1.0), ds, b.add(start, b.mul(m, c0_row)), b.add(end, b.mul(m, c_row)))
        first = stop
    b.ret_void()
    return fn


@intrinsic
def address(typing_context, array):
    """The int64 address of a C-ordered array's first element. It does not keep the array alive."""

    def codegen(context, b, signature, arguments):
        return b.ptrtoint(context.make_array(signature.args[0])(context, b, arguments[0]).data, I64)

    return types.int64(array), codegen
