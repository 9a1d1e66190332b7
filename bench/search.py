"""How much time a search takes beside its fits, and beside scikit-learn's class.

RandomizedSearchCV, 5 folds, in turn: each fit alone, one after another on one thread, summed; fastnn.search; and
scikit-learn's class over fastnn's estimator, in processes. Then, for the first candidates alone, because it takes long,
scikit-learn's class over its own MLPClassifier beside fastnn.search. The machine must have nothing else to do: a search
needs all threads at the same time. On a busy one `--cpu` compares the CPU time of the search with that of its fits.

Before a figure counts, fastnn.search must have the results of scikit-learn's class over the same estimator, and mean
scores within 0.01 of those of scikit-learn's MLPClassifier.
"""

import time
import warnings
from dataclasses import dataclass

import numpy as np
import sklearn.neural_network
from scipy.stats import loguniform
from sklearn import datasets
from sklearn.base import clone
from sklearn.model_selection import ParameterSampler, RandomizedSearchCV, StratifiedKFold

import fastnn
import fastnn.search
from fastnn.network.threads import available_threads

from .cases import count
from .machine import environment, load
from .timing import in_turn, medians, ratios, seconds

ROUNDS = 3
OPTIONS = {
    "--candidates": {"type": count, "default": 40, "help": "candidates (default %(default)s)"},
    "--cpu": {"action": "store_true", "help": "seconds of CPU, and only of what runs in this process"},
    "--beside": {"type": count, "default": 4, "help": "how many scikit-learn's MLP trains too (default %(default)s)"},
}
SPACE = {
    "hidden_layer_sizes": [(50,), (100,), (50, 50)],
    "alpha": loguniform(1e-6, 1e-2),
    "learning_rate_init": loguniform(3e-4, 3e-3),
    "batch_size": [32, 64, 200],
}
PARAMETERS = {"max_iter": 50, "random_state": 0}
FOLDS = StratifiedKFold(5)
MOST = 1.1  # times the fits alone, divided by the threads
SCORE_DIFFERENCE = 0.01


@dataclass(frozen=True)
class Case:
    """A data set, and how many times as fast as with scikit-learn's MLP a search should be."""

    name: str
    target: float

    def samples(self, n):
        """The first n of (X, y)."""
        if self.name == "digits":
            X, y = datasets.load_digits(return_X_y=True)
            X = X / 16
        else:
            shape = {"n_samples": 20_000, "n_features": 25, "n_informative": 12, "n_classes": 4}
            X, y = datasets.make_classification(**shape, random_state=0)
        return X[:n], y[:n]


CASES = Case("digits", 6), Case("table, 20,000 rows", 5)


def search(kind, estimator, candidates, n_jobs):
    """A RandomizedSearchCV of fastnn.search or of scikit-learn."""
    return kind(estimator, SPACE, n_iter=candidates, random_state=0, cv=FOLDS, n_jobs=n_jobs)


def alone(X, y, candidates, clock=None):
    """The seconds of all fits, one after another on one thread."""
    total, folds = 0.0, [(X[train], y[train]) for train, _ in FOLDS.split(X, y)]
    for parameters in ParameterSampler(SPACE, candidates, random_state=0):
        for samples in folds:
            estimator = fastnn.MLPClassifier(threads=1, **PARAMETERS, **parameters)
            total += seconds(lambda estimator=estimator, samples=samples: estimator.fit(*samples), clock=clock)
    return total


def check(found, expected, most):
    """Raise ArithmeticError where the mean score of a candidate differs by more than `most` in two searches."""
    difference = np.abs(found.cv_results_["mean_test_score"] - expected.cv_results_["mean_test_score"]).max()
    if not difference <= most:
        raise ArithmeticError(f"mean scores of candidates differ by up to {difference:g}, which is more than {most}")


def measure(case, candidates, beside, rounds, n=None):
    """({side: seconds} of all candidates, {side: seconds} of those beside scikit-learn's MLP), each round's."""
    X, y = case.samples(n)
    threads, here = available_threads(), fastnn.MLPClassifier(**PARAMETERS)
    there, fitted = sklearn.neural_network.MLPClassifier(**PARAMETERS), {}

    def turn(kind, estimator, candidates, n_jobs):
        made = fitted[kind, type(estimator)] = search(kind, clone(estimator), candidates, n_jobs)
        return seconds(lambda: made.fit(X, y))

    ours, original = fastnn.search.RandomizedSearchCV, RandomizedSearchCV
    turn(original, here, 1, threads)  # starts the processes
    sides = {
        "fits alone / threads": lambda: alone(X, y, candidates) / threads,
        "fastnn.search": lambda: turn(ours, here, candidates, None),
        "scikit-learn's class": lambda: turn(original, here, candidates, threads),
    }
    whole = in_turn(sides, rounds)
    check(fitted[ours, type(here)], fitted[original, type(here)], 0)
    sides = {
        "fastnn.search": lambda: turn(ours, here, beside, None),
        "scikit-learn's MLP": lambda: turn(original, there, beside, threads),
    }
    parts = in_turn(sides, rounds)
    check(fitted[ours, type(here)], fitted[original, type(there)], SCORE_DIFFERENCE)
    return whole, parts


def measure_cpu(case, candidates, rounds, n=None):
    """{side: seconds of CPU, each round's}."""
    X, y = case.samples(n)
    ours, here, clock = fastnn.search.RandomizedSearchCV, fastnn.MLPClassifier(**PARAMETERS), time.process_time
    sides = {
        "fits alone": lambda: alone(X, y, candidates, clock),
        "fastnn.search": lambda: seconds(lambda: search(ours, here, candidates, None).fit(X, y), clock=clock),
    }
    return in_turn(sides, rounds)


def show(table, candidates, targets):
    """Print the medians of each side's seconds, and the ratios to the first side."""
    middle = medians(table)
    for name, ratio in ratios(table).items():
        target = f"   target {targets[name]:g}" if name in targets else ""
        print(f"  {candidates:3} candidates   {name:22} {middle[name]:8.2f} s {ratio:7.2f}{target}", flush=True)


def run(options):
    """Print a table for each data set."""
    candidates, beside, n = (2, 1, 200) if options.quick else (options.candidates, options.beside, None)
    with environment(PYTHONWARNINGS="ignore"), warnings.catch_warnings():  # of fits that have not converged
        warnings.simplefilter("ignore")
        for case in CASES:
            print(f"{case.name}, {available_threads()} threads, load {load():.1f}", flush=True)
            if options.cpu:
                show(measure_cpu(case, candidates, options.rounds, n), candidates, {"fastnn.search": MOST})
                continue
            whole, parts = measure(case, candidates, beside, options.rounds, n)
            show(whole, candidates, {"fastnn.search": MOST})
            show(parts, beside, {"scikit-learn's MLP": case.target})
