"""Other CPUs: the kernels' tests again on code for AVX2, and for x86-64 without AVX or FMA."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CPUS = {"avx2": ("haswell", "+avx,+avx2,+fma"), "sse": ("nehalem", "+sse2,+sse3,+ssse3,+sse4.1")}
KERNEL_TESTS = ["test_simd.py", "test_matmul.py", "test_network.py", "test_feature_major.py", "test_batches.py"]

pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="these are x86-64 targets, and this is another CPU"
)


def run_for(cpu, tmp_path, *arguments):
    name, features = CPUS[cpu]
    environment = {**os.environ, "NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features}
    environment["FASTNN_CACHE_DIR"] = str(tmp_path / "cache")
    return subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=600
    )


@pytest.mark.parametrize("cpu", CPUS)
def test_kernels(cpu, tmp_path):
    done = run_for(cpu, tmp_path, "-m", "pytest", "-q", "-x", *(f"tests/{name}" for name in KERNEL_TESTS))
    assert done.returncode == 0, done.stdout + done.stderr


ASSEMBLY = """
import re
import numpy as np
from fastnn.kernels import entry, simd
entry.library("float32"), entry.library("float64")
registers = set(re.findall(r"%([xyz])mm", "".join(entry.fill_library.inspect_asm().values())))
print(simd.VECTOR_BYTES, simd.HAS_FMA, *sorted(registers))
"""


@pytest.mark.parametrize(("cpu", "want"), [("avx2", "32 True x y"), ("sse", "16 False x")])
def test_assembly(cpu, want, tmp_path):
    done = run_for(cpu, tmp_path, "-c", ASSEMBLY)
    assert done.stdout.strip() == want, done.stderr
