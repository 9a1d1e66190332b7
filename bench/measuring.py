"""The sides of a case in child processes that take turns."""

import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

import fastnn

from .child import registry
from .sides import difference

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
ROUND_SECONDS, QUICK_SECONDS, QUICK_SAMPLES = 0.3, 0.01, 1000
AVX512 = "numpy-avx512"
# What makes each package use no more than an instruction set. ONNX Runtime has no such setting.
ISAS = {
    "avx2": {
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma",
        "OPENBLAS_CORETYPE": "Haswell",
        # Its YNNPACK takes AVX-512 whatever the first of these says: products ran at 1.8 times AVX2's peak.
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX2 --xla_cpu_experimental_ynn_fusion_type=",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
    }
}


def isa():
    """The instruction set that the environment asks all packages for, or None."""
    return next((name for name, settings in ISAS.items() if settings.items() <= os.environ.items()), None)


@contextlib.contextmanager
def _cpus(n):
    """A process started in here has the last n of this one's CPUs; the first ones have more of the system's work."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    all_of_them = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(all_of_them)[-n:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, all_of_them)


def stay_on_one_cpu():
    """Bind this process to one CPU, and threads that it starts from now on."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


class Child:
    """A side of a case in a process of its own, on as many CPUs as it has threads; see `child`."""

    def __init__(self, side, case, threads):
        environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(threads))
        if isa() is None:
            environment.pop("OPENBLAS_CORETYPE", None)
        if side == AVX512:
            side, environment["OPENBLAS_CORETYPE"] = "numpy", "SkylakeX"
        command = [sys.executable, "-m", "bench.child", side, case.name, str(case.n_samples)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with _cpus(threads):
            self._process = subprocess.Popen(command, env=environment, cwd=Path(__file__).parent.parent, **pipes)

    def ask(self, *command):
        """The child's answer to a command."""
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


def numpy_sides():
    """NumPy as installed, and with OpenBLAS told to use AVX-512 where the CPU has it, and `isa` allows it."""
    has_it = "avx512f" in cpu_info().get("flags", "").split() and isa() is None
    return ["numpy", *([AVX512] if has_it else [])]


def machine(packages=()):
    """What the figures depend on."""
    return {
        "cpu": cpu_info().get("model name") or platform.processor() or platform.machine(),
        **({} if isa() is None else {"instruction set": f"at most {isa()}, in every package that can be told"}),
        "cpus": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "fastnn": fastnn.__version__,
        **{name: version(name) for name in ("numpy", "numba", "llvmlite", *packages)},
    }


def _seconds_of_one(child, seconds):
    """The seconds of an epoch or call, the mean of enough of them to take a tenth of `seconds`."""
    n = 1
    while (taken := child.ask("run", n)["seconds"]) < seconds / 10:
        n *= 4
    return taken / n


def measure(case, sides, threads, rounds, seconds):
    """Everything about one case, as --json writes it."""
    cases, children = {}, {}
    try:
        with tempfile.TemporaryDirectory() as folder:
            results = {}
            for side in sides:  # one after another: a peer that tries its variants is alone
                kind = registry(case).get(side)
                most = getattr(kind, "max_batches", None) or case.n_samples
                cases[side] = case.cut(most * case.batch_size)
                children[side] = Child(side, cases[side], threads)
                file = Path(folder) / f"{side}.npy"
                children[side].ask("check", file)
                if getattr(kind, "alike", True):
                    results[side] = np.load(file)
        try:
            apart = difference(results)
        except ArithmeticError as error:
            raise ArithmeticError(f"{case.name}: {error}") from None
        repeats = {}
        for side, child in children.items():
            child.ask("run", 1)  # touches everything once
            repeats[side] = max(1, round(seconds / _seconds_of_one(child, seconds)))
        peaks = [children["fastnn"].ask("peak")["gflops"]]
        times = {side: [] for side in children}
        for _ in range(rounds):
            for side, child in children.items():
                time.sleep(seconds / 2)  # threads of the side before may still spin
                times[side].append(child.ask("run", repeats[side])["seconds"])
        peaks.append(children["fastnn"].ask("peak")["gflops"])
        about = {side: child.ask("describe") for side, child in children.items() if side != "fastnn"}
    finally:
        for child in children.values():
            child.close()
    samples = {side: cases[side].n_samples * repeats[side] for side in children}
    rates = {side: samples[side] / statistics.median(times[side]) for side in children}
    ratios = {}  # the median of each round's ratio, because the turns of a round lie next to each other in time
    for side in about:
        pairs = zip(times["fastnn"], times[side], strict=True)
        ratios[side] = statistics.median(y / samples[side] / (x / samples["fastnn"]) for x, y in pairs)
    gflops = rates["fastnn"] * case.flops / 1e9
    return {
        "name": case.name,
        "sizes": case.sizes,
        "batch_size": case.batch_size,
        "n_samples": {side: cases[side].n_samples for side in children},
        "flops_per_sample": case.flops,
        "max_difference": apart,
        "repeats": repeats,
        "seconds": times,
        "samples_per_second": rates,
        "gflops": gflops,
        "peak_gflops": peaks,
        "fraction_of_peak": gflops / max(peaks),
        "ratio": ratios,
        "blas": {side: answer["blas"] for side, answer in about.items() if "blas" in answer},
        "variant": {side: answer["variant"] for side, answer in about.items() if answer["variant"]},
    }
