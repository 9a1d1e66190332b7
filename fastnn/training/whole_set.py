"""What trains on all samples at once: its epochs are iterations, whose number and cost vary."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.samples import Samples
from ..network.inference import Inference
from ..network.network import Network
from ..reports.history import History, Recorder
from ..reports.scoring import Scored
from .arguments import WholeSetOptions
from .fit import Rate, Trainer, diverged


class WholeSet(Trainer):
    """Iterations, each of one or more passes over all samples. A subclass says how they go.

    Trial steps have a parameter vector of their own. The network's parameters are replaced when an iteration ends.
    """

    def __init__(
        self,
        network: Network,
        samples: Samples,
        options: WholeSetOptions,
        history: History,
        scored: Sequence[Scored] = (),
    ):
        self.network, self.samples, self.layout = network, samples, network.layout
        self.optimizer: Any = options.optimizer
        self.epochs, self.l2 = options.epochs, options.l2
        self.done = done = np.zeros(1, np.int64)  # iterations; a History reads it, and must not keep the samples
        self.rate = Rate(np.nan, False)
        self.losses, self.next_loss = np.zeros(max(1, self.epochs)), np.nan
        self.started = time.perf_counter()
        self.trial = network.parameters.copy()
        self.inference = Inference(self.layout, self.trial, network.settings, network.loading)
        self.tensors = self.layout.tensors(self.trial)
        self.recorder = Recorder(history, self.losses, lambda: int(done[0]), scored)

    @property
    def epoch(self) -> int:
        """The number of iterations that have ended."""
        return int(self.done[0])

    def _start(self, loss: float, *arrays: NDArray[Any]) -> None:
        """Note the loss before the first iteration."""
        if not (np.isfinite(loss) and all(np.isfinite(array).all() for array in arrays)):
            raise diverged(1, loss, what="gradient", lower_rate=False)
        self.network.forget_stepper()
        self.network.state["optimizer"] = 0  # any other optimizer starts afresh
        self.next_loss = loss

    @np.errstate(all="ignore")
    def _finish(self, x: NDArray[Any], loss: float) -> None:
        """End an iteration at x."""
        self.trial[:] = x
        self._follow()
        if not (np.isfinite(loss) and np.isfinite(self.trial).all()):
            raise diverged(self.epoch + 1, loss, lower_rate=False)
        self.losses[self.epoch], self.next_loss = self.next_loss, loss
        self.network.parameters[:] = self.trial
        self.done[0] += 1
        self.recorder.seconds(time.perf_counter() - self.started)

    def _follow(self) -> None:
        """Let the running statistics of normalised layers follow those of the samples at the trial step."""
        for layer, tensors, now in zip(
            self.layout.layers, self.tensors, self.layout.tensors(self.network.parameters), strict=True
        ):
            for tensor in layer.tensors:
                if not tensor.trains:
                    tensors[tensor.name][...] = now[tensor.name]
        self.inference.follow(self.samples)

    def kept(self) -> NDArray[Any]:
        """The parameters that the last iteration left."""
        return self.trial

    def resume(self, network: Network) -> None:
        """Raise where a callback changed the model."""
        if network is not self.network or (network.parameters != self.trial).any():
            name = type(self.optimizer).__name__
            raise RuntimeError(
                f"a callback changed the model, which {name} cannot follow; return True to end the fit first"
            )
