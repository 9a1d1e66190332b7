"""The report of a run: one HTML file that needs no script and no other file."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from . import charts, info, reading, scores
from .run_file import KEYS

MOST_CLASSES = 40  # in a confusion matrix
MOST_BARS = 20  # importances that are seen at once

_STYLE = """:root { color-scheme: light dark; --first: #1f6fb2; --second: #c4560a; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin: 0; overflow-wrap: anywhere; }
h2 { margin: 2.2rem 0 0.5rem; font-size: 1.25rem; }
p, figure { margin: 0.4rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { padding: 0.2rem clamp(0.7rem, 2vw, 1.6rem) 0.2rem 0; text-align: left; vertical-align: top; }
th, td { overflow-wrap: break-word; border-bottom: 1px solid rgb(128 128 128 / 0.3); }
tbody th { font-weight: inherit; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
.mean { font-weight: 600; }
.matrix th, .matrix td { padding: 0.2rem 0.5rem; vertical-align: middle; max-width: 8rem; }
.matrix tbody th { white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.matrix tr > :first-child { padding-left: 0; position: sticky; left: 0; background: Canvas; }
.matrix .number { background: rgb(70 130 180 / calc(0.7 * var(--share, 0))); min-width: 2.4rem; }
.none { opacity: 0.4; }
small { display: block; line-height: 1.2; opacity: 0.8; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; padding: 0.6rem; background: rgb(128 128 128 / 0.15); }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 0 1.5rem; }
svg { display: block; max-width: 100%; height: auto; }
.track { width: 14rem; min-width: 4rem; padding-right: 0; vertical-align: middle; }
.bar { display: block; height: 0.8rem; background: var(--first); }
@media (prefers-color-scheme: dark) { :root { --first: #74b3ec; --second: #f0a060; } }
@media print {
  :root { color-scheme: light; --first: #1f6fb2; --second: #c4560a; }
  body { margin: 0; max-width: none; print-color-adjust: exact; }
  h2, p { break-after: avoid; }
  .pair { grid-template-columns: 1fr 1fr; }
  .scroll { overflow: visible; }
  .matrix { font-size: 70%; }
  figure, tr, pre { break-inside: avoid; }
}"""


class Run(NamedTuple):
    """What a report tells of a run, beside the model."""

    command: str
    settings: argparse.Namespace
    scores: dict[str, dict[str, Any]]
    y: Any
    classes: bool
    folds: Any  # what a cross-validation found, or None

    @property
    def loss(self) -> str:
        """What the networks learn to make small."""
        return "log loss" if self.classes else "squared error of the standardised target"


def page(model: Any, run: Run) -> str:
    """The HTML of a run."""
    target, task, columns = str(run.settings.target), run.settings.task, model.table_.summary
    size = f"{len(run.y):,} rows and {len(columns):,} {'column' if len(columns) == 1 else 'columns'}"
    told = f"A {task} on {size} of {reading.name_of(run.settings.data)}, by fastnn {__version__}."
    rows = [(row.name, row.kind, row.becomes, row.n_columns) for row in columns]
    sections = {
        "Command": f"<pre>{escape(run.command)}</pre>",
        "Validation": _scores(run),
        "Errors": "" if run.folds is None else _errors(model, run),
        "Importances": _importances(model, run),
        "Training": _curves(model, run),
        "Columns": _table(("column", "kind", "becomes", "inputs"), rows),
        "Model": _table(("property", "value"), _facts(model)),
        "Options": _options(run.settings),
    }
    body = "\n".join(f"<h2>{name}</h2>\n{content}" for name, content in sections.items() if content)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{escape(f'{target}: {task}')}</title>\n"
        f'<meta name="viewport" content="width=device-width">\n<style>\n{_STYLE}\n</style>\n</head>\n'
        f"<body>\n<h1>{escape(target)}</h1>\n<p>{escape(told)}</p>\n{body}\n</body>\n</html>\n"
    )


# ---- elements ----


class _Number(str):
    """Text of a number, which stands on the right of its column."""


def _numbers(values: Sequence[float]) -> list[_Number]:
    """Numbers with the same decimals, so many that the largest one has four digits."""
    largest = max((abs(each) for each in values if math.isfinite(each)), default=0.0)
    if not 1e-4 <= largest < 1e7:
        return [_Number(f"{each:.4g}") for each in values]
    places = max(0, 3 - math.floor(math.log10(largest)))
    return [_Number(f"{each:z.{places}f}") for each in values]


def _cell(value: Any, scope: str = "", kind: str = "") -> str:
    """A cell; with a scope, "row" or "col", it is the header of one."""
    kinds = " ".join(filter(None, ["number" if isinstance(value, (_Number, int)) else "", kind]))
    tag, where = ("th", f' scope="{scope}"') if scope else ("td", "")
    which = f' class="{kinds}"' if kinds else ""
    return f"<{tag}{where}{which}>{escape(str(value))}</{tag}>"


def _row(cells: Sequence[Any], kind: str = "") -> str:
    """The cells of a row of a table, of which the first one says what it is about."""
    return _cell(cells[0], "row", kind) + "".join(_cell(each, kind=kind) for each in cells[1:])


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table of HTML; numbers stand on the right."""
    numeric = [isinstance(each, (_Number, int)) for each in rows[0]]
    head = "".join(_cell(_Number(name) if right else name, "col") for name, right in zip(header, numeric, strict=True))
    return _framed([head], map(_row, rows))


def _framed(head: Iterable[str], rows: Iterable[str], kind: str = "") -> str:
    """The table of rows of cells, which scrolls where it is wider than the page."""
    top, body = ("\n".join(f"<tr>{each}</tr>" for each in part) for part in (head, rows))
    which = f' class="{kind}"' if kind else ""
    return f'<div class="scroll"><table{which}>\n<thead>{top}</thead>\n<tbody>\n{body}\n</tbody></table></div>'


# ---- sections ----


def _options(settings: argparse.Namespace) -> str:
    given = {key: getattr(settings, key) for key in KEYS if getattr(settings, key) not in (None, [])}
    rows = [(key, ", ".join(map(str, each)) if isinstance(each, list) else str(each)) for key, each in given.items()]
    return _table(("option", "value"), rows)


def _scores(run: Run) -> str:
    """A column for each metric."""
    if not run.scores:
        return "<p>There was no cross-validation.</p>"
    columns = [_numbers([found["mean"], found["std"], *found["folds"]]) for found in run.scores.values()]
    names = ["mean", "standard deviation", *(f"fold {fold + 1}" for fold in range(run.settings.cv))]
    rows = [_row(cells, "mean" if i == 0 else "") for i, cells in enumerate(zip(names, *columns, strict=True))]
    head = "".join(_cell(_Number(name.replace("_", " ")), "col") for name in run.scores)
    said = "<p>Each fold is scored by a model that was trained on the others.</p>"
    return said + _framed([f"<td></td>{head}"], rows)


def _errors(model: Any, run: Run) -> str:
    """The confusion matrix of classes, or the residuals of numbers, of rows that the models have not seen."""
    true, predicted = run.y.to_numpy(), run.folds.predicted
    if run.classes:
        return _confusion(scores.keys(model.classes_), scores.keys(true), scores.keys(predicted))
    n, target = len(true), str(run.settings.target)
    shown = f"{charts.MOST_POINTS:,} of {n:,} rows" if n > charts.MOST_POINTS else f"{n:,} rows"
    figures = (chart(true, predicted, target) for chart in (charts.predictions, charts.residuals))
    figures_ = "".join(f"<figure>{each}</figure>" for each in figures)
    return f'<p>{shown}, each predicted by a model that has not seen it.</p><div class="pair">{figures_}</div>'


def _confusion(classes: NDArray[Any], true: NDArray[Any], predicted: NDArray[Any]) -> str:
    """How many rows of each class are predicted as each class; the darker, the larger the share of the class."""
    said = "Rows that are predicted as each class, and their share of the true class."
    if len(classes) > MOST_CLASSES:
        said += f" Shown are the {MOST_CLASSES} most frequent of {len(classes)} classes."
        frequent = np.argsort([-(true == each).sum() for each in classes], kind="stable")[:MOST_CLASSES]
        classes = classes[np.sort(frequent)]
    above = f'<td></td><th colspan="{len(classes)}">predicted</th><td></td>'
    head = _cell("true", "col") + "".join(_cell(_Number(each), "col") for each in (*classes, "rows"))
    rows = []
    for label in classes:
        found = predicted[true == label]
        cells = "".join(_share(int((found == each).sum()), len(found)) for each in classes)
        rows.append(_cell(label, "row").replace("<th", f'<th title="{escape(label)}"', 1) + cells + _cell(len(found)))
    return f"<p>{said}</p>{_framed([above, head], rows, 'matrix')}"


def _share(n: int, total: int) -> str:
    """A cell of n of so many rows."""
    share = n / total
    if not n:
        return '<td class="number none">0</td>'
    told = "&lt;1%" if share < 0.005 else "&gt;99%" if 0.995 <= share < 1 else f"{share:.0%}"
    return f'<td class="number" style="--share: {share:.2f}">{n}<small>{told}</small></td>'


def _importances(model: Any, run: Run) -> str:
    """The importances of the columns, the largest first."""
    found = np.asarray(model.feature_importances_, np.float64)
    if np.isnan(found).any():  # no row was held out
        return ""
    largest = max(float(found.max()), 1e-300)
    shown, names = _numbers(found.tolist()), [str(row.name) for row in model.table_.summary]
    rows = []
    for i in np.argsort(-found, kind="stable").tolist():
        bar = f'<span class="bar" style="width: {max(0.0, 100 * found[i] / largest):.1f}%"></span>'
        rows.append(f'{_row((names[i], shown[i]))}<td class="track">{bar}</td>')
    head = [_cell("column", "col") + _cell(_Number("rise"), "col") + "<td></td>"]
    said = f"<p>How much the {run.loss} of held-out rows rises where the values of a column are permuted.</p>"
    first, rest = _framed(head, rows[:MOST_BARS]), rows[MOST_BARS:]
    more = f"<details><summary>{len(rest)} more</summary>{_framed(head, rest)}</details>" if rest else ""
    return said + first + more


def _curves(model: Any, run: Run) -> str:
    """The losses by epoch."""
    history = model.history_
    what = "log loss" if run.classes else "half the squared error"
    told = f"Thin lines are the {len(history.loss)} networks, thick ones their means while all of them train."
    unit = "" if run.classes else " The target is standardised."
    return (
        f"<p>{told}{unit}</p><figure>{charts.curves(history.loss, history.val_loss, history.best_epoch, what)}</figure>"
    )


def _facts(model: Any) -> list[tuple[str, str]]:
    found = {name: value for name, value in info.facts(model).items() if name != "column" and value == value}
    rows = []
    for name, value in found.items():
        each = f"{value:.4g}" if isinstance(value, float) else value
        rows.append((name, ", ".join(map(str, each if isinstance(each, list) else [each]))))
    return rows
