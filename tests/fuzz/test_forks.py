"""Forks at random moments: parent and child train and predict, and get the bits of a process that never forked."""

import copy
import os
import signal
import threading
import time
import traceback
import warnings

import numpy as np
import pytest

from fastnn import SGD, Adam, Model, Momentum

from .helpers import attack, chance, on_threads, pick, run_child

PATIENCE = 600  # seconds until a child is taken to hang


class Work:
    """What a process does, and its results without a fork."""

    def __init__(self, rng):
        sizes = [20, int(rng.integers(16, 80)), int(rng.integers(3, 40))]
        n = int(rng.integers(200, 600))
        self.X, self.y = rng.normal(size=(n, 20)).astype(np.float32), rng.integers(0, sizes[-1], n)
        self.make = lambda: Model(sizes, rng=0)
        self.optimizer, self.batch_size = pick(rng, [SGD(0.1), Momentum(0.01), Adam(0.01)]), pick(rng, [10, 50, n])
        self.threads, self.epochs = pick(rng, [1, 2, 3]), int(rng.integers(2, 5))
        model = self.make()
        self.fit(model, threads=1)
        self.trained, self.outputs = model.parameters.tobytes(), self.predict(model, threads=1)
        self.fit(model, threads=1)
        self.trained_more = model.parameters.tobytes()

    def __str__(self):
        return f"{len(self.X)} samples, batches of {self.batch_size}, {self.optimizer}, {self.threads} threads"

    def fit(self, model, **options):
        """Train for some epochs."""
        given = {"batch_size": self.batch_size, "optimizer": self.optimizer, "threads": self.threads}
        model.fit(self.X, self.y, epochs=self.epochs, **given | options)

    def predict(self, model, threads=None):
        """The bytes of the outputs for many rows."""
        return model.predict(np.tile(self.X, (10, 1)), threads=threads or self.threads).tobytes()

    def check(self, model=None):
        """Raise where a model that is trained, or a new one, gives other bits."""
        if model is None:
            model = self.make()
            self.fit(model)
        assert model.parameters.tobytes() == self.trained, "other parameters"
        assert self.predict(model) == self.outputs, "other outputs"
        self.fit(model)
        assert model.parameters.tobytes() == self.trained_more, "other parameters after further training"


def forked(children):
    """Fork, and note the child; whether this is the child."""
    child = os.fork()
    if child:
        children.append(child)
    else:
        signal.alarm(PATIENCE)  # so that a child that hangs ends
        children.clear()
    return not child


def in_a_callback(rng, work, children):
    """Both go on with the fit."""
    model, at, ended = work.make(), int(rng.integers(work.epochs)), []

    def callback(model):
        ended.append(1)
        if len(ended) == at + 1:
            forked(children)

    work.fit(model, callbacks=[callback])
    work.check(model)


def in_a_metric(rng, work, children):
    """Both go on with the fit, from within the validation."""
    model = work.make()

    def metric(y_true, y_pred):
        if not children and len(model.history.loss) == 1:
            forked(children)
        return 0.0

    work.fit(model, validation_data=(work.X, work.y), metric=metric)
    work.check(model)


def after_predict(rng, work, children):
    """A model that has predicted and trained on threads, in the child too."""
    model = work.make()
    work.fit(model)
    work.predict(model)
    forked(children)
    work.check(model)


def between_fits(rng, work, children):
    """A model that goes on with its plans, and a copy made before the fork."""
    model = work.make()
    work.fit(model)
    twin = copy.deepcopy(model)
    forked(children)
    work.check(twin)
    work.check(model)


def during_a_fit(rng, work, children):
    """One thread forks while another one trains; the child can go on with its copy of that model."""
    model, errors = work.make(), []

    def train():
        try:
            work.fit(model)
            work.check(model)
        except BaseException as error:
            errors.append(error)

    work.check()  # compiled: a child cannot have the lock of a compiler that its parent runs
    trainer = threading.Thread(target=train)
    trainer.start()
    time.sleep(rng.uniform(0, 0.01))
    if forked(children):
        work.check()
        twin = copy.deepcopy(model)
        work.fit(model)
        work.fit(twin, threads=1)
        assert model.parameters.tobytes() == twin.parameters.tobytes(), "other parameters than its copy's"
        return
    trainer.join(PATIENCE)
    assert not trainer.is_alive(), "the parent's training goes on"
    assert not errors, "the parent's training"


def during_a_prediction(rng, work, children):
    """One thread forks while another one predicts with the same model."""
    model, wrong, stop = work.make(), [], threading.Event()
    work.fit(model)

    def predict():
        while not stop.is_set():
            wrong.extend([1] * (work.predict(model) != work.outputs))

    worker = threading.Thread(target=predict, daemon=True)
    worker.start()
    time.sleep(rng.uniform(0, 0.01))
    if not forked(children):
        stop.set()
        worker.join(PATIENCE)
        assert not worker.is_alive(), "the parent's prediction goes on"
        assert not wrong, "the parent's outputs"
    work.check(model)


MOMENTS = (in_a_callback, in_a_metric, after_predict, between_fits, during_a_fit, during_a_prediction)


def forks(seed, rounds):
    """In a process of its own: forks at random moments."""
    warnings.simplefilter("ignore", DeprecationWarning)  # from Python 3.12 on: of forks in a process with threads
    rng, root = np.random.default_rng(seed), os.getpid()
    for _ in range(rounds):
        moment, children = pick(rng, MOMENTS), []
        with on_threads(rng):
            status = 1
            try:
                work = Work(rng)
                if chance(rng, 0.3):
                    work.predict(work.make())  # Numba's threads run
                moment(rng, work, children)
                status = 0
            finally:
                if os.getpid() != root:
                    if status:
                        traceback.print_exc()
                    os._exit(status)
        for child in children:
            assert os.waitpid(child, 0)[1] == 0, f"a child failed or hung: {moment.__name__}, {work}"
    print(rounds)


CHILD = "import sys; from tests.fuzz.test_forks import forks; forks(*map(int, sys.argv[1:]))"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@attack(cases=1, share=1.5)
def test_forks(rng):
    """From a callback, a metric, between calls, and while another thread trains or predicts."""
    rounds = 10
    assert run_child(CHILD, int(rng.integers(2**32)), rounds, timeout=3 * PATIENCE) == f"{rounds}\n"
    return rounds
