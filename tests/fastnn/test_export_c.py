"""C headers: they compile without a warning everywhere, need nothing, and compute what the network computes."""

import ctypes
import inspect
import itertools
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the extra sklearn is not installed")

import fastnn
from fastnn import BatchNorm, Dense, Embedding, LayerNorm, Model, Population
from fastnn.exchange import c_compiling, c_header, numpy_steps
from fastnn.exchange.c_functions import WRITERS
from fastnn.exchange.computation import CLASSES, INPUTS, LABELS, NUMBERS, Computation, Decision, Steps
from fastnn.exchange.describing import computation_of
from fastnn.exchange.self_test import TOLERANCE, SelfTest

from ..cases import DTYPES
from .test_export_computation import LABELLED, NETWORKS, trained

rng = np.random.default_rng(0)
STRICT = ["-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Wdouble-promotion", "-Werror"]
CORTEX = ["-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"]
COMPILERS = {
    "gcc": ["gcc", "-std=c99", *STRICT],
    "g++": ["g++", "-x", "c++", "-std=c++11", *STRICT],
    "clang": ["clang", "-std=c99", *STRICT],
    "clang++": ["clang++", "-x", "c++", "-std=c++11", *STRICT],
    "tcc": ["tcc", "-Wall", "-Werror"],
    "arm-none-eabi-gcc": ["arm-none-eabi-gcc", "-std=c99", *CORTEX, *STRICT],
    "arm-none-eabi-g++": ["arm-none-eabi-g++", "-x", "c++", "-std=c++11", *CORTEX, *STRICT],
}
C_TYPES = {"float32": "float", "float64": "double"}
# Operands of the functions that have some, for values of 6 columns; `reads` of another number than one.
OPERANDS = {
    "shifted": {"high": np.arange(6.0), "low": np.full(6, 1e-9), "scale": np.linspace(0.5, 2, 6)},
    "columns": {"which": np.array([4, 0, 5, 1])},
    "looked_up": {"column": 2, "table": np.linspace(-1, 1, 12).reshape(4, 3)},
    "joined": {},
    "dense": {"weight": np.sin(np.arange(42.0)).reshape(7, 6), "bias": np.cos(np.arange(7.0))},
    "affine": {"factor": np.linspace(-1, 1, 6), "shift": np.cos(np.arange(6.0))},
    "normalised": {"epsilon": 1e-5},
    "clipped": {"least": np.linspace(-1, 0, 6), "most": np.linspace(0.5, 1, 6)},
    "deviations": {"least": 1e-6},
}
OF_INPUTS = ("shifted", "looked_up")  # which read nothing else
WIDTHS = {"columns": 4, "looked_up": 3, "joined": 18, "dense": 7}
READS = {"added": 2, "joined": 3, "mean": 3, "mixture": 3}


def functions():
    """The names of all functions of `numpy_steps`."""
    found = inspect.getmembers(numpy_steps, inspect.isfunction)
    return [name for name, function in found if function.__module__ == numpy_steps.__name__]


def compiler(name):
    """The command of a compiler; skips where there is none."""
    command = COMPILERS.get(name, [name])
    if shutil.which(command[0]) is None:
        pytest.skip(f"needs {command[0]}")
    return command


def run(*command, cwd=None, timeout=600):
    """What a command prints; it must succeed."""
    done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def header(folder, computation, name="net", rows=None, expressions=None):
    """The path of a computation's header."""
    path = folder / f"{name}.h"
    test = SelfTest.of(computation, rows)
    path.write_bytes(c_header.written(computation, test, name, expressions or {}))
    return path


class Compiled:
    """Headers as one library, by whichever compiler."""

    def __init__(self, folder, paths, command, *options):
        wrappers = []
        for path in paths:
            text, name = path.read_text(), path.stem
            real = re.search(r"_predict\(const (\w+) \*x", text)[1]
            wrappers += [f'#include "{path}"']
            wrappers += [f"void rows_{name}(const {real} *x, {real} *y, int32_t n) {{ {name}_predict_rows(x, y, n); }}"]
        source, library = folder / "library.c", folder / f"library-{command[0]}{len(options)}.so"
        source.write_text("\n".join(wrappers) + "\n")
        run(*command, *options, "-shared", "-fPIC", source, "-o", library)
        self._library = ctypes.CDLL(str(library))

    def outputs(self, name, computation, X):
        """The outputs (rows, n_outputs) of a header for rows X."""
        X = np.ascontiguousarray(X, computation.dtype)
        found = np.full((len(X), computation.n_outputs), 7, computation.dtype)
        address = ctypes.c_void_p
        getattr(self._library, f"rows_{name}")(address(X.ctypes.data), address(found.ctypes.data), len(X))
        return found


# ---- every function, every layer ----


def computation_with(function, dtype, inside):
    """A computation with a function, of the inputs or between two dense layers."""
    steps = Steps(6, dtype)
    reads = [INPUTS] * READS.get(function, 1)
    if inside:
        local = np.random.default_rng(1)
        reads = [
            steps.add("dense", INPUTS, width=6, weight=local.normal(0, 1, (6, 6)), bias=local.normal(0, 1, 6))
            for _ in reads
        ]
    value = steps.add(function, *reads, width=WIDTHS.get(function), **OPERANDS.get(function, {}))
    if inside:
        width = steps.widths[value]
        steps.add("dense", value, width=2, weight=np.cos(np.arange(2.0 * width)).reshape(2, width), bias=np.ones(2))
    return Computation(dtype, 6, tuple(steps.made), Decision(NUMBERS))


def test_every_function_can_be_written():
    assert set(functions()) == WRITERS.keys()


@pytest.mark.parametrize("options", [["-O0"], ["-O3"], ["-O3", "-march=native"]], ids=" ".join)
@pytest.mark.parametrize("dtype", DTYPES)
def test_functions(dtype, options, tmp_path):
    """Of ordinary numbers, of codes, and of huge ones, infinity and NaN, which stays NaN."""
    command = compiler("gcc")
    named = [(name, inside) for name in functions() for inside in (0, 1) if name not in OF_INPUTS or not inside]
    cases = {f"{name}_{inside}": computation_with(name, dtype, inside) for name, inside in named}
    paths = [header(tmp_path, computation, name) for name, computation in cases.items()]
    compiled = Compiled(tmp_path, paths, command, *options)
    X = rng.normal(0, 2, (300, 6))
    X[:, 2] = rng.integers(0, 4, 300)
    X[3, 2], X[4, 2], X[5, 2] = 4, 0.5, -1
    huge = np.array(list(itertools.product([-np.inf, -1e30, -100, 0, 1e30, np.inf, np.nan], [1.0, -1e30, np.nan, 88])))
    X = np.vstack([X, np.hstack([huge, np.ones((len(huge), 2)), huge]), huge[:, [0] * 6]]).astype(dtype)
    bound = {"float32": 2e-6, "float64": 3e-15}[dtype]
    for name, computation in cases.items():
        expected, found = computation.outputs(X), compiled.outputs(name, computation, X)
        np.testing.assert_array_equal(np.isnan(found), np.isnan(expected), err_msg=name)
        if name.endswith("1"):  # where sums of huge numbers cancel
            found, expected = found[:300], expected[:300]
        scale = max(1, np.abs(expected[:300]).max(initial=0, where=np.isfinite(expected[:300])))
        np.testing.assert_allclose(found / scale, expected / scale, rtol=bound, atol=bound, err_msg=name)


if __name__ == "__main__":
    pass
