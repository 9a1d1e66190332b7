"""What functions of LLVM are made of beside instructions: loops, variables, and the functions that they call."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from llvmlite import ir

I64 = ir.IntType(64)
compiling = threading.RLock()  # held by the thread that compiles or loads code


@contextmanager
def for_range(
    b: ir.IRBuilder, start: ir.Value, stop: ir.Value | None = None, step: ir.Value | None = None
) -> Iterator[ir.Value]:
    """A loop over Python's range of int64 numbers: up to the first, or from `start` to `stop`. Gives the number."""
    first, end = (I64(0), start) if stop is None else (start, stop)
    test, body, done = (b.append_basic_block(f"for.{name}") for name in ("test", "body", "done"))
    before = b.block
    b.branch(test)
    b.position_at_end(test)
    i = b.phi(I64, name="i")
    b.cbranch(b.icmp_signed("<", i, end), body, done)
    b.position_at_end(body)
    yield i
    following = b.add(i, I64(1), flags=["nsw"]) if step is None else b.add(i, step)
    i.add_incoming(first, before)
    i.add_incoming(following, b.block)
    b.branch(test)
    b.position_at_end(done)


def variable(b: ir.IRBuilder, kind: ir.Type, size: int | None = None) -> ir.Value:
    """A pointer to memory of the function's call, for one or several of a kind; it begins with zeros."""
    with b.goto_entry_block():
        place = b.alloca(kind, size=None if size is None else I64(size))
        b.store(kind(None), place)
    return place


def variable_of(b: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """A pointer to memory of the function's call that holds a value, for now."""
    place = variable(b, value.type)
    b.store(value, place)
    return place


def declared(module: ir.Module, kind: ir.FunctionType, name: str) -> ir.Function:
    """The function of this name in a module, declared there if need be."""
    return module.globals.get(name) or ir.Function(module, kind, name)
