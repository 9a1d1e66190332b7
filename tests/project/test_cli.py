"""The command line."""

import base64
import contextlib
import csv
import gzip
import hashlib
import html
import io
import itertools
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
import warnings
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics
from sklearn.exceptions import ConvergenceWarning

import fastnn
from fastnn import cli, warming
from fastnn.cli import commands, failures, html_report, reading, scores, train
from fastnn.cli.commands import main
from fastnn.kernels.running import entry
from fastnn.kernels.running.compiled_loops import CompiledLoop
from fastnn.kernels.vector import cache, library
from fastnn.kernels.vector.matrix import grouped

from ..cases import DTYPES

ROOT = Path(__file__).resolve().parents[2]
# The command, in a process that takes from a folder of compiled code what is there, and keeps it in its own folder too.
# So its folder ends up with the files that it would have compiled, and with no others.
WARMUP = """
import pathlib, runpy, sys
from fastnn.kernels.vector.cache import CodeFiles

read, CodeFiles.read_only = CodeFiles.read, (pathlib.Path(sys.argv[1]),)

def read_and_keep(name, key):
    data = read(name, key)
    if data is not None:
        CodeFiles.write(name, key, data)
    return data

CodeFiles.read = read_and_keep
sys.argv = ["fastnn", "warmup"]
runpy.run_module("fastnn", run_name="__main__")
"""

# Whatever a process may do that compiles: each way to compute a batch, with each activation and optimizer, on one
# thread and on two, from floats and from bytes, in blocks and in steps; and each way to use the model.
EVERYTHING = """
import itertools, sys
import numpy as np
from numba.core import dispatcher
import fastnn
from fastnn.network import network, threads
from fastnn.kernels.vector import library; from fastnn.kernels.programs import strategy
from fastnn.kernels.loops import compiler

def compile(*_):
    raise AssertionError("compiling")

dispatcher._FunctionCompiler.compile = compiler.compiled = library.Library.module = compile
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
    """The folder that `fastnn warmup` has filled, and what that printed."""
    folder = tmp_path / "cache"
    known = cache.CodeFiles.folder or tmp_path / "nothing"
    return folder, run_python(WARMUP, known, FASTNN_CACHE_DIR=folder).stdout


@pytest.mark.slow
def test_a_process_after_warmup_compiles_nothing(warm, run_python):
    folder, printed = warm
    files = sorted(os.listdir(folder))
    assert run_python(EVERYTHING, FASTNN_CACHE_DIR=folder).stdout == "done\n"
    assert sorted(os.listdir(folder)) == files
    of_dtype = {dtype: {*library.names_for(dtype), *library.names_for(grouped(dtype))} for dtype in DTYPES}
    (vector_functions,) = {frozenset(names) for names in of_dtype.values()}
    entries = {"sweep_parallel", *(name for name, f in vars(entry).items() if isinstance(f, CompiledLoop))}
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
    monkeypatch.setattr(warming, "warmup", warmed.extend)
    assert main(["warmup", *arguments]) == 0
    assert warmed == dtypes


def test_warmup_without_a_folder_says_so(monkeypatch, capsys):
    monkeypatch.setattr(cache.CodeFiles, "folder", None)
    warming.warmup([])
    assert capsys.readouterr().out.startswith("kernels are kept in no folder")


# ---- usage ----


def test_help_imports_nothing_heavy(run_python):
    """And says what the commands are; so do a command's help and the version."""
    source = """
import sys
from fastnn.cli.commands import main
for arguments in (["--help"], ["train", "--help"], ["--version"]):
    try:
        main(arguments)
    except SystemExit as end:
        assert end.code == 0
assert not {"numpy", "numba", "pandas", "sklearn", "matplotlib", "safetensors"} & {*sys.modules}
"""
    said = run_python(source).stdout
    assert all(
        name in said
        for name in ("train", "predict", "evaluate", "info", "export", "import", "verify", "warmup", "--target COLUMN")
    )
    assert said.endswith(f"fastnn {fastnn.__version__}\n")


def test_the_page_names_every_option():
    page = (ROOT / "docs" / "how-to" / "command-line.md").read_text()
    (chosen,) = (action for action in commands.parser()._actions if action.dest == "command")
    assert {f"## {name}" for name in chosen.choices} <= {*page.splitlines()}
    for command in chosen.choices.values():
        for action in command._actions:
            assert not action.option_strings or f"{action.option_strings[-1]}" in page, action.option_strings


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "COMMAND"),
        (["train", "houses.csv"], "--target must be given"),
        (["train", "--target", "price"], "DATA must be given"),
        (["train", "houses.csv", "--target", "price", "--cv", "1"], "must be at least 2, or 0 for no"),
        (["train", "houses.csv", "--target", "price", "--hidden", "8,x"], "an integer of at least 1, got 'x'"),
        (["train", "houses.csv", "--target", "price", "--max-time", "0"], "a number above 0, got '0'"),
        (["train", "--report", "houses.csv", "--target", "price"], "must end in .html, got 'houses.csv'"),
        (["train", "houses.csv", "--target", "price", "-o", "houses.csv"], "must end in .safetensors"),
        (["import", "net.pt", "net.safetensors"], "must end in .onnx or .keras or .h5 or .hdf5, got 'net.pt'"),
        (["import", "net.keras", "net.safetensors", "--activation", "softmax"], "--activation is for ONNX files"),
        (["import", "net.onnx", "net.onnx"], "must end in .safetensors, got 'net.onnx'"),
        (["evaluate", "numbers.safetensors", "numbers.csv", "--min", "r2"], "must be a metric and a value"),
        (
            ["evaluate", "numbers.safetensors", "numbers.csv", "--min", "f1=1"],
            "r2, rmse, mae, got 'f1'",
        ),
        (["predict", "numbers.safetensors", "numbers.csv", "--proba"], "needs a model that gives probabilities"),
        (["predict", "numbers.safetensors", "numbers.csv", "-o", "numbers.csv"], "--output must differ from the data"),
        (["predict", "houses.safetensors", "houses.csv", "--interval", "1"], "above 0 and below 1, got '1'"),
        (["predict", "houses.safetensors", "houses.csv", "--interval", "nan"], "above 0 and below 1, got 'nan'"),
        (["predict", "houses.safetensors", "houses.csv", "--interval", "0.5", "--proba"], "not allowed with argument"),
        (["predict", "houses.safetensors", "houses.csv", "--interval", "0.99"], "must be at most 0.987654 with 80"),
        (["predict", "cheap.safetensors", "cheap.csv", "--interval", "0.9"], "holds a TabularClassifier"),
        (["predict", "numbers.safetensors", "numbers.csv", "--interval", "0.9"], "numbers.safetensors holds a Model"),
    ],
)
def test_wrong_usage(arguments, told, folder, capsys):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    try:
        code = main(arguments)
    except SystemExit as end:  # argparse
        code = end.code
    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "")
    assert told in captured.err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


# ---- a folder with tables and models ----

FAST = ("--epochs", "4", "--hidden", "8", "--cv", "2")


def houses(n=80, seed=0):
    """A table whose price follows from its columns, and is cheap below the median."""
    rng = np.random.default_rng(seed)
    area, town = rng.uniform(30, 150, n).round(1), rng.choice(["Rome", "Oslo", "Bern"], n)
    built = np.datetime64("2001-01-01") + rng.integers(0, 5000, n)
    price = 10 * area + np.where(town == "Oslo", 500, 0)
    frame = pd.DataFrame({"area": area, "town": town, "built": built.astype(str), "price": price.round(1) + 0.25})
    frame.loc[3, "area"], frame.loc[5, "town"] = np.nan, None
    return frame


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with houses.csv, cheap.csv and a model of each, and what the training of the second one printed."""
    path = tmp_path_factory.mktemp("trained")
    frame = houses()
    frame.to_csv(path / "houses.csv", index=False)
    cheap = np.where(frame["price"] < frame["price"].median(), "yes", "no")
    frame.drop(columns="price").assign(cheap=cheap).to_csv(path / "cheap.csv", index=False)
    with contextlib.chdir(path):
        for name, target in (("houses", "price"), ("cheap", "cheap")):
            with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
                arguments = [f"{name}.csv", "--target", target, "-o", f"{name}.safetensors", "--report", f"{name}.html"]
                assert main(["train", *arguments, *FAST]) == 0
    frame = frame[["area", "price"]].fillna(50.0)
    frame.to_csv(path / "numbers.csv", index=False)
    model = fastnn.Model([1, 1], output="identity", input_scale=0.01, rng=0)
    model.fit(frame[["area"]], frame["price"] / 1000, epochs=2, batch_size=20)
    model.save(path / "numbers.safetensors")
    return path, out.getvalue(), err.getvalue()


@pytest.fixture
def folder(trained, tmp_path, monkeypatch):
    """A copy of that folder, in which the test runs."""
    path = tmp_path / "copy"
    shutil.copytree(trained[0], path)
    monkeypatch.chdir(path)
    return path


@pytest.fixture
def standard_input(monkeypatch):
    """A function: let standard input hold these bytes."""

    def hold(content):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    return hold


def ran(capsys, *arguments):
    """(exit code, standard output, standard error) of a command."""
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


# ---- train ----


@pytest.fixture
def command(tmp_path, run_python):
    """A function: run a command in a process of its own, in an empty folder, `elsewhere`, without a terminal.

    It gives (exit code, standard output, standard error), or with `wait=False` the process.
    """

    def run(*arguments, stdin=None, wait=True):
        how = {
            "cwd": tmp_path / "elsewhere",
            "env": os.environ | {"PYTHONPATH": str(ROOT), "NO_COLOR": "", "TERM": "xterm"},
        }
        words = [sys.executable, "-W", "error", "-m", "fastnn", *arguments]
        if not wait:
            before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
            try:
                return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **how)
            finally:
                signal.signal(signal.SIGINT, before)
        done = subprocess.run(words, input=stdin, capture_output=True, timeout=300, **how)
        assert b"\x1b" not in done.stdout + done.stderr
        assert b"\r" not in done.stdout + done.stderr
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    return run


def test_the_commands_one_after_the_other(tmp_path, command):
    path = tmp_path / "elsewhere"
    houses().to_csv(path / "houses.csv", index=False)
    code, out, err = command("train", "houses.csv", "--target", "price", *FAST)
    assert code == 0
    assert [row["metric"] for row in rows_of(out)] == ["r2", "rmse", "mae"]
    assert err.splitlines() == [
        "fastnn: regression: 'price' is a number, because its numbers are not whole",
        "fastnn: the model is in model.safetensors, the options of the run in model.toml",
    ]
    code, out, _ = command("predict", "model.safetensors", "-", stdin=(path / "houses.csv").read_bytes())
    assert code == 0
    predicted = np.array([float(row["prediction"]) for row in rows_of(out)])
    code, out, _ = command("evaluate", "model.safetensors", "houses.csv", "--max", "mae=0.001", "--json")
    assert code == 4
    error = np.abs(predicted - houses()["price"]).mean()
    np.testing.assert_allclose(json.loads(out)["mae"], error, rtol=1e-12)
    assert command("info", "missing.safetensors")[::2] == (
        3,
        "fastnn: error: there is no file missing.safetensors\n",
    )


@pytest.mark.slow
def test_parquet_and_npy_in_processes(tmp_path, command):
    """From the table of a run in one file, to the same bytes of model and predictions by others."""
    path = tmp_path / "elsewhere"
    frame = houses().assign(built=lambda given: pd.to_datetime(given["built"]), lift=np.arange(80) % 3 == 0)
    frame.to_parquet(path / "houses.parquet")
    frame.iloc[::-1, ::-1].assign(more="x").to_parquet(path / "backwards.parquet")
    code, out, _ = command("train", "houses.parquet", "--target", "lift", *FAST, "--json")
    found = json.loads(out)
    assert (code, found["task"], len(found["scores"]["accuracy"]["folds"])) == (0, "classification", 2)
    before = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").unlink()
    assert command("train", "--config", "model.toml", "--json", "--threads", "2")[:2] == (0, out)
    assert (path / "model.safetensors").read_bytes() == before
    code, out, err = command("predict", "model.safetensors", "houses.parquet", "--proba", "--json")
    assert (code, err) == (0, "")
    model = fastnn.load(path / "model.safetensors")
    assert [row["prediction"] for row in json.loads(out)] == model.predict(frame.drop(columns="lift")).tolist()
    code, again, err = command("predict", "model.safetensors", "backwards.parquet", "--proba", "--json")
    assert (code, err, json.loads(again)[::-1]) == (0, "", json.loads(out))
    assert command("predict", "model.safetensors", "houses.parquet", "--interval", "0.5")[:2] == (2, "")

    table = np.stack([np.arange(80) % 7, np.arange(80) % 5, np.arange(80) % 7 + 0.5], axis=1)
    np.save(path / "table.npy", table)
    np.save(path / "new.npy", table[:4, :2])
    code, out, _ = command("train", "table.npy", "--target", "x2", *FAST, "-o", "array.safetensors")
    assert (code, [row["metric"] for row in rows_of(out)]) == (0, ["r2", "rmse", "mae"])
    code, out, err = command("predict", "array.safetensors", "new.npy", "--interval", "0.9")
    assert (code, err) == (0, "")
    model, X = fastnn.load(path / "array.safetensors"), pd.DataFrame(table[:4, :2], columns=["x0", "x1"])
    expected = np.stack([model.predict(X), *model.predict_interval(X, 0.9)], axis=1)
    np.testing.assert_array_equal([[float(each) for each in row.values()] for row in rows_of(out)], expected)
    code, out, _ = command("info", "array.safetensors", "--json")
    assert (code, list(json.loads(out)["column"])) == (0, ["x0", "x1"])


@pytest.mark.slow
def test_a_process_that_is_interrupted_saves_the_best_epoch(tmp_path, command):
    """SIGINT, as a terminal sends it for Ctrl-C, after some epochs, however fast the machine is."""
    r = np.random.default_rng(0)
    x = r.normal(size=(20_000, 6))
    frame = pd.DataFrame(x, columns=[*"abcdef"]).assign(y=np.sin(x).sum(axis=1) + r.normal(size=len(x)))
    frame.to_csv(tmp_path / "elsewhere" / "waves.csv", index=False)
    saved = tmp_path / "elsewhere" / "model.safetensors"
    for seconds in (4, 16, 64):
        process = command("train", "waves.csv", "--target", "y", "--hidden", "256,256,256", wait=False)
        assert process.stderr.readline().startswith(b"fastnn: regression: ")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
        assert (process.returncode, out) == (130, b"")
        if saved.exists():
            break
        assert err.decode() == "fastnn: stopped before the first epoch had ended; nothing is saved\n"
    assert err.decode() == "fastnn: stopped; the best epoch so far is in model.safetensors\n"
    assert command("evaluate", "model.safetensors", "waves.csv", "--target", "y", "--min", "r2=0.1")[0] == 0


def test_what_train_prints(trained):
    """Scores by fold with their mean and standard deviation, on standard output; all else on standard error."""
    _, out, err = trained
    rows = {row.pop("metric"): row for row in rows_of(out)}
    assert [*rows] == ["accuracy", "balanced_accuracy", "log_loss", "auc"]
    for row in rows.values():
        folds = [float(row["fold 1"]), float(row["fold 2"])]
        np.testing.assert_allclose(float(row["mean"]), sum(folds) / 2)
        np.testing.assert_allclose(float(row["std"]), abs(folds[0] - folds[1]) / 2**0.5)
    assert err.splitlines() == [
        "fastnn: classification: 'cheap' has 2 classes, because it is no number",
        "fastnn: the model is in cheap.safetensors, the options of the run in cheap.toml",
        "fastnn: the report is in cheap.html",
    ]


def test_the_file_of_a_run(folder):
    found = tomllib.loads((folder / "cheap.toml").read_text())
    assert found.pop("sha256") == hashlib.sha256((folder / "cheap.csv").read_bytes()).hexdigest()
    assert found == {
        "version": fastnn.__version__,
        "data": "cheap.csv",
        "target": "cheap",
        "task": "classification",
        "output": "cheap.safetensors",
        "report": "cheap.html",
        "hidden": [8],
        "epochs": 4,
        "cv": 2,
        "seed": 0,
    }


@pytest.mark.parametrize(("threads", "where"), [("1", "."), ("2", "..")])
def test_the_file_of_a_run_reproduces_it(folder, threads, where, monkeypatch, capsys):
    """The same bytes, from any folder, on any number of threads; and the same scores."""
    before, again = (folder / "cheap.safetensors").read_bytes(), (folder / "cheap.toml").read_bytes()
    (folder / "cheap.safetensors").unlink()
    config = os.path.relpath(folder / "cheap.toml", folder / where)
    monkeypatch.chdir(folder / where)
    assert ran(capsys, "train", "--config", config, "--threads", threads)[0] == 0
    assert (folder / "cheap.safetensors").read_bytes() == before
    assert (folder / "cheap.toml").read_bytes() == again


def test_an_option_goes_before_the_file(folder, capsys):
    (folder / "run.toml").write_text('data = "houses.csv"\ntarget = "price"\nepochs = 9\ncv = 0\ndrop = ["built"]\n')
    code, out, _ = ran(capsys, "train", "--config", "run.toml", "--epochs", "2", "--json", "--seed", "7")
    assert (code, json.loads(out)) == (0, {"model": "model.safetensors", "task": "regression", "scores": {}})
    model = fastnn.load("model.safetensors")
    assert (model.epochs, model.random_state, model.drop) == (2, 7, ["built"])
    found = tomllib.loads((folder / "model.toml").read_text())
    assert (found["epochs"], found["drop"], found["cv"]) == (2, ["built"], 0)


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        ("epoch = 3", 3, "got 'epoch'"),
        ("epochs = 0", 2, "--epochs: must be an integer of at least 1, got '0'"),
        ("epochs = true", 3, "epochs in run.toml must be text or a number, got True"),
        ('drop = "area"', 3, "drop in run.toml must be a list of names, got 'area'"),
        ("epochs = ", 3, "run.toml must be a TOML file"),
    ],
)
def test_a_file_of_options_that_cannot_be(text, code, told, folder, capsys):
    (folder / "run.toml").write_text(text)
    try:
        found = main(["train", "houses.csv", "--target", "price", "--config", "run.toml"])
    except SystemExit as end:
        found = end.code
    assert found == code
    assert told in capsys.readouterr().err


def test_other_data_than_in_the_run_is_told(folder, capsys):
    with open(folder / "cheap.csv", "a") as file:
        file.write("70,Rome,2003-04-05,no\n")
    code, _, err = ran(capsys, "train", "--config", "cheap.toml")
    assert code == 0
    assert "fastnn: warning: cheap.csv is not what it was in the run of cheap.toml" in err.splitlines()


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (["a", "b"] * 4, True),
        ([True, False] * 4, True),
        ([0, 1] * 5, True),
        ([0.0, 1.0] * 5, True),
        ([0, 1] * 4, False),  # too few rows of each
        ([0.5, 1.0] * 5, False),
        (list(range(21)) * 5, False),
        (list(range(20)) * 5, True),
    ],
)
def test_which_targets_are_classes(values, classes):
    assert train.is_classes(pd.Series(values))[0] is classes


def test_folds_are_of_one_size_and_have_their_share_of_each_class():
    y = pd.Series(["a"] * 50 + ["b"] * 25 + ["c"])
    folds = train.fold_numbers(train.Task(None, y, True, ""), 5, 0)
    counts = [np.bincount(folds[y == label], minlength=5).tolist() for label in "abc"]
    assert counts[:2] == [[10] * 5, [5] * 5]
    assert sum(counts[2]) == 1


def test_the_task_that_is_asked_for(folder, capsys):
    frame = houses(60)[["area"]].fillna(50.0).assign(rooms=[1, 2, 3] * 20)
    frame.to_csv("rooms.csv", index=False)
    for task, kind in (([], fastnn.TabularClassifier), (["--task", "regression"], fastnn.TabularRegressor)):
        assert ran(capsys, "train", "rooms.csv", "--target", "rooms", *FAST[:4], "--cv", "0", *task)[0] == 0
        assert type(fastnn.load("model.safetensors")) is kind


@pytest.mark.parametrize(
    ("change", "arguments", "told"),
    [
        ({}, ["--target=prise"], "houses.csv has no column 'prise', the target; its columns are 'area', 'town'"),
        ({"price": "x"}, ["--target=price", "--task=regression"], "'price' of houses.csv must hold numbers, got 'x'"),
        ({"price": None}, ["--target=price"], "column 'price' of houses.csv has no value in row 7"),
        ({"area": "x"}, ["--target=price", "--numeric=area"], "column 'area' must hold numbers, got 'x' in row 7"),
        ({"area": np.inf}, ["--target=price"], "column 'area' must hold numbers up to 1e+300, got inf in row 7"),
        ({}, ["--target=price", "--drop=age"], "has no column 'age', which --drop names"),
        ({}, ["--target=price", "-o", "models/a.safetensors"], "there is no folder models for models/a.safetensors"),
        ({}, ["--target=price", "--cv=99"], "--cv must be at most the number of rows, 80, got 99"),
        ({"price": "n.v.t."}, ["--target=price"], "'price' of houses.csv holds numbers but 'n.v.t.' in row 7, counted"),
        ({"lift": True}, ["--target=lift"], "--cv=2 needs more rows of each class, got 1 of the rarest"),
    ],
)
def test_data_that_cannot_be_learned_from(change, arguments, told, folder, capsys):
    """One line names the column and the row."""
    frame = houses().assign(lift=False).astype(object)
    for name, value in change.items():
        frame.loc[7, name] = value
    frame.to_csv("houses.csv", index=False)
    code, out, err = ran(capsys, "train", "houses.csv", *FAST, *arguments)
    assert (code, out) == (3, "")
    assert told in err.splitlines()[-1]
    assert not (folder / "model.safetensors").exists()


def test_a_word_among_numbers_is_told(folder, capsys):
    """The column is text. Few values that differ are labels as likely as not."""
    frame = houses().assign(age=[i % 30 for i in range(80)], rooms=["3", "many"] * 40).astype(object)
    frame.loc[7, "age"] = "forty"
    frame.to_csv("houses.csv", index=False)
    code, _, err = ran(capsys, "train", "houses.csv", "--target=price", *FAST)
    assert code == 0, err
    warned = [line for line in err.splitlines() if "warning" in line]
    assert len(warned) == 1
    assert "column 'age' holds numbers but 'forty' in row 7, counted from 0, so it is text" in warned[0]
    assert "warning" not in ran(capsys, "train", "houses.csv", "--target=price", *FAST, "--categorical=age")[2]


@pytest.mark.parametrize("how", [[], ["--json"], ["--report"]])
def test_a_class_that_stands_once(how, folder, capsys):
    """One fold trains on two classes, which have an "auc" there alone."""
    frame = houses(60)[["area"]].assign(kind=["low", "high"] * 29 + ["low", "rare"])
    frame.to_csv("rare.csv", index=False)
    code, out, _ = ran(capsys, "train", "rare.csv", "--target=kind", *FAST[:4], *how)
    assert code == 0
    for name in ("accuracy", "balanced_accuracy", "log_loss"):
        assert name in out
    assert "auc" not in out


def test_ctrl_c_saves_the_best_epoch(folder, capsys, monkeypatch, short_calls):
    """Also without a terminal; and before an epoch has ended nothing is saved."""
    called, calls = entry.train_groups, itertools.count(1)

    def interrupted(*arguments):
        result = called(*arguments)
        if next(calls) == stop:
            raise KeyboardInterrupt
        return result

    short_calls()
    monkeypatch.setattr(entry, "train_groups", interrupted)
    arguments = ("train", "houses.csv", "--target", "price", "--threads", "1", "--hidden", "8")
    stop = 1
    assert ran(capsys, *arguments)[0] == 130
    assert not (folder / "model.safetensors").exists()
    calls, stop = itertools.count(1), 200
    code, out, err = ran(capsys, *arguments)
    assert (code, out) == (130, "")
    assert err.splitlines()[-1] == "fastnn: stopped; the best epoch so far is in model.safetensors"
    assert ran(capsys, "evaluate", "model.safetensors", "houses.csv", "--target", "price")[0] == 0


# ---- progress ----


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("no_color", "bar"), [("", True), ("1", False)])
def test_a_terminal_has_a_bar_or_lines(no_color, bar, folder, monkeypatch):
    """A bar, or a line an epoch where NO_COLOR asks for plain text: never both. Folds are told in a line each."""
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert main(["train", "houses.csv", "--target", "price", *FAST]) == 0
    told = sys.stderr.getvalue()
    assert ("%|" in told) is bar
    assert ("epoch 4" in told) is not bar
    assert "fastnn: fold 2 of 2: r2 " in told
    assert "\x1b" not in told
    assert sys.stdout.getvalue().startswith("metric,")


# ---- predict ----


def test_shuffled_columns_give_the_same_bytes(folder, capsys):
    """Further columns change nothing either; -o has the bytes of standard output."""
    frame = pd.read_csv("cheap.csv")
    frame[["built", "cheap", "area", "town"]].assign(more=1).to_csv("shuffled.csv", index=False)
    first = ran(capsys, "predict", "cheap.safetensors", "cheap.csv", "--proba")
    assert first == ran(capsys, "predict", "cheap.safetensors", "shuffled.csv", "--proba")
    assert ran(capsys, "predict", "cheap.safetensors", "shuffled.csv", "--proba", "-o", "out.csv") == (0, "", "")
    assert (folder / "out.csv").read_text() == first[1]


def test_probabilities(folder, capsys):
    model = fastnn.load("cheap.safetensors")
    X = pd.read_csv("cheap.csv").drop(columns="cheap")
    X["built"] = pd.to_datetime(X["built"])
    rows = rows_of(ran(capsys, "predict", "cheap.safetensors", "cheap.csv", "--proba")[1])
    found = np.array([[float(row["probability no"]), float(row["probability yes"])] for row in rows])
    np.testing.assert_array_equal(found, model.predict_proba(X))
    assert [row["prediction"] for row in rows] == model.predict(X).tolist()


def test_predictions_as_json_are_those_of_csv(folder, capsys, standard_input):
    rows = rows_of(ran(capsys, "predict", "houses.safetensors", "houses.csv")[1])
    standard_input((folder / "houses.csv").read_bytes())
    found = json.loads(ran(capsys, "predict", "houses.safetensors", "-", "--json")[1])
    assert [each["prediction"] for each in found] == [float(row["prediction"]) for row in rows]


@pytest.mark.parametrize("targets", [["price"], ["price", "area"]])
def test_intervals(targets, folder, capsys):
    """Of each target, behind its prediction; as CSV, as JSON and in a file."""
    frame = pd.read_csv("houses.csv").fillna({"area": 50.0})
    model = fastnn.TabularRegressor(n_members=2, epochs=3, random_state=0)
    model.fit(frame[["town"]], frame[targets] if len(targets) > 1 else frame["price"])
    model.save("towns.safetensors")
    arguments = ("predict", "towns.safetensors", "houses.csv", "--interval", "0.8")
    code, out, err = ran(capsys, *arguments)
    assert (code, err) == (0, "")
    lower, upper = model.predict_interval(frame[["town"]], 0.8)
    expected = np.stack([model.predict(frame[["town"]]), lower, upper], axis=-1).reshape(len(frame), -1)
    names = ["prediction"] if len(targets) == 1 else ["prediction 0", "prediction 1"]
    assert [*rows_of(out)[0]] == [f"{name}{end}" for name in names for end in ("", " lower", " upper")]
    np.testing.assert_array_equal([[float(each) for each in row.values()] for row in rows_of(out)], expected)
    found = json.loads(ran(capsys, *arguments, "--json")[1])
    np.testing.assert_array_equal([list(row.values()) for row in found], expected)
    assert ran(capsys, *arguments, "-o", "out.csv") == (0, "", "")
    assert (folder / "out.csv").read_text() == out


def test_a_model_without_held_out_rows_has_no_interval(folder, capsys):
    frame = pd.read_csv("houses.csv")[:15]
    fastnn.TabularRegressor(n_members=2, epochs=2).fit(frame[["town"]], frame["price"]).save("few.safetensors")
    code, out, err = ran(capsys, "predict", "few.safetensors", "houses.csv", "--interval", "0.5")
    assert (code, out) == (2, "")
    assert "--interval of few.safetensors: predict_interval needs held-out rows" in err


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda frame: frame.drop(columns="town"), "new.csv has no column 'town', which the model reads"),
        (lambda frame: frame.assign(area="big"), "new.csv: column 'area' must hold numbers, got 'big' in row 0"),
        (lambda frame: frame.iloc[:0], "new.csv must hold at least one row and one column, got 0 rows"),
    ],
)
def test_rows_that_cannot_be_predicted(change, told, folder, capsys):
    change(pd.read_csv("houses.csv")).to_csv("new.csv", index=False)
    code, out, err = ran(capsys, "predict", "houses.safetensors", "new.csv")
    assert (code, out, len(err.splitlines())) == (3, "", 1)
    assert told in err


def test_files_of_other_models(tmp_path, monkeypatch, capsys):
    """A model finds columns by their names where it has some, else by position."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(3)
    X = rng.normal(size=(40, 3)).astype(np.float32)
    y = np.where(X[:, 0] > 0, 7, 3)
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    frame[["c", "a", "b"]].assign(y=y).to_csv("named.csv", index=False)
    np.save("plain.npy", X)
    model = fastnn.Model([3, 4, 2], output="softmax", loss="cross_entropy", rng=0)
    model.fit(frame, (y == 7).astype(int), epochs=3, batch_size=10)
    population = fastnn.Population([3, 2], 4, rng=0)
    classifier = fastnn.MLPClassifier(5, solver="lbfgs", random_state=0).fit(frame, y)
    for name, each in (("model", model), ("population", population), ("classifier", classifier)):
        each.save(f"{name}.safetensors")

    rows = rows_of(ran(capsys, "predict", "model.safetensors", "named.csv", "--proba")[1])
    np.testing.assert_array_equal([int(row["prediction"]) for row in rows], model.classify(X))
    np.testing.assert_array_equal([np.float32(row["probability 1"]) for row in rows], model.predict(X)[:, 1])
    rows = rows_of(ran(capsys, "predict", "classifier.safetensors", "named.csv")[1])
    np.testing.assert_array_equal([int(row["prediction"]) for row in rows], classifier.predict(frame))
    rows = rows_of(ran(capsys, "predict", "population.safetensors", "plain.npy")[1])
    np.testing.assert_array_equal([int(row["prediction"]) for row in rows], population.predict(X).mean(0).argmax(1))
    code, _, err = ran(capsys, "predict", "population.safetensors", "named.csv")
    assert code == 3
    assert "named.csv must have 3 columns, as the model knows them by position, got 4" in err
    code, out, _ = ran(capsys, "evaluate", "classifier.safetensors", "named.csv", "--min", "accuracy=0.9", "--json")
    assert code == 0
    assert json.loads(out)["accuracy"] == (classifier.predict(frame) == y).mean()


def test_a_file_of_groups(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    x = np.linspace(0, 1, 60)
    frame = pd.DataFrame({"shop": ["a", "b"] * 30, "x": x, "sold": x**2})
    groups = fastnn.fit_groups(frame, by="shop", target="sold", epochs=2, rng=0)
    groups.save("groups.safetensors")
    frame.to_csv("shops.csv", index=False)
    expected = np.abs(groups.predict(frame) - frame["sold"]).mean()
    code, out, _ = ran(capsys, "evaluate", "groups.safetensors", "shops.csv", "--json")
    np.testing.assert_allclose(json.loads(out)["mae"], expected, rtol=1e-12)
    found = json.loads(ran(capsys, "info", "groups.safetensors", "--json")[1])
    assert (code, found["groups"], found["column"], found["target"]) == (0, 2, ["shop", "x"], ["sold"])


def test_a_reader_that_has_seen_enough(folder, monkeypatch):
    """`fastnn predict .. | head` ends in silence."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert main(["info", "houses.safetensors"]) == 0


# ---- evaluate ----


@pytest.mark.parametrize(
    ("thresholds", "code", "told"),
    [
        (["--min", "accuracy=0"], 0, []),
        (["--min", "accuracy=1.01"], 4, ["--min is 1.01"]),
        (["--max", "log_loss=0", "--min", "auc=2"], 4, ["auc is", "log_loss is"]),
    ],
)
def test_thresholds(thresholds, code, told, folder, capsys):
    found, out, err = ran(capsys, "evaluate", "cheap.safetensors", "cheap.csv", *thresholds)
    assert (found, len(err.splitlines())) == (code, len(told))
    assert all(each in err for each in told)
    assert [row["metric"] for row in rows_of(out)] == ["accuracy", "balanced_accuracy", "log_loss", "auc"]


def test_scores_are_those_of_scikit_learn():
    rng = np.random.default_rng(4)
    true, predicted = rng.integers(0, 3, 50), rng.integers(0, 3, 50)
    probabilities = rng.dirichlet([1, 1, 1], 50)
    found = scores.of_classes(true, predicted, probabilities, [0, 1, 2])
    assert found == pytest.approx(
        {
            "accuracy": metrics.accuracy_score(true, predicted),
            "balanced_accuracy": metrics.balanced_accuracy_score(true, predicted),
            "log_loss": metrics.log_loss(true, probabilities),
        }
    )
    two, values = true > 0, probabilities[:, 0].round(1)  # some are equal
    found = scores.of_classes(two, two, np.stack([1 - values, values], 1), [False, True])
    assert found["auc"] == pytest.approx(metrics.roc_auc_score(two, values))
    y, given = rng.normal(size=(2, 50))
    found = scores.of_numbers(y, given)
    assert found["r2"] == pytest.approx(metrics.r2_score(y, given))
    assert found["rmse"] == pytest.approx(metrics.root_mean_squared_error(y, given))
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(y, given))


def test_labels_of_other_types_are_the_same_labels():
    found = scores.of_classes(["1", "2", "x"], [1.0, 2, 3], None, None)
    assert found["accuracy"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (["area", "town", "built"], "--target must be given"),
        (["area", "town", "built", "price", "cheap"], "--target must be given"),
    ],
)
def test_a_target_that_nothing_tells(columns, told, folder, capsys):
    """Without the file of the run, the target is the only column that the model does not read."""
    frame = pd.read_csv("houses.csv").assign(cheap="no")
    frame[columns].to_csv("test.csv", index=False)
    before = ran(capsys, "evaluate", "houses.safetensors", "houses.csv")
    (folder / "houses.toml").unlink()
    assert ran(capsys, "evaluate", "houses.safetensors", "houses.csv") == before
    code, _, err = ran(capsys, "evaluate", "houses.safetensors", "test.csv")
    assert code == 2
    assert told in err


# ---- info ----


def test_info(folder, capsys):
    found = json.loads(ran(capsys, "info", "cheap.safetensors", "--json")[1])
    model = fastnn.load("cheap.safetensors")
    n = model.population_.sizes[0]
    assert found["kind"] == "TabularClassifier"
    assert list(found["column"]) == ["area", "town", "built"]
    assert found["class"] == ["no", "yes"]
    assert found["sizes"] == f"{n}-8-2"
    assert found["parameters"] == n * 8 + 8 + 8 * 2 + 2
    rows = rows_of(ran(capsys, "info", "numbers.safetensors")[1])
    assert {row["property"]: row["value"] for row in rows}["column"] == "area"


@pytest.mark.parametrize("content", [b"", b"PAR1", b"area,price\n1,2\n"])
def test_a_file_that_is_no_model(content, folder, capsys):
    (folder / "bad.safetensors").write_bytes(content)
    code, out, err = ran(capsys, "info", "bad.safetensors")
    assert (code, out, len(err.splitlines())) == (3, "", 1)
    assert "bad.safetensors" in err


# ---- export and verify ----


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with a file of each kind that can be exported, of three columns, and a table."""
    path, rng = tmp_path_factory.mktemp("saved"), np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(60, 3)), columns=["a", "b", "c"])
    y = np.where(frame["a"] > 0, "yes", "no")
    model = fastnn.Model([3, 5, fastnn.Dense(2, "softmax")], loss="cross_entropy", rng=0)
    model.fit(frame, (y == "yes").astype(int), epochs=1, batch_size=20)
    model.save(path / "model.safetensors")
    fastnn.Population([3, 4, 1], 3, rng=0).save(path / "population.safetensors")
    how = {"hidden_layer_sizes": [5], "max_iter": 300, "random_state": 0}
    kinds = {
        "classifier": (fastnn.MLPClassifier(**how), y),
        "regressor": (fastnn.MLPRegressor(**how), frame["b"]),
        "classifiers": (fastnn.MLPEnsembleClassifier(2, **how), y),
        "regressors": (fastnn.MLPEnsembleRegressor(2, **how), frame["b"]),
        "table": (fastnn.TabularClassifier(n_members=1, epochs=2, random_state=0), y),
        "numbers": (fastnn.TabularRegressor(n_members=1, epochs=2, random_state=0), frame["b"]),
    }
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        for name, (estimator, target) in kinds.items():
            estimator.fit(frame, target).save(path / f"{name}.safetensors")
    frame[["c", "b", "a"]].assign(more="x").to_csv(path / "rows.csv", index=False)
    return path


@pytest.fixture
def networks(saved, tmp_path, monkeypatch):
    """A copy of that folder, in which the test runs."""
    path = tmp_path / "networks"
    shutil.copytree(saved, path)
    monkeypatch.chdir(path)
    return path


def test_every_kind_of_file_is_exported_and_verified(networks, capsys):
    files = sorted(path.name for path in networks.glob("*.safetensors"))
    assert len(files) == 8
    for file in files:
        rows = [] if file.startswith("population") else ["--rows", "rows.csv"]
        code, out, err = ran(capsys, "export", file, file.replace("safetensors", "py"), *rows)
        assert (code, out, err) == (0, "", f"fastnn: the network is in {file.replace('safetensors', 'py')}\n")
    exported = [file.replace("safetensors", "py") for file in files]
    code, out, err = ran(capsys, "verify", *exported)
    assert (code, err) == (0, "")
    assert rows_of(out) == [
        {
            "file": file,
            "rows": "16",
            "error": "0.0",
            "ulp": "0.0",
            "wrong_labels": "0",
            "intact": "True",
            "passed": "True",
        }
        for file in exported
    ]
    text = Path("classifier.py").read_text()
    changed = text.replace("classes = np.array(['no', 'yes']", "classes = np.array(['yes', 'no']")
    assert changed != text
    Path("classifier.py").write_text(changed)
    code, out, err = ran(capsys, "verify", "--json", "model.py", "classifier.py")
    assert (code, err) == (4, "fastnn: classifier.py is not what was exported, or does not compute the same here\n")
    found = json.loads(out)
    assert [each["passed"] for each in found] == [True, False]
    assert found[1]["wrong_labels"] == 16


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_export_with_labels_and_a_name(networks, capsys):
    arguments = ["model.safetensors", "net.mjs", "--labels", "cat,dog", "--name", "pets"]
    assert ran(capsys, "export", *arguments)[0] == 0
    text = Path("net.mjs").read_text()
    assert text.startswith("// pets: ")
    assert 'export const labels = ["cat", "dog"];' in text
    assert 'export const features = ["a", "b", "c"];' in text
    assert ran(capsys, "verify", "net.mjs")[0] == 0


def test_rows_of_a_table_are_the_self_test(networks, capsys):
    """In the order of the model's columns."""
    assert ran(capsys, "export", "model.safetensors", "net.py", "--rows", "rows.csv")[0] == 0
    recorded = re.search('ROWS = "(.*)"', Path("net.py").read_text())[1]
    found = np.frombuffer(base64.b64decode(recorded), np.float32)[: 16 * 3].reshape(16, 3)
    np.testing.assert_array_equal(found, pd.read_csv("rows.csv")[["a", "b", "c"]].to_numpy(np.float32)[:16])


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_rows_with_text_and_dates_are_the_self_test(networks, capsys):
    frame = pd.DataFrame({"area": [50.5, None, 71] * 10, "town": ["Oslo", "Bern", None, "Rome", "Bern"] * 6})
    frame["built"] = pd.to_datetime(["1950-05-01", "1999-12-31"] * 15)
    regressor = fastnn.TabularRegressor(n_members=1, epochs=2, random_state=0).fit(frame, np.arange(30.0))
    regressor.save("tables.safetensors")
    frame.iloc[::-1].assign(more=1).to_csv("mixed.csv", index=False)
    with warnings.catch_warnings(action="error"):
        assert ran(capsys, "export", "tables.safetensors", "net.mjs", "--rows", "mixed.csv")[0] == 0
    recorded = re.search('ROWS = "(.*)"', Path("net.mjs").read_text())[1]
    found = np.frombuffer(base64.b64decode(recorded), np.float64)[: 16 * 3].reshape(16, 3)
    places = frame["town"].map({"Bern": 1, "Oslo": 2, "Rome": 3})
    days = (frame["built"] - pd.Timestamp(0)).dt.days
    np.testing.assert_array_equal(found, np.stack([frame["area"], places, days], axis=1)[::-1][:16])
    assert ran(capsys, "verify", "net.mjs")[0] == 0


@pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang", "tcc"))), reason="there is no C compiler")
def test_integers(networks, capsys):
    """The report goes to standard error."""
    how = ["--quantize", "int8", "--calibrate", "rows.csv", "--least-agreement", "0.5"]
    code, out, err = ran(capsys, "export", "model.safetensors", "net.h", *how)
    assert (code, out) == (0, "")
    lines = err.splitlines()
    assert lines[0].split() == ["layer", "error", "clipped", "agreement"]
    assert lines[-1] == "fastnn: the network is in net.h"
    assert "multiply-adds a row, int8." in Path("net.h").read_text()
    assert ran(capsys, "verify", "net.h")[0] == 0
    code, out, err = ran(capsys, "export", "model.safetensors", "other.h", "--calibrate", "rows.csv")
    assert (code, out, err) == (2, "", "fastnn: error: --calibrate goes with --quantize\n")
    assert not Path("other.h").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["export", "model.safetensors", "net.h", "--quantize", "int8"], "calibrate must be rows of inputs"),
        (["export", "model.safetensors", "net.txt"], "OUT must end in one of .onnx, .h, .mjs, .py, got 'net.txt'"),
        (["export", "model.safetensors", "no/net.py"], "OUT must lie in a folder that exists, got 'no/net.py'"),
        (["export", "missing.safetensors", "net.py"], "there is no file missing.safetensors"),
        (["export", "model.safetensors", "net.py", "--labels", "a"], "labels must have shape (2,)"),
        (["export", "classifier.safetensors", "net.py", "--labels", "a,b"], "labels are those of the estimator"),
        (["export", "model.safetensors", "net.py", "--rows", "missing.csv"], "missing.csv: No such file"),
        (["export", "model.safetensors", "net.py", "--name", "my net"], "name must be letters, digits and underscores"),
        (["verify", "net.txt"], "path must end in one of .onnx, .h, .mjs, .py, got 'net.txt'"),
        (["verify", "missing.py"], "path must name a file, got 'missing.py'"),
        (["verify", "bad.py"], "path must name a file that runs, got 'bad.py', which said: SyntaxError"),
    ],
)
def test_what_cannot_be_exported_or_verified(arguments, told, networks, capsys):
    Path("bad.py").write_text("16 rows")
    before = sorted(os.listdir())
    code, out, err = ran(capsys, *arguments)
    assert (code, out, len(err.splitlines())) == (3, "", 1)
    assert told in err
    assert sorted(os.listdir()) == before


def test_a_network_of_an_onnx_file_is_saved(networks, capsys):
    pytest.importorskip("onnx", reason="the extra onnx is not installed")
    model = fastnn.load("model.safetensors")
    model.export("net.onnx")
    code, out, err = ran(capsys, "import", "net.onnx", "again.safetensors")
    assert (code, out, err) == (0, "", "fastnn: the model is in again.safetensors\n")
    X = pd.read_csv("rows.csv")[["a", "b", "c"]].to_numpy(np.float32)
    found = fastnn.load("again.safetensors")
    np.testing.assert_array_equal(found.predict(X), model.predict(X))
    assert found.loss_name == "cross_entropy"
    fastnn.Model([3, fastnn.Dense(2, "identity")], rng=0).export("net.onnx")
    how = ["--activation", "sigmoid", "--loss", "quadratic"]
    assert ran(capsys, "import", "net.onnx", "again.safetensors", *how)[0] == 0
    assert repr(fastnn.load("again.safetensors")) == repr(fastnn.Model([3, 2]))


@pytest.mark.parametrize("name", ["float64.keras", "float64.h5"])
def test_a_network_of_a_file_of_keras_is_saved(name, tmp_path, monkeypatch, capsys):
    pytest.importorskip("h5py", reason="the extra keras is not installed")
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile(ROOT / "tests" / "fastnn" / "keras_files.zip") as files:
        files.extract(name)
    code, out, err = ran(capsys, "import", name, "model.safetensors", "--loss", "quadratic")
    assert (code, out, err) == (0, "", "fastnn: the model is in model.safetensors\n")
    found, expected = fastnn.load("model.safetensors"), fastnn.from_keras(name, loss="quadratic")
    assert found.parameters.tobytes() == expected.parameters.tobytes()
    assert (found.loss_name, found.dtype) == ("quadratic", "float64")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["missing.onnx", "again.safetensors"], "missing.onnx: No such file"),
        (["bad.onnx", "again.safetensors"], "path must name an ONNX file of a network that fastnn has, got 'bad.onnx'"),
        (["bad.onnx", "again.safetensors", "--loss", "mse"], "loss must be one of"),
    ],
)
def test_what_cannot_be_imported(arguments, told, networks, capsys):
    pytest.importorskip("onnx", reason="the extra onnx is not installed")
    Path("bad.onnx").write_text("no network")
    before = sorted(os.listdir())
    code, out, err = ran(capsys, "import", *arguments)
    assert (code, out) == (3, "")
    assert told in err
    assert sorted(os.listdir()) == before


# ---- tables of files ----


def test_kinds_of_files(tmp_path):
    """CSV with other separators, compressed, with a byte order mark; Parquet; .npy with and without names."""
    frame = pd.DataFrame({"a": [1, 2], "text": ["x", None], "day": pd.to_datetime(["2024-02-29", None])})
    plain = frame.to_csv(index=False).encode()
    contents = {
        "a.csv": plain,
        "b.csv": b"\xef\xbb\xbf" + plain,
        "c.csv.gz": gzip.compress(plain),
        "d.tsv": frame.to_csv(index=False, sep="\t").encode(),
    }
    for name, content in contents.items():
        pd.testing.assert_frame_equal(reading.frame_of(content, name), frame, check_dtype=False)
    found = reading.frame_of(frame.to_csv(index=False, sep=";").encode(), "e.csv", ";")
    pd.testing.assert_frame_equal(found, frame, check_dtype=False)
    frame.to_parquet(tmp_path / "a.parquet")
    pd.testing.assert_frame_equal(reading.frame_of((tmp_path / "a.parquet").read_bytes(), "-"), frame)
    for array, names in ((np.eye(2), ["x0", "x1"]), (np.array([(1, 2.0)], [("a", int), ("b", float)]), ["a", "b"])):
        file = io.BytesIO()
        np.save(file, array)
        found = reading.frame_of(file.getvalue(), "a.npy")
        assert list(found.columns) == names
        assert found.to_numpy().tolist() == np.array(array.tolist()).tolist()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "must be a CSV file with a row of names: No columns"),
        (b"a,b\n", "must hold at least one row"),
        (b"a,b,a\n1,2,3\n", "columns of different names, got 'a' twice"),
        (b"a,b\n1,2,3\n", "must be a CSV file with a row of names: Length of header"),
        (b"a,b\n1,2\n1,2,3\n", "Expected 2 fields in line 3, saw 3"),
        (b"a;b\n1,5;2,5\n", "row of names (its first line has ';': --separator ';' reads that): Length"),
        (b"a\n\xff\n", "must be text in UTF-8, got the byte 0xff"),
        (b"PAR1abc", "must be a Parquet file"),
        (b"\x93NUMPY", "must be a .npy file of numbers"),
        (b"\x1f\x8babc", "must be a gzip file"),
    ],
)
def test_bytes_that_are_no_table(content, told):
    with pytest.raises(failures.Failure) as caught:
        reading.frame_of(content, "a.csv")
    assert told in str(caught.value)
    assert caught.value.code == 3


def test_another_separator_is_told(capsys):
    assert list(reading.frame_of(b"a;b\n1;2\n", "a.csv").columns) == ["a;b"]
    assert "a.csv has one column (its first line has ';': --separator ';' reads that)" in capsys.readouterr().err
    assert list(reading.frame_of(b"a;b\n1;2\n", "a.csv", ";").columns) == ["a", "b"]
    assert list(reading.frame_of(b"a\tb\n1\t2\n", "a.csv", r"\t").columns) == ["a", "b"]
    assert not capsys.readouterr().err
    reading.frame_of(b"a,b\n1,2\n", "a.tsv")
    assert "(its first line has ',': --separator ',' reads that)" in capsys.readouterr().err
    with pytest.raises(failures.Failure) as caught:
        reading.frame_of(b"a,b (x;y)\n1,2,3\n", "a.csv")
    assert "--separator" not in str(caught.value)


def test_an_array_of_objects_is_not_read(tmp_path):
    """Its pickle could run code."""
    file = io.BytesIO()
    np.save(file, np.array([[{}]]), allow_pickle=True)
    with pytest.raises(failures.Failure, match=r"must be a \.npy file of numbers"):
        reading.frame_of(file.getvalue(), "a.npy")


def test_a_file_without_names_is_told(capsys):
    """Its first row would be lost in silence. Names that are numbers are taken as they are."""
    assert reading.frame_of(b"1,2.5\n3,4\n", "a.csv").to_dict("list") == {"1": [3], "2.5": [4]}
    assert "the first row of a.csv is taken for the names of the columns" in capsys.readouterr().err


def test_columns_without_a_name_are_left_out(capsys):
    """Such as the index that pandas writes."""
    content = pd.DataFrame({"a": [5, 6]}).to_csv().encode()
    assert reading.frame_of(content, "a.csv").to_dict("list") == {"a": [5, 6]}
    assert "columns without a name are left out: number 0 of a.csv" in capsys.readouterr().err


def test_without_pandas_it_says_what_to_install(folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pandas", None)
    code, _, err = ran(capsys, "predict", "numbers.safetensors", "houses.csv")
    assert code == 3
    assert 'pip install "fastnn-numba[tables]"' in err


def test_without_scikit_learn_it_says_what_to_install(folder, run_python):
    source = """
import os, sys
sys.modules["sklearn"] = None
from fastnn.cli.commands import main
os.chdir(sys.argv[1])
assert main(["info", "houses.safetensors"]) == main(["train", "houses.csv", "--target", "price"]) == 3
assert main(["info", "numbers.safetensors"]) == 0
"""
    told = run_python(source, folder).stderr.splitlines()
    assert len(told) == 2
    assert all('estimators need scikit-learn: pip install "fastnn-numba[sklearn]"' in each for each in told)


# ---- the report ----


class Page(HTMLParser):
    """What a page holds: its elements' names and attributes, and its text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data.strip())


@pytest.mark.parametrize("name", ["cheap", "houses"])
def test_the_report(name, folder):
    """One file that asks no host for anything, and needs no script."""
    text = (folder / f"{name}.html").read_text()
    page = Page(text)
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in page.elements}
    targets = [value for _, found in page.elements for key, value in found.items() if key.endswith(("href", "src"))]
    assert all(value.startswith("#") for value in targets)
    assert "url(" not in text.replace("url(#", "")
    assert "@import" not in text
    assert "color-scheme: light dark" in text
    assert "#010203" not in text
    headings = [page.texts[i] for i, each in enumerate(page.texts) if each in HEADINGS]
    assert headings == HEADINGS
    assert f"fastnn train {name}.csv --target" in text
    for row in fastnn.load(f"{name}.safetensors").table_.summary:
        assert {row.name, row.becomes} <= {*page.texts}


HEADINGS = ["Command", "Validation", "Errors", "Importances", "Training", "Columns", "Model", "Options"]


def texts_of(text):
    return [each for each in Page(text).texts if each]


def test_the_confusion_matrix():
    """Counts, shares of the true class, and the rows of it; in the order of the classes."""
    true, predicted = np.array(["9", "9", "9", "10<"]), np.array(["9", "10<", "9", "10<"])
    found = texts_of(html_report._confusion(np.array(["9", "10<"]), true, predicted))
    assert found[1:] == [
        *("predicted", "true", "9", "10<", "rows"),
        *("9", "2", "67%", "1", "33%", "3"),
        *("10<", "0", "1", "100%", "1"),
    ]
    shares = [texts_of(html_report._share(*each))[1] for each in ((1, 1000), (999, 1000), (1, 2))]
    assert shares == ["<1%", ">99%", "50%"]


def test_only_the_most_frequent_classes_are_shown(monkeypatch):
    monkeypatch.setattr(html_report, "MOST_CLASSES", 2)
    true = np.array(["a", "b", "b", "c", "c"])
    found = texts_of(html_report._confusion(np.array(["a", "b", "c"]), true, true))
    assert found[0].endswith("Shown are the 2 most frequent of 3 classes.")
    assert found[2:] == ["true", "b", "c", "rows", "b", "2", "100%", "0", "2", "c", "0", "2", "100%", "2"]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([99.03, 15.5, -120.27], ["99.0", "15.5", "-120.3"]),
        ([0.9, 0.0347, -0.00001], ["0.9000", "0.0347", "0.0000"]),
        ([1.0, math.nan], ["1.000", "nan"]),
        ([2e7, 1.0], ["2e+07", "1"]),
        ([0.0], ["0"]),
    ],
)
def test_numbers_have_the_same_decimals(values, shown):
    assert html_report._numbers(values) == shown


def test_importances_are_sorted_and_the_least_are_folded_away(folder, monkeypatch):
    model = fastnn.load("houses.safetensors")
    model.feature_importances_ = np.array([0.25, -0.125, 0.5])
    monkeypatch.setattr(html_report, "MOST_BARS", 2)
    run = html_report.Run("", None, {}, None, False, None)
    text = html_report._importances(model, run)
    assert texts_of(text)[1:] == [
        *("column", "rise", "built", "0.5000", "area", "0.2500"),
        *("1 more", "column", "rise", "town", "-0.1250"),
    ]
    widths = [found["style"] for tag, found in Page(text).elements if found.get("class") == "bar"]
    assert widths == ["width: 100.0%", "width: 50.0%", "width: 0.0%"]


@pytest.mark.parametrize("target", ["价格", "a $b$ < c" * 9])
def test_the_report_of_a_few_rows(target, folder, capsys):
    """No row is held out, there are no importances, and no font of ours has the letters."""
    frame = pd.DataFrame({"area": np.arange(16), target: np.arange(16) + 0.5})
    frame.to_csv("few.csv", index=False)
    code, _, err = ran(capsys, "train", "few.csv", "--target", target, *FAST, "--report")
    assert (code, len(err.splitlines())) == (0, 3)
    text = (folder / "report.html").read_text()
    assert [each for each in Page(text).texts if each in HEADINGS] == [each for each in HEADINGS if each[0] != "I"]
    assert "best epochs" not in text
    assert f"true - predicted {html.escape(target[:20], quote=False)}" in text


def test_without_matplotlib_nothing_is_trained(folder, monkeypatch, capsys):
    for name in ("fastnn.cli.charts", "fastnn.cli.html_report"):
        monkeypatch.delitem(sys.modules, name)
        monkeypatch.delattr(cli, name.rpartition(".")[2])
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, _, err = ran(capsys, "train", "houses.csv", "--target", "price", "--report")
    assert (code, (folder / "model.safetensors").exists()) == (3, False)
    assert 'pip install "fastnn-numba[plots]"' in err


# ---- folders ----


@pytest.fixture
def parquet(tmp_path, monkeypatch):
    """A folder with files of rows, one within another folder, and a model of their columns."""
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import pyarrow.parquet as files

    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"id": np.arange(500), "b": rng.normal(size=500), "a": rng.normal(size=500)})
    (tmp_path / "rows" / "more").mkdir(parents=True)
    for name, part in (("one", frame[:200]), ("more/two", frame[200:])):
        files.write_table(
            pyarrow.Table.from_pandas(part, preserve_index=False), f"rows/{name}.parquet", row_group_size=64
        )
    model = fastnn.Model([2, fastnn.Dense(3, "softmax")], loss="cross_entropy", rng=0)
    model.fit(frame[["a", "b"]], np.arange(500) % 3, epochs=1, batch_size=50)
    model.save("model.safetensors")
    return frame, model.predict(frame[["a", "b"]])


def test_a_folder_is_predicted_file_by_file(parquet, capsys, monkeypatch):
    """In blocks; a file that is there stays, so a run goes on where it ended."""
    frame, outputs = parquet
    monkeypatch.setattr("fastnn.cli.folders.BLOCK", 100)
    arguments = ["model.safetensors", "rows", "-o", "out", "--keep", "id", "--proba"]
    code, out, err = ran(capsys, "predict", *arguments)
    assert (code, out, err) == (0, "", "fastnn: 500 rows are predicted in out\n")
    found = pd.concat([pd.read_parquet(f"out/{name}.parquet") for name in ("one", "more/two")])
    assert list(found) == ["id", "prediction", "probability 0", "probability 1", "probability 2"]
    np.testing.assert_array_equal(found["id"], frame["id"])
    np.testing.assert_array_equal(found["prediction"], outputs.argmax(axis=1))
    np.testing.assert_array_equal(found.iloc[:, 2:].to_numpy(), outputs)
    assert sorted(str(path) for path in Path("out").rglob("*")) == [
        "out/more",
        "out/more/two.parquet",
        "out/one.parquet",
    ]
    before = Path("out/one.parquet").stat().st_mtime_ns
    Path("out/more/two.parquet").unlink()
    code, out, err = ran(capsys, "predict", *arguments)
    assert (code, err.splitlines()) == (
        0,
        ["fastnn: out/one.parquet is there", "fastnn: 300 rows are predicted in out"],
    )
    assert Path("out/one.parquet").stat().st_mtime_ns == before


def test_a_file_without_rows_is_passed_over(parquet, capsys):
    """Systems that write in parts leave such files."""
    frame, _ = parquet
    frame[:0].to_parquet("rows/none.parquet")
    code, out, err = ran(capsys, "predict", "model.safetensors", "rows", "-o", "out")
    assert (code, out) == (0, "")
    assert err.splitlines() == ["fastnn: rows/none.parquet has no rows", "fastnn: 500 rows are predicted in out"]
    assert len(list(Path("out").rglob("*.parquet"))) == 2


def test_folders_that_cannot_be_predicted(parquet, capsys):
    Path("empty").mkdir()
    for arguments, expected, told in (
        (["rows"], 2, "--output must name a folder for the predictions of a folder, got '-'"),
        (["rows", "-o", "model.safetensors"], 2, "--output must name a folder"),
        (["rows", "-o", "out", "--json"], 2, "--interval and --json do not go with a folder"),
        (["empty", "-o", "out"], 3, "empty must hold files that end in .parquet, it has none"),
        (["rows", "-o", "out", "--keep", "none"], 3, "--keep must name columns of rows/more/two.parquet, got 'none'"),
        (["rows/one.parquet", "--keep", "id"], 2, "--keep goes with a folder of Parquet files"),
    ):
        code, out, err = ran(capsys, "predict", "model.safetensors", *arguments)
        assert (code, out) == (expected, "")
        assert told in err
    Path("rows/bad.parquet").write_bytes(b"PAR1 and no more")
    code, out, err = ran(capsys, "predict", "model.safetensors", "rows", "-o", "out")
    assert code == 3
    assert err.startswith("fastnn: error: rows/bad.parquet: ")
    assert not list(Path("out").rglob("*bad*"))
