"""The chapters of docs/learn and the pages of docs/start. Their blocks run in test_docs.py."""

import re
import runpy

import pytest
from matplotlib import pyplot

from .test_docs import BLOCKS, CHAPTERS, PAGES, ROOT, STARTS
from .test_notebooks import SCRIPT

IMAGES = ROOT / "docs" / "images"
SAVED = re.compile(r'savefig\("([^"]+)"')
PICTURES = [
    (page, name) for page in (*CHAPTERS, *STARTS) for block in BLOCKS[page] for name in SAVED.findall(block.source)
]
FOLDED = re.compile(r'^<details markdown="1"><summary>Answer</summary>\n\n(.*?)\n\n</details>$', re.M | re.S)
TERMS = """algorithm, machine learning, model, weights, biases, parameters, architecture, label, target, dependent
variable, independent variable, prediction, loss, training, fitting, stochastic gradient descent (SGD), neural network,
deep learning, universal approximation theorem, pretrained model, fine-tuning, image classification, image recognition,
generalizes, overfitting, training set, validation set, metric, epoch, transfer learning, classification, regression,
convolutional neural networks, artificial neuron, activation function, activation, perceptron, fires, threshold, dot
product, sigmoid neuron, sigmoid function, layers, input layer, input neurons, hidden layers, output layer, output
neurons, feedforward, one-hot, cost function, quadratic cost, mean squared error (MSE), partial derivative, gradient,
gradient descent, learning rate, mini-batch, backpropagation, error, forward pass, backward pass, accuracy"""


def text(page):
    return page.read_text(encoding="utf-8")


def ids(page):
    return page.stem


def test_the_index_has_every_chapter_in_the_order_of_the_notebooks():
    rows = re.findall(r"^\| (\d+) \| \[.*?\]\((.*?)\.md\)", text(ROOT / "docs" / "learn" / "index.md"), re.M)
    assert [int(number) for number, _ in rows] == list(range(1, 11))
    names = [name for _, name in rows]
    assert names == [*SCRIPT.CHAPTERS.split(), "errors"]
    assert sorted(names[:-1]) == [page.stem for page in CHAPTERS]


@pytest.mark.parametrize("page", CHAPTERS, ids=ids)
def test_a_chapter_says_what_it_teaches_and_ends_with_exercises(page):
    beginning = re.match(r"# .+\n\n(.+)\n", text(page))
    assert beginning[1].startswith("At the end of this page you ")
    _, summary, exercises = re.split(r"^## (?:Summary|Exercises)$", text(page), flags=re.M)
    assert len(re.findall(r"^- ", summary, re.M)) >= 3
    numbers = re.findall(r"^\*\*Exercise (\d+)\.\*\*", exercises, re.M)
    assert numbers == [str(i) for i in range(1, len(numbers) + 1)]
    assert 3 <= len(numbers) <= 6
    answers = FOLDED.findall(exercises)
    assert len(answers) == len(numbers) == text(page).count("<details") == text(page).count("</details>")
    assert all("\n```python\n" in answer for answer in answers)


def test_every_term_of_the_text_is_defined():
    defined = {
        re.sub(r"\s+", " ", term).lower().rstrip(".")
        for page in CHAPTERS
        for term in re.findall(r"\*\*([^*]+)\*\*", text(page))
    }
    assert {term.strip() for term in re.sub(r"\s+", " ", TERMS).lower().split(",")} - defined == set()


@pytest.mark.parametrize(("page", "name"), PICTURES, ids=lambda value: getattr(value, "stem", value))
def test_a_picture_that_a_page_draws_is_shown_there(page, name):
    assert f"](../images/{name})" in text(page)
    assert 1000 < (IMAGES / name).stat().st_size < (60_000 if name.endswith(".svg") else 40_000)
    assert "<dc:date>1970-01-01" in (drawn := (IMAGES / name).read_bytes().decode("latin-1")) or "\x89PNG" in drawn


def test_every_image_is_shown_by_a_page():
    shown = {name for page in PAGES for name in re.findall(r"/images/([\w-]+\.\w+)\)", text(page))}
    assert shown == {path.name for path in IMAGES.iterdir()}
    assert len({name for _, name in PICTURES}) == len(PICTURES)


def test_the_script_draws_the_pictures_of_a_page(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")  # the script sets it: the old value comes back
    script = runpy.run_path(str(ROOT / "docs" / "pictures.py"))
    assert {page for page, _ in PICTURES} <= set(script["PAGES"])
    page = ROOT / "docs" / "learn" / "cost.md"
    script["draw"](page, tmp_path)
    pyplot.close("all")
    drawn, committed = ((folder / "variance.svg").read_text() for folder in (tmp_path, IMAGES))
    words = re.compile(r"<text[^>]*>(.*?)</text>")
    assert "mean squared error 0.125" in words.findall(drawn)
    assert words.findall(drawn) == words.findall(committed)
    assert abs(len(drawn) - len(committed)) < 0.1 * len(committed)
    assert [path.name for path in tmp_path.iterdir()] == ["variance.svg"]


@pytest.mark.parametrize("page", STARTS, ids=ids)
def test_a_page_for_beginners_says_what_it_needs(page):
    """Before its first block of Python, which is complete: the pages are pasted into a fresh Python."""
    assert "pip install '.[tables,plots,sklearn]'" in text(page).partition("```python")[0]
    assert "import fastnn\n" in "".join(block.source for block in BLOCKS[page][:2])
