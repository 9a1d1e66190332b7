"""The order of the samples in an epoch."""

from llvmlite import ir
from numba.core import cgutils

from ..cpu.simd import I32, I64, int64
from .function import vector_function

GROWTH = 0x9E3779B97F4A7C15  # what SplitMix64 adds to its state each time


def mixed(b, z):
    """64 random bits from the state z of SplitMix64 (Steele, Lea and Flood 2014), which grows by GROWTH each time."""
    const = int64 if z.type == I64 else lambda x: ir.Constant(z.type, [x] * z.type.count)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = b.mul(b.xor(z, b.lshr(z, const(shift))), const(factor))
    return b.xor(z, b.lshr(z, const(31)))


@vector_function("order n state")
def draw_order(code):
    """Write a random permutation of n numbers, int32, to the address `order` (Fisher-Yates, inside out).

    The range is unbiased (Lemire 2019): a product whose low half is too small is drawn again. `state` is the address of
    the generator's 64 bits.
    """
    _draw(code.b, *code.arguments)


@vector_function("order n due state")
def group_draw_orders(code):
    """Draw the order of each network of a group that is due, as `draw_order`.

    The arguments are addresses of int64 numbers, one a network: where orders lie, their lengths, which networks are
    due (not 0), and the generators' states.
    """
    b = code.b
    with cgutils.for_range(b, int64(code.networks), intp=I64) as at:
        places = [b.add(table, b.mul(at.index, int64(8))) for table in code.arguments]
        order, n, due = (b.load(b.inttoptr(place, ir.PointerType()), typ=I64) for place in places[:3])
        with b.if_then(b.icmp_signed("!=", due, int64(0))):
            _draw(b, order, n, places[3])


def _draw(b, order, n, state_at):
    """Write the code of `draw_order`."""
    state_at = b.inttoptr(state_at, ir.PointerType())
    state = cgutils.alloca_once_value(b, b.load(state_at, typ=I64))

    def place(i):
        return b.inttoptr(b.add(order, b.mul(i, int64(4))), ir.PointerType())

    with cgutils.for_range(b, n, intp=I64) as at:
        span = b.add(at.index, int64(1))
        again, drawn = b.append_basic_block("again"), b.append_basic_block("drawn")
        b.branch(again)
        b.position_at_end(again)
        z = b.add(b.load(state), int64(GROWTH))
        b.store(z, state)
        product = b.mul(b.lshr(mixed(b, z), int64(32)), span)
        low = b.and_(product, int64(0xFFFFFFFF))
        with b.if_then(b.icmp_unsigned("<", low, span), likely=False):  # else no division is needed
            threshold = b.urem(b.sub(int64(1 << 32), span), span)
            b.cbranch(b.icmp_unsigned("<", low, threshold), again, drawn)
        b.branch(drawn)
        b.position_at_end(drawn)
        j = b.lshr(product, int64(32))
        b.store(b.load(place(j), typ=I32), place(at.index))
        b.store(b.trunc(at.index, I32), place(j))
    b.store(b.load(state), state_at)
