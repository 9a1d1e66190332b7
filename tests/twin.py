"""A model's copy in float64, which computes by `kernels.reference`: what a model is compared with."""

import numpy as np

from fastnn import SGD
from fastnn.kernels import reference
from fastnn.kernels.formulas import loss_functions

from .cases import kinds_of_tensors, settings_of


class Twin:
    """A copy of a model's parameters in float64: weights (fan_out, fan_in), as the model has them, and biases."""

    def __init__(self, model, optimizer=None):
        self.weights = [np.array(w, np.float64) for w in model.weights]
        self.biases = [np.array(b, np.float64) for b in model.biases]
        self.activations = [layer.activation for layer in model.layers]
        self.loss = loss_functions.kernel_name(model.loss_name, self.activations[-1])
        self.optimizer, self.frozen, self.steps = optimizer, model.frozen, 0
        self.vectors = [[[np.zeros_like(p)] * 2 for p in layer] for layer in self.layers]  # the optimizer's

    @property
    def layers(self):
        """[(weights, biases), ..]."""
        return list(zip(self.weights, self.biases, strict=True))

    @property
    def network(self):
        """The network as `reference` takes it."""
        return [(w.T, b, name) for (w, b), name in zip(self.layers, self.activations, strict=True)]

    def predict(self, X):
        """The outputs."""
        return reference.forward(self.network, np.asarray(X, np.float64))[-1]

    def losses(self, X, Y):
        """The loss of each sample."""
        pairs = zip(np.asarray(X, np.float64), np.asarray(Y, np.float64), strict=True)
        return np.array([reference.gradients(self.network, x[None], y[None], self.loss)[0] for x, y in pairs])

    def gradients(self, X, Y, weights=None):
        """[(dW, db), ..] of the mean of `losses`, a weighted one; zeros for frozen layers."""
        return self._loss_and_gradients(X, Y, weights)[1]

    def _loss_and_gradients(self, X, Y, weights=None):
        """(the sum of `losses`, the gradients of their mean)."""
        count = len(X) if weights is None else weights.sum()
        total, summed = reference.gradients(self.network, np.asarray(X, np.float64), Y, self.loss, weights)
        trains = [l not in self.frozen for l in range(len(summed))]
        return total, [(yes * dw.T / count, yes * db / count) for yes, (dw, db) in zip(trains, summed, strict=True)]

    def train(self, X, Y, order, batch_size, weights=None):
        """Train on every row of `order`, an epoch each; gives the (weighted) means of the losses before the steps."""
        history = []
        for row in order:
            total = 0.0
            for start in range(0, len(row), batch_size):
                batch = row[start : start + batch_size]
                of_batch = None if weights is None else weights[batch]
                if of_batch is None or of_batch.any():
                    value, gradients = self._loss_and_gradients(X[batch], Y[batch], of_batch)
                    self.step(gradients)
                    total += value
            history.append(total / (len(row) if weights is None else weights[row].sum()))
        return history

    def step(self, gradients):
        """Change the parameters as the optimizer does."""
        self.steps += 1
        rule, settings = reference.OPTIMIZERS[self.optimizer._kernel], settings_of(self.optimizer)
        for l, (layer, found, kept) in enumerate(zip(self.layers, gradients, self.vectors, strict=True)):
            if l not in self.frozen:
                for i, (p, g) in enumerate(zip(layer, found, strict=True)):
                    own = reference.own_settings(settings, layer, i, **kinds_of_tensors(self.optimizer))
                    p[...], kept[i] = rule(p, g, self.steps, kept[i], *own)

    def sgd(self, X, Y, order, batch_size, learning_rate, frozen=()):
        """`train` by plain SGD."""
        self.optimizer, self.frozen = SGD(learning_rate), frozenset(frozen)
        return self.train(X, Y, order, batch_size)

    def relative_error(self, model):
        """The largest relative distance of one of the model's arrays from the one here."""
        pairs = [*zip(model.weights, self.weights, strict=True), *zip(model.biases, self.biases, strict=True)]
        return max(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-3) for a, b in pairs)
