"""`python -m bench --training`: what each activation, loss, optimizer and rule costs, and a whole recipe beside peers.

Everything runs in this process on one CPU. A round is a `fit` of about 0.1 s of the plain network (sigmoid, quadratic
loss, SGD), then one of the variant; a figure is the median of the rounds' ratios of time for a sample.
"""

import itertools
import os
import statistics
import time

import numpy as np

import fastnn
from fastnn import Dense, optimizers
from fastnn.kernels import loss_functions
from fastnn.layers import HIDDEN

from .cases import Case, data
from .measuring import machine, stay_on_one_cpu

NETWORKS = Case((784, 100, 10), 32, 20_000), Case((8, 64, 64, 4), 64, 20_000)
RECIPE = Case((784, 128, 64, 10), 128, 20_480)
SECONDS = 0.1
TARGETS = {"activation": 1.5, "loss": 1.5, "optimizer": 1.3, "rule": None}
OUTPUTS = {"poisson": "exp", "hinge": "identity"}  # activations of the output for losses that do not go with a sigmoid
RATE = 1e-4  # so that no variant diverges
CLIPPED = {"clip_value": fastnn.SGD(RATE, clip_value=1.0), "clip_norm": fastnn.SGD(RATE, clip_norm=1.0)}
RULES = {"l2": 1e-5, "l1": 1e-6, "dropout": 0.2, "input_noise": 0.1, "max_norm": 3.0, "min_derivative": 0.0396}


def variants():
    """{(kind, name): (arguments of Model, arguments of fit)}."""
    found = {}
    for name in HIDDEN:
        if name != "step":
            found["activation", name] = {"activation": name}, {}
    for name in loss_functions.NAMES:
        for output in (OUTPUTS.get(name, "sigmoid"), *(["softmax"] if "cross_entropy" in name else [])):
            shown = name if output == "sigmoid" else f"{name}, {output}"
            found["loss", shown] = {"loss": name, "output": output}, {}
    for name in optimizers.BY_NAME:
        if name != "rprop":  # rprop takes the whole set in a step
            found["optimizer", name] = {}, {"optimizer": optimizers.BY_NAME[name](RATE)}
    for name, optimizer in CLIPPED.items():
        found["rule", name] = {}, {"optimizer": optimizer}
    for name, value in RULES.items():
        found["rule", name] = {}, {name: value}
    found["rule", "label_smoothing"] = {"loss": "cross_entropy"}, {"label_smoothing": 0.1}
    return found


class Side:
    """A network in training."""

    def __init__(self, case, of_model, of_fit):
        self.case = case
        X, labels = data(case)
        self.model = fastnn.Model(case.sizes, rng=0, **of_model)
        y = labels.astype(np.int64)
        if self.model.layers[-1].activation in ("exp", "identity"):
            y = np.eye(case.sizes[-1], dtype=np.float32)[labels]
        self.samples = X, y
        self.options = {"batch_size": case.batch_size, "optimizer": fastnn.SGD(RATE), "threads": 1} | of_fit
        self.epochs = 1
        self.seconds()
        self.epochs = max(1, round(SECONDS / self.seconds()))

    def seconds(self):
        """The seconds of an epoch."""
        start = time.perf_counter()
        self.model.fit(*self.samples, epochs=self.epochs, **self.options)
        return (time.perf_counter() - start) / self.epochs


def ratios(case, of_model, of_fit, plain, rounds):
    """(the median of the rounds' ratios, the median nanoseconds of a sample)."""
    side, found, times = Side(case, of_model, of_fit), [], []
    for _ in range(rounds):
        before = plain.seconds()
        times.append(side.seconds())
        found.append(times[-1] / before)
    return statistics.median(found), statistics.median(times) / case.n_samples * 1e9


# ---- the recipe: relu, softmax, cross-entropy, Adam ----


def fastnn_side(case):
    """A function that trains an epoch."""
    X, labels = data(case)
    layers = [case.sizes[0], *(Dense(n, "relu") for n in case.sizes[1:-1]), Dense(case.sizes[-1], "softmax")]
    model = fastnn.Model(layers, loss="cross_entropy", rng=0)
    y, options = labels.astype(np.int64), {"batch_size": case.batch_size, "optimizer": "adam", "threads": 1}
    return lambda: model.fit(X, y, epochs=1, **options)


def torch_side(case):
    import torch

    torch.set_num_threads(1)
    X, labels = (torch.from_numpy(a) for a in data(case))
    labels, step = labels.long(), torch_step(case.sizes)

    def epoch():
        for rows in torch.randperm(len(X)).split(case.batch_size):
            step(X[rows], labels[rows])

    return epoch


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


def jax_side(case):
    state, run, *_ = jax_recipe(*data(case), case.sizes)
    rng, rates = np.random.default_rng(0), np.full(case.n_samples // case.batch_size, 0.001)

    def epoch():
        nonlocal state
        state = run(state, rng.permutation(case.n_samples).reshape(-1, case.batch_size), rates)

    return epoch


PEERS = {"PyTorch": torch_side, "JAX": jax_side}


def recipe(case, rounds):
    """{side: the median of the rounds' ratios to fastnn}, and fastnn's samples a second."""
    sides = {"fastnn": fastnn_side(case)}
    for name, make in PEERS.items():
        try:
            sides[name] = make(case)
        except ImportError:
            print(f"{name} is not installed: it is in the extra bench")
    times = {name: [] for name in sides}
    for _ in range(rounds + 1):
        for name, epoch in sides.items():
            start = time.perf_counter()
            epoch()
            times[name].append(time.perf_counter() - start)
    ours = times["fastnn"][1:]
    found = {
        name: statistics.median(b / a for a, b in zip(ours, each[1:], strict=True)) for name, each in times.items()
    }
    return found, case.n_samples / statistics.median(ours)


def run(rounds, quick=False):
    """Print both tables."""
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
    stay_on_one_cpu()
    print("\n".join(f"{key}: {value}" for key, value in machine().items()))
    networks = [case.cut(1000) for case in NETWORKS] if quick else NETWORKS
    plain = [Side(case, {}, {}) for case in networks]
    print("\nTime beside sigmoid, quadratic, SGD: the ratio, and nanoseconds a sample\n")
    print(f"{'':44}" + "".join(f"{case.name:>22}" for case in networks) + "   at most")
    for (kind, name), arguments in variants().items():
        found = [ratios(case, *arguments, side, rounds) for case, side in zip(networks, plain, strict=True)]
        shown = "".join(f"{ratio:13.2f} {ns:8,.0f}" for ratio, ns in found)
        print(f"{kind:11}{name:33}{shown}   {TARGETS[kind] or '-'}", flush=True)
    found, rate = recipe(RECIPE.cut(10 * RECIPE.batch_size) if quick else RECIPE, rounds)
    print(f"\n{RECIPE.name}, relu, softmax, cross-entropy, Adam: fastnn {rate:,.0f} samples/s")
    for name, ratio in found.items():
        if name != "fastnn":
            print(f"{name} takes {ratio:.2f} times as long")
