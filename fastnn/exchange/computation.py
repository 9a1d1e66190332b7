"""What a trained network computes from the numbers of a row, as a list of steps that every format writes out."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..settings.custom import Activation
from . import numpy_columns, numpy_steps

OWN = "own"  # the function of a step that is a user's, whatever name the user gave it
INPUTS = 0  # the value that stands for the inputs; step i gives value i + 1
# What predictions are: numbers; the class of the largest output, or of one output above a threshold; or a label for
# each output above it.
NUMBERS, CLASSES, LABELS = "numbers", "classes", "labels"
# The functions that read inputs of float64 as they are, those of the columns of a table; and whose value stays float64.
OF_COLUMNS = tuple(name for name, each in vars(numpy_columns).items() if inspect.isfunction(each))
EXACT, KEPT = ("shifted", *OF_COLUMNS), ("date_parts",)


def function_of(name: str) -> Callable[..., NDArray[Any]]:
    """What a step does, by the name of its function."""
    found: Callable[..., NDArray[Any]] = getattr(numpy_columns if name in OF_COLUMNS else numpy_steps, name)
    return found


@dataclass(frozen=True)
class Step:
    """A step: its function in `numpy_steps` or `numpy_columns`, the values it reads, and its operands by name."""

    function: str
    reads: tuple[int, ...]
    width: int  # of its value, (rows, width)
    operands: dict[str, Any] = field(default_factory=dict)  # arrays in the computation's dtype, indices and numbers
    own: Activation | None = None  # a user's function

    def value(self, *read: NDArray[Any]) -> NDArray[Any]:
        """What the step gives for the values that it reads."""
        if self.own is not None:
            function = np.vectorize(self.own.value, otypes=[np.float64])
            return function(*read).astype(read[0].dtype)
        found: NDArray[Any] = function_of(self.function)(*read, **self.operands)
        return found


@dataclass(frozen=True)
class Decision:
    """What a prediction is, beside the outputs, which are the last value."""

    kind: str  # NUMBERS, CLASSES or LABELS
    labels: NDArray[Any] | None = None  # (n_classes,): bools, integers, floats or text, in the order of the outputs
    threshold: float = 0.5  # above it a single output is for the second class, and each output for its label
    single: bool = False  # whether predictions of numbers have shape (rows,)
    deviations: bool = False  # whether the second half of the outputs are standard deviations of the first
    probabilities: bool = True  # whether outputs are probabilities

    @property
    def n_classes(self) -> int:
        """How many classes there are."""
        return 0 if self.labels is None else len(self.labels)


@dataclass(frozen=True)
class Input:
    """A column of a table: in the matrix that steps read it is a number, NaN where a value is missing.

    The number of a truth value is 0 or 1, of a date its days since 1970, of a time delta its seconds, of a category its
    place among `values`, counted from 1, and 0 for another one. Files that read values themselves refuse another one of
    a known category, and a missing one where that is not known.
    """

    name: str
    kind: str  # "number", "boolean", "date", "duration", "category", "known category", "known category or nothing"
    values: tuple[Any, ...] = ()  # all strings, or all numbers
    key: str | int = ""  # what finds the column: its name in training, or its position where columns had no names


@dataclass(frozen=True)
class Computation:
    """The steps of a network, or of several whose outputs are averaged, and what its outputs stand for.

    The steps of a table's columns compute in float64, all others in the network's dtype.
    """

    dtype: str  # of the network
    n_inputs: int
    steps: tuple[Step, ...]
    decision: Decision
    feature_names: tuple[str, ...] | None = None
    inputs: tuple[Input, ...] = ()  # the columns of a table, which the matrix of inputs holds as float64; else none
    n_positions: int = 0  # how many columns a table has whose columns are found by their positions; else 0

    @property
    def input_dtype(self) -> str:
        """The dtype of the matrix of inputs."""
        return "float64" if self.inputs else self.dtype

    @property
    def n_outputs(self) -> int:
        """How many outputs there are."""
        return self.steps[-1].width

    @property
    def widths(self) -> tuple[int, ...]:
        """The width of each value, of the inputs first."""
        return (self.n_inputs, *(step.width for step in self.steps))

    @property
    def functions(self) -> set[str]:
        """The functions of all steps."""
        return {step.function for step in self.steps if step.own is None}

    @property
    def n_parameters(self) -> int:
        """How many numbers its operands have."""
        return sum(each.size for step in self.steps for each in step.operands.values() if isinstance(each, np.ndarray))

    @property
    def multiply_adds(self) -> int:
        """What the products of a row take."""
        return sum(step.operands["weight"].size for step in self.steps if step.function == "dense")

    def values(self, X: Any, dtype: Any = None, evaluate: Callable[..., Any] = Step.value) -> list[NDArray[Any]]:
        """The inputs and what each step gives, for rows X (rows, n_inputs), in a dtype or its own.

        evaluate(step, *read) is the value of a step.
        """
        dtype = dtype or self.dtype
        inputs = np.asarray(X)
        with np.errstate(all="ignore"):
            found = [inputs.astype(dtype)]
            for step in self.steps:
                exact = step.function in EXACT and step.reads == (INPUTS,)  # float64 is subtracted before it is rounded
                value = evaluate(step, *([inputs] if exact else [found[i] for i in step.reads]))
                found.append(value if step.function in KEPT else value.astype(dtype))
        return found

    def outputs(self, X: Any, dtype: Any = None) -> NDArray[Any]:
        """The outputs (rows, n_outputs) for rows X (rows, n_inputs), in a dtype or its own."""
        return self.values(X, dtype)[-1]

    def probabilities(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """Outputs (rows, n_outputs) with a column for each class, where a single one decides between two."""
        two = self.decision.kind == CLASSES and outputs.shape[1] == 1 and self.decision.probabilities
        return np.hstack([1 - outputs, outputs]) if two else outputs

    def predictions(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """What outputs (rows, n_outputs) stand for: (rows,), or (rows, n_outputs) of several numbers or labels."""
        decision = self.decision
        if decision.kind == NUMBERS:
            found = outputs[:, : outputs.shape[1] // 2] if decision.deviations else outputs
            return found[:, 0] if decision.single else found
        if decision.kind == LABELS:
            return (outputs > decision.threshold).astype(np.int64)
        assert decision.labels is not None
        one = outputs.shape[1] == 1
        return decision.labels[(outputs[:, 0] > decision.threshold).astype(int) if one else outputs.argmax(axis=1)]


class Steps:
    """Steps in the making."""

    def __init__(self, n_inputs: int, dtype: str):
        self.dtype, self.made, self.widths = np.dtype(dtype), list[Step](), [n_inputs]

    def add(self, function: str, *reads: int, width: int | None = None, **operands: Any) -> int:
        """Add a step; gives the number of its value, which is as wide as what it reads unless something is said."""
        found = {name: self._operand(function, value) for name, value in operands.items()}
        names = list(inspect.signature(function_of(function)).parameters)[-len(found) :] if found else []
        assert sorted(names) == sorted(found), function
        return self._append(Step(function, reads, self.widths[reads[0]] if width is None else width, found))

    def shift(self, read: int, shift: NDArray[np.float64], scale: NDArray[np.float64]) -> int:
        """Add (x - shift) * scale, each (width,), where that changes something: the shift is in two numbers."""
        if not shift.any() and (scale == 1).all():
            return read
        largest = float(np.abs([shift, scale]).max())
        if largest > float(np.finfo(self.dtype).max):
            raise ValueError(f"shifts and scales of inputs must be finite in {self.dtype}, got {largest:.6g}")
        high = shift.astype(self.dtype)
        return self.add("shifted", read, high=high, low=shift - high, scale=scale)

    def activate(self, activation: str | Activation, read: int) -> int:
        """Add an activation."""
        if activation == "identity":
            return read
        if isinstance(activation, Activation):
            return self._append(Step(OWN, (read,), self.widths[read], own=activation))
        return self.add(activation, read)

    def _append(self, step: Step) -> int:
        self.made.append(step)
        self.widths.append(step.width)
        return len(self.made)

    def _operand(self, function: str, value: Any) -> Any:
        """An operand that nobody else changes: arrays of floats have the computation's dtype."""
        if not isinstance(value, np.ndarray):
            return value
        dtype = np.float64 if function in OF_COLUMNS else self.dtype
        copy = np.array(value, dtype if value.dtype.kind == "f" else np.int64, order="C")
        copy.flags.writeable = False
        return copy
