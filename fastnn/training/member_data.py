"""Samples of a population: shared by all members, one set for each, or ragged; checked, and rows chosen from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import calls
from ..checks.scalars import number, shown
from ..data import arrays
from ..data.arrays import Targets
from ..data.streams import Stream
from ..settings.layers import Architecture
from .arguments import inputs_of, targets_of
from .members import MemberSamples, Numbers, Rows
from .plan import MAX_ROWS


@dataclass(frozen=True)
class MemberData:
    """The samples of n members: where the rows of each lie, and which of them it sees, if not all."""

    inputs: Rows
    targets: Rows | None = None
    classes: NDArray[Any] | None = None  # of all targets, where they are class indices
    weights: Rows | None = None
    numbers: Numbers | None = None

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many rows each member sees."""
        return self.inputs.counts if self.numbers is None else np.diff(self.numbers.edges)

    @property
    def shared(self) -> bool:
        """Whether all members see the same rows of the same arrays."""
        found = (each for each in (self.inputs, self.targets, self.weights) if each is not None)
        return self.numbers is None and all(each.whole for each in found)

    def take(self, which: NDArray[np.int64]) -> MemberData:
        """The samples of some members, in the same arrays."""
        found = {name: getattr(self, name) for name in ("inputs", "targets", "weights", "numbers")}
        return replace(self, **{name: each.take(which) for name, each in found.items() if each is not None})

    def samples(self) -> MemberSamples:
        """What the kernels read."""
        return MemberSamples.of(self.inputs, self.targets, self.weights, self.numbers)

    def rows_of(self, i: int) -> NDArray[np.int64]:
        """The numbers of the rows that a member sees, counted from its first."""
        if self.numbers is None:
            return np.arange(self.inputs.counts[i])
        first, stop = self.numbers.edges[i : i + 2]
        return self.numbers.rows[first:stop].astype(np.int64)

    def totals(self) -> NDArray[np.float64]:
        """What each member's samples weigh: how many there are, or the sum of their weights, as `Model` takes it."""
        if self.weights is None:
            return self.counts.astype(np.float64)
        weights, starts = self.weights.array, self.weights.starts
        if self.shared:
            return np.full(len(starts), weights.sum(dtype=np.float64))
        found = (weights[start + self.rows_of(i)].sum(dtype=np.float64) for i, start in enumerate(starts.tolist()))
        return np.fromiter(found, np.float64, len(starts))


# ---- from arguments ----


def _counts_of(X: Any, n: int, width: int, name: str) -> tuple[Any, NDArray[np.int64] | None]:
    """(the rows of all members, one behind the other; the first row of each and the end), or (X, None) for shared X."""
    if isinstance(X, tuple):
        if len(X) != 2:
            raise TypeError(f"{name} must be an array or a pair (data, indptr), got a tuple of length {len(X)}")
        data, edges = X[0], np.asarray(X[1])
        if edges.shape != (n + 1,) or edges.dtype.kind not in "iu":
            raise ValueError(f"{name}[1] must be {n + 1} integers, got {edges.dtype} of shape {edges.shape}")
        edges, rows = edges.astype(np.int64), len(data)
        if edges[0] < 0 or edges[-1] > rows or (np.diff(edges) < 1).any():
            raise ValueError(
                f"{name}[1] must rise from at least 0 to at most {rows}, with a row for each member, got "
                f"{shown(edges.tolist())}"
            )
        return data, edges
    if isinstance(X, np.ndarray) and X.ndim == 3:
        if len(X) != n or X.shape[2] != width:
            raise ValueError(f"{name} must have shape (rows, {width}) or ({n}, rows, {width}), got {X.shape}")
        return X.reshape(-1, width), np.arange(n + 1) * X.shape[1]
    return X, None


def _per_member(value: Any, n: int, rows: int, n_out: int) -> bool:
    """Whether targets or weights of a set of so many rows are meant as one array for each member."""
    shape = np.shape(value) if isinstance(value, np.ndarray) else ()
    if len(shape) == 3:
        return True
    return len(shape) == 2 and shape[:2] == (n, rows) and shape != (rows, n_out)


def inputs_rows(
    architecture: Architecture, feature_names: Any, n: int, X: Any, name: str = "X", finite: bool = True
) -> Rows:
    """The inputs of n members: X shared, a set for each, or ragged; raises where they cannot be used."""
    if isinstance(X, Stream):
        raise TypeError(f"{name} must be in memory for a population, got a Stream")
    flat, edges = _counts_of(X, n, architecture.n_inputs, name)
    array = inputs_of(architecture, flat, feature_names, name, finite=finite)
    if len(array) > MAX_ROWS:
        raise ValueError(f"{name} must hold at most {MAX_ROWS} samples, got {len(array)}")
    return Rows.shared(array, n) if edges is None else Rows(array, edges[:-1], np.diff(edges))


def equal_rows(architecture: Architecture, feature_names: Any, n: int, X: Any, finite: bool = True) -> Rows:
    """The inputs of n members that have equally many rows: (rows, n_inputs), or (n, rows, n_inputs)."""
    if isinstance(X, tuple):
        width = architecture.n_inputs
        raise ValueError(f"X must have shape (rows, {width}) or ({n}, rows, {width}), got a tuple of length {len(X)}")
    X = arrays.array("X", X) if isinstance(X, list) else X
    return inputs_rows(architecture, feature_names, n, X, finite=finite)


def values_of(name: str, value: Any, inputs: Rows, width: int, dtype: str) -> Rows:
    """Finite numbers for each row of inputs of `equal_rows`: (rows, width), or (n, rows, width).

    With a width of 1 the last axis may be missing.
    """
    array, n, rows = arrays.numeric(name, value), len(inputs.starts), int(inputs.counts[0])
    if width == 1 and array.shape in ((rows,), (n, rows)):
        array = array[..., None]
    if array.shape not in ((rows, width), (n, rows, width)):
        raise ValueError(f"{name} must have shape ({rows}, {width}) or ({n}, {rows}, {width}), got {array.shape}")
    found = arrays.parameters(name, array, array.shape, dtype)
    if found.ndim == 2:
        return Rows.shared(found, n)
    return Rows(found.reshape(-1, width), np.arange(n) * rows, inputs.counts)


def data_of(
    architecture: Architecture,
    feature_names: Any,
    n: int,
    samples: tuple[Any, Any, Any],
    names: tuple[str, str, str] = ("X", "y", "sample_weight"),
    labelled: bool = True,
) -> MemberData:
    """The samples (X, y, sample_weight) of n members; raises where they cannot be used.

    Those that are not `labelled` are for predictions: they have no targets, and may hold NaN.
    """
    X, y, sample_weight = samples
    inputs = inputs_rows(architecture, feature_names, n, X, names[0], finite=labelled)
    if labelled and y is None:
        raise TypeError(f"{names[1]} must hold the targets, got None")
    uniform = int(inputs.counts[0]) if (inputs.counts == inputs.counts[0]).all() else 0
    ragged = isinstance(X, tuple)

    def laid(value: Any, width: int, check: Callable[[Any, int], Any]) -> tuple[Any, NDArray[Any], NDArray[Any]]:
        """(what the check gives for all rows, first rows, counts) of targets or weights."""
        if ragged:
            return check(value, len(inputs.array)), inputs.starts, inputs.counts
        counts = np.full(n, uniform)
        if _per_member(value, n, uniform, width):
            value = value.reshape(n * uniform, *value.shape[2:]) if value.shape[:2] == (n, uniform) else value
            return check(value, n * uniform), np.arange(n) * uniform, counts
        return check(value, uniform), np.zeros(n, np.int64), counts

    data = MemberData(inputs)
    if y is not None:
        found: Targets
        found, starts, counts = laid(y, architecture.head.units, lambda v, k: targets_of(architecture, v, k, names[1]))
        data = replace(data, targets=Rows(found.array, starts, counts), classes=found.classes)
    if sample_weight is not None:
        check = lambda v, k: arrays.weights(v, k, architecture.dtype, name=names[2])  # noqa: E731
        data = replace(data, weights=Rows(*laid(sample_weight, 1, check)))
    return data


def with_class_weights(data: MemberData, value: Any, architecture: Architecture) -> MemberData:
    """The samples with weights by their classes, times those that they have; "balanced" by what each member sees."""
    n_classes, dtype = max(2, architecture.head.units), architecture.dtype
    targets, weights = data.targets, data.weights
    assert targets is not None
    everywhere = data.numbers is None or not isinstance(value, str)  # whether it makes no difference who sees a row
    if data.classes is None or (everywhere and targets.whole and (weights is None or weights.whole)):
        old = None if weights is None else weights.array
        found = arrays.class_weights(value, data.classes, old, dtype, n_classes)
        assert found is not None
        return replace(data, weights=Rows(found, targets.starts, targets.counts))
    starts = np.append(0, np.cumsum(targets.counts)[:-1])
    flat = np.zeros(int(targets.counts.sum()), dtype)
    for i, (start, first) in enumerate(zip(starts.tolist(), targets.starts.tolist(), strict=True)):
        rows = data.rows_of(i)
        old = None if weights is None else weights.array[weights.starts[i] + rows]
        flat[start + rows] = arrays.class_weights(value, data.classes[first + rows], old, dtype, n_classes)
    return replace(data, weights=Rows(flat, starts, targets.counts))


def check_weights(data: MemberData, name: str = "sample_weight") -> None:
    """Raise where a member sees no sample of any weight."""
    if data.weights is None:
        return
    if data.numbers is None:
        starts = np.append(data.weights.starts[:, None], (data.weights.starts + data.weights.counts)[:, None], axis=1)
        running = np.append(0, np.cumsum(data.weights.array > 0))
        some = running[starts[:, 1]] - running[starts[:, 0]]
    else:
        edges = data.numbers.edges
        rows = np.repeat(data.weights.starts, np.diff(edges)) + data.numbers.rows
        running = np.append(0, np.cumsum(data.weights.array[rows] > 0))
        some = np.diff(running[edges])
    if not some.all():
        raise ValueError(f"{name} must have an element above zero for each member, got zeros for {some.argmin()}")


# ---- some of the rows ----


def numbers_of(rows: Any, counts: NDArray[np.int64]) -> Numbers:
    """The rows of each member that the argument `rows` chooses from so many: index arrays, a mask, or counts."""
    n = len(counts)
    if isinstance(rows, np.ndarray) and rows.dtype != object:
        if rows.ndim != 2 or rows.dtype.kind not in "biu" or rows.shape != (n, counts.max()):
            raise ValueError(
                f"rows must be a list of {n} index arrays, or a mask or counts of shape ({n}, {counts.max()}), "
                f"got {rows.dtype} of shape {rows.shape}"
            )
        if rows.dtype.kind != "b" and not 0 <= rows.min() <= rows.max() <= MAX_ROWS:
            raise ValueError(f"rows must hold counts of at least 0, got {rows.min()} to {rows.max()}")
        return _chosen(rows, counts)
    if not isinstance(rows, (list, tuple, np.ndarray)) or len(rows) != n:
        length = f" of length {len(rows)}" if isinstance(rows, (list, tuple)) else ""
        raise TypeError(f"rows must be a list of {n} index arrays, or an array, got {type(rows).__name__}{length}")
    parts = [np.asarray(each) for each in rows]
    for i, part in enumerate(parts):
        if part.ndim != 1 or part.dtype.kind not in "iu":
            raise TypeError(f"rows[{i}] must be an array of integers of one axis, got {shown(rows[i])}")
    lengths = np.array([len(part) for part in parts])
    flat, most = np.concatenate(parts).astype(np.int64), np.repeat(counts, lengths)
    outside = np.flatnonzero((flat < 0) | (flat >= most))
    if len(outside):
        i = int(np.repeat(np.arange(n), lengths)[outside[0]])
        raise ValueError(f"rows[{i}] must hold indices in [0, {counts[i]}), got {flat[outside[0]]}")
    return _numbers(flat, lengths)


def _numbers(flat: NDArray[Any], lengths: NDArray[np.int64]) -> Numbers:
    empty = np.flatnonzero(lengths == 0)
    if len(empty):
        raise ValueError(f"rows must leave each member at least one row, got none for {empty[0]}")
    if lengths.max() > MAX_ROWS:
        raise ValueError(f"rows must choose at most {MAX_ROWS} for a member, got {lengths.max()}")
    return Numbers(np.ascontiguousarray(flat, np.int32), np.append(0, np.cumsum(lengths)))


def _slices(n: int, width: int) -> Iterator[slice]:
    return calls.row_slices(n, 8 * max(1, width))


def _chosen(table: NDArray[Any], counts: NDArray[np.int64]) -> Numbers:
    """The rows that a mask or counts (n, rows) choose."""
    flat, lengths = [], np.empty(len(table), np.int64)
    if (counts < table.shape[1]).any() and table[np.arange(table.shape[1]) >= counts[:, None]].any():
        raise ValueError("rows must choose from the rows that a member has, got one behind them")
    for some in _slices(*table.shape):
        part = table[some].astype(np.int64)
        _, column = np.nonzero(part)
        flat.append(np.repeat(column, part[part > 0]).astype(np.int32))
        lengths[some] = part.sum(axis=1)
    return _numbers(np.concatenate(flat), lengths)


def rest_of(data: MemberData) -> Numbers:
    """The rows that each member does not see."""
    if data.numbers is None:
        raise ValueError("validation_data 'rest' is what `rows` leaves out, got no rows")
    edges, counts = data.numbers.edges, data.inputs.counts
    width, flat, lengths = int(counts.max()), [], np.empty(len(counts), np.int64)
    for some in _slices(len(counts), width):
        first, stop = edges[some.start], edges[some.stop]
        mask = np.arange(width) < counts[some, None]
        members = np.repeat(np.arange(some.stop - some.start), np.diff(edges[some.start : some.stop + 1]))
        mask[members, data.numbers.rows[first:stop]] = False
        flat.append(np.nonzero(mask)[1].astype(np.int32))
        lengths[some] = mask.sum(axis=1)
    empty = np.flatnonzero(lengths == 0)
    if len(empty):
        raise ValueError(f"rows must leave out a row of each member for validation_data 'rest', got all for {empty[0]}")
    return _numbers(np.concatenate(flat), lengths)


def split(data: MemberData, fraction: Any, seeds: NDArray[Any]) -> tuple[Numbers, Numbers]:
    """(rows to train on, rows that are held out) of each member, as `Model.fit` splits those that it sees."""
    fraction = number("validation_fraction", fraction, 0.0, 1.0, open_low=True)
    parts: tuple[list[NDArray[np.int64]], ...] = [], []
    for i, (seed, count) in enumerate(zip(seeds.tolist(), data.counts.tolist(), strict=True)):
        n_held = round(fraction * count)
        if not 0 < n_held < count:
            raise ValueError(
                f"validation_fraction must leave a sample on both sides, got {fraction:g} of {count} samples"
            )
        order, rows = np.random.default_rng(seed).permutation(count), data.rows_of(i)
        parts[0].append(rows[np.sort(order[n_held:])])
        parts[1].append(rows[np.sort(order[:n_held])])
    first, second = (_numbers(np.concatenate(part), np.array([len(each) for each in part])) for part in parts)
    return first, second
