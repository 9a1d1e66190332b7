"""What a small call costs, in microseconds.

It prints five tables:

- Medians of calls on one thread. "beside its arithmetic" is a `fit` of one epoch less an epoch of a longer `fit`.
- A `fit` of one epoch with dropout at the rate of the last fit, and at another; 50 samples of dropout in a prediction,
  in turn with NumPy; predictions of inputs as they are, multiplied by a number, and by arrays, in turn, with the ratio
  to the first; then many networks of 8-16-1 in one compiled call, each with its own rates, beside a loop of `fit`.
- Single steps of Adam (relu, softmax, cross-entropy), in turn with other packages that are installed. In brackets is
  how many times as long as fastnn a package takes.
- Predictions of a few rows, in turn in the same way.
- Calls that each have another number of rows than the one before, beside the same numbers called again and again.
"""

import functools
import itertools
from importlib.util import find_spec

import numpy as np

import fastnn

from .cases import Rows
from .machine import cpus
from .markdown import Table, printed
from .predictors import SIDES, OnnxRuntime
from .sides import LABELS, jax_recipe, torch_step
from .timing import in_turn, medians, ratios, repeats, seconds

ROUNDS = 9
NETWORKS = (((4, 8, 3), 32), ((4, 24, 24, 3), 32), ((4, 24, 24, 3), 1), ((64, 32, 10), 1), ((784, 100, 10), 32))
CALL_TARGETS = {  # microseconds
    ("4-8-3, 32", "beside its arithmetic"): 60,
    ("4-24-24-3, 32", "partial_fit, SGD"): 15,
    ("4-24-24-3, 1", "partial_fit, SGD"): 2.1,
    ("64-32-10, 1", "partial_fit, SGD"): 2.1,
    ("784-100-10, 32", "beside its arithmetic"): 150,
    ("784-100-10, 32", "Model(...)"): 1000,
}
CALLS, QUICK_CALLS, EPOCHS, UNCOUNTED = 300, 10, 100, 20
TURN_SECONDS, QUICK_TURN_SECONDS = 0.01, 1e-4
STEPS = (((8, 64, 64, 4), 32), ((64, 32, 10), 32), ((784, 100, 10), 32))
STEP_TARGETS = {"JAX": 3, "torch": 10}
PREDICTED, PREDICTED_ROWS = ((64, 32, 10), (4, 24, 24, 3), (8, 64, 64, 4), (784, 100, 10)), (1, 2, 8, 64)
PREDICT_TARGETS = {1: "ONNX Runtime 6", 64: "ONNX Runtime 3"}
ANY_ROWS = (
    ((10, 100, 10), 1, 500),
    ((64, 32, 10), 20, 520),
    ((30, 100, 50, 10), 1, 2000),
    ((100, 256, 128, 10), 1000, 5000),
)
DRAWN, DRAWN_ROWS, DRAWN_RATE, SAMPLES = (64, 32, 10), 100, 0.2, 50
ANY_CALLS, ANY_KNOWN, ANY_TARGET = 400, 25, 1.2
THEIR_CALLS, THEIR_KNOWN = 50, 5  # of scikit-learn, whose calls take up to half a second


def named(sizes):
    """The name of a network, such as "4-8-3"."""
    return "-".join(map(str, sizes))


# ---- medians ----


def microseconds(function, calls):
    """The median time of a call, after a few that do not count."""
    times = in_turn({"call": lambda: seconds(function)}, calls + UNCOUNTED)
    return float(np.median(times["call"][UNCOUNTED:])) * 1e6


def row(sizes, n, calls=CALLS):
    """{what: microseconds} of a network and a batch of n rows."""
    rng = np.random.default_rng(0)
    X, y = rng.random((n, sizes[0]), dtype=np.float32), rng.integers(0, sizes[-1], n)
    model, sgd, adam = fastnn.Model(sizes, rng=0), fastnn.SGD(0.1), fastnn.Adam()
    options = {"batch_size": n, "optimizer": sgd, "threads": 1}
    found = {"fit, 1 epoch": microseconds(lambda: model.fit(X, y, epochs=1, **options), calls)}
    longer = microseconds(lambda: model.fit(X, y, epochs=1 + EPOCHS, **options), calls // 10)
    found["beside its arithmetic"] = found["fit, 1 epoch"] - (longer - found["fit, 1 epoch"]) / EPOCHS
    found["partial_fit, SGD"] = microseconds(lambda: model.partial_fit(X, y, optimizer=sgd), calls)
    found["partial_fit, Adam"] = microseconds(lambda: model.partial_fit(X, y, optimizer=adam), calls)
    found["predict"] = microseconds(lambda: model.predict(X), calls)
    found["Model(...)"] = microseconds(lambda: fastnn.Model(sizes, rng=0), calls // 10)
    return found


def print_medians(options):
    """Print the medians of small calls."""
    table = None
    for sizes, n in NETWORKS:
        name, found = f"{named(sizes)}, {n}", row(sizes, n, QUICK_CALLS if options.quick else CALLS)
        table = table or Table("small-calls", "network, rows", *found, title="Small calls, microseconds")
        cells = {what: f"{value:.1f}" for what, value in found.items()}
        table.add(name, *(_beside(cell, CALL_TARGETS.get((name, what))) for what, cell in cells.items()))


def _beside(cell, target):
    """A cell with the target beside it, where there is one."""
    return cell if target is None else f"{cell} (target {target})"


# ---- other values, and many of them ----


def refits(calls):
    """{which rate: microseconds} of fits of one epoch on 64 rows of 4-8-3 with dropout."""
    rng = np.random.default_rng(0)
    X, y = rng.random((64, 4), dtype=np.float32), rng.random((64, 3), dtype=np.float32)
    model, rates = fastnn.Model([4, 8, 3], rng=0), itertools.cycle(np.linspace(0.1, 0.9, 997).tolist())
    fit = functools.partial(model.fit, X, y, epochs=1, batch_size=64, threads=1)
    last = microseconds(lambda: fit(dropout=0.3), calls)
    return {"the last fit's rate": last, "another": microseconds(lambda: fit(dropout=next(rates)), calls)}


def many(n, rounds):
    """{how: seconds} of n networks of 8-16-1, ten epochs of 1,000 samples by Adam, each with its own two rates."""
    rng = np.random.default_rng(0)
    X, y = rng.random((1000, 8), dtype=np.float32), rng.random((1000, 1), dtype=np.float32)
    values = list(zip(np.geomspace(1e-4, 0.05, n).tolist(), np.linspace(0.05, 0.6, n).tolist(), strict=True))
    alone = [fastnn.Model([8, 16, 1], rng=i) for i in range(n)]
    population = fastnn.Population([8, 16, 1], n, rng=0)
    rates, dropouts = map(np.array, zip(*values, strict=True))

    def at_once():
        population.fit(X, y, epochs=10, batch_size=32, optimizer=fastnn.Adam(rates), dropout=dropouts, threads=1)

    def loop():
        for model, (rate, dropout) in zip(alone, values, strict=True):
            model.fit(X, y, epochs=10, batch_size=32, optimizer=fastnn.Adam(rate), dropout=dropout, threads=1)

    sides = {"one call": at_once, "a loop of fit": loop}
    found = medians(in_turn({name: lambda side=side: seconds(side) for name, side in sides.items()}, rounds))
    together, apart = population.evaluate(X, y)["loss"], [model.loss(X, y) for model in alone]
    assert abs(np.median(together) / np.median(apart) - 1) < 1e-2  # their sums have another order
    return found


def samples_of_dropout():
    """{package: a call that gives samples of dropout, (samples, rows, n_out)} of a network of sigmoid neurons."""
    X = np.random.default_rng(0).standard_normal((DRAWN_ROWS, DRAWN[0]), dtype=np.float32)
    model, rng, keep = fastnn.Model(DRAWN, rng=0), np.random.default_rng(1), np.float32(1 - DRAWN_RATE)
    (W, V), (b, c) = ([np.array(a) for a in arrays] for arrays in (model.weights, model.biases))

    def by_numpy():
        hidden = 1 / (1 + np.exp(-(X @ W.T + b)))  # which is the same for all samples
        kept = rng.random((SAMPLES, *hidden.shape), dtype=np.float32) < keep
        return 1 / (1 + np.exp(-((hidden / keep * kept) @ V.T + c)))

    return {"fastnn": lambda: model.predict(X, dropout=DRAWN_RATE, samples=SAMPLES, threads=1), "NumPy": by_numpy}


def check_samples(calls):
    """Raise ArithmeticError where the means of two packages' samples are further apart than chance puts them."""
    one, other = (call() for call in calls.values())
    apart = np.abs(one.mean(axis=0) - other.mean(axis=0))
    deviation = np.sqrt((one.var(axis=0) + other.var(axis=0)) / SAMPLES)
    if not (apart < 8 * deviation).all():
        raise ArithmeticError(f"samples of dropout differ by {(apart / deviation).max():.1f} standard deviations")


def shifted_predictions(sizes, n):
    """{how inputs are loaded: predict(calls)} of n rows: as they are, by a number, and by arrays."""
    X = np.random.default_rng(0).random((n, sizes[0]), dtype=np.float32)
    found = {}
    for name, scale in {"as they are": None, "a number": 0.5, "arrays": np.full(sizes[0], 0.5)}.items():
        found[name] = _repeated(functools.partial(fastnn.Model(sizes, input_scale=scale, rng=0).predict, X, threads=1))
    return found


def print_values(options):
    """Print what other values of a rule cost, samples of dropout, and many networks with values of their own."""
    table = Table("values", "what", "time", "ratio", title="Other values, and many of them")
    for name, value in refits(QUICK_CALLS if options.quick else CALLS).items():
        table.add(f"fit of an epoch, 64 rows of 4-8-3, dropout at {name}", f"{value:.1f} us", "")
    drawn = samples_of_dropout()
    check_samples(drawn)
    runs = {name: _repeated(call) for name, call in drawn.items()}
    found = compare(runs, options.rounds, QUICK_TURN_SECONDS if options.quick else TURN_SECONDS)
    for name, (value, ratio) in found.items():
        what = f"{SAMPLES} samples of dropout, {DRAWN_ROWS} rows of {named(DRAWN)}, {name}"
        table.add(what, f"{value:.1f} us", f"{ratio:.2f}")
    for sizes, n in itertools.product(((784, 30, 10), (64, 32, 10)), (10_000, 1)):
        found = compare(shifted_predictions(sizes, n), options.rounds, QUICK_TURN_SECONDS if options.quick else 0.2)
        for name, (value, ratio) in found.items():
            what = f"`predict` of {n:,} rows of {named(sizes)}, scale: {name}"
            table.add(what, f"{value:,.1f} us", f"{ratio:.2f}")
    n = 10 if options.quick else 1000
    for name, value in many(n, options.rounds).items():
        table.add(f"{n:,} networks of 8-16-1 with rates of their own, {name}", f"{value:.3f} s", "")


# ---- in turn with other packages ----


def compare(sides, rounds, total):
    """{name: (microseconds of a call, the ratio to the first one's)} of run(calls) functions."""
    turns = {}
    for name, run in sides.items():
        run(20)
        calls = repeats(lambda n, run=run: seconds(lambda: run(n)), total)

        def turn(run=run, calls=calls):
            run(calls // 10 + 1)
            return seconds(lambda: run(calls)) / calls * 1e6

        turns[name] = turn
    times = in_turn(turns, rounds, pause=total)
    return {name: (median, ratios(times)[name]) for name, median in medians(times).items()}


def _repeated(function):
    """run(calls) of a function."""

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


def print_compared(block, title, made, options):
    """Print a table of {(line, target): sides} with a line for each."""
    names = list(dict.fromkeys(name for sides in made.values() for name in sides))
    table = Table(block, "network, rows", *names, "target", title=f"{title}, microseconds (times as long as fastnn)")
    for (line, target), sides in made.items():
        found = compare(sides, options.rounds, QUICK_TURN_SECONDS if options.quick else TURN_SECONDS)
        values = [f"{found[n][0]:.1f} ({found[n][1]:.1f})" if n != "fastnn" else f"{found[n][0]:.1f}" for n in names]
        table.add(line, *values, target)


def print_steps(options):
    """Print what a step of Adam takes in each package."""
    target = ", ".join(f"{name} {ratio}" for name, ratio in STEP_TARGETS.items())
    made = {(f"{named(sizes)}, {n}", target): steps(sizes, n) for sizes, n in STEPS}
    print_compared("small-steps", "A step of Adam", made, options)


def print_predictions(options):
    """Print what a prediction of a few rows takes in each package."""
    counts = PREDICTED_ROWS[:1] if options.quick else PREDICTED_ROWS
    shapes = [(sizes, n) for sizes in PREDICTED for n in counts]
    made = {(Rows(sizes, n, n).name, PREDICT_TARGETS.get(n, "")): predictions(sizes, n) for sizes, n in shapes}
    print_compared("predictions", "predict", made, options)


# ---- another number of rows in each call ----


def any_rows(call, low, high, calls=ANY_CALLS, n_known=ANY_KNOWN):
    """(quantiles 0.1 and 0.5 of calls with new numbers of rows, the same of known ones, the median ratio).

    All are microseconds. Some of the numbers are called several times in a row: the fastest call is that of a known
    number.
    """
    numbers = np.random.default_rng(0).permutation(np.arange(low, high + 1))[:calls].tolist()
    call(high)
    new = [seconds(lambda n=n: call(n)) for n in numbers]
    known, again = [], []
    for n in numbers[:: max(1, len(numbers) // n_known)]:
        known.append(min(seconds(lambda n=n: call(n), 5) for _ in range(5)))
        call(high)
        again.append(seconds(lambda n=n: call(n)))
    ratio = np.median(np.divide(again, known))
    return *(np.quantile(each, (0.1, 0.5)) * 1e6 for each in (new, known)), ratio


def calls_with_rows(sizes, high):
    """{what: a function of the number of rows} here and in scikit-learn, where it is installed."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((high, sizes[0]), dtype=np.float32), rng.integers(0, sizes[-1], high)
    model, adam = fastnn.Model(sizes, rng=0), fastnn.Adam()
    found = {
        "predict": lambda n: model.predict(X[:n]),
        "partial_fit": lambda n: model.partial_fit(X[:n], y[:n], optimizer=adam),
    }
    if find_spec("sklearn"):
        from sklearn.neural_network import MLPClassifier

        for whose, kind in (("the estimator's", fastnn.MLPClassifier), ("scikit-learn's", MLPClassifier)):
            estimator = kind(sizes[1:-1]).partial_fit(X, y, classes=np.arange(sizes[-1]))
            found[f"{whose} predict"] = lambda n, e=estimator: e.predict(X[:n])
            found[f"{whose} partial_fit"] = lambda n, e=estimator: e.partial_fit(X[:n], y[:n])
    return found


def print_rows(options):
    """Print what new numbers of rows cost, here and in scikit-learn."""
    title = "Each call with another number of rows, microseconds: quantiles 0.1 and 0.5"
    columns = "new number", "known", f"after others (target {ANY_TARGET})"
    table = Table("rows", "network, rows", "call", *columns, title=title)
    for sizes, low, high in ANY_ROWS[: 1 if options.quick else None]:
        for name, call in calls_with_rows(sizes, high).items():
            calls, n_known = (THEIR_CALLS, THEIR_KNOWN) if name.startswith("scikit-learn") else (ANY_CALLS, ANY_KNOWN)
            new, known, ratio = any_rows(call, low, high, QUICK_CALLS if options.quick else calls, n_known)
            times = [f"{few:,.0f}, {half:,.0f}" for few, half in (new, known)]
            table.add(f"{named(sizes)}, {low} to {high}", name, *times, f"{ratio:.2f}")


TABLES = {
    "medians": print_medians,
    "values": print_values,
    "steps": print_steps,
    "predictions": print_predictions,
    "rows": print_rows,
}
OPTIONS = {
    "--table": {"nargs": "+", "choices": TABLES, "default": TABLES, "help": f"of {', '.join(TABLES)} (default all)"}
}
FIGURES = printed("small-calls", "values", "small-steps", "predictions", "rows")


def run(options):
    """Print the tables."""
    with cpus(1):
        for name in options.table:
            TABLES[name](options)
