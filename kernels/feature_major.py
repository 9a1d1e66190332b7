"""The second layout of a batch: a row for each neuron, lanes hold samples. For layers too narrow to fill the lanes.

Forward, backward and gradient of a block of samples as in `network`, over the same parameters. A row of ones below
each layer's inputs multiplies the bias, which lies behind W as one more row of it.
"""

import itertools

from . import network
from .activations import UNIT_SLOPE
from .matmul import matmul
from .network import aligned_zeros, padded
from .optimizers import SCALE
from .simd import UNIT_BYTES, VECTOR_BYTES

# Vector operations of an activation with its slope, of a transposed block, and of summing a block's lanes.
ACTIVATION, TRANSPOSE, SUMS = 34, 90, 60
SHARD, MOST_SHARDS = 128, 8  # samples whose gradient is summed for itself, so that threads can share a block


def shards(rows, unit=1):
    """The parts whose gradients are summed for themselves: (first sample, first behind them), in whole units."""
    units, parts = -(-rows // unit), max(1, min(MOST_SHARDS, rows // SHARD))
    return list(itertools.pairwise(min(units * i // parts * unit, rows) for i in range(parts + 1)))


def _stride(layout, rows):
    return network.apart(padded(rows * layout.itemsize))


class Samples:
    """x and y of a thread's part of a block, `rows` samples: (neurons, samples), rows `ld` bytes apart.

    x has a row of ones behind it, zero in the lanes past the samples.
    """

    def __init__(self, layout, rows):
        self.rows, self.ld = rows, _stride(layout, rows)
        n_in, n_out = layout.sizes[0], layout.sizes[-1]
        self.buffer = aligned_zeros((n_in + 1 + n_out) * self.ld, layout.dtype)
        self.x = self.buffer.ctypes.data
        self.y = self.x + (n_in + 1) * self.ld
        self.buffer[n_in * self.ld // layout.itemsize :][:rows] = 1


class Buffers:
    """A thread's buffers for shards of exactly `rows` samples: a and d, (neurons, samples) as in `Samples`.

    Each a has a row of ones behind it; `ones` is another. by_sample holds each d with a row for each sample.
    """

    def __init__(self, layout, rows):
        self.rows, self.ld = rows, _stride(layout, rows)
        *below, last = layout.sizes[1:]
        neurons = [*(n + 1 for n in below), last, *layout.sizes[1:], 1, 1]  # of a, of d, zeros, ones
        lengths = [n * self.ld for n in neurons]
        lengths += [padded(rows * layout.itemsize) // layout.itemsize * layer.row for layer in layout.layers]
        self.buffer = aligned_zeros(sum(lengths), layout.dtype)
        places = list(itertools.accumulate(lengths, initial=self.buffer.ctypes.data))
        depth = len(layout.layers)
        self.a, self.d = places[:depth], places[depth : 2 * depth]
        self.zeros, self.ones = places[2 * depth : 2 * depth + 2]
        self.by_sample = places[2 * depth + 2 : -1]
        for at in [*(a + n * self.ld for a, n in zip(self.a, below, strict=False)), self.ones]:
            self.buffer[(at - self.buffer.ctypes.data) // layout.itemsize :][:rows] = 1


def load(ops, layout, own, x, y, scale):
    """The next samples of the sources x and y; operations 0 and 1 of a program."""
    network.load(ops, x, own.rows, layout.sizes[0], own.x, own.ld, scale, columns=True)
    network.load(ops, y, own.rows, layout.sizes[-1], own.y, own.ld, columns=True)


def forward(ops, layout, parameters, own, x, x_ld):
    """a = f(W.T @ a_below + b) for every layer, from the inputs x."""
    width, ld = padded(own.rows * layout.itemsize), own.ld
    below = x, x_ld
    for layer, a in zip(layout.layers, own.a, strict=True):
        places = parameters + layer.w, layout.itemsize, layer.ld, *below, own.zeros, 0, a, ld
        matmul(ops, layer.fan_out, width // UNIT_BYTES, layer.fan_in + 1, *places)
        if layer.activation != "identity":
            ops.add(layer.activation, 1, layer.fan_out * ld, 0, a, a, a)
        below = a, ld


def loss(ops, layout, work, own, y, y_ld, total):
    """d = scale * dC/da of the last layer, and the loss of these samples added to what lies at `total`."""
    places = own.ld, own.d[-1], own.a[-1], y, y_ld, work.cells.ctypes.data + SCALE * 8, total
    ops.add(layout.loss, layout.sizes[-1], own.rows, *places)


def deltas(ops, layout, parameters, own):
    """From the last layer's dC/da in d: dC/dz of every layer that trains, or lies above one that does."""
    width, ld = padded(own.rows * layout.itemsize), own.ld
    for i in range(len(layout.layers) - 1, layout.lowest - 1, -1):
        layer, a, d = layout.layers[i], own.a[i], own.d[i]
        if layer.activation not in UNIT_SLOPE:
            ops.add(f"{layer.activation}_slope", 1, layer.fan_out * ld, 0, d, d, a)
        if i > layout.lowest:
            places = parameters + layer.w, layer.ld, layout.itemsize, d, ld, own.zeros, 0, own.d[i - 1], ld
            matmul(ops, layer.fan_in, width // UNIT_BYTES, layer.fan_out, *places)


def gradient(ops, layout, work, own, x, x_ld, into, fresh):
    """A shard's gradient, from all layers' inputs and d, stored or, unless `fresh`, added."""
    size, length = layout.itemsize, padded(own.rows * layout.itemsize)
    for i in range(len(layout.layers) - 1, layout.lowest - 1, -1):
        layer, d = layout.layers[i], own.d[i]
        if layer.frozen:
            continue
        below, below_ld = (own.a[i - 1], own.ld) if i else (x, x_ld)
        w, b, row = into + layer.w, into + layer.b, layer.units * UNIT_BYTES
        if _by_sample(layout, layer, own.rows):
            start = (work.zeros, 0) if fresh else (w, layer.ld)
            ops.add("transpose", layer.fan_out, own.rows, d, own.ld, own.zeros, own.by_sample[i], row)
            places = below, below_ld, size, own.by_sample[i], row, *start, w, layer.ld
            matmul(ops, layer.fan_in, layer.units, own.rows, *places)
        else:
            if fresh:
                ops.add("zero", 1, layer.fan_in * layer.ld, 0, w, w, w)
            ops.add("outer", layer.fan_in, layer.fan_out, length, below, below_ld, d, own.ld, own.zeros, w, layer.ld)
        sums = b if fresh else work.sums[0]
        ops.add("identity_dots", layer.fan_out, row // size, length, own.ones, d, own.ld, own.zeros, sums, sums)
        if not fresh:
            ops.add("add", 1, row, 0, b, b, sums)


def update(ops, layout, partials, target, team):
    """Add the shards' gradients to the target in their order, whatever threads they are from, and run the optimizer."""
    for layer in layout.layers:
        if layer.frozen:
            continue
        for i, partial in enumerate(partials):
            places = (partial, partial) if target.fresh and i == 0 else (target.into, partial)
            name = "identity" if target.fresh and i == 0 else "add"
            network.over_region(ops, name, layer, team, (), (target.into, *places))
        target.finish(ops, layer, team)


def _by_sample(layout, layer, rows):
    """Whether W's gradient is a product with d transposed, rather than sums over lanes."""
    over_lanes, by_sample = _gradient_operations(layout, layer, rows)
    return by_sample < over_lanes


def _gradient_operations(layout, layer, rows):
    """Vector operations of W's gradient as sums over lanes, and as a product with d transposed."""
    samples = padded(rows * layout.itemsize) // VECTOR_BYTES
    across = padded(layer.fan_out * layout.itemsize) // VECTOR_BYTES
    blocks = -(-layer.fan_in // 4) * -(-layer.fan_out // 4)
    return blocks * (16 * samples + SUMS), across * (samples * TRANSPOSE + (rows + 4) * layer.fan_in)


def pays(layout, rows):
    """Whether a block of so many rows takes fewer vector operations in this layout than in `network`'s."""
    lanes, parts = VECTOR_BYTES // layout.itemsize, len(shards(rows))
    each = -(-rows // parts)  # samples of a shard
    samples = padded(each * layout.itemsize) // VECTOR_BYTES
    wide, narrow = 0, (-(-layout.sizes[0] // lanes) - (-layout.sizes[-1] // lanes)) * samples * TRANSPOSE
    for i, layer in enumerate(layout.layers):
        fan_in, fan_out = layer.fan_in, layer.fan_out
        across_in, across_out = (padded(n * layout.itemsize) // VECTOR_BYTES for n in (fan_in, fan_out))
        wide += rows * (2 * fan_in * across_out + ACTIVATION * across_out)
        narrow += samples * ((fan_in + 1) * fan_out + ACTIVATION * fan_out)
        narrow += min(_gradient_operations(layout, layer, each)) + across_out * (lanes * samples + SUMS)
        if i:
            wide += rows * fan_out * across_in + across_in * across_out * TRANSPOSE
            narrow += samples * fan_in * fan_out
    return parts * narrow < wide
