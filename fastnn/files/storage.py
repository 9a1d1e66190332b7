"""Models in safetensors files: one unpadded tensor an array, the architecture and a checksum in the header."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks.file_paths import naming

Tensors = dict[str, NDArray[Any]]

FORMAT_VERSION = 4  # 1 had no checksum, 2 no optimizer's state; there is no 3, which differs from "1" by one bit
VERSIONS = ("1", "2", str(FORMAT_VERSION))
OLD = 3600  # seconds; a temporary file as old as that belongs to a save that was killed
MAX_HEADER = 10**8  # bytes, as in safetensors
TYPES: dict[str, Any] = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8")}  # NumPy lacks some other types
# What a file system answers where it knows no fsync: network drives, FUSE. Any other error may mean a loss.
NO_FSYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM, errno.EROFS)
# Formats other than safetensors, by the end of a file's name: those that `export` writes, and all.
EXPORTED = {".onnx": "ONNX", ".h": "C", ".mjs": "JavaScript", ".py": "Python"}
FORMATS = {
    **EXPORTED,
    **dict.fromkeys((".pt", ".pth"), "PyTorch's"),
    **dict.fromkeys((".h5", ".hdf5"), "HDF5"),
    ".keras": "Keras'",
    **dict.fromkeys((".pkl", ".pickle", ".joblib"), "pickle"),
    **dict.fromkeys((".npy", ".npz"), "NumPy's"),
}


def write(path: Path, description: dict[str, Any], tensors: Tensors) -> None:
    """Write a model file; raises ValueError, before anything is written, for parameters that are not finite.

    The file appears whole or not at all, even if the process is killed: it is written beside its place and then moved
    there. It is on the disk before it moves, so that a crash of the machine leaves the old file or the new one. An
    existing file's permission bits are kept. Where the file system refuses to set them, or knows no fsync, it is saved
    without. The target of a symbolic link is replaced, the link stays.
    """
    from safetensors.numpy import save as to_bytes

    if other := FORMATS.get(path.suffix.lower()):
        how = "`export` writes such a file, and " if path.suffix.lower() in EXPORTED else ""
        raise ValueError(
            f"path must not end in {path.suffix!r}, {other} format, got {path.name!r}; "
            f"{how}a model is saved as safetensors: {path.stem + '.safetensors'!r}"
        )
    tensors = {name: np.array(tensor, order="C") for name, tensor in tensors.items()}  # no thread changes the copies
    if found := _not_finite(tensors):
        raise ValueError(f"the parameters must be finite to be saved, got {found}")
    text = json.dumps(description)
    version = str(FORMAT_VERSION)
    header = {"format": "fastnn", "format_version": version, "model": text, "sha256": checksum(text, tensors)}
    put(path, _in_one_order(to_bytes(tensors, metadata=header)))


def put(path: Path, content: bytes) -> None:
    """Write a file as `write` does: whole or not at all."""
    target, mode = _place(path)
    _remove_old_temporaries(target.parent)
    with naming(path):
        _replace(target, mode, content)


def _in_one_order(content: bytes) -> bytes:
    """A file's bytes with the names of the header's metadata sorted. The library has them in another order each time.

    A file begins with the header's length in 8 bytes, little-endian, and the header, JSON that spaces fill up to a
    multiple of 8 bytes.
    """
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[end:]


def read(path: Path) -> tuple[str, Tensors]:
    """(description as JSON, tensors) of a file; raises where fastnn did not write it, or where it has changed since.

    The file is read once, not mapped. If another process overwrites it meanwhile, the checksum shows it, and nothing
    reads behind its end.
    """
    from safetensors import SafetensorError, deserialize

    header, content = _content(path)
    try:
        found: list[tuple[str, Any]] = deserialize(content)  # type: ignore[no-untyped-call]
        metadata = json.loads(header).get("__metadata__", {})
    except (SafetensorError, ValueError, RecursionError) as error:
        raise ValueError(f"path must name a whole safetensors file, got {str(path)!r}: {error}") from None
    _check_header(path, metadata)
    tensors: Tensors = {}
    for name, tensor in found:
        if (kind := tensor["dtype"]) not in TYPES:
            raise ValueError(f"path must name a file of F32 or F64, got {str(path)!r} with {name} of {kind}")
        array = np.frombuffer(tensor["data"], TYPES[kind]).reshape(tensor["shape"])
        tensors[name] = array.astype(array.dtype.newbyteorder("="), copy=False)
    text: str = metadata["model"]
    if metadata["format_version"] != "1" and metadata.get("sha256") != checksum(text, tensors):
        raise ValueError(
            f"path must name a file as Model.save wrote it, got {str(path)!r}, whose content does not match "
            "the checksum in its header"
        )
    if bad := _not_finite(tensors):
        raise ValueError(f"path must name a file of finite parameters, got {str(path)!r} with {bad}")
    return text, tensors


def _content(path: Path) -> tuple[bytes, bytes]:
    """(the header, all bytes) of a safetensors file. A file whose header does not name fastnn is not read further."""
    if not path.is_file():
        raise FileNotFoundError(f"path must name a model file, got {str(path)!r}, which is not a file")
    with naming(path), open(path, "rb") as file:
        start = file.read(8)
        header = file.read(min(int.from_bytes(start, "little"), MAX_HEADER))
        if b'"fastnn"' not in header:
            raise ValueError(f"path must name a file that Model.save wrote, got {str(path)!r} without fastnn's header")
        return header, start + header + file.read()


def checksum(text: str, tensors: Tensors) -> str:
    """SHA-256, in hexadecimal digits, of the description and the tensors.

    Its input is the description and a newline; then, for each tensor in the order of the names, the JSON of
    [name, dtype, shape], a newline, and the bytes of the elements in C order, little-endian.
    """
    digest = hashlib.sha256(text.encode() + b"\n")
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, tensor.dtype.name, list(tensor.shape)]).encode() + b"\n")
        digest.update(tensor.astype(tensor.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()


def _check_header(path: Path, header: dict[str, str]) -> None:
    """Raise where the header is not fastnn's, of a version that is not known, or without a description."""
    if header.get("format") != "fastnn":
        raise ValueError(f"path must name a file that Model.save wrote, got {str(path)!r} without fastnn's header")
    if header.get("format_version") not in VERSIONS:
        raise ValueError(
            f"path must name a file of format version {', '.join(VERSIONS)}, "
            f"got {str(path)!r} of version {header.get('format_version')!r}"
        )
    if "model" not in header:
        raise ValueError(f"path must name a consistent model file, got {str(path)!r}: 'model'")


def _not_finite(tensors: Tensors) -> str | None:
    """The first element that is NaN or infinite, as "layers.0.bias[2] = nan"; None if there is none."""
    for name, tensor in tensors.items():
        finite = np.isfinite(tensor)
        if not finite.all():
            index = tuple(map(int, np.argwhere(~finite)[0]))
            return f"{name}[{', '.join(map(str, index))}] = {tensor[index]}"
    return None


def _place(path: Path) -> tuple[Path, int | None]:
    """(the file that path leads to through symbolic links, its permission bits or None if there is no file yet)."""
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OSError(errno.ELOOP, "path must not be a symbolic link that leads back to itself", str(path))
    if target.is_dir():
        raise IsADirectoryError(f"path must name a file, got the folder {str(path)!r}")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"path must lie in a folder that exists, got {str(path)!r}")
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return target, None
    if not stat.S_ISREG(mode):
        raise ValueError(f"path must name a regular file or none yet, got {str(path)!r}, which is a device or a pipe")
    return target, mode & 0o777


def _remove_old_temporaries(folder: Path) -> None:
    """Remove what killed saves have left in the folder. A younger file may belong to a save that still runs."""
    for left in folder.glob(".fastnn-*.tmp"):
        with contextlib.suppress(OSError):  # another save has removed it, or it is another user's
            if time.time() - left.lstat().st_mtime > OLD:
                left.unlink()


def _replace(target: Path, mode: int | None, content: bytes) -> None:
    """Put the content in the place of target; mode None gives the permission bits of any new file."""
    # The name does not contain the target's, which may be as long as names can be.
    temporary = target.with_name(f".fastnn-{os.urandom(8).hex()}.tmp")
    bits = 0o666 if mode is None else mode
    try:
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, bits)) as file:
            if mode is not None:
                with contextlib.suppress(OSError):  # then the file has fewer bits, never more
                    os.chmod(temporary, mode)  # gives back the bits that the umask took away
            file.write(content)
            file.flush()
            _synchronise(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _synchronise(descriptor: int) -> None:
    """Wait until the file is on the disk, where the file system can tell."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_FSYNC:
            raise
