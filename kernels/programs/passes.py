"""Forward, loss, delta backpropagation and gradients of a block of samples: the mathematics, written once.

Every matrix is (samples, neurons), whichever way it lies in memory; `matmul` sees to that. A batch of a single sample
takes three fused operations, each behind one `if`.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from ..formulas.activations import ACTIVATIONS, ROW_WISE
from ..formulas.loss_functions import LOSSES
from ..vector.barriers import Worker
from ..vector.matrix import Matrix, networks_of
from .layers.layer import INPUTS, RUNNING, Delta, Gradient, Layer, Step, Tensor
from .matmul import WHOLE, TileRange, no_epilogue
from .memory import Block, Layout, Vector
from .program import Operation, Program, elementwise


@dataclass(frozen=True)
class Dropout:
    """Which layers' outputs become zero while training, how many of them, and the key of the step that draws them.

    A layer that drops outputs has a and z in two buffers, whatever its activation: the derivative is taken from what
    was there before outputs became zero.
    """

    layers: tuple[int, ...]
    rates: Matrix  # a row, the share of each layer's outputs
    key: Matrix

    def drops(self, layer: Layer) -> bool:
        return layer.index in self.layers

    def add(
        self, program: Program, layer: Layer, block: Block, out: Matrix, x: Matrix, begin: int, tile_range: TileRange
    ) -> None:
        """out = x without what is dropped, scaled, in a range of both. Neuron `begin` is the first of the matrices."""
        rows, cols = tile_range
        numbers = {"width": layer.fan_out, "salt": layer.index + 1, "key": self.key}
        numbers |= {"rate": self.rates[:, layer.index : layer.index + 1]}
        numbers |= {"position": block.position + (block.first + (rows.start or 0)), "begin": begin + (cols.start or 0)}
        by_samples(program, "dropout", {"out": out[tile_range], "x": x[tile_range]}, **numbers)


def by_samples(program: Program, name: str, matrices: dict[str, Matrix], **numbers: Any) -> None:
    """Add a function that has a variant for samples that are columns."""
    if not matrices["out"].is_row_major:
        name, matrices = f"{name}_columns", {key: matrix.T for key, matrix in matrices.items()}
    program.add(name, **matrices, **numbers)


def forward(
    program: Program,
    parameters: Vector,
    block: Block,
    worker: Worker,
    logits: bool = False,
    multiplied: bool = False,
    dropout: Dropout | None = None,
    summed: bool = False,
    n_layers: int | None = None,
    statistics: str = RUNNING,
) -> None:
    """a = f(z) for every layer, whose kind takes z of the a that it reads; `logits` leaves out the f of the last.

    `multiplied` says that the first layer's z is there already; `summed` that sums over samples follow, so that the
    lanes behind feature-major ones must be zero. `n_layers` is how many layers, from the first one on, are wanted.
    `statistics`: see `layers.layer`.
    """
    for layer in parameters.layout.layers[:n_layers]:
        step = step_of(program, parameters, block, worker, layer, statistics)
        a, columns, out = block.a[layer.index], step.shard.columns, step.out
        last = layer is parameters.layout.layers[-1]
        activation = "identity" if logits and last else layer.activation
        activated = out if layer.a == layer.z else a[:, columns]
        fused = layer.kind.fuses(block.single) and activation not in ROW_WISE and layer.a == layer.z
        todo = [] if fused else [functools.partial(activate, program, activation, activated, out)]
        if dropout is not None and dropout.drops(layer):
            todo.append(functools.partial(dropout.add, program, layer, block, a[:, columns], activated, columns.start))
        if summed and not last and not a.is_row_major and a.T.cols < a.T.padded_cols:
            todo.append(functools.partial(_clear_padding, program, a[:, columns]))
        epilogue = functools.partial(_all, todo)
        at_once = multiplied or activation in ROW_WISE  # else it follows the product range by range
        if not multiplied:
            layer.kind.forward(step, no_epilogue if at_once else epilogue, activation if fused else "identity")
        if at_once:
            epilogue(WHOLE)
        multiplied = False
        if layer.is_shared:
            worker.barrier(program)


def tangents(program: Program, parameters: Vector, block: Block) -> None:
    """d = the derivative of each layer's a along a direction, which is in dx for the inputs; of the last layer, z's."""
    layers, worker = parameters.layout.layers, Worker()
    for layer in layers:
        inputs = tuple(block.dx if read == INPUTS else block.d[read] for read in layer.reads)
        step = step_of(program, parameters, block, worker, layer)
        layer.kind.tangent(replace(step, inputs=inputs, point=step.inputs, z=block.d[layer.index]))
        if layer is not layers[-1]:
            backward(program, layer.activation, None, block.d[layer.index], block.z[layer.index], WHOLE)


def step_of(
    program: Program, parameters: Vector, block: Block, worker: Worker, layer: Layer, statistics: str = RUNNING
) -> Step:
    """What a layer's kind computes with."""
    index = layer.index
    inputs = tuple(block.x if read == INPUTS else block.a[read] for read in layer.reads)
    matrices = inputs, block.z[index], block.d[index], block.kept[index], parameters.tensor
    buffers = block.zeros, block.ones, block.sums, block.pack_buffer
    return Step(program, layer, worker, *matrices, block.single, statistics, *buffers)


def _all(todo: Iterable[Callable[[TileRange], None]], tile_range: TileRange) -> None:
    """Do several things to a range of a product, one after another."""
    for each in todo:
        each(tile_range)


def activate(program: Program, activation: str, a: Matrix, z: Matrix, tile_range: TileRange) -> None:
    """a = f(z) in a range of neurons and samples; a may be z."""
    if activation in ROW_WISE:
        program.add(activation, out=a, z=z)
    elif activation != "identity" or a != z:
        elementwise(program, activation, a[tile_range], z[tile_range])


def _clear_padding(program: Program, a: Matrix, tile_range: TileRange) -> None:
    """Write zeros to the lanes behind the samples, because sums over samples include them."""
    program.add("clear_padding", x=a[tile_range].T)


def backward(
    program: Program, activation: str, share: Matrix | None, d: Matrix, z: Matrix, tile_range: TileRange
) -> None:
    """d = d * f'(z) in a range of neurons and samples; see `_at_least`. z is a where f' is taken from that."""
    if activation in ROW_WISE:
        program.add(f"{activation}_backward", d=d, a=z)
    elif not ACTIVATIONS[activation].unit_derivative:
        ending, numbers = _at_least(activation, share)
        d, z = d[tile_range], z[tile_range]
        elementwise(program, f"{activation}_backward{ending}", d, d, z, **numbers)


def _at_least(activation: str, share: Matrix | None) -> tuple[str, dict[str, Matrix]]:
    """How the name of an activation's backward ends, and its further argument.

    f' counts as at least the share, if there is one, a fraction of its largest value. An activation that does not
    saturate takes none.
    """
    if share is not None and ACTIVATIONS[activation].backward_at_least:
        return "_at_least", {"share": share}
    return "", {}


def loss(program: Program, layout: Layout, block: Block, scale: Matrix, total: Matrix) -> None:
    """The last layer's d = scale * dC/da, or dC/dz if a holds logits, and the block's loss added to the total.

    Where samples have weights, these multiply both.
    """
    a, d, y, columns = block.a[-1], block.d[-1], block.y, not block.a[-1].is_row_major
    if block.columns:
        columns, (a, d) = True, block.columns
        program.add("transpose", source=block.a[-1], out=a.T, zeros=block.zeros)
    if columns:
        a, d, y = a.T, d.T, y.T
    weights = {} if block.w is None else {"w": block.w.T}
    parameter = {} if LOSSES[layout.loss].parameter is None else {"parameter": layout.setting("loss_parameter")}
    by_sample = weights or LOSSES[layout.loss].by_sample  # such losses have a variant for samples in columns
    name = f"{layout.loss}{'_weighted' * bool(weights)}{'_columns' * bool(columns and by_sample)}"
    program.add(name, d=d, a=a, y=y, scale=scale, total=total, **weights, **parameter)
    if block.columns:
        program.add("transpose", source=d, out=block.d[-1], zeros=block.zeros)


def saturates(layout: Layout) -> bool:
    """Whether a share can make a difference: training takes the derivative of an activation that saturates."""
    passed = layout.layers[layout.lowest :]
    passed = passed[:-1] if LOSSES[layout.loss].from_logits else passed
    return any(ACTIVATIONS[layer.activation].backward_at_least for layer in passed)


def deltas(
    program: Program,
    parameters: Vector,
    block: Block,
    worker: Worker,
    dropout: Dropout | None = None,
    share: Matrix | None = None,
    to_inputs: bool = False,
    from_logits: bool = False,
    statistics: str = RUNNING,
) -> None:
    """d = dC/da * f'(z) for every layer down to the lowest that trains; the last d holds dC/da.

    dC/da of a layer is the sum of the parts that come from the layers that read it, such as d_above @ W_above.T.

    f' counts as at least the share, if there is one, of its largest value, see `_at_least`. With `from_logits` the last
    d holds dC/dz. With `to_inputs` all layers pass theirs on, down to the inputs.
    """
    layers, lowest = parameters.layout.layers, INPUTS if to_inputs else parameters.layout.lowest
    begun: set[int] = set()  # the layers whose delta has a part already
    for layer in reversed(layers[max(lowest, 0) :]):
        last = layer is layers[-1]
        if last and not from_logits:
            backward(program, layer.activation, share, block.d[layer.index], block.z[layer.index], WHOLE)
        if layer.index == lowest:
            break
        if layer.is_shared and layer.kind.mixes and not last:
            worker.barrier(program)
        step = step_of(program, parameters, block, worker, layer, statistics)
        for read in layer.reads:
            if read >= lowest:
                below = layers[read] if read != INPUTS else parameters.layout.inputs
                delta = _delta_of(program, block, worker, below, read in begun, dropout, share)
                delta = delta if read == layer.index - 1 else replace(delta, epilogue=no_epilogue, fused_epilogue=None)
                layer.kind.delta(step, read, delta)
                begun.add(read)


def _delta_of(
    program: Program,
    block: Block,
    worker: Worker,
    layer: Layer,
    added: bool,
    dropout: Dropout | None,
    share: Matrix | None,
) -> Delta:
    """Where parts of a layer's delta go, and what follows when it is complete, with the layer above it."""
    d, z = (block.dx, block.x) if layer.index == INPUTS else (block.d[layer.index], block.z[layer.index])
    shard = layer.shard(worker)
    out, z = d[:, shard.columns], z[:, shard.columns]
    dropped: list[Callable[[TileRange], None]] = []
    if layer.index != INPUTS and dropout is not None and dropout.drops(layer):
        dropped.append(functools.partial(dropout.add, program, layer, block, out, out, shard.begin))
    todo: list[Callable[[TileRange], None]] = [
        *dropped,
        functools.partial(backward, program, layer.activation, share, out, z),
    ]
    ending, numbers = _at_least(layer.activation, share)
    fused = f"{layer.activation}_gemv_backward{ending}"
    if networks_of(out.dtype)[1] > 1:
        fused = "" if dropped else f"group_outer_{layer.activation}_backward{ending}"
    after, after_fused = functools.partial(_all, todo), functools.partial(_all, dropped)
    return Delta(out, shard, added, after, fused, numbers, z, after_fused)


@dataclass(frozen=True)
class Destination:
    """Where a batch's gradient goes: a gradient's vector, or the parameters themselves.

    It goes to the parameters where the scale is -learning_rate / batch. That is the update of SGD, and no gradient is
    ever stored. `overwrite` says that what was there does not count. `update` is run as soon as a layer's gradient is
    complete. `decay` is the gradient of the penalties, which is added.
    """

    vector: Vector
    overwrite: bool = False
    update: Update | None = None
    decay: Decay | None = None

    def add_decay(self, program: Program, layer: Layer, worker: Worker, *, before: bool) -> None:
        """Add the decay before the loss's gradient where that goes to W itself, else after it."""
        if self.decay is not None and before == (self.vector == self.decay.parameters):
            self.decay.add(program, layer, self.vector, worker)


@dataclass(frozen=True)
class Decay:
    """The gradient of the penalties: a factor times W for L2, a factor times W's sign for L1. The biases have none."""

    parameters: Vector
    factors: Matrix
    signs: bool  # whether there is an L1 penalty

    def add(self, program: Program, layer: Layer, vector: Vector, worker: Worker) -> None:
        """Add the operation that adds it to the rows of a gradient, or of W itself, that a worker updates."""
        out, w = vector.weights(layer, worker), self.parameters.weights(layer, worker)
        if out is not None and w is not None:
            name = "decay_with_signs" if self.signs else "decay"
            program.add(name, out=out.flat(), x=w.flat(), factors=self.factors)


@dataclass(frozen=True)
class Update:
    """An optimizer's update of the parameters, from a gradient and with the optimizer's own vectors by name.

    `clip_value` limits each element of the gradient first, if it is there. `scalars` gives those of a tensor.
    """

    name: str
    parameters: Vector
    vectors: dict[str, Vector]
    scalars: Callable[[Layer, Tensor], Matrix]
    clip_value: Matrix | None = None

    def add(self, program: Program, layer: Layer, gradient: Vector, worker: Worker) -> None:
        """Add the operations for the rows of a layer that a worker updates: one for tensors with the same scalars."""
        whole = gradient.flat_rows(layer, worker)
        if whole is None:
            return
        if self.clip_value is not None:
            program.add("clip", x=whole, bound=self.clip_value)
        tensors, stop = (tensor for tensor in layer.tensors if tensor.trains), 0
        for scalars, alike in itertools.groupby(tensors, functools.partial(self.scalars, layer)):
            first, stop = stop, stop + sum(tensor.rows for tensor in alike)
            rows = layer, worker, first, stop
            p, g = self.parameters.flat_rows(*rows), gradient.flat_rows(*rows)
            if p is not None:
                vectors = {name: vector.flat_rows(*rows) for name, vector in self.vectors.items()}
                program.add(self.name, p=p, g=g, scalars=scalars, **vectors)


def gradients(
    program: Program, destination: Destination, block: Block, worker: Worker, interleave: Iterable[Operation] = ()
) -> None:
    """Bring the gradient of every layer that trains, such as dW = x.T @ d, to the destination.

    Each worker computes the rows that it updates. `interleave` holds operations to be spread through the largest
    product, that of the lowest layer.
    """
    layout = destination.vector.layout
    for layer in layout.trained:
        updated = layer.updated(worker)
        if updated is None:
            continue
        destination.add_decay(program, layer, worker, before=True)
        step = step_of(program, destination.vector, block, worker, layer)
        between = interleave if layer.index == layout.lowest and not block.single else ()
        layer.kind.gradient(step, Gradient(step.tensor, *updated, destination.overwrite, between))
        destination.add_decay(program, layer, worker, before=False)
        if destination.update:
            destination.update.add(program, layer, destination.vector, worker)


def collect_gradients(program: Program, destination: Destination, of_shards: list[Vector], worker: Worker) -> None:
    """Add the gradients of shards to the destination, in their order whichever worker computed them, and update."""
    for layer in reversed(destination.vector.layout.trained):
        out = destination.vector.flat_rows(layer, worker)
        if of_shards:  # else the decay is in the gradient already
            destination.add_decay(program, layer, worker, before=True)
        for i, of_shard in enumerate(of_shards):
            gradient = of_shard.flat_rows(layer, worker)
            if out is not None and gradient is not None:
                if destination.overwrite and i == 0:
                    program.add("copy", out=out, x=gradient)
                else:
                    program.add("add", out=out, x=out, y=gradient)
        if of_shards:
            destination.add_decay(program, layer, worker, before=False)
        if destination.update:
            destination.update.add(program, layer, destination.vector, worker)
