"""PReLU: z = x where x > 0, else x * weight, a slope for each neuron (He, Zhang, Ren and Sun 2015)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

from ...vector.matrix import Matrix
from ..matmul import WHOLE, TileRange
from .layer import Count, Delta, Gradient, Kind, Layer, Step, Tensor

OPERATIONS = 9  # vector operations of forward, delta and gradient, for each vector of samples or neurons


@dataclass(frozen=True)
class PReLU(Kind):
    """A trainable slope below zero for each neuron. At zero the derivative is the slope, as in PyTorch."""

    init: float  # what the slopes begin with
    mixes = False
    buffers = MappingProxyType({"part": "block"})

    def tensors(self, fan_in: int) -> tuple[Tensor, ...]:
        return (Tensor("weight", 1, start=self.init),)

    def forward(self, step: Step, epilogue: Callable[[TileRange], None], activation: str) -> None:
        x = self._columns(step, step.inputs)
        self._slope(step, step.out, x, x)
        epilogue(WHOLE)

    def tangent(self, step: Step) -> None:
        """The derivative at the point, times the direction."""
        self._slope(step, step.out, self._columns(step, step.inputs), self._columns(step, step.point))

    def delta(self, step: Step, read: int, delta: Delta) -> None:
        """d, times weight where x is not above zero."""
        part = step.place_of(delta)
        self._slope(step, part, step.d[:, step.shard.columns], self._columns(step, step.inputs))
        step.hand_down(part, delta)

    def gradient(self, step: Step, gradient: Gradient) -> None:
        """The sum of min(x, 0) * d over the samples."""
        matrices = {"x": self._columns(step, step.inputs), "d": step.d[:, step.shard.columns]}
        step.sum_to(gradient.tensor("weight"), gradient, lambda out: step.add("sums_below_zero", matrices, out=out))

    def _columns(self, step: Step, matrices: tuple[Matrix, ...]) -> Matrix:
        """This worker's columns of the one matrix of what is read."""
        return matrices[0][:, step.shard.columns]

    def _slope(self, step: Step, out: Matrix, y: Matrix, x: Matrix) -> None:
        """Add out = y where x > 0, else y * weight."""
        step.add("sloped", {"out": out, "y": y, "x": x}, slope=step.tensor("weight"))

    def training_cost(self, layer: Layer, count: Count) -> tuple[int, int]:
        return OPERATIONS * count.samples * layer.fan_out, OPERATIONS * count.rows * count.vectors(layer.fan_out)

    def group_cost(self, layer: Layer) -> int:
        return OPERATIONS * layer.fan_out
