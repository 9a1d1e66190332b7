"""What goes in: every kind of array is understood or refused with a message, and a refused call changes nothing."""

import copy
import datetime
import decimal
import inspect
import pickle
import re
import sys
import types

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse

import fastnn
from fastnn import SGD, Dense, Model
from fastnn.checks import other_names
from fastnn.data import arrays
from fastnn.kernels.formulas import loss_functions
from fastnn.kernels.formulas.activations import ACTIVATIONS
from fastnn.reports import metrics
from fastnn.settings import initialisers, layers, optimizers

DTYPES = ["float32", "float64"]
FIT_ONCE = {"epochs": 1, "batch_size": 7}
N, WIDTH = 30, 5
INTEGERS = np.random.default_rng(0).integers(0, 100, (N, WIDTH))
LABELS = np.random.default_rng(1).integers(0, 3, N)
NUMBERS = np.random.default_rng(2).integers(-8, 8, (N, 3)).astype(float)


def unaligned(a):
    raw = np.frombuffer(b"x" + a.tobytes(), np.uint8)[1:]
    result = raw.view(a.dtype).reshape(a.shape)
    assert not result.flags.aligned
    return result


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def strided(a):
    result = np.zeros((2 * len(a), 3 * a.shape[1]), a.dtype)
    result[::2, ::3] = a
    return result[::2, ::3]


# Each makes something that holds the same numbers as a float array (n, WIDTH) of small non-negative integers.
LAYOUTS = {
    "plain": lambda a: a,
    "read-only": read_only,
    "Fortran": np.asfortranarray,
    "read-only Fortran": lambda a: read_only(np.asfortranarray(a)),
    "strided": strided,
    "negative strides": lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
    "unaligned": unaligned,
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "float16": lambda a: a.astype(np.float16),
    "float32": lambda a: a.astype(np.float32),
    "float64": lambda a: a.astype(np.float64),
    "longdouble": lambda a: a.astype(np.longdouble),
    "int8": lambda a: a.astype(np.int8),
    "int64": lambda a: a.astype(np.int64),
    "uint64": lambda a: a.astype(np.uint64),
    "big-endian ints": lambda a: a.astype(">i4"),
    "uint8": lambda a: a.astype(np.uint8),
    "read-only uint8": lambda a: read_only(a.astype(np.uint8)),
    "Fortran uint8": lambda a: np.asfortranarray(a.astype(np.uint8)),
    "objects": lambda a: a.astype(object),
    "list": lambda a: a.tolist(),
    "subclass": lambda a: a.view(type("Subclass", (np.ndarray,), {})),
    "pandas": pd.DataFrame,
    "pandas of two types": lambda a: pd.DataFrame(a).astype({0: "int64", 1: "float32"}),
    "pandas nullable": lambda a: pd.DataFrame(a).astype("Int64"),
    "polars": pl.DataFrame,
    "polars of two types": lambda a: pl.DataFrame(a).with_columns(pl.col("column_0").cast(pl.Int16)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_kind_of_x_is_the_same_numbers(layout, dtype):
    plain = INTEGERS.astype(dtype)
    X = LAYOUTS[layout](plain)
    model, twin = (Model([WIDTH, 18, 3], dtype=dtype, input_scale=0.01, rng=0) for _ in range(2))
    np.testing.assert_array_equal(model.predict(X), twin.predict(plain))
    assert model.evaluate(X, LABELS) == twin.evaluate(plain, LABELS)
    for g, e in zip(model.gradients(X, LABELS), twin.gradients(plain, LABELS), strict=True):
        np.testing.assert_array_equal(g[0], e[0])
    model.fit(X, LABELS, epochs=2, batch_size=7, validation_data=(X, LABELS))
    twin.fit(plain, LABELS, epochs=2, batch_size=7, validation_data=(plain, LABELS))
    assert model.parameters.tobytes() == twin.parameters.tobytes()
    assert model.history.val_loss == twin.history.val_loss


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stored", ["float32", "float64", "uint8", ">f4"])
def test_a_read_only_memmap(dtype, stored, tmp_path):
    INTEGERS.astype(stored).tofile(tmp_path / "x")
    X = np.memmap(tmp_path / "x", stored, "r", shape=(N, WIDTH))
    model, twin = (Model([WIDTH, 18, 3], dtype=dtype, rng=0) for _ in range(2))
    np.testing.assert_array_equal(model.predict(X), twin.predict(INTEGERS.astype(dtype)))
    model.fit(X, LABELS, epochs=2, batch_size=7)
    twin.fit(INTEGERS.astype(dtype), LABELS, epochs=2, batch_size=7)
    assert model.parameters.tobytes() == twin.parameters.tobytes()


def test_bools():
    X = INTEGERS > 50
    model = Model([WIDTH, 3], rng=0)
    for given in (X, np.asfortranarray(X), X.tolist(), pd.DataFrame(X)):
        np.testing.assert_array_equal(model.predict(given), model.predict(X.astype(np.float32)))


COLUMNS = {
    "list": lambda y: y.tolist(),
    "read-only": read_only,
    "negative stride": lambda y: y[::-1].copy()[::-1],
    "stride": lambda y: np.repeat(y, 2)[::2],
    "uint8": lambda y: y.astype(np.uint8),
    "uint64": lambda y: y.astype(np.uint64),
    "big-endian": lambda y: y.astype(">i2"),
    "column": lambda y: y[:, None],
    "pandas": pd.Series,
    "pandas column": lambda y: pd.DataFrame({"y": y}),
    "polars": pl.Series,
}


@pytest.mark.parametrize("column", COLUMNS)
def test_every_kind_of_class_index(column):
    model, twin = (Model([WIDTH, 3], rng=0) for _ in range(2))
    y = COLUMNS[column](LABELS)
    assert model.evaluate(INTEGERS, y) == twin.evaluate(INTEGERS, LABELS)
    model.fit(INTEGERS, y, epochs=2, batch_size=7)
    twin.fit(INTEGERS, LABELS, epochs=2, batch_size=7)
    assert model.parameters.tobytes() == twin.parameters.tobytes()


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if not re.search("uint|nullable", name)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_kind_of_numeric_target(layout, dtype):
    model, twin = (Model([WIDTH, 3], dtype=dtype, input_scale=0.01, output="identity", rng=0) for _ in range(2))
    y = LAYOUTS[layout](NUMBERS)
    assert model.evaluate(INTEGERS, y) == twin.evaluate(INTEGERS, NUMBERS)
    model.fit(INTEGERS, y, epochs=2, batch_size=7)
    twin.fit(INTEGERS, NUMBERS, epochs=2, batch_size=7)
    assert model.parameters.tobytes() == twin.parameters.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_callers_arrays_are_not_written_to(dtype):
    X, Y = INTEGERS.astype(dtype), NUMBERS.astype(dtype)
    labels = LABELS.astype(np.int32)
    kept = [a.tobytes() for a in (X, Y, labels)]
    model = Model([WIDTH, 9, 3], output="identity", dtype=dtype, input_scale=0.01, rng=0)
    for y in (Y, labels):
        model.fit(X, y, epochs=2, batch_size=7, validation_data=(X, y))
        model.evaluate(X, y)
        model.gradients(X, y)
    model.predict(X)
    assert [a.tobytes() for a in (X, Y, labels)] == kept


# ---- no copies ----


@pytest.mark.parametrize("dtype", [*DTYPES, "uint8"])
@pytest.mark.parametrize("layout", ["plain", "read-only", "memmap", "rows", "pandas"])
def test_x_that_fits_is_not_copied(layout, dtype, tmp_path):
    X = INTEGERS.astype(dtype)
    if layout == "read-only":
        X = read_only(X)
    elif layout == "memmap":
        X.tofile(tmp_path / "x")
        X = np.memmap(tmp_path / "x", dtype, "r", shape=X.shape)
    elif layout == "rows":
        X = X[3:20]
    given = pd.DataFrame(X, copy=False) if layout == "pandas" else X
    used = arrays.inputs(given, WIDTH, dtype if dtype != "uint8" else "float32")
    assert np.shares_memory(used, X)
    assert used.flags.c_contiguous
    assert used.dtype == dtype
    np.testing.assert_array_equal(used, X)


def test_bools_are_not_copied():
    X = INTEGERS > 50
    used = arrays.inputs(X, WIDTH, "float32")
    assert np.shares_memory(used, X)
    assert used.dtype == np.uint8


@pytest.mark.parametrize("layout", [*LAYOUTS])
@pytest.mark.parametrize("dtype", DTYPES)
def test_kernels_get_aligned_rows_of_the_right_type(layout, dtype):
    used = arrays.inputs(LAYOUTS[layout](INTEGERS.astype(dtype)), WIDTH, dtype)
    assert type(used) is np.ndarray
    assert used.flags.c_contiguous
    assert used.flags.aligned
    assert used.dtype in (np.dtype(dtype), np.dtype(np.uint8))
    assert used.dtype.isnative
    np.testing.assert_array_equal(used, INTEGERS)


@pytest.mark.parametrize("wrap", [np.asarray, read_only])
def test_targets_that_fit_are_not_copied_but_labels_are(wrap):
    """Labels become addresses, so what was checked is what is used."""
    labels, values = wrap(LABELS.astype(np.int32)), wrap(NUMBERS.astype(np.float32))
    assert not np.shares_memory(arrays.targets(labels, N, 3, "float32", binary=False).array, labels)
    assert np.shares_memory(arrays.targets(values, N, 3, "float32", binary=False).array, values)


# ---- errors ----


def replaced(place, value, dtype=float):
    X = INTEGERS.astype(dtype)
    X[place] = value
    return X


BAD_X = {
    "too wide": (np.ones((N, 6)), ValueError, r"X must have shape \(n, 5\), got \(30, 6\)"),
    "one sample": (np.ones(5), ValueError, r"X must have shape \(n, 5\), got \(5,\); X\[None\] is a single row$"),
    "no sample": (np.ones(6), ValueError, r"X must have shape \(n, 5\), got \(6,\)$"),
    "three axes": (np.ones((N, 5, 1)), ValueError, r"got \(30, 5, 1\); X.reshape\(30, 5\) has it$"),
    "a number": (3, ValueError, r"X must have shape \(n, 5\), got \(\)"),
    "no samples": (np.ones((0, 5)), ValueError, r"X must hold at least one sample, got shape \(0, 5\)"),
    "strings": ([["a"] * 5] * N, TypeError, r"X must hold numbers, .* <U1 with X\[0, 0\] = 'a'; encode text"),
    "objects": ([[{}] * 5] * N, TypeError, r"X must hold numbers, got an array of dtype object with X\[0, 0\] = {}$"),
    "complex": (np.ones((N, 5), complex), TypeError, r"X must hold numbers, got an array of dtype complex128"),
    "dates": (np.zeros((N, 5), "M8[s]"), TypeError, r"X must hold numbers, got an array of dtype datetime64\[s\]"),
    "ragged": ([[1, 2, 3, 4, 5], [1]], ValueError, r"X must be a rectangular array of numbers, got \[\[1, 2"),
}
NOT_FINITE_X = {
    "NaN": (replaced((7, 2), np.nan), ValueError, r"X must be finite in float32, got X\[7, 2\] = nan"),
    "inf": (replaced((29, 4), np.inf), ValueError, r"X must be finite in float32, got X\[29, 4\] = inf"),
    "-inf": (replaced((0, 0), -np.inf), ValueError, r"X must be finite in float32, got X\[0, 0\] = -inf"),
    "too large": (replaced((7, 2), 1e300), ValueError, r"X must be finite in float32, got X\[7, 2\] = 1e\+300"),
    "missing": (
        [[1, 2, 3, 4, None]] * N,
        ValueError,
        r"X must be finite .*, got X\[0, 4\] = None; fill in missing",
    ),
    "NaN object": (replaced((7, 2), np.nan, object), ValueError, r"X must be finite in float32, got X\[7, 2\] = nan"),
    "Fortran": (np.asfortranarray(replaced((7, 2), np.nan)), ValueError, r"got X\[7, 2\] = nan"),
    "pandas": (pd.DataFrame(replaced((7, 2), np.nan)), ValueError, r"got X\[7, 2\] = nan"),
}
BAD_Y = {
    "too short": (LABELS[:-1], ValueError, r"y must have shape \(30,\) for class indices or \(30, 3\), got \(29,\)"),
    "too wide": (np.ones((N, 4)), ValueError, r"y must have shape \(30,\) .* or \(30, 3\), got \(30, 4\)"),
    "a number": (1, ValueError, r"y must have shape .*, got \(\)"),
    "three axes": (np.ones((N, 3, 1)), ValueError, r"y must have shape .*, got \(30, 3, 1\)"),
    "float classes": (
        LABELS.astype(float),
        ValueError,
        r"y of shape \(30,\) must hold integer class indices .* float64",
    ),
    "negative": (np.where(np.arange(N) == 4, -1, LABELS), ValueError, r"class indices in \[0, 3\), got y\[4\] = -1"),
    "too large": (np.where(np.arange(N) == 4, 3, LABELS), ValueError, r"class indices in \[0, 3\), got y\[4\] = 3"),
    "2**32": (np.where(np.arange(N) == 4, 2**32, LABELS), ValueError, r"got y\[4\] = 4294967296"),
    "strings": (np.full(N, "cat"), TypeError, r"y must .* <U3 with y\[0\] = 'cat'; integer codes .*MLPClassifier"),
    "NaN": (
        np.where(np.arange(3) == 1, np.nan, NUMBERS),
        ValueError,
        r"y must be finite in float32, got y\[0, 1\] = nan",
    ),
    "inf": (np.where(np.arange(3) == 1, np.inf, NUMBERS), ValueError, r"y must be finite .* = inf"),
    "too big": (NUMBERS * 1e300, ValueError, r"y must be finite in float32, got y\["),
    "ragged": ([[1, 2, 3], [1]], ValueError, r"y must be a rectangular array of numbers"),
    "None": (None, ValueError, r"y must have shape .*, got \(\)"),
    "missing": ([[1, 2, None]] * N, ValueError, r"y must be finite in float32, got y\[0, 2\] = None"),
}


DAY = datetime.date(2020, 1, 1)
ENCODE, FILL, DAYS = "encode text as numbers", "fill in missing values", "make numbers of dates"
# Of a column "b" of a frame, whose column "a" holds numbers: what is wrong in row 2.
BAD_COLUMNS = {
    "pandas.NA": (lambda: pd.array([1, 2, None], "Int64"), "= <NA>", FILL),
    "pandas.NA of booleans": (lambda: pd.array([True, False, None], "boolean"), "= <NA>", FILL),
    "None": (lambda: np.array([1, 2, None], object), "= None", FILL),
    "NaN": (lambda: [1, 2, np.nan], "= nan", FILL),
    "text": (lambda: np.array([1, 2, "red"], object), "= 'red'", ENCODE),
    "text of digits": (lambda: np.array([1, 2, "3"], object), "= '3'", ENCODE),
    "a date": (lambda: np.array([1, 2, DAY], object), r"= datetime.date\(2020, 1, 1\)", DAYS),
    "datetime64": (lambda: np.array([1, 2, np.datetime64(DAY)], object), "= 2020-01-01", DAYS),
    "timedelta64": (lambda: np.array([1, 2, np.timedelta64(3, "s")], object), "= 3 seconds", DAYS),
    "complex": (lambda: np.array([1, 2, 3j], object), "= 3j", ""),
    "a list": (lambda: np.array([1, 2, [3]], object), r"= \[3\]", ""),
    "huge": (lambda: np.array([1, 2, 10**400], object), "= 1000", ""),
    "polars' null": (lambda: pl.Series([1, 2, None]), "= nan", FILL),
    "polars' null of booleans": (lambda: pl.Series([True, True, None]), "= nan", FILL),
}
# The same, wrong from row 0 on.
BAD_COLUMNS_FROM_THE_START = {
    "categories": (lambda: pd.Categorical(["1", "2", "1"]), "= '1'", ENCODE),
    "timestamps": (lambda: pd.to_datetime([DAY] * 3), "= Timestamp", DAYS),
    "durations": (lambda: pd.to_timedelta([1, 2, 3]), "= Timedelta", DAYS),
    "polars' text": (lambda: pl.Series(["1", "2", "3"]), "= '1'", ENCODE),
    "polars' categories": (lambda: pl.Series(["1", "2", "3"], dtype=pl.Categorical), "= '1'", ENCODE),
}


@pytest.mark.parametrize("case", [*BAD_COLUMNS, *BAD_COLUMNS_FROM_THE_START])
def test_what_is_wrong_in_a_frame(case):
    values, shown, advice = (BAD_COLUMNS | BAD_COLUMNS_FROM_THE_START)[case]
    frame = (pl if "polars" in case else pd).DataFrame({"a": [1.0, 2.0, 3.0], "b": values()})
    cell = rf"X\[{2 if case in BAD_COLUMNS else 0}, 1\] {shown}.* in column 'b'.*{advice}"
    model = Model([2, 1], output="identity", rng=0)
    for call in (
        lambda: model.fit(frame, [1.0, 2.0, 3.0], epochs=1, batch_size=3),
        lambda: model.partial_fit(frame, [1.0, 2.0, 3.0]),
        lambda: model.evaluate(frame, [1.0, 2.0, 3.0]),
    ):
        with pytest.raises((TypeError, ValueError), match=cell):
            call()
    with pytest.raises((TypeError, ValueError), match=cell.replace("X\\[", r"validation_data\[0\]\[")):
        model.fit(np.ones((3, 2)), np.ones(3), epochs=1, batch_size=3, validation_data=(frame, np.ones(3)))
    assert model.feature_names is None
    if advice == FILL:  # NaN in, NaN out
        np.testing.assert_array_equal(np.isnan(model.predict(frame)[:, 0]), [False, False, True])
    else:
        with pytest.raises(TypeError, match=cell):
            model.predict(frame)


@pytest.mark.parametrize("value", [datetime.date(2020, 1, 1), datetime.datetime(2020, 1, 1), datetime.timedelta(1)])
@pytest.mark.parametrize("alone", [False, True])
def test_dates_of_pyarrow(value, alone):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed: it is in the extra parquet")
    columns = {"day": [value] * 3} if alone else {"a": [1.0, 2.0, 3.0], "day": [value] * 3}
    told = r"X must hold numbers, got (date|timestamp|duration).* in column 'day'; make numbers of dates"
    with pytest.raises(TypeError, match=told):
        Model([len(columns), 1]).predict(pyarrow.table(columns))


def test_a_column_that_its_library_cannot_convert():
    frame = pl.DataFrame({"a": pl.Series([1, 2], dtype=pl.Int128)})
    with pytest.raises(ValueError, match=r"^X must be a rectangular array of numbers, got "):
        Model([1, 1]).predict(frame)


@pytest.mark.parametrize(
    ("value", "kind"),
    [({"a": [1.0]}, "dict"), (pl.LazyFrame({"a": [1.0]}), "LazyFrame"), (object(), "object")],
)
def test_what_is_no_array_at_all(value, kind):
    with pytest.raises(TypeError, match=f"^X must hold numbers, got a {kind}$"):
        Model([1, 1]).predict(value)


def test_dates_of_polars_beside_numbers():
    """NumPy makes days of them."""
    for values in ([DAY] * 3, [datetime.timedelta(1)] * 3, [datetime.time(1)] * 3):
        with pytest.raises(TypeError, match=r"X must hold numbers, got .* in column 'b'; make numbers of dates"):
            Model([2, 1]).predict(pl.DataFrame({"a": [1.0, 2.0, 3.0], "b": values}))


def test_other_arrays_that_are_no_numbers():
    masked = np.ma.masked_array(np.ones((3, 2)), [[0, 0], [0, 1], [0, 0]])
    model = Model([2, 3], rng=0)
    for call, message in [
        (lambda: model.predict(masked), r"X must hold no masked value, got X\[1, 1\]; X.filled\(..\)"),
        (lambda: model.evaluate(np.ones((3, 2)), masked[:, 1] > 0), r"y must hold no masked value, got y\[1\]"),
        (lambda: model.predict(np.zeros(3, [("a", "f4"), ("b", "f4")])), "structured_to_unstructured"),
        (lambda: model.predict(np.ones((3, 2), complex)), r"complex128 with X\[0, 0\] = \(1\+0j\)$"),
        (lambda: model.evaluate(np.ones((3, 2)), pd.Series(["a", "b", "a"])), r"y\[0\] = 'a'; integer codes"),
        (lambda: model.evaluate(np.ones((2, 2)), pd.Series([1, None])), r"y must be finite .* y\[1\] = nan"),
    ]:
        with pytest.raises((TypeError, ValueError), match=message):
            call()
    plain = np.arange(6.0).reshape(3, 2)
    for same in (
        np.ma.masked_array(plain),
        np.array([[decimal.Decimal(int(x)) for x in row] for row in plain]),
    ):
        np.testing.assert_array_equal(model.predict(same), model.predict(plain))


# ---- the names of columns ----

NAMED = pd.DataFrame(INTEGERS, columns=list("abcde"))


def first_fit(model, how, X=NAMED):
    if how == "fit":
        model.fit(X, LABELS, **FIT_ONCE)
    elif how == "partial_fit":
        model.partial_fit(X, LABELS)
    else:
        model.partial_fit(X, LABELS, sample_weight=np.ones(N))


@pytest.mark.parametrize("how", ["fit", "partial_fit", "weighted partial_fit"])
@pytest.mark.parametrize("polars", [False, True])
def test_a_frame_has_the_columns_of_the_first_one(how, polars, tmp_path):
    of = (lambda frame: pl.DataFrame(frame.to_dict("list"))) if polars else (lambda frame: frame)
    model = Model([WIDTH, 3], input_scale=0.01, rng=0)
    assert model.feature_names is None
    first_fit(model, how, NAMED.to_numpy())
    assert model.feature_names is None
    first_fit(model, how, of(NAMED))
    assert model.feature_names == tuple("abcde")
    model.save(tmp_path / "m.safetensors")
    for each in (model, pickle.loads(pickle.dumps(model)), copy.copy(model), fastnn.load(tmp_path / "m.safetensors")):
        assert each.feature_names == tuple("abcde")
        for X, message in [
            (NAMED[list("bacde")], r"trained first, in their order, .*, got 'b' where 'a' was, column 0; an array"),
            (NAMED.rename(columns={"c": "x", "e": "y"}), "got no 'c', 'e' and also 'x', 'y'; an array"),
            (NAMED[list("abcd")], "got no 'e'; an array"),
            (NAMED.assign(f=1), "got also 'f'; an array"),
        ]:
            check_refused(each, of(X), message)
        check_refused(each, NAMED[list("abcdee")], "got 6 columns, some of one name; an array")
        for X in (of(NAMED), NAMED.to_numpy(), NAMED.to_numpy().tolist(), NAMED.set_axis(range(WIDTH), axis=1)):
            np.testing.assert_array_equal(each.predict(X), each.predict(NAMED.to_numpy()))


def check_refused(model, X, message):
    before = model.parameters.copy()
    for call in (
        lambda: model.fit(X, LABELS, **FIT_ONCE),
        lambda: model.partial_fit(X, LABELS),
        lambda: model.partial_fit(X, LABELS, sample_weight=np.ones(N)),
        lambda: model.predict(X),
        lambda: model.classify(X),
        lambda: model.evaluate(X, LABELS),
        lambda: model.loss(X, LABELS),
        lambda: model.gradients(X, LABELS),
        lambda: model.hidden_activations(X),
        lambda: model.input_gradients(X),
        lambda: fastnn.find_learning_rate(model, X, LABELS, batch_size=5),
        lambda: model.fit(INTEGERS, LABELS, **FIT_ONCE, validation_data=(X, LABELS)),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    np.testing.assert_array_equal(model.parameters, before)


def test_a_table_of_pyarrow():
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed: it is in the extra parquet")
    model = Model([WIDTH, 3], input_scale=0.01, rng=0)
    model.partial_fit(pyarrow.table(NAMED), LABELS)
    assert model.feature_names == tuple("abcde")
    np.testing.assert_array_equal(model.predict(pyarrow.table(NAMED)), model.predict(INTEGERS))
    check_refused(model, pyarrow.table(NAMED[list("bacde")]), "'b' where 'a' was, column 0")
    holed = NAMED.astype(float)
    holed.loc[2, "b"] = np.nan
    with pytest.raises(ValueError, match=r"X\[2, 1\] = nan in column 'b'"):
        model.loss(pyarrow.table(holed), LABELS)


def test_names_before_there_are_any():
    model, X = Model([WIDTH, 3], rng=0), NAMED[list("bacde")]
    with pytest.raises(ValueError, match=r"validation_data\[0\] must have the columns .* 'b' where 'a' was"):
        model.fit(NAMED, LABELS, **FIT_ONCE, validation_data=(X, LABELS))
    with pytest.raises(ValueError, match="class indices"):
        model.partial_fit(NAMED, LABELS + 9)
    assert model.feature_names is None
    model.predict(X)
    with pytest.raises(ValueError, match=r"got \(30, 6\) of the columns \['a', 'b'"):
        model.predict(NAMED.assign(f=1))
    model.fit(NAMED.set_axis([0, "b", "c", "d", "e"], axis=1), LABELS, **FIT_ONCE)
    assert model.feature_names is None


# ---- np.seterr(all="raise") ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["dense", "sparse", "stream"])
def test_numbers_that_vanish_are_no_errors(kind, dtype):
    """Whatever NumPy is told to do where a result is too small or too large for its type."""
    random = np.random.default_rng(0)
    X, weights = random.normal(size=(40, 4)), random.uniform(0.5, 1, 40)
    X[3, 1], X[4], X[5, 0], weights[1], weights[2] = 1e-62, 1e-45, 1e-310, 1e-62, 0
    y, t = (X[:, 0] > 0).astype(int), np.where(np.arange(40) % 7 == 1, 1e-62, X[:, 2])
    given = scipy.sparse.csr_array(X) if kind == "sparse" else X
    classes = {"output": "softmax", "loss": "cross_entropy"}
    options = {"epochs": 3, "batch_size": 8, "validation_data": (given, y, weights)}
    with np.errstate(all="raise"):
        model = Model([4, 5, 2], dtype=dtype, rng=0, **classes)
        if kind == "stream":
            data, more = (fastnn.Stream.from_arrays(X, y, weights),), {}
        else:
            data, more = (given, y), {"sample_weight": weights}
        metric = ["accuracy", "log_loss"]
        history = model.fit(*data, **options, **more, metric=metric, class_weight={0: 1e-300})
        found = model.evaluate(given, y, sample_weight=weights, metric=metric)
        model.partial_fit(given, y, sample_weight=weights)
        outputs = model.predict(given)
    twin = Model([4, 5, 2], dtype=dtype, rng=0, **classes)
    with np.errstate(all="ignore"):
        twin.fit(*data, **options, **more, metric=metric, class_weight={0: 1e-300})
        twin.partial_fit(given, y, sample_weight=weights)
    np.testing.assert_array_equal(outputs, twin.predict(given))
    assert history.val_loss[-1] == found["loss"]
    with np.errstate(all="raise"):
        for optimizer in (
            "adam",
            "rprop",
            fastnn.LBFGS(),
            fastnn.LevenbergMarquardt(),
            SGD(fastnn.ExponentialDecay(0.1, 1e-9)),
        ):
            options = {"epochs": 60, "batch_size": 40, "l2": 1e-60, "optimizer": optimizer}
            regressor = Model([4, 5, 1], output="identity", dtype=dtype, rng=0)
            regressor.fit(X, t, **options, validation_data=(X, t, weights), metric=["r2", "mae", "rmse"])
            assert np.isfinite(regressor.history.val_loss).all()
        init = [(np.full((1, 4), 1e-62), [1e-320])]
        tiny = Model([4, 1], init=init, input_scale=1e-62, loss=fastnn.Huber(1e-30), dtype=dtype)
    np.testing.assert_array_equal(tiny.weights[0], np.full((1, 4), 1e-62, dtype))


@pytest.fixture
def unchanged(state):
    """A trained model; afterwards checks that no failed call has changed it."""
    model = Model([WIDTH, 9, 3], input_scale=0.01, rng=0)
    model.freeze(0)
    model.fit(INTEGERS, LABELS, epochs=1, batch_size=7)
    before = state(model)
    yield model
    assert state(model) == before
    assert model.history is before[2]
    twin = Model([WIDTH, 9, 3], input_scale=0.01, rng=0)
    twin.freeze(0)
    twin.fit(INTEGERS, LABELS, epochs=1, batch_size=7)
    for each in (model, twin):
        each.fit(INTEGERS, LABELS, epochs=1, batch_size=7)
    assert model.parameters.tobytes() == twin.parameters.tobytes()


@pytest.mark.parametrize("case", [*BAD_X, *NOT_FINITE_X])
def test_unusable_x(case, unchanged):
    X, error, message = (BAD_X | NOT_FINITE_X)[case]
    calls = [
        lambda: unchanged.fit(X, LABELS, epochs=1, batch_size=1),
        lambda: unchanged.evaluate(X, LABELS),
        lambda: unchanged.loss(X, LABELS),
        lambda: unchanged.gradients(X, LABELS),
    ]
    if case in BAD_X:
        calls += [lambda: unchanged.predict(X), lambda: unchanged.classify(X)]
        calls += [lambda: unchanged.hidden_activations(X), lambda: unchanged.input_gradients(X)]
    for call in calls:
        with pytest.raises(error, match=message):
            call()
    with pytest.raises(error, match=re.escape("validation_data[0]")):
        unchanged.fit(INTEGERS, LABELS, epochs=1, batch_size=1, validation_data=(X, LABELS))


@pytest.mark.parametrize("case", BAD_Y)
def test_unusable_y(case, unchanged):
    y, error, message = BAD_Y[case]
    for call in (unchanged.evaluate, unchanged.loss, unchanged.gradients):
        with pytest.raises(error, match=message):
            call(INTEGERS, y)
    with pytest.raises(error, match=message):
        unchanged.fit(INTEGERS, y, epochs=1, batch_size=1)
    with pytest.raises(error, match=re.escape("validation_data[1]")):
        unchanged.fit(INTEGERS, LABELS, epochs=1, batch_size=1, validation_data=(INTEGERS, y))


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.ones((N, 2)), r"y must have shape \(30,\) or \(30, 1\), got \(30, 2\)"),
        (np.where(np.arange(N) == 4, np.nan, 1.0), r"y must be finite in float32, got y\[4\] = nan"),
    ],
)
def test_unusable_y_for_one_output(y, message):
    with pytest.raises(ValueError, match=message):
        Model([WIDTH, 1]).fit(INTEGERS, y, epochs=1, batch_size=1)


@pytest.mark.parametrize(
    ("rows", "columns"), [(3, 400_000), (400_000, 3), (1, 2**20 + 7)], ids=["wide", "long", "one row"]
)
def test_the_place_of_a_nan_in_a_large_array(rows, columns):
    X = np.zeros((rows, columns), np.float32)
    X[-1, -2] = np.nan
    with pytest.raises(ValueError, match=rf"got X\[{rows - 1}, {columns - 2}\] = nan"):
        arrays.inputs(X, columns, "float32")


def test_large_finite_numbers_are_finite():
    X = np.full((N, WIDTH), 3e38, np.float32)  # their sum is not
    X[::2] *= -1
    assert np.shares_memory(arrays.inputs(X, WIDTH, "float32"), X)
    arrays.targets(X, N, WIDTH, "float32", binary=False)


FIT = {
    "batch_size": [
        (0, ValueError, r"batch_size must be at least 1, got 0"),
        (-1, ValueError, r"batch_size must be at least 1, got -1"),
        (2.0, TypeError, r"batch_size must be an integer, got 2.0"),
        (True, TypeError, r"batch_size must be an integer, got True"),
        ("auto", TypeError, r"batch_size must be an integer, got 'auto'"),
        (None, TypeError, r"batch_size must be an integer, got None"),
    ],
    "epochs": [
        (-1, ValueError, r"epochs must be at least 0, got -1"),
        (1.5, TypeError, r"epochs must be an integer, got 1.5"),
        (False, TypeError, r"epochs must be an integer, got False"),
        (np.True_, TypeError, r"epochs must be an integer, got np.True_"),
    ],
    "optimizer": [
        ("adadelta", ValueError, r"optimizer must be one of 'sgd', 'momentum', 'adam', .*, got 'adadelta'"),
        (0.1, TypeError, r"optimizer must be an optimizer such as SGD\(0.1\).*, got 0.1"),
        (SGD, TypeError, r"optimizer must be an optimizer such as SGD\(0.1\).*, got <class"),
        (None, TypeError, r"optimizer must be an optimizer such as SGD\(0.1\).*, got None"),
    ],
    "validation_fraction": [
        (0, ValueError, r"validation_fraction must be a finite number above 0 and below 1, got 0"),
        (1.0, ValueError, r"validation_fraction must be .* below 1, got 1.0"),
        (-0.1, ValueError, r"validation_fraction must be .* got -0.1"),
        (np.nan, ValueError, r"validation_fraction must be a finite number .* got nan"),
        (0.01, ValueError, r"validation_fraction must leave a sample on both sides, got 0.01 of 30 samples"),
        (0.99, ValueError, r"validation_fraction must leave a sample on both sides, got 0.99 of 30 samples"),
        ("0.2", TypeError, r"validation_fraction must be a number, got '0.2'"),
        (True, TypeError, r"validation_fraction must be a number, got True"),
    ],
    "validation_data": [
        (INTEGERS, TypeError, r"validation_data must be a pair \(X, y\) or \(X, y, sample_weight\), got .*ndarray"),
        (
            (INTEGERS,),
            TypeError,
            r"must be a pair \(X, y\) or \(X, y, sample_weight\), got .*tuple of length 1",
        ),
        ((INTEGERS[:, 1:], LABELS), ValueError, r"validation_data\[0\] must have shape \(n, 5\), got \(30, 4\)"),
        ((INTEGERS, LABELS[1:]), ValueError, r"validation_data\[1\] must have shape \(30,\)"),
    ],
    "shuffle": [
        (np.arange(N), ValueError, r"shuffle must be .* shape \(2, 30\), got int64 of shape \(30,\)"),
        (np.zeros((2, 29), int), ValueError, r"shuffle must be .* shape \(2, 30\), got int64 of shape \(2, 29\)"),
        (np.zeros((3, 30), int), ValueError, r"shuffle must be .* shape \(2, 30\), got int64 of shape \(3, 30\)"),
        (np.zeros((2, 30)), ValueError, r"shuffle must be .* integer array .* got float64"),
        (np.zeros((2, 30), bool), ValueError, r"shuffle must be .* integer array .* got bool"),
        (np.full((2, 30), 30), ValueError, r"shuffle must hold sample indices in \[0, 30\), got 30 to 30"),
        (np.arange(-1, 59).reshape(2, 30), ValueError, r"shuffle must hold sample indices in \[0, 30\), got -1 to 58"),
        (np.full((2, 30), 2**32), ValueError, r"shuffle must hold sample indices .* got 4294967296"),
        (None, ValueError, r"shuffle must be True, False or an integer array"),
        ("yes", ValueError, r"shuffle must be True, False or an integer array"),
        (1, ValueError, r"shuffle must be True, False or an integer array"),
    ],
    "metric": [
        ("f1", ValueError, r"metric must be one of 'accuracy', 'r2', .*, got 'f1'"),
        ("top_0", ValueError, r"metric must be one of .*, got 'top_0'"),
        (5, TypeError, r"metric must be a name, a callable or a list of these, got 5"),
        (["accuracy", 5], ValueError, r"metric must be one of .*, got 5"),
        ([], ValueError, r"metric must hold one or more metrics of different names .*, got \[\]"),
        (["top_2", "top_2"], ValueError, r"metric must .* different names .*, got \['top_2', 'top_2'\]"),
        ("log_loss", ValueError, r"metric 'log_loss' needs the probabilities of a softmax, or of one output .*, got"),
    ],
    "train_metric": [(1, TypeError, r"train_metric must be True or False, got 1")],
    "history": [([1.0], TypeError, r"history must be a History or None, got \[1.0\]")],
    "verbose": [
        (2, ValueError, r"verbose must be at most 1, got 2"),
        ("yes", TypeError, r"verbose must be an integer, got 'yes'"),
    ],
    "callbacks": [
        ([3], TypeError, r"callbacks must be callables that take the model, got 3"),
        ("stop", TypeError, r"callbacks must be a sequence of callables, got 'stop'"),
        (memoryview(np.zeros((2, 2))), TypeError, r"callbacks must be a sequence of callables, got <memory"),
        (print, TypeError, r"callbacks must be a sequence of callables, got <built-in function print>"),
        (None, TypeError, r"callbacks must be a sequence of callables, got None"),
    ],
    "progress": [
        ("yes", TypeError, r"progress must be True, False or None, got 'yes'"),
        (1, TypeError, r"progress must be True, False or None, got 1"),
        (np.ones(2), TypeError, r"progress must be True, False or None, got array"),
    ],
    "threads": [
        (0, ValueError, r"threads must be at least 1, got 0"),
        (1.0, TypeError, r"threads must be an integer, got 1.0"),
        (True, TypeError, r"threads must be an integer, got True"),
    ],
}


@pytest.mark.parametrize(
    ("option", "value", "error", "message"),
    [pytest.param(option, *case, id=f"{option}-{i}") for option, cases in FIT.items() for i, case in enumerate(cases)],
)
def test_unusable_options_of_fit(option, value, error, message, unchanged):
    options = {"epochs": 2, "batch_size": 7} | {option: value}
    with pytest.raises(error, match=message):
        unchanged.fit(INTEGERS, LABELS, **options)


def test_two_kinds_of_validation_at_once(unchanged):
    with pytest.raises(ValueError, match="validation_data and validation_fraction exclude each other"):
        unchanged.fit(
            INTEGERS, LABELS, epochs=1, batch_size=7, validation_data=(INTEGERS, LABELS), validation_fraction=0.2
        )


def test_accuracy_needs_class_indices(unchanged):
    for call in (
        lambda: unchanged.evaluate(INTEGERS, NUMBERS, metric="accuracy"),
        lambda: unchanged.fit(INTEGERS, NUMBERS, epochs=1, batch_size=7, metric="accuracy"),
        lambda: unchanged.fit(
            INTEGERS, LABELS, epochs=1, batch_size=7, metric="accuracy", validation_data=(INTEGERS, NUMBERS)
        ),
    ):
        with pytest.raises(ValueError, match="'accuracy' needs class indices in y, got numeric targets"):
            call()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: m.predict(INTEGERS, threads=0), ValueError, r"threads must be at least 1, got 0"),
        (lambda m: m.classify(INTEGERS, threads="2"), TypeError, r"threads must be an integer, got '2'"),
        (lambda m: m.evaluate(INTEGERS, LABELS, metric="f1"), ValueError, r"metric must be one of .* got 'f1'"),
        (lambda m: m.freeze(2), ValueError, r"layers must be indices in \[-2, 2\), got 2"),
        (lambda m: m.freeze([0, -3]), ValueError, r"layers must be .*-2, got -3"),
        (lambda m: m.freeze(True), TypeError, r"layers must be an integer, got True"),
        (lambda m: m.freeze([0, 1.0]), TypeError, r"layers must be an integer, got 1.0"),
        (lambda m: m.freeze("01"), TypeError, r"layers must be indices, got '01'"),
        (lambda m: m.freeze(10**5000), ValueError, r"layers must be indices in \[-2, 2\), got a value of type int"),
        (lambda m: m.freeze(None), TypeError, r"layers must be an integer, got None"),
        (lambda m: m.fit(INTEGERS, LABELS, epochs=1, batch_size=7, shuffle=[[0], [1, 2]]), ValueError, r"shuffle must"),
        (lambda m: m.fit(INTEGERS, LABELS, epochs=1, batch_size=7, shuffle=3), ValueError, r"shuffle must be .* \(\)"),
        (lambda m: m.replace_head(2**31), ValueError, r"n_out must be at most 2147483647, got 2147483648"),
        (lambda m: m.replace_head(0), ValueError, r"n_out must be at least 1, got 0"),
        (lambda m: m.replace_head(2.5), TypeError, r"n_out must be an integer, got 2.5"),
        (lambda m: m.replace_head(2, activation="swish"), ValueError, r"activation .* got 'swish'; it is \"silu\""),
        (lambda m: m.replace_head(2, init="he"), ValueError, r"init must be one of .* got 'he'"),
        (lambda m: m.replace_head(2, rng="x"), TypeError, r"rng must be an integer, got 'x'"),
    ],
)
def test_unusable_arguments_of_other_methods(call, error, message, unchanged):
    with pytest.raises(error, match=message):
        call(unchanged)


@pytest.mark.parametrize(
    ("sizes", "options", "error", "message"),
    [
        ([4], {}, ValueError, r"sizes must name the inputs and at least one layer.* got \[4\]"),
        ([], {}, ValueError, r"sizes must name the inputs and at least one layer.* got \[\]"),
        (5, {}, TypeError, r"sizes must be a sequence such as \[784, 30, 10\], got 5"),
        ("432", {}, TypeError, r"sizes must be a sequence such as \[784, 30, 10\], got '432'"),
        ([4, 0], {}, ValueError, r"sizes\[1\] must be at least 1, got 0"),
        ([0, 4], {}, ValueError, r"sizes\[0\] must be at least 1, got 0"),
        ([4, -3, 2], {}, ValueError, r"sizes\[1\] must be at least 1, got -3"),
        ([4, 2.0], {}, TypeError, r"sizes\[1\] must be an integer, got 2.0"),
        ([2**62, 2], {}, ValueError, r"sizes\[0\] must be at most 2147483647, got 4611686018427387904"),
        ([4, 2**31], {}, ValueError, r"sizes\[1\] must be at most 2147483647, got 2147483648"),
        ([2**31 - 1, 2**31 - 1], {}, MemoryError, r"sizes must fit into memory, got \[2147483647, 2147483647\]"),
        ([4, True], {}, TypeError, r"sizes\[1\] must be an integer, got True"),
        (["4", 2], {}, TypeError, r"sizes\[0\] must be an integer, got '4'"),
        ([Dense(4), 2], {}, TypeError, r"sizes\[0\] must be the number of inputs, an integer, got Dense"),
        ([4, 2], {"activation": "swish"}, ValueError, r"activation must be one of 'identity'.*, got 'swish'"),
        ([4, 2], {"activation": np.tanh}, ValueError, r"activation must be one of .*, got <ufunc 'tanh'>"),
        ([4, 2], {"output": "softsign"}, ValueError, r"output must be one of 'identity'.*, got 'softsign'"),
        ([4, 2], {"loss": "mse"}, ValueError, r"loss must be one of 'quadratic'.*, got 'mse'"),
        ([4, 2], {"init": "he"}, ValueError, r"init must be one of 'scaled', .*, got 'he'"),
        ([4, 2], {"dtype": "float16"}, ValueError, r"dtype must be one of 'float32', 'float64', got 'float16'"),
        ([4, 2], {"dtype": np.float32}, ValueError, r"dtype must be one of 'float32', 'float64', got <class"),
        ([4, 2], {"input_scale": "1"}, TypeError, r"input_scale must be a number, got '1'"),
        ([4, 2], {"input_scale": np.inf}, ValueError, r"input_scale must be a finite number, got inf"),
        ([4, 2], {"input_scale": True}, TypeError, r"input_scale must be a number, got True"),
        ([4, 2], {"rng": 0.5}, TypeError, r"rng must be an integer, got 0.5"),
        ([4, 2], {"rng": -1}, ValueError, r"rng must be at least 0, got -1"),
        ([4, 2], {"rng": True}, TypeError, r"rng must be an integer, got True"),
    ],
)
def test_unusable_arguments_of_model(sizes, options, error, message):
    with pytest.raises(error, match=message):
        Model(sizes, **options)


@pytest.mark.parametrize(
    ("sizes", "options", "error", "message"),
    [
        ([4, True], {}, TypeError, r"sizes\[1\] must be an integer, got True"),
        ([4.0, 1], {}, TypeError, r"sizes\[0\] must be an integer, got 4.0"),
        ([4, 1], {"input_scale": True}, TypeError, r"input_scale must be a number, got True"),
        ([4, 1], {"input_scale": decimal.Decimal(1)}, TypeError, r"input_scale must be a number, got Decimal\('1'\)"),
    ],
)
def test_an_unusable_argument_that_equals_one_of_an_earlier_model(sizes, options, error, message):
    Model([4, 1])
    Model([4, 1], input_scale=1.0)
    with pytest.raises(error, match=message):
        Model(sizes, **options)


@pytest.mark.parametrize("scales", [(0.0, -0.0), (-0.0, 0.0)])
def test_an_input_scale_of_minus_zero_is_zero(scales, tmp_path):
    """They are equal, and equal architectures share programs, so their models must be alike in any order."""
    layers._known.cache_clear()
    for i, scale in enumerate(scales):
        model = Model([4, 1], output="identity", init="zeros", input_scale=scale, rng=0)
        model.biases[0][...] = -0.0
        model.weights[0][...] = 1
        model.save(tmp_path / f"{i}.safetensors")
        for each in (model, fastnn.load(tmp_path / f"{i}.safetensors")):
            assert not np.signbit(each.input_scale)
            assert not np.signbit(each.predict(np.ones((3, 4)))).any()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Dense(0), ValueError, r"units must be at least 1, got 0"),
        (lambda: Dense(True), TypeError, r"units must be an integer, got True"),
        (lambda: Dense(3, "swish"), ValueError, r"activation must be one of .* got 'swish'"),
        (lambda: SGD(0), ValueError, r"learning_rate must be a finite number above 0, got 0"),
        (lambda: SGD(-0.1), ValueError, r"learning_rate must be a finite number above 0, got -0.1"),
        (lambda: SGD(np.nan), ValueError, r"learning_rate must be a finite number above 0, got nan"),
        (lambda: SGD(np.inf), ValueError, r"learning_rate must be a finite number above 0, got inf"),
        (lambda: SGD(10**400), ValueError, r"learning_rate must be a finite number above 0, got 1000"),
        (lambda: SGD("0.1"), TypeError, r"learning_rate must be a number, got '0.1'"),
        (lambda: SGD(None), TypeError, r"learning_rate must be a number, got None"),
        (lambda: SGD(True), TypeError, r"learning_rate must be a number, got True"),
        (lambda: SGD([0.1]), TypeError, r"learning_rate must be a number, got \[0.1\]"),
    ],
)
def test_unusable_specifications(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("rate", [1, 0.5, np.float32(0.5), np.float64(2), np.int8(3)])
def test_a_learning_rate_may_be_any_real_number(rate):
    assert SGD(rate).learning_rate == rate
    assert type(SGD(rate).learning_rate) is float


def test_specifications_are_frozen_values():
    assert Dense(3) == Dense(3, "sigmoid")
    assert hash(SGD(0.5)) == hash(SGD(0.5))
    with pytest.raises(AttributeError):
        SGD().learning_rate = 3
    with pytest.raises(AttributeError):
        Dense(3).units = 4


def test_an_unknown_name_of_the_package():
    with pytest.raises(AttributeError, match="module 'fastnn' has no attribute 'Perceptron'"):
        fastnn.Perceptron  # noqa: B018


def test_values_too_large_for_any_dtype():
    with pytest.raises((TypeError, ValueError), match="X must hold numbers"):
        Model([1, 1]).predict([[10**400]])
    with pytest.raises(ValueError, match="input_scale must be finite in float32, got 1e\\+300"):
        Model([1, 1], input_scale=1e300)
    with pytest.raises(ValueError, match="epochs must be at most 100000000, got 10000000000000"):
        Model([1, 1]).fit([[1.0]], [1.0], epochs=10**13, batch_size=1)


# ---- nothing goes wrong silently ----


def test_one_feature_is_a_column(unchanged):
    with pytest.raises(ValueError, match=r"X must have shape \(n, 1\), got \(7,\); X\[:, None\] is a column$"):
        Model([1, 1]).predict(np.ones(7))
    for call in (unchanged.predict, lambda X: unchanged.evaluate(X, [0])):
        with pytest.raises(ValueError, match=r"got \(5,\); X\[None\] is a single row$"):
            call(np.ones(5))
    message = r"validation_data\[0\] must .*; validation_data\[0\]\[None\] is a single row$"
    with pytest.raises(ValueError, match=message):
        unchanged.fit(INTEGERS, LABELS, epochs=1, batch_size=7, validation_data=(np.ones(5), [0]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: Model([4, 3], seed=0), "Model() got an unexpected keyword argument 'seed'; fastnn has rng"),
        (lambda m: Model([4, 3], random_state=0), "'random_state'; fastnn has rng"),
        (lambda m: Model([4, 3], criterion="mse"), "'criterion'; fastnn has loss"),
        (lambda m: Model(hidden_layer_sizes=[4, 3]), "'hidden_layer_sizes'; fastnn has sizes_or_layers"),
        (lambda m: Model([4, 3], lr=1), "'lr'; fastnn has optimizer=SGD(0.1), an argument of Model.fit"),
        (lambda m: Model([4, 3], epochs=1), "'epochs'; fastnn has epochs, an argument of Model.fit"),
        (lambda m: Model([4, 3], colour=1), "Model() got an unexpected keyword argument 'colour'"),
        (
            lambda m: m.fit(INTEGERS, LABELS, **FIT_ONCE, lr=1),
            "Model.fit() got an .* 'lr'; fastnn has optimizer=SGD(0.1)",
        ),
        (lambda m: m.fit(INTEGERS, LABELS, **FIT_ONCE, learning_rate=1), "fastnn has optimizer=SGD(0.1)"),
        (lambda m: m.fit(INTEGERS, LABELS, max_iter=3), "'max_iter'; fastnn has epochs"),
        (lambda m: m.fit(INTEGERS, LABELS, **FIT_ONCE, validation_split=0.1), "fastnn has validation_fraction"),
        (
            lambda m: m.fit(INTEGERS, LABELS, **FIT_ONCE, patience=3),
            "'patience'; fastnn has callbacks=[EarlyStopping(\"val_loss\", patience=10)]",
        ),
        (
            lambda m: fastnn.Population([5, 3], 2).fit(INTEGERS, LABELS, **FIT_ONCE, patience=3),
            "'patience'; fastnn has stopping=Patience(10, \"val_loss\")",
        ),
        (lambda m: m.fit(INTEGERS, LABELS, **FIT_ONCE, momentum=0.9), "fastnn has optimizer=Momentum(0.01)"),
        (lambda m: m.fit(INTEGERS, LABELS, **FIT_ONCE, seed=0), "'seed'; fastnn has rng, an argument of Model"),
        (lambda m: m.fit(INTEGERS, LABELS, **FIT_ONCE, loss="mse"), "'loss'; fastnn has loss, an argument of Model"),
        (lambda m: m.fit(INTEGERS, LABELS, 10), "takes X and y by position, the others by name: epochs=10"),
        (lambda m: m.fit(INTEGERS, LABELS, 10, 32), "the others by name: epochs=10, batch_size=32"),
        (lambda m: Model([4, 3], "relu"), "Model() takes sizes_or_layers by position, .*: activation='relu'"),
        (lambda m: m.evaluate(INTEGERS, LABELS, "r2"), "Model.evaluate() takes X and y by position, .*: metric='r2'"),
        (lambda m: m.replace_head(3, seed=0), "Model.replace_head() got .* 'seed'; fastnn has rng"),
        (lambda m: m.fit(INTEGERS, LABELS), "missing 2 required keyword-only arguments: 'epochs' and 'batch_size'"),
    ],
)
def test_arguments_of_other_packages(call, message, unchanged):
    with pytest.raises(TypeError, match=re.escape(message).replace(r"\.\*", ".*") + "$"):
        call(unchanged)


def test_the_explained_functions_keep_their_signatures():
    assert "rng" in inspect.signature(Model).parameters
    assert inspect.signature(Model.fit).parameters["epochs"].kind is inspect.Parameter.KEYWORD_ONLY
    assert Model.fit.__doc__.startswith("Train by mini-batch")


def test_a_type_error_from_inside_stays_as_it_is():
    with pytest.raises(TypeError, match=r"can only concatenate str"):
        Model([5, 3], rng=0).evaluate(INTEGERS, LABELS, metric=lambda y_true, y_pred: "1" + 1)


ALLOWED = {
    "loss": loss_functions.NAMES,
    "activation": (*ACTIVATIONS, "softmax"),
    "output": (*ACTIVATIONS, "softmax"),
    "init": tuple(initialisers.INITS),
    "optimizer": (*optimizers.BY_NAME, "Momentum(0.01, nesterov=True)", "LBFGS()"),
    "metric": tuple(metrics.METRICS),
}


@pytest.mark.parametrize("argument", other_names.VALUES)
def test_names_of_other_packages_lead_to_ours(argument):
    for other, advice in other_names.VALUES[argument].items():
        assert other not in ALLOWED[argument] or other == "softmax", "it is a name of fastnn's"
        assert other == other.lower()
        named = re.findall(r'"(\w+)"', advice) or [advice.split(" is ")[0]]
        assert set(named) <= {*ALLOWED[argument], "sigmoid", "softmax"}, advice
    functions = (Model, Model.fit, fastnn.Population.fit)
    known = {name for function in functions for name in inspect.signature(function).parameters}
    for ours in other_names.ARGUMENTS.values():
        assert {each.split("=")[0] for each in ((ours,) if isinstance(ours, str) else ours)} <= known
    assert not known & {*other_names.ARGUMENTS}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Model([4, 2], loss="mse"), r'got \'mse\'; "quadratic" is half of the squared error$'),
        (lambda: Model([4, 2], loss="MSE"), r'got \'MSE\'; "quadratic" is half'),
        (lambda: Model([4, 2], loss="binary_crossentropy"), r'it is "cross_entropy", with the output "sigmoid"$'),
        (lambda: Model([4, 2], output="linear"), r'output must .* got \'linear\'; it is "identity"$'),
        (lambda: Model([4, 2], output=None), r'got None; it is "identity"$'),
        (lambda: Dense(3, "ReLU"), r"got 'ReLU'; it is 'relu'$"),
        (lambda: Model([4, 3, 2], activation="softmax"), r'only the last layer can have it: output="softmax"$'),
        (lambda: Model([4, 2], init="he"), r'got \'he\'; it is "he_normal" or "he_uniform"$'),
        (lambda: Model([4, 2], init=["kaiming_normal"]), r'init\[0\] must .*; it is "he_normal"$'),
        (
            lambda: Model([5, 3]).fit(INTEGERS, LABELS, **FIT_ONCE, optimizer="nag"),
            r"; Momentum\(0.01, nesterov=True\)",
        ),
        (lambda: Model([4, 2], loss="no such"), r"got 'no such'$"),
    ],
)
def test_values_of_other_packages(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("output", "y", "low", "high"),
    [
        ("sigmoid", [[0.5], [1.5]], "0", "1"),
        ("sigmoid", [[-0.5], [0.5]], "0", "1"),
        ("sigmoid", [1, 2], "0", "1"),  # integers that are no classes of one output
        ("hard_sigmoid", [[0.5], [1.5]], "0", "1"),
        ("tanh", [[0.5], [-1.5]], "-1", "1"),
        ("relu", [[3.0], [-0.1]], "0", "inf"),
        ("softplus", [[3.0], [-0.1]], "0", "inf"),
        ("exp", [[3.0], [-0.1]], "0", "inf"),
        ("elu", [[3.0], [-1.5]], "-1", "inf"),
        ("selu", [[3.0], [-2.0]], "-1.7581", "inf"),
        ("silu", [[3.0], [-0.5]], "-0.278465", "inf"),
        ("mish", [[3.0], [-0.5]], "-0.308843", "inf"),
        ("gelu", [[3.0], [-0.5]], "-0.169971", "inf"),
    ],
)
def test_targets_that_no_output_reaches(output, y, low, high, state):
    model, X = Model([1, 1], output=output, rng=0), [[0.0], [1.0]]
    least, most = np.min(y), np.max(y)
    message = rf"y holds numbers from {least:g} to {most:g}, but outputs of '{output}' lie between {low} and {high}:"
    before = state(model)
    with pytest.raises(UserWarning, match=message):  # an error by filterwarnings: before anything is changed
        model.fit(X, y, **FIT_ONCE)
    assert state(model) == before
    with pytest.warns(UserWarning, match='Use output="identity"') as caught:
        history = model.fit(X, y, **FIT_ONCE)
    assert caught[0].filename == __file__
    assert len(history.loss) == 1


@pytest.mark.parametrize(
    ("output", "y"),
    [
        ("sigmoid", [[0.0], [0.7]]),
        ("sigmoid", [0, 1]),
        ("tanh", [[-1.0], [1.0]]),
        ("relu", [[0.0], [9.0]]),
        ("identity", [[-5.0], [50.0]]),
        ("elu", [[-0.5], [50.0]]),
    ],
)
def test_targets_that_outputs_reach_give_no_warning(output, y):
    Model([1, 1], output=output, rng=0).fit([[0.0], [1.0]], y, **FIT_ONCE, validation_fraction=0.5)


def test_floats_that_look_like_classes():
    X, y = np.eye(4), np.array([0.0, 1.0, 1.0, 0.0])
    model = Model([4, 1], rng=0)
    message = r"the metric is r2. For two classes, and accuracy, give integers: y.astype\(int\)"
    calls = [
        lambda m, **given: m.fit(X, y, **FIT_ONCE, validation_data=(X, y), **given),
        lambda m, **given: m.evaluate(X, y, **given),
    ]
    for call in calls:
        with pytest.warns(UserWarning, match=message) as caught:
            call(model)
        assert caught[0].filename == __file__
        call(model, metric="r2")  # who asks for it gets no warning
        call(Model([4, 1], output="identity", rng=0))
    model.fit(X, y, **FIT_ONCE)  # there is no metric
    assert list(model.evaluate(X, y.astype(int))) == ["loss", "accuracy"]
    assert list(model.evaluate(X, [0.0, 0.5, 1.0, 0.0])) == ["loss", "r2"]


@pytest.mark.parametrize("mean", [0, 5000])
def test_large_targets_that_were_not_learned(mean):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    y = mean + 500 * X[:, 0]
    of_mean = y.var() / 2
    fits = {"epochs": 3, "batch_size": 20, "optimizer": SGD(1e-9)}
    new = lambda: Model([3, 8, 1], output="identity", init=["scaled", "normal"], rng=0)  # noqa: E731
    with pytest.warns(UserWarning, match=rf"but predicting the mean of y has {of_mean:g}. .* scale it") as caught:
        history = new().fit(X, y, **fits)
    assert caught[0].filename == __file__
    assert history.loss[-1] > of_mean
    new().fit(X, (y - y.mean()) / y.std(), **fits)  # not learned either, but the rate is to blame
    new().fit(X, y, **fits | {"epochs": 1})  # too early to tell
    history = Model([3, 1], output="identity", rng=0).fit(X, y, epochs=50, batch_size=20, optimizer=SGD(0.1))
    assert history.loss[-1] < of_mean  # large, but learned


@pytest.mark.parametrize("name", ["numpy.ma", "scipy.sparse"])
def test_a_module_that_another_thread_is_importing(name, monkeypatch):
    """It is there, and empty yet."""
    monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    model = Model([2, 3], rng=0)
    assert model.fit([[0, 1], [1, 0]], [0, 1], epochs=2, batch_size=2).loss[1] < 1
    assert model.predict([[0, 1]]).shape == (1, 3)
