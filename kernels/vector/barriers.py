"""Threads that share a batch: what each of them computes, and where they wait for each other.

They share by neurons: each computes its columns of a layer's a and d, and updates its columns of W. So weights and
samples stay in the cache of its core. It waits where all columns of a layer are needed. Where a layer is too narrow to
share, every thread computes all of it, and they share its update by rows of W.

A barrier is a counter that only grows. Who waits spins for a bounded time, and then offers the CPU to others. When the
other thread has lost its core, one that only spins keeps the core from it, and both run hundreds of times slower.

A wait without a bound is only for a thread that is in compiled code and stays there until its work is done. So a call
of training begins with a bounded wait, until all helping threads are present and have been claimed, all at once or none
of them. A helper that is claimed stays until it is stopped. One that is not may leave at any time, or never come.
"""

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir

from ..cpu.flow import declared
from ..cpu.simd import I64, int64
from .function import vector_function
from .matrix import Matrix

MAX_SPINS = 1000  # a few microseconds to tens of them, longer than threads with equal shares wait for each other

CLAIMED = 2**32  # is added to `present` when the helpers are claimed

# What threads tell each other during one call: how many helpers are present, counters on cache lines of their own
# (false sharing), then the block that is due. A helper that comes after its call finds it stopped, for good.
MAILBOX: Any = np.dtype(
    {
        "names": ["present", "done", "posted", "stopped", "first", "part", "begins", "ends"],
        "formats": ["i8"] * 8,
        "offsets": [0, 64, 128, 192, 256, 264, 272, 280],
        "itemsize": 320,
    }
)
# The counter of a barrier, and on another line what stops a wait: always 0, because all its threads are claimed.
BARRIER: Any = np.dtype({"names": ["come", "stopped"], "formats": ["i8"] * 2, "offsets": [0, 64], "itemsize": 128})


@dataclass(frozen=True)
class Worker:
    """One of `count` threads that share a batch, and the counter of their barriers."""

    index: int = 0
    count: int = 1
    counter: Matrix | None = None

    def barrier(self, program: Any) -> None:
        """Wait for the others."""
        if self.count > 1:
            program.add("barrier", counter=self.counter, workers=self.count)

    def shard(self, n: int, least: int = 1) -> tuple[int, int]:
        """(first, stop) of this worker's shard of n things; a shard has at least `least` of them, or none."""
        sharing = max(1, min(self.count, n // least))
        if self.index >= sharing:
            return 0, 0
        return n * self.index // sharing, n * (self.index + 1) // sharing


def pointer(b, address):
    return b.inttoptr(address, ir.PointerType())


def grow(b, address, by):
    """Add to a counter; gives its value before."""
    return b.atomic_rmw("add", pointer(b, address), by, ordering="acq_rel")


def waiter(module):
    """The function wait(counter, value, stop, rests). It returns 0 when counter >= value, and 1 when *stop is not 0.

    It returns 2 when it has offered the CPU to others `rests` times; a negative number has no end.
    """
    kind = ir.FunctionType(I64, [I64] * 4)
    if "fastnn_wait" in module.globals:
        return module.globals["fastnn_wait"]
    fn = ir.Function(module, kind, "fastnn_wait")
    fn.linkage = "internal"
    b = ir.IRBuilder(fn.append_basic_block("entry"))
    counter, value, stop, rests = fn.args
    entry = b.block
    look, again, rest = (fn.append_basic_block(name) for name in ("look", "again", "rest"))
    spin, tire, give, reached, stopped, tired = (
        fn.append_basic_block(name) for name in ("spin", "tire", "give", "reached", "stopped", "tired")
    )
    b.branch(look)
    b.position_at_end(look)
    spins, left = b.phi(I64), b.phi(I64)
    spins.add_incoming(int64(0), entry)
    left.add_incoming(rests, entry)
    seen = b.load_atomic(pointer(b, counter), "acquire", 8, typ=I64)
    b.cbranch(b.icmp_signed(">=", seen, value), reached, again)
    b.position_at_end(again)
    told = b.load_atomic(pointer(b, stop), "acquire", 8, typ=I64)
    b.cbranch(b.icmp_signed("!=", told, int64(0)), stopped, rest)
    b.position_at_end(rest)
    spins_then = b.add(spins, int64(1))
    b.cbranch(b.icmp_signed("<", spins, int64(MAX_SPINS)), spin, tire)
    b.position_at_end(spin)
    if module.triple.startswith(("x86_64", "i686")):
        b.call(declared(module, ir.FunctionType(ir.VoidType(), []), "llvm.x86.sse2.pause"), [])
    b.branch(look)
    spins.add_incoming(spins_then, b.block)
    left.add_incoming(left, b.block)
    b.position_at_end(tire)
    b.cbranch(b.icmp_signed("==", left, int64(0)), tired, give)
    b.position_at_end(give)
    name = "SwitchToThread" if sys.platform == "win32" else "sched_yield"
    b.call(declared(module, ir.FunctionType(ir.IntType(32), []), name), [])
    left_then = b.sub(left, int64(1))
    b.branch(look)
    spins.add_incoming(spins, b.block)
    left.add_incoming(left_then, b.block)
    for block, result in ((reached, 0), (stopped, 1), (tired, 2)):
        b.position_at_end(block)
        b.ret(int64(result))
    return fn


@vector_function("counter:rw*[1,m] workers")
def barrier(code):
    """Go on when as many workers have come here."""
    b = code.b
    counter, workers = code.arguments
    stopped = b.add(counter, int64(BARRIER.fields["stopped"][1]))
    value = b.mul(b.add(b.sdiv(grow(b, counter, int64(1)), workers), int64(1)), workers)
    b.call(waiter(code.module), [counter, value, stopped, int64(-1)])
