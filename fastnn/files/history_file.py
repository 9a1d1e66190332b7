"""The history of a population as the tensors of a file."""

from __future__ import annotations

import numpy as np

from ..reports.population_history import STATUSES, PopulationHistory
from . import population_file
from .model_file import Tensors


def tensors_of(history: PopulationHistory) -> Tensors:
    """Tensors of a history; its losses may be NaN, which a file has not, so their bits are in two halves."""
    found = {"epochs": history.epochs, "best_epoch": history.best_epoch}
    found["status"] = np.array([STATUSES.index(each) for each in history.status])
    tensors = {f"history.{name}": numbers.astype(np.float64) for name, numbers in found.items()}
    for name in ("loss", "val_loss"):
        bits = np.ascontiguousarray(getattr(history, name), np.float64).view(np.uint64)
        tensors[f"history.{name}"] = population_file.halves(bits)
    return tensors


def history_of(tensors: Tensors) -> PopulationHistory:
    """The history of such tensors; raises where they do not fit each other."""
    names = ("loss", "val_loss", "epochs", "status", "best_epoch")
    if tensors.keys() != {f"history.{name}" for name in names}:
        raise ValueError(f"the tensors of a history are {sorted(tensors)}")
    n, width = tensors["history.loss"].shape
    curves = []
    for name in names[:2]:
        found = population_file.tensor(tensors, f"history.{name}", (n, width // 2 * 2), "float64")
        curves.append(population_file.whole(f"history.{name}", found).view(np.float64))
    counts = []
    for name, most in zip(names[2:], (width // 2, len(STATUSES) - 1, width // 2), strict=True):
        found = population_file.tensor(tensors, f"history.{name}", (n,), "float64")
        if not ((found >= 0) & (found <= most) & (found == np.floor(found))).all():
            raise ValueError(f"history.{name} must be integers in [0, {most}]")
        counts.append(found.astype(np.int64))
    return PopulationHistory(curves[0], curves[1], counts[0], np.array(STATUSES)[counts[1]], counts[2])
