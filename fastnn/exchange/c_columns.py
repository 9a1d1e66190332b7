"""What the columns of a table are in C: functions that compute in double, whatever the type of the network is.

A column is a double of the array x, NaN where it is missing, see `computation.Input`. `real` is the network's type, in
which the values lie that the network reads; `@` is the name of the export.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ..data.encodings import MOST_RANK
from .c_functions import Call, Writer, column, in_comment, looped, translated
from .computation import Input, Step

MISSING = "1e308"  # stands for NaN in tables, which have no constant for it

FUNCTIONS = {
    "filled": """
/* How far the part between two numbers is filled, from 0 to 1. */
static inline double @filled(double x, double low, double high)
{
    const double part = (x - low) / (high - low);
    return part > 0.0 ? part < 1.0 ? part : 1.0 : 0.0;
}
""",
    "scaled": """
/* z / sqrt(1 + (z / limit)^2) for z = (x - centre) / scale, the root by Newton's steps; 0 where x is missing. */
static inline double @scaled(double x, const double how[3])
{
    const double far = (x - how[0]) / how[1], z = far < -1e100 ? -1e100 : far > 1e100 ? 1e100 : far, q = z / how[2];
    const double size = q < 0.0 ? -q : q, square = 1.0 + q * q;
    double root = size > 1.0 ? size : 1.0;
    for (int i = 0; i < 6; i++) root = 0.5 * (root + square / root);
    return x != x ? 0.0 : z / root;
}
""",
    "rank": f"""
/* The rank of x among n numbers; 0 where it is missing. */
static inline double @rank(double x, const double *cuts, int32_t n)
{{
    int32_t low = 0, high = n - 1;
    while (high - low > 1) {{
        const int32_t middle = (low + high) / 2;
        if (x < cuts[middle]) high = middle;
        else low = middle;
    }}
    const double rank = 2.0 * ((double)low + @filled(x, cuts[low], cuts[high])) / (double)(n - 1) - 1.0;
    return x != x ? 0.0 : {MOST_RANK} * rank;
}}
""",
    "pieces": """
/* How far the parts between n + 1 numbers are filled; zeros where x is missing. */
static inline void @pieces(double x, const double *edges, real *y, int32_t n)
{
    for (int32_t j = 0; j < n; j++) y[j] = (real)@filled(x, edges[j], edges[j + 1]);
}
""",
    "one_hot": """
static inline void @one_hot(double x, const uint16_t *places, real *y, int32_t n)
{
    for (int32_t j = 0; j < n; j++) y[j] = (real)(x == (double)places[j]);
}
""",
    "days": """
/* The days since 1970-01-01 of a date in the Gregorian calendar, whose months and days count from 1. */
static inline double @days(int32_t year, int32_t month, int32_t day)
{
    const int32_t since = year - (month <= 2); /* March is the first month of a year here, see Hinnant's algorithms */
    const int32_t era = (since >= 0 ? since : since - 399) / 400, years = since - era * 400;
    const int32_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return (double)(era * 146097 + years * 365 + years / 4 - years / 100 + of_year - 719468);
}
""",
    "date_parts": """
/* y[4]: the year, with the part of it that has passed; that part, that of the day, and the weekday, 0 for Monday; NaN
   where x is missing. Dates are within a million years. */
static inline void @date_parts(double x, double *y)
{
    const double at = x > -4e8 ? x < 4e8 ? x : 4e8 : -4e8, none = x - x;
    const int32_t down = (int32_t)at, day = down - ((double)down > at), shifted = day + 719468; /* since 0000-03-01 */
    const int32_t era = (shifted >= 0 ? shifted : shifted - 146096) / 146097, of_era = shifted - era * 146097;
    const int32_t years = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    const int32_t year = years + era * 400 + (of_era - (365 * years + years / 4 - years / 100) >= 306);
    const double first = @days(year, 1, 1), of_year = (at - first) / (@days(year + 1, 1, 1) - first);
    y[0] = (double)year + of_year + none;
    y[1] = of_year + none;
    y[2] = at - (double)day + none;
    y[3] = (double)((day % 7 + 10) % 7) + none;
}
""",
    "cycle": """
/* The sine and the cosine of a part of a cycle, from 0 to 1, by series in an eighth; zeros where it is missing. */
static inline void @cycle(double part, real *y)
{
    const double x = part == part ? part : 0.0, here = part == part ? 1.0 : 0.0;
    const int32_t quarters = (int32_t)(4.0 * x + 0.5);
    const double angle = (x - 0.25 * (double)quarters) * 6.283185307179586, square = angle * angle;
    double sine = 1.0, cosine = 1.0;
    for (int32_t k = 16; k > 0; k -= 2) {
        sine = 1.0 - square / (double)(k * (k + 1)) * sine;
        cosine = 1.0 - square / (double)(k * (k - 1)) * cosine;
    }
    sine *= angle;
    const double first = quarters % 2 ? cosine : sine, second = quarters % 2 ? -sine : cosine;
    y[0] = (real)(quarters / 2 % 2 ? -first * here : first * here);
    y[1] = (real)(quarters / 2 % 2 ? -second * here : second * here);
}
""",
}


def in_c(text: str, name: str, dtype: str) -> str:
    """C of functions of columns, for the dtype of a network and the name of an export."""
    text = re.sub(r"\breal\b", {"float32": "float", "float64": "double"}[dtype], text)
    return translated(text, name, "float64")


# ---- steps ----


def operands(step: Step) -> dict[str, Any]:
    """The operands of a step: its numbers are in tables, because those in calls have the network's type."""
    found = dict(step.operands)
    if step.function == "numbers":
        found["scaling"] = np.array([found.pop(each) for each in ("centre", "scale", "limit")], np.float64)
        return {name: each for name, each in found.items() if np.size(each)}
    if step.function == "shifted_columns":
        return found
    return {name: each.astype(np.int64) if isinstance(each, np.ndarray) else int(each) for name, each in found.items()}


def _x(call: Call) -> str:
    return call.reads[0].at(call.operands["column"])


def _numbers(call: Call) -> str:
    to, how = call.to, call.operands
    lines = [f"{to.at('0')} = (real)@scaled({_x(call)}, {how['scaling']});"]
    if "cuts" in how:
        lines.append(f"{to.at('1')} = (real)@rank({_x(call)}, {how['cuts']}, {how['cuts_rows']});")
    if "edges" in how:
        lines.append(f"@pieces({_x(call)}, {how['edges']}, {to.array} + {to.first + 2}, {to.width - 2});")
    return "\n".join(lines)


def _shifted_columns(call: Call) -> str:
    shift, scale = call.operands["shift"], call.operands["scale"]
    return looped(call.to, f"(real)(({column(call)} - {shift}[j]) * {scale}[j])")


def _contrast(call: Call) -> str:
    low, high = (f"({_x(call)} == {call.operands[each]})" for each in ("low", "high"))
    return f"{call.to.at('0')} = (real)({high} - {low});"


# By the names of `numpy_columns`.
WRITERS = {
    "numbers": Writer(_numbers),
    "shifted_columns": Writer(_shifted_columns),
    "contrast": Writer(_contrast),
    "one_hot": Writer(
        lambda call: f"@one_hot({_x(call)}, {call.operands['places']}, {call.to.pointer}, {call.to.width});"
    ),
    "codes": Writer(lambda call: f"{call.to.at('0')} = (real)({_x(call)} != {_x(call)} ? 0 : {_x(call)});"),
    "missing": Writer(lambda call: f"{call.to.at('0')} = (real)({_x(call)} != {_x(call)});"),
    "date_parts": Writer(lambda call: f"@date_parts({_x(call)}, {call.to.pointer});"),
    "cycle": Writer(lambda call: f"@cycle({_x(call)}, {call.to.pointer});"),
}


# ---- what columns are, for people ----

_TOLD = {
    "number": "a number",
    "boolean": "1 or 0",
    "date": "a date, in days since 1970-01-01",
    "duration": "a time delta, in seconds",
    "category": "a category, by its number: 0 for a value that is not listed",
    "known category": "a category, by its number, never missing",
    "known category or nothing": "a category, by its number",
}


def told(inputs: Iterable[Input]) -> Iterator[str]:
    """A line for each column."""
    for i, each in enumerate(inputs):
        yield in_comment(f"x[{i}] {each.name!r}: {_TOLD[each.kind]}.")


def codes(inputs: Iterable[Input], macro: str, taken: Iterable[str]) -> Iterator[str]:
    """The numbers of categories: lines of constants where the names allow, else of comments. Some names are taken."""
    named = list[tuple[str, int, str]]()
    for each in inputs:
        for code, value in enumerate(each.values, 1):
            word = re.sub(r"[^A-Z0-9]+", "_", f"{each.name} {value}".upper()).strip("_")
            there = all(re.search("[A-Za-z0-9]", str(part)) for part in (each.name, value))
            named.append((f"{macro}_{word}" if there else "", code, in_comment(f"{each.name!r}: {value!r}")))
    counts = dict.fromkeys(taken, 1)
    for word, _, _ in named:
        counts[word] = counts.get(word, 0) + 1
    for word, code, comment in named:
        yield f"#define {word} {code} /* {comment} */" if word and counts[word] == 1 else f"/* {code} is {comment} */"
