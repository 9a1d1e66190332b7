"""What a C header's own rows say of it: its self test, compiled and run."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import zlib
from pathlib import Path

from . import verifying

COMPILERS = ("cc", "gcc", "clang", "tcc")
CHECKSUM = re.compile(r"/\* checksum ([0-9a-f]{8}) \*/\n\Z")  # the last line of a header: the CRC-32 of all others


def with_checksum(text: str) -> str:
    """The text of a header with its last line."""
    return f"{text}/* checksum {zlib.crc32(text.encode()):08x} */\n"


def verify(path: Path) -> verifying.Verification:
    """What the self test of a C header says, by the compiler that is there.

    This runs the program in the file. Raises ValueError for a file that is no such header or does not compile, and
    FileNotFoundError where there is no compiler.
    """
    text = path.read_bytes().decode(errors="replace")
    macro = re.search(r"^#ifdef (\w+_SELFTEST)$", text, re.M)
    if macro is None:
        raise ValueError(f"{path} is no C header of fastnn: it has no self test")
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise FileNotFoundError(f"a C header is verified by a compiler, but there is none of {', '.join(COMPILERS)}")
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "test.c"), Path(folder, "test")
        source.write_text(f"#define {macro[1]}\n{text}", encoding="utf-8")
        _compile(path, compiler, str(source), "-o", str(program))
        found = verifying.of_command([str(program)], path)
    last = CHECKSUM.search(text)
    intact = last is not None and with_checksum(text[: last.start()]) == text
    return found._replace(intact=intact, passed=found.passed and intact)


def _compile(path: Path, *command: str) -> None:
    """Run a compiler; raises where it fails."""
    try:
        made = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=verifying.SECONDS)
    except subprocess.TimeoutExpired:
        raise ValueError(f"{path} does not compile in {verifying.SECONDS} s") from None
    if made.returncode:
        raise ValueError(f"{path} does not compile: {made.stderr.strip()[:500]}")
