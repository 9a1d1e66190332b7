"""Whole programs: a step of training for each worker, a gradient, a prediction.

What changes between runs (samples, targets, order, outputs, a gradient) is left open; see `program`.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import layers, strategy
from .activations import ROW_WISE
from .layers import Decay, Destination, Dropout, Update
from .losses import LOSSES
from .matmul import WHOLE, matmul
from .matrix import ITEMSIZE, Address, Matrix, Symbol
from .memory import (
    SHARD_SAMPLES,
    STATE,
    Block,
    ColumnShard,
    Layer,
    Layout,
    Trainable,
    Vector,
    Workspace,
    field,
    field_at,
)
from .optimizers import MAX_NUMBERS, OPTIMIZERS, POSITIONS
from .program import Operation, Program
from .target import LINE_BYTES
from .threads import Worker

L2_SAMPLE_BYTES = 2**18  # of a sample set that stays in the L2 cache without being prefetched
L1_PREFETCH_BYTES = 2**13  # of a batch's samples that are prefetched into the L1 cache, a part of it; more into L2
PREFETCH_BYTES = 2**10  # at a time: about what the core can have under way
IN_PLACE_BYTES = 2**16  # of samples that are multiplied at a time where they lie

# The programs of training before those of blocks: what the first worker runs at the start of an epoch, to count a batch
# by its samples' weights, and to advance the optimizer; what all run before and after a batch; what the first worker
# runs when all have finished a batch; and at the end of an epoch to see whether it is to be kept, to keep it, or to go
# back to what was kept before.
BEGIN_EPOCH, COUNT, ADVANCE, BEFORE, AFTER, FINISH, CHECK, KEEP, RESTORE, BLOCKS = range(10)
# A table `pick`, int64 (2, n), says which part is due by the rows that are left of a batch, its last column for all
# larger numbers. BATCH, where a batch begins: the part that does all of it. 0: there is none, and PIECE says in which
# parts it is done, with those before and after a batch around them.
BATCH, PIECE = range(2)

_NAMES = {np.dtype(name): name for name in ITEMSIZE}


@dataclass(frozen=True)
class Source:
    """A kind of array of samples, of which a symbol will be the address: how it is read, and whether ahead."""

    symbol: str
    operation: str
    dtype: str
    cols: int
    row_stride: int
    prefetch: bool

    @classmethod
    def of(cls, symbol: str, array: NDArray[Any]) -> Source:
        """Of (n, width) in the network's dtype or uint8, of int32 class indices (n,), or of weights (n,).

        int64 (n, 3) are sparse rows: where the column numbers and the values of each lie, and how many there are.
        """
        cols = 1 if array.ndim == 1 else array.shape[1]
        return _source(symbol, _NAMES[array.dtype], cols, cols * array.itemsize, array.nbytes > L2_SAMPLE_BYTES)

    @classmethod
    def of_rows(cls, symbol: str, cols: int, dtype: str) -> Source:
        """Of C-ordered rows, which are read once."""
        return _source(symbol, dtype, cols, cols * ITEMSIZE[dtype], prefetch=False)

    @property
    def once(self) -> Source:
        """The same for a single pass, in which nothing is fetched ahead."""
        return self.of_rows(self.symbol, self.cols, self.dtype)

    def matrix(self, rows: int) -> Matrix:
        """So many rows of it."""
        place = self.row_stride, ITEMSIZE[self.dtype], self.dtype, self.symbol
        return Matrix(Symbol(self.symbol), rows, self.cols, *place)

    def load(self, program: Program, out: Matrix, scale: float = 1.0) -> int:
        """out = scale * the next rows in the order; gives the number of the operation."""
        name, rows = self.operation, out.rows
        if not out.is_row_major:
            name, out = f"{name}_columns", out.T
        given: dict[str, Any] = {"scale": scale} if name.startswith("gather") else {}
        order, remaining = Symbol("order"), Symbol("remaining") if self.prefetch else 0  # prefetches read it
        return program.add(name, out=out, source=self.matrix(rows), order=order, remaining=remaining, **given)

    def prefetches(self, gather: int, rows: int, ahead: int) -> list[Operation]:
        """Operations that fetch as many rows, `ahead` rows further on than operation `gather` reads them."""
        if not self.prefetch:
            return []
        name = "prefetch_L1" if rows * self.row_stride <= L1_PREFETCH_BYTES else "prefetch_L2"
        step, parts = max(1, PREFETCH_BYTES // self.row_stride), -(-self.row_stride // PREFETCH_BYTES)
        edges = [self.row_stride * part // parts for part in range(parts + 1)]
        return [
            (name, {"first": i, "stop": min(i + step, rows), "start": s, "end": e, "ahead": ahead, "gather": gather})
            for i in range(0, rows, step)
            for s, e in itertools.pairwise(edges)
        ]


@functools.lru_cache
def _source(symbol: str, dtype: str, cols: int, row_stride: int, prefetch: bool) -> Source:
    operation = {"int32": "one_hot", "uint8": "gather_uint8", "int64": "gather_sparse"}.get(dtype, "gather")
    return Source(symbol, operation, dtype, cols, row_stride, prefetch)


@dataclass(frozen=True)
class Sources:
    """The kinds of arrays of a sample set: samples, targets, and weights if it has any."""

    x: Source
    y: Source
    w: Source | None = None

    @classmethod
    def of(cls, x: NDArray[Any], y: NDArray[Any], w: NDArray[Any] | None = None) -> Sources:
        """Of arrays as `Source.of` takes them."""
        weights = None if w is None else Source.of("weights", w)
        return cls(Source.of("samples", x), Source.of("targets", y), weights)

    @property
    def once(self) -> Sources:
        """See `Source.once`."""
        return Sources(self.x.once, self.y.once, None if self.w is None else self.w.once)


@dataclass(frozen=True)
class Rules:
    """What training does beside descending the gradient of the loss and the penalties; all are off by default."""

    dropout: tuple[float, ...] = ()  # the share of each layer's outputs that becomes zero; none: of no layer
    input_noise: float = 0.0  # the standard deviation of what is added to the samples
    label_smoothing: float = 0.0  # the share of each target that is spread over all classes
    max_norm: float | None = None  # of a neuron's weights, after each step
    clip_value: float | None = None  # of an element of the gradient
    clip_norm: float | None = None  # of the whole gradient
    min_derivative: float = 0.0  # the share of an activation's largest derivative that each one counts as at least

    @property
    def dropped(self) -> list[int]:
        """The layers that drop outputs."""
        return [i for i, rate in enumerate(self.dropout) if rate]

    @property
    def random(self) -> bool:
        """Whether steps draw numbers beside the order."""
        return self.input_noise > 0 or bool(self.dropped)


NO_RULES = Rules()


@dataclass(frozen=True)
class Training:
    """What the programs of training are about."""

    work: Workspace
    sources: Sources
    input_scale: float
    n_samples: int
    batch_size: int
    optimizer: str
    live: Trainable  # which training changes
    kept: Trainable  # as it was at the end of the last finished epoch; its layout is the same one, or has single shards
    gradient: NDArray[Any]  # empty where none is needed
    settings: NDArray[np.float64]  # of the optimizer
    penalties: tuple[NDArray[np.float64] | None, ...] = (None, None)  # L2, L1: see `elementwise.penalty`; None for none
    rules: Rules = NO_RULES
    scheduled: str = ""  # whether the learning rate changes with each "step" or "epoch"
    partial: bool = False  # whether more samples of the epoch follow these

    @property
    def layout(self) -> Layout:
        return self.live.layout

    @property
    def parameters(self) -> Vector:
        return self.live.parameters

    @property
    def decay(self) -> Decay | None:
        if all(strength is None for strength in self.penalties):
            return None
        return Decay(self.parameters, field(self.work.step, "decay", 2), signs=self.penalties[1] is not None)

    @property
    def destination(self) -> Destination:
        """Where the gradients of a block go."""
        optimizer, one_block = OPTIMIZERS[self.optimizer], self.batch_size <= self.layout.block_rows
        if optimizer.update is None and one_block:
            return Destination(self.parameters, decay=self.decay)
        gradient = Vector(self.layout, self.gradient.ctypes.data, "d")
        if not one_block:
            return Destination(gradient)
        update = None if self.rules.clip_norm is not None else self.update  # else when the whole gradient is there
        return Destination(gradient, overwrite=True, update=update, decay=self.decay)

    @property
    def update(self) -> Update | None:
        optimizer = OPTIMIZERS[self.optimizer]
        if optimizer.update is None:
            return None
        own = zip(optimizer.vectors, self.live.vectors[1:], strict=True)
        vectors = {name: replace(vector, name=f"{name}.") for name, vector in own}
        scalars = field(self.work.step, "scalars", MAX_NUMBERS)
        return Update(self.optimizer, self.parameters, vectors, scalars, self.rules.clip_value)

    def programs(self, threads: int = 1) -> list[list[Program]]:
        """For each worker the programs of training, BEGIN_EPOCH to KEEP, then those of the different blocks."""
        sizes = block_sizes(self.layout, [self.batch_size, self.n_samples % self.batch_size])
        how = strategy.choose(self.layout, self.batch_size)
        workers = [self.work.worker(index, threads) for index in range(threads)]
        return [[*self.around(worker), *(self.block(how, rows, worker) for rows in sizes)] for worker in workers]

    def pick(self) -> NDArray[np.int64]:
        """The table for `programs`; see BATCH."""
        sizes = block_sizes(self.layout, [self.batch_size, self.n_samples % self.batch_size])
        table = np.zeros((2, min(self.batch_size, self.layout.block_rows) + 1), np.int64)
        table[BATCH if self.batch_size <= self.layout.block_rows else PIECE, sizes] = BLOCKS + np.arange(len(sizes))
        return table

    def around(self, worker: Worker) -> list[Program]:
        """A worker's programs BEGIN_EPOCH to RESTORE."""
        programs = [self._program() for _ in range(BLOCKS)]
        self._around_a_batch(programs[BEFORE], programs[AFTER], worker)
        if worker.index == 0:
            self._around_an_epoch(programs)
        return programs

    def block(self, how: str, rows: int, worker: Worker, ahead: bool = True) -> Program:
        """A worker's part of a block; see `block_program`."""
        task = Task(self.parameters, self.work, self.sources, self.input_scale, self.destination, self.rules)
        return block_program(task, how, rows, worker, ahead)

    def _program(self) -> Program:
        return Program(self.layout.target, self.layout.dtype)

    def _around_an_epoch(self, programs: list[Program]) -> None:
        step, state = self.work.step, self.live.state
        programs[BEGIN_EPOCH].add("draw_order", order=Symbol("order"), n=Symbol("remaining"), state=state)
        if self.sources.w is not None:
            weights, count = self.sources.w.matrix(self.batch_size), field(step, "count")
            programs[COUNT].add("sum_of_weights", order=Symbol("order"), source=weights, count=count)
        settings = _row(self.settings, "settings", "float64")
        numbers = field_at(state, STATE, "numbers", MAX_NUMBERS)
        if self.scheduled:
            position = {name: numbers[:, i : i + 1] for name, i in POSITIONS.items()}
            rates = Symbol("rates")
            programs[ADVANCE].add("take_rate", rates=rates, position=position[self.scheduled], rate=settings[:, :1])
            programs[ADVANCE].add("increment", number=position["step"])
            if not self.partial:
                programs[KEEP].add("increment", number=position["epoch"])
        programs[ADVANCE].add(
            f"{self.optimizer}_advance",
            settings=settings,
            state=numbers,
            count=field(step, "count"),
            scale=field(step, "scale"),
            scalars=field(step, "scalars", MAX_NUMBERS),
        )
        if self.rules.random:
            programs[ADVANCE].add("draw_key", state=field_at(state, STATE, "noise").address, key=field(step, "key"))
        for i, (kind, strength) in enumerate(zip(("squares", "absolute_values"), self.penalties, strict=True)):
            if strength is not None:
                self._penalise(programs[ADVANCE], kind, strength, field(step, "decay", 2)[:, i : i + 1])
        self._finish(programs[FINISH])
        programs[CHECK].add("spread", x=self.parameters.flat(), spread=field(step, "spread"))
        pairs = [(_state_row(self.live.state, self.layout.dtype), _state_row(self.kept.state, self.layout.dtype))]
        for live, kept in zip(self.live.vectors, self.kept.vectors, strict=True):
            if self.layout is self.kept.layout:
                pairs.append((live.flat(), kept.flat()))
            else:
                self._keep_shards(programs[KEEP], live, kept)
        for live_row, kept_row in pairs:
            programs[KEEP].add("copy", out=kept_row, x=live_row)
            programs[RESTORE].add("copy", out=live_row, x=kept_row)

    def _penalise(self, program: Program, kind: str, strength: NDArray[np.float64], factor: Matrix) -> None:
        """Add a penalty to a batch's loss, of the weights' "squares" or "absolute_values"."""
        numbers = self._column_sums(program, kind, [self.parameters.w(*each) for each in self._shards])
        step = {name: field(self.work.step, name) for name in ("count", "scale", "total")}
        program.add("penalty", values=numbers, c=_row(strength, "c", "float64"), factor=factor, **step)

    @property
    def _shards(self) -> list[tuple[Layer, ColumnShard]]:
        """All that train."""
        return [(layer, shard) for layer in self.layout.trained for shard in layer.shards]

    def _column_sums(self, program: Program, kind: str, matrices: list[Matrix]) -> Matrix:
        """The sums of all columns, which have one order, whatever the shards are."""
        widths = [matrix.padded_cols for matrix in matrices]
        numbers = self.work.numbers(sum(widths))
        for matrix, end, width in zip(matrices, itertools.accumulate(widths), widths, strict=True):
            program.add(kind, out=numbers[:, end - width : end], x=matrix)
        return numbers

    def _finish(self, program: Program) -> None:
        """What needs the whole gradient, or all of W as a step left it."""
        rules, update = self.rules, self.update
        if rules.clip_norm is not None and update is not None:
            gradient = Vector(self.layout, self.gradient.ctypes.data, "d")
            factor = field(self.work.step, "factor")
            squares = self._column_sums(program, "squares", [gradient.w(*each).taller(1) for each in self._shards])
            program.add("norm_factor", squares=squares, limit=rules.clip_norm, factor=factor)
            for layer in self.layout.trained:
                for i in range(len(layer.shards)):
                    worker = Worker(i, len(layer.shards)) if layer.is_shared else Worker()
                    program.add("scale", x=gradient.flat_rows(layer, worker), factor=factor)
                    update.add(program, layer, gradient, worker)
        if rules.max_norm is not None:
            for each in self._shards:
                program.add("limit_norms", x=self.parameters.w(*each), limit=rules.max_norm)

    def _keep_shards(self, program: Program, live: Vector, kept: Vector) -> None:
        """Copy a vector in shards to where the network has it."""
        for layer, other in zip(live.layout.layers, kept.layout.layers, strict=True):
            for shard in layer.shards:
                edges = shard.begin, shard.end
                program.add("unpad", out=kept.columns(other, *edges), source=live.columns(layer, *edges))

    def _around_a_batch(self, before: Program, after: Program, worker: Worker) -> None:
        """A batch of several blocks sums their gradients first, because all must see the same parameters."""
        if self.batch_size <= self.layout.block_rows:
            return
        gradient = self.destination.vector
        for layer in self.layout.layers:
            mine = gradient.flat_rows(layer, worker)
            if layer.frozen or mine is None:
                continue
            before.add("zero", out=mine)
            if self.decay:
                self.decay.add(after, layer, gradient, worker)
            if self.rules.clip_norm is not None:
                continue
            if self.update:
                self.update.add(after, layer, gradient, worker)
            else:
                parameters = self.parameters.flat_rows(layer, worker)
                after.add("add", out=parameters, x=parameters, y=mine)


def _row(array: NDArray[Any], name: str, dtype: str) -> Matrix:
    """All of an array's memory as a row of a dtype."""
    cols = array.nbytes // ITEMSIZE[dtype]
    return Matrix.row_major(array.ctypes.data, 1, cols, array.nbytes, dtype, name)


def _state_row(address: Address, dtype: str) -> Matrix:
    """The record STATE as a row of a dtype, to be copied."""
    return Matrix.row_major(address, 1, STATE.itemsize // ITEMSIZE[dtype], STATE.itemsize, dtype, "state")


def pick(batches: Sequence[int], most: int) -> NDArray[np.int64]:
    """The table for whole batches of some numbers of rows, then pieces of the heights up to `most`; see BATCH."""
    pieces = strategy.pick(most)
    table = np.zeros((2, len(pieces)), np.int64)
    table[BATCH, batches] = BLOCKS + np.arange(len(batches))
    table[PIECE] = BLOCKS + len(batches) + pieces
    return table


def needs_gradient(layout: Layout, batch_size: int, optimizer: str) -> bool:
    """Whether training needs a gradient vector."""
    return OPTIMIZERS[optimizer].update is not None or batch_size > layout.block_rows


def block_sizes(layout: Layout, batches: Iterable[int]) -> list[int]:
    """The different numbers of rows in the blocks that batches of these sizes split into."""
    sizes: set[int] = set()
    for batch in batches:
        sizes |= {min(batch, layout.block_rows), batch % layout.block_rows} - {0}
    return sorted(sizes)


@dataclass(frozen=True)
class Task:
    """What the programs of blocks have in common: parameters, buffers, samples, and where gradients go."""

    parameters: Vector
    work: Workspace
    sources: Sources
    input_scale: float
    destination: Destination
    rules: Rules = NO_RULES

    @property
    def dropout(self) -> Dropout | None:
        return Dropout(self.rules.dropout, field(self.work.step, "key")) if self.rules.dropped else None

    @property
    def layout(self) -> Layout:
        return self.parameters.layout


def gradient_program(parameters: Vector, work: Workspace, sources: Sources, rows: int, input_scale: float) -> Program:
    """A block of samples: its loss, and its gradient added to the one that the symbol stands for."""
    destination = Destination(Vector(parameters.layout, Symbol("gradient"), "d"))
    task = Task(parameters, work, sources, input_scale, destination)
    return block_program(task, strategy.choose(task.layout, rows), rows, Worker(), ahead=False)


def block_program(task: Task, how: str, rows: int, worker: Worker, ahead: bool = True) -> Program:
    """A worker's part of a block of samples, by one of the strategies.

    Each number is computed as one worker would, so the bits do not depend on how many there are. `ahead` fetches the
    next block's samples meanwhile.
    """
    layout, work = task.layout, task.work
    program = Program(layout.target, layout.dtype, rows)
    if how == strategy.FEATURE_MAJOR:
        _feature_major(program, task, worker, ahead)
        return program
    block = work.row_major(rows, worker, single=how == strategy.SINGLE)
    block, fetches = _load(program, task, block, worker, ahead)
    if block.single:  # no product takes long enough to fetch beside it
        program.extend(fetches)
        fetches = []
    # Every worker computes all of the last d, but one keeps the sum.
    total = field(work.step, "total") if worker.index == 0 else _ignored(work, worker)
    _to_deltas(program, task, block, worker, total)
    worker.barrier(program)  # nobody reads W any more
    layers.gradients(program, task.destination, block, worker, fetches)
    return program


def _to_deltas(program: Program, task: Task, block: Block, worker: Worker, total: Matrix) -> None:
    """Forward, loss and deltas of a block."""
    from_logits = LOSSES[task.layout.loss].from_logits
    layers.forward(program, task.parameters, block, worker, from_logits, dropout=task.dropout, summed=True)
    layers.loss(program, task.layout, block, field(task.work.step, "scale"), total)
    layers.deltas(program, task.parameters, block, worker, task.dropout, task.rules.min_derivative)


def _ignored(work: Workspace, worker: Worker) -> Matrix:
    return Matrix.row_major(work.ignored.ctypes.data + worker.index * LINE_BYTES, 1, 1, 8, "float64", "ignored")


def _load(program: Program, task: Task, block: Block, worker: Worker, ahead: bool) -> tuple[Block, list[Operation]]:
    """Load samples, targets and weights into a block; gives it, and the operations that fetch the next block's."""
    x, y, w = task.sources.x, task.sources.y, task.sources.w
    gathers = [(x, x.load(program, block.x, task.input_scale)), (y, y.load(program, block.y))]
    if task.rules.input_noise:
        place = {"position": Symbol("position"), "width": block.x.cols, "begin": 0, "salt": 0}
        place |= {"key": field(task.work.step, "key"), "deviation": task.rules.input_noise}
        layers.by_samples(program, "add_noise", {"out": block.x}, **place)
    if task.rules.label_smoothing:
        other = 1 / block.y.cols if task.layout.activations[-1] in ROW_WISE else 0.5
        program.add("smooth_labels", y=block.y.flat(), share=task.rules.label_smoothing, other=other)
    if w is not None:
        weights = task.work.weights(block.x.rows, worker)
        block = replace(block, w=weights)
        gathers.append((w, w.load(program, weights)))
    fetches = (source.prefetches(gather, block.x.rows, program.rows) for source, gather in gathers)
    return block, list(itertools.chain(*fetches)) if ahead else []


def _feature_major(program: Program, task: Task, worker: Worker, ahead: bool) -> None:
    """Shards of samples, each worker its own, whose gradients are then added in their order.

    Where there are fewer shards than workers the first worker does them all. The others wait before and after, because
    each runs the programs around a batch for its own rows of W.
    """
    work, shards, everybody = task.work, strategy.sample_shards(program.rows, task.layout.itemsize), worker
    if len(shards) < worker.count:
        if worker.index > 0:
            everybody.barrier(program)
            everybody.barrier(program)
            return
        worker = Worker()
    begin, end = worker.share(len(shards))
    first, stop = shards[begin][0], shards[end - 1][1]
    program.first_row = first
    samples, fetches = _load(program, task, work.feature_major_samples(stop - first, worker), worker, ahead)
    if worker is not everybody:
        everybody.barrier(program)
    partials = [work.partial(i) for i in range(len(shards))] if len(shards) > 1 else []
    total, own = field(work.step, "total"), replace(task.destination, update=None)
    losses = Matrix.row_major(work.losses.ctypes.data, len(shards), 1, LINE_BYTES, "float64", "losses")
    for i in range(begin, end):
        block = work.feature_major(samples, slice(shards[i][0] - first, shards[i][1] - first), worker)
        _to_deltas(program, task, block, Worker(), losses[i : i + 1, :] if partials else total)
        into = Destination(partials[i], overwrite=True) if partials else own
        here, fetches = fetches[: len(fetches) // (end - i)], fetches[len(fetches) // (end - i) :]
        layers.gradients(program, into, block, Worker(), here)
    worker.barrier(program)
    if partials and worker.index == 0:
        program.add("collect", values=losses, total=total)
    layers.collect_gradients(program, task.destination, partials, worker)
    if worker is not everybody:
        everybody.barrier(program)


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
        block, _ = _load(program, task, block, worker, ahead=False)
    out, logits = block.a[-1], sources is not None and LOSSES[layout.loss].from_logits
    layers.forward(program, parameters, block, worker, logits, multiplied=in_place)
    if sources is not None:
        layers.loss(program, layout, block, field(work.step, "scale"), field(work.step, "total"))
    if logits:
        layers.activate(program, layout.activations[-1], out, out, WHOLE)
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
        samples, _ = _load(program, task, samples, worker, ahead=False)
    else:
        given.load(program, samples.x, input_scale)
    by_rows, logits = activation in ROW_WISE, with_loss and LOSSES[layout.loss].from_logits
    block = work.feature_major(samples, slice(0, rows), worker, most)
    layers.forward(program, parameters, block, worker, logits or by_rows)
    if with_loss:
        layers.loss(program, layout, block, field(work.step, "scale"), field(work.step, "total"))
    if logits and not by_rows:
        layers.activate(program, activation, block.a[-1], block.a[-1], WHOLE)
    program.add("transpose", source=block.a[-1].T, out=out, zeros=block.zeros)
    if by_rows:
        layers.activate(program, activation, out, out, WHOLE)
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
        matmul(program, out[first : first + n, :], piece, w, b.broadcast(n), between=fetches)
        first += n
