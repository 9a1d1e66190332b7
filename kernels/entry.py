"""Every function that Python calls. Only these are compiled for their own sake and cached.

Arrays: parameters, gradient, work (1-D) in the network's dtype; net, layers int64 (see `network`); inputs as
(n, n_inputs) in that dtype or as uint8, targets as (n, n_out) in that dtype or as int32 class indices (n,); of each
pair one is empty. Everything is C-ordered and checked before it comes here.
"""

import numpy as np
from numba import njit, prange

from .batches import draw_order
from .cache import cached
from .library import SIZE, UNPAD, call_unpad, fill_table
from .network import (
    BLOCK_ROWS,
    FAN_OUT,
    ITEMSIZE,
    LD,
    LIB,
    N_LAYERS,
    WORK,
    A,
    accumulate,
    block_loss,
    forward,
    load_inputs,
    load_targets,
    sources,
)
from .optimizers import sgd_step
from .simd import address

# The vector `run` of `train`: what to do, and how far it is.
BATCH_SIZE, EPOCHS, ORDER, EPOCH, STEP, STATUS = range(6)
AS_IS, DRAWN, GIVEN = range(3)  # values of ORDER
RUNNING, DIVERGED = range(2)  # values of STATUS


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
    source = sources(data)
    n = source[0]
    p, buffer = address(parameters), address(work)
    while steps > 0 and run[EPOCH] < run[EPOCHS]:
        steps -= 1
        epoch = run[EPOCH]
        indices = order[epoch if run[ORDER] == GIVEN else 0]
        if run[ORDER] == DRAWN and run[STEP] == 0:
            draw_order(indices, random)
        first = run[STEP] * run[BATCH_SIZE]
        count = min(run[BATCH_SIZE], n - first)
        at = address(indices) if run[ORDER] != AS_IS else 0
        losses[epoch] += sgd_step(net, layers, p, gradient, buffer, source, at, first, count, rates[0], rates[1])
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
    source = sources(data)
    n = source[0]
    p, buffer, into = address(parameters), address(work), address(gradient)
    return accumulate(net, layers, p, buffer, source, 0, 0, n, 1.0 / n, input_scale, into) / n


@njit(nogil=True)
def _outputs(net, layers, work, rows, out, out_row):
    """The last layer's outputs in work, without padding, to the address `out`."""
    layer = layers[net[N_LAYERS] - 1]
    call_unpad(net[LIB], UNPAD, rows, layer[FAN_OUT] * net[ITEMSIZE], work + layer[A], layer[LD], out, out_row)


@cached
def evaluate(net, layers, parameters, work, data, input_scale, out):
    """out = the network's outputs, (n, n_out); returns the mean loss over all samples."""
    source = sources(data)
    p, buffer = address(parameters), address(work)
    out_row = out.shape[1] * net[ITEMSIZE]
    total = 0.0
    for first in range(0, out.shape[0], net[BLOCK_ROWS]):
        rows = min(net[BLOCK_ROWS], out.shape[0] - first)
        x, x_row = load_inputs(net, layers, buffer, source, 0, first, rows, input_scale)
        load_targets(net, layers, buffer, source, 0, first, rows)
        forward(net, layers, p, buffer, rows, x, x_row)
        total += block_loss(net, layers, buffer, rows, 0.0)
        _outputs(net, layers, buffer, rows, address(out) + first * out_row, out_row)
    return total / out.shape[0]


@njit(nogil=True)
def _predict_rows(net, layers, parameters, work, source, input_scale, first, stop, out, out_row):
    """out[first:stop] = the network's outputs; parameters, work and out are addresses."""
    for start in range(first, stop, net[BLOCK_ROWS]):
        rows = min(net[BLOCK_ROWS], stop - start)
        x, x_row = load_inputs(net, layers, work, source, 0, start, rows, input_scale)
        forward(net, layers, parameters, work, rows, x, x_row)
        _outputs(net, layers, work, rows, out + start * out_row, out_row)


@cached
def predict(net, layers, parameters, work, data, input_scale, out):
    """out = the network's outputs, (n, n_out); the targets in data are empty."""
    n, out_row = out.shape[0], out.shape[1] * net[ITEMSIZE]
    p, buffer = address(parameters), address(work)
    _predict_rows(net, layers, p, buffer, sources(data), input_scale, 0, n, address(out), out_row)


@cached(parallel=True)
def predict_parallel(net, layers, parameters, works, data, input_scale, out):
    """`predict` on len(works) threads, each with a workspace of its own and whole blocks of rows: the same bits."""
    rows, n, out_row = net[BLOCK_ROWS], out.shape[0], out.shape[1] * net[ITEMSIZE]
    blocks = (n + rows - 1) // rows
    threads = works.shape[0]
    source = sources(data)
    p, buffers, outputs = address(parameters), address(works), address(out)
    for t in prange(threads):
        first, stop = blocks * t // threads * rows, min(blocks * (t + 1) // threads * rows, n)
        work = buffers + t * net[WORK]
        _predict_rows(net, layers, p, work, source, input_scale, first, stop, outputs, out_row)
