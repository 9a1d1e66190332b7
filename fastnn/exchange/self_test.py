"""The rows that travel with an export: whoever runs it can tell that it computes what the network computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import scalars
from ..data import arrays
from .computation import Computation

ROWS = 16
TOLERANCE = {"float32": 1e-6, "float64": 1e-12}  # of outputs, relative to those above 1 in size, at least


@dataclass(frozen=True)
class SelfTest:
    """Rows of inputs, and what the network gives for them."""

    inputs: NDArray[Any]  # (rows, n_inputs), in the computation's dtype
    outputs: NDArray[Any]  # (rows, n_outputs), in the computation's dtype
    predictions: NDArray[Any]  # (rows,) or (rows, n_outputs), see `Computation.predictions`
    tolerance: float

    @classmethod
    def of(cls, computation: Computation, rows: Any = None) -> SelfTest:
        """The first ROWS of some rows (n, n_inputs), or drawn ones where there are none.

        Drawn ones are normal numbers, in the units of inputs that are shifted and scaled, and codes that there are.
        """
        n, dtype = computation.n_inputs, computation.dtype
        if rows is None:
            given = _drawn(computation)
        else:
            found = np.asarray(rows)
            if found.ndim != 2 or not len(found):
                raise ValueError(f"rows must have shape (n, {n}) with at least one row, got {found.shape}")
            given = arrays.parameters("rows", found[:ROWS], (min(len(found), ROWS), n), dtype)
        inputs = np.ascontiguousarray(given, dtype)
        exact, rounded = computation.outputs(inputs, "float64"), computation.outputs(inputs)
        with np.errstate(all="ignore"):  # of infinite outputs
            apart = np.abs(rounded - exact) / np.maximum(np.abs(exact), 1)  # what rounding does in any order of sums
            outputs = exact.astype(dtype)
        return cls(inputs, outputs, computation.predictions(outputs), max(TOLERANCE[dtype], 4 * float(apart.max())))


def _drawn(computation: Computation) -> NDArray[np.float64]:
    found = np.random.default_rng(0).standard_normal((ROWS, computation.n_inputs))
    for step in computation.steps:
        if step.function == "shifted":
            scale = step.operands["scale"].astype(np.float64)
            shift = step.operands["high"] + step.operands["low"].astype(np.float64)
            return found / np.where(scale == 0, 1, scale) + shift
        if step.function == "looked_up":
            codes = np.random.default_rng(step.operands["column"]).integers(0, len(step.operands["table"]), ROWS)
            found[:, step.operands["column"]] = codes
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
