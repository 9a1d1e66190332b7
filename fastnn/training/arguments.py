"""The arguments of a fit: checked, and made what the trainers take."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import scalars
from ..checks.scalars import shown
from ..data import arrays
from ..data.arrays import Targets, take_rows
from ..data.samples import Samples
from ..data.streams import OneKind, Stream
from ..kernels.programs.memory import Layout
from ..kernels.programs.passes import saturates
from ..network import threads as _threads
from ..network.network import Network
from ..reports import metrics
from ..reports.history import History
from ..reports.metrics import Metric
from ..reports.scoring import Labelled, Scored, out_of_reach, two_numbers
from ..settings import learning_rates, optimizers
from ..settings.layers import Architecture, Dense
from ..settings.learning_rates import LearningRate
from ..settings.optimizers import FullBatch, LevenbergMarquardt, Optimizer, Rprop
from .options import AS_IS, DRAWN, GIVEN, NO_PENALTY, NO_RULES, Options, Penalty, RuleValues
from .plan import MAX_ROWS

MAX_EPOCHS = 10**8  # a float64 of history each
MAX_WORKERS = 10**5
# Steps of a worker, with fewer in all or more between averages than which networks lost accuracy, see
# docs/how-to/workers.md.
FEW_STEPS, MANY_STEPS = 20_000, 2000
AnyMetric = str | Metric | Callable[..., float]
Dropout = float | LearningRate | Callable[[int], float]


class FitArguments(NamedTuple):
    """The arguments of `Model.fit`; see there."""

    X: Any
    y: Any
    epochs: int
    batch_size: int
    optimizer: Optimizer | FullBatch | str
    validation_data: tuple[ArrayLike, ...] | None
    validation_fraction: float | None
    sample_weight: ArrayLike | None
    class_weight: Mapping[int, float] | str | None
    l2: float
    l1: float
    max_norm: float | None
    dropout: Dropout | Sequence[Dropout]
    input_noise: float
    label_smoothing: float
    min_derivative: float
    shuffle: bool | ArrayLike
    metric: AnyMetric | Sequence[AnyMetric] | None
    train_metric: bool
    callbacks: Sequence[Callable[..., object]]
    history: History | None
    verbose: int
    progress: bool | None
    threads: int | None
    workers: int | None = None
    average: str | int = "epoch"
    engine: Any = None


class Subject(NamedTuple):
    """What arguments are for: a model's network, the names of the columns that it knows, the seed of a held-out set."""

    network: Network
    feature_names: tuple[str, ...] | None
    split_seed: int

    @property
    def architecture(self) -> Architecture:
        """The network's architecture."""
        return self.network.architecture


@dataclass(frozen=True)
class WholeSetOptions:
    """How a fit on all samples at once goes."""

    epochs: int
    optimizer: FullBatch
    l2: float


class Sharing(NamedTuple):
    """How workers share the samples of a fit."""

    rows: list[int]  # how many each has
    streams: list[Stream] | None  # those of each; of arrays, every so many-th row is one's
    steps: int | None  # that each makes between two averages; None is an epoch
    threads: int  # at most that train here
    kind: OneKind | None  # what all samples of a stream are like


class Request(NamedTuple):
    """A fit whose arguments were checked."""

    data: Labelled  # that it trains on; the first rows of a stream
    columns: tuple[str, ...] | None  # the names of a frame's
    chunks: Callable[[int | None], Iterator[tuple[Samples, bool]]] | None  # a stream's, see `Chunks`
    options: Options | WholeSetOptions
    scored: list[Scored]
    callbacks: Sequence[Callable[..., object]]
    history: History
    sharing: Sharing | None  # where several workers train


def checked(subject: Subject, arguments: FitArguments) -> Request:
    """The fit that is asked for; raises ValueError or TypeError for an argument that cannot be used."""
    if arguments.validation_data is not None and arguments.validation_fraction is not None:
        raise ValueError("validation_data and validation_fraction exclude each other, got both")
    _check_reports(arguments)
    _check_workers(arguments)
    callbacks = scalars.callables("callbacks", arguments.callbacks)
    stream = arguments.X if isinstance(arguments.X, Stream) else None
    if stream is None:
        data = labelled(subject, arguments.class_weight, False, arguments.X, arguments.y, arguments.sample_weight)
        columns = arrays.column_names(arguments.X)
    else:
        _check_stream(arguments)
        check = OneKind(functools.partial(labelled, subject, arguments.class_weight, True))
        data, columns = stream._first(check), check.names
    strengths = penalties(arguments)
    rules = _rules(subject, arguments)
    check_trainable(subject.architecture)
    data, held = _validation_set(subject, arguments, data, columns)
    epochs = scalars.integer("epochs", arguments.epochs, 0, MAX_EPOCHS)
    n = len(data.inputs) if stream is None else MAX_ROWS  # a stream may have as many
    if stream is not None:
        stream._check_epochs(epochs)
    batch_size = min(scalars.integer("batch_size", arguments.batch_size, 1), n)
    optimizer = (
        arguments.optimizer if isinstance(arguments.optimizer, FullBatch) else optimizers.resolve(arguments.optimizer)
    )
    optimizer = optimizers.as_it_is(optimizer)
    if isinstance(optimizer, (FullBatch, Rprop)):
        plain = rules == NO_RULES and strengths[1] == NO_PENALTY
        _check_whole_set(subject.architecture, arguments, optimizer, None if stream is not None else n, plain)
    check_batches(subject.network.layout, None if stream is not None else n, batch_size)
    sharing = None
    if arguments.workers is not None:
        sharing = _sharing(subject, arguments, data.samples if stream is None else stream, batch_size)
        if stream is not None:
            sharing = sharing._replace(kind=check)
    ordered, order = sample_order(arguments.shuffle, epochs, n)
    if order is not None and data.weights is not None and not all(data.weights[row].any() for row in order):
        raise ValueError("shuffle must give each epoch a sample whose weight is above zero")
    history = History() if arguments.history is None else arguments.history
    for rate in rules.dropout if epochs else ():
        if isinstance(rate, LearningRate):  # a wrong number of the first epoch is found before anything is changed
            rate._checked_rates("dropout", "epoch", len(history.loss), 1)
    options: Options | WholeSetOptions
    if isinstance(optimizer, FullBatch):
        options = WholeSetOptions(epochs, optimizer, strengths[0].of_mean)
    else:
        options = Options(
            epochs=epochs,
            batch_size=batch_size,
            optimizer=optimizer,
            ordered=ordered,
            order=order,
            max_threads=max_threads(subject.network, arguments.threads, epochs * n, batch_size),
            l2=strengths[0],
            l1=strengths[1],
            rules=rules,
            first_epoch=len(history.loss),
        )
    scored = _scored(subject, arguments, data, held)
    chunks = None
    if stream is not None:
        chunks = functools.partial(stream._chunks, functools.partial(samples_of, check), batch_size)
    _warn(subject, arguments, data, held)
    if sharing is not None:
        for text in _rare_averages(sharing, epochs + len(history.loss), batch_size):
            warnings.warn(text, stacklevel=4)
    return Request(data, columns, chunks, options, scored, callbacks, history, sharing)


def _check_reports(arguments: FitArguments) -> None:
    """Raise for wrong arguments about what a fit tells, and about threads."""
    scalars.boolean("train_metric", arguments.train_metric)
    if arguments.history is not None and not isinstance(arguments.history, History):
        raise TypeError(f"history must be a History or None, got {shown(arguments.history)}")
    if not isinstance(arguments.verbose, bool):
        scalars.integer("verbose", arguments.verbose, 0, 1)
    scalars.boolean_or_none("progress", arguments.progress)
    if arguments.threads is not None:
        scalars.integer("threads", arguments.threads, 1)


def _check_workers(arguments: FitArguments) -> None:
    """Raise for wrong arguments about workers, and for what does not go with them."""
    average = arguments.average
    of_epochs = isinstance(average, str)
    if of_epochs and average != "epoch":
        raise ValueError(f"average must be 'epoch' or a number of steps, got {shown(average)}")
    if not of_epochs:
        scalars.integer("average", average, 1)
    if arguments.workers is None:
        if arguments.engine is not None or not of_epochs:
            name = "average" if arguments.engine is None else "engine"
            raise ValueError(f"{name} needs workers=, how many share the samples, because the result depends on it")
        return
    scalars.integer("workers", arguments.workers, 1, MAX_WORKERS)
    name = arguments.optimizer if isinstance(arguments.optimizer, str) else type(arguments.optimizer).__name__
    if isinstance(arguments.optimizer, (FullBatch, Rprop)) or name == "rprop":
        raise ValueError(f"optimizer {name} takes all samples in each step, and a worker has only its own")
    if arrays.is_sparse(arguments.X):
        raise TypeError("X must be dense with workers, got a sparse matrix; its toarray() is dense")
    if not isinstance(arguments.shuffle, (bool, np.bool_)):
        raise TypeError(f"shuffle must be True or False with workers, got {shown(arguments.shuffle)}")


def _sharing(subject: Subject, arguments: FitArguments, data: Samples | Stream, batch_size: int) -> Sharing:
    """What each worker trains on."""
    workers = scalars.integer("workers", arguments.workers, 1, MAX_WORKERS)
    steps = None if isinstance(arguments.average, str) or workers == 1 else int(arguments.average)
    most = min(_threads.resolve_threads(arguments.threads), workers)
    if isinstance(data, Stream):
        streams = data._dealt(workers)
        return Sharing([stream._rows for stream in streams], streams, steps, most, None)
    n = len(data.inputs)
    if workers > n:
        raise ValueError(f"workers must be at most the number of samples, {n}, got {workers}")
    rows = [len(range(i, n, workers)) for i in range(workers)]
    for some in {*rows}:
        check_batches(subject.network.layout, some, min(batch_size, some))
    small = 3 * n * subject.network.layout.multiply_adds <= _threads.FIT_MULTIPLY_ADDS
    return Sharing(rows, None, steps, 1 if small else most, None)


# ---- samples ----


def inputs_of(
    architecture: Architecture, X: ArrayLike, feature_names: Any, name: str = "X", finite: bool = True
) -> NDArray[Any]:
    """X as the kernels read it; raises ValueError where it is a frame of other columns.

    Where inputs are shifted, other numbers than those of the dtype stay float64, for the kernels to subtract first.
    `finite` says that it must hold finite numbers, and codes where some columns do.
    """
    if feature_names is not None:
        arrays.same_columns(name, X, feature_names)
    embedding = architecture.embedding
    if embedding is not None and arrays.is_sparse(X):
        raise TypeError(f"{name} must be dense for an Embedding, got a sparse matrix; its toarray() is dense")
    n_inputs, dtype = architecture.n_inputs, architecture.dtype
    inputs = arrays.inputs(X, n_inputs, dtype, name=name, finite=finite, shifted=architecture.shifted)
    if embedding is not None and finite:
        arrays.codes(name, inputs, dict(zip(embedding.columns, embedding.categories, strict=True)), X)
    return inputs


def targets_of(architecture: Architecture, y: ArrayLike, n: int, name: str = "y") -> Targets:
    """y of n samples as the kernels read it, and what it means."""
    last, kind = architecture.head, architecture.targets
    binary = last._formula.gives_probabilities
    return arrays.targets(y, n, architecture.n_targets, architecture.dtype, binary=binary, kind=kind, name=name)


def labelled(subject: Subject, class_weight: Any, partial: bool, X: Any, y: Any, sample_weight: Any) -> Labelled:
    """Samples as the kernels take them; partial ones are some of a stream."""
    architecture = subject.architecture
    inputs = inputs_of(architecture, X, subject.feature_names)
    targets = targets_of(architecture, y, len(inputs))
    weights = arrays.weights(sample_weight, len(inputs), architecture.dtype, partial=partial)
    if class_weight is not None:
        n_classes, dtype = max(2, architecture.head.units), architecture.dtype
        weights = arrays.class_weights(class_weight, targets.classes, weights, dtype, n_classes, partial=partial)
    return Labelled(inputs, targets, weights)


def samples_of(check: Callable[[Any, Any, Any], Labelled], X: Any, y: Any, sample_weight: Any) -> Samples:
    """Some samples of a stream, for the kernels."""
    return check(X, y, sample_weight).samples


def _check_stream(arguments: FitArguments) -> None:
    """Raise for arguments that go with samples in memory."""
    for name, value in {"y": arguments.y, "sample_weight": arguments.sample_weight}.items():
        if value is not None:
            raise TypeError(f"{name} must be None with a Stream, which holds it, got {shown(value)}")
    if arguments.validation_fraction is not None or arguments.train_metric:
        raise ValueError("validation_fraction and train_metric need samples in memory; give validation_data")
    if not isinstance(arguments.shuffle, (bool, np.bool_)):
        raise TypeError(f"shuffle must be True or False with a Stream, got {shown(arguments.shuffle)}")


def _validation_set(
    subject: Subject, arguments: FitArguments, data: Labelled, columns: tuple[str, ...] | None
) -> tuple[Labelled, Labelled | None]:
    """(what to train on, what to validate on); columns are the names of those that train."""
    if arguments.validation_fraction is not None:
        return _split(data, arguments.validation_fraction, subject.split_seed)
    pair = arguments.validation_data
    if pair is None:
        return data, None
    if not isinstance(pair, (tuple, list)) or len(pair) not in (2, 3):
        length = f" of length {len(pair)}" if isinstance(pair, (tuple, list)) else ""
        kind = f"a {type(pair).__name__}{length}"
        raise TypeError(f"validation_data must be a pair (X, y) or (X, y, sample_weight), got {kind}")
    X, y, *weights = pair
    architecture = subject.architecture
    arrays.same_columns("validation_data[0]", X, columns)
    inputs = inputs_of(architecture, X, subject.feature_names, "validation_data[0]")
    targets = targets_of(architecture, y, len(inputs), "validation_data[1]")
    sample_weight = weights[0] if weights else None
    found = arrays.weights(sample_weight, len(inputs), architecture.dtype, name="validation_data[2]")
    return data, Labelled(inputs, targets, found)


def _split(data: Labelled, fraction: float, seed: int) -> tuple[Labelled, Labelled]:
    """The samples to train on, and those that are held out."""
    fraction = scalars.number("validation_fraction", fraction, 0.0, 1.0, open_low=True)
    inputs, targets, weights = data
    n_held = round(fraction * len(inputs))
    if not 0 < n_held < len(inputs):
        raise ValueError(
            f"validation_fraction must leave a sample on both sides, got {fraction:g} of {len(inputs)} samples"
        )
    order = np.random.default_rng(seed).permutation(len(inputs))

    def some(rows: NDArray[Any]) -> Labelled:
        classes = None if targets.classes is None else targets.classes[rows]
        chosen = None if weights is None else weights[rows]
        if chosen is not None and not chosen.any():
            raise ValueError("validation_fraction must leave a sample of some weight on both sides, got none on one")
        return Labelled(take_rows(inputs, rows), Targets(take_rows(targets.array, rows), classes), chosen)

    return some(np.sort(order[n_held:])), some(np.sort(order[:n_held]))


def sample_order(shuffle: bool | ArrayLike, epochs: int, n: int) -> tuple[int, NDArray[np.int32] | None]:
    """(kind of order, the order where it is given) of the argument shuffle."""
    if n > MAX_ROWS:
        raise ValueError(f"X must hold at most {MAX_ROWS} samples, got {n}")
    if isinstance(shuffle, (bool, np.bool_)):
        return (DRAWN if shuffle else AS_IS), None
    order = arrays.array("shuffle", shuffle)
    if order.dtype.kind not in "iu" or order.shape != (epochs, n):
        raise ValueError(
            f"shuffle must be True, False or an integer array of shape ({epochs}, {n}), "
            f"got {order.dtype} of shape {order.shape}"
        )
    order = np.array(order, order="C")  # they become addresses, so nobody may change them from now on
    if order.size and not (order.min() >= 0 and order.max() < n):
        raise ValueError(f"shuffle must hold sample indices in [0, {n}), got {order.min()} to {order.max()}")
    return GIVEN, order.astype(np.int32, copy=False)


# ---- what is minimised, and how ----


def check_trainable(architecture: Architecture) -> None:
    """Raise where a layer of step neurons has nothing to pass on."""
    steps = [node.layer.activation == "step" for node in architecture.nodes]
    if any(steps) and len(steps) > 1:
        raise ValueError(
            f"fit cannot train {architecture.described()}: a step neuron's output does not change with small changes "
            "of its weights, so its derivative is zero and backpropagation has nothing to pass on; only a single layer "
            'of "step" learns, by the perceptron rule. Use "sigmoid", or set the weights by hand.'
        )


def penalties(arguments: FitArguments) -> tuple[Penalty, Penalty]:
    """The penalties that the arguments l2 and l1 ask for."""
    if _is_off(arguments.l2) and _is_off(arguments.l1):
        return NO_PENALTY, NO_PENALTY
    return Penalty(scalars.number("l2", arguments.l2, 0.0)), Penalty(scalars.number("l1", arguments.l1, 0.0))


def _is_off(value: Any) -> bool:
    """Whether it is the default of a number, which needs no check."""
    return type(value) is float and value == 0.0


def _rules(subject: Subject, arguments: FitArguments) -> RuleValues:
    """What training does beside descending the gradient."""
    numbers = arguments.dropout, arguments.input_noise, arguments.label_smoothing, arguments.min_derivative
    if arguments.max_norm is None and all(
        map(_is_off, numbers)
    ):  # as in most small fits: checks took 7 of their 100 us
        return NO_RULES
    architecture = subject.architecture
    label_smoothing = scalars.number("label_smoothing", arguments.label_smoothing, 0.0, 1.0)
    min_derivative = scalars.number("min_derivative", arguments.min_derivative, 0.0, 1.0)
    check_rules(architecture, subject.network.layout, label_smoothing, min_derivative)
    max_norm, dropout = arguments.max_norm, dropout_of_fit(architecture, arguments.dropout)
    for rate in dropout:
        if isinstance(rate, LearningRate):
            optimizers.check_no_arrays(rate)
    return RuleValues(
        dropout=dropout,
        input_noise=scalars.number("input_noise", arguments.input_noise, 0.0),
        label_smoothing=label_smoothing,
        max_norm=None if max_norm is None else scalars.number("max_norm", max_norm, 0.0, open_low=True),
        min_derivative=min_derivative,
    )


def check_rules(architecture: Architecture, layout: Layout, label_smoothing: float, min_derivative: float) -> None:
    """Raise where a rule that is on does not go with the architecture."""
    if label_smoothing and architecture.targets not in ("probabilities", "distributions"):
        raise ValueError(f"label_smoothing needs the loss 'cross_entropy', got {architecture.loss_name!r}")
    if min_derivative and not saturates(layout):
        raise ValueError(
            "min_derivative needs a layer of 'sigmoid' or 'tanh' that trains and whose derivative is taken (a "
            f"cross-entropy takes none of the last layer), got {min_derivative!r} for {architecture.described()}"
        )


def dropout_rates(
    architecture: Architecture, dropout: Any, check: Callable[[str, Any], Any] = scalars.share
) -> tuple[Any, ...]:
    """The rate of each layer that the kernels walk: hidden layers are the dense ones but the last; () where none is."""
    dense = [isinstance(node.layer, Dense) for node in architecture.nodes]
    rates = iter(scalars.dropout(dropout, sum(dense) - 1, check))
    found = tuple(next(rates, 0.0) if is_dense else 0.0 for is_dense in dense)
    return found if any(found) else ()


def dropout_of_fit(architecture: Architecture, dropout: Any) -> tuple[float | LearningRate, ...]:
    """As `dropout_rates`, where each may change by epoch."""
    if learning_rates.changes(dropout):
        dropout = [dropout] * (sum(isinstance(node.layer, Dense) for node in architecture.nodes) - 1)
    return dropout_rates(architecture, dropout, learning_rates.by_epoch)


def check_batches(layout: Layout, n: int | None, batch_size: int) -> None:
    """Raise where a layer that normalises over a batch cannot take batches of n samples; n is None of a stream."""
    if not layout.whole_batch:
        return
    if batch_size > layout.block_rows:
        raise ValueError(
            f"batch_size must be at most {layout.block_rows} for this network, because BatchNorm normalises a batch as "
            f"a whole, got {batch_size}"
        )
    last = batch_size if n is None else n % batch_size
    if 1 in (batch_size, last):
        where = "" if batch_size == 1 else f" for {n} samples, whose last batch is a single one"
        raise ValueError(f"batch_size must give batches of two rows or more for BatchNorm, got {batch_size}{where}")


def check_rows(layout: Layout, n: int) -> None:
    """Raise where a layer that normalises over a batch cannot take all n rows of X as one."""
    if layout.whole_batch and not 1 < n <= layout.block_rows:
        raise ValueError(
            f"X must have 2 to {layout.block_rows} rows for this network, because BatchNorm normalises them as a "
            f"whole, got {n}"
        )


def _check_whole_set(
    architecture: Architecture, arguments: FitArguments, optimizer: FullBatch | Rprop, n: int | None, plain: bool
) -> None:
    """Raise where an optimizer of all samples at once cannot do what is asked for.

    n is None of a stream. `plain` says that there is no rule and no L1 penalty.
    """
    name = type(optimizer).__name__
    if isinstance(optimizer, FullBatch) and not plain:
        raise ValueError(
            f"optimizer {name} takes l2, but no l1, max_norm, dropout, noise, label_smoothing or min_derivative"
        )
    if isinstance(optimizer, LevenbergMarquardt) and any(node.kind.whole_batch for node in architecture.nodes):
        raise ValueError(f"optimizer {name} takes the derivatives of single samples, which BatchNorm has not")
    if isinstance(optimizer, LevenbergMarquardt) and architecture.loss != "quadratic":
        raise ValueError(f"optimizer {name} needs the loss 'quadratic', got {architecture.loss_name!r}")
    if n is None:
        raise ValueError(f"optimizer {name} needs all samples in memory, got a Stream")
    if arguments.batch_size < n or not isinstance(arguments.shuffle, (bool, np.bool_)):
        raise ValueError(
            f"optimizer {name} needs all {n} samples in a batch and no order of them, "
            f"got batch_size {arguments.batch_size} and shuffle {shown(arguments.shuffle)}"
        )


def max_threads(network: Network, threads: int | None, samples: int, batch_size: int) -> int:
    """The most threads for a fit that sees so many samples in all: 1 where starting them costs more than they give."""
    work = 3 * samples * network.layout.multiply_adds
    shared = work > _threads.FIT_MULTIPLY_ADDS and network.max_threads(batch_size) > 1
    return _threads.resolve_threads(threads) if shared else 1


# ---- what is told ----


def _scored(subject: Subject, arguments: FitArguments, data: Labelled, held: Labelled | None) -> list[Scored]:
    """The sets that are scored after each epoch; raises for a metric that does not go with them."""
    sets = {} if held is None else {"val_": held}
    if arguments.train_metric:
        sets[""] = data
    last = subject.architecture.head
    if not sets and arguments.metric is not None:
        metrics.resolve(arguments.metric, data.targets, last)
    return [
        Scored(prefix, each, metrics.resolve(arguments.metric, each.targets, last)) for prefix, each in sets.items()
    ]


def _rare_averages(sharing: Sharing, epochs: int, batch_size: int) -> Iterator[str]:
    """What to say where workers make few steps in all epochs, or many between two averages."""
    workers, of_epoch = len(sharing.rows), -(-max(sharing.rows) // batch_size)
    steps, alone = epochs * of_epoch, epochs * -(-sum(sharing.rows) // batch_size)
    if workers == 1 or not epochs:
        return
    if steps < FEW_STEPS:
        yield (
            f"each of the {workers} workers makes {steps:,} steps in {epochs} epochs, a fit without workers {alone:,}. "
            f"With fewer than {FEW_STEPS:,} at the same learning rate networks lost accuracy: on MNIST by Adam 0.3 "
            f"points with 4,700, 1.1 with 2,300. A learning rate up to {workers} times as large makes up for it, or "
            "more epochs."
        )
    between = min(of_epoch, sharing.steps or of_epoch)
    if between > MANY_STEPS:
        yield (
            f"workers make {between:,} steps between two averages. With 5,000 and 10,000 a network lost 0.6 and 1.2 "
            "points of accuracy beside average=100."
        )


def _warn(subject: Subject, arguments: FitArguments, data: Labelled, held: Labelled | None) -> None:
    """Say what is probably not meant."""
    architecture = subject.architecture
    found = [out_of_reach(architecture, data.targets)]
    if arguments.metric is None:
        watched = data if held is None else held
        found.append(two_numbers(architecture, watched.targets, held is not None))
    for text in filter(None, found):
        warnings.warn(text, stacklevel=5)
