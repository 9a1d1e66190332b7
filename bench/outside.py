"""Gradients from outside and derivatives by the inputs, in microseconds on one thread, in turn with PyTorch.

The first table is a minibatch of PPO: 64 rows, an actor of 8-64-64-4 and a critic of 8-64-64-1, tanh, Adam.

- "forward, step": both, of both networks, for gradients that are there; in the next line with the norm clipped at 0.5.
- "predict, partial_fit": the same networks on targets, without a gradient from outside.
- "with its NumPy": forward, the loss of PPO and its gradient in NumPy, step. "PyTorch" does the same by autograd.

The second table has derivatives of 8-64-64-4 for 64 rows. Before a side is timed its result is compared with PyTorch's;
"apart" is the largest difference in float32, and in float64.

The third table has steps of many networks by Adam, each on a gradient of its own: `Population.step` on all threads that
may be used and on one, and a loop over `Model.step`, whose ratio to the first is given. "apart" is the largest
difference after the first step.
"""

import functools
from importlib.util import find_spec

import numpy as np

import fastnn

from .calls import compare
from .machine import cpus, print_host
from .markdown import Table, printed

ROUNDS, OPTIONS = 9, {}
ROWS, SIZES, CRITIC = 64, (8, 64, 64, 4), (8, 64, 64, 1)
CLIP, TURN_SECONDS, QUICK_TURN_SECONDS = 0.2, 0.05, 1e-3
TARGET = 60  # microseconds of forward and step
APART = {"float32": 1e-5, "float64": 1e-9}
THREADS = (("together", None), ("one thread", 1))
FIGURES = printed("ppo", "derivatives", "population-steps")
MANY = ((1000, (8, 16, 1), 64), (10, (23, 256, 256, 1), 256))  # networks, their sizes, rows


def model(sizes, dtype="float32"):
    """A network of tanh neurons with linear outputs."""
    return fastnn.Model(sizes, activation="tanh", output="identity", dtype=dtype, rng=0)


def logs_of(logits):
    """The logarithms of the probabilities of the actions."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


class Minibatch:
    """The data of a minibatch, and what is done with it."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.X = rng.standard_normal((ROWS, SIZES[0]), dtype=np.float32)
        self.actions = rng.integers(0, SIZES[-1], ROWS)
        self.taken = np.eye(SIZES[-1], dtype=np.float32)[self.actions]
        self.advantages, self.returns = rng.standard_normal((2, ROWS), dtype=np.float32)
        self.old = np.full(ROWS, -np.log(SIZES[-1]), np.float32)

    def gradients(self, logits, values):
        """The derivatives of PPO's loss by the outputs of both networks."""
        logs = logs_of(logits)
        ratio = np.exp((logs * self.taken).sum(axis=1) - self.old)
        inside = np.where(self.advantages > 0, ratio < 1 + CLIP, ratio > 1 - CLIP)
        weights = -(inside * ratio * self.advantages / ROWS)[:, None]
        return weights * (self.taken - np.exp(logs)), (values - self.returns[:, None]) / ROWS

    def fastnn_sides(self):
        """{name: run(calls)}."""
        found, (d_a, d_v) = {}, self.gradients(np.zeros((ROWS, SIZES[-1]), np.float32), np.zeros((ROWS, 1), np.float32))
        for name, clip in (("forward, step", None), ("the same, clipped", 0.5)):
            found[name] = self.steps(lambda *_: (d_a, d_v), fastnn.Adam(1e-5, clip_norm=clip))
        found["predict, partial_fit"] = self.fits(fastnn.Adam(1e-5))
        found["with its NumPy"] = self.steps(self.gradients, fastnn.Adam(1e-5, clip_norm=0.5))
        return found

    def steps(self, gradients, adam):
        """run(calls) of forward, a function that gives gradients of the outputs, and step."""
        actor, critic = model(SIZES), model(CRITIC)

        def run(calls):
            for _ in range(calls):
                d_a, d_v = gradients(actor.forward(self.X), critic.forward(self.X))
                actor.step(self.X, d_a, optimizer=adam)
                critic.step(self.X, d_v, optimizer=adam)

        return run

    def fits(self, adam):
        """run(calls) of predict and partial_fit."""
        actor, critic, returns = model(SIZES), model(CRITIC), self.returns[:, None].copy()

        def run(calls):
            for _ in range(calls):
                actor.predict(self.X)
                critic.predict(self.X)
                actor.partial_fit(self.X, self.taken, optimizer=adam)
                critic.partial_fit(self.X, returns, optimizer=adam)

        return run

    def torch_side(self):
        """run(calls) of the same minibatch in PyTorch."""
        import torch

        actor, critic = (torch_network(model(sizes)) for sizes in (SIZES, CRITIC))
        adams = [torch.optim.Adam(network.parameters(), 1e-5) for network in (actor, critic)]
        X, actions, advantages, returns, old = map(
            torch.from_numpy, (self.X, self.actions, self.advantages, self.returns, self.old)
        )

        def run(calls):
            for _ in range(calls):
                logs = torch.log_softmax(actor(X), dim=1)[torch.arange(ROWS), actions]
                ratio = torch.exp(logs - old)
                clipped = torch.clamp(ratio, 1 - CLIP, 1 + CLIP)
                loss = -torch.min(ratio * advantages, clipped * advantages).mean()
                loss = loss + ((critic(X)[:, 0] - returns) ** 2).mean() / 2
                for adam in adams:
                    adam.zero_grad()
                loss.backward()
                for network, adam in zip((actor, critic), adams, strict=True):
                    torch.nn.utils.clip_grad_norm_(network.parameters(), 0.5)
                    adam.step()

        return run


def torch_network(source):
    """A network of PyTorch's with the layers and parameters of a model."""
    import torch

    layers = []
    for w, b in zip(source.weights, source.biases, strict=True):
        layer = torch.nn.Linear(w.shape[1], w.shape[0], dtype=getattr(torch, source.dtype))
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(np.array(w)))
            layer.bias.copy_(torch.tensor(np.array(b)))
        layers += [layer, torch.nn.Tanh()]
    return torch.nn.Sequential(*layers[:-1])


def derivatives(dtype="float32"):
    """{what: (a call here, the same in PyTorch)}; the second is missing where PyTorch is."""
    rng = np.random.default_rng(0)
    X, V, d_a = (rng.standard_normal((ROWS, width)).astype(dtype) for width in (SIZES[0], SIZES[0], SIZES[-1]))
    network = model(SIZES, dtype)
    network.forward(X)
    here = {
        "dC/dX of a dC/da": lambda: network.backward(X, d_a, inputs=True)[1],
        "jacobian": lambda: network.jacobian(X),
        "jvp": lambda: network.jvp(X, V),
        "hessian": lambda: network.hessian(X),
        "its diagonal": lambda: network.hessian(X, diagonal=True),
    }
    if find_spec("torch") is None:
        return {name: (call,) for name, call in here.items()}
    import torch
    from torch.func import hessian, jacrev, jvp, vmap

    other = torch_network(network)
    x, v, d = map(torch.from_numpy, (X, V, d_a))
    of_rows = vmap(hessian(lambda row: other(row)[0]))

    def by_inputs():
        inputs = x.clone().requires_grad_()
        return torch.autograd.grad(other(inputs), inputs, d)[0]

    there = {
        "dC/dX of a dC/da": by_inputs,
        "jacobian": lambda: vmap(jacrev(other))(x),
        "jvp": lambda: jvp(other, (x,), (v,))[1],
        "hessian": lambda: of_rows(x),
        "its diagonal": lambda: torch.diagonal(of_rows(x), dim1=1, dim2=2),
    }
    return {name: (call, there[name]) for name, call in here.items()}


def apart(dtype):
    """{what: the largest difference from PyTorch}; raises where it is larger than it may be."""
    found = {}
    for name, (call, *there) in derivatives(dtype).items():
        for other in there:
            found[name] = float(np.abs(call() - other().detach().numpy()).max())
            assert found[name] < APART[dtype], (name, dtype, found[name])
    return found


def many_steps(n, sizes, rows):
    """({side: run(calls)} of steps of n networks, the largest difference); raises where it is larger than may be."""
    adam = fastnn.Adam(1e-5, epsilon=1e-3)  # else a gradient that rounding makes positive or negative moves far
    rng = np.random.default_rng(0)
    population = fastnn.Population(sizes, n, activation="tanh", output="identity", rng=0)
    models = list(population)
    X = rng.standard_normal((rows, sizes[0]), dtype=np.float32)
    d_a = rng.standard_normal((n, rows, sizes[-1]), dtype=np.float32)

    def loop():
        for network, of_network in zip(models, d_a, strict=True):
            network.step(X, of_network, optimizer=adam)

    loop()
    assert population.step(X, d_a, optimizer=adam).all()
    far = float(np.abs(population.vectors - [network.vector for network in models]).max())
    assert far < APART["float32"], (n, sizes, far)
    on_threads = {name: functools.partial(population.step, X, d_a, optimizer=adam, threads=t) for name, t in THREADS}
    return {name: _repeated(call) for name, call in (on_threads | {"a loop": loop}).items()}, far


def _repeated(function):
    def run(calls):
        for _ in range(calls):
            function()

    return run


def run(options):
    """Print the tables."""
    total = QUICK_TURN_SECONDS if options.quick else TURN_SECONDS
    packages = [name for name in ("torch",) if find_spec(name)]
    print_host(packages)
    if packages:
        import torch

        torch.set_num_threads(1)
    with cpus(1):
        batch = Minibatch()
        sides = batch.fastnn_sides() | ({"PyTorch": batch.torch_side()} if packages else {})
        table = Table("ppo", "a minibatch of PPO", "us", "ratio", "target", title="Gradients from outside")
        for i, (name, (value, ratio)) in enumerate(compare(sides, options.rounds, total).items()):
            table.add(name, f"{value:,.1f}", f"{ratio:.2f}", TARGET if i == 0 else "")
        far = {dtype: apart(dtype) for dtype in APART}
        columns = "us", "PyTorch", "ratio", "apart, float32", "float64"
        table = Table("derivatives", "what", *columns, title="Derivatives, 64 rows of 8-64-64-4")
        for name, calls in derivatives().items():
            timed = {side: _repeated(call) for side, call in zip(("here", "PyTorch"), calls, strict=False)}
            values = compare(timed, options.rounds, total).values()
            cells = [f"{value:,.1f}" for value, _ in values] + [f"{ratio:.1f}" for _, ratio in values][1:]
            cells += [f"{each[name]:.0e}" for each in far.values() if name in each]
            table.add(name, *cells, *[""] * (5 - len(cells)))  # alone where PyTorch is not installed
    columns = "`Population.step`", "on one thread", "a loop over `Model.step`", "ratio", "apart"
    table = Table("population-steps", "networks, rows", *columns, title="Steps of many networks, microseconds")
    for n, sizes, rows in MANY:
        sides, far = many_steps(n, sizes, rows)
        (here, _), (single, _), (loop, ratio) = compare(sides, options.rounds, total).values()
        name = f"{n:,} of {'-'.join(map(str, sizes))}, {rows}"
        table.add(name, *(f"{each:,.0f}" for each in (here, single, loop)), f"{ratio:.2f}", f"{far:.0e}")
