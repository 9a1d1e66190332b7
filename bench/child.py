"""One side of one case, in a process of its own: `python -m bench.child SIDE NAME N_SAMPLES`.

Thread counts and BLAS kernels are fixed when libraries load, so each side gets its own process and environment.
It reads commands from standard input and answers each with a line of JSON:

    check FILE   train for the check and save the parameters; {}
    run EPOCHS   {"seconds": ..} for that many epochs
    peak         {"gflops": ..} of one core
    describe     {"blas": ..}, what its BLAS is
"""

import json
import sys
import time

import numpy as np

from .cases import CASES
from .sides import SIDES, trained


def _blas():
    """The kernels that NumPy's BLAS chose, where that can be known."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return "unknown"
    names = [f"{d['internal_api']} {d['version']} {d.get('architecture', '')}" for d in threadpool_info()]
    return names[0].strip() if names else "unknown"


def _answer(trainer, side, case, command, *arguments):
    if command == "check":
        np.save(arguments[0], trained(side, case))
        return {}
    if command == "run":
        start = time.perf_counter()
        trainer.train(int(arguments[0]))
        return {"seconds": time.perf_counter() - start}
    if command == "peak":
        from .roofline import fma_peak

        return {"gflops": fma_peak()}
    if command == "describe":
        return {"blas": _blas()}
    raise ValueError(f"command must be one of check, run, peak, describe, got {command!r}")


def main(side, name, n_samples):
    case = next(case for case in CASES if case.name == name).cut(int(n_samples))
    trainer = SIDES[side](case)
    for line in sys.stdin:
        print(json.dumps(_answer(trainer, side, case, *line.strip().split(maxsplit=1))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
