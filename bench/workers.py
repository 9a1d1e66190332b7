"""What a model loses and gains where several workers train it, and how many of them pay.

DIR holds MNIST's IDX files. The first table is 784-100-10, relu, softmax, on 60,000 uint8 images, in batches of 32, for
5 epochs: without workers, then by workers on processes, as many as CPUs, which average after an epoch, 100 or 10 steps
of each. The learning rate is `rate` times that of the optimizer. The accuracy is the mean over seeds, one a round, in
percent, and what it loses is beside the fit without workers. `idle` is the share of the time of all processes in which
they do not train: communication, averages, and waiting for the slowest one. `by the formula` is the time by
`epoch_seconds`, with a link between processes that is measured. With --parquet ROWS the table is of 20-64-2 on so many
rows of a made-up set, in 8 Parquet files in the system's cache, in batches of 256, for 2 epochs, by Adam.

The other table is by this formula alone: up to how many workers half of the time is training.
"""

import math
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

import fastnn

from .cases import count
from .machine import print_host
from .markdown import Table, printed
from .mnist import images
from .timing import seconds

ROUNDS = 3
FIGURES = printed("workers", "workers-parquet")
OPTIONS = {
    "folder": {"metavar": "DIR", "type": Path, "nargs": "?"},
    "--parquet": {"metavar": "ROWS", "type": count, "help": "a set of Parquet files in place of MNIST"},
}
FILES, TEST_ROWS, GROUP = 8, 50_000, 50_000  # of Parquet
OPTIMIZERS = {"SGD": lambda factor: fastnn.SGD(0.1 * factor), "Adam": lambda factor: fastnn.Adam(0.001 * factor)}
TIMES = (False, True)  # whether the learning rate is multiplied by the number of workers
WORKERS, BETWEEN = (2, 4), ("epoch", 100, 10)
LINKS = {  # (seconds of latency a round, bytes a second of the driver's link)
    "10 Gbit/s, 0.2 ms": (2e-4, 1.25e9),
    "1 Gbit/s, 1 ms": (1e-3, 1.25e8),
    "100 Mbit/s, 20 ms": (2e-2, 1.25e7),
}
SMALL, LARGE = 1_000, 10_000_000  # bytes that are sent to measure a link


class Task(NamedTuple):
    """What is trained, and what on."""

    sizes: tuple[int, ...]
    batch: int
    epochs: int
    scale: float
    samples: tuple  # arguments of `fit`
    rows: int
    test: tuple  # X and y
    optimizers: tuple[str, ...] = ("SGD", "Adam")
    between: tuple = BETWEEN
    block: str = "workers"  # the name of its table

    @property
    def steps(self):
        """Of an epoch without workers."""
        return -(-self.rows // self.batch)


# ---- the model ----


def round_bytes(n_parameters, vectors, itemsize=4):
    """What a worker gets, and sends, in a round: the parameters and the optimizer's vectors."""
    return (1 + vectors) * n_parameters * itemsize


def epoch_seconds(workers, steps, step_seconds, between, n_bytes, latency, bandwidth, processes=None):
    """Seconds of an epoch of S steps that k workers share, who are averaged after H steps of each.

    T(k) = R (H t c + L + 2 k b / B), with R = S / (k H) rounds, t seconds a step, L seconds of latency a round, b bytes
    from the driver to each worker and as many back, at B bytes a second of the driver's link, which all share. c is
    k / processes, but at least 1: how many workers a process trains one after another. H of None is an epoch, S / k.
    """
    between = steps / workers if between is None else min(between, steps / workers)
    turns = max(1.0, workers / (processes or workers))
    rounds = steps / workers / between
    return rounds * (between * step_seconds * turns + latency + 2 * workers * n_bytes / bandwidth)


def most_workers(steps, step_seconds, between, n_bytes, latency, bandwidth):
    """Up to how many workers, each with a process, half of the time or more is training.

    L + 2 k b / B <= H t gives k = (H t - L) B / (2 b), at most S / H. For H = S / k, an epoch, it gives
    k = (sqrt(L^2 + 8 b S t / B) - L) B / (4 b). 0 where one worker is too many. See `epoch_seconds`.
    """
    if between is None:
        root = math.sqrt(latency**2 + 8 * n_bytes * steps * step_seconds / bandwidth)
        return int((root - latency) * bandwidth / (4 * n_bytes))
    return int(max(0.0, min((between * step_seconds - latency) * bandwidth / (2 * n_bytes), steps / between)))


# ---- measured ----


class Timed:
    """An engine that adds up the seconds that its tasks take."""

    def __init__(self, engine):
        self.engine, self.seconds = engine, 0.0

    def __getattr__(self, name):
        return getattr(self.engine, name)

    def submit(self, *call):
        """Begin a call."""
        return self.engine.submit(timed, *call)

    def wait(self, tickets, most):
        """What calls gave that are done."""
        found = self.engine.wait(tickets, most)
        self.seconds += sum(taken for _, (taken, _) in found)
        return [(ticket, result) for ticket, (_, result) in found]


def timed(function, *arguments):
    """(seconds, what a function gives)."""
    start = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - start, result


def _same(array):
    return array


def link(engine):
    """(seconds of latency, bytes a second) between here and a process: of a small array there and back, and a large."""

    def there_and_back(n):
        array = np.zeros(n, np.uint8)
        return min(seconds(lambda: engine.wait([engine.submit(_same, array)], 60)) for _ in range(5))

    there_and_back(SMALL)  # starts a process
    small, large = there_and_back(SMALL), there_and_back(LARGE)
    return small, 2 * LARGE / max(large - small, 1e-9)


def mnist(folder, quick):
    """The task on MNIST's images."""
    X, y, *test = images(folder, quick)
    return Task((784, 100, 10), 32, 5, 1 / 255, (X, y), len(X), tuple(test))


def parquet(folder, rows):
    """The task on Parquet files that it writes: which of two classes a network of random weights decides for."""
    import pyarrow
    from pyarrow import parquet as files

    rng = np.random.default_rng(0)
    w, v = rng.standard_normal((20, 16)) / 2, rng.standard_normal(16)

    def drawn(n):
        X = rng.standard_normal((n, 20)).astype(np.float32)
        return X, (np.tanh(X @ w) @ v > 0).astype(np.int32)

    for i, n in enumerate(np.diff(np.linspace(0, rows, FILES + 1).astype(int))):
        X, y = drawn(int(n))
        columns = {f"x{k}": X[:, k] for k in range(20)} | {"y": y}
        files.write_table(pyarrow.table(columns), folder / f"{i}.parquet", row_group_size=GROUP)
    stream = fastnn.Stream.from_parquet([folder / f"{i}.parquet" for i in range(FILES)], "y")
    between, block = ("epoch", 100), "workers-parquet"
    return Task((20, 64, 2), 256, 2, 1.0, (stream,), rows, drawn(TEST_ROWS), ("Adam",), between, block)


def fit(task, optimizer, seed, **options):
    """(seconds, accuracy in percent) of a fit."""
    n_inputs, hidden, n_out = task.sizes
    layers = [n_inputs, fastnn.Dense(hidden, "relu"), fastnn.Dense(n_out, "softmax")]
    model = fastnn.Model(layers, loss="cross_entropy", init="he_normal", input_scale=task.scale, rng=seed)
    how = {"epochs": task.epochs, "batch_size": task.batch, "optimizer": optimizer, "threads": 1}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the table says what is lost
        history = model.fit(*task.samples, **how, **options)
    return float(np.sum(history.seconds)), 100 * model.evaluate(*task.test)["accuracy"]


def measure(task, rounds, engine):
    """{(optimizer, rate, workers, between): arrays of seconds, accuracy and idle share}, a seed a round."""
    found = {}
    for seed in range(rounds):
        for name, make in ((name, OPTIMIZERS[name]) for name in task.optimizers):
            taken, accuracy = fit(task, make(1), seed)
            found.setdefault((name, 1, 1, "-"), []).append((taken, accuracy, 0.0))
            for workers in WORKERS:
                for rate in (workers if scaled else 1 for scaled in TIMES):
                    for between in task.between:
                        clock = Timed(engine)
                        options = {"workers": workers, "average": between, "engine": clock}
                        taken, accuracy = fit(task, make(rate), seed, **options)
                        idle = 1 - clock.seconds / (taken * min(workers, engine.n_workers))
                        found.setdefault((name, rate, workers, between), []).append((taken, accuracy, idle))
    return {key: np.array(each).T for key, each in found.items()}


def print_measured(task, found, processes, wire):
    """The first table."""
    n_parameters = fastnn.Model(task.sizes).n_parameters
    columns = "rate times", "workers", "average", "accuracy", "loses", "seconds", "idle", "by the formula"
    table = Table(task.block, "optimizer", *columns, title="Workers of one model")
    for (name, rate, workers, between), (taken, accuracy, idle) in found.items():
        alone, by_formula = found[name, 1, 1, "-"], ""
        if workers > 1:
            n_bytes = round_bytes(n_parameters, 2 if name == "Adam" else 0)
            h = None if between == "epoch" else between
            step = np.median(alone[0]) / (task.epochs * task.steps)
            by_formula = f"{task.epochs * epoch_seconds(workers, task.steps, step, h, n_bytes, *wire, processes):.2f}"
        figures = accuracy.mean(), (alone[1] - accuracy).mean(), np.median(taken), np.median(idle)
        table.add(name, rate, workers, between, *(f"{each:.2f}" for each in figures), by_formula)


def print_most(task, step_seconds):
    """The second table."""
    n_bytes, sizes = round_bytes(fastnn.Model(task.sizes).n_parameters, 2), "-".join(map(str, task.sizes))
    title = f"{sizes}, Adam, {n_bytes / 1e6:.2f} MB a worker each way, {step_seconds * 1e6:.0f} us a step: most workers"
    table = Table("most-workers", "link", *BETWEEN, title=title)
    for name, wire in LINKS.items():
        most = [
            most_workers(task.steps, step_seconds, None if between == "epoch" else between, n_bytes, *wire)
            for between in BETWEEN
        ]
        table.add(name, *most)


def run(options):
    """Print both tables."""
    if options.folder is None and options.parquet is None:
        sys.exit("python -m bench workers needs DIR or --parquet ROWS")
    with tempfile.TemporaryDirectory() as folder:
        if options.parquet:
            task = parquet(Path(folder), options.parquet)
        else:
            task = mnist(options.folder, options.quick)
        print_host()
        engine = fastnn.Processes()
        wire = link(engine)
        print(f"between processes: {wire[0] * 1e6:.0f} us, {wire[1] / 1e9:.2f} GB/s; {engine.n_workers} processes")
        found = measure(task, options.rounds, engine)
    print_measured(task, found, engine.n_workers, wire)
    print_most(task, np.median(found["Adam", 1, 1, "-"][0]) / (task.epochs * task.steps))
