"""target: what follows from a CPU's registers, and that the code for each CPU uses these registers and no others."""

import dataclasses
import re

import pytest

from fastnn.kernels.cpu.target import AVX2, AVX512, HOST, MAX_ACCUMULATORS, NEON, SSE, Target
from fastnn.kernels.vector.library import Library, functions, names_for

from ..cases import DTYPES

EACH = pytest.mark.parametrize("target", [AVX512, AVX2, SSE, NEON], ids=lambda target: target.cpu)
# Of every module that writes vector code.
WATCHED = ["copy", "sigmoid", "tanh", "relu_backward", "quadratic", "adam", "finite_check", "zero", "ger"]
WATCHED += ["sigmoid_gemv", "tanh_gemv_backward", "inner", "transpose", "gather", "gather_uint8", "gather_columns"]
WATCHED += ["one_hot", "total", "scaled", "scaled_and_shifted_columns", "sums_of_products", "sloped", "follow", "fold"]
WATCHED += ["normalise_over_neurons", "normalise_over_neurons_backward_columns", "normalise_over_samples_backward"]


@pytest.mark.parametrize(
    ("target", "vector_bytes", "registers", "has_fma", "tile_rows", "half_line_width", "at_once"),
    [
        (AVX512, 64, 32, True, (0, 12, 6, 4), 2.5, 8),
        (AVX2, 32, 16, True, (0, 6), 1.5, 4),
        (SSE, 16, 16, False, (0, 2), None, 4),
        (NEON, 16, 32, True, (0, 5), None, 4),
    ],
    ids=["avx512", "avx2", "sse", "neon"],
)
def test_what_follows_from_the_registers(target, vector_bytes, registers, has_fma, tile_rows, half_line_width, at_once):
    assert (target.vector_bytes, target.registers, target.has_fma) == (vector_bytes, registers, has_fma)
    assert target.vectors_per_line == 64 // vector_bytes
    assert target.vectors_at_once == at_once
    assert target.tile_rows == tile_rows
    assert target.tile_lines == len(tile_rows) - 1
    assert target.half_line_width == half_line_width


@EACH
def test_tiles_fit_the_registers(target):
    """Accumulators, a row of B and an element of A; with every height from one row up."""
    tiles = target.tiles
    assert len(set(tiles)) == len(tiles)
    for rows, lines in tiles:
        vectors = -(-lines * 64 // target.vector_bytes)
        assert rows * vectors + vectors + 1 <= target.registers
        assert rows * int(lines) <= MAX_ACCUMULATORS
    for width in {lines for _, lines in tiles}:
        heights = sorted(rows for rows, lines in tiles if lines == width)
        assert heights == list(range(1, target.most_rows(width) + 1))
    assert {lines for _, lines in tiles} == {
        *range(1, target.tile_lines + 1),
        *([target.half_line_width] if target.half_line_width else []),
    }


@pytest.mark.parametrize(
    ("triple", "features", "want"),
    [
        ("x86_64-pc-linux-gnu", "+avx512f,+avx2,+avx,+fma", (64, 32, True)),
        ("x86_64-apple-darwin", "-avx512f,+avx2,+avx,+fma", (32, 16, True)),
        ("x86_64-pc-linux-gnu", "+avx,-fma", (32, 16, False)),
        ("x86_64-pc-linux-gnu", "+sse4.2,+sse2", (16, 16, False)),
        ("x86_64-pc-linux-gnu", "", (16, 16, False)),
        ("i686-pc-windows-msvc", "+avx,+fma", (32, 16, True)),
        ("aarch64-apple-darwin", "+neon,+sve", (16, 32, True)),
    ],
)
def test_the_widest_vectors_that_the_features_allow(triple, features, want):
    target = Target.of(triple, "some", features)
    assert (target.vector_bytes, target.registers, target.has_fma) == want
    assert (target.triple, target.cpu, target.features) == (triple, "some", features)


def test_a_target_is_a_value():
    again = Target.of(AVX2.triple, AVX2.cpu, AVX2.features)
    assert again == AVX2
    assert hash(again) == hash(AVX2)
    assert functions(again) is functions(AVX2)
    assert again != dataclasses.replace(AVX2, has_fma=False)


def assembly(target, dtype, names):
    library = Library(dtype, target)
    return {name: library.assembly(name) for name in names}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("target", "widest"), [(AVX512, "z"), (AVX2, "y"), (SSE, "x")], ids=["avx512", "avx2", "sse"])
def test_code_uses_the_target_s_registers(target, widest, dtype):
    """All of the width it has, in each function, and none wider."""
    tiles = [f"tiles_{target.tile_rows[lines]}x{lines}" for lines in range(1, target.tile_lines + 1)]
    for name, text in assembly(target, dtype, [*WATCHED, *tiles]).items():
        registers = set(re.findall(r"%([xyz])mm", text))
        assert max(registers) == widest, name
        fused = "vfmadd" in text or "vfnmadd" in text
        assert not fused or target.has_fma, name
        assert fused or not (target.has_fma and name.startswith("tiles")), name


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_code_without_fma_calls_no_c_library(dtype):
    """Which is what LLVM would make of a fused multiply-add, for each lane."""
    tiles = [f"tiles_{rows}x{lines}" for rows, lines in SSE.tiles]
    for name, text in assembly(SSE, dtype, [*WATCHED, *tiles]).items():
        assert not re.search(r"\bcall|\bjmpq?\s+\*?[a-z]*fma", text), name
        assert "mulp" in text or not name.startswith("tiles"), name
    assert re.search(r"\bcall", assembly(SSE, dtype, ["barrier"])["barrier"])  # where a call can be seen


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_tile_keeps_its_accumulators_in_registers(dtype):
    """Nothing goes to the stack and back."""
    for target in (AVX512, AVX2, SSE):
        lines = target.tile_lines
        text = assembly(target, dtype, [f"tiles_{target.tile_rows[lines]}x{lines}"]).popitem()[1]
        spilled = [line for line in text.splitlines() if "mm" in line and re.search(r"\(%rsp\b", line)]
        assert spilled == [], target.cpu


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "lanes"),
    [
        ("float32", "4s"),
        ("float64", "2d"),
        pytest.param("float32x16", "4s", marks=pytest.mark.every),
        pytest.param("float64x8", "2d", marks=pytest.mark.every),
    ],
)
def test_the_whole_library_for_arm(dtype, lanes):
    """It is written on this machine, with NEON's fused multiply-add; the tiles keep their accumulators in registers.

    A tile of groups does where a number of each network fills one register. NEON's are narrower. Tiles are written in
    both dtypes, of other functions every second one in each.
    """
    of_groups = "x" in dtype
    tiles = {f"tiles_{rows}x{lines}" for rows, lines in NEON.tiles}
    if of_groups:
        tiles = {f"group_tiles_{rows}x1" for rows in range(1, NEON.group_tile_rows[1] + 1)}
    partner = {"float32": "float64", "float32x16": "float64x8"} | {"float64": "float32", "float64x8": "float32x16"}
    others = {*names_for(partner[dtype], NEON)}
    own = [name for name in names_for(dtype, NEON) if not name.startswith("custom")]  # a user's own, of other tests
    shared = sorted(others & {*own} - tiles)
    names = {*own} - {*shared[dtype.startswith("float64") :: 2]}
    for name, text in assembly(NEON, dtype, names).items():
        called = re.findall(r"^\s+(?:bl|b)\s+([a-z_]\w*)$", text, re.M)
        assert called == (["sched_yield"] if name == "barrier" else []), name
        assert "blr" not in text, name
        if name in tiles:
            tiles.remove(name)
            assert re.search(rf"fmla\s+v\d+\.{lanes}", text), name
            assert not re.search(rf"fmla\s+v\d+\.(?!{lanes})", text), name
            assert of_groups or not re.search(r"\bq\d+.*\[sp", text), name
    assert not tiles


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cpu", "features", "want"),
    [
        ("haswell", "+avx,+avx2,+fma", "haswell 32 True 6"),
        ("nehalem", "+sse2,+sse3,+ssse3,+sse4.1", "nehalem 16 False 2"),
    ],
)
@pytest.mark.skipif(not HOST.triple.startswith("x86_64"), reason="these are x86-64 CPUs")
def test_numba_s_variables_name_the_host(cpu, features, want, run_python):
    """For a process as a whole."""
    source = """
from fastnn.kernels.cpu.target import HOST
print(HOST.cpu, HOST.vector_bytes, HOST.has_fma, HOST.tile_rows[-1])
import numpy as np
from fastnn import Model
print(Model([3, 4, 2], rng=0).predict(np.ones((5, 3), "f4")).shape)
"""
    done = run_python(source, NUMBA_CPU_NAME=cpu, NUMBA_CPU_FEATURES=features)
    assert done.stdout.split("\n")[:2] == [want, "(5, 2)"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"NUMBA_ENABLE_AVX": "0"},
        {"NUMBA_ENABLE_AVX": ""},
        {"NUMBA_CPU_NAME": "generic"},
        {"NUMBA_CPU_NAME": "haswell"},
        {"NUMBA_CPU_NAME": "ivybridge"},
        {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma"},
    ],
    ids=str,
)
@pytest.mark.skipif(not HOST.triple.startswith("x86_64"), reason="these are x86-64 CPUs")
def test_the_host_is_the_one_that_numba_compiles_for(settings, run_python):
    source = """
from fastnn.kernels.cpu.target import HOST, Target
from numba.core.registry import cpu_target
assert HOST == Target.of(*cpu_target.target_context.codegen().magic_tuple()), HOST
"""
    run_python("import warnings; warnings.simplefilter('ignore')  # of Numba\n" + source, **settings)


@pytest.mark.slow
@pytest.mark.skipif(not HOST.triple.startswith("x86_64"), reason="these are x86-64 CPUs")
def test_a_cpu_that_llvm_has_no_name_for_keeps_its_features(run_python):
    source = """
import llvmlite.binding as llvm
llvm.get_host_cpu_name = lambda: "generic"
from fastnn.kernels.cpu.target import HOST
print(HOST.cpu, HOST.vector_bytes)
"""
    assert run_python(source, NUMBA_CPU_NAME="").stdout == f"generic {HOST.vector_bytes}\n"
