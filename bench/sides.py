"""The sides of the comparison in training, behind one interface, and the check that all learn the same.

Each package does the same SGD as fast as it was found to go. At the end stand a step of Adam in PyTorch and JAX.

A peer does not shuffle: its batches are made once, before anything is timed. What can be done in several ways
(`options`: the orientation, who differentiates, how many batches a loop's body takes) is timed when a peer is made, one
option after another, and the fastest is kept. Packages are imported when a peer is made.
"""

import itertools
import os
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

from . import cases
from .cases import LEARNING_RATE
from .timing import least_seconds

TRIAL_BATCHES = 200
LABELS = {
    "fastnn": "fastnn",
    "onnxruntime": "ONNX Runtime",
    "jax": "JAX",
    "torch-compile": "torch, compiled",
    "torch": "torch",
    "sklearn": "scikit-learn",
    "numpy": "NumPy",
}
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

    package = "numpy"

    def __init__(self, case):
        self.case = case
        self.X, self.labels = cases.data(case)
        self.model = self._network()(case.sizes, cases.initial(case))
        self._rng = np.random.default_rng(0)

    def _network(self):
        from .baseline_numpy import NumpyMLP

        return NumpyMLP

    def train(self, epochs, order=None):
        """Whole epochs in random orders, or in the rows of `order` (epochs, n)."""
        if order is None:
            order = (self._rng.permutation(self.case.n_samples) for _ in range(epochs))
        self.model.fit(self.X, self.labels, order, self.case.batch_size, LEARNING_RATE)


class Numba(Numpy):
    """The Numba baseline."""

    package = "numba"

    def _network(self):
        from .baseline_numba import NumbaMLP

        return NumbaMLP


# ---- other packages ----


def thread_count():
    """What the parent process set; one elsewhere."""
    return int(os.environ.get("OMP_NUM_THREADS", "1"))


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
        torch.set_num_threads(thread_count())
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
        torch.set_num_threads(thread_count())

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
SIDES = {"fastnn": Fastnn, "numpy": Numpy, "numba": Numba, **PEERS}


# ---- the check ----


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


# ---- a step of Adam: relu, softmax, cross-entropy ----


def torch_step(sizes):
    """step(X, labels) of the recipe in PyTorch."""
    import torch
    from torch import nn

    layers = [part for m, n in itertools.pairwise(sizes) for part in (nn.Linear(m, n), nn.ReLU())][:-1]
    network, loss = nn.Sequential(*layers), nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(network.parameters(), fused=True)

    def step(X, labels):
        optimizer.zero_grad(set_to_none=True)
        loss(network(X), labels).backward()
        optimizer.step()

    return step


def torch_tables(model):
    """(step(numbers, codes, targets) of Adam, predict(numbers, codes)) in PyTorch: a model of tables and relu layers.

    The codes are in its last columns. It begins with the parameters of the model.
    """
    import torch
    from torch import nn

    tables = nn.ModuleList([nn.Embedding(*table.shape) for table in model.tensors[0].values()])
    layers = [part for w in model.weights[1:] for part in (nn.Linear(*w.shape[::-1]), nn.ReLU())][:-1]
    network = nn.ModuleList([tables, nn.Sequential(*layers)])
    arrays = [array for tensors in model.tensors for array in tensors.values()]
    with torch.no_grad():
        for parameter, array in zip(network.parameters(), arrays, strict=True):
            parameter.copy_(torch.tensor(np.array(array)))
    optimizer = torch.optim.Adam(network.parameters(), fused=True)

    def predict(numbers, codes):
        return network[1](torch.cat([numbers, *(table(codes[:, i]) for i, table in enumerate(tables))], dim=1))

    def step(numbers, codes, targets):
        optimizer.zero_grad(set_to_none=True)
        (((predict(numbers, codes) - targets) ** 2).sum() / (2 * len(targets))).backward()
        optimizer.step()

    return step, predict


def jax_recipe(X, labels, sizes, scale=1.0, seed=0):
    """(state, run, predict, step) of the recipe in JAX. run(state, order (n, batch), rates (n,)) gives the state after
    it, step(state, x, y, rate) that after a single batch.

    The first item of a state are the parameters, [(W (fan_in, fan_out), b), ..], drawn as by "he_normal".
    """
    import jax
    import jax.numpy as jnp

    X, labels = jnp.asarray(X), jnp.asarray(labels)
    rng = np.random.default_rng(seed)
    parameters = [
        (jnp.asarray(rng.standard_normal((m, n), np.float32) * np.float32(np.sqrt(2 / m))), jnp.zeros(n, jnp.float32))
        for m, n in itertools.pairwise(sizes)
    ]
    means = (jax.tree.map(jnp.zeros_like, parameters) for _ in range(2))  # JAX takes the memory of each

    def logits(parameters, x):
        for w, b in parameters[:-1]:
            x = jax.nn.relu(x @ w + b)
        w, b = parameters[-1]
        return x @ w + b

    def cost(parameters, x, y):
        return -jnp.take_along_axis(jax.nn.log_softmax(logits(parameters, x)), y[:, None], 1).mean()

    def step(state, x, y, rate):
        parameters, m, v, t = state
        g = jax.grad(cost)(parameters, x, y)
        t = t + 1
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        rate = rate * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        parameters = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) + 1e-8), parameters, m, v)
        return parameters, m, v, t

    def gathered(state, batch):
        rows, rate = batch
        return step(state, X[rows].astype(jnp.float32) * scale, labels[rows], rate), None

    @jax.jit
    def scan(state, order, rates):
        return jax.lax.scan(gathered, state, (order, rates))[0]

    def run(state, order, rates):
        return jax.block_until_ready(scan(state, jnp.asarray(order, jnp.int32), jnp.asarray(rates, jnp.float32)))

    def predict(state, x):
        return np.asarray(logits(state[0], jnp.asarray(x, jnp.float32) * scale))

    return (parameters, *means, jnp.float32(0)), run, predict, jax.jit(step, donate_argnums=0)
