"""Programs that go over samples without training: predict, evaluate, gradients."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import calls
from .kernels import entry, schedule
from .kernels.library import library
from .kernels.matrix import Symbol
from .kernels.memory import Layout, Vector, Workspace, aligned_zeros
from .kernels.program import GRADIENT, OUTPUTS, SAMPLES, TARGETS, WEIGHTS, Code, bind, bindings
from .kernels.python_api import RowFunction, row_function
from .kernels.schedule import Source, Sources
from .threads import door, run_on_threads

KEPT_PROGRAMS = 8  # of a sweep: one for every number of rows seen lately
KEPT_FUNCTIONS = 64  # of a network, and programs of them
LONG_BLOCK = 2**18  # multiply-adds, from which on other threads of Python run meanwhile


class Inference:
    """Passes over samples with a network's parameters. Each `Sweep` is used by one call at a time.

    `idle` holds those that no call uses. It and `blocks` may be those of other networks of the layout and scale too.
    """

    def __init__(
        self,
        layout: Layout,
        parameters: NDArray[Any],
        scale: float,
        idle: list[Sweep] | None = None,
        blocks: Blocks | None = None,
    ):
        self.layout, self.parameters, self.scale = layout, parameters, scale
        self.idle = [] if idle is None else idle
        self.blocks = Blocks(layout) if blocks is None else blocks
        self.address = parameters.ctypes.data
        self.quick: RowFunction = _nothing  # the function that `block` used last: it refuses what it is not for
        self._functions: dict[tuple[int, ...], RowFunction] = {}  # by the shape of X
        self.dtype, self.n_in, self.n_out = np.dtype(layout.dtype), layout.sizes[0], layout.sizes[-1]
        self.block_rows = layout.block_rows
        self.multiply_adds = layout.multiply_adds

    def outputs(self, n: int) -> NDArray[Any]:
        """Room for the outputs of n samples."""
        return np.empty((n, self.n_out), self.dtype)

    def _borrow(self) -> Sweep:
        """An idle sweep, or a new one; append it to `idle` afterwards."""
        try:
            sweep = self.idle.pop()
        except IndexError:
            sweep = Sweep(self.layout, self.scale)
        if sweep.address != self.address:
            sweep.take(self.address)
        return sweep

    def block(self, X: Any) -> NDArray[Any] | None:
        """The outputs for at most a block of rows as the kernels take them; None for anything else.

        None too while another thread predicts a block with a network of the same architecture.
        """
        if type(X) is not np.ndarray or X.dtype != self.dtype:
            return None
        if X.dtype is not self.dtype:
            X = X.view(self.dtype)  # arrays from a pickle have an equal one
        function = self._functions.get(X.shape)
        if function is None:
            if X.ndim != 2 or X.shape[1] != self.n_in or not 0 < len(X) <= self.block_rows:
                return None
            if len(self._functions) >= KEPT_FUNCTIONS:
                self._functions.clear()
            function = self._functions[X.shape] = self.blocks.function(X, self.parameters, self.scale)
        self.quick = function
        return function(X)

    def predict(self, inputs: NDArray[Any], out: NDArray[Any], threads: int = 1) -> None:
        """Fill out, on several threads if asked for."""
        sweeps = [self._borrow() for _ in range(threads)]
        if threads == 1:
            sweeps[0](inputs, out=out)
        else:
            self._predict_on_threads(sweeps, inputs, out)
        self.idle += sweeps

    def _predict_on_threads(self, sweeps: list[Sweep], inputs: NDArray[Any], out: NDArray[Any]) -> None:
        """Numba's threads where they can be used, or Python's."""
        codes, threads = [sweep.code(inputs) for sweep in sweeps], len(sweeps)
        stacked = np.stack([code.operations for code in codes])
        rest = codes[0].patches, codes[0].parts, _bindings(inputs, out=out)
        for piece in calls.pieces(len(inputs), threads * self.block_rows, self.multiply_adds / threads):
            with door() as opened:
                if opened:
                    try:
                        entry.sweep_parallel(stacked, *rest, *piece, self.block_rows)
                        continue
                    except Exception:  # Numba could not start its threads
                        pass
            shares = [entry.share(*piece, self.block_rows, t, threads) for t in range(threads)]
            used = sweeps, self.parameters, inputs, out
            run_on_threads(
                [
                    functools.partial(_sweep, used, stacked[t], *rest, *shares[t], self.block_rows)
                    for t in range(threads)
                ]
            )

    def evaluate(
        self, inputs: NDArray[Any], targets: NDArray[Any], weights: NDArray[Any] | None = None
    ) -> tuple[float, NDArray[Any]]:
        """(mean loss, outputs); the mean is a weighted one where samples have weights."""
        out, sweep = self.outputs(len(inputs)), self._borrow()
        loss = sweep(inputs, targets, weights, out=out)
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
        loss = sweep(inputs, targets, weights, gradient=gradient)
        self.idle.append(sweep)
        return loss, gradient

    def jacobian(self, inputs: NDArray[Any], outputs: NDArray[Any], k: int) -> NDArray[Any]:
        """The derivative of output k by the parameters, a row a sample, each laid out like the parameters.

        outputs are those of the samples. The loss must be quadratic: its derivative is that of output k where the
        targets differ from the outputs by 1 there.
        """
        result = aligned_zeros(len(inputs) * self.layout.n_bytes, self.layout.dtype).reshape(len(inputs), -1)
        targets, sweep = outputs.copy(), self._borrow()
        targets[:, k] -= 1
        sweep.by_samples(inputs, targets, result)
        self.idle.append(sweep)
        return result


def _nothing(X: Any) -> None:
    """Where there is no function yet, or can be none."""


class Blocks:
    """Predictions of a block at most: programs of all networks of a layout and scale, in the same buffers."""

    def __init__(self, layout: Layout):
        self.layout = layout
        self._busy = np.zeros(1, np.int64)  # whether the buffers are in use
        self._made: dict[int, tuple[Code, Workspace]] = {}  # by rows

    def function(self, X: NDArray[Any], parameters: NDArray[Any], scale: float) -> RowFunction:
        """A function for arrays like X; see `row_function`."""
        layout, rows = self.layout, len(X)
        if rows not in self._made:
            if len(self._made) >= KEPT_FUNCTIONS:
                self._made.clear()
            work = next((work for _, work in self._made.values()), None) or Workspace(layout, layout.block_rows)
            place = Vector(layout, Symbol("parameters")), work, Source.of("samples", X), rows, scale
            self._made[rows] = Code([schedule.predict_program(*place)], library(layout.dtype)), work
        shared, work = self._made[rows]
        code = shared.copy()
        code.fill(parameters=parameters.ctypes.data)
        long = rows * layout.multiply_adds > LONG_BLOCK
        sizes, memory = (rows, layout.sizes[0], layout.sizes[-1]), (work, parameters)
        return row_function(code, sizes, X.dtype, busy=self._busy, release=long, memory=memory) or _nothing


class Sweep:
    """A workspace and the programs in it, for the network whose parameters it took last."""

    def __init__(self, layout: Layout, scale: float):
        self.parameters, self.scale = Vector(layout, Symbol("parameters")), scale
        self.address = 0
        self.layout, self.library = layout, library(layout.dtype)
        self.work = Workspace(layout, layout.block_rows)
        self.codes: dict[Any, Code] = {}

    def take(self, address: int) -> None:
        """Go on with the parameters at an address."""
        for code in self.codes.values():
            code.fill(parameters=address)
        self.address = address

    def code(
        self,
        inputs: NDArray[Any],
        targets: NDArray[Any] | None = None,
        weights: NDArray[Any] | None = None,
        gradient: bool = False,
    ) -> Code:
        """The programs for the blocks of so many rows of such inputs, targets and weights."""
        key = (len(inputs), inputs.dtype, None if targets is None else targets.ndim, weights is None, gradient)
        if key in self.codes:
            return self.codes[key]
        if len(self.codes) == KEPT_PROGRAMS:
            self._forget()
        x = Source.of("samples", inputs)
        sources = None if targets is None else Sources.of(inputs, targets, weights)
        # Samples of the network's dtype that need no scale are read where they lie, if there is more than a block.
        in_place = (
            sources is None and x.operation == "gather" and self.scale == 1 and len(inputs) > self.layout.block_rows
        )
        programs = []
        for rows in schedule.block_sizes(self.layout, [len(inputs)]):
            if gradient and sources is not None:
                programs.append(schedule.gradient_program(self.parameters, self.work, sources, rows, self.scale))
            else:
                places = self.parameters, self.work, x, rows, self.scale
                programs.append(schedule.predict_program(*places, in_place, sources))
        code = Code(programs, self.library)
        code.fill(parameters=self.address)
        return self.codes.setdefault(key, code)

    def _forget(self) -> None:
        """Drop all programs, and the memory that only they know."""
        self.codes.clear()
        self.work = Workspace(self.layout, self.layout.block_rows)

    def __call__(
        self,
        inputs: NDArray[Any],
        targets: NDArray[Any] | None = None,
        weights: NDArray[Any] | None = None,
        out: NDArray[Any] | None = None,
        gradient: NDArray[Any] | None = None,
    ) -> float:
        """Go over all samples once: fill out, add to gradient; returns the mean loss if there are targets."""
        n, code = len(inputs), self.code(inputs, targets, weights, gradient is not None)
        step, table = self.work.step, _bindings(inputs, targets, weights, out, gradient)
        count = n if weights is None else weights.sum(dtype=np.float64)
        step["scale"], step["total"] = 1 / count, 0
        multiply_adds = self.layout.multiply_adds * (1 if gradient is None else 3)
        for piece in calls.pieces(n, self.layout.block_rows, multiply_adds):
            entry.sweep(code.operations, code.patches, code.parts, table, *piece, self.layout.block_rows)
        return float(step["total"][0] / count)

    def by_samples(self, inputs: NDArray[Any], targets: NDArray[Any], gradients: NDArray[Any]) -> None:
        """Add the gradient of each sample to its row."""
        code = self.code(inputs[:1], targets[:1], gradient=True)
        self.work.step["scale"] = 1
        table = _bindings(inputs, targets, gradient=gradients)
        bind(table, GRADIENT, gradients.ctypes.data, gradients.strides[0])
        for piece in calls.pieces(len(inputs), 1, 3 * self.layout.multiply_adds):
            entry.sweep(code.operations, code.patches, code.parts, table, *piece, 1)


def _sweep(used: object, *arguments: Any) -> None:
    """`entry.sweep`; what is used must live as long."""
    entry.sweep(*arguments)


def _bindings(
    inputs: NDArray[Any],
    targets: NDArray[Any] | None = None,
    weights: NDArray[Any] | None = None,
    out: NDArray[Any] | None = None,
    gradient: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """What the symbols of a sweep stand for: the rows come in their order."""
    table = bindings()
    for symbol, array in ((SAMPLES, inputs), (TARGETS, targets), (WEIGHTS, weights), (OUTPUTS, out)):
        if array is not None:
            bind(table, symbol, array.ctypes.data, array.strides[0])
    if gradient is not None:
        bind(table, GRADIENT, gradient.ctypes.data)
    return table
