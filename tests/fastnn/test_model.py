"""The model: structure, prediction, scores, gradients, copies, transfer learning."""

import copy
import itertools
import pickle
from xml.etree import ElementTree

import numpy as np
import pandas
import pytest
import scipy.sparse
from sklearn.metrics import accuracy_score, r2_score

import fastnn
from fastnn import SGD, Dense, Model
from fastnn.kernels import reference
from fastnn.settings import initialisers

from .. import cases
from ..cases import DTYPES
from ..differences import central_differences
from ..twin import Twin

ACTIVATIONS = [name for name in cases.ACTIVATIONS if name not in cases.GROWING]
TRAINABLE = [name for name in ACTIVATIONS if name not in cases.STEPS]
CLOSE = {"float32": {"rtol": 2e-5, "atol": 1e-5}, "float64": {"rtol": 1e-12, "atol": 1e-13}}
SHAPES = [[1, 1], [5, 3], [4, 8, 8, 2], [3, 17, 2], [20, 16, 16, 4], [7, 33, 1], [130, 40, 10]]


def bits(model):
    return model.parameters.tobytes()


# ---- structure ----


def test_ints_take_activation_and_output():
    model = Model([4, 8, 5, 2], activation="relu", output="identity")
    assert model.sizes == (4, 8, 5, 2)
    assert model.layers == (Dense(8, "relu"), Dense(5, "relu"), Dense(2, "identity"))


def test_dense_entries_keep_their_activation():
    model = Model((4, Dense(8, "tanh"), 5, Dense(2)), activation="relu", output="identity")
    assert model.layers == (Dense(8, "tanh"), Dense(5, "relu"), Dense(2, "sigmoid"))


@pytest.mark.parametrize("sizes", [(3, 2), [3, 2], np.array([3, 2]), iter([3, 2]), range(3, 1, -1)])
def test_sizes_may_be_any_iterable_of_integers(sizes):
    model = Model(sizes)
    assert model.sizes == (3, 2)
    assert all(type(size) is int for size in model.sizes)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", SHAPES)
def test_views_have_the_texts_shapes(sizes, dtype):
    model = Model(sizes, dtype=dtype)
    assert [w.shape for w in model.weights] == [(out, into) for into, out in itertools.pairwise(sizes)]
    assert [b.shape for b in model.biases] == [(out,) for out in sizes[1:]]
    assert all(array.dtype == dtype for array in (*model.weights, *model.biases, model.parameters))
    assert model.n_parameters == sum(into * out + out for into, out in itertools.pairwise(sizes))


@pytest.mark.parametrize("dtype", DTYPES)
def test_views_write_through_and_do_not_overlap(dtype):
    model = Model([5, 18, 3], dtype=dtype, init="zeros")
    arrays = [*model.weights, *model.biases]
    for value, array in enumerate(arrays, 1):
        array[...] = value
    for value, array in enumerate(arrays, 1):
        assert (array == value).all()
        assert (model.parameters == value).sum() == array.size


def test_a_written_weight_is_the_one_predict_uses():
    model = Model([3, 2], output="identity", init="zeros")
    model.weights[0][1, 2] = 5  # from neuron 2 to neuron 1
    model.biases[0][0] = 7
    np.testing.assert_array_equal(model.predict([[10, 20, 30]]), [[7, 150]])


@pytest.mark.parametrize("dtype", DTYPES)
def test_parameters_are_one_aligned_vector(dtype):
    for model in (Model([5, 18, 3], dtype=dtype), copy.deepcopy(Model([5, 18, 3], dtype=dtype))):
        assert model.parameters.ndim == 1
        assert model.parameters.flags.c_contiguous
        assert model.parameters.ctypes.data % 64 == 0


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", TRAINABLE)
@pytest.mark.parametrize("batch_size", [1, 7, 100, 1100])
@pytest.mark.parametrize("sizes", [[5, 18, 9, 3], [5, 4, 3], [5, 36, 3]])
def test_padding_is_zero_before_and_after_training(sizes, activation, batch_size, dtype, padding):
    rng = np.random.default_rng(0)
    model = Model(sizes, activation=activation, output=activation, dtype=dtype, init="normal", rng=0)
    assert len(padding(model)) > 0
    assert not padding(model).any()
    before = bits(model)
    X, y = rng.normal(size=(1200, 5)) * 0.3, rng.integers(0, 3, 1200)
    model.fit(X, y, epochs=2, batch_size=batch_size, optimizer=SGD(1e-4))
    assert bits(model) != before
    assert not padding(model).any()


def test_padding_is_zero_after_the_perceptron_rule(padding):
    model = Model([5, 3], output="step", rng=0)
    model.fit(np.eye(5), [0, 1, 2, 0, 1], epochs=3, batch_size=2)
    assert not padding(model).any()


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (Model([4, 3]), "Model([4, Dense(3, 'sigmoid')], loss='quadratic', dtype='float32')"),
        (
            Model([4, 8, Dense(3, "identity")], activation="tanh", input_scale=0.5, dtype="float64"),
            "Model([4, Dense(8, 'tanh'), Dense(3, 'identity')], loss='quadratic', input_scale=0.5, dtype='float64')",
        ),
    ],
)
def test_repr_can_be_evaluated(model, text):
    assert repr(model) == text
    assert repr(eval(text, {"Model": Model, "Dense": Dense})) == text


def test_summary():
    model = Model([784, Dense(1000, "relu"), Dense(10, "softmax")], loss="cross_entropy", input_scale=0.5, rng=0)
    model.freeze(0)
    lines = model.summary().splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["layer", "units", "activation", "parameters", "trains"],
        ["0", "1,000", "relu", "785,000", "frozen"],
        ["1", "10", "softmax", "10,010", "yes"],
    ]
    assert lines[3] == "784 inputs, input_scale 0.5, loss cross_entropy, float32"
    memory = model.parameters.nbytes / 1024
    assert lines[4] == f"795,010 parameters, of which 10,010 train; {memory:,.1f} KiB with their padding"
    assert len(lines) == 5
    assert model.n_parameters == 795010
    assert lines[0].index("units") + len("units") == lines[1].index("1,000") + len("1,000")  # on the right
    assert lines[0].index("activation") == lines[1].index("relu") == lines[2].index("softmax")  # on the left


def test_a_notebook_shows_the_summary():
    model = Model([4, Dense(3, "tanh"), 2], dtype="float64")
    model.freeze(1)
    shown = model._repr_html_()
    root = ElementTree.fromstring(f"<div>{shown.replace('<br>', '<br/>')}</div>")
    rows = [[cell.text for cell in row] for row in root.iter("tr")]
    lines = model.summary().splitlines()
    assert rows == [line.split() for line in lines[:3]]
    assert all(line in shown for line in lines[3:])


# ---- initial parameters ----


@pytest.mark.parametrize("fan_in", [4, 100, 900])
def test_scaled_init(fan_in):
    model = Model([fan_in, 40000 // fan_in], init="scaled", rng=0)
    weights = model.weights[0].astype(np.float64)
    error = 5 / np.sqrt(2 * weights.size)  # five standard errors of a standard deviation
    assert weights.std() * np.sqrt(fan_in) == pytest.approx(1, abs=error)
    assert weights.mean() * np.sqrt(fan_in) == pytest.approx(0, abs=5 / np.sqrt(weights.size))
    assert not model.biases[0].any()


def test_scaled_init_is_the_default():
    assert bits(Model([4, 5, 3], rng=1)) == bits(Model([4, 5, 3], init="scaled", rng=1))


def test_normal_init():
    model = Model([100, 2000], init="normal", rng=0)
    for array in (model.weights[0], model.biases[0]):
        assert array.std(dtype=np.float64) == pytest.approx(1, abs=5 / np.sqrt(2 * array.size))
        assert array.mean(dtype=np.float64) == pytest.approx(0, abs=5 / np.sqrt(array.size))


def test_zeros_init():
    assert not Model([4, 5, 3], init="zeros", rng=0).parameters.any()


# The standard deviation of the weights by fan_in and fan_out, from the papers.
DEVIATIONS = {
    "scaled": lambda fan_in, fan_out: fan_in**-0.5,
    "lecun_normal": lambda fan_in, fan_out: fan_in**-0.5,
    "lecun_uniform": lambda fan_in, fan_out: fan_in**-0.5,
    "he_normal": lambda fan_in, fan_out: (2 / fan_in) ** 0.5,
    "he_uniform": lambda fan_in, fan_out: (2 / fan_in) ** 0.5,
    "glorot_normal": lambda fan_in, fan_out: (2 / (fan_in + fan_out)) ** 0.5,
    "glorot_uniform": lambda fan_in, fan_out: (2 / (fan_in + fan_out)) ** 0.5,
}
INITS = [*DEVIATIONS, "orthogonal", "normal", "zeros"]


def test_every_init_is_tested():
    assert sorted(INITS) == sorted(initialisers.INITS)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fans", [(60, 900), (900, 60)])
@pytest.mark.parametrize("init", DEVIATIONS)
def test_inits_have_the_deviation_of_their_papers(init, fans, dtype):
    model = Model(fans, init=init, dtype=dtype, rng=0)
    weights, deviation = model.weights[0].astype(np.float64), DEVIATIONS[init](*fans)
    assert weights.std() / deviation == pytest.approx(1, abs=5 / np.sqrt(2 * weights.size))
    assert weights.mean() / deviation == pytest.approx(0, abs=5 / np.sqrt(weights.size))
    largest = np.abs(weights).max() / deviation
    if init.endswith("uniform"):
        assert 1.7 < largest <= np.sqrt(3) * (1 + 1e-6)
        counts, _ = np.histogram(weights, 10)
        np.testing.assert_allclose(counts / weights.size, 0.1, atol=5 * np.sqrt(0.09 / weights.size))
    else:
        assert 3.5 < largest < 6
    assert not model.biases[0].any()


def test_bounds_of_glorot_and_he_uniform_in_their_usual_form():
    glorot, he = (Model([50, 100], init=f"{name}_uniform", rng=0).weights[0] for name in ("glorot", "he"))
    assert np.abs(glorot).max() == pytest.approx(np.sqrt(6 / 150), rel=1e-3)
    assert np.abs(he).max() == pytest.approx(np.sqrt(6 / 50), rel=1e-3)


@pytest.mark.parametrize(("dtype", "error"), [("float32", 1e-6), ("float64", 1e-13)])
@pytest.mark.parametrize("fans", [(70, 40), (40, 70), (50, 50), (1, 1), (1, 9), (9, 1)])
def test_orthogonal_init(fans, dtype, error):
    model = Model(fans, init="orthogonal", dtype=dtype, rng=0)
    w = model.weights[0].astype(np.float64)
    product = w @ w.T if fans[1] <= fans[0] else w.T @ w
    np.testing.assert_allclose(product, np.eye(min(fans)), atol=error)
    assert not model.biases[0].any()


def test_orthogonal_matrices_have_no_preferred_sign():
    """Without the fix of the signs, the entries of LAPACK's Q with one column have that of a reflection: negative."""
    firsts = [float(Model([5, 5], init="orthogonal", rng=seed).weights[0][0, 0]) for seed in range(200)]
    assert 60 < sum(first > 0 for first in firsts) < 140


@pytest.mark.parametrize("init", INITS)
def test_an_init_follows_the_seed(init, padding):
    models = [Model([20, 17, 3], init=init, rng=rng) for rng in (0, 0, 1)]
    assert bits(models[0]) == bits(models[1])
    assert (bits(models[0]) == bits(models[2])) == (init == "zeros")
    assert not padding(models[0]).any()


@pytest.mark.parametrize("init", INITS)
def test_replace_head_draws_by_the_init(init):
    model = Model([20, 17, 3], rng=0)
    model.replace_head(5, init=init, rng=4)
    np.testing.assert_array_equal(model.weights[-1], Model([17, 5], init=init, rng=4).weights[0])
    np.testing.assert_array_equal(model.biases[-1], Model([17, 5], init=init, rng=4).biases[0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_as_parameters(dtype, padding, tmp_path):
    rng = np.random.default_rng(0)
    pairs = [(rng.normal(size=(5, 4)), rng.normal(size=5)), ([[1, 2, 3, 4, 5]], [6])]
    model = Model([4, 5, 1], init=pairs, dtype=dtype, rng=0)
    for w, b, pair in zip(model.weights, model.biases, pairs, strict=True):
        np.testing.assert_array_equal(w, np.asarray(pair[0], dtype))
        np.testing.assert_array_equal(b, np.asarray(pair[1], dtype))
    assert not padding(model).any()
    model.save(tmp_path / "model")
    for twin in (fastnn.load(tmp_path / "model"), copy.copy(model)):
        assert bits(twin) == bits(model)
    twin = Model([4, 5, 1], init=list(zip(model.weights, model.biases, strict=True)), dtype=dtype)
    assert bits(twin) == bits(model)
    twin.weights[0][...] = 0
    assert bits(twin) != bits(model)
    model.replace_head(2, init=[(np.ones((2, 5)), [3, 4])])
    assert (model.weights[-1] == 1).all()
    assert model.biases[-1].tolist() == [3, 4]


def test_an_init_for_each_layer():
    weights = np.arange(6).reshape(3, 2)
    model = Model([40, 2, 3], init=["orthogonal", (weights, [1, 2, 3])], rng=0)
    np.testing.assert_allclose(model.weights[0] @ model.weights[0].T, np.eye(2), atol=1e-6)
    np.testing.assert_array_equal(model.weights[1], weights)


W, B = np.ones((3, 4)), np.zeros(3)


@pytest.mark.parametrize(
    ("init", "error", "message"),
    [
        (3, ValueError, r"init must be one of 'scaled'.*, got 3"),
        ("he", ValueError, r"init must be one of 'scaled'.*'orthogonal', got 'he'"),
        ((W, B), ValueError, r"init must have a name or a pair \(W, b\) for each of 1 layers, got \[array"),
        (W, ValueError, r"init must have .* for each of 1 layers, got "),
        ([], ValueError, r"init must have .* for each of 1 layers, got \[\]"),
        ([W], TypeError, r"init\[0\] must be a name or a pair of arrays \(W, b\), got array"),
        (["he"], ValueError, r"init\[0\] must be one of 'scaled'.*, got 'he'"),
        ([(W.T, B)], ValueError, r"init\[0\]\[0\] must have shape \(3, 4\), got \(4, 3\)"),
        ([(W, B[:2])], ValueError, r"init\[0\]\[1\] must have shape \(3,\), got \(2,\)"),
        ([(W * np.nan, B)], ValueError, r"init\[0\]\[0\] must be finite in float32, got init\[0\]\[0\]\[0, 0\] = nan"),
        ([(W, B + 1e300)], ValueError, r"init\[0\]\[1\] must be finite in float32, got .* = 1e\+300"),
        ([(W, ["a", "b", "c"])], TypeError, r"init\[0\]\[1\] must hold numbers, got .*<U1"),
    ],
)
def test_unusable_inits(init, error, message, state):
    with pytest.raises(error, match=message):
        Model([4, 3], init=init)
    model = Model([2, 4, 7], rng=0)
    before = state(model)
    with pytest.raises(error, match=message):
        model.replace_head(3, init=init)
    assert state(model) == before


@pytest.mark.parametrize("init", INITS)
def test_both_dtypes_start_from_the_same_numbers(init):
    single, double = (Model([4, 5, 3], init=init, rng=0, dtype=dtype) for dtype in DTYPES)
    for a, b in zip(single.weights, double.weights, strict=True):
        np.testing.assert_array_equal(a, b.astype(np.float32))


@pytest.mark.parametrize("rng", [0, 123, 2**70, np.int64(5)])
def test_the_same_seed_gives_the_same_bits(rng, blobs):
    first, second = Model([6, 9, 3], rng=rng), Model([6, 9, 3], rng=rng)
    assert bits(first) == bits(second)
    for model in (first, second):
        model.fit(*blobs, epochs=3, batch_size=7)
    assert bits(first) == bits(second)
    assert first.history.loss == second.history.loss


def test_a_generator_is_drawn_from(blobs):
    seeded = Model([6, 9, 3], rng=np.random.default_rng(4))
    assert bits(seeded) == bits(Model([6, 9, 3], rng=4))
    generator = np.random.default_rng(4)
    first, second = Model([6, 9, 3], rng=generator), Model([6, 9, 3], rng=generator)
    assert bits(first) == bits(seeded)
    assert bits(second) != bits(first)


def test_different_seeds_and_none_give_different_models(blobs):
    models = [Model([6, 9, 3], rng=rng) for rng in (0, 1, None, None)]
    assert len({bits(model) for model in models}) == 4
    assert len({model._network.random for model in models}) == 4


# ---- predict, classify ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("sizes", SHAPES)
def test_predict_is_the_forward_pass(sizes, activation, dtype):
    rng = np.random.default_rng(1)
    model = Model(sizes, activation=activation, output=activation, init="normal", dtype=dtype, rng=2)
    for n in (1, 3, 70):
        X = rng.normal(size=(n, sizes[0])).astype(dtype)
        out = model.predict(X)
        expected = Twin(model).predict(X)
        assert out.shape == (n, sizes[-1])
        assert out.dtype == dtype
        scale = max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(out / scale, expected / scale, **CLOSE[dtype])


@pytest.mark.parametrize("n", [1023, 1024, 1025, 5000])
def test_predict_on_several_blocks_of_rows(n):
    X = np.random.default_rng(1).normal(size=(n, 6)).astype(np.float32)
    model = Model([6, 20, 3], rng=0)
    np.testing.assert_allclose(model.predict(X), Twin(model).predict(X), **CLOSE["float32"])


def test_predict_mixes_activations():
    model = Model([4, Dense(20, "relu"), Dense(7, "step"), Dense(9, "tanh"), Dense(2, "identity")], rng=0)
    X = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    np.testing.assert_allclose(model.predict(X), Twin(model).predict(X), **CLOSE["float32"])


@pytest.mark.parametrize("dtype", DTYPES)
def test_predict_saturates_without_warning(dtype):
    model = Model([1, Dense(2, "sigmoid")], dtype=dtype, init="zeros")
    model.weights[0][:, 0] = 1, -1
    np.testing.assert_array_equal(model.predict([[1e30], [-1e30], [0]]), [[1, 0], [0, 1], [0.5, 0.5]])


def test_input_scale_multiplies_the_input():
    X = np.random.default_rng(0).integers(0, 256, (40, 9), dtype=np.uint8)
    model = Model([9, 12, 2], input_scale=1 / 255, rng=0)
    expected = Twin(model).predict(X / 255)
    for given in (X, X.astype(np.float32), X.astype(np.int64)):
        np.testing.assert_allclose(model.predict(given), expected, **CLOSE["float32"])
    y = np.arange(40) % 2
    loss = Twin(model).losses(X / 255, np.eye(2)[y]).mean()
    assert model.loss(X, y) == pytest.approx(loss, rel=1e-5)
    for (dw, db), (nw, nb) in zip(model.gradients(X, y), Twin(model).gradients(X / 255, np.eye(2)[y]), strict=True):
        np.testing.assert_allclose(dw, nw, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(db, nb, rtol=1e-4, atol=1e-6)


def test_classify_takes_the_largest_output():
    model = Model([3, 3], output="identity", init="zeros")
    model.weights[0][...] = np.eye(3)
    X = [[1, 2, 3], [3, 2, 1], [5, 5, 1], [0, 0, 0]]
    classes = model.classify(X)
    np.testing.assert_array_equal(classes, [2, 0, 0, 0])
    assert classes.dtype == np.intp


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("sigmoid", [0, 0, 1]),  # above 0.5 where z is above 0
        ("step", [0, 0, 1]),
        ("tanh", [0, 0, 1]),
        ("identity", [0, 0, 1]),
        ("relu", [0, 0, 1]),
    ],
)
def test_classify_with_one_output_unit(output, expected):
    model = Model([1, 1], output=output, init="zeros")
    model.weights[0][...] = 0.25
    np.testing.assert_array_equal(model.classify([[-1], [0], [1]]), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("sizes", [[3, 20, 2], [3, 4, 2]])
def test_nan_in_is_nan_out_for_that_row_only(sizes, activation, dtype):
    model = Model(sizes, activation=activation, output=activation, dtype=dtype, rng=0)
    X = np.random.default_rng(0).normal(size=(30, 3)).astype(dtype)
    clean = model.predict(X)
    X[11, 1] = np.nan
    out = model.predict(X)
    assert np.isnan(out[11]).all()
    others = np.arange(30) != 11
    np.testing.assert_array_equal(out[others], clean[others])
    np.testing.assert_array_equal(model.predict(np.nan_to_num(X))[others], clean[others])


# ---- loss, evaluate ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 10, 2500])
def test_loss_is_half_the_squared_distance(n, dtype):
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(n, 4)).astype(dtype), rng.normal(size=(n, 3)).astype(dtype)
    model = Model([4, 10, 3], dtype=dtype, rng=0)
    assert model.loss(X, Y) == pytest.approx(Twin(model).losses(X, Y).mean(), rel=1e-6 if dtype == "float32" else 1e-13)


def test_evaluate_gives_loss_and_accuracy(blobs):
    X, y = blobs
    model = Model([6, 9, 3], rng=0)
    scores = model.evaluate(X, y)
    outputs = Twin(model).predict(X)
    assert list(scores) == ["loss", "accuracy"]
    assert scores["loss"] == pytest.approx(Twin(model).losses(X, np.eye(3)[y]).mean(), rel=1e-6)
    assert scores["accuracy"] == pytest.approx(accuracy_score(y, outputs.argmax(axis=1)))
    assert all(type(value) is float for value in scores.values())


def test_evaluate_gives_r2_for_numeric_targets():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(50, 4)), rng.normal(size=(50, 3))
    model = Model([4, 10, 3], output="identity", dtype="float64", rng=0)
    scores = model.evaluate(X, Y)
    assert list(scores) == ["loss", "r2"]
    assert scores["r2"] == pytest.approx(r2_score(Y, Twin(model).predict(X)), rel=1e-12)


def test_evaluate_binary_labels_with_one_sigmoid():
    X = np.linspace(-1, 1, 20)[:, None]
    y = (X[:, 0] > 0.3).astype(int)
    model = Model([1, 1], rng=0)
    model.weights[0][...] = 1
    assert model.evaluate(X, y)["accuracy"] == accuracy_score(y, X[:, 0] > 0)
    assert model.evaluate(X, y == 1)["accuracy"] == accuracy_score(y, X[:, 0] > 0)
    with pytest.warns(UserWarning, match="give integers"):
        assert list(model.evaluate(X, y.astype(float))) == ["loss", "r2"]


def test_evaluate_with_a_metric_of_ones_own(blobs):
    X, y = blobs
    model = Model([6, 9, 3], rng=0)
    seen = []

    def errors(y_true, y_pred):
        seen.append((y_true, y_pred))
        return np.sum(y_true != y_pred)

    scores = model.evaluate(X, y, metric=errors)
    assert scores["errors"] == np.sum(model.classify(X) != y)
    np.testing.assert_array_equal(seen[0][0], y)
    np.testing.assert_array_equal(seen[0][1], model.classify(X))


def test_a_metric_gets_the_outputs_for_numeric_targets(blobs):
    X, y = blobs
    model = Model([6, 9, 3], rng=0)
    Y = fastnn.one_hot(y, 3)
    worst = model.evaluate(X, Y, metric=lambda y_true, y_pred: np.abs(y_true - y_pred).max())
    assert list(worst.values())[1] == np.abs(Y - model.predict(X)).max()


def test_evaluate_r2_of_classes(blobs):
    X, y = blobs
    model = Model([6, 9, 3], rng=0)
    assert model.evaluate(X, y, metric="r2")["r2"] == pytest.approx(r2_score(y, model.classify(X)))


# ---- gradients ----


@pytest.mark.parametrize("activation", TRAINABLE)
@pytest.mark.parametrize("sizes", SHAPES)
def test_gradients_equal_central_differences(sizes, activation):
    rng = np.random.default_rng(3)
    model = Model(sizes, activation=activation, output=activation, dtype="float64", rng=4)
    for b in model.biases:
        b[...] = rng.normal(size=b.shape)
    X, Y = rng.normal(size=(6, sizes[0])), rng.normal(size=(6, sizes[-1]))
    analytic, numeric = [], []
    for array, slope in zip(
        (*model.weights, *model.biases),
        (g for part in zip(*model.gradients(X, Y), strict=True) for g in part),
        strict=True,
    ):
        assert slope.shape == array.shape
        places = [np.unravel_index(index, array.shape) for index in rng.permutation(array.size)[:25]]
        found = central_differences(lambda: model.loss(X, Y), array, 1e-5, places)
        numeric += [found[place] for place in places]
        analytic += [slope[place] for place in places]
    analytic, numeric = np.array(analytic), np.array(numeric)
    assert np.linalg.norm(analytic) > 0
    assert np.linalg.norm(analytic - numeric) / np.linalg.norm(analytic) < 1e-7


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 5, 2500])
def test_gradients_are_the_mean_over_examples(n, dtype):
    rng = np.random.default_rng(3)
    X, y = rng.normal(size=(n, 7)).astype(dtype), rng.integers(0, 4, n)
    model = Model([7, 19, 4], activation="tanh", dtype=dtype, rng=4)
    expected = Twin(model).gradients(X, np.eye(4)[y])
    for pair, exact_pair in zip(model.gradients(X, y), expected, strict=True):
        for g, e in zip(pair, exact_pair, strict=True):
            assert g.dtype == dtype
            assert np.linalg.norm(g - e) / np.linalg.norm(e) < (1e-5 if dtype == "float32" else 1e-13)


def test_gradients_of_a_perceptron():
    model = Model([3, 2], output="step", dtype="float64", rng=0)
    X, Y = np.random.default_rng(0).normal(size=(9, 3)), np.eye(2)[np.arange(9) % 2]
    error = model.predict(X) - Y
    [(dw, db)] = model.gradients(X, Y)
    np.testing.assert_allclose(dw, error.T @ X / 9, atol=1e-15)
    np.testing.assert_allclose(db, error.mean(axis=0), atol=1e-15)


def test_gradients_change_nothing_and_are_fresh_arrays(state, blobs):
    model = Model([6, 9, 3], rng=0)
    before = state(model)
    first = model.gradients(*blobs)
    first[0][0][...] = 99
    assert not (model.gradients(*blobs)[0][0] == 99).any()
    assert state(model) == before


def test_gradients_of_frozen_layers_are_zero():
    model = Model([6, 9, 8, 3], dtype="float64", rng=0)
    X, Y = np.random.default_rng(0).normal(size=(9, 6)), np.random.default_rng(1).normal(size=(9, 3))
    expected = Twin(model).gradients(X, Y)
    model.freeze([1])
    for l, (pair, exact_pair) in enumerate(zip(model.gradients(X, Y), expected, strict=True)):
        for g, e in zip(pair, exact_pair, strict=True):
            np.testing.assert_allclose(g, e if l != 1 else 0, rtol=1e-12, atol=1e-16)


# ---- outputs of hidden layers, derivatives by the inputs ----


def softsign(z):
    return z / (1 + abs(z))


def softsign_slope(z):
    return 1 / (1 + abs(z)) ** 2


OUTPUTS = {
    **{name: {"output": name} for name in [*TRAINABLE, fastnn.Activation(softsign, softsign_slope)]},
    "softmax": {"output": "softmax", "loss": "cross_entropy"},
    "sigmoid of logits": {"output": "sigmoid", "loss": "cross_entropy"},
    "exp of logits": {"output": "exp", "loss": "poisson"},
}
KINKED = ["relu", "leaky_relu", "hard_sigmoid", "elu", "selu"]


def exact(model):
    """The network for `reference`, in float64."""
    parts = zip(model.weights, model.biases, model.layers, strict=True)
    return [(w.T.astype("f8"), b.astype("f8"), layer.activation) for w, b, layer in parts]


def with_biases(sizes, **options):
    model = Model(sizes, rng=4, **options)
    for b in model.biases:
        b[...] = np.random.default_rng(5).uniform(0.2, 0.8, b.shape)  # above zero, so that a relu is alive
    return model


@pytest.mark.parametrize("kind", OUTPUTS, ids=str)
@pytest.mark.parametrize("sizes", [[5, 3], [4, 8, 8, 2], [7, 33, 1], [130, 40, 10]])
def test_input_gradients_equal_central_differences(sizes, kind):
    """Each activation as the output and in the hidden layers, and the same as that of a row alone."""
    if kind == "softmax" and sizes[-1] == 1:
        pytest.skip("a softmax has two outputs or more")
    output = OUTPUTS[kind]["output"]
    hidden = "tanh" if output in ("softmax", "exp") else output
    model = with_biases(sizes, activation=hidden, dtype="float64", input_scale=0.7, **OUTPUTS[kind])
    X = np.random.default_rng(3).normal(size=(40, sizes[0]))
    h, numeric = 1e-5, np.empty((40, sizes[-1], sizes[0]))
    for j, step in enumerate(h * np.eye(sizes[0])):
        numeric[:, :, j] = (model.predict(X + step) - model.predict(X - step)) / (2 * h)
    got = model.input_gradients(X)
    assert got.shape == numeric.shape
    far = np.abs(got - numeric) > 1e-8 * max(1, np.abs(numeric).max())
    assert np.abs(numeric).max() > 1e-3
    # A kink lies within a step of few samples.
    assert far.any(axis=(1, 2)).sum() <= (2 if output in KINKED else 0)
    np.testing.assert_allclose(np.concatenate([model.input_gradients(x[None]) for x in X]), got, atol=1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("hidden", reference.ACTIVATIONS)
def test_hidden_outputs_and_input_gradients_against_the_reference(hidden, dtype):
    """In float32 rounding may decide on which side of a kink a few units are."""
    shapes = [3, 2], [6, 9, 4], [5, 7, 40, 6, 2], [10, 100, 10], [70, 16, 3]
    for sizes, kind in itertools.product(shapes, ("softmax", "identity")):
        model = with_biases(sizes, activation=hidden, dtype=dtype, **OUTPUTS[kind])
        for w in model.weights:
            w *= 0.1 if hidden == "exp" else 0.5
        X = np.random.default_rng(3).normal(size=(400, sizes[0])).astype(dtype)
        inside = reference.forward(exact(model), X.astype("f8"))[1:-1]
        slopes = reference.input_gradients(exact(model), X.astype("f8"))
        for n in (1, 2, 30, 400):
            got, found = model.hidden_activations(X[:n]), model.input_gradients(X[:n])
            assert [a.shape for a in got] == [(n, units) for units in sizes[1:-1]]
            assert all(a.dtype == dtype for a in (*got, found))
            near = np.isclose(found, slopes[:n], **CLOSE[dtype]).reshape(n, -1).all(axis=1)
            for a, want in zip(got, inside, strict=True):
                near &= np.isclose(a, want[:n], **CLOSE[dtype]).all(axis=1)
            assert (~near).sum() <= (2 if hidden in (*KINKED, "step") and dtype == "float32" else 0)


def test_the_derivative_of_a_step_is_taken_as_one():
    model = Model([3, Dense(4, "step"), Dense(2, "step")], dtype="float64", rng=0)
    X = np.random.default_rng(0).normal(size=(5, 3))
    (hidden,) = model.hidden_activations(X)
    np.testing.assert_array_equal(hidden, (X @ model.weights[0].T > 0) * 1.0)
    want = np.broadcast_to(model.weights[1] @ model.weights[0], (5, 2, 3))
    np.testing.assert_allclose(model.input_gradients(X), want, atol=1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
def test_hidden_outputs_and_input_gradients_of_many_outputs_and_of_no_hidden_layer(dtype):
    """More outputs than a program has at a time, and not a multiple of them."""
    for sizes in ([5, 41], [5, 8, 41], [4, 16], [4, 17]):
        model = with_biases(sizes, dtype=dtype, **OUTPUTS["softmax"])
        X = np.random.default_rng(0).normal(size=(300, sizes[0])).astype(dtype)
        want = reference.input_gradients(exact(model), X.astype("f8"))
        np.testing.assert_allclose(model.input_gradients(X), want, atol=1e-6 if dtype == "float32" else 1e-15)
        assert len(model.hidden_activations(X)) == len(sizes) - 2
    assert model.hidden_activations([[1, 2, 3, 4]]) == []
    with pytest.raises(ValueError, match=r"X must have shape \(n, 4\), got \(1, 3\)"):
        model.hidden_activations([[1, 2, 3]])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [[3, 5, 4, 2], [3, 2], [80, 20, 3], [10, 100, 10], [4, 300, 40]])
def test_hidden_outputs_and_input_gradients_of_a_row_have_the_same_bits_in_any_number_of_rows(sizes, dtype):
    model = with_biases(sizes, dtype=dtype, **OUTPUTS["softmax"])
    X = np.random.default_rng(0).normal(size=(1100, sizes[0]))
    for of in (model.input_gradients, lambda X: np.hstack([np.empty((len(X), 0)), *model.hidden_activations(X)])):
        whole = of(X)
        for n in (2, 3, 33, 34, 100, 127, 128, 129, 257, 1025):
            np.testing.assert_array_equal(of(X[7 : 7 + n]), whole[7 : 7 + n])


@pytest.mark.parametrize("dtype", DTYPES)
def test_hidden_outputs_and_input_gradients_for_x_of_any_kind(dtype):
    """Whole numbers in every form that `predict` takes; the result is for X as given, before it is scaled."""
    model = with_biases([5, 19, 7, 3], activation="silu", input_scale=1 / 64, dtype=dtype, **OUTPUTS["softmax"])
    whole = np.random.default_rng(0).integers(0, 200, (150, 5)) * (np.random.default_rng(1).random((150, 5)) < 0.6)
    scaled = Model([5, *model.layers], loss="cross_entropy", dtype=dtype)
    scaled.parameters[...] = model.parameters
    inside, slopes = scaled.hidden_activations(whole / 64), scaled.input_gradients(whole / 64) / 64
    forms = [whole.astype(kind) for kind in (np.uint8, np.int16, np.int64, np.float16, np.float32, np.float64, object)]
    forms += [np.asfortranarray(whole), whole.tolist(), np.repeat(whole, 2, axis=1)[:, ::2], whole[::-1].copy()[::-1]]
    forms += [scipy.sparse.csr_array(whole), scipy.sparse.csc_matrix(whole), scipy.sparse.coo_array(whole)]
    forms += [pandas.DataFrame(whole), pandas.DataFrame(whole).astype("Int32")]
    for X in forms:
        for a, want in zip(model.hidden_activations(X), inside, strict=True):
            np.testing.assert_array_equal(a, want)
        np.testing.assert_allclose(model.input_gradients(X), slopes, **CLOSE[dtype])
    np.testing.assert_array_equal(model.input_gradients(whole > 0), model.input_gradients((whole > 0).astype(int)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("hidden", ["relu", "step", "tanh", "silu", "exp"])
@pytest.mark.parametrize("kind", ["identity", "relu", "softmax", "exp of logits"])
def test_nan_in_gives_nan_in_hidden_outputs_and_input_gradients(kind, hidden, dtype):
    """In all of its row and in no other one, also in those that the same buffers serve next."""
    for sizes in ([3, 2], [3, 5, 4, 3], [70, 20, 3]):
        model = with_biases(sizes, activation=hidden, dtype=dtype, **OUTPUTS.get(kind, {"output": kind}))
        for w in model.weights:
            w *= 0.3
        for n in (1, 2, 40, 700):
            X = np.random.default_rng(0).normal(size=(n, sizes[0])) / 4
            want = [model.input_gradients(X), *model.hidden_activations(X), model.predict(X)]
            assert all(np.isfinite(a).all() for a in want)
            holed = X.copy()
            holed[n // 2, 1] = np.nan
            got = [model.input_gradients(holed), *model.hidden_activations(holed), model.predict(holed)]
            after = [model.input_gradients(X), *model.hidden_activations(X), model.predict(X)]
            for a, b, c in zip(got, want, after, strict=True):
                assert np.isnan(a[n // 2]).all()
                np.testing.assert_array_equal(np.delete(a, n // 2, axis=0), np.delete(b, n // 2, axis=0))
                np.testing.assert_array_equal(b, c)


def test_hidden_outputs_and_input_gradients_do_not_depend_on_what_is_frozen(state, blobs):
    X, y = blobs
    model = Model([6, 9, 8, 3], activation="tanh", rng=0, **OUTPUTS["softmax"])
    model.fit(X, y, epochs=1, batch_size=10)
    before = state(model), model.predict(X).tobytes(), model.loss(X, y), model.gradients(X, y)[0][0].tobytes()
    inside, slopes = model.hidden_activations(X), model.input_gradients(X)
    for a in (*inside, slopes):  # fresh arrays
        a[...] = 7
    assert (state(model), model.predict(X).tobytes(), model.loss(X, y)) == before[:3]
    assert model.gradients(X, y)[0][0].tobytes() == before[3]
    inside, slopes = model.hidden_activations(X), model.input_gradients(X)
    assert not (slopes == 7).any()
    for frozen in ([0], [1, 2], [0, 1, 2]):
        model.freeze(frozen)
        np.testing.assert_array_equal(np.hstack(model.hidden_activations(X)), np.hstack(inside))
        np.testing.assert_array_equal(model.input_gradients(X), slopes)


# ---- copies ----


COPIES = {
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_copy_is_equal_and_independent(how, dtype, blobs):
    X, y = blobs
    model = Model([6, 9, 3], dtype=dtype, input_scale=0.5, rng=0)
    model.fit(X, y, epochs=1, batch_size=10)
    model.freeze(0)
    twin = COPIES[how](model)
    assert repr(twin) == repr(model)
    assert twin.frozen == {0}
    assert twin.history.loss == model.history.loss
    assert bits(twin) == bits(model)
    np.testing.assert_array_equal(twin.predict(X), model.predict(X))
    before = bits(model)
    twin.fit(X, y, epochs=2, batch_size=10)
    twin.weights[0][...] = 3
    assert bits(model) == before
    assert len(model.history.loss) == 1


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_goes_on_with_the_same_bits(how, blobs):
    X, y = blobs
    model = Model([6, 9, 3], rng=0)
    model.fit(X, y, epochs=2, batch_size=10)
    twin = COPIES[how](model)
    for each in (model, twin):
        each.fit(X, y, epochs=3, batch_size=10, validation_fraction=0.2)
    assert bits(model) == bits(twin)
    assert model.history.val_loss == twin.history.val_loss


def test_a_copy_made_by_a_callback_does_not_grow(blobs):
    X, y = blobs
    model, copies = Model([6, 9, 3], rng=0), []
    model.fit(X, y, epochs=3, batch_size=10, optimizer="adam", callbacks=[lambda m: copies.append(copy.copy(m))])
    assert [len(each.history.loss) for each in copies] == [1, 2, 3]
    copies[1].fit(X, y, epochs=1, batch_size=10, optimizer="adam")
    assert bits(copies[1]) == bits(model) != bits(copies[0])


def test_what_is_handed_out_are_views_that_nobody_can_resize():
    model = Model([6, 9, 3], rng=0)
    before = bits(model)
    for array in (model.parameters, *model.weights, *model.biases):
        for owner in (array, array.base):
            with pytest.raises(ValueError, match="resize"):
                owner.resize(10**6, refcheck=False)
    state = model.__getstate__()
    state["parameters"][...] = 7
    assert bits(model) == before


@pytest.mark.parametrize("name", ["weights", "biases", "parameters", "loss_name", "input_scale", "dtype", "sizes"])
def test_what_a_model_is_cannot_be_assigned(name):
    model = Model([6, 9, 3], rng=0)
    with pytest.raises(AttributeError):
        setattr(model, name, 3)


def test_nan_decides_for_no_class():
    model = Model([2, 3], rng=0)
    X = np.array([[0, 1], [np.nan, 0], [1, 1]], np.float32)
    with pytest.raises(ValueError, match=r"X must give outputs that are numbers, got NaN for X\[1\]"):
        model.classify(X)
    assert model.classify(X[[0, 2]]).shape == (2,)
    model = Model([2, 2], activation="identity", output="identity", init="zeros")
    model.weights[0][...] = 3e38
    X = np.array([[1, 1], [0, 0]], np.float32)  # finite, but its outputs are not
    model.weights[0][0] = -3e38, -3e38
    assert model.classify(X).tolist() == [1, 0]
    model.biases[0][...] = 3e38, -np.inf
    model.weights[0][1] = np.inf
    assert np.isnan(model.predict(X)).any()
    assert np.isnan(model.evaluate(X, [1, 0])["accuracy"])


# ---- freeze, replace_head ----


@pytest.mark.parametrize(
    ("layers", "frozen"),
    [(0, {0}), ([0, 1], {0, 1}), (-1, {2}), ([-3, 1], {0, 1}), ((), set()), (np.int64(1), {1}), (range(3), {0, 1, 2})],
)
def test_freeze_takes_indices(layers, frozen):
    model = Model([4, 5, 6, 3])
    model.freeze(layers)
    assert model.frozen == frozen


@pytest.mark.parametrize("batch_size", [7, 100, 1300])
@pytest.mark.parametrize("sizes", [[4, 18, 6, 3], [4, 5, 6, 3]])
@pytest.mark.parametrize("frozen", [(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2)])
def test_frozen_layers_keep_their_bits_and_the_others_train(frozen, sizes, batch_size):
    rng = np.random.default_rng(0)
    n = 1300
    X, Y = rng.normal(size=(n, 4)), rng.random(size=(n, 3))
    model = Model(sizes, dtype="float64", rng=0)
    model.freeze(frozen)
    twin, before = Twin(model), copy.deepcopy(model)
    order = np.arange(n)[None]
    model.fit(X, Y, epochs=1, batch_size=batch_size, shuffle=order, optimizer=SGD(0.5))
    twin.sgd(X, Y, order, batch_size, 0.5, frozen)
    assert twin.relative_error(model) < 1e-11
    for l in range(3):
        assert (model.weights[l].tobytes() == before.weights[l].tobytes()) == (l in frozen)
        assert (model.biases[l].tobytes() == before.biases[l].tobytes()) == (l in frozen)


def test_all_layers_frozen_changes_nothing(blobs):
    X, y = blobs
    model = Model([6, 9, 3], rng=0)
    model.freeze([0, 1])
    before = bits(model)
    history = model.fit(X, y, epochs=2, batch_size=10)
    assert bits(model) == before
    assert history.loss == pytest.approx([Twin(model).losses(X, np.eye(3)[y]).mean()] * 2, rel=1e-6)


def test_freeze_keeps_parameters_views_and_random_state(blobs):
    X, y = blobs
    model, twin = Model([6, 9, 3], rng=0), Model([6, 9, 3], rng=0)
    weights, parameters = model.weights, model.parameters
    model.freeze(0)
    model.freeze(())
    assert np.shares_memory(model.parameters, parameters)
    weights[0][0, 0] = 42
    assert model.weights[0][0, 0] == 42
    twin.weights[0][0, 0] = 42
    for each in (model, twin):
        each.fit(X, y, epochs=2, batch_size=10)
    assert bits(model) == bits(twin)


def test_unfreezing_while_training(blobs):
    X, y = blobs
    model = Model([6, 9, 3], rng=0)
    model.freeze(0)

    def unfreeze(m):
        if len(m.history.loss) == 2:
            m.freeze(())

    model.fit(X, y, epochs=5, batch_size=10, callbacks=[unfreeze])
    twin = Model([6, 9, 3], rng=0)
    twin.freeze(0)
    twin.fit(X, y, epochs=2, batch_size=10)
    twin.freeze(())
    twin.fit(X, y, epochs=3, batch_size=10)
    assert bits(model) == bits(twin)


@pytest.mark.parametrize("n_out", [1, 3, 40])
def test_replace_head_keeps_the_other_layers(n_out, padding):
    model = Model([6, 9, 8, 3], activation="tanh", rng=0)
    before = copy.deepcopy(model)
    model.replace_head(n_out, rng=1)
    assert model.sizes == (6, 9, 8, n_out)
    assert model.layers[-1] == Dense(n_out, "sigmoid")
    for l in (0, 1):
        np.testing.assert_array_equal(model.weights[l], before.weights[l])
        np.testing.assert_array_equal(model.biases[l], before.biases[l])
    assert model.weights[2].shape == (n_out, 8)
    assert not model.biases[2].any()
    assert not np.isin(model.weights[2], before.weights[2]).any()
    assert not padding(model).any()


@pytest.mark.parametrize("n_out", [2**31 - 1, 2**40])
def test_a_head_that_is_too_large_changes_nothing(n_out, state, tmp_path):
    model = Model([600, 9, 3], rng=0)
    before = state(model)
    with pytest.raises((MemoryError, ValueError)):
        replace_head_in_little_memory(model, n_out)
    assert state(model) == before
    assert model.sizes == (600, 9, 3)
    model.freeze(0)
    model.save(tmp_path / "model")
    assert bits(fastnn.load(tmp_path / "model")) == bits(model) == bits(copy.copy(model))


def replace_head_in_little_memory(model, n_out):
    """As if there were 2 GiB."""
    zeros = np.zeros

    def limited(shape, *rest, **named):
        if np.prod(shape, dtype=float) > 2**31:
            raise MemoryError
        return zeros(shape, *rest, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "zeros", limited)
        model.replace_head(n_out)


def test_replace_head_options():
    model = Model([6, 9, 3], rng=0)
    model.replace_head(2, activation="identity", init="zeros")
    assert model.layers[-1] == Dense(2, "identity")
    assert not model.weights[-1].any()
    first, second = copy.deepcopy(model), copy.deepcopy(model)
    first.replace_head(4, rng=5)
    second.replace_head(4, rng=5)
    assert bits(first) == bits(second)


def test_replace_head_of_a_single_layer():
    model = Model([6, 3], rng=0)
    model.replace_head(3, rng=1)
    assert not np.isin(model.weights[0], Model([6, 3], rng=0).weights[0]).any()


def test_replace_head_thaws_the_head_only(blobs):
    X, y = blobs
    model = Model([6, 9, 5], rng=0)
    model.freeze([0, 1])
    model.replace_head(3, rng=0)
    assert model.frozen == {0}
    before = copy.deepcopy(model)
    model.fit(X, y, epochs=3, batch_size=10, optimizer=SGD(1.0))
    assert model.weights[0].tobytes() == before.weights[0].tobytes()
    assert model.evaluate(X, y)["loss"] < before.evaluate(X, y)["loss"]


def test_predict_after_replace_head_uses_workspaces_of_the_new_size():
    model = Model([6, 9, 3], rng=0)
    X = np.random.default_rng(0).normal(size=(2000, 6)).astype(np.float32)
    model.predict(X)
    model.replace_head(200, rng=0)
    np.testing.assert_allclose(model.predict(X), Twin(model).predict(X), **CLOSE["float32"])
