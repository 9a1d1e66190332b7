"""`python -m bench --sklearn`: fastnn's MLPClassifier and MLPRegressor against scikit-learn's, in turn, one thread.

Both get the same data, standardised, the same parameters and the same random_state. A round is a whole `fit` of each,
one of a single epoch, and calls of predict and predict_proba of one row. Figures are medians over rounds, ratios the
medians of the rounds' ratios. Before a figure counts, both must have trained as many iterations and end with the same
coefficients.
"""

import os
import statistics
import time
import warnings
from dataclasses import dataclass, field

import numpy as np
import sklearn.neural_network
from sklearn import datasets
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import fastnn

CALLS = 200  # calls of predict and of predict_proba in a round
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


def seconds(call, times=1):
    """The seconds that one call takes on average."""
    start = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - start) / times


def measure(case, samples, rounds, **parameters):
    """{"fit", "predict", ..: (fastnn's seconds, scikit-learn's, ratio)}, iterations and difference."""
    X, y = samples
    one_row = ["predict", *(["predict_proba"] if case.kind == "MLPClassifier" else [])]
    found = {name: [] for name in ("fit", "fit, 1 epoch", *one_row)}
    for _ in range(rounds):
        arguments = {"random_state": 0} | case.parameters | parameters
        once = [getattr(m, case.kind)(**arguments | {"max_iter": 1}) for m in SIDES]
        pair = [getattr(m, case.kind)(**arguments) for m in SIDES]
        found["fit, 1 epoch"].append([seconds(lambda e=e: e.fit(X, y)) for e in once])
        found["fit"].append([seconds(lambda e=e: e.fit(X, y)) for e in pair])
        for name in one_row:
            found[name].append([seconds(lambda e=e, name=name: getattr(e, name)(X[:1]), CALLS) for e in pair])
    ours, scikit_learns = pair
    difference = max(
        np.abs(a - b).max() / np.abs(b).max()
        for a, b in zip(ours.coefs_ + ours.intercepts_, scikit_learns.coefs_ + scikit_learns.intercepts_, strict=True)
    )
    iterations = ours.n_iter_, scikit_learns.n_iter_
    if iterations[0] != iterations[1] or not difference < TOLERANCE[ours.coefs_[0].dtype.name]:
        raise ArithmeticError(f"{case.name}: the two differ by {difference:g} after {iterations} iterations")
    result = {"iterations": iterations[0], "difference": float(difference)}
    for name, times in found.items():
        medians = [statistics.median(side) for side in zip(*times, strict=True)]
        result[name] = (*medians, statistics.median(b / a for a, b in times))
    return result


SIDES = fastnn, sklearn.neural_network
HEADER = f"{'case':24} {'call':14} {'fastnn':>11} {'scikit-learn':>13} {'ratio':>6} {'target':>7} {'difference':>11}"


def run(rounds, folder=None, quick=False):
    """Print the table."""
    cases = [(case, case.samples()) for case in CASES]
    if folder is not None:
        cases.append((Case("MNIST, float32", "mnist", 3, parameters={"max_iter": 5}), mnist(folder)))
    print(HEADER, flush=True)
    os.environ["OMP_NUM_THREADS"] = "1"  # fastnn reads it when it trains
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of fits that have not converged
        for case, samples in cases:
            result = measure(case, samples, rounds, **({"max_iter": 2} if quick else {}))
            targets = {"fit": case.target, "predict": 10, "predict_proba": 10}
            for name in [name for name in ("fit", "fit, 1 epoch", "predict", "predict_proba") if name in result]:
                ours, scikit_learns, ratio = result[name]
                print(
                    f"{case.name:24} {name:14} {1e6 * ours:8,.1f} us {1e6 * scikit_learns:10,.1f} us {ratio:6.1f} "
                    f"{targets.get(name, '-'):>7} {result['difference']:11.1e}",
                    flush=True,
                )
