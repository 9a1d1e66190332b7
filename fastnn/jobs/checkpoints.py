"""Checkpoints of a run: a folder with a file for each finished chunk, and a manifest that says of what they are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..checks import file_paths
from ..checks.scalars import shown
from ..files import storage
from ..settings import optimizers
from ..settings.each import Each
from ..settings.learning_rates import LearningRate
from ..settings.optimizers import Optimizer
from ..settings.stopping import Halving, Patience
from .nodes import Node

MANIFEST, VERSION = "manifest.json", 1


def digest(value: Any) -> str:
    """A checksum of numbers, strings and arrays, and of tuples, lists and dicts of these."""
    found = hashlib.sha256()
    for part in _parts(value):
        found.update(part)
    return found.hexdigest()


def _parts(value: Any) -> Iterator[Any]:
    """The bytes that a checksum is of."""
    if isinstance(value, np.ndarray):
        yield f"{value.dtype.str}{value.shape}".encode()
        yield np.ascontiguousarray(value).data if value.size else b""
    elif isinstance(value, Each):
        yield from _parts(value.values)
    elif isinstance(value, (tuple, list)):
        yield f"[{len(value)}".encode()
        for each in value:
            yield from _parts(each)
    elif isinstance(value, Mapping):
        yield from _parts([[name, each] for name, each in value.items()])
    else:
        yield f"{type(value).__name__} {value!r};".encode()


def described(name: str, value: Any) -> Any:
    """What a checksum is of, of an argument: raises where that holds a function, of which no file tells what it is."""
    found: Any
    if isinstance(value, (Optimizer, LearningRate)):
        found = optimizers.described(value)
    elif isinstance(value, (Patience, Halving)):
        found = vars(value)
    elif isinstance(value, (list, tuple)):
        found = [described(name, each) for each in value]
    else:
        found = None if callable(value) else [value]
    if found is None:
        raise ValueError(f"{name} must hold no function with checkpoint, which no file can hold, got {shown(value)}")
    return found


class Checkpoint:
    """A folder: `manifest.json`, and a safetensors file for each chunk that is done."""

    def __init__(self, path: Any, kind: str, node: Node, settings: Mapping[str, Any]):
        """Open a folder, or make it. `settings`, by the names of what a user gave, are what results depend on.

        Raises ValueError where it is of a run with other settings or on another kind of node, naming what differs.
        """
        self.folder = _folder(path)
        self._manifest: dict[str, Any] = {
            "checkpoint": VERSION,
            "of": kind,
            "node": node._asdict(),
            "settings": {name: digest(value) for name, value in settings.items()},
        }
        found = self._read()
        if found is None:
            self._manifest["chunks"] = []
            self._write()
        else:
            self._check(found)
            self._manifest["chunks"] = found["chunks"]

    def _read(self) -> dict[str, Any] | None:
        """The manifest that is there."""
        place = self.folder / MANIFEST
        if not place.exists():
            return None
        try:
            found = json.loads(place.read_text(encoding="utf-8"))
            known = found["checkpoint"], found["of"], {**found["node"]}, {**found["settings"]}, [*found["chunks"]]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"checkpoint must be a folder of fastnn's, got {str(place)!r}: {error}") from None
        if known[0] != VERSION:
            raise ValueError(f"checkpoint must be of version {VERSION}, got {shown(known[0])} in {str(place)!r}")
        return found

    def _check(self, found: dict[str, Any]) -> None:
        """Raise where a manifest is of another run."""
        differ = ["the function"] if found["of"] != self._manifest["of"] else []
        for part in ("node", "settings"):
            old, new = found[part], self._manifest[part]
            for name in {**old, **new}:
                if old.get(name) != new.get(name):
                    values = f" ({old.get(name)} then, {new.get(name)} now)" if part == "node" else ""
                    differ.append(f"{name}{values}")
        if differ:
            raise ValueError(
                f"checkpoint must be of a call that is equal to this one, got {str(self.folder)!r}, where these "
                f"differ: {', '.join(differ)}; another folder begins a new run"
            )

    def chunks(self, number: int) -> Iterator[tuple[dict[str, Any], storage.Tensors]]:
        """(description, tensors) of the chunks that are done, of a round."""
        for name, of_round in self._manifest["chunks"]:
            if of_round == number:
                text, tensors = storage.read(self.folder / name)
                yield json.loads(text), tensors

    def add(self, number: int, description: dict[str, Any], tensors: storage.Tensors) -> None:
        """Keep a chunk of a round, unless a number in it is not finite, which no file holds: it is made again then."""
        if not all(np.isfinite(each).all() for each in tensors.values()):
            return
        name = f"chunk-{len(self._manifest['chunks']):06}.safetensors"
        storage.write(self.folder / name, description, tensors)
        self._manifest["chunks"].append([name, number])
        self._write()

    def _write(self) -> None:
        storage.put(self.folder / MANIFEST, json.dumps(self._manifest).encode())


def _folder(path: Any) -> Path:
    """The folder of an argument `checkpoint`, which is made where it is not there."""
    try:
        folder = file_paths.path(path)
    except (TypeError, ValueError) as error:
        raise type(error)(str(error).replace("path", "checkpoint", 1)) from None
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"checkpoint must name a folder, got the file {str(folder)!r}")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
