"""feature_major: the second layout against the first and against the reference."""

import numpy as np
import pytest

from fastnn.kernels import entry, feature_major, network, reference

from .kernel_calls import DTYPES, EPS, Net, call

rng = np.random.default_rng(3)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 4, 16), (5, 3, 17), (25, 23, 256), (7, 18, 40)])
def test_outer(dtype, shape):
    m, n, samples = shape
    length = network.padded(samples * np.dtype(dtype).itemsize)
    a, b = (np.zeros((rows, length // np.dtype(dtype).itemsize), dtype) for rows in (m, n))
    a[:, :samples], b[:, :samples] = rng.standard_normal((m, samples)), rng.standard_normal((n, samples))
    c = rng.standard_normal((m + 1, 26)).astype(dtype)
    zeros, want = np.zeros_like(a[0]), c.astype("f8")
    want[:m, :n] += a.astype("f8") @ b.T
    call(dtype, "outer", m, n, length, a, length, b, length, zeros, c, c.strides[0])
    np.testing.assert_allclose(c, want, atol=4 * EPS[dtype] * (samples + 4))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("layout", ["feature major", "row major"])
def test_both_layouts_train_as_the_reference_does(dtype, seed, layout, monkeypatch):
    """The rule that picks one is set aside; batches leave remainders, of lanes too."""
    monkeypatch.setattr(feature_major, "pays", lambda *_: layout == "feature major")
    r = np.random.default_rng(seed)
    sizes = [int(r.integers(1, 40)) for _ in range(r.integers(2, 5))]
    names = [["sigmoid", "tanh", "identity", "relu"][i] for i in r.integers(0, 4, len(sizes) - 1)]
    if dtype == "float32":
        names = ["sigmoid" if name == "relu" else name for name in names]  # near its kink float32 may differ
    n = Net(sizes, names, dtype, seed)
    rows, batch_size = int(r.integers(30, 120)), int(r.integers(1, 40))
    x, y = r.standard_normal((rows, sizes[0])).astype(dtype), r.standard_normal((rows, sizes[-1])).astype(dtype)
    order = np.array([r.permutation(rows) for _ in range(2)], np.int32)
    want_losses, want = reference.train(n.twin, x.astype("f8"), y.astype("f8"), order, batch_size, 0.02)
    losses, *_ = n.train(x, y, order, batch_size, 0.02, 2, entry.GIVEN)
    np.testing.assert_allclose(losses, want_losses, rtol=300 * EPS[dtype])
    for (w, b), (want_w, want_b, _) in zip(n.layout.views(n.parameters), want, strict=True):
        np.testing.assert_allclose(w, want_w, atol=500 * EPS[dtype])
        np.testing.assert_allclose(b, want_b, atol=500 * EPS[dtype])
    assert not n.padding(n.parameters).any()


@pytest.mark.parametrize("frozen", [(0,), (1,), (0, 1)])
def test_frozen_layers(frozen, monkeypatch):
    monkeypatch.setattr(feature_major, "pays", lambda *_: True)
    n, free = (Net([5, 6, 3], ["sigmoid"] * 2, "float64", 4, frozen=f) for f in (frozen, ()))
    x, y = rng.standard_normal((30, 5)), rng.standard_normal((30, 3))
    gradients = [network.aligned_zeros(n.layout.n_bytes, "float64") for _ in range(2)]
    assert n.sweep(x, y, gradient=gradients[0]) == free.sweep(x, y, gradient=gradients[1])
    pairs = zip(n.layout.views(gradients[0]), free.layout.views(gradients[1]), strict=True)
    for i, (got, want) in enumerate(pairs):
        for g, w in zip(got, want, strict=True):
            np.testing.assert_array_equal(g, 0 if i in frozen else w)


def test_the_rule_takes_narrow_layers_with_many_samples():
    def pays(sizes, rows):
        return feature_major.pays(network.Layout(sizes, ["sigmoid"] * (len(sizes) - 1), "quadratic", "float32"), rows)

    assert pays([4, 24, 24, 3], 256)
    assert not pays([4, 24, 24, 3], 1)
    assert not pays([784, 30, 10], 10)
    assert not pays([512, 512, 512, 10], 256)


@pytest.mark.parametrize("samples", [15, 16, 17])
def test_lanes_without_a_sample_cannot_overflow(samples, monkeypatch):
    """At x = 0 this network overflows; at x = 1, where every sample is, it does not."""
    monkeypatch.setattr(feature_major, "pays", lambda *_: True)
    n = Net([1, 2, 2, 1], ["relu"] * 3, "float32")
    (w0, b0), (w1, _), *_ = n.layout.views(n.parameters)
    w0[...], b0[...], w1[...] = -1e20, 1e20, 1e20
    gradient = network.aligned_zeros(n.layout.n_bytes, "float32")
    n.sweep(np.ones((samples, 1), "f4"), np.zeros((samples, 1), "f4"), gradient=gradient)
    assert np.isfinite(gradient).all()
