"""How much faster MLPClassifier and MLPRegressor are than scikit-learn's, on one thread.

Both get the same data, standardised, the same parameters and the same random_state. In turn each makes a `fit` of a
single epoch, then a whole `fit`, then calls of predict and predict_proba of one row. Before a figure counts, both must
have trained as many iterations and end with the same coefficients.
"""

import os
import warnings
from dataclasses import dataclass, field

import numpy as np
import sklearn.neural_network
from sklearn import datasets
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import fastnn

from .machine import environment
from .markdown import table
from .timing import in_turn, medians, ratios, seconds

ROUNDS = 5
OPTIONS = {"--mnist": {"metavar": "DIR", "help": "MNIST's IDX files, for one more case"}}
PACKAGES = {"fastnn": fastnn, "scikit-learn": sklearn.neural_network}
CALLS = 200  # calls of predict and of predict_proba in a turn
TARGETS = {
    "fit": None,
    "fit, 1 epoch": "-",
    "predict": 10,
    "predict_proba": 10,
}  # least ratios; that of a fit is its case's
HEADER = f"{'case':24} {'call':14} {'fastnn':>11} {'scikit-learn':>13} {'ratio':>6} {'target':>7} {'difference':>11}"
# How far coefficients may lie apart after hundreds of epochs, as a fraction of their largest magnitude.
TOLERANCE = {"float64": 1e-6, "float32": 1e-2}


@dataclass(frozen=True)
class Case:
    """A data set, the parameters of the estimators, and how many times as fast fastnn should be."""

    name: str
    data: str
    target: float
    kind: str = "MLPClassifier"
    parameters: dict = field(default_factory=dict)

    def samples(self):
        """(X, y), X standardised."""
        X, y = getattr(datasets, f"load_{self.data}")(return_X_y=True)
        return StandardScaler().fit_transform(X), y


CASES = (
    Case("iris", "iris", 10),
    Case("wine", "wine", 10),
    Case("diabetes", "diabetes", 10, "MLPRegressor"),
    Case("breast_cancer", "breast_cancer", 6),
    Case("digits", "digits", 5),
    Case("digits, batch_size=32", "digits", 10, parameters={"batch_size": 32}),
)


def mnist(folder, n=20_000):
    """(X, y) of the first images, float32 in [0, 1]."""
    files = [os.path.join(folder, f"train-{name}-ubyte") for name in ("images-idx3", "labels-idx1")]
    files = [path if os.path.exists(path) else f"{path}.gz" for path in files]
    images, labels = map(fastnn.load_idx, files)
    return images[:n].reshape(n, -1).astype(np.float32) / 255, labels[:n].astype(int)


def turns(case, X, y, parameters):
    """({call: {package: a turn}}, {package: the estimator that its latest turn of "fit" made})."""
    arguments = {"random_state": 0} | case.parameters | parameters
    fitted = {}

    def fit(package, **changes):
        estimator = fitted[package] = getattr(PACKAGES[package], case.kind)(**arguments | changes)
        return seconds(lambda: estimator.fit(X, y))

    found = {
        "fit, 1 epoch": {package: lambda package=package: fit(package, max_iter=1) for package in PACKAGES},
        "fit": {package: lambda package=package: fit(package) for package in PACKAGES},
    }
    for name in ("predict", "predict_proba") if case.kind == "MLPClassifier" else ("predict",):
        found[name] = {
            package: lambda package=package, name=name: seconds(lambda: getattr(fitted[package], name)(X[:1]), CALLS)
            for package in PACKAGES
        }
    return found, fitted


def measure(case, samples, rounds, **parameters):
    """{"fit", "predict", ..: (fastnn's seconds, scikit-learn's, ratio)}, iterations and difference."""
    calls, fitted = turns(case, *samples, parameters)
    times = {name: in_turn(sides, rounds) for name, sides in calls.items()}
    here, there = (fitted[package] for package in PACKAGES)
    difference = max(
        np.abs(a - b).max() / np.abs(b).max()
        for a, b in zip(here.coefs_ + here.intercepts_, there.coefs_ + there.intercepts_, strict=True)
    )
    iterations = here.n_iter_, there.n_iter_
    if iterations[0] != iterations[1] or not difference < TOLERANCE[here.coefs_[0].dtype.name]:
        raise ArithmeticError(f"{case.name}: the two differ by {difference:g} after {iterations} iterations")
    result = {"iterations": iterations[0], "difference": float(difference)}
    for name, each in times.items():
        result[name] = (*medians(each).values(), ratios(each)["scikit-learn"])
    return result


def figures(results):
    """The table in Markdown, of {name of a case: (its target, what `measure` gives)}."""
    head = ["data", "fit, fastnn", "fit, scikit-learn", "ratio", "target", "fit of 1 epoch, ratio"]
    rows = []
    for name, (target, result) in results.items():
        here, there, ratio = result["fit"]
        epoch, (row, _, of_row) = result["fit, 1 epoch"][2], result["predict"]
        cells = [f"{1e3 * here:,.1f} ms", f"{1e3 * there:,.1f} ms", f"{ratio:.1f}", target, f"{epoch:.1f}"]
        rows.append([name, *cells, f"{1e6 * row:.1f} us", f"{of_row:.1f}", TARGETS["predict"]])
    return table([*head, "predict of one row", "ratio", "target"], rows)


AVX2_TARGETS = {"breast_cancer": 5, "digits": 4}  # where they are not those of AVX-512


def of_avx2(results):
    """The same table with the targets of AVX2 code."""
    return figures({name: (AVX2_TARGETS.get(name, target), result) for name, (target, result) in results.items()})


FIGURES = {"estimators": figures, "estimators-avx2": of_avx2}


def run(options):
    """Print the table; {name of a case: (its target, what `measure` gives)}."""
    cases = [(case, case.samples()) for case in CASES]
    if options.mnist:
        name = "MNIST, float32, 20,000 images, 5 epochs"
        cases.append((Case(name, "mnist", 3, parameters={"max_iter": 5}), mnist(options.mnist)))
    changes, results = {"max_iter": 2} if options.quick else {}, {}
    print(HEADER, flush=True)
    with environment(OMP_NUM_THREADS="1"), threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of fits that have not converged
        for case, samples in cases:
            result = measure(case, samples, options.rounds, **changes)
            results[case.name] = case.target, result
            for name in [name for name in TARGETS if name in result]:
                here, there, ratio = result[name]
                target = TARGETS[name] or case.target
                print(
                    f"{case.name:24} {name:14} {1e6 * here:8,.1f} us {1e6 * there:10,.1f} us {ratio:6.1f} "
                    f"{target:>7} {result['difference']:11.1e}",
                    flush=True,
                )
    return results
