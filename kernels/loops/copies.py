"""Copies between places in memory that compiled loops know by their addresses alone.

Words are of 4 bytes: a number of float32 is one, a number of float64 two.
"""

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..cpu.flow import for_range
from ..cpu.simd import DOUBLE, I32, I64, int64


def _word(b, start, i):
    """A pointer to word i behind an address."""
    return b.inttoptr(b.add(start, b.mul(i, int64(4))), ir.PointerType())


@contextmanager
def _each(b, places, n):
    """A loop over n int64 numbers at an address. Gives (i, number i)."""
    with for_range(b, n) as i:
        yield i, b.load(b.inttoptr(b.add(places, b.mul(i, int64(8))), ir.PointerType()), typ=I64)


def _by_addresses(function: Callable[..., None], n: int, result: Any = types.void) -> Any:
    """What `intrinsic` takes of a function that writes code for n int64 arguments."""

    def codegen(context, b, signature, arguments):
        value = function(b, *arguments)
        return context.get_dummy_value() if value is None else value

    return result(*[types.int64] * n), codegen


@intrinsic
def unpack_words(typing_context, out, places, source, n):
    """out[places[i]] = source[i] for n words; places are int64."""

    def code(b, out, places, source, n):
        with _each(b, places, n) as (i, place):
            b.store(b.load(_word(b, source, i), typ=I32), _word(b, out, place))

    return _by_addresses(code, 4)


@intrinsic
def clear_words(typing_context, out, places, n):
    """out[places[i]] = 0 for n words; places are int64."""

    def code(b, out, places, n):
        with _each(b, places, n) as (_, place):
            b.store(ir.Constant(I32, 0), _word(b, out, place))

    return _by_addresses(code, 3)


@intrinsic
def pack_words(typing_context, out, source, places, n):
    """out[i] = source[places[i]] for n words; places are int64."""

    def code(b, out, source, places, n):
        with _each(b, places, n) as (i, place):
            b.store(b.load(_word(b, source, place), typ=I32), _word(b, out, i))

    return _by_addresses(code, 4)


@intrinsic
def renumber(typing_context, order, rows, n):
    """order[i] = rows[order[i]] for n int32 numbers."""

    def code(b, order, rows, n):
        with for_range(b, n) as at:
            place = _word(b, order, at)
            row = b.sext(b.load(place, typ=I32), I64)
            b.store(b.load(_word(b, rows, row), typ=I32), place)

    return _by_addresses(code, 3)


@intrinsic
def copy_bytes(typing_context, out, source, n):
    """Copy n bytes, a multiple of 8."""

    def code(b, out, source, n):
        with for_range(b, int64(0), n, int64(8)) as i:
            value = b.load(b.inttoptr(b.add(source, i), ir.PointerType()), typ=I64)
            b.store(value, b.inttoptr(b.add(out, i), ir.PointerType()))

    return _by_addresses(code, 3)


@intrinsic
def zero_bytes(typing_context, out, n):
    """Fill n bytes, a multiple of 8, with zeros."""

    def code(b, out, n):
        with for_range(b, int64(0), n, int64(8)) as i:
            b.store(int64(0), b.inttoptr(b.add(out, i), ir.PointerType()))

    return _by_addresses(code, 2)


@intrinsic
def copy_word(typing_context, out, source):
    """Copy 4 bytes."""

    def code(b, out, source):
        b.store(b.load(_word(b, source, int64(0)), typ=I32), _word(b, out, int64(0)))

    return _by_addresses(code, 2)


@intrinsic
def load_int64(typing_context, place):
    """The int64 number at an address."""

    def code(b, place):
        return b.load(b.inttoptr(place, ir.PointerType()), typ=I64)

    return _by_addresses(code, 1, types.int64)


@intrinsic
def store_int64(typing_context, place, value):
    """Write an int64 number to an address."""

    def code(b, place, value):
        b.store(value, b.inttoptr(place, ir.PointerType()))

    return _by_addresses(code, 2)


@intrinsic
def load_float64(typing_context, place):
    """The float64 number at an address."""

    def code(b, place):
        return b.load(b.inttoptr(place, ir.PointerType()), typ=DOUBLE)

    return _by_addresses(code, 1, types.float64)
