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
        self.stepper: Any = None  # of the last step

    def max_threads(self, batch_size: int) -> int:
        """How many threads make a step of training faster."""
        if batch_size not in self._max_threads:
            self._max_threads[batch_size] = strategy.max_threads(self.layout, batch_size, 2**30)
        return self._max_threads[batch_size]

    def initialise(self, i: int, init: str, generator: np.random.Generator) -> None:
        """Draw layer i's parameters."""
        weights, biases = self.weights[i], self.biases[i]
        biases[...] = generator.standard_normal(biases.shape) if init == "normal" else 0
        if init == "zeros":
            weights[...] = 0
        else:
            scale = 1 / np.sqrt(weights.shape[1]) if init == "scaled" else 1.0
            weights[...] = scale * generator.standard_normal(weights.shape)

    def prepare(self, optimizer: Optimizer) -> OptimizerState:
        """The state of an equal optimizer, to go on from, or a fresh one."""
        state = self.optimizer_state
        if state is None or state.optimizer != optimizer:
            if state is not None and state.optimizer._kernel == optimizer._kernel:
                state.vectors[...] = 0  # their memory stays, and programs that know it
                state.optimizer = optimizer
            else:
                state = OptimizerState(optimizer, self.layout)
            numbers = self.state["numbers"][0]
            numbers[...] = 0
            numbers[: len(OPTIMIZERS[optimizer._kernel].state)] = list(OPTIMIZERS[optimizer._kernel].state.values())
            self.optimizer_state = state
        return state
