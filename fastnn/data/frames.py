"""Columns of frames: those of pandas, polars and pyarrow, or arrays in a mapping; no such package is imported here."""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import calls
from ..checks.scalars import shown
from . import arrays

FRAMES = "a frame of pandas or polars, a pyarrow table, or a dict of arrays"


def is_mapping(frame: Any) -> bool:
    """Whether it is a mapping of arrays. One of SciPy's kinds of sparse matrices is a mapping of single numbers."""
    return isinstance(frame, Mapping) and not arrays.is_sparse(frame)


def labels(name: str, frame: Any) -> list[Any]:
    """What the columns of a frame are called; raises TypeError for anything else."""
    if is_mapping(frame):
        return list(frame)
    if hasattr(type(frame), "collect"):
        raise TypeError(f"{name} must be {FRAMES}, got a {type(frame).__name__}; its collect() is one")
    found = arrays.column_labels(frame)
    if not found:
        raise TypeError(f"{name} must be {FRAMES}, got {shown(frame)}")
    if len(set(found)) < len(found):
        twice = next(each for each in found if found.count(each) > 1)
        raise ValueError(f"{name} must have columns of different names, got {shown(twice)} more than once")
    return found


def check_columns(name: str, what: str, wanted: Iterable[Any], frame: Any) -> None:
    """Raise where a frame lacks a column."""
    known = labels(name, frame)
    for label in wanted:
        if label not in known:
            raise ValueError(f"{what} must name columns of {name}, {shown(known)}, got {shown(label)}")


def rows_of(name: str, frame: Any) -> int:
    """How many rows a frame has; raises where the arrays of a mapping have different lengths."""
    if not is_mapping(frame):
        return len(frame)
    for label, array in frame.items():
        if not hasattr(array, "__len__"):
            raise TypeError(f"{name} must have an array for each column, got {shown(array)} for {label!r}")
    lengths = {label: len(array) for label, array in frame.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{name} must have columns of one length, got {shown(lengths)}")
    return next(iter(lengths.values()), 0)


def is_pandas(column: Any) -> bool:
    """Whether it is a series of pandas."""
    return hasattr(column, "factorize")


def is_polars(column: Any) -> bool:
    """Whether it is a series of polars."""
    return hasattr(column, "to_physical")


def is_numeric(frame: Any, label: Any) -> bool:
    """Whether a column holds integers, floats or truth values."""
    column = frame[label]
    dtype = getattr(column, "dtype", None)
    if is_pandas(column) and not isinstance(dtype, np.dtype):
        return bool(getattr(dtype, "_is_numeric", False))  # its own types, with missing values
    if is_polars(column):
        return bool(dtype.is_numeric()) or str(dtype) == "Boolean"  # type: ignore[union-attr]
    return np.asarray(column).dtype.kind in "biuf"


def numbers(name: str, frame: Any, label: Any) -> NDArray[Any]:
    """A column (rows,) of bools, integers or floats, not copied where it is one already; a missing number is NaN."""
    column = frame[label]
    what = f"column {label!r} of {name}"
    if is_pandas(column) and not isinstance(column.dtype, np.dtype) and is_numeric(frame, label):
        array = np.asarray(column.to_numpy(dtype=np.float64, na_value=math.nan))
    elif is_polars(column) and is_numeric(frame, label):
        array = np.asarray(column.to_numpy())
    else:
        array = arrays.numeric(what, column)
    if array.dtype.kind == "O":  # truth values of polars with some missing
        array = arrays.numeric(what, array)
    if array.ndim != 1:
        raise ValueError(f"{what} must have one axis, got shape {array.shape}")
    return array


# ---- keys ----


def words(name: str, frame: Any, label: Any) -> NDArray[Any]:
    """A column of keys as integers, or as other numbers of 64 bits: equal ones stand for equal keys.

    Raises ValueError where a key is missing.
    """
    column = frame[label]
    if is_polars(column):
        found, missing = _words_of_polars(column)
    elif is_pandas(column) and not isinstance(column.dtype, np.dtype):
        found = np.asarray(column.factorize()[0])
        missing = _first(found < 0)
    else:
        array = arrays.array(f"column {label!r} of {name}", column)
        if array.ndim != 1:
            raise ValueError(f"column {label!r} of {name} must have one axis, got shape {array.shape}")
        found, missing = _words_of_array(array)
    if missing is not None:
        raise ValueError(f"{name} must have no missing key, got one in column {label!r}, row {missing}")
    return found


def _first(mask: NDArray[np.bool_]) -> int | None:
    """The first True, None where there is none."""
    i = int(mask.argmax()) if len(mask) else 0
    return i if len(mask) and mask[i] else None


def _words_of_polars(column: Any) -> tuple[NDArray[Any], int | None]:
    polars: Any = sys.modules["polars"]
    if column.null_count():
        return np.zeros(0, np.int64), int(column.is_null().arg_true()[0])
    if column.dtype == polars.String:
        column = column.cast(polars.Categorical)
    return _words_of_array(np.asarray(column.to_physical().to_numpy()))


def _words_of_array(array: NDArray[Any]) -> tuple[NDArray[Any], int | None]:
    """(words, the first row without a key) of an array."""
    kind = array.dtype.kind
    if kind in "biu":
        return array, None
    if kind in "mM":
        return array.view(np.int64) if array.flags.c_contiguous else array.astype(np.int64), _first(np.isnat(array))
    if kind == "f":
        found = array.astype(np.float64) + 0.0  # there is one zero
        return found.view(np.int64), _first(np.isnan(found))
    numbers: Any = defaultdict(count().__next__)
    found = np.empty(len(array), np.int64)
    for some in calls.row_slices(len(array), 64):
        try:
            found[some] = np.fromiter(map(numbers.__getitem__, array[some].tolist()), np.int64)
        except TypeError as error:
            raise TypeError(
                f"keys must be numbers, strings, dates or other values that a dict takes: {error}"
            ) from None
    lacking = [number for key, number in numbers.items() if arrays.is_missing(type(key)) or key != key]
    return found, _first(np.isin(found, lacking)) if lacking else None


def keys(frame: Any, label: Any, rows: NDArray[np.int64]) -> NDArray[Any]:
    """The keys of a column in some rows: an array of numbers, or of Python's objects."""
    column = frame[label]
    if is_polars(column):
        column = column.gather(rows)
        return np.asarray(column.to_numpy()) if is_numeric({0: column}, 0) else objects(column.to_list())
    if is_pandas(column):
        column = column.iloc[rows]
        return np.array(column.tolist()) if is_numeric({0: column}, 0) else objects(column.tolist())
    array = arrays.array("keys", column)[rows]
    if array.dtype.kind in "biufO":
        return array
    if array.dtype.kind == "M" and array.dtype != "M8[D]":
        array = array.astype("M8[us]")
    return objects(array.tolist())


def objects(values: list[Any]) -> NDArray[Any]:
    """An array of objects."""
    found = np.empty(len(values), object)
    found[:] = values
    return found


def categories(frame: Any, label: Any) -> list[Any]:
    """The keys that a column of categories can have; none where it is no such column."""
    column = frame[label]
    if type(getattr(column, "type", None)).__name__ == "DictionaryType":  # pyarrow's
        chunks = getattr(column, "chunks", [column])  # each has categories of its own
        found = dict.fromkeys(key for chunk in chunks for key in chunk.dictionary.to_pylist())
        return [key for key in found if key is not None]
    dtype = getattr(column, "dtype", None)
    if type(dtype).__name__ not in ("CategoricalDtype", "Enum"):
        return []
    return list(dtype.categories)  # type: ignore[union-attr]
