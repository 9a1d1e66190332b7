"""Embedding: numbers as they are, then for each column of codes the row of its table (Bengio et al. 2003)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ...vector.matrix import Matrix
from ..matmul import WHOLE, TileRange
from .layer import Delta, Gradient, Kind, Step, Tensor

PREFIX = "embedding_"  # of a table's name, before its column


@dataclass(frozen=True)
class Embedding(Kind):
    """Tables of the inputs that are codes: of each column how many codes there are, and how wide a row of its table is.

    Every worker computes all of it. They share the gradient and the update by rows of the tables.
    """

    columns: tuple[int, ...]
    categories: tuple[int, ...]
    widths: tuple[int, ...]
    row_major = True

    def tensors(self, fan_in: int) -> tuple[Tensor, ...]:
        tables = zip(self.columns, self.categories, self.widths, strict=True)
        return tuple(Tensor(f"{PREFIX}{column}", rows, cols=width) for column, rows, width in tables)

    def shape(self, name: str, fan_in: int, fan_out: int) -> tuple[int, ...]:
        i = self.columns.index(int(name.removeprefix(PREFIX)))
        return self.categories[i], self.widths[i]

    def row_width(self, fan_out: int) -> int:
        return max(self.widths)

    def numbers(self, fan_in: int) -> tuple[slice, ...]:
        edges = [-1, *sorted(self.columns), fan_in]
        return tuple(slice(a + 1, b) for a, b in itertools.pairwise(edges) if a + 1 < b)

    def forward(self, step: Step, epilogue: Callable[[TileRange], None], activation: str) -> None:
        self._copy_numbers(step, step.z, step.inputs[0])
        for tensor, codes, columns in self._tables(step):
            table = step.tensor(tensor.name)
            step.program.add("embed", out=step.z[:, columns], codes=codes, table=table)
        epilogue(WHOLE)

    def tangent(self, step: Step) -> None:
        """The direction's numbers; codes have no derivative."""
        step.program.add("zero", out=step.z.flat())
        self._copy_numbers(step, step.z, step.inputs[0])

    def delta(self, step: Step, read: int, delta: Delta) -> None:
        """d of the numbers, and zero for codes."""
        step.program.add("zero", out=delta.out.flat())
        for here, there in self._places(step):
            step.program.add("unpad", out=delta.out[:, here], source=step.d[:, there])
        delta.epilogue(WHOLE)

    def gradient(self, step: Step, gradient: Gradient) -> None:
        """The sum of d over the samples of each code."""
        step.program.extend(gradient.interleave)
        begin = 0
        for tensor, codes, columns in self._tables(step):
            first, stop = (min(max(row - begin, 0), tensor.rows) for row in (gradient.first, gradient.stop))
            begin += tensor.rows
            if first < stop:
                out = gradient.tensor(tensor.name)[first:stop, :]
                if gradient.overwrite:
                    step.program.add("zero", out=out.flat())
                step.program.add("add_by_codes", out=out, first=first, codes=codes, d=step.d[:, columns])

    def _places(self, step: Step) -> Iterator[tuple[slice, slice]]:
        """The columns of numbers in the inputs, and in the outputs."""
        place = 0
        for columns in self.numbers(step.layer.fan_in):
            yield columns, slice(place, place := place + columns.stop - columns.start)

    def _copy_numbers(self, step: Step, out: Matrix, x: Matrix) -> None:
        for here, there in self._places(step):
            step.program.add("unpad", out=out[:, there], source=x[:, here])

    def _tables(self, step: Step) -> Iterator[tuple[Tensor, Matrix, slice]]:
        """(a table, its codes in the inputs, its columns in the outputs) of each."""
        place = step.layer.fan_in - len(self.columns)
        for tensor, column, width in zip(step.layer.tensors, self.columns, self.widths, strict=True):
            yield tensor, step.inputs[0][:, column : column + 1], slice(place, place := place + width)
