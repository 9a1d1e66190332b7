"""What the columns of a table become, in NumPy: steps as those of `numpy_steps`, which compute in float64.

x are arrays (rows, columns), NaN where a value is missing, see `computation.Input`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def numbers(x: Array, column: int, centre: float, scale: float, limit: float, cuts: Array, edges: Array) -> Array:
    """z / sqrt(1 + (z / limit)^2) for z = (v - centre) / scale; the rank among cuts; the filled parts between edges.

    There is a rank, in [-1.7, 1.7], where there are cuts, and a part fewer than edges. A missing value gives zeros.
    """
    v = np.where(np.isnan(x[:, column]), centre, x[:, column])
    z = np.clip((v - centre) / scale, -1e100, 1e100)
    parts = [z / np.sqrt(1 + (z / limit) ** 2)]
    if len(cuts):
        parts.append(1.7 * np.interp(v, cuts, np.linspace(-1, 1, len(cuts))))
    parts += [np.clip((v - edges[i]) / (edges[i + 1] - edges[i]), 0, 1) for i in range(len(edges) - 1)]
    return np.where(np.isnan(x[:, [column]]), 0, np.stack(parts, axis=1))


def shifted_columns(x: Array, which: Array, shift: Array, scale: Array) -> Array:
    """(v - shift) * scale of some columns, each (width,); NaN where a value is missing."""
    return (x[:, which] - shift) * scale


def contrast(x: Array, column: int, low: float, high: float) -> Array:
    """-1 for the value low, 1 for high, else 0."""
    v = x[:, [column]]
    return np.where(v == high, 1.0, 0.0) - np.where(v == low, 1.0, 0.0)


def one_hot(x: Array, column: int, places: Array) -> Array:
    """1 where the value is that of a place (width,), else 0."""
    return (x[:, [column]] == places).astype(np.float64)


def codes(x: Array, column: int) -> Array:
    """The codes of categories, 0 where the value is missing."""
    return np.where(np.isnan(x[:, [column]]), 0, x[:, [column]])


def missing(x: Array, column: int) -> Array:
    """Whether the value is missing."""
    return np.isnan(x[:, [column]]).astype(np.float64)


def date_parts(x: Array, column: int) -> Array:
    """The year, with the part of it that has passed; that part, that of the day, and the weekday, 0 for Monday.

    The value is in days since 1970. Source of the year of a day: Hinnant, "chrono-compatible low-level date
    algorithms".
    """
    v = x[:, column]
    day = np.floor(v)
    shifted_day = day + 719468  # since 0000-03-01
    era = np.floor(shifted_day / 146097)
    of_era = shifted_day - era * 146097
    years = np.floor((of_era - np.floor(of_era / 1460) + np.floor(of_era / 36524) - np.floor(of_era / 146096)) / 365)
    of_years = of_era - (365 * years + np.floor(years / 4) - np.floor(years / 100))
    year = years + era * 400 + np.where(of_years >= 306, 1, 0)
    before = year - 1
    first = 365 * before + np.floor(before / 4) - np.floor(before / 100) + np.floor(before / 400) - 719162
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    of_year = (v - first) / np.where(leap, 366, 365)
    return np.stack([year + of_year, of_year, v - day, (day + 3) % 7], axis=1)


def cycle(x: Array, column: int) -> Array:
    """The sine and the cosine of a part of a cycle; zeros where it is missing."""
    v = 2 * np.pi * x[:, column]
    return np.nan_to_num(np.stack([np.sin(v), np.cos(v)], axis=1))
