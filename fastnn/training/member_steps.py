"""Steps of a population on gradients from outside: a further step like the last one only binds where samples lie."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..kernels.programs.sources import Sources
from ..network.network import Programs
from ..reports.progress import PopulationProgress
from ..settings.optimizers import Optimizer
from . import member_arguments
from .member_arguments import Crew
from .member_data import MemberData
from .members import Members, MemberSamples
from .rounds import PopulationFit, runs_of


class _Likeness(NamedTuple):
    """What steps have in common that go on in the same programs and buffers."""

    optimizer: Any  # the argument
    threads: int | None
    sources: Sources
    rows: int

    def holds(self, other: _Likeness) -> bool:
        """Whether the other steps are like these. A sequence of optimizers may have changed since."""
        single = isinstance(self.optimizer, (str, Optimizer))
        return single and self.optimizer is other.optimizer and self[1:] == other[1:]


class MemberSteps:
    """One step of each member after another. One call uses it at a time."""

    def __init__(self, crew: Crew, programs: Programs):
        """`programs` take gradients of the outputs."""
        self.crew, self.programs = crew, programs
        self.fit: PopulationFit | None = None
        self.like: _Likeness | None = None
        self.number = 0  # what the members' states call the optimizers

    def step(self, members: Members, data: MemberData, optimizer: Any, threads: int | None) -> NDArray[np.bool_]:
        """Take a step of each member on all its rows, whose targets are gradients; gives which have taken it."""
        samples = data.samples()
        like = _Likeness(optimizer, threads, samples.sources, int(samples.places["n"][0]))
        fit, last = self.fit, self.like
        self.fit = None  # an exception leaves none
        latest = max(members.optimizers, default=0) == self.number
        if fit is None or last is None or not (fit.members is members and latest and last.holds(like)):
            if fit is not None:
                fit.close()
            fit = self._begin(members, data, optimizer, threads)
        else:
            _bind(fit, samples)
        fit.run(closes=False)
        self.fit, self.like = fit, like
        return np.asarray(fit.runs["epoch"] == 1)

    def _begin(self, members: Members, data: MemberData, optimizer: Any, threads: int | None) -> PopulationFit:
        request = member_arguments.of_step(self.crew, data, optimizer, threads)
        self.number = members.train_by(request.optimizers, request.optimizers.n_vectors)
        silent = PopulationProgress(bar=False, lines=False, epochs=0)
        return PopulationFit(self.crew.architecture, self.programs, members, request, self.number, silent)


def _bind(fit: PopulationFit, samples: MemberSamples) -> None:
    """Let a fit that has taken a step take the next one, on samples of the same kinds."""
    for name in ("inputs", "targets"):
        fit.samples.places[name] = samples.places[name]
    fit.used = samples  # as long as their addresses are bound
    for bucket in fit.buckets:
        bucket.rates_until = 0
    fit.runs[...], fit.losses[...] = runs_of(fit.request), 0.0
