"""`from_onnx`: the network of an ONNX file as a model.

The values of the graph (`onnx_values`) become layers from the outputs back to the inputs. What lies between two
products is a function of each number alone. It is cut where all of it goes through one value, and each part is compared
by its values with fastnn's activations, so that it does not matter of which operators a file makes them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..checks import file_paths, scalars
from ..data import arrays
from ..model import Model
from ..settings import losses
from ..settings.layers import NAMES, LayerNorm
from ..settings.losses import AnyLoss
from . import onnx_operators
from .imported import Array, Imported, Unfit
from .onnx_file import _onnx
from .onnx_operators import ELEMENTWISE, POINTS, REASONS
from .onnx_values import MALFORMED, Core, Label, Unknown, Values, View, named

LARGEST = 2**31  # bytes of a file, as ONNX allows them
LONGEST = 40  # parts of a function that may be one activation
COLUMNS = 64  # that are compared at once


def from_onnx(
    path: str | os.PathLike[str], *, output: str | None = None, loss: AnyLoss | None = None, rng: Any = None
) -> Model:
    """A `Model` with the layers and the parameters of a network in an ONNX file, which can be trained further.

    The file has opset 6 to 28, one input, and Gemm or MatMul with constant weights, activations of fastnn in whatever
    operators, Softmax at the end, PRelu, LayerNormalization and sums with an earlier value. BatchNormalization and
    other factors and offsets are folded into dense layers, before the first one into `input_shift` and `input_scale`.
    What only moves axes of size 1, Identity, Dropout and Cast between floats are left out. So are labels behind the
    outputs, by ArgMax, ZipMap and the like: a model gives the numbers of classes. Needs the extra `onnx`.

    Parameters
    ----------
    path : str or path
        Tensors may lie in other files of its folder.
    output, loss, rng
        As of `from_torch`.

    Raises ValueError for anything else, with the name of the node, its operator and the reason; FileNotFoundError where
    there is no file; ModuleNotFoundError where onnx is not installed. Weights of float16 and bfloat16 become float32;
    the model is of float64 where a weight is.

    Examples
    --------
    >>> import fastnn, tempfile, os
    >>> path = os.path.join(tempfile.mkdtemp(), "net.onnx")
    >>> fastnn.Model([4, fastnn.Dense(8, "relu"), 3], rng=0).export(path)
    >>> fastnn.from_onnx(path, loss="quadratic")
    Model([4, Dense(8, 'relu'), Dense(3, 'sigmoid')], loss='quadratic', dtype='float32')
    """
    if output is not None:
        scalars.choice("output", output, NAMES)
    if loss is not None:
        losses.check(loss, "float32")
    rng = scalars.generator(rng)
    found, onnx = file_paths.path(path), _onnx()
    try:
        with file_paths.naming(found):
            if found.stat().st_size > LARGEST:
                raise Unfit(f"it must have at most {LARGEST} bytes")
            content = found.read_bytes()
        values = Values(onnx, content, found.parent)
        outputs = _outputs(values)
        network = Imported(_inputs(outputs).width)
        add(network, outputs, None)
        model = network.model(output, loss, "float64" if values.is_double else "float32", rng)
        model._feature_names = _feature_names(values, model.sizes[0])
        return model
    except RecursionError:
        reason = "its sums are nested too deeply"
    except ValueError as error:
        reason = str(error)
    raise ValueError(f"path must name an ONNX file of a network that fastnn has, got {str(found)!r}: {reason}")


def _outputs(values: Values) -> Core:
    """The outputs of the network, without labels."""
    found, labels = list[Core](), list[Core]()
    for each in values.model.graph.output:
        value = values.known.get(each.name)
        if isinstance(value, Unknown):
            raise _refused(value.node, value.reason)
        if isinstance(value, View) and value.core.kind != "inputs":
            found.append(value.core)
        elif isinstance(value, Label):
            labels.append(value.source.core)
        else:
            raise Unfit(f"its output {scalars.shown(each.name)} does not follow from the inputs")
    outputs = list(dict.fromkeys(found or labels[:1]))
    if len(outputs) != 1:
        names = [each.name for each in values.model.graph.output]
        raise Unfit(f"it must have one output beside labels, got {scalars.shown(names)}")
    return outputs[0]


def _feature_names(values: Values, n_inputs: int) -> tuple[str, ...] | None:
    """The names of the inputs, which a file of fastnn has."""
    said = {each.key: each.value for each in values.model.metadata_props}
    if said.get("producer") != "fastnn" or "feature_names" not in said:
        return None
    try:
        return arrays.feature_names(json.loads(said["feature_names"]), n_inputs)
    except TypeError as error:
        raise Unfit(str(error)) from None


def _inputs(core: Core) -> Core:
    """The inputs that a value follows from."""
    while core.cores:
        core = min(core.cores, key=lambda each: each.position)
    return core


def _refused(node: Any, reason: str) -> _Refused:
    return _Refused(f"{named(node)}: {reason}")


class _Refused(Unfit):
    """An error that names a node."""


class _Part(NamedTuple):
    """What is added to a network, and the node to name where that fails."""

    node: Any
    add: Callable[[Imported], None]


def add(network: Imported, core: Core, stop: Core | None) -> None:
    """Add what computes a value from another one, `stop`, or from the inputs."""
    parts = list[_Part]()  # the last one first
    while core is not stop and core.kind != "inputs":
        if core.kind == "elementwise":
            below = _below(core, stop)
            parts += reversed(_function(core, below))
        else:
            below, part = _layer(core)
            parts.append(part)
        core = below
    if stop is not None and core is not stop:
        raise _refused(stop.node, "what it gives is added to a value that does not follow from it")
    for part in reversed(parts):
        try:
            part.add(network)
        except _Refused:
            raise
        except ValueError as error:
            raise _refused(part.node, str(error)) from None


def _layer(core: Core) -> tuple[Core, _Part]:
    """(what a layer reads, the layer)."""
    read = core.reads[0]
    if core.kind == "dense":
        return read, _Part(core.node, lambda network: network.dense(*core.reads[1:]))
    if core.kind == "softmax":
        return read, _Part(core.node, lambda network: network.activate("softmax"))
    if core.kind == "sum":
        one, other = core.reads
        inner, skipped = (one, other) if other in _before(one) else (other, one)
        if skipped not in _before(inner):
            raise _refused(core.node, "it adds values of which neither follows from the other")
        return skipped, _Part(core.node, lambda network: _add_sum(network, inner, skipped))
    found = (read, core.reads[1]) if core.kind == "normalised" else _normalised(core)
    if found is None:
        raise _refused(core.node, "it joins values in a way that no network of fastnn has")
    read, epsilon = found

    def normalise(network: Imported) -> None:
        network.reads(core.width)
        network.add(LayerNorm(epsilon), weight=np.ones(core.width), bias=np.zeros(core.width))

    return read, _Part(core.node, normalise)


def _add_sum(network: Imported, inner: Core, skipped: Core) -> None:
    network.flush()
    block = Imported(skipped.width, inner=True)
    add(block, inner, skipped)
    network.add_residual(block)


def _before(core: Core) -> set[Core]:
    """What a value follows from."""
    found, rest = set[Core](), [core]
    while rest:
        new = set(rest.pop().cores) - found
        found |= new
        rest += new
    return found


def _normalised(core: Core) -> tuple[Core, float] | None:
    """(x, epsilon) where a value is (x - mean) / sqrt(variance + epsilon), in an operator a step."""

    def is_of(value: Any, operator: str, kind: str, n: int) -> bool:
        return (
            isinstance(value, Core)
            and (value.node.op_type, value.kind) == (operator, kind)
            and len(value.reads) == n
            and isinstance(value.reads[0], Core)
        )

    if not is_of(core, "Div", "joined", 2):
        return None
    centred, root = core.reads
    if not (is_of(root, "Sqrt", "elementwise", 1) and is_of(root.reads[0], "Add", "elementwise", 2)):
        return None
    variance, epsilon = root.reads[0].reads
    if not (is_of(variance, "ReduceMean", "mean", 1) and np.size(epsilon) == 1 and not isinstance(epsilon, Core)):
        return None
    square = variance.reads[0]
    is_square = is_of(square, "Mul", "elementwise", 2) and square.reads == (centred, centred)
    is_power = is_of(square, "Pow", "elementwise", 2) and square.reads[0] is centred and np.all(square.reads[1] == 2)
    if not (is_square or is_power) or not is_of(centred, "Sub", "joined", 2):
        return None
    x, mean = centred.reads
    if not is_of(mean, "ReduceMean", "mean", 1) or mean.reads[0] is not x:
        return None
    return x, float(str(np.reshape(epsilon, ())[()]))  # with as many digits as its dtype has


# ---- functions of each number ----


def _below(core: Core, stop: Core | None) -> Core:
    """The value of which another one is an elementwise function: its root, or `stop` where that lies between."""
    found, rest, seen = set[Core](), [core], {core}
    while rest:
        for each in rest.pop().cores:
            if each is stop or each.kind != "elementwise":
                found.add(each)
            elif each not in seen:
                seen.add(each)
                rest.append(each)
    if len(found) != 1:
        raise _refused(core.node, "it joins values in a way that no network of fastnn has")
    return found.pop()


def _function(core: Core, below: Core) -> list[_Part]:
    """Affine maps and activations that are together the function of `below` that a value is."""
    nodes = sorted((_before(core) - _before(below) - {below}) | {core}, key=lambda each: each.position)
    cuts, parts = _cuts(nodes, below), list[_Part]()
    i = 0
    while i < len(cuts) - 1:
        for j in range(min(i + LONGEST, len(cuts) - 1), i, -1):
            part = nodes[cuts[i] + 1 : cuts[j] + 1]
            add_it = _recognised(part, nodes[cuts[i]] if cuts[i] >= 0 else below)
            if add_it is not None:
                parts.append(_Part(part[-1].node, add_it))
                i = j
                break
        else:
            raise _refused(*_culprit(nodes[cuts[i] + 1 : cuts[i + 1] + 1]))
    return parts


def _culprit(part: Sequence[Core]) -> tuple[Any, str]:
    """The node to name where a part of a function is no activation, and why."""
    known = next((each for each in part if each.node.op_type in REASONS), None)
    if known is not None:
        return known.node, REASONS[known.node.op_type]
    return part[-1].node, "no activation of fastnn gives what it computes"


def _cuts(nodes: Sequence[Core], below: Core) -> list[int]:
    """The indices of nodes through which all of a function goes, of the last one too; -1 stands for what it is of."""
    places = {each: i for i, each in enumerate(nodes)} | {below: -1}
    last = [-1] * len(nodes)  # which node reads the value of each before the others
    reach, found = -1, [-1]
    for i, node in enumerate(nodes):
        for read in node.cores:
            if places[read] >= 0:
                last[places[read]] = i
            else:
                reach = max(reach, i)
    for i in range(len(nodes)):
        if reach <= i:
            found.append(i)
        reach = max(reach, last[i])
    return found


def _recognised(part: Sequence[Core], below: Core) -> Callable[[Imported], None] | None:
    """What adds a part of a function to a network, or None where fastnn has no such part."""
    if all(each.affine is not None for each in part):
        pairs = [pair for each in part for pair in each.affine or ()] if len(part) == 1 else None
        return None if pairs is None else lambda network: _add_affine(network, pairs)
    operators = {each.node.op_type for each in part}
    columns = _columns(part)
    names, slopes, maps = set[str | None](), list[Any](), list[Any]()
    for first in range(0, columns, COLUMNS):
        found = _values(part, below, slice(first, first + COLUMNS))
        names.add(onnx_operators.recognised(found))
        slopes.append(onnx_operators.slopes(found) if operators & {"PRelu", "Where"} else None)
        maps.append(onnx_operators.affine(found))
    (name, *others) = names
    if name is not None and not others:
        return lambda network: network.activate(name)
    if all(each is not None for each in maps):
        factor, offset = (np.concatenate([each[i] for each in maps]) for i in (0, 1))
        found_pairs = [tuple(each.reshape(()) if each.size == 1 else each for each in (factor, offset))]
        return lambda network: _add_affine(network, found_pairs)
    if all(each is not None for each in slopes) and "LeakyRelu" not in operators:
        return lambda network: network.prelu(np.concatenate(slopes))
    return None


def _add_affine(network: Imported, pairs: Sequence[Any]) -> None:
    for factor, offset in pairs:
        network.affine(factor, offset)


def _columns(part: Sequence[Core]) -> int:
    """How many different functions a part may have: one, or one for each neuron."""
    constants = [each for core in part for each in core.reads if not isinstance(each, Core)]
    constants += [each for core in part for pair in core.affine or () for each in pair]
    return max((np.size(each) for each in constants), default=1)


def _values(part: Sequence[Core], below: Core, columns: slice) -> Array:
    """What a part gives for POINTS, (points, columns), in float64."""
    known = {below: POINTS[:, None]}

    def operand(value: Any) -> Any:
        if isinstance(value, Core):
            return known[value]
        if value is None:
            return None
        array = np.asarray(value)
        array = array.astype(np.float64) if array.dtype.kind in "fiu" else array
        return array[columns] if array.ndim else array

    with np.errstate(all="ignore"):
        for core in part:
            if core.affine is not None:
                value = known[core.cores[0]]
                for factor, offset in core.affine:
                    value = value * operand(factor) + operand(offset)
                known[core] = value
                continue
            try:
                known[core] = ELEMENTWISE[core.node.op_type](core.attributes, *map(operand, core.reads))
            except MALFORMED as error:
                raise _refused(core.node, f"it cannot be computed: {error}") from None
    return np.asarray(known[part[-1]], np.float64) * np.ones((len(POINTS), 1))
