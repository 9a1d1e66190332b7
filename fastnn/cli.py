"""The command line: `python -m fastnn warmup`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np


def warmup(dtypes: Sequence[str]) -> None:
    """Compile every kernel and keep it in the cache, so that no later process waits: for images and CI."""
    from . import Model
    from .kernels import entry, library
    from .kernels.cache import KernelCache

    for dtype in dtypes:
        start = time.perf_counter()
        model = Model([2, 2], dtype=dtype, rng=0)
        X, y = np.zeros((600, 2), dtype), np.zeros(600, np.int64)
        model.fit(X, y, epochs=1, batch_size=600)
        model.evaluate(X, y)
        model.predict(X[:1])
        model._network.predict_on(2, X, np.empty((600, 2), dtype))
        print(f"{dtype}: {time.perf_counter() - start:.1f} s")
    nothing = np.zeros((1, library.WIDTH), np.int64), np.zeros((1, 3, 4), np.int64), np.zeros((2, 2), np.int64)
    entry.compile_help(*nothing)
    print(f"kernels are kept in {KernelCache.folder or 'no folder: none can be written (set FASTNN_CACHE_DIR)'}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command."""
    parser = argparse.ArgumentParser(prog="python -m fastnn", description="Train small neural networks on a CPU, fast.")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("warmup", help="compile the kernels now, so that no later process waits")
    command.add_argument("--dtype", choices=("float32", "float64"), action="append", help="default: both")
    options = parser.parse_args(arguments)
    warmup(options.dtype or ("float32", "float64"))
