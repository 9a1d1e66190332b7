"""Every ```python block of README.md and docs/*.md runs, in order and in one namespace per page.

What a block prints stands below it in a ```text block, with nothing between the two.
"""

import ast
import contextlib
import doctest
import html
import importlib.util
import io
import re
import shutil
import subprocess
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

from ..fastnn.cluster_fits import OF_RAY

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CHAPTERS = [page for page in sorted((ROOT / "docs" / "learn").glob("*.md")) if page.stem not in ("index", "errors")]
STARTS = sorted((ROOT / "docs" / "start").glob("*.md"))
MUST_HAVE_BLOCKS = [ROOT / "README.md", *CHAPTERS, *STARTS]
BESIDE = [ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")]
CHECKER_FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
RAY = pytest.mark.filterwarnings(*OF_RAY)
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


def script(name):
    """A script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_what_the_docstrings_say():
    """`make reference` writes it; every public name is there."""
    module = script("reference")
    listed = [name for names in module.KINDS.values() for name in names]
    searches = [f"search.{name}" for name in fastnn.search.__all__]
    assert sorted(listed) == sorted([*fastnn.__all__, "optimizers.Optimizer", *searches])
    for page, text in module.TEXTS.items():
        assert (module.PAGES / page).read_text(encoding="utf-8") == text(), page


def texts_of_code():
    """The texts in the code, with "..." for a value in them."""
    for path in [*(ROOT / "fastnn").rglob("*.py"), *(ROOT / "kernels").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(part.value if isinstance(part, ast.Constant) else "..." for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_messages_are_those_of_the_code():
    """The words of each message of docs/reference/errors.md stand in the code."""
    page = (ROOT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
    messages, texts = re.findall(r"^\*\*`(.*)`\*\*$", page, re.M), "\n".join(texts_of_code())
    assert len(messages) > 20
    for message in messages:
        words = re.split(r"\.\.\.|^[Xy]\b", message)
        assert all(part.strip("., ") in texts for part in words), message


@pytest.mark.parametrize("page", [*PAGES, *BESIDE], ids=lambda page: page.name)
def test_links_lead_to_files(page):
    """Links and images of a page, those to other hosts left out."""
    site = script("website")
    for target in site.links(page.read_text(encoding="utf-8")):
        if not site.is_elsewhere(target):
            assert (page.parent / target.partition("#")[0]).exists(), target


def test_every_page_is_in_the_navigation_of_the_site():
    """docs/mkdocs.yml has it once, and no page that is not there."""
    lines = (ROOT / "docs" / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2].splitlines()
    listed = sorted(line.split()[-1] for line in lines if line.endswith(".md"))
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in PAGES if page.name != "README.md"}
    assert listed == sorted(pages | {f"project/{name}" for name in script("website").TAKEN_IN})


@pytest.mark.parametrize(
    ("path", "text", "found", "outside"),
    [
        (
            "docs/why/a.md",
            "[a](../how-to/b.md#c) ![](../images/d.svg)",
            "[a](../how-to/b.md#c) ![](../images/d.svg)",
            (),
        ),
        ("docs/why/a.md", "[a](../../SECURITY.md#files)", "[a](../project/SECURITY.md#files)", ("SECURITY.md",)),
        ("docs/index.md", "[a](../examples/digits.py)", "[a](source/examples/digits.py.md)", ("examples/digits.py",)),
        ("docs/why/a.md", "[a](../../README.md), [b](#c)", "[a](../index.md), [b](#c)", ()),
        (
            "CONTRIBUTING.md",
            "[a](docs/why/a.md) and [b](https://b.org/c.md)",
            "[a](../why/a.md) and [b](https://b.org/c.md)",
            (),
        ),
        ("CONTRIBUTING.md", "[a](SECURITY.md)", "[a](SECURITY.md)", ("SECURITY.md",)),
        ("docs/a.md", "```md\n[a](../x.md)\n```\n", "```md\n[a](../x.md)\n```\n", ()),
    ],
)
def test_links_on_the_site(path, text, found, outside):
    """Those out of docs/ lead to pages that the site takes in; blocks stay."""
    assert script("website").rewritten(text, path) == (found, set(outside))


def test_faults_of_a_site(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "index.html").write_text('<p id="top"><a href="a/b.html#x">b</a> <a href="https://b.org">c</a>')
    (tmp_path / "a" / "b.html").write_text(
        '<img src="//b.org/c.png"><a href="../index.html#top">b</a><a href="d.html">d</a>'
    )
    (tmp_path / "a" / "c.css").write_text("@import 'https://b.org/d.css'; p { background: url(d.png) }")
    assert script("website").faults(tmp_path) == [
        "a/b.html links to d.html, which is not there",
        "a/b.html loads //b.org/c.png",
        "a/c.css loads https://b.org/d.css",
        "index.html links to a/b.html#x, which has no such anchor",
    ]


@pytest.mark.slow
def test_the_site(tmp_path):
    """No link leads nowhere, nothing comes from another host, and the text is there without scripts."""
    pytest.importorskip("zensical")
    assert script("website").build(tmp_path / "site") == []
    text = (tmp_path / "site" / "why" / "rejected.html").read_text(encoding="utf-8")
    assert "parameters and buffers in huge pages" in text
    assert "fonts.googleapis" not in text


TYPES = """<script>
setTimeout(() => {
  document.querySelector(".md-search__button").click();
  setTimeout(() => document.execCommand("insertText", false, "dropout"), 1500);
  setTimeout(() => {
    const roots = [...document.querySelectorAll("*")].flatMap((element) => element.shadowRoot ?? []);
    document.title = roots.map((root) => root.innerHTML).join();
  }, 4000);
}, 1000);
</script>"""  # a word into the search, and what comes into the title


@pytest.mark.slow
def test_the_search_of_the_site_needs_no_server(tmp_path):
    pytest.importorskip("zensical")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs chromium")
    script("website").build(tmp_path / "site")
    page = tmp_path / "site" / "index.html"
    page.write_text(page.read_text(encoding="utf-8") + TYPES, encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    command = [chromium, *options, profile, "--virtual-time-budget=10000", "--dump-dom", page.as_uri()]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    title = html.unescape(re.search(r"<title>(.*?)</title>", found, re.S)[1])
    assert int(re.search(r"(\d+) results", title)[1]) > 10
    assert "how-to/training.html" in title
