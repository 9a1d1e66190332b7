"""What the attacks share: the driver, random networks and samples, and what can be said of any model.

An attack is a function of a NumPy generator that tries one random case. `make test` runs a fixed number of cases,
always the same. `make fuzz` runs new cases until the time is up. Three environment variables say what is run:

- FASTNN_FUZZ_SECONDS: the time of all attacks together. Without it, each runs its few cases of `make test`.
- FASTNN_FUZZ_SEED: the seed of all cases. Without it, a long run draws one.
- FASTNN_FUZZ_CASE: the number of the one case to run, to see a failure again.
"""

import contextlib
import itertools
import os
import pickle
import random
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis.configuration import set_hypothesis_home_dir

from fastnn import (
    SGD,
    Adam,
    BatchNorm,
    CosineDecay,
    Dense,
    Embedding,
    ExponentialDecay,
    LayerNorm,
    Model,
    Momentum,
    PReLU,
    Residual,
    Scale,
    StepDecay,
)
from fastnn.kernels.programs import strategy
from fastnn.network import network, threads
from fastnn.settings.layers import TENSOR_NAMES
from fastnn.training import thread_tuner

from .. import cases

ROOT = Path(__file__).resolve().parent.parent.parent
SECONDS = float(os.environ.get("FASTNN_FUZZ_SECONDS", "0"))
CASE = os.environ.get("FASTNN_FUZZ_CASE", "")
SEED = int(os.environ.get("FASTNN_FUZZ_SEED", "0") or 0)
if SECONDS and "FASTNN_FUZZ_SEED" not in os.environ:
    SEED = int.from_bytes(os.urandom(4), "little")
set_hypothesis_home_dir(Path(tempfile.gettempdir(), "fastnn-hypothesis"))  # not in the checkout
DOUBTS = "ignore:y holds:UserWarning", "ignore:the loss is:UserWarning"  # random targets are seldom what one means
ROOM = 2**32  # bytes that an attack may allocate beside what there is

# ---- the driver ----


@dataclass
class Attack:
    """A function that tries one random case, or says how many it tried."""

    name: str
    case: Callable
    cases: int  # of `make test`
    share: float  # of the time of `make fuzz`
    done: int = 0

    def run(self):
        """Try case after case."""
        if CASE:
            self.one(int(CASE))
            return
        if not SECONDS:
            for number in range(self.cases):
                self.one(number)
            return
        end = time.monotonic() + SECONDS * self.share / sum(attack.share for attack in ATTACKS)
        for number in itertools.count():
            if time.monotonic() > end:
                break
            self.one(number)

    def one(self, number):
        """Try the case of that number; an error names it."""
        seeds = [SEED, zlib.crc32(self.name.encode()), number]
        try:
            self.done += self.case(np.random.default_rng(seeds)) or 1
        except Exception as error:
            again = f"FASTNN_FUZZ_SEED={SEED} FASTNN_FUZZ_CASE={number} pytest tests/fuzz -k {self.name}"
            raise AssertionError(f"{type(error).__name__}: {error}\nThe same case again: {again}") from error


ATTACKS: list[Attack] = []


def attack(*, cases, share):
    """Decorator: a test that runs the function as an attack."""

    def decorate(case):
        made = Attack(case.__name__, case, cases, share)
        ATTACKS.append(made)

        def test():
            made.run()

        test.__name__, test.__doc__, test.__module__ = case.__name__, case.__doc__, case.__module__
        test.case = case
        return pytest.mark.filterwarnings(*DOUBTS)(test)

    return decorate


def run_child(source, *arguments, timeout=900):
    """Run source in a new interpreter that can import the tests; gives what it printed."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", source, *map(str, arguments)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Exception ignored" not in done.stderr, done.stderr  # an interrupt would be lost there
    return done.stdout


@contextlib.contextmanager
def little_memory():
    """A request for very much memory fails in here, and does not take the machine down."""
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else None
    if pages is None:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextlib.contextmanager
def on_threads(rng, how=None):
    """Whatever can be shared among threads is. How says the orientation of blocks; None leaves it to the package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "available_threads", lambda: 8)
        patch.setattr(threads, "FIT_MULTIPLY_ADDS", 0)
        patch.setattr(threads, "PARALLEL_MULTIPLY_ADDS", 0)
        patch.setattr(strategy, "THREAD_MULTIPLY_ADDS", 1)
        patch.setattr(strategy, "SHARD_SAMPLES", int(rng.choice([32, 128])))
        changes = rng.random() < 0.3  # of the number of threads, from call to call
        chosen = random.Random(int(rng.integers(2**32)))  # NumPy's has a lock, which another thread may hold at a fork
        choice = (lambda self: (chosen.choice([1, self.threads]), 1.0)) if changes else lambda self: (self.threads, 1.0)
        patch.setattr(thread_tuner.ThreadTuner, "choose", choice)
        if how is not None:
            patch.setattr(network, "ORIENTATION", how)
        network._shared_programs.cache_clear()
        yield
    network._shared_programs.cache_clear()


# ---- random networks and samples ----

HIDDEN = ("sigmoid", "tanh", "relu", "gelu", "identity")


@dataclass
class Problem:
    """A network, samples for it, and how to train it."""

    sizes: list
    options: dict  # of Model
    frozen: list
    X: np.ndarray
    y: np.ndarray
    weights: np.ndarray | None
    batch_size: int
    optimizer: object
    more: dict = field(default_factory=dict)  # further arguments of fit

    def model(self):
        """The network as it is before training."""
        model = Model(self.sizes, **self.options)
        if self.frozen:
            model.freeze(self.frozen)
        return model

    def fit(self, model, epochs, **options):
        """Train the model."""
        given = {"batch_size": self.batch_size, "optimizer": self.optimizer, "sample_weight": self.weights}
        return model.fit(self.X, self.y, epochs=epochs, **given | self.more | options)

    def __str__(self):
        return (
            f"{self.model()!r}, {self.options}, frozen {self.frozen}, X {self.X.dtype} {self.X.shape}, "
            f"y {self.y.dtype} {self.y.shape}, weights {self.weights is not None}, batches of {self.batch_size}, "
            f"{self.optimizer}, {self.more}"
        )


def chance(rng, probability):
    """True in so many cases."""
    return bool(rng.random() < probability)


def pick(rng, values):
    """One of the values, as it is."""
    return values[int(rng.integers(len(values)))]


def width(rng):
    """The width of a layer: mostly small, odd or next to a whole number of vectors, seldom some hundreds."""
    kind = rng.random()
    if kind < 0.45:
        return int(rng.integers(1, 12))
    if kind < 0.75:
        return int(pick(rng, [8, 16, 32, 64]) + rng.integers(-1, 2))
    return int(rng.integers(12, 100) if kind < 0.95 else rng.integers(100, 400))


def random_optimizer(rng, sizes, dtype):
    """An optimizer with a rate at which no network of such sizes diverges, or comes close to it."""
    rate = float(rng.uniform(0.05, 0.4)) / (1 + max(sizes))
    kind = pick(rng, ["sgd", "momentum", "nesterov", "adam"])
    if kind == "sgd":
        return SGD(rate)
    if kind == "adam":  # steps of tiny gradients are all sign, which rounding decides
        epsilon = 1e-8 if dtype == "float64" else float(rng.uniform(1e-4, 1e-2))
        return Adam(
            float(rng.uniform(1e-4, 5e-3)), float(rng.uniform(0.5, 0.95)), float(rng.uniform(0.9, 0.999)), epsilon
        )
    return Momentum(rate / 10, float(rng.uniform(0.3, 0.95)), nesterov=kind == "nesterov")


def by_kinds_of_tensors(rng, optimizer):
    """The optimizer; some have factors of the learning rate, and a weight decay of dense weights alone."""
    settings = {"learning_rate_factors": None}
    if chance(rng, 0.3):
        names = [name for name in TENSOR_NAMES if chance(rng, 0.3)]
        settings["learning_rate_factors"] = {name: float(pick(rng, [0, 0.1, 1, rng.uniform(0, 1.5)])) for name in names}
    if "weight_decay" in vars(optimizer):
        settings["decay_biases"] = chance(rng, 0.5)
    return replace(optimizer, **settings)


def random_problem(rng, largest=400, most_samples=300):
    """A network of any kind that can be trained, and samples."""
    n_layers = int(pick(rng, [1, 2, 2, 2, 3, 3, 4, 5]))
    widths = [min(largest, width(rng)) for _ in range(n_layers + 1)]
    output = pick(rng, [*HIDDEN, "softmax", "softmax", *(["step"] if n_layers == 1 else [])])
    if output == "softmax":
        widths[-1] = max(2, widths[-1])
    crossed = output == "softmax" or (output == "sigmoid" and chance(rng, 0.5))
    gaussian = output == "identity" and chance(rng, 0.3)
    loss = "gaussian" if gaussian else "cross_entropy" if crossed else "quadratic"
    n_targets = widths[-1]
    widths[-1] *= 2 if gaussian else 1
    dtype = pick(rng, ["float32", "float64"])
    scale = pick(rng, [None, None, 1 / 255, -0.5, 3.0])
    layers = [Dense(n, pick(rng, HIDDEN)) for n in widths[1:-1]]
    options = {"output": output, "loss": loss, "input_scale": scale}
    options |= {"dtype": dtype, "init": pick(rng, ["scaled"] * 9 + ["zeros"]), "rng": int(rng.integers(2**32))}
    frozen = [i for i in range(n_layers) if chance(rng, 0.15)]
    n = int(rng.integers(1, 40)) if chance(rng, 0.6) else int(rng.integers(40, most_samples))
    X = random_inputs(rng, n, widths[0], scale, dtype)
    y = rng.normal(size=(n, n_targets)) if gaussian else random_targets(rng, n, n_targets, output, crossed)
    weights = rng.uniform(0.1, 3, n) * (rng.random(n) < 0.8) if chance(rng, 0.25) else None
    if weights is not None:
        weights[0] = 1
    batch_size = pick(rng, [1, 2, 3, 8, 10, 32, n, max(1, n - 1), n + 1, int(rng.integers(1, n + 1))])
    optimizer = by_kinds_of_tensors(rng, random_optimizer(rng, widths, dtype))
    return Problem([widths[0], *layers, widths[-1]], options, frozen, X, y, weights, batch_size, optimizer)


def random_inputs(rng, n, n_inputs, scale, dtype):
    """Samples whose scaled values are about 1 / sqrt(n_inputs), in one of the types that fit takes."""
    if scale == 1 / 255:
        return rng.integers(0, 256, (n, n_inputs)).astype(np.uint8)
    X = rng.normal(size=(n, n_inputs)) * rng.uniform(0.5, 2) / np.sqrt(n_inputs) / abs(scale or 1)
    kind = pick(rng, [dtype, dtype, "float32", "float64", ">f8", "float16", "int64"])
    return np.round(X).astype(kind) if kind == "int64" else X.astype(kind)


def random_targets(rng, n, n_out, output, crossed):
    """Class indices, probabilities or numbers."""
    if n_out == 1 and output in ("sigmoid", "step"):
        y = rng.integers(0, 2, n)
        return y if chance(rng, 0.7) else y.astype(float)[:, None]
    if n_out > 1 and chance(rng, 0.5):
        return rng.integers(0, n_out, n).astype(pick(rng, ["int64", "int32", "uint8" if n_out < 256 else "int16"]))
    if crossed:
        p = rng.random((n, n_out))
        return p / p.sum(axis=1, keepdims=True) if output == "softmax" else p
    return rng.random((n, n_out)) * 0.8 + 0.1


ALL_HIDDEN = [name for name in cases.ACTIVATIONS if name not in (*cases.GROWING, *cases.STEPS)]
OPTIMIZERS = [optimizer for name, optimizer in cases.OPTIMIZERS.items() if name not in cases.WHOLE_SET]


def with_everything(rng, problem):
    """The same problem with any neurons, optimizer, schedule and rules."""
    n_hidden = len(problem.sizes) - 2
    layers = [Dense(layer.units, pick(rng, ALL_HIDDEN)) for layer in problem.sizes[1:-1]]
    rate = float(rng.uniform(1e-5, 1e-3))
    if chance(rng, 0.4):
        per = pick(rng, ["epoch", "step"])
        rate = pick(
            rng, [ExponentialDecay(rate, 0.8, per), CosineDecay(rate, 3, 1, per=per), StepDecay(rate, 2, per=per)]
        )
    clip = pick(rng, [{}, {}, {"clip_value": 1e-3}, {"clip_norm": 0.05}])
    more = {
        "l2": pick(rng, [0.0, 1e-3]),
        "l1": pick(rng, [0.0, 1e-4]),
        "max_norm": pick(rng, [None, 0.8]),
        "dropout": pick(rng, [0.0, 0.5, rng.uniform(0, 0.9, n_hidden).tolist()]),
        "input_noise": pick(rng, [0.0, 0.1]),
    }
    if problem.options["loss"] == "cross_entropy":
        more["label_smoothing"] = pick(rng, [0.0, 0.1])
    lowest = min(set(range(n_hidden + 1)) - set(problem.frozen), default=n_hidden)  # that trains
    if any(layer.activation in ("sigmoid", "tanh") for layer in layers[lowest:]):
        more["min_derivative"] = pick(rng, [0.0, 0.2])
    sizes, settings = [problem.sizes[0], *layers, problem.sizes[-1]], {"clip_value": None, "clip_norm": None} | clip
    optimizer = by_kinds_of_tensors(rng, replace(pick(rng, OPTIMIZERS), learning_rate=rate, **settings))
    return replace(problem, sizes=sizes, optimizer=optimizer, more=more)


def random_codes(rng, X):
    """(X with codes in some columns, the layer that reads them)."""
    n_inputs = X.shape[1]
    columns = rng.permutation(n_inputs)[: rng.integers(1, min(n_inputs, 4) + 1)].tolist()
    categories = [int(pick(rng, [1, 2, 7, rng.integers(1, 60)])) for _ in columns]
    widths = pick(rng, [None, 1, [int(rng.integers(1, 9)) for _ in columns]])
    X = X.copy()
    for column, n in zip(columns, categories, strict=True):
        X[..., column] = rng.integers(0, n, X.shape[:-1])
    return X, Embedding(columns, categories, widths)


def with_codes(rng, problem):
    """(the same problem with codes among its inputs, the layer that reads them)."""
    X, layer = random_codes(rng, problem.X)
    scale = problem.options["input_scale"]
    if scale is not None:
        scale = np.full(X.shape[1], scale)
        scale[[*layer.columns]] = 1
    return replace(problem, X=X, options=problem.options | {"input_scale": scale}), layer


def with_kinds(rng, problem):
    """The same problem with layers of other kinds between the dense ones, and seldom one that reads codes."""
    n, size = len(problem.X), min(problem.batch_size, len(problem.X))
    batches = 4 <= size <= problem.batch_size <= 256 >= n and (n % size == 0 or n % size >= 4)  # few become mere signs

    def others(width):
        """None to three layers that keep the width."""
        for _ in range(int(rng.integers(0, 3))):
            kind, activation = rng.random(), pick(rng, HIDDEN)
            if kind < 0.35:
                inner = [*others(width), Dense(int(rng.integers(1, 60)), pick(rng, HIDDEN))]
                yield Residual(*inner, Dense(width, pick(rng, HIDDEN)), activation=activation)
            elif kind < 0.55 and batches:
                yield BatchNorm(float(rng.uniform(0, 1)), float(rng.uniform(0.01, 0.3)), activation)
            elif kind < 0.75 and width > 4:
                yield LayerNorm(float(rng.uniform(0.01, 0.3)), activation)
            elif kind < 0.88:
                yield Scale()
            else:
                yield PReLU(float(rng.uniform(-0.5, 1)))

    layers = []
    if chance(rng, 0.4):
        problem, first = with_codes(rng, problem)
        layers.append(first)
    layers += others(Model([problem.sizes[0], *layers, 1]).sizes[-2])
    for layer in problem.sizes[1:-1]:
        layers += [layer, *others(layer.units)]
    more, options = dict(problem.more), problem.options
    if options["output"] == "step":  # which stands alone
        options = options | {"output": "sigmoid"}
    if not isinstance(more.get("dropout", 0.0), float):
        more["dropout"] = 0.3
    sizes = [problem.sizes[0], *layers, problem.sizes[-1]]
    changed = replace(problem, sizes=sizes, options=options, frozen=[], more=more)
    if not more.get("min_derivative"):  # which needs a layer that saturates and trains
        frozen = [i for i in range(len(changed.model().weights)) if chance(rng, 0.15)]
        changed = replace(changed, frozen=frozen)
    return changed


# ---- what can be said of any model ----


def snapshot(model):
    """Everything that a model is, to compare before and after."""
    return pickle.dumps(model)


def check_whole(model):
    """Raise where the model's parts do not fit each other, or something is not finite."""
    arrays = [tensor for tensors in model.tensors for tensor in tensors.values()]
    for (fan_in, units), tensors in zip(itertools.pairwise(model.sizes), model.tensors, strict=True):
        if any(name.startswith("embedding_") for name in tensors):
            assert sum(tensor.shape[1] for tensor in tensors.values()) + fan_in - len(tensors) == units
            continue
        of_dense = tensors["weight"].ndim == 2
        shapes = {name: (units, fan_in) if of_dense and name == "weight" else (units,) for name in tensors}
        assert {name: tensor.shape for name, tensor in tensors.items()} == shapes, "other shapes than the sizes"
    assert np.isfinite(model.parameters).all(), "a parameter is not finite"
    used = sum(np.count_nonzero(a) for a in arrays)
    assert np.count_nonzero(model.parameters) == used, "the padding is not zero"
    assert all(np.shares_memory(a, model.parameters) for a in arrays), "weights lie elsewhere than the parameters"
    outputs = model.predict(np.zeros((3, model.sizes[0])))
    assert outputs.shape == (3, model.sizes[-1]), outputs.shape
    assert outputs.dtype == model.dtype, outputs.dtype


def check_history(history):
    """Raise where the lists of a history are not of one length."""
    n = len(history.loss)
    assert len(history.seconds) == n, f"{len(history.seconds)} seconds, {n} losses"
    assert len(history.val_loss) == len(history.val_metric), "validation losses and metrics of other lengths"
    assert len(history.val_loss) in (0, n), f"{len(history.val_loss)} validation losses, {n} losses"
    lengths = {name: len(values) for name, values in history._lists().items()}
    assert set(lengths.values()) == {n}, f"{lengths}, {n} losses"


def check_same(one, other, what):
    """Raise where two models do not hold the same bits."""
    assert one.parameters.tobytes() == other.parameters.tobytes(), f"other parameters: {what}"
