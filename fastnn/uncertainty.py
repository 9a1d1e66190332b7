"""Predictions that say how sure they are: a Gaussian's deviations, and samples with dropout."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypedDict, TypeVar

import numpy as np
from numpy.typing import NDArray

from .checks import scalars
from .kernels.formulas.loss_functions import LEAST_VARIANCE
from .network.network import Network
from .training import arguments
from .training.plan import MAX_ROWS

F = TypeVar("F", bound=Callable[..., Any])
Pair = tuple[NDArray[Any], NDArray[Any]]
SAMPLES = 50  # of dropout, unless something else is said


class How(TypedDict, total=False):
    """Options of `Model.predict`."""

    threads: int | None
    dropout: float | Sequence[float] | None
    samples: int | None
    rng: int | np.random.Generator | None


def predict(
    network: Network,
    inputs: NDArray[Any],
    *,
    threads: int | None = None,
    return_std: bool = False,
    dropout: float | Sequence[float] | None = None,
    samples: int | None = None,
    rng: int | np.random.Generator | None = None,
) -> Any:
    """What `Model.predict` gives where it is asked for deviations or samples, of inputs as the kernels read them."""
    architecture = network.architecture
    deviations = scalars.boolean("return_std", return_std)
    if deviations and architecture.loss_name != "gaussian":
        raise ValueError(f"return_std needs the loss 'gaussian', got {architecture.loss_name!r}")
    if threads is not None:
        scalars.integer("threads", threads, 1)
    if dropout is None:
        for name, value in (("samples", samples), ("rng", rng)):
            if value is not None:
                raise ValueError(f"{name} needs dropout, got dropout=None")
        outputs = network.inference.outputs_of(inputs, threads)
    else:
        rates = arguments.dropout_rates(architecture, dropout)
        count = SAMPLES if samples is None else scalars.integer("samples", samples, 1, MAX_ROWS)
        outputs = network.inference.drawn(inputs, rates, count, scalars.generator(rng), threads)
    return parted(outputs) if deviations else outputs


def parted(outputs: NDArray[Any]) -> Pair:
    """(means, standard deviations) of a Gaussian's outputs."""
    means, logs = np.split(outputs, 2, axis=-1)
    with np.errstate(all="ignore"):
        return means, np.sqrt(np.exp(logs) + logs.dtype.type(LEAST_VARIANCE))


def stated(method: F) -> F:
    """Decorator of `Model.predict`: `help` and `inspect` show the options of `predict`, which it takes as a dict.

    A default of an argument that has to be named costs each call 20 ns.
    """
    taken = list(inspect.signature(method).parameters.values())[:2]
    options = [each for each in inspect.signature(predict).parameters.values() if each.kind is each.KEYWORD_ONLY]
    method.__signature__ = inspect.Signature([*taken, *options])  # type: ignore[attr-defined]
    return method
