"""A layer as programs see it: its tensors, their place, what it reads; and what each kind of layer answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar

from ...cpu.target import Target
from ...formulas.activations import formula
from ...vector.barriers import Worker
from ...vector.matrix import Matrix, padded
from ..matmul import WHOLE, TileRange, no_epilogue
from ..program import Operation, Program, elementwise

INPUTS = -1  # the index that stands for the inputs among what a layer reads
# Where a layer that normalises over a batch takes its statistics from: the running ones, which are tensors; the batch;
# or the batch, which the running ones then follow.
RUNNING, BATCH, TRACKED = "running", "batch", "tracked"


@dataclass(frozen=True)
class Tensor:
    """Rows of a layer's place in the vector, each as wide as the layer unless it is a table."""

    name: str  # in files too
    rows: int
    start: float = 0.0  # what its elements begin with, unless they are drawn
    trains: bool = True
    decays: bool = False  # whether penalties and the limit of norms apply
    least: float = -math.inf  # that an element may be
    cols: int | None = None  # how wide the rows of a table are

    @property
    def kind(self) -> str:
        """What all tables of a layer are called, else its name."""
        return self.name if self.cols is None else self.name.rpartition("_")[0]

    def size(self, fan_out: int) -> int:
        """How many numbers it has in a layer of so many neurons."""
        return self.rows * (fan_out if self.cols is None else self.cols)


@dataclass(frozen=True)
class ColumnShard:
    """Some columns of a layer's tensors, neurons `begin` to `end`, and their place in the vector, in bytes."""

    begin: int
    end: int
    place: int
    row_stride: int
    width: int  # the numbers in a row of its tensors, one a neuron unless they are tables

    @property
    def columns(self) -> slice:
        return slice(self.begin, self.end)


@dataclass(frozen=True)
class Layer:
    """A layer's kind, sizes and shards: one, or one for each thread."""

    index: int
    kind: Kind
    fan_in: int
    fan_out: int
    activation: str
    frozen: bool
    row_stride: int  # bytes from a row to the next of row-major a and d
    shards: tuple[ColumnShard, ...]

    @cached_property
    def tensors(self) -> tuple[Tensor, ...]:
        """What lies in each shard; tensors that train come first."""
        return self.kind.tensors(self.fan_in)

    @cached_property
    def weights(self) -> tuple[Tensor, ...]:
        """The tensors that penalties and the limit of norms apply to."""
        return tuple(tensor for tensor in self.tensors if tensor.decays)

    @cached_property
    def n_rows(self) -> int:
        """The rows of all tensors."""
        return sum(tensor.rows for tensor in self.tensors)

    @cached_property
    def n_trained(self) -> int:
        """The rows of those that train."""
        return sum(tensor.rows for tensor in self.tensors if tensor.trains)

    @cached_property
    def reads(self) -> tuple[int, ...]:
        """The indices of the layers whose outputs it takes: the one before it, and perhaps an earlier one."""
        return (self.index - 1, *self.kind.skips)

    @property
    def is_shared(self) -> bool:
        """Whether threads share its columns."""
        return len(self.shards) > 1

    @property
    def trains(self) -> bool:
        return not self.frozen and self.n_trained > 0

    @property
    def a(self) -> str:
        """The name of the buffer of the layer's outputs."""
        return f"a{self.index}"

    @property
    def z(self) -> str:
        """The name of the buffer of its weighted inputs: `a`, unless the derivative of its activation needs them."""
        return f"z{self.index}" if formula(self.activation).from_z else self.a

    def first_row(self, name: str) -> tuple[int, int]:
        """(the first row, the number of rows) of a tensor."""
        first = 0
        for tensor in self.tensors:
            if tensor.name == name:
                return first, tensor.rows
            first += tensor.rows
        raise KeyError(name)

    def shard(self, worker: Worker) -> ColumnShard:
        """The columns that a worker computes."""
        return self.shards[worker.index if self.is_shared else 0]

    def updated(self, worker: Worker) -> tuple[int, int] | None:
        """Which rows of its shard a worker updates: (first, stop), or None where nothing is left for it.

        In a layer that is shared it updates all that train. Else it updates some rows of the first tensor, and whoever
        has the last of these updates the others; of tables it updates some rows of all.
        """
        if not self.n_trained:
            return None
        if self.is_shared:
            return 0, self.n_trained
        rows = self.tensors[0].rows if self.tensors[0].cols is None else self.n_trained
        first, stop = worker.shard(rows, least=4)
        if first == stop:
            return None
        return first, self.n_trained if stop == rows else stop


@dataclass(frozen=True)
class Step:
    """What a kind of layer computes with in a block: the program in the making, and matrices, in one orientation."""

    program: Program
    layer: Layer
    worker: Worker
    inputs: tuple[Matrix, ...]  # the outputs of each layer that it reads
    z: Matrix
    d: Matrix
    kept: dict[str, Matrix]  # the layer's other buffers
    tensor_of: Callable[[Layer, str, ColumnShard], Matrix]
    single: bool  # whether the block is one sample, which takes other operations
    statistics: str  # see RUNNING
    zeros: Matrix
    ones: Matrix
    sums: Matrix
    pack_buffer: Matrix
    point: tuple[Matrix, ...] = ()  # where a derivative along a direction is taken: `inputs` of the forward pass

    @property
    def shard(self) -> ColumnShard:
        """The columns that this worker computes."""
        return self.layer.shard(self.worker)

    @property
    def out(self) -> Matrix:
        """These columns of z."""
        return self.z[:, self.shard.columns]

    def tensor(self, name: str) -> Matrix:
        """These columns of a tensor."""
        return self.tensor_of(self.layer, name, self.shard)

    @property
    def running(self) -> bool:
        """Whether the running statistics are taken, as a layer that does not train always does."""
        return self.statistics == RUNNING or self.layer.frozen

    def add(self, name: str, matrices: dict[str, Matrix], **arguments: Any) -> None:
        """Add a function that has a variant for samples that are columns; only the matrices are transposed."""
        if not self.z.is_row_major:
            name, matrices = f"{name}_columns", {key: matrix.T for key, matrix in matrices.items()}
        self.program.add(name, **matrices, **arguments)

    def scale(self, out: Matrix, x: Matrix, factor: Matrix) -> None:
        """Add out = x * factor, a number for each neuron."""
        self.add("scaled", {"out": out, "x": x}, factor=factor)

    def place_of(self, delta: Delta) -> Matrix:
        """Where to compute this worker's columns of the layer's part of a delta: its place, unless it is added."""
        return self.kept["part"][:, delta.shard.columns] if delta.added else delta.out

    def hand_down(self, part: Matrix, delta: Delta) -> None:
        """Bring this worker's columns of the layer's part of a delta, already computed, to its place."""
        if delta.added:
            elementwise(self.program, "add", delta.out, delta.out, part)
        elif part != delta.out:
            elementwise(self.program, "copy", delta.out, part)
        delta.epilogue(WHOLE)

    def sum_to(self, out: Matrix, gradient: Gradient, sums: Callable[[Matrix], None]) -> None:
        """Write or add sums over the samples to a row of the gradient; `sums` adds the operation that writes them."""
        place = out if gradient.overwrite else self.sums[:, : out.cols]
        sums(place)
        if not gradient.overwrite:
            self.program.add("add", out=out, x=out, y=place)


@dataclass(frozen=True)
class Delta:
    """Where a layer's part of the delta of a layer below goes: `out`, the columns of it that the worker computes.

    Parts come from every layer that reads it; `added` says that there is one already. The last one is followed by the
    epilogue, which makes dC/dz of dC/da.
    """

    out: Matrix
    shard: ColumnShard
    added: bool
    epilogue: Callable[[TileRange], None]
    # For a single sample, or in groups of networks a single output: what makes dC/dz in the same operation as the
    # product, and what follows it.
    fused: str = ""
    numbers: dict[str, Any] | None = None
    z: Matrix | None = None
    fused_epilogue: Callable[[TileRange], None] | None = None


@dataclass(frozen=True)
class Gradient:
    """Where a layer's gradient goes: rows `first` to `stop` of its shard in a vector, laid out like the parameters."""

    tensor: Callable[[str], Matrix]
    first: int
    stop: int
    overwrite: bool  # whether what was there does not count
    interleave: Iterable[Operation] = ()  # operations to spread through the product


@dataclass(frozen=True)
class Count:
    """A block of so many rows, for counting vector operations: row-major, and feature-major in equal shards."""

    target: Target
    itemsize: int
    rows: int
    shard_rows: int

    @property
    def lanes(self) -> int:
        return self.target.vector_bytes // self.itemsize

    @property
    def samples(self) -> int:
        """Vectors of a shard's samples."""
        return self.vectors(self.shard_rows)

    def vectors(self, n: int) -> int:
        """Vectors of n neurons or samples, padded to whole lines."""
        return padded(n * self.itemsize) // self.target.vector_bytes


class Kind:
    """A kind of layer with its settings, which are frozen. Each of these methods adds operations to a program."""

    skips: tuple[int, ...] = ()  # the layers that it reads beside the one before it; INPUTS stands for the inputs
    whole_batch = False  # whether it takes all samples of a batch at once
    mixes = True  # whether an output depends on several neurons of what it reads, so that threads wait for each other
    ordered = True  # whether its sums have the same order in both orientations; else a network predicts in one
    multiplies = False  # whether z is a product of the inputs, which may be taken where samples lie
    row_major = False  # whether it takes no other blocks of several samples
    # Further buffers by name: a "block" is as large as a, the others are a row with a number for each sample or neuron.
    buffers: ClassVar[Mapping[str, str]] = MappingProxyType({})

    def tensors(self, fan_in: int) -> tuple[Tensor, ...]:
        """What lies in the vector of parameters; tensors that train come first."""
        return ()

    def shape(self, name: str, fan_in: int, fan_out: int) -> tuple[int, ...]:
        """The shape of a tensor as users and files see it."""
        return (fan_out,)

    def row_width(self, fan_out: int) -> int:
        """How many numbers a row of its tensors has: one a neuron, unless they are tables."""
        return fan_out

    def numbers(self, fan_in: int) -> tuple[slice, ...]:
        """The columns of what it reads that hold numbers, to which noise may be added; the others hold codes."""
        return (slice(0, fan_in),)

    def forward(self, step: Step, epilogue: Callable[[TileRange], None], activation: str) -> None:
        """Compute this worker's columns of z; the epilogue follows each range of them that is complete.

        A kind that `fuses` takes the activation in the same operation.
        """
        raise NotImplementedError

    def fuses(self, single: bool) -> bool:
        """Whether `forward` applies the activation itself."""
        return False

    def tangent(self, step: Step) -> None:
        """Compute z's derivative along a direction, of those of what it reads: `z` and `inputs` of the step.

        It is taken at `point`. A kind that is a linear function does what it does forward.
        """
        self.forward(step, no_epilogue, "identity")

    def delta(self, step: Step, read: int, delta: Delta) -> None:
        """Add d's part of the delta of what it reads."""
        raise NotImplementedError

    def gradient(self, step: Step, gradient: Gradient) -> None:
        """Write or add the gradient of its tensors."""

    def multiply_adds(self, fan_in: int, fan_out: int) -> int:
        """What a sample costs in a prediction, in multiply-adds."""
        return fan_out

    def training_cost(self, layer: Layer, count: Count) -> tuple[int, int]:
        """Vector operations of a step without the activation: of a feature-major shard, and of a row-major block."""
        return count.samples * layer.fan_out, count.rows * count.vectors(layer.fan_out)

    def prediction_cost(self, layer: Layer, count: Count) -> tuple[int, int]:
        """Vector operations of a prediction, likewise."""
        return count.samples * layer.fan_out, count.rows * count.vectors(layer.fan_out)

    def group_cost(self, layer: Layer) -> int | None:
        """Vector operations of a sample's step where each lane is a network; None where no lanes hold such networks."""
        return None
