"""Activations and losses of one's own: as the built-in ones, whichever way they are computed, and clear errors."""

import copy
import functools
import gc
import math
import pickle
import re
import sys
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest

import fastnn
from fastnn import SGD, Activation, Dense, Loss, Model
from fastnn.kernels.formulas import user_functions
from fastnn.kernels.formulas.activations import ACTIVATIONS
from fastnn.kernels.vector.cache import CodeFiles
from fastnn.kernels.vector.library import Library, library

from ..cases import DTYPES, EPS
from ..differences import central_differences
from ..kernels.kernel_calls import EVERY_TARGET, HOW, TARGETS_HERE, activate, backward, call, matrix, padded
from ..kernels.kernel_calls import loss as loss_of

rng = np.random.default_rng(21)


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def sigmoid_slope(z):
    a = 1 / (1 + math.exp(-z))
    return a * (1 - a)


def stable_sigmoid(z):
    if z >= 0:
        return 1 / (1 + math.exp(-z))
    e = math.exp(z)
    return e / (1 + e)


def reciprocal(z):
    return 1 / z


def reciprocal_slope(z):
    return -1 / z**2


def squared(a, y):
    return 0.5 * (a - y) ** 2


def difference(a, y):
    return a - y


SIGMOID = Activation(sigmoid, sigmoid_slope)
SQUARED = Loss(squared, difference)
PROBABILITY = Activation(sigmoid, sigmoid_slope, range=(0, 1))


@numba.njit
def normal_below(z):
    return 0.5 * math.erfc(-z / math.sqrt(2))


def gelu(z):
    return z * normal_below(z)


def gelu_slope(z):
    return normal_below(z) + z * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def half_angle(z):
    """tanh by a loop: a continued fraction (Lambert 1768)."""
    x = 0.0
    for k in range(25, 0, -2):
        x = z * z / (k + x)
    return x / z if z != 0 else z


def half_angle_slope(z):
    return 1 - half_angle_of(z) ** 2


half_angle_of = numba.njit(half_angle)


# ---- the functions ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", EVERY_TARGET)
@pytest.mark.parametrize("value", [sigmoid, stable_sigmoid])
def test_a_sigmoid(value, target, dtype):
    name = user_functions.activation(value, sigmoid_slope)
    z = np.concatenate([rng.normal(0, 5, 150), [0, 30, -30]]).astype(dtype)
    want = 1 / (1 + np.exp(-z.astype("f8")))
    np.testing.assert_allclose(activate(name, z, dtype, target), want, rtol=8 * EPS[dtype])
    d = rng.standard_normal(len(z)).astype(dtype)
    np.testing.assert_allclose(backward(name, d, z, dtype, target), d * want * (1 - want), atol=8 * EPS[dtype])
    assert np.isnan(activate(name, [np.nan, 0], dtype, target)).tolist() == [True, False]


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", EVERY_TARGET)
@pytest.mark.parametrize("name", user_functions.MATH)
def test_functions_of_the_library_in_place_of_c(name, target, dtype):
    """Over the whole range, and at the ends."""
    function, right = getattr(math, name), getattr(np, name)
    own = numba.njit(eval(f"lambda z: math.{name}(z)", {"math": math}))
    row = user_functions.activation(own, own)
    assert function.__name__ == name
    low, high = {"log": (-300, 300), "log1p": (-0.99, 50)}.get(name, (-60, 60))
    z = np.concatenate([rng.uniform(low, high, 2000), rng.normal(0, 1, 2000), rng.normal(0, 1e-4, 500)]).astype(dtype)
    if name == "log":
        ends = np.log([float(np.finfo(dtype).smallest_subnormal), float(np.finfo(dtype).max)])
        z = np.exp(np.clip(z.astype("f8"), *(0.999 * ends))).astype(dtype)
    elif name == "log1p":
        z = z[z > -1]
    tiny = 2 * float(np.finfo(dtype).smallest_normal)
    want = right(z.astype("f8"))
    np.testing.assert_allclose(activate(row, z, dtype, target), want, rtol=6 * EPS[dtype], atol=tiny)
    ends = np.array([np.nan, np.inf, -np.inf, 0, -1, -2, 1e30, -1e30], dtype)
    with np.errstate(all="ignore"):
        want = right(ends.astype("f8")).astype(dtype)
    np.testing.assert_allclose(activate(row, ends, dtype, target), want, rtol=6 * EPS[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", TARGETS_HERE, ids=lambda target: target.cpu)
def test_vector_code_is_made_of_it(target, dtype):
    """No call, and no division of a single number, is left."""
    name = user_functions.activation(stable_sigmoid, sigmoid_slope)
    pair = user_functions.loss(squared, difference)
    kind = "float" if dtype == "float32" else "double"
    if target.vector_bytes == 16 and kind == "double":
        pytest.skip("LLVM leaves a loop over two lanes as it is")
    for function in (name, f"{name}_backward", f"{name}_gemv_backward", pair, f"{pair}_weighted"):
        code = str(Library(dtype, target).module(function))
        assert f"x {kind}>" in code
        assert not re.search(r"call (float|double) @fastnn|call i32|fdiv (float|double)", code), function


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", EVERY_TARGET)
@pytest.mark.parametrize(
    ("value", "slope", "built_in"), [(gelu, gelu_slope, "gelu"), (half_angle, half_angle_slope, "tanh")]
)
def test_functions_that_call_or_loop(value, slope, built_in, target, dtype):
    name = user_functions.activation(value, slope)
    z = rng.normal(0, 1.5, 40).astype(dtype)
    a = activate(name, z, dtype, target)
    np.testing.assert_allclose(a, activate(built_in, z, dtype, target), atol=20 * EPS[dtype])
    source = z if built_in == "gelu" else a
    want = backward(built_in, np.ones(40), source, dtype, target)
    np.testing.assert_allclose(backward(name, np.ones(40), z, dtype, target), want, atol=30 * EPS[dtype])


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", EVERY_TARGET)
@pytest.mark.parametrize("shape", [(1, 1), (3, 10), (5, 16), (2, 75)])
def test_a_loss(shape, target, dtype):
    a, y = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    total, d = loss_of(user_functions.loss(squared, difference), a, y, -0.25, dtype, target)
    e = a.astype("f8") - y
    assert total == pytest.approx((e**2).sum() / 2, rel=10 * EPS[dtype])
    np.testing.assert_allclose(d[:, : shape[1]], -0.25 * e, atol=4 * EPS[dtype])
    assert not d[:, shape[1] :].any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", EVERY_TARGET)
def test_padding_is_cleared(target, dtype):
    for n in (1, 7, 16, 33):
        x = padded(rng.standard_normal((3, n)).astype(dtype))
        want = x.copy()
        x[:, n:] = np.nan
        call(dtype, "clear_padding", target, x=matrix(x[:, :n]))
        np.testing.assert_array_equal(x, want)


def test_an_exception_is_nan():
    def positive(z):
        if z < 0:
            raise ValueError("below zero")
        return z

    name = user_functions.activation(positive, positive)
    got = activate(name, [2.0, -1.0, 0.5], "float32")
    np.testing.assert_array_equal(got, [2, np.nan, 0.5])


# ---- in a network ----


def pair_of_models(dtype="float32", loss="quadratic"):
    """With the built-in sigmoid, and with one's own."""
    own = SQUARED if loss == "quadratic" else loss
    return [
        Model([5, Dense(20, f), Dense(9, f), 3], output=f, loss=each, dtype=dtype, rng=0)
        for f, each in (("sigmoid", loss), (SIGMOID, own))
    ]


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("batch_size", [1, 17, 32])
@pytest.mark.parametrize("weighted", [False, True])
def test_training_as_with_the_built_in_one(weighted, batch_size, how, dtype, orientation):
    orientation(how)
    X, y = rng.standard_normal((70, 5)), rng.random((70, 3))
    weights = rng.uniform(0.1, 2, 70) if weighted else None
    models, tolerance = pair_of_models(dtype), 500 * EPS[dtype]
    for model in models:
        model.fit(X, y, epochs=3, batch_size=batch_size, optimizer="adam", sample_weight=weights)
        model.partial_fit(X[:1], y[:1], optimizer="adam")
    built_in, own = models
    np.testing.assert_allclose(own.history.loss, built_in.history.loss, rtol=tolerance)
    np.testing.assert_allclose(own.predict(X), built_in.predict(X), atol=tolerance)
    np.testing.assert_allclose(own.predict(X[:1]), built_in.predict(X[:1]), atol=tolerance)
    layout = own._network.layout
    used = np.zeros(own.parameters.size, bool)
    for w, b in layout.views(used):
        w[...], b[...] = True, True
    assert not own.parameters[~used].any()


@pytest.mark.parametrize("sizes", [[20, 70, 40], [4, 24, 3]])
def test_any_number_of_threads_gives_the_same_bits(sizes):
    X, y = rng.standard_normal((600, sizes[0])), rng.random((600, sizes[-1]))
    results = set()
    for threads in (1, 2, 3):
        model = Model(sizes, activation=SIGMOID, loss=SQUARED, rng=0)
        model.fit(X, y, epochs=30, batch_size=300, optimizer="adam", threads=threads)
        results.add((model.parameters.tobytes(), model.predict(X, threads=threads).tobytes()))
    assert len(results) == 1


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("rows", [1, 13])
def test_gradients_by_central_differences(rows, how, orientation):
    orientation(how)
    quartic = Loss(lambda a, y: (a - y) ** 4, lambda a, y: 4 * (a - y) ** 3)
    swish = Activation(lambda z: z * sigmoid_of(z), lambda z: sigmoid_of(z) * (1 + z * (1 - sigmoid_of(z))))
    model = Model([4, Dense(5, swish), Dense(3, swish)], loss=quartic, dtype="float64", rng=0)
    X, y = rng.standard_normal((rows, 4)), rng.standard_normal((rows, 3))
    for (dw, db), w, b in zip(model.gradients(X, y), model.weights, model.biases, strict=True):
        for array, analytic in ((w, dw), (b, db)):
            assert central_differences(lambda: model.loss(X, y), array) == pytest.approx(analytic, abs=1e-7, rel=1e-7)


sigmoid_of = numba.njit(sigmoid)


@pytest.mark.parametrize("how", HOW)
def test_what_a_function_gives_for_padding_does_not_matter(how, orientation):
    """1 / z is infinite for the zeros in the padding, its derivative too; the next layer's product makes NaN of it."""
    orientation(how)
    inverse = Activation(reciprocal, reciprocal_slope)
    model = Model([3, Dense(5, inverse), Dense(4, inverse), Dense(2, "identity")], dtype="float64", rng=0)
    for w, b in zip(model.weights, model.biases, strict=True):
        w[...], b[...] = rng.uniform(0.1, 0.5, w.shape), rng.uniform(0.5, 1, b.shape)
    X, y = rng.uniform(0.5, 1, (17, 3)), rng.random((17, 2))
    (w0, w1, w2), (b0, b1, b2) = model.weights, model.biases
    z0 = X @ w0.T + b0
    z1 = (1 / z0) @ w1.T + b1
    d = ((1 / z1) @ w2.T + b2 - y) / 17
    want = [(d.T @ (1 / z1), d.sum(0))]
    d = -(d @ w2) / z1**2
    want.append((d.T @ (1 / z0), d.sum(0)))
    d = -(d @ w1) / z0**2
    want.append((d.T @ X, d.sum(0)))
    for got, expected in zip(model.gradients(X, y), want[::-1], strict=True):
        for g, w in zip(got, expected, strict=True):
            np.testing.assert_allclose(g, w, rtol=1e-10)
    losses = model.fit(X, y, epochs=3, batch_size=17, optimizer=SGD(1e-3)).loss
    assert np.isfinite(losses).all()


@pytest.mark.parametrize("how", HOW)
def test_exp_grows_in_the_padding(how, orientation):
    """Without the bias, which it has not, the padding's second layer overflows."""
    orientation(how)
    model = Model([1, Dense(4, "exp"), Dense(4, "exp"), Dense(1, "identity")], init="zeros")
    model.biases[0][...], model.weights[1][...], model.weights[2][...] = -6, 100, 0.5
    gradients = model.gradients(np.zeros((17, 1)), np.zeros(17))
    assert all(np.isfinite(g).all() for pair in gradients for g in pair)


def test_nan_stays_visible():
    model = Model([2, 3], output=SIGMOID, rng=0)
    out = model.predict(np.array([[0, 1], [np.nan, 0]], "f4"))
    assert np.isnan(out).all(axis=1).tolist() == [False, True]
    not_a_number = Loss(lambda a, y: math.nan * a, difference, check=False)
    with pytest.raises(fastnn.DivergenceError):
        Model([2, 3], loss=not_a_number, rng=0).fit([[0, 1]], [[0, 1, 0]], epochs=1, batch_size=1)


def test_classes_and_one_output():
    X, labels = rng.standard_normal((60, 2)), rng.integers(0, 3, 60)
    model = Model([2, 3], output=SIGMOID, loss=SQUARED, rng=0)
    assert model.loss(X, labels) == pytest.approx(model.loss(X, np.eye(3)[labels]), rel=1e-6)
    assert model.classify(X).tolist() == model.predict(X).argmax(1).tolist()
    one = Model([2, 1], output=Activation(math_tanh, tanh_slope), loss=SQUARED, rng=0)
    assert one.classify(X).tolist() == (one.predict(X)[:, 0] > 0).tolist()


def math_tanh(z):
    return math.tanh(z)


def tanh_slope(z):
    return 1 - math.tanh(z) ** 2


# ---- compiled once, and kept nowhere ----


def test_the_same_functions_are_compiled_once(monkeypatch, tmp_path):
    monkeypatch.setattr(CodeFiles, "folder", tmp_path)
    compiled, module = [], Library.module

    def noted(self, name):
        compiled.append(name)
        return module(self, name)

    monkeypatch.setattr(Library, "module", noted)
    own = {"value": lambda z: z * z, "derivative": lambda z: 2 * z}
    X, y = rng.standard_normal((20, 3)), rng.random((20, 2))
    counts = []
    for name in ("first", "second"):
        model = Model([3, Dense(4, Activation(**own, name=name)), 2], rng=0)
        model.fit(X, y, epochs=1, batch_size=8)
        counts.append(len([each for each in compiled if each.startswith("custom")]))
    assert counts[0] == counts[1] > 0
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("custom")]


def times(k):
    return Activation(lambda z: k * z, lambda z: k + 0 * z)


def test_equal_functions_are_one_row():
    one = times(3.0)
    assert times(3.0)._kernel is one._kernel
    assert times(3)._kernel != one._kernel != times(-3.0)._kernel
    assert Activation(lambda z: 3.0 * z, lambda z: 3.0 + 0 * z)._kernel != one._kernel


@pytest.mark.slow
def test_what_nothing_uses_is_freed():
    X = np.array([[2.0]], "f4")
    model = Model([1, Dense(1, times(5.0))], init="zeros")
    model.weights[0][...] = 1
    assert model.predict(X).tolist() == [[10]]
    name = str.__str__(model.layers[0].activation._kernel)
    gc.collect()
    assert name in ACTIVATIONS
    assert any(each.startswith(name) for each in library("float32")._addresses)
    del model
    fastnn.network.network._shared_programs.cache_clear()
    gc.collect()
    assert name not in ACTIVATIONS
    assert not any(each.startswith(name) for each in library("float32")._addresses)


def test_globals_are_taken_when_an_activation_is_made():
    names = {"K": 2.0, "numba": numba, "A": np.array([1.0, 2.0])}
    inner = "inner = numba.njit(lambda z: K * z)"
    exec(f"{inner}\ndef value(z): return inner(z) + 0 * A[0]\ndef slope(z): return K + 0 * z", names)
    first = Activation(names["value"], names["slope"])
    names["K"] = 3.0
    second = Activation(names["value"], names["slope"])
    for dtype in DTYPES:
        assert activate(first._kernel, [1.0], dtype).tolist() == [2]
        assert activate(second._kernel, [1.0], dtype).tolist() == [3]
    assert copy.deepcopy(first)._kernel is first._kernel


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_models_of_one_function_with_other_globals(dtype):
    """The programs of equal architectures are shared, so that these must not be equal."""
    names, outputs = {}, []
    exec("def value(z): return K * z\ndef slope(z): return K", names)
    for names["K"] in (2.0, 3.0, 2.0):
        model = Model([1, Dense(1, Activation(names["value"], names["slope"]))], init="zeros", dtype=dtype)
        model.weights[0][...] = 1
        outputs.append((model.predict([[1.0]]).item(), model.gradients([[1.0]], [[0.0]])[0][0].item()))
    assert outputs == [(2, 4), (3, 9), (2, 4)]


def test_equal_functions_of_one_name_are_equal():
    assert times(7.0) == times(7.0) == copy.deepcopy(times(7.0))
    assert hash(times(7.0)) == hash(times(7.0))
    assert times(7.0) != times(8.0)
    assert times(7.0) != Activation(times(7.0).value, times(7.0).derivative, name="other")


@pytest.mark.parametrize("dtype", DTYPES)
def test_arguments_with_defaults(dtype):
    def value(z, k=2.0):
        return z * k

    assert activate(Activation(value, lambda z: 2.0)._kernel, [1.5], dtype).tolist() == [3]


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_index_out_of_bounds_is_nan(dtype):
    table = np.array([1.0, 2.0])
    own = user_functions.activation(lambda z: table[int(z)], lambda z: 0.0)
    np.testing.assert_array_equal(activate(own, [1, 10**9, 0], dtype), [2, np.nan, 1])


def test_an_exception_keeps_nothing():
    """Numba allocates memory for the arguments of what is raised, which only its own callers free."""

    def raising(z):
        if z > 0:
            raise ValueError("big", z)
        return z

    for code, _ in user_functions.compiled(raising, 1).code.values():
        assert "NRT_" not in code
    assert np.isnan(activate(user_functions.activation(raising, raising), [1.0, 0.0], "float32")).tolist() == [
        True,
        False,
    ]


def in_python(z):
    with numba.objmode(y="float64"):
        y = z + 1
    return y - 1


def test_functions_that_give_no_numbers_say_why():
    table = np.array([1.0, 2.0])

    def never(z):
        raise ValueError("not today")

    with pytest.raises(ValueError, match=r"value must be .*(.|\n)*objmode"):
        Activation(in_python, sigmoid_slope)
    with pytest.raises(ValueError, match=r"must give numbers, got IndexError.* at z = -2.3"):
        Activation(lambda z: table[int(z * 10)], lambda z: 0.0)
    with pytest.raises(ValueError, match=r"must give numbers somewhere, got ValueError\('not today'\) at z = -2.3"):
        Activation(never, sigmoid_slope)


@numba.njit
def powers(z, n):
    return 1.0 if n == 0 else z * powers(z, n - 1)


def recursive(z):
    return powers(z, 2)


def printing(z):
    print("z is", z)
    return z


def generating(z):
    yield z


class Callable:
    def __call__(self, z):
        return z

    def method(self, z):
        return z


@pytest.mark.parametrize(
    ("function", "match"),
    [
        (functools.partial(math.pow, 2.0), "that `def` or `lambda` makes; write one"),
        (Callable(), "that `def` or `lambda` makes; write one"),
        (Callable().method, "that `def` or `lambda` makes; write one"),
        (recursive, "calls itself has no place in compiled code; write a loop"),
        (printing, "such as print, has no place"),
        (generating, "No conversion from"),
        (lambda z: z + 0j, "No conversion from complex"),
        (lambda z: np.array([z]), "No conversion from array"),
    ],
)
def test_kinds_of_functions_that_are_refused(function, match):
    with pytest.raises(ValueError, match=rf"value must be a function of \(z\) that Numba(.|\n)*{match}"):
        Activation(function, sigmoid_slope)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("value", "slope", "want"),
    [
        (lambda z: 2, lambda z: 0, [2, 2]),
        (lambda z: z > 0, lambda z: False, [1, 0]),
        (numba.njit(fastmath=True, parallel=True)(lambda z: z * z), lambda z: 2 * z, [2.25, 0.25]),
    ],
)
def test_kinds_of_functions_that_are_taken(value, slope, want, dtype):
    assert activate(Activation(value, slope)._kernel, [1.5, -0.5], dtype).tolist() == want


def test_compiled_code_is_compared_with_compiled_code():
    """Python's `inner` keeps the value that it was compiled with; the new pair has the new one."""
    names = {"K": 2.0, "numba": numba}
    exec("inner = numba.njit(lambda z: K * z)\ndef value(z): return inner(z)\ndef slope(z): return K + 0 * z", names)
    Activation(names["value"], names["slope"])
    assert names["value"](1.0) == 2
    names["K"] = 3.0
    second = Activation(names["value"], names["slope"])
    assert activate(second._kernel, [1.0], "float64").tolist() == [3]


def test_nan_of_compiled_code_alone_is_explained():
    def wrapping(z):
        return math.sqrt(4611686018427387904 * int(0 * z + 2))  # 2**63 in Python, -2**63 in 64 bits

    with pytest.raises(ValueError, match="value must give the same compiled by Numba as in Python, got NaN at z = -2"):
        Activation(wrapping, lambda z: 0.0)

    def narrow(z):
        x = z * np.float32(1e30) * np.float32(1e30)
        return x - x + z

    with pytest.warns(UserWarning, match="value gives NaN in float32 at z = -2.3, and a number in float64"):
        Activation(narrow, lambda z: 1.0 + 0 * z, check=True)


@pytest.mark.slow
def test_threads_that_make_equal_and_different_activations():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            made = list(pool.map(lambda i: times(float(10 + i % 3)), range(12)))
    finally:
        sys.setswitchinterval(before)
    assert len({each._kernel for each in made}) == 3
    for i, each in enumerate(made):
        assert each._kernel is made[i % 3]._kernel
        assert activate(each._kernel, [1.0], "float32").tolist() == [10 + i % 3]


def test_a_lambda_from_cloudpickle_is_the_same_row():
    cloudpickle = pytest.importorskip("cloudpickle")
    one = times(7.0)
    assert pickle.loads(cloudpickle.dumps(one))._kernel is one._kernel


# ---- the range of an activation ----


def two_classes(n=400):
    X = rng.standard_normal((n, 3))
    return X, (X[:, 0] + X[:, 1] > 0.5).astype(int)


def test_a_sigmoid_with_its_range_is_the_output_of_a_classifier():
    """As the built-in one: the decision, the default metric, log_loss, class weights, what a fit records."""
    X, y = two_classes()
    models = [Model([3, 1], output=output, dtype="float64", rng=0) for output in ("sigmoid", PROBABILITY)]
    fit = {"epochs": 30, "batch_size": 20, "optimizer": SGD(1.0), "class_weight": {0: 1.0, 1: 1.2}}
    metrics = ["accuracy", "log_loss"]
    for model in models:
        history = model.fit(X, y, **fit, validation_data=(X, y), metric=metrics, train_metric=True)
        assert list(model.evaluate(X, y)) == ["loss", "accuracy"]
        assert set(history.metrics) == {*metrics, *(f"val_{name}" for name in metrics)}
    built_in, users = models
    outputs = users.predict(X)[:, 0]
    np.testing.assert_array_equal(users.classify(X), outputs > 0.5)
    np.testing.assert_array_equal(users.classify(X), built_in.classify(X))
    assert users.evaluate(X, y, metric=metrics) == pytest.approx(built_in.evaluate(X, y, metric=metrics), rel=1e-9)
    assert users.evaluate(X, y)["accuracy"] == ((outputs > 0.5) == y).mean() > 0.95
    want = -np.log(np.where(y == 1, outputs, 1 - outputs)).mean()
    assert users.evaluate(X, y, metric="log_loss")["log_loss"] == pytest.approx(want)


def test_targets_outside_the_range_give_a_warning():
    message = r"outputs of Activation\(name='sigmoid', range=\(0.0, 1.0\)\) lie between 0 and 1: no training reaches"
    model = Model([1, 1], output=PROBABILITY, rng=0)
    with pytest.warns(UserWarning, match=rf"y holds numbers from 0.5 to 1.5, but {message}"):
        model.fit([[0.0], [1.0]], [[0.5], [1.5]], epochs=1, batch_size=2)
    below = Activation(lambda z: -math.exp(z), lambda z: -math.exp(z), range=(-math.inf, 0))
    with pytest.warns(UserWarning, match="lie between -inf and 0"):
        Model([1, 1], output=below, rng=0).fit([[0.0], [1.0]], [[-0.5], [0.5]], epochs=1, batch_size=2)


def test_a_fit_that_ends_saturated_and_wrong_says_so_for_a_range_with_two_ends():
    y = (np.arange(1000) % 5 > 0).astype(int)
    model = Model([2, 2], output=PROBABILITY, init="zeros", dtype="float64", rng=0)
    model.biases[0][0], model.weights[0][1] = -20, [-10, 10]
    still = fastnn.Rprop(1e-6, smallest=1e-6, largest=1e-6)
    with pytest.warns(UserWarning, match=r'wrong end of Activation\(.*with loss="cross_entropy"\.$'):
        model.fit(np.eye(2)[y], y, epochs=1, batch_size=1000, optimizer=still)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("range_", "threshold"),
    [((-1, 3), 1), ((0, 0.2), 0.1), ((-5, 0), -2.5), ((0, math.inf), 0), ((-math.inf, 7), 0)],
)
def test_one_output_decides_in_the_middle_of_its_range(range_, threshold, dtype):
    identity = Activation(lambda z: z, lambda z: 1.0, range=range_, check=False)
    model = Model([1, 1], output=identity, init="zeros", dtype=dtype)
    model.weights[0][...] = 1
    assert model.classify([[threshold - 0.01], [threshold + 0.01]]).tolist() == [0, 1]


def test_the_dtype_must_hold_the_middle_of_the_range():
    identity = Activation(lambda z: z, lambda z: 1.0, range=(0, 1e300), check=False)
    with pytest.raises(ValueError, match=r"the range of the output must lie within float32's, got Activation\(name="):
        Model([1, 1], output=identity)
    assert Model([1, 1], output=identity, init="zeros", dtype="float64").classify([[1.0]]).tolist() == [0]


def test_labels_for_an_output_without_a_range_give_a_warning():
    """Its outputs are any numbers for all that is known, so that 0 and 1 are such too."""
    X, y = two_classes(40)
    model = Model([3, 1], output=SIGMOID, rng=0)
    once = {"epochs": 1, "batch_size": 10}
    message = r"y holds 0 and 1 alone, but the output Activation\(name='sigmoid'\) states no range, .*range=\(0, 1\)"
    calls = [
        lambda model, **more: model.fit(X, y, **once, **more),
        lambda model, **more: model.fit(X, y, **once, validation_data=(X, y), **more),
        lambda model, **more: model.evaluate(X, y, **more),
    ]
    for each in calls:
        with pytest.warns(UserWarning, match=message) as caught:
            each(model)
        assert [warning.filename for warning in caught] == [__file__]
        each(model, metric="r2")  # which says that they are numeric targets
        each(Model([3, 1], output=PROBABILITY, rng=0))
        each(Model([3, 1], output=Activation(sigmoid, sigmoid_slope, range=(-1, 1)), rng=0))
        each(Model([3, SIGMOID_LAYER, 1], rng=0))
    assert list(model.evaluate(X, y - 0.5)) == ["loss", "r2"]
    Model([3, 2], output=SIGMOID, rng=0).fit(X, y, **once)  # class indices, whatever the outputs are


SIGMOID_LAYER = Dense(2, SIGMOID)


def test_a_range_belongs_to_an_activation():
    """To equality, the hash, repr, copies and pickles; a file leaves it to the object."""
    again = Activation(sigmoid, sigmoid_slope, range=[np.float32(-0.0), np.int64(1)])
    assert again == PROBABILITY != SIGMOID
    assert hash(again) == hash(PROBABILITY)
    assert again._kernel is PROBABILITY._kernel is not SIGMOID._kernel
    assert [repr(each) for each in (again, SIGMOID)] == [
        "Activation(name='sigmoid', range=(0.0, 1.0))",
        "Activation(name='sigmoid')",
    ]
    assert SIGMOID.range == (-math.inf, math.inf)
    assert Activation(sigmoid, sigmoid_slope, range=(-np.inf, np.float32(np.inf))) == SIGMOID
    for copied in (copy.copy(again), copy.deepcopy(again), pickle.loads(pickle.dumps(again))):
        assert copied == PROBABILITY
        assert copied.range == (0.0, 1.0)
    model = pickle.loads(pickle.dumps(Model([3, 1], output=again, rng=0)))
    assert model.layers[0].activation == PROBABILITY


def test_a_pickle_from_before_there_were_ranges():
    state = SIGMOID.__getstate__()
    del state["range"]
    old = Activation.__new__(Activation)
    old.__setstate__(state)
    assert old == SIGMOID


def test_a_file_takes_the_range_of_the_activation_it_is_given(tmp_path):
    model, path, X = Model([3, 1], output=PROBABILITY, rng=0), tmp_path / "model", rng.standard_normal((50, 3))
    model.save(path)
    np.testing.assert_array_equal(fastnn.load(path, custom={"sigmoid": PROBABILITY}).classify(X), model.classify(X))
    assert fastnn.load(path, custom={"sigmoid": SIGMOID}).classify(X).tolist() == [1] * 50
    with pytest.raises(ValueError, match="so they must differ, got 'sigmoid' for two"):
        Model([3, SIGMOID_LAYER, 1], output=PROBABILITY).save(path)


# ---- copies and files ----


def test_copies():
    X, y = rng.standard_normal((20, 5)), rng.random((20, 3))
    model = pair_of_models()[1]
    model.fit(X, y, epochs=2, batch_size=8, optimizer="adam")
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert repr(again) == repr(model)
        assert again.layers == model.layers
        again.fit(X, y, epochs=1, batch_size=8, optimizer="adam")
        assert again.history.loss != model.history.loss
    model.fit(X, y, epochs=1, batch_size=8, optimizer="adam")
    assert again.parameters.tobytes() == model.parameters.tobytes()
    model.replace_head(2, activation=Activation(math_tanh, tanh_slope))
    assert repr(model).startswith("Model([5, Dense(20, Activation(name='sigmoid')), ")
    assert "Dense(2, Activation(name='math_tanh'))], loss=Loss(name='squared')" in repr(model)


def test_a_model_of_functions_that_have_no_place_is_not_pickled():
    model = Model([2, Dense(3, Activation(lambda z: z, lambda z: 1.0)), 1])
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(model)
    assert copy.deepcopy(model).layers == model.layers


def test_a_file_holds_names(tmp_path):
    model = pair_of_models()[1]
    X, path = rng.standard_normal((20, 5)), tmp_path / "model"
    model.save(path)
    given = {"sigmoid": SIGMOID, "squared": SQUARED}
    again = fastnn.load(path, custom=given)
    assert repr(again) == repr(model)
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    for wrong in (None, {}, {"sigmoid": SIGMOID}, given | {"sigmoid": SQUARED}, given | {"squared": "quadratic"}):
        with pytest.raises(ValueError, match=r"custom must map '\w+' to the (Activation|Loss) that"):
            fastnn.load(path, custom=wrong)
    with pytest.raises(TypeError, match="custom must be a dict"):
        fastnn.load(path, custom=3)


# ---- errors ----


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: Activation(3, sigmoid), TypeError, r"value must be a function of \(z\) that Numba can compile, got 3"),
        (lambda: Activation(sigmoid, "slope"), TypeError, r"derivative must be a function of \(z\)"),
        (lambda: Activation(lambda z: math.nothing(z), sigmoid), ValueError, r"got <function(.|\n)*nothing"),
        (lambda: Activation(lambda z: "a", sigmoid), ValueError, r"value must be .* compile, got <function"),
        (lambda: Activation(lambda z: None, sigmoid), ValueError, r"value must be .* compile, got <function"),
        (lambda: Activation(squared, sigmoid), ValueError, r"value must be .* compile, got <function squared"),
        (lambda: Activation(np.tanh, sigmoid), ValueError, r"value must be .* compile, got <ufunc"),
        (lambda: Loss(squared, sigmoid), ValueError, r"derivative must be a function of \(a, y\) that"),
        (lambda: Activation(sigmoid, sigmoid), ValueError, r"derivative must be that of value, .* at z = -2.3 by"),
        (lambda: Loss(squared, squared), ValueError, r"derivative must be that of value, .* at a = -2.3, y = 0 by"),
        (lambda: Activation(sigmoid, sigmoid_slope, name=3), TypeError, "name must be a string, got 3"),
        (lambda: Activation(sigmoid, sigmoid_slope, check="no"), TypeError, "check must be True or False, got 'no'"),
        (lambda: Activation(sigmoid, sigmoid_slope, range=3), TypeError, r"range must be a pair \(low, high\).* got 3"),
        (lambda: Activation(sigmoid, sigmoid_slope, range="01"), TypeError, r"range must be a pair .*, got '01'"),
        (lambda: Activation(sigmoid, sigmoid_slope, range=None), TypeError, "range must be a pair .*, got None"),
        (lambda: Activation(sigmoid, sigmoid_slope, range=(0, 1, 2)), ValueError, r"range must be .* got \(0, 1, 2\)"),
        (lambda: Activation(sigmoid, sigmoid_slope, range=(1, 0)), ValueError, r"with low < high, got \(1, 0\)"),
        (lambda: Activation(sigmoid, sigmoid_slope, range=(1, 1)), ValueError, r"with low < high, got \(1, 1\)"),
        (
            lambda: Activation(sigmoid, sigmoid_slope, range=(0, "1")),
            TypeError,
            r"range\[1\] must be a number, got '1'",
        ),
        (lambda: Activation(sigmoid, sigmoid_slope, range=(False, 1)), TypeError, r"range\[0\] must be a number"),
        (
            lambda: Activation(sigmoid, sigmoid_slope, range=(0, math.nan)),
            ValueError,
            r"range\[1\] must be .*, got nan",
        ),
        (lambda: Activation(sigmoid, sigmoid_slope, range=(0, 10**400)), ValueError, r"range\[1\] must be a finite"),
        (lambda: Activation(sigmoid, sigmoid_slope, "s", True, (0, 1)), TypeError, "positional"),
        (lambda: Activation(sigmoid, sigmoid_slope, range=(0, 0.5)), ValueError, r"value must .* 0.574443 at z = 0.3"),
        (lambda: Activation(lambda z: z, lambda z: 1.0, range=(-50, 99)), ValueError, r"lie within .* at z = -100"),
        (lambda: Model([2, 3], activation=SQUARED), ValueError, "activation must be one of"),
        (lambda: Model([2, 3], loss=SIGMOID), ValueError, "loss must be one of"),
        (lambda: Model([2, 3], output=SIGMOID, loss="cross_entropy"), ValueError, "'cross_entropy' does not go with"),
        (lambda: Model([2, 3], output="softmax", loss=SQUARED), ValueError, "'squared' does not go with .* 'softmax'"),
    ],
)
def test_what_is_refused(make, error, match):
    with pytest.raises(error, match=match):
        make()


def test_a_surrogate_derivative():
    """A step whose derivative is the sigmoid's."""
    with pytest.raises(ValueError, match="check=False allows it"):
        Activation(lambda z: 1.0 if z > 0 else 0.0, sigmoid_slope)
    step = Activation(lambda z: 1.0 if z > 0 else 0.0, sigmoid_slope, check=False)
    X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    model = Model([2, Dense(8, step), 1], rng=1)
    model.fit(X, [0, 1, 1, 0], epochs=3000, batch_size=4, optimizer=SGD(1.0))
    assert model.classify(X).tolist() == [0, 1, 1, 0]


def test_outside_its_domain_a_derivative_is_not_compared():
    logarithm = Activation(lambda z: math.log(z), lambda z: 1 / z)
    assert activate(logarithm._kernel, [1.0, math.e], "float64").tolist() == [0, 1]
