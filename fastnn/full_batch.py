"""What fits on all samples at once have in common: their epochs are iterations, whose number and cost vary."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .history import DivergenceError, History
from .inference import Inference
from .network import Network
from .training import Rate, Samples, Validation, any_says_stop


class Fit:
    """A fit whose epochs are iterations, each of one or more passes over all samples. A subclass says how they go.

    Trial steps have a parameter vector of their own. The network's parameters are replaced when an iteration ends.
    """

    def __init__(
        self,
        current: Callable[[], Network],
        samples: Samples,
        optimizer: Any,
        epochs: int,
        l2: float,
        callbacks: Sequence[Callable[[], object]],
        history: History,
        validation: Validation | None = None,
    ):
        self.current, self.network, self.samples = current, current(), samples
        self.optimizer, self.epochs, self.l2 = optimizer, epochs, l2
        self.done = done = np.zeros(1, np.int64)  # epochs; a History reads it, and must not keep the samples
        self.callbacks, self.history, self.validation = callbacks, history, validation
        self.rate = Rate(np.nan, False)
        self.losses, self.next_loss = np.zeros(max(1, epochs)), np.nan
        self.started = time.perf_counter()
        network, self.layout = self.network, self.network.layout
        self.trial = network.parameters.copy()
        self.inference = Inference(self.layout, self.trial, network.scale)
        self.views = self.layout.views(self.trial)
        history._record(self.losses, lambda: int(done[0]), *(validation or ())[:2])

    @property
    def epoch(self) -> int:
        """Iterations finished."""
        return int(self.done[0])

    def run(self, report: Callable[[int], None]) -> None:
        """Minimise; callbacks and validation come after each iteration."""
        if self.epochs:
            self._minimise(report)

    def _minimise(self, report: Callable[[int], None]) -> None:
        raise NotImplementedError

    def _start(self, loss: float, *parts: NDArray[Any]) -> None:
        """Note the loss before the first iteration."""
        if not (np.isfinite(loss) and all(np.isfinite(part).all() for part in parts)):
            raise DivergenceError(f"training diverged in epoch 1: its loss is {loss:g} or a gradient not finite", 1)
        self.network.stepper = None
        self.network.state["optimizer"] = 0  # any other optimizer starts afresh
        self.next_loss = loss

    @np.errstate(all="ignore")
    def _finish(self, x: NDArray[Any], loss: float) -> None:
        """An iteration has ended at x."""
        self.trial[:] = x
        if not (np.isfinite(loss) and np.isfinite(self.trial).all()):
            raise DivergenceError(
                f"training diverged in epoch {self.epoch + 1}: its loss is {loss:g} or a parameter is not finite. "
                f"The model holds the parameters after {self.epoch} epochs.",
                self.epoch + 1,
            )
        self.losses[self.epoch], self.next_loss = self.next_loss, loss
        self.network.parameters[:] = self.trial
        self.done[0] += 1
        now = time.perf_counter()
        self.history._seconds.append(now - self.started)
        self.started = now

    def _says_stop(self) -> bool:
        if self.validation is not None:
            self.history._score(self.epoch, self.validation.scores())
        stop = any_says_stop(self.callbacks)
        if not stop:
            self.follow()
        self.started = time.perf_counter()
        return stop

    def follow(self) -> None:
        """Raise where a callback changed the model."""
        if self.current() is not self.network or (self.network.parameters != self.trial).any():
            name = type(self.optimizer).__name__
            raise RuntimeError(
                f"a callback changed the model, which {name} cannot follow; return True to end the fit first"
            )
