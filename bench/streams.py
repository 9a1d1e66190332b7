"""What it costs to train on samples that are not in memory: `python -m bench.streams`.

784-100-10 in batches of 32, on 60,000 rows of uint8, on one CPU: a `fit` of an epoch in memory, then one from each
source of a `Stream`, in turn. Files are in the system's cache. The times are medians, as ratios to that in memory of
the same round; the memory is the most that an epoch's arrays take, in buffers of the stream, without pyarrow's own.
"""

import statistics
import tempfile
import time
import tracemalloc
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import fastnn

from .measuring import machine, stay_on_one_cpu

SIZES, BATCH, ROWS, BUFFER_ROWS, FILES, ROUNDS = (784, 100, 10), 32, 60_000, 8000, 6, 7


def sources(folder, X, y):
    """{name: the arguments of `fit` that hold the samples}."""
    options = {"buffer_rows": BUFFER_ROWS}
    names = [(folder / f"X{i}.npy", folder / f"y{i}.npy") for i in range(FILES)]
    for (x_name, y_name), rows in zip(names, np.array_split(np.arange(len(X)), FILES), strict=True):
        np.save(x_name, X[rows])
        np.save(y_name, y[rows])
    mapped = np.memmap(folder / "X", np.uint8, "w+", shape=X.shape)
    mapped[...] = X
    batches = [(X[i : i + BATCH], y[i : i + BATCH]) for i in range(0, len(X), BATCH)]
    found = {
        "in memory": (X, y),
        "memmap": (fastnn.Stream.from_arrays(mapped, y, **options),),
        ".npy files": (fastnn.Stream.from_npy(*map(list, zip(*names, strict=True)), **options),),
        f"batches of {BATCH}": (fastnn.Stream(batches, **options),),
    }
    if find_spec("pyarrow"):
        import pyarrow
        from pyarrow import parquet

        columns = {str(i): X[:, i] for i in range(X.shape[1])} | {"y": y}
        parquet.write_table(pyarrow.table(columns), folder / "all.parquet", row_group_size=BUFFER_ROWS // 2)
        found["Parquet"] = (fastnn.Stream.from_parquet(folder / "all.parquet", "y", **options),)
    return found


def measure(n_rows=ROWS, rounds=ROUNDS):
    """{source: (seconds, ratio to memory, the most MiB of arrays)}."""
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 256, (n_rows, SIZES[0]), dtype=np.uint8), rng.integers(0, SIZES[-1], n_rows)
    with tempfile.TemporaryDirectory() as folder:
        samples = sources(Path(folder), X, y)
        models = {name: fastnn.Model(SIZES, input_scale=1 / 255, rng=0) for name in samples}
        fits = {
            name: lambda name=name: models[name].fit(*samples[name], epochs=1, batch_size=BATCH, threads=1)
            for name in samples
        }
        peaks, times = {name: _peak(fit) for name, fit in fits.items()}, {name: [] for name in fits}
        for _ in range(rounds):
            for name, fit in fits.items():
                start = time.perf_counter()
                fit()
                times[name].append(time.perf_counter() - start)
    memory = times["in memory"]
    ratios = {name: statistics.median(b / a for a, b in zip(memory, each, strict=True)) for name, each in times.items()}
    return {name: (statistics.median(each), ratios[name], peaks[name]) for name, each in times.items()}


def _peak(function):
    """The most MiB that Python and NumPy allocate in a call."""
    function()  # makes what later calls use again
    tracemalloc.start()
    function()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most / 2**20


def main():
    """Print the table."""
    stay_on_one_cpu()
    print("\n".join(f"{key}: {value}" for key, value in machine().items()))
    buffer = BUFFER_ROWS * (SIZES[0] + 4) / 2**20  # rows of uint8, and an int32 label each
    for name, (seconds, ratio, most) in measure().items():
        print(f"{name:14} {seconds:6.3f} s {ratio:6.2f} {most / buffer:6.1f} buffers of {buffer:.1f} MiB", flush=True)


if __name__ == "__main__":
    main()
