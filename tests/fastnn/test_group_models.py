"""`fit_groups`: each group's network is one trained alone on the group's standardised rows."""

import copy
import datetime
import pickle

import numpy as np
import pytest

import fastnn
from fastnn import Adam, CosineDecay, Halving, Model, Patience, Population
from fastnn.training.group_rows import GroupRows

rng = np.random.default_rng(4)


def table(counts, n_in=3, names=None):
    """{columns} with so many rows for each group, mixed."""
    keys = np.repeat(np.arange(len(counts)) if names is None else np.array(names), counts)
    rows = len(keys)
    found = {"key": keys, **{f"x{j}": rng.normal(j * 100, j + 1, rows) for j in range(n_in)}}
    found["y"] = np.tanh(found["x0"]) * 50 + found["x1"] + 1e4
    order = rng.permutation(rows)
    return {name: column[order] for name, column in found.items()}


def inputs_of(frame, some=slice(None)):
    return np.stack([frame[name][some] for name in frame if name.startswith("x")], axis=1)


def as_pandas(frame):
    return pytest.importorskip("pandas").DataFrame(frame)


def as_polars(frame):
    return pytest.importorskip("polars").DataFrame(frame)


def as_arrow(frame):
    return pytest.importorskip("pyarrow").table(frame)


def alone(frame, some, seed, **options):
    """The predictions of a single `Model`, trained on the standardised rows of a group."""
    X, y = inputs_of(frame, some), frame["y"][some]
    mean, std = X.mean(axis=0), X.std(axis=0)
    model = Model([X.shape[1], fastnn.Dense(4, "tanh"), 1], output="identity", dtype="float64", rng=seed)
    targets = ((y - y.mean()) / y.std())[:, None]
    options = {"epochs": 3, "batch_size": 8, "optimizer": Adam(0.01), **options}
    model.fit((X - mean) / std, targets, **{**options, "batch_size": min(options["batch_size"], len(y))})
    return model.predict((X - mean) / std)[:, 0] * y.std() + y.mean()


FIT = {"by": "key", "target": "y", "layers": [4], "epochs": 3, "batch_size": 8}


@pytest.mark.parametrize(("counts", "options"), [([40, 9, 3, 17, 2, 8], {}), ([16] * 5, {"l2": 0.1, "shuffle": False})])
@pytest.mark.parametrize("threads", [1, 2])
def test_each_group_is_a_model_trained_alone(counts, options, threads, monkeypatch):
    monkeypatch.setattr("fastnn.network.threads.FIT_MULTIPLY_ADDS", 0)
    frame = table(counts)
    models = fastnn.fit_groups(frame, **FIT, dtype="float64", rng=7, threads=threads, **options)
    found = models.predict(frame)
    for key, count in enumerate(counts):
        some = np.flatnonzero(frame["key"] == key)
        expected = alone(frame, some, 7 + key, **options)
        np.testing.assert_allclose(found[some], expected, rtol=1e-9)
        np.testing.assert_allclose(models[key].predict(inputs_of(frame, some)), expected, rtol=1e-9)
        assert (models[key].n_rows, models[key].epochs, models[key].status) == (count, 3, "trained")
        np.testing.assert_allclose(models[key].input_std, inputs_of(frame, some).std(axis=0))
    assert models.n_rows.tolist() == counts
    assert models.errors == {}


@pytest.mark.parametrize("rows_at_a_time", [1, 40, 2**22])
def test_chunks_leave_no_trace(rows_at_a_time, monkeypatch):
    frame = table([30, 5, 12, 50, 7])
    frame["x0"][np.flatnonzero(frame["key"] == 2)[0]] = np.nan
    expected = fastnn.fit_groups(frame, **FIT, rng=0)
    monkeypatch.setattr("fastnn.training.group_rows.CHUNK", rows_at_a_time)
    models = fastnn.fit_groups(frame, **FIT, rng=0)
    np.testing.assert_array_equal(models.population.vectors, expected.population.vectors)
    np.testing.assert_array_equal(models.predict(frame), expected.predict(frame))
    np.testing.assert_array_equal(models.loss, expected.loss)


@pytest.mark.parametrize("make", [as_pandas, as_polars, as_arrow, dict])
@pytest.mark.parametrize("by", [["key"], ["name"], ["name", "key"], ["day", "key"], ["weight"], ["flag"]])
def test_frames_and_keys_of_all_kinds(make, by):
    frame = table([20, 11, 30, 8])
    frame["name"] = np.array(["b", "a", "b", "é"], object)[frame["key"]]
    frame["day"] = np.array(["2024-02-29", "2023-01-01"], "M8[ms]")[frame["key"] % 2]
    frame["weight"], frame["flag"] = frame["key"] * 0.1, frame["key"] > 1
    features = ["x0", "x1", "x2"]
    columns = [frame[label].tolist() for label in by]
    of_row = columns[0] if len(by) == 1 else list(zip(*columns, strict=True))
    keys = sorted(set(of_row))
    made = make(frame)
    models = fastnn.fit_groups(made, **{**FIT, "by": by}, features=features, rng=1)
    assert list(models) == keys
    assert models.n_rows.tolist() == [of_row.count(key) for key in keys]
    found = models.predict(made)
    for key in keys:
        some = np.flatnonzero([each == key for each in of_row])
        np.testing.assert_allclose(models[key].predict(inputs_of(frame, some)), found[some], rtol=1e-6)
    other = fastnn.fit_groups(frame, **{**FIT, "by": by}, features=features, rng=1)
    np.testing.assert_array_equal(other.predict(frame), found)  # the library makes no difference


def test_a_frame_in_order_is_not_sorted():
    frame = {"key": np.repeat([3, 5, 8], [4, 1, 3]), "y": np.arange(8.0)}
    assert GroupRows.of("frame", frame, ["key"]).rows is None
    turned = {name: column[::-1] for name, column in frame.items()}
    rows = GroupRows.of("frame", turned, ["key"])
    assert rows.rows.tolist() == [4, 5, 6, 7, 3, 0, 1, 2]
    assert rows.edges.tolist() == [0, 4, 5, 8]


@pytest.mark.parametrize("kind", ["i8", "u8", "f8", "i1", "?", "U3", "O"])
def test_rows_are_those_of_a_stable_sort(kind, monkeypatch):
    monkeypatch.setattr("fastnn.training.group_rows.ROWS_AT_A_TIME", 64)  # tables of numbers grow
    for n in (1, 63, 64, 65, 1000):
        plain = (
            rng.integers(0, 300, n)
            if kind not in ("i8", "u8")
            else rng.integers(0, 2**63, n // 3 + 1)[rng.integers(0, n // 3 + 1, n)]
        )
        column = plain.astype(kind) if kind != "O" else np.array([str(each) for each in plain], object)
        rows = GroupRows.of("frame", {"key": column}, ["key"])
        order = np.argsort(column, kind="stable")
        keys, counts = np.unique(column, return_counts=True)
        assert rows.keys[0].tolist() == keys.tolist()
        np.testing.assert_array_equal(np.diff(rows.edges), counts)
        np.testing.assert_array_equal(np.arange(n) if rows.rows is None else rows.rows, order)


def broken():
    frame = table([20] * 8)
    y = frame["y"]
    some = [np.flatnonzero(frame["key"] == key) for key in range(8)]
    for name in ("x0", "x1", "x2"):
        frame[name][some[1]] = 0.1  # whose sum has a rounding error
    y[some[2]] = 0.1
    frame["x1"][some[3][4]] = np.nan
    y[some[4][0]] = np.inf
    y[some[5]] = np.nan
    frame["x2"][some[6]] = 5.0  # one constant column is no obstacle
    keep = np.ones(len(y), bool)
    keep[some[7][1:]] = False
    return {name: column[keep] for name, column in frame.items()}


ERRORS = {
    1: "constant inputs",
    2: "constant target",
    3: "missing values",
    4: "infinite values",
    5: "missing values",
    7: "too few rows",
}


@pytest.mark.parametrize("fallback", ["mean", None])
def test_broken_groups_are_reported(fallback):
    frame = broken()
    models = fastnn.fit_groups(frame, **FIT, rng=0, fallback=fallback)
    assert models.errors == ERRORS
    assert [key for key, status in zip(models, models.status, strict=True) if status == "trained"] == [0, 6]
    found = models.predict(frame)
    finite = np.isfinite(frame["y"])
    means = {key: frame["y"][(frame["key"] == key) & finite].mean() for key in range(8) if key != 5}
    sizes = np.bincount(frame["key"])
    for key in ERRORS:
        some = frame["key"] == key
        mean = means[key] if key in means else sum(means[k] * sizes[k] for k in means) / sum(sizes[k] for k in means)
        expected = mean if fallback else np.nan
        np.testing.assert_allclose(found[some], expected, rtol=1e-12)
        np.testing.assert_allclose(models[key].predict([[np.nan, 0, 1]]), [expected], rtol=1e-12)
        assert models[key].model is None
    for key in (0, 6):  # as without the others
        some = frame["key"] == key
        one = fastnn.fit_groups({name: column[some] for name, column in frame.items()}, **FIT, rng=key)
        np.testing.assert_array_equal(one.predict({n: c[some] for n, c in frame.items()}), found[some])
    moved = inputs_of(frame, frame["key"] == 6)
    moved[:, 2] += 1e6  # a column that was constant says nothing
    np.testing.assert_array_equal(models[6].predict(moved), found[frame["key"] == 6])
    assert np.isnan(models[1].loss)
    assert np.isfinite(models[0].loss)


def test_numbers_of_extreme_sizes():
    frame = table([30] * 4)
    expected = fastnn.fit_groups(frame, **FIT, rng=0).predict(frame)
    for factor, offset in ((1e300, 0.0), (1e-280, 0.0), (1.0, 1e12)):
        scaled = {**frame, "x0": frame["x0"] * factor + offset}
        np.testing.assert_allclose(fastnn.fit_groups(scaled, **FIT, rng=0).predict(scaled), expected, rtol=1e-6)
    wide = {**frame, "x0": np.where(np.arange(120) % 2, 1.7e308, -1.7e308)}
    assert set(fastnn.fit_groups(wide, **FIT, rng=0).errors.values()) == {"infinite values"}
    extreme = {**frame, "y": np.where(np.arange(120) % 3, 1.7e308, -1.7e308)}
    models = fastnn.fit_groups(extreme, **FIT, rng=0)
    assert set(models.errors.values()) == {"infinite values"}
    for key in range(4):
        expected = np.mean(extreme["y"][extreme["key"] == key] / 1e300) * 1e300
        np.testing.assert_allclose(models[key].predict(inputs_of(extreme)[:1]), expected)


def test_a_diverging_group_has_the_fallback():
    frame = table([20, 20])
    with np.errstate(all="ignore"):
        models = fastnn.fit_groups(frame, **{**FIT, "epochs": 30}, optimizer=fastnn.SGD(1e6), rng=0)
    assert models.errors == {0: "diverged", 1: "diverged"}
    for key in (0, 1):
        some = frame["key"] == key
        np.testing.assert_allclose(models.predict(frame)[some], frame["y"][some].mean(), rtol=1e-12)


@pytest.mark.parametrize("make", [as_pandas, as_polars, as_arrow])
def test_categories_without_rows_are_empty_groups(make):
    """They come last, in the order that the categories have."""
    frame, categories = make(table([12, 12], names=["b", "c"])), ["d", "c", "a", "b"]
    if make is as_pandas:
        frame["key"] = frame["key"].astype(pytest.importorskip("pandas").CategoricalDtype(categories))
    elif make is as_polars:
        frame = frame.with_columns(frame["key"].cast(pytest.importorskip("polars").Enum(categories)))
    else:
        pyarrow = pytest.importorskip("pyarrow")
        numbers = pyarrow.array([categories.index(each) for each in frame["key"].to_pylist()])
        chunks = [
            pyarrow.DictionaryArray.from_arrays(numbers[s], [*categories, None]) for s in (slice(9), slice(9, 24))
        ]
        frame = frame.set_column(0, "key", pyarrow.chunked_array(chunks))
    models = fastnn.fit_groups(frame, **FIT, rng=0)
    assert (list(models), models.errors) == (["b", "c", "d", "a"], {"d": "empty", "a": "empty"})
    assert models["a"].n_rows == 0
    np.testing.assert_allclose(models["a"].predict(np.zeros((2, 3))), np.mean(np.asarray(frame["y"])))


@pytest.mark.parametrize(("target", "shape"), [("y", (0,)), (["y", "x0"], (0, 2))])
def test_no_rows_have_no_predictions(target, shape):
    frame = table([12, 12])
    models = fastnn.fit_groups(frame, **{**FIT, "target": target}, features=["x1"], rng=0)
    found = models.predict({name: column[:0] for name, column in frame.items()})
    assert (found.shape, found.dtype) == (shape, np.float64)


def test_missing_numbers_of_frames_are_missing_values():
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    values = [1, 2, None, 4, 5, 6, 7, 9]
    keys, y = [0] * 4 + [1] * 4, [2.0, 1, 4, 3, 8, 7, 5, 6]
    for frame in (
        pandas.DataFrame({"key": keys, "x": pandas.array(values, "Int64"), "y": y}),
        polars.DataFrame({"key": keys, "x": values, "y": y}),
        {"key": np.array(keys), "x": np.array(values, object), "y": np.array(y)},
    ):
        models = fastnn.fit_groups(frame, **FIT, features=["x"], rng=0)
        assert models.errors == {0: "missing values"}
    assert fastnn.fit_groups(polars.DataFrame({"key": keys, "x": y, "y": y}), **FIT, rng=0).errors == {}


def test_columns_at_any_address():
    """As those of a memmap behind a header of 13 bytes."""
    frame = table([5, 7, 6])

    def moved(column):
        return np.frombuffer(b"\0" + column.tobytes(), column.dtype, offset=1)

    other = {name: moved(np.ascontiguousarray(column)) for name, column in frame.items()}
    assert not other["x0"].flags.aligned
    options = {"by": "key", "target": "y", "epochs": 2, "rng": 0}
    predictions = fastnn.fit_groups(frame, **options).predict(frame)
    np.testing.assert_array_equal(fastnn.fit_groups(other, **options).predict(other), predictions)


def test_keys_that_training_had_not():
    frame = table([10, 10])
    models = fastnn.fit_groups(frame, **FIT, rng=0)
    new = {**frame, "key": np.where(frame["key"] == 0, 0, 9)}
    with pytest.raises(ValueError, match="frame must hold keys that were trained on, got 9; unseen='fallback' takes"):
        models.predict(new)
    found = models.predict(new, unseen="fallback")
    np.testing.assert_array_equal(found[new["key"] == 0], models.predict(frame)[new["key"] == 0])
    np.testing.assert_allclose(found[new["key"] == 9], frame["y"].mean())
    assert 9 not in models
    with pytest.raises(KeyError, match="there is no group 9 among 2"):
        models[9]


def test_several_targets_and_no_y_in_prediction():
    frame = table([25, 13])
    frame["z"] = frame["x1"] * 2
    models = fastnn.fit_groups(frame, **{**FIT, "target": ["y", "z"]}, features=["x0", "x1"], rng=0)
    new = {name: frame[name] for name in ("x1", "key", "x0")}  # columns are found by their names
    assert models.predict(new).shape == (38, 2)
    assert models[0].predict(inputs_of(frame)[:2, :2]).shape == (2, 2)
    assert (models.targets, models.features, models.by) == (["y", "z"], ["x0", "x1"], ["key"])
    one = fastnn.fit_groups(frame, **{**FIT, "target": ["y"]}, features=["x0", "x1"], rng=0)
    assert one.predict(new).shape == (38, 1)


@pytest.mark.parametrize("by", ["key", "name", "day", ["name", "key"]])
def test_a_file_keeps_all(by, tmp_path):
    frame = broken()
    frame["name"] = frame["key"].astype(str).astype(object)
    frame["day"] = np.datetime64("2024-01-01") + frame["key"].astype("m8[D]")
    models = fastnn.fit_groups(frame, **{**FIT, "by": by}, features=["x0", "x1", "x2"], rng=0)
    models.save(tmp_path / "models.safetensors")
    later = frame["day"] + np.timedelta64(100, "D")
    new = {**frame, "key": frame["key"] + 100, "name": frame["name"] + "?", "day": later}
    for other in (fastnn.load(tmp_path / "models.safetensors"), pickle.loads(pickle.dumps(models)), copy.copy(models)):
        np.testing.assert_array_equal(other.predict(frame), models.predict(frame))
        np.testing.assert_array_equal(other.predict(new, unseen="fallback"), models.predict(new, unseen="fallback"))
        assert (list(other), other.errors, repr(other)) == (list(models), models.errors, repr(models))
        np.testing.assert_array_equal(other.loss, models.loss)
        np.testing.assert_array_equal(other.population.vectors, models.population.vectors)
    if by == "day":
        assert list(models)[:2] == [datetime.date(2024, 1, 1), datetime.date(2024, 1, 2)]


def test_a_changed_file_is_refused(tmp_path):
    models = fastnn.fit_groups(table([10, 10]), **FIT, rng=0)
    from fastnn.files import groups_file, storage

    def refused(change):
        description, tensors = groups_file.written(models._contents)
        change(description["groups"], tensors)
        storage.write(tmp_path / "models.safetensors", description, tensors)
        with pytest.raises(ValueError, match="path must name a consistent model file"):
            fastnn.load(tmp_path / "models.safetensors")

    refused(lambda d, tensors: d.update(keys=[]))
    refused(lambda d, tensors: d["keys"][0].update(values=[1]))
    refused(lambda d, tensors: d["keys"][0].update(kind="V8"))
    refused(lambda d, tensors: d["keys"][0].update(values=[1, [2]]))
    refused(lambda d, tensors: d["keys"][0].update(values=[1, 1]))
    refused(lambda d, tensors: d.update(fallback="median"))
    refused(lambda d, tensors: d.update(features=["x0"]))
    refused(lambda d, tensors: tensors["groups.status"].fill(8))
    refused(lambda d, tensors: tensors["groups.input_stds"].fill(-1))
    refused(lambda d, tensors: tensors.pop("groups.loss"))
    refused(lambda d, tensors: tensors.update({"groups.more": np.zeros(2)}))


def test_patience_a_held_out_share_and_a_limit_of_time(monkeypatch):
    frame = table([60, 40, 50])
    models = fastnn.fit_groups(
        frame, **{**FIT, "epochs": 200}, validation_fraction=0.25, stopping=Patience(2), optimizer=Adam(0.1), rng=0
    )
    assert (models.epochs < 200).all()
    monkeypatch.setattr("fastnn.training.group_rows.CHUNK", 1)  # each group by itself
    short = fastnn.fit_groups(frame, **{**FIT, "epochs": 10**6}, max_time=1e-9, rng=0)
    assert short.epochs.tolist() == [1, 1, 1]
    none = fastnn.fit_groups(frame, **{**FIT, "epochs": 0}, rng=3)
    assert np.isnan(none.loss).all()
    np.testing.assert_array_equal(
        none.population.vectors, Population([3, fastnn.Dense(4, "tanh"), 1], 3, output="identity", rng=3).vectors
    )


WRONG = [
    ({"by": "shop"}, "by must name columns of frame, .*, got 'shop'"),
    ({"by": []}, "by must be a label or a list of different labels"),
    ({"target": "key"}, "by, target and features must name different columns, got 'key' twice"),
    ({"features": ["x0", "y"]}, "got 'y' twice"),
    ({"features": "x0"}, "features must be a list of labels, got 'x0'"),
    ({"features": ["x9"]}, "features must name columns of frame"),
    ({"target": "text"}, "column 'text' of frame must hold numbers"),
    ({"epochs": 1.5}, "epochs must be an integer, got 1.5"),
    ({"batch_size": np.array([1, 2])}, "batch_size must be the same for all groups"),
    ({"optimizer": Adam(np.array([0.1, 0.2]))}, "optimizer must be the same for all groups"),
    ({"optimizer": Adam(CosineDecay(np.array([0.1, 0.2]), 5))}, "optimizer must be the same for all groups"),
    ({"optimizer": ["adam", "sgd"]}, "optimizer must be the same for all groups"),
    ({"stopping": Halving()}, "stopping must be a Patience or None"),
    ({"dropout": [CosineDecay(np.array([0.1, 0.2]), 3)]}, "dropout must be the same for all groups"),
    ({"rows": None}, "unexpected keyword argument 'rows'"),
    ({"l2": -1}, "l2 must be a finite number at least 0, got -1"),
    ({"min_rows": 1}, "min_rows must be at least 2, got 1"),
    ({"fallback": "median"}, "fallback must be one of 'mean', got 'median'"),
    ({"rng": [1, 2]}, "rng must be an integer"),
    ({"max_time": 0}, "max_time must be a finite number above 0"),
    ({"progress": "yes"}, "progress must be True, False or None"),
    ({"layers": 8}, "layers must be a sequence of layers, got 8"),
    (
        {"layers": [fastnn.Embedding([0], [5]), 8]},
        "layers must hold no Embedding, because all columns are standardised",
    ),
    ({"loss": "cross_entropy"}, "loss"),
    ({"loss": "gaussian"}, "loss must have one output for each target, got 'gaussian'"),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_wrong_arguments(options, message):
    frame = {**table([5, 5]), "text": np.array(["a"] * 10)}
    with pytest.raises((ValueError, TypeError), match=message):
        fastnn.fit_groups(frame, **{**FIT, **options})


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (
            np.zeros((4, 3)),
            "frame must be a frame of pandas or polars, a pyarrow table, or a dict of arrays, got array",
        ),
        ({"key": [], "x": [], "y": []}, "frame must have at least one row"),
        ({"key": [1, 2], "x": [1, 2, 3], "y": [1, 2]}, "frame must have columns of one length"),
        (
            {"key": np.array([1, None], object), "x": [1, 2], "y": [1, 2]},
            "no missing key, got one in column 'key', row 1",
        ),
        ({"key": [1.0, np.nan], "x": [1, 2], "y": [1, 2]}, "no missing key, got one in column 'key', row 1"),
        ({"key": [1, 2], "y": [1, 2]}, "frame must have a column of numbers beside"),
        ({"key": [1, 1], "x": [1, 2], "y": [np.nan, np.nan]}, "target must hold a finite number, got none"),
        ({"key": [1, 1], "x": np.ones((2, 2)), "y": [1, 2]}, "column 'x' of frame must have one axis"),
    ],
)
def test_wrong_frames(frame, message):
    with pytest.raises((ValueError, TypeError), match=message):
        fastnn.fit_groups(frame, **FIT)


def test_missing_keys_of_frames():
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    for made in (
        pandas.DataFrame({"key": ["a", None], "x": [1, 2], "y": [1, 2]}),
        polars.DataFrame({"key": ["a", None], "x": [1, 2], "y": [1, 2]}),
        polars.DataFrame({"key": [1, None], "x": [1, 2], "y": [1, 2]}),
    ):
        with pytest.raises(ValueError, match="frame must have no missing key, got one in column 'key', row 1"):
            fastnn.fit_groups(made, **FIT)
    lazy = polars.LazyFrame({"key": [1]})
    with pytest.raises(TypeError, match=r"its collect\(\) is one"):
        fastnn.fit_groups(lazy, **FIT)


def test_keys_of_different_types_and_groups_as_objects():
    frame = table([10, 11, 12])
    mixed = np.empty(33, object)
    for i, key in enumerate(frame["key"].tolist()):
        mixed[i] = (1, "a", (2, 3))[key]
    models = fastnn.fit_groups({**frame, "key": mixed}, **FIT, rng=0)
    assert list(models) == list(dict.fromkeys(mixed))  # they have no order
    assert models["a"].n_rows == 11
    assert repr(models[(2, 3)]) == "GroupModel of (2, 3): trained, 12 rows"
    assert models == models
    assert models != fastnn.fit_groups({**frame, "key": mixed}, **FIT, rng=0)
    assert models.population.seeds == [0, 1, 2]
    assert [key for key, model in models.items() if model.n_rows > 10] == [k for k in models if k != 1]
    with pytest.raises(TypeError, match="keys must be numbers, strings or dates to be saved"):
        models.save("models.safetensors")
    unhashable = np.empty(33, object)
    unhashable[:] = [[1]] * 33
    with pytest.raises(TypeError, match="keys must be numbers, strings, dates or other values that a dict takes"):
        fastnn.fit_groups({**frame, "key": unhashable}, **FIT)


@pytest.mark.parametrize("loss", ["huber", "absolute_error", fastnn.Quantile(0.9)])
def test_other_losses_and_layers(loss):
    frame = table([20, 12])
    models = fastnn.fit_groups(
        frame, **{**FIT, "layers": [fastnn.LayerNorm(), 4]}, loss=loss, rng=0, progress=True, dropout=0.1
    )
    assert models.errors == {}
    whole = {**FIT, "layers": [], "epochs": 500, "batch_size": 99, "optimizer": fastnn.SGD(0.1)}
    flat = fastnn.fit_groups(frame, **whole, features=["x1"], rng=0)
    for key in (0, 1):  # without a hidden layer it is a line by least squares
        some = frame["key"] == key
        line = np.polyfit(frame["x1"][some], frame["y"][some], 1)
        np.testing.assert_allclose(flat.predict(frame)[some], np.polyval(line, frame["x1"][some]), rtol=1e-4)


def test_wrong_predictions():
    frame = table([8, 8])
    models = fastnn.fit_groups(frame, **FIT, rng=0)
    with pytest.raises(ValueError, match="must name columns of frame"):
        models.predict({"key": frame["key"]})
    with pytest.raises(ValueError, match=r"X must have shape \(rows, 3\), got \(2,\)"):
        models[0].predict([1, 2])
    with pytest.raises(ValueError, match="unseen must be one of 'raise', 'fallback', got 'nan'"):
        models.predict(frame, unseen="nan")
    with pytest.raises(TypeError, match=r"GroupModels are made by fastnn.fit_groups"):
        fastnn.GroupModels()
    missing = {**frame, "x0": np.where(np.arange(16) == 3, np.nan, frame["x0"])}
    assert np.flatnonzero(np.isnan(models.predict(missing))).tolist() == [3]


@pytest.mark.slow
def test_a_hundred_thousand_groups():
    frame = table([5] * 100_000, n_in=2)
    models = fastnn.fit_groups(frame, **{**FIT, "layers": [2]}, dtype="float64", rng=0)
    found = models.predict(frame)
    for key in (0, 1, 50_000, 99_999):
        some = np.flatnonzero(frame["key"] == key)
        np.testing.assert_allclose(models[key].predict(inputs_of(frame, some)), found[some])
    assert len(models) == 100_000
