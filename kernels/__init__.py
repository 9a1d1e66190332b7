"""The compiled kernels, imported as `fastnn.kernels` (never as a top-level `kernels`).

Each folder is a room. tests/project/test_structure.py says in which order they import each other. The cache hashes all
modules. `running.entry` has every function that Python calls, and `loops` what Numba compiles them from. `reference` is
the twin of all of them in plain NumPy, in float64.
"""
