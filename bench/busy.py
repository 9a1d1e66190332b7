"""What training does beside a process that keeps one core busy: `python -m bench.busy`.

Each network trains with one thread and with two, alone and beside a loop that never ends, in turn; medians. The loop is
bound to one CPU, so that whoever shares it with the loop is left half of it.
"""

import contextlib
import os
import statistics
import subprocess
import sys
import time

import fastnn

from .cases import CASES, LEARNING_RATE, data

NAMES = ("784-30-10 b10", "784-100-10 b32", "4-24-24-3 b256", "784-128-64-10 b128")
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
    """{(threads, busy): median samples a second}, each measured for SECONDS in ROUNDS turns."""
    X, y = data(case)
    model = fastnn.Model(case.sizes, rng=0)
    settings = {"batch_size": case.batch_size, "optimizer": fastnn.SGD(LEARNING_RATE)}
    model.fit(X, y, epochs=1, **settings)
    start = time.perf_counter()
    model.fit(X, y, epochs=1, threads=1, **settings)
    epochs = max(1, round(SECONDS / (time.perf_counter() - start)))
    measured = {}
    for _ in range(ROUNDS):
        for busy in (False, True):
            with busy_core() if busy else contextlib.nullcontext():
                for threads in (1, 2):
                    start = time.perf_counter()
                    model.fit(X, y, epochs=epochs, threads=threads, **settings)
                    seconds = time.perf_counter() - start
                    measured.setdefault((threads, busy), []).append(epochs * case.n_samples / seconds)
    return {key: statistics.median(values) for key, values in measured.items()}


def main():
    """Print a line for each network."""
    if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2:
        sys.exit("this needs Linux and two CPUs")
    print("samples/s: threads=1, threads=2, ratio | beside a busy loop: threads=1, threads=2, ratio")
    for case in CASES:
        if case.name in NAMES:
            rate = rates(case)
            halves = (
                f"{rate[1, busy]:12,.0f} {rate[2, busy]:12,.0f} {rate[2, busy] / rate[1, busy]:5.2f}"
                for busy in (False, True)
            )
            print(f"{case.name:20s} {' | '.join(halves)}", flush=True)


if __name__ == "__main__":
    main()
