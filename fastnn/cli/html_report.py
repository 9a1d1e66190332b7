"""The report of a run: one HTML file that needs no script and no other file."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from html import escape
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import charts, info, scores
from .run_file import KEYS

MOST_CLASSES = 40  # in a confusion matrix

_STYLE = """:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 0.5rem 0; display: block; overflow-x: auto; }
th, td { padding: 0.2rem 0.7rem; text-align: left; border-bottom: 1px solid rgb(128 128 128 / 0.3); }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
pre { overflow-x: auto; padding: 0.6rem; background: rgb(128 128 128 / 0.15); }
svg { max-width: 100%; height: auto; }
.bar { display: inline-block; height: 0.8rem; background: #4682b4; vertical-align: middle; }"""


class Run(NamedTuple):
    """What a report tells of a run, beside the model."""

    command: str
    settings: argparse.Namespace
    scores: dict[str, dict[str, Any]]
    y: Any
    classes: bool
    folds: Any  # what a cross-validation found, or None


def page(model: Any, run: Run) -> str:
    """The HTML of a run."""
    title = f"{run.settings.target}: {run.settings.task}"
    sections = [
        ("Command", f"<pre>{escape(run.command)}</pre>{_options(run.settings)}"),
        ("Validation", _scores(run)),
        *([("Errors", _errors(run))] if run.folds is not None else []),
        ("Training", _curves(model)),
        ("Importances", _importances(model)),
        ("Columns", _columns(model)),
        ("Model", _table(("property", "value"), _facts(model))),
    ]
    body = "\n".join(f"<h2>{name}</h2>\n{content}" for name, content in sections if content)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width">\n<style>\n{_STYLE}\n</style>\n</head>\n'
        f"<body>\n<h1>{escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def _table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """A table of HTML; numbers stand on the right."""
    lines = [f"<tr>{''.join(f'<th>{escape(each)}</th>' for each in header)}</tr>"]
    lines += [f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows]
    return "<table>\n" + "\n".join(lines) + "\n</table>"


def _cell(value: Any) -> str:
    if isinstance(value, (int, float)):
        shown = f"{value:.5g}" if isinstance(value, float) else str(value)
        return f'<td class="number">{shown}</td>'
    return f"<td>{escape(str(value))}</td>"


def _options(settings: argparse.Namespace) -> str:
    rows = [(key, getattr(settings, key)) for key in KEYS if getattr(settings, key) not in (None, [])]
    return _table(("option", "value"), [(key, str(value)) for key, value in rows])


def _scores(run: Run) -> str:
    if not run.scores:
        return "<p>There was no cross-validation.</p>"
    folds = [f"fold {fold + 1}" for fold in range(run.settings.cv)]
    rows = [(name, found["mean"], found["std"], *found["folds"]) for name, found in run.scores.items()]
    said = f"<p>Each fold is scored by a model that was trained on the {run.settings.cv - 1} others.</p>"
    return said + _table(("metric", "mean", "std", *folds), rows)


def _errors(run: Run) -> str:
    """The confusion matrix of classes, or the residuals of numbers, of rows that the models have not seen."""
    true = run.y.to_numpy()
    if not run.classes:
        return charts.residuals(true, run.folds.predicted, str(run.settings.target))
    labels, found = scores.keys(true), scores.keys(run.folds.predicted)
    classes, counts = np.unique(np.concatenate([labels, found]), return_counts=True)
    if len(classes) > MOST_CLASSES:
        classes = np.sort(classes[np.argsort(-counts, kind="stable")[:MOST_CLASSES]])
    return _confusion(classes, labels, found)


def _confusion(classes: NDArray[Any], true: NDArray[Any], predicted: NDArray[Any]) -> str:
    """How many rows of each class are predicted as each class; the darker, the larger the share of the class."""
    head = "".join(f'<th class="number">{escape(each)}</th>' for each in classes)
    lines = [f"<tr><th>true \\ predicted</th>{head}</tr>"]
    for label in classes:
        counts = [int(((true == label) & (predicted == each)).sum()) for each in classes]
        total = max(1, int((true == label).sum()))
        cells = [
            f'<td class="number" style="background: rgb(70 130 180 / {0.7 * n / total:.2f})">{n}</td>' for n in counts
        ]
        lines.append(f"<tr><th>{escape(label)}</th>{''.join(cells)}</tr>")
    return "<table>\n" + "\n".join(lines) + "\n</table>"


def _curves(model: Any) -> str:
    history = getattr(model, "history_", None)
    if history is None:
        return ""
    held_out = np.asarray(history.val_loss, np.float64)
    return charts.curves(np.asarray(history.loss, np.float64), held_out if held_out.size else None)


def _importances(model: Any) -> str:
    """The importances of the columns, the largest first."""
    values = getattr(model, "feature_importances_", None)
    if values is None:
        return ""
    names, found = _names(model, len(values)), np.asarray(values, np.float64)
    largest = max(float(np.abs(found).max()), 1e-300)
    lines = []
    for i in np.argsort(-found, kind="stable").tolist():
        width = max(0.0, 12 * found[i] / largest)
        bar = f'<span class="bar" style="width: {width:.2f}rem"></span>'
        lines.append(f"<tr><td>{escape(names[i])}</td>{_cell(float(found[i]))}<td>{bar}</td></tr>")
    return "<table>\n" + "\n".join(lines) + "\n</table>"


def _names(model: Any, n: int) -> list[str]:
    """The names of n columns: of all, or of those that the model reads."""
    rows = [row.name for row in model.table_.summary]
    read = [row.name for row in model.table_.summary if row.n_columns]
    found = next((names for names in (rows, read) if len(names) == n), [f"x{i}" for i in range(n)])
    return [str(each) for each in found]


def _columns(model: Any) -> str:
    rows = [(row.name, row.kind, row.becomes, row.n_columns) for row in model.table_.summary]
    return _table(("column", "kind", "becomes", "inputs"), rows)


def _facts(model: Any) -> list[tuple[str, str]]:
    found = {name: value for name, value in info.facts(model).items() if name != "column"}
    return [(name, ", ".join(map(str, each if isinstance(each, list) else [each]))) for name, each in found.items()]
