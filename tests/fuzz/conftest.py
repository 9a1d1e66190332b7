"""The counts of the attacks, behind the summary of the tests."""

import os
from pathlib import Path

import pytest

from . import helpers

QUICK = ("test_populations.py",)  # whose few cases take about a second


@pytest.hookimpl(tryfirst=True)  # before the parts of the slow tests are chosen
def pytest_collection_modifyitems(items):
    """`make fuzz` attacks for an hour; a few cases of each attack are among the tests, most of them slow."""
    for item in items:
        if item.path.parent == Path(__file__).parent and item.path.name not in QUICK:
            item.add_marker("slow")


def pytest_terminal_summary(terminalreporter):
    tried = [attack for attack in helpers.ATTACKS if attack.done]
    if not tried or not (helpers.SECONDS or os.environ.get("FASTNN_FUZZ_SEED")):
        return
    terminalreporter.section(f"fuzz, seed {helpers.SEED}")
    for attack in tried:
        terminalreporter.write_line(f"{attack.done:9,} {attack.name}")
