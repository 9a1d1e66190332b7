"""What LayerNorm and BatchNorm share: z = weight * x' + bias, a number a neuron each, where x' is x normalised."""

from __future__ import annotations

from types import MappingProxyType

from ..matmul import column_sums
from .layer import Count, Gradient, Kind, Layer, Step, Tensor

PASSES = 10  # vector operations of forward, delta and gradient, for each vector of samples or neurons


class Normalised(Kind):
    """A layer that normalises its inputs, then scales and shifts them."""

    buffers = MappingProxyType({"normalised": "block", "part": "block"})

    def tensors(self, fan_in: int) -> tuple[Tensor, ...]:
        return Tensor("weight", 1, start=1.0), Tensor("bias", 1)

    def scale_and_shift(self, step: Step) -> None:
        """Add z = weight * x' + bias, this worker's columns."""
        x = step.kept["normalised"][:, step.shard.columns]
        numbers = {"factor": step.tensor("weight"), "shift": step.tensor("bias")}
        step.add("scaled_and_shifted", {"out": step.out, "x": x}, **numbers)

    def gradient(self, step: Step, gradient: Gradient) -> None:
        """The sums of x' * d and of d over the samples."""
        x, d = (matrix[:, step.shard.columns] for matrix in (step.kept["normalised"], step.d))
        products, bias = {"x": x, "d": d}, gradient.tensor("bias")
        step.sum_to(gradient.tensor("weight"), gradient, lambda out: step.add("sums_of_products", products, out=out))
        step.sum_to(bias, gradient, lambda out: column_sums(step.program, out, d, step.ones, step.zeros))

    def multiply_adds(self, fan_in: int, fan_out: int) -> int:
        return 4 * fan_out

    def training_cost(self, layer: Layer, count: Count) -> tuple[int, int]:
        return PASSES * count.samples * layer.fan_out, PASSES * count.rows * count.vectors(layer.fan_out)
