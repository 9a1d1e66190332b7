"""A trained network as a header of C99 and C++11, which needs no library."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks.scalars import shown
from . import c_columns, c_compiling, c_functions
from .c_compiling import verify as verify
from .c_functions import FUNCTIONS, OFFERED, Call, Place, needed, number, translated
from .c_memory import GATHERED, WRITERS, Plan
from .computation import CLASSES, INPUTS, LABELS, NUMBERS, OF_COLUMNS, Computation, Step
from .scripts import LINE
from .self_test import SelfTest

PER_LINE = 8  # numbers
ITEM_BYTES = {"uint16_t": 2, "uint32_t": 4, "float": 4, "double": 8}


def written(computation: Computation, test: SelfTest, name: str, expressions: Mapping[str, str]) -> bytes:
    """The bytes of the header."""
    header = _Header(computation, name, expressions)
    return header.text(test).encode()


class _Header:
    """What the parts of a header have in common."""

    def __init__(self, computation: Computation, name: str, expressions: Mapping[str, str]):
        unknown = computation.functions - WRITERS.keys()
        if unknown:
            raise ValueError(f"a C header has no {sorted(unknown)[0]!r}, a function of this network")
        self.computation, self.name, self.dtype = computation, name, computation.dtype
        self.real = "double" if self.dtype == "float64" else "float"
        self.given = "double" if computation.inputs else "real"  # the type of inputs
        self.macro = name.upper()
        self.plan = Plan(computation)
        self.tables = dict[tuple[str, bytes], tuple[str, str]]()  # names and texts by types and numbers
        self.table_bytes = 0
        own = dict.fromkeys(step.own.name for step in computation.steps if step.own is not None)
        self.own = {each: (f"own{i}", expressions[each]) for i, each in enumerate(own)}

    def text(self, test: SelfTest) -> str:
        """The whole file."""
        predict = self._predict()
        own = [self._own(*each) for each in self.own.values()]
        calls = "\n".join([predict, *own])
        columns = [c_columns.FUNCTIONS[each].strip() for each in self._of_columns(calls)]
        functions = [FUNCTIONS[each].strip() for each in needed(calls)]
        code = "\n\n".join([*functions, *own, predict, self._rows(), *self._decision()])
        guard = f"{self.macro}_H_INCLUDED"
        parts = [
            self._comment(),
            f"#ifndef {guard}\n#define {guard}\n\n#include <stdint.h>",
            self._sizes(),
            *(text for _, text in self.tables.values()),
            *self._labels(),
            *([c_columns.in_c("\n\n".join(columns), self.name, self.dtype)] if columns else []),
            translated(code, self.name, self.dtype),
            self._self_test(test),
            f"#endif /* {guard} */",
        ]
        return c_compiling.with_checksum("\n\n".join(parts) + "\n")

    def _of_columns(self, calls: str) -> list[str]:
        """The functions of columns that a text calls; days are for whoever has dates."""
        dates = "@days(" if any(each.kind == "date" for each in self.computation.inputs) else ""
        return needed(calls + dates, c_columns.FUNCTIONS)

    # ---- tables ----

    def _table(self, what: str, array: NDArray[Any], dtype: str) -> str:
        """The name of a table with some numbers, which is written once. Floats are of a dtype."""
        if array.dtype.kind == "f":
            kind = "double" if dtype == "float64" else "float"
            numbers = [number(value, dtype) for value in array.ravel().tolist()]
        else:
            kind = "uint16_t" if array.max(initial=0) < 2**16 else "uint32_t"
            numbers = [str(value) for value in array.ravel().tolist()]
        key = kind, array.tobytes()
        if key not in self.tables:
            named = f"{self.name}_{what}{len(self.tables)}"
            self.tables[key] = named, _table(kind, named, str(len(numbers)), numbers)
            self.table_bytes += len(numbers) * ITEM_BYTES[kind]
        return self.tables[key][0]

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
                found[operand] = self._table(operand, np.ascontiguousarray(value.T if transposed else value), dtype)
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

    # ---- what predictions are ----

    def _decision(self) -> list[str]:
        """The functions that decide."""
        decision, macro = self.computation.decision, self.macro
        threshold = number(decision.threshold, self.dtype)
        if decision.kind == LABELS:
            what, to, done = "found[i] is 1 where output i is for its label, else 0", ", uint8_t *found", "void"
            body = f"for (int32_t j = 0; j < {macro}_OUTPUTS; j++) found[j] = (uint8_t)(y[j] > {threshold});"
            call = "@decide(y, found)"
        elif decision.kind == CLASSES:
            what, to, done = f"The index of the class in {self.name}_labels", "", "int32_t"
            body, call = f"return y[0] > {threshold};", "return @decide(y)"
            if self.computation.n_outputs > 1:
                best = f"for (int32_t j = 1; j < {macro}_OUTPUTS; j++) best = y[j] > y[best] ? j : best;"
                body = f"int32_t best = 0;\n    {best}\n    return best;"
        else:
            return []
        return [
            f"/* {what}, by the outputs of {self.name}_predict. */\n"
            f"static inline {done} @decide(const real *y{to})\n{{\n    {body}\n}}",
            f"/* The same by inputs. */\nstatic inline {done} @classify(const {self.given} *x{to})\n{{\n"
            f"    real y[{macro}_OUTPUTS];\n    @predict(x, y);\n    {call};\n}}",
        ]

    def _labels(self) -> list[str]:
        labels = self.computation.decision.labels
        if labels is None:
            return []
        kind, texts, size = _labels_in_c(labels)
        return [_table(kind, f"{self.name}_labels", f"{self.macro}_CLASSES", texts, size)]

    def _sizes(self) -> str:
        sizes = {"INPUTS": self.computation.n_inputs, "OUTPUTS": self.computation.n_outputs}
        if self.computation.decision.labels is not None:
            sizes["CLASSES"] = self.computation.decision.n_classes
        lines = [f"#define {self.macro}_{what} {size}" for what, size in sizes.items()]
        taken = [f"{self.macro}_{what}" for what in (*sizes, "CLASSES", "SELFTEST", "H_INCLUDED")]
        lines += c_columns.codes(self.computation.inputs, self.macro, taken)
        return "\n".join(lines)

    # ---- the comment and the self test ----

    def _comment(self) -> str:
        computation, decision = self.computation, self.computation.decision
        version = import_module(__package__.partition(".")[0]).__version__
        stack = self.plan.sizes["work"] * ITEM_BYTES[self.real] + 8 * self.plan.sizes["parts"]
        lines = [
            f"{self.name}: a neural network as C99 and C++11, written by fastnn {version}.",
            "",
            f"{computation.n_parameters:,} parameters, {computation.multiply_adds:,} multiply-adds a row, {self.real}.",
            f"{self.table_bytes:,} bytes of tables, which are constant; {stack:,} bytes of numbers on the stack.",
            "No library, no memory of its own: it may be called from several threads at once.",
            f"cc -D{self.macro}_SELFTEST on a file that includes this one gives a program that tests it.",
            "",
            *_listed("Inputs", computation.feature_names),
            *self._columns(),
            *_listed("Classes", None if decision.labels is None else decision.labels.tolist()),
            "This file is the work of whoever exported the network: fastnn claims no right in it.",
        ]
        return "/*\n" + "\n".join(f" * {line}".rstrip() for line in lines) + "\n */"

    def _columns(self) -> list[str]:
        """Lines of the comment on the columns of a table."""
        if not self.computation.inputs:
            return []
        lines = ["Inputs are the columns of a table, double, NaN where a value is missing:"]
        lines += c_columns.told(self.computation.inputs)
        if any(each.kind == "date" for each in self.computation.inputs):
            lines += [f"{self.name}_days(year, month, day) gives the days of a date."]
        return [*lines, ""]

    def _self_test(self, test: SelfTest) -> str:
        """A program that compares what the functions give with the rows of the test."""
        if not np.isfinite(test.outputs).all():
            raise ValueError("rows must give finite outputs, because a self test compares them")
        name, macro, decision, rows = self.name, self.macro, self.computation.decision, len(test.inputs)
        tables = [self._of_test("inputs", test.inputs), self._of_test("outputs", test.outputs)]
        read = [f"{name}_predict({name}_test_inputs + i * {macro}_INPUTS, y);"]
        if self.computation.inputs:
            read = [f"double x[{macro}_INPUTS];", f"for (int32_t j = 0; j < {macro}_INPUTS; j++) {{"]
            read += [f"    const double value = {name}_test_inputs[i * {macro}_INPUTS + j];"]
            read += ["    x[j] = value + value * 10 * 0; /* NaN where the largest power of ten stands for it */", "}"]
            read += [f"{name}_predict(x, y);"]
        compared = list[str]()
        if decision.kind != NUMBERS:
            kept, found = _decided(self.computation, test), f"{name}_decide(y)"
            tables.append(_table("int32_t", f"{name}_test_decisions", str(kept.size), map(str, kept.ravel().tolist())))
            if decision.kind == LABELS:
                compared = [f"uint8_t found[{macro}_OUTPUTS];", f"{name}_decide(y, found);"]
                found = "found[j]"
            n = kept.size // rows
            compared += [f"for (int32_t j = 0; j < {n}; j++) {{"]
            compared += [f"    const int32_t decided = {name}_test_decisions[i * {n} + j];"]
            compared += [f"    if (decided >= 0 && decided != {found}) disagreeing++;", "}"]
        right = " && disagreeing == 0" if compared else ""
        line = LINE.format(rows=rows, error="%.3g", ulp="%.3g", wrong="%d")
        text = f"""
int main(void)
{{
    real largest = 0.0, ulp = 0.0;
{"    int disagreeing = 0;" if compared else ""}
    for (int32_t i = 0; i < {rows}; i++) {{
        real y[{macro}_OUTPUTS];
{textwrap.indent(chr(10).join(read), " " * 8)}
        for (int32_t j = 0; j < {macro}_OUTPUTS; j++) {{
            const real right = @test_outputs[i * {macro}_OUTPUTS + j];
            const real size = right < 0.0 ? -right : right, apart = y[j] < right ? right - y[j] : y[j] - right;
            const real error = size > 1.0 ? apart / size : apart; /* relative to outputs above 1 */
            real unit = SMALLEST;
            while (unit * 2.0 <= size) unit *= 2.0;
            if (error > largest || error != error) largest = error;
            if (!(apart / unit * PRECISION <= ulp)) ulp = apart / unit * PRECISION;
        }}
{textwrap.indent(chr(10).join(compared), " " * 8)}
    }}
    printf("{line}\\n", (double)largest, (double)ulp, {"disagreeing" if compared else "0"});
    return largest <= TOLERANCE{right} ? 0 : 1;
}}"""
        text = re.sub(r"\n+(?=\n)", "", translated(text, name, self.dtype))
        facts = np.finfo(self.dtype)
        for constant, value in (
            ("TOLERANCE", test.tolerance),
            ("SMALLEST", facts.tiny),
            ("PRECISION", 2.0**facts.nmant),
        ):
            text = text.replace(constant, number(float(value), self.dtype))
        return "\n\n".join([f"#ifdef {macro}_SELFTEST\n#include <stdio.h>", *tables, text.strip(), "#endif"])

    def _of_test(self, what: str, array: NDArray[Any]) -> str:
        """A table of inputs or outputs."""
        kind = "double" if array.dtype == np.float64 else "float"
        numbers = [c_columns.MISSING if np.isnan(each) else number(each, str(array.dtype)) for each in array.ravel()]
        return _table(kind, f"{self.name}_test_{what}", str(array.size), numbers)


def _decided(computation: Computation, test: SelfTest) -> NDArray[np.int32]:
    """What the self test expects of each decision; -1 where outputs are too close to tell, within its tolerance."""
    decision, outputs = computation.decision, test.outputs.astype(np.float64)
    if decision.kind == LABELS or computation.n_outputs == 1:
        found, margin = (outputs > decision.threshold).astype(np.int32), np.abs(outputs - decision.threshold)
    else:
        ordered = np.sort(outputs, axis=1)
        found, margin = outputs.argmax(axis=1).astype(np.int32)[:, None], ordered[:, -1:] - ordered[:, -2:-1]
    return np.where(margin > 2 * test.tolerance, found, np.int32(-1))


# ---- text ----


def _table(kind: str, name: str, count: str, numbers: Iterable[str], width: int | None = None) -> str:
    """An array of constants, of texts of a width if there is one."""
    found = list(numbers)
    lines = [", ".join(found[i : i + PER_LINE]) for i in range(0, len(found), PER_LINE)]
    size = f"[{count}]" + (f"[{width}]" if width else "")
    return f"static const {kind} {name}{size} = {{\n    " + ",\n    ".join(lines) + "\n};"


def _labels_in_c(labels: NDArray[Any]) -> tuple[str, list[str], int | None]:
    """(type, texts, width of texts) of the labels of classes."""
    values, kind = labels.tolist(), labels.dtype.kind
    if all(isinstance(value, str) for value in values):
        coded = [value.encode() for value in values]
        return "char", [_quoted(each) for each in coded], max(map(len, coded)) + 1
    if kind == "b":
        return "uint8_t", [str(int(value)) for value in values], None
    if kind == "i" or (kind == "u" and max(values) < 2**63):
        return "int64_t", [f"(-INT64_C({-v - 1}) - 1)" if v < 0 else f"INT64_C({v})" for v in values], None
    if kind == "u":
        return "uint64_t", [f"UINT64_C({value})" for value in values], None
    if kind == "f":
        return "double", [number(value, "float64") for value in values], None
    raise ValueError(f"labels in a C header must be bools, integers, floats or text, got {shown(values)}")


def _quoted(text: bytes) -> str:
    """A string of C; what is no printable ASCII is octal, and so are question marks, of which three make a trigraph."""
    if 0 in text:
        raise ValueError(f"labels in a C header must have no character 0, got {shown(text.decode())}")
    return '"' + "".join(chr(c) if 32 <= c < 127 and c not in b'"\\?' else f"\\{c:03o}" for c in text) + '"'


def _listed(what: str, names: Iterable[Any] | None) -> list[str]:
    """Lines of a comment with some names, which cannot end it."""
    if names is None:
        return []
    shown_names = [name if isinstance(name, str) and name.isprintable() else repr(name) for name in names]
    text = c_functions.in_comment(f"{what}: {', '.join(shown_names)}.")
    return [*textwrap.wrap(text, 110, break_long_words=False, break_on_hyphens=False), ""]
