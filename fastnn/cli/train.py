"""`fastnn train`."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import shlex
import sys
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import TabularClassifier, TabularRegressor
from . import answers, evaluate, reading, run_file, writing
from .failures import INTERRUPTED, Failure, as_options, say

FEWEST_ROWS = 5  # for each of the whole numbers that are labels
_HOW = {"hidden": "hidden_layer_sizes", "epochs": "epochs", "seed": "random_state", "threads": "threads"}


class Task(NamedTuple):
    """What is learned: a table without its target, the target, and whether that is classes."""

    X: Any
    y: Any
    classes: bool
    name: str  # of the table

    def part(self, rows: NDArray[Any]) -> Task:
        """The task of some rows."""
        return self._replace(X=self.X.iloc[rows], y=self.y.iloc[rows])


class Folds(NamedTuple):
    """What a cross-validation found."""

    scores: dict[str, list[float]]  # of each fold, by metric
    predicted: NDArray[Any]  # (n,) for each row, by a model that has not seen it


def run(options: argparse.Namespace) -> int:
    """Train a model, save it and the file of its run, and print the validation scores; gives the exit code."""
    settings = run_file.merged(options)
    if settings.report is not None:
        from . import html_report  # says what is missing before the training
    for path in filter(None, (settings.output, settings.report)):
        if not os.path.isdir(os.path.dirname(path) or "."):
            raise Failure(f"there is no folder {os.path.dirname(path)} for {path}")
    content = reading.content_of(settings.data)
    sha256 = hashlib.sha256(content).hexdigest()
    if settings.noted.get("sha256", sha256) != sha256:
        say(f"warning: {reading.name_of(settings.data)} is not what it was in the run of {settings.config}")
    task = task_of(settings, content)
    settings.task = "classification" if task.classes else "regression"
    numbers = _folds_of(task, settings)
    model = _trained(task, settings)
    _save(model, settings, sha256)
    folds = None if numbers is None else _cross_validated(task, numbers, settings)
    scores = {} if folds is None else {name: _spread(values) for name, values in folds.scores.items()}
    if settings.report is not None:
        command = shlex.join(["fastnn", *options.arguments])
        page = html_report.page(model, html_report.Run(command, settings, scores, task.y, task.classes, folds))
        writing.write(page, settings.report)
        say(f"the report is in {settings.report}")
    _print(scores, settings)
    return 0


def task_of(settings: argparse.Namespace, content: bytes) -> Task:
    """The task of a table; says on standard error which one it is, and why."""
    name = reading.name_of(settings.data)
    frame = reading.frame_of(content, settings.data, settings.separator)
    target = settings.target
    reading.check_columns(frame, [target], name, "the target")
    for option in run_file.NAMES:
        reading.check_columns(frame, getattr(settings, option) or [], name, f"which --{option} names")
    reading.check_complete(frame, target, name)
    _tell_of_text(frame, settings)
    y = frame[target]
    classes, why = is_classes(y)
    if settings.task is None and (found := reading.first_text(y)) is not None:
        told = f"column {target!r} of {name} holds numbers but {found[0]!r} in row {found[1]}, counted from 0"
        raise Failure(f"{told}; --task classification takes all of it as classes")
    if settings.task is not None:
        classes, why = settings.task == "classification", "as asked for"
    if classes:
        n = y.nunique()
        if n < 2:
            raise Failure(f"column {target!r} of {name} must hold two classes at least, got {y.iloc[0]!r} in all rows")
        say(f"classification: {target!r} has {n} classes, {why}")
    else:
        y = type(y)(reading.matrix(frame, [target], name)[:, 0], index=y.index, name=target)
        say(f"regression: {target!r} is a number, {why}")
    return Task(frame.drop(columns=target), y, classes, name)


def _tell_of_text(frame: Any, settings: argparse.Namespace) -> None:
    """Say which columns are text because of a few words among their numbers."""
    known = {settings.target, *(label for option in run_file.NAMES for label in getattr(settings, option) or [])}
    for label in frame.columns:
        if label not in known and (found := reading.first_text(frame[label])) is not None:
            told = f"column {label!r} holds numbers but {found[0]!r} in row {found[1]}, counted from 0"
            say(f"warning: {told}, so it is text; numbers alone, or nothing in place of the text, make it numbers")


def is_classes(y: Any) -> tuple[bool, str]:
    """(whether a target without gaps is classes, why): text, truth values, or few whole numbers."""
    if y.dtype.kind not in "iuf":
        return True, "because it is no number"
    whole = bool((y == np.floor(y)).all())
    n = y.nunique()
    if whole and n <= reading.MOST_LABELS and n * FEWEST_ROWS <= len(y):
        return True, "because it has few whole numbers; --task regression takes them as numbers"
    return False, "because it has many values" if whole else "because its numbers are not whole"


# ---- training ----


def _estimator(task: Task, settings: argparse.Namespace, seconds: float | None) -> Any:
    """An estimator with the parameters that the options stand for."""
    kind: Any = TabularClassifier if task.classes else TabularRegressor
    given = {_HOW[name]: getattr(settings, name) for name in _HOW} | {"max_time": seconds}
    given |= {name: getattr(settings, name) for name in run_file.NAMES}
    if settings.hidden is not None:
        given["hidden_layer_sizes"] = tuple(settings.hidden)
    return kind(progress=False, **{name: value for name, value in given.items() if value is not None})


def _share(settings: argparse.Namespace) -> float | None:
    """The seconds that one of the fits may take."""
    return None if settings.max_time is None else settings.max_time / (settings.cv + 1)


def _trained(task: Task, settings: argparse.Namespace) -> Any:
    """The model of all rows. Ctrl-C saves what it is by then."""
    model = _estimator(task, settings, _share(settings))
    _let_tell(model)
    try:
        _fit(model, task)
    except KeyboardInterrupt:
        try:
            _save_model(model, settings.output)
        except (ValueError, AttributeError):
            raise Failure("stopped before the first epoch had ended; nothing is saved", INTERRUPTED) from None
        raise Failure(f"stopped; the best epoch so far is in {settings.output}", INTERRUPTED) from None
    return model


def _fit(model: Any, task: Task) -> None:
    with contextlib.redirect_stdout(sys.stderr):
        try:
            model.fit(task.X, task.y)
        except (ValueError, TypeError) as error:
            raise Failure(f"{task.name}: {as_options(error)}") from None


def _let_tell(model: Any) -> None:
    """Let a fit draw a bar on a terminal, or print a line an epoch where NO_COLOR or TERM ask for plain text."""
    if sys.stderr.isatty():
        plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
        model.set_params(verbose=int(plain), progress=not plain)


def _save_model(model: Any, path: str) -> None:
    """Save a model with the parameters that say what it is: how the fit ran does not change the file."""
    model.set_params(threads=None, progress=None, verbose=0)
    model.save(path, optimizer=False)


def _save(model: Any, settings: argparse.Namespace, sha256: str) -> None:
    """Save a model and, beside it, the file of its run."""
    _save_model(model, settings.output)
    beside = os.path.splitext(settings.output)[0] + ".toml"
    writing.write(run_file.written(settings, sha256, beside), beside)
    say(f"the model is in {settings.output}, the options of the run in {beside}")


# ---- validation ----


def fold_numbers(task: Task, n_folds: int, seed: int) -> NDArray[np.int64]:
    """The fold (n,) of each row, at random. All folds have about the same number of rows, and of each class."""
    n = len(task.y)
    order = np.random.default_rng(seed).permutation(n)
    if task.classes:
        labels = np.unique(task.y.astype(str).to_numpy(str), return_inverse=True)[1]
        order = order[np.argsort(labels[order], kind="stable")]
    folds = np.empty(n, np.int64)
    folds[order] = np.arange(n) % n_folds
    return folds


def _folds_of(task: Task, settings: argparse.Namespace) -> NDArray[np.int64] | None:
    """The fold (n,) of each row; None where no folds are asked for. Raises where a fold has nothing to learn from."""
    if not settings.cv:
        return None
    if settings.cv > len(task.y):
        raise Failure(f"--cv must be at most the number of rows, {len(task.y)}, got {settings.cv}")
    numbers = fold_numbers(task, settings.cv, settings.seed)
    if task.classes and any(task.y[numbers != fold].nunique() < 2 for fold in range(settings.cv)):
        told = f"--cv={settings.cv} needs more rows of each class, got {task.y.value_counts().min()} of the rarest"
        raise Failure(f"{told}; --cv 0 trains without a cross-validation")
    return numbers


def _cross_validated(task: Task, numbers: NDArray[np.int64], settings: argparse.Namespace) -> Folds:
    """The scores of models that are trained without a fold, on that fold. `numbers` (n,) are the folds of the rows."""
    scores: dict[str, list[float]] = {}
    predicted: NDArray[Any] = np.empty(len(numbers), object if task.classes else np.float64)
    for fold in range(settings.cv):
        held = np.flatnonzero(numbers == fold)
        found = _of_fold(task, held, np.flatnonzero(numbers != fold), _estimator(task, settings, _share(settings)))
        predicted[held] = found.values
        frame = task.y.iloc[held].to_frame("y")
        measured = evaluate.of_answer(found, frame, "y", task.name)
        for name, value in measured.items():
            scores.setdefault(name, []).append(value)
        if sys.stderr.isatty():
            name, value = next(iter(measured.items()))
            say(f"fold {fold + 1} of {settings.cv}: {name} {value:.4g}")
    # Where the only row of a class is held out, the others may be of two classes, which have an "auc".
    return Folds({name: values for name, values in scores.items() if len(values) == settings.cv}, predicted)


def _of_fold(task: Task, held: NDArray[Any], others: NDArray[Any], model: Any) -> Any:
    """What a model that is trained on other rows says of the rows that are held out."""
    _fit(model, task.part(others))
    return answers.answer(model, answers.inputs_of(model, task.part(held).X, task.name))


def _spread(values: list[float]) -> dict[str, Any]:
    """The mean and the standard deviation of a score over the folds, and the scores of each."""
    std = float(np.std(values, ddof=1))
    return {"mean": float(np.mean(values)), "std": std, "folds": values}


def _print(scores: dict[str, dict[str, Any]], settings: argparse.Namespace) -> None:
    """Print the validation scores."""
    if settings.json:
        writing.write(writing.as_json({"model": settings.output, "task": settings.task, "scores": scores}))
        return
    columns: dict[str, list[Any]] = {"metric": list(scores)}
    columns |= {name: [each[name] for each in scores.values()] for name in ("mean", "std")}
    for fold in range(settings.cv):
        columns[f"fold {fold + 1}"] = [each["folds"][fold] for each in scores.values()]
    writing.write(writing.as_csv(columns))
