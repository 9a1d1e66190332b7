"""The compile cache: one file per function, signature and CPU, never stale, never fatal.

Numba's own cache keys a file by the entry function's source alone, so that an edit in a function it calls goes
unseen; it fails on a truncated file and where no folder can be written. Here the file's name is a hash of all
kernel sources, the versions, the signature and the CPU; it carries a checksum and appears by an atomic rename. A
file that cannot be read or written is a miss, and compiling goes on without it.

FASTNN_CACHE_DIR names the folder; the default is the user's cache folder, or one in the temporary folder.

The files hold machine code, so they are used only where no other user but root can write or replace them. A folder
must be ours, and so must each file; the folders above it are ours or root's. The owner alone may write them, but a
folder above may also have the sticky bit, by which others cannot replace what is ours. (Where an access control list
lets others write, the group's bits show it.) A folder refused for this gives a warning. Windows has no such owners
and modes; nothing of this is checked there.
"""

import hashlib
import os
import pickle
import shlex
import stat
import sys
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path

import llvmlite
import numba
import numpy as np
from numba import njit
from numba.core.caching import CompileResultCacheImpl, _Cache
from numba.core.runtime import rtsys

WRITABLE = stat.S_IWGRP | stat.S_IWOTH  # by the group or by others


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


def _refusal(path, above):
    """(reason, command that helps or None) if the cache's folder cannot be `path`, or lie below it (`above`)."""
    info = path.lstat()
    mine = info.st_uid == os.getuid()
    if not mine and not (above and info.st_uid == 0):
        return f"{path} belongs to another user", None
    writable = stat.S_ISDIR(info.st_mode) and info.st_mode & WRITABLE
    if not writable or (above and info.st_mode & stat.S_ISVTX):
        return None
    who = "others" if writable & stat.S_IWOTH else "its group"
    change = "+t" if above and who == "others" else "go-w"  # such a folder may be meant for all, as /tmp is
    return f"{path} is writable by {who}", f"chmod {change} {shlex.quote(str(path))}" if mine else None


def _first_refusal(folder, real):
    """The refusal of the folder, of a link in its place, or of a folder above it; None if all that exist are safe."""
    if not hasattr(os, "getuid"):
        return None
    paths = [(real, False), *((path, True) for path in (folder, *real.parents))]
    refusals = (_refusal(path, above) for path, above in paths if os.path.lexists(path))
    return next(filter(None, refusals), None)


def _warn(folder, reason, command):
    remedy = f"run `{command}`, or " if command else ""
    message = (
        f"fastnn keeps no compiled code in {folder}, because {reason}. To change that, {remedy}set FASTNN_CACHE_DIR "
        "to a folder that only you can write. Otherwise each process may have to compile, which takes seconds."
    )
    warnings.warn(message, RuntimeWarning, stacklevel=2)


def _make(folder):
    """Make the folder, and what is missing above it, for this user alone."""
    for path in reversed([path for path in (folder, *folder.parents) if not path.is_dir()]):
        path.mkdir(mode=0o700, exist_ok=True)


def _usable(folder):
    """The folder without symbolic links, made if need be, or None if it is not safe or cannot be written."""
    try:
        real = Path(os.path.realpath(folder))
        refusal = _first_refusal(folder, real)
        if refusal is None:
            _make(real)
            refusal = _first_refusal(folder, real)  # in /tmp, another user may have made it in the meantime
        if refusal is None:
            with tempfile.TemporaryFile(dir=real):
                return real
    except OSError:
        return None
    _warn(folder, *refusal)
    return None


def _find_folder():
    try:
        return next(filter(None, map(_usable, _candidate_folders())), None)
    except OSError:  # no temporary folder at all
        return None


def _open_without_waiting(path, flags):
    """A file descriptor. A symbolic link is an error, and a FIFO does not wait for one who writes."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))


def _is_safe(info):
    """Whether what was opened is a file that is ours and that no one else can write."""
    if not stat.S_ISREG(info.st_mode):
        return False
    return not hasattr(os, "getuid") or (info.st_uid == os.getuid() and not info.st_mode & WRITABLE)


class CodeFiles:
    """The folder of the cache, and the files in it: a checksum, then what was kept."""

    folder: Path | None = _find_folder()
    source = _source_hash()[:16]  # of the kernels and the versions

    @classmethod
    def _identity(cls, name: str, key: object) -> bytes:
        return repr((cls.source, name, key)).encode()

    @classmethod
    def _checksum(cls, name: str, key: object, data: bytes) -> bytes:
        """It differs for the same data under another name, so that a renamed file is not used."""
        return hashlib.sha256(cls._identity(name, key) + data).digest()

    @classmethod
    def path(cls, name: str, key: object) -> Path:
        """The file of what is called `name` and depends on `key` and on the source."""
        digest = hashlib.sha256(cls._identity(name, key)).hexdigest()
        return Path(cls.folder or "") / f"{name}-{digest[:32]}.fastnn"

    @classmethod
    def read(cls, name: str, key: object) -> bytes | None:
        """What was kept, or None."""
        if cls.folder is None:
            return None
        try:
            with open(cls.path(name, key), "rb", opener=_open_without_waiting) as file:
                content = file.read() if _is_safe(os.fstat(file.fileno())) else b""
        except OSError:
            return None
        checksum, data = content[:32], content[32:]
        return data if cls._checksum(name, key, data) == checksum else None

    @classmethod
    def write(cls, name: str, key: object, data: bytes) -> None:
        """Keep data, if that can be done."""
        if cls.folder is None:
            return
        temporary = None
        try:
            with tempfile.NamedTemporaryFile(dir=cls.folder, suffix=".tmp", delete=False) as temporary:
                temporary.write(cls._checksum(name, key, data) + data)
            os.replace(temporary.name, cls.path(name, key))
        except OSError:  # a full disk, say
            pass
        finally:  # after Ctrl-C too
            if temporary is not None:
                with suppress(OSError):
                    os.unlink(temporary.name)  # after the rename there is none


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
