"""Scale: z = x * weight, a factor for each neuron."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

from ..matmul import WHOLE, TileRange
from .layer import Delta, Gradient, Kind, Step, Tensor


@dataclass(frozen=True)
class Scale(Kind):
    """A trainable factor for each neuron."""

    mixes = False
    buffers = MappingProxyType({"part": "block"})

    def tensors(self, fan_in: int) -> tuple[Tensor, ...]:
        return (Tensor("weight", 1, start=1.0),)

    def forward(self, step: Step, epilogue: Callable[[TileRange], None], activation: str) -> None:
        step.scale(step.out, step.inputs[0][:, step.shard.columns], step.tensor("weight"))
        epilogue(WHOLE)

    def delta(self, step: Step, read: int, delta: Delta) -> None:
        """d * weight."""
        part = step.place_of(delta)
        step.scale(part, step.d[:, step.shard.columns], step.tensor("weight"))
        step.hand_down(part, delta)

    def gradient(self, step: Step, gradient: Gradient) -> None:
        """The sum of x * d over the samples."""
        x, d = (matrix[:, step.shard.columns] for matrix in (step.inputs[0], step.d))
        weight = gradient.tensor("weight")
        step.sum_to(weight, gradient, lambda out: step.add("sums_of_products", {"x": x, "d": d}, out=out))
