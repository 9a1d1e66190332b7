"""Tables in exported Python and JavaScript files: they read rows as the estimators do, and predict the same."""

import base64
import datetime
import json
import math
import re
import runpy
import shutil
import subprocess
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sklearn", reason="the extra sklearn is not installed")

import fastnn
from fastnn.data.tables import Table
from fastnn.exchange import javascript, numpy_columns, python_file
from fastnn.exchange.computation import INPUTS, NUMBERS, OF_COLUMNS, Computation, Decision, Input, Steps
from fastnn.exchange.describing import add_table, computation_of, matrix_of
from fastnn.exchange.numpy_tables import matrix
from fastnn.exchange.self_test import SelfTest

from .exports import numbers
from .test_export_computation import fitted_to_table, new_rows, table

rng = np.random.default_rng(0)
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
SUFFIXES = [".py", pytest.param(".mjs", marks=needs_node)]
KINDS = ["classes", "numbers", "logarithms", "several"]
# Calls functions of a module for each row, and prints what they give, an error as its text.
RUN = """
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
const net = await import(pathToFileURL(process.argv[2]));
const [names, rows] = JSON.parse(readFileSync(process.argv[3]));
const shown = (v) => (ArrayBuffer.isView(v) ? Array.from(v) : v);
const tried = (call) => { try { return shown(call()); } catch (error) { return error.name + ": " + error.message; } };
console.log(JSON.stringify(names.map((name) => rows.map((row) => tried(() => net[name](row))))));
"""


def in_node(path, names, rows):
    """What functions of a module give for each row, which JSON can hold."""
    task, script = path.parent / "task.json", path.parent / "run.mjs"
    task.write_text(json.dumps([names, rows]))
    script.write_text(RUN)
    done = subprocess.run(["node", script, path, task], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def plain(frame):
    """The rows of a frame as JSON has them: ISO text for dates, seconds for time deltas, null for what is missing."""

    def value(each):
        if each is None or each != each:
            return None
        if isinstance(each, pd.Timestamp):
            return each.isoformat()
        return each.total_seconds() if isinstance(each, pd.Timedelta) else each

    records = frame.astype(object).to_dict("records")
    return [{name: value(each) for name, each in record.items()} for record in records]


def columns_of(inputs):
    return [(each.key, each.kind, each.values) for each in inputs]


def read_of(made):
    """(columns, number of positions) as a file has them, of a table."""
    encoded = [each for each in made.encodings if each.suffixes()]
    _, inputs = add_table(Steps(len(encoded), "float64"), made)
    return columns_of(inputs), 0 if made.labels is not None else len(made.encodings)


# ---- functions ----


def of_columns():
    """A case of each function that reads columns: the width of its value, and its operands."""
    cuts = np.sort(rng.normal(0, 2, 9))
    how = {"column": 1, "centre": 0.5, "scale": 0.75, "limit": 3.0}
    return [
        ("numbers", 1, {**how, "cuts": cuts[:0], "edges": cuts[:0]}),
        ("numbers", 2, {**how, "cuts": cuts, "edges": cuts[:0]}),
        ("numbers", 5, {**how, "cuts": cuts, "edges": cuts[[0, 3, 5, 8]]}),
        ("shifted_columns", 3, {"which": np.array([3, 0, 3]), "shift": 1e6 * numbers(3), "scale": numbers(3)}),
        ("contrast", 1, {"column": 2, "low": 1.0, "high": 2.0}),
        ("one_hot", 3, {"column": 2, "places": np.array([1.0, 2.0, 0.0])}),
        ("codes", 1, {"column": 2}),
        ("missing", 1, {"column": 0}),
        ("date_parts", 4, {"column": 3}),
        ("cycle", 2, {"column": 1}),
    ]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_function_of_columns(suffix, tmp_path):
    cases = of_columns()
    assert {name for name, *_ in cases} == {*OF_COLUMNS} == {*javascript.FUNCTIONS_OF_COLUMNS}
    steps = Steps(4, "float64")
    read = [steps.add(name, INPUTS, width=width, **operands) for name, width, operands in cases]
    steps.add("joined", *read, width=sum(width for _, width, _ in cases))
    columns = tuple(Input(name, "number", (), name) for name in "abcd")
    computation = Computation("float64", 4, tuple(steps.made), Decision(NUMBERS), inputs=columns)
    X = rng.normal(0, 2, (400, 4))
    X[:, 2], X[:, 3] = rng.integers(0, 4, 400), rng.uniform(-150000, 80000, 400)
    X[::7, 1] *= 1e99
    X[1::7, 1] = rng.choice(cases[1][2]["cuts"], len(X[1::7]))
    X[rng.random(X.shape) < 0.1] = np.nan
    expected = np.hstack([getattr(numpy_columns, name)(X, **operands) for name, _, operands in cases])
    path = tmp_path / f"net{suffix}"
    form = python_file if suffix == ".py" else javascript
    path.write_bytes(form.written(computation, SelfTest.of(computation, X), "net", {}))
    assert fastnn.verify(path).passed
    if suffix == ".py":
        found = runpy.run_path(str(path))["predict"](dict(zip("abcd", X.T, strict=True)))
    else:
        rows = [dict(zip("abcd", [None if x != x else x for x in row], strict=True)) for row in X.tolist()]
        (answers,) = in_node(path, ["predict"], rows)
        found = np.array([[math.nan if v is None else v for v in row] for row in answers])
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-11)


# ---- estimators ----


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", KINDS)
def test_predictions(kind, suffix, tmp_path):
    frame = table()
    estimator, rows, path = fitted_to_table(frame, kind), new_rows(frame), tmp_path / f"net{suffix}"
    estimator.export(path, rows=rows)
    assert fastnn.verify(path).passed
    estimator.export(path)
    assert fastnn.verify(path).passed
    expected = estimator.predict(rows)
    if suffix == ".py":
        net = runpy.run_path(str(path))
        found = net["predict"](rows)
        labels, probabilities = (net["classify"](rows), net["predict_proba"](rows)) if kind == "classes" else (0, 0)
    else:
        names = ["predict", *(["classify", "probabilities"] if kind == "classes" else [])]
        found, labels, probabilities = [*in_node(path, names, plain(rows)), 0, 0][:3]
        found = np.array(found)[:, 0] if expected.ndim == 1 and kind != "classes" else found
    if kind == "classes":
        np.testing.assert_array_equal(labels, expected)
        np.testing.assert_allclose(probabilities, estimator.predict_proba(rows), atol=3e-6)
        np.testing.assert_array_equal(found, probabilities)
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("way", ["categories", "a column's name", "statistics", "a kind"])
def test_what_is_changed(way, suffix, tmp_path):
    path = tmp_path / f"net{suffix}"
    fitted_to_table(table(), "classes").export(path)
    text = path.read_text()
    quote = "'" if suffix == ".py" else '"'

    def quoted(*names):
        return ", ".join(f"{quote}{name}{quote}" for name in names)

    if way == "categories":
        changed = text.replace(quoted("Bern", "Oslo"), quoted("Oslo", "Bern"), 1)
    elif way == "a column's name":
        changed = text.replace(quoted("area"), quoted("space"), 1)
    elif way == "a kind":
        changed = text.replace(quoted("wait", "duration"), quoted("wait", "number"), 1)
    else:
        name, digits = re.search(r'STATISTICS = "((?:[^"]*))"', text).span(1)
        numbers = np.frombuffer(base64.b64decode(text[name:digits]), np.uint64).copy()
        numbers[5] ^= np.uint64(1)
        changed = text[:name] + base64.b64encode(numbers.tobytes()).decode() + text[digits:]
    assert changed != text
    path.write_text(changed)
    found = fastnn.verify(path)
    assert (found.intact, found.passed) == (False, False)


def test_drawn_rows():
    """Missing values in most columns, known and unknown categories, dates and numbers near those of the training."""
    frame = table()
    computation = computation_of(fitted_to_table(frame, "classes"))
    test = SelfTest.of(computation)
    assert test.inputs.dtype == np.float64
    assert test.inputs.shape == (16, len(computation.inputs))
    assert 0.02 < np.isnan(test.inputs).mean() < 0.3
    drawn = {each.name: test.inputs[:, i][~np.isnan(test.inputs[:, i])] for i, each in enumerate(computation.inputs)}
    assert {*drawn["town"]} == {0, 1, 2, 3}
    assert {*drawn["lift"]} == {0, 1}
    known = matrix_of(fitted_to_table(frame, "classes").table_, frame)
    for i, each in enumerate(computation.inputs):
        least, most = np.nanmin(known[:, i]), np.nanmax(known[:, i])
        reach = most - least
        assert drawn[each.name].min() >= least - reach
        assert drawn[each.name].max() <= most + reach
        assert len({*drawn[each.name]}) > 1
    given = SelfTest.of(computation, known)
    np.testing.assert_array_equal(given.inputs, known[:16])


# ---- what Python files read ----


def test_kinds_of_tables():
    """Frames of pandas and polars, tables of pyarrow, dicts, structured arrays and rows are the estimators' matrix."""
    frame = table()
    made = Table.of(frame)
    columns, n = read_of(made)
    rows = new_rows(frame).drop(columns="empty")
    rows["further"] = 1
    for name in ("wait", "built"):
        rows[name] = rows[name].dt.floor("ms")  # values of Python have microseconds
    expected = matrix_of(made, rows.drop(columns="further").assign(empty=np.nan))
    assert np.isnan(expected).any(axis=0).sum() >= 7
    given = {"pandas": rows[rows.columns[::-1]], "dict": {name: rows[name].to_numpy() for name in rows}}
    given["lists"] = {name: rows[name].tolist() for name in rows}
    given["rows"] = rows.astype(object).to_dict("records")
    given["nullable"] = rows.convert_dtypes().astype({"town": "category", "rooms": "Int64"})
    text = plain(rows[["built", "area", "town"]])
    given["text"] = [{**row, **other} for row, other in zip(given["rows"], text, strict=True)]
    for name, each in given.items():
        np.testing.assert_array_equal(matrix(each, columns, n), expected, name)
    few = rows[["area", "rooms", "built", "wait"]]
    structured = few.to_records(index=False)
    some = [each for each in columns if each[0] in few]
    places = [i for i, each in enumerate(columns) if each[0] in few]
    np.testing.assert_array_equal(matrix(structured, some, 0), expected[:, places])
    for package in ("polars", "pyarrow"):
        there = pytest.importorskip(package, reason=f"{package} is not installed")
        frame_there = there.from_pandas(rows) if package == "polars" else there.Table.from_pandas(rows)
        np.testing.assert_array_equal(matrix(frame_there, columns, n), expected, package)


EAST = datetime.timezone(datetime.timedelta(hours=9))
DAY = datetime.datetime(2024, 2, 29, 18, 30, 1, 250000)
DATES = [DAY, None, datetime.datetime(1969, 7, 20), DAY]
DELTAS = [datetime.timedelta(1), None, datetime.timedelta(0, 1.5), None]
TOLD = [  # a column of the training, and one of rows to predict
    ([1.0, 2.0, None, 4.0], [True, None, 2.5, 7]),
    ([1, 2, 3, 2**40], np.array([1, 2**60, 3, 4])),
    ([1, 2, 3, 2**40], [" 7 ", "-1e3", ".5", None]),
    ([True, False, True, None], ["True", "0", "false", None]),
    ([True, False, True, False], [1, 0.0, 1.0, math.nan]),
    (["7", "8", "7", "9"], [7, 8.0, np.int64(9), None]),
    (["7", "8", "7", "9"], ["07", "9", None, "x"]),
    (["True", "False", "False", "no"], [True, False, np.True_, True]),
    (DATES, [DAY.replace(tzinfo=EAST), DAY.date(), np.datetime64("2020-01"), None]),
    (DATES, ["2024-02-29", "2024-02-29T18:30:01.25+09:00", None, "0099-12-31 23:59"]),
    (DATES, np.array(["1950-01-01T01:00", "NaT", "2024", "2025"], "M8[ns]")),
    (DATES, pd.Series(pd.to_datetime(["2024-01-05T10:00+02:00"] * 3 + [None]))),
    (DELTAS, [np.timedelta64(90, "m"), None, datetime.timedelta(-1), None]),
    (DELTAS, np.array([5, 7, "NaT", 1], "m8[ms]")),
]  # fmt: skip


@pytest.mark.parametrize("i", range(len(TOLD)))
def test_values_of_other_kinds(i):
    training, rows = TOLD[i]
    made = Table.of({"a": training}, one_hot_max=4)
    columns, n = read_of(made)
    expected = matrix_of(made, {"a": rows})
    np.testing.assert_array_equal(matrix({"a": rows}, columns, n), expected)


VALUES = [  # and what stands for none of them
    None, math.nan, pd.NA, pd.NaT, np.datetime64("NaT", "us"), np.timedelta64("NaT", "s"), Decimal("NaN"),
    True, False, np.True_, 0, 1, 2, -1, 7, 7.0, 1.5, 2**53 + 1, 2**70, 1e300, 1e301, math.inf, np.float32(0.1),
    np.int8(7), np.uint64(2**63), Decimal("1.5"), Fraction(3, 2), 1j,
    "7", "07", " 7", "7 ", "1_0", "1e5", ".5", "5.", "nan", "inf", "", "x", "True", "true", "yes", "0", "1", "\uff11",
    "2020-01-01", "2020-01-01T00:00:00Z", "20200101", "2020-W01-1", "2020-01-01 00:00:00", "2023-02-29", np.str_("7"),
    DAY, DAY.replace(tzinfo=EAST), DAY.date(), pd.Timestamp("2020-01-01 12:00:00.123456", tz="Europe/Berlin"),
    np.datetime64("2020"), datetime.timedelta(1), pd.Timedelta("90s"), np.timedelta64(90, "m"),
    b"7", [1], {}, object, datetime.time(1),
]  # fmt: skip


@pytest.mark.parametrize(
    "training",
    [[1.0, 2.0, None, 4.0], [True, False, True, None], ["7", "8"] * 2, ["1.5", "True", "a"], DATES, DELTAS],
)
@pytest.mark.parametrize("categorical", [False, True])
def test_values_are_taken_and_refused_as_by_estimators(training, categorical):
    made = Table.of({"a": training}, categorical=["a"] if categorical else [])
    columns, n = read_of(made)
    taken = 0
    for value in VALUES:
        for rows in ([value], [value, None], pd.Series([None, value], dtype=object)):
            try:
                expected = matrix_of(made, {"a": rows})
            except (ValueError, TypeError):
                with pytest.raises(ValueError, match="column 'a' must"):
                    matrix({"a": rows}, columns, n)
                continue
            np.testing.assert_array_equal(matrix({"a": rows}, columns, n), expected, repr(value))
            taken += 1
    assert 3 * 7 < taken < 3 * len(VALUES)


def read_by(suffix, path, inputs, rows):
    """The numbers (rows, columns) that a file reads, and the first words of the error where there is one."""
    steps = Steps(len(inputs), "float64")
    parts = [steps.add("codes", INPUTS, width=1, column=i) for i in range(len(inputs))]
    parts += [steps.add("missing", INPUTS, width=1, column=i) for i in range(len(inputs))]
    steps.add("joined", *parts, width=len(parts))
    computation = Computation("float64", len(inputs), tuple(steps.made), Decision(NUMBERS), inputs=inputs)
    form = python_file if suffix == ".py" else javascript
    path.write_bytes(form.written(computation, SelfTest.of(computation), "net", {}))
    if suffix == ".mjs":
        found = in_node(path, ["predict"], rows)[0]
        return [each[12:].split(", got")[0].replace('"', "'") if isinstance(each, str) else each for each in found]
    predict, found = runpy.run_path(str(path))["predict"], []
    for row in rows:
        try:
            found.append(predict([row])[0].tolist())
        except ValueError as error:
            found.append(str(error).split(", got")[0])
    return found


@needs_node
def test_both_languages_read_the_same(tmp_path):
    """All of JSON's values in columns of all kinds, but time deltas, which JSON has not."""
    kinds = {"number": [()], "boolean": [()], "date": [()], "category": [("7", "True", "b"), (-1, 1, 2.5, 7)]}
    values = [each for each in VALUES if type(each) in (str, int, float, bool, type(None))]
    values = [each for each in values if each == each and each not in (math.inf, "20200101", "2020-W01-1")]
    values += [
        "2020-02-29T12",
        "2020-01-01T10:11+02:00",
        "1900-02-28 23:59:59.123456",
        "2020-13-01",
        "2020-1-1",
        "+1.5e-3",
    ]
    values += ["2020-01-01T24:00", "2020-01-01T10:60", "0001-01-01", "9999-12-31T23:59:59.999999", [], {}, 2.5, "2.5"]
    for kind, knowns in kinds.items():
        for known in knowns:
            rows = [{"a": value} for value in values]
            both = [
                read_by(suffix, tmp_path / f"net{suffix}", (Input("a", kind, known, "a"),), rows)
                for suffix in (".py", ".mjs")
            ]
            assert both[0] == both[1], [each for each in zip(values, *both, strict=True) if each[1] != each[2]]
            assert 2 < sum(isinstance(each, list) for each in both[0]) < len(values)


def test_numbers_of_single_precision():
    """They are taken as they are, large ones too."""
    given = np.array([0.1, -3e38, np.nan], np.float32)
    np.testing.assert_array_equal(matrix({"a": given}, [("a", "number", ())], 0)[:, 0], given.astype(float))
    with pytest.raises(ValueError, match="column 'a' must hold a number or nothing, got inf in row 1"):
        matrix({"a": np.array([0.1, np.inf], np.float32)}, [("a", "number", ())], 0)


def test_masked_values_are_refused():
    given = {"a": np.ma.array([1.0, 2.0], mask=[False, True])}
    with pytest.raises(ValueError, match="column 'a' must hold no masked value"):
        matrix(given, [("a", "number", ())], 0)
    np.testing.assert_array_equal(matrix({"a": np.ma.array([1.0, 2.0])}, [("a", "number", ())], 0), [[1], [2]])


def test_rows_that_are_wrong(tmp_path):
    frame, path = table(), tmp_path / "net.py"
    estimator = fitted_to_table(frame, "classes")
    for rows, told in (
        (frame.drop(columns="town"), "rows must have the columns of the training, got none called 'town'"),
        (frame.assign(area="x"), "column 'area' of rows must hold numbers, got 'x' in row 0"),
        (frame[:0], r"rows must have shape \(n, 9\) with n >= 1, got \(0, 9\)"),
        (frame.to_numpy()[:, :3], "rows must have 10 columns, as in training, got 3"),
    ):
        with pytest.raises(ValueError, match=told):
            estimator.export(path, rows=rows)
    assert not path.exists()


def test_names_that_are_the_same_in_javascript(tmp_path):
    frame = pd.DataFrame({0: rng.normal(size=30), "0": rng.normal(size=30)})
    regressor = fastnn.TabularRegressor(n_members=1, epochs=2, random_state=0).fit(frame, rng.uniform(1, 2, 30))
    regressor.export(tmp_path / "net.py", rows=frame)
    found = runpy.run_path(str(tmp_path / "net.py"))["predict"](frame)
    np.testing.assert_allclose(found, regressor.predict(frame), rtol=1e-5)
    with pytest.raises(ValueError, match=r"JavaScript takes columns whose names differ as text, got \[0, '0'\]"):
        regressor.export(tmp_path / "net.mjs")
    assert not (tmp_path / "net.mjs").exists()


def test_categories_that_are_numbers():
    """As text and as truth values too; and dates and intervals whose text is known."""
    made = Table.of({"a": [7, 8, 1, 7.5]}, categorical=["a"])
    columns, n = read_of(made)
    for rows in ([7, 8.0, 7.5, None], ["7", "8.0", "7.5", "9"], [True, True, False, None], [3, -1, 0, 7]):
        np.testing.assert_array_equal(matrix({"a": rows}, columns, n), matrix_of(made, {"a": rows}))
    frame = pd.DataFrame({"a": pd.cut([1, 2, 3, 8, 9], 3)})
    made = Table.of(frame)
    columns, n = read_of(made)
    np.testing.assert_array_equal(matrix(frame, columns, n), matrix_of(made, frame))
    dates = {"a": [DAY, DAY, datetime.datetime(2020, 1, 1), None]}
    made = Table.of(dates, categorical=["a"])
    columns, n = read_of(made)
    np.testing.assert_array_equal(matrix(dates, columns, n), [[2], [2], [1], [np.nan]])
    np.testing.assert_array_equal(matrix(dates, columns, n), matrix_of(made, dates))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"town": ["Oslo"]}, "table must have the column 'area', and has none"),
        ([{"area": 1, "town": "Oslo"}, {"area": 1}], "table must have the column 'town', and has none"),
        (np.zeros((2, 2)), "table must have the column 'area', and has none"),
        (5, "table must have the column 'area', and has none"),
        ({"area": 50, "town": "Oslo"}, "column 'area' must be a sequence of values, got 50"),
        ({"area": [50], "town": "O"}, "column 'town' must be a sequence of values, got 'O'"),
        ({"area": [50], "town": []}, "table must have columns of one length, got 0 values of 'town'"),
        ({"area": [[5, 6], [7, 8]], "town": ["O"] * 2}, r"column 'area' must hold a number or nothing, got \[5, 6\]"),
        ({"area": np.zeros((1, 1)), "town": ["Oslo"]}, "column 'area' must have one axis"),
        ({"area": [1, "x"], "town": ["Oslo"] * 2}, "column 'area' must hold a number or nothing, got 'x' in row 1"),
        ({"area": [1, math.inf], "town": ["O"] * 2}, "column 'area' must hold a number or nothing, got inf in row 1"),
        ({"area": ["nan"], "town": ["Oslo"]}, "column 'area' must hold a number or nothing, got 'nan' in row 0"),
        ({"area": [DAY], "town": ["Oslo"]}, "column 'area' must hold a number or nothing"),
        ({"area": np.array([5], "m8[s]"), "town": ["Oslo"]}, "column 'area' must hold a number or nothing"),
        ({"area": [1], "town": [5]}, "column 'town' must hold a category or nothing, got 5 in row 0"),
        ({"area": [1], "town": [{}]}, "column 'town' must hold a category or nothing, got {} in row 0"),
    ],
)  # fmt: skip
def test_tables_that_are_wrong(given, told):
    columns = [("area", "number", ()), ("town", "category", ("Bern", "Oslo"))]
    with pytest.raises(ValueError, match=told):
        matrix(given, columns, 0)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("boolean", 2), ("boolean", "yes"), ("date", 5), ("date", "1 May"), ("date", "2023-02-29"), ("date", True),
        ("duration", 5), ("duration", "1 day"), ("duration", DAY), ("number", 10**400), ("number", 1j),
    ],
)  # fmt: skip
def test_values_that_are_wrong(kind, value):
    told = f"column 'a' must hold a {kind} or nothing, got {re.escape(repr(value))} in row 1"
    with pytest.raises(ValueError, match=told):
        matrix({"a": [None, value]}, [("a", kind, ())], 0)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_columns_without_names(suffix, tmp_path):
    """By their positions, those that are dropped among them; and columns whose names are numbers."""
    X = np.column_stack([rng.normal(size=60), np.ones(60), rng.choice(["a", "b", "c"], 60)]).astype(object)
    X[:, 0] = X[:, 0].astype(float)
    X[::9, 0] = None
    y = np.where(X[:, 2] == "a", 5, 7)
    path = tmp_path / f"net{suffix}"
    for given in (X, pd.DataFrame(X)):
        classifier = fastnn.TabularClassifier(n_members=1, epochs=5, random_state=0).fit(given, y)
        classifier.export(path, rows=given)
        assert fastnn.verify(path).passed
        expected = classifier.predict_proba(given)
        if suffix == ".py":
            net = runpy.run_path(str(path))
            found = net["predict_proba"](given)
            assert net["feature_names"] == (None if given is X else (0, 2))
            if given is X:
                for other in (X.tolist(), pd.DataFrame(X)):
                    np.testing.assert_array_equal(net["predict_proba"](other), found)
                with pytest.raises(ValueError, match=r"table must have shape \(rows, 3\), got \(60, 2\)"):
                    net["predict"](X[:, :2])
        else:
            (found,) = in_node(path, ["probabilities"], X.tolist())
            (told,) = in_node(path, ["predict"], [[1, 2], None])
            if given is X:
                assert told[0] == "RangeError: a row must be an array of 3 values, got 2"
            else:
                assert told[0] == "RangeError: a row must have the column 2"
            assert told[1].startswith("RangeError: a row must be an ")
        np.testing.assert_allclose(found, expected, atol=3e-6)


# ---- what JavaScript reads ----


@needs_node
def test_values_of_javascript(tmp_path):
    """Date objects, undefined, NaN, truth values, text of numbers; what each column must hold."""
    frame, path = table(), tmp_path / "net.mjs"
    estimator = fitted_to_table(frame, "numbers")
    estimator.export(path)
    row = 'area: 50, rooms: 2, lift: true, town: "Oslo", side: "left", street: "s3", wait: 90, on: false'
    built = pd.Timestamp("1950-05-01T18:30:00.5")
    source = f"""
const {{ predict, predictRows, features }} = await import({json.dumps(str(path))});
const row = {{ {row}, built: "1950-05-01T18:30:00.5", further: 1 }};
const rows = [row, {{ ...row, built: new Date("1950-05-01T18:30:00.5Z") }}, {{ ...row, area: "5e1", lift: 1, on: "0" }},
  {{ ...row, built: "1950-05-01 18:30:00.500000+03:00", area: 50n }},
  {{ ...row, area: null, town: undefined, built: new Date(NaN), wait: NaN, street: null }}];
const told = [];
const wrong = [["area", "x"], ["area", Infinity], ["area", ""], ["lift", 2], ["built", "1 May"],
  ["built", "2023-02-29"], ["built", 5], ["wait", "5"], ["town", 5], ["town", {{}}],
  ["rooms", new Date(0)], ["rooms", []]];
for (const [name, value] of wrong) {{
  try {{ predict({{ ...row, [name]: value }}); }} catch (error) {{ told.push(error.name + ": " + error.message); }}
}}
const {{ town, ...rest }} = row;
for (const each of [rest, null, 5]) {{
  try {{ predict(each); }} catch (error) {{ told.push(error.name + ": " + error.message); }}
}}
console.log(JSON.stringify([predictRows(rows).map((y) => y[0]), told, features]));
"""
    done = subprocess.run(["node", "--input-type=module", "-e", source], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found, told, features = json.loads(done.stdout)
    first = {"area": 50, "rooms": 2, "lift": True, "town": "Oslo", "side": "left", "street": "s3", "built": built}
    first |= {"wait": pd.Timedelta("90s"), "on": False, "empty": None}
    rows = [first, {**first, **dict.fromkeys(("area", "town", "built", "wait", "street"))}]
    expected = estimator.predict({name: [row[name] for row in rows] for name in first})
    np.testing.assert_allclose(found, expected[[0, 0, 0, 0, 1]], rtol=1e-5)
    assert abs(expected[0] - expected[1]) > 20 * 1e-5 * abs(expected[0])  # far more than what may differ
    assert features == [name for name in frame if name != "empty"]
    wrong = [("area", "number", "x"), ("area", "number", "Infinity"), ("area", "number", ""), ("lift", "boolean", "2")]
    wrong += [("built", "date", each) for each in ("1 May", "2023-02-29", "5")]
    wrong += [("wait", "duration", "5"), ("town", "category", "5"), ("town", "category", "[object Object]")]
    expected = [f'RangeError: column "{name}" must hold a {kind} or nothing, got {v}' for name, kind, v in wrong]
    assert told[: len(wrong)] == expected
    assert [each.split(",")[0] for each in told[len(wrong) :]] == [
        *['RangeError: column "rooms" must hold a number or nothing'] * 2,
        'RangeError: a row must have the column "town"',
        *["RangeError: a row must be an object of columns"] * 2,
    ]


@needs_node
def test_categories_of_javascript(tmp_path):
    """Numbers, their text and truth values; names and values of any text. Integers beyond 2^53 are refused."""
    path = tmp_path / "net.mjs"
    odd = ["</script>", "a,b", "\u2028\U0001f600\\ ${x}`"]
    training = {
        'a"b\n': rng.choice(odd, 90),
        "__proto__x": rng.choice([1, 2.5, 7], 90),
        "t": rng.choice(["7", "8", "True"], 90),
    }
    y = np.where(training['a"b\n'] == odd[0], "one", "other")
    classifier = fastnn.TabularClassifier(categorical=["__proto__x"], n_members=1, epochs=5, random_state=0)
    classifier.fit(training, y).export(path)
    assert fastnn.verify(path).passed
    given = [(odd[2], 7, "7"), (odd[0], 2.5, "8"), (odd[1], "2.5", 7), ("?", True, True), (None, " 7.0 ", "True")]
    rows = [dict(zip(training, each, strict=True)) for each in given]
    (found,) = in_node(path, ["probabilities"], rows)
    same = [(odd[2], 7.0, "7"), (odd[0], 2.5, "8"), (odd[1], 2.5, "7"), ("?", 1.0, "True"), (None, 7.0, "True")]
    expected = classifier.predict_proba({name: [row[i] for row in same] for i, name in enumerate(training)})
    np.testing.assert_allclose(found, expected, atol=3e-6)
    training["__proto__x"] = rng.choice([2**60, 2**60 + 1, 5], 90)
    path.unlink()
    classifier.fit(training, y).export(tmp_path / "net.py")
    assert fastnn.verify(tmp_path / "net.py").passed
    with pytest.raises(ValueError, match=r"JavaScript takes categories up to 2\*\*53 in size, column '__proto__x' has"):
        classifier.export(path)
    assert not path.exists()
