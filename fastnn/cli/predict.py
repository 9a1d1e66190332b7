"""`fastnn predict`."""

from __future__ import annotations

import os
from typing import Any

from . import answers, folders, reading, writing
from .commands import usage
from .failures import Failure, as_options


def run(options: Any) -> int:
    """Predict the target of each row; gives the exit code."""
    if options.output != "-" and options.data != "-" and _same(options.output, options.data):
        raise usage(f"--output must differ from the data, got {options.output!r}")
    if os.path.isdir(options.data):
        return folders.run(options)
    if options.keep:
        raise usage("--keep goes with a folder of Parquet files")
    model = answers.loaded(options.model)
    name = reading.name_of(options.data)
    frame = reading.frame_of(reading.content_of(options.data), options.data, options.separator)
    try:
        inputs = answers.inputs_of(model, frame, name)
        found = answers.answer(model, inputs, options.threads)
    except (ValueError, TypeError) as error:
        raise Failure(f"{name}: {as_options(error)}") from None
    ends = {} if options.interval is None else _interval(model, inputs, options)
    columns = columns_of(found.values, ends)
    if options.proba:
        if found.probabilities is None:
            raise usage(f"--proba needs a model that gives probabilities of classes, and {options.model} gives none")
        assert found.classes is not None
        for label, values in zip(found.classes, found.probabilities.T, strict=True):
            columns[f"probability {label}"] = writing.column(values)
    as_text = writing.as_records if options.json else writing.as_csv
    writing.write(as_text(columns), options.output)
    return 0


def _interval(model: Any, inputs: Any, options: Any) -> dict[str, Any]:
    """The ends of intervals by name, each of the shape of predictions."""
    if not hasattr(model, "predict_interval"):
        raise usage(f"--interval needs a TabularRegressor, and {options.model} holds a {type(model).__name__}")
    try:
        return dict(zip(("lower", "upper"), model.predict_interval(inputs, options.interval), strict=True))
    except ValueError as error:  # the rows are fine: they have been predicted
        raise usage(f"--interval of {options.model}: {error}") from None


def columns_of(values: Any, ends: dict[str, Any]) -> dict[str, list[Any]]:
    """The columns of predictions (n,) or (n, n_targets): one for each target, and behind it its ends."""
    single = values.ndim == 1
    columns = {}
    for i in range(1 if single else values.shape[1]):
        name = "prediction" if single else f"prediction {i}"
        for end, found in {"": values, **ends}.items():
            columns[f"{name} {end}".rstrip()] = writing.column(found if single else found[:, i])
    return columns


def _same(one: str, other: str) -> bool:
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)
