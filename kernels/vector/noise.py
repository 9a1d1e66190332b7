"""Random numbers from counters: dropout and input noise.

A sample's neuron has a counter of its own in an epoch, and each step has a key. A hash of the two gives 32 random bits,
wherever and whenever they are needed: forward, backward, and on any thread.
"""

import contextlib

from llvmlite import ir

from ..cpu.flow import for_range
from ..cpu.simd import I32, I64, Vec, int64, splat
from ..cpu.target import LINE_BYTES
from .batches import GROWTH, mixed
from .function import vector_function

SALT = 0x9E3779B9  # times a layer's salt: each layer draws other numbers
# The hash: a multiply-xorshift of 32 bits with little bias (Wellons 2018, "lowbias32"), and half of the key in between.
HASH = ((16, 0x7FEB352D), (15, 0x846CA68B))
# The inverse of the error function of x, divided by x, as polynomials in w = -log(1 - x^2), or in its root where that
# is at least 5 (Giles 2010, single precision).
CENTRE = (
    *(2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503),
    *(-0.00417768164, 0.246640727, 1.50140941),
)
TAIL = (
    *(-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613),
    *(0.00943887047, 1.00167406, 2.83297682),
)


@vector_function("state key:w*[1,1]")
def draw_key(code):
    """key = the next 64 random bits of the generator whose state lies at an address (see `batches`)."""
    b = code.b
    kind = ir.VectorType(I64, code.networks)
    state, key = (b.inttoptr(place, ir.PointerType()) for place in code.arguments)
    z = b.add(b.load(state, typ=kind, align=8), ir.Constant(kind, [GROWTH] * code.networks))
    b.store(z, state, align=8)
    b.store(mixed(b, z), key, align=8)


class _Bits:
    """Random bits for a vector's lanes, int32, by a key or, in a group of networks, one of each lane."""

    def __init__(self, s, key, salt, networks):
        self.b, self.kind = s.b, ir.VectorType(I32, s.lanes)
        of_salt = self.splat(s.b.mul(s.b.trunc(salt, I32), ir.Constant(I32, SALT)))
        low, high = self.halves(
            s.b.load(s.b.inttoptr(key, ir.PointerType()), typ=ir.VectorType(I64, networks), align=8)
        )
        self.keys = s.b.xor(low, of_salt), high

    def halves(self, keys):
        """The low and the high halves of 64 bits, one for all lanes or one of each."""
        b, shift = self.b, ir.Constant(keys.type, [32] * keys.type.count)
        found = [b.trunc(x, ir.VectorType(I32, keys.type.count)) for x in (keys, b.lshr(keys, shift))]
        if keys.type.count == self.kind.count:
            return found
        return [self.splat(b.extract_element(x, ir.Constant(I32, 0))) for x in found]

    def splat(self, value):
        return splat(self.b, value, self.kind)

    def const(self, value):
        return ir.Constant(self.kind, [value] * self.kind.count)

    def of(self, counters):
        """The bits of some counters."""
        b, x = self.b, counters
        for key, (shift, factor) in zip(self.keys, HASH, strict=True):
            x = b.xor(x, key)
            x = b.mul(b.xor(x, b.lshr(x, self.const(shift))), self.const(factor))
        return b.xor(x, b.lshr(x, self.const(16)))


@contextlib.contextmanager
def _each_vector(code, s, rows, n_bytes, stride, position, width, begin, bits, columns):
    """A loop over the vectors of `rows` rows: gives (offset of the vector, its first column, its random bits).

    Sample `position` + i and neuron `begin` + j have the counter (position + i) * width + begin + j. Samples are rows,
    or columns.
    """
    b = s.b
    if code.per_network:
        yield from _each_number(s, rows, n_bytes, stride, position, width, begin, bits)
        return
    first = b.add(b.mul(position, width), begin)
    of_row, of_lane = (int64(1), width) if columns else (width, int64(1))
    lane_step = bits.splat(b.trunc(of_lane, I32))
    lanes = b.mul(lane_step, ir.Constant(bits.kind, list(range(s.lanes))))
    with for_range(b, rows) as row:
        start, counter = b.mul(row, stride), b.add(first, b.mul(row, of_row))
        with for_range(b, int64(0), n_bytes, int64(s.vector_bytes)) as j:
            column = b.sdiv(j, int64(s.itemsize))
            here = bits.splat(b.trunc(b.add(counter, b.mul(column, of_lane)), I32))
            yield b.add(start, j), column, bits.of(b.add(here, lanes))


def _each_number(s, rows, n_bytes, stride, position, width, begin, bits):
    """As `_each_vector` for a group of networks; each has a position, int64, at the address `position`."""
    b = s.b
    kind = ir.VectorType(I64, s.lanes)
    positions = b.trunc(b.load(b.inttoptr(position, ir.PointerType()), typ=kind, align=8), bits.kind)
    width32 = bits.splat(b.trunc(width, I32))
    first = b.add(b.mul(positions, width32), bits.splat(b.trunc(begin, I32)))
    with for_range(b, rows) as row:
        start, of_row = b.mul(row, stride), b.mul(row, width)
        with for_range(b, int64(0), n_bytes, int64(LINE_BYTES)) as j:
            column = b.sdiv(j, int64(LINE_BYTES))
            yield b.add(start, j), column, bits.of(b.add(first, bits.splat(b.trunc(b.add(of_row, column), I32))))


_PLACE = "position width begin"  # the first sample's position, neurons a sample, the first neuron; see `_each_vector`


@vector_function(
    f"rows=out.rows n=out.row_bytes out.row_stride out:w[r,c] x:r[r,c] key:r*[1,1] {_PLACE} salt rate:r*[1,1]"
)
def dropout(code, columns):
    """out = 0 with probability `rate`, else x / (1 - rate): Srivastava et al. 2014, scaled while training."""
    b, s = code.b, code.simd()
    rows, n, stride, out, x, key, *place, salt, rate = code.arguments
    bits, numbers = _Bits(s, key, salt, code.networks), code.double()
    rate = numbers.load(rate)
    whole = b.fptoui((rate * 2.0**32).v, ir.VectorType(I64, code.networks))
    limit, _ = bits.halves(whole)
    scale = code.spread(s, numbers.const(1.0) / (numbers.const(1.0) - rate))
    with _each_vector(code, s, rows, n, stride, *place, bits, columns) as (at, _, drawn):
        stays = b.icmp_unsigned(">=", drawn, limit)
        s.store(s.select(stays, s.load(b.add(x, at)) * scale, s.const(0.0)), b.add(out, at))


def _normal(s, bits):
    """Standard normal numbers of single precision from 23 random bits each, by the inverse of their distribution."""
    b = s.b
    kind = ir.VectorType(I32, s.lanes)
    whole = b.uitofp(b.lshr(bits, ir.Constant(kind, [9] * s.lanes)), s.vector)
    x = (Vec(s, whole) + 0.5) * 2.0**-22 - 1.0
    w = -s.log((s.const(1.0) - x) * (x + 1.0))
    root = s.sqrt(w)
    inside = s.less(w, s.const(5.0))
    ratio = s.select(inside, s.horner(w - 2.5, CENTRE), s.horner(root - 3.0, TAIL))
    return ratio * x * 2.0**0.5


@vector_function(
    "rows=out.rows n=out.row_bytes out.row_stride cols=out.cols out:rw[r,c] key:r*[1,1] "
    f"{_PLACE} salt deviation:r*[1,1]"
)
def add_noise(code, columns):
    """out += deviation * normal numbers, but not behind the last column."""
    b, s = code.b, code.simd()
    rows, n, stride, cols, out, key, *place, salt, deviation = code.arguments
    bits, deviation = _Bits(s, key, salt, code.networks), code.number(s, deviation)
    with _each_vector(code, s, rows, n, stride, *place, bits, columns) as (at, column, drawn):
        noise = _normal(s, drawn) * deviation
        if not code.per_network:
            noise = s.select(s.lanes_below(b.sub(cols, column)), noise, s.const(0.0))
        here = b.add(out, at)
        s.store(s.load(here) + noise, here)
