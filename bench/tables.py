"""How good are networks on tables, beside linear models, gradient boosting and other networks, and what do they cost?

Each method fits and predicts the same folds in turn, stratified where there are classes, on one thread. The first table
has scores, accuracy or R2, the second losses, log loss or RMSE as a share of that of the mean, the third seconds of fit
and predict, each the mean over the folds; below them is the mean rank over the sets. The last table compares with each
other method: the difference of the scores in the mean, and how many standard errors of the paired difference that is.

Half of the sets are for tuning; the others are held out, for figures that nothing was chosen by. All of it takes hours
with RealMLP: `--keep` writes what is measured into a file, from which a later run takes it. Where pytabkit is not
installed, RealMLP's figures are those of bench/realmlp.json: RealMLP has nothing of fastnn, so they stay true.
"""

import json
import pathlib
import time
import warnings
from functools import partial
from importlib.util import find_spec

import numpy as np
from threadpoolctl import threadpool_limits

from fastnn import TabularClassifier, TabularRegressor

from . import tables_methods
from .machine import environment, load, print_host
from .markdown import bold_best
from .markdown import table as markdown
from .tables_data import CLASSES, HALVES, TABLES, half_of, kind_of, tables
from .timing import seconds

ROUNDS = 1
FOLDS, QUICK_FOLDS, QUICK_ROWS, WARM_ROWS = 5, 2, 300, 100
METHODS = {
    "fastnn": tables_methods.tabular,
    "linear": tables_methods.linear,
    "boosting": tables_methods.boosting,
    "sklearn-mlp": tables_methods.sklearn_mlp,
    "realmlp": tables_methods.realmlp,
}
PACKAGES = {"realmlp": "pytabkit"}
MEASURED = {"realmlp": pathlib.Path(__file__).with_name("realmlp.json")}  # where the package is not installed
NAMES = {
    "fastnn": "fastnn",
    "linear": "linear",
    "boosting": "gradient boosting",
    "sklearn-mlp": "scikit-learn's MLP",
    "realmlp": "RealMLP",
}
SPEED_ROWS, SPEED_COLUMNS = 20_000, 20
FIGURES_OF_A_FOLD = "score", "loss", "seconds"
OPTIONS = {
    "--half": {"choices": (*HALVES, "all"), "default": HALVES[0], "help": "which sets (default %(default)s)"},
    "--set": {"nargs": "+", "choices": [table.name for table in TABLES], "metavar": "NAME", "help": "only these sets"},
    "--keep": {"metavar": "FILE", "help": "a JSON file of figures: those in it count, those missing are added"},
    "--speed": {"action": "store_true", "help": "only fits of 20,000 rows of 20 columns, on one thread and two"},
    "--cpu": {"action": "store_true", "help": "seconds are those of CPU time: for a machine that is busy"},
    "--method": {"nargs": "+", "choices": METHODS, "default": list(METHODS), "help": f"of {', '.join(METHODS)}"},
}


def folds(kind, y, n, seed):
    """The (training rows, test rows) of n folds in a random order, stratified by class."""
    from sklearn.model_selection import KFold, StratifiedKFold

    split = (StratifiedKFold if kind == CLASSES else KFold)(n, shuffle=True, random_state=seed)
    return list(split.split(y, y))


def scores(kind, train_y, y, predicted):
    """(accuracy, log loss) of probabilities, or (R2, RMSE / standard deviation of y) of values."""
    if kind != CLASSES:
        error = ((y - predicted) ** 2).mean() / y.var()
        return 1 - error, np.sqrt(error)
    classes = np.unique(train_y)
    true = np.searchsorted(classes, y)
    accuracy = (predicted.argmax(1) == true).mean()
    return accuracy, -np.log(np.clip(predicted[np.arange(len(y)), true], 1e-15, 1)).mean()


def one_fold(method, kind, X, y, split, seed, clock=None):
    """(score, loss, seconds) of a method that is trained on a fold's first rows and tested on the others."""
    train, test = split
    made = {}

    def work():
        made["values"] = method(kind, X.iloc[train], y[train], seed)(X.iloc[test])

    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        taken = seconds(work, clock=clock)
    return *scores(kind, y[train], y[test], made["values"]), taken


class Kept(dict):
    """{"set, method, round, fold": [score, loss, seconds]}, written into a file, if there is one, after each."""

    def __init__(self, path=None, measured=()):
        self.path = path and pathlib.Path(path)
        super().__init__(measured)
        self |= json.loads(self.path.read_text()) if path and self.path.exists() else {}

    def get_or_measure(self, key, measured):
        """The figures of a key, or those that measured() gives."""
        if key not in self:
            self[key] = list(measured())
            if self.path:
                self.path.write_text(json.dumps(self, indent=0))
        return self[key]


def warm(method, kind, X, y):
    """Fit a few rows: what a process does at its first fit alone, such as loading compiled code, is not timed."""
    some = np.random.default_rng(0).permutation(len(y))[:WARM_ROWS]
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        method(kind, X.iloc[some], y[some], 0)(X.iloc[some])


def measure(table, methods, rounds, quick=False, clock=None, kept=None):
    """{method: an array (rounds * folds, 3) of scores, losses and seconds} of a data set."""
    kept = Kept() if kept is None else kept
    X, y = table.load()
    if quick:
        some = np.random.default_rng(0).permutation(len(y))[:QUICK_ROWS]
        X, y = X.iloc[some].reset_index(drop=True), y[some]
    found = {name: [] for name in methods}
    for name in methods:
        if f"{table.name}, {name}, {rounds - 1}, 0" not in kept:
            warm(METHODS[name], table.kind, X, y)
    for seed in range(rounds):
        for fold, split in enumerate(folds(table.kind, y, QUICK_FOLDS if quick else FOLDS, seed)):
            for name in methods:
                work = partial(one_fold, METHODS[name], table.kind, X, y, split, seed, clock)
                found[name].append(kept.get_or_measure(f"{table.name}, {name}, {seed}, {fold}", work))
    return {name: np.array(each) for name, each in found.items()}


def ranks(values, larger_is_better):
    """The ranks (methods,) of values (methods,) from 1 on; equal ones share the mean of theirs."""
    values = np.round(-values if larger_is_better else values, 12)
    return np.array([(values < each).sum() + ((values == each).sum() + 1) / 2 for each in values])


def paired(ours, other):
    """(the mean of the differences over the folds, its standard error)."""
    difference = ours - other
    return difference.mean(), difference.std(ddof=1) / np.sqrt(len(difference))


def print_speed(quick):
    """Print the seconds of fits on SPEED_ROWS rows of seeded normal numbers, by the number of threads."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((SPEED_ROWS // (100 if quick else 1), SPEED_COLUMNS))
    y = X[:, 0] * X[:, 1] + np.sin(2 * X[:, 2]) + X[:, 3:6].sum(axis=1) + 0.3 * rng.standard_normal(len(X))
    _row("seconds of a fit", ["1 thread", "2 threads"])
    for name, kind, target in (("numbers", TabularRegressor, y), ("classes", TabularClassifier, y > 0)):
        kind(random_state=0).fit(X[:WARM_ROWS], target[:WARM_ROWS])
        taken = [seconds(partial(kind(random_state=0, threads=n).fit, X, target)) for n in (1, 2)]
        _row(name, [f"{each:.2f}" for each in taken])


def _row(label, cells):
    print(f"{label:16}" + "".join(f"{cell:>14}" for cell in cells), flush=True)


def print_figures(results, methods):
    """Print a table for each figure, and its mean ranks, of {set: (what `measure` gives, rows)}."""
    for column, figure in enumerate(FIGURES_OF_A_FOLD):
        print()
        _row(figure, methods)
        for name, (found, _) in results.items():
            values = np.array([found[method][:, column].mean() for method in methods])
            _row(name, [f"{value:.4f}" if figure != "seconds" else f"{value:.2f}" for value in values])
        _row("mean rank", [f"{rank:.2f}" for rank in mean_ranks(results, methods, figure)])


def print_differences(results, methods):
    """Print how far the first method's scores are above those of the others, and in standard errors."""
    first, *others = methods
    print()
    _row(f"{first} -", others)
    for name, (found, _) in results.items():
        cells = []
        for other in others:
            mean, error = paired(found[first][:, 0], found[other][:, 0])
            cells.append(f"{mean:+.4f} {mean / max(error, 1e-12):+5.1f}")
        _row(name, cells)


def mean_ranks(results, methods, figure):
    """The mean over the sets of the ranks (methods,) in a figure."""
    column = FIGURES_OF_A_FOLD.index(figure)
    means = [[found[method][:, column].mean() for method in methods] for found, _ in results.values()]
    return np.mean([ranks(np.array(each), figure == "score") for each in means], axis=0)


def by_set(measured):
    """The table of scores in Markdown, of what `run` gives."""
    results, methods = measured
    rows = []
    for name, (found, n) in results.items():
        means = {method: found[method].mean(axis=0) for method in methods}
        scored = [means[method][0] for method in methods]
        cells = [f"{score:.3f}" if score > -10 else "below -10" for score in scored]
        taken = ", ".join(f"{means[method][2]:{'.0f' if method == 'realmlp' else '.2f'}}" for method in methods)
        rows.append([name, f"{n:,}", *bold_best(cells, np.round(scored, 3)), taken])
    for figure in ("score", "loss"):
        mean = [f"{rank:.2f}" for rank in mean_ranks(results, methods, figure)]
        rows.append([f"mean rank, {figure}", "", *mean, ""])
    names = [NAMES[method] for method in methods]
    return markdown(["set", "rows", *names, "seconds of each"], rows)


def accuracy(measured):
    """A short table of it, a row for each method, the best first."""
    results, methods = measured
    n = len(results)
    of_score, of_loss = (mean_ranks(results, methods, figure) for figure in ("score", "loss"))
    rows = []
    for i in np.argsort(of_score):
        scored = {name: found[methods[i]][:, 0].mean() for name, (found, _) in results.items()}
        classes = [scored[name] for name in results if kind_of(name) == CLASSES]
        numbers = [scored[name] for name in results if kind_of(name) != CLASSES]
        taken = sum(found[methods[i]][:, 2].mean() for found, _ in results.values())
        figures = f"{of_score[i]:.2f}", f"{of_loss[i]:.2f}", f"{np.mean(classes):.3f}", f"{np.median(numbers):.3f}"
        rows.append([NAMES[methods[i]], *figures, f"{taken:.1f}"])
    head = [
        "method",
        "mean rank by accuracy or R2",
        "by loss",
        "mean accuracy",
        "median R2",
        f"seconds for all {n} sets",
    ]
    return markdown(head, rows)


FIGURES = {"tables": by_set, "accuracy": accuracy}


def run(options):
    """Print the tables; ({set: (what `measure` gives, its rows)}, the methods)."""
    print_host(["scikit-learn", *(["pytabkit"] if find_spec("pytabkit") else [])])
    if options.speed:
        print_speed(options.quick)
        return None
    absent = [name for name in options.method if name in PACKAGES and not find_spec(PACKAGES[name])]
    methods, measured = list(options.method), {}
    for name in absent:
        if options.quick or options.rounds > 1:
            print(f"{name}: skipped, {PACKAGES[name]} is not installed")
            methods.remove(name)
        else:
            print(f"{name}: {PACKAGES[name]} is not installed, so the figures are those of {MEASURED[name].name}")
            measured |= json.loads(MEASURED[name].read_text())
    half = None if options.set or options.half == "all" else options.half
    chosen = [table for table in tables(half) if not options.set or table.name in options.set]
    clock = time.process_time if options.cpu else None
    results, kept = {}, Kept(options.keep, measured)
    with environment(OMP_NUM_THREADS="1"):
        for table in chosen:
            if find_spec(table.package) is None:
                print(f"{table.name}: skipped, {table.package} is not installed")
                continue
            rows = len(table.load()[1])
            results[table.name] = measure(table, methods, options.rounds, options.quick, clock, kept), rows
            print(f"{table.name}: {table.kind}, {half_of(table.name)}, {rows} rows, load {load():.1f}", flush=True)
    print_figures(results, methods)
    if len(methods) > 1:
        print_differences(results, methods)
    return results, methods
