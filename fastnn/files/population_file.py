"""A population as a file holds it: a description, and tensors with a row for each member."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..checks import scalars
from ..checks.scalars import shown
from ..data import arrays
from ..kernels.formulas.update_rules import MAX_NUMBERS, OPTIMIZERS, POSITIONS
from ..settings import input_map, optimizers
from ..settings.layers import Architecture
from ..training.member_optimizers import MAX_FIELDS, MemberOptimizers
from ..training.members import Members
from . import model_file
from .model_file import MAX_STEPS, Tensors

MAX_MEMBERS = 2**40
OF_FIT = "fit."  # begins the names of tensors that a checkpoint has beside those of a population
_HALF = np.uint64(2**32)
NOT_SAVED = "the optimizers' state is not saved, because a learning rate or a weight decay is a function"


class Contents(NamedTuple):
    """What a file holds of a population."""

    architecture: Architecture
    members: Members
    split_seeds: NDArray[np.int64]
    seeds: Sequence[int] | None
    feature_names: tuple[str, ...] | None


def written(contents: Contents, optimizer: bool) -> tuple[dict[str, Any], Tensors]:
    """(the description, the tensors) of a population; with `optimizer`, of what its optimizers keep too."""
    members = contents.members
    description = {
        "population": len(members),
        **model_file.described(contents.architecture),
        "seeds": None if contents.seeds is None else list(contents.seeds),
        "feature_names": contents.feature_names,
    }
    generators = members.states["random"], members.states["noise"], contents.split_seeds.astype(np.uint64)
    tensors = {"vectors": members.vectors, "generators": halves(np.stack(generators, axis=1))}
    if members.affines is not None:
        tensors["inputs"] = members.affines
    trained = members.trained
    if not (optimizer and trained.any()):
        return description, tensors
    latest = members.latest
    firsts = (np.flatnonzero(trained & (latest.which == kind)) for kind in range(len(latest.kinds)))
    kinds = [latest[int(some[0])] if len(some) else None for some in firsts]
    described = [None if kind is None else optimizers.described(kind) for kind in kinds]
    if any(kind is not None and text is None for kind, text in zip(kinds, described, strict=True)):
        warnings.warn(f"{NOT_SAVED}; optimizer=False leaves it out without a warning", stacklevel=3)
        return description, tensors
    description["optimizers"] = described
    tensors["optimizer.kinds"] = np.where(trained, latest.which, -1.0)
    tensors["optimizer.settings"], tensors["optimizer.numbers"] = latest.numbers, members.states["numbers"]
    if members.optimizer_vectors is not None:  # which may have more vectors than these optimizers
        for i in range(max(len(OPTIMIZERS[kind._kernel].vectors) for kind in kinds if kind is not None)):
            tensors[f"optimizer.vector{i}"] = members.optimizer_vectors[:, i]
    return description, tensors


def read(d: dict[str, Any], tensors: Tensors, custom: Mapping[str, Any]) -> Contents:
    """The population of a description and its tensors, as `written` gave them; raises where they do not fit."""
    n = scalars.integer("population", d["population"], 1, MAX_MEMBERS)
    architecture = model_file.architecture_of(d, custom)
    size = sum(math.prod(shape) for node in architecture.numbered for shape in node.shapes.values())
    dtype = architecture.dtype
    vectors = tensor(tensors, "vectors", (n, size), dtype)
    _check_least(architecture, vectors)
    members = Members.of(np.array(vectors, order="C"))
    random, noise, split_seeds = whole("generators", tensor(tensors, "generators", (n, 6), "float64")).T
    if split_seeds.max() >= 2**63:
        raise ValueError("the seeds of held-out sets must be below 2**63")
    members.states["random"], members.states["noise"] = random, noise
    expected = {"vectors", "generators"}
    if "inputs" in tensors:
        expected.add("inputs")
        found = tensor(tensors, "inputs", (n, 2, architecture.n_inputs), "float64")
        members.affines = input_map.of_members(found[:, 0], found[:, 1], n, architecture.n_inputs, dtype)
        architecture = replace(architecture, own_inputs=True)
    if "optimizers" in d:
        expected |= _read_optimizers(members, d["optimizers"], tensors)
    found_names = {name for name in tensors if not name.startswith(OF_FIT)}
    if found_names != expected:
        raise ValueError(f"its tensors are {sorted(found_names)}, not {sorted(expected)}")
    seeds = d["seeds"]
    if seeds is not None:
        if not isinstance(seeds, list) or len(seeds) != n:
            raise ValueError(f"seeds must be {n} integers or null, got {shown(seeds)}")
        seeds = [scalars.integer(f"seeds[{i}]", seed, 0) for i, seed in enumerate(seeds)]
    names = arrays.feature_names(d.get("feature_names"), architecture.n_inputs)
    return Contents(architecture, members, split_seeds.astype(np.int64), seeds, names)


def _read_optimizers(members: Members, described: Any, tensors: Tensors) -> set[str]:
    """Let members have the state of the optimizers that a file describes; gives the names of the tensors."""
    n, size = members.vectors.shape
    examples = [None if each is None else optimizers.resolve(optimizers.restored(each)) for each in described]
    kinds = tuple(None if each is None else MemberOptimizers.of(each, 1).kinds[0] for each in examples)
    which = tensor(tensors, "optimizer.kinds", (n,), "float64")
    settings = tensor(tensors, "optimizer.settings", (n, MAX_FIELDS), "float64")
    numbers = tensor(tensors, "optimizer.numbers", (n, MAX_NUMBERS), "float64")
    if not np.isin(which, [-1, *(i for i, kind in enumerate(kinds) if kind is not None)]).all():
        raise ValueError(f"optimizer.kinds must name optimizers, got {which.min():g} to {which.max():g}")
    trained, names = which >= 0, {"optimizer.kinds", "optimizer.settings", "optimizer.numbers"}
    found = tuple(kind if kind is not None else MemberOptimizers.of("sgd", 1).kinds[0] for kind in kinds)
    latest = MemberOptimizers(found, np.where(trained, which, 0).astype(np.int64), settings)
    vectors = np.zeros((n, latest.n_vectors, size), members.vectors.dtype)
    for i in range(latest.n_vectors):
        names.add(f"optimizer.vector{i}")
        vectors[:, i] = tensor(tensors, f"optimizer.vector{i}", (n, size), str(vectors.dtype))
    for kind, optimizer in enumerate(found):
        some = np.flatnonzero(trained & (latest.which == kind))
        if not len(some):
            continue
        latest.check(kind, some)
        rule = OPTIMIZERS[optimizer._kernel]
        _check_numbers(numbers[some], len(rule.state))
        for i, name in enumerate(rule.vectors):
            if name in rule.not_negative and (least := vectors[some, i].min()) < 0:
                raise ValueError(f"the tensors optimizer.{name} must not be negative, got {least:g}")
    members.states["optimizer"], members.states["numbers"] = trained, numbers
    members.optimizers, members.optimizer_vectors = {1: latest}, vectors if latest.n_vectors else None
    return names


def _check_numbers(numbers: NDArray[np.float64], n_powers: int) -> None:
    """Raise unless they are powers in [0, 1], zeros, and the steps and epochs done."""
    highest = np.zeros(MAX_NUMBERS)
    highest[:n_powers], highest[list(POSITIONS.values())] = 1.0, MAX_STEPS
    whole = numbers[:, list(POSITIONS.values())]
    if not ((numbers >= 0) & (numbers <= highest)).all() or (whole != np.floor(whole)).any():
        raise ValueError(
            f"an optimizer's numbers must be powers and counts, got {numbers.min():g} to {numbers.max():g}"
        )


def _check_least(architecture: Architecture, vectors: NDArray[Any]) -> None:
    """Raise where an element is less than one of its tensor can be."""
    first = 0
    for node in architecture.numbered:
        least = {tensor.name: tensor.least for tensor in node.kind.tensors(node.fan_in)}
        for name, shape in node.shapes.items():
            stop = first + int(np.prod(shape))
            if (found := vectors[:, first:stop].min(initial=np.inf)) < least[name]:
                raise ValueError(f"layers.{node.number}.{name} must be at least {least[name]:g}, got {found:g}")
            first = stop


def tensor(tensors: Tensors, name: str, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """A tensor of a file; raises where it has another shape or dtype."""
    found = tensors[name]
    if found.shape != shape or found.dtype != dtype:
        raise ValueError(f"{name} is {found.dtype} {found.shape}, not {dtype} {shape}")
    return found


def halves(numbers: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Numbers of 64 bits as two of 32 bits each, which float64 holds; a file has no integers."""
    return np.concatenate([numbers // _HALF, numbers % _HALF], axis=1).astype(np.float64)


def whole(name: str, found: NDArray[np.float64]) -> NDArray[np.uint64]:
    """What `halves` was given; raises where found, the tensor of that name, is none of its results."""
    if not ((found >= 0) & (found < 2.0**32) & (found == np.floor(found))).all():
        raise ValueError(f"{name} must hold integers of 32 bits")
    numbers, n = found.astype(np.uint64), found.shape[1] // 2
    return numbers[:, :n] * _HALF + numbers[:, n:]
