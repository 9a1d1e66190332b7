"""Activations and losses of a user: functions of numbers, compiled by Numba, which vector code applies to each lane.

LLVM turns the loop over the lanes into vector code. For that, the functions of MATH are not those of the C library, but
`Simd`'s, written for a single number: the loop calls nothing. A function that calls others, or loops, is correct too,
but takes one number after another.

Nothing of this is kept on disk, because no key could tell what a function refers to.
"""

import itertools
import math
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils

from .activations import ACTIVATIONS, Activation
from .losses import LOSSES, TINY, Loss
from .simd import I64, Simd, Vec, int64
from .target import Target

Scalar = Callable[..., float]
KINDS = {"float32": types.float32, "float64": types.float64}
_numbers = itertools.count()


class _One(Simd):
    """Writes for a single number what `Simd` writes for vectors, without the instructions that only vectors have."""

    def __init__(self, builder: ir.IRBuilder, dtype: str, target: Target) -> None:
        super().__init__(builder, dtype, replace(target, vector_bytes=16), 16)
        self.vector, self.int_vector, self.suffix = self.scalar, self.int, f"f{8 * self.itemsize}"

    def const(self, x):
        return Vec(self, ir.Constant(self.scalar, super().const(x).v.constant[0]))

    def int_const(self, x):
        return ir.Constant(self.int, x)


def _log(s, x):
    """For any x: -infinity for 0, NaN below."""
    infinity, small = s.const(float("inf")), s.less(x, s.const(TINY[s.double]))
    shift = 54 if s.double else 25
    result = s.log(s.select(small, x * 2.0**shift, x))
    result = s.select(small, result - shift * math.log(2), result)
    result = s.select(s.less(x, infinity), result, x)
    return s.select(s.less(s.const(0.0), x), result, s.select(s.less(x, s.const(0.0)), s.const(math.nan), x - infinity))


def _log1p(s, x):
    """log y and what rounding took from y = 1 + x, divided by it."""
    y = x + 1.0
    log_y = _log(s, y)
    inside = s.b.and_(s.less(s.const(0.0), y), s.less(y, s.const(float("inf"))))
    return s.select(inside, log_y + (x - (y - 1.0)) / y, log_y)


def _expm1(s, x):
    one = s.const(1.0)
    large = s.less(one, x)
    return s.select(large, s.exp(x) - 1.0, s.expm1(s.select(large, one, x)))


MATH: dict[str, Callable[[Simd, Vec], Vec]] = {
    "exp": lambda s, x: s.exp(x),
    "expm1": _expm1,
    "log": _log,
    "log1p": _log1p,
    "tanh": lambda s, x: s.tanh(x),
}
_MATH_CALL = re.compile(rf"@(?:llvm\.({'|'.join(MATH)})\.f(?P<bits>32|64)|({'|'.join(MATH)})(?P<f>f?))(?=\()")


@cache
def _math(dtype: str, target: Target) -> str:
    """The functions of MATH in LLVM's assembly."""
    module = ir.Module("math")
    for name, write in MATH.items():
        kind = ir.DoubleType() if dtype == "float64" else ir.FloatType()
        function = ir.Function(module, ir.FunctionType(kind, [kind]), f"fastnn.{name}.{dtype}")
        function.attributes.add("alwaysinline")
        b = ir.IRBuilder(function.append_basic_block())
        s = _One(b, dtype, target)
        b.ret(write(s, Vec(s, function.args[0])).v)
    return str(module)


def _own(call: re.Match[str]) -> str:
    single = call["bits"] == "32" or call["f"]
    return f"@fastnn.{call[1] or call[3]}.{'float32' if single else 'float64'}"


@cache
def compiled(function: Scalar, n_arguments: int, dtype: str) -> tuple[str, str]:
    """(LLVM's assembly of a function of so many numbers, its name there); raises where Numba cannot compile it."""
    options = {"error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    dispatcher = njit(**options)(getattr(function, "py_func", function))
    dispatcher.compile(KINDS[dtype](*[KINDS[dtype]] * n_arguments))
    (result,) = dispatcher.overloads.values()
    return _MATH_CALL.sub(_own, result.library.get_llvm_str()), result.fndesc.llvm_func_name


def _caller(symbol: str, name: str, n_arguments: int, dtype: str) -> str:
    """LLVM's assembly of `symbol`, which gives what the function `name` of Numba's does, NaN where that raises."""
    kind = "double" if dtype == "float64" else "float"
    kinds, arguments = ", ".join([kind] * n_arguments), ", ".join(f"{kind} %x{i}" for i in range(n_arguments))
    return f"""
declare i32 @"{name}"(ptr, ptr, {kinds})
define {kind} @"{symbol}"({arguments}) alwaysinline {{
  %out = alloca {kind}
  %raised = alloca ptr
  %status = call i32 @"{name}"(ptr %out, ptr %raised, {arguments})
  %value = load {kind}, ptr %out
  %ok = icmp eq i32 %status, 0
  %result = select i1 %ok, {kind} %value, {kind} 0x7FF8000000000000
  ret {kind} %result
}}
"""


def _linked(name: str, n_arguments: int, **functions: Scalar) -> Callable[[str, Target], list[str]]:
    """What the vector functions of a pair are linked with, by dtype and target."""

    def texts(dtype: str, target: Target) -> list[str]:
        found = {which: compiled(function, n_arguments, dtype) for which, function in functions.items()}
        callers = (_caller(f"{name}.{which}", own, n_arguments, dtype) for which, (_, own) in found.items())
        return [*(_math(each, target) for each in KINDS), *dict.fromkeys(text for text, _ in found.values()), *callers]

    return texts


@cache
def activation(value: Scalar, derivative: Scalar) -> str:
    """The row of ACTIVATIONS for a value of z and its derivative there: the same name for the same functions."""
    name = f"custom{next(_numbers)}"

    def backward(s: Simd, d: Vec, z: Vec) -> Vec:
        """0 for d = 0: in padding, where the derivative may be anything."""
        none = s.b.fcmp_ordered("==", d.v, s.const(0.0).v)
        return s.select(none, d, d * each_lane(s, f"{name}.derivative", z))

    ACTIVATIONS[name] = Activation(
        lambda s, z: each_lane(s, f"{name}.value", z),
        backward,
        from_z=True,
        linked=_linked(name, 1, value=value, derivative=derivative),
    )
    return name


@cache
def loss(value: Scalar, derivative: Scalar) -> str:
    """The row of LOSSES for a value of (a, y) and its derivative in a: the same name for the same functions."""
    name = f"custom{next(_numbers)}"
    LOSSES[name] = Loss(
        lambda s, a, y: (each_lane(s, f"{name}.value", a, y), each_lane(s, f"{name}.derivative", a, y)),
        linked=_linked(name, 2, value=value, derivative=derivative),
    )
    return name


def each_lane(s: Simd, symbol: str, *vectors: Vec) -> Vec:
    """The function `symbol` of the vectors' lanes, in a loop that LLVM can vectorise."""
    b = s.b
    function = cgutils.get_or_insert_function(b.module, ir.FunctionType(s.scalar, [s.scalar] * len(vectors)), symbol)
    places = (cgutils.alloca_once(b, s.vector) for _ in range(len(vectors) + 1))
    *inputs, out = (b.inttoptr(b.ptrtoint(place, I64), ir.PointerType()) for place in places)
    for vector, place in zip(vectors, inputs, strict=True):
        b.store(vector.v, place).align = s.itemsize
    body, done, entry = b.append_basic_block("lane"), b.append_basic_block("lanes_done"), b.block
    b.branch(body)
    b.position_at_end(body)
    i = b.phi(I64)
    values = [b.load(b.gep(place, [i], source_etype=s.scalar), typ=s.scalar) for place in inputs]
    b.store(b.call(function, values), b.gep(out, [i], source_etype=s.scalar))
    following = b.add(i, int64(1))
    i.add_incoming(int64(0), entry)
    i.add_incoming(following, body)
    branch = b.cbranch(b.icmp_signed("<", following, int64(s.lanes)), body, done)
    branch.set_metadata("llvm.loop", _loop(b.module))
    b.position_at_end(done)
    return Vec(s, b.load(out, typ=s.vector, align=s.itemsize))


def _loop(module: ir.Module) -> Any:
    """What LLVM is told about a loop: not to unroll it, which would come before it makes vectors.

    With their width too ("llvm.loop.vectorize.width"), a step of 8-64-64-4 takes 0.78x to 0.93x as long with a batch of
    64, but LLVM prints a remark for each loop that it cannot vectorise.
    """
    loop = ir.MDValue(module, [module.add_metadata(["llvm.loop.unroll.disable"])], name=str(len(module.metadata)))
    loop.operands = (loop, *loop.operands)  # so that LLVM tells loops apart
    return loop
