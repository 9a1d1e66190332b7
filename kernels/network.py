"""The network in memory, and one batch through it: forward, loss, delta backpropagation.

One flat vector holds every parameter. Row l of the integer table `layers` says where layer l's arrays lie, in bytes
from the start of the parameters or of the buffer `work`:

    W   parameters + W    (fan_in, ld), C order: W[k, j] from neuron k to neuron j
    b   parameters + B    (ld,)
    a   work + A          (block_rows, ld), the layer's outputs
    d   work + D          (block_rows, ld), dC/dz

ld is fan_out padded to whole units of 64 bytes (LD counts its bytes); the padding of W, b and d is zero. The vector
`net` describes the whole network, the shared parts of `work`, and where the library's table is. Shapes, activations
and the loss are data here, so one compilation serves every network.
"""

import itertools

import numpy as np
from numba import njit

from .library import (
    ADD,
    GATHER,
    GATHER_BYTES,
    LOSS,
    ONE_HOT,
    SLOPE,
    VALUE,
    call_elementwise,
    call_gather,
    call_one_hot,
    call_summed,
)
from .matmul import matmul, matmul_nt
from .simd import TILE_UNITS, UNIT_BYTES, address

FAN_IN, FAN_OUT, LD, W, B, ACTIVATION, FROZEN, A, D = range(9)
N_LAYERS, N_BYTES, ITEMSIZE, LOSS_CODE, BLOCK_ROWS, X_LD, X, Y, PANEL, ZEROS, ONE, ROW, LOWEST, WORK, LIB = range(15)


# ---- layout (plain Python) ---------------------------------------------------------------------------------------


def aligned_zeros(n_bytes, dtype):
    """A zeroed 1-D array of n_bytes that starts at a multiple of 64 bytes."""
    itemsize = np.dtype(dtype).itemsize
    buffer = np.zeros((n_bytes + UNIT_BYTES) // itemsize, dtype)
    start = -buffer.ctypes.data % UNIT_BYTES // itemsize
    return buffer[start : start + n_bytes // itemsize]


def layout(sizes, activations, loss, dtype, frozen=()):
    """The tables (net, layers) of a network, int64.

    sizes are n_inputs, then each layer's fan_out; activations and loss are codes; frozen holds the indices of
    layers that do not train. The address of the library is the caller's to fill in: net[LIB].
    """
    itemsize = np.dtype(dtype).itemsize

    def padded(n):
        return -(-n * itemsize // UNIT_BYTES) * UNIT_BYTES

    layers = np.zeros((len(sizes) - 1, 9), np.int64)
    net = np.zeros(15, np.int64)
    offset = 0
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        ld = padded(fan_out)
        layers[i, [FAN_IN, FAN_OUT, LD]] = fan_in, fan_out, ld
        layers[i, [W, B]] = offset, offset + fan_in * ld
        layers[i, [ACTIVATION, FROZEN]] = activations[i], i in frozen
        offset += (fan_in + 1) * ld
    trainable = [i for i in range(len(layers)) if i not in frozen]
    net[[N_LAYERS, N_BYTES, ITEMSIZE, LOSS_CODE]] = len(layers), offset, itemsize, loss
    net[X_LD] = padded(sizes[0])
    net[LOWEST] = min(trainable, default=len(layers))

    # A block of rows goes through the whole network at once; about 512 KiB of it stay in the L2 cache.
    rows = min(1024, max(256, 2**19 // (net[X_LD] + 2 * layers[:, LD].sum())))
    widest = max(net[X_LD], layers[:, LD].max())
    net[BLOCK_ROWS] = rows
    offset = 0
    shared = {X: rows * net[X_LD], Y: rows * layers[-1, LD], PANEL: widest // itemsize * TILE_UNITS * UNIT_BYTES}
    for part, length in {**shared, ZEROS: widest, ONE: UNIT_BYTES, ROW: widest}.items():
        net[part] = offset
        offset += length
    for layer in layers:
        layer[[A, D]] = offset, offset + rows * layer[LD]
        offset += 2 * rows * layer[LD]
    net[WORK] = offset
    return net, layers


def workspace(net, dtype):
    """The buffer `work` for the tables: activations, deltas, the gathered batch and scratch rows."""
    work = aligned_zeros(net[WORK], dtype)
    work[net[ONE] // net[ITEMSIZE]] = 1
    return work


# ---- kernels: parameters, work, x and into are addresses -----------------------------------------------------------


@njit(nogil=True)
def forward(net, layers, parameters, work, rows, x, x_row):
    """a = f(a_below @ W + b) for every layer; x is the address of (rows, n_inputs), its rows x_row bytes apart."""
    lib, itemsize = net[LIB], net[ITEMSIZE]
    for l in range(net[N_LAYERS]):
        layer = layers[l]
        ld, a = layer[LD], work + layer[A]
        w, b = parameters + layer[W], parameters + layer[B]
        matmul(lib, rows, ld // UNIT_BYTES, layer[FAN_IN], x, x_row, itemsize, w, ld, b, 0, a, ld)
        call_elementwise(lib, VALUE + layer[ACTIVATION], rows * ld, a, a, a)
        x, x_row = a, ld


@njit(nogil=True)
def block_loss(net, layers, work, rows, scale):
    """The summed loss of the block against work[Y]; the last layer's d becomes scale * dC/da."""
    layer = layers[net[N_LAYERS] - 1]
    place, a, d, y = LOSS + net[LOSS_CODE], work + layer[A], work + layer[D], work + net[Y]
    return call_summed(net[LIB], place, scale, rows, layer[FAN_OUT], d, a, y)


@njit(nogil=True)
def backward(net, layers, parameters, work, rows, x, x_row, into):
    """From the last layer's dC/da in d: every layer's d = dC/dz, and `into` += the gradients.

    `into` is a vector laid out like the parameters: a gradient, or the parameters themselves where the loss was
    scaled by -learning_rate / batch, which is the SGD update without a gradient ever stored.
    """
    lib, itemsize = net[LIB], net[ITEMSIZE]
    zeros, one, row = work + net[ZEROS], work + net[ONE], work + net[ROW]
    for l in range(net[N_LAYERS] - 1, net[LOWEST] - 1, -1):
        layer = layers[l]
        ld, d, a = layer[LD], work + layer[D], work + layer[A]
        call_elementwise(lib, SLOPE + layer[ACTIVATION], rows * ld, d, d, a)
        below, below_row = x, x_row
        if l > 0:
            below, below_row = work + layers[l - 1, A], layers[l - 1, LD]
        if l > net[LOWEST]:  # dC/da below, with W as it was in the forward pass
            w, d_below, panel = parameters + layer[W], work + layers[l - 1, D], work + net[PANEL]
            fan_in, fan_out = layer[FAN_IN], layer[FAN_OUT]
            matmul_nt(lib, itemsize, rows, fan_in, fan_out, d, ld, w, ld, zeros, d_below, below_row, panel)
        if layer[FROZEN] == 0:
            w, b, units = into + layer[W], into + layer[B], ld // UNIT_BYTES
            matmul(lib, layer[FAN_IN], units, rows, below, itemsize, below_row, d, ld, w, ld, w, ld)
            matmul(lib, 1, units, rows, one, 0, 0, d, ld, zeros, 0, row, ld)  # the batch's sum first, then once
            call_elementwise(lib, ADD, ld, b, b, row)


@njit(nogil=True)
def sources(data):
    """The samples as numbers: (n, place of their gather, X, its row stride, targets, their row stride, labels).

    data is (x, x_bytes, targets, labels): inputs as (n, n_inputs) in the network's dtype or as uint8, targets as
    (n, n_out) or int32 class indices (n,); of each pair one is empty, and its address here is 0.
    """
    x, x_bytes, targets, labels = data
    y_row = targets.shape[1] * targets.itemsize
    y, c = address(targets), address(labels)
    if labels.shape[0]:
        y = 0
    else:
        c = 0
    if x_bytes.shape[0]:
        return x_bytes.shape[0], GATHER_BYTES, address(x_bytes), x_bytes.shape[1], y, y_row, c
    return x.shape[0], GATHER, address(x), x.shape[1] * x.itemsize, y, y_row, c


@njit(nogil=True)
def load_inputs(net, layers, work, source, order, first, rows, scale):
    """(address, row stride) of the rows from `first` on: X's own where they can be used as they are, else a copy.

    order is the address of the int32 numbers of all samples, or 0 for the order of X.
    """
    n, place, x, x_row, _, _, _ = source
    more = 0
    if order != 0:
        order += first * 4
        more = n - first - rows
    else:
        x += first * x_row
        if place == GATHER and scale == 1:
            return x, x_row
    copy = work + net[X]
    call_gather(net[LIB], place, scale, rows, order, more, x, x_row, layers[0, FAN_IN], copy, net[X_LD])
    return copy, net[X_LD]


@njit(nogil=True)
def load_targets(net, layers, work, source, order, first, rows):
    """work[Y] = the targets of the rows from `first` on."""
    _, _, _, _, targets, targets_row, labels = source
    layer = layers[net[N_LAYERS] - 1]
    y, ld = work + net[Y], layer[LD]
    if order != 0:
        order += first * 4
    else:
        targets, labels = targets + first * targets_row, labels + first * 4
    if source[4] == 0:
        call_one_hot(net[LIB], ONE_HOT, rows, order, labels, y, ld)
    else:
        call_gather(net[LIB], GATHER, 1.0, rows, order, 0, targets, targets_row, layer[FAN_OUT], y, ld)


@njit(nogil=True)
def accumulate(net, layers, parameters, work, source, order, first, count, scale, input_scale, into):
    """One batch, block by block: `into` += scale * the summed gradient of `count` samples; returns their summed loss.

    source describes the samples (see `sources`), order their order (see `load_inputs`).
    """
    total = 0.0
    for start in range(first, first + count, net[BLOCK_ROWS]):
        rows = min(net[BLOCK_ROWS], first + count - start)
        x, x_row = load_inputs(net, layers, work, source, order, start, rows, input_scale)
        load_targets(net, layers, work, source, order, start, rows)
        forward(net, layers, parameters, work, rows, x, x_row)
        total += block_loss(net, layers, work, rows, scale)
        backward(net, layers, parameters, work, rows, x, x_row, into)
    return total
