"""Models in safetensors files: one unpadded tensor an array, the architecture in the header."""

from __future__ import annotations

import itertools
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _validation

if TYPE_CHECKING:
    from .model import Model

FORMAT_VERSION = 1


def _name(i: int, kind: str) -> str:
    return f"layers.{i}.{kind}"


def save(model: Model, path: Path) -> None:
    """Write the file beside its place and move it there, so that it is never half written."""
    from safetensors.numpy import save as to_bytes

    description = {
        "n_inputs": model.sizes[0],
        "layers": [{"units": layer.units, "activation": layer.activation} for layer in model.layers],
        "loss": model.loss_name,
        "dtype": model.dtype,
        "input_scale": model.input_scale,
        "frozen": sorted(model.frozen),
        "random": int(model._random[0]),
        "split_seed": model._split_seed,
    }
    tensors = {}
    for i, (weights, biases) in enumerate(zip(model.weights, model.biases, strict=True)):
        tensors[_name(i, "weight")] = np.ascontiguousarray(weights)
        tensors[_name(i, "bias")] = np.ascontiguousarray(biases)
    header = {"format": "fastnn", "format_version": str(FORMAT_VERSION), "model": json.dumps(description)}
    content = to_bytes(tensors, metadata=header)
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


def load(path: str | os.PathLike[str]) -> Model:
    """The model that `Model.save` wrote to the file.

    Raises ValueError for a file that is truncated, not safetensors, not fastnn's or of a newer format version, and
    FileNotFoundError.

    Examples
    --------
    >>> import fastnn, tempfile, os
    >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
    >>> fastnn.Model([4, 3], rng=0).save(path)
    >>> fastnn.load(path).sizes
    (4, 3)
    """
    from safetensors import SafetensorError, safe_open

    from .layers import Dense
    from .model import Model

    path = Path(path)
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
    try:
        d = json.loads(header["model"])
        layers = [Dense(layer["units"], layer["activation"]) for layer in d["layers"]]
        sizes = [_validation.integer("n_inputs", d["n_inputs"], 1), *(layer.units for layer in layers)]
        shapes: dict[str, tuple[int, ...]] = {}
        for i, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
            shapes |= {_name(i, "weight"): (fan_out, fan_in), _name(i, "bias"): (fan_out,)}
        if shapes.keys() != tensors.keys():
            raise ValueError(f"its tensors are {sorted(tensors)}, not {sorted(shapes)}")
        for name, tensor in tensors.items():
            if tensor.shape != shapes[name] or tensor.dtype != d["dtype"]:
                raise ValueError(f"{name} is {tensor.dtype} {tensor.shape}, not {d['dtype']} {shapes[name]}")
        architecture: list[int | Dense] = [sizes[0], *layers]
        model = Model(architecture, loss=d["loss"], dtype=d["dtype"], input_scale=d["input_scale"], init="zeros", rng=0)
        for i, (weights, biases) in enumerate(zip(model.weights, model.biases, strict=True)):
            weights[...], biases[...] = tensors[_name(i, "weight")], tensors[_name(i, "bias")]
        model.freeze(d["frozen"])
        model._random[:] = _validation.integer("random", d["random"], 0)
        model._split_seed = _validation.integer("split_seed", d["split_seed"], 0)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"path must name a consistent model file, got {str(path)!r}: {error}") from None
    return model
