"""`fastnn export`."""

from __future__ import annotations

import sys
from typing import Any

from .. import export
from . import answers, reading
from .failures import USAGE, Failure, say


def run(options: Any) -> int:
    """Write the network of a file for another system; gives the exit code."""
    model = answers.loaded(options.model)
    rows, calibrate = (_inputs(model, path, options.separator) for path in (options.rows, options.calibrate))
    how: dict[str, Any] = {}
    if options.quantize is not None:
        how = {"quantize": options.quantize, "calibrate": calibrate, "least_agreement": options.least_agreement}
    elif calibrate is not None:
        raise Failure("--calibrate goes with --quantize", USAGE)
    try:
        report = export(model, options.output, labels=options.labels, rows=rows, name=options.name, **how)
    except (ValueError, OSError) as error:
        if str(error).startswith("path must"):
            raise Failure(str(error).replace("path", "OUT", 1)) from None
        raise
    if report is not None:
        print(report, file=sys.stderr)
    say(f"the network is in {options.output}")
    return 0


def _inputs(model: Any, path: str | None, separator: str | None) -> Any:
    """The rows of a table, or None."""
    if path is None:
        return None
    return answers.inputs_of(model, reading.frame_of(reading.content_of(path), path, separator), reading.name_of(path))
