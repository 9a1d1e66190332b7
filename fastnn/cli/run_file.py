"""The options of a run as a TOML file, from which the run can be repeated."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from typing import Any

from .. import __version__
from .commands import parser, usage
from .failures import Failure

# The options that a file may hold, in its order. Names of columns are lists of text, hidden is a list of integers.
PATHS, NAMES = ("data", "output", "report"), ("categorical", "numeric", "drop")
KEYS = ("data", "separator", "target", "task", "output", "report", *NAMES, "hidden", "epochs", "max_time", "cv", "seed")
NOTES = ("version", "sha256")  # what a run notes for the reader
DEFAULTS = {"output": "model.safetensors", "cv": 5, "seed": 0}


def merged(options: argparse.Namespace) -> argparse.Namespace:
    """Options in which those that are not given come from the file of --config, and else are the defaults.

    `noted` is what the file notes of the run that wrote it. Paths in a file are relative to its folder. Raises
    `Failure` for a file that cannot be read or holds other keys. A value that the option refuses ends the program.
    """
    found = argparse.Namespace(**vars(options), noted={})
    sources: list[Mapping[str, Any]] = [DEFAULTS]
    if options.config is not None:
        from_file = _read(options.config)
        found.noted = {key: from_file.pop(key) for key in NOTES if key in from_file}
        sources.insert(0, _options(from_file, options.config))
    for source in sources:
        for key, value in source.items():
            if getattr(found, key) is None:
                setattr(found, key, value)
    for key, what in (("data", "the table"), ("target", "the column to predict")):
        if getattr(found, key) is None:
            raise usage(f"{'DATA' if key == 'data' else '--target'} must be given, {what}")
    return found


def _read(path: str) -> dict[str, Any]:
    import tomllib

    try:
        with open(path, "rb") as file:
            found = tomllib.load(file)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Failure(f"{path} must be a TOML file: {error}") from None
    for key in found:
        if key not in KEYS + NOTES:
            raise Failure(f"{path} must have keys among {', '.join(KEYS)}, got {key!r}")
    return found


def _options(found: dict[str, Any], path: str) -> dict[str, Any]:
    """The options that the keys of a file stand for, each read as the option of that name is."""
    arguments, lists = [], {}
    for key, value in found.items():
        if key in NAMES:
            if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
                raise Failure(f"{key} in {path} must be a list of names, got {value!r}")
            lists[key] = value
            continue
        if isinstance(value, list) and key == "hidden":
            value = ",".join(map(str, value))
        if isinstance(value, (bool, list, dict)):
            raise Failure(f"{key} in {path} must be text or a number, got {value!r}")
        if key in PATHS and value != "-":
            value = os.path.normpath(os.path.join(os.path.dirname(path), str(value)))
        arguments += ["--", str(value)] if key == "data" else [f"--{key.replace('_', '-')}={value}"]
    if "--" in arguments:  # positional arguments stand last
        i = arguments.index("--")
        arguments = arguments[:i] + arguments[i + 2 :] + arguments[i : i + 2]
    parsed = parser().parse_args(["train", *arguments])
    return {key: getattr(parsed, key) for key in found if key not in lists} | lists


def written(settings: argparse.Namespace, sha256: str, path: str) -> str:
    """The text of a file at a path, which repeats a run with data of this checksum."""
    lines = [f"# fastnn train --config {os.path.basename(path)} repeats this run."]
    lines += [f"version = {_toml(__version__)}", f"sha256 = {_toml(sha256)}  # of the data"]
    for key in KEYS:
        value = getattr(settings, key)
        if value is None or value == []:
            continue
        if key in PATHS and value != "-":
            value = _relative(value, os.path.dirname(os.path.abspath(path)))
        lines.append(f"{key} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def _relative(path: str, folder: str) -> str:
    try:
        return os.path.relpath(path, folder).replace(os.sep, "/")
    except ValueError:  # another drive
        return os.path.abspath(path)


def _toml(value: Any) -> str:
    """A value of text, numbers or a list of them in TOML, whose strings take JSON's escapes."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return repr(value)
