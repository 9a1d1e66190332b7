"""Sections of the docs that show how a network goes on elsewhere: their commands are run as they stand.

A block whose first line is a comment with the name of a file is that file. A `sh` block is run by bash, Python's
blocks in this process; what either prints stands in the `text` block behind it, where there is one. Python's blocks
above the section have run before.
"""

import contextlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import fastnn

from .test_docs import BLOCKS, ROOT, execute, same_output

FENCED = re.compile(r"^```(\w+)\n(.*?)^```\n", re.M | re.S)
FILE_NAME = re.compile(r"(?:/\*|//|<!--) (\S+)(?: \*/| -->)?\n")
ARM = ["arm-none-eabi-gcc", "arm-none-eabi-size", "qemu-system-arm"]
NODE_MODULES = Path(os.environ.get("FASTNN_NODE_MODULES", "nothing")).absolute()
# What each section needs: commands, packages of Python, and of node in the folder that FASTNN_NODE_MODULES names.
SECTIONS = {
    ("export-c", "On a Cortex-M4"): ARM,
    ("export-c", "In a C++ program"): ["g++"],
    ("export-javascript", "In a web page"): ["chromium"],
    ("export-onnx", "In OpenCV"): ["onnxruntime", "cv2"],
    ("export-onnx", "In tract"): ["onnxruntime", "tract"],
    ("export-onnx", "In Node.js and browsers"): ["onnxruntime", "node", "onnxruntime-web"],
}
# Chromium refuses to be root with its sandbox.
COMMANDS = {
    "python": f'exec "{sys.executable}" "$@"',
    "fastnn": f'exec "{sys.executable}" -m fastnn "$@"',
    "chromium": f'exec "{shutil.which("chromium")}" {"" if getattr(os, "getuid", bool)() else "--no-sandbox"} "$@"',
}


@pytest.fixture
def shell(tmp_path, monkeypatch):
    """A function: what commands print, which run in an empty folder by the packages of this process."""
    scripts, folder = tmp_path / "scripts", tmp_path / "folder"
    for path in (scripts, folder):
        path.mkdir()
    for name, line in COMMANDS.items():
        (scripts / name).write_text(f"#!/bin/sh\n{line}\n")
        (scripts / name).chmod(0o755)
    monkeypatch.chdir(folder)
    if NODE_MODULES.is_dir():
        Path("node_modules").symlink_to(NODE_MODULES)
    paths = {"PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    paths["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])

    def run(text):
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen(
            ["bash", "-e", "-o", "pipefail", "-c", text], env=os.environ | paths, start_new_session=True, **pipes
        )
        try:
            printed, told = process.communicate(timeout=300)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what it left in the background
        assert process.returncode == 0, printed + told
        return printed

    return run


def skip_without(*needed):
    """Skip where one of these is not there."""
    for name in needed:
        if not (shutil.which(name) or (NODE_MODULES / name).is_dir() or (name.isidentifier() and find_spec(name))):
            pytest.skip(f"needs {name}")


def blocks(page, heading):
    """[(language, text)] of a section's blocks, and the number of the line where it begins."""
    above, found, below = (
        (ROOT / "docs" / "how-to" / f"{page}.md").read_text(encoding="utf-8").partition(f"\n## {heading}\n")
    )
    assert found, heading
    return FENCED.findall(below.partition("\n## ")[0]), above.count("\n") + 2


def run_section(page, heading, shell):
    """Run what a section shows."""
    found, line = blocks(page, heading)
    names = {"__name__": "__main__"}
    for block in BLOCKS[ROOT / "docs" / "how-to" / f"{page}.md"]:
        if block.line < line:
            execute(block, names)
    for (language, text), (following, output) in zip(found, [*found[1:], ("", "")], strict=True):
        file_name, printed = FILE_NAME.match(text), None
        if file_name is not None:
            Path(file_name[1]).write_text(text, encoding="utf-8")
        elif language == "sh":
            printed = shell(text)
        elif language in ("py", "python"):
            with contextlib.redirect_stdout(io.StringIO()) as shown:
                exec(compile(text, page, "exec"), names)
            printed = shown.getvalue()
        if printed is not None and following == "text":
            assert same_output(printed, output), f"printed:\n{printed}shown:\n{output}"


@pytest.mark.slow
@pytest.mark.parametrize(("page", "heading"), SECTIONS)
def test_section(page, heading, shell):
    needed = SECTIONS[page, heading]
    skip_without("bash", *needed)
    run_section(page, heading, shell)


def passengers(n, seed, ports):
    """A table of text and gaps, as of the Titanic."""
    rng = np.random.default_rng(seed)
    found = {
        "pclass": rng.choice([1, 2, 3], n),
        "sex": rng.choice(["male", "female"], n).astype(object),
        "age": rng.uniform(1, 70, n).round(1),
        "fare": rng.gamma(2, 20, n).round(2),
        "embarked": rng.choice(ports, n).astype(object),
    }
    sure = 2 * (found["sex"] == "female") - 0.6 * found["pclass"] - 0.02 * found["age"] + rng.normal(0, 0.5, n)
    found["survived"] = np.where(sure > np.median(sure), "yes", "no")
    frame = pd.DataFrame(found)
    frame.loc[::5, "age"], frame.loc[3::17, "embarked"], frame.loc[7::31, "sex"] = np.nan, None, None
    return frame


@pytest.mark.slow
def test_from_a_table_to_c(shell):
    """The program and Python predict the same of each row, those with gaps and with an unknown port among them."""
    skip_without("bash", "cc")
    old, new = passengers(600, 0, ["C", "Q", "S"]), passengers(400, 1, ["C", "Q", "S", "unknown"])
    old.to_csv("titanic.csv", index=False)
    new.drop(columns="survived").to_csv("passengers.csv", index=False)
    run_section("command-line", "From a table to C", shell)
    expected = fastnn.load("titanic.safetensors").predict(pd.read_csv("passengers.csv"))
    assert shell("./titanic < passengers.csv").split() == ["prediction", *expected]
    assert 0.7 < (expected == new["survived"]).mean() < 1
    path = ROOT / "docs" / "how-to" / "command-line.md"
    commands = [text for language, text in blocks(path.stem, "From a table to C")[0] if language == "sh"]
    assert [len(each.splitlines()) for each in commands] == [5]
