"""One model that many workers train: their rounds on an engine or here, and the averages between them."""

from __future__ import annotations

import functools
import time
import uuid
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.samples import Samples
from ..data.streams import Stream
from ..kernels.formulas.update_rules import POSITIONS
from ..kernels.running import entry
from ..network import threads
from ..network.network import Network
from ..reports.history import DivergenceError, Recorder
from ..training.arguments import FitArguments, Request, Sharing, Subject
from ..training.fit import Rate, Trainer, diverged
from ..training.options import Options
from ..training.shards import Recipe, Result, Shard, Snapshot, Start, longest, mean
from .engines import Engine, Run

MOST_BYTES = 2**24  # of parameters of the shards that a process of an engine keeps; loky ends one that grows by 300 MB

_open = OrderedDict[Hashable, Shard]()  # in a process of an engine: those that it trained last, for further rounds


def train_round(
    key: tuple[str, int, int], recipe: Recipe, samples: Samples | Stream, snapshot: Snapshot, start: Start
) -> Result:
    """A round of a worker, as a task; key is (fit, version of the network, worker)."""
    for other in list(_open):
        if other[:2] != key[:2]:  # type: ignore[index]
            del _open[other]
    shard = _open.pop(key, None) or Shard(recipe)  # nothing is kept where an exception follows
    result = shard.train(samples, snapshot, start)
    _open[key] = shard
    while len(_open) > 1 and sum(shard.network.parameters.nbytes for shard in _open.values()) > MOST_BYTES:
        _open.popitem(last=False)
    return result


class Workers(Trainer):
    """Rounds of all workers, whose parameters are averaged.

    The network has what the last epoch left. The rounds of an epoch are in memory of their own until it ends.
    """

    def __init__(self, subject: Subject, request: Request, arguments: FitArguments, engine: Engine | None):
        assert isinstance(request.options, Options)
        assert request.sharing is not None
        self.network = network = subject.network
        self.options: Options = replace(request.options, max_threads=1)
        self.sharing: Sharing = request.sharing
        self.epochs = self.options.epochs
        kind = self.sharing.kind
        self.recipe = Recipe(
            network.architecture,
            self.options,
            subject.feature_names,
            arguments.class_weight,
            None if kind is None else kind.kind,
            None if kind is None else kind.names,
        )
        self.fit, self.version = uuid.uuid4().hex, 0  # of the network: callbacks may freeze layers
        self.workers = list(range(len(self.sharing.rows)))
        self.here = dict[int, Shard]()
        self.run_on: Run | None = None
        if engine is not None:
            engine.start()
            self.run_on = Run(engine, train_round, "the round of worker")
        try:
            shards = self._shards(request.data.samples)
            self.shards: list[Any] = [*shards] if engine is None else [engine.put(shard) for shard in shards]
        except Exception as error:
            error.add_note("while samples were sent to workers; from_npy and from_parquet send the names of files")
            raise
        self.losses, self.done = np.zeros(max(1, self.epochs)), np.zeros(1, np.int64)
        done, self.rate = self.done, Rate.of(self.options.optimizer)
        self.recorder = Recorder(request.history, self.losses, lambda: int(done[0]), request.scored)
        self._kept = network.parameters.copy()  # before callbacks

    def _shards(self, samples: Samples) -> Iterator[Samples | Stream]:
        """What each worker trains on: of arrays every so many-th row, so that sorted ones are mixed."""
        if self.sharing.streams is not None:
            yield from self.sharing.streams
            return
        for worker in self.workers:
            yield samples.each(functools.partial(_rows, slice(worker, None, len(self.workers))))

    @property
    def epoch(self) -> int:
        """The number of epochs that have ended."""
        return int(self.done[0])

    def advance(self, until: int) -> None:
        """Train on for one epoch."""
        began, optimizer, network = time.perf_counter(), self.options.optimizer, self.network
        network.forget_stepper()
        state, vectors, known = network.state.copy(), network.vectors_for(optimizer).copy(), network.optimizer
        if known is not optimizer and known != optimizer:
            network.start(optimizer, vectors, state)
        generators = [_generators(network, worker) for worker in self.workers]
        left = Snapshot(network.parameters.copy(), vectors, state["numbers"][0].copy())
        try:
            left, loss = self._epoch(left, generators)
        except DivergenceError:
            raise diverged(self.epoch + 1) from None
        if self.options.rate_per:
            left.numbers[POSITIONS["epoch"]] += 1
        state["numbers"][0] = left.numbers
        state["random"], state["noise"] = generators[0]
        self.losses[self.epoch] = loss
        kept = network.parameters, network.vectors_for(optimizer), network.state
        entry.copy_all(left.parameters, left.vectors, state, *kept)
        self.done[0] += 1
        self.recorder.rates(self.epoch, [self.rate.now])
        self.recorder.seconds(time.perf_counter() - began)
        if self.watched:
            self._kept = network.parameters.copy()

    def _epoch(self, left: Snapshot, generators: list[tuple[int, int]]) -> tuple[Snapshot, float]:
        """Train for an epoch; gives what it leaves, and its loss. generators become those after the epoch."""
        steps, step, loss, weight = self.sharing.steps, 0, 0.0, 0.0
        at_begin, workers = [random for random, _ in generators], self.workers
        while workers:
            rate, epoch = self.rate.requested, self.epoch
            starts = {i: Start(epoch, step, steps, at_begin[i], generators[i][1], rate) for i in workers}
            found = self._round(left, starts)
            results = [found[i] for i in workers]
            left = mean(results)
            self.rate.note(longest(results).rate)
            for i in workers:
                generators[i] = found[i].random, found[i].noise
            loss, weight = loss + sum(part.loss for part in results), weight + sum(part.weight for part in results)
            workers = [i for i in workers if not found[i].ended]  # the others have no samples left
            step += steps or 0
        if not weight:
            raise ValueError("sample_weight must have an element above 1e-30 in each epoch, got none")
        return left, loss / weight

    def _round(self, snapshot: Snapshot, starts: Mapping[int, Start]) -> dict[int, Result]:
        """What the round of each worker comes to."""
        if self.run_on is not None:
            given = self.run_on.put(snapshot)
            for worker, start in starts.items():
                key = self.fit, self.version, worker
                self.run_on.begin(worker, key, self.recipe, self.shards[worker], given, start)
            found = dict[int, Result]()
            while self.run_on.n_running:
                found |= self.run_on.done()
            return found
        return self._round_here(snapshot, starts)

    def _round_here(self, snapshot: Snapshot, starts: Mapping[int, Start]) -> dict[int, Result]:
        """The same on threads of this process."""
        found, waiting = dict[int, Result | Exception](), list(starts)

        def train(workers: list[int]) -> None:
            for worker in workers:
                try:
                    shard = self.here.get(worker) or Shard(self.recipe)
                    found[worker] = shard.train(self.shards[worker], snapshot, starts[worker])
                    self.here[worker] = shard
                except Exception as error:
                    found[worker] = error

        n = min(self.sharing.threads, len(waiting))
        threads.run_on_threads([functools.partial(train, waiting[i::n]) for i in range(n)])
        results = dict[int, Result]()
        for worker in waiting:
            result = found[worker]
            if isinstance(result, Exception):
                raise result
            results[worker] = result
        return results

    def kept(self) -> NDArray[Any]:
        """The parameters that the last epoch left."""
        return self._kept

    def resume(self, network: Network) -> None:
        """Go on with the parameters that callbacks left, or with the network that `freeze` made."""
        if network is not self.network:
            self.network, self.version = network, self.version + 1
            self.recipe = replace(self.recipe, architecture=network.architecture)
            self.here.clear()

    def close(self) -> None:
        """End the tasks that nobody waits for any more."""
        if self.run_on is not None:
            self.run_on.__exit__()


def _rows(rows: slice, array: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(array[rows])


def _generators(network: Network, worker: int) -> tuple[int, int]:
    """The states of a worker's generators of orders and of noise as an epoch begins: of the first, the network's."""
    states = network.random, network.noise
    if worker == 0:
        return states
    random, noise = (int(np.random.SeedSequence((s, worker)).generate_state(1, np.uint64)[0]) for s in states)
    return random, noise
