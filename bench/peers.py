"""How fast fastnn trains and predicts beside other packages.

Everything is measured as in `baselines`. `python -m bench readme` writes the tables and the picture of the pages.
"""

import json
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

from . import cases, predictors, sides
from .children import AVX512, QUICK_SAMPLES, QUICK_SECONDS, ROUND_SECONDS, measure, numpy_sides, rates
from .machine import print_host
from .markdown import bold_best, line, table
from .sides import LABELS

ROUNDS = 5
OPTIONS = {
    "--case": cases.case_option(cases.CASES, cases.PREDICTED),
    "--threads": {"type": cases.count, "help": "threads of every side (default 1, then 2)"},
    "--json": {"type": Path, "metavar": "FILE", "help": "write all that was measured"},
}
PACKAGES = ("jax", "jaxlib", "torch", "onnxruntime", "onnx", "scikit-learn")
# Of the short table and the picture: small networks first. The two widest are those where there is least to win.
SHORT = (
    "4-24-24-3 b16",
    "64-32-10 b1",
    "64-32-10 b32",
    "784-30-10 b10",
    "784-128-64-10 b128",
    "512-512-512-10 b256",
)
COLORS = {
    "fastnn": "#c8323c",
    "jax": "#2b5d8c",
    "torch": "#6fa8c9",
    "sklearn": "#9a9a9a",
    "numpy": "#cfcfcf",
}


def available(registry):
    """The sides of a registry whose package is installed, in the order of LABELS; names the others."""
    found = []
    for side in LABELS:
        package = getattr(registry.get(side), "package", "numpy")
        if find_spec(package) is None:
            print(f"{side}: skipped, {package} is not installed")
        elif side in registry:
            found += numpy_sides() if side == "numpy" else [side]
    return found


def best(result):
    """How many times as fast as the best peer fastnn is, and which that is."""
    side = min(result["ratio"], key=result["ratio"].get)
    return f"{result['ratio'][side]:.2f} ({LABELS['numpy' if side == AVX512 else side]})"


def row(result, columns):
    """The cells of a line: samples a second, or the microseconds of a call with one row."""
    one = result["name"].endswith(", 1 row")
    cells = [f"{1e6 / rate:,.1f} us" if one else f"{rate:,.0f}" for rate in map(rates(result).get, columns)]
    return [result["name"], *cells, best(result)]


def head(columns, kind):
    """The words above a table."""
    unit = {"training": "samples/s", "inference": "rows/s, or time of a call"}[kind]
    return [unit, *(LABELS[side] for side in columns), "ratio to the best"]


def columns_of(results):
    """The sides that were measured, in the order of LABELS."""
    return [side for side in LABELS if side in results[0]["samples_per_second"]]


def all_rows(content):
    """Every table, and the versions of the packages."""
    parts = []
    for kind in ("training", "inference"):
        for threads, results in content[kind].items():
            columns = columns_of(results)
            lines = table(head(columns, kind), [row(result, columns) for result in results])
            parts += [f"{kind.capitalize()}, {threads} thread{'s' * (threads != '1')}:", lines]
    host = content["machine"]
    versions = [f"{name} {host[name]}" for name in host if name not in ("cpu", "cpus", "system", "python")]
    software = f"{host['system']}, Python {host['python']}, {', '.join(versions)}."
    return "\n\n".join([*parts, textwrap.fill(software, 118, break_on_hyphens=False)])


def short(content):
    """[(name, {side: samples/s}, ratio to the best)] of the cases in SHORT, PyTorch's two sides as one."""
    found = {result["name"]: result for result in next(iter(content["training"].values()))}
    rows = []
    for name in [name for name in SHORT if name in found]:
        of_case = rates(found[name])
        of_case["torch"] = max((of_case[side] for side in ("torch", "torch-compile") if side in of_case), default=None)
        rows.append((name, {side: of_case[side] for side in COLORS if of_case.get(side)}, best(found[name])))
    return rows


def speed(content):
    """The table of README.md, in thousands of samples a second, and its picture."""
    rows = short(content)
    columns = list(rows[0][1])
    lines = [
        [name, *bold_best([f"{rates[side] / 1e3:,.0f}" for side in columns], list(rates.values())), ratio]
        for name, rates, ratio in rows
    ]
    words = ["layers, batch", *(LABELS[side].replace("torch", "PyTorch") for side in columns), "beside the best other"]
    return (
        "![Samples a second in training: fastnn and other packages](docs/images/peers.svg)\n\n"
        "Training with one thread, thousands of samples a second. 784-30-10 b10 has 784 inputs, 30 hidden neurons, 10 "
        "outputs and\nbatches of 10 samples:\n\n"
        f"{table(words, lines)}"
    )


def draw(content, file):
    """Samples a second of each side in the cases of SHORT, as bars on a logarithmic axis; the same bytes each time."""
    if not find_spec("matplotlib"):
        print(f"{file}: skipped, matplotlib is not installed")
        return
    import matplotlib
    from matplotlib.figure import Figure

    rows = short(content)
    columns = list(rows[0][1])
    height = 0.8 / len(columns)
    with matplotlib.rc_context({"svg.hashsalt": "fastnn", "svg.fonttype": "none", "font.size": 10}):
        figure = Figure(figsize=(7.5, 0.62 * len(rows) + 0.9), layout="constrained", facecolor="white")
        ax = figure.subplots()
        for i, side in enumerate(columns):
            places = [n + (i + 0.5) * height - 0.4 for n in range(len(rows))]
            label = LABELS[side].replace("torch", "PyTorch")
            ax.barh(places, [rates[side] for _, rates, _ in rows], height * 0.92, label=label, color=COLORS[side])
        lowest = min(rate for _, rates, _ in rows for rate in rates.values())
        ax.set(xscale="log", xlim=(lowest / 2, None), xlabel="samples a second in training, one thread")
        ax.set_yticks(range(len(rows)), [name for name, _, _ in rows])
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.tick_params(axis="y", length=0)
        ax.minorticks_off()
        ax.grid(axis="x", color="#dddddd", linewidth=0.6)
        ax.set_axisbelow(True)
        ax.spines[["top", "right", "left"]].set_visible(False)
        figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=len(columns), frameon=False)
        figure.savefig(file, format="svg", metadata={"Date": None})


FIGURES = {"peers": all_rows, "speed": speed}
PICTURES = {"speed": ("docs/images/peers.svg", draw)}


def run(options):
    """Measure all cases with each number of threads, and print as it goes; all that was measured."""
    samples, seconds = (QUICK_SAMPLES, QUICK_SECONDS) if options.quick else (sys.maxsize, ROUND_SECONDS)
    host = print_host([name for name in PACKAGES if find_spec(name.replace("scikit-learn", "sklearn"))])
    content = {"machine": host, "rounds": options.rounds, "training": {}, "inference": {}}
    for kind, registry, every in (("training", sides, cases.CASES), ("inference", predictors, cases.PREDICTED)):
        names, chosen = available(registry.SIDES), cases.chosen(options.case, every)
        for threads in ([options.threads] if options.threads else [1, 2]) if chosen else []:
            results = content[kind][str(threads)] = []
            columns = [side for side in names if side != AVX512]
            print(f"\n{kind}, threads: {threads}\n{table(head(columns, kind))}", flush=True)
            for case in chosen:
                results.append(measure(case.cut(samples), names, threads, options.rounds, seconds))
                print(line(row(results[-1], columns)), flush=True)
    if options.json:
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    return content
