"""Numba's own threads, which `prange` uses: whether a parallel function may be entered now.

Each way in which they end the process, hang or raise is found out before: threads that cannot be started (OpenMP ends
the process, "workqueue" hangs), two threads that enter "workqueue" at once, a layer that is not installed.
"""

import contextlib
import importlib
import sys
import threading

# A pool that was started before this module was imported may be a parent process's, of which a child must not use it.
FOREIGN = bool(getattr(sys.modules.get("numba.np.ufunc.parallel"), "_is_initialized", False))

_MODULES = {"omp": "omppool", "tbb": "tbbpool", "workqueue": "workqueue"}
_local = threading.local()  # .threads: how many OpenMP has started for this one


def usable() -> bool:
    """Whether Numba has a pool of threads that this thread may enter; starts it if need be."""
    if FOREIGN:
        return False
    try:
        from numba.np.ufunc import parallel

        if layer() == "workqueue":
            return False
        wanted: int = parallel.get_num_threads()  # starts the pool
    except Exception:  # whatever is wrong with the pool, it is not for us
        return False
    if getattr(_local, "threads", 1) < wanted:  # OpenMP starts threads for each thread that enters
        if not can_start(wanted - 1):
            return False
        _local.threads = wanted
    return True


def layer() -> str:
    """The threading layer that Numba has started or would start: "omp", "tbb" or "workqueue"."""
    from numba.core import config
    from numba.np.ufunc import parallel

    if parallel._is_initialized:
        return str(parallel.threading_layer())
    chosen = str(config.THREADING_LAYER).lower()
    kinds = {"default": config.THREADING_LAYER_PRIORITY, "threadsafe": ["tbb", "omp"], "safe": ["tbb"]}
    for name in kinds.get(chosen, [chosen]):
        with contextlib.suppress(ImportError):
            importlib.import_module(f"numba.np.ufunc.{_MODULES[name]}")
            return str(name)
    return "workqueue"


def can_start(n: int) -> bool:
    """Whether the system gives n more threads at the same time. It starts them and lets them end."""
    gate, started = threading.Lock(), []
    try:
        with gate:
            for _ in range(n):
                thread = threading.Thread(target=_pass, args=(gate,), daemon=True)
                thread.start()
                started.append(thread)
        return True
    except RuntimeError:
        return False
    finally:
        for thread in started:
            thread.join()


def _pass(gate: threading.Lock) -> None:
    """Wait until a lock is free."""
    with gate:
        pass
