"""The compiled kernels, imported as `fastnn.kernels` (never as a top-level `kernels`).

The cache hashes all modules in it, and tests/project/test_structure.py says in which order its folders import each
other. `running.entry` holds every function that Python calls; `reference` is the plain NumPy float64 twin of all of
them.
"""

from numba import config

if config.DISABLE_JIT:
    raise ImportError("fastnn is compiled by Numba, but NUMBA_DISABLE_JIT=1 turns that off: unset the variable")
