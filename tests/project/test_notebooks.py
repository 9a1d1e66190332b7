"""docs/notebooks: what docs/notebooks.py makes of pages, whose blocks run in test_docs.py."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from .test_docs import BLOCKS, ROOT, same_output

FOLDER = ROOT / "docs" / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
SPEC = importlib.util.spec_from_file_location("notebooks_script", ROOT / "docs" / "notebooks.py")
SCRIPT = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(SCRIPT)
PAGE = """# A page

See [there](#some-words), [tables](../how-to/tables.md#a-file), [a chapter](neurons.md) and [all](index.md#concepts).

```python
print(1)
```

```text
1
```

## Some words

```sh
ls
```

**Exercise 1.** How much
is it?

<details markdown="1"><summary>Answer</summary>

Two.

```python
print(2)
```

```text
2
```

</details>

**Exercise 2.** And then?

<details markdown="1"><summary>Answer</summary>

Three.

</details>
"""


def cells(name):
    return json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]


def test_the_notebooks_are_those_of_the_pages():
    """`python docs/notebooks.py` writes them."""
    assert sorted(SCRIPT.PAGES) == NAMES
    for name, page in SCRIPT.PAGES.items():
        assert (FOLDER / f"{name}.ipynb").read_text(encoding="utf-8") == SCRIPT.notebook(page), name


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_has_the_blocks_of_its_page_and_their_output(name):
    code = [cell for cell in cells(name) if cell["cell_type"] == "code"]
    found = [("".join(cell["source"]), "".join("".join(out["text"]) for out in cell["outputs"])) for cell in code]
    page = SCRIPT.PAGES[name]
    assert found == [(block.source.rstrip("\n"), block.output) for block in BLOCKS[page]]
    assert not any("```python" in line for cell in cells(name) for line in cell["source"])


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_valid_and_its_links_lead_somewhere(name):
    nbformat = pytest.importorskip("nbformat")
    nbformat.validate(json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")))
    markdown = "\n".join("".join(cell["source"]) for cell in cells(name) if cell["cell_type"] == "markdown")
    headings = {heading.replace(" ", "-") for heading in re.findall(r"^#+ (.*)$", markdown, re.M)}
    for path, anchor in re.findall(r"\]\((?!http)([^)#]*)(?:#([^)]*))?\)", markdown):
        assert (FOLDER / path).exists() if path else anchor in headings, (path, anchor)
    assert markdown.count("**Exercise ") == markdown.count("**Answer ")


def test_what_becomes_of_a_page():
    page = ROOT / "docs" / "learn" / "made-up.md"

    class Page(type(page)):
        def read_text(self, encoding):
            return PAGE

    note, *found = SCRIPT.cells(Page(page))
    assert "docs/learn/made-up.md" in note["source"][0]
    sources = [(cell["cell_type"], "".join(cell["source"])) for cell in found]
    links = "[there](#Some-words), [tables](tables.ipynb), [a chapter](mechanics-4-neurons.ipynb)"
    assert sources == [
        ("markdown", f"# A page\n\nSee {links} and [all](../learn/index.md#concepts)."),
        ("code", "print(1)"),
        (
            "markdown",
            "## Some words\n\n```sh\nls\n```\n\n**Exercise 1.** How much\nis it?\n\n\n**Exercise 2.** And then?\n\n\n"
            "## Answers\n\n**Answer 1.** Two.",
        ),
        ("code", "print(2)"),
        ("markdown", "**Answer 2.** Three."),
    ]
    assert [cell["outputs"][0]["text"] for cell in found if cell["cell_type"] == "code"] == [["1\n"], ["2\n"]]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of Jupyter's packages
def test_a_notebook_runs_in_jupyter(tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("MPLBACKEND", raising=False)
    notebook = nbformat.read(FOLDER / "mechanics-4-neurons.ipynb", as_version=4)
    shown = [cell.outputs[0].text for cell in notebook.cells if cell.cell_type == "code"]
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    printed = ["".join(out.text for out in cell.outputs if out.output_type == "stream") for cell in code]
    assert all(map(same_output, printed, shown))
    assert any(out.output_type == "display_data" for cell in code for out in cell.outputs)  # the plot
    assert Path(tmp_path / "sigmoid.svg").exists()
