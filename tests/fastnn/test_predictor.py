"""A model as a function of blocks of a table, of each library."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("pandas", reason="pandas is not installed")

import pandas as pd

import fastnn
from fastnn import Dense, Model, Population, Predictor
from fastnn.data.frames import labels

rng = np.random.default_rng(0)
FRAME = pd.DataFrame({"id": np.arange(40), "a": rng.normal(size=40), "b": rng.normal(size=40)})


def model(*layers, names=True, **how):
    """A network of the columns a and b, which knows their names or not."""
    found = Model([2, *layers], rng=0, **how)
    X = FRAME[["a", "b"]]
    n = found.sizes[-1]
    y = np.arange(40) % n if how else np.ones((40, n))
    found.fit(X if names else X.to_numpy(), y, epochs=1, batch_size=10)
    return found


NUMBERS = model(Dense(1, "identity"))
EXPECTED = NUMBERS.predict(FRAME[["a", "b"]])[:, 0]


def libraries(frame=FRAME):
    polars, pyarrow = (pytest.importorskip(name, reason=f"{name} is not installed") for name in ("polars", "pyarrow"))
    return {
        "dict": {name: frame[name].to_numpy() for name in frame},
        "pandas": frame.set_index(np.arange(100, 140)),
        "polars": polars.from_pandas(frame),
        "pyarrow": pyarrow.Table.from_pandas(frame),
        "record batch": pyarrow.RecordBatch.from_pandas(frame),
    }


@pytest.mark.parametrize("name", ["dict", "pandas", "polars", "pyarrow", "record batch"])
def test_a_block_comes_back_with_columns_more(name):
    block = libraries()[name]
    found = Predictor(NUMBERS)(block)
    assert type(found) is type(block)
    np.testing.assert_array_equal(np.asarray(found["prediction"]), EXPECTED)
    np.testing.assert_array_equal(np.asarray(found["id"]), FRAME["id"])
    if name == "pandas":
        assert found.index.tolist() == list(range(100, 140))
        assert "prediction" not in block


@pytest.mark.parametrize("name", ["dict", "pandas", "polars", "pyarrow", "record batch"])
def test_columns_one_by_one(name):
    block = libraries()[name]
    found = Predictor(NUMBERS)(block["a"], block["b"])
    kinds = {"record batch": "FloatArray", "pyarrow": "FloatArray"}
    assert type(found).__name__ == kinds.get(name, type(block["a"]).__name__)
    np.testing.assert_array_equal(np.asarray(found), EXPECTED)
    if name == "pandas":
        assert found.index.tolist() == list(range(100, 140))
    both = Predictor(NUMBERS)([block["a"], block["b"]])
    np.testing.assert_array_equal(np.asarray(both), EXPECTED)


def test_classes_and_probabilities():
    found = model(Dense(3, "softmax"), loss="cross_entropy")
    block = Predictor(found, probabilities=True, name="class")(FRAME)
    outputs = found.predict(FRAME[["a", "b"]])
    assert list(block.columns) == ["id", "a", "b", "class", "probability 0", "probability 1", "probability 2"]
    assert (block["class"] == outputs.argmax(axis=1)).all()
    np.testing.assert_array_equal(block.iloc[:, 4:].to_numpy(), outputs)
    two = model(Dense(1, "sigmoid"))
    block = Predictor(two, probabilities=True)(FRAME)
    np.testing.assert_array_equal(block["probability 1"], two.predict(FRAME[["a", "b"]])[:, 0])
    assert (block["prediction"] == (block["probability 1"] > 0.5)).all()


def test_kinds_of_models():
    several = model(Dense(2, "identity"))
    block = Predictor(several)(FRAME)
    np.testing.assert_array_equal(
        block[["prediction 0", "prediction 1"]].to_numpy(), several.predict(FRAME[["a", "b"]])
    )
    population = Population([2, Dense(1, "identity")], 3, rng=0)
    expected = population.predict(FRAME[["a", "b"]].to_numpy(), "mean")[:, 0]
    np.testing.assert_array_equal(Predictor(population)(FRAME[["a", "b"]])["prediction"], expected)
    frame = FRAME.assign(group=FRAME["id"] % 2, y=FRAME["a"] * 2)
    groups = fastnn.fit_groups(frame, by="group", target="y", features=["a", "b"], epochs=2, rng=0)
    np.testing.assert_array_equal(Predictor(groups)(frame)["prediction"], groups.predict(frame))


def test_estimators():
    pytest.importorskip("sklearn", reason="the extra sklearn is not installed")
    y = np.where(FRAME["a"] > 0, "high", "low")
    classifier = fastnn.MLPClassifier(hidden_layer_sizes=4, max_iter=20, random_state=0, tol=1e3)
    classifier.fit(FRAME[["a", "b"]], y)
    block = Predictor(classifier, probabilities=True)(FRAME)
    assert (block["prediction"] == classifier.predict(FRAME[["a", "b"]])).all()
    np.testing.assert_array_equal(block["probability low"], classifier.predict_proba(FRAME[["a", "b"]])[:, 1])
    frame = FRAME.assign(town=np.where(FRAME["id"] % 3, "Oslo", None))
    regressor = fastnn.TabularRegressor(n_members=1, epochs=2, random_state=0).fit(frame, FRAME["a"])
    np.testing.assert_array_equal(Predictor(regressor)(frame)["prediction"], regressor.predict(frame))
    columns = [frame[name] for name in Predictor(regressor).columns]
    np.testing.assert_array_equal(Predictor(regressor)(*columns), regressor.predict(frame))


def without_rows(block):
    if isinstance(block, dict):
        return {name: column[:0] for name, column in block.items()}
    return block.iloc[:0] if isinstance(block, pd.DataFrame) else block[:0]


def dtypes(block):
    columns = {name: block[name] for name in labels("block", block)}
    return {name: column.type if hasattr(column, "type") else column.dtype for name, column in columns.items()}


def kinds_of_models():
    pytest.importorskip("sklearn", reason="the extra sklearn is not installed")
    y = pd.Series(np.where(FRAME["a"] > 0, "high", "low"), dtype=object)
    classifier = fastnn.MLPClassifier(hidden_layer_sizes=4, max_iter=20, random_state=0, tol=1e3)
    frame = FRAME.assign(town=np.where(FRAME["id"] % 3, "Oslo", "Rome"), group=FRAME["id"] % 2)
    tabular = {"n_members": 1, "epochs": 2, "random_state": 0}
    return frame, {
        "numbers": (NUMBERS, False),
        "several": (model(Dense(2, "identity")), False),
        "softmax": (model(Dense(3, "softmax"), loss="cross_entropy"), True),
        "sigmoid": (model(Dense(1, "sigmoid")), True),
        "labels of text": (classifier.fit(FRAME[["a", "b"]], y), True),
        "table": (fastnn.TabularRegressor(**tabular).fit(frame, FRAME["a"]), False),
        "classes of a table": (fastnn.TabularClassifier(**tabular).fit(frame, y), True),
        "groups": (fastnn.fit_groups(frame, by="group", target="b", features=["a"], epochs=2, rng=0), False),
    }


@pytest.mark.parametrize("library", ["dict", "pandas", "polars", "pyarrow", "record batch"])
def test_a_block_without_rows(library):
    """Other systems give such blocks after a filter. They come back with the columns and dtypes of other blocks."""
    frame, models = kinds_of_models()
    block = libraries(frame)[library]
    for name, (each, probabilities) in models.items():
        predict = Predictor(each, probabilities=probabilities)
        expected, found = dtypes(predict(block)), dtypes(predict(without_rows(block)))
        if library == "dict":  # NumPy's text has a length, or is objects
            expected, found = (
                {label: dtype.kind in "OUT" or dtype for label, dtype in of.items()} for of in (expected, found)
            )
        assert found == expected, name
        assert len(predict(without_rows(block))["id"]) == 0
    whole, empty = Predictor(NUMBERS), without_rows(block)
    column = whole(empty["a"], empty["b"])
    assert type(column) is type(whole(block["a"], block["b"]))
    assert (len(column), np.asarray(column).dtype) == (0, np.float32)


def test_a_file_is_read_where_the_first_block_comes(tmp_path):
    """So a pickle is small, and a process that has it needs the file."""
    large = Model([2, Dense(300, "relu"), Dense(300, "relu"), Dense(1, "identity")], rng=0)
    path = tmp_path / "net.safetensors"
    large.save(path)
    predictor = Predictor(path)
    expected = predictor(FRAME[["a", "b"]])["prediction"]
    text = pickle.dumps(predictor)
    assert len(text) < 1000
    (tmp_path / "predictor").write_bytes(text)
    (tmp_path / "frame").write_bytes(pickle.dumps(FRAME[["a", "b"]]))
    code = """
import pickle, sys
predict, frame = (pickle.load(open(sys.argv[1] + name, "rb")) for name in ("/predictor", "/frame"))
sys.stdout.buffer.write(predict(frame)["prediction"].to_numpy().tobytes())
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, check=True)
    np.testing.assert_array_equal(np.frombuffer(done.stdout, np.float32), expected)
    missing = Predictor(tmp_path / "missing.safetensors")
    with pytest.raises(FileNotFoundError):
        missing(FRAME)


def test_what_is_refused():
    predict = Predictor(NUMBERS)
    with pytest.raises(ValueError, match=r"the model's inputs must name columns of block, .*, got 'b'"):
        predict(FRAME[["id", "a"]])
    with pytest.raises(ValueError, match="block must have no column 'prediction', which predictions are called"):
        predict(FRAME.assign(prediction=0))
    with pytest.raises(ValueError, match=r"a block must have 2 columns, \['a', 'b'\], got 1"):
        predict(FRAME["a"])
    with pytest.raises(ValueError, match="block must have 2 columns, as the model knows them by position, got 3"):
        Predictor(model(Dense(1, "identity"), names=False))(FRAME)
    with pytest.raises(ValueError, match="probabilities must be False for a model that gives none"):
        Predictor(NUMBERS, probabilities=True)(FRAME)
    with pytest.raises(ValueError, match="probabilities must be False where columns are given one by one"):
        Predictor(NUMBERS, probabilities=True)(FRAME["a"], FRAME["b"])
    with pytest.raises(ValueError, match="a column comes back, but the model predicts 2: give it a frame"):
        Predictor(model(Dense(2, "identity")))(FRAME["a"], FRAME["b"])
    for how, error in (({"name": ""}, TypeError), ({"threads": 0}, ValueError), ({"probabilities": 1}, TypeError)):
        with pytest.raises(error, match=next(iter(how))):
            Predictor(NUMBERS, **how)
    with pytest.raises(TypeError, match="model must be a path or a model of fastnn, got 3"):
        Predictor(3)
