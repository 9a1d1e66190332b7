"""Activations and losses of a user: functions of numbers, compiled by Numba, which vector code applies to each lane.

LLVM turns the loop over the lanes into vector code. For that, the functions of MATH are not those of the C library, but
`Simd`'s, written for a single number: the loop calls nothing. A function that calls others, or loops, is correct too,
but takes one number after another.

Nothing of this is kept on disk, because no key could tell what a function refers to.
"""

import itertools
import math
import re
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from types import FunctionType
from typing import Any
from weakref import WeakValueDictionary

from llvmlite import ir

from ..cpu.flow import compiling, declared, variable
from ..cpu.simd import I64, Simd, Vec, int64
from ..cpu.target import Target
from .activations import ACTIVATIONS, EXPONENTIAL, UNBOUNDED, ActivationFormula
from .loss_functions import LOSSES, TINY, LossFormula

Scalar = Callable[..., float]
DTYPES = "float32", "float64"
_numbers = itertools.count()


class _One(Simd):
    """`Simd` for a single number, without the instructions that only vectors have."""

    def __init__(self, builder: ir.IRBuilder, dtype: str, target: Target) -> None:
        super().__init__(builder, dtype, replace(target, vector_bytes=16), 16)
        self.vector, self.int_vector, self.suffix = self.scalar, self.int, f"f{8 * self.itemsize}"

    def const(self, x):
        return Vec(self, ir.Constant(self.scalar, super().const(x).v.constant[0]))

    def int_const(self, x):
        return ir.Constant(self.int, x)


def _log(s, x):
    """log x for any x: -infinity for 0, NaN below."""
    infinity, small = s.const(float("inf")), s.less(x, s.const(TINY[s.double]))
    shift = 54 if s.double else 25
    result = s.log(s.select(small, x * 2.0**shift, x))
    result = s.select(small, result - shift * math.log(2), result)
    result = s.select(s.less(x, infinity), result, x)
    return s.select(s.less(s.const(0.0), x), result, s.select(s.less(x, s.const(0.0)), s.const(math.nan), x - infinity))


def _log1p(s, x):
    """log(1 + x): log y for y = 1 + x, and what rounding took from y, divided by y."""
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


def _simd_name(call: re.Match[str]) -> str:
    single = call["bits"] == "32" or call["f"]
    return f"@fastnn.{call[1] or call[3]}.{'float32' if single else 'float64'}"


@dataclass(frozen=True, eq=False)
class Compiled:
    """A user's function of numbers: LLVM's assembly and the function's name in it, by dtype."""

    code: dict[str, tuple[str, str]]


_known: WeakValueDictionary[Any, Any] = WeakValueDictionary()  # functions and rows by their keys


def compiled(function: Scalar | Compiled, n_arguments: int) -> Compiled:
    """The function compiled with what it refers to now; raises where Numba cannot compile it.

    Equal functions get one object, as long as it lives.
    """
    if isinstance(function, Compiled):
        return function
    function = getattr(function, "py_func", function)
    if not isinstance(function, FunctionType):
        raise TypeError("it is no function that `def` or `lambda` makes; write one that does what it does")
    from . import user_compiler  # which needs Numba

    taken, key = user_compiler.taken(function)
    with compiling:
        found = _known.get((n_arguments, key))
        if found is None:
            of_numba = {dtype: user_compiler.compiled(taken, n_arguments, dtype) for dtype in DTYPES}
            found = Compiled({d: (_MATH_CALL.sub(_simd_name, text), name) for d, (text, name) in of_numba.items()})
            _known[n_arguments, key] = found
    return found


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


def linked(name: str, n_arguments: int, *pair: Compiled) -> Callable[[str, Target], list[str]]:
    """A function of dtype and target that gives the assembly to link with code that calls a pair, or one function.

    That code calls `name`.value and `name`.derivative, or `name` where there is one function.
    """
    symbols = (f"{name}.value", f"{name}.derivative") if len(pair) == 2 else (name,)

    def texts(dtype: str, target: Target) -> list[str]:
        found = [function.code[dtype] for function in pair]
        callers = (_caller(s, compiled, n_arguments, dtype) for s, (_, compiled) in zip(symbols, found, strict=True))
        return [*(_math(each, target) for each in DTYPES), *dict.fromkeys(text for text, _ in found), *callers]

    return texts


class Name(str):
    """A row's name. The row and its code live as long as this object. All that use them refer to it."""


def _row(
    rows: dict[str, Any], make: Callable[..., Any], n_arguments: int, pair: tuple[Scalar | Compiled, ...], *facts: Any
) -> Name:
    """The name of the row of a pair and what else its row states, made where there is none."""
    functions = [compiled(function, n_arguments) for function in pair]
    key = n_arguments, facts, *functions
    with compiling:
        name = _known.get(key)
        if name is None:
            name = Name(f"custom{next(_numbers)}")
            plain = str.__str__(name)
            rows[plain] = make(plain, linked(plain, n_arguments, *functions))
            weakref.finalize(name, rows.pop, plain).atexit = False
            _known[key] = _known[plain] = name
    return name


def owner(name: str) -> Name:
    """The object that must live as long as the code of a row is used."""
    found = _known.get(name)
    assert isinstance(found, Name), name
    return found


def activation(value: Scalar | Compiled, derivative: Scalar | Compiled, range: tuple[float, float] = UNBOUNDED) -> Name:
    """The row of ACTIVATIONS for a value of z and its derivative there: one name for equal functions and ranges."""

    def make(name: str, linked: Any) -> ActivationFormula:
        def backward(s: Simd, d: Vec, z: Vec) -> Vec:
            """d * derivative, and 0 for d = 0: in padding the derivative may be anything."""
            none = s.b.fcmp_ordered("==", d.v, s.const(0.0).v)
            return s.select(none, d, d * each_lane(s, f"{name}.derivative", z))

        def forward(s: Simd, z: Vec) -> Vec:
            return each_lane(s, f"{name}.value", z)

        return ActivationFormula(forward, backward, range, EXPONENTIAL, from_z=True, linked=linked)

    return _row(ACTIVATIONS, make, 1, (value, derivative), range)


def loss(value: Scalar | Compiled, derivative: Scalar | Compiled) -> Name:
    """The row of LOSSES for a value of (a, y) and its derivative in a: one name for equal functions."""

    def make(name: str, linked: Any) -> LossFormula:
        def both(s: Simd, a: Vec, y: Vec) -> tuple[Vec, Vec]:
            return each_lane(s, f"{name}.value", a, y), each_lane(s, f"{name}.derivative", a, y)

        return LossFormula(both, "any", linked=linked)

    return _row(LOSSES, make, 2, (value, derivative))


def each_lane(s: Simd, symbol: str, *vectors: Vec) -> Vec:
    """The function `symbol` of the vectors' lanes, in a loop that LLVM can vectorise."""
    b = s.b
    function = declared(b.module, ir.FunctionType(s.scalar, [s.scalar] * len(vectors)), symbol)
    places = (variable(b, s.vector) for _ in range(len(vectors) + 1))
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
    """Metadata of a loop: LLVM must not unroll it, because it does so before it makes vectors.

    With their width too ("llvm.loop.vectorize.width"), a step of 8-64-64-4 takes 0.78x to 0.93x as long with a batch of
    64, but LLVM prints a remark for each loop that it cannot vectorise.
    """
    loop = ir.MDValue(module, [module.add_metadata(["llvm.loop.unroll.disable"])], name=str(len(module.metadata)))
    loop.operands = (loop, *loop.operands)  # so that LLVM tells loops apart
    return loop
