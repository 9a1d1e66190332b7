"""How fast fastnn trains beside plain NumPy and plain Numba, in SGD.

The two trainers stand in baseline_numpy.py and baseline_numba.py. Each side of each case runs in a child process that
stays alive, and the sides take turns. A round is a whole `fit` of enough epochs to take about 0.3 s, shuffling and
gathering (and fastnn's check of its inputs) included. Before anything is timed, all sides must end with the same
weights from the same start and order.

A ratio is how many times as long the other side takes. "NumPy" is NumPy as installed. Where the CPU has AVX-512,
"avx512" is NumPy with OpenBLAS told to use its kernels for it, for the BLAS builds that do not by themselves.
"""

import json
import sys
from pathlib import Path

from . import cases
from .children import AVX512, QUICK_SAMPLES, QUICK_SECONDS, ROUND_SECONDS, measure, numpy_sides, rates
from .machine import print_host
from .markdown import table

ROUNDS = 5
OPTIONS = {
    "--case": cases.case_option(),
    "--threads": {"type": cases.count, "default": 1, "help": "threads of every side (default 1)"},
    "--json": {"type": Path, "metavar": "FILE", "help": "write all that was measured"},
}
HEADER = (
    f"{'case':22} {'fastnn/s':>12} {'GFLOP/s':>8} {'of peak':>8} {'NumPy/s':>12} {'ratio':>7} {'avx512':>7} "
    f"{'Numba/s':>12} {'ratio':>7} {'max diff':>9}"
)


def row(result):
    """One line of the table."""
    rates, ratios = result["samples_per_second"], result["ratio"]
    other = f"{ratios[AVX512]:.2f}" if AVX512 in ratios else "-"
    return (
        f"{result['name']:22} {rates['fastnn']:12,.0f} {result['gflops']:8.1f} {result['fraction_of_peak']:8.0%} "
        f"{rates['numpy']:12,.0f} {ratios['numpy']:7.2f} {other:>7} {rates['numba']:12,.0f} {ratios['numba']:7.2f} "
        f"{result['max_difference']:9.1g}"
    )


def peaks(results):
    """The one-core peak in words."""
    found = [peak for result in results for peak in result["peak_gflops"]]
    return f"one-core peak: {min(found):.1f} to {max(found):.1f} GFLOP/s"


def numpy_ratio(result):
    """How many times as long the faster of NumPy's two sides takes."""
    return min(result["ratio"][side] for side in ("numpy", AVX512) if side in result["ratio"])


def figures(results):
    """The table in Markdown, with the faster of NumPy's two sides."""
    head = "network, batch", "fastnn, samples/s", "of the one-core peak", "NumPy, samples/s", "ratio"
    rows = []
    for result in results:
        here, peak = rates(result), f"{result['fraction_of_peak']:.0%}"
        cells = f"{here['fastnn']:,.0f}", peak, f"{here['numpy']:,.0f}", f"{numpy_ratio(result):.2f}"
        rows.append([result["name"], *cells])
    return f"{table(head, rows)}\n\nThe {peaks(results)}. A ratio is the median of the rounds' ratios."


def plain(results):
    """How many times as long as fastnn the plain trainers take, where NumPy loses most first."""
    ordered = sorted(results, key=numpy_ratio, reverse=True)
    rows = [[each["name"], f"{numpy_ratio(each):.1f}", f"{each['ratio']['numba']:.1f}"] for each in ordered]
    return table(["network, batch", "NumPy", "Numba"], rows)


ROOFS = {  # {a regime's example: (the regime, its roof)}
    "64-32-10 b1": ("batch of one", "stores of W, and latency"),
    "64-32-10 b8": ("small batches", "multiply-adds, and lanes of the last layer that are empty"),
    "4-24-24-3 b256": ("narrow layers", "multiply-adds, and activations"),
    "784-30-10 b10": ("wide input", "the samples from memory"),
    "784-128-64-10 b128": ("wide layers", "the L2 cache: samples, their copy and W are 1.2 MB"),
    "512-512-512-10 b256": ("very wide", "multiply-adds"),
}
TARGETS_AVX2 = {  # fractions of the peak, with AVX2 code
    "784-30-10 b10": 0.60,
    "784-100-10 b32": 0.70,
    "64-32-10 b1": 0.25,
    "64-32-10 b8": 0.50,
    "64-32-10 b32": 0.55,
    "64-32-10 b200": 0.58,
    "4-24-24-3 b1": 0.12,
    "4-24-24-3 b16": 0.32,
    "4-24-24-3 b256": 0.42,
    "784-128-64-10 b128": 0.82,
    "512-512-512-10 b256": 0.85,
    "8-64-64-4 b64": 0.60,
}


def regimes(results):
    """What each regime reaches, and its roof."""
    of = {result["name"]: f"{result['fraction_of_peak']:.0%}" for result in results}
    rows = [[regime, name, roof, of[name]] for name, (regime, roof) in ROOFS.items() if name in of]
    return table(["regime", "example", "the roof", "of the peak"], rows)


def avx2(results):
    """Speeds and fractions of the peak beside the targets of AVX2 code."""
    rows = []
    for result in results:
        name, fraction = result["name"], f"{result['fraction_of_peak']:.2f}"
        rows.append([name, f"{rates(result)['fastnn']:,.0f}", fraction, TARGETS_AVX2[name]])
    return table(["network, batch", "samples/s", "of the peak", "target"], rows)


FIGURES = {"baselines": figures, "plain": plain, "regimes": regimes, "avx2": avx2}


def run(options):
    """Print the table; write all that was measured, where there is a file to write to. The results of all cases."""
    samples, seconds = (QUICK_SAMPLES, QUICK_SECONDS) if options.quick else (sys.maxsize, ROUND_SECONDS)
    host = print_host()
    print(f"threads: {options.threads}, rounds: {options.rounds}; /s is samples a second, peak that of one core\n")
    print(HEADER, flush=True)
    sides, results = ["fastnn", *numpy_sides(), "numba"], []
    for case in cases.chosen(options.case):
        results.append(measure(case.cut(samples), sides, options.threads, options.rounds, seconds))
        print(row(results[-1]), flush=True)
    print(f"\n{peaks(results)}; BLAS: {results[-1]['blas']}")
    if options.json:
        content = {"machine": host, "threads": options.threads, "rounds": options.rounds, "cases": results}
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    return results
