"""Writes the table of docs/how-to/export.md, what each format holds and how exactly: `python docs/exports.py`.

Each cell is measured. A network is trained, exported, and verified by its own rows. Then 1,000 other rows run in what
runs the file: ONNX Runtime, a C compiler, node or Python. It takes about two minutes.
"""

import contextlib
import io
import json
import math
import re
import runpy
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastnn
from fastnn.settings.layers import HIDDEN

PAGE = Path(__file__).parent / "how-to" / "export.md"
BEGIN, END = "<!-- written by docs/exports.py -->\n\n", "\n<!-- until here -->\n"
COLUMNS = [(suffix, dtype) for suffix in (".onnx", ".h", ".mjs", ".py") for dtype in ("float32", "float64")]
COLUMNS += [(".onnx", "int8"), (".h", "int8")]
LEAST = {"float32": 1e-7, "float64": 1e-16, "int8": 1e-3}  # smaller errors are shown as this
N_INPUTS, N_ROWS, N_TRAINED = 6, 1000, 300
rng = np.random.default_rng(0)


class Case(NamedTuple):
    """A trained network, rows, and what it gives for them."""

    what: Any
    X: Any  # (rows, inputs), or the columns of a table
    outputs: Any  # (rows, outputs)
    predictions: Any = None  # labels (rows,), several labels (rows, outputs), or None where outputs are numbers
    options: dict = {}  # noqa: RUF012  (of the export)


# ---- networks ----


def rows(dtype, n=N_ROWS):
    """Rows that float32 holds, in the dtype."""
    return rng.standard_normal((n, N_INPUTS), dtype=np.float32).astype(dtype)


def targets(model, X):
    """Numbers, or the indices of classes, that follow from the rows."""
    found = X[:, : model.sizes[-1]] / 2
    if model.loss_name == "gaussian":
        return found[:, : model.sizes[-1] // 2]
    if model.loss_name == "poisson":
        return np.exp(found).round()
    return (found > 0).astype(X.dtype) if model.sizes[-1] == 1 else found


def outputs_of(model, X):
    """What a model predicts, deviations beside means."""
    return np.hstack(model.predict(X, return_std=True)) if model.loss_name == "gaussian" else model.predict(X)


def network(*layers, labels=None, classes=None, codes=(), expressions=None, trained=True, **how):
    """A function of a dtype: the case of a `Model`. With labels or classes its outputs decide between these."""
    labels = labels if classes is None else np.arange(classes)

    def made(dtype):
        model = fastnn.Model([N_INPUTS, *layers], dtype=dtype, rng=0, **how)
        X, new = rows(dtype, N_TRAINED), rows(dtype)
        for x in (X, new):
            x[:, codes] = rng.integers(0, 5, (len(x), len(codes)))
            x += np.asarray(how.get("input_shift", 0), dtype)
        y = targets(model, X - np.asarray(how.get("input_shift", 0), dtype))
        if model.sizes[-1] > 1 and labels is not None:
            y = y.argmax(axis=1)
        if trained:
            model.fit(X, y, epochs=3, batch_size=50, optimizer=fastnn.Adam())
        options = {} if labels is None else {"labels": labels}
        options |= {} if expressions is None else {"expressions": expressions}
        predictions = None if labels is None else np.asarray(labels)[model.classify(new)]
        return Case(model, new, outputs_of(model, new), predictions, options)

    return made


def population(*layers, **how):
    """A function of a dtype: the case of a `Population`, whose outputs are averaged."""

    def made(dtype):
        found = fastnn.Population([N_INPUTS, *layers], 3, dtype=dtype, rng=0, **how)
        X, new = rows(dtype, N_TRAINED), rows(dtype)
        found.fit(X, targets(found[0], X), epochs=3, batch_size=50, optimizer=fastnn.Adam())
        each = np.array([outputs_of(member, new) for member in found], np.float64)
        if found[0].loss_name != "gaussian":
            return Case(found, new, each.mean(axis=0))
        means, deviations = np.split(each, 2, axis=2)  # of the mixture of the members' distributions
        mean = means.mean(axis=0)
        return Case(found, new, np.hstack([mean, np.sqrt((deviations**2 + means**2).mean(axis=0) - mean**2)]))

    return made


def estimator(kind, classes, **how):
    """A function of a dtype: the case of an estimator of rows, whose targets are text, numbers or several labels."""

    def made(dtype):
        X, new = rows(dtype, N_TRAINED), rows(dtype)
        y = {"text": np.array(["low", "mïd", "high"])[X[:, :3].argmax(axis=1)], "numbers": X[:, :2]}
        y["several"] = (X[:, :3] > 0).astype(int)
        found = kind(hidden_layer_sizes=8, max_iter=3, random_state=0, **how).fit(X, y[classes])
        if classes == "numbers":
            return Case(found, new, found.predict(new))
        return Case(found, new, found.predict_proba(new), found.predict(new))

    return made


def pipeline(dtype):
    """The case of a Pipeline of a scaler and scikit-learn's MLP, which is of the dtype of its rows."""
    X, new = rows(dtype, N_TRAINED), rows(dtype)
    y = np.array(["low", "mïd", "high"])[X[:, :3].argmax(axis=1)]
    found = make_pipeline(StandardScaler(), MLPClassifier(8, max_iter=3, random_state=0)).fit(X, y)
    return Case(found, new, found.predict_proba(new), found.predict(new))


def table(n, gap):
    """Columns of numbers, text and dates. Every seventh number and every ninth text is missing, and a town is new."""
    area, town = rng.uniform(20, 120, n).round(), rng.choice(["Bern", "Oslo", "São Paulo"], n).astype(object)
    area[::7], town[::9], town[1::9] = np.nan, None, gap
    return {"area": area, "town": town, "built": np.datetime64("1950-01-01") + rng.integers(0, 25000, n)}


def tabular(kind, classes):
    """A function of a dtype: the case of an estimator of tables, which is float32 alone."""

    def made(dtype):
        if dtype == "float64":
            return None
        old, new = table(N_TRAINED, "Bern"), table(N_ROWS, "Rome")
        y = np.nan_to_num(old["area"]) / 100 + (old["town"] == "Oslo")
        y = np.where(y > 1, "dear", "cheap") if classes else y
        found = kind(n_members=2, epochs=5, random_state=0).fit(old, y)
        if classes:
            return Case(found, new, found.predict_proba(new), found.predict(new))
        return Case(found, new, found.predict(new)[:, None])

    return made


def softsign(z):
    """An activation of a user."""
    return z / (1 + abs(z))


def softsign_slope(z):
    """Its derivative."""
    return 1 / (1 + abs(z)) ** 2


Dense, OWN = fastnn.Dense, fastnn.Activation(softsign, softsign_slope)
# Of the activation above, in the format of each suffix.
EXPRESSIONS = {
    ".onnx": "y = Softsign(x)",
    ".h": "x / (1.0 + fabs(x))",
    ".mjs": "x / (1 + Math.abs(x))",
    ".py": "x / (1 + abs(x))",
}
LINEAR, SOFTMAX, HIDDEN_LAYER = Dense(2, "identity"), Dense(3, "softmax"), Dense(8, "tanh")
ROWS = {
    "activation": {f"`{name}`": network(Dense(8, name), LINEAR, trained=name != "step") for name in HIDDEN}
    | {"your own, by an expression": network(Dense(8, OWN), LINEAR, expressions=EXPRESSIONS)},
    "output": {
        "one number": network(HIDDEN_LAYER, Dense(1, "identity")),
        "several numbers": network(HIDDEN_LAYER, Dense(3, "identity")),
        "two classes, one sigmoid": network(HIDDEN_LAYER, Dense(1, "sigmoid"), classes=2),
        "two classes, hinge loss": network(HIDDEN_LAYER, Dense(1, "identity"), classes=2, loss="hinge"),
        "several classes, softmax": network(HIDDEN_LAYER, SOFTMAX, classes=3, loss="cross_entropy"),
        "several labels, sigmoids": estimator(fastnn.MLPClassifier, "several"),
        "counts, exp": network(HIDDEN_LAYER, Dense(2, "exp"), loss="poisson"),
        "means and deviations, Gaussian loss": network(HIDDEN_LAYER, Dense(4, "identity"), loss="gaussian"),
    },
    "layer": {
        "`Scale`": network(fastnn.Scale(), Dense(8, "relu"), LINEAR),
        "`PReLU`": network(Dense(8, "identity"), fastnn.PReLU(), LINEAR),
        "`BatchNorm`": network(fastnn.BatchNorm(), Dense(8, "identity"), fastnn.BatchNorm(activation="relu"), LINEAR),
        "`LayerNorm`": network(Dense(8, "identity"), fastnn.LayerNorm(activation="elu"), LINEAR),
        "`Residual`": network(HIDDEN_LAYER, fastnn.Residual(Dense(5, "relu"), Dense(8, "identity")), LINEAR),
        "`Embedding`": network(fastnn.Embedding([1, 3], [7, 5]), Dense(8, "relu"), LINEAR, codes=[1, 3]),
    },
    "inputs": {
        "`input_shift` of 1,000 deviations": network(HIDDEN_LAYER, LINEAR, input_shift=1000.0, input_scale=0.5),
    },
    "labels": {
        "text": network(HIDDEN_LAYER, SOFTMAX, loss="cross_entropy", labels=["low", "mïd", "high"]),
        "truth values": network(HIDDEN_LAYER, Dense(1, "sigmoid"), labels=[False, True]),
        "integers beyond 2^53": network(HIDDEN_LAYER, SOFTMAX, loss="cross_entropy", labels=[2**62, 5, -1]),
        "floats": network(HIDDEN_LAYER, SOFTMAX, loss="cross_entropy", labels=[0.5, 1.0, -3.0]),
    },
    "several networks": {
        "`Population`": population(HIDDEN_LAYER, LINEAR),
        "`Population`, Gaussian loss": population(HIDDEN_LAYER, Dense(4, "identity"), loss="gaussian"),
        "`MLPEnsembleClassifier`": estimator(fastnn.MLPEnsembleClassifier, "text", n_estimators=3),
        "`MLPEnsembleRegressor`": estimator(fastnn.MLPEnsembleRegressor, "numbers", n_estimators=3),
    },
    "estimator": {
        "`MLPClassifier`": estimator(fastnn.MLPClassifier, "text"),
        "`MLPRegressor`": estimator(fastnn.MLPRegressor, "numbers"),
        "`Pipeline` of a scaler and scikit-learn's MLP": pipeline,
        "`TabularClassifier`": tabular(fastnn.TabularClassifier, classes=True),
        "`TabularRegressor`": tabular(fastnn.TabularRegressor, classes=False),
    },
}


# ---- what runs a file: (outputs (rows, outputs), predictions as a list) ----


def by_python(path, case):
    """The file is imported."""
    net = runpy.run_path(str(path))
    deviations = "return_std" in net["predict"].__code__.co_varnames
    outputs = np.hstack(net["predict"](case.X, return_std=True)) if deviations else net["predict"](case.X)
    predictions = None if case.predictions is None else net["classify"](case.X).tolist()
    return outputs.reshape(len(outputs), -1), predictions


def by_onnxruntime(path, case):
    """A table is an input for each column, dates as days and text with what is missing beside it."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    given = {"X": case.X}
    if isinstance(case.X, dict):
        town, built = case.X["town"], case.X["built"]
        given = {"area": case.X["area"], "built": (built - np.datetime64("1970-01-01")).astype(float)}
        given |= {"town": np.array([each or "" for each in town], object), "town missing": town == None}  # noqa: E711
    names = [each.name for each in session.get_outputs()]
    found = dict(zip(names, session.run(None, {i.name: given[i.name] for i in session.get_inputs()}), strict=True))
    predictions = found.pop("label").tolist() if "label" in found else None
    return np.hstack(list(found.values())), predictions


def lines_of(*command):
    """What a program prints, a line for each row: the outputs, a bar, and the prediction as JSON."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    pairs = [line.split("|") for line in done.stdout.splitlines()]
    outputs = np.array([[float(number) for number in numbers.split()] for numbers, _ in pairs])
    return outputs, [json.loads(prediction) for _, prediction in pairs]


NODE = """
import { readFileSync } from "node:fs";
const net = await import(process.argv[2]), rows = JSON.parse(readFileSync(process.argv[3]));
const shown = (v) => (typeof v === "bigint" ? String(v) : JSON.stringify(typeof v === "object" ? [...v] : v));
for (const row of rows) {
  const outputs = [...net.predict(row), ...(net.predictStd?.(row) ?? [])];
  console.log(outputs.join(" ") + "|" + (net.classify ? shown(net.classify(row)) : "null"));
}
"""


def by_node(path, case):
    """A row of a table is an object."""
    if isinstance(case.X, dict):
        columns = {name: [None if x != x else x for x in column.tolist()] for name, column in case.X.items()}
        given = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    else:
        given = case.X.tolist()
    script, data = path.with_name("run.mjs"), path.with_name("rows.json")
    script.write_text(NODE)
    data.write_text(json.dumps(given, default=str))
    return lines_of("node", script, path, data)


C = """
#include <stdio.h>
#include "net.h"
#define FORMAT(label) _Generic(label, const char *: "\\"%%s\\"", double: "%%.17g", int64_t: "%%ld", uint8_t: "%%d")
static %(kind)s rows[%(rows)d][NET_INPUTS];
int main(int count, char **paths)
{
    FILE *file = fopen(paths[count - 1], "rb");
    if (!file || fread(rows, sizeof rows, 1, file) != 1) return 1;
    for (int i = 0; i < %(rows)d; i++) {
        %(real)s y[NET_OUTPUTS];
        net_predict(rows[i], y);
        for (int j = 0; j < NET_OUTPUTS; j++) printf("%%.17g ", (double)y[j]);
        putchar('|');
        %(show)s
        putchar('\\n');
    }
    return 0;
}
"""
SHOW = {
    0: 'printf("null");',
    1: "printf(FORMAT(net_labels[0]), net_labels[net_classify(rows[i])]);",
    2: """uint8_t found[NET_OUTPUTS];
        net_classify(rows[i], found);
        for (int j = 0; j < NET_OUTPUTS; j++) printf("%c%d", j ? ',' : '[', found[j]);
        putchar(']');""",
}


def by_c(path, case):
    """A row of a table is an array of double, a category the number of its name in the header."""
    text = path.read_text()
    kind, real = re.search(r"_predict\(const (\w+) \*x, (\w+) \*y", text).groups()
    X = case.X
    if isinstance(X, dict):
        numbers = {value: int(number) for number, value in re.findall(r"#define NET_TOWN_\w+ (\d+) .*'(.*)' \*/", text)}
        town = [math.nan if each is None else numbers.get(each, 0) for each in X["town"]]
        X = np.stack([X["area"], town, (X["built"] - np.datetime64("1970-01-01")).astype(float)], axis=1)
    source, program, data = (path.with_name(name) for name in ("run.c", "run", "rows"))
    how = {"kind": kind, "real": real, "rows": len(X), "show": SHOW[np.ndim(case.predictions)]}
    source.write_text(C % how)
    np.ascontiguousarray(X, {"float": np.float32, "double": np.float64}[kind]).tofile(data)
    subprocess.run(["cc", source, "-o", program], check=True)
    return lines_of(program, data)


RUNNERS = {".onnx": by_onnxruntime, ".h": by_c, ".mjs": by_node, ".py": by_python}


# ---- cells ----


def apart(found, expected):
    """The largest error of outputs, relative to those above 1 in size."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    if (found.shape[1], expected.shape[1]) == (2, 1):
        found = found[:, 1:]
    if (found.shape[1], expected.shape[1]) == (1, 2):
        found = np.hstack([1 - found, found])
    if found.shape != expected.shape:
        raise AssertionError(f"outputs have shape {found.shape}, not {expected.shape}")
    return float((np.abs(found - expected) / np.maximum(1, np.abs(expected))).max())


def measured(case, suffix, dtype, folder):
    """The error of a case in a format, or the reason why the format refuses it."""
    path, options = Path(folder, f"net{suffix}"), dict(case.options)
    if dtype == "int8":
        options |= {"quantize": "int8", "calibrate": case.X, "least_agreement": 0}
    if "expressions" in options:
        options["expressions"] = {OWN.name: options["expressions"][suffix]}
    try:
        fastnn.export(case.what, path, **options)
    except ValueError as refused:
        return str(refused)
    if not fastnn.verify(path).passed:
        raise AssertionError(f"{path} does not pass its own rows")
    outputs, predictions = RUNNERS[suffix](path, case)
    if dtype != "int8" and case.predictions is not None and predictions != case.predictions.tolist():
        raise AssertionError(f"{path} gives other labels")
    return apart(outputs, case.outputs)


def figures(rows=ROWS):
    """{group: {name: {(suffix, dtype): an error, a reason, or None where fastnn has no such network}}}."""
    found = {}
    for group, cases in rows.items():
        for name, made in cases.items():
            row = found.setdefault(group, {}).setdefault(name, {})
            with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
                warnings.simplefilter("ignore")  # a few epochs are not enough to converge
                with contextlib.redirect_stdout(io.StringIO()):  # what a file prints
                    of_dtype = {dtype: made(dtype) for dtype in ("float32", "float64")}
                    for suffix, dtype in COLUMNS:
                        case = of_dtype["float32" if dtype == "int8" else dtype]
                        row[suffix, dtype] = None if case is None else measured(case, suffix, dtype, folder)
            print(f"{group}, {name}: {[*row.values()]}", file=sys.stderr)
    return found


def cell(value, dtype, reasons):
    """The text of a cell; a reason gets a number."""
    if value is None:
        return "-"
    if isinstance(value, str):
        reasons.setdefault(value, len(reasons) + 1)
        return f"no ({reasons[value]})"
    digits, exponent = f"{max(value, LEAST[dtype]):.2e}".split("e")
    return f"{math.ceil(float(digits)) * 10.0 ** int(exponent):.0e}".replace("e-0", "e-").replace(
        "e+00", ""
    )  # rounded up


def text(found):
    """The table in Markdown, and the reasons below it."""
    reasons = {}
    names = [f"`{suffix}` {dtype}" for suffix, dtype in COLUMNS]
    lines = [f"| | | {' | '.join(names)} |", f"|---|---|{'---|' * len(COLUMNS)}"]
    for group, rows_of_it in found.items():
        for i, (name, values) in enumerate(rows_of_it.items()):
            cells = [cell(values[column], column[1], reasons) for column in COLUMNS]
            lines.append(f"| {'' if i else group} | {name} | {' | '.join(cells)} |")
    lines += [""] + [f"{number}. {reason}" for reason, number in reasons.items()]
    return "\n".join(lines) + "\n"


def parts(page):
    """(what is above the table, the table, what is below it)."""
    above, _, others = page.partition(BEGIN)
    inside, _, below = others.partition(END)
    return above + BEGIN, inside, END + below


if __name__ == "__main__":
    above, _, below = parts(PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(above + text(figures()) + below, encoding="utf-8")
