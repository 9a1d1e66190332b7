"""Passes over samples with the members of a population, one after another: losses, outputs, gradients."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import calls
from ..kernels.programs import records, strategy
from ..kernels.programs.memory import Layout, aligned_zeros
from ..kernels.programs.prediction_programs import outputs_at_once, unit_windows
from ..kernels.programs.program import GRADIENT, PARAMETERS, SETTINGS, bind, bindings
from ..kernels.programs.sources import Source
from ..kernels.running import entry
from ..kernels.running.python_api import address_of
from ..kernels.vector.barriers import MAILBOX
from ..network.inference import (
    BOTH_GRADIENTS,
    GRADIENT_OF_LOSS,
    INPUT_GRADIENTS,
    OUTPUTS_OR_LOSS,
    TANGENTS,
    Kind,
    Sweep,
)
from ..network.input_loading import Loading
from ..network.network import Programs
from .members import Members, MemberSamples, Rows
from .one_by_one import on_threads, task_record

GRADIENTS = GRADIENT_OF_LOSS, BOTH_GRADIENTS  # results with a gradient by the parameters


class _Sweeper:
    """What one thread takes passes with: a sweep, and the padded parameters of the member that it serves."""

    def __init__(self, programs: Programs, scale: float | None, settings: NDArray[Any], result: str):
        layout = programs.layout
        try:
            self.sweep: Sweep = programs.sweeps.pop()
        except IndexError:
            self.sweep = Sweep(layout, scale)
        self.memory = aligned_zeros(layout.n_bytes, layout.dtype)
        self.gradient = aligned_zeros(layout.n_bytes if result in GRADIENTS else 0, layout.dtype)
        self.table, self.record = bindings(), np.zeros(1, records.SLOT)
        self.record["parameters"] = address_of(self.memory)
        bind(self.table, PARAMETERS, address_of(self.memory))
        bind(self.table, SETTINGS, address_of(settings))
        if result in GRADIENTS:
            self.record["gradient"] = address_of(self.gradient)
            bind(self.table, GRADIENT, address_of(self.gradient))


class MemberPasses:
    """Passes of members of one architecture, with the bits that `Model` gives."""

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

    def outputs_on(
        self,
        which: NDArray[np.int64],
        samples: MemberSamples,
        rows: int,
        threads: int = 1,
        result: str = OUTPUTS_OR_LOSS,
    ) -> NDArray[Any]:
        """The outputs (m, rows, n_out) of members `which` (m,), each for its own of m sample sets of so many rows.

        `result` may be TRAINING_OUTPUTS.
        """
        out = self._room(which, rows, self.layout.sizes[-1])
        self._write(which, samples, {"outputs": _places(out)}, threads, result)
        return out

    def tangents_on(
        self, which: NDArray[np.int64], inputs: Rows, directions: Rows, rows: int, threads: int
    ) -> NDArray[Any]:
        """The derivatives of the outputs along a direction for each row, (m, rows, n_out)."""
        if self.loading.scale is None:
            first = np.arange(rows) + directions.starts[:, None]
            scaled = directions.array[first] * self._factors(which)[:, None]
            directions = Rows(scaled.reshape(-1, scaled.shape[2]), np.arange(len(which)) * rows, directions.counts)
        return self.outputs_on(which, MemberSamples.of(inputs, directions), rows, threads, TANGENTS)

    def flat_outputs_on(self, which: NDArray[np.int64], samples: MemberSamples, threads: int = 1) -> NDArray[Any]:
        """The outputs (all rows, n_out) of members `which` (m,), those for each one's sample set behind the last's."""
        counts = samples.places["n"]
        out = np.empty((int(counts.sum()), self.layout.sizes[-1]), self.layout.dtype)
        starts = address_of(out) + out.strides[0] * (np.cumsum(counts) - counts)
        self._write(which, samples, {"outputs": starts}, threads)
        return out

    def gradients_on(
        self, which: NDArray[np.int64], samples: MemberSamples, rows: int, threads: int, to_inputs: bool
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """The gradients of the summed losses by the parameters, unpadded (m, P), and by the inputs (m, rows, n_in).

        The second one is empty if it is not wanted. Only the programs of `Layout.outside` give it.
        """
        layout = self.layout
        gradients = np.empty((len(which), len(layout.elements)), layout.dtype)
        d_x = self._room(which, rows if to_inputs else 0, layout.sizes[0])
        places = {"gradient": _places(gradients)} | ({"outputs": _places(d_x)} if to_inputs else {})
        self._write(which, samples, places, threads, BOTH_GRADIENTS if to_inputs else GRADIENT_OF_LOSS)
        if to_inputs and self.loading.scale is None:
            d_x *= self._factors(which)[:, None]
        elif to_inputs and self.loading.scale != 1:
            d_x *= d_x.dtype.type(self.loading.scale)
        return gradients, d_x

    def jacobians_on(self, which: NDArray[np.int64], samples: MemberSamples, rows: int, threads: int) -> NDArray[Any]:
        """The derivatives of the outputs by the inputs, (m, rows, n_out, n_in)."""
        n_in, n_out = self.layout.sizes[0], self.layout.sizes[-1]
        out = self._room(which, rows, n_out, n_in)
        for first, unit in unit_windows(self.layout):
            places = {"outputs": _places(out) + first * n_in * out.itemsize, "targets": address_of(unit)}
            self._write(which, samples, places, threads, INPUT_GRADIENTS)
        if self.loading.scale is None:
            out *= self._factors(which)[:, None, None]
        return out

    def _factors(self, which: NDArray[np.int64]) -> NDArray[Any]:
        """The scale of each input of members, (m, n_in) or (1, n_in), where inputs are shifted."""
        factors = self.loading.scales(self.layout)
        return factors[which] if len(factors) > 1 else factors

    def _room(self, which: NDArray[np.int64], *shape: int) -> NDArray[Any]:
        """An array of such a shape for each member."""
        return np.empty((len(which), *shape), self.layout.dtype)

    def _write(
        self,
        which: NDArray[np.int64],
        samples: MemberSamples,
        to: dict[str, Any],
        threads: int,
        result: str = OUTPUTS_OR_LOSS,
    ) -> None:
        """Write what a pass gives of each member to addresses, by the fields of the records PLACE."""
        places = samples.places.copy()
        for name, addresses in to.items():
            places[name] = addresses
        ones, losses = np.ones(len(which)), np.empty(len(which))
        self._run(which, replace(samples, places=places), ones, losses, threads, result)

    def _run(
        self,
        which: NDArray[np.int64],
        samples: MemberSamples,
        counts: NDArray[np.float64],
        losses: NDArray[np.float64],
        threads: int,
        result: str = OUTPUTS_OR_LOSS,
    ) -> None:
        """Fill losses, and what the samples say a place of, in calls that each take a short time."""
        layout, record = self.layout, task_record(self.layout, self.members, samples, self.loading)
        longest, width = int(samples.places["n"].max(initial=0)), layout.sizes[-1] * layout.itemsize
        record["output_stride"] = layout.itemsize * _width(layout, result)
        nowhere = longest if not samples.places["outputs"].all() else 0
        scratch = np.empty(nowhere * width, np.uint8)
        sweepers = [_Sweeper(self.programs, self.loading.scale, self.settings, result) for _ in range(threads)]
        kinds = _kind(samples.x), _kind_or_none(samples.y), _kind_or_none(samples.w)
        pass_ = sweepers[0].sweep.pass_of_kinds(*kinds, result)
        wanted = set[int]()
        for n in np.unique(samples.places["n"]).tolist():
            wanted |= strategy.numbers(n, pass_.most, pass_.every)
        codes = [sweeper.sweep.code(pass_, wanted) for sweeper in sweepers]
        scratches, pick = [scratch, *(scratch.copy() for _ in sweepers[1:])], strategy.pick(pass_.most, pass_.every)
        mean = max(1, int(samples.places["n"].sum()) // max(1, len(which)))
        multiply_adds = _passes(layout, result) * layout.multiply_adds
        for first, stop in calls.pieces(len(which), threads, mean * multiply_adds / threads):
            mailbox, arguments = aligned_zeros(MAILBOX.itemsize, MAILBOX), []
            chosen = record, samples.places[first:stop], which[first:stop], counts[first:stop], losses[first:stop]
            for sweeper, code, room in zip(sweepers, codes, scratches, strict=True):
                of_code = code.operations, code.patches, code.parts, pick, sweeper.table
                step = sweeper.sweep.work.step
                arguments.append((*of_code, step, mailbox, sweeper.record, *chosen, room))
            on_threads(entry.sweep_members, arguments)
        self.programs.sweeps.extend(sweeper.sweep for sweeper in sweepers)


def _passes(layout: Layout, result: str) -> int:
    """How often a sample goes through the network, forward or backward."""
    found = {GRADIENT_OF_LOSS: 3, BOTH_GRADIENTS: 3, TANGENTS: 2, INPUT_GRADIENTS: 1 + outputs_at_once(layout)}
    return found.get(result, 1)


def _width(layout: Layout, result: str) -> int:
    """How many numbers of a row of samples go to `outputs`."""
    n_in, n_out = layout.sizes[0], layout.sizes[-1]
    return {BOTH_GRADIENTS: n_in, INPUT_GRADIENTS: n_in * n_out}.get(result, n_out)


def _places(array: NDArray[Any]) -> NDArray[np.int64]:
    """Where the part of each member begins in an array."""
    return address_of(array) + array.strides[0] * np.arange(len(array))


def _kind(source: Source) -> Kind:
    return source.cols, np.dtype(source.dtype)


def _kind_or_none(source: Source | None) -> Kind | None:
    return None if source is None else _kind(source)
