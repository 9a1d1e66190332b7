"""Figures of docs/performance.md that are not in the table: `python -m bench.details`.

What an optimizer costs against plain SGD, uint8 inputs against float32, a row through `predict`, and the first fit of a
process, imports included, with nothing in the compile cache and with everything. Each comparison alternates its sides;
medians; one thread.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

import fastnn

NETWORKS = (
    ((784, 100, 10), 32),
    ((8, 64, 64, 4), 64),
    ((512, 512, 512, 10), 256),
    ((4, 24, 24, 3), 256),
    ((64, 32, 10), 8),
)
ROUNDS = 9
LOAD = """
import time
import numpy as np, fastnn
X, y = np.ones((200, 8), np.float32), np.arange(200) % 3
fastnn.Model([8, 16, 3]).fit(X, y, epochs=1, batch_size=32, threads=1)
from fastnn.kernels.library import Library, library
names = list(library("float32").addresses([]))
start = time.perf_counter()
Library("float32").addresses(names)
print(len(names), time.perf_counter() - start)
"""
FIRST_FIT = """
import time
start = time.perf_counter()
import numpy as np, fastnn
X, y = np.ones((200, 8), np.float32), np.arange(200) % 3
fastnn.Model([8, 16, 3]).fit(X, y, epochs=1, batch_size=32, threads=1)
print(time.perf_counter() - start)
"""


def seconds(function):
    """The CPU time of a call."""
    start = time.thread_time()
    function()
    return time.thread_time() - start


def alternate(functions):
    """The median of each function's time as a ratio to the first one's of the same round, and the first's median."""
    for function in functions:
        function()
    rounds = [[seconds(function) for function in functions] for _ in range(ROUNDS)]
    ratios = [statistics.median(r[i] / r[0] for r in rounds) for i in range(len(functions))]
    return ratios, statistics.median(r[0] for r in rounds)


def main():
    """Measure and print."""
    rng = np.random.default_rng(0)
    for sizes, batch_size in NETWORKS:
        n = 5120 if sizes[0] == 512 else 20_000
        X, y = rng.random((n, sizes[0]), dtype=np.float32), rng.integers(0, sizes[-1], n)
        models = {name: fastnn.Model(sizes, rng=0) for name in ("sgd", "momentum", "adam")}
        ratios, _ = alternate(
            [
                lambda m=m, o=o: m.fit(X, y, epochs=3, batch_size=batch_size, optimizer=o, threads=1)  # noqa: B023
                for o, m in models.items()
            ]
        )
        costs = ", ".join(f"{name} {ratio:.2f}" for name, ratio in zip(models, ratios, strict=True))
        print(f"{'-'.join(map(str, sizes))} b{batch_size}: {costs}")

    images, y = rng.integers(0, 256, (50_000, 784)).astype(np.uint8), rng.integers(0, 10, 50_000)
    floats = images.astype(np.float32) / 255
    pairs = (
        (images, fastnn.Model([784, 30, 10], input_scale=1 / 255, rng=0)),
        (floats, fastnn.Model([784, 30, 10], rng=0)),
    )
    ratios, first = alternate([lambda X=X, m=m: m.fit(X, y, epochs=2, batch_size=10, threads=1) for X, m in pairs])
    sample = first / 100_000 * 1e9
    print(f"784-30-10 b10, a sample: {sample:.0f} ns from uint8, {ratios[1]:.2f} times that from float32")

    for sizes in ((64, 32, 10), (4, 24, 24, 3), (8, 64, 64, 4)):
        model, row = fastnn.Model(sizes, rng=0), rng.random((1, sizes[0]), dtype=np.float32)
        _, first = alternate([lambda model=model, row=row: [model.predict(row) for _ in range(2000)]])
        print(f"{'-'.join(map(str, sizes))}: one row through predict {first / 2000 * 1e6:.2f} us")

    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"FASTNN_CACHE_DIR": folder}
        command = [sys.executable, "-c", FIRST_FIT]
        first, *later = [float(subprocess.check_output(command, env=environment)) for _ in range(1 + ROUNDS)]
        number, loaded = subprocess.check_output([sys.executable, "-c", LOAD], env=environment).split()
    usual = f"{statistics.median(later):.2f} s ({min(later):.2f} at best)"
    print(f"first fit ever {first:.1f} s, of a later process {usual}")
    print(f"loading its {int(number)} vector functions from the cache: {1e3 * float(loaded):.0f} ms")


if __name__ == "__main__":
    main()
