"""Predictions on Numba's threads, by `prange`. What Numba has compiled for it needs Numba in later processes too."""

import pickle

from numba import njit, prange
from numba.core.caching import CompileResultCacheImpl, _Cache

from ..programs.strategy import shard_of_rows
from ..vector.cache import CodeFiles
from .compiler import inner
from .functions import _sweep


class KernelCache(_Cache):
    """What a Numba dispatcher asks before it compiles, and tells afterwards."""

    def __init__(self, py_func):
        self._name = py_func.__name__
        self._impl = object.__new__(CompileResultCacheImpl)  # for its reduce and rebuild; it holds no state

    @property
    def cache_path(self):
        return str(CodeFiles.folder)

    def enable(self):
        pass

    def disable(self):
        pass

    def flush(self):
        pass

    def key(self, signature, codegen):
        """What the machine code depends on beside the source."""
        return str(signature), codegen.magic_tuple()

    def load_overload(self, sig, target_context):
        """The compiled function, or None."""
        try:
            data = CodeFiles.read(self._name, self.key(sig, target_context.codegen()))
            return None if data is None else self._impl.rebuild(target_context, pickle.loads(data))
        except Exception:  # whatever is wrong with the file, the function is compiled again
            return None

    def save_overload(self, sig, data):
        """Store a compiled function, if that can be done."""
        payload = pickle.dumps(self._impl.reduce(data), protocol=pickle.HIGHEST_PROTOCOL)
        CodeFiles.write(self._name, self.key(sig, data.codegen), payload)


_shard = inner(shard_of_rows)


@njit(parallel=True, nogil=True, _nrt=False, no_cfunc_wrapper=True)
def sweep_parallel(operations, patches, parts, pick, bindings, first, stop):
    """`sweep` on several threads, with the same bits. There must be 16 rows for each thread.

    operations (threads, words): each thread has other operations, which use other memory.
    """
    threads = operations.shape[0]
    for t in prange(threads):
        begin, end = _shard(first, stop, t, threads)
        _sweep(operations[t], patches, parts, pick, bindings, begin, end)


if CodeFiles.folder is not None:
    sweep_parallel._cache = KernelCache(sweep_parallel.py_func)
