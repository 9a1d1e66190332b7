"""`fastnn verify`."""

from __future__ import annotations

from typing import Any

from .. import verify
from . import writing
from .failures import THRESHOLD, say


def run(options: Any) -> int:
    """Run the self tests of exported files; gives the exit code."""
    found = [verify(path) for path in options.files]
    columns: dict[str, list[Any]] = {"file": options.files}
    columns |= {name: [getattr(each, name) for each in found] for name in found[0]._fields}
    writing.write(writing.as_records(columns) if options.json else writing.as_csv(columns))
    failed = [path for path, each in zip(options.files, found, strict=True) if not each.passed]
    for path in failed:
        say(f"{path} is not what was exported, or does not compute the same here")
    return THRESHOLD if failed else 0
