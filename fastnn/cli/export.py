"""`fastnn export`."""

from __future__ import annotations

from typing import Any

from .. import export
from . import answers, reading
from .failures import say


def run(options: Any) -> int:
    """Write the network of a file for another system; gives the exit code."""
    model, rows = answers.loaded(options.model), None
    if options.rows is not None:
        frame = reading.frame_of(reading.content_of(options.rows), options.rows, options.separator)
        rows = answers.inputs_of(model, frame, reading.name_of(options.rows))
    export(model, options.output, labels=options.labels, rows=rows, name=options.name)
    say(f"the network is in {options.output}")
    return 0
