"""How a batch is computed: as a single sample, row-major or feature-major; in which shards, and on how many threads.

Everything here depends on the architecture, batch size, dtype and lanes alone, never on threads or on timings, because
the bits depend on it; but for the number of threads, which changes no bit.
"""

from __future__ import annotations

import functools
import itertools

import numpy as np
from numpy.typing import NDArray

from ..cpu.target import LINE_BYTES
from ..formulas.activations import ROW_WISE, formula
from ..vector.matrix import padded
from .layers.layer import Count
from .matmul import L1_BYTES, TRANSPOSE
from .memory import MAX_SHARDS, SHARD_SAMPLES, Layout

SINGLE, ROW_MAJOR, FEATURE_MAJOR = "single", "row-major", "feature-major"
IN_PLACE_ROW = 2**8  # bytes of a sample that is predicted where it lies, or copied with its neurons in the lanes
LANES_GAIN = 1.2  # how many times fewer operations lanes must take that hold networks: measured from 1.1 to 1.25 on
LINE_LOADS = 4  # operations that the loads and stores of a group's number in a step take the time of
NARROW_LOADS = 10  # the same for each number of a group's block too, where a line is several vectors (Zen 3, AVX2)
NARROW_BYTES = 4 * L1_BYTES  # of a group's parameters and block, above which they cost that
MAX_GROUP_BYTES = 2**22  # of the block of a group
THREAD_MULTIPLY_ADDS = 200_000  # in a thread's shard of a step, below which waiting costs more than threads give


def choose(layout: Layout, batch_size: int) -> str:
    """How the blocks of such batches are computed, the last and smaller ones too."""
    if layout.networks > 1:
        return ROW_MAJOR
    if batch_size == 1:
        return SINGLE
    rows = min(batch_size, layout.block_rows)
    if layout.whole_batch and len(sample_shards(rows, layout.itemsize)) > 1:
        return ROW_MAJOR
    if layout.orientation:
        return layout.orientation
    pays = feature_major_pays(layout, rows)
    return FEATURE_MAJOR if pays else ROW_MAJOR


def sample_shards(rows: int, itemsize: int) -> list[tuple[int, int]]:
    """The parts of a feature-major block whose gradients are summed for themselves: (first, stop), in whole lines."""
    per_line = LINE_BYTES // itemsize
    lines, parts = -(-rows // per_line), max(1, min(MAX_SHARDS, rows // SHARD_SAMPLES))
    edges = (min(lines * i // parts * per_line, rows) for i in range(parts + 1))
    return list(itertools.pairwise(edges))


def feature_major_pays(layout: Layout, rows: int) -> bool:
    """Whether a block of so many rows takes fewer vector operations feature-major than row-major."""
    feature_major, row_major = operations(layout, rows)
    return feature_major < row_major


def operations(layout: Layout, rows: int) -> tuple[int, int]:
    """Vector operations of a training step on a block of so many rows: feature-major, and row-major."""
    parts = max(1, min(MAX_SHARDS, rows // SHARD_SAMPLES))
    count = Count(layout.target, layout.itemsize, rows, -(-rows // parts))
    wide, narrow = 0, _transposes(layout, count)
    for layer in layout.layers:
        activation = formula(layer.activation)
        row_cost = activation.cost if activation.row_cost is None else activation.row_cost
        narrow += count.samples * activation.cost * layer.fan_out
        wide += rows * row_cost * count.vectors(layer.fan_out)
        feature_major, row_major = layer.kind.training_cost(layer, count)
        narrow, wide = narrow + feature_major, wide + row_major
    return parts * narrow, wide


def lanes_pay(layout: Layout, batch_size: int) -> bool:
    """Whether many networks train such batches faster with a network in each lane than one after another.

    It counts vector operations of a network. In a group each number is a line. Those of the parameters count where they
    do not stay in the L1 cache. Where a line is several vectors, a tile uses what it has loaded fewer times, so that
    those of the block count too.
    """
    rows = min(batch_size, layout.block_rows)
    costs = [cost for layer in layout.layers if (cost := layer.kind.group_cost(layer)) is not None]
    if batch_size > layout.block_rows or len(costs) < len(layout.layers) or layout.orientation:
        return False
    block_bytes = rows * layout.group.block_bytes // layout.block_rows
    if block_bytes > MAX_GROUP_BYTES:
        return False
    of_group = 0
    for layer, cost in zip(layout.layers, costs, strict=True):
        of_group += rows * (formula(layer.activation).cost * layer.fan_out + cost)
    if layout.group.n_bytes > L1_BYTES:
        of_group += layout.n_parameters * LINE_LOADS
    if layout.target.vectors_per_line > 1 and layout.group.n_bytes + block_bytes > NARROW_BYTES:
        of_group += (layout.group.n_bytes + block_bytes) // LINE_BYTES * NARROW_LOADS
    vectors = layout.group.networks * layout.itemsize / layout.target.vector_bytes
    return LANES_GAIN * of_group * vectors / layout.group.networks < min(operations(layout, rows))


def _transposes(layout: Layout, count: Count) -> int:
    """Vector operations that transpose inputs and outputs."""
    return (-(-layout.sizes[0] // count.lanes) - (-layout.sizes[-1] // count.lanes)) * count.samples * TRANSPOSE


@functools.lru_cache
def heights(most: int, every: bool = False) -> tuple[int, ...]:
    """The numbers of rows, at most so many, that programs are written for: all to 32, then 4 for each doubling.

    `every` number has a program of its own where a batch must not be split.
    """
    if every:
        return tuple(range(1, most + 1))
    steps = itertools.takewhile(lambda step: 4 * step < most, (8 << i for i in range(64)))
    found = {*range(1, 33), *(k * step for step in steps for k in range(4, 9)), most}
    return tuple(sorted(height for height in found if height <= most))


@functools.lru_cache
def pick(most: int, every: bool = False) -> NDArray[np.int64]:
    """By the number of rows that are left: which of the `heights` is due. The last element is for all larger ones.

    So any number of rows is a sum of a few heights. A single row is only due where there is no other: its sums have
    another order.
    """
    sizes = heights(most, every)
    table = np.zeros(most + 3, np.int64)
    for left in range(1, len(table)):
        table[left] = max(i for i, height in enumerate(sizes) if height == left or height <= max(1, left - 2))
    table.flags.writeable = False  # all networks share it
    return table


def parts_of(n: int, most: int) -> list[int]:
    """The heights that n rows are the sum of, in their order."""
    sizes, table, found = heights(most), pick(most), []
    while n:
        found.append(sizes[table[min(n, len(table) - 1)]])
        n -= found[-1]
    return found


def numbers(n: int, most: int, every: bool = False) -> frozenset[int]:
    """Which of the `heights` n rows are the sum of."""
    if every:
        return frozenset([n - 1])
    return _numbers(n if n < 3 * most else 2 * most + n % most, most)


@functools.lru_cache(2**12)
def _numbers(n: int, most: int) -> frozenset[int]:
    return frozenset(map(heights(most).index, parts_of(n, most)))


def most_predicted(layout: Layout) -> int:
    """The most rows of a program that predicts: a shard where samples are feature-major, else a block."""
    return SHARD_SAMPLES if predicts_feature_major(layout, SHARD_SAMPLES) else layout.block_rows


def predicts_feature_major(layout: Layout, rows: int) -> bool:
    """Whether a prediction of so many rows takes fewer vector operations feature-major; they must fill two lines.

    Wide samples are faster where they lie.
    """
    if layout.orientation:
        return rows > 1 and layout.orientation == FEATURE_MAJOR
    itemsize, count = layout.itemsize, Count(layout.target, layout.itemsize, rows, rows)
    if rows * itemsize < 2 * LINE_BYTES or layout.sizes[0] * itemsize >= IN_PLACE_ROW:
        return False
    if not all(kind.ordered for kind in layout.kinds):  # a row has the same bits whatever the number of rows is
        return False
    wide, narrow = 0, _transposes(layout, count)
    for layer in layout.layers:
        # A function of whole rows is taken of rows in both.
        value_cost = 0 if layer.activation in ROW_WISE else formula(layer.activation).cost // 2
        narrow += count.samples * value_cost * layer.fan_out
        wide += rows * value_cost * count.vectors(layer.fan_out)
        feature_major, row_major = layer.kind.prediction_cost(layer, count)
        narrow, wide = narrow + feature_major, wide + row_major
    return narrow < wide


def max_threads(layout: Layout, batch_size: int, threads: int) -> int:
    """How many of at most so many threads make a step of training faster."""
    rows, strategy = min(batch_size, layout.block_rows), choose(layout, batch_size)
    if strategy == SINGLE:
        return 1
    useful = max(1, min(threads, 3 * layout.multiply_adds * rows // THREAD_MULTIPLY_ADDS))
    if strategy == FEATURE_MAJOR:
        return min(useful, len(sample_shards(rows, layout.itemsize)))
    first = next(layer for layer in layout.layers if layer.kind.multiplies)
    return min(useful, padded(first.fan_out * layout.itemsize) // LINE_BYTES)


def sharded(layout: Layout, batch_size: int, threads: int) -> Layout:
    """The layout that so many threads train such batches in."""
    shared = threads > 1 and choose(layout, batch_size) == ROW_MAJOR
    return layout.for_threads(threads) if shared else layout


def shard_of_rows(first: int, stop: int, t: int, threads: int) -> tuple[int, int]:
    """(first, stop) of thread t's shard of the rows from `first` to `stop`: sixteens, the last shard with the rest."""
    sixteens = (stop - first) // 16
    begin, end = sixteens * t // threads * 16, sixteens * (t + 1) // threads * 16
    return first + begin, stop if t == threads - 1 else first + end
