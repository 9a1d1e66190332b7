"""What a model consists of, as a table for a person to read: plain text, and HTML for a notebook."""

from __future__ import annotations

import html

from ..settings import input_map
from ..settings.layers import AnyLayer, Architecture, Dense

HEADS = ("layer", "units", "activation", "parameters", "trains")


def _rows(architecture: Architecture) -> list[tuple[str, ...]]:
    """A row for each layer."""
    return [
        (
            "" if node.number is None else str(node.number),
            f"{node.units:,}",
            _name(node.layer),
            f"{node.n_parameters:,}",
            "" if node.number is None else "frozen" if node.number in architecture.frozen else "yes",
        )
        for node in architecture.nodes
    ]


def _name(layer: AnyLayer) -> str:
    """What stands for a layer: the activation of a dense one, else its kind, and its activation if it has one."""
    activation = layer.activation if isinstance(layer.activation, str) else layer.activation.name
    if isinstance(layer, Dense):
        return activation
    return type(layer).__name__ if activation == "identity" else f"{type(layer).__name__}, {activation}"


def _facts(architecture: Architecture, n_bytes: int) -> list[str]:
    """What there is to say of the whole model; n_bytes: the bytes of the parameters."""
    numbers = [node.n_parameters for node in architecture.numbered]
    trained = sum(n for i, n in enumerate(numbers) if i not in architecture.frozen)
    scale = "".join(input_map.told(name, getattr(architecture, name)) for name in input_map.NEUTRAL)
    scale += ", input_shift and input_scale of each member" * architecture.own_inputs
    return [
        f"{architecture.n_inputs:,} inputs{scale}, loss {architecture.loss_name}, {architecture.dtype}",
        f"{sum(numbers):,} parameters, of which {trained:,} train; {n_bytes / 1024:,.1f} KiB with their padding",
    ]


def text(architecture: Architecture, n_bytes: int) -> str:
    """The model as plain text: the heads, a line for each layer, the facts. Numbers are aligned right, words left."""
    rows = [HEADS, *_rows(architecture)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if column in (2, 4) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, *_facts(architecture, n_bytes)])


def as_html(architecture: Architecture, n_bytes: int) -> str:
    """The model as a table in HTML, and the facts below it."""
    heads = "".join(f"<th>{head}</th>" for head in HEADS)
    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in _rows(architecture)
    )
    facts = "<br>".join(html.escape(fact) for fact in _facts(architecture, n_bytes))
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table><p>{facts}</p>"
