"""Functions that Numba compiles, called from Python without Numba: from the cache, where they have been compiled.

A function is compiled for arrays of the kinds that it gets, in C order, and integers. Beside it stands a function of
Python's C API, which reads the arguments and lets other threads of Python run meanwhile. Where this Python has other
fields than that reads (see `python_api`), ctypes calls the compiled function.
"""

import ctypes
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir

from ..cpu.flow import variable
from ..cpu.simd import DOUBLE, I32, I64, int64
from ..vector.library import host_code, host_symbol, linked
from . import python_api
from .python_api import PythonFunction

Kind = Any  # of an argument: `int`, `float`, or (dtype, number of axes) of an array
MAX_KNOWN = 8  # functions for other kinds of arguments that a loop remembers
# What a function of Python's C API knows: objects, C functions, and where the addresses of the arrays' dtypes are.
CALL = np.dtype(
    [
        *((name, "i8") for name in ("array", "integer", "number", "not_implemented", "error", "message", "dtypes")),
        *((name, "i8") for name in python_api.C_FUNCTIONS),
    ]
)
_MESSAGE = b"a compiled loop has raised an exception"
_PTR, _I8 = ir.PointerType(), ir.IntType(8)
_METH_FASTCALL = 0x80


class CompiledLoop:
    """A function of `loops.functions`, by its name. It gives an integer, 0 where the function returns nothing."""

    def __init__(self, name: str):
        self.__name__ = name
        self._latest: Callable[..., Any] = _refuse
        self._known: tuple[Callable[..., Any], ...] = ()  # what was called before, the latest ones first

    def __call__(self, *arguments: Any) -> int:
        result = self._latest(*arguments)
        return self._otherwise(arguments) if result is NotImplemented else result

    def _otherwise(self, arguments: tuple[Any, ...]) -> int:
        """Call it for arguments of other kinds than the last ones."""
        for call in self._known:
            if (result := call(*arguments)) is not NotImplemented:
                self._latest = call
                return int(result)
        arguments = tuple(map(_plain, arguments))
        kinds = tuple(map(_kind, arguments))
        call = _loaded(self.__name__, kinds)
        self._latest, self._known = call, (call, *self._known[: MAX_KNOWN - 1])
        if (result := call(*arguments)) is NotImplemented:
            raise RuntimeError(f"arguments of {self.__name__} have changed meanwhile")
        return int(result)


def _refuse(*arguments: Any) -> Any:
    return NotImplemented


def _plain(argument: Any) -> Any:
    """A number as an int or a float, an array as it is."""
    if isinstance(argument, (int, np.integer, np.bool_)):
        return int(argument)
    return float(argument) if isinstance(argument, (float, np.floating)) else argument


def _kind(argument: Any) -> Kind:
    if type(argument) is np.ndarray:
        flags, dtype = argument.flags, argument.dtype
        if flags.c_contiguous and flags.aligned and dtype.isnative:
            return dtype, argument.ndim
    if type(argument) in (int, float):
        return type(argument)
    raise TypeError(f"a compiled loop takes arrays in C order and numbers, got {type(argument).__name__}")


def _loaded(name: str, kinds: tuple[Kind, ...]) -> Callable[..., Any]:
    """The function for arguments of these kinds, from the cache or compiled. It gives NotImplemented for others."""
    texts = [(each[0].descr, each[0].itemsize, each[1]) if isinstance(each, tuple) else each.__name__ for each in kinds]
    symbol = host_symbol(f"{name}.{hashlib.sha256(repr(texts).encode()).hexdigest()[:16]}")
    compiled = f"{symbol}.compiled"

    def module() -> Any:
        from ..loops import compiler, functions

        made, its_name = compiler.compiled(getattr(functions, name), kinds)
        made.get_function(its_name).name = compiled
        return linked(lambda module: _Call(module, symbol, compiled, kinds).define(), made)

    called, bare = host_code(name, (symbol, compiled), module)
    python = python_api.this_python()
    if python is None:
        return _by_ctypes(bare, kinds)
    record = np.zeros(1, CALL).view(python_api.Record)
    dtypes = np.array([id(kind[0]) if isinstance(kind, tuple) else 0 for kind in kinds], np.int64)
    message = ctypes.create_string_buffer(_MESSAGE)
    objects = {"array": np.ndarray, "integer": int, "number": float, "not_implemented": NotImplemented}
    for key, each in (objects | {"error": RuntimeError}).items():
        record[key] = id(each)
    record["message"], record["dtypes"] = ctypes.addressof(message), dtypes.ctypes.data
    for each in python_api.C_FUNCTIONS:
        record[each] = python_api.c_function(each)
    method = python_api.MethodDef(name.encode(), called, _METH_FASTCALL, None)
    record.memory = python, kinds, dtypes, message, method
    return python.new(ctypes.addressof(method), record, None)


def _by_ctypes(address: int, kinds: tuple[Kind, ...]) -> Callable[..., Any]:
    """What calls a compiled function by ctypes. It gives NotImplemented for arguments of other kinds."""
    of_c: dict[str, Any] = {"i8": ctypes.c_int64, "f8": ctypes.c_double, "p": ctypes.c_void_p}
    types = [of_c[each] for each in _flat(kinds)]
    function = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, *types)(address)

    def call(*arguments: Any) -> Any:
        if not _are(arguments, kinds):
            return NotImplemented
        flat: list[Any] = []
        for each in arguments:
            if isinstance(each, np.ndarray):
                flat += [None, None, each.size, each.itemsize, each.ctypes.data, *each.shape, *each.strides]
            else:
                flat.append(each)
        result, error = ctypes.c_int64(), ctypes.c_void_p()
        if function(ctypes.byref(result), ctypes.byref(error), *flat):
            raise RuntimeError(_MESSAGE.decode())
        return result.value

    return call


def _are(arguments: tuple[Any, ...], kinds: tuple[Kind, ...]) -> bool:
    """Whether arguments are of these kinds."""
    try:
        return tuple(map(_kind, arguments)) == kinds
    except TypeError:
        return False


def _flat(kinds: tuple[Kind, ...]) -> list[str]:
    """What a compiled function takes for arguments: an array is its owner and parent, sizes, where it begins, shape."""
    found: list[str] = []
    for kind in kinds:
        if isinstance(kind, tuple):
            found += ["p", "p", "i8", "i8", "p", *["i8"] * (2 * kind[1])]
        else:
            found.append({int: "i8", float: "f8"}[kind])
    return found


class _Call(PythonFunction):
    """The LLVM function PyObject *call(PyObject *record, PyObject *const *arguments, Py_ssize_t n), in the making."""

    def __init__(self, module: ir.Module, symbol: str, compiled: str, kinds: tuple[Kind, ...]):
        super().__init__(module, symbol, 3, CALL)
        self.kinds, types = kinds, {"i8": I64, "f8": DOUBLE, "p": _PTR}
        signature = ir.FunctionType(I32, [_PTR, _PTR, *(types[each] for each in _flat(kinds))])
        self.compiled = ir.Function(module, signature, compiled)

    def array(self, i: int, argument: ir.Value) -> list[ir.Value]:
        """What the compiled function takes for an array, which is demanded to be of the kind."""
        b, (dtype, n_axes) = self.b, self.kinds[i]
        its_dtype = self.demand_array(argument, self.known["array"], n_axes)
        if dtype.isbuiltin == 1:  # an equal one may be another object, as those of arrays from a pickle
            order = self.load(its_dtype, python_api.BYTE_ORDER, _I8)
            self.demand(order, ir.Constant(_I8, ord(dtype.byteorder)))
            self.demand(self.load(its_dtype, python_api.TYPE_NUMBER, I32), ir.Constant(I32, dtype.num))
        else:
            self.demand(its_dtype, self.load(self.known["dtypes"], 8 * i))
        nothing = ir.Constant(_PTR, None)
        shape, strides = (self.load(argument, place) for place in (python_api.SHAPE, python_api.STRIDES))
        sizes = [self.load(shape, 8 * axis) for axis in range(n_axes)]
        total = int64(1)
        for size in sizes:
            total = b.mul(total, size)
        data = self.place(self.load(argument, python_api.DATA))
        steps = [self.load(strides, 8 * axis) for axis in range(n_axes)]
        return [nothing, nothing, total, int64(dtype.itemsize), data, *sizes, *steps]

    def number(self, argument: ir.Value, kind: Kind) -> ir.Value:
        """The number that an object is, which is demanded to be of the kind; one too large returns NULL."""
        b, known = self.b, self.known
        self.demand(self.load(argument, python_api.TYPE), known["integer" if kind is int else "number"])
        if kind is float:
            return self.call(known["as_number"], DOUBLE, argument)
        value = self.call(known["as_integer"], I64, argument)
        suspect = b.icmp_signed("==", value, int64(-1))
        with (
            b.if_then(suspect, likely=False),
            b.if_then(b.icmp_signed("!=", self.call(known["failed"], I64), int64(0))),
        ):
            b.ret(int64(0))
        return value

    def define(self) -> None:
        """Write the function."""
        b, known = self.b, self.known
        _, arguments, n = self.function.args
        self.demand(n, int64(len(self.kinds)))
        objects = [self.load(arguments, 8 * i) for i in range(len(self.kinds))]
        flat: list[ir.Value] = []
        for i, (each, kind) in enumerate(zip(objects, self.kinds, strict=True)):
            flat += self.array(i, each) if isinstance(kind, tuple) else [self.number(each, kind)]
        result, error = variable(b, I64), variable(b, _PTR)
        state = self.call(known["save"], I64)
        status = b.call(self.compiled, [result, error, *flat])
        self.call(known["restore"], ir.VoidType(), state)
        with b.if_then(b.icmp_signed("!=", status, ir.Constant(I32, 0)), likely=False):
            self.call(known["set_error"], ir.VoidType(), known["error"], known["message"])
            b.ret(int64(0))
        b.ret(self.call(known["from_integer"], I64, b.load(result)))
        b.position_at_end(self.refused)
        self.call(known["incref"], ir.VoidType(), known["not_implemented"])
        b.ret(known["not_implemented"])
