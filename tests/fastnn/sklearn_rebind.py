"""A pytest plugin that puts the package's estimators in place of scikit-learn's, for scikit-learn's own tests of them.

In a folder with no pytest settings, where `tests` and `fastnn` can be imported:

    python -m pytest -p tests.fastnn.sklearn_rebind --pyargs sklearn.neural_network.tests.test_mlp

Importing this module changes nothing, because doctest imports it too.
"""

import pytest
import sklearn.neural_network

import fastnn

NAMES = ("MLPClassifier", "MLPRegressor")


def pytest_configure():
    """Runs before the tests are imported."""
    for name in NAMES:
        setattr(sklearn.neural_network, name, getattr(fastnn, name))


def pytest_collection_finish(session):
    """Every test must see the package's classes."""
    for item in session.items:
        for name in NAMES:
            if getattr(item.module, name, None) is not getattr(fastnn, name):
                raise pytest.UsageError(f"{item.nodeid} has another {name}")
