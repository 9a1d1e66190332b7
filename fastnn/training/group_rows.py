"""The rows of a frame by groups: the different keys, and which rows each has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data import frames
from ..kernels.running import entry

ROWS_AT_A_TIME = 2**18  # that a compiled call numbers or places
CHUNK = 2**22  # numbers that the rows and the networks of some groups take, while others wait


class GroupRows(NamedTuple):
    """The rows of each group, in the order of the frame. Groups are in ascending order of their keys, if keys have one.

    Keys of different types, which cannot be compared, stay in the order in which they come.
    """

    keys: list[NDArray[Any]]  # for each column of keys an array with one of each group
    edges: NDArray[np.int64]  # (groups + 1,): the rows of group g lie between edges[g] and edges[g + 1] in `rows`
    rows: NDArray[np.int32] | None  # (rows of the frame,); None where the frame has them in this order already

    @classmethod
    def of(cls, name: str, frame: Any, by: Sequence[Any]) -> GroupRows:
        """The groups of a frame by its columns `by`; raises where a key is missing, or where there are no rows."""
        n = frames.rows_of(name, frame)
        if not 0 < n < 2**31:
            raise ValueError(f"{name} must have at least one row, and fewer than 2**31, got {n}")
        codes, firsts = _codes(name, frame, by, n)
        keys = [frames.keys(frame, label, firsts) for label in by]
        order = _ascending(keys)
        counts = np.bincount(codes, minlength=len(firsts)) if n < ROWS_AT_A_TIME else _counts(codes, len(firsts))
        edges = np.append(0, np.cumsum(counts[order]))
        following = np.empty(len(order), np.int64)
        following[order] = edges[:-1]
        in_order = bool((order[1:] > order[:-1]).all()) and bool((codes[1:] >= codes[:-1]).all())
        rows = None if in_order else _placed(codes, following)
        return cls([each[order] for each in keys], edges, rows)

    def __len__(self) -> int:
        return len(self.edges) - 1

    def part(self, first: int, stop: int) -> GroupRows:
        """Consecutive groups, as far as there are any, whose edges count rows as before; without keys."""
        return GroupRows([], self.edges[first : stop + 1], self.rows)

    def chunks(self, numbers: int, numbers_of_group: int) -> Iterator[tuple[slice, int, int]]:
        """(groups, first row, last row and one) of consecutive groups: each chunk takes about CHUNK numbers.

        A row takes so many numbers, and a group so many beside.
        """
        ends = self.edges * numbers + numbers_of_group * np.arange(len(self) + 1)
        first = 0
        while first < len(self):
            stop = max(first + 1, int(np.searchsorted(ends, ends[first] + CHUNK, "right")) - 1)
            yield slice(first, stop), int(self.edges[first]), int(self.edges[stop])
            first = stop

    def values(self, column: NDArray[Any], first: int, stop: int) -> NDArray[np.float64]:
        """The numbers of a column in the rows between two edges, one behind the other."""
        some = slice(first, stop)
        found = column[some] if self.rows is None else column.take(self.rows[some], mode="clip")  # 0.6x of indexing
        return np.require(found, np.float64, ["C", "A", "E"])


def _codes(name: str, frame: Any, by: Sequence[Any], n: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """(the number of each row's group, the first row of each group)."""
    codes: Any = None
    firsts = np.zeros(0, np.int64)
    for label in by:
        words = frames.words(name, frame, label)
        if len(words) != n:
            raise ValueError(f"{name} must have columns of one length, got {len(words)} and {n} rows")
        found, rows = _numbered(lambda some, words=words: words[some], n)  # type: ignore[misc]
        if codes is None:
            codes, firsts = found, rows
            continue
        most = len(rows)
        codes, firsts = _numbered(lambda some, a=codes, b=found, k=most: a[some] * np.int64(k) + b[some], n)  # type: ignore[misc]
    return codes, firsts


def _numbered(words: Callable[[slice], NDArray[Any]], n: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """(the number of each of n words, where each different word comes first): numbers follow the order of these."""
    codes = np.empty(n, np.int32)
    found, rows = np.empty(0, np.int64), np.empty(0, np.int64)
    table, known = np.empty(0, np.int32), 0
    for first in range(0, n, ROWS_AT_A_TIME):
        some = slice(first, min(n, first + ROWS_AT_A_TIME))
        most = known + some.stop - first
        if 2 * most > len(table):
            table = np.full(1 << (4 * most - 1).bit_length(), -1, np.int32)
            found, rows = np.resize(found, len(table) // 2), np.resize(rows, len(table) // 2)
            kept = found[:known].copy()
            entry.encode_words(kept, np.empty(known, np.int32), table, found, np.empty_like(rows), 0, 0)
        part = np.require(words(some), np.int64, ["C", "A", "E"])
        known = int(entry.encode_words(part, codes[some], table, found, rows, known, first))
    return codes, rows[:known].copy()


def _ascending(keys: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
    """The order of groups in which their keys ascend, the first column first."""
    order = np.arange(len(keys[0]))
    try:
        for column in reversed(keys):
            order = order[np.argsort(column[order], kind="stable")]
    except TypeError:  # keys of different types
        return np.arange(len(keys[0]))
    return order


def _counts(codes: NDArray[np.int32], n: int) -> NDArray[np.int64]:
    """How many rows each of n groups has; `np.bincount` would copy all codes."""
    counts = np.zeros(n, np.int64)
    for first in range(0, len(codes), ROWS_AT_A_TIME):
        counts += np.bincount(codes[first : first + ROWS_AT_A_TIME], minlength=n)
    return counts


def _placed(codes: NDArray[np.int32], following: NDArray[np.int64]) -> NDArray[np.int32]:
    """The rows of each group side by side, from where `following` says."""
    rows = np.empty(len(codes), np.int32)
    for first in range(0, len(codes), ROWS_AT_A_TIME):
        entry.place_rows(codes[first : first + ROWS_AT_A_TIME], following, first, rows)
    return rows
