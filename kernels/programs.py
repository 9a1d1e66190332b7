"""Complete programs over a sample set: one step of training, prediction, evaluation, gradients."""

import numpy as np

from . import feature_major, network
from .network import Program, Target
from .optimizers import SCALARS


class Workspace(network.Workspace):
    """The buffers of both layouts; those of the second are made when a program asks for them."""

    def __init__(self, layout, rows):
        super().__init__(layout, rows)
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
    """Programs laid end to end, as `entry` takes them: code (operations, WIDTH) and parts (programs, 3)."""

    def __init__(self, programs):
        """programs: (program, rows of its block or 0), in the order of the parts."""
        arrays = [program.array() for program, _ in programs]
        lengths = np.array([len(a) for a in arrays], np.int64)
        self.code = np.concatenate(arrays)
        rows = np.array([rows for _, rows in programs], np.int64)
        self.parts = np.stack([np.cumsum(lengths) - lengths, lengths, rows], axis=1)


def block_sizes(layout, batches):
    """The different numbers of rows in the blocks that batches of these sizes split into."""
    sizes = set()
    for batch in batches:
        sizes |= {min(batch, layout.block_rows), batch % layout.block_rows} - {0}
    return sorted(sizes)


def train(library, layout, parameters, work, x, y, batch_size, input_scale, optimizer, gradient, vectors):
    """A step of training: the programs before a batch, after it, and of its blocks.

    parameters, gradient and vectors, the optimizer's own, are addresses; x and y sources. SGD with a batch of one block
    updates the parameters in the gradient's own product and needs no gradient. A larger batch must see the same
    parameters throughout, so its blocks sum into `gradient` first.
    """
    before, after = Program(library), Program(library)
    update = ()
    if optimizer != "sgd":
        update = optimizer, work.cells[SCALARS:].ctypes.data, parameters, vectors
    if batch_size <= layout.block_rows:
        target = Target(gradient, True, update) if update else Target(parameters)
    else:
        target = Target(gradient)
        before.add("zero", 1, layout.n_bytes, 0, gradient, gradient, gradient)
        for layer in layout.layers:
            if layer.frozen:
                continue
            if update:
                Target(gradient, update=update).finish(after, layer, 0, layer.fan_in)
            else:
                w = parameters + layer.w
                after.add("add", 1, (layer.fan_in + 1) * layer.ld, 0, w, w, gradient + layer.w)
    sizes = block_sizes(layout, [batch_size, x.n % batch_size])
    arguments = library, layout, parameters, work, x, y
    blocks = [(gradients(*arguments, rows, input_scale, target, ahead=True), rows) for rows in sizes]
    return Code([(before, 0), (after, 0), *blocks])


def needs_gradient(layout, batch_size, optimizer):
    """Whether `train` needs a gradient vector."""
    return optimizer != "sgd" or batch_size > layout.block_rows


def gradients(library, layout, parameters, work, x, y, rows, input_scale, target, ahead=False):
    """A block of samples: its loss, and its gradient to the target; `ahead` fetches the next block meanwhile."""
    ops = Program(library)
    fetches = network.prefetches(x, rows) if ahead else []
    if feature_major.pays(layout, rows):
        own = work.feature_major(layout, rows)
        feature_major.load(ops, layout, own, x, y, input_scale, 0, rows)
        for fetch in fetches:
            ops.add(*fetch)
        feature_major.forward(ops, layout, parameters, own, 0, rows)
        feature_major.loss(ops, layout, work, own, 0, rows)
        feature_major.deltas(ops, layout, parameters, own, 0, rows)
        feature_major.gradients(ops, layout, work, own, target)
        return ops
    network.load(ops, x, rows, layout.sizes[0], work.x, layout.x_ld, input_scale)
    network.load(ops, y, rows, layout.sizes[-1], work.y, layout.layers[-1].row)
    if rows == 1:  # no product takes long enough to fetch beside it
        for fetch in fetches:
            ops.add(*fetch)
    network.forward(ops, layout, parameters, work, rows)
    network.loss(ops, layout, work, rows)
    network.deltas(ops, layout, parameters, work, rows)
    network.gradients(ops, layout, work, rows, target, between=fetches)
    return ops


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
