"""What each activation, loss, optimizer and rule costs in training, and a whole recipe beside PyTorch and JAX.

Everything runs in this process on one CPU. In turn a `fit` of about 0.1 s of the plain network (sigmoid, quadratic
loss, SGD), then one of the variant; a figure is the ratio of their time for a sample. The recipe is relu, softmax,
cross-entropy and Adam, an epoch a turn. The embedding is a table of 10 numbers and 3 codes of 50, 200 and 1,000
categories, 64 and 64 relu neurons and Adam, an epoch a turn; both must predict the same after one in the same order.

`--against PATH` has another table alone: the cases of `python -m bench`, here and in a checkout of another commit, in
turn, each in a process of its own. Before they are timed both must end with the same weights.
"""

import os
import sys
from pathlib import Path

import numpy as np

import fastnn
from fastnn import Dense
from fastnn.kernels.formulas import loss_functions
from fastnn.settings import optimizers
from fastnn.settings.layers import HIDDEN

from . import cases, children
from .machine import cpus, environment, load, print_host
from .markdown import Table, printed
from .sides import TOLERANCE, jax_recipe, torch_step, torch_tables
from .timing import in_turn, medians, ratios, repeats, seconds

ROUNDS = 5
NETWORKS = "784-100-10 b32", "8-64-64-4 b64"
RECIPE = cases.Case((784, 128, 64, 10), 128, 20_480)
SAMPLES, QUICK_SAMPLES = 20_000, 1000
SECONDS, QUICK_SECONDS = 0.1, 0.001
N_NUMBERS, CATEGORIES, TABLE_BATCH = 10, (50, 200, 1000), 64
TARGETS = {"activation": 1.5, "loss": 1.5, "optimizer": 1.3, "rule": "-", "input": "-"}
KINDS = [*TARGETS, "recipe", "embedding"]
OPTIONS = {
    "--case": cases.case_option() | {"help": f"networks (default {', '.join(NETWORKS)})"},
    "--kind": {"nargs": "+", "choices": KINDS, "default": KINDS, "help": "what varies"},
    "--against": {"type": Path, "metavar": "PATH", "help": "a checkout of another commit, to train the same in"},
}
# Activations of the output for losses that do not go with a sigmoid.
OUTPUTS = {"poisson": "exp", "hinge": "identity", "gaussian": "identity"}
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
    found["input", "uint8"] = {"input_scale": 1 / 255}, {}
    found["input", "float64"] = {"stored": "float64"}, {}
    for dtype in ("float32", "float64", "uint8"):
        found["input", f"{dtype}_shifted"] = {"stored": dtype, "shifted": True}, {}
    return found


def loaded(X, model_options):
    """(X as it is stored, arguments of Model): of rows in [0, 1], which get a shift and a scale each if asked for."""
    options = dict(model_options)
    dtype = options.pop("stored", "uint8" if "input_scale" in options else "float32")
    X = (X * 255).astype(np.uint8) if dtype == "uint8" else X.astype(dtype)
    if options.pop("shifted", False):
        options["input_shift"], options["input_scale"] = fastnn.standardize(X)
    return X, options


def fit(case, model_options, fit_options):
    """fit(epochs) of a network in training, which gives its seconds."""
    X, labels = cases.data(case)
    per_target = 2 if model_options.get("loss") == "gaussian" else 1
    X, model_options = loaded(X, model_options)
    model = fastnn.Model([*case.sizes[:-1], per_target * case.sizes[-1]], rng=0, **model_options)
    y = labels.astype(np.int64)
    if model.layers[-1].activation in ("exp", "identity"):
        y = np.eye(case.sizes[-1], dtype=np.float32)[labels]
    options = {"batch_size": case.batch_size, "optimizer": fastnn.SGD(RATE), "threads": 1} | fit_options
    return lambda epochs: seconds(lambda: model.fit(X, y, epochs=epochs, **options))


def turn(case, model_options, fit_options, total):
    """A turn of a network: about so many seconds of training, of which it gives the seconds of a sample."""
    run = fit(case, model_options, fit_options)
    run(1)  # writes the programs
    epochs = repeats(run, total)
    return lambda: run(epochs) / (epochs * case.n_samples)


def table(networks, kinds, rounds, total):
    """Print what each part of training costs in each of the networks."""
    shown = Table(
        {("input",): "inputs", ("optimizer",): "optimizers"}.get(tuple(kinds), "rules"),
        *("what", *(f"{case.name}: ratio, ns" for case in networks), "at most"),
        title="Time beside sigmoid, quadratic, SGD: the ratio, and nanoseconds a sample",
    )
    plain = [turn(case, {}, {}, total) for case in networks]
    for (kind, name), arguments in variants().items():
        if kind not in kinds:
            continue
        cells = []
        for case, other in zip(networks, plain, strict=True):
            times = in_turn({"plain": other, "variant": turn(case, *arguments, total)}, rounds)
            cells.append(f"{ratios(times)['variant']:.2f}, {medians(times)['variant'] * 1e9:,.0f}")
        shown.add(f"{kind} {name}", *cells, TARGETS[kind])


# ---- the recipe: relu, softmax, cross-entropy, Adam ----


def fastnn_epoch(case):
    """A function that trains an epoch in fastnn."""
    X, labels = cases.data(case)
    layers = [case.sizes[0], *(Dense(n, "relu") for n in case.sizes[1:-1]), Dense(case.sizes[-1], "softmax")]
    model = fastnn.Model(layers, loss="cross_entropy", rng=0)
    y, options = labels.astype(np.int64), {"batch_size": case.batch_size, "optimizer": "adam", "threads": 1}
    return lambda: model.fit(X, y, epochs=1, **options)


def torch_epoch(case):
    """A function that trains an epoch in PyTorch."""
    import torch

    torch.set_num_threads(1)
    X, labels = (torch.from_numpy(a) for a in cases.data(case))
    labels, step = labels.long(), torch_step(case.sizes)

    def epoch():
        for rows in torch.randperm(len(X)).split(case.batch_size):
            step(X[rows], labels[rows])

    return epoch


def jax_epoch(case):
    """A function that trains an epoch in JAX."""
    state, run, *_ = jax_recipe(*cases.data(case), case.sizes)
    rng, rates = np.random.default_rng(0), np.full(case.n_samples // case.batch_size, 0.001)

    def epoch():
        nonlocal state
        state = run(state, rng.permutation(case.n_samples).reshape(-1, case.batch_size), rates)

    return epoch


EPOCHS = {"fastnn": fastnn_epoch, "PyTorch": torch_epoch, "JAX": jax_epoch}


def recipe(case, rounds):
    """{package: seconds of an epoch in each round} of those that are installed."""
    turns = {}
    for name, make in EPOCHS.items():
        try:
            epoch = make(case)
        except ImportError:
            print(f"{name} is not installed: it is in the extra bench")
            continue
        epoch()  # compiles what it needs
        turns[name] = lambda epoch=epoch: seconds(epoch)
    return in_turn(turns, rounds)


# ---- a table with categories ----


def categorical(n):
    """(X, y): numbers and codes side by side, float32 (n, n_inputs), and targets (n, 1)."""
    rng = np.random.default_rng(0)
    numbers, codes = rng.standard_normal((n, N_NUMBERS)), rng.integers(0, CATEGORIES, (n, len(CATEGORIES)))
    y = numbers[:, :1] + sum(rng.standard_normal((k, 1))[codes[:, i]] for i, k in enumerate(CATEGORIES))
    return np.hstack([numbers, codes]).astype(np.float32), y.astype(np.float32)


def embedding(n, rounds):
    """{package: seconds of an epoch in each round} for a table of n rows; raises where they do not learn the same."""
    X, y = categorical(n)
    columns, options = range(N_NUMBERS, X.shape[1]), {"batch_size": TABLE_BATCH, "optimizer": "adam", "threads": 1}
    layers = [X.shape[1], fastnn.Embedding(columns, CATEGORIES), Dense(64, "relu"), Dense(64, "relu")]
    model = fastnn.Model([*layers, Dense(1, "identity")], rng=0)
    turns = {"fastnn": lambda: seconds(lambda: model.fit(X, y, epochs=1, **options))}
    try:
        import torch
    except ImportError:
        print("PyTorch is not installed: it is in the extra bench")
        return in_turn(turns, rounds)
    torch.set_num_threads(1)
    step, predict = torch_tables(model)
    numbers, codes = torch.from_numpy(X[:, :N_NUMBERS].copy()), torch.from_numpy(X[:, N_NUMBERS:].astype(np.int64))
    targets = torch.from_numpy(y)

    def epoch(order):
        for rows in order.split(TABLE_BATCH):
            step(numbers[rows], codes[rows], targets[rows])

    few = min(n, 10 * TABLE_BATCH)
    model.fit(X[:few], y[:few], epochs=1, shuffle=False, **options)
    epoch(torch.arange(few))
    np.testing.assert_allclose(model.predict(X), predict(numbers, codes).detach().numpy(), **TOLERANCE)
    turns["PyTorch"] = lambda: seconds(lambda: epoch(torch.randperm(n)))
    return in_turn(turns, rounds)


FIGURES = printed("rules", "inputs", "optimizers", "recipe", "embedding")


# ---- another commit ----


def print_against(options):
    """Print samples a second here and in another checkout, and how many times as long it takes there."""
    checkout, sides = options.against.resolve(), ["fastnn", children.AGAINST]
    samples, total = sys.maxsize, children.ROUND_SECONDS
    if options.quick:
        samples, total = children.QUICK_SAMPLES, children.QUICK_SECONDS
    print(f"\nsamples/s, one thread, here and in {checkout}\n")
    print(f"{'':22}{'here':>14}{'there':>14}{'ratio':>8}{'max diff':>10}{'load':>6}", flush=True)
    for case in cases.chosen(options.case):
        found = children.measure(case.cut(samples), sides, 1, options.rounds, total, checkout)
        rates = "".join(f"{rate:14,.0f}" for rate in found["samples_per_second"].values())
        ratio = found["ratio"][children.AGAINST]
        print(f"{case.name:22}{rates}{ratio:8.2f}{found['max_difference']:10.1g}{load():6.1f}", flush=True)


def run(options):
    """Print both tables, or that of another commit."""
    if options.against:
        print_host()
        print_against(options)
        return
    samples, total = (QUICK_SAMPLES, QUICK_SECONDS) if options.quick else (SAMPLES, SECONDS)
    flags = {} if "XLA_FLAGS" in os.environ else {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}
    with environment(**flags), cpus(1):
        print_host()
        table(
            [case.cut(samples) for case in cases.chosen(options.case or NETWORKS)], options.kind, options.rounds, total
        )
        if "recipe" in options.kind:
            case = RECIPE.cut(10 * RECIPE.batch_size) if options.quick else RECIPE
            what = f"{case.name}, relu, softmax, cross-entropy, Adam"
            print_times("recipe", what, case.n_samples, recipe(case, options.rounds))
        if "embedding" in options.kind:
            what = f"10 numbers and codes of {CATEGORIES}, 64-64-1 b{TABLE_BATCH}, relu, Adam"
            print_times("embedding", what, samples, embedding(samples, options.rounds))


def print_times(block, what, n, times):
    """Print the samples a second of a network, and how many times as long as fastnn others take."""
    table, ratio = Table(block, "package", "samples/s", "times as long", title=what), ratios(times)
    for name, seconds_of in medians(times).items():
        table.add(name, f"{n / seconds_of:,.0f}", f"{ratio[name]:.2f}")
