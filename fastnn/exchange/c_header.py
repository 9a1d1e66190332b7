"""A trained network as a header of C99 and C++11, which needs no library."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import c_columns, c_functions
from .c_compiling import verify as verify
from .c_functions import FUNCTIONS, OFFERED, Call, Place, needed, number, translated
from .c_integers import IntegerHeader
from .c_memory import GATHERED, WRITERS, Plan
from .c_text import ITEM_BYTES, Header
from .computation import INPUTS, OF_COLUMNS, Computation, Step
from .quantizing import Quantized
from .self_test import SelfTest


def written(computation: Computation, test: SelfTest, name: str, expressions: Mapping[str, str]) -> bytes:
    """The bytes of the header."""
    header = _Header(computation, name, expressions)
    return header.text(test).encode()


def quantized(network: Quantized, rows: Any, name: str, expressions: Mapping[str, str]) -> bytes:
    """The bytes of the header of a network of integers, whose activations are tables."""
    return IntegerHeader(network, name).text(network.self_test(rows, exactly=True)).encode()


class _Header(Header):
    """A header that computes with numbers of the network's type."""

    def __init__(self, computation: Computation, name: str, expressions: Mapping[str, str]):
        unknown = computation.functions - WRITERS.keys()
        if unknown:
            raise ValueError(f"a C header has no {sorted(unknown)[0]!r}, a function of this network")
        super().__init__(computation, name)
        self.plan = Plan(computation)
        own = dict.fromkeys(step.own.name for step in computation.steps if step.own is not None)
        self.own = {each: (f"own{i}", expressions[each]) for i, each in enumerate(own)}

    def text(self, test: SelfTest) -> str:
        """The whole file."""
        predict = self._predict()
        own = [self._own(*each) for each in self.own.values()]
        calls = "\n".join([predict, *own])
        columns = [c_columns.FUNCTIONS[each].strip() for each in self._of_columns(calls)]
        functions = [FUNCTIONS[each].strip() for each in needed(calls)]
        code = "\n\n".join([*functions, *own, predict, self._rows(), *self._decisions()])
        of_columns = [c_columns.in_c("\n\n".join(columns), self.name, self.dtype)] if columns else []
        computation, sizes = self.computation, self.plan.sizes
        stack = sizes["work"] * ITEM_BYTES[self.real] + sizes["parts"] * ITEM_BYTES["double"]
        comment = [
            f"{computation.n_parameters:,} parameters, {computation.multiply_adds:,} multiply-adds a row, {self.real}.",
            f"{self.table_bytes:,} bytes of tables, which are constant; {stack:,} bytes of numbers on the stack.",
        ]
        return self.whole(comment, [*of_columns, translated(code, self.name, self.dtype)], test)

    def _of_columns(self, calls: str) -> list[str]:
        """The functions of columns that a text calls; days are for whoever has dates."""
        dates = "@days(" if any(each.kind == "date" for each in self.computation.inputs) else ""
        return needed(calls + dates, c_columns.FUNCTIONS)

    # ---- tables ----

    def _operands(self, step: Step) -> dict[str, str]:
        """The operands of a step in C: names of tables, and numbers."""
        found, dtype = dict[str, str](), self.dtype
        operands = step.operands
        if step.function in OF_COLUMNS:
            dtype, operands = "float64", c_columns.operands(step)
        for operand, value in operands.items():
            if not isinstance(value, np.ndarray):
                found[operand] = str(value) if isinstance(value, int) else number(value, self.dtype)
            elif operand == "which" and (np.diff(value) == 1).all():
                found[operand] = str(value[0])
            else:
                transposed = step.function == "dense" and operand == "weight"  # (fan_in, width): read from one end
                found[operand] = self.table(operand, value.T if transposed else value, _type_of(value, dtype))
                found[f"{operand}_rows"] = str(len(value))
        return found

    # ---- functions ----

    def _own(self, name: str, expression: str) -> str:
        """A function of a user, which may call some functions of the header."""
        called = re.sub(rf"\b({'|'.join(OFFERED)})(?=\s*\()", r"@\1", expression)
        called = re.sub(r"(?<=\d)\.(?![\w.])", ".0", called)
        return f"static inline real @{name}(real x)\n{{\n    return {called};\n}}"

    def _statements(self) -> Iterator[str]:
        places = self.plan.places
        yield from self._taken(INPUTS)
        for value, step in enumerate(self.computation.steps, 1):
            reads = tuple(places[read] for read in step.reads)
            if step.own is not None:
                writer = c_functions.each(f"@{self.own[step.own.name][0]}(x)")
                yield writer.text(Call(reads, places[value], {}))
            elif step.function == "mean":
                yield WRITERS["mean"].text(
                    Call((places[value],), places[value], {"count": number(len(reads), self.dtype)})
                )
            elif step.function not in GATHERED:
                yield WRITERS[step.function].text(Call(reads, places[value], self._operands(step)))
            yield from self._taken(value)

    def _taken(self, value: int) -> Iterator[str]:
        """What the steps do that take a value as soon as it is there."""
        places, widths = self.plan.places, self.computation.widths
        place = places[value]
        for reader, step in enumerate(self.computation.steps, 1):
            if step.own is not None or step.function not in GATHERED:
                continue
            joined, to, first = step.function == "joined", places[reader], 0
            for position, read in enumerate(step.reads):
                here = Place(to.array, to.first + first, place.width)
                if read == value and not joined and position != step.reads.index(min(step.reads)):
                    yield WRITERS["added"].text(Call((here, place), here, {}))
                elif read == value and here != place:
                    yield WRITERS["joined"].text(Call((place,), here, {}))
                first += widths[read] if joined else 0

    def _predict(self) -> str:
        kinds = {"work": "real", "parts": "double"}
        statements = [f"{kinds[array]} {array}[{size}];" for array, size in self.plan.sizes.items() if size]
        statements += self._statements()
        body = textwrap.indent("\n".join(statements), "    ")
        outputs = f"y[{self.macro}_OUTPUTS]"
        if self.computation.decision.deviations:
            outputs += ", means and then deviations,"
        return (
            f"/* The outputs {outputs} for inputs x[{self.macro}_INPUTS]; the arrays must not overlap. */\n"
            f"static inline void @predict(const {self.given} *x, real *y)\n{{\n{body}\n}}"
        )

    def _rows(self) -> str:
        return f"""/* The same for n rows, one after another. */
static inline void @predict_rows(const {self.given} *x, real *y, int32_t n)
{{
    for (; n > 0; n--) {{
        @predict(x, y);
        x += {self.macro}_INPUTS;
        y += {self.macro}_OUTPUTS;
    }}
}}"""

    def _decisions(self) -> list[str]:
        threshold = number(self.computation.decision.threshold, self.dtype)
        lines = [f"real y[{self.macro}_OUTPUTS];", "@predict(x, y);"]
        return self.decisions("y", "real", f"the outputs of {self.name}_predict", threshold, lines)


def _type_of(array: NDArray[Any], dtype: str) -> str:
    """The type of an array in C, where floats have a dtype."""
    if array.dtype.kind == "f":
        return "double" if dtype == "float64" else "float"
    return "uint16_t" if array.max(initial=0) < 2**16 else "uint32_t"
