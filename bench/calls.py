"""What a small call costs, in microseconds: `python -m bench.calls`.

It prints four tables:

- Medians of calls on one thread. "beside its arithmetic" is a `fit` of one epoch less an epoch of a longer `fit`.
- Single steps of Adam (relu, softmax, cross-entropy), in turn with other packages that are installed. A figure is the
  median of rounds; in brackets is how many times as long as fastnn it takes, the median of the rounds' ratios.
- Predictions of a few rows, in turn in the same way.
- Calls that each have another number of rows than the one before, beside the same numbers called again and again.
"""

import statistics
import time
from importlib.util import find_spec

import numpy as np

import fastnn

from .inference import SIDES, OnnxRuntime, Rows
from .measuring import stay_on_one_cpu
from .report import LABELS
from .training import jax_recipe, torch_step

NETWORKS = (((4, 8, 3), 32), ((4, 24, 24, 3), 32), ((4, 24, 24, 3), 1), ((64, 32, 10), 1), ((784, 100, 10), 32))
CALLS, EPOCHS = 300, 100
ROUNDS, ROUND_SECONDS = 9, 0.01
STEPS = (((8, 64, 64, 4), 32), ((64, 32, 10), 32), ((784, 100, 10), 32))
STEP_TARGETS = {"JAX": 3, "torch": 10}
PREDICTED, PREDICTED_ROWS = ((64, 32, 10), (4, 24, 24, 3), (8, 64, 64, 4), (784, 100, 10)), (1, 2, 8, 64)
PREDICT_TARGETS = {1: 6, 64: 3}  # against ONNX Runtime
ANY_ROWS = (
    ((10, 100, 10), 1, 500),
    ((64, 32, 10), 20, 520),
    ((30, 100, 50, 10), 1, 2000),
    ((100, 256, 128, 10), 1000, 5000),
)
ANY_CALLS, ANY_KNOWN, ANY_TARGET = 400, 25, 1.2


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


# ---- in turn with other packages ----


def in_turn(sides):
    """{name: (microseconds, the ratio to the first one's)} of run(calls) functions."""
    calls, times = {}, {name: [] for name in sides}
    for name, run in sides.items():
        calls[name] = 1
        run(20)
        while (taken := _seconds(run, calls[name])) < ROUND_SECONDS / 2:
            calls[name] = int(calls[name] * min(10, ROUND_SECONDS / taken)) + 1
    for _ in range(ROUNDS):
        for name, run in sides.items():
            time.sleep(ROUND_SECONDS)  # threads of the side before may still spin
            run(calls[name] // 10 + 1)
            times[name].append(_seconds(run, calls[name]) / calls[name] * 1e6)
    first = times[next(iter(sides))]
    ratios = {name: statistics.median(y / x for x, y in zip(first, each, strict=True)) for name, each in times.items()}
    return {name: (statistics.median(each), ratios[name]) for name, each in times.items()}


def _seconds(run, calls):
    start = time.perf_counter()
    run(calls)
    return time.perf_counter() - start


def _repeated(function):
    def run(calls):
        for _ in range(calls):
            function()

    return run


def steps(sizes, n):
    """{package: run(calls)} of steps of Adam on the same n rows."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((n, sizes[0]), dtype=np.float32), rng.integers(0, sizes[-1], n)
    layers = [sizes[0], *(fastnn.Dense(units, "relu") for units in sizes[1:-1]), fastnn.Dense(sizes[-1], "softmax")]
    model, adam = fastnn.Model(layers, loss="cross_entropy", rng=0), fastnn.Adam()
    found = {"fastnn": _repeated(lambda: model.partial_fit(X, y, optimizer=adam))}
    if find_spec("jax"):
        import jax

        state, _, _, step = jax_recipe(X, y.astype(np.int32), sizes)
        arrays = [jax.numpy.array(a) for a in (X, y.astype(np.int32), np.float32(0.001))]

        def once():
            nonlocal state
            state = jax.block_until_ready(step(state, *arrays))

        found["JAX"] = _repeated(once)
    if find_spec("torch"):
        import torch

        torch.set_num_threads(1)
        tensors, update = (torch.from_numpy(X), torch.from_numpy(y)), torch_step(sizes)
        found["torch"] = _repeated(lambda: update(*tensors))
    if find_spec("sklearn"):
        from sklearn.neural_network import MLPClassifier

        estimator = MLPClassifier(sizes[1:-1], batch_size=n, shuffle=False)
        estimator.partial_fit(X, y, classes=np.arange(sizes[-1]))
        found["scikit-learn"] = _repeated(lambda: estimator.partial_fit(X, y))
    return found


def predictions(sizes, n):
    """{package: run(calls)} of predictions of n rows."""
    found, case = {}, Rows(sizes, n, n)
    for side, kind in SIDES.items():
        if find_spec(kind.package) is not None:
            variant = {"rows": n, "how": "eager"} if side == "torch" else None  # others are tried, but not compiled
            found[LABELS[side]] = kind(case, variant).run
            if kind is OnnxRuntime:  # most call it so; the faster way binds inputs and outputs ahead
                found["its plain run"] = kind(case, {"rows": n, "call": "run"}).run
    return found


def any_rows(call, low, high):
    """(quantiles 0.1 and 0.5 of calls with new numbers of rows, the same of known ones, the median ratio).

    All are microseconds. Some of the numbers are called several times in a row: the fastest call is that of a known
    number.
    """
    numbers, new = np.random.default_rng(0).permutation(np.arange(low, high + 1))[:ANY_CALLS].tolist(), []
    call(high)
    for n in numbers:
        start = time.perf_counter()
        call(n)
        new.append((time.perf_counter() - start) * 1e6)
    some = numbers[:: max(1, len(numbers) // ANY_KNOWN)]
    known, again = [], []
    for n in some:
        known.append(min(_seconds(_repeated(lambda n=n: call(n)), 5) / 5 * 1e6 for _ in range(5)))
        call(high)
        start = time.perf_counter()
        call(n)
        again.append((time.perf_counter() - start) * 1e6)
    ratio = statistics.median(a / k for a, k in zip(again, known, strict=True))
    return np.quantile(new, (0.1, 0.5)), np.quantile(known, (0.1, 0.5)), ratio


def _any_rows_table():
    """Print what new numbers of rows cost, here and in scikit-learn."""
    print("\nEach call with another number of rows, microseconds: quantiles 0.1 and 0.5\n")
    print(f"{'':42}{'new, from the first':>22}{'known':>18}{'after others':>14}   target {ANY_TARGET}")
    for sizes, low, high in ANY_ROWS:
        rng = np.random.default_rng(0)
        X, y = rng.standard_normal((high, sizes[0]), dtype=np.float32), rng.integers(0, sizes[-1], high)
        model, adam = fastnn.Model(sizes, rng=0), fastnn.Adam()
        calls = {
            "predict": lambda n, model=model, X=X: model.predict(X[:n]),
            "partial_fit": lambda n, model=model, X=X, y=y, adam=adam: model.partial_fit(X[:n], y[:n], optimizer=adam),
        }
        if find_spec("sklearn"):
            from sklearn.neural_network import MLPClassifier

            for whose, kind in (("the estimator's", fastnn.MLPClassifier), ("scikit-learn's", MLPClassifier)):
                estimator = kind(sizes[1:-1]).partial_fit(X, y, classes=np.arange(sizes[-1]))
                calls[f"{whose} predict"] = lambda n, e=estimator, X=X: e.predict(X[:n])
                calls[f"{whose} partial_fit"] = lambda n, e=estimator, X=X, y=y: e.partial_fit(X[:n], y[:n])
        for name, call in calls.items():
            new, known, ratio = any_rows(call, low, high)
            place = f"{'-'.join(map(str, sizes))}, {low} to {high}, {name}"
            print(f"{place:58}{new[0]:10.0f}{new[1]:8.0f}{known[0]:10.0f}{known[1]:8.0f}{ratio:14.2f}", flush=True)


def _print(title, sides, targets):
    """A table of one kind of call: a line for each of the sides."""
    print(f"\n{title}\n")
    names = list(dict.fromkeys(name for each in sides.values() for name in each))
    print(f"{'':24}" + "".join(f"{name:>20}" for name in names) + "   target")
    for what, make in sides.items():
        found = in_turn(make)
        values = [f"{found[n][0]:.1f} ({found[n][1]:.1f})" if n != "fastnn" else f"{found[n][0]:.1f}" for n in names]
        print(f"{what:24}" + "".join(f"{value:>20}" for value in values) + f"   {targets(what)}", flush=True)


def main():
    """Print the tables."""
    stay_on_one_cpu()
    for i, (sizes, n) in enumerate(NETWORKS):
        found = row(sizes, n)
        if i == 0:
            print(f"{'':22}" + "".join(f"{name:>24}" for name in found))
        values = "".join(f"{value:24.1f}" for value in found.values())
        print(f"{'-'.join(map(str, sizes)) + f', {n} rows':22}{values}", flush=True)
    against = ", ".join(f"{name} {ratio}" for name, ratio in STEP_TARGETS.items())
    made = {f"{'-'.join(map(str, sizes))}, {n} rows": steps(sizes, n) for sizes, n in STEPS}
    _print("A step of Adam, microseconds", made, lambda _: against)
    made = {Rows(sizes, n, n).name: predictions(sizes, n) for sizes in PREDICTED for n in PREDICTED_ROWS}
    of_rows = {str(n): f"ONNX Runtime {ratio}" for n, ratio in PREDICT_TARGETS.items()}
    _print("predict, microseconds", made, lambda what: of_rows.get(what.split(", ")[1].split()[0], ""))
    _any_rows_table()


if __name__ == "__main__":
    main()
