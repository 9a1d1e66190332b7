"""An ensemble with error bars: networks that agree where there are samples, and disagree where there are none.

    python examples/error_bars.py [--estimators N] [--out FILE.png]

y is a function of x with noise, and there are no samples for x between 0 and 1. The spread of an ensemble's networks,
`predict(X, return_std=True)`, says so. The noise of the samples is no part of the spread. --out draws it (extra
`plots`).
"""

import argparse
import time
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning

import fastnn

NOISE = 0.1


def curve(x):
    """What is learned."""
    return np.sin(3 * x) + 0.3 * x


def samples(n, rng):
    """(X, y), without a sample for x between 0 and 1."""
    x = np.concatenate([rng.uniform(-2, 0, n // 2), rng.uniform(1, 2, n - n // 2)])
    return x[:, None], curve(x) + rng.normal(0, NOISE, n)


def draw(path, X, y, grid, mean, std):
    """The samples, the ensemble's mean, and two standard deviations about it."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(8, 4), layout="constrained")
    ax.plot(X[:, 0], y, ".", color="0.6", label="samples")
    ax.plot(grid[:, 0], curve(grid[:, 0]), "--", color="0.3", label="without noise")
    ax.plot(grid[:, 0], mean, color="C0", label="mean of the networks")
    ax.fill_between(grid[:, 0], mean - 2 * std, mean + 2 * std, color="C0", alpha=0.25, label="2 standard deviations")
    ax.set_ylim(-3, 3)
    ax.set_xlabel("x")
    ax.legend(loc="upper left", ncols=2)
    figure.savefig(path)
    print(f"wrote {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--estimators", type=int, default=50)
    parser.add_argument("--out", metavar="FILE.png")
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)  # the epochs are counted
    X, y = samples(200, np.random.default_rng(0))
    start = time.perf_counter()
    model = fastnn.MLPEnsembleRegressor(
        options.estimators,
        bootstrap=True,
        hidden_layer_sizes=(32, 32),
        activation="tanh",
        solver=fastnn.Adam(0.01),
        batch_size=20,
        max_iter=300,
        n_iter_no_change=300,
        tol=0,
        random_state=0,
    ).fit(X, y)
    seconds = time.perf_counter() - start
    grid = np.linspace(-3, 3, 301)[:, None]
    mean, std = model.predict(grid, return_std=True)
    x = grid[:, 0]
    parts = {
        "with samples": ((x > -1.9) & (x < -0.1)) | ((x > 1.1) & (x < 1.9)),
        "in the gap": (x > 0.3) & (x < 0.7),
        "outside": np.abs(x) > 2.5,
    }
    print(f"{options.estimators} networks of 1-32-32-1 in {seconds:.2f} s")
    for name, some in parts.items():
        error = np.abs(mean - curve(x))[some].mean()
        print(f"spread {name}: {std[some].mean():.3f}, where the mean is wrong by {error:.3f}")
    if options.out:
        draw(options.out, X, y, grid, mean, std)


if __name__ == "__main__":
    main()
