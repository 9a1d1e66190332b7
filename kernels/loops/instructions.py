"""Instructions of LLVM's as functions that Numba's code calls: they run programs, and count. Arrays are C-ordered."""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.npydecl import parse_dtype
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from ..cpu.flow import declared, for_range, variable
from ..cpu.simd import I32, I64, int64
from ..cpu.target import HOST
from ..programs.operations import fields, run_operations
from ..programs.program import BINDING, PART, PATCH
from ..vector import barriers
from ..vector.function import OPERATION_BYTES


@intrinsic
def run_program(typing_context, program, n):
    """Run the n operations at the address `program`."""

    def codegen(context, b, signature, arguments):
        run_operations(b, *arguments)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


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
    with for_range(b, n_patches) as at:
        here = _element(b, patches, PATCH, b.add(patch, at))
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
    b.call(declared(b.module, kind, f"llvm.x86.sse.{name}"), [place])


@intrinsic
def flush_subnormals(typing_context):
    """From now on subnormal numbers are zero in this thread, on x86; gives what `restore` takes.

    When a gradient has become zero, its running mean decays to the smallest subnormal numbers and stays there.
    Arithmetic with each takes a hundred cycles and more.
    """

    def codegen(context, b, signature, arguments):
        if not HOST.triple.startswith(("x86_64", "i686")):
            return ir.Constant(I32, 0)
        place = variable(b, I32)
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
            place = variable(b, I32)
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
def array_at(typing_context, address, shape, dtype):
    """The C-ordered array of a shape and dtype at an int64 address. It does not keep its memory alive."""
    kind = types.Array(parse_dtype(dtype), len(shape), "C")

    def codegen(context, b, signature, arguments):
        sizes = cgutils.unpack_tuple(b, arguments[1])
        strides = [context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(kind.dtype)))]
        for size in reversed(sizes[1:]):
            strides.insert(0, b.mul(size, strides[0]))
        array = context.make_array(kind)(context, b)
        data, itemsize = b.inttoptr(arguments[0], array.data.type), strides[-1]
        populate_array(array, data=data, shape=sizes, strides=strides, itemsize=itemsize, meminfo=None)
        return array._getvalue()

    return kind(address, shape, dtype), codegen


@intrinsic
def grow(typing_context, address, by):
    """Add to the counter at an address; gives its value before."""

    def codegen(context, b, signature, arguments):
        return barriers.grow(b, *arguments)

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def exchange(typing_context, address, expected, value):
    """Replace the expected value at an address by another one, in one step; gives whether it was there."""

    def codegen(context, b, signature, arguments):
        place, expected, value = arguments
        pair = b.cmpxchg(barriers.pointer(b, place), expected, value, ordering="acq_rel", failordering="acquire")
        return b.extract_value(pair, 1)

    return types.boolean(types.int64, types.int64, types.int64), codegen


@intrinsic
def wait(typing_context, counter, value, stop, rests):
    """Wait until the counter at an address has reached the value (gives 0), or what lies at `stop` is not 0 (1).

    Or until the CPU was offered to others `rests` times (2); a negative number has no end.
    """

    def codegen(context, b, signature, arguments):
        return b.call(barriers.waiter(b.module), arguments)

    return types.int64(types.int64, types.int64, types.int64, types.int64), codegen
