"""Where the time of a training step goes, operation by operation; with --orientations, which orientation is faster.

Batches of a random order run one after another on one core, as in `fit`. The CPU's clock (x86) is read between
operations. A figure is an operation's median over the batches, in the round that took least time in all. Operations of
one kind share a line, and so do products of one k. A product's fraction of the multiply-add peak counts no padding.

--orientations runs a step in both orientations, in turn, and with two choices of the row-major one left out: networks
of relu with a softmax, cross-entropy, Adam, on one thread. Columns are microseconds, then the time of each variant over
the plain step of its orientation.
"""

import contextlib
import platform
import sys
import time
from unittest import mock

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

import fastnn
from fastnn.data.samples import Samples
from fastnn.kernels.loops import instructions
from fastnn.kernels.programs import matmul, memory, strategy
from fastnn.kernels.programs.program import Code
from fastnn.kernels.vector.function import OPERATION_BYTES
from fastnn.kernels.vector.library import library
from fastnn.network import network
from fastnn.training.options import GIVEN, Options
from fastnn.training.plan import plan_for

from . import cases
from .markdown import Table, printed
from .roofline import fma_peak
from .timing import in_turn, medians, ratios

ROUNDS = 25
OPTIONS = {
    "--case": cases.case_option(),
    "--listing": {"action": "store_true", "help": "print each operation with its nanoseconds too"},
    "--orientations": {"action": "store_true", "help": "a step in both orientations"},
}
FIGURES = printed("steps", "batch-of-one", "orientations")
ALONE = "64-32-10 b1"  # whose operations are a block
SECONDS, QUICK_SECONDS = 0.1, 0.001  # what a round of a case takes


# ---- the clock ----


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
            instructions.run_program(instructions.address(operations) + i * OPERATION_BYTES, 1)
            after = _clock()
            ticks[batch, i] = after - before
            before = after


def _tick():
    """Nanoseconds of a tick of the clock."""
    _now()  # compiles
    start, ticks = time.perf_counter_ns(), _now()
    time.sleep(0.1)
    return (time.perf_counter_ns() - start) / (_now() - ticks)


# ---- operation by operation ----


class Step:
    """A training step on one thread, as `fit` runs it; `program` is that of a batch, which is one block."""

    def __init__(self, case):
        X, y = cases.data(case)
        optimizer, order = fastnn.SGD(cases.LEARNING_RATE), np.random.default_rng(0).permutation(case.n_samples)
        self.case, self.model, self.arrays = case, fastnn.Model(case.sizes, rng=0), (X, y, order.astype(np.int32)[None])
        samples = Samples(X, y)
        options = Options(1, case.batch_size, optimizer, GIVEN)
        self.plan = plan_for(self.model._network, options, samples)
        self.plan.bind(options, samples, self.arrays[2])
        programs = self.plan.by_threads[1]
        programs.work.step["scale"] = -cases.LEARNING_RATE / case.batch_size
        (self.program,) = (each for each in programs.of_workers[0] if each.rows == case.batch_size)

    def measure(self, rounds, seconds):
        """[(name of the operation, k of a product or 0, nanoseconds of a batch, multiply-adds), ..]."""
        code, case = Code([self.program], library("float32")), self.case
        batches, medians = max(3, int(seconds * 5e10 / (case.flops * case.batch_size))), []
        ticks = np.zeros((batches, len(self.program)), np.int64)
        for _ in range(rounds):
            _timed(code.operations, code.patches, self.plan.bindings, case.batch_size, case.n_samples, ticks)
            medians.append(np.median(ticks, 0))
        nanoseconds, result = min(medians, key=np.sum) * _tick(), []
        for (name, arguments, _), spent in zip(self.program.operations, nanoseconds.tolist(), strict=True):
            product = "C" in arguments and "A" in arguments  # C += A @ B; a packed A has another shape
            k = arguments.get("k", arguments["A"].cols) if product else 0
            result.append((name, k, spent, arguments["C"].rows * arguments["C"].cols * k if k else 0))
        return result


def print_operations(case, rounds, seconds, peak, listing):
    """Print what each kind of operation takes in a step of a network; (nanoseconds a sample, fraction of the peak)."""
    step = Step(case)
    operations, kinds = step.measure(rounds, seconds), {}
    for name, k, spent, done in operations:
        kind = kinds.setdefault(f"products, k = {k}" if k else name, [0.0, 0.0])
        kind[0] += spent
        kind[1] += done
    total = sum(spent for _, _, spent, _ in operations)
    of_peak = case.flops * case.batch_size / total / peak
    title = f"{case.name}, peak {peak:.0f} GFLOP/s"
    columns = "operation", "ns a sample", "of the step", "of the peak"
    table = Table("batch-of-one" if case.name == ALONE else case.name, *columns, title=title)
    for name, (spent, done) in kinds.items():
        share = f"{2 * done / spent / peak:.0%}" if done else ""
        table.add(name, f"{spent / case.batch_size:.2f}", f"{spent / total:.1%}", share)
    if listing:
        for line, (_, _, spent, _) in zip(str(step.program).splitlines(), operations, strict=True):
            print(f"    {spent:9.1f} ns  {line}")
    return total / case.batch_size, of_peak


# ---- in both orientations ----


ORIENTED = (
    ([4, 100, 3], 150, "float64"),
    ([13, 100, 3], 178, "float32"),
    ([13, 100, 3], 178, "float64"),
    ([20, 50, 5], 100, "float32"),
    ([8, 64, 64, 4], 64, "float32"),
    ([64, 32, 10], 32, "float32"),
    ([64, 32, 10], 200, "float32"),
    ([64, 100, 10], 32, "float64"),
    ([64, 100, 10], 200, "float64"),
    ([784, 100, 10], 200, "float32"),
)
FEATURE_MAJOR = network, "ORIENTATION", strategy.FEATURE_MAJOR
ACTIVATIONS_APART = matmul, "L1_BYTES", 2**62
VARIANTS = {
    "row-major": (),
    "feature-major": (FEATURE_MAJOR,),
    "softmax by rows": ((memory, "COLUMN_LOSS_VECTORS", 0),),
    "activations apart": (ACTIVATIONS_APART,),
    "feature-major, activations apart": (FEATURE_MAJOR, ACTIVATIONS_APART),
}
OPTIMIZER = fastnn.Adam(1e-6)  # such small steps leave the parameters about where they are
BATCHES = 20  # in a turn


class OrientedStep:
    """A batch of training, in one of the variants."""

    def __init__(self, sizes, batch_size, dtype, changes):
        n, rng = 4 * batch_size, np.random.default_rng(0)
        X, y = rng.standard_normal((n, sizes[0])).astype(dtype), rng.integers(0, sizes[-1], n).astype(np.int32)
        layers = [sizes[0], *(fastnn.Dense(units, "relu") for units in sizes[1:-1]), fastnn.Dense(sizes[-1], "softmax")]
        with contextlib.ExitStack() as stack:
            row_major = network, "ORIENTATION", strategy.ROW_MAJOR
            for change in ((network, "SHARED_BYTES", 0), row_major, *changes):
                stack.enter_context(mock.patch.object(*change))
            network._shared_programs.cache_clear()  # a Layout holds what was patched while it was made
            self.model = fastnn.Model(layers, loss="cross_entropy", dtype=dtype, rng=0)
            samples = Samples(X, y)
            options = Options(1, batch_size, OPTIMIZER, GIVEN)
            self.plan = plan_for(self.model._network, options, samples)
        network._shared_programs.cache_clear()
        self.arrays = X, y, np.arange(n, dtype=np.int32)[None]
        self.plan.load(self.model._network, OPTIMIZER)
        self.plan.bind(options, samples, self.arrays[2])
        programs = self.plan.by_threads[1]
        programs.work.step["scale"] = 1 / batch_size
        programs.work.step["scalars"][0, :4] = 1e-6, 1e-8, 0.1, 0.001
        (program,) = (each for each in programs.of_workers[0] if each.rows == batch_size)
        self.code, self.batch_size, self.n = Code([program], library(dtype)), batch_size, n
        self.ticks = np.zeros((BATCHES, len(program)), np.int64)

    def microseconds(self, tick):
        """The median time of a batch, from the same parameters each time."""
        live = self.plan.buffers
        live.parameters[:], live.vectors[:] = self.model.parameters, 0
        place = self.code.operations, self.code.patches, self.plan.bindings, self.batch_size, self.n
        _timed(*place, self.ticks)
        return np.median(self.ticks, 0).sum() * tick / 1e3


def compare(sizes, batch_size, dtype, rounds):
    """{variant: its microseconds in each round}, and feature-major to row-major as `strategy` counts them."""
    steps = {name: OrientedStep(sizes, batch_size, dtype, changes) for name, changes in VARIANTS.items()}
    tick = _tick()
    times = in_turn({name: lambda step=step: step.microseconds(tick) for name, step in steps.items()}, rounds)
    counted = strategy.operations(steps["row-major"].plan.layout, batch_size)
    return times, counted[0] / counted[1]


def print_orientations(networks, rounds):
    """Print microseconds, and the time of each variant over the plain step of its orientation."""
    columns = "row-major", "feature-major", "ratio", "counted", "by rows", "apart, row-major", "apart, feature-major"
    table = Table("orientations", "network, batch, dtype", *columns, title="Microseconds a batch, and ratios")
    compare(*networks[0], rounds=4 * rounds)  # until the CPU has raised its clock
    for sizes, batch_size, dtype in networks:
        times, counted = compare(sizes, batch_size, dtype, rounds)
        middle, to_row, to_feature = medians(times), ratios(times), ratios(times, "feature-major")
        name = f"{'-'.join(map(str, sizes))} b{batch_size} {dtype}"
        times = [f"{middle[side]:.1f}" for side in ("row-major", "feature-major")]
        others = [to_row["feature-major"], counted, to_row["softmax by rows"], to_row["activations apart"]]
        others.append(to_feature["feature-major, activations apart"])
        table.add(name, *times, *(f"{each:.2f}" for each in others))


def run(options):
    """Print the tables of the operations, or that of the orientations."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        sys.exit("this needs the clock of an x86 CPU")
    if options.orientations:
        print_orientations(ORIENTED[: 1 if options.quick else None], options.rounds)
        return
    peak, seconds, found = 0.0, QUICK_SECONDS if options.quick else SECONDS, {}
    for case in cases.chosen(options.case)[: 2 if options.quick else None]:
        peak = max(peak, fma_peak())
        found[case.name] = print_operations(case, options.rounds, seconds, peak, options.listing)
    table = Table("steps", "network, batch", "ns a sample", "of the peak", title="All steps")
    for name, (spent, of_peak) in found.items():
        table.add(name, f"{spent:,.1f}", f"{of_peak:.2f}")
