"""The machine that is measured: what figures depend on, which of its CPUs are used, and with which instructions."""

import ast
import contextlib
import hashlib
import io
import os
import platform
import tokenize
from importlib.metadata import version
from pathlib import Path

import llvmlite.binding

# What makes each package use no more than an instruction set. ONNX Runtime has no such setting.
ISAS = {
    "avx2": {
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma",
        "OPENBLAS_CORETYPE": "Haswell",
        # Its YNNPACK takes AVX-512 whatever the first of these says: products ran at 1.8 times AVX2's peak.
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX2 --xla_cpu_experimental_ynn_fusion_type=",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
    }
}
VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2"}
KERNELS = Path(__file__).parent.parent / "kernels"


def isa():
    """The instruction set that the environment asks all packages for, or None."""
    return next((name for name, settings in ISAS.items() if settings.items() <= os.environ.items()), None)


@contextlib.contextmanager
def cpus(n):
    """This process, and whatever it starts in here, has only its last n CPUs; the first ones have more of the system's
    work."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    all_of_them = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(all_of_them)[-n:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, all_of_them)


@contextlib.contextmanager
def environment(**settings):
    """The environment has these variables in here."""
    before = dict(os.environ)
    os.environ |= settings
    try:
        yield
    finally:
        os.environ.clear()
        os.environ |= before


def cpu_info():
    """The first value of each line of /proc/cpuinfo, where there is one."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in reversed(lines) if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def cpu():
    """The CPU, its kind as LLVM calls it, the vectors it has, and how many there are, in words."""
    flags = cpu_info().get("flags", "").split()
    vectors = next((f" with {name}" for flag, name in VECTORS.items() if flag in flags), "")
    model = cpu_info().get("model name") or platform.processor() or platform.machine()
    return f"{model} ({llvmlite.binding.get_host_cpu_name()}){vectors}, {os.cpu_count()} CPUs"


def kernels_hash(folder=KERNELS):
    """The first 8 digits of a hash of the kernels' code, the same on every machine."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        name, code = path.relative_to(folder).as_posix(), _code(path.read_text(encoding="utf-8"))
        digest.update(f"{name}\0{code}\0".encode())
    return digest.hexdigest()[:8]


def _code(source):
    """A module without its docstrings, comments and empty lines, none of which any figure depends on."""
    lines = source.split("\n")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            for row in range(node.body[0].lineno - 1, node.body[0].end_lineno):
                lines[row] = ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column].rstrip()
    return "\n".join(line for line in lines if line)


def load():
    """How many processes ran or waited for a CPU in the last minute; NaN where that is not known."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")


def host(packages=()):
    """What the figures depend on."""
    import fastnn

    return {
        "cpu": cpu_info().get("model name") or platform.processor() or platform.machine(),
        **({} if isa() is None else {"instruction set": f"at most {isa()}, in every package that can be told"}),
        "cpus": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "fastnn": fastnn.__version__,
        **{name: version(name) for name in ("numpy", "numba", "llvmlite", *packages)},
    }


def print_host(packages=()):
    """Print what the figures depend on, and give it."""
    found = host(packages)
    print("\n".join(f"{key}: {value}" for key, value in found.items()), flush=True)
    return found
