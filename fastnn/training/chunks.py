"""Training on a stream, a chunk of it after another."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.samples import Samples
from ..network.network import Network
from ..reports.history import DivergenceError, History, Recorder
from ..reports.scoring import Scored
from .arguments import check_batches
from .fit import Rate, Trainer, diverged
from .options import DRAWN, Options
from .steps import Steps


class Chunks(Trainer):
    """Steps on the chunks of a stream: each is trained on as a part of the epoch.

    The network's parameters are those that the last finished chunk left.
    """

    def __init__(
        self,
        network: Network,
        chunks: Callable[[int | None], Iterator[tuple[Samples, bool]]],
        options: Options,
        history: History,
        scored: Sequence[Scored] = (),
    ):
        """chunks gives those of an epoch, in an order that follows from a seed, and whether they are its last."""
        self.network, self.chunks, self.options, self.epochs = network, chunks, options, options.epochs
        self.losses, self.done = np.zeros(max(1, options.epochs)), np.zeros(1, np.int64)
        done, self.rate = self.done, Rate.of(options.optimizer)
        self.recorder = Recorder(history, self.losses, lambda: int(done[0]), scored)
        self._kept = network.parameters.copy()  # before callbacks

    @property
    def epoch(self) -> int:
        """The number of epochs that have ended."""
        return int(self.done[0])

    def advance(self, until: int) -> None:
        """Train on for one epoch."""
        start = time.perf_counter()
        self.losses[self.epoch] = self._epoch()
        self.done[0] += 1
        self.recorder.rates(self.epoch, [self.rate.now])
        self.recorder.seconds(time.perf_counter() - start)
        if self.watched:
            self._kept = self.network.parameters.copy()

    def _epoch(self) -> float:
        """Train for an epoch; gives its loss."""
        total, count, rows, batch_size = 0.0, 0.0, 0, self.options.batch_size
        seed = self.network.random if self.options.ordered == DRAWN else None
        for i, (samples, last) in enumerate(self.chunks(seed)):
            weight = len(samples.inputs) if samples.weights is None else float(samples.weights.sum(dtype=np.float64))
            rows += len(samples.inputs)
            if last and i == 0:  # all samples of an epoch: their number, like that of a fit in memory
                batch_size = min(batch_size, len(samples.inputs))
            if last:
                check_batches(self.network.layout, rows, batch_size)
            first_epoch = self.options.first_epoch + self.epoch
            options = replace(self.options, epochs=1, batch_size=batch_size, partial=not last, first_epoch=first_epoch)
            total += weight * self._train(samples, options)
            count += weight
        if not count:
            raise ValueError("sample_weight must have an element above 1e-30 in each epoch, got none")
        return total / count

    def _train(self, samples: Samples, options: Options) -> float:
        """Train on a chunk; gives its loss."""
        steps = Steps(self.network, samples, options, History(), rate=self.rate)
        try:
            steps.run(lambda ended: False)
        except DivergenceError:
            holds = "the parameters of the last part of the samples that ended well"
            raise diverged(self.epoch + 1, holds=holds) from None
        finally:
            steps.close()
        return float(steps.losses[0])

    def kept(self) -> NDArray[Any]:
        """The parameters that the last epoch left."""
        return self._kept

    def resume(self, network: Network) -> None:
        """Go on with what callbacks left."""
        self.network = network
