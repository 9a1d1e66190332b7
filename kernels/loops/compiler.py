"""Compiling by Numba, to object code that a later process loads without Numba; see `running.compiled_loops`."""

from functools import partial
from typing import Any

import llvmlite.binding as llvm
from numba import config, njit, types
from numba.core.compiler import Flags
from numba.core.registry import CPUDispatcher, cpu_target
from numba.np.numpy_support import from_dtype

from ..cpu.numba_modules import compile_apart

if config.DISABLE_JIT:
    raise ImportError("fastnn is compiled by Numba, but NUMBA_DISABLE_JIT turns that off: unset the variable")

# Without the runtime that counts references to arrays (NRT), and without functions for calls from Python or C.
inner = partial(njit, _nrt=False, no_cfunc_wrapper=True, no_cpython_wrapper=True)  # for what compiled code calls
inline = partial(inner, inline="always")  # the same, for functions that give arrays, which without NRT none can
entry = inner  # for what Python calls


def compiled(function: CPUDispatcher, kinds: tuple[Any, ...]) -> tuple[llvm.ModuleRef, str]:
    """A module of LLVM's with a function for arguments of these kinds, and the function's name in it.

    The kinds are `int`, `float`, and (dtype, number of axes) of an array in C order. The function returns nothing, or
    an integer. It cannot tell whether arrays may be written.
    """
    flags = Flags()
    cpu_target.options.parse_as_flags(flags, function.targetoptions)
    made = compile_apart(function.py_func, tuple(map(_type, kinds)), None, flags)
    if not isinstance(made.signature.return_type, (types.Integer, types.Boolean, types.NoneType)):
        raise TypeError(f"{function.__name__} must return an integer or nothing: {made.signature}")
    return made.library._final_module, made.fndesc.llvm_func_name


def _type(kind: Any) -> types.Type:
    if isinstance(kind, tuple):
        return types.Array(from_dtype(kind[0]), kind[1], "C")
    return {int: types.int64, float: types.float64}[kind]
