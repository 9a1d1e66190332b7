"""Pipelines of scikit-learn in all formats: each file predicts what the Pipeline itself predicts."""

import json
import runpy
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the extra sklearn is not installed")
pytest.importorskip("pandas", reason="pandas is not installed")

import pandas as pd
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    PowerTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.tree import DecisionTreeClassifier

import fastnn
from fastnn.exchange import onnx_file, pipelines
from fastnn.exchange.describing import computation_of
from fastnn.exchange.self_test import SelfTest

from ..cases import DTYPES
from .test_export_c import Compiled, compiler
from .test_export_table_scripts import in_node, plain

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:Found unknown categories"),
    pytest.mark.filterwarnings("ignore:Skipping features without any observed values"),
    pytest.mark.filterwarnings("ignore:the loss is .*, but predicting the mean"),
]
rng = np.random.default_rng(0)
BOUND = {"float32": 3e-6, "float64": 1e-12}
TOWNS = ["Bern", "Oslo", "Rome"]


def mlp(kind=MLPClassifier, **how):
    return kind(hidden_layer_sizes=(6,), activation="tanh", max_iter=20, random_state=0, **how)


def frame(n=120, dtype=np.float64):
    """Numbers with gaps and without, whole ones, truth values, categories of text and of numbers."""
    found = pd.DataFrame(
        {
            "area": rng.normal(70, 20, n).astype(dtype),
            "rent": rng.uniform(300, 2000, n).astype(dtype),
            "rooms": rng.integers(1, 6, n),
            "lift": rng.random(n) < 0.4,
            "town": rng.choice(TOWNS, n),
            "side": rng.choice(["left", "right"], n),
            "code": rng.choice([3, 5, 2**40], n),
            "grade": rng.choice([0.5, 1.0, 2.5], n),
        }
    )
    found.loc[::7, "area"] = np.nan
    found.loc[::9, "side"] = np.nan
    found.loc[::11, "grade"] = np.nan
    return found


def classes(rows):
    """Labels (n,) that follow from a frame, or from an array."""
    first = rows["rent"] if isinstance(rows, pd.DataFrame) else rows[:, 0]
    return np.where(np.asarray(first, float) > np.median(np.asarray(first, float)), "dear", "cheap")


def in_dtype(pipeline, dtype):
    """The pipeline with coefficients of a dtype: scikit-learn itself then computes in float64 by these."""
    last = pipeline
    while isinstance(last, (Pipeline, TransformedTargetRegressor)):
        last = last[-1] if isinstance(last, Pipeline) else last.regressor_
    if hasattr(last, "coefs_"):
        last.coefs_ = [w.astype(dtype) for w in last.coefs_]
        last.intercepts_ = [b.astype(dtype) for b in last.intercepts_]
    return pipeline


def expected_of(pipeline, rows):
    """(outputs (n, n_outputs), predictions), which are the same of a regressor."""
    predicted = pipeline.predict(rows)
    outputs = pipeline.predict_proba(rows) if hasattr(pipeline, "predict_proba") else predicted
    return outputs.reshape(len(rows), -1), predicted


def in_json(rows):
    """Rows as JavaScript takes them."""
    if isinstance(rows, pd.DataFrame):
        return plain(rows)
    return [[None if each is None or each != each else each for each in row] for row in rows.tolist()]


def of_files(pipeline, rows, folder, verified=False):
    """(suffix, outputs, predictions) of a pipeline's file in each format that can run here; it may run its test too."""
    computation, folder = computation_of(pipeline), Path(tempfile.mkdtemp(dir=folder))
    assert np.isfinite(SelfTest.of(computation).outputs).all()
    numbers = pipelines.matrix_of(computation, rows)
    is_table, is_classifier = bool(computation.inputs), computation.decision.labels is not None
    if computation.feature_names is not None and isinstance(numbers, pd.DataFrame):
        numbers = numbers.to_numpy()
    for suffix in (".py", ".mjs", ".h", ".onnx"):
        path = folder / f"net{suffix}"
        if suffix == ".onnx":
            pytest.importorskip("onnx", reason="the extra onnx is not installed")
        program = {".mjs": "node", ".h": "cc"}.get(suffix)
        if program is not None and shutil.which(program) is None:
            continue
        for given in (None, rows):
            fastnn.export(pipeline, path, rows=given)
            assert not verified or fastnn.verify(path).passed
        if suffix == ".py":
            net = runpy.run_path(str(path))
            taken = rows if is_table else numbers
            outputs = net["predict_proba"](taken) if is_classifier else net["predict"](taken)
            yield suffix, outputs.reshape(len(rows), -1), net["classify"](taken) if is_classifier else outputs
        elif suffix == ".mjs":
            names = ["probabilities", "classify"] if is_classifier else ["predict"]
            taken = in_json(rows) if is_table else np.asarray(numbers, float).tolist()
            outputs, *decided = in_node(path, names, taken)
            found = np.array(outputs)
            yield suffix, found, np.array(decided[0]) if is_classifier else found
        elif suffix == ".h":
            compiled = Compiled(folder, [path], compiler("gcc"), "-O1")
            outputs = compiled.outputs("net", computation, numbers)
            found = computation.probabilities(outputs) if is_classifier else outputs
            yield suffix, found, computation.predictions(outputs)
        else:
            found = onnx_file.run(path, numbers)
            outputs = found["probabilities" if is_classifier else "prediction"]
            yield suffix, outputs, found["label"] if is_classifier else outputs


def check(pipeline, rows, folder, dtype="float64", scaled=False, **how):
    """Every file gives the outputs and the predictions of the pipeline, to the largest output where they are scaled."""
    expected, predicted = expected_of(pipeline, rows)
    is_classifier = hasattr(pipeline, "predict_proba")
    sizes = np.maximum(np.abs(expected).max(axis=0) if scaled else np.abs(expected), 1)
    for suffix, outputs, found in of_files(pipeline, rows, folder, **how):
        np.testing.assert_allclose(outputs / sizes, expected / sizes, 0, BOUND[dtype], err_msg=suffix)
        if is_classifier:
            np.testing.assert_array_equal(np.asarray(found).reshape(predicted.shape), predicted, err_msg=suffix)


def onto_frame(transformer, dtype="float64", **how):
    """A pipeline of one transformer of columns, and an MLP."""
    return Pipeline([("columns", transformer), ("mlp", mlp(**how))])


# ---- scalers ----

SCALERS = {
    "standard": StandardScaler(),
    "without mean": StandardScaler(with_mean=False),
    "without deviation": StandardScaler(with_std=False),
    "without both": StandardScaler(with_mean=False, with_std=False),
    "range": MinMaxScaler(),
    "other range": MinMaxScaler((-3, 0.5)),
    "clipped": MinMaxScaler((-1, 2), clip=True),
    "sizes": MaxAbsScaler(),
    "clipped sizes": MaxAbsScaler(clip=True),
    "robust": RobustScaler(),
    "robust, plain": RobustScaler(with_centering=False, with_scaling=False),
    "two": make_pipeline(StandardScaler(), "passthrough", MinMaxScaler()),
    "nested": make_pipeline(make_pipeline(MinMaxScaler(clip=True), None), StandardScaler()),
    "none": "passthrough",
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SCALERS)
def test_scalers(name, dtype, tmp_path):
    """On rows beyond those of the training, a constant column among them."""
    X = rng.normal(3, 2, (80, 4))
    X[:, 2] = 7
    pipeline = in_dtype(make_pipeline(SCALERS[name], mlp()).fit(X, classes(X)), dtype)
    rows = (X + rng.normal(0, 3, X.shape)).astype(np.float32).astype(float)
    check(pipeline, rows, tmp_path, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ratio", [1, 1e3, 1e6])
@pytest.mark.parametrize("scaler", [StandardScaler(), MinMaxScaler(), RobustScaler()])
def test_numbers_far_from_zero(scaler, ratio, dtype, tmp_path):
    """2e-6 of float64 on the same rows, whether a scaler reads all columns, some of them, or columns with gaps."""
    X = (rng.standard_normal((60, 3)) + ratio).astype(np.float32)
    some = ColumnTransformer([("first", scaler, [2, 0]), ("second", StandardScaler(), [0])])
    for transformer in (scaler, some, make_pipeline(SimpleImputer(), scaler)):
        pipeline = make_pipeline(transformer, mlp(MLPRegressor)).fit(X.astype(float), X[:, 0].astype(float) - ratio)
        pipeline = in_dtype(pipeline, dtype)
        z, (w, v), (b, c) = transformer.transform(X.astype(float)), pipeline[-1].coefs_, pipeline[-1].intercepts_
        expected = np.tanh(z @ w.astype(float) + b) @ v.astype(float) + c
        for suffix, outputs, _ in of_files(pipeline, X.astype(float), tmp_path):
            np.testing.assert_allclose(outputs, expected, 0, 2e-6 if dtype == "float32" else 1e-9, err_msg=suffix)


# ---- columns ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "which",
    [
        ["rent", "rooms"],
        [2, 1],
        slice(1, 3),
        [False, True, True, False, False, False, False, False],
        make_column_selector("rent|rooms"),
        lambda rows: ["rooms", "rent"],
    ],
    ids=["names", "positions", "slice", "mask", "selector", "callable"],
)
def test_columns(which, dtype, tmp_path):
    rows = frame()
    transformer = ColumnTransformer([("numbers", StandardScaler(), which), ("lift", "passthrough", ["lift"])])
    pipeline = in_dtype(onto_frame(transformer).fit(rows, classes(rows)), dtype)
    computation = computation_of(pipeline)
    assert computation.feature_names == ("rent", "rooms", "lift")
    assert computation.inputs == ()
    check(pipeline, rows, tmp_path, dtype)
    fastnn.export(pipeline, tmp_path / "net.py", rows=rows[rows.columns[::-1]])
    assert fastnn.verify(tmp_path / "net.py").passed


@pytest.mark.parametrize("remainder", ["drop", "passthrough", StandardScaler()])
def test_what_remains(remainder, tmp_path):
    """Of an array: the matrix has all columns, also those that are dropped."""
    X = rng.normal(2, 3, (80, 6))
    transformer = ColumnTransformer(
        [("first", MinMaxScaler(), [4, 1]), ("none", StandardScaler(), []), ("out", "drop", [0])],
        remainder=remainder,
        transformer_weights={"first": 2.5, "remainder": 0.5},
    )
    pipeline = onto_frame(transformer).fit(X, classes(X))
    assert computation_of(pipeline).n_inputs == 6
    check(pipeline, X, tmp_path)


def test_a_column_that_is_read_twice(tmp_path):
    X = rng.normal(2, 3, (80, 3))
    inner = ColumnTransformer([("last", MinMaxScaler(clip=True), [-1])], remainder="passthrough")
    transformer = ColumnTransformer(
        [
            ("a", StandardScaler(), [0, 1]),
            ("b", "passthrough", [0, 1]),
            ("c", inner, [1, 2]),
            ("d", RobustScaler(), [0]),
        ]
    )
    check(onto_frame(transformer).fit(X, classes(X)), X, tmp_path)


def test_frames_between_steps(tmp_path):
    """Columns of what another step gives, by the names that it gives them."""
    rows = frame()
    first = ColumnTransformer(
        [("numbers", StandardScaler(), ["rooms", "rent"]), ("town", OneHotEncoder(sparse_output=False), ["town"])]
    )
    second = ColumnTransformer(
        [("some", MinMaxScaler(), ["town__town_Oslo", "numbers__rent"])],
        remainder="passthrough",
        verbose_feature_names_out=False,
    )
    pipeline = make_pipeline(first, second).set_output(transform="pandas")
    pipeline.steps.append(("mlp", mlp()))
    pipeline.fit(rows, classes(rows))
    check(pipeline, rows, tmp_path)


# ---- categories ----


def unknown(rows):
    """Rows with categories that training had not."""
    found = rows.copy()
    found.loc[::5, "town"], found.loc[1::5, "side"] = "Paris", "middle"
    found.loc[2::5, "code"], found.loc[3::5, "grade"] = 4, 0.75
    return found


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("handle_unknown", ["error", "ignore", "infrequent_if_exist", "warn"])
@pytest.mark.parametrize("drop", [None, "first", "if_binary", ["Oslo", "left", 5, 2.5, True]])
def test_categories(drop, handle_unknown, dtype, tmp_path):
    """Of text, whole numbers, floats and truth values, two with gaps as a category; unknown ones where they may be."""
    rows, names = frame(), ["town", "side", "code", "grade", "lift"]
    encoder = OneHotEncoder(drop=drop, handle_unknown=handle_unknown, sparse_output=drop is None)
    pipeline = onto_frame(ColumnTransformer([("encode", encoder, names), ("rent", MinMaxScaler(), ["rent"])]))
    pipeline = in_dtype(pipeline.fit(rows, classes(rows)), dtype)
    check(pipeline, rows if handle_unknown == "error" else unknown(rows), tmp_path, dtype)
    kinds = {each.name: (each.kind, each.values) for each in computation_of(pipeline).inputs}
    strict = handle_unknown == "error"
    assert kinds == {
        "rent": ("number", ()),
        "town": ("known category" if strict else "category", tuple(TOWNS)),
        "side": ("known category or nothing" if strict else "category", ("left", "right")),
        "code": ("known category" if strict else "category", (3, 5, 2**40)),
        "grade": ("known category or nothing" if strict else "category", (0.5, 1, 2.5)),
        "lift": ("known category" if strict else "category", (0, 1)),
    }


def test_categories_that_are_given(tmp_path):
    """In an order of their own, some that training had not; of pandas' category."""
    rows = frame()
    rows["town"] = rows["town"].astype("category")
    given = [["Rome", "Paris", "Bern", "Oslo"], [3, 4, 5, 2**40]]
    encoder = OneHotEncoder(categories=given, drop="first")
    pipeline = onto_frame(ColumnTransformer([("encode", encoder, ["town", "code"])], remainder="drop"))
    check(pipeline.fit(rows, classes(rows)), rows, tmp_path)


def test_categories_that_might_be_infrequent(tmp_path):
    rows = frame()
    encoder = OneHotEncoder(min_frequency=2, max_categories=5, handle_unknown="infrequent_if_exist")
    pipeline = onto_frame(ColumnTransformer([("encode", encoder, ["town", "side"])])).fit(rows, classes(rows))
    check(pipeline, unknown(rows), tmp_path)


def test_scaled_categories(tmp_path):
    """All that an encoder gives goes through other steps: a scaler, one that clips, another imputer."""
    rows = frame()
    columns = ColumnTransformer([("encode", OneHotEncoder(sparse_output=False), ["town", "side"])])
    later = [StandardScaler(), MinMaxScaler((-2, 5), clip=True), SimpleImputer(), RobustScaler(with_scaling=False)]
    pipeline = make_pipeline(columns, *later, mlp()).fit(rows, classes(rows))
    check(pipeline, rows, tmp_path)


def strict_pipeline():
    """A pipeline that takes known categories alone, and the frame of its training."""
    rows = frame()
    columns = ColumnTransformer([("encode", OneHotEncoder(), ["town", "side"]), ("rent", StandardScaler(), ["rent"])])
    return onto_frame(columns).fit(rows, classes(rows)), rows


def test_unknown_categories_of_python(tmp_path):
    """They are an error where they are one of the pipeline's, and so is a missing value that is no category."""
    if pd.__version__ < "3":
        pytest.skip("before pandas 3 scikit-learn takes another missing value for a category")
    pipeline, rows = strict_pipeline()
    fastnn.export(pipeline, tmp_path / "net.py", rows=rows)
    net = runpy.run_path(str(tmp_path / "net.py"))
    for name, value, told in (
        ("town", "Paris", "column 'town' must hold a known category, got 'Paris' in row 3"),
        ("town", None, "column 'town' must hold a known category, got None in row 3"),
        ("side", "middle", "column 'side' must hold a known category or nothing, got 'middle' in row 3"),
    ):
        wrong = rows.astype({name: object})
        wrong.at[3, name] = value
        with pytest.raises(ValueError, match="Found unknown categories"):
            pipeline.predict(wrong)
        with pytest.raises(ValueError, match=told):
            net["predict"](wrong)
        with pytest.raises(ValueError, match=f"rows must be a table as the pipeline takes it: {told}"):
            fastnn.export(pipeline, tmp_path / "other.py", rows=wrong)
    assert not (tmp_path / "other.py").exists()
    rows.loc[5, "side"] = None
    np.testing.assert_allclose(net["predict_proba"](rows), pipeline.predict_proba(rows), 1e-12)


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_unknown_categories_of_javascript(tmp_path):
    pipeline, rows = strict_pipeline()
    fastnn.export(pipeline, tmp_path / "net.mjs", rows=rows)
    given = {"rent": 500, "town": "Oslo", "side": None}  # as the side of the first row
    wrong = [{**given, "town": "Paris"}, {**given, "town": None}, {**given, "side": "middle"}, {**given, "town": 5}]
    (found,) = in_node(tmp_path / "net.mjs", ["probabilities"], [given, *wrong])
    expected = pipeline.predict_proba(rows[:1].assign(rent=500.0, town="Oslo"))
    np.testing.assert_allclose([found[0]], expected, 1e-12)
    assert found[1:] == [
        'RangeError: column "town" must hold a known category, got Paris',
        'RangeError: column "town" must hold a known category, got null',
        'RangeError: column "side" must hold a known category or nothing, got middle',
        'RangeError: column "town" must hold a known category, got 5',
    ]


def test_unknown_categories_of_c_and_onnx(tmp_path):
    """They are given by the number 0, or by any other text, and are none of the categories."""
    pipeline, rows = strict_pipeline()
    lenient = onto_frame(
        ColumnTransformer(
            [("encode", OneHotEncoder(handle_unknown="ignore"), ["town", "side"]), ("rent", StandardScaler(), ["rent"])]
        )
    ).fit(rows, classes(rows))
    computation = computation_of(pipeline)
    numbers = pipelines.matrix_of(computation, rows)
    places = {each.name: i for i, each in enumerate(computation.inputs)}
    numbers[::3, places["town"]], other = 0, rows.copy()
    other.loc[::3, "town"] = "Paris"
    expected = lenient.predict_proba(other)
    for suffix in (".h", ".onnx"):
        fastnn.export(pipeline, tmp_path / f"net{suffix}", rows=rows)
    if shutil.which("cc"):
        outputs = Compiled(tmp_path, [tmp_path / "net.h"], compiler("gcc"), "-O1").outputs("net", computation, numbers)
        np.testing.assert_allclose(computation.probabilities(outputs), expected, 1e-12)
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    session = runtime.InferenceSession(tmp_path / "net.onnx")
    assert [each.name for each in session.get_inputs()] == ["rent", "town", "side", "side missing"]
    side = other["side"]
    columns = {"rent": other["rent"].to_numpy(), "town": other["town"].to_numpy(object)}
    columns |= {"side": side.fillna("").to_numpy(object), "side missing": side.isna().to_numpy()}
    label, probabilities = session.run(None, columns)
    np.testing.assert_allclose(probabilities, expected, 1e-12)
    np.testing.assert_array_equal(label, lenient.predict(other))


# ---- gaps ----


def with_gaps(rows):
    """Rows with more gaps, and one column without any number."""
    found = rows.copy()
    found["empty"] = np.nan
    found["rooms"], found["town"] = found["rooms"].astype(float), found["town"].astype(object)
    for i, name in enumerate(("rent", "rooms", "town", "area", "side", "grade")):
        found.loc[i::6, name] = np.nan
    return found


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("indicator", [False, True])
@pytest.mark.parametrize("strategy", ["mean", "median", "most_frequent", "constant", np.max])
def test_gaps_of_numbers(strategy, indicator, keep, dtype, tmp_path):
    rows, names = with_gaps(frame()), ["area", "rent", "empty", "rooms"]
    how = {"strategy": strategy, "add_indicator": indicator, "keep_empty_features": keep}
    if callable(strategy):
        names.remove("empty")
    imputer = SimpleImputer(fill_value=-12.5 if strategy == "constant" else None, **how)
    scalers = [("scale", StandardScaler()), ("clip", MinMaxScaler(clip=True))]
    chain = Pipeline([("impute", imputer), *scalers[: 1 + keep]])
    pipeline = onto_frame(ColumnTransformer([("numbers", chain, names)])).fit(rows, classes(rows.fillna({"rent": 0})))
    check(in_dtype(pipeline, dtype), with_gaps(frame()), tmp_path, dtype)


@pytest.mark.parametrize("order", ["before", "after", "behind a clip", "twice"])
def test_gaps_before_and_after_a_scaler(order, tmp_path):
    rows = with_gaps(frame())
    steps = {
        "before": [SimpleImputer(), StandardScaler()],
        "after": [StandardScaler(), SimpleImputer(strategy="constant", fill_value=0.25)],
        "behind a clip": [
            MinMaxScaler(clip=True),
            SimpleImputer(strategy="median", add_indicator=True),
            RobustScaler(),
        ],
        "twice": [
            SimpleImputer(add_indicator=True),
            StandardScaler(),
            SimpleImputer(strategy="constant"),
            StandardScaler(),
        ],
    }[order]
    pipeline = make_pipeline(*steps, mlp()).fit(rows[["area", "rent", "rooms"]], classes(rows.fillna({"rent": 0})))
    check(pipeline, rows[["area", "rent", "rooms"]], tmp_path)


@pytest.mark.parametrize("strategy", ["most_frequent", "constant"])
@pytest.mark.parametrize("fill", ["Oslo", "Rome", "none"])
def test_gaps_of_categories(fill, strategy, tmp_path):
    """Text and numbers, filled by a value that is a category, or by one that is not."""
    rows = with_gaps(frame())
    seen = rows if strategy == "most_frequent" or fill == "none" else rows.dropna(subset="town")
    chain = make_pipeline(
        SimpleImputer(strategy=strategy, fill_value=fill if strategy == "constant" else None, add_indicator=False),
        OneHotEncoder(handle_unknown="error" if fill == "Rome" else "ignore", drop="first" if fill == "Oslo" else None),
    )
    codes = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder())
    columns = [("text", chain, ["town"]), ("numbers", codes, ["grade", "rooms"]), ("area", SimpleImputer(), ["area"])]
    pipeline = onto_frame(ColumnTransformer(columns)).fit(seen, classes(seen.fillna({"rent": 0})))
    check(pipeline, rows, tmp_path)
    kinds = {each.name: each.kind for each in computation_of(pipeline).inputs}
    assert kinds["town"] == ("known category or nothing" if fill == "Rome" else "category")


def test_a_column_that_is_always_missing(tmp_path):
    """Its encoder has one category, NaN."""
    rows = frame().assign(empty=np.nan)
    for handle_unknown in ("error", "ignore"):
        columns = [("encode", OneHotEncoder(handle_unknown=handle_unknown), ["empty", "town"])]
        pipeline = onto_frame(ColumnTransformer(columns)).fit(rows, classes(rows))
        check(pipeline, rows, tmp_path)


def test_an_indicator_of_text(tmp_path):
    """It comes behind the text that an encoder takes."""
    rows = with_gaps(frame())
    impute = SimpleImputer(strategy="most_frequent", add_indicator=True)
    split = ColumnTransformer([("encode", OneHotEncoder(), [0, 1])], remainder="passthrough")
    columns = ColumnTransformer([("text", make_pipeline(impute, split), ["town", "side"])])
    pipeline = onto_frame(columns).fit(rows, classes(rows.fillna({"rent": 0})))
    assert len(pipeline[0].transform(rows)[0]) == 7
    check(pipeline, rows, tmp_path)


@pytest.mark.parametrize("table", [False, True])
def test_gaps_that_nothing_fills(table, tmp_path):
    """The pipeline refuses them; files give NaN."""
    X = rng.normal(size=(60, 3))
    columns = ColumnTransformer([("code", OneHotEncoder(), [2])], remainder=StandardScaler())
    if table:
        X[:, 2] = rng.integers(0, 3, 60)
    pipeline = make_pipeline(columns if table else StandardScaler(), mlp()).fit(X, classes(X))
    fastnn.export(pipeline, tmp_path / "net.py")
    assert fastnn.verify(tmp_path / "net.py").passed
    rows = X.copy()
    rows[4, 1] = np.nan
    with pytest.raises(ValueError, match="contains NaN"):
        pipeline.predict(rows)
    found = runpy.run_path(str(tmp_path / "net.py"))["predict_proba"](rows)
    np.testing.assert_array_equal(np.isnan(found).all(axis=1), np.arange(60) == 4)


# ---- arrays, networks, labels ----


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_of_objects(dtype, tmp_path):
    """Columns by their positions, one of which is not used."""
    X = np.column_stack([rng.normal(3, 2, 90).astype(object), rng.choice(TOWNS, 90), np.full(90, "x"), np.arange(90.0)])
    X[:, 0], X[:, 3] = X[:, 0].astype(float), X[:, 3].astype(float)
    X[::7, 3], X[::5, 1] = np.nan, None
    columns = [("town", OneHotEncoder(handle_unknown="ignore"), [1]), ("number", SimpleImputer(), slice(3, 4))]
    columns += [("scaled", StandardScaler(), [0])]
    pipeline = in_dtype(onto_frame(ColumnTransformer(columns)).fit(X, classes(X)), dtype)
    computation = computation_of(pipeline)
    assert [(each.name, each.key) for each in computation.inputs] == [("x0", 0), ("x1", 1), ("x3", 3)]
    assert computation.n_positions == 4
    check(pipeline, X, tmp_path, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPEnsembleClassifier", "MLPRegressor", "MLPEnsembleRegressor"])
def test_networks_of_fastnn(kind, dtype, tmp_path):
    rows = frame(dtype=dtype)
    encode = OneHotEncoder(dtype=dtype, sparse_output=False)
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    columns = ColumnTransformer([("town", encode, ["town"]), ("numbers", numbers, ["area", "rent"])])
    last = getattr(fastnn, kind)(hidden_layer_sizes=5, max_iter=10, random_state=0)
    y = classes(rows) if "Classifier" in kind else rows["rent"].to_numpy() / 100
    pipeline = make_pipeline(columns, last).fit(rows, y)
    assert computation_of(pipeline).dtype == dtype
    check(pipeline, rows, tmp_path, dtype)


LABELS = {
    "text": ["low", "high", "middle"],
    "two texts": ["no", "yes"],
    "bool": [False, True],
    "large": [5, 10_000_000_000, 2**53],
    "float": [1.0, 2.0, 3.0],
}


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("kind", LABELS)
def test_labels(kind, scaled, tmp_path):
    """Each file gives those that scikit-learn's MLP gives, of the same kind: none is cut to 32 bits."""
    X, values = rng.normal(2, 1, (90, 4)), LABELS[kind]
    y = np.array(values)[np.argsort(np.argsort(X[:, 0])) * len(values) // 90]
    fitted = (make_pipeline(StandardScaler(), mlp()) if scaled else mlp()).fit(X, y)
    assert len({*fitted.predict(X).tolist()}) > 1
    for suffix, outputs, found in of_files(fitted, X, tmp_path, verified=scaled):
        np.testing.assert_allclose(outputs, fitted.predict_proba(X), 0, 1e-12)
        assert np.asarray(found).tolist() == fitted.predict(X).tolist()
        if suffix in (".py", ".onnx"):
            assert found.dtype.kind == y.dtype.kind
            assert found.dtype == y.dtype or y.dtype.kind == "U"


@pytest.mark.parametrize("scaled", [False, True])
def test_several_labels_and_numbers(scaled, tmp_path):
    """Two numbers a row stay two, and counts are computed, where skl2onnx makes one column or raises KeyError."""
    X = rng.normal(2, 1, (60, 4))
    cases = [
        (mlp(), (X[:, :3] > 2).astype(int)),
        (mlp(MLPRegressor), X[:, :2]),
        (mlp(MLPRegressor), X[:, 0]),
        (mlp(MLPRegressor, loss="poisson"), np.exp(X[:, 0] / 2)),
    ]
    for last, y in cases:
        fitted = (make_pipeline(MinMaxScaler(), last) if scaled else last).fit(X, y)
        expected, predicted = expected_of(fitted, X)
        assert len(expected) == 60
        for suffix, outputs, found in of_files(fitted, X, tmp_path):
            assert outputs.shape == expected.shape
            np.testing.assert_allclose(outputs, expected, 1e-12, 1e-12, err_msg=suffix)
            if y.dtype.kind == "i":
                np.testing.assert_array_equal(found, predicted)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
def test_activations_of_scikit_learn(activation, dtype, tmp_path):
    X = rng.normal(0, 1, (70, 4)).astype(dtype)
    fitted = MLPClassifier((5, 3), activation=activation, max_iter=15, random_state=0).fit(X, rng.integers(0, 3, 70))
    assert computation_of(fitted).dtype == dtype
    check(fitted, X, tmp_path, dtype)


# ---- mixtures ----


def drawn_columns(draw, rows):
    """A random ColumnTransformer for a frame, and whether its categories may be unknown and its numbers missing."""
    numbers, texts = ["area", "rent", "rooms", "grade"], ["town", "side", "code", "lift"]
    draw.shuffle(numbers)
    groups, gaps, strict, i = [], set(), set(), 0
    while i < len(numbers):
        group, i = numbers[i : i + draw.integers(1, 3)], i + 2
        filled = draw.random() < 0.6 or bool({"area", "grade"} & {*group})
        strategy = draw.choice(["mean", "median", "most_frequent"])
        chain = [SimpleImputer(strategy=strategy, add_indicator=draw.random() < 0.4)] if filled else []
        gaps |= {*group} if filled else set()
        scalers = [StandardScaler(), MinMaxScaler(clip=draw.random() < 0.5), RobustScaler(), MaxAbsScaler()]
        chain += [scalers[k] for k in draw.integers(0, 4, draw.integers(0, 3))]
        if chain and draw.random() < 0.5:
            chain.append("passthrough")
        groups.append((make_pipeline(*chain) if chain else "passthrough", group))
    for name in texts:
        unknowns = draw.choice(["ignore", "error"])
        drop = draw.choice([None, "first", "if_binary"])
        filled = name in ("town", "side") and draw.random() < 0.5
        encoder = OneHotEncoder(handle_unknown=unknowns, drop=drop, sparse_output=draw.random() < 0.5)
        fill = SimpleImputer(strategy="most_frequent")
        groups.append((make_pipeline(fill, encoder) if filled else encoder, [name]))
        strict |= {name} if unknowns == "error" else set()
        gaps |= {name} if name in ("town", "side") and (filled or unknowns == "ignore") else set()
    draw.shuffle(groups)
    positions = draw.random() < 0.5
    made = [
        (f"part{k}", step, [rows.columns.get_loc(name) for name in names] if positions else names)
        for k, (step, names) in enumerate(groups)
    ]
    return ColumnTransformer(made), gaps, strict


MIXTURES = [
    *((seed, DTYPES[seed % 2]) for seed in range(4)),
    *(pytest.param(seed, DTYPES[1 - seed % 2], marks=pytest.mark.slow) for seed in range(2)),
    *(pytest.param(seed, DTYPES[seed % 2], marks=pytest.mark.slow) for seed in range(4, 20)),
]


@pytest.mark.parametrize(("seed", "dtype"), MIXTURES)
def test_mixtures(seed, dtype, tmp_path):
    """Random transformers of random columns of a frame or an array, on rows with gaps and unknown values."""
    draw, rows = np.random.default_rng(seed), frame()
    columns, gaps, strict = drawn_columns(draw, rows)
    last = mlp() if draw.random() < 0.6 else mlp(MLPRegressor)
    later = [StandardScaler(with_mean=False)] if draw.random() < 0.5 else []
    y = classes(rows) if isinstance(last, MLPClassifier) else rows["rent"].to_numpy() / 1000
    is_frame = all(isinstance(name, str) for _, _, names in columns.transformers for name in names)
    with suppress(ConvergenceWarning):
        pipeline = make_pipeline(columns, *later, last).fit(rows if is_frame else rows.to_numpy(object), y)
    pipeline = in_dtype(pipeline, dtype)
    other = rows.astype(object)
    for i, name in enumerate(("town", "side", "code")):
        if name not in strict:
            other.loc[i::5, name] = 4 if name == "code" else "Paris"
    for i, name in enumerate(sorted(gaps)):
        other.loc[i::7, name] = np.nan
    check(pipeline, other if is_frame else other.to_numpy(object), tmp_path, dtype, verified=True)


# ---- targets ----

TARGETS = {
    "standard": {"transformer": StandardScaler()},
    "range": {"transformer": MinMaxScaler((-3, 0.5), clip=True)},
    "sizes": {"transformer": MaxAbsScaler()},
    "several": {"transformer": make_pipeline(RobustScaler(), "passthrough", StandardScaler())},
    "logarithms": {"func": np.log, "inverse_func": np.exp},
    "logarithms of one more": {"func": np.log1p, "inverse_func": np.expm1},
    "scaled logarithms": {
        "transformer": make_pipeline(FunctionTransformer(np.log1p, np.expm1, validate=True), StandardScaler())
    },
    "as they are": {},
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_targets", [1, 2])
@pytest.mark.parametrize("name", TARGETS)
def test_transformed_targets(name, n_targets, dtype, tmp_path):
    """Of scikit-learn's MLPs and of fastnn's: around an MLP or a Pipeline, and at the end of a Pipeline."""
    rows = frame()[["rent", "rooms"]] / 100
    y = np.exp(rng.normal(3, 1, (len(rows), n_targets)))
    last = mlp(MLPRegressor if n_targets == 1 else fastnn.MLPRegressor)
    where = list(TARGETS).index(name) % 3
    if where == 1:
        last = make_pipeline(StandardScaler(), last)
    fitted = TransformedTargetRegressor(last, **TARGETS[name])
    if where == 2:
        fitted = make_pipeline(StandardScaler(), fitted)
    fitted.fit(rows, y if n_targets > 1 else y[:, 0])
    check(in_dtype(fitted, dtype), rows, tmp_path, dtype, scaled=True, verified=True)
    assert computation_of(fitted).decision.single == (n_targets == 1)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning")
def test_one_column_of_targets(tmp_path):
    """Predictions have a second axis where the targets had one."""
    X = rng.normal(size=(40, 2))
    fitted = TransformedTargetRegressor(fastnn.MLPRegressor(max_iter=2), transformer=StandardScaler())
    fitted.fit(X, X[:, :1])
    fastnn.export(fitted, tmp_path / "net.py")
    found = runpy.run_path(str(tmp_path / "net.py"))["predict"](X)
    assert found.shape == fitted.predict(X).shape == (40, 1)


def test_deviations_of_scaled_targets(tmp_path):
    """Both are in the units of the targets, for which no scale is negative."""
    X = rng.normal(size=(60, 2))
    y = 500 - 20 * X + rng.normal(size=X.shape)
    last = fastnn.MLPEnsembleRegressor(3, loss="gaussian", max_iter=5, random_state=0)
    fitted = TransformedTargetRegressor(last, transformer=StandardScaler()).fit(X, y)
    fastnn.export(fitted, tmp_path / "net.py")
    net = runpy.run_path(str(tmp_path / "net.py"))
    scale, (means, deviations) = fitted.transformer_.scale_, fitted.regressor_.predict(X, return_std=True)
    found = net["predict"](X, return_std=True)
    np.testing.assert_allclose(found, (means * scale + y.mean(axis=0), deviations * scale), 1e-12)


def test_targets_in_integers(tmp_path):
    X = rng.normal(3, 2, (400, 4)).astype(np.float32)
    fitted = TransformedTargetRegressor(
        make_pipeline(StandardScaler(), mlp(fastnn.MLPRegressor)), transformer=StandardScaler()
    ).fit(X, 1000 + 50 * X[:, 0])
    report = fastnn.export(fitted, tmp_path / "net.h", quantize="int8", calibrate=X)
    assert report.agreement > 0.98
    assert fastnn.verify(tmp_path / "net.h").passed


def test_targets_that_are_refused(tmp_path):
    X = np.abs(rng.normal(3, 2, (60, 4)))
    last, gaussian = mlp(MLPRegressor), fastnn.MLPEnsembleRegressor(2, loss="gaussian", max_iter=2, random_state=0)
    begin = "a pipeline must have steps that fastnn has, got "
    for fitted, told in (
        (
            TransformedTargetRegressor(last, transformer=PowerTransformer()),
            r"'transformer' \(PowerTransformer\): no export has this class for targets",
        ),
        (
            make_pipeline(StandardScaler(), TransformedTargetRegressor(last, func=np.sqrt, inverse_func=np.square)),
            r"'transformedtargetregressor.transformer' \(FunctionTransformer\): inverse_func must be None, numpy.exp "
            r"or numpy.expm1, got <ufunc 'square'>",
        ),
        (
            TransformedTargetRegressor(gaussian, func=np.log, inverse_func=np.exp),
            "a TransformedTargetRegressor: standard deviations have no exponential",
        ),
        (
            TransformedTargetRegressor(mlp()),
            "a TransformedTargetRegressor: its regressor must be one of numbers",
        ),
        (
            TransformedTargetRegressor(transformer=StandardScaler()),
            r"'regressor' \(LinearRegression\): the last step must be an MLP of fastnn or scikit-learn",
        ),
    ):
        y = X[:, 0] > 3 if "Classifier" in repr(fitted) else X[:, 0]
        with pytest.raises(ValueError, match=begin + told):
            fastnn.export(fitted.fit(X, y), tmp_path / "net.py")
    with pytest.raises(
        ValueError, match=f"{begin}a TransformedTargetRegressor: This TransformedTargetRegressor instance"
    ):
        fastnn.export(TransformedTargetRegressor(last), tmp_path / "net.py")
    large = TransformedTargetRegressor(last, transformer=StandardScaler()).fit(X, X[:, 0] * 1e40)
    told = "a TransformedTargetRegressor: what its transformer has learnt must be finite in float32"
    with pytest.raises(ValueError, match=begin + told):
        fastnn.export(in_dtype(large, "float32"), tmp_path / "net.py")
    assert [*tmp_path.iterdir()] == []


# ---- what is refused ----


class Own(StandardScaler):
    """A class of a user, whose `transform` might do anything."""


def pipeline_with(name, step):
    """An unfitted pipeline that has a step on some columns of `frame`."""
    numbers, texts = ["rent", "rooms"], ["town", "side"]
    inner = ColumnTransformer([(name, step, texts if isinstance(step, OneHotEncoder) else numbers)])
    return Pipeline([("columns", inner), ("mlp", mlp())])


REFUSED = [
    (pipeline_with("scale", PowerTransformer()), r"'columns.scale' \(PowerTransformer\): no export has this class"),
    (pipeline_with("own", Own()), r"'columns.own' \(Own\): no export has this class"),
    (pipeline_with("both", FeatureUnion([("a", StandardScaler())])), r"'columns.both' \(FeatureUnion\): no export"),
    (
        pipeline_with("log", FunctionTransformer(np.log1p)),
        r"'columns.log' \(FunctionTransformer\): func must be None, got <ufunc 'log1p'>",
    ),
    (
        pipeline_with("fill", SimpleImputer(missing_values=3)),
        r"'columns.fill' \(SimpleImputer\): missing_values must be NaN, None or pandas.NA, got 3",
    ),
    (
        pipeline_with("encode", OneHotEncoder(max_categories=2)),
        r"'columns.encode' \(OneHotEncoder\): it has infrequent categories: min_frequency and max_categories must be",
    ),
    (
        pipeline_with("inner", Pipeline([("scale", StandardScaler()), ("encode", OneHotEncoder())])),
        r"'columns.inner.encode' \(OneHotEncoder\): it must read columns as they are, or with gaps filled",
    ),
    (
        Pipeline([("scale", StandardScaler()), ("tree", DecisionTreeClassifier())]),
        r"'tree' \(DecisionTreeClassifier\): the last step must be an MLP of fastnn or scikit-learn",
    ),
    (
        Pipeline([("scale", StandardScaler()), ("last", Pipeline([("tree", DecisionTreeClassifier())]))]),
        r"'last.tree' \(DecisionTreeClassifier\): the last step must be an MLP",
    ),
]


@pytest.mark.parametrize(("pipeline", "told"), REFUSED)
@pytest.mark.parametrize("suffix", [".py", ".h"])
def test_what_is_refused(pipeline, told, suffix, tmp_path):
    rows = frame() if "columns" in pipeline.named_steps else frame()[["rent", "rooms"]]
    fitted = pipeline.fit(rows, classes(rows))
    with pytest.raises(ValueError, match=f"a pipeline must have steps that fastnn has, got {told}"):
        fastnn.export(fitted, tmp_path / f"net{suffix}")
    assert not (tmp_path / f"net{suffix}").exists()


def test_columns_and_categories_that_are_refused(tmp_path):
    rows = frame()
    both = ColumnTransformer([("encode", OneHotEncoder(), ["rooms"]), ("scale", StandardScaler(), ["rooms"])])
    with pytest.raises(
        ValueError, match=r"'columns.encode' \(OneHotEncoder\): column 'rooms' must be no number for an"
    ):
        fastnn.export(onto_frame(both).fit(rows, classes(rows)), tmp_path / "net.py")
    twice = np.array([None, np.nan, "a"] * 20, object)[:, None]
    encoded = make_pipeline(OneHotEncoder(), mlp()).fit(twice, np.arange(60) % 2)
    with pytest.raises(
        ValueError, match=r"'onehotencoder' \(OneHotEncoder\): None and NaN must not both be categories"
    ):
        fastnn.export(encoded, tmp_path / "net.py")
    dates = np.array(["2020-01-01", "2020-01-02"] * 30, "M8[D]")[:, None]
    dated = make_pipeline(OneHotEncoder(), mlp()).fit(dates, np.arange(60) % 2)
    with pytest.raises(ValueError, match="categories must be text, numbers or truth values, got the dtype datetime64"):
        fastnn.export(dated, tmp_path / "net.py")
    assert [*tmp_path.iterdir()] == []


def test_a_scale_that_single_precision_cannot_hold(tmp_path):
    X = rng.normal(size=(60, 2)).astype(np.float32) * np.array([1, 1e-42], np.float32)
    pipeline = make_pipeline(StandardScaler(), mlp()).fit(X, classes(X))
    with pytest.raises(ValueError, match=r"shifts and scales of inputs must be finite in float32, got \d"):
        fastnn.export(pipeline, tmp_path / "net.py")
    assert [*tmp_path.iterdir()] == []
    fastnn.export(in_dtype(pipeline, "float64"), tmp_path / "net.py")


def test_what_is_not_fitted(tmp_path):
    X, y = rng.normal(size=(40, 2)), rng.integers(0, 2, 40)
    last = mlp().fit(X, y)
    for what, told in (
        (mlp(), r"got a MLPClassifier: This MLPClassifier instance is not fitted yet"),
        (
            make_pipeline(StandardScaler(), mlp()),
            r"got 'standardscaler' \(StandardScaler\): This StandardScaler instance",
        ),
        (
            make_pipeline(StandardScaler(), last),
            r"got 'standardscaler' \(StandardScaler\): This StandardScaler instance",
        ),
        (
            make_pipeline(StandardScaler().fit(X[:, :1]), last),
            r"got 'mlpclassifier' \(MLPClassifier\): it reads 2 columns, where there are 1",
        ),
        (
            make_pipeline(StandardScaler().fit(X), MinMaxScaler().fit(X[:, :1]), last),
            r"got 'minmaxscaler' \(MinMaxScaler\): it reads 1 columns, where there are 2",
        ),
        (make_pipeline("passthrough"), "got a Pipeline: the last step must be an MLP"),
    ):
        with pytest.raises(ValueError, match=told):
            fastnn.export(what, tmp_path / "net.py")
    with pytest.raises(TypeError, match="labels are those of the estimator"):
        fastnn.export(make_pipeline(StandardScaler().fit(X), last), tmp_path / "net.py", labels=["a", "b"])
    with pytest.raises(
        TypeError, match="what is exported must be a Model, a Population, an estimator of fastnn, or an"
    ):
        fastnn.export(DecisionTreeClassifier().fit(X, y), tmp_path / "net.py")
    assert [*tmp_path.iterdir()] == []


def test_rows_that_are_wrong(tmp_path):
    pipeline, rows = strict_pipeline()
    for wrong, told in (
        (rows.drop(columns="town"), "rows must be a table as the pipeline takes it: table must have the column 'town'"),
        (rows.assign(rent="x"), "rows must be a table as the pipeline takes it: column 'rent' must hold a number"),
        (rows[:0], r"rows must have shape \(n, 3\) with n >= 1, got \(0, 3\)"),
    ):
        with pytest.raises(ValueError, match=told):
            fastnn.export(pipeline, tmp_path / "net.py", rows=wrong)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_a_matrix_of_javascript_has_the_names_of_columns(tmp_path):
    rows = frame()
    columns = ColumnTransformer([("numbers", StandardScaler(), ["rooms", "rent"])])
    fastnn.export(onto_frame(columns).fit(rows, classes(rows)), tmp_path / "net.mjs")
    source = f"const net = await import({json.dumps(str(tmp_path / 'net.mjs'))}); console.log(net.features.join());"
    done = subprocess.run(["node", "--input-type=module", "-e", source], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "rent,rooms"
