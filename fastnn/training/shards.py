"""A model that several workers train: a round of one of them, and the mean of what they leave (local SGD, Stich 2019).

A round is a pure function of its arguments. So it may run anywhere, and again where a process died.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data.samples import Samples
from ..data.streams import OneKind, Stream
from ..kernels.formulas.update_rules import POSITIONS
from ..kernels.programs import program
from ..kernels.programs.memory import STATE, Layout, aligned_zeros
from ..kernels.programs.program import ORDER, REMAINING, Code, Program, bind, bindings
from ..kernels.running import entry
from ..kernels.vector.library import library
from ..kernels.vector.matrix import Symbol
from ..network.network import Network
from ..reports.history import History
from ..settings.layers import Architecture
from .arguments import Subject, check_batches, labelled, samples_of
from .fit import Rate
from .options import AS_IS, DRAWN, GIVEN, Options
from .steps import Steps

ONLY = np.zeros(1, np.int64)  # what picks the only part of a code


@dataclass(frozen=True)
class Recipe:
    """What all rounds of a fit have in common."""

    architecture: Architecture
    options: Options
    feature_names: tuple[str, ...] | None = None  # what the samples of a stream are checked by, as in a fit of it
    class_weight: Any = None
    kind: dict[str, bool] | None = None
    names: tuple[str, ...] | None = None


class Snapshot(NamedTuple):
    """What training changes: parameters, the optimizer's vectors, and its numbers, as `Network` has them."""

    parameters: NDArray[Any]
    vectors: NDArray[Any]
    numbers: NDArray[np.float64]


class Start(NamedTuple):
    """Where a round of a worker begins, and how far it goes."""

    epoch: int  # of the fit, counted from 0
    step: int  # how many steps of the epoch the worker has done
    steps: int | None  # at most to do; None is the rest of the epoch
    random: int  # the state of the generator of orders as the epoch begins
    noise: int  # the state of the generator of noise now
    rate: float | None  # the learning rate that a callback has set


class Result(NamedTuple):
    """What a round of a worker has come to."""

    snapshot: Snapshot
    random: int  # as `Start` has them, now
    noise: int
    rate: float  # the learning rate of the last step; NaN where it changes and no batch had a weight
    loss: float  # the sum of the losses of the samples, by their weights
    weight: float  # the sum of these weights
    rows: int  # the number of samples
    steps: int
    ended: bool  # whether the worker has no samples left in the epoch


class Orders:
    """Orders of samples as the compiled loop draws them at the beginning of an epoch."""

    def __init__(self, layout: Layout):
        drawing = Program(layout.target, layout.dtype, rows=1)
        drawing.add("draw_order", order=Symbol("order"), n=Symbol("remaining"), state=Symbol("state"))
        self.code, self.bindings = Code([drawing], library(layout.dtype)), bindings()
        self.random = aligned_zeros(STATE.itemsize, STATE)  # the state of its generator
        bind(self.bindings, program.STATE, self.random.ctypes.data)

    def draw(self, n: int) -> NDArray[np.int32]:
        """The next order of n samples."""
        order = np.empty(n, np.int32)
        bind(self.bindings, ORDER, order.ctypes.data, 4)
        bind(self.bindings, REMAINING, n, -1)
        code = self.code
        entry.sweep(code.operations, code.patches, code.parts, ONLY, self.bindings, 0, 1)
        return order


class Epoch:
    """The samples of an epoch of a worker, in the order in which it takes them."""

    def __init__(self, chunks: Iterator[tuple[Samples, bool]], layout: Layout, batch_size: int, orders: Orders | None):
        """chunks are as in `Chunks`; orders draws the order of each, None is the order that it has."""
        self.chunks, self.layout, self.batch_size, self.orders = chunks, layout, batch_size, orders
        self.step = self.rows = 0  # steps done, rows of all chunks so far
        self.row = self.n = 0  # rows done of the chunk, and how many it has
        self.chunk: Samples | None = None
        self.order: NDArray[np.int32] | None = None
        self.is_last = False

    @property
    def ended(self) -> bool:
        """Whether no samples are left."""
        return self.is_last and self.row == self.n

    def take(self, steps: int | None) -> tuple[Samples, NDArray[np.int32] | None]:
        """(samples, the order that they are taken in) of at most so many steps, of one chunk.

        With an order, the samples are the first ones of arrays in which it may name any row.
        """
        if self.row == self.n:
            self._next()
        assert self.chunk is not None
        left = self.n - self.row
        rows = left if steps is None else min(left, steps * self.batch_size)
        first, self.row = self.row, self.row + rows
        self.step += -(-rows // self.batch_size)
        part = slice(first, first + rows) if self.order is None else slice(rows)
        samples = self.chunk.each(lambda array: array[part])
        return samples, None if self.order is None else self.order[first : first + rows]

    def skip_to(self, step: int) -> None:
        """Go on at a step of the epoch."""
        while self.step < step:
            self.take(step - self.step)

    def _next(self) -> None:
        """Go on with the next chunk."""
        self.chunk, self.is_last = next(self.chunks)
        self.row, self.n = 0, len(self.chunk.inputs)
        if self.is_last and not self.rows:  # all samples of the worker
            self.batch_size = min(self.batch_size, self.n)
        self.rows += self.n
        if self.is_last:
            check_batches(self.layout, self.rows, self.batch_size)
        self.order = None if self.orders is None else self.orders.draw(self.n)


class Shard:
    """What a worker keeps between rounds: the network that it trains, and where it is in its epoch.

    That saves time, but no result depends on it. It keeps no arrays of samples, only the buffer of an open stream.
    """

    def __init__(self, recipe: Recipe):
        self.recipe, self.network = recipe, Network(recipe.architecture)
        self.network.plans = deque(maxlen=self.network.plans.maxlen)  # of its own: others train at the same time
        self.orders = Orders(self.network.layout)
        self.opened: tuple[tuple[int, int], Epoch] | None = None

    def _epoch(self, samples: Samples | Stream, start: Start) -> Epoch:
        """The epoch of a round, at its first step."""
        key = start.epoch, start.random
        opened, self.opened = self.opened, None  # for good where an exception follows
        if opened is None or opened[0] != key or opened[1].step > start.step:
            drawn = self.recipe.options.ordered == DRAWN
            self.orders.random["random"] = start.random
            chunks = self._chunks(samples, start.random if drawn else None)
            orders = self.orders if drawn else None
            opened = key, Epoch(chunks, self.network.layout, self.recipe.options.batch_size, orders)
        elif not isinstance(samples, Stream):
            opened[1].chunk = samples
        opened[1].skip_to(start.step)
        return opened[1]

    def _chunks(self, samples: Samples | Stream, seed: int | None) -> Iterator[tuple[Samples, bool]]:
        """An epoch of samples, as in `Chunks`: arrays are one chunk."""
        if not isinstance(samples, Stream):
            return iter([(samples, True)])
        recipe = self.recipe
        check = OneKind(
            functools.partial(labelled, Subject(self.network, recipe.feature_names, 0), recipe.class_weight, True)
        )
        check.kind, check.names = dict(recipe.kind or {}), recipe.names
        return samples._chunks(functools.partial(samples_of, check), recipe.options.batch_size, seed)

    def train(self, samples: Samples | Stream, snapshot: Snapshot, start: Start) -> Result:
        """A round on the samples of the worker."""
        if not isinstance(samples, Stream):
            samples = samples.each(np.asarray)
        network, options, epoch = self.network, self.recipe.options, self._epoch(samples, start)
        network.parameters[...] = snapshot.parameters
        network.restore_optimizer(options.optimizer, snapshot.vectors, snapshot.numbers)
        network.state["noise"] = start.noise
        rate = Rate.of(options.optimizer)
        rate.requested = start.rate
        loss, total, rows = 0.0, 0.0, 0
        while not epoch.ended and (start.steps is None or epoch.step < start.step + start.steps):
            part, order = epoch.take(None if start.steps is None else start.step + start.steps - epoch.step)
            weight = len(part.inputs) if part.weights is None else float(part.weights.sum(dtype=np.float64))
            loss += weight * self._train(part, order, epoch.batch_size, start.epoch, rate)
            total, rows = total + weight, rows + len(part.inputs)
        if not epoch.ended:
            self.opened = (start.epoch, start.random), epoch
            if not isinstance(samples, Stream):
                epoch.chunk, epoch.chunks = None, iter(())  # the next round brings them
        _, vectors, numbers = network.optimizer_state() or (None, snapshot.vectors, snapshot.numbers)
        left = Snapshot(network.parameters.copy(), vectors, numbers[0])
        random = int(self.orders.random["random"][0]) if epoch.orders else start.random
        steps = epoch.step - start.step
        return Result(left, random, network.noise, rate.now, loss, total, rows, steps, epoch.ended)

    def _train(
        self, samples: Samples, order: NDArray[np.int32] | None, batch_size: int, epoch: int, rate: Rate
    ) -> float:
        """Train on a part of an epoch; gives its loss."""
        options = replace(
            self.recipe.options,
            epochs=1,
            batch_size=batch_size,
            partial=True,
            ordered=AS_IS if order is None else GIVEN,
            order=None if order is None else order[None],
            first_epoch=self.recipe.options.first_epoch + epoch,
        )
        steps = Steps(self.network, samples, options, History(), rate=rate)
        try:
            steps.run(lambda ended: False)
        finally:
            steps.close()
        return float(steps.losses[0])


def mean(results: Sequence[Result]) -> Snapshot:
    """What goes out to the workers again: means of what they left, weighted by the rows of the round, in this order.

    A mean is x_1 + sum over i of rows_i / rows (x_i - x_1) in float64, so that what is equal stays as it is. The
    optimizer's numbers, such as its count of steps, are those of the worker with the most steps, the first of several.
    """
    total = sum(result.rows for result in results)
    first = results[0].snapshot

    def of(name: str) -> NDArray[Any]:
        start: NDArray[Any] = getattr(first, name).astype(np.float64)
        found = start.copy()
        for result in results[1:]:
            found += result.rows / total * (getattr(result.snapshot, name) - start)
        return found.astype(getattr(first, name).dtype)

    return Snapshot(of("parameters"), of("vectors"), longest(results).snapshot.numbers)


def longest(results: Sequence[Result]) -> Result:
    """The result of the worker with the most steps, the first of several; batches without weight count less."""
    return max(results, key=lambda result: (result.snapshot.numbers[POSITIONS["step"]], result.steps))
