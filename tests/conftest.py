"""What the tests share: the network in plain float64 NumPy, written for clarity and independent of the package."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("MPLBACKEND", "Agg")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def no_programs_of_other_tests():
    """Networks of one architecture share programs, but these know what a test has changed by monkeypatch."""
    from fastnn import network

    network._shared_programs.cache_clear()


def normal_distribution(z):
    """The standard normal distribution at z."""
    return np.vectorize(math.erf, otypes=[float])(z / np.sqrt(2)) / 2 + 0.5


VALUE = {
    "identity": lambda z: z,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "gelu": lambda z: z * normal_distribution(z),
    "leaky_relu": lambda z: np.maximum(z, 0.01 * z),
    "elu": lambda z: np.where(z > 0, z, np.exp(np.minimum(z, 0)) - 1),
    "selu": lambda z: 1.0507009873554805 * np.where(z > 0, z, 1.6732632423543772 * (np.exp(np.minimum(z, 0)) - 1)),
    "silu": lambda z: z / (1 + np.exp(-z)),
    "softplus": lambda z: np.log(1 + np.exp(z)),
    "hard_sigmoid": lambda z: np.minimum(np.maximum(z + 3, 0), 6) / 6,
    "step": lambda z: (z > 0).astype(float),
}
# da/dz in terms of z. For the step it is 1 by the perceptron rule.
SLOPE = {
    "identity": np.ones_like,
    "sigmoid": lambda z: 1 / ((1 + np.exp(-z)) * (1 + np.exp(z))),
    "tanh": lambda z: 1 / np.cosh(z) ** 2,
    "relu": lambda z: (z > 0).astype(float),
    "gelu": lambda z: normal_distribution(z) + z * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi),
    "leaky_relu": lambda z: np.where(z > 0, 1, 0.01),
    "elu": lambda z: np.where(z > 0, 1, np.exp(np.minimum(z, 0))),
    "selu": lambda z: 1.0507009873554805 * np.where(z > 0, 1, 1.6732632423543772 * np.exp(np.minimum(z, 0))),
    "silu": lambda z: (1 + z / (1 + np.exp(z))) / (1 + np.exp(-z)),
    "softplus": lambda z: 1 / (1 + np.exp(-z)),
    "hard_sigmoid": lambda z: (np.abs(z) < 3) / 6,
    "step": np.ones_like,
}


class NaiveNetwork:
    """A copy of a model's parameters in float64, with the textbook's formulas (weights (fan_out, fan_in))."""

    def __init__(self, model):
        self.weights = [np.array(w, np.float64) for w in model.weights]
        self.biases = [np.array(b, np.float64) for b in model.biases]
        self.activations = [layer.activation for layer in model.layers]

    def _forward(self, X):
        a = np.asarray(X, np.float64)
        zs, outputs = [], [a]
        for w, b, name in zip(self.weights, self.biases, self.activations, strict=True):
            zs.append(outputs[-1] @ w.T + b)
            outputs.append(VALUE[name](zs[-1]))
        return zs, outputs

    def predict(self, X):
        return self._forward(X)[1][-1]

    def losses(self, X, Y):
        """Half the squared distance of each sample."""
        return 0.5 * ((self.predict(X) - Y) ** 2).sum(axis=1)

    def gradients(self, X, Y):
        """[(dW, db)] of the mean of `losses`."""
        zs, outputs = self._forward(X)
        delta = (outputs[-1] - Y) * SLOPE[self.activations[-1]](zs[-1]) / len(X)
        result = []
        for l in range(len(zs) - 1, -1, -1):
            result.append((delta.T @ outputs[l], delta.sum(axis=0)))
            if l:
                delta = (delta @ self.weights[l]) * SLOPE[self.activations[l - 1]](zs[l - 1])
        return result[::-1]

    def sgd(self, X, Y, order, batch_size, learning_rate, frozen=()):
        """Train on every row of `order`, an epoch each; returns the mean losses seen before the updates."""
        history = []
        for row in order:
            seen = []
            for start in range(0, len(row), batch_size):
                batch = row[start : start + batch_size]
                seen.extend(self.losses(X[batch], Y[batch]))
                for l, (dw, db) in enumerate(self.gradients(X[batch], Y[batch])):
                    if l not in frozen:
                        self.weights[l] -= learning_rate * dw
                        self.biases[l] -= learning_rate * db
            history.append(np.mean(seen))
        return history

    def relative_error(self, model):
        """The largest relative distance of one of the model's arrays from the one here."""
        pairs = [*zip(model.weights, self.weights, strict=True), *zip(model.biases, self.biases, strict=True)]
        return max(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-3) for a, b in pairs)


@pytest.fixture(scope="session")
def naive():
    """The class `NaiveNetwork`."""
    return NaiveNetwork


@pytest.fixture(scope="session")
def padding():
    """A function: the parts of model.parameters that belong to no weight and no bias."""

    def of(model):
        mine = np.zeros(model.parameters.size, bool)
        start = model.parameters.__array_interface__["data"][0]
        for view in (*model.weights, *model.biases):
            places = (view.__array_interface__["data"][0] - start) // view.itemsize
            for length, stride in zip(view.shape, view.strides, strict=True):
                places = np.add.outer(places, np.arange(length) * (stride // view.itemsize))
            mine[places.ravel()] = True
        assert mine.sum() == model.n_parameters
        return model.parameters[~mine]

    return of


@pytest.fixture(scope="session")
def state():
    """A function: everything that training may change in a model, to compare before and after."""

    def of(model):
        return model.parameters.tobytes(), model._network.state.tobytes(), model.history, model.frozen, repr(model)

    return of


@pytest.fixture
def run_python(tmp_path):
    """A function: run source in a new interpreter that imports the package from `path`, in a folder with nothing to
    import; returns the finished process."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def run(source, *arguments, check=True, path=ROOT, **environment):
        env = os.environ | {"PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"}
        env |= {name: str(value) for name, value in environment.items()}
        command = [sys.executable, "-W", "error", "-c", source, *map(str, arguments)]
        done = subprocess.run(command, env=env, cwd=elsewhere, capture_output=True, text=True, timeout=900)
        if check:
            assert done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def blobs():
    """A small classification problem: X (300, 6) float32, y (300,) of 3 classes."""
    rng = np.random.default_rng(7)
    y = rng.integers(0, 3, 300)
    X = rng.normal(size=(300, 6)) + np.eye(6)[y] * 2
    return X.astype(np.float32), y
