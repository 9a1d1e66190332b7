"""Which cases of a test run by default, and which with `make test-slow`: a few that hold what can go wrong together.

A test with several parameters has a case for each combination of their values. Faults seldom need more than two of
them to come together. So `make test` runs some cases, in which every value of every parameter comes, and
`make test-slow` others, so that every pair of values does. With the mark `pairs` these are every pair, and every three
values. The cases that are left have the mark `every` too; `make test-every` runs them before a release. A list of
cases, as one `parametrize` gives it, is a single parameter, so all of it runs.
"""

import collections
import heapq
import itertools
import random
import zlib


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


def in_part(name, part):
    """Whether a case belongs to a part of all, such as "2/6": by its name alone, so each is in exactly one of the six.

    >>> [in_part("test_a", f"{i}/2") for i in (1, 2)], in_part("test_a", "1/1")
    ([True, False], True)
    """
    number, parts = map(int, part.split("/"))
    if not 1 <= number <= parts:
        raise ValueError(f"FASTNN_SLOW_PART is {part!r}; expected such as '2/6', from 1/6 to 6/6")
    return zlib.crc32(name.encode()) % parts == number - 1


def marked(items):
    """(a case that does not run by default, its marks), of the cases that can run here."""
    by_test = collections.defaultdict(list)
    for item in items:
        can_run = not any(mark.args == (True,) for mark in item.iter_markers("skipif"))
        if hasattr(item, "callspec") and can_run:
            by_test[item.parent.nodeid, item.originalname].append(item)
    for of_test in by_test.values():
        if of_test[0].get_closest_marker("pairs"):
            cases, strength = (
                [tuple(piece for each in parameters(item) for piece in pieces(each)) for item in of_test],
                2,
            )
        else:
            cases, strength = [tuple(map(repr, parameters(item))) for item in of_test], 1
        by_default, with_slow = covering(cases, strength), covering(cases, strength + 1)
        for number, item in enumerate(of_test):
            if number not in by_default:
                yield item, ["slow"] if number in with_slow else ["slow", "every"]
