"""Figures of a report, drawn with matplotlib as SVG that stands in a page and takes the colour of its text."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .failures import Failure

try:
    import matplotlib
    from matplotlib.figure import Figure
except ImportError:
    raise Failure('--report needs matplotlib: pip install "fastnn-numba[plots]"') from None

_INK = "#010203"  # stands for the colour of the page's text
_INKED = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
_STYLE: Any = dict.fromkeys(_INKED, _INK) | {"svg.fonttype": "none", "font.size": 10.0, "legend.frameon": False}
MOST_POINTS = 2000


def curves(loss: NDArray[Any], held_out: NDArray[Any] | None) -> str:
    """The mean loss of networks by epoch, from arrays (networks, epochs) with NaN after a network's last epoch."""
    with _style("curves"):
        figure, axes = _axes("epoch", "loss")
        for name, values in (("training", loss), ("held-out rows", held_out)):
            if values is None or np.isnan(values).all():
                continue
            there = ~np.isnan(values).all(axis=0)
            epochs, shown = np.flatnonzero(there) + 1, values[:, there]
            (line,) = axes.plot(epochs, np.nanmean(shown, axis=0), label=name)
            low, high = np.nanmin(shown, axis=0), np.nanmax(shown, axis=0)
            axes.fill_between(epochs, low, high, alpha=0.2, color=line.get_color(), linewidth=0)
        axes.legend()
        return _svg(figure)


def residuals(true: NDArray[Any], predicted: NDArray[Any], target: str) -> str:
    """Errors over predictions, of rows that the models have not seen."""
    some = np.unique(np.linspace(0, len(true) - 1, min(len(true), MOST_POINTS)).astype(int))
    with _style("residuals"):
        figure, axes = _axes(f"predicted {target}", "true less predicted")
        axes.plot(predicted[some], (true - predicted)[some], ".", markersize=4, alpha=0.6)
        axes.axhline(0, color=_INK, linewidth=1)
        return _svg(figure)


def _style(name: str) -> Any:
    """A context with the style of a figure, whose names in SVG are its own."""
    return matplotlib.rc_context(_STYLE | {"svg.hashsalt": name})


def _axes(x: str, y: str) -> tuple[Any, Any]:
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.subplots()
    axes.patch.set_alpha(0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set(xlabel=_escaped(x), ylabel=_escaped(y))
    return figure, axes


def _escaped(text: str) -> str:
    """Text without the marks of a formula."""
    return text.replace("$", r"\$")


def _svg(figure: Any) -> str:
    """A figure as an element of HTML."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    found = text.getvalue()
    found = re.sub(r"<metadata>.*?</metadata>\s*", "", found[found.index("<svg") :], flags=re.S)
    return found.replace(_INK, "currentColor")
