"""Draws the plots of the pages in docs/learn and docs/start anew, into docs/images: `python docs/pictures.py`.

The pages' blocks run in an empty folder. Each `savefig("name")` in them is a picture of docs/images. The drawings
there, such as neuron.svg, are written by hand.
"""

import os
import re
import shutil
import tempfile
from pathlib import Path

os.environ["SOURCE_DATE_EPOCH"] = "0"  # no date of today in the files
import matplotlib

matplotlib.use("Agg")
matplotlib.rcParams.update({"svg.hashsalt": "fastnn", "svg.fonttype": "none", "savefig.dpi": 80})

DOCS = Path(__file__).resolve().parent
PAGES = sorted([*(DOCS / "learn").glob("*.md"), *(DOCS / "start").glob("*.md")])
SAVED = re.compile(r'savefig\("([^"]+)"')


def source(page: Path) -> str:
    """The python blocks of a page, one behind the other."""
    return "\n".join(re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S))


def main() -> None:
    start = Path.cwd()
    for page in PAGES:
        code = source(page)
        names = SAVED.findall(code)
        if not names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            try:
                exec(compile(code, str(page), "exec"), {"__name__": "__main__"})
                for name in names:
                    shutil.copy(name, DOCS / "images" / name)
            finally:
                os.chdir(start)


if __name__ == "__main__":
    main()
