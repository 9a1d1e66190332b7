"""One side of one case, in a process of its own: `python -m bench.child SIDE NAME N_SAMPLES`.

Thread counts and BLAS kernels are fixed when libraries load, so each side gets its own process and environment.
It reads commands from standard input and answers each with a line of JSON:

    check FILE   save what must agree: the parameters that a short training ends with, or the outputs; {}
    run N        {"seconds": ..} for that many epochs, or calls of inference
    peak         {"gflops": ..} of one core
    describe     {"variant": ..}, which of its ways was the fastest, and "blas" for NumPy
"""

import json
import sys
import time

import numpy as np

from . import cases, inference, sides


def registry(case):
    """The sides there are for a case."""
    return inference.SIDES if isinstance(case, inference.Rows) else sides.SIDES


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
        if isinstance(case, inference.Rows):
            result = trainer.predict()
        else:
            result = sides.trained(side, case, *([trainer.variant] if hasattr(trainer, "variant") else []))
        np.save(arguments[0], result)
        return {}
    if command == "run":
        run = trainer.run if isinstance(case, inference.Rows) else trainer.train
        start = time.perf_counter()
        run(int(arguments[0]))
        return {"seconds": time.perf_counter() - start}
    if command == "peak":
        from .roofline import fma_peak

        return {"gflops": fma_peak()}
    if command == "describe":
        blas = {"blas": _blas()} if side == "numpy" else {}
        return {"variant": getattr(trainer, "variant", {}), **blas}
    raise ValueError(f"command must be one of check, run, peak, describe, got {command!r}")


def main(side, name, n_samples):
    case = next(case for case in (*cases.CASES, *inference.CASES) if case.name == name)
    case = case.cut(int(n_samples))
    trainer = registry(case)[side](case)
    for line in sys.stdin:
        print(json.dumps(_answer(trainer, side, case, *line.strip().split(maxsplit=1))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
