"""Two spirals, which a network of two hidden layers tells apart.

    python examples/spirals.py [--out FILE.png]

The points of Lang and Witbrock (1988), three turns each, with a little noise. --out draws them (extra `plots`).
"""

import argparse
import time

import numpy as np

import fastnn

EPOCHS = 400


def spirals(n, rng):
    """(X (2n, 2), y (2n,)): n points of each spiral."""
    angle = np.sqrt(rng.uniform(0.05, 1, n)) * 3 * np.pi
    one = np.stack([np.cos(angle), np.sin(angle)], axis=1) * angle[:, None] / (3 * np.pi)
    X = np.concatenate([one, -one]) + rng.normal(0, 0.01, (2 * n, 2))
    return X, np.repeat([0, 1], n)


def train(X, y, callbacks=()):
    """The trained model; its history says how it went."""
    layers = [2, fastnn.Dense(32, "tanh"), fastnn.Dense(32, "tanh"), 1]
    model = fastnn.Model(layers, loss="cross_entropy", init="glorot_normal", rng=0)
    rate = fastnn.OneCycle(0.02, EPOCHS * 32)
    model.fit(X, y, epochs=EPOCHS, batch_size=32, optimizer=fastnn.Adam(rate), callbacks=callbacks)
    return model


def draw(model, X, y, path):
    """The points, and what the model takes the plane for."""
    import matplotlib.pyplot as plt

    line = np.linspace(-1.1, 1.1, 300)
    grid = np.stack(np.meshgrid(line, line), axis=2).reshape(-1, 2)
    figure, ax = plt.subplots(figsize=(5, 5), layout="constrained")
    ax.contourf(line, line, model.predict(grid).reshape(300, 300), levels=20, cmap="RdBu", alpha=0.6)
    ax.scatter(*X.T, c=y, cmap="RdBu", edgecolors="k", s=12, linewidths=0.4)
    figure.savefig(path)
    print(f"wrote {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", metavar="FILE", help="draw a picture")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    (X, y), (X_test, y_test) = spirals(500, rng), spirals(500, rng)
    start = time.perf_counter()
    model = train(X, y)
    print(f"training time: {time.perf_counter() - start:.3f} s, loss {model.history.loss[-1]:.4f}")
    print(f"test accuracy: {model.evaluate(X_test, y_test)['accuracy']:.4f}")
    if arguments.out:
        draw(model, X, y, arguments.out)


if __name__ == "__main__":
    main()
