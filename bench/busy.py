"""What a second thread gives, and what happens when another process wants its core: `python -m bench.busy`.

Each network trains with one thread and with two, alone and beside a loop that never ends, in turn; medians, and the
ratio of the best two. The loop is bound to one CPU, so that whoever shares it with the loop is left half of it.
"""

import contextlib
import os
import statistics
import subprocess
import sys
import time

import fastnn

from .cases import CASES, LEARNING_RATE, data

NAMES = (
    *("784-30-10 b10", "784-100-10 b32", "64-32-10 b32", "64-32-10 b200", "4-24-24-3 b256"),
    *("784-128-64-10 b128", "512-512-512-10 b256"),
)
ROUNDS, SECONDS = 5, 1.0
LOOP = "import os, sys\nos.sched_setaffinity(0, [int(sys.argv[1])])\nprint(flush=True)\nwhile True: pass"


@contextlib.contextmanager
def busy_core():
    """A process that spins on one of this process's CPUs."""
    cpu = str(max(os.sched_getaffinity(0)))
    with subprocess.Popen([sys.executable, "-c", LOOP, cpu], stdout=subprocess.PIPE) as loop:
        loop.stdout.readline()
        try:
            yield
        finally:
            loop.kill()


def rates(case):
    """{(threads, busy): samples a second of ROUNDS turns}, each of about SECONDS."""
    X, y = data(case)
    models = [fastnn.Model(case.sizes, rng=0) for busy in (False, True)]  # each knows how many threads pay for it
    settings = {"batch_size": case.batch_size, "optimizer": fastnn.SGD(LEARNING_RATE)}
    models[0].fit(X, y, epochs=1, **settings)
    start = time.perf_counter()
    models[0].fit(X, y, epochs=1, threads=1, **settings)
    epochs = max(1, round(SECONDS / (time.perf_counter() - start)))
    measured = {}
    for _ in range(ROUNDS):
        for busy in (False, True):
            with busy_core() if busy else contextlib.nullcontext():
                for threads in (1, 2):
                    start = time.perf_counter()
                    models[busy].fit(X, y, epochs=epochs, threads=threads, **settings)
                    seconds = time.perf_counter() - start
                    measured.setdefault((threads, busy), []).append(epochs * case.n_samples / seconds)
    return measured


def main():
    """Print a line for each network."""
    if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2:
        sys.exit("this needs Linux and two CPUs")
    print("samples/s: threads=1, threads=2, ratio, of the best | beside a busy loop, likewise")
    for case in CASES:
        if case.name in NAMES:
            measured = rates(case)
            parts = []
            for busy in (False, True):
                one, two = measured[1, busy], measured[2, busy]
                middle, other = statistics.median(one), statistics.median(two)
                parts.append(f"{middle:12,.0f} {other:12,.0f} {other / middle:5.2f} {max(two) / max(one):5.2f}")
            print(f"{case.name:20s} {' | '.join(parts)}", flush=True)


if __name__ == "__main__":
    main()
