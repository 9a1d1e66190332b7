"""ONNX: the nodes and constants of a graph in the making."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np

IR_VERSION = 8
OPSET, LATER_OPSET = 18, 20  # of the standard operators: the second one has Gelu, Equal of text and QuantizeLinear


def _onnx() -> Any:
    """The package onnx, or an error that says how to get it."""
    try:
        return import_module("onnx")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("ONNX files need onnx: pip install 'fastnn-numba[onnx]'") from error


@dataclass
class Graph:
    """Nodes and constants in the making. A value is known by its name."""

    dtype: np.dtype[Any]  # of numbers among constants
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)
    opset: int = OPSET

    def add(self, operator: str, *reads: Any, **attributes: Any) -> str:
        """Add a node, and a constant for each number or array that it reads; gives the name of its value."""
        if operator in ("Add", "Sub", "Mul", "Div") and not isinstance(reads[1], str):
            constant, neutral = self._array(reads[1]), float(operator in ("Mul", "Div"))
            with np.errstate(all="ignore"):  # of what float32 cannot hold
                rounded = constant.astype(np.float32)
            if constant.size == 1 and rounded.item() == neutral != constant.item():
                return self._nearly_neutral(operator, reads[0], constant)
        name = f"{operator}_{len(self.nodes) + 1}"
        reads = tuple(
            read if isinstance(read, str) else self._constant(f"{name}_{i}", read) for i, read in enumerate(reads)
        )
        self.nodes.append(_onnx().helper.make_node(operator, reads, [name], name, **attributes))
        return name

    def cast(self, value: str, dtype: Any) -> str:
        """Add what turns a value into a dtype."""
        return self.add("Cast", value, to=_onnx().helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def halves(self, value: str) -> tuple[str, str]:
        """Two values, of half the columns each."""
        first = self.add("Split", value, axis=1, num_outputs=2)
        second = f"{first}_second"
        self.nodes[-1].output.append(second)
        return first, second

    def rename(self, names: dict[str, str]) -> None:
        """Give values other names."""
        for node in self.nodes:
            node.input[:] = [names.get(name, name) for name in node.input]
            node.output[:] = [names.get(name, name) for name in node.output]

    def model(self, name: str, inputs: list[Any], outputs: list[Any]) -> Any:
        """The whole as a model."""
        helper = _onnx().helper
        graph = helper.make_graph(self.nodes, name, inputs, outputs, self.constants)
        return helper.make_model(
            graph, ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", self.opset)], producer_name="fastnn"
        )

    def _nearly_neutral(self, operator: str, read: str, constant: Any) -> str:
        """Add what ONNX Runtime 1.32 would leave out: it takes a float64 for 0 or 1 where its float32 is that."""
        if operator in ("Add", "Sub"):
            return self.add("Sum", read, constant if operator == "Add" else -constant)
        more = constant - 1 if operator == "Mul" else (1 - constant) / constant
        return self.add("Sum", read, self.add("Mul", read, more))

    def _constant(self, name: str, value: Any) -> str:
        self.constants.append(_onnx().numpy_helper.from_array(self._array(value), name))
        return name

    def _array(self, value: Any) -> Any:
        """The array of a constant: a number has the graph's dtype, an array its own."""
        return value if isinstance(value, np.ndarray) else np.array(value, self.dtype)
