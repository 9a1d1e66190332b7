"""Functions of Python's C API in LLVM's code: what they are made of, and the one that predicts rows.

They read arrays as every C extension does: the first fields of Python's objects and NumPy's arrays are part of their
binary interfaces. Where this Python has other fields, or no lock of the interpreter, there are no such functions, and
`entry.sweep` predicts rows, called by ctypes.
"""

from __future__ import annotations

import ctypes
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from ..cpu.simd import I32, I64, int64
from ..programs.operations import fields, run_operations
from ..programs.program import OUTPUTS, SAMPLES, Code
from ..vector.function import OPERATION_BYTES
from ..vector.library import host_code, host_symbol, linked

# A height: how many rows a program is for; the address of the program, 0 where it is not written yet, and how many
# operations it has; the addresses of the words in it that hold where samples and outputs lie.
HEIGHT = np.dtype([(name, "i8") for name in ("rows", "program", "operations", "samples", "outputs")])
# What a function knows: the most rows that it takes; a table of HEIGHT; a table of which height is due by the rows
# left, whose last element is for all larger numbers; the busy flag, which says that its buffers are in use; from how
# many rows on it lets other threads of Python run; objects and C functions.
CALL = np.dtype(
    [
        *((name, "i8") for name in ("most", "n_inputs", "n_outputs", "sample_bytes", "output_bytes")),
        *((name, "i8") for name in ("heights", "pick", "last", "busy", "long", "array", "dtype", "none")),
        *((name, "i8") for name in ("empty", "incref", "save", "restore")),
    ]
)

# Offsets of fields, in bytes: PyObject, then PyArrayObject.
TYPE, DATA, N_AXES, SHAPE, STRIDES, DTYPE, FLAGS = 8, 16, 24, 32, 40, 56, 64
BYTE_ORDER, TYPE_NUMBER = 26, 28  # of PyArray_Descr, the dtype
C_ALIGNED = 0x101  # flags of a C-ordered and aligned array
_EMPTY = 184  # the place of PyArray_Empty in NumPy's table of C functions; place 2 is the type of arrays
_METH_O = 8  # a C function of one argument

C_FUNCTIONS = {
    "incref": "Py_IncRef",
    "save": "PyEval_SaveThread",
    "restore": "PyEval_RestoreThread",
    "as_integer": "PyLong_AsLongLong",
    "as_number": "PyFloat_AsDouble",
    "failed": "PyErr_Occurred",
    "from_integer": "PyLong_FromLongLong",
    "set_error": "PyErr_SetString",
}

_int64 = ctypes.c_int64

RowFunction = Callable[[Any], NDArray[Any] | None]


class Record(np.ndarray):
    """A record CALL, which keeps what it holds addresses of in `memory`."""

    memory: tuple[Any, ...]


class MethodDef(ctypes.Structure):
    """Python's PyMethodDef."""

    _fields_ = (
        *(("name", ctypes.c_char_p), ("function", ctypes.c_void_p)),
        *(("flags", ctypes.c_int), ("doc", ctypes.c_char_p)),
    )


@dataclass(frozen=True)
class _Python:
    """What is in this process: C functions, and what makes a function of Python from a C function and a record."""

    addresses: dict[str, int]
    new: Callable[[int, Record, None], RowFunction]
    method: MethodDef


def write_height(heights: NDArray[Any], i: int, code: Code) -> None:
    """Enter the program of a code in a table of HEIGHT. The code must live as long.

    The function here writes the addresses of samples and outputs alone. Whatever else has a symbol must be written.
    """
    start, height = code.operations.ctypes.data, heights[i]
    word = {symbol: start + 8 * word for word, symbol, _ in code.patches.tolist() if symbol in (SAMPLES, OUTPUTS)}
    height["rows"], height["operations"] = code.parts[0]["rows"], code.operations.nbytes // OPERATION_BYTES
    height["samples"], height["outputs"] = word[SAMPLES], word[OUTPUTS]
    height["program"] = start  # the last one, because from now on the program may be used


def row_function(
    heights: NDArray[Any],
    pick: NDArray[np.int64],
    sizes: tuple[int, int, int],
    dtype: Any,
    *,
    busy: NDArray[Any],
    long: int,
    memory: tuple[Any, ...],
) -> RowFunction | None:
    """A function of X: the outputs, (rows, n_outputs), by the programs in a table of HEIGHT.

    sizes: (the most rows, n_inputs, n_outputs). pick: see `strategy.pick`.

    The function gives None for whatever is no C-ordered array (rows, n_inputs) of the dtype, where a program is not
    written yet, and where its buffers are in use. Where this Python can have no such function, the result is None.

    `busy`, int64 (1,), is 1 while the programs' buffers are in use; from `long` rows on other threads of Python
    run meanwhile; `memory` is a tuple of what else the programs use.
    """
    python = this_python()
    if python is None:
        return None
    record = np.zeros(1, CALL).view(Record)
    record["most"], record["n_inputs"], record["n_outputs"] = sizes
    record["sample_bytes"], record["output_bytes"] = (n * dtype.itemsize for n in sizes[1:])
    record["heights"], record["pick"] = heights.ctypes.data, pick.ctypes.data
    record["last"] = len(pick) - 1
    record["busy"], record["long"] = busy.ctypes.data, long
    record["array"], record["dtype"], record["none"] = id(np.ndarray), id(dtype), id(None)
    for name, address in python.addresses.items():
        record[name] = address
    record.memory = python, heights, pick, busy, dtype, memory  # each thread may have found another `this_python`
    return python.new(ctypes.addressof(python.method), record, None)


@cache
def this_python() -> _Python | None:
    """What this process has; None where Python's objects have other fields, or several threads run Python at once."""
    if not _has_known_fields():
        return None
    object_, void = ctypes.py_object, ctypes.c_void_p
    pointer = _function("PyCapsule_GetPointer", void, object_, ctypes.c_char_p)
    table = (ctypes.c_void_p * (_EMPTY + 1)).from_address(pointer(np._core._multiarray_umath._ARRAY_API, None))  # type: ignore[attr-defined]
    if table[2] != id(np.ndarray):
        return None
    addresses = {name: c_function(name) for name in ("incref", "save", "restore")}
    new = _function("PyCFunction_NewEx", object_, void, object_, void)
    method = MethodDef(b"predict_rows", _predict_rows(), _METH_O, None)
    return _Python({"empty": _address(table[_EMPTY]), **addresses}, new, method)


def _predict_rows() -> int:
    """The address of the function that predicts rows."""
    symbol = host_symbol("predict_rows")
    (found,) = host_code("predict_rows", [symbol], lambda: linked(lambda module: _RowFunction(module, symbol).define()))
    return found


@cache
def _has_known_fields() -> bool:
    """Whether arrays are laid out as the functions here read them, and one thread at a time runs Python."""
    array = np.zeros((2, 3), np.float32)
    return (
        sys.implementation.name == "cpython"
        and ctypes.sizeof(ctypes.c_void_p) == 8
        and not sysconfig.get_config_var("Py_GIL_DISABLED")
        and _read(array) == (id(np.ndarray), array.ctypes.data, 2, (2, 3), id(array.dtype), array.flags.num)
        and all(_read_dtype(each) == (each.byteorder, each.num) for each in map(np.dtype, ("f4", "f8", "u1", ">i4")))
    )


def address_of(array: NDArray[Any]) -> int:
    """The address of an array's elements: `array.ctypes.data` in a fifth of its time."""
    return _int64.from_address(id(array) + DATA).value if _has_known_fields() else int(array.ctypes.data)


def _read_dtype(dtype: np.dtype[Any]) -> tuple[str, int]:
    """What lies where the functions here read a dtype: its order of bytes, and its number."""
    order = ctypes.c_char.from_address(id(dtype) + BYTE_ORDER).value.decode("latin-1")
    return order, ctypes.c_int32.from_address(id(dtype) + TYPE_NUMBER).value


def _function(name: str, *kinds: Any) -> Any:
    """A function of Python's C API, by the types of its result and its arguments."""
    return ctypes.PYFUNCTYPE(*kinds)((name, ctypes.pythonapi))


@cache
def c_function(name: str) -> int:
    """The address of a function of C_FUNCTIONS."""
    return _address(getattr(ctypes.pythonapi, C_FUNCTIONS[name]))


def _address(function: Any) -> int:
    """The address of a C function."""
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _read(array: NDArray[Any]) -> tuple[Any, ...]:
    """What lies where the function reads an array."""

    def at(offset: int, kind: Any) -> Any:
        return kind.from_address(id(array) + offset).value

    shape = (ctypes.c_int64 * 2).from_address(at(SHAPE, ctypes.c_int64))
    words = (at(offset, ctypes.c_int64) for offset in (TYPE, DATA))
    return *words, at(N_AXES, ctypes.c_int32), tuple(shape), at(DTYPE, ctypes.c_int64), at(FLAGS, ctypes.c_int32)


class PythonFunction:
    """An LLVM function of Python's C API in the making, bound to a record of what it knows; addresses are int64."""

    def __init__(self, module: ir.Module, symbol: str, n_arguments: int, record: Any):
        self.function = ir.Function(module, ir.FunctionType(I64, [I64] * n_arguments), symbol)
        self.b = ir.IRBuilder(self.function.append_basic_block("entry"))
        self.refused = self.function.append_basic_block("refused")
        here = self.load(self.function.args[0], DATA)
        self.known = dict(zip(record.names, fields(self.b, here, record, *record.names), strict=True))

    def place(self, start: ir.Value, offset: int = 0) -> ir.Value:
        return self.b.inttoptr(self.b.add(start, int64(offset)), ir.PointerType())

    def load(self, start: ir.Value, offset: int, kind: ir.Type = I64) -> ir.Value:
        return self.b.load(self.place(start, offset), typ=kind)

    def call(self, address: ir.Value, result: ir.Type, *arguments: ir.Value) -> ir.Value:
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        return self.b.call(self.b.inttoptr(address, ir.PointerType(kind)), arguments)

    def demand(self, value: ir.Value, wanted: ir.Value) -> None:
        """Go on if they are equal."""
        further = self.function.append_basic_block("further")
        self.b.cbranch(self.b.icmp_signed("==", value, wanted), further, self.refused)
        self.b.position_at_end(further)

    def demand_array(self, x: ir.Value, array: ir.Value, n_axes: int) -> ir.Value:
        """Go on if x is an array in C order and aligned; gives the address of its dtype."""
        wanted = ir.Constant(I32, C_ALIGNED)
        self.demand(self.load(x, TYPE), array)
        self.demand(self.load(x, N_AXES, I32), ir.Constant(I32, n_axes))
        self.demand(self.b.and_(self.load(x, FLAGS, I32), wanted), wanted)
        return self.load(x, DTYPE)


class _RowFunction(PythonFunction):
    """PyObject *predict_rows(PyObject *record, PyObject *x)."""

    def __init__(self, module: ir.Module, symbol: str):
        super().__init__(module, symbol, 2, CALL)
        self.x = self.function.args[1]

    def check(self) -> ir.Value:
        """Demand an array that the programs take, while nobody uses their buffers; gives its number of rows."""
        b, x, known = self.b, self.x, self.known
        self.demand(self.demand_array(x, known["array"], 2), known["dtype"])
        shape = self.load(x, SHAPE)
        rows = self.load(shape, 0)
        # As unsigned numbers, so that 0 rows are too many.
        below = b.icmp_unsigned("<", b.sub(rows, int64(1)), known["most"])
        self.demand(b.zext(below, I64), int64(1))
        self.demand(self.load(shape, 8), known["n_inputs"])
        self.demand(self.load(known["busy"], 0), int64(0))
        return rows

    def height_for(self, left: ir.Value) -> dict[str, ir.Value]:
        """What is due where so many rows are left."""
        b, known, names = self.b, self.known, HEIGHT.names or ()
        at = b.select(b.icmp_signed("<", left, known["last"]), left, known["last"])
        i = self.load(b.add(known["pick"], b.mul(at, int64(8))), 0)
        height = b.add(known["heights"], b.mul(i, int64(HEIGHT.itemsize)))
        return dict(zip(names, fields(b, height, HEIGHT, *names), strict=True))

    def each_height(
        self, rows: ir.Value, first_height: dict[str, ir.Value], do: Callable[[dict[str, ir.Value], ir.Value], None]
    ) -> None:
        """Do something with each height that the rows are the sum of, and with the number of its first row."""
        b = self.b
        do(first_height, int64(0))  # mostly there is no other
        rows_then = b.sub(rows, first_height["rows"])
        with b.if_then(b.icmp_signed(">", rows_then, int64(0))):
            before, loop, done = b.block, *(self.function.append_basic_block(name) for name in ("height", "all"))
            b.branch(loop)
            b.position_at_end(loop)
            left = b.phi(I64)
            left.add_incoming(rows_then, before)
            height = self.height_for(left)
            do(height, b.sub(rows, left))
            left_then = b.sub(left, height["rows"])
            left.add_incoming(left_then, b.block)
            b.cbranch(b.icmp_signed(">", left_then, int64(0)), loop, done)
            b.position_at_end(done)

    def outputs(self, rows: ir.Value) -> ir.Value:
        """A new array for the outputs of so many rows."""
        b, known = self.b, self.known
        self.call(known["incref"], ir.VoidType(), known["dtype"])  # because PyArray_Empty takes a reference over
        sizes = b.ptrtoint(b.alloca(ir.ArrayType(I64, 2)), I64)
        b.store(rows, self.place(sizes))
        b.store(known["n_outputs"], self.place(sizes, 8))
        out = self.call(known["empty"], I64, ir.Constant(I32, 2), sizes, known["dtype"], ir.Constant(I32, 0))
        with b.if_then(b.icmp_signed("==", out, int64(0)), likely=False):
            b.ret(int64(0))  # MemoryError is set
        return out

    def define(self) -> None:
        """Write the function."""
        b, known = self.b, self.known
        rows = self.check()
        first_height = self.height_for(rows)

        def is_written(height: dict[str, ir.Value], _: ir.Value) -> None:
            self.demand(b.zext(b.icmp_signed("!=", height["program"], int64(0)), I64), int64(1))

        self.each_height(rows, first_height, is_written)
        out = self.outputs(rows)
        samples, outputs = self.load(self.x, DATA), self.load(out, DATA)

        def run(height: dict[str, ir.Value], first: ir.Value) -> None:
            b.store(b.add(samples, b.mul(first, known["sample_bytes"])), self.place(height["samples"]))
            b.store(b.add(outputs, b.mul(first, known["output_bytes"])), self.place(height["outputs"]))
            run_operations(b, height["program"], height["operations"])

        with b.if_else(b.icmp_signed(">=", rows, known["long"])) as (released, held):
            with released:
                b.store(int64(1), self.place(known["busy"]))
                state = self.call(known["save"], I64)
                self.each_height(rows, first_height, run)
                self.call(known["restore"], ir.VoidType(), state)
                b.store(int64(0), self.place(known["busy"]))
            with held:
                self.each_height(rows, first_height, run)
        b.ret(out)

        b.position_at_end(self.refused)
        self.call(known["incref"], ir.VoidType(), known["none"])
        b.ret(known["none"])
