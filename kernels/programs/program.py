"""Programs: lists of operations over matrices, as Python writes them and as compiled code runs them.

An operation is a row of int64: the address of a vector function, then its arguments. Where a program has a symbol in
place of an address, `entry` writes the address into the row before each run; a patch says where.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cpu.target import Target
from ..vector.function import OPERATION_BYTES
from ..vector.library import Library, functions
from ..vector.matrix import Matrix, Symbol

OPERATION_WORDS = OPERATION_BYTES // 8

# The symbols of a program. Where rows from `first` on are due, a symbol stands for address + first * row_stride. A
# table of BINDING has these numbers of each symbol.
SYMBOLS = (
    *("samples", "targets", "weights", "order", "remaining", "outputs", "gradient", "rates", "position"),
    *("parameters", "vectors", "state", "settings", "affine"),
)
SAMPLES, TARGETS, WEIGHTS, ORDER, REMAINING, OUTPUTS, GRADIENT, RATES, POSITION = range(9)
PARAMETERS, VECTORS, STATE, SETTINGS, AFFINE = range(9, len(SYMBOLS))
BINDING = np.dtype([("address", "i8"), ("row_stride", "i8")])
PATCH = np.dtype([("word", "i8"), ("symbol", "i8"), ("offset", "i8")])
# A part of a code, which is one program: its operations, its patches, its rows, and the first of them in the block.
PART = np.dtype([(name, "i8") for name in ("operation", "operations", "patch", "patches", "rows", "first_row")])


Operation = tuple[str, dict[str, Any]]  # a function's name and arguments, as `Program.add` takes them


class Program:
    """A list of operations in the making, for a target and a dtype. print() shows it."""

    def __init__(self, target: Target, dtype: str, rows: int = 0, first_row: int = 0):
        """rows: how many rows of a block the program is for. first_row: the first of them that this worker computes."""
        self.target, self.dtype = target, dtype
        self.rows, self.first_row = rows, first_row
        self.operations: list[tuple[str, dict[str, Any], list[int | Symbol]]] = []
        self.owners: set[Any] = set()  # the owners of users' functions, whose code goes with them
        self._functions = functions(target)

    def add(self, name: str, **arguments: Any) -> int:
        """Append a call of the library's function `name`; gives its number in the program.

        Raises where an argument is missing or unknown, or where the matrices do not fit each other.
        """
        try:
            function = self._functions[name]
        except KeyError:
            raise ValueError(f"there is no function {name!r} for {self.target.cpu}") from None
        signature = function.signature
        signature.check(name, arguments, self.dtype)
        if function.owner is not None:
            self.owners.add(function.owner)
        place = len(self.operations)
        self.operations.append((name, arguments, signature.values(arguments, place)))
        return place

    def extend(self, operations: Iterable[Operation]) -> None:
        """Append several."""
        for name, arguments in operations:
            self.add(name, **arguments)

    def __len__(self) -> int:
        return len(self.operations)

    def __str__(self) -> str:
        """A line for each operation: its function and arguments."""
        width = max((len(name) for name, *_ in self.operations), default=0)
        lines = []
        for name, arguments, _ in self.operations:
            shown = "  ".join(f"{key}={value}" for key, value in arguments.items())
            lines.append(f"{name:{width}}  {shown}")
        return "\n".join(lines)


class Code:
    """Programs laid end to end, as `entry` takes them."""

    def __init__(self, programs: Iterable[Program], library: Library):
        programs = list(programs)
        names = {name for program in programs for name, *_ in program.operations}
        self._owners = {owner for program in programs for owner in program.owners}  # they keep the code loaded
        addresses = library.addresses(sorted(names))
        rows: list[tuple[int, ...]] = []
        patches: list[tuple[int, int, int]] = []
        parts: list[tuple[int, ...]] = []
        for program in programs:
            parts.append((len(rows), len(program), len(patches), 0, program.rows, program.first_row))
            for name, _, values in program.operations:
                for word, value in enumerate(values, len(rows) * OPERATION_WORDS + 1):
                    if not isinstance(value, Symbol):
                        continue
                    if value.name not in SYMBOLS:
                        raise ValueError(f"a symbol is one of {SYMBOLS}, not {value.name!r}")
                    patches.append((word, SYMBOLS.index(value.name), value.offset))
                row = [0 if isinstance(value, Symbol) else value for value in values]
                rows.append((addresses[name], *row, *[0] * (OPERATION_WORDS - 1 - len(row))))
            parts[-1] = (*parts[-1][:3], len(patches) - parts[-1][2], *parts[-1][4:])
        self.operations: NDArray[np.int64] = np.array(rows, np.int64).reshape(-1)
        self.patches = np.array(patches, PATCH)
        self.parts = np.array(parts, PART)

    @classmethod
    def joined(cls, codes: Iterable[Code | None]) -> Code:
        """Codes end to end; None stands for an empty part."""
        operations, patches, parts = [np.empty(0, np.int64)], [np.empty(0, PATCH)], []
        owners: set[object] = set()
        n_words = n_patches = 0
        for code in codes:
            part = np.zeros(1, PART) if code is None else code.parts.copy()
            parts.append(part)
            if code is None:
                continue
            owners |= code._owners
            part["operation"] += n_words // OPERATION_WORDS
            part["patch"] += n_patches
            moved = code.patches.copy()
            moved["word"] += n_words
            operations.append(code.operations)
            patches.append(moved)
            n_words, n_patches = n_words + len(code.operations), n_patches + len(moved)
        made = object.__new__(cls)
        made._owners = owners
        made.operations, made.patches = np.concatenate(operations), np.concatenate(patches)
        made.parts = np.concatenate(parts)
        return made

    def written(self, table: NDArray[Any]) -> Code:
        """A copy that holds what its symbols stand for in a table, for the first row."""
        made = copy.copy(self)
        made.operations = self.operations.copy()
        made.operations[self.patches["word"]] = table["address"][self.patches["symbol"]] + self.patches["offset"]
        return made


_UNBOUND = np.zeros((len(SYMBOLS), len(BINDING.names or ())), np.int64)
_UNBOUND[POSITION] = 0, 1


def bindings() -> NDArray[Any]:
    """A table of BINDING: no address is known yet; the position is the number of the first row."""
    return _UNBOUND.copy().view(BINDING)[:, 0]  # to make and fill a table of records takes three times as long


def bind(table: NDArray[Any], symbol: int, address: int, row_stride: int = 0) -> None:
    """Enter what a symbol stands for from now on."""
    table[symbol] = address, row_stride


def elementwise(program: Program, name: str, out: Matrix, *inputs: Matrix, **numbers: Any) -> None:
    """Add a function of each element, its inputs called x and y, all in one orientation; out may be an input's memory.

    numbers are its arguments that are no matrices.
    """
    matrices = dict(zip(("x", "y"), (matrix.flat() for matrix in inputs), strict=False))
    program.add(name, out=out.flat(), **matrices, **numbers)
