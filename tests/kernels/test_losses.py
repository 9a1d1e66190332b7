"""Losses taken from the logits: against the reference on every target, by central differences, at the limits."""

import copy
import functools
import pathlib
import pickle
import re
import typing

import numpy as np
import pytest

import fastnn
from fastnn import SGD, Dense, Huber, Model, Quantile
from fastnn.kernels import reference
from fastnn.kernels.formulas import loss_functions
from fastnn.kernels.programs import records
from fastnn.kernels.vector.library import library
from fastnn.settings.layers import NAMES

from .. import cases
from ..cases import DTYPES, EPS
from ..differences import central_differences
from .kernel_calls import EVERY_TARGET, HOW, Net, activate, call, matrix, padded
from .kernel_calls import loss as loss_of

rng = np.random.default_rng(11)
# By output activation.
CROSS_ENTROPIES = {"softmax": "softmax_cross_entropy", "sigmoid": "sigmoid_cross_entropy"}
# By the kernel's name of a loss; that with two outputs a target is in `test_gaussian`.
OUTPUTS = {name: name.split("_")[0] for name in reference.LOGIT_LOSSES if loss_functions.LOSSES[name].outputs == 1}


def targets(kind, rows, n_out, dtype):
    """(what the kernels get, the rows of float64 that it stands for)."""
    if kind == "labels":
        labels = rng.integers(0, n_out, rows)
        return labels.astype(np.int32), reference.one_hot(labels, n_out)
    values = rng.random((rows, n_out))
    values = (values / values.sum(axis=1, keepdims=True)).astype(dtype)
    return values, values.astype("f8")


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", EVERY_TARGET)
@pytest.mark.parametrize("shape", [(1, 2), (3, 10), (17, 16), (5, 33), (40, 3)])
@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("name", OUTPUTS)
def test_a_loss_and_its_derivative(name, columns, shape, dtype, target):
    """What lies in the padding counts neither in the maximum nor in the sum."""
    rows, n = shape
    _, value, slope = reference.LOGIT_LOSSES[name]
    if "clipped" in name:
        value = functools.partial(value, most=reference.CLIPS[dtype])
    z = (20 * rng.standard_normal(shape)).astype(dtype)
    y, _ = targets("values", rows, n, dtype)
    (z_there, y_there) = ((a.T if columns else a) for a in (z, y))
    a, b = padded(z_there), padded(y_there)
    length = z_there.shape[1]
    a[:, length:] = 1000
    d, total = np.full_like(a, np.nan), np.array([7.0])
    suffix = "_columns" if columns and OUTPUTS[name] == "softmax" else ""
    given = {"d": d[:, :length], "a": a[:, :length], "y": b[:, :length], "scale": np.array([0.25]), "total": total}
    call(dtype, name + suffix, target, **given)
    got = d[:, :length].T if columns else d[:, :length]
    z, y = z.astype("f8"), y.astype("f8")
    np.testing.assert_allclose(total[0] - 7, value(z, y), rtol=20 * EPS[dtype])
    np.testing.assert_allclose(got, 0.25 * slope(z, y), atol=4 * EPS[dtype], rtol=4 * EPS[dtype])
    assert not d[:, length:].any()


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", EVERY_TARGET)
@pytest.mark.parametrize("n", [2, 5, 16, 100])
def test_softmax(n, dtype, target):
    z = (10 * rng.standard_normal((9, n))).astype(dtype)
    a = padded(z)
    a[:, n:] = 1000
    call(dtype, "softmax", target, out=matrix(a[:, :n]), z=matrix(a[:, :n]))
    np.testing.assert_allclose(a[:, :n], reference.softmax(z.astype("f8")), atol=4 * EPS[dtype])
    assert not a[:, n:].any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", EVERY_TARGET)
def test_the_logarithm_that_the_value_needs(dtype, target):
    """Through softmax: log(sum of exp(z)) of two equal logits is z + log(2), whatever z is."""
    for z in (0.0, 1e-3, 50.0, -50.0, 1e4):
        logits, y = padded(np.full((1, 2), z, dtype)), padded(np.array([[0.25, 0.75]], dtype))
        d, total = np.empty_like(logits), np.zeros(1)
        given = {"d": d[:, :2], "a": logits[:, :2], "y": y[:, :2], "scale": np.ones(1), "total": total}
        call(dtype, "softmax_cross_entropy", target, **given)
        np.testing.assert_allclose(total[0], np.log(2), rtol=4 * EPS[dtype])
        np.testing.assert_allclose(d[0, :2], [0.25, -0.25], rtol=4 * EPS[dtype])
    assert np.isnan(activate("exp", [np.nan], dtype, target)).all()


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", EVERY_TARGET)
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("batch_size", [1, 7, 32])
@pytest.mark.parametrize("kind", ["labels", "values"])
@pytest.mark.parametrize("name", OUTPUTS)
def test_training_as_the_reference_does(name, kind, batch_size, how, dtype, target, orientation):
    output = OUTPUTS[name]
    sizes, rows = [5, 18, 7], 61
    n = Net(sizes, ["tanh", output], dtype, 3, loss=name, target=target, orientation=orientation(how))
    x = rng.standard_normal((rows, 5)).astype(dtype)
    y, y_rows = targets(kind, rows, 7, dtype)
    order = np.array([rng.permutation(rows) for _ in range(2)], np.int32)
    outputs = reference.forward(n.twin, x.astype("f8"))[-1]
    want_value, want_gradient = reference.gradients(n.twin, x.astype("f8"), y_rows, name)
    out = np.empty((rows, 7), dtype)
    assert n.sweep(x, y, out) == pytest.approx(want_value / rows, rel=50 * EPS[dtype])
    np.testing.assert_allclose(out, outputs, atol=20 * EPS[dtype], rtol=20 * EPS[dtype])
    n.sweep(x, out=out)
    np.testing.assert_allclose(out, outputs, atol=20 * EPS[dtype], rtol=20 * EPS[dtype])
    value, gradient = n.gradients(x, y)
    assert value == pytest.approx(want_value / rows, rel=50 * EPS[dtype])
    for got, pair in zip(n.layout.views(gradient), want_gradient, strict=True):
        for g, w in zip(got, pair, strict=True):
            np.testing.assert_allclose(g, w / rows, atol=50 * EPS[dtype])
    assert not n.padding(gradient).any()
    rate = 0.3 if output in CROSS_ENTROPIES else 0.02
    want_losses, want = reference.train(n.twin, x.astype("f8"), y_rows, order, batch_size, rate, loss_name=name)
    done = n.train(x, y, batch_size, (rate,), 2, records.GIVEN, order)
    np.testing.assert_allclose(done.losses, want_losses, rtol=500 * EPS[dtype])
    for got, pair in zip(n.layout.views(n.parameters), want, strict=True):
        for g, w in zip(got, pair[:2], strict=True):
            np.testing.assert_allclose(g, w, atol=500 * EPS[dtype])
    assert not n.padding(n.parameters).any()


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", EVERY_TARGET)
@pytest.mark.parametrize(
    ("name", "parameter"),
    [("absolute_error", ()), ("log_cosh", ()), ("huber", (1.0,)), ("huber", (0.75,)), ("quantile", (0.25,))],
)
def test_losses_of_large_small_and_no_errors(name, parameter, target, dtype):
    """A single error at a time: the value's relative error, the ends, NaN."""
    value, slope = reference.LOSSES[name]
    given = {"parameter": parameter[0]} if parameter else {}
    for e in (0.0, 1e-5, -1e-3, 0.7, 0.76, -1.0, 1.5, 30.0, -300.0):
        got, d = loss_of(name, np.array([[e]]), np.zeros((1, 1)), 1.0, dtype, target, **given)
        e = float(np.dtype(dtype).type(e))
        assert got == pytest.approx(value(np.array(e), 0.0, *parameter), rel=8 * EPS[dtype])
        assert d[0, 0] == pytest.approx(slope(np.array(e), 0.0, *parameter), rel=8 * EPS[dtype])
    for e in (np.inf, -np.inf, np.nan):
        got, d = loss_of(name, np.array([[e]]), np.zeros((1, 1)), 1.0, dtype, target, **given)
        np.testing.assert_array_equal([got, d[0, 0]], [abs(e), slope(np.array(e), 0.0, *parameter)])


ARCTANH = {"sigmoid": 1.0, "hard_sigmoid": 1.0, "tanh": 2.0}  # how far apart outputs can be


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", EVERY_TARGET)
@pytest.mark.parametrize("output", ARCTANH)
def test_arctanh_error_near_no_error_and_near_the_largest(output, target, dtype):
    """Relative accuracy everywhere; from |e| = 1 on a straight line of slope 17, FANN's limit."""
    wide, name = ARCTANH[output], f"{output}_arctanh_error"
    near = [10.0**-i for i in range(7)]
    errors = np.array([0.0, *near, *(1 - e for e in near), 0.3, 0.49, 0.5, 0.51, 0.7, 1.0, 1.25, 3.0, 1e6])
    for e in np.concatenate([errors, -errors]).astype(dtype):
        value, d = loss_of(name, np.array([[wide * e]]), np.zeros((1, 1)), 1.0, dtype, target)
        want, slope = reference.loss(name, np.array([[wide * float(e)]]), np.zeros((1, 1)))
        assert value == pytest.approx(want, rel=12 * EPS[dtype], abs=4e-15)  # of a sum that starts at 7
        assert d[0, 0] == pytest.approx(slope[0, 0], rel=8 * EPS[dtype])
        assert abs(d[0, 0]) <= 17
    for e, value, slope in [
        (1, 2 * np.log(2), 17),
        (-1, 2 * np.log(2), -17),
        (0.5, 1.5 * np.log(3) - 2 * np.log(2), np.log(3)),
    ]:
        got, d = loss_of(name, np.array([[wide * e]]), np.zeros((1, 1)), 1.0, dtype, target)
        assert got == pytest.approx(wide * value, rel=8 * EPS[dtype])
        assert d[0, 0] == pytest.approx(slope, rel=8 * EPS[dtype])
    for e, slope in ((np.inf, 17), (-np.inf, -17), (np.nan, np.nan)):
        got, d = loss_of(name, np.array([[e]]), np.zeros((1, 1)), 1.0, dtype, target)
        np.testing.assert_array_equal([got, d[0, 0]], [abs(e), slope])


@pytest.mark.parametrize("how", ["row-major", "feature-major"])
@pytest.mark.parametrize("output", ARCTANH)
def test_arctanh_error_by_central_differences(output, how, orientation):
    """Targets beyond the output's range are among them, but none at an error of 1, where the slope is infinite."""
    orientation(how)
    model = Model([4, Dense(5, "tanh"), Dense(3, output)], loss="arctanh_error", dtype="float64", rng=0)
    x = rng.standard_normal((20, 4))
    y = model.predict(x) + ARCTANH[output] * rng.choice([-1.5, -0.9, -0.4, 1e-3, 0.6, 1.2], (20, 3))
    for (dw, db), w, b in zip(model.gradients(x, y), model.weights, model.biases, strict=True):
        for array, analytic in ((w, dw), (b, db)):
            assert central_differences(lambda: model.loss(x, y), array) == pytest.approx(analytic, abs=1e-7)


@pytest.mark.parametrize("output", ["identity", "softmax", "relu", "step", "exp"])
def test_arctanh_error_needs_an_output_that_is_bounded(output):
    with pytest.raises(ValueError, match=f"loss 'arctanh_error' does not go with the output activation '{output}'"):
        Model([2, 3], output=output, loss="arctanh_error")


@pytest.mark.parametrize("output", ["sigmoid", "tanh"])
def test_arctanh_error_is_saved(output, tmp_path):
    model = Model([3, 4, 2], output=output, loss="arctanh_error", rng=0)
    x, y = rng.standard_normal((30, 3)), rng.integers(0, 2, 30)
    model.fit(x, y, epochs=3, batch_size=7, optimizer=SGD(0.1))
    model.save(tmp_path / "model.safetensors")
    loaded = fastnn.load(tmp_path / "model.safetensors")
    assert loaded.loss_name == "arctanh_error"
    assert loaded.loss(x, y) == model.loss(x, y)
    outputs = model.predict(x).astype("f8")
    want, _ = reference.loss(f"{output}_arctanh_error", outputs, np.eye(2)[y])
    assert model.loss(x, y) == pytest.approx(want / 30, rel=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", EVERY_TARGET)
def test_the_hinge_by_hand(dtype, target):
    """(logit, target): value and slope; 0 and -1 mean the same."""
    cases = [(0, 1, 1, -1), (0, -1, 1, 1), (0.5, 1, 0.5, -1), (0.5, 0, 1.5, 1), (1, 1, 0, 0), (-3, 0, 0, 0)]
    cases += [(-np.inf, 1, np.inf, -1), (np.inf, 1, 0, 0), (np.nan, 1, np.nan, np.nan)]
    for z, y, value, slope in cases:
        got, d = loss_of("identity_hinge", np.array([[z]]), np.array([[y]]), 1.0, dtype, target)
        np.testing.assert_array_equal([got, d[0, 0]], [value, slope])


@pytest.mark.parametrize(
    "loss", ["quadratic", "absolute_error", "huber", Huber(0.7), "log_cosh", Quantile(0.8)], ids=str
)
@pytest.mark.parametrize("how", ["row-major", "feature-major"])
def test_gradients_of_errors_by_central_differences(how, loss, orientation):
    """Targets lie so far from the outputs, or so near, that no error crosses a corner."""
    orientation(how)
    model = Model([4, Dense(5, "tanh"), Dense(3, "identity")], loss=loss, dtype="float64", rng=0)
    x = rng.standard_normal((20, 4))
    y = model.predict(x) + rng.choice([-3.0, -0.4, 0.5, 2.0], (20, 3))
    for (dw, db), w, b in zip(model.gradients(x, y), model.weights, model.biases, strict=True):
        for array, analytic in ((w, dw), (b, db)):
            assert central_differences(lambda: model.loss(x, y), array) == pytest.approx(analytic, abs=1e-8)


@pytest.mark.parametrize("loss", ["absolute_error", "huber", Huber(0.1), "log_cosh", "quantile"], ids=str)
def test_a_line_through_outliers(loss):
    """Most samples lie on a line; a tenth of them far above it. The quadratic cost follows these."""
    x = np.linspace(-1, 1, 200)[:, None]
    y = 2 * x[:, 0] + 1
    y[::10] += 20
    slopes = {}
    for name in ("quadratic", loss):
        model = Model([1, 1], output="identity", loss=name, dtype="float64", init="zeros", rng=0)
        model.fit(x, y, epochs=300, batch_size=20, optimizer=SGD(0.05))
        slopes[name] = abs(model.biases[0][0] - 1)
    assert slopes[loss] < 0.3
    assert slopes["quadratic"] > 1.5


@pytest.mark.parametrize("loss", OUTPUTS)
@pytest.mark.parametrize("how", HOW)
def test_gradients_by_central_differences(how, loss, orientation):
    n = Net([4, 5, 3], ["sigmoid", OUTPUTS[loss]], "float64", 5, loss=loss, orientation=orientation(how))
    x = rng.standard_normal((20, 4))
    y, _ = targets("values", 20, 3, "float64")
    _, gradient = n.gradients(x, y)
    numeric = central_differences(lambda: n.sweep(x, y), n.parameters, places=n.used)
    assert numeric[n.used] == pytest.approx(gradient[n.used], abs=1e-8)


@pytest.mark.pairs
@pytest.mark.parametrize("loss", OUTPUTS)
@pytest.mark.parametrize("sizes", [[20, 70, 40], [4, 24, 3]])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("activation", ["tanh", "gelu"])
def test_any_number_of_threads_gives_the_same_bits(activation, loss, sizes, optimizer):
    n, batch_size = 600, 300
    x = rng.standard_normal((n, sizes[0])).astype("f4")
    y, _ = targets("labels", n, sizes[-1], "f4")
    settings = {"sgd": (0.1,), "adam": (0.01, 0.9, 0.999, 1e-8)}[optimizer]
    results = []
    for threads in (1, 2, 3):
        net = Net(sizes, [activation, OUTPUTS[loss]], "float32", 3, loss=loss)
        done = net.train(x, y, batch_size, settings, 2, records.DRAWN, optimizer=optimizer, threads=threads)
        results.append((net.parameters.tobytes(), done.losses.tobytes()))
    assert len(set(results)) == 1


@pytest.mark.parametrize("output", CROSS_ENTROPIES)
def test_the_value_is_finite_for_any_logits(output):
    largest = float(np.finfo("f4").max)
    model = Model([2, 3], output=output, loss="cross_entropy", init="zeros")
    model.biases[0][:] = [largest, -largest, 0]
    X = np.zeros((3, 2))
    assert np.isfinite(model.loss(X, [0, 1, 2]))
    assert np.isfinite(model.gradients(X, [0, 1, 2])[0][1]).all()
    np.testing.assert_allclose(model.predict(X)[0][[0, 1]], [1, 0])
    assert model.loss(X, [0, 0, 0]) < (1 if output == "softmax" else largest)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("z", [-80.0, -20.0, -1e-3, 0.0, 3.0, 40.0])
def test_one_output_decides_between_two_classes(z, dtype):
    """The value keeps its relative accuracy where it is small."""
    model = Model([1, 1], loss="cross_entropy", init="zeros", dtype=dtype)
    model.biases[0][:] = z
    z = float(model.biases[0][0])
    want = [np.log1p(np.exp(z)), np.log1p(np.exp(-z))]
    for label in (0, 1):
        assert model.loss([[0]], [label]) == pytest.approx(want[label], rel=4 * EPS[dtype], abs=1e-37)
        assert model.gradients([[0]], [label])[0][1][0] == pytest.approx(
            1 / (1 + np.exp(-z)) - label, rel=4 * EPS[dtype]
        )
    assert model.evaluate([[0], [0]], [0, 1])["accuracy"] == 0.5


def test_every_activation_and_loss_is_documented():
    path = pathlib.Path(__file__).parents[2] / "docs" / "how-to" / "training.md"
    if not path.is_file():
        pytest.skip("the tests do not lie in a checkout, which has the page")
    page = path.read_text()
    for names, docstring in ((NAMES, Dense.__doc__), (loss_functions.NAMES, Model.__doc__)):
        for text in (page, docstring):
            assert {f'"{name}"' for name in names} <= set(re.findall(r'"[a-z_]+"', text))


def test_a_row_states_its_targets():
    with pytest.raises(TypeError, match="'targets'"):
        loss_functions.LossFormula(loss_functions.LOSSES["quadratic"].function)
    kinds = typing.get_args(loss_functions.TargetsKind)
    assert {row.targets for row in loss_functions.LOSSES.values()} == set(kinds)


@pytest.mark.parametrize("name", cases.LOSSES)
def test_a_loss_takes_the_targets_that_its_row_states(name):
    """Each kind allows what is here beside it, and no more."""
    rows = {"half": [0.5, 0.5], "above": [2.0, 0.5], "below": [-1.0, 1.0], "one": [0.0, 1.0], "two": [1.0, 1.0]}
    taken = {
        "any": {*rows},
        "numbers": {*rows},
        "counts": {"half", "above", "one", "two"},
        "signs": {"below", "one", "two"},
        "probabilities": {"half", "one", "two"},
        "distributions": {"half", "one"},
    }
    output = next((each for each in NAMES if name.startswith(f"{each}_")), "identity")
    loss = name.removeprefix(f"{output}_")
    model = Model([1, 2 * loss_functions.LOSSES[name].outputs], output=output, loss=loss, rng=0)
    assert loss_functions.kernel_name(loss, output) == name
    for what, y in rows.items():
        if what in taken[loss_functions.LOSSES[name].targets]:
            assert np.isfinite(model.loss([[0.5]], [y]))
        else:
            with pytest.raises(ValueError, match=r"y must hold|must sum to 1"):
                model.loss([[0.5]], [y])


def at_the_wrong_end(output, loss):
    """(model, X, labels): a fifth of the samples are of class 0, for which output 0 says no, as for all others."""
    labels = (np.arange(3000) % 5 > 0).astype(int)
    model = Model([2, 2], output=output, loss=loss, init="zeros", dtype="float64", rng=0)
    model.biases[0][0] = -20
    model.weights[0][1] = [-10, 10]
    return model, np.eye(2)[labels], labels


STILL = fastnn.Rprop(1e-6, smallest=1e-6, largest=1e-6)  # takes steps too small to matter


@pytest.mark.pairs
@pytest.mark.parametrize(
    "optimizer", [STILL, fastnn.LBFGS(), fastnn.LevenbergMarquardt()], ids=lambda o: type(o).__name__
)
@pytest.mark.parametrize("output", ["sigmoid", "hard_sigmoid", "tanh"])
@pytest.mark.parametrize("loss", ["quadratic", "arctanh_error"])
@pytest.mark.parametrize("weights", [None, np.linspace(0.5, 1.5, 3000)], ids=["", "weighted"])
def test_a_fit_that_ends_saturated_and_wrong_says_so(weights, loss, output, optimizer):
    if loss != "quadratic" and isinstance(optimizer, fastnn.LevenbergMarquardt):
        pytest.skip("LevenbergMarquardt takes the quadratic loss alone")
    model, X, labels = at_the_wrong_end(output, loss)
    y = 2 * np.eye(2)[labels] - 1 if output == "tanh" else labels
    options = {"epochs": 2, "batch_size": 3000, "optimizer": optimizer, "sample_weight": weights}
    match = r"9\d% .* wrong end of '\w+', and output 0 is there for half|100% .* output 0 is there for half"
    with pytest.warns(UserWarning, match=f"training may be stuck: ({match})"):
        model.fit(X, y, **options)


@pytest.mark.parametrize(
    ("output", "loss", "advice"),
    [
        ("sigmoid", "quadratic", 'loss="arctanh_error"'),
        ("hard_sigmoid", "quadratic", 'loss="arctanh_error"'),
        ("tanh", "arctanh_error", "fit(min_derivative=0.0396) by Rprop"),
        ("hard_sigmoid", "arctanh_error", ""),  # it has no min_derivative
    ],
)
def test_a_fit_that_ends_saturated_and_wrong_says_what_goes_with_the_output(output, loss, advice):
    model, X, labels = at_the_wrong_end(output, loss)
    y = 2 * np.eye(2)[labels] - 1 if output == "tanh" else labels
    end = f'with loss="cross_entropy"; where the output must stay, {advice}.' if advice else 'loss="cross_entropy".'
    with pytest.warns(UserWarning, match="training may be stuck: .*" + re.escape(end) + "$"):
        model.fit(X, y, epochs=1, batch_size=3000, optimizer=STILL)


@pytest.mark.filterwarnings("ignore:y holds numbers:UserWarning")
def test_targets_beyond_the_range_are_not_the_wrong_end():
    """Outputs of 1/2, or at the right end, may have errors above 1."""
    for bias in (0, 20):
        model = Model([1, 1], init="zeros", rng=0)
        model.biases[0][:] = bias
        model.fit(np.zeros((100, 1)), np.full(100, 3.0), epochs=1, batch_size=100, optimizer=STILL)
        assert model.loss(np.zeros((100, 1)), np.full(100, 3.0)) > 1


def share_at_the_wrong_end(model, X, y):
    """Of the squared error."""
    squares = (model.predict(X) - y.reshape(len(X), -1)).astype("f8") ** 2
    return squares[squares > 0.98].sum() / squares.sum()


def test_outputs_at_the_wrong_end_without_a_warning():
    """Warnings are errors: there is none of steps by batches, of no epoch, and of cross-entropy."""
    for options in ({"optimizer": SGD(1e-6)}, {"optimizer": STILL, "epochs": 0}):
        model, X, labels = at_the_wrong_end("sigmoid", "quadratic")
        model.fit(X, labels, **{"epochs": 1, "batch_size": 3000} | options)
        assert share_at_the_wrong_end(model, X, np.eye(2)[labels]) > 0.99
    model, X, labels = at_the_wrong_end("sigmoid", "cross_entropy")
    model.fit(X, labels, epochs=1, batch_size=3000, optimizer=STILL)
    assert share_at_the_wrong_end(model, X, np.eye(2)[labels]) > 0.99


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [fastnn.Rprop(), fastnn.LBFGS()], ids=["Rprop", "LBFGS"])
@pytest.mark.parametrize("outputs", [1, 2])
def test_wrong_labels_give_no_warning(outputs, optimizer):
    """Of a tenth of the samples, which the network then has at the wrong end."""
    draw = np.random.default_rng(0)
    X = draw.standard_normal((500, 10))
    y = (X[:, 0] * X[:, 1] + X[:, 0] > 0) ^ (draw.random(500) < 0.1)
    model = Model([10, 10, outputs], rng=1)
    model.fit(X, y.astype(int), epochs=1000, batch_size=500, optimizer=optimizer)
    assert share_at_the_wrong_end(model, X, np.eye(2)[y.astype(int)] if outputs == 2 else y) > 0.3


@pytest.mark.parametrize("optimizer", [fastnn.Rprop(), fastnn.LBFGS()], ids=["Rprop", "LBFGS"])
def test_a_rare_class_that_nothing_tells_gives_no_warning(optimizer):
    """Its share of 0.4% is the best output, which is at the wrong end for all of its samples."""
    y = (np.arange(1000) % 250 == 0).astype(int)
    model = Model([1, 1], init="zeros", dtype="float64", rng=0)
    model.fit(np.zeros((1000, 1)), y, epochs=1000, batch_size=1000, optimizer=optimizer)
    assert model.predict([[0]])[0, 0] < 0.01
    assert share_at_the_wrong_end(model, np.zeros((1000, 1)), y) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("epochs", [1, 10, 40])
def test_xor_unfinished_gives_no_warning(epochs):
    X, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 1, 0])
    for seed in range(5):
        for optimizer in (fastnn.Rprop(), fastnn.LBFGS()):
            model = Model([2, 3, 1], rng=seed)
            model.fit(X, y, epochs=epochs, batch_size=4, optimizer=optimizer)
            assert np.isfinite(model.history.loss).all()


def test_sparse_samples_and_images_at_the_wrong_end():
    scipy_sparse = pytest.importorskip("scipy.sparse", reason="sparse samples need SciPy")
    for of in (scipy_sparse.csr_array, lambda X: X.astype(np.uint8)):
        model, X, labels = at_the_wrong_end("sigmoid", "quadratic")
        with pytest.warns(UserWarning, match="training may be stuck"):
            model.fit(of(X), labels, epochs=1, batch_size=3000, optimizer=STILL)


def test_nan_stays_visible():
    model = Model([2, 3], output="softmax", loss="cross_entropy", rng=0)
    X = np.array([[0, 1], [np.nan, 0]], "f4")
    out = model.predict(X)
    assert np.isfinite(out[0]).all()
    assert np.isnan(out[1]).all()


def test_softmax_learns_three_classes(blobs):
    X, y = blobs
    model = Model([6, 12, 3], output="softmax", loss="cross_entropy", rng=0)
    model.fit(X, y, epochs=60, batch_size=20, optimizer="adam", validation_data=(X, y))
    outputs = model.predict(X)
    np.testing.assert_allclose(outputs.sum(axis=1), 1, rtol=1e-5)
    assert model.evaluate(X, y)["accuracy"] == np.mean(outputs.argmax(axis=1) == y)
    assert model.history.val_loss[-1] == pytest.approx(-np.log(outputs[np.arange(len(y)), y]).mean(), rel=1e-5)
    assert model.history.val_loss[-1] < 0.5 * model.history.val_loss[0]
    large = np.tile(X, (20, 1))
    np.testing.assert_array_equal(model.predict(large)[: len(X)], outputs)
    np.testing.assert_allclose(np.concatenate([model.predict(row[None]) for row in X[:5]]), outputs[:5], rtol=1e-5)


@pytest.mark.pairs
@pytest.mark.parametrize(("loss", "parameter"), [("huber", 0.4), ("quantile", 0.9)])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("batch_size", [1, 32])
def test_training_with_a_parameter(batch_size, how, weighted, loss, parameter, monkeypatch, orientation):
    """By the reference's gradient with that parameter; on several threads too."""
    chosen = orientation(how)
    value, slope = reference.LOSSES[loss]
    fixed = lambda a, y: value(a, y, parameter), lambda a, y: slope(a, y, parameter)
    monkeypatch.setitem(reference.LOSSES, loss, fixed)
    x, y = rng.standard_normal((61, 40)), rng.standard_normal((61, 30))
    weights = rng.uniform(0.1, 2, 61) if weighted else None
    order = np.array([rng.permutation(61)], np.int32)
    for threads in (1, 2):
        n = Net([40, 70, 30], ["tanh", "identity"], "float64", 3, loss, parameter=parameter, orientation=chosen)
        want_losses, want = reference.train(n.twin, x, y, order, batch_size, 0.02, loss_name=loss, weights=weights)
        options = {"weights": weights, "threads": threads if batch_size > 1 else 1}
        done = n.train(x, y, batch_size, (0.02,), 1, records.GIVEN, order, **options)
        np.testing.assert_allclose(done.losses, want_losses, rtol=1e-10)
        for got, pair in zip(n.layout.views(n.parameters), want, strict=True):
            for g, w in zip(got, pair[:2], strict=True):
                np.testing.assert_allclose(g, w, atol=1e-10)


def test_a_parameter_is_not_compiled():
    """Another one is another argument of the same function."""
    X, y = rng.standard_normal((40, 3)), rng.standard_normal(40)
    compiled, values = [], set()
    for delta in (0.1, 0.37, 2.0):
        model = Model([3, 1], output="identity", loss=Huber(delta), rng=0)
        model.fit(X, y, epochs=1, batch_size=8, sample_weight=np.ones(40))
        values.add(model.loss(X, y))
        compiled.append(set(library("float32")._addresses))
    assert compiled[0] == compiled[1] == compiled[2]
    assert len(values) == 3


@pytest.mark.parametrize("kind", ["one output", "classes"])
@pytest.mark.parametrize("how", HOW)
def test_a_support_vector_machine(how, kind, blobs, orientation):
    """A linear layer with the hinge loss separates, whichever numbers stand for the classes."""
    orientation(how)
    X, y = blobs
    if kind == "one output":
        X, y = X[y < 2], y[y < 2]
    model = Model([6, 1 if kind == "one output" else 3], output="identity", loss="hinge", init="zeros", rng=0)
    model.fit(X, y, epochs=50, batch_size=10, optimizer=SGD(0.05), l2=1e-3)
    assert model.evaluate(X, y)["accuracy"] == np.mean(model.classify(X) == y) > 0.85
    signs = np.where(reference.one_hot(y, 3)[:, 1:2] if kind == "one output" else reference.one_hot(y, 3), 1.0, -1.0)
    assert model.loss(X, signs) == model.loss(X, y)
    margins = 1 - signs * model.predict(X)
    assert model.loss(X, y) == pytest.approx(np.maximum(0, margins).sum() / len(X), rel=1e-6)
    if kind == "one output":
        assert model.evaluate(X, signs[:, 0].astype(int)) == model.evaluate(X, signs) == model.evaluate(X, y)
        np.testing.assert_array_equal(model.classify(X), model.predict(X)[:, 0] > 0)


@pytest.mark.parametrize("loss", ["huber", Huber(), Huber(2), Quantile(0.9), "hinge"], ids=str)
def test_a_loss_with_a_parameter_comes_back(loss, tmp_path):
    X, y = rng.standard_normal((30, 4)), rng.choice([-1.0, 1.0], (30, 3))
    model = Model([4, 3], output="identity", loss=loss, rng=0)
    model.save(tmp_path / "model")
    value = model.loss(X, y)
    assert f"loss={loss!r}" in repr(model)
    assert model.loss_name == (loss if isinstance(loss, str) else loss.name)
    for again in (fastnn.load(tmp_path / "model"), pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert repr(again) == repr(model)
        assert again.loss(X, y) == value
    model.replace_head(2)
    model.freeze([])
    assert f"loss={loss!r}" in repr(model)


def test_saved_and_loaded(blobs, tmp_path):
    model = Model([6, Dense(9, "tanh"), Dense(3, "softmax")], loss="cross_entropy", rng=0)
    model.save(tmp_path / "model")
    again = fastnn.load(tmp_path / "model")
    assert repr(again) == repr(model)
    assert again.loss(*blobs) == model.loss(*blobs)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (
            lambda: Model([2, 3], output="softmax"),
            "^loss 'quadratic' does not go with the output activation 'softmax'; "
            "losses that do: 'cross_entropy', 'clipped_cross_entropy'$",
        ),
        (lambda: Model([2, 3], output="tanh", loss="cross_entropy"), "'cross_entropy' does not go with .* 'tanh'"),
        (lambda: Model([2, Dense(3, "softmax"), 2]), "last layer only"),
        (lambda: Model([2, 1], output="softmax", loss="cross_entropy"), "at least two outputs, got 1"),
        (lambda: Model([2, 3], activation="softmax"), "activation must be one of"),
        (lambda: Model([2, 3], loss="hinge"), "'hinge' does not go with the output activation 'sigmoid'"),
        (
            lambda: Model([2, 3], output="softmax", loss=Huber(2.0)),
            "'huber' does not go with the output activation 'softmax'",
        ),
        (lambda: Model([2, 3], loss=Huber), "loss must be one of .*, got <class"),
        (lambda: Huber(0), "delta must be a finite number above 0, got 0"),
        (lambda: Huber(np.inf), "delta must be a finite number above 0, got inf"),
        (lambda: Quantile(1), "q must be a finite number above 0 and below 1, got 1"),
        (lambda: Model([2, 3], loss=Huber(1e-60)), "delta must be a finite number above 0, got 0.0"),
        (lambda: Model([2, 3], loss=Quantile(1 - 1e-12)), "q must be a finite number above 0 and below 1, got 1.0"),
    ],
)
def test_what_does_not_go_together(make, match):
    with pytest.raises(ValueError, match=match):
        make()


def test_replace_head_keeps_to_the_rules(state):
    model = Model([4, 5, 3], output="softmax", loss="cross_entropy", rng=0)
    before = state(model)
    with pytest.raises(ValueError, match="at least two outputs"):
        model.replace_head(1)
    assert state(model) == before
    model.replace_head(2)
    assert model.predict(np.zeros((1, 4))).shape == (1, 2)


@pytest.mark.parametrize(
    ("y", "match"),
    [
        ([[1.0, 1.0, 1.0]], r"each row of y must sum to 1, got 3 in row 0"),
        ([[2.0, -0.5, -0.5]], r"y must hold probabilities in \[0, 1\], got y\[0, 0\] = 2"),
    ],
)
def test_targets_are_probabilities(y, match):
    model = Model([2, 3], output="softmax", loss="cross_entropy", rng=0)
    with pytest.raises(ValueError, match=match):
        model.loss([[0, 1]], y)


@pytest.mark.parametrize(
    ("y", "match"),
    [([0.5, 1], r"got y\[0, 0\] = 0.5"), ([-1, 0], r"got y\[1, 0\] = 0"), ([2, 1], r"got y\[0, 0\] = 2")],
)
def test_targets_of_the_hinge(y, match):
    model = Model([2, 1], output="identity", loss="hinge", rng=0)
    with pytest.raises(ValueError, match="y must hold -1 and 1, or 0 and 1, " + match):
        model.loss([[0, 1], [1, 0]], y)


def test_every_output_with_every_loss():
    """As the table in docs/how-to/training.md says; what goes together has gradients of the right size."""
    of_any = {"quadratic", "absolute_error", "huber", "log_cosh", "quantile"}
    with_output = {
        "softmax": {"cross_entropy", "clipped_cross_entropy"},
        "sigmoid": of_any | {"arctanh_error", "cross_entropy", "clipped_cross_entropy"},
        **dict.fromkeys(("hard_sigmoid", "tanh"), of_any | {"arctanh_error"}),
        "exp": of_any | {"poisson"},
        "identity": of_any | {"hinge", "gaussian"},
    }
    for output in NAMES:
        for loss in loss_functions.NAMES:
            if loss in with_output.get(output, of_any):
                model = Model([2, 4 if loss == "gaussian" else 2], output=output, loss=loss, rng=0)
                assert np.isfinite(model.fit([[1, 2]], [[0, 1]], epochs=1, batch_size=1).loss[0])
            else:
                with pytest.raises(ValueError, match=f"loss '{loss}' does not go with the output"):
                    Model([2, 2], output=output, loss=loss)
