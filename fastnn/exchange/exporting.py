"""`export`: a trained network as a file of another system."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from ..checks import file_paths, scalars
from ..checks.scalars import shown
from ..files import storage
from .computation import Computation
from .describing import computation_of, rows_of
from .quantizing import QuantizationReport, Quantized, quantized
from .self_test import SelfTest, name_of

# By the suffix of a path: the module here whose `written(computation, test, name, expressions)` gives the bytes, and
# whose `verify(path)` runs the self test of a file, see `verifying.Verification`.
QUANTIZED = (".h", ".onnx")  # which have `quantized(network, rows, name, expressions)` too
FORMATS = {".onnx": "onnx_file", ".h": "c_header", ".mjs": "javascript", ".py": "python_file"}


def export(
    what: Any,
    path: str | os.PathLike[str],
    *,
    labels: Any = None,
    rows: Any = None,
    name: str | None = None,
    expressions: Mapping[str, str] | None = None,
    quantize: str | None = None,
    calibrate: Any = None,
    least_agreement: float = 0.98,
) -> QuantizationReport | None:
    """Write a trained network to a file that other systems read: the suffix of the path chooses the format.

    The file computes what `predict` computes, up to rounding, and holds rows that prove it.

    Parameters
    ----------
    what : Model, Population, fitted estimator, Pipeline or TransformedTargetRegressor
        Of several networks it is the mean of the outputs. scikit-learn's MLPClassifier and MLPRegressor are taken too,
        and its Pipelines of scalers, SimpleImputer, OneHotEncoder and ColumnTransformer that end in an MLP.
    path : str or path
        Ending in ".onnx" (ONNX), ".h" (C99 and C++11), ".mjs" (JavaScript) or ".py" (Python with NumPy alone).
    labels : sequence of n_classes
        Names of the classes of a model or population; estimators have theirs. None numbers them.
    rows : array (n, n_inputs), or a table as `predict` takes it
        The first 16 of these, and what the network gives for them, are the file's self test. None draws some.
    name : str
        What functions in the file are called, letters, digits and underscores. None is the file's name.
    expressions : dict
        For each `Activation` of your own, by its name, what it is in that format: an expression of x. A header of
        "int8" needs none.
    quantize : "int8" or None
        For ".h" and ".onnx": compute with integers of 8 bits, for a CPU without floats or with little memory.
    calibrate : array (n, n_inputs), n >= 20
        For `quantize`: rows as `predict` takes them, such as those of training, whose values the integers' ranges hold.
    least_agreement : float in [0, 1]
        For `quantize`: which share of the predictions of these rows must stay the same; of numbers, R2 between both.

    Returns
    -------
    QuantizationReport or None
        For `quantize`: what integers do to each layer. `print` shows a table.

    Raises ValueError or TypeError, before anything is written, for what the format cannot hold.

    Examples
    --------
    >>> import fastnn, tempfile, os, pathlib
    >>> path = os.path.join(tempfile.mkdtemp(), "net.py")
    >>> fastnn.export(fastnn.Model([2, 3, 1], rng=0), path)
    >>> "def predict" in pathlib.Path(path).read_text()
    True
    """
    path = file_paths.path(path)
    form = format_of(path)
    computation = computation_of(what, labels)
    rows, calibrate = (None if each is None else rows_of(what, computation, each) for each in (rows, calibrate))
    if quantize is not None:
        named = name_of(name, path)
        network, report = _quantized(computation, path, quantize, calibrate, least_agreement)
        checked = {} if path.suffix == ".h" else _expressions(computation, expressions)
        storage.put(path, form.quantized(network, calibrate if rows is None else rows, named, checked))
        return report
    if calibrate is not None:
        raise ValueError("calibrate is for quantize='int8', got quantize=None")
    checked = _expressions(computation, expressions)
    test = SelfTest.of(computation, rows)
    storage.put(path, form.written(computation, test, name_of(name, path), checked))
    return None


def _quantized(
    computation: Computation, path: Path, quantize: Any, calibrate: Any, least_agreement: Any
) -> tuple[Quantized, QuantizationReport]:
    """The network of integers; raises for wrong arguments."""
    if quantize != "int8":
        raise ValueError(f"quantize must be 'int8' or None, got {shown(quantize)}")
    if path.suffix not in QUANTIZED:
        raise ValueError(f"path must end in {' or '.join(QUANTIZED)} for quantize='int8', got {str(path)!r}")
    if calibrate is None:
        raise ValueError("calibrate must be rows of inputs for quantize='int8', got None")
    return quantized(computation, calibrate, scalars.number("least_agreement", least_agreement, 0, 1))


def format_of(path: Path) -> Any:
    """The module that writes files of a path's suffix."""
    if path.suffix not in FORMATS:
        raise ValueError(f"path must end in one of {', '.join(FORMATS)}, got {str(path)!r}")
    return import_module(f".{FORMATS[path.suffix]}", __package__)


def _expressions(computation: Computation, given: Mapping[str, str] | None) -> dict[str, str]:
    """The expressions of a user's own activations; raises where one has none."""
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"expressions must be a dict of names and expressions, got {shown(given)}")
    found = dict(given or {})
    for step in computation.steps:
        if step.own is not None and step.own.name not in found:
            raise ValueError(
                f"expressions must have {step.own.name!r}, an activation of your own, got {shown(sorted(found))}"
            )
    for key, value in found.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"expressions must be strings by names, got {shown(key)}: {shown(value)}")
    return found
