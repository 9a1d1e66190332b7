"""What a computation is in Python and in JavaScript alike: calls of functions, labels, and arrays as base64."""

from __future__ import annotations

import base64
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks.scalars import shown
from .computation import EXACT, INPUTS, OF_COLUMNS, Computation, Step, function_of
from .self_test import SelfTest

LINE = "{rows} rows, largest error {error}, {ulp} ulp, {wrong} labels differ"  # what a file says of its self test
CHANGED = "; parameters, labels or names have changed"  # which follows where a checksum differs


@dataclass(frozen=True)
class Script:
    """The calls of a computation, whose results are v1, v2 and so on.

    x are inputs as they are given, v0 are inputs rounded to the network's dtype, w is the list of all arrays of floats,
    but for those of the steps of a table's columns, which are in the list c, in float64.
    """

    functions: list[str]  # of `numpy_steps` and `numpy_columns`, in the order of their first call
    own: dict[str, str]  # names in the file of a user's functions, and their expressions of x
    calls: list[str]  # such as "dense(v0, w[0], w[1])"
    shapes: str  # of w, as JSON
    parameters: str  # w as base64
    column_shapes: str  # of c, as JSON
    statistics: str  # c as base64
    rows: str  # inputs and outputs of the self test, as base64, in the computation's dtype of inputs

    @classmethod
    def of(cls, computation: Computation, test: SelfTest, expressions: Mapping[str, str]) -> Script:
        """The script of a computation."""
        w, c, calls = list[NDArray[Any]](), list[NDArray[Any]](), list[str]()
        owned = dict.fromkeys(step.own.name for step in computation.steps if step.own is not None)
        names = {name: f"own{i}" for i, name in enumerate(owned)}
        for step in computation.steps:
            exact = step.function in EXACT and step.reads == (INPUTS,)
            arguments = ["x"] if exact else [f"v{read}" for read in step.reads]
            name, arrays = ("c", c) if step.function in OF_COLUMNS else ("w", w)
            for operand in _in_order(step):
                if isinstance(operand, np.ndarray) and operand.dtype.kind == "f":
                    arguments.append(f"{name}[{len(arrays)}]")
                    arrays.append(operand)
                else:
                    arguments.append(json.dumps(np.asarray(operand).tolist()))
            function = step.function if step.own is None else names[step.own.name]
            calls.append(f"{function}({', '.join(arguments)})")
        return cls(
            list(dict.fromkeys(step.function for step in computation.steps if step.own is None)),
            {names[name]: expressions[name] for name in names},
            calls,
            json.dumps([list(array.shape) for array in w]),
            _base64(w),
            json.dumps([list(array.shape) for array in c]),
            _base64(c),
            _base64([test.inputs, test.outputs.astype(test.inputs.dtype)]),
        )

    @property
    def reads_rounded(self) -> bool:
        """Whether v0 is read."""
        return any("v0" in call for call in self.calls)


def _in_order(step: Step) -> list[Any]:
    """The operands in the order of the function's parameters."""
    if step.own is not None:
        return []
    names = inspect.signature(function_of(step.function)).parameters
    return [step.operands[name] for name in names if name in step.operands]


def _base64(arrays: Sequence[NDArray[Any]]) -> str:
    """The bytes of arrays one after the other, in C order and little-endian."""
    found = b"".join(array.astype(array.dtype.newbyteorder("<")).tobytes() for array in arrays)
    return base64.b64encode(found).decode()


def plain_labels(labels: NDArray[Any]) -> list[bool | int | float | str]:
    """Labels as values of Python; raises for what is not text, a truth value or a number that a file can hold."""
    found = labels.tolist()
    for label in found:
        plain = isinstance(label, (bool, int, float, str)) and labels.dtype.kind in "biufUO"
        if not plain or (isinstance(label, float) and not np.isfinite(label)):
            raise ValueError(f"labels must be text, booleans, integers or finite floats, got {shown(label)}")
    return found
