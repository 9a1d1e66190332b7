"""Tables of mixed columns as matrices that a network reads."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..checks import scalars
from ..checks.scalars import shown
from . import encodings
from .columns import Column, Source
from .encodings import Dropped, Encoding

ONE_HOT_MAX = 12  # values


class SummaryRow(NamedTuple):
    """What a column of a table becomes."""

    name: str
    kind: str  # a key of `ENCODINGS`
    becomes: str
    n_columns: int  # of the matrix


class Table:
    """How tables become matrices, as learned from the table of the training data.

    Columns are numbers, truth values, categories, dates or time deltas, see `encodings`. Which one a column is follows
    from its dtype: text and what its library calls categories are categories, and integers are numbers.

    Attributes
    ----------
    labels : list or None
        The names of the columns; None where they had none.
    encodings : list of Encoding
        What each column becomes.
    width : int
        The columns of the matrix. Codes of categories are the last ones.
    places : dict
        Which columns of the matrix, a slice, each column becomes, by its name, or by its number where it has none.
        Columns that are dropped are not in it.
    feature_names : list of str
        The names of the columns of the matrix: they begin with the name of the column that they come from.
    codes : dict
        The columns of the matrix that hold codes, integers from 0, and how many codes there are.
    pieces : list of int
        The columns of the matrix that are pieces of the range of numbers.

    Examples
    --------
    >>> frame = {"age": [20, 30, None, 50], "town": ["Rome", "Oslo", "Bern", "Rome"], "paid": [True, False, True, True]}
    >>> table = Table.of(frame)
    >>> table.feature_names
    ['age', 'age missing', 'town=Bern', 'town=Oslo', 'town=Rome', 'paid']
    >>> table.transform({"paid": [False, True], "town": ["Oslo", "Paris"], "age": [30, None]}).tolist()
    [[0.0, 0.0, 0.0, 1.0, 0.0, -1.0], [0.0, 1.0, 0.0, 0.0, 0.0, 1.0]]
    """

    def __init__(self, labels: list[Any] | None, found: list[Encoding]):
        self.labels, self.encodings = labels, found
        self._read = [i for i, each in enumerate(found) if each.suffixes()]
        self._read.sort(key=lambda i: found[i].n_codes > 0)
        self.places: dict[Any, slice] = {}
        self.feature_names: list[str] = []
        self.codes: dict[int, int] = {}
        self.pieces: list[int] = []
        for i in self._read:
            first = len(self.feature_names)
            self.feature_names += [f"{self._name(i)}{each}" for each in found[i].suffixes()]
            self.places[i if labels is None else labels[i]] = slice(first, len(self.feature_names))
            self.pieces += [first + j for j in found[i].pieces]
            if found[i].n_codes:
                self.codes[first] = found[i].n_codes
        self.width = len(self.feature_names)

    def _name(self, i: int) -> str:
        return f"x{i}" if self.labels is None else str(self.labels[i])

    @classmethod
    def of(
        cls,
        X: Any,
        *,
        categorical: Iterable[Any] = (),
        numeric: Iterable[Any] = (),
        drop: Iterable[Any] = (),
        one_hot_max: int = ONE_HOT_MAX,
        ranked: bool = False,
        name: str = "X",
    ) -> Table:
        """What a table says of its columns.

        Parameters
        ----------
        X : frame, dict of arrays, structured array, or array (rows, columns)
            A frame of pandas or polars or a table of pyarrow. An array may hold numbers, text or objects.
        categorical, numeric, drop : names of columns, or their numbers where they have no names
            Columns to compare for equality alone, columns of text to take as numbers, and columns to leave out.
        one_hot_max : int
            How many values of categories become a column each; more become a code.
        ranked : bool
            Whether numbers become their rank and pieces of their range too, see `Numbers`.
        name : str
            What errors call X.

        Raises ValueError or TypeError for text that hardly repeats, for infinite numbers and for columns of other kinds
        of values, and where no column is left. The message names the column.
        """
        source = Source.of(name, X)
        one_hot_max = scalars.integer("one_hot_max", one_hot_max, 2)
        if not source.n_rows:
            raise ValueError(f"{name} must hold at least one row, got none")
        given = {"categorical": categorical, "numeric": numeric, "drop": drop}
        named = {argument: _positions(argument, labels, source) for argument, labels in given.items()}
        for one, other in (("categorical", "numeric"), ("categorical", "drop"), ("numeric", "drop")):
            if both := named[one] & named[other]:
                raise ValueError(f"{one} and {other} must differ, got {shown(source.label(min(both)))} in both")
        found = [
            Dropped(False, "asked for")
            if i in named["drop"]
            else encodings.learned(
                source.column(i),
                categorical=i in named["categorical"],
                numeric=i in named["numeric"],
                one_hot_max=one_hot_max,
                ranked=ranked,
            )
            for i in range(source.n_columns)
        ]
        made = cls(source.labels, found)
        if not made.width:
            raise ValueError(f"{name} must have a column that varies, got {_told(made.summary)}")
        return made

    def transform(self, X: Any, dtype: str = "float32", *, name: str = "X", stacklevel: int = 2) -> NDArray[Any]:
        """The matrix (rows, width) of a table, C-ordered in the dtype.

        Columns are found by their names, in any order; an array, or a table that was learned without names, has the
        columns by position. A column that is dropped need not be there. Further ones are ignored, with a warning. A
        column may have another dtype than in training where all its values are the same in it: numbers as text, truth
        values as 0 and 1, dates of ISO 8601 as text.

        Raises ValueError or TypeError where a column is missing, or holds what cannot be of its kind.
        """
        scalars.choice("dtype", dtype, scalars.DTYPES)
        n_rows, found = self.read(X, name=name, stacklevel=stacklevel + 1)
        out = np.empty((n_rows, self.width), dtype)
        for i, columns in zip(self._read, self.places.values(), strict=True):
            self.encodings[i].write(found[i], out[:, columns])
        return out

    def read(self, X: Any, *, name: str = "X", stacklevel: int = 2) -> tuple[int, dict[int, Column]]:
        """(the number of rows, the columns that are read by their positions in training), found as `transform` does."""
        source = Source.of(name, X)
        where = self._where(source, stacklevel + 1)
        return source.n_rows, {i: source.column(where[i]) for i in sorted(self._read)}

    def _where(self, source: Source, stacklevel: int) -> dict[int, int]:
        """The position in a table of each column that is read."""
        if self.labels is None or source.labels is None:
            if source.n_columns != len(self.encodings):
                raise ValueError(
                    f"{source.name} must have {len(self.encodings)} columns, as in training, got {source.n_columns}"
                )
            return {i: i for i in self._read}
        there = {label: i for i, label in enumerate(source.labels)}
        lacking = [label for label in self.places if label not in there]
        if lacking:
            raise ValueError(f"{source.name} must have the columns of the training, got none called {_listed(lacking)}")
        further = [label for label in source.labels if label not in set(self.labels)]
        if further:
            told = f"{source.name} has columns that the training had not, and they are ignored: {_listed(further)}"
            warnings.warn(told, UserWarning, stacklevel=stacklevel)
        return {i: there[self.labels[i]] for i in self._read}

    @property
    def summary(self) -> list[SummaryRow]:
        """What each column becomes, in their order."""
        return [
            SummaryRow(
                self._name(i),
                each.kind,
                ", ".join(filter(None, [each.told(), "whether missing" if each.gaps else ""])),
                len(each.suffixes()),
            )
            for i, each in enumerate(self.encodings)
        ]

    def __repr__(self) -> str:
        """The summary as text, a line a column."""
        rows = [("column", "kind", "columns", "becomes")]
        rows += [(row.name, row.kind, str(row.n_columns), row.becomes) for row in self.summary]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The table in JSON: `from_dict` gives one that makes the same bits."""
        return {"labels": self.labels, "columns": [each.described() for each in self.encodings]}

    @classmethod
    def from_dict(cls, d: Any) -> Table:
        """The table of a description; raises ValueError or TypeError where it is none."""
        if not isinstance(d, dict) or d.keys() != {"labels", "columns"}:
            raise ValueError(f"a table must have 'columns' and 'labels', got {shown(d)}")
        labels, found = d["labels"], d["columns"]
        if not isinstance(found, list):
            raise TypeError(f"columns must be a list of encodings, got {shown(found)}")
        if labels is not None:
            if not isinstance(labels, list) or not all(type(each) in (str, int) for each in labels):
                raise TypeError(f"labels must be a list of names or null, got {shown(labels)}")
            if len(labels) != len(found) or len(set(labels)) < len(labels):
                raise ValueError(f"labels must be {len(found)} different names, got {shown(labels)}")
        made = cls(labels, [encodings.restored(each) for each in found])
        if not made.width:
            raise ValueError("a table must have a column that is not dropped")
        return made


def _positions(argument: str, given: Iterable[Any], source: Source) -> frozenset[int]:
    """The positions of the columns that an argument names."""
    found = scalars.items(argument, given, "a list of columns")
    if source.labels is None:
        return scalars.indices(argument, found, source.n_columns)
    for label in found:
        if label not in source.labels:
            raise ValueError(
                f"{argument} must name columns of {source.name}, {shown(source.labels)}, got {shown(label)}"
            )
    return frozenset(map(source.labels.index, found))


def _listed(labels: list[Any]) -> str:
    """Names in a message; the first ones where there are many."""
    more = f" and {len(labels) - 20} others" if len(labels) > 20 else ""
    return ", ".join(map(repr, labels[:20])) + more


def _told(rows: list[SummaryRow]) -> str:
    """What became of columns in a message."""
    more = f" and {len(rows) - 20} others" if len(rows) > 20 else ""
    return ", ".join(f"{row.name!r} ({row.becomes})" for row in rows[:20]) + more or "no column"
