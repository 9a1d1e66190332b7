"""Random fits of populations: each member is what a model of its seed becomes, trained alone."""

import contextlib
import itertools
import pathlib
import tempfile
import warnings
from dataclasses import dataclass, replace

import numpy as np
import pytest

from fastnn import (
    CosineDecay,
    Dense,
    DivergenceError,
    EarlyStopping,
    Embedding,
    ExponentialDecay,
    Huber,
    Model,
    Patience,
    Population,
    PReLU,
    Quantile,
    StepDecay,
)
from fastnn.jobs import cuts
from fastnn.jobs.member_chunks import ChunkedFit
from fastnn.kernels.programs import strategy

from .. import cases
from ..fastnn.engines import Calls
from ..fastnn.test_population import left, takes_lanes
from .helpers import (
    ALL_HIDDEN,
    OPTIMIZERS,
    attack,
    by_kinds_of_tensors,
    chance,
    on_threads,
    pick,
    random_codes,
    width,
)

# A loss, an output activation that goes with it, and what its targets are.
LOSSES = (
    *(("quadratic", output, "numbers") for output in ("sigmoid", "tanh", "identity", "relu")),
    *((loss, "sigmoid", "numbers") for loss in ("cross_entropy", "clipped_cross_entropy")),
    *((loss, "softmax", "probabilities") for loss in ("cross_entropy", "cross_entropy", "clipped_cross_entropy")),
    *(("arctanh_error", output, "numbers") for output in ("sigmoid", "hard_sigmoid", "tanh")),
    *((loss, "identity", "numbers") for loss in (Huber(0.3), "absolute_error", "log_cosh", "gaussian")),
    (Quantile(0.9), "tanh", "numbers"),
    ("poisson", "exp", "numbers"),
    ("hinge", "identity", "signs"),
)
RANGES = {  # of an optimizer's numbers; Adam's steps of tiny gradients are all sign where epsilon is smaller
    "momentum": (0.3, 0.9),
    "alpha": (0.5, 0.95),
    "beta1": (0.5, 0.9),
    "beta2": (0.8, 0.99),
    "epsilon": (1e-4, 1e-2),
    "weight_decay": (0.0, 0.3),
    "momentum_decay": (0.01, 0.2),
    "clip_value": (1e-3, 0.1),
    "clip_norm": (0.01, 1.0),
}
ROUNDING = {"float32": 1e-6, "float64": 1e-9}  # of a step from the same parameters, and of a whole fit
JUMPING = tuple(type(cases.OPTIMIZERS[name]).__name__ for name in cases.JUMPING)


@dataclass
class Fits:
    """The fit of a population, and those of models that its members must equal."""

    network: dict  # arguments of Population and Model, sizes included
    seeds: list
    together: dict  # arguments of Population.fit
    alone: list  # those of each Model.fit
    in_lanes: bool  # by force; else the package chooses
    before: bool  # whether another such population trains before, its first member alone: programs are then there

    def __str__(self):
        def shown(value):
            if isinstance(value, np.ndarray):
                return f"{value.dtype} {value.shape}" if value.size > 30 else repr(value)
            return "(" + ", ".join(map(shown, value)) + ")" if isinstance(value, (tuple, list)) else repr(value)

        given = ", ".join(f"{name}={shown(value)}" for name, value in self.together.items())
        counts = [len(own["X"]) for own in self.alone]
        flags = f"forced into lanes: {self.in_lanes}, another before: {self.before}"
        return f"{self.network}, seeds {self.seeds}, rows {counts}, {flags}, {given}"

    def order(self, epochs):
        """The argument `shuffle` of so many epochs."""
        order = self.together["shuffle"]
        if isinstance(order, np.ndarray):
            order = np.tile(np.arange(order.shape[1]), (epochs, 1))
        return {"shuffle": order}

    def one_step(self):
        """The same, with a single batch of all rows."""
        short = {"epochs": 1, "batch_size": 10**4} | self.order(1)
        return replace(self, together=self.together | short, alone=[own | short for own in self.alone])


# ---- what is drawn ----


def numbers(rng, n, draw):
    """(what a population takes, what each of its models takes): one number for all, or an array of them."""
    if chance(rng, 0.4):
        value = draw()
        return value, [value] * n
    values = [draw() for _ in range(n)]
    return np.array([np.nan if value is None else value for value in values]), values


def random_network(rng):
    """(arguments of Population and Model, the kind of targets), seldom with codes among the inputs."""
    loss, output, targets = pick(rng, LOSSES)
    widths = [min(width(rng), 100) for _ in range(pick(rng, [2, 3, 3, 3, 4]))]
    widths[0] = max(widths[0], pick(rng, [1, 2, 2, 2]))
    if output == "softmax":
        widths[-1] = max(2, widths[-1])
    if loss == "gaussian":
        widths[-1] *= 2
    tables = [random_codes(rng, np.zeros((1, widths[0])))[1]] if chance(rng, 0.2) else []
    hidden = [[Dense(units, pick(rng, ALL_HIDDEN)), *[PReLU()] * chance(rng, 0.2)] for units in widths[1:-1]]
    layers = [widths[0], *tables, *itertools.chain(*hidden), widths[-1]]
    dtype = pick(rng, cases.DTYPES)
    return {"sizes_or_layers": layers, "output": output, "loss": loss, "dtype": dtype}, targets


def random_optimizer(rng, n):
    """(the optimizer of a population, that of each model): arrays of numbers, of one kind or of two."""
    if n > 1 and chance(rng, 0.2):
        kinds = [pick(rng, OPTIMIZERS) for _ in range(2)]
        own = [random_numbers(rng, pick(rng, kinds), 1)[1][0] for _ in range(n)]
        return own, own
    return random_numbers(rng, pick(rng, OPTIMIZERS), n)


def by_epoch(rng, given, values):
    """Numbers as schedules that begin with them."""
    schedule = pick(rng, [lambda r: CosineDecay(r, length=4, hold=1), lambda r: StepDecay(r, every=2)])
    return schedule(given), [schedule(value) for value in values]


def random_numbers(rng, optimizer, n):
    """The same for n members whose optimizers are of one kind."""
    rate = optimizer.learning_rate
    given, values = numbers(rng, n, lambda: rate * float(rng.uniform(0.2, 2)))
    schedule = pick(rng, [None, None, lambda r: CosineDecay(r, length=4), lambda r: ExponentialDecay(r, 0.9, "step")])
    if schedule is not None:
        given, values = schedule(given), [schedule(value) for value in values]
    together, alone = {"learning_rate": given}, [{"learning_rate": value} for value in values]
    clips = pick(rng, [(), (), ("clip_value",), ("clip_norm",)])
    for name, (low, high) in RANGES.items():
        if name in clips or (hasattr(optimizer, name) and not name.startswith("clip")):
            together[name], values = numbers(rng, n, lambda low=low, high=high: float(rng.uniform(low, high)))
            if name == "weight_decay" and chance(rng, 0.3):
                together[name], values = by_epoch(rng, together[name], values)
            for own, value in zip(alone, values, strict=True):
                own[name] = value
    without = by_kinds_of_tensors(rng, replace(optimizer, clip_value=None, clip_norm=None))
    return replace(without, **together), [replace(without, **own) for own in alone]


def random_rules(rng, n, network, targets):
    """(what a population's fit takes, what each model's takes) of epochs, batch sizes, penalties and noise."""
    hidden = [layer.activation for layer in network["sizes_or_layers"][1:-1] if isinstance(layer, Dense)]
    drawn = {
        "epochs": lambda: int(rng.integers(0, 6)),
        "batch_size": lambda: pick(rng, [1, 2, 7, 16, 32, 100]),
        "l2": lambda: pick(rng, [0.0, 1e-3, 1e-2]),
        "l1": lambda: pick(rng, [0.0, 1e-3]),
        "max_norm": lambda: pick(rng, [None, 0.5, 1.5]),
        "input_noise": lambda: pick(rng, [0.0, 0.2]),
    }
    if hidden:
        layers = pick(rng, [None, len(hidden)])  # a rate for all layers, or a list
        drawn["dropout"] = lambda: (rng.uniform(0, 0.6, layers) * rng.integers(0, 2, layers)).tolist()
    if targets == "probabilities" and network["loss"] == "cross_entropy":
        drawn["label_smoothing"] = lambda: pick(rng, [0.0, 0.1])
    if {"sigmoid", "tanh"} & {*hidden}:
        drawn["min_derivative"] = lambda: pick(rng, [0.0, 0.1])
    together, alone = {}, [{} for _ in range(n)]
    for name, draw in drawn.items():
        if name in ("epochs", "batch_size") or chance(rng, 0.35):
            together[name], values = numbers(rng, n, draw)
            for own, value in zip(alone, values, strict=True):
                own[name] = value
    if hidden and chance(rng, 0.15):
        together["dropout"], values = by_epoch(rng, *numbers(rng, n, lambda: float(rng.uniform(0.01, 0.6))))
        for own, value in zip(alone, values, strict=True):
            own["dropout"] = value
    return together, alone


class Drawer:
    """Draws samples of a network."""

    def __init__(self, rng, network, targets):
        self.rng, self.targets = rng, targets
        layers = network["sizes_or_layers"]
        self.tables = layers[1] if isinstance(layers[1], Embedding) else None
        self.n_in, self.n_out = layers[0], layers[-1] // (2 if network["loss"] == "gaussian" else 1)
        self.classes = targets == "probabilities" and chance(rng, 0.5)
        self.weighted = chance(rng, 0.3)

    def __call__(self, *shape):
        """(X, y, weights or None): arrays whose first axes are these."""
        rng = self.rng
        X = rng.normal(size=(*shape, self.n_in)) / np.sqrt(self.n_in)
        if self.tables is not None:
            for column, n in zip(self.tables.columns, self.tables.categories, strict=True):
                X[..., column] = rng.integers(0, n, shape)
        y = rng.uniform(0.1, 0.9, (*shape, self.n_out))
        if self.classes:
            y = rng.integers(0, self.n_out, shape)
        elif self.targets == "probabilities":
            y /= y.sum(axis=-1, keepdims=True)
        elif self.targets == "signs":
            y = np.where(y > 0.5, 1.0, -1.0)
        return X, y, rng.uniform(0.1, 3, shape) if self.weighted else None


def some(arrays, rows):
    """Rows of arrays, of which some may be None."""
    return tuple(None if array is None else array[rows] for array in arrays)


def random_rows(rng, n, total):
    """(the argument `rows`, the indices of each member, those that it leaves out or None): of so many rows."""
    if chance(rng, 0.3):
        lists = [rng.permutation(total)[: rng.integers(5, total + 1)] for _ in range(n)]
        return lists, lists, None
    given = rng.random((n, total)) < 0.6 if chance(rng, 0.5) else rng.integers(0, 3, (n, total))
    given[:, :5], given[:, 5] = 1, 0
    return given, [np.repeat(np.arange(total), each) for each in given], [np.flatnonzero(each == 0) for each in given]


def random_samples(rng, n, draw):
    """(what a population's fit takes, what each model's takes) of samples, for all or for each member."""
    total, kind, rest = int(rng.integers(6, 90)), pick(rng, ["shared", "rows", "targets", "own", "ragged"]), None
    together = {}
    if kind in ("shared", "rows", "targets"):
        X, y, w = draw(total)
        of_each = [(X, y, w)] * n
        if kind == "rows":
            together["rows"], chosen, rest = random_rows(rng, n, total)
            of_each = [some((X, y, w), rows) for rows in chosen]
        elif kind == "targets":
            _, y, w = draw(n, total)
            of_each = [(X, *some((y, w), i)) for i in range(n)]
    elif kind == "own":
        X, y, w = draw(n, total)
        of_each = [some((X, y, w), i) for i in range(n)]
    else:
        edges = np.append(0, np.cumsum(rng.integers(5, total, n)))
        X, y, w = draw(edges[-1])
        of_each = [some((X, y, w), slice(*part)) for part in itertools.pairwise(edges)]
        X = X, edges
    together |= {"X": X, "y": y, "sample_weight": w}
    alone = [dict(zip(("X", "y", "sample_weight"), own, strict=True)) for own in of_each]
    how = pick(rng, ["none", "none", "pair", "fraction", *(["rest"] if rest else [])])
    validated = {}
    if how == "pair":
        validated["validation_data"] = draw(int(rng.integers(1, 20)))
    elif how == "fraction":
        validated["validation_fraction"] = 0.25
    alone = [own | validated for own in alone]
    if how == "rest":
        validated["validation_data"] = "rest"
        whole = X, y, w
        alone = [own | {"validation_data": some(whole, left_out)} for own, left_out in zip(alone, rest, strict=True)]
    return together | validated, alone


def random_fits(rng):
    """The fits of a random population."""
    n = int(pick(rng, [1, 2, 3, 5, 9, 17]))
    network, targets = random_network(rng)
    samples, own_samples = random_samples(rng, n, Drawer(rng, network, targets))
    rules, own_rules = random_rules(rng, n, network, targets)
    optimizer, own_optimizers = random_optimizer(rng, n)
    shuffle = pick(rng, [True, True, False])
    shared = own_samples[0]["y"] is samples["y"] and "validation_fraction" not in samples
    if shared and chance(rng, 0.4):
        total, epochs = len(samples["y"]), int(np.max(rules["epochs"]))
        shuffle = rng.permuted(np.tile(np.arange(total), (epochs, 1)), axis=1)
    common = {"shuffle": shuffle}
    together = samples | rules | common | {"optimizer": optimizer, "threads": int(rng.integers(1, 4))}
    alone = [
        a | b | common | {"optimizer": c, "threads": 1}
        for a, b, c in zip(own_samples, own_rules, own_optimizers, strict=True)
    ]
    if chance(rng, 0.25):
        monitor = "val_loss" if "validation_data" in samples or "validation_fraction" in samples else "loss"
        restore, (given, values) = chance(rng, 0.5), numbers(rng, n, lambda: int(rng.integers(1, 3)))
        kept = {"restore_best": restore, "keep_last": chance(rng, 0.5)}
        together["stopping"] = Patience(given, **kept)
        for own, patience in zip(alone, values, strict=True):
            own["callbacks"] = [EarlyStopping(monitor, patience=patience, **kept)]
    seeds = rng.integers(2**32, size=n).tolist()
    return Fits(network, seeds, together, alone, chance(rng, 0.5), chance(rng, 0.5))


# ---- what must hold ----


@contextlib.contextmanager
def lanes_by_force():
    """Members train in lanes wherever they can."""

    def lanes_pay(layout, batch_size):
        return batch_size <= layout.block_rows and takes_lanes(layout)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strategy, "lanes_pay", lanes_pay)
        yield


def in_one_order(layout, own):
    """Whether a member has the bits of a model (docs/how-to/populations.md, "A member is a model")."""
    n = len(own["X"])
    if "validation_fraction" in own:
        n -= round(n * own["validation_fraction"])
    batch_size = min(own["batch_size"], n)
    if not strategy.lanes_pay(layout, batch_size):
        return True
    single = batch_size == 1 or n % batch_size == 1 or any(layer.fan_in == 1 for layer in layout.layers)
    wide = layout.activations[-1] == "softmax" and not layout.losses_by_columns
    return strategy.choose(layout, batch_size) == strategy.ROW_MAJOR and not (single or wide)


def fitted_alone(fits, i):
    """A member's model, after its fit."""
    own, model = dict(fits.alone[i]), Model(**fits.network, rng=fits.seeds[i])
    if isinstance(own["shuffle"], np.ndarray):
        own["shuffle"] = own["shuffle"][: own["epochs"]]
    with contextlib.suppress(DivergenceError):
        model.fit(own.pop("X"), own.pop("y"), **own)
    return model


def compare(fits):
    """Raise where a member is not what its model is."""
    model = Model(**fits.network, rng=0)
    orders = [in_one_order(model._network.layout, own) for own in fits.alone]
    dtype = fits.network["dtype"]
    jumps = np.any(fits.together.get("l1", 0.0))  # the penalty's derivative, by rounding, where a weight comes to zero
    if (dtype == "float32" or jumps) and not all(orders):
        fits = fits.one_step()
        orders = [in_one_order(model._network.layout, own) for own in fits.alone]
    n, together = len(fits.seeds), fits.together
    if fits.before:
        other = Population(**fits.network, n=n, rng=fits.seeds)
        other.fit(**together | {"epochs": np.eye(1, n, dtype=int)[0]} | fits.order(1))
    population = Population(**fits.network, n=n, rng=fits.seeds)
    history = population.fit(**together)
    for i, same in enumerate(orders):
        model, what = fitted_alone(fits, i), f"member {i}"
        got, done = population[i], len(model.history.loss)
        if not same and type(fits.alone[i]["optimizer"]).__name__ in JUMPING:
            continue  # its steps follow signs, which rounding decides where a gradient is about zero
        assert history.epochs[i] == done, f"{what}: {history.epochs[i]} epochs, not {done}"
        rounding = 1e-13 if same else ROUNDING[dtype]
        if same:
            assert left(got) == left(model), f"{what}: other bits"
        else:
            error = np.linalg.norm(got.parameters - model.parameters) / np.linalg.norm(model.parameters)
            assert error < rounding, f"{what}: relative error {error:.2g}, more than {rounding:g}"
        for name in ("loss", "val_loss"):
            mine, its = getattr(history, name)[i, :done], getattr(model.history, name) or np.full(done, np.nan)
            np.testing.assert_allclose(mine, its, rounding, 0 if same else rounding, err_msg=f"{what}: {name}")


@attack(cases=12, share=2)
def test_members_are_models(rng):
    """A member has the bits of its model where sums have one order, else it differs by rounding."""
    fits = random_fits(rng)
    forced = lanes_by_force() if fits.in_lanes else contextlib.nullcontext()
    try:
        with on_threads(rng, "row-major" if fits.in_lanes else None), forced, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # random targets are seldom what one means
            compare(fits)
    except Exception as error:
        raise AssertionError(f"{error!r}: {fits}") from error


def compare_chunks(fits, folder):
    """Raise where members have other bits in chunks, on an engine, or out of a checkpoint."""
    made = Population(**fits.network, n=len(fits.seeds), rng=fits.seeds)
    expected = made[:]
    expected.fit(**fits.together)
    for _ in range(2):
        for what, where in (
            ("elsewhere", {"engine": Calls()}),
            ("elsewhere, kept", {"engine": Calls(), "checkpoint": folder}),
            ("from a checkpoint", {"checkpoint": folder}),
        ):
            found = made[:]
            found.fit(**fits.together, **where)
            assert found.vectors.tobytes() == expected.vectors.tobytes(), what
            for name in ("random", "noise", "numbers"):
                np.testing.assert_array_equal(found._members.states[name], expected._members.states[name], what)
            for name in ("loss", "val_loss", "epochs", "status", "best_epoch"):
                np.testing.assert_array_equal(getattr(found.history, name), getattr(expected.history, name), what)
        made.fit(**fits.together)
        expected.fit(**fits.together)
        folder = folder / "further"


@attack(cases=6, share=1)
def test_chunks_of_members_have_the_same_bits(rng):
    """Wherever they train, and also in a further fit."""
    fits = random_fits(rng)
    forced = lanes_by_force() if fits.in_lanes else contextlib.nullcontext()
    try:
        with (
            forced,
            warnings.catch_warnings(),
            tempfile.TemporaryDirectory() as folder,
            pytest.MonkeyPatch.context() as few,
        ):
            warnings.simplefilter("ignore", UserWarning)
            least = int(rng.integers(1, 5))
            few.setattr(ChunkedFit, "_least", lambda fit, which: least)
            few.setattr(cuts, "GROWTH", 1e-3)
            compare_chunks(fits, pathlib.Path(folder))
    except Exception as error:
        raise AssertionError(f"{error!r}: {fits}") from error
