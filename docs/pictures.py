"""Draws the plots of the pages in docs/learn and docs/start anew, into docs/images: `python docs/pictures.py`.

The pages' blocks run in an empty folder. Each `savefig("name")` in them is a picture of docs/images. The drawings
there, such as neuron.svg, are written by hand.
"""

import os
import re
import shutil
import tempfile
from pathlib import Path

import matplotlib

DOCS = Path(__file__).resolve().parent
PAGES = sorted([*(DOCS / "learn").glob("*.md"), *(DOCS / "start").glob("*.md")])
SAVED = re.compile(r'savefig\("([^"]+)"')
STYLE = {"backend": "Agg", "svg.hashsalt": "fastnn", "svg.fonttype": "none", "savefig.dpi": 80}


def draw(page: Path, images: Path) -> None:
    """Run a page's blocks and copy the pictures that they save; nothing where they save none."""
    source = "\n".join(re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S))
    names = SAVED.findall(source)
    if not names:
        return
    start = Path.cwd()
    os.environ["SOURCE_DATE_EPOCH"] = "0"  # the date in the files
    with tempfile.TemporaryDirectory() as folder, matplotlib.rc_context(STYLE):
        os.chdir(folder)
        try:
            exec(compile(source, str(page), "exec"), {"__name__": "__main__"})
            for name in names:
                shutil.copy(name, images / name)
        finally:
            os.chdir(start)


if __name__ == "__main__":
    for page in PAGES:
        draw(page, DOCS / "images")
