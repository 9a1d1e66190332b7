"""Running programs: what compiled code of `entry` calls. Arrays are C-ordered."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..cpu.simd import I32, I64, int64
from ..cpu.target import HOST
from ..programs.program import BINDING, PART, PATCH
from ..vector.function import OPERATION_BYTES


def run_operations(b: ir.IRBuilder, program: ir.Value, n: ir.Value) -> None:
    """Run the n operations at an address."""
    kind = ir.PointerType(ir.FunctionType(ir.VoidType(), [I64]))
    with cgutils.for_range(b, n, intp=I64) as at:
        operation = b.add(program, b.mul(at.index, int64(OPERATION_BYTES)))
        function = b.load(b.inttoptr(operation, ir.PointerType()), typ=I64)
        b.call(b.inttoptr(function, kind), [operation])


@intrinsic
def run_program(typing_context, program, n):
    """Run the n operations at the address `program`."""

    def codegen(context, b, signature, arguments):
        run_operations(b, *arguments)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


def fields(b: ir.IRBuilder, record: ir.Value, dtype: Any, *names: str) -> list[ir.Value]:
    """Some int64 fields of a record at an address."""
    places = (b.add(record, int64(dtype.fields[name][1])) for name in names)
    return [b.load(b.inttoptr(place, ir.PointerType()), typ=I64) for place in places]


def _element(b, start, dtype, i):
    """The address of element i of an array."""
    return b.add(start, b.mul(i, int64(dtype.itemsize)))


def _part_runner(module):
    """The function run(operations, patches, part, bindings, first) of a module; see `run_part`."""
    name = "fastnn_run_part"
    if name in module.globals:
        return module.globals[name]
    fn = ir.Function(module, ir.FunctionType(ir.VoidType(), [I64] * 5), name)
    fn.linkage = "internal"
    fn.attributes.add("noinline")  # else LLVM copies it to all callers, and `train` takes 0.1 s more to compile
    b = ir.IRBuilder(fn.append_basic_block("entry"))
    operations, patches, part, bindings, first = fn.args
    operation, n_operations, patch, n_patches = fields(b, part, PART, "operation", "operations", "patch", "patches")
    with cgutils.for_range(b, n_patches, intp=I64) as at:
        here = _element(b, patches, PATCH, b.add(patch, at.index))
        word, symbol, offset = fields(b, here, PATCH, "word", "symbol", "offset")
        binding = _element(b, bindings, BINDING, symbol)
        address, row_stride = fields(b, binding, BINDING, "address", "row_stride")
        value = b.add(b.add(address, b.mul(first, row_stride)), offset)
        b.store(value, b.inttoptr(b.add(operations, b.mul(word, int64(8))), ir.PointerType()))
    run_operations(b, b.add(operations, b.mul(operation, int64(OPERATION_BYTES))), n_operations)
    b.ret_void()
    return fn


@intrinsic
def run_part(typing_context, operations, patches, parts, i, bindings, first):
    """Run part i of a code for the rows from `first` on: write what its symbols stand for, then call its operations."""

    def codegen(context, b, signature, arguments):
        *_, i, _, first = arguments
        starts = [_data(context, b, signature, n, arguments) for n in (0, 1, 2, 4)]
        part = _element(b, starts[2], PART, i)
        (operations,) = fields(b, part, PART, "operations")
        with b.if_then(b.icmp_signed(">", operations, int64(0))):  # many programs around a batch are empty
            b.call(_part_runner(b.module), [*starts[:2], part, starts[3], first])
        return context.get_dummy_value()

    return types.void(operations, patches, parts, types.int64, bindings, types.int64), codegen


_FLUSH = 0x8040  # two bits of x86's MXCSR: subnormal results become zero, and subnormal operands count as zero


def _control_word(b, name, place):
    """Store or load x86's control word of vector instructions."""
    kind = ir.FunctionType(ir.VoidType(), [ir.PointerType()])
    b.call(cgutils.get_or_insert_function(b.module, kind, f"llvm.x86.sse.{name}"), [place])


@intrinsic
def flush_subnormals(typing_context):
    """From now on subnormal numbers are zero in this thread, on x86; gives what `restore` takes.

    When a gradient has become zero, its running mean decays to the smallest subnormal numbers and stays there.
    Arithmetic with each takes a hundred cycles and more.
    """

    def codegen(context, b, signature, arguments):
        if not HOST.triple.startswith(("x86_64", "i686")):
            return ir.Constant(I32, 0)
        place = cgutils.alloca_once(b, I32)
        _control_word(b, "stmxcsr", place)
        before = b.load(place)
        b.store(b.or_(before, ir.Constant(I32, _FLUSH)), place)
        _control_word(b, "ldmxcsr", place)
        return before

    return types.int32(), codegen


@intrinsic
def restore(typing_context, before):
    """Set the thread's treatment of subnormal numbers back to what it was before `flush_subnormals`."""

    def codegen(context, b, signature, arguments):
        if HOST.triple.startswith(("x86_64", "i686")):
            place = cgutils.alloca_once(b, I32)
            b.store(arguments[0], place)
            _control_word(b, "ldmxcsr", place)
        return context.get_dummy_value()

    return types.void(types.int32), codegen


def _data(context, b, signature, n, arguments):
    """The address of the first element of argument n, an array."""
    array = context.make_array(signature.args[n])(context, b, arguments[n])
    return b.ptrtoint(array.data, I64)


@intrinsic
def address(typing_context, array):
    """The int64 address of a C-ordered array's first element. It does not keep the array alive."""

    def codegen(context, b, signature, arguments):
        return _data(context, b, signature, 0, arguments)

    return types.int64(array), codegen


@intrinsic
def least(typing_context, x, y):
    """The smaller one of two int64 numbers. For `min` Numba compiles a function, which takes some 40 ms."""

    def codegen(context, b, signature, arguments):
        return b.select(b.icmp_signed("<", *arguments), *arguments)

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def pointer(typing_context, address):
    """The pointer that `carray` makes an array of, for an int64 address."""

    def codegen(context, b, signature, arguments):
        return b.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), codegen
