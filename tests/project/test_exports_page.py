"""The table of docs/how-to/export.md has each format and each kind of network, and its cells are what is measured."""

import importlib.util
import itertools
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the extra sklearn is not installed")

from fastnn.exchange.exporting import FORMATS
from fastnn.settings.layers import HIDDEN

ROOT = Path(__file__).resolve().parents[2]
FIGURE = re.compile(r"[1-9](e-\d+)?")
BOUNDS = {"float32": 2e-6, "float64": 1e-12, "int8": 0.1}  # of float32 two roundings, in the file and in `predict`
UNSTEADY = ("`step`", "`exp`")  # a unit that turns, large values: in int8 these have larger errors


@pytest.fixture(scope="module")
def page():
    """The module that writes the table."""
    spec = importlib.util.spec_from_file_location("exports_page", ROOT / "docs" / "exports.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def table(module, text):
    """({(group, name): {column: cell}}, the reasons by their numbers) of a table."""
    found, group = {}, ""
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    assert [each.strip() for each in lines[0][2:]] == [f"`{suffix}` {dtype}" for suffix, dtype in module.COLUMNS]
    for first, name, *cells in lines[2:]:
        group = first.strip() or group
        found[group, name.strip()] = dict(zip(module.COLUMNS, [each.strip() for each in cells], strict=True))
    return found, dict(re.findall(r"^(\d+)\. (.*)$", text, re.M))


def shown(module):
    """What the page shows."""
    _, text, _ = module.parts((ROOT / "docs" / "how-to" / "export.md").read_text(encoding="utf-8"))
    return table(module, text)


def test_the_table_has_everything(page):
    found, reasons = shown(page)
    assert [*found] == [(group, name) for group, names in page.ROWS.items() for name in names]
    assert {("activation", f"`{name}`") for name in HIDDEN} <= {*found}
    layers = ("Scale", "PReLU", "BatchNorm", "LayerNorm", "Residual", "Embedding")
    assert {("layer", f"`{name}`") for name in layers} <= {*found}
    floats = itertools.product(FORMATS, ("float32", "float64"))
    assert [*floats, *((suffix, "int8") for suffix in (".onnx", ".h"))] == page.COLUMNS
    for (group, name), cells in found.items():
        for (suffix, dtype), cell in cells.items():
            if (refused := re.fullmatch(r"no \((\d+)\)", cell)) is not None:
                if dtype == "int8":
                    assert reasons[refused[1]].startswith("int8 takes ")
                else:
                    assert (name, suffix, dtype) == ("`gelu`", ".onnx", "float64")
                    assert "ONNX Runtime has neither Gelu nor Erf in double precision" in reasons[refused[1]]
            elif cell == "-":
                assert (group, dtype) == ("estimator", "float64")
            else:
                assert FIGURE.fullmatch(cell), (name, cell)
                assert float(cell) <= BOUNDS[dtype] or (dtype == "int8" and name in UNSTEADY), name


def test_cells(page):
    """Errors are rounded up to one digit, and tiny ones are not told apart; reasons are told once."""
    reasons = {}
    cells = [page.cell(value, "float32", reasons) for value in (0.0, 2.3e-7, 9.4e-7, None, "why", "else", "why")]
    assert cells == ["1e-7", "3e-7", "1e-6", "-", "no (1)", "no (2)", "no (1)"]
    assert page.cell(2e-16, "float64", reasons) == "2e-16"


def test_errors_are_found(page):
    one, two = np.array([[0.25], [0.5]]), np.array([[0.75, 0.25], [0.5, 0.5]])
    assert page.apart(two, one) == page.apart(one, two) == 0
    assert page.apart(one, 4 * one) == 0.75
    assert page.apart(np.array([[200.0]]), np.array([[100.0]])) == 1
    with pytest.raises(AssertionError, match="outputs have shape"):
        page.apart(np.ones((2, 3)), one)


THIRDS = [0, *(pytest.param(third, marks=pytest.mark.every) for third in (1, 2))]
GROUPS = ["output", "layer", "inputs", "estimator"]
GROUPS += [pytest.param(group, marks=pytest.mark.every) for group in ("activation", "labels", "several networks")]


@pytest.mark.slow
@pytest.mark.parametrize("third", THIRDS)
@pytest.mark.parametrize("group", GROUPS)
def test_the_table_is_what_is_measured(page, group, third):
    """Up to a factor of ten, because digits depend on the CPU. A third of a group's rows, the first among them."""
    pytest.importorskip("onnx", reason="the extra onnx is not installed")
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    for command in ("cc", "node"):
        if shutil.which(command) is None:
            pytest.skip(f"needs {command}")
    expected, reasons = shown(page)
    rows = dict([*page.ROWS[group].items()][third::3])
    found, reasons_found = table(page, page.text(page.figures({group: rows})))
    assert found.keys() == {(group, name) for name in rows}
    for name, cells in found.items():
        for column, cell in cells.items():
            said = expected[name][column]
            if FIGURE.fullmatch(cell) and FIGURE.fullmatch(said):
                assert abs(np.log10(float(cell) / float(said))) <= 1, (name, column)
            else:
                assert with_reason(cell, reasons_found) == with_reason(said, reasons), (name, column)


def with_reason(cell, reasons):
    """What a cell says, the reason in place of its number."""
    refused = re.fullmatch(r"no \((\d+)\)", cell)
    return cell if refused is None else reasons[refused[1]]
