"""Programs that go over samples without training: predict, evaluate, gradients, what hidden layers give."""

from __future__ import annotations

import functools
import itertools
import os
import weakref
from collections.abc import Set
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import calls
from ..data.samples import Samples
from ..kernels.formulas.loss_functions import OUTSIDE
from ..kernels.programs import block_programs, prediction_programs, strategy
from ..kernels.programs.memory import Layout, Vector, Workspace, aligned_zeros
from ..kernels.programs.program import (
    AFFINE,
    GRADIENT,
    ORDER,
    OUTPUTS,
    PARAMETERS,
    SAMPLES,
    SETTINGS,
    TARGETS,
    WEIGHTS,
    Code,
    bind,
    bindings,
)
from ..kernels.programs.sources import Source, Sources
from ..kernels.running import entry, python_api
from ..kernels.running.python_api import RowFunction
from ..kernels.vector.library import library
from ..kernels.vector.matrix import Symbol
from . import threads as _threads
from .input_loading import Loading
from .threads import numba_pool, run_on_threads

KEPT_KINDS = 8  # a sweep keeps the programs of so many kinds of passes over samples
LONG_BLOCK = 2**18  # multiply-adds of a call, from which on other threads of Python run meanwhile
LONGEST_BLOCK = 2**22  # multiply-adds, up to which one call without a sweep predicts more than a block of rows
Kind = tuple[int, np.dtype[Any]]  # how wide a C-ordered array of rows is, and its dtype
THREAD_ROWS = 64  # the least rows in a thread's shard of a prediction
DRAWN_ROWS = 2**20  # rows that one key draws what is dropped for, unless a single sample has more
DRAWN_COUNTERS = 2**32  # so many numbers a key draws for a layer, then they come again
# What a pass gives: outputs, and the loss if there are targets; the gradient of the loss by the parameters, or by the
# inputs too; the outputs as training computes them; or one of the others. STATISTICS gives nothing: the running
# statistics of normalised layers follow those of the samples.
OUTPUTS_OR_LOSS, GRADIENT_OF_LOSS, HIDDEN, INPUT_GRADIENTS = "outputs", "gradient", "hidden", "input gradients"
BOTH_GRADIENTS, TRAINING_OUTPUTS, STATISTICS, TANGENTS = "both gradients", "training", "statistics", "tangents"
OF_BATCHES = GRADIENT_OF_LOSS, BOTH_GRADIENTS, TRAINING_OUTPUTS, STATISTICS  # normalised layers see whole batches


class Inference:
    """Passes over samples with a network's parameters and settings. Each `Sweep` is used by one call at a time.

    `idle` holds those that no call uses. It and `blocks` may be those of other networks of the layout too, whose inputs
    are loaded by the same scale, or by operands.
    """

    def __init__(
        self,
        layout: Layout,
        parameters: NDArray[Any],
        settings: NDArray[Any],
        loading: Loading,
        idle: list[Sweep] | None = None,
        blocks: SmallPredictions | None = None,
    ):
        self.layout, self.parameters, self.loading = layout, parameters, loading
        self.idle = [] if idle is None else idle
        self.blocks = SmallPredictions(layout, loading.scale) if blocks is None else blocks
        self.settings = settings
        self.quick: RowFunction = _nothing  # predicts up to a block of rows, and gives None for what it is not for
        self._heights = np.zeros(len(self.blocks.heights), python_api.HEIGHT)  # the table that `quick` reads
        self._codes: dict[int, Code] = {}  # by height: copies of those of `blocks` with the addresses of this network
        self.dtype, self.n_in, self.n_out = np.dtype(layout.dtype), layout.sizes[0], layout.sizes[-1]
        self.multiply_adds = layout.multiply_adds
        self.block_rows = max(layout.block_rows, LONGEST_BLOCK // self.multiply_adds)  # that `block` predicts

    def outputs(self, n: int) -> NDArray[Any]:
        """Room for the outputs of n samples."""
        return np.empty((n, self.n_out), self.dtype)

    def _table(self) -> NDArray[Any]:
        """Bindings of the network's memory alone."""
        table = bindings()
        bind(table, PARAMETERS, python_api.address_of(self.parameters))
        bind(table, SETTINGS, python_api.address_of(self.settings))
        if self.loading.scale is None:
            bind(table, AFFINE, self.loading.address)
        return table

    def _borrow(self) -> Sweep:
        """An idle sweep, or a new one; append it to `idle` afterwards."""
        try:
            return self.idle.pop()
        except IndexError:
            return Sweep(self.layout, self.loading.scale)

    def block(self, X: Any) -> NDArray[Any] | None:
        """The outputs for at most a block of rows as the kernels take them; None for anything else.

        None too while another thread predicts a block with a network of the same architecture.
        """
        if type(X) is not np.ndarray or X.dtype != self.dtype:
            return None
        X = X.view(self.dtype)  # nobody else can change its shape; arrays from a pickle have an equal dtype
        if X.ndim != 2 or X.shape[1] != self.n_in or not 0 < len(X) <= self.block_rows:
            return None
        outputs = self.quick(X)
        if outputs is None and self._write(len(X)):
            outputs = self.quick(X)
        return outputs

    def _write(self, rows: int) -> bool:
        """Write the programs for so many rows that are not there yet; whether there were any.

        Each step of it may be done by several threads at once, or again by a signal handler: the first one counts.
        """
        blocks, codes = self.blocks, self._codes
        missing = {i for i in strategy.numbers(rows, blocks.most) if not self._heights[i]["program"]}
        for i in missing:
            code = blocks.code(i).written(self._table())
            python_api.write_height(self._heights, i, codes.setdefault(i, code))
        if self.quick is _nothing:
            made = python_api.row_function(
                self._heights,
                blocks.pick,
                (self.block_rows, self.n_in, self.n_out),
                self.dtype,
                busy=blocks.busy,
                long=LONG_BLOCK // self.multiply_adds + 1,
                memory=(blocks, self.parameters, self.loading, codes),
            )
            self.quick = made or _nothing
        return bool(missing)

    def outputs_of(self, inputs: NDArray[Any], threads: int | None) -> NDArray[Any]:
        """The outputs for any number of rows as the kernels take them, on at most so many threads if that pays."""
        if (outputs := self.block(inputs)) is not None:
            return outputs
        out = self.outputs(len(inputs))
        if len(inputs):
            self.predict(inputs, out, self._max_threads(len(inputs), threads))
        return out

    def _max_threads(self, n: int, threads: int | None) -> int:
        """How many of at most so many threads predict n rows."""
        if n * self.multiply_adds <= _threads.PARALLEL_MULTIPLY_ADDS:
            return 1
        return min(_threads.resolve_threads(threads), -(-n // self.block_rows))

    def predict(self, inputs: NDArray[Any], out: NDArray[Any], threads: int = 1) -> None:
        """Fill out, on several threads if asked for."""
        table = self._table()
        _bind(table, inputs, out=out)
        self._fill(table, inputs, len(inputs), threads, (self.parameters, self.loading, inputs, out))

    def drawn(
        self,
        inputs: NDArray[Any],
        rates: tuple[float, ...],
        samples: int,
        generator: np.random.Generator,
        threads: int | None,
    ) -> NDArray[Any]:
        """The outputs of passes in which layers drop their share of outputs, (samples, n, n_out).

        The rates are those of the layers that the kernels walk, or () where none drops any. A pass over some samples
        reads the same rows again and again, in an order of them; each has a key of the generator.
        """
        n = len(inputs)
        if not rates:
            return np.repeat(self.outputs_of(inputs, threads)[None], samples, axis=0)
        dropped = tuple(i for i, rate in enumerate(rates) if rate)
        settings = self.settings.copy()
        settings["dropout"] = rates
        out, width = np.empty((samples, n, self.n_out), self.dtype), max(self.layout.sizes[1:])
        at_once = max(1, min(samples, DRAWN_COUNTERS // (n * width), DRAWN_ROWS // n))
        order = np.tile(np.arange(n, dtype=np.int32), at_once)
        for first in range(0, samples, at_once):
            key, count = int(generator.integers(2**64, dtype=np.uint64)), min(at_once, samples - first)
            table = self._table()
            bind(table, SETTINGS, python_api.address_of(settings))
            _bind(table, inputs, out=out[first])
            bind(table, SAMPLES, python_api.address_of(inputs))
            bind(table, ORDER, python_api.address_of(order), order.itemsize)
            used = self.parameters, self.loading, settings, inputs, order, out
            self._fill(table, inputs, count * n, self._max_threads(count * n, threads), used, dropped, key)
        return out

    def _fill(
        self,
        table: NDArray[Any],
        inputs: NDArray[Any],
        n: int,
        threads: int,
        used: object,
        dropped: tuple[int, ...] = (),
        key: int = 0,
    ) -> None:
        """Fill the n rows of outputs that the table binds, from inputs of this kind. What is used must live as long."""
        threads = max(1, min(threads, n // THREAD_ROWS))
        sweeps = [self._borrow() for _ in range(threads)]
        pass_ = sweeps[0].pass_of(inputs, dropped=dropped)
        if threads == 1:
            sweeps[0].run(pass_, table, n, 1, key=key)
        else:
            self._fill_on_threads(sweeps, pass_, table, n, used, key)
        self.idle += sweeps

    def _fill_on_threads(
        self, sweeps: list[Sweep], pass_: Pass, table: NDArray[Any], n: int, used: object, key: int
    ) -> None:
        """Numba's threads where they can be used, or Python's."""
        threads, pick = len(sweeps), strategy.pick(pass_.most)
        for piece in calls.pieces(n, threads * pass_.most, self.multiply_adds / threads):
            shards = [strategy.shard_of_rows(*piece, t, threads) for t in range(threads)]
            wanted = {i for first, stop in shards for i in strategy.numbers(stop - first, pass_.most)}
            wanted = wanted.union(*(sweep.written(pass_) for sweep in sweeps))  # so that all have the same programs
            codes = [sweep.code(pass_, wanted) for sweep in sweeps]
            for sweep in sweeps:
                sweep.work.step["key"] = key
            stacked = np.stack([code.operations for code in codes])
            rest = codes[0].patches, codes[0].parts, pick, table
            with numba_pool() as opened:
                if opened:
                    try:
                        entry.sweep_parallel(stacked, *rest, *piece)
                        continue
                    except Exception:  # Numba could not start its threads
                        pass
            all_used = sweeps, used
            run_on_threads([functools.partial(_sweep, all_used, stacked[t], *rest, *shards[t]) for t in range(threads)])

    def evaluate(
        self, inputs: NDArray[Any], targets: NDArray[Any], weights: NDArray[Any] | None = None
    ) -> tuple[float, NDArray[Any]]:
        """(mean loss, outputs); the mean is a weighted one where samples have weights."""
        out, sweep = self.outputs(len(inputs)), self._borrow()
        loss = sweep(self._table(), inputs, targets, weights, out=out)
        self.idle.append(sweep)
        return loss, out

    def gradients(self, inputs: NDArray[Any], targets: NDArray[Any]) -> NDArray[Any]:
        """The gradient of the mean loss, laid out like the parameters."""
        return self.loss_and_gradient(inputs, targets)[1]

    def loss_and_gradient(
        self, inputs: NDArray[Any], targets: NDArray[Any], weights: NDArray[Any] | None = None
    ) -> tuple[float, NDArray[Any]]:
        """(mean loss, its gradient, laid out like the parameters); a weighted mean where samples have weights."""
        gradient, sweep = aligned_zeros(self.layout.n_bytes, self.layout.dtype), self._borrow()
        loss = sweep(self._table(), inputs, targets, weights, gradient=gradient)
        self.idle.append(sweep)
        return loss, gradient

    def follow(self, samples: Samples) -> None:
        """Let the running statistics of normalised layers follow those of a batch."""
        if self.layout.whole_batch:
            sweep = self._borrow()
            sweep(self._table(), *samples, result=STATISTICS)
            self.idle.append(sweep)

    def jacobian(self, inputs: NDArray[Any], outputs: NDArray[Any], k: int) -> NDArray[Any]:
        """The derivative of output k by the parameters, a row a sample, each laid out like the parameters.

        outputs are those of the samples. The loss must be quadratic: its derivative is that of output k where the
        targets differ from the outputs by 1 there.
        """
        result = aligned_zeros(len(inputs) * self.layout.n_bytes, self.layout.dtype).reshape(len(inputs), -1)
        targets, sweep = outputs.copy(), self._borrow()
        targets[:, k] -= 1
        sweep.by_samples(self._table(), inputs, targets, result)
        self.idle.append(sweep)
        return result

    def hidden_activations(self, inputs: NDArray[Any]) -> list[NDArray[Any]]:
        """The outputs of each hidden layer, (n, units), views of one array."""
        widths = self.layout.sizes[1:-1]
        if not widths:
            return []
        out, sweep = np.empty((len(inputs), sum(widths)), self.dtype), self._borrow()
        sweep(self._table(), inputs, out=out, result=HIDDEN)
        self.idle.append(sweep)
        return [out[:, end - width : end] for width, end in zip(widths, itertools.accumulate(widths), strict=True)]

    def input_gradients(self, inputs: NDArray[Any]) -> NDArray[Any]:
        """The derivatives of the outputs by the inputs, (n, n_out, n_in)."""
        out, sweep = np.empty((len(inputs), self.n_out, self.n_in), self.dtype), self._borrow()
        sweep.by_outputs(self._table(), inputs, out)
        self.idle.append(sweep)
        if self.loading.scale is None:
            out *= self.factors
        return out

    @property
    def factors(self) -> NDArray[Any]:
        """The scale of each input, where inputs are shifted."""
        return self.loading.scales(self.layout)

    def jvp(self, inputs: NDArray[Any], directions: NDArray[Any]) -> NDArray[Any]:
        """The derivatives of the outputs along a direction for each row, (n, n_out)."""
        out, sweep = self.outputs(len(inputs)), self._borrow()
        directions = directions * self.factors if self.loading.scale is None else directions
        sweep(self._table(), inputs, directions, out=out, result=TANGENTS)
        self.idle.append(sweep)
        return out


def _nothing(X: Any) -> None:
    """Where there is no function yet, or can be none."""


class SmallPredictions:
    """Programs that predict blocks of a few heights, of all networks of a layout and scale, in the same buffers.

    The scale is None of networks that shift their inputs.
    """

    def __init__(self, layout: Layout, scale: float | None):
        self.layout, self.scale = layout, scale
        self.most = strategy.most_predicted(layout)
        self.heights, self.pick = strategy.heights(self.most), strategy.pick(self.most)
        self.busy = np.zeros(1, np.int64)  # whether the buffers are in use
        _all_blocks.add(self)
        self._made: dict[str, tuple[Workspace, Source]] = {}
        self._codes: dict[int, Code] = {}

    def code(self, i: int) -> Code:
        """The program of height number i. Threads may write one at the same time: they share nothing that changes."""
        if i not in self._codes:
            work, source = self._memory()
            rows, parameters = self.heights[i], Vector(self.layout, Symbol("parameters"))
            program = prediction_programs.predict_program(parameters, work, source, rows, self.scale)
            self._codes.setdefault(i, Code([program], library(self.layout.dtype)))
        return self._codes[i]

    def _memory(self) -> tuple[Workspace, Source]:
        """The buffers, all of them, and what the samples are like."""
        if "memory" not in self._made:
            layout = self.layout
            work, parameters = Workspace(layout, layout.block_rows), Vector(layout, Symbol("parameters"))
            source = Source.of_rows("samples", layout.sizes[0], layout.dtype)
            prediction_programs.predict_program(
                parameters, work, source, self.most, self.scale
            )  # the largest makes them all
            self._made.setdefault("memory", (work, source))
        return self._made["memory"]


_all_blocks: weakref.WeakSet[SmallPredictions] = weakref.WeakSet()


def _after_fork() -> None:
    """A child process has no other thread, so nobody uses any buffers."""
    for blocks in _all_blocks:
        blocks.busy[0] = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@dataclass(frozen=True, eq=False)
class Pass:
    """A kind of pass over samples: what its programs depend on beside the network. Each kind is one object."""

    x: Source
    sources: Sources | None  # where there are targets
    result: str  # see OUTPUTS_OR_LOSS
    in_place: bool
    most: int  # rows of a program
    every: bool  # whether each number of rows has a program of its own
    dropped: tuple[int, ...]  # the layers whose outputs are dropped


@functools.lru_cache
def _pass(
    x: Kind,
    y: Kind | None,
    w: Kind | None,
    result: str,
    in_place: bool,
    most: int,
    every: bool = False,
    dropped: tuple[int, ...] = (),
) -> Pass:
    """The pass over arrays of these kinds."""
    samples, targets, weights = (
        None if kind is None else Source.of_rows(symbol, kind[0], kind[1].name)
        for symbol, kind in (("samples", x), ("targets", y), ("weights", w))
    )
    assert samples is not None
    sources = None if targets is None else Sources(samples, targets, weights)
    return Pass(samples, sources, result, in_place, most, every, dropped)


def _kind(array: NDArray[Any]) -> Kind:
    return (1 if array.ndim == 1 else array.shape[1]), array.dtype


class Sweep:
    """A workspace and the programs in it, for any network of a layout and scale: bindings say for which.

    The scale is None of networks that shift their inputs.
    """

    def __init__(self, layout: Layout, scale: float | None):
        self.parameters, self.scale = Vector(layout, Symbol("parameters")), scale
        self.layout, self.library = layout, library(layout.dtype)
        self.most = strategy.most_predicted(layout)
        self.work = self._workspace()
        self.codes: dict[Pass, tuple[dict[int, Code], Code]] = {}  # by height, and joined

    def _workspace(self) -> Workspace:
        """The buffers; gradients of a user's function go down to the inputs before those of the parameters follow."""
        return Workspace(self.layout, self.layout.block_rows, keeps_x=self.layout.loss == OUTSIDE)

    def pass_of(
        self,
        inputs: NDArray[Any],
        targets: NDArray[Any] | None = None,
        weights: NDArray[Any] | None = None,
        result: str = OUTPUTS_OR_LOSS,
        dropped: tuple[int, ...] = (),
    ) -> Pass:
        """The kind of pass over such arrays."""
        # Samples of the network's dtype that need no scale are read where they lie, if there is more than a block.
        x = _kind(inputs)
        alike = x[1] == self.layout.dtype and self.scale == 1 and self.layout.only_multiplied
        in_place = targets is None and alike and not dropped and len(inputs) > self.layout.block_rows
        y, w = (None if array is None else _kind(array) for array in (targets, weights))
        return self.pass_of_kinds(x, y, w, result, in_place, dropped)

    def pass_of_kinds(
        self,
        x: Kind,
        y: Kind | None,
        w: Kind | None,
        result: str = OUTPUTS_OR_LOSS,
        in_place: bool = False,
        dropped: tuple[int, ...] = (),
    ) -> Pass:
        """The kind of pass over arrays of these kinds."""
        of_batches = result in OF_BATCHES
        most, every = self.layout.block_rows if of_batches else self.most, of_batches and self.layout.whole_batch
        return _pass(x, y, w, result, in_place, most, every, dropped)

    def written(self, pass_: Pass) -> set[int]:
        """The numbers of the heights that there are programs of."""
        return set(self.codes[pass_][0]) if pass_ in self.codes else set()

    def code(self, pass_: Pass, wanted: Set[int]) -> Code:
        """The programs of these heights at least; their parts have the numbers of `strategy.heights`."""
        if pass_ not in self.codes and len(self.codes) == KEPT_KINDS:
            self._forget()
        by_height, joined = self.codes.get(pass_, ({}, None))
        if joined is None or not wanted <= by_height.keys():
            sizes = strategy.heights(pass_.most, pass_.every)
            by_height = {i: by_height.get(i) or self._write(pass_, sizes[i]) for i in {*by_height, *wanted}}
            joined = Code.joined(by_height.get(i) for i in range(len(sizes)))
            self.codes[pass_] = by_height, joined
        return joined

    def _write(self, pass_: Pass, rows: int) -> Code:
        """The program of so many rows."""
        places = self.parameters, self.work, pass_.x, rows, self.scale, pass_.in_place
        if pass_.result in (GRADIENT_OF_LOSS, BOTH_GRADIENTS):
            assert pass_.sources is not None
            of_batch = self.parameters, self.work, pass_.sources, rows, self.scale, pass_.result == BOTH_GRADIENTS
            program = block_programs.gradient_program(*of_batch)
        elif pass_.result == TRAINING_OUTPUTS:
            program = block_programs.forward_program(*places[:-1])
        elif pass_.result == STATISTICS:
            assert pass_.sources is not None
            program = block_programs.statistics_program(self.parameters, self.work, pass_.sources, rows, self.scale)
        elif pass_.result == TANGENTS:
            assert pass_.sources is not None
            program = prediction_programs.tangent_program(self.parameters, self.work, pass_.sources, rows, self.scale)
        elif pass_.result == HIDDEN:
            program = prediction_programs.hidden_program(*places)
        elif pass_.result == INPUT_GRADIENTS:
            program = prediction_programs.input_gradient_program(*places)
        else:
            program = prediction_programs.predict_program(*places, pass_.sources, pass_.dropped)
        return Code([program], self.library)

    def _forget(self) -> None:
        """Drop all programs, and the memory that only they know."""
        self.codes.clear()
        self.work = self._workspace()

    def __call__(
        self,
        table: NDArray[Any],
        inputs: NDArray[Any],
        targets: NDArray[Any] | None = None,
        weights: NDArray[Any] | None = None,
        out: NDArray[Any] | None = None,
        gradient: NDArray[Any] | None = None,
        result: str = OUTPUTS_OR_LOSS,
    ) -> float:
        """Go over all samples once: fill out, add to gradient; returns the mean loss if there are targets.

        The table binds a network's memory; it gets the arrays.
        """
        pass_ = self.pass_of(inputs, targets, weights, result if gradient is None else GRADIENT_OF_LOSS)
        _bind(table, inputs, targets, weights, out, gradient)
        count = len(inputs) if weights is None else weights.sum(dtype=np.float64)
        return float(self.run(pass_, table, len(inputs), 1 if gradient is None else 3, scale=1 / count) / count)

    def by_samples(
        self, table: NDArray[Any], inputs: NDArray[Any], targets: NDArray[Any], gradients: NDArray[Any]
    ) -> None:
        """Add the gradient of each sample to its row."""
        _bind(table, inputs, targets)
        bind(table, GRADIENT, gradients.ctypes.data, gradients.strides[0])
        self.run(self.pass_of(inputs, targets, result=GRADIENT_OF_LOSS), table, len(inputs), 3, most=1)

    def by_outputs(self, table: NDArray[Any], inputs: NDArray[Any], gradients: NDArray[Any]) -> None:
        """Fill in the derivatives of all outputs by the inputs, (n, n_out, n_in)."""
        at_once, pass_ = prediction_programs.outputs_at_once(self.layout), self.pass_of(inputs, result=INPUT_GRADIENTS)
        _bind(table, inputs)
        for first, unit in prediction_programs.unit_windows(self.layout):
            bind(table, TARGETS, unit.ctypes.data)
            bind(table, OUTPUTS, gradients[:, first:].ctypes.data, gradients.strides[0])
            self.run(pass_, table, len(inputs), 1 + at_once)

    def run(
        self,
        pass_: Pass,
        table: NDArray[Any],
        n: int,
        passes: int,
        most: int | None = None,
        scale: float = 1.0,
        key: int = 0,
    ) -> float:
        """Go over n samples, at most so many at a time; gives the sum of their losses, whose gradient is scaled.

        `passes` is how often a sample goes through the network, forward or backward. The key draws what is dropped.
        """
        most = pass_.most if most is None else most
        pick, multiply_adds = strategy.pick(most, pass_.every), passes * self.layout.multiply_adds
        for i, piece in enumerate(calls.pieces(n, most, multiply_adds)):
            wanted = strategy.numbers(piece[1] - piece[0], most, pass_.every)
            code, step = self.code(pass_, wanted), self.work.step
            if i == 0:
                step["scale"], step["total"], step["key"] = scale, 0, key
            entry.sweep(code.operations, code.patches, code.parts, pick, table, *piece)
        return float(step["total"][0])


def _sweep(used: object, *arguments: Any) -> None:
    """`entry.sweep`; what is used must live as long."""
    entry.sweep(*arguments)


def _bind(
    table: NDArray[Any],
    inputs: NDArray[Any],
    targets: NDArray[Any] | None = None,
    weights: NDArray[Any] | None = None,
    out: NDArray[Any] | None = None,
    gradient: NDArray[Any] | None = None,
) -> None:
    """Enter the arrays of a sweep: the rows come in their order."""
    for symbol, array in ((SAMPLES, inputs), (TARGETS, targets), (WEIGHTS, weights), (OUTPUTS, out)):
        if array is not None:
            bind(table, symbol, python_api.address_of(array), array.strides[0])
    if gradient is not None:
        bind(table, GRADIENT, python_api.address_of(gradient))
