"""How many networks a second are trained where there are a thousand of them, each with a learning rate of its own.

`--table halving` has what `Halving` costs beside the epochs that networks do (`bench/halving.py`), `--table rates` all
that follows here.

Networks of regression have tanh, the quadratic cost and Adam; those of classes sigmoid, softmax, cross-entropy and SGD.
The sides take turns, each in a process of its own: `fastnn.Population`, a loop of `Model.fit`, that of another checkout
(`--against`), whose population is `--side population-against`, and other packages, in the fastest of the ways that
`bench/population_sides.py` tries. "one order": all networks see the samples in the same order, each epoch another.
First the losses that the networks end with are compared, in the median: those of fastnn's sides from the same seeds,
those of the loop and of other packages from the same weights and orders. scikit-learn's start from others.

A figure is the median of the rounds, a ratio that of the rounds' ratios: how many times as fast the first side is. With
several threads the last column is the first side with one.

With `--cpu` a second is one of CPU time. Then "engine" is a side too: the compiled calls of the population alone,
without what makes networks and checks arguments.
"""

import contextlib
import itertools
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import fastnn

from . import cases
from .children import Child
from .halving import print_halving
from .machine import print_host
from .markdown import Table, printed
from .population_sides import SIDES, STARTS, Many, Task
from .timing import in_turn, medians, ratios

ROUNDS = 3
CASES = (
    Many((8, 16, 1), 32, 1000, 10),
    Many((8, 16, 1), 8, 1000, 1),
    Many((8, 16, 1), 1, 1000, 1),
    Many((64, 32, 10), 32, 1797, 5),
    Many((64, 32, 10), 200, 1797, 5),
    Many((4, 8, 1), 32, 100, 20),
    Many((13, 32, 32, 1), 32, 500, 5),
    Many((30, 64, 2), 32, 569, 5),
    Many((784, 30, 10), 32, 1000, 2),
)
HALVED = CASES[0], CASES[3]  # of which halving is measured
MEMBERS, QUICK_MEMBERS = 1000, 6
DIGITS = 64, 1797  # inputs and samples of the data set
TARGETS = {  # how many times as fast as JAX
    "8-16-1 b32": 3.5,
    "8-16-1 b8": 6,
    "8-16-1 b1": 6,
    "64-32-10 b32": 2.4,
}
TOLERANCE = 1e-3
THERE = "against", "population-against"  # sides of another checkout, of which older ones have no Population
ALONE = "alone"  # the first side with one thread, where the others have several
LABELS = {
    "population": "Population",
    "engine": "its engine",
    "loop": "Model.fit",
    "against": "the other's",
    "population-against": "the other's Population",
    "jax": "JAX",
    "jax-one-order": "one order",
    "torch": "torch",
    "torch-one-order": "one order",
    "sklearn": "scikit-learn",
    ALONE: "one thread",
}


def samples(case):
    """(X, y): float32 (n, n_in) and targets (n, 1), or class indices (n,). The digits where a case has their shape."""
    n, n_in, rng = case.n_samples, case.sizes[0], np.random.default_rng(0)
    if (n_in, n) == DIGITS:
        return fastnn.load_digits()
    if case.regression:
        X = rng.standard_normal((n, n_in)).astype(np.float32)
        return X, (np.sin(X[:, :1] * 2) + X[:, 1:2] * X[:, 2:3] * 0.5).astype(np.float32)
    X = rng.random((n, n_in), dtype=np.float32)
    return X, ((X - 0.5) @ rng.standard_normal((n_in, case.sizes[-1]))).argmax(1)


def available(options):
    """The sides that can be measured here; names the others."""
    found = []
    for side in options.side:
        package = SIDES[side].package
        if find_spec(package) is None:
            print(f"{side}: skipped, {package} is not installed")
        elif side == "population" and not hasattr(fastnn, "Population"):
            print(f"{side}: skipped, fastnn has no Population")
        elif (options.against or side not in THERE) and (options.cpu or side != "engine"):
            found.append(side)
    return found


def agree(losses):
    """The largest relative difference of the medians of losses, {side: array}; raises ArithmeticError above TOLERANCE.

    As many networks are compared as each side has.
    """
    worst = 0.0
    for (one, x), (other, y) in itertools.combinations(losses.items(), 2):
        n = min(len(x), len(y))
        a, b = float(np.median(x[:n])), float(np.median(y[:n]))
        apart = abs(a - b) / abs(b)
        if not apart <= TOLERANCE:
            raise ArithmeticError(f"{one} and {other} disagree: their median losses are {a:.6g} and {b:.6g}")
        worst = max(worst, apart)
    return worst


def check(children, folder):
    """Compare what the sides end with, from each kind of starts; gives the largest difference."""
    worst = 0.0
    for starts in STARTS:
        losses = {}
        for side, child in children.items():
            if side != ALONE and starts in SIDES[side].checked:
                file = folder / f"{side}.npy"
                child.ask("check", starts, file)
                losses[side] = np.load(file)
        worst = max(worst, agree(losses))
    return worst


def measure(case, sides, options):
    """({side: networks a second in each round}, {side: its variant}, the largest difference of median losses)."""
    case, members = (case.little(), QUICK_MEMBERS) if options.quick else (case, options.members)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        Task(case, members, *samples(case)).write(folder)
        children = {}
        threads = dict.fromkeys(sides, options.threads) | ({ALONE: 1} if options.threads > 1 else {})
        for side, count in threads.items():  # one after another: a peer that tries its variants is alone
            checkout = [options.against.resolve()] if side in THERE else []
            kind = sides[0] if side == ALONE else side
            children[side] = Child(["bench.population_sides", kind, folder, count, *checkout], count)
            stack.callback(children[side].close)
            children[side].variant = children[side].ask("describe")["variant"]
        apart = check(children, folder)
        clock = "cpu" if options.cpu else "wall"
        for child in children.values():
            child.ask("run", clock)  # touches everything once
        turns = {side: lambda child=child: child.ask("run", clock)["rate"] for side, child in children.items()}
        found = in_turn(turns, options.rounds)
        return found, {side: child.variant for side, child in children.items()}, apart


def print_rates(options):
    """Print a line for each case: networks a second, and in brackets how many times as fast the first side is."""
    if options.cpu and options.threads > 1:
        sys.exit("--cpu is for one thread")
    sides = available(options)
    members, second = QUICK_MEMBERS if options.quick else options.members, "s of CPU time" if options.cpu else "s"
    shown = [*sides, *([ALONE] if options.threads > 1 else [])]
    table = Table(
        "population-cpu" if options.cpu else "population-threads" if options.threads > 1 else "populations",
        *("network, batch, epochs", *(LABELS[side] for side in shown), "losses apart"),
        title=f"networks/{second}, {members} networks, threads: {options.threads}",
    )
    for case in cases.chosen(options.case, CASES):
        found, variants, apart = measure(case, sides, options)
        ratio, cells = ratios(found), []
        for side, rate in medians(found).items():
            target = f", target {TARGETS[case.name]}" if side == "jax" and case.name in TARGETS else ""
            cells.append(f"{rate:,.0f}" if side == sides[0] else f"{rate:,.0f} ({1 / ratio[side]:.2f}{target})")
        table.add(f"{case.name}, {case.epochs}", *cells, f"{apart:.0e}")
        for side, each in variants.items():
            if each:
                print(f"    {LABELS[side]}: {', '.join(map(str, each.values()))}", flush=True)


def print_halved(options):
    """Print what halving costs."""
    print_halving(cases.chosen(options.case, HALVED), samples, options)


DEFAULT = [side for side in SIDES if side != "population-against"]
TABLES = {"rates": print_rates, "halving": print_halved}
OPTIONS = {
    "--table": {
        "nargs": "+",
        "choices": TABLES,
        "default": ["rates"],
        "help": f"of {', '.join(TABLES)} (default rates)",
    },
    "--case": cases.case_option(CASES),
    "--side": {
        "nargs": "+",
        "choices": SIDES,
        "default": DEFAULT,
        "help": f"of {', '.join(SIDES)} (default {', '.join(DEFAULT)})",
    },
    "--against": {"type": Path, "metavar": "PATH", "help": "a checkout of another commit, whose loop is a side too"},
    "--threads": {"type": cases.count, "default": 1, "help": "threads of every side (default 1)"},
    "--cpu": {"action": "store_true", "help": "by CPU time, with the population's engine as a side; for one thread"},
    "--members": {"type": cases.count, "default": MEMBERS, "help": "networks (default %(default)s)"},
}

FIGURES = printed("populations", "population-threads", "population-cpu", "halving")


def run(options):
    """Print the tables."""
    packages = {"jax": "jax", "torch": "torch", "scikit-learn": "sklearn"}
    print_host([name for name, module in packages.items() if find_spec(module)])
    for name in options.table:
        TABLES[name](options)
