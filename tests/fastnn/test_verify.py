"""`verify`: it finds what has changed in a file, however little, and says what is missing to run it."""

import base64
import math
import re
import shutil

import numpy as np
import pandas as pd
import pytest

import fastnn
from fastnn import Dense, Model
from fastnn.exchange import javascript, python_file, verifying
from fastnn.exchange.computation import NUMBERS, Computation, Decision, Steps
from fastnn.exchange.self_test import SelfTest
from fastnn.exchange.verifying import Verification

from ..cases import DTYPES

rng = np.random.default_rng(0)
SUFFIXES = [
    ".py",
    pytest.param(".mjs", marks=pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")),
]
KNOWN, RECORDED = r"(export const labels|classes) = ", r"(const )?LABELS = "
PARAMETERS = re.compile(r'(PARAMETERS = ")([^"]*)(")')


def exported(folder, suffix, dtype="float32", **how):
    """(path, text) of a network of 5 inputs and 4 classes, none of whose units is idle for all rows."""
    path = folder / f"net{suffix}"
    model = Model([5, Dense(8, "tanh"), Dense(4, "softmax")], loss="cross_entropy", dtype=dtype, rng=3)
    X = rng.standard_normal((20, 5))
    model.fit(pd.DataFrame(X, columns=["a", "b", "c", "d", "e"]), np.arange(20) % 4, epochs=1, batch_size=5)
    model.export(path, labels=["ash", "birch", "cedar", "doum"], **how)
    return path, path.read_text()


def with_parameters(text, change, dtype):
    """The text of a file, with its parameters changed."""
    found = np.frombuffer(base64.b64decode(PARAMETERS.search(text)[2]), dtype).copy()
    change(found)
    return PARAMETERS.sub(lambda match: match[1] + base64.b64encode(found.tobytes()).decode() + match[3], text)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_one_bit_of_a_weight(suffix, dtype, tmp_path):
    """One that changes it by more than a thousandth: the rows tell, and so does the checksum."""
    path, text = exported(tmp_path, suffix, dtype)
    assert fastnn.verify(path).passed
    bits = {"float32": 32, "float64": 64}[dtype]
    for _ in range(8):
        place, bit = rng.integers(0, 5 * 8), rng.integers(bits - 18, bits)  # a weight of the first layer

        def flip(found, place=place, bit=bit):
            before = found[place]
            found.view(f"u{bits // 8}")[place] ^= np.array(1 << int(bit), f"u{bits // 8}")
            assert abs(found[place] - before) > 1e-3 * abs(before) or np.isnan(found[place])

        path.write_text(with_parameters(text, flip, dtype))
        found = fastnn.verify(path)
        assert found.error > {"float32": 1e-6, "float64": 1e-12}[dtype]
        assert found.ulp > 1
        assert not found.intact
        assert not found.passed


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_last_bit_of_a_weight_of_a_unit_that_is_idle(suffix, tmp_path):
    """No row tells it: the checksum does."""
    path = tmp_path / f"net{suffix}"
    model = Model([2, Dense(2, "relu"), Dense(1, "identity")], rng=0)
    model.biases[0][1] = -1000
    model.export(path)

    def flip(found):
        found.view(np.uint32)[2] ^= np.uint32(1)  # weight of unit 1

    path.write_text(with_parameters(path.read_text(), flip, "float32"))
    assert fastnn.verify(path) == Verification(16, 0, 0, 0, False, False)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("way", ["labels", "rare labels", "columns", "names"])
def test_what_is_swapped(way, suffix, tmp_path):
    path, text = exported(tmp_path, suffix)
    line, recorded = (next(each for each in text.splitlines() if re.match(start, each)) for start in (KNOWN, RECORDED))
    quote = '"' if suffix == ".mjs" else "'"
    counts = {each: recorded.count(f"{quote}{each}{quote}") for each in ("ash", "birch", "cedar", "doum")}
    common, *_, rare = sorted(counts, key=counts.get, reverse=True)
    if way == "columns":

        def swap(found):
            weights = found[:40].reshape(8, 5)
            weights[:, [1, 3]] = weights[:, [3, 1]]

        changed = with_parameters(text, swap, "float32")
    elif way == "names":
        changed = re.sub(r"([\"'])b\1, ([\"'])c\2", r"\1c\1, \1b\1", text, count=1)
    else:
        one, other = (common, rare) if way == "labels" else (rare, "oak")
        new = line.replace(one, "@").replace(other, one).replace("@", other)
        changed = text.replace(line, new)
    assert changed != text
    path.write_text(changed)
    found = fastnn.verify(path)
    assert not found.passed
    assert not found.intact
    assert (found.error > 1e-6) == (way == "columns")
    if way == "labels":
        assert found.wrong_labels == counts[common] + counts[rare] > 0


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_new_nan_is_an_infinite_error(suffix, tmp_path):
    """And an old one is none. So are infinities."""
    steps = Steps(2, "float32")
    steps.add("affine", 0, factor=np.array([1e38, 1.0]), shift=np.zeros(2))
    computation = Computation("float32", 2, tuple(steps.made), Decision(NUMBERS))
    form = python_file if suffix == ".py" else javascript
    path = tmp_path / f"net{suffix}"
    inputs = np.array([[1, 2], [9, 2], [-9, np.nan]], np.float32)
    outputs = computation.outputs(inputs)
    assert np.isinf(outputs[1:, 0]).all()
    path.write_bytes(form.written(computation, SelfTest(inputs, outputs, outputs, 1e-6), "net", {}))
    assert fastnn.verify(path) == Verification(3, 0, 0, 0, True, True)
    for wrong in (np.nan, 0.0, -outputs[1, 0]):
        recorded = outputs.copy()
        recorded[1, 0] = wrong
        path.write_bytes(form.written(computation, SelfTest(inputs, recorded, recorded, 1e-6), "net", {}))
        found = fastnn.verify(path)
        assert (found.error, found.passed) == (np.inf, False)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_errors_and_units_in_the_last_place(suffix, dtype, tmp_path):
    steps = Steps(3, dtype)
    steps.add("affine", 0, factor=np.ones(3), shift=np.zeros(3))
    computation = Computation(dtype, 3, tuple(steps.made), Decision(NUMBERS))
    inputs = np.array([[1.5, 1000.0, 2.0**-10]], dtype)
    path, form = tmp_path / f"net{suffix}", python_file if suffix == ".py" else javascript
    for i, units in ((0, 3), (1, -5), (2, 7)):
        recorded = inputs.copy()
        recorded[0, i] += units * np.spacing(recorded[0, i])
        path.write_bytes(form.written(computation, SelfTest(inputs, recorded, recorded, 1e-6), "net", {}))
        found = fastnn.verify(path)
        expected = abs(float(recorded[0, i]) - float(inputs[0, i])) / max(1, recorded[0, i])
        assert (found.rows, found.ulp, found.passed) == (1, abs(units), True)
        np.testing.assert_allclose(found.error, expected, rtol=0.005)  # it is printed with three digits
        np.testing.assert_allclose(verifying.errors(inputs, recorded), (expected, abs(units)), rtol=1e-6)


def test_what_cannot_be_verified(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"path must end in one of \.onnx, \.h, \.mjs, \.py, got 'net\.txt'"):
        fastnn.verify("net.txt")
    with pytest.raises(FileNotFoundError, match=r"path must name a file, got 'missing\.py'"):
        fastnn.verify("missing.py")
    with pytest.raises(TypeError, match="path must be a string or a path object, got 5"):
        fastnn.verify(5)
    path = tmp_path / "net.py"
    for text, told in (
        ("", "nothing"),
        ("print('all is well')", "all is well"),
        ("import fastnn.nothing", "ModuleNotFoundError: No module named 'fastnn"),
        ("16 rows", "SyntaxError"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=rf"path must name a file that runs, got .*net\.py', which said: {told}"):
            fastnn.verify(path)
    path.write_text("while True: pass")
    monkeypatch.setattr(verifying, "SECONDS", 0.5)
    with pytest.raises(ValueError, match=r"net\.py', not done in 0.5 s"):
        fastnn.verify(path)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "net.mjs").write_text("")
    with pytest.raises(FileNotFoundError, match=r"node must be installed to run .*net\.mjs'"):
        fastnn.verify(tmp_path / "net.mjs")


def test_what_cannot_be_exported(tmp_path):
    model = Model([2, 1], rng=0)
    with pytest.raises(ValueError, match=r"path must end in one of .*, got 'net\.js'"):
        model.export("net.js")
    with pytest.raises(FileNotFoundError, match="path must lie in a folder that exists"):
        model.export(tmp_path / "no" / "net.py")
    for rows in ([], 5, np.empty((0, 2)), [[1, 2, 3]]):
        with pytest.raises(ValueError, match=r"rows must have shape \(\w+, 2\)"):
            model.export(tmp_path / "net.py", rows=rows)
    with pytest.raises(ValueError, match="name must be letters, digits and underscores"):
        model.export(tmp_path / "net.py", name="my net")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_and_a_name_of_ones_own(suffix, tmp_path):
    model, path = Model([2, 3, 1], rng=0), tmp_path / f"2 nets{suffix}"
    rows = [[0.1, 0.2], [3, 4], [5, 6]]
    model.export(path, rows=rows, name="xor")
    assert re.match(r'("""|// )xor: a trained network', path.read_text())
    assert fastnn.verify(path).rows == 3
    recorded = re.search(r'ROWS = "([^"]*)"', path.read_text())[1]
    inputs, outputs = np.split(np.frombuffer(base64.b64decode(recorded), np.float32), [6])
    np.testing.assert_array_equal(inputs.reshape(3, 2), np.array(rows, np.float32))
    np.testing.assert_allclose(outputs, model.predict(rows)[:, 0], atol=1e-6)


def above(z):
    return z / (1 + math.fabs(z))


def slope(z):
    return 1 / (1 + math.fabs(z)) ** 2


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("low", "threshold"), [(-1, 0.5), (-2, 0), (-np.inf, 0)])
def test_the_threshold_of_a_users_own_output(low, threshold, suffix, tmp_path):
    """In the middle of its range (low, 2), else 0."""
    own = fastnn.Activation(above, slope, range=(low, 2))
    model, path = Model([3, 4, Dense(1, own)], rng=0), tmp_path / f"net{suffix}"
    rows = rng.normal(0, 3, (16, 3)) + 2
    text = "x / (1 + abs(x))" if suffix == ".py" else "x / (1 + Math.abs(x))"
    model.export(path, labels=["no", "yes"], rows=rows, expressions={"above": text})
    assert fastnn.verify(path).passed
    expected = np.array(["no", "yes"])[(model.predict(rows)[:, 0] > threshold).astype(int)].tolist()
    (line,) = re.findall(r"LABELS = .*", path.read_text())
    assert re.findall(r"\b(?:no|yes)\b", line) == expected


def test_python_runs_without_the_users_settings(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "numpy.py").write_text("raise SystemExit('another NumPy')")
    path = tmp_path / "folder" / "net.py"
    path.parent.mkdir()
    Model([2, 1], rng=0).export(path)
    assert fastnn.verify(path).passed
