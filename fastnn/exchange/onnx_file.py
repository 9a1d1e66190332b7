"""ONNX: one file of standard operators alone, which ONNX Runtime and other systems run; and such files run here."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..checks import file_paths
from ..checks.scalars import shown
from ..kernels.formulas.activations import ALPHA, LEAK, SCALE
from ..settings.custom import FAR, POINTS, Activation
from . import onnx_columns, verifying
from .computation import CLASSES, INPUTS, KEPT, LABELS, NUMBERS, OF_COLUMNS, OWN, Computation, Decision, Step
from .onnx_graph import LATER_OPSET, Graph
from .onnx_graph import _onnx as _onnx
from .quantizing import SMALLEST, Quantized, Scale
from .self_test import SelfTest

INPUT_NAME, ROWS = "X", "N"  # what the inputs and their number of rows are called
LEAST = -1000.0  # what gelu, silu and mish take for less, so that they give 0 for minus infinity

Writer = Callable[..., str]


def written(computation: Computation, test: SelfTest, name: str, expressions: dict[str, str]) -> bytes:
    """A computation as an ONNX file.

    An expression is nodes in ONNX's own text, which read x and make y: "y = Softsign(x)". Raises ValueError for one
    that does not compute its activation, for gelu in float64, which ONNX Runtime has not, and for labels of a dtype
    that ONNX has not.
    """
    graph, dtype = Graph(np.dtype(computation.input_dtype)), np.dtype(computation.dtype)
    columns = onnx_columns.given(computation)
    if any(each.dtype.kind == "O" for each in columns):
        graph.opset = LATER_OPSET
    values = [onnx_columns.matrix(graph, columns) if columns else INPUT_NAME]
    for step in computation.steps:
        reads = [values[i] for i in step.reads]
        of_columns = step.own is None and step.function in OF_COLUMNS
        graph.dtype = np.dtype(np.float64) if of_columns else dtype
        value = _step_of(graph, step, reads, expressions)
        if of_columns and step.function not in KEPT and graph.dtype != dtype:
            value = graph.cast(value, dtype)
        values.append(value)
    graph.dtype = dtype
    return _file(graph, computation, columns, values[-1], test, name)


def quantized(network: Quantized, rows: Any, name: str, expressions: dict[str, str]) -> bytes:
    """A network of integers as an ONNX file, whose nodes give real numbers that integers stand for ("QDQ").

    A runtime takes the products of them as products of integers.
    """
    graph = Graph(np.dtype(np.float32), opset=LATER_OPSET)
    inputs = network.inputs
    high, there = inputs.middle.astype(np.float32), inputs.step > 0
    small = np.flatnonzero(there & (inputs.step < SMALLEST))
    if len(small):
        raise ValueError(f"an ONNX file of int8 takes inputs of larger ranges, got 1e-36 at most of input {small[0]}")
    factor = np.divide(1, inputs.step, out=np.zeros_like(inputs.step), where=there).astype(np.float32)
    value = _shifted(graph, INPUT_NAME, high, (inputs.middle - high).astype(np.float32), factor)
    value, scale = _as_integers(graph, value, Scale(1.0, 0)), 1.0
    for layer in network.layers:
        weight = _as_reals(graph, layer.weight.astype(np.int8), layer.scale / scale)
        bias = _as_reals(graph, layer.offset.astype(np.int32), layer.scale)
        value = graph.add("Gemm", value, weight, bias, transB=1)
        if layer.sums is not None:
            value = _as_integers(graph, value, layer.sums)
        if layer.step is not None:
            value = _step_of(graph, layer.step, [value], expressions)
        if layer.given is not None:
            value, scale = _as_integers(graph, value, layer.given), layer.given.scale
    return _file(graph, network.computation, [], value, network.self_test(rows, exactly=False), name)


def _as_reals(graph: Graph, integers: NDArray[Any], scale: NDArray[np.float64]) -> str:
    """The real numbers that integers (units, ...) stand for, by a scale for each neuron."""
    largest = np.abs(integers.T * scale).max()
    if largest > np.finfo(np.float32).max:
        raise ValueError(f"an ONNX file of int8 takes parameters that float32 holds, got {largest:.3g}")
    return graph.add("DequantizeLinear", integers, scale.astype(np.float32), axis=0)


def _as_integers(graph: Graph, value: str, scale: Scale) -> str:
    """A value as the real numbers that int8 stands for."""
    how = np.array(scale.scale, np.float32), np.array(scale.zero, np.int8)
    return graph.add("DequantizeLinear", graph.add("QuantizeLinear", value, *how), *how)


def _step_of(graph: Graph, step: Step, reads: list[str], expressions: dict[str, str]) -> str:
    """Add a step."""
    if step.own is None:
        return WRITERS[step.function](graph, *reads, **step.operands)
    _check_own(step.own, expressions[step.own.name], graph.dtype)
    return _own(graph, expressions[step.own.name], *reads)


def _file(
    graph: Graph, computation: Computation, columns: list[onnx_columns.Given], value: str, test: SelfTest, name: str
) -> bytes:
    """The file of a graph whose outputs are a value."""
    inputs, outputs = list(_inputs(computation, columns)), list(_outputs(graph, computation, value))
    graph.rename({each.value: each.name for each in outputs})
    _check_names(graph, inputs)
    model = graph.model(name, [each.info for each in inputs], [each.info for each in outputs])
    version = model.producer_version = import_module(__package__.rpartition(".")[0]).__version__
    said = {"producer": "fastnn", "fastnn_version": version, **_described(computation, columns, test)}
    _onnx().helper.set_model_props(model, {**said, "checksum": _checksum(model, said)})
    return model.SerializeToString(deterministic=True)


# ---- what outputs there are ----


class Output(NamedTuple):
    """What a graph gives, or takes: the value, its name, dtype and number of columns; None is an array (rows,)."""

    value: str
    name: str
    dtype: np.dtype[Any]
    width: int | None

    @property
    def info(self) -> Any:
        """As ONNX declares it."""
        helper, text = _onnx().helper, self.dtype.kind == "O"
        type_ = _onnx().TensorProto.STRING if text else helper.np_dtype_to_tensor_dtype(self.dtype)
        return helper.make_tensor_value_info(self.name, type_, [ROWS] if self.width is None else [ROWS, self.width])


def _inputs(computation: Computation, columns: list[onnx_columns.Given]) -> Iterator[Output]:
    """The columns of a table one by one, or a matrix."""
    if not columns:
        yield Output(INPUT_NAME, INPUT_NAME, np.dtype(computation.dtype), computation.n_inputs)
    for each in columns:
        yield Output(each.column.name, each.column.name, each.dtype, None)
        if each.flag is not None:
            yield Output(each.flag, each.flag, np.dtype(bool), None)


def _check_names(graph: Graph, inputs: list[Output]) -> None:
    """Raise where an input is called as another value: a name stands for one of them alone."""
    taken = {"", *(name for node in graph.nodes for name in node.output), *(each.name for each in graph.constants)}
    for each in inputs:
        if each.name in taken:
            raise ValueError(f"columns must have names that nothing else in an ONNX file has, got {shown(each.name)}")
        taken.add(each.name)


def _outputs(graph: Graph, computation: Computation, value: str) -> Iterator[Output]:
    """What a prediction is, and the numbers that it follows from."""
    decision, n = computation.decision, computation.n_outputs
    if decision.kind == CLASSES:
        labels = _labels(decision)
        yield Output(graph.add("Gather", labels, _class(graph, decision, n, value)), "label", labels.dtype, None)
    elif decision.kind == LABELS:
        above = graph.add("Greater", value, decision.threshold)
        integers = np.dtype(np.int64)
        yield Output(graph.cast(above, integers), "label", integers, n)
    elif decision.deviations:
        for half, name in zip(graph.halves(value), ("prediction", "deviation"), strict=True):
            yield Output(half, name, graph.dtype, n // 2)
    else:
        yield Output(value, "prediction", graph.dtype, n)
    if decision.kind == CLASSES and n == 1 and decision.probabilities:
        value, n = graph.add("Concat", graph.add("Sub", 1.0, value), value, axis=1), 2
    if decision.kind != NUMBERS:
        yield Output(value, "probabilities" if decision.probabilities else "scores", graph.dtype, n)


def _class(graph: Graph, decision: Decision, n: int, value: str) -> str:
    """The indices of the classes, (rows,)."""
    if n > 1:
        return graph.add("ArgMax", value, axis=1, keepdims=0)
    column = graph.add("Gather", value, np.array(0), axis=1)
    return graph.cast(graph.add("Greater", column, decision.threshold), np.int64)


def _labels(decision: Decision) -> NDArray[Any]:
    """The labels as ONNX has them: text is an array of objects."""
    assert decision.labels is not None
    labels = decision.labels
    if labels.dtype.kind in "biuf" and labels.itemsize <= 8:
        return labels.astype(labels.dtype.newbyteorder("="))
    if all(isinstance(label, str) for label in labels.tolist()):
        return labels.astype(object)
    raise ValueError(f"labels must be booleans, integers, floats or text in ONNX, got {shown(labels.tolist())}")


# ---- steps ----


def _shifted(graph: Graph, x: str, high: Any, low: Any, scale: Any) -> str:
    """In this order, which keeps the precision of inputs that are far from zero."""
    centred = graph.add("Sub", x, high)
    return graph.add("Mul", graph.add("Sub", centred, low) if low.any() else centred, scale)


def _columns(graph: Graph, x: str, which: Any) -> str:
    return graph.add("Gather", x, which, axis=1)


def _looked_up(graph: Graph, x: str, column: int, table: Any) -> str:
    """A further row of the table is that of what is no code."""
    codes = graph.add("Gather", x, np.array(column), axis=1)
    known = graph.add("And", graph.add("GreaterOrEqual", codes, 0), graph.add("Less", codes, len(table)))
    known = graph.add("And", known, graph.add("Equal", codes, graph.add("Floor", codes)))
    rows = graph.cast(graph.add("Where", known, codes, len(table)), np.int64)
    return graph.add("Gather", np.vstack([table, np.full_like(table[:1], np.nan)]), rows)


def _joined(graph: Graph, *x: str) -> str:
    return graph.add("Concat", *x, axis=1)


def _dense(graph: Graph, x: str, weight: Any, bias: Any) -> str:
    """Not by MatMul and Add, which tract could run in float64: ONNX Runtime 1.30 joins factors to it in float32."""
    return graph.add("Gemm", x, weight, bias, transB=1)


def _affine(graph: Graph, x: str, factor: Any, shift: Any) -> str:
    return graph.add("Add", graph.add("Mul", x, factor), shift)


def _normalised(graph: Graph, x: str, epsilon: float) -> str:
    """Not by LayerNormalization, whose epsilon has single precision."""
    axes = np.array([1])
    centred = graph.add("Sub", x, graph.add("ReduceMean", x, axes))
    variance = graph.add("ReduceMean", graph.add("Mul", centred, centred), axes)
    return graph.add("Div", centred, graph.add("Sqrt", graph.add("Add", variance, epsilon)))


def _added(graph: Graph, x: str, y: str) -> str:
    return graph.add("Add", x, y)


def _sloped(graph: Graph, x: str, slope: Any) -> str:
    return graph.add("Where", graph.add("Greater", x, 0), x, graph.add("Mul", x, slope))


def _mean(graph: Graph, *x: str) -> str:
    return graph.add("Div", graph.add("Sum", *x), len(x))


def _clipped(graph: Graph, x: str, least: Any, most: Any) -> str:
    return graph.add("Min", graph.add("Max", x, least), most)


def _imputed(graph: Graph, x: str, fill: Any) -> str:
    return graph.add("Where", graph.add("IsNaN", x), fill, x)


def _deviations(graph: Graph, x: str, least: float) -> str:
    return graph.add("Sqrt", graph.add("Add", graph.add("Exp", x), least))


def _mixture(graph: Graph, *x: str) -> str:
    means, inner = zip(*map(graph.halves, x), strict=True)
    middle = _mean(graph, *means)
    apart = [graph.add("Sub", each, middle) for each in means]
    squares = [graph.add("Mul", each, each) for each in (*inner, *apart)]
    variance = graph.add("Div", graph.add("Sum", *squares), len(x))
    return graph.add("Concat", middle, graph.add("Sqrt", variance), axis=1)


# ---- activations ----


def _operator(name: str, in_float64: Writer | None = None, least: float | None = None, **attributes: Any) -> Writer:
    """The writer of an operator, whose inputs are `least` at least.

    ONNX Runtime has some for float32 alone: those have another writer for float64.
    """

    def write(graph: Graph, x: str) -> str:
        if in_float64 is not None and graph.dtype == np.float64:
            return in_float64(graph, x)
        return graph.add(name, x if least is None else graph.add("Max", x, least), **attributes)

    return write


def _step(graph: Graph, x: str) -> str:
    above = graph.cast(graph.add("Greater", x, 0), graph.dtype)
    return graph.add("Where", graph.add("IsNaN", x), x, above)


def _hard_sigmoid(graph: Graph, x: str) -> str:
    return graph.add("Min", graph.add("Max", graph.add("Div", graph.add("Add", x, 3), 6), 0), 1)


def _softplus(graph: Graph, x: str) -> str:
    e = graph.add("Exp", graph.add("Neg", graph.add("Abs", x)))
    return graph.add("Add", graph.add("Max", x, 0), graph.add("Log", graph.add("Add", e, 1)))


def _leaky_relu(graph: Graph, x: str) -> str:
    return _sloped(graph, x, LEAK)


def _elu(graph: Graph, x: str, alpha: float = 1.0) -> str:
    below = graph.add("Sub", graph.add("Exp", graph.add("Min", x, 0)), 1)
    return graph.add("Where", graph.add("Greater", x, 0), x, graph.add("Mul", below, alpha))


def _selu(graph: Graph, x: str) -> str:
    return graph.add("Mul", _elu(graph, x, ALPHA), SCALE)


def _gelu(graph: Graph, x: str) -> str:
    if graph.dtype == np.float64:
        raise ValueError(
            "the activation 'gelu' must be in a float32 network for ONNX, got float64: "
            "ONNX Runtime has neither Gelu nor Erf in double precision"
        )
    graph.opset = LATER_OPSET
    return graph.add("Gelu", graph.add("Max", x, LEAST))


def _silu(graph: Graph, x: str) -> str:
    return graph.add("Mul", graph.add("Max", x, LEAST), graph.add("Sigmoid", x))


def _mish(graph: Graph, x: str) -> str:
    return graph.add("Mul", graph.add("Max", x, LEAST), graph.add("Tanh", _softplus(graph, x)))


# By the name of a function of `numpy_steps` or `numpy_columns`: what writes it. It takes the graph, then the function's
# own arguments.
WRITERS: dict[str, Writer] = {
    "shifted": _shifted,
    "columns": _columns,
    "looked_up": _looked_up,
    "joined": _joined,
    "dense": _dense,
    "affine": _affine,
    "normalised": _normalised,
    "added": _added,
    "sloped": _sloped,
    "mean": _mean,
    "clipped": _clipped,
    "imputed": _imputed,
    "deviations": _deviations,
    "mixture": _mixture,
    "sigmoid": _operator("Sigmoid"),
    "hard_sigmoid": _operator("HardSigmoid", _hard_sigmoid, alpha=1 / 6, beta=0.5),
    "tanh": _operator("Tanh"),
    "exp": _operator("Exp"),
    "step": _step,
    "softplus": _operator("Softplus", _softplus),
    "relu": _operator("Relu"),
    "leaky_relu": _operator("LeakyRelu", _leaky_relu, alpha=LEAK),
    "elu": _operator("Elu", _elu),
    "selu": _operator("Selu", _selu),
    "gelu": _gelu,
    "silu": _silu,
    "mish": _operator("Mish", _mish, LEAST),
    "softmax": _operator("Softmax", axis=1),
    **onnx_columns.WRITERS,
}


# ---- activations of a user ----


def _own(graph: Graph, expression: str, x: str) -> str:
    """The nodes of an expression. Its values have names of their own."""
    prefix = f"Own_{len(graph.nodes) + 1}_"
    for node in _onnx().parser.parse_graph(f"own (float[N] x) => (float[N] y) {{ {expression} }}").node:
        node.input[:] = [x if name == "x" else name and prefix + name for name in node.input]
        node.output[:] = [name and prefix + name for name in node.output]
        graph.nodes.append(node)
    return f"{prefix}y"


def _check_own(activation: Activation, expression: str, dtype: np.dtype[Any]) -> None:
    """Raise where an expression is no nodes that compute the activation."""
    said = f"the expression of {activation.name!r} must be nodes in ONNX's text that make y from x, as y = Softsign(x)"
    graph, onnx = Graph(dtype), _onnx()
    x = np.array([*POINTS, *FAR], dtype)[:, None]
    try:
        y = Output(_own(graph, expression, INPUT_NAME), "y", dtype, 1)
        model = graph.model("own", [y._replace(name=INPUT_NAME).info], [y._replace(name=y.value).info])
        onnx.checker.check_model(model, full_check=True)
        (got,) = _by_reference(model.SerializeToString()).outputs(x).values()
    except Exception as error:  # onnx raises errors of many kinds
        raise ValueError(f"{said}, got {shown(expression)}: {error}") from error
    if got.shape != x.shape:
        raise ValueError(f"{said}, got {shown(expression)}, whose y has shape {got.shape} for x of shape {x.shape}")
    with np.errstate(all="ignore"):
        want = Step(OWN, (INPUTS,), 1, own=activation).value(x)
        wrong = np.flatnonzero(~np.isclose(got, want, 1e-4, 1e-4, equal_nan=True))
    if len(wrong):
        at, other, one = (values.flat[wrong[0]] for values in (x, got, want))
        raise ValueError(f"{said}, got {shown(expression)}, which gives {other:g} in place of {one:g} for x = {at:g}")


# ---- what travels along, and files that run here ----


def _described(computation: Computation, columns: list[onnx_columns.Given], test: SelfTest) -> dict[str, str]:
    """What a file says beside its graph, in JSON."""
    found: dict[str, Any] = {}
    if computation.feature_names is not None:
        found["feature_names"] = computation.feature_names
    if columns:
        found["columns"] = [each.described() for each in columns]
    if computation.decision.labels is not None:
        found["classes"] = computation.decision.labels.tolist()
    found["self_test"] = {
        "inputs": _numbers(test.inputs),
        "outputs": _numbers(test.outputs),
        "dtype": computation.dtype,
        "predictions": test.predictions.tolist(),
        "prediction_dtype": str(test.predictions.dtype),
        "tolerance": test.tolerance,
    }
    return {key: json.dumps(value) for key, value in found.items()}


def _checksum(model: Any, said: dict[str, str]) -> str:
    """SHA-256 of a model without metadata, and of what these say."""
    bare = type(model)()
    bare.CopyFrom(model)
    bare.ClearField("metadata_props")
    content = bare.SerializeToString(deterministic=True) + json.dumps(dict(sorted(said.items()))).encode()
    return hashlib.sha256(content).hexdigest()


def verify(path: Path) -> verifying.Verification:
    """What a file computes for the rows in it."""
    test = self_test(path)
    found = run(path, test.inputs)
    labels = found.pop("label", None)
    outputs = np.concatenate(list(found.values()), axis=1)
    if outputs.shape[1] == test.outputs.shape[1] + 1:  # the probabilities of two classes by a single output
        outputs = outputs[:, 1:]
    error, ulp = verifying.errors(outputs, test.outputs)
    wrong = 0 if labels is None else int((labels != test.predictions).reshape(len(labels), -1).any(axis=1).sum())
    intact = _is_intact(path)
    passed = error <= test.tolerance and not wrong and intact
    return verifying.Verification(len(test.inputs), error, ulp, wrong, intact, passed)


def _is_intact(path: Path) -> bool:
    """Whether a file has the checksum that was written; True where onnx is not there to tell."""
    if not find_spec("onnx"):
        return True
    model = _onnx().load_from_string(path.read_bytes())
    said = {each.key: each.value for each in model.metadata_props}
    return said.pop("checksum", None) == _checksum(model, said)


def _numbers(array: NDArray[Any]) -> list[list[float | None]]:
    """Rows of numbers with as many digits as their dtype needs; None for NaN, which JSON has not."""
    return [[None if np.isnan(number) else float(str(number)) for number in row] for row in array]


def self_test(file: str | os.PathLike[str] | bytes) -> SelfTest:
    """The rows that travel in a file of fastnn's, given by its path or its bytes; raises ValueError for another one."""
    try:
        opened = _opened(file)
        test = json.loads(opened.metadata["self_test"])
        inputs, outputs = np.array(test["inputs"], opened.dtype), np.array(test["outputs"], test["dtype"])
        return SelfTest(inputs, outputs, np.array(test["predictions"], test["prediction_dtype"]), test["tolerance"])
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{_EXPECTED}, got {_shown(file)}, whose self test cannot be read") from error


def run(file: str | os.PathLike[str] | bytes, X: Any) -> dict[str, NDArray[Any]]:
    """The outputs, by name, of a file of fastnn's for rows X (rows, n_inputs), which are rounded to the file's dtype.

    Of a table, rows are the matrix of inputs, see `Computation`.
    ONNX Runtime computes them, or the reference implementation of onnx where that is not installed. Labels of text have
    NumPy's dtype for it. Raises ValueError for another file.
    """
    opened = _opened(file)
    found = opened.outputs(np.asarray(X, opened.dtype))
    return {name: each.astype(str) if each.dtype == object else each for name, each in found.items()}


_EXPECTED = "file must be an ONNX file of fastnn"


class _Opened(NamedTuple):
    """A file that can run."""

    metadata: dict[str, str]
    dtype: str  # of rows
    outputs: Callable[[NDArray[Any]], dict[str, NDArray[Any]]]


def _opened(file: str | os.PathLike[str] | bytes) -> _Opened:
    content = file if isinstance(file, bytes) else file_paths.path(file).read_bytes()
    opened = _by_runtime if find_spec("onnxruntime") else _by_reference
    try:
        found = opened(content)
    except ImportError:
        raise
    except Exception as error:  # both raise errors of many kinds
        raise ValueError(f"{_EXPECTED}, got {_shown(file)}: {error}") from error
    if found.metadata.get("producer") != "fastnn":
        raise ValueError(f"{_EXPECTED}, got {_shown(file)}, which says nothing of fastnn")
    return found


def _by_runtime(content: bytes) -> _Opened:
    runtime = import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    metadata = session.get_modelmeta().custom_metadata_map
    kind = "tensor(double)" if "columns" in metadata else session.get_inputs()[0].type
    dtype = {"tensor(float)": "float32", "tensor(double)": "float64"}[kind]
    return _Opened(metadata, dtype, lambda X: dict(zip(names, session.run(names, _fed(metadata, X)), strict=True)))


def _by_reference(content: bytes) -> _Opened:
    onnx = _onnx()
    model = onnx.load_from_string(content)
    evaluator = import_module("onnx.reference").ReferenceEvaluator(model)
    metadata = {each.key: each.value for each in model.metadata_props}
    kind = onnx.helper.tensor_dtype_to_np_dtype(model.graph.input[0].type.tensor_type.elem_type)
    dtype = "float64" if "columns" in metadata else str(kind)
    names = evaluator.output_names

    def outputs(X: NDArray[Any]) -> dict[str, NDArray[Any]]:
        with np.errstate(all="ignore"):
            return dict(zip(names, evaluator.run(names, _fed(metadata, X)), strict=True))

    return _Opened(metadata, dtype, outputs)


def _fed(metadata: dict[str, str], X: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """The inputs of a file for rows."""
    return onnx_columns.fed(json.loads(metadata["columns"]), X) if "columns" in metadata else {INPUT_NAME: X}


def _shown(file: Any) -> str:
    """A file in a message."""
    return f"{len(file)} bytes" if isinstance(file, bytes) else shown(str(file))
