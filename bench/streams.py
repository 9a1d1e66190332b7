"""What training takes in memory, and on samples that are not in memory.

The first lines are what `fit` adds to the memory of a process whose samples have the model's dtype already (Linux).

The table is 784-100-10 in batches of 32, on 60,000 rows of uint8, on one CPU: a `fit` of an epoch in memory, then one
from each source of a `Stream`, in turn. Files are in the system's cache. The times are medians, as ratios to that in
memory of the same round; the memory is the most that an epoch's arrays take, in buffers of the stream, without
those of pyarrow.
"""

import tempfile
import tracemalloc
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import fastnn

from .machine import cpus, print_host
from .markdown import Table, printed
from .timing import in_turn, medians, ratios, seconds

ROUNDS, OPTIONS = 7, {}
FIGURES = printed("memory", "streams")
SIZES, BATCH, ROWS, BUFFER_ROWS, FILES = (784, 100, 10), 32, 60_000, 8000, 6
IN_MEMORY_ROWS, QUICK_ROWS = 50_000, 500


# ---- in memory ----


def peak_mib(reset=False):
    """The most memory this process has held since the last reset, in MiB (Linux)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def print_growth(n_rows):
    """Print the growth of the peak in a fit, after the kernels were loaded."""
    rng = np.random.default_rng(0)
    X, y = rng.random((n_rows, SIZES[0]), dtype=np.float32), rng.integers(0, SIZES[-1], n_rows).astype(np.int32)
    title = f"What fit adds to {X.nbytes / 2**20:.0f} MiB of samples, 784-100-10"
    table = Table("memory", "optimizer", "fit adds", "the parameters are", title=title)
    for name in ("sgd", "adam"):
        fastnn.Model(SIZES, rng=0).fit(X, y, epochs=0, batch_size=BATCH, optimizer=name)
        model = fastnn.Model(SIZES, rng=0)
        before = peak_mib(reset=True)
        model.fit(X, y, epochs=1, batch_size=BATCH, optimizer=name)
        table.add(name, f"{peak_mib() - before:.1f} MiB", f"{model.parameters.nbytes / 2**20:.2f} MiB")


# ---- on samples that are not ----


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


def measure(n_rows, rounds):
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
        peaks = {name: _peak(fit) for name, fit in fits.items()}
        times = in_turn({name: lambda fit=fit: seconds(fit) for name, fit in fits.items()}, rounds)
    middle, ratio = medians(times), ratios(times)
    return {name: (middle[name], ratio[name], peaks[name]) for name in times}


def _peak(function):
    """The most MiB that Python and NumPy allocate in a call."""
    function()  # makes what later calls use again
    tracemalloc.start()
    function()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most / 2**20


def run(options):
    """Print the growth of memory, and the table."""
    print_host()
    if Path("/proc/self/clear_refs").exists():
        print_growth(QUICK_ROWS if options.quick else IN_MEMORY_ROWS)
    buffer = BUFFER_ROWS * (SIZES[0] + 4) / 2**20  # rows of uint8, and an int32 label each
    with cpus(1):
        found = measure(QUICK_ROWS if options.quick else ROWS, options.rounds)
    columns = "seconds", "in memory 1", f"arrays at most, in buffers of {buffer:.1f} MiB"
    table = Table("streams", "source", *columns, title="Samples that are not in memory")
    for name, (taken, ratio, most) in found.items():
        table.add(name, f"{taken:.3f}", f"{ratio:.2f}", f"{most / buffer:.1f}")
