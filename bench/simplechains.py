"""How long the benchmark of SimpleChains.jl's announcement takes: 4-32-16-4, tanh, a batch of 10,000 samples, Adam.

It prints the time of 10,000 epochs, from the median of the epochs. Published for it (Elrod, Korsbo and Rackauckas
2022): 0.41 s on 18 cores, 1.64 s on a laptop with 4.
"""

import numpy as np

import fastnn

from .cases import Case, count
from .roofline import fma_peak

CASE, EPOCHS = Case((4, 32, 16, 4), 10_000, 10_000), 10_000
QUICK_ROWS, QUICK_EPOCHS = 500, 20
ROUNDS = 1
OPTIONS = {
    "--epochs": {"type": count, "default": EPOCHS, "help": "epochs to train (default %(default)s)"},
    "--threads": {"type": count, "default": 1, "help": "threads (default 1)"},
}


def data(n=10_000):
    """Inputs and targets: the matrix exponential of 2 x 2 matrices."""
    from scipy.linalg import expm

    X = np.random.default_rng(0).standard_normal((n, 4)) / 2
    return X.astype(np.float32), expm(X.reshape(n, 2, 2)).reshape(n, 4).astype(np.float32)


def run(options):
    """Train as many times as there are rounds, and print the time of each."""
    (X, y), peak = data(QUICK_ROWS if options.quick else CASE.n_samples), fma_peak()
    epochs = QUICK_EPOCHS if options.quick else options.epochs
    settings = {"batch_size": len(X), "optimizer": fastnn.Adam(1e-3), "shuffle": False, "threads": options.threads}
    for _ in range(options.rounds):
        model = fastnn.Model(CASE.sizes, activation="tanh", output="identity", rng=0)
        history = model.fit(X, y, epochs=epochs, **settings)
        seconds = np.median(history.seconds) * EPOCHS
        speed = CASE.flops * len(X) * EPOCHS / seconds / 1e9
        taken = f"{sum(history.seconds):.2f} s for {epochs}"
        print(f"{seconds:.2f} s for {EPOCHS:,} epochs ({taken}), loss {history.loss[-1]:.2e}")
        print(f"{speed:.1f} GFLOP/s, {speed / peak:.0%} of the one-core peak of {peak:.0f}", flush=True)
