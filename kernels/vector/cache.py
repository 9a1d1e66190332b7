"""The compile cache: one file per function, signature and CPU, never stale, never fatal.

Numba's own cache keys a file by the entry function's source alone, so that an edit in a function it calls goes
unseen; it fails on a truncated file and where no folder can be written. Here the file's name is a hash of all kernel
code, the versions, the signature and the CPU; it carries a checksum and appears by an atomic rename. A file that
cannot be read or written is a miss, and compiling goes on without it.

FASTNN_CACHE_DIR names the folder; the default is the user's cache folder, or one in the temporary folder. A folder
that cannot be written is read: a container image may bring one.

The files hold machine code, so they are used only where no other user but root can write or replace them. A folder
must be ours or root's, and so must each file and the folders above it. The owner alone may write them, but a folder
above may also have the sticky bit, by which others cannot replace what is ours. (Where an access control list lets
others write, the group's bits show it.) A folder refused for this gives a warning, and so does one that was chosen and
cannot be used. Windows has no such owners and modes; nothing of this is checked there.
"""

import hashlib
import marshal
import os
import pkgutil
import shlex
import stat
import sys
import tempfile
import warnings
from contextlib import suppress
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import llvmlite
import numpy as np

KERNELS = __package__.rpartition(".")[0]  # the package of all kernels
WRITABLE = stat.S_IWGRP | stat.S_IWOTH  # bits of a file that its group or others may write


def _code(name):
    """The content of a module for the hash: its file's bytes, or else its loader's code, or None."""
    with suppress(Exception):  # a loader of a bundle may raise any exception
        spec = find_spec(name)
        return spec.loader.get_data(spec.origin)  # .py, or .pyc where there is no other; in a zip file too
    with suppress(Exception):
        code = find_spec(name).loader.get_code(name)
        return marshal.dumps(code, 2) if code else None  # format 2 holds values alone, later ones also references
    return None


def _numba_version():
    """The content of Numba's module that says its version, or what its package says; Numba is not imported for that."""
    with suppress(Exception):
        places = find_spec("numba").submodule_search_locations
        finders = (getattr(finder, "find_spec", lambda *_: None) for finder in sys.meta_path)
        spec = next(filter(None, (find("numba._version", places) for find in finders)))
        with suppress(Exception):
            return spec.loader.get_data(spec.origin)
        return marshal.dumps(spec.loader.get_code("numba._version"), 2)
    with suppress(Exception):
        return version("numba").encode()
    return None


def _source_hash():
    """A hash of the kernels' code and of the versions.

    None where neither the code nor fastnn's version is known, and where Numba's is not.
    """
    package = sys.modules[KERNELS]
    names = [KERNELS, *sorted(module.name for module in pkgutil.walk_packages(package.__path__, f"{KERNELS}."))]
    code = {name: _code(name) for name in {*names, __name__}}
    ours, numba = getattr(sys.modules.get(KERNELS.rpartition(".")[0]), "__version__", None), _numba_version()
    if numba is None or (ours is None and None in code.values()):
        return None
    digest = hashlib.sha256()
    for name in sorted(code):
        digest.update(f"{name} {code[name] is None}\0".encode() + (code[name] or b"") + b"\0")
    numbers = numba, llvmlite.__version__, np.__version__, sys.version, sys.implementation.cache_tag
    digest.update(repr((ours, *numbers)).encode())
    return digest.hexdigest()


def _candidate_folders():
    """Where to keep files, as strings: the folder that was chosen, or the default ones, the best first."""
    if chosen := os.environ.get("FASTNN_CACHE_DIR"):
        yield os.path.expanduser(chosen)
        return
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "")
    elif sys.platform == "darwin":
        base = os.path.expanduser("~/Library/Caches")
    else:  # the XDG convention ignores a relative path
        base = os.environ.get("XDG_CACHE_HOME", "")
        base = base if os.path.isabs(base) else os.path.expanduser("~/.cache")
    if os.path.isabs(base):
        yield os.path.join(base, "fastnn")
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    with suppress(OSError):  # there may be no temporary folder
        yield os.path.join(tempfile.gettempdir(), f"fastnn-{user}")


def _ours(info):
    """Whether a file is this user's or root's, who then decides who writes it."""
    return info.st_uid in (os.getuid(), 0)


def _refusal(path, above):
    """(reason, command that helps or None) if the cache's folder cannot be `path`, or lie below it (`above`)."""
    info = path.lstat()
    if not _ours(info):
        return f"{path} belongs to another user", None
    writable = stat.S_ISDIR(info.st_mode) and info.st_mode & WRITABLE
    if not writable or (above and info.st_mode & stat.S_ISVTX):
        return None
    who = "others" if writable & stat.S_IWOTH else "its group"
    change = "+t" if above and who == "others" else "go-w"  # such a folder may be meant for all, as /tmp is
    command = f"chmod {change} {shlex.quote(str(path))}"
    return f"{path} is writable by {who}", command if info.st_uid == os.getuid() else None


def _first_refusal(folder, real):
    """The refusal of the folder, of a link in its place, or of a folder above it; None if all that exist are safe."""
    if not hasattr(os, "getuid"):
        return None
    paths = [(real, False), *((path, True) for path in (folder, *real.parents))]
    refusals = (_refusal(path, above) for path, above in paths if os.path.lexists(path))
    return next(filter(None, refusals), None)


def _warn(refusals):
    """Say once why nothing is kept in folders: [(folder, reason, command)], no folder at all if it is empty."""
    where = [f"in {folder}, because {reason}" for folder, reason, _ in refusals] or [
        "because there is no folder for it"
    ]
    commands = [f"run `{command}`, or " for _, _, command in refusals if command]
    message = (
        f"fastnn keeps no compiled code {', and none '.join(where)}. To change that, {''.join(commands[:1])}set "
        "FASTNN_CACHE_DIR to a folder that only you can write. Otherwise each process may have to compile, which takes "
        "seconds."
    )
    warnings.warn(message, RuntimeWarning, stacklevel=2)


def _make(folder):
    """Make the folder, and what is missing above it, for this user alone."""
    for path in reversed([path for path in (folder, *folder.parents) if not path.is_dir()]):
        path.mkdir(mode=0o700, exist_ok=True)


def _checked(folder):
    """(the folder without symbolic links, made if need be; None), or (None, its refusal). Raises OSError."""
    if folder.startswith("~"):
        raise FileNotFoundError("the home folder that ~ stands for is not known")
    folder = Path(folder).absolute()
    real = Path(os.path.realpath(folder))
    refusal = _first_refusal(folder, real)
    if refusal is None:
        _make(real)
        refusal = _first_refusal(folder, real)  # in /tmp, another user may have made it in the meantime
    return (real, None) if refusal is None else (None, (folder, *refusal))


def _is_writable(folder):
    with suppress(OSError), tempfile.TemporaryFile(dir=folder):
        return True
    return False


def _find_folders():
    """The folders to read, the last of which is the one to write; (), after a warning, if there is none.

    The first folder that can be written is the last one. If none can be written, only the first one is read.
    """
    found, unsafe, broken = [], [], []
    for folder in _candidate_folders():
        try:
            real, refusal = _checked(folder)
        except OSError as error:
            broken.append((folder, error, None))
            continue
        if refusal:
            unsafe.append(refusal)
            continue
        found.append(real)
        if _is_writable(real):
            break
    else:
        del found[1:]
    if unsafe or not found:
        _warn(unsafe + ([] if found else broken))
    return tuple(found)


def _open_without_waiting(path, flags):
    """A file descriptor. A symbolic link is an error, and a FIFO does not wait for one who writes."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))


def _is_safe(info):
    """Whether what was opened is a file that is ours or root's and that no one else can write."""
    if not stat.S_ISREG(info.st_mode):
        return False
    return not hasattr(os, "getuid") or (_ours(info) and not info.st_mode & WRITABLE)


class CodeFiles:
    """The folders of the cache, and the files in them: a checksum, then the data."""

    source = (_source_hash() or "")[:16]  # a hash of the kernels and the versions
    _folders = _find_folders() if source else ()
    folder: Path | None = _folders[-1] if _folders else None  # where files are written
    read_only = _folders[:-1]  # where files are looked for first
    _failures: ClassVar = [_warn]  # what to call when a file cannot be written: once in a process

    @classmethod
    def _identity(cls, name: str, key: object) -> bytes:
        return repr((cls.source, name, key)).encode()

    @classmethod
    def _checksum(cls, name: str, key: object, data: bytes) -> bytes:
        """A checksum of data under a name. It differs under another name, so that a renamed file is not used."""
        return hashlib.sha256(cls._identity(name, key) + data).digest()

    @classmethod
    def path(cls, name: str, key: object, folder: Path | None = None) -> Path:
        """The file for data of this name and key, and of the source."""
        digest = hashlib.sha256(cls._identity(name, key)).hexdigest()
        return Path(folder or cls.folder or "") / f"{name}-{digest[:32]}.fastnn"

    @classmethod
    def read(cls, name: str, key: object) -> bytes | None:
        """The data that was kept under a name and key, or None."""
        for folder in filter(None, (*cls.read_only, cls.folder)):
            try:
                with open(cls.path(name, key, folder), "rb", opener=_open_without_waiting) as file:
                    content = file.read() if _is_safe(os.fstat(file.fileno())) else b""
            except OSError:
                continue
            checksum, data = content[:32], content[32:]
            if cls._checksum(name, key, data) == checksum:
                return data
        return None

    @classmethod
    def write(cls, name: str, key: object, data: bytes) -> None:
        """Keep data under a name and key, if it can be written. The first time that it cannot, a warning says so."""
        if cls.folder is None:
            return
        temporary = failure = None
        try:
            with tempfile.NamedTemporaryFile(dir=cls.folder, suffix=".tmp", delete=False) as temporary:
                temporary.write(cls._checksum(name, key, data) + data)
            os.replace(temporary.name, cls.path(name, key))
        except OSError as error:  # a full disk, say
            failure = error
        finally:  # after Ctrl-C too
            if temporary is not None:
                with suppress(OSError):
                    os.unlink(temporary.name)  # after the rename there is none
        if failure is not None and cls.read(name, key) is None:  # another process may have been faster
            with suppress(IndexError):
                cls._failures.pop()([(cls.folder, failure, None)])
