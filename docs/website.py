"""Builds the site of the documents into out/site, or another folder: `python docs/website.py [FOLDER]`.

The pages are those of docs/. What they link to outside of docs/ comes in too: a page of Markdown as a page of
`project/`, another file as a page of `source/` that shows it. Then no link of the site leads nowhere, else this exits
with 1.
"""

import posixpath
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
TAKEN_IN = ["CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"]
HOME = ["README.md", "docs"]  # links to these lead to the first page of the site
NOT_COPIED = shutil.ignore_patterns("*.py", "mkdocs.yml", "__pycache__", ".*")
FENCED = re.compile(r"(^```.*?^```\n?)", re.M | re.S)
LINK = re.compile(r"(\]\(\s*)([^\s)]+)")
LANGUAGES = {".py": "python", ".c": "c", ".h": "c", ".hpp": "cpp", ".sh": "bash", ".toml": "toml", ".pyi": "python"}


def links(text):
    """Where the links and images of a page lead, those in blocks of code left out."""
    for part in FENCED.split(text)[::2]:
        for _, target in LINK.findall(part):
            yield target


def is_elsewhere(target):
    """Whether a link leads to another place than a file."""
    return bool(urlsplit(target).scheme)


# ---- the pages ----


def page_of(path):
    """The page of the site, from its root, for a path of the repository, from its root."""
    if path in HOME:
        return "index.md"
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"project/{posixpath.basename(path)}" if path.endswith(".md") else f"source/{path}.md"


def rewritten(text, path):
    """(a page with links as they are on the site, the files outside of docs/ that it links to).

    `path` is the page's, from the root of the repository.
    """
    outside = set()
    here = posixpath.dirname(page_of(path))

    def link(match):
        target, hash_, anchor = match[2].partition("#")
        if is_elsewhere(match[2]) or not target:
            return match[0]
        aim = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        if not aim.startswith("docs/") and aim not in HOME:
            outside.add(aim)
        return match[1] + posixpath.relpath(page_of(aim), here or ".") + hash_ + anchor

    parts = FENCED.split(text)
    parts[::2] = [LINK.sub(link, part) for part in parts[::2]]
    return "".join(parts), outside


def shown(path):
    """A page that shows a file."""
    language = LANGUAGES.get(Path(path).suffix, "text")
    text = (ROOT / path).read_text(encoding="utf-8").rstrip()
    return f"---\nsearch:\n  exclude: true\n---\n# {path}\n\n~~~~~~~~{language}\n{text}\n~~~~~~~~\n"


def write_pages(folder):
    """The source of the site, in a new folder."""
    shutil.copytree(DOCS, folder, ignore=NOT_COPIED)
    waiting, done = {*TAKEN_IN, *(f"docs/{path.relative_to(DOCS).as_posix()}" for path in DOCS.rglob("*.md"))}, set()
    while waiting:
        path = waiting.pop()
        done.add(path)
        text = shown(path)
        if path.endswith(".md"):
            text, outside = rewritten((ROOT / path).read_text(encoding="utf-8"), path)
            waiting |= outside - done
        target = folder / page_of(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


# ---- the site ----


class Page(HTMLParser):
    """What a page of HTML links to and loads, and its anchors."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loads, self.anchors = set(), set(), set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        values = {name: value for name, value in attrs if value}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag in ("a", "area"):
            self.links |= {values["href"]} if "href" in values else set()
        else:
            self.loads |= {values[name] for name in ("href", "src", "data", "poster") if name in values}


def loaded_by_css(text):
    """What a style sheet loads."""
    return {
        target
        for target in re.findall(r"""url\(\s*["']?([^"')]+)|@import\s+["']([^"']+)""", text)
        for target in target
        if target
    }


def faults(folder):
    """Lines: links of a site that lead nowhere, and what it loads from elsewhere."""
    pages = {path: Page(path) for path in folder.rglob("*.html")}
    found = []
    for path, page in pages.items():
        name = path.relative_to(folder)
        found += [f"{name} loads {target}" for target in page.loads if urlsplit(target).netloc]
        for target in page.links | page.loads:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            aim = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            aim = aim / "index.html" if aim.is_dir() else aim
            anchor = unquote(parts.fragment)
            if not aim.is_file():
                found.append(f"{name} links to {target}, which is not there")
            elif anchor and aim in pages and anchor not in pages[aim].anchors:
                found.append(f"{name} links to {target}, which has no such anchor")
    for path in folder.rglob("*.css"):
        loads = loaded_by_css(path.read_text(encoding="utf-8"))
        found += [f"{path.relative_to(folder)} loads {target}" for target in loads if urlsplit(target).netloc]
    return sorted(found)


def build(folder):
    """Build the site in a folder; gives the lines of `faults`."""
    work = folder.parent / f"{folder.name}-source"
    for old in (work, folder):
        shutil.rmtree(old, ignore_errors=True)
    work.mkdir(parents=True)
    write_pages(work / "pages")
    shutil.copy(DOCS / "mkdocs.yml", work)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--config-file", str(work / "mkdocs.yml")]
    subprocess.run(command, check=True, cwd=work)
    (work / "site").rename(folder)
    (folder / "404.html").unlink()  # its links hold only where the site is the root of a host
    return faults(folder)


if __name__ == "__main__":
    lines = build(Path(sys.argv[1] if sys.argv[1:] else ROOT / "out" / "site").resolve())
    print(*lines, sep="\n")
    sys.exit(bool(lines))
