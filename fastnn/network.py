"""Network: a layout, the parameters in it, and what belongs to them: views, an optimizer's state, programs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .inference import Inference
from .kernels import strategy
from .kernels.memory import STATE, Layout, aligned_zeros
from .kernels.optimizers import OPTIMIZERS
from .optimizers import Optimizer

NORMAL_PIECE = 2**13  # numbers that are drawn at a time


def _normal(generator: np.random.Generator, n: int) -> NDArray[np.float32]:
    """n standard normal numbers (Box and Muller 1958), in pieces that stay in the cache.

    NumPy's logarithm, sine and cosine are vector code, so that this takes less than half the time of standard_normal.
    """
    out = np.empty(n, np.float32)
    for start in range(0, n, NORMAL_PIECE):
        piece = out[start : start + NORMAL_PIECE]
        half = -(-len(piece) // 2)
        radius, angle = generator.random((2, half), np.float32)
        radius[...] = np.sqrt(-2 * np.log1p(-radius))
        angle *= 2 * np.pi
        np.multiply(radius, np.cos(angle), out=piece[:half])
        np.multiply(radius[: len(piece) - half], np.sin(angle[: len(piece) - half]), out=piece[half:])
    return out


class OptimizerState:
    """What an optimizer knows of a network's training: vectors laid out like the parameters, C-ordered, its own."""

    def __init__(self, optimizer: Optimizer, layout: Layout):
        self.optimizer = optimizer
        self.vectors = aligned_zeros(len(OPTIMIZERS[optimizer._kernel].vectors) * layout.n_bytes, layout.dtype)

    def copy(self) -> OptimizerState:
        """One with vectors of its own."""
        other = object.__new__(OptimizerState)
        other.optimizer, other.vectors = self.optimizer, aligned_zeros(self.vectors.nbytes, self.vectors.dtype)
        other.vectors[...] = self.vectors
        return other


class Network:
    """Parameters in a layout. A model replaces it as a whole: a call sees one or the other, never half of each.

    `state`, one record of STATE, is the generator of the orders and the optimizer's numbers; it outlives the network.
    """

    def __init__(
        self, layout: Layout, scale: float, state: NDArray[Any] | None = None, parameters: NDArray[Any] | None = None
    ):
        self.layout, self.scale = layout, scale
        self.state = aligned_zeros(STATE.itemsize, STATE) if state is None else state
        self.parameters = aligned_zeros(layout.n_bytes, layout.dtype) if parameters is None else parameters
        views = layout.views(self.parameters)
        self.weights, self.biases = tuple(w.T for w, _ in views), tuple(b for _, b in views)
        self.optimizer_state: OptimizerState | None = None
        self.inference = Inference(layout, self.parameters, scale)
        self._max_threads: dict[int, int] = {}  # by batch size
        self.plans: dict[Any, Any] = {}  # of training, by the kind of fit
        self.stepper: Any = None  # of the last call of partial_fit, if no plan has been asked for since

    def max_threads(self, batch_size: int) -> int:
        """How many threads make a step of training faster."""
        if batch_size not in self._max_threads:
            self._max_threads[batch_size] = strategy.max_threads(self.layout, batch_size, 2**30)
        return self._max_threads[batch_size]

    def initialise(self, i: int, init: str, generator: np.random.Generator) -> None:
        """Draw layer i's parameters."""
        weights, biases = self.weights[i].T, self.biases[i]
        biases[...] = _normal(generator, biases.size) if init == "normal" else 0
        if init == "zeros":
            weights[...] = 0
        else:
            scale = 1 / np.sqrt(weights.shape[0]) if init == "scaled" else 1.0
            np.multiply(_normal(generator, weights.size).reshape(weights.shape), np.float32(scale), out=weights)

    def state_for(self, optimizer: Optimizer) -> OptimizerState:
        """The memory of a state for the optimizer: the one there is, or another where it has other vectors."""
        state = self.optimizer_state
        if state is None or state.optimizer._kernel != optimizer._kernel:
            return OptimizerState(optimizer, self.layout)
        return state

    def start(self, optimizer: Optimizer, state: OptimizerState) -> None:
        """Train in this memory from now on: go on from the state of an equal optimizer, or from a fresh one."""
        if state is self.optimizer_state and state.optimizer == optimizer:
            return
        kernel = OPTIMIZERS[optimizer._kernel]
        state.vectors[...] = 0
        numbers = self.state["numbers"][0]
        numbers[...] = 0
        numbers[: len(kernel.state)] = list(kernel.state.values())
        state.optimizer, self.optimizer_state = optimizer, state
