"""Any model of a file as something that reads a frame and predicts."""

from __future__ import annotations

import os
from typing import Any

from .. import GroupModels, Predictor, load
from .failures import Failure, told
from .reading import check_columns, matrix


def loaded(path: str) -> Any:
    """The model in a file; raises `Failure` for what is none."""
    if not os.path.exists(path):
        raise Failure(f"there is no file {path}")
    try:
        return load(path)
    except (ValueError, TypeError, OSError, ImportError) as error:
        message = told(error).replace("path must", "MODEL must", 1)
        raise Failure(message if path in message else f"{path}: {message}") from None


def inputs_of(model: Any, frame: Any, name: str) -> Any:
    """The columns of a frame that a model reads, in its order: a frame for tables and groups, else an array.

    Raises `Failure` where a column is missing, and for values that are no numbers where the model takes no others.
    """
    predictor = Predictor(model)
    wanted = predictor.columns
    if wanted is None:
        wanted, n = list(frame.columns), predictor.n_inputs
        if len(wanted) != n:
            told = f"{name} must have {n} columns, as the model knows them by position, got {len(wanted)}"
            raise Failure(told)
    else:
        check_columns(frame, wanted, name, "which the model reads")
    if hasattr(model, "table_") or isinstance(model, GroupModels):
        return frame[wanted]
    return matrix(frame, wanted, name)


def answer(model: Any, inputs: Any, threads: int | None = None) -> Any:
    """What a model predicts for the rows of `inputs_of`, with the probabilities of classes where it gives some."""
    return Predictor(model, probabilities=True, threads=threads).answer(inputs)


def target_beside(path: str) -> str | None:
    """The target in the TOML file that `fastnn train` writes beside a model; None where there is none."""
    import tomllib

    try:
        with open(os.path.splitext(path)[0] + ".toml", "rb") as file:
            found = tomllib.load(file).get("target")
    except (OSError, ValueError):
        return None
    return found if isinstance(found, str) else None
