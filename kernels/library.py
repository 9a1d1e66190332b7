"""The library: every vector function that kernels call, compiled once per dtype and called by address.

Numba would compile such a function again into each function above it. Here one cached entry, `entry.addresses`,
holds them all and fills a table with their addresses; the kernels get that table's own address as `lib`.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from . import simd
from .activations import ACTIVATIONS
from .losses import LOSSES
from .simd import I64, TILE_ROWS, TILE_UNITS

# Where each function's address is in the table. Tiles come first: rows + units * TILE_STRIDE.
TILE_STRIDE = max(TILE_ROWS) + 1
TRANSPOSE = (TILE_UNITS + 1) * TILE_STRIDE
ADD = TRANSPOSE + 1
GATHER, GATHER_BYTES, ONE_HOT, UNPAD = range(ADD + 1, ADD + 5)
VALUE = UNPAD + 1  # + the activation's code
SLOPE = VALUE + len(ACTIVATIONS)  # + the activation's code
LOSS = SLOPE + len(ACTIVATIONS)  # + the loss's code
SIZE = LOSS + len(LOSSES)


def _emit(module, kind):
    """Yield (place in the table, function) for all of them."""
    for units in range(1, TILE_UNITS + 1):
        for rows in range(1, TILE_ROWS[units] + 1):
            yield units * TILE_STRIDE + rows, simd.tile(module, kind, f"tile_{rows}x{units}", rows, units)
    yield TRANSPOSE, simd.transpose(module, kind, "transpose")
    yield ADD, simd.elementwise(module, kind, "add", lambda s, x, y: x + y)
    yield GATHER, simd.gather(module, kind, "gather", kind)
    yield GATHER_BYTES, simd.gather(module, kind, "gather_bytes", types.uint8)
    yield ONE_HOT, simd.one_hot(module, kind, "one_hot")
    yield UNPAD, simd.unpad(module, kind, "unpad")
    for code, (name, (value, slope)) in enumerate(ACTIVATIONS.items()):
        yield VALUE + code, simd.elementwise(module, kind, name, lambda s, z, _, f=value: f(s, z))
        yield SLOPE + code, simd.elementwise(module, kind, f"{name}_slope", slope)
    for code, (name, function) in enumerate(LOSSES.items()):
        yield LOSS + code, simd.summed(module, kind, name, function)


@intrinsic
def fill_table(typing_context, dt, table):
    """Write the addresses of the functions for dt's dtype to the int64 table at an address."""

    def codegen(context, b, signature, arguments):
        start = b.inttoptr(arguments[1], ir.PointerType())
        for place, function in _emit(b.module, signature.args[0]):
            slot = b.gep(start, [ir.Constant(I64, place)], source_etype=I64)
            b.store(b.ptrtoint(function, I64), slot)
        return context.get_dummy_value()

    return types.void(dt, types.int64), codegen


def _caller(*arguments, result=types.void):
    """Intrinsic `(lib, place, *arguments)`: call the function at `place` of the table at the address `lib`."""

    def codegen(context, b, signature, values):
        lib, place, *values = values
        slot = b.gep(b.inttoptr(lib, ir.PointerType()), [place], source_etype=I64)
        returned = ir.VoidType() if result == types.void else context.get_value_type(result)
        kind = ir.FunctionType(returned, [context.get_value_type(t) for t in arguments])
        value = b.call(b.inttoptr(b.load(slot, typ=I64), ir.PointerType(kind)), values)
        return context.get_dummy_value() if result == types.void else value

    return result(types.int64, types.int64, *arguments), codegen


@intrinsic
def call_tile(typing_context, lib, place, a, a_row, a_k, b, b_k, k, c0, c0_row, c, c_row):
    """Call a tile; see `simd.tile`."""
    return _caller(*[types.int64] * 10)


@intrinsic
def call_transpose(typing_context, lib, place, rows, source, row, zeros, out, out_row):
    """Call the transpose; see `simd.transpose`."""
    return _caller(*[types.int64] * 6)


@intrinsic
def call_elementwise(typing_context, lib, place, n, out, x, y):
    """Call an elementwise function; see `simd.elementwise`."""
    return _caller(*[types.int64] * 4)


@intrinsic
def call_summed(typing_context, lib, place, scale, rows, n, d, x, y):
    """Call a loss; see `simd.summed`."""
    return _caller(types.float64, *[types.int64] * 5, result=types.float64)


@intrinsic
def call_gather(typing_context, lib, place, scale, rows, order, more, source, row, n, out, out_row):
    """Call a gather; see `simd.gather`."""
    return _caller(types.float64, *[types.int64] * 8)


@intrinsic
def call_one_hot(typing_context, lib, place, rows, order, labels, out, out_row):
    """Call the one-hot gather; see `simd.one_hot`."""
    return _caller(*[types.int64] * 5)


@intrinsic
def call_unpad(typing_context, lib, place, rows, n, source, row, out, out_row):
    """Call the copy of rows without their padding; see `simd.unpad`."""
    return _caller(*[types.int64] * 6)
