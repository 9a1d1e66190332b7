"""The second layout of a batch: a row for each neuron, lanes hold samples. For layers too narrow to fill the lanes.

Forward, backward and gradient of a block of samples as in `network`, over the same parameters. A row of ones below
each layer's inputs multiplies the bias, which lies behind W as one more row of it.
"""

import itertools

from . import network
from .activations import UNIT_SLOPE
from .matmul import matmul
from .network import aligned_zeros, padded
from .optimizers import SCALE, TOTAL
from .simd import UNIT_BYTES, VECTOR_BYTES

# Vector operations of an activation with its slope, of a transposed block, and of summing a block's lanes.
ACTIVATION, TRANSPOSE, SUMS = 34, 90, 60
SHARD, MOST_SHARDS = 128, 8  # samples whose gradient is summed for itself, so that threads can share a block


def shards(rows):
    """How many shards a block of so many samples has."""
    return max(1, min(MOST_SHARDS, rows // SHARD))


class Buffers:
    """Buffers for blocks of exactly `rows` samples; x, y, a and d are addresses of (neurons, samples), rows `ld` apart.

    x and a have a row of ones behind the neurons, `ones` is another: zero in the lanes past the samples.
    """

    def __init__(self, layout, rows):
        self.rows, self.ld = rows, padded(rows * layout.itemsize)
        *_, n_out = sizes = layout.sizes
        depth = len(layout.layers)
        counts = [sizes[0] + 1, n_out, *(n + 1 for n in sizes[1:]), *sizes[1:], n_out, 1, 1]
        width, n_bytes = self.ld // layout.itemsize, sum(counts) * self.ld
        parts, unit = shards(rows), UNIT_BYTES // layout.itemsize
        edges = [min(-(-rows // unit) * i // parts * unit, rows) for i in range(parts + 1)]
        self.shards = list(itertools.pairwise(edges))  # (first sample, first behind them)
        turned = [width * layer.units * UNIT_BYTES for layer in layout.layers]
        partial = layout.n_bytes if parts > 1 else 0
        self.buffer = aligned_zeros(n_bytes + sum(turned) + parts * partial, layout.dtype)
        # Each layer's d again, with a row for each sample; and the shards' gradients.
        end = self.buffer.ctypes.data + n_bytes
        self.by_sample = [end + sum(turned[:i]) for i in range(depth)]
        self.partial = [end + sum(turned) + i * partial for i in range(parts)]
        addresses, offset = [], self.buffer.ctypes.data
        for count in counts:
            addresses.append(offset)
            offset += count * self.ld
        self.x, self.y, self.a, self.d = *addresses[:2], addresses[2 : 2 + depth], addresses[2 + depth : -3]
        self.scratch, self.zeros, self.ones = addresses[-3:]
        for values, n in [*zip((self.x, *self.a), sizes, strict=True), (self.ones, 0)]:
            start = (values + n * self.ld - self.buffer.ctypes.data) // layout.itemsize
            self.buffer[start : start + width][:rows] = 1


def load(ops, layout, own, x, y, scale, first, rows):
    """`rows` samples of the sources x and y from the `first` on; operations 0 and 1 of a program."""
    skip = first * layout.itemsize
    network.load(ops, x, rows, layout.sizes[0], own.x + skip, own.ld, scale, columns=True)
    network.load(ops, y, rows, layout.sizes[-1], own.y + skip, own.ld, columns=True)


def forward(ops, layout, parameters, own, first, rows):
    """a = f(W.T @ a_below + b) for every layer and these samples."""
    skip, width, ld = first * layout.itemsize, padded(rows * layout.itemsize), own.ld
    below = own.x + skip
    for layer, a in zip(layout.layers, own.a, strict=True):
        w, k, a = parameters + layer.w, layer.fan_in + 1, a + skip
        places = w, layout.itemsize, layer.ld, below, ld, own.zeros, 0, a, ld
        matmul(ops, layer.fan_out, width // UNIT_BYTES, k, *places)
        if layer.activation != "identity":
            ops.add(layer.activation, layer.fan_out, width, ld, a, a, a)
        below = a


def loss(ops, layout, work, own, first, rows, total=None, d=None):
    """d = scale * dC/da of the last layer, and the loss of these samples added to the cell `total`."""
    cells, skip = work.cells.ctypes.data, first * layout.itemsize
    places = (d or own.d[-1]) + skip, own.a[-1] + skip, own.y + skip, cells + SCALE * 8, total or cells + TOTAL * 8
    ops.add(layout.loss, layout.sizes[-1], rows, own.ld, *places)


def deltas(ops, layout, parameters, own, first, rows):
    """From the last layer's dC/da in d: dC/dz of every layer that trains, or lies above one that does."""
    ld, skip, width = own.ld, first * layout.itemsize, padded(rows * layout.itemsize)
    for i in range(len(layout.layers) - 1, layout.lowest - 1, -1):
        layer, a, d = layout.layers[i], own.a[i] + skip, own.d[i] + skip
        if layer.activation not in UNIT_SLOPE:
            ops.add(f"{layer.activation}_slope", layer.fan_out, width, ld, d, d, a)
        if i > layout.lowest:
            places = parameters + layer.w, layer.ld, layout.itemsize, d, ld, own.zeros, 0, own.d[i - 1] + skip, ld
            matmul(ops, layer.fan_in, width // UNIT_BYTES, layer.fan_out, *places)
        if not layer.frozen and _by_sample(layout, layer, own.rows):
            row = layer.units * UNIT_BYTES
            ops.add("transpose", layer.fan_out, rows, d, ld, own.zeros, own.by_sample[i] + first * row, row)


def gradients(ops, layout, work, own, target, team, mine):
    """The gradients to the target, from all layers' inputs and d.

    Each shard's gradient is summed for itself, and then the shards' in their order, by whatever threads: the bits are
    those of one thread. `mine` are the indices of this thread's shards.
    """
    layers = [i for i in range(len(layout.layers) - 1, layout.lowest - 1, -1) if not layout.layers[i].frozen]
    if team.threads == 1:
        for i in layers:
            layer = layout.layers[i]
            for shard, samples in enumerate(own.shards):
                fresh = target.fresh and shard == 0
                if fresh or len(own.shards) == 1 or not _by_sample(layout, layer, own.rows):
                    _gradient(ops, layout, i, work, own, *samples, target.into, fresh)
                else:  # which adds sample after sample to what is there: from zero, as for several threads
                    _gradient(ops, layout, i, work, own, *samples, own.partial[0], True)
                    network.over_region(ops, "add", layer, team, (), (target.into, target.into, own.partial[0]))
            target.finish(ops, layer, team)
        return
    for shard in mine:
        for i in layers:
            _gradient(ops, layout, i, work, own, *own.shards[shard], own.partial[shard], True)
    team.meet(ops, work)
    if team.thread == 0:  # the sum of all losses, as one thread takes it
        loss(ops, layout, work, own, 0, own.rows, d=own.scratch)
    for layer in (layout.layers[i] for i in layers):
        for shard, partial in enumerate(own.partial):
            name = "identity" if target.fresh and shard == 0 else "add"
            places = (target.into, partial, partial) if name == "identity" else (target.into, target.into, partial)
            network.over_region(ops, name, layer, team, (), places)
        target.finish(ops, layer, team)


def _gradient(ops, layout, i, work, own, begin, end, into, fresh):
    """Layer i's gradient over the samples from `begin` to `end`."""
    layer, ld, size, fan_out = layout.layers[i], own.ld, layout.itemsize, layout.layers[i].fan_out
    below, d = (address + begin * size for address in (own.a[i - 1] if i else own.x, own.d[i]))
    w, b, row, length = into + layer.w, into + layer.b, layer.units * UNIT_BYTES, padded((end - begin) * size)
    if _by_sample(layout, layer, own.rows):
        by_sample = own.by_sample[i] + begin * row
        start = (work.zeros, 0) if fresh else (w, layer.ld)
        matmul(ops, layer.fan_in, layer.units, end - begin, below, ld, size, by_sample, row, *start, w, layer.ld)
    else:
        if fresh:
            ops.add("zero", 1, layer.fan_in * layer.ld, 0, w, w, w)
        ops.add("outer", layer.fan_in, fan_out, length, below, ld, d, ld, own.zeros, w, layer.ld)
    sums = b if fresh else work.sums[0]
    ops.add("identity_dots", fan_out, row // size, length, own.ones + begin * size, d, ld, own.zeros, sums, sums)
    if not fresh:
        ops.add("add", 1, row, 0, b, b, sums)


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
    lanes = VECTOR_BYTES // layout.itemsize
    samples = padded(rows * layout.itemsize) // VECTOR_BYTES
    wide, narrow = 0, (-(-layout.sizes[0] // lanes) - (-layout.sizes[-1] // lanes)) * samples * TRANSPOSE
    for i, layer in enumerate(layout.layers):
        fan_in, fan_out = layer.fan_in, layer.fan_out
        across_in, across_out = (padded(n * layout.itemsize) // VECTOR_BYTES for n in (fan_in, fan_out))
        wide += rows * (2 * fan_in * across_out + ACTIVATION * across_out)
        narrow += samples * ((fan_in + 1) * fan_out + ACTIVATION * fan_out)
        narrow += min(_gradient_operations(layout, layer, rows)) + across_out * (lanes * samples + SUMS)
        if i:
            wide += rows * fan_out * across_in + across_in * across_out * TRANSPOSE
            narrow += samples * fan_in * fan_out
    return narrow < wide
