"""Python out: one file that needs NumPy alone.

It has the text of those functions of `numpy_steps` that the network uses, each of which stands alone.
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

from . import numpy_steps, verifying
from .computation import CLASSES, LABELS, NUMBERS, Computation, Decision
from .scripts import CHANGED, LINE, Script, plain_labels
from .self_test import SelfTest

FILE = Template('''\
"""$name: a trained network of $n_inputs inputs, $n_outputs outputs and $n_parameters parameters, which fastnn wrote.

It needs NumPy alone. `predict` and the others take rows X (rows, $n_inputs). They compute in float64, and round what
they give to $dtype. When this file runs, it computes the rows that are recorded in it, and compares.
"""

import base64
import math
import sys
import zlib

import numpy as np

__all__ = $public
feature_names = $features
$classes
# ---- functions of arrays (rows, width) ----


$functions


# ---- the network ----


def _floats(text):
    return np.frombuffer(base64.b64decode(text), "$stored")


def _arrays(shapes):
    numbers, found = _floats(PARAMETERS).astype(np.float64), []
    for shape in shapes:
        n = math.prod(shape)
        found.append(numbers[:n].reshape(shape))
        numbers = numbers[n:]
    return found


PARAMETERS = "$parameters"
w = _arrays($shapes)


def _outputs(X):
    x = np.asarray(X, np.float64)
    if x.ndim != 2 or x.shape[1] != $n_inputs:
        raise ValueError(f"X must have shape (rows, $n_inputs), got {x.shape}")
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
    inputs, expected = np.split(_floats(ROWS), [$n_rows * $n_inputs])
    inputs, expected = inputs.reshape($n_rows, $n_inputs), expected.reshape($n_rows, $n_outputs)
    error, ulp = errors(_outputs(inputs), expected)
    wrong = $wrong
    intact = zlib.crc32(repr($checked).encode()) == $checksum
    line = f"$line"
    print(line if intact else line + "$changed")
    return error <= $tolerance and wrong == 0 and intact


if __name__ == "__main__":
    sys.exit(0 if self_test() else 1)
''')
PREDICT = Template('''\
def predict(X):
    """Outputs $shape."""
    return _outputs(X)$part''')
PREDICT_DEVIATIONS = Template('''\
def predict(X, return_std=False):
    """Means $shape, and with return_std standard deviations $shape too."""
    found = _outputs(X)
    mean, std = found[:, $means], found[:, $deviations]
    return (mean, std) if return_std else mean''')
PREDICT_PROBA = Template('''\
def predict_proba(X):
    """Probabilities (rows, $n_classes) of the classes."""
    found = _outputs(X)
    return $probabilities''')
CLASSIFY = Template('''\
def classify(X):
    """$what."""
    found = _outputs(X)
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
    functions = [_source(getattr(numpy_steps, each)) for each in script.functions]
    functions += [f"def {each}(x):\n    return {text}" for each, text in script.own.items()]
    checked: list[Any] = [script.parameters, computation.feature_names]
    facts: dict[str, Any] = {"checked": "[PARAMETERS, feature_names]", "classes": "", "labels": "", "wrong": "0"}
    if decision.labels is not None:
        checked.append(plain_labels(decision.labels))
        facts["checked"] = "[PARAMETERS, feature_names, classes.tolist()]"
        facts["classes"] = f"classes = {_array(decision.labels)}\n"
        facts["labels"] = f"LABELS = {_array(test.predictions)}\n"
        facts["wrong"] = "int((classify(inputs) != LABELS).reshape(len(LABELS), -1).any(axis=1).sum())"
    facts |= {
        "name": name,
        "n_inputs": computation.n_inputs,
        "n_outputs": computation.n_outputs,
        "n_parameters": f"{computation.n_parameters:,}",
        "n_rows": len(test.inputs),
        "dtype": computation.dtype,
        "stored": np.dtype(computation.dtype).newbyteorder("<").str,
        "public": [*predictions, "feature_names", *(["classes"] if decision.n_classes else [])],
        "features": computation.feature_names,
        "functions": "\n\n\n".join(functions),
        "parameters": script.parameters,
        "shapes": script.shapes,
        "calls": "\n".join(f"        {step}" for step in steps),
        "last": f"v{len(script.calls)}",
        "predictions": "\n\n\n".join(predictions.values()),
        "rows": script.rows,
        "errors": _source(verifying.errors),
        "checksum": zlib.crc32(repr(checked).encode()),
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
    decision, n = computation.decision, computation.n_outputs
    if decision.deviations:
        means, deviations = ("0", "1") if decision.single else (f":{n // 2}", f"{n // 2}:")
        facts = {"shape": _shape(decision, n // 2), "means": means, "deviations": deviations}
        return {"predict": PREDICT_DEVIATIONS.substitute(facts)}
    part = "[:, 0]" if decision.single else ""
    found = {"predict": PREDICT.substitute(shape=_shape(decision, n), part=part)}
    if decision.kind == NUMBERS:
        return found
    one = decision.kind == CLASSES and n == 1
    if decision.probabilities:
        probabilities = "np.hstack([1 - found, found])" if one else "found"
        text = PREDICT_PROBA.substitute(n_classes=decision.n_classes, probabilities=probabilities)
        found["predict_proba"] = text
    if decision.kind == LABELS:
        what = f"1 for each label in `classes` that a row has, else 0, {_shape(decision, n)}"
        decided = f"(found > {decision.threshold!r}).astype(np.int64)"
    else:
        what = "Labels (rows,)"
        decided = (
            f"classes[(found[:, 0] > {decision.threshold!r}).astype(int)]" if one else "classes[found.argmax(axis=1)]"
        )
    found["classify"] = CLASSIFY.substitute(what=what, decided=decided)
    return found


def _shape(decision: Decision, n: int) -> str:
    return "(rows,)" if decision.single else f"(rows, {n})"
