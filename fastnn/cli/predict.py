"""`fastnn predict`."""

from __future__ import annotations

import os
from typing import Any

from . import answers, reading, writing
from .commands import usage
from .failures import Failure, as_options


def run(options: Any) -> int:
    """Predict the target of each row; gives the exit code."""
    if options.output != "-" and options.data != "-" and _same(options.output, options.data):
        raise usage(f"--output must differ from the data, got {options.output!r}")
    model = answers.loaded(options.model)
    name = reading.name_of(options.data)
    frame = reading.frame_of(reading.content_of(options.data), options.data, options.separator)
    try:
        found = answers.answer(model, answers.inputs_of(model, frame, name), options.threads)
    except (ValueError, TypeError) as error:
        raise Failure(f"{name}: {as_options(error)}") from None
    columns = columns_of(found)
    if options.proba:
        if found.probabilities is None:
            raise usage(f"--proba needs a model that gives probabilities of classes, and {options.model} gives none")
        assert found.classes is not None
        for label, values in zip(found.classes, found.probabilities.T, strict=True):
            columns[f"probability {label}"] = writing.column(values)
    as_text = writing.as_records if options.json else writing.as_csv
    writing.write(as_text(columns), options.output)
    return 0


def columns_of(found: answers.Answer) -> dict[str, list[Any]]:
    """The columns of predictions: one, or one for each target."""
    if found.values.ndim == 1:
        return {"prediction": writing.column(found.values)}
    return {f"prediction {i}": writing.column(values) for i, values in enumerate(found.values.T)}


def _same(one: str, other: str) -> bool:
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)
