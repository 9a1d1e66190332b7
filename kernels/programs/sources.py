"""Where samples, targets and weights come from: the kinds of arrays that programs read, and what fetches them ahead."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..vector.matrix import ITEMSIZE, Matrix, Symbol, networks_of
from .program import Operation, Program

L2_SAMPLE_BYTES = 2**18  # a sample set of so many bytes stays in the L2 cache without being prefetched
L1_PREFETCH_BYTES = 2**13  # up to so many bytes of a batch are prefetched into the L1 cache, a part of it; more into L2
PREFETCH_BYTES = 2**10  # so many are prefetched at a time: about what the core can have under way

_NAMES = {np.dtype(name): name for name in ITEMSIZE if "x" not in name}


@dataclass(frozen=True)
class Source:
    """A kind of array of samples: how it is read, and whether it is fetched ahead. A symbol stands for its address."""

    symbol: str
    operation: str
    dtype: str
    cols: int
    row_stride: int
    prefetch: bool

    @classmethod
    def of(cls, symbol: str, array: NDArray[Any]) -> Source:
        """The kind of an array: (n, width) in the network's dtype or uint8, int32 class indices (n,), or weights (n,).

        An int64 array (n, 3) holds sparse rows: where the column numbers and the values of each lie, and how many.
        Rows that are shifted may also be float64 where the network is not; sparse values then are float64.
        """
        cols = 1 if array.ndim == 1 else array.shape[1]
        return _source(symbol, _NAMES[array.dtype], cols, cols * array.itemsize, array.nbytes > L2_SAMPLE_BYTES)

    @classmethod
    def of_rows(cls, symbol: str, cols: int, dtype: str) -> Source:
        """The kind of an array of C-ordered rows that are read once."""
        return _source(symbol, dtype, cols, cols * ITEMSIZE[dtype], prefetch=False)

    @property
    def once(self) -> Source:
        """This kind for a single pass over the array, in which nothing is fetched ahead."""
        return self.of_rows(self.symbol, self.cols, self.dtype)

    def matrix(self, rows: int) -> Matrix:
        """So many rows of the array."""
        place = self.row_stride, ITEMSIZE[self.dtype], self.dtype, self.symbol
        return Matrix(Symbol(self.symbol), rows, self.cols, *place)

    def load(
        self,
        program: Program,
        out: Matrix,
        scale: float | Matrix = 1.0,
        of_group: dict[str, int] | None = None,
    ) -> int:
        """out = scale * the next rows in the order; gives the number of the operation.

        Where `scale` is an operand, see `Workspace.loading`, out = (the rows - shift) * scale. `of_group` says where
        the rows of a group's networks lie, see `Workspace.rows_of`.
        """
        name, rows, how = self._gather(program, scale), out.rows, self._how(scale, of_group is not None)
        if of_group is not None:
            return program.add(f"group_{name}", out=out, row_stride=self.row_stride, **of_group, **how)
        if not out.is_row_major:
            name, out = f"{name}_columns", out.T
        order, remaining = Symbol("order"), Symbol("remaining") if self.prefetch else 0  # prefetches read it
        return program.add(name, out=out, source=self.matrix(rows), order=order, remaining=remaining, **how)

    def _gather(self, program: Program, scale: float | Matrix) -> str:
        """The function that loads rows, which are shifted where the scale is an operand."""
        if not isinstance(scale, Matrix):
            return self.operation
        is_wider = self.dtype == "float64" and networks_of(program.dtype)[0] == "float32"
        return self.operation.replace("gather", "gather_shifted") + "_float64" * is_wider

    def _how(self, scale: float | Matrix, of_group: bool) -> dict[str, Any]:
        """The arguments of that function that say what becomes of the numbers."""
        if not self.operation.startswith("gather"):
            return {}
        if not isinstance(scale, Matrix):
            return {"scale": scale}
        table = {"affine": scale.address, "affine_stride": scale.row_stride}
        return table if of_group else {"affine": scale}

    def prefetches(self, gather: int, rows: int, ahead: int) -> list[Operation]:
        """Operations that fetch as many rows, `ahead` rows further on than operation `gather` reads them."""
        if not self.prefetch:
            return []
        name = "prefetch_L1" if rows * self.row_stride <= L1_PREFETCH_BYTES else "prefetch_L2"
        step, per_row = max(1, PREFETCH_BYTES // self.row_stride), -(-self.row_stride // PREFETCH_BYTES)
        edges = [self.row_stride * i // per_row for i in range(per_row + 1)]
        return [
            (name, {"first": i, "stop": min(i + step, rows), "start": s, "end": e, "ahead": ahead, "gather": gather})
            for i in range(0, rows, step)
            for s, e in itertools.pairwise(edges)
        ]


@functools.lru_cache
def _source(symbol: str, dtype: str, cols: int, row_stride: int, prefetch: bool) -> Source:
    operation = {"int32": "one_hot", "uint8": "gather_uint8", "int64": "gather_sparse"}.get(dtype, "gather")
    return Source(symbol, operation, dtype, cols, row_stride, prefetch)


class Sources(NamedTuple):
    """The kinds of arrays of a sample set: samples, targets, and weights if it has any."""

    x: Source
    y: Source
    w: Source | None = None

    @classmethod
    def of(cls, x: NDArray[Any], y: NDArray[Any], w: NDArray[Any] | None = None) -> Sources:
        """The kinds of arrays that `Source.of` takes."""
        weights = None if w is None else Source.of("weights", w)
        return cls(Source.of("samples", x), Source.of("targets", y), weights)

    @property
    def once(self) -> Sources:
        """These kinds for a single pass; see `Source.once`."""
        return Sources(self.x.once, self.y.once, None if self.w is None else self.w.once)
