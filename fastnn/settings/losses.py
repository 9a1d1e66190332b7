"""What the argument `loss` may be. The formulas of those that are names stand in `kernels.loss_functions`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from ..checks import scalars
from ..kernels.formulas import loss_functions
from .custom import Loss


@dataclass(frozen=True)
class Huber:
    """The loss e^2 / 2 of errors e = a - y where |e| <= delta, else delta (|e| - delta / 2) (Huber 1964).

    It is summed over the outputs and averaged over the samples. Large errors count less than in the quadratic loss.

    Parameters
    ----------
    delta : float
        The error, above 0, from which on the loss is a straight line. Default 1, which is what `loss="huber"` means.

    Examples
    --------
    >>> import fastnn
    >>> model = fastnn.Model([1, 1], output="identity", loss=fastnn.Huber(delta=2.0), init="zeros")
    >>> model.loss([[0], [0]], [1.0, 10.0])  # the mean of 1/2 and 2 (10 - 1)
    9.25
    """

    delta: float = 1.0
    name: ClassVar[str] = "huber"

    def __post_init__(self) -> None:
        object.__setattr__(self, "delta", scalars.number("delta", self.delta, 0.0, open_low=True))


@dataclass(frozen=True)
class Quantile:
    """The loss q (y - a) where a < y, else (1 - q) (a - y), of which the q-quantile is the minimum.

    It is also called pinball loss (Koenker and Bassett 1978), summed over the outputs and averaged over the samples.

    Parameters
    ----------
    q : float
        In (0, 1): the share of the targets that shall lie below the output. Default 0.5, the median, which is what
        `loss="quantile"` means.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> model = fastnn.Model([1, 1], output="identity", loss=fastnn.Quantile(q=0.9), init="zeros", rng=0)
    >>> y = np.arange(100) / 100
    >>> history = model.fit(np.zeros((100, 1)), y, epochs=500, batch_size=100)
    >>> print(round(float(model.biases[0][0]), 1))
    0.9
    """

    q: float = 0.5
    name: ClassVar[str] = "quantile"

    def __post_init__(self) -> None:
        object.__setattr__(self, "q", scalars.number("q", self.q, 0.0, 1.0, open_low=True))


WITH_PARAMETER = {kind.name: kind for kind in (Huber, Quantile)}
AnyLoss = str | Huber | Quantile | Loss


def check(loss: Any, dtype: str) -> None:
    """Raise where the argument `loss` of a model is no loss, or its parameter is out of range when it is rounded."""
    if isinstance(loss, (Huber, Quantile)):
        with np.errstate(all="ignore"):
            type(loss)(float(np.dtype(dtype).type(parameter_of(loss))))
    elif not isinstance(loss, Loss):
        scalars.choice("loss", loss, loss_functions.NAMES)


def name_of(loss: AnyLoss) -> str:
    """Its name."""
    return loss if isinstance(loss, str) else loss.name


def kernel_name(loss: AnyLoss, output: str) -> str:
    """The kernels' name of it with an output activation, or "" where the two do not go together."""
    return loss_functions.kernel_name(loss._kernel if isinstance(loss, Loss) else name_of(loss), output)


def parameter_of(loss: AnyLoss) -> float | None:
    """Its parameter, None where it has none or the default."""
    return next(iter(asdict(loss).values())) if isinstance(loss, (Huber, Quantile)) else None


def described(loss: AnyLoss) -> Any:
    """What stands for it in a file: its name, or a dict of that and its parameter, or a dict of the user's name."""
    if isinstance(loss, (Huber, Quantile)):
        return {"name": loss.name, **asdict(loss)}
    return {"custom": loss.name} if isinstance(loss, Loss) else loss


def restored(description: Any) -> Any:
    """The loss of what `described` gave, unless it is a user's own; raises where it is none."""
    if not isinstance(description, Mapping):
        return description
    settings = dict(description)
    return WITH_PARAMETER[settings.pop("name")](**settings)
