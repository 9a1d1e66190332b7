"""The programs of training: those around an epoch and a batch, and those of the blocks that a batch consists of."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..formulas.update_rules import MAX_NUMBERS, OPTIMIZERS, POSITIONS
from ..vector.barriers import Worker
from ..vector.matrix import ITEMSIZE, Address, Matrix, Symbol
from . import strategy
from .block_programs import NO_RULES, Rules, Task, block_program
from .layers.layer import ColumnShard, Layer, Tensor
from .memory import STATE, Layout, Trainable, Vector, Workspace, field_at
from .passes import Decay, Destination, Update
from .program import Program
from .sources import Sources

# The numbers of the programs of training. All workers run BEFORE and AFTER, around a batch of several blocks. The first
# worker runs the others: BEGIN_EPOCH; COUNT, which counts a batch by its samples' weights; ADVANCE, which advances the
# optimizer; FINISH, when all have finished a batch; CHECK, at the end of an epoch, to see whether it is finite; KEEP,
# to keep it; RESTORE, to go back to what was kept. The programs of blocks follow from BLOCKS on.
BEGIN_EPOCH, COUNT, ADVANCE, BEFORE, AFTER, FINISH, CHECK, KEEP, RESTORE, BLOCKS = range(10)
# A table `pick`, int64 (2, n), gives the number of the program that is due by the rows left of a batch; its last column
# is for all larger numbers. Row BATCH, where a batch begins: the program that does the whole batch. It is 0 where there
# is none. Then row BLOCK gives the program of the next block, and BEFORE and AFTER are run around the blocks.
BATCH, BLOCK = range(2)


class Kind(NamedTuple):
    """A kind of fit: what the programs of training depend on beside the network, and no value that they can be told."""

    batch_size: int  # 0 where there is no usual one, with any_rows
    optimizer: str
    sources: Sources
    last_batch: int = 0  # the samples of an epoch's last batch, if it is a smaller one
    any_rows: bool = False  # whether batches may have any number of rows, as sums of heights
    in_place: bool = False  # whether the network's memory is trained, and what it was before is kept
    max_threads: int = 1
    l2: bool = False  # whether there is such a penalty
    l1: bool = False
    rules: Rules = NO_RULES
    rate_per: str = ""  # whether the learning rate changes with each "step" or "epoch"
    partial: bool = False  # whether more samples of the epoch follow these
    summed: bool = False  # whether a step descends the sum of a batch's losses, not their mean
    factors: tuple[str, ...] = ()  # the names under which learning rates have factors, see `Pace`
    decay_biases: bool = True  # whether an optimizer's weight decay shrinks tensors without penalties too


class Pace(NamedTuple):
    """How fast a tensor follows the optimizer: tensors that go alike share the scalars of a step.

    A factor stands under a kind of tensor, "bias", or under one of a kind of layer, "Scale.weight", which comes first.
    The values are in the record of settings, in the order of `Kind.factors`.
    """

    factor: str = ""  # the name under which the learning rate has one
    decays: bool = True  # whether the optimizer's weight decay applies


@dataclass(frozen=True)
class Training:
    """What writes the programs of a kind of fit, in some memory."""

    kind: Kind
    input_scale: float | None  # see `Task`
    work: Workspace
    live: Trainable  # what training changes
    kept: Trainable  # a copy from the end of the last finished epoch, in the same layout or in one of single shards
    gradient: NDArray[Any]  # empty where none is needed
    keeps_parameters: bool = True  # whether KEEP copies them; else they were kept before

    @property
    def one_block(self) -> bool:
        """Whether a batch is a single block."""
        return self.kind.batch_size <= self.layout.block_rows

    @property
    def layout(self) -> Layout:
        return self.live.layout

    @property
    def parameters(self) -> Vector:
        return self.live.parameters

    @property
    def decay(self) -> Decay | None:
        if not (self.kind.l2 or self.kind.l1):
            return None
        return Decay(self.parameters, self.work.field("decay", 2), signs=self.kind.l1)

    @property
    def destination(self) -> Destination:
        """Where the gradients of a block go."""
        optimizer = OPTIMIZERS[self.kind.optimizer]
        if optimizer.update is None and self.one_block:
            return Destination(self.parameters, decay=self.decay)
        gradient = Vector(self.layout, self.gradient.ctypes.data, "d")
        if not self.one_block:
            return Destination(gradient)
        update = None if self.kind.rules.clip_norm else self.update  # else FINISH does it
        return Destination(gradient, overwrite=True, update=update, decay=self.decay)

    @property
    def update(self) -> Update | None:
        optimizer = OPTIMIZERS[self.kind.optimizer]
        if optimizer.update is None:
            return None
        named = zip(optimizer.vectors, self.live.vectors[1:], strict=True)
        vectors = {name: replace(vector, name=f"{name}.") for name, vector in named}
        clip_value = self.layout.setting("clip_value") if self.kind.rules.clip_value else None
        return Update(self.kind.optimizer, self.parameters, vectors, self._scalars, clip_value)

    def programs(self, threads: int = 1) -> list[list[Program]]:
        """For each worker the programs of training, BEGIN_EPOCH to KEEP, then those of the different blocks."""
        sizes = block_sizes(self.layout, [self.kind.batch_size, self.kind.last_batch])
        how = strategy.choose(self.layout, self.kind.batch_size)
        workers = [self.work.worker(index, threads) for index in range(threads)]
        return [[*self.around(worker), *(self.block(how, rows, worker) for rows in sizes)] for worker in workers]

    def pick(self) -> NDArray[np.int64]:
        """The table for `programs`; see BATCH."""
        sizes = block_sizes(self.layout, [self.kind.batch_size, self.kind.last_batch])
        table = np.zeros((2, min(self.kind.batch_size, self.layout.block_rows) + 1), np.int64)
        table[BATCH if self.one_block else BLOCK, sizes] = BLOCKS + np.arange(len(sizes))
        return table

    def around(self, worker: Worker) -> list[Program]:
        """A worker's programs BEGIN_EPOCH to RESTORE."""
        programs = [self._program() for _ in range(BLOCKS)]
        self._around_a_batch(programs[BEFORE], programs[AFTER], worker)
        if worker.index == 0:
            self._around_an_epoch(programs)
        return programs

    def block(self, how: str, rows: int, worker: Worker, ahead: bool = True) -> Program:
        """A worker's program for a block; see `block_program`."""
        task = Task(self.parameters, self.work, self.kind.sources, self.input_scale, self.destination, self.kind.rules)
        return block_program(task, how, rows, worker, ahead)

    def _program(self) -> Program:
        return Program(self.layout.target, self.layout.dtype)

    def _around_an_epoch(self, programs: list[Program]) -> None:
        self._begin_epoch(programs[BEGIN_EPOCH])
        self._count(programs[COUNT])
        self._take_rate(programs[ADVANCE], programs[KEEP])
        self._advance(programs[ADVANCE])
        self._finish(programs[FINISH])
        programs[CHECK].add("finite_check", x=self.parameters.flat(), not_finite=self.work.field("not_finite"))
        self._keep(programs[KEEP], programs[RESTORE])

    def _begin_epoch(self, program: Program) -> None:
        program.add("draw_order", order=Symbol("order"), n=Symbol("remaining"), state=self.live.state)

    def _count(self, program: Program) -> None:
        """Add what counts a batch by its samples' weights."""
        if self.kind.sources.w is not None:
            weights = self.kind.sources.w.matrix(self.kind.batch_size)
            program.add("sum_of_weights", order=Symbol("order"), source=weights, count=self.work.field("count"))

    def _take_rate(self, advance: Program, keep: Program) -> None:
        """Add what takes the learning rate of the step or epoch, where it changes."""
        if self.kind.rate_per:
            numbers, rate = self._state("numbers", MAX_NUMBERS), self.layout.setting("optimizer")[:, :1]
            position = {name: numbers[:, i : i + 1] for name, i in POSITIONS.items()}
            advance.add("take_rate", rates=Symbol("rates"), position=position[self.kind.rate_per], rate=rate)
            advance.add("increment", number=position["step"])
            if not self.kind.partial:
                keep.add("increment", number=position["epoch"])

    def _advance(self, program: Program) -> None:
        """Add what goes on to the next step: the optimizer, the random key, the penalties."""
        of_step = {
            "settings": self.layout.setting("optimizer"),
            "state": self._state("numbers", MAX_NUMBERS),
            "count": self.work.one if self.kind.summed else self.work.field("count"),
        }
        for row, pace in enumerate(self._paces[1:], 1):
            name = f"{self.kind.optimizer}_scalars{'' if pace.decays else '_without_decay'}"
            program.add(name, **of_step, factor=self._factor(pace), scalars=self.work.scalars(row))
        scale, scalars = self.work.field("scale"), self.work.scalars(0)
        program.add(f"{self.kind.optimizer}_advance", **of_step, scale=scale, scalars=scalars)
        if self.kind.rules.random:
            program.add("draw_key", state=self._state("noise").address, key=self.work.field("key"))
        for i, (name, sums) in enumerate({"l2": "squares", "l1": "absolute_values"}.items()):
            if getattr(self.kind, name):
                self._penalise(program, name, sums, self.work.field("decay", 2)[:, i : i + 1])

    @cached_property
    def _paces(self) -> tuple[Pace, ...]:
        """The different paces, that of `advance` first; the scalars of each have a row of `Workspace.scalars`."""
        tensors = ((layer, tensor) for layer in self.layout.trained for tensor in layer.tensors if tensor.trains)
        return tuple(dict.fromkeys([Pace(), *(self._pace(*each) for each in tensors)]))

    def _pace(self, layer: Layer, tensor: Tensor) -> Pace:
        names = f"{type(layer.kind).__name__}.{tensor.kind}", tensor.kind
        factor = next((name for name in names if name in self.kind.factors), "")
        return Pace(factor, tensor.decays or self.kind.decay_biases)

    def _factor(self, pace: Pace) -> Matrix:
        """What a learning rate is multiplied by."""
        if not pace.factor:
            return self.work.one
        i = self.kind.factors.index(pace.factor)
        return self.layout.setting("factors")[:, i : i + 1]

    def _scalars(self, layer: Layer, tensor: Tensor) -> Matrix:
        """The scalars of a tensor's update."""
        return self.work.scalars(self._paces.index(self._pace(layer, tensor)))

    def _state(self, name: str, cols: int = 1) -> Matrix:
        """A field of STATE."""
        networks, place = self.layout.networks, STATE.fields[name][1]
        return field_at(self.live.state + place * networks, name, cols, networks)

    def _keep(self, keep: Program, restore: Program) -> None:
        """Add what keeps what an epoch left, and what goes back to it."""
        pairs = [(self._state_row(self.live.state), self._state_row(self.kept.state))]
        vectors = list(zip(self.live.vectors, self.kept.vectors, strict=True))
        if not self.keeps_parameters:
            live, kept = vectors.pop(0)
            restore.add("copy", out=live.flat(), x=kept.flat())
        for live, kept in vectors:
            if self.layout is self.kept.layout:
                pairs.append((live.flat(), kept.flat()))
            else:
                self._keep_shards(keep, live, kept)
        for live_row, kept_row in pairs:
            keep.add("copy", out=kept_row, x=live_row)
            restore.add("copy", out=live_row, x=kept_row)
        if self.gradient.size:  # a NaN may lie in its padding, which no batch writes
            restore.add("zero", out=Vector(self.layout, self.gradient.ctypes.data, "d").flat())

    def _state_row(self, address: Address) -> Matrix:
        """The record STATE as a row, to be copied."""
        n_bytes, dtype = STATE.itemsize, self.layout.dtype
        return Matrix.row_major(address, 1, n_bytes // ITEMSIZE[dtype], n_bytes, dtype, "state")

    def _penalise(self, program: Program, name: str, sums: str, factor: Matrix) -> None:
        """Add the penalty "l2" or "l1" to a batch's loss, of the weights' "squares" or "absolute_values"."""
        numbers = self._column_sums(program, sums, self._weights)
        step = {name: self.work.field(name) for name in ("count", "scale", "total")}
        program.add("penalty", values=numbers, c=self.layout.setting(name), factor=factor, **step)

    @property
    def _shards(self) -> list[tuple[Layer, ColumnShard]]:
        """The shards of all layers that train."""
        return [(layer, shard) for layer in self.layout.trained for shard in layer.shards]

    @property
    def _weights(self) -> list[Matrix]:
        """The shards of all tensors that train and have penalties."""
        found = ((layer, weight.name, shard) for layer, shard in self._shards for weight in layer.weights)
        return [self.parameters.tensor(*each) for each in found]

    def _column_sums(self, program: Program, kind: str, matrices: list[Matrix]) -> Matrix:
        """The sums of all columns. Each runs through the rows in their order, whatever the shards are."""
        widths = [matrix.padded_cols for matrix in matrices]
        numbers = self.work.numbers(sum(widths))
        for matrix, end, width in zip(matrices, itertools.accumulate(widths), widths, strict=True):
            program.add(kind, out=numbers[:, end - width : end], x=matrix)
        return numbers

    def _finish(self, program: Program) -> None:
        """Add what needs the whole gradient, or all of W after a step."""
        rules, update = self.kind.rules, self.update
        if rules.clip_norm and update is not None:
            gradient = Vector(self.layout, self.gradient.ctypes.data, "d")
            factor = self.work.field("factor")
            squares = self._column_sums(program, "squares", [gradient.trained(*each) for each in self._shards])
            program.add("norm_factor", squares=squares, limit=self.layout.setting("clip_norm"), factor=factor)
            for layer in self.layout.trained:
                for i in range(len(layer.shards)):
                    worker = Worker(i, len(layer.shards)) if layer.is_shared else Worker()
                    program.add("scale", x=gradient.flat_rows(layer, worker), factor=factor)
                    update.add(program, layer, gradient, worker)
        if rules.max_norm:
            for weights in self._weights:
                program.add("limit_norms", x=weights, limit=self.layout.setting("max_norm"))

    def _keep_shards(self, program: Program, live: Vector, kept: Vector) -> None:
        """Copy a vector in shards to where the network has it."""
        for layer, other in zip(live.layout.layers, kept.layout.layers, strict=True):
            for shard in layer.shards:
                edges = shard.begin, shard.begin + shard.width
                program.add("unpad", out=kept.columns(other, *edges), source=live.columns(layer, *edges))

    def _around_a_batch(self, before: Program, after: Program, worker: Worker) -> None:
        """A batch of several blocks sums their gradients first, because all must see the same parameters."""
        if self.one_block:
            return
        gradient = self.destination.vector
        for layer in self.layout.layers:
            updated = gradient.flat_rows(layer, worker)
            if not layer.trains or updated is None:
                continue
            before.add("zero", out=updated)
            if self.decay:
                self.decay.add(after, layer, gradient, worker)
            if self.kind.rules.clip_norm:
                continue
            if self.update:
                self.update.add(after, layer, gradient, worker)
            else:
                parameters = self.parameters.flat_rows(layer, worker)
                after.add("add", out=parameters, x=parameters, y=updated)


def pick(batches: Sequence[int], most: int) -> NDArray[np.int64]:
    """The table for programs of whole batches of some numbers of rows, then of blocks of the heights; see BATCH."""
    heights = strategy.pick(most)
    table = np.zeros((2, len(heights)), np.int64)
    table[BATCH, batches] = BLOCKS + np.arange(len(batches))
    table[BLOCK] = BLOCKS + len(batches) + heights
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
