"""The second layout of a batch: a row for each neuron, lanes hold samples. For layers too narrow to fill the lanes.

Forward, backward and gradient of a block of samples as in `network`, over the same parameters. A row of ones below
each layer's inputs multiplies the bias, which lies behind W as one more row of it.
"""

from .activations import UNIT_SLOPE
from .matmul import matmul
from .network import aligned_zeros, padded
from .simd import UNIT_BYTES, VECTOR_BYTES


class Buffers:
    """Buffers for blocks of exactly `rows` samples; x, y, a and d are addresses of (neurons, samples), rows `ld` apart.

    x and a have a row of ones behind the neurons, `ones` is another: zero in the lanes past the samples.
    """

    def __init__(self, layout, rows):
        self.rows, self.ld = rows, padded(rows * layout.itemsize)
        lanes = VECTOR_BYTES // layout.itemsize
        spare = lanes  # rows that a transpose may write past the last
        n_out = layout.sizes[-1]
        counts = [layout.sizes[0] + spare, n_out + spare, *(n + 1 for n in layout.sizes[1:]), *layout.sizes[1:], 1, 1]
        n_bytes = sum(counts) * self.ld
        self.buffer = aligned_zeros(n_bytes + max(layer.ld for layer in layout.layers), layout.dtype)
        self.sums = self.buffer.ctypes.data + n_bytes  # of a layer's d over the samples
        addresses, offset = [], self.buffer.ctypes.data
        for count in counts:
            addresses.append(offset)
            offset += count * self.ld
        depth = len(layout.layers)
        self.x, self.y, self.a, self.d = *addresses[:2], addresses[2 : 2 + depth], addresses[2 + depth : -2]
        self.zeros, self.ones = addresses[-2:]
        width = self.ld // layout.itemsize
        for values, n in [*zip(self.a, layout.sizes[1:], strict=True), (self.ones, 0)]:
            start = (values + n * self.ld - self.buffer.ctypes.data) // layout.itemsize
            self.buffer[start : start + width][:rows] = 1


def load(ops, layout, work, own):
    """Bring the inputs and targets that `network.load` put into work.x and work.y into this layout."""
    for source, row, width, out in (
        (work.x, layout.x_ld, layout.sizes[0], own.x),
        (work.y, layout.layers[-1].row, layout.sizes[-1], own.y),
    ):
        ops.add("transpose", own.rows, width, source, row, work.zeros, out, own.ld)
    ops.add("add", own.ld, own.x + layout.sizes[0] * own.ld, own.ones, own.zeros)  # the transpose may go past x


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


def backward(ops, layout, parameters, own, target):
    """From the last layer's dC/da in d: every layer's d = dC/dz, and the gradients to the target."""
    ld = own.ld
    for i in range(len(layout.layers) - 1, layout.lowest - 1, -1):
        layer, a, d = layout.layers[i], own.a[i], own.d[i]
        if layer.activation not in UNIT_SLOPE:
            ops.add(f"{layer.activation}_slope", layer.fan_out * ld, d, d, a)
        w, fan_in, fan_out = layer.w, layer.fan_in, layer.fan_out
        if i > layout.lowest:
            places = parameters + w, layer.ld, layout.itemsize, d, ld, own.zeros, 0, own.d[i - 1], ld
            matmul(ops, fan_in, ld // UNIT_BYTES, fan_out, *places)
        if not layer.frozen:
            below = own.a[i - 1] if i else own.x
            into = target.into + w
            if target.fresh:
                ops.add("zero", (fan_in + 1) * layer.ld, into, into, into)
            ops.add("outer", fan_in, fan_out, ld, below, ld, d, ld, own.zeros, into, layer.ld)
            width = layer.units * UNIT_BYTES
            places = own.ones, d, ld, own.zeros, own.sums, own.sums
            ops.add("identity_dots", fan_out, width // layout.itemsize, ld, *places)
            b = target.into + layer.b
            ops.add("add", width, b, b, own.sums)
            target.finish(ops, layer)


def pays(layout, rows):
    """Whether a block of so many rows takes fewer vector operations in this layout than in `network`'s."""
    lanes = VECTOR_BYTES // layout.itemsize
    samples = padded(rows * layout.itemsize) // VECTOR_BYTES
    sigmoid, block, sums = 34, 90, 60  # operations of an activation with its slope, a transpose, a block of sums
    wide, narrow = 0, (-(-layout.sizes[0] // lanes) - (-layout.sizes[-1] // lanes)) * samples * block
    for i, layer in enumerate(layout.layers):
        fan_in, fan_out = layer.fan_in, layer.fan_out
        across_in, across_out = (padded(n * layout.itemsize) // VECTOR_BYTES for n in (fan_in, fan_out))
        wide += rows * (2 * fan_in * across_out + sigmoid * across_out)
        narrow += samples * ((fan_in + 1) * fan_out + sigmoid * fan_out)
        blocks = -(-(fan_in + 1) // 4) * -(-fan_out // 4)
        narrow += blocks * (16 * samples + sums)
        if i:
            wide += rows * fan_out * across_in + across_in * across_out * block
            narrow += samples * fan_in * fan_out
    return narrow < wide
