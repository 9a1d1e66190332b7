"""Arrays as the kernels read them: inputs, targets, weights, checked and normalised, once.

Every error names the argument, the value and what was expected.
"""

from __future__ import annotations

import contextlib
import datetime
import math
import sys
from collections.abc import Mapping
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import calls
from ..checks.scalars import choice, integer, number, shown

UNCHECKED = ("any", "numbers")  # kinds of targets that may be any numbers, see `LossFormula`
SMALL = 2**13  # elements of an array that is checked without regard for memory

# What Python or NumPy would make a number of, in an array of objects, though it is none.
_NO_NUMBERS = (str, bytes, bytearray, complex, np.complexfloating, np.datetime64, np.timedelta64)

_TIMES = (np.datetime64, np.timedelta64, datetime.date, datetime.time, datetime.timedelta)

_DATES = "make numbers of dates and times, such as days since one of them"

_TEXT_IN_X = "encode text as numbers, such as by scikit-learn's OneHotEncoder"

_TEXT_IN_Y = "integer codes are np.unique(y, return_inverse=True)[1]; fastnn.MLPClassifier takes labels of any kind"


def array(name: str, value: ArrayLike) -> NDArray[Any]:
    """value as an array of the base class, in memory that need not be copied, but whose shape nobody else can set."""
    if type(value) is np.ndarray:
        return value.view()
    kind: Any = getattr(sys.modules.get("numpy.ma"), "MaskedArray", None)  # another thread may be importing it
    if kind is not None and isinstance(value, kind):
        hidden = np.argwhere(np.ma.getmaskarray(value) if value.dtype.names is None else False)
        if len(hidden):
            place = ", ".join(map(str, hidden[0]))
            raise ValueError(f"{name} must hold no masked value, got {name}[{place}]; {name}.filled(..) gives it one")
    _no_dates(name, value)
    try:
        return np.asarray(value).view()
    except Exception as error:  # rows of different lengths, for example; a frame's library raises what it likes
        if type(error) in (MemoryError, RuntimeError):  # no word on the value, as of a model that is being trained
            raise
        raise ValueError(f"{name} must be a rectangular array of numbers, got {shown(value)}") from error


def column_labels(value: Any) -> list[Any]:
    """What the columns of a frame are called; none where it is no frame."""
    if type(value) is np.ndarray or not hasattr(type(value), "__array__"):
        return []  # polars' LazyFrame would have to be computed for its names
    table = type(value).__module__.startswith("pyarrow")
    found: Any = getattr(value, "column_names" if table else "columns", None)
    return list(found) if isinstance(found, (list, tuple)) or hasattr(found, "tolist") else []


def _no_dates(name: str, value: Any) -> None:
    """Raise for a column of dates or times in a table of polars or pyarrow.

    NumPy makes numbers of polars' where other columns hold numbers, and nothing at all of pyarrow's.
    """
    if type(value) is np.ndarray or not (labels := column_labels(value)):
        return
    kinds: Any = getattr(getattr(value, "schema", None), "types", getattr(value, "dtypes", ()))
    for label, kind in zip(labels, kinds, strict=False):
        if hasattr(kind, "is_temporal"):  # polars'
            temporal = kind.is_temporal()
        else:
            temporal = str(kind).startswith(("date", "time", "duration")) and type(kind).__module__ == "pyarrow.lib"
        if temporal:
            raise TypeError(f"{name} must hold numbers, got {kind} in column {label!r}; {_DATES}")


def column_names(value: Any) -> tuple[str, ...] | None:
    """The names of a frame's columns, where all are strings, as in scikit-learn; None for any other array."""
    found = column_labels(value)
    return tuple(found) if found and all(isinstance(each, str) for each in found) else None


def same_columns(name: str, value: Any, expected: tuple[str, ...] | None) -> None:
    """Raise where a frame has other columns than expected, or in another order. What has no names passes."""
    if expected is None or type(value) is np.ndarray or (found := column_names(value)) in (None, expected):
        return
    has, had = set(found), set(expected)
    lacking, more = [each for each in expected if each not in has], [each for each in found if each not in had]
    told = [f"{what} {', '.join(map(repr, some))}" for what, some in (("no", lacking), ("also", more)) if some]
    if not told and len(found) != len(expected):
        told = [f"{len(found)} columns, some of one name"]
    elif not told:
        pairs = enumerate(zip(found, expected, strict=True))
        told = next([f"{mine!r} where {first!r} was, column {i}"] for i, (mine, first) in pairs if mine != first)
    raise ValueError(
        f"{name} must have the columns of the frame that trained first, in their order, {shown(list(expected))}, "
        f"got {' and '.join(told):.1000}; an array without names is taken as it is"
    )


def feature_names(value: Any, n_inputs: int) -> tuple[str, ...] | None:
    """What a file says of the names of so many columns."""
    if value is not None and not (isinstance(value, list) and all(isinstance(each, str) for each in value)):
        raise TypeError(f"feature_names must be a list of strings or null, got {shown(value)}")
    if value is not None and len(value) != n_inputs:
        raise ValueError(f"feature_names must name {n_inputs} columns, got {len(value)}")
    return None if value is None else tuple(value)


def _cell(name: str, original: Any, shape: tuple[int, ...], index: tuple[int, ...]) -> str:
    """An element in a message, as "X[7, 2] = nan in column 'age'"; original is what the user gave."""
    element, labels = np.reshape(np.asarray(original), shape)[index], column_labels(original)
    column = index[1] if len(index) > 1 else 0
    where = f" in column {labels[column]!r}" if column < len(labels) and labels[column] != column else ""
    plain = element.item() if isinstance(element, (np.str_, np.bytes_)) else element
    text = str(plain) if isinstance(plain, np.generic) else shown(plain)
    return f"{name}[{', '.join(map(str, index))}] = {text}{where}"


def numeric(name: str, value: ArrayLike, text: str = "") -> NDArray[Any]:
    """value as a base-class array of bools, ints or floats, with no copy where it is one already.

    What is missing in an array of objects, None or pandas.NA, is NaN. text says what to do with text.
    """
    found = array(name, value)
    if found.dtype.kind == "O":
        found = _of_objects(found)
    if found.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold numbers, got {_no_number(name, value, found, text)}")
    return found


def is_missing(kind: type) -> bool:
    """Whether it is the type of None or of pandas.NA."""
    return kind.__name__ in ("NoneType", "NAType")


def _of_objects(found: NDArray[Any]) -> NDArray[Any]:
    """An array of objects as integers or floats, NaN where one is missing; as it is where one is no number."""
    kinds = set(map(type, found.flat))
    if any(issubclass(kind, _NO_NUMBERS) for kind in kinds):
        return found
    if any(map(is_missing, kinds)):
        missing = np.fromiter((is_missing(type(each)) for each in found.flat), bool, found.size)
        found = np.where(missing.reshape(found.shape), np.nan, found)
    whole = found.size > 0 and all(issubclass(kind, (Integral, np.bool_)) for kind in kinds)
    for dtype in (np.int64, np.float64) if whole else (np.float64,):
        with contextlib.suppress(TypeError, ValueError, OverflowError), np.errstate(all="ignore"):
            return found.astype(dtype)
    return found


def _no_number(name: str, value: Any, found: NDArray[Any], text: str) -> str:
    """What to say of an array with an element that is no number: which one, and what to do."""
    told = f"an array of dtype {found.dtype}"
    if found.dtype.names:
        return f"{told}; numpy.lib.recfunctions.structured_to_unstructured makes a plain one of it"
    if found.ndim == 0:
        return f"{shown(value)}; its toarray() is dense" if is_sparse(value) else f"a {type(value).__name__}"
    for i, each in enumerate(found.flat):
        one = np.empty((), object)
        one[()] = each
        if found.dtype.kind != "O" or _of_objects(one).dtype.kind == "O":
            index = tuple(map(int, np.unravel_index(i, found.shape)))
            return f"{told} with {_cell(name, value, found.shape, index)}{_advice(each, text)}"
    return told


def _advice(element: Any, text: str) -> str:
    """What to do about an element that is no number, as the end of a message."""
    if isinstance(element, (str, bytes)):
        return f"; {text}" if text else ""
    return f"; {_DATES}" if isinstance(element, _TIMES) else ""


def _for_kernel(array: NDArray[Any], dtype: Any) -> NDArray[Any]:
    """array C-ordered and aligned in dtype; itself where it is so already."""
    with np.errstate(all="ignore"):  # a value too large for dtype becomes infinite, which check_finite reports
        if array.nbytes <= calls.PIECE_BYTES or (array.dtype == dtype and array.flags.c_contiguous):
            return np.require(array, dtype, ["C", "A"])
        out = np.empty(array.shape, dtype)
        for rows in calls.row_slices(len(array), array[:1].nbytes):
            out[rows] = array[rows]
        return out


def sum_is_finite(array: NDArray[Any]) -> bool:
    """Whether the sum of all elements is finite, and so each of them."""
    with np.errstate(all="ignore"):
        return bool(np.isfinite(array.sum()))


def check_finite(name: str, array: NDArray[Any], original: Any, dtype: Any = None) -> None:
    """Raise where an element is NaN or infinite. A finite sum proves that there is none, without a copy.

    original is what the user gave, with as many elements. With a dtype, elements must be finite in that.
    """
    dtype = array.dtype if dtype is None else np.dtype(dtype)
    for rows in calls.row_slices(len(array), array[:1].nbytes):
        with np.errstate(all="ignore"):
            part = array[rows].astype(dtype, copy=False)
        if sum_is_finite(part):
            continue
        bad = np.argwhere(~np.isfinite(part))
        if len(bad):
            index = (int(bad[0][0]) + rows.start, *map(int, bad[0][1:]))
            advice = "; fill in missing values, or leave out their rows" if np.isnan(array[index]) else ""
            cell = _cell(name, original, array.shape, index)
            raise ValueError(f"{name} must be finite in {dtype}, got {cell}{advice}")


def inputs(
    X: ArrayLike, n_inputs: int, dtype: str, *, name: str = "X", finite: bool = True, shifted: bool = False
) -> NDArray[Any]:
    """X, (n, n_inputs), as the kernels read it: C-ordered in dtype or uint8, not copied where it is so already.

    Numbers of another dtype are float64 where they are `shifted`, because rounded ones would have lost what is left.
    """
    if type(X) is np.ndarray:
        X = X.view()  # what is checked stays so: another thread or a callback may set the shape of its own object
    if (
        type(X) is np.ndarray
        and X.flags.carray
        and X.dtype == dtype
        and X.ndim == 2
        and X.shape[1] == n_inputs
        and 0 < X.size < SMALL
        and math.isfinite(np.vdot(X, X))  # else it is looked at again
    ):
        return X  # what small fits have: nothing is done that need not be
    if is_sparse(X):
        return _sparse_inputs(X, n_inputs, dtype, name=name, finite=finite, shifted=shifted)
    array = numeric(name, X, _TEXT_IN_X)
    if array.ndim != 2 or array.shape[1] != n_inputs:
        hint = ""
        if array.ndim == 1 and array.size and n_inputs in (1, array.size):
            hint = f"; {name}[:, None] is a column" if n_inputs == 1 else f"; {name}[None] is a single row"
        elif array.ndim > 2 and math.prod(array.shape[1:]) == n_inputs:
            hint = f"; {name}.reshape({len(array)}, {n_inputs}) has it"
        elif labels := column_labels(X):
            hint = f" of the columns {shown(labels)}"
        raise ValueError(f"{name} must have shape (n, {n_inputs}), got {array.shape}{hint}")
    if len(array) == 0:
        raise ValueError(f"{name} must hold at least one sample, got shape {array.shape}")
    if array.dtype == np.bool_:
        array = array.view(np.uint8)
    if array.dtype == np.uint8:
        return _for_kernel(array, np.uint8)
    rows = _for_kernel(array, "float64" if shifted and array.dtype != dtype else dtype)
    if finite and array.dtype.kind == "f":
        check_finite(name, rows, X, dtype)
    return rows


def codes(name: str, array: NDArray[Any], categories: Mapping[int, int], original: Any) -> None:
    """Raise where a column of an array holds anything but codes, whole numbers from 0 to below its categories.

    categories has the number of a column's by the number of the column; original is as in `_finite`.
    """
    for column, n in categories.items():
        for rows in calls.row_slices(len(array), array[:1].nbytes):
            found = array[rows, column]
            bad = np.flatnonzero(~((found >= 0) & (found < n) & (found == np.floor(found))))
            if len(bad):
                cell = _cell(name, original, array.shape, (int(bad[0]) + rows.start, column))
                raise ValueError(f"column {column} of {name} must hold codes, whole numbers in [0, {n}), got {cell}")


def parameters(name: str, value: ArrayLike, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """value as finite parameters of that shape, in dtype."""
    array = numeric(name, value)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    values = _for_kernel(array, dtype)
    check_finite(name, values, value)
    return values


def is_sparse(value: object) -> bool:
    """Whether it is a sparse matrix or array of SciPy, which is not imported for this."""
    test: Any = getattr(sys.modules.get("scipy.sparse"), "issparse", None)  # another thread may be importing it
    return test is not None and bool(test(value))


class SparseRows(np.ndarray):
    """The table of a sparse matrix's rows, int64 (n, 3), that `gather_sparse` of `kernels/vector/gathering.py` reads.

    It holds addresses: each row's column numbers, int32, its values, and how many there are. The arrays that these
    lead to live as long as the table, or any part or copy of it.
    """

    arrays: tuple[NDArray[Any], ...] = ()

    def __array_finalize__(self, source: Any) -> None:
        self.arrays = getattr(source, "arrays", ())

    @classmethod
    def of(cls, X: Any, dtype: Any, name: str = "X", width: int | None = None, shifted: bool = False) -> SparseRows:
        """The rows of a sparse matrix with `width` columns, or as many as it has.

        Columns and values are copied before they are checked, for nobody to change them. Where they are `shifted`,
        values are float64, and no column is twice in a row.
        """
        X, dtype = X.tocsr(), np.dtype("float64" if shifted else dtype)
        edges, width = X.indptr.astype(np.int64), X.shape[1] if width is None else width
        n = len(edges) - 1
        with np.errstate(all="ignore"):  # see `_for_kernel`
            numbers, values = X.indices.astype(np.int64), X.data.astype(dtype)
        inside = n > 0 and edges[0] == 0 and edges[-1] <= len(values) == len(numbers)
        inside = inside and (np.diff(edges) >= 0).all()
        if not inside or (len(numbers) and not 0 <= numbers.min() <= numbers.max() < width):
            raise ValueError(f"{name} must be a sparse matrix whose indptr and indices lie within its data and shape")
        if shifted:
            edges, numbers, values = _without_duplicates(edges, numbers, values, width)
        columns = numbers.astype(np.int32)
        table = np.empty((n, 3), np.int64).view(cls)
        table.arrays = columns, values
        table[:, 0] = columns.ctypes.data + columns.itemsize * edges[:-1]
        table[:, 1] = values.ctypes.data + values.itemsize * edges[:-1]
        table[:, 2] = np.diff(edges)
        return table


def _without_duplicates(edges: NDArray[Any], numbers: NDArray[Any], values: NDArray[Any], width: int) -> Any:
    """(edges, column numbers, values) of sparse rows, in which values of a column that is twice in a row are added."""
    rows = np.repeat(np.arange(len(edges) - 1), np.diff(edges))
    places = rows * np.int64(width) + numbers[: edges[-1]]
    if (places[1:] > places[:-1]).all():
        return edges, numbers, values
    found, which = np.unique(places, return_inverse=True)
    edges = np.searchsorted(found, np.arange(len(edges)) * np.int64(width))
    return edges, found % width, np.bincount(which, values[: len(places)], len(found))


def _sparse_inputs(X: Any, n_inputs: int, dtype: str, *, name: str, finite: bool, shifted: bool) -> NDArray[Any]:
    """`inputs` of a sparse matrix, which is never made dense as a whole."""
    if X.ndim != 2 or X.shape[1] != n_inputs:
        raise ValueError(f"{name} must have shape (n, {n_inputs}), got {X.shape}")
    if X.shape[0] == 0:
        raise ValueError(f"{name} must hold at least one sample, got shape {X.shape}")
    if X.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold numbers, got a sparse matrix of dtype {X.dtype}")
    X = X.tocsr()
    table = SparseRows.of(X, dtype, name, n_inputs, shifted)
    if finite and X.dtype.kind == "f":
        values = X.data if shifted else table.arrays[1]  # shifted ones may be fewer
        check_finite(f"{name}.data", values, X.data, dtype)
    return table


def _probabilities(name: str, values: NDArray[Any], sum_to_one: bool) -> None:
    """Raise where a target is no probability, or a row of them does not sum to 1."""
    outside = np.argwhere((values < 0) | (values > 1))
    if len(outside):
        i, j = outside[0]
        raise ValueError(f"{name} must hold probabilities in [0, 1], got {name}[{i}, {j}] = {values[i, j]}")
    if sum_to_one:
        sums = values.sum(axis=1, dtype=np.float64)
        wrong = np.flatnonzero(np.abs(sums - 1) > 1e-3)
        if len(wrong):
            raise ValueError(f"each row of {name} must sum to 1, got {sums[wrong[0]]:g} in row {wrong[0]}")


def _counts(name: str, values: NDArray[Any]) -> None:
    """Raise where a target is below zero."""
    below = np.argwhere(values < 0)
    if len(below):
        i, j = below[0]
        raise ValueError(f"{name} must hold numbers of at least 0, got {name}[{i}, {j}] = {values[i, j]}")


def _signs(name: str, values: NDArray[Any]) -> None:
    """Raise where the targets are neither all -1 or 1 nor all 0 or 1."""
    wrong = np.argwhere((values != (-1 if (values < 0).any() else 0)) & (values != 1))
    if len(wrong):
        i, j = wrong[0]
        raise ValueError(f"{name} must hold -1 and 1, or 0 and 1, got {name}[{i}, {j}] = {values[i, j]}")


def weights(
    value: ArrayLike | None, n: int, dtype: str, *, name: str = "sample_weight", partial: bool = False
) -> NDArray[Any] | None:
    """The weights of n samples, (n,) in dtype, none negative and not all zero; None for None.

    Only their ratios count. So those far from 1 are multiplied by a power of two, and one that is less than 1e-30 of
    the largest is zero: the sum of a batch has a reciprocal in float32. Where they are `partial`, and so belong to some
    samples of several, they may all be zero, but not be far above 1.
    """
    if value is None:
        return None
    array = numeric(name, value)
    if array.shape == (n, 1):  # a column of a frame
        array = array[:, 0]
    if array.shape != (n,):
        raise ValueError(f"{name} must have shape ({n},), got {array.shape}")
    array = array.copy()  # their sum is a divisor, so nobody may change them from now on
    check_finite(name, array, value)
    negative = np.flatnonzero(array < 0)
    if len(negative):
        raise ValueError(f"{name} must not be negative, got {name}[{negative[0]}] = {array[negative[0]]}")
    largest = float(array.max(initial=0))
    if partial and not largest < 1e6:
        raise ValueError(f"{name} must be below 1e6 in a Stream, got {largest:g}")
    if largest == 0 and not partial:
        raise ValueError(f"{name} must have an element above zero, got {n} zeros")
    if partial:
        largest = 1.0
    elif not 1e-6 < largest < 1e6:
        with np.errstate(all="ignore"):
            array = np.ldexp(array.astype(np.float64), -int(np.frexp(largest)[1]))
        largest = 1.0
    result = _for_kernel(array, dtype)
    small = result < 1e-30 * largest
    return np.where(small, 0, result).astype(dtype) if result[small].any() else result


def class_weights(
    value: Any,
    classes: NDArray[Any] | None,
    sample_weight: NDArray[Any] | None,
    dtype: str,
    n_classes: int,
    *,
    partial: bool = False,
) -> NDArray[Any] | None:
    """The weights of samples by their classes, times those that they have; of all samples, or of a part of them."""
    if classes is None:
        raise ValueError("class_weight needs class indices in y, got numeric targets")
    found, counts = np.unique(classes, return_counts=True)
    if isinstance(value, str):
        choice("class_weight", value, ("balanced",))
        if partial:
            raise ValueError(
                "class_weight must be a dict for a Stream, whose classes are not known before, got 'balanced'"
            )
        by_class = dict(zip(found.tolist(), len(classes) / (len(found) * counts), strict=True))
    elif isinstance(value, Mapping):
        by_class = {_class(key, n_classes): number(f"class_weight[{key}]", each, 0.0) for key, each in value.items()}
    else:
        raise TypeError(f"class_weight must be a dict, 'balanced' or None, got {shown(value)}")
    factors = np.array([by_class.get(each, 1.0) for each in found.tolist()])[np.searchsorted(found, classes)]
    with np.errstate(all="ignore"):
        given = factors if sample_weight is None else factors * sample_weight
    return weights(given, len(classes), dtype, name="class_weight", partial=partial)


def _class(key: Any, n_classes: int) -> int:
    """A key of class_weight, if it is the index of one of so many classes. y need not hold it."""
    try:
        return integer("", key, 0, n_classes - 1)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"class_weight must have class indices as keys, integers in [0, {n_classes}), got the key {shown(key)}"
        ) from None


class Targets(NamedTuple):
    """y as the kernels read it: rows (n, n_out) in the model's dtype, or int32 class indices (n,).

    classes are the class indices to score against, None where y holds numeric targets.
    """

    array: NDArray[Any]
    classes: NDArray[Any] | None

    @property
    def truth(self) -> NDArray[Any]:
        """What a metric compares with: class indices, or numeric targets (n, n_out)."""
        return self.array if self.classes is None else self.classes


def targets(
    y: ArrayLike, n: int, n_out: int, dtype: str, *, binary: bool, kind: str = "any", name: str = "y"
) -> Targets:
    """y, class indices (n,) or targets (n,) or (n, n_out), for the kernels.

    With one output, integers that are all 0 or 1 count as class indices where `binary` says that the output is the
    probability of a class, and signs always do. `kind` says which numbers the loss takes, see `LossFormula`.
    """
    if type(y) is np.ndarray:
        y = y.view()  # see `inputs`
    classes_of = 1 if kind == "numbers" else n_out  # from 2 on, y (n,) are class indices
    if type(y) is np.ndarray and y.dtype == np.int64 and y.shape == (n,) and 1 < classes_of <= 2**31 and y.flags.carray:
        labels = y.copy()  # they become addresses, so nobody may change them from now on
        if labels.view(np.uint64).max() < n_out:  # none is negative either
            labels = labels.astype(np.int32)
            return Targets(labels, labels)
    if (
        type(y) is np.ndarray
        and y.dtype == dtype
        and y.shape == (n, n_out)
        and kind in UNCHECKED
        and y.flags.carray
        and y.size < SMALL
        and math.isfinite(np.vdot(y, y))  # else it is looked at again
    ):
        return Targets(y, None)
    array = numeric(name, y, _TEXT_IN_Y)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    whole = array.dtype.kind in "biu"
    single = f"({n},) or " if n_out == 1 else f"({n},) for class indices or " if classes_of > 1 else ""
    fits = array.shape == (n, n_out) or (array.shape == (n,) and (n_out == 1 or classes_of > 1))
    if not fits:
        raise ValueError(f"{name} must have shape {single}({n}, {n_out}), got {np.shape(y)}")
    if array.ndim == 1 and n_out > 1:
        if not whole:
            check_finite(name, array, y)
            raise ValueError(
                f"{name} of shape ({n},) must hold integer class indices for {n_out} outputs, got {array.dtype}; "
                f"float targets have shape ({n}, {n_out})"
            )
        array = array.copy()  # they become addresses, so nobody may change them from now on
        outside = np.flatnonzero((array < 0) | (array >= n_out))
        if len(outside):
            i = outside[0]
            raise ValueError(f"{name} must hold class indices in [0, {n_out}), got {name}[{i}] = {array[i]}")
        labels = _for_kernel(array, np.int32)
        return Targets(labels, labels)
    values = _for_kernel(array.reshape(n, n_out), dtype)
    if not whole:
        check_finite(name, values.reshape(array.shape), y)
    if kind == "counts":
        _counts(name, values)
    elif kind == "signs":
        _signs(name, values)
        array, whole, binary = values[:, 0] > 0, True, True
    elif kind not in UNCHECKED:
        _probabilities(name, values, kind == "distributions")
    classes = (
        array.astype(np.int32) if whole and binary and n_out == 1 and ((array == 0) | (array == 1)).all() else None
    )
    return Targets(values, classes)


def out_of_reach(values: NDArray[Any], output: object, low: float, high: float) -> str:
    """What to say of numeric targets that an output activation cannot give, whose outputs are in [low, high], or ""."""
    if low == -np.inf and high == np.inf:
        return ""
    slices = [slice(None)] if values.size < SMALL else list(calls.row_slices(len(values), values[:1].nbytes))
    least, most = min(values[rows].min() for rows in slices), max(values[rows].max() for rows in slices)
    if low <= least and most <= high:
        return ""
    return (
        f"y holds numbers from {least:g} to {most:g}, but outputs of {output!r} lie between {low:g} and {high:g}: "
        'no training reaches those outside. Use output="identity", or scale y.'
    )


def take_rows(array: NDArray[Any], rows: NDArray[Any]) -> NDArray[Any]:
    """array[rows], in pieces, so that Ctrl-C need not wait for all of them."""
    if isinstance(array, SparseRows):
        return array[rows]  # which keeps alive what it leads to
    out = np.empty((len(rows), *array.shape[1:]), array.dtype)
    for piece in calls.row_slices(len(rows), array[:1].nbytes):
        out[piece] = array[rows[piece]]
    return out
