"""Fits and scores on an engine, or kept in a folder: what scikit-learn's functions call in place of `Parallel`."""

from __future__ import annotations

import io
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
import sklearn

from ..checks.scalars import shown
from ..files import storage
from ..jobs.checkpoints import Checkpoint
from ..jobs.cuts import Cuts, Span
from ..jobs.engines import Engine, Here, Run, node_of

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


class Finished:
    """Results of calls that have ended, in a folder: a pickle for each, by a checksum of what it depends on."""

    def __init__(self, checkpoint: Any, engine: Engine, X: Any, y: Any):
        """Raises ValueError where the folder is of other samples or of another kind of node."""
        samples = {"X": joblib.hash(X), "y": joblib.hash(y)}
        self._folder = Checkpoint(checkpoint, "a search", node_of(engine), samples).folder

    def path(self, call: _Call) -> Path:
        """Where the result of a call lies, or will."""
        try:
            found = joblib.hash((call.function.__qualname__, call.estimator, call.others, call.keywords))
        except Exception as error:  # pickle raises errors of many kinds
            told = f"checkpoint needs what pickle takes, got {shown(call.estimator)} and {shown(call.keywords)}"
            raise ValueError(told) from error
        return self._folder / f"{found}.pickle"

    @staticmethod
    def keep(path: Path, result: Any) -> None:
        """Write a result, whole or not at all."""
        content = io.BytesIO()
        joblib.dump(result, content)
        storage.put(path, content.getvalue())


class Elsewhere:
    """Calls tasks on an engine. It has of joblib's `Parallel` what scikit-learn's searches use."""

    def __init__(self, engine: Engine | None, checkpoint: Any, n_jobs: int | None = None, **_: Any):
        """joblib's arguments say how it runs tasks, which here the engine does; None is this process."""
        self.engine, self.checkpoint = engine or Here(), checkpoint
        self.sent: tuple[Any, Any] | None = None  # what stands for X and y, the same in all calls
        self.finished: Finished | None = None

    def __enter__(self) -> Elsewhere:
        return self

    def __exit__(self, *_: object) -> None:
        self.sent = self.finished = None

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
        paths: list[Path] | None = None
        if self.checkpoint is not None:
            self.finished = self.finished or Finished(self.checkpoint, self.engine, *samples)
            paths = [self.finished.path(call) for call in calls]
            for i, path in enumerate(paths):
                results[i] = joblib.load(path) if path.exists() else None
        left = [i for i, result in enumerate(results) if result is None]
        if not left:
            return results
        cuts = Cuts(np.ones(len(left)), max(1.0, self.engine.chunk_seconds), self.engine.n_workers)
        config, known = sklearn.get_config(), dict[Any, Any]()
        with Run(self.engine, called, "fits") as run:
            if self.sent is None:
                self.sent = run.put(samples[0]), run.put(samples[1])
            for part, found in run.results(self._parts(cuts, [calls[i] for i in left], config)):
                for i, result in zip(left[part.items], found.results, strict=True):
                    results[i] = result
                    if paths is not None:
                        Finished.keep(paths[i], result)
                cuts.note(part, found.seconds)
                for message, category, file, line in found.warned:
                    warnings.warn_explicit(message, category, file, line, registry=known)
        return results

    def _parts(self, cuts: Cuts, calls: list[_Call], config: dict[str, Any]) -> Iterator[tuple[Span, tuple[Any, ...]]]:
        """(which calls, arguments) of the tasks."""
        while (part := cuts.next()) is not None:
            yield part, (calls[part.items], *(self.sent or ()), config)
