"""`fastnn predict` of a folder of Parquet files: as many files of predictions, block by block."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .. import Predictor
from . import answers
from .commands import usage
from .failures import Failure, as_options, say

BLOCK = 65536  # rows


def run(options: Any) -> int:
    """Predict for each file that has no predictions yet; gives the exit code.

    A file appears whole or not at all, so a run that was ended goes on where it is called again.
    """
    folder, out = Path(options.data), Path(options.output)
    if options.output == "-" or (out.exists() and not out.is_dir()):
        raise usage(f"--output must name a folder for the predictions of a folder, got {options.output!r}")
    if options.interval is not None or options.json:
        raise usage("--interval and --json do not go with a folder")
    files = sorted(path.relative_to(folder) for path in folder.rglob("*.parquet"))
    if not files:
        raise Failure(f"{folder} must hold files that end in .parquet, it has none")
    predict = Predictor(answers.loaded(options.model), probabilities=options.proba, threads=options.threads)
    n = 0
    for name in files:
        if (out / name).exists():
            say(f"{out / name} is there")
            continue
        n += _predicted(predict, folder / name, out / name, options.keep or [])
    say(f"{n} rows are predicted in {out}")
    return 0


def _predicted(predict: Predictor, path: Path, target: Path, keep: list[str]) -> int:
    """Write the predictions of a file; gives its number of rows."""
    parquet = _parquet()
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    writer, n = None, 0
    try:
        with parquet.ParquetFile(path) as file:
            inputs = _inputs(predict, file.schema_arrow.names, keep, path)
            for block in file.iter_batches(BLOCK, columns=[*dict.fromkeys([*inputs, *keep])]):
                found = predict.named(predict.answer(predict.inputs_of(block.select(inputs))))
                kept = {name: block[name] for name in keep}
                if taken := found.keys() & kept.keys():
                    raise Failure(f"--keep must not name {sorted(taken)[0]!r}, which predictions are called")
                table = _table({**kept, **found})
                writer = writer or parquet.ParquetWriter(beside, table.schema)
                writer.write_table(table)
                n += len(table)
        if writer is None:
            say(f"{path} has no rows")
            return 0
        writer.close()
        beside.replace(target)
    except (ValueError, TypeError, OSError) as error:
        raise Failure(f"{path}: {as_options(error)}") from None
    finally:
        if writer is not None and writer.is_open:
            writer.close()
        beside.unlink(missing_ok=True)
    return n


def _inputs(predict: Predictor, known: list[str], keep: list[str], path: Path) -> list[str]:
    """The columns of a file that the model reads: where it knows them by position, all that are not kept."""
    if lacking := [name for name in keep if name not in known]:
        raise Failure(f"--keep must name columns of {path}, got {lacking[0]!r}")
    if predict.columns is None:
        return [name for name in known if name not in keep]
    return [str(name) for name in predict.columns]


def _parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise Failure('Parquet files are read by pyarrow: pip install "fastnn-numba[parquet]"') from None
    return pyarrow.parquet


def _table(columns: dict[str, Any]) -> Any:
    import pyarrow

    return pyarrow.table({name: pyarrow.array(each) for name, each in columns.items()})
