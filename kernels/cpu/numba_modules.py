"""What Numba makes of a function, as a module of LLVM's: outside of Numba's engine, which never frees what it loads."""

from collections.abc import Callable
from copy import copy
from typing import Any

import llvmlite.binding as llvm
from numba.core.compiler import CompileResult, Flags, compile_extra
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target


@global_compiler_lock
def compile_apart(
    function: Callable[..., Any], arguments: tuple[Any, ...], result: Any, flags: Flags, **options: Any
) -> CompileResult:
    """Compile for arguments of Numba's types; `result` is None where Numba shall find it out.

    `options` are those of Numba's `compile_extra`. What it gives has a library, which is linked and optimised.
    """
    typing, target = cpu_target.typing_context, cpu_target.target_context
    typing.refresh()
    target.refresh()
    codegen = copy(target.codegen())
    codegen._add_module = _ignore
    flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    library = codegen.create_library(f"fastnn.{function.__name__}")
    made = compile_extra(typing, target, function, arguments, result, flags, {}, library=library, **options)
    made.library.finalize()
    return made


def _ignore(module: llvm.ModuleRef) -> None:
    """What adds no module to Numba's engine."""
