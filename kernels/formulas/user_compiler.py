"""How Numba compiles functions of a user."""

import re
from types import FunctionType
from typing import Any

from numba import types
from numba.core import ir as numba_ir
from numba.core.compiler import CompilerBase, DefaultPassBuilder, Flags
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.errors import UnsupportedError
from numba.core.registry import CPUDispatcher
from numba.core.untyped_passes import IRProcessing

from ..cpu.numba_modules import compile_apart
from .constants import Taking


class _Quiet(CompilerBase):
    """Numba's way to compile, but exceptions hold no arguments, because nobody would free their memory."""

    def define_pipelines(self) -> list[Any]:
        passes = DefaultPassBuilder.define_nopython_pipeline(self.state)
        passes.add_pass_after(_BareRaises, IRProcessing)
        passes.finalize()
        return [passes]


@register_pass(mutates_CFG=False, analysis_only=False)
class _BareRaises(FunctionPass):
    """Drop the arguments of raised exceptions, and refuse what runs in Python's interpreter."""

    _name = "fastnn_bare_raises"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        bare = {numba_ir.Raise: numba_ir.StaticRaise, numba_ir.TryRaise: numba_ir.StaticTryRaise}
        for block in state.func_ir.blocks.values():
            for i, each in enumerate(block.body):
                if isinstance(each, numba_ir.EnterWith):
                    raise UnsupportedError("a `with` block, such as numba.objmode, has no place in compiled code")
                if type(each) in bare:
                    block.body[i] = bare[type(each)](Exception, None, each.loc)
        return True


def _dispatcher(function: Any, original: CPUDispatcher) -> CPUDispatcher:
    """What Numba makes of a function that a user's function calls: it runs on one thread, because threads call it."""
    options = {**original.targetoptions, "parallel": False, "boundscheck": True}
    return CPUDispatcher(function, original.locals, options, _Quiet)


def taken(function: FunctionType) -> tuple[Any, Any]:
    """(copy, key) of a function and what it refers to."""
    found: tuple[Any, Any] = Taking(_dispatcher).function(function)
    return found


def compiled(function: FunctionType, n_arguments: int, dtype: str) -> tuple[str, str]:
    """The function's assembly and name."""
    flags = Flags()
    flags.nrt = flags.boundscheck = True
    flags.error_model = "numpy"
    kind, defaults = getattr(types, dtype), function.__defaults__ or ()
    missing = max(0, function.__code__.co_argcount - n_arguments)
    omitted = [types.Omitted(each) for each in defaults[len(defaults) - missing :]] if missing <= len(defaults) else []
    made = compile_apart(function, (*(kind,) * n_arguments, *omitted), kind, flags, pipeline_class=_Quiet)
    text = made.library.get_llvm_str()
    if ".numba.unresolved$" in text:  # an address that only Numba's engine would fill in
        raise UnsupportedError("a function that calls itself has no place in compiled code; write a loop")
    if re.search(r"call [^\n]*@Py[A-Z]", text):
        raise UnsupportedError("what runs Python's own code, such as print, has no place in compiled code")
    return text, made.fndesc.llvm_func_name
