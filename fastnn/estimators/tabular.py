"""TabularClassifier and TabularRegressor: from a table of mixed columns to predictions, without settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, _fit_context
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import check_consistent_length, check_random_state, compute_sample_weight
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, column_or_1d, validate_data

from ..checks import scalars
from ..checks.scalars import shown
from ..data import arrays, table_targets
from ..data.columns import Source
from ..data.table_targets import Classes, Standardised
from ..data.tables import Table
from ..files.model_file import Tensors
from ..population import Population
from ..settings.layers import Architecture, Dense, Embedding
from ..settings.learning_rates import CosineDecay
from ..settings.optimizers import AdamW
from ..settings.stopping import Patience
from . import saving
from .ensembles import MAX_SEED, THREADS, finite_members, store
from .saved_population import SavedPopulation
from .tabular_recipe import FEWEST_ROWS, Recipe, recipe

REPEATS = 3  # permutations of a column
MOST_PERMUTED_ROWS, FEWEST_PERMUTED_ROWS = 2000, 100
SHARE = 0.1  # of the passes of the training, which permuted rows take
PERMUTED_NUMBERS = 2**20  # of the matrices that are predicted at once

_COUNT = [Interval(Integral, 1, None, closed="left")]
_NOT_NEGATIVE, _POSITIVE = [Interval(Real, 0, None, closed="left")], [Interval(Real, 0, None, closed="neither")]
_AUTO = [StrOptions({"auto"})]
CONSTRAINTS: dict[str, Any] = {
    **dict.fromkeys(("categorical", "numeric", "drop"), "no_validation"),  # `Table.of` has the columns
    "n_members": [*_AUTO, *_COUNT],
    "hidden_layer_sizes": [*_AUTO, *_COUNT, "array-like"],
    "epochs": [*_AUTO, *_COUNT],
    "batch_size": [*_AUTO, *_COUNT],
    "learning_rate": [*_AUTO, *_POSITIVE],
    "weight_decay": [*_AUTO, *_NOT_NEGATIVE],
    "refit": ["boolean"],
    "max_time": [*_POSITIVE, None],
    "random_state": ["random_state"],
    "threads": THREADS,
    "verbose": ["verbose"],
    "progress": ["boolean", None],
}


# ---- what networks read and give ----


def n_views(table: Table) -> int:
    """How many networks there are for each member: where numbers have pieces, one that reads them and one without."""
    return 2 if table.pieces else 1


def new_population(table: Table, how: Recipe, output: Dense, loss: str, seeds: list[int]) -> Population:
    """Networks for a table's matrix, first those that read all of it, then those that read it without pieces.

    Where there are codes, a network begins with a table of vectors for each column of them. The vector of code 0, which
    stands for unknown and missing values, begins as zeros: training may never see it.
    """
    hidden, scale = [Dense(units, how.activation) for units in how.hidden_layer_sizes], None
    if table.pieces:
        scale = np.ones((len(seeds), table.width))
        scale[len(seeds) // 2 :, table.pieces] = 0.0
    how_made: dict[str, Any] = {"loss": loss, "rng": seeds, "input_scale": scale}
    if not table.codes:
        return Population([table.width, *hidden, output], len(seeds), **how_made)
    embedding = Embedding(tuple(table.codes), tuple(table.codes.values()))
    population = Population([table.width, embedding, *hidden, output], len(seeds), **how_made)
    vectors, first = population.vectors, 0
    for categories, width in zip(embedding.categories, embedding.widths or (), strict=True):
        vectors[:, first : first + width] = 0.0
        first += categories * width
    population.vectors = vectors
    return population


def mean_outputs(population: Population, inputs: NDArray[Any], threads: int | None) -> NDArray[np.float64]:
    """The mean outputs (n, n_out) of all members. Those of a row do not depend on the other rows."""
    rows = inputs if len(inputs) > 1 else np.repeat(inputs, 2, axis=0)  # one row alone is summed in another order
    (found,) = population._reductions(rows, (lambda outputs: outputs.mean(axis=0, dtype=np.float64),), threads)
    return found[: len(inputs)]


def _is_frame(X: Any) -> bool:
    """Whether the columns of a table have names."""
    if isinstance(X, np.ndarray):
        return X.dtype.names is not None
    if isinstance(X, Mapping) or hasattr(type(X), "collect"):
        return not sparse.issparse(X)  # one of SciPy's kinds is a mapping
    return bool(arrays.column_labels(X))


# ---- held-out rows ----


class Samples(NamedTuple):
    """The rows that networks train on."""

    inputs: NDArray[np.float32]  # (n, width of the table)
    targets: NDArray[Any]  # (n,) int64, the places of classes, or (n, n_targets) float32
    weights: NDArray[np.float64] | None  # (n,), above 0
    folds: NDArray[np.int64]  # (n,): which networks do not see a row, -1 where all see it

    @property
    def held(self) -> bool:
        """Whether rows are held out."""
        return bool((self.folds >= 0).any())

    def some(self, rows: NDArray[Any]) -> Samples:
        """The samples of some rows, which are indices or a mask."""
        weights = None if self.weights is None else self.weights[rows]
        return Samples(self.inputs[rows], self.targets[rows], weights, self.folds[rows])


def fold_numbers(labels: NDArray[np.int64], n_folds: int, random: Any) -> NDArray[np.int64]:
    """The fold (n,) of each row, 0 .. n_folds - 1, drawn so that each has its share of each label.

    -1 for a row that is the only one of its label, and for all where fewer than FEWEST_ROWS others are there.
    """
    order = random.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    order = order[np.bincount(labels)[labels[order]] > 1]
    folds = np.full(len(labels), -1)
    if len(order) >= FEWEST_ROWS:
        folds[order] = np.arange(len(order)) % n_folds
    return folds


class HeldOut(NamedTuple):
    """The networks by the fold of rows that they have not seen."""

    parts: dict[int, Population]
    threads: int | None

    def outputs(self, inputs: NDArray[Any], folds: NDArray[np.int64]) -> NDArray[np.float64]:
        """The mean outputs (n, n_out) of the networks that have not seen a row; NaN where all have."""
        n_out = next(iter(self.parts.values())).sizes[-1]
        found = np.full((len(inputs), n_out), np.nan)
        for fold, population in self.parts.items():
            some = np.flatnonzero(folds == fold)
            if len(some):
                found[some] = mean_outputs(population, inputs[some], self.threads)
        return found


# ---- estimators ----


class _Tabular(SavedPopulation, BaseEstimator):  # type: ignore[misc]
    """What both estimators have in common."""

    _noted: ClassVar[dict[str, Callable[[str, Any], Any]]] = {
        "n_iter_": saving.count,
        "validation_score_": saving.number,
        "feature_importances_": saving.vector,
        "recipe_": Recipe.of,
    }
    _needed: ClassVar[set[str]] = set(_noted)

    table_: Table
    recipe_: Recipe
    n_features_in_: int
    n_iter_: int
    validation_score_: float
    feature_importances_: NDArray[np.float64]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.string = True
        return tags

    # ---- what classes and numbers differ in ----

    _output: ClassVar[str]
    _loss: ClassVar[str]

    def _checked_targets(self, y: Any) -> NDArray[Any]:
        """y as an array (n,) or (n, n_targets) without missing values."""
        raise NotImplementedError

    def _class_weights(self, y: NDArray[Any]) -> NDArray[np.float64] | None:
        """Weights of the rows by their classes."""
        return None

    def _learned(self, y: NDArray[Any]) -> tuple[dict[str, Any], NDArray[Any], int]:
        """(attributes by name, targets as in `Samples`, how many outputs a network has) of the targets."""
        raise NotImplementedError

    def _judge(self, samples: Samples, outputs: NDArray[np.float64]) -> dict[str, Any]:
        """Attributes by name that outputs (n, n_out) for held-out rows give; there may be none of these."""
        raise NotImplementedError

    def _losses(self, outputs: NDArray[np.float64], targets: NDArray[Any]) -> NDArray[np.float64]:
        """The loss (n,) of each row."""
        raise NotImplementedError

    # ---- fit ----

    def _afresh(self) -> Any:
        """An estimator of the same kind, which checks of scikit-learn may change: a fit that fails leaves this one."""
        kind: Any = type(self)
        return kind()

    def _checked(self, X: Any, estimator: Any = None) -> Any:
        """A table as `Table` takes it: a frame as it is, anything else as an array that scikit-learn has checked.

        The columns must be as many as those of this estimator, unless another one learns how many there are.
        """
        if _is_frame(X):
            if not Source.of("X", X).n_rows:
                raise ValueError("X must hold at least one row, got none")
            return X
        dtype = object if isinstance(X, (list, tuple)) else None  # numbers beside text stay numbers
        how = {"dtype": dtype, "ensure_all_finite": False, "reset": estimator is not None}
        return validate_data(estimator or self, X, **how)

    def _name_columns(self, table: Table) -> None:
        """Let the estimator have the number of columns, and their names where all are strings."""
        self.__dict__.pop("feature_names_in_", None)
        strings = table.labels is not None and all(isinstance(each, str) for each in table.labels)
        saving.named(self, len(table.encodings), tuple(table.labels or ()) if strings else None)

    def _fit(self, X: Any, y: Any, sample_weight: Any) -> Any:
        p: Any = self
        X = self._checked(X, self._afresh())
        y = self._checked_targets(y)
        if len(y) < 2:
            raise ValueError(f"X must hold two rows at least, got {len(y)} sample")
        table = Table.of(X, categorical=p.categorical, numeric=p.numeric, drop=p.drop, ranked=True)
        matrix = table.transform(X)
        check_consistent_length(matrix, y)
        weights = self._class_weights(y)
        if sample_weight is not None:
            given = _check_sample_weight(sample_weight, matrix, dtype=np.float64, ensure_non_negative=True)
            weights = given if weights is None else given * weights
        if weights is not None:  # rows without weight are not there
            some = weights > 0
            matrix, y, weights = matrix[some], y[some], weights[some]
        learned, targets, n_outputs = self._learned(y)
        how = self._recipe(len(y))
        random = check_random_state(p.random_state)
        seeds = random.randint(MAX_SEED, size=how.n_members * n_views(table)).tolist()
        labels = targets if targets.ndim == 1 else np.zeros(len(targets), np.int64)
        folds = fold_numbers(labels, how.n_folds, random)
        samples = Samples(matrix, targets, weights, folds)
        self._train({"table_": table, "recipe_": how, **learned}, samples, seeds, n_outputs)
        return self

    def _recipe(self, rows: int) -> Recipe:
        """How the networks are trained: by the numbers that were given, else by those that follow from the table."""
        names = ("n_members", "hidden_layer_sizes", "epochs", "batch_size", "learning_rate", "weight_decay")
        values = {name: vars(self)[name] for name in names}
        given = {name: value for name, value in values.items() if not isinstance(value, str)}
        if "hidden_layer_sizes" in given:
            sizes = np.atleast_1d(np.asarray(given["hidden_layer_sizes"], object)).tolist()
            given["hidden_layer_sizes"] = tuple(scalars.integer("hidden_layer_sizes", each, 1) for each in sizes)
        for name in ("n_members", "epochs", "batch_size"):
            if name in given:
                given[name] = int(given[name])
        for name in ("learning_rate", "weight_decay"):
            if name in given:
                given[name] = float(given[name])
        return recipe(rows, self._loss == "cross_entropy")._replace(**given)

    def _train(self, learned: dict[str, Any], samples: Samples, seeds: list[int], n_outputs: int) -> None:
        """Train the networks, and set all attributes; what is there after Ctrl-C too."""
        p: Any = self
        how: Recipe = learned["recipe_"]
        network = learned["table_"], how, Dense(n_outputs, self._output), self._loss, seeds
        population = new_population(*network)
        members = np.arange(len(seeds)) % how.n_members % how.n_folds
        options: dict[str, Any] = {}
        if samples.held:
            options["rows"] = samples.folds != members[:, None]
            options["validation_data"], options["stopping"] = "rest", Patience(how.patience)
        refit = p.refit and samples.held
        if p.max_time is not None:
            options["max_time"] = p.max_time / (2 if refit else 1)
        try:
            self._descend(population, samples, how, how.epochs, options)
        except KeyboardInterrupt:
            if population.history is not None and population.history.epochs.min() > 0:
                population._take_best()
                self._finish(learned, population, members, samples)
            raise
        self._finish(learned, population, members, samples)
        if refit:
            again = new_population(*network)
            history: Any = self.history_
            options = {name: value for name, value in options.items() if name == "max_time"}
            self._descend(again, samples, how, np.maximum(history.best_epoch, 1), options)
            self.population_ = again[finite_members(again.history, stacklevel=5)]  # type: ignore[arg-type]

    def _descend(
        self, population: Population, samples: Samples, how: Recipe, epochs: Any, options: dict[str, Any]
    ) -> None:
        """Train a population on samples by a recipe."""
        p: Any = self
        seen = len(samples.inputs) - int((samples.folds == 0).sum()) if "rows" in options else len(samples.inputs)
        batch_size = min(how.batch_size, seen)
        rate = CosineDecay(how.learning_rate, how.epochs * math.ceil(seen / batch_size), per="step")
        population.fit(
            samples.inputs,
            samples.targets,
            epochs=epochs,
            batch_size=batch_size,
            optimizer=AdamW(rate, beta2=how.beta2, weight_decay=how.weight_decay),
            sample_weight=samples.weights,
            dropout=how.dropout,
            label_smoothing=how.label_smoothing if self._loss == "cross_entropy" else 0.0,
            verbose=int(bool(p.verbose)),
            progress=p.progress,
            threads=p.threads,
            **options,
        )

    def _finish(
        self, learned: dict[str, Any], population: Population, members: NDArray[np.int64], samples: Samples
    ) -> None:
        """Set the attributes of a fit, of which `learned` are some. members (n,) are the folds that each holds out."""
        p: Any = self
        history: Any = population.history
        fine = finite_members(history, stacklevel=6)
        population, members = population[fine], members[fine]
        held_out = HeldOut({fold: population[members == fold] for fold in np.unique(members).tolist()}, p.threads)
        outputs = held_out.outputs(samples.inputs, samples.folds)
        some = ~np.isnan(outputs[:, 0])
        made = self._afresh()  # an interrupt from here on leaves the estimator
        made.__dict__.update({**vars(self), **learned})
        made._name_columns(made.table_)
        made.__dict__.update(made._judge(samples.some(some), outputs[some]))
        made.history_, made.n_iter_ = history, int(history.epochs.max())
        made.feature_importances_ = made._importances(samples.some(some), held_out)
        made.population_ = population
        self.__dict__.pop("feature_names_in_", None)
        self.__dict__.update(vars(made))

    def _importances(self, samples: Samples, held_out: HeldOut) -> NDArray[np.float64]:
        """How much the loss of held-out rows rises (n columns,) where a column of the table is permuted."""
        table, n = self.table_, len(samples.inputs)
        found = np.zeros(len(table.encodings))
        if not n:
            return found * np.nan
        most = int(SHARE * 3 * self.recipe_.epochs * n / (REPEATS * len(table.places)))
        random = np.random.default_rng(n)
        samples = samples.some(random.permutation(n)[: max(FEWEST_PERMUTED_ROWS, min(most, MOST_PERMUTED_ROWS))])
        inputs, n = samples.inputs, len(samples.inputs)
        weights = np.ones(n) if samples.weights is None else samples.weights
        shuffled = np.stack([random.permutation(n) for _ in range(REPEATS)])
        labels = list(table.places)
        for fold, population in held_out.parts.items():
            some = np.flatnonzero(samples.folds == fold)
            targets, weight = samples.targets[some], weights[some] / (REPEATS * weights.sum())
            before = self._losses(mean_outputs(population, inputs[some], held_out.threads), targets)
            at_once = max(1, PERMUTED_NUMBERS // (REPEATS * max(1, inputs[some].size)))  # columns
            for first in range(0, len(labels), at_once):
                part = labels[first : first + at_once]
                rows = np.tile(some, len(part) * REPEATS)
                matrix = inputs[rows]
                changed = matrix.reshape(len(part), REPEATS, len(some), table.width)
                for label, copies in zip(part, changed, strict=True):
                    copies[..., table.places[label]] = inputs[shuffled[:, some], table.places[label]]
                losses = self._losses(mean_outputs(population, matrix, held_out.threads), samples.targets[rows])
                rise = (losses.reshape(len(part), REPEATS, len(some)) - before) @ weight
                for label, each in zip(part, rise.sum(axis=1), strict=True):
                    found[label if table.labels is None else table.labels.index(label)] += each
        return found

    # ---- use ----

    def _outputs(self, X: Any) -> NDArray[np.float64]:
        """The mean outputs (n, n_out) of the networks."""
        check_is_fitted(self, self._trained)
        matrix = self.table_.transform(self._checked(X), stacklevel=5)  # of who calls predict
        threads: Any = vars(self)["threads"]
        return mean_outputs(self.population_, matrix, threads)

    # ---- files ----

    def _values(self) -> dict[str, Any]:
        return vars(self) | {"recipe_": tuple(self.recipe_)}

    def _input_names(self) -> None:
        return None

    def _written(self, optimizer: bool) -> tuple[dict[str, Any], Tensors, Architecture]:
        description, tensors, architecture = super()._written(optimizer)
        return {**description, "table": self.table_.to_dict()}, tensors, architecture

    def _take(self, solver: dict[str, Any], d: dict[str, Any], tensors: Tensors, custom: Mapping[str, Any]) -> None:
        self.table_ = Table.from_dict(d["table"])
        if self.feature_importances_.shape != (len(self.table_.encodings),):
            raise ValueError(
                f"feature_importances_ must have shape ({len(self.table_.encodings)},), as many as the table has "
                f"columns, got {self.feature_importances_.shape}"
            )
        super()._take(solver, d, tensors, custom)
        if self.population_.sizes[0] != self.table_.width:
            raise ValueError(f"the networks must read {self.table_.width} inputs, got {self.population_.sizes[0]}")
        self._name_columns(self.table_)


class TabularClassifier(ClassifierMixin, _Tabular):  # type: ignore[misc]
    """A classifier of the rows of a table with columns of numbers, text, dates and gaps, which needs no settings.

    Several networks train at once, each on all rows but a part of its own, which tells it when to stop. Their
    probabilities are averaged.

    Parameters
    ----------
    categorical, numeric, drop : names of columns, or their numbers where they have no names
        Columns to compare for equality alone, columns of text to take as numbers, and columns to leave out. The kinds
        of all others follow from their dtypes: text is a category, integers are numbers.
    n_members : int or "auto"
        How many members, each with a part of the rows of its own that it does not see. Where the table has numbers, a
        member is two networks. "auto", as below, follows from the size of the table: 6 up to 1,000 rows, 8 up to
        50,000, then fewer.
    hidden_layer_sizes : int, sequence of int or "auto"
        Neurons of the hidden layers.
    epochs : int or "auto"
        The most epochs of a network.
    batch_size : int or "auto"
        Rows of a step.
    learning_rate, weight_decay : float or "auto"
        Those of AdamW. The rate falls to 0 along half a cosine.
    refit : bool
        Train networks of the same seeds anew on all rows, each for as many epochs as its best one was. Default False.
    class_weight : dict, "balanced" or None
        Weights of the classes by their labels, as in scikit-learn. A class of weight 0 is left out.
    max_time : float or None
        About how many seconds the fit may take.
    random_state : int, RandomState or None
        Draws the seeds of the networks, and which rows each holds out.
    threads : int or None
        At most so many threads; None is as many as there are.
    verbose : int
        1 prints a line an epoch. Default 0.
    progress : bool or None
        Show a bar of the epochs of all networks.

    Attributes
    ----------
    table_ : Table
        What each column became; it prints as a summary.
    classes_ : array (n_classes,)
        The labels, sorted.
    population_ : Population
        The networks, without those that diverged.
    history_ : PopulationHistory
        Their losses on the rows that they see, and on those that they do not.
    recipe_ : Recipe
        The numbers that "auto" stands for, and all others of the training.
    validation_score_ : float
        The accuracy on held-out rows: each is predicted by the networks that have not seen it.
    feature_importances_ : array (n_features_in_,), float64
        How much the log loss of held-out rows rises where the values of a column are permuted, in the mean of 3
        permutations of at most 2,000 rows; 0 for a column that is dropped.
    n_features_in_, n_iter_ : int
        The columns; the most epochs that one network did.
    feature_names_in_ : array (n_features_in_,) of str
        The names of the columns where all are strings.

    A row that is the only one of its class is never held out. With fewer than 20 others no row is: all networks do
    `epochs` epochs on all rows, and validation_score_ and feature_importances_ are NaN. Ctrl-C goes on to the caller,
    and leaves the networks with the parameters of their best epochs so far.

    Raises ValueError or TypeError, in `fit` and afterwards, for columns that cannot be used; the message names them.
    Columns are found by their names, in any order, where there are names; further ones are ignored with a warning.

    Examples
    --------
    >>> import fastnn
    >>> towns, rooms = ["Rome", "Oslo", "Bern", "Rome"] * 10, [1, 2, None, 4, 5] * 8
    >>> model = fastnn.TabularClassifier(n_members=2, epochs=20, random_state=0)
    >>> model = model.fit({"town": towns, "rooms": rooms}, ["north" if town == "Oslo" else "south" for town in towns])
    >>> model.predict({"rooms": [3, None], "town": ["Oslo", "Rome"]}).tolist()
    ['north', 'south']
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = CONSTRAINTS | {
        "class_weight": [dict, StrOptions({"balanced"}), None]
    }
    _noted: ClassVar[dict[str, Callable[[str, Any], Any]]] = {**_Tabular._noted, "classes_": saving.classes}
    _needed: ClassVar[set[str]] = set(_noted)
    _output, _loss = "softmax", "cross_entropy"

    classes_: NDArray[Any]

    def __init__(
        self,
        *,
        categorical: Any = (),
        numeric: Any = (),
        drop: Any = (),
        n_members: Any = "auto",
        hidden_layer_sizes: Any = "auto",
        epochs: Any = "auto",
        batch_size: Any = "auto",
        learning_rate: Any = "auto",
        weight_decay: Any = "auto",
        refit: bool = False,
        class_weight: Any = None,
        max_time: float | None = None,
        random_state: Any = None,
        threads: int | None = None,
        verbose: int = 0,
        progress: bool | None = None,
    ) -> None:
        store(self, locals())

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> TabularClassifier:
        """Train on a table X of n rows and labels y (n,), of which two differ at least; gives the estimator.

        X is a frame of pandas or polars, a table of pyarrow, a dict of arrays, a structured array, or an array
        (n, columns) of numbers, text or objects. Labels are bools, integers, text or whole floats. sample_weight (n,)
        holds numbers of at least 0; a row of weight 0 is as if it were not there, but for the statistics of the
        columns. Raises ValueError or TypeError for what cannot be used.
        """
        return self._fit(X, y, sample_weight)

    def _checked_targets(self, y: Any) -> NDArray[Any]:
        given = np.asarray(y)
        if given.ndim == 1 and given.dtype.kind not in "biufc":
            table_targets.target("y", y)  # scikit-learn's errors for missing and mixed labels do not name y
        y = validate_data(self._afresh(), X="no_validation", y=y)
        check_classification_targets(y)
        return np.asarray(y)

    def _class_weights(self, y: NDArray[Any]) -> NDArray[np.float64] | None:
        weight: Any = vars(self)["class_weight"]
        if weight is None:
            return None
        found: NDArray[np.float64] = compute_sample_weight(weight, y)
        wrong = ~((found >= 0) & np.isfinite(found))
        if wrong.any():
            label = y.tolist()[wrong.argmax()]
            what = f"{shown(weight[label])} for {shown(label)}"
            raise ValueError(f"class_weight must hold finite numbers of at least 0, got {what}")
        return found

    def _learned(self, y: NDArray[Any]) -> tuple[dict[str, Any], NDArray[Any], int]:
        classes = Classes.of(y)
        n = len(classes.labels)
        if n < 2:
            raise ValueError(f"y must hold two classes at least, got 1 class, {shown(classes.labels[0].item())}")
        return {"classes_": classes.labels}, classes.codes(y), n

    def _judge(self, samples: Samples, outputs: NDArray[np.float64]) -> dict[str, Any]:
        if not len(outputs):
            return {"validation_score_": math.nan}
        score = accuracy_score(samples.targets, outputs.argmax(axis=1), sample_weight=samples.weights)
        return {"validation_score_": float(score)}

    def _losses(self, outputs: NDArray[np.float64], targets: NDArray[Any]) -> NDArray[np.float64]:
        least = float(np.finfo(np.float32).tiny)
        return -np.log(np.maximum(outputs[np.arange(len(targets)), targets], least))

    def _check_outputs(self, architecture: Architecture) -> None:
        n, head = len(self.classes_), architecture.head
        if n < 2 or (head.units, head.activation) != (n, self._output):
            raise ValueError(f"{n} classes must have outputs of their own, got {shown(head)}")

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """The probabilities (n, n_classes), float64, of the rows of a table: each is the mean of the networks'."""
        return self._probabilities(X)

    def _probabilities(self, X: Any) -> NDArray[np.float64]:
        found = self._outputs(X)
        return found / found.sum(axis=1, keepdims=True)

    def predict(self, X: Any) -> NDArray[Any]:
        """The labels (n,) of the highest probabilities."""
        chosen = self._probabilities(X).argmax(axis=1)
        found: NDArray[Any] = self.classes_[chosen]
        return found


class TabularRegressor(RegressorMixin, _Tabular):  # type: ignore[misc]
    """A regressor on the rows of a table with columns of numbers, text, dates and gaps, which needs no settings.

    Several networks train at once, each on all rows but a part of its own, which tells it when to stop. They learn the
    targets standardised, their outputs are averaged, and predictions have the units of the targets. A prediction lies
    within the range of the training targets.

    Parameters are those of `TabularClassifier` but class_weight, and:

    Parameters
    ----------
    log_target : "auto" or bool
        Learn the logarithms of the targets, which are above 0 then. "auto" takes them of a target that is skewed to
        large values, where its skewness is above 1.5, and that of the logarithms is less than half as far from 0.
        Predictions are then multiplied by what brings their mean on held-out rows to that of the targets.

    Attributes are those of `TabularClassifier` but classes_. validation_score_ is R2, and feature_importances_ say how
    much the squared error of the standardised targets rises.

    Examples
    --------
    >>> import fastnn
    >>> frame = {"town": ["Rome", "Oslo"] * 20, "area": list(range(40, 80))}
    >>> rent = [10 * area + (300 if town == "Oslo" else 0) for town, area in zip(*frame.values())]
    >>> model = fastnn.TabularRegressor(n_members=2, epochs=100, random_state=0).fit(frame, rent)
    >>> found = model.predict({"area": [50, 50], "town": ["Rome", "Oslo"]})
    >>> found.shape, bool(abs(found - [500, 800]).max() < 50)
    ((2,), True)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = CONSTRAINTS | {"log_target": ["boolean", *_AUTO]}
    _noted: ClassVar[dict[str, Callable[[str, Any], Any]]] = {
        **_Tabular._noted,
        "_limits": saving.matrix,
        "_shift": saving.vector,
    }
    _needed: ClassVar[set[str]] = set(_noted)
    _output, _loss = "identity", "quadratic"

    _shift: NDArray[np.float64]  # (n_targets,), added to outputs: the mean of a logarithm is not that of the target
    _limits: NDArray[np.float64]  # (2, n_targets): the least and the largest prediction, standardised
    _residuals: NDArray[np.float64]  # (held-out rows, n_targets): how far predictions are off, standardised, sorted
    _targets: Standardised

    def __init__(
        self,
        *,
        categorical: Any = (),
        numeric: Any = (),
        drop: Any = (),
        n_members: Any = "auto",
        hidden_layer_sizes: Any = "auto",
        epochs: Any = "auto",
        batch_size: Any = "auto",
        learning_rate: Any = "auto",
        weight_decay: Any = "auto",
        refit: bool = False,
        log_target: Any = "auto",
        max_time: float | None = None,
        random_state: Any = None,
        threads: int | None = None,
        verbose: int = 0,
        progress: bool | None = None,
    ) -> None:
        store(self, locals())

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> TabularRegressor:
        """Train on a table X of n rows and numbers y, (n,) or (n, n_targets); gives the estimator.

        X and sample_weight are as in `TabularClassifier.fit`. Raises ValueError or TypeError for what cannot be used.
        """
        return self._fit(X, y, sample_weight)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _checked_targets(self, y: Any) -> NDArray[Any]:
        try:
            y = validate_data(self._afresh(), X="no_validation", y=y, multi_output=True, y_numeric=True)
        except ValueError:
            arrays.numeric("y", y)  # names the element that is no number
            raise
        return np.asarray(column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y)

    def _learned(self, y: NDArray[Any]) -> tuple[dict[str, Any], NDArray[Any], int]:
        standardised = Standardised.of(y, vars(self)["log_target"])
        targets = standardised.forward(y, "float32")
        limits = np.stack([targets.min(axis=0), targets.max(axis=0)]).astype(np.float64)
        return {"_targets": standardised, "_limits": limits}, targets, targets.shape[1]

    def _judge(self, samples: Samples, outputs: NDArray[np.float64]) -> dict[str, Any]:
        targets, shift, score = self._targets, np.zeros(len(self._targets.means)), math.nan
        if len(outputs):
            true, found = (targets.back(each).reshape(len(each), -1) for each in (samples.targets, outputs))
            means = (np.average(each, axis=0, weights=samples.weights) for each in (true, found))
            logarithms = [np.log(np.where(targets.logarithms, each, 1.0)) for each in means]
            shift = np.subtract(*logarithms) / targets.deviations
        found = np.clip(outputs + shift, *self._limits)
        if len(found):
            score = float(r2_score(true, targets.back(found), sample_weight=samples.weights))
        residuals = np.sort(np.abs(found - samples.targets), axis=0)
        return {"validation_score_": score, "_residuals": residuals, "_shift": shift}

    def _losses(self, outputs: NDArray[np.float64], targets: NDArray[Any]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = np.square(outputs - targets).mean(axis=1)
        return found

    def predict(self, X: Any) -> NDArray[np.float64]:
        """The predictions (n,) or (n, n_targets), float64, for the rows of a table."""
        found = self._standardised(X)
        return self._targets.back(found)

    def predict_interval(self, X: Any, coverage: float = 0.9) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The lower and the upper ends of intervals which new targets lie in with the probability `coverage`.

        Both have the shape of `predict`. Intervals of several targets hold for each of them. Around a prediction they
        reach as far as the residuals of held-out rows, each predicted by the networks that have not seen it, do with
        that frequency: the ceil((m + 1) coverage)-th of m residuals (Vovk et al. 2005, Barber et al. 2021). The mean of
        all networks is mostly better than the few that have not seen a row, so more than `coverage` may lie within.
        With logarithms they reach so many times as far upwards and downwards. The rows must be like those of training.

        Raises ValueError where no row was held out, and for a coverage that so few residuals cannot tell.

        Examples
        --------
        >>> import numpy as np, fastnn
        >>> x = np.linspace(0, 1, 200)
        >>> y = x + np.random.default_rng(0).uniform(-0.1, 0.1, 200)
        >>> model = fastnn.TabularRegressor(n_members=5, random_state=0).fit(x[:, None], y)
        >>> lower, upper = model.predict_interval([[0.5]], coverage=0.8)
        >>> bool(lower[0] < 0.5 < upper[0]), bool(upper[0] - lower[0] < 0.25)
        (True, True)
        """
        coverage = scalars.number("coverage", coverage, 0.0, 1.0, open_low=True)
        found, n = self._standardised(X), len(self._residuals)
        if not n:
            raise ValueError(f"predict_interval needs held-out rows, got a fit on fewer than {FEWEST_ROWS} rows")
        rank = math.ceil(round((n + 1) * coverage, 9))
        if rank > n:
            raise ValueError(f"coverage must be at most {n / (n + 1):.6g} with {n} held-out rows, got {coverage!r}")
        reach = self._residuals[rank - 1]
        return self._targets.back(found - reach), self._targets.back(found + reach)

    def _standardised(self, X: Any) -> NDArray[np.float64]:
        """Predictions (n, n_targets) as the networks give them, within the limits."""
        outputs = self._outputs(X)
        return np.clip(outputs + self._shift, *self._limits)

    def _check_outputs(self, architecture: Architecture) -> None:
        n, head = len(self._targets.means), architecture.head
        if (head.units, head.activation) != (n, self._output):
            raise ValueError(f"{n} targets must have outputs of their own, got {shown(head)}")

    def _written(self, optimizer: bool) -> tuple[dict[str, Any], Tensors, Architecture]:
        description, tensors, architecture = super()._written(optimizer)
        if len(self._residuals):
            tensors["residuals"] = self._residuals
        return {**description, "targets": self._targets.to_dict()}, tensors, architecture

    def _take(self, solver: dict[str, Any], d: dict[str, Any], tensors: Tensors, custom: Mapping[str, Any]) -> None:
        self._targets = Standardised.from_dict(d["targets"])
        n = len(self._targets.means)
        rest = {name: tensor for name, tensor in tensors.items() if name != "residuals"}
        found = np.array(tensors.get("residuals", np.zeros((0, n))), np.float64)
        if found.ndim != 2 or found.shape[1] != n or (found < 0).any() or (np.diff(found, axis=0) < 0).any():
            raise ValueError(f"residuals must have shape (rows, {n}), sorted and not below 0, got {shown(found)}")
        self._residuals = found
        if self._limits.shape != (2, n) or not (self._limits[0] <= self._limits[1]).all():
            raise ValueError(f"_limits must be a least and a largest value of {n} targets, got {shown(self._limits)}")
        super()._take(solver, d, rest, custom)
