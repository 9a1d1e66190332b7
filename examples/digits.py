"""Train a sigmoid network on 8 x 8 handwritten digits, and measure it. `make demo` runs this.

    python examples/digits.py [--out DIR] [--epochs N]

The digits are the 1,797 that come with scikit-learn: 1,400 to train on, 197 for validation, 200 for the test.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

try:
    import matplotlib
except ModuleNotFoundError as error:
    raise SystemExit("the demo draws pictures: pip install matplotlib scikit-learn, or use make demo") from error

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import fastnn
from fastnn.plots import plot_images

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from bench.baseline_numpy import NumpyMLP

SIZES, EPOCHS, BATCH_SIZE, LEARNING_RATE = (64, 30, 10), 30, 10, 3.0


def split():
    """(training, validation, test): the digits, each as (X, y)."""
    X, y = fastnn.load_digits()
    return [(X[part], y[part]) for part in (slice(1400), slice(1400, 1597), slice(1597, None))]


def train(training, validation, epochs):
    """(model, rows): the trained network, and loss and accuracy on both sets after each epoch."""
    model = fastnn.Model(SIZES, rng=0)
    rows = []

    def measure(model):
        scores = [model.evaluate(*data) for data in (training, validation)]
        rows.append([value for score in scores for value in (score["loss"], score["accuracy"])])

    model.fit(
        *training,
        epochs=epochs,
        batch_size=BATCH_SIZE,
        optimizer=fastnn.SGD(LEARNING_RATE),
        validation_data=validation,
        callbacks=[measure],
        progress=True,
    )
    return model, rows


def print_table(rows):
    print("         training           validation")
    print("epoch    loss  accuracy     loss  accuracy")
    for epoch, row in enumerate(rows, 1):
        print("{:5}  {:6.4f}    {:6.4f}   {:6.4f}    {:6.4f}".format(epoch, *row))


def compare_speed(X, y, epochs=100, rounds=5):
    """Samples a second of fastnn and of plain NumPy: the same work, taken in turns; the medians."""
    rng = np.random.default_rng(0)
    order = rng.permuted(np.tile(np.arange(len(X), dtype=np.int32), (epochs, 1)), axis=1)
    seconds = {"fastnn": [], "NumPy": []}
    for _ in range(rounds):
        model = fastnn.Model(SIZES, rng=0)
        baseline = NumpyMLP(SIZES, [(w.copy(), b.copy()) for w, b in zip(model.weights, model.biases, strict=True)])

        start = time.perf_counter()
        model.fit(X, y, epochs=epochs, batch_size=BATCH_SIZE, optimizer=fastnn.SGD(LEARNING_RATE), shuffle=order)
        seconds["fastnn"].append(time.perf_counter() - start)

        start = time.perf_counter()
        baseline.fit(X, y, order, BATCH_SIZE, LEARNING_RATE)
        seconds["NumPy"].append(time.perf_counter() - start)

        difference = max(np.abs(a - b).max() for a, b in zip(model.weights, baseline.weights, strict=True))
        assert difference < 0.01, f"the two learned different weights, up to {difference:g} apart"
    return {name: epochs * len(X) / statistics.median(times) for name, times in seconds.items()}


def save(model, history, X_test, y_test, directory):
    """The model, the curves and a picture of test digits, as files in the directory; returns their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / name for name in ("digits.safetensors", "digits-loss.png", "digits-predictions.png")]
    model.save(paths[0])

    history.plot().figure.savefig(paths[1], dpi=120)

    predicted = model.classify(X_test)
    shown = np.argsort(predicted == y_test, kind="stable")[:40]  # the misread ones first
    figure = plot_images(X_test[shown].reshape(-1, 8, 8), predicted[shown], y_test[shown])
    figure.savefig(paths[2], dpi=120)
    plt.close("all")
    return paths


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out"), help="where the files go (default: out)")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"default: {EPOCHS}")
    arguments = parser.parse_args()

    training, validation, test = split()
    print(f"{'-'.join(map(str, SIZES))} sigmoid network, batches of {BATCH_SIZE}, learning rate {LEARNING_RATE:g}")
    print("The first run on a machine compiles the kernels, which takes some seconds.", flush=True)
    model, rows = train(training, validation, arguments.epochs)
    print_table(rows)
    print(f"\ntest accuracy: {model.evaluate(*test)['accuracy']:.4f}")

    speed = compare_speed(*training)
    ratio = speed["fastnn"] / speed["NumPy"]
    print(f"training speed: {speed['fastnn']:,.0f} samples/s, {ratio:.1f} x plain NumPy ({speed['NumPy']:,.0f})")

    print()
    for path in save(model, model.history, *test, arguments.out):
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
