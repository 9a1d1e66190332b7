"""A model, a population or an estimator as a `Computation`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks.scalars import shown
from ..data import arrays, columns
from ..data.columns import Column
from ..data.encodings import DAY, Booleans, Categories, Dates, Encoding, Numbers
from ..data.table_targets import Standardised
from ..data.tables import Table
from ..kernels.formulas.loss_functions import LEAST_VARIANCE
from ..model import Model
from ..population import Population
from ..settings.layers import Architecture, BatchNorm, Dense, Embedding, LayerNorm, PReLU, Residual, Scale
from . import pipelines
from .computation import CLASSES, INPUTS, LABELS, NUMBERS, Computation, Decision, Input, Step, Steps
from .pipelines import kind_of

Tensors = list[dict[str, NDArray[Any]]]  # of each numbered layer, by their names
OURS = __package__.partition(".")[0]
# Estimators of one network or of several, and of tables, by their packages and classes.
OF_SKLEARN = ("sklearn.MLPClassifier", "sklearn.MLPRegressor")
ESTIMATORS = tuple(
    f"{OURS}.{name}" for name in ("MLPClassifier", "MLPRegressor", "MLPEnsembleClassifier", "MLPEnsembleRegressor")
)
PIPELINES = ("sklearn.Pipeline", pipelines.OF_TARGETS)
TABULAR = tuple(f"{OURS}.{name}" for name in ("TabularClassifier", "TabularRegressor"))


def computation_of(what: Any, labels: Any = None) -> Computation:
    """The computation of a `Model`, a `Population`, whose outputs are averaged, or a fitted estimator or pipeline.

    labels (n_classes,) name the classes of a model or a population. Raises TypeError for anything else.
    """
    if isinstance(what, (Model, Population)):
        return _of_networks(what, labels)
    if labels is not None:
        raise TypeError(f"labels are those of the estimator, got labels={shown(labels)} for {type(what).__name__}")
    kind = kind_of(what)
    if kind in TABULAR:
        return _of_tabular(what)
    if kind in (*PIPELINES, *ESTIMATORS, *OF_SKLEARN):
        return _of_pipeline(what)
    expected = "a Model, a Population, an estimator of fastnn, or an MLP, Pipeline or TransformedTargetRegressor"
    raise TypeError(f"what is exported must be {expected}, got {shown(what)}")


# ---- layers ----


def add_network(steps: Steps, architecture: Architecture, tensors: Tensors, read: int) -> int:
    """Add the steps of a network; gives the number of its outputs."""
    read = steps.shift(read, *architecture.affine)
    values = list[int]()
    for node in architecture.nodes:
        below, skipped = values[-1] if values else read, [values[i] if i >= 0 else read for i in node.kind.skips]
        found = {} if node.number is None else tensors[node.number]
        layer = node.layer
        if isinstance(layer, Dense):
            value = steps.add("dense", below, width=node.units, weight=found["weight"], bias=found["bias"])
        elif isinstance(layer, Scale):
            value = steps.add("affine", below, factor=found["weight"], shift=np.zeros_like(found["weight"]))
        elif isinstance(layer, PReLU):
            value = steps.add("sloped", below, slope=found["weight"])
        elif isinstance(layer, BatchNorm):
            factor, shift = layer.folded(found)
            value = steps.add("affine", below, factor=factor, shift=shift)
        elif isinstance(layer, LayerNorm):
            value = steps.add("normalised", below, epsilon=layer.epsilon)
            value = steps.add("affine", value, factor=found["weight"], shift=found["bias"])
        elif isinstance(layer, Embedding):
            value = _embedded(steps, layer, found, below, node.fan_in)
        elif isinstance(layer, Residual):
            value = steps.add("added", below, *skipped)
        else:
            raise TypeError(f"no export has the layer {shown(layer)}")
        values.append(steps.activate(layer.activation, value))
    if architecture.loss_name == "gaussian":
        return _deviated(steps, values[-1])
    return values[-1]


def _embedded(steps: Steps, layer: Embedding, tensors: dict[str, NDArray[Any]], read: int, n_inputs: int) -> int:
    """The columns of numbers, then the rows of tables for the codes."""
    numbers = np.array([i for i in range(n_inputs) if i not in layer.columns], np.int64)
    parts = [steps.add("columns", read, width=len(numbers), which=numbers)] if len(numbers) else []
    for column in layer.columns:
        table = tensors[f"embedding_{column}"]
        parts.append(steps.add("looked_up", read, width=table.shape[1], column=column, table=table))
    return steps.add("joined", *parts, width=sum(steps.widths[i] for i in parts))


def _deviated(steps: Steps, read: int) -> int:
    """Means and logarithms of variances as means and deviations."""
    n = steps.widths[read] // 2
    halves = [steps.add("columns", read, width=n, which=np.arange(first, first + n)) for first in (0, n)]
    halves[1] = steps.add("deviations", halves[1], least=LEAST_VARIANCE)
    return steps.add("joined", *halves, width=2 * n)


def folded(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps with each factor and shift taken into a dense layer above or below, in float64, where one is there."""
    made = list[Step]()
    numbers = [INPUTS]  # what each value has become
    reads = [i for step in steps for i in step.reads]
    for step in steps:
        now = replace(step, reads=tuple(numbers[read] for read in step.reads))
        below = made[now.reads[0] - 1] if now.reads and now.reads[0] else None
        if below is not None and reads.count(step.reads[0]) == 1 and now.reads[0] == len(made):
            both = _both(below, now)
            if both is not None:
                made[-1] = both
                numbers.append(len(made))
                continue
        made.append(now)
        numbers.append(len(made))
    return tuple(made)


def _both(below: Step, step: Step) -> Step | None:
    """Two steps as one, where they are a dense layer and a factor and a shift."""
    first = {name: np.asarray(value, np.float64) for name, value in below.operands.items()}
    then = {name: np.asarray(value, np.float64) for name, value in step.operands.items()}
    if below.function == "dense" and step.function == "affine":
        weight, bias = first["weight"] * then["factor"][:, None], first["bias"] * then["factor"] + then["shift"]
    elif below.function == "affine" and step.function == "dense":
        weight, bias = then["weight"] * first["factor"], then["bias"] + then["weight"] @ first["shift"]
    else:
        return None
    dtype = next(iter(step.operands.values())).dtype
    return Step("dense", below.reads, step.width, {"weight": weight.astype(dtype), "bias": bias.astype(dtype)})


# ---- tables ----


def add_table(steps: Steps, table: Table) -> tuple[int, tuple[Input, ...]]:
    """Add the steps that make a table's matrix of its columns; (the number of that value, what the columns are)."""
    inputs, parts = list[Input](), list[int]()
    order = [encoding for encoding in table.encodings if encoding.suffixes()]
    for i, (row, encoding) in enumerate(zip(table.summary, table.encodings, strict=True)):
        if encoding.suffixes():
            inputs.append(Input(row.name, *_kind_of(encoding), i if table.labels is None else table.labels[i]))
    for column in sorted(range(len(order)), key=lambda i: order[i].n_codes > 0):
        encoding = order[column]
        parts += _encoded(steps, encoding, column)
        if encoding.gaps:
            parts.append(steps.add("missing", INPUTS, width=1, column=column))
    return steps.add("joined", *parts, width=sum(steps.widths[i] for i in parts)), tuple(inputs)


def _kind_of(encoding: Encoding) -> tuple[str, tuple[Any, ...]]:
    if isinstance(encoding, Categories):
        return "category", encoding.known
    kinds = {"numbers": "number", "durations": "duration", "booleans": "boolean", "dates": "date"}
    return kinds[encoding.kind], ()


def _encoded(steps: Steps, encoding: Encoding, column: int) -> list[int]:
    """Add what a column becomes, but for what tells of gaps; gives the values."""
    if isinstance(encoding, Numbers):
        return _numbers(steps, encoding, INPUTS, column)
    if isinstance(encoding, Booleans):
        return [steps.add("contrast", INPUTS, width=1, column=column, low=0.0, high=1.0)] if encoding.varies else []
    if isinstance(encoding, Categories):
        return _categories(steps, encoding, column)
    assert isinstance(encoding, Dates)
    parts, found = steps.add("date_parts", INPUTS, width=4, column=column), list[int]()
    if encoding.year is not None:
        found += _numbers(steps, encoding.year, parts, 0)
    for i, varies in ((1, encoding.of_year), (2, encoding.of_day)):
        found += [steps.add("cycle", parts, width=2, column=i)] if varies else []
    if encoding.weekdays:
        places = np.array(encoding.weekdays, np.float64)
        found.append(steps.add("one_hot", parts, width=len(places), column=3, places=places))
    return found


def _numbers(steps: Steps, encoding: Numbers, read: int, column: int) -> list[int]:
    if encoding.origin:
        raise ValueError("exports take numbers up to 2**53 in size, the table has larger integers")
    if not encoding.scale:
        return []
    how = {"centre": encoding.centre, "scale": encoding.scale, "limit": encoding.limit}
    width = len(encoding.parts())
    return [steps.add("numbers", read, width=width, column=column, **how, cuts=encoding.cuts, edges=encoding.edges)]


def _categories(steps: Steps, encoding: Categories, column: int) -> list[int]:
    width = len(encoding.parts())
    if encoding.coded:
        return [steps.add("codes", INPUTS, width=1, column=column)]
    if encoding.single:
        return [steps.add("contrast", INPUTS, width=1, column=column, low=1.0, high=2.0)]
    if not width:
        return []
    places = np.arange(1.0, width + 1)
    places[len(encoding.known) :] = 0  # of unknown values
    return [steps.add("one_hot", INPUTS, width=width, column=column, places=places)]


def rows_of(what: Any, computation: Computation, rows: Any) -> Any:
    """Rows as `predict` takes them as those of a computation."""
    if kind_of(what) in TABULAR:
        return matrix_of(what.table_, rows, "rows")
    return pipelines.matrix_of(computation, rows) if kind_of(what) in PIPELINES else rows


def matrix_of(table: Table, X: Any, name: str = "X") -> NDArray[np.float64]:
    """The columns of a table as the matrix of inputs (rows, columns), see `Input`. Errors call X by the name."""
    n_rows, found = table.read(X, name=name)
    out = np.empty((n_rows, len(found)))
    for j, (i, column) in enumerate(found.items()):
        read, values = _as_numbers(table.encodings[i], column)
        out[:, j] = values
        if read.missing is not None:
            out[read.missing, j] = np.nan
    return out


def _as_numbers(encoding: Encoding, column: Column) -> tuple[Column, NDArray[Any]]:
    """(a column as its encoding reads it, a number for each row)."""
    if isinstance(encoding, Numbers):
        read = encoding.read(column)
        return read, read.values
    if isinstance(encoding, Booleans):
        read = columns.to_booleans(column)
        return read, read.values
    if isinstance(encoding, Categories):
        return column, encoding.codes(column)
    read = columns.to_dates(column)
    return read, read.values.astype(np.int64) / DAY


# ---- what predictions are ----


def _of_networks(what: Model | Population, labels: Any) -> Computation:
    members = [what] if isinstance(what, Model) else list(what)
    architectures = [member._network.architecture for member in members]
    architecture, steps = architectures[0], Steps(architectures[0].n_inputs, architectures[0].dtype)
    found = [add_network(steps, one, each.tensors, INPUTS) for one, each in zip(architectures, members, strict=True)]
    decision = _decision(architecture, labels)
    return _made(steps, _joined(steps, found, decision), decision, what._feature_names)


def _joined(steps: Steps, values: Sequence[int], decision: Decision) -> int:
    """The outputs of several networks as those of one."""
    if len(values) == 1:
        return values[0]
    return steps.add("mixture" if decision.deviations else "mean", *values)


def _made(steps: Steps, outputs: int, decision: Decision, names: Any) -> Computation:
    assert outputs == len(steps.made)
    names = None if names is None else tuple(map(str, names))
    return Computation(str(steps.dtype), steps.widths[0], folded(steps.made), decision, names)


def _decision(architecture: Architecture, labels: Any) -> Decision:
    """What outputs stand for: classes where they are probabilities or the loss takes classes, else numbers."""
    head, formula = architecture.head, architecture.head._formula
    numbers = architecture.targets in ("numbers", "counts")
    classes = formula.gives_probabilities or architecture.targets == "signs"
    if labels is None and (numbers or not classes):
        return Decision(NUMBERS, deviations=architecture.loss_name == "gaussian")
    if architecture.targets == "numbers":
        raise ValueError(f"labels must be None for the loss {architecture.loss_name!r}, which is of numbers")
    n = max(2, head.units)
    found = np.arange(n) if labels is None else arrays.array("labels", labels)
    if found.shape != (n,):
        raise ValueError(f"labels must have shape ({n},), one for each class, got {found.shape}")
    if len(set(found.tolist())) < n:
        raise ValueError(f"labels must differ, got {shown(found.tolist())}")
    return Decision(CLASSES, found, formula.threshold, probabilities=formula.gives_probabilities)


def _of_tabular(estimator: Any) -> Computation:
    """Of a classifier the means of probabilities; of a regressor the predictions in the units of the targets."""
    table, members = estimator.table_, list(estimator.population_)
    steps = Steps(sum(bool(each.suffixes()) for each in table.encodings), members[0].dtype)
    read, inputs = add_table(steps, table)
    found = [add_network(steps, member._network.architecture, member.tensors, read) for member in members]
    outputs = _joined(steps, found, Decision(NUMBERS))
    if hasattr(estimator, "classes_"):
        decision = Decision(CLASSES, np.asarray(estimator.classes_))
    else:
        targets = estimator._targets
        decision = Decision(NUMBERS, single=targets.single)
        outputs = steps.add("affine", outputs, factor=np.ones_like(targets.means), shift=estimator._shift)
        outputs = steps.add("clipped", outputs, least=estimator._limits[0], most=estimator._limits[1])
        outputs = _in_units(steps, outputs, targets)
    n_positions = len(table.encodings) if table.labels is None else 0
    return replace(_made(steps, outputs, decision, None), inputs=inputs, n_positions=n_positions)


def _in_units(steps: Steps, read: int, targets: Standardised) -> int:
    read = steps.add("affine", read, factor=targets.deviations, shift=targets.means)
    if not targets.logarithms.any():
        return read
    parts = list[int]()
    for i, logarithm in enumerate(targets.logarithms.tolist()):
        part = steps.add("columns", read, width=1, which=np.array([i]))
        parts.append(steps.add("exp", part) if logarithm else part)
    return parts[0] if len(parts) == 1 else steps.add("joined", *parts, width=len(parts))


def ours(estimator: Any) -> Any:
    """An estimator of fastnn's own class that computes what an estimator of one network does."""
    from ..estimators.estimators import MLPClassifier, MLPRegressor

    if kind_of(estimator) not in OF_SKLEARN:
        return estimator
    return (MLPClassifier if kind_of(estimator) == OF_SKLEARN[0] else MLPRegressor).from_sklearn(estimator)


def networks_of(estimator: Any) -> list[tuple[Architecture, Tensors]]:
    """The networks of one of ESTIMATORS."""
    _, tensors, architecture = estimator._written(False)
    population = getattr(estimator, "population_", None)
    if population is not None:
        return [(member._network.architecture, member.tensors) for member in population]
    numbered = range(len(architecture.numbered))
    return [(architecture, [{n: tensors[f"layers.{i}.{n}"] for n in ("weight", "bias")} for i in numbered])]


def _of_pipeline(what: Any) -> Computation:
    """Of a pipeline, or of an estimator of one network or of several alone."""
    steps, of_targets = pipelines.parted(what)
    if kind_of(steps[-1][1]) not in (*ESTIMATORS, *OF_SKLEARN):
        raise pipelines.refused(*steps[-1], "the last step must be an MLP of fastnn or scikit-learn")
    (_, first), (path, last) = steps[0], steps[-1]
    preparation = pipelines.Preparation(getattr(first, "n_features_in_", 0), pipelines.names_of(first))
    for each in steps[:-1]:
        preparation.feed(*each)
    pipelines.check_fitted(path, last)
    preparation.check_width(path, last)
    estimator = ours(last)
    networks = networks_of(estimator)
    made = Steps(preparation.n_inputs, networks[0][0].dtype)
    read = preparation.add(made)
    decision = _of_labels(estimator, networks[0][0])
    outputs = _joined(made, [add_network(made, *each, read) for each in networks], decision)
    for each in of_targets:
        outputs, decision = _in_units_of(made, outputs, decision, *each)
    return replace(_made(made, outputs, decision, None), **preparation.facts())


def _in_units_of(steps: Steps, read: int, decision: Decision, path: str, step: Any) -> tuple[int, Decision]:
    """(the outputs in the units that a TransformedTargetRegressor gives, what they then stand for)."""
    if decision.kind != NUMBERS:
        raise pipelines.refused(path, step, "its regressor must be one of numbers")
    deviations = np.zeros(steps.widths[read] // 2) if decision.deviations else np.zeros(0)
    for change in pipelines.of_predictions(path, step):
        if change is not None:
            factor, shift = (np.broadcast_to(each, steps.widths[read] - len(deviations)) for each in change)
            if np.abs([factor, shift]).max() > np.finfo(steps.dtype).max:
                raise pipelines.refused(path, step, f"what its transformer has learnt must be finite in {steps.dtype}")
            factor = np.append(factor, np.abs(factor[: len(deviations)]))
            read = steps.add("affine", read, factor=factor, shift=np.append(shift, deviations))
        elif decision.deviations:
            raise pipelines.refused(path, step, "standard deviations have no exponential")
        else:
            read = steps.add("exp", read)
    return read, replace(decision, single=step._training_dim == 1)


def _of_labels(estimator: Any, architecture: Architecture) -> Decision:
    """What the outputs of an estimator stand for."""
    gaussian = architecture.loss_name == "gaussian"
    if hasattr(estimator, "classes_"):
        several = getattr(estimator, "_label_binarizer", None)
        kind = LABELS if several is not None and several.y_type_ == "multilabel-indicator" else CLASSES
        if len(estimator.classes_) < 2:
            raise ValueError(f"an exported classifier must have two classes, got {shown(estimator.classes_)}")
        return Decision(kind, np.asarray(estimator.classes_))
    single = getattr(estimator, "_one_axis", architecture.head.units == 1)
    return Decision(NUMBERS, single=bool(single), deviations=gaussian)
