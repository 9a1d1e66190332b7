"""Where everything of a network lies: the vector of its parameters, and the buffers of a block of samples.

One flat vector holds every parameter. A layer's tensors lie one below the other, as rows of its neurons: W, (fan_in,
fan_out) from neuron k to neuron j, then b as one more row. For several threads a layer wide enough has a `ColumnShard`
for each in its place.
Rows are padded to whole lines, and to one line more where they would all fall into the same few sets of a cache.
The padding of W, b and d is zero, and stays zero.

A block's matrices are (samples, neurons). Row-major: a row for each sample, lanes hold neurons. Feature-major: a row
for each neuron, lanes hold samples, which fill them where layers are narrow.
"""

from __future__ import annotations

import functools
import itertools
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cpu.target import HOST, LINE_BYTES, Target
from ..formulas.activations import ROW_WISE
from ..formulas.loss_functions import LOSSES, OUTSIDE
from ..formulas.update_rules import MAX_NUMBERS
from ..vector.barriers import BARRIER, Worker
from ..vector.matrix import ITEMSIZE, Address, Matrix, Symbol, grouped, networks_of, padded
from .layers.dense import DENSE
from .layers.layer import INPUTS, ColumnShard, Kind, Layer
from .matmul import packed_bytes

MAX_SHARDS, SHARD_SAMPLES = 8, 128  # a feature-major block has at most so many shards, of at least so many samples
MAX_FACTORS = 16  # of learning rates by kinds of tensors
COLUMN_LOSS_VECTORS = 6  # up to so many vectors of outputs a sample, a loss of whole samples goes column by column
MIN_BLOCK_ROWS, MAX_BLOCK_ROWS, BLOCK_BYTES = 256, 1024, 2**17

# What an optimizer's numbers and the operations of a step read; what they write has a cache line of its own. `held` is
# the number of rows whose activations are in the buffers, see `entry.forward`.
STEP = np.dtype(
    {
        "names": ["scale", "scalars", "total", "count", "not_finite", "decay", "key", "factor", "held"],
        "formats": ["f8", ("f8", (MAX_NUMBERS,)), "f8", "f8", "f8", ("f8", (2,)), "u8", "f8", "i8"],
        "offsets": [0, 8, 64, 72, 80, 128, 144, 152, 160],
        "itemsize": 192,
    }
)
# What a further fit goes on from beside vectors: the generator of the orders, which optimizer trained last (a number
# that the network gave it; 0 is none), the numbers of that optimizer's state, and the generator of the keys of `noise`.
# Whole lines, because it is copied.
STATE: Any = np.dtype(
    {
        "names": ["random", "optimizer", "numbers", "noise"],
        "formats": ["u8", "i8", ("f8", (MAX_NUMBERS,)), "u8"],
        "offsets": [0, 8, 16, 72],
        "itemsize": 128,
    }
)

# What programs know of each network of a group in lanes, int64: where its samples, targets and weights begin; where the
# row numbers of a batch lie (0: the rows as they come) and the last place among them, see `gathering`; the position of
# the batch in the epoch; where the order of the epoch lies, and how long it is; whether something is due for it; and
# where the operand lies that shifts its inputs, see `Layout.affine`.
GROUP = np.dtype(
    [
        *((name, "i8") for name in ("samples", "targets", "weights", "order", "last", "position", "orders", "rows")),
        *((name, "i8") for name in ("due", "affine")),
    ]
)

SHORT_NAMES = {"weight": "W", "bias": "b"}  # of tensors, where programs are printed


@functools.cache
def settings_dtype(n_layers: int) -> Any:
    """The record of settings: every number that a user may change from fit to fit, float64.

    A program knows which of them it reads, never their values. It reaches the record by the symbol "settings".
    """
    rules = "input_noise", "label_smoothing", "max_norm", "clip_value", "clip_norm", "min_derivative"
    return np.dtype(
        [
            ("optimizer", "f8", (MAX_NUMBERS,)),  # see `UpdateRule.settings`
            *((penalty, "f8", (3,)) for penalty in ("l2", "l1")),  # see `elementwise.penalty`
            *((rule, "f8") for rule in rules),  # see `block_programs.Rules`
            ("loss_parameter", "f8"),
            ("dropout", "f8", (n_layers,)),  # the share of each layer's outputs that becomes zero
            ("factors", "f8", (MAX_FACTORS,)),  # of the learning rate, see `training_programs.Pace`
        ]
    )


_REFERENCES: dict[int, Any] = {}  # weak references to all memory, by id: NumPy resizes no array that has one


def avoid_set_conflicts(stride: int) -> int:
    """A row stride at which the rows do not fall into the same few sets of a cache."""
    return stride + LINE_BYTES if stride % 1024 == 0 else stride


def aligned_zeros(n_bytes: int, dtype: Any) -> NDArray[Any]:
    """A zeroed 1-D array of n_bytes that starts at a multiple of 64 bytes. Nobody can resize the memory behind it."""
    itemsize = np.dtype(dtype).itemsize
    n_bytes = -(-n_bytes // itemsize) * itemsize
    buffer = np.zeros(n_bytes + LINE_BYTES, np.uint8)
    key = id(buffer)
    forget = functools.partial(_REFERENCES.pop, key)  # not a function in Python: an exception in it would be lost
    _REFERENCES[key] = weakref.ref(buffer, forget)
    start = -buffer.__array_interface__["data"][0] % LINE_BYTES  # half the time of `ctypes.data`
    return buffer[start : start + n_bytes].view(dtype)


def of_networks(record: Any, n: int) -> Any:
    """The dtype of a record of a group of n networks: each number of a network's record becomes n numbers side by side.

    All numbers of the record have 8 bytes.
    """
    if n == 1:
        return record
    fields = {name: (kind.base, (*kind.shape, n), place * n) for name, (kind, place) in record.fields.items()}
    return np.dtype(
        {
            "names": list(fields),
            "formats": [(base, shape) for base, shape, _ in fields.values()],
            "offsets": [place for *_, place in fields.values()],
            "itemsize": record.itemsize * n,
        }
    )


def field(record: NDArray[Any], name: str, cols: int = 1, networks: int = 1) -> Matrix:
    """A field of a record, an array of one, as a row of float64; of a group of networks where there are several."""
    fields: Any = record.dtype.fields
    return field_at(record.ctypes.data + fields[name][1], name, cols, networks)


def field_at(place: Address, name: str, cols: int = 1, networks: int = 1) -> Matrix:
    """float64 numbers at an address as a row; each is a number of every network of a group where there are several."""
    dtype = "float64" if networks == 1 else grouped("float64", networks)
    return Matrix.row_major(place, 1, cols, ITEMSIZE[dtype] * cols, dtype, name)


class Layout:
    """Where the parameters of a network lie in their vector.

    A core prefetches lines beside the columns that it works on. Another core must not write them (false sharing). So
    for several threads the columns of each lie in another shard.
    """

    def __init__(
        self,
        sizes: Iterable[int],
        activations: Iterable[str],
        loss: str,
        dtype: str,
        frozen: Iterable[int] = (),
        threads: int = 1,
        target: Target = HOST,
        kinds: Iterable[Kind] = (),
        orientation: str = "",
    ):
        """`kinds` are those of the layers, see `layers`; without them all are `Dense`. The last one is, in any case.

        `orientation` of blocks of several samples: "row-major", "feature-major", or "" for what `strategy` chooses. It
        counts where all kinds take both.
        A `grouped` dtype makes it the layout of a group of networks, each in a lane.
        """
        self.sizes, self.activations, self.dtype = tuple(sizes), tuple(activations), str(dtype)
        self.number_dtype, self.networks = networks_of(self.dtype)  # of one network of a group
        self.loss = loss  # its name in LOSSES
        self.frozen, self.target, self.itemsize = frozenset(frozen), target, ITEMSIZE[self.dtype]
        self.kinds = tuple(kinds) or (DENSE,) * len(self.activations)
        self.orientation = "row-major" if any(kind.row_major for kind in self.kinds) else orientation
        per_line, offset = LINE_BYTES // self.itemsize, 0
        layers: list[Layer] = []
        for index, ((fan_in, fan_out), kind) in enumerate(zip(itertools.pairwise(self.sizes), self.kinds, strict=True)):
            n_bytes, last = padded(fan_out * self.itemsize), index == len(self.sizes) - 2
            width, tensors = kind.row_width(fan_out), kind.tensors(fan_in)
            n_rows = sum(tensor.rows for tensor in tensors)
            lines, shards = padded(width * self.itemsize) // LINE_BYTES, []
            # Tables are not shared. Nor is a layer that passes deltas neuron by neuron to one that is not.
            read = [] if kind.mixes else [i for i in (index - 1, *kind.skips) if i != INPUTS]
            apart = any(tensor.cols for tensor in tensors) or not all(layers[i].is_shared for i in read)
            n_shards = 1 if apart or lines < threads else threads
            for first, stop in itertools.pairwise(lines * i // n_shards for i in range(n_shards + 1)):
                row_stride = avoid_set_conflicts((stop - first) * LINE_BYTES)
                begin, end = first * per_line, min(stop * per_line, width)
                neurons = begin, fan_out if stop == lines else end
                shards.append(ColumnShard(*neurons, offset, row_stride, end - begin))
                offset += n_rows * row_stride
            activation, row_stride = self.activations[index], n_bytes if last else avoid_set_conflicts(n_bytes)
            place = index in self.frozen, row_stride, tuple(shards)
            layers.append(Layer(index, kind, fan_in, fan_out, activation, *place))
        self.layers = tuple(layers)
        self.n_bytes = offset
        self.x_stride = avoid_set_conflicts(padded(self.sizes[0] * self.itemsize))
        # What is below the first layer, for a delta that goes down to the inputs: they have no parameters.
        no_shard = ColumnShard(0, self.sizes[0], 0, 0, 0)
        self.inputs = Layer(INPUTS, Kind(), 0, self.sizes[0], "identity", True, self.x_stride, (no_shard,))
        # To predict a sample.
        self.multiply_adds = sum(layer.kind.multiply_adds(layer.fan_in, layer.fan_out) for layer in layers)
        self.n_parameters = sum(t.size(layer.fan_out) for layer in layers for t in layer.tensors if t.trains)
        # Whether a layer takes all samples of a batch at once: then a batch is a single block, in a single shard.
        self.whole_batch = any(layer.kind.whole_batch and not layer.frozen for layer in layers)
        # Whether only the first layer reads the inputs, and multiplies them: then they may stay where they lie.
        self.only_multiplied = layers[0].kind.multiplies and all(INPUTS not in layer.reads for layer in layers[1:])
        self.n_targets = self.sizes[-1] // LOSSES[loss].outputs
        # The loss of few outputs that belong together is faster with samples in the lanes, whatever else is row-major;
        # that of several outputs a target always is.
        few = self.sizes[-1] * self.itemsize <= COLUMN_LOSS_VECTORS * target.vector_bytes
        by_columns = LOSSES[loss].by_sample and (few or LOSSES[loss].outputs > 1)
        self.losses_by_columns = by_columns and self.networks == 1
        # The lowest layer that trains: nothing below it needs a delta.
        self.lowest = min((layer.index for layer in layers if layer.trains), default=len(layers))
        # A block goes through the whole network at once. Where the network is small a block fills about 128 KiB.
        buffers = (list(layer.kind.buffers.values()).count("block") for layer in layers)
        row_bytes = self.x_stride + sum((2 + n) * layer.row_stride for layer, n in zip(layers, buffers, strict=True))
        self.block_rows = min(MAX_BLOCK_ROWS, max(MIN_BLOCK_ROWS, BLOCK_BYTES // row_bytes // 16 * 16))
        self.block_bytes = self.block_rows * row_bytes

    @functools.cached_property
    def group(self) -> Layout:
        """The layout of a group of such networks in lanes, with blocks of equally many rows."""
        arguments = self.sizes, self.activations, self.loss, grouped(self.dtype), self.frozen
        made = Layout(*arguments, target=self.target, kinds=self.kinds)
        made.block_rows = self.block_rows
        return made

    @functools.cached_property
    def affine(self) -> Matrix:
        """The operand by which a network's inputs become (x - shift) * scale, where one number does not do for all.

        Its rows, in the network's dtype: the shift as high + low, and the scale. Then, as long as it takes, the shift
        in float64. The padding is zero.
        """
        size, n_inputs = ITEMSIZE[self.number_dtype], self.sizes[0]
        shape = 3 + 8 // size, n_inputs, padded(n_inputs * size)
        return Matrix.row_major(Symbol("affine"), *shape, self.number_dtype, "affine")

    @property
    def trained(self) -> tuple[Layer, ...]:
        """The layers that train, the last one first."""
        return tuple(layer for layer in reversed(self.layers) if layer.trains)

    def for_threads(self, threads: int) -> Layout:
        """The layout of this network with shards for so many threads."""
        arguments = self.sizes, self.activations, self.loss, self.dtype, self.frozen
        target, orientation = self.target, self.orientation
        return Layout(*arguments, threads=threads, target=target, kinds=self.kinds, orientation=orientation)

    @functools.cached_property
    def outside(self) -> Layout:
        """The layout of this network for gradients of the outputs that a user computed, in place of its loss.

        A function of whole rows has its derivative row by row.
        """
        arguments = self.sizes, self.activations, OUTSIDE, self.dtype, self.frozen
        orientation = "row-major" if self.activations[-1] in ROW_WISE else self.orientation
        return Layout(*arguments, target=self.target, kinds=self.kinds, orientation=orientation)

    @property
    def settings_dtype(self) -> Any:
        """The record of settings of networks with so many layers, or of a group of them."""
        return of_networks(settings_dtype(len(self.layers)), self.networks)

    def setting(self, name: str) -> Matrix:
        """A field of the record of settings that a program is run with, as a row."""
        kind, place = self.settings_dtype.fields[name]
        return field_at(Symbol("settings") + place, name, kind.itemsize // 8 // self.networks, self.networks)

    def _columns(self, vector: NDArray[Any], i: int, begin: int, end: int) -> NDArray[Any]:
        """Columns `begin` to `end` of layer i's tensors, all rows, a view of a vector; all in one shard."""
        layer = self.layers[i]
        (shard,) = (s for s in layer.shards if s.begin <= begin and end <= s.end)
        place, stride = shard.place // self.itemsize, shard.row_stride // self.itemsize
        matrix = vector[place : place + layer.n_rows * stride].reshape(-1, stride)
        return matrix[:, begin - shard.begin : end - shard.begin]

    def convert(self, vector: NDArray[Any], layout: Layout, out: NDArray[Any]) -> None:
        """Copy a vector laid out like the parameters to `out`, in another layout; one of the two has single shards.

        The padding of `out` becomes zero, whatever was there.
        """
        out.fill(0)
        for layer, other in zip(self.layers, layout.layers, strict=True):
            for shard in max(layer.shards, other.shards, key=len):
                edges = layer.index, shard.begin, shard.begin + shard.width
                layout._columns(out, *edges)[...] = self._columns(vector, *edges)

    def tensors(self, vector: NDArray[Any]) -> list[dict[str, NDArray[Any]]]:
        """For each layer its tensors by name, views of a vector laid out like the parameters, in the shapes users see.

        The layout has single shards. A weight matrix is (fan_out, fan_in), whatever has a number a neuron (fan_out,). A
        table has the shape that it has in memory.
        """
        dtype, size = vector.dtype, vector.itemsize
        return [
            {
                name: np.ndarray(shape, dtype, vector, size * start, tuple(size * stride for stride in strides))
                for name, shape, start, strides in places
            }
            for places in self._places
        ]

    @functools.cached_property
    def _places(self) -> list[list[tuple[str, tuple[int, ...], int, tuple[int, ...]]]]:
        """For each layer (name, shape, start, strides) of its tensors; the last two in elements of a vector."""
        found = []
        for layer in self.layers:
            (shard,) = layer.shards
            start, stride, places = shard.place // self.itemsize, shard.row_stride // self.itemsize, []
            for tensor in layer.tensors:
                shape = layer.kind.shape(tensor.name, layer.fan_in, layer.fan_out)
                strides = (1, stride)[: len(shape)] if tensor.cols is None else (stride, 1)
                places.append((tensor.name, shape, start, strides))
                start += tensor.rows * stride
            found.append(places)
        return found

    def rows(self, vector: NDArray[Any], i: int) -> NDArray[Any]:
        """All rows of layer i, one tensor below the other, a view of a vector; the layout has single shards."""
        return self._columns(vector, i, 0, self.layers[i].shards[0].width)

    @functools.cached_property
    def elements(self) -> NDArray[np.int64]:
        """Where each number of an unpadded vector lies in one laid out like the parameters.

        The unpadded vector holds tensor after tensor, each C-ordered in the shape that users see.
        """
        places = np.arange(self.n_bytes // self.itemsize)
        found = np.concatenate([tensor.ravel() for layer in self.tensors(places) for tensor in layer.values()])
        found.flags.writeable = False
        return found

    def views(self, vector: NDArray[Any]) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        """[(W (fan_in, fan_out), b (fan_out,)), ..] of the dense layers: views of a vector like the parameters."""
        dense = (each for each in self.tensors(vector) if each.get("weight", vector).ndim == 2)
        return [(each["weight"].T, each["bias"]) for each in dense]


@dataclass(frozen=True)
class Vector:
    """A vector laid out like the parameters, as matrices: the parameters, a gradient, or a vector of the optimizer."""

    layout: Layout
    address: Address
    name: str = ""

    def tensor(self, layer: Layer, name: str, shard: ColumnShard) -> Matrix:
        """A shard of a tensor, its rows and columns."""
        (cols,) = (tensor.cols for tensor in layer.tensors if tensor.name == name)
        whole = self._matrix(layer, shard, *layer.first_row(name), f"{SHORT_NAMES.get(name, name)}{layer.index}")
        return whole if cols is None else whole[:, :cols]

    def trained(self, layer: Layer, shard: ColumnShard) -> Matrix:
        """A shard of all tensors that train, one below the other."""
        first = layer.tensors[0].name
        return self._matrix(layer, shard, 0, layer.n_trained, f"{SHORT_NAMES.get(first, first)}{layer.index}")

    def _matrix(self, layer: Layer, shard: ColumnShard, first: int, rows: int, name: str) -> Matrix:
        address = self.address + (shard.place + first * shard.row_stride)
        place = rows, shard.width, shard.row_stride, self.layout.dtype
        return Matrix.row_major(address, *place, f"{self.name}{name}")

    def columns(self, layer: Layer, begin: int, end: int) -> Matrix:
        """All rows of columns `begin` to `end`, which are in one shard."""
        (shard,) = (s for s in layer.shards if s.begin <= begin and end <= s.end)
        whole = self._matrix(layer, shard, 0, layer.n_rows, f"layer{layer.index}")
        return whole[:, begin - shard.begin : end - shard.begin]

    def weights(self, layer: Layer, worker: Worker) -> Matrix | None:
        """The rows that a worker updates of the tensors with penalties; None where there is none."""
        rows, weights = layer.updated(worker), layer.weights
        if rows is None or not weights:
            return None
        (weight,) = weights
        return self.tensor(layer, weight.name, layer.shard(worker))[rows[0] : min(rows[1], weight.rows), :]

    def flat(self) -> Matrix:
        """The whole vector as one row."""
        n_bytes, dtype = self.layout.n_bytes, self.layout.dtype
        return Matrix.row_major(self.address, 1, n_bytes // self.layout.itemsize, n_bytes, dtype, self.name or "all")

    def flat_rows(self, layer: Layer, worker: Worker, first: int = 0, stop: int | None = None) -> Matrix | None:
        """The memory that a worker updates of some rows of a layer, as one row; None where nothing is left for it."""
        rows = layer.updated(worker)
        if rows is None:
            return None
        first, stop = max(first, rows[0]), rows[1] if stop is None else min(stop, rows[1])
        return self.trained(layer, layer.shard(worker))[first:stop, :].flat() if first < stop else None


@dataclass(frozen=True)
class Trainable:
    """What training changes: the parameters, then the optimizer's vectors, and the record STATE."""

    vectors: tuple[Vector, ...]
    state: Address

    @classmethod
    def at(cls, layout: Layout, parameters: Address, vectors: Address, n_vectors: int, state: Address) -> Trainable:
        """What lies at these addresses; the optimizer's vectors lie behind each other."""
        starts = parameters, *(vectors + i * layout.n_bytes for i in range(n_vectors))
        return cls(tuple(Vector(layout, start) for start in starts), state)

    @property
    def parameters(self) -> Vector:
        return self.vectors[0]

    @property
    def layout(self) -> Layout:
        return self.parameters.layout


@dataclass(frozen=True)
class Block:
    """A block of samples on its way through the network: matrices (samples, neurons), all in one orientation.

    `single` says that it is one sample, which takes other operations.
    """

    x: Matrix
    y: Matrix
    a: tuple[Matrix, ...]  # each layer's outputs
    z: tuple[Matrix, ...]  # each layer's weighted inputs, where its derivative needs them; else its a
    d: tuple[Matrix, ...]  # dC/dz
    kept: tuple[dict[str, Matrix], ...]  # the further buffers of each layer's kind, by name
    dx: Matrix  # dC/dx, where that is taken; the memory of x where nothing needs that any more
    ones: Matrix  # a row, as long as there are samples
    zeros: Matrix  # a row, as long as the widest matrix or a column of samples
    pack_buffer: Matrix
    sums: Matrix  # a row for sums over samples
    w: Matrix | None = None  # the samples' weights, a contiguous column
    columns: tuple[Matrix, Matrix] | None = None  # buffers for the last a and d feature-major, where only y is so
    single: bool = False
    # The position in the epoch of the first sample that its program loads; in a group the address of each network's.
    position: Address = 0
    first: int = 0  # the number of its first sample, among those that its program loads


class Workspace:
    """The buffers for blocks of at most `rows` samples, and what the operations of a step share.

    Feature-major buffers are made when a program asks for them. They are for the exact number of samples, because the
    lanes behind the samples must hold zeros; or for the largest number (`most`), and smaller blocks share them.
    """

    def __init__(self, layout: Layout, rows: int, threads: int = 1, dropped: Iterable[int] = (), keeps_x: bool = False):
        """`dropped` are the layers whose outputs are dropped: each has a and z in two buffers; see `passes.Dropout`.

        `keeps_x` says that x is read after dC/dx has been written.
        """
        self.separate_dx = keeps_x or not layout.only_multiplied
        self.layout, self.max_rows, self.dropped = layout, rows, frozenset(dropped)
        networks = layout.networks
        self.step = aligned_zeros(STEP.itemsize * networks, of_networks(STEP, networks))
        self.group = aligned_zeros(GROUP.itemsize * networks, of_networks(GROUP, networks)) if networks > 1 else None
        self.barrier = aligned_zeros(BARRIER.itemsize, BARRIER)
        self.losses = aligned_zeros(MAX_SHARDS * LINE_BYTES, np.float64)  # one of each shard, on a line of its own
        self.ignored = aligned_zeros(threads * LINE_BYTES, np.float64)  # sums that nobody reads
        self._made: dict[Any, Any] = {}
        self._buffers: list[NDArray[Any]] = []
        widths = [padded(layer.fan_out * layout.itemsize) for layer in layout.layers]
        widest = max(layout.x_stride, layout.target.buffer_lines * LINE_BYTES, *widths)
        column = padded(rows * layout.itemsize)
        widest = max(widest, column) if layout.losses_by_columns else widest
        sizes = {"x": rows * layout.x_stride, "y": rows * layout.layers[-1].row_stride, "sums": widest, "w": column}
        if layout.losses_by_columns:
            sizes |= dict.fromkeys(("a columns", "d columns", "y columns"), layout.sizes[-1] * column)
        packed = max(rows, widest // layout.itemsize) * layout.target.buffer_lines * LINE_BYTES
        sizes["pack_buffer"] = max(packed, packed_bytes(rows, max(widths), layout.dtype))
        shared = {"zeros": widest, "one": LINE_BYTES}
        for layer in layout.layers:
            length, last = rows * layer.row_stride, layer is layout.layers[-1]
            for name in dict.fromkeys((layer.a, self._z(layer))):
                (shared if layer.is_shared else sizes)[name] = length
            # Every thread computes the last d for itself, and what only its kind knows.
            (shared if layer.is_shared and not last else sizes)[f"d{layer.index}"] = length
            lengths_of = {"block": length, "samples": column, "neurons": layer.row_stride}
            sizes |= {f"{name}{layer.index}": lengths_of[kind] for name, kind in layer.kind.buffers.items()}
        if self.separate_dx:
            sizes["dx"] = sizes["x"]
        lengths = shared | {f"{name}@{i}": length for i in range(threads) for name, length in sizes.items()}
        self._places, arrays = self._allocate(lengths)
        self._widest = widest // layout.itemsize
        arrays["one"][:networks] = 1

    def _z(self, layer: Layer) -> str:
        """The name of the buffer that a layer's derivative is taken from."""
        return f"z{layer.index}" if layer.index in self.dropped else layer.z

    def _allocate(self, lengths: dict[str, int]) -> tuple[dict[str, int], dict[str, NDArray[Any]]]:
        """Named buffers in one allocation: their addresses, and the arrays."""
        buffer = aligned_zeros(sum(lengths.values()), self.layout.number_dtype)
        self._buffers.append(buffer)
        ends = list(itertools.accumulate(lengths.values()))
        split = np.split(buffer, [end // buffer.itemsize for end in ends[:-1]])
        arrays = dict(zip(lengths, split, strict=True))
        return {name: array.ctypes.data for name, array in arrays.items()}, arrays

    def numbers(self, n: int) -> Matrix:
        """A new row of n float64 numbers."""
        made = aligned_zeros(8 * n * self.layout.networks, np.float64)
        self._buffers.append(made)
        return field_at(made.ctypes.data, "numbers", n, self.layout.networks)

    @functools.cached_property
    def one(self) -> Matrix:
        """The float64 number 1, of each network of a group."""
        made = self.numbers(1)
        self._buffers[-1][...] = 1
        return made

    def field(self, name: str, cols: int = 1) -> Matrix:
        """A field of what the operations of a step share."""
        return field(self.step, name, cols, self.layout.networks)

    def scalars(self, row: int) -> Matrix:
        """A row of the scalars of updates: row 0 is for tensors that have no factor, see `training_programs.Pace`."""
        if row == 0:
            return self.field("scalars", MAX_NUMBERS)
        networks = self.layout.networks
        place = self.further_scalars.ctypes.data + 8 * networks * MAX_NUMBERS * (row - 1)
        return field_at(place, f"scalars{row}", MAX_NUMBERS, networks)

    @functools.cached_property
    def further_scalars(self) -> NDArray[np.float64]:
        """The rows behind row 0: one for each factor, and one for none, of tensors that decay and of others."""
        return aligned_zeros(8 * self.layout.networks * MAX_NUMBERS * 2 * (MAX_FACTORS + 1), np.float64)

    def take_step(self, other: Workspace) -> None:
        """Copy what the operations of a step of another workspace share."""
        self.step[...] = other.step
        self.further_scalars[...] = other.further_scalars

    def rows_of(self, name: str) -> dict[str, int]:
        """Where the rows of a batch lie for each network of a group: arguments of the functions that gather them."""
        return {"numbers": self.row_numbers, "source": self.table(name)}

    def loading(self, input_scale: float | None) -> float | Matrix:
        """What loads inputs: a number that multiplies them, or where it is None the operand `Layout.affine`.

        Of a group it is the operand of each network, whose address is in the table.
        """
        if input_scale is not None:
            return input_scale
        operand = self.layout.affine
        return operand if self.group is None else replace(operand, address=self.table("affine"))

    @functools.cached_property
    def row_numbers(self) -> int:
        """The address of the row numbers of a group's batch, in whole squares; see `gathering.group_rows`."""
        networks = self.layout.networks
        self._buffers.append(aligned_zeros(4 * networks * (self.max_rows + networks), np.int32))
        return int(self._buffers[-1].ctypes.data)

    def table(self, name: str) -> int:
        """The address of a field of the record GROUP."""
        assert self.group is not None
        fields: Any = self.group.dtype.fields
        return int(self.group.ctypes.data + fields[name][1])

    def worker(self, index: int, count: int) -> Worker:
        """Worker number `index` of `count` threads."""
        barrier = Matrix.row_major(self.barrier.ctypes.data, 1, 1, BARRIER.itemsize, "int64", "barrier")
        return Worker(index, count, barrier)

    def weights(self, rows: int, worker: Worker) -> Matrix:
        """A worker's column of so many samples' weights."""
        stride = padded(rows * self.layout.itemsize)
        return Matrix.feature_major(self._places[f"w@{worker.index}"], rows, 1, stride, self.layout.dtype, "w")

    def row_major(self, rows: int, worker: Worker, single: bool = False) -> Block:
        """The buffers of a worker for a block of so many samples."""
        layout, size = self.layout, self.layout.itemsize

        def matrix(name: str, cols: int, row_stride: int, n: int = rows) -> Matrix:
            place = self._places.get(name) or self._places[f"{name}@{worker.index}"]
            return Matrix.row_major(place, n, cols, row_stride, layout.dtype, name)

        def column_by_column(name: str, cols: int = layout.sizes[-1]) -> Matrix:
            place, stride = self._places[f"{name}@{worker.index}"], padded(rows * size)
            return Matrix.feature_major(place, rows, cols, stride, layout.dtype, name)

        def kept(layer: Layer) -> dict[str, Matrix]:
            found = {}
            for name, kind in layer.kind.buffers.items():
                cols = rows if kind == "samples" else layer.fan_out
                n = rows if kind == "block" else 1
                stride = layer.row_stride if kind == "block" else cols * size
                found[name] = matrix(f"{name}{layer.index}", cols, stride, n)
            return found

        last, lines = layout.layers[-1], layout.target.buffer_lines
        one = matrix("one", 1, 0, 1)
        by_columns, n_targets = layout.losses_by_columns and not single, layout.n_targets
        return Block(
            x=matrix("x", layout.sizes[0], layout.x_stride),
            y=column_by_column("y columns", n_targets) if by_columns else matrix("y", n_targets, last.row_stride),
            a=tuple(matrix(layer.a, layer.fan_out, layer.row_stride) for layer in layout.layers),
            z=tuple(matrix(self._z(layer), layer.fan_out, layer.row_stride) for layer in layout.layers),
            d=tuple(matrix(f"d{layer.index}", layer.fan_out, layer.row_stride) for layer in layout.layers),
            kept=tuple(map(kept, layout.layers)),
            dx=matrix("dx" if self.separate_dx else "x", layout.sizes[0], layout.x_stride),
            columns=(column_by_column("a columns"), column_by_column("d columns")) if by_columns else None,
            ones=Matrix(one.address, 1, rows, 0, 0, layout.dtype, "one"),
            zeros=matrix("zeros", self._widest, self._widest * size, 1),
            pack_buffer=matrix("pack_buffer", lines * LINE_BYTES // size, lines * LINE_BYTES, 1),
            sums=matrix("sums", self._widest, self._widest * size, 1),
            single=single,
            position=Symbol("position") if self.group is None else self.table("position"),
        )

    def feature_major_samples(self, rows: int, worker: Worker, most: int | None = None) -> Block:
        """A worker's samples of a block: where so many rows of x and y are loaded."""
        n = most or rows
        key = "samples", n, worker.index
        if key not in self._made:
            layout, stride = self.layout, avoid_set_conflicts(padded(n * self.layout.itemsize))
            n_in, n_out = layout.sizes[0], layout.n_targets
            places, _ = self._allocate({"x": n_in * stride, "y": n_out * stride})
            x = Matrix.feature_major(places["x"], n, n_in, stride, layout.dtype, "x")
            y = Matrix.feature_major(places["y"], n, n_out, stride, layout.dtype, "y")
            self._made[key] = replace(self.row_major(1, worker), x=x, y=y, columns=None)
        block: Block = self._made[key]
        return replace(block, x=block.x[:rows, :], y=block.y[:rows, :])

    def feature_major(self, samples: Block, rows: slice, worker: Worker, most: int | None = None) -> Block:
        """The buffers of a worker for a shard, some rows of its samples; shards of as many rows share them."""
        layout, shard_rows = self.layout, rows.stop - rows.start
        n = most or shard_rows
        key = "shard", n, worker.index
        if key not in self._made:
            stride, lines = avoid_set_conflicts(padded(n * layout.itemsize)), layout.target.buffer_lines
            lengths: dict[str, int] = {}
            for layer in layout.layers:
                block = layer.fan_out * stride
                lengths |= dict.fromkeys((self._z(layer), layer.a, f"d{layer.index}"), block)
                lengths_of = {"block": block, "samples": stride, "neurons": layer.row_stride}
                lengths |= {f"{name}{layer.index}": lengths_of[kind] for name, kind in layer.kind.buffers.items()}
            if self.separate_dx:
                lengths["dx"] = layout.sizes[0] * stride
            lengths |= {"zeros": max(stride, self._widest * layout.itemsize), "ones": stride}
            lengths["pack_buffer"] = padded(n * layout.itemsize) // layout.itemsize * lines * LINE_BYTES
            places, arrays = self._allocate(lengths)
            arrays["ones"][:n] = 1

            def matrix(name: str, layer: Layer) -> Matrix:
                return Matrix.feature_major(places[name], n, layer.fan_out, stride, layout.dtype, name)

            def row(name: str, cols: int) -> Matrix:
                return Matrix.row_major(places[name], 1, cols, cols * layout.itemsize, layout.dtype, name)

            def kept(layer: Layer) -> dict[str, Matrix]:
                return {
                    name: matrix(f"{name}{layer.index}", layer)
                    if kind == "block"
                    else row(f"{name}{layer.index}", n if kind == "samples" else layer.fan_out)
                    for name, kind in layer.kind.buffers.items()
                }

            self._made[key] = replace(
                samples,
                a=tuple(matrix(layer.a, layer) for layer in layout.layers),
                z=tuple(matrix(self._z(layer), layer) for layer in layout.layers),
                d=tuple(matrix(f"d{layer.index}", layer) for layer in layout.layers),
                kept=tuple(map(kept, layout.layers)),
                dx=matrix("dx", layout.inputs) if self.separate_dx else samples.x,
                ones=row("ones", n),
                zeros=row("zeros", lengths["zeros"] // layout.itemsize),
                pack_buffer=row("pack_buffer", lines * LINE_BYTES // layout.itemsize),
            )
        made, w = self._made[key], None if samples.w is None else samples.w[rows, :]
        a, z, d = (tuple(m[:shard_rows, :] for m in each) for each in (made.a, made.z, made.d))
        both = zip(made.kept, layout.layers, strict=True)
        further = tuple(_of_rows(buffers, layer, shard_rows) for buffers, layer in both)
        x = samples.x[rows, :]
        dx = made.dx[:shard_rows, :] if self.separate_dx else x
        loaded = {"x": x, "y": samples.y[rows, :], "w": w, "first": rows.start}
        return replace(made, a=a, z=z, d=d, kept=further, dx=dx, ones=made.ones[:, :shard_rows], **loaded)

    def shard_gradient(self, i: int) -> Vector:
        """The gradient of shard i."""
        key = "gradient", i
        if key not in self._made:
            self._made[key] = aligned_zeros(self.layout.n_bytes, self.layout.dtype)
        return Vector(self.layout, self._made[key].ctypes.data, f"shard{i}.")


def _of_rows(buffers: dict[str, Matrix], layer: Layer, rows: int) -> dict[str, Matrix]:
    """The further buffers of a layer's kind for so many samples."""
    found = {}
    for name, kind in layer.kind.buffers.items():
        matrix = buffers[name]
        found[name] = matrix if kind == "neurons" else matrix[:rows, :] if kind == "block" else matrix[:, :rows]
    return found
