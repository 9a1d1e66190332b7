"""What is left of the error in outputs that are saturated and wrong, on FANN's data sets.

DIR holds files as FANN has them (`datasets/` of github.com/libfann/fann): NAME.train and NAME.test, each a line
"samples inputs outputs", then the numbers. A table has a line for each data set, optimizer of the whole set and loss
or rule: the training error and its share in outputs that are at the wrong end of the sigmoid (|a - y| > 0.99), and
the accuracy on both files; means over as many seeds as there are rounds.
"""

import itertools
from pathlib import Path

import numpy as np

import fastnn

from .cases import count
from .markdown import Table, printed

ROUNDS, QUICK_EPOCHS = 3, 20
NAMES = "diabetes", "gene", "soybean", "thyroid"
OPTIMIZERS = {"Rprop": fastnn.Rprop(), "L-BFGS": fastnn.LBFGS()}
# (arguments of Model, arguments of fit)
WAYS = {
    "quadratic": ({}, {}),
    "quadratic, min_derivative=0.0396": ({}, {"min_derivative": 0.0396}),
    "arctanh_error": ({"loss": "arctanh_error"}, {}),
    "arctanh_error, min_derivative=0.0396": ({"loss": "arctanh_error"}, {"min_derivative": 0.0396}),
    "cross_entropy": ({"loss": "cross_entropy"}, {}),
}
FIGURES = printed("fann")
OPTIONS = {
    "folder": {"metavar": "DIR", "type": Path},
    "--names": {"nargs": "+", "default": NAMES, "help": f"data sets (default {', '.join(NAMES)})"},
    "--epochs": {"type": count, "default": 500, "help": "epochs to train (default %(default)s)"},
    "--hidden": {"type": count, "default": 20, "help": "hidden neurons (default %(default)s)"},
}


def read(path):
    """(X, Y) of a file of FANN's, float32."""
    numbers = np.array(path.read_text().split(), np.float32)
    rows, inputs, outputs = numbers[:3].astype(int)
    table = numbers[3:].reshape(rows, inputs + outputs)
    return np.ascontiguousarray(table[:, :inputs]), np.ascontiguousarray(table[:, inputs:])


def result(train, test, hidden, optimizer, way, epochs, seed):
    """(mean squared error, its share in saturated wrong outputs, accuracy of training, of test)."""
    model_options, fit_options = WAYS[way]
    (X, Y), sizes = train, [train[0].shape[1], hidden, train[1].shape[1]]
    model = fastnn.Model(sizes, init="glorot_uniform", rng=seed, **model_options)
    model.fit(X, Y, epochs=epochs, batch_size=len(X), optimizer=OPTIMIZERS[optimizer], **fit_options)
    errors = (model.predict(X) - Y).astype(np.float64)
    squares = errors**2
    right = [np.mean(model.predict(x).argmax(axis=1) == y.argmax(axis=1)) for x, y in (train, test)]
    return squares.mean(), squares[np.abs(errors) > 0.99].sum() / squares.sum(), *right


def run(options):
    """Print the table."""
    epochs = QUICK_EPOCHS if options.quick else options.epochs
    columns = "optimizer", "loss, rule", "error", "share at the wrong end", "accuracy, training", "test"
    table = Table("fann", "data set", *columns, title="Errors and accuracies")
    for name, optimizer, way in itertools.product(options.names, OPTIMIZERS, WAYS):
        if optimizer == "L-BFGS" and "min_derivative" in way:
            continue
        sets = [read(options.folder / f"{name}.{part}") for part in ("train", "test")]
        rows = [result(*sets, options.hidden, optimizer, way, epochs, seed) for seed in range(options.rounds)]
        error, share, of_train, of_test = np.mean(rows, axis=0)
        table.add(name, optimizer, way, f"{error:.4f}", f"{share:.2f}", f"{of_train:.3f}", f"{of_test:.3f}")
