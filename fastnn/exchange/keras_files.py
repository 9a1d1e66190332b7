"""Files of Keras, read with h5py alone: the description of the layers, and their variables. Nothing in them runs.

A `.keras` file is a zip archive of config.json and model.weights.h5. An older file is HDF5 as a whole. What a file says
of sizes is compared with the file before memory is taken: a file of n bytes gives at most n bytes of numbers.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks.file_paths import naming
from ..checks.scalars import shown

MAX_CONFIG = 2**21  # bytes of a description, and of the list of an archive's files
LEAST_HEAP = 2048  # that a heap counts as: HDF5 makes them of 4096 bytes or more
MAX_VARIABLES = 16  # of a layer
MAX_DEPTH = 8  # of the groups above variables
MAX_NAME = 1024  # characters of a variable's name
_HDF5, _ZIP = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"  # what files begin with


@dataclass(frozen=True)
class Variable:
    """An array of a layer, which is read when it is needed."""

    shape: tuple[int, ...]
    n_bytes: int
    read: Callable[[], NDArray[Any]]


@dataclass(frozen=True)
class KerasModel:
    """What is known of a model of Keras."""

    kind: Any  # the name of its class
    config: Any  # its `get_config()`
    loss: Any  # what it was compiled with, None where it was not
    version: int  # of Keras: 2 or 3
    variables_of: Callable[[int], list[Variable]]  # of the layer with that index in the config
    n_bytes: float = np.inf  # that all its variables have at most


@contextlib.contextmanager
def opened(path: Path) -> Iterator[KerasModel]:
    """A context with the model of a file; raises ValueError, here and in the context, for one that cannot be used."""
    if not path.is_file():
        raise FileNotFoundError(f"path must name a file of Keras, got {str(path)!r}, which is not a file")
    h5py = _h5py()
    with naming(path), open(path, "rb") as file, contextlib.ExitStack() as stack:
        whole = _Section(file, 0, file.seek(0, io.SEEK_END))
        start = whole.read(8)
        try:
            if start.startswith(_ZIP):
                yield _of_archive(h5py, whole, stack)
            elif start == _HDF5:
                yield _of_hdf5(h5py, stack.enter_context(h5py.File(whole, "r")), whole)
            else:
                raise ValueError("it is neither a .keras file nor HDF5")
        except (*_DAMAGES, zipfile.BadZipFile, zlib.error) as error:
            what = "a Keras model that fastnn can hold"
            raise ValueError(f"path must name {what}, got {str(path)!r}: {error or type(error).__name__}") from None


# What the libraries raise for a file that is no such file. h5py's own errors are of all kinds.
_DAMAGES = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


def _h5py() -> Any:
    """The package h5py, or an error that says how to get it."""
    try:
        return import_module("h5py")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("files of Keras need h5py: pip install 'fastnn-numba[keras]'") from error


class _Section(io.RawIOBase):
    """A part of a file as a file."""

    def __init__(self, file: Any, start: int, size: int):
        self._file, self._start, self._at = file, start, 0
        self.size = size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        at = offset + (0, self._at, self.size)[whence]
        if at < 0:
            raise ValueError(f"its places must lie in the file, got {at}")
        self._at = at
        return at

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._start + self._at)
        n: int = self._file.readinto(memoryview(buffer)[: max(0, self.size - self._at)])
        self._at += n
        return n

    def read(self, size: int = -1) -> bytes:
        if size > MAX_CONFIG:
            raise ValueError(f"its parts must have at most {MAX_CONFIG} bytes, got {size}")
        return super().read(size) or b""

    def checksum(self) -> int:
        """CRC-32 of all bytes."""
        found = 0
        self.seek(0)
        while block := self.read(MAX_CONFIG):
            found = zlib.crc32(block, found)
        return found


def _json(text: bytes | str) -> Any:
    """What a text of JSON holds."""
    if len(text) > MAX_CONFIG:
        raise ValueError(f"its description must have at most {MAX_CONFIG} bytes")
    return json.loads(text)


def _dict(what: str, found: Any) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise ValueError(f"{what} must be a JSON object, got {shown(found)}")
    return found


# ---- .keras ----


def _of_archive(h5py: Any, whole: _Section, stack: contextlib.ExitStack) -> KerasModel:
    with zipfile.ZipFile(whole) as archive:
        names = archive.namelist()
        for name in ("config.json", "model.weights.h5"):
            if name not in names:
                raise ValueError(f"it has no {name}")
        config = _dict("config.json", _json(_member(archive, "config.json")))
        metadata = _json(_member(archive, "metadata.json")) if "metadata.json" in names else {}
        weights = _stored(whole, archive.getinfo("model.weights.h5"))
    compiled = config.get("compile_config")
    version = metadata.get("keras_version", "3") if isinstance(metadata, dict) else "3"
    found = config.get("config")
    groups = _groups_of(found)
    store = stack.enter_context(h5py.File(weights, "r"))

    def variables_of(index: int) -> list[Variable]:
        root = next((name for name in ("layers", "_layer_checkpoint_dependencies") if name in store), None)
        if root is None:
            raise ValueError("model.weights.h5 has no layers")
        group = store
        for name in (root, groups[index], "vars"):
            group = _child(h5py, group, name, h5py.Group)
        if len(group) > MAX_VARIABLES:
            raise ValueError(f"it has {len(group)} variables")
        return [_variable(h5py, group, str(i)) for i in range(len(group))]

    loss = compiled.get("loss") if isinstance(compiled, dict) else None
    return KerasModel(config.get("class_name"), found, loss, _major(version), variables_of, weights.size)


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of a small file of an archive; of a larger one a few more than the limit."""
    if archive.getinfo(name).compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} must be stored as it is, or deflated")
    with archive.open(name) as file:
        return file.read(MAX_CONFIG + 1)


def _stored(whole: _Section, info: zipfile.ZipInfo) -> _Section:
    """The place of a file in an archive that keeps it as it is, as Keras writes them."""
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        raise ValueError("model.weights.h5 must be stored as it is, neither compressed nor encrypted")
    whole.seek(info.header_offset)
    header = whole.read(30)  # its end: the lengths of the name and of what is extra
    start = info.header_offset + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    if not header.startswith(_ZIP) or start + info.file_size > whole.size:
        raise ValueError("model.weights.h5 must lie in the file as a whole")
    found = _Section(whole, start, info.file_size)
    if found.checksum() != info.CRC:
        raise ValueError("model.weights.h5 must have the checksum that the file states")
    found.seek(0)
    return found


def _groups_of(config: Any) -> list[str]:
    """The names of the layers' groups: of the class, numbered in the order of the layers, as Keras gives them."""
    counts: Counter[str] = Counter()
    found = []
    for layer in config.get("layers", ()) if isinstance(config, dict) else ():
        name = _snake_case(str(layer.get("class_name")) if isinstance(layer, dict) else "")
        found.append(f"{name}_{counts[name]}" if counts[name] else name)
        counts[name] += 1
    return found


def _snake_case(name: str) -> str:
    """A class's name as Keras writes it in files: "p_re_lu" for PReLU."""
    name = re.sub(r"\W+", "", name[:MAX_NAME])
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


# ---- HDF5 ----


def _of_hdf5(h5py: Any, file: Any, whole: _Section) -> KerasModel:
    if "model_config" not in file.attrs:
        raise ValueError("it has no model_config: a file of weights alone does not say what its layers are")
    texts = _texts(h5py, file, whole)
    described = _dict("model_config", texts["model_config"])
    config, compiled = described.get("config"), texts.get("training_config")
    layers: Any = config.get("layers") if isinstance(config, dict) else config
    weights = _child(h5py, file, "model_weights", h5py.Group)

    def variables_of(index: int) -> list[Variable]:
        layer = layers[index]["config"]["name"]
        group = _child(h5py, weights, layer, h5py.Group)
        for _ in range(MAX_DEPTH):  # scopes, one in the other
            if len(group) != 1 or not isinstance(inner := _child(h5py, group, next(iter(group)), object), h5py.Group):
                break
            group = inner
        if len(group) > MAX_VARIABLES:
            raise ValueError(f"it has {len(group)} variables")
        places = {_OF_KERAS_1.get(name.removeprefix(f"{layer}_"), name.removesuffix(":0")): name for name in group}
        if unknown := places.keys() - {*_VARIABLES}:
            raise ValueError(f"it has other variables than those of Keras' layers: {shown(sorted(unknown))}")
        return [_variable(h5py, group, places[name]) for name in _VARIABLES if name in places]

    loss = compiled.get("loss") if isinstance(compiled, dict) else None
    if isinstance(config, list):  # Sequential, as Keras had it until 2.2
        config = {"layers": config}
    version = _major(texts.get("keras_version", "2"))
    return KerasModel(described.get("class_name"), config, loss, version, variables_of, whole.size)


# The names of variables, in the order in which layers have them.
_VARIABLES = (
    *("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance", "alpha"),
    *("mean", "variance", "count"),
)
_OF_KERAS_1 = {"W": "kernel", "b": "bias"}  # behind the name of the layer


def _texts(h5py: Any, file: Any, whole: _Section) -> dict[str, Any]:
    """{name: what an attribute holds}, of descriptions and the version.

    A text of fixed length is read as it is. For one of any length libhdf5 takes as much memory as the file says, before
    it looks whether that much is there. So such texts are found in the file's heaps by what they hold.
    """
    found: dict[str, Any] = {}
    for name in ("model_config", "training_config", "keras_version"):
        if name in file.attrs:
            attribute = h5py.h5a.open(file.id, name.encode())
            if attribute.shape == () and attribute.dtype.kind == "S" and attribute.dtype.itemsize <= MAX_CONFIG:
                fixed = bytes(file.attrs[name])
                found[name] = fixed.decode() if name == "keras_version" else _json(fixed)
    for text in _heap_texts(whole) if len(found) < 3 else ():
        value: Any = None
        if re.fullmatch(rb"\d+\.\d+[\w.]{0,20}", text):
            name, value = "keras_version", text.decode()
        elif text.startswith(b"{"):
            value = _json(text)
            name = "model_config" if "class_name" in value else "training_config"
        if value is not None and found.setdefault(name, value) != value:
            raise ValueError(f"{name} must be in the file once")
    if "model_config" not in found:
        raise ValueError("model_config must be a text")
    return found


def _heap_texts(whole: _Section) -> Iterator[bytes]:
    """The objects in a file's global heaps, at most as many bytes as descriptions may have.

    A heap begins with "GCOL", a version and its size; an object with its number, 0 for what is free, and its size. All
    begin at multiples of 8 bytes.
    """
    left, start = MAX_CONFIG, 0
    while start < whole.size:
        if left < 0:
            raise ValueError(f"its texts must have at most {MAX_CONFIG} bytes")
        whole.seek(start)
        block = whole.read(MAX_CONFIG)
        at = block.find(b"GCOL\1")
        if at < 0:
            start += max(1, len(block) - 8)
            continue
        whole.seek(start + at)
        header = whole.read(16)
        end = start + at + int.from_bytes(header[8:], "little")
        start += at + 16
        left -= LEAST_HEAP
        while start + 16 <= min(end, whole.size):
            whole.seek(start)
            header = whole.read(16)
            size = int.from_bytes(header[8:], "little")
            if header[:2] == b"\0\0" or start + 16 + size > whole.size:
                break
            left -= size + 16
            if left < 0:
                break
            yield whole.read(size).rstrip(b"\0")  # `left` bounds size
            start += 16 + size + -size % 8


def _major(version: Any) -> int:
    """2 for Keras 1 and 2, else 3."""
    return 2 if isinstance(version, str) and version.startswith(("1", "2")) else 3


def _child(h5py: Any, group: Any, name: Any, kind: Any) -> Any:
    """What a group holds under a name, through no link that leads elsewhere."""
    for part in str(name).split("/"):
        if part in ("", ".", "..") or len(part) > MAX_NAME or not isinstance(group, h5py.Group) or part not in group:
            raise ValueError(f"its file has no {shown(name)} in {shown(group.name)}")
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"{shown(part)} in its file must not be a link")
        group = group[part]
    if not isinstance(group, kind):
        raise ValueError(f"{shown(name)} in its file must be a {kind.__name__.lower()}")
    return group


def _variable(h5py: Any, group: Any, name: str) -> Variable:
    """An array of a file, whose numbers lie in the file one after another."""
    found = _child(h5py, group, name, h5py.Dataset)
    if found.shape is None or found.is_virtual or found.external or found.chunks is not None:
        raise ValueError(f"{shown(name)} in its file must be stored as it is, neither in pieces nor elsewhere")
    stored = found.id.get_storage_size()
    if stored != found.size * found.dtype.itemsize:
        raise ValueError(f"{shown(name)} in its file must have {found.size} numbers, got {stored} bytes")

    def read() -> NDArray[Any]:
        if found.dtype == np.dtype("V2"):  # bfloat16
            return (np.asarray(found[()]).view("<u2").astype(np.uint32) << 16).view(np.float32)
        if found.dtype.kind != "f" or found.dtype.itemsize > 8:
            raise ValueError(f"{shown(name)} in its file must be floats, got {found.dtype}")
        return np.asarray(found[()])

    return Variable(found.shape, stored, read)


# ---- models in memory ----


def of_object(model: Any) -> KerasModel:
    """A model of Keras, or what looks like one."""
    layers = {layer.name: layer for layer in model.layers}
    config = model.get_config()
    compiled = model.get_compile_config() if getattr(model, "compiled", False) else None

    def variables_of(index: int) -> list[Variable]:
        arrays = [np.asarray(each) for each in layers[config["layers"][index]["config"]["name"]].get_weights()]
        return [Variable(each.shape, each.nbytes, each.view) for each in arrays]

    loss = compiled.get("loss") if isinstance(compiled, dict) else None
    kind = type(model)
    return KerasModel(kind.__name__, config, loss, 2 if ".engine." in kind.__module__ else 3, variables_of)
