"""Benchmarks: `python -m bench --help` lists the questions they answer, `pytest bench` is pytest-benchmark's table."""
