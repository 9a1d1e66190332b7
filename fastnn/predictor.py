"""`Predictor`: a model as a function of blocks of a table, for systems that read more rows than memory holds."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .checks import file_paths, scalars
from .checks.scalars import shown
from .data import frames
from .group_models import GroupModels
from .loading import load
from .model import Model
from .population import Population

PROBABILITIES = ("softmax", "sigmoid", "hard_sigmoid")  # activations of outputs that stand for classes


class Answer(NamedTuple):
    """What a model predicts for rows."""

    values: NDArray[Any]  # (n,) labels or numbers, or (n, n_outputs) numbers
    probabilities: NDArray[Any] | None  # (n, n_classes), where the model gives some
    classes: list[Any] | None  # their labels; None for numbers


class Predictor:
    """A model as a function of blocks of a table: it predicts for the rows of each, whatever the table is made of.

    A block is a frame of pandas or polars, a pyarrow table or a dict of arrays; it comes back with columns more. Or a
    block is its columns as arguments, series of pandas or polars, arrays of pyarrow or NumPy; then a column comes back.
    So it is what `map_batches` of Ray Data and of polars, `mapInPandas` and pandas UDFs of Spark, and functions of
    DuckDB take. docs/how-to/predictor.md has each of them.

    Parameters
    ----------
    model : str, path, or what `fastnn.load` gives
        A file is read when the first block comes, in each process. So a pickle of a `Predictor` of a file is small; the
        file must be where the process is.
    probabilities : bool
        Add a column for each class too, such as "probability yes".
    name : str
        What the column of predictions is called. Of several targets it is "prediction 0", "prediction 1" and so on.
    threads : int
        How many threads a block takes. 1, the default, is right where others go through blocks beside it.

    Where outputs of a network are probabilities a prediction is the index of the class, of an estimator the label, else
    the number. Columns are found by the names that training had, else by their positions. A block without rows comes
    back without rows, with the same columns. Raises ValueError for a block without a column that the model reads, or
    with one that is called as the predictions are.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> predict = fastnn.Predictor(fastnn.Model([2, fastnn.Dense(1, "identity")], init="zeros"))
    >>> predict({"a": np.ones(3), "b": np.zeros(3)})["prediction"]
    array([0., 0., 0.], dtype=float32)
    >>> predict(np.ones(3), np.zeros(3))
    array([0., 0., 0.], dtype=float32)
    """

    def __init__(self, model: Any, *, probabilities: bool = False, name: str = "prediction", threads: int | None = 1):
        self._path = None
        if isinstance(model, (str, os.PathLike)):
            self._path = file_paths.path(model)
            model = None
        elif not isinstance(model, (Model, Population, GroupModels)) and not hasattr(model, "predict"):
            raise TypeError(f"model must be a path or a model of fastnn, got {shown(model)}")
        self._model = model
        self.probabilities = scalars.boolean("probabilities", probabilities)
        if not isinstance(name, str) or not name:
            raise TypeError(f"name must be a string, got {shown(name)}")
        self.name = name
        self.threads = None if threads is None else scalars.integer("threads", threads, 1)

    def __repr__(self) -> str:
        return f"Predictor({str(self._path) if self._path else self._model!r})"

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | ({} if self._path is None else {"_model": None})

    @property
    def model(self) -> Any:
        """The model."""
        if self._model is None:
            self._model = load(str(self._path))
        return self._model

    @property
    def columns(self) -> list[Any] | None:
        """The names of the columns that it reads; None where it knows them by position alone."""
        model = self.model
        if hasattr(model, "table_"):
            return None if model.table_.labels is None else list(model.table_.places)
        if isinstance(model, GroupModels):
            return [*model.by, *model.features]
        names = model.feature_names if isinstance(model, Model) else getattr(model, "feature_names_in_", None)
        return None if names is None else list(names)

    @property
    def n_inputs(self) -> int:
        """How many columns it reads."""
        model = self.model
        if hasattr(model, "table_"):
            return len(model.table_.encodings)
        if isinstance(model, GroupModels):
            return len(model.by) + len(model.features)
        return int(model.sizes[0] if isinstance(model, (Model, Population)) else model.n_features_in_)

    def __call__(self, block: Any, *columns: Any) -> Any:
        """Predict for the rows of a block; see the class."""
        if isinstance(block, (list, tuple)) and not columns:
            return self._of_columns(list(block))
        if columns or not _is_frame(block):
            return self._of_columns([block, *columns])
        found = self.named(self.answer(self.inputs_of(block)))
        taken = [name for name in found if name in frames.labels("block", block)]
        if taken:
            raise ValueError(f"block must have no column {taken[0]!r}, which predictions are called; name= is another")
        return _with_columns(block, found)

    def _of_columns(self, columns: list[Any]) -> Any:
        """A column of predictions for columns."""
        if self.probabilities:
            raise ValueError("probabilities must be False where columns are given one by one, because one comes back")
        labels = self.columns or list(range(len(columns)))
        n = len(labels) if self.columns else self.n_inputs
        if len(columns) != n:
            raise ValueError(f"a block must have {n} columns, {shown(self.columns or n)}, got {len(columns)}")
        found = self.answer(self.inputs_of(dict(zip(labels, columns, strict=True)))).values
        if found.ndim != 1:
            raise ValueError(f"a column comes back, but the model predicts {found.shape[1]}: give it a frame")
        return _as_column(columns[0], found)

    def inputs_of(self, block: Any) -> Any:
        """What the model reads of a frame: a dict of columns for tables and groups, else an array (rows, n_inputs)."""
        wanted = self.columns
        if wanted is None:
            wanted = frames.labels("block", block)
            if len(wanted) != self.n_inputs:
                told = f"{self.n_inputs} columns, as the model knows them by position"
                raise ValueError(f"block must have {told}, got {len(wanted)}")
        else:
            frames.check_columns("block", "the model's inputs", wanted, block)
        model = self.model
        if hasattr(model, "table_") or isinstance(model, GroupModels):
            return {name: block[name] for name in wanted}
        return np.stack([frames.numbers("block", block, name).astype(np.float64) for name in wanted], axis=1)

    def answer(self, inputs: Any) -> Answer:
        """What the model predicts for rows of its inputs; a frame will do for an estimator."""
        model = self.model
        if isinstance(model, GroupModels):
            return Answer(model.predict(inputs, threads=self.threads), None, None)
        if not frames.rows_of("block", inputs):
            return self._of_no_rows(inputs)
        if isinstance(model, Model):
            return _of_outputs(model.predict(inputs, threads=self.threads), model)
        if isinstance(model, Population):
            return _of_outputs(model.predict(inputs, "mean", threads=self.threads), model)
        return self._of_estimator(inputs)

    def _of_no_rows(self, inputs: Any) -> Answer:
        """What a prediction of one row has, without the row: its columns and dtypes."""
        is_array = isinstance(inputs, np.ndarray)
        one = self.answer(np.zeros((1, inputs.shape[1])) if is_array else dict.fromkeys(inputs, np.array([None])))
        values = one.values
        if values.dtype.kind == "O":  # an empty array of objects would not say that they are text
            values = np.array(values.tolist())
        return Answer(values[:0], None if one.probabilities is None else one.probabilities[:0], one.classes)

    def _of_estimator(self, inputs: Any) -> Answer:
        model = self.model
        if self.threads is not None and "threads" in model.get_params(deep=False):
            model.set_params(threads=self.threads)
        with warnings.catch_warnings():  # columns were found by their names before
            warnings.filterwarnings("ignore", "X does not have valid feature names", UserWarning)
            values = np.asarray(model.predict(inputs))
            if not hasattr(model, "classes_"):
                return Answer(values, None, None)
            probabilities = model.predict_proba(inputs) if self.probabilities else None
        classes = list(model.classes_)
        one_each = isinstance(probabilities, np.ndarray) and probabilities.shape == (len(values), len(classes))
        return Answer(values, probabilities if one_each else None, classes)

    def named(self, found: Answer) -> dict[str, NDArray[Any]]:
        """The columns of an answer."""
        single = found.values.ndim == 1
        several = {} if single else {f"{self.name} {i}": each for i, each in enumerate(found.values.T)}
        columns = {self.name: found.values} if single else several
        if self.probabilities:
            if found.probabilities is None or found.classes is None:
                raise ValueError("probabilities must be False for a model that gives none")
            names = [f"probability {label}" for label in found.classes]
            columns |= dict(zip(names, found.probabilities.T, strict=True))
        return columns


def _of_outputs(outputs: NDArray[Any], model: Any) -> Answer:
    """What outputs (n, n_out) of a network stand for: class indices where its activation gives probabilities."""
    head = model.layers[-1]
    if head.activation not in PROBABILITIES:
        return Answer(outputs[:, 0] if outputs.shape[1] == 1 else outputs, None, None)
    if outputs.shape[1] == 1:
        probabilities = np.hstack([1 - outputs, outputs])
        return Answer((outputs[:, 0] > 0.5).astype(np.int64), probabilities, [0, 1])
    classes = list(range(outputs.shape[1]))
    return Answer(outputs.argmax(axis=1), outputs if head.activation == "softmax" else None, classes)


# ---- blocks of each library ----


def _is_frame(block: Any) -> bool:
    """Whether it has columns with names."""
    return frames.is_mapping(block) or hasattr(block, "columns") or hasattr(block, "column_names")


def _with_columns(block: Any, found: dict[str, NDArray[Any]]) -> Any:
    """The block with columns more."""
    if frames.is_mapping(block):
        return {**block, **found}
    if hasattr(block, "assign"):  # pandas
        return block.assign(**found)
    if hasattr(block, "with_columns"):  # polars
        return block.with_columns([sys.modules["polars"].Series(name, each) for name, each in found.items()])
    for name, each in found.items():
        block = block.append_column(name, sys.modules["pyarrow"].array(each))
    return block


def _as_column(given: Any, found: NDArray[Any]) -> Any:
    """An array as the library of a column has it."""
    if frames.is_pandas(given):
        return type(given)(found, index=given.index)
    if frames.is_polars(given):
        return sys.modules["polars"].Series(found)
    return sys.modules["pyarrow"].array(found) if hasattr(given, "to_pylist") else found
