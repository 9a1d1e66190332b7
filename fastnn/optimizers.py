"""Optimizers: what a user configures. They are frozen; the state of a run lives with the model."""

from __future__ import annotations

from dataclasses import dataclass

from . import _validation


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent: parameters -= learning_rate * gradient, the gradient averaged over the batch.

    Parameters
    ----------
    learning_rate : float
        Step size, above 0.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.SGD(learning_rate=3.0)
    SGD(learning_rate=3.0)
    """

    learning_rate: float = 0.1

    def __post_init__(self) -> None:
        rate = _validation.number("learning_rate", self.learning_rate, 0.0, open_low=True)
        object.__setattr__(self, "learning_rate", rate)


Optimizer = SGD
BY_NAME = {"sgd": SGD}


def resolve(optimizer: Optimizer | str) -> Optimizer:
    """The optimizer object for a name or an object."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    if isinstance(optimizer, str):
        return BY_NAME[_validation.choice("optimizer", optimizer, BY_NAME)]()
    raise TypeError(f"optimizer must be an optimizer such as SGD(0.1) or one of {list(BY_NAME)}, got {optimizer!r}")
