"""layers: predictions and gradients of whole networks against the reference, and by central differences."""

import numpy as np
import pytest

from fastnn.kernels import reference
from fastnn.kernels.programs import matmul
from fastnn.kernels.programs.memory import Workspace

from ..cases import DTYPES, EPS
from ..differences import central_differences
from .kernel_calls import EVERY_TARGET, Net, on_targets

rng = np.random.default_rng(2)
NAMES = ["sigmoid", "tanh", "relu", "identity", "gelu"]


def random_case(seed):
    """Sizes of 1 to 300 in one to four layers, activations, a number of samples."""
    r = np.random.default_rng(seed)
    sizes = [int(np.exp(r.uniform(0, np.log(300)))) for _ in range(r.integers(2, 6))]
    return sizes, [NAMES[i] for i in r.integers(0, len(NAMES), len(sizes) - 1)], int(r.integers(1, 70))


def close(got, want, dtype, factor=60):
    scale = max(1.0, np.abs(want).max())
    np.testing.assert_allclose(got, want, atol=factor * EPS[dtype] * scale)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("target", "seed"), on_targets(range(25), [0, 1, 5, 9, 13, 17, 20, 23]))
def test_predict_and_gradients(seed, dtype, target):
    sizes, names, rows = random_case(seed)
    if seed == 0:
        rows = 1100  # two blocks
    if seed >= 20:
        rows = 1  # a program of its own
    n = Net(sizes, names, dtype, seed, target=target)
    x, y = rng.standard_normal((rows, sizes[0])).astype(dtype), rng.standard_normal((rows, sizes[-1])).astype(dtype)
    out = np.empty((rows, sizes[-1]), dtype)
    n.sweep(x, out=out)
    outputs = reference.forward(n.twin, x.astype("f8"))
    close(out, outputs[-1], dtype, 20 * len(sizes))

    value, gradient = n.gradients(x, y)
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


@pytest.mark.parametrize("how", ["feature-major", "row-major"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", EVERY_TARGET)
def test_activations_of_parts_of_a_product(target, dtype, how, monkeypatch):
    """While a part is in the cache, or all of them afterwards: the same bits."""
    networks = ([9, 75, 130, 70, 3], ["relu", "gelu", "tanh", "sigmoid"]), ([3, 90, 5], ["sigmoid", "softmax"])
    for sizes, names in networks:
        loss = "softmax_cross_entropy" if names[-1] == "softmax" else "quadratic"
        n = Net(sizes, names, dtype, 5, loss=loss, target=target, orientation=how)
        x, y = rng.standard_normal((75, sizes[0])).astype(dtype), rng.random((75, sizes[-1])).astype(dtype)
        results, counts = [], []
        for size in (0, 2**40):
            monkeypatch.setattr(matmul, "L1_BYTES", size)
            monkeypatch.setattr(matmul, "RANGE_BYTES", 2**12)
            out = np.empty((75, sizes[-1]), dtype)
            results.append((n.gradients(x, y), n.sweep(x, y, out), out))
            code = n.sweep_code(Workspace(n.layout, n.layout.block_rows), x, y, gradient=True)
            counts.append(int(code.parts["operations"].sum()))
        (parts, *rest), (whole, *others) = results
        assert counts[0] > counts[1]
        assert parts[0] == whole[0]
        np.testing.assert_array_equal(parts[1], whole[1])
        assert rest[0] == others[0]
        np.testing.assert_array_equal(rest[1], others[1])


@pytest.mark.pairs
@pytest.mark.parametrize("how", ["feature-major", "row-major"])
@pytest.mark.parametrize(("target", "seed"), on_targets(range(8), [2, 5]))
def test_gradients_by_central_differences(seed, how, target):
    r = np.random.default_rng(seed)
    sizes = [int(r.integers(1, 9)) for _ in range(r.integers(2, 5))]
    names = [["sigmoid", "tanh", "identity", "gelu"][i] for i in r.integers(0, 4, len(sizes) - 1)]
    n = Net(sizes, names, "float64", seed, target=target, orientation=how)
    x, y = r.standard_normal((7, sizes[0])), r.standard_normal((7, sizes[-1]))
    _, gradient = n.gradients(x, y)
    numeric = central_differences(lambda: n.sweep(x, y), n.parameters, 1e-5, n.used)
    error = np.linalg.norm((gradient - numeric)[n.used]) / np.linalg.norm(gradient)
    assert error < 1e-7


@pytest.mark.pairs
@pytest.mark.parametrize(
    ("target", "frozen"), on_targets([(0,), (1,), (2,), (0, 1), (0, 2), (0, 1, 2)], [(0,), (1,), (0, 2)])
)
@pytest.mark.parametrize("rows", [30, 1])
def test_frozen_layers_get_no_gradient_and_the_others_the_same_bits(frozen, rows, target):
    n, free = (Net([9, 20, 17, 5], ["sigmoid"] * 3, "float64", 4, frozen=f, target=target) for f in (frozen, ()))
    x, y = rng.standard_normal((rows, 9)), rng.standard_normal((rows, 5))
    value, gradient = n.gradients(x, y)
    want_value, want = free.gradients(x, y)
    assert value == want_value
    for i, (got, expected) in enumerate(zip(n.layout.views(gradient), free.layout.views(want), strict=True)):
        for g, e in zip(got, expected, strict=True):
            np.testing.assert_array_equal(g, 0 if i in frozen else e)


@pytest.mark.parametrize("target", EVERY_TARGET)
@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_are_added_to_what_is_there(dtype, target):
    """A sample at a time, and a block at a time, onto a vector of ones."""
    n = Net([9, 40, 5], ["tanh", "sigmoid"], dtype, 6, target=target)
    for rows in (1, 20):
        x, y = rng.standard_normal((rows, 9)).astype(dtype), rng.standard_normal((rows, 5)).astype(dtype)
        _, want = n.gradients(x, y)
        gradient = np.zeros_like(want)
        for w, b in n.layout.views(gradient):
            w[...], b[...] = 1, 1
        n.sweep(x, y, gradient=gradient)
        for (w, b), (want_w, want_b) in zip(n.layout.views(gradient), n.layout.views(want), strict=True):
            np.testing.assert_allclose(w, want_w + 1, atol=8 * EPS[dtype])
            np.testing.assert_allclose(b, want_b + 1, atol=8 * EPS[dtype])
        assert not n.padding(gradient).any()
