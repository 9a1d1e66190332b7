"""Population: many networks of one architecture in one array; fit, predict, choose."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .checks import file_paths, scalars
from .checks.other_names import explained
from .checks.scalars import shown
from .data import arrays
from .files import population_file, storage
from .files.exportable import Exportable
from .files.model_file import Contents
from .files.population_file import MAX_MEMBERS
from .jobs.engines import engine_of
from .jobs.member_chunks import ChunkedFit
from .model import Model
from .network.claims import Claims
from .network.input_loading import Loading
from .network.member_draws import drawn, noise_of
from .network.network import Network, programs_of, without_parameter
from .population_derivatives import PopulationDerivatives, member_architecture
from .reports import metrics, summary
from .reports.history import History
from .reports.population_history import PopulationHistory
from .reports.progress import PopulationProgress
from .reports.scoring import decide, nan_rows
from .settings import initialisers, input_map
from .settings.custom import Activation
from .settings.initialisers import Init
from .settings.layers import AnyLayer, Architecture, architecture
from .settings.losses import AnyLoss
from .settings.optimizers import SGD, Optimizer
from .settings.stopping import Halving, Patience
from .training.member_arguments import Crew, PopulationArguments, checked
from .training.member_data import MemberData, data_of
from .training.member_optimizers import MemberOptimizers
from .training.members import Members, Rows
from .training.rounds import PopulationFit

BUSY = "fit, step, blend, replace or a new value of vectors was tried on a population while it is being trained"
REDUCE = ("mean", "std", "quantiles", "vote")
REDUCE_BYTES = 2**26  # outputs of all members that are reduced at a time


class Population(PopulationDerivatives, Exportable):
    """Many networks of one architecture, which train at once, each with values of its own.

    Parameters
    ----------
    sizes_or_layers, activation, output, loss, init, dtype
        As in `Model`: what all members have in common.
    input_shift, input_scale : float, array (n_inputs,), array (n, n_inputs) or None
        As in `Model`; an array (n, n_inputs) has a row for each member.
    n : int
        How many members, at least 1.
    rng : None, int, sequence of int or numpy.random.Generator
        Gives each member a seed. An int is the seed of the first member; the next members have the next integers. A
        sequence holds a seed for each. None, the default, or a Generator draws the seeds. Member i begins as
        `Model(..., rng=seeds[i])`. What training makes of it has the same bits whatever n, the order of members, and
        the number of threads are.

    Attributes
    ----------
    vectors : array (n, P)
        The parameters without padding, a row for each member, in dtype: tensor after tensor as `Model.tensors` has
        them, each C-ordered. A copy; setting it sets them.
    seeds : list of int, or None
        Each member's seed; None where not all are known.
    history : PopulationHistory or None
        What the latest fit recorded; None before the first one.

    `population[i]` is a `Model` with copies of a member's parameters, of its generators and of its optimizer's state. A
    slice, an array of indices or a mask gives a Population of copies of those members. `len(population)` is n.
    Raises ValueError or TypeError for an argument that cannot be used. While a fit runs, another fit, `step`,
    `blend`, `replace` and setting `vectors` raise RuntimeError.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> X = np.linspace(0, 1, 64)[:, None]
    >>> population = fastnn.Population([1, 8, 1], 20, activation="tanh", output="identity", rng=0)
    >>> rates = np.geomspace(1e-3, 1e-1, 20)
    >>> history = population.fit(X, X**2, epochs=50, batch_size=16, optimizer=fastnn.Adam(rates))
    >>> history.loss.shape, population.predict(X).shape, population.best()
    ((20, 50), (20, 64, 1), Model([1, Dense(8, 'tanh'), Dense(1, 'identity')], loss='quadratic', dtype='float32'))
    """

    _split_seeds: NDArray[np.int64]  # (n,): what draws the sets that validation_fraction holds out
    _seeds: Sequence[int] | None

    @explained
    def __init__(
        self,
        sizes_or_layers: Iterable[int | AnyLayer],
        n: int,
        *,
        activation: str | Activation = "sigmoid",
        output: str | Activation = "sigmoid",
        loss: AnyLoss = "quadratic",
        init: Init = "scaled",
        input_shift: ArrayLike | None = None,
        input_scale: ArrayLike | None = None,
        dtype: str = "float32",
        rng: int | Sequence[int] | np.random.Generator | None = None,
    ):
        inputs = input_shift, input_scale
        own = any(map(input_map.is_of_members, input_map.NEUTRAL, inputs))
        common = (None, None) if own else inputs
        description = architecture(sizes_or_layers, activation, output, loss, dtype, *reversed(common))
        n = scalars.integer("n", n, 1, MAX_MEMBERS)
        affines = None
        if own:
            description = replace(description, own_inputs=True)
            affines = input_map.of_members(*inputs, n, description.n_inputs, dtype)
            description.check_codes(affines)
        inits = initialisers.of_layers(init, description.numbered, dtype)
        seeds = _seeds(rng, n)
        vectors, random, split_seeds = drawn(description, inits, seeds)
        self._set(description, Members.of(vectors))
        self._members.affines = affines
        self._members.states["random"], self._members.states["noise"] = random, noise_of(random)
        self._split_seeds, self._seeds = split_seeds, seeds

    def _set(self, description: Architecture, members: Members) -> None:
        """Begin with members that no fit has trained."""
        self._architecture, self._members = description, members
        self._programs = programs_of(without_parameter(description))
        self._split_seeds = np.zeros(len(members), np.int64)
        self._seeds = None
        self._feature_names: tuple[str, ...] | None = None
        self._history: PopulationHistory | None = None
        self._fit: PopulationFit | ChunkedFit | None = None  # the latest, while its history is not taken
        self._kept_loading: tuple[Any, Loading] | None = None  # and the shifts and scales that it is made of
        self._best_so_far: Any = None  # which members, their vectors: of the latest fit, if an exception ended it
        self._claims = Claims(BUSY)
        self._steps = None

    # ---- structure ----

    def __len__(self) -> int:
        return len(self._members)

    @property
    def vectors(self) -> NDArray[Any]:
        return self._members.vectors.copy()

    @vectors.setter
    def vectors(self, value: ArrayLike) -> None:
        with self._change():
            shape = self._members.vectors.shape
            self._members.vectors[...] = arrays.parameters("vectors", value, shape, self.dtype)

    @property
    def seeds(self) -> list[int] | None:
        return None if self._seeds is None else list(self._seeds)

    @property
    def n_parameters(self) -> int:
        """How many parameters each member has."""
        return self._programs.layout.n_parameters

    @property
    def sizes(self) -> tuple[int, ...]:
        """Inputs, then each layer's neurons."""
        return self._architecture.sizes

    @property
    def layers(self) -> tuple[AnyLayer, ...]:
        """The layers' specification, as in `Model`."""
        return self._architecture.layers

    @property
    def input_shift(self) -> float | NDArray[np.float64] | None:
        """As it was given; an array (n, n_inputs) where each member has a shift or a scale of its own."""
        return self._inputs_of("input_shift", 0)

    @property
    def input_scale(self) -> float | NDArray[np.float64] | None:
        """As `input_shift`."""
        return self._inputs_of("input_scale", 1)

    def _inputs_of(self, name: str, i: int) -> float | NDArray[np.float64] | None:
        affines = self._members.affines
        return input_map.given(getattr(self._architecture, name)) if affines is None else affines[:, i].copy()

    @property
    def dtype(self) -> str:
        """ "float32" or "float64"."""
        return self._architecture.dtype

    @property
    def history(self) -> PopulationHistory | None:
        fit = self._fit
        return self._history if fit is None else fit.history

    def __repr__(self) -> str:
        return self._architecture.described("Population", f", {len(self)}")

    def summary(self) -> str:
        """The table of a member's layers, as `Model.summary` gives it, and a line on all members."""
        one = summary.text(self._architecture, self._programs.layout.n_bytes)
        trained = "not trained" if self.history is None else repr(self.history)
        return f"{one}\n{len(self):,} members, {self._members.vectors.nbytes / 1024:,.1f} KiB; {trained}"

    # ---- training ----

    @explained
    def fit(
        self,
        X: Any,
        y: Any,
        *,
        epochs: Any,
        batch_size: Any,
        optimizer: Optimizer | str | Sequence[Optimizer | str] = SGD(0.1),
        rows: Any = None,
        validation_data: Any = None,
        validation_fraction: float | None = None,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | str | None = None,
        l2: Any = 0.0,
        l1: Any = 0.0,
        max_norm: Any = None,
        dropout: Any = 0.0,
        input_noise: Any = 0.0,
        label_smoothing: Any = 0.0,
        min_derivative: Any = 0.0,
        shuffle: Any = True,
        stopping: Patience | Halving | None = None,
        max_time: float | None = None,
        verbose: int = 0,
        progress: bool | None = None,
        threads: int | None = None,
        engine: Any = None,
        checkpoint: str | os.PathLike[str] | None = None,
    ) -> PopulationHistory:
        """Train all members, each as `Model.fit` does with its values and its seed.

        A member has the bits of that fit where its sums run in the same order, else it agrees up to rounding (see
        docs/how-to/populations.md, "A member is a model"). Every number below may be an array with one for each member,
        and so may each number of the optimizer. What is not described here is as in `Model.fit`.

        Parameters
        ----------
        X : array (rows, n_inputs), array (n, rows, n_inputs), or (data, indptr)
            Samples that all members share; or a set for each; or sets of different sizes, one behind the other in data
            (all rows, n_inputs), of which rows indptr[i] to indptr[i + 1] are those of member i.
        y : array
            The targets as `Model.fit` takes them, for all or with one more axis (n, rows) or (n, rows, n_out); for
            (data, indptr) those of all rows of data.
        epochs, batch_size : int or array (n,)
            Members of each batch size are trained together, those of one size after those of another.
        optimizer : optimizer, str, or sequence of n of these
            The learning rate of a schedule such as `CosineDecay` may be an array too. A further fit goes on from the
            state of those whose optimizer is equal to their last one. Not LBFGS or LevenbergMarquardt.
        rows : list of n index arrays, array (n, rows), or None
            The rows of X that each member sees: indices, in their order; a mask; or how often, for a bootstrap. X is
            not copied. The fit is that on X[rows[i]], y[rows[i]].
        validation_data : (X, y), (X, y, sample_weight), "rest" or None
            Scored after each epoch: history.val_loss. X and y are as above; "rest" are the rows that `rows` leaves out.
        validation_fraction : float or None
            Each member sets its own share aside, which follows from its seed.
        sample_weight : array or None
            (rows,), (n, rows), or for (data, indptr) those of all rows.
        dropout : number, schedule, callable, sequence of one of these a layer, array (n,) or (n, hidden layers)
            A schedule counts the epochs of this fit from 0. Its learning rate may be an array.
        max_norm : number, array (n,) or None
            NaN in an array is no limit.
        shuffle : bool or array (epochs, rows)
            Each member draws orders of its own; or all see the samples in this one.
        stopping : Patience, Halving or None
            Which members stop before their last epoch. They cost nothing from then on.
        max_time : float or None
            After so many seconds the members that still train finish their epoch and stop: all have done equally many.
            With engine or checkpoint that holds for the members of a chunk, and chunks that have not begun do nothing.
        engine : None, "processes", "ray", fastnn.Processes or fastnn.Ray
            What trains members elsewhere, in chunks that last some seconds, each on one thread, whatever `threads` is.
            None, the default, are threads of this process. Each member has the same bits, wherever it trains.
        checkpoint : str, path or None
            A folder for the chunks that have ended. A call that is equal to the one that began it, on an equal
            population, takes them from there and trains the others.

        Returns
        -------
        PopulationHistory
            Also kept as `population.history`. A member that diverged is marked there, and has the parameters of its
            last good epoch. The others do not notice.

        Raises
        ------
        ValueError, TypeError
            For an argument that cannot be used; the population is unchanged.

        After an exception such as KeyboardInterrupt each member has what its last finished epoch left, and `history`
        says how far each is.
        """
        named = locals()
        for name in ("self", "engine", "checkpoint"):
            del named[name]
        values, engine = PopulationArguments(**named), engine_of(engine)
        crew = Crew(self._architecture, self._programs.layout, len(self), self._feature_names, self._split_seeds)
        request = checked(crew, values)
        claim = threading.Lock()
        with claim, PopulationProgress(bool(progress), bool(verbose), int(request.epochs.sum())) as report:
            self._claims.take(claim)
            fit: PopulationFit | ChunkedFit
            if engine is None and checkpoint is None:
                number = self._members.train_by(request.optimizers, request.optimizers.n_vectors)
                fit = PopulationFit(self._architecture, self._programs, self._members, request, number, report)
            else:
                fit = ChunkedFit(self._contents(), request, report, engine, checkpoint)
            self._fit, self._best_so_far = fit, None
            self._feature_names = self._feature_names or request.columns
            try:
                fit.run()
            except BaseException:
                self._best_so_far = fit.best_so_far
                raise
            finally:
                history = self._history = fit.history
                self._fit = None
            self._claims.give_back(claim)
        return history

    def _take_best(self) -> None:
        """After a fit that an exception ended, give each member the parameters of its best epoch so far."""
        if self._best_so_far is not None:
            some, vectors = self._best_so_far
            self._members.vectors[some], self._best_so_far = vectors, None

    # ---- use ----

    def predict(
        self,
        X: ArrayLike,
        reduce: str | None = None,
        *,
        q: Sequence[float] = (0.05, 0.5, 0.95),
        threads: int | None = None,
    ) -> NDArray[Any]:
        """The outputs of all members, (n, rows, n_out) in the members' dtype, for X (rows, n_inputs).

        `reduce` gives one result of all members: their "mean" or their standard deviation "std", (rows, n_out); their
        "quantiles" q, (len(q), rows, n_out); or the class that most members decide for, "vote", (rows,), the lower one
        of equal ones. X and `threads` are as in `Model.predict`, and each member's outputs have the bits that its
        `Model` gives. Raises ValueError or TypeError for an argument that cannot be used; ValueError for a vote on
        outputs that are NaN.

        Examples
        --------
        >>> import fastnn
        >>> population = fastnn.Population([3, 2], 5, rng=0)
        >>> X = [[1, 2, 3], [0, 1, 0]]
        >>> population.predict(X).shape, population.predict(X, "mean").shape, population.predict(X, "vote").shape
        ((5, 2, 2), (2, 2), (2,))
        """
        if reduce is not None:
            scalars.choice("reduce", reduce, REDUCE)
            q = [scalars.number("q", each, 0.0, np.nextafter(1.0, 2.0)) for each in q]
        inputs = data_of(self._architecture, self._feature_names, len(self), (X, None, None), labelled=False).inputs
        if isinstance(X, tuple) or inputs.starts.any():
            raise ValueError(f"X must have shape (rows, {self.sizes[0]}); predict_each takes rows of each member's own")
        if reduce is None:
            return self._outputs(inputs.array, slice(0, len(inputs.array)), threads)
        return self._reductions(inputs.array, (reduce,), threads, q)[0]

    def _reductions(
        self,
        array: NDArray[Any],
        reduces: Sequence[str | Callable[[NDArray[Any]], NDArray[Any]]],
        threads: int | None,
        q: Sequence[float] = (),
    ) -> list[NDArray[Any]]:
        """Results of all members for rows as the kernels read them, one for each entry of `reduces`.

        An entry is a name, as `predict` takes it, or a function of outputs (n, rows, n_out) that gives an array
        (rows, ..).
        """
        rows, row_bytes = len(array), len(self) * self.sizes[-1] * self._programs.layout.itemsize
        step, parts, first = max(2, REDUCE_BYTES // row_bytes), [], 0
        while first < rows:
            stop = rows if first + step >= rows - 1 else first + step  # a last row alone is summed in another order
            outputs = self._outputs(array, slice(first, stop), threads)
            parts.append([each(outputs) if callable(each) else self._reduced(outputs, each, q) for each in reduces])
            first = stop
        axes = [1 if reduce == "quantiles" else 0 for reduce in reduces]
        return [np.concatenate(some, axis) for some, axis in zip(zip(*parts, strict=True), axes, strict=True)]

    def _outputs(self, array: NDArray[Any], some: slice, threads: int | None) -> NDArray[Any]:
        n, part = len(self), array[some]
        samples = MemberData(Rows.shared(part, n)).samples()
        return self._passes().outputs_on(np.arange(n), samples, len(part), self._threads(threads, n * len(part)))

    def _reduced(self, outputs: NDArray[Any], reduce: str, q: Sequence[float]) -> NDArray[Any]:
        if reduce == "mean":
            return outputs.mean(axis=0)
        if reduce == "std":
            return outputs.std(axis=0)
        if reduce == "quantiles":
            return np.quantile(outputs, q, axis=0).astype(outputs.dtype)
        n, rows, width = outputs.shape
        undecided = nan_rows(outputs.reshape(n, -1))
        if len(undecided):
            raise ValueError(f"X must give outputs that are numbers, got NaN from member {undecided[0]}")
        classes = decide(outputs.reshape(n * rows, width), self._architecture).reshape(n, rows)
        votes = np.stack([(classes == k).sum(axis=0) for k in range(max(2, width))])
        return votes.argmax(axis=0)

    def predict_each(self, X: ArrayLike, *, threads: int | None = None) -> NDArray[Any]:
        """The outputs (n, b, n_out) of each member for rows of its own, X (n, b, n_inputs).

        Raises ValueError or TypeError for X of another shape or without numbers.

        Examples
        --------
        >>> import numpy as np, fastnn
        >>> population = fastnn.Population([3, 2], 5, rng=0)
        >>> population.predict_each(np.ones((5, 1, 3))).shape
        (5, 1, 2)
        """
        array, n = arrays.array("X", X), len(self)
        if array.ndim != 3:
            raise ValueError(f"X must have shape ({n}, b, {self.sizes[0]}), got {array.shape}")
        data = data_of(self._architecture, None, n, (array, None, None), labelled=False)
        rows = array.shape[1]
        return self._passes().outputs_on(np.arange(n), data.samples(), rows, self._threads(threads, n * rows))

    @explained
    def evaluate(
        self,
        X: Any,
        y: Any,
        *,
        metric: Any = None,
        sample_weight: Any = None,
        threads: int | None = None,
    ) -> dict[str, NDArray[np.float64]]:
        """The scores of all members: {"loss": the mean losses (n,), metric's name: its values (n,)}, float64.

        X, y and sample_weight are as in `fit`; metric, threads and the errors are as in `Model.evaluate`.

        Examples
        --------
        >>> import fastnn
        >>> found = fastnn.Population([2, 2], 3, init="zeros").evaluate([[0, 1], [1, 0]], [0, 1])
        >>> found["loss"], found["accuracy"]
        (array([0.25, 0.25, 0.25]), array([0.5, 0.5, 0.5]))
        """
        n = len(self)
        data = data_of(self._architecture, self._feature_names, n, (X, y, sample_weight))
        assert data.targets is not None
        chosen = metrics.resolve(metric, arrays.Targets(data.targets.array, data.classes), self._architecture.head)
        passes, longest = self._passes(), int(data.counts.max())
        threads = self._threads(threads, int(data.counts.sum()))
        found = {"loss": passes.losses_on(np.arange(n), data.samples(), data.totals(), threads)}
        found |= {str(each.name): np.empty(n) for each in chosen}
        inputs = MemberData(data.inputs).samples()
        step = max(1, REDUCE_BYTES // (longest * self.sizes[-1] * self._programs.layout.itemsize))
        for first in range(0, n, step):
            some = np.arange(first, min(first + step, n))
            outputs = passes.outputs_on(some, inputs.part(some), longest, threads)
            for i, of_member in zip(some.tolist(), outputs, strict=True):
                self._score(data, i, of_member, chosen, found)
        return found

    def _score(self, data: MemberData, i: int, outputs: NDArray[Any], chosen: Any, found: Any) -> None:
        """Fill in a member's metrics."""
        assert data.targets is not None
        start, count = int(data.targets.starts[i]), int(data.targets.counts[i])
        classes = None if data.classes is None else data.classes[start : start + count]
        targets, outputs = arrays.Targets(data.targets.array[start : start + count], classes), outputs[:count]
        weights = None
        if data.weights is not None:
            weights = data.weights.array[data.weights.starts[i] :][:count]
        undecided = classes is not None and len(nan_rows(outputs)) > 0
        of_outputs = functools.partial(decide, architecture=self._architecture)
        for each in chosen:
            value = np.nan if undecided else each.score(targets, outputs, of_outputs, weights)
            found[str(each.name)][i] = value

    # ---- members ----

    def __getitem__(self, key: Any) -> Any:
        """A `Model` for an integer; a Population of copies for a slice, an array of indices or a mask."""
        if isinstance(key, (slice, list, np.ndarray)):
            return self._take(np.arange(len(self))[key])
        i = scalars.integer("a member's number", key, -len(self))
        if i >= len(self):
            raise IndexError(f"a member's number must be below {len(self)}, got {shown(i)}")
        return self._model(i % len(self))

    def __iter__(self) -> Iterator[Model]:
        return map(self._model, range(len(self)))

    def _model(self, i: int) -> Model:
        members, layout = self._members, self._programs.layout
        state = members.states[i : i + 1]
        architecture = member_architecture(self._architecture, members.affines, i)
        network = Network(architecture, int(state["random"][0]), int(state["noise"][0]))
        network.parameters[layout.elements] = members.vectors[i]
        optimizers = members.optimizers.get(int(state["optimizer"][0]))
        if optimizers is not None:
            optimizer = optimizers[i]
            vectors = network.vectors_for(optimizer) * 0
            padded = vectors.reshape(-1, network.parameters.size)
            if len(padded):
                assert members.optimizer_vectors is not None
                padded[:, layout.elements] = members.optimizer_vectors[i, : len(padded)]
            network.restore_optimizer(optimizer, vectors, state["numbers"].copy())
        model = Model._of(Contents(network, int(self._split_seeds[i]), self._feature_names))
        history = self.history
        if history is not None:
            done = int(history.epochs[i])
            val_loss = history.val_loss[i, :done]
            some = [] if np.isnan(val_loss).all() else val_loss.tolist()
            model.history = History(history.loss[i, :done].tolist(), some)
        return model

    def _take(self, which: NDArray[np.int64]) -> Population:
        """Copies of some members."""
        if which.ndim != 1 or not len(which):
            raise IndexError("a Population must have members, got none")
        made = object.__new__(Population)
        made._set(self._architecture, self._members.take(which))
        made._split_seeds = self._split_seeds[which]
        made._seeds = None if self._seeds is None else [self._seeds[i] for i in which.tolist()]
        made._feature_names = self._feature_names
        history = self.history
        made._history = None if history is None else history.take(which)
        return made

    def best(self, k: int | None = None) -> Any:
        """The member with the least loss of the latest fit, as a `Model`; or the k best, as a Population, in order.

        Members are compared by `history.scores`: the loss of each one's best epoch, on the validation set if there was
        one. Raises ValueError before the first fit, and for k below 1 or above n.
        """
        history = self.history
        if history is None:
            raise ValueError("best needs a fit, got a population that none has trained")
        order = np.argsort(history.scores, kind="stable")
        if k is None:
            return self._model(int(order[0]))
        return self._take(order[: scalars.integer("k", k, 1, len(self))])

    def replace(self, losers: Any, winners: Any) -> None:
        """Let members go on from copies of the parameters and of the optimizer's state of others.

        `losers` and `winners` are as many indices. The generators of a loser stay its own, so that it sees the samples
        in other orders than its winner. In `history` it has its winner's row from now on. Raises ValueError for indices
        of no member; RuntimeError during a fit.
        """
        n = len(self)
        lost, won = (np.arange(n)[_indices(name, each, n)] for name, each in (("losers", losers), ("winners", winners)))
        if lost.shape != won.shape:
            raise ValueError(f"losers and winners must be as many, got {len(lost)} and {len(won)}")
        which = np.arange(n)
        which[lost] = won
        with self._change():
            new = self._members.take(which)
            new.states["random"], new.states["noise"] = self._members.states["random"], self._members.states["noise"]
            self._members, history = new, self.history
            self._history = None if history is None else history.take(which)

    @classmethod
    def concatenate(cls, populations: Iterable[Population]) -> Population:
        """A Population of copies of the members of several, one after another.

        `input_shift` and `input_scale` may differ. Raises ValueError where populations have different architectures
        apart from that, TypeError for anything but populations.
        """
        found = scalars.items("populations", populations, "a sequence of populations")
        if not found or not all(isinstance(each, Population) for each in found):
            raise TypeError(f"populations must be one or more populations, got {shown(found)}")
        first = found[0]
        for each in found:
            if _without_inputs(each._architecture) != _without_inputs(first._architecture):
                raise ValueError(f"populations must have one architecture, got {first!r} and {each!r}")
        made = object.__new__(Population)
        made._set(*_joined([(each._architecture, each._members) for each in found]))
        made._split_seeds = np.concatenate([each._split_seeds for each in found])
        seeds = [each._seeds for each in found]
        made._seeds = None if any(each is None for each in seeds) else [i for each in seeds for i in each or ()]
        made._feature_names = first._feature_names
        return made

    @classmethod
    def from_models(cls, models: Iterable[Model]) -> Population:
        """A Population whose members are copies of models.

        `input_shift` and `input_scale` may differ. Raises ValueError where the models have different architectures
        apart from that, TypeError for anything but models.
        """
        found = scalars.items("models", models, "a sequence of models")
        if not found or not all(isinstance(each, Model) for each in found):
            raise TypeError(f"models must be one or more models, got {shown(found)}")
        networks = [model._network for model in found]
        first = _without_inputs(networks[0].architecture)
        for network in networks:
            if _without_inputs(network.architecture) != first:
                raise ValueError(
                    f"models must have one architecture, got {found[0]!r} and {network.architecture.described()}"
                )
        made = object.__new__(Population)
        made._set(*_joined([(network.architecture, _members_of(network)) for network in networks]))
        made._split_seeds = np.array([model._split_seed for model in found], np.int64)
        made._feature_names = found[0]._feature_names
        return made

    # ---- files ----

    def save(self, path: str | os.PathLike[str], *, optimizer: bool = True) -> None:
        """Write the population to a safetensors file, which `fastnn.load` reads.

        One tensor (n, P) holds the parameters, and one each vector of the optimizers. The rest is as in `Model.save`.
        """
        optimizer, path = scalars.boolean("optimizer", optimizer), file_paths.path(path)
        storage.write(path, *population_file.written(self._contents(), optimizer))

    def _contents(self) -> population_file.Contents:
        return population_file.Contents(
            self._architecture, self._members, self._split_seeds, self._seeds, self._feature_names
        )

    @classmethod
    def _of(cls, contents: population_file.Contents) -> Population:
        """The population that a file holds."""
        made = object.__new__(cls)
        made._set(contents.architecture, contents.members)
        made._split_seeds, made._seeds = contents.split_seeds, contents.seeds
        made._feature_names = contents.feature_names
        return made

    def __getstate__(self) -> dict[str, Any]:
        contents = self._contents()
        copied = contents._replace(members=contents.members.take(np.arange(len(self))))
        return {"contents": copied, "history": self.history}

    def __setstate__(self, state: dict[str, Any]) -> None:
        made = Population._of(state["contents"])
        vars(self).update(vars(made))
        self._members = self._members.take(np.arange(len(self)))  # in memory as the kernels need it
        self._history = state["history"]


def _seeds(rng: Any, n: int) -> Sequence[int]:
    """The seed of each member."""
    if isinstance(rng, (list, tuple, range)) or (isinstance(rng, np.ndarray) and rng.ndim == 1):
        if len(rng) != n:
            raise ValueError(f"rng must be a seed, or a sequence of one for each of {n} members, got {len(rng)}")
        seeds = rng.tolist() if isinstance(rng, np.ndarray) else list(rng)
        if all(type(seed) is int and seed >= 0 for seed in seeds):
            return seeds
        return [scalars.integer(f"rng[{i}]", seed, 0) for i, seed in enumerate(seeds)]
    return seeds_of(rng, n)


def seeds_of(rng: Any, n: int) -> Sequence[int]:
    """n seeds: drawn where rng is None or a generator, else rng and the integers that follow it."""
    if rng is None or isinstance(rng, np.random.Generator):
        found: list[int] = np.random.default_rng(rng).integers(2**63, size=n).tolist()
        return found
    first = scalars.integer("rng", rng, 0)
    return range(first, first + n)


def _indices(name: str, value: Any, n: int) -> NDArray[np.int64]:
    """Indices of members."""
    found = np.atleast_1d(arrays.array(name, value))
    if found.ndim != 1 or found.dtype.kind not in "iu" or ((found < -n) | (found >= n)).any():
        raise ValueError(f"{name} must be indices in [{-n}, {n}), got {shown(value)}")
    return found


def _without_inputs(architecture: Architecture) -> Architecture:
    """An architecture without the numbers that shift and scale inputs, which members may differ in."""
    return replace(architecture, input_shift=None, input_scale=None, own_inputs=False)


def _joined(parts: Sequence[tuple[Architecture, Members]]) -> tuple[Architecture, Members]:
    """(the architecture, copies of the members) of several populations, whose inputs may be shifted differently."""
    first = parts[0][0]
    if not first.own_inputs and all(each == first for each, _ in parts):
        return first, Members.joined([members for _, members in parts])
    own = []
    for each, members in parts:
        affines = members.affines
        if affines is None:
            affines = np.broadcast_to(each.affine, (len(members), 2, each.n_inputs))
        own.append(replace(members, affines=affines))
    return replace(_without_inputs(first), own_inputs=True), Members.joined(own)


def _members_of(network: Network) -> Members:
    """A model's network as members, one of them."""
    elements = network.layout.elements
    made = Members.zeros(network.layout, 1)
    made.vectors[0] = network.parameters[elements]
    made.states[:] = network.state
    state = network.optimizer_state()
    made.states["optimizer"] = int(state is not None)
    if state is not None:
        optimizer, vectors, _ = state
        padded = vectors.reshape(-1, network.parameters.size)
        made.optimizer_vectors = np.ascontiguousarray(padded[None, :, elements])
        made.optimizers = {1: MemberOptimizers.of(optimizer, 1)}
    return made
