"""ONNX files: ONNX Runtime and onnx's own reference give the predictions of the network."""

import inspect
import json
import math
import sys
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the extra onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("sklearn", reason="the extra sklearn is not installed")

import onnx

import fastnn
from fastnn import BatchNorm, Dense, Embedding, LayerNorm, Model, Population, Residual, Scale
from fastnn.exchange import numpy_steps, onnx_file, onnx_graph
from fastnn.exchange.computation import CLASSES, LABELS, NUMBERS, OF_COLUMNS, Computation, Decision, Step
from fastnn.exchange.describing import computation_of
from fastnn.exchange.self_test import TOLERANCE, SelfTest
from fastnn.settings.layers import HIDDEN

from ..cases import DTYPES

rng = np.random.default_rng(0)
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SEVERAL = Decision(LABELS, np.arange(3))
# Output layers: units, activation, loss, names of the classes.
HEADS = {
    "two classes": (1, "sigmoid", "cross_entropy", ["no", "yes"]),
    "two outputs": (2, "softmax", "cross_entropy", [False, True]),
    "three classes": (3, "softmax", "cross_entropy", [2**62, 5, -1]),
    "several labels": (3, "sigmoid", "cross_entropy", SEVERAL),
    "a number": (1, "identity", "quadratic", None),
    "three numbers": (3, "identity", "quadratic", None),
    "counts": (2, "exp", "poisson", None),
    "means and deviations": (4, "identity", "gaussian", None),
    "two classes by sign": (1, "identity", "hinge", [1.5, 2.5]),
}


def content(computation, name="net", expressions=None):
    """The bytes of a file, which onnx's checker approves of."""
    found = onnx_file.written(computation, SelfTest.of(computation), name, expressions or {})
    model = onnx.load_from_string(found)
    onnx.checker.check_model(model, full_check=True)
    assert {each.domain for each in model.opset_import} == {""}
    gelu = any(node.op_type == "Gelu" for node in model.graph.node)
    assert (model.ir_version, model.opset_import[0].version) == (8, 20 if gelu else 18)
    return found


def both(found, X):
    """What ONNX Runtime and onnx's reference give."""
    for opened in (onnx_file._by_runtime, onnx_file._by_reference):
        yield opened(found).outputs(np.asarray(X, opened(found).dtype))


def agree(got, want, tolerance):
    """Equal up to a tolerance, relative where they are above 1."""
    assert got.shape == want.shape
    np.testing.assert_allclose(got / np.maximum(1, np.abs(want)), want / np.maximum(1, np.abs(want)), 0, tolerance)


def same(computation, X, outputs, predictions, tolerance=None, **options):
    """A file's outputs are those (n, n_outputs) of the network, and its labels or numbers are the predictions."""
    tolerance, decision = tolerance or TOLERANCE[computation.dtype], computation.decision
    for got in both(content(computation, **options), X):
        if decision.kind == NUMBERS:
            assert [*got] == (["prediction", "deviation"] if decision.deviations else ["prediction"])
            agree(np.hstack([*got.values()]), outputs, tolerance)
            agree(got["prediction"], np.asarray(predictions).reshape(got["prediction"].shape), tolerance)
            assert {each.dtype for each in got.values()} == {np.dtype(computation.dtype)}
            continue
        assert [*got] == ["label", "probabilities" if decision.probabilities else "scores"]
        agree(got[[*got][1]], computation.probabilities(outputs), tolerance)
        np.testing.assert_array_equal(got["label"], predictions)
        assert got["label"].shape == predictions.shape
        assert got["label"].dtype == (object if predictions.dtype.kind == "U" else predictions.dtype)


def shaken(model):
    """A model whose parameters and running statistics are all different."""
    for tensors in model.tensors:
        for name, tensor in tensors.items():
            tensor += 0.3 + rng.random(tensor.shape) if "variance" in name else rng.normal(0, 0.3, tensor.shape)
    return model


def checked(model, X, labels=None, tolerance=None):
    """A model's file gives what the model gives."""
    computation = computation_of(model, None if labels is SEVERAL else labels)
    if labels is SEVERAL:
        computation = replace(computation, decision=SEVERAL)
    X = np.asarray(X, computation.dtype)
    if not len(X):
        outputs = np.zeros((0, computation.n_outputs))
        predictions = computation.predictions(outputs.astype(computation.dtype))
    elif computation.decision.deviations:
        predictions, deviations = model.predict(X, return_std=True)
        outputs = np.stack([predictions, deviations], axis=1).reshape(len(X), -1)
    else:
        outputs = predictions = model.predict(X).reshape(len(X), -1)
        if computation.decision.kind == CLASSES:
            predictions = computation.decision.labels[model.classify(X)]
        elif labels is SEVERAL:
            predictions = (outputs > 0.5).astype(np.int64)
    same(computation, X, outputs, predictions, tolerance)


@pytest.mark.parametrize("scale", [1 + 1e-8, 1 - 1e-8])
def test_a_scale_that_onnx_runtime_takes_for_1(scale):
    """It rounds one number of float64 to float32 before it compares it with 0 or 1."""
    model = Model([1, Dense(1, "identity")], dtype="float64", rng=0, input_scale=[scale])
    X = np.array([[1.0], [3.0], [-2.0]])
    expected = X * scale * model.weights[0].item() + model.biases[0].item()
    np.testing.assert_allclose(model.predict(X), expected, rtol=1e-14)
    checked(model, X)


@pytest.mark.parametrize(("operator", "difference"), [("Add", 1e-60), ("Sub", 1e-60), ("Mul", 1e-9), ("Div", -1e-9)])
def test_operations_that_are_nearly_none(operator, difference):
    neutral = float(operator in ("Mul", "Div"))
    graph = onnx_graph.Graph(np.dtype("float64"))
    read, given = np.array([[difference], [3.0], [-1e9]]), neutral + difference
    value = graph.add(operator, graph.add("Neg", "X"), np.array([given]))  # of an input it leaves out none
    graph.rename({graph.add("Neg", value): "y"})
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, [None, 1]) for name in "Xy")
    exact = {"Add": read + given, "Sub": read - given, "Mul": read * given, "Div": read / given}[operator]
    for found in both(graph.model("net", [x], [y]).SerializeToString(), -read):
        np.testing.assert_allclose(-found["y"], exact, rtol=3e-16, atol=0)


# ---- every step ----

OPERANDS = {
    "shifted": {"high": np.array([1000.0, 0, -3]), "low": np.array([1e-6, 0, 0]), "scale": np.array([0.5, 1, 2])},
    "columns": {"which": np.array([2, 0])},
    "looked_up": {"column": 1, "table": np.arange(10.0).reshape(5, 2)},
    "dense": {"weight": np.arange(6.0).reshape(2, 3) / 3, "bias": np.array([0.5, -1])},
    "affine": {"factor": np.array([0.5, 1, 2]), "shift": np.array([3, 0.1, -1])},
    "normalised": {"epsilon": 1e-5},
    "sloped": {"slope": np.array([0.25, -1, 2])},
    "clipped": {"least": np.array([-1, -2, 0.5]), "most": np.array([0.5, 1, 2])},
    "imputed": {"fill": np.array([0.25, -1, 2])},
    "deviations": {"least": 1e-6},
}
READS = {"joined": 3, "added": 2, "mean": 3, "mixture": 2}  # the others read one value
FUNCTIONS = [name for name, each in inspect.getmembers(numpy_steps, inspect.isfunction)]


def test_every_function_has_a_writer():
    assert sorted(onnx_file.WRITERS) == sorted([*FUNCTIONS, *OF_COLUMNS])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions(function, dtype):
    """On usual numbers, large ones, infinities and NaN."""
    if (function, dtype) == ("gelu", "float64"):
        pytest.skip("ONNX Runtime has no gelu in double precision, see test_networks")
    number, given = READS.get(function, 1), OPERANDS.get(function, {})
    operands = {
        name: value.astype(dtype if value.dtype.kind == "f" else int) if isinstance(value, np.ndarray) else value
        for name, value in given.items()
    }
    inputs = 4 if function == "mixture" else 3
    # The values that are read have other signs and sizes each.
    factors = [np.full(inputs, factor, dtype) for factor in (1, -0.5, 2)[:number]]
    steps = [Step("affine", (0,), inputs, {"factor": each, "shift": np.zeros_like(each)}) for each in factors]
    last = Step(function, tuple(range(1, number + 1)), 0, operands)
    X = rng.normal(0, 3, (50, inputs))
    X[:25] = X[:25].round()
    X[10:30] *= 4
    X[-3:] += 100
    special = [[np.nan, 1, 2], [1, np.nan, 2], [np.inf, 1, 0], [1, -np.inf, 0], [1e30, 1, 1], [1, -1e30, 1], [0.5] * 3]
    X = np.vstack([X, np.pad(special, ((0, 0), (0, inputs - 3)), constant_values=1)]).astype(dtype)
    with np.errstate(all="ignore"):
        want = last.value(*(X * each for each in factors))
    steps.append(Step(function, last.reads, want.shape[1], operands))
    computation = Computation(dtype, inputs, tuple(steps), Decision(NUMBERS))
    for got in both(content(computation), X):
        finite = np.isfinite(want)
        np.testing.assert_array_equal(got["prediction"][~finite], want[~finite])
        agree(got["prediction"][finite], want[finite], 2 * TOLERANCE[dtype])
        assert got["prediction"].dtype == dtype


# ---- networks ----


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", HIDDEN)
def test_networks(activation, dtype, head):
    units, output, loss, labels = HEADS[head]
    layers = [6, Dense(8, activation), Dense(units, output)]
    model = shaken(Model(layers, loss=loss, dtype=dtype, rng=1))
    model.parameters[...] *= 0.5  # so that rounding grows little
    if (activation, dtype) == ("gelu", "float64"):
        with pytest.raises(ValueError, match="'gelu' must be in a float32 network for ONNX"):
            content(computation_of(model))
        return
    for n in (0, 1, 7, 1000):
        checked(model, rng.normal(0, 1, (n, 6)), labels)


NETWORKS = {
    "scale in front": [Scale(), Dense(9, "gelu")],
    "batch norm": [BatchNorm(), Dense(9, "identity"), BatchNorm(activation="relu"), Dense(4, "tanh"), BatchNorm()],
    "layer norm": [Dense(9, "identity"), LayerNorm(activation="elu"), LayerNorm(), Dense(4, "selu")],
    "residual": [Dense(8, "relu"), Residual(LayerNorm(), Dense(12, "relu"), Dense(8, "identity"), activation="tanh")],
    "residual of inputs": [Residual(Dense(6, "tanh")), Residual(Residual(Dense(6, "identity")), BatchNorm())],
}


@pytest.mark.parametrize("layers", NETWORKS)
def test_layers(layers):
    model = shaken(Model([6, *NETWORKS[layers], Dense(3, "softmax")], loss="cross_entropy", rng=1))
    checked(model, rng.normal(0, 2, (100, 6)), tolerance=2e-6)


def test_codes():
    model = shaken(Model([4, Embedding([1, 3], [7, 5]), Dense(8, "relu"), Dense(2, "identity")], rng=1))
    X = np.stack([*rng.standard_normal((2, 30)), *rng.integers(0, 5, (2, 30))], axis=1)[:, [0, 2, 1, 3]]
    checked(model, X)
    X[3, 1], X[4, 3], X[5, 1], X[6, 1] = 7, 0.5, np.nan, -1
    for got in both(content(computation_of(model)), X):
        np.testing.assert_array_equal(np.isnan(got["prediction"]).all(axis=1), np.isin(np.arange(30), [3, 4, 5, 6]))


@pytest.mark.parametrize("ratio", [1, 1e3, 1e6])
def test_shifts_of_inputs(ratio):
    """2e-6 of float64 on the same rows of float32."""
    X = (rng.standard_normal((300, 6)) + ratio).astype(np.float32)
    shift, scale = fastnn.standardize(X)
    model = shaken(Model([6, Dense(16, "tanh"), Dense(1, "identity")], input_shift=shift, input_scale=scale, rng=1))
    z = (X.astype(np.float64) - shift) * scale
    (w, v), (b, c) = model.weights, model.biases
    want = np.tanh(z @ w.T.astype(float) + b) @ v.T.astype(float) + c
    for got in both(content(computation_of(model)), X):
        agree(got["prediction"], want, 2e-6)


def test_populations():
    X = rng.standard_normal((30, 6)).astype(np.float32)
    population = Population([6, Dense(5, "tanh"), Dense(3, "softmax")], 4, loss="cross_entropy", rng=0)
    outputs = population.predict(X, "mean")
    same(computation_of(population), X, outputs, outputs.argmax(axis=1))


def test_ties_go_to_the_first_class_and_the_threshold_to_the_first():
    X = np.zeros((3, 2), np.float32)
    three = Model([2, Dense(3, "softmax")], loss="cross_entropy", init="zeros")
    one = Model([2, Dense(1, "sigmoid")], loss="cross_entropy", init="zeros")
    for model in (three, one):
        for got in both(content(computation_of(model, [*"abc"[: max(2, model.sizes[-1])]])), X):
            assert got["label"].tolist() == ["a"] * 3


def by_opencv(path, X):
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    net = cv2.dnn.readNetFromONNX(str(path))
    net.setInput(X)
    return net.forward(["label", "probabilities"])


def by_tract(path, X):
    tract = pytest.importorskip("tract", reason="tract is not installed")
    return [each.to_numpy() for each in tract.onnx().load(path).into_model().into_runnable().run([X])]


@pytest.mark.parametrize("outputs_of", [by_opencv, by_tract])
@pytest.mark.parametrize("activation", HIDDEN)
def test_other_systems(activation, outputs_of, tmp_path):
    layers = [Scale(), Dense(8, "identity"), LayerNorm(), BatchNorm(activation=activation), Residual(Dense(8, "tanh"))]
    model = shaken(Model([6, *layers, Dense(1, "sigmoid")], loss="cross_entropy", input_shift=0.5, rng=1))
    X, path = rng.standard_normal((50, 6)).astype(np.float32), tmp_path / "net.onnx"
    model.export(path)
    label, probabilities = outputs_of(path, X)
    agree(probabilities[:, 1:], model.predict(X), 2e-6)
    np.testing.assert_array_equal(label.ravel(), model.classify(X))


# ---- estimators ----

LABELLED = {
    "text": ["low", "high", "mïddle"],
    "objects": np.array(["low", "high"], object),
    "bool": [False, True],
    "int": [2**62, 5, -1],
    "int above 32 bits": [10_000_000_000, 10_000_000_001],
    "small int": np.array([3, 1, 2], np.int8),
    "float": [1.0, 2.0, -3.0],
    "single": np.array([1, 5], np.float32),
}


@pytest.mark.parametrize("kind", [fastnn.MLPClassifier, fastnn.MLPEnsembleClassifier])
@pytest.mark.parametrize("labels", LABELLED)
def test_classifiers(labels, kind):
    """Labels keep their dtype and value; skl2onnx takes integers through int32, and floats and bools to int64."""
    X, y = rng.standard_normal((90, 6)).astype(np.float32), np.array(LABELLED[labels])
    y = y[np.arange(90) % len(y)]
    classifier = kind(hidden_layer_sizes=8, max_iter=5, random_state=0).fit(X, y)
    computation = computation_of(classifier)
    for got in both(content(computation), X):
        assert got["label"].dtype == (object if y.dtype.kind == "U" else y.dtype)
        np.testing.assert_array_equal(got["label"], classifier.predict(X))
        agree(got["probabilities"], classifier.predict_proba(X), TOLERANCE[computation.dtype])


def test_labels_that_onnx_has_not():
    model = Model([2, Dense(1, "sigmoid")], rng=0)
    days = np.array(["2020-01-01", "2020-01-02"], "datetime64[D]")
    for labels in (days, np.array(["a", 1], object)):
        with pytest.raises(ValueError, match="labels must be booleans, integers, floats or text in ONNX, got"):
            content(computation_of(model, labels))


def test_several_labels():
    X = rng.standard_normal((60, 6)).astype(np.float32)
    several = fastnn.MLPClassifier(8, max_iter=5, random_state=0).fit(X, (X[:, :3] > 0).astype(int))
    same(computation_of(several), X, several.predict_proba(X), several.predict(X))


@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
@pytest.mark.parametrize("n", [1, 2])
def test_regressors(n, loss):
    """skl2onnx gives two outputs as one column of twice the rows, and has no exp."""
    X = rng.standard_normal((60, 6)).astype(np.float32)
    y = np.exp(X[:, 0] / 2) if n == 1 else np.exp(X[:, :2] / 2)
    regressor = fastnn.MLPRegressor(loss, 8, max_iter=5, random_state=0).fit(X, y)
    predictions = regressor.predict(X)
    same(computation_of(regressor), X, predictions.reshape(60, n), predictions)


def test_ensembles():
    X = rng.standard_normal((60, 6)).astype(np.float32)
    ensemble = fastnn.MLPEnsembleRegressor(
        hidden_layer_sizes=5, loss="gaussian", n_estimators=3, max_iter=30, random_state=0
    )
    ensemble.fit(X, X[:, 0])
    predictions, deviations = ensemble.predict(X, return_std=True)
    same(computation_of(ensemble), X, np.stack([predictions, deviations], axis=1), predictions)
    ensemble = fastnn.MLPEnsembleRegressor(hidden_layer_sizes=5, n_estimators=3, max_iter=5, random_state=0)
    predictions = ensemble.fit(X, X[:, :2]).predict(X)
    same(computation_of(ensemble), X, predictions, predictions)


# ---- activations of a user ----


def softsign(z):
    return z / (1 + abs(z))


def softsign_slope(z):
    return 1 / (1 + abs(z)) ** 2


@pytest.mark.parametrize("dtype", DTYPES)
def test_own_activations(dtype):
    activation = fastnn.Activation(softsign, softsign_slope)
    model = Model([6, Dense(5, activation), Dense(4, activation), Dense(1, "identity")], dtype=dtype, rng=0)
    computation = computation_of(model)
    X, kind = rng.standard_normal((20, 6)).astype(dtype), {"float32": "float", "float64": "double"}[dtype]
    text = f"one = Constant<value = {kind} {{1.0}}>() size = Abs(x) below = Add(size, one) y = Div(x, below)"
    same(computation, X, model.predict(X), model.predict(X), expressions={"softsign": text})
    other = {"float32": "double", "float64": "float"}[dtype]
    wrong = {
        "z / (1 + abs(z))": "",
        "y = Softsign(z)": "",
        "z = Softsign(x)": "",
        "y = Foo(x)": "",
        "y = If(x)": "",
        text.replace(kind, other): "",
        "y = Cast<to = 7>(x)": "",
        "y = Transpose(x)": "whose y has shape (1, 10)",
        "y = Tanh(x)": "which gives -0.980096 in place of -0.69697 for x = -2.3",
    }
    steep = fastnn.Activation(lambda z: math.exp(z), lambda z: math.exp(z))  # beyond what float32 holds for 100
    onnx_file._check_own(steep, "y = Exp(x)", np.dtype(dtype))
    for expression, message in wrong.items():
        with pytest.raises(ValueError, match="the expression of 'softsign' must be nodes in ONNX's text") as error:
            content(computation, expressions={"softsign": expression})
        assert message in str(error.value)


# ---- files ----


def test_what_a_file_says(tmp_path):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    X = pandas.DataFrame(rng.standard_normal((30, 3)), columns=["ä", "b", "c"])
    y = np.array(["no", "yes"])[np.arange(30) % 2]
    classifier = fastnn.MLPClassifier(4, max_iter=3, random_state=0).fit(X, y)
    path = tmp_path / "net.onnx"
    classifier.export(path, rows=X.to_numpy()[4:])
    model = onnx.load(path)
    said = {each.key: each.value for each in model.metadata_props}
    assert (model.producer_name, model.producer_version) == ("fastnn", fastnn.__version__)
    assert (said["producer"], said["fastnn_version"]) == ("fastnn", fastnn.__version__)
    assert json.loads(said["feature_names"]) == ["ä", "b", "c"]
    assert json.loads(said["classes"]) == ["no", "yes"]
    assert model.graph.name == "net"
    assert [each.name for each in model.graph.input] == ["X"]
    assert [each.dim_param for each in model.graph.input[0].type.tensor_type.shape.dim] == ["N", ""]
    test = onnx_file.self_test(path)
    want = SelfTest.of(computation_of(classifier), X.to_numpy()[4:])
    for name in ("inputs", "outputs", "predictions"):
        np.testing.assert_array_equal(getattr(test, name), getattr(want, name))
        assert getattr(test, name).dtype == getattr(want, name).dtype
    assert test.tolerance == want.tolerance
    found = onnx_file.run(path, test.inputs)
    agree(found["probabilities"][:, 1:], test.outputs, test.tolerance)
    np.testing.assert_array_equal(found["label"], test.predictions)
    assert found["label"].dtype == "<U3"
    np.testing.assert_array_equal(found["label"], onnx_file.run(path.read_bytes(), test.inputs)["label"])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("labels", [None, [2**62, 5], [True, False], [0.1, 2.5]])
def test_the_rows_that_travel(labels, dtype):
    model = shaken(Model([3, Dense(8, "mish"), Dense(1, "sigmoid")], loss="cross_entropy", dtype=dtype, rng=0))
    computation = computation_of(model, labels)
    test, want = onnx_file.self_test(content(computation)), SelfTest.of(computation)
    for name in ("inputs", "outputs", "predictions"):
        np.testing.assert_array_equal(getattr(test, name), getattr(want, name))
        assert getattr(test, name).dtype == getattr(want, name).dtype


def changed(model, name, change):
    """The bytes of a model with a constant changed."""
    other = onnx.ModelProto()
    other.CopyFrom(model)
    constant = next(each for each in other.graph.initializer if each.name == name)
    constant.CopyFrom(onnx.numpy_helper.from_array(change(onnx.numpy_helper.to_array(constant)), name))
    return other.SerializeToString()


def test_the_rows_tell_of_a_change():
    """One weight by a thousandth, two labels, two columns."""
    network = shaken(Model([3, Dense(8, "tanh"), Dense(3, "softmax")], loss="cross_entropy", rng=0))
    found = content(computation_of(network, ["a", "b", "c"]))
    model, test = onnx.load_from_string(found), onnx_file.self_test(found)
    weight, labels = (
        next(node for node in model.graph.node if node.op_type == operator).input[place]
        for operator, place in (("Gemm", 1), ("Gather", 0))
    )

    def differ(content):
        got = onnx_file.run(content, test.inputs)
        outputs = np.abs(got["probabilities"] - test.outputs).max() > test.tolerance
        return bool(outputs), bool((got["label"] != test.predictions).any())

    assert differ(found) == (False, False)
    for i, j in np.ndindex(8, 3):
        factors = np.ones((8, 3), np.float32)
        factors[i, j] += 1e-3
        assert differ(changed(model, weight, factors.__mul__))[0]
    assert differ(changed(model, weight, lambda w: w[:, [1, 0, 2]]))[0]
    assert differ(changed(model, labels, lambda names: names[[1, 0, 2]])) == (False, True)


def test_two_exports_have_the_same_bytes(tmp_path):
    model = Model([3, LayerNorm(), Dense(8, "mish"), Dense(3, "softmax")], loss="cross_entropy", rng=0)
    paths = [tmp_path / folder / "net.onnx" for folder in "ab"]
    for path in paths:
        path.parent.mkdir()
        model.export(path, labels=["a", "b", "c"])
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_without_onnx(tmp_path, monkeypatch):
    """Files run by ONNX Runtime alone, or by onnx alone; writing one needs onnx."""
    model, X = shaken(Model([3, Dense(8, "tanh"), Dense(2, "identity")], rng=0)), rng.standard_normal((9, 3))
    path = tmp_path / "net.onnx"
    model.export(path)
    tests = []
    for absent in ("onnx", "onnxruntime"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, absent, None)
            agree(onnx_file.run(path, X)["prediction"], model.predict(X), 1e-6)
            tests.append(onnx_file.self_test(path))
    np.testing.assert_array_equal(tests[0].inputs, tests[1].inputs)
    path.unlink()
    monkeypatch.setitem(sys.modules, "onnx", None)
    message = r"ONNX files need onnx: pip install 'fastnn-numba\[onnx\]'"
    with pytest.raises(ModuleNotFoundError, match=message):
        model.export(path)
    assert not path.exists()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModuleNotFoundError, match=message):
        onnx_file.run(b"", X)


def test_other_files(monkeypatch):
    found = content(computation_of(Model([3, 2], rng=0)))
    other = onnx.load_from_string(found)
    other.ClearField("metadata_props")
    unreadable = onnx.load_from_string(found)
    next(each for each in unreadable.metadata_props if each.key == "self_test").value = "{"
    for absent in ("nothing", "onnxruntime"):
        monkeypatch.setitem(sys.modules, absent, None)
        with pytest.raises(ValueError, match=r"file must be an ONNX file of fastnn, got 7 bytes: "):
            onnx_file.run(b"no file", np.zeros((1, 3)))
        with pytest.raises(ValueError, match=r"must be an ONNX file of fastnn, got \d+ bytes, which says nothing of"):
            onnx_file.run(other.SerializeToString(), np.zeros((1, 3)))
        with pytest.raises(ValueError, match=r"got \d+ bytes, whose self test cannot be read"):
            onnx_file.self_test(unreadable.SerializeToString())
    with pytest.raises(TypeError, match="path must be a string"):
        onnx_file.run(3, np.zeros((1, 3)))
    with pytest.raises(FileNotFoundError):
        onnx_file.self_test("no such file.onnx")


@pytest.mark.parametrize("dtype", DTYPES)
def test_verify_finds_changes(dtype, tmp_path):
    """A bit of a weight, swapped labels and swapped columns; also names, which no row can tell."""
    path = tmp_path / "net.onnx"
    model = Model([3, Dense(6, "tanh"), Dense(3, "softmax")], loss="cross_entropy", dtype=dtype, rng=0)
    model.export(path, labels=["ash", "birch", "cedar"])
    found = fastnn.verify(path)
    assert (found.rows, found.wrong_labels, found.intact, found.passed) == (16, 0, True, True)
    assert found.error <= {"float32": 1e-6, "float64": 1e-12}[dtype]
    content = path.read_bytes()
    weight = model.weights[0].tobytes()
    assert content.count(weight) == 1
    flipped, swapped = (np.frombuffer(weight, dtype).copy() for _ in range(2))
    flipped[4] *= 1.002
    rows = swapped.reshape(6, 3)
    rows[:, [0, 1]] = rows[:, [1, 0]]
    for changed in (flipped, swapped):
        path.write_bytes(content.replace(weight, changed.tobytes()))
        found = fastnn.verify(path)
        assert (found.passed, found.intact) == (False, False)
        assert found.error > 1e-5
    onnx_model = onnx.load_from_string(content)
    (labels,) = (each for each in onnx_model.graph.initializer if each.data_type == onnx.TensorProto.STRING)
    labels.string_data[:] = [labels.string_data[i] for i in (1, 0, 2)]
    path.write_bytes(onnx_model.SerializeToString())
    found = fastnn.verify(path)
    assert found.wrong_labels > 0
    assert (found.error, found.passed) == (fastnn.verify(path).error, False)
    said = onnx.load_from_string(content)
    next(each for each in said.metadata_props if each.key == "classes").value = '["ash", "cedar", "birch"]'
    path.write_bytes(said.SerializeToString())
    assert fastnn.verify(path)[3:] == (0, False, False)


@pytest.mark.parametrize("single", [False, True])
def test_verify_of_deviations_and_two_classes(single, tmp_path):
    path = tmp_path / "net.onnx"
    head, loss = (Dense(1, "sigmoid"), "cross_entropy") if single else (Dense(4, "identity"), "gaussian")
    Model([3, 5, head], loss=loss, rng=0).export(path)
    assert fastnn.verify(path).passed
