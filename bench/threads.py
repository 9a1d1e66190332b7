"""What a second thread gives, and what happens when another process wants its core.

Each network trains with one thread and with two, alone and beside a loop that never ends, in turn. It prints medians,
their ratio and the ratio of the best two. The loop is bound to one CPU, so that whoever shares it with the loop is left
half of it.
"""

import contextlib
import os
import subprocess
import sys

import numpy as np

import fastnn

from . import cases
from .markdown import Table, printed
from .timing import in_turn, repeats, seconds

ROUNDS = 5
NAMES = (
    *("784-30-10 b10", "784-100-10 b32", "64-32-10 b32", "64-32-10 b200", "4-24-24-3 b256"),
    *("784-128-64-10 b128", "512-512-512-10 b256"),
)
OPTIONS = {"--case": cases.case_option() | {"help": f"networks (default {', '.join(NAMES)})"}}
SECONDS, QUICK_SECONDS = 1.0, 0.01
FIGURES = printed("threads")
LOOP = """import os, sys
os.sched_setaffinity(0, [int(sys.argv[1])])
parent = os.getppid()
print(flush=True)
while os.getppid() == parent:  # it ends with this process
    for _ in range(1_000_000):
        pass"""


@contextlib.contextmanager
def busy_core():
    """A process spins on one of this process's CPUs in here."""
    cpu = str(max(os.sched_getaffinity(0)))
    with subprocess.Popen([sys.executable, "-c", LOOP, cpu], stdout=subprocess.PIPE) as loop:
        loop.stdout.readline()
        try:
            yield
        finally:
            loop.kill()


def rates(case, rounds, total):
    """{(threads, busy): samples a second of each round}, where a turn takes about so many seconds."""
    X, y = cases.data(case)
    models = [fastnn.Model(case.sizes, rng=0) for busy in (False, True)]  # each knows how many threads pay for it
    settings = {"batch_size": case.batch_size, "optimizer": fastnn.SGD(cases.LEARNING_RATE)}

    def train(epochs, threads, busy):
        return seconds(lambda: models[busy].fit(X, y, epochs=epochs, threads=threads, **settings))

    train(1, 1, False)  # writes the programs
    epochs = repeats(lambda n: train(n, 1, False), total)

    def turn(threads, busy):
        with busy_core() if busy else contextlib.nullcontext():
            return epochs * case.n_samples / train(epochs, threads, busy)

    kinds = [(threads, busy) for busy in (False, True) for threads in (1, 2)]
    return in_turn({kind: lambda kind=kind: turn(*kind) for kind in kinds}, rounds)


def run(options):
    """Print a line for each network."""
    if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2:
        sys.exit("this needs Linux and two CPUs")
    columns = "threads=1", "threads=2", "ratio", "of the best"
    table = Table(
        "threads", "network", *columns, f"busy: {columns[0]}", *columns[1:], title="samples/s, alone and beside a loop"
    )
    for case in cases.chosen(options.case or NAMES):
        case = case.cut(1000) if options.quick else case
        measured = rates(case, options.rounds, QUICK_SECONDS if options.quick else SECONDS)
        cells = []
        for busy in (False, True):
            one, two = measured[1, busy], measured[2, busy]
            middle, other = np.median(one), np.median(two)
            cells += [f"{middle:,.0f}", f"{other:,.0f}", f"{other / middle:.2f}", f"{max(two) / max(one):.2f}"]
        table.add(case.name, *cells)
