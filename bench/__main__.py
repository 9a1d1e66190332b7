"""`python -m bench`: fastnn against plain NumPy, one training step of SGD after another.

Each side of each case runs in a child process that stays alive, and the sides take turns, so that a machine that
slows down slows both. A round is a whole `fit` of enough epochs to take about 0.3 s, shuffling and gathering (and
fastnn's check of its inputs) included; figures are medians over rounds. Before anything is timed, all sides must
end with the same weights from the same start and order.

The ratio, the median of the rounds' ratios, compares with NumPy as installed. Where the CPU has AVX-512,
"numpy-avx512" is NumPy with OpenBLAS told to use its kernels for it, for the BLAS builds that do not by themselves.

`python -m bench --peers` measures other packages in the same way, with one and two threads, and inference too; see
`report`, `peers` and `inference`. `python -m bench --sklearn` times the estimators; see `estimators`. `python -m
bench --training` shows what each activation, loss and optimizer costs; see `training`. `--isa avx2`, with any of them,
measures AVX2 code of all packages, and its peak, on a CPU that has more.
"""

import argparse
import json
import os
import sys
from pathlib import Path

from . import inference, report
from .cases import CASES
from .measuring import AVX512, ISAS, QUICK_SAMPLES, QUICK_SECONDS, ROUND_SECONDS, machine, measure, numpy_sides


def row(result):
    """One line of the table."""
    rates, ratios = result["samples_per_second"], result["ratio"]
    other = f"{ratios[AVX512]:.2f}" if AVX512 in ratios else "-"
    return (
        f"{result['name']:22} {rates['fastnn']:12,.0f} {result['gflops']:8.1f} {result['fraction_of_peak']:8.0%} "
        f"{rates['numpy']:12,.0f} {ratios['numpy']:7.2f} {other:>13} {result['max_difference']:9.1g}"
    )


HEADER = (
    f"{'case':22} {'fastnn/s':>12} {'GFLOP/s':>8} {'of peak':>8} {'NumPy/s':>12} {'ratio':>7} "
    f"{'ratio avx512':>13} {'max diff':>9}"
)


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m bench", description="Time fastnn against plain NumPy.")
    names = [case.name for case in CASES]
    parser.add_argument("--case", nargs="+", action="extend", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--threads", type=int, help="threads of every library (default 1; with --peers 1, then 2)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds to take medians over (default 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured")
    parser.add_argument("--quick", action="store_true", help="few samples, short rounds: shows that it works")
    parser.add_argument("--peers", action="store_true", help="against other packages too, inference included")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="with --peers: write there, not into docs/ and README.md"
    )
    parser.add_argument("--sklearn", action="store_true", help="the estimators against scikit-learn's")
    parser.add_argument("--training", action="store_true", help="what each activation, loss and optimizer costs")
    parser.add_argument("--mnist", metavar="DIR", help="with --sklearn: MNIST's IDX files, for one more case")
    parser.add_argument("--isa", choices=ISAS, help="the largest instruction set of all packages")
    options = parser.parse_args(arguments)
    if options.isa and not ISAS[options.isa].items() <= os.environ.items():  # libraries read these when they load
        os.environ |= ISAS[options.isa]
        os.execv(sys.executable, [sys.executable, "-m", "bench", *(sys.argv[1:] if arguments is None else arguments)])
    if (options.threads is not None and options.threads < 1) or options.rounds < 1:
        parser.error("--threads and --rounds must be at least 1")
    if options.json and options.peers:
        parser.error("--peers writes to --out DIR")
    samples, seconds = (QUICK_SAMPLES, QUICK_SECONDS) if options.quick else (sys.maxsize, ROUND_SECONDS)
    chosen = [case.cut(samples) for case in CASES if case.name in (options.case or names)]
    try:
        if options.sklearn:
            from . import estimators

            estimators.run(options.rounds, options.mnist, options.quick)
        elif options.training:
            from . import training

            training.run(options.rounds, options.quick)
        elif options.peers:
            rows = [case.cut(samples) for case in inference.CASES]
            counts = [options.threads] if options.threads else [1, 2]
            report.run(chosen, rows, counts, options.rounds, seconds, _target(options))
        else:
            against_numpy(chosen, options.threads or 1, options.rounds, seconds, options.json)
    except (ArithmeticError, ChildProcessError) as error:
        sys.exit(str(error))


def _target(options):
    """Where --peers writes: into the checkout only what is complete, unless told where."""
    return options.out or (None if options.quick or options.case else report.ROOT)


def against_numpy(cases, threads, rounds, seconds, file):
    """Print the table; write all that was measured, where there is a file to write to."""
    host = machine()
    print("\n".join(f"{key}: {value}" for key, value in host.items()))
    print(f"threads: {threads}, rounds: {rounds}; /s is samples a second, peak that of one core\n")
    print(HEADER, flush=True)
    sides = ["fastnn", *numpy_sides()]
    results = []
    for case in cases:
        results.append(measure(case, sides, threads, rounds, seconds))
        print(row(results[-1]), flush=True)
    peaks = [peak for result in results for peak in result["peak_gflops"]]
    print(f"\none-core peak: {min(peaks):.1f} to {max(peaks):.1f} GFLOP/s; BLAS: {results[-1]['blas']}")
    if file:
        content = {"machine": host, "threads": threads, "rounds": rounds, "cases": results}
        file.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
