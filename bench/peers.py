"""How fast fastnn trains and predicts beside other packages, and what README.md and docs/ show of it.

Everything is measured as in `baselines`. What is complete goes into the checkout: docs/peers.json,
docs/images/peers.svg and the tables of README.md.
"""

import json
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

from . import cases, predictors, sides
from .children import AVX512, QUICK_SAMPLES, QUICK_SECONDS, ROUND_SECONDS, measure, numpy_sides
from .machine import print_host
from .sides import LABELS

ROUNDS = 5
OPTIONS = {
    "--case": cases.case_option(cases.CASES, cases.PREDICTED),
    "--threads": {"type": cases.count, "help": "threads of every side (default 1, then 2)"},
    "--out": {"type": Path, "metavar": "DIR", "help": "write there, not into docs/ and README.md"},
}
ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- peers:begin -->\n", "<!-- peers:end -->"
COLORS = ("#d1495b", "#30638e", "#7fb7be", "#00798c", "#b8a13a", "#8d8d8d")
PACKAGES = ("jax", "jaxlib", "torch", "onnxruntime", "onnx", "scikit-learn")
NOTE = (
    "Float32; training is SGD, sigmoid, quadratic cost. Peers train on batches made ahead, fastnn and NumPy shuffle "
    "and gather. Each peer runs in the fastest of the ways that `bench/sides.py` and `bench/predictors.py` try; NumPy "
    "is the faster of its OpenBLAS as installed and told to use AVX-512. scikit-learn's last layer is linear in "
    "training; the weights of all others, and all outputs, are compared. Medians of rounds in turn, each side in its "
    "own process."
)


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


def rates(result):
    """Samples a second by column; NumPy's is the better of its two."""
    found = dict(result["samples_per_second"])
    if AVX512 in found:
        found["numpy"] = max(found["numpy"], found.pop(AVX512))
    return found


def best(result):
    """How many times as fast as the best peer fastnn is, and which that is."""
    side = min(result["ratio"], key=result["ratio"].get)
    return f"{result['ratio'][side]:.2f} ({LABELS['numpy' if side == AVX512 else side]})"


def row(result, columns):
    """A line of a table: samples a second, or the microseconds of a call with one row."""
    one = result["name"].endswith(", 1 row")
    cells = [f"{1e6 / rate:,.1f} us" if one else f"{rate:,.0f}" for rate in map(rates(result).get, columns)]
    return f"| {' | '.join([result['name'], *cells, best(result)])} |"


def header(columns, kind):
    """The first two lines of a table."""
    unit = {"training": "samples/s", "inference": "rows/s, or time of a call"}[kind]
    names = [unit, *(LABELS[side] for side in columns), "ratio to the best"]
    return f"| {' | '.join(names)} |\n|{'---|' * len(names)}"


def columns_of(results):
    """The sides that were measured, in the order of LABELS."""
    return [side for side in LABELS if side in results[0]["samples_per_second"]]


def text(content):
    """What README.md has between its markers: the tables and where they come from."""
    parts = []
    for kind in ("training", "inference"):
        for threads, results in content[kind].items():
            columns = columns_of(results)
            lines = [header(columns, kind), *(row(result, columns) for result in results)]
            parts += [f"{kind.capitalize()}, {threads} thread{'s' * (threads != '1')}:", "\n".join(lines)]
    host = dict(content["machine"])
    cpu, cpus, system, python = (host.pop(key) for key in ("cpu", "cpus", "system", "python"))
    versions = ", ".join(f"{name} {number}" for name, number in host.items())
    command = f"`python -m bench peers --rounds {content['rounds']}`".replace(" ", "\N{NO-BREAK SPACE}")
    where = f"{cpu} ({cpus} CPUs), {system}, Python {python}, {versions}; {command}."
    notes = (textwrap.fill(note, 118, break_on_hyphens=False) for note in (NOTE, where))
    return "\n\n".join([*parts, *notes]).replace("\N{NO-BREAK SPACE}", " ") + "\n"


def replace_block(page, block):
    """The page with another text between its markers."""
    start = page.index(BEGIN) + len(BEGIN)
    return page[:start] + block + page[page.index(END, start) :]


def draw(results, file):
    """Samples a second of each side in each case, as bars on a logarithmic axis; the same bytes each time."""
    import matplotlib
    from matplotlib.figure import Figure

    columns = columns_of(results)
    height = 0.8 / len(columns)
    with matplotlib.rc_context({"svg.hashsalt": "fastnn", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(8, 0.6 * len(results) + 1.2), layout="constrained")
        ax = figure.subplots()
        for i, side in enumerate(columns):
            places = [n + (i + 0.5) * height - 0.4 for n in range(len(results))]
            values = [rates(result)[side] for result in results]
            ax.barh(places, values, height, label=LABELS[side], color=COLORS[i % len(COLORS)])
        lowest = min(value for result in results for value in rates(result).values())
        ax.set(xscale="log", xlim=(lowest / 2, None), xlabel="samples a second in training")
        ax.set_yticks(range(len(results)), [result["name"] for result in results])
        ax.set_ylim(len(results) - 0.5, -0.5)
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="x", color="#dddddd", linewidth=0.6)
        ax.set_axisbelow(True)
        ax.spines[["top", "right", "left"]].set_visible(False)
        figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=len(columns), frameon=False)
        figure.savefig(file, format="svg", metadata={"Date": None})


def write(content, target):
    """peers.json, peers.svg and the tables: into docs/ and README.md of the checkout, or into another folder."""
    folder = target / "docs" if target == ROOT else target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "peers.json").write_text(json.dumps(content, indent=1) + "\n")
    if not find_spec("matplotlib"):
        print("peers.svg: skipped, matplotlib is not installed")
    elif content["training"]:
        draw(next(iter(content["training"].values())), (folder / "images" if target == ROOT else folder) / "peers.svg")
    if target == ROOT:
        page = ROOT / "README.md"
        page.write_text(replace_block(page.read_text(encoding="utf-8"), text(content)), encoding="utf-8")
    else:
        (folder / "peers.md").write_text(text(content), encoding="utf-8")


def run(options):
    """Measure all cases with each number of threads; print as it goes, then write where there is a target."""
    samples, seconds = (QUICK_SAMPLES, QUICK_SECONDS) if options.quick else (sys.maxsize, ROUND_SECONDS)
    host = print_host([name for name in PACKAGES if find_spec(name.replace("scikit-learn", "sklearn"))])
    content = {"machine": host, "rounds": options.rounds, "training": {}, "inference": {}}
    for kind, registry, table in (("training", sides, cases.CASES), ("inference", predictors, cases.PREDICTED)):
        names, chosen = available(registry.SIDES), cases.chosen(options.case, table)
        for threads in ([options.threads] if options.threads else [1, 2]) if chosen else []:
            results = content[kind][str(threads)] = []
            columns = [side for side in names if side != AVX512]
            print(f"\n{kind}, threads: {threads}\n{header(columns, kind)}", flush=True)
            for case in chosen:
                results.append(measure(case.cut(samples), names, threads, options.rounds, seconds))
                print(row(results[-1], columns), flush=True)
    complete = not (options.quick or options.case)
    if target := options.out or (ROOT if complete else None):
        write(content, target)
