"""The graph of an ONNX file as values: constants, and what follows from the inputs, each as rows of numbers."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks.scalars import shown
from .imported import Unfit
from .onnx_operators import COMPARISONS, ELEMENTWISE

Array = NDArray[Any]
OPSETS = range(6, 29)  # of the standard operators
MOST_NODES = 10_000
SPARE = 2**16  # numbers that constants may have beside those of the file
FLOATS = ("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16")
NUMBERS = (*FLOATS, "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "BOOL")
# What NumPy and Python raise for a node that is none.
MALFORMED = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
ALIASES = ("Identity", "Dropout", "ZipMap")
OF_CONSTANTS = ("Constant", "ConstantOfShape")  # operators that read nothing but constants
NO_OPERATOR = "no network of fastnn has this operator"
_SCALER = (("offset", 0.0), ("scale", 1.0))  # the attributes of a Scaler, and what they are where they are left out


@dataclass(eq=False)
class Core:
    """What a node computes from the inputs: rows of `width` numbers, whatever axes of size 1 a file gives them."""

    node: Any
    kind: str  # "inputs", "dense", "elementwise", "sum", "joined", "mean", "normalised" or "softmax"
    reads: tuple[Any, ...]  # each a Core, an array () or (width,), or None
    width: int
    position: int  # in the order of the graph
    attributes: dict[str, Any] = field(default_factory=dict)
    affine: tuple[tuple[Any, Any], ...] | None = None  # factors and offsets, where it is an affine map
    source: Core | None = None  # of which an elementwise one is a function; None: itself, which others are functions of

    @property
    def root(self) -> Core:
        """The value of which this is an elementwise function."""
        return self.source or self

    @property
    def cores(self) -> list[Core]:
        """What it reads that is no constant."""
        return [each for each in self.reads if isinstance(each, Core)]


@dataclass(frozen=True)
class View:
    """A core with axes: those of features, behind the axis of rows where there is one."""

    core: Core
    shape: tuple[int, ...]
    rows: bool

    @property
    def dimensions(self) -> tuple[int, ...]:
        """All axes; 0 stands for the rows."""
        return (0, *self.shape) if self.rows else self.shape


@dataclass(frozen=True)
class Constant:
    """A constant, an array or a tensor of the file that becomes one when it is read."""

    array: Callable[[], Array]


def _constant_of(array: Array) -> Constant:
    return Constant(lambda: array)


@dataclass(frozen=True)
class Label:
    """What stands for a class."""

    source: View  # the outputs that decide


@dataclass(frozen=True)
class Unknown:
    """What no network of fastnn computes."""

    node: Any
    reason: str
    no_operator: bool = (
        False  # whether fastnn has not the operator: that says more of a network than anything before it
    )


Value = View | Constant | Label | Unknown | None


def named(node: Any) -> str:
    """A node in a message."""
    name = node.name or (node.output[0] if node.output else "")
    domain = f"{node.domain}." if node.domain not in ("", "ai.onnx") else ""
    return f"node {shown(name)} ({shown(f'{domain}{node.op_type}')[1:-1]})"


def _missing(node: Any) -> str:
    """Why fastnn has not the operator of a node, or ""."""
    if node.domain not in ("", "ai.onnx", "ai.onnx.ml"):
        return "its operator is none of ONNX's own"
    has = any(node.op_type in each for each in (ELEMENTWISE, HANDLERS, ALIASES, OF_CONSTANTS))
    return "" if has else NO_OPERATOR


class Values:
    """The values of a graph by their names."""

    def __init__(self, onnx: Any, content: bytes, folder: Path):
        self.onnx, self.folder = onnx, folder
        try:
            self.model = onnx.load_from_string(content)
        except Exception as error:  # protobuf raises errors of several kinds
            raise Unfit(f"it is no ONNX file: {error}") from None
        opsets = [each.version for each in self.model.opset_import if each.domain in ("", "ai.onnx")]
        self.opset = int(opsets[0]) if opsets else 0
        if self.opset not in OPSETS:
            raise Unfit(f"opset must be {OPSETS[0]} to {OPSETS[-1]}, got {self.opset or None}")
        graph = self.model.graph
        if len(graph.node) > MOST_NODES:
            raise Unfit(f"it must have at most {MOST_NODES} nodes, got {len(graph.node)}")
        if graph.sparse_initializer:
            raise Unfit("it has sparse initializers")
        self.n_bytes = len(content)  # with those of other files that hold tensors
        self.is_double = False
        self.known: dict[str, Value] = {each.name: self._tensor(each) for each in graph.initializer}
        tensors = [each.t for node in graph.node for each in node.attribute if each.HasField("t")]
        for location in {self._location(each) for each in (*graph.initializer, *tensors) if self._is_external(each)}:
            self.n_bytes += location.stat().st_size
        self.budget = SPARE + 4 * self.n_bytes  # numbers that constants and layers may still have
        self.known |= self._inputs()
        for i, node in enumerate(graph.node, 1):
            self._add(node, i)

    # ---- what a graph begins with ----

    def _inputs(self) -> dict[str, Value]:
        """The one input."""
        given = [each for each in self.model.graph.input if each.name not in self.known]
        if len(given) != 1:
            raise Unfit(f"it must have one input, got {shown([each.name for each in given])}")
        tensor = given[0].type.tensor_type
        name = f"the input {shown(given[0].name)}"
        if not given[0].type.HasField("tensor_type") or not tensor.HasField("shape"):
            raise Unfit(f"{name} must be a tensor whose shape is declared")
        if self._name(tensor.elem_type) not in NUMBERS:
            raise Unfit(f"{name} must be numbers, got {self._name(tensor.elem_type)}")
        sizes = [each.dim_value if each.HasField("dim_value") else 0 for each in tensor.shape.dim]
        on_the_right = len(sizes) == 2 and sizes[0] > 1 and sizes[1] == 1 and self._weights_stand_on_the_left()
        rows = len(sizes) > 1 and not on_the_right
        self.batch = sizes[0] if rows else 1
        shape = tuple(sizes[1:] if rows else sizes)
        if not shape or min(shape) < 1:
            raise Unfit(f"{name} must have a declared number of features, got the shape {shown(sizes)}")
        width = math.prod(shape)
        node = self.onnx.helper.make_node("Input", [], [given[0].name])
        if width > self.n_bytes:  # a network has a weight for each of them
            return {given[0].name: Unknown(node, f"it has {width} features, and the file has {self.n_bytes} bytes")}
        return {given[0].name: View(Core(node, "inputs", (), width, 0), shape, rows)}

    def _weights_stand_on_the_left(self) -> bool:
        """Whether products are W x, of a column x."""
        known, nodes = self.known, self.model.graph.node
        products = [each for each in nodes if each.op_type in ("MatMul", "Gemm") and len(each.input) > 1]
        return any(each.input[0] in known and each.input[1] not in known for each in products)

    def _tensor(self, tensor: Any) -> Constant:
        return Constant(functools.cache(lambda: self._array(tensor)))

    def _array(self, tensor: Any) -> Array:
        """A tensor of the file, whose size is checked first."""
        name, size = self._name(tensor.data_type), math.prod(tensor.dims)
        if name not in NUMBERS or any(n < 0 for n in tensor.dims):
            raise Unfit(f"the tensor {shown(tensor.name)} must be numbers, got {name} {shown(list(tensor.dims))}")
        itemsize = np.dtype(self.onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize
        if self._is_external(tensor):
            copy = type(tensor)()
            copy.CopyFrom(tensor)
            copy.ClearField("data_location")
            copy.ClearField("external_data")
            copy.raw_data = self._external(tensor, size * itemsize)
            tensor = copy
        fields = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
        has = (
            len(tensor.raw_data) // itemsize
            if tensor.HasField("raw_data")
            else sum(len(getattr(tensor, each)) for each in fields)
        )
        if has != size or (tensor.HasField("raw_data") and len(tensor.raw_data) != size * itemsize):
            raise Unfit(f"the tensor {shown(tensor.name)} must have {size} numbers, got {has}")
        try:
            found: Array = self.onnx.numpy_helper.to_array(tensor)
        except (ValueError, TypeError, OverflowError) as error:
            raise Unfit(f"the tensor {shown(tensor.name)} cannot be read: {error}") from None
        return found.astype(np.float32) if name in ("FLOAT16", "BFLOAT16") else found

    def _is_external(self, tensor: Any) -> bool:
        return bool(tensor.data_location == self.onnx.TensorProto.EXTERNAL)

    def _location(self, tensor: Any) -> Path:
        """The file beside this one that holds a tensor."""
        said = {each.key: each.value for each in tensor.external_data}
        location = str(said.get("location", ""))
        path = self.folder / location
        if not location or Path(location).name != location or path.is_symlink() or not path.is_file():
            raise Unfit(f"the tensor {shown(tensor.name)} must be in a file in the same folder, got {shown(location)}")
        return path

    def _external(self, tensor: Any, size: int) -> bytes:
        """The bytes of a tensor in another file."""
        path = self._location(tensor)
        offset = next((each.value for each in tensor.external_data if each.key == "offset"), "0")
        start = int(offset) if str(offset).isdecimal() else 0
        if start + size > path.stat().st_size:
            raise Unfit(f"the tensor {shown(tensor.name)} must have {size} bytes in {path.name!r}, which is too short")
        with path.open("rb") as file:
            file.seek(start)
            return file.read(size)

    def _name(self, data_type: int) -> str:
        """ONNX's name of a dtype."""
        names = {value: name for name, value in self.onnx.TensorProto.DataType.items()}
        return names.get(data_type, str(data_type))

    # ---- nodes ----

    def _add(self, node: Any, position: int) -> None:
        """Find out what a node gives."""
        value: Value
        try:
            value = self._value(node, position)
        except Unfit as error:
            value = Unknown(node, str(error))
        except MALFORMED as error:  # an attribute of another type, too few inputs
            value = Unknown(node, f"it cannot be read: {error}")
        for name in node.output:
            self.known[name] = value

    def _value(self, node: Any, position: int) -> Value:
        reads: list[Value] = []
        for name in node.input:
            if name and name not in self.known:
                raise Unfit(f"it reads {shown(name)}, which no node before it gives")
            reads.append(self.known[name] if name else None)
        missing = _missing(node)
        unknown = next((each for each in reads if isinstance(each, Unknown)), None)
        if unknown is not None and (unknown.no_operator or not missing):
            return unknown
        label = next((each for each in reads if isinstance(each, Label)), None)
        if unknown is None and label is not None:
            return label
        if missing:
            return Unknown(node, missing, no_operator=True)
        attributes = {each.name: self.onnx.helper.get_attribute_value(each) for each in node.attribute}
        if node.op_type in OF_CONSTANTS or not any(isinstance(each, View) for each in reads):
            constants = [each.array() if isinstance(each, Constant) else None for each in reads]
            array = self._constant(node.op_type, attributes, constants)
            return _constant_of(array)
        call = Call(self, node, attributes, reads, position)
        if node.op_type in ALIASES:
            return reads[0]
        return HANDLERS.get(node.op_type, _elementwise)(call)

    # ---- constants ----

    def _constant(self, operator: str, attributes: dict[str, Any], reads: Sequence[Array | None]) -> Array:
        """What an operator gives for constants."""
        if operator == "Constant":
            (name, value), *_ = attributes.items() or [("", None)]
            if name == "value":
                return self._array(value)
            if name not in ("value_float", "value_floats", "value_int", "value_ints"):
                raise Unfit("its value must be numbers")
            return np.array(value, np.float32 if "float" in name else np.int64)
        if not reads or reads[0] is None:
            raise Unfit("it reads no value")
        given = [each for each in reads if each is not None]
        first, sizes = given[0], [each.size for each in given]
        try:
            if operator in ELEMENTWISE:
                self.spend(math.prod(np.broadcast_shapes(*(each.shape for each in given))))
                with np.errstate(all="ignore"):
                    if operator == "Cast":
                        return first.astype(self._dtype(attributes))
                    return np.asarray(ELEMENTWISE[operator](attributes, *reads))
            if operator == "ConstantOfShape":
                value = self._array(attributes["value"]) if "value" in attributes else np.zeros(1, np.float32)
                self.spend(math.prod(map(int, first)))
                return np.full(first, value.flat[0])
            if operator == "Concat":
                self.spend(sum(sizes))
                return np.concatenate(given, attributes.get("axis", 1))
            if operator == "Gather":
                axis = attributes.get("axis", 0)
                self.spend(sizes[1] * (sizes[0] // max(first.shape[axis], 1)))
                return np.take(first, given[1], axis)
            if operator in ALIASES:
                return first
            if operator == "Transpose":
                return np.transpose(first, attributes.get("perm"))
            if operator == "Flatten":
                return first.reshape(math.prod(first.shape[: attributes.get("axis", 1)]), -1)
            if operator == "Reshape":
                shape = attributes.get("shape", ()) if len(given) < 2 else given[1].ravel().tolist()
                return first.reshape([first.shape[i] if n == 0 else n for i, n in enumerate(shape)])
            if operator in ("Squeeze", "Unsqueeze"):
                axes = _axes(attributes, given[1:])
                if operator == "Unsqueeze":
                    return np.expand_dims(first, axes or [])
                return np.squeeze(first, None if axes is None else tuple(axes))
        except Unfit:
            raise
        except MALFORMED as error:
            raise Unfit(f"its constants do not go together: {error}") from None
        raise Unfit(NO_OPERATOR)

    def spend(self, size: int) -> None:
        """Count numbers of constants and layers; raises where a small file makes many, by using few again and again."""
        self.budget -= size
        if self.budget < 0 or size < 0:
            raise Unfit("its numbers are many more than those of the file")

    def _dtype(self, attributes: dict[str, Any]) -> Any:
        name = self._name(attributes.get("to", 0))
        if name not in NUMBERS:
            raise Unfit(f"its dtype must be one of numbers, got {name}")
        if name in ("FLOAT16", "BFLOAT16"):
            return np.float32
        return self.onnx.helper.tensor_dtype_to_np_dtype(attributes["to"])


def _axes(attributes: dict[str, Any], given: Sequence[Array]) -> list[int] | None:
    """The axes that an attribute or an input names."""
    axes = attributes.get("axes") if not given else np.ravel(given[0]).tolist()
    return None if axes is None else [int(each) for each in axes]


# ---- operators on what follows from the inputs ----


@dataclass(frozen=True)
class Call:
    """A node, with what it reads."""

    values: Values
    node: Any
    attributes: dict[str, Any]
    reads: Sequence[Value]
    position: int

    def view(self, i: int = 0) -> View:
        """The i-th value that it reads, which must follow from the inputs."""
        found = self.reads[i] if i < len(self.reads) else None
        if not isinstance(found, View):
            raise Unfit(f"its input {i} must follow from the inputs of the network")
        return found

    def constant(self, i: int) -> Array | None:
        """The i-th value that it reads, which must be a constant; None where it is left out."""
        found = self.reads[i] if i < len(self.reads) else None
        if isinstance(found, View):
            raise Unfit(f"its input {i} must be a constant")
        return found.array() if isinstance(found, Constant) else None

    def given(self, i: int) -> Array:
        """The i-th value that it reads, a constant that must be there."""
        found = self.constant(i)
        if found is None:
            raise Unfit(f"it must have an input {i}")
        return found

    def core(self, kind: str, reads: Iterable[Any], width: int, **more: Any) -> Core:
        """What the node computes."""
        return Core(self.node, kind, tuple(reads), width, self.position, self.attributes, **more)

    def affine(self, view: View, *pairs: tuple[Any, Any]) -> View:
        """A view with factors and offsets, each () or (width,), applied one after the other."""
        core, width = view.core, view.core.width

        def flat(numbers: Any) -> Array:
            array = np.asarray(numbers, np.float64)
            if array.size not in (1, width):
                raise Unfit(f"it has {array.size} numbers for {width} neurons")
            self.values.spend(array.size)
            return array.ravel() if array.size > 1 else array.reshape(())

        maps = tuple((flat(factor), flat(offset)) for factor, offset in pairs)
        return replace(view, core=self.core("elementwise", [core], width, affine=maps, source=core.root))


def _dense(call: Call, view: View, weight: Array, bias: Array, shape: tuple[int, ...]) -> View:
    call.values.spend(weight.size)
    call.values.is_double |= weight.dtype == np.float64
    units = len(weight)
    bias = np.asarray(bias)
    if bias.size not in (1, units):
        raise Unfit(f"it has a bias of shape {bias.shape} for {units} neurons")
    core = call.core("dense", [view.core, weight, np.broadcast_to(bias.ravel(), (units,))], units)
    return View(core, shape, view.rows)


def _product(call: Call, left: Value, right: Value, bias: Any) -> View:
    """The product of rows with weights (fan_in, units), or of weights (units, fan_in) with a column."""
    if isinstance(left, View):
        if not isinstance(right, Constant):
            raise Unfit("its weights must be constants")
        view, kernel = left, right.array()
        if kernel.ndim < 1 or math.prod(kernel.shape[:-2]) != 1:
            raise Unfit(f"its weights must be a matrix, got the shape {kernel.shape}")
        weight: Array = kernel.reshape(kernel.shape[-2:]).T if kernel.ndim > 1 else kernel[None]
        if not view.shape or view.shape[-1] != view.core.width or weight.shape[1] != view.core.width:
            raise Unfit(f"it multiplies features of shape {view.shape} by weights of shape {weight.T.shape}")
        units = (len(weight),) if kernel.ndim > 1 else ()  # a vector of weights gives a number without an axis
        return _dense(call, view, weight, bias, (*view.shape[:-1], *units))
    if not isinstance(left, Constant) or not isinstance(right, View):
        raise Unfit("its weights must be constants")
    view = right
    weight = left.array()
    if weight.ndim != 2 or view.rows or view.shape not in ((weight.shape[1],), (weight.shape[1], 1)):
        raise Unfit(f"it multiplies weights of shape {weight.shape} by features of shape {view.shape}")
    return _dense(call, view, weight, bias, (len(weight), *view.shape[1:]))


def _matmul(call: Call) -> View:
    if len(call.reads) != 2:
        raise Unfit("it must read two values")
    return _product(call, call.reads[0], call.reads[1], np.zeros(1, np.float32))


def _gemm(call: Call) -> View:
    alpha, beta = call.attributes.get("alpha", 1.0), call.attributes.get("beta", 1.0)
    if len(call.reads) < 2:
        raise Unfit("it must read two values")
    sides = list(call.reads[:2])
    for i, name in enumerate(("transA", "transB")):
        if call.attributes.get(name, 0):
            side = sides[i]
            if not isinstance(side, Constant):
                raise Unfit(f"{name} must be 0")
            sides[i] = _constant_of(side.array().T)
    for i, side in enumerate(sides):
        if isinstance(side, Constant) and alpha != 1:
            sides[i] = _constant_of(side.array() * side.array().dtype.type(alpha))
    bias = call.constant(2)
    bias = np.zeros(1, np.float32) if bias is None else bias * np.float64(beta)
    return _product(call, sides[0], sides[1], bias)


def _elementwise(call: Call) -> Value:
    operator, attributes = call.node.op_type, call.attributes
    views = [each for each in call.reads if isinstance(each, View)]
    if operator == "Cast":
        if call.values._name(attributes.get("to", 0)) not in FLOATS:
            compared = views[0].core.cores if views[0].core.node.op_type in COMPARISONS else []
            return Label(replace(views[0], core=compared[0]) if compared else views[0])
        if views[0].core.node.op_type not in COMPARISONS:
            return views[0]
    widest = max(views, key=lambda each: each.core.width)
    reads: list[Any] = []
    shape = widest.shape
    for each in call.reads:
        if isinstance(each, View):
            if each.rows != widest.rows or (each.shape != shape and each.core.kind != "mean" and each.core.width != 1):
                raise Unfit(f"it joins values of the shapes {each.shape} and {shape}")
            reads.append(each.core)
        elif isinstance(each, Constant):
            array, shape = _spread(call, each.array(), replace(widest, shape=shape))
            reads.append(array)
        else:
            reads.append(None)
    cores = [each for each in reads if isinstance(each, Core)]
    roots = {id(each.root): each.root for each in cores}
    width = widest.core.width
    if len(roots) > 1:
        call.values.spend(width)
        kind = "sum" if operator in ("Add", "Sum") and len(cores) == len(reads) == 2 else "joined"
        return View(call.core(kind, reads, width), shape, widest.rows)
    (root,) = roots.values()
    core = call.core("elementwise", reads, width, affine=_affine_of(operator, reads), source=root)
    return View(core, shape, widest.rows)


def _spread(call: Call, array: Array, view: View) -> tuple[Array, tuple[int, ...]]:
    """A constant as () or (width,) for the features of a view, and the features' shape together with it."""
    axis = call.attributes.get("axis")
    if call.values.opset < 7 and axis is not None and call.attributes.get("broadcast") and array.ndim:
        array = array.reshape(array.shape + (1,) * (len(view.dimensions) - axis % len(view.dimensions) - array.ndim))
    missing = array.ndim - len(view.dimensions)
    shape = view.shape
    if missing > 0:
        if view.rows:
            raise Unfit(f"it joins rows with a constant of shape {array.shape}")
        shape = (1,) * missing + shape
    if array.size == 1:
        return array.reshape(()), shape
    full = (1, *shape) if view.rows else shape
    try:
        spread = np.broadcast_to(array, full)
    except ValueError:
        raise Unfit(f"it joins features of shape {shape} with a constant of shape {array.shape}") from None
    call.values.spend(spread.size)
    return spread.ravel(), shape


def _affine_of(operator: str, reads: Sequence[Any]) -> tuple[tuple[Any, Any], ...] | None:
    """The factor and the offset of an operator on one value and constants, where it is an affine map."""
    if operator == "Neg":
        return ((-1.0, 0.0),)
    if operator not in ("Add", "Sub", "Mul", "Div") or len(reads) != 2:
        return None
    first = isinstance(reads[0], Core)
    constant = reads[1] if first else reads[0]
    if isinstance(constant, Core) or constant is None:
        return None
    c = np.asarray(constant, np.float64)
    with np.errstate(all="ignore"):
        if operator == "Div":
            return ((1 / c, 0.0),) if first else None
    return {"Add": ((1.0, c),), "Mul": ((c, 0.0),), "Sub": ((1.0, -c),) if first else ((-1.0, c),)}[operator]


def _batch_norm(call: Call) -> View:
    view = call.view()
    if call.attributes.get("training_mode", 0):
        raise Unfit("training_mode must be 0")
    # ONNX has channels in axis 1. For a column of features older converters of Keras write those of axis 0.
    if len(view.dimensions) < 2 or view.core.width not in view.dimensions[:2]:
        raise Unfit(f"its channels must be all features, got the shape {view.shape}")
    scale, bias, mean, variance = (np.asarray(call.given(i), np.float64) for i in range(1, 5))
    with np.errstate(all="ignore"):
        factor = scale / np.sqrt(variance + call.attributes.get("epsilon", 1e-5))
    return call.affine(view, (1.0, -mean), (factor, bias))


def _scaler(call: Call) -> View:
    offset, scale = (np.array(call.attributes.get(name, (n,)), np.float64) for name, n in _SCALER)
    return call.affine(call.view(), (1.0, -offset), (scale, 0.0))


def _last_axis(call: Call, view: View, axis: int) -> None:
    """Raise where an axis does not hold all features."""
    n = len(view.dimensions)
    place = axis % n - view.rows if -n <= axis < n else -1
    if place < 0 or view.shape[place] != view.core.width:
        raise Unfit(f"its axis must be that of the features, got {axis} for rows of shape {view.shape}")


def _mean(call: Call) -> View:
    view = call.view()
    axes = _axes(call.attributes, [call.given(1)] if len(call.reads) > 1 else []) or []
    if len(axes) != 1 or not call.attributes.get("keepdims", 1) or len(view.shape) != 1:
        raise Unfit("it must be over the features, with keepdims=1")
    _last_axis(call, view, axes[0])
    return View(call.core("mean", [view.core], 1), (1,), view.rows)


def _layer_norm(call: Call) -> View:
    view, width = call.view(), call.view().core.width
    axis = call.attributes.get("axis", -1)
    _last_axis(call, view, axis)
    if axis % len(view.dimensions) != len(view.dimensions) - 1:
        raise Unfit("its axis must be the last one")
    epsilon = float(str(np.float32(call.attributes.get("epsilon", 1e-5))))
    core = call.core("normalised", [view.core, epsilon], width)
    bias = call.constant(2)
    return call.affine(replace(view, core=core), (call.given(1), 0.0), (1.0, 0.0 if bias is None else bias))


def _softmax(call: Call) -> View:
    view, new = call.view(), call.values.opset >= 13
    axis = call.attributes.get("axis", -1 if new else 1)
    if new or axis != view.rows:
        _last_axis(call, view, axis)
    return replace(view, core=call.core("softmax", [view.core], view.core.width))


def _argmax(call: Call) -> Label:
    return Label(call.view())


def _gather(call: Call) -> Value:
    """Labels by class, or the one column that there is."""
    if isinstance(call.reads[0], Constant):
        return Label(call.view(1))
    view, which = call.view(), call.given(1)
    if view.core.width != 1 or len(view.shape) != 1 or which.size != 1 or which.any():
        raise Unfit(NO_OPERATOR)
    return replace(view, shape=view.shape[: which.ndim])


def _concat(call: Call) -> View:
    """The probabilities of two classes by a single output are that output."""
    views = [call.view(i) for i in range(len(call.reads))]
    if len(views) == 2 and views[0].core.node.op_type == "Sub" and views[1].core.width == 1:
        one, core = views[0].core.reads
        if core is views[1].core and not isinstance(one, Core) and one == 1:
            return views[1]
    raise Unfit("it joins values beside each other")


def _shape(call: Call) -> Constant:
    """0 stands for the number of rows, as in Reshape."""
    found = np.array(call.view().dimensions, np.int64)[call.attributes.get("start", 0) : call.attributes.get("end")]
    return _constant_of(found)


# ---- operators that only move axes ----


def _with_axes(view: View, dimensions: Sequence[int], rows: bool) -> View:
    shape = tuple(dimensions[rows:])
    if math.prod(shape) != view.core.width or any(n < 1 for n in shape):
        raise Unfit(f"it makes features of shape {shape} of {view.shape}")
    return View(view.core, shape, rows)


def _sizes(call: Call, view: View) -> list[int]:
    """All axes, with the number of rows that the file declares, 0 where it declares none."""
    return [call.values.batch if i == 0 and view.rows else n for i, n in enumerate(view.dimensions)]


def _reshape(call: Call) -> View:
    view = call.view()
    target = call.given(1).ravel() if len(call.reads) > 1 else call.attributes.get("shape", ())
    sizes = [int(n) for n in target]
    sizes = [view.dimensions[i] if n == 0 and i < len(view.dimensions) else n for i, n in enumerate(sizes)]
    width, batch = view.core.width, call.values.batch
    rest = sizes[1:]
    others = math.prod(n for n in rest if n != -1)
    if view.rows and sizes and (others == width or -1 in rest) and sizes[0] in (0, -1, 1, batch):
        rest = [width // others if n == -1 and others > 0 else n for n in rest]
        return _with_axes(view, [0, *rest], True)
    if view.rows and batch != 1:
        raise Unfit(f"it must keep rows as they are, got the shape {shown(sizes)}")
    others = math.prod(n for n in sizes if n != -1)
    return _with_axes(view, [width // others if n == -1 and others > 0 else n for n in sizes], False)


def _flatten(call: Call) -> View:
    view, axis = call.view(), call.attributes.get("axis", 1)
    n = len(view.dimensions)
    axis = axis + n if axis < 0 else axis
    if not 0 <= axis <= n:
        raise Unfit(f"its axis must be below {n}, got {axis}")
    before, after = view.dimensions[:axis], view.dimensions[axis:]
    if not view.rows:
        return _with_axes(view, [math.prod(before), math.prod(after)], False)
    if axis == 0 or math.prod(before[1:]) != 1:
        raise Unfit(f"it must keep rows as they are, got axis {axis}")
    return _with_axes(view, [0, math.prod(after)], True)


def _squeeze(call: Call) -> View:
    view = call.view()
    axes = _axes(call.attributes, [call.given(1)] if len(call.reads) > 1 else [])
    sizes = _sizes(call, view)
    if axes is None:
        axes = [i for i, n in enumerate(sizes) if n == 1]
    gone = {axis % len(sizes) for axis in axes} if sizes else set()
    if any(sizes[i] != 1 for i in gone):
        raise Unfit(f"its axes must be of size 1, got {shown(axes)}")
    kept = [n for i, n in enumerate(view.dimensions) if i not in gone]
    return _with_axes(view, kept, view.rows and 0 not in gone)


def _unsqueeze(call: Call) -> View:
    view = call.view()
    axes = _axes(call.attributes, [call.given(1)] if len(call.reads) > 1 else []) or []
    n = len(view.dimensions) + len(axes)
    new = {axis % n for axis in axes}
    if view.rows and 0 in new:
        raise Unfit("it must keep rows as they are")
    old = iter(view.dimensions)
    if len(new) != len(axes):
        raise Unfit(f"its axes must be different ones, got {shown(axes)}")
    return _with_axes(view, [1 if i in new else next(old) for i in range(n)], view.rows)


def _transpose(call: Call) -> View:
    view = call.view()
    n = len(view.dimensions)
    order = [int(i) for i in call.attributes.get("perm", range(n)[::-1])]
    if sorted(order) != [*range(n)]:
        raise Unfit(f"perm must be an order of {n} axes, got {shown(order)}")
    sizes = _sizes(call, view)
    large = [i for i in order if sizes[i] != 1]
    if large != sorted(large) or (view.rows and order[0] != 0 and sizes[0] != 1):
        raise Unfit(f"it must move axes of size 1 alone, got perm {shown(order)}")
    return _with_axes(view, [sizes[i] for i in order], view.rows and order[0] == 0)


HANDLERS: dict[str, Callable[[Call], Value]] = {
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "ReduceMean": _mean,
    "Scaler": _scaler,
    "Softmax": _softmax,
    "ArgMax": _argmax,
    "Gather": _gather,
    "Concat": _concat,
    "Shape": _shape,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
}
