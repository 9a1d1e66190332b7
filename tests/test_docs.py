"""Every ```python block of README.md and docs/*.md runs, in order and in one namespace per page."""

import doctest
import re
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MUST_HAVE_BLOCKS = [ROOT / "README.md", ROOT / "docs" / "mechanics.md"]
CHECKER_FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


class Block(NamedTuple):
    page: Path
    index: int  # among the page's blocks
    heading: str
    line: int  # of the block's first line, counted from 1
    source: str

    def __str__(self) -> str:
        return f"{self.page.stem}-{self.line}-{self.heading}"


def blocks(page: Path) -> list[Block]:
    """The page's python blocks in order."""
    found: list[Block] = []
    heading, fence, start = "top", None, 0
    lines = page.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        if fence is None and line.startswith("```"):
            fence, start = line[3:].strip(), number + 1
        elif fence is not None and line.startswith("```"):
            if fence == "python":
                source = "\n".join(lines[start - 1 : number - 1]) + "\n"
                found.append(Block(page, len(found), heading, start, source))
            fence = None
        elif fence is None and line.startswith("#"):
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


def execute(block: Block, names: dict) -> None:
    if re.search(r"^>>> ", block.source, re.M):
        test = doctest.DocTestParser().get_doctest(block.source, {}, str(block), str(block.page), block.line - 1)
        test.globs = names
        report: list[str] = []
        outcome = doctest.DocTestRunner(optionflags=CHECKER_FLAGS).run(test, out=report.append, clear_globs=False)
        assert outcome.attempted
        assert not outcome.failed, "".join(report)
    else:  # newlines before it, so that a traceback shows the page's line
        exec(compile("\n" * (block.line - 1) + block.source, str(block.page), "exec"), names)


@pytest.mark.parametrize("block", [block for page in PAGES for block in BLOCKS[page]], ids=str)
@pytest.mark.usefixtures("directory")
def test_block(block, runs):
    run = runs[block.page]
    for each in BLOCKS[block.page][run.done : block.index + 1]:  # more than one where this test was picked alone
        run.done += 1
        execute(each, run.names)


@pytest.mark.parametrize("block", [block for page in MUST_HAVE_BLOCKS for block in BLOCKS[page]], ids=str)
def test_block_checks_a_value(block):
    assert re.search(r"^\s*assert |^>>> ", block.source, re.M)


@pytest.mark.parametrize("page", MUST_HAVE_BLOCKS, ids=lambda page: page.name)
def test_page_has_blocks(page):
    assert BLOCKS[page]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_a_page(page):
    """`[text](#some-heading)` names a heading of the page, by GitHub's rule for anchors."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]*)\)", text)) <= anchors
