"""A search for the learning rate: `find_learning_rate`."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from .checks import scalars
from .checks.scalars import shown
from .data import arrays
from .model import Model
from .reports.history import DivergenceError
from .settings import optimizers
from .settings.learning_rates import ExponentialDecay
from .settings.optimizers import SGD, Optimizer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMOOTHING = 0.9  # the weight of the past in the mean of the losses
TOO_LARGE = 4.0  # the test ends at so many times the lowest smoothed loss


@dataclass(frozen=True)
class LearningRates:
    """What `find_learning_rate` found: lists of equal length, one entry a step, and the rate that it suggests."""

    rates: list[float]
    losses: list[float]  # the loss of each step's batch, before its update
    smoothed: list[float]
    suggestion: float

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the losses over the rates with matplotlib, and the suggestion."""
        from .plots import plot_rates

        return plot_rates(self.rates, self.losses, self.smoothed, self.suggestion, ax)


def find_learning_rate(
    model: Model,
    X: ArrayLike,
    y: ArrayLike,
    *,
    batch_size: int,
    optimizer: Optimizer | str = SGD(0.1),
    low: float = 1e-5,
    high: float = 10.0,
    steps: int = 100,
) -> LearningRates:
    """Try rising learning rates on a copy of the model, and suggest one: a range test (Smith 2015, section 3.3).

    Each step takes a batch at a rate (high / low)^(1 / (steps - 1)) times the last one's. The losses of the batches are
    smoothed: an exponential mean with weight 0.9, with Adam's correction of its bias. The test ends early when training
    diverges or the smoothed loss is 4 times its lowest; where that is not above 0, when it has risen by 3 times as much
    as it fell, and by 3 times the lowest one's size. The suggestion is a tenth of the rate at the lowest smoothed
    loss, but at least low (fastai's "minimum"). It lies beyond the steepest fall of the loss, before training becomes
    unstable.

    The model stays as it is. The same model and arguments give the same result.

    Parameters
    ----------
    model : Model
        It may have been trained; the optimizer begins afresh.
    X, y, batch_size
        As in `Model.fit`. The batches are drawn from a random order; all have batch_size samples, or all there are.
    optimizer : optimizer or str
        As in `Model.fit`, but not LBFGS. Its learning rate is not used.
    low, high : float
        The first and the last rate, above 0; high is below 1e30 times low.
    steps : int
        How many rates are tried, 2 to 10,000.

    Returns
    -------
    LearningRates
        With the lists rates, losses and smoothed, the number suggestion, and plot().

    Raises
    ------
    ValueError, TypeError
        For an argument that cannot be used.
    DivergenceError
        Where the first step diverges, at the rate low.

    Examples
    --------
    >>> import fastnn
    >>> X, y = fastnn.load_digits()
    >>> model = fastnn.Model([64, 32, 10], rng=0)
    >>> found = fastnn.find_learning_rate(model, X, y, batch_size=32, optimizer="adam", high=1)
    >>> 0.001 < found.suggestion < 0.1
    True
    """
    low = scalars.number("low", low, 0.0, open_low=True)
    high = scalars.number("high", high, low, 1e30 * low, open_low=True)
    steps = scalars.integer("steps", steps, 2, 10_000)
    schedule = ExponentialDecay(low, (high / low) ** (1 / (steps - 1)), per="step")
    optimizer = replace(optimizers.resolve(optimizer), learning_rate=schedule)
    if not isinstance(model, Model):
        raise TypeError(f"model must be a Model, got {shown(model)}")
    twin = copy.copy(model)
    inputs: Any = twin._inputs(X)
    truth = twin._targets(y, len(inputs)).truth
    if arrays.is_sparse(X):
        sparse: Any = X
        inputs = sparse.tocsr()
    batch_size = min(scalars.integer("batch_size", batch_size, 1), len(truth))
    random, order = np.random.default_rng(0), np.empty(0, np.intp)
    losses: list[float] = []
    smoothed: list[float] = []
    mean = 0.0
    for step in range(1, steps + 1):
        if len(order) < batch_size:
            order = random.permutation(len(truth))
        rows, order = order[:batch_size], order[batch_size:]
        try:
            loss = twin.partial_fit(inputs[rows], truth[rows], optimizer=optimizer)
        except DivergenceError:
            if step == 1:
                raise
            break
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        losses.append(loss)
        smoothed.append(mean / (1 - SMOOTHING**step))
        if _is_too_large(smoothed):
            break
    rates = schedule.rates(0, len(losses)).tolist()
    return LearningRates(rates, losses, smoothed, max(low, rates[int(np.argmin(smoothed))] / 10))


def _is_too_large(smoothed: list[float]) -> bool:
    """Whether the last loss ends the test: it is TOO_LARGE times the lowest, or has risen by as much of that's size."""
    least = min(smoothed)
    if least > 0:
        return smoothed[-1] > TOO_LARGE * least
    return smoothed[-1] - least > (TOO_LARGE - 1) * max(-least, smoothed[0] - least)
