"""Forward, loss, delta backpropagation and gradients of a block of samples: the mathematics, written once.

Every matrix is (samples, neurons), whichever way it lies in memory; `matmul` sees to that. A batch of a single sample
takes three fused operations, each behind one `if`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from .activations import ACTIVATIONS, ROW_WISE
from .barriers import Worker
from .loss_functions import LOSSES
from .matmul import WHOLE, TileRange, affine, column_sums, matmul, matmul_tn, no_epilogue, zeros_like
from .matrix import Matrix, Symbol
from .memory import Block, Layer, Layout, Vector
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
        numbers |= {"position": Symbol("position", block.first + (rows.start or 0)), "begin": begin + (cols.start or 0)}
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
) -> None:
    """a = f(x @ W + b) for every layer, whose a is the x of the next; `logits` leaves out the f of the last.

    `multiplied` says that the first layer's a holds x @ W + b already; `summed` that sums over samples follow, so that
    the lanes behind feature-major ones must be zero. `n_layers` is how many layers, from the first one on, are wanted.
    """
    x = block.x
    for layer in parameters.layout.layers[:n_layers]:
        a, z = block.a[layer.index], block.z[layer.index]
        shard = layer.shard(worker)
        columns = slice(shard.begin, shard.end)
        w, b, out = parameters.w(layer, shard), parameters.b(layer, shard), z[:, columns]
        last = layer is parameters.layout.layers[-1]
        activation = "identity" if logits and last else layer.activation
        activated = out if layer.a == layer.z else a[:, columns]
        fused = block.single and activation not in ROW_WISE and layer.a == layer.z
        todo = [] if fused else [functools.partial(activate, program, activation, activated, out)]
        if dropout is not None and dropout.drops(layer):
            todo.append(functools.partial(dropout.add, program, layer, block, a[:, columns], activated, shard.begin))
        if summed and not last and not a.is_row_major and a.T.cols < a.T.padded_cols:
            todo.append(functools.partial(_clear_padding, program, a[:, columns]))
        epilogue = functools.partial(_all, todo)
        at_once = block.single or multiplied or activation in ROW_WISE  # else it follows the product range by range
        if block.single:
            program.add(f"{activation if fused else 'identity'}_gemv", out=out, x=x, W=w, C0=b)
        elif not multiplied:
            affine(program, out, x, w, b, no_epilogue if at_once else epilogue)
        if at_once:
            epilogue(WHOLE)
        multiplied = False
        if layer.is_shared:
            worker.barrier(program)
        x = a


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
    by_sample = weights or LOSSES[layout.loss].function is None  # such losses have a variant for samples in columns
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
) -> None:
    """d = (d_above @ W_above.T) * f'(z) for every layer down to the lowest that trains; the last d holds dC/da.

    f' counts as at least the share, if there is one, of its largest value, see `_at_least`. Where the loss takes
    logits, the last d holds dC/dz. With `to_inputs` it does too, and all layers pass it on, down to the inputs: dC/dx
    takes the place of x.
    """
    layers, lowest = parameters.layout.layers, -1 if to_inputs else parameters.layout.lowest
    for layer in reversed(layers[max(lowest, 0) :]):
        d, z, last = block.d[layer.index], block.z[layer.index], layer is layers[-1]
        shard = layer.shard(worker)
        if last and not (to_inputs or LOSSES[parameters.layout.loss].from_logits):
            backward(program, layer.activation, share, d, z, WHOLE)
        if layer.index == lowest:
            break
        below = layers[layer.index - 1] if layer.index else parameters.layout.inputs
        d_below, z_below = (block.d[below.index], block.z[below.index]) if layer.index else (block.x, block.x)
        todo: list[Callable[[TileRange], None]] = []
        if dropout is not None and dropout.drops(below):
            begin = below.shard(worker).begin
            dropped = d_below[:, begin : below.shard(worker).end]
            todo.append(functools.partial(dropout.add, program, below, block, dropped, dropped, begin))
        if block.single:
            w, zeros = parameters.w(layer, shard), block.zeros[:, : d.padded_cols]
            ending, numbers = _at_least(below.activation, share)
            name = f"{below.activation}_gemv_backward{ending}"
            program.add(name, out=d_below, x=d, B=w, zeros=zeros, z=z_below, **numbers)
            _all(todo, WHOLE)
            continue
        if layer.is_shared and not last:
            worker.barrier(program)
        shard = below.shard(worker)
        ws = [parameters.w(layer, s)[shard.begin : shard.end, :].T for s in layer.shards]
        columns, zeros = slice(shard.begin, shard.end), block.zeros
        out = d_below[:, columns]
        todo.append(functools.partial(backward, program, below.activation, share, out, z_below[:, columns]))
        epilogue = functools.partial(_all, todo)
        c0, pack = zeros_like(out, zeros), block.pack_buffer
        matmul(program, out, d, ws, c0, pack_buffer=pack, zeros=zeros, epilogue=epilogue)


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
        out, w = vector.rows(layer, worker), self.parameters.rows(layer, worker)
        if out is not None and w is not None:
            name = "decay_with_signs" if self.signs else "decay"
            program.add(name, out=out[0].flat(), x=w[0].flat(), factors=self.factors)


@dataclass(frozen=True)
class Update:
    """An optimizer's update of the parameters, from a gradient and with the optimizer's own vectors by name.

    `clip_value` limits each element of the gradient first, if it is there.
    """

    name: str
    parameters: Vector
    vectors: dict[str, Vector]
    scalars: Matrix
    clip_value: Matrix | None = None

    def add(self, program: Program, layer: Layer, gradient: Vector, worker: Worker) -> None:
        """Add the operation for the rows of a layer that a worker updates."""
        p, g = self.parameters.flat_rows(layer, worker), gradient.flat_rows(layer, worker)
        if p is not None:
            vectors = {name: vector.flat_rows(layer, worker) for name, vector in self.vectors.items()}
            if self.clip_value is not None:
                program.add("clip", x=g, bound=self.clip_value)
            program.add(self.name, p=p, g=g, scalars=self.scalars, **vectors)


def gradients(
    program: Program, destination: Destination, block: Block, worker: Worker, interleave: Iterable[Operation] = ()
) -> None:
    """dW = x.T @ d and db = the sum of d over the samples, of every layer that trains, to the destination.

    Each worker computes the rows of W that it updates. `interleave` holds operations to be spread through the largest
    product, that of the lowest layer.
    """
    layout = destination.vector.layout
    for layer in layout.trained:
        updated = destination.vector.rows(layer, worker)
        if updated is None:
            continue
        w, b = updated
        first = 0 if layer.is_shared else worker.shard(layer.fan_in, least=4)[0]
        shard, x = layer.shard(worker), block.a[layer.index - 1] if layer.index else block.x
        x, d = x[:, first : first + w.rows], block.d[layer.index][:, shard.begin : shard.end]
        zeros = zeros_like(w, block.zeros)
        destination.add_decay(program, layer, worker, before=True)
        if block.single:
            both, c0 = w.taller(1), zeros.taller(1) if destination.overwrite else w.taller(1)
            program.add("ger", C=both, C0=c0, x=x, d=d)
        else:
            prefetches = interleave if layer.index == layout.lowest else ()
            places = {"pack_buffer": block.pack_buffer, "zeros": block.zeros}
            matmul_tn(program, w, x, d, zeros if destination.overwrite else w, **places, interleave=prefetches)
            if b is not None:  # the batch is summed first, then added once
                out = b if destination.overwrite else block.sums[:, : b.cols]
                column_sums(program, out, d, block.ones, block.zeros)
                if not destination.overwrite:
                    program.add("add", out=b, x=b, y=out)
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
