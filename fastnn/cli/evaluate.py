"""`fastnn evaluate`."""

from __future__ import annotations

import math
from typing import Any

from .. import Predictor
from . import answers, reading, scores, writing
from .commands import usage
from .failures import THRESHOLD, Failure, as_options, say


def run(options: Any) -> int:
    """Score a model on a table; gives the exit code."""
    model = answers.loaded(options.model)
    name = reading.name_of(options.data)
    frame = reading.frame_of(reading.content_of(options.data), options.data, options.separator)
    target = options.target or _target(model, frame, options.model)
    reading.check_columns(frame, [target], name, "the target")
    reading.check_complete(frame, target, name)
    rest = frame.drop(columns=target)
    try:
        found = answers.answer(model, answers.inputs_of(model, rest, name), options.threads)
    except (ValueError, TypeError) as error:
        raise Failure(f"{name}: {as_options(error)}") from None
    measured = of_answer(found, frame, target, name)
    code = check(measured, options.min, options.max)
    if options.json:
        writing.write(writing.as_json(measured))
    else:
        writing.write(writing.as_csv({"metric": list(measured), "value": list(measured.values())}))
    return code


def of_answer(found: Any, frame: Any, target: Any, name: str) -> dict[str, float]:
    """The scores of predictions for the target in a frame."""
    if found.values.ndim != 1:
        raise Failure(f"a model of one target can be scored, and this one gives {found.values.shape[1]}")
    if found.classes is not None:
        return scores.of_classes(frame[target].to_numpy(), found.values, found.probabilities, found.classes)
    return scores.of_numbers(reading.matrix(frame, [target], name)[:, 0], found.values)


def _target(model: Any, frame: Any, path: str) -> Any:
    """The column that a model predicts: as the file of its run says, or the only one that it does not read."""
    beside = answers.target_beside(path)
    if beside is not None:
        return beside
    targets = getattr(model, "targets", None)
    if isinstance(targets, list) and len(targets) == 1:
        return targets[0]
    read = Predictor(model).columns
    further = [] if read is None else [each for each in frame.columns if each not in read]
    if len(further) != 1:
        raise usage(f"--target must be given: {path} does not say what it predicts, and the table leaves a choice")
    return further[0]


def check(measured: dict[str, float], least: list[tuple[str, float]], most: list[tuple[str, float]]) -> int:
    """The exit code for thresholds; says which are not met. A score that is NaN meets none."""
    code = 0
    for option, thresholds in (("--min", least), ("--max", most)):
        for metric, bound in thresholds:
            if metric not in measured:
                raise usage(f"{option} must name one of the metrics {', '.join(measured)}, got {metric!r}")
            value = measured[metric]
            if math.isnan(value) or (value < bound if option == "--min" else value > bound):
                say(f"{metric} is {value:.6g}, and {option} is {bound:g}")
                code = THRESHOLD
    return code
