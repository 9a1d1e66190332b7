"""Pictures, drawn with matplotlib: the optional extra `plots`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_curves(
    loss: list[float], val_loss: list[float], metrics: dict[str, list[float]], ax: Axes | None = None
) -> Axes:
    """Training and validation loss by epoch; metrics, where there are any, on a second axis.

    Those of the validation set are dashed, as "val_accuracy", those of the training set dotted, as "accuracy".
    """
    import matplotlib.pyplot as plt

    if ax is None:
        _, ax = plt.subplots(layout="constrained")
    epochs = np.arange(1, len(loss) + 1)
    ax.plot(epochs, loss, label="training loss")
    if val_loss:
        ax.plot(epochs, val_loss, label="validation loss")
    ax.set(xlabel="epoch", ylabel="loss")
    handles, labels = ax.get_legend_handles_labels()
    if metrics:
        right = ax.twinx()
        names = list(dict.fromkeys(name.removeprefix("val_") for name in metrics))
        for name, values in metrics.items():
            short = name.removeprefix("val_")
            which, line = ("training", ":") if short == name else ("validation", "--")
            color = ["k", *(f"C{i}" for i in range(2, 10))][names.index(short) % 9]
            right.plot(epochs, values, line, color=color, linewidth=1, label=f"{which} {short}")
        right.set_ylabel(", ".join(names))
        more = right.get_legend_handles_labels()
        handles, labels = handles + more[0], labels + more[1]
    ax.legend(handles, labels, loc="center right")
    return ax


def plot_rates(
    rates: list[float], losses: list[float], smoothed: list[float], suggestion: float, ax: Axes | None = None
) -> Axes:
    """The losses of a learning-rate range test over the rate, on a logarithmic axis, and what it suggests."""
    import matplotlib.pyplot as plt

    if ax is None:
        _, ax = plt.subplots(layout="constrained")
    ax.plot(rates, losses, "C7", linewidth=0.5, label="loss")
    ax.plot(rates, smoothed, "C0", label="smoothed")
    ax.axvline(suggestion, color="k", linestyle="--", linewidth=1, label=f"suggestion {suggestion:.2g}")
    ax.set(xlabel="learning rate", ylabel="loss of the batch", xscale="log")
    ax.legend()
    return ax


def plot_images(images: NDArray[Any], predicted: NDArray[Any], true: NDArray[Any] | None = None) -> Figure:
    """Images, (n, height, width), in rows of ten with the predicted label above each; a wrong one in red."""
    import matplotlib.pyplot as plt

    rows = -(-len(images) // 10)
    figure, axes = plt.subplots(rows, 10, figsize=(8, 0.95 * rows), layout="constrained", squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for i, (image, ax) in enumerate(zip(images, axes.flat, strict=False)):
        ax.imshow(image, cmap="gray_r", vmin=images.min(), vmax=images.max())
        if true is None or predicted[i] == true[i]:
            ax.set_title(str(predicted[i]), fontsize=9)
        else:
            ax.set_title(f"{predicted[i]} (is {true[i]})", fontsize=9, color="red")
    return figure
