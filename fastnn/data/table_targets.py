"""Targets of tables: labels of classes as codes, and numbers as a network gives them."""

from __future__ import annotations

from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..checks import scalars
from ..checks.scalars import shown
from . import arrays, columns
from .columns import Column
from .encodings import EXACT

LARGEST = 1e140  # the squares of numbers up to it, and their sums, are finite
SKEWED = 1.5  # from this skewness on a logarithm may help
LOG_MAX = 709.0  # its exponential is finite


# ---- classes ----


class Classes(NamedTuple):
    """The labels of classes, sorted, as a class has them in scikit-learn: bools, integers, whole floats or text."""

    labels: NDArray[Any]  # (n_classes,)

    @classmethod
    def of(cls, y: Any, name: str = "y") -> Classes:
        """The different labels in y, a series or an array (n,). Raises ValueError or TypeError for what is no label."""
        found = _labels(target(name, y))
        return cls(np.array(sorted(set(found)), str) if isinstance(found, list) else np.unique(found))

    def codes(self, y: Any, name: str = "y") -> NDArray[np.int64]:
        """The place (n,) of each label among the classes; raises ValueError for a label that is none of them."""
        found = _labels(target(name, y))
        codes = np.full(len(found), -1)
        if isinstance(found, list):
            places = {label: i for i, label in enumerate(self.labels.tolist())}
            codes = np.fromiter(map(places.get, found, repeat(-1)), np.int64, len(found))
        elif self.labels.dtype.kind in "biuf":
            with np.errstate(all="ignore"):  # what does not fit is another number then
                same = found.astype(self.labels.dtype)
            near = np.minimum(np.searchsorted(self.labels, same), len(self.labels) - 1)
            codes = np.where((same == found) & (self.labels[near] == same), near, -1)
        if codes.min() < 0:
            i = int(codes.argmin())
            value = found[i] if isinstance(found, list) else found[i].item()
            raise ValueError(
                f"{name} must hold the labels {shown(self.labels.tolist())}, got {shown(value)} in row {i}"
            )
        return codes


def target(name: str, y: Any) -> Column:
    """y (n,) as a column without missing values; an array (n, 1) is one too."""
    if isinstance(y, np.ndarray) and y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    column = columns.read(name, y)
    if not len(column.values):
        raise ValueError(f"{name} must hold at least one label, got none")
    if column.missing is not None or column.kind == "empty":
        i = 0 if column.missing is None else int(column.missing.argmax())
        raise ValueError(f"{name} must hold no missing value, got one in row {i}; leave out its row")
    return column


def _labels(column: Column) -> Any:
    """The labels of a column: a list of text, or an array of bools, integers or floats."""
    if column.kind in ("dates", "durations"):
        raise TypeError(f"{column.what} must hold labels, got {columns.KINDS[column.kind]}; make them text")
    if column.kind == "text":
        return column.values
    values: NDArray[Any] = column.values
    if values.dtype.kind == "f":
        wrong = (values != np.floor(values)) | (np.abs(values) > EXACT)
        if wrong.any():
            i = int(wrong.argmax())
            raise ValueError(
                f"{column.what} must hold labels, text or whole numbers, got {values[i]} in row {i}; "
                "a regressor takes numbers"
            )
    return values


# ---- numbers ----


class Standardised(NamedTuple):
    """How numeric targets become what a network gives: standardised in float64, some of them as logarithms.

    A target y becomes (log y - mean) / deviation, or the same without the logarithm; the deviation of a constant is 1.
    """

    means: NDArray[np.float64]  # (n_targets,)
    deviations: NDArray[np.float64]  # (n_targets,), above 0
    logarithms: NDArray[np.bool_]  # (n_targets,)
    single: bool  # whether y has one axis

    @classmethod
    def of(cls, y: Any, log_target: bool | str = "auto", name: str = "y") -> Standardised:
        """What numbers (n,) or (n, n_targets) say.

        log_target : "auto", True or False
            Whether to take logarithms, which numbers above 0 have. "auto" takes them of a target that is skewed to
            large values, where its skewness is above 1.5, and that of the logarithms is less than half as far from 0.

        Raises ValueError for numbers that are not finite, and for log_target=True where one is not above 0.
        """
        if log_target != "auto" and not isinstance(log_target, bool):
            raise ValueError(f"log_target must be 'auto', True or False, got {shown(log_target)}")
        given, single = _numeric(name, y)
        if log_target is True and not (given > 0).all():
            i, j = np.argwhere(~(given > 0))[0].tolist()
            place = f"[{i}]" if single else f"[{i}, {j}]"
            raise ValueError(f"{name} must be above 0 for log_target=True, got {name}{place} = {given[i, j]}")
        logs = np.array([_is_log(column) if log_target == "auto" else bool(log_target) for column in given.T])
        found = np.where(logs, np.log(np.where(logs, given, 1.0)), given)
        means = found[0] + (found - found[0]).mean(axis=0)  # exact for a constant
        deviations = np.sqrt(np.square(found - means).mean(axis=0))
        deviations[deviations == 0] = 1.0
        return cls(means, deviations, logs, single)

    def forward(self, y: Any, dtype: str, name: str = "y") -> NDArray[Any]:
        """Targets (n, n_targets) in the dtype, for y of the same shape as in training."""
        given, single = _numeric(name, y)
        if given.shape[1] != len(self.means) or single != self.single:
            expected = "(n,)" if self.single else f"(n, {len(self.means)})"
            raise ValueError(f"{name} must have shape {expected}, as in training, got {np.shape(y)}")
        wrong = self.logarithms & ~(given > 0)
        if wrong.any():
            i, j = np.argwhere(wrong)[0].tolist()
            raise ValueError(f"{name} must be above 0, as in training, got {given[i, j]} in row {i}")
        found = np.where(self.logarithms, np.log(np.where(self.logarithms, given, 1.0)), given)
        return ((found - self.means) / self.deviations).astype(dtype)

    def back(self, outputs: NDArray[Any]) -> NDArray[np.float64]:
        """Predictions (n,) or (n, n_targets) of a network's outputs (n, n_targets)."""
        found = outputs.astype(np.float64) * self.deviations + self.means
        logs = np.where(self.logarithms, np.minimum(found, LOG_MAX), 0.0)
        found = np.where(self.logarithms, np.exp(logs), found)
        return found[:, 0] if self.single else found

    def to_dict(self) -> dict[str, Any]:
        """The fields in JSON, which has all digits of a float."""
        means, deviations, logs = (each.tolist() for each in self[:3])
        return {"means": means, "deviations": deviations, "logarithms": logs, "single": self.single}

    @classmethod
    def from_dict(cls, d: Any) -> Standardised:
        """The fields of a description; raises ValueError or TypeError where it is none."""
        if not isinstance(d, dict) or d.keys() != {*cls._fields}:
            raise ValueError(f"targets must have {sorted(cls._fields)}, got {shown(d)}")
        for name in cls._fields[:3]:
            if not isinstance(d[name], list) or not d[name] or len(d[name]) != len(d["means"]):
                raise ValueError(f"{name} must be a list, one for each target, got {shown(d[name])}")
        single = scalars.boolean("single", d["single"])
        if single and len(d["means"]) != 1:
            raise ValueError("single must be false for several targets")
        return cls(
            np.array([scalars.number("means", each, -np.inf) for each in d["means"]], np.float64),
            np.array([scalars.number("deviations", each, 0.0, open_low=True) for each in d["deviations"]], np.float64),
            np.array([scalars.boolean("logarithms", each) for each in d["logarithms"]]),
            single,
        )


def _numeric(name: str, y: Any) -> tuple[NDArray[np.float64], bool]:
    """(y (n, n_targets) in float64, whether it has one axis)."""
    found = arrays.numeric(name, y)
    if found.ndim not in (1, 2) or found.size == 0:
        raise ValueError(f"{name} must have shape (n,) or (n, n_targets), got {found.shape}")
    given = found.reshape(len(found), -1).astype(np.float64)
    wrong = ~(np.abs(given) <= LARGEST)
    if wrong.any():
        i, j = np.argwhere(wrong)[0].tolist()
        place = f"[{i}]" if found.ndim == 1 else f"[{i}, {j}]"
        raise ValueError(f"{name} must hold finite numbers up to {LARGEST:g}, got {name}{place} = {given[i, j]}")
    return given, found.ndim == 1


def _is_log(values: NDArray[np.float64]) -> bool:
    """Whether the logarithms of a target are better to learn than the target, by their skewness."""
    if not (values > 0).all():
        return False
    found = _skewness(values)
    return found > SKEWED and abs(_skewness(np.log(values))) < found / 2


def _skewness(values: NDArray[np.float64]) -> float:
    """The third central moment divided by the cube of the standard deviation; 0 for a constant."""
    centred = values - values.mean()
    largest = float(np.abs(centred).max())
    if largest == 0:
        return 0.0
    centred /= largest
    return float(np.mean(centred**3) / np.mean(centred**2) ** 1.5)
