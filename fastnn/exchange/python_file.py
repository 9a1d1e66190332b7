"""Python out: one file that needs NumPy alone.

It has the text of those functions of `numpy_steps` and `numpy_columns` that the network uses, each of which stands
alone, and where it reads a table the text of `numpy_tables`.
"""

from __future__ import annotations

import ast
import inspect
import sys
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from . import numpy_tables, verifying
from .computation import CLASSES, LABELS, NUMBERS, Computation, Decision, function_of
from .scripts import CHANGED, LINE, Script, plain_labels
from .self_test import SelfTest

FILE = Template('''\
"""$name: a trained network of $n_inputs inputs, $n_outputs outputs and $n_parameters parameters, which fastnn wrote.

It needs NumPy alone. `predict` and the others take $takes.
They compute in float64, and round what they give to $dtype. When this file runs, it computes the rows that are recorded
in it, and compares.
"""

import base64
${datetime}import math
import sys
import zlib

import numpy as np

__all__ = $public
${columns}feature_names = $features
$classes
# ---- functions of arrays (rows, width) ----


$functions


# ---- the network ----


def _floats(text, dtype):
    return np.frombuffer(base64.b64decode(text), dtype)


def _arrays(text, dtype, shapes):
    numbers, found = _floats(text, dtype).astype(np.float64), []
    for shape in shapes:
        n = math.prod(shape)
        found.append(numbers[:n].reshape(shape))
        numbers = numbers[n:]
    return found


PARAMETERS = "$parameters"
w = _arrays(PARAMETERS, "$stored", $shapes)
${statistics}

$read


def _outputs(x):
    with np.errstate(all="ignore"):
$calls
        return $last.astype("$dtype")


$predictions


# ---- the self test ----

ROWS = "$rows"
$labels

$errors


def self_test():
    """Print how far the recorded rows are from what the network gave; True where that is rounding alone."""
    inputs, expected = np.split(_floats(ROWS, "$recorded"), [$n_rows * $n_inputs])
    found = _outputs(inputs.reshape($n_rows, $n_inputs).astype(np.float64))
    error, ulp = errors(found, expected.reshape($n_rows, $n_outputs).astype("$dtype"))
    wrong = $wrong
    intact = zlib.crc32(repr($checked).encode()) == $checksum
    line = f"$line"
    print(line if intact else line + "$changed")
    return error <= $tolerance and wrong == 0 and intact


if __name__ == "__main__":
    sys.exit(0 if self_test() else 1)
''')
READ_ROWS = Template("""\
def _inputs(X):
    x = np.asarray(X, np.float64)
    if x.ndim != 2 or x.shape[1] != $n_inputs:
        raise ValueError(f"X must have shape (rows, $n_inputs), got {x.shape}")
    return x""")
READ_TABLE = Template("""\
def _inputs(table):
    return matrix(table, columns_read, $n_positions)""")
PREDICT = Template('''\
def predict($rows):
    """Outputs $shape."""
    return _outputs(_inputs($rows))$part''')
PREDICT_DEVIATIONS = Template('''\
def predict($rows, return_std=False):
    """Means $shape, and with return_std standard deviations $shape too."""
    found = _outputs(_inputs($rows))
    mean, std = found[:, $means], found[:, $deviations]
    return (mean, std) if return_std else mean''')
PREDICT_PROBA = Template('''\
def predict_proba($rows):
    """Probabilities (rows, $n_classes) of the classes."""
    found = _outputs(_inputs($rows))
    return $probabilities''')
CLASSIFY = Template('''\
def classify($rows):
    """$what."""
    found = _outputs(_inputs($rows))
    return $decided''')


def written(computation: Computation, test: SelfTest, name: str, expressions: Mapping[str, str]) -> bytes:
    """The file, in UTF-8. Expressions are of x and np."""
    expressions = {each: _one_line(each, text) for each, text in expressions.items()}
    _check_own(computation, test, expressions)
    script, decision = Script.of(computation, test, expressions), computation.decision
    predictions = _predictions(computation)
    rounded = "x" if computation.dtype == "float64" else 'x.astype("float32").astype(np.float64)'
    steps = [f"v0 = {rounded}"] if script.reads_rounded else []
    steps += [f"v{i} = {call}" for i, call in enumerate(script.calls, 1)]
    functions = [_source(each) for each in _readers(computation)]
    functions += [_source(function_of(each)) for each in script.functions]
    functions += [f"def {each}(x):\n    return {text}" for each, text in script.own.items()]
    facts = _of_inputs(computation, script)
    checked = {"PARAMETERS": script.parameters, **facts.pop("checked")}
    facts |= {"classes": "", "labels": "", "wrong": "0"}
    if decision.labels is not None:
        checked["classes.tolist()"] = plain_labels(decision.labels)
        facts["classes"] = f"classes = {_array(decision.labels)}\n"
        facts["labels"] = f"LABELS = {_array(test.predictions)}\n"
        facts["wrong"] = f"int(({_decided(computation)} != LABELS).reshape(len(LABELS), -1).any(axis=1).sum())"
    facts |= {
        "name": name,
        "n_inputs": computation.n_inputs,
        "n_outputs": computation.n_outputs,
        "n_parameters": f"{computation.n_parameters:,}",
        "n_rows": len(test.inputs),
        "dtype": computation.dtype,
        "stored": np.dtype(computation.dtype).newbyteorder("<").str,
        "public": [*predictions, "feature_names", *(["classes"] if decision.n_classes else [])],
        "recorded": np.dtype(computation.input_dtype).newbyteorder("<").str,
        "functions": "\n\n\n".join(functions),
        "parameters": script.parameters,
        "shapes": script.shapes,
        "calls": "\n".join(f"        {step}" for step in steps),
        "last": f"v{len(script.calls)}",
        "predictions": "\n\n\n".join(predictions.values()),
        "rows": script.rows,
        "errors": _source(verifying.errors),
        "checked": f"[{', '.join(checked)}]",
        "checksum": zlib.crc32(repr([*checked.values()]).encode()),
        "line": LINE.format(rows=len(test.inputs), error="{error:.3g}", ulp="{ulp:.3g}", wrong="{wrong}"),
        "changed": CHANGED,
        "tolerance": test.tolerance,
    }
    return FILE.substitute(facts).encode()


def verify(path: Path) -> verifying.Verification:
    """What the self test of a file says. Python runs it without the user's folders and settings."""
    return verifying.of_command([sys.executable, "-I", str(path.resolve())], path)


def _source(function: Callable[..., Any]) -> str:
    """The text of a function without annotations."""
    (tree,) = ast.parse(inspect.getsource(function)).body
    assert isinstance(tree, ast.FunctionDef)
    tree.returns = None
    for argument in ast.walk(tree.args):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    return ast.unparse(tree)


def _array(labels: Any) -> str:
    """The text of an array."""
    return f"np.array({labels.tolist()!r}, dtype={labels.dtype.newbyteorder('=').str!r})"


# ---- rows ----


def _of_inputs(computation: Computation, script: Script) -> dict[str, Any]:
    """What a file says of its rows; "checked" are values by their expressions, which the checksum is of."""
    if not computation.inputs:
        names, n = computation.feature_names, computation.n_inputs
        facts = {"takes": f"rows X (rows, {n})", "read": READ_ROWS.substitute(n_inputs=n), "features": names}
        return {
            **facts,
            **dict.fromkeys(("datetime", "columns", "statistics"), ""),
            "checked": {"feature_names": names},
        }
    columns, n = [(each.key, each.kind, each.values) for each in computation.inputs], computation.n_positions
    return {
        "takes": f"a table of {n} columns" if n else "a table with the columns `feature_names`",
        "datetime": "import datetime\n",
        "columns": f"columns_read = {columns!r}\n",
        "features": None if n else "tuple(name for name, _, _ in columns_read)",
        "statistics": f'STATISTICS = "{script.statistics}"\nc = _arrays(STATISTICS, "<f8", {script.column_shapes})\n',
        "read": READ_TABLE.substitute(n_positions=n),
        "checked": {"STATISTICS": script.statistics, "columns_read": columns},
    }


def _readers(computation: Computation) -> list[Callable[..., Any]]:
    """The functions that read a table, where there is one."""
    module = numpy_tables.__name__
    every = vars(numpy_tables).values() if computation.inputs else ()
    return [each for each in every if inspect.isfunction(each) and each.__module__ == module]


# ---- expressions for a user's own functions ----


def _one_line(name: str, text: str) -> str:
    """An expression in one line; raises where it is none."""
    try:
        return ast.unparse(ast.parse(text.strip(), mode="eval"))
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"expressions[{name!r}] must be an expression of x and np, got {text!r}: {error}") from None


def _check_own(computation: Computation, test: SelfTest, expressions: Mapping[str, str]) -> None:
    """Raise where an expression does not compute what the user's own function does, for the rows of the self test."""
    values = computation.values(test.inputs, "float64")
    for step, expected in zip(computation.steps, values[1:], strict=True):
        if step.own is None:
            continue
        name, text = step.own.name, expressions[step.own.name]
        try:
            with np.errstate(all="ignore"):
                found = eval(text, {"np": np, "x": values[step.reads[0]]})
                same = np.allclose(found, expected, rtol=test.tolerance, atol=test.tolerance, equal_nan=True)
        except Exception as error:  # it is the user's own
            told = f"must be an expression of x and np, got {text!r}: {error}"
            raise ValueError(f"expressions[{name!r}] {told}") from None
        if not same or np.shape(found) != expected.shape:
            told = f"must compute what the activation computes, an array from an array x, got {text!r}"
            raise ValueError(f"expressions[{name!r}] {told}")


# ---- what predictions are ----


def _predictions(computation: Computation) -> dict[str, str]:
    """The public functions: their names and texts."""
    decision, n, rows = computation.decision, computation.n_outputs, "table" if computation.inputs else "X"
    if decision.deviations:
        means, deviations = ("0", "1") if decision.single else (f":{n // 2}", f"{n // 2}:")
        facts = {"rows": rows, "shape": _shape(decision, n // 2), "means": means, "deviations": deviations}
        return {"predict": PREDICT_DEVIATIONS.substitute(facts)}
    part = "[:, 0]" if decision.single else ""
    found = {"predict": PREDICT.substitute(rows=rows, shape=_shape(decision, n), part=part)}
    if decision.kind == NUMBERS:
        return found
    if decision.probabilities:
        probabilities = "np.hstack([1 - found, found])" if decision.kind == CLASSES and n == 1 else "found"
        text = PREDICT_PROBA.substitute(rows=rows, n_classes=decision.n_classes, probabilities=probabilities)
        found["predict_proba"] = text
    several = f"1 for each label in `classes` that a row has, else 0, {_shape(decision, n)}"
    what = several if decision.kind == LABELS else "Labels (rows,)"
    found["classify"] = CLASSIFY.substitute(rows=rows, what=what, decided=_decided(computation))
    return found


def _decided(computation: Computation) -> str:
    """The expression of what outputs `found` decide."""
    decision = computation.decision
    if decision.kind == LABELS:
        return f"(found > {decision.threshold!r}).astype(np.int64)"
    if computation.n_outputs == 1:
        return f"classes[(found[:, 0] > {decision.threshold!r}).astype(int)]"
    return "classes[found.argmax(axis=1)]"


def _shape(decision: Decision, n: int) -> str:
    return "(rows,)" if decision.single else f"(rows, {n})"
