"""The order of the samples in an epoch."""

from llvmlite import ir

from ..cpu.flow import declared, for_range, variable, variable_of
from ..cpu.simd import I32, I64, int64, splat
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
    b, lanes = code.b, code.networks
    order, n, due, state_at = code.arguments
    kind, zeros = ir.VectorType(I64, lanes), ir.Constant(ir.VectorType(I32, lanes), [0] * lanes)
    lengths, dues = (b.load(b.inttoptr(table, ir.PointerType()), typ=kind, align=8) for table in (n, due))
    first = b.shuffle_vector(lengths, lengths, zeros)
    alike = b.and_(b.icmp_signed("==", lengths, first), b.icmp_signed("!=", dues, ir.Constant(kind, [0] * lanes)))
    begin = variable_of(b, int64(0))
    with b.if_then(b.not_(_any(b, b.not_(alike)))):
        _draw_side_by_side(code, order, b.extract_element(lengths, int64(0)), state_at, begin)
    with for_range(b, int64(lanes)) as at:
        places = [b.add(table, b.mul(at, int64(8))) for table in code.arguments]
        order, n, due = (b.load(b.inttoptr(place, ir.PointerType()), typ=I64) for place in places[:3])
        with b.if_then(b.icmp_signed("!=", due, int64(0))):
            _draw(b, order, n, places[3], b.load(begin))


def _any(b, mask):
    """Whether a lane of a mask is true."""
    kind, name = ir.FunctionType(ir.IntType(1), [mask.type]), f"llvm.vector.reduce.or.v{mask.type.count}i1"
    return b.call(declared(b.module, kind, name), [mask])


def _draw_side_by_side(code, order, n, state_at, begin):
    """Write the code that draws orders of n numbers for all networks of a group, until one would draw a number again.

    `begin` becomes how many numbers are drawn.
    """
    b, kind = code.b, ir.VectorType(I64, code.networks)
    starts = b.load(b.inttoptr(order, ir.PointerType()), typ=kind, align=8)
    states = b.inttoptr(state_at, ir.PointerType())
    places = variable(b, kind)

    def const(x):
        return ir.Constant(kind, [x] * code.networks)

    entry, (loop, swap, done) = b.block, map(b.append_basic_block, ("draw", "swap", "drawn"))
    start = b.load(states, typ=kind, align=8)
    b.cbranch(b.icmp_signed(">", n, int64(0)), loop, done)
    b.position_at_end(loop)
    i, z = b.phi(I64), b.phi(kind)
    following, span = b.add(z, const(GROWTH)), b.add(i, int64(1))
    spans = splat(b, span, kind)
    low_half = const(0xFFFFFFFF)  # tells LLVM that a product of 32 bits each is enough
    product = b.mul(b.lshr(mixed(b, following), const(32)), b.and_(spans, low_half))
    again = _any(b, b.icmp_unsigned("<", b.and_(product, low_half), spans))
    b.cbranch(again, done, swap)
    b.position_at_end(swap)
    number = b.trunc(i, I32)
    b.store(b.add(starts, b.shl(b.lshr(product, const(32)), const(2))), places)
    for lane in range(code.networks):
        place = b.add(b.ptrtoint(places, I64), int64(8 * lane))
        other = b.inttoptr(b.load(b.inttoptr(place, ir.PointerType()), typ=I64), ir.PointerType())
        here = b.add(b.extract_element(starts, int64(lane)), b.shl(i, int64(2)))
        b.store(b.load(other, typ=I32, align=4), b.inttoptr(here, ir.PointerType()), align=4)
        b.store(number, other, align=4)
    b.cbranch(b.icmp_signed("<", span, n), loop, done)
    for phi, value, after in ((i, int64(0), span), (z, start, following)):
        phi.add_incoming(value, entry)
        phi.add_incoming(after, swap)
    b.position_at_end(done)
    drawn, left = b.phi(I64), b.phi(kind)
    for phi, values in ((drawn, (int64(0), i, span)), (left, (start, z, following))):
        for value, block in zip(values, (entry, loop, swap), strict=True):
            phi.add_incoming(value, block)
    b.store(drawn, begin)
    b.store(left, states, align=8)


def _draw(b, order, n, state_at, begin=None):
    """Write the code of `draw_order`, from number `begin` on."""
    state_at = b.inttoptr(state_at, ir.PointerType())
    state = variable_of(b, b.load(state_at, typ=I64))

    def place(i):
        return b.inttoptr(b.add(order, b.mul(i, int64(4))), ir.PointerType())

    begin = int64(0) if begin is None else begin
    with for_range(b, begin, n, int64(1)) as index:
        span = b.add(index, int64(1))
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
        b.store(b.load(place(j), typ=I32), place(index))
        b.store(b.trunc(index, I32), place(j))
    b.store(b.load(state), state_at)
