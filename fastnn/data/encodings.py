"""Encodings: what the columns of a table become in the matrix that a network reads.

An encoding is learned from a column of the training data, and its fields are plain values. All arithmetic is float64.
A missing value gives zeros, the median of numbers among them, and 1 in a column of its own where values were missing in
training: where none was, nothing could be learned of such a column.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from functools import cached_property
from itertools import repeat
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..checks import scalars
from ..checks.scalars import shown
from . import columns
from .columns import Column

EXACT = 2**53  # integers up to it are floats
CLIP, FAR_CLIP = 3.0, 20.0  # what scaled numbers stay below in size
QUANTILES, PIECE = 128, 16  # how many parts of the numbers ranks tell apart, and how many of these a piece has
MOST_RANK = 1.7
FAR = 1e100  # scaled numbers beyond it are clipped as it is
MAX_CODES = 2**24  # which float32 has all of
DAY = 86_400_000_000  # microseconds
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclasses.dataclass(frozen=True)
class Encoding:
    """What a column becomes."""

    kind: ClassVar[str]
    n_codes: ClassVar[int] = 0  # how many codes there are, where the column becomes an integer

    gaps: bool  # whether a column of the matrix tells where a value is missing: it is the last one

    def parts(self) -> list[str]:
        """What the columns of the matrix are called behind the column's name, but the one that tells of gaps."""
        raise NotImplementedError

    def values(self, column: Column) -> tuple[Column, list[NDArray[Any]]]:
        """(the column as the kind that the encoding has, what its parts are (n,)), for whatever missing rows hold."""
        raise NotImplementedError

    def told(self) -> str:
        """What the column becomes, for people."""
        raise NotImplementedError

    def check(self) -> None:
        """Raise where the fields are none that could be learned."""
        raise NotImplementedError

    @property
    def pieces(self) -> range:
        """Which of its columns of the matrix are pieces of a number's range."""
        return range(0)

    def suffixes(self) -> list[str]:
        """What all its columns of the matrix are called behind the column's name."""
        return [*self.parts(), *([" missing"] if self.gaps else [])]

    def write(self, column: Column, out: NDArray[Any]) -> None:
        """Write the rows of a column to out (n, width), float32 or float64 of any order."""
        column, parts = self.values(column)
        for j, part in enumerate(parts):
            out[:, j] = part
        if column.missing is not None:
            out[column.missing] = 0.0
        if self.gaps:
            out[:, -1] = 0.0 if column.missing is None else column.missing

    def described(self) -> dict[str, Any]:
        """The encoding in JSON, which has all digits of a float."""
        return {"kind": self.kind, **{each.name: getattr(self, each.name) for each in dataclasses.fields(self)}}


# ---- numbers ----


def difference(values: NDArray[Any], origin: int) -> NDArray[np.float64]:
    """values - origin, rounded once, for integers of 64 bits; a difference of floats for others."""
    if values.dtype.kind == "f" or values.dtype.itemsize < 8:
        return values.astype(np.float64) - origin
    high, low = (values >> 32).astype(np.int64), (values & 0xFFFFFFFF).astype(np.int64)
    return (high - (origin >> 32)).astype(np.float64) * 2.0**32 + (low - (origin & 0xFFFFFFFF))


@dataclasses.dataclass(frozen=True)
class Numbers(Encoding):
    """Numbers or time deltas, centred by the median, scaled by quartiles and clipped smoothly, as RealMLP does.

    A number x becomes z / sqrt(1 + (z / c)^2) for z = (x - origin - centre) / scale. The scale is the third quartile
    minus the first; where it is zero, half of the largest number minus the smallest; 0 for a constant. The origin is 0
    but for integers that no float has. Source: Holzmueller, Grinsztajn and Steinwart, "Better by default", 2024.

    With quantiles, also its rank among the numbers of the training, from -MOST_RANK to MOST_RANK, and how far each part
    of the range between eighths of these numbers is filled, from 0 to 1, where there are two parts at least (piecewise
    linear encoding: Gorishniy, Rubachev and Babenko 2022). Then c is FAR_CLIP, because the rank tells numbers apart
    that lie far out; else it is CLIP.
    """

    kind: ClassVar[str] = "numbers"

    origin: int
    centre: float
    scale: float
    quantiles: tuple[float, ...] = ()  # QUANTILES + 1 of x - origin, from the least to the largest, or none

    @classmethod
    def of(cls, column: Column, ranked: bool = False) -> Numbers:
        """What the numbers that are not missing, one at least, say; with quantiles if they are ranked, and differ."""
        present, origin = column.present(), 0
        if present.dtype.kind in "iu" and max(-int(present.min()), int(present.max())) > EXACT:
            origin = int(np.partition(present, len(present) // 2)[len(present) // 2])
        x = difference(present, origin)
        first, third = np.quantile(x, [0.25, 0.75]).tolist()
        scale = third - first or 0.5 * float(x.max() - x.min())
        quantiles = np.empty(0)
        if ranked and len(np.unique(x)) > 2:
            quantiles = np.quantile(x, np.linspace(0, 1, QUANTILES + 1))
        return cls(column.missing is not None, origin, float(np.median(x)), scale, tuple(quantiles.tolist()))

    @cached_property
    def cuts(self) -> NDArray[np.float64]:
        """The quantiles that differ."""
        return np.unique(self.quantiles)

    @cached_property
    def edges(self) -> NDArray[np.float64]:
        """Where pieces begin and end; nowhere if there were but one."""
        edges = np.unique(self.quantiles[::PIECE])
        return edges if len(edges) > 2 else edges[:0]

    @property
    def pieces(self) -> range:
        return range(2, 2 + self._n_pieces)

    @property
    def _n_pieces(self) -> int:
        return max(0, len(self.edges) - 1)

    def parts(self) -> list[str]:
        if not self.quantiles:
            return [""] if self.scale else []
        return ["", " rank", *(f" piece {i}" for i in range(1, 1 + self._n_pieces))]

    def read(self, column: Column) -> Column:
        """The column as numbers."""
        return columns.to_numbers(column)

    def values(self, column: Column) -> tuple[Column, list[NDArray[Any]]]:
        column = self.read(column)
        return column, self.of_numbers(column.values)

    def of_numbers(self, values: NDArray[Any]) -> list[NDArray[np.float64]]:
        """What the parts are (n,) for numbers (n,)."""
        if not self.quantiles:
            return [self.scaled(values)] if self.scale else []
        x, edges = difference(values, self.origin), self.edges
        rank = MOST_RANK * np.interp(x, self.cuts, np.linspace(-1, 1, len(self.cuts)))
        with np.errstate(over="ignore"):
            pieces = [np.clip((x - low) / (high - low), 0, 1) for low, high in itertools.pairwise(edges.tolist())]
        return [self.scaled(values), rank, *pieces]

    def scaled(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Numbers (n,), scaled and clipped."""
        z = difference(values, self.origin)
        with np.errstate(over="ignore"):
            z = np.clip((z - self.centre) / self.scale, -FAR, FAR)
        return z / np.sqrt(1.0 + np.square(z / self.limit))

    @property
    def limit(self) -> float:
        """What scaled numbers stay below in size."""
        return FAR_CLIP if self.quantiles else CLIP

    def told(self) -> str:
        return f"median {self.origin + self.centre:.6g}, scale {self.scale:.6g}{self.ranked}" if self.scale else ""

    @property
    def ranked(self) -> str:
        """That there are ranks and pieces, for people."""
        return f", rank{f', {self._n_pieces} pieces' if self._n_pieces else ''}" if self.quantiles else ""

    def check(self) -> None:
        scalars.integer("origin", self.origin, -(2**63), 2**64 - 1)
        scalars.number("centre", self.centre, -np.inf)
        scalars.number("scale", self.scale, 0.0)
        if not isinstance(self.quantiles, tuple):
            raise TypeError(f"quantiles must be a list of numbers, got {shown(self.quantiles)}")
        if self.quantiles:
            for each in self.quantiles:
                scalars.number("quantiles", each, -np.inf)
            n = len(self.quantiles)
            if n != QUANTILES + 1 or len(self.cuts) < 2 or list(self.quantiles) != sorted(self.quantiles):
                raise ValueError(f"quantiles must be {QUANTILES + 1} sorted numbers that differ, got {n}")


@dataclasses.dataclass(frozen=True)
class Durations(Numbers):
    """Time deltas, as numbers of seconds."""

    kind: ClassVar[str] = "durations"

    def read(self, column: Column) -> Column:
        return columns.to_durations(column)


# ---- truth values ----


@dataclasses.dataclass(frozen=True)
class Booleans(Encoding):
    """Truth values as -1 and 1, so that 0 favours neither where one is missing."""

    kind: ClassVar[str] = "booleans"

    varies: bool

    @classmethod
    def of(cls, column: Column) -> Booleans:
        """What the truth values that are not missing, one at least, say."""
        present = column.present()
        return cls(column.missing is not None, bool(present.min() != present.max()))

    def parts(self) -> list[str]:
        return [""] if self.varies else []

    def values(self, column: Column) -> tuple[Column, list[NDArray[Any]]]:
        column = columns.to_booleans(column)
        return column, [np.where(column.values, 1.0, -1.0)] if self.varies else []

    def told(self) -> str:
        return "-1 and 1" if self.varies else ""

    def check(self) -> None:
        scalars.boolean("varies", self.varies)


# ---- categories ----


@dataclasses.dataclass(frozen=True)
class Categories(Encoding):
    """Values that are compared for equality alone: text, or numbers that are names.

    Two values become one column of -1 and 1, and 0 for an unknown one. Several become a column each, 1 for the value
    that is there; an unknown one has zeros. More than one_hot_max become a code: 0 for what is unknown or missing, then
    1, 2 .. in the order of the values. Of more than one_hot_max values those that come once are unknown already in
    training: nothing is learned of a single row, but so it is learned what unknown values do. A column of its own
    stands for unknown values where there were such.
    """

    kind: ClassVar[str] = "categories"

    known: tuple[Any, ...]  # sorted: all are strings, or all are numbers
    unknown: bool  # whether unknown values have a column of their own
    coded: bool

    @classmethod
    def of(cls, column: Column, one_hot_max: int) -> Categories:
        """What the values that are not missing, one at least, say. Raises ValueError where many come once each."""
        found, _ = columns.keys(column)
        counts = Counter(found)
        counts.pop(None, None)
        joined = len(counts) > one_hot_max
        known = sorted(_plain(each) for each, count in counts.items() if count > 1 or not joined)
        if not known:
            raise ValueError(
                f"{column.what} must repeat some values to be categories, got {len(counts)} of one row each; "
                "drop= leaves it out"
            )
        if len(known) >= MAX_CODES:
            raise ValueError(f"{column.what} must have less than {MAX_CODES} categories, got {len(known)}")
        coded, gaps = len(known) > one_hot_max, column.missing is not None
        return cls(gaps and not coded, tuple(known), len(known) < len(counts) and not coded, coded)

    @property
    def n_codes(self) -> int:  # type: ignore[override]
        return len(self.known) + 1 if self.coded else 0

    @property
    def single(self) -> bool:
        """Whether there are two values alone, in one column."""
        return len(self.known) == 2 and not self.unknown

    @cached_property
    def places(self) -> dict[Any, int]:
        """The place of each value, counted from 1."""
        return {value: i for i, value in enumerate(self.known, 1)}

    def codes(self, column: Column) -> NDArray[np.int64]:
        """The place of each row's value, (n,), 0 for one that is unknown or missing."""
        found = columns.to_keys(column, self.places, isinstance(self.known[0], str))
        return np.fromiter(map(self.places.get, found, repeat(0)), np.int64, len(found))

    def parts(self) -> list[str]:
        if self.coded:
            return [""]
        if self.single:
            return [f"={self.known[1]}"]
        if len(self.known) == 1 and not self.unknown:
            return []
        return [*(f"={value}" for value in self.known), *([" unknown"] if self.unknown else [])]

    def values(self, column: Column) -> tuple[Column, list[NDArray[Any]]]:
        codes = self.codes(column)
        if self.coded:
            return column, [codes]
        if self.single:
            return column, [np.array([0.0, -1.0, 1.0])[codes]]
        if not self.parts():
            return column, []
        places = [*range(1, len(self.known) + 1), *([0] if self.unknown else [])]
        return column, [codes == place for place in places]

    def told(self) -> str:
        n = len(self.known)
        if self.coded:
            return f"codes of {n} values, 0 where unknown or missing"
        if self.single:
            return f"-1 for {self.known[0]!r}, 1 for {self.known[1]!r}"
        return f"one-hot of {n} values{' and of unknown ones' if self.unknown else ''}" if self.parts() else ""

    def check(self) -> None:
        if not isinstance(self.known, tuple) or not 0 < len(self.known) < MAX_CODES:
            raise TypeError(f"known must be the values of categories, got {shown(self.known)}")
        kinds = set(map(type, self.known))
        if kinds != {str} and not kinds <= {int, float}:
            raise TypeError(f"known must be strings or numbers, got {shown(self.known)}")
        if kinds != {str}:
            for each in self.known:
                scalars.number("known", each, -np.inf)
        if any(not a < b for a, b in zip(self.known, self.known[1:], strict=False)):
            raise ValueError(f"known must be sorted and differ, got {shown(self.known)}")
        if scalars.boolean("coded", self.coded) and (self.gaps or self.unknown):
            raise ValueError("coded must be false where gaps or unknown values have a column")
        scalars.boolean("unknown", self.unknown)


def _plain(value: Any) -> Any:
    """A value of categories as JSON has it; a float that is whole as an integer, as it is where no value is missing."""
    if isinstance(value, str):
        return str.__str__(value)  # of a class of its own too
    return int(value) if isinstance(value, float) and value.is_integer() else value


# ---- dates ----


@dataclasses.dataclass(frozen=True)
class Dates(Encoding):
    """Dates and times: the year as a number, sine and cosine of the parts of year and day, and the weekday, one-hot.

    A part of the year is the time since it began, divided by its 365 or 366 days; it is the fraction of the year as a
    number, 2026.5 in the middle of 2026. What does not vary in training is left out, also a weekday that does not come.
    Times are those that a clock of their time zone shows.
    """

    kind: ClassVar[str] = "dates"

    year: Numbers | None
    of_year: bool
    of_day: bool
    weekdays: tuple[int, ...]  # 0 is Monday

    @classmethod
    def of(cls, column: Column, ranked: bool = False) -> Dates:
        """What the dates that are not missing, one at least, say; the year has ranks and pieces if they are ranked."""
        years, of_year, of_day, weekdays = _parts(column.present())
        year = Numbers.of(Column(column.what, "numbers", years + of_year, None), ranked)
        found = tuple(np.flatnonzero(np.bincount(weekdays, minlength=7)).tolist())
        return cls(
            column.missing is not None,
            year if year.scale else None,
            bool(of_year.min() < of_year.max()),
            bool(of_day.min() < of_day.max()),
            found if len(found) > 1 else (),
        )

    @property
    def pieces(self) -> range:
        return self.year.pieces if self.year else range(0)

    def parts(self) -> list[str]:
        found = [f" year{part}" for part in self.year.parts()] if self.year else []
        for part, varies in (("year", self.of_year), ("day", self.of_day)):
            found += [f" sine of {part}", f" cosine of {part}"] if varies else []
        return found + [f" {WEEKDAYS[day]}" for day in self.weekdays]

    def values(self, column: Column) -> tuple[Column, list[NDArray[Any]]]:
        column = columns.to_dates(column)
        years, of_year, of_day, weekdays = _parts(column.values)
        found: list[NDArray[Any]] = self.year.of_numbers(years + of_year) if self.year else []
        for part, varies in ((of_year, self.of_year), (of_day, self.of_day)):
            found += [np.sin(2 * np.pi * part), np.cos(2 * np.pi * part)] if varies else []
        return column, found + [weekdays == day for day in self.weekdays]

    def told(self) -> str:
        parts = (
            (f"year{self.year.ranked if self.year else ''}", self.year),
            ("part of the year", self.of_year),
            ("part of the day", self.of_day),
        )
        return ", ".join([name for name, there in parts if there] + ["weekday"] * bool(self.weekdays))

    def described(self) -> dict[str, Any]:
        return super().described() | {"year": self.year.described() if self.year else None}

    def check(self) -> None:
        if self.year is not None and not (type(self.year) is Numbers and self.year.scale and not self.year.gaps):
            raise TypeError(f"year must be numbers that vary, or null, got {shown(self.year)}")
        scalars.boolean("of_year", self.of_year)
        scalars.boolean("of_day", self.of_day)
        if not isinstance(self.weekdays, tuple):
            raise TypeError(f"weekdays must be a list of integers, got {shown(self.weekdays)}")
        days = [scalars.integer("weekdays", day, 0, 6) for day in self.weekdays]
        if days != sorted(set(days)) or len(days) == 1:
            raise ValueError(f"weekdays must be sorted and differ, two at least or none, got {shown(self.weekdays)}")


def _parts(dates: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """(years, parts of the year, parts of the day, weekdays), each (n,), of datetime64 in microseconds."""
    days, rest = np.divmod(dates.astype(np.int64), DAY)
    years = dates.astype("M8[Y]")
    first, last = (each.astype("M8[D]").astype(np.int64) for each in (years, years + np.timedelta64(1, "Y")))
    of_year = (days - first + rest / DAY) / (last - first)
    return years.astype(np.int64) + 1970, of_year, rest / DAY, (days + 3) % 7  # 1970 began on a Thursday


# ---- nothing ----


@dataclasses.dataclass(frozen=True)
class Dropped(Encoding):
    """A column that is not read."""

    kind: ClassVar[str] = "dropped"
    REASONS: ClassVar[tuple[str, ...]] = ("constant", "missing", "asked for")

    reason: str

    def parts(self) -> list[str]:
        return []

    def told(self) -> str:
        return {"constant": "constant", "missing": "all missing", "asked for": "dropped, as asked for"}[self.reason]

    def check(self) -> None:
        scalars.choice("reason", self.reason, self.REASONS)
        if self.gaps:
            raise ValueError("gaps must be false for a column that is dropped")


# ---- which one ----


def learned(column: Column, *, categorical: bool, numeric: bool, one_hot_max: int, ranked: bool) -> Encoding:
    """The encoding of a column of the training data. Raises ValueError for free text and the like."""
    if numeric and column.kind != "durations":
        column = columns.to_numbers(column)
    kind = column.kind
    if kind == "empty" or (column.missing is not None and column.missing.all()):
        return Dropped(False, "missing")
    if kind == "booleans":
        found: Encoding = Booleans.of(column)
    elif categorical or (not numeric and (kind == "text" or column.category)):
        if not categorical and not column.category:
            _no_free_text(column, one_hot_max)
        found = Categories.of(column, one_hot_max)
    elif kind == "dates":
        found = Dates.of(column, ranked)
    else:
        found = {"numbers": Numbers, "durations": Durations}[kind].of(column, ranked)
    return found if found.suffixes() else Dropped(False, "constant")


def _no_free_text(column: Column, one_hot_max: int) -> None:
    """Raise where more than half of the rows hold text that no other row has, as sentences, names and identifiers do.

    As many values as can be one-hot are taken: a table of a few rows may have no value twice.
    """
    counts = Counter(column.present())
    alone = sum(count == 1 for count in counts.values())
    if len(counts) > one_hot_max and 2 * alone > counts.total():
        example = next(each for each, count in counts.items() if count == 1)
        raise ValueError(
            f"{column.what} must hold categories, got text that no other row has in {alone} of {counts.total()} rows, "
            f"such as {shown(example)}; drop= leaves it out, and categorical= takes what comes twice or more often"
        )


ENCODINGS: dict[str, Any] = {each.kind: each for each in (Numbers, Durations, Booleans, Categories, Dates, Dropped)}


def restored(d: Any) -> Encoding:
    """The encoding that `described` described; raises ValueError or TypeError where it is none."""
    if not isinstance(d, dict):
        raise TypeError(f"an encoding must be a dict, got {shown(d)}")
    kind = ENCODINGS[scalars.choice("kind", d.get("kind"), ENCODINGS)]
    names = {each.name for each in dataclasses.fields(kind)}
    if d.keys() != {"kind", *names}:
        raise ValueError(f"{kind.kind} must have {sorted(names)}, got {sorted(map(str, d))}")
    fields = {name: tuple(d[name]) if isinstance(d[name], list) else d[name] for name in names}
    if kind is Dates and fields["year"] is not None:
        fields["year"] = restored(fields["year"])
    found: Encoding = kind(**fields)
    scalars.boolean("gaps", found.gaps)
    found.check()
    if kind is not Dropped and not found.suffixes():
        raise ValueError(f"{kind.kind} must have a column of the matrix, got {shown(d)}")
    return found
