"""Figures of a report, drawn with matplotlib as SVG that stands in a page and takes the colours of the page."""

from __future__ import annotations

import io
import re
import warnings
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .failures import Failure

try:
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator
except ImportError:
    raise Failure('--report needs matplotlib: pip install "fastnn-numba[plots]"') from None

_INK, _FIRST, _SECOND = "#010203", "#010204", "#010205"  # stand for colours of the page
_OF_PAGE = {_INK: "currentColor", _FIRST: "var(--first)", _SECOND: "var(--second)"}
_INKED = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
_STYLE: Any = dict.fromkeys(_INKED, _INK) | {"svg.fonttype": "none", "font.size": 11.0, "legend.frameon": False}
MOST_POINTS = 1000
WIDE = 50  # times the least loss: where the largest one is above it, they stand on a logarithmic scale
MOST_LETTERS = 20  # of a name at an axis


def curves(loss: NDArray[Any], held_out: NDArray[Any], best: NDArray[Any], what: str) -> str:
    """The losses of networks by epoch, from arrays (networks, epochs) with NaN after a network's last epoch.

    Thin lines are the networks, the thick ones their means while all train. Dots are the best epochs, best (networks,)
    counted from 1. All of held_out is NaN where no row was held out.
    """
    with _style("curves"):
        figure, axes = _axes("epoch", what)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        for name, values, colour in (("training rows", loss, _FIRST), ("held-out rows", held_out, _SECOND)):
            if np.isnan(values).all():
                continue
            epochs = np.arange(1, values.shape[1] + 1)
            axes.plot(epochs, values.T, color=colour, linewidth=0.8, alpha=0.35)
            together = ~np.isnan(values).any(axis=0)
            axes.plot(epochs[together], values[:, together].mean(axis=0), color=colour, linewidth=2.2, label=name)
        if not np.isnan(held_out).all():
            some = np.flatnonzero(best > 0)
            axes.plot(best[some], held_out[some, best[some] - 1], "o", color=_SECOND, markersize=4, label="best epochs")
        low, high = axes.dataLim.intervaly
        if 0 < WIDE * low < high:
            axes.set_yscale("log")
        figure.legend(loc="outside upper left", ncols=3, handlelength=1.2, columnspacing=1.2)
        return _svg(figure, f"{what} by epoch")


def predictions(true: NDArray[Any], predicted: NDArray[Any], target: str) -> str:
    """True values over predictions."""
    with _style("predictions"):
        name = _short(target)
        figure, axes = _axes(f"predicted {name}", f"true {name}")
        some = _some(len(true))
        ends = min(true.min(), predicted.min()), max(true.max(), predicted.max())
        axes.plot(ends, ends, color=_INK, linewidth=1)
        axes.plot(predicted[some], true[some], ".", color=_FIRST, markersize=4, alpha=0.6)
        return _svg(figure, f"true over predicted {target}")


def residuals(true: NDArray[Any], predicted: NDArray[Any], target: str) -> str:
    """Errors over predictions."""
    with _style("residuals"):
        name = _short(target)
        figure, axes = _axes(f"predicted {name}", f"true - predicted {name}")
        some = _some(len(true))
        axes.axhline(0, color=_INK, linewidth=1)
        axes.plot(predicted[some], (true - predicted)[some], ".", color=_FIRST, markersize=4, alpha=0.6)
        return _svg(figure, f"residuals over predicted {target}")


def _some(n: int) -> NDArray[np.int64]:
    """The rows of n that are drawn."""
    return np.unique(np.linspace(0, n - 1, min(n, MOST_POINTS)).astype(np.int64))


def _style(name: str) -> Any:
    """A context with the style of a figure, whose names in SVG are its own."""
    return matplotlib.rc_context(_STYLE | {"svg.hashsalt": name})


def _axes(x: str, y: str) -> tuple[Any, Any]:
    figure = Figure(figsize=(5.6, 3.8), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.subplots()
    axes.patch.set_alpha(0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel(x, parse_math=False)
    axes.set_ylabel(y, parse_math=False)
    return figure, axes


def _short(text: str) -> str:
    """A name, cut off where it is long."""
    return text if len(text) <= MOST_LETTERS else f"{text[:MOST_LETTERS]}.."


def _svg(figure: Any, told: str) -> str:
    """A figure as an element of HTML, which `told` describes to those who cannot see it."""
    text = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # the reader's fonts have it
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    found = text.getvalue()
    found = re.sub(r"<metadata>.*?</metadata>\s*", "", found[found.index("<svg") :], flags=re.S)
    found = re.sub(r' id="([^"]+)"', lambda name: name[0] if f"#{name[1]}" in found else "", found)
    for colour, of_page in _OF_PAGE.items():
        found = found.replace(colour, of_page)
    return found.replace("<svg ", f'<svg role="img" aria-label="{escape(told)}" ', 1)
