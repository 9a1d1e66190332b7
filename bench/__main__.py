"""`python -m bench`: fastnn against plain NumPy, one training step of SGD after another.

Each side of each case runs in a child process that stays alive, and the sides take turns, so that a machine that
slows down slows both. A round is a whole `fit` of enough epochs to take about 0.3 s, shuffling and gathering (and
fastnn's check of its inputs) included; figures are medians over rounds. Before anything is timed, all sides must
end with the same weights from the same start and order.

The ratio, the median of the rounds' ratios, compares with NumPy as installed. Where the CPU has AVX-512,
"numpy-avx512" is NumPy with OpenBLAS told to use its kernels for it, for the BLAS builds that do not by themselves.
"""

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np

from .cases import CASES
from .sides import difference

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
ROUND_SECONDS, QUICK_SECONDS, QUICK_SAMPLES = 0.3, 0.01, 1000
AVX512 = "numpy-avx512"


class Child:
    """A side of a case in a process of its own; see `child`."""

    def __init__(self, side, case, threads):
        environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(threads))
        environment.pop("OPENBLAS_CORETYPE", None)
        if side == AVX512:
            side, environment["OPENBLAS_CORETYPE"] = "numpy", "SkylakeX"
        command = [sys.executable, "-m", "bench.child", side, case.name, str(case.n_samples)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=Path(__file__).parent.parent,
        )

    def ask(self, *command):
        """Its answer to a command."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(" ".join(map(str, command)) + "\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise ChildProcessError(f"{' '.join(self._process.args)} ended with status {self._process.wait()}")
        return json.loads(answer)

    def close(self):
        self._process.communicate()


def cpu_info():
    """The first value of each line of /proc/cpuinfo, where there is one."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in reversed(lines) if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def machine():
    """What the figures depend on."""
    packages = {"fastnn": "fastnn-numba", "numpy": "numpy", "numba": "numba", "llvmlite": "llvmlite"}
    return {
        "cpu": cpu_info().get("model name") or platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: version(package) for name, package in packages.items()},
    }


def measure(case, sides, threads, rounds, seconds):
    """Everything about one case, as --json writes it."""
    children = {}
    try:
        for side in sides:
            children[side] = Child(side, case, threads)
        with tempfile.TemporaryDirectory() as folder:
            parameters = {}
            for side, child in children.items():
                file = Path(folder) / f"{side}.npy"
                child.ask("check", file)
                parameters[side] = np.load(file)
        apart = difference(parameters)
        epochs = {}
        for side, child in children.items():
            child.ask("run", 1)  # touches everything once
            epochs[side] = max(1, round(seconds / child.ask("run", 1)["seconds"]))
        peaks = [children["fastnn"].ask("peak")["gflops"]]
        times = {side: [] for side in children}
        for _ in range(rounds):
            for side, child in children.items():
                times[side].append(child.ask("run", epochs[side])["seconds"])
        peaks.append(children["fastnn"].ask("peak")["gflops"])
        blas = {side: child.ask("describe")["blas"] for side, child in children.items() if side != "fastnn"}
    finally:
        for child in children.values():
            child.close()
    rates = {side: case.n_samples * epochs[side] / statistics.median(times[side]) for side in children}
    ratios = {}  # of each round's pair, whose turns lie next to each other, rather than of two medians
    for side in blas:
        pairs = zip(times["fastnn"], times[side], strict=True)
        ratios[side] = statistics.median(y / epochs[side] / (x / epochs["fastnn"]) for x, y in pairs)
    gflops = rates["fastnn"] * case.flops / 1e9
    return {
        "name": case.name,
        "sizes": case.sizes,
        "batch_size": case.batch_size,
        "n_samples": case.n_samples,
        "flops_per_sample": case.flops,
        "max_difference": apart,
        "epochs": epochs,
        "seconds": times,
        "samples_per_second": rates,
        "gflops": gflops,
        "peak_gflops": peaks,
        "fraction_of_peak": gflops / max(peaks),
        "ratio": ratios,
        "blas": blas,
    }


def row(result):
    """One line of the table."""
    rates, ratios = result["samples_per_second"], result["ratio"]
    other = f"{ratios[AVX512]:.2f}" if AVX512 in ratios else "-"
    return (
        f"{result['name']:22} {rates['fastnn']:12,.0f} {result['gflops']:8.1f} {result['fraction_of_peak']:8.0%} "
        f"{rates['numpy']:12,.0f} {ratios['numpy']:7.2f} {other:>13} {result['max_difference']:9.1g}"
    )


HEADER = (
    f"{'case':22} {'fastnn/s':>12} {'GFLOP/s':>8} {'of peak':>8} {'NumPy/s':>12} {'ratio':>7} "
    f"{'ratio avx512':>13} {'max diff':>9}"
)


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m bench", description="Time fastnn against plain NumPy.")
    names = [case.name for case in CASES]
    parser.add_argument("--case", nargs="+", action="extend", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--threads", type=int, default=1, help="threads of every library (default 1)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds to take medians over (default 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured")
    parser.add_argument("--quick", action="store_true", help="few samples, short rounds: shows that it works")
    options = parser.parse_args(arguments)
    if options.threads < 1 or options.rounds < 1:
        parser.error("--threads and --rounds must be at least 1")

    host = machine()
    print("\n".join(f"{key}: {value}" for key, value in host.items()))
    print(f"threads: {options.threads}, rounds: {options.rounds}; /s is samples a second, peak that of one core\n")
    print(HEADER, flush=True)
    sides = ["fastnn", "numpy", *([AVX512] if "avx512f" in cpu_info().get("flags", "").split() else [])]
    results = []
    for case in (case for case in CASES if case.name in (options.case or names)):
        case = case.cut(QUICK_SAMPLES) if options.quick else case
        seconds = QUICK_SECONDS if options.quick else ROUND_SECONDS
        try:
            results.append(measure(case, sides, options.threads, options.rounds, seconds))
        except (ArithmeticError, ChildProcessError) as error:
            sys.exit(f"{case.name}: {error}")
        print(row(results[-1]), flush=True)
    peaks = [peak for result in results for peak in result["peak_gflops"]]
    print(f"\none-core peak: {min(peaks):.1f} to {max(peaks):.1f} GFLOP/s; BLAS: {results[-1]['blas']}")
    if options.json:
        content = {"machine": host, "threads": options.threads, "rounds": options.rounds, "cases": results}
        options.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
