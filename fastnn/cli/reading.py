"""Tables of files as frames of pandas: CSV, Parquet and .npy. What a file is follows from its first bytes."""

from __future__ import annotations

import gzip
import io
import re
import sys
import warnings
import zlib
from typing import Any

import numpy as np

from .failures import Failure, say

PARQUET, NPY, GZIP = b"PAR1", b"\x93NUMPY", b"\x1f\x8b"
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?)?")
MOST_LABELS = 20  # different numbers that are labels
_NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*")


def pandas() -> Any:
    """The package, or a failure that says how to get it."""
    try:
        import pandas as found
    except ImportError:
        raise Failure('tables are read by pandas: pip install "fastnn-numba[tables]"') from None
    return found


def name_of(path: str) -> str:
    """What messages call a file."""
    return "standard input" if path == "-" else path


def content_of(path: str) -> bytes:
    """The bytes of a file, or of standard input for "-"."""
    if path == "-":
        return sys.stdin.buffer.read()
    with open(path, "rb") as file:
        return file.read()


def frame_of(content: bytes, path: str, separator: str | None = None) -> Any:
    """The table (rows, columns) in a file's bytes. All its columns have names, which are text and differ.

    A column of text is one of dates where all of it is of dates of ISO 8601. Numbers that a .npy file has without names
    are columns "x0", "x1" and so on. Raises `Failure` for bytes that are no table.
    """
    name, pd = name_of(path), pandas()
    if content.startswith(GZIP):
        content = _unpacked(content, name)
    if content.startswith(PARQUET):
        found = _parquet(content, name, pd)
    elif content.startswith(NPY):
        found = _npy(content, name, pd)
    else:
        found = _csv(content, name, separator or ("\t" if path.endswith((".tsv", ".tab")) else ","), pd)
    if not len(found.columns) or not len(found):
        raise Failure(f"{name} must hold at least one row and one column, got {len(found)} rows")
    return _with_dates(found, pd)


def _unpacked(content: bytes, name: str) -> bytes:
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise Failure(f"{name} must be a gzip file: {error}") from None


def _csv(content: bytes, name: str, separator: str, pd: Any) -> Any:
    separator = "\t" if separator == "\\t" else separator  # as messages and shells have it
    if len(separator) != 1:
        raise Failure(f"--separator must be one character, got {separator!r}")
    how = {"sep": separator, "encoding": "utf-8-sig"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # a row with more fields than the first
            header = pd.read_csv(io.BytesIO(content), header=None, nrows=1, dtype=str, **how)
            found = pd.read_csv(io.BytesIO(content), index_col=False, low_memory=False, **how)
    except UnicodeDecodeError as error:
        raise Failure(f"{name} must be text in UTF-8, got the byte {error.object[error.start]:#04x}") from None
    except (ValueError, pd.errors.ParserWarning) as error:
        raise Failure(f"{name} must be a CSV file with a row of names{_other(content, separator)}: {error}") from None
    labels = header.iloc[0].tolist()
    if len(labels) == 1 and (hint := _other(content, separator)):
        say(f"warning: {name} has one column{hint}")
    if twice := [each for each in labels if isinstance(each, str) and labels.count(each) > 1]:
        raise Failure(f"{name} must have columns of different names, got {twice[0]!r} twice")
    if all(isinstance(each, str) and _NUMBER.fullmatch(each) for each in labels):
        say(f"warning: the first row of {name} is taken for the names of the columns, and all of it are numbers")
    if unnamed := [i for i, each in enumerate(labels) if not isinstance(each, str)]:
        say(f"columns without a name are left out: number {', '.join(map(str, unnamed))} of {name}, counted from 0")
        found = found.drop(columns=found.columns[unnamed])
    return found


def _other(content: bytes, separator: str) -> str:
    """What to say of another separator that stands in the first line, where the separator does not."""
    first = content.split(b"\n", 1)[0].decode("utf-8", "replace")
    found = None if separator in first else next((each for each in ";\t|," if each in first), None)
    return "" if found is None else f" (its first line has {found!r}: --separator {found!r} reads that)"


def _with_dates(frame: Any, pd: Any) -> Any:
    """A frame whose columns of dates as text are columns of dates."""
    for label in frame.columns:
        if pd.api.types.is_string_dtype(frame[label].dtype):
            texts = frame[label].dropna()
            if len(texts) and all(type(each) is str and _DATE.fullmatch(each) for each in texts):
                try:
                    frame[label] = pd.to_datetime(frame[label], format="ISO8601")
                except ValueError:  # the 31st of February
                    continue
    return frame


def _parquet(content: bytes, name: str, pd: Any) -> Any:
    try:
        found = pd.read_parquet(io.BytesIO(content), engine="pyarrow")
    except ImportError:
        raise Failure('Parquet files are read by pyarrow: pip install "fastnn-numba[tables]"') from None
    except (OSError, ValueError) as error:
        raise Failure(f"{name} must be a Parquet file: {error}") from None
    found.columns = [str(each) for each in found.columns]
    return found.reset_index(drop=True)


def _npy(content: bytes, name: str, pd: Any) -> Any:
    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise Failure(f"{name} must be a .npy file of numbers: {error}") from None
    if array.dtype.names is not None and array.ndim == 1:
        return pd.DataFrame({label: array[label] for label in array.dtype.names})
    if array.ndim != 2:
        raise Failure(f"{name} must hold an array (rows, columns), got shape {array.shape}")
    return pd.DataFrame(array, columns=[f"x{i}" for i in range(array.shape[1])])


# ---- columns ----


def first_text(column: Any) -> tuple[str, int] | None:
    """(text, its row) where most values of a column of text are numbers, and many of them differ; else None."""
    if column.dtype.kind in "biufmM":
        return None
    texts = column.dropna().astype(str)
    others = texts[pandas().to_numeric(texts, errors="coerce").isna()]
    if not len(others) or 2 * len(others) > len(texts) or texts.nunique() <= MOST_LABELS:
        return None
    return others.iloc[0], int((column.astype(str) == others.iloc[0]).to_numpy().argmax())


def check_columns(frame: Any, wanted: Any, name: str, what: str) -> None:
    """Raise where a table lacks a column."""
    for label in wanted:
        if label not in frame.columns:
            there = ", ".join(map(repr, frame.columns[:20])) + (" .." if len(frame.columns) > 20 else "")
            raise Failure(f"{name} has no column {label!r}, {what}; its columns are {there}")


def check_complete(frame: Any, label: Any, name: str) -> None:
    """Raise where a column lacks a value."""
    gaps = frame[label].isna().to_numpy()
    if gaps.any():
        raise Failure(f"column {label!r} of {name} has no value in row {int(gaps.argmax())}, counted from 0")


def matrix(frame: Any, labels: list[Any], name: str) -> Any:
    """Columns as numbers, (rows, columns) float64; raises where a value is missing or no number."""
    out = np.empty((len(frame), len(labels)))
    for j, label in enumerate(labels):
        check_complete(frame, label, name)
        if isinstance(frame[label].dtype, np.dtype) and frame[label].dtype.kind in "biuf":
            out[:, j] = frame[label].to_numpy()
            continue
        for i, value in enumerate(frame[label].tolist()):
            try:
                out[i, j] = float(value)
            except (TypeError, ValueError):
                told = f"column {label!r} of {name} must hold numbers, got {value!r} in row {i}, counted from 0"
                raise Failure(told) from None
    return out
