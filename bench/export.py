"""How long an exported C header takes for a row, and how large it is, beside emlearn's.

64-32-10 (tanh, then softmax), float32, with random parameters. The header of fastnn and, where emlearn is installed
(`pip install emlearn==0.23.2`, or a Python that has it with --emlearn), the one that emlearn writes of the same
parameters are compiled by the same compiler with the same options, without -ffast-math. The outputs of both are checked
to be those of `Model.predict`. Then the programs run in turn; each gives the nanoseconds of a row, the best of many
repeats over 100 rows. emlearn prints parameters with six decimals.

The second table has the bytes of the object for a Cortex-M4 (-Os), where arm-none-eabi-gcc is installed: `text` holds
code and tables, data and bss are memory. The target is 4 bytes a parameter and 1,229.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import fastnn

from .machine import cpus, print_host
from .timing import in_turn, medians, ratios

ROUNDS = 9
OPTIONS = {
    "--emlearn": {"metavar": "PYTHON", "default": sys.executable, "help": "a Python that has emlearn"},
    "--flags": {"nargs": "+", "default": ["O3", "O2"], "help": "options of gcc, without the dash (default O3 O2)"},
}
SIZES, ROWS, REPEATS, QUICK_REPEATS = (64, 32, 10), 100, 3000, 30
CORTEX = ["-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"]
TOLERANCE = {"fastnn": 1e-6, "emlearn": 1e-4}
# What gives the outputs y of a row x.
CALLS = {
    "fastnn": "fastnn_net_predict(x, y)",
    "emlearn": "eml_net_predict_proba(&emlearn_net, x, INPUTS, y, OUTPUTS)",
}
PROGRAM = """
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
static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}
int main(int count, char **arguments)
{
    double best = 1e30;
    FILE *file = fopen("rows", "rb");
    if (count != 2 || !file || fread(rows, sizeof rows, 1, file) != 1) return 1;
    for (int repeat = atoi(arguments[1]); repeat > 0; repeat--) {
        const double start = now();
        for (int i = 0; i < ROWS; i++) predict(rows + i * INPUTS, outputs + i * OUTPUTS);
        const double taken = (now() - start) / ROWS;
        if (taken < best) best = taken;
    }
    printf("%%.17g\\n", best);
    for (int i = 0; i < ROWS * OUTPUTS; i++) printf("%%.9g\\n", (double)outputs[i]);
    return 0;
}
"""
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


def _ran(*command, cwd):
    """What a command prints; raises ChildProcessError where it fails."""
    done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise ChildProcessError(done.stderr)
    return done.stdout


def headers(folder, python):
    """(the model, its rows, {side: options of the compiler}) of headers written into a folder."""
    model = fastnn.Model(
        [SIZES[0], fastnn.Dense(SIZES[1], "tanh"), fastnn.Dense(SIZES[2], "softmax")], loss="cross_entropy", rng=0
    )
    X = np.random.default_rng(0).standard_normal((ROWS, SIZES[0]), dtype=np.float32)
    X.tofile(folder / "rows")
    model.export(folder / "fastnn_net.h")
    (v, w), (b, c) = model.weights, model.biases
    np.savez(folder / "parameters.npz", w0=v.T, w1=w.T, b0=b, b1=c)
    sides = {"fastnn": []}
    try:
        sides["emlearn"] = [f"-I{_ran(python, '-c', EMLEARN, cwd=folder).strip()}"]
    except ChildProcessError as error:
        print(f"without emlearn: {str(error).strip().splitlines()[-1]}")
    return model, X, sides


def program(folder, side, includes, flag):
    """The path of a side's program."""
    source, made = folder / f"{side}.c", folder / f"{side}-{flag}"
    source.write_text(PROGRAM % (side, SIZES[0], SIZES[-1], ROWS, CALLS[side]))
    _ran("gcc", f"-{flag}", *includes, source, "-o", made, "-lm", cwd=folder)
    return made


def check(side, found, expected):
    """Raise ArithmeticError where a side's outputs are not the model's."""
    apart = np.abs(found.reshape(expected.shape) - expected).max()
    if not apart < TOLERANCE[side]:
        raise ArithmeticError(f"the outputs of {side}'s header differ from the model's by {apart:g}")
    return apart


def print_times(folder, model, X, sides, flags, rounds, repeats):
    """The first table."""
    expected = model.predict(X)
    print(f"\n{'gcc':22}{'header':10}{'ns a row':>10}{'ratio':>8}{'error':>10}")
    for flag in flags:
        programs = {side: program(folder, side, includes, flag) for side, includes in sides.items()}
        apart = {}

        def turn(side, programs=programs, apart=apart):
            best, *outputs = map(float, _ran(programs[side], repeats, cwd=folder).split())
            apart[side] = check(side, np.array(outputs), expected)
            return best

        figures = in_turn({side: lambda side=side: turn(side) for side in programs}, rounds)
        for side, ratio in ratios(figures).items():
            time = medians(figures)[side]
            print(f"{'-' + flag:22}{side:10}{time:10.0f}{ratio:8.2f}{apart[side]:10.1e}", flush=True)


def print_sizes(folder, model, sides):
    """The second table."""
    if shutil.which("arm-none-eabi-gcc") is None:
        print("\nwithout sizes: there is no arm-none-eabi-gcc")
        return
    print(f"\n{'Cortex-M4, -Os':22}{'text':>8}{'data':>8}{'bss':>8}   target {4 * model.n_parameters + 1229}")
    for side, includes in sides.items():
        source = folder / f"{side}-size.c"
        text = f'#include "{side}_net.h"\n#define INPUTS {SIZES[0]}\n#define OUTPUTS {SIZES[-1]}\n'
        source.write_text(f"{text}void predict(const float *x, float *y)\n{{\n    {CALLS[side]};\n}}\n")
        _ran("arm-none-eabi-gcc", "-Os", *CORTEX, *includes, "-c", source, "-o", "size.o", cwd=folder)
        sizes = _ran("arm-none-eabi-size", "size.o", cwd=folder).splitlines()[1].split()[:3]
        print(f"{side:22}" + "".join(f"{size:>8}" for size in sizes), flush=True)


def run(options):
    """Print the tables."""
    if shutil.which("gcc") is None:
        raise ChildProcessError("this needs gcc")
    print_host()
    with tempfile.TemporaryDirectory() as name, cpus(1):
        folder = Path(name)
        model, X, sides = headers(folder, options.emlearn)
        repeats = QUICK_REPEATS if options.quick else REPEATS
        print_times(folder, model, X, sides, options.flags, options.rounds, repeats)
        print_sizes(folder, model, sides)
