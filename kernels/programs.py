"""Complete programs over a sample set: one step of training, prediction, evaluation, gradients."""

import numpy as np

from . import feature_major, network
from .network import Program, Target
from .optimizers import SCALARS
from .simd import UNIT_BYTES

MULTIPLY_ADDS = 200_000  # of a thread's part of a step, below which waiting for others costs more than they give


class Workspace(network.Workspace):
    """The buffers of both layouts; those of the second are made when a program asks for them."""

    def __init__(self, layout, rows, threads=1):
        super().__init__(layout, rows, threads)
        self._feature_major = {}

    def feature_major(self, layout, rows):
        """The second layout's buffers for blocks of exactly `rows` samples."""
        if rows not in self._feature_major:
            self._feature_major[rows] = feature_major.Buffers(layout, rows)
        return self._feature_major[rows]

    def forget(self):
        """Free the second layout's buffers, when no program will run that was written for them."""
        self._feature_major.clear()


class Code:
    """Programs laid end to end, as `entry` takes them: code (operations, WIDTH) and parts (programs, 4).

    A part is its program's first operation, their number, the rows of its block or 0, and the first of these rows that
    its operations 0 and 1 load, or -1 if they load none.
    """

    def __init__(self, programs):
        """programs: (program, rows) or (program, rows, first row), in the order of the parts."""
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
    result = []
    for thread in range(threads):
        before, after = Program(library), Program(library)
        for layer in layout.layers:
            first, stop = _share(layer.fan_in, threads, thread)
            if one_block or layer.frozen or first == stop:
                continue
            into, w = (vector + layer.w + first * layer.ld for vector in (gradient, parameters))
            n_bytes = (stop - first + (stop == layer.fan_in)) * layer.ld
            before.add("zero", 1, n_bytes, 0, into, into, into)
            if update:
                Target(gradient, update=update).finish(after, layer, first, stop)
            else:
                after.add("add", 1, n_bytes, 0, w, w, into)
        result += [(before, 0), (after, 0)]
        for rows in sizes:
            ahead = min(batch_size, rows) if one_block else rows
            result.append(_block(*arguments, rows, input_scale, target, ahead, threads, thread))
    code = Code(result)
    code.parts = code.parts.reshape(threads, -1, code.parts.shape[1])
    return code


def _share(n, threads, thread, least=4):
    """A thread's rows of n, the first and the first behind them: at least so many, or none."""
    sharing = max(1, min(threads, n // least))
    return (n * thread // sharing, n * (thread + 1) // sharing) if thread < sharing else (0, 0)


def _samples(layout, rows, threads, thread):
    """As `_share`, of a block's samples: whole units in the second layout."""
    if not feature_major.pays(layout, rows):
        return _share(rows, threads, thread, 2)
    unit = UNIT_BYTES // layout.itemsize
    return tuple(min(edge * unit, rows) for edge in _share(-(-rows // unit), threads, thread, 1))


def worth(layout, batch_size, threads):
    """How many of at most so many threads make a step of training faster."""
    rows = min(batch_size, layout.block_rows)
    weights = sum((layer.fan_in + 1) * layer.fan_out for layer in layout.layers)
    most = max(1, min(threads, 3 * weights * rows // MULTIPLY_ADDS))
    while _samples(layout, rows, most, most - 1)[1] == 0:
        most -= 1
    return most


def needs_gradient(layout, batch_size, optimizer):
    """Whether `train` needs a gradient vector."""
    return optimizer != "sgd" or batch_size > layout.block_rows


def gradients(library, layout, parameters, work, x, y, rows, input_scale, target):
    """A block of samples: its loss, and its gradient to the target."""
    return _block(library, layout, parameters, work, x, y, rows, input_scale, target)[0]


def _block(library, layout, parameters, work, x, y, rows, input_scale, target, ahead=0, threads=1, thread=0):
    """(program, rows, first row): one thread's part of a block of samples.

    First its share of the samples, through the network and back; behind a barrier its share of each W's rows, whose
    gradient takes all samples. Each number is computed as one thread would, so all have the same bits. `ahead` fetches
    the samples that lie so many further on meanwhile.
    """
    ops, lanes_hold_samples = Program(library), feature_major.pays(layout, rows)
    first, stop = _samples(layout, rows, threads, thread)
    n, alone = stop - first, threads == 1
    own = work.feature_major(layout, rows) if lanes_hold_samples else None
    total = None if alone else work.nowhere[8 * thread :].ctypes.data
    fetches = network.prefetches(x, n, ahead) if ahead else []
    if lanes_hold_samples and n:
        feature_major.load(ops, layout, own, x, y, input_scale, first, n)
        for fetch in fetches:
            ops.add(*fetch)
        feature_major.forward(ops, layout, parameters, own, first, n)
        feature_major.loss(ops, layout, work, own, first, n, total)
        feature_major.deltas(ops, layout, parameters, own, first, n)
    elif n:
        x_skip, y_skip = first * layout.x_ld, first * layout.layers[-1].row
        network.load(ops, x, n, layout.sizes[0], work.x + x_skip, layout.x_ld, input_scale)
        network.load(ops, y, n, layout.sizes[-1], work.y + y_skip, layout.layers[-1].row)
        if rows == 1:  # no product takes long enough to fetch beside it
            for fetch in fetches:
                ops.add(*fetch)
        network.forward(ops, layout, parameters, work, n, first)
        network.loss(ops, layout, work, n, first, total)
        network.deltas(ops, layout, parameters, work, n, first, thread)

    def share(fan_in):
        if rows == 1:  # in one operation
            return (0, fan_in) if thread == 0 else (0, 0)
        return _share(fan_in, threads, thread)

    if not alone:
        ops.add("barrier", work.job.ctypes.data, threads)
        if thread == 0:  # the sum of all losses, in the order of one thread
            if lanes_hold_samples:
                feature_major.loss(ops, layout, work, own, 0, rows, d=own.scratch)
            else:
                network.loss(ops, layout, work, rows, d=work.scratch)
    if lanes_hold_samples:
        feature_major.gradients(ops, layout, work, own, target, share, thread)
    else:
        network.gradients(ops, layout, work, rows, target, share, thread, fetches if rows > 1 else ())
    return ops, rows, first if n else -1


def predict(library, layout, parameters, work, x, y, rows, input_scale):
    """A block of samples: its outputs, and its loss if there are targets y."""
    ops = Program(library)
    network.load(ops, x, rows, layout.sizes[0], work.x, layout.x_ld, input_scale)
    if y is not None:
        network.load(ops, y, rows, layout.sizes[-1], work.y, layout.layers[-1].row)
    network.forward(ops, layout, parameters, work, rows)
    if y is not None:
        network.loss(ops, layout, work, rows)
    last = layout.layers[-1]
    ops.add("unpad", rows, last.fan_out, work.a[-1], last.row, 0, last.fan_out * layout.itemsize)
    return ops
