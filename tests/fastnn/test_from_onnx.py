"""Networks in ONNX files as models: those of onnx's own tests, those that fastnn writes, and random ones with noise."""

import math
import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the extra onnx is not installed")

import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import fastnn
from fastnn import Dense, LayerNorm, Model, PReLU, Residual
from fastnn.exchange.imported import usual_loss
from fastnn.settings.layers import HIDDEN

from . import exports

rng = np.random.default_rng(0)
BOUND = {"float32": 2e-6, "float64": 1e-12}
CONVERTED = Path(onnx.__file__).parent / "backend" / "test" / "data" / "pytorch-converted"
W1, B1 = rng.normal(size=(5, 4)).astype(np.float32), rng.normal(size=5).astype(np.float32)
W2, B2 = rng.normal(size=(3, 5)).astype(np.float32), rng.normal(size=3).astype(np.float32)
ROWS = rng.normal(0, 2, (50, 4)).astype(np.float32)


class File:
    """An ONNX graph in the making, of an input X."""

    def __init__(self, opset=18, shape=("N", 4), dtype=np.float32, path="net.onnx"):
        self.opset, self.shape, self.dtype, self.path = opset, shape, np.dtype(dtype), path
        self.nodes, self.constants, self.outputs = [], [], []

    def add(self, operator, *reads, domain=None, **attributes):
        """Add a node, whose arrays become constants; gives the name of its value."""
        name = f"v{len(self.nodes)}"
        reads = [each if isinstance(each, str) else self.constant(each) for each in reads]
        self.nodes.append(helper.make_node(operator, reads, [name], domain=domain, **attributes))
        return name

    def constant(self, value):
        value = np.asarray(value)
        value = value.astype(self.dtype) if value.dtype == np.float64 else value
        self.constants.append(numpy_helper.from_array(value, f"c{len(self.constants)}"))
        return self.constants[-1].name

    def model(self, *outputs, type_=None):
        dtype = helper.np_dtype_to_tensor_dtype(self.dtype)
        inputs = [helper.make_tensor_value_info("X", dtype, self.shape)]
        made = [helper.make_tensor_value_info(each, type_ or dtype, None) for each in outputs]
        graph = helper.make_graph(self.nodes, "net", inputs, made, self.constants)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid("ai.onnx.ml", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    def read(self, folder, *outputs, **how):
        onnx.save(self.model(*outputs), folder / self.path)
        return fastnn.from_onnx(folder / self.path, **how)


def reference(model, X):
    """What onnx's own implementation gives, (rows, outputs)."""
    evaluator = ReferenceEvaluator(model)
    found = evaluator.run(None, {evaluator.input_names[0]: X})[0]
    return np.asarray(found, np.float64).reshape(-1, found.shape[-1])


def agree(read, model, X, tolerance=2e-6, rows=None):
    """A model computes what a file computes."""
    want = reference(model, X if rows is None else rows)
    np.testing.assert_allclose(read.predict(X).reshape(want.shape), want, tolerance, tolerance)


# ---- files of fastnn's ----

# Where factors and offsets were folded the parameters are other ones, which compute the same.
FOLDED = ("scale in front", "scale behind", "batch norm", "batch norm first", "two readers")
FOLDED += ("slopes", "layer norm", "residual")
SEVERAL = r"'Sum_\d+' \(Sum\): it joins values in a way that no network of fastnn has"
SPLIT = r"'Split_\d+' \(Split\): no network of fastnn has this operator"
NOT_READ = {
    "mean": SEVERAL,
    "shifts": SEVERAL,
    "mixture": SPLIT,
    "deviations": SPLIT,
    "codes": r"'Gather_\d+' \(Gather\): no network of fastnn has this operator",
    "residual of inputs": r"'Add_\d+' \(Add\): it adds an offset where no dense layer is beside it",
}
READ = [name for name in exports.EVERYTHING if name not in NOT_READ]


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("dtype", BOUND)
def test_what_fastnn_exports_comes_back(name, dtype, tmp_path):
    model, X = exports.network(name, dtype), exports.ordinary(name)
    if dtype == "float64" and any(node.layer.activation == "gelu" for node in model._network.architecture.nodes):
        pytest.skip("no gelu in double precision is exported")
    model.export(tmp_path / "net.onnx")
    found = fastnn.from_onnx(tmp_path / "net.onnx", loss=model.loss_name)
    assert (found.dtype, found.loss_name) == (dtype, model.loss_name)
    np.testing.assert_allclose(found.predict(X), model.predict(X), BOUND[dtype], BOUND[dtype])
    if name not in FOLDED:
        np.testing.assert_array_equal(found.parameters, model.parameters)
        assert found.layers == model.layers


@pytest.mark.parametrize("name", NOT_READ)
def test_what_fastnn_exports_and_does_not_read(name, tmp_path):
    """Means of networks, deviations, tables of codes, shifts in front of a sum: the node and the reason are named."""
    exports.network(name, "float32").export(tmp_path / "net.onnx")
    with pytest.raises(ValueError, match=f"net.onnx': node {NOT_READ[name]}$"):
        fastnn.from_onnx(tmp_path / "net.onnx")


@pytest.mark.parametrize("activation", HIDDEN)
@pytest.mark.parametrize("dtype", BOUND)
def test_activations_come_back(activation, dtype, tmp_path):
    if (activation, dtype) == ("gelu", "float64"):
        pytest.skip("no gelu in double precision is exported")
    model = Model([4, Dense(5, activation), Dense(3, activation)], dtype=dtype, rng=0)
    model.export(tmp_path / "net.onnx")
    found = fastnn.from_onnx(tmp_path / "net.onnx", loss="quadratic")
    assert found.layers == model.layers
    np.testing.assert_array_equal(found.parameters, model.parameters)


@pytest.mark.parametrize("labels", [None, ["low", "high"], [True, False]])
def test_labels_are_left_out(labels, tmp_path):
    model = Model([4, Dense(5, "tanh"), 1], loss="cross_entropy", rng=0)
    model.export(tmp_path / "net.onnx", labels=labels)
    found = fastnn.from_onnx(tmp_path / "net.onnx")
    np.testing.assert_array_equal(found.predict(ROWS), model.predict(ROWS))
    assert found.loss_name == "cross_entropy"


def test_inputs_keep_their_precision(tmp_path):
    X = rng.normal(1e6, 1, (100, 4)).astype(np.float32)
    shift, scale = fastnn.standardize(X)
    model = Model([4, Dense(5, "tanh"), Dense(2, "identity")], input_shift=shift, input_scale=scale, rng=0)
    model.export(tmp_path / "net.onnx")
    found = fastnn.from_onnx(tmp_path / "net.onnx")
    np.testing.assert_allclose(found.predict(X), model.predict(X), 2e-6, 2e-6)
    one = Model([4, Dense(2, "identity")], input_scale=1 / 256, rng=0)
    one.export(tmp_path / "net.onnx")
    assert fastnn.from_onnx(tmp_path / "net.onnx").input_scale == 1 / 256


def test_names_of_columns_come_back(tmp_path):
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pd.DataFrame(ROWS, columns=["a", "b", "c", "d"])
    model = Model([4, Dense(1, "identity")], rng=0)
    model.fit(frame, ROWS[:, 0], epochs=1, batch_size=10)
    model.export(tmp_path / "net.onnx")
    found = fastnn.from_onnx(tmp_path / "net.onnx")
    assert found.feature_names == ("a", "b", "c", "d")
    with pytest.raises(ValueError, match="column"):
        found.predict(frame[["b", "a", "c", "d"]])
    content = onnx.load(tmp_path / "net.onnx")
    for wrong in ("[1, 2]", '["a"]', "{"):
        for each in content.metadata_props:
            each.value = wrong if each.key == "feature_names" else each.value
        onnx.save(content, tmp_path / "net.onnx")
        with pytest.raises(ValueError, match="path must name an ONNX file"):
            fastnn.from_onnx(tmp_path / "net.onnx")


def test_training_goes_on(tmp_path):
    model = Model([4, Dense(5, "tanh"), Dense(3, "softmax")], loss="cross_entropy", dtype="float64", rng=0)
    X, y = rng.normal(size=(40, 4)), rng.integers(0, 3, 40)
    model.export(tmp_path / "net.onnx")
    found = fastnn.from_onnx(tmp_path / "net.onnx", rng=0)
    for each in (model, found):
        each.fit(X, y, epochs=3, batch_size=8, shuffle=False)
    np.testing.assert_array_equal(found.parameters, model.parameters)


# ---- files of onnx's own tests ----


def with_inputs_as_constants(model, arrays):
    """A model whose inputs but the first are constants."""
    graph = model.graph
    for info, array in zip(list(graph.input)[1:], arrays[1:], strict=True):
        graph.initializer.append(numpy_helper.from_array(array, info.name))
        graph.input.remove(info)
    return model


def node_tests(*prefixes):
    from onnx.backend.test.case.node import collect_testcases

    with np.errstate(all="ignore"):
        found = collect_testcases(None)
    return {each.name: each for each in found if each.name.startswith(prefixes)}


REFUSED = {
    "test_gemm_default_matrix_bias": "it has a bias of shape",
    "test_gemm_transposeA": "transA must be 0",
    "test_gemm_all_attributes": "transA must be 0",
    "test_matmul_3d": "its weights must be a matrix",
    "test_matmul_4d": "its weights must be a matrix",
    "test_matmul_bcast": "its weights must be a matrix",
    "test_matmul_1d_3d": "its weights must be a matrix",
    "test_matmul_4d_1d": "it multiplies features of shape",
}


@pytest.mark.slow  # onnx makes all its tests at once
def test_products_of_onnx(tmp_path):
    """onnx's node tests of Gemm and MatMul, with weights and biases as constants."""
    cases = node_tests("test_gemm", "test_matmul_")
    assert len(cases) >= 18
    assert {*REFUSED} <= {*cases}
    for name, case in cases.items():
        inputs, outputs = case.data_sets[0]
        onnx.save(with_inputs_as_constants(case.model, inputs), tmp_path / "net.onnx")
        if name in REFUSED:
            with pytest.raises(ValueError, match=REFUSED[name]):
                fastnn.from_onnx(tmp_path / "net.onnx")
            continue
        found = fastnn.from_onnx(tmp_path / "net.onnx")
        np.testing.assert_allclose(found.predict(np.atleast_2d(inputs[0])), np.atleast_2d(outputs[0]), 1e-5, 1e-5)


def behind_a_product(model):
    """A model whose inputs go through an identity matrix first, with the axes that they had."""
    graph, info = model.graph, model.graph.input[0]
    sizes = [each.dim_value for each in info.type.tensor_type.shape.dim]
    width = math.prod(sizes[1:])
    nodes = [
        helper.make_node("MatMul", ["rows", "eye"], ["product"]),
        helper.make_node("Reshape", ["product", "sizes"], [info.name]),
        *graph.node,
    ]
    constants = {"eye": np.eye(width, dtype=np.float32), "sizes": np.array(sizes)}
    given = [helper.make_tensor_value_info("rows", TensorProto.FLOAT, [sizes[0], width])]
    made = helper.make_graph(
        nodes,
        "net",
        given,
        graph.output,
        [*(numpy_helper.from_array(each, name) for name, each in constants.items()), *graph.initializer],
    )
    return helper.make_model(made, opset_imports=model.opset_import, ir_version=8)


@pytest.mark.parametrize(
    "name",
    ["Linear", "Linear_no_bias", "ReLU", "LeakyReLU", "SELU", "Sigmoid", "Tanh", "Softplus", "Softmax", "PReLU_1d"],
)
def test_converted_pytorch(name, tmp_path):
    """Of opset 6, with inputs and outputs."""
    folder = CONVERTED / f"test_{name}"
    if not folder.exists():
        pytest.skip("this version of onnx has no such file")
    model = onnx.load(folder / "model.onnx")
    tensors = [folder / "test_data_set_0" / f"{which}_0.pb" for which in ("input", "output")]
    X, y = (numpy_helper.to_array(onnx.load_tensor(each)) for each in tensors)
    activation = "PReLU" in name or "Linear" not in name
    onnx.save(behind_a_product(model) if activation else model, tmp_path / "net.onnx")
    if name == "PReLU_1d":
        with pytest.raises(ValueError, match="the last layer must be a dense one"):
            fastnn.from_onnx(tmp_path / "net.onnx")
        return
    found = fastnn.from_onnx(tmp_path / "net.onnx")
    np.testing.assert_allclose(found.predict(X.reshape(len(X), -1)), y.reshape(len(y), -1), 1e-5, 1e-5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ELU", r"\(Elu\): alpha must be 1"),
        ("LeakyReLU_with_negval", r"\(LeakyRelu\): alpha must be 0.01"),
        ("Conv1d", r"\(Conv\): no network of fastnn has this operator"),
        ("LogSoftmax", r"\(LogSoftmax\): no network of fastnn has this operator"),
        ("Softsign", r"\(Div\): no activation of fastnn"),
    ],
)
def test_converted_pytorch_that_is_refused(name, message, tmp_path):
    folder = CONVERTED / f"test_{name}"
    if not folder.exists():
        pytest.skip("this version of onnx has no such file")
    model = onnx.load(folder / "model.onnx")
    onnx.save(model if name == "Conv1d" else behind_a_product(model), tmp_path / "net.onnx")
    with pytest.raises(ValueError, match=message):
        fastnn.from_onnx(tmp_path / "net.onnx")


# ---- activations in whatever operators ----


def erf_gelu(file, x):
    inner = file.add("Add", file.add("Erf", file.add("Div", x, math.sqrt(2))), 1.0)
    return file.add("Mul", file.add("Mul", x, inner), 0.5)


def halved_gelu(file, x):
    inner = file.add("Add", file.add("Erf", file.add("Mul", x, math.sqrt(0.5))), 1.0)
    return file.add("Mul", file.add("Mul", x, 0.5), inner)


def pytorch_softplus(file, x):
    return file.add("Where", file.add("Greater", x, 20.0), x, file.add("Softplus", x))


FORMS = {
    "relu by max": ("relu", lambda f, x: f.add("Max", x, 0.0)),
    "relu by clip": ("relu", lambda f, x: f.add("Clip", x, 0.0)),
    "relu by where": ("relu", lambda f, x: f.add("Where", f.add("Greater", x, 0.0), x, 0.0)),
    "gelu": ("gelu", lambda f, x: f.add("Gelu", x)),
    "gelu by erf": ("gelu", erf_gelu),
    "gelu by erf, halved": ("gelu", halved_gelu),
    "silu": ("silu", lambda f, x: f.add("Mul", f.add("Sigmoid", x), x)),
    "silu by a quotient": ("silu", lambda f, x: f.add("Div", x, f.add("Add", f.add("Exp", f.add("Neg", x)), 1.0))),
    "mish": ("mish", lambda f, x: f.add("Mish", x)),
    "mish by softplus": ("mish", lambda f, x: f.add("Mul", x, f.add("Tanh", f.add("Softplus", x)))),
    "softplus": ("softplus", pytorch_softplus),
    "softplus by log": ("softplus", lambda f, x: f.add("Log", f.add("Add", f.add("Exp", x), 1.0))),
    "sigmoid by tanh": (
        "sigmoid",
        lambda f, x: f.add("Mul", f.add("Add", f.add("Tanh", f.add("Mul", x, 0.5)), 1.0), 0.5),
    ),
    "hard sigmoid": ("hard_sigmoid", lambda f, x: f.add("HardSigmoid", x, alpha=1 / 6, beta=0.5)),
    "hard sigmoid by clip": (
        "hard_sigmoid",
        lambda f, x: f.add("Div", f.add("Clip", f.add("Add", x, 3.0), 0.0, 6.0), 6.0),
    ),
    "elu by celu": ("elu", lambda f, x: f.add("Celu", x)),
    "step": ("step", lambda f, x: f.add("Cast", f.add("Greater", x, 0.0), to=TensorProto.FLOAT)),
    "leaky relu by max": ("leaky_relu", lambda f, x: f.add("Max", x, f.add("Mul", x, 0.01))),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_activations(form, tmp_path):
    activation, write = FORMS[form]
    file = File(opset=20)
    hidden = write(file, file.add("Gemm", "X", W1, B1, transB=1))
    found = file.read(tmp_path, file.add("Gemm", hidden, W2, B2, transB=1))
    assert found.layers == (Dense(5, activation), Dense(3, "identity"))
    agree(found, file.model(file.nodes[-1].output[0]), ROWS, 1e-5)


def test_pytorchs_layer_norm(tmp_path):
    """By Pow, as older exporters of PyTorch write it, and by the operator."""
    gain, bias = rng.normal(size=5), rng.normal(size=5)
    for by_operator in (False, True):
        file = File(opset=17)
        x = file.add("Gemm", "X", W1, B1, transB=1)
        if by_operator:
            x = file.add("LayerNormalization", x, gain, bias, epsilon=1e-3)
        else:
            centred = file.add("Sub", x, file.add("ReduceMean", x, axes=[-1]))
            variance = file.add("ReduceMean", file.add("Pow", centred, 2.0), axes=[-1])
            x = file.add("Div", centred, file.add("Sqrt", file.add("Add", variance, 1e-3)))
            x = file.add("Add", file.add("Mul", x, gain), bias)
        found = file.read(tmp_path, file.add("Gemm", file.add("Relu", x), W2, B2, transB=1))
        assert found.layers == (Dense(5, "identity"), LayerNorm(1e-3, "relu"), Dense(3, "identity"))
        agree(found, file.model(file.nodes[-1].output[0]), ROWS, 1e-5)


def test_slopes_for_each_neuron(tmp_path):
    file, slope = File(), rng.normal(size=5)
    x = file.add("PRelu", file.add("Gemm", "X", W1, B1, transB=1), slope)
    found = file.read(tmp_path, file.add("Gemm", x, W2, B2, transB=1))
    assert found.layers == (Dense(5, "identity"), PReLU(), Dense(3, "identity"))
    np.testing.assert_array_equal(found.weights[1], slope.astype(np.float32))


def test_sums(tmp_path):
    """Residuals in either order, one in another."""
    file = File()
    first = file.add("Relu", file.add("Gemm", "X", W1, B1, transB=1))
    inner = file.add("Tanh", file.add("MatMul", first, np.diag(B1)))
    inner = file.add("Sum", inner, file.add("MatMul", inner, np.diag(B1)))
    total = file.add("Relu", file.add("Add", first, inner))
    found = file.read(tmp_path, file.add("Gemm", total, W2, B2, transB=1))
    block = Residual(Dense(5, "tanh"), Residual(Dense(5, "identity")), activation="relu")
    assert found.layers == (Dense(5, "relu"), block, Dense(3, "identity"))
    agree(found, file.model(file.nodes[-1].output[0]), ROWS, 1e-5)


# ---- products, shapes and what does nothing ----


@pytest.mark.parametrize("opset", [6, 7, 9, 11, 13, 18, 21])
def test_opsets(opset, tmp_path):
    """With the attributes that the opset has."""
    file = File(opset)
    old = {"broadcast": 1} if opset < 7 else {}
    x = file.add("Sub", "X", np.arange(4.0), **old)
    x = file.add("Gemm", x, W1.T, B1, alpha=0.5, beta=2.0, **old)
    x = file.add("Dropout", file.add("Relu", x))
    variance = rng.random(5) + 0.5
    x = file.add("BatchNormalization", x, B1, B1 + 1, B1 - 1, variance)
    x = file.add("MatMul", x, W2.T)
    x = file.add("Add", x, B2, **old) if opset < 7 else file.add("Add", B2, x)
    found = file.read(tmp_path, file.add("Softmax", x, axis=1))
    assert found.layers == (Dense(5, "relu"), Dense(3, "softmax"))
    hidden = np.maximum((ROWS - np.arange(4)) @ W1.T / 2 + 2 * B1, 0)
    z = ((hidden - (B1 - 1)) / np.sqrt(variance + 1e-5) * B1 + B1 + 1) @ W2.T + B2
    want = np.exp(z - z.max(axis=1, keepdims=True))
    np.testing.assert_allclose(found.predict(ROWS), want / want.sum(axis=1, keepdims=True), 1e-5, 1e-5)


def test_a_fixed_batch_and_many_axes(tmp_path):
    """As of ACAS Xu: an input of rank 4, Sub, Flatten."""
    file = File(opset=9, shape=(1, 1, 1, 4))
    x = file.add("Flatten", file.add("Sub", "X", np.arange(4.0).reshape(1, 1, 1, 4)), axis=1)
    x = file.add("Add", file.add("MatMul", x, W1.T), B1)
    x = file.add("Unsqueeze", x, axes=[1, 3])
    x = file.add("Squeeze", file.add("Transpose", file.add("Relu", x), perm=[0, 2, 1, 3]), axes=[2, 3])
    x = file.add("Reshape", x, np.array([1, -1]))
    found = file.read(tmp_path, file.add("Add", file.add("MatMul", x, W2.T), B2))
    assert found.layers == (Dense(5, "relu"), Dense(3, "identity"))
    np.testing.assert_array_equal(found.input_shift, np.arange(4))
    model = file.model(file.nodes[-1].output[0])
    agree(found, model, ROWS[:1], 1e-5, ROWS[0].reshape(1, 1, 1, 4))


@pytest.mark.parametrize("scales", [5, 1])
def test_normalised_columns(scales, tmp_path):
    """A fixed batch of one, and Transposes around BatchNormalization, as an older converter of Keras wrote them.

    ONNX has one channel there; that converter gives scales for all features.
    """
    file = File(opset=7, shape=(1, 4))
    x = file.add("Transpose", file.add("Gemm", "X", W1.T, B1))
    of = [np.full(scales, 0.5) + rng.random(scales) for _ in range(4)]
    x = file.add("Relu", file.add("Transpose", file.add("BatchNormalization", x, *of)))
    found = file.read(tmp_path, file.add("Softmax", file.add("Gemm", x, W2.T, B2), axis=-1))
    assert found.layers == (Dense(5, "relu"), Dense(3, "softmax"))
    factor, offset, mean, variance = (each.astype(np.float32).astype(float) for each in of)
    hidden = np.maximum((ROWS @ W1.T + B1 - mean) / np.sqrt(variance + 1e-5) * factor + offset, 0)
    want = np.exp(hidden @ W2.T + B2)
    np.testing.assert_allclose(found.predict(ROWS), want / want.sum(axis=1, keepdims=True), 1e-5, 1e-5)


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_weights_on_the_left(shape, tmp_path):
    """Of a vector or a column: W x + b."""
    tail = (1,) * (len(shape) - 1)
    file = File(shape=shape)
    x = file.add("Relu", file.add("Add", file.add("MatMul", W1, "X"), B1.reshape(5, *tail)))
    found = file.read(tmp_path, file.add("Add", B2.reshape(3, *tail), file.add("MatMul", W2, x)))
    want = np.maximum(ROWS @ W1.T + B1, 0) @ W2.T + B2
    np.testing.assert_allclose(found.predict(ROWS), want, 1e-5, 1e-5)


def test_weights_of_a_single_output(tmp_path):
    """A vector, behind whose product there is no axis; a later one may be put back."""
    file = File()
    x = file.add("Tanh", file.add("Add", file.add("MatMul", "X", W1[0]), B1[:1].reshape(())))
    for axes in ((), ([1],)):
        for each in axes:
            x = file.add("Unsqueeze", x, np.array(each))
        found = file.read(tmp_path, x)
        assert found.layers == (Dense(1, "tanh"),)
        np.testing.assert_allclose(found.predict(ROWS)[:, 0], np.tanh(ROWS @ W1[0] + B1[0]), 1e-5, 1e-6)
    found = file.read(tmp_path, file.add("Gemm", x, W2[:, :1], B2, transB=1))
    agree(found, file.model(file.nodes[-1].output[0]), ROWS, 1e-5)


def test_rows_by_the_shape_of_the_inputs(tmp_path):
    """x.view(x.size(0), -1), as PyTorch writes it."""
    file = File(opset=11, shape=("N", 1, 2, 2))
    n = file.add("Unsqueeze", file.add("Gather", file.add("Shape", "X"), np.array(0)), axes=[0])
    x = file.add("Reshape", "X", file.add("Concat", n, np.array([-1]), axis=0))
    found = file.read(tmp_path, file.add("Gemm", x, W1, B1, transB=1))
    np.testing.assert_allclose(found.predict(ROWS), ROWS @ W1.T + B1, 1e-5, 1e-5)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtypes(dtype, tmp_path):
    file = File(dtype=dtype)
    found = file.read(tmp_path, file.add("Gemm", "X", W1.astype(dtype), B1.astype(dtype), transB=1))
    assert found.dtype == ("float64" if dtype == np.float64 else "float32")
    np.testing.assert_array_equal(found.weights[0], W1.astype(dtype))


def test_weights_listed_as_inputs(tmp_path):
    file = File()
    model = file.model(file.add("Gemm", "X", W1, B1, transB=1))
    for each in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(each.name, TensorProto.FLOAT, each.dims))
    onnx.save(model, tmp_path / "net.onnx")
    agree(fastnn.from_onnx(tmp_path / "net.onnx"), model, ROWS)


def test_transposed_kernels_survive_a_file(tmp_path):
    """Of views that are not in C order, safetensors may write other numbers."""
    file = File()
    found = file.read(tmp_path, file.add("MatMul", "X", file.add("Transpose", W1, perm=[1, 0])))
    found.save(tmp_path / "net.safetensors")
    np.testing.assert_array_equal(fastnn.load(tmp_path / "net.safetensors").weights[0], W1)


def test_a_tail_of_labels_alone(tmp_path):
    file = File()
    x = file.add("Softmax", file.add("Gemm", "X", W1, B1, transB=1))
    found = file.read(tmp_path, file.add("Cast", file.add("ArgMax", x, axis=1, keepdims=0), to=TensorProto.INT32))
    assert found.layers == (Dense(5, "softmax"),)


def test_a_file_of_scikit_learns_converter(tmp_path):
    """Scaler, two probabilities of one output, ArgMax, ArrayFeatureExtractor and ZipMap."""
    file = File(opset=13)
    x = file.add("Scaler", "X", domain="ai.onnx.ml", offset=[1.0, 2, 3, 4], scale=[0.5, 1, 2, 4])
    x = file.add("Add", file.add("MatMul", file.add("Cast", x, to=TensorProto.FLOAT), W1.T), B1.reshape(1, 5))
    x = file.add("Add", file.add("MatMul", file.add("Tanh", x), W2[:1].T), B2[:1].reshape(1, 1))
    x = file.add("Sigmoid", x)
    both = file.add("Concat", file.add("Sub", 1.0, x), x, axis=1)
    which = file.add("ArgMax", both, axis=1)
    label = file.add("ArrayFeatureExtractor", np.array([7, 9]), which, domain="ai.onnx.ml")
    label = file.add("Reshape", label, np.array([-1]))
    found = file.read(tmp_path, label, file.add("ZipMap", both, domain="ai.onnx.ml", classlabels_int64s=[7, 9]))
    hidden = np.tanh((ROWS - [1, 2, 3, 4]) * [0.5, 1, 2, 4] @ W1.T + B1)
    np.testing.assert_allclose(found.predict(ROWS), 1 / (1 + np.exp(-hidden @ W2[:1].T - B2[:1])), 1e-5, 1e-5)
    assert (found.layers[-1].activation, found.loss_name) == ("sigmoid", "cross_entropy")


def noisy(file, x, generator):
    """A value behind nodes that change nothing."""
    for _ in range(generator.integers(3)):
        kind = generator.integers(5)
        if kind == 0:
            x = file.add("Identity", x)
        elif kind == 1:
            x = file.add("Cast", x, to=helper.np_dtype_to_tensor_dtype(file.dtype))
        elif kind == 2:
            x = file.add("Add", x, np.zeros(1))
        elif kind == 3:
            x = file.add("Squeeze", file.add("Unsqueeze", x, np.array([1])), np.array([1]))
        else:
            x = file.add("Dropout", x)
    return x


def scattered(file, value, generator):
    """A constant as an initializer, a node, or what nodes make of it."""
    kind = generator.integers(4)
    if kind == 0:
        return file.add("Constant", value=numpy_helper.from_array(value.astype(file.dtype)))
    if kind == 1:
        return file.add("Identity", value)
    if kind == 2:
        return file.add("Add", value / 2, value / 2)
    return file.constant(value)


OPERATORS = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid", "softplus": "Softplus", "elu": "Elu"}


@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize("seed", range(25))
def test_random_networks_with_noise(seed, dtype, tmp_path):
    generator = np.random.default_rng(seed)
    width = int(generator.integers(1, 7))
    file, X = File(shape=("N", width), dtype=dtype), generator.normal(size=(20, width))
    X = X.astype(dtype)
    value, x, expected = X.astype(np.float64), "X", []
    for _ in range(generator.integers(1, 5)):
        units, activation = int(generator.integers(1, 7)), str(generator.choice([*OPERATORS]))
        weight = generator.normal(size=(units, value.shape[1])).astype(dtype).astype(float)
        bias = generator.normal(size=units).astype(dtype).astype(float)
        x = noisy(file, x, generator)
        if generator.integers(2):
            halves = [scattered(file, bias / 2, generator) for _ in range(2)]
            x = file.add("MatMul", x, scattered(file, weight.T, generator))
            for half in halves:
                x = file.add("Add", *([x, half] if generator.integers(2) else [half, x]))
        else:
            x = file.add("Gemm", x, scattered(file, weight, generator), scattered(file, bias, generator), transB=1)
        x = file.add(OPERATORS[activation], noisy(file, x, generator))
        value = getattr(exports.numpy_steps, activation)(value @ weight.T + bias)
        expected.append(Dense(units, activation))
    found = file.read(tmp_path, noisy(file, x, generator))
    assert found.layers == tuple(expected)
    np.testing.assert_allclose(found.predict(X), value, 10 * BOUND[dtype], 10 * BOUND[dtype])


# ---- what is refused ----


def refused(folder, write, message, **how):
    """A file whose network is `write(file)` is refused with the name of a node."""
    file = File(**how)
    with pytest.raises(ValueError, match=message) as caught:
        file.read(folder, write(file))
    assert str(caught.value).startswith("path must name an ONNX file of a network that fastnn has, got ")


def dense(file, x="X", weight=W1, bias=B1):
    return file.add("Gemm", x, weight, bias, transB=1)


WRONG = {
    "tanh gelu": (
        lambda f: dense(f, f.add("Gelu", dense(f), approximate="tanh"), W2, B2),
        r"'v1' \(Gelu\): approximate",
    ),
    "relu6": (lambda f: f.add("Clip", dense(f), 0.0, 6.0), r"'v1' \(Clip\): .*relu6"),
    "a far limit": (lambda f: f.add("Clip", dense(f), -1e6, 1e6), r"'v1' \(Clip\)"),
    "hard sigmoid": (lambda f: f.add("HardSigmoid", dense(f)), r"\(HardSigmoid\): alpha must be 1/6"),
    "hard swish": (lambda f: f.add("HardSwish", dense(f)), r"\(HardSwish\): no activation of fastnn"),
    "a sine": (lambda f: dense(f, f.add("Sin", dense(f)), W2, B2), r"'v1' \(Sin\): no network of fastnn"),
    "an unknown domain": (
        lambda f: f.add("FusedGemm", dense(f), domain="com.microsoft"),
        r"\(com.microsoft.FusedGemm\)",
    ),
    "an activation first": (lambda f: dense(f, f.add("Relu", "X")), r"'v0' \(Relu\): fastnn has relu after"),
    "two activations": (lambda f: f.add("Exp", f.add("Tanh", dense(f))), r"\(Exp\): it follows another activation"),
    "a softmax inside": (
        lambda f: dense(f, f.add("Softmax", dense(f)), W2, B2),
        r"'v2' \(Gemm\): it follows a softmax",
    ),
    "a shape of features": (lambda f: f.add("ConstantOfShape", dense(f)), r"\(ConstantOfShape\): it reads no value"),
    "a normalised row": (
        lambda f: f.add("BatchNormalization", f.add("Reshape", dense(f), np.array([0, 1, 5])), *np.ones((4, 5))),
        r"\(BatchNormalization\): its channels must be all features",
    ),
    "a softmax over rows": (lambda f: f.add("Softmax", dense(f), axis=0), r"\(Softmax\): its axis must be"),
    "products of values": (lambda f: f.add("MatMul", dense(f), dense(f)), r"\(MatMul\): its weights must be constants"),
    "a gate": (lambda f: f.add("Mul", dense(f), dense(f)), r"\(Mul\): it joins values"),
    "a sum of two": (lambda f: f.add("Add", dense(f), dense(f)), r"\(Add\): it adds values of which neither"),
    "a width": (lambda f: dense(f, dense(f), W1, B1), r"'v1' \(Gemm\): it multiplies features of shape \(5,\)"),
    "a bias": (lambda f: dense(f, "X", W1, B2), r"\(Gemm\): it has a bias of shape \(3,\) for 5 neurons"),
    "transposed rows": (lambda f: f.add("Transpose", dense(f), perm=[1, 0]), r"\(Transpose\): it must move"),
    "mixed rows": (lambda f: f.add("Reshape", dense(f), np.array([5, -1])), r"\(Reshape\): it must keep rows"),
    "scaled outputs": (lambda f: f.add("Add", f.add("Tanh", dense(f)), 1.0), "it adds an offset where no dense layer"),
    "NaN": (lambda f: dense(f, "X", W1 * np.nan), r"\(Gemm\): its parameters must be finite"),
    "NaN as an integer": (
        lambda f: f.add("Reshape", dense(f), f.add("Cast", np.array([np.nan, 7]), to=TensorProto.INT64)),
        r"\(Reshape\): it must keep rows",
    ),
    "no value": (lambda f: [dense(f), f.add("Relu", "nothing")][1], r"\(Relu\): it reads 'nothing', which no node"),
    "outputs of constants": (lambda f: f.add("Identity", W1), "does not follow from the inputs"),
    "too many inputs": (lambda f: f.add("Exp", x := dense(f), x), r"\(Exp\): it cannot be computed: it reads 2 values"),
    "comparisons": (lambda f: f.add("Sigmoid", f.add("Greater", dense(f), 0.0)), r"\(Sigmoid\): it cannot be computed"),
    "an attribute": (lambda f: f.add("Softmax", dense(f), axis="1"), r"\(Softmax\): it cannot be read"),
    "columns": (lambda f: f.add("Gather", dense(f), np.array([0, 1]), axis=1), r"\(Gather\): no network"),
    "nothing": (lambda f: [dense(f), f.add("Identity", "X")][1], "does not follow from the inputs"),
    "one output": (lambda f: f.add("Softmax", dense(f, "X", W1[:1], B1[:1])), r"\(Softmax\): a softmax must follow"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_fastnn_has_not_is_named(name, tmp_path):
    write, message = WRONG[name]
    refused(tmp_path, write, message, opset=20)


@pytest.mark.parametrize("shape", [("N", 2, 2), ("N", 500, 500)])
def test_convolutions_are_named(shape, tmp_path):
    """Not the axes that are moved before them, nor how many inputs there are, nor what follows."""
    refused(
        tmp_path,
        lambda f: f.add(
            "MaxPool", f.add("Conv", f.add("Transpose", "X", perm=[0, 2, 1]), np.ones((3, 2, 1))), kernel_shape=[2]
        ),
        r"'v1' \(Conv\): no network of fastnn has this operator",
        shape=shape,
    )


@pytest.mark.parametrize("opset", [5, 29])
def test_opsets_that_are_refused(opset, tmp_path):
    refused(tmp_path, dense, f"opset must be 6 to 28, got {opset}", opset=opset)


@pytest.mark.parametrize("shape", [None, (), ("N", "n"), ("N", 0)])
def test_shapes_that_are_refused(shape, tmp_path):
    refused(tmp_path, dense, "the input 'X' must", shape=shape)


def again_and_again(file, operator, constant):
    """A thousand nodes that read one constant."""
    x, name = "X", file.constant(constant)
    for _ in range(1000):
        x = file.add(operator, x, name)
    return x


COLUMN, WIDE = np.zeros((3000, 1), np.float32), np.ones(10**5, np.float32)
LARGE = {  # the shape of the inputs, the network, what is said
    "inputs": (("N", 10**9), lambda f: f.add("Mul", "X", 2.0), "has 1000000000 features"),
    "a constant": (
        ("N", 4),
        lambda f: dense(f, "X", f.add("ConstantOfShape", np.array([10**6, 10**6]))),
        "many more than those of the file",
    ),
    "a sum": (("N", 4), lambda f: dense(f, "X", f.add("Add", COLUMN, COLUMN.T)), "many more than those of the file"),
    "layers": (
        ("N", 300),
        lambda f: again_and_again(f, "MatMul", np.ones((300, 300), np.float32)),
        "many more than those of the file",
    ),
    "factors": (("N", 10**5), lambda f: again_and_again(f, "Mul", WIDE), "many more than those of the file"),
    "features": (("N", 3000, 10**5), lambda f: f.add("Mul", "X", COLUMN), "has 300000000 features"),
}


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.usefixtures("little_room")
def test_small_files_of_large_things(name, tmp_path):
    """Sizes are looked at before arrays are made."""
    shape, write, message = LARGE[name]
    refused(tmp_path, write, message, shape=shape)


@pytest.fixture
def little_room():
    """100 MB more than there is now."""
    resource = pytest.importorskip("resource", reason="this system has no limits of memory")
    status = Path("/proc/self/statm")
    if not status.exists():
        pytest.skip("this system does not tell how much memory there is")
    before = resource.getrlimit(resource.RLIMIT_AS)
    most = int(status.read_text().split()[0]) * resource.getpagesize() + 100_000_000
    resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.usefixtures("little_room")
def test_tensors_that_lie_about_their_size(tmp_path):
    file = File()
    model = file.model(dense(file))
    model.graph.initializer[0].dims[0] = 2**40
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(ValueError, match="the tensor 'c0' must have 4398046511104 numbers, got 20"):
        fastnn.from_onnx(tmp_path / "net.onnx")


@pytest.mark.parametrize("content", [b"", b"text that is no file of ONNX", bytes(range(256))])
def test_other_files(content, tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="path must name an ONNX file") as caught:
        fastnn.from_onnx(path)
    assert str(path) in str(caught.value)


def test_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.onnx"):
        fastnn.from_onnx(tmp_path / "no.onnx")
    with pytest.raises(TypeError, match="path must be a string"):
        fastnn.from_onnx(3)


def test_arguments(tmp_path):
    file = File()
    found = file.read(tmp_path, dense(file), output="softmax")
    assert (found.layers[-1].activation, found.loss_name) == ("softmax", "cross_entropy")
    assert file.read(tmp_path, "v0", loss=fastnn.Huber(0.5)).loss_name == "huber"
    with pytest.raises(ValueError, match="output must be one of"):
        fastnn.from_onnx(tmp_path / "net.onnx", output="logits")
    assert [usual_loss(each) for each in ("softmax", "sigmoid", "exp")] == ["cross_entropy"] * 2 + ["quadratic"]


# ---- tensors in other files ----


def test_tensors_beside_the_file(tmp_path):
    file = File()
    model = file.model(dense(file))
    want = reference(model, ROWS)
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=0)
    assert (tmp_path / "net.data").stat().st_size >= 100
    np.testing.assert_allclose(fastnn.from_onnx(tmp_path / "net.onnx").predict(ROWS), want, 1e-6, 1e-6)
    (tmp_path / "net.data").write_bytes(b"short")
    with pytest.raises(ValueError, match=r"must have 80 bytes in 'net\.data', which is too short"):
        fastnn.from_onnx(tmp_path / "net.onnx")


@pytest.mark.parametrize("location", ["../net.data", "/etc/passwd", "link", "", "sub/net.data", "."])
def test_tensors_elsewhere_are_not_read(location, tmp_path):
    folder = tmp_path / "inside"
    (folder / "sub").mkdir(parents=True)
    for place in (tmp_path, folder / "sub"):
        (place / "net.data").write_bytes(bytes(1000))
    os.symlink(tmp_path / "net.data", folder / "link")
    file = File()
    model = file.model(dense(file))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match="must be in a file in the same folder"):
        fastnn.from_onnx(folder / "net.onnx")


# ---- what PyTorch writes ----


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of PyTorch's exporters
@pytest.mark.parametrize("by_dynamo", [False, True])
@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize(
    ("module", "expected"),
    [
        *((name, None) for name in ("ReLU", "LeakyReLU", "ELU", "SELU", "GELU", "SiLU", "Mish", "Softplus")),
        *((name, None) for name in ("Sigmoid", "Tanh", "Hardsigmoid", "PReLU")),
        ("Hardtanh", "Clip"),
        ("ReLU6", "Clip"),
        ("Hardswish", "HardSwish"),
    ],
)
def test_what_pytorch_exports(module, expected, normalised, by_dynamo, tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: it is in the extras torch and bench")
    if by_dynamo:
        pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    nn = torch.nn
    layers = [nn.Flatten(), nn.Linear(6, 8, bias=not normalised), *([nn.BatchNorm1d(8)] if normalised else [])]
    layers += [getattr(nn, module)(), nn.Dropout(0.3), nn.Linear(8, 3), nn.Softmax(dim=1)]
    network = nn.Sequential(*layers).eval()
    torch.onnx.export(network, (torch.zeros(2, 6),), tmp_path / "net.onnx", dynamo=by_dynamo)
    if expected is not None:
        with pytest.raises(ValueError, match=rf"\({expected}\)"):
            fastnn.from_onnx(tmp_path / "net.onnx")
        return
    found, X = fastnn.from_onnx(tmp_path / "net.onnx"), torch.randn(40, 6)
    np.testing.assert_allclose(found.predict(X.numpy()), network(X).detach().numpy(), 1e-5, 1e-6)
