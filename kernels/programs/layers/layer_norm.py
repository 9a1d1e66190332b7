"""LayerNorm: x' = (x - mean) / sqrt(variance + epsilon) over the neurons of each sample (Ba, Kiros and Hinton 2016)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

from ..matmul import WHOLE, TileRange
from .layer import Delta, Step
from .normalised import Normalised

NUMBERS = ("mean", "variance", "root")  # a number of each for each sample


@dataclass(frozen=True)
class LayerNorm(Normalised):
    """Normalisation of each sample."""

    epsilon: float
    ordered = False
    buffers = MappingProxyType(dict(Normalised.buffers) | dict.fromkeys(NUMBERS, "samples"))

    def forward(self, step: Step, epilogue: Callable[[TileRange], None], activation: str) -> None:
        """Each worker normalises whole samples, and scales the columns that it computes."""
        matrices = {"out": step.kept["normalised"], "x": step.inputs[0]}
        numbers = {name: step.kept[name] for name in NUMBERS}
        step.add("normalise_over_neurons", matrices, **numbers, epsilon=self.epsilon)
        self.scale_and_shift(step)
        epilogue(WHOLE)

    def tangent(self, step: Step) -> None:
        """The derivative of the normalisation is symmetric: what takes deltas back takes tangents forward."""
        matrices = {"out": step.out, "d": step.inputs[0], "x": step.kept["normalised"]}
        step.add("normalise_over_neurons_backward", matrices, root=step.kept["root"])
        step.scale(step.out, step.out, step.tensor("weight"))

    def delta(self, step: Step, read: int, delta: Delta) -> None:
        part, x = step.kept["part"], step.kept["normalised"]
        if not (delta.added or step.layer.is_shared):  # then the worker computes all columns
            part = delta.out
        for shard in step.layer.shards:
            weight = step.tensor_of(step.layer, "weight", shard)
            step.scale(part[:, shard.columns], step.d[:, shard.columns], weight)
        step.add("normalise_over_neurons_backward", {"out": part, "d": part, "x": x}, root=step.kept["root"])
        step.hand_down(part[:, delta.shard.columns], delta)
