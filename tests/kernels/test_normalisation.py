"""normalisation: sums, factors and normalisation over samples or neurons, remainders included, and the reference."""

import numpy as np
import pytest

from fastnn.kernels import reference
from fastnn.kernels.cpu.target import HOST

from ..cases import DTYPES, EPS
from .kernel_calls import call, on_targets, padded

rng = np.random.default_rng(0)
SHAPES = [(1, 1), (1, 7), (2, 1), (3, 10), (5, 16), (17, 33), (2, 300), (129, 15), (300, 64)]  # (samples, neurons)
# Either orientation: the name's ending, and the operand that holds a matrix (samples, neurons).
ORIENTATIONS = {"row-major": ("", np.asarray), "feature-major": ("_columns", np.transpose)}
ON_ALL = on_targets([(how, shape) for how in ORIENTATIONS for shape in SHAPES])
EPSILON = 1e-3


def drawn(*shape, dtype):
    return (1 + 2 * rng.standard_normal(shape)).astype(dtype)


def behind(view):
    """What lies behind the last column of an array with padded rows, to the end of each row."""
    whole = np.lib.stride_tricks.as_strided(view, (len(view), view.strides[0] // view.itemsize))
    return whole[:, view.shape[1] :]


class Operands:
    """Matrices of a function in one orientation; what lies behind their last columns is no number."""

    def __init__(self, how, dtype, target):
        self.ending, self.turn = ORIENTATIONS[how]
        self.dtype, self.target, self.made = dtype, target, {}

    def matrix(self, values):
        """An operand (samples, neurons)."""
        values = self.turn(values)
        out = padded(np.ascontiguousarray(values, self.dtype))
        out[:, values.shape[1] :] = np.nan
        return out[:, : values.shape[1]]

    def row(self, values):
        """An operand with a number for each neuron, or each sample; its padding is zero."""
        return padded(np.asarray(values, self.dtype)[None])[:, : len(values)]

    def __call__(self, name, **arguments):
        """Run a function; then everything that it writes holds zeros behind the last column."""
        call(self.dtype, f"{name}{self.ending}", self.target, **arguments)
        assert not behind(arguments["out"]).any()
        return self.turn(arguments["out"])


@pytest.fixture(params=DTYPES)
def operands(request):
    return lambda target, how: Operands(how, request.param, target)


def close(got, want, dtype, factor=8):
    np.testing.assert_allclose(got, want, atol=factor * EPS[dtype] * max(1.0, np.nanmax(np.abs(want))))


@pytest.mark.parametrize(("target", "case"), ON_ALL)
def test_a_sum_of_two_matrices_and_in_place(target, case, operands):
    how, shape = case
    o = operands(target, how)
    x, y = drawn(*shape, dtype=o.dtype), drawn(*shape, dtype=o.dtype)
    out = o("total", out=o.matrix(x * np.nan), x=o.matrix(x), y=o.matrix(y))
    np.testing.assert_array_equal(out, x + y)
    there = o.matrix(x)
    np.testing.assert_array_equal(o("total", out=there, x=there, y=o.matrix(y)), x + y)


@pytest.mark.parametrize(("target", "case"), ON_ALL)
def test_factors_and_shifts(target, case, operands):
    how, shape = case
    o = operands(target, how)
    x, factor, shift = drawn(*shape, dtype=o.dtype), *drawn(2, shape[1], dtype=o.dtype)
    out = o("scaled", out=o.matrix(x * np.nan), x=o.matrix(x), factor=o.row(factor))
    np.testing.assert_array_equal(out, x * factor)
    given = {"x": o.matrix(x), "factor": o.row(factor), "shift": o.row(shift)}
    close(o("scaled_and_shifted", out=o.matrix(x * np.nan), **given), x.astype("f8") * factor + shift, o.dtype)


@pytest.mark.parametrize(("target", "case"), ON_ALL)
def test_sums_of_products_over_the_samples(target, case, operands):
    how, shape = case
    o = operands(target, how)
    x, d = drawn(*shape, dtype=o.dtype), drawn(*shape, dtype=o.dtype)
    out = o.row(np.full(shape[1], 7))
    behind(out)[...] = 7
    call(o.dtype, f"sums_of_products{o.ending}", target, x=o.matrix(x), d=o.matrix(d), out=out)
    close(out[0], (x.astype("f8") * d).sum(axis=0), o.dtype, 8 * len(x) ** 0.5)
    assert not behind(out).any()


@pytest.mark.parametrize(("target", "case"), ON_ALL)
def test_slopes_below_zero(target, case, operands):
    """At zero the slope counts. NaN stays: of y whatever x is, and of the slope where x is not above zero."""
    how, shape = case
    o = operands(target, how)
    x, y, slope = drawn(*shape, dtype=o.dtype), drawn(*shape, dtype=o.dtype), drawn(shape[1], dtype=o.dtype)
    x[0, 0] = 0
    for values in (y, x):
        want = reference.sloped(values, x, slope)
        out = o("sloped", out=o.matrix(x * np.nan), y=o.matrix(values), x=o.matrix(x), slope=o.row(slope))
        np.testing.assert_array_equal(out, want)
    there = o.matrix(y)
    np.testing.assert_array_equal(
        o("sloped", out=there, y=there, x=o.matrix(x), slope=o.row(slope)), reference.sloped(y, x, slope)
    )
    x[-1, -1], y[-1, 0], slope[0] = np.nan, np.nan, np.nan
    for values in (y, x):
        want = reference.sloped(values, x, slope)
        out = o("sloped", out=o.matrix(x * 0), y=o.matrix(values), x=o.matrix(x), slope=o.row(slope))
        np.testing.assert_array_equal(out, want)
    assert np.isnan(out[0, 0])
    assert np.isnan(out[-1, -1])


@pytest.mark.parametrize(("target", "case"), ON_ALL)
def test_sums_below_zero_over_the_samples(target, case, operands):
    """The gradient of slopes; NaN stays."""
    how, shape = case
    o = operands(target, how)
    x, d = drawn(*shape, dtype=o.dtype), drawn(*shape, dtype=o.dtype)
    x[:, -1] = np.nan if shape[1] > 1 else x[:, -1]
    out = o.row(np.full(shape[1], 7))
    behind(out)[...] = 7
    call(o.dtype, f"sums_below_zero{o.ending}", target, x=o.matrix(x), d=o.matrix(d), out=out)
    close(out[0], (np.minimum(x.astype("f8"), 0) * d).sum(axis=0), o.dtype, 8 * len(x) ** 0.5)
    assert not behind(out).any()
    assert np.isnan(out[0, -1]) == (shape[1] > 1)


@pytest.mark.parametrize("over", ["neurons", "samples"])
@pytest.mark.parametrize(("target", "case"), ON_ALL)
def test_normalisation_and_its_way_back(target, case, over, operands):
    how, shape = case
    o, axis = operands(target, how), int(over == "neurons")
    x, d = drawn(*shape, dtype=o.dtype), drawn(*shape, dtype=o.dtype)
    n = shape[1 - axis]
    numbers = {name: padded(np.zeros((1, n), o.dtype))[:, :n] for name in ("mean", "variance", "root")}
    out = o(f"normalise_over_{over}", out=o.matrix(x * np.nan), x=o.matrix(x), **numbers, epsilon=EPSILON)
    want, *others = reference.normalise(x.astype("f8"), axis, EPSILON)
    size = 4 * max(1.0, np.abs(x).max() * others[2].max())  # what x - mean loses, times root
    close(out, want, o.dtype, size)
    for got, each in zip(numbers.values(), others, strict=True):
        close(got[0], each.ravel(), o.dtype, size)
    given = {"x": o.matrix(out), "root": numbers["root"]}
    root = numbers["root"].astype("f8").reshape(others[2].shape)
    want = reference.normalise_backward(d.astype("f8"), out.astype("f8"), root, axis)
    close(o(f"normalise_over_{over}_backward", out=o.matrix(d * np.nan), d=o.matrix(d), **given), want, o.dtype, 30)
    there = o.matrix(d)  # in place
    close(o(f"normalise_over_{over}_backward", out=there, d=there, **given), want, o.dtype, 30)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("target", "n"), on_targets([1, 7, 16, 33, 300]))
def test_running_statistics_and_what_they_fold_to(target, n, dtype):
    average, x, mean, gain, bias = (padded(drawn(1, n, dtype=dtype)) for _ in range(5))
    variance = padded(rng.uniform(0.1, 3, (1, n)).astype(dtype))
    want = average + 0.3 * (1.25 * x.astype("f8") - average)
    call(dtype, "follow", target, average=average[:, :n], x=x[:, :n], momentum=0.3, factor=1.25)
    close(average, want, dtype)
    factor, shift = (np.full_like(mean, np.nan) for _ in range(2))
    given = {"mean": mean, "variance": variance, "gain": gain, "bias": bias, "factor": factor, "shift": shift}
    call(dtype, "fold", target, **{name: array[:, :n] for name, array in given.items()}, epsilon=EPSILON)
    want = gain.astype("f8") / np.sqrt(variance.astype("f8") + EPSILON)
    close(factor, want, dtype)
    close(shift, bias - mean * want, dtype, 20)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("over", ["neurons", "samples"])
@pytest.mark.parametrize("how", ORIENTATIONS)
def test_a_large_mean_costs_no_digits_of_the_variance(how, over, dtype):
    """The squares are those of x - mean: the mean of x^2 less that of x would lose all digits here."""
    o, axis = Operands(how, dtype, HOST), int(over == "neurons")
    x = (1000 + rng.standard_normal((40, 40))).astype(dtype)
    numbers = {name: padded(np.zeros((1, 40), dtype))[:, :40] for name in ("mean", "variance", "root")}
    out = o(f"normalise_over_{over}", out=o.matrix(x * np.nan), x=o.matrix(x), **numbers, epsilon=EPSILON)
    want, _, variance, _ = reference.normalise(x.astype("f8"), axis, EPSILON)
    close(numbers["variance"][0], variance.ravel(), dtype, 1000)
    close(out, want, dtype, 2000)
