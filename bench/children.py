"""The sides of a case, each in a child process that stays alive, in turn.

Thread counts and BLAS kernels are fixed when libraries load, so each side has its process and its environment.
`python -m bench.children SIDE NAME N_SAMPLES [CHECKOUT]` is such a child. With a checkout, `fastnn` is imported from
there. It reads commands from standard input and answers each with a line of JSON:

    check FILE   save what must agree: the parameters that a short training ends with, or the outputs; {}
    run N        {"seconds": ..} for that many epochs, or calls of predict
    peak         {"gflops": ..} of one core
    describe     {"variant": ..}, which of its ways was the fastest, and "blas" for NumPy
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from . import cases, predictors, sides, timing
from .machine import cpu_info, cpus, isa

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
ROUND_SECONDS, QUICK_SECONDS, QUICK_SAMPLES = 0.3, 0.01, 1000
AVX512 = "numpy-avx512"
AGAINST = "against"  # fastnn in another checkout


def registry(case):
    """The sides there are for a case."""
    return predictors.SIDES if isinstance(case, cases.Rows) else sides.SIDES


def numpy_sides():
    """NumPy as installed, and with OpenBLAS told to use AVX-512 where the CPU has it, and `isa` allows it."""
    has_it = "avx512f" in cpu_info().get("flags", "").split() and isa() is None
    return ["numpy", *([AVX512] if has_it else [])]


# ---- the parent ----


class Child:
    """`python -m` with some arguments in another process, on as many CPUs as it has threads."""

    def __init__(self, arguments, threads, **variables):
        environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(threads)) | variables
        if isa() is None and "OPENBLAS_CORETYPE" not in variables:
            environment.pop("OPENBLAS_CORETYPE", None)
        command = [sys.executable, "-m", *map(str, arguments)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with cpus(threads):
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

    def seconds(self, n):
        """The seconds of n epochs or calls."""
        return self.ask("run", n)["seconds"]

    def close(self):
        self._process.communicate()


def side_child(side, case, threads, checkout=None):
    """A side of a case; AGAINST is that of a checkout."""
    variables, of_checkout = {}, []
    if side == AVX512:
        side, variables["OPENBLAS_CORETYPE"] = "numpy", "SkylakeX"
    if side == AGAINST:
        side, of_checkout = "fastnn", [checkout]
    return Child(["bench.children", side, case.name, case.n_samples, *of_checkout], threads, **variables)


def _checked_children(case, names, threads, stack, checkout):
    """({side: the case with as many samples as it takes}, {side: child}, the largest difference of their results)."""
    cut, children, results = {}, {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for side in names:  # one after another: a peer that tries its variants is alone
            kind = registry(case).get(side)
            most = getattr(kind, "max_batches", None) or case.n_samples
            cut[side] = case.cut(most * case.batch_size)
            children[side] = side_child(side, cut[side], threads, checkout)
            stack.callback(children[side].close)
            file = Path(folder) / f"{side}.npy"
            children[side].ask("check", file)
            if getattr(kind, "alike", True):
                results[side] = np.load(file)
    try:
        return cut, children, sides.difference(results)
    except ArithmeticError as error:
        raise ArithmeticError(f"{case.name}: {error}") from None


def measure(case, names, threads, rounds, seconds, checkout=None):
    """Everything about one case, as --json writes it; a turn of a side takes about so many seconds."""
    with contextlib.ExitStack() as stack:
        cut, children, apart = _checked_children(case, names, threads, stack, checkout)
        for child in children.values():
            child.seconds(1)  # touches everything once
        repeats = {side: timing.repeats(child.seconds, seconds) for side, child in children.items()}
        turns = {side: lambda side=side: children[side].seconds(repeats[side]) for side in children}
        peaks = [children["fastnn"].ask("peak")["gflops"]]
        times = timing.in_turn(turns, rounds, pause=seconds / 2)
        peaks.append(children["fastnn"].ask("peak")["gflops"])
        about = {side: child.ask("describe") for side, child in children.items() if side != "fastnn"}
    of_a_sample = {side: each / (cut[side].n_samples * repeats[side]) for side, each in times.items()}
    rates = {side: 1 / median for side, median in timing.medians(of_a_sample).items()}
    ratios = timing.ratios(of_a_sample, "fastnn")
    gflops = rates["fastnn"] * case.flops / 1e9
    return {
        "name": case.name,
        "sizes": case.sizes,
        "batch_size": case.batch_size,
        "n_samples": {side: cut[side].n_samples for side in children},
        "flops_per_sample": case.flops,
        "max_difference": apart,
        "repeats": repeats,
        "seconds": {side: each.tolist() for side, each in times.items()},
        "samples_per_second": rates,
        "gflops": gflops,
        "peak_gflops": peaks,
        "fraction_of_peak": gflops / max(peaks),
        "ratio": {side: ratios[side] for side in about},
        "blas": {side: answer["blas"] for side, answer in about.items() if "blas" in answer},
        "variant": {side: answer["variant"] for side, answer in about.items() if answer["variant"]},
    }


def rates(result):
    """Samples a second by side, of what `measure` gives; NumPy's is the better of its two."""
    found = dict(result["samples_per_second"])
    if AVX512 in found:
        found["numpy"] = max(found["numpy"], found.pop(AVX512))
    return found


# ---- the child ----


def _blas():
    """The kernels that NumPy's BLAS chose, where that can be known."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return "unknown"
    names = [f"{d['internal_api']} {d['version']} {d.get('architecture', '')}" for d in threadpool_info()]
    return names[0].strip() if names else "unknown"


def _answer(side, trainer, command, *arguments):
    """What a command of the parent gives; the trainer is one of `sides` or `predictors`."""
    predicts = isinstance(trainer.case, cases.Rows)
    if command == "check":
        variant = [trainer.variant] if hasattr(trainer, "variant") else []
        np.save(arguments[0], trainer.predict() if predicts else sides.trained(side, trainer.case, *variant))
        return {}
    if command == "run":
        run = trainer.run if predicts else trainer.train
        return {"seconds": timing.seconds(lambda: run(int(arguments[0])))}
    if command == "peak":
        from .roofline import fma_peak

        return {"gflops": fma_peak()}
    if command == "describe":
        blas = {"blas": _blas()} if side == "numpy" else {}
        return {"variant": getattr(trainer, "variant", {}), **blas}
    raise ValueError(f"command must be one of check, run, peak, describe, got {command!r}")


def main(side, name, n_samples, checkout=None):
    """Answer the commands of the parent."""
    if checkout is not None:
        sys.path.insert(0, checkout)
    (case,) = cases.chosen([name], (*cases.CASES, *cases.PREDICTED))
    case = case.cut(int(n_samples))
    trainer = registry(case)[side](case)
    for line in sys.stdin:
        print(json.dumps(_answer(side, trainer, *line.strip().split(maxsplit=1))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
