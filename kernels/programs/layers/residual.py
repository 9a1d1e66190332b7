"""Residual: z = the output of the layer before + that of an earlier one (He et al. 2016)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..matmul import WHOLE, TileRange
from .layer import Delta, Kind, Step


@dataclass(frozen=True)
class Residual(Kind):
    """The sum that ends a residual block. `skips` holds the index of the layer whose output the block begins with."""

    skips: tuple[int, ...]
    mixes = False

    def forward(self, step: Step, epilogue: Callable[[TileRange], None], activation: str) -> None:
        x, y = (matrix[:, step.shard.columns] for matrix in step.inputs)
        step.add("total", {"out": step.out, "x": x, "y": y})
        epilogue(WHOLE)

    def delta(self, step: Step, read: int, delta: Delta) -> None:
        """d, to both."""
        step.hand_down(step.d[:, delta.shard.columns], delta)
