"""One fit: the loop over its epochs, whatever trains, and what happens after each of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import scalars
from ..network.network import Network
from ..reports.history import DivergenceError, Recorder
from ..reports.scoring import Scored
from ..settings.learning_rates import LearningRate
from ..settings.optimizers import Optimizer


@dataclass
class Rate:
    """The learning rate of a fit, for callbacks: that of the last step, and the one that shall replace a constant."""

    now: float
    constant: bool
    requested: float | None = None

    @classmethod
    def of(cls, optimizer: Optimizer) -> Rate:
        """The rate before the first step."""
        rate = optimizer.learning_rate
        return cls(np.nan, False) if isinstance(rate, LearningRate) else cls(rate, True)

    def note(self, value: float) -> None:
        """Note the rate of the last step; NaN where none was taken."""
        if not math.isnan(value):
            self.now = value

    def request(self, value: float) -> None:
        """Take another rate from now on."""
        if not self.constant:
            raise ValueError("learning_rate can be set where the optimizer's is a number, got a schedule or LBFGS")
        self.now = self.requested = scalars.number("learning_rate", value, 0.0, open_low=True)


class Trainer:
    """What trains a network for a `Fit`: on arrays, on a stream, on the whole set at once.

    A subclass says how epochs go, with four verbs. Whatever ends an epoch also counts it, in one step, so that an
    exception anywhere leaves the network, the count and the History consistent.
    """

    network: Network  # as it trains it
    epochs: int  # it shall do
    rate: Rate
    recorder: Recorder
    watched = False  # whether each epoch is followed by something that Python does

    @property
    def epoch(self) -> int:
        """The number of epochs that have ended."""
        raise NotImplementedError

    def advance(self, until: int) -> None:
        """Train on, at most to the end of that epoch, counted from 1."""
        raise NotImplementedError

    def kept(self) -> NDArray[Any]:
        """The parameters that the last epoch left, before callbacks."""
        raise NotImplementedError

    def check(self, network: Network, stop: bool) -> None:
        """Raise where callbacks left parameters that are not finite, or others to train on, unless they stop the fit.

        Where they are not finite the network gets back those that were kept.
        """
        if network.parameters is not self.network.parameters:
            if stop:
                return
            raise RuntimeError("a callback called replace_head, which fit cannot follow; return True to end it first")
        if not np.isfinite(network.parameters).all():
            network.parameters[...] = self.kept()
            raise ValueError(
                f"callbacks must leave finite parameters, got one that is not after epoch {self.epoch}. "
                "The model holds the parameters that the epoch left."
            )

    def resume(self, network: Network) -> None:
        """Take over the model's network after callbacks, which may have changed it; raise where that cannot be."""
        raise NotImplementedError

    def close(self) -> None:
        """Give back what was taken for the fit."""

    def run(self, after: Callable[[int], bool]) -> None:
        """The loop over the epochs. `after` gets the number of epochs that have ended, and says whether to stop."""
        done = self.epoch
        while done < self.epochs:
            self.advance(done + 1 if self.watched else self.epochs)
            before, done = done, self.epoch
            if done > before and after(done - before):
                break


class Fit:
    """A trainer's epochs, and what follows each of them, in this order: scores, callbacks, progress."""

    def __init__(
        self,
        trainer: Trainer,
        get_network: Callable[[], Network],
        report: Callable[[int], object],
        scored: Sequence[Scored] = (),
        callbacks: Iterable[Callable[..., object]] = (),
        call: Callable[[Callable[..., object]], object] = lambda callback: callback(),
    ):
        """get_network gives the network that the model has now; call calls a callback with what it takes."""
        self.trainer, self.get_network, self.report = trainer, get_network, report
        self.scored, self.callbacks, self.call = scored, list(callbacks), call
        trainer.watched = bool(scored or self.callbacks)

    def run(self) -> None:
        """Train to the end."""
        try:
            for method in self._methods("on_begin"):
                self.call(method)
                self._take_over()
            self.trainer.run(self._after)
        finally:
            self.trainer.close()
        for method in self._methods("on_end"):
            self.call(method)

    def _methods(self, name: str) -> list[Callable[..., object]]:
        return [getattr(callback, name) for callback in self.callbacks if hasattr(callback, name)]

    def _after(self, ended: int) -> bool:
        """Do what follows epochs that have ended; whether to stop."""
        self.score()
        stop = self.call_back()
        if self.callbacks:
            self._take_over(stop)
        self.report(ended)
        return stop

    def score(self) -> None:
        """Note what the last epoch is worth."""
        for each in self.scored:
            self.trainer.recorder.score(self.trainer.epoch, each.scores(self.get_network()))

    def call_back(self) -> bool:
        """Call all callbacks; whether one says stop."""
        return any_says_stop([self.call(callback) for callback in self.callbacks])

    def _take_over(self, stop: bool = False) -> None:
        """Check what callbacks left, and train on with it unless they stop the fit."""
        network = self.get_network()
        self.trainer.check(network, stop)
        if not stop:
            self.trainer.resume(network)


def any_says_stop(answers: Iterable[object]) -> bool:
    """Whether an answer of a callback is True."""
    return any(isinstance(answer, (bool, np.bool_)) and bool(answer) for answer in answers)


def diverged(
    epoch: int, loss: float | None = None, *, what: str = "parameter", holds: str | None = None, lower_rate: bool = True
) -> DivergenceError:
    """The error of an epoch, counted from 1, that ended with a loss or something else that is not finite."""
    value = "its loss" if loss is None else f"its loss is {loss:g}"
    holds = f"the parameters after {epoch - 1} epochs" if holds is None else holds
    advice = "; try a lower learning_rate." if lower_rate else "."
    return DivergenceError(
        f"training diverged in epoch {epoch}: {value} or a {what} is not finite. The model holds {holds}{advice}", epoch
    )
