"""memory: where parameters and buffers lie, for every target that programs can be written for."""

import itertools

import numpy as np
import pytest

from fastnn.kernels.barriers import Worker
from fastnn.kernels.matrix import LINE_BYTES
from fastnn.kernels.memory import STEP, Layout, Vector, Workspace, aligned_zeros, avoid_set_conflicts, field
from fastnn.kernels.target import AVX2, AVX512, HOST, NEON, SSE

from ..cases import DTYPES
from .kernel_calls import contents

rng = np.random.default_rng(4)
WRITTEN_FOR = pytest.mark.parametrize("target", [AVX512, AVX2, SSE, NEON], ids=lambda target: target.cpu)


def layout_of(sizes, dtype="float32", threads=1, target=HOST, frozen=()):
    return Layout(sizes, ["sigmoid"] * (len(sizes) - 1), "quadratic", dtype, frozen, threads, target)


def extent(matrix):
    """(first byte, last byte + 1) of a matrix whose rows are padded."""
    m = matrix if matrix.is_row_major else matrix.T
    return m.address, m.address + (m.rows - 1) * m.row_stride + m.row_bytes


@WRITTEN_FOR
def test_where_the_parameters_lie(target):
    layout = layout_of([784, 500, 10], target=target)
    vector = aligned_zeros(layout.n_bytes, "float32")
    assert vector.ctypes.data % LINE_BYTES == 0
    assert [layer.row_stride for layer in layout.layers] == [(512 + 16) * 4, 16 * 4]  # no multiple of 1024 bytes
    assert [shard.row_stride for layer in layout.layers for shard in layer.shards] == [528 * 4, 16 * 4]
    assert vector.size == 785 * 528 + 501 * 16
    for (w, b), (fan_in, fan_out) in zip(layout.views(vector), [(784, 500), (500, 10)], strict=True):
        assert w.shape == (fan_in, fan_out)
        assert b.shape == (fan_out,)
        assert b.ctypes.data == w.ctypes.data + fan_in * w.strides[0]  # b lies behind W, as one more row
    assert 256 <= layout.block_rows <= 1024
    assert layout_of([4, 24, 3], target=target).block_rows > layout_of([784, 500, 10], target=target).block_rows


def test_rows_a_power_of_two_apart_are_moved():
    assert [avoid_set_conflicts(n) for n in (64, 960, 1024, 1088, 4096)] == [64, 960, 1088, 1088, 4160]


@pytest.mark.parametrize("dtype", DTYPES)
def test_aligned_zeros(dtype):
    for n_bytes in (0, 1, 8, 64, 1000):
        array = aligned_zeros(n_bytes, dtype)
        assert array.dtype == dtype
        assert n_bytes <= array.nbytes < n_bytes + 8
        assert array.size == 0 or array.ctypes.data % LINE_BYTES == 0
        assert not array.any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threads", [2, 3, 4])
def test_a_layout_for_threads_gives_each_its_own_columns(threads, dtype):
    """Shards are whole lines and share none; a layer with fewer lines than threads is one shard."""
    one = layout_of([30, 200, 17, 100], dtype)
    many = one.for_threads(threads)
    assert (many.sizes, many.dtype, many.block_rows) == (one.sizes, one.dtype, one.block_rows)
    line = LINE_BYTES // one.itemsize
    for layer, whole in zip(many.layers, one.layers, strict=True):
        assert len(layer.shards) == (threads if -(-layer.fan_out // line) >= threads else 1)
        assert layer.is_shared == (len(layer.shards) > 1)
        edges = [(shard.begin, shard.end) for shard in layer.shards]
        assert (edges[0][0], edges[-1][1]) == (0, layer.fan_out)
        assert all(stop == first for (_, stop), (first, _) in itertools.pairwise(edges))
        assert all(first % line == 0 for first, _ in edges)
        assert layer.row_stride == whole.row_stride
        assert [layer.shard(Worker(i, threads)) for i in range(threads)] == list(
            layer.shards if layer.is_shared else layer.shards * threads
        )
    vector, out, back = aligned_zeros(one.n_bytes, dtype), aligned_zeros(many.n_bytes, dtype), None
    for w, b in one.views(vector):
        w[...], b[...] = rng.standard_normal(w.shape), rng.standard_normal(b.shape)
    one.convert(vector, many, out)
    for layer, (w, b) in zip(many.layers, one.views(vector), strict=True):
        for shard in layer.shards:
            columns = many._columns(out, layer.index, shard.begin, shard.end)
            np.testing.assert_array_equal(columns[:-1], w[:, shard.begin : shard.end])
            np.testing.assert_array_equal(columns[-1], b[shard.begin : shard.end])
    back = aligned_zeros(one.n_bytes, dtype)
    many.convert(out, one, back)
    np.testing.assert_array_equal(back, vector)


def test_workers_update_each_row_once():
    """Of a shared layer its own columns, of another one some rows, the last of which takes b along."""
    layout = layout_of([30, 200, 17], threads=3)
    vector = Vector(layout, 2**20)
    wide, narrow = layout.layers
    own = [vector.rows(wide, Worker(i, 3)) for i in range(3)]
    assert [(w.address, w.rows, w.cols) for w, _ in own] == [
        (2**20 + shard.w, 30, shard.end - shard.begin) for shard in wide.shards
    ]
    assert [b.address for _, b in own] == [2**20 + shard.b for shard in wide.shards]
    parts = [vector.rows(narrow, Worker(i, 3)) for i in range(3)]
    assert [b is None for _, b in parts] == [True, True, False]
    assert sum(w.rows for w, _ in parts) == 200
    flat = [vector.flat_rows(narrow, Worker(i, 3)) for i in range(3)]
    assert flat[0].address == narrow.shards[0].w + 2**20
    assert all(one.address + one.row_bytes == next_one.address for one, next_one in itertools.pairwise(flat))
    assert flat[2].address + flat[2].row_bytes == layout.n_bytes + 2**20
    few = Vector(layout_of([7, 5], threads=3), 2**20)  # no more workers than four rows each allow
    assert [few.rows(few.layout.layers[0], Worker(i, 3)) is None for i in range(3)] == [False, True, True]


@pytest.mark.parametrize("frozen", [(), (0,), (1,), (0, 1), (0, 1, 2)])
def test_the_lowest_layer_that_trains(frozen):
    layout = layout_of([3, 4, 5, 6], frozen=frozen)
    free = [i for i in range(3) if i not in frozen]
    assert [layer.index for layer in layout.trained] == free[::-1]
    assert layout.lowest == min(free, default=3)


@WRITTEN_FOR
@pytest.mark.parametrize("dtype", DTYPES)
def test_row_major_buffers_do_not_overlap(dtype, target):
    layout = layout_of([300, 8, 170, 3], dtype, threads=2, target=target)
    work = Workspace(layout, 64, threads=2)
    extents = set()
    for index in range(2):
        block = work.row_major(64, work.worker(index, 2))
        own = [block.x, block.y, block.sums, block.zeros, *block.a, *block.d]
        assert [(m.rows, m.cols) for m in own[:2]] == [(64, 300), (64, 3)]
        assert all(matrix.address % LINE_BYTES == 0 and matrix.is_row_major for matrix in own)
        assert [m.cols for m in block.a] == [m.cols for m in block.d] == [8, 170, 3]
        pack = block.pack_buffer  # for as many rows as any B has that is packed
        extents |= {extent(m) for m in own}
        extents.add((pack.address, pack.address + max(64, 300) * pack.row_stride))
        assert pack.row_stride == target.buffer_lines * LINE_BYTES
        assert block.zeros.cols >= max(layout.sizes)
        assert block.sums.cols >= max(layout.sizes[1:])
    for (_, end), (start, _) in itertools.pairwise(sorted(extents)):
        assert end <= start
    assert len(extents) == 2 * (len(own) + 1) - 3  # shared are zeros, and a and d of the one layer that is wide enough


@WRITTEN_FOR
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 16, 37])
def test_feature_major_buffers_are_made_for_the_exact_number_of_samples(rows, dtype, target):
    """Zeros reach as far as any row, and any layer's neurons."""
    layout = layout_of([4, 100, 3], dtype, target=target)
    work, worker = Workspace(layout, 64), Worker()
    samples = work.feature_major_samples(rows, worker)
    x, y = samples.x, samples.y
    block = work.feature_major(samples, slice(0, rows), worker)
    assert work.feature_major_samples(rows, worker) == samples
    assert work.feature_major(samples, slice(0, rows), worker) == block
    assert [(m.address, m.rows, m.cols) for m in (block.x, block.y)] == [(m.address, rows, m.cols) for m in (x, y)]
    assert not contents(y.T.with_padding()).any()
    assert not contents(block.zeros).any()
    matrices = [x, y, *block.a, *block.d]
    assert all(not m.is_row_major and m.rows == rows and m.address % LINE_BYTES == 0 for m in matrices)
    assert block.ones.cols == rows
    longest = max(m.col_stride for m in matrices)
    assert block.zeros.row_bytes >= max(longest, target.buffer_lines * LINE_BYTES)
    assert block.zeros.cols >= 100
    other = work.feature_major_samples(rows + 1, worker).x
    assert other.address != x.address


def test_a_field_of_a_record():
    step = aligned_zeros(STEP.itemsize, STEP)
    total = field(step, "total")
    assert total.address == step.ctypes.data + 64  # what operations write has a line of its own
    assert (total.rows, total.cols, total.dtype, total.name) == (1, 1, "float64", "total")
    assert field(step, "scalars", 7).cols == 7
