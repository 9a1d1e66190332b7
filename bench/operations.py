"""Where a training step spends its time, operation by operation: `python -m bench.operations`.

Batches of a random order run one after another on one core, as in `fit`, and the CPU's clock (x86) is read between
operations. Of each operation the median over the batches, in the round that took least: a quiet moment's. Operations of
one kind are a line, and tiles of one k, with their share of the multiply-add peak, padding counted.
"""

import argparse
import platform
import sys
import time

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

import fastnn
from fastnn.kernels import entry, library, network, optimizers, programs, simd

from .cases import CASES, LEARNING_RATE, data
from .roofline import fma_peak

ROUNDS, ROUND_SECONDS = 12, 0.1


@intrinsic
def _clock(typing_context):
    """The CPU's counter of time."""

    def codegen(context, b, signature, arguments):
        kind = ir.FunctionType(ir.IntType(64), [])
        return b.call(cgutils.get_or_insert_function(b.module, kind, "llvm.readcyclecounter"), [])

    return types.int64(), codegen


@njit
def _now():
    """The same, for Python."""
    return _clock()


@njit
def _timed(code, order, batch_size, ticks):
    """Run a step's operations on one batch of the order after another; ticks, int64 (batches, operations)."""
    first = 0
    for batch in range(ticks.shape[0]):
        if first + 2 * batch_size > order.size:
            first = 0
        for gather in range(2):
            code[gather, library.ORDER] = simd.address(order) + 4 * first
            code[gather, library.LEFT] = order.size - first
        first += batch_size
        before = _clock()
        for i in range(code.shape[0]):
            library.run_program(simd.address(code) + i * code.shape[1] * 8, 1)
            after = _clock()
            ticks[batch, i] = after - before
            before = after


def _tick():
    """Nanoseconds of a tick of the clock."""
    start, ticks = time.perf_counter_ns(), _now()
    time.sleep(0.1)
    return (time.perf_counter_ns() - start) / (_now() - ticks)


def measure(case, rounds=ROUNDS, seconds=ROUND_SECONDS):
    """[(name of the operation, k of a product or 0, nanoseconds of a batch, multiply-adds), ..] of a step."""
    X, y = data(case)
    model = fastnn.Model(case.sizes, rng=0)
    layout, names = model._layout, {address: name for name, address in entry.library("float32").items()}
    work = programs.Workspace(layout, case.batch_size)
    work.cells[optimizers.SCALE] = -LEARNING_RATE / case.batch_size
    places = entry.library("float32"), layout, model.parameters.ctypes.data, work
    sources = network.Source.of(X), network.Source.of(y)
    program = programs.train(*places, *sources, case.batch_size, 1.0, "sgd", 0, [])
    first, count = next(part[:2] for part in program.parts[0] if part[2] == case.batch_size)
    code = program.code[first : first + count].copy()
    code[:2, library.SOURCE] = [source.address for source in sources]
    order = np.random.default_rng(0).permutation(case.n_samples).astype(np.int32)
    ticks = np.zeros((max(3, int(seconds * 5e10 / (case.flops * case.batch_size))), count), np.int64)
    medians = []
    for _ in range(rounds):
        _timed(code, order, case.batch_size, ticks)
        medians.append(np.median(ticks, 0))
    nanoseconds = min(medians, key=np.sum) * _tick()
    result = []
    for operation, spent in zip(code, nanoseconds, strict=True):
        name, k, work_done = names[operation[0]], 0, 0.0
        if name.startswith("tiles_"):
            rows, units = name.removeprefix("tiles_").split("x")
            tiles, k = operation[1:3].tolist()
            work_done = tiles * k * int(rows) * float(units) * simd.UNIT_BYTES / layout.itemsize
        result.append((name, k, float(spent), work_done))
    return result


def main(arguments=None):
    """Print a table for each network."""
    parser = argparse.ArgumentParser(prog="python -m bench.operations", description=__doc__.split("\n")[0])
    names = [case.name for case in CASES]
    parser.add_argument("--case", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    chosen = parser.parse_args(arguments).case
    if platform.machine().lower() not in ("x86_64", "amd64"):
        sys.exit("this needs the clock of an x86 CPU")
    peak = 0.0
    for case in (case for case in CASES if case.name in chosen):
        operations, peak = measure(case), max(peak, fma_peak())
        kinds = {}
        for name, k, spent, done in operations:
            kind = kinds.setdefault(f"tiles, k = {k}" if k else name, [0.0, 0.0])
            kind[0] += spent
            kind[1] += done
        total = sum(spent for _, _, spent, _ in operations)
        of_peak = case.flops * case.batch_size / total / peak
        print(
            f"{case.name}: {total / case.batch_size:,.1f} ns a sample, {of_peak:.0%} of the peak of {peak:.0f} GFLOP/s"
        )
        for name, (spent, done) in kinds.items():
            share = f"{2 * done / spent / peak:6.0%} of the peak" if done else ""
            print(f"    {name:18} {spent / case.batch_size:9.2f} ns {spent / total:6.1%} {share}".rstrip(), flush=True)


if __name__ == "__main__":
    main()
