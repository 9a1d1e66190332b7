"""`fit_groups`: a network for each group of a table, trained at once, and `GroupModels`: these networks by key."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .checks import file_paths, scalars
from .checks.other_names import explained
from .checks.scalars import shown
from .data import arrays, frames
from .files import groups_file, storage
from .files.groups_file import STATUSES, TRAINED, Contents
from .group_training import Request, Whole, nothing, train, train_in_chunks
from .jobs.engines import engine_of
from .kernels.running import entry
from .model import Model
from .population import Population, seeds_of
from .reports.progress import PopulationProgress
from .settings.custom import Activation
from .settings.each import is_array
from .settings.initialisers import Init
from .settings.layers import AnyLayer, Embedding
from .settings.losses import AnyLoss
from .settings.optimizers import Adam, Optimizer
from .settings.stopping import Patience
from .training.group_rows import GroupRows
from .training.members import MemberSamples, Rows

# Arguments of `Population.fit` that are passed on; they are the same for all groups.
OF_FIT = (
    *("epochs", "batch_size", "optimizer", "l2", "l1", "max_norm", "dropout", "input_noise", "min_derivative"),
    *("shuffle", "validation_fraction", "stopping", "threads"),
)


class GroupModel:
    """What `models[key]` gives: one group's network, with the statistics that standardise what it reads and gives.

    Attributes
    ----------
    key, status, n_rows, epochs, loss
        What `GroupModels` has of the group.
    features : list
        The columns of inputs.
    input_mean, input_std, target_mean, target_std : array (columns,), float64
        A standard deviation is 0 where a column is constant: the network sees 0 there.
    model : Model or None
        It takes standardised inputs, and gives standardised outputs. A copy; None for a group without a network.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> frame = {"shop": np.repeat(["x", "y"], 20), "day": np.tile(np.arange(20.0), 2)}
    >>> frame["sold"] = frame["day"] * np.repeat([2, 3], 20)
    >>> models = fastnn.fit_groups(frame, by="shop", target="sold", layers=[], epochs=5, rng=0)
    >>> models["y"]
    GroupModel of 'y': trained, 20 rows
    >>> models["y"].input_mean, models["y"].target_mean
    (array([9.5]), array([28.5]))
    """

    def __init__(self, models: GroupModels, key: Any, i: int):
        known = models._contents.statistics
        self._models, self._number = models, i
        self.key, self.status, self.features = key, STATUSES[known.status[i]], models.features
        self.n_rows, self.epochs = int(known.n_rows[i]), int(known.epochs[i])
        self.loss = float(known.loss[i]) if self.epochs else math.nan
        self.input_mean, self.input_std = known.input_means[i].copy(), known.input_stds[i].copy()
        self.target_mean, self.target_std = known.target_means[i].copy(), known.target_stds[i].copy()

    @cached_property
    def model(self) -> Model | None:
        return self._models.population[self._number] if self.status == STATUSES[TRAINED] else None

    def __repr__(self) -> str:
        return f"GroupModel of {self.key!r}: {self.status}, {self.n_rows} rows"

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Predictions (rows,), or (rows, targets) for several targets, for X: rows of features as in the frame.

        X is an array (rows, features), in the order of `features`, or a frame that has these columns. Raises ValueError
        or TypeError for another shape, or where a column is missing.
        """
        X, model = _plain_rows(X, self.features), self.model
        if model is None:
            found = np.repeat(self._models._instead(np.array([self._number])), len(X), axis=0)
        else:
            inputs, edges = np.empty(X.shape, model.dtype), np.array([0, len(X)])
            for j, factor in enumerate(_factors(self.input_std)):
                column, mean = np.ascontiguousarray(X[:, j]), self.input_mean[j : j + 1]
                entry.transform_groups(column, edges, inputs, j, mean, np.array([factor]))
            found = model.predict(inputs) * self.target_std + self.target_mean
        return found[:, 0] if self._models._contents.single else found


class GroupModels(Mapping[Any, GroupModel]):
    """The networks that `fit_groups` trained, by the keys of their groups; `fastnn.load` reads them from a file.

    `models[key]` is a `GroupModel`: one group's network, with a `predict` that takes inputs as they are in the frame.
    It raises KeyError where there is no such group. With several columns `by` a key is a tuple. `len`, iteration,
    `keys`, `items`, `values`, `get` and `in` are those of a dict. Groups are in ascending order of their keys; keys
    that cannot be compared are in the order in which they first come. Categories without rows come last.

    Attributes
    ----------
    by, targets, features : list
        The columns of keys, targets and inputs.
    status : array (groups,) of str
        "trained"; or why a group has no network: "diverged", "too few rows", "constant inputs", "constant target",
        "missing values", "infinite values", or "empty", for a category without a row.
    errors : dict
        The status of each group that has no network, by key.
    n_rows, epochs : array (groups,), int64
        How many rows each group has, and how many epochs its network did.
    loss : array (groups,), float64
        The loss of each one's last epoch, of standardised targets; NaN where there is none.
    input_means, input_stds, target_means, target_stds : array (groups, columns), float64
        What standardises; a standard deviation is 0 where a column is constant.
    population : Population
        The networks, member i for group i. They take standardised inputs. A group that was not trained has zeros.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> frame = {"shop": ["a"] * 50 + ["b"] * 50, "price": np.linspace(1, 3, 100), "sold": np.linspace(90, 10, 100)}
    >>> models = fastnn.fit_groups(frame, by="shop", target="sold", layers=[8], epochs=50, rng=0)
    >>> models
    GroupModels of 2 groups by 'shop': 2 trained
    >>> models["a"].predict([[1.5], [2.0]]).shape, models.predict(frame).shape
    ((2,), (100,))
    """

    def __init__(self) -> None:
        raise TypeError("GroupModels are made by fastnn.fit_groups, or read by fastnn.load")

    @classmethod
    def _of(cls, contents: Contents) -> GroupModels:
        made = object.__new__(cls)
        made._contents = contents
        made.population = Population._of(contents.population)
        return made

    _contents: Contents
    population: Population

    __eq__, __hash__ = object.__eq__, object.__hash__  # a Mapping would compare all groups

    # ---- what is known ----

    by = property(lambda self: list(self._contents.by))
    targets = property(lambda self: list(self._contents.targets))
    features = property(lambda self: list(self._contents.features))
    n_rows = property(lambda self: self._contents.statistics.n_rows.copy())
    epochs = property(lambda self: self._contents.statistics.epochs.copy())
    input_means = property(lambda self: self._contents.statistics.input_means.copy())
    input_stds = property(lambda self: self._contents.statistics.input_stds.copy())
    target_means = property(lambda self: self._contents.statistics.target_means.copy())
    target_stds = property(lambda self: self._contents.statistics.target_stds.copy())

    @property
    def status(self) -> NDArray[np.str_]:
        return np.array(STATUSES)[self._contents.statistics.status]

    @property
    def loss(self) -> NDArray[np.float64]:
        known = self._contents.statistics
        return np.where(known.epochs > 0, known.loss, np.nan)

    @property
    def errors(self) -> dict[Any, str]:
        status = self._contents.statistics.status
        return {self._key(i): STATUSES[status[i]] for i in np.flatnonzero(status != TRAINED).tolist()}

    def __repr__(self) -> str:
        counts = np.bincount(self._contents.statistics.status, minlength=len(STATUSES)).tolist()
        told = ", ".join(f"{n:,} {name}" for name, n in zip(STATUSES, counts, strict=True) if n)
        return f"GroupModels of {len(self):,} groups by {', '.join(map(repr, self.by))}: {told}"

    def __len__(self) -> int:
        return len(self._contents.statistics.status)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._places)

    def _key(self, i: int) -> Any:
        key = tuple(column[i : i + 1].tolist()[0] for column in self._contents.keys)
        return key if len(key) > 1 else key[0]

    @cached_property
    def _places(self) -> dict[Any, int]:
        """The number of each group, by its key."""
        return {key: i for i, key in enumerate(_python_keys(self._contents.keys))}

    def __getitem__(self, key: Any) -> GroupModel:
        i = self._places.get(key, -1)
        if i < 0:
            raise KeyError(f"there is no group {key!r} among {len(self)}")
        return GroupModel(self, self._key(i), i)

    # ---- use ----

    def predict(self, frame: Any, *, unseen: str = "raise", threads: int | None = None) -> NDArray[np.float64]:
        """Predictions for the rows of a frame, in their order: (rows,), or (rows, targets) for a list of targets.

        Parameters
        ----------
        frame : frame or dict of arrays
            With the columns `by` and `features`, of any library.
        unseen : "raise" or "fallback"
            What to do with a key that was not trained on: raise ValueError, or predict the mean over all groups, or NaN
        with fallback=None.
        threads : int or None
            As in `Model.predict`.

        A row of a group without a network is predicted as `fallback` of `fit_groups` says: the mean of the group's
        targets, or NaN. A missing input gives NaN. The result is float64. Raises ValueError where a column is missing.
        """
        scalars.choice("unseen", unseen, ("raise", "fallback"))
        contents = self._contents
        frames.check_columns("frame", "frame", [*contents.by, *contents.features], frame)
        if not frames.rows_of("frame", frame):
            return np.empty(0 if contents.single else (0, len(contents.targets)))
        rows = GroupRows.of("frame", frame, contents.by)
        places, known = self._places, contents.statistics
        numbers = np.array([places.get(key, -1) for key in _python_keys(rows.keys)], np.int64)
        if unseen == "raise" and (numbers < 0).any():
            i = int(numbers.argmin())
            key = _python_keys([column[i : i + 1] for column in rows.keys])[0]
            others = f", and {(numbers < 0).sum() - 1} others" if (numbers < 0).sum() > 1 else ""
            raise ValueError(
                f"frame must hold keys that were trained on, got {shown(key)}{others}; unseen='fallback' takes them"
            )
        columns = [frames.numbers("frame", frame, label) for label in contents.features]
        n, width = int(rows.edges[-1]), len(contents.targets)
        out = np.empty((n, width))
        for some, first, stop in rows.chunks(len(columns) + 2 * width, 0):
            found = self._outputs(rows, some, columns, numbers[some], self.population._threads(threads, stop - first))
            which = np.repeat(numbers[some], np.diff(rows.edges[some.start : some.stop + 1]))
            found = found * known.target_stds[which] + known.target_means[which]
            without = (which < 0) | (known.status[which] != TRAINED)
            if without.any():
                found[without] = self._instead(which[without])
            out[slice(first, stop) if rows.rows is None else rows.rows[first:stop]] = found
        return out[:, 0] if contents.single else out

    def _instead(self, which: NDArray[np.int64]) -> NDArray[np.float64]:
        """What is predicted for rows of groups without a network; -1 stands for a group that is not known."""
        known = self._contents.statistics
        if self._contents.fallback is None:
            return np.full((len(which), known.target_means.shape[1]), np.nan)
        return np.where(which[:, None] < 0, known.overall, known.target_means[which])

    def _outputs(
        self, rows: GroupRows, some: slice, columns: list[NDArray[Any]], numbers: NDArray[np.int64], threads: int
    ) -> NDArray[Any]:
        """The networks' outputs for the rows of some groups, one behind the other."""
        known, members = self._contents.statistics, np.maximum(numbers, 0)
        edges = rows.edges[some.start : some.stop + 1]
        first, edges = int(edges[0]), edges - edges[0]
        inputs = np.empty((int(edges[-1]), len(columns)), self.population.dtype)
        means, factors = known.input_means[members], _factors(known.input_stds[members])
        for j, column in enumerate(columns):
            values = rows.values(column, first, first + len(inputs))
            entry.transform_groups(values, edges, inputs, j, means[:, j].copy(), factors[:, j].copy())
        samples = MemberSamples.of(Rows(inputs, edges[:-1], np.diff(edges)))
        return self.population._passes().flat_outputs_on(members, samples, min(threads, len(members)))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write networks, keys and statistics to a safetensors file, which `fastnn.load` reads; see `Model.save`."""
        path = file_paths.path(path)
        storage.write(path, *groups_file.written(self._contents))


def _factors(deviations: NDArray[np.float64]) -> NDArray[np.float64]:
    """What centred inputs are multiplied by: nothing is left of a column that is constant."""
    with np.errstate(divide="ignore"):
        return np.where(deviations > 0, 1 / deviations, 0.0)


def _python_keys(keys: list[NDArray[Any]]) -> list[Any]:
    """Keys as a dict takes them: tuples, where there are several columns."""
    columns = [column.tolist() for column in keys]
    return columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))


def _plain_rows(X: Any, features: list[Any]) -> NDArray[np.float64]:
    """X as rows of features, float64: an array, or the columns of a frame."""
    if frames.is_mapping(X) or hasattr(X, "columns") or hasattr(X, "column_names"):
        frames.check_columns("X", "X", features, X)
        return np.stack([frames.numbers("X", X, label).astype(np.float64) for label in features], axis=1)
    found = arrays.numeric("X", X)
    if found.ndim != 2 or found.shape[1] != len(features):
        raise ValueError(f"X must have shape (rows, {len(features)}), got {found.shape}")
    return found.astype(np.float64)


# ---- training ----


@explained
def fit_groups(
    frame: Any,
    *,
    by: Any,
    target: Any,
    epochs: int,
    features: Iterable[Any] | None = None,
    layers: Iterable[int | AnyLayer] = (16,),
    activation: str | Activation = "tanh",
    loss: AnyLoss = "quadratic",
    init: Init = "scaled",
    dtype: str = "float32",
    batch_size: int = 32,
    optimizer: Optimizer | str = Adam(0.01),  # noqa: B008
    l2: float = 0.0,
    l1: float = 0.0,
    max_norm: float | None = None,
    dropout: Any = 0.0,
    input_noise: float = 0.0,
    min_derivative: float = 0.0,
    shuffle: bool = True,
    validation_fraction: float | None = None,
    stopping: Patience | None = None,
    min_rows: int = 2,
    fallback: str | None = "mean",
    rng: int | np.random.Generator | None = None,
    max_time: float | None = None,
    progress: bool | None = None,
    threads: int | None = None,
    engine: Any = None,
    checkpoint: str | os.PathLike[str] | None = None,
) -> GroupModels:
    """Train one network for each group of a frame's rows: for each shop, each series, each sensor.

    Each group's inputs and targets are standardised by its own means and standard deviations. The networks are trained
    as a `Population`, so that a million of them need neither a million Python objects nor copies of the frame: group i
    has the bits of a `Model` of its seed on its standardised rows, as docs/how-to/populations.md says it of members.

    Parameters
    ----------
    frame : frame or dict of arrays
        A frame of pandas or polars, a pyarrow table, or a dict of arrays (rows,). Rows may be in any order. Those of a
        group keep theirs, for fits that do not shuffle.
    by : label, or list of labels
        The columns whose values are the key of a group: numbers, strings, dates, categories. None may be missing.
    target : label, or list of labels
        The columns to predict, numbers.
    epochs, batch_size, optimizer, l2, l1, max_norm, dropout, input_noise, min_derivative, shuffle, validation_fraction
        As in `Model.fit`, the same for all groups. A group with fewer rows takes them all in a batch.
    stopping : Patience or None
        Which groups stop before their last epoch.
    features : list of labels, or None
        The columns of inputs, numbers. None: all of numbers or truth values, but those of `by` and `target`.
    layers : sequence of int or layers
        The hidden layers, but no `Embedding`; activation is that of those that are an int. The output layer follows:
        linear, with a neuron for each target.
    loss, init, dtype
        As in `Model`.
    min_rows : int
        A group with fewer rows gets no network. At least 2, the default.
    fallback : "mean" or None
        What is predicted for a group without a network: the mean of its finite targets, or NaN. Where it has
        none, the mean over all groups: of their means, weighted by their rows.
    rng : int, numpy.random.Generator or None
        Group i, in ascending order of the keys, has the seed rng + i; None or a Generator draws the seeds. Categories
        without rows come last.
    max_time : float or None
        About how many seconds training may take. Each group gets a share of it, in proportion to its number of rows,
        and stops early when the share is over.
    progress : bool or None
        Show a bar of tqdm.
    threads : int or None
        As in `Model.fit`.
    engine, checkpoint
        As in `Population.fit`: chunks of groups are trained elsewhere, or kept in a folder. Each machine gets the
        columns once.

    Returns
    -------
    GroupModels
        `errors` there names the groups that could not be trained, and why. None of them raises.

    Raises
    ------
    ValueError, TypeError
        For an argument that cannot be used, or a key that is missing.

    Ctrl-C raises KeyboardInterrupt, and nothing is left but a checkpoint; `max_time` ends training with what there is.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> t = np.linspace(0, 1, 40)
    >>> frame = {"id": np.repeat([7, 9], 40), "t": np.tile(t, 2), "y": np.concatenate([t**2, np.ones(40)])}
    >>> models = fastnn.fit_groups(frame, by="id", target="y", epochs=200, rng=0)
    >>> models.errors
    {9: 'constant target'}
    >>> bool(abs(models[7].predict([[0.5]]) - 0.25) < 0.1), models[9].predict([[0.5]])
    (True, array([1.]))
    """
    named = dict(locals())
    del named["frame"]
    request, engine = _checked(frame, named), engine_of(engine)
    if fallback is not None:
        scalars.choice("fallback", fallback, ("mean",))
    rows = GroupRows.of("frame", frame, request.by)
    empty = _without_rows(frame, request.by, rows)
    inputs, outputs = (
        [frames.numbers("frame", frame, label) for label in some] for some in (request.features, request.targets)
    )
    n = len(rows) + len(empty)
    whole = Whole(request, rows, (inputs, outputs), seeds_of(rng, n))
    fitted = nothing(whole, n)
    with PopulationProgress(request.progress, False, len(rows) * int(request.of_fit["epochs"])) as report:
        if engine is None and checkpoint is None:
            train(whole, fitted, 0, request.max_time, report)
        else:
            train_in_chunks(whole, fitted, report, engine, checkpoint)
    fitted.known.fill_means()
    keys = [frames.objects([*column.tolist(), *empty]) if empty else column for column in rows.keys]
    single = not isinstance(target, (list, tuple))
    return GroupModels._of(Contents(request.by, request.targets, request.features, keys, single, fallback, *fitted))


def _labels(name: str, value: Any) -> list[Any]:
    """The labels of an argument that is one, or a list of them."""
    found = list(value) if isinstance(value, (list, tuple)) else [value]
    try:
        different = len(set(found)) == len(found)
    except Exception as error:  # a label that cannot be hashed; an object may raise what it likes
        raise TypeError(f"{name} must be a label or a list of labels, got {shown(value)}") from error
    if not found or not different:
        raise ValueError(f"{name} must be a label or a list of different labels, got {shown(value)}")
    return found


def _checked(frame: Any, named: dict[str, Any]) -> Request:
    """The request of these arguments; raises ValueError or TypeError where they cannot be used."""
    known = frames.labels("frame", frame)
    by, targets = _labels("by", named["by"]), _labels("target", named["target"])
    features = named["features"]
    if features is None:
        features = [each for each in known if each not in by and each not in targets and frames.is_numeric(frame, each)]
        if not features:
            raise ValueError(f"frame must have a column of numbers beside {shown([*by, *targets])}, got {shown(known)}")
    else:
        features = _labels("features", scalars.items("features", features, "a list of labels"))
    for name, some in (("by", by), ("target", targets), ("features", features)):
        frames.check_columns("frame", name, some, frame)
    if twice := [each for each in targets if each in [*by, *features]] + [each for each in features if each in by]:
        raise ValueError(f"by, target and features must name different columns, got {twice[0]!r} twice")
    of_fit = {name: named[name] for name in OF_FIT}
    for name, value in of_fit.items():
        if _holds_arrays(value) or (name == "optimizer" and isinstance(value, (list, tuple))):
            raise TypeError(f"{name} must be the same for all groups, got {shown(value)}")
    if not isinstance(of_fit["stopping"], (Patience, type(None))):
        raise TypeError(f"stopping must be a Patience or None, got {shown(of_fit['stopping'])}")
    scalars.integer("epochs", of_fit["epochs"], 0)
    max_time, progress = named["max_time"], named["progress"]
    scalars.boolean_or_none("progress", progress)
    if isinstance(named["loss"], str) and named["loss"] == "gaussian":
        raise ValueError("loss must have one output for each target, got 'gaussian'")
    hidden = scalars.items("layers", named["layers"], "a sequence of layers")
    if any(isinstance(layer, Embedding) for layer in hidden):
        raise ValueError(f"layers must hold no Embedding, because all columns are standardised, got {shown(hidden)}")
    return Request(
        by=by,
        targets=targets,
        features=features,
        sizes=[len(features), *hidden, len(targets)],
        of_networks={"output": "identity"} | {name: named[name] for name in ("activation", "loss", "init", "dtype")},
        of_fit=of_fit,
        min_rows=scalars.integer("min_rows", named["min_rows"], 2),
        max_time=None if max_time is None else scalars.number("max_time", max_time, 0.0, open_low=True),
        progress=bool(progress),
    )


def _holds_arrays(value: Any) -> bool:
    """Whether a value, an item of it, or a field of an object of settings, is an array of numbers for members."""
    if isinstance(value, (list, tuple)):
        return any(_holds_arrays(each) for each in value if not isinstance(each, (list, tuple)))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return any(_holds_arrays(getattr(value, field.name)) for field in dataclasses.fields(value))
    return is_array(value)


def _without_rows(frame: Any, by: list[Any], rows: GroupRows) -> list[Any]:
    """The categories of a single column of keys that no row has."""
    if len(by) > 1:
        return []
    known = set(_python_keys(rows.keys))
    return [each for each in frames.categories(frame, by[0]) if each not in known]
