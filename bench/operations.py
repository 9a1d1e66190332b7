"""Where a training step spends its time, operation by operation: `python -m bench.operations`.

Batches of a random order run one after another on one core, as in `fit`. The CPU's clock (x86) is read between
operations. A figure is an operation's median over the batches, in the round that took least time in all. Operations of
one kind share a line, and so do products of one k. A product's fraction of the multiply-add peak counts no padding.
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
from fastnn.kernels import interpreter
from fastnn.kernels.function import OPERATION_BYTES
from fastnn.kernels.library import library
from fastnn.kernels.program import Code
from fastnn.samples import Samples
from fastnn.training.options import GIVEN, Options
from fastnn.training.plan import plan_for

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
    """The CPU's counter of time, as Python calls it."""
    return _clock()


@njit
def _timed(operations, patches, bindings, batch_size, n_samples, ticks):
    """Run a block's operations on one batch of the order after another; ticks, int64 (batches, operations)."""
    first = 0
    for batch in range(ticks.shape[0]):
        if first + 2 * batch_size > n_samples:
            first = 0
        for patch in patches:
            symbol = bindings[patch.symbol]
            operations[patch.word] = symbol.address + first * symbol.row_stride + patch.offset
        first += batch_size
        before = _clock()
        for i in range(ticks.shape[1]):
            interpreter.run_program(interpreter.address(operations) + i * OPERATION_BYTES, 1)
            after = _clock()
            ticks[batch, i] = after - before
            before = after


def _tick():
    """Nanoseconds of a tick of the clock."""
    start, ticks = time.perf_counter_ns(), _now()
    time.sleep(0.1)
    return (time.perf_counter_ns() - start) / (_now() - ticks)


class Step:
    """A training step on one thread, as `fit` runs it; `program` is that of a batch, which is one block."""

    def __init__(self, case):
        X, y = data(case)
        optimizer, order = fastnn.SGD(LEARNING_RATE), np.random.default_rng(0).permutation(case.n_samples)
        self.case, self.model, self.arrays = case, fastnn.Model(case.sizes, rng=0), (X, y, order.astype(np.int32)[None])
        samples = Samples(X, y)
        options = Options(1, case.batch_size, optimizer, GIVEN)
        self.plan = plan_for(self.model._network, options, samples)
        self.plan.bind(options, samples, self.arrays[2])
        programs = self.plan.by_threads[1]
        programs.work.step["scale"] = -LEARNING_RATE / case.batch_size
        (self.program,) = (each for each in programs.of_workers[0] if each.rows == case.batch_size)

    def measure(self, rounds=ROUNDS, seconds=ROUND_SECONDS):
        """[(name of the operation, k of a product or 0, nanoseconds of a batch, multiply-adds), ..]."""
        code, case = Code([self.program], library("float32")), self.case
        batches, medians = max(3, int(seconds * 5e10 / (case.flops * case.batch_size))), []
        ticks = np.zeros((batches, len(self.program)), np.int64)
        for _ in range(rounds):
            _timed(code.operations, code.patches, self.plan.bindings, case.batch_size, case.n_samples, ticks)
            medians.append(np.median(ticks, 0))
        nanoseconds, result = min(medians, key=np.sum) * _tick(), []
        for (name, arguments, _), spent in zip(self.program.operations, nanoseconds.tolist(), strict=True):
            k = arguments["A"].cols if "C" in arguments and "A" in arguments else 0  # the inner dimension of C += A @ B
            result.append((name, k, spent, arguments["C"].rows * arguments["C"].cols * k if k else 0))
        return result


def measure(case, rounds=ROUNDS, seconds=ROUND_SECONDS):
    """`Step.measure` of a case."""
    return Step(case).measure(rounds, seconds)


def main(arguments=None):
    """Print a table for each network."""
    parser = argparse.ArgumentParser(prog="python -m bench.operations", description=__doc__.split("\n")[0])
    names = [case.name for case in CASES]
    parser.add_argument("--case", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--listing", action="store_true", help="print each operation with its nanoseconds too")
    options = parser.parse_args(arguments)
    if platform.machine().lower() not in ("x86_64", "amd64"):
        sys.exit("this needs the clock of an x86 CPU")
    peak = 0.0
    for case in (case for case in CASES if case.name in options.case):
        step = Step(case)
        operations, peak = step.measure(), max(peak, fma_peak())
        kinds = {}
        for name, k, spent, done in operations:
            kind = kinds.setdefault(f"products, k = {k}" if k else name, [0.0, 0.0])
            kind[0] += spent
            kind[1] += done
        total = sum(spent for _, _, spent, _ in operations)
        of_peak = case.flops * case.batch_size / total / peak
        print(
            f"{case.name}: {total / case.batch_size:,.1f} ns a sample, {of_peak:.0%} of the peak of {peak:.0f} GFLOP/s"
        )
        for name, (spent, done) in kinds.items():
            share = f"{2 * done / spent / peak:6.0%} of the peak" if done else ""
            print(f"    {name:22} {spent / case.batch_size:9.2f} ns {spent / total:6.1%} {share}".rstrip(), flush=True)
        if options.listing:
            for line, (_, _, spent, _) in zip(str(step.program).splitlines(), operations, strict=True):
                print(f"    {spent:9.1f} ns  {line}")


if __name__ == "__main__":
    main()
