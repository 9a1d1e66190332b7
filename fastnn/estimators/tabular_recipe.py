"""How the networks of a table are trained where nothing is said: numbers that follow from the size of the table."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ..checks import scalars
from ..checks.scalars import shown

FEWEST_ROWS = 20  # with fewer no row is held out
FEWEST_FOLDS, MOST_FOLDS = 5, 10
SMALL_ROWS, FEW_ROWS, LARGE_ROWS, MANY_ROWS = 1000, 1500, 50_000, 100_000


class Recipe(NamedTuple):
    """How the networks of a table are trained.

    The rate falls along half a cosine from `learning_rate` to 0 in all `epochs`; the optimizer is AdamW.
    """

    hidden_layer_sizes: tuple[int, ...]
    activation: str
    epochs: int
    patience: int  # epochs without improvement on held-out rows
    batch_size: int
    learning_rate: float
    beta2: float
    weight_decay: float
    dropout: float
    label_smoothing: float
    n_members: int

    @property
    def n_folds(self) -> int:
        """Into how many parts the rows fall: network i holds out part i % n_folds."""
        return min(max(self.n_members, FEWEST_FOLDS), MOST_FOLDS)

    @classmethod
    def of(cls, name: str, values: Any) -> Recipe:
        """The recipe of a tuple of its values; raises ValueError or TypeError where it is none."""
        if not isinstance(values, tuple) or len(values) != len(cls._fields):
            raise TypeError(f"{name} must be a tuple of {len(cls._fields)} values, got {shown(values)}")
        found = cls(*values)
        if not isinstance(found.hidden_layer_sizes, tuple) or not isinstance(found.activation, str):
            raise TypeError(f"{name} must have a tuple of sizes and the name of an activation, got {shown(values)}")
        for count in (*found.hidden_layer_sizes, found.epochs, found.patience, found.batch_size, found.n_members):
            scalars.integer(name, count, 1)
        scalars.number(name, found.learning_rate, 0.0, open_low=True)
        for rate in (found.beta2, found.weight_decay, found.dropout, found.label_smoothing):
            scalars.number(name, rate, 0.0)
        return found


def recipe(rows: int, classes: bool) -> Recipe:
    """The recipe for a table of so many rows.

    classes says whether the outputs are the probabilities of classes.
    """
    epochs = 30 if rows > FEW_ROWS else 20 if classes else 40
    if rows > MANY_ROWS:
        epochs = 15
    return Recipe(
        hidden_layer_sizes=(32,) if rows <= SMALL_ROWS else (64,) if rows <= LARGE_ROWS else (64, 64),
        activation="relu",
        epochs=epochs,
        patience=max(5, epochs // 4),
        batch_size=min(max(2 ** round(math.log2(rows / 64)), 16), 128 if rows <= MANY_ROWS else 256),
        learning_rate=0.01,
        beta2=0.95,
        weight_decay=0.0,
        dropout=0.0,
        label_smoothing=0.0,
        n_members=6 if rows <= SMALL_ROWS else 8 if rows <= LARGE_ROWS else 4 if rows <= 200_000 else 2,
    )
