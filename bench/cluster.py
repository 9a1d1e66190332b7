"""What an engine takes beside threads: a population in chunks on processes and on a Ray cluster of this machine.

1,000 networks of 64-32-10 train in batches of 32, for so many epochs that threads take about 20 s (--seconds). `start`
is what starting the engine takes, `first` a fit of 8 networks after it, in which each worker imports fastnn and loads
compiled code. Then whole fits run in turn; a ratio is to threads. All sides have the same bits, which is checked.

The other table is by a formula, from the seconds of a network and of a row that are measured here and 1 ms of overhead
a task: what a search of 100,000 networks and predictions of 10^10 rows take on many machines of 32 CPUs.
"""

import time

import numpy as np

import fastnn
from fastnn.network.threads import resolve_threads

from .machine import print_host
from .markdown import Table, printed
from .timing import in_turn, medians, ratios

ROUNDS = 3
FIGURES = printed("cluster", "many-machines")
OPTIONS = {
    "--seconds": {"type": float, "default": 20.0, "help": "of the fit on threads (default 20)"},
    "--side": {"nargs": "+", "default": ["threads", "processes", "ray"], "help": "which of threads, processes, ray"},
}
SIZES, BATCH, MEMBERS, QUICK_MEMBERS, ROWS = (64, 32, 10), 32, 1000, 16, 1437
TARGET = 1.11  # of a whole fit, beside threads
CPUS, MACHINES = 32, (1, 10, 100)  # of a machine, and how many there are
SEARCH, PREDICTED, OVERHEAD = 100_000, 10**10, 0.001  # networks, rows and seconds a task of the formula
ENGINES = {"threads": lambda: None, "processes": fastnn.Processes, "ray": fastnn.Ray}


def samples():
    """Images of digits, and their classes."""
    X, y = fastnn.load_digits()
    return X[:ROWS].astype(np.float32), y[:ROWS]


def population(n):
    """Networks before they train."""
    layers = [SIZES[0], fastnn.Dense(SIZES[1], "tanh"), fastnn.Dense(SIZES[2], "softmax")]
    return fastnn.Population(layers, n, loss="cross_entropy", rng=0)


def fit(n, epochs, engine):
    """(seconds, the population) of a fit."""
    found, (X, y) = population(n), samples()
    began = time.perf_counter()
    found.fit(X, y, epochs=epochs, batch_size=BATCH, optimizer=fastnn.Adam(), engine=engine)
    return time.perf_counter() - began, found


def machines_seconds(work, overhead, chunk, start, n_machines):
    """Seconds of tasks on n machines: work in CPU seconds, a task's overhead, its length, and the start of workers.

    T = start + (work / CPUs) (1 + overhead / chunk) + chunk: the last chunks end at different times.
    """
    return start + work / (n_machines * CPUS) * (1 + overhead / chunk) + chunk


def print_formula(network_seconds, row_seconds, overhead, start):
    """The second table."""
    columns = [f"{n} x {CPUS} CPUs" for n in MACHINES]
    table = Table("many-machines", "what", *columns, title="By the formula, seconds")
    for what, work in (
        (f"{SEARCH:,} networks of {network_seconds:.2g} s", SEARCH * network_seconds),
        (f"{PREDICTED:,} rows of {1e9 * row_seconds:.0f} ns", PREDICTED * row_seconds),
    ):
        times = [machines_seconds(work, overhead, 2.0, start, n) for n in MACHINES]
        table.add(what, *(f"{each:,.0f}" for each in times))


def run(options):
    """Print the tables."""
    print_host()
    n = QUICK_MEMBERS if options.quick else MEMBERS
    epochs = 2
    fit(n, epochs, None)
    epochs = max(2, round(epochs * (0.05 if options.quick else options.seconds) / fit(n, epochs, None)[0]))
    expected, engines, starts = None, {}, {}
    for name in options.side:
        began, engine = time.perf_counter(), ENGINES[name]()
        if engine is not None:
            engine.start()
        starts[name] = time.perf_counter() - began, fit(8, 1, engine)[0]
        engines[name] = engine

    def turn(name):
        nonlocal expected
        seconds, found = fit(n, epochs, engines[name])
        expected = found.vectors if expected is None else expected
        if not np.array_equal(found.vectors, expected):
            raise ArithmeticError(f"the networks of {name} have other bits")
        return seconds

    figures = in_turn({name: lambda name=name: turn(name) for name in engines}, options.rounds)
    columns = "start", "first fit", "whole fit", f"beside {options.side[0]}", "target"
    table = Table("cluster", "engine", *columns, title=f"{n:,} networks, {epochs} epochs")
    for name, seconds in medians(figures).items():
        ratio = ratios(figures, options.side[0])[name]
        times = [f"{each:.1f} s" for each in (*starts[name], seconds)]
        table.add(name, *times, f"{ratio:.2f}", TARGET if name != options.side[0] else "")
    trained = population(1)[0]
    X, _ = samples()
    many = np.tile(X, (20, 1))
    began = time.perf_counter()
    trained.predict(many, threads=1)
    row = (time.perf_counter() - began) / len(many)
    cpu_seconds = medians(figures)[options.side[0]] * resolve_threads(None) / n
    print_formula(cpu_seconds, row, OVERHEAD, max(map(sum, starts.values())))
