"""The kernels, called from NumPy arrays: what the tests of kernels/ share."""

import collections
import dataclasses
import functools
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from fastnn import Dense, Embedding, Residual
from fastnn.kernels import reference
from fastnn.kernels.cpu.target import AVX2, HOST, SSE
from fastnn.kernels.formulas.loss_functions import LOSSES
from fastnn.kernels.formulas.update_rules import OPTIMIZERS
from fastnn.kernels.programs import block_programs, prediction_programs, records, strategy, training_programs
from fastnn.kernels.programs.memory import STATE, Layout, Trainable, Vector, Workspace, aligned_zeros
from fastnn.kernels.programs.program import (
    GRADIENT,
    ORDER,
    OUTPUTS,
    REMAINING,
    SAMPLES,
    SETTINGS,
    TARGETS,
    WEIGHTS,
    Code,
    Program,
    bind,
    bindings,
)
from fastnn.kernels.programs.sources import Source, Sources
from fastnn.kernels.running import entry
from fastnn.kernels.vector.barriers import MAILBOX
from fastnn.kernels.vector.library import Library
from fastnn.kernels.vector.matrix import Matrix
from fastnn.kernels.vector.matrix import padded as padded_bytes
from fastnn.training.options import NO_PENALTY, NO_RULES, write_settings

# The other targets' code runs in this process, so their triple is this one's.
_OTHERS = {"avx2": dataclasses.replace(AVX2, triple=HOST.triple), "sse": dataclasses.replace(SSE, triple=HOST.triple)}
_NAMED = {"host": HOST, **_OTHERS}


def _runs(target):
    """Whether this CPU has every instruction that code for a target may use."""
    is_x86 = HOST.triple.startswith("x86_64")
    return target == HOST or (is_x86 and set(target.features.split(",")) <= set(HOST.features.split(",")))


def _parameter(name, *case):
    """A named target and perhaps a case, as a pytest parameter; skipped where this CPU cannot run the target's code."""
    target = _NAMED[name]
    marks = pytest.mark.skipif(not _runs(target), reason=f"this CPU does not run code for {target.cpu}")
    labels = ["-".join(map(str, c)) if isinstance(c, tuple) else str(c) for c in case]
    return pytest.param(target, *case, marks=marks, id="-".join([name, *labels]))


def on_targets(cases, others=None):
    """pytest parameters (target, case): all cases on the CPU at hand, those in `others` or all on the other targets."""
    return [
        _parameter(name, case) for name in _NAMED for case in (cases if name == "host" or others is None else others)
    ]


EVERY_TARGET = [_parameter(name) for name in _NAMED]
TARGETS_HERE = [target for target in _NAMED.values() if _runs(target)]


@functools.cache
def library(dtype, target=HOST):
    """One a dtype and target, so that nothing is loaded twice."""
    return Library(str(np.dtype(dtype)), target)


def padded(array):
    """A copy of a 2-D array with rows padded by zeros to whole cache lines, aligned."""
    row = padded_bytes(array.shape[1] * array.dtype.itemsize)
    out = aligned_zeros(array.shape[0] * row, array.dtype).reshape(array.shape[0], -1)
    out[:, : array.shape[1]] = array
    return out


_latest = collections.deque(maxlen=500)  # a Matrix does not keep an array alive


def matrix(array, name=""):
    """An array, or the row that a 1-D array is, as an operand of a program that is run soon."""
    _latest.append(array)
    array = array.reshape(1, -1) if array.ndim == 1 else array
    return Matrix(array.ctypes.data, *array.shape, *array.strides, array.dtype.name, name)


def contents(matrix):
    """What lies where a matrix says, as a view of that memory."""
    place = {"data": (matrix.address, False), "strides": (matrix.row_stride, matrix.col_stride)}
    place |= {"shape": (matrix.rows, matrix.cols), "typestr": np.dtype(matrix.dtype).str, "version": 3}
    return np.asarray(SimpleNamespace(__array_interface__=place))


ONLY = np.zeros(1, np.int64)  # what picks the only part of a code


def run(dtype, write, target=HOST):
    """Run the program that write(program) writes."""
    program = Program(target, str(np.dtype(dtype)), rows=1)
    write(program)
    run_code(Code([program], library(dtype, target)))


def run_code(code):
    """Run the one program of a code, written for one row, that has no symbols."""
    entry.sweep(code.operations, code.patches, code.parts, ONLY, bindings(), 0, 1)


def call(dtype, name, target=HOST, **arguments):
    """Run one operation; an array stands for its matrix."""
    given = {key: matrix(a) if isinstance(a, np.ndarray) else a for key, a in arguments.items()}
    run(dtype, lambda program: program.add(name, **given), target)


def activate(name, z, dtype, target=HOST):
    """The activation's value, or another function's of one operand, at any number of points."""
    x = padded(np.asarray(z, dtype).reshape(1, -1))
    out = np.full_like(x, np.nan)
    call(dtype, name, target, out=out, x=x)
    return out[0, : np.size(z)]


def backward(name, d, a, dtype, target=HOST):
    """d times the activation's derivative, from its outputs a."""
    n = np.size(d)
    d, a = (padded(np.asarray(v, dtype).reshape(1, -1)) for v in (d, a))
    call(dtype, f"{name}_backward", target, out=d, x=d, y=a)
    return d[0, :n]


def loss(name, a, y, scale, dtype, target=HOST, **parameter):
    """(summed loss, scaled derivative with its padding); a loss that has a parameter needs it."""
    n = a.shape[1]
    a_padded, y_padded = padded(np.asarray(a, dtype)), padded(np.asarray(y, dtype))
    a_padded[:, n:] = 0.5  # what a sigmoid leaves in the padding must not count
    d, scale, total = np.full_like(a_padded, np.nan), np.array([scale]), np.array([7.0])
    y_apart = np.hstack([y_padded, y_padded])  # its rows lie further apart than d's
    given = {"d": d[:, :n], "a": a_padded[:, :n], "y": y_apart[:, :n], "scale": scale, "total": total}
    call(dtype, name, target, **given, **{key: np.array([value]) for key, value in parameter.items()})
    return total[0] - 7.0, d


# The ways to compute a batch of several samples, for the fixture `orientation`.
HOW = ["row-major", "row-major, losses by rows", "feature-major"]


def twin_of(model):
    """A model's network for `reference`, in float64."""
    tensors = iter(model.tensors)

    def layer(each):
        if isinstance(each, Residual):
            return reference.Residual([layer(inner) for inner in each.layers], each.activation)
        arrays = [np.array(tensor.T, "f8") for tensor in next(tensors).values()]
        if isinstance(each, Embedding):
            return reference.Embedding([array.T for array in arrays], each.columns)
        if isinstance(each, Dense):
            return *arrays, each.activation
        kind = getattr(reference, type(each).__name__)
        settings = {name: getattr(each, name) for name in kind._fields if name in each.__dataclass_fields__}
        return kind(*arrays, **settings)

    return [layer(each) for each in model.layers]


class Net:
    """A random network in the kernels' memory, and its float64 twin for `reference`."""

    def __init__(
        self,
        sizes,
        names,
        dtype,
        seed=0,
        loss="quadratic",
        frozen=(),
        target=HOST,
        parameter=None,
        orientation="",
        kinds=(),
    ):
        rng, places = np.random.default_rng(seed), {"orientation": orientation, "kinds": kinds}
        self.layout = Layout(sizes, names, loss, dtype, frozen, target=target, **places)
        self.settings = aligned_zeros(self.layout.settings_dtype.itemsize, self.layout.settings_dtype)
        self.settings["loss_parameter"] = LOSSES[loss].parameter if parameter is None else parameter
        self.dtype, self.library = dtype, library(dtype, target)
        self.parameters = aligned_zeros(self.layout.n_bytes, dtype)
        for w, b in self.layout.views(self.parameters):
            w[...] = rng.standard_normal(w.shape) / np.sqrt(w.shape[0])
            b[...] = rng.standard_normal(b.shape) / 2
        for layer, tensors in zip(self.layout.layers, self.layout.tensors(self.parameters), strict=True):
            for tensor in () if layer.kind.multiplies else tensors.values():
                tensor[...] = rng.uniform(0.4, 1.6, tensor.shape)

    @property
    def twin(self):
        """The network for `reference`: a sum takes the layers from where it begins, as a `Residual` holds them."""
        found = []  # (the index of its first layer, the layer)
        for layer, tensors in zip(self.layout.layers, self.layout.tensors(self.parameters), strict=True):
            arrays, first = [np.array(tensor.T, "f8") for tensor in tensors.values()], layer.index
            if layer.kind.skips:
                (start,) = layer.kind.skips
                inner = [each for each in found if each[0] > start]
                found, first = found[: len(found) - len(inner)], inner[0][0]
                made = reference.Residual([each for _, each in inner], layer.activation)
            elif layer.kind.multiplies:
                made = *arrays, layer.activation
            else:
                kind = getattr(reference, type(layer.kind).__name__)
                settings = {name: value for name, value in vars(layer.kind).items() if name in kind._fields}
                made = kind(*arrays, activation=layer.activation, **settings)
            found.append((first, made))
        return [made for _, made in found]

    @functools.cached_property
    def used(self):
        """The numbers of the elements of a vector that belong to a tensor."""
        used = np.zeros(self.parameters.size, bool)
        for tensors in self.layout.tensors(used):
            for tensor in tensors.values():
                tensor[...] = True
        return np.flatnonzero(used)

    def padding(self, vector):
        """The elements of a vector that belong to no tensor."""
        return np.delete(vector, self.used)

    def sweep_code(self, work, x, y=None, gradient=False, scale=1.0, in_place=False, weights=None, shares=()):
        """The programs of `sweep`: of the heights that the samples are the sum of, or `shares` of them."""
        places, programs = (Vector(self.layout, self.parameters.ctypes.data), work), []
        sources = None if y is None else Sources.of(x, y, weights)
        most = self.most(gradient)
        due = {height for n in shares or [len(x)] for height in strategy.parts_of(n, most)}
        for rows in strategy.heights(most):
            if rows not in due:
                programs.append(Program(self.layout.target, self.dtype))
            elif gradient:
                programs.append(block_programs.gradient_program(*places, sources, rows, scale))
            else:
                source = Source.of("samples", x)
                programs.append(prediction_programs.predict_program(*places, source, rows, scale, in_place, sources))
        return Code(programs, self.library)

    def most(self, gradient=False):
        """The most rows of a program of `sweep_code`."""
        return self.layout.block_rows if gradient else strategy.most_predicted(self.layout)

    def sweep(self, x, y=None, out=None, gradient=None, scale=1.0, weights=None):
        """One pass over the samples: fills out, adds the mean gradient to gradient; returns the mean loss."""
        if out is None and gradient is None:
            out = np.empty((len(x), self.layout.sizes[-1]), self.dtype)
        work = Workspace(self.layout, self.layout.block_rows)
        code = self.sweep_code(work, x, y, gradient is not None, scale, weights=weights)
        count = len(x) if weights is None else weights.sum(dtype="f8")
        work.step["scale"], work.step["total"] = 1 / count, 0
        self.run_sweep(code, x, y, out, gradient, weights=weights)
        return float(work.step["total"][0]) / count

    def run_sweep(self, code, x, y=None, out=None, gradient=None, operations=None, weights=None):
        """Run the programs of `sweep_code` on samples of the same kind, on as many threads as there are operations."""
        table = bindings()
        bind(table, SETTINGS, self.settings.ctypes.data)
        for symbol, array in ((SAMPLES, x), (TARGETS, y), (WEIGHTS, weights), (OUTPUTS, out)):
            if array is not None:
                bind(table, symbol, array.ctypes.data, array.strides[0])
        if gradient is not None:
            bind(table, GRADIENT, gradient.ctypes.data)
        rest = code.patches, code.parts, strategy.pick(self.most(gradient is not None)), table, 0, len(x)
        if operations is None:
            entry.sweep(code.operations, *rest)
        else:
            entry.sweep_parallel(operations, *rest)

    def gradients(self, x, y):
        """(mean loss, its gradient laid out like the parameters)."""
        gradient = aligned_zeros(self.layout.n_bytes, self.dtype)
        return self.sweep(x, y, gradient=gradient), gradient

    def train(self, x, y, batch_size, settings, epochs, ordered, order=None, **options):
        """Train in this memory, and give what a `Run` holds; see there for the options."""
        return Run(self, x, y, batch_size, settings, epochs, ordered, order, **options)


def trainable(layout, parameters, vectors, state):
    """What programs of training know of these arrays."""
    parameters_at, vectors_at, state_at = (array.ctypes.data for array in (parameters, vectors, state))
    return Trainable.at(layout, parameters_at, vectors_at, vectors.nbytes // layout.n_bytes, state_at)


def help_train(*arguments):
    """`entry.help_train` until it is stopped."""
    while entry.help_train(*arguments):
        pass


class Run:
    """Training by an optimizer with these settings and rule values, `blocks` of samples a call, on some threads.

    order is int32 (epochs, n) where it is given. Afterwards: the mean losses, the network's parameters as they were at
    the end of the last finished epoch (kept), STATE now and then (state, kept_state), a record RUN (run), and the
    programs of each worker.
    """

    def __init__(
        self,
        net,
        x,
        y,
        batch_size,
        settings,
        epochs,
        ordered,
        order=None,
        *,
        scale=1.0,
        seed=1,
        blocks=2,
        optimizer="sgd",
        threads=1,
        weights=None,
        l2=None,
        l1=None,
        rules=NO_RULES,
        noise_seed=0,
        batch_means=False,
    ):
        n, dtype, one = len(x), net.dtype, net.layout
        layout = strategy.sharded(one, batch_size, threads)
        kind = OPTIMIZERS[optimizer]
        vectors = aligned_zeros(len(kind.vectors) * layout.n_bytes, dtype)
        self.live = [net.parameters, vectors]
        if layout is not one:
            self.live[0] = aligned_zeros(layout.n_bytes, dtype)
            one.convert(net.parameters, layout, self.live[0])
        self.kept_arrays = [net.parameters.copy(), aligned_zeros(len(kind.vectors) * one.n_bytes, dtype)]
        self.state, self.kept_state = (aligned_zeros(STATE.itemsize, STATE) for _ in range(2))
        self.state["random"], self.state["noise"] = seed, noise_seed
        self.state["numbers"][0, : len(kind.state)] = list(kind.state.values())
        self.kept_state[:] = self.state
        strengths = tuple(l2 or NO_PENALTY), tuple(l1 or NO_PENALTY)
        write_settings(net.settings, settings, *strengths, rules)
        needed = training_programs.needs_gradient(one, batch_size, optimizer)
        gradient = aligned_zeros(layout.n_bytes if needed else 0, dtype)
        work = Workspace(layout, min(batch_size, layout.block_rows), threads, rules.kinds.dropped)
        on = {"l2": bool(l2), "l1": bool(l1), "rules": rules.kinds}
        kind = training_programs.Kind(batch_size, optimizer, Sources.of(x, y, weights), n % batch_size, **on)
        live, kept = trainable(layout, *self.live, self.state), trainable(one, *self.kept_arrays, self.kept_state)
        training = training_programs.Training(kind, scale, work, live, kept, gradient)
        self.programs = training.programs(threads)
        code = Code([program for programs in self.programs for program in programs], net.library)
        table, pick = self._bindings(net, x, y, weights, ordered, order), training.pick()
        shared = code.operations, code.patches, code.parts.reshape(threads, -1), table
        self.run, self.losses = np.zeros(1, records.RUN), np.zeros(epochs)
        fields = {"n_samples": n, "batch_size": batch_size, "ordered": ordered}
        fields |= {"batch_means": batch_means, "epochs": epochs, "patience": -1, "best": np.inf, "loss_scale": 1.0}
        for name, value in fields.items():
            self.run[name] = value
        now = self.run[0]
        while now["epoch"] < epochs and now["status"] == records.RUNNING:
            mailbox = aligned_zeros(MAILBOX.itemsize, MAILBOX)
            helpers = [threading.Thread(target=help_train, args=(*shared, mailbox, i)) for i in range(1, threads)]
            for helper in helpers:
                helper.start()
            while not entry.train(*shared, mailbox, pick, work.step, self.run, self.losses, blocks):
                pass
            for helper in helpers:
                helper.join()
        self.layout, self.kept = layout, self.kept_arrays[0]
        if layout is not one:
            layout.convert(self.live[0], one, net.parameters)

    def _bindings(self, net, x, y, weights, ordered, order):
        table, n = bindings(), len(x)
        bind(table, SETTINGS, net.settings.ctypes.data)
        for symbol, array in ((SAMPLES, x), (TARGETS, y), (WEIGHTS, weights)):
            if array is not None:
                bind(table, symbol, array.ctypes.data, array.strides[0] if ordered == records.AS_IS else 0)
        if ordered != records.AS_IS:
            self.order = np.empty(n, np.int32) if ordered == records.DRAWN else np.ascontiguousarray(order, np.int32)
            bind(table, ORDER, self.order.ctypes.data, 4)
            bind(table, REMAINING, n, -1)
        return table
