"""Functions of a group of networks, a network in each lane: each network's numbers are those of a plain function.

Samples, orders and products are compared with NumPy. The bits of whole fits are a matter of tests/fastnn.
"""

import functools
from dataclasses import replace

import numpy as np
import pytest

from fastnn.kernels.cpu.target import HOST
from fastnn.kernels.formulas.activations import ACTIVATIONS as FORMULAS
from fastnn.kernels.formulas.loss_functions import LOSSES
from fastnn.kernels.formulas.update_rules import MAX_NUMBERS, OPTIMIZERS
from fastnn.kernels.programs import matmul
from fastnn.kernels.programs.memory import STATE, STEP, Layout, of_networks
from fastnn.kernels.programs.program import Code, Program, bindings
from fastnn.kernels.running import entry
from fastnn.kernels.vector.batches import GROWTH
from fastnn.kernels.vector.library import Library
from fastnn.kernels.vector.matrix import GROUP, LINE_BYTES, Matrix, grouped
from fastnn.network.input_loading import operands

from ..cases import ACTIVATIONS, DTYPES, EPS, PARAMETERS, SETTINGS
from ..cases import OPTIMIZERS as CASES
from .kernel_calls import EVERY_TARGET, ONLY, call, on_targets, padded, run
from .kernel_calls import matrix as plain

rng = np.random.default_rng(24)
SHAPES_OF_OUTER = (5, 1), (1, 7), (5, 7)
ONE_DTYPE = pytest.mark.parametrize("dtype", DTYPES)


@functools.cache
def library(dtype, target):
    return Library(grouped(dtype), target)


def group_of(arrays):
    """Arrays of all networks, as one array whose last axis is the network; it begins at a cache line."""
    stacked = np.stack(arrays, axis=-1)
    memory = np.zeros(stacked.nbytes + LINE_BYTES, np.uint8)
    start = -memory.ctypes.data % LINE_BYTES
    out = memory[start : start + stacked.nbytes].view(stacked.dtype).reshape(stacked.shape)
    out[...] = stacked
    return out


def matrix(array):
    """A group's array (rows, cols, networks), or a row (cols, networks), as an operand."""
    array = array.reshape(1, *array.shape) if array.ndim == 2 else array
    dtype = grouped(array.dtype.name, array.shape[2])
    return Matrix(array.ctypes.data, *array.shape[:2], *array.strides[:2], dtype)


def run_group(dtype, target, write):
    program = Program(target, grouped(dtype), rows=1)
    write(program)
    code = Code([program], library(dtype, target))
    entry.sweep(code.operations, code.patches, code.parts, ONLY, bindings(), 0, 1)


def call_group(dtype, target, name, **arguments):
    """Run one operation of a group; an array stands for its matrix."""
    given = {key: matrix(value) if isinstance(value, np.ndarray) else value for key, value in arguments.items()}
    run_group(dtype, target, lambda program: program.add(name, **given))


def both(dtype, target, name, arrays, numbers=(), **plain):
    """Run a function of a group and the plain one of each network; gives what each left, with the networks' axis last.

    arrays are drawn (rows, cols) or (cols,) of the dtype, numbers rows of float64, by name: functions of a network.
    """
    n = GROUP[dtype]
    networks = []
    for i in range(n):
        drawn = {key: padded(np.atleast_2d(make(i)).astype(dtype)) for key, make in arrays.items()}
        sizes = {key: np.atleast_2d(make(i)).shape[1] for key, make in arrays.items()}
        networks.append((drawn, sizes, {key: np.array(make(i), np.float64) for key, make in dict(numbers).items()}))
    of_group = {key: group_of([d[key][:, : s[key]] for d, s, _ in networks]) for key in arrays}
    of_group |= {key: group_of([values[key] for *_, values in networks]) for key in dict(numbers)}
    call_group(dtype, target, name, **of_group, **plain)
    for drawn, sizes, values in networks:
        views = {key: array[:, : sizes[key]] for key, array in drawn.items()}
        call(dtype, name, target, **views, **values, **plain)
    left = {key: np.stack([d[key][:, : s[key]] for d, s, _ in networks], -1) for key in arrays}
    left |= {key: np.stack([values[key] for *_, values in networks], -1) for key in dict(numbers)}
    return of_group, left


def same_bits(dtype, target, name, arrays, numbers=(), close=(), **plain):
    """Assert that a function of a group leaves what the plain one leaves of each network; `close` are sums."""
    of_group, left = both(dtype, target, name, arrays, numbers, **plain)
    for key, found in left.items():
        if key in close:
            np.testing.assert_allclose(of_group[key], found, rtol=1e-13, err_msg=key)
        else:
            np.testing.assert_array_equal(of_group[key], found, err_msg=key)


def normal(*shape, scale=1.0):
    return lambda i: rng.normal(0, scale, shape)


def constant(*values):
    """A row of numbers of a network, different from network to network, above zero."""
    return lambda i: np.array(values) * (1 + i / 16)


# ---- of each element ----


@pytest.mark.pairs
@ONE_DTYPE
@pytest.mark.parametrize(("target", "name"), on_targets(ACTIVATIONS))
def test_the_delta_below_a_single_output(target, name, dtype):
    """The bits of the product, then the activation's backward: of each element, and with the least derivative."""
    rows, cols, n = 5, 7, GROUP[dtype]
    x, y, z = (group_of([rng.standard_normal(shape).astype(dtype) for _ in range(n)]) for shape in SHAPES_OF_OUTER)
    share = group_of([np.array([0.1 * (1 + i / 16)]) for i in range(n)])
    for ending, further in (("", {}), ("_at_least", {"share": share})):
        if ending and FORMULAS[name].backward_at_least is None:
            continue
        got, want = (group_of([np.full((rows, cols), np.nan, dtype)] * n) for _ in range(2))
        call_group(dtype, target, f"group_outer_{name}_backward{ending}", out=got, x=x, y=y, z=z, **further)
        products = group_of([x[..., i] * y[..., i] for i in range(n)])
        call_group(dtype, target, f"{name}_backward{ending}", out=want, x=products, y=z, **further)
        np.testing.assert_array_equal(got, want)


@pytest.mark.pairs
@ONE_DTYPE
@pytest.mark.parametrize(("target", "name"), on_targets(ACTIVATIONS, ACTIVATIONS[1:3]))
def test_activations(name, dtype, target):
    x = normal(3, 5, scale=3.0)
    same_bits(dtype, target, name, {"out": x, "x": x})
    same_bits(dtype, target, f"{name}_backward", {"out": x, "x": x, "y": normal(3, 5)})
    if name in ("sigmoid", "tanh"):
        share = {"share": constant(0.3)}
        same_bits(dtype, target, f"{name}_backward_at_least", {"out": x, "x": x, "y": x}, share)


@pytest.mark.pairs
@ONE_DTYPE
@pytest.mark.parametrize("target", EVERY_TARGET)
def test_slopes_below_zero(target, dtype):
    """Each network has slopes of its own. Sums are those of a single network, for either adds sample after sample."""
    for rows, cols in ((1, 1), (3, 5), (17, 33)):
        x, y = normal(rows, cols), normal(rows, cols)
        matrices = {"out": y, "y": y, "x": x, "slope": normal(cols)}
        same_bits(dtype, target, "sloped", matrices)
        same_bits(dtype, target, "sums_below_zero", {"x": x, "d": y, "out": normal(cols)})


@pytest.mark.pairs
@ONE_DTYPE
@pytest.mark.parametrize(("target", "name"), on_targets(sorted(CASES), ["adam"]))
def test_updates_and_advances(name, dtype, target):
    rule = OPTIMIZERS[name]
    settings, state = SETTINGS[name], list(rule.state.values())
    numbers = {"settings": constant(*settings[:1]), "count": lambda i: [7.0 + i], "scale": lambda i: [0.0]}
    numbers["settings"] = lambda i: [settings[0] * (1 + i / 9), *settings[1:]]
    numbers["state"] = lambda i: [*state, *[0.0] * (MAX_NUMBERS - len(state))]
    numbers["scalars"] = lambda i: np.zeros(MAX_NUMBERS)
    same_bits(dtype, target, f"{name}_advance", {}, numbers)
    if rule.update is None:
        return
    by_factor = {key: value for key, value in numbers.items() if key != "scale"} | {"factor": lambda i: [0.1 * i]}
    for ending in ("", "_without_decay") if "weight_decay" in rule.settings else ("",):
        same_bits(dtype, target, f"{name}_scalars{ending}", {}, by_factor)
    _, after = both(dtype, target, f"{name}_advance", {}, numbers)
    arrays = {"p": normal(21), "g": normal(21)} | {each: lambda i: rng.uniform(0.1, 1, 21) for each in rule.vectors}
    same_bits(dtype, target, name, arrays, {"scalars": lambda i: after["scalars"][:, i]})


@ONE_DTYPE
@pytest.mark.parametrize("target", EVERY_TARGET)
def test_penalties_and_limits(dtype, target):
    w = normal(4, 6)
    for name, of in (("squares", np.square), ("absolute_values", np.abs)):
        x, out = group_of([w(i).astype(dtype) for i in range(GROUP[dtype])]), group_of([np.zeros(6)] * GROUP[dtype])
        call_group(dtype, target, name, x=x, out=out)
        np.testing.assert_allclose(out, of(x.astype("f8")).sum(axis=0), rtol=1e-14)
    for name in ("decay", "decay_with_signs"):
        same_bits(dtype, target, name, {"out": normal(24), "x": normal(24)}, {"factors": constant(0.1, 0.02)})
    same_bits(dtype, target, "clip", {"x": normal(24)}, {"bound": constant(0.4)})
    same_bits(dtype, target, "scale", {"x": normal(24)}, {"factor": constant(0.4)})
    same_bits(dtype, target, "limit_norms", {"x": w}, {"limit": constant(0.9)})
    same_bits(dtype, target, "smooth_labels", {"y": normal(3, 5)}, {"share": constant(0.1)}, other=0.2)
    numbers = {"values": normal(9), "c": constant(0.1, 0.2, 0.3), "count": constant(8), "scale": constant(0.5)}
    same_bits(dtype, target, "penalty", {}, numbers | {"factor": constant(0), "total": constant(2)})
    squares = {"squares": lambda i: rng.uniform(0, 1, 9), "limit": constant(0.7), "factor": constant(0)}
    same_bits(dtype, target, "norm_factor", {}, squares)
    same_bits(dtype, target, "increment", {}, {"number": constant(4)})


@ONE_DTYPE
@pytest.mark.parametrize("target", EVERY_TARGET)
def test_one_network_that_is_not_finite_is_found_alone(dtype, target):
    def row(i):
        return np.where(i == 3, np.where(np.arange(9) == 5, np.inf, 1.0), 1.0)

    of_group, _ = both(dtype, target, "finite_check", {"x": row}, {"not_finite": lambda i: [9.0]})
    expected = np.where(np.arange(GROUP[dtype]) == 3, np.nan, 0.0)
    np.testing.assert_array_equal(of_group["not_finite"][0], expected)


@pytest.mark.pairs
@ONE_DTYPE
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("target", "name"), on_targets(sorted(LOSSES), ["quadratic", "softmax_cross_entropy"]))
def test_losses(name, weighted, dtype, target):
    """The value is summed over a network's samples, in an order of its own."""
    if LOSSES[name].linked:
        pytest.skip("a user's loss")
    a = (lambda i: rng.uniform(0.1, 0.9, (7, 4))) if not LOSSES[name].from_logits else normal(7, 4, scale=2.0)
    n_targets = 4 // LOSSES[name].outputs
    arrays = {"d": normal(7, 4), "a": a, "y": lambda i: rng.dirichlet(np.ones(n_targets), 7)}
    numbers = {"scale": constant(0.2), "total": constant(3.0)}
    if name in PARAMETERS:
        numbers["parameter"] = constant(PARAMETERS[name] / 3)
    n = GROUP[dtype]
    drawn = [{key: make(i).astype(dtype) for key, make in arrays.items()} for i in range(n)]
    values = [{key: np.array(make(i), np.float64) for key, make in numbers.items()} for i in range(n)]
    weights = rng.uniform(0.5, 2, (n, 7)).astype(dtype)
    given = {key: group_of([each[key] for each in drawn]) for key in arrays}
    given |= {key: group_of([each[key] for each in values]) for key in numbers}
    suffix = "_weighted" * weighted
    if weighted:
        given["w"] = group_of(list(weights))
    call_group(dtype, target, f"{name}{suffix}", **given)
    for i, (of_network, its_numbers) in enumerate(zip(drawn, values, strict=True)):
        rows = {key: padded(array)[:, : array.shape[1]] for key, array in of_network.items()}
        of_weights = {"w": weights[i]} if weighted else {}
        call(dtype, f"{name}{suffix}", target, **rows, **its_numbers, **of_weights)
        np.testing.assert_allclose(
            given["d"][..., i], rows["d"], rtol=0, atol=0 if LOSSES[name].function else EPS[dtype]
        )
        tolerance = 1e-13 if LOSSES[name].function else 4 * EPS[dtype]
        np.testing.assert_allclose(given["total"][0, i], its_numbers["total"][0], rtol=tolerance)


@ONE_DTYPE
@pytest.mark.parametrize("target", EVERY_TARGET)
def test_softmax_and_its_backward(dtype, target):
    z = normal(5, 7, scale=3.0)
    of_group, left = both(dtype, target, "softmax", {"out": z, "z": z})
    np.testing.assert_allclose(of_group["out"], left["out"], rtol=4 * EPS[dtype])
    of_group, left = both(dtype, target, "softmax_backward", {"d": z, "a": lambda i: rng.dirichlet(np.ones(7), 5)})
    np.testing.assert_allclose(of_group["d"], left["d"], atol=20 * EPS[dtype])


# ---- random numbers ----


@ONE_DTYPE
@pytest.mark.parametrize("target", EVERY_TARGET)
def test_dropout_and_noise_draw_what_a_single_network_draws(dtype, target):
    """By keys and positions of each network."""
    n = GROUP[dtype]
    keys = rng.integers(0, 2**63, n).astype(np.uint64)
    positions, x = rng.integers(0, 5000, n), rng.standard_normal((n, 6, 5)).astype(dtype)
    rates, deviations = rng.uniform(0.1, 0.8, n), rng.uniform(0.1, 0.8, n)
    key = Matrix(keys.ctypes.data, 1, 1, 8 * n, 8 * n, grouped("float64", n))
    place = {"key": key, "width": 30, "begin": 4, "salt": 2, "position": positions.ctypes.data}
    out, noisy = group_of(list(np.zeros_like(x))), group_of(list(x))
    call_group(dtype, target, "dropout", out=out, x=group_of(list(x)), rate=group_of(list(rates[:, None])), **place)
    call_group(dtype, target, "add_noise", out=noisy, deviation=group_of(list(deviations[:, None])), **place)
    for i in range(n):
        own = place | {"key": keys[i : i + 1].view(np.float64), "position": int(positions[i])}
        dropped, added = padded(np.zeros((6, 5), dtype))[:, :5], padded(x[i])[:, :5]
        call(dtype, "dropout", target, out=dropped, x=padded(x[i])[:, :5], rate=rates[i : i + 1], **own)
        call(dtype, "add_noise", target, out=added, deviation=deviations[i : i + 1], **own)
        np.testing.assert_array_equal(out[..., i], dropped)
        np.testing.assert_array_equal(noisy[..., i], added)


@pytest.mark.parametrize("alike", [False, True])
@ONE_DTYPE
@pytest.mark.parametrize("target", EVERY_TARGET)
def test_keys_and_orders(alike, dtype, target):
    """Only the networks that are due get an order; their generators go on as those of single networks.

    Where all are due and alike, they are drawn side by side, but for a number that is drawn again.
    """
    n = GROUP[dtype]
    states = rng.integers(0, 2**63, n).astype(np.uint64)
    sizes, due = rng.integers(1, 40, n), np.arange(n) % 3 > 0
    if alike:
        sizes[:], due[:] = 40, True
    orders = np.full((n, 40), -1, np.int32)
    starts, of_group, key = orders.ctypes.data + 160 * np.arange(n), states.copy(), np.zeros(n, np.uint64)
    tables = {"order": starts, "n": sizes, "due": due.astype(np.int64), "state": of_group}
    tables = {name: np.ascontiguousarray(array) for name, array in tables.items()}
    places = {name: array.ctypes.data for name, array in tables.items()}
    run_group(dtype, target, lambda program: program.add("group_draw_orders", **places))
    number = Matrix(key.ctypes.data, 1, 1, 8 * n, 8 * n, grouped("float64", n))
    run_group(dtype, target, lambda program: program.add("draw_key", state=of_group.ctypes.data, key=number))
    for i in range(n):
        state, order, one = states[i : i + 1].copy(), np.full(40, -1, np.int32), np.zeros(1)
        if due[i]:
            place = {"order": order.ctypes.data, "n": int(sizes[i]), "state": state.ctypes.data}
            call(dtype, "draw_order", target, **place)
            assert sorted(order[: sizes[i]]) == list(range(sizes[i]))
        call(dtype, "draw_key", target, state=state.ctypes.data, key=one)
        np.testing.assert_array_equal(orders[i], order)
        assert (key[i], of_group[i]) == (one.view(np.uint64)[0], state[0])


def test_a_number_that_is_drawn_again():
    """An order of so many numbers draws some again; the orders before and behind are those of single networks."""
    n, size = GROUP["float32"], 2**17
    states = rng.integers(0, 2**63, n).astype(np.uint64)
    orders, of_group = np.empty((n, size), np.int32), states.copy()
    tables = orders.ctypes.data + 4 * size * np.arange(n), np.full(n, size), np.ones(n, np.int64), of_group
    places = dict(zip(("order", "n", "due", "state"), (table.ctypes.data for table in tables), strict=True))
    run_group("float32", HOST, lambda program: program.add("group_draw_orders", **places))
    drawn = (of_group - states) * np.uint64(pow(GROWTH, -1, 2**64))  # how often each generator was asked
    assert drawn.max() > size
    for i in range(n):
        state, order = states[i : i + 1].copy(), np.empty(size, np.int32)
        call("float32", "draw_order", order=order.ctypes.data, n=size, state=state.ctypes.data)
        np.testing.assert_array_equal(orders[i], order)
        assert state[0] == of_group[i]


# ---- samples ----


def drawn_rows(dtype, target, rows, orders, last):
    """The row numbers (rows, networks) that `group_rows` finds; orders are addresses, or 0."""
    n = GROUP[dtype]
    numbers = np.full((rows + n, n), -7, np.int32)
    tables = np.array(orders, np.int64), np.array(last, np.int64)
    order, last_at = (table.ctypes.data for table in tables)
    place = {"rows": rows, "order": order, "last": last_at, "numbers": numbers.ctypes.data}
    run_group(dtype, target, lambda program: program.add("group_rows", **place))
    return numbers


@pytest.mark.parametrize("rows", [1, 5, 16, 33])
@ONE_DTYPE
@pytest.mark.parametrize("target", EVERY_TARGET)
def test_row_numbers(rows, dtype, target):
    """Of an order, of rows as they come; behind a network's last row any of its rows. Nothing behind it is read."""
    n = GROUP[dtype]
    last = rng.integers(0, rows, n)
    last[0] = rows - 1
    kept = [rng.permutation(900)[: last[i] + 1].astype(np.int32) for i in range(n)]
    orders = [each.ctypes.data if i % 4 else 0 for i, each in enumerate(kept)]
    numbers = drawn_rows(dtype, target, rows, orders, last)
    for i in range(n):
        expected = kept[i] if i % 4 else np.arange(last[i] + 1)
        np.testing.assert_array_equal(numbers[: last[i] + 1, i], expected)
        assert set(numbers[last[i] + 1 : rows, i]) <= {0, last[i]}


@pytest.mark.pairs
@pytest.mark.parametrize("width", [1, 2, 3, 7, 8, 16, 31, 64])
@pytest.mark.parametrize("source", ["like the networks", "uint8"])
@ONE_DTYPE
@pytest.mark.parametrize("target", EVERY_TARGET)
def test_gathering(width, source, dtype, target):
    """From sources of each network, each with an order; nothing behind a row is read but by the row itself."""
    n, rows, kind = GROUP[dtype], 6, np.dtype("uint8" if source == "uint8" else dtype)
    sources = [rng.integers(0, 255, (20, width)).astype(kind) for _ in range(n)]
    orders = [rng.permutation(20)[:rows].astype(np.int32) for _ in range(n)]
    numbers = drawn_rows(dtype, target, rows, [order.ctypes.data for order in orders], [rows - 1] * n)
    places = np.array([each.ctypes.data for each in sources])
    out = group_of([np.zeros((rows, width), dtype)] * n)
    name = "group_gather_uint8" if source == "uint8" else "group_gather"
    place = {"numbers": numbers.ctypes.data, "source": places.ctypes.data, "row_stride": width * kind.itemsize}
    call_group(dtype, target, name, out=out, scale=0.25, **place)
    for i in range(n):
        np.testing.assert_array_equal(out[..., i], sources[i][orders[i]].astype(dtype) * 0.25)


@pytest.mark.pairs
@pytest.mark.parametrize("width", [1, 2, 3, 7, 8, 16, 31, 64])
@pytest.mark.parametrize("source", ["like the networks", "uint8", "float64"])
@ONE_DTYPE
@pytest.mark.parametrize("target", EVERY_TARGET)
def test_shifted_gathering(width, source, dtype, target):
    """Each network by its own shift and scale, with the bits of a single network."""
    n, rows, kind = GROUP[dtype], 6, np.dtype(dtype if source == "like the networks" else source)
    suffix = f"_{source}" if source in ("uint8", "float64") else ""
    layout = Layout((width, 1), ("identity",), "quadratic", dtype)
    affines = np.stack([rng.normal(100, 50, (n, width)), rng.uniform(-1, 1, (n, width))], axis=1)
    made = operands(layout, affines)
    sources = [rng.uniform(0, 255, (20, width)).astype(kind) for _ in range(n)]
    orders = [rng.permutation(20)[:rows].astype(np.int32) for _ in range(n)]
    numbers = drawn_rows(dtype, target, rows, [order.ctypes.data for order in orders], [rows - 1] * n)
    places = np.array([each.ctypes.data for each in sources])
    tables = made.ctypes.data + made.strides[0] * np.arange(n)
    out = group_of([np.zeros((rows, width), dtype)] * n)
    place = {"numbers": numbers.ctypes.data, "source": places.ctypes.data, "row_stride": width * kind.itemsize}
    place |= {"affine": tables.ctypes.data, "affine_stride": layout.affine.row_stride}
    call_group(dtype, target, f"group_gather_shifted{suffix}", out=out, **place)
    for i in range(n):
        affine, want = replace(layout.affine, address=int(tables[i])), padded(np.zeros((rows, width), dtype))
        place = {"order": orders[i].ctypes.data, "remaining": 0, "source": sources[i], "affine": affine}
        call(dtype, f"gather_shifted{suffix}", target, out=want[:, :width], **place)
        np.testing.assert_array_equal(out[..., i], want[:, :width])
        expected = (sources[i][orders[i]].astype("f8") - affines[i, 0]) * affines[i, 1]
        np.testing.assert_allclose(out[..., i], expected, atol=5e-5 if dtype == "float32" else 1e-13)


@ONE_DTYPE
@pytest.mark.parametrize("target", EVERY_TARGET)
def test_classes_and_weights(dtype, target):
    n, rows = GROUP[dtype], 9
    last = rng.integers(0, rows, n)
    labels = [rng.integers(0, 5, 30).astype(np.int32) for _ in range(n)]
    weights = [rng.uniform(0.1, 3, 30).astype(dtype) for _ in range(n)]
    numbers = drawn_rows(dtype, target, rows, [0] * n, last)
    at, of_weights = (np.array([each.ctypes.data for each in arrays]) for arrays in (labels, weights))
    of_weights[::3] = 0  # such a network's rows have the weight 1
    out, w = group_of([np.full((rows, 5), 7, dtype)] * n), group_of([np.zeros((rows, 1), dtype)] * n)
    place = {"numbers": numbers.ctypes.data}
    call_group(dtype, target, "group_one_hot", out=out, source=at.ctypes.data, row_stride=4, **place)
    count, lasts = group_of([np.zeros(1)] * n), np.array(last, np.int64)
    place |= {"source": of_weights.ctypes.data, "row_stride": np.dtype(dtype).itemsize, "last": lasts.ctypes.data}
    call_group(dtype, target, "group_weights", out=w, count=count, **place)
    for i in range(n):
        there = np.arange(rows) <= last[i]
        np.testing.assert_array_equal(out[there, :, i], np.eye(5)[labels[i][: last[i] + 1]])
        expected = np.where(there, weights[i][:rows] if i % 3 else 1, 0).astype(dtype)
        np.testing.assert_array_equal(w[:, 0, i], expected)
        assert count[0, i] == pytest.approx(expected.sum(dtype="f8"), rel=1e-14)


@ONE_DTYPE
@pytest.mark.parametrize("target", EVERY_TARGET)
def test_only_networks_that_are_due_are_copied(dtype, target):
    n = GROUP[dtype]
    x, out, due = group_of([np.ones(5, dtype)] * n), group_of([np.zeros(5, dtype)] * n), np.arange(n) % 2
    call_group(dtype, target, "group_copy", x=x, out=out, due=due.ctypes.data)
    np.testing.assert_array_equal(out, np.broadcast_to(due.astype(dtype), (5, n)))


# ---- products ----

SHAPES = [(1, 1, 1), (32, 16, 8), (7, 3, 19), (1, 9, 5), (13, 1, 4), (2, 30, 3), (33, 10, 2)]
SHAPES += [tuple(int(v) for v in rng.integers(1, 40, 3)) for _ in range(8)]


@pytest.mark.pairs
@pytest.mark.parametrize("lies", ["rows", "A transposed", "B transposed"])
@ONE_DTYPE
@pytest.mark.parametrize(("target", "shape"), on_targets(SHAPES, SHAPES[1:4]))
def test_products(shape, lies, dtype, target):
    """C = C0 + A @ B of each network, in ranges whose epilogues see complete columns; C0 may be C."""
    m, n, k = shape
    count = GROUP[dtype]
    a, b, c = (rng.standard_normal((*sizes, count)).astype(dtype) for sizes in ((m, k), (k, n), (m, n)))
    expected = c + np.einsum("mkg,kng->mng", a.astype("f8"), b.astype("f8"))
    operands = [group_of(list(np.moveaxis(each, -1, 0))) for each in (a, b, c)]
    of_a, of_b, of_c = map(matrix, operands)
    if lies == "A transposed":
        turned = group_of(list(np.moveaxis(a, -1, 0).transpose(0, 2, 1)))
        of_a = matrix(turned).T
    if lies == "B transposed":
        turned = group_of(list(np.moveaxis(b, -1, 0).transpose(0, 2, 1)))
        of_b = matrix(turned).T
    run_group(dtype, target, lambda program: matmul.matmul(program, of_c, of_a, of_b, of_c))
    np.testing.assert_allclose(operands[2], expected, atol=4 * EPS[dtype] * (k + 4))


@ONE_DTYPE
@pytest.mark.parametrize("target", EVERY_TARGET)
@pytest.mark.parametrize(("m", "n", "k"), [(9, 5, 65), (4, 33, 200), (13, 1, 129), (1, 3, 300)])
def test_long_sums_are_added_in_pieces_with_the_same_bits(m, n, k, dtype, target, monkeypatch):
    """They start from a row that all samples share, and go on from what C holds."""
    a, b, row = (rng.standard_normal((GROUP[dtype], *shape)).astype(dtype) for shape in ((m, k), (k, n), (1, n)))
    of_a, of_b, of_row = (group_of(list(each)) for each in (a, b, row))
    results, counts = [], []
    for terms in (7, 64, 2**20):
        monkeypatch.setattr(matmul, "GROUP_SUM", terms)
        out, names = group_of([np.full((m, n), np.nan, dtype)] * GROUP[dtype]), []

        def write(program, out=out, names=names):
            matmul.matmul(program, matrix(out), matrix(of_a), matrix(of_b), matrix(of_row).broadcast(m))
            names += [name for name, *_ in program.operations]

        run_group(dtype, target, write)
        results.append(out.copy())
        counts.append(len(names))
    expected = row.astype("f8") + a.astype("f8") @ b.astype("f8")
    np.testing.assert_allclose(np.moveaxis(results[2], -1, 0), expected, atol=4 * EPS[dtype] * (k + 4))
    np.testing.assert_array_equal(results[0], results[2])
    np.testing.assert_array_equal(results[1], results[2])
    assert [count // counts[2] for count in counts] == [-(-k // 7), -(-k // 64), 1]


@ONE_DTYPE
@pytest.mark.parametrize("target", EVERY_TARGET)
@pytest.mark.parametrize("rows", [1, 7, 8, 19])
def test_column_sums_have_the_bits_of_a_single_network_and_zeros_behind_change_none(rows, dtype, target):
    n, cols = GROUP[dtype], 7
    d = rng.standard_normal((n, rows, cols)).astype(dtype)
    one = group_of([np.ones((1, 1), dtype)] * n)
    zeros = group_of([np.zeros((1, cols), dtype)] * n)
    sums = []
    for more in (0, 5):
        long = group_of([np.vstack([each, np.zeros((more, cols), dtype)]) for each in d])
        out = group_of([np.zeros((1, cols), dtype)] * n)
        first = matrix(one)
        ones = Matrix(first.address, 1, rows + more, 0, 0, first.dtype)
        operands = matrix(out), matrix(long), ones, matrix(zeros)
        run_group(dtype, target, lambda program, operands=operands: matmul.column_sums(program, *operands))
        sums.append(out[0].copy())
    np.testing.assert_array_equal(*sums)
    for i in range(n):
        out, memory = padded(np.zeros((1, cols), dtype)), padded(d[i])
        of_one = plain(out)[:, :cols], plain(memory)[:, :cols], plain(np.ones(rows, dtype)), plain(np.zeros(512, dtype))
        run(dtype, lambda program, operands=of_one: matmul.column_sums(program, *operands), target)
        np.testing.assert_array_equal(sums[0][:, i], out[0, :cols])


# ---- where things lie ----


def test_records_of_a_group_hold_each_number_of_all_networks():
    for record in (STEP, STATE):
        many = of_networks(record, 16)
        assert many.itemsize == 16 * record.itemsize
        for name, (kind, place) in record.fields.items():
            assert many.fields[name][1] == 16 * place
            assert many.fields[name][0].shape == (*kind.shape, 16)
        assert of_networks(record, 1) is record


@ONE_DTYPE
def test_a_layout_of_a_group_has_an_element_a_number_and_blocks_of_as_many_rows(dtype):
    layout = Layout([5, 7, 2], ["tanh", "identity"], "quadratic", dtype)
    group = layout.group
    assert (group.networks, group.itemsize, group.block_rows) == (GROUP[dtype], LINE_BYTES, layout.block_rows)
    assert sorted(group.elements) == list(range(6 * 7 + 8 * 2)) == list(range(group.n_bytes // LINE_BYTES))
