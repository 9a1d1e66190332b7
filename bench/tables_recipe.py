"""A recipe that needs no thought from a table to a model, from populations of small networks: `recipe`.

Its choices were made on the tuning half of `bench.tables_data`; `Rules` has its numbers. Measured there and left out,
because no mean over the sets was better by more than noise: l2 and weight decay (large sets of numbers lose), dropout,
label smoothing (a worse log loss), two hidden layers, 128 units (twice the time), tanh, selu, silu and gelu, one-cycle
and cosine-log schedules, a `Scale` layer in front, 16 members, weights by the loss on the folds left out, a linear
model among the members, and a refit on all rows. On small sets of numbers a `clip` of 3 in place of 20 loses 0.01 of R2
in the mean, and 20 epochs in place of 40 lose 0.005.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

import fastnn

from .tables_data import CLASSES
from .tables_methods import dates_as_numbers, is_number

# What each population sees of the columns, see `Columns`.
VIEWS = ("values", "ranks"), ("values", "ranks", "pieces")
FEW_ROWS = 1500


@dataclass(frozen=True)
class Rules:
    """The numbers of the recipe."""

    views: tuple = VIEWS
    folds: int = 8  # members of a population, each with another validation part
    hidden: tuple = (64,)
    activation: str = "relu"
    learning_rate: float = 1e-2  # at first; it follows half a cosine to 0
    beta2: float = 0.95
    few_epochs: tuple = (20, 40)  # for classes and for numbers, up to FEW_ROWS rows
    epochs: int = 30  # above
    batch_sizes: tuple = (16, 128)  # the least and the largest
    rows_a_batch: int = 64  # a batch has about a 64th of the rows, within these sizes
    l2: float = 0.0
    clip: float = 20.0  # values are below it in magnitude
    pieces: int = 8
    quantiles: int = 128

    def batch_size(self, n):
        """The power of two next to n / rows_a_batch, within the limits."""
        return int(np.clip(2 ** round(np.log2(n / self.rows_a_batch)), *self.batch_sizes))

    def epochs_of(self, kind, n):
        """The most epochs for n rows."""
        return self.few_epochs[int(kind != CLASSES)] if n <= FEW_ROWS else self.epochs


def rules_for(n):
    """The rules for n rows: up to 1,000 less time than gradient boosting takes, which costs 0.004 of R2."""
    return replace(Rules(), hidden=(32,), folds=6) if n <= 1000 else Rules()


class Columns:
    """The columns of a frame as three blocks of float32 inputs, by what `fit` learns from the training rows.

    values : numbers less their median, over the distance of their quartiles (or half their range, where the quartiles
        are equal), then x / sqrt(1 + (x / clip)^2); whether a number is a gap, which counts as the median; each string
        as one-hot, zeros for one that was not seen or a gap. Two strings alone are one column of -1 and 1.
    ranks : for numbers with more than two values, where they stand among the training rows, in [-1.7, 1.7].
    pieces : for the same numbers, how far each part between two quantiles is filled, in [0, 1] (piecewise linear
        encoding, Gorishniy et al. 2022).
    """

    def __init__(self, rules):
        self.rules = rules

    def fit(self, X):
        """Learn from a frame; self."""
        X = dates_as_numbers(X)
        self.numbers = [column for column in X.columns if is_number(X[column])]
        self.categories = {c: pd.Index(X[c].dropna().unique()) for c in X.columns if c not in self.numbers}
        values = X[self.numbers].to_numpy(np.float64)
        gaps = np.isnan(values)
        self.with_gaps = gaps.any(axis=0)
        low, first, median, third, high = np.nan_to_num(_quantiles(values, np.linspace(0, 1, 5)))
        spread = np.where(third > first, third - first, (high - low) / 2)
        self.median, self.varies = median, spread > 0
        self.scale = 1 / np.where(self.varies, spread, 1.0)
        values = np.where(gaps, median, values)
        cuts = _quantiles(values, np.linspace(0, 1, self.rules.quantiles + 1)).T
        every = self.rules.quantiles // self.rules.pieces
        rich = [j for j in range(values.shape[1]) if len(np.unique(values[:, j])) > 2]
        self.cuts = {j: np.unique(cuts[j]) for j in rich}
        self.edges = {j: np.unique(cuts[j, ::every]) for j in rich}
        return self

    def blocks(self, X):
        """{the name of a block: an array (n, columns)} of a frame."""
        X = dates_as_numbers(X)
        values = X[self.numbers].to_numpy(np.float64)
        gaps = np.isnan(values)
        values = np.where(gaps, self.median, values)
        scaled = (values - self.median) * self.scale
        scaled /= np.hypot(1, scaled / self.rules.clip)
        parts = [scaled[:, self.varies], gaps[:, self.with_gaps]]
        parts += [_one_hot(known.get_indexer(X[column]), len(known)) for column, known in self.categories.items()]
        ranks = [3.4 * np.interp(values[:, j], at, np.linspace(-0.5, 0.5, len(at))) for j, at in self.cuts.items()]
        pieces = [
            np.clip((values[:, j, None] - at[:-1]) / np.diff(at), 0, 1) for j, at in self.edges.items() if len(at) > 2
        ]
        return {"values": _joined(parts, len(X)), "ranks": _joined(ranks, len(X)), "pieces": _joined(pieces, len(X))}


def _quantiles(values, q):
    """The quantiles (len(q), columns) of the numbers in each column that are no gaps; zeros where there is none."""
    empty = np.isnan(values).all(axis=0)
    return np.nanquantile(np.where(empty, 0.0, values), q, axis=0)


def _one_hot(codes, n):
    if n == 2:
        return np.array([-1.0, 1.0, 0.0])[codes][:, None]
    return codes[:, None] == np.arange(n)


def _joined(parts, n):
    parts = [part if part.ndim == 2 else part[:, None] for part in parts]
    return np.concatenate([np.empty((n, 0)), *parts], axis=1).astype(np.float32)


def fold_of(kind, target, n_folds, seed):
    """Which fold each row is in, (n,): as many rows in each; of each class too."""
    order = np.random.default_rng(seed).permutation(len(target))
    if kind == CLASSES:
        order = order[np.argsort(target[order], kind="stable")]
    folds = np.empty(len(target), int)
    folds[order] = np.arange(len(target)) % n_folds
    return folds


def trained(kind, Z, target, folds, seed, rules):
    """A population on inputs Z (n, inputs): member i sees all folds but fold i, and stops by its loss on that one."""
    n = len(Z)
    n_out, output, loss = 1, "identity", "quadratic"
    if kind == CLASSES:
        n_out, output, loss = int(target.max()) + 1, "softmax", "cross_entropy"
    sizes = [
        Z.shape[1],
        *(fastnn.Dense(units, rules.activation) for units in rules.hidden),
        fastnn.Dense(n_out, output),
    ]
    population = fastnn.Population(sizes, rules.folds, loss=loss, rng=seed)
    epochs = rules.epochs_of(kind, n)
    population.fit(
        Z,
        target,
        epochs=epochs,
        batch_size=rules.batch_size(n),
        optimizer=fastnn.Adam(fastnn.CosineDecay(rules.learning_rate, length=epochs), beta2=rules.beta2),
        rows=folds != np.arange(rules.folds)[:, None],
        validation_data="rest",
        stopping=fastnn.Patience(max(5, epochs // 4)),
        l2=rules.l2,
        threads=1,
    )
    return population


def recipe(kind, X, y, seed, rules=None):
    """A method of `bench.tables`: the mean of the outputs of all members of a population for each view."""
    rules = rules or rules_for(len(y))
    columns = Columns(rules).fit(X)
    blocks = columns.blocks(X)
    views = [view for view in rules.views if all(blocks[name].shape[1] for name in view)] or [("values",)]
    if kind == CLASSES:
        target = np.searchsorted(np.unique(y), y)
    else:
        mean, deviation, low, high = y.mean(), y.std() or 1.0, y.min(), y.max()
        target = ((y - mean) / deviation).astype(np.float32)
    folds = fold_of(kind, target, rules.folds, seed)
    inputs = [np.concatenate([blocks[name] for name in view], axis=1) for view in views]
    made = [trained(kind, Z, target, folds, 1000 * seed + i * rules.folds, rules) for i, Z in enumerate(inputs)]

    def predict(X):
        blocks = columns.blocks(X)
        outputs = [
            population.predict(np.concatenate([blocks[name] for name in view], axis=1), "mean", threads=1)
            for population, view in zip(made, views, strict=True)
        ]
        outputs = np.mean(outputs, axis=0, dtype=np.float64)
        return outputs if kind == CLASSES else np.clip(outputs[:, 0] * deviation + mean, low, high)

    return predict
