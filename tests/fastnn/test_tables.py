"""Tables of mixed columns as matrices: each kind against its formula, and the same bits from every library."""

import datetime
import itertools
import json
import math
import warnings
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from fastnn.data.table_targets import Classes, Standardised
from fastnn.data.tables import Table

rng = np.random.default_rng(3)


def as_pandas(frame):
    return pytest.importorskip("pandas", reason="pandas is not installed").DataFrame(frame)


def as_polars(frame):
    return pytest.importorskip("polars", reason="polars is not installed").DataFrame(frame)


def as_arrow(frame):
    return pytest.importorskip("pyarrow", reason="pyarrow is not installed").table(frame)


def as_structured(frame):
    arrays = {name: np.asarray(column) for name, column in frame.items()}
    n = len(next(iter(arrays.values())))
    found = np.empty(n, [(name, array.dtype) for name, array in arrays.items()])
    for name, array in arrays.items():
        found[name] = array
    return found


LIBRARIES = [as_pandas, as_polars, as_arrow, as_structured, dict]


def mixed(n=60):
    """{columns} of every kind, some with missing values."""
    number = rng.normal(50, 9, n)
    number[::7] = np.nan
    when = np.datetime64("2019-11-20T06:30", "us") + rng.integers(0, 10**8, n) * np.timedelta64(1, "s")
    when[3] = "NaT"
    town = np.array(["Rome", "Oslo", "Bern", "Kiel"], object)[rng.integers(0, 4, n)]
    town[5] = None
    return {
        "number": number,
        "count": rng.integers(-5, 5, n),
        "small": rng.integers(0, 200, n).astype(np.uint8),
        "narrow": rng.normal(size=n).astype(np.float32),
        "flag": rng.random(n) < 0.3,
        "town": town,
        "answer": np.array(["yes", "no"], object)[rng.integers(0, 2, n)],
        "shop": np.array([f"s{i}" for i in range(20)], object)[np.arange(n) % 20],
        "when": when,
        "day": np.datetime64("2020-01-01", "D") + rng.integers(0, 900, n) * np.timedelta64(1, "D"),
        "took": rng.integers(0, 10**6, n).astype("m8[ms]"),
        "always": np.full(n, 7),
    }


def as_bits(table, X, **options):
    return table.transform(X, **options).tobytes()


# ---- the same for all ----


@pytest.mark.parametrize("make", LIBRARIES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_library_makes_no_difference(make, dtype):
    frame = mixed()
    expected = Table.of(frame)
    found = Table.of(make(frame))
    assert found.to_dict() == expected.to_dict()
    matrix = found.transform(make(frame), dtype)
    assert matrix.shape == (60, found.width)
    assert matrix.dtype == dtype
    assert matrix.flags.c_contiguous
    assert matrix.tobytes() == as_bits(expected, frame, dtype=dtype)
    assert np.isfinite(matrix).all()


@pytest.mark.parametrize("make", LIBRARIES)
def test_columns_are_found_by_name(make):
    frame = mixed()
    table, expected = Table.of(make(frame)), as_bits(Table.of(frame), frame)
    turned = dict(reversed(frame.items()))
    assert as_bits(table, make(turned)) == expected
    del turned["always"]  # it was constant, so nobody reads it
    assert as_bits(table, make(turned)) == expected
    told = "X has columns that the training had not, and they are ignored: 'new', 'b'$"
    with pytest.warns(UserWarning, match=told) as warned:
        assert as_bits(table, make({"new": frame["count"], **turned, "b": frame["flag"]})) == expected
    assert [each.filename for each in warned] == [__file__]
    del turned["town"], turned["count"]
    with pytest.raises(ValueError, match="X must have the columns of the training, got none called 'count', 'town'"):
        table.transform(make(turned))


def test_rows_do_not_depend_on_each_other():
    frame = mixed()
    table, some = Table.of(frame), np.array([4, 3, 3, 59, 0])
    found = table.transform({name: column[some] for name, column in frame.items()})
    np.testing.assert_array_equal(found, table.transform(frame)[some])


def test_a_description_gives_the_same_bits():
    frame = mixed()
    for more in ({}, {"one_hot_max": 3, "categorical": ["count", "day"], "drop": ["narrow"]}):
        table = Table.of(frame, **more)
        text = json.dumps(table.to_dict(), allow_nan=False)
        again = Table.from_dict(json.loads(text))
        assert json.dumps(again.to_dict()) == text
        assert as_bits(again, frame, dtype="float64") == as_bits(table, frame, dtype="float64")
        for name in ("feature_names", "places", "codes", "summary", "width", "labels", "encodings"):
            assert getattr(again, name) == getattr(table, name), name


# ---- numbers ----


def clipped(z):
    return z / np.sqrt(1 + (z / 3) ** 2)


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i8", "u2", "i1", "O"])
def test_numbers_are_scaled_by_quartiles_and_clipped(dtype):
    values = rng.integers(0, 100, 41).astype(dtype)
    found = Table.of({"a": values}).transform({"a": values}, "float64")
    x = sorted(map(float, values))
    scale = x[30] - x[10]  # of 41 numbers these are the quartiles
    np.testing.assert_allclose(found[:, 0], clipped((values.astype(float) - x[20]) / scale), rtol=1e-14)


def test_a_number_that_mostly_is_one_value_is_scaled_by_its_range():
    values = np.array([5.0] * 20 + [1.0, 11.0])
    found = Table.of({"a": values}).transform({"a": [5.0, 1.0, 11.0, 1e308 / 1e10, -1e299]}, "float64")
    expected = [0, clipped(-4 / 5), clipped(6 / 5), 3, -3]
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-14)


def test_missing_numbers_are_the_median_and_have_a_column():
    table = Table.of({"a": [1.0, None, 3.0, math.nan, 8.0], "b": [1, 2, 3, 4, 6]})
    assert table.feature_names == ["a", "a missing", "b"]
    found = table.transform({"a": [None, 3.0, 8.0], "b": [None, 3, math.nan]}, "float64")
    x = clipped(5 / 3.5)  # the quartiles of 1, 3, 8 are 2 and 5.5
    np.testing.assert_allclose(found, [[0, 1, 0], [0, 0, 0], [x, 0, 0]], rtol=1e-14)


@pytest.mark.parametrize("dtype", ["i8", "u8"])
def test_large_integers_are_exact(dtype):
    values = np.array([2**62 + 1, 2**62 + 2, 2**62 + 4, 2**62 + 5, 2**62 + 7], dtype)
    found = Table.of({"a": values}).transform({"a": values}, "float64")[:, 0]
    expected = [float(Fraction(int(v) - (2**62 + 4), 3)) for v in values]  # the quartiles are the second and the fourth
    np.testing.assert_allclose(found, clipped(np.array(expected)), rtol=1e-15)


def test_integers_of_both_ends():
    values = np.array([-(2**63), -1, 0, 3, 2**63 - 1])
    found = Table.of({"a": values}).transform({"a": values}, "float64")[:, 0]
    np.testing.assert_allclose(found, clipped(values.astype(float) / 4), rtol=1e-14)


def test_a_mean_far_from_zero_loses_no_digits():
    x = rng.normal(1e6, 1.0, 101)
    found = Table.of({"a": x}).transform({"a": x}, "float32")[:, 0]
    shifted = [Fraction(each) for each in x]
    ordered = sorted(shifted)
    z = np.array([float((each - ordered[50]) / (ordered[75] - ordered[25])) for each in shifted])
    np.testing.assert_array_equal(found, clipped(z).astype(np.float32))


def test_numbers_of_other_types():
    values = [Decimal("1.5"), Fraction(1, 2), 3, np.float32(2.5), True, Decimal("sNaN")]
    found = Table.of({"a": values}).transform({"a": values})
    np.testing.assert_array_equal(found, Table.of({"a": [1.5, 0.5, 3, 2.5, 1, None]}).transform({"a": values}))


def test_sparse_matrices_are_no_frames():
    """Also the kind of SciPy that is a mapping."""
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
    told = r"X must be a frame of pandas or polars, .*, got <[A-Za-z ]* sparse (array|matrix) "
    for kind in (sparse.dok_array, sparse.dok_matrix, sparse.csr_array):
        with pytest.raises(TypeError, match=told):
            Table.of(kind(np.eye(3)))


def test_an_infinite_number_is_refused():
    frame = {"a": [1.0, 2.0, 4.0]}
    table = Table.of(frame)
    for given in ([1.0, -math.inf, 2.0], np.array([1, -np.inf, 2], np.float32), ["1", "-1e999", "2"]):
        with pytest.raises(
            ValueError, match=r"column 'a' of X must hold numbers up to 1e.300, got -inf in row 1; make"
        ):
            table.transform({"a": given})
    with pytest.raises(ValueError, match=r"column 'a' of X must hold numbers up to 1e.300, got 1e.301 in row 0"):
        Table.of({"a": [1e301, 2.0]})


def test_nullable_types_of_pandas():
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    plain = {"i": [2, None, 2**60 + 1], "f": [1.5, None, 2.5], "b": [True, None, False]}
    kinds = {"i": "Int64", "f": "Float64", "b": "boolean"}
    frame = pd.DataFrame({key: pd.array(plain[key], kind) for key, kind in kinds.items()})
    expected = Table.of(plain)
    assert Table.of(frame).to_dict() == expected.to_dict()
    assert as_bits(expected, frame) == as_bits(expected, plain)
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    arrow = frame.astype({"i": "int64[pyarrow]", "f": "double[pyarrow]", "b": "bool[pyarrow]"})
    assert as_bits(expected, arrow) == as_bits(expected, plain)


# ---- truth values ----


def test_truth_values_are_signs():
    table = Table.of({"a": [True, False, False]})
    assert table.transform({"a": [False, True, None]}).tolist() == [[-1], [1], [0]]
    table = Table.of({"a": [True, None, False]})
    assert table.transform({"a": [False, True, None]}).tolist() == [[-1, 0], [1, 0], [0, 1]]


# ---- categories ----


def test_few_categories_are_one_hot():
    table = Table.of({"a": ["x", "z", "y", "x", "y", "z"]})
    assert table.feature_names == ["a=x", "a=y", "a=z"]
    found = table.transform({"a": ["y", "z", "other", None, "x"]})
    assert found.tolist() == [[0, 1, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0], [1, 0, 0]]


def test_missing_categories_have_a_column_where_training_had_some():
    table = Table.of({"a": ["x", "z", None, "y"]})
    assert table.feature_names == ["a=x", "a=y", "a=z", "a missing"]
    assert table.transform({"a": [None, "other", "z"]}).tolist() == [[0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 1, 0]]


def test_two_categories_are_one_column():
    table = Table.of({"a": ["no", "yes", "no"], "b": ["u", None, "v"]})
    assert table.feature_names == ["a=yes", "b=v", "b missing"]
    found = table.transform({"a": ["yes", "no", "other", None], "b": ["v", "other", None, "u"]})
    assert found.tolist() == [[1, 1, 0], [-1, 0, 0], [0, 0, 1], [0, -1, 0]]


def test_many_categories_are_codes_and_stand_last():
    names = [f"v{i:02}" for i in range(14)]
    frame = {"a": [*names, *names, "once", None], "b": np.arange(30.0)}
    table = Table.of(frame)
    assert table.feature_names == ["b", "a"]
    assert table.places == {"b": slice(0, 1), "a": slice(1, 2)}
    assert table.codes == {1: 15}
    assert table.transform(frame)[:, 1].tolist() == [*range(1, 15), *range(1, 15), 0, 0]
    assert table.transform({"a": ["v13", "other", "v00"], "b": [0, 0, 0]})[:, 1].tolist() == [14, 0, 1]


def test_values_that_come_once_are_unknown_where_there_are_many():
    values = ["x", "y"] * 20 + [f"rare {i}" for i in range(11)]
    table = Table.of({"a": values})
    assert table.feature_names == ["a=x", "a=y", "a unknown"]
    assert table.transform({"a": ["x", "rare 3", "other", "y"]}).tolist() == [
        [1, 0, 0],
        [0, 0, 1],
        [0, 0, 1],
        [0, 1, 0],
    ]
    kept = Table.of({"a": values[:-1]})  # 12 values in all
    assert kept.width == 12


def test_strings_of_other_classes_are_strings():
    found = Table.of({"a": np.array([*map(np.str_, "xyz")], object)})
    assert found.to_dict() == Table.of({"a": list("xyz")}).to_dict()
    assert set(map(type, found.encodings[0].known)) == {str}


def test_one_hot_max_decides():
    frame = {"a": list("abcde") * 2}
    assert Table.of(frame, one_hot_max=5).codes == {}
    assert Table.of(frame, one_hot_max=4).codes == {0: 6}


def test_integers_are_categories_where_they_are_named():
    frame = {"a": [30, 10, 20, 10], "b": [1, 2, 3, 4]}
    table = Table.of(frame, categorical=["a"])
    assert table.feature_names == ["a=10", "a=20", "a=30", "b"]
    expected = [[0, 0, 1], [1, 0, 0], [0, 0, 0]]
    for given in ([30, 10, 5], [30.0, 10.0, 5.5], ["30", "10.0", "7"], [Decimal(30), Decimal(10), None]):
        assert table.transform({"a": given, "b": [0, 0, 0]})[:, :3].tolist() == expected
    with_gap = Table.of({"a": [30.0, 10.0, 20.0, math.nan]}, categorical=["a"])
    assert with_gap.feature_names == ["a=10", "a=20", "a=30", "a missing"]


@pytest.mark.parametrize("kind", ["category", "string", "object", "str"])
def test_text_of_pandas(kind):
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    if kind == "str" and pd.__version__ < "3":
        pytest.skip("before pandas 3 it makes text of None")
    values = ["x", "y", None, "z", "x"]
    frame = pd.DataFrame({"a": pd.Series(values, dtype=object).astype(kind)})
    table = Table.of(frame)
    assert table.to_dict() == Table.of({"a": values}).to_dict()
    assert table.transform(frame).tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0], [1, 0, 0, 0]]


def test_categories_of_pandas_of_other_values():
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    numbers = pd.Series([3, 1, 2, 1]).astype("category")
    assert Table.of(pd.DataFrame({"a": numbers})).feature_names == ["a=1", "a=2", "a=3"]
    cut = pd.DataFrame({"a": pd.cut(pd.Series([1.0, 5.0, 9.0, 1.0]), [0, 3, 6, 10])})
    assert Table.of(cut).feature_names == ["a=(0, 3]", "a=(3, 6]", "a=(6, 10]"]
    assert Table.of(pd.DataFrame({"a": numbers}), numeric=["a"]).feature_names == ["a"]


def test_intervals_and_periods_are_their_text():
    """Whether pandas knows their type, as of `pd.cut`, or has them as objects."""
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    found = pd.cut(pd.Series([1.0, 5.0, 9.0, np.nan]), [0, 3, 6, 10])
    periods = pd.Series(pd.period_range("2020-01", periods=4, freq="M"))
    for values in (found, periods):
        text = pd.DataFrame({"a": values.astype(object).map(str, na_action="ignore")})
        table = Table.of(text)
        for same in (values, values.astype(object)):
            frame = pd.DataFrame({"a": same})
            np.testing.assert_array_equal(table.transform(frame), table.transform(text))
            np.testing.assert_array_equal(Table.of(frame).transform(text), table.transform(text))


def test_categories_of_polars():
    pl = pytest.importorskip("polars", reason="polars is not installed")
    values = ["x", "y", None, "z", "x"]
    expected = Table.of({"a": values})
    for kind in (pl.Categorical, pl.Enum(["z", "y", "x", "never"]), pl.String):
        frame = pl.DataFrame({"a": pl.Series(values, dtype=kind)})
        assert Table.of(frame).to_dict() == expected.to_dict()
        assert as_bits(expected, frame) == as_bits(expected, {"a": values})


# ---- dates ----


def parts_of(when):
    """(year, part of the year, part of the day, weekday) by Python's calendar."""
    first, last = datetime.datetime(when.year, 1, 1), datetime.datetime(when.year + 1, 1, 1)
    midnight = when.replace(hour=0, minute=0, second=0, microsecond=0)
    return when.year, (when - first) / (last - first), (when - midnight) / datetime.timedelta(days=1), when.weekday()


def test_dates_are_parts_of_the_year_and_the_day():
    start = datetime.datetime(1903, 2, 28, 23, 59, 59, 999999)
    values = [start + datetime.timedelta(seconds=int(s)) for s in rng.integers(0, 6 * 10**9, 50)]
    table = Table.of({"t": values})
    assert table.feature_names[:5] == [
        f"t {part}" for part in ("year", "sine of year", "cosine of year", "sine of day", "cosine of day")
    ]
    assert table.feature_names[5:] == [
        f"t {day}" for day in ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
    ]
    found = table.transform({"t": [*values, None]}, "float64")
    years, of_year, of_day, weekdays = (np.array(each) for each in zip(*map(parts_of, values), strict=True))
    years = years + of_year
    first, third = np.quantile(years, [0.25, 0.75])
    np.testing.assert_allclose(found[:-1, 0], clipped((years - np.median(years)) / (third - first)), rtol=1e-13)
    for j, part in ((1, of_year), (3, of_day)):
        np.testing.assert_allclose(found[:-1, j], np.sin(2 * np.pi * part), atol=1e-14)
        np.testing.assert_allclose(found[:-1, j + 1], np.cos(2 * np.pi * part), atol=1e-14)
    np.testing.assert_array_equal(found[:-1, 5:], np.eye(7)[weekdays])
    assert not found[-1].any()


def test_numbers_of_very_different_sizes():
    """A number far beyond tiny pieces fills them, without a warning."""
    values = np.linspace(1, 2, 50) * 1e-200
    found = Table.of({"x": values}, ranked=True).transform({"x": [1e300, -1e300]}, "float64")
    np.testing.assert_array_equal(found[:, 2:], [[1.0] * 8, [0.0] * 8])
    np.testing.assert_allclose(found[:, 1], [1.7, -1.7])


def test_years_have_ranks_and_pieces_as_numbers_have():
    days = [datetime.datetime(2020, 1, 1) + datetime.timedelta(days=int(day)) for day in rng.integers(0, 3000, 60)]
    table = Table.of({"t": days}, ranked=True)
    years = np.array([parts_of(day)[0] + parts_of(day)[1] for day in days])
    numbers = Table.of({"year": years}, ranked=True)
    assert [name.removeprefix("t ") for name in table.feature_names[:10]] == numbers.feature_names
    np.testing.assert_array_equal(table.transform({"t": days})[:, :10], numbers.transform({"year": years}))
    assert table.pieces == numbers.pieces == list(range(2, 10))


def test_parts_of_dates_that_do_not_vary_are_dropped():
    weekdays = [datetime.date(2024, 5, day) for day in (6, 7, 8, 13)]  # Monday to Wednesday
    table = Table.of({"t": [*weekdays, None]})
    expected = ["t year", "t sine of year", "t cosine of year", "t Monday", "t Tuesday", "t Wednesday", "t missing"]
    assert table.feature_names == expected
    assert table.transform({"t": [None, datetime.date(2031, 5, 9)]})[:, 3:].tolist() == [[0, 0, 0, 1], [0, 0, 0, 0]]
    hours = [datetime.datetime(2024, 1, 1, hour) for hour in range(5)]
    assert Table.of({"t": hours}).feature_names[3:] == ["t sine of day", "t cosine of day"]


def test_times_are_those_of_their_time_zone():
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    local = pd.Series(pd.date_range("2024-03-30 20:00", periods=30, freq="h"))
    table = Table.of({"t": local.to_numpy()})
    zoned = local.iloc[:5].dt.tz_localize("Europe/Rome")
    expected = as_bits(table, {"t": local.iloc[:5].to_numpy()})
    assert as_bits(table, pd.DataFrame({"t": zoned})) == expected
    assert as_bits(table, {"t": zoned.tolist()}) == expected
    assert as_bits(table, {"t": pd.DatetimeIndex(zoned)}) == expected
    pl = pytest.importorskip("polars", reason="polars is not installed")
    column = pl.Series(local.iloc[:5].tolist()).dt.replace_time_zone("Europe/Rome")
    assert as_bits(table, pl.DataFrame({"t": column})) == expected


def test_time_deltas_are_seconds():
    seconds = np.array([3, 10, 4, 12, 90])
    expected = Table.of({"a": seconds}).transform({"a": seconds}).tolist()
    for given in (seconds.astype("m8[s]"), [datetime.timedelta(seconds=int(s)) for s in seconds]):
        assert Table.of({"a": given}).transform({"a": given}).tolist() == expected
    table = Table.of({"a": seconds.astype("m8[s]")})
    assert table.transform({"a": [None, None]}).tolist() == [[0], [0]]
    with pytest.raises(ValueError, match="column 'a' of X must hold time deltas, as in training, got numbers"):
        table.transform({"a": seconds})


# ---- what is dropped or refused ----


def test_constant_columns_are_dropped():
    nothing, when = [None] * 3, datetime.date(2020, 1, 1)
    frame = {
        "a": [1, 1, 1],
        "b": ["x"] * 3,
        "c": nothing,
        "d": [True] * 3,
        "e": [when] * 3,
        "f": [1, 2, 3],
        "g": [1, 5, 9],
    }
    table = Table.of(frame, drop=["g"])
    assert table.feature_names == ["f"]
    assert table.transform({"f": [2]}).tolist() == [[0]]
    kinds = [(row.kind, row.becomes, row.n_columns) for row in table.summary]
    constant = ("dropped", "constant", 0)
    expected = [constant, constant, ("dropped", "all missing", 0), constant, constant]
    assert kinds == [*expected, ("numbers", "median 2, scale 1", 1), ("dropped", "dropped, as asked for", 0)]
    with pytest.raises(ValueError, match=r"X must have a column that varies, got 'a' \(constant\), 'c' \(all missing"):
        Table.of({"a": [1, 1], "c": [None, None]})


@pytest.mark.parametrize("value", [4.5, 2, "x", True, datetime.date(2020, 1, 1), datetime.timedelta(1)])
def test_one_value_and_gaps_tell_where_it_is_missing(value):
    table = Table.of({"a": [value, None, value]})
    assert table.feature_names == ["a missing"]
    assert table.transform({"a": [None, value]}).tolist() == [[1], [0]]


def text(n):
    return [f"customer {i} wrote" for i in range(n)]


class Thing:
    def __repr__(self):
        return "Thing()"


REFUSED = {
    "free text": (
        text(20),
        ValueError,
        r"must hold categories, got text that no other row has in 20 of 20 rows, such as",
    ),
    "identifiers": ([f"id{i}" for i in range(13)] + ["x"] * 12, ValueError, "13 of 25 rows.*drop= leaves it out"),
    "lists": ([[1], [2]], TypeError, r"must hold numbers, .*, got \[1\], a list, in row 0; drop="),
    "complex numbers": ([1.0, 1j], TypeError, "got 1j, a complex, in row 1"),
    "an array of complex numbers": (np.array([1, 1j]), TypeError, "got dtype complex128"),
    "bytes": (np.array([b"a", b"b"]), TypeError, r"got dtype \|S1"),
    "objects": ([None, Thing()], TypeError, r"got Thing\(\), a Thing, in row 1"),
    "text and numbers": (["a", None, 3], TypeError, "of one kind, got 3 in row 2 among text; make"),
    "numbers and dates": (
        [1, datetime.date(2020, 1, 1)],
        TypeError,
        r"got datetime.date\(2020, 1, 1\) in row 1 among num",
    ),
    "two axes": (np.ones((2, 2)), ValueError, r"must have one axis, got shape \(2, 2\)"),
    "times": ([datetime.time(3), None], TypeError, "a time, in row 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_columns_are_refused_by_name(case):
    values, error, message = REFUSED[case]
    with pytest.raises(
        error, match="^column 'odd' of X " + (message if message.startswith("must") else f".*{message}")
    ):
        Table.of({"odd": values})
    assert Table.of({"odd": values, "a": np.arange(len(values))}, drop=["odd"]).feature_names == ["a"]


def test_nested_columns_of_frames_are_refused():
    for frame, kind in ((as_polars({"a": [[1], [2]]}), "List"), (as_polars({"a": [{"b": 1}, {"b": 2}]}), "Struct")):
        with pytest.raises(TypeError, match=f"column 'a' of X must hold .*, got {kind}"):
            Table.of(frame)
    with pytest.raises(TypeError, match=r"column 'a' of X must hold .* a list, in row 0"):
        Table.of(as_pandas({"a": [[1], [2]]}))


def test_text_is_taken_where_it_is_named_categorical():
    values = [*text(20), "x", "y", "x", "y"]
    assert Table.of({"a": values}, categorical=["a"]).feature_names == ["a=x", "a=y", "a unknown"]
    with pytest.raises(ValueError, match="column 'a' of X must repeat some values to be categories, got 20 of one row"):
        Table.of({"a": text(20)}, categorical=["a"])


def test_text_of_numbers_is_taken_where_it_is_named_numeric():
    found = Table.of({"a": ["1.5", " 2", "-3e1", None]}, numeric=["a"])
    assert found.to_dict() == Table.of({"a": [1.5, 2.0, -30.0, None]}).to_dict()
    for wrong in ("two", "nan", "1_0", "", "0x1"):
        with pytest.raises(ValueError, match=f"column 'a' of X must hold numbers, got '{wrong}' in row 1"):
            Table.of({"a": ["1", wrong]}, numeric=["a"])
    with pytest.raises(ValueError, match="column 'a' of X must hold numbers, got dates"):
        Table.of({"a": [datetime.date(2020, 1, 1)]}, numeric=["a"])


ARGUMENTS = {
    "no such column": ({"drop": ["c"]}, ValueError, r"drop must name columns of X, \['a', 'b'\], got 'c'"),
    "a string": ({"categorical": "a"}, TypeError, "categorical must be a list of columns, got 'a'"),
    "twice": (
        {"categorical": ["a"], "drop": ["b", "a"]},
        ValueError,
        "categorical and drop must differ, got 'a' in both",
    ),
    "one_hot_max": ({"one_hot_max": 1}, ValueError, "one_hot_max must be at least 2, got 1"),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_arguments_are_checked(case):
    options, error, message = ARGUMENTS[case]
    with pytest.raises(error, match=message):
        Table.of({"a": [1, 2], "b": [3, 4]}, **options)


def test_what_is_no_table():
    for X, error, message in (
        ([1, 2], ValueError, r"X must have shape \(rows, columns\), got \(2,\)"),
        ([[1, 2], [3]], ValueError, "X must have (rows of one length|shape)"),
        ("text", TypeError, "X must be a frame of pandas or polars"),
        ({"a": [1, 2], "b": [1]}, ValueError, "X must have columns of one length"),
        ({"a": []}, ValueError, "X must hold at least one row, got none"),
        (np.zeros((3, 0)), ValueError, "X must have a column that varies, got no column"),
        ({1.5: [1, 2]}, TypeError, "X must have columns called by strings or integers, got 1.5"),
    ):
        with pytest.raises(error, match=message):
            Table.of(X)


# ---- a table that is not like that of the training ----


def test_no_rows_and_no_values():
    frame = mixed()
    table = Table.of(frame)
    assert table.transform({name: column[:0] for name, column in frame.items()}).shape == (0, table.width)
    found = table.transform({name: [None] * 2 for name in frame})
    expected = [float(name.endswith(" missing")) for name in table.feature_names]
    assert found.tolist() == [expected] * 2


CHANGED = {  # in training, given, what is the same, what is refused, message
    "numbers": ([1, 2, 4, 9], ["2", "4.0", None], [2, 4, None], ["1", "two"], "numbers, got 'two' in row 1"),
    "numbers as truth values": ([0, 1, 2], [True, False], [1, 0], [datetime.date(2020, 1, 1)], "numbers, got dates"),
    "truth values": ([True, False], [1, 0.0, None], [True, False, None], [1, 2], "0 and 1, as in training, got 2 in"),
    "truth values as text": ([True, False], ["True", "0"], [True, False], ["True", "yes"], "got 'yes' in row 1"),
    "text": (
        ["1", "2", "A"],
        [2, 1.0, None],
        ["2", "1", None],
        [1, 3],
        "text of known values, as in tr.*, got 3 in row 1",
    ),
    "text with zeros": (["007", "8", "9"], [8], ["8"], [8, 7], "got 7 in row 1"),
    "dates": (
        [datetime.date(2020, 1, 1), datetime.date(2021, 3, 5)],
        ["2021-03-05", "2020-01-01T00:00"],
        [datetime.date(2021, 3, 5), datetime.date(2020, 1, 1)],
        ["2021-03-05", "5 March"],
        "dates, as in training, got '5 March' in row 1",
    ),
    "dates as numbers": (
        [datetime.date(2020, 1, 1), datetime.date(2021, 3, 5)],
        [None],
        [None],
        [3],
        "dates, .*, got num",
    ),
}


@pytest.mark.parametrize("case", CHANGED)
def test_a_column_of_another_dtype(case):
    training, given, same, refused, message = CHANGED[case]
    table = Table.of({"a": training})
    assert as_bits(table, {"a": given}) == as_bits(table, {"a": same})
    with pytest.raises(ValueError, match="^column 'a' of X must hold .*" + message):
        table.transform({"a": refused})


# ---- arrays ----


def test_plain_arrays():
    X = np.array([[1.0, 5], [2, np.nan], [4, 7], [8, 8]])
    table = Table.of(X)
    assert table.feature_names == ["x0", "x1", "x1 missing"]
    assert table.places == {0: slice(0, 1), 1: slice(1, 3)}
    assert as_bits(table, X) == as_bits(Table.of({"a": X[:, 0], "b": X[:, 1]}), X)
    assert as_bits(table, as_polars({"b": X[:, 0], "a": X[:, 1]})) == as_bits(table, X)  # no names, so by position
    assert as_bits(table, np.asfortranarray(X)) == as_bits(table, X.tolist()) == as_bits(table, X)
    with pytest.raises(ValueError, match="X must have 2 columns, as in training, got 3"):
        table.transform(np.ones((1, 3)))
    assert Table.from_dict(json.loads(json.dumps(table.to_dict()))).to_dict() == table.to_dict()


def test_arrays_of_objects_and_columns_by_number():
    rows = [["x", 1.5, 3, True], ["y", 2.5, 4, False], ["z", 9.0, 3, True]]
    for X in (rows, np.array(rows, object)):
        table = Table.of(X, categorical=[-2], drop=[3])
        assert table.feature_names == ["x0=x", "x0=y", "x0=z", "x1", "x2=4"]
        assert table.transform(X)[:, -1].tolist() == [-1, 1, -1]
    with pytest.raises(ValueError, match=r"drop must be indices in \[-4, 4\), got 4"):
        Table.of(rows, drop=[4])
    assert Table.of(np.array([["1", "x"], ["2", "y"]]), numeric=[0]).feature_names == ["x0", "x1=y"]


def test_an_array_of_objects_of_numbers_is_one_of_numbers():
    X = rng.normal(size=(20, 3))
    X[4, 1] = np.nan
    objects = np.where(np.isnan(X), None, X.astype(object))
    assert Table.of(objects).to_dict() == Table.of(X).to_dict()
    assert as_bits(Table.of(X), objects) == as_bits(Table.of(X), X)


def test_columns_of_polars_and_pyarrow_of_other_dtypes():
    pl = pytest.importorskip("polars", reason="polars is not installed")
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    whole, day = [4, None, 1, 9], datetime.datetime(2020, 2, 3)
    days = [day, None, day + datetime.timedelta(400)]
    for values, columns in (
        (
            whole,
            [pl.Series(whole, dtype=kind) for kind in (pl.UInt8, pl.Int64, pl.Int128, pl.Float32, pl.Decimal(9, 1))],
        ),
        (whole, [pa.array(whole, kind) for kind in (pa.uint8(), pa.int64(), pa.float32(), pa.decimal128(9, 1))]),
        (days, [pl.Series(days).cast(kind) for kind in (pl.Date, pl.Datetime("ms"), pl.Datetime("ns"))]),
        (days, [pa.array(days, kind) for kind in (pa.date32(), pa.date64(), pa.timestamp("s"), pa.timestamp("ns"))]),
        (["x", None, "y"], [pa.array(["x", None, "y"], kind) for kind in (pa.string(), pa.large_string())]),
        (["x", None, "y"], [pa.array(["x", None, "y"]).dictionary_encode()]),
        ([True, None, False], [pl.Series([True, None, False]), pa.array([True, None, False])]),
    ):
        expected = Table.of({"a": values})
        for column in columns:
            frame = pl.DataFrame({"a": column}) if isinstance(column, pl.Series) else pa.table({"a": column})
            assert Table.of(frame).to_dict() == expected.to_dict()
            assert as_bits(expected, frame) == as_bits(expected, {"a": values})


# ---- files ----


def changes(d):
    """(what it is, a description with one thing changed)."""

    def with_column(i, **more):
        found = json.loads(json.dumps(d))
        found["columns"][i] |= more
        return found

    number, category, date = (
        next(i for i, each in enumerate(d["columns"]) if each["kind"] == kind)
        for kind in ("numbers", "categories", "dates")
    )
    yield "no table", []
    yield "no labels", {"columns": d["columns"]}
    yield "another key", d | {"more": 1}
    yield "labels twice", d | {"labels": ["number"] * len(d["labels"])}
    yield "labels missing", d | {"labels": d["labels"][1:]}
    yield "labels of floats", d | {"labels": [0.5, *d["labels"][1:]]}
    yield "columns of numbers", d | {"columns": [1] * len(d["columns"])}
    yield "no columns", {"labels": [], "columns": []}
    yield "kind", with_column(0, kind="other")
    yield "kind of a list", with_column(0, kind=[])
    yield "field", with_column(0, other=1)
    yield "gaps", with_column(number, gaps=1)
    for scale in (-1.0, math.nan, math.inf, "1", None, True):
        yield f"scale {scale}", with_column(number, scale=scale)
    yield "centre", with_column(number, centre=math.inf)
    yield "origin", with_column(number, origin=0.5)
    yield "nothing", with_column(number, scale=0.0, gaps=False)
    for known in (
        [],
        ["b", "a"],
        ["a", "a"],
        ["a", 1],
        [1, math.nan],
        [1, 10**400],
        [True, False],
        [None],
        "ab",
        3,
        [[1], [2]],
    ):
        yield f"known {known}", with_column(category, known=known)
    yield "unknown", with_column(category, unknown="no")
    yield "coded", with_column(category, coded=True, gaps=True)
    for days in ([1], [3, 1], [1, 1], [1, 7], [1.0, 2.0], None, 5):
        yield f"weekdays {days}", with_column(date, weekdays=days)
    yield "year", with_column(date, year={"kind": "booleans", "gaps": False, "varies": True})
    yield "year of nothing", with_column(date, year=1)


def test_a_changed_description_is_refused():
    d = json.loads(json.dumps(Table.of(mixed()).to_dict()))
    for what, changed in changes(d):
        with pytest.raises((ValueError, TypeError), match=r".{20}"):
            pytest.fail(f"{what}: {Table.from_dict(changed).to_dict()}")


# ---- classes ----


@pytest.mark.parametrize(
    "labels",
    [
        ["red", "blue", "red", "été"],
        [True, False, True],
        [3, -1, 3, 2],
        [2**64 - 1, 2**64 - 2, 5],
        [1.0, 2.0, -3.0],
        np.array([1, 7], np.int8),
    ],
)
def test_classes_are_sorted_labels(labels):
    found = Classes.of(labels)
    given = list(labels)
    expected = sorted(set(given))
    assert found.labels.tolist() == expected
    assert found.codes(labels).tolist() == [expected.index(each) for each in given]
    assert found.labels[found.codes(labels)].tolist() == given


def test_classes_of_series():
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    pl = pytest.importorskip("polars", reason="polars is not installed")
    values = ["b", "a", "b"]
    for y in (
        pd.Series(values),
        pd.Series(values).astype("category"),
        pl.Series(values),
        pl.Series(values, dtype=pl.Categorical),
    ):
        assert Classes.of(y).labels.tolist() == ["a", "b"]
        assert Classes.of(values).codes(y).tolist() == [1, 0, 1]
    assert Classes.of(pd.Series([4, 2], dtype="Int64")).labels.tolist() == [2, 4]


def test_labels_that_are_none():
    for y, error, message in (
        (["a", None], ValueError, "y must hold no missing value, got one in row 1"),
        ([1.0, math.nan], ValueError, "got one in row 1"),
        ([None, None], ValueError, "got one in row 0"),
        ([], ValueError, "y must hold at least one label, got none"),
        ([1.0, 2.5], ValueError, "y must hold labels, text or whole numbers, got 2.5 in row 1; a regressor takes"),
        ([datetime.date(2020, 1, 1)], TypeError, "y must hold labels, got dates"),
        (["a", 1], TypeError, "y must hold values of one kind, got 1 in row 1"),
    ):
        with pytest.raises(error, match=message):
            Classes.of(y)
    for known, y, message in (
        (["a", "b"], ["a", "c"], r"y must hold the labels \['a', 'b'\], got 'c' in row 1"),
        (["1", "2"], [1], "got 1 in row 0"),
        ([1, 2], ["1"], "got '1' in row 0"),
        ([1, 2], [2, -(2**63)], "got -9223372036854775808 in row 1"),
        (np.array([1, 2], np.int8), [257], "got 257 in row 0"),
        (np.array([1, 2], np.int8), [2.0, 2.0**53], "got 9007199254740992.0 in row 1"),
        ([1, 2], [1, 1.0, 3], "got 3.0 in row 2"),
        ([True, False], [0, 2], "got 2 in row 1"),
        ([2**63, 2**63 + 1], [2**63, 5], "got 5 in row 1"),
    ):
        with pytest.raises(ValueError, match=message):
            Classes.of(known).codes(y)
    assert Classes.of([0, 1, 2]).codes([True, False]).tolist() == [1, 0]


# ---- numeric targets ----


@pytest.mark.parametrize("shape", [(40,), (40, 1), (40, 3)])
def test_targets_are_standardised(shape):
    y = rng.normal(1e6, 3, shape)
    found = Standardised.of(y)
    z = found.forward(y, "float64")
    assert z.shape == (40, math.prod(shape[1:]))
    for column, mine in zip(y.reshape(40, -1).T, z.T, strict=True):
        exact = [Fraction(each) for each in column]
        mean = sum(exact) / 40
        variance = sum((each - mean) ** 2 for each in exact) / 40
        np.testing.assert_allclose(mine, [float(each - mean) / math.sqrt(variance) for each in exact], rtol=1e-8)
    np.testing.assert_allclose(found.back(z), y, rtol=1e-15)
    again = Standardised.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again.back(z).tobytes() == found.back(z).tobytes()
    assert again.to_dict() == found.to_dict()


def test_logarithms_of_skewed_targets():
    normal = rng.normal(size=500)
    for y, expected in (
        (np.exp(normal), True),
        (np.exp(3 * normal), True),
        (normal - normal.min() + 1e-3, False),
        (np.exp(normal) - 0.5, False),
        (rng.exponential(1, 500) + 1e4, False),
        (np.ones(9), False),
    ):
        found = Standardised.of(y)
        assert found.logarithms.tolist() == [expected]
        np.testing.assert_allclose(found.back(found.forward(y, "float64")), y, rtol=1e-11)
    y = np.exp(normal)
    found = Standardised.of(y)
    logs = np.array([math.log(each) for each in y])
    expected = (logs - logs.mean()) / logs.std()
    np.testing.assert_allclose(found.forward(y, "float64")[:, 0], expected, atol=1e-12)
    assert not Standardised.of(y, log_target=False).logarithms.any()
    assert Standardised.of(np.stack([y, normal], axis=1)).logarithms.tolist() == [True, False]
    assert np.isfinite(found.back(np.array([[1e5]])))
    np.testing.assert_allclose(Standardised.of([1.0, 4.0], log_target=True).back(np.zeros((1, 1))), 2.0)


def test_a_constant_target_is_given_back():
    found = Standardised.of(np.full(7, 0.1))
    assert found.forward(np.full(7, 0.1), "float32").tolist() == [[0.0]] * 7
    assert found.back(np.zeros((1, 1))).tolist() == [0.1]


def test_targets_are_checked():
    for y, options, message in (
        ([1.0, math.nan], {}, r"y must hold finite numbers up to 1e\+140, got y\[1\] = nan"),
        ([[1.0, 2.0], [3.0, math.inf]], {}, r"got y\[1, 1\] = inf"),
        ([], {}, r"y must have shape \(n,\) or \(n, n_targets\), got \(0,\)"),
        ([1.0, 0.0], {"log_target": True}, r"y must be above 0 for log_target=True, got y\[1\] = 0.0"),
        ([1.0, 2.0], {"log_target": "yes"}, "log_target must be 'auto', True or False, got 'yes'"),
    ):
        with pytest.raises(ValueError, match=message):
            Standardised.of(y, **options)
    with pytest.raises(TypeError, match="y must hold numbers"):
        Standardised.of(["a", "b"])
    logs = Standardised.of([1.0, 2.0], log_target=True)
    with pytest.raises(ValueError, match=r"y must be above 0, as in training, got -1.0 in row 1"):
        logs.forward([1.0, -1.0], "float32")
    with pytest.raises(ValueError, match=r"y must have shape \(n,\), as in training, got \(1, 2\)"):
        logs.forward([[1.0, 2.0]], "float32")
    d = logs.to_dict()
    for changed in (
        *({**d, "deviations": [wrong]} for wrong in (0.0, -1.0, math.inf, "1", True)),
        *({**d, "logarithms": wrong} for wrong in ([1], [], True, [True, True])),
        {**d, "means": [math.nan]},
        {**d, "single": 1},
        {"means": [0.0]},
        {name: each * 2 if isinstance(each, list) else each for name, each in d.items()},
        3,
    ):
        with pytest.raises((ValueError, TypeError)):
            Standardised.from_dict(changed)


# ---- what it costs ----


def test_no_library_is_imported(run_python):
    source = """
import sys
from fastnn.data.tables import Table
Table.of({"a": ["x", "y"], "b": [1, 2]}).transform({"b": [1], "a": ["x"]})
print(*sorted({name.split('.')[0] for name in sys.modules}))
"""
    assert not set(run_python(source).stdout.split()) & {"pandas", "polars", "pyarrow", "sklearn", "numba"}


def test_random_tables_give_finite_numbers_and_come_back():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(30):
            n = int(rng.integers(2, 40))
            frame = {"a": np.arange(n)}
            for i in range(5):
                values = [
                    rng.normal(size=n) * 10.0 ** rng.integers(-300, 300),
                    rng.integers(-(2**63), 2**63 - 1, n) >> int(rng.integers(0, 64)),
                    np.array(["p", "q", "r"], object)[rng.integers(0, 3, n)],
                    rng.random(n) < 0.5,
                    rng.integers(-(10**10), 10**10, n).astype("M8[s]"),
                ][rng.integers(0, 5)]
                gone = rng.random(n) < rng.choice([0, 0.2, 1.0])
                frame[f"c{i}"] = [None if lost else each for each, lost in zip(values, gone, strict=True)]
            table = Table.of(frame)
            matrix = table.transform(frame, "float64")
            assert np.isfinite(matrix).all()
            assert np.abs(matrix).max() <= 3
            again = Table.from_dict(json.loads(json.dumps(table.to_dict(), allow_nan=False)))
            assert as_bits(again, frame, dtype="float64") == matrix.tobytes()


# ---- ranks and pieces ----


def test_ranks_and_pieces_of_numbers():
    """The rank among the training numbers, and how far each eighth of them is filled; gaps are zeros in all parts."""
    x = np.sort(rng.lognormal(size=257))
    x = x - x[128] + 5  # the median is 5
    table = Table.of({"x": [*x.tolist(), None], "two": [0, 1] * 129}, ranked=True)
    assert table.feature_names == ["x", "x rank", *(f"x piece {i}" for i in range(1, 9)), "x missing", "two"]
    assert table.pieces == list(range(2, 10))
    new = [float(x[0]), float(x[256]), float(x[64]), -1e6, 1e6, None, float((x[100] + x[102]) / 2)]
    matrix = table.transform({"x": new, "two": [0] * 7}, "float64")
    # Quantile i of 128 is x[2 i]; an eighth has 16 of these.
    np.testing.assert_allclose(matrix[:6, 1], [-1.7, 1.7, -0.85, -1.7, 1.7, 0], atol=1e-12)
    np.testing.assert_allclose(matrix[6, 1], 1.7 * (2 * 50.5 / 128 - 1))
    edges = x[::32]
    pieces = [[min(max((value - low) / (high - low), 0), 1) for low, high in itertools.pairwise(edges)] for value in x]
    np.testing.assert_allclose(
        table.transform({"x": x.tolist(), "two": [0] * 257}, "float64")[:, 2:10], pieces, atol=1e-12
    )
    np.testing.assert_array_equal(matrix[3:6, 2:10], [[0] * 8, [1] * 8, [0] * 8])
    z = (x - 5) / (x[192] - x[64])
    np.testing.assert_allclose(
        table.transform({"x": x.tolist(), "two": [0] * 257}, "float64")[:, 0], z / np.sqrt(1 + (z / 20) ** 2), rtol=1e-9
    )
    again = Table.from_dict(json.loads(json.dumps(table.to_dict())))
    np.testing.assert_array_equal(again.transform({"x": new, "two": [0] * 7}, "float64"), matrix)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda q: q[:-1], "quantiles must be 129 sorted numbers that differ, got 128"),
        (lambda q: q[::-1], "quantiles must be 129 sorted"),
        (lambda q: [1.0] * 129, "quantiles must be 129 sorted"),
        (lambda q: [*q[:-1], "a"], "quantiles must be a"),
        (lambda q: 3, "quantiles must be a list of numbers, got 3"),
    ],
)
def test_quantiles_that_are_none(change, message):
    d = Table.of({"x": list(range(50))}, ranked=True).to_dict()
    d["columns"][0]["quantiles"] = change(list(d["columns"][0]["quantiles"]))
    with pytest.raises((ValueError, TypeError), match=message):
        Table.from_dict(d)
