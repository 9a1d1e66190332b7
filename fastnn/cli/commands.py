"""The commands and their options. Each command is a module of this folder, which is imported when it runs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from .. import __version__
from .failures import DATA, INTERRUPTED, USAGE, Failure, say, told, warnings_as_lines

CODES = """exit codes:
  0 done, 2 wrong usage, 3 data or a file that cannot be used, 4 a threshold or a verification not met,
  130 Ctrl-C

Results go to standard output, all else to standard error. DATA is a CSV, Parquet or .npy file; - is standard input."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; gives its exit code."""
    options = parser().parse_args(arguments)
    options.arguments = sys.argv[1:] if arguments is None else arguments
    try:
        with warnings_as_lines():
            code: int = import_module(f".{options.command}", __package__).run(options)
            sys.stdout.flush()
            return code
    except Failure as failure:
        say(f"error: {failure}" if failure.code != INTERRUPTED else str(failure))
        return failure.code
    except KeyboardInterrupt:
        say("stopped")
        return INTERRUPTED
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, TypeError, OSError, ImportError, ArithmeticError, MemoryError) as error:
        say(f"error: {told(error)}")
        return DATA


# ---- options ----


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    found = argparse.ArgumentParser(
        prog="fastnn",
        description="Train and run small neural networks on tables.",
        epilog=CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("--version", action="version", version=f"fastnn {__version__}")
    commands = found.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (help_, add) in _COMMANDS.items():
        add(commands.add_parser(name, help=help_, description=f"{help_[0].upper()}{help_[1:]}.", allow_abbrev=False))
    return found


def _train(command: argparse.ArgumentParser) -> None:
    command.add_argument("data", nargs="?", metavar="DATA", help="the table to learn from")
    add = command.add_argument
    add("--target", metavar="COLUMN", help="the column to predict")
    add("--task", choices=("classification", "regression"), help="default: by the values of the target")
    add("-o", "--output", metavar="FILE", type=_ending(".safetensors"), help="the model; default: model.safetensors")
    add(
        "--config",
        metavar="FILE",
        help="a TOML file of options, as a run writes it; an option given here replaces the file's",
    )
    add(
        "--report",
        metavar="FILE",
        nargs="?",
        const="report.html",
        type=_ending(".html"),
        help="write a page about the run; default name: report.html",
    )
    for name, what in (("categorical", "are categories"), ("numeric", "are numbers"), ("drop", "are left out")):
        add(f"--{name}", metavar="COLUMNS", type=_names, help=f"columns that {what}, with commas between them")
    add("--hidden", metavar="UNITS", type=_units, help="the units of each hidden layer, such as 64,32")
    add("--epochs", metavar="N", type=_count(1), help="the most epochs")
    add("--max-time", metavar="SECONDS", type=_seconds, help="about the most that the command trains, folds included")
    add("--cv", metavar="FOLDS", type=_folds, help="folds of the cross-validation; 0 for none; default: 5")
    add("--seed", metavar="N", type=_count(0), help="of all random numbers; default: 0")
    _shared(command)


def _predict(command: argparse.ArgumentParser) -> None:
    _files(command)
    further = command.add_mutually_exclusive_group()
    further.add_argument("--proba", action="store_true", help="the probability of each class too")
    further.add_argument(
        "--interval",
        metavar="COVERAGE",
        type=_coverage,
        help="the ends of intervals too, in which this share of true values lies, such as 0.9; of a TabularRegressor",
    )
    command.add_argument(
        "--keep", metavar="COLUMNS", type=_names, help="of a folder: columns to write beside predictions, such as a key"
    )
    command.add_argument("-o", "--output", metavar="FILE", default="-", help="default: -, standard output")
    _shared(command)


def _evaluate(command: argparse.ArgumentParser) -> None:
    _files(command)
    add = command.add_argument
    add("--target", metavar="COLUMN", help="default: as in training, or the one column that the model does not read")
    for name, what in (("min", "below"), ("max", "above")):
        add(
            f"--{name}",
            metavar="METRIC=VALUE",
            type=_threshold,
            action="append",
            default=[],
            help=f"exit with 4 where the metric is {what} the value",
        )
    _shared(command)


def _info(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="MODEL", help="a file that fastnn saved")
    command.add_argument("--json", action="store_true", help="JSON instead of CSV")


def _export(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("model", metavar="MODEL", help="a file that fastnn saved")
    add("output", metavar="OUT", help="the file to write, which ends in .onnx, .h, .mjs or .py")
    add("--labels", metavar="LABELS", type=_names, help="names of the classes of a network, with commas between them")
    add("--rows", metavar="DATA", help="a table whose first 16 rows are the self test of the file; default: random")
    add("--quantize", choices=["int8"], help="compute with integers, in .h and .onnx; needs --calibrate")
    add("--calibrate", metavar="DATA", help="a table, such as that of training, whose values the integers hold")
    help_ = "which share of its predictions integers must keep, from 0 to 1; default: 0.98"
    add("--least-agreement", metavar="SHARE", type=_share, default=0.98, help=help_)
    add("--separator", metavar="CHARACTER", help="between the fields of a CSV file; default: a comma")
    add("--name", metavar="NAME", help="what functions in the file are called; default: the name of OUT")


NETWORKS = (".onnx", ".keras", ".h5", ".hdf5")  # what files of other systems that `import` reads end in


def _import(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    ends = " or ".join(NETWORKS)
    add(
        "network",
        metavar="IN",
        type=_ending(*NETWORKS),
        help=f"a network of another system, a file that ends in {ends}",
    )
    add("output", metavar="OUT", type=_ending(".safetensors"), help="the model's file")
    add("--activation", metavar="NAME", help="of the outputs, which an ONNX file leaves to its loss, such as softmax")
    add("--loss", metavar="NAME", help="of the model; default: by the activation of the outputs")


def _verify(command: argparse.ArgumentParser) -> None:
    command.add_argument("files", metavar="FILE", nargs="+", help="a file that export wrote. It runs, so trust it")
    command.add_argument("--json", action="store_true", help="JSON instead of CSV")


def _warmup(command: argparse.ArgumentParser) -> None:
    command.add_argument("--dtype", choices=("float32", "float64"), action="append", help="default: both")


def _files(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="MODEL", help="a file that fastnn saved")
    command.add_argument("data", metavar="DATA", help="a table with the columns that the model reads, in any order")


def _shared(command: argparse.ArgumentParser) -> None:
    """The options of all commands that read a table."""
    command.add_argument("--separator", metavar="CHARACTER", help="between the fields of a CSV file; default: a comma")
    command.add_argument("--threads", metavar="N", type=_count(1), help="the most threads")
    command.add_argument("--json", action="store_true", help="JSON instead of CSV")


_COMMANDS: dict[str, tuple[str, Any]] = {
    "train": ("train a model on a table", _train),
    "predict": ("predict the target of each row of a table", _predict),
    "evaluate": ("score a model on a table that has the target", _evaluate),
    "info": ("tell what a file of a model holds", _info),
    "export": ("write a network for another system: ONNX, C, JavaScript or Python", _export),
    "import": ("save a network of another system as a model", _import),
    "verify": ("run exported files: whether they compute what the network computed", _verify),
    "warmup": ("compile the kernels now, so that no later process waits", _warmup),
}


# ---- values of options ----


def _count(low: int) -> Any:
    """A function that reads an integer of at least `low`."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if value < low:
            raise argparse.ArgumentTypeError(f"must be an integer of at least {low}, got {text!r}")
        return value

    return read


def _folds(text: str) -> int:
    value: int = _count(0)(text)
    if value == 1:
        raise argparse.ArgumentTypeError("must be at least 2, or 0 for no cross-validation, got 1")
    return value


def _number(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) < float("inf"):
        raise argparse.ArgumentTypeError(f"must be {what}, got {text!r}")
    return value


def _seconds(text: str) -> float:
    value = _number(text, "a number above 0")
    if value <= 0:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")
    return value


def _coverage(text: str) -> float:
    expected = "a number above 0 and below 1"
    value = _number(text, expected)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"must be {expected}, got {text!r}")
    return value


def _share(text: str) -> float:
    expected = "a number from 0 to 1"
    value = _number(text, expected)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be {expected}, got {text!r}")
    return value


def _units(text: str) -> list[int]:
    return [_count(1)(each) for each in text.split(",")]


def _names(text: str) -> list[str]:
    return [each for each in text.split(",") if each]


def _threshold(text: str) -> tuple[str, float]:
    name, found, value = text.partition("=")
    if not found:
        raise argparse.ArgumentTypeError(f"must be a metric and a value, such as accuracy=0.9, got {text!r}")
    return name, _number(value, "a metric and a number, such as accuracy=0.9")


def _ending(*suffixes: str) -> Any:
    """A function that reads a file's name with one of some suffixes, so that no option replaces a file of data."""

    def read(text: str) -> str:
        if not text.endswith(suffixes):
            raise argparse.ArgumentTypeError(f"must end in {' or '.join(suffixes)}, got {text!r}")
        return text

    return read


def usage(message: str) -> Failure:
    """A failure for options that do not go together."""
    return Failure(message, USAGE)
