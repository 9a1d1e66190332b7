"""The kernels, called from NumPy arrays: what the tests of kernels/ share."""

import numpy as np
from numba import njit

from fastnn.kernels import entry, library, network, optimizers, programs, simd
from fastnn.optimizers import SGD

DTYPES = ("float32", "float64")
EPS = {"float32": 2.0**-23, "float64": 2.0**-52}


def padded(array):
    """A copy of a 2-D array with rows padded by zeros to whole units, aligned."""
    row = network.padded(array.shape[1] * array.dtype.itemsize)
    out = network.aligned_zeros(array.shape[0] * row, array.dtype).reshape(array.shape[0], -1)
    out[:, : array.shape[1]] = array
    return out


@njit
def _run(code):
    library.run_program(simd.address(code), code.shape[0])


def run(dtype, write):
    """Run the program that write(ops) writes."""
    ops = network.Program(entry.library(dtype))
    write(ops)
    _run(ops.array())


def call(dtype, name, *arguments):
    """Run one operation; an array stands for its address."""
    addresses = [a.ctypes.data if isinstance(a, np.ndarray) else a for a in arguments]
    run(dtype, lambda ops: ops.add(name, *addresses))


def activate(name, z, dtype):
    """The activation's value, at any number of points."""
    x = padded(np.asarray(z, dtype).reshape(1, -1))
    out = padded(np.empty_like(x))
    call(dtype, name, 1, x.nbytes, 0, out, x, x)
    return out[0, : np.size(z)]


def slope(name, d, a, dtype):
    """d times the activation's derivative, from its outputs a."""
    d, a = (padded(np.asarray(v, dtype).reshape(1, -1)) for v in (d, a))
    call(dtype, f"{name}_slope", 1, d.nbytes, 0, d, d, a)
    return d[0]


def loss(name, a, y, scale, dtype):
    """(summed loss, scaled derivative with its padding)."""
    a_padded, y_padded = padded(np.asarray(a, dtype)), padded(np.asarray(y, dtype))
    a_padded[:, a.shape[1] :] = 0.5  # what a sigmoid leaves in the padding must not count
    d, scale, total = np.full_like(a_padded, np.nan), np.array([scale]), np.array([7.0])
    y_apart = np.hstack([y_padded, y_padded])  # its rows lie further apart than d's
    call(dtype, name, *a.shape, d.strides[0], d, a_padded, y_apart, y_apart.strides[0], scale, total)
    return total[0] - 7.0, d


class Net:
    """A random network in the kernels' memory, and its float64 twin for `reference`."""

    def __init__(self, sizes, names, dtype, seed=0, loss="quadratic", frozen=()):
        rng = np.random.default_rng(seed)
        self.layout = network.Layout(sizes, names, loss, dtype, frozen)
        self.dtype = self.layout.dtype
        self.parameters = network.aligned_zeros(self.layout.n_bytes, dtype)
        self.library = entry.library(dtype)
        for w, b in self.layout.views(self.parameters):
            w[...] = rng.standard_normal(w.shape) / np.sqrt(w.shape[0])
            b[...] = rng.standard_normal(b.shape) / 2

    @property
    def twin(self):
        """The network for `reference`."""
        pairs = zip(self.layout.views(self.parameters), self.layout.layers, strict=True)
        return [(w.astype("f8"), b.astype("f8"), layer.activation) for (w, b), layer in pairs]

    def padding(self, vector):
        """The elements of a vector that belong to no weight and no bias."""
        used = np.zeros(vector.size, bool)
        for w, b in self.layout.views(used):
            w[...], b[...] = True, True
        return vector[~used]

    def sweep(self, x, y=None, out=None, gradient=None, scale=1.0):
        """One pass over the samples: fills out, adds the mean gradient to gradient; returns the mean loss."""
        work = programs.Workspace(self.layout, self.layout.block_rows)
        arrays = [x, y, out]
        sources = [None if a is None else network.Source.of(a) for a in arrays[:2]]
        arguments = self.library, self.layout, self.parameters.ctypes.data, work, *sources
        blocks = []
        for rows in programs.block_sizes(self.layout, [len(x)]):
            if gradient is None:
                blocks.append((programs.predict(*arguments, rows, scale), rows))
            else:
                blocks.append((programs.gradients(*arguments, rows, scale, network.Target(gradient.ctypes.data)), rows))
        code = programs.Code(blocks)
        work.cells[[optimizers.SCALE, optimizers.TOTAL]] = 1 / len(x), 0
        places = np.array([(0, 0) if a is None else (a.ctypes.data, a.strides[0]) for a in arrays], np.int64)
        entry.sweep(code.code, code.parts, places, len(x), self.layout.block_rows)
        return work.cells[optimizers.TOTAL] / len(x)

    def train(self, x, y, order, batch_size, rate, epochs, mode, scale=1.0, seed=1, steps=2):
        """(losses, snapshot, state of the random numbers, run) after training by SGD, `steps` batches a call."""
        layout, n = self.layout, len(x)
        work = programs.Workspace(layout, min(batch_size, layout.block_rows))
        gradient, nothing = network.aligned_zeros(layout.n_bytes, self.dtype), np.empty(0, self.dtype)
        sources = network.Source.of(x), network.Source.of(y)
        arguments = self.library, layout, self.parameters.ctypes.data, work, *sources
        code = programs.train(*arguments, batch_size, scale, "sgd", gradient.ctypes.data, [])
        run = np.array([n, batch_size, layout.block_rows, epochs, mode, 0, 0, 0])
        losses, snapshot, random = np.zeros(epochs), self.parameters.copy(), np.array([seed, seed], np.uint64)
        places = np.array([(s.address, s.row) for s in sources], np.int64)
        settings = SGD(rate)._settings()
        live, kept = (self.parameters, nothing), (snapshot, nothing)
        while run[entry.EPOCH] < epochs and run[entry.STATUS] == entry.RUNNING:
            entry.train(
                code.code,
                code.parts,
                places,
                work.cells,
                work.job,
                live,
                kept,
                order,
                random,
                settings,
                run,
                losses,
                steps,
            )
        return losses, snapshot, random, run
