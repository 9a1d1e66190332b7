"""Programs of a block of samples that trains, or adds to a gradient: forward, loss, deltas, gradients, for each worker.

What changes between runs (samples, targets, order, a gradient) is left open; see `program`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ..cpu.target import LINE_BYTES
from ..formulas.activations import ROW_WISE
from ..formulas.loss_functions import LOSSES
from ..vector.barriers import Worker
from ..vector.matrix import Matrix, Symbol
from . import passes, strategy
from .layers.layer import BATCH, TRACKED
from .memory import Block, Layout, Vector, Workspace
from .passes import Destination, Dropout
from .program import Operation, Program
from .sources import Source, Sources


class Rules(NamedTuple):
    """What training does beside descending the gradient of the loss and the penalties: which rules are on.

    Their values are in the record of settings.
    """

    dropped: tuple[int, ...] = ()  # the layers that drop outputs
    input_noise: bool = False  # whether noise is added to the samples
    label_smoothing: bool = False  # whether a share of each target is spread over all classes
    max_norm: bool = False  # whether the norm of a neuron's weights has a limit
    clip_value: bool = False  # whether the size of each element of the gradient has a limit
    clip_norm: bool = False  # whether the norm of the whole gradient has a limit
    min_derivative: bool = False  # whether a derivative counts as at least a share of the activation's largest one

    @property
    def random(self) -> bool:
        """Whether steps draw numbers beside the order."""
        return self.input_noise or bool(self.dropped)


NO_RULES = Rules()
# The parts of a block's program: FORWARD goes from samples to outputs, BACKWARD from targets to gradients after it.
BOTH, FORWARD, BACKWARD = "both", "forward", "backward"


@dataclass(frozen=True)
class Task:
    """What the programs of blocks have in common: parameters, buffers, samples, and where gradients go."""

    parameters: Vector
    work: Workspace
    sources: Sources
    input_scale: float | None  # what multiplies samples; None where they are shifted, see `Workspace.loading`
    destination: Destination
    rules: Rules = NO_RULES
    statistics: str = TRACKED  # see `layers.layer`
    part: str = BOTH
    to_inputs: bool = False  # whether dC/dx follows, in the rows that `outputs` stands for

    @property
    def dropout(self) -> Dropout | None:
        dropped, rates = self.rules.dropped, self.layout.setting("dropout")
        return Dropout(dropped, rates, self.work.field("key")) if dropped else None

    @property
    def forward(self) -> dict[str, Any]:
        """How a block goes forward before it goes back."""
        return {"dropout": self.dropout, "summed": True, "statistics": self.statistics}

    @property
    def layout(self) -> Layout:
        return self.parameters.layout


def gradient_program(
    parameters: Vector,
    work: Workspace,
    sources: Sources,
    rows: int,
    input_scale: float | None,
    to_inputs: bool = False,
) -> Program:
    """A block of samples: its loss, and its gradient added to the one that the symbol stands for.

    `to_inputs` says that dC/dx follows, in the rows that `outputs` stands for; the workspace then keeps x.
    """
    destination = Destination(Vector(parameters.layout, Symbol("gradient"), "d"))
    task = Task(parameters, work, sources, input_scale, destination, statistics=BATCH, to_inputs=to_inputs)
    return block_program(task, strategy.choose(task.layout, rows), rows, Worker(), ahead=False)


def forward_program(parameters: Vector, work: Workspace, x: Source, rows: int, input_scale: float | None) -> Program:
    """A block of samples: its outputs as training computes them, with the statistics of the batch."""
    sources = Sources(x, x)  # nobody loads targets
    task = Task(parameters, work, sources, input_scale, Destination(parameters), statistics=BATCH, part=FORWARD)
    return block_program(task, strategy.choose(task.layout, rows), rows, Worker(), ahead=False)


def statistics_program(
    parameters: Vector, work: Workspace, sources: Sources, rows: int, input_scale: float | None
) -> Program:
    """A batch that the running statistics of normalised layers follow, and nothing else."""
    program, block = Program(parameters.layout.target, parameters.layout.dtype, rows), work.row_major(rows, Worker())
    task = Task(parameters, work, sources, input_scale, Destination(parameters))
    block, _ = load(program, task, block, Worker(), ahead=False)
    passes.forward(program, parameters, block, Worker(), logits=True, statistics=TRACKED)
    return program


def block_program(task: Task, how: str, rows: int, worker: Worker, ahead: bool = True) -> Program:
    """A worker's program for a block of samples, by one of the strategies.

    Each number is computed as one worker would compute it, so the bits do not depend on the number of workers. `ahead`
    fetches the next block's samples meanwhile.
    """
    layout, work = task.layout, task.work
    program = Program(layout.target, layout.dtype, rows)
    if how == strategy.FEATURE_MAJOR:
        _feature_major(program, task, worker, ahead)
        return program
    block = work.row_major(rows, worker, single=how == strategy.SINGLE)
    block, fetches = load(program, task, block, worker, ahead)
    if task.part == FORWARD:
        _outputs(program, task, block, worker)
        return program
    if block.single:  # no product takes long enough to fetch beside it
        program.extend(fetches)
        fetches = []
    # Every worker computes the whole of the last d. The first one keeps the sum of the losses.
    total = work.field("total") if worker.index == 0 else _ignored(work, worker)
    _to_deltas(program, task, block, worker, total)
    worker.barrier(program)  # nobody reads W any more
    passes.gradients(program, task.destination, block, worker, fetches)
    if task.to_inputs:
        give(program, row_major(program, block, block.dx, work.row_major(rows, worker).dx))
    return program


def keeps_activations(layout: Layout, rows: int) -> bool:
    """Whether a block's activations are all there when it has gone forward: shards share their buffers."""
    whole = len(strategy.sample_shards(rows, layout.itemsize)) == 1
    return whole or strategy.choose(layout, rows) != strategy.FEATURE_MAJOR


def _outputs(program: Program, task: Task, block: Block, worker: Worker) -> None:
    """Forward, and the outputs, to the rows that `outputs` stands for."""
    passes.forward(program, task.parameters, block, worker, **task.forward)
    place = task.work.row_major(block.x.rows, worker).d[-1]
    give(program, row_major(program, block, block.a[-1], place), first=block.first)


def row_major(program: Program, block: Block, matrix: Matrix, place: Matrix) -> Matrix:
    """A matrix of a block with a row for each sample: itself, or copied to a place."""
    if matrix.is_row_major:
        return matrix
    program.add("transpose", source=matrix.T, out=place, zeros=block.zeros)
    return place


def give(program: Program, source: Matrix, begin: int = 0, width: int | None = None, first: int = 0) -> None:
    """Copy a matrix to columns of what `outputs` stands for, from `begin` on; its rows have `width` elements.

    None is the width of the matrix. `first` is the first row.
    """
    width = source.cols if width is None else width
    row_bytes = width * source.itemsize
    start = Symbol("outputs", first * row_bytes)
    outputs = Matrix.row_major(start, source.rows, width, row_bytes, source.dtype, "outputs")
    program.add("unpad", out=outputs[:, begin : begin + source.cols], source=source)


def _to_deltas(program: Program, task: Task, block: Block, worker: Worker, total: Matrix) -> None:
    """Forward, loss and deltas of a block."""
    from_logits, statistics = LOSSES[task.layout.loss].from_logits, task.statistics
    if task.part == BOTH:
        passes.forward(program, task.parameters, block, worker, from_logits, **task.forward)
    passes.loss(program, task.layout, block, task.work.field("scale"), total)
    share = task.layout.setting("min_derivative") if task.rules.min_derivative else None
    how: dict[str, Any] = {"to_inputs": task.to_inputs, "from_logits": from_logits, "statistics": statistics}
    passes.deltas(program, task.parameters, block, worker, task.dropout, share, **how)


def _ignored(work: Workspace, worker: Worker) -> Matrix:
    return Matrix.row_major(work.ignored.ctypes.data + worker.index * LINE_BYTES, 1, 1, 8, "float64", "ignored")


def load(program: Program, task: Task, block: Block, worker: Worker, ahead: bool) -> tuple[Block, list[Operation]]:
    """Load samples, targets and weights into a block; gives the block, and operations that fetch those of the next."""
    x, y, w = task.sources.x, task.sources.y, task.sources.w
    of_group = {name: None if task.work.group is None else task.work.rows_of(name) for name in ("samples", "targets")}
    loading = task.work.loading(task.input_scale)
    gathers = [] if task.part == BACKWARD else [(x, x.load(program, block.x, loading, of_group["samples"]))]
    if task.part != FORWARD:
        gathers.append((y, y.load(program, block.y, of_group=of_group["targets"])))
    if task.rules.input_noise:
        place: dict[str, Any] = {"position": block.position, "width": block.x.cols, "salt": 0}
        place |= {"key": task.work.field("key"), "deviation": task.layout.setting("input_noise")}
        for columns in task.layout.layers[0].kind.numbers(block.x.cols):
            passes.by_samples(program, "add_noise", {"out": block.x[:, columns]}, begin=columns.start, **place)
    if task.rules.label_smoothing:
        other = 1 / block.y.cols if task.layout.activations[-1] in ROW_WISE else 0.5
        program.add("smooth_labels", y=block.y.flat(), share=task.layout.setting("label_smoothing"), other=other)
    if w is not None:
        weights = task.work.weights(block.x.rows, worker)
        block = replace(block, w=weights)
        if task.work.group is None:  # else they were loaded to count the batch
            gathers.append((w, w.load(program, weights)))
    if task.work.group is not None:
        return block, []
    fetches = (source.prefetches(gather, block.x.rows, program.rows) for source, gather in gathers)
    return block, list(itertools.chain(*fetches)) if ahead else []


def _feature_major(program: Program, task: Task, worker: Worker, ahead: bool) -> None:
    """Each worker takes shards of the samples; then the gradients of all shards are added in their order.

    Where there are fewer shards than workers, the first worker takes them all. The others wait before and after,
    because each runs the programs around a batch for the rows of W that it updates.
    """
    work, shards, everybody = task.work, strategy.sample_shards(program.rows, task.layout.itemsize), worker
    if len(shards) < worker.count:
        if worker.index > 0:
            everybody.barrier(program)
            everybody.barrier(program)
            return
        worker = Worker()
    begin, end = worker.shard(len(shards))
    first, stop = shards[begin][0], shards[end - 1][1]
    program.first_row = first
    samples, fetches = load(program, task, work.feature_major_samples(stop - first, worker), worker, ahead)
    if worker is not everybody:
        everybody.barrier(program)
    of_shards = [work.shard_gradient(i) for i in range(len(shards))] if len(shards) > 1 else []
    total, of_block = work.field("total"), replace(task.destination, update=None)
    losses = Matrix.row_major(work.losses.ctypes.data, len(shards), 1, LINE_BYTES, "float64", "losses")
    for i in range(begin, end):
        block = work.feature_major(samples, slice(shards[i][0] - first, shards[i][1] - first), worker)
        if task.part == FORWARD:
            _outputs(program, task, block, worker)
            continue
        _to_deltas(program, task, block, Worker(), losses[i : i + 1, :] if of_shards else total)
        into = Destination(of_shards[i], overwrite=True) if of_shards else of_block
        here, fetches = fetches[: len(fetches) // (end - i)], fetches[len(fetches) // (end - i) :]
        passes.gradients(program, into, block, Worker(), here)
        if task.to_inputs:
            place = work.row_major(block.x.rows, worker).dx
            give(program, row_major(program, block, block.dx, place), first=block.first)
    if task.part == FORWARD:
        return
    worker.barrier(program)
    if of_shards and worker.index == 0:
        program.add("collect", values=losses, total=total)
    passes.collect_gradients(program, task.destination, of_shards, worker)
    if worker is not everybody:
        everybody.barrier(program)
