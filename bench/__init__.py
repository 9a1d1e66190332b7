"""Benchmarks: `python -m bench` against plain NumPy in child processes, `pytest bench` with pytest-benchmark."""
