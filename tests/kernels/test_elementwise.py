"""elementwise, activations, losses, optimizers: functions of each element, remainders included, and the reference."""

import numpy as np
import pytest
from llvmlite import ir

from fastnn.kernels import reference
from fastnn.kernels.cpu.simd import Simd, Vec
from fastnn.kernels.cpu.target import HOST
from fastnn.kernels.formulas.activations import ACTIVATIONS, CHEAP, EXPONENTIAL, ROW_WISE, ActivationFormula
from fastnn.kernels.formulas.update_rules import MAX_NUMBERS, OPTIMIZERS

from ..cases import DTYPES, EPS, PARAMETERS, SETTINGS
from .kernel_calls import EVERY_TARGET, activate, backward, call, loss, on_targets, padded

rng = np.random.default_rng(0)
SHAPES = [(1, 1), (3, 10), (5, 16), (7, 33), (2, 300)]


def vector(n, dtype):
    """A row of n random numbers, padded."""
    return padded(rng.standard_normal((1, n)).astype(dtype))


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("target", "name"), on_targets(reference.ACTIVATIONS))
def test_activations_and_backward_match_the_reference(name, dtype, target):
    value, derivative = reference.ACTIVATIONS[name]
    z = rng.normal(0, 3, 160)
    a = activate(name, z, dtype, target)
    inexact = 60 if name == "gelu" and dtype == "float64" else 0  # z / sqrt(2) in the reference's tail
    np.testing.assert_allclose(a, value(z.astype(dtype).astype("f8")), rtol=(4 + inexact) * EPS[dtype])
    d = rng.standard_normal(160).astype(dtype)
    source = z.astype(dtype) if ACTIVATIONS[name].from_z else a
    got = backward(name, d, source, dtype, target)
    np.testing.assert_allclose(got, d * derivative(z.astype(dtype).astype("f8"), a.astype("f8")), atol=4 * EPS[dtype])


def test_every_row_has_a_twin_and_states_its_facts():
    """A row without a range or a cost cannot be written."""
    assert [name for name, row in ACTIVATIONS.items() if not row.linked] == list(reference.ACTIVATIONS)
    with pytest.raises(TypeError, match="'range' and 'cost'"):
        ActivationFormula(ACTIVATIONS["tanh"].value, ACTIVATIONS["tanh"].backward)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", reference.ACTIVATIONS)
def test_outputs_lie_in_the_range_of_the_row_and_approach_its_ends(name, dtype):
    z = np.concatenate([np.linspace(-12, 12, 20001), [0.0], *(s * np.logspace(-6, 6, 200) for s in (-1, 1))])
    a = activate(name, z, dtype).astype("f8")
    low, high = ACTIVATIONS[name].range
    assert low - 2 * EPS[dtype] <= a.min() < a.max() <= high + 2 * EPS[dtype]
    for end, found in ((low, a.min()), (high, a.max())):
        assert found == pytest.approx(end, abs=2e-5) if np.isfinite(end) else abs(found) > 1000


def test_softmax_lies_in_the_range_of_its_row():
    z = rng.normal(0, 30, (200, 5))
    a = reference.softmax(z)
    low, high = ROW_WISE["softmax"].range
    assert (low, high) == (pytest.approx(a.min(), abs=1e-9), pytest.approx(a.max(), abs=1e-9))


@pytest.mark.parametrize(
    ("range_", "threshold", "probabilities"),
    [
        ((0.0, 1.0), 0.5, True),
        ((-1.0, 1.0), 0.0, False),
        ((-1.0, 4.0), 1.5, False),
        ((1e308, 1.5e308), 1.25e308, False),
        ((0.0, np.inf), 0.0, False),
        ((-np.inf, 1.0), 0.0, False),
        ((-np.inf, np.inf), 0.0, False),
    ],
)
def test_what_follows_from_a_range(range_, threshold, probabilities):
    row = ActivationFormula(None, None, range_, CHEAP)
    assert row.threshold == threshold
    assert row.gives_probabilities == probabilities


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", reference.ACTIVATIONS)
def test_the_cost_of_a_row_is_that_of_what_it_writes(name, dtype):
    """Few vector operations or many, counted in what the row writes."""
    module, row = ir.Module(), ACTIVATIONS[name]
    scalar, lanes = (ir.FloatType, ir.DoubleType)[dtype == "float64"](), HOST.vector_bytes // np.dtype(dtype).itemsize
    kind = ir.VectorType(scalar, lanes)
    function = ir.Function(module, ir.FunctionType(kind, [kind, kind]), "both")
    s = Simd(ir.IRBuilder(function.append_basic_block()), dtype, HOST)
    z, d = (Vec(s, argument) for argument in function.args)
    row.backward(s, d, z if row.from_z else row.value(s, z))
    if row.from_z:
        row.value(s, z)
    written = len(function.blocks[0].instructions)
    assert row.cost == (CHEAP if written < 16 else EXPONENTIAL), written


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", EVERY_TARGET)
def test_gelu_over_the_whole_range(dtype, target):
    """To where the distribution's tail is no longer a normal number, and beyond."""
    edge = 13.0 if dtype == "float32" else 37.0
    z = np.concatenate([rng.uniform(-edge, 50, 3000), rng.normal(0, 1, 3000)]).astype(dtype)
    z = z[z != 0]
    want = reference.ACTIVATIONS["gelu"][0](z.astype("f8"))
    # The reference rounds z / sqrt(2), which the tail e^(-z^2 / 2) multiplies by z^2.
    inexact = 4 * EPS[dtype] + z.astype("f8") ** 2 * EPS["float64"]
    assert (np.abs(activate("gelu", z, dtype, target) - want) <= inexact * np.abs(want)).all()
    ends = np.array([np.nan, np.inf, -np.inf, 0.0, -1e4, 1e4], dtype)
    np.testing.assert_array_equal(activate("gelu", ends, dtype, target), [np.nan, np.inf, 0, 0, 0, 1e4])
    np.testing.assert_array_equal(backward("gelu", np.ones(6), ends, dtype, target), [np.nan, 1, 0, 0.5, 0, 1])


@pytest.mark.parametrize("name", reference.ACTIVATIONS)
def test_backward_of_no_delta_is_zero_whatever_lies_in_padding(name):
    z = np.array([-np.inf, 0, 1e30, np.inf], "f4")
    a = z if ACTIVATIONS[name].from_z else activate(name, z, "float32")
    np.testing.assert_array_equal(backward(name, np.zeros(4), a, "float32"), np.zeros(4))


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", EVERY_TARGET)
@pytest.mark.parametrize(
    ("name", "values", "slopes"),
    [
        ("leaky_relu", [-np.inf, -100, 0, 1e4, np.inf], [0.01, 0.01, 0.01, 1, 1]),
        ("elu", [-1, -1, 0, 1e4, np.inf], [0, 0, 1, 1, 1]),
        ("silu", [0, 0, 0, 1e4, np.inf], [0, 0, 0.5, 1, 1]),
        ("mish", [0, 0, 0, 1e4, np.inf], [0, 0, 0.6, 1, 1]),
        ("softplus", [0, 0, np.log(2), 1e4, np.inf], [0, 0, 0.5, 1, 1]),
        ("hard_sigmoid", [0, 0, 0.5, 1, 1], [0, 0, 1 / 6, 0, 0]),
    ],
)
def test_ends(name, values, slopes, target, dtype):
    z = np.array([-np.inf, -1e4, 0, 1e4, np.inf, np.nan], dtype)
    a = activate(name, z, dtype, target)
    np.testing.assert_allclose(a[:5], values, rtol=4 * EPS[dtype])
    source = z if ACTIVATIONS[name].from_z else a
    np.testing.assert_allclose(backward(name, np.ones(6), source, dtype, target)[:5], slopes, rtol=8 * EPS[dtype])
    assert np.isnan(a[5])
    assert np.isnan(backward(name, np.full(6, np.nan), source, dtype, target)[:4]).any()


@pytest.mark.pairs
@pytest.mark.parametrize(("target", "name"), on_targets([name for name in reference.ACTIVATIONS if name != "step"]))
def test_backward_by_central_differences(name, target):
    z, h = rng.normal(0, 2, 64), 1e-6
    z = z[(np.abs(z) > 1e-3) & (np.abs(np.abs(z) - 3) > 1e-3)]  # where relu and hard_sigmoid have no derivative
    ends = [activate(name, z + step, "float64", target) for step in (h, -h)]
    numeric = (ends[0] - ends[1]) / (2 * h)
    source = z if ACTIVATIONS[name].from_z else activate(name, z, "float64", target)
    analytic = backward(name, np.ones_like(z), source, "float64", target)
    np.testing.assert_allclose(analytic, numeric, atol=1e-9)


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("target", "shape"), on_targets(SHAPES))
def test_rows_may_lie_apart(shape, dtype, target):
    """Whole lines are written, and nothing between them."""
    rows, n = shape
    x, y = (padded(rng.standard_normal(shape).astype(dtype)) for _ in range(2))
    width = x.shape[1]
    apart = [np.hstack([array, np.full((rows, 16), np.nan, dtype)]) for array in (x, y, x)]
    wide_x, wide_y, out = (array[:, :n] for array in apart)
    for name, inputs, want in (
        ("add", {"x": wide_x, "y": wide_y}, x.astype("f8") + y),
        ("copy", {"x": wide_x}, x),
        ("tanh", {"x": wide_x}, np.tanh(x.astype("f8"))),
        ("zero", {}, np.zeros_like(x)),
    ):
        apart[2][...] = 7
        call(dtype, name, target, out=out, **inputs)
        np.testing.assert_allclose(apart[2][:, :width], want, rtol=4 * EPS[dtype], err_msg=name)
        assert (apart[2][:, width:] == 7).all()


@pytest.mark.parametrize("target", EVERY_TARGET)
@pytest.mark.parametrize("dtype", DTYPES)
def test_x_or_nan_where_y_is_that(dtype, target):
    x, y = (padded(rng.standard_normal((3, 21)).astype(dtype)) for _ in range(2))
    y[1, 4], y[2, 20], y[0, 0] = np.nan, -np.nan, np.inf
    out = np.zeros_like(x)
    call(dtype, "or_nan", target, out=out, x=x, y=y)
    np.testing.assert_array_equal(out, np.where(np.isnan(y), np.nan, x))


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", reference.LOSSES)
@pytest.mark.parametrize(("target", "shape"), on_targets(SHAPES))
def test_losses_match_the_reference(name, shape, dtype, target):
    # Whole sixty-fourths, whose difference is exact: near |e| = 1 the slope of arctanh_error follows it a thousandfold.
    a, y = ((np.round(64 * rng.standard_normal(shape)) / 64).astype(dtype) for _ in range(2))
    parameter = {"parameter": PARAMETERS[name]} if name in PARAMETERS else {}
    total, d = loss(name, a, y, -0.25, dtype, target, **parameter)
    value, derivative = reference.loss(name, a.astype("f8"), y.astype("f8"), *parameter.values())
    assert total == pytest.approx(value, rel=10 * EPS[dtype] + a.size * EPS["float64"])  # the sum rounds too
    np.testing.assert_allclose(d[:, : shape[1]], -0.25 * derivative, atol=4 * EPS[dtype], rtol=4 * EPS[dtype])
    assert not d[:, shape[1] :].any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("target", "epsilon"), on_targets([1e-30, 1e-8, 0.1]))
def test_a_quotient_by_a_root_over_the_whole_range(epsilon, dtype, target):
    """A step of RMSprop on a gradient of 1 with a mean that stays: p = -1 / (sqrt(v) + epsilon)."""
    limits, n = np.finfo(dtype), 4000
    v = np.exp(rng.uniform(np.log(limits.smallest_subnormal * 2), np.log(limits.max) * 0.999, (1, n))).astype(dtype)
    v[0, :4] = 0, limits.smallest_subnormal, limits.max, np.nan
    p, g, scalars = np.zeros((1, n), dtype), np.ones((1, n), dtype), np.array([1, epsilon, *[0.0] * (MAX_NUMBERS - 2)])
    call(dtype, "rmsprop", target, p=p, g=g, v=v.copy(), scalars=scalars)
    want = -1 / (np.sqrt(v[0].astype("f8")) + epsilon)
    subnormal = (v[0] > 0) & (v[0] < limits.tiny)  # whose root has fewer bits
    assert subnormal.sum() > 10
    np.testing.assert_allclose(p[0, subnormal], want[subnormal], rtol=1e-4)
    np.testing.assert_allclose(p[0, ~subnormal], want[~subnormal], rtol=4 * EPS[dtype])


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize(("target", "n"), on_targets([1, 40]))
def test_steps_of_optimizers_match_the_reference(name, n, dtype, target):
    """advance, then update: three batches of four samples, one of two; the loss's derivative carries the scale."""
    rate, *rest = SETTINGS[name]
    optimizer, settings = OPTIMIZERS[name], (10 * rate, *rest)  # so that a step changes much
    p, own = vector(n, dtype), [np.zeros_like(vector(n, dtype)) for _ in optimizer.vectors]
    want, want_own = p.astype("f8"), [np.zeros(p.shape)] * 2
    state, numbers = np.zeros(MAX_NUMBERS), np.zeros(MAX_NUMBERS)
    state[: len(optimizer.state)] = list(optimizer.state.values())
    numbers[: len(settings)] = settings
    for t, count in enumerate((4, 4, 4, 2), 1):
        scale, scalars = np.full(1, np.nan), np.full(MAX_NUMBERS, np.nan)
        arrays = {"settings": numbers, "state": state, "scale": scale, "scalars": scalars}
        call(dtype, f"{name}_advance", target, count=np.array([float(count)]), **arrays)
        summed = vector(n, dtype)
        g = (summed * scale).astype(dtype)
        if optimizer.update:
            vectors = dict(zip(optimizer.vectors, own, strict=True))
            call(dtype, name, target, p=p, g=g, scalars=scalars, **vectors)
        else:
            call(dtype, "add", target, out=p, x=p, y=g)
        want, want_own = reference.OPTIMIZERS[name](want, summed.astype("f8") / count, t, want_own, *settings)
    np.testing.assert_allclose(p, want, atol=20 * EPS[dtype])
    for got, expected in zip(own, want_own, strict=False):
        np.testing.assert_allclose(got, expected, atol=20 * EPS[dtype])
    assert not p[:, n:].any()
    if name in ("adam", "adam_hat"):
        np.testing.assert_allclose(state[:2], [0.8**4, 0.95**4], rtol=1e-15)


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("factor", [0.0, 1.0, 0.3])
@pytest.mark.parametrize(("target", "name"), on_targets([name for name, rule in OPTIMIZERS.items() if rule.update]))
def test_scalars_by_a_factor_are_those_of_another_rate(name, factor, dtype, target):
    """Of the third step; state and settings stay. Without decay they are those of a weight decay of zero."""
    rule, settings = OPTIMIZERS[name], SETTINGS[name]
    numbers, state = np.zeros(MAX_NUMBERS), np.zeros(MAX_NUMBERS)
    state[: len(rule.state)] = [value**3 / 2 for value in rule.state.values()]
    numbers[: len(settings)] = settings
    endings = {"": True, "_without_decay": False} if "weight_decay" in rule.settings else {"": True}
    for ending, decays in endings.items():
        scalars, before = np.full(MAX_NUMBERS, 7.0), (numbers.copy(), state.copy())
        given = {"settings": numbers, "state": state, "count": np.array([4.0]), "factor": np.array([factor])}
        call(dtype, f"{name}_scalars{ending}", target, scalars=scalars, **given)
        np.testing.assert_array_equal((numbers, state), before)
        other, want = numbers.copy(), np.full(MAX_NUMBERS, 7.0)
        other[0] *= factor
        if not decays:
            other[rule.settings.index("weight_decay")] = 0
        given = {"settings": other, "state": state.copy(), "count": np.array([4.0]), "scale": np.zeros(1)}
        call(dtype, f"{name}_advance", target, scalars=want, **given)
        np.testing.assert_array_equal(scalars, want)


@pytest.mark.parametrize("target", EVERY_TARGET)
@pytest.mark.parametrize("dtype", DTYPES)
def test_spread_shows_a_number_that_is_not_finite(dtype, target):
    for n in (1, 16, 75):
        for value in (0.0, 1e30, np.nan, np.inf, -np.inf):
            for at in {0, n // 2, n - 1}:
                x, found = vector(n, dtype), np.full(1, 7.0)
                x[0, at] = value
                call(dtype, "finite_check", target, x=x[:, :n], not_finite=found)
                np.testing.assert_array_equal(found, 0.0 if np.isfinite(value) else np.nan)


@pytest.mark.parametrize("target", EVERY_TARGET)
@pytest.mark.parametrize("dtype", DTYPES)
def test_collect(dtype, target):
    """The float64 sums of shards, each on a line of its own, are added in their order and become zero."""
    lines, total = rng.standard_normal((5, 8)), np.array([0.1])
    rest, want = lines[:, 1:].copy(), 0.1
    for value in lines[:, 0]:
        want += value
    call(dtype, "collect", target, values=lines[:, :1], total=total)
    assert total[0] == want
    assert not lines[:, 0].any()
    np.testing.assert_array_equal(lines[:, 1:], rest)


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("share", [0.0396, 0.5])
@pytest.mark.parametrize(("target", "name"), on_targets(["sigmoid", "tanh"]))
def test_a_derivative_of_at_least_a_share_of_the_largest(name, share, dtype, target):
    """In place over all of an array, and as `gemv_backward` with a product of one number. NaN stays."""
    largest, derivative = {"sigmoid": 0.25, "tanh": 1.0}[name], reference.ACTIVATIONS[name][1]
    a = activate(name, np.append(rng.normal(0, 4, 36), [-np.inf, np.inf, 0.0, np.nan]), dtype, target)[None]
    d = rng.standard_normal((1, 40)).astype(dtype)
    want = d * np.maximum(derivative(None, a.astype("f8")), share * largest)
    assert (want[0, :39] != (d * derivative(None, a.astype("f8")))[0, :39]).sum() > 2
    a_padded, d_padded, out = padded(a), padded(d), padded(np.empty_like(d))
    given = {"x": d_padded[:, :40], "y": a_padded[:, :40], "share": np.array([share])}
    call(dtype, f"{name}_backward_at_least", target, out=out[:, :40], **given)
    tolerance = 8 * EPS[dtype] / (share * largest)  # a (1 - a) is a difference of numbers that may be close to 1
    np.testing.assert_allclose(out[:, :40], want, rtol=tolerance)
    assert not out[:, 40:].any()
    one, zeros = padded(np.ones((1, 1), dtype)), np.zeros((1, 16), dtype)
    given = {"x": one[:, :1], "B": padded(d.T.copy())[:, :1], "zeros": zeros, "z": a_padded[:, :40]}
    given["share"] = np.array([share])
    call(dtype, f"{name}_gemv_backward_at_least", target, out=out[:, :40], **given)
    np.testing.assert_allclose(out[:, :40], want, rtol=tolerance)
