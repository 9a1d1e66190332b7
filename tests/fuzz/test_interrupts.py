"""Ctrl-C at any moment, and again in the clean-up: the model holds the epochs that its history says, and can go on."""

import contextlib
import copy
import dis
import os
import signal
import sys
import tempfile
import time
import warnings

import numpy as np
import psutil
import pytest

import fastnn
from fastnn import SGD, Adam, BatchNorm, Dense, LayerNorm, Model, Momentum, PReLU, Residual, Scale

from .helpers import attack, chance, check_history, check_whole, on_threads, pick, run_child, snapshot

PACKAGE = os.path.dirname(fastnn.__file__) + os.sep
KERNELS = os.path.join(PACKAGE, "kernels") + os.sep
# Where the interpreter looks for signals: when a function begins, behind a call, and at the end of a loop's body.
CHECKS = {"CALL", "CALL_KW", "CALL_FUNCTION_EX", "JUMP_BACKWARD", "RESUME"}

# ---- interrupts at a counted moment ----


class Interrupter:
    """Raises KeyboardInterrupt at the given moments of the package's code, counted where a signal could be seen.

    A trace function that raises is switched off. The profile function switches it on again.
    """

    def __init__(self, moments):
        self.moments, self.seen, self.raised, self.last = list(moments), 0, 0, {}
        self.places, self.names = [], {}

    def __enter__(self):
        self.before = sys.gettrace(), sys.getprofile()
        sys.setprofile(self.profile)
        sys.settrace(self.trace)
        return self

    def __exit__(self, *_):
        self.moments = []
        sys.setprofile(self.before[1])
        sys.settrace(self.before[0])

    def ours(self, frame):
        """Whether a frame runs code of the package that is not compiled."""
        name = frame.f_code.co_filename
        return name.startswith(PACKAGE) and not name.startswith(KERNELS)

    def trace(self, frame, event, arg):
        if not self.ours(frame):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "call":
            self.last[frame] = "RESUME"
        if event == "exception":  # no look for signals on the way to its handler
            self.last[frame] = ""
        if event == "opcode":
            self.look(frame)
        if event == "return":
            self.last.pop(frame, None)
        return self.trace

    def look(self, frame):
        """Count the moment, and raise at those that were given."""
        last, self.last[frame] = self.last.get(frame), self.opname(frame)
        if last not in CHECKS or not self.moments:
            return
        self.seen += 1
        if self.seen >= self.moments[0]:
            del self.moments[0]
            self.seen, self.raised = 0, self.raised + 1
            self.places.append(f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}")
            raise KeyboardInterrupt

    def opname(self, frame):
        """The name of the instruction that runs next."""
        code = frame.f_code
        if code not in self.names:
            self.names[code] = {i.offset: i.opname for i in dis.get_instructions(code)}
        return self.names[code].get(frame.f_lasti, "")

    def profile(self, frame, event, arg):
        if self.moments and sys.gettrace() is None:
            while frame is not None:
                if self.ours(frame):
                    frame.f_trace, frame.f_trace_opcodes, frame.f_trace_lines = self.trace, True, False
                    self.last[frame] = self.opname(frame)
                frame = frame.f_back
            sys.settrace(self.trace)


def some_moments(rng, most):
    """One to three moments: the first is anywhere, the others come soon after."""
    later = [int(rng.integers(1, pick(rng, [4, 12, 60]))) for _ in range(pick(rng, [0, 0, 1, 1, 2]))]
    return [int(rng.integers(1, most)), *later]


# ---- fits ----


class Training:
    """Fits of a small network, always the same, that end after some epochs or are interrupted."""

    def __init__(self, rng):
        n, self.sizes = int(rng.integers(10, 60)), [5, int(rng.integers(2, 40)), 3]
        self.X, self.y = rng.normal(size=(n, 5)), rng.integers(0, 3, n)
        self.dtype, self.seed = pick(rng, ["float32", "float64"]), int(rng.integers(100))
        self.optimizer = pick(rng, [SGD(0.1), Momentum(0.01), Adam(0.01)])
        self.batch_size = pick(rng, [1, 7, n])
        if chance(rng, 0.3):
            norm = BatchNorm() if self.batch_size > 1 != n % self.batch_size else LayerNorm()
            self.sizes[1:2] = [Residual(Dense(5, "tanh"), norm), Dense(self.sizes[1], "tanh"), Scale(), PReLU()]
        self.threads = pick(rng, [1, 2, 3])
        self.validation = {"validation_data": (self.X, self.y)} if chance(rng, 0.5) else {}
        self.callbacks = [lambda model: None] if chance(rng, 0.5) else []
        self.weights = rng.uniform(0.5, 2, n) if chance(rng, 0.3) else None
        self.trained_before = chance(rng, 0.5)

    def __repr__(self):
        shown = {name: value for name, value in vars(self).items() if name not in ("X", "y", "weights", "validation")}
        given = f"weights {self.weights is not None}, validation {bool(self.validation)}"
        return f"{shown}, {len(self.X)} samples, {given}"

    def model(self):
        """The model before the fit: as it was made, or trained by an equal optimizer."""
        model = Model(self.sizes, rng=self.seed, dtype=self.dtype)
        if self.trained_before:
            self.fit(model, 2)
        return model

    def fit(self, model, epochs, **options):
        """Train, in the order that the model draws."""
        given = {"batch_size": self.batch_size, "optimizer": self.optimizer, "sample_weight": self.weights}
        given |= {"callbacks": self.callbacks, "threads": self.threads}
        return model.fit(self.X, self.y, epochs=epochs, **given | self.validation | options)


def arrays_of(model):
    """Views of all tensors."""
    return [tensor for tensors in model.tensors for tensor in tensors.values()]


def check_interrupted(training, model, before, views, old_history):
    """Raise where a model is not as it was after the last whole epoch of an interrupted fit."""
    check_whole(model)
    history = model.history
    epochs = 0 if history is old_history else len(history.loss)
    if history is not old_history:
        check_history(history)
    reference = copy.copy(before)
    training.fit(reference, epochs)
    for going_on in range(2):
        assert model.parameters.tobytes() == reference.parameters.tobytes(), (
            f"other parameters than after {epochs} epochs" + ", and one more" * going_on
        )
        if history is not old_history:
            assert list(model.history.loss) == list(reference.history.loss), "other losses"
        if not going_on:
            training.fit(model, 1)
            training.fit(reference, 1)
            history = model.history
    for view, array in zip(views, arrays_of(model), strict=True):
        assert np.shares_memory(view, array), "a view that was taken before shows other memory"
        assert np.array_equal(view, array)


def running_threads():
    """How many threads this process has, whoever started them."""
    return psutil.Process().num_threads()


def check_threads_ended(before):
    """Raise where a thread goes on for ever."""
    end = time.monotonic() + 600
    while running_threads() > before:
        assert time.monotonic() < end, "a thread goes on"
        time.sleep(0.001)


@attack(cases=40, share=2)
def test_interrupts_of_fit_at_counted_moments(rng):
    """One to three interrupts, the later ones in the clean-up after the first."""
    training, moments = Training(rng), some_moments(rng, pick(rng, [200, 1000, 3000]))
    epochs = int(rng.integers(1, 5))
    shared = on_threads(rng) if training.threads > 1 else contextlib.nullcontext()
    with shared:
        model = training.model()
        before, old_history = copy.copy(model), model.history
        views, running = arrays_of(model), running_threads()
        interrupter, error = Interrupter(moments), None
        try:
            with interrupter:
                training.fit(model, epochs)
        except KeyboardInterrupt as interrupt:
            error = interrupt
        what = f"interrupts at {interrupter.places}, {training}"
        assert bool(interrupter.raised) == (error is not None), f"an interrupt was lost: {what}"
        try:
            check_interrupted(training, model, before, views, old_history)
            check_threads_ended(running)
        except Exception as found:
            raise AssertionError(f"{found!r}: {what}") from found


# ---- other calls ----


def step(model, training):
    model.partial_fit(training.X, training.y, optimizer=training.optimizer, sample_weight=training.weights)


def diverging_step(model, training):
    large = 1e30 if model.dtype == "float32" else 1e200
    with contextlib.suppress(fastnn.DivergenceError):
        model.partial_fit(training.X, np.full((len(training.y), 3), large), optimizer=training.optimizer)


def freeze(model, training):
    model.freeze([0])


def replace_head(model, training):
    model.replace_head(7, rng=0)


def predict(model, training):
    model.predict(np.tile(training.X, (100, 1)), threads=training.threads)


def evaluate(model, training):
    model.evaluate(training.X, training.y)


def gradients(model, training):
    model.gradients(training.X, training.y)


def save(model, training):
    model.save("model")


def make_copies(model, training):
    copy.deepcopy(model)
    snapshot(model)


def state_of(model):
    """What a call may change as a whole."""
    return repr(model), model.sizes, model.frozen, model.parameters.tobytes()


@attack(cases=40, share=1)
def test_interrupts_of_other_calls_at_counted_moments(rng):
    """The model is as before the call or as after it, and can be used; so is the file that it saves."""
    call = pick(
        rng, [step, step, diverging_step, freeze, replace_head, predict, evaluate, gradients, save, make_copies]
    )
    training, moments = Training(rng), some_moments(rng, pick(rng, [30, 100, 300]))
    shared = on_threads(rng) if training.threads > 1 else contextlib.nullcontext()
    with shared, tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of a file opened in the moment of the interrupt
        model = training.model()
        if chance(rng, 0.5):
            model.predict(training.X)
            step(model, training)
        Model([2, 3], rng=0).save("model")
        states = [state_of(model)]
        after = copy.copy(model)
        call(after, training)
        states.append(state_of(after))
        Model([2, 3], rng=0).save("model")
        interrupter = Interrupter(moments)
        with contextlib.suppress(KeyboardInterrupt), interrupter:
            call(model, training)
        what = f"{call.__name__}, interrupts at {interrupter.places}, {training}"
        try:
            check_after_call(model, states, training)
        except Exception as error:
            raise AssertionError(f"{error!r}: {what}") from error


def check_after_call(model, states, training):
    """Raise where a model is neither as before a call nor as after it, or cannot be used."""
    assert state_of(model) in states, "neither as before the call nor as after it"
    check_whole(model)
    assert fastnn.load("model").sizes in ((2, 3), model.sizes)
    left = {*os.listdir()} - {"model"}
    assert all(name.startswith("model") or name.startswith(".") for name in left), f"files were left: {left}"
    twin = copy.copy(model)
    if model.sizes[-1] == 3:
        for each in (model, twin):
            training.fit(each, 1)
        assert model.parameters.tobytes() == twin.parameters.tobytes(), "it trains otherwise than its copy"
    model.save("model")


# ---- signals at random moments ----


def within_fit(frame):
    """Whether a frame belongs to a call of fit, and to no finalizer, in which exceptions are lost."""
    while frame is not None and frame.f_code is not Model.fit.__code__:
        if frame.f_code.co_name == "__del__":
            return False
        frame = frame.f_back
    return frame is not None


def random_signals(seed, rounds):
    """In a process of its own: fits that signals interrupt, one or some in a row, microseconds apart."""
    rng, left, pause, interrupted = np.random.default_rng(seed), 0, 0.0, 0

    def interrupt(number, frame):
        nonlocal left
        raises = left and within_fit(frame)
        left -= bool(raises)
        if left:  # the next one, not before this function is about to end
            signal.setitimer(signal.ITIMER_REAL, pause)
        if raises:
            raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, interrupt)
    running = running_threads()
    for _ in range(rounds):
        training = Training(rng)
        with on_threads(rng) if training.threads > 1 else contextlib.nullcontext():
            model = training.model()
            before, old_history, views = copy.copy(model), model.history, arrays_of(model)
            if chance(rng, 0.7):  # the plan is made by then
                training.fit(copy.copy(model), 1)
            left = pick(rng, [1, 1, 2, 3])
            pause = rng.uniform(2e-6, 3e-4)
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, 0.02))
            try:
                training.fit(model, 100)
            except KeyboardInterrupt:
                interrupted += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            left = 0
            try:
                check_interrupted(training, model, before, views, old_history)
                check_threads_ended(running)
            except Exception as error:
                raise AssertionError(f"{error!r}: {training}") from error
    print(interrupted)


CHILD = "import sys; from tests.fuzz.test_interrupts import random_signals; random_signals(*map(int, sys.argv[1:]))"


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timers")
@attack(cases=1, share=2)
def test_signals_at_random_moments(rng):
    """Up to three signals in a row, from a timer, while a model is trained."""
    return int(run_child(CHILD, int(rng.integers(2**32)), 20))  # interrupted fits
