"""Columns of tables as values of one kind: read from frames of pandas, polars and pyarrow, and from arrays.

No such package is imported here.
"""

from __future__ import annotations

import datetime
import math
import re
import sys
from collections.abc import Mapping
from decimal import Decimal
from numbers import Integral, Number
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..checks.scalars import shown
from . import arrays, frames

LARGEST = 1e300  # numbers up to it have differences, and these have quotients, that are finite
EPOCH = np.datetime64(0, "us")

# What a column holds, and how messages call it.
KINDS = {
    "numbers": "numbers",
    "booleans": "truth values",
    "text": "text",
    "dates": "dates",
    "durations": "time deltas",
    "empty": "missing values alone",
}
_TRUTH = {"True": True, "true": True, "1": True, "False": False, "false": False, "0": False}
_WHOLE = re.compile(r"\s*[+-]?[0-9]{1,400}\s*")
_DECIMAL = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*")


class Column(NamedTuple):
    """A column of n values of one kind.

    values is an array (n,): int64 to uint8 or floats for "numbers", which are finite; bool for "booleans"; datetime64
    in microseconds for "dates"; seconds in float64 for "durations". For "text" it is a list of strings, for "empty" a
    list. A missing value stands there as 0, False, 1970 or None.
    """

    what: str  # how messages call the column
    kind: str  # a key of KINDS
    values: Any
    missing: NDArray[np.bool_] | None  # (n,), None where there is none
    category: bool = False  # whether its library has it as categories

    def present(self) -> Any:
        """The values that are not missing."""
        if self.missing is None:
            return self.values
        if isinstance(self.values, list):
            return [each for each in self.values if each is not None]
        return self.values[~self.missing]


class Source(NamedTuple):
    """The columns of a table as they were given."""

    name: str
    labels: list[Any] | None  # None where the columns have no names
    n_rows: int
    n_columns: int
    given: Any

    @classmethod
    def of(cls, name: str, X: Any) -> Source:
        """X, a frame, a mapping or structured array of columns, or an array or a list (rows, columns)."""
        if isinstance(X, np.ndarray) and X.dtype.names is not None and X.ndim == 1:
            return cls(name, list(X.dtype.names), len(X), len(X.dtype.names), arrays.array(name, X))
        if isinstance(X, (np.ndarray, list, tuple)):
            found = arrays.array(name, X) if isinstance(X, np.ndarray) else _rows(name, X)
            if found.ndim != 2:
                raise ValueError(f"{name} must have shape (rows, columns), got {found.shape}")
            return cls(name, None, found.shape[0], found.shape[1], found)
        labels = frames.labels(name, X)
        for label in labels:
            if type(label) not in (str, int):
                raise TypeError(f"{name} must have columns called by strings or integers, got {shown(label)}")
        return cls(name, labels, frames.rows_of(name, X), len(labels), X)

    def label(self, i: int) -> Any:
        """What column i is called: its name, or its number."""
        return i if self.labels is None else self.labels[i]

    def column(self, i: int) -> Column:
        """Column i, read."""
        label = self.label(i)
        given = self.given[:, i] if self.labels is None else self.given[label]
        return read(f"column {label!r} of {self.name}", given)


def _rows(name: str, X: Any) -> NDArray[Any]:
    """Rows of a list as an array of objects, so that numbers beside text stay numbers."""
    try:
        return np.array(X, object)
    except ValueError:
        raise ValueError(f"{name} must have rows of one length, got {shown(X)}") from None


# ---- columns of each library ----


def read(what: str, given: Any) -> Column:
    """A column that a frame or an array gives; raises TypeError for a kind of values that no table takes."""
    if frames.is_pandas(given):
        return _of_pandas(what, given)
    if frames.is_polars(given):
        return _of_polars(what, given)
    if hasattr(given, "to_pylist"):
        return _of_arrow(what, given)
    if isinstance(given, (list, tuple)):
        return _of_objects(what, list(given))
    return _of_array(what, arrays.array(what, given))


def _of_pandas(what: str, given: Any) -> Column:
    dtype = given.dtype
    if isinstance(dtype, np.dtype):
        return _of_array(what, given.to_numpy())
    if type(dtype).__name__ == "CategoricalDtype":
        return _of_categories(what, given.astype(object).tolist())
    if type(dtype).__name__ == "DatetimeTZDtype":
        dates = getattr(given, "dt", given)  # an index has none
        return _of_array(what, dates.tz_localize(None).to_numpy())  # as its clocks show it
    if dtype.kind in "biuf" and hasattr(dtype, "numpy_dtype"):
        values = given.to_numpy(dtype=dtype.numpy_dtype, na_value=False if dtype.kind == "b" else 0)
        return _of_array(what, values, given.isna().to_numpy())
    return _of_objects(what, given.astype(object).tolist())


def _of_polars(what: str, given: Any) -> Column:
    polars: Any = sys.modules["polars"]
    kind = type(given.dtype).__name__
    if kind in ("Categorical", "Enum"):
        return _of_categories(what, given.cast(polars.String).to_list())
    if kind in ("String", "Null"):
        return _of_objects(what, given.to_list())
    if kind == "Datetime":
        return _of_array(what, given.dt.replace_time_zone(None).to_numpy())  # as its clocks show it
    if kind in ("Date", "Duration"):
        return _of_array(what, given.to_numpy())
    if kind in ("Decimal", "Int128", "UInt128"):
        given = given.cast(polars.Float64)
    if kind == "Boolean" or given.dtype.is_numeric():
        missing = given.is_null().to_numpy() if given.null_count() else None
        return _of_array(what, given.fill_null(False if kind == "Boolean" else 0).to_numpy(), missing)
    raise _refused(what, f"{given.dtype}")


def _of_arrow(what: str, given: Any) -> Column:
    kind = str(given.type)
    if re.fullmatch(r"u?int[0-9]+|halffloat|float|double|bool", kind):
        missing = given.is_null().to_numpy() if given.null_count else None
        return _of_array(what, given.fill_null(False if kind == "bool" else 0).to_numpy(), missing)
    if re.fullmatch(r"timestamp\[[a-z]+\]|date(32|64)\[.*|duration\[.*", kind):
        return _of_array(what, given.to_numpy())
    if kind.startswith("dictionary"):
        return _of_categories(what, given.to_pylist())
    return _of_objects(what, given.to_pylist())


def _of_array(what: str, values: NDArray[Any], missing: NDArray[np.bool_] | None = None) -> Column:
    """A column of an array; a missing value is in the mask, or NaN, NaT, None or the like."""
    if values.ndim != 1:
        raise ValueError(f"{what} must have one axis, got shape {values.shape}")
    kind = values.dtype.kind
    if kind in "OUT":
        return _of_objects(what, values.tolist())
    if kind in "fmM":
        gaps = np.isnan(values) if kind == "f" else np.isnat(values)
        missing = gaps if missing is None else gaps | missing
    if missing is not None and not missing.any():
        missing = None
    if kind == "b":
        return Column(what, "booleans", values, missing)
    if kind in "iuf":
        return _of_numbers(what, values, missing)
    if kind == "M":
        values = values.astype("M8[us]")
        return Column(what, "dates", values if missing is None else np.where(missing, EPOCH, values), missing)
    if kind == "m":
        return Column(what, "durations", _seconds(values, missing), missing)
    raise _refused(what, f"dtype {values.dtype}")


def _seconds(values: NDArray[Any], missing: NDArray[np.bool_] | None) -> NDArray[np.float64]:
    """Time deltas in seconds, 0 where one is missing."""
    if missing is not None:
        values = np.where(missing, np.timedelta64(0, "us"), values)
    return values / np.timedelta64(1, "s")


def _of_numbers(what: str, values: NDArray[Any], missing: NDArray[np.bool_] | None) -> Column:
    """A column of integers or floats; raises ValueError for an infinite one.

    It is no missing value: mostly something was divided by zero, which nobody would see if it passed.
    """
    if values.dtype.kind == "f":
        with np.errstate(all="ignore"):
            values = values.astype(np.float64, copy=False)
        if missing is not None:
            values = np.where(missing, 0.0, values)
        large = np.abs(values) > LARGEST
        if large.any():
            i = int(large.argmax())
            advice = "; make it NaN to have it as a missing value" if np.isinf(values[i]) else ""
            raise ValueError(f"{what} must hold numbers up to {LARGEST:g}, got {values[i]} in row {i}{advice}")
    return Column(what, "numbers", values, missing)


def _refused(what: str, found: str) -> TypeError:
    expected = "numbers, truth values, text, categories, dates or time deltas"
    return TypeError(f"{what} must hold {expected}, got {found}; drop= leaves it out")


# ---- objects ----


def _is_missing(value: Any) -> bool:
    """Whether it is None, NaN or the like."""
    kind = type(value)
    if kind is str:
        return False
    if arrays.is_missing(kind) or kind.__name__ == "NaTType":
        return True
    if isinstance(value, Decimal):
        return value.is_nan()  # a signalling one raises where it is compared
    return isinstance(value, (Number, np.datetime64)) and bool(value != value)


def _kind(kind: type) -> str:
    """What values of a type are: a key of KINDS, or "" for none of them."""
    if issubclass(kind, str) or kind.__name__ in ("Interval", "Period"):  # of pandas, which are their text
        return "text"
    if issubclass(kind, (bool, np.bool_)):
        return "booleans"
    if issubclass(kind, (datetime.date, np.datetime64)):
        return "dates"
    if issubclass(kind, (datetime.timedelta, np.timedelta64)):  # NumPy's is an integer too
        return "durations"
    return "numbers" if issubclass(kind, Number) and not issubclass(kind, (complex, np.complexfloating)) else ""


def _of_objects(what: str, values: list[Any]) -> Column:
    """A column of Python's objects, of which all that are not missing have one kind."""
    types = set(map(type, values))
    if types == {str}:
        return Column(what, "text", values, None)
    missing = np.fromiter(map(_is_missing, values), bool, len(values))
    if missing.any():
        values = [None if gone else each for each, gone in zip(values, missing.tolist(), strict=True)]
        types = set(map(type, values)) - {type(None)}
    kinds = {each: _kind(each) for each in types}
    found = {*kinds.values()}
    if found == {"numbers", "booleans"}:
        found = {"numbers"}
    if "" in found or len(found) > 1:
        raise _mixed(what, values, kinds)
    kind = found.pop() if found else "empty"
    if kind == "text" and not all(issubclass(each, str) for each in types):
        values = [None if gone else str(each) for each, gone in zip(values, missing.tolist(), strict=True)]
    if kind in ("text", "empty"):
        return Column(what, kind, values, missing if missing.any() else None)
    return _of_array(what, _OF_OBJECTS[kind](values), missing)


def _mixed(what: str, values: list[Any], kinds: dict[type, str]) -> TypeError:
    """The error for a column of objects of several kinds, or of one that no table takes."""
    present = [(i, each) for i, each in enumerate(values) if each is not None]
    for i, each in present:
        if not kinds[type(each)]:
            return _refused(what, f"{shown(each)}, a {type(each).__name__}, in row {i}")
    first = kinds[type(present[0][1])]
    i, other = next((i, each) for i, each in present if kinds[type(each)] != first)
    return TypeError(
        f"{what} must hold values of one kind, got {shown(other)} in row {i} among {KINDS[first]}; "
        "make all of them text, or leave it out by drop="
    )


def _numbers(values: list[Any]) -> NDArray[Any]:
    """Numbers of Python, None where one is missing: as integers where all are and fit, else as floats."""
    if all(isinstance(each, (Integral, np.bool_)) for each in values if each is not None):
        whole = [0 if each is None else int(each) for each in values]
        for dtype in (np.int64, np.uint64):
            try:
                return np.array(whole, dtype)
            except OverflowError:
                pass
    return np.array([0.0 if each is None else _float(each) for each in values])


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.copysign(math.inf, value)


def _booleans(values: list[Any]) -> NDArray[Any]:
    return np.array([bool(each) for each in values], bool)


def _dates(values: list[Any]) -> NDArray[Any]:
    """Dates of Python, of NumPy and of pandas, as the clocks of their time zones show them."""
    plain = [each.replace(tzinfo=None) if getattr(each, "tzinfo", None) is not None else each for each in values]
    return np.array(
        [np.datetime64("NaT", "us") if each is None else np.datetime64(each, "us") for each in plain], "M8[us]"
    )


def _durations(values: list[Any]) -> NDArray[Any]:
    return np.array([np.timedelta64(0 if each is None else each, "us") for each in values], "m8[us]")


_OF_OBJECTS = {"numbers": _numbers, "booleans": _booleans, "dates": _dates, "durations": _durations}


def _of_categories(what: str, values: list[Any]) -> Column:
    """A column that its library has as categories. Those that are no text or numbers, as intervals, are their text."""
    if not all(_kind(type(each)) in ("text", "booleans", "numbers") for each in set(values) if not _is_missing(each)):
        values = [None if _is_missing(each) else str(each) for each in values]
    return _of_objects(what, values)._replace(category=True)


# ---- a column whose kind changed ----


def _fails(column: Column, expected: str, i: int | None = None, value: Any = None) -> ValueError:
    """The error for a column that cannot be of the kind that is expected."""
    found = KINDS[column.kind] if i is None else f"{shown(value)} in row {i}"
    return ValueError(f"{column.what} must hold {expected}, got {found}")


def _empty(column: Column, kind: str, dtype: str) -> Column:
    """A column without a value, as one of a kind."""
    return column._replace(kind=kind, values=np.zeros(len(column.values), dtype))


def to_numbers(column: Column) -> Column:
    """A column as numbers: those of truth values are 0 and 1, and text is taken where all of it is of numbers."""
    if column.kind == "numbers":
        return column
    if column.kind == "booleans":
        return column._replace(kind="numbers", values=column.values.view(np.uint8))
    if column.kind == "empty":
        return _empty(column, "numbers", "f8")
    if column.kind != "text":
        raise _fails(column, "numbers")
    found: list[Any] = []
    for i, text in enumerate(column.values):
        if text is None:
            found.append(None)
        elif _WHOLE.fullmatch(text):
            found.append(int(text))
        elif _DECIMAL.fullmatch(text):
            found.append(float(text))
        else:
            raise _fails(column, "numbers", i, text)
    return _of_numbers(column.what, _numbers(found), column.missing)


def to_booleans(column: Column) -> Column:
    """A column as truth values: numbers must be 0 and 1, and text "True" and "False", "true" and "false" or these."""
    if column.kind == "booleans":
        return column
    if column.kind == "empty":
        return _empty(column, "booleans", "?")
    expected = "truth values, or 0 and 1, as in training"
    if column.kind == "text":
        for i, text in enumerate(column.values):
            if text is not None and text not in _TRUTH:
                raise _fails(column, expected, i, text)
        values = np.array([_TRUTH.get(text, False) for text in column.values], bool)
    elif column.kind == "numbers":
        wrong = (column.values != 0) & (column.values != 1)
        if wrong.any():
            i = int(wrong.argmax())
            raise _fails(column, expected, i, column.values[i].item())
        values = column.values != 0
    else:
        raise _fails(column, expected)
    return column._replace(kind="booleans", values=values)


def to_dates(column: Column) -> Column:
    """A column as dates: text is taken where all of it is of dates of ISO 8601."""
    if column.kind == "dates":
        return column
    if column.kind == "empty":
        return _empty(column, "dates", "M8[us]")
    if column.kind != "text":
        raise _fails(column, "dates, as in training")
    found: list[Any] = []
    for i, text in enumerate(column.values):
        try:
            found.append(None if text is None else datetime.datetime.fromisoformat(text))
        except ValueError:
            raise _fails(column, "dates, as in training", i, text) from None
    return _of_array(column.what, _dates(found))


def to_durations(column: Column) -> Column:
    """A column as time deltas: nothing else is taken, because the unit of numbers would be a guess."""
    if column.kind == "empty":
        return _empty(column, "durations", "f8")
    if column.kind != "durations":
        raise _fails(column, "time deltas, as in training")
    return column


def keys(column: Column) -> tuple[list[Any], bool]:
    """(the values as a dict takes them, None where one is missing; whether they are text) of a column."""
    if column.kind in ("text", "empty"):
        return column.values, True
    values = column.values.tolist()
    if column.kind == "dates":
        values = list(map(str, values))
    if column.missing is not None:
        for i in np.flatnonzero(column.missing).tolist():
            values[i] = None
    return values, column.kind == "dates"


def to_keys(column: Column, known: Mapping[Any, Any], text: bool) -> list[Any]:
    """The values of a column as keys: text or numbers, as the known ones are; None where one is missing.

    Numbers that arrive where text was must be the text of known ones, such as 7 of "7": "007" is lost in numbers.
    """
    found, of_text = keys(column)
    if of_text == text or column.kind == "empty":
        return found
    if not text:
        return keys(to_numbers(column))[0]
    texts = [None if each is None else _text(each) for each in found]
    for i, each in enumerate(texts):
        if each is not None and each not in known:
            raise _fails(column, "text of known values, as in training", i, found[i])
    return texts


def _text(value: float | bool) -> str:
    """A number as text: without a point where it is whole."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
