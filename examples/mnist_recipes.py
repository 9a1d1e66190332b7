"""Three ways to train on MNIST: as in chapter 3 of Nielsen's book, with dropout, and as fast as possible to 97%.

    python examples/mnist_recipes.py DIR [--recipe book|dropout|fast] [--epochs N] [--seed 0] [--threads N]

DIR holds the four IDX files of MNIST, gzipped or not. The time is that of `fit`, from uint8 images in memory on.
"""

import argparse
import time
from pathlib import Path

from mnist import load

import fastnn
from fastnn import Dense

# By name: hidden layers, the last layer's activation, training images, epochs, batch size, optimizer of (steps), and
# further arguments of fit.
RECIPES = {
    "book": ([100], "sigmoid", 50_000, 60, 10, lambda steps: fastnn.SGD(0.1), {"l2": 1e-4}),
    "dropout": (
        *([Dense(512, "relu"), Dense(256, "relu")], "softmax", 60_000, 20, 128),
        *(lambda steps: fastnn.Adam(fastnn.OneCycle(0.002, steps)), {"dropout": 0.3}),
    ),
    "fast": (
        *([Dense(64, "relu")], "softmax", 60_000, 2, 64),
        *(lambda steps: fastnn.Adam(fastnn.OneCycle(0.01, steps)), {}),
    ),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", metavar="DIR", type=Path, help="where MNIST's IDX files are")
    parser.add_argument("--recipe", choices=RECIPES, default="fast", help="default: fast")
    parser.add_argument("--epochs", type=int, help="default: the recipe's")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--threads", type=int, help="the most threads (default: as many as there are)")
    arguments = parser.parse_args()

    (X, y), (X_test, y_test) = load(arguments.directory)
    hidden, output, n, epochs, batch_size, optimizer, options = RECIPES[arguments.recipe]
    epochs = arguments.epochs or epochs
    init = "scaled" if arguments.recipe == "book" else "he_normal"
    model = fastnn.Model(
        [784, *hidden, 10], output=output, loss="cross_entropy", init=init, input_scale=1 / 255, rng=arguments.seed
    )
    options |= {"batch_size": batch_size, "optimizer": optimizer(-(-n // batch_size) * epochs)}
    warm = fastnn.Model([784, *hidden, 10], output=output, loss="cross_entropy", input_scale=1 / 255)
    warm.fit(X[:1000], y[:1000], epochs=1, **options)  # compiles, or loads what is compiled
    start = time.perf_counter()
    model.fit(X[:n], y[:n], epochs=epochs, threads=arguments.threads, **options)
    seconds = time.perf_counter() - start
    print(f"{'-'.join(map(str, model.sizes))}, {n:,} training images, {epochs} epochs in batches of {batch_size}")
    print(f"test accuracy: {model.evaluate(X_test, y_test)['accuracy']:.4f}")
    print(f"training time: {seconds:.3f} s")


if __name__ == "__main__":
    main()
