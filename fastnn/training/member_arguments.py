"""The arguments of `Population.fit`: checked once, and made arrays over the members."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..checks import scalars
from ..checks.scalars import shown
from ..data import arrays
from ..kernels.programs.block_programs import Rules
from ..kernels.programs.memory import Layout, aligned_zeros
from ..network import threads as _threads
from ..network.network import loss_parameter
from ..reports.scoring import out_of_reach
from ..settings.each import Each, is_array, numbers
from ..settings.layers import Architecture, Dense
from ..settings.learning_rates import LearningRate
from ..settings.optimizers import Rprop
from ..settings.stopping import Halving, Patience
from . import arguments as model_arguments
from .arguments import MAX_EPOCHS, check_batches, check_rules, dropout_of_fit
from .member_data import MemberData, check_weights, data_of, numbers_of, rest_of, split, with_class_weights
from .member_optimizers import MemberOptimizers
from .options import AS_IS

MOST = 2**62  # larger integers mean the same, such as a batch of so many samples


class PopulationArguments(NamedTuple):
    """The arguments of `Population.fit`; see there."""

    X: Any
    y: Any
    epochs: Any
    batch_size: Any
    optimizer: Any
    rows: Any
    validation_data: Any
    validation_fraction: float | None
    sample_weight: Any
    class_weight: Any
    l2: Any
    l1: Any
    max_norm: Any
    dropout: Any
    input_noise: Any
    label_smoothing: Any
    min_derivative: Any
    shuffle: Any
    stopping: Patience | Halving | None
    max_time: float | None
    verbose: int
    progress: bool | None
    threads: int | None


class Crew(NamedTuple):
    """What arguments are for: n members of an architecture, and what draws the sets that are held out."""

    architecture: Architecture
    layout: Layout
    n: int
    feature_names: tuple[str, ...] | None
    split_seeds: NDArray[Any]


@dataclass(frozen=True)
class MemberValues:
    """The values of a fit for each member: a number, or float64 (n,), where they differ.

    Dropout has an entry for each layer, which may also be a schedule.
    """

    l2: Any
    l1: Any
    max_norm: Any  # NaN where there is none
    dropout: list[Any]
    input_noise: Any
    label_smoothing: Any
    min_derivative: Any

    @property
    def rules(self) -> Rules:
        """Which rules are on for a member: all of one fit are of one kind, but for max_norm; a value of 0 is none."""
        return Rules(
            dropped=tuple(i for i, rate in enumerate(self.dropout) if isinstance(rate, LearningRate) or np.any(rate)),
            input_noise=bool(np.any(self.input_noise)),
            label_smoothing=bool(np.any(self.label_smoothing)),
            min_derivative=bool(np.any(self.min_derivative)),
        )

    def silent(self, n: int) -> NDArray[np.bool_]:
        """Which members draw no random numbers beside the order, though others may."""
        found = np.broadcast_to(np.asarray(self.input_noise) == 0, n).copy()
        for rate in self.dropout:
            found &= False if isinstance(rate, LearningRate) else np.asarray(rate) == 0
        return found

    def settings(self, layout: Layout, optimizers: MemberOptimizers, loss: Any) -> NDArray[Any]:
        """The records of settings: one for each member, or a single one where all are equal and none changes.

        Where one changes it is NaN, until `write_dropout` or the like writes it.
        """
        values = self.l2, self.l1, self.max_norm, self.input_noise, self.label_smoothing, self.min_derivative
        alone = len(optimizers.kinds) == 1 and (optimizers.numbers == optimizers.numbers[0]).all()
        alone = alone and not (self.changes or optimizers.changes)
        n = 1 if alone and not any(np.ndim(value) for value in (*values, *self.dropout)) else len(optimizers)
        settings = aligned_zeros(n * layout.settings_dtype.itemsize, layout.settings_dtype)
        for kind in range(len(optimizers.kinds)):
            some, found = optimizers.which[:n] == kind, optimizers.settings(kind)[:n]
            settings["optimizer"][some, : found.shape[1]] = found[some]
            for i, factor in enumerate(optimizers.kinds[kind]._factors.values()):
                settings["factors"][some, i] = factor
            for name in ("clip_value", "clip_norm"):
                if getattr(optimizers.kinds[kind], name) is not None:
                    settings[name][some] = optimizers.column(kind, name)[:n][some]
        settings["l2"][:, 0], settings["l2"][:, 2] = self.l2, 0.5
        settings["l1"][:, 0], settings["l1"][:, 2] = self.l1, 1.0
        for name in ("input_noise", "label_smoothing", "min_derivative"):
            settings[name] = getattr(self, name)
        settings["max_norm"] = np.nan_to_num(self.max_norm)
        for i, rate in enumerate(self.dropout):
            settings["dropout"][:, i] = np.nan if isinstance(rate, LearningRate) else rate
        settings["loss_parameter"] = loss_parameter(layout, loss)
        return settings

    def take(self, which: NDArray[np.int64]) -> MemberValues:
        """The values of some members."""
        return MemberValues(
            **{
                name: [_taken(each, which) for each in value] if name == "dropout" else _taken(value, which)
                for name, value in vars(self).items()
            }
        )

    @property
    def changes(self) -> bool:
        """Whether dropout changes by epoch."""
        return any(isinstance(rate, LearningRate) for rate in self.dropout)

    def write_dropout(self, settings: NDArray[Any], which: NDArray[np.int64], epoch: int) -> None:
        """Write the dropout of members `which` (m,) in an epoch, counted from 0, to their records of settings."""
        for i, rate in enumerate(self.dropout):
            if isinstance(rate, LearningRate):
                settings["dropout"][which, i] = _dropout_of_epoch(rate, len(settings), which, epoch)


def _dropout_of_epoch(rate: LearningRate, n: int, which: NDArray[np.int64], epoch: int) -> NDArray[np.float64]:
    """The shares (m,) of members `which` (m,) among n that drop in an epoch, counted from 0."""
    firsts = np.broadcast_to(np.asarray(getattr(rate, "learning_rate", 0.0)), n)[which]
    return rate._rates_of_members(firsts, "dropout", "epoch", epoch, 1)[:, 0]


def _taken(value: Any, which: NDArray[np.int64]) -> Any:
    """A number, numbers for each member, or a schedule that begins with these, for some members."""
    if isinstance(value, Each):
        return Each(value.values[which])
    if isinstance(getattr(value, "learning_rate", None), Each):
        return value._with(_taken(value.learning_rate, which))
    return value[which] if isinstance(value, np.ndarray) and value.ndim else value


class Held(NamedTuple):
    """The validation samples of each member, and what they weigh."""

    data: MemberData
    totals: NDArray[np.float64]

    def take(self, which: NDArray[np.int64]) -> Held:
        """Those of some members."""
        return Held(self.data.take(which), self.totals[which])


class PopulationRequest(NamedTuple):
    """A fit of a population whose arguments were checked."""

    data: MemberData
    held: Held | None
    columns: tuple[str, ...] | None
    epochs: NDArray[np.int64]
    batch_sizes: NDArray[np.int64]
    optimizers: MemberOptimizers
    values: MemberValues
    ordered: int
    order: NDArray[np.int32] | None
    stopping: Patience | Halving | None
    max_time: float | None
    threads: int
    summed: bool = False  # whether a step descends the sum of a batch's losses, not their mean
    first: int = 0  # how many epochs of the whole fit are done before this part of it

    def part(self, which: NDArray[np.int64], first: int, last: int) -> PopulationRequest:
        """The fit of some members from an epoch on, to another one at most; without `Halving`, which compares all."""
        stopping = self.stopping
        if isinstance(stopping, Patience):
            stopping = replace(stopping, epochs=_taken(stopping.epochs, which))
        return self._replace(
            data=self.data.take(which),
            held=None if self.held is None else self.held.take(which),
            epochs=np.minimum(self.epochs[which], last) - first,
            batch_sizes=self.batch_sizes[which],
            optimizers=self.optimizers.take(which),
            values=self.values.take(which),
            order=None if self.order is None else self.order[first:],
            stopping=None if isinstance(stopping, Halving) else stopping,
            first=self.first + first,
        )


def checked(crew: Crew, arguments: PopulationArguments) -> PopulationRequest:
    """The fit that is asked for; raises ValueError or TypeError for an argument that cannot be used."""
    if arguments.validation_data is not None and arguments.validation_fraction is not None:
        raise ValueError("validation_data and validation_fraction exclude each other, got both")
    _check_reports(arguments)
    model_arguments.check_trainable(crew.architecture)
    data, held = _samples(crew, arguments)
    epochs = _integers("epochs", arguments.epochs, crew.n, 0, MAX_EPOCHS)
    batch_sizes = np.minimum(_integers("batch_size", arguments.batch_size, crew.n, 1), data.counts)
    optimizers = MemberOptimizers.of(arguments.optimizer, crew.n)
    _check_batches(crew, data, batch_sizes, optimizers)
    values = _values(crew, arguments)
    ordered, order = _order(arguments.shuffle, epochs, data)
    work = 3 * float(epochs @ data.counts) * crew.layout.multiply_adds
    threads = _threads_for(work, arguments.threads)
    max_time = arguments.max_time
    if max_time is not None:
        max_time = scalars.number("max_time", max_time, 0.0, open_low=True)
    _check_stopping(arguments.stopping, crew.n, held is not None)
    return PopulationRequest(
        data=data,
        held=held,
        columns=arrays.column_names(arguments.X),
        epochs=epochs,
        batch_sizes=batch_sizes,
        optimizers=optimizers,
        values=values,
        ordered=ordered,
        order=order,
        stopping=arguments.stopping,
        max_time=max_time,
        threads=min(threads, crew.n),
    )


_NO_VALUES = MemberValues(0.0, 0.0, np.nan, [], 0.0, 0.0, 0.0)


def of_step(crew: Crew, data: MemberData, optimizer: Any, threads: int | None) -> PopulationRequest:
    """The fit that takes one step on all rows of each member, of which each has equally many."""
    rows, n = int(data.counts[0]), crew.n
    model_arguments.check_trainable(crew.architecture)
    model_arguments.check_rows(crew.layout, rows)
    if threads is not None:
        scalars.integer("threads", threads, 1)
    return PopulationRequest(
        data=data,
        held=None,
        columns=None,
        epochs=np.ones(n, np.int64),
        batch_sizes=data.counts,
        optimizers=MemberOptimizers.of(optimizer, n),
        values=_NO_VALUES,
        ordered=AS_IS,
        order=None,
        stopping=None,
        max_time=None,
        threads=min(_threads_for(3 * n * rows * crew.layout.multiply_adds, threads), n),
        summed=True,
    )


def _threads_for(multiply_adds: float, threads: int | None) -> int:
    """How many threads a fit of so many multiply-adds takes."""
    return _threads.resolve_threads(threads) if multiply_adds > _threads.FIT_MULTIPLY_ADDS else 1


def _check_reports(arguments: PopulationArguments) -> None:
    if not isinstance(arguments.verbose, bool):
        scalars.integer("verbose", arguments.verbose, 0, 1)
    scalars.boolean_or_none("progress", arguments.progress)
    if arguments.threads is not None:
        scalars.integer("threads", arguments.threads, 1)


def _check_stopping(stopping: Any, n: int, held: bool) -> None:
    """Raise where it is none, or watches what is not recorded."""
    if stopping is None:
        return
    if not isinstance(stopping, (Patience, Halving)):
        raise TypeError(f"stopping must be a Patience, a Halving or None, got {shown(stopping)}")
    if stopping.monitor == "val_loss" and not held:
        raise ValueError("monitor 'val_loss' needs validation_data or validation_fraction")
    if isinstance(stopping, Patience) and isinstance(stopping.epochs, Each):
        numbers("epochs of Patience", stopping.epochs, 1, n=n)


# ---- samples ----


def _samples(crew: Crew, arguments: PopulationArguments) -> tuple[MemberData, Held | None]:
    """(what each member trains on, what it validates on)."""
    samples = arguments.X, arguments.y, arguments.sample_weight
    data = data_of(crew.architecture, crew.feature_names, crew.n, samples)
    if arguments.rows is not None:
        data = _some(data, numbers_of(arguments.rows, data.inputs.counts))
    _warn(crew.architecture, data)
    held = _validation_set(crew, arguments, data)
    if arguments.class_weight is not None:  # which validation_data does not have, but a fraction that is held out
        data = with_class_weights(data, arguments.class_weight, crew.architecture)
    if arguments.validation_fraction is not None:
        first, second = split(data, arguments.validation_fraction, crew.split_seeds)
        data, held = _some(data, first), _some(data, second)
    check_weights(data)
    if held is None:
        return data, None
    check_weights(held, "validation_data[2]")
    return data, Held(held, held.totals())


def _some(data: MemberData, chosen: Any) -> MemberData:
    return MemberData(data.inputs, data.targets, data.classes, data.weights, chosen)


def _validation_set(crew: Crew, arguments: PopulationArguments, data: MemberData) -> MemberData | None:
    pair = arguments.validation_data
    if pair is None:
        return None
    if isinstance(pair, str):
        scalars.choice("validation_data", pair, ("rest",))
        return _some(data, rest_of(data))
    if not isinstance(pair, (tuple, list)) or len(pair) not in (2, 3):
        length = f" of length {len(pair)}" if isinstance(pair, (tuple, list)) else ""
        kind = f"a {type(pair).__name__}{length}"
        raise TypeError(f"validation_data must be a pair (X, y), (X, y, sample_weight) or 'rest', got {kind}")
    names = "validation_data[0]", "validation_data[1]", "validation_data[2]"
    columns = arrays.column_names(arguments.X)
    arrays.same_columns(names[0], pair[0], columns)
    samples = (*pair, None)[:3]
    return data_of(crew.architecture, crew.feature_names, crew.n, (samples[0], samples[1], samples[2]), names)


def _warn(architecture: Architecture, data: MemberData) -> None:
    """Say what is probably not meant."""
    assert data.targets is not None
    found = out_of_reach(architecture, arrays.Targets(data.targets.array, data.classes))
    if found:
        warnings.warn(found, stacklevel=6)


def _order(shuffle: Any, epochs: NDArray[np.int64], data: MemberData) -> tuple[int, NDArray[np.int32] | None]:
    """(kind of order, the order where it is given)."""
    if not isinstance(shuffle, (bool, np.bool_)) and not data.shared:
        raise ValueError("shuffle must be True or False where members see rows of their own")
    return model_arguments.sample_order(shuffle, int(epochs.max(initial=0)), int(data.counts.max()))


def _check_batches(crew: Crew, data: MemberData, batch_sizes: NDArray[np.int64], optimizers: MemberOptimizers) -> None:
    """Raise where an optimizer, or a layer that normalises over a batch, cannot take the batches of a member."""
    for kind, optimizer in enumerate(optimizers.kinds):
        few = np.flatnonzero((optimizers.which == kind) & (batch_sizes < data.counts))
        if isinstance(optimizer, Rprop) and len(few):
            i = few[0]
            raise ValueError(
                f"optimizer Rprop needs all {data.counts[i]} samples in a batch, got batch_size {batch_sizes[i]}"
            )
    if crew.layout.whole_batch:
        for n, batch_size in np.unique(np.stack([data.counts, batch_sizes], axis=1), axis=0).tolist():
            check_batches(crew.layout, n, batch_size)


# ---- numbers ----


def _integers(name: str, value: Any, n: int, low: int, high: int | None = None) -> NDArray[np.int64]:
    """An integer for each member."""
    if not is_array(value):
        return np.full(n, min(scalars.integer(name, value, low, high), MOST))
    if not isinstance(value, np.ndarray) or value.shape != (n,) or value.dtype.kind not in "iu":
        what = f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else shown(value)
        raise TypeError(f"{name} must be an integer, or an array of one for each of {n} members, got {what}")
    for i in (int(value.argmin()), int(value.argmax())):
        scalars.integer(f"{name}[{i}]", value[i], low, high)
    return np.minimum(value, MOST).astype(np.int64)


def _numbers(name: str, value: Any, n: int, high: float = np.inf) -> Any:
    """A number of at least 0, or one for each member."""
    return numbers(name, value, 0.0, high, n=n) if is_array(value) else scalars.number(name, value, 0.0, high)


def _values(crew: Crew, arguments: PopulationArguments) -> MemberValues:
    """The values of penalties and rules."""
    n, max_norm = crew.n, arguments.max_norm
    if is_array(max_norm):
        limits = np.asarray(max_norm, np.float64)
        numbers("max_norm", np.where(np.isnan(limits), 1.0, limits), 0.0, open_low=True, n=n)
    else:
        limits = np.nan if max_norm is None else scalars.number("max_norm", max_norm, 0.0, open_low=True)  # type: ignore[assignment]
    values = MemberValues(
        l2=_numbers("l2", arguments.l2, n),
        l1=_numbers("l1", arguments.l1, n),
        max_norm=limits,
        dropout=_dropout(crew.architecture, arguments.dropout, n),
        input_noise=_numbers("input_noise", arguments.input_noise, n),
        label_smoothing=_numbers("label_smoothing", arguments.label_smoothing, n, 1.0),
        min_derivative=_numbers("min_derivative", arguments.min_derivative, n, 1.0),
    )
    highest = float(np.max(values.label_smoothing)), float(np.max(values.min_derivative))
    check_rules(crew.architecture, crew.layout, *highest)
    return values


def _dropout(architecture: Architecture, dropout: Any, n: int) -> list[Any]:
    """The rates of the layers that the kernels walk, a number or (n,) each; none where no member drops any."""
    if not is_array(dropout):
        of_layers = list(dropout_of_fit(architecture, dropout))
        for rate in of_layers:
            if isinstance(first := getattr(rate, "learning_rate", None), Each):
                numbers(f"learning_rate of {type(rate).__name__}", first, 0.0, n=n)
            if isinstance(rate, LearningRate):  # a wrong number of the first epoch is found before anything is changed
                _dropout_of_epoch(rate, n, np.arange(n), 0)
        return of_layers
    dense = [isinstance(node.layer, Dense) for node in architecture.nodes]
    hidden = sum(dense) - 1
    if dropout.ndim == 1:
        table = np.repeat(numbers("dropout", dropout, 0.0, 1.0, n=n)[:, None], hidden, axis=1)
    elif dropout.shape == (n, hidden):
        table = np.stack([numbers(f"dropout[:, {j}]", dropout[:, j], 0.0, 1.0) for j in range(hidden)], axis=1)
    else:
        raise ValueError(f"dropout must have shape ({n},) or ({n}, {hidden}), got {dropout.shape}")
    columns: Sequence[Any] = list(table.T)
    rates = iter(columns)
    found: list[Any] = [next(rates, 0.0) if is_dense else 0.0 for is_dense in dense]
    return found if any(np.any(rate) for rate in found) else []
