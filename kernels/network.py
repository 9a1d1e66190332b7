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
from .barrier import JOB_SIZE
from .library import WIDTH
from .matmul import matmul, matmul_nt
from .optimizers import N_CELLS, SCALE, TOTAL
from .simd import TILE_UNITS, UNIT_BYTES

IN_CACHE = 2**18  # bytes of X that stay in the L2 cache without being fetched ahead
PREFETCHED = 2**10  # bytes fetched at a time: about what the core can have under way


def padded(n_bytes):
    """n_bytes rounded up to whole units."""
    return -(-n_bytes // UNIT_BYTES) * UNIT_BYTES


def apart(stride):
    """A row stride at which the rows do not fall into the same few sets of a cache."""
    return stride + UNIT_BYTES if stride % 1024 == 0 else stride


def whole(n):
    """A share of n rows: all of them."""
    return 0, n


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

    cells, a float64 array, holds the scale of the gradient, the sum of the losses and an optimizer's scalars; nowhere
    is where sums go that nobody reads; job is what several threads tell each other (see `barrier`).
    """

    def __init__(self, layout, rows, threads=1):
        self.rows = rows
        widest = max(layout.x_ld, *(layer.ld for layer in layout.layers))
        lengths = {
            "x": rows * layout.x_ld,
            "y": rows * layout.layers[-1].row,
            "panels": threads * widest // layout.itemsize * TILE_UNITS * UNIT_BYTES,
            "zeros": widest,
            "one": UNIT_BYTES,
            "sums": threads * widest,
            "scratch": rows * layout.layers[-1].row if threads > 1 else 0,
        }
        self.buffer = aligned_zeros(
            sum(lengths.values()) + 2 * rows * sum(layer.row for layer in layout.layers), layout.dtype
        )
        offset = self.buffer.ctypes.data
        for name, length in lengths.items():
            setattr(self, name, offset)
            offset += length
        for name in ("panels", "sums"):  # one for each thread
            first = getattr(self, name)
            setattr(self, name, [first + lengths[name] // threads * i for i in range(threads)])
        self.a, self.d = [], []
        for layer in layout.layers:
            for addresses in (self.a, self.d):
                addresses.append(offset)
                offset += rows * layer.row
        self.buffer[(self.one - self.buffer.ctypes.data) // layout.itemsize] = 1
        self.cells, self.nowhere = np.zeros(N_CELLS), np.zeros(8 * threads)
        self.job = aligned_zeros(8 * JOB_SIZE, np.int64)


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


def forward(ops, layout, parameters, work, rows, first=0):
    """a = f(a_below @ W + b) for every layer, from the inputs in work.x: `rows` rows from `first` on."""
    x, x_row = work.x + first * layout.x_ld, layout.x_ld
    for layer, a in zip(layout.layers, work.a, strict=True):
        w, b, a = parameters + layer.w, parameters + layer.b, a + first * layer.row
        if rows == 1:
            ops.add(f"{layer.activation}_row", layer.units, layer.fan_in, x, w, layer.ld, b, a)
        else:
            matmul(ops, rows, layer.units, layer.fan_in, x, x_row, layout.itemsize, w, layer.ld, b, 0, a, layer.row)
            if layer.activation != "identity":
                ops.add(layer.activation, 1, rows * layer.row, 0, a, a, a)
        x, x_row = a, layer.row


def loss(ops, layout, work, rows, first=0, total=None, d=None):
    """d = scale * dC/da of the last layer, and the loss of these rows added to the cell `total`."""
    last, cells = layout.layers[-1], work.cells.ctypes.data
    row, scale = last.row, cells + SCALE * 8
    skip = first * row
    places = (d or work.d[-1]) + skip, work.a[-1] + skip, work.y + skip, scale, total or cells + TOTAL * 8
    ops.add(layout.loss, rows, last.fan_out, row, *places)


def prefetches(x, rows, ahead):
    """Operations that fetch the same rows of the next batch of the source x, `ahead` rows further on.

    The program's first operation gathers this batch's. None where all of x fits into the L2 cache anyhow.
    """
    if x.n * x.row <= IN_CACHE:
        return []
    step = max(1, PREFETCHED // x.row)
    parts = -(-x.row // PREFETCHED)
    return [
        ("prefetch", first, min(first + step, rows), x.row * part // parts, x.row * (part + 1) // parts, ahead)
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

    def finish(self, ops, layer, first, stop):
        """The optimizer's operation for these rows of a layer's W, and for b behind them if the last one is there."""
        if self.update:
            name, scalars, parameters, vectors = self.update
            skip = layer.w + first * layer.ld
            places = (v + skip for v in (parameters, self.into, *vectors))
            ops.add(name, (stop - first + (stop == layer.fan_in)) * layer.ld, scalars, *places)


def deltas(ops, layout, parameters, work, rows, first=0, thread=0):
    """From the last layer's dC/da in d: dC/dz of every layer that trains, or lies above one that does."""
    size = layout.itemsize
    for i in range(len(layout.layers) - 1, layout.lowest - 1, -1):
        layer = layout.layers[i]
        a, d = (address[i] + first * layer.row for address in (work.a, work.d))
        if layer.activation not in UNIT_SLOPE and (rows > 1 or i == len(layout.layers) - 1):
            ops.add(f"{layer.activation}_slope", 1, rows * layer.row, 0, d, d, a)
        if i > layout.lowest:
            under, w, fan_in, fan_out = layout.layers[i - 1], parameters + layer.w, layer.fan_in, layer.fan_out
            a_under, d_under = (address[i - 1] + first * under.row for address in (work.a, work.d))
            if rows == 1:
                lengths = fan_in, under.units * UNIT_BYTES // size, layer.units * UNIT_BYTES
                ops.add(f"{under.activation}_dots", *lengths, d, w, layer.ld, work.zeros, d_under, a_under)
            else:
                places = d, layer.row, w, layer.ld, work.zeros, d_under, under.row, work.panels[thread]
                matmul_nt(ops, size, rows, fan_in, fan_out, *places)


def gradients(ops, layout, work, rows, target, share=whole, thread=0, between=()):
    """The gradients to the target, from all layers' inputs and d.

    share(fan_in) gives the first row of W to do, and the first not to. `between` holds operations to be spread through
    the largest product, the lowest layer's.
    """
    for i in range(len(layout.layers) - 1, layout.lowest - 1, -1):
        layer, d = layout.layers[i], work.d[i]
        first, stop = share(layer.fan_in)
        if layer.frozen or first == stop:
            continue
        below, below_row = (work.a[i - 1], layout.layers[i - 1].row) if i else (work.x, layout.x_ld)
        below += first * layout.itemsize
        ld, row, units = layer.ld, layer.row, layer.units
        w, b = target.into + layer.w + first * ld, target.into + layer.b
        start = (work.zeros, 0) if target.fresh else (w, ld)
        if rows == 1:
            ops.add("rank_one", units, layer.fan_in, below, d, *start, w, ld)
        else:
            spread = between if i == layout.lowest else ()
            matmul(ops, stop - first, units, rows, below, layout.itemsize, below_row, d, row, *start, w, ld, spread)
            if stop == layer.fan_in:  # the batch is summed first, then added once
                sums = b if target.fresh else work.sums[thread]
                matmul(ops, 1, units, rows, work.one, 0, 0, d, row, work.zeros, 0, sums, row)
                if not target.fresh:
                    ops.add("add", 1, units * UNIT_BYTES, 0, b, b, sums)
        target.finish(ops, layer, first, stop)
