"""What the columns of a table are in ONNX: an input each, and nodes that compute in double."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..checks.scalars import shown
from ..data.encodings import EXACT, FAR, MOST_RANK
from .computation import INPUTS, Computation, Input
from .onnx_graph import Graph


class Given(NamedTuple):
    """How a column is given: an input (rows,), and for text and large integers one that tells of missing values.

    That is there where the network tells missing values from unknown ones. In doubles NaN is missing.
    """

    column: Input
    dtype: np.dtype[Any]  # float64, int64, or object for text
    flag: str | None  # the name of the second input

    def described(self) -> dict[str, Any]:
        """In JSON."""
        column = self.column
        return {"name": column.name, "kind": column.kind, "values": column.values, "missing": self.flag}


def given(computation: Computation) -> list[Given]:
    """How the columns of a computation are given; raises ValueError for categories that ONNX cannot compare."""
    apart = {
        step.operands["column"]
        for step in computation.steps
        if step.reads == (INPUTS,)
        and (step.function == "missing" or (step.function == "one_hot" and 0 in step.operands["places"]))
    }
    found = list[Given]()
    for i, column in enumerate(computation.inputs):
        dtype = dtype_of(column.values)
        found.append(Given(column, dtype, f"{column.name} missing" if dtype.kind != "f" and i in apart else None))
    return found


def dtype_of(values: tuple[Any, ...]) -> np.dtype[Any]:
    """The dtype of a column, by its categories if it has some."""
    if values and isinstance(values[0], str):
        return np.dtype(object)
    if all(abs(value) <= EXACT or isinstance(value, float) for value in values):
        return np.dtype(np.float64)
    if all(isinstance(value, int) and -(2**63) <= value < 2**63 for value in values):
        return np.dtype(np.int64)
    raise ValueError(f"categories in ONNX must be text, float64 or int64, got {shown(values)}")


def matrix(graph: Graph, columns: list[Given]) -> str:
    """The matrix of inputs (rows, columns), see `Computation`."""
    return graph.add("Concat", *(_number(graph, each) for each in columns), axis=1)


def _number(graph: Graph, column: Given) -> str:
    x = graph.add("Unsqueeze", column.column.name, np.array([1]))
    if not column.column.values:
        return x
    same = graph.add("Equal", x, np.array(column.column.values, column.dtype)[None])
    first = graph.add("ArgMax", graph.cast(same, np.uint8), axis=1)
    known = graph.add("GatherElements", same, first, axis=1)
    found = graph.add("Where", known, graph.add("Add", graph.cast(first, np.float64), 1), 0)
    if column.dtype.kind == "f":
        return graph.add("Where", graph.add("IsNaN", x), np.nan, found)
    if column.flag is None:
        return found
    return graph.add("Where", graph.add("Unsqueeze", column.flag, np.array([1])), np.nan, found)


def fed(columns: list[Mapping[str, Any]], X: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """The inputs of a file for a matrix (rows, columns), by the columns as they are described there.

    For what is unknown there is a value that is not among the known ones.
    """
    found = dict[str, NDArray[Any]]()
    for column, x in zip(columns, X.T, strict=True):
        gaps, known = np.isnan(x), column["values"]
        if known:
            other = next(i for i in count() if i not in known and str(i) not in known)
            dtype = dtype_of(tuple(known))
            values = np.array([str(other) if dtype.kind == "O" else other, *known], dtype)
            x = values[np.where(gaps, 0, x).astype(int)]
            if dtype.kind == "f":
                x[gaps] = np.nan
        found[column["name"]] = np.ascontiguousarray(x)
        if column["missing"] is not None:
            found[column["missing"]] = gaps
    return found


# ---- steps ----


def _column(graph: Graph, x: str, column: int) -> str:
    return graph.add("Gather", x, np.array([column]), axis=1)


def _filled(graph: Graph, x: str, at: Any) -> str:
    """How far each part between some numbers is filled, from 0 to 1."""
    part = graph.add("Div", graph.add("Sub", x, at[None, :-1]), np.diff(at)[None])
    return graph.add("Min", graph.add("Max", part, 0), 1)


def _numbers(
    graph: Graph, x: str, column: int, centre: float, scale: float, limit: float, cuts: Any, edges: Any
) -> str:
    v = _column(graph, x, column)
    missing = graph.add("IsNaN", v)
    v = graph.add("Where", missing, centre, v)
    z = graph.add("Div", graph.add("Sub", v, centre), scale)
    z = graph.add("Min", graph.add("Max", z, -FAR), FAR)
    q = graph.add("Div", z, limit)
    found = graph.add("Div", z, graph.add("Sqrt", graph.add("Add", graph.add("Mul", q, q), 1)))
    if len(cuts):
        filled = graph.add("ReduceSum", _filled(graph, v, cuts), np.array([1]))
        rank = graph.add("Sub", graph.add("Mul", filled, 2 * MOST_RANK / (len(cuts) - 1)), MOST_RANK)
        found = graph.add("Concat", found, rank, *([_filled(graph, v, edges)] if len(edges) else []), axis=1)
    return graph.add("Where", missing, 0, found)


def _shifted_columns(graph: Graph, x: str, which: Any, shift: Any, scale: Any) -> str:
    return graph.add("Mul", graph.add("Sub", graph.add("Gather", x, which, axis=1), shift), scale)


def _contrast(graph: Graph, x: str, column: int, low: float, high: float) -> str:
    v = _column(graph, x, column)
    return graph.add("Sub", *(graph.cast(graph.add("Equal", v, each), np.float64) for each in (high, low)))


def _one_hot(graph: Graph, x: str, column: int, places: Any) -> str:
    return graph.cast(graph.add("Equal", _column(graph, x, column), places[None]), np.float64)


def _codes(graph: Graph, x: str, column: int) -> str:
    v = _column(graph, x, column)
    return graph.add("Where", graph.add("IsNaN", v), 0, v)


def _missing(graph: Graph, x: str, column: int) -> str:
    return graph.cast(graph.add("IsNaN", _column(graph, x, column)), np.float64)


def _times(graph: Graph, x: str, n: int) -> str:
    """How often n is in x."""
    return graph.add("Floor", graph.add("Div", x, n))


def _rest(graph: Graph, x: str, n: int) -> str:
    """What is left of x without the times that n is in it."""
    return graph.add("Sub", x, graph.add("Mul", _times(graph, x, n), n))


def _days(graph: Graph, years: str) -> str:
    """The days of the first years of the calendar."""
    leaps = graph.add("Sub", _times(graph, years, 4), _times(graph, years, 100))
    leaps = graph.add("Add", leaps, _times(graph, years, 400))
    return graph.add("Add", graph.add("Mul", years, 365), leaps)


def _date_parts(graph: Graph, x: str, column: int) -> str:
    """As `numpy_columns.date_parts`, where the length of a year is that from its first day to the next year's."""
    v = _column(graph, x, column)
    day = graph.add("Floor", v)
    shifted = graph.add("Add", day, 719468)
    of_era = _rest(graph, shifted, 146097)
    least = graph.add("Sub", of_era, graph.add("Add", _times(graph, of_era, 1460), _times(graph, of_era, 146096)))
    years = _times(graph, graph.add("Add", least, _times(graph, of_era, 36524)), 365)
    of_years = graph.add("Sub", of_era, _days(graph, years))
    ended = graph.cast(graph.add("GreaterOrEqual", of_years, 306), np.float64)
    eras = graph.add("Mul", _times(graph, shifted, 146097), 400)
    year = graph.add("Add", graph.add("Add", years, eras), ended)
    first = _days(graph, graph.add("Sub", year, 1))
    since = graph.add("Add", graph.add("Sub", v, first), 719162)
    of_year = graph.add("Div", since, graph.add("Sub", _days(graph, year), first))
    weekday = _rest(graph, graph.add("Add", day, 3), 7)
    return graph.add("Concat", graph.add("Add", year, of_year), of_year, graph.add("Sub", v, day), weekday, axis=1)


def _cycle(graph: Graph, x: str, column: int) -> str:
    v = _column(graph, x, column)
    angle = graph.add("Mul", v, 2 * np.pi)
    both = graph.add("Concat", graph.add("Sin", angle), graph.add("Cos", angle), axis=1)
    return graph.add("Where", graph.add("IsNaN", v), 0, both)


# By the names of `numpy_columns`, as `onnx_file.WRITERS`.
WRITERS: dict[str, Callable[..., str]] = {
    "numbers": _numbers,
    "shifted_columns": _shifted_columns,
    "contrast": _contrast,
    "one_hot": _one_hot,
    "codes": _codes,
    "missing": _missing,
    "date_parts": _date_parts,
    "cycle": _cycle,
}
