"""Where threads wait for each other: counters that only grow, a bounded spin, then the CPU is offered to others.

A thread whose partner lost its core must not burn its own while it waits, or both run hundreds of times slower.
"""

import sys

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

I64 = ir.IntType(64)
SPINS = 1000  # a few microseconds to tens of them, longer than threads with equal shares wait for each other
# The job, int64: counters on cache lines of their own, then what to do.
MEETINGS, ARRIVED, POSTED, STOPPED = 0, 8, 16, 24
FIRST, COUNT, OF, ORDER_AT, BEGINS, ENDS = range(32, 38)
JOB_SIZE = 40


def _pointer(b, address):
    return b.inttoptr(address, ir.PointerType())


def _grow(b, address):
    """Add one to a counter; gives what it was."""
    return b.atomic_rmw("add", _pointer(b, address), ir.Constant(I64, 1), ordering="acq_rel")


def _waiter(module):
    """The function wait(counter, value, stop): until counter >= value, 0, or until *stop is not 0, 1."""
    kind = ir.FunctionType(I64, [I64] * 3)
    if "fastnn_wait" in module.globals:
        return module.globals["fastnn_wait"]
    fn = ir.Function(module, kind, "fastnn_wait")
    fn.linkage = "internal"
    b = ir.IRBuilder(fn.append_basic_block("entry"))
    counter, value, stop = fn.args
    entry, look, again, rest = b.block, *(fn.append_basic_block(name) for name in ("look", "again", "rest"))
    spin, give, reached, stopped = (fn.append_basic_block(name) for name in ("spin", "give", "reached", "stopped"))
    b.branch(look)
    b.position_at_end(look)
    spins = b.phi(I64)
    spins.add_incoming(ir.Constant(I64, 0), entry)
    seen = b.load_atomic(_pointer(b, counter), "acquire", 8, typ=I64)
    b.cbranch(b.icmp_signed(">=", seen, value), reached, again)
    b.position_at_end(again)
    told = b.load_atomic(_pointer(b, stop), "acquire", 8, typ=I64)
    b.cbranch(b.icmp_signed("!=", told, ir.Constant(I64, 0)), stopped, rest)
    b.position_at_end(rest)
    more = b.add(spins, ir.Constant(I64, 1))
    b.cbranch(b.icmp_signed("<", spins, ir.Constant(I64, SPINS)), spin, give)
    b.position_at_end(spin)
    if module.triple.startswith(("x86_64", "i686")):
        b.call(cgutils.get_or_insert_function(module, ir.FunctionType(ir.VoidType(), []), "llvm.x86.sse2.pause"), [])
    b.branch(look)
    spins.add_incoming(more, b.block)
    b.position_at_end(give)
    name = "SwitchToThread" if sys.platform == "win32" else "sched_yield"
    b.call(cgutils.get_or_insert_function(module, ir.FunctionType(ir.IntType(32), []), name), [])
    b.branch(look)
    spins.add_incoming(spins, b.block)
    for block, result in ((reached, 0), (stopped, 1)):
        b.position_at_end(block)
        b.ret(ir.Constant(I64, result))
    return fn


def emit(module, name):
    """The operation: go on when as many threads have come here. Arguments: the job's address, threads."""
    fn = ir.Function(module, ir.FunctionType(ir.VoidType(), [I64]), name)
    fn.linkage = "internal"
    b = ir.IRBuilder(fn.append_basic_block("entry"))
    job, threads = (b.load(_pointer(b, b.add(fn.args[0], ir.Constant(I64, 8 * (i + 1)))), typ=I64) for i in range(2))
    before = _grow(b, b.add(job, ir.Constant(I64, 8 * MEETINGS)))
    value = b.mul(b.add(b.sdiv(before, threads), ir.Constant(I64, 1)), threads)
    stop = b.add(job, ir.Constant(I64, 8 * STOPPED))
    b.call(_waiter(module), [b.add(job, ir.Constant(I64, 8 * MEETINGS)), value, stop])
    b.ret_void()
    return fn


@intrinsic
def grow(typing_context, address):
    """Add one to the counter at an address; gives what it was."""

    def codegen(context, b, signature, arguments):
        return _grow(b, arguments[0])

    return types.int64(types.int64), codegen


@intrinsic
def wait(typing_context, counter, value, stop):
    """Wait until the counter at an address has reached the value: 0; or until what lies at `stop` is not 0: 1."""

    def codegen(context, b, signature, arguments):
        return b.call(_waiter(b.module), arguments)

    return types.int64(types.int64, types.int64, types.int64), codegen
