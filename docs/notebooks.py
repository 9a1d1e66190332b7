"""Writes the notebooks of docs/notebooks from pages of docs: `python docs/notebooks.py`.

A block of Python becomes a code cell, and the `text` block behind it the stored output of that cell. All else becomes
Markdown. The answers to exercises, which a page folds in, stand at the end of a notebook.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
CHAPTERS = "models generalization transfer-learning neurons networks cost gradient-descent backpropagation gradients"
PAGES = {f"mechanics-{i}-{name}": DOCS / "learn" / f"{name}.md" for i, name in enumerate(CHAPTERS.split(), 1)}
PAGES |= {name: DOCS / "how-to" / f"{name}.md" for name in ("tables", "populations")}
NOTE = """*Made from [docs/{path}](../{path}) by `docs/notebooks.py`. It needs fastnn with some of its extras: from a
checkout, `pip install '.[tables,plots,sklearn]'`.*"""
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.M | re.S)
ANSWER = re.compile(
    r"^(\*\*Exercise (\d+)\.\*\*(?:(?!^<details).)*?)"
    r'^<details markdown="1"><summary>Answer</summary>\n(.*?)^</details>\n',
    re.M | re.S,
)
FENCED = re.compile(r"^```.*?^```$", re.M | re.S)
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]*)(#[^)\s]*)?\)")


def anchors(text: str) -> dict[str, str]:
    """GitHub's anchors of a page's headings, and Jupyter's."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", text), re.M)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-"): each.replace(" ", "-") for each in headings}


def with_links(page: Path, text: str, own: dict[str, str]) -> str:
    """Markdown of a page, with links that work in docs/notebooks; to a notebook where there is one."""
    names = {path: name for name, path in PAGES.items()}

    def link(found: re.Match[str]) -> str:
        path, anchor = found[1], found[2] or ""
        if not path:
            return f"](#{own[anchor[1:]]})"
        target = (page.parent / path).resolve()
        if target in names:
            return f"]({names[target]}.ipynb)"
        return f"]({Path(os.path.relpath(target, DOCS / 'notebooks')).as_posix()}{anchor})"

    return LINK.sub(link, text)


def answers_last(text: str) -> str:
    """A page without its folded answers, which follow as a section of their own."""
    answers = [f"**Answer {number}.** {answer.strip()}\n" for _, number, answer in ANSWER.findall(text)]
    return "\n".join([ANSWER.sub(r"\1", text), "## Answers\n", *answers]) if answers else text


def cells(page: Path) -> list[dict[str, Any]]:
    """A page's cells in order, as a notebook has them."""
    text = page.read_text(encoding="utf-8")
    own, found, done = anchors(text), [], 0

    def add(kind: str, source: str, **more: Any) -> None:
        lines = source.strip("\n").splitlines(keepends=True)
        if lines:
            cell = {"cell_type": kind, "id": f"cell-{len(found)}", "metadata": {}, "source": lines}
            found.append(cell | more)

    add("markdown", NOTE.format(path=page.relative_to(DOCS).as_posix()))
    text = answers_last(text)
    for block in BLOCK.finditer(text):
        add("markdown", with_links(page, text[done : block.start()], own))
        printed = {"name": "stdout", "output_type": "stream", "text": (block[2] or "").splitlines(keepends=True)}
        add("code", block[1], execution_count=None, outputs=[printed] if block[2] else [])
        done = block.end()
    add("markdown", with_links(page, text[done:], own))
    return found


def notebook(page: Path) -> str:
    """A page as the text of a notebook, nbformat 4.5."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    content = {"cells": cells(page), "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def main() -> None:
    for name, page in PAGES.items():
        (DOCS / "notebooks" / f"{name}.ipynb").write_text(notebook(page), encoding="utf-8")


if __name__ == "__main__":
    main()
