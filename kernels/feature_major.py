"""The second layout of a batch: a row for each neuron, lanes hold samples. For layers too narrow to fill the lanes.

Forward, backward and gradient of a block of samples as in `network`, over the same parameters. A row of ones below
each layer's inputs multiplies the bias, which lies behind W as one more row of it.
"""

from . import network
from .activations import UNIT_SLOPE
from .matmul import matmul
from .network import aligned_zeros, padded
from .simd import UNIT_BYTES, VECTOR_BYTES

# Vector operations of an activation with its slope, of a transposed block, and of summing a block's lanes.
ACTIVATION, TRANSPOSE, SUMS = 34, 90, 60


class Buffers:
    """Buffers for blocks of exactly `rows` samples; x, y, a and d are addresses of (neurons, samples), rows `ld` apart.

    x and a have a row of ones behind the neurons, `ones` is another: zero in the lanes past the samples.
    """

    def __init__(self, layout, rows):
        self.rows, self.ld = rows, padded(rows * layout.itemsize)
        *_, n_out = sizes = layout.sizes
        counts = [sizes[0] + 1, n_out, *(n + 1 for n in sizes[1:]), *sizes[1:], 1, 1]
        width, n_bytes = self.ld // layout.itemsize, sum(counts) * self.ld
        self.buffer = aligned_zeros(n_bytes + width * max(layer.row for layer in layout.layers), layout.dtype)
        self.by_sample = self.buffer.ctypes.data + n_bytes  # a layer's d again, with a row for each sample
        addresses, offset = [], self.buffer.ctypes.data
        for count in counts:
            addresses.append(offset)
            offset += count * self.ld
        depth = len(layout.layers)
        self.x, self.y, self.a, self.d = *addresses[:2], addresses[2 : 2 + depth], addresses[2 + depth : -2]
        self.zeros, self.ones = addresses[-2:]
        for values, n in [*zip((self.x, *self.a), sizes, strict=True), (self.ones, 0)]:
            start = (values + n * self.ld - self.buffer.ctypes.data) // layout.itemsize
            self.buffer[start : start + width][:rows] = 1


def load(ops, layout, own, x, y, scale):
    """The next rows of the sources x and y; operations 0 and 1 of a program."""
    network.load(ops, x, own.rows, layout.sizes[0], own.x, own.ld, scale, columns=True)
    network.load(ops, y, own.rows, layout.sizes[-1], own.y, own.ld, columns=True)


def forward(ops, layout, parameters, own):
    """a = f(W.T @ a_below + b) for every layer."""
    below, ld = own.x, own.ld
    for layer, a in zip(layout.layers, own.a, strict=True):
        w, k = parameters + layer.w, layer.fan_in + 1
        matmul(ops, layer.fan_out, ld // UNIT_BYTES, k, w, layout.itemsize, layer.ld, below, ld, own.zeros, 0, a, ld)
        if layer.activation != "identity":
            ops.add(layer.activation, layer.fan_out * ld, a, a, a)
        below = a


def loss(ops, layout, work, own):
    """The last layer's d = scale * dC/da, and the block's loss added to the total."""
    ops.add(layout.loss, layout.sizes[-1], own.rows, own.d[-1], own.a[-1], own.y, work.cells.ctypes.data)


def backward(ops, layout, parameters, work, own, target):
    """From the last layer's dC/da in d: every layer's d = dC/dz, and the gradients to the target."""
    ld = own.ld
    for i in range(len(layout.layers) - 1, layout.lowest - 1, -1):
        layer, a, d = layout.layers[i], own.a[i], own.d[i]
        if layer.activation not in UNIT_SLOPE:
            ops.add(f"{layer.activation}_slope", layer.fan_out * ld, d, d, a)
        if i > layout.lowest:
            places = parameters + layer.w, layer.ld, layout.itemsize, d, ld, own.zeros, 0, own.d[i - 1], ld
            matmul(ops, layer.fan_in, ld // UNIT_BYTES, layer.fan_out, *places)
        if not layer.frozen:
            _gradient(ops, layout, layer, work, own, own.a[i - 1] if i else own.x, d, target)
            target.finish(ops, layer)


def _gradient(ops, layout, layer, work, own, below, d, target):
    """One layer's gradient from d = dC/dz and what lies below it."""
    ld, fan_in, fan_out = own.ld, layer.fan_in, layer.fan_out
    w, b, row = target.into + layer.w, target.into + layer.b, layer.units * UNIT_BYTES
    over_lanes, by_sample = _gradient_operations(layout, layer, own.rows)
    if by_sample < over_lanes:
        ops.add("transpose", fan_out, own.rows, d, ld, own.zeros, own.by_sample, row)
        start = (work.zeros, 0) if target.fresh else (w, layer.ld)
        places = below, ld, layout.itemsize, own.by_sample, row, *start, w, layer.ld
        matmul(ops, fan_in, layer.units, own.rows, *places)
    else:
        if target.fresh:
            ops.add("zero", fan_in * layer.ld, w, w, w)
        ops.add("outer", fan_in, fan_out, ld, below, ld, d, ld, own.zeros, w, layer.ld)
    sums = b if target.fresh else work.row
    ops.add("identity_dots", fan_out, row // layout.itemsize, ld, own.ones, d, ld, own.zeros, sums, sums)
    if not target.fresh:
        ops.add("add", row, b, b, sums)


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
