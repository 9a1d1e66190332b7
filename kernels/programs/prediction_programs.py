"""Programs that predict a block of samples, or give its loss, its hidden layers' outputs, its derivatives by inputs."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..formulas.activations import ROW_WISE
from ..formulas.loss_functions import LOSSES
from ..vector.barriers import Worker
from ..vector.matrix import Matrix, Symbol
from . import passes, strategy
from .block_programs import Task, give, load, row_major
from .matmul import WHOLE, matmul
from .memory import SHARD_SAMPLES, Block, Layout, Vector, Workspace
from .passes import Destination, Dropout
from .program import Operation, Program, elementwise
from .sources import PREFETCH_BYTES, Source, Sources

IN_PLACE_BYTES = 2**16  # so many bytes of samples are multiplied at a time where they lie
MAX_OUTPUTS = 16  # so many outputs a program takes the derivatives of, which bounds its length


def predict_program(
    parameters: Vector,
    work: Workspace,
    x: Source,
    rows: int,
    input_scale: float | None,
    in_place: bool = False,
    sources: Sources | None = None,
    dropped: tuple[int, ...] = (),
) -> Program:
    """A block of samples: its outputs, and its loss if there are targets, whose sources are given.

    `in_place` reads samples of the network's dtype where they lie, and scales none. `dropped` are the layers that drop
    outputs, as in training.
    """
    layout = parameters.layout
    program, block, multiplied = _loaded(parameters, work, sources or x, rows, input_scale, in_place)
    out, activation = block.a[-1], layout.activations[-1]
    logits = sources is not None and LOSSES[layout.loss].from_logits
    by_rows = activation in ROW_WISE and not out.is_row_major
    dropout = Dropout(dropped, layout.setting("dropout"), work.field("key")) if dropped else None
    passes.forward(program, parameters, block, Worker(), logits or by_rows, multiplied, dropout)
    if sources is not None:
        passes.loss(program, layout, block, work.field("scale"), work.field("total"))
    if logits and not by_rows:
        passes.activate(program, activation, out, out, WHOLE)
    out = row_major(program, block, out, work.row_major(rows, Worker()).a[-1])
    if by_rows:
        passes.activate(program, activation, out, out, WHOLE)
    give(program, out)
    return program


def hidden_program(
    parameters: Vector, work: Workspace, x: Source, rows: int, input_scale: float | None, in_place: bool
) -> Program:
    """A block of samples: the outputs of all hidden layers, side by side in each row of what `outputs` stands for."""
    widths = parameters.layout.sizes[1:-1]
    program, block, multiplied = _loaded(parameters, work, x, rows, input_scale, in_place)
    passes.forward(program, parameters, block, Worker(), multiplied=multiplied, n_layers=len(widths))
    for i, begin in enumerate(itertools.accumulate(widths[:-1], initial=0)):
        a = row_major(program, block, block.a[i], work.row_major(rows, Worker()).a[i])
        give(program, a, begin, sum(widths))
    return program


def outputs_at_once(layout: Layout) -> int:
    """How many outputs a program of `input_gradient_program` takes the derivatives of."""
    return min(layout.sizes[-1], MAX_OUTPUTS)


def unit_windows(layout: Layout) -> list[tuple[int, NDArray[Any]]]:
    """For passes by `input_gradient_program` that together give all outputs: (the first output, what `targets` is)."""
    n_out, count = layout.sizes[-1], outputs_at_once(layout)
    units = np.zeros(2 * n_out - 1, layout.dtype)
    units[n_out - 1] = 1
    firsts = (*range(0, n_out - count, count), n_out - count)  # the last outputs may come twice
    return [(first, units[n_out - count - first :]) for first in firsts]


def input_gradient_program(
    parameters: Vector, work: Workspace, x: Source, rows: int, input_scale: float | None, in_place: bool
) -> Program:
    """A block of samples: the derivatives by all inputs of `outputs_at_once` outputs, one behind the other in each row.

    The last d of an output begins as its row of the unit matrix, times the scale of the inputs; NaN where outputs are.
    Where inputs are shifted, it begins without their scales.
    `targets` stands for zeros around a single one. A window of it is that row; the next output's begins an element
    earlier.
    """
    layout, worker, by_rows = parameters.layout, Worker(), work.row_major(rows, Worker())
    factor = 1.0 if input_scale is None else input_scale
    program, block, multiplied = _loaded(parameters, work, x, rows, input_scale, in_place)
    activation, needs_rows = layout.activations[-1], layout.activations[-1] in ROW_WISE
    passes.forward(program, parameters, block, worker, logits=needs_rows, multiplied=multiplied)
    last = by_rows if needs_rows else block
    a, z, d = last.a[-1], last.z[-1], last.d[-1]
    if needs_rows:
        passes.activate(program, activation, a, row_major(program, block, block.a[-1], a), WHOLE)
    for matrix in dict.fromkeys((*block.z, a)):  # NaN in the padding would go to that of the deltas, which is summed
        if matrix.is_row_major:
            program.add("clear_padding", x=matrix)
    n_in, n_out, count = layout.sizes[0], layout.sizes[-1], outputs_at_once(layout)
    for i in range(count):
        start = Symbol("targets", (count - 1 - i) * layout.itemsize)
        row = Matrix.row_major(start, 1, n_out, n_out * layout.itemsize, layout.dtype, "targets").broadcast(rows)
        passes.by_samples(program, "gather", {"out": d}, source=row, order=0, remaining=0, scale=factor)
        elementwise(program, "or_nan", d, d, a)
        passes.backward(program, activation, None, d, z, WHOLE)
        if d != block.d[-1]:
            program.add("transpose", source=d, out=block.d[-1].T, zeros=block.zeros)
        passes.deltas(program, parameters, block, worker, to_inputs=True, from_logits=True)
        give(program, row_major(program, block, block.dx, by_rows.dx), i * n_in, n_out * n_in)
    return program


def tangent_program(
    parameters: Vector, work: Workspace, sources: Sources, rows: int, input_scale: float | None
) -> Program:
    """A block of samples: the derivatives of the outputs along a direction for each sample, which `targets` holds.

    Directions are multiplied by the scale of the inputs, but not where these are shifted.
    """
    layout, by_rows = parameters.layout, work.row_major(rows, Worker())
    program, block, _ = _loaded(parameters, work, sources.x, rows, input_scale, False)
    activation, needs_rows = layout.activations[-1], layout.activations[-1] in ROW_WISE
    passes.forward(program, parameters, block, Worker(), logits=needs_rows)
    sources.y.load(program, block.dx, 1.0 if input_scale is None else input_scale)
    passes.tangents(program, parameters, block)
    d, z = block.d[-1], block.z[-1]
    if needs_rows:
        d, z = (row_major(program, block, *pair) for pair in ((d, by_rows.d[-1]), (z, by_rows.a[-1])))
        passes.activate(program, activation, z, z, WHOLE)
    passes.backward(program, activation, None, d, z, WHOLE)
    give(program, row_major(program, block, d, by_rows.d[-1]))
    return program


def _loaded(
    parameters: Vector, work: Workspace, samples: Source | Sources, rows: int, input_scale: float | None, in_place: bool
) -> tuple[Program, Block, bool]:
    """(a program that loads a block of samples, the block, whether the first layer's product is in it already).

    Targets are loaded too where there are any. Feature-major blocks of any size share their buffers.
    """
    layout, worker, most = parameters.layout, Worker(), max(SHARD_SAMPLES, rows)
    program, feature_major = Program(layout.target, layout.dtype, rows), strategy.predicts_feature_major(layout, rows)
    in_place = in_place and not feature_major
    if feature_major:
        block = work.feature_major_samples(rows, worker, most)
    else:
        block = work.row_major(rows, worker, single=rows == 1 and not in_place)
    if isinstance(samples, Sources):
        task = Task(parameters, work, samples, input_scale, Destination(parameters))
        block, _ = load(program, task, block, worker, ahead=False)
    elif in_place:
        _multiply_in_place(program, parameters, block, samples)
    else:
        samples.load(program, block.x, work.loading(input_scale))
    block = work.feature_major(block, slice(0, rows), worker, most) if feature_major else block
    return program, block, in_place


def _multiply_in_place(program: Program, parameters: Vector, block: Block, source: Source) -> None:
    """The first layer's x @ W + b, by pieces that stay in the L2 cache; each prefetches the next one meanwhile."""
    layer = parameters.layout.layers[0]
    (shard,) = layer.shards
    samples, out, rows = source.matrix(block.x.rows), block.z[0], block.x.rows
    w, b = (parameters.tensor(layer, name, shard) for name in ("weight", "bias"))
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
