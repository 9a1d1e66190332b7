"""Populations with wrong arguments: a clear error, and members that are as they were."""

import copy
import inspect
import itertools
import re
import warnings

import numpy as np
import pytest

from fastnn import Halving, Model, Momentum, Patience, Population, fit_groups

from .test_bad_calls import ALLOWED, endless, holds_functions
from .values import MADE, NAMED, MineError, Value

X, Y = np.random.default_rng(0).normal(size=(12, 4)), np.random.default_rng(1).normal(size=(12, 2))
POPULATION = Population([4, 5, 2], 3, output="identity", rng=0)
POPULATION.fit(X, Y, epochs=1, batch_size=5, optimizer=Momentum(0.01))
FRAME = {"key": np.arange(12) % 3, "x": X[:, 0], "y": X[:, 1]}
GROUPS = fit_groups(FRAME, by="key", target="y", epochs=1)
# Arguments that are right, by function.
METHODS = {
    "fit": {"X": X, "y": Y, "epochs": 2, "batch_size": 5},
    "predict": {"X": X},
    "predict_each": {"X": np.ones((3, 2, 4))},
    "evaluate": {"X": X, "y": Y},
    "replace": {"losers": [0], "winners": [1]},
    "forward": {"X": X},
    "backward": {"X": X, "dA": Y},
    "step": {"X": X, "dA": Y},
    "jacobian": {"X": X},
    "jvp": {"X": X, "V": X},
    "hessian": {"X": X},
    "blend": {"others": POPULATION, "tau": 0.5},
    "best": {},
    "save": {"path": "new"},
}
FUNCTIONS = {
    "Population": (Population, {"sizes_or_layers": [4, 3], "n": 2}),
    "Patience": (Patience, {}),
    "Halving": (Halving, {}),
    "concatenate": (Population.concatenate, {"populations": [POPULATION]}),
    "fit_groups": (fit_groups, {"frame": FRAME, "by": "key", "target": "y", "epochs": 1}),
    "predict of groups": (GROUPS.predict, {"frame": FRAME}),
    "predict of a group": (GROUPS[1].predict, {"X": X[:, :1]}),
    "save of groups": (GROUPS.save, {"path": "groups"}),
    "from_models": (Population.from_models, {"models": [Model([3, 1])]}),
}
OTHER_NAMES = "sizes", "member", "keys"  # as messages may call an argument


def snapshot(population):
    """All that a call may change."""
    return population.vectors.tobytes(), population._members.states.tobytes(), repr(population.history)


def try_call(name, argument, value):
    """Call a function with one wrong value; gives what is wrong with its error, or ""."""
    population, of_class = copy.copy(POPULATION), name in FUNCTIONS
    call, right = FUNCTIONS[name] if of_class else (getattr(population, name), METHODS[name])
    before = snapshot(population)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", UserWarning)  # advice
            call(**right | {argument: value})
    except ALLOWED as error:
        if argument == "dropout" and holds_functions(value):  # it is called when the fit has begun
            return ""
        if snapshot(population) != before:
            return f"members changed before {error!r}"
        if isinstance(error, (MemoryError, MineError)) or getattr(error, "filename", None) or argument == "metric":
            return ""
        names = [*inspect.signature(call).parameters, *OTHER_NAMES]
        return "" if any(re.search(rf"\b{each}\b", str(error)) for each in names) else f"no argument in {error!r}"
    return ""


@pytest.mark.slow
@pytest.mark.parametrize("name", [*METHODS, *FUNCTIONS])
def test_every_value_as_every_argument(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    function = FUNCTIONS[name][0] if name in FUNCTIONS else getattr(Population, name)
    arguments = [each for each in inspect.signature(function).parameters if each != "self"]
    found = []
    for argument, value in itertools.product(arguments, (*NAMED, *MADE)):
        made = Value(value).make()
        large = argument == "n" and isinstance(made, (int, np.integer)) and made > 1000
        if not (large or endless(argument, made)) and (wrong := try_call(name, argument, made)):
            found.append((argument, value, wrong))
    assert found == []


def test_more_members_than_memory_can_hold():
    with pytest.raises(ValueError, match="n must be at most 1099511627776, got 18446744073709551616"):
        Population([4, 3], 2**64)
    with pytest.raises(MemoryError):
        Population([4, 3], 2**40)
