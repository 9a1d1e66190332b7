"""The command line."""

import os

import pytest

from fastnn import cli
from fastnn.kernels.running import entry
from fastnn.kernels.vector import cache, library
from fastnn.kernels.vector.matrix import grouped

from ..cases import DTYPES

WARMUP = "import runpy, sys; sys.argv = ['fastnn', 'warmup']; runpy.run_module('fastnn', run_name='__main__')"

# Whatever a process may do that compiles: each way to compute a batch, with each activation and optimizer, on one
# thread and on two, from floats and from bytes, in blocks and in steps; and each way to use the model.
EVERYTHING = """
import itertools, sys
import numpy as np
from numba.core import dispatcher
import fastnn
from fastnn.network import network, threads
from fastnn.kernels.vector import library; from fastnn.kernels.programs import strategy

def compile(*_):
    raise AssertionError("compiling")

dispatcher._FunctionCompiler.compile = library.Library.module = compile
threads.available_threads, threads.FIT_MULTIPLY_ADDS, threads.PARALLEL_MULTIPLY_ADDS = lambda: 2, 0, 0
strategy.THREAD_MULTIPLY_ADDS = 1
rng = np.random.default_rng(0)
optimizers = fastnn.SGD(), fastnn.Momentum(), fastnn.Momentum(nesterov=True), fastnn.Adam(), \
    fastnn.Adam(epsilon_hat=True)
kinds = (
    *(([9, 40, 3], batch_size, strategy.ROW_MAJOR) for batch_size in (1, 7)),
    *(([100, 90, 47], batch_size, strategy.ROW_MAJOR) for batch_size in (32, 1500)),
    *(([4, 10, 3], batch_size, strategy.FEATURE_MAJOR) for batch_size in (256, 1500)),
)
for dtype, activation in itertools.product(("float32", "float64"), ("sigmoid", "tanh", "relu", "identity")):
    for (sizes, batch_size, how), optimizer in itertools.product(kinds, optimizers):
        network.ORIENTATION = how
        network._shared_programs.cache_clear()
        X, y = rng.random((1600, sizes[0])).astype(dtype), rng.integers(0, sizes[-1], 1600)
        model = fastnn.Model(sizes, activation=activation, dtype=dtype, input_scale=0.5, rng=0)
        assert strategy.choose(model._network.layout, batch_size) == (how if batch_size > 1 else strategy.SINGLE)
        for count in (1, 2):
            model.fit(X, y, epochs=1, batch_size=batch_size, optimizer=optimizer, threads=count)
        assert max(plan.threads for plan in model._network.plans) == (2 if batch_size > 1 else 1)
    for inputs in (X, (255 * X).astype(np.uint8)):
        for targets in (y, fastnn.one_hot(y, sizes[-1]).astype(dtype)):
            model.fit(inputs, targets, epochs=1, batch_size=50, validation_data=(inputs, targets), shuffle=False)
            model.partial_fit(inputs[:50], targets[:50])
            model.evaluate(inputs, targets), model.gradients(inputs, targets)
        for rows in (1, 3, 1600):
            model.predict(inputs[:rows]), model.classify(inputs[:rows], threads=1)
    for hidden in (sizes[1], 2):  # the second one in lanes
        population = fastnn.Population([sizes[0], hidden, sizes[-1]], 3, dtype=dtype, rng=0)
        population.fit(X, y, epochs=1, batch_size=50, validation_fraction=0.1, threads=2)
        population.predict(X)
    for inputs in (X, (255 * X).astype(np.uint8)):
        for rows in (1, 50):
            outputs = model.forward(inputs[:rows])
            model.backward(inputs[:rows], outputs, inputs=True), model.backward(inputs[:rows], outputs)
            model.step(inputs[:rows], outputs, optimizer=fastnn.Adam()), model.step(inputs[:rows], outputs)
    model.blend(fastnn.Model(sizes, activation=activation, dtype=dtype), 0.1)
    for key in (np.arange(1600) % 9, np.arange(1600) // 200):
        frame = {"key": key, "x": X[:, 0], "y": X[:, 1].astype(float)}
        groups = fastnn.fit_groups(frame, by="key", target="y", epochs=1, dtype=dtype, rng=0)
        groups.predict(frame), groups[1].predict(X[:, :1])
print("done")
"""


@pytest.fixture
def warm(tmp_path, run_python):
    """The folder that `python -m fastnn warmup` has filled, and what that printed."""
    folder = tmp_path / "cache"
    return folder, run_python(WARMUP, FASTNN_CACHE_DIR=folder).stdout


@pytest.mark.slow
def test_a_process_after_warmup_compiles_nothing(warm, run_python):
    folder, printed = warm
    files = sorted(os.listdir(folder))
    assert run_python(EVERYTHING, FASTNN_CACHE_DIR=folder).stdout == "done\n"
    assert sorted(os.listdir(folder)) == files
    of_dtype = {dtype: {*library.names_for(dtype), *library.names_for(grouped(dtype))} for dtype in DTYPES}
    (vector_functions,) = {frozenset(names) for names in of_dtype.values()}
    entries = {name for name, f in vars(entry).items() if isinstance(getattr(f, "_cache", None), cache.KernelCache)}
    assert {name.rsplit("-", 1)[0] for name in files} == vector_functions | entries | {"predict_rows"}
    for line, dtype in zip(printed.splitlines(), ("float32", "float64"), strict=False):
        n = len(library.names_for(dtype)) + len(library.names_for(grouped(dtype)))
        assert line.startswith(f"{dtype}: {n} vector functions")
    assert printed.splitlines()[-1] == f"kernels are kept in {folder}"


def test_without_warmup_it_would_compile(tmp_path, run_python):
    """The check of the test above is one that can fail."""
    done = run_python(EVERYTHING, check=False, FASTNN_CACHE_DIR=tmp_path / "cache")
    assert "AssertionError: compiling" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "dtypes"),
    [
        ([], ["float32", "float64"]),
        (["--dtype", "float64"], ["float64"]),
        (["--dtype", "float64", "--dtype", "float32"], ["float64", "float32"]),
    ],
)
def test_which_dtypes(arguments, dtypes, monkeypatch):
    warmed = []
    monkeypatch.setattr(cli, "warmup", warmed.extend)
    cli.main(["warmup", *arguments])
    assert warmed == dtypes


def test_warmup_without_a_folder_says_so(monkeypatch, capsys):
    monkeypatch.setattr(cache.CodeFiles, "folder", None)
    cli.warmup([])
    assert capsys.readouterr().out.startswith("kernels are kept in no folder")


def test_a_command_is_needed(capsys):
    with pytest.raises(SystemExit):
        cli.main([])
    assert "warmup" in capsys.readouterr().err


def test_the_module_is_the_command(run_python):
    source = "import runpy, sys; sys.argv = ['fastnn', '--help']; runpy.run_module('fastnn', run_name='__main__')"
    assert "python -m fastnn" in run_python(source).stdout
