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
from .children import AVX512, QUICK_SAMPLES, QUICK_SECONDS, ROUND_SECONDS, measure, numpy_sides
from .machine import print_host

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


def run(options):
    """Print the table; write all that was measured, where there is a file to write to."""
    samples, seconds = (QUICK_SAMPLES, QUICK_SECONDS) if options.quick else (sys.maxsize, ROUND_SECONDS)
    host = print_host()
    print(f"threads: {options.threads}, rounds: {options.rounds}; /s is samples a second, peak that of one core\n")
    print(HEADER, flush=True)
    sides, results = ["fastnn", *numpy_sides(), "numba"], []
    for case in cases.chosen(options.case):
        results.append(measure(case.cut(samples), sides, options.threads, options.rounds, seconds))
        print(row(results[-1]), flush=True)
    peaks = [peak for result in results for peak in result["peak_gflops"]]
    print(f"\none-core peak: {min(peaks):.1f} to {max(peaks):.1f} GFLOP/s; BLAS: {results[-1]['blas']}")
    if options.json:
        content = {"machine": host, "threads": options.threads, "rounds": options.rounds, "cases": results}
        options.json.write_text(json.dumps(content, indent=1) + "\n")
