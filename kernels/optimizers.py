"""Optimizers: in-place updates of the parameter vector."""

from numba import njit

from .library import ADD, call_elementwise
from .network import BLOCK_ROWS, LIB, N_BYTES, accumulate
from .simd import address


@njit(nogil=True)
def sgd_step(net, layers, parameters, gradient, work, source, order, first, count, learning_rate, input_scale):
    """parameters -= learning_rate * (mean gradient of `count` samples); returns their summed loss.

    A batch of one block updates the parameters in the gradient's own product. A larger one must see the same
    parameters throughout, so it sums into the array `gradient` first. parameters and work are addresses.
    """
    into = parameters
    if count > net[BLOCK_ROWS]:
        into = address(gradient)
        for i in range(gradient.size):
            gradient[i] = 0
    scale = -learning_rate / count
    total = accumulate(net, layers, parameters, work, source, order, first, count, scale, input_scale, into)
    if into != parameters:
        call_elementwise(net[LIB], ADD, net[N_BYTES], parameters, parameters, into)
    return total
