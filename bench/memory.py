"""What `fit` adds to the memory of a process whose data is in the model's dtype already: `python -m bench.memory`."""

from pathlib import Path

import numpy as np

import fastnn


def peak_mib(reset=False):
    """The most memory this process has held since the last reset, in MiB (Linux)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def main():
    """Print the growth of the peak in a fit of 784-100-10 on 50,000 samples, after the kernels were loaded."""
    rng = np.random.default_rng(0)
    X, y = rng.random((50_000, 784), dtype=np.float32), rng.integers(0, 10, 50_000).astype(np.int32)
    for name in ("sgd", "adam"):
        fastnn.Model([784, 100, 10], rng=0).fit(X, y, epochs=0, batch_size=32, optimizer=name)
        model = fastnn.Model([784, 100, 10], rng=0)
        before = peak_mib(reset=True)
        model.fit(X, y, epochs=1, batch_size=32, optimizer=name)
        print(
            f"784-100-10, {X.nbytes / 2**20:.0f} MiB of samples, {name}: fit adds {peak_mib() - before:.1f} MiB "
            f"(the parameters are {model.parameters.nbytes / 2**20:.2f} MiB)"
        )


if __name__ == "__main__":
    main()
