"""Fits and scores on an engine: what scikit-learn's functions call here in place of joblib's `Parallel`."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import sklearn

from ..jobs.cuts import Cuts, Span
from ..jobs.engines import Engine, Run

OF_CALLER = "caller", "callback_ctx"  # what a fit tells callbacks of the caller with, of which there are none


class Called(NamedTuple):
    """What a task gives back."""

    results: list[Any]
    warned: list[tuple[Any, ...]]  # messages, categories, files, lines
    seconds: float


def called(calls: list[Callable[..., Any]], X: Any, y: Any, config: dict[str, Any]) -> Called:
    """A task: what calls give for (estimator, X, y, ...), with scikit-learn's settings of the caller."""
    began = time.perf_counter()
    with sklearn.config_context(**config), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        results = [call(X, y) for call in calls]
    warned = [(each.message, each.category, each.filename, each.lineno) for each in caught]
    return Called(results, warned, time.perf_counter() - began)


class _Call(NamedTuple):
    """A call of scikit-learn's without the samples, which lie on each machine."""

    function: Callable[..., Any]
    estimator: Any
    others: tuple[Any, ...]
    keywords: dict[str, Any]

    def __call__(self, X: Any, y: Any) -> Any:
        return self.function(self.estimator, X, y, *self.others, **self.keywords)


class Elsewhere:
    """Calls tasks on an engine. It has of joblib's `Parallel` what scikit-learn's searches use."""

    def __init__(self, engine: Engine, n_jobs: int | None = None, **_: Any):
        """joblib's arguments say how it runs tasks, which here the engine does."""
        self.engine = engine
        self.sent: tuple[Any, Any] | None = None  # what stands for X and y, the same in all calls

    def __enter__(self) -> Elsewhere:
        return self

    def __exit__(self, *_: object) -> None:
        self.sent = None

    def __call__(self, tasks: Iterable[Any]) -> list[Any]:
        """What the tasks give, in their order."""
        calls, samples = [], (None, None)
        for task in tasks:
            estimator, *samples = task.args[:3]
            others = task.args[3:]
            keywords = {name: value for name, value in task.keywords.items() if name not in OF_CALLER}
            calls.append(_Call(task.func, estimator, others, keywords))
        results: list[Any] = [None] * len(calls)
        if not calls:
            return results
        cuts = Cuts(np.ones(len(calls)), max(1.0, self.engine.chunk_seconds), self.engine.n_workers)
        config, known = sklearn.get_config(), dict[Any, Any]()
        with Run(self.engine, called, "fits") as run:
            if self.sent is None:
                self.sent = run.put(samples[0]), run.put(samples[1])

            for part, found in run.results(self._parts(cuts, calls, config)):
                results[part.items] = found.results
                cuts.note(part, found.seconds)
                for message, category, file, line in found.warned:
                    warnings.warn_explicit(message, category, file, line, registry=known)
        return results

    def _parts(self, cuts: Cuts, calls: list[_Call], config: dict[str, Any]) -> Iterator[tuple[Span, tuple[Any, ...]]]:
        """(which calls, arguments) of the tasks."""
        while (part := cuts.next()) is not None:
            yield part, (calls[part.items], *(self.sent or ()), config)
