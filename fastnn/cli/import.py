"""`fastnn import`."""

from __future__ import annotations

from typing import Any

from .. import from_onnx
from .failures import say


def run(options: Any) -> int:
    """Save the network of an ONNX file as a model; gives the exit code."""
    from_onnx(options.network, output=options.activation, loss=options.loss).save(options.output)
    say(f"the model is in {options.output}")
    return 0
