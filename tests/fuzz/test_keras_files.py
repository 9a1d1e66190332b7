"""Mutated files of Keras, in a process of their own: a ValueError that names the path, or a whole model.

h5py reads them with libhdf5, which is C: where a file crashes it, the attack names the file and fails.
"""

import json
import tempfile
import warnings
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from fastnn import from_keras

from ..fastnn.keras_files import ARCHIVE
from .helpers import SECONDS, attack, chance, check_whole, pick, run_child
from .test_files import mutated_bytes, mutated_value, taken

pytest.importorskip("h5py", reason="the extra keras is not installed")

FILES = 1000 if SECONDS else 100  # that a process reads
MOST = 100 * 2**20  # bytes that a small file may take


def mutated(rng, content):
    """Another file: bytes of it, of its description or of its HDF5, with right checksums of the archive."""
    if content.startswith(b"\x89HDF") or chance(rng, 0.2):
        return mutated_bytes(rng, content)
    with zipfile.ZipFile(BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = pick(rng, ["config.json", "model.weights.h5", "model.weights.h5"])
    if name == "config.json" and chance(rng, 0.9):
        config = json.loads(members[name])
        for _ in range(pick(rng, [1, 1, 2, 4])):
            config = mutated_value(rng, config)
        members[name] = json.dumps(config).encode()
    else:
        members[name] = mutated_bytes(rng, members[name])
    if chance(rng, 0.02):
        del members[pick(rng, sorted(members))]
    made = BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for each, what in members.items():
            archive.writestr(each, what)
    return made.getvalue()


def largest():
    """The most memory that the process has had, in bytes."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def read_many(seed, n, folder):
    """Read mutated files; prints the number of each before it is read, so that a crash shows which one it was."""
    rng, path, before = np.random.default_rng(seed), Path(folder, "file"), None
    with zipfile.ZipFile(ARCHIVE) as archive:
        contents = [archive.read(name) for name in archive.namelist() if name.endswith((".keras", ".h5"))]
        whole = archive.read("whole.keras")
    for number in range(n):
        print(number, end=" ", flush=True)
        path.write_bytes(mutated(rng, pick(rng, contents)) if number else whole)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of losses
            model = taken(from_keras, path)
        if model is not None and np.isfinite(model.parameters).all():
            check_whole(model)
        before = largest() if before is None else before  # with all that is imported and compiled
        assert largest() < before + MOST, f"{largest() - before} bytes"


@attack(cases=2, share=1)
def test_mutated_files_of_keras(rng):
    """A file is refused, or gives a model that is whole, in little memory."""
    seed = int(rng.integers(2**62))
    source = f"from tests.fuzz.test_keras_files import read_many; import sys; read_many({seed}, {FILES}, sys.argv[1])"
    with tempfile.TemporaryDirectory() as folder:
        run_child(source, folder)
    return FILES
