"""Passes over samples with the members of a population, one after another: their losses, their outputs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import calls
from ..kernels.programs import strategy
from ..kernels.programs.memory import Layout, aligned_zeros
from ..kernels.programs.program import PARAMETERS, SETTINGS, bind, bindings
from ..kernels.programs.sources import Source
from ..kernels.running import entry
from ..kernels.running.python_api import address_of
from ..kernels.vector.barriers import MAILBOX
from ..network.inference import Kind, Sweep
from ..network.input_loading import Loading
from ..network.network import Programs
from .members import Members, MemberSamples
from .one_by_one import on_threads, task_record


class _Sweeper:
    """What one thread takes passes with: a sweep, and the padded parameters of the member that it serves."""

    def __init__(self, programs: Programs, scale: float | None, settings: NDArray[Any]):
        try:
            self.sweep: Sweep = programs.sweeps.pop()
        except IndexError:
            self.sweep = Sweep(programs.layout, scale)
        self.memory = aligned_zeros(programs.layout.n_bytes, programs.layout.dtype)
        self.table, self.record = bindings(), np.zeros(1, entry.SLOT)
        self.record["parameters"] = address_of(self.memory)
        bind(self.table, PARAMETERS, address_of(self.memory))
        bind(self.table, SETTINGS, address_of(settings))


class MemberPasses:
    """Losses and outputs of members of one architecture, with the bits of `Model.evaluate` and `Model.predict`."""

    def __init__(self, programs: Programs, loading: Loading, settings: NDArray[Any], members: Members):
        """`settings` is a record of settings with the loss's parameter."""
        self.programs, self.loading, self.settings, self.members = programs, loading, settings, members

    @property
    def layout(self) -> Layout:
        """Where parameters lie in a padded vector."""
        return self.programs.layout

    def losses_on(
        self, which: NDArray[np.int64], samples: MemberSamples, counts: NDArray[np.float64], threads: int = 1
    ) -> NDArray[np.float64]:
        """The mean losses of members `which` (m,), each on its own of m sample sets, whose weights sum to counts."""
        losses = np.empty(len(which))
        self._run(which, samples, counts, losses, threads)
        return losses

    def outputs_on(self, which: NDArray[np.int64], samples: MemberSamples, rows: int, threads: int = 1) -> NDArray[Any]:
        """The outputs (m, rows, n_out) of members `which` (m,), each for its own of m sample sets of so many rows."""
        out = np.empty((len(which), rows, self.layout.sizes[-1]), self.layout.dtype)
        self._predict(which, samples, address_of(out) + out.strides[0] * np.arange(len(which)), threads)
        return out

    def flat_outputs_on(self, which: NDArray[np.int64], samples: MemberSamples, threads: int = 1) -> NDArray[Any]:
        """The outputs (all rows, n_out) of members `which` (m,), those for each one's sample set behind the last's."""
        counts = samples.places["n"]
        out = np.empty((int(counts.sum()), self.layout.sizes[-1]), self.layout.dtype)
        self._predict(which, samples, address_of(out) + out.strides[0] * (np.cumsum(counts) - counts), threads)
        return out

    def _predict(self, which: NDArray[np.int64], samples: MemberSamples, to: NDArray[np.int64], threads: int) -> None:
        """Write the outputs of each member to an address."""
        places = samples.places.copy()
        places["outputs"] = to
        self._run(which, replace(samples, places=places), np.ones(len(which)), np.empty(len(which)), threads)

    def _run(
        self,
        which: NDArray[np.int64],
        samples: MemberSamples,
        counts: NDArray[np.float64],
        losses: NDArray[np.float64],
        threads: int,
    ) -> None:
        """Fill losses, and outputs where the samples say a place, in calls that each take a short time."""
        layout, record = self.layout, task_record(self.layout, self.members, samples, self.loading)
        longest, width = int(samples.places["n"].max(initial=0)), layout.sizes[-1] * layout.itemsize
        record["output_stride"] = width
        nowhere = longest if not samples.places["outputs"].all() else 0
        scratch = np.empty(nowhere * layout.sizes[-1], layout.dtype).view(np.uint8)
        sweepers = [_Sweeper(self.programs, self.loading.scale, self.settings) for _ in range(threads)]
        pass_ = sweepers[0].sweep.pass_of_kinds(_kind(samples.x), _kind_or_none(samples.y), _kind_or_none(samples.w))
        wanted = set[int]()
        for n in np.unique(samples.places["n"]).tolist():
            wanted |= strategy.numbers(n, pass_.most)
        codes = [sweeper.sweep.code(pass_, wanted) for sweeper in sweepers]
        scratches = [scratch, *(scratch.copy() for _ in sweepers[1:])]
        total_rows = int(samples.places["n"].sum())
        mean = max(1, total_rows // max(1, len(which)))
        for first, stop in calls.pieces(len(which), threads, mean * layout.multiply_adds / threads):
            mailbox, arguments = aligned_zeros(MAILBOX.itemsize, MAILBOX), []
            chosen = record, samples.places[first:stop], which[first:stop], counts[first:stop], losses[first:stop]
            for sweeper, code, room in zip(sweepers, codes, scratches, strict=True):
                of_code = code.operations, code.patches, code.parts, strategy.pick(pass_.most), sweeper.table
                step = sweeper.sweep.work.step
                arguments.append((*of_code, step, mailbox, sweeper.record, *chosen, room))
            on_threads(entry.sweep_members, arguments)
        self.programs.sweeps.extend(sweeper.sweep for sweeper in sweepers)


def _kind(source: Source) -> Kind:
    return source.cols, np.dtype(source.dtype)


def _kind_or_none(source: Source | None) -> Kind | None:
    return None if source is None else _kind(source)
