"""The first network of Nielsen's "Neural Networks and Deep Learning" (chapter 1) on MNIST.

    python examples/mnist.py DIR [--epochs 30] [--hidden 30] [--init scaled|normal] [--all] [--seed 0]

DIR holds the four IDX files of MNIST, gzipped or not. As in the book: 784-30-10 sigmoid neurons, quadratic cost,
30 epochs in batches of 10 at learning rate 3, the first 50,000 training images, and accuracy on the 10,000 test images
after each epoch. Not as in the book: the weights start smaller, with standard deviation 1/sqrt(fan_in), where the
book's first network starts from unit Gaussians (`--init normal`); the book makes the same change in chapter 3.
"""

import argparse
import statistics
from pathlib import Path

import numpy as np

import fastnn

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def load(directory):
    """Training and test set, each as (X (n, 784) uint8, y (n,))."""
    arrays = []
    for name in FILES:
        path = next((path for path in (directory / name, directory / f"{name}.gz") if path.is_file()), None)
        if path is None:
            raise SystemExit(f"{directory} holds neither {name} nor {name}.gz")
        arrays.append(fastnn.load_idx(path))
    X, y, X_test, y_test = arrays
    return (X.reshape(len(X), -1), y), (X_test.reshape(len(X_test), -1), y_test)


def show(model):
    """One line after each epoch."""
    history = model.history
    print(
        f"epoch {len(history.loss):2}: loss {history.loss[-1]:.4f}, test accuracy {history.val_metric[-1]:.4f}, "
        f"{history.seconds[-1]:.3f} s",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", metavar="DIR", type=Path, help="where MNIST's IDX files are")
    parser.add_argument("--epochs", type=int, default=30, help="default: 30")
    parser.add_argument("--hidden", type=int, default=30, help="hidden neurons (default: 30)")
    parser.add_argument("--init", choices=("scaled", "normal"), default="scaled", help="default: scaled")
    parser.add_argument("--all", action="store_true", help="train on all 60,000 images, not the book's 50,000")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    arguments = parser.parse_args()

    (X, y), test = load(arguments.directory)
    if not arguments.all:
        X, y = X[:50_000], y[:50_000]
    model = fastnn.Model([784, arguments.hidden, 10], init=arguments.init, input_scale=1 / 255, rng=arguments.seed)
    print(f"{'-'.join(map(str, model.sizes))}, init {arguments.init!r}, {len(X):,} training images", flush=True)
    history = model.fit(
        X,
        y,
        epochs=arguments.epochs,
        batch_size=10,
        optimizer=fastnn.SGD(3.0),
        validation_data=test,
        callbacks=[show],
    )
    best = int(np.argmax(history.val_metric))
    seconds = statistics.median(history.seconds)
    print(f"\nbest test accuracy: {history.val_metric[best]:.4f} (epoch {best + 1})")
    print(f"final test accuracy: {history.val_metric[-1]:.4f}")
    print(f"time per epoch: {seconds:.3f} s ({len(X) / seconds:,.0f} samples/s)")


if __name__ == "__main__":
    main()
