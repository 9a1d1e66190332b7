"""A process that saves over a file is killed at a random moment: the file is one of those that were saved."""

import os
import signal
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

import fastnn
from fastnn import Model

from .helpers import attack, chance, pick, run_child


def version(model, number):
    """Make the model one of which every parameter says the version."""
    for array in (*model.weights, *model.biases):
        array[...] = number


def save_for_ever(model, path, ready):
    """Save version after version, until the process is killed."""
    for number in range(1, 2**24):
        version(model, number)
        model.save(path)
        if number == 1:
            os.write(ready, b"!")


def kill_saves(seed, rounds):
    """In a process of its own: children that save are killed."""
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            sizes = pick(rng, [[3, 2], [50, 40, 10], [300, 300, 10], [1000, 1000]])
            path = Path(folder, str(number), "model")
            path.parent.mkdir()
            if chance(rng, 0.2):
                path = path.with_name("x" * int(rng.integers(200, 240)))
            model = Model(sizes, rng=0)
            reading, writing = os.pipe()
            child = os.fork()
            if not child:
                try:
                    save_for_ever(model, path, writing)
                finally:
                    os._exit(1)
            os.close(writing)
            started = os.read(reading, 1)
            time.sleep(rng.uniform(0, 0.02))
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            os.close(reading)
            assert started == b"!", f"the child failed: {sizes}, {path}"
            assert os.WTERMSIG(status) == signal.SIGKILL
            check_killed(path, sizes, model)
    print(rounds)


def check_killed(path, sizes, model):
    """Raise where the file is no saved version, or the next save does not work."""
    loaded = fastnn.load(path)
    values = {float(value) for array in (*loaded.weights, *loaded.biases) for value in (array.min(), array.max())}
    assert len(values) == 1, f"a mixture of versions: {sizes}"
    assert values.pop() >= 1
    assert loaded.sizes == tuple(sizes)
    left = {*os.listdir(path.parent)} - {path.name}
    assert len(left) <= 1, f"files were left: {left}"
    assert all(name.endswith(".tmp") for name in left)
    version(model, 0)
    model.save(path)
    assert not fastnn.load(path).parameters.any()
    assert {*os.listdir(path.parent)} - {path.name} <= left, "the next save left a file"


CHILD = "import sys; from tests.fuzz.test_saves import kill_saves; kill_saves(*map(int, sys.argv[1:]))"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@attack(cases=1, share=1)
def test_killed_saves(rng):
    """The file always loads, and holds one version; at most a temporary file is left."""
    rounds = 20
    assert run_child(CHILD, int(rng.integers(2**32)), rounds) == f"{rounds}\n"
    return rounds
