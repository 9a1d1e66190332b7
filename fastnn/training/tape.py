"""Tapes: what goes forward, and back from a gradient of the outputs that the user computed; and steps on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import calls
from ..data import arrays
from ..data.samples import Samples
from ..kernels.formulas.update_rules import OPTIMIZERS, POSITIONS
from ..kernels.programs import program, strategy
from ..kernels.programs.block_programs import BACKWARD, BOTH, FORWARD, Rules, Task, block_program, keeps_activations
from ..kernels.programs.layers.layer import BATCH, TRACKED
from ..kernels.programs.memory import STATE, Layout, Trainable, Vector, Workspace, aligned_zeros
from ..kernels.programs.passes import Destination
from ..kernels.programs.program import (
    AFFINE,
    PARAMETERS,
    RATES,
    SAMPLES,
    SETTINGS,
    TARGETS,
    Code,
    Program,
    bind,
    bindings,
)
from ..kernels.programs.sources import Source, Sources
from ..kernels.programs.training_programs import Kind, Training
from ..kernels.running import entry
from ..kernels.running.python_api import address_of
from ..kernels.vector.barriers import Worker
from ..kernels.vector.library import library
from ..kernels.vector.matrix import Symbol
from ..network.network import Network
from ..reports.history import DivergenceError
from ..settings import optimizers
from ..settings.learning_rates import schedule_of
from ..settings.optimizers import Optimizer
from .arguments import Subject, check_rows, check_trainable, inputs_of
from .options import Options, write_weight_decay
from .plan import Buffers, kind_of

KEPT_ROWS = 8  # fewer rows go forward again in less time than it takes to see that they are the same
MAX_TAPES = 4  # of a thread and a network: of other kinds of samples, or with other layers that drop outputs
# The kinds of programs: which part of the way, whether down to the inputs, and which statistics BatchNorm takes.
SLOTS = (
    *((FORWARD, False, BATCH), (BACKWARD, False, BATCH), (BOTH, False, BATCH)),
    *((BACKWARD, True, BATCH), (BOTH, True, BATCH), (BOTH, False, TRACKED)),
)
NONE = -1
# What a tape does, and the slots of the programs that go forward, backward, and both ways for it.
OUTPUTS, GRADIENT, TO_INPUTS, STEP, TRACKED_STEP = range(5)
USES = ((0, NONE, NONE), (NONE, 1, 2), (NONE, 3, 4), (NONE, 1, 2), (NONE, NONE, 5))


class TapeKind(NamedTuple):
    """What a tape's programs depend on beside the network: the samples' width and dtype, the layers that drop."""

    cols: int
    dtype: str
    dropped: tuple[int, ...]

    @classmethod
    def of(cls, inputs: NDArray[Any], rates: Sequence[float] = ()) -> TapeKind:
        """The kind for such samples, and shares of the layers' outputs that are dropped."""
        return cls(inputs.shape[1], inputs.dtype.name, tuple([i for i, rate in enumerate(rates) if rate]))


class Tape:
    """Programs of a network that go forward, and back from a gradient of the outputs, in the same buffers.

    It keeps the samples of its last `forward`. Where they were one block, their activations stay in the buffers, and
    serve again if samples and parameters still have the same bytes. So nothing but the time tells whether they did.

    One call uses a tape at a time: it takes it out of its thread's list, and puts it back at the end. What an exception
    interrupts is lost, and made again.
    """

    def __init__(self, network: Network, kind: TapeKind):
        self.layout, self.loading, self.kind = network.layout.outside, network.loading, kind
        layout, dtype, n_out = self.layout, self.layout.dtype, self.layout.sizes[-1]
        self.x_dtype, self.dtype = np.dtype(kind.dtype), np.dtype(dtype)
        # The dtype of samples that need no check: none where they hold codes, or are sparse rows, which hold addresses.
        unchecked = kind.dtype != "int64" and network.architecture.embedding is None
        self.taken = self.x_dtype if unchecked else None
        self.n_out = n_out
        self.library, self.most = library(dtype), layout.block_rows
        self.work = Workspace(layout, self.most, dropped=kind.dropped, keeps_x=True)
        self.gradient = aligned_zeros(layout.n_bytes, dtype)
        self.parameters, self.kept = network.parameters, aligned_zeros(layout.n_bytes, dtype)
        self.room = np.empty((self.most, kind.cols), self.x_dtype)
        self.kept_x = self.room[:0]  # the samples of the last `forward`
        self.settings = aligned_zeros(layout.settings_dtype.itemsize, layout.settings_dtype)
        self.rates: tuple[float, ...] = ()  # the share of each layer's outputs that is dropped
        x, y = Source.of_rows("samples", kind.cols, kind.dtype), Source.of_rows("targets", n_out, dtype)
        self.sources = Sources(x, y)
        self.bindings = bindings()
        bind(self.bindings, SETTINGS, address_of(self.settings))
        bind(self.bindings, AFFINE, self.loading.address)
        bind(self.bindings, SAMPLES, 0, x.row_stride)
        bind(self.bindings, TARGETS, 0, y.row_stride)
        self._serve(Buffers(network.parameters, network.parameters[:0], network.state))
        self.pick = strategy.pick(self.most, layout.whole_batch)
        self.picks = np.zeros((len(SLOTS), len(self.pick)), np.int64)  # programs of a slot by the rows left, 0 for none
        self.code = Code([self._draw()], self.library)
        self.ready: dict[tuple[int, tuple[int, int]], tuple[Any, ...]] = {}  # see `arguments`; by use and shape of X
        self.around: dict[Kind, tuple[int, Buffers]] = {}  # the first program around steps of a kind, and its memory
        self.step_from, self.rate_per = 0, ""
        self.step_use = TRACKED_STEP if layout.whole_batch else STEP
        self.requested: Any = None  # the argument of `Model.step`
        self.longest = calls.FIRST_SWEEP / (3 * layout.multiply_adds)  # the most rows of a step in place
        self.no_inputs = np.empty((0, layout.sizes[0]), dtype)

    def _serve(self, live: Buffers) -> None:
        """Bind the memory that steps change."""
        self.live = live  # as long as its addresses are bound
        self.bindings["address"][PARAMETERS : program.STATE + 1] = [address_of(array) for array in live]

    # ---- programs ----

    def _draw(self) -> Program:
        """What draws the key of dropout."""
        made = Program(self.layout.target, self.layout.dtype)
        if self.kind.dropped:
            state = Symbol("state") + STATE.fields["noise"][1]
            made.add("draw_key", state=state, key=self.work.field("key"))
        return made

    def arguments(self, use: int, n: int) -> tuple[Any, ...]:
        """(`records.TAPE` of a use and n rows, where samples are kept, what must live as long); writes programs."""
        key = use, (n, self.kind.cols)
        if found := self.ready.get(key):
            return found
        forward, again, both = USES[use]
        again = again if self.reuses(n) else NONE
        for slot in {forward, again, both} - {NONE}:
            for i in strategy.numbers(n, self.most, self.layout.whole_batch):
                if not self.picks[slot, self.pick == i].all():
                    self._write(slot, i)
        how = np.array([forward, again, both, 0 if self.kind.dropped else NONE])
        code, rows = self.code, n if self.kind.dropped or self.reuses(n) else 0
        kept_x = self.room[:rows] if rows <= self.most else np.empty((rows, self.kind.cols), self.x_dtype)
        operations, patches, parts, picks = code.operations, code.patches, code.parts, self.picks
        places = address_of
        numbers = (
            *(places(operations), len(operations), places(patches), len(patches), places(parts), len(parts)),
            *(places(picks), *picks.shape, places(how), places(self.bindings), places(self.work.step)),
            *(places(kept_x), kept_x.nbytes, places(self.parameters), places(self.kept)),
            *(places(self.gradient), self.gradient.nbytes // 8, n),
        )
        found = np.array(numbers), kept_x, (code, how)
        if len(self.ready) >= len(self.pick):
            self.ready.clear()
        if rows <= self.most:
            self.ready[key] = found
        return found

    def reuses(self, n: int) -> bool:
        """Whether the activations of n rows stay, and are worth to be kept: those of a single block."""
        single = self.layout.whole_batch or (n <= self.most and strategy.parts_of(n, self.most) == [n])
        return n >= KEPT_ROWS and single and self.kind.dtype != "int64" and keeps_activations(self.layout, n)

    def _write(self, slot: int, i: int) -> None:
        """Write the program of height number i for a slot."""
        part, to_inputs, statistics = SLOTS[slot]
        layout, rows = self.layout, strategy.heights(self.most, self.layout.whole_batch)[i]
        task = Task(
            Vector(layout, Symbol("parameters")),
            self.work,
            self.sources,
            self.loading.scale,
            Destination(Vector(layout, self.gradient.ctypes.data, "d"), overwrite=part == BACKWARD),
            Rules(dropped=self.kind.dropped),
            statistics=statistics,
            part=part,
            to_inputs=to_inputs,
        )
        made = block_program(task, strategy.choose(layout, rows), rows, Worker(), ahead=False)
        self.picks[slot, self.pick == i] = self._append([made])

    def _append(self, programs: Iterable[Program]) -> int:
        """Append programs; gives the number of the first of them."""
        number = len(self.code.parts)
        self.code = Code.joined([self.code, Code(programs, self.library)])
        self.ready.clear()
        return number

    # ---- passes ----

    def takes(self, X: NDArray[Any]) -> bool:
        """Whether X is as the programs take it, but for its shape."""
        return X.dtype is self.taken and X.flags.carray

    def takes_both(self, X: NDArray[Any], dA: Any) -> bool:
        """Whether X and a gradient of its outputs are as the programs take them, but for the shape of X."""
        alike = type(dA) is np.ndarray and dA.dtype is self.dtype and dA.flags.carray and self.takes(X)
        return alike and dA.shape == (*X.shape[:1], self.n_out)

    def forward(self, X: NDArray[Any]) -> NDArray[Any]:
        """The outputs; samples and activations stay where they can."""
        n = len(X)
        used = self.arguments(OUTPUTS, n)
        self.kept_x = used[1]
        out = np.empty((n, self.n_out), self.dtype)
        for piece in self._pieces(n, 1):
            entry.forward(used[0], *piece, X, out)
        return out

    def _pieces(self, n: int, passes: int) -> Iterable[tuple[int, int]]:
        """Parts of n rows for a compiled call each."""
        if n <= self.most:
            return ((0, n),)
        return calls.pieces(n, self.most, passes * self.layout.multiply_adds)

    def is_of(self, inputs: NDArray[Any]) -> bool:
        """Whether the last `forward` had these samples."""
        alike = self.x_dtype == inputs.dtype and inputs.shape == self.kept_x.shape
        return alike and bool(entry.same_bytes(inputs, self.kept_x))

    def backward(self, X: NDArray[Any], d_a: NDArray[Any], inputs: bool) -> tuple[int, NDArray[Any], NDArray[Any]]:
        """(status of `entry.backward`, gradient by the parameters, that by the inputs, empty if not wanted)."""
        n = len(X)
        used = self.arguments(TO_INPUTS if inputs else GRADIENT, n)
        elements = self.layout.elements
        flat = np.empty(len(elements), self.dtype)
        d_x = np.empty((n, self.layout.sizes[0]), self.dtype) if inputs else self.no_inputs
        for piece in self._pieces(n, 3):
            if status := entry.backward(used[0], *piece, X, d_a, d_x, self.gradient, elements, flat):
                return status, flat, d_x
        if inputs and self.loading.scale is None:
            d_x *= self.loading.scales(self.layout)
        elif inputs and self.loading.scale != 1:
            d_x *= self.dtype.type(self.loading.scale)
        return 0, flat, d_x

    # ---- steps ----

    def follow(self, network: Network, optimizer: Optimizer, samples: Samples) -> None:
        """Get ready for steps of an optimizer in the network's memory."""
        options = Options(1, 0, optimizer, any_rows=True, in_place=True)
        kind = kind_of(options, samples)._replace(batch_size=self.most + 1)  # so that the whole gradient comes first
        self.requested = None
        if kind not in self.around:
            layout, n_vectors = self.layout, len(OPTIMIZERS[kind.optimizer].vectors)
            kept = _buffers(layout, n_vectors)._replace(parameters=self.kept)
            parameters, vectors, state = map(Symbol, ("parameters", "vectors", "state"))
            live = Trainable.at(layout, parameters, vectors, n_vectors, state)
            training = Training(kind, self.loading.scale, self.work, live, kept.trainable(layout), self.gradient, False)
            self.around[kind] = self._append(training.around(Worker())), kept
        self.step_from, self.rate_per = self.around[kind][0], kind.rate_per
        options.write(self.settings)
        self._serve(Buffers(network.parameters, network.vectors_for(optimizer), network.state))

    def step(self, X: NDArray[Any], d_a: NDArray[Any], first: int, stop: int) -> int:
        """One step, or a part of one; gives the status of `entry.outside_step`."""
        used = self.arguments(self.step_use, len(X))
        return entry.outside_step(used[0], self.step_from, first, stop, X, d_a)

    def step_apart(self, network: Network, optimizer: Optimizer, X: NDArray[Any], d_a: NDArray[Any]) -> int:
        """One step in copies of the network's memory, which gets what they hold in the end; gives the status.

        So the optimizer may be another one than the last, its rate may vary, and Ctrl-C may come at any time.
        """
        made = _buffers(self.layout, len(OPTIMIZERS[optimizer._kernel].vectors))
        made.parameters[:], made.state[:] = network.parameters, network.state
        if network.optimizer == optimizer:
            made.vectors[:] = network.vectors_for(optimizer)
        else:
            network.start(optimizer, made.vectors, made.state)
        in_place = Buffers(network.parameters, network.vectors_for(optimizer), network.state)
        self._serve(made)
        per = self.rate_per
        if per:
            epoch, position = (int(made.state["numbers"][0, POSITIONS[each]]) for each in ("epoch", per))
            write_weight_decay(self.settings, optimizer, epoch)
            rates = schedule_of(optimizer.learning_rate)._checked_rates("learning_rate", per, position, 1)
            position += per == "epoch"  # KEEP, which a step begins with, counts an epoch
            bind(self.bindings, RATES, rates.ctypes.data - 8 * position)
        status = 0
        for piece in self._pieces(len(X), 3):
            status = status or self.step(X, d_a, *piece)
        if status == 0:
            entry.copy_all(*made, *in_place)
        self._serve(in_place)
        return status


def _buffers(layout: Layout, n_vectors: int) -> Buffers:
    """Memory for what a step changes."""
    parameters, vectors = (aligned_zeros(n * layout.n_bytes, layout.dtype) for n in (1, n_vectors))
    return Buffers(parameters, vectors, aligned_zeros(STATE.itemsize, STATE))


def _claimed(tapes: Any, tape: Tape) -> bool:
    """Whether a tape of this thread was idle, and is the caller's now: a signal handler's call may have it."""
    try:
        tapes.idle.remove(tape)
    except ValueError:
        return False
    return True


def _take(network: Network, kind: TapeKind) -> Tape:
    """A tape of this thread that was idle, or a new one."""
    tapes = network.tapes
    for tape in reversed(tapes.idle.copy()):
        if tape.kind == kind and _claimed(tapes, tape):
            found: Tape = tape
            return found
    return Tape(network, kind)


def _tape_for(network: Network, inputs: NDArray[Any]) -> Tape:
    """The tape of the thread's last `forward` if that had these samples, else any one without dropout."""
    latest: Tape | None = network.tapes.latest
    if latest is not None and latest.is_of(inputs) and _claimed(network.tapes, latest):
        return latest
    return _take(network, TapeKind.of(inputs))


def _put_back(network: Network, tape: Tape) -> None:
    idle = network.tapes.idle
    idle.append(tape)
    del idle[:-MAX_TAPES]


# ---- what a model does ----


def quick_forward(network: Network, X: Any) -> NDArray[Any] | None:
    """The outputs for samples of the kind of the thread's last ones; None for others, and for new numbers of rows."""
    tapes = network.tapes
    tape: Tape | None = tapes.latest
    if tape is None or tape.rates or type(X) is not np.ndarray or not tape.takes(X):
        return None
    used = tape.ready.get((OUTPUTS, X.shape))
    if used is None or (n := len(X)) > tape.most or not _claimed(tapes, tape):
        return None
    tape.kept_x = used[1]
    outputs = np.empty((n, tape.n_out), tape.dtype)
    entry.forward(used[0], 0, n, X, outputs)
    tapes.idle.append(tape)
    return outputs


def forward(network: Network, inputs: NDArray[Any], rates: Sequence[float]) -> NDArray[Any]:
    """The outputs for samples as the kernels read them, without what is dropped; a tape of the thread keeps them."""
    tape = _take(network, TapeKind.of(inputs, rates))
    tape.rates = tuple(rates)
    if rates:
        tape.settings["dropout"] = rates
    outputs = tape.forward(_plain(inputs))
    _put_back(network, tape)
    network.tapes.latest = tape
    return outputs


def quick_backward(network: Network, X: Any, dA: Any, inputs: bool) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """What `backward` gives, for arrays of the kinds of the thread's last `forward`; None for others."""
    tapes = network.tapes
    tape: Tape | None = tapes.latest
    if tape is None or tape.rates or type(X) is not np.ndarray or not tape.takes_both(X, dA):
        return None
    if (TO_INPUTS if inputs else GRADIENT, X.shape) not in tape.ready or not _claimed(tapes, tape):
        return None
    status, gradient, d_x = tape.backward(X, dA, inputs)
    tapes.idle.append(tape)
    return None if status else (gradient, d_x)


def backward(subject: Subject, X: Any, dA: Any, inputs: bool) -> tuple[NDArray[Any], NDArray[Any]]:
    """The gradients by the parameters, flat and unpadded, and by the inputs, which are empty if not wanted."""
    network = subject.network
    if (found := quick_backward(network, X, dA, inputs)) is not None:
        return found
    samples, d_a = _checked(subject, X, dA)
    if not inputs:
        check_trainable(subject.architecture)
    rows = _plain(samples)
    tape = _tape_for(network, rows)
    status, gradient, d_x = tape.backward(rows, d_a, inputs)
    _put_back(network, tape)
    if status:
        _explain(subject, samples, d_a)
    return gradient, d_x


def quick_step(network: Network, X: Any, dA: Any, optimizer: Any) -> bool:
    """Take a step like the thread's last one; whether it was taken."""
    tapes = network.tapes
    tape: Tape | None = network.stepping
    if tape is None or tape.requested is not optimizer or type(X) is not np.ndarray or not tape.takes_both(X, dA):
        return False
    used, n, latest = tape.ready.get((tape.step_use, X.shape)), len(dA), tapes.latest
    if used is None or n > tape.longest or (latest is not None and latest.rates) or not _claimed(tapes, tape):
        return False
    status = entry.outside_step(used[0], tape.step_from, 0, n, X, dA)
    tapes.idle.append(tape)
    return status == 0


def step(subject: Subject, X: Any, dA: Any, requested: Optimizer | str) -> None:
    """One step of an optimizer on the gradient dA of the outputs; raises DivergenceError where it is not finite."""
    network, optimizer = subject.network, optimizers.resolve(requested)
    samples, d_a = _checked(subject, X, dA)
    check_trainable(subject.architecture)
    other, varies = network.optimizer != optimizer, bool(optimizers.per_of(optimizer))
    if other:
        network.forget_stepper()
    rows = _plain(samples)
    tape = _tape_for(network, rows)
    tape.follow(network, optimizer, Samples(rows, d_a))
    long = len(rows) > tape.longest
    if other or varies or long:
        status = tape.step_apart(network, optimizer, rows, d_a)
    else:
        status = tape.step(rows, d_a, 0, len(rows))
    _put_back(network, tape)
    if status:
        _explain(subject, samples, d_a)
    if not (varies or long or tape.rates):
        tape.requested, network.stepping = requested, tape


def _checked(subject: Subject, X: Any, dA: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Samples as the kernels read them, which must live as long as `_plain` of them, and the gradient dA."""
    architecture, layout = subject.architecture, subject.network.layout
    inputs = inputs_of(architecture, X, subject.feature_names)
    check_rows(layout, len(inputs))
    shape = len(inputs), layout.sizes[-1]
    if shape[1] == 1 and (column := arrays.array("dA", dA)).ndim == 1:
        dA = column[:, None]
    return inputs, _plain(arrays.parameters("dA", dA, shape, architecture.dtype))


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """An array as compiled code takes it: of the base class, and writable. It keeps nothing else of the array."""
    return np.require(array.view(np.ndarray), requirements="W")


def _explain(subject: Subject, X: ArrayLike, dA: ArrayLike) -> NoReturn:
    """Raise the error of what was not done."""
    _checked(subject, X, dA)
    raise DivergenceError("training diverged in this step; try a lower learning_rate", 1)
