"""How exported Python files read tables, in NumPy alone: their text stands in these files, see `computation.Input`.

What it takes for a value of a kind is what `data.columns` takes.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def matrix(table: Any, columns: Sequence[Any], n_positions: int) -> NDArray[np.float64]:
    """The columns of a table, each (key, kind, known values), as numbers (rows, columns), NaN where one is missing.

    A table is a dict of columns, a list of dicts, a frame, or, where columns have positions, an array or a list of
    rows.
    """
    readers = {"number": number, "boolean": boolean, "date": date, "duration": duration, "category": category}
    readers |= dict.fromkeys(("known category", "known category or nothing"), known_category)
    table = by_position(table, n_positions) if n_positions else table
    found = []
    for key, kind, known in columns:
        values = cells(key, column_of(table, key))
        places = [{value: i for i, value in enumerate(known, 1)}] if known else []
        found.append(as_numbers(key, kind, values, readers[kind], places))
        if len(values) != len(found[0]):
            raise ValueError(f"table must have columns of one length, got {len(values)} values of {key!r}")
    return np.stack(found, axis=1)


def by_position(table: Any, n: int) -> dict[int, NDArray[Any]]:
    """The columns of an array, a list of rows or a frame by their positions."""
    rows = table.to_numpy() if hasattr(table, "to_numpy") else table
    rows = rows if isinstance(rows, np.ndarray) else np.array(rows, object)
    if rows.ndim != 2 or rows.shape[1] != n:
        raise ValueError(f"table must have shape (rows, {n}), got {rows.shape}")
    return dict(enumerate(rows.T))


def column_of(table: Any, key: Any) -> Any:
    """The column of a table that has a name."""
    try:
        if isinstance(table, (list, tuple)):
            return [row[key] for row in table]
        if isinstance(table, np.ndarray) and table.dtype.names is None:
            raise KeyError(key)
        return table[key]
    except Exception:
        raise ValueError(f"table must have the column {key!r}, and has none") from None


def cells(key: Any, column: Any) -> NDArray[Any]:
    """The values (rows,) of a column, as an array of NumPy's own kinds or of objects."""
    if np.ma.is_masked(column):
        raise ValueError(f"column {key!r} must hold no masked value")
    if isinstance(getattr(column, "dtype", None), np.dtype):
        values = np.asarray(column)
    else:
        for name in ("to_list", "to_pylist"):
            column = getattr(column, name)() if hasattr(column, name) else column
        if isinstance(column, (str, bytes)) or not hasattr(column, "__len__"):
            raise ValueError(f"column {key!r} must be a sequence of values, got {column!r}")
        values = np.fromiter(column, object, len(column))
    if values.ndim != 1:
        raise ValueError(f"column {key!r} must have one axis, got shape {values.shape}")
    return values


def as_numbers(key: Any, kind: str, values: Any, reader: Any, places: list[Any]) -> NDArray[Any]:
    """Values (rows,) as numbers, NaN where one is missing."""
    if kind == "number" and values.dtype.kind in "biuf":
        numbers = np.asarray(values, np.float64)
        if not (np.abs(numbers) > 1e300).any():
            return numbers
    found = np.full(len(values), np.nan)
    what = kind if kind.startswith("known") else f"{kind} or nothing"
    for i, value in enumerate(values if values.dtype.kind in "mM" else values.tolist()):
        try:
            if kind == "known category" or not is_missing(value):
                found[i] = reader(value, *places)
        except (ValueError, TypeError, LookupError, ArithmeticError):
            raise ValueError(f"column {key!r} must hold a {what}, got {value!r} in row {i}") from None
    return found


def is_missing(value: Any) -> bool:
    """Whether a value is None, NaN or the like."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return not isinstance(value, str) and bool(value != value)


def number(value: Any) -> float:
    """A number, a truth value, or text of a number."""
    if isinstance(value, (bytes, np.datetime64, np.timedelta64)):
        raise TypeError(value)
    if isinstance(value, str) and ("_" in value or not value.isascii()):  # which Python alone takes
        raise ValueError(value)
    found = float(value)
    if not abs(found) <= 1e300:
        raise ValueError(value)
    return found


def boolean(value: Any) -> float:
    """A truth value, 0 or 1, or text of them."""
    if isinstance(value, np.timedelta64):  # NumPy warns where it is compared with a number
        raise TypeError(value)
    known = {"True": 1.0, "true": 1.0, "1": 1.0, "False": 0.0, "false": 0.0, "0": 0.0}
    return known[value if isinstance(value, str) else str(int(value == 1)) if value in (0, 1) else ""]


def moment(value: Any) -> np.datetime64:
    """A date and time, or text of them in ISO 8601, as the clocks of their time zone show it."""
    if isinstance(value, str):
        value = datetime.datetime.fromisoformat(value)
    if not isinstance(value, (datetime.date, np.datetime64)):
        raise TypeError(value)
    if isinstance(value, datetime.datetime):
        value = value.replace(tzinfo=None)
    return np.datetime64(value, "us")


def date(value: Any) -> float:
    """A date, or text of one in ISO 8601, in days since 1970."""
    return float(moment(value).astype(np.int64) / 86_400_000_000)


def duration(value: Any) -> float:
    """A time delta in seconds."""
    if not isinstance(value, (datetime.timedelta, np.timedelta64)):
        raise TypeError(value)
    delta = value if isinstance(value, np.timedelta64) else np.timedelta64(value, "us")
    return float(delta / np.timedelta64(1, "s"))


def known_category(value: Any, places: Mapping[Any, int]) -> float:
    """The place of a value, which must be a known one."""
    found = 0.0 if is_missing(value) else category(value, places)
    if found == 0:
        raise ValueError(value)
    return found


def category(value: Any, places: Mapping[Any, int]) -> float:
    """The place of a value among known ones, 0 for another one.

    A number among known texts must be the text of one of them: "007" is lost in numbers.
    """
    if not isinstance(next(iter(places)), str):
        if isinstance(value, (datetime.timedelta, np.timedelta64)):
            return places.get(duration(value), 0)
        found = number(value)
        return places.get(found if isinstance(value, str) else value, 0)
    if isinstance(value, str) or type(value).__name__ in ("Interval", "Period"):
        return places.get(str(value), 0)
    if isinstance(value, (datetime.date, np.datetime64)):
        return places.get(str(moment(value).item()), 0)
    found = number(value)
    if isinstance(value, (bool, np.bool_)):
        return places[str(bool(value))]
    whole = isinstance(value, (int, np.integer)) or found.is_integer()
    return places[str(int(value) if whole else found)]
