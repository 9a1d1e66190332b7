"""`python -m bench.orientations`: a training step in both orientations, and what two choices of the row-major one save.

Networks of relu with a softmax, cross-entropy, Adam, on one thread. A round runs all variants of a network in turn; a
figure is the median over the rounds, a ratio the median of the rounds' ratios. The clock is that of x86 CPUs.
"""

import contextlib
from unittest import mock

import numpy as np

import fastnn
from fastnn import network
from fastnn.kernels import matmul, memory, strategy
from fastnn.kernels.library import library
from fastnn.kernels.program import Code
from fastnn.samples import Samples
from fastnn.training.options import GIVEN, Options
from fastnn.training.plan import plan_for

from .operations import _tick, _timed

CASES = (
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
FEATURE_MAJOR = strategy, "feature_major_pays", lambda *_: True
ACTIVATIONS_APART = matmul, "L1_BYTES", 2**62
VARIANTS = {
    "row-major": (),
    "feature-major": (FEATURE_MAJOR,),
    "softmax by rows": ((memory, "COLUMN_LOSS_VECTORS", 0),),
    "activations apart": (ACTIVATIONS_APART,),
    "feature-major, activations apart": (FEATURE_MAJOR, ACTIVATIONS_APART),
}
OPTIMIZER = fastnn.Adam(1e-6)  # such small steps leave the parameters about where they are
BATCHES, ROUNDS = 20, 25


class Step:
    """A batch of training, in one of the variants."""

    def __init__(self, sizes, batch_size, dtype, changes):
        n, rng = 4 * batch_size, np.random.default_rng(0)
        X, y = rng.standard_normal((n, sizes[0])).astype(dtype), rng.integers(0, sizes[-1], n).astype(np.int32)
        layers = [sizes[0], *(fastnn.Dense(units, "relu") for units in sizes[1:-1]), fastnn.Dense(sizes[-1], "softmax")]
        with contextlib.ExitStack() as stack:
            row_major = (strategy, "feature_major_pays", lambda *_: False)
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


def measure(sizes, batch_size, dtype, rounds=ROUNDS):
    """{variant: its microseconds in each round}, and feature-major to row-major as `strategy` counts them."""
    steps = {name: Step(sizes, batch_size, dtype, changes) for name, changes in VARIANTS.items()}
    tick = _tick()
    times = np.array([[step.microseconds(tick) for step in steps.values()] for _ in range(rounds)])
    counted = strategy.operations(steps["row-major"].plan.layout, batch_size)
    return dict(zip(steps, times.T, strict=True)), counted[0] / counted[1]


def main():
    """Print the table: microseconds, and the time of each variant over the plain step of its orientation."""
    print(f"{'':29} {'microseconds':>19} {'feature-major':>15} {'softmax':>8} {'activations apart':>18}")
    names = "network, batch, dtype", "row-major", "feature", "ratio", "counted", "by rows", "row-major", "feature"
    print("{:29} {:>9} {:>9} {:>7} {:>7} {:>8} {:>9} {:>8}".format(*names))
    measure(*CASES[0], rounds=4 * ROUNDS)  # until the CPU has raised its clock
    for sizes, batch_size, dtype in CASES:
        found, counted = measure(sizes, batch_size, dtype)
        row, feature, by_rows, row_apart, feature_apart = found.values()
        ratios = [np.median(a / b) for a, b in ((by_rows, row), (row_apart, row), (feature_apart, feature))]
        name, ratio = f"{'-'.join(map(str, sizes))} b{batch_size} {dtype}", np.median(feature / row)
        print(f"{name:29} {np.median(row):9.1f} {np.median(feature):9.1f} {ratio:7.2f} {counted:7.2f}", end="")
        print(" {:8.2f} {:9.2f} {:8.2f}".format(*ratios), flush=True)


if __name__ == "__main__":
    main()
