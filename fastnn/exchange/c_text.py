"""What all C headers of networks have: tables, labels, a comment, a self test."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks.scalars import shown
from . import c_columns, c_compiling, c_functions
from .c_functions import number, translated
from .computation import CLASSES, LABELS, NUMBERS, Computation
from .scripts import LINE
from .self_test import SelfTest

PER_LINE = 8  # numbers
ITEM_BYTES = {
    "int8_t": 1,
    "uint8_t": 1,
    "int16_t": 2,
    "uint16_t": 2,
    "int32_t": 4,
    "uint32_t": 4,
    "float": 4,
    "double": 8,
}


class Header:
    """What the parts of a header have in common."""

    def __init__(self, computation: Computation, name: str):
        self.computation, self.name, self.dtype = computation, name, computation.dtype
        self.real = "double" if self.dtype == "float64" else "float"
        self.given = "double" if computation.inputs else self.real  # the type of inputs
        self.macro = name.upper()
        self.tables = dict[tuple[str, bytes], tuple[str, str]]()  # names and texts by types and numbers
        self.table_bytes = 0

    def whole(self, comment: Iterable[str], code: Iterable[str], test: SelfTest) -> str:
        """The file, of lines of its comment and of its functions, and with all tables that these have asked for."""
        guard = f"{self.macro}_H_INCLUDED"
        parts = [
            self._comment(comment),
            f"#ifndef {guard}\n#define {guard}\n\n#include <stdint.h>",
            self.sizes(),
            *(text for _, text in self.tables.values()),
            *self.labels(),
            *code,
            self.self_test(test),
            f"#endif /* {guard} */",
        ]
        return c_compiling.with_checksum("\n\n".join(parts) + "\n")

    def _comment(self, lines: Iterable[str]) -> str:
        """What the file is, where lines tell what this kind of header has."""
        version, decision = import_module(__package__.partition(".")[0]).__version__, self.computation.decision
        said = [
            f"{self.name}: a neural network as C99 and C++11, written by fastnn {version}.",
            "",
            *lines,
            "No library, no memory of its own: it may be called from several threads at once.",
            f"cc -D{self.macro}_SELFTEST on a file that includes this one gives a program that tests it.",
            "",
            *listed("Inputs", self.computation.feature_names),
            *self._columns(),
            *listed("Classes", None if decision.labels is None else decision.labels.tolist()),
            "This file is the work of whoever exported the network: fastnn claims no right in it.",
        ]
        return "/*\n" + "\n".join(f" * {line}".rstrip() for line in said) + "\n */"

    def _columns(self) -> Iterator[str]:
        """Lines of the comment on the columns of a table."""
        if self.computation.inputs:
            yield "Inputs are the columns of a table, double, NaN where a value is missing:"
            yield from c_columns.told(self.computation.inputs)
            if any(each.kind == "date" for each in self.computation.inputs):
                yield f"{self.name}_days(year, month, day) gives the days of a date."
            yield ""

    def table(self, what: str, array: NDArray[Any], kind: str) -> str:
        """The name of a table with some numbers of a type in C, which is written once."""
        array = np.ascontiguousarray(array)
        key = kind, array.tobytes()
        if key not in self.tables:
            dtype = {"float": "float32", "double": "float64"}.get(kind)
            numbers = [str(value) if dtype is None else number(value, dtype) for value in array.ravel().tolist()]
            named = f"{self.name}_{what}{len(self.tables)}"
            self.tables[key] = named, table(kind, named, str(len(numbers)), numbers)
            self.table_bytes += len(numbers) * ITEM_BYTES[kind]
        return self.tables[key][0]

    def sizes(self) -> str:
        sizes = {"INPUTS": self.computation.n_inputs, "OUTPUTS": self.computation.n_outputs}
        if self.computation.decision.labels is not None:
            sizes["CLASSES"] = self.computation.decision.n_classes
        lines = [f"#define {self.macro}_{what} {size}" for what, size in sizes.items()]
        taken = [f"{self.macro}_{what}" for what in (*sizes, "CLASSES", "SELFTEST", "H_INCLUDED")]
        lines += c_columns.codes(self.computation.inputs, self.macro, taken)
        return "\n".join(lines)

    def labels(self) -> list[str]:
        labels = self.computation.decision.labels
        if labels is None:
            return []
        kind, texts, size = labels_in_c(labels)
        return [table(kind, f"{self.name}_labels", f"{self.macro}_CLASSES", texts, size)]

    def decisions(self, value: str, kind: str, by: str, threshold: str, lines: Iterable[str]) -> list[str]:
        """The functions that decide: by a value of a type, which lines make of the inputs x."""
        decision, macro = self.computation.decision, self.macro
        if decision.kind == LABELS:
            what, to, done = "found[i] is 1 where output i is for its label, else 0", ", uint8_t *found", "void"
            body = f"for (int32_t j = 0; j < {macro}_OUTPUTS; j++) found[j] = (uint8_t)({value}[j] > {threshold});"
            call = f"@decide({value}, found)"
        elif decision.kind == CLASSES:
            what, to, done = f"The index of the class in {self.name}_labels", "", "int32_t"
            body, call = f"return {value}[0] > {threshold};", f"return @decide({value})"
            if self.computation.n_outputs > 1:
                best = f"best = {value}[j] > {value}[best] ? j : best;"
                best = f"for (int32_t j = 1; j < {macro}_OUTPUTS; j++) {best}"
                body = f"int32_t best = 0;\n    {best}\n    return best;"
        else:
            return []
        made = "\n".join(f"    {line}" for line in lines)
        return [
            f"/* {what}, by {by}. */\nstatic inline {done} @decide(const {kind} *{value}{to})\n{{\n    {body}\n}}",
            f"/* The same by inputs. */\nstatic inline {done} @classify(const {self.given} *x{to})\n"
            f"{{\n{made}\n    {call};\n}}",
        ]

    # ---- the self test ----

    def self_test(self, test: SelfTest) -> str:
        """A program that compares what the functions give with the rows of the test."""
        if not np.isfinite(test.outputs).all():
            raise ValueError("rows must give finite outputs, because a self test compares them")
        name, macro, decision, rows = self.name, self.macro, self.computation.decision, len(test.inputs)
        tables = [self._of_test("inputs", test.inputs), self._of_test("outputs", test.outputs)]
        read = [f"const {self.given} *x = {name}_test_inputs + i * {macro}_INPUTS;"]
        if self.computation.inputs:
            read = [f"double x[{macro}_INPUTS];", f"for (int32_t j = 0; j < {macro}_INPUTS; j++) {{"]
            read += [f"    const double value = {name}_test_inputs[i * {macro}_INPUTS + j];"]
            read += ["    x[j] = value + value * 10 * 0; /* NaN where the largest power of ten stands for it */", "}"]
        read += [f"{name}_predict(x, y);"]
        compared = list[str]()
        if decision.kind != NUMBERS:
            kept, found = self.decided(test), f"{name}_classify(x)"
            tables.append(table("int32_t", f"{name}_test_decisions", str(kept.size), map(str, kept.ravel().tolist())))
            if decision.kind == LABELS:
                compared = [f"uint8_t found[{macro}_OUTPUTS];", f"{name}_classify(x, found);"]
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
        return table(kind, f"{self.name}_test_{what}", str(array.size), numbers)

    def decided(self, test: SelfTest) -> NDArray[np.int32]:
        """What the self test expects of each decision; -1 where outputs are too close to tell, within its tolerance."""
        decision, outputs = self.computation.decision, test.outputs.astype(np.float64)
        if decision.kind == LABELS or self.computation.n_outputs == 1:
            found, margin = (outputs > decision.threshold).astype(np.int32), np.abs(outputs - decision.threshold)
        else:
            ordered = np.sort(outputs, axis=1)
            found, margin = outputs.argmax(axis=1).astype(np.int32)[:, None], ordered[:, -1:] - ordered[:, -2:-1]
        return np.where(margin > 2 * test.tolerance, found, np.int32(-1))


# ---- text ----


def table(kind: str, name: str, count: str, numbers: Iterable[str], width: int | None = None) -> str:
    """An array of constants, of texts of a width if there is one."""
    found = list(numbers)
    lines = [", ".join(found[i : i + PER_LINE]) for i in range(0, len(found), PER_LINE)]
    size = f"[{count}]" + (f"[{width}]" if width else "")
    return f"static const {kind} {name}{size} = {{\n    " + ",\n    ".join(lines) + "\n};"


def labels_in_c(labels: NDArray[Any]) -> tuple[str, list[str], int | None]:
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


def listed(what: str, names: Iterable[Any] | None) -> list[str]:
    """Lines of a comment with some names, which cannot end it."""
    if names is None:
        return []
    shown_names = [name if isinstance(name, str) and name.isprintable() else repr(name) for name in names]
    text = c_functions.in_comment(f"{what}: {', '.join(shown_names)}.")
    return [*textwrap.wrap(text, 110, break_long_words=False, break_on_hyphens=False), ""]
