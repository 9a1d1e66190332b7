"""C headers of estimators that read tables: functions of columns, which compute in double, and whole tables."""

import ctypes
import re

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the extra sklearn is not installed")
pytest.importorskip("pandas", reason="pandas is not installed")

import pandas as pd

import fastnn
from fastnn.data.tables import Table
from fastnn.exchange import c_columns, numpy_columns
from fastnn.exchange.computation import INPUTS, NUMBERS, OF_COLUMNS, Computation, Decision, Input, Steps
from fastnn.exchange.describing import add_table, computation_of, matrix_of

from ..cases import DTYPES
from .test_export_c import (
    COMPILED,
    COMPILERS,
    OF_SOFTWARE,
    PASSED,
    TRAPS,
    WAYS,
    Compiled,
    compiler,
    header,
    ran,
    run,
    self_tests,
    symbols,
)
from .test_export_computation import fitted_to_table, new_rows, table

rng = np.random.default_rng(0)
KINDS = ["classes", "numbers", "logarithms", "several"]
DAYS = np.concatenate(
    [rng.uniform(-4e6, 4e6, 2000), np.arange(-2e5, 2e5, 37), np.arange(-800, 800) + 0.75, [-(4e8) + 1, 4e8 - 1, np.nan]]
)


def columns_alone(frame, dtype, ranked):
    """(a table, the computation of its matrix)."""
    made = Table.of(frame, ranked=ranked)
    steps = Steps(sum(bool(each.suffixes()) for each in made.encodings), dtype)
    _, inputs = add_table(steps, made)
    return made, Computation(dtype, len(inputs), tuple(steps.made), Decision(NUMBERS), inputs=inputs)


def of_dates(dtype):
    """The computation of everything that a date becomes."""
    steps = Steps(1, dtype)
    parts = steps.add("date_parts", INPUTS, width=4, column=0)
    each = [steps.add("cycle", parts, width=2, column=i) for i in (1, 2)]
    each += [steps.add("one_hot", parts, width=7, column=3, places=np.arange(7.0))]
    each += [steps.add("missing", INPUTS, width=1, column=0)]
    how = {"centre": 1970.0, "scale": 30.0, "limit": 3.0, "cuts": np.empty(0), "edges": np.empty(0)}
    each += [steps.add("numbers", parts, width=1, column=0, **how)]
    steps.add("joined", *each, width=13)
    return Computation(dtype, 1, tuple(steps.made), Decision(NUMBERS), inputs=(Input("when", "date"),))


def of_shifted(dtype):
    """The computation of columns that follow one another, and of others, with gaps filled."""
    steps, numbers = Steps(4, dtype), np.linspace(-1e6, 1e6, 3)
    parts = [
        steps.add("shifted_columns", INPUTS, width=3, which=np.array(which), shift=numbers, scale=1 / (1 + numbers**2))
        for which in ([1, 2, 3], [3, 0, 3])
    ]
    parts[1] = steps.add("imputed", parts[1], fill=np.array([0.5, -1, 2]))
    steps.add("joined", *parts, width=6)
    inputs = tuple(Input(name, "number") for name in "abcd")
    return Computation(dtype, 4, tuple(steps.made), Decision(NUMBERS), inputs=inputs)


@pytest.mark.parametrize("dtype", DTYPES)
def test_shifted_columns(dtype, tmp_path):
    """They are subtracted from as doubles, whatever the network's type is."""
    computation = of_shifted(dtype)
    X = rng.normal([0, -1e6, 0, 1e6], 1, (300, 4))
    X[rng.random(X.shape) < 0.2] = np.nan
    found = Compiled(tmp_path, [header(tmp_path, computation)], compiler("gcc"), "-O2").outputs("net", computation, X)
    shift = np.array([-1e6, 0, 1e6])
    scale = 1 / (1 + shift**2)
    filled = (X[:, [3, 0, 3]] - shift) * scale
    filled = np.where(np.isnan(filled), [0.5, -1, 2], filled)
    expected = np.hstack([(X[:, 1:] - shift) * scale, filled])
    bound = {"float32": 2e-7, "float64": 1e-15}[dtype]
    np.testing.assert_allclose(found, expected, rtol=bound, atol=0)


def test_every_function_can_be_written():
    assert set(OF_COLUMNS) == c_columns.WRITERS.keys()


@pytest.mark.parametrize("options", [["-O0"], TRAPS, ["-O3", "-march=native"]], ids=lambda each: each[-1])
@pytest.mark.parametrize("dtype", DTYPES)
def test_columns(dtype, options, tmp_path):
    """Against the table itself: gaps, unknown values, numbers and dates that lie far out."""
    frame, cases = table(), {}
    frame["flat"], frame["far"] = 7.0, 10.0 ** rng.uniform(-5, 200, len(frame))
    frame.loc[3, "flat"] = None
    other = new_rows(frame)
    other.loc[::6, "built"] = pd.Timestamp("1700-02-28 13:14:15")
    other.loc[::4, "area"], other.loc[::4, "far"] = -1e300, 1e300
    for ranked in (False, True):
        cases[f"ranked{ranked:d}"] = columns_alone(frame, dtype, ranked)
    paths = [header(tmp_path, computation, name) for name, (_, computation) in cases.items()]
    compiled = Compiled(tmp_path, paths, compiler("gcc"), *options)
    bound = {"float32": 2e-7, "float64": 5e-11}[dtype]  # a time of the day in microseconds is that of a date in days
    for name, (made, computation) in cases.items():
        for rows in (frame, other):
            found = compiled.outputs(name, computation, matrix_of(made, rows))
            np.testing.assert_allclose(found, made.transform(rows, dtype), rtol=bound, atol=bound, err_msg=name)


@pytest.mark.parametrize("options", [["-O0"], TRAPS, ["-O3", "-march=native"]], ids=lambda each: each[-1])
@pytest.mark.parametrize("dtype", DTYPES)
def test_dates(dtype, options, tmp_path):
    """Of ten thousand years, the sines to 1e-12; of a million years; what is no date gives no number out of range."""
    computation = of_dates(dtype)
    compiled = Compiled(tmp_path, [header(tmp_path, computation, "date")], compiler("gcc"), *options)
    found, expected = compiled.outputs("date", computation, DAYS[:, None]), computation.outputs(DAYS[:, None])
    assert np.isnan(expected).sum() == 0
    bound = {"float32": 2e-7, "float64": 1e-12}[dtype]
    np.testing.assert_allclose(found, expected, rtol=bound, atol=bound)
    assert np.isfinite(compiled.outputs("date", computation, np.array([[1e300], [-1e300], [np.inf], [-np.inf]]))).all()


def test_a_part_of_a_cycle(tmp_path):
    """To 1e-15 of a period, its ends and eighths among them."""
    steps = Steps(1, "float64")
    steps.add("cycle", INPUTS, width=2, column=0)
    computation = Computation("float64", 1, tuple(steps.made), Decision(NUMBERS), inputs=(Input("part", "number"),))
    compiled = Compiled(tmp_path, [header(tmp_path, computation)], compiler("gcc"), "-O2")
    parts = np.concatenate([np.arange(8001) / 8000, np.nextafter(np.arange(9) / 8, 0), rng.random(5000)])
    angles = 2 * np.arctan2(0, -np.longdouble(1)) * parts.astype(np.longdouble)
    expected = np.stack([np.sin(angles), np.cos(angles)], axis=1)
    assert np.abs(compiled.outputs("net", computation, parts[:, None]) - expected).max() < 1e-15


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
def test_numbers_of_all_sizes(scale, tmp_path):
    """Against NumPy, with ranks and without, at and beside each cut."""
    cuts = np.sort(rng.normal(0, 1, 40)) * scale
    cases = {}
    for name, cut, edges in (("plain", cuts[:0], cuts[:0]), ("two", cuts[:2], cuts[:0]), ("all", cuts, cuts[::10])):
        steps = Steps(1, "float64")
        width = 1 + bool(len(cut)) + max(0, len(edges) - 1)
        how = {"centre": scale / 3, "scale": scale, "limit": 20.0, "cuts": cut, "edges": edges}
        steps.add("numbers", INPUTS, width=width, column=0, **how)
        cases[name] = Computation("float64", 1, tuple(steps.made), Decision(NUMBERS), inputs=(Input("x", "number"),))
    X = np.concatenate([cuts, np.nextafter(cuts, np.inf), rng.normal(0, 2, 500) * scale, [0, 1e300, -1e300, np.nan]])
    paths = [header(tmp_path, each, name) for name, each in cases.items()]
    compiled = Compiled(tmp_path, paths, compiler("gcc"), "-O2")
    for name, each in cases.items():
        with np.errstate(all="ignore"):
            expected = numpy_columns.numbers(X[:, None], **each.steps[0].operands)
        np.testing.assert_allclose(compiled.outputs(name, each, X[:, None]), expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_estimators(kind, tmp_path):
    """What the estimator predicts, of rows with all that training had not."""
    frame = table()
    estimator = fitted_to_table(frame, kind)
    estimator.export(tmp_path / "net.h", rows=frame)
    assert fastnn.verify(tmp_path / "net.h").passed
    computation, rows = computation_of(estimator), new_rows(frame)
    compiled = Compiled(tmp_path, [tmp_path / "net.h"], compiler("gcc"), "-O2")
    outputs = compiled.outputs("net", computation, matrix_of(estimator.table_, rows))
    assert outputs.dtype == np.float32
    if kind == "classes":
        np.testing.assert_allclose(outputs, estimator.predict_proba(rows), atol=3e-6)
        np.testing.assert_array_equal(computation.predictions(outputs), estimator.predict(rows))
    else:
        np.testing.assert_allclose(computation.predictions(outputs), estimator.predict(rows), rtol=1e-5)


def test_what_a_program_writes(tmp_path):
    """Categories by their names, a date by its day, a missing value by NaN."""
    frame = table()[["rooms", "town", "built"]]
    estimator = fitted_to_table(frame.assign(area=table()["area"]), "classes", columns=[*frame])
    estimator.export(tmp_path / "homes.h")
    (tmp_path / "homes.c").write_text(
        """#include "homes.h"
int32_t classify(double none, int32_t *day);
int32_t classify(double none, int32_t *day)
{
    const double x[HOMES_INPUTS] = {3, HOMES_TOWN_OSLO, homes_days(1962, 2, 28)}, y[] = {none, none, none};
    *day = (int32_t)x[2];
    return 10 * homes_classify(x) + homes_classify(y);
}
"""
    )
    run(*compiler("gcc"), "-shared", "-fPIC", "homes.c", "-o", "homes.so", cwd=tmp_path)
    day = ctypes.c_int32()
    classify = ctypes.CDLL(str(tmp_path / "homes.so")).classify
    found = classify(ctypes.c_double(np.nan), ctypes.byref(day))
    rows = pd.DataFrame(
        {"rooms": [3, None], "town": ["Oslo", None], "built": [pd.Timestamp("1962-02-28"), None]},
    )
    first, second = (estimator.classes_.tolist().index(each) for each in estimator.predict(rows))
    assert (found, day.value) == (10 * first + second, -2864)


def test_days(tmp_path):
    """Those of NumPy's calendar."""
    header(tmp_path, of_dates("float32"), "date")
    (tmp_path / "days.c").write_text(
        '#include "date.h"\ndouble days(int32_t year, int32_t month, int32_t day);\n'
        "double days(int32_t year, int32_t month, int32_t day) { return date_days(year, month, day); }\n"
    )
    run(*COMPILERS["gcc"], "-shared", "-fPIC", "days.c", "-o", "days.so", cwd=tmp_path)
    days = ctypes.CDLL(str(tmp_path / "days.so")).days
    days.restype = ctypes.c_double
    for since in [*range(-800_000, 800_000, 997), *range(-800, 800, 7)]:
        date = np.datetime64(since, "D")
        month = date.astype("M8[M]")
        year = month.astype("M8[Y]").astype(int) + 1970
        civil = year, month.astype(int) % 12 + 1, (date - month.astype("M8[D]")).astype(int) + 1
        assert days(*map(int, civil)) == since


def test_names_of_categories(tmp_path):
    """One for each that can have its own; comments name the others, and no name ends one."""
    names = {
        "town": ("Bern", "bern", "São Paulo", "*/ int x; /*", "größe", "->", "??/"),
        "size*/": (-1.5, 2, 30),
        "inputs": ("",),
        "": ("a",),
        "a b": ("c",),
        "a": ("b c",),
    }
    inputs = tuple(Input(name, "category", values) for name, values in names.items())
    steps = Steps(len(inputs), "float32")
    each = [steps.add("codes", INPUTS, width=1, column=column) for column in range(len(inputs))]
    steps.add("joined", *each, width=len(inputs))
    computation = Computation("float32", len(inputs), tuple(steps.made), Decision(NUMBERS), inputs=inputs)
    path = header(tmp_path, computation)
    text = path.read_text()
    assert re.findall(r"^#define NET_(\w+) (\d+)", text, re.M) == [
        *(("INPUTS", "6"), ("OUTPUTS", "6"), ("TOWN_S_O_PAULO", "3"), ("TOWN_INT_X", "4"), ("TOWN_GR_SSE", "5")),
        *(("SIZE_1_5", "1"), ("SIZE_2", "2"), ("SIZE_30", "3")),
    ]
    assert "/* 2 is 'town': 'bern' */" in text
    assert "/* 6 is 'town': '->' */" in text
    assert "x[1] 'size* /': a category, by its number" in text
    run(*compiler("gcc"), "-std=c99", "-Wall", "-Werror", "-fsyntax-only", path)
    X = np.array([[0, 1, np.nan, 7, 65536, 3.0]])
    found = Compiled(tmp_path, [path], compiler("gcc"), "-O1").outputs("net", computation, X)
    np.testing.assert_array_equal(found, np.nan_to_num(X))


def test_a_changed_cut_is_found(tmp_path):
    fitted_to_table(table(), "numbers").export(tmp_path / "net.h")
    text = (tmp_path / "net.h").read_text()
    changed = re.sub(r"(net_scaling\d+\[3\] = \{\s+)", r"\g<1>1.0 + ", text, count=1)
    (tmp_path / "net.h").write_text(changed)
    found = fastnn.verify(tmp_path / "net.h")
    assert found.error > 1e-5
    assert (found.intact, found.passed) == (False, False)


# ---- compilers ----


@pytest.fixture(scope="module", params=DTYPES)
def tables(request, tmp_path_factory):
    """(a folder with headers, a source that calls them, their names)."""
    folder, dtype = tmp_path_factory.mktemp("tables"), request.param
    real = {"float32": "float", "float64": "double"}[dtype]
    cases = {"dates": of_dates(dtype), "columns": columns_alone(table(), dtype, True)[1], "shifted": of_shifted(dtype)}
    if dtype == "float32":
        cases |= {kind: computation_of(fitted_to_table(table(), kind)) for kind in KINDS}
    lines = list[str]()
    for name, computation in cases.items():
        header(folder, computation, name)
        rows = f"void rows_{name}(const double *x, {real} *y, int32_t n)"
        lines += [f'#include "{name}.h"', f"{rows};", f"{rows}\n{{\n    {name}_predict_rows(x, y, n);\n}}"]
    (folder / "tables.c").write_text("\n".join(lines) + "\n")
    return folder, folder / "tables.c", [*cases]


@pytest.mark.slow
@pytest.mark.parametrize(("tables", "name", "options"), COMPILED, indirect=["tables"])
def test_no_warning_and_nothing_needed(name, options, tables, tmp_path):
    _, source, _ = tables
    own, others = symbols(name, options, source, tmp_path)
    assert "rows_dates" in " ".join(own)
    assert [each for each in others if not (name.startswith("Cortex") and each.startswith(OF_SOFTWARE))] == []


@pytest.mark.slow
def test_cppcheck_finds_nothing(tables):
    folder, source, names = tables
    check = [*compiler("cppcheck"), "--enable=warning,style,performance,portability", "--error-exitcode=1", "--quiet"]
    macros = [f"-D{name.upper()}_SELFTEST" for name in names]
    assert run(*check, "--std=c99", *macros, source, cwd=folder) == ""


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_self_tests_pass(way, tables, tmp_path):
    """All of them in one program."""
    folder, _, names = tables
    tests, tested = self_tests(names)
    (tmp_path / "tests.c").write_text("\n".join([*tests, f"int main(void)\n{{\n    return {tested};\n}}\n"]))
    said = ran(*WAYS[way], tmp_path / "tests.c", tmp_path, folder)
    assert len(PASSED.findall(said)) == len(names)
