"""Pictures, drawn with matplotlib: the optional extra `plots`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .checks import scalars
from .data import arrays

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def _pyplot() -> Any:
    """matplotlib.pyplot, or an ImportError that says how to get it."""
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError('plots need matplotlib: pip install "fastnn-numba[plots]"') from error
    return pyplot


def _pair(y_true: ArrayLike, y_pred: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """True and predicted labels as arrays, (n,)."""
    true, predicted = arrays.array("y_true", y_true), arrays.array("y_pred", y_pred)
    if true.ndim != 1 or len(true) == 0:
        raise ValueError(f"y_true must have shape (n,) with at least one label, got {true.shape}")
    if predicted.shape != true.shape:
        raise ValueError(f"y_pred must have shape {true.shape}, as y_true, got {predicted.shape}")
    return true, predicted


def plot_curves(
    loss: list[float], val_loss: list[float], metrics: dict[str, list[float]], ax: Axes | None = None
) -> Axes:
    """Draw training and validation loss by epoch; metrics, where there are any, on a second axis.

    Metrics of the validation set, such as "val_accuracy", are dashed; those of the training set are dotted.
    """
    if ax is None:
        _, ax = _pyplot().subplots(layout="constrained")
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
        of_metrics = right.get_legend_handles_labels()
        handles, labels = handles + of_metrics[0], labels + of_metrics[1]
    ax.legend(handles, labels, loc="center right")
    return ax


def plot_rates(
    rates: list[float], losses: list[float], smoothed: list[float], suggestion: float, ax: Axes | None = None
) -> Axes:
    """Draw the losses of a learning-rate range test over the rate, on a logarithmic axis, and its suggestion."""
    if ax is None:
        _, ax = _pyplot().subplots(layout="constrained")
    ax.plot(rates, losses, "C7", linewidth=0.5, label="loss")
    ax.plot(rates, smoothed, "C0", label="smoothed")
    ax.axvline(suggestion, color="k", linestyle="--", linewidth=1, label=f"suggestion {suggestion:.2g}")
    ax.set(xlabel="learning rate", ylabel="loss of the batch", xscale="log")
    ax.legend()
    return ax


def plot_images(images: NDArray[Any], predicted: NDArray[Any], true: NDArray[Any] | None = None) -> Figure:
    """Draw images, (n, height, width), in rows of ten with the predicted label above each; a wrong one in red."""
    rows = max(1, -(-len(images) // 10))
    figure, axes = _pyplot().subplots(rows, 10, figsize=(8, 0.95 * rows), layout="constrained", squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for i, (image, ax) in enumerate(zip(images, axes.flat, strict=False)):
        ax.imshow(image, cmap="gray_r", vmin=images.min(), vmax=images.max())
        if true is None or predicted[i] == true[i]:
            ax.set_title(str(predicted[i]), fontsize=9)
        else:
            ax.set_title(f"{predicted[i]} (is {true[i]})", fontsize=9, color="red")
    return figure


def plot_confusion_matrix(
    y_true: ArrayLike, y_pred: ArrayLike, *, labels: Sequence[str] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw how many samples of each class (rows) were classified as each class (columns), by scikit-learn.

    Parameters
    ----------
    y_true, y_pred : array (n,)
        The true labels and the predicted ones, such as `model.classify(X)`: class indices, or any labels.
    labels : sequence of str or None
        The names of the classes 0, 1, ..; the labels then are class indices. None: the labels that occur, in order.
    ax : matplotlib.axes.Axes or None
        Where to draw. None: a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises ValueError for labels of other shapes or without a name, and ImportError without the extras `plots` and
    `sklearn`.

    Examples
    --------
    >>> import fastnn
    >>> ax = fastnn.plot_confusion_matrix([0, 1, 2, 2], [0, 1, 2, 1], labels=["cat", "dog", "fox"])
    >>> [text.get_text() for text in ax.texts]
    ['1', '0', '0', '0', '1', '0', '0', '1', '1']
    """
    true, predicted = _pair(y_true, y_pred)
    indices = None
    if labels is not None:
        names = scalars.items("labels", labels, "a sequence of names")
        indices = np.arange(len(names))
        for name, values in (("y_true", true), ("y_pred", predicted)):
            if not np.isin(values, indices).all():
                raise ValueError(f"{name} must hold class indices in [0, {len(names)}), for which labels has a name")
    pyplot = _pyplot()
    try:
        from sklearn.metrics import ConfusionMatrixDisplay
    except ImportError as error:
        message = 'plot_confusion_matrix needs scikit-learn: pip install "fastnn-numba[plots,sklearn]"'
        raise ImportError(message) from error

    if ax is None:
        _, ax = pyplot.subplots(layout="constrained")
    ConfusionMatrixDisplay.from_predictions(
        true, predicted, labels=indices, display_labels=labels, ax=ax, cmap="Blues", colorbar=False
    )
    return ax


def plot_wrong(images: ArrayLike, y_true: ArrayLike, y_pred: ArrayLike, *, most: int = 40) -> Figure:
    """Draw the images whose label was predicted wrongly, with the predicted and the true label above each.

    Parameters
    ----------
    images : array (n, height, width) or (n, pixels)
        The samples; a row of pixels is a square image.
    y_true, y_pred : array (n,)
        The true labels and the predicted ones, such as `model.classify(X)`.
    most : int
        How many to show, the first ones; at least 1.

    Returns
    -------
    matplotlib.figure.Figure
        Its title says how many of the images are wrong.

    Raises ValueError for arrays of other shapes, and ImportError without the extra `plots`.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> figure = fastnn.plot_wrong(np.zeros((3, 64)), [7, 8, 9], [7, 3, 9])
    >>> figure.get_suptitle()
    '1 of 3 wrong'
    """
    true, predicted = _pair(y_true, y_pred)
    pictures = arrays.array("images", images)
    if pictures.ndim == 2 and math.isqrt(pictures.shape[1]) ** 2 == pictures.shape[1]:
        side = math.isqrt(pictures.shape[1])
        pictures = pictures.reshape(-1, side, side)
    if pictures.ndim != 3 or len(pictures) != len(true) or pictures.size == 0:
        expected = f"({len(true)}, height, width) or ({len(true)}, pixels) of square images"
        raise ValueError(f"images must have shape {expected}, got {pictures.shape}")
    wrong = np.flatnonzero(true != predicted)
    shown = wrong[: scalars.integer("most", most, 1)]
    figure = plot_images(pictures[shown], predicted[shown], true[shown])
    figure.suptitle(f"{len(wrong)} of {len(true)} wrong")
    return figure
