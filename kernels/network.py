"""The network in memory, and the programs of one batch through it: forward, loss, delta backpropagation.

One flat vector holds every parameter. Layer l's arrays lie, in bytes from its start, at

    w    (fan_in, ld), C order: W[k, j] from neuron k to neuron j
    b    (ld,), right behind it

or in a `Panel` like this for each thread that has some of its columns. In a `Workspace`, for as many rows as a block of
samples has, lie

    a    (rows, ld), the layer's outputs
    d    (rows, ld), dC/dz

ld is fan_out padded to whole units of 64 bytes, here counted in bytes, and one unit more where rows so far apart would
fall into the same few sets of a cache; the padding of W, b and d is zero. Rows of a and d are `row` bytes apart.
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np

from .activations import UNIT_SLOPE
from .barrier import JOB_SIZE
from .library import WIDTH, bits
from .matmul import matmul, matmul_nt
from .optimizers import N_CELLS, SCALE, TOTAL
from .simd import TILE_UNITS, UNIT_BYTES

IN_CACHE = 2**18  # bytes of X that stay in the L2 cache without being fetched ahead
NEAR = 2**13  # bytes of a batch of samples that are fetched into the L1 cache, a part of it, rather than the L2 cache
PIECE = 2**16  # bytes of samples that are multiplied at a time where they lie
PREFETCHED = 2**10  # bytes fetched at a time: about what the core can have under way
FAR, SHARED = 2**9, 64  # a gradient's product copies columns of d if its rows lie so far apart and W has so many rows


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
class Panel:
    """Some columns of a layer's W and b, from unit `begin` to unit `end`, and their place in the parameter vector."""

    begin: int
    end: int
    w: int
    b: int
    ld: int  # stride of W's rows
    width: float  # units that hold neurons, in halves


@dataclass(frozen=True)
class Layer:
    """Sizes of a layer and its place in the parameter vector, in bytes. Its W, b and ld are those of a single panel."""

    fan_in: int
    fan_out: int
    activation: str
    frozen: bool
    row: int  # stride of a's and d's rows
    units: int
    panels: tuple[Panel, ...]

    @property
    def _panel(self):
        (panel,) = self.panels
        return panel

    w = property(lambda self: self._panel.w)
    b = property(lambda self: self._panel.b)
    ld = property(lambda self: self._panel.ld)


class Layout:
    """Where everything of a network lies. sizes are n_inputs, then each layer's fan_out.

    For several threads each layer wide enough has a panel for each. For what a core prefetches beside the columns it
    works on must not be another's: lines that two cores write take many times as long.
    """

    def __init__(self, sizes, activations, loss, dtype, frozen=(), threads=1):
        self.arguments = tuple(sizes), tuple(activations), loss, dtype, frozen
        self.sizes, self.loss, self.dtype = tuple(sizes), loss, np.dtype(dtype)
        self.itemsize = self.dtype.itemsize
        layers, offset = [], 0
        for i, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
            row, last = padded(fan_out * self.itemsize), i == len(sizes) - 2
            units = row // UNIT_BYTES
            parts, panels = threads if units >= threads else 1, []
            for begin, end in itertools.pairwise(units * part // parts for part in range(parts + 1)):
                ld = apart((end - begin) * UNIT_BYTES)
                width = min(end - begin, math.ceil(2 * (fan_out * self.itemsize / UNIT_BYTES - begin)) / 2)
                panels.append(Panel(begin, end, offset, offset + fan_in * ld, ld, width))
                offset += (fan_in + 1) * ld
            shape = fan_in, fan_out, activations[i], i in frozen, row if last else apart(row), units
            layers.append(Layer(*shape, tuple(panels)))
        self.layers = tuple(layers)
        self.n_bytes = offset
        self.x_ld = apart(padded(sizes[0] * self.itemsize))
        # The lowest layer that trains: nothing below it needs a delta.
        self.lowest = min((i for i, layer in enumerate(layers) if not layer.frozen), default=len(layers))
        # A block of rows goes through the whole network at once, about 128 KiB of it where the network is small.
        self.block_rows = min(1024, max(256, 2**17 // (self.x_ld + 2 * sum(layer.row for layer in layers))))

    def for_threads(self, threads):
        """The same network with panels for so many threads."""
        return Layout(*self.arguments, threads=threads)

    def _columns(self, vector, i, begin, end):
        """Layer i's units of columns from `begin` to `end`, b as the last row, a view of a vector; all in one panel."""
        (panel,) = (p for p in self.layers[i].panels if p.begin <= begin and end <= p.end)
        w, ld, unit = panel.w // self.itemsize, panel.ld // self.itemsize, UNIT_BYTES // self.itemsize
        matrix = vector[w : w + (self.layers[i].fan_in + 1) * ld].reshape(-1, ld)
        return matrix[:, (begin - panel.begin) * unit : (end - panel.begin) * unit]

    def convert(self, vector, layout, out):
        """Copy a vector laid out like the parameters to `out`, of another layout; one of them has single panels."""
        for i, layer in enumerate(self.layers):
            for panel in max(layer.panels, layout.layers[i].panels, key=len):
                edges = i, panel.begin, panel.end
                layout._columns(out, *edges)[...] = self._columns(vector, *edges)

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
        widest = max(layout.x_ld, *(layer.units * UNIT_BYTES for layer in layout.layers))
        *below, last = (rows * layer.row for layer in layout.layers)
        own = {  # of each thread
            "x": rows * layout.x_ld,
            "y": last,
            "panels": max(rows, widest // layout.itemsize) * TILE_UNITS * UNIT_BYTES,
            "sums": widest,
        }
        shared = {"zeros": widest, "one": UNIT_BYTES}
        for i, (length, layer) in enumerate(zip((*below, last), layout.layers, strict=True)):
            shares = len(layer.panels) > 1  # the last d every thread computes for itself
            (shared if shares else own)[f"a{i}"] = length
            (shared if shares and i < len(below) else own)[f"d{i}"] = length
        n_bytes = sum(shared.values()) + threads * sum(own.values())
        self.buffer = aligned_zeros(n_bytes, layout.dtype)
        offset, places = self.buffer.ctypes.data, {}
        for name, length in shared.items():
            places[name] = [offset] * threads
            offset += length
        for _ in range(threads):
            for name, length in own.items():
                places.setdefault(name, []).append(offset)
                offset += length
        self.x, self.y, self.panels, self.sums = (places[name] for name in ("x", "y", "panels", "sums"))
        self.zeros, self.one = places["zeros"][0], places["one"][0]
        self.a, self.d = (
            [[places[f"{kind}{i}"][thread] for i in range(len(layout.layers))] for thread in range(threads)]
            for kind in "ad"
        )
        self.buffer[(self.one - self.buffer.ctypes.data) // layout.itemsize] = 1
        self.cells = aligned_zeros(8 * N_CELLS, np.float64)
        self.nowhere = np.zeros(8 * threads)
        self.job = aligned_zeros(8 * JOB_SIZE, np.int64)


class Program:
    """A list of operations in the making."""

    def __init__(self, library):
        self.library, self.rows = library, []

    def add(self, name, *arguments):
        """Append a call of the library's function `name`."""
        if name.startswith("prefetch"):
            *arguments, gather = arguments
            arguments = (*arguments, (gather - len(self.rows)) * WIDTH * 8)  # from here to there
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
#
# Threads share a batch by neurons: each computes its columns of a layer's a and d and updates its columns of W, so that
# weights and samples stay in its own cache, and waits for the others where all columns of a layer are needed. A layer
# too narrow to share every thread computes for itself, and they share its update by rows of W.


@dataclass(frozen=True)
class Team:
    """How many threads share a batch, and which one of them a program is for."""

    threads: int = 1
    thread: int = 0

    def panel(self, layer):
        """The columns of a layer that this thread computes."""
        return layer.panels[self.thread if len(layer.panels) > 1 else 0]

    def region(self, layer):
        """(first, stop): the rows of W in this thread's panel that it updates; b belongs to whoever has the last."""
        return (0, layer.fan_in) if len(layer.panels) > 1 else share(layer.fan_in, self)

    def meet(self, ops, work):
        """Wait for each other."""
        if self.threads > 1:
            ops.add("barrier", work.job.ctypes.data, self.threads)


def share(n, team, least=4):
    """A thread's part of n, the first and the first behind it: at least so many, or none."""
    sharing = max(1, min(team.threads, n // least))
    return (n * team.thread // sharing, n * (team.thread + 1) // sharing) if team.thread < sharing else (0, 0)


ALONE = Team()


def load(ops, source, rows, width, out, out_row, scale=1.0, columns=False):
    """out = the next `rows` rows of a source, as its columns on demand; `entry` fills in which rows these are."""
    places = source.address, source.row, out, out_row
    ops.add(source.operation + "_columns" * columns, rows, 0, 0, *places, width, bits(scale))


def elementwise(ops, name, rows, layer, begin, end, *places):
    """An elementwise operation on the units from `begin` to `end` of each row of a layer's a and d."""
    places = (place + begin * UNIT_BYTES for place in places)
    # All of a row, padding included, is done in one go.
    shape = (1, rows * layer.row, 0) if end - begin == layer.units else (rows, (end - begin) * UNIT_BYTES, layer.row)
    ops.add(name, *shape, *places)


def first_product(ops, layout, parameters, work, rows, source):
    """The first layer's a_below @ W + b, from samples where they lie, by pieces that stay in the L2 cache.

    Each fetches the next one meanwhile. Their address is IN_PLACE of all these operations, here from the first sample;
    gives how many operations these are.
    """
    layer, before = layout.layers[0], len(ops.rows)
    (panel,), out, most = layer.panels, work.a[0][0], -(-PIECE // source.row // 12) * 12
    ops.add("fetch", 0, 0, 0)  # nothing, but `entry` sees here where they lie
    first = 0
    while first < rows:
        left, place = rows - first, first * source.row
        n = min(most, left) - (left == most + 1)  # a single row would be summed in another order
        length = n * source.row
        steps = range(0, length, PREFETCHED)
        fetches = [("fetch", min(PREFETCHED, length - at), length + at, place) for at in steps]
        places = place, source.row, layout.itemsize, parameters + panel.w, panel.ld, parameters + panel.b, 0
        matmul(ops, n, panel.width, layer.fan_in, *places, out + first * layer.row, layer.row, fetches)
        first += n
    return len(ops.rows) - before


def forward(ops, layout, parameters, work, rows, team=ALONE, single=False, multiplied=False):
    """a = f(a_below @ W + b) for every layer, from the inputs in work.x. `single` takes the operations for one row.

    `multiplied` says that the first layer's product has been taken.
    """
    x, x_row = work.x[team.thread], layout.x_ld
    for layer, a in zip(layout.layers, work.a[team.thread], strict=True):
        panel = team.panel(layer)
        w, b, ld = parameters + panel.w, parameters + panel.b, panel.ld
        if single:
            ops.add(f"{layer.activation}_row", layer.units, layer.fan_in, x, w, ld, b, a)
        else:
            out = a + panel.begin * UNIT_BYTES
            if not multiplied:
                matmul(ops, rows, panel.width, layer.fan_in, x, x_row, layout.itemsize, w, ld, b, 0, out, layer.row)
            multiplied = False
            if layer.activation != "identity":
                elementwise(ops, layer.activation, rows, layer, panel.begin, panel.end, a, a, a)
        if len(layer.panels) > 1:
            team.meet(ops, work)
        x, x_row = a, layer.row


def loss(ops, layout, work, rows, team=ALONE):
    """The last layer's d = scale * dC/da, and the block's loss added to the total."""
    # Every thread computes all of d, but one keeps the sum.
    last, cells = layout.layers[-1], work.cells.ctypes.data
    total = cells + TOTAL * 8 if team.thread == 0 else work.nowhere[8 * team.thread :].ctypes.data
    places = work.d[team.thread][-1], work.a[team.thread][-1], work.y[team.thread], last.row, cells + SCALE * 8, total
    ops.add(layout.loss, rows, last.fan_out, last.row, *places)


def prefetches(sources, rows, ahead):
    """Operations that fetch as many rows of the sources, `ahead` rows further on than the program gathers them.

    It gathers in its first operations, in the order of the sources. None of those that fit into the L2 cache anyhow.
    """
    fetches = []
    for gather, source in enumerate(sources):
        if source.n * source.row <= IN_CACHE:
            continue
        name = "prefetch_near" if rows * source.row <= NEAR else "prefetch"
        step, parts = max(1, PREFETCHED // source.row), -(-source.row // PREFETCHED)
        fetches += [
            (name, first, min(first + step, rows), *(source.row * (part + i) // parts for i in (0, 1)), ahead, gather)
            for first in range(0, rows, step)
            for part in range(parts)
        ]
    return fetches


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

    def finish(self, ops, layer, team):
        """The optimizer's operation for a thread's region of a layer."""
        if self.update:
            name, scalars, parameters, vectors = self.update
            over_region(ops, name, layer, team, (scalars,), (parameters, self.into, *vectors))


def over_region(ops, name, layer, team, first_arguments, vectors):
    """An operation over a thread's region of a layer in vectors laid out like the parameters."""
    (first, stop), panel = team.region(layer), team.panel(layer)
    if first == stop:
        return
    rows = stop - first + (stop == layer.fan_in)
    ops.add(name, 1, rows * panel.ld, 0, *first_arguments, *(v + panel.w + first * panel.ld for v in vectors))


def deltas(ops, layout, parameters, work, rows, team=ALONE, single=False):
    """From the last layer's dC/da in d: dC/dz of every layer that trains, or lies above one that does."""
    size, a, d = layout.itemsize, work.a[team.thread], work.d[team.thread]
    for i in range(len(layout.layers) - 1, layout.lowest - 1, -1):
        layer, last = layout.layers[i], i == len(layout.layers) - 1
        panel = team.panel(layer)
        begin, end = (0, layer.units) if last else (panel.begin, panel.end)
        if layer.activation not in UNIT_SLOPE and (last or not single):
            elementwise(ops, f"{layer.activation}_slope", rows, layer, begin, end, d[i], d[i], a[i])
        if i == layout.lowest:
            break
        under = layout.layers[i - 1]
        if single:
            lengths = layer.fan_in, under.units * UNIT_BYTES // size, layer.units * UNIT_BYTES
            places = d[i], parameters + layer.w, layer.ld, work.zeros, d[i - 1], a[i - 1]
            ops.add(f"{under.activation}_dots", *lengths, *places)
            continue
        if len(layer.panels) > 1 and not last:
            team.meet(ops, work)
        mine, unit = team.panel(under), UNIT_BYTES // size
        first, stop = mine.begin * unit, min(mine.end * unit, layer.fan_in)
        ws = [
            (min(p.end * unit, layer.fan_out) - p.begin * unit, parameters + p.w + first * p.ld, p.ld)
            for p in layer.panels
        ]
        out = d[i - 1] + mine.begin * UNIT_BYTES
        places = d[i], layer.row, ws, work.zeros, out, under.row, work.panels[team.thread]
        matmul_nt(ops, size, rows, stop - first, *places)


def gradients(ops, layout, work, rows, target, team=ALONE, single=False, between=()):
    """The gradients to the target, from all layers' inputs and d; each thread those of its regions.

    `between` holds operations to be spread through the largest product, the lowest layer's.
    """
    team.meet(ops, work)  # nobody reads W any more
    size, sums = layout.itemsize, work.sums[team.thread]
    for i in range(len(layout.layers) - 1, layout.lowest - 1, -1):
        layer = layout.layers[i]
        (first, stop), panel = team.region(layer), team.panel(layer)
        if layer.frozen or first == stop:
            continue
        units, ld, row = panel.end - panel.begin, panel.ld, layer.row
        d = work.d[team.thread][i] + panel.begin * UNIT_BYTES
        below, below_row = work.x[team.thread], layout.x_ld
        if i:
            below, below_row = work.a[team.thread][i - 1], layout.layers[i - 1].row
        below += first * size
        w, b = target.into + panel.w + first * ld, target.into + panel.b
        start = (work.zeros, 0) if target.fresh else (w, ld)
        if single:
            ops.add("rank_one", units, layer.fan_in, below, d, *start, w, ld)
        else:
            spread = between if i == layout.lowest else ()
            places = below, size, below_row, d, row, *start, w, ld
            pack = (work.panels[team.thread], size) if row >= FAR and stop - first >= SHARED else None
            matmul(ops, stop - first, panel.width, rows, *places, spread, pack)
            if stop == layer.fan_in:  # the batch is summed first, then added once
                into = b if target.fresh else sums
                matmul(ops, 1, units, rows, work.one, 0, 0, d, row, work.zeros, 0, into, row)
                if not target.fresh:
                    ops.add("add", 1, units * UNIT_BYTES, 0, b, b, sums)
        target.finish(ops, layer, team)
