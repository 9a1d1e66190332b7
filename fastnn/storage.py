"""Models in safetensors files: one unpadded tensor an array, the architecture in the header."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FORMAT_VERSION = 1


def write(path: Path, description: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> None:
    """Write the file beside its place and move it there, so that it is never half written."""
    from safetensors.numpy import save as to_bytes

    header = {"format": "fastnn", "format_version": str(FORMAT_VERSION), "model": json.dumps(description)}
    content = to_bytes({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, metadata=header)
    if path.is_dir():
        raise IsADirectoryError(f"path must name a file, got the folder {str(path)!r}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path must lie in a folder that exists, got {str(path)!r}")
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, suffix=".tmp", delete=False) as temporary:
        try:
            temporary.write(content)
            temporary.close()
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(temporary.name, 0o666 & ~umask)  # as open() would have made it
            os.replace(temporary.name, path)
        except BaseException:
            Path(temporary.name).unlink(missing_ok=True)
            raise


def read(path: Path) -> tuple[str, dict[str, NDArray[Any]]]:
    """(description as JSON, tensors) of a file; raises where it is not one of ours."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileNotFoundError(f"path must name a model file, got {str(path)!r}, which is not a file")
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            names = file.keys() if header.get("format") == "fastnn" else ()  # others may hold types NumPy lacks
            tensors: dict[str, Any] = {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise ValueError(f"path must name a whole safetensors file, got {str(path)!r}: {error}") from None
    if header.get("format") != "fastnn":
        raise ValueError(f"path must name a file that Model.save wrote, got {str(path)!r} without fastnn's header")
    if header.get("format_version") != str(FORMAT_VERSION):
        raise ValueError(
            f"path must name a file of format version {FORMAT_VERSION}, "
            f"got {str(path)!r} of version {header.get('format_version')!r}"
        )
    if "model" not in header:
        raise ValueError(f"path must name a consistent model file, got {str(path)!r}: 'model'")
    return header["model"], tensors
