"""Dense: z = x @ W + b. W is (fan_in, fan_out), from neuron k to neuron j, and b lies behind it as one more row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...vector.matrix import Matrix
from ..matmul import (
    INNER_SUMS,
    TRANSPOSE,
    WHOLE,
    TileRange,
    affine,
    column_sums,
    matmul,
    matmul_tn,
    no_epilogue,
    tn_operations,
    zeros_like,
)
from .layer import Count, Delta, Gradient, Kind, Layer, Step, Tensor


@dataclass(frozen=True)
class Dense(Kind):
    """A fully connected layer."""

    multiplies = True

    def tensors(self, fan_in: int) -> tuple[Tensor, ...]:
        return Tensor("weight", fan_in, decays=True), Tensor("bias", 1)

    def shape(self, name: str, fan_in: int, fan_out: int) -> tuple[int, ...]:
        return (fan_out, fan_in) if name == "weight" else (fan_out,)

    def fuses(self, single: bool) -> bool:
        return single

    def forward(self, step: Step, epilogue: Callable[[TileRange], None], activation: str) -> None:
        self._multiply(step, step.tensor("bias"), epilogue, activation)

    def tangent(self, step: Step) -> None:
        """x @ W."""
        self._multiply(step, step.zeros[:, : step.out.cols], no_epilogue, "identity")

    def _multiply(self, step: Step, b: Matrix, epilogue: Callable[[TileRange], None], activation: str) -> None:
        """x @ W + b."""
        (x,), w = step.inputs, step.tensor("weight")
        if step.single:
            step.program.add(f"{activation}_gemv", out=step.out, x=x, W=w, C0=b)
            epilogue(WHOLE)
        else:
            affine(step.program, step.out, x, w, b, epilogue)

    def delta(self, step: Step, read: int, delta: Delta) -> None:
        """d @ W.T."""
        program, layer, d, out = step.program, step.layer, step.d, delta.out
        fused_epilogue, numbers = delta.fused_epilogue, delta.numbers or {}
        if d.cols == 1 and fused_epilogue is not None and delta.fused.startswith("group_"):
            w = step.tensor("weight")[delta.shard.columns, :]
            program.add(delta.fused, out=out, x=d, y=w.T, z=delta.z, **numbers)
            return
        if not step.single:
            ws = [step.tensor_of(layer, "weight", s)[delta.shard.columns, :].T for s in layer.shards]
            c0 = out if delta.added else zeros_like(out, step.zeros)
            pack, zeros = step.pack_buffer, step.zeros
            matmul(program, out, d, ws, c0, pack_buffer=pack, zeros=zeros, epilogue=delta.epilogue)
            return
        w, zeros = step.tensor("weight"), step.zeros[:, : d.padded_cols]
        if delta.added:
            part = step.sums[:, : out.cols]
            program.add("identity_gemv_backward", out=part, x=d, B=w, zeros=zeros, z=part)
            program.add("add", out=out, x=out, y=part)
            delta.epilogue(WHOLE)
        elif fused_epilogue is not None:
            program.add(delta.fused, out=out, x=d, B=w, zeros=zeros, z=delta.z, **numbers)
            fused_epilogue(WHOLE)

    def gradient(self, step: Step, gradient: Gradient) -> None:
        """dW = x.T @ d, and db = the sum of d over the samples."""
        program, layer = step.program, step.layer
        first, stop = gradient.first, min(gradient.stop, layer.fan_in)
        w = gradient.tensor("weight")[first:stop, :]
        x, d = step.inputs[0][:, first:stop], step.d[:, step.shard.columns]
        zeros = zeros_like(w, step.zeros)
        if step.single:
            both, c0 = w.taller(1), zeros.taller(1) if gradient.overwrite else w.taller(1)
            program.add("ger", C=both, C0=c0, x=x, d=d)
            return
        places = {"pack_buffer": step.pack_buffer, "zeros": step.zeros}
        matmul_tn(program, w, x, d, zeros if gradient.overwrite else w, **places, interleave=gradient.interleave)
        if gradient.stop > layer.fan_in:  # the batch is summed first, then added once
            b = gradient.tensor("bias")
            step.sum_to(b, gradient, lambda out: column_sums(program, out, d, step.ones, step.zeros))

    def multiply_adds(self, fan_in: int, fan_out: int) -> int:
        return (fan_in + 1) * fan_out

    def training_cost(self, layer: Layer, count: Count) -> tuple[int, int]:
        fan_in, fan_out = layer.fan_in, layer.fan_out
        across_in, across_out = count.vectors(fan_in), count.vectors(fan_out)
        wide = count.rows * 2 * fan_in * across_out
        narrow = count.samples * fan_in * fan_out + across_out * count.lanes * (count.samples + INNER_SUMS)
        narrow += min(tn_operations(count.target, count.itemsize, count.shard_rows, fan_in, fan_out))
        if layer.index:
            wide += count.rows * fan_out * across_in + across_in * across_out * TRANSPOSE
            narrow += count.samples * fan_in * fan_out
        return narrow, wide

    def prediction_cost(self, layer: Layer, count: Count) -> tuple[int, int]:
        return (
            count.samples * layer.fan_in * layer.fan_out,
            count.rows * layer.fan_in * count.vectors(layer.fan_out),
        )

    def group_cost(self, layer: Layer) -> int:
        return (3 if layer.index else 2) * layer.fan_in * layer.fan_out


DENSE = Dense()
