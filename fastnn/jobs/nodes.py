"""What the bits of a result depend on beside seeds and settings: the CPU that computed it and the versions of code."""

from __future__ import annotations

import os
import platform
from functools import cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from ..kernels.cpu import target

# The environment of a process whose code is AVX2 code, which has no approximate instructions: its bits are those of any
# CPU that has AVX2.
ENVIRONMENTS: dict[str | None, dict[str, str]] = {
    None: {},
    "avx2": {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma"},
}


class Node(NamedTuple):
    """Where a task runs. Nodes that are equal give the same bits."""

    fastnn: str  # versions
    numpy: str
    llvmlite: str  # whose LLVM writes the machine code
    cpu: str  # its vendor and the width of its vectors, or the instruction set that was asked for

    @classmethod
    def here(cls) -> Node:
        """This process."""
        fastnn = import_module(__package__.partition(".")[0])
        return cls(fastnn.__version__, _version("numpy"), _version("llvmlite"), _cpu())

    def check(self, expected: Node, where: str) -> None:
        """Raise ValueError where this node, which is called so, cannot give the bits of another one."""
        for name in self._fields:
            found, wanted = getattr(self, name), getattr(expected, name)
            if found != wanted:
                advice = "; isa='avx2' gives the same bits on every CPU with AVX2" if name == "cpu" else ""
                raise ValueError(f"{where} must have {name} {wanted}, as the run began with, got {found}{advice}")


_version = cache(version)  # which takes a millisecond


def _cpu() -> str:
    for isa, settings in ENVIRONMENTS.items():
        if settings and settings.items() <= os.environ.items():
            return str(isa)
    host = target.HOST
    return f"{_vendor()}, {8 * host.vector_bytes} bits{', divisions' if host.divides_beside else ''}"


@cache
def _vendor() -> str:
    """The maker of the CPU, as the system says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    said = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    found: dict[str, Any] = {key.strip(): value.strip() for key, value in said.items()}
    return str(found.get("vendor_id") or found.get("CPU implementer") or platform.machine())
