"""The compile cache: one file per function, signature and CPU, never stale, never fatal.

Numba's own cache keys a file by the entry function's source alone, so that an edit in a function it calls goes
unseen; it fails on a truncated file and where no folder can be written. Here the file's name is a hash of all
kernel sources, the versions, the signature and the CPU; it carries a checksum and appears by an atomic rename. A
file that cannot be read or written is a miss, and compiling goes on without it.

FASTNN_CACHE_DIR names the folder; the default is the user's cache folder, or one in the temporary folder that only
this user can write.
"""

import hashlib
import os
import pickle
import stat
import sys
import tempfile
from pathlib import Path

import llvmlite
import numba
import numpy as np
from numba import njit
from numba.core.caching import CompileResultCacheImpl, _Cache
from numba.core.runtime import rtsys


def _source_hash():
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    versions = (numba.__version__, llvmlite.__version__, np.__version__, sys.version, sys.implementation.cache_tag)
    digest.update(repr(versions).encode())
    return digest.hexdigest()


def _candidate_folders():
    if chosen := os.environ.get("FASTNN_CACHE_DIR"):
        yield Path(chosen).absolute()
        return
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
    elif sys.platform == "darwin":
        base = os.path.expanduser("~/Library/Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if base and Path(base).is_absolute():
        yield Path(base) / "fastnn"
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    yield Path(tempfile.gettempdir()) / f"fastnn-{user}"


def _usable(folder):
    """Whether the folder is ours to trust (the files hold machine code) and can be written; it is made if need be."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        info = folder.stat()
        if hasattr(os, "getuid") and (info.st_uid != os.getuid() or info.st_mode & stat.S_IWOTH):
            return False
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _find_folder():
    try:
        return next((folder for folder in _candidate_folders() if _usable(folder)), None)
    except OSError:  # no temporary folder at all
        return None


class CodeFiles:
    """The folder of the cache, and the files in it: a checksum, then what was kept."""

    folder: Path | None = _find_folder()
    source = _source_hash()[:16]  # of the kernels and the versions

    @classmethod
    def path(cls, name: str, key: object) -> Path:
        """The file of what is called `name` and depends on `key` and on the source."""
        digest = hashlib.sha256(repr((cls.source, name, key)).encode()).hexdigest()
        return Path(cls.folder or "") / f"{name}-{digest[:32]}.fastnn"

    @classmethod
    def read(cls, name: str, key: object) -> bytes | None:
        """What was kept, or None."""
        if cls.folder is None:
            return None
        try:
            content = cls.path(name, key).read_bytes()
        except OSError:
            return None
        checksum, data = content[:32], content[32:]
        return data if hashlib.sha256(data).digest() == checksum else None

    @classmethod
    def write(cls, name: str, key: object, data: bytes) -> None:
        """Keep data, if that can be done."""
        if cls.folder is None:
            return
        temporary = None
        try:
            with tempfile.NamedTemporaryFile(dir=cls.folder, delete=False) as temporary:
                temporary.write(hashlib.sha256(data).digest() + data)
            os.replace(temporary.name, cls.path(name, key))
        except OSError:  # a full disk, say
            if temporary is not None:
                Path(temporary.name).unlink(missing_ok=True)


class KernelCache(_Cache):
    """What a Numba dispatcher asks before it compiles, and tells afterwards."""

    def __init__(self, py_func):
        self._name = py_func.__name__
        self._impl = object.__new__(CompileResultCacheImpl)  # for its reduce and rebuild; it holds no state

    @property
    def cache_path(self):
        return str(CodeFiles.folder)

    def enable(self):
        pass

    def disable(self):
        pass

    def flush(self):
        pass

    def key(self, signature, codegen):
        """What the machine code depends on beside the source."""
        return str(signature), codegen.magic_tuple()

    def load_overload(self, sig, target_context):
        """The compiled function, or None."""
        rtsys.initialize(target_context)  # the rest of what Numba loads, 0.2 s, is for compiling
        try:
            data = CodeFiles.read(self._name, self.key(sig, target_context.codegen()))
            return None if data is None else self._impl.rebuild(target_context, pickle.loads(data))
        except Exception:  # whatever is wrong with the file, compiling again is the answer
            return None

    def save_overload(self, sig, data):
        """Store a compiled function, if that can be done."""
        payload = pickle.dumps(self._impl.reduce(data), protocol=pickle.HIGHEST_PROTOCOL)
        CodeFiles.write(self._name, self.key(sig, data.codegen), payload)


def cached(function=None, *, parallel=False):
    """Decorator: compile with Numba, without the interpreter lock, and keep the result on disk."""
    if function is None:
        return lambda f: cached(f, parallel=parallel)
    dispatcher = njit(nogil=True, parallel=parallel)(function)
    if CodeFiles.folder is not None:
        dispatcher._cache = KernelCache(function)
    return dispatcher
