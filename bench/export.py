"""How long an exported file takes for a row and for 1,000 rows, and how large it is, beside what others write.

64-32-10 (tanh, then softmax), float32, with random parameters, on one CPU and one thread:

- in C the header and that of integers (int8), beside emlearn's of the same parameters, which it prints with six
  decimals; gcc compiles all, without -ffast-math;
- in ONNX Runtime the ONNX file, beside skl2onnx's of scikit-learn's MLPClassifier with the same parameters;
- in node the JavaScript module, beside the ONNX file in onnxruntime-web;
- in NumPy the Python file.

The outputs of each are checked to be those of `Model.predict`. Then the programs run in turn. A row is one of 1,000
calls, and 1,000 rows are a single call where there is one; each is the best of many repeats. A ratio is to the first
side with the same name on the left. `file` has the bytes of what was written, `runtime` those of the package that runs
it: for onnxruntime-web the three files that a page loads. What is not installed is left out, and a line says so.

The second table has the bytes of the object for a Cortex-M4 (-Os), where arm-none-eabi-gcc is installed: `text` holds
code and tables, data and bss are memory. The target is 4 bytes a parameter and 1,229, and 5,120 for int8.

The third table has what int8 does to predictions. Networks with a hidden layer of 32 units train on 70% of the rows of
sets of scikit-learn, as they come, which calibrate the integers too. The others are counted: the share whose class is
that of the floats, the mean and the least of five seeds; for diabetes the R2 of the targets, by floats and by integers.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

import fastnn

from .machine import cpus, print_host
from .markdown import Table, printed
from .timing import in_turn, medians, ratios

ROUNDS = 9
OPTIONS = {
    "--emlearn": {"metavar": "PYTHON", "default": sys.executable, "help": "a Python that has emlearn 0.23.2"},
    "--skl2onnx": {"metavar": "PYTHON", "default": sys.executable, "help": "a Python that has skl2onnx"},
    "--web": {"metavar": "FOLDER", "default": ".", "help": "where node_modules has onnxruntime-web (default .)"},
    "--flags": {"nargs": "+", "default": ["O3", "O2"], "help": "options of gcc, without the dash (default O3 O2)"},
}
SIZES, ROWS, SECONDS, QUICK_SECONDS = (64, 32, 10), 1000, 0.3, 0.01
CORTEX = ["-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"]
TOLERANCE = {"fastnn": 1e-6, "emlearn": 1e-4, "skl2onnx": 1e-6, "int8": 0.05}
SETS, ACTIVATIONS, SEEDS, QUICK_SEEDS = ["digits", "iris", "wine", "breast_cancer", "diabetes"], ["tanh", "relu"], 5, 1
BLOCKS = {  # {the table: the first words of what runs its files}
    "export-c": ["gcc"],
    "export-onnx": ["ONNX"],
    "export-javascript": ["node"],
    "export-numpy": ["NumPy"],
}
FIGURES = printed("export-c", "export-onnx", "export-javascript", "export-sizes", "int8-accuracy")
ROOT = Path(__file__).parent.parent


class Side(NamedTuple):
    """A program that takes seconds as its last argument, and what it needs."""

    command: list  # prints the seconds of a row, those of ROWS rows, and the outputs
    file: Path
    runtime: int | None = None  # bytes


# ---- programs: each reads ROWS rows from the file `rows` ----

# What gives the outputs y of a row x, and of all rows.
CALLS = {
    "fastnn": ("fastnn_net_predict(x, y)", "fastnn_net_predict_rows(rows, outputs, ROWS)"),
    "int8": ("int8_net_predict(x, y)", "int8_net_predict_rows(rows, outputs, ROWS)"),
    "emlearn": (
        "eml_net_predict_proba(&emlearn_net, x, INPUTS, y, OUTPUTS)",
        "for (int i = 0; i < ROWS; i++) predict(rows + i * INPUTS, outputs + i * OUTPUTS)",
    ),
}
C = """
#define _POSIX_C_SOURCE 199309L
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "%s_net.h"
#define INPUTS %d
#define OUTPUTS %d
#define ROWS %d
static float rows[ROWS * INPUTS], outputs[ROWS * OUTPUTS];
static void predict(const float *x, float *y)
{
    %s;
}
static void one_by_one(void)
{
    for (int i = 0; i < ROWS; i++) predict(rows + i * INPUTS, outputs + i * OUTPUTS);
}
static void all(void)
{
    %s;
}
static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
static double best(void (*call)(void), double seconds)
{
    double least = 1e30;
    for (const double end = now() + seconds; now() < end;) {
        const double start = now();
        call();
        const double taken = now() - start;
        if (taken < least) least = taken;
    }
    return least;
}
int main(int count, char **arguments)
{
    FILE *file = fopen("rows", "rb");
    if (count != 2 || !file || fread(rows, sizeof rows, 1, file) != 1) return 1;
    printf("%%.17g\\n", best(one_by_one, atof(arguments[1])) / ROWS);
    printf("%%.17g\\n", best(all, atof(arguments[1])));
    for (int i = 0; i < ROWS * OUTPUTS; i++) printf("%%.9g\\n", (double)outputs[i]);
    return 0;
}
"""
PYTHON = """
import runpy, sys
import numpy
from bench.timing import least_seconds
path, seconds = sys.argv[1], float(sys.argv[2])
X = numpy.fromfile("rows", numpy.float32).reshape(%d, %d)
if path.endswith(".onnx"):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options)
    predict = lambda rows: session.run(["probabilities"], {"X": rows})[0]
else:
    predict = runpy.run_path(path)["predict"]
each = [X[i : i + 1] for i in range(len(X))]
print(least_seconds(lambda: [predict(row) for row in each], total=seconds) / len(X))
print(least_seconds(lambda: predict(X), total=seconds))
print(*predict(X).ravel().tolist(), sep="\\n")
"""
NODE = """
import { readFileSync } from "node:fs";
const [path, inputs, seconds] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const all = new Float32Array(new Uint8Array(readFileSync("rows")).buffer), n = all.length / inputs;
const each = Array.from({ length: n }, (_, i) => all.subarray(i * inputs, (i + 1) * inputs));
let one, many;
if (path.endsWith(".onnx")) {
  const ort = await import("onnxruntime-web");
  ort.env.wasm.numThreads = 1;
  const session = await ort.InferenceSession.create(new Uint8Array(readFileSync(path)));
  const run = async (x, rows) => {
    const found = await session.run({ X: new ort.Tensor("float32", x, [rows, inputs]) }, ["probabilities"]);
    return found.probabilities.data;
  };
  [one, many] = [(x) => run(x, 1), () => run(all, n)];
} else {
  const net = await import("./" + path);
  [one, many] = [net.predict, () => net.predictRows(each)];
}
const best = async (call) => {
  let least = Infinity;
  for (const end = performance.now() + 1000 * seconds; performance.now() < end; ) {
    const start = performance.now();
    await call();
    least = Math.min(least, performance.now() - start);
  }
  return least / 1000;
};
const waits = path.endsWith(".onnx");
console.log((await best(async () => { for (const x of each) waits ? await one(x) : one(x); })) / n);
console.log(await best(many));
const outputs = await many();
console.log((waits ? [...outputs] : outputs.flatMap((row) => [...row])).join("\\n"));
"""
# The files of onnxruntime-web that a page loads.
WEB = ["ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"]

# ---- what others write of the parameters ----

EMLEARN = """
import pathlib, emlearn, numpy
from emlearn import net
arrays = numpy.load("parameters.npz")
wrapper = net.Wrapper.__new__(net.Wrapper)  # its __init__ compiles
wrapper.activations, wrapper.use_fixedpoint = ["tanh", "softmax"], False
wrapper.weights, wrapper.biases = [arrays["w0"], arrays["w1"]], [arrays["b0"], arrays["b1"]]
wrapper.save(name="emlearn_net", file="emlearn_net.h")
print(pathlib.Path(emlearn.__file__).parent)
"""
SKL2ONNX = """
import warnings, numpy
from skl2onnx import to_onnx
from sklearn.neural_network import MLPClassifier
arrays = numpy.load("parameters.npz")
n, hidden = arrays["w0"].shape
classes = len(arrays["b1"])
X = numpy.zeros((classes, n), numpy.float32)
warnings.simplefilter("ignore")  # an iteration is not enough to converge
net = MLPClassifier((hidden,), activation="tanh", max_iter=1).fit(X, numpy.arange(classes))
net.coefs_, net.intercepts_ = [arrays["w0"], arrays["w1"]], [arrays["b0"], arrays["b1"]]
found = to_onnx(net, X[:1], options={"zipmap": False})
open("skl2onnx_net.onnx", "wb").write(found.SerializeToString())
"""


def _ran(*command, cwd):
    """What a command prints; raises ChildProcessError where it fails or is not there."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise ChildProcessError(str(error)) from None
    if done.returncode:
        raise ChildProcessError(done.stderr)
    return done.stdout


def network(folder):
    """(the model, its rows); their files are in a folder, for whoever exports or reads them."""
    model = fastnn.Model(
        [SIZES[0], fastnn.Dense(SIZES[1], "tanh"), fastnn.Dense(SIZES[2], "softmax")], loss="cross_entropy", rng=0
    )
    X = np.random.default_rng(0).standard_normal((ROWS, SIZES[0]), dtype=np.float32)
    X.tofile(folder / "rows")
    (v, w), (b, c) = model.weights, model.biases
    np.savez(folder / "parameters.npz", w0=v.T, w1=w.T, b0=b, b1=c)
    return model, X


def size_of(package):
    """The bytes of a folder."""
    return sum(path.stat().st_size for path in Path(package).rglob("*") if path.is_file())


class Sides:
    """What is measured in a folder: {(what runs it, who wrote it): a `Side`}."""

    def __init__(self, folder, model, options):
        self.folder, self.model, self.options = folder, model, options
        self.found, self.includes = {}, {}  # the second: {who wrote a header: gcc's options}
        for name, add in {
            "emlearn": self.headers,
            "ONNX Runtime": self.onnxruntime,
            "skl2onnx": self.skl2onnx,
            "node": self.node,
            "onnxruntime-web": self.web,
            "NumPy": self.numpy,
        }.items():
            try:
                add()
            except (ChildProcessError, ImportError) as error:
                print(f"without {name}: {str(error).strip().splitlines()[-1]}")

    def export(self, name, **how):
        """The path of the network in a file."""
        path = self.folder / name
        self.model.export(path, **how)
        return path

    def headers(self):
        """A program for each header and each of gcc's options."""
        self.export("fastnn_net.h")
        self.programs("fastnn", [])
        rows = np.fromfile(self.folder / "rows", np.float32).reshape(ROWS, SIZES[0])
        self.export("int8_net.h", quantize="int8", calibrate=rows, least_agreement=0)
        self.programs("int8", [])
        where = _ran(self.options.emlearn, "-c", EMLEARN, cwd=self.folder).strip()
        self.programs("emlearn", [f"-I{where}"])

    def programs(self, side, includes):
        """Compile a header's programs."""
        self.includes[side] = includes
        source, (row, rows) = self.folder / f"{side}.c", CALLS[side]
        source.write_text(C % (side, SIZES[0], SIZES[-1], ROWS, row, rows))
        for flag in self.options.flags:
            made = self.folder / f"{side}-{flag}"
            _ran("gcc", f"-{flag}", *includes, source, "-o", made, "-lm", cwd=self.folder)
            self.found[f"gcc -{flag}", side] = Side([made], self.folder / f"{side}_net.h")

    def of_python(self, path, runtime=None):
        """The side of a file that Python runs."""
        return Side([sys.executable, "-c", PYTHON % (ROWS, SIZES[0]), path.name], path, runtime)

    def onnxruntime(self):
        """The ONNX file."""
        import onnxruntime

        runtime = size_of(Path(onnxruntime.__file__).parent)
        self.found["ONNX Runtime", "fastnn"] = self.of_python(self.export("fastnn_net.onnx"), runtime)

    def skl2onnx(self):
        """That of skl2onnx."""
        ours = self.found.get(("ONNX Runtime", "fastnn"))
        if ours is None:
            raise ChildProcessError("there is no ONNX Runtime")
        _ran(self.options.skl2onnx, "-c", SKL2ONNX, cwd=self.folder)
        self.found["ONNX Runtime", "skl2onnx"] = self.of_python(self.folder / "skl2onnx_net.onnx", ours.runtime)

    def of_node(self, path, runtime=None):
        """The side of a file that node runs."""
        script = self.folder / "run.mjs"
        script.write_text(NODE)
        return Side(["node", script, path.name, SIZES[0]], path, runtime)

    def node(self):
        """The JavaScript module."""
        _ran("node", "--version", cwd=self.folder)
        self.found["node", "fastnn"] = self.of_node(self.export("fastnn_net.mjs"))

    def web(self):
        """The ONNX file in onnxruntime-web."""
        modules = Path(self.options.web).absolute() / "node_modules"
        files = [modules / "onnxruntime-web" / "dist" / name for name in WEB]
        if not all(file.is_file() for file in files):
            raise ChildProcessError(f"there is no onnxruntime-web in {modules}")
        (self.folder / "node_modules").symlink_to(modules)
        runtime = sum(file.stat().st_size for file in files)
        path = self.export("web_net.onnx")
        self.found["node", "onnxruntime-web"] = self.of_node(path, runtime)

    def numpy(self):
        """The Python file."""
        self.found["NumPy", "fastnn"] = self.of_python(self.export("fastnn_net.py"), size_of(Path(np.__file__).parent))


def check(side, found, expected):
    """Raise ArithmeticError where a side's outputs are not the model's."""
    apart = np.abs(found.reshape(expected.shape) - expected).max()
    if not apart < TOLERANCE.get(side, TOLERANCE["fastnn"]):
        raise ArithmeticError(f"the outputs of {side}'s file differ from the model's by {apart:g}")
    return apart


def print_times(folder, sides, expected, rounds, seconds):
    """The first table."""
    apart = {}

    def turn(name):
        row, rows, *outputs = map(float, _ran(*sides[name].command, seconds, cwd=folder).split())
        apart[name] = check(name[1], np.array(outputs), expected)
        return row, rows

    figures = in_turn({name: lambda name=name: turn(name) for name in sides}, rounds)
    of_row, of_rows = ({name: each[:, i] for name, each in figures.items()} for i in (0, 1))
    columns = "written by", "a row, us", "ratio", "1,000 rows, us", "ratio", "error", "file", "runtime"
    for block, runs in BLOCKS.items():
        names = [name for name in sides if name[0].split()[0] in runs]
        if not names:
            continue
        table = Table(block, "run by", *columns, title=f"{'-'.join(map(str, SIZES))} run by {', '.join(runs)}")
        for name in names:
            first = next(each for each in names if each[0] == name[0])
            cells = []
            for each in (of_row, of_rows):
                cells += [f"{1e6 * medians(each)[name]:.3g}", f"{ratios(each, first)[name]:.2f}"]
            size = "" if sides[name].runtime is None else f"{sides[name].runtime:,}"
            table.add(*name, *cells, f"{apart[name]:.1e}", f"{sides[name].file.stat().st_size:,}", size)


def print_sizes(folder, model, includes):
    """The second table."""
    if shutil.which("arm-none-eabi-gcc") is None:
        print("\nwithout sizes: there is no arm-none-eabi-gcc")
        return
    targets = {"fastnn": f"{4 * model.n_parameters + 1229:,}", "int8": "5,120"}  # bytes of code and tables
    table = Table("export-sizes", "header", "text", "data", "bss", "target of text", title="Cortex-M4, -Os, bytes")
    for side, options in includes.items():
        source = folder / f"{side}-size.c"
        text = f'#include "{side}_net.h"\n#define INPUTS {SIZES[0]}\n#define OUTPUTS {SIZES[-1]}\n'
        source.write_text(f"{text}void predict(const float *x, float *y)\n{{\n    {CALLS[side][0]};\n}}\n")
        _ran("arm-none-eabi-gcc", "-Os", *CORTEX, *options, "-c", source, "-o", "size.o", cwd=folder)
        sizes = _ran("arm-none-eabi-size", "size.o", cwd=folder).splitlines()[1].split()[:3]
        table.add(side, *(f"{int(size):,}" for size in sizes), targets.get(side, ""))


def of_seed(name, activation, seed):
    """(a set's held-out targets, and the outputs for them by floats and by integers)."""
    from sklearn import datasets
    from sklearn.model_selection import train_test_split

    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    classes = name != "diabetes"
    y = y if classes else ((y - y.mean()) / y.std())[:, None]
    there, other, targets, expected = train_test_split(
        X, y, test_size=0.3, random_state=seed, stratify=y if classes else None
    )
    head = fastnn.Dense(int(y.max()) + 1, "softmax") if classes else fastnn.Dense(1, "identity")
    shift, scale = fastnn.standardize(there)
    how = {"input_shift": shift, "input_scale": scale, "loss": "cross_entropy" if classes else "quadratic"}
    model = fastnn.Model([X.shape[1], fastnn.Dense(32, activation), head], rng=seed, **how)
    model.fit(there, targets, epochs=60, batch_size=16, optimizer=fastnn.Adam(0.002))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.h")
        model.export(path, quantize="int8", calibrate=there, rows=other, least_agreement=0)
        text = path.read_text() + C_ROWS
        source, program = Path(folder, "net.c"), Path(folder, "net")
        source.write_text(text)
        np.ascontiguousarray(other, np.float32).tofile(Path(folder, "rows"))
        _ran("gcc", "-O2", source, "-o", program, cwd=folder)
        found = np.array(_ran(program, cwd=folder).split(), float).reshape(len(other), -1)
    return expected, model.predict(other), found


C_ROWS = """
#include <stdio.h>
int main(void)
{
    float x[NET_INPUTS], y[NET_OUTPUTS];
    FILE *file = fopen("rows", "rb");
    while (file && fread(x, sizeof x, 1, file) == 1) {
        net_predict(x, y);
        for (int i = 0; i < NET_OUTPUTS; i++) printf("%.9g\\n", (double)y[i]);
    }
    return 0;
}
"""


def r2(found, expected):
    """Of one output."""
    return 1 - np.square(found - expected).sum() / np.square(expected - expected.mean()).sum()


def print_agreement(seeds):
    """The third table."""
    title = "Rows of the same class by int8 and by floats: the mean of seeds, the least"
    table = Table("int8-accuracy", "activation", *SETS, title=title)
    for activation in ACTIVATIONS:
        cells = []
        for name in SETS:
            found = [of_seed(name, activation, seed) for seed in range(seeds)]
            if name == "diabetes":
                pairs = np.array([(r2(floats, y), r2(integers, y)) for y, floats, integers in found])
                cells.append("R2 {:.4f}, {:.4f}".format(*pairs.mean(axis=0)))
            else:
                same = [(floats.argmax(axis=1) == integers.argmax(axis=1)).mean() for _, floats, integers in found]
                cells.append(f"{np.mean(same):.4f}, {min(same):.4f}")
        table.add(activation, *cells)


def run(options):
    """Print the tables."""
    if shutil.which("gcc") is None:
        raise ChildProcessError("this needs gcc")
    print_host()
    with tempfile.TemporaryDirectory() as name, cpus(1):
        folder = Path(name)
        model, X = network(folder)
        sides = Sides(folder, model, options)
        seconds = QUICK_SECONDS if options.quick else SECONDS
        print_times(folder, sides.found, model.predict(X), options.rounds, seconds)
        print_sizes(folder, model, sides.includes)
    print_agreement(QUICK_SEEDS if options.quick else SEEDS)
