"""The kernels, called from NumPy arrays: what the tests of kernels/ share."""

import numpy as np
from numba import njit

from fastnn.kernels import activations, entry, library, losses, matmul, network, simd
from fastnn.kernels.simd import address

DTYPES = ("float32", "float64")
EPS = {"float32": 2.0**-23, "float64": 2.0**-52}


def lib(dtype):
    """The address of the library's table."""
    return entry.library(dtype).ctypes.data


def padded(array):
    """A copy of a 2-D array with rows padded by zeros to whole units, aligned; and its row stride in bytes."""
    itemsize = array.dtype.itemsize
    row = -(-array.shape[1] * itemsize // simd.UNIT_BYTES) * simd.UNIT_BYTES
    out = network.aligned_zeros(array.shape[0] * row, array.dtype).reshape(array.shape[0], -1)
    out[:, : array.shape[1]] = array
    return out


@njit
def call_matmul(lib, a, a_row, a_k, m, k, b, c0, c0_row, c, units):
    b_row, c_row = b.shape[1] * b.itemsize, c.shape[1] * c.itemsize
    matmul.matmul(lib, m, units, k, address(a), a_row, a_k, address(b), b_row, address(c0), c0_row, address(c), c_row)


@njit
def call_matmul_nt(lib, a, b, n, k, zeros, c, panel):
    size = a.itemsize
    a_row, b_row, c_row = a.shape[1] * size, b.shape[1] * size, c.shape[1] * size
    matmul.matmul_nt(
        lib, size, a.shape[0], n, k, address(a), a_row, address(b), b_row, address(zeros), address(c), c_row,
        address(panel),
    )  # fmt: skip


@njit
def call_elementwise(lib, place, out, x, y):
    library.call_elementwise(lib, place, out.size * out.itemsize, address(out), address(x), address(y))


@njit
def call_summed(lib, place, scale, rows, n, d, x, y):
    return library.call_summed(lib, place, scale, rows, n, address(d), address(x), address(y))


@njit
def call_tile(lib, place, a, a_row, a_k, b, b_k, k, c):
    row = c.shape[1] * c.itemsize
    library.call_tile(lib, place, address(a), a_row, a_k, address(b), b_k, k, address(c), row, address(c), row)


@njit
def call_transpose(lib, rows, source, zeros, out):
    size = source.itemsize
    library.call_transpose(
        lib, library.TRANSPOSE, rows, address(source), source.shape[1] * size, address(zeros), address(out),
        out.shape[1] * size,
    )  # fmt: skip


def activate(name, z, dtype):
    """The activation's value, at any number of points."""
    x = padded(np.asarray(z, dtype).reshape(1, -1))
    out = padded(np.empty_like(x))
    call_elementwise(lib(dtype), library.VALUE + activations.CODES[name], out, x, x)
    return out[0, : np.size(z)]


def slope(name, d, a, dtype):
    """d times the activation's derivative, from its outputs a."""
    d, a = (padded(np.asarray(v, dtype).reshape(1, -1)) for v in (d, a))
    call_elementwise(lib(dtype), library.SLOPE + activations.CODES[name], d, d, a)
    return d[0]


def loss(name, a, y, scale, dtype):
    """(summed loss, scaled derivative with its padding)."""
    d = np.full_like(padded(np.asarray(a, dtype)), np.nan)
    place = library.LOSS + losses.CODES[name]
    a_padded, y_padded = padded(np.asarray(a, dtype)), padded(np.asarray(y, dtype))
    a_padded[:, a.shape[1] :] = 0.5  # what a sigmoid leaves in the padding must not count
    return call_summed(lib(dtype), place, scale, a.shape[0], a.shape[1], d, a_padded, y_padded), d


class Net:
    """A random network in the kernels' memory, and its float64 twin for `reference`."""

    def __init__(self, sizes, names, dtype, seed=0, loss="quadratic", frozen=()):
        rng = np.random.default_rng(seed)
        codes = [activations.CODES[name] for name in names]
        self.sizes, self.names, self.dtype = sizes, names, np.dtype(dtype)
        self.net, self.table = network.layout(sizes, codes, losses.CODES[loss], dtype, frozen)
        self.net[network.LIB] = lib(dtype)
        self.parameters = network.aligned_zeros(self.net[network.N_BYTES], dtype)
        self.work = network.workspace(self.net, dtype)
        for w, b in self.views(self.parameters):
            w[...] = rng.standard_normal(w.shape) / np.sqrt(w.shape[0])
            b[...] = rng.standard_normal(b.shape) / 2

    def views(self, vector):
        """[(W (fan_in, fan_out), b), ..] of a vector laid out like the parameters."""
        size = self.dtype.itemsize
        for row in self.table:
            w, b, ld = row[[network.W, network.B, network.LD]] // size
            n_in, n_out = row[[network.FAN_IN, network.FAN_OUT]]
            yield vector[w:b].reshape(n_in, ld)[:, :n_out], vector[b : b + n_out]

    @property
    def twin(self):
        """The network for `reference`."""
        pairs = self.views(self.parameters)
        return [(w.astype("f8"), b.astype("f8"), name) for (w, b), name in zip(pairs, self.names, strict=True)]

    def padding(self, vector):
        """The elements of a vector that belong to no weight and no bias."""
        used = np.zeros(vector.size, bool)
        for w, b in self.views(used):
            w[...], b[...] = True, True
        return vector[~used]

    def data(self, x, y):
        """(x, x_bytes, targets, labels) for the entries."""
        is_bytes, is_labels = x.dtype == np.uint8, y.ndim == 1
        return (
            np.empty((0, x.shape[1]), self.dtype) if is_bytes else x.astype(self.dtype),
            x if is_bytes else np.empty((0, x.shape[1]), np.uint8),
            np.empty((0, self.sizes[-1]), self.dtype) if is_labels else y.astype(self.dtype),
            y.astype(np.int32) if is_labels else np.empty(0, np.int32),
        )
