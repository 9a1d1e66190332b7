"""The library: every vector function, compiled once per dtype and called by address; and programs of such calls.

A program is an int64 array of operations, one a row: the address of a function of the library, then its arguments.
Python writes programs (`network`), once a fit; running one is a loop over its rows. So all decisions about shapes and
options are plain Python, and the compiled code knows nothing but vectors.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from . import barrier, simd
from .activations import ACTIVATIONS
from .losses import LOSSES
from .optimizers import N_SCALARS, OPTIMIZERS, VECTORS
from .simd import I64, MOST_ARGUMENTS, TILES

WIDTH = 1 + MOST_ARGUMENTS  # of an operation
# Arguments that `entry` changes between runs; the same in every operation that loads samples.
ROWS, ORDER, LEFT, SOURCE = range(1, 5)
IN_PLACE = 3  # the address of the samples in those that read them where they lie, `tiles` and `fetch`
UNPAD_OUT = 5


def bits(x):
    """A float64 as the int64 argument of an operation."""
    return int(np.float64(x).view(np.int64))


def _emit(module, kind):
    """Yield (name, function) for all of them."""
    for rows, units in TILES:
        yield f"tiles_{rows}x{units}", simd.tiles(module, kind, f"tiles_{rows}x{units}", rows, units)
    yield "transpose", simd.transpose(module, kind, "transpose")
    yield "rank_one", simd.rank_one(module, kind, "rank_one")
    yield "outer", simd.outer(module, kind, "outer")
    yield "add", simd.elementwise(module, kind, "add", lambda s, x, y: x + y)
    yield "zero", simd.elementwise(module, kind, "zero", lambda s, x, y: s.const(0.0))
    yield "exp", simd.elementwise(module, kind, "exp", lambda s, x, y: s.exp(x))
    for name, source in (("gather", kind), ("gather_bytes", types.uint8)):
        yield name, simd.gather(module, kind, name, source)
        yield f"{name}_columns", simd.gather_columns(module, kind, f"{name}_columns", source)
    yield "prefetch", simd.prefetch(module, kind, "prefetch", 2)
    yield "prefetch_near", simd.prefetch(module, kind, "prefetch_near", 1)
    yield "fetch", simd.fetch(module, kind, "fetch")
    yield "one_hot", simd.one_hot(module, kind, "one_hot")
    yield "one_hot_columns", simd.one_hot_columns(module, kind, "one_hot_columns")
    yield "collect", simd.collect(module, kind, "collect")
    yield "unpad", simd.unpad(module, kind, "unpad")
    yield "barrier", barrier.emit(module, "barrier")
    for name, (value, slope) in ACTIVATIONS.items():
        yield name, simd.elementwise(module, kind, name, lambda s, z, _, f=value: f(s, z), simd.AT_ONCE)
        yield f"{name}_slope", simd.elementwise(module, kind, f"{name}_slope", slope)
        yield f"{name}_row", simd.row(module, kind, f"{name}_row", value)
        yield f"{name}_dots", simd.dots(module, kind, f"{name}_dots", slope)
    for name, function in OPTIMIZERS.items():
        yield name, simd.update(module, kind, name, function, VECTORS[name], N_SCALARS)
    for name, function in LOSSES.items():
        yield name, simd.summed(module, kind, name, function)


NAMES = [
    *(f"tiles_{rows}x{units}" for rows, units in TILES),
    *(
        "transpose",
        "rank_one",
        "outer",
        "add",
        "zero",
        "exp",
        "gather",
        "gather_columns",
        "gather_bytes",
        "gather_bytes_columns",
        "prefetch",
        "prefetch_near",
        "fetch",
        "one_hot",
        "one_hot_columns",
        "collect",
        "unpad",
        "barrier",
    ),
    *(name + suffix for name in ACTIVATIONS for suffix in ("", "_slope", "_row", "_dots")),
    *OPTIMIZERS,
    *LOSSES,
]


@intrinsic
def fill_table(typing_context, dt, table):
    """Write the addresses of NAMES, for dt's dtype, to the int64 table at an address."""

    def codegen(context, b, signature, arguments):
        start = b.inttoptr(arguments[1], ir.PointerType())
        for name, function in _emit(b.module, signature.args[0]):
            slot = b.gep(start, [ir.Constant(I64, NAMES.index(name))], source_etype=I64)
            b.store(b.ptrtoint(function, I64), slot)
        return context.get_dummy_value()

    return types.void(dt, types.int64), codegen


@intrinsic
def run_program(typing_context, program, n):
    """Run the n operations at the address `program`."""

    def codegen(context, b, signature, arguments):
        program, n = arguments
        kind = ir.PointerType(ir.FunctionType(ir.VoidType(), [I64]))
        with cgutils.for_range(b, n, intp=I64) as at:
            operation = b.add(program, b.mul(at.index, ir.Constant(I64, 8 * WIDTH)))
            function = b.load(b.inttoptr(operation, ir.PointerType()), typ=I64)
            b.call(b.inttoptr(function, kind), [operation])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen
