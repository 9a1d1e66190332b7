"""Pictures: they show the numbers they are given."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from fastnn import History, plots


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def curves(ax):
    return {line.get_label(): (line.get_xdata().tolist(), line.get_ydata().tolist()) for line in ax.get_lines()}


def test_the_training_loss_alone():
    ax = History(loss=[3.0, 2.0, 1.5]).plot()
    assert curves(ax) == {"training loss": ([1, 2, 3], [3.0, 2.0, 1.5])}
    assert len(ax.figure.axes) == 1
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "loss")


def test_validation_loss_and_metric():
    ax = History(loss=[3.0, 2.0], val_loss=[4.0, 2.5], val_metric=[0.5, 0.75], metric="accuracy").plot()
    assert curves(ax) == {"training loss": ([1, 2], [3.0, 2.0]), "validation loss": ([1, 2], [4.0, 2.5])}
    right = ax.figure.axes[1]
    assert curves(right) == {"validation accuracy": ([1, 2], [0.5, 0.75])}
    assert right.get_ylabel() == "accuracy"
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["training loss", "validation loss", "validation accuracy"]
    ax.figure.canvas.draw()


def test_axes_of_the_caller():
    figure, axes = plt.subplots(1, 2)
    assert History(loss=[1.0]).plot(axes[1]) is axes[1]
    assert axes[0].get_lines()[:] == []
    assert plt.get_fignums() == [figure.number]


def test_a_history_with_nothing_in_it():
    ax = History().plot()
    assert curves(ax) == {"training loss": ([], [])}
    ax.figure.canvas.draw()


@pytest.mark.parametrize(("n", "rows"), [(1, 1), (10, 1), (11, 2), (25, 3)])
def test_images(n, rows):
    images = np.random.default_rng(0).random((n, 8, 6))
    predicted = np.arange(n) % 10
    figure = plots.plot_images(images, predicted)
    assert len(figure.axes) == rows * 10
    for i, ax in enumerate(figure.axes):
        assert len(ax.images) == (i < n)
        if i < n:
            np.testing.assert_array_equal(ax.images[0].get_array(), images[i])
            assert ax.get_title() == str(predicted[i])


def test_wrong_images_are_red():
    figure = plots.plot_images(np.zeros((2, 8, 8)), np.array([3, 4]), np.array([3, 9]))
    right, wrong = figure.axes[:2]
    assert (right.get_title(), wrong.get_title()) == ("3", "4 (is 9)")
    assert right.title.get_color() != "red"
    assert wrong.title.get_color() == "red"


def test_metrics_of_both_sets():
    history = History(
        loss=[3.0, 2.0],
        val_loss=[4.0, 2.5],
        metric="accuracy",
        metrics={"val_accuracy": [0.5, 0.75], "val_auc": [0.6, 0.8], "accuracy": [0.4, 0.9]},
    )
    ax = history.plot()
    right = ax.figure.axes[1]
    assert curves(right) == {
        "validation accuracy": ([1, 2], [0.5, 0.75]),
        "validation auc": ([1, 2], [0.6, 0.8]),
        "training accuracy": ([1, 2], [0.4, 0.9]),
    }
    assert right.get_ylabel() == "accuracy, auc"
    dashed, other, dotted = right.get_lines()
    assert dashed.get_color() == dotted.get_color() != other.get_color()
    assert (dashed.get_linestyle(), other.get_linestyle(), dotted.get_linestyle()) == ("--", "--", ":")
    ax.figure.canvas.draw()
