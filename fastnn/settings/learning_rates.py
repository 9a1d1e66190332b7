"""Schedules: numbers that change while a model trains, for `Optimizer.learning_rate`, `weight_decay` and dropout.

A schedule gives the rate at each position: how many steps or epochs the optimizer has done. The position belongs to the
optimizer's state, so that a further fit goes on where the last one ended. A weight decay changes by epoch alone, and so
does dropout, whose position is the epoch of the fit. The first or the largest value is the schedule's `learning_rate`,
whatever it is for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import scalars
from ..checks.scalars import shown
from .each import number_or_array

PER = ("epoch", "step")
BELOW = {"dropout": 1.0}  # what a value of an argument must be below, where it must


class LearningRate:
    """A number that changes. `per` says whether positions count epochs or steps, one for each batch."""

    per: str

    def __post_init__(self) -> None:
        scalars.choice("per", self.per, PER)

    def rates(self, first: int, n: int) -> NDArray[np.float64]:
        """The rates at n positions from `first` on."""
        result = np.empty(n)
        with np.errstate(all="ignore"):  # a rate that is not finite ends the fit with an error
            result[:] = self._at(np.arange(first, first + n, dtype=np.float64))
        return result

    def _checked_rates(self, name: str, per: str, first: int, n: int) -> NDArray[np.float64]:
        """As `rates`, for an argument of that name; raises ValueError for a rate that it cannot be."""
        rates = np.array(self.rates(first, n), np.float64)  # nobody may change them now
        if rates.shape != (n,):
            raise ValueError(f"{name} must give {n} rates, got shape {rates.shape} from {self!r}")
        return self._checked(rates[None], name, per, first)[0]

    def _rates_of_members(
        self, values: NDArray[np.float64], name: str, per: str, first: int, n: int
    ) -> NDArray[np.float64]:
        """The `_checked_rates` (members, n) of schedules like this one whose `learning_rate` are values (members,)."""
        if not hasattr(self, "learning_rate"):
            return np.tile(self._checked_rates(name, per, first, n), (len(values), 1))
        result = np.empty((len(values), n))
        with np.errstate(all="ignore"):
            result[:] = self._with(values[:, None])._at(np.arange(first, first + n, dtype=np.float64))
        return self._checked(result, name, per, first, values)

    def _with(self, learning_rate: Any) -> LearningRate:
        made = object.__new__(type(self))
        vars(made).update(vars(self) | {"learning_rate": learning_rate})
        return made

    def _checked(
        self, rates: NDArray[np.float64], name: str, per: str, first: int, values: NDArray[np.float64] | None = None
    ) -> NDArray[np.float64]:
        """The rates (members, n), if all can be values of an argument."""
        below = BELOW.get(name, np.inf)
        wrong = np.argwhere(~((rates >= 0) & (rates < below)))
        if len(wrong):
            row, column = wrong[0]
            used = self if values is None else self._with(float(values[row]))
            bound = f" and below {below:g}" if below < np.inf else ""
            where = f"{rates[row, column]} for {per} {first + column}"
            raise ValueError(f"{name} must be finite and at least 0{bound}, got {where} from {used!r}")
        return rates

    def _at(self, t: NDArray[np.float64]) -> Any:
        raise NotImplementedError

    def _check(self, *positive: str, counts: tuple[str, ...] = (), fractions: tuple[str, ...] = ()) -> None:
        """Check fields: numbers above 0, integers of at least 1, numbers in (0, 1)."""
        for name in positive:
            check = number_or_array if name == "learning_rate" else scalars.number
            object.__setattr__(self, name, check(name, getattr(self, name), 0.0, open_low=True))
        for name in counts:
            object.__setattr__(self, name, scalars.integer(name, getattr(self, name), 1))
        for name in fractions:
            object.__setattr__(self, name, scalars.number(name, getattr(self, name), 0.0, 1.0, open_low=True))
        LearningRate.__post_init__(self)


@dataclass(frozen=True)
class StepDecay(LearningRate):
    """The rate times gamma after `every` epochs or steps, again and again: learning_rate * gamma^floor(t / every).

    PyTorch's StepLR.

    Parameters
    ----------
    learning_rate : float
        The first rate, above 0.
    every : int
        Epochs or steps between two changes, at least 1.
    gamma : float
        Above 0.
    per : str
        "epoch" or "step".

    Examples
    --------
    >>> import fastnn
    >>> fastnn.StepDecay(0.8, every=2, gamma=0.5).rates(0, 5).tolist()
    [0.8, 0.8, 0.4, 0.4, 0.2]
    """

    learning_rate: float
    every: int
    gamma: float = 0.1
    per: str = "epoch"

    def __post_init__(self) -> None:
        self._check("learning_rate", "gamma", counts=("every",))

    def _at(self, t: NDArray[np.float64]) -> Any:
        return self.learning_rate * self.gamma ** np.floor(t / self.every)


@dataclass(frozen=True)
class ExponentialDecay(LearningRate):
    """learning_rate * gamma^t, PyTorch's ExponentialLR.

    Parameters
    ----------
    learning_rate : float
        The first rate, above 0.
    gamma : float
        The factor of each change, above 0.
    per : str
        After each "epoch" or each "step".

    Examples
    --------
    >>> import fastnn
    >>> fastnn.ExponentialDecay(0.8, gamma=0.5).rates(0, 4).tolist()
    [0.8, 0.4, 0.2, 0.1]
    """

    learning_rate: float
    gamma: float
    per: str = "epoch"

    def __post_init__(self) -> None:
        self._check("learning_rate", "gamma")

    def _at(self, t: NDArray[np.float64]) -> Any:
        return self.learning_rate * self.gamma**t


@dataclass(frozen=True)
class InverseScaling(LearningRate):
    """learning_rate / (t + 1)^power, as scikit-learn's "invscaling", where t counts samples.

    Parameters
    ----------
    learning_rate : float
        The first rate, above 0.
    power : float
        Above 0.
    per : str
        Whether t counts "epoch" or "step".

    Examples
    --------
    >>> import fastnn
    >>> fastnn.InverseScaling(0.6).rates(0, 4).round(3).tolist()
    [0.6, 0.424, 0.346, 0.3]
    """

    learning_rate: float
    power: float = 0.5
    per: str = "epoch"

    def __post_init__(self) -> None:
        self._check("learning_rate", "power")

    def _at(self, t: NDArray[np.float64]) -> Any:
        return self.learning_rate / (t + 1) ** self.power


@dataclass(frozen=True)
class CosineDecay(LearningRate):
    """Half a cosine from learning_rate down to `final`, after a warm-up (Loshchilov and Hutter 2017, without restarts).

    learning_rate * (t + 1) / warmup for t < warmup, then learning_rate for t < warmup + hold. From there on
    final + (learning_rate - final) (1 + cos(pi s)) / 2 with s = (t - warmup - hold) / (length - warmup - hold), and
    `final` from t = length on. Without warm-up and hold it is PyTorch's CosineAnnealingLR. With `hold` it is the
    schedule that fastai calls "flat cos".

    Parameters
    ----------
    learning_rate : float
        The largest rate, above 0.
    length : int
        Epochs or steps until `final`, warm-up and hold included.
    warmup : int
        Epochs or steps in which the rate rises, below `length`.
    final : float
        The last rate, at least 0.
    per : str
        "epoch" or "step".
    hold : int
        Epochs or steps after the warm-up in which the rate stays, below `length - warmup`.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.CosineDecay(0.8, length=6, warmup=2).rates(0, 8).round(3).tolist()
    [0.4, 0.8, 0.8, 0.683, 0.4, 0.117, 0.0, 0.0]
    >>> fastnn.CosineDecay(0.8, length=6, hold=3).rates(0, 7).round(3).tolist()
    [0.8, 0.8, 0.8, 0.8, 0.6, 0.2, 0.0]
    """

    learning_rate: float
    length: int
    warmup: int = 0
    final: float = 0.0
    per: str = "epoch"
    hold: int = 0

    def __post_init__(self) -> None:
        self._check("learning_rate", counts=("length",))
        object.__setattr__(self, "warmup", scalars.integer("warmup", self.warmup, 0, self.length - 1))
        object.__setattr__(self, "final", scalars.number("final", self.final, 0.0))
        object.__setattr__(self, "hold", scalars.integer("hold", self.hold, 0, self.length - self.warmup - 1))

    def _at(self, t: NDArray[np.float64]) -> Any:
        top = self.warmup + self.hold  # its end
        progress = np.clip((t - top) / (self.length - top), 0, 1)
        decayed = self.final + (self.learning_rate - self.final) * (1 + np.cos(np.pi * progress)) / 2
        return np.where(t < self.warmup, self.learning_rate * (t + 1) / max(1, self.warmup), decayed)


@dataclass(frozen=True)
class OneCycle(LearningRate):
    """Up to learning_rate and down again, along half cosines (Smith and Topin 2018), as PyTorch's OneCycleLR.

    It starts at learning_rate / div_factor. After the fraction `rise` of the length it is at learning_rate. It ends at
    the start's rate / final_div_factor.

    Parameters
    ----------
    learning_rate : float
        The largest rate, above 0.
    length : int
        Epochs or steps of the cycle, at least 3. Afterwards the last rate stays.
    rise : float
        In (0, 1).
    div_factor, final_div_factor : float
        Above 0.
    per : str
        "step" or "epoch".

    Examples
    --------
    >>> import fastnn
    >>> fastnn.OneCycle(0.8, length=10).rates(0, 10).round(3).tolist()
    [0.032, 0.416, 0.8, 0.76, 0.649, 0.489, 0.311, 0.151, 0.04, 0.0]
    """

    learning_rate: float
    length: int
    rise: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    per: str = "step"

    def __post_init__(self) -> None:
        self._check("learning_rate", "div_factor", "final_div_factor", fractions=("rise",))
        object.__setattr__(self, "length", scalars.integer("length", self.length, 3))

    def _at(self, t: NDArray[np.float64]) -> Any:
        first, last, top = self.learning_rate / self.div_factor, self.length - 1.0, self.rise * self.length - 1
        up = np.clip(t / top, 0, 1) if top > 0 else np.ones_like(t)
        down = np.clip((t - top) / (last - top), 0, 1)
        rising = self.learning_rate + (first - self.learning_rate) * (1 + np.cos(np.pi * up)) / 2
        end = first / self.final_div_factor
        falling = end + (self.learning_rate - end) * (1 + np.cos(np.pi * down)) / 2
        return np.where(t <= top, rising, falling)


NAMED: tuple[type[LearningRate], ...] = (StepDecay, ExponentialDecay, InverseScaling, CosineDecay, OneCycle)


@dataclass(frozen=True)
class Constant(LearningRate):
    """The same rate at all positions: what a number is where positions count because another number changes."""

    learning_rate: float
    per: str = "epoch"

    def _at(self, t: NDArray[np.float64]) -> Any:
        return self.learning_rate


@dataclass(frozen=True)
class RateFunction(LearningRate):
    """A learning rate by a function of your own, of how many epochs or steps the optimizer has done, as LambdaLR.

    PyTorch's LambdaLR takes a factor, this one the rate. A function given as `learning_rate` becomes a `RateFunction`
    that counts epochs. It may be called several times for an epoch or a step, and is not called while the compiled
    code trains. A model that trained with it can be pickled where the function can; `save` leaves the optimizer's state
    out, with a warning. Equal ones have the same function.

    Parameters
    ----------
    function : callable
        Takes an int, from 0 on, and gives the rate, a finite number of at least 0. Any other ends the fit with a
        ValueError or TypeError that names the epoch or step; the model keeps its last finished epoch.
    per : str
        Whether it takes the number of the "epoch" or of the "step", one for each batch.
    name : str
        What errors call the rate: a function may give a weight decay or a dropout too.

    Examples
    --------
    >>> import fastnn
    >>> rate = fastnn.RateFunction(lambda step: 0.5 / (1 + step), per="step")
    >>> fastnn.SGD(rate).learning_rate.rates(0, 4).round(3).tolist()
    [0.5, 0.25, 0.167, 0.125]
    """

    function: Callable[[int], float]
    per: str = "epoch"
    name: str = "learning_rate"

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(
                f"function must be callable with the number of an epoch or step, got {shown(self.function)}"
            )
        super().__post_init__()

    def _at(self, t: NDArray[np.float64]) -> Any:
        below, positions = BELOW.get(self.name, np.inf), t.astype(np.int64).tolist()
        return [scalars.number(f"{self.name} of {self.per} {i}", self.function(i), 0.0, below) for i in positions]


def per_of(rate: Any) -> str:
    """What a learning rate changes with, "epoch" or "step"; "" for a constant."""
    return scalars.choice("per", rate.per, PER) if isinstance(rate, LearningRate) else ""


def schedule_of(rate: float | LearningRate) -> LearningRate:
    """A learning rate as a schedule."""
    return rate if isinstance(rate, LearningRate) else Constant(rate)


def changes(value: Any) -> bool:
    """Whether a value is a schedule, or a function that becomes one."""
    return isinstance(value, LearningRate) or callable(value)


def by_epoch(name: str, value: Any, check: Callable[..., Any] = scalars.number) -> Any:
    """An argument that may change by epoch: a schedule, from a function too, or what `check` gives of anything else."""
    if not changes(value):
        return check(name, value, 0.0, BELOW.get(name, np.inf))
    if not isinstance(value, LearningRate):
        return RateFunction(value, name=name)
    if per_of(value) != "epoch":
        raise ValueError(f"{name} must change by epoch, per='epoch', got {shown(value)}")
    return value


def resolve(value: Any) -> Any:
    """A learning rate: a schedule, a function of the epoch, a number above 0, or an array of such numbers."""
    if isinstance(value, LearningRate):
        return value
    if callable(value):
        return RateFunction(value)
    return number_or_array("learning_rate", value, 0.0, open_low=True)
