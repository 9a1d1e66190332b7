"""Exported Python files: NumPy alone runs them, and they compute what the network computes."""

import math
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sklearn", reason="the extra sklearn is not installed")

import fastnn
from fastnn import Dense, Model
from fastnn.exchange import python_file
from fastnn.exchange.self_test import SelfTest

from ..cases import DTYPES
from .exports import EVERYTHING, FUNCTIONS, OPERANDS, N, close, computation, network, ordinary, outputs_of, rows
from .test_export_computation import LABELLED, fitted_to_table, new_rows, table, trained

rng = np.random.default_rng(0)
# Imports files in a process that has nothing but NumPy, calls functions of them, and saves what they give.
RUN = """
import importlib.util, pickle, sys
folder, task, answer = sys.argv[1:]
sys.path[:] = [*sys.path, folder]
import numpy as np
found = []
with open(task, "rb") as file:
    calls = pickle.load(file)
for path, name, arguments, keywords in calls:
    spec = importlib.util.spec_from_file_location("net", path)
    net = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(net)
    each = getattr(net, name)
    found.append(each(*arguments, **keywords) if callable(each) else each)
for name in ("fastnn", "numba", "scipy", "sklearn"):
    assert importlib.util.find_spec(name) is None, name
assert not {"fastnn", "numba"} & {*sys.modules}
with open(answer, "wb") as file:
    pickle.dump(found, file)
"""


@pytest.fixture
def alone(tmp_path):
    """A function: what the functions of files give, from calls (path, name, arguments, keywords)."""
    folder = tmp_path / "packages"
    folder.mkdir()
    installed = Path(np.__file__).parent.parent
    for name in ("numpy", "numpy.libs"):
        if (installed / name).exists():
            (folder / name).symlink_to(installed / name)

    def run(*calls):
        task, answer = tmp_path / "task", tmp_path / "answer"
        task.write_bytes(pickle.dumps([(str(path), name, args, keywords) for path, name, args, keywords in calls]))
        command = [sys.executable, "-I", "-S", "-W", "error", "-c", RUN, str(folder), str(task), str(answer)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return pickle.loads(answer.read_bytes())

    return run


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_function(dtype, tmp_path, alone):
    """And a function that is no activation must be among the cases."""
    X, calls, expected = rows(), [], []
    for function in FUNCTIONS:
        steps, by_hand = computation(function, dtype)
        path = tmp_path / f"{function}.py"
        path.write_bytes(python_file.written(steps, SelfTest.of(steps), function, {}))
        calls.append((path, "predict", (X,), {}))
        expected.append(by_hand(X))
        assert f"def {function}(x" in path.read_text() or f"def {function}(*x" in path.read_text()
    assert {*OPERANDS} < {*FUNCTIONS}
    for function, found, by_hand in zip(FUNCTIONS, alone(*calls), expected, strict=True):
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, by_hand, function)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_network(dtype, tmp_path, alone):
    calls, expected = [], []
    for name in EVERYTHING:
        what, X, path = network(name, dtype), ordinary(name), tmp_path / f"{name.replace(' ', '_')}.py"
        fastnn.export(what, path)
        gaussian = "return_std" in path.read_text()
        calls.append((path, "predict", (X,), {"return_std": True} if gaussian else {}))
        expected.append(outputs_of(what, X))
    tests = [(path, "self_test", (), {}) for path, *_ in calls]
    given = alone(*calls, *tests)
    assert given[len(calls) :] == [True] * len(tests)
    for name, found, by_hand in zip(EVERYTHING, given[: len(calls)], expected, strict=True):
        found = np.hstack(found) if isinstance(found, tuple) else found
        assert found.dtype == dtype, name
        close(found, by_hand, dtype)


def test_nothing_stands_in_a_file_that_it_does_not_use(tmp_path):
    path = tmp_path / "net.py"
    Model([2, Dense(3, "relu"), Dense(1, "identity")], rng=0).export(path)
    text = path.read_text()
    assert [name for name in FUNCTIONS if f"def {name}(" in text] == ["dense", "relu"]
    assert "classify" not in text
    assert "Array" not in text
    assert "$" not in text


@pytest.mark.parametrize("ratio", [1, 1e3, 1e6])
def test_shifts_of_inputs(ratio, tmp_path, alone):
    """Of the same stored rows, in float32 and in float64, where the shift is subtracted before anything is rounded."""
    X = (rng.standard_normal((300, N)) + ratio).astype(np.float32)
    shift, scale = fastnn.standardize(X)
    model = trained([N, Dense(16, "tanh"), Dense(1, "identity")], input_shift=shift, input_scale=scale)
    (w, v), (b, c) = model.weights, model.biases
    path = tmp_path / "net.py"
    model.export(path)
    finer = X + rng.uniform(-0.4, 0.4, X.shape) * np.spacing(X)  # what float32 would round away
    given = [X, X.astype(np.float64), finer]
    for each, found in zip(given, alone(*[(path, "predict", (each,), {}) for each in given]), strict=True):
        z = (each.astype(np.float64) - shift) * scale
        expected = np.tanh(z @ w.T.astype(float) + b) @ v.T.astype(float) + c
        np.testing.assert_allclose(found, expected, atol=2e-6 * np.abs(expected).max())
    assert (finer.astype(np.float32) == X).all()
    assert ratio < 1e6 or np.abs(finer - X).max() * scale.max() > 1e-2


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("kind", [fastnn.MLPClassifier, fastnn.MLPEnsembleClassifier])
@pytest.mark.parametrize("labels", LABELLED)
def test_classifiers(labels, kind, tmp_path, alone):
    X, y = rng.standard_normal((90, N)), np.array(LABELLED[labels])[np.arange(90) % len(LABELLED[labels])]
    classifier = kind(hidden_layer_sizes=8, max_iter=5, random_state=0).fit(X, y)
    path = tmp_path / "net.py"
    classifier.export(path)
    X = rng.standard_normal((1000, N))
    names = "classify", "predict_proba", "classes", "feature_names"
    found, probabilities, classes, features = alone(*[(path, name, (X,), {}) for name in names])
    assert found.dtype == y.dtype == classes.dtype
    np.testing.assert_array_equal(found, classifier.predict(X))
    np.testing.assert_array_equal(classes, classifier.classes_)
    np.testing.assert_allclose(probabilities, classifier.predict_proba(X), atol=1e-6)
    assert features is None
    assert fastnn.verify(path).passed


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_labels_and_numbers_of_estimators(tmp_path, alone):
    X = pd.DataFrame(rng.standard_normal((60, N)), columns=["a", 'b"', "c\n", "$d", "ü", "'''"])
    x, path = X.to_numpy(), tmp_path / "net.py"
    several = fastnn.MLPClassifier(8, max_iter=5, random_state=0).fit(x, (x[:, :3] > 0).astype(int))
    several.export(path)
    found, probabilities = alone((path, "classify", (x,), {}), (path, "predict_proba", (x,), {}))
    np.testing.assert_array_equal(found, several.predict(x))
    np.testing.assert_allclose(probabilities, several.predict_proba(x), atol=1e-6)
    assert fastnn.verify(path).passed
    for y in (x[:, 0], x[:, :3]):
        regressor = fastnn.MLPRegressor("squared_error", 8, max_iter=5, random_state=0).fit(X, y)
        regressor.export(path)
        found, names = alone((path, "predict", (x,), {}), (path, "feature_names", (), {}))
        close(found, regressor.predict(X), "float32" if found.dtype == np.float32 else "float64")
        assert names == tuple(X.columns)
        assert fastnn.verify(path).passed
    how = {"loss": "gaussian", "n_estimators": 3, "max_iter": 300, "random_state": 0}
    ensemble = fastnn.MLPEnsembleRegressor(hidden_layer_sizes=5, **how).fit(x, x[:, 0])
    ensemble.export(path)
    found, pair = alone((path, "predict", (x,), {}), (path, "predict", (x,), {"return_std": True}))
    expected = [ensemble.predict(x), *ensemble.predict(x, return_std=True)]
    for each, by_hand in zip((found, *pair), expected, strict=True):
        np.testing.assert_allclose(each, by_hand, atol=2e-6)


def test_tables(tmp_path, alone):
    """Without pandas: columns of lists and of NumPy's arrays, rows, no row at all."""
    frame, path = table(), tmp_path / "net.py"
    classifier = fitted_to_table(frame, "classes")
    classifier.export(path)
    given = new_rows(frame)
    columns = {name: given[name].astype(object).where(given[name].notna(), None).tolist() for name in given}
    columns["built"] = given["built"].to_numpy()
    columns["wait"] = given["wait"].to_numpy()
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    dates = [None if each is pd.NaT else each.isoformat() for each in given["built"]]
    text = [{**row, "built": each} for row, each in zip(rows, dates, strict=True)]
    calls = [(path, "predict_proba", (each,), {}) for each in (columns, rows, text, [])]
    expected = classifier.predict_proba(given)
    *found, none, labels, passed = alone(*calls, (path, "classify", (columns,), {}), (path, "self_test", (), {}))
    for each in found:
        np.testing.assert_allclose(each, expected, atol=3e-6)
    assert none.shape == (0, 2)
    np.testing.assert_array_equal(labels, classifier.predict(given))
    assert passed is True


def test_nan_and_wrong_rows(tmp_path, alone):
    path = tmp_path / "net.py"
    model = Model([2, Dense(3, "relu"), Dense(2, "softmax")], loss="cross_entropy", rng=0)
    model.export(path, labels=["no", "yes"])
    (found,) = alone((path, "predict", ([[1, 2], [math.nan, 0], [0, 1]],), {}))
    np.testing.assert_array_equal(np.isnan(found), [[False] * 2, [True] * 2, [False] * 2])
    (none,) = alone((path, "classify", (np.empty((0, 2)),), {}))
    assert none.shape == (0,)
    for wrong in ([1, 2], [[1, 2, 3]]):
        with pytest.raises(AssertionError, match=r"X must have shape \(rows, 2\), got"):
            alone((path, "predict", (wrong,), {}))


def softsign(z):
    return z / (1 + abs(z))


def slope(z):
    return 1 / (1 + abs(z)) ** 2


def test_functions_of_a_user(tmp_path, alone):
    own = fastnn.Activation(softsign, slope, "soft sign")
    model = Model([N, Dense(5, own), Dense(4, own), Dense(1, "identity")], rng=0)
    path, X = tmp_path / "net.py", ordinary("dense")
    for text in ("x / (1 + np.abs(x))", " (x\n / (1 + abs(x)))  # of x\n"):
        model.export(path, expressions={"soft sign": text})
        (found,) = alone((path, "predict", (X,), {}))
        close(found, model.predict(X), "float32")
        assert fastnn.verify(path).passed


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x /", "must be an expression of x and np, got 'x /': invalid syntax"),
        ("import os", "must be an expression of x and np"),
        ("z / (1 + abs(z))", "must be an expression of x and np, .*: name 'z' is not defined"),
        ("np.tanh(x)", "must compute what the activation computes"),
        ("0.0", "must compute what the activation computes"),
    ],
)
def test_expressions_that_are_wrong(text, told, tmp_path):
    model = Model([N, Dense(5, fastnn.Activation(softsign, slope)), Dense(1, "identity")], rng=0)
    with pytest.raises(ValueError, match=r"expressions\['softsign'\] " + told):
        model.export(tmp_path / "net.py", expressions={"softsign": text})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("labels", [[b"a", b"b"], [1 + 1j, 2], [math.inf, 0.0], np.array(["2024", "2025"], "M8[Y]")])
def test_labels_that_no_file_holds(labels, tmp_path):
    with pytest.raises((ValueError, TypeError), match="labels must be"):
        Model([2, 1], rng=0).export(tmp_path / "net.py", labels=labels)
    assert os.listdir(tmp_path) == []
