"""Other packages in the benchmark: the same SGD, each as fast as it was found to go.

A peer does not shuffle: its batches are made once, before anything is timed. What can be done in several ways
(`options`: the orientation, who differentiates, how many batches a loop's body takes) is timed when a peer is made, one
option after another, and the fastest is kept. Packages are imported when a peer is made.
"""

import os
import time
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

from . import cases
from .cases import LEARNING_RATE

TRIAL_BATCHES = 200


def threads():
    """What the parent process set; one elsewhere."""
    return int(os.environ.get("OMP_NUM_THREADS", "1"))


def least_seconds(function):
    """The seconds of the fastest of at least three calls, which take 0.1 s or more, after one that is not timed."""
    function()
    seconds = []
    while len(seconds) < 3 or sum(seconds) < 0.1:
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def fastest(options, seconds):
    """The value of each option, {name: values}, with the least seconds(variant): one option after another."""
    variant = {name: values[0] for name, values in options.items()}
    known = {}
    for name, values in options.items():
        tried = [variant | {name: value} for value in values] if len(values) > 1 else []
        for each in tried:
            key = tuple(each.values())
            known[key] = known.get(key) or seconds(each)
        variant = min(tried, key=lambda each: known[tuple(each.values())], default=variant)
    return variant


class Products(NamedTuple):
    """The products of a layer with inputs a, weights W, biases b and deltas d, in `@` and `.T` of any library."""

    forward: object  # a, W, b
    back: object  # d, W
    gradient: object  # d, a
    samples: int = 0  # the axis of the samples


ORIENTATIONS = {
    "rows": Products(lambda a, W, b: a @ W.T + b, lambda d, W: d @ W, lambda d, a: d.T @ a),
    "rows, W transposed": Products(lambda a, W, b: a @ W + b, lambda d, W: d @ W.T, lambda d, a: a.T @ d),
    "columns": Products(lambda a, W, b: W @ a + b[:, None], lambda d, W: W.T @ d, lambda d, a: d @ a.T, samples=1),
}


def written_out(parameters, x, target, products, sigmoid):
    """What a step of SGD adds to each (weights, biases), by the chain rule."""
    outputs = [x]
    for W, b in parameters:
        outputs.append(sigmoid(products.forward(outputs[-1], W, b)))
    d = (target - outputs[-1]) * (LEARNING_RATE / x.shape[products.samples])
    steps = []
    for l in reversed(range(len(parameters))):
        d = d * (outputs[l + 1] * (1 - outputs[l + 1]))
        steps.append((products.gradient(d, outputs[l]), d.sum(products.samples)))
        if l:
            d = products.back(d, parameters[l][0])
    return steps[::-1]


def differentiated(grad, parameters, x, target, products, sigmoid):
    """What a step of SGD adds to each (weights, biases), by a library's `grad`."""

    def cost(parameters):
        a = x
        for W, b in parameters:
            a = sigmoid(products.forward(a, W, b))
        return ((a - target) ** 2).sum() * (0.5 / x.shape[products.samples])

    return [(-LEARNING_RATE * dW, -LEARNING_RATE * db) for dW, db in grad(cost)(parameters)]


class Peer:
    """A package that trains with minibatches. `_program(variant)` is an epoch: (parameters, batches) to parameters."""

    package = ""
    options = {}  # noqa: RUF012
    alike = True  # whether training ends with fastnn's weights
    max_batches = None  # the most batches of an epoch, for a package whose steps are slow

    def __init__(self, case, variant=None):
        self.case = case
        X, labels = cases.data(case)
        self.X, self.targets = X, np.eye(case.sizes[-1], dtype=np.float32)[labels]
        self._load()
        self.variant = fastest(self.options, self._trial) if variant is None else variant
        self._run = self._program(self.variant)
        self._parameters = self._initial(self.variant)
        self._prepared = self._batches(self.variant, self.X, self.targets)

    def train(self, epochs, order=None):
        """Whole epochs in the order of the data, or in the rows of `order` (epochs, n)."""
        for i in range(epochs):
            batches = self._prepared
            if order is not None:
                batches = self._batches(self.variant, self.X[order[i]], self.targets[order[i]])
            self._parameters = self._run(self._parameters, batches)

    @property
    def model(self):
        """Weights (fan_out, fan_in) and biases, as NumPy arrays."""
        arrays = [[np.asarray(array).copy() for array in pair] for pair in self._parameters]
        transposed = "transposed" in self.variant.get("orientation", "")
        return SimpleNamespace(weights=[W.T if transposed else W for W, _ in arrays], biases=[b for _, b in arrays])

    def _trial(self, variant):
        """The seconds of an epoch on the first batches."""
        n = TRIAL_BATCHES * self.case.batch_size
        run, batches = self._program(variant), self._batches(variant, self.X[:n], self.targets[:n])
        state = [self._initial(variant)]
        return least_seconds(lambda: state.append(run(state.pop(), batches)))

    def _initial(self, variant):
        transposed = "transposed" in variant.get("orientation", "")
        start = [(np.ascontiguousarray(W.T) if transposed else W, b) for W, b in cases.initial(self.case)]
        return [(self._array(W), self._array(b)) for W, b in start]

    def _batches(self, variant, X, targets):
        """[(x, targets), ...], each (n, k, rows, columns): n times k batches, what is left of them, a smaller batch."""
        size, unroll, start, parts = self.case.batch_size, variant.get("unroll", 1), 0, []
        for k, rows in ((unroll, size), (1, size), (1, max(1, len(X) % size))):
            if n := (len(X) - start) // (k * rows):
                chosen = slice(start, start + n * k * rows)
                pair = [a[chosen].reshape(n, k, rows, -1) for a in (X, targets)]
                if variant.get("orientation") == "columns":
                    pair = [a.swapaxes(2, 3) for a in pair]
                parts.append([self._array(np.ascontiguousarray(a)) for a in pair])
                start = chosen.stop
        return parts


class _Scanned(Peer):
    """An epoch is one compiled function: a scan over its batches."""

    def _epoch(self, variant, sigmoid, grad, scan, nothing):
        products = ORIENTATIONS[variant["orientation"]]

        def step(parameters, batches):
            for x, target in zip(*batches, strict=True):
                if variant["gradient"] == "written out":
                    steps = written_out(parameters, x, target, products, sigmoid)
                else:
                    steps = differentiated(grad, parameters, x, target, products, sigmoid)
                parameters = [(W + dW, b + db) for (W, b), (dW, db) in zip(parameters, steps, strict=True)]
            return parameters, nothing()

        return lambda parameters, x, targets: scan(step, parameters, (x, targets))[0]


class Jax(_Scanned):
    """JAX: the epoch jitted, parameters donated."""

    package = "jax"
    options = {  # noqa: RUF012
        "orientation": tuple(ORIENTATIONS),
        "sigmoid": ("logistic", "tanh"),
        "gradient": ("jax.grad", "written out"),
        "unroll": (1, 4, 8),
        "vector bits": (256, 512),  # XLA prefers 256 where there are 512
    }

    def _load(self):
        import jax

        self._jax = jax
        jax.config.update("jax_platforms", "cpu")
        self._array = jax.numpy.array

    def _program(self, variant):
        jax = self._jax
        tanh = lambda z: 0.5 * jax.numpy.tanh(0.5 * z) + 0.5  # noqa: E731
        sigmoid = jax.lax.logistic if variant["sigmoid"] == "logistic" else tanh
        epoch = jax.jit(
            self._epoch(variant, sigmoid, jax.grad, jax.lax.scan, lambda: None),
            donate_argnums=0,
            compiler_options={"xla_cpu_prefer_vector_width": variant["vector bits"]},
        )

        def run(parameters, batches):
            for x, targets in batches:
                parameters = epoch(parameters, x, targets)
            return jax.block_until_ready(parameters)

        return run


class TorchCompile(_Scanned):
    """torch.compile of the epoch, torch's own scan over the batches, and C++ instead of Python between kernels."""

    package = "torch"
    options = {  # noqa: RUF012
        "orientation": tuple(ORIENTATIONS),
        "gradient": ("torch.func.grad", "written out"),
        "unroll": (1, 4),
    }

    def _load(self):
        import torch
        from torch._dynamo import config
        from torch._inductor import config as inductor

        self._torch, self._array = torch, torch.tensor
        torch.set_num_threads(threads())
        config.recompile_limit = config.accumulated_recompile_limit = 1000  # each shape is compiled
        inductor.compile_threads = 1

    def _program(self, variant):
        from torch._higher_order_ops.scan import scan

        torch = self._torch
        epoch = torch.compile(
            self._epoch(variant, torch.sigmoid, torch.func.grad, scan, lambda: torch.zeros(())),
            dynamic=False,
            fullgraph=True,
            options={"cpp_wrapper": True},
        )

        def run(parameters, batches):
            with torch.no_grad():
                for x, targets in batches:
                    parameters = epoch(parameters, x, targets)
            return parameters

        return run


class Torch(Peer):
    """Eager PyTorch."""

    package = "torch"
    options = {"step": ("SGD foreach", "SGD fused", "autograd.grad", "written out")}  # noqa: RUF012
    max_batches = 2000

    def _load(self):
        import torch

        self._torch, self._array = torch, torch.tensor
        torch.set_num_threads(threads())

    def _batches(self, variant, X, targets):
        parts = super()._batches(variant, X, targets)
        return [pair for part in parts for pair in zip(*(a.flatten(0, 1).unbind() for a in part), strict=True)]

    def _program(self, variant):
        torch, step = self._torch, variant["step"]
        products = ORIENTATIONS["rows"]._replace(forward=torch.nn.functional.linear)

        def written(parameters, batches):
            flat = [array for pair in parameters for array in pair]
            with torch.inference_mode():
                for x, target in batches:
                    steps = written_out(parameters, x, target, products, torch.sigmoid)
                    torch._foreach_add_(flat, [array for pair in steps for array in pair])
            return parameters

        def differentiated(parameters, batches):
            flat = [array.requires_grad_() for pair in parameters for array in pair]
            kind = {"SGD foreach": {"foreach": True}, "SGD fused": {"fused": True}}.get(step)
            optimizer = torch.optim.SGD(flat, LEARNING_RATE, **kind) if kind else None
            for x, target in batches:
                a = x
                for W, b in parameters:
                    a = torch.sigmoid(torch.nn.functional.linear(a, W, b))
                d = (a.detach() - target) / len(x)  # the cost's derivative; the cost itself is not needed
                if optimizer:
                    optimizer.zero_grad()
                    a.backward(d)
                    optimizer.step()
                else:
                    gradients = torch.autograd.grad(a, flat, d)
                    with torch.no_grad():
                        torch._foreach_add_(flat, gradients, alpha=-LEARNING_RATE)
            return [(W.detach(), b.detach()) for W, b in parameters]

        return written if step == "written out" else differentiated


def sklearn_regressor(case):
    """An MLPRegressor with the case's first parameters."""
    from sklearn.neural_network import MLPRegressor

    model = MLPRegressor(
        hidden_layer_sizes=case.sizes[1:-1],
        activation="logistic",
        solver="sgd",
        momentum=0,
        nesterovs_momentum=False,
        alpha=0,
        batch_size=case.batch_size,
        learning_rate_init=Sklearn.learning_rate,
        shuffle=False,
    )
    model.partial_fit(*(np.zeros((case.batch_size, n), np.float32) for n in (case.sizes[0], case.sizes[-1])))
    for W, b, (weights, biases) in zip(model.coefs_, model.intercepts_, cases.initial(case), strict=True):
        W[...], b[...] = weights.T, biases
    return model


class Sklearn(Peer):
    """scikit-learn's MLPRegressor. Its last layer has no sigmoid: one pass less, and other weights."""

    package = "sklearn"
    alike = False
    max_batches = 2000
    learning_rate = 1e-3  # at the others' rate a wide network without the sigmoid diverges

    def _load(self):
        pass

    def _initial(self, variant):
        return sklearn_regressor(self.case)

    def _batches(self, variant, X, targets):
        return X, targets

    def _program(self, variant):
        return lambda model, batches: model.partial_fit(*batches)  # an epoch

    @property
    def model(self):
        """Weights (fan_out, fan_in) and biases."""
        return SimpleNamespace(weights=[W.T for W in self._parameters.coefs_], biases=self._parameters.intercepts_)


PEERS = {"jax": Jax, "torch-compile": TorchCompile, "torch": Torch, "sklearn": Sklearn}
