"""What a small call costs, in microseconds: `python -m bench.calls`.

Medians of calls on one thread. "beside its arithmetic" is a `fit` of one epoch less an epoch of a longer `fit`.
"""

import statistics
import time

import numpy as np

import fastnn

NETWORKS = (((4, 8, 3), 32), ((4, 24, 24, 3), 32), ((4, 24, 24, 3), 1), ((64, 32, 10), 1), ((784, 100, 10), 32))
CALLS, EPOCHS = 300, 100


def microseconds(function, calls=None):
    """The median time of a call, after a few that do not count."""
    times, calls = [], calls or CALLS
    for i in range(calls + 20):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start if i >= 20 else np.inf)
    return statistics.median(times[20:]) * 1e6


def row(sizes, n):
    """{what: microseconds} of a network and a batch of n rows."""
    rng = np.random.default_rng(0)
    X, y = rng.random((n, sizes[0]), dtype=np.float32), rng.integers(0, sizes[-1], n)
    model, sgd, adam = fastnn.Model(sizes, rng=0), fastnn.SGD(0.1), fastnn.Adam()
    options = {"batch_size": n, "optimizer": sgd, "threads": 1}
    found = {"fit, 1 epoch": microseconds(lambda: model.fit(X, y, epochs=1, **options))}
    longer = microseconds(lambda: model.fit(X, y, epochs=1 + EPOCHS, **options), CALLS // 10)
    found["beside its arithmetic"] = found["fit, 1 epoch"] - (longer - found["fit, 1 epoch"]) / EPOCHS
    found["partial_fit, SGD"] = microseconds(lambda: model.partial_fit(X, y, optimizer=sgd))
    found["partial_fit, Adam"] = microseconds(lambda: model.partial_fit(X, y, optimizer=adam))
    found["predict"] = microseconds(lambda: model.predict(X))
    found["Model(...)"] = microseconds(lambda: fastnn.Model(sizes, rng=0), CALLS // 10)
    return found


def main():
    """Print a table."""
    for i, (sizes, n) in enumerate(NETWORKS):
        found = row(sizes, n)
        if i == 0:
            print(f"{'':22}" + "".join(f"{name:>24}" for name in found))
        values = "".join(f"{value:24.1f}" for value in found.values())
        print(f"{'-'.join(map(str, sizes)) + f', {n} rows':22}{values}", flush=True)


if __name__ == "__main__":
    main()
