"""Pictures, drawn with matplotlib: the optional extra `plots`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_curves(
    loss: list[float], val_loss: list[float], val_metric: list[float], metric: str | None, ax: Axes | None = None
) -> Axes:
    """Training and validation loss by epoch; the validation metric, where there is one, on a second axis."""
    import matplotlib.pyplot as plt

    if ax is None:
        _, ax = plt.subplots(layout="constrained")
    epochs = np.arange(1, len(loss) + 1)
    ax.plot(epochs, loss, label="training loss")
    if val_loss:
        ax.plot(epochs, val_loss, label="validation loss")
    ax.set(xlabel="epoch", ylabel="loss")
    handles, labels = ax.get_legend_handles_labels()
    if val_metric:
        right = ax.twinx()
        right.plot(epochs, val_metric, "k--", linewidth=1, label=f"validation {metric}")
        right.set_ylabel(str(metric))
        more = right.get_legend_handles_labels()
        handles, labels = handles + more[0], labels + more[1]
    ax.legend(handles, labels, loc="center right")
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
