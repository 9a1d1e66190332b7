"""`python -m bench readme`: the blocks of figures in README.md and docs/. No test fails because figures are old."""

import datetime
import re
import shlex
from types import SimpleNamespace

import numpy as np
import pytest

from bench import machine, markdown, mnist, readme
from bench.__main__ import QUESTIONS, main, parsed
from bench.readme import ROOT, blocks

OLD = "kernels 01234567, a CPU, 2 CPUs, 2026-01-31"
PAGE = f"""# A page

<!-- figures fake -->
old words

`python -m bench fake --rounds 3`, {OLD}
<!-- /figures -->

Between.

<!-- figures pasted -->
| by hand |

`python -m bench fake --rounds 3`, kernels {machine.kernels_hash()}, a CPU, 2026-01-31
<!-- /figures -->

<!-- figures other -->
other words

`python examples/mnist.py DIR`, kernels older, a CPU, 2026-01-31
<!-- /figures -->
"""


@pytest.fixture
def pages(tmp_path, monkeypatch):
    """A checkout of a page, and a question `fake` that answers with its rounds."""
    (tmp_path / "docs" / "why").mkdir(parents=True)
    (tmp_path / "README.md").write_text("# No figures\n")
    page = tmp_path / "docs" / "why" / "page.md"
    page.write_text(PAGE)
    fake = SimpleNamespace(
        run=lambda options: ["new", options.rounds],
        FIGURES={"fake": lambda results: f"| {results[0]} | {results[1]} |"},
        PICTURES={"fake": ("docs/fake.svg", lambda results, file: file.write_text(f"<svg>{results}</svg>"))},
    )
    monkeypatch.setattr(readme, "ROOT", tmp_path)
    monkeypatch.setattr(
        readme,
        "parsed",
        lambda words: (
            fake,
            SimpleNamespace(rounds=int(words[2]), quick=False, isa="avx2" if "--isa" in words else None),
        ),
    )
    return page


def test_every_block_is_well_formed_and_its_command_understood():
    found = blocks(ROOT)
    assert len({block.page for block in found}) > 5
    for block in found:
        words = readme.arguments(block.command, {})
        if words is None:
            assert (ROOT / shlex.split(block.command)[1]).exists()
        elif words[0] not in ("estimators", "search", "tables") or pytest.importorskip("sklearn"):
            module, _ = parsed(words)
            assert block.name in getattr(module, "FIGURES", {}), f"`bench readme` does not write {block.name}"
    assert {"speed", "accuracy"} == {block.name for block in found if block.page == ROOT / "README.md"}


@pytest.mark.parametrize("module", [name for name in QUESTIONS if name != "readme"])
def test_every_figure_that_a_question_writes_stands_in_a_page(module):
    if module in ("estimators", "search", "tables"):
        pytest.importorskip("sklearn", reason="the extra sklearn is not installed")
    question, _ = parsed([module, *(["DIR"] if module in ("mnist", "fann") else [])])
    assert getattr(question, "FIGURES", {}).keys() <= {block.name for block in blocks(ROOT)}


def test_a_block_is_replaced_and_nothing_else(pages, capsys):
    main(["readme"])
    today = f"kernels {machine.kernels_hash()}, {machine.cpu()}, {datetime.date.today()}"
    assert pages.read_text() == PAGE.replace("old words", "| new | 3 |").replace(OLD, today)
    assert (pages.parents[1] / "fake.svg").read_text() == "<svg>['new', 3]</svg>"
    said = capsys.readouterr().out
    assert "pasted: by hand, `python -m bench fake --rounds 3`" in said
    assert "other: by hand, `python examples/mnist.py DIR`" in said


def test_names_of_folders_are_replaced(pages, capsys):
    assert readme.arguments("python -m bench fann FANN --rounds 5", {"FANN": "x/y"}) == ["fann", "x/y", "--rounds", "5"]
    assert readme.arguments("python examples/mnist.py DIR", {"DIR": "x"}) is None
    pages.write_text(PAGE.replace("bench fake --rounds 3", "bench fake --rounds 3 --against PATH"))
    main(["readme"])
    assert "fake: needs --place PATH=..., `python -m bench fake" in capsys.readouterr().out
    main(["readme", "--place", "PATH=a=b"])
    assert "| new | 3 |" in pages.read_text()
    for wrong in ("PATH", "PATH=", "HERE=a"):
        with pytest.raises(SystemExit):
            main(["readme", "--place", wrong])
        assert "must be one of DIR, FANN, PATH, then = and a path" in capsys.readouterr().err


def test_a_table_that_was_not_printed_is_left(pages, capsys, monkeypatch):
    monkeypatch.setitem(markdown.PRINTED, "fake", "of another run")
    question = readme.parsed([0, 0, 3])[0]
    monkeypatch.setattr(question, "FIGURES", markdown.printed("fake"))
    main(["readme"])
    assert "fake: not measured here" in capsys.readouterr().out
    assert pages.read_text() == PAGE


def test_an_instruction_set_is_that_of_the_process(pages, capsys, monkeypatch):
    monkeypatch.setattr(readme, "isa", lambda: "avx2")
    main(["readme"])
    assert "fake: needs no --isa, `python -m bench fake" in capsys.readouterr().out
    pages.write_text(PAGE.replace("bench fake --rounds 3", "bench fake --rounds 3 --isa avx2"))
    main(["readme"])
    assert "| new | 3 |" in pages.read_text()


def test_quick_writes_nothing(pages, capsys):
    main(["readme", "--quick", "--only", "fake"])
    assert "| new | 3 |" in capsys.readouterr().out
    assert pages.read_text() == PAGE
    assert not (pages.parents[1] / "fake.svg").exists()


def test_check_lists_what_is_old(pages, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["readme", "--check"])
    assert ended.value.code == 1
    first, command, *others = capsys.readouterr().out.splitlines()
    assert first == "docs/why/page.md: fake, kernels 01234567, a CPU, 2 CPUs, 2026-01-31"
    assert command == "    python -m bench fake --rounds 3"
    assert others == ["docs/why/page.md: other, kernels older, a CPU, 2026-01-31", "    python examples/mnist.py DIR"]
    with pytest.raises(SystemExit) as ended:
        main(["readme", "--check", "--only", "pasted"])
    assert ended.value.code == 0
    assert not capsys.readouterr().out
    assert pages.read_text() == PAGE


def test_what_is_pasted_by_hand_gets_a_stamp(pages):
    main(["readme", "--stamp", "--only", "other"])
    today = f"kernels {machine.kernels_hash()}, {machine.cpu()}, {datetime.date.today()}"
    assert pages.read_text() == PAGE.replace("kernels older, a CPU, 2026-01-31", today)


@pytest.mark.parametrize(
    "damage",
    [
        ("<!-- /figures -->\n\nBetween.\n", ""),
        (f", {OLD}", ""),
        ("<!-- figures fake -->\n", ""),
        ("figures fake", "figures"),
    ],
)
def test_a_broken_block_is_refused(pages, damage):
    pages.write_text(PAGE.replace(*damage, 1))
    with pytest.raises(ValueError, match=r"page\.md: `<!-- figures NAME -->` needs a line of its source"):
        main(["readme", "--check"])


def test_the_hash_is_that_of_the_code(tmp_path):
    """And of the files' names, but not of what is said in comments and docstrings."""
    (tmp_path / "cpu").mkdir()
    path = tmp_path / "cpu" / "a.py"

    def hash_of(source):
        path.write_text(source)
        return machine.kernels_hash(tmp_path)

    first = hash_of('def f():\n    return "#"\n')
    assert re.fullmatch("[0-9a-f]{8}", first)
    (tmp_path / "cpu" / "a.pyc").write_text("ignored")
    assert machine.kernels_hash(tmp_path) == first
    said = '"""A page\nof words."""\n\n# and\ndef f():  # words\n    """Words."""\n\n    return "#"  # words\n'
    assert hash_of(said) == first
    others = ['def f():\n    return ""\n', 'def f():\n    return "#" + "#"\n', 'class f:\n    """Words."""\n']
    found = {hash_of(source) for source in others}
    path.rename(tmp_path / "cpu" / "b.py")
    assert len({first, *found, machine.kernels_hash(tmp_path)}) == 5


# ---- the tables of questions ----


def test_the_table_of_mnist():
    runs = {"fastnn": np.array([[0.9, 0.5], [0.2, 0.97], [0.4, 0.98], [0.3, 0.975]])}
    assert mnist.figures(runs).splitlines()[2] == "| fastnn | 0.30 s | 0.90 s | 97.00% to 98.00% |"


def test_the_table_of_estimators():
    estimators = pytest.importorskip("bench.estimators", reason="the extra sklearn is not installed")
    measured = {"fit": (0.01, 0.1, 10.04), "fit, 1 epoch": (1, 2, 2.04), "predict": (2e-6, 4e-5, 20.04)}
    line = estimators.figures({"iris": (7, measured)}).splitlines()[2]
    assert line == "| iris | 10.0 ms | 100.0 ms | 10.0 | 7 | 2.0 | 2.0 us | 20.0 | 10 |"


def test_the_tables_of_tables():
    tables = pytest.importorskip("bench.tables", reason="the extra sklearn is not installed")

    def folds(score, loss, seconds):
        return np.array([[score, loss, seconds]] * 2)

    benefits = {"fastnn": folds(0.9, 0.1, 0.5), "linear": folds(0.9, 0.3, 0.1), "realmlp": folds(0.8, 0.2, 29.0)}
    baseball = {"fastnn": folds(0.5, 0.2, 1.5), "linear": folds(-99.0, 0.4, 0.1), "realmlp": folds(0.75, 0.1, 3.0)}
    measured = {"benefits": (benefits, 4877), "baseball": (baseball, 263)}, ["fastnn", "linear", "realmlp"]
    assert tables.by_set(measured).splitlines()[2:] == [
        "| benefits | 4,877 | **0.900** | **0.900** | 0.800 | 0.50, 0.10, 29 |",
        "| baseball | 263 | 0.500 | below -10 | **0.750** | 1.50, 0.10, 3 |",
        "| mean rank, score |  | 1.75 | 2.25 | 2.00 |  |",
        "| mean rank, loss |  | 1.50 | 3.00 | 1.50 |  |",
    ]
    assert tables.accuracy(measured).splitlines()[2:] == [
        "| fastnn | 1.75 | 1.50 | 0.900 | 0.500 | 2.0 |",
        "| RealMLP | 2.00 | 1.50 | 0.800 | 0.750 | 32.0 |",
        "| linear | 2.25 | 3.00 | 0.900 | -99.000 | 0.2 |",
    ]
