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
    """The most rows of a tile `units` wide: its accumulators, the vectors of B and one of A fill the registers."""
    width = units * VECTORS_PER_UNIT
    return min(12, (REGISTERS - width - 1) // width)


# The most rows by width in units; tiles wider than one unit exist only where three rows of them fit the registers.
TILE_ROWS = (0, _tile_rows(1), *itertools.takewhile(lambda rows: rows >= 3, map(_tile_rows, (2, 3))))
TILE_UNITS = len(TILE_ROWS) - 1


class Simd:
    """Writes vector instructions of one dtype at a builder's position; `Vec` gives them Python's operators."""

    def __init__(self, builder, numba_type):
        self.b = builder
        self.double = numba_type == types.float64
        self.itemsize = 8 if self.double else 4
        self.lanes = VECTOR_BYTES // self.itemsize
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

    def _reduce(self, x):
        """n as ints, n, r, and what rounding took from r."""
        magic = self.const(1.5 * 2.0 ** (52 if self.double else 23))  # adding it rounds to an integer
        log2e, high, low = 1 / math.log(2), 0.693359375, -2.12194440e-4
        if self.double:
            high, low = 6.93145751953125e-1, 1.42860682030941723212e-6
        shifted = self.fma(x, self.const(log2e), magic)
        n = shifted - magic
        exact = self.fma(n, self.const(-high), x)
        r = self.fma(n, self.const(-low), exact)
        rest = self.fma(n, self.const(-low), exact - r)
        return self.b.sub(self.bits(shifted), self.bits(magic)), n, r, rest

    def _power_of_two(self, n):
        """2^n for ints n within the normal range of exponents."""
        bias, shift = (1023, 52) if self.double else (127, 23)
        bits = self.b.shl(self.b.add(n, self.int_const(bias)), self.int_const(shift))
        return Vec(self, self.b.bitcast(bits, self.vector))

    def _expm1_reduced(self, r, rest):
        """exp(r + rest) - 1 for |r| <= log(2)/2."""
        p = self.horner(r, self.EXP64 if self.double else self.EXP32)
        return r + self.fma(p, r * r, rest)

    def _clamp(self, x, low, high):
        """x within [low, high]; a NaN stays one, because a comparison with it is false."""
        x = self.select(self.less(self.const(high), x), self.const(high), x)
        return self.select(self.less(x, self.const(low)), self.const(low), x)

    def _scale(self, x, n, n_int):
        """x * 2^n, through the subnormals and to infinity. n is given as floats and as ints."""
        if VECTOR_BYTES == 64:
            return self._scalef(x, n)
        half = self.b.ashr(n_int, self.int_const(1))  # two factors: 2^n alone may lie outside the normal numbers
        return x * self._power_of_two(half) * self._power_of_two(self.b.sub(n_int, half))

    def _scalef(self, x, n):
        """AVX-512's own x * 2^n."""
        mask, rounding = ir.IntType(self.lanes), ir.Constant(I32, 4)  # all lanes; round as the CPU is set
        kind = ir.FunctionType(self.vector, [self.vector] * 3 + [mask, I32])
        name = f"llvm.x86.avx512.mask.scalef.p{'d' if self.double else 's'}.512"
        fn = cgutils.get_or_insert_function(self.b.module, kind, name)
        return Vec(self, self.b.call(fn, [x.v, n.v, x.v, ir.Constant(mask, -1), rounding]))

    def _divide(self, x, y, rest):
        """x / (y + rest) for a rest that rounding took from y: a division and one Newton step."""
        inverse = self.const(1.0) / y
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

    def exp(self, x):
        """e^x, overflowing to infinity and underflowing through the subnormals; NaN gives NaN."""
        n_int, n, r, rest = self._reduce(self._clamp(x, *((-746.0, 710.0) if self.double else (-104.5, 89.0))))
        return self._scale(self._expm1_reduced(r, rest) + 1.0, n, n_int)

    def sigmoid(self, x):
        """1 / (1 + e^-x), written with e^-|x| so that it keeps its relative accuracy for negative x."""
        e = self.exp(-self.abs(x))
        y = e + 1.0
        return self._divide(self.select(self.less(x, self.const(0.0)), e, self.const(1.0)), y, e - (y - 1.0))

    def tanh(self, x):
        """-m / (2 + m) with m = e^(-2|x|) - 1 taken without cancellation; the sign is put back."""
        n_int, _, r, rest = self._reduce(self._clamp(self.abs(x) * -2.0, -60.0, 0.0))
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


# ---- the functions of the library: each is emitted once, takes addresses and byte strides, and returns ------------


def _function(module, name, arguments, result=None):
    """An empty function of the module and a builder in it. `arguments` are LLVM types."""
    fn = ir.Function(module, ir.FunctionType(result or ir.VoidType(), arguments), name)
    fn.linkage = "internal"
    fn.attributes.add("noinline")
    return fn, ir.IRBuilder(fn.append_basic_block("entry"))


def _at(x):
    return ir.Constant(I64, x)


def elementwise(module, numba_type, name, function):
    """f(n, out, x, y): out[i] = function(simd, x[i], y[i]) over n bytes, a multiple of the unit; out may be x or y."""
    fn, b = _function(module, name, [I64] * 4)
    s = Simd(b, numba_type)
    n, out, x, y = fn.args
    with cgutils.for_range_slice(b, _at(0), n, _at(VECTOR_BYTES), I64) as (i, _):
        s.store(function(s, s.load(b.add(x, i)), s.load(b.add(y, i))), b.add(out, i))
    b.ret_void()
    return fn


def summed(module, numba_type, name, function):
    """f(scale, rows, n, d, x, y) -> float64: the sum of value over a block, where d = scale * slope.

    function(simd, x, y) returns the vectors (value, slope). The block has `rows` rows of n elements padded to whole
    units, one after the other; padding does not count and is written as zero. scale is float64, as is the sum.
    """
    fn, b = _function(module, name, [ir.DoubleType(), *[I64] * 5], ir.DoubleType())
    s = Simd(b, numba_type)
    scale, rows, n, d, x, y = fn.args
    wide = ir.VectorType(ir.DoubleType(), s.lanes)
    total = cgutils.alloca_once_value(b, ir.Constant(wide, [0.0] * s.lanes))
    scale = s.splat(scale if s.double else b.fptrunc(scale, s.scalar))
    lane = ir.Constant(ir.VectorType(I64, s.lanes), list(range(s.lanes)))
    size = _at(s.itemsize)
    padded = b.and_(b.add(b.mul(n, size), _at(UNIT_BYTES - 1)), _at(-UNIT_BYTES))
    with cgutils.for_range(b, rows, intp=I64) as row:
        start = b.mul(row.index, padded)
        with cgutils.for_range_slice(b, _at(0), padded, _at(VECTOR_BYTES), I64) as (j, _):
            p = b.add(start, j)
            value, slope = function(s, s.load(b.add(x, p)), s.load(b.add(y, p)))
            left = b.sub(n, b.sdiv(j, size))
            inside = b.icmp_signed("<", lane, _splat_int(b, left, s.lanes))
            s.store(s.select(inside, slope * scale, s.const(0.0)), b.add(d, p))
            value = s.select(inside, value, s.const(0.0)).v
            if not s.double:
                value = b.fpext(value, wide)
            b.store(b.fadd(b.load(total), value), total)
    kind = ir.FunctionType(ir.DoubleType(), [ir.DoubleType(), wide])
    reduce = cgutils.get_or_insert_function(module, kind, f"llvm.vector.reduce.fadd.v{s.lanes}f64")
    b.ret(b.call(reduce, [ir.Constant(ir.DoubleType(), 0.0), b.load(total)], fastmath=("reassoc",)))
    return fn


def _splat_int(b, x, lanes):
    kind = ir.VectorType(I64, lanes)
    first = b.insert_element(ir.Constant(kind, ir.Undefined), x, ir.Constant(I32, 0))
    zeros = ir.Constant(ir.VectorType(I32, lanes), [0] * lanes)
    return b.shuffle_vector(first, ir.Constant(kind, ir.Undefined), zeros)


def _each_row(b, rows, order):
    """A loop over i < rows: gives (i, the i-th of the int32 numbers at `order`, or i where that address is 0)."""

    @contextlib.contextmanager
    def loop():
        ordered = b.icmp_signed("!=", order, _at(0))
        with cgutils.for_range(b, rows, intp=I64) as at:
            place = b.select(ordered, b.add(order, b.mul(at.index, _at(4))), b.ptrtoint(here, I64))
            picked = b.sext(b.load(b.inttoptr(place, ir.PointerType()), typ=I32, align=4), I64)
            yield at.index, b.select(ordered, picked, at.index)

    here = cgutils.alloca_once_value(b, ir.Constant(I32, 0))
    return loop()


def gather(module, numba_type, name, source_type):
    """f(scale, rows, order, more, source, row, n, out, out_row): out[i] = scale * source[order[i]], n elements a row.

    order is the address of int32 row numbers, or 0 for the rows as they come. The source's elements are of
    source_type: the network's dtype or uint8. The rest of an output row's last vector becomes zero. `more` numbers
    follow in the order: as many of their rows as are copied here are fetched into the cache for the next batch.
    """
    fn, b = _function(module, name, [ir.DoubleType(), *[I64] * 8])
    s = Simd(b, numba_type)
    scale, rows, order, more, source, row, n, out, out_row = fn.args
    scale = s.splat(scale if s.double else b.fptrunc(scale, s.scalar))
    is_bytes = source_type == types.uint8
    element, itemsize = (ir.IntType(8), 1) if is_bytes else (s.scalar, s.itemsize)
    kind = ir.VectorType(element, s.lanes)
    lane = ir.Constant(ir.VectorType(I64, s.lanes), list(range(s.lanes)))
    mask_type = ir.VectorType(ir.IntType(1), s.lanes)
    signature = ir.FunctionType(kind, [ir.PointerType(), I32, mask_type, kind])
    suffix = f"v{s.lanes}{'i8' if is_bytes else s.suffix[-3:]}"
    masked_load = cgutils.get_or_insert_function(module, signature, f"llvm.masked.load.{suffix}.p0")
    whole = b.and_(n, _at(-s.lanes))

    def convert(v, p):
        s.store(Vec(s, b.uitofp(v, s.vector) if is_bytes else v) * scale, p)

    prefetch_type = ir.FunctionType(ir.VoidType(), [ir.PointerType(), I32, I32, I32])
    prefetch = cgutils.get_or_insert_function(module, prefetch_type, "llvm.prefetch.p0")
    with _each_row(b, rows, order) as (i, j):
        start, end = b.add(source, b.mul(row, j)), b.add(out, b.mul(out_row, i))
        with b.if_then(b.icmp_signed("<", i, more)):
            p = b.inttoptr(b.add(order, b.mul(b.add(rows, i), _at(4))), ir.PointerType())
            ahead = b.add(source, b.mul(row, b.sext(b.load(p, typ=I32, align=4), I64)))
            with cgutils.for_range_slice(b, _at(0), row, _at(64), I64) as (k, _):
                p = b.inttoptr(b.add(ahead, k), ir.PointerType())
                b.call(prefetch, [p, ir.Constant(I32, 0), ir.Constant(I32, 2), ir.Constant(I32, 1)])
        with cgutils.for_range_slice(b, _at(0), whole, _at(s.lanes), I64) as (k, _):
            p = b.inttoptr(b.add(start, b.mul(k, _at(itemsize))), ir.PointerType())
            convert(b.load(p, typ=kind, align=itemsize), b.add(end, b.mul(k, _at(s.itemsize))))
        with b.if_then(b.icmp_signed("<", whole, n)):
            p = b.inttoptr(b.add(start, b.mul(whole, _at(itemsize))), ir.PointerType())
            inside = b.icmp_signed("<", lane, _splat_int(b, b.sub(n, whole), s.lanes))
            nothing = ir.Constant(kind, [0] * s.lanes)
            tail = b.call(masked_load, [p, ir.Constant(I32, itemsize), inside, nothing])
            convert(tail, b.add(end, b.mul(whole, _at(s.itemsize))))
    b.ret_void()
    return fn


def unpad(module, numba_type, name):
    """f(rows, n, source, row, out, out_row): copy the first n bytes of every row, element by element."""
    fn, b = _function(module, name, [I64] * 6)
    s = Simd(b, numba_type)
    rows, n, source, row, out, out_row = fn.args
    with cgutils.for_range(b, rows, intp=I64) as at:
        start, end = b.add(source, b.mul(row, at.index)), b.add(out, b.mul(out_row, at.index))
        with cgutils.for_range_slice(b, _at(0), n, _at(s.itemsize), I64) as (j, _):
            b.store(s.load_scalar(b.add(start, j)), s.pointer(b.add(end, j)))
    b.ret_void()
    return fn


def one_hot(module, numba_type, name):
    """f(rows, order, labels, out, out_row): out[i] = zeros, and a one at labels[order[i]]; int32 labels and order."""
    fn, b = _function(module, name, [I64] * 5)
    s = Simd(b, numba_type)
    rows, order, labels, out, out_row = fn.args
    with _each_row(b, rows, order) as (i, j):
        start = b.add(out, b.mul(out_row, i))
        with cgutils.for_range_slice(b, _at(0), out_row, _at(VECTOR_BYTES), I64) as (k, _):
            s.store(s.const(0.0), b.add(start, k))
        p = b.inttoptr(b.add(labels, b.mul(j, _at(4))), ir.PointerType())
        label = b.sext(b.load(p, typ=I32, align=4), I64)
        b.store(ir.Constant(s.scalar, 1.0), s.pointer(b.add(start, b.mul(label, _at(s.itemsize)))))
    b.ret_void()
    return fn


def tile(module, numba_type, name, rows, units):
    """f(a, a_row, a_k, b, b_k, k, c0, c0_row, c, c_row): C[i, j] = C0[i, j] + sum_k A[i, k] * B[k, j].

    C is `rows` x `units` and stays in registers. A has any strides; B, C0 and C have contiguous rows, b_k, c0_row
    and c_row bytes apart. k >= 1. c0_row = 0 starts every row from the same one, a bias; c0 = c accumulates.
    """
    fn, b = _function(module, name, [I64] * 10)
    s = Simd(b, numba_type)
    vectors = units * VECTORS_PER_UNIT
    block = [(i, j) for i in range(rows) for j in range(vectors)]
    a, a_row, a_k, bb, b_k, count, c0, c0_row, c, c_row = fn.args
    a_rows = [b.mul(a_row, _at(i)) for i in range(rows)]
    first = {(i, j): s.load(b.add(c0, b.mul(c0_row, _at(i))), j * s.lanes) for i, j in block}

    def loop(a, bb, count, sums):
        """Walk `count` times len(sums) steps of k; step u of each adds to the accumulators sums[u]."""
        entry, body, done = b.block, b.append_basic_block("k"), b.append_basic_block("k_done")
        b.cbranch(b.icmp_signed(">", count, _at(0)), body, done)
        b.position_at_end(body)
        left, pa, pb = (b.phi(I64) for _ in range(3))
        phis = [{ij: b.phi(s.vector) for ij in block} for _ in sums]
        new = []
        x, y = pa, pb
        for u in range(len(sums)):
            bv = [s.load(y, j * s.lanes) for j in range(vectors)]
            av = [s.splat(s.load_scalar(b.add(x, a_rows[i]))) for i in range(rows)]
            new.append({(i, j): s.fma(av[i], bv[j], Vec(s, phis[u][i, j])) for i, j in block})
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
        sums = [{ij: Vec(s, ends[2 + u * len(block) + n]) for n, ij in enumerate(block)} for u in range(len(sums))]
        return ends[0], ends[1], sums

    # A small block has too few accumulators to hide the latency of an fma: it walks several k at once.
    ways = max(1, 8 // len(block))
    if ways == 1:
        _, _, (total,) = loop(a, bb, count, [first])
    else:
        zero = {ij: s.const(0.0) for ij in block}
        a, bb, sums = loop(a, bb, b.sdiv(count, _at(ways)), [first] + [zero] * (ways - 1))
        while len(sums) > 1:
            pairs = zip(sums[: len(sums) // 2], sums[len(sums) // 2 :], strict=True)
            sums = [{ij: x[ij] + y[ij] for ij in block} for x, y in pairs]
        _, _, (total,) = loop(a, bb, b.srem(count, _at(ways)), sums)
    for i, j in block:
        s.store(total[i, j], b.add(c, b.mul(c_row, _at(i))), j * s.lanes)
    b.ret_void()
    return fn


def transpose(module, numba_type, name):
    """f(rows, source, row, zeros, out, out_row): out[j, i] = source[i, j] for a block of lanes x lanes.

    Rows from `rows` on read the vector at `zeros` instead. `row` and `out_row` are strides in bytes.
    """
    fn, b = _function(module, name, [I64] * 6)
    s = Simd(b, numba_type)
    rows, source, row, zeros, out, out_row = fn.args
    vectors = []
    for i in range(s.lanes):
        p = b.select(b.icmp_signed("<", _at(i), rows), b.add(source, b.mul(row, _at(i))), zeros)
        vectors.append(s.load(p).v)
    half = 1
    while half < s.lanes:  # swap the off-diagonal halves of blocks of 2, 4, .. rows (Eklundh 1972)
        low = [i + s.lanes - half if i & half else i for i in range(s.lanes)]
        high = [i + s.lanes if i & half else i + half for i in range(s.lanes)]
        masks = [ir.Constant(ir.VectorType(I32, s.lanes), m) for m in (low, high)]
        for i in range(s.lanes):
            if not i & half:
                x, y = vectors[i], vectors[i + half]
                vectors[i], vectors[i + half] = (b.shuffle_vector(x, y, m) for m in masks)
        half *= 2
    for j in range(s.lanes):
        s.store(Vec(s, vectors[j]), b.add(out, b.mul(out_row, _at(j))))
    b.ret_void()
    return fn


@intrinsic
def address(typing_context, array):
    """The int64 address of a C-ordered array's first element. It does not keep the array alive."""

    def codegen(context, b, signature, arguments):
        return b.ptrtoint(context.make_array(signature.args[0])(context, b, arguments[0]).data, I64)

    return types.int64(array), codegen
