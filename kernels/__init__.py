"""The compiled kernels, imported as `fastnn.kernels` (never as a top-level `kernels`).

`entry` holds every function that Python calls; `reference` is the plain NumPy float64 twin of all of them.
"""
