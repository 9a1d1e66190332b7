"""The sides of the comparison behind one interface, and the check that all learn the same."""

import itertools

import numpy as np

from . import cases
from .baseline_numpy import NumpyMLP
from .cases import LEARNING_RATE
from .peers import PEERS

CHECKED_EPOCHS = 2
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}  # all sides are float32; ten times the differences seen


class Fastnn:
    """fastnn through its public door."""

    def __init__(self, case):
        import fastnn

        self.case = case
        self.X, self.labels = cases.data(case)
        self.model = fastnn.Model(case.sizes, rng=0)
        start = zip(self.model.weights, self.model.biases, cases.initial(case), strict=True)
        for weights, biases, (W, b) in start:
            weights[...], biases[...] = W, b
        self._optimizer = fastnn.SGD(LEARNING_RATE)

    def train(self, epochs, order=True):
        """Whole epochs in random orders, or in the rows of `order` (epochs, n)."""
        size = self.case.batch_size
        self.model.fit(self.X, self.labels, epochs=epochs, batch_size=size, optimizer=self._optimizer, shuffle=order)


class Numpy:
    """The NumPy baseline."""

    def __init__(self, case):
        self.case = case
        self.X, self.labels = cases.data(case)
        self.model = NumpyMLP(case.sizes, cases.initial(case))
        self._rng = np.random.default_rng(0)

    def train(self, epochs, order=None):
        """Whole epochs in random orders, or in the rows of `order` (epochs, n)."""
        if order is None:
            order = (self._rng.permutation(self.case.n_samples) for _ in range(epochs))
        self.model.fit(self.X, self.labels, order, self.case.batch_size, LEARNING_RATE)


SIDES = {"fastnn": Fastnn, "numpy": Numpy, **PEERS}


def trained(side, case, *variant):
    """All parameters, in one vector, that a side ends with after a few epochs on some samples in a fixed order.

    There are enough samples for a few batches, and the last batch is a smaller one where the batch size is above 1.
    """
    case = case.cut(max(4 * case.batch_size, 500) // case.batch_size * case.batch_size + case.batch_size // 2)
    trainer = SIDES[side](case, *variant)
    trainer.train(CHECKED_EPOCHS, cases.orders(case, CHECKED_EPOCHS))
    return np.concatenate([array.ravel() for array in (*trainer.model.weights, *trainer.model.biases)])


def difference(parameters):
    """The largest difference among arrays, {side: array}; raises ArithmeticError where two disagree."""
    worst = 0.0
    for (one, x), (other, y) in itertools.combinations(parameters.items(), 2):
        apart = float(np.abs(x - y).max())
        if not np.allclose(x, y, **TOLERANCE):
            raise ArithmeticError(f"{one} and {other} disagree: up to {apart:.2g} apart")
        worst = max(worst, apart)
    return worst
