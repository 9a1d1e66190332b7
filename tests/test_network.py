"""network, optimizers, entry: whole batches and epochs against the reference, gradients by central differences."""

import numpy as np
import pytest

from fastnn.kernels import entry, feature_major, library, network, programs, reference

from .kernel_calls import DTYPES, EPS, Net

rng = np.random.default_rng(2)
NAMES = ["sigmoid", "tanh", "relu", "identity"]


def random_case(seed):
    """Sizes of 1 to 300 in one to four layers, activations, a number of samples."""
    r = np.random.default_rng(seed)
    sizes = [int(np.exp(r.uniform(0, np.log(300)))) for _ in range(r.integers(2, 6))]
    return sizes, [NAMES[i] for i in r.integers(0, len(NAMES), len(sizes) - 1)], int(r.integers(1, 70))


def close(got, want, dtype, factor=60):
    scale = max(1.0, np.abs(want).max())
    np.testing.assert_allclose(got, want, atol=factor * EPS[dtype] * scale)


def gradients(n, x, y):
    gradient = network.aligned_zeros(n.layout.n_bytes, n.dtype)
    return n.sweep(x, y, gradient=gradient), gradient


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(25))
def test_predict_and_gradients(seed, dtype):
    sizes, names, rows = random_case(seed)
    if seed == 0:
        rows = 1100  # two blocks
    if seed >= 20:
        rows = 1  # a program of its own
    n = Net(sizes, names, dtype, seed)
    x, y = rng.standard_normal((rows, sizes[0])).astype(dtype), rng.standard_normal((rows, sizes[-1])).astype(dtype)
    out = np.empty((rows, sizes[-1]), dtype)
    n.sweep(x, out=out)
    outputs = reference.forward(n.twin, x.astype("f8"))
    close(out, outputs[-1], dtype, 20 * len(sizes))

    value, gradient = gradients(n, x, y)
    want_value, want = reference.gradients(n.twin, x.astype("f8"), y.astype("f8"))
    assert value == pytest.approx(want_value / rows, rel=200 * EPS[dtype])
    for got, (dw, db) in zip(n.layout.views(gradient), want, strict=True):
        # a relu near its kink may fall on either side in float32
        skip = dtype == "float32" and "relu" in names
        factor = 1e5 if skip else 200 * len(sizes)
        close(got[0], dw / rows, dtype, factor)
        close(got[1], db / rows, dtype, factor)
    assert not n.padding(gradient).any()

    out_with_loss = np.empty_like(out)
    assert n.sweep(x, y, out_with_loss) == pytest.approx(value, rel=10 * EPS[dtype])
    np.testing.assert_array_equal(out_with_loss, out)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_from_copied_columns(dtype, monkeypatch):
    """Deltas whose rows lie far apart are copied first: the same bits."""
    n = Net([40, 70, 50, 7], ["sigmoid"] * 3, dtype, 5)
    x, y = rng.standard_normal((37, 40)).astype(dtype), rng.standard_normal((37, 7)).astype(dtype)
    monkeypatch.setattr(feature_major, "pays", lambda *_: False)
    want = gradients(n, x, y)
    assert np.abs(want[1]).max() > 0
    monkeypatch.setattr(network, "FAR", 0)
    monkeypatch.setattr(network, "SHARED", 1)
    got = gradients(n, x, y)
    assert got[0] == want[0]
    np.testing.assert_array_equal(got[1], want[1])


@pytest.mark.parametrize("layout", ["feature major", "row major"])
@pytest.mark.parametrize("batch_size", [1, 7, 64])
@pytest.mark.parametrize("targets", ["labels", "values"])
def test_fetching_ahead_changes_no_bit(targets, batch_size, layout, monkeypatch):
    """Of samples and targets, into either cache, past the end of the order too."""
    monkeypatch.setattr(feature_major, "pays", lambda *_: layout == "feature major")
    x, y = rng.standard_normal((150, 40)).astype("f4"), rng.standard_normal((150, 3)).astype("f4")
    if targets == "labels":
        y = np.arange(150, dtype=np.int32) % 3
    results = []
    for in_cache in (network.IN_CACHE, 0):
        monkeypatch.setattr(network, "IN_CACHE", in_cache)
        fetches = network.prefetches([network.Source.of(x), network.Source.of(y)], batch_size, batch_size)
        assert {fetch[-1] for fetch in fetches} == (set() if in_cache else {0, 1})
        n = Net([40, 9, 3], ["sigmoid", "tanh"], "float32", 4)
        order = np.empty((1, 150), np.int32)
        results.append((n.train(x, y, order, batch_size, 0.5, 2, entry.DRAWN)[0].tolist(), n.parameters.tobytes()))
    assert results[0] == results[1]
    assert {fetch[0] for fetch in fetches} == {"prefetch_near"} | ({"prefetch"} if batch_size == 64 else set())


@pytest.mark.parametrize("seed", range(8))
def test_gradients_by_central_differences(seed):
    r = np.random.default_rng(seed)
    sizes = [int(r.integers(1, 9)) for _ in range(r.integers(2, 5))]
    names = [["sigmoid", "tanh", "identity"][i] for i in r.integers(0, 3, len(sizes) - 1)]
    n = Net(sizes, names, "float64", seed)
    x, y = r.standard_normal((7, sizes[0])), r.standard_normal((7, sizes[-1]))
    _, gradient = gradients(n, x, y)
    numeric, h = np.zeros_like(gradient), 1e-5
    for i in range(gradient.size):
        before, ends = n.parameters[i], []
        for step in (h, -h):
            n.parameters[i] = before + step
            ends.append(gradients(n, x, y)[0])
        n.parameters[i] = before
        numeric[i] = (ends[0] - ends[1]) / (2 * h)
    used = np.zeros(gradient.size, bool)
    for w, b in n.layout.views(used):
        w[...], b[...] = True, True
    error = np.linalg.norm((gradient - numeric)[used]) / np.linalg.norm(gradient)
    assert error < 1e-7


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch_size", [1, 7, 32, 1500])
@pytest.mark.parametrize("mode", ["given", "drawn", "as is"])
@pytest.mark.parametrize("inputs", ["floats", "bytes"])
@pytest.mark.parametrize("targets", ["labels", "values"])
def test_train(dtype, batch_size, mode, inputs, targets):
    """Batches of one row, with a remainder, of the whole set, and larger than a block of rows."""
    sizes, names = [13, 20, 17, 5], ["sigmoid", "tanh", "sigmoid"]
    rows, epochs, rate, scale = 1500 if batch_size == 1500 else 150, 2, 0.5, 0.25
    n = Net(sizes, names, dtype, 3)
    assert (batch_size > n.layout.block_rows) == (batch_size == 1500)
    x = rng.integers(0, 9, (rows, 13)).astype(np.uint8)
    if inputs == "floats":
        x = x.astype(dtype)
    labels = rng.integers(0, 5, rows)
    y = reference.one_hot(labels, 5)
    state = 12345
    if mode == "given":
        order = np.array([rng.permutation(rows) for _ in range(epochs)], np.int32)
        want_order = order
    elif mode == "drawn":
        order, want_order = np.empty((1, rows), np.int32), []
        for _ in range(epochs):
            drawn, state = reference.draw_order(rows, state)
            want_order.append(drawn)
    else:
        order, want_order = np.empty((1, 0), np.int32), [np.arange(rows)] * epochs
    want_losses, want = reference.train(n.twin, scale * x.astype("f8"), y, want_order, batch_size, rate)

    kind = {"as is": entry.AS_IS, "drawn": entry.DRAWN, "given": entry.GIVEN}[mode]
    target = labels.astype(np.int32) if targets == "labels" else y.astype(dtype)
    losses, snapshot, random, _ = n.train(x, target, order, batch_size, rate, epochs, kind, scale, 12345)
    np.testing.assert_allclose(losses, want_losses, rtol=100 * EPS[dtype])
    for (w, b), (want_w, want_b, _) in zip(n.layout.views(n.parameters), want, strict=True):
        close(w, want_w, dtype, 500)
        close(b, want_b, dtype, 500)
    assert not n.padding(n.parameters).any()
    np.testing.assert_array_equal(snapshot, n.parameters)
    assert random[0] == random[1] == state


@pytest.mark.parametrize("frozen", [(0,), (1,), (2,), (0, 1), (0, 2), (0, 1, 2)])
def test_frozen_layers_keep_their_bits(frozen):
    n, free = (Net([9, 20, 17, 5], ["sigmoid"] * 3, "float64", 4, frozen=f) for f in (frozen, ()))
    x, y = rng.standard_normal((30, 9)), rng.standard_normal((30, 5))
    value, gradient = gradients(n, x, y)
    want_value, want = gradients(free, x, y)
    assert value == want_value
    for i, (got, expected) in enumerate(zip(n.layout.views(gradient), free.layout.views(want), strict=True)):
        for g, e in zip(got, expected, strict=True):
            np.testing.assert_array_equal(g, 0 if i in frozen else e)


def test_divergence_leaves_the_snapshot():
    n = Net([3, 2], ["identity"], "float32", 5)
    x, y = rng.standard_normal((64, 3)).astype("f4"), rng.standard_normal((64, 2)).astype("f4")
    order = np.empty((1, 0), np.int32)
    losses, snapshot, _, run = n.train(x, y, order, 8, 3.0, 500, entry.AS_IS, steps=10**6)
    assert run[entry.STATUS] == entry.DIVERGED
    assert 0 < run[entry.EPOCH] < 500
    assert np.isfinite(losses[: run[entry.EPOCH]]).all()
    assert np.isfinite(snapshot).all()
    assert not np.isfinite(n.parameters).all() or not np.isfinite(losses[run[entry.EPOCH]])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [[300, 20, 3], [5, 100, 7], [784, 40]])
@pytest.mark.parametrize("more", [1, 2, 25, 61, 255])
def test_samples_are_predicted_where_they_lie(sizes, more, dtype):
    """More than one block, in the network's dtype: the first layer reads them without a copy."""
    n = Net(sizes, ["sigmoid"] * (len(sizes) - 1), dtype)
    x = rng.standard_normal((n.layout.block_rows + more, sizes[0])).astype(dtype)
    work = programs.Workspace(n.layout, n.layout.block_rows)
    arguments = n.library, n.layout, n.parameters.ctypes.data, work, network.Source.of(x)
    rows = programs.block_sizes(n.layout, [len(x)])
    code = programs.Code([programs.predict_in_place(*arguments, r) for r in rows])
    want = reference.forward(n.twin, x.astype("f8"))[-1]
    for copy in (x, x.copy()):  # the second time it moves
        out = np.zeros((len(x), sizes[-1]), dtype)
        places = np.array([(copy.ctypes.data, copy.strides[0]), (0, 0), (out.ctypes.data, out.strides[0])], np.int64)
        entry.sweep(code.code, code.parts, places, len(x), n.layout.block_rows)
        np.testing.assert_allclose(out, want, atol=100 * EPS[dtype])
        with_copy = np.zeros_like(out)
        n.sweep(x, out=with_copy)
        if more > 1:
            np.testing.assert_array_equal(out, with_copy)


def test_memory():
    layout = network.Layout([784, 500, 10], ["sigmoid"] * 2, "quadratic", "float32")
    vector = network.aligned_zeros(layout.n_bytes, "float32")
    assert vector.ctypes.data % 64 == 0
    assert [layer.ld for layer in layout.layers] == [(512 + 16) * 4, 16 * 4]  # not a multiple of 1024 bytes
    assert [layer.units for layer in layout.layers] == [32, 1]
    assert vector.size == 785 * 528 + 501 * 16
    work = programs.Workspace(layout, 64)
    addresses = [*work.x, *work.y, *work.panels, work.zeros, work.one, *work.sums, *work.a[0], *work.d[0]]
    assert not any(address % 64 for address in addresses)


def test_the_names_of_the_library_are_what_it_emits():
    assert sorted(entry.library("float32")) == sorted(library.NAMES)
    assert all(address > 0 for address in entry.library("float32").values())
