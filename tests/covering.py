"""Which cases of a product of parameters run by default: a few, among which all pairs of values are.

A test with the mark `pairs` has cases in which several things vary at once. Faults seldom need more than two of them
to come together. So some cases that hold every pair of values run by default, and the others have the mark `slow`.
The mark `values` is for a test whose parameters have nothing to do with each other: each value runs once.
"""

import heapq
import itertools
import random


def covering(cases, strength):
    """The numbers of some cases, tuples of equal length, that hold each combination of so many values that is there.

    Greedy: always the case with most combinations that are new.
    """
    combinations = [
        {tuple((i, case[i]) for i in at) for at in itertools.combinations(range(len(case)), min(strength, len(case)))}
        for case in cases
    ]
    left = set().union(*combinations)
    order = list(range(len(cases)))
    random.Random(0).shuffle(order)  # else the first values of all come together
    heap = [(-len(combinations[number]), place, number) for place, number in enumerate(order)]
    heapq.heapify(heap)
    chosen = set()
    while left:
        count, place, number = heapq.heappop(heap)
        new = len(combinations[number] & left)
        if new < -count:  # fewer than when it was counted
            heapq.heappush(heap, (-new, place, number))
            continue
        chosen.add(number)
        left -= combinations[number]
    return chosen


def values_of(parameters):
    """What a case is made of: the values of its parameters, and those of which a tuple consists."""
    for value in parameters.values():
        if isinstance(value, tuple):
            yield from map(repr, value)
        else:
            yield getattr(value, "cpu", None) or repr(value)
