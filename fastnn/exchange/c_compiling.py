"""What a C header's own rows say of it: its self test, compiled and run."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

COMPILERS = ("cc", "gcc", "clang", "tcc")
SECONDS = 300  # for the compiler, and for the program


def verify(path: Path) -> tuple[float, int]:
    """(largest error, disagreeing decisions) of the self test of a C header, by the compiler that is there.

    This runs the program in the file. Errors are relative to outputs above 1 in size. Raises ValueError for a file that
    is no such header or does not compile, and FileNotFoundError where there is no compiler.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    macro = re.search(r"^#ifdef (\w+_SELFTEST)$", text, re.M)
    if macro is None:
        raise ValueError(f"{path} is no C header of fastnn: it has no self test")
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise FileNotFoundError(f"a C header is verified by a compiler, but there is none of {', '.join(COMPILERS)}")
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "test.c"), Path(folder, "test")
        source.write_text(f"#define {macro[1]}\n{text}", encoding="utf-8")
        made = _run(compiler, str(source), "-o", str(program))
        if made.returncode:
            raise ValueError(f"{path} does not compile: {made.stderr.strip()[:500]}")
        ran = _run(str(program))
    found = re.search(r"^largest_error=(\S+) .*disagreeing=(\d+)$", ran.stdout, re.M)
    if found is None:
        raise ValueError(f"the self test of {path} ended with status {ran.returncode} and said nothing")
    return float(found[1]), int(found[2])


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise ValueError(f"{Path(command[0]).name} of the self test took longer than {SECONDS} s") from None
