"""Random tables: the same values in other types, libraries and orders of columns give the same matrix and bits."""

import datetime
import json
import tempfile
import warnings
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

import fastnn
from fastnn.data.tables import Table

from .helpers import attack, chance, pick

DAY = datetime.datetime(2020, 2, 28, 12)
TOWNS = ("", "Bern", "Oslo", "Rome", "São Paulo", "NaN", "1", "007", " x ", "\U0001f600")


def random_values(rng, n):
    """(a kind, n values of Python, None where one is missing)."""
    kind = pick(
        rng, ["whole", "whole", "large", "numbers", "numbers", "truth", "text", "text", "many", "dates", "spans"]
    )
    draw = {
        "whole": lambda: rng.integers(-3, pick(rng, [4, 100]), n).tolist(),
        "large": lambda: (rng.integers(-100, 100, n) + 2**60).tolist(),
        "numbers": lambda: (rng.integers(-4000, 4000, n) / 4).tolist(),  # which float32 has too
        "truth": lambda: (rng.random(n) < 0.4).tolist(),
        "text": lambda: [TOWNS[i] for i in rng.integers(0, int(rng.integers(1, len(TOWNS) + 1)), n)],
        "many": lambda: [f"code {i}" for i in rng.integers(0, max(n // 2, 1), n)],
        "dates": lambda: [DAY + datetime.timedelta(seconds=int(s)) for s in rng.integers(0, 10**8, n)],
        "spans": lambda: [datetime.timedelta(seconds=int(s)) for s in rng.integers(-(10**6), 10**6, n)],
    }
    values = draw[kind]()
    if chance(rng, 0.4):
        share = pick(rng, [0.1, 0.5, 1.0])
        values = [None if rng.random() < share else each for each in values]
    return kind, values


def filled(values, gap):
    return [gap if each is None else each for each in values]


def in_numpy(rng, kind, values):
    """The values as an array of NumPy or as a list."""
    whole, gaps = kind in ("whole", "large"), None in values
    ways = ["list", "objects"]
    if kind in ("whole", "numbers"):
        ways += ["f8", "f4", "decimals"]
    if whole and not gaps:
        ways += ["i8", ">i8", *([] if kind == "large" else ["i2", "f2"])]
    if kind == "truth" and not gaps:
        ways += ["?"]
    if kind in ("text", "many") and not gaps:
        ways += ["U", "T"]
    if kind in ("dates", "spans"):
        ways += ["s", "us", "ns"]
    way = pick(rng, ways)
    if way == "list":
        return values
    if way == "decimals":
        return filled([None if each is None else Decimal(each) for each in values], Decimal("NaN"))
    if way == "objects":
        found = np.empty(len(values), object)
        found[:] = filled(values, pick(rng, [None, np.nan]))
        return found
    if way in ("s", "us", "ns"):
        return np.array(filled(values, "NaT"), f"{'M' if kind == 'dates' else 'm'}8[us]").astype(
            f"{'M' if kind == 'dates' else 'm'}8[{way}]"
        )
    if way in ("U", "T"):
        return np.array(values, str if way == "U" else np.dtypes.StringDType())
    return np.array(filled(values, np.nan) if gaps else values, way)


def in_pandas(rng, kind, values):
    """The values as a series."""
    own = {"whole": "Int64", "large": "Int64", "numbers": "Float64", "truth": "boolean"}
    ways = ["numpy", "numpy", *(["own"] if kind in own else []), *(["category"] if kind == "text" else [])]
    way = pick(rng, ways)
    if way == "own":
        return pd.Series(values, dtype=own[kind])
    if way == "category":
        return pd.Series(values, dtype=object).astype("category")
    found = in_numpy(rng, kind, values)
    if isinstance(found, np.ndarray):
        return pd.Series(found.astype(found.dtype.newbyteorder("=")) if found.dtype.kind in "iuf" else found)
    return pd.Series(found, dtype=object)


def in_polars(rng, kind, values):
    types = {"whole": [pl.Int64, pl.Int16, pl.Float64], "large": [pl.Int64], "numbers": [pl.Float64, pl.Float32]}
    types |= {"truth": [pl.Boolean], "text": [pl.String, pl.Categorical], "many": [pl.String]}
    types |= {"dates": [pl.Datetime("us"), pl.Datetime("ms")], "spans": [pl.Duration("us"), pl.Duration("ns")]}
    return pl.Series(values, dtype=pick(rng, types[kind]))


def in_arrow(rng, kind, values):
    types = {"whole": [pa.int64(), pa.int16(), pa.float64()], "large": [pa.int64()]}
    types |= {"numbers": [pa.float64(), pa.float32()], "truth": [pa.bool_()], "many": [pa.string(), pa.large_string()]}
    types |= {"text": [pa.string(), pa.dictionary(pa.int8(), pa.string())]}
    types |= {"dates": [pa.timestamp("us"), pa.timestamp("s")], "spans": [pa.duration("us"), pa.duration("s")]}
    return pa.array(values, pick(rng, types[kind]))


FORMS = {
    "a dict": (in_numpy, dict),
    "pandas": (in_pandas, pd.DataFrame),
    "polars": (in_polars, pl.DataFrame),
    "pyarrow": (in_arrow, pa.table),
}


def frame_of(rng, columns, order=None):
    """(the name of a library, a frame of its own): columns, {name: (kind, values)}, in types of its own."""
    form = pick(rng, sorted(FORMS))
    column, table = FORMS[form]
    names = list(columns) if order is None else [list(columns)[i] for i in order]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pandas, about objects
        return form, table({name: column(rng, *columns[name]) for name in names})


def learned(frame, options):
    """The table of a frame, or the type of the error."""
    try:
        return Table.of(frame, **options)
    except (ValueError, TypeError) as error:
        return type(error)


@attack(cases=60, share=1)
def test_the_same_values_in_other_types(rng):
    """What is learned, the matrix and its rows depend on no type, library, order of columns or file."""
    n = int(pick(rng, [1, 2, 5, 40, 300]))
    columns = {f"c{i}": random_values(rng, n) for i in range(int(rng.integers(1, 8)))}
    of_text = [name for name, (kind, _) in columns.items() if kind in ("text", "many")]
    options = {"ranked": chance(rng, 0.5), "one_hot_max": int(pick(rng, [2, 3, 12]))}
    # Categories of a library are taken where text is refused that hardly repeats.
    options["categorical"] = of_text + [name for name in columns if chance(rng, 0.1) and columns[name][0] == "whole"]
    dtype = pick(rng, ["float32", "float64"])
    (form, one), (other_form, other) = frame_of(rng, columns), frame_of(rng, columns)
    told = f"{form}, {other_form}, {options}, {columns}"
    try:
        table, same = learned(one, options), learned(other, options)
        if isinstance(table, type) or isinstance(same, type):
            assert table is same, f"{table}, {same}"
            return
        assert table.to_dict() == same.to_dict()
        whole = table.transform(one, dtype)
        assert whole.shape == (n, table.width)
        assert np.isfinite(whole).all()
        order = rng.permutation(len(columns))
        for form, again in (frame_of(rng, columns, order), frame_of(rng, columns)):
            assert table.transform(again, dtype).tobytes() == whole.tobytes(), form
        restored = Table.from_dict(json.loads(json.dumps(table.to_dict())))
        some = rng.permutation(n)[: rng.integers(1, n + 1)]
        few = {name: (kind, [values[i] for i in some]) for name, (kind, values) in columns.items()}
        form, rows = frame_of(rng, few)
        assert restored.transform(rows, dtype).tobytes() == whole[some].tobytes(), form
        assert (table.transform(one, "float64").astype("f4") == table.transform(one, "float32")).all()
    except Exception as error:
        raise AssertionError(f"{error!r}: {told}") from error


@attack(cases=4, share=1)
def test_estimators_of_the_same_values(rng):
    """Fits on the same values have the same bits, in any types; and so have their files."""
    n = int(rng.integers(30, 80))
    columns = {f"c{i}": random_values(rng, n) for i in range(int(rng.integers(1, 5)))} | {
        "x": ("numbers", (rng.integers(-400, 400, n) / 4).tolist())
    }
    of_text = [name for name, (kind, _) in columns.items() if kind in ("text", "many")]
    kind, y = pick(
        rng,
        [
            (fastnn.TabularClassifier, np.array(["a", "b"])[rng.integers(0, 2, n)]),
            (fastnn.TabularRegressor, rng.normal(size=n)),
            (fastnn.TabularRegressor, rng.normal(size=(n, 2))),
        ],
    )
    settings = {"n_members": 2, "epochs": 2, "hidden_layer_sizes": 4, "categorical": of_text, "random_state": 0}
    (form, one), (other_form, other) = frame_of(rng, columns), frame_of(rng, columns)
    try:
        if isinstance(learned(one, {"categorical": of_text}), type):  # of categories that come once each
            return
        model = kind(**settings).fit(one, y)
        again = kind(**settings, threads=int(rng.integers(1, 3))).fit(other, y)
        expected = model.predict(one)
        assert (again.predict(one) == expected).all()
        with tempfile.TemporaryDirectory() as folder:
            model.save(Path(folder, "model"))
            loaded = fastnn.load(Path(folder, "model"))
        order = rng.permutation(len(columns))
        assert (loaded.predict(frame_of(rng, columns, order)[1]) == expected).all()
    except Exception as error:
        raise AssertionError(f"{error!r}: {form}, {other_form}, {kind.__name__}, {columns}") from error
