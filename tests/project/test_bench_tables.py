"""`python -m bench tables`: its sets, its figures and the recipe that it measures."""

import re
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the extra sklearn is not installed")
pd = pytest.importorskip("pandas", reason="pandas is not installed")

from bench.__main__ import main  # noqa: E402
from bench.tables import folds, paired, ranks, scores  # noqa: E402
from bench.tables_data import CLASSES, HALVES, NUMBERS, TABLES, half_of, tables  # noqa: E402
from bench.tables_recipe import Columns, Rules, fold_of, recipe  # noqa: E402

QUICK = replace(Rules(), few_epochs=(3, 3), epochs=3)


def test_half_of_the_sets_of_each_kind_are_held_out():
    assert len({table.name for table in TABLES}) == len(TABLES) >= 24
    for half in HALVES:
        kinds = [table.kind for table in tables(half)]
        assert min(kinds.count(CLASSES), kinds.count(NUMBERS)) >= 6
        assert len(kinds) >= 12
    assert half_of("anes96") == half_of("ambient_nox") == "tuning"
    assert half_of("benefits") == half_of("baseball") == "held-out"


def test_ranks_share_places():
    assert ranks(np.array([0.5, 0.9, 0.5]), larger_is_better=True).tolist() == [2.5, 1, 2.5]
    assert ranks(np.array([0.5, 0.9, 0.4]), larger_is_better=False).tolist() == [2, 3, 1]


def test_scores_and_differences():
    y, sure = np.array(["a", "b"], dtype=object), np.array([[0.9, 0.1], [0.6, 0.4]])
    accuracy, loss = scores(CLASSES, y, y, sure)
    assert accuracy == 0.5
    assert loss == pytest.approx(-(np.log(0.9) + np.log(0.4)) / 2)
    y = np.array([1.0, 3.0])
    assert scores(NUMBERS, y, y, np.array([2.0, 2.0])) == (0, 1)
    assert paired(np.array([3.0, 1.0]), np.array([1.0, 1.0])) == (1.0, pytest.approx(1.0))


def test_folds_have_each_row_once():
    y = np.repeat(["a", "b"], [40, 10])
    parts = [test for _, test in folds(CLASSES, y, 5, 0)]
    assert np.sort(np.concatenate(parts)).tolist() == list(range(50))
    assert all((y[part] == "b").sum() == 2 for part in parts)
    inner = fold_of(CLASSES, np.repeat([0, 1], [40, 10]), 5, 0)
    assert np.bincount(inner[40:]).tolist() == [2] * 5


def frame():
    """A table with numbers, a gap, a column that is all gaps, strings of two and of three kinds, and dates."""
    n = 60
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"number": rng.standard_normal(n), "constant": 1.0, "empty": np.nan})
    X.loc[3, "number"] = np.nan
    X["two"] = np.where(np.arange(n) % 2, "a", "b")
    X["three"] = np.array(["x", "y", "z"], dtype=object)[np.arange(n) % 3]
    X["day"] = pd.date_range("2026-01-01", periods=n)
    return X


def test_columns_of_a_frame_are_finite_also_for_what_was_not_seen():
    X = frame()
    columns = Columns(Rules()).fit(X)
    blocks = columns.blocks(X)
    other = X.assign(two="c", three="w", number=1e300, empty=1.0, day=pd.NaT)
    for name, block in columns.blocks(other).items():
        assert block.dtype == np.float32
        assert block.shape == blocks[name].shape
        assert np.isfinite(block).all()
        assert np.isfinite(blocks[name]).all()
    assert np.abs(blocks["ranks"]).max() <= 1.7 + 1e-6
    assert (blocks["pieces"].min(), blocks["pieces"].max()) == (0, 1)


@pytest.mark.parametrize("kind", [CLASSES, NUMBERS])
def test_the_recipe_predicts(kind):
    X = frame()
    y = X["two"].to_numpy(object) if kind == CLASSES else X["number"].fillna(0).to_numpy()
    predicted = recipe(kind, X, y, 0, QUICK)(X)
    if kind == CLASSES:
        assert (predicted.argmax(1) == np.searchsorted(["a", "b"], y)).mean() > 0.8
        np.testing.assert_allclose(predicted.sum(1), 1, rtol=1e-5)
    else:
        assert predicted.shape == (60,)
        assert y.min() <= predicted.min()
        assert predicted.max() <= y.max()


def test_the_question_is_answered(capsys):
    main(["tables", "--quick", "--cpu", "--set", "digits", "--method", "fastnn", "linear"])
    line = r"digits(: .*|( +[+-]?\d+\.\d+)+)|(score|loss|seconds|fastnn -)[\w -]*|mean rank( +\d\.\d\d)+|"
    answers = [bool(re.fullmatch(line, each)) for each in capsys.readouterr().out.splitlines()]
    assert sum(answers) > 10
    assert all(answers[answers.index(True) :])
