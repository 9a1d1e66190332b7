"""The rows that travel with an export: whoever runs it can tell that it computes what the network computed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import scalars
from ..data import arrays
from .computation import EXACT, INPUTS, OF_COLUMNS, Computation, Step

ROWS = 16
DRAWS = 8  # of what rounding does
MISSING = 0.1  # of the drawn values of a table
YEARS, DAYS = 60, 365.2425  # since 1970, which dates are drawn from; of a year
TOLERANCE = {"float32": 1e-6, "float64": 1e-12}  # of outputs, relative to those above 1 in size, at least


@dataclass(frozen=True)
class SelfTest:
    """Rows of inputs, and what the network gives for them."""

    inputs: NDArray[Any]  # (rows, n_inputs), in the computation's dtype of inputs
    outputs: NDArray[Any]  # (rows, n_outputs), in the computation's dtype
    predictions: NDArray[Any]  # (rows,) or (rows, n_outputs), see `Computation.predictions`
    tolerance: float

    @classmethod
    def of(cls, computation: Computation, rows: Any = None) -> SelfTest:
        """The first ROWS of some rows (n, n_inputs), or drawn ones where there are none.

        Drawn ones are normal numbers, in the units of inputs that are shifted and scaled, and codes that there are. Of
        a table, whose rows are the matrix of inputs, they are as in training, with unknown and missing values.
        """
        n, dtype = computation.n_inputs, computation.dtype
        if rows is None and computation.inputs:
            given = _drawn_table(computation)
        elif rows is None:
            given = _drawn(computation)
        else:
            given = matrix("rows", rows, n)[:ROWS]
            if not computation.inputs:  # else NaN is a missing value
                given = arrays.parameters("rows", given, (len(given), n), dtype)
        inputs = np.ascontiguousarray(given, computation.input_dtype)
        exact, rounding = computation.outputs(inputs, "float64"), _Rounding(dtype)
        with np.errstate(all="ignore"):  # of infinite outputs
            rounded = [computation.values(inputs, "float64", rounding.value)[-1] for _ in range(DRAWS)]
            # What rounding does to the smallest output: in one row it may do nothing.
            apart = np.abs(np.array(rounded) - exact).max(axis=(0, 1)) / np.maximum(np.abs(exact), 1)
            outputs = exact.astype(dtype)
        tolerance = max(TOLERANCE[dtype], float(f"{4 * apart.max():.1e}"))
        return cls(inputs, outputs, computation.predictions(outputs), tolerance)


class _Rounding:
    """Draws what rounding to a dtype does in each step, by any compiler and in any order of sums.

    Numbers that a step reads and those that it gives are up to half a unit in the last place off. The errors of n
    products' sum are random as well: half a unit of the products, which may cancel, and sqrt(n) times that of the sum.
    """

    def __init__(self, dtype: str):
        self._half, self._rng = float(np.finfo(dtype).eps) / 2, np.random.default_rng(0)

    def value(self, step: Step, *read: NDArray[Any]) -> NDArray[Any]:
        """The value of a step for what it reads."""
        if step.function in OF_COLUMNS:  # float64 in every file
            return step.value(*read)
        if step.function not in (*EXACT, "looked_up"):
            read = tuple(self._off(each, each) for each in read)
        found, size = step.value(*read), None
        if step.function == "dense":
            weight = np.abs(step.operands["weight"].astype(np.float64))
            size = np.abs(read[0]) @ weight.T + math.sqrt(weight.shape[1]) * np.abs(found)
        return self._off(found, found if size is None else size)

    def _off(self, x: NDArray[Any], size: NDArray[Any]) -> NDArray[Any]:
        found: NDArray[Any] = x + self._half * np.where(np.isfinite(size), size, 0) * self._rng.uniform(-1, 1, x.shape)
        return found


def matrix(name: str, X: Any, n_inputs: int, fewest: int = 1) -> NDArray[Any]:
    """Rows that the user gives as an array (n, n_inputs); raises where they are too few."""
    found = np.asarray(X)
    if found.ndim != 2 or found.shape[1] != n_inputs or len(found) < fewest:
        raise ValueError(f"{name} must have shape (n, {n_inputs}) with n >= {fewest}, got {found.shape}")
    return found


def _drawn(computation: Computation) -> NDArray[np.float64]:
    found = np.random.default_rng(0).standard_normal((ROWS, computation.n_inputs))
    for step in computation.steps:
        if step.function == "shifted" and step.reads == (INPUTS,):
            scale = step.operands["scale"].astype(np.float64)
            shift = step.operands["high"] + step.operands["low"].astype(np.float64)
            return found / np.where(scale == 0, 1, scale) + shift
        if step.function == "looked_up":
            codes = np.random.default_rng(step.operands["column"]).integers(0, len(step.operands["table"]), ROWS)
            found[:, step.operands["column"]] = codes
    return found


def _drawn_table(computation: Computation) -> NDArray[np.float64]:
    """Numbers and dates around those of the training, places of known values and 0, and some NaN in each column."""
    rng = np.random.default_rng(0)
    found = rng.standard_normal((ROWS, computation.n_inputs))
    dates = dict[int, int]()  # the columns of the values that are parts of dates
    for j, each in enumerate(computation.inputs):
        if each.kind in ("boolean", "category"):
            found[:, j] = rng.integers(0, max(2, len(each.values) + 1), ROWS)
        elif each.values:
            found[:, j] = rng.integers(1, len(each.values) + 1, ROWS)
        elif each.kind == "date":
            found[:, j] = rng.uniform(0, YEARS * DAYS, ROWS)  # where all dates have one year
    for i, step in enumerate(computation.steps, 1):
        if step.function == "date_parts":
            dates[i] = step.operands["column"]
        elif step.function == "numbers" and step.reads[0] in dates:
            found[:, dates[step.reads[0]]] = (_around(step, rng) - 1970) * DAYS
        elif step.function == "numbers" and step.reads == (INPUTS,):
            found[:, step.operands["column"]] = _around(step, rng)
        elif step.function == "shifted_columns":
            which, shift, scale = (step.operands[name] for name in ("which", "shift", "scale"))
            drawn = shift + rng.standard_normal((ROWS, len(which))) / np.where(scale == 0, 1, scale)
            tells = (shift != 0) | (scale != 1)
            found[:, which[tells]] = drawn[:, tells]
    missing = rng.random(found.shape) < MISSING
    for j, each in enumerate(computation.inputs):  # and where a missing value gives no NaN
        row = np.where(np.arange(len(computation.inputs)) == j, np.nan, found[:1])
        missing[:, j] &= each.kind != "known category" and not np.isnan(computation.outputs(row)).any()
    found[missing] = np.nan
    return found


def _around(step: Step, rng: Any) -> NDArray[np.float64]:
    """Numbers (ROWS,) around those that a column of numbers had in training."""
    cuts, scale = step.operands["cuts"], step.operands["scale"]
    middle = rng.choice(cuts, ROWS) if len(cuts) else step.operands["centre"]
    found: NDArray[np.float64] = middle + scale * rng.standard_normal(ROWS) / (4 if len(cuts) else 1)
    return found


def name_of(name: Any, path: Any) -> str:
    """The name of an export, which C and JavaScript use: letters, digits and underscores, no digit first.

    None is that of the file. Raises ValueError for another one.
    """
    if name is None:
        stem = path.stem
        found = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in stem)
        return f"_{found}" if not found or found[0].isdigit() else found
    if not isinstance(name, str) or not name.isascii() or not name.isidentifier():
        raise ValueError(f"name must be letters, digits and underscores, no digit first, got {scalars.shown(name)}")
    return name
