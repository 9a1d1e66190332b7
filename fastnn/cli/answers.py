"""Any model of a file as something that reads a frame and predicts."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import GroupModels, Model, Population, load
from .failures import Failure, told
from .reading import check_columns, matrix

PROBABILITIES = ("softmax", "sigmoid", "hard_sigmoid")  # activations of outputs that stand for classes


class Answer(NamedTuple):
    """What a model predicts for rows."""

    values: NDArray[Any]  # (n,) labels or numbers, or (n, n_outputs) numbers
    probabilities: NDArray[Any] | None  # (n, n_classes), where the model gives some
    classes: list[Any] | None  # their labels; None for numbers


def loaded(path: str) -> Any:
    """The model in a file; raises `Failure` for what is none."""
    if not os.path.exists(path):
        raise Failure(f"there is no file {path}")
    try:
        return load(path)
    except (ValueError, TypeError, OSError, ImportError) as error:
        message = told(error)
        raise Failure(message if path in message else f"{path}: {message}") from None


def columns_of(model: Any) -> list[Any] | None:
    """The names of the columns that a model reads; None where it knows them by position alone."""
    if hasattr(model, "table_"):
        return None if model.table_.labels is None else list(model.table_.places)
    if isinstance(model, GroupModels):
        return [*model.by, *model.features]
    names = getattr(model, "feature_names", None) if isinstance(model, Model) else _names_in(model)
    return None if names is None else list(names)


def _names_in(model: Any) -> Any:
    return getattr(model, "feature_names_in_", None)


def n_inputs_of(model: Any) -> int:
    """How many columns a model reads."""
    if hasattr(model, "table_"):
        return len(model.table_.encodings)
    return int(model.sizes[0] if isinstance(model, (Model, Population)) else model.n_features_in_)


def inputs_of(model: Any, frame: Any, name: str) -> Any:
    """The columns of a frame that a model reads, in its order: a frame for tables and groups, else an array.

    Raises `Failure` where a column is missing, and for values that are no numbers where the model takes no others.
    """
    wanted = columns_of(model)
    if wanted is None:
        wanted, n = list(frame.columns), n_inputs_of(model)
        if len(wanted) != n:
            told = f"{name} must have {n} columns, as the model knows them by position, got {len(wanted)}"
            raise Failure(told)
    else:
        check_columns(frame, wanted, name, "which the model reads")
    if hasattr(model, "table_") or isinstance(model, GroupModels):
        return frame[wanted]
    found = matrix(frame, wanted, name)
    names = _names_in(model)
    if names is None or isinstance(model, Model):
        return found
    return frame[wanted].astype(float)


def answer(model: Any, inputs: Any, threads: int | None = None) -> Answer:
    """What a model predicts for the rows of `inputs_of`."""
    if isinstance(model, Model):
        return _of_outputs(model.predict(inputs, threads=threads), model)
    if isinstance(model, Population):
        return _of_outputs(model.predict(inputs, "mean", threads=threads), model)
    if isinstance(model, GroupModels):
        return Answer(model.predict(inputs, threads=threads), None, None)
    if threads is not None and "threads" in model.get_params(deep=False):
        model.set_params(threads=threads)
    if hasattr(model, "classes_"):
        values, probabilities = model.predict(inputs), model.predict_proba(inputs)
        if isinstance(probabilities, np.ndarray) and probabilities.shape == (len(values), len(model.classes_)):
            return Answer(np.asarray(values), probabilities, list(model.classes_))
        return Answer(np.asarray(values), None, list(model.classes_))
    return Answer(np.asarray(model.predict(inputs)), None, None)


def _of_outputs(outputs: NDArray[Any], model: Any) -> Answer:
    """What outputs (n, n_out) of a network stand for: class indices where its activation gives probabilities."""
    head = model.layers[-1]
    if head.activation not in PROBABILITIES:
        return Answer(outputs[:, 0] if outputs.shape[1] == 1 else outputs, None, None)
    if outputs.shape[1] == 1:
        probabilities = np.hstack([1 - outputs, outputs])
        return Answer((outputs[:, 0] > 0.5).astype(np.int64), probabilities, [0, 1])
    classes = list(range(outputs.shape[1]))
    return Answer(outputs.argmax(axis=1), outputs if head.activation == "softmax" else None, classes)


def target_beside(path: str) -> str | None:
    """The target in the TOML file that `fastnn train` writes beside a model; None where there is none."""
    import tomllib

    try:
        with open(os.path.splitext(path)[0] + ".toml", "rb") as file:
            found = tomllib.load(file).get("target")
    except (OSError, ValueError):
        return None
    return found if isinstance(found, str) else None
