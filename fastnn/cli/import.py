"""`fastnn import`."""

from __future__ import annotations

from typing import Any

from .. import from_keras, from_onnx
from .commands import usage
from .failures import say


def run(options: Any) -> int:
    """Save the network of a file of another system as a model; gives the exit code."""
    if options.network.endswith(".onnx"):
        model = from_onnx(options.network, output=options.activation, loss=options.loss)
    elif options.activation is not None:
        raise usage(f"--activation is for ONNX files, got {options.network!r}")
    else:
        model = from_keras(options.network, loss=options.loss)
    model.save(options.output)
    say(f"the model is in {options.output}")
    return 0
