"""Long work is cut into short calls: Python sees Ctrl-C between two of them."""

import types

import numpy as np
import pytest

from fastnn import Model
from fastnn.checks import calls
from fastnn.data import arrays
from fastnn.kernels.running import entry

rng = np.random.default_rng(0)
X = rng.normal(size=(3000, 6)).astype(np.float32)
LABELS = rng.integers(0, 3, 3000)
ROWS = Model([6, 9, 3])._network.layout.block_rows
BLOCKS = -(-3000 // ROWS)


@pytest.fixture
def counted(monkeypatch):
    """A list that notes the name of each kernel call; a call does one block."""
    seen = []
    for name in ("FIRST_CALL", "FIRST_SWEEP", "CALL_SECONDS"):
        monkeypatch.setattr(calls, name, 0)
    monkeypatch.setattr("fastnn.network.inference.LONGEST_BLOCK", 0)
    for name in ("train", "train_step", "sweep", "sweep_parallel", "forward", "backward", "outside_step"):
        kernel = getattr(entry, name)
        monkeypatch.setattr(entry, name, lambda *a, name=name, kernel=kernel: (seen.append(name), kernel(*a))[1])
    return seen


USES = {
    "a step on the whole set": ("train", lambda m: m.fit(X, LABELS, epochs=1, batch_size=3000)),
    "a weighted step": ("train", lambda m: m.partial_fit(X, LABELS, sample_weight=np.arange(3000))),
    "predict": ("sweep", lambda m: m.predict(X, threads=1)),
    "evaluate": ("sweep", lambda m: m.evaluate(X, LABELS)),
    "loss": ("sweep", lambda m: m.loss(X, LABELS)),
    "gradients": ("sweep", lambda m: m.gradients(X, LABELS)),
    "hidden activations": ("sweep", lambda m: np.hstack(m.hidden_activations(X))),
    "input gradients": ("sweep", lambda m: m.input_gradients(X)),
    "tangents": ("sweep", lambda m: m.jvp(X, X)),
    "forward": ("forward", lambda m: m.forward(X)),
    "backward": ("backward", lambda m: m.backward(X, X[:, :3])),
    "a step on a gradient from outside": ("outside_step", lambda m: m.step(X, X[:, :3] / 3000)),
    "validation": (
        "sweep",
        lambda m: m.fit(X[:10], LABELS[:10], epochs=1, batch_size=10, validation_data=(X, LABELS)),
    ),
}


def result(use):
    model = Model([6, 9, 3], rng=1)
    given = USES[use][1](model)
    if isinstance(given, list):
        given = [array.tobytes() for pair in given for array in pair]
    given = given.tobytes() if isinstance(given, np.ndarray) else given
    history = None if model.history is None else (model.history.loss, model.history.val_loss)
    return model.parameters.tobytes(), history, given if not hasattr(given, "loss") else None


@pytest.mark.parametrize("use", USES)
def test_a_call_does_a_block_and_all_together_the_same_bits(use, counted, monkeypatch):
    assert BLOCKS > 3
    cut, seen = result(use), counted.copy()
    for name, value in (("FIRST_CALL", 1e12), ("FIRST_SWEEP", 1e12), ("CALL_SECONDS", 10)):
        monkeypatch.setattr(calls, name, value)
    assert result(use) == cut
    assert seen.count(USES[use][0]) >= BLOCKS
    assert counted[len(seen) :].count(USES[use][0]) <= 2  # one of them may only compile


def test_a_large_step_of_partial_fit_is_cut(counted, monkeypatch):
    monkeypatch.setattr("fastnn.training.step.LONG_STEP", 0)
    cut = Model([6, 9, 3], rng=1)
    losses = [cut.partial_fit(X, LABELS) for _ in range(2)]
    assert counted.count("train") >= 2 * BLOCKS
    assert "train_step" not in counted
    monkeypatch.setattr("fastnn.training.step.LONG_STEP", 10**12)
    whole = Model([6, 9, 3], rng=1)
    assert [whole.partial_fit(X, LABELS) for _ in range(2)] == pytest.approx(losses, rel=1e-6)
    assert counted.count("train_step") == 1  # the first one, with a fresh optimizer, is an epoch of a single batch
    np.testing.assert_allclose(whole.parameters, cut.parameters, atol=1e-6)  # whose sums run over other blocks


def test_an_interrupt_within_a_batch_changes_nothing(counted, monkeypatch):
    model = Model([6, 9, 3], rng=1)
    model.fit(X, LABELS, epochs=2, batch_size=3000, optimizer="adam")
    before, kernel = model.__getstate__(), entry.train

    def interrupted(*arguments):
        kernel(*arguments)
        if len(counted) > 3:
            raise KeyboardInterrupt

    counted.clear()
    with monkeypatch.context() as patch:
        patch.setattr(entry, "train", interrupted)
        with pytest.raises(KeyboardInterrupt):
            model.fit(X, LABELS, epochs=2, batch_size=3000, optimizer="adam")
    after = model.__getstate__()
    assert model.history.loss == []
    assert after["parameters"].tobytes() == before["parameters"].tobytes()
    assert after["random"] == before["random"]
    assert [part.tobytes() for part in after["optimizer"][1:]] == [part.tobytes() for part in before["optimizer"][1:]]


@pytest.mark.parametrize("threads", [2, 3])
def test_pieces_on_several_threads(threads, counted, monkeypatch):
    monkeypatch.setattr("fastnn.network.threads.available_threads", lambda: threads)
    monkeypatch.setattr("fastnn.network.threads.PARALLEL_MULTIPLY_ADDS", 0)
    model = Model([6, 9, 3], rng=1)
    alone = model.predict(X, threads=1)
    counted.clear()
    np.testing.assert_array_equal(model.predict(X, threads=threads), alone)
    blocks = -(-len(X) // model._network.inference.blocks.most)
    assert counted.count("sweep_parallel") + counted.count("sweep") // threads == -(-blocks // threads)


# ---- how long a call is ----


def test_the_length_of_calls_follows_their_time(monkeypatch):
    monkeypatch.setattr(calls, "CALL_SECONDS", 0.05)
    length = calls.CallLength(1e6, first=4e6)
    assert length.blocks == 4
    length.note(0.001, 4)  # 200 would take 0.05 s, but it grows by 4 at most
    assert length.blocks == 16
    length.note(0.016, 16)
    assert length.blocks == 50
    length.note(0.01, 5)  # cut short: 25 would take 0.05 s, but nothing is known of 50
    assert length.blocks == 50
    length.note(0.5, 50)
    assert length.blocks == 5
    length.note(5.0, 5)
    assert length.blocks == 1


def test_pieces_are_timed(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(calls, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(calls, "FIRST_SWEEP", 1000)
    seen = []
    for first, stop in calls.pieces(95, 10, 50):  # two blocks at first
        seen.append((first, stop))
        now[0] += 0.01 * (stop - first) / 10  # a block takes 0.01 s, and a call shall take 0.05
    assert seen == [(0, 20), (20, 70), (70, 95)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numpy_works_on_pieces_too(dtype, monkeypatch):
    """Checks, conversions and parts of a large array."""
    monkeypatch.setattr(calls, "PIECE_BYTES", 1000)
    slices = list(calls.row_slices(len(X), X[:1].nbytes))
    assert (len(slices), slices[0], slices[-1].stop) == (75, slice(0, 41), 3000) or len(slices) == 74
    assert np.concatenate([X[rows] for rows in slices]).tobytes() == X.tobytes()
    double = X.astype(np.float64)
    for given in (X, double, np.asfortranarray(double), double[::-1], np.round(X).astype(np.int16)):
        taken = arrays.inputs(given, 6, dtype)
        assert (taken.dtype, taken.flags.c_contiguous) == (dtype, True)
        np.testing.assert_array_equal(taken, given.astype(dtype))
    rows = rng.permutation(3000)[:1000]
    np.testing.assert_array_equal(arrays.take_rows(X, rows), X[rows])
    double[2999, 5] = np.nan
    with pytest.raises(ValueError, match=r"got X\[2999, 5\] = nan"):
        arrays.inputs(double, 6, dtype)


def test_a_row_with_a_huge_stride_costs_no_more(monkeypatch):
    """A single row is C-contiguous whatever its stride says."""
    large = np.zeros((2, 2**22), np.float32)
    row = np.lib.stride_tricks.as_strided(large, (1, 6), (2**24, 4))
    assert row.flags.carray
    monkeypatch.setattr("fastnn.network.network.SHARED_BYTES", 0)
    counts = []
    for x in (row, row.copy()):
        model = Model([6, 9, 3], rng=0)
        model.fit(x, [1], epochs=1, batch_size=1)
        model.partial_fit(x, np.array([1]))
        (fit,), step = model._network.plans, model._network.stepper.plan
        operations = len(fit.by_threads[1].code.operations), len(step.programs.code.operations)
        counts.append([fit.bindings["row_stride"].max(), step.bindings["row_stride"].max(), *operations])
    assert counts[0] == counts[1]
