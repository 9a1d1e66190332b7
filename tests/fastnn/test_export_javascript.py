"""Exported JavaScript modules: node runs them, and they compute what the network computes."""

import base64
import json
import math
import os
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sklearn", reason="the extra sklearn is not installed")

import fastnn
from fastnn import Dense, Model
from fastnn.exchange import javascript
from fastnn.exchange.self_test import SelfTest

from ..cases import DTYPES
from .exports import (
    EVERYTHING,
    FUNCTIONS,
    OPERANDS,
    POPULATIONS,
    N,
    close,
    computation,
    network,
    ordinary,
    outputs_of,
    rows,
)
from .test_export_computation import LABELLED, trained

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
rng = np.random.default_rng(0)
# Calls functions of modules for rows, and prints what they give: numbers and the like as their type and their text.
RUN = """
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
const shown = (v) => (v === null || typeof v !== "object" ? typeof v + " " + v : Array.from(v, shown));
const result = (v) => shown(v.passed ?? v); // of a self test
const found = [];
for (const [path, name, width, text] of JSON.parse(readFileSync(process.argv[2]))) {
  const net = await import(pathToFileURL(path)), each = net[name];
  const numbers = new Float64Array(new Uint8Array(Buffer.from(text, "base64")).buffer);
  const rows = Array.from({ length: numbers.length / width }, (_, i) => numbers.subarray(i * width, (i + 1) * width));
  found.push(typeof each === "function" ? rows.map((row) => result(each(row))) : shown(each));
}
console.log(JSON.stringify(found));
"""


@pytest.fixture
def in_node(tmp_path):
    """A function: what functions of modules give for each row, from calls (path, name, X); floats as an array."""

    def run(*calls):
        script, task = tmp_path / "run.mjs", tmp_path / "task.json"
        script.write_text(RUN)
        texts = [base64.b64encode(np.asarray(X, "<f8").tobytes()).decode() for _, _, X in calls]
        task.write_text(
            json.dumps(
                [[str(path), name, np.shape(X)[-1], text] for (path, name, X), text in zip(calls, texts, strict=True)]
            )
        )
        done = subprocess.run(["node", script, task], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return [read(each) for each in json.loads(done.stdout)]

    return run


def read(found):
    """What the script printed."""
    if isinstance(found, list):
        return [read(each) for each in found]
    kind, _, text = found.partition(" ")
    return {"number": float, "string": str, "bigint": lambda t: int(t), "boolean": lambda t: t == "true"}.get(
        kind, lambda _: None
    )(text)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_function(dtype, tmp_path, in_node):
    """All of `numpy_steps` and no other, so one that is new there must be written here."""
    assert {*javascript.FUNCTIONS} == {*FUNCTIONS} > {*OPERANDS}
    X, calls, expected = rows(), [], []
    for function in FUNCTIONS:
        steps, by_hand = computation(function, dtype)
        path = tmp_path / f"{function}.mjs"
        path.write_bytes(javascript.written(steps, SelfTest.of(steps), function, {}))
        calls.append((path, "predict", X))
        expected.append(by_hand(X))
    assert in_node(*[(path, "selfTest", X[:1]) for path, _, _ in calls]) == [[True]] * len(calls)
    bound = {"float32": 2.0**-23, "float64": 1e-12}[dtype]
    for function, found, by_hand in zip(FUNCTIONS, in_node(*calls), expected, strict=True):
        np.testing.assert_allclose(found, by_hand, rtol=bound, atol=bound, err_msg=function)


def test_the_error_function(tmp_path, in_node):
    """Of gelu: the whole range, and both sides of where its two formulas meet."""
    steps, _ = computation("gelu", "float64")
    path = tmp_path / "gelu.mjs"
    path.write_bytes(javascript.written(steps, SelfTest.of(steps), "gelu", {}))
    middle = np.sqrt(8) + np.linspace(-1e-6, 1e-6, 600)
    x = np.concatenate([np.linspace(-45, 45, 6000), np.linspace(-3, 3, 6000), middle, -middle]).reshape(-1, N)
    (found,) = in_node((path, "predict", x))
    expected = [[each * math.erfc(-each / math.sqrt(2)) / 2 for each in row] for row in x]
    np.testing.assert_allclose(found, expected, rtol=1e-15, atol=2e-15)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_network(dtype, tmp_path, in_node):
    calls, expected = [], []
    for name in EVERYTHING:
        what, X, path = network(name, dtype), ordinary(name), tmp_path / f"{name.replace(' ', '_')}.mjs"
        fastnn.export(what, path)
        calls.append((path, "predict", X))
        expected.append(outputs_of(what, X))
        if "predictStd" in path.read_text():
            n = expected[-1].shape[1] // 2
            calls.append((path, "predictStd", X))
            expected[-1:] = [expected[-1][:, :n], expected[-1][:, n:]]
    assert in_node(*[(path, "selfTest", X[:1]) for path, _, _ in calls]) == [[True]] * len(calls)
    assert len(calls) == len(EVERYTHING) + 2
    for found, by_hand in zip(in_node(*calls), expected, strict=True):
        close(found, by_hand, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_how_large_a_module_is(dtype, tmp_path):
    """At most 6 bytes for each parameter of 4, and 4 KB for the code. The recorded rows come on top."""
    for name in EVERYTHING:
        if name in POPULATIONS:
            continue  # they have a line for each step of each member
        model, path = network(name, dtype), tmp_path / "net.mjs"
        model.export(path)
        recorded = re.search(rb"ROWS = .*", path.read_bytes())[0]
        most = np.dtype(dtype).itemsize / 4 * 6 * model.n_parameters + 4096
        assert path.stat().st_size - len(recorded) <= most, name


@pytest.mark.parametrize("ratio", [1, 1e3, 1e6])
def test_shifts_of_inputs(ratio, tmp_path, in_node):
    """Of the same stored rows, and of others that float32 would round to them."""
    X = (rng.standard_normal((300, N)) + ratio).astype(np.float32)
    shift, scale = fastnn.standardize(X)
    model = trained([N, Dense(16, "tanh"), Dense(1, "identity")], input_shift=shift, input_scale=scale)
    (w, v), (b, c) = model.weights, model.biases
    path = tmp_path / "net.mjs"
    model.export(path)
    finer = X + rng.uniform(-0.4, 0.4, X.shape) * np.spacing(X)
    for each, found in zip((X, finer), in_node((path, "predict", X), (path, "predict", finer)), strict=True):
        z = (each.astype(np.float64) - shift) * scale
        expected = np.tanh(z @ w.T.astype(float) + b) @ v.T.astype(float) + c
        np.testing.assert_allclose(found, expected, atol=2e-6 * np.abs(expected).max())


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("kind", [fastnn.MLPClassifier, fastnn.MLPEnsembleClassifier])
@pytest.mark.parametrize("labels", LABELLED)
def test_classifiers(labels, kind, tmp_path, in_node):
    X, y = rng.standard_normal((90, N)), np.array(LABELLED[labels])[np.arange(90) % len(LABELLED[labels])]
    classifier = kind(hidden_layer_sizes=8, max_iter=5, random_state=0).fit(X, y)
    path = tmp_path / "net.mjs"
    classifier.export(path)
    X = rng.standard_normal((1000, N))
    names = "classify", "probabilities", "labels", "features"
    found, probabilities, known, features = in_node(*[(path, name, X) for name in names])
    assert found == classifier.predict(X).tolist()
    assert known == classifier.classes_.tolist()
    assert {type(each) for each in known} == {float if labels == "float" else type(classifier.classes_.tolist()[0])}
    np.testing.assert_allclose(probabilities, classifier.predict_proba(X), atol=1e-6)
    assert features is None
    assert fastnn.verify(path).passed


def test_labels_of_text_and_of_numbers(tmp_path, in_node):
    """Integers that float64 holds are numbers of JavaScript, and all are BigInt where one is not."""
    path, X = tmp_path / "net.mjs", np.eye(N)
    model = Model([N, Dense(3, "softmax")], loss="cross_entropy", rng=0)
    for labels in (
        ["a,b", '"', "\u2028\U0001f600\\ ${x}`"],
        ["\ud800", "</script>", ""],
        [-(2**53), 2**53, 0],
        [1.5, -0.1, 1e-300],
        np.array([3, 2**64 - 1, 0], np.uint64),
    ):
        model.export(path, labels=labels)
        assert fastnn.verify(path) == (16, 0, 0, 0, True, True)
        known, found = in_node((path, "labels", X), (path, "classify", X))
        expected = np.asarray(labels).tolist()
        if "\ud800" in expected:
            known, found, expected = known[1:], [], expected[1:]  # what node prints cannot hold it
        assert known == expected
        assert found == [expected[i] for i in model.classify(X)[: len(found)]]
    assert [type(each) for each in known] == [int] * 3


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_labels_and_numbers_of_estimators(tmp_path, in_node):
    X = pd.DataFrame(rng.standard_normal((60, N)), columns=["a", 'b"', "c\n", "$d", "ü", "'''"])
    x, path = X.to_numpy(), tmp_path / "net.mjs"
    several = fastnn.MLPClassifier(8, max_iter=5, random_state=0).fit(x, (x[:, :3] > 0).astype(int))
    several.export(path)
    found, probabilities = in_node((path, "classify", x), (path, "probabilities", x))
    assert found == several.predict(x).tolist()
    np.testing.assert_allclose(probabilities, several.predict_proba(x), atol=1e-6)
    assert fastnn.verify(path).passed
    for y in (x[:, 0], x[:, :3]):
        regressor = fastnn.MLPRegressor("squared_error", 8, max_iter=5, random_state=0).fit(X, y)
        regressor.export(path)
        found, names = in_node((path, "predict", x), (path, "features", x))
        close(found, regressor.predict(X).reshape(60, -1), "float64")
        assert names == list(X.columns)
        assert fastnn.verify(path).passed
    how = {"loss": "gaussian", "n_estimators": 3, "max_iter": 300, "random_state": 0}
    ensemble = fastnn.MLPEnsembleRegressor(hidden_layer_sizes=5, **how).fit(x, x[:, 0])
    ensemble.export(path)
    pair = in_node((path, "predict", x), (path, "predictStd", x))
    for each, expected in zip(pair, ensemble.predict(x, return_std=True), strict=True):
        np.testing.assert_allclose(np.array(each)[:, 0], expected, atol=2e-6)


def test_kinds_of_rows(tmp_path):
    """Arrays, typed arrays, NaN, many rows; one of another length is told. Nothing is imported."""
    path = tmp_path / "net.mjs"
    model = Model([2, Dense(3, "relu"), Dense(2, "softmax")], loss="cross_entropy", rng=0)
    model.export(path)
    assert "import " not in path.read_text()
    assert "require" not in path.read_text()
    source = f"""
const {{ predict, predictRows, classify, selfTest }} = await import({json.dumps(str(path))});
const rows = [[1, 2], new Float32Array([1, 2]), new Uint8Array([1, 2]), [NaN, 2]];
const texts = predictRows(rows).map((y) => Array.from(y).join());
const told = [];
for (const wrong of [[1], [1, 2, 3], undefined]) {{
  try {{ predict(wrong); }} catch (error) {{ told.push(error.name + ": " + error.message); }}
}}
console.log(JSON.stringify([texts, predict(rows[0]).constructor.name, classify([3, 4]), told, selfTest().passed]));
"""
    done = subprocess.run(["node", "--input-type=module", "-e", source], capture_output=True, text=True, timeout=60)
    texts, kind, found, told, passed = json.loads(done.stdout)
    assert texts[0] == texts[1] == texts[2]
    np.testing.assert_allclose([float(each) for each in texts[0].split(",")], model.predict([[1, 2]])[0], atol=1e-6)
    assert texts[3] == "NaN,NaN"
    assert (kind, found, passed) == ("Float64Array", model.classify([[3, 4]])[0], True)
    assert told == [f"RangeError: a row must have 2 numbers, got {n}" for n in (1, 3, "undefined")]


def softsign(z):
    return z / (1 + abs(z))


def slope(z):
    return 1 / (1 + abs(z)) ** 2


def test_functions_of_a_user(tmp_path, in_node):
    own = fastnn.Activation(softsign, slope, "soft sign")
    model = Model([N, Dense(5, own), Dense(4, own), Dense(1, "identity")], rng=0)
    path, X = tmp_path / "net.mjs", ordinary("dense")
    with pytest.raises(ValueError, match=r"expressions must have 'soft sign', an activation of your own, got \[\]"):
        model.export(path)
    assert os.listdir(tmp_path) == []
    model.export(path, expressions={"soft sign": "x / (1 + Math.abs(x)) // of x"})
    (found,) = in_node((path, "predict", X))
    close(found, model.predict(X), "float32")
    assert fastnn.verify(path).passed
    model.export(path, expressions={"soft sign": "Math.tanh(x)"})
    assert not fastnn.verify(path).passed
