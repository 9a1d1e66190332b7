"""How `fit_groups` trains: groups are standardised and fitted as populations, here or in chunks on an engine."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .files import model_file, population_file, storage
from .files.groups_file import STATUSES, TRAINED, Statistics
from .jobs.checkpoints import Checkpoint, described
from .jobs.cuts import Cuts, Span
from .jobs.engines import Engine, Here, Run, node_of
from .kernels.programs import records
from .kernels.running import entry
from .population import Population
from .reports.population_history import STOPPED
from .reports.progress import PopulationProgress
from .training.group_rows import GroupRows
from .training.members import Members

LEAST = 16  # groups of a chunk, or a multiple


class Request(NamedTuple):
    """What `fit_groups` was asked for, checked."""

    by: list[Any]
    targets: list[Any]
    features: list[Any]
    sizes: list[Any]
    of_networks: dict[str, Any]  # further arguments of Population
    of_fit: dict[str, Any]  # arguments of Population.fit
    min_rows: int
    max_time: float | None
    progress: bool


class Whole(NamedTuple):
    """What all chunks have in common, which each machine gets once."""

    request: Request
    rows: GroupRows
    columns: tuple[list[NDArray[Any]], list[NDArray[Any]]]  # of inputs, of targets
    seeds: Sequence[int]


class Fitted(NamedTuple):
    """Groups after their fits."""

    known: Statistics
    population: population_file.Contents

    def put(self, some: slice, part: Fitted) -> None:
        """Take over what a part has of some groups."""
        for name, values in part.known._asdict().items():
            if name != "overall":  # the means of all
                getattr(self.known, name)[some] = values
        members, its = self.population.members, part.population.members
        members.vectors[some], members.states[some] = its.vectors, its.states
        self.population.split_seeds[some] = part.population.split_seeds


def nothing(whole: Whole, n: int) -> Fitted:
    """n groups that are not trained."""
    request = whole.request
    one = Population(request.sizes, 1, rng=0, **request.of_networks)
    members = Members.zeros(one._programs.layout, n)
    contents = population_file.Contents(one._architecture, members, np.zeros(n, np.int64), whole.seeds, None)
    return Fitted(Statistics.empty(n, *map(len, whole.columns)), contents)


def train(whole: Whole, part: Fitted, first: int, max_time: float | None, report: PopulationProgress) -> bool:
    """Standardise and train groups from a first one on, some after others, and fill in the part, which is of these.

    Gives whether `max_time` took nothing from them.
    """
    request, columns, known, members = whole.request, whole.columns, part.known, part.population.members
    rows, began, is_whole = whole.rows.part(first, first + len(members)), time.perf_counter(), True
    n, done = int(rows.edges[-1]), int(rows.edges[0])
    known.n_rows[: len(rows)] = np.diff(rows.edges)
    for some, start, stop in rows.chunks(len(columns[0]) + len(columns[1]), 4 * members.vectors.shape[1]):
        edges = rows.edges[some.start : some.stop + 1] - start
        X, y = (np.empty((stop - start, len(each)), request.of_networks["dtype"]) for each in columns)
        _standardise(rows, (columns[0], X), (columns[1], y), some, known)
        few = np.diff(edges) < request.min_rows
        known.status[some][few] = STATUSES.index("too few rows")
        good = known.status[some] == TRAINED
        if good.any():
            if not good.all():
                stays = np.repeat(good, np.diff(edges))
                X, y = X[stays], y[stays]
                edges = np.append(0, np.cumsum(np.diff(edges)[good]))
            left = None
            if max_time is not None:
                left = max(1e-9, (max_time - (time.perf_counter() - began)) * (stop - start) / (n - done))
            which = np.flatnonzero(good) + some.start
            seeds = _some_of(whole.seeds, which + first)
            population, entered = (
                Population(request.sizes, len(which), rng=seeds, **request.of_networks),
                time.perf_counter(),
            )
            history = population.fit((X, edges), y, max_time=left, **request.of_fit)
            if left is not None and time.perf_counter() - entered >= left and (history.status == STOPPED).any():
                is_whole = False
            members.vectors[which] = population._members.vectors
            for name in ("random", "noise"):
                members.states[name][which] = population._members.states[name]
            part.population.split_seeds[which] = population._split_seeds
            known.note(which, history)
        done = stop
        report.epochs(lambda stop=some.stop: stop * int(request.of_fit["epochs"]))  # type: ignore[misc]
    return is_whole


# ---- in chunks ----


class Trained(NamedTuple):
    """What a task gives back."""

    part: Fitted
    is_whole: bool
    seconds: float


def trained(whole: Whole, first: int, n: int, max_time: float | None, threads: int | None) -> Trained:
    """A task: n groups from a first one on, trained."""
    began = time.perf_counter()
    of_fit = whole.request.of_fit | {"threads": threads}
    whole = whole._replace(request=whole.request._replace(of_fit=of_fit))
    part = nothing(whole._replace(seeds=()), n)
    is_whole = train(whole, part, first, max_time, PopulationProgress(bar=False, lines=False, epochs=0))
    return Trained(part, is_whole, time.perf_counter() - began)


def train_in_chunks(whole: Whole, found: Fitted, report: PopulationProgress, engine: Any, checkpoint: Any) -> None:
    """Train all groups in chunks, on an engine or here, and keep them in a checkpoint, if there is one."""
    request, rows = whole.request, whole.rows
    elsewhere: Engine = Here() if engine is None else engine
    kept = None
    if checkpoint is not None:
        kept = Checkpoint(checkpoint, "fit_groups", node_of(elsewhere), _settings(whole, found))
    left = np.ones(len(rows), np.bool_)
    for description, tensors in () if kept is None else kept.chunks(0):
        first, stop = description["fit"]["groups"]
        found.put(slice(first, stop), _restored(description, tensors, found.population))
        left[first:stop] = False
    report.epochs(lambda: int((~left).sum()) * int(request.of_fit["epochs"]))
    counts = np.diff(rows.edges)
    end = None if request.max_time is None else time.perf_counter() + request.max_time
    with Run(elsewhere, trained, "the fits of groups") as run:
        sent: Any = run.put(whole._replace(rows=rows.part(0, len(rows)))) if left.any() else None
        edges = np.flatnonzero(np.diff(np.concatenate([[False], left, [False]]).astype(np.int8)))
        for begin, until in edges.reshape(-1, 2).tolist():  # groups that no chunk holds
            work = np.maximum(1.0, counts[begin:until])
            cuts = Cuts(work, max(1.0, elsewhere.chunk_seconds), elsewhere.n_workers, LEAST)
            threads = request.of_fit["threads"] if engine is None else 1

            def tasks(begin: int = begin, cuts: Cuts = cuts, threads: Any = threads) -> Iterator[tuple[Any, Any]]:
                while (part := cuts.next()) is not None:
                    groups = Span(begin + part.start, begin + part.stop)
                    time_left = None
                    if end is not None:
                        waiting = counts[groups.start :] @ left[groups.start :]
                        share = min(1.0, counts[groups.items].sum() * elsewhere.n_workers / waiting)
                        time_left = max(1e-9, (end - time.perf_counter()) * share)
                    yield groups, (sent, groups.start, groups.stop - groups.start, time_left, threads)

            for groups, result in run.results(tasks()):
                found.put(groups.items, result.part)
                left[groups.items] = False
                cuts.note(Span(groups.start - begin, groups.stop - begin), result.seconds)
                if kept is not None and result.is_whole:
                    kept.add(0, *_kept(groups, result.part))
                report.epochs(lambda: int((~left).sum()) * int(request.of_fit["epochs"]))


def _kept(groups: Span, part: Fitted) -> tuple[dict[str, Any], storage.Tensors]:
    """(description, tensors) of a chunk: a population's, and what is known of its groups."""
    contents = part.population._replace(seeds=None)
    description, tensors = population_file.written(contents, optimizer=False)
    description["fit"] = {"groups": list(groups)}
    for name, values in part.known._asdict().items():
        bits = values.astype(np.float64).reshape(len(values), -1).view(np.uint64)
        tensors[population_file.OF_FIT + name] = population_file.halves(bits)
    return description, tensors


def _restored(description: dict[str, Any], tensors: storage.Tensors, contents: population_file.Contents) -> Fitted:
    """What `_kept` was given."""
    custom = model_file.by_name(model_file.functions_of(contents.architecture))
    population = population_file.read(description, tensors, custom)
    empty = Statistics.empty(len(population.members), contents.architecture.n_inputs, contents.architecture.sizes[-1])
    known = {}
    for name, like in empty._asdict().items():
        bits = population_file.whole(name, tensors[population_file.OF_FIT + name])
        known[name] = bits.view(np.float64).reshape(like.shape).astype(like.dtype)
    return Fitted(Statistics(**known), population)


def _settings(whole: Whole, found: Fitted) -> dict[str, Any]:
    """What the fits depend on, by the names of arguments; raises where no file can tell whether two are equal."""
    request, rows = whole.request, whole.rows
    first = Population(request.sizes, 1, rng=0, **request.of_networks)
    return {
        "frame": (whole.columns, rows.edges, rows.rows, [repr(column.tolist()) for column in rows.keys]),
        "columns": [repr(each) for each in (request.by, request.targets, request.features)],
        "architecture": model_file.described(found.population.architecture),
        "init": first._members.vectors,
        "rng": whole.seeds,
        "min_rows": request.min_rows,
        **{name: described(name, value) for name, value in request.of_fit.items() if name != "threads"},
    }


def _some_of(seeds: Sequence[int], which: NDArray[np.int64]) -> Any:
    """The seeds of some groups: the first one alone, where consecutive ones follow it."""
    if isinstance(seeds, range) and which[-1] - which[0] == len(which) - 1:
        return seeds[int(which[0])]
    return [seeds[i] for i in which.tolist()]


def _standardise(
    rows: GroupRows,
    inputs: tuple[list[NDArray[Any]], NDArray[Any]],
    targets: tuple[list[NDArray[Any]], NDArray[Any]],
    some: slice,
    known: Statistics,
) -> None:
    """Standardise the columns of some groups, and note why a group cannot be trained."""
    edges = rows.edges[some.start : some.stop + 1]
    first, stop, m = int(edges[0]), int(edges[-1]), some.stop - some.start
    kinds = []
    for (columns, out), means, stds in (
        (inputs, known.input_means, known.input_stds),
        (targets, known.target_means, known.target_stds),
    ):
        found = np.empty((len(columns), m), np.int8)
        mean, std = np.empty(m), np.empty(m)
        for j, column in enumerate(columns):
            entry.standardise_groups(rows.values(column, first, stop), edges - first, out, j, mean, std, found[j])
            means[some, j], stds[some, j] = mean, std
        kinds.append(found)
    status, of_all = known.status[some], np.concatenate(kinds)
    status[(kinds[0] == records.CONSTANT).all(axis=0)] = STATUSES.index("constant inputs")
    status[(kinds[1] == records.CONSTANT).all(axis=0)] = STATUSES.index("constant target")
    status[(of_all == records.INFINITE).any(axis=0)] = STATUSES.index("infinite values")
    status[(of_all == records.MISSING).any(axis=0)] = STATUSES.index("missing values")
