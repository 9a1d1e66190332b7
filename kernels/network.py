"""The network in memory, and the programs of one batch through it: forward, loss, delta backpropagation.

One flat vector holds every parameter. Layer l's arrays lie, in bytes from its start, at

    w    (fan_in, ld), C order: W[k, j] from neuron k to neuron j
    b    (ld,)

and in a `Workspace`, for as many rows as a block of samples has,

    a    (rows, ld), the layer's outputs
    d    (rows, ld), dC/dz

ld is fan_out padded to whole units of 64 bytes, here counted in bytes, and one unit more where rows so far apart would
fall into the same few sets of a cache; the padding of W, b and d is zero. Rows of a and d are `row` bytes apart.
"""

import itertools
from dataclasses import dataclass

import numpy as np

from .activations import UNIT_SLOPE
from .library import WIDTH
from .matmul import matmul, matmul_nt
from .optimizers import N_CELLS
from .simd import TILE_UNITS, UNIT_BYTES

IN_CACHE = 2**18  # bytes of X that stay in the L2 cache without being fetched ahead
PREFETCHED = 2**10  # bytes fetched at a time: about what the core can have under way


def padded(n_bytes):
    """n_bytes rounded up to whole units."""
    return -(-n_bytes // UNIT_BYTES) * UNIT_BYTES


def apart(stride):
    """A row stride at which the rows do not fall into the same few sets of a cache."""
    return stride + UNIT_BYTES if stride % 1024 == 0 else stride


def aligned_zeros(n_bytes, dtype):
    """A zeroed 1-D array of n_bytes that starts at a multiple of 64 bytes."""
    itemsize = np.dtype(dtype).itemsize
    buffer = np.zeros((n_bytes + UNIT_BYTES) // itemsize, dtype)
    start = -buffer.ctypes.data % UNIT_BYTES // itemsize
    return buffer[start : start + n_bytes // itemsize]


@dataclass(frozen=True)
class Layer:
    """Sizes of a layer and its place in the parameter vector, in bytes."""

    fan_in: int
    fan_out: int
    activation: str
    frozen: bool
    w: int
    b: int
    ld: int  # stride of W's rows
    row: int  # stride of a's and d's rows
    units: int


class Layout:
    """Where everything of a network lies. sizes are n_inputs, then each layer's fan_out."""

    def __init__(self, sizes, activations, loss, dtype, frozen=()):
        self.sizes, self.loss, self.dtype = tuple(sizes), loss, np.dtype(dtype)
        self.itemsize = self.dtype.itemsize
        layers, offset = [], 0
        for i, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
            row = padded(fan_out * self.itemsize)
            ld, units, last = apart(row), row // UNIT_BYTES, i == len(sizes) - 2
            places = offset, offset + fan_in * ld, ld, row if last else apart(row), units
            layers.append(Layer(fan_in, fan_out, activations[i], i in frozen, *places))
            offset += (fan_in + 1) * ld
        self.layers = tuple(layers)
        self.n_bytes = offset
        self.x_ld = apart(padded(sizes[0] * self.itemsize))
        # The lowest layer that trains: nothing below it needs a delta.
        self.lowest = min((i for i, layer in enumerate(layers) if not layer.frozen), default=len(layers))
        # A block of rows goes through the whole network at once, about 128 KiB of it where the network is small.
        self.block_rows = min(1024, max(256, 2**17 // (self.x_ld + 2 * sum(layer.row for layer in layers))))

    def views(self, vector):
        """[(W (fan_in, fan_out), b (fan_out,)), ..], views of a vector laid out like the parameters."""
        result = []
        for layer in self.layers:
            w, b, ld = layer.w // self.itemsize, layer.b // self.itemsize, layer.ld // self.itemsize
            weights = vector[w:b].reshape(layer.fan_in, ld)[:, : layer.fan_out]
            result.append((weights, vector[b : b + layer.fan_out]))
        return result


class Workspace:
    """The buffers for blocks of at most `rows` samples, one allocation; the attributes are addresses.

    cells, a float64 array, holds the scale of the gradient, the sum of the losses and an optimizer's scalars.
    """

    def __init__(self, layout, rows):
        self.rows = rows
        widest = max(layout.x_ld, *(layer.ld for layer in layout.layers))
        lengths = {
            "x": rows * layout.x_ld,
            "y": rows * layout.layers[-1].row,
            "panel": widest // layout.itemsize * TILE_UNITS * UNIT_BYTES,
            "zeros": widest,
            "one": UNIT_BYTES,
            "row": widest,
        }
        self.buffer = aligned_zeros(
            sum(lengths.values()) + 2 * rows * sum(layer.row for layer in layout.layers), layout.dtype
        )
        offset = self.buffer.ctypes.data
        for name, length in lengths.items():
            setattr(self, name, offset)
            offset += length
        self.a, self.d = [], []
        for layer in layout.layers:
            for addresses in (self.a, self.d):
                addresses.append(offset)
                offset += rows * layer.row
        self.buffer[(self.one - self.buffer.ctypes.data) // layout.itemsize] = 1
        self.cells = np.zeros(N_CELLS)


class Program:
    """A list of operations in the making."""

    def __init__(self, library):
        self.library, self.rows = library, []

    def add(self, name, *arguments):
        """Append a call of the library's function `name`."""
        if name == "prefetch":
            arguments = (*arguments, -len(self.rows) * WIDTH * 8)  # from here to the first operation
        self.rows.append((self.library[name], *arguments, *[0] * (WIDTH - 1 - len(arguments))))

    def array(self):
        """The program as the kernels run it."""
        return np.array(self.rows, np.int64).reshape(-1, WIDTH)


@dataclass(frozen=True)
class Source:
    """An array of samples: the operation that gathers from it, its address, row stride and length.

    The address does not keep the array alive.
    """

    operation: str
    address: int
    row: int
    n: int

    @classmethod
    def of(cls, array):
        """Of (n, width) in the network's dtype or uint8, or of int32 class indices (n,)."""
        operation = "one_hot" if array.ndim == 1 else "gather_bytes" if array.dtype == np.uint8 else "gather"
        return cls(operation, array.ctypes.data, array.strides[0], len(array))


# ---- operations; parameters and into are addresses ----------------------------------------------------------------


def load(ops, source, rows, width, out, out_row, scale=1.0, columns=False):
    """out = the next `rows` rows of a source, as its columns on demand; `entry` fills in which rows these are."""
    bits = int(np.float64(scale).view(np.int64))
    ops.add(source.operation + "_columns" * columns, rows, 0, 0, source.address, source.row, out, out_row, width, bits)


def forward(ops, layout, parameters, work, rows):
    """a = f(a_below @ W + b) for every layer, from the inputs in work.x. `parameters` is an address."""
    x, x_row = work.x, layout.x_ld
    for layer, a in zip(layout.layers, work.a, strict=True):
        w, b = parameters + layer.w, parameters + layer.b
        if rows == 1:
            ops.add(f"{layer.activation}_row", layer.units, layer.fan_in, x, w, layer.ld, b, a)
            x = a
            continue
        matmul(ops, rows, layer.units, layer.fan_in, x, x_row, layout.itemsize, w, layer.ld, b, 0, a, layer.row)
        if layer.activation != "identity":
            ops.add(layer.activation, rows * layer.row, a, a, a)
        x, x_row = a, layer.row


def loss(ops, layout, work, rows):
    """The last layer's d = scale * dC/da, and the block's loss added to the total."""
    cells = work.cells.ctypes.data
    ops.add(layout.loss, rows, layout.layers[-1].fan_out, work.d[-1], work.a[-1], work.y, cells)


def prefetches(x, rows):
    """Operations that fetch the next batch's rows of the source x, whose gather is the program's first operation.

    None where all of x fits into the L2 cache anyhow.
    """
    if x.n * x.row <= IN_CACHE:
        return []
    step = max(1, PREFETCHED // x.row)
    parts = -(-x.row // PREFETCHED)
    return [
        ("prefetch", first, min(first + step, rows), x.row * part // parts, x.row * (part + 1) // parts)
        for first in range(0, rows, step)
        for part in range(parts)
    ]


@dataclass(frozen=True)
class Target:
    """Where a batch's gradient goes; addresses of vectors laid out like the parameters.

    `into` is the gradient, or the parameters themselves where the scale is -learning_rate / batch, which is the SGD
    update without a gradient ever stored. `fresh` says that what was there does not count. `update` is an optimizer to
    run as soon as a layer's gradient is complete: (name, address of the scalars, parameters, own vectors).
    """

    into: int
    fresh: bool = False
    update: tuple = ()

    def finish(self, ops, layer):
        """The optimizer's operation for one layer, W and b at once."""
        if self.update:
            name, scalars, parameters, vectors = self.update
            places = (v + layer.w for v in (parameters, self.into, *vectors))
            ops.add(name, (layer.fan_in + 1) * layer.ld, scalars, *places)


def backward(ops, layout, parameters, work, rows, target, between=()):
    """From the last layer's dC/da in d: every layer's d = dC/dz, and the gradients to the target.

    `between` holds operations to be spread through the largest product, the lowest layer's.
    """
    if rows == 1:
        _backward_of_one(ops, layout, parameters, work, target)
        return
    size = layout.itemsize
    for i in range(len(layout.layers) - 1, layout.lowest - 1, -1):
        layer, a, d = layout.layers[i], work.a[i], work.d[i]
        ld, row = layer.ld, layer.row
        if layer.activation not in UNIT_SLOPE:
            ops.add(f"{layer.activation}_slope", rows * row, d, d, a)
        below, below_row = (work.a[i - 1], layout.layers[i - 1].row) if i else (work.x, layout.x_ld)
        if i > layout.lowest:  # dC/da below, with W as it was in the forward pass
            w, d_below = parameters + layer.w, work.d[i - 1]
            fan_in, fan_out = layer.fan_in, layer.fan_out
            matmul_nt(ops, size, rows, fan_in, fan_out, d, row, w, ld, work.zeros, d_below, below_row, work.panel)
        if not layer.frozen:
            w, b, width = target.into + layer.w, target.into + layer.b, layer.units * UNIT_BYTES
            spread = between if i == layout.lowest else ()
            start = (work.zeros, 0) if target.fresh else (w, ld)
            matmul(ops, layer.fan_in, layer.units, rows, below, size, below_row, d, row, *start, w, ld, spread)
            if target.fresh:
                matmul(ops, 1, layer.units, rows, work.one, 0, 0, d, row, work.zeros, 0, b, ld)
            else:  # the batch is summed first, then added once
                matmul(ops, 1, layer.units, rows, work.one, 0, 0, d, row, work.zeros, 0, work.row, row)
                ops.add("add", width, b, b, work.row)
            target.finish(ops, layer)


def _backward_of_one(ops, layout, parameters, work, target):
    """`backward` for a batch of one sample, in a third of the operations: a step takes less than a microsecond."""
    last, d = layout.layers[-1], work.d[-1]
    if last.activation not in UNIT_SLOPE:
        ops.add(f"{last.activation}_slope", last.row, d, d, work.a[-1])
    for i in range(len(layout.layers) - 1, layout.lowest - 1, -1):
        layer, d = layout.layers[i], work.d[i]
        if i > layout.lowest:
            under, w, width = layout.layers[i - 1], parameters + layer.w, layer.units * UNIT_BYTES
            places = d, w, layer.ld, work.zeros, work.d[i - 1], work.a[i - 1]
            ops.add(
                f"{under.activation}_dots", under.fan_out, under.units * UNIT_BYTES // layout.itemsize, width, *places
            )
        if not layer.frozen:
            into = target.into + layer.w
            start = (work.zeros, 0) if target.fresh else (into, layer.ld)
            below = work.a[i - 1] if i else work.x
            ops.add("rank_one", layer.units, layer.fan_in, below, d, *start, into, layer.ld)
            target.finish(ops, layer)
