"""The compiled kernels, imported as `fastnn.kernels` (never as a top-level `kernels`).

Each folder is a room. tests/project/test_structure.py says in which order they import each other. The cache hashes all
modules. `running.entry` holds every function that Python calls. `reference` is the twin of all of them in plain NumPy,
in float64.
"""

from numba import config

if config.DISABLE_JIT:
    raise ImportError("fastnn is compiled by Numba, but NUMBA_DISABLE_JIT=1 turns that off: unset the variable")
