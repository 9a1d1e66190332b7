"""Which cases of a test run by default: a few, in which every value of every parameter comes.

A test with several parameters has a case for each combination of their values. Faults seldom need more than two of
them to come together. So `make test` runs some cases, and all the others get the mark `slow`: `make test-slow` runs
them. Every value comes in one of the cases that run; with the mark `pairs`, every pair of values. A list of cases, as
one `parametrize` gives it, is a single parameter, so all of it runs.
"""

import collections
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


def parameters(item):
    """The parameters of a case: what each `parametrize` gives is one; a target that it gives is one by itself."""
    values, found = dict(item.callspec.params), []
    for mark in item.iter_markers("parametrize"):
        names = [name.strip() for name in mark.args[0].split(",")] if isinstance(mark.args[0], str) else mark.args[0]
        taken = {name: values.pop(name) for name in names}
        if "target" in taken:
            found.append((taken.pop("target"),))
        found.append(tuple(taken.values()))
    return [*filter(None, found), *((value,) for value in values.values())]


def pieces(parameter):
    """What a parameter consists of: the values of tuples and dicts, which are combinations themselves."""
    for value in parameter:
        if isinstance(value, dict):
            yield from map(repr, value.values())
        elif isinstance(value, tuple):
            yield from map(repr, value)
        else:
            yield repr(value)


def others(items):
    """The cases that do not run by default, of those that can run here."""
    by_test = collections.defaultdict(list)
    for item in items:
        can_run = not any(mark.args == (True,) for mark in item.iter_markers("skipif"))
        if hasattr(item, "callspec") and can_run:
            by_test[item.parent.nodeid, item.originalname].append(item)
    for of_test in by_test.values():
        if of_test[0].get_closest_marker("pairs"):
            cases = [tuple(piece for each in parameters(item) for piece in pieces(each)) for item in of_test]
            chosen = covering(cases, 2)
        else:
            chosen = covering([tuple(map(repr, parameters(item))) for item in of_test], 1)
        yield from (item for number, item in enumerate(of_test) if number not in chosen)
