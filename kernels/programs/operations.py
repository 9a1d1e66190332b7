"""Running the operations of a program, as code of LLVM's."""

from typing import Any

from llvmlite import ir

from ..cpu.flow import for_range
from ..cpu.simd import I64, int64
from ..vector.function import OPERATION_BYTES


def run_operations(b: ir.IRBuilder, program: ir.Value, n: ir.Value) -> None:
    """Run the n operations at an address."""
    kind = ir.PointerType(ir.FunctionType(ir.VoidType(), [I64]))
    with for_range(b, n) as at:
        operation = b.add(program, b.mul(at, int64(OPERATION_BYTES)))
        function = b.load(b.inttoptr(operation, ir.PointerType()), typ=I64)
        b.call(b.inttoptr(function, kind), [operation])


def fields(b: ir.IRBuilder, record: ir.Value, dtype: Any, *names: str) -> list[ir.Value]:
    """Some int64 fields of a record at an address."""
    places = (b.add(record, int64(dtype.fields[name][1])) for name in names)
    return [b.load(b.inttoptr(place, ir.PointerType()), typ=I64) for place in places]
