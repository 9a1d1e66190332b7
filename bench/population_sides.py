"""Sides that train many networks of one architecture, each network with a rate, a start and an order of its own.

`python -m bench.population_sides SIDE FOLDER THREADS [CHECKOUT]` is a child process of `populations`, whose folder
holds the task. With a checkout, `fastnn` is imported from there. It answers each line of standard input with a line of
JSON:

    check STARTS FILE   save the losses after a turn from seeds, from arrays, or from arrays with one order for all; {}
    run CLOCK           {"rate": networks a second} of the clock "wall" or "cpu"
    describe            {"variant": ..}, which of its ways was the fastest

Peers start from the arrays of `starts` and go through the rows of `orders`. They leave out the last batch, which is a
smaller one, check no arguments, and record the loss of the last epoch alone. fastnn draws starts and orders itself,
but for the check from arrays. Libraries are imported when a side is made.
"""

import json
import os
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .cases import Case
from .sides import fastest
from .timing import least_seconds, seconds

ARRAYS, ONE_ORDER, SEEDS = STARTS = "arrays", "one-order", "seeds"
CHECKED = 16  # networks of fastnn that are compared, from seeds and from arrays; of peers all are there
HIGH_RATE_BATCH = 32  # SGD takes rates that are 16 times smaller where batches are smaller than this
BETAS, EPSILON = (0.9, 0.999), 1e-8
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass(frozen=True)
class Many(Case):
    """A kind of network that many are trained of: regression by Adam (tanh), or classes by SGD (sigmoid, softmax)."""

    epochs: int

    @property
    def regression(self):
        return self.sizes[-1] == 1

    @property
    def name(self):
        """The name of the case, such as "8-16-1 b32"."""
        return super().name

    @property
    def batches(self):
        """How many full batches an epoch has."""
        return self.n_samples // self.batch_size

    def little(self):
        """A case of this network whose epoch is two batches and a smaller one."""
        return replace(self, epochs=1, n_samples=2 * self.batch_size + self.batch_size // 2)


class Task(NamedTuple):
    """Samples X (n, n_in), targets (n, n_out), and y: the targets, or class indices (n,)."""

    case: Many
    members: int
    X: np.ndarray
    y: np.ndarray

    @property
    def targets(self):
        return self.y if self.case.regression else np.eye(self.case.sizes[-1], dtype=np.float32)[self.y]

    @property
    def rates(self):
        """The learning rate of each network, float32 (members,)."""
        rng = np.random.default_rng(1)
        if self.case.regression:
            return (10 ** rng.uniform(-3, -1.5, self.members)).astype(np.float32)
        rates = 10 ** rng.uniform(-1, 0.3, self.members)
        return (rates if self.case.batch_size >= HIGH_RATE_BATCH else rates / 16).astype(np.float32)

    def starts(self):
        """[(weights, biases), ..]: float32 (members, fan_in, fan_out) of variance 1/fan_in, and zeros."""
        rng, n = np.random.default_rng(2), self.members
        return [
            (
                (rng.standard_normal((n, fan_in, fan_out)) / np.sqrt(fan_in)).astype(np.float32),
                np.zeros((n, fan_out), np.float32),
            )
            for fan_in, fan_out in pairwise(self.case.sizes)
        ]

    def orders(self, members=None):
        """The rows of each epoch's full batches: int32 (members, epochs, rows)."""
        rng, case = np.random.default_rng(3), self.case
        rows = np.arange(case.batches * case.batch_size, dtype=np.int32)
        return rng.permuted(np.tile(rows, (self.members if members is None else members, case.epochs, 1)), axis=2)

    def write(self, folder):
        case = self.case
        np.savez(folder / "samples.npz", X=self.X, y=self.y)
        described = [case.sizes, case.batch_size, case.n_samples, case.epochs, self.members]
        (folder / "task.json").write_text(json.dumps(described))

    @classmethod
    def read(cls, folder):
        sizes, *numbers, members = json.loads((folder / "task.json").read_text())
        samples = np.load(folder / "samples.npz")
        return cls(Many(tuple(sizes), *numbers), members, samples["X"], samples["y"])


# ---- fastnn ----


class Loop:
    """A loop of `Model.fit`, on Python's threads if there are several."""

    package, most = "fastnn", None
    checked = STARTS

    def __init__(self, task, threads):
        import fastnn

        self._fastnn, self.task, self._threads = fastnn, task, threads
        case, regression = task.case, task.case.regression
        hidden, output, loss = (
            ("tanh", "identity", "quadratic") if regression else ("sigmoid", "softmax", "cross_entropy")
        )
        self._network = {"activation": hidden, "output": output, "loss": loss}
        self._fit = {"epochs": case.epochs, "batch_size": case.batch_size, "threads": 1}
        self._optimizer = fastnn.Adam if regression else fastnn.SGD
        self._rates = task.rates.tolist()
        self._models = {}

    def run(self):
        """Train all networks."""
        if self._threads == 1:
            self._some(range(self.task.members))
        else:
            parts = [range(i, self.task.members, self._threads) for i in range(self._threads)]
            with ThreadPoolExecutor(self._threads) as pool:
                list(pool.map(self._some, parts))

    def _some(self, members):
        for i in members:
            model = self._fastnn.Model(self.task.case.sizes, rng=i, **self._network)
            model.fit(self.task.X, self.task.y, optimizer=self._optimizer(self._rates[i]), **self._fit)
            self._models[i] = model

    def losses(self, starts):
        """The losses of the first networks on all samples, after a turn from such starts."""
        if starts == SEEDS:
            self.run()
            models = [self._models[i] for i in range(min(CHECKED, self.task.members))]
        else:
            models = self._from_arrays(starts == ONE_ORDER)
        return np.array([model.loss(self.task.X, self.task.y) for model in models])

    def _from_arrays(self, one_order):
        task, models = self.task, []
        n = min(CHECKED, task.members)
        starts, orders = task.starts(), np.repeat(task.orders(1), n, axis=0) if one_order else task.orders()[:n]
        X, y = (array[: orders.shape[2]] for array in (task.X, task.y))
        for i, order in enumerate(orders):
            init = [(W[i].T, b[i]) for W, b in starts]
            models.append(self._fastnn.Model(task.case.sizes, init=init, **self._network))
            optimizer = self._optimizer(self._rates[i])
            models[i].fit(X, y, optimizer=optimizer, shuffle=order, **self._fit)
        return models


class Population(Loop):
    """`fastnn.Population`."""

    checked = (SEEDS,)

    def __init__(self, task, threads):
        super().__init__(task, threads)
        self._fit["threads"] = threads

    def run(self):
        task = self.task
        population = self._fastnn.Population(
            task.case.sizes, task.members, rng=list(range(task.members)), **self._network
        )
        population.fit(task.X, task.y, optimizer=self._optimizer(task.rates), **self._fit)
        self._models = population


class Engine(Population):
    """The compiled calls that train in `Population.fit`, alone; `spent` is the CPU time of a turn's, on one thread."""

    def __init__(self, task, threads):
        super().__init__(task, threads)
        from fastnn.kernels.running import entry

        for name in ("train_members", "train_groups"):
            setattr(entry, name, self._counted(getattr(entry, name)))

    def _counted(self, function):
        """A compiled function that adds its time to `spent`."""

        def counted(*arguments):
            start = time.process_time()
            result = function(*arguments)
            self.spent += time.process_time() - start
            return result

        return counted

    def run(self):
        self.spent = 0.0
        super().run()


# ---- other packages ----


def cost(task, log_softmax, z, targets, axis):
    """The loss of each sample's outputs z, which lie on this axis."""
    if task.case.regression:
        return 0.5 * ((z - targets) ** 2).sum(axis)
    return -(targets * log_softmax(z, axis)).sum(axis)


def step(task, each, state, g, t, rates):
    """(parameters, m, v) after step t of the case's optimizer; each(function, ..) goes over the arrays of lists."""
    parameters, m, v = state
    if not task.case.regression:
        return each(lambda p, g: p - rates(p) * g, parameters, g), m, v
    one, two = BETAS
    m = each(lambda m, g: one * m + (1 - one) * g, m, g)
    v = each(lambda v, g: two * v + (1 - two) * g * g, v, g)
    of_m, of_v = 1 / (1 - one**t), 1 / (1 - two**t)
    after = each(lambda p, m, v: p - rates(p) * (m * of_m) / ((v * of_v) ** 0.5 + EPSILON), parameters, m, v)
    return after, m, v


def _log_softmax(z, axis):
    return z - np.log(np.exp(z).sum(axis, keepdims=True))


class Peer:
    """A package that trains many networks at once. `_program(variant)` gives run(), which gives parameters.

    They are [(W (members, fan_in, fan_out), b (members, fan_out)), ..].
    """

    most = None  # the most networks that it is timed with
    checked = (ARRAYS,)
    shared = False  # whether all networks have the order of the first one
    options = {}  # noqa: RUF012

    def __init__(self, task, threads, variant=None):
        self.task, self._threads = task, threads
        self._load()
        orders = task.orders(1 if self.shared else None)
        self._orders = orders.reshape(len(orders), -1, task.case.batch_size)  # (members or 1, steps, rows)
        trial = lambda variant: least_seconds(self._program(variant), 1, 0)  # noqa: E731
        self.variant = fastest(self.options, trial) if variant is None else variant
        self._run, self._parameters = self._program(self.variant), None

    def run(self):
        """Train all networks."""
        self._parameters = self._run()

    def losses(self, starts):
        """The losses on all samples."""
        self.run()
        case, found = self.task.case, []
        for i in range(self.task.members):
            a = self.task.X
            for W, b in self._parameters[:-1]:
                z = a @ np.asarray(W[i]) + np.asarray(b[i])
                a = np.tanh(z) if case.regression else 1 / (1 + np.exp(-z))
            W, b = self._parameters[-1]
            z = (a @ np.asarray(W[i]) + np.asarray(b[i])).astype(np.float64)
            found.append(cost(self.task, _log_softmax, z, self.task.targets, -1).mean())
        return np.array(found)


class Jax(Peer):
    """JAX: vmap of a scan over the batches, compiled; all networks at once, or some of them after others."""

    package = "jax"
    options = {"at once": (0, 20), "vector bits": (256, 512)}  # noqa: RUF012

    def _load(self):
        flags = f"--xla_force_host_platform_device_count={self._threads} --xla_cpu_multi_thread_eigen=false"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags} intra_op_parallelism_threads=1".strip()
        import jax

        jax.config.update("jax_platforms", "cpu")
        self._jax, jnp = jax, jax.numpy
        self._X, self._targets = jnp.asarray(self.task.X), jnp.asarray(self.task.targets)
        self._activation = jnp.tanh if self.task.case.regression else jax.nn.sigmoid

    def _trained(self, cost_of, parameters, rates, order):
        """(parameters, the mean loss of the last epoch); order (steps, rows), `rates` gives those of an array."""
        jax, jnp = self._jax, self._jax.numpy
        zeros = jax.tree.map(jnp.zeros_like, parameters) if self.task.case.regression else ()

        def one(state, rows_and_t):
            rows, t = rows_and_t
            (_, losses), g = jax.value_and_grad(cost_of, has_aux=True)(state[0], self._X[rows], self._targets[rows])
            return step(self.task, jax.tree.map, state, g, t, rates), losses

        steps = jnp.arange(1.0, len(order) + 1)
        state, losses = jax.lax.scan(one, (parameters, zeros, zeros), (order, steps))
        return state[0], losses[-self.task.case.batches :].mean(0)

    def _one(self, parameters, rate, order):
        """What `_trained` gives for a single network."""

        def cost_of(parameters, x, targets):
            for W, b in parameters[:-1]:
                x = self._activation(x @ W + b)
            W, b = parameters[-1]
            mean = cost(self.task, self._jax.nn.log_softmax, x @ W + b, targets, -1).mean()
            return mean, mean

        return self._trained(cost_of, parameters, lambda p: rate, order)

    def _body(self, variant):
        """(a function of all parameters, rates and orders, the axis of the networks in each of the three)."""
        jax, at_once = self._jax, variant["at once"]

        def body(parameters, rates, orders):
            if self.shared and at_once:
                each = lambda pair: self._one(*pair, orders)  # noqa: E731
                return jax.lax.map(each, (parameters, rates), batch_size=at_once)
            if at_once:
                return jax.lax.map(lambda three: self._one(*three), (parameters, rates, orders), batch_size=at_once)
            return jax.vmap(self._one, (0, 0, None if self.shared else 0))(parameters, rates, orders)

        return body, 0

    def _program(self, variant):
        jax = self._jax
        body, axis = self._body(variant)
        place = lambda a: jax.numpy.asarray(np.ascontiguousarray(np.moveaxis(a, 0, axis)))  # noqa: E731
        orders = jax.numpy.asarray(self._orders[0]) if self.shared else place(self._orders)
        arguments = jax.tree.map(place, self.task.starts()), place(self.task.rates), orders
        if self._threads > 1:
            spec = jax.sharding.PartitionSpec
            mesh = jax.sharding.Mesh(np.array(jax.devices()), "d")
            split = lambda a: spec(*[None] * (axis % a.ndim), "d")  # noqa: E731
            parts = *jax.tree.map(split, arguments[:2]), spec() if self.shared else split(orders)
            split_off = (parts[0], spec("d"))
            body = jax.shard_map(body, mesh=mesh, in_specs=parts, out_specs=split_off, check_vma=False)
        function = jax.jit(body, compiler_options={"xla_cpu_prefer_vector_width": variant["vector bits"]})

        def run():
            parameters, _ = jax.block_until_ready(function(*arguments))
            return jax.tree.map(lambda a: np.moveaxis(np.asarray(a), axis, 0), parameters)

        return run


class JaxOneOrder(Jax):
    """JAX where all networks have one order: also with the networks in the last axis of all arrays."""

    shared, checked = True, (ONE_ORDER,)
    options = {"at once": ("last axis", 0, 50), "vector bits": (256, 512)}  # noqa: RUF012

    def _body(self, variant):
        if variant["at once"] != "last axis":
            return super()._body(variant)
        jnp = self._jax.numpy

        def cost_of(parameters, a, targets):  # W (fan_in, fan_out, n), b (fan_out, n), a (rows, units, n)
            for l, (W, b) in enumerate(parameters):
                a = jnp.einsum("bin,ion->bon" if l else "bi,ion->bon", a, W) + b
                a = self._activation(a) if l + 1 < len(parameters) else a
            losses = cost(self.task, self._jax.nn.log_softmax, a, targets[:, :, None], 1).mean(0)
            return losses.sum(), losses

        return lambda parameters, rates, order: self._trained(cost_of, parameters, lambda p: rates, order), -1


def _each(function, *lists):
    return [function(*arrays) for arrays in zip(*lists, strict=True)]


class Torch(Peer):
    """PyTorch: vmap of the gradient."""

    package = "torch"

    def _load(self):
        import torch

        self._torch = torch
        torch.set_num_threads(self._threads)
        self._X, self._targets = torch.tensor(self.task.X), torch.tensor(self.task.targets)
        self._activation = torch.tanh if self.task.case.regression else torch.sigmoid
        rates = torch.tensor(self.task.rates)
        self._rates = lambda p: rates.view(-1, *[1] * (p.dim() - 1))

    def _gradient(self):
        """A function of the flat parameters, x and targets: (the gradients, each network's loss)."""

        def cost_of(flat, a, targets):
            *hidden, (W, b) = zip(flat[::2], flat[1::2], strict=True)
            for V, c in hidden:
                a = self._activation(a @ V + c)
            return cost(self.task, self._torch.log_softmax, a @ W + b, targets, -1).mean()

        return self._torch.func.vmap(self._torch.func.grad_and_value(cost_of))

    def _program(self, variant):
        torch, gradient = self._torch, self._gradient()
        orders = torch.tensor(self._orders.astype(np.int64))

        def run():
            parameters = [torch.tensor(a) for pair in self.task.starts() for a in pair]
            zeros = [torch.zeros_like(p) for p in parameters] if self.task.case.regression else []
            state = parameters, zeros, zeros
            for t in range(orders.shape[1]):
                rows = orders[0, t] if self.shared else orders[:, t]
                g, _ = gradient(state[0], self._X[rows], self._targets[rows])
                with torch.no_grad():
                    state = step(self.task, _each, state, g, t + 1, self._rates)
            return list(zip(state[0][::2], state[0][1::2], strict=True))

        return run


class TorchOneOrder(Torch):
    """PyTorch where all networks have one order, by batched products and autograd."""

    shared, checked = True, (ONE_ORDER,)

    def _gradient(self):
        torch, n = self._torch, self.task.members

        def gradient(flat, a, targets):
            flat = [p.requires_grad_() for p in flat]
            *hidden, (W, b) = zip(flat[::2], flat[1::2], strict=True)
            a = a.expand(n, *a.shape)
            for V, c in hidden:
                a = self._activation(torch.baddbmm(c[:, None], a, V))
            losses = cost(self.task, self._torch.log_softmax, torch.baddbmm(b[:, None], a, W), targets, -1).mean(-1)
            return torch.autograd.grad(losses.sum(), flat), losses.detach()

        return gradient

    def _program(self, variant):
        run = super()._program(variant)
        return lambda: [(W.detach(), b.detach()) for W, b in run()]


class Sklearn(Peer):
    """A loop of scikit-learn's MLPs, in processes of joblib if there are several threads."""

    package, most, checked = "sklearn", 20, ()

    def _load(self):
        from joblib import Parallel

        self._parallel = Parallel(self._threads)

    def _program(self, variant):
        from joblib import delayed

        return lambda: self._parallel(delayed(_of_sklearn)(self.task, i) for i in range(self.task.members))


def _of_sklearn(task, i):
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    case = task.case
    settings = {
        "alpha": 0,
        "batch_size": case.batch_size,
        "learning_rate_init": float(task.rates[i]),
        "random_state": i,
    }
    settings |= {"max_iter": case.epochs, "tol": 0, "n_iter_no_change": case.epochs + 1}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has not converged
        if case.regression:
            MLPRegressor(hidden_layer_sizes=case.sizes[1:-1], activation="tanh", **settings).fit(task.X, task.y.ravel())
        else:
            model = MLPClassifier(case.sizes[1:-1], activation="logistic", solver="sgd", momentum=0, **settings)
            model.fit(task.X, task.y)


SIDES = {
    "population": Population,
    "engine": Engine,
    "loop": Loop,
    "against": Loop,
    "population-against": Population,
    "jax": Jax,
    "jax-one-order": JaxOneOrder,
    "torch": Torch,
    "torch-one-order": TorchOneOrder,
    "sklearn": Sklearn,
}


# ---- the child ----


def _answer(side, command, *arguments):
    """What a command of the parent gives."""
    if command == "check":
        starts, file = arguments
        np.save(file, side.losses(starts))
        return {}
    if command == "run":
        (clock,) = arguments
        taken = seconds(side.run, clock=CLOCKS[clock])
        return {"rate": side.task.members / (side.spent if isinstance(side, Engine) else taken)}
    if command == "describe":
        return {"variant": getattr(side, "variant", {})}
    raise ValueError(f"command must be one of check, run, describe, got {command!r}")


def main(name, folder, threads, checkout=None):
    """Answer the commands of the parent."""
    if checkout is not None:
        sys.path.insert(0, checkout)
    kind, task = SIDES[name], Task.read(Path(folder))
    task = task._replace(members=min(task.members, kind.most or task.members))
    side = kind(task, int(threads))
    for line in sys.stdin:
        print(json.dumps(_answer(side, *line.split())), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
