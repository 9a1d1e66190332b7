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
from .matmul import WHOLE, Part, affine, column_sums, matmul, matmul_tn, no_epilogue, zeros_like
from .matrix import Matrix, Symbol
from .memory import Block, Layer, Layout, Vector
from .program import Operation, Program, elementwise


@dataclass(frozen=True)
class Dropout:
    """Which share of each layer's outputs becomes zero while training, and the key of the step that draws them.

    Its layers have a and z apart, whatever their activation, because the derivative is not that of zeros.
    """

    rates: tuple[float, ...]  # of all layers, the last one's is 0
    key: Matrix

    def drops(self, layer: Layer) -> bool:
        return self.rates[layer.index] > 0

    def add(self, program: Program, layer: Layer, block: Block, out: Matrix, x: Matrix, begin: int, part: Part) -> None:
        """out = x without what is dropped, scaled; of a part. The matrices' first neuron is `begin`."""
        rows, cols = part
        given = {"width": layer.fan_out, "salt": layer.index + 1, "rate": self.rates[layer.index], "key": self.key}
        given |= {"position": Symbol("position", block.first + (rows.start or 0)), "begin": begin + (cols.start or 0)}
        by_samples(program, "dropout", {"out": out[part], "x": x[part]}, **given)


def by_samples(program: Program, name: str, matrices: dict[str, Matrix], **given: Any) -> None:
    """A function that has a variant for samples that are columns."""
    if not matrices["out"].is_row_major:
        name, matrices = f"{name}_columns", {key: matrix.T for key, matrix in matrices.items()}
    program.add(name, **matrices, **given)


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
    """a = f(x @ W + b) for every layer, each one's a being the next one's x; `logits` leaves the last one's f out.

    `multiplied` says that the first layer's a holds x @ W + b already; `summed` that sums over samples follow, so that
    the lanes behind feature-major ones must be zero. `n_layers` is how many layers, from the first one on, are wanted.
    """
    x = block.x
    for layer in parameters.layout.layers[:n_layers]:
        a, z = block.a[layer.index], block.z[layer.index]
        shard = layer.shard(worker)
        mine = slice(shard.begin, shard.end)
        w, b, out = parameters.w(layer, shard), parameters.b(layer, shard), z[:, mine]
        last = layer is parameters.layout.layers[-1]
        activation = "identity" if logits and last else layer.activation
        activated = out if layer.a == layer.z else a[:, mine]
        fused = block.single and activation not in ROW_WISE and layer.a == layer.z
        todo = [] if fused else [functools.partial(activate, program, activation, activated, out)]
        if dropout is not None and dropout.drops(layer):
            todo.append(functools.partial(dropout.add, program, layer, block, a[:, mine], activated, shard.begin))
        if summed and not last and not a.is_row_major and a.T.cols < a.T.padded_cols:
            todo.append(functools.partial(_clear_padding, program, a[:, mine]))
        epilogue = functools.partial(_all, todo)
        at_once = block.single or multiplied or activation in ROW_WISE  # else parts of the product
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


def _all(todo: Iterable[Callable[[Part], None]], part: Part) -> None:
    """Do several things to a part of a product, one after another."""
    for each in todo:
        each(part)


def activate(program: Program, activation: str, a: Matrix, z: Matrix, part: Part) -> None:
    """a = f(z), of a part of the neurons and samples; a may be z."""
    if activation in ROW_WISE:
        program.add(activation, out=a, z=z)
    elif activation != "identity" or a != z:
        elementwise(program, activation, a[part], z[part])


def _clear_padding(program: Program, a: Matrix, part: Part) -> None:
    """Zeros in the lanes behind the samples, which sums over samples take in."""
    program.add("clear_padding", x=a[part].T)


def backward(program: Program, activation: str, share: float, d: Matrix, z: Matrix, part: Part) -> None:
    """d = d * f'(z), of a part of the neurons and samples; see `_at_least`. z is a where f' is taken from that."""
    if activation in ROW_WISE:
        program.add(f"{activation}_backward", d=d, a=z)
    elif not ACTIVATIONS[activation].unit_derivative:
        ending, given = _at_least(activation, share)
        elementwise(program, f"{activation}_backward{ending}", d[part], d[part], z[part], **given)


def _at_least(activation: str, share: float) -> tuple[str, dict[str, float]]:
    """The end of the name of an activation's backward, and what it takes, where f' counts as at least a share.

    The share, if it is above 0, is of the largest f'. It makes no difference to an activation that does not saturate.
    """
    if share and ACTIVATIONS[activation].backward_at_least:
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
    own = {} if layout.loss_parameter is None else {"parameter": layout.loss_parameter}
    each_apart = weights or LOSSES[layout.loss].function is None  # what treats samples that are columns in another way
    name = f"{layout.loss}{'_weighted' * bool(weights)}{'_columns' * bool(columns and each_apart)}"
    program.add(name, d=d, a=a, y=y, scale=scale, total=total, **weights, **own)
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
    share: float = 0.0,
    to_inputs: bool = False,
) -> None:
    """d = (d_above @ W_above.T) * f'(z) for every layer down to the lowest that trains; the last d holds dC/da.

    f' counts as at least a share of its largest value, see `_at_least`. Where the loss takes logits, the last d holds
    dC/dz. With `to_inputs` it does too, and all layers pass it on, down to the inputs: dC/dx takes the place of x.
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
        todo: list[Callable[[Part], None]] = []
        if dropout is not None and dropout.drops(below):
            begin = below.shard(worker).begin
            dropped = d_below[:, begin : below.shard(worker).end]
            todo.append(functools.partial(dropout.add, program, below, block, dropped, dropped, begin))
        if block.single:
            w, zeros = parameters.w(layer, shard), block.zeros[:, : d.padded_cols]
            ending, given = _at_least(below.activation, share)
            name = f"{below.activation}_gemv_backward{ending}"
            program.add(name, out=d_below, x=d, B=w, zeros=zeros, z=z_below, **given)
            _all(todo, WHOLE)
            continue
        if layer.is_shared and not last:
            worker.barrier(program)
        shard = below.shard(worker)
        ws = [parameters.w(layer, s)[shard.begin : shard.end, :].T for s in layer.shards]
        mine, zeros = slice(shard.begin, shard.end), block.zeros
        out = d_below[:, mine]
        todo.append(functools.partial(backward, program, below.activation, share, out, z_below[:, mine]))
        epilogue = functools.partial(_all, todo)
        c0, pack = zeros_like(out, zeros), block.pack_buffer
        matmul(program, out, d, ws, c0, pack_buffer=pack, zeros=zeros, epilogue=epilogue)


@dataclass(frozen=True)
class Destination:
    """Where a batch's gradient goes: a gradient's vector, or the parameters themselves.

    The parameters where the scale is -learning_rate / batch: that is the SGD update, without a gradient ever stored.
    `overwrite` says that what was there does not count. `update` is run as soon as a layer's gradient is complete.
    `decay` is the gradient of the penalties, which belongs to it.
    """

    vector: Vector
    overwrite: bool = False
    update: Update | None = None
    decay: Decay | None = None

    def add_decay(self, program: Program, layer: Layer, worker: Worker, *, before: bool) -> None:
        """Add the decay before or after the loss's gradient: before it where that goes to W itself, else after it."""
        if self.decay is not None and before == (self.vector == self.decay.parameters):
            self.decay.add(program, layer, self.vector, worker)


@dataclass(frozen=True)
class Decay:
    """The gradient of the L2 and the L1 penalty: a factor times W, and one times its sign. The biases have none."""

    parameters: Vector
    factors: Matrix
    signs: bool  # whether there is an L1 penalty

    def add(self, program: Program, layer: Layer, vector: Vector, worker: Worker) -> None:
        """The operation that adds it to what a worker has of a gradient, or of W itself."""
        mine, w = vector.rows(layer, worker), self.parameters.rows(layer, worker)
        if mine is not None and w is not None:
            name = "decay_with_signs" if self.signs else "decay"
            program.add(name, out=mine[0].flat(), x=w[0].flat(), factors=self.factors)


@dataclass(frozen=True)
class Update:
    """An optimizer's update of the parameters, from a gradient and with the optimizer's own vectors by name.

    `clip_value` limits each element of the gradient first.
    """

    name: str
    parameters: Vector
    vectors: dict[str, Vector]
    scalars: Matrix
    clip_value: float | None = None

    def add(self, program: Program, layer: Layer, gradient: Vector, worker: Worker) -> None:
        """The operation for what a worker updates of a layer."""
        p, g = self.parameters.flat_rows(layer, worker), gradient.flat_rows(layer, worker)
        if p is not None:
            own = {name: vector.flat_rows(layer, worker) for name, vector in self.vectors.items()}
            if self.clip_value is not None:
                program.add("clip", x=g, bound=self.clip_value)
            program.add(self.name, p=p, g=g, scalars=self.scalars, **own)


def gradients(
    program: Program, destination: Destination, block: Block, worker: Worker, interleave: Iterable[Operation] = ()
) -> None:
    """dW = x.T @ d and db = the sum of d over the samples, of every layer that trains, to the destination.

    Each worker takes what it updates of W. `interleave` holds operations to be spread through the largest product, the
    lowest layer's.
    """
    layout = destination.vector.layout
    for layer in layout.trained:
        mine = destination.vector.rows(layer, worker)
        if mine is None:
            continue
        w, b = mine
        first = 0 if layer.is_shared else worker.share(layer.fan_in, least=4)[0]
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


def collect_gradients(program: Program, destination: Destination, partials: list[Vector], worker: Worker) -> None:
    """Add the gradients of shards to where they go in their order, whichever worker computed them, and update."""
    for layer in reversed(destination.vector.layout.trained):
        out = destination.vector.flat_rows(layer, worker)
        if partials:  # else the decay is in the gradient already
            destination.add_decay(program, layer, worker, before=True)
        for i, partial in enumerate(partials):
            part = partial.flat_rows(layer, worker)
            if out is not None and part is not None:
                if destination.overwrite and i == 0:
                    program.add("copy", out=out, x=part)
                else:
                    program.add("add", out=out, x=out, y=part)
        if partials:
            destination.add_decay(program, layer, worker, before=False)
        if destination.update:
            destination.update.add(program, layer, destination.vector, worker)
