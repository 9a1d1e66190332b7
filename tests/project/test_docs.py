"""Every ```python block of README.md and docs/*.md runs, in order and in one namespace per page.

What a block prints stands below it in a ```text block, with nothing between the two.
"""

import contextlib
import doctest
import importlib.util
import io
import re
import sys
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import fastnn
from fastnn.kernels.cpu.target import AVX512
from fastnn.kernels.programs import block_programs, strategy
from fastnn.kernels.programs.memory import Layout, Vector, Workspace
from fastnn.kernels.programs.passes import Destination
from fastnn.kernels.programs.sources import Sources
from fastnn.kernels.vector.barriers import Worker

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CHAPTERS = [page for page in sorted((ROOT / "docs" / "learn").glob("*.md")) if page.stem not in ("index", "errors")]
STARTS = sorted((ROOT / "docs" / "start").glob("*.md"))
MUST_HAVE_BLOCKS = [ROOT / "README.md", *CHAPTERS, *STARTS]
CHECKER_FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
RAY = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning:ray")  # of its own
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


class Block(NamedTuple):
    page: Path
    index: int  # among the page's blocks
    heading: str
    line: int  # of the block's first line, counted from 1
    source: str
    output: str  # what it prints, as the page shows it

    @property
    def needs_ray(self) -> bool:
        return "import ray\n" in self.source

    def __str__(self) -> str:
        return f"{self.page.stem}-{self.line}-{self.heading}"


def blocks(page: Path) -> list[Block]:
    """The page's python blocks in order."""
    found: list[Block] = []
    heading, fence, start = "top", None, 0
    after_block = False  # only blank lines since the latest python block
    lines = page.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        if fence is None and line.startswith("```"):
            fence, start = line[3:].strip(), number + 1
        elif fence is not None and line.startswith("```"):
            content = "\n".join(lines[start - 1 : number - 1]) + "\n"
            if fence == "python":
                found.append(Block(page, len(found), heading, start, content, ""))
            elif fence == "text" and after_block:
                found[-1] = found[-1]._replace(output=content)
            fence, after_block = None, fence == "python"
        elif fence is None and line.strip():
            after_block = False
        if fence is None and line.startswith("#"):
            heading = re.sub(r"[^a-z0-9]+", "-", line.lower()).strip("-")
    assert fence is None, f"{page}: the block that starts at line {start} has no end"
    return found


BLOCKS = {page: blocks(page) for page in PAGES}


class Run:
    """The state of a page: its namespace, and how many of its blocks have run."""

    def __init__(self):
        self.names = {"__name__": "__main__"}
        self.done = 0


@pytest.fixture(scope="module")
def runs():
    return {page: Run() for page in PAGES}


@pytest.fixture
def directory(block, tmp_path_factory, monkeypatch):
    """Files that a page writes go to one folder of its own."""
    path = tmp_path_factory.getbasetemp() / f"docs-{block.page.stem}"
    path.mkdir(exist_ok=True)
    monkeypatch.chdir(path)


def same_output(printed: str, shown: str) -> bool:
    """Whether words and whole numbers are equal. A number with decimals may differ by one unit of its last place.

    So a figure rounded for the page is the same on every CPU. The amount of white space does not matter.
    """
    texts = printed, shown
    words = ["".join(NUMBER.sub("#", text).split()) for text in texts]
    numbers = [[Decimal(number) for number in NUMBER.findall(text)] for text in texts]

    def close(a: Decimal, b: Decimal) -> bool:
        place = max(a.as_tuple().exponent, b.as_tuple().exponent)
        return a == b or (place < 0 and abs(a - b) <= Decimal(10) ** place)

    return words[0] == words[1] and all(close(a, b) for a, b in zip(*numbers, strict=True))


def execute(block: Block, names: dict) -> None:
    if re.search(r"^>>> ", block.source, re.M):
        test = doctest.DocTestParser().get_doctest(block.source, {}, str(block), str(block.page), block.line - 1)
        test.globs = names
        report: list[str] = []
        outcome = doctest.DocTestRunner(optionflags=CHECKER_FLAGS).run(test, out=report.append, clear_globs=False)
        assert outcome.attempted
        assert not outcome.failed, "".join(report)
    else:  # newlines before it, so that a traceback shows the page's line
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * (block.line - 1) + block.source, str(block.page), "exec"), names)
        assert same_output(printed.getvalue(), block.output), f"printed:\n{printed.getvalue()}shown:\n{block.output}"


def check_pictures(block: Block) -> None:
    """A picture that a block saves is there and not empty. Its figure is closed."""
    names = re.findall(r'savefig\("([^"]+)"', block.source)
    for name in names:
        assert Path(name).stat().st_size > 1000
    if names:
        sys.modules["matplotlib.pyplot"].close("all")


def with_marks(block: Block):
    """The case of a block: Ray takes seconds to start."""
    return pytest.param(block, marks=[pytest.mark.slow, RAY] if block.needs_ray else [])


@pytest.mark.parametrize("block", [with_marks(block) for page in PAGES for block in BLOCKS[page]], ids=str)
@pytest.mark.usefixtures("directory")
def test_block(block, runs):
    if block.needs_ray:
        pytest.importorskip("ray")
    run = runs[block.page]
    for each in BLOCKS[block.page][run.done : block.index + 1]:  # more than one where this test was picked alone
        run.done += 1
        execute(each, run.names)
        check_pictures(each)


@pytest.mark.parametrize("block", [block for page in MUST_HAVE_BLOCKS for block in BLOCKS[page]], ids=str)
def test_block_checks_a_value(block):
    assert block.output or re.search(r"^\s*assert |^>>> ", block.source, re.M)


@pytest.mark.parametrize("block", [block for page in (*CHAPTERS, *STARTS) for block in BLOCKS[page]], ids=str)
def test_block_shows_its_output(block):
    assert block.output


@pytest.mark.parametrize(
    ("printed", "shown", "same"),
    [
        ("loss: 0.125\n", "loss: 0.125\n", True),
        ("loss: 0.126\n", "loss: 0.125\n", True),
        ("loss: 0.127\n", "loss: 0.125\n", False),
        ("-0.00", "0.00", True),
        ("[ 0.1   -0.25]", "[0.101 -0.25]", True),
        ("3 classes", "4 classes", False),
        ("True", "False", False),
        ("1 2", "12", False),
        ("", "0.5", False),
    ],
)
def test_same_output(printed, shown, same):
    assert same_output(printed, shown) is same


@pytest.mark.parametrize("page", MUST_HAVE_BLOCKS, ids=lambda page: page.name)
def test_page_has_blocks(page):
    assert BLOCKS[page]


def prose(page: Path) -> str:
    """A page without its blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """The headings of a page, by GitHub's rule for anchors."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_headings(page):
    """`[text](#some-heading)` names a heading of the page, `[text](other.md#some-heading)` one of another page."""
    for other, anchor in re.findall(r"\]\(([\w/.-]*)#([^)]*)\)", prose(page)):
        if not other.startswith("http"):
            assert anchor in anchors((page.parent / other).resolve() if other else page), f"{other}#{anchor}"


@pytest.mark.parametrize("batch_size", [8, 16])
def test_the_listings_of_architecture(batch_size):
    """The program of a batch of 4-8-3, for AVX-512 on any machine: nothing is compiled."""
    layout = Layout([4, 8, 3], ["sigmoid", "sigmoid"], "quadratic", "float32", target=AVX512)
    parameters, sources = Vector(layout, 6400), Sources.of(np.zeros((150, 4), np.float32), np.zeros(150, np.int32))
    task = block_programs.Task(parameters, Workspace(layout, batch_size), sources, 1.0, Destination(parameters))
    program = block_programs.block_program(task, strategy.choose(layout, batch_size), batch_size, Worker())
    assert f"```text\n{program}\n```\n" in (ROOT / "docs" / "why" / "architecture.md").read_text(encoding="utf-8")


def test_the_reference_is_what_the_docstrings_say():
    """`make reference` writes it; every public name is there."""
    source = ROOT / "docs" / "reference.py"
    spec = importlib.util.spec_from_file_location("reference_page", source)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    listed = [name for names in module.KINDS.values() for name in names]
    searches = [f"search.{name}" for name in fastnn.search.__all__]
    assert sorted(listed) == sorted([*fastnn.__all__, "optimizers.Optimizer", *searches])
    assert (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8") == module.text()
