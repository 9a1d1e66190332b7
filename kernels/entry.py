"""Every function that Python calls. Only these are compiled for their own sake and cached.

Arrays: parameters, gradient, work (1-D) in the network's dtype; net, layers int64 (see `network`); inputs as
(n, n_inputs) in that dtype or as uint8, targets as (n, n_out) in that dtype or as int32 class indices (n,); of each
pair one is empty. Everything is C-ordered and checked before it comes here.
"""

import numpy as np
from numba import njit, prange

from .batches import draw_order
from .cache import cached
from .library import SIZE, fill_table
from .network import (
    BLOCK_ROWS,
    FAN_OUT,
    ITEMSIZE,
    LD,
    N_LAYERS,
    A,
    accumulate,
    block_loss,
    forward,
    load_inputs,
    load_targets,
)
from .optimizers import sgd_step
from .simd import address

# The vector `run` of `train`: what to do, and how far it is.
BATCH_SIZE, EPOCHS, ORDER, EPOCH, STEP, STATUS = range(6)
AS_IS, DRAWN, GIVEN = range(3)  # values of ORDER
RUNNING, DIVERGED = range(2)  # values of STATUS

_NO_ORDER = np.empty(0, np.int32)


@cached
def fill_library(dt, table):
    """Fill the int64 table (library.SIZE,) with the vector functions' addresses, for the dtype of the scalar dt."""
    fill_table(dt, address(table))


_libraries = {}


def library(dtype):
    """The library's table for a dtype. Its functions live as long as the process."""
    dtype = np.dtype(dtype)
    if dtype not in _libraries:
        table = np.zeros(SIZE, np.int64)
        fill_library(dtype.type(0), table)
        _libraries[dtype] = table
    return _libraries[dtype]


@njit(nogil=True)
def _finish_epoch(parameters, snapshot, random):
    """Keep the state in the snapshot if every parameter is finite (x - x is zero); whether it is."""
    total = parameters[0] * 0
    for i in range(parameters.size):
        total += abs(parameters[i] - parameters[i])
    if total != 0:
        return False
    for i in range(parameters.size):
        snapshot[i] = parameters[i]
    random[1] = random[0]
    return True


@cached
def train(net, layers, parameters, gradient, snapshot, work, data, order, random, rates, run, losses, steps):
    """Do at most `steps` batches of SGD, going on from where `run` says.

    data is (x, x_bytes, targets, labels). order is int32: (1, n) to draw into, (epochs, n) given, or (1, 0).
    rates is float64 (learning rate, input scale). random is uint64 (2,): the generator's state, and what it was at
    the end of the last finished epoch; snapshot holds the parameters of that moment. losses[epoch], float64, sums
    the batches' losses and becomes their mean when the epoch ends. An epoch that ends with a loss or parameter
    that is not finite sets STATUS to DIVERGED and leaves the snapshot.
    """
    x, x_bytes, _, _ = data
    n = max(x.shape[0], x_bytes.shape[0])
    input_scale = parameters.dtype.type(rates[1])
    while steps > 0 and run[EPOCH] < run[EPOCHS]:
        steps -= 1
        epoch = run[EPOCH]
        indices = order[epoch if run[ORDER] == GIVEN else 0]
        if run[ORDER] == DRAWN and run[STEP] == 0:
            draw_order(indices, random)
        first = run[STEP] * run[BATCH_SIZE]
        count = min(run[BATCH_SIZE], n - first)
        losses[epoch] += sgd_step(
            net, layers, parameters, gradient, work, data, indices, first, count, rates[0], input_scale
        )
        run[STEP] += 1
        if first + count == n:
            losses[epoch] /= n
            if not (losses[epoch] - losses[epoch] == 0 and _finish_epoch(parameters, snapshot, random)):
                run[STATUS] = DIVERGED
                return
            run[EPOCH] += 1
            run[STEP] = 0


@cached
def gradients(net, layers, parameters, gradient, work, data, input_scale):
    """gradient, zeros before, becomes the mean gradient over all samples; returns their mean loss."""
    x, x_bytes, _, _ = data
    n = max(x.shape[0], x_bytes.shape[0])
    scale = parameters.dtype.type(input_scale)
    into = address(gradient)
    return accumulate(net, layers, parameters, work, data, _NO_ORDER, 0, n, 1.0 / n, scale, into) / n


@njit(nogil=True)
def _copy_outputs(net, layers, work, rows, out, first):
    """out[first : first + rows] = the last layer's outputs in work."""
    layer = layers[net[N_LAYERS] - 1]
    for i in range(rows):
        a = (layer[A] + i * layer[LD]) // net[ITEMSIZE]
        for j in range(layer[FAN_OUT]):
            out[first + i, j] = work[a + j]


@cached
def evaluate(net, layers, parameters, work, data, input_scale, out):
    """out = the network's outputs, (n, n_out); returns the mean loss over all samples."""
    x, x_bytes, targets, labels = data
    scale = parameters.dtype.type(input_scale)
    total = 0.0
    for first in range(0, out.shape[0], net[BLOCK_ROWS]):
        rows = min(net[BLOCK_ROWS], out.shape[0] - first)
        x_rows, stride = load_inputs(net, work, x, x_bytes, _NO_ORDER, first, rows, scale)
        load_targets(net, layers, work, targets, labels, _NO_ORDER, first, rows)
        forward(net, layers, address(parameters), address(work), rows, x_rows, stride)
        total += block_loss(net, layers, address(work), rows, 0.0)
        _copy_outputs(net, layers, work, rows, out, first)
    return total / out.shape[0]


@njit(nogil=True)
def _predict_rows(net, layers, parameters, work, x, x_bytes, input_scale, first, stop, out):
    """out[first:stop] = the network's outputs."""
    scale = parameters.dtype.type(input_scale)
    for start in range(first, stop, net[BLOCK_ROWS]):
        rows = min(net[BLOCK_ROWS], stop - start)
        x_rows, stride = load_inputs(net, work, x, x_bytes, _NO_ORDER, start, rows, scale)
        forward(net, layers, address(parameters), address(work), rows, x_rows, stride)
        _copy_outputs(net, layers, work, rows, out, start)


@cached
def predict(net, layers, parameters, work, x, x_bytes, input_scale, out):
    """out = the network's outputs, (n, n_out)."""
    _predict_rows(net, layers, parameters, work, x, x_bytes, input_scale, 0, out.shape[0], out)


@cached(parallel=True)
def predict_parallel(net, layers, parameters, works, x, x_bytes, input_scale, out):
    """`predict` on len(works) threads, each with a workspace of its own and whole blocks of rows: the same bits."""
    rows = net[BLOCK_ROWS]
    blocks = (out.shape[0] + rows - 1) // rows
    threads = works.shape[0]
    for t in prange(threads):
        first, stop = blocks * t // threads * rows, min(blocks * (t + 1) // threads * rows, out.shape[0])
        _predict_rows(net, layers, parameters, works[t], x, x_bytes, input_scale, first, stop, out)
