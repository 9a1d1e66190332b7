"""What halving costs: CPU time of `Population.fit` with `Halving`, beside fits of the same epochs alone.

243 networks begin. After 3 epochs 81 go on, after 9 epochs 27, after 27 epochs 9, to epoch 81. The other side trains
the same networks to each of these epochs by a fit without halving, and goes on from a copy of those that are left.
Making the copy is not timed. A fifth of the samples is held out. In the lines "validated" both sides score it after
each epoch, and the last column is beside fits that do not. Before a side is timed, the networks that are left must be
the same, bit for bit, on both sides.
"""

import time

import numpy as np

import fastnn

from .machine import cpus
from .markdown import Table
from .population_sides import Population, Task
from .timing import in_turn, medians, ratios, seconds

TARGET = 1.2
MEMBERS, QUICK_MEMBERS = 243, 27
HALVING, QUICK_HALVING = fastnn.Halving(eta=3, min_epochs=3), fastnn.Halving(eta=3, min_epochs=1)
RUNGS = 3  # after which the networks that are left train three times as long as before


class Contest(Population):
    """Networks of a task, which compete; `validated` says by which loss."""

    def __init__(self, task, halving, validated):
        super().__init__(task, threads=1)
        self._halving, self._epochs = halving, halving.min_epochs * halving.eta**RUNGS
        n = len(task.X) // 5
        self._held = {"validation_data": (task.X[:n], task.y[:n])}
        self._samples, self._validated = (task.X[n:], task.y[n:]), validated
        del self._fit["epochs"]

    def _seconds(self, population, which, epochs, **options):
        """CPU seconds of a fit of these members."""
        optimizer = self._optimizer(self.task.rates[which])
        fit = lambda: population.fit(*self._samples, epochs=epochs, optimizer=optimizer, **self._fit, **options)  # noqa: E731
        return seconds(fit, clock=time.process_time)

    def _made(self):
        return fastnn.Population(self.task.case.sizes, self.task.members, rng=0, **self._network)

    def together(self):
        """(CPU seconds of one fit with halving, the members that are left, their parameters)."""
        population, held = self._made(), self._held if self._validated else {}
        everyone = np.arange(self.task.members)
        spent = self._seconds(population, everyone, self._epochs, stopping=self._halving, **held)
        left = np.flatnonzero(population.history.epochs == self._epochs)
        return spent, left, population.vectors[left]

    def alone(self, validated=None):
        """The same of fits without halving, from rung to rung."""
        population, left, done, spent = self._made(), np.arange(self.task.members), 0, 0.0
        validated = self._validated if validated is None else validated
        while True:
            goal = min(self._halving.next_rung(done), self._epochs)
            spent += self._seconds(population, left, goal - done, **self._held if validated else {})
            done = goal
            if done == self._epochs:
                return spent, left, population.vectors
            losses = (population.history.val_loss if validated else population.history.loss)[:, -1]
            best = np.sort(np.argsort(losses, kind="stable")[: -(-len(left) // self._halving.eta)])
            population, left = population[best], left[best]

    def check(self):
        """Raise ArithmeticError where the two sides do not end with the same networks."""
        (_, one, vectors), (_, other, others) = self.together(), self.alone()
        if not np.array_equal(one, other) or vectors.tobytes() != others.tobytes():
            raise ArithmeticError(f"{self.task.case.name}: other networks are left with halving than without")


def measure(contest, validated, rounds):
    """{side: CPU seconds in each round}."""
    contest.check()
    sides = {"live epochs": contest.alone, "halving": contest.together}
    if validated:
        sides["not scored"] = lambda: contest.alone(validated=False)
    return in_turn({name: lambda side=side: side()[0] for name, side in sides.items()}, rounds)


def print_halving(chosen, samples, options):
    """Print a line for each of the chosen cases, without and with validation; samples(case) gives (X, y)."""
    members, halving = (QUICK_MEMBERS, QUICK_HALVING) if options.quick else (MEMBERS, HALVING)
    title = f"{members} networks, {halving}: CPU time over that of the same epochs alone"
    table = Table("halving", "network", "ms alone", "ms", f"ratio (target {TARGET})", "not scored", title=title)
    for case in chosen:
        case = case.little() if options.quick else case
        task = Task(case, members, *samples(case))
        for validated in (False, True):
            with cpus(1):
                found = measure(Contest(task, halving, validated), validated, options.rounds)
            middle, ratio = medians(found), ratios(found)
            name = f"{case.name}, {'validated' if validated else 'not validated'}"
            unscored = f"{ratios(found, 'not scored')['halving']:.2f}" if validated else ""
            times = [f"{middle[side] * 1e3:,.1f}" for side in ("live epochs", "halving")]
            table.add(name, *times, f"{ratio['halving']:.2f}", unscored)
