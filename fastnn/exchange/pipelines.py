"""Pipelines of scikit-learn: what their transformers make of the columns that they read, as steps of a computation.

Each column that a transformer gives follows from one that the pipeline reads. So all they do is a list of `Column`.
A TransformedTargetRegressor does something with what an MLP gives, see `of_predictions`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..checks.scalars import shown
from . import numpy_tables
from .computation import INPUTS, Computation, Input, Steps
from .imported import Unfit

Floats = NDArray[np.float64]
EXPECTED = "a pipeline must have steps that fastnn has"
OF_TARGETS = "sklearn.TransformedTargetRegressor"
LARGEST_WHOLE = 2**53  # up to which floats hold all integers
# What a column of categories may be, the strictest one last, see `Input`.
KINDS = ("category", "known category or nothing", "known category")


class Flag(NamedTuple):
    """1 where a column has a value, or where it is missing if `missing` says so, else 0. None is no value."""

    value: Any
    missing: bool


class Change(NamedTuple):
    """What is done with a number: the function of it, see `CHANGES`, and its operands."""

    function: str
    operands: tuple[Any, ...]

    def of(self, x: float) -> float:
        """The number that x becomes."""
        return CHANGES[self.function][1](x, *self.operands)


# By the name of a step: the names of the operands, and what it does with a number that is not missing.
CHANGES: dict[str, tuple[tuple[str, ...], Callable[..., float]]] = {
    "shifted": (("shift", "scale"), lambda x, shift, scale: (x - shift) * scale),
    "clipped": (("least", "most"), lambda x, least, most: min(max(x, least), most)),
    "imputed": (("fill",), lambda x, fill: x),
}


@dataclass(frozen=True)
class Column:
    """A column in the making: the number of a column that the pipeline reads, or a flag, and what is done with it."""

    source: int
    flag: Flag | None = None
    changes: tuple[Change, ...] = ()

    def changed(self, function: str, *operands: Any) -> Column:
        """The column after one more change."""
        return replace(self, changes=(*self.changes, Change(function, operands)))

    @property
    def may_be_missing(self) -> bool:
        """Whether the number of a missing value is NaN."""
        return self.flag is None and all(each.function != "imputed" for each in self.changes)

    @property
    def in_order(self) -> tuple[Change, ...]:
        """The changes, of which the first one shifts and scales: what fills a gap is given in the units thereafter."""
        if not self.changes or self.changes[0].function == "shifted":
            return self.changes or (Change("shifted", (0.0, 1.0)),)
        first, *others = self.changes
        if first.function == "imputed" and others and others[0].function == "shifted":
            filled = Change("imputed", (others[0].of(float(first.operands[0])),))
            return (others[0], filled, *others[1:])
        return (Change("shifted", (0.0, 1.0)), *self.changes)


def kind_of(what: Any) -> str:
    """The package and the class of an object, such as "sklearn.Pipeline"."""
    return f"{type(what).__module__.partition('.')[0]}.{type(what).__name__}"


def flattened(pipeline: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(path, step) of what a pipeline and those in it do one after the other, without what changes nothing.

    A TransformedTargetRegressor comes after its regressor: it stands for what it does with predictions.
    """
    if kind_of(pipeline) == "sklearn.Pipeline":
        for name, step in pipeline.steps:
            yield from flattened(step, f"{path}.{name}".lstrip("."))
    elif kind_of(pipeline) == OF_TARGETS:
        check_fitted(path, pipeline)
        yield from flattened(pipeline.regressor_, f"{path}.regressor".lstrip("."))
        yield path, pipeline
    elif pipeline is not None and not (isinstance(pipeline, str) and pipeline == "passthrough"):
        yield path, pipeline


def parted(fitted: Any) -> tuple[list[tuple[str, Any]], list[tuple[str, Any]]]:
    """`flattened`, the last step being what predicts, and the TransformedTargetRegressors that come after it."""
    steps = list(flattened(fitted)) or [("", fitted)]
    n = len(steps)
    while n > 1 and kind_of(steps[n - 1][1]) == OF_TARGETS:
        n -= 1
    return steps[:n], steps[n:]


def refused(path: str, step: Any, reason: object) -> ValueError:
    """The error for a step."""
    kind = type(step).__name__
    return ValueError(f"{EXPECTED}, got {f'{path!r} ({kind})' if path else f'a {kind}'}: {reason}")


def check_fitted(path: str, step: Any) -> None:
    """Raise where a step is no estimator that was fitted."""
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(step)
    except (NotFittedError, TypeError) as error:
        raise refused(path, step, error) from None


def names_of(first: Any) -> tuple[str, ...] | None:
    """The names of the columns that a step was fitted to, where they had some."""
    found = getattr(first, "feature_names_in_", None)
    return None if found is None else tuple(found.tolist())


# ---- transformers ----


def shift_and_scale(step: Any) -> tuple[Floats, Floats]:
    """(shift, scale), each (n_features,), of a scaler of SCALERS, which gives (x - shift) * scale."""
    kind, n = type(step).__name__, step.n_features_in_
    shift, scale = np.zeros(n), np.ones(n)
    if kind == "StandardScaler":
        shift = step.mean_ if step.with_mean else shift
        scale = 1 / step.scale_ if step.with_std else scale
    elif kind == "RobustScaler":
        shift = step.center_ if step.with_centering else shift
        scale = 1 / step.scale_ if step.with_scaling else scale
    elif kind == "MaxAbsScaler":
        scale = 1 / step.scale_
    else:
        scale = step.scale_
        shift = step.data_min_ - step.feature_range[0] / scale
    shift, scale = np.asarray(shift, np.float64), np.asarray(scale, np.float64)
    if not (np.isfinite(shift).all() and np.isfinite(scale).all()):
        raise Unfit("what it has learnt must be finite")
    return shift, scale


SCALERS = tuple(f"sklearn.{name}" for name in ("StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler"))


def limits(step: Any) -> tuple[float, float] | None:
    """What a scaler of SCALERS clips its values to, where it does."""
    if not getattr(step, "clip", False):
        return None
    least, most = getattr(step, "feature_range", (-1, 1))
    return float(least), float(most)


class Preparation:
    """What the transformers of a pipeline make of n columns, which have names or none."""

    def __init__(self, n: int, names: tuple[str, ...] | None):
        self._n, self._names = n, names
        self._known = dict[int, list[Any]]()  # the categories of the columns that have some
        self._kinds = dict[int, str]()
        self._encoders = dict[int, tuple[str, Any]]()  # the last path and step that read their categories
        self._of_table = False
        self.columns = [Column(i) for i in range(n)]

    def feed(self, path: str, step: Any) -> None:
        """Let a transformer have the columns."""
        self.columns = self._fed(path, step, self.columns)

    def check_width(self, path: str, step: Any) -> None:
        """Raise where a step reads another number of columns than there are."""
        try:
            _check_width(step, self.columns)
        except Unfit as error:
            raise refused(path, step, error) from None

    def _fed(self, path: str, step: Any, columns: list[Column]) -> list[Column]:
        for inner, each in flattened(step, path):
            kind = kind_of(each)
            try:
                if kind not in TRANSFORMERS:
                    raise Unfit("no export has this class")
                check_fitted(inner, each)
                _check_width(each, columns)
                columns = TRANSFORMERS[kind](self, inner, each, columns)
            except Unfit as error:
                raise refused(inner, each, error) from None
        return columns

    def _chosen(self, path: str, step: Any, columns: list[Column]) -> list[Column]:
        found, weights = list[Column](), step.transformer_weights or {}
        for name, each, _ in step.transformers_:
            places = step._transformer_to_input_indices[name]
            if len(places) == 0 or (isinstance(each, str) and each == "drop"):
                continue
            part = self._fed(f"{path}.{name}", each, [columns[i] for i in places])
            weight = float(weights.get(name, 1))
            found += part if weight == 1 else [column.changed("shifted", 0.0, weight) for column in part]
        return found

    def _same(self, path: str, step: Any, columns: list[Column]) -> list[Column]:
        """Of a FunctionTransformer, which a ColumnTransformer has for "passthrough"."""
        if step.func is not None:
            raise Unfit(f"func must be None, got {shown(step.func)}")
        return columns

    def _scaled(self, path: str, step: Any, columns: list[Column]) -> list[Column]:
        (shift, scale), clip = shift_and_scale(step), limits(step)
        found = list[Column]()
        for column, *both in zip(columns, shift.tolist(), scale.tolist(), strict=True):
            changed = column if both == [0, 1] else column.changed("shifted", *both)
            found.append(changed.changed("clipped", *clip) if clip is not None else changed)
        return found

    def _imputed(self, path: str, step: Any, columns: list[Column]) -> list[Column]:
        self._of_table = True
        if not numpy_tables.is_missing(step.missing_values):
            raise Unfit(f"missing_values must be NaN, None or pandas.NA, got {shown(step.missing_values)}")
        found, dtype = list[Column](), np.dtype(step._fill_dtype)
        for column, fill in zip(columns, step.statistics_.tolist(), strict=True):
            if not numpy_tables.is_missing(fill):
                told = fill if dtype.kind == "O" else dtype.type(fill).item()
                found.append(column.changed("imputed", told) if column.may_be_missing else column)
            elif step.keep_empty_features:
                found.append(column)
        if step.add_indicator:
            for i in step.indicator_.features_.tolist():
                if not columns[i].may_be_missing:
                    raise Unfit("add_indicator must be False where no value is missing any more")
                found.append(Column(columns[i].source, Flag(None, True)))
        return found

    def _encoded(self, path: str, step: Any, columns: list[Column]) -> list[Column]:
        self._of_table = True
        if step._infrequent_enabled and any(each is not None for each in step.infrequent_categories_):
            raise Unfit("it has infrequent categories: min_frequency and max_categories must be None")
        found = list[Column]()
        dropped = [None] * len(columns) if step.drop_idx_ is None else list(step.drop_idx_)
        for column, categories, drop in zip(columns, step.categories_, dropped, strict=True):
            if column.flag is not None or any(each.function != "imputed" for each in column.changes):
                raise Unfit("it must read columns as they are, or with gaps filled, not what a scaler or encoder gives")
            values = _values(categories)
            known = self._known.setdefault(column.source, [])
            known += [value for value in values if value is not None and value not in known]
            if len({isinstance(value, str) for value in known}) > 1:
                raise Unfit("categories of a column must be all text or all numbers")
            fill = _category(column.changes[0].operands[0]) if column.changes else None
            if fill is not None and None in values:
                raise Unfit("None must be no category where NaN is filled: files do not tell them apart")
            strictness = 0 if step.handle_unknown != "error" else 1 if fill in values else 2
            kind = self._kinds.get(column.source, KINDS[0])
            self._kinds[column.source] = KINDS[max(KINDS.index(kind), strictness)]
            self._encoders[column.source] = path, step
            flags = [Flag(value, value == fill) for value in values]
            found += [Column(column.source, flag) for i, flag in enumerate(flags) if i != drop]
        return found

    # ---- what there is in the end ----

    @property
    def _sources(self) -> list[int]:
        """The columns among the inputs: those that are used, but all where a matrix has no names."""
        if self._names is None and not self._of_table:
            return list(range(self._n))
        return sorted({column.source for column in self.columns})

    @property
    def n_inputs(self) -> int:
        """How many columns are among the inputs."""
        return len(self._sources)

    def facts(self) -> dict[str, Any]:
        """What a `Computation` says of its inputs."""
        names, sources = self._names, self._sources
        if not self._of_table:
            return {"feature_names": None if names is None else tuple(names[i] for i in sources)}
        numbers = {column.source for column in self.columns if column.flag is None}
        inputs = list[Input]()
        for source in sources:
            name = f"x{source}" if names is None else names[source]
            if source in self._known and source in numbers:
                path, step = self._encoders[source]
                raise refused(path, step, f"column {name!r} must be no number for another step")
            values = tuple(self._known.get(source, ()))
            kind = self._kinds[source] if values else "number"  # of one that is always missing too
            inputs.append(Input(name, kind, values, source if names is None else name))
        return {"inputs": tuple(inputs), "n_positions": self._n if names is None else 0}

    def add(self, steps: Steps) -> int:
        """Add the steps that make the columns; gives the number of their value."""
        places = {source: i for i, source in enumerate(self._sources)}
        columns = [replace(column, source=places[column.source]) for column in self.columns]
        known = {places[source]: values for source, values in self._known.items() if source in places}
        chosen = None if self._of_table else _in_matrix(steps, columns)
        parts, at = list[int](), 0
        for _, same in groupby(columns, _alike):
            group, first = list(same), at
            at += len(group)
            if group[0].flag is not None:
                parts.append(_flags(steps, group, known.get(group[0].source, [])))
                continue
            if chosen is None:
                value = _of_columns(steps, group)
            elif len(group) == len(columns):
                value = chosen
            else:
                value = steps.add("columns", chosen, width=len(group), which=np.arange(first, at))
            parts.append(_changed(steps, value, [column.in_order[1:] for column in group]))
        return parts[0] if len(parts) == 1 else steps.add("joined", *parts, width=len(columns))


# By the package and the class of a transformer: what it makes of columns.
TRANSFORMERS: dict[str, Callable[[Preparation, str, Any, list[Column]], list[Column]]] = {
    **dict.fromkeys(SCALERS, Preparation._scaled),
    "sklearn.ColumnTransformer": Preparation._chosen,
    "sklearn.SimpleImputer": Preparation._imputed,
    "sklearn.OneHotEncoder": Preparation._encoded,
    "sklearn.FunctionTransformer": Preparation._same,
}


def _check_width(step: Any, columns: Sequence[Column]) -> None:
    if step.n_features_in_ != len(columns):
        raise Unfit(f"it reads {step.n_features_in_} columns, where there are {len(columns)}")


def _values(categories: NDArray[Any]) -> list[Any]:
    """The categories of a column; None is a missing value."""
    if categories.dtype.kind not in "biufUOT":
        raise Unfit(f"categories must be text, numbers or truth values, got the dtype {categories.dtype}")
    found = [_category(value) for value in categories.tolist()]
    if found.count(None) > 1:
        raise Unfit("None and NaN must not both be categories: files do not tell them apart")
    return found


def _category(value: Any) -> Any:
    """A category as a file has it: text, an integer where a number is whole, a float, or None for a missing value."""
    if numpy_tables.is_missing(value):
        return None
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (bool, int, np.bool_, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)) and np.isfinite(value):
        found = float(value)
        return int(found) if found.is_integer() and abs(found) <= LARGEST_WHOLE else found
    raise Unfit(f"categories must be text, numbers or truth values, got {shown(value)}")


# ---- steps ----


def _alike(column: Column) -> Any:
    """What columns that are made together share: flags their source, numbers the functions of their changes."""
    return column.source if column.flag is not None else [change.function for change in column.in_order]


def _first(columns: Sequence[Column]) -> tuple[Floats, Floats]:
    """(shifts, scales) of the first changes."""
    both = np.array([column.in_order[0].operands for column in columns], np.float64)
    return both[:, 0], both[:, 1]


def _of_columns(steps: Steps, columns: Sequence[Column]) -> int:
    """Numbers of a table after their first changes."""
    shift, scale = _first(columns)
    which = np.array([column.source for column in columns])
    return steps.add("shifted_columns", INPUTS, width=len(which), which=which, shift=shift, scale=scale)


def _in_matrix(steps: Steps, columns: Sequence[Column]) -> int:
    """Numbers of a matrix after their first changes, which are done before anything is chosen or rounded."""
    n, variants, chosen = steps.widths[INPUTS], list[dict[int, Change]](), list[int]()
    for column in columns:
        change = column.in_order[0]
        fits = (i for i, each in enumerate(variants) if each.setdefault(column.source, change) == change)
        variant = next(fits, len(variants))
        if variant == len(variants):
            variants.append({column.source: change})
        chosen.append(variant * n + column.source)
    values = list[int]()
    for each in variants:
        shift, scale = np.zeros(n), np.ones(n)
        for source, change in each.items():
            shift[source], scale[source] = change.operands
        values.append(steps.shift(INPUTS, shift, scale))
    value = values[0] if len(values) == 1 else steps.add("joined", *values, width=n * len(values))
    if chosen == list(range(n * len(values))):
        return value
    return steps.add("columns", value, width=len(chosen), which=np.array(chosen))


def _changed(steps: Steps, value: int, changes: Sequence[tuple[Change, ...]]) -> int:
    """Numbers after the changes of each, which have the same functions."""
    for same in zip(*changes, strict=True):
        function = same[0].function
        numbers = np.array([change.operands for change in same], np.float64)
        operands = dict(zip(CHANGES[function][0], numbers.T, strict=True))
        value = steps.shift(value, **operands) if function == "shifted" else steps.add(function, value, **operands)
    return value


def _flags(steps: Steps, columns: Sequence[Column], known: list[Any]) -> int:
    """Flags of one column of a table."""
    source, parts = columns[0].source, list[int]()
    for missing, same in groupby(columns, lambda column: column.flag is not None and column.flag.missing):
        values = [column.flag.value for column in same if column.flag is not None]
        for each in [[value] for value in values] if missing else [values]:
            value = steps.add("missing", INPUTS, width=1, column=source) if missing else INPUTS
            if each != [None]:
                places = np.array([known.index(value) + 1.0 for value in each])
                found = steps.add("one_hot", INPUTS, width=len(each), column=source, places=places)
                value = steps.add("added", found, value) if missing else found
            parts.append(value)
    value = parts[0] if len(parts) == 1 else steps.add("joined", *parts, width=len(columns))
    ends = np.array([[0.0, 1.0]] * len(columns))
    for i, column in enumerate(columns):
        for change in column.changes:
            ends[i] = [change.of(end) for end in ends[i].tolist()]
    off, on = ends.T
    return value if (ends == [0, 1]).all() else steps.add("affine", value, factor=on - off, shift=off)


# ---- targets ----

# What a FunctionTransformer does with predictions, by its inverse_func, see `of_predictions`.
INVERSES: dict[Any, tuple[tuple[Floats, Floats] | None, ...]] = {
    None: (),
    np.exp: (None,),
    np.expm1: (None, (np.ones(()), -np.ones(()))),
}


def of_predictions(path: str, step: Any) -> Iterator[tuple[Floats, Floats] | None]:
    """What a TransformedTargetRegressor does with predictions, one after the other.

    It is (factor, shift), each () or (n_outputs,), of prediction * factor + shift, or None for the exponential.
    """
    for inner, each in reversed(list(flattened(step.transformer_, f"{path}.transformer".lstrip(".")))):
        try:
            if kind_of(each) in SCALERS:
                shift, scale = shift_and_scale(each)
                yield 1 / scale, shift
            elif kind_of(each) == "sklearn.FunctionTransformer":
                found = [INVERSES[known] for known in INVERSES if each.inverse_func is known and not each.inv_kw_args]
                if not found:
                    raise Unfit(f"inverse_func must be None, numpy.exp or numpy.expm1, got {shown(each.inverse_func)}")
                yield from found[0]
            else:
                raise Unfit("no export has this class for targets")
        except Unfit as error:
            raise refused(inner, each, error) from None


# ---- rows ----


def matrix_of(computation: Computation, rows: Any) -> Any:
    """Rows as a pipeline takes them as the matrix of inputs; an array as it is where inputs are no table."""
    if computation.inputs:
        columns = [(each.key, each.kind, each.values) for each in computation.inputs]
    elif computation.feature_names is None or isinstance(rows, np.ndarray):
        return rows
    else:
        columns = [(name, "number", ()) for name in computation.feature_names]
    try:
        return numpy_tables.matrix(rows, columns, computation.n_positions)
    except ValueError as error:
        raise ValueError(f"rows must be a table as the pipeline takes it: {error}") from None
