"""What tests of clusters share: a fit of a population that they and their scripts make, and warnings."""

import numpy as np

import fastnn

N = 96
# What Ray warns of, and eventlet where a test before has imported it: Ray starts its processes by forks.
OF_RAY = "ignore::ResourceWarning", "ignore::FutureWarning:ray", "ignore:Using fork:DeprecationWarning"


def fitted(**others):
    """A population that was fitted."""
    X = np.random.default_rng(0).standard_normal((400, 3))
    found = fastnn.Population([3, 8, 1], N, activation="tanh", output="identity", rng=0)
    arguments = {"epochs": 20, "optimizer": fastnn.Adam(np.geomspace(1e-3, 0.1, N)), "validation_fraction": 0.2}
    found.fit(X, np.sin(X[:, 0]), batch_size=16, **(arguments | others))
    return found
