"""ONNX files of estimators that read tables: an input a column, by ONNX Runtime and by onnx's own reference."""

import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the extra onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("sklearn", reason="the extra sklearn is not installed")
pytest.importorskip("pandas", reason="pandas is not installed")

import onnx
import onnxruntime
import pandas as pd

import fastnn
from fastnn.data.encodings import DAY
from fastnn.exchange import onnx_file
from fastnn.exchange.computation import INPUTS, NUMBERS, Computation, Decision, Input, Steps
from fastnn.exchange.describing import computation_of, matrix_of
from fastnn.exchange.self_test import SelfTest

from ..cases import DTYPES
from .test_export_c_tables import DAYS, KINDS, columns_alone, of_dates
from .test_export_computation import fitted_to_table, new_rows, table

rng = np.random.default_rng(0)


def content(computation, rows=None):
    """The bytes of a file, which onnx's checker approves of; it has standard operators alone."""
    found = onnx_file.written(computation, SelfTest.of(computation, rows), "net", {})
    model = onnx.load_from_string(found)
    onnx.checker.check_model(model, full_check=True)
    assert {each.domain for each in model.opset_import} == {""}
    return found


def both(found, X):
    """What ONNX Runtime and onnx's reference give for a matrix of numbers."""
    for opened in (onnx_file._by_runtime, onnx_file._by_reference):
        yield opened(found).outputs(np.asarray(X, np.float64))


@pytest.mark.parametrize("ranked", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_columns(dtype, ranked):
    """Against the table itself: gaps, unknown values, numbers and dates that lie far out."""
    frame = table()
    frame["flat"], frame["far"] = 7.0, 10.0 ** rng.uniform(-5, 200, len(frame))
    frame.loc[3, "flat"] = None
    other = new_rows(frame)
    other.loc[::6, "built"] = pd.Timestamp("1700-02-28 13:14:15")
    other.loc[::4, "area"], other.loc[::4, "far"] = -1e300, 1e300
    made, computation = columns_alone(frame, dtype, ranked)
    bound = {"float32": 2e-7, "float64": 5e-11}[dtype]  # a time of the day in microseconds is that of a date in days
    for rows in (frame, other):
        for got in both(content(computation), matrix_of(made, rows)):
            assert got["prediction"].dtype == dtype
            np.testing.assert_allclose(got["prediction"], made.transform(rows, dtype), rtol=bound, atol=bound)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dates(dtype):
    computation = of_dates(dtype)
    bound = {"float32": 2e-7, "float64": 1e-12}[dtype]
    for got in both(content(computation), DAYS[:, None]):
        np.testing.assert_allclose(got["prediction"], computation.outputs(DAYS[:, None]), rtol=bound, atol=bound)


def feeds(frame):
    """The columns of `table` as a user gives them to ONNX Runtime."""
    text = frame[["town", "side", "street"]]
    found = {name: each.fillna("").to_numpy(object) for name, each in text.items()}
    found |= {f"{name} missing": each.isna().to_numpy() for name, each in text.items()}
    found |= {name: frame[name].to_numpy(float) for name in ("area", "rooms", "lift")}
    found["on"] = frame["on"].astype(float).to_numpy()
    found["wait"] = frame["wait"].dt.total_seconds().to_numpy()
    found["built"] = ((frame["built"] - pd.Timestamp(0)) / pd.Timedelta(1, "D")).to_numpy()
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_estimators(kind, tmp_path):
    """What the estimator predicts, of rows with all that training had not, given as columns and as a matrix."""
    frame = table()
    estimator = fitted_to_table(frame, kind)
    path, rows = tmp_path / "net.onnx", new_rows(frame)
    estimator.export(path, rows=frame)
    assert fastnn.verify(path).passed
    session = onnxruntime.InferenceSession(path)
    names = [each.name for each in session.get_inputs()]
    assert names == [
        *("area", "rooms", "lift", "town", "town missing", "side", "side missing", "street", "built", "wait", "on")
    ]
    computation, given = computation_of(estimator), feeds(rows)
    of_columns = session.run(None, {name: given[name] for name in names})
    for found in [of_columns, *map(list, map(dict.values, both(path.read_bytes(), matrix_of(estimator.table_, rows))))]:
        if kind == "classes":
            np.testing.assert_array_equal(found[0], estimator.predict(rows))
            np.testing.assert_allclose(found[1], estimator.predict_proba(rows), atol=3e-6)
        else:
            np.testing.assert_allclose(computation.predictions(found[0]), estimator.predict(rows), rtol=1e-5)
        assert found[-1].dtype == np.float32
    for n in (0, 1, 7):
        few = session.run(None, {name: given[name][:n] for name in names})[-1]
        np.testing.assert_allclose(few, of_columns[-1][:n], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [((1, 2, 7), np.float64), ((0.5, 3), np.float64), ((-(2**62), 2**53 + 1, 2**62), np.int64), (("0", "1"), object)],
)
@pytest.mark.parametrize("gaps", [False, True])
def test_categories(values, dtype, gaps):
    """Their values, unknown ones and missing ones, with a second input where these differ and NaN is none."""
    steps = Steps(1, "float32")
    width = len(values) + gaps
    places = np.array([*range(1, 1 + len(values)), *([0] if gaps else [])], np.float64)
    steps.add("one_hot", INPUTS, width=width, column=0, places=places)
    column = Input("kind", "category", values)
    computation = Computation("float32", 1, tuple(steps.made), Decision(NUMBERS), inputs=(column,))
    found = content(computation)
    session = onnxruntime.InferenceSession(found)
    has_flag = gaps and dtype is not np.float64
    assert [each.name for each in session.get_inputs()] == ["kind", *(["kind missing"] if has_flag else [])]
    given = {"kind": np.array([*values, values[0], type(values[0])(9)], dtype)}
    if has_flag:
        given["kind missing"] = np.arange(len(values) + 2) == len(values)
    elif gaps:
        given["kind"][len(values)] = np.nan
    expected = np.zeros((len(values) + 2, width))
    expected[np.arange(len(values)), np.arange(len(values))] = 1
    expected[len(values), 0] = not gaps  # the first value once more, or a missing one
    expected[-1, -1] = gaps  # an unknown one
    np.testing.assert_array_equal(session.run(None, given)[0], expected)
    X = np.array([*range(1 + len(values)), np.nan])[:, None]
    for got in both(found, X):
        np.testing.assert_array_equal(got["prediction"], computation.outputs(X))


def test_categories_that_onnx_cannot_compare():
    steps = Steps(1, "float32")
    steps.add("codes", INPUTS, width=1, column=0)
    for values in ((0.5, 2**60), (1, 2**63)):
        column = Input("kind", "category", values)
        computation = Computation("float32", 1, tuple(steps.made), Decision(NUMBERS), inputs=(column,))
        with pytest.raises(ValueError, match="categories in ONNX must be text, float64 or int64, got"):
            content(computation)


def test_names_that_are_taken():
    """By outputs, by values in between, by another column, by what tells of missing values."""
    computation = of_dates("float32")
    for name in ("prediction", "Unsqueeze_1", ""):
        taken = replace(computation, inputs=(Input(name, "date"),))
        with pytest.raises(
            ValueError, match=f"columns must have names that nothing else in an ONNX file has, got '{name}'"
        ):
            content(taken)
    frame = pd.DataFrame({"town": ["Oslo", "Rome", None] * 9, "town missing": rng.random(27)})
    with pytest.raises(ValueError, match="got 'town missing'"):
        content(columns_alone(frame, "float32", True)[1])


def test_what_a_file_says(tmp_path):
    frame = table()
    estimator = fitted_to_table(frame, "numbers")
    estimator.export(tmp_path / "net.onnx", rows=frame)
    model = onnx.load(tmp_path / "net.onnx")
    said = {each.key: json.loads(each.value) for each in model.metadata_props if each.value[0] in "[{"}
    columns = {each["name"]: each for each in said["columns"]}
    assert [*columns] == [name for name in frame if name != "empty"]
    assert columns["town"] == {
        "name": "town",
        "kind": "category",
        "values": ["Bern", "Oslo", "Rome"],
        "missing": "town missing",
    }
    assert columns["built"] == {"name": "built", "kind": "date", "values": [], "missing": None}
    assert "NaN" not in json.dumps(said["self_test"])
    test = onnx_file.self_test(tmp_path / "net.onnx")
    X = matrix_of(estimator.table_, frame)[:16]
    np.testing.assert_array_equal(test.inputs, X)
    assert np.isnan(test.inputs).any()
    assert (test.inputs.dtype, test.outputs.dtype) == (np.float64, np.float32)
    found = onnx_file.run(tmp_path / "net.onnx", test.inputs)["prediction"]
    np.testing.assert_allclose(found, estimator.predict(frame)[:16, None], rtol=1e-5)
    dates = frame["built"].iloc[3:16].to_numpy()
    np.testing.assert_array_equal(test.inputs[3:, 6], dates.astype("M8[us]").astype(np.int64) / DAY)


def test_a_changed_category_is_found(tmp_path):
    path = tmp_path / "net.onnx"
    fitted_to_table(table(), "numbers").export(path)
    model = onnx.load(path)
    towns = next(each for each in model.graph.initializer if b"Oslo" in each.string_data)
    towns.string_data[:] = towns.string_data[::-1]
    onnx.save(model, path)
    found = fastnn.verify(path)
    assert found.error > 1e-5
    assert (found.intact, found.passed) == (False, False)
