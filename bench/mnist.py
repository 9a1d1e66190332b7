"""How long it takes to 97% on MNIST, here and in JAX where it is installed.

DIR holds MNIST's IDX files. Both train 784-64-10, relu, softmax, Adam with one cycle of the rate up to 0.01, for two
epochs in batches of 64, from uint8 images in memory, in turn. The first turn of each, which compiles, is shown apart.
The figure is the median of the others. Both use as many threads as they choose; `taskset -c 0` makes that one.
"""

import itertools
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import fastnn

from .machine import print_host
from .markdown import table
from .sides import jax_recipe
from .timing import in_turn

ROUNDS, OPTIONS = 5, {"folder": {"metavar": "DIR", "type": Path}}
SIZES, BATCH, EPOCHS, RATE, SCALE = (784, 64, 10), 64, 2, 0.01, 1 / 255
FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def here(X, y, X_test, y_test, seed):
    """(seconds of training, accuracy on the test set)."""
    layers = [SIZES[0], fastnn.Dense(SIZES[1], "relu"), fastnn.Dense(SIZES[2], "softmax")]
    model = fastnn.Model(layers, loss="cross_entropy", init="he_normal", input_scale=SCALE, rng=seed)
    optimizer = fastnn.Adam(fastnn.OneCycle(RATE, -(-len(X) // BATCH) * EPOCHS))
    start = time.perf_counter()
    model.fit(X, y, epochs=EPOCHS, batch_size=BATCH, optimizer=optimizer)
    return time.perf_counter() - start, model.evaluate(X_test, y_test)["accuracy"]


def in_jax():
    """Make a function that trains in JAX and returns (seconds of training, accuracy on the test set).

    What its first call compiles serves the later ones, which must have the same data.
    """
    made = []

    def train(X, y, X_test, y_test, seed):
        if not made:
            made.append(jax_recipe(X, y.astype(np.int32), SIZES, SCALE, seed))
        state, run, predict, _ = made[0]
        n = len(X) // BATCH  # batches of an epoch
        rates, rng = fastnn.OneCycle(RATE, n * EPOCHS).rates(0, n * EPOCHS), np.random.default_rng(seed)
        start = time.perf_counter()
        for epoch in range(EPOCHS):
            order = rng.permutation(len(X))[: n * BATCH].reshape(n, BATCH)
            state = run(state, order, rates[epoch * n : (epoch + 1) * n])
        seconds = time.perf_counter() - start
        return seconds, float((predict(state, X_test).argmax(axis=1) == y_test).mean())

    return train


def compare(sets, rounds):
    """{package: (rounds, 2): seconds and accuracy} of a round with compilation, then of as many others."""
    sides = {"fastnn": here}
    if find_spec("jax"):
        sides["JAX"] = in_jax()
    else:
        print("JAX is not installed: it is in the extra bench")
    seeds = {name: itertools.count() for name in sides}
    return in_turn({name: lambda name=name: sides[name](*sets, next(seeds[name])) for name in sides}, rounds + 1)


def images(folder, quick):
    """X, y, X_test, y_test of IDX files; the first thousand of each where it is to be quick."""
    sets = [fastnn.load_idx(next(folder.glob(f"{name}*"))) for name in FILES]
    sets = [each.reshape(len(each), -1) if each.ndim == 3 else each.astype(np.int64) for each in sets]
    return [each[:1000] for each in sets] if quick else sets


def figures(found):
    """The table in Markdown, of what `compare` gives."""
    rows = []
    for name, runs in found.items():
        (first, _), (seconds, accuracies) = runs[0], runs[1:].T
        shown = f"{min(accuracies):.2%} to {max(accuracies):.2%}"
        rows.append([name, f"{np.median(seconds):.2f} s", f"{first:.2f} s", shown])
    return table(["package", "training, 2 epochs", "the first time, with compiling", "accuracy on the test set"], rows)


FIGURES = {"mnist": figures}


def run(options):
    """Print the time and the accuracy of each package; what `compare` gives."""
    sets = images(options.folder, options.quick)
    print_host()
    found = compare(sets, options.rounds)
    print(figures(found))
    return found
