"""What `fit_groups` trained, as a file holds it: a population, with the key and the statistics of each group."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..checks import scalars
from ..checks.scalars import shown
from ..reports.population_history import DIVERGED, PopulationHistory
from . import population_file
from .model_file import Tensors

STATUSES = (
    *("trained", "diverged", "too few rows", "constant inputs", "constant target"),
    *("missing values", "infinite values", "empty"),
)
TRAINED, EMPTY = STATUSES.index("trained"), STATUSES.index("empty")
_DATES = {"date": datetime.date, "datetime": datetime.datetime}


class Statistics(NamedTuple):
    """What is known of each of n groups."""

    status: NDArray[np.int8]  # numbers of STATUSES
    n_rows: NDArray[np.int64]
    epochs: NDArray[np.int64]
    loss: NDArray[np.float64]  # 0 where there is no epoch
    input_means: NDArray[np.float64]  # (n, inputs); these and the next are finite
    input_stds: NDArray[np.float64]
    target_means: NDArray[np.float64]  # (n, targets)
    target_stds: NDArray[np.float64]
    overall: NDArray[np.float64]  # (targets,): the means over all groups

    @classmethod
    def empty(cls, n: int, n_inputs: int, n_targets: int) -> Statistics:
        """Statistics of groups that have no rows yet."""
        status = np.full(n, TRAINED, np.int8)
        shapes = (n,), (n, n_inputs), (n, n_inputs), (n, n_targets), (n, n_targets), (n_targets,)
        n_rows, epochs = np.zeros(n, np.int64), np.zeros(n, np.int64)
        return cls(status, n_rows, epochs, *map(np.zeros, shapes))

    def note(self, which: NDArray[np.int64], history: PopulationHistory) -> None:
        """Note how groups were trained."""
        self.epochs[which] = history.epochs
        last = np.maximum(history.epochs - 1, 0)
        if history.loss.shape[1]:
            self.loss[which] = np.nan_to_num(history.loss[np.arange(len(which)), last], posinf=0.0, neginf=0.0)
        self.status[which[history.status == DIVERGED]] = STATUSES.index("diverged")

    def fill_means(self) -> None:
        """Give groups without a network no deviation, and those without a finite target the mean of all."""
        self.status[self.n_rows == 0] = EMPTY
        without = self.status != TRAINED
        self.input_means[without] = np.nan_to_num(self.input_means[without])
        self.target_stds[without] = self.input_stds[without] = 0.0
        for j, means in enumerate(self.target_means.T):
            some = (self.n_rows > 0) & np.isfinite(means)
            if not some.any():
                raise ValueError("target must hold a finite number, got none")
            self.overall[j] = means[some] @ (self.n_rows[some] / self.n_rows[some].sum())
            means[~some] = self.overall[j]


class Contents(NamedTuple):
    """What a file holds of the networks of groups."""

    by: list[Any]
    targets: list[Any]
    features: list[Any]
    keys: list[NDArray[Any]]  # for each column of keys an array with one of each group
    single: bool  # whether predictions have one axis
    fallback: str | None
    statistics: Statistics
    population: population_file.Contents


def written(contents: Contents) -> tuple[dict[str, Any], Tensors]:
    """(the description, the tensors) of the networks of groups."""
    description, tensors = population_file.written(contents.population, optimizer=False)
    for label in (*contents.by, *contents.targets, *contents.features):
        if not isinstance(label, (str, int)):
            raise TypeError(f"columns must have names or numbers for labels to be saved, got {shown(label)}")
    description["groups"] = {
        **{name: getattr(contents, name) for name in ("by", "targets", "features", "single", "fallback")},
        "keys": [_described(column) for column in contents.keys],
    }
    for name, values in contents.statistics._asdict().items():
        tensors[f"groups.{name}"] = values.astype(np.float64)
    return description, tensors


def read(d: dict[str, Any], tensors: Tensors, custom: Mapping[str, Any]) -> Contents:
    """The networks of groups of a description and its tensors; raises where they do not fit."""
    rest = {name: tensor for name, tensor in tensors.items() if not name.startswith("groups.")}
    population = population_file.read(d, rest, custom)
    n, about = len(population.members), d["groups"]
    by, targets, features = (_labels(name, about[name]) for name in ("by", "targets", "features"))
    sizes = population.architecture.sizes
    if len(features) != sizes[0] or len(targets) != sizes[-1] or len(about["keys"]) != len(by):
        raise ValueError("its columns are not those of its networks and keys")
    if about["fallback"] not in ("mean", None):
        raise ValueError(f"fallback must be 'mean' or null, got {shown(about['fallback'])}")
    single = scalars.boolean("single", about["single"])
    if single and len(targets) != 1:
        raise ValueError("single must be false for several targets")
    keys = [_restored(column, n) for column in about["keys"]]
    if len(set(zip(*(column.tolist() for column in keys), strict=True))) < n:
        raise ValueError("its keys must differ")
    found = {}
    for name, like in Statistics.empty(n, len(features), len(targets))._asdict().items():
        values = population_file.tensor(tensors, f"groups.{name}", like.shape, "float64")
        whole = like.dtype.kind == "i"
        most = len(STATUSES) - 1 if name == "status" else 2**62
        if whole and not ((values >= 0) & (values <= most) & (values == np.floor(values))).all():
            raise ValueError(f"groups.{name} must be integers in [0, {most}]")
        if name.endswith("stds") and values.min(initial=0.0) < 0:
            raise ValueError(f"groups.{name} must be at least 0, got {values.min():g}")
        found[name] = values.astype(like.dtype)
    if any(name.startswith("groups.") and name[7:] not in found for name in tensors):
        raise ValueError(f"its tensors are {sorted(tensors)}")
    return Contents(by, targets, features, keys, single, about["fallback"], Statistics(**found), population)


def _labels(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list) or not value or not all(isinstance(each, (str, int)) for each in value):
        raise TypeError(f"{name} must be a list of labels, got {shown(value)}")
    return value


def _described(column: NDArray[Any]) -> dict[str, Any]:
    """A column of keys in JSON: its numbers or strings, or dates as text."""
    values = column.tolist()
    kinds = {type(each) for each in values}
    for name, kind in _DATES.items():
        if all(
            issubclass(each, kind) and (name == "datetime") == issubclass(each, datetime.datetime) for each in kinds
        ):
            return {"kind": name, "values": [each.isoformat() for each in values]}
    if not kinds <= {str, int, float, bool}:
        raise TypeError(f"keys must be numbers, strings or dates to be saved, got {shown(values[0])}")
    return {"kind": column.dtype.str if column.dtype.kind in "biuf" else "object", "values": values}


def _restored(d: Any, n: int) -> NDArray[Any]:
    """The column of keys of a description."""
    kind, values = d["kind"], d["values"]
    if not isinstance(values, list) or len(values) != n:
        raise ValueError(f"keys must be {n}, got {shown(values)}")
    if kind in _DATES:
        values, kind = [_DATES[kind].fromisoformat(each) for each in values], "object"
    elif not all(isinstance(each, (str, int, float)) for each in values):
        raise TypeError(f"keys must be numbers or strings, got {shown(values)}")
    if kind != "object":
        if np.dtype(kind).kind not in "biuf":
            raise ValueError(f"keys must be numbers, strings or dates, got {shown(kind)}")
        return np.array(values, kind)
    found = np.empty(n, object)
    found[:] = values
    return found
