"""BatchNorm: x' = (x - mean) / sqrt(variance + epsilon) over the samples of a batch (Ioffe and Szegedy 2015).

The running statistics follow those of the batches, and take their place in prediction; they are tensors that do not
train. The running variance is the unbiased one, as in PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

from ...vector.matrix import Matrix
from ..matmul import WHOLE, TileRange
from .layer import TRACKED, Delta, Step, Tensor
from .normalised import Normalised

NUMBERS = ("mean", "variance", "root")  # a number of each for each neuron, from the batch
RUNNING_STARTS = {"mean": 0.0, "variance": 1.0}
FOLDED = ("factor", "shift")  # what takes their place where the running statistics are taken


@dataclass(frozen=True)
class BatchNorm(Normalised):
    """Normalisation of each neuron over a batch."""

    epsilon: float
    momentum: float  # the share of a batch in the running statistics
    mixes = False
    whole_batch = True
    buffers = MappingProxyType(dict(Normalised.buffers) | dict.fromkeys((*NUMBERS, *FOLDED), "neurons"))

    def tensors(self, fan_in: int) -> tuple[Tensor, ...]:
        mean = Tensor("running_mean", 1, RUNNING_STARTS["mean"], trains=False)
        variance = Tensor("running_variance", 1, RUNNING_STARTS["variance"], trains=False, least=0.0)
        return *super().tensors(fan_in), mean, variance

    def forward(self, step: Step, epilogue: Callable[[TileRange], None], activation: str) -> None:
        program, x = step.program, step.inputs[0][:, step.shard.columns]
        kept = {name: step.kept[name][:, step.shard.columns] for name in (*NUMBERS, *FOLDED, "normalised")}
        if step.running:
            statistics = {name: step.tensor(f"running_{name}") for name in RUNNING_STARTS}
            folded = {name: kept[name] for name in FOLDED}
            gains = {"gain": step.tensor("weight"), "bias": step.tensor("bias"), "epsilon": self.epsilon}
            program.add("fold", **statistics, **gains, **folded)
            step.add("scaled_and_shifted", {"out": step.out, "x": x}, **folded)
        else:
            numbers = {name: kept[name] for name in NUMBERS}
            matrices = {"out": kept["normalised"], "x": x}
            step.add("normalise_over_samples", matrices, **numbers, epsilon=self.epsilon)
            self.scale_and_shift(step)
            if step.statistics == TRACKED and (step.layer.is_shared or step.worker.index == 0):
                self._follow(step, kept)
        epilogue(WHOLE)

    def _follow(self, step: Step, kept: dict[str, Matrix]) -> None:
        """Let the running statistics follow those of the batch."""
        n = step.z.rows
        for name, factor in (("mean", 1.0), ("variance", n / (n - 1))):
            average = step.tensor(f"running_{name}")
            step.program.add("follow", average=average, x=kept[name], momentum=self.momentum, factor=factor)

    def tangent(self, step: Step) -> None:
        """The derivative along a direction, with the running statistics."""
        step.scale(step.out, step.inputs[0], step.kept["factor"])

    def delta(self, step: Step, read: int, delta: Delta) -> None:
        columns = step.shard.columns
        part, d = step.place_of(delta), step.d[:, columns]
        if step.running:
            step.scale(part, d, step.kept["factor"][:, columns])
        else:
            step.scale(part, d, step.tensor("weight"))
            matrices = {"out": part, "d": part, "x": step.kept["normalised"][:, columns]}
            step.add("normalise_over_samples_backward", matrices, root=step.kept["root"][:, columns])
        step.hand_down(part, delta)
