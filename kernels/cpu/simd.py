"""Vector instructions: `Simd` writes them into a module of LLVM's, `Vec` is a value of them with operators.

Addresses are int64, in bytes.
"""

import math

import numpy as np
from llvmlite import ir

from .flow import declared
from .target import Target

I32, I64, DOUBLE = ir.IntType(32), ir.IntType(64), ir.DoubleType()


def int64(x: int) -> ir.Constant:
    """An int64 constant."""
    return ir.Constant(I64, x)


def load_double(b, p):
    """The float64 at an address."""
    return b.load(b.inttoptr(p, ir.PointerType()), typ=DOUBLE)


def store_double(b, value, p):
    """Write a float64 to an address."""
    b.store(value, b.inttoptr(p, ir.PointerType()))


def prefetch_line(b, place, level):
    """Fetch the line at an address into the L1 or L2 cache, to read it."""
    signature = ir.FunctionType(ir.VoidType(), [ir.PointerType(), I32, I32, I32])
    function = declared(b.module, signature, "llvm.prefetch.p0")
    b.call(function, [b.inttoptr(place, ir.PointerType()), *(ir.Constant(I32, x) for x in (0, 4 - level, 1))])


def splat(b, scalar, kind):
    """A vector of a kind with a scalar in every lane, LLVM values."""
    undefined, zeros = ir.Constant(kind, ir.Undefined), ir.Constant(ir.VectorType(I32, kind.count), [0] * kind.count)
    return b.shuffle_vector(b.insert_element(undefined, scalar, ir.Constant(I32, 0)), undefined, zeros)


class Simd:
    """Writes vector instructions of one dtype at a builder's position; `Vec` gives them Python's operators.

    A vector fills one register of the target, or has another number of bytes.
    """

    def __init__(self, builder: ir.IRBuilder, dtype: str, target: Target, vector_bytes: int | None = None) -> None:
        self.b, self.dtype, self.target = builder, dtype, target
        self.double = dtype == "float64"
        vector_bytes = vector_bytes or target.vector_bytes
        self.vector_bytes = vector_bytes
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
        return Vec(self, splat(self.b, scalar, self.vector))

    def splat_double(self, value):
        """A float64 value, rounded to the dtype, in every lane."""
        return self.splat(value if self.double else self.b.fptrunc(value, self.scalar))

    def lanes_below(self, n):
        """A mask of the lanes whose number is below the int64 n."""
        kind = ir.VectorType(I64, self.lanes)
        return self.b.icmp_signed("<", ir.Constant(kind, list(range(self.lanes))), splat(self.b, n, kind))

    def wide(self, v):
        """A vector's lanes as float64, an LLVM value."""
        return v if self.double else self.b.fpext(v, ir.VectorType(DOUBLE, self.lanes))

    def reduce(self, name, vector, *start, **flags):
        """One number of a vector's lanes, LLVM values: "fadd" needs the number to start from."""
        scalar = vector.type.element
        kind = ir.FunctionType(scalar, [*(scalar for _ in start), vector.type])
        suffix = f"v{self.lanes}f{64 if scalar == DOUBLE else 32}"
        function = declared(self.b.module, kind, f"llvm.vector.reduce.{name}.{suffix}")
        return self.b.call(function, [*start, vector], **flags)

    def sum_of_lanes(self, vector, start=None):
        """start + the sum of the lanes of a vector, LLVM values."""
        start = ir.Constant(vector.type.element, 0.0) if start is None else start
        return self.reduce("fadd", vector, start, fastmath=("reassoc",))

    # Memory: `p` is a byte address (an i64 value), `offset` a constant count of elements
    def pointer(self, p, offset=0):
        if offset:
            p = self.b.add(p, ir.Constant(I64, offset * self.itemsize))
        return self.b.inttoptr(p, ir.PointerType())

    def load(self, p, offset=0):
        return Vec(self, self.b.load(self.pointer(p, offset), typ=self.vector, align=self.itemsize))

    def load_first(self, n, p, offset=0):
        """The first n lanes, an int, and zeros behind them; memory behind them is not read."""
        mask, pointer = ir.VectorType(ir.IntType(1), self.lanes), ir.PointerType()
        kind = ir.FunctionType(self.vector, [pointer, I32, mask, self.vector])
        fn = declared(self.b.module, kind, f"llvm.masked.load.{self.suffix}.p0")
        lanes = ir.Constant(mask, [int(lane < n) for lane in range(self.lanes)])
        rest = ir.Constant(I32, self.itemsize), lanes, ir.Constant(self.vector, [0] * self.lanes)
        return Vec(self, self.b.call(fn, [self.pointer(p, offset), *rest]))

    def load_scalar(self, p):
        return self.b.load(self.pointer(p), typ=self.scalar, align=self.itemsize)

    def splat_element(self, p, i):
        """Element i, an int64 value, of the array at p in every lane."""
        return self.splat(self.load_scalar(self.b.add(p, self.b.mul(i, int64(self.itemsize)))))

    def store(self, value, p, offset=0):
        self.b.store(value.v, self.pointer(p, offset), align=self.itemsize)

    # Arithmetic
    def call(self, name, *args):
        """LLVM's intrinsic of this name, on each lane."""
        kind = ir.FunctionType(self.vector, [self.vector] * len(args))
        fn = declared(self.b.module, kind, f"llvm.{name}.{self.suffix}")
        return Vec(self, self.b.call(fn, [a.v for a in args]))

    def fma(self, x, y, z):
        """x * y + z, fused where the CPU can (elsewhere `llvm.fma` would call the C library for each lane)."""
        return self.call("fma", x, y, z) if self.target.has_fma else x * y + z

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

    def sqrt(self, x):
        return self.call("sqrt", x)

    def abs(self, x):
        return self.call("fabs", x)

    def copysign(self, x, sign):
        return self.call("copysign", x, sign)

    # exp and expm1. With x = n log(2) + r and |r| <= log(2)/2, exp(x) = 2^n exp(r). The polynomial is the
    # minimax one of (exp(r) - 1 - r) / r^2 (Remez in 60 digits; exp(r) - 1 is off by less than 2^-26 and 2^-61 of
    # itself). log(2) is split into a part with trailing zeros and the rest (Cephes): n times the first is exact.
    EXP32 = (0.00139461084808415, 0.00836640718696728, 0.04166628899678368, 0.16666545008978477, 0.50000000586640342)
    EXP64 = (
        *(2.0924215308449428e-9, 2.510875038415366e-8, 2.7557243657134645e-7, 2.7557245131693480e-6),
        *(2.4801587359245472e-5, 1.9841269885087524e-4, 1.3888888888867701e-3, 8.3333333333221040e-3),
        *(4.1666666666666699e-2, 0.16666666666666676, 0.5),
    )

    _LOG2 = ((0.693359375, -2.12194440e-4), (6.93145751953125e-1, 1.42860682030941723212e-6))

    def _reduce(self, x, of_sum=False):
        """n as ints, n, r, and r before the last, inexact part of n log(2) was taken off.

        `of_sum` says that 2^n e^r - 1 is wanted. To float32 log(2) is then exact enough as one number.
        """
        # Adding it rounds to an integer. With the exponents' bias, the lowest bits are those of the exponent of 2^n.
        magic = self.const(1.5 * 2.0**52 + 1023 if self.double else 1.5 * 2.0**23 + 127)
        shifted = self.fma(x, self.const(1 / math.log(2)), magic)
        n = shifted - magic
        n_int = self.b.sub(self.bits(shifted), self.bits(magic))
        if of_sum and self.target.has_fma and not self.double:
            return n_int, n, self.fma(n, self.const(-math.log(2)), x), x
        exact = self.fma(n, self.const(-self._LOG2[self.double][0]), x)
        r = self.fma(n, self.const(-self._LOG2[self.double][1]), exact)
        return n_int, n, r, exact

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
        """The larger of both, or x where x is NaN, because a comparison with NaN is false."""
        return self.select(self.less(x, self.const(low)), self.const(low), x)

    def _scale(self, x, n, n_int):
        """x * 2^n, through the subnormals and to infinity. n is given as floats and as ints."""
        if self.target.vector_bytes == 64:
            return self._avx512("mask.scalef", x, n, x, rounding=[4])  # round as the CPU is set
        half = self.b.ashr(n_int, self.int_const(1))  # two factors: 2^n alone may lie outside the normal numbers
        return x * self._power_of_two(half) * self._power_of_two(self.b.sub(n_int, half))

    def _avx512(self, name, *vectors, rounding=()):
        """An instruction that only AVX-512 has, on all lanes of each register that the vectors fill."""
        lanes = self.target.vector_bytes // self.itemsize
        register, mask = ir.VectorType(self.scalar, lanes), ir.IntType(lanes)
        kind = ir.FunctionType(register, [register] * len(vectors) + [mask] + [I32] * len(rounding))
        name = f"llvm.x86.avx512.{name}.p{'d' if self.double else 's'}.512"
        fn = declared(self.b.module, kind, name)
        rest = ir.Constant(mask, -1), *(ir.Constant(I32, r) for r in rounding)
        results = []
        for first in range(0, self.lanes, lanes):
            here = ir.Constant(ir.VectorType(I32, lanes), list(range(first, first + lanes)))
            results.append(self.b.call(fn, [*(self.b.shuffle_vector(v.v, v.v, here) for v in vectors), *rest]))
        while len(results) > 1:  # join them, two by two
            lanes *= 2
            both = ir.Constant(ir.VectorType(I32, lanes), list(range(lanes)))
            results = [self.b.shuffle_vector(x, y, both) for x, y in zip(results[::2], results[1::2], strict=True)]
        return Vec(self, results[0])

    def _inverse(self, y, rest=None):
        """1 / (y + rest); on AVX-512 by Newton steps, which are faster than a division."""
        inverse = self._half_inverse(y)
        if self.target.vector_bytes < 64:
            return inverse
        error = self.fma(-y, inverse, self.const(1.0))
        if rest is not None:
            error = self.fma(-rest, inverse, error)
        return self.fma(inverse, error, inverse)

    def _half_inverse(self, y):
        """1 / y to at least half of the digits: all of them, or what AVX-512 starts from and for float64 one step."""
        if self.target.vector_bytes < 64:
            return self.const(1.0) / y
        inverse = self._avx512("rcp14", y, y)
        return self.fma(inverse, self.fma(-y, inverse, self.const(1.0)), inverse) if self.double else inverse

    def _inverse_beside(self, y):
        """1 / y for float64 y of 1e-300 to 1e300, while the divider takes roots: three steps of third order.

        The start is off by an eighth at most: the difference of bits divides, about, as that of logarithms would.
        """
        bits = self.b.sub(self.int_const(0x7FDE623822FC16E6), self.bits(y))
        inverse = Vec(self, self.b.bitcast(bits, self.vector))
        for _ in range(3):
            error = self.fma(-y, inverse, self.const(1.0))
            inverse = self.fma(inverse, self.fma(error, error, error), inverse)
        return inverse

    def _divide(self, x, y, rest):
        """x / (y + rest) for a rest that rounding took from y, with a Newton step on the quotient."""
        inverse = self._half_inverse(y)
        quotient = x * inverse
        error = self.fma(-quotient, rest, self._residual(x, quotient, y))
        return self.fma(error, inverse, quotient)

    def over_root(self, p, step, x, y, epsilon):
        """p - step * x / (sqrt(y) + epsilon) for y >= 0 and epsilon > 0. AVX-512 takes both by Newton steps."""
        most = float(np.finfo(self.dtype).max)
        # Numbers in place of infinity: of y, and of the root's inverse at y = 0.
        largest, limit = self.const(most), self.const(most / 2)
        if self.target.vector_bytes < 64:
            if not self.double or not self.target.has_fma:
                return self.fma(-step, x / (self.sqrt(y) + epsilon), p)
            root = self.sqrt(self.select(self.less(largest, y), largest, y))
            return self.fma(-step, x * self._inverse_beside(root + epsilon), p)
        y = self.select(self.less(largest, y), largest, y)
        inverse = self._avx512("rsqrt14", y, y)
        inverse = self.select(self.less(inverse, limit), inverse, limit)
        root = y * inverse
        if self.double:
            error = self.fma(root, inverse * -0.5, self.const(0.5))
            root, inverse = self.fma(root, error, root), self.fma(inverse, error, inverse)
        twice = self.fma(root, self.const(2.0), epsilon + epsilon)
        twice = self.fma(self.fma(-root, root, y), inverse, twice)  # what the root lacks
        beside = self.target.divides_beside and not self.double
        return self.fma(-(step + step), x / twice if beside else x * self._inverse(twice), p)

    def _residual(self, x, u, v):
        """x - u * v for x close to u * v, as if the product were exact (without fma: Dekker 1971)."""
        if self.target.has_fma:
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

    def expm1(self, x):
        """e^x - 1 for x <= 0, taken without cancellation; NaN gives NaN."""
        n_int, n, r, exact = self._reduce(self._at_least(-60.0, x), of_sum=True)
        rest = None
        if self.double:  # what rounding took from r: without it, tanh would be off by more than 2 ulp
            rest = self.fma(n, self.const(-self._LOG2[True][1]), exact - r)
        scale = self._power_of_two(n_int)
        return self.fma(scale, self._expm1_reduced(r, rest), scale - 1.0)

    # log. With x = 2^k (1 + f), |log(1 + f)| <= log(2)/2 and s = f / (2 + f), log(1 + f) = f - s (f - R(s^2)) (fdlibm).
    LOG32 = (0.24279078841, 0.28498786688, 0.40000972152, 0.66666662693)
    LOG64 = (
        *(1.479819860511658591e-01, 1.531383769920937332e-01, 1.818357216161805012e-01, 2.222219843214978396e-01),
        *(2.857142874366239149e-01, 3.999999999940941908e-01, 6.666666666666735130e-01),
    )

    def log(self, x):
        """The natural logarithm of normal numbers x > 0; NaN gives NaN."""
        shift, magic = (52, 1.5 * 2.0**52) if self.double else (23, 1.5 * 2.0**23)
        bits, root = self.bits(x), self.bits(self.const(math.sqrt(0.5)))
        k = self.b.ashr(self.b.sub(bits, root), self.int_const(shift))
        f = Vec(self, self.b.bitcast(self.b.sub(bits, self.b.shl(k, self.int_const(shift))), self.vector)) - 1.0
        n = Vec(self, self.b.bitcast(self.b.add(k, self.bits(self.const(magic))), self.vector)) - magic
        s, half = f / (f + 2.0), f * f * 0.5
        z = s * s
        series = z * self.horner(z, self.LOG64 if self.double else self.LOG32)
        high, low = self._LOG2[self.double]
        result = n * high - ((half - self.fma(s, half + series, n * low)) - f)
        return self.select(self.b.fcmp_unordered("uno", x.v, x.v), x, result)

    def log1p(self, x):
        """log(1 + x) for -1 < x <= 1: the logarithm of what 1 + x rounds to, and what rounding took, divided by it."""
        y = x + 1.0
        return self.log(y) + (x - (y - 1.0)) / y

    def sigmoid(self, x):
        """1 / (1 + e^-x), written with e^-|x| so that it keeps its relative accuracy for negative x."""
        e = self.exp(-self.abs(x), negative=True)
        y = e + 1.0
        top, rest = self.select(self.less(x, self.const(0.0)), e, self.const(1.0)), e - (y - 1.0)
        return top * self._inverse(y, rest) if self.target.vector_bytes == 64 else self._divide(top, y, rest)

    def tanh(self, x):
        """-m / (2 + m) with m = e^(-2|x|) - 1 taken without cancellation; the sign is put back."""
        below = -self.abs(x)
        m = self.expm1(below + below)  # a product would wait for the multipliers
        y = m + 2.0
        return self.copysign(self._divide(-m, y, m - (y - 2.0)), x)

    # The normal distribution's tail. (w + k) Q(w) e^(w^2 / 2) for w >= 0 is a polynomial in t = (w - k) / (w + k), from
    # a Chebyshev series in 50 digits; off by less than 2^-28 and 2^-53 of itself.
    TAIL32 = (
        *(2.118298426e-05, -1.731082301e-06, -0.0002155737763, 0.0001336533871, 0.001622040106, -0.003479954637),
        *(-0.00753771716, 0.06039664828, -0.1865221598, 0.3871373939, -0.6078966314, 0.7552851305),
    )
    TAIL64 = (
        *(-7.854458583247658e-10, 5.059297487966696e-10, 9.275082241537343e-09, -5.027231930966982e-09),
        *(-6.741689051823604e-08, 3.5844546560871596e-08, 4.3347664285137567e-07, -3.311028544331811e-07),
        *(-2.7688787836720915e-06, 3.977938262343427e-06, 1.6680852719925394e-05, -4.976178374018789e-05),
        *(-5.937558833377767e-05, 0.0005448988347568596, -0.0007978694277475297, -0.0029933767389359726),
        *(0.02079506680323404, -0.06911863870874183, 0.16502036617019517, -0.3135331566712172),
        *(0.4953056159699805, -0.6653825028900576, 0.769193049750063),
    )

    def clip(self, x, bound):
        """x between -bound and bound; NaN gives NaN."""
        x = self._at_least(-bound, x)
        return self.select(self.less(self.const(bound), x), self.const(bound), x)

    def normal(self, z):
        """The standard normal distribution's value at z, and its density there: Phi(z), phi(z)."""
        w, k = self.abs(self.clip(z, 40.0)), 5.0 if self.double else 4.0
        square = w * w
        bell = self.exp(square * -0.5, negative=True)
        bell = bell + bell * self._residual(square, w, w) * 0.5  # what rounding took from the square
        tail = bell * self.horner((w - k) / (w + k), self.TAIL64 if self.double else self.TAIL32) / (w + k)
        below = self.select(self.less(z, self.const(0.0)), tail, 1.0 - tail)
        return below, bell * (1 / math.sqrt(2 * math.pi))


class Vec:
    """A vector value with operators; a Python float on the other side becomes a constant."""

    def __init__(self, simd, v):
        self.simd, self.v = simd, v

    def _op(self, name, x, y):
        x, y = (value if isinstance(value, Vec) else self.simd.const(value) for value in (x, y))
        return Vec(self.simd, getattr(self.simd.b, name)(x.v, y.v))

    def __add__(self, other):
        return self._op("fadd", self, other)

    def __sub__(self, other):
        return self._op("fsub", self, other)

    def __rsub__(self, other):
        return self._op("fsub", other, self)

    def __mul__(self, other):
        return self._op("fmul", self, other)

    def __truediv__(self, other):
        return self._op("fdiv", self, other)

    def __rtruediv__(self, other):
        return self._op("fdiv", other, self)

    def __neg__(self):
        return Vec(self.simd, self.simd.b.fneg(self.v))
