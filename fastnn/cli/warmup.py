"""`fastnn warmup`."""

from __future__ import annotations

from typing import Any

from .. import warming


def run(options: Any) -> int:
    """Compile the kernels of the dtypes; gives the exit code."""
    warming.warmup(options.dtype or ("float32", "float64"))
    return 0
