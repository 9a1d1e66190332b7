"""Writes the networks of the page docs/demo and what it shows of them: `python docs/demo.py`.

`net.mjs` is the network of `make demo`, as `Model.export` writes it. `digits.json` has the parameters of its hidden
neurons, and some digits that it was not trained on. `spirals.json` has the network of examples/spirals.py as it was
after some of its epochs. An export holds one set of parameters, so docs/demo/spirals.mjs computes these; that shows
what the network is rather than pictures of it, at any size.
"""

import base64
import json
import sys
from pathlib import Path

import numpy as np

import fastnn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
import digits
import spirals

FOLDER = Path(__file__).with_suffix("")
N_HELD_OUT = 297
RECORDED = [0, 1, 2, *range(4, 160, 4), *range(160, spirals.EPOCHS + 1, 40)]  # epochs; later ones change little


class Recorder:
    """A callback: the parameters after each epoch, and before the first."""

    def __init__(self):
        self.parameters = []  # an array for each epoch: of each layer the weights by rows, then the biases

    def on_begin(self, model):
        self(model)

    def __call__(self, model):
        pairs = zip(model.weights, model.biases, strict=True)
        self.parameters.append(np.concatenate([each.ravel() for pair in pairs for each in pair]))


def held_out():
    """(X (297, 64), y (297,)): the last digits, which no network here was trained on."""
    X, y = fastnn.load_digits()
    return X[-N_HELD_OUT:], y[-N_HELD_OUT:]


def rounded(array):
    """Numbers as JSON has them, three digits behind the point."""
    return np.round(array.astype(np.float64), 3).tolist()


def inks(row):
    """The ink of the cells of a digit, 0 to 16, as characters "0" to "g"."""
    return "".join("0123456789abcdefg"[round(16 * ink)] for ink in row.tolist())


def write_digits(folder):
    """Train the network of the digits and write its files; returns the model."""
    training, validation, _ = digits.split()
    model, _ = digits.train(training, validation, digits.EPOCHS)
    X, y = held_out()
    model.export(folder / "net.mjs", rows=X)
    right = model.classify(X) == y
    record = {
        "n_held_out": len(y),
        "n_right": int(right.sum()),
        "weights": rounded(model.weights[0]),
        "biases": rounded(model.biases[0]),
        "samples": [inks(X[y == digit][0]) for digit in range(10)],
    }
    write_json(record, folder / "digits.json")
    return model


def write_spirals(folder):
    """Train the network of the spirals and write its record; returns the model."""
    X, y = spirals.spirals(500, np.random.default_rng(0))
    recorder = Recorder()
    model = spirals.train(X, y, [recorder])
    values = np.stack([recorder.parameters[epoch] for epoch in RECORDED])
    scale = float(np.abs(values).max()) / 32767
    record = {
        "sizes": model.sizes,
        "epochs": RECORDED,
        "points": [rounded(X[y == spiral]) for spiral in (0, 1)],
        "scale": scale,
        "parameters": base64.b64encode(np.round(values / scale).astype("<i2").tobytes()).decode(),
    }
    write_json(record, folder / "spirals.json")
    return model


def write_json(record, path):
    """A line for each entry."""
    lines = [f'"{name}": {json.dumps(value, separators=(",", ":"))}' for name, value in record.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    write_digits(FOLDER)
    write_spirals(FOLDER)
