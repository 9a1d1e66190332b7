"""The benchmark of SimpleChains.jl's announcement: 4-32-16-4, tanh, full batch of 10,000 samples, Adam.

`python -m bench.simplechains [--epochs N]` prints the time of 10,000 epochs on one core. Published for it (Elrod,
Korsbo and Rackauckas 2022): 0.41 s on 18 cores, 1.64 s on a laptop with 4.
"""

import argparse
import itertools

import numpy as np

import fastnn

from .roofline import fma_peak

SIZES = (4, 32, 16, 4)


def data(n=10_000):
    """Inputs and targets: the matrix exponential of 2 x 2 matrices."""
    from scipy.linalg import expm

    X = np.random.default_rng(0).standard_normal((n, 4)) / 2
    return X.astype(np.float32), expm(X.reshape(n, 2, 2)).reshape(n, 4).astype(np.float32)


def main():
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    epochs, threads = options.epochs, options.threads
    X, y = data()
    model = fastnn.Model(SIZES, activation="tanh", output="identity", rng=0)
    peak = fma_peak()
    settings = {"batch_size": len(X), "optimizer": fastnn.Adam(1e-3), "shuffle": False, "threads": threads}
    history = model.fit(X, y, epochs=epochs, **settings)
    seconds = np.median(history.seconds) * 10_000
    products = [a * b for a, b in itertools.pairwise(SIZES)]
    flops = 6 * sum(products) - 2 * products[0]
    speed = flops * len(X) * 10_000 / seconds / 1e9
    print(f"{seconds:.2f} s for 10,000 epochs ({sum(history.seconds):.2f} s for {epochs}), loss {history.loss[-1]:.2e}")
    print(f"{speed:.1f} GFLOP/s, {speed / peak:.0%} of the one-core peak of {peak:.0f}")


if __name__ == "__main__":
    main()
