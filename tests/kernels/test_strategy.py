"""strategy: feature-major and row-major blocks against the reference, and the rules that pick one of them."""

import itertools

import numpy as np
import pytest

from fastnn.kernels import reference
from fastnn.kernels.cpu.target import AVX2, AVX512, HOST, NEON, SSE
from fastnn.kernels.programs import records, strategy
from fastnn.kernels.programs.layers.dense import DENSE
from fastnn.kernels.programs.layers.layer_norm import LayerNorm
from fastnn.kernels.programs.layers.prelu import PReLU
from fastnn.kernels.programs.layers.scale import Scale
from fastnn.kernels.programs.memory import MAX_SHARDS, SHARD_SAMPLES, Layout

from ..cases import DTYPES, EPS
from .kernel_calls import EVERY_TARGET, Net, on_targets

rng = np.random.default_rng(3)


def layout_of(sizes, dtype="float32", target=HOST):
    return Layout(sizes, ["sigmoid"] * (len(sizes) - 1), "quadratic", dtype, target=target)


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("how", ["feature-major", "row-major"])
@pytest.mark.parametrize(("target", "seed"), on_targets(range(12), range(0, 12, 3)))
def test_both_train_as_the_reference_does(dtype, seed, how, target):
    """The rule that picks one is set aside; batches leave remainders, of lanes too."""
    r = np.random.default_rng(seed)
    sizes = [int(r.integers(1, 40)) for _ in range(r.integers(2, 5))]
    names = [["sigmoid", "tanh", "identity", "relu"][i] for i in r.integers(0, 4, len(sizes) - 1)]
    if dtype == "float32":
        names = ["sigmoid" if name == "relu" else name for name in names]  # near its kink float32 may differ
    n = Net(sizes, names, dtype, seed, target=target, orientation=how)
    rows, batch_size = int(r.integers(30, 120)), int(r.integers(1, 40))
    x, y = r.standard_normal((rows, sizes[0])).astype(dtype), r.standard_normal((rows, sizes[-1])).astype(dtype)
    order = np.array([r.permutation(rows) for _ in range(2)], np.int32)
    want_losses, want = reference.train(n.twin, x.astype("f8"), y.astype("f8"), order, batch_size, 0.02)
    done = n.train(x, y, batch_size, (0.02,), 2, records.GIVEN, order)
    np.testing.assert_allclose(done.losses, want_losses, rtol=300 * EPS[dtype])
    for (w, b), (want_w, want_b, _) in zip(n.layout.views(n.parameters), want, strict=True):
        np.testing.assert_allclose(w, want_w, atol=500 * EPS[dtype])
        np.testing.assert_allclose(b, want_b, atol=500 * EPS[dtype])
    assert not n.padding(n.parameters).any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", EVERY_TARGET)
@pytest.mark.parametrize("rows", [3, 40, 300])
def test_wide_layers_too_can_be_feature_major(rows, dtype, target):
    """With fewer samples than neurons, and with several shards of samples."""
    n = Net([70, 100, 65, 90], ["tanh", "sigmoid", "identity"], dtype, 1, target=target, orientation="feature-major")
    x, y = rng.standard_normal((rows, 70)).astype(dtype), rng.standard_normal((rows, 90)).astype(dtype)
    value, gradient = n.gradients(x, y)
    want_value, want = reference.gradients(n.twin, x.astype("f8"), y.astype("f8"))
    assert value == pytest.approx(want_value / rows, rel=200 * EPS[dtype])
    for got, pair in zip(n.layout.views(gradient), want, strict=True):
        for g, w in zip(got, pair, strict=True):
            np.testing.assert_allclose(g, w / rows, atol=200 * EPS[dtype] * np.abs(w / rows).max())
    assert not n.padding(gradient).any()


@pytest.mark.parametrize(("target", "frozen"), on_targets([(0,), (1,), (0, 1)]))
def test_frozen_layers(frozen, target):
    options = {"target": target, "orientation": "feature-major"}
    n, free = (Net([5, 6, 3], ["sigmoid"] * 2, "float64", 4, frozen=f, **options) for f in (frozen, ()))
    x, y = rng.standard_normal((30, 5)), rng.standard_normal((30, 3))
    (value, gradient), (want_value, want) = n.gradients(x, y), free.gradients(x, y)
    assert value == want_value
    pairs = zip(n.layout.views(gradient), free.layout.views(want), strict=True)
    for i, (got, expected) in enumerate(pairs):
        for g, e in zip(got, expected, strict=True):
            np.testing.assert_array_equal(g, 0 if i in frozen else e)


@pytest.mark.parametrize(("target", "samples"), on_targets([15, 16, 17]))
def test_lanes_without_a_sample_cannot_overflow(samples, target):
    """At x = 0 this network overflows; at x = 1, where every sample is, it does not."""
    n = Net([1, 2, 2, 1], ["relu"] * 3, "float32", target=target, orientation="feature-major")
    (w0, b0), (w1, _), *_ = n.layout.views(n.parameters)
    w0[...], b0[...], w1[...] = -1e20, 1e20, 1e20
    _, gradient = n.gradients(np.ones((samples, 1), "f4"), np.zeros((samples, 1), "f4"))
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("target", [AVX512, AVX2, SSE, NEON], ids=lambda target: target.cpu)
def test_the_rule_takes_narrow_layers_with_many_samples(target):
    def how(sizes, batch_size):
        return strategy.choose(layout_of(sizes, target=target), batch_size)

    assert how([4, 24, 24, 3], 256) == strategy.FEATURE_MAJOR
    assert how([4, 24, 24, 3], 1) == strategy.SINGLE
    assert not strategy.feature_major_pays(layout_of([4, 24, 24, 3], target=target), 1)
    assert how([784, 30, 10], 10) == strategy.ROW_MAJOR
    assert how([512, 512, 512, 10], 256) == strategy.ROW_MAJOR


@pytest.mark.parametrize("orientation", [strategy.ROW_MAJOR, strategy.FEATURE_MAJOR])
@pytest.mark.parametrize("sizes", [[4, 24, 24, 3], [512, 512, 512, 10]])
def test_an_orientation_that_is_set_takes_the_place_of_the_rule(sizes, orientation):
    """But for a single sample; the layout for threads has it too."""
    layout = Layout(sizes, ["sigmoid"] * (len(sizes) - 1), "quadratic", "float32", orientation=orientation)
    for each in (layout, layout.for_threads(2)):
        assert [strategy.choose(each, n) for n in (1, 2, 256)] == [strategy.SINGLE, orientation, orientation]
        feature_major = [strategy.predicts_feature_major(each, n) for n in (1, 2, 256)]
        assert feature_major == [False, *[orientation == strategy.FEATURE_MAJOR] * 2]


def test_the_rule_does_not_look_at_samples_beyond_a_block():
    layout = layout_of([4, 24, 24, 3])
    assert strategy.choose(layout, 10**9) == strategy.choose(layout, layout.block_rows)


@pytest.mark.parametrize("itemsize", [4, 8])
def test_shards_of_samples_are_whole_lines(itemsize):
    for rows in [*range(1, 300), 1000, 1024, 2000]:
        shards = strategy.sample_shards(rows, itemsize)
        assert len(shards) == max(1, min(MAX_SHARDS, rows // SHARD_SAMPLES))
        assert (shards[0][0], shards[-1][1]) == (0, rows)
        assert all(stop == first for (_, stop), (first, _) in itertools.pairwise(shards))
        assert all(first < stop and first * itemsize % 64 == 0 for first, stop in shards)


def test_threads_share_only_what_is_worth_it():
    small, wide, narrow = layout_of([4, 5, 3]), layout_of([512, 512, 512, 10]), layout_of([4, 24, 24, 3])
    assert strategy.max_threads(small, 10, 8) == 1
    assert strategy.max_threads(wide, 1, 8) == 1  # a single sample
    assert strategy.max_threads(wide, 256, 8) == 8
    assert strategy.max_threads(wide, 256, 100) == 32  # of the first layer's lines no two threads share one
    assert strategy.max_threads(narrow, 1024, 100) <= MAX_SHARDS
    assert [strategy.max_threads(wide, 256, n) for n in (1, 2, 3)] == [1, 2, 3]


def test_only_row_major_batches_need_a_layout_of_their_own_for_threads():
    wide, narrow = layout_of([512, 512, 512, 10]), layout_of([4, 24, 24, 3])
    assert strategy.sharded(wide, 256, 1) is wide
    assert strategy.sharded(narrow, 1024, 4) is narrow
    assert strategy.sharded(wide, 1, 4) is wide
    shared = strategy.sharded(wide, 256, 4)
    assert [len(layer.shards) for layer in shared.layers] == [4, 4, 1]
    assert (shared.sizes, shared.target, shared.block_rows) == (wide.sizes, wide.target, wide.block_rows)


LANES = [  # (sizes, batch size): measured with Adam on a CPU with AVX-512, networks a second against one by one
    ([8, 16, 1], 32, True),  # 1.4 times
    ([8, 16, 1], 8, True),
    ([8, 16, 1], 1, True),
    ([4, 8, 1], 32, True),
    ([20, 100, 1], 32, True),  # 1.25
    ([64, 32, 10], 32, False),  # 1.0
    ([64, 32, 10], 1, False),  # 0.9: the parameters of a group leave the L1 cache
    ([784, 30, 10], 32, False),
    ([8, 16, 1], 5000, False),  # more than a block
]


NARROW = [  # the same with AVX2, on a Zen 3
    ([8, 16, 1], 32, True),  # 1.4
    ([8, 16, 1], 8, True),
    ([8, 16, 1], 200, False),  # 1.0
    ([4, 8, 1], 32, True),
    ([20, 16, 3], 32, True),  # 1.25
    ([30, 64, 2], 32, False),  # 0.9
    ([64, 32, 10], 32, False),  # 0.84
    ([64, 32, 10], 200, False),  # 0.69
]
ON = [*((AVX512, *case) for case in LANES), *((AVX2, *case) for case in NARROW)]


@pytest.mark.parametrize(("target", "sizes", "batch_size", "expected"), ON)
def test_lanes_hold_small_networks(target, sizes, batch_size, expected):
    layout = Layout(sizes, ["tanh", "identity"], "quadratic", "float32", target=target)
    assert strategy.lanes_pay(layout, batch_size) == expected


@pytest.mark.parametrize(("kind", "expected"), [(LayerNorm(1e-5), False), (Scale(), False), (PReLU(0.25), True)])
def test_lanes_hold_few_kinds_of_layers(kind, expected):
    layout = Layout([8, 16, 16, 1], ["identity"] * 3, "quadratic", "float32", target=AVX512, kinds=[DENSE, kind, DENSE])
    assert strategy.lanes_pay(layout, 32) == expected
