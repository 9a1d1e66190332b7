"""Complete programs over a sample set: one step of training, prediction, evaluation, gradients."""

import numpy as np

from . import feature_major, network
from .network import ALONE, Program, Target, Team, over_region, share
from .optimizers import SCALARS, TOTAL
from .simd import UNIT_BYTES

MULTIPLY_ADDS = 200_000  # of a thread's part of a step, below which waiting for others costs more than they give


class Workspace(network.Workspace):
    """The buffers of both layouts; those of the second are made when a program asks for them."""

    def __init__(self, layout, rows, threads=1):
        super().__init__(layout, rows, threads)
        self._made = {}
        self.losses = network.aligned_zeros(feature_major.MOST_SHARDS * UNIT_BYTES, np.float64)  # each in its own unit

    def feature_major(self, kind, layout, rows, thread):
        """The `feature_major.Samples` or `Buffers` of a thread for exactly so many rows."""
        key = kind, rows, thread
        if key not in self._made:
            self._made[key] = kind(layout, rows)
        return self._made[key]

    def partial(self, layout, shard):
        """The address of a shard's gradient."""
        if shard not in self._made:
            self._made[shard] = network.aligned_zeros(layout.n_bytes, layout.dtype)
        return self._made[shard].ctypes.data

    def forget(self):
        """Free the second layout's buffers, when no program will run that was written for them."""
        self._made.clear()


class Code:
    """Programs laid end to end, as `entry` takes them: code (operations, WIDTH) and parts (programs, 4).

    A part is its program's first operation, their number, the rows of its block or 0, and in training the first of
    these rows that its operations 0 and 1 load; otherwise how many operations read samples where they lie.
    """

    def __init__(self, programs):
        """programs: (program, rows) or (program, rows, last of the part), in the order of the parts."""
        arrays = [program.array() for program, *_ in programs]
        lengths = np.array([len(a) for a in arrays], np.int64)
        self.code = np.concatenate(arrays)
        rest = np.array([(*block, 0)[:2] for _, *block in programs], np.int64)
        self.parts = np.column_stack([np.cumsum(lengths) - lengths, lengths, rest])


def block_sizes(layout, batches):
    """The different numbers of rows in the blocks that batches of these sizes split into."""
    sizes = set()
    for batch in batches:
        sizes |= {min(batch, layout.block_rows), batch % layout.block_rows} - {0}
    return sorted(sizes)


def train(library, layout, parameters, work, x, y, batch_size, input_scale, optimizer, gradient, vectors, threads=1):
    """A step of training: for each thread the programs before a batch, after it, and of its blocks.

    parameters, gradient and vectors, the optimizer's own, are addresses; x and y sources. SGD with a batch of one block
    updates the parameters in the gradient's own product and needs no gradient. A larger batch must see the same
    parameters throughout, so its blocks sum into `gradient` first.
    """
    update = ()
    if optimizer != "sgd":
        update = optimizer, work.cells[SCALARS:].ctypes.data, parameters, vectors
    one_block = batch_size <= layout.block_rows
    if one_block:
        target = Target(gradient, True, update) if update else Target(parameters)
    else:
        target = Target(gradient)
    sizes = block_sizes(layout, [batch_size, x.n % batch_size])
    arguments = library, layout, parameters, work, x, y
    kind = _kind(layout, batch_size)
    result = []
    for thread in range(threads):
        team, before, after = Team(threads, thread), Program(library), Program(library)
        if not one_block:
            team.meet(after, work)
        for layer in layout.layers:
            if one_block or layer.frozen:
                continue
            over_region(before, "zero", layer, team, (), [gradient] * 3)
            if update:
                Target(gradient, update=update).finish(after, layer, team)
            else:
                over_region(after, "add", layer, team, (), (parameters, parameters, gradient))
        result += [(before, 0), (after, 0)]
        result += [_block(kind, *arguments, rows, input_scale, target, True, team) for rows in sizes]
    code = Code(result)
    code.parts = code.parts.reshape(threads, -1, code.parts.shape[1])
    return code


def worth(layout, batch_size, threads):
    """How many of at most so many threads make a step of training faster."""
    rows, kind = min(batch_size, layout.block_rows), _kind(layout, batch_size)
    if kind == "single":
        return 1
    weights = sum((layer.fan_in + 1) * layer.fan_out for layer in layout.layers)
    most = max(1, min(threads, 3 * weights * rows // MULTIPLY_ADDS))
    if kind == "narrow":
        return min(most, len(feature_major.shards(rows)))
    return min(most, layout.layers[0].units)


def parted(layout, batch_size, threads):
    """The layout that so many threads train such batches in."""
    return layout.for_threads(threads) if threads > 1 and _kind(layout, batch_size) == "wide" else layout


def needs_gradient(layout, batch_size, optimizer):
    """Whether `train` needs a gradient vector."""
    return optimizer != "sgd" or batch_size > layout.block_rows


def gradients(library, layout, parameters, work, x, y, rows, input_scale, target):
    """A block of samples: its loss, and its gradient to the target."""
    return _block(_kind(layout, rows), library, layout, parameters, work, x, y, rows, input_scale, target)[0]


def _kind(layout, batch_size):
    """How the blocks of such batches are computed, the last and smaller ones too: "single", "narrow" or "wide"."""
    if batch_size == 1:
        return "single"
    return "narrow" if feature_major.pays(layout, min(batch_size, layout.block_rows)) else "wide"


def _block(kind, library, layout, parameters, work, x, y, rows, input_scale, target, ahead=False, team=ALONE):
    """(program, rows, first row): one thread's part of a block of samples.

    Each number is computed as one thread would, so the bits do not depend on how many there are. `ahead` fetches the
    next block's samples meanwhile.
    """
    ops = Program(library)
    arguments = layout, parameters, work, x, y, rows, input_scale, target, ahead, team
    first = _narrow(ops, *arguments) if kind == "narrow" else _wide(ops, *arguments, kind == "single")
    return ops, rows, first


def _wide(ops, layout, parameters, work, x, y, rows, input_scale, target, ahead, team, single):
    """`_block` with a row for each sample, or of a single one."""
    network.load(ops, x, rows, layout.sizes[0], work.x[team.thread], layout.x_ld, input_scale)
    network.load(ops, y, rows, layout.sizes[-1], work.y[team.thread], layout.layers[-1].row)
    fetches = network.prefetches((x, y), rows, rows) if ahead else []
    if single:  # no product takes long enough to fetch beside it
        for fetch in fetches:
            ops.add(*fetch)
        fetches = []
    network.forward(ops, layout, parameters, work, rows, team, single)
    network.loss(ops, layout, work, rows, team)
    network.deltas(ops, layout, parameters, work, rows, team, single)
    network.gradients(ops, layout, work, rows, target, team, single, fetches)
    return 0


def _narrow(ops, layout, parameters, work, x, y, rows, input_scale, target, ahead, team):
    """`_block` with a row for each neuron, a shard after the other, each thread its own; gives the first row.

    Where there are fewer shards than threads the first does them all. The others wait before and after, because each
    runs the programs around a batch for its own regions.
    """
    shards, whole = feature_major.shards(rows, UNIT_BYTES // layout.itemsize), team
    if len(shards) < team.threads:
        team = ALONE
        if whole.thread > 0:
            for _ in range(2):
                ops.add("unpad", 0)  # where the loads would be
            whole.meet(ops, work)
            whole.meet(ops, work)
            return 0
    mine = range(*share(len(shards), team, 1))
    first, stop = shards[mine[0]][0], shards[mine[-1]][1]
    samples = work.feature_major(feature_major.Samples, layout, stop - first, team.thread)
    feature_major.load(ops, layout, samples, x, y, input_scale)
    if team is not whole:
        whole.meet(ops, work)
    for fetch in network.prefetches((x, y), stop - first, rows) if ahead else []:
        ops.add(*fetch)
    partials = [work.partial(layout, i) for i in range(len(shards))] if len(shards) > 1 else []
    losses, total = work.losses.ctypes.data, work.cells[TOTAL:].ctypes.data
    for i in mine:
        begin, end = shards[i]
        own = work.feature_major(feature_major.Buffers, layout, end - begin, team.thread)
        inputs, targets = (at + (begin - first) * layout.itemsize for at in (samples.x, samples.y))
        feature_major.forward(ops, layout, parameters, own, inputs, samples.ld)
        feature_major.loss(ops, layout, work, own, targets, samples.ld, losses + i * UNIT_BYTES if partials else total)
        feature_major.deltas(ops, layout, parameters, own)
        into = (partials[i], True) if partials else (target.into, target.fresh)
        feature_major.gradient(ops, layout, work, own, inputs, samples.ld, *into)
    team.meet(ops, work)
    if partials and team.thread == 0:
        ops.add("collect", len(shards), losses, total)
    feature_major.update(ops, layout, partials, target, team)
    if team is not whole:
        whole.meet(ops, work)
    return first


def predict(library, layout, parameters, work, x, y, rows, input_scale):
    """A block of samples: its outputs, and its loss if there are targets y."""
    ops = Program(library)
    network.load(ops, x, rows, layout.sizes[0], work.x[0], layout.x_ld, input_scale)
    if y is not None:
        network.load(ops, y, rows, layout.sizes[-1], work.y[0], layout.layers[-1].row)
    network.forward(ops, layout, parameters, work, rows, single=rows == 1)
    if y is not None:
        network.loss(ops, layout, work, rows)
    _give(ops, layout, work, rows)
    return ops


def predict_in_place(library, layout, parameters, work, x, rows):
    """(program, rows, operations that read x) as `predict`, for samples in the network's dtype that need no scale."""
    ops = Program(library)
    n = network.first_product(ops, layout, parameters, work, rows, x)
    network.forward(ops, layout, parameters, work, rows, multiplied=True)
    _give(ops, layout, work, rows)
    return ops, rows, n


def _give(ops, layout, work, rows):
    """The outputs of a block, to where `entry` says."""
    last = layout.layers[-1]
    ops.add("unpad", rows, last.fan_out, work.a[0][-1], last.row, 0, last.fan_out * layout.itemsize)
