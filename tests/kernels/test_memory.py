"""memory: where parameters and buffers lie, for every target that programs can be written for."""

import dataclasses
import itertools

import numpy as np
import pytest

from fastnn.kernels.cpu.target import AVX2, AVX512, HOST, NEON, SSE
from fastnn.kernels.formulas.update_rules import OPTIMIZERS
from fastnn.kernels.programs.layers.batch_norm import BatchNorm
from fastnn.kernels.programs.layers.dense import DENSE
from fastnn.kernels.programs.layers.embedding import Embedding
from fastnn.kernels.programs.layers.layer_norm import LayerNorm
from fastnn.kernels.programs.layers.prelu import PReLU
from fastnn.kernels.programs.layers.residual import Residual
from fastnn.kernels.programs.layers.scale import Scale
from fastnn.kernels.programs.matmul import packed_bytes
from fastnn.kernels.programs.memory import STEP, Layout, Vector, Workspace, aligned_zeros, avoid_set_conflicts, field
from fastnn.kernels.vector.barriers import Worker
from fastnn.kernels.vector.matrix import LINE_BYTES
from fastnn.training.options import RuleValues

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
    out.fill(np.nan)  # what was there does not count, padding included
    one.convert(vector, many, out)
    assert np.isfinite(out).all()
    for layer, (w, b) in zip(many.layers, one.views(vector), strict=True):
        for shard in layer.shards:
            columns = many._columns(out, layer.index, shard.begin, shard.end)
            np.testing.assert_array_equal(columns[:-1], w[:, shard.begin : shard.end])
            np.testing.assert_array_equal(columns[-1], b[shard.begin : shard.end])
    back = aligned_zeros(one.n_bytes, dtype)
    back.fill(np.nan)
    many.convert(out, one, back)
    np.testing.assert_array_equal(back, vector)


def test_workers_update_each_row_once():
    """Of a shared layer its columns, of another one some rows, the last of which takes the bias along."""
    layout, workers = layout_of([30, 200, 17], threads=3), [Worker(i, 3) for i in range(3)]
    vector = Vector(layout, 2**20)
    wide, narrow = layout.layers
    assert [wide.updated(worker) for worker in workers] == [(0, 31)] * 3
    for worker, shard in zip(workers, wide.shards, strict=True):
        w, b = (vector.tensor(wide, name, wide.shard(worker)) for name in ("weight", "bias"))
        assert (w.address, w.rows, w.cols) == (2**20 + shard.place, 30, shard.end - shard.begin)
        assert (b.address, b.rows, b.cols) == (w.address + 30 * w.row_stride, 1, w.cols)
        flat = vector.flat_rows(wide, worker)
        assert (flat.address, flat.row_bytes) == (w.address, 31 * w.row_stride)
    parts = [narrow.updated(worker) for worker in workers]
    assert (parts[0][0], parts[-1][1]) == (0, 201)
    assert all(stop == first for (_, stop), (first, _) in itertools.pairwise(parts))
    weights = [vector.weights(narrow, worker) for worker in workers]  # which penalties apply to
    assert sum(part.rows for part in weights) == 200
    flat = [vector.flat_rows(narrow, worker) for worker in workers]
    assert flat[0].address == narrow.shards[0].place + 2**20
    assert all(one.address + one.row_bytes == next_one.address for one, next_one in itertools.pairwise(flat))
    assert flat[2].address + flat[2].row_bytes == layout.n_bytes + 2**20
    few = layout_of([7, 5], threads=3).layers[0]  # no more workers than four rows each allow
    assert [few.updated(worker) is None for worker in workers] == [False, True, True]


def test_threads_share_no_tables_and_nothing_that_passes_deltas_to_them():
    """Neuron by neuron. What mixes neurons is shared, and so is a layer without products on top of it."""
    kinds = [Embedding((0,), (5,), (70,)), Scale(), PReLU(0.25), Residual((0,)), DENSE, PReLU(0.25), LayerNorm(1e-5)]
    sizes = [1, *[70] * len(kinds), 3]
    layout = Layout(sizes, ["identity"] * 8, "quadratic", "float32", threads=2, kinds=[*kinds, DENSE])
    assert [layer.is_shared for layer in layout.layers] == [False] * 4 + [True] * 3 + [False]
    kinds[0] = Scale()
    layout = Layout([70, *sizes[1:]], ["identity"] * 8, "quadratic", "float32", threads=2, kinds=[*kinds, DENSE])
    assert [layer.is_shared for layer in layout.layers] == [True] * 7 + [False]


@pytest.mark.parametrize("threads", [1, 2])
def test_the_tensors_of_other_kinds(threads):
    """Those that train lie first and are what workers update; a sum has none; penalties are of dense layers alone."""
    kinds = [BatchNorm(1e-5, 0.1), Residual((-1,)), Scale(), LayerNorm(1e-5), DENSE]
    layout = Layout([70, 70, 70, 70, 70, 3], ["identity"] * 5, "quadratic", "float32", threads=threads, kinds=kinds)
    one, workers = layout.for_threads(1), [Worker(i, threads) for i in range(threads)]
    names = [[tensor.name for tensor in layer.tensors] for layer in layout.layers]
    norm = ["weight", "bias"]
    assert names == [[*norm, "running_mean", "running_variance"], [], ["weight"], norm, norm]
    assert [layer.reads for layer in layout.layers] == [(-1,), (0, -1), (1,), (2,), (3,)]
    assert [layer.trains for layer in layout.layers] == [True, False, True, True, True]
    vector = Vector(layout, 2**20)
    for layer, n in zip(layout.layers, (2, 0, 1, 2), strict=False):
        assert layer.is_shared == (threads == 2)
        for worker in workers if n else ():
            part = vector.flat_rows(layer, worker)
            assert (part.address, part.row_bytes) == (
                2**20 + layer.shard(worker).place,
                n * layer.shard(worker).row_stride,
            )
            assert vector.weights(layer, worker) is None
        assert n or all(layer.updated(worker) is None for worker in workers)
    assert layout.n_parameters == 2 * 70 + 70 + 2 * 70 + 71 * 3
    numbers = aligned_zeros(one.n_bytes, "float32")
    found = one.tensors(numbers)
    for i, tensors in enumerate(found):
        for j, tensor in enumerate(tensors.values()):
            tensor[...] = 1 + i + j / 10
    out, back = aligned_zeros(layout.n_bytes, "float32"), aligned_zeros(one.n_bytes, "float32")
    one.convert(numbers, layout, out)
    layout.convert(out, one, back)
    np.testing.assert_array_equal(back, numbers)
    assert np.count_nonzero(numbers) == 4 * 70 + 70 + 2 * 70 + 71 * 3


def test_the_elements_of_an_unpadded_vector_are_the_tensors_one_after_another():
    kinds = [DENSE, BatchNorm(1e-5, 0.1), DENSE]
    layout = Layout([3, 5, 5, 2], ["relu", "identity", "sigmoid"], "quadratic", "float64", kinds=kinds)
    vector = rng.normal(size=layout.n_bytes // 8)
    tensors = [tensor for layer in layout.tensors(vector) for tensor in layer.values()]
    assert [tensor.shape for tensor in tensors] == [(5, 3), (5,), *[(5,)] * 4, (2, 5), (2,)]
    flat = np.array([value for tensor in tensors for value in np.array(tensor).reshape(-1).tolist()])
    np.testing.assert_array_equal(vector[layout.elements], flat)


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
        pack = block.pack_buffer  # for as many rows as any B has that is packed, or for some rows of A
        extents |= {extent(m) for m in own}
        room = max(max(64, 300) * pack.row_stride, packed_bytes(64, block.d[1].row_bytes, dtype))
        extents.add((pack.address, pack.address + room))
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


def test_a_program_finds_a_setting_where_the_record_has_it():
    """Each rule has a field, an optimizer's numbers fit, and every layer has a rate of dropout."""
    made = layout_of([4, 7, 5, 3])
    record = np.arange(made.settings_dtype.itemsize / 8).view(made.settings_dtype)
    assert set(RuleValues._fields) < set(record.dtype.names)
    assert max(len(rule.settings) for rule in OPTIMIZERS.values()) <= record["optimizer"].shape[1]
    assert record["dropout"].shape[1] == 3
    for name in record.dtype.names:
        place = made.setting(name)
        assert place.address.name == "settings"
        found = contents(dataclasses.replace(place, address=record.ctypes.data + place.address.offset))
        np.testing.assert_array_equal(found.ravel(), record[name].ravel())
