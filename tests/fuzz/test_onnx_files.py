"""Mutated ONNX files: a ValueError that names the path, or a model that computes what onnx's reference computes."""

import functools
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the extra onnx is not installed")

import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import fastnn
from fastnn import Dense, LayerNorm, Model, PReLU, Residual, Scale
from fastnn.exchange.onnx_operators import ELEMENTWISE
from fastnn.exchange.onnx_values import HANDLERS

from .helpers import attack, chance, check_whole, pick
from .test_files import mutated_bytes, taken

OPERATORS = sorted({*ELEMENTWISE, *HANDLERS, "Identity", "Dropout", "Conv", "Loop", "Constant", "ConstantOfShape"})
SIZES = [-1, 0, 1, 2, 3, 4, 5, 7, 2**20, 2**31, 2**40, 2**62]
ATTRIBUTES = {"alpha": 0.5, "beta": 2.0, "axis": 1, "axes": [1], "transA": 1, "transB": 1, "perm": [0, 2, 1], "to": 1}
ATTRIBUTES |= {"epsilon": 0.1, "keepdims": 0, "approximate": "tanh", "broadcast": 1, "value_ints": [3, 4], "to ": 7}


@functools.cache
def onnx_files():
    """[bytes of a file]."""
    models = [
        Model([3, 4, 2], rng=0),
        Model([4, Dense(5, "gelu"), Dense(3, "softmax")], loss="cross_entropy", input_shift=[1, 2, 3, 4], rng=0),
        Model([4, Dense(5, "selu"), Dense(5, "elu"), Dense(1, "sigmoid")], dtype="float64", rng=0),
        Model([3, Residual(Dense(3, "mish")), LayerNorm(activation="relu"), PReLU(), Scale(), 2], rng=0),
        Model([2, Dense(3, "hard_sigmoid"), Dense(3, "silu"), Dense(2, "softplus")], dtype="float64", rng=0),
    ]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for model in models:
            model.export(Path(folder, "net.onnx"))
            found.append(Path(folder, "net.onnx").read_bytes())
    return found


def mutated_graph(rng, content):
    """A file with other operators, attributes, inputs, constants, shapes or opsets."""
    model = onnx.load_from_string(content)
    graph = model.graph
    for _ in range(pick(rng, [1, 1, 2, 4])):
        node = pick(rng, list(graph.node)) if graph.node else onnx.NodeProto()
        tensor = pick(rng, list(graph.initializer)) if graph.initializer else onnx.TensorProto()
        names = [name for each in graph.node for name in (*each.input, *each.output)] or [""]
        kind = pick(rng, ["operator", "attribute", "read", "shape", "constant", "opset", "between", "gone", "numbers"])
        if kind == "operator":
            node.op_type = pick(rng, OPERATORS)
        elif kind == "attribute":
            name = pick(rng, sorted(ATTRIBUTES))
            if node.attribute and chance(rng, 0.3):
                del node.attribute[0]
            elif name.strip() not in [each.name for each in node.attribute]:
                node.attribute.append(helper.make_attribute(name.strip(), ATTRIBUTES[name]))
        elif kind == "read" and node.input:
            node.input[int(rng.integers(len(node.input)))] = pick(rng, names)
        elif kind == "shape" and tensor.dims:
            tensor.dims[int(rng.integers(len(tensor.dims)))] = pick(rng, SIZES)
        elif kind == "shape" and graph.input:
            pick(rng, list(graph.input[0].type.tensor_type.shape.dim)).dim_value = pick(rng, SIZES)
        elif kind == "constant":
            other = pick(rng, [np.float32(2), np.ones(3, np.float32), np.ones((4, 3), np.float32), np.array([1, -1])])
            tensor.CopyFrom(numpy_helper.from_array(np.asarray(other), tensor.name))
        elif kind == "opset":
            model.opset_import[0].version = pick(rng, [1, 6, 7, 9, 11, 12, 13, 17, 20, 28, 2**40])
        elif kind == "between" and node.output:
            name, operator = node.output[0], pick(rng, OPERATORS)
            node.output[0] = f"{name}_before"
            graph.node.append(helper.make_node(operator, [f"{name}_before"], [name]))
            order = sorted(range(len(graph.node)), key=lambda i: (i == len(graph.node) - 1, i))
            place = list(graph.node).index(node) + 1
            order.insert(place, order.pop())
            nodes = [onnx.NodeProto.FromString(graph.node[i].SerializeToString()) for i in order]
            del graph.node[:]
            graph.node.extend(nodes)
        elif kind == "gone" and graph.node:
            del graph.node[int(rng.integers(len(graph.node)))]
        elif kind == "numbers" and tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.raw_data) >= 4:
            number = np.float32(pick(rng, [np.nan, np.inf, 0, -1, 1e30]))
            tensor.raw_data = number.tobytes() + tensor.raw_data[4:]
    return model.SerializeToString()


def by_reference(content, X):
    """What onnx's reference gives last, which is no label, or None where it cannot run the file."""
    try:
        evaluator = ReferenceEvaluator(onnx.load_from_string(content))
        with np.errstate(all="ignore"):
            found = evaluator.run(None, {evaluator.input_names[0]: X})
    except Exception:  # onnx raises errors of many kinds
        return None
    return found[-1] if isinstance(found[-1], np.ndarray) and found[-1].dtype.kind == "f" else None


@attack(cases=150, share=0.5)
def test_mutated_onnx_files(rng):
    """A file is refused, or gives a model that computes what the file says."""
    original = pick(rng, onnx_files())
    content = pick(rng, [mutated_bytes, mutated_graph, mutated_graph])(rng, original)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")
        path = Path(folder, "net.onnx")
        path.write_bytes(content)
        found = taken(fastnn.from_onnx, path)
    if found is None:
        assert content != original, "an unchanged file is refused"
        return
    check_whole(found)
    declared = onnx.load_from_string(content).graph.input[0].type.tensor_type.shape.dim
    X = rng.normal(size=(3, found.sizes[0])).astype(found.dtype)
    got = found.predict(X).astype(float)
    given = X.reshape(3, *(each.dim_value for each in declared[1:])) if len(declared) > 1 else X[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        want = by_reference(content, given)
    if want is not None and want.size == 2 * got.size:  # both probabilities
        want = want[:, 1:]
    if want is None or want.size != got.size or not (np.abs(want) < 1e4).all():
        return
    np.testing.assert_allclose(got, want.reshape(got.shape), 1e-3, 1e-3)
