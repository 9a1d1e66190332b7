"""How long a network for each group of a frame takes, and an ensemble; what memory the first takes.

The first table: groups of 100 rows, 4-8-1 (tanh, then linear), batches of 32, Adam, 20 epochs, float32. `fit_groups`
trains all of them on two threads, grouping and standardising included; the frame has its rows in order, a row of each
group after another, or mixed. Its memory is that of a process of its own: the peak of its resident memory (ru_maxrss)
less that before the frame is made, when compiled code is loaded and a small frame was trained. The bound is 1.5 times
the frame and 3 times the parameters.

The second table: some of these groups in a loop, in turn: pandas' groupby with a `Model` for each, and with
scikit-learn's MLPRegressor. Results of the first are checked to equal those of `fit_groups`.

The third: 20 networks of 10-32-1 on diabetes: `MLPEnsembleRegressor` beside 20 MLPRegressor, fit and predict.
"""

import json
import resource
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np

import fastnn

from .machine import cpus, print_host
from .markdown import Table, printed
from .timing import in_turn, medians, ratios, seconds

ROUNDS, OPTIONS = 5, {}
FIGURES = printed("groups", "groups-in-a-loop", "ensemble")
GROUPS, QUICK_GROUPS, ROWS, INPUTS = 100_000, 200, 100, 4
SOME, QUICK_SOME = 500, 10  # groups that loops train
OF_SKLEARN = 50  # of which scikit-learn trains so many at most
ORDERS = ("in order", "by turns", "mixed")
FIT = {"by": "key", "target": "y", "layers": [8], "epochs": 20, "batch_size": 32, "optimizer": "adam", "rng": 0}
ESTIMATORS, HIDDEN, CALLS = 20, 32, 20


def frame(groups, order):
    """A frame of pandas: keys, four columns of inputs, and targets that follow from them."""
    import pandas as pd

    rng, rows = np.random.default_rng(0), groups * ROWS
    kinds = {
        "in order": lambda: np.repeat(np.arange(groups), ROWS),
        "by turns": lambda: np.tile(np.arange(groups), ROWS),
        "mixed": lambda: rng.integers(0, groups, rows),
    }
    columns = {"key": kinds[order]()} | {f"x{j}": rng.standard_normal(rows) for j in range(INPUTS)}
    y = columns["y"] = np.empty(rows)
    for first in range(0, rows, 2**16):  # in pieces: what is computed here is no part of the memory
        some = slice(first, first + 2**16)
        y[some] = np.tanh(columns["x0"][some] + columns["x1"][some]) - columns["x2"][some] / 2
    return pd.DataFrame(columns, copy=False)


# ---- all groups, in a process of its own ----


def peak_bytes():
    """The most memory this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measured(groups, order, rounds):
    """{seconds, bytes of the frame, of the parameters, of the peak, seconds of a prediction}."""
    small = frame(20, order)
    fastnn.fit_groups(small, **FIT, threads=2).predict(small)
    before = peak_bytes()
    made = frame(groups, order)
    times = []
    for _ in range(rounds):
        models = None
        times.append(seconds(lambda: fastnn.fit_groups(made, **FIT, threads=2)))
    peak = peak_bytes()
    models = fastnn.fit_groups(made, **FIT, threads=2)
    if models.errors:
        raise ArithmeticError(f"groups {order} were not trained: {list(models.errors.items())[:3]}")
    return {
        "seconds": float(np.median(times)),
        "frame": int(made.memory_usage(index=False).sum()),
        "parameters": models.population.vectors.nbytes,
        "peak": peak - before,
        "predict": seconds(lambda: models.predict(made, threads=2)),
    }


def print_all(groups, rounds):
    """The first table."""
    columns = "fit", "groups/s", "predict", "the frame", "memory", "bound"
    table = Table("groups", "rows of the frame", *columns, title=f"{groups:,} groups of {ROWS} rows")
    for order in ORDERS:
        command = [sys.executable, "-m", "bench.groups", str(groups), order, str(rounds)]
        done = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True)
        if done.returncode:
            raise ChildProcessError(done.stderr)
        found = json.loads(done.stdout)
        sizes = found["frame"], found["peak"], 1.5 * found["frame"] + 3 * found["parameters"]
        frame_mb, peak_mb, bound_mb = (f"{size / 1e6:.0f} MB" for size in sizes)
        times = f"{found['seconds']:.2f} s", f"{groups / found['seconds']:,.0f}", f"{found['predict']:.2f} s"
        table.add(order, *times, frame_mb, peak_mb, bound_mb)


# ---- loops ----


def loop_of_models(made):
    """The predictions (rows,) of a `Model` for each group, as a user writes it without `fit_groups`."""
    found = np.empty(len(made))
    for i, (_, rows) in enumerate(made.groupby("key").indices.items()):
        part = made.iloc[rows]
        X, y = part.filter(like="x").to_numpy(), part[["y"]].to_numpy()
        mean, std = y.mean(axis=0), y.std(axis=0)
        X = (X - X.mean(axis=0)) / X.std(axis=0)
        model = fastnn.Model([INPUTS, fastnn.Dense(8, "tanh"), 1], output="identity", rng=i)
        model.fit(X, (y - mean) / std, epochs=20, batch_size=32, optimizer="adam", threads=1)
        found[rows] = (model.predict(X) * std + mean)[:, 0]
    return found


def loop_of_sklearn(made):
    """A loop over the groups with scikit-learn's network."""
    from sklearn.neural_network import MLPRegressor

    for _, part in made.groupby("key"):
        X, y = part.filter(like="x").to_numpy(), part["y"].to_numpy()
        X, y = (X - X.mean(axis=0)) / X.std(axis=0), (y - y.mean()) / y.std()
        options = {"hidden_layer_sizes": 8, "activation": "tanh", "batch_size": 32, "max_iter": 20, "tol": 0}
        MLPRegressor(**options, alpha=0, random_state=0).fit(X, y).predict(X)


def print_loops(groups, rounds):
    """The second table."""
    made, few = frame(groups, "by turns"), min(groups, OF_SKLEARN)
    part = made[made["key"] < few]
    found = fastnn.fit_groups(made, **FIT, threads=1).predict(made)
    apart = np.abs(found - loop_of_models(made)).max()
    if not apart < 1e-2:
        raise ArithmeticError(f"a loop and fit_groups differ by {apart:g}")
    with cpus(1):
        figures = in_turn(
            {
                "fit_groups": lambda: seconds(lambda: fastnn.fit_groups(made, **FIT, threads=1).predict(made)) / groups,
                "loop of Model": lambda: seconds(lambda: loop_of_models(made)) / groups,
                "scikit-learn": lambda: seconds(lambda: loop_of_sklearn(part)) / few,
            },
            rounds,
        )
    title = f"{groups} groups, one thread; the most that a prediction differs from the loop's: {apart:.1e}"
    table = Table("groups-in-a-loop", "way", "groups/s", "times as long", title=title)
    for name, ratio in ratios(figures).items():
        table.add(name, f"{1 / medians(figures)[name]:,.0f}", f"{ratio:.1f}")


# ---- an ensemble ----


def print_ensemble(rounds, epochs):
    """The third table."""
    from sklearn.datasets import load_diabetes

    X, y = load_diabetes(return_X_y=True)
    X, y = (X - X.mean(axis=0)) / X.std(axis=0), (y - y.mean()) / y.std()
    options = {"hidden_layer_sizes": HIDDEN, "max_iter": epochs, "n_iter_no_change": epochs, "tol": 0, "threads": 1}
    ensemble = fastnn.MLPEnsembleRegressor(ESTIMATORS, random_state=0, **options)
    alone = [fastnn.MLPRegressor(random_state=i, **options) for i in range(ESTIMATORS)]
    with cpus(1):
        fits = in_turn(
            {
                "the ensemble": lambda: seconds(lambda: ensemble.fit(X, y)),
                f"{ESTIMATORS} MLPRegressor": lambda: seconds(lambda: [each.fit(X, y) for each in alone]),
            },
            rounds,
        )
        mean = np.mean([model.predict(X)[:, 0] for model in ensemble.population_], axis=0)
        if not np.allclose(ensemble.predict(X), mean, rtol=1e-9, atol=1e-9):
            raise ArithmeticError("the ensemble's prediction is not its members' mean")
        predicts = in_turn(
            {
                "return_std": lambda: seconds(lambda: ensemble.predict(X, return_std=True), CALLS),
                f"{ESTIMATORS} predictions": lambda: seconds(lambda: [each.predict(X) for each in alone], CALLS),
            },
            rounds,
        )
    title = f"10-{HIDDEN}-1 on diabetes, {len(X)} rows, {ESTIMATORS} networks, {epochs} epochs, one thread"
    table = Table("ensemble", "what", "ms", "ratio", title=title)
    for figures in (fits, predicts):
        for name, ratio in ratios(figures).items():
            table.add(name, f"{medians(figures)[name] * 1e3:.3f}", f"{ratio:.2f}")


def run(options):
    """Print the tables."""
    print_host(("pandas", "scikit-learn"))
    warnings.simplefilter("ignore", UserWarning)  # that networks have not converged
    print_all(QUICK_GROUPS if options.quick else GROUPS, options.rounds)
    print_loops(QUICK_SOME if options.quick else SOME, options.rounds)
    print_ensemble(options.rounds, 2 if options.quick else 50)


if __name__ == "__main__":
    print(json.dumps(measured(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))))
