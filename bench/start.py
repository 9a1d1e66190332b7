"""What starting takes: imports, the first fit ever, the first fit of a later process, an estimator's, `fastnn --help`.

A turn is a process of its own, from its start to its end, on one CPU. Other processes may use that too, so what counts
is its own time there. Rows and sides take turns: here, and with `--against PATH` another checkout. Each side has
folders of its own for Python's and for fastnn's compiled code. Python's is there in all rows, as after an installation;
fastnn's is there but for the first fit ever. Figures are medians; "ratio" is the median of the rounds' ratios of here
to there. A goal in seconds is made of the imports in the same table, a ratio is one to the commit before.
"""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from .machine import cpus, print_host
from .markdown import Table, printed
from .timing import in_turn, medians, ratios, seconds

ROUNDS = 9
HERE = Path(__file__).parent.parent
OPTIONS = {"--against": {"type": Path, "metavar": "PATH", "help": "a checkout of another commit, to start in turn"}}
_DATA = "import numpy as np, fastnn; X, y = np.ones((200, 8), np.float32), np.arange(200) % 3; "
_FIT = f"{_DATA}fastnn.Model([8, 16, 3]).fit(X, y, epochs=1, batch_size=32, threads=1)"
_ESTIMATOR = f"{_DATA}fastnn.MLPClassifier((16,), max_iter=1, random_state=0).fit(X, y)"
FIRST, NUMBA, BOTH = "first fit ever", "import numba", "import sklearn.neural_network, numba"
ROWS = {  # Python's arguments
    "Python": ("-c", "pass"),
    NUMBA: ("-c", NUMBA),
    "import sklearn.neural_network": ("-c", "import sklearn.neural_network"),
    BOTH: ("-c", BOTH),
    "import fastnn": ("-c", "import fastnn"),
    "fastnn --help": ("-m", "fastnn", "--help"),
    "import of fastnn.Model": ("-c", "import fastnn; fastnn.Model"),
    FIRST: ("-c", _FIT),
    "first fit of a later process": ("-c", _FIT),
    "MLPClassifier().fit": ("-W", "ignore", "-c", _ESTIMATOR),
}
GOALS = {  # the row of the imports that it may take, and how many seconds more
    "import fastnn": ("Python", 0.02),
    "fastnn --help": ("Python", 0.05),
    "first fit of a later process": (NUMBA, 0.12),
    "MLPClassifier().fit": (BOTH, 0.12),
}
RATIOS = {FIRST: 0.7}
FIGURES = printed("start")


def _of_children():
    """Seconds of CPU of all processes that this one started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Side:
    """A checkout, and the folders of its compiled code."""

    def __init__(self, checkout, folder):
        self._checkout, self._cache, self._empty = checkout, folder / "cache", folder / "empty"
        self._environment = os.environ | {"PYTHONPATH": str(checkout), "PYTHONPYCACHEPREFIX": str(folder / "python")}
        self._environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for name in ROWS:  # writes what is kept
            self._run(name, self._cache)

    def _run(self, name, cache):
        environment = self._environment | {"FASTNN_CACHE_DIR": str(cache)}
        command = [sys.executable, *ROWS[name]]
        subprocess.run(command, check=True, env=environment, cwd=self._checkout, stdout=subprocess.DEVNULL)

    def turn(self, name):
        """The seconds of a process of a row."""
        shutil.rmtree(self._empty, ignore_errors=True)
        return seconds(lambda: self._run(name, self._empty if name == FIRST else self._cache), clock=_of_children)


def goal(name, found):
    """The goal of a row as it is shown, where it has one."""
    if name in GOALS:
        imports, more = GOALS[name]
        return f"{found[imports] + more:.2f}: {imports} + {more}"
    return f"{RATIOS[name]} of there" if name in RATIOS else ""


def run(options):
    """Print the table."""
    print_host(["scikit-learn"])
    with tempfile.TemporaryDirectory() as folder, cpus(1):
        checkouts = [HERE, *([options.against.resolve()] if options.against else [])]
        sides = [Side(checkout, Path(folder) / str(i)) for i, checkout in enumerate(checkouts)]
        turns = {
            (name, i): lambda name=name, side=side: side.turn(name) for name in ROWS for i, side in enumerate(sides)
        }
        figures = in_turn(turns, 1 if options.quick else options.rounds)
    found = medians(figures)
    here = {name: found[name, 0] for name in ROWS}
    table = Table("start", "what", "here", "there", "ratio", "goal", title="Seconds of CPU")
    for name in ROWS:
        there = [f"{value:.2f}" for value in _compared(figures, found, name)] if options.against else ["", ""]
        table.add(name, f"{here[name]:.2f}", *there, goal(name, here))


def _compared(figures, found, name):
    """(the median of another checkout, the median ratio of here to it) of a row."""
    return found[name, 1], ratios({"there": figures[name, 1], "here": figures[name, 0]})["here"]
