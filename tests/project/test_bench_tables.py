"""`python -m bench tables`: its sets and its figures."""

import json
import re
from importlib.util import find_spec

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the extra sklearn is not installed")
pd = pytest.importorskip("pandas", reason="pandas is not installed")

from bench.__main__ import main  # noqa: E402
from bench.tables import MEASURED, folds, paired, ranks, scores  # noqa: E402
from bench.tables_data import CLASSES, HALVES, NUMBERS, TABLES, half_of, tables  # noqa: E402


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


def test_the_question_is_answered(capsys):
    main(["tables", "--quick", "--cpu", "--set", "digits", "--method", "fastnn", "linear"])
    line = r"digits(: .*|( +[+-]?\d+\.\d+)+)|(score|loss|seconds|fastnn -)[\w -]*|mean rank( +\d\.\d\d)+|"
    answers = [bool(re.fullmatch(line, each)) for each in capsys.readouterr().out.splitlines()]
    assert sum(answers) > 10
    assert all(answers[answers.index(True) :])


def test_figures_that_are_kept_are_not_measured_again(tmp_path, capsys):
    path = tmp_path / "kept.json"
    arguments = ["tables", "--quick", "--set", "digits", "--method", "linear", "--keep", str(path)]
    main(arguments)
    kept = json.loads(path.read_text())
    assert list(kept) == ["digits, linear, 0, 0", "digits, linear, 0, 1"]
    assert all(len(each) == 3 for each in kept.values())
    path.write_text(json.dumps({name: [0.125, 7.0, 3.0] for name in kept}))
    capsys.readouterr()
    main(arguments)
    assert re.search(r"digits +0\.1250\n", capsys.readouterr().out)
    assert json.loads(path.read_text()) == {name: [0.125, 7.0, 3.0] for name in kept}


def test_the_speed_of_large_tables(capsys):
    main(["tables", "--quick", "--speed"])
    assert re.search(r"numbers( +\d+\.\d\d){2}\nclasses( +\d+\.\d\d){2}\n", capsys.readouterr().out)


@pytest.mark.skipif(find_spec("pytabkit") is not None, reason="pytabkit is installed")
def test_figures_of_a_package_that_is_not_installed(capsys):
    """They are those of a file, which has each fold of each set."""
    kept = json.loads(MEASURED["realmlp"].read_text())
    assert kept.keys() == {f"{table.name}, realmlp, 0, {fold}" for table in TABLES for fold in range(5)}
    main(["tables", "--set", "breast_cancer", "--method", "linear", "realmlp"])
    mean = np.mean([kept[f"breast_cancer, realmlp, 0, {fold}"] for fold in range(5)], axis=0)
    said = capsys.readouterr().out
    assert "pytabkit is not installed, so the figures are those of realmlp.json" in said
    assert re.search(rf"breast_cancer +0\.\d+ +{mean[0]:.4f}\n", said)
