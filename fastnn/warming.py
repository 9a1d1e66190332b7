"""Compiling all kernels ahead of time, for `fastnn warmup`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def warmup(dtypes: Sequence[str], tell: Callable[[str], Any] = print) -> None:
    """Compile every kernel and keep it in the cache, so no later process waits: for container images, CI.

    The kernels are all vector functions, of which any network, loss and optimizer is made, and the functions that run
    them. `tell` gets a line for each dtype, and one that names the folder of the cache.
    """
    from .kernels.vector.cache import CodeFiles
    from .kernels.vector.library import library, names_for
    from .kernels.vector.matrix import grouped

    for dtype in dtypes:
        start, n = time.perf_counter(), 0
        for each in (dtype, grouped(dtype)):
            n += len(names_for(each))
            library(each).addresses(names_for(each))
        _run_once(dtype)
        tell(f"{dtype}: {n} vector functions and what runs them, {time.perf_counter() - start:.1f} s")
    tell(f"kernels are kept in {CodeFiles.folder or 'no folder: none can be written (set FASTNN_CACHE_DIR)'}")


def _run_once(dtype: str) -> None:
    """Call every function of `kernels.entry` as a model calls it. Functions for several threads run on any machine."""
    from . import SGD, Adam, Model, Population, fit_groups
    from .data.samples import Samples
    from .training.options import Options
    from .training.plan import plan_for

    model = Model([64, 64, 4], dtype=dtype, rng=0)
    X, labels, targets = np.zeros((600, 64), dtype), np.zeros(600, np.int64), np.zeros((600, 4), dtype)
    plan_for(model._network, Options(1, 512, SGD(), max_threads=2), Samples(X, targets))
    for sizes, batch_size in (([64, 64, 4], 512), ([64, 2, 4], 16)):  # the second one in lanes
        population = Population(sizes, 1, dtype=dtype, rng=0)
        population.fit(X, targets, epochs=1, batch_size=batch_size)
        population.predict(X)
    model.evaluate(X, labels)
    model.predict(X[:1])
    model._network.inference.predict(X, np.empty_like(targets), 2)
    model.partial_fit(X, labels)  # with a fresh optimizer this is an epoch of a single batch
    for inputs in (X, X.astype(np.uint8)):
        for y in (labels, targets):
            model.partial_fit(inputs[:8], y[:8])
    for inputs in (X[:16], X[:16].astype(np.uint8)):
        for optimizer in (SGD(), Adam(), Adam()):  # another one than before steps in copies
            outputs = model.forward(inputs)
            model.step(inputs, outputs, optimizer=optimizer)
        model.forward(inputs)
        model.backward(inputs, outputs, inputs=True)
    model.blend(model, 0.5)
    frame = {"key": np.arange(8) // 4, "x": np.arange(8.0), "y": np.arange(8.0) ** 2}
    for each in (frame, {name: column[::-1].copy() for name, column in frame.items()}):
        fit_groups(each, by="key", target="y", epochs=1, dtype=dtype).predict(each)
