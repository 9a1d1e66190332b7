"""The tables of network shapes that benches and tests share, and the data for them.

All networks have sigmoid layers in float32, and train with plain SGD and the quadratic cost.
"""

import argparse
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

LEARNING_RATE = 0.5


@dataclass(frozen=True)
class Case:
    """A network's sizes (inputs first), the batch size and how many samples an epoch has."""

    sizes: tuple[int, ...]
    batch_size: int
    n_samples: int

    @property
    def name(self) -> str:
        """The name of the case, such as "784-30-10 b10"."""
        return f"{'-'.join(map(str, self.sizes))} b{self.batch_size}"

    @property
    def flops(self) -> int:
        """Floating-point operations of the products of one sample's training step.

        Each weight costs a multiply and an add in the forward pass, in the gradient and in the delta of the layer
        below; the first layer has no layer below to send a delta to.
        """
        weights = [fan_in * fan_out for fan_in, fan_out in pairwise(self.sizes)]
        return 6 * sum(weights) - 2 * weights[0]

    def cut(self, n_samples: int) -> "Case":
        """The case with at most n_samples samples."""
        return replace(self, n_samples=min(self.n_samples, n_samples))


@dataclass(frozen=True)
class Rows(Case):
    """A network and how many rows a call of predict has: batch_size, of which n_samples are left after a `cut`."""

    @property
    def name(self) -> str:
        """The name of the case, such as "64-32-10, 1 row"."""
        return f"{'-'.join(map(str, self.sizes))}, {self.batch_size:,} row{'s' * (self.batch_size > 1)}"

    @property
    def flops(self) -> int:
        """Floating-point operations of the products of one row."""
        return 2 * sum(fan_in * fan_out for fan_in, fan_out in pairwise(self.sizes))


CASES = (
    Case((784, 30, 10), 10, 50_000),
    Case((784, 100, 10), 32, 50_000),
    *(Case((64, 32, 10), batch_size, 20_000) for batch_size in (1, 8, 32, 200)),
    *(Case((4, 24, 24, 3), batch_size, 50_000) for batch_size in (1, 16, 256)),
    Case((784, 128, 64, 10), 128, 50_000),
    Case((512, 512, 512, 10), 256, 20_480),
    Case((8, 64, 64, 4), 64, 50_000),
)
PREDICTED = (
    *(Rows(sizes, 1, 1) for sizes in ((64, 32, 10), (4, 24, 24, 3), (8, 64, 64, 4))),
    Rows((784, 100, 10), 50_000, 50_000),
)


def chosen(names, table=CASES):
    """The cases with these names, or the whole table where there are none."""
    return [case for case in table if not names or case.name in names]


def data(case, seed=0):
    """(X, labels): float32 (n, n_inputs), uniform in [0, 1), and int32 (n,) class indices."""
    rng = np.random.default_rng(seed)
    X = rng.random((case.n_samples, case.sizes[0]), dtype=np.float32)
    return X, rng.integers(case.sizes[-1], size=case.n_samples, dtype=np.int32)


def orders(case, epochs, seed=0):
    """The order of the samples in each epoch: int32 (epochs, n)."""
    rng = np.random.default_rng(seed)
    return rng.permuted(np.tile(np.arange(case.n_samples, dtype=np.int32), (epochs, 1)), axis=1)


def initial(case, seed=0):
    """[(weights, biases), ...] to start from: float32 (fan_out, fan_in) of variance 1/fan_in, and (fan_out,)."""
    rng = np.random.default_rng(seed)
    return [
        (
            rng.standard_normal((fan_out, fan_in), dtype=np.float32) / np.float32(np.sqrt(fan_in)),
            rng.standard_normal(fan_out, dtype=np.float32),
        )
        for fan_in, fan_out in pairwise(case.sizes)
    ]


# ---- options of the command line ----


def count(text):
    """A whole number of at least 1."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def case_option(*tables):
    """What argparse needs to know of an option --case."""
    names = [case.name for table in tables or (CASES,) for case in table]
    return {"nargs": "+", "action": "extend", "choices": names, "metavar": "NAME", "help": "; ".join(names)}
