"""Losses: as in Nielsen's book a pair, the value and the slope in the outputs a, from which the delta follows.

Each is a vector function of outputs and targets; both sum over the outputs of a row, and the average over examples
is the caller's scale.
"""


def _quadratic(s, a, y):
    difference = a - y
    return difference * difference * 0.5, difference


LOSSES = {"quadratic": _quadratic}
