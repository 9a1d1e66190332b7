"""What the tests share: which cases run by default, and fixtures."""

import contextlib
import itertools
import os
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest

from . import covering

os.environ.setdefault("MPLBACKEND", "Agg")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def no_programs_of_other_tests():
    """Networks of one architecture share programs, but these know what a test has changed by monkeypatch."""
    from fastnn.network import network

    network._shared_programs.cache_clear()


@pytest.hookimpl(tryfirst=True)  # before `-m` looks at the marks
def pytest_collection_modifyitems(config, items):
    """Mark the cases that do not run by default. FASTNN_SLOW_PART, such as 2/10, leaves a part of the slow ones."""
    for item, marks in covering.marked(items):
        for mark in marks:
            item.add_marker(mark)
    part = os.environ.get("FASTNN_SLOW_PART", "1/1")
    kept, others = [], []
    for item in items:
        is_other = item.get_closest_marker("slow") and not covering.in_part(item.nodeid, part)
        (others if is_other else kept).append(item)
    config.hook.pytest_deselected(items=others)
    items[:] = kept


def numbers_of(name):
    """The generators `rng` of the tests' modules give numbers that follow from a name."""
    for of_module, module in list(sys.modules.items()):
        if of_module.startswith("tests.") and isinstance(getattr(module, "rng", None), np.random.Generator):
            module.rng = np.random.default_rng(zlib.crc32(name.encode()))


@pytest.fixture(autouse=True)
def numbers_by_name(request):
    """Each case has numbers that follow from its name alone, not from what ran before."""
    numbers_of(request.node.name)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef, request):
    """And so has what several cases share."""
    if fixturedef.scope != "function":
        numbers_of(f"{fixturedef.argname} {request.param_index}")


@pytest.fixture
def orientation(monkeypatch):
    """A function: compute blocks of several samples "row-major" or "feature-major" in models made from now on.

    "row-major, losses by rows" says that losses of whole samples are not computed column by column. Gives the
    orientation without that.
    """
    from fastnn.kernels.programs import memory
    from fastnn.network import network

    def choose(how):
        chosen, _, by_rows = how.partition(", ")
        network._shared_programs.cache_clear()
        monkeypatch.setattr(network, "ORIENTATION", chosen)
        if by_rows:
            monkeypatch.setattr(memory, "COLUMN_LOSS_VECTORS", 0)
        return chosen

    return choose


@pytest.fixture
def short_calls(monkeypatch):
    """A function: from now on a call of compiled code trains on a block at most."""
    from fastnn.checks import calls

    def shorten(patch=monkeypatch):
        patch.setattr(calls, "FIRST_CALL", 0)
        patch.setattr(calls, "CALL_SECONDS", 0)

    return shorten


@pytest.fixture
def interrupt_after(monkeypatch, short_calls):
    """A function: a context in which so many calls of the compiled training end, and then Ctrl-C ends the fit in it.

    A call trains on a block at most; the first one of a new plan on none. `then` is called after each. `name` is the
    compiled function: "train_members" is that of populations, of which only calls in the main thread count.
    """
    from fastnn.kernels.running import entry

    @contextlib.contextmanager
    def interrupt(count, then=lambda: None, name="train"):
        train, ended = getattr(entry, name), itertools.count(1)

        def interrupted(*arguments):
            result = train(*arguments)
            if threading.current_thread() is not threading.main_thread():
                return result
            then()
            if next(ended) == count:
                raise KeyboardInterrupt
            return result

        with monkeypatch.context() as patch:
            short_calls(patch)
            patch.setattr(entry, name, interrupted)
            with pytest.raises(KeyboardInterrupt):
                yield

    return interrupt


@pytest.fixture(scope="session")
def padding():
    """A function: the parts of model.parameters that belong to no weight and no bias."""

    def of(model):
        mine = np.zeros(model.parameters.size, bool)
        start = model.parameters.__array_interface__["data"][0]
        for view in (*model.weights, *model.biases):
            places = (view.__array_interface__["data"][0] - start) // view.itemsize
            for length, stride in zip(view.shape, view.strides, strict=True):
                places = np.add.outer(places, np.arange(length) * (stride // view.itemsize))
            mine[places.ravel()] = True
        assert mine.sum() == model.n_parameters
        return model.parameters[~mine]

    return of


@pytest.fixture(scope="session")
def state():
    """A function: everything that training may change in a model, to compare before and after."""

    def of(model):
        return model.parameters.tobytes(), model._network.state.tobytes(), model.history, model.frozen, repr(model)

    return of


@pytest.fixture
def run_python(tmp_path):
    """A function: run source in a new interpreter that imports the package from `path`, in a folder with nothing to
    import; returns the finished process."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def run(source, *arguments, check=True, path=ROOT, **environment):
        env = os.environ | {"PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"}
        env |= {name: str(value) for name, value in environment.items()}
        command = [sys.executable, "-W", "error", "-c", source, *map(str, arguments)]
        done = subprocess.run(command, env=env, cwd=elsewhere, capture_output=True, text=True, timeout=900)
        if check:
            assert done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def blobs():
    """A small classification problem: X (300, 6) float32, y (300,) of 3 classes."""
    rng = np.random.default_rng(7)
    y = rng.integers(0, 3, 300)
    X = rng.normal(size=(300, 6)) + np.eye(6)[y] * 2
    return X.astype(np.float32), y
