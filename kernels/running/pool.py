"""Threads of the system, and the pool of Numba's threads, which `prange` uses: whether it may be entered now.

Packages such as gevent replace Python's functions that start threads. Theirs start none: what such a function shall run
waits until its caller gives way. So the functions here are those of a fresh copy of the module `_thread`.

Numba's threads can end the process, hang or raise. Each way is found out before: threads that cannot be started (OpenMP
ends the process, "workqueue" hangs), two threads that enter "workqueue" at once, a layer that is not installed.
"""

import contextlib
import importlib
import sys
import threading
from collections.abc import Callable
from importlib.machinery import BuiltinImporter
from importlib.util import module_from_spec
from typing import Any

PATIENCE = 0.05  # seconds to wait for a thread that was started, which may never run

# A pool that was started before this module was imported may be a parent process's, of which a child must not use it.
FOREIGN = bool(getattr(sys.modules.get("numba.np.ufunc.parallel"), "_is_initialized", False))

_MODULES = {"omp": "omppool", "tbb": "tbbpool", "workqueue": "workqueue"}
_local = threading.local()  # .threads: how many threads OpenMP has started for this thread


def _system_threads() -> Any:
    """The module `_thread` as Python has it, whatever was changed in the one that others import."""
    spec = BuiltinImporter.find_spec("_thread")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_threads = _system_threads()
allocate_lock: Callable[[], Any] = _threads.allocate_lock
start_new_thread: Callable[..., int] = _threads.start_new_thread


def start(function: Callable[..., object], *arguments: Any) -> bool:
    """Call a function in a new thread; gives whether the system starts one."""
    try:
        start_new_thread(function, arguments)
    except (RuntimeError, MemoryError):
        return False
    return True


def usable() -> bool:
    """Whether Numba has a pool of threads that this thread may enter; starts it if need be."""
    if FOREIGN:
        return False
    try:
        from numba.np.ufunc import parallel

        if layer() == "workqueue":
            return False
        wanted: int = parallel.get_num_threads()  # starts the pool
    except Exception:  # a pool that raises cannot be used, whatever is wrong
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
    gate, ended = allocate_lock(), []
    with gate:
        for _ in range(n):
            ended.append(allocate_lock())
            ended[-1].acquire()
            if not start(_pass, gate, ended[-1]):
                ended.pop()
                break
    return all([lock.acquire(timeout=PATIENCE) for lock in ended]) and len(ended) == n


def _pass(gate: Any, ended: Any) -> None:
    """Wait until a lock is free."""
    try:
        with gate:
            pass
    finally:
        ended.release()
