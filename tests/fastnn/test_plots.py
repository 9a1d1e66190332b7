"""Pictures: they show the numbers they are given."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

import fastnn
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


# ---- what a classifier takes for what ----


def cells(ax, n):
    return [[int(text.get_text()) for text in ax.texts[n * i : n * i + n]] for i in range(n)]


def test_a_confusion_matrix():
    true, predicted = [0, 0, 1, 2, 2, 2], [0, 1, 1, 2, 2, 0]
    ax = fastnn.plot_confusion_matrix(true, np.array(predicted))
    assert cells(ax, 3) == [[1, 1, 0], [0, 1, 0], [1, 0, 2]]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Predicted label", "True label")
    assert [text.get_text() for text in ax.get_yticklabels()] == ["0", "1", "2"]
    ax.figure.canvas.draw()


def test_a_confusion_matrix_with_names_and_axes_of_the_caller():
    _, axes = plt.subplots(1, 2)
    assert fastnn.plot_confusion_matrix([0, 1], [0, 0], labels=["cat", "dog", "fox"], ax=axes[1]) is axes[1]
    assert cells(axes[1], 3) == [[1, 0, 0], [1, 0, 0], [0, 0, 0]]  # no fox occurs, but it has a name
    assert [text.get_text() for text in axes[1].get_xticklabels()] == ["cat", "dog", "fox"]
    assert plt.get_fignums() == [axes[0].figure.number]


def test_a_confusion_matrix_of_strings():
    ax = fastnn.plot_confusion_matrix(["b", "a"], ["a", "a"])
    assert cells(ax, 2) == [[1, 0], [1, 0]]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["a", "b"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.plot_confusion_matrix([[0]], [0]), r"y_true must have shape \(n,\) .*, got \(1, 1\)"),
        (lambda: plots.plot_confusion_matrix([], []), r"y_true must have .* at least one label, got \(0,\)"),
        (lambda: plots.plot_confusion_matrix([0, 1], [0]), r"y_pred must have shape \(2,\), as y_true, got \(1,\)"),
        (lambda: plots.plot_confusion_matrix([0, 2], [0, 1], labels="ab"), r"labels must be a sequence of names"),
        (lambda: plots.plot_confusion_matrix([0, 2], [0, 1], labels=["a", "b"]), r"y_true must .* in \[0, 2\)"),
        (lambda: plots.plot_confusion_matrix([0, 1], [0, -1], labels=["a", "b"]), r"y_pred must .* in \[0, 2\)"),
        (lambda: plots.plot_wrong(np.ones((2, 4)), [0, 1], [0]), r"y_pred must have shape \(2,\)"),
        (lambda: plots.plot_wrong(np.ones((3, 4)), [0, 1], [0, 0]), r"images must have shape \(2, .*, got \(3, 2, 2\)"),
        (lambda: plots.plot_wrong(np.ones((2, 5)), [0, 1], [0, 0]), r"images must have .* square .*, got \(2, 5\)"),
        (lambda: plots.plot_wrong(np.ones((2, 4)), [0, 1], [0, 0], most=0), r"most must be at least 1, got 0"),
    ],
)
def test_unusable_arguments_of_plots(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
    assert plt.get_fignums() == []


@pytest.mark.parametrize("flat", [False, True])
def test_wrong_images(flat):
    images = np.arange(50 * 9.0).reshape((50, 9) if flat else (50, 3, 3))
    true = np.arange(50) % 10
    predicted = np.where(np.arange(50) % 7 == 3, (true + 1) % 10, true)  # 3, 10, 17, 24, 31, 38, 45
    figure = fastnn.plot_wrong(images, true, predicted, most=5)
    assert figure.get_suptitle() == "7 of 50 wrong"
    shown = [ax for ax in figure.axes if ax.images]
    assert [ax.get_title() for ax in shown] == ["4 (is 3)", "1 (is 0)", "8 (is 7)", "5 (is 4)", "2 (is 1)"]
    for ax, i in zip(shown, (3, 10, 17, 24, 31), strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), images[i].reshape(3, 3))


def test_no_image_is_wrong():
    figure = fastnn.plot_wrong(np.zeros((2, 4)), [0, 1], [0, 1])
    assert figure.get_suptitle() == "0 of 2 wrong"
    assert not any(ax.images for ax in figure.axes)
    figure.canvas.draw()


def test_plots_without_matplotlib_name_the_extra(run_python):
    source = """
import sys
sys.modules["matplotlib"] = sys.modules[sys.argv[1]] = None
import fastnn
calls = [
    lambda: fastnn.History(loss=[1.0]).plot(),
    lambda: fastnn.plot_wrong([[1.0]], [0], [1]),
    lambda: fastnn.plots.plot_confusion_matrix([0], [1]),
]
for call in calls:
    try:
        call()
    except ImportError as error:
        print(error)
"""
    need = 'plots need matplotlib: pip install "fastnn-numba[plots]"'
    assert run_python(source, "matplotlib").stdout.splitlines() == [need] * 3
    source = source.replace('sys.modules["matplotlib"] = ', "")
    need = 'plot_confusion_matrix needs scikit-learn: pip install "fastnn-numba[plots,sklearn]"'
    assert run_python(source, "sklearn.metrics", MPLBACKEND="Agg").stdout.splitlines() == [need]
