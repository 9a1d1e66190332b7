"""Writes pages of docs/reference: `python docs/reference.py`.

All public names, api.md, from their docstrings, and all commands, commands.md, from their options.
"""

import argparse
import inspect
import operator
import re
from pathlib import Path

import fastnn
from fastnn.cli import commands

PAGES = Path(__file__).parent / "reference"
KINDS = {
    "The model": (
        "Model",
        "load",
        "Dense",
        "PReLU",
        "Residual",
        "Scale",
        "LayerNorm",
        "BatchNorm",
        "Embedding",
        "Activation",
    ),
    "Many models": (
        "Population",
        "PopulationHistory",
        "Patience",
        "Halving",
        "fit_groups",
        "GroupModels",
        "GroupModel",
    ),
    "Engines": ("Processes", "Ray"),
    "Losses": ("Huber", "Quantile", "Loss"),
    "Optimizers": (
        "optimizers.Optimizer",
        "SGD",
        "Momentum",
        "Adam",
        "AdamW",
        "Nadam",
        "RMSprop",
        "Adagrad",
        "Lion",
        "Rprop",
        "LBFGS",
        "LevenbergMarquardt",
    ),
    "Learning rates": (
        "StepDecay",
        "ExponentialDecay",
        "InverseScaling",
        "CosineDecay",
        "OneCycle",
        "RateFunction",
        "find_learning_rate",
    ),
    "Callbacks": ("EarlyStopping", "ReduceOnPlateau", "ModelCheckpoint", "CSVLogger", "TimeLimit", "TargetReached"),
    "Metrics and history": ("Metric", "History", "DivergenceError"),
    "Data": ("Stream", "standardize", "load_idx", "load_digits", "one_hot", "windows"),
    "Exports": ("export", "verify"),
    "Predictions in other systems": ("Predictor",),
    "Imports": ("from_torch", "from_onnx", "from_keras", "from_sklearn"),
    "Plots": ("plot_confusion_matrix", "plot_wrong"),
    "scikit-learn's estimators": (
        "TabularClassifier",
        "TabularRegressor",
        "MLPClassifier",
        "MLPRegressor",
        "MLPEnsembleClassifier",
        "MLPEnsembleRegressor",
    ),
    "scikit-learn's searches": (
        "search.GridSearchCV",
        "search.RandomizedSearchCV",
        "search.HalvingRandomSearchCV",
        "search.cross_validate",
        "search.cross_val_predict",
    ),
}
HEAD = """# Public names

Every public name, from its docstring. Written by `make reference`; a test compares.
"""
COMMANDS = """# Commands

Every command of `fastnn` and its options. Written by `make reference`; a test compares.
[The command line](../how-to/command-line.md) shows them at work.
"""
SECTION = re.compile(r"^(\w[\w ]*)\n-+\n", re.M)
ENTRY = re.compile(r"^(\S.*)\n((?: +.*\n)*)", re.M)  # a name, and the lines below it


def signature(value):
    """The call, without annotations: they stand in the docstring in words."""
    try:
        parameters = inspect.signature(value).parameters.values()
    except ValueError:
        return "()"
    kept = [each.replace(annotation=each.empty) for each in parameters if each.name != "self"]
    return str(inspect.Signature(kept))


def section(title, body):
    """A section of a docstring in Markdown: parameters as a list, examples as code."""
    if title == "Examples":
        return f"```pycon\n{body.strip()}\n```"
    items, paragraphs = [], []
    for block in re.split(r"\n\n+", body.strip("\n")):
        if items and not re.search(r"^ |^\S.* : ", block, re.M):  # no lines below a name: it follows the entries
            paragraphs.append(block)
            continue
        for name, below in ENTRY.findall(block + "\n"):
            what = " ".join(below.split())
            first, kind = name.split(" : ", 1) if " : " in name else (name, "")
            first = first.replace("*", r"\*")
            items.append(f"- **{first}**: {kind}{'. ' if kind else ''}{what}".rstrip(" :"))
    return "\n\n".join([f"{title}:", "\n".join(items), *paragraphs])


def rendered(text):
    """A docstring in Markdown."""
    parts = SECTION.split(text.strip())
    return "\n\n".join([parts[0].strip(), *(section(*parts[i : i + 2]) for i in range(1, len(parts), 2))])


def own(value):
    """The public methods and properties of a class, those of fastnn, that have a docstring."""
    for name in dir(value):
        member = inspect.getattr_static(value, name)
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        ours = getattr(function, "__module__", "") or ""
        if not name.startswith(("_", "on_")) and ours.startswith("fastnn") and inspect.getdoc(function):
            yield name, member, function


def entry(name, value):
    """A public name: its call, what it is, and the methods of a class."""
    lines = [f"### {name}", f"`fastnn.{name}{signature(value)}`", rendered(inspect.getdoc(value))]
    if inspect.isclass(value):
        for method, member, function in own(value):
            call = "" if isinstance(member, property) else signature(function)
            lines += [f"#### {name}.{method}", f"`{method}{call}`" if call else "", rendered(inspect.getdoc(function))]
    return "\n\n".join(line for line in lines if line)


def api():
    """The page of public names."""
    parts = [HEAD.strip()]
    for kind, names in KINDS.items():
        parts += [f"## {kind}", *(entry(name, operator.attrgetter(name)(fastnn)) for name in names)]
    return "\n\n".join(parts) + "\n"


def value(action):
    """What follows an option, or stands for an argument, in a usage."""
    name = action.metavar or "{" + ",".join(map(str, action.choices or ())) + "}"
    return {0: "", "?": f" [{name}]", "+": f" {name} [{name} ...]"}.get(action.nargs, f" {name}")


def command(name, what, parser):
    """A command: its usage, and a table of its arguments and options."""
    found = [action for action in parser._actions if not isinstance(action, argparse._HelpAction)]
    usage = f"fastnn {name} [OPTIONS]" + "".join(value(action) for action in found if not action.option_strings)
    rows = ["| option | what |", "|---|---|"]
    for action in found:
        calls = [f"{option}{value(action)}" for option in action.option_strings] or [action.metavar]
        shown = ", ".join(f"`{call}`" for call in calls)
        rows.append(f"| {shown} | {action.help} |")
    return "\n\n".join([f"## {name}", f"{what[0].upper()}{what[1:]}.", f"```text\n{usage}\n```", "\n".join(rows)])


def of_commands():
    """The page of commands."""
    parser = commands.parser()
    [all_] = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    parts = [command(each.dest, each.help, all_.choices[each.dest]) for each in all_._choices_actions]
    return "\n\n".join([COMMANDS.strip(), *parts]) + "\n"


TEXTS = {"api.md": api, "commands.md": of_commands}

if __name__ == "__main__":
    for page, text in TEXTS.items():
        (PAGES / page).write_text(text(), encoding="utf-8")
