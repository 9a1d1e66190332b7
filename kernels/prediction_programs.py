"""Programs that predict a block of samples, and give its loss if there are targets."""

from __future__ import annotations

from . import passes, strategy
from .activations import ROW_WISE
from .barriers import Worker
from .block_programs import Task, load
from .loss_functions import LOSSES
from .matmul import WHOLE, matmul
from .matrix import Matrix, Symbol
from .memory import SHARD_SAMPLES, Block, Vector, Workspace, field
from .passes import Destination
from .program import Operation, Program
from .sources import PREFETCH_BYTES, Source, Sources

IN_PLACE_BYTES = 2**16  # so many bytes of samples are multiplied at a time where they lie


def predict_program(
    parameters: Vector,
    work: Workspace,
    x: Source,
    rows: int,
    input_scale: float,
    in_place: bool = False,
    sources: Sources | None = None,
) -> Program:
    """A block of samples: its outputs, and its loss if there are targets, whose sources are given.

    `in_place` reads samples of the network's dtype where they lie, and scales none.
    """
    layout, worker = parameters.layout, Worker()
    program = Program(layout.target, layout.dtype, rows)
    if strategy.predicts_feature_major(layout, rows):
        _predict_feature_major(program, parameters, work, sources or x, input_scale)
        return program
    block = work.row_major(rows, worker, single=rows == 1 and not in_place)
    if in_place:
        _multiply_in_place(program, parameters, block, x)
    elif sources is None:
        x.load(program, block.x, input_scale)
    else:
        task = Task(parameters, work, sources, input_scale, Destination(parameters))
        block, _ = load(program, task, block, worker, ahead=False)
    out, logits = block.a[-1], sources is not None and LOSSES[layout.loss].from_logits
    passes.forward(program, parameters, block, worker, logits, multiplied=in_place)
    if sources is not None:
        passes.loss(program, layout, block, field(work.step, "scale"), field(work.step, "total"))
    if logits:
        passes.activate(program, layout.activations[-1], out, out, WHOLE)
    _give(program, out)
    return program


def _give(program: Program, out: Matrix) -> None:
    """Copy a block's outputs to where they are wanted."""
    row_bytes = out.cols * out.itemsize
    outputs = Matrix.row_major(Symbol("outputs"), out.rows, out.cols, row_bytes, out.dtype, "outputs")
    program.add("unpad", out=outputs, source=out)


def _predict_feature_major(
    program: Program, parameters: Vector, work: Workspace, given: Source | Sources, input_scale: float
) -> None:
    """A shard of samples through all layers; the outputs become rows again. Shards of any size share their buffers.

    given: the samples alone, or with targets, for the loss.
    """
    layout, worker, rows = parameters.layout, Worker(), program.rows
    out, activation = work.row_major(rows, worker).a[-1], layout.activations[-1]
    most = max(SHARD_SAMPLES, rows)
    samples, with_loss = work.feature_major_samples(rows, worker, most), isinstance(given, Sources)
    if isinstance(given, Sources):
        task = Task(parameters, work, given, input_scale, Destination(parameters))
        samples, _ = load(program, task, samples, worker, ahead=False)
    else:
        given.load(program, samples.x, input_scale)
    by_rows, logits = activation in ROW_WISE, with_loss and LOSSES[layout.loss].from_logits
    block = work.feature_major(samples, slice(0, rows), worker, most)
    passes.forward(program, parameters, block, worker, logits or by_rows)
    if with_loss:
        passes.loss(program, layout, block, field(work.step, "scale"), field(work.step, "total"))
    if logits and not by_rows:
        passes.activate(program, activation, block.a[-1], block.a[-1], WHOLE)
    program.add("transpose", source=block.a[-1].T, out=out, zeros=block.zeros)
    if by_rows:
        passes.activate(program, activation, out, out, WHOLE)
    _give(program, out)


def _multiply_in_place(program: Program, parameters: Vector, block: Block, source: Source) -> None:
    """The first layer's x @ W + b, by pieces that stay in the L2 cache; each prefetches the next one meanwhile."""
    layer = parameters.layout.layers[0]
    (shard,) = layer.shards
    samples, out, rows = source.matrix(block.x.rows), block.z[0], block.x.rows
    w, b = parameters.w(layer, shard), parameters.b(layer, shard)
    largest, first = -(-IN_PLACE_BYTES // source.row_stride // 12) * 12, 0
    while first < rows:
        left = rows - first
        n = min(largest, left) - (left == largest + 1)  # a single row would be summed in another order
        piece, length = samples[first : first + n, :], n * source.row_stride
        fetches: list[Operation] = [
            ("prefetch_in_place", {"n_bytes": min(PREFETCH_BYTES, length - at), "ahead": length + at, "source": piece})
            for at in range(0, length, PREFETCH_BYTES)
        ]
        matmul(program, out[first : first + n, :], piece, w, b.broadcast(n), interleave=fetches)
        first += n
