"""How everything here is timed: the sides of a comparison take turns, and figures are medians over the rounds.

A machine that slows down slows all sides of a round. So ratios are taken within each round, and their median counts.
"""

import itertools
import time

import numpy as np


def seconds(function, calls=1, clock=None):
    """The seconds of a call, the mean of several; with time.process_time as the clock, seconds of CPU."""
    clock = clock or time.perf_counter
    if calls == 1:  # a loop takes 0.04 us, a tenth of the smallest prediction
        start = clock()
        function()
        return clock() - start
    repeated = itertools.repeat(None, calls)
    start = clock()
    for _ in repeated:
        function()
    return (clock() - start) / calls


def repeats(seconds_of, total):
    """How many repeats take about `total` seconds; seconds_of(n) runs n of them and gives their seconds."""
    n = 1
    while (taken := seconds_of(n)) < total / 10:
        n *= 4
    return max(1, round(total * n / taken))


def least_seconds(function, calls=3, total=0.1):
    """The seconds of the fastest of some calls, which take `total` or more, after one that is not timed."""
    function()
    found = []
    while len(found) < calls or sum(found) < total:
        found.append(seconds(function))
    return min(found)


def in_turn(sides, rounds, pause=0.0):
    """{name: an array with the figure of each round} of sides, {name: a function that takes a turn and gives a figure}.

    Each turn begins after a pause in seconds, because threads of the side before may still spin.
    """
    figures = {name: [] for name in sides}
    for _ in range(rounds):
        for name, turn in sides.items():
            if pause:
                time.sleep(pause)
            figures[name].append(turn())
    return {name: np.array(each) for name, each in figures.items()}


def medians(figures):
    """{name: the median over the rounds} of what `in_turn` gives."""
    return {name: float(np.median(each)) for name, each in figures.items()}


def ratios(figures, first=None):
    """{name: the median of the rounds' ratios} to the side `first`, which is the first one where nothing is said."""
    base = figures[next(iter(figures)) if first is None else first]
    return medians({name: each / base for name, each in figures.items()})
