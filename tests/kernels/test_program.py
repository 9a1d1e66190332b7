"""program: what a call must give, what the rows of a code hold, and what symbols stand for when it runs."""

import re

import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir

from fastnn.kernels.cpu.target import AVX2, AVX512, HOST, NEON, SSE
from fastnn.kernels.programs import prediction_programs
from fastnn.kernels.programs.memory import Layout, Vector, Workspace
from fastnn.kernels.programs.program import (
    BINDING,
    OPERATION_WORDS,
    ORDER,
    OUTPUTS,
    POSITION,
    REMAINING,
    SAMPLES,
    SYMBOLS,
    Code,
    Program,
    bind,
    bindings,
    elementwise,
)
from fastnn.kernels.programs.sources import Source
from fastnn.kernels.running import entry
from fastnn.kernels.vector.library import functions, names_for
from fastnn.kernels.vector.matrix import Matrix, Symbol, grouped

from ..cases import DTYPES
from .kernel_calls import ONLY, library, matrix, padded

WRITTEN_FOR = [AVX512, AVX2, SSE, NEON]


def a_matrix(rows=4, cols=20, dtype="float32", name="m", address=6400):
    return Matrix.row_major(address, rows, cols, 128 if dtype == "float32" else 192, dtype, name)


def refused(error, message, name, **arguments):
    program = Program(AVX2, "float32")
    with pytest.raises(error, match=message):
        program.add(name, **arguments)
    assert len(program) == 0


# ---- what is refused when a program is written ----


def test_missing_and_unknown_arguments():
    m = a_matrix()
    refused(TypeError, r"copy takes \['out', 'x'\]: missing \['x'\], unknown \[\]", "copy", out=m)
    refused(TypeError, r"copy takes .*: missing \[\], unknown \['y', 'z'\]", "copy", out=m, x=m, z=m, y=m)
    refused(TypeError, r"add takes .*: missing \['out', 'y'\], unknown \['outt'\]", "add", outt=m, x=m)
    refused(TypeError, r"draw_order takes .*: missing \['n'\]", "draw_order", order=0, state=0)


def test_an_unknown_function():
    refused(ValueError, "there is no function 'softsign' for haswell", "softsign")
    refused(ValueError, "there is no function 'tiles_12x1' for haswell", "tiles_12x1")  # AVX-512 has it


def test_what_is_no_matrix():
    refused(TypeError, "copy: x must be a Matrix, got 6400", "copy", out=a_matrix(), x=6400)
    refused(TypeError, "copy: out must be a Matrix, got array", "copy", out=np.zeros(3), x=a_matrix())


def test_another_dtype():
    m, other = a_matrix(), a_matrix(dtype="float64", name="other")
    refused(TypeError, r"copy: x must be float32, got float64 \(other\)", "copy", out=m, x=other)
    refused(TypeError, r"add: out must be float32, got float64 \(other\)", "add", out=other, x=m, y=m)
    program = Program(AVX2, "float64")
    with pytest.raises(TypeError, match=r"copy: out must be float64, got float32 \(m\)"):
        program.add("copy", out=m, x=other)
    labels = Matrix.row_major(6400, 40, 1, 4, "int32", "labels")  # of any dtype
    Program(AVX2, "float32").add("one_hot", out=m, source=labels, order=0, remaining=0)


def test_shapes_that_do_not_fit():
    m, n = a_matrix(4, 20), a_matrix(3, 20, name="n")
    refused(ValueError, "copy: x is 3 x 20, but r is 4 by out", "copy", out=m, x=n)
    refused(ValueError, "add: y is 4 x 19, but c is 20 by out", "add", out=m, x=m, y=m[:, :19])
    w, x = a_matrix(20, 7, name="W"), a_matrix(1, 19, name="x")
    refused(ValueError, "tanh_gemv: W is 20 x 7, but k is 19 by x", "tanh_gemv", x=x, W=w, C0=w[:1, :], out=w[:1, :])
    cell = Matrix.row_major(640, 1, 2, 16, "float64", "total")
    values = Matrix.row_major(640, 5, 1, 64, "float64", "values")
    refused(ValueError, "collect: total is 1 x 2, but 1 is 1 by the signature", "collect", values=values, total=cell)
    tile = {"A": m, "B": w, "C0": m[:, :7], "C": m[:, :8], "tiles": 2}
    refused(ValueError, "tiles_2x1: C is 4 x 8, but n is 7 by B", "tiles_2x1", **tile)


def test_rows_that_are_not_contiguous():
    m, turned = a_matrix(5, 5), a_matrix(5, 5, name="W").T
    refused(ValueError, r"copy: the rows of x must be contiguous \(W\.T\)", "copy", out=m, x=turned)
    program = Program(AVX2, "float32")
    tile = {"B": m, "C0": m, "C": m, "tiles": 5}
    program.add("tiles_1x1", A=turned, **tile)  # the tile takes A with any strides, but nothing else
    refused(ValueError, r"tiles_1x1: the rows of B must be contiguous", "tiles_1x1", **tile | {"A": m, "B": turned})
    program.add("copy", out=m[:, :1], x=turned[:, :1])  # a single column has no other


@pytest.mark.parametrize("address", [0, -64, 6401, 6402])
def test_addresses_that_cannot_be(address):
    wrong = a_matrix(address=address, name="wrong")
    for name, other in (("x", "out"), ("out", "x")):
        given = {name: wrong, other: a_matrix()}
        refused(ValueError, rf"copy: {name} has the address {address} \(wrong\)", "copy", **given)


def test_a_program_made_from_what_fits():
    program, m = Program(AVX2, "float32", rows=7, first_row=3), a_matrix()
    assert [program.add("copy", out=m, x=m), program.add("add", out=m, x=m, y=m)] == [0, 1]
    assert len(program) == 2
    assert (program.rows, program.first_row) == (7, 3)


# ---- what stands in a code ----


def test_patches_stand_where_symbols_stand():
    """Two programs, one behind the other: where the words are that are written before a run, and what with."""
    out = padded(np.zeros((4, 3), "f4"))
    source = Matrix.row_major(Symbol("samples"), 8, 3, 12, "float32", "samples")
    results = Matrix.row_major(Symbol("outputs"), 4, 3, 12, "float32", "outputs")
    first, second = Program(HOST, "float32", rows=4), Program(HOST, "float32", rows=2, first_row=5)
    first.add("copy", out=matrix(out), x=matrix(out))
    inside = {"order": Symbol("order", 8), "remaining": Symbol("remaining")}
    first.add("gather", out=matrix(out[:, :3]), source=source[2:, :], scale=1.0, **inside)
    second.add("unpad", out=results, source=matrix(out[:, :3]))
    code = Code([first, second], library("float32"))
    rows = code.operations.reshape(-1, OPERATION_WORDS)
    assert len(rows) == 3
    gather, unpad = OPERATION_WORDS, 2 * OPERATION_WORDS
    # gather: rows order remaining source ..; unpad: rows n source source.row_stride out ..
    assert code.patches.tolist() == [
        (gather + 2, ORDER, 8),
        (gather + 3, REMAINING, 0),
        (gather + 4, SAMPLES, 24),
        (unpad + 5, OUTPUTS, 0),
    ]
    names = "operation", "operations", "patch", "patches", "rows", "first_row"
    assert code.parts.dtype.names == names
    assert code.parts.tolist() == [(0, 2, 0, 3, 4, 0), (2, 1, 3, 1, 2, 5)]
    addresses = library("float32").addresses(["copy", "gather", "unpad"])
    assert rows[:, 0].tolist() == [addresses[name] for name in ("copy", "gather", "unpad")]
    assert rows[0, 1:7].tolist() == [4, 64, 64, out.ctypes.data, out.ctypes.data, 0]
    assert rows[1, 1:9].tolist() == [4, 0, 0, 0, 12, out.ctypes.data, 64, 3]
    assert rows[2, 1:7].tolist() == [4, 3, out.ctypes.data, 64, 0, 12]


def test_what_symbols_stand_for_moves_with_the_rows():
    """address + first * stride + offset, where `first` is the first row of the block that is due."""
    x, out = np.arange(40, dtype="f4").reshape(10, 4), np.zeros((10, 3), "f4")
    source = Matrix.row_major(Symbol("samples"), 5, 4, 16, "float32", "samples")[:, 1:]
    results = Matrix.row_major(Symbol("outputs"), 5, 3, 12, "float32", "outputs")
    program = Program(HOST, "float32", rows=5)
    program.add("unpad", out=results, source=source)
    code, table = Code([program], library("float32")), bindings()
    assert table.dtype == BINDING
    assert table["address"].tolist() == [0] * len(table)
    assert table["row_stride"].tolist() == [int(i == POSITION) for i in range(len(table))]
    for array in (x, x + 100):
        bind(table, SAMPLES, array.ctypes.data, array.strides[0])
        bind(table, OUTPUTS, out.ctypes.data, out.strides[0])
        entry.sweep(code.operations, code.patches, code.parts, np.zeros(1, np.int64), table, 0, 10)
        np.testing.assert_array_equal(out, array[:, 1:])


def test_a_code_with_what_its_symbols_stand_for():
    """A copy, for the first row."""
    x, out = np.arange(8, dtype="f4").reshape(2, 4), np.zeros((2, 3), "f4")
    program = Program(HOST, "float32", rows=2)
    source = Matrix.row_major(Symbol("samples"), 2, 4, 16, "float32", "samples")[:, 1:]
    program.add("unpad", out=Matrix.row_major(Symbol("outputs"), 2, 3, 12, "float32", "outputs"), source=source)
    code, table = Code([program], library("float32")), bindings()
    bind(table, SAMPLES, x.ctypes.data, x.strides[0])
    bind(table, OUTPUTS, out.ctypes.data, out.strides[0])
    before = code.operations.copy()
    written = code.written(table)
    np.testing.assert_array_equal(code.operations, before)
    entry.sweep(written.operations, written.patches[:0], without_patches(written.parts), ONLY, bindings(), 0, 2)
    np.testing.assert_array_equal(out, x[:, 1:])


def without_patches(parts):
    """Parts that run as they are."""
    parts = parts.copy()
    parts["patches"] = 0
    return parts


def test_an_operation_that_looks_at_another_knows_how_far_away_it_is():
    program, source = Program(HOST, "float32"), a_matrix(40, 20, name="samples")
    program.add("zero", out=a_matrix())
    gather = program.add("gather", out=a_matrix(), source=source, order=0, remaining=0, scale=1.0)
    program.add("zero", out=a_matrix())
    program.add("prefetch_L1", first=0, stop=4, start=0, end=64, ahead=4, gather=gather)
    values = Code([program], library("float32")).operations.reshape(-1, OPERATION_WORDS)[3, 1:7]
    assert values.tolist() == [0, 4, 0, 64, 4, -2 * 8 * OPERATION_WORDS]


def test_elementwise_takes_matrices_of_one_kind_of_storage():
    """As one long row where that is possible."""
    program = Program(AVX2, "float32")
    row_major, feature_major = a_matrix(4, 20), Matrix.feature_major(6400, 4, 20, 64, "float32", "f")
    elementwise(program, "add", row_major, row_major, row_major)
    elementwise(program, "copy", feature_major, feature_major)
    elementwise(program, "zero", row_major[:, :5])
    assert [values[:4] for *_, values in program.operations] == [
        [1, 4 * 128, 0, 6400],
        [1, 20 * 64, 0, 6400],
        [4, 64, 128, 6400],
    ]


# ---- reading a program ----

LISTING = """
gather     out=x  source=samples  order=<order>  remaining=0  scale=1.0
tiles_6x2  C=a0[0:6, 0:24]  A=x[0:6, 0:4]  B=W0  C0=b0 in each row  tiles=1
tiles_5x2  C=a0[6:16, 0:24]  A=x[6:16, 0:4]  B=W0  C0=b0 in each row  tiles=2
sigmoid    out=a0  x=a0
tiles_6x2  C=a1[0:6, 0:24]  A=a0[0:6, 0:24]  B=W1  C0=b1 in each row  tiles=1
tiles_5x2  C=a1[6:16, 0:24]  A=a0[6:16, 0:24]  B=W1  C0=b1 in each row  tiles=2
sigmoid    out=a1  x=a1
tiles_8x1  C=a2  A=a1  B=W2  C0=b2 in each row  tiles=2
sigmoid    out=a2  x=a2
unpad      out=outputs  source=a2
"""


def test_a_listing():
    """4-24-24-3 on AVX-512: a prediction for a batch of 16."""
    layout = Layout([4, 24, 24, 3], ["sigmoid"] * 3, "quadratic", "float32", target=AVX512)
    work, samples = Workspace(layout, 16), np.zeros((100, 4), "f4")
    places = Vector(layout, 6400), work, Source.of("samples", samples)
    program = prediction_programs.predict_program(*places, 16, 1.0)
    assert str(program).splitlines() == LISTING.strip().splitlines()


def test_an_empty_program_prints_as_nothing():
    assert str(Program(AVX2, "float32")) == ""


# ---- every function ----


@pytest.mark.parametrize("dtype", [*DTYPES, *map(grouped, DTYPES)])
@pytest.mark.parametrize("target", WRITTEN_FOR, ids=lambda target: target.cpu)
def test_every_function_is_code_that_llvm_accepts(target, dtype):
    """Functions whose names begin with "group_" are for groups of networks alone, and others are for single ones."""
    for name in names_for(dtype, target):
        function = functions(target)[name]
        module = ir.Module(name)
        module.triple = target.triple
        function.define(module, name, target, dtype)
        llvm.parse_assembly(str(module)).verify()


@pytest.mark.parametrize("target", WRITTEN_FOR, ids=lambda target: target.cpu)
def test_the_names_of_functions(target):
    """What programs ask for by a name that they make up."""
    names = functions(target)
    tiles = {f"tiles_{rows}x{lines}" for rows, lines in target.tiles}
    tiles |= {f"tiles_{rows}x{lines}_column" for rows, lines in target.column_tiles}
    assert tiles == {n for n in names if n.startswith("tiles_")}
    for activation in ("identity", "sigmoid", "tanh", "relu", "step"):
        assert {activation, f"{activation}_backward", f"{activation}_gemv", f"{activation}_gemv_backward"} <= set(names)
    for optimizer in ("sgd", "momentum", "nesterov", "adam"):
        assert f"{optimizer}_advance" in names
        assert (optimizer in names) == (optimizer != "sgd")
    assert "quadratic" in names
    assert all(re.fullmatch(r"\w+(\.5)?", name) for name in names)


def test_symbols_have_their_rows_in_the_table():
    assert len(bindings()) == len(SYMBOLS)
    assert [SYMBOLS.index(name) for name in ("samples", "order", "remaining", "outputs")] == [
        SAMPLES,
        ORDER,
        REMAINING,
        OUTPUTS,
    ]
