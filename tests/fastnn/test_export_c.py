"""C headers: they compile without a warning everywhere, need nothing, and compute what the network computes."""

import ctypes
import inspect
import itertools
import math
import re
import shutil
import subprocess

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the extra sklearn is not installed")

import fastnn
from fastnn import Dense, Embedding, Model, Population
from fastnn.exchange import c_compiling, c_header, numpy_steps
from fastnn.exchange.c_functions import WRITERS
from fastnn.exchange.c_text import Header
from fastnn.exchange.computation import CLASSES, INPUTS, LABELS, NUMBERS, Computation, Decision, Steps
from fastnn.exchange.describing import computation_of
from fastnn.exchange.self_test import TOLERANCE, SelfTest

from ..cases import DTYPES
from .test_export_computation import LABELLED, NETWORKS, trained

rng = np.random.default_rng(0)
STRICT = ["-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Wdouble-promotion", "-Werror"]
M4 = ["-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"]  # with a unit for float
M0 = ["-mcpu=cortex-m0", "-mthumb", "-mfloat-abi=soft"]  # without any
COMPILERS = {
    "gcc": ["gcc", "-std=c99", *STRICT],
    "g++": ["g++", "-x", "c++", "-std=c++11", *STRICT],
    "clang": ["clang", "-std=c99", *STRICT],
    "clang++": ["clang++", "-x", "c++", "-std=c++11", *STRICT],
    "tcc": ["tcc", "-Wall", "-Werror"],
    "Cortex-M4": ["arm-none-eabi-gcc", "-std=c99", *M4, *STRICT],
    "Cortex-M4, C++": ["arm-none-eabi-g++", "-x", "c++", "-std=c++11", *M4, *STRICT],
    "Cortex-M0": ["arm-none-eabi-gcc", "-std=c99", *M0, *STRICT],
    **{
        cpu: [f"{cpu}-linux-gnu-gcc", "-std=c99", *STRICT] for cpu in ("aarch64", "riscv64", "mips")
    },  # the last: big-endian
}
# By a compiler for another machine: what runs its programs. The M3 runs what the M0 does, and has more memory.
# Not -nographic: stdout then does not block, and what a full pipe does not take at once is lost.
BOARD = ["qemu-system-arm", "-display", "none", "-serial", "null", "-monitor", "none"]
BOARD += ["-semihosting-config", "enable=on,target=native"]
MACHINES = {
    "Cortex-M4": [*BOARD, "-M", "mps2-an386", "-kernel"],
    "Cortex-M0": [*BOARD, "-M", "mps2-an385", "-kernel"],
    **{cpu: [f"qemu-{cpu}"] for cpu in ("aarch64", "riscv64", "mips")},
}
# (dtype, compiler, options) of all headers at once, which takes long: each compiler, the levels of gcc and clang, and
# the dtypes where they need not have what the other has. Programs of self tests are compiled as strictly, by WAYS.
COMPILED = [
    *((dtype, name, "-Os") for dtype in DTYPES for name in ("gcc", "clang", "tcc", "Cortex-M4", "Cortex-M0")),
    *((DTYPES[i % 2], name, "-Os") for i, name in enumerate(("g++", "clang++", "aarch64", "mips", "riscv64"))),
    ("float32", "Cortex-M4, C++", "-Os"),
    *(("float32", "gcc", "-O0"), ("float64", "gcc", "-O3"), ("float64", "clang", "-O0"), ("float32", "clang", "-O3")),
]
C_TYPES = {"float32": "float", "float64": "double"}
# Operands of the functions that have some, for values of 6 columns; `reads` of another number than one.
OPERANDS = {
    "shifted": {"high": np.arange(6.0), "low": np.full(6, 1e-9), "scale": np.linspace(0.5, 2, 6)},
    "columns": {"which": np.array([4, 0, 5, 1])},
    "looked_up": {"column": 2, "table": np.linspace(-1, 1, 12).reshape(4, 3)},
    "joined": {},
    "sloped": {"slope": np.linspace(-1, 2, 6)},
    "dense": {"weight": np.sin(np.arange(42.0)).reshape(7, 6), "bias": np.cos(np.arange(7.0))},
    "affine": {"factor": np.linspace(-1, 1, 6), "shift": np.cos(np.arange(6.0))},
    "normalised": {"epsilon": 1e-5},
    "clipped": {"least": np.linspace(-1, 0, 6), "most": np.linspace(0.5, 1, 6)},
    "imputed": {"fill": np.linspace(-1, 1, 6)},
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


def small():
    return trained([6, Dense(5, "tanh"), Dense(3, "softmax")], loss="cross_entropy")


class Compiled:
    """Headers as one library, by whichever compiler."""

    def __init__(self, folder, paths, command, *options):
        wrappers = []
        for path in paths:
            text, name = path.read_text(), path.stem
            given, real = re.search(r"_predict\(const (\w+) \*x, (\w+) \*y", text).groups()
            wrappers += [f'#include "{path}"']
            wrappers += [
                f"void rows_{name}(const {given} *x, {real} *y, int32_t n) {{ {name}_predict_rows(x, y, n); }}"
            ]
        source, library = folder / "library.c", folder / f"library-{command[0]}{len(options)}.so"
        source.write_text("\n".join(wrappers) + "\n")
        run(*command, *options, "-shared", "-fPIC", source, "-o", library)
        self._library = ctypes.CDLL(str(library))

    def outputs(self, name, computation, X):
        """The outputs (rows, n_outputs) of a header for rows X."""
        X = np.ascontiguousarray(X, computation.input_dtype)
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


TRAPS = ["-O1", "-fsanitize=undefined,float-cast-overflow", "-fsanitize-undefined-trap-on-error"]


@pytest.mark.parametrize("options", [["-O0"], TRAPS, ["-O3"], ["-O3", "-march=native"]], ids=lambda each: each[-1])
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
    for name, computation in cases.items():
        bound = {"float32": 2e-6, "float64": 3e-15}[dtype]
        expected, found = computation.outputs(X), compiled.outputs(name, computation, X)
        np.testing.assert_array_equal(np.isnan(found), np.isnan(expected), err_msg=name)
        if name.endswith("1"):  # rounding of sums before it, and sums of huge numbers, which cancel
            bound, found, expected = 10 * bound, found[:300], expected[:300]
        scale = max(1, np.abs(expected[:300]).max(initial=0, where=np.isfinite(expected[:300])))
        np.testing.assert_allclose(found / scale, expected / scale, rtol=bound, atol=bound, err_msg=name)


# ---- networks, decisions, labels ----


def networks(dtype):
    """{name: (model, computation, rows)} of all kinds of layers."""
    found = {}
    for name, layers in NETWORKS.items():
        model = trained([6, *layers, Dense(3, "softmax")], dtype, loss="cross_entropy")
        found[name.replace(" ", "_")] = model, rng.normal(0, 2, (200, 6))
    gaussian = trained([6, Dense(5, "tanh"), Dense(4, "identity")], dtype, loss="gaussian")
    found["gaussian"] = gaussian, rng.normal(0, 2, (200, 6))
    coded = trained([4, Embedding([1, 3], [7, 5]), Dense(8, "relu"), Dense(2, "identity")], dtype)
    found["coded"] = (
        coded,
        np.stack([*rng.normal(0, 1, (2, 200)), *rng.integers(0, 5, (2, 200))], axis=1)[:, [0, 2, 1, 3]],
    )
    wide = trained([100, Dense(67, "gelu"), Dense(33, "mish"), Dense(1, "sigmoid")], dtype)
    wide.weights[0][...] /= 4
    found["wide"] = wide, rng.normal(0, 1, (200, 100))
    return {name: (model, computation_of(model), X) for name, (model, X) in found.items()}


@pytest.mark.parametrize("options", [["-O0"], ["-O3", "-march=native"]], ids=" ".join)
@pytest.mark.parametrize("dtype", DTYPES)
def test_networks(dtype, options, tmp_path):
    cases = networks(dtype)
    paths = [header(tmp_path, computation, name) for name, (_, computation, _) in cases.items()]
    compiled = Compiled(tmp_path, paths, compiler("gcc"), *options)
    for name, (model, computation, X) in cases.items():
        found, bound = compiled.outputs(name, computation, X), TOLERANCE[dtype]
        expected = np.hstack(model.predict(X, return_std=True)) if name == "gaussian" else model.predict(X)
        scale = max(1, np.abs(expected).max())
        np.testing.assert_allclose(found / scale, expected / scale, atol=bound, rtol=0, err_msg=name)


# ---- the functions of numbers ----

ELEMENTWISE = [name for name in functions() if name not in OPERANDS and name not in READS and name != "softmax"]
ULPS = {"mish": 4, "silu": 4, "gelu": 7}  # units in the last place; 2.6 of the others


def ordinates(dtype):
    """Numbers (n, 1) of all sizes, and many of those that matter."""
    sizes = np.ldexp(rng.uniform(1, 2, 4000), rng.integers(-120, 12, 4000))
    X = np.concatenate([np.linspace(-30, 30, 100_001), np.linspace(-760, 760, 20_001), sizes, -sizes, [0.0]])
    return X.astype(dtype)[:, None]


def exact_gelu(X):
    """x Phi(x) in longer numbers: the argument of erfc is rounded, and the slope there makes up for it."""
    argument = -X.astype(np.longdouble) / np.sqrt(np.longdouble(2))
    rounded = argument.astype(np.float64)
    tails = np.vectorize(math.erfc)(rounded).astype(np.longdouble)
    slopes = -2 / np.sqrt(np.longdouble(np.pi)) * np.exp(-(rounded.astype(np.longdouble) ** 2))
    return X * np.where(tails > 0, tails + slopes * (argument - rounded), 0) / 2


@pytest.mark.parametrize("options", [["-O0"], ["-O3", "-march=native"]], ids=" ".join)
@pytest.mark.parametrize("dtype", DTYPES)
def test_functions_of_numbers(dtype, options, tmp_path):
    """Against NumPy in longer numbers."""
    cases = dict[str, Computation]()
    for name in ELEMENTWISE:
        steps = Steps(1, dtype)
        steps.add(name, INPUTS)
        cases[name] = Computation(dtype, 1, tuple(steps.made), Decision(NUMBERS))
    paths = [header(tmp_path, computation, name) for name, computation in cases.items()]
    compiled = Compiled(tmp_path, paths, compiler("gcc"), *options)
    X = ordinates(dtype)
    for name, computation in cases.items():
        found = compiled.outputs(name, computation, X)
        with np.errstate(all="ignore"):
            exact = exact_gelu(X) if name == "gelu" else getattr(numpy_steps, name)(X.astype(np.longdouble))
            rounded = exact.astype(dtype)
            np.testing.assert_array_equal(np.isinf(found), np.isinf(rounded), err_msg=name)
            finite = np.isfinite(rounded)
            sizes = np.maximum(np.abs(rounded[finite]), 1000 * np.finfo(dtype).tiny)  # products of subnormal numbers
            ulps = np.abs(found - exact)[finite] / np.spacing(sizes)
        assert ulps.max() < ULPS.get(name, 2.6), (name, X[finite][ulps.argmax()])


# ---- what predictions are ----


def classifier(labels, kind=fastnn.MLPClassifier):
    """A fitted classifier of some labels, and rows."""
    X, y = rng.standard_normal((90, 6)), np.array(labels)[np.arange(90) % len(labels)]
    return kind(hidden_layer_sizes=8, max_iter=5, random_state=0).fit(X, y), X.astype(np.float32)


def answers(folder, path, X, command=("gcc",)):
    """What a program prints for each of some rows (n, n_inputs): the decision and the label of a header."""
    name, kind = path.stem, re.search(r"^static const (\w+) \w+_labels", path.read_text(), re.M)[1]
    formats = {"char": '"%s"', "int64_t": '"%lld", (long long)', "uint64_t": '"%llu", (unsigned long long)'}
    shown = {**formats, "double": '"%.17g",', "uint8_t": '"%d",'}[kind].replace('"%s"', '"%s",')
    real = re.search(r"_predict\(const (\w+) \*x", path.read_text())[1]
    np.ascontiguousarray(X, {"float": "f4", "double": "f8"}[real]).tofile(folder / "rows")
    (folder / "labels.c").write_text(
        f"""#include <stdio.h>
#include "{path}"
int main(void)
{{
    {real} x[{name.upper()}_INPUTS];
    FILE *rows = fopen("rows", "rb");
    while (fread(x, sizeof x, 1, rows) == 1) {{
        printf({shown} {name}_labels[{name}_classify(x)]);
        putchar('\\n');
    }}
    return fclose(rows);
}}
"""
    )
    run(*command, "labels.c", "-o", "labels", cwd=folder)
    return run("./labels", cwd=folder).splitlines()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("kind", [fastnn.MLPClassifier, fastnn.MLPEnsembleClassifier])
@pytest.mark.parametrize("labels", LABELLED)
def test_labels(labels, kind, tmp_path):
    fitted, X = classifier(LABELLED[labels], kind)
    fitted.export(tmp_path / "net.h")
    said = answers(tmp_path, tmp_path / "net.h", X, [*compiler("gcc"), "-O3", "-march=native"])
    read = {"text": str, "bool": lambda text: bool(int(text)), "int": int, "float": float}[labels]
    np.testing.assert_array_equal([read(each) for each in said], fitted.predict(X))


def test_difficult_labels(tmp_path):
    """Quotes, an escape, a trigraph, what would end a comment or begin one, other scripts; no character 0."""
    labels = ['a"b\\', "??/", "*/ int x; /*", "größer", "", "a" * 300]
    model = trained([6, Dense(6, "softmax")], loss="cross_entropy")
    path = tmp_path / "net.h"
    model.export(path, labels=labels)
    X = rng.normal(0, 3, (200, 6))
    for command in (["gcc", "-std=c99", *STRICT], ["g++", "-x", "c++", "-std=c++11", *STRICT]):
        said = answers(tmp_path, path, X, [*compiler(command[0]), *command[1:]])
        assert said == [labels[i] for i in model.classify(X)]
    assert set(said) == set(labels)
    for wrong, message in ((["a\0b", "c"], "must have no character 0"), ([1 + 2j, 2], "must be bools, integers")):
        with pytest.raises(ValueError, match=message):
            trained([6, 2]).export(tmp_path / "wrong.h", labels=np.array(wrong, object))
    assert not (tmp_path / "wrong.h").exists()


@pytest.mark.parametrize("labels", [np.array([0, -(2**63)]), np.array([2**63, 1], np.uint64), [0.1, 1e300]])
def test_numbers_at_the_ends(labels, tmp_path):
    model = trained([6, Dense(1, "sigmoid")])
    model.export(tmp_path / "net.h", labels=labels)
    X = rng.normal(0, 3, (50, 6))
    said = answers(tmp_path, tmp_path / "net.h", X, compiler("gcc"))
    kind = type(np.array(labels).tolist()[0])
    assert [kind(each) for each in said] == np.array(labels)[model.classify(X)].tolist()
    assert len(set(said)) == 2


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_several_labels_a_row(tmp_path):
    X = rng.standard_normal((60, 6)).astype(np.float32)
    several = fastnn.MLPClassifier(8, max_iter=200, random_state=0).fit(X, (X[:, :3] > 0).astype(int))
    computation = computation_of(several)
    assert computation.decision.kind == LABELS
    path = header(tmp_path, computation)
    source = tmp_path / "several.c"
    source.write_text(
        f"""#include "{path}"
void classify(const float *x, uint8_t *found, int32_t n)
{{
    for (int32_t i = 0; i < n; i++) net_classify(x + 6 * i, found + 3 * i);
}}
"""
    )
    run(*compiler("gcc"), "-shared", "-fPIC", source, "-o", tmp_path / "several.so")
    found = np.full((60, 3), 9, np.uint8)
    addresses = [ctypes.c_void_p(array.ctypes.data) for array in (X, found)]
    ctypes.CDLL(str(tmp_path / "several.so")).classify(*addresses, 60)
    np.testing.assert_array_equal(found, several.predict(X))


@pytest.mark.parametrize("ratio", [1, 1e3, 1e6])
def test_shifts_of_inputs(ratio, tmp_path):
    """2e-6 of float64 on the same rows."""
    X = (rng.standard_normal((300, 6)) + ratio).astype(np.float32)
    shift, scale = fastnn.standardize(X)
    model = trained([6, Dense(16, "tanh"), Dense(1, "identity")], input_shift=shift, input_scale=scale)
    (w, v), (b, c) = model.weights, model.biases
    expected = np.tanh((X.astype(np.float64) - shift) * scale @ w.T.astype(float) + b) @ v.T.astype(float) + c
    computation = computation_of(model)
    compiled = Compiled(tmp_path, [header(tmp_path, computation)], compiler("gcc"), "-O2")
    found = compiled.outputs("net", computation, X)
    np.testing.assert_allclose(found, expected, atol=2e-6 * np.abs(expected).max(), rtol=0)


def test_means_of_networks(tmp_path):
    """Of many networks one is in memory at a time, and the sum of the outputs."""
    population = Population([6, Dense(50, "tanh"), Dense(3, "softmax")], 40, loss="cross_entropy", rng=0)
    gaussian = Population([6, Dense(5, "tanh"), Dense(2, "identity")], 7, loss="gaussian", rng=0)
    cases = {"mean": population, "mixture": gaussian}
    computations = {name: computation_of(each) for name, each in cases.items()}
    paths = [header(tmp_path, computation, name) for name, computation in computations.items()]
    assert "float work[53];" in paths[0].read_text()
    compiled = Compiled(tmp_path, paths, compiler("gcc"), "-O2")
    X = rng.standard_normal((100, 6))
    found = compiled.outputs("mean", computations["mean"], X)
    np.testing.assert_allclose(found, population.predict(X, "mean"), atol=1e-6)
    found = compiled.outputs("mixture", computations["mixture"], X)
    means, deviations = (
        np.stack(each) for each in zip(*(each.predict(X, return_std=True) for each in gaussian), strict=True)
    )
    variance = (deviations.astype(float) ** 2).mean(axis=0) + means.astype(float).var(axis=0)
    np.testing.assert_allclose(found, np.hstack([means.mean(axis=0), np.sqrt(variance)]), atol=1e-6)


def softsign(z):
    return z / (1 + abs(z))


def test_functions_of_a_user(tmp_path):
    own = fastnn.Activation(softsign, lambda z: 1 / (1 + abs(z)) ** 2)
    swish = fastnn.Activation(lambda z: z / (1 + math.exp(-z)), lambda z: 0, name="my swish", check=False)
    model = trained([6, Dense(5, own), Dense(4, own), Dense(3, swish)])
    with pytest.raises(ValueError, match="expressions must have 'softsign'"):
        model.export(tmp_path / "net.h")
    written = {"softsign": "x / (1.0 + fabs(x))", "my swish": "x * sigmoid(x) * 1e0 / 1. + 0 * exp (x / 9)"}
    model.export(tmp_path / "net.h", expressions=written)
    computation = computation_of(model)
    X = rng.normal(0, 3, (100, 6))
    compiled = Compiled(tmp_path, [tmp_path / "net.h"], [*compiler("gcc"), "-std=c99", *STRICT])
    np.testing.assert_allclose(compiled.outputs("net", computation, X), model.predict(X), atol=1e-6, rtol=1e-6)


def test_what_cannot_be_written(tmp_path):
    model = trained([6, Dense(3, "tanh"), 1])
    model.weights[0][0, 0] = np.inf
    with pytest.raises(ValueError, match="all numbers in a C header must be finite, got inf"):
        model.export(tmp_path / "net.h")
    growing = trained([6, Dense(1, "exp")])
    with pytest.raises(ValueError, match="rows must give finite outputs"):
        growing.export(tmp_path / "net.h", rows=np.full((1, 6), 1e3) * np.sign(growing.weights[0]))
    steps = Steps(6, "float32")
    steps.add("tanh", INPUTS)
    computation = Computation("float32", 6, tuple(steps.made), Decision(NUMBERS))
    object.__setattr__(computation.steps[0], "function", "unheard_of")
    with pytest.raises(ValueError, match="a C header has no 'unheard_of', a function of this network"):
        c_header.written(computation, None, "net", {})
    assert list(tmp_path.iterdir()) == []


# ---- compilers ----


@pytest.fixture(scope="module", params=DTYPES)
def everything(request, tmp_path_factory):
    """(a folder with headers of all functions, layers and decisions, a source that calls them, {name: computation})."""
    dtype, folder = request.param, tmp_path_factory.mktemp("headers")
    of_functions = {name: computation_with(name, dtype, name not in OF_INPUTS) for name in functions()}
    cases = of_functions | {name: computation for name, (_, computation, _) in networks(dtype).items()}
    for kind, labels in LABELLED.items():
        model = trained([6, Dense(len(labels) if len(labels) > 2 else 1, "sigmoid")], dtype)
        cases[f"labels_{kind}"] = computation_of(model, labels)
    steps = Steps(6, dtype)
    steps.add("sigmoid", INPUTS)
    cases["several"] = Computation(dtype, 6, tuple(steps.made), Decision(LABELS, np.array(list("abcdef"))))
    cases["many"] = computation_of(Population([6, Dense(5, "tanh"), 3], 4, dtype=dtype, rng=0))
    lines = list[str]()
    for name, computation in cases.items():
        header(folder, computation, name)
        rows = f"void rows_{name}(const {C_TYPES[dtype]} *x, {C_TYPES[dtype]} *y, int32_t n)"
        lines += [f'#include "{name}.h"', f"{rows};", f"{rows}\n{{\n    {name}_predict_rows(x, y, n);\n}}"]
        if computation.decision.kind == CLASSES:
            lines += [f"int32_t class_{name}(const {C_TYPES[dtype]} *x);"]
            lines += [f"int32_t class_{name}(const {C_TYPES[dtype]} *x)\n{{\n    return {name}_classify(x);\n}}"]
    source = folder / "everything.c"
    source.write_text("\n".join(lines) + "\n")
    return folder, source, cases


# How the functions of GCC begin that do what a CPU has not: arithmetic, and jumps of tables on a Cortex-M0.
OF_SOFTWARE = ("__aeabi_", "__gnu_thumb1_case_")


def symbols(name, options, source, folder):
    """(the functions and constants that a compiler makes of a source, other symbols: what it needs, and memory)."""
    command = compiler(name)
    nm = re.sub("(gcc|g\\+\\+)$", "nm", command[0]) if "-" in command[0] else "nm"
    run(*command, options, "-c", source, "-o", folder / "all.o")
    found = [line.split()[-2:] for line in run(nm, folder / "all.o").splitlines()]
    constant = "TtrRd" if name == "tcc" else "TtrR"  # where it puts constants
    own = [symbol for kind, symbol in found if kind in constant]
    return own, [symbol for _, symbol in found if symbol not in own and not symbol.startswith(("$", "_gp_disp"))]


@pytest.mark.slow
@pytest.mark.parametrize(("everything", "name", "options"), COMPILED, indirect=["everything"])
def test_no_warning_and_nothing_needed(name, options, everything, tmp_path):
    """Every warning is an error. The object calls nothing and has no memory of its own."""
    _, source, cases = everything
    own, others = symbols(name, options, source, tmp_path)
    assert f"rows_{next(iter(cases))}" in " ".join(own)
    if name == "Cortex-M0" or (name.startswith("Cortex") and next(iter(cases.values())).dtype == "float64"):
        others = [each for each in others if not each.startswith(OF_SOFTWARE)]
    assert others == []


@pytest.mark.slow
def test_cppcheck_finds_nothing(everything, tmp_path):
    folder, _, cases = everything
    check = [*compiler("cppcheck"), "--enable=warning,style,performance,portability", "--error-exitcode=1", "--quiet"]
    for name in cases:
        source = tmp_path / f"{name}.c"
        source.write_text(f'#include "{folder / name}.h"\n')
    macros = [f"-D{name.upper()}_SELFTEST" for name in cases]
    assert run(*check, "--std=c99", *macros, tmp_path) == ""


@pytest.mark.parametrize("name", ["gcc", "g++", "clang", "tcc"])
def test_two_translation_units(name, tmp_path):
    """May include it, and one of them may run the self test."""
    header(tmp_path, computation_of(small()))
    (tmp_path / "a.c").write_text(
        '#define NET_SELFTEST\n#include "net.h"\n#include "net.h"\nint32_t other(const float *x);\n'
        "int32_t (*unused(void))(const float *) { return other; }\n".replace("unused", "both")
    )
    (tmp_path / "b.c").write_text(
        '#include "net.h"\nint32_t other(const float *x);\nint32_t other(const float *x) { return net_classify(x); }\n'
    )
    command = [each for each in compiler(name) if each not in ("-Werror", "-Wextra", "-Wall")]
    run(*command, "a.c", "b.c", "-o", "both", cwd=tmp_path)
    assert "0 labels differ" in run("./both", cwd=tmp_path)


# ---- the self test ----

START = """
#include <stdint.h>
extern void _start(void);
void reset(void);
void reset(void)
{
    *(volatile uint32_t *)0xE000ED88 |= 0xFu << 20; /* the floating-point unit on */
    __asm__ volatile("dsb; isb");
    _start();
}
__attribute__((section(".vectors"), used)) void (*const vectors[2])(void) = {(void (*)(void))0x20004000, reset};
"""


def ran(name, options, source, folder, include, machine=None):
    """What a program prints, on this machine or on an emulated one."""
    command, program, machine = compiler(name), folder / "program", machine or MACHINES.get(name, [])
    if machine:
        compiler(machine[0])
        options = [*options, "-static"]
    if name.startswith("Cortex"):
        (folder / "start.c").write_text(START)
        options += [folder / "start.c", "--specs=rdimon.specs"]
        options += ["-Wl,--section-start=.vectors=0", "-Wl,-Tdata=0x20000000"]
    run(*command, *options, "-I", include, source, "-o", program)
    return run(*machine, program)


WAYS = {
    "gcc -O0": ("gcc", ["-O0"]),
    "gcc -O3": ("gcc", ["-O3"]),  # for CPUs with FMA, GCC 12 fuses pairs of additions even if told not to
    "sanitizers": ("gcc", ["-O1", "-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all"]),
    "g++": ("g++", ["-O2"]),
    "clang": ("clang", ["-O3"]),
    "tcc": ("tcc", []),
    **{name: (name, ["-Os"]) for name in MACHINES},
}


def self_tests(names):
    """(C functions that run the self tests of headers, C that calls all of them and gives 0 where they pass)."""
    lines = list[str]()
    for name in names:
        lines += [
            f"#define {name.upper()}_SELFTEST",
            f"#define main main_{name}",
            f'#include "{name}.h"',
            "#undef main",
        ]
    return lines, " | ".join(f"main_{name}()" for name in names)


PASSED = re.compile(r"^16 rows, largest error \S+, \S+ ulp, 0 labels differ$", re.M)


@pytest.mark.slow
def test_the_self_test_on_a_small_board(tmp_path):
    """A micro:bit: a Cortex-M0, 256 KiB of flash, 16 KiB of memory, of which printf takes some."""
    model = Model([64, Dense(32, "tanh"), Dense(10, "softmax")], loss="cross_entropy", rng=0)
    header(tmp_path, computation_of(model))
    (tmp_path / "test.c").write_text('#define NET_SELFTEST\n#include "net.h"\n')
    said = ran("Cortex-M0", ["-Os"], tmp_path / "test.c", tmp_path, tmp_path, [*BOARD, "-M", "microbit", "-kernel"])
    assert re.fullmatch(r"16 rows, largest error \S+, \S+ ulp, 0 labels differ", said.strip())


N_SHOWN = 100  # more take long on emulators


@pytest.fixture(scope="module")
def program(everything, tmp_path_factory):
    """(a program that runs all self tests and then prints the bits of outputs, the bits by one compiler, the rows)."""
    folder, _, cases = everything
    dtype = next(iter(cases.values())).dtype
    kind, word, shown = {"float32": ("float", "uint32_t", "%08lx "), "float64": ("double", "uint64_t", "%016llx ")}[
        dtype
    ]
    long = {"float32": "(unsigned long)", "float64": "(unsigned long long)"}[dtype]
    local = np.random.default_rng(1)
    X = local.normal(0, 2, (N_SHOWN, 100)).astype(dtype)
    X[:, 2] = local.integers(0, 4, N_SHOWN)
    tests, tested = self_tests(cases)
    lines = ["#include <stdio.h>", *tests]
    bits = ", ".join(f"UINT{8 * X.itemsize}_C({value})" for value in X.view(word[:-2]).ravel().tolist())
    lines += [f"static const {word} rows[] = {{{bits}}};", f"union number {{ {word} bits; {kind} number; }};"]
    for name, computation in of_bits(cases).items():
        n, m = computation.n_inputs, computation.n_outputs
        lines += [
            f"static void show_{name}(void)\n{{\n    for (int i = 0; i < {N_SHOWN}; i++) {{",
            f"        union number one; {kind} x[{n}], y[{m}];",
            f"        for (int j = 0; j < {n}; j++) {{ one.bits = rows[100 * i + j]; x[j] = one.number; }}",
            f"        {name}_predict(x, y);",
            f'        for (int j = 0; j < {m}; j++) {{ one.number = y[j]; printf("{shown}", {long}one.bits); }}',
            "        putchar(10);\n    }\n}",
        ]
    shows = " ".join(f"show_{name}();" for name in of_bits(cases))
    main = f'int main(void)\n{{\n    int failed = {tested};\n    puts("bits");\n    {shows}\n    return failed;\n}}'
    source = tmp_path_factory.mktemp("program") / "program.c"
    source.write_text("\n".join([*lines, main, ""]))
    name = next(filter(shutil.which, ("gcc", "clang", "tcc")), "gcc")
    said = ran(name, [] if name == "tcc" else ["-O0", "-ffp-contract=off"], source, source.parent, folder)
    return source, said.partition("bits\n")[2], X


def of_bits(cases):
    """The cases whose outputs are compared: those rows have few codes."""
    return {name: computation for name, computation in cases.items() if name != "coded"}


@pytest.mark.slow
@pytest.mark.parametrize("way", [*WAYS, "Cortex-M4 -O3"])
def test_self_tests_pass_with_the_same_bits(way, everything, program, tmp_path):
    """All of them in one program. No multiplication is fused with an addition; outputs of 100 rows are compared."""
    (folder, _, cases), (source, bits, _) = everything, program
    name, options = {**WAYS, "Cortex-M4 -O3": ("Cortex-M4", ["-O3"])}[way]
    # Arithmetic of doubles in software is not always rounded right there: 1 - 0x1.01d8242f9b803p-33 is not.
    software = name == "Cortex-M4" and next(iter(cases.values())).dtype == "float64"
    if software and way not in WAYS:
        pytest.skip("has no unit for double")
    exactly = [*options, *([] if name == "tcc" else ["-ffp-contract=off"])]
    tests, _, found = ran(name, exactly, source, tmp_path, folder).partition("bits\n")
    assert len(PASSED.findall(tests)) == len(cases)
    assert software or found == bits


@pytest.mark.slow
def test_the_bits_are_those_of_the_computations(everything, program):
    _, bits, X = program
    cases, lines = of_bits(everything[2]), bits.splitlines()
    assert len(lines) == N_SHOWN * len(cases)
    for i, (name, computation) in enumerate(cases.items()):
        words = " ".join(lines[N_SHOWN * i : N_SHOWN * (i + 1)]).split()
        found = np.array([int(each, 16) for each in words], f"u{X.itemsize}").view(X.dtype).reshape(N_SHOWN, -1)
        expected = computation.outputs(X[:, : computation.n_inputs], "float64")
        scale = max(1, np.abs(expected).max())
        np.testing.assert_allclose(found / scale, expected / scale, atol=TOLERANCE[X.dtype.name], rtol=0, err_msg=name)


def test_what_is_changed_fails_its_self_test(tmp_path):
    """A weight, two labels of the test, a table of rows."""
    if not any(map(shutil.which, c_compiling.COMPILERS)):
        pytest.skip("needs a compiler")
    path = header(tmp_path, computation_of(small()))
    found = fastnn.verify(path)
    assert 0 < found.error < 1e-6
    assert 0.5 <= found.ulp < 20
    assert (found.rows, found.wrong_labels, found.intact, found.passed) == (16, 0, True, True)
    text = path.read_text()
    number = re.search(r"net_weight0\[30\] = \{\s+(\S+)f,", text)[1]
    path.write_text(text.replace(f"{number}f,", f"{float(number) * 1.01:.9g}f,", 1))
    found = fastnn.verify(path)
    assert found.error > 1e-6
    assert (found.intact, found.passed) == (False, False)
    decided = re.search(r"net_test_decisions\[16\] = \{\s+([^}]*)\}", text)[1]
    swapped = decided.translate(str.maketrans("012", "120")).replace("-2", "-1")
    path.write_text(text.replace(decided, swapped))
    assert fastnn.verify(path).wrong_labels > 8
    path.write_text(text.replace(" * ", " *  ", 1))  # a comment
    assert fastnn.verify(path)[3:] == (0, False, False)
    path.write_text(text.replace("static inline", "static inlin", 1))
    with pytest.raises(ValueError, match=r"net\.h does not compile: "):
        c_compiling.verify(path)
    path.write_text("int x;\n")
    with pytest.raises(ValueError, match="is no C header of fastnn: it has no self test"):
        c_compiling.verify(path)


def test_the_tolerance_is_that_of_the_networks_sums(tmp_path):
    """Of large numbers that cancel, rounding leaves more."""
    if not any(map(shutil.which, c_compiling.COMPILERS)):
        pytest.skip("needs a compiler")
    assert SelfTest.of(computation_of(small())).tolerance == TOLERANCE["float32"]
    model = trained([6, Dense(50, "relu"), Dense(2, "identity")])
    model.weights[1][:, 25:] = -model.weights[1][:, :25]
    model.weights[0][25:] = model.weights[0][:25] * 1.001
    model.weights[0][...] *= 1e3
    computation = computation_of(model)
    test = SelfTest.of(computation)
    terms = np.abs(computation.values(test.inputs, "float64")[-2] @ np.abs(model.weights[1].T))
    cancelled = (terms / np.maximum(1, np.abs(test.outputs))).max()
    assert cancelled > 100  # times as large as the outputs
    assert TOLERANCE["float32"] < test.tolerance < 50 * cancelled * 2**-24
    found = c_compiling.verify(header(tmp_path, computation))
    assert found.error < test.tolerance
    assert found.passed


def test_no_compiler(tmp_path, monkeypatch):
    path = header(tmp_path, computation_of(trained([6, 2])))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="there is none of cc, gcc, clang, tcc"):
        c_compiling.verify(path)


def test_decisions_that_rounding_could_turn_are_not_compared():
    """-1 stands for them."""
    steps = Steps(2, "float32")
    steps.add("exp", INPUTS)
    outputs = np.array([[0.5, 0.5 + 1e-7], [0.5, 0.6], [0.7, 0.6]], np.float32)
    test = SelfTest(outputs, outputs, np.zeros(3), 1e-6)
    several = Computation("float32", 2, tuple(steps.made), Decision(CLASSES, np.arange(2)))
    assert Header(several, "net").decided(test).tolist() == [[-1], [1], [0]]
    each = Computation("float32", 2, tuple(steps.made), Decision(LABELS, np.arange(2)))
    assert Header(each, "net").decided(test).tolist() == [[-1, -1], [-1, 1], [1, 1]]


# ---- what is in the file, and how large it is ----


def test_the_comment_says_what_is_inside(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(rng.standard_normal((20, 3)), columns=["height", "*/ weight", "größe"])
    regressor = fastnn.MLPRegressor(hidden_layer_sizes=4, max_iter=2, random_state=0)
    with pytest.warns(UserWarning, match="Maximum iterations"):
        regressor.fit(frame, frame["height"])
    regressor.export(tmp_path / "my net.h")
    text = (tmp_path / "my net.h").read_text()
    comment = text[: text.index("*/")]
    assert "my_net: a neural network as C99 and C++11, written by fastnn" in comment
    assert "21 parameters, 16 multiply-adds a row" in comment
    assert "Inputs: height, * / weight, größe." in comment
    assert "claims no right" in comment
    assert "Classes" not in comment
    assert "#define MY_NET_INPUTS 3\n#define MY_NET_OUTPUTS 1\n" in text
    names = set(re.findall(r"^(?:static .*?|#define )\b(\w+)(?:\(|\[| )", text, re.M))
    assert all(name.lower().startswith("my_net_") for name in names - {"const", "inline"}), names


def test_flash_on_a_cortex_m4(tmp_path):
    """At most 4 bytes a parameter and 1.2 KiB of 64-32-10, decisions included."""
    model = Model([64, Dense(32, "tanh"), Dense(10, "softmax")], loss="cross_entropy", rng=0)
    model.export(tmp_path / "net.h")
    (tmp_path / "net.c").write_text(
        '#include "net.h"\nint32_t classify(const float *x) { return net_classify(x); }\n'
        "void predict(const float *x, float *y) { net_predict(x, y); }\n"
    )
    run(*compiler("Cortex-M4"), "-Os", "-fstack-usage", "-c", "net.c", "-o", "net.o", cwd=tmp_path)
    text, data, bss = map(int, run("arm-none-eabi-size", tmp_path / "net.o").splitlines()[1].split()[:3])
    assert (data, bss) == (0, 0)
    assert text <= 4 * model.n_parameters + 1229
    used = {
        line.split()[0].rpartition(":")[2]: int(line.split()[1])
        for line in (tmp_path / "net.su").read_text().splitlines()
    }
    assert used["net_predict"] + used.get("net_dense", 0) <= 4 * (64 + 32) + 128


@pytest.mark.parametrize("layers", [[10, 100, 10, 100, 10], [50, 20, 100, 20, 90, 100, 30], [7, 7, 7], [100, 1, 100]])
def test_the_stack_of_a_chain(layers):
    """Two layers' values that follow one another are in memory at a time, but neither the inputs nor the outputs."""
    sizes = [13, *layers]
    computation = computation_of(Model([13, *(Dense(n, "tanh") for n in layers), Dense(2, "identity")], rng=0))
    plan = c_header.Plan(computation)
    pairs = [a + b for a, b in itertools.pairwise(sizes[1:])]
    assert max(pairs) <= plan.sizes["work"] <= 1.05 * sum(sorted(layers)[-2:])
    assert {place.array for place in plan.places} == {"x", "work", "y"}


def random_steps(seed):
    """A computation of steps that read any of the values shortly before."""
    local, steps = np.random.default_rng(seed), Steps(4, "float32")
    for i in range(30):
        reads = [int(local.integers(max(0, i - 6), i + 1)) for _ in range(3)]
        n = steps.widths[reads[0]]
        same = [read for read in reads if steps.widths[read] == n]
        name = ["tanh", "added", "dense", "joined", "mean", "softmax", "affine", "columns"][local.integers(8)]
        if name == "joined" and sum(steps.widths[read] for read in reads) < 40:
            steps.add(name, *reads, width=sum(steps.widths[read] for read in reads))
        elif name == "dense":
            steps.add(name, reads[0], width=5, weight=local.normal(0, 0.3, (5, n)), bias=local.normal(0, 1, 5))
        elif name == "mean":
            steps.add(name, *same)
        elif name == "added" and len(same) > 1:
            steps.add(name, *same[:2])
        elif name == "affine":
            steps.add(name, reads[0], factor=local.normal(0, 1, n), shift=local.normal(0, 1, n))
        elif name == "columns":
            steps.add(name, reads[0], width=3, which=local.integers(0, n, 3) if seed % 2 else np.arange(3) % n)
        else:
            steps.add("softmax" if name == "softmax" else "tanh", reads[0])
    return Computation("float32", 4, tuple(steps.made), Decision(NUMBERS))


def test_values_that_live_at_a_time_lie_apart(tmp_path):
    """Steps that read any values find them, wherever they lie."""
    cases = {f"random{seed}": random_steps(seed) for seed in range(60)}
    paths = [header(tmp_path, computation, name) for name, computation in cases.items()]
    compiled = Compiled(tmp_path, paths, compiler("gcc"), "-O0")
    X = rng.normal(0, 2, (50, 4))
    for name, computation in cases.items():
        expected = computation.outputs(X)
        scale = max(1, np.abs(expected).max())
        found = compiled.outputs(name, computation, X)
        np.testing.assert_allclose(found / scale, expected / scale, atol=5e-6, rtol=0, err_msg=name)
