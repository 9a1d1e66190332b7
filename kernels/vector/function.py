"""A vector function: the arguments that its operation holds, stated once as text, and the start of its code.

An operation is the address of a function and int64 arguments. A signature names them in their order:

    tiles                 a number
    scale:float           a float64, as its bits
    A:r[m,k] C:w[m,n]     the address of a matrix that is read (r), written (w) or both (rw), and its shape
    X:r*[n,k]             of any dtype, not only the program's
    A.row_stride k=A.cols an attribute of a matrix
    gather:operation      how many bytes from here another operation of the program lies

The same letter stands for the same number in all shapes of a signature. Elements of a row are contiguous, unless the
signature has a col_stride.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir

from ..cpu.simd import I32, I64, Simd, Vec, int64, load_double, store_double
from ..cpu.target import LINE_BYTES, Target
from .matrix import ITEMSIZE, Matrix, Symbol, networks_of

MAX_ARGUMENTS = 11
OPERATION_BYTES = 8 * (1 + MAX_ARGUMENTS)
_TOKEN = re.compile(r"(?:(\w+)=)?(\w+)(?:\.(\w+)|:(\w+)(\*?)(?:\[([\w,]+)\])?)?")


@dataclass(frozen=True)
class Argument:
    """One int64 of an operation. For an attribute of a matrix, `name` is the matrix and `attribute` its attribute."""

    name: str
    kind: str  # "int", "float", "operation", "address" or "attribute"
    attribute: str = ""


@dataclass(frozen=True)
class Operand:
    """A matrix of a signature."""

    access: str  # "r", "w" or "rw"
    any_dtype: bool
    shape: tuple[str, ...]
    any_strides: bool


@dataclass(frozen=True)
class Signature:
    """The arguments of an operation in their order, and the matrices among them by name."""

    arguments: tuple[Argument, ...]
    operands: dict[str, Operand]
    names: frozenset[str]  # the keywords of a call

    @classmethod
    @cache  # many functions share one
    def of(cls, text: str) -> Signature:
        """The signature that a text states."""
        arguments, operands = [], {}
        for token in text.split():
            match = _TOKEN.fullmatch(token)
            if match is None:
                raise ValueError(f"{token!r} is no argument")
            _, name, attribute, kind, any_dtype, shape = match.groups()
            if attribute:
                arguments.append(Argument(name, "attribute", attribute))
            elif kind in ("r", "w", "rw"):
                letters = tuple(shape.split(",")) if shape else ()
                operands[name] = Operand(kind, bool(any_dtype), letters, f"{name}.col_stride" in text)
                arguments.append(Argument(name, "address"))
            elif kind in (None, "float", "operation"):
                arguments.append(Argument(name, kind or "int"))
            else:
                raise ValueError(f"{token!r} is no argument")
        if len(arguments) > MAX_ARGUMENTS:
            raise ValueError(f"an operation holds {MAX_ARGUMENTS} arguments, not {len(arguments)}")
        return cls(tuple(arguments), operands, frozenset(argument.name for argument in arguments))

    def check(self, function: str, arguments: dict[str, Any], dtype: str) -> None:
        """Raise where arguments are missing, unknown or do not fit each other."""
        if arguments.keys() != self.names:
            missing, unknown = sorted(self.names - arguments.keys()), sorted(arguments.keys() - self.names)
            raise TypeError(f"{function} takes {sorted(self.names)}: missing {missing}, unknown {unknown}")
        sizes: dict[str, tuple[int, str]] = {}
        for name, operand in self.operands.items():
            matrix = arguments[name]
            if not isinstance(matrix, Matrix):
                raise TypeError(f"{function}: {name} must be a Matrix, got {matrix!r}")
            if matrix.dtype != dtype and not operand.any_dtype:
                raise TypeError(f"{function}: {name} must be {dtype}, got {matrix.dtype} ({matrix})")
            if not operand.any_strides and matrix.cols > 1 and not matrix.is_row_major:
                raise ValueError(f"{function}: the rows of {name} must be contiguous ({matrix})")
            size = ITEMSIZE[networks_of(matrix.dtype)[0]]
            if isinstance(matrix.address, int) and (matrix.address <= 0 or matrix.address % size):
                raise ValueError(f"{function}: {name} has the address {matrix.address} ({matrix})")
            for letter, size in zip(operand.shape, (matrix.rows, matrix.cols), strict=False):
                if letter.isdecimal():
                    sizes.setdefault(letter, (int(letter), "the signature"))
                other, whose = sizes.setdefault(letter, (size, name))
                if other != size:
                    raise ValueError(
                        f"{function}: {name} is {matrix.rows} x {matrix.cols}, but {letter} is {other} by {whose}"
                    )

    def values(self, arguments: dict[str, Any], place: int) -> list[int | Symbol]:
        """The int64 arguments of operation number `place`; symbols stand for numbers that are not known yet."""
        values: list[int | Symbol] = []
        for argument in self.arguments:
            value = arguments[argument.name]
            if argument.kind == "address":
                value = value.address
            elif argument.kind == "attribute":
                value = getattr(value, argument.attribute)
            elif argument.kind == "float":
                value = float_bits(value)
            elif argument.kind == "operation":
                value = (value - place) * OPERATION_BYTES
            values.append(value)
        return values


def float_bits(x: float) -> int:
    """A float64 as an int64 argument."""
    return int(np.float64(x).view(np.int64))


class FunctionWriter:
    """The LLVM function in the making: `void name(int64 operation)`, whose arguments lie behind the operation."""

    def __init__(self, module: ir.Module, symbol: str, target: Target, dtype: str, signature: Signature):
        self.module, self.target = module, target
        self.dtype, self.networks = networks_of(dtype)
        self.vector_bytes = LINE_BYTES if self.networks > 1 else target.vector_bytes
        self.function = ir.Function(module, ir.FunctionType(ir.VoidType(), [I64]), symbol)
        self.b = ir.IRBuilder(self.function.append_basic_block("entry"))
        self.operation = self.function.args[0]
        self.arguments = [self.load_argument(self.operation, i) for i in range(len(signature.arguments))]

    def load_argument(self, operation: ir.Value, i: int) -> ir.Value:
        """Argument i of the operation at an address."""
        place = self.b.add(operation, int64(8 * (i + 1)))
        return self.b.load(self.b.inttoptr(place, ir.PointerType()), typ=I64)

    @property
    def per_network(self) -> bool:
        """Whether each lane is a network, with numbers of its own."""
        return self.networks > 1

    def simd(self, vector_bytes: int | None = None) -> Simd:
        return Simd(self.b, self.dtype, self.target, vector_bytes or self.vector_bytes)

    def double(self) -> Simd:
        """Vectors of one float64 number, or of one for each network of a group."""
        return Simd(self.b, "float64", self.target, 8 * self.networks)

    def number(self, s: Simd, place: ir.Value, i: int = 0) -> Vec:
        """Number i of a row of float64, rounded to the dtype: in every lane, or in its network's lane."""
        return self.spread(s, self.double().load(place, i * self.networks))

    def spread(self, s: Simd, value: Vec) -> Vec:
        """A value of `double`, rounded to the dtype: in every lane, or in its network's lane."""
        if not self.per_network:
            return s.splat_double(self.b.extract_element(value.v, ir.Constant(I32, 0)))
        return Vec(s, value.v if s.double else self.b.fptrunc(value.v, s.vector))

    def element(self, s: Simd, row: ir.Value, i: ir.Value) -> Vec:
        """Element i, an int64 value, of the row at an address: in every lane, or each network's in its lane."""
        if self.per_network:
            return s.load(self.b.add(row, self.b.mul(i, int64(LINE_BYTES))))
        return s.splat_element(row, i)

    def add_to_total(self, s: Simd, total: ir.Value, place: ir.Value) -> None:
        """Add the sum of a vector's float64 lanes to the number at a place, or each lane to its network's."""
        if self.per_network:
            numbers = self.double()
            numbers.store(numbers.load(place) + Vec(numbers, total), place)
        else:
            store_double(self.b, s.sum_of_lanes(total, load_double(self.b, place)), place)


Emit = Callable[[FunctionWriter], None]


def vector_function(signature: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """State the signature of a function that writes code; see `library`."""

    def decorate(emit: Callable[..., None]) -> Callable[..., None]:
        emit.signature = signature  # type: ignore[attr-defined]
        return emit

    return decorate


@dataclass(frozen=True)
class Function:
    """A vector function of the library: its signature, and what writes its body."""

    signature: Signature
    emit: Emit
    linked: Callable[[str, Target], list[str]] | None = None  # assembly that it calls, by dtype and target
    owner: Any = None  # the object with which the code of a user's function goes

    def define(self, module: ir.Module, symbol: str, target: Target, dtype: str) -> None:
        """Add the function to a module."""
        code = FunctionWriter(module, symbol, target, dtype, self.signature)
        self.emit(code)
        code.b.ret_void()
