"""Training on several threads: the bits of one thread, and no hang, crash or wrong result in any company."""

import itertools
import os
import threading

import numpy as np
import pytest

import fastnn
from fastnn import Model
from fastnn.checks import calls
from fastnn.kernels.programs import memory, strategy
from fastnn.kernels.running import entry, pool
from fastnn.network import threads
from fastnn.training import thread_tuner

from .starts import WAYS, Starts

rng = np.random.default_rng(7)


@pytest.fixture
def shared(monkeypatch):
    """Whatever can be shared among threads is, on any machine; a list notes the threads that helped."""
    helped, kernel = [], entry.help_train
    monkeypatch.setattr(threads, "available_threads", lambda: 8)
    monkeypatch.setattr(threads, "FIT_MULTIPLY_ADDS", 0)
    monkeypatch.setattr(strategy, "THREAD_MULTIPLY_ADDS", 1)
    monkeypatch.setattr(thread_tuner.ThreadTuner, "choose", lambda self: (self.threads, 1.0))
    monkeypatch.setattr(entry, "help_train", lambda *a: (helped.append(a[-1]), kernel(*a))[1])
    monkeypatch.setattr(pool, "PATIENCE", 300.0)  # however slow the machine is
    return helped


def trained(threads, sizes, X, y, batch_size, optimizer, dtype, frozen=(), epochs=2):
    model = Model(sizes, dtype=dtype, rng=0, input_scale=0.25)
    for i in frozen:
        model.freeze(i)
    model.fit(X, y, epochs=epochs, batch_size=batch_size, optimizer=optimizer, threads=threads)
    return model.parameters.tobytes(), tuple(model.history.loss)


# (orientation, sizes, batch size, samples). Row-major: all layers shared, some, none but the first with a remainder of
# one row, several blocks a batch. Feature-major: one block, a smaller last batch, several blocks.
CASES = [
    ("row-major", [20, 70, 50, 40], 32, 150),
    ("row-major", [30, 50, 3, 34], 64, 129),
    ("row-major", [20, 40, 5], 10, 101),
    ("row-major", [60, 40, 33], 1400, 1400),
    ("feature-major", [4, 24, 24, 3], 256, 768),
    ("feature-major", [4, 24, 24, 3], 300, 700),
    ("feature-major", [5, 9, 2], 2000, 2000),
]


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize(("how", "sizes", "batch_size", "n"), CASES)
def test_any_number_of_threads_gives_the_same_bits(how, sizes, batch_size, n, optimizer, dtype, shared, orientation):
    orientation(how)
    X, y = rng.integers(0, 9, (n, sizes[0])).astype(dtype), rng.integers(0, sizes[-1], n)
    alone = trained(1, sizes, X, y, batch_size, optimizer, dtype)
    assert not shared
    for count in (2, 3, 5):
        assert trained(count, sizes, X, y, batch_size, optimizer, dtype) == alone
    assert shared


@pytest.mark.parametrize("how", ["row-major", "feature-major"])
@pytest.mark.parametrize("seed", range(10))
def test_random_networks(seed, how, shared, monkeypatch, orientation):
    orientation(how)
    monkeypatch.setattr(strategy, "SHARD_SAMPLES", 32)
    r = np.random.default_rng(seed)
    sizes = [int(r.integers(1, 90)) for _ in range(r.integers(2, 5))]
    batch_size, n = int(r.integers(2, 300)), int(r.integers(300, 700))
    X, y = r.standard_normal((n, sizes[0])).astype("f4"), r.random((n, sizes[-1])).astype("f4")
    frozen = [i for i in range(len(sizes) - 2) if r.random() < 0.3]
    alone = trained(1, sizes, X, y, batch_size, fastnn.SGD(0.01), "float32", frozen)
    for count in (2, 3):
        assert trained(count, sizes, X, y, batch_size, fastnn.SGD(0.01), "float32", frozen) == alone


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("how", ["row-major", "feature-major"])
def test_a_change_of_threads_within_a_batch(how, optimizer, shared, orientation, short_calls, monkeypatch):
    """Batches of three blocks, a block a call, by one thread and by two in turn."""
    orientation(how)
    X, y = rng.standard_normal((6000, 20)).astype("f4"), rng.integers(0, 40, 6000)
    alone = trained(1, [20, 70, 40], X, y, 3000, optimizer, "float32")
    short_calls()
    taken = itertools.cycle([1, 2, 2, 1])
    monkeypatch.setattr(thread_tuner.ThreadTuner, "choose", lambda self: (next(taken), 1.0))
    assert trained(2, [20, 70, 40], X, y, 3000, optimizer, "float32") == alone
    assert shared


def test_bytes_labels_and_given_orders(shared):
    X, y = rng.integers(0, 256, (500, 30)).astype(np.uint8), rng.integers(0, 4, 500)
    order = np.array([rng.permutation(500) for _ in range(2)])
    results = []
    for count in (1, 2):
        model = Model([30, 40, 4], input_scale=1 / 255, rng=0)
        model.fit(X, y, epochs=2, batch_size=50, shuffle=order, threads=count)
        results.append(model.parameters.tobytes())
    assert results[0] == results[1]
    assert shared


@pytest.mark.parametrize("count", [2, 3])
def test_shards_hold_the_same_parameters(count):
    layout = memory.Layout([5, 70, 20, 40], ["sigmoid"] * 3, "quadratic", "float32")
    sharded = layout.for_threads(count)
    vector, other, back = (memory.aligned_zeros(x.n_bytes, "float32") for x in (layout, sharded, layout))
    for w, b in layout.views(vector):
        w[...], b[...] = rng.random(w.shape), rng.random(b.shape)
    layout.convert(vector, sharded, other)
    sharded.convert(other, layout, back)
    np.testing.assert_array_equal(back, vector)
    assert [len(layer.shards) for layer in sharded.layers] == [count, 2 if count == 2 else 1, count]
    for (w, b), layer in zip(layout.views(vector), sharded.layers, strict=True):
        assert [shard.begin for shard in layer.shards] + [layer.fan_out] == [0, *(s.end for s in layer.shards)]
        for shard in layer.shards:
            n, stride = shard.end - shard.begin, shard.row_stride // 4
            for k, want in enumerate((*w, b)):
                row = other[shard.place // 4 + k * stride :][:n]
                np.testing.assert_array_equal(row, want[shard.begin : shard.end])


def test_callbacks_see_and_change_the_parameters_of_now(shared):
    """Threads train a copy laid out for them."""
    X, y = rng.random((300, 20)).astype("f4"), rng.integers(0, 40, 300)
    results = []
    for count in (1, 2):
        seen = []

        def callback(model, seen=seen):
            seen.append(model.parameters.tobytes())
            model.weights[0][0, 0] = len(seen)

        model = Model([20, 40, 40], rng=0)
        model.fit(X, y, epochs=3, batch_size=25, optimizer="adam", callbacks=[callback], threads=count)
        results.append((seen, model.parameters.tobytes()))
    assert results[0] == results[1]
    assert len(set(results[0][0])) == 3


def test_little_work_is_not_shared():
    layout = memory.Layout([64, 32, 10], ["sigmoid"] * 2, "quadratic", "float32")
    assert strategy.max_threads(layout, 1, 8) == strategy.max_threads(layout, 8, 8) == 1
    layout = memory.Layout([784, 100, 10], ["sigmoid"] * 2, "quadratic", "float32")
    assert strategy.max_threads(layout, 32, 1) == 1
    assert strategy.max_threads(layout, 32, 2) == 2
    assert 2 <= strategy.max_threads(layout, 32, 100) <= 7  # lines of 16 neurons


def test_a_model_keeps_its_tuner_for_fits_of_the_same_kind(shared):
    X, y = rng.standard_normal((400, 20)).astype("f4"), rng.integers(0, 5, 400)
    model = Model([20, 70, 5], rng=0)

    def tuner(batch_size=40, threads=2, optimizer="sgd"):
        model.fit(X, y, epochs=1, batch_size=batch_size, threads=threads, optimizer=optimizer)
        kinds = [(plan.kind.batch_size, plan.kind.max_threads, plan.kind.optimizer) for plan in model._network.plans]
        return model._network.plans[kinds.index((batch_size, threads, optimizer))].tuner

    first = tuner()
    clock = first.clock
    assert clock > 0
    assert tuner() is first
    assert first.clock > clock
    assert tuner(threads=1) is not first
    assert tuner() is first
    assert tuner(batch_size=50) is not first
    assert tuner(batch_size=50, optimizer="adam").clock > 0
    model.freeze(0)
    assert tuner(batch_size=50, optimizer="adam").clock > 0


@pytest.mark.parametrize("way", WAYS)
def test_helpers_that_do_not_come(way, shared, monkeypatch):
    X, y = rng.standard_normal((200, 20)).astype("f4"), rng.integers(0, 5, 200)
    alone = trained(1, [20, 70, 5], X, y, 20, "adam", "float32", epochs=6)
    starts = Starts()
    monkeypatch.setattr(calls, "CALL_SECONDS", 1e-4)  # many calls
    monkeypatch.setattr(calls, "FIRST_CALL", 1)
    monkeypatch.setattr(pool, "PATIENCE", 0.002)
    monkeypatch.setattr(pool, "start_new_thread", getattr(starts, way))
    assert trained(4, [20, 70, 5], X, y, 20, "adam", "float32", epochs=6) == alone
    assert starts.asked > 6
    for function, arguments in starts.late:
        function(*arguments)  # does nothing, and ends


def test_a_helper_that_leaves_before_it_is_claimed(shared, monkeypatch):
    """It returns to Python again and again while worker 0 does not come, and dies there: worker 0 goes on alone."""
    X, y = rng.standard_normal((200, 20)).astype("f4"), rng.integers(0, 5, 200)
    alone = trained(1, [20, 70, 5], X, y, 20, "sgd", "float32")
    train, left = entry.train, threading.Event()

    def leave(*arguments):
        assert kernel(*arguments)  # nobody has claimed it
        left.set()
        return False  # as if an exception ended it

    def late(operations, patches, parts, *rest):
        if len(parts) > 1:
            left.wait()
        return train(operations, patches, parts, *rest)

    trained(2, [20, 70, 5], X, y, 20, "sgd", "float32")  # a plan that is compiled
    kernel = entry.help_train
    monkeypatch.setattr(pool, "PATIENCE", 0.002)
    monkeypatch.setattr(entry, "help_train", leave)
    monkeypatch.setattr(entry, "train", late)
    assert trained(2, [20, 70, 5], X, y, 20, "sgd", "float32") == alone
    assert left.is_set()


@pytest.mark.slow
@pytest.mark.parametrize("package", ["gevent", "eventlet"])
@pytest.mark.parametrize("order", ["patch, import", "import, patch"])
def test_patched_threads(package, order, run_python):
    """Packages that put greenlets in the place of threads. The time limit is for a fit that never ends."""
    pytest.importorskip(package, reason=f"{package} is not installed")
    patch = {
        "gevent": "from gevent import monkey\nmonkey.patch_all()\n",
        "eventlet": "import warnings\nwarnings.simplefilter('ignore')\nimport eventlet\neventlet.monkey_patch()\n",
    }[package]
    source = """
from fastnn import Stream
helped, kernel = [], entry.help_train
entry.help_train = lambda *a: (helped.append(a[-1]), kernel(*a))[1]
assert fit(2) == fit(1) == fit(2) and helped
model = Model([40, 64, 5], rng=0)
model.fit(Stream.from_arrays(X, y, buffer_rows=500), epochs=2, batch_size=50)
assert np.array_equal(model.predict(np.tile(X, (40, 1)), threads=2)[:2000], model.predict(X, threads=1))
print("done")
"""
    parts = {"patch": patch, "import": FIT}
    script = "".join(parts[part] for part in order.split(", ")) + source
    assert run_python(script).stdout == "done\n"


def test_divergence_on_two_threads(shared):
    X, y = rng.standard_normal((400, 30)).astype("f4"), rng.standard_normal((400, 33)).astype("f4")
    ends = []
    for count in (1, 2):
        model = Model([30, 40, 33], activation="identity", output="identity", rng=0)
        with pytest.raises(fastnn.DivergenceError) as error:
            model.fit(X, y, epochs=500, batch_size=40, optimizer=fastnn.SGD(3.0), threads=count)
        ends.append((error.value.epoch, model.parameters.tobytes()))
    assert ends[0] == ends[1]
    assert np.isfinite(model.parameters).all()


# ---- company; every script ends by itself or fails by its time limit ----

FIT = """
import multiprocessing, os, signal, sys, threading, warnings
import numpy as np
from fastnn import Model, SGD; from fastnn.network import threads
from fastnn.kernels.running import entry, pool; from fastnn.kernels.programs import strategy
from fastnn.training import thread_tuner

threads.available_threads, threads.FIT_MULTIPLY_ADDS = lambda: 2, 0  # on any machine
pool.PATIENCE = 300.0  # however slow
thread_tuner.ThreadTuner.choose = lambda self: (self.threads, 1.0)
X = np.random.default_rng(0).normal(size=(2_000, 40)).astype(np.float32)
y = np.arange(2_000) % 5

def fit(threads=None):
    model = Model([40, 64, 5], rng=0)
    model.fit(X, y, epochs=3, batch_size=50, threads=threads)
    return model.parameters.tobytes()

assert strategy.max_threads(Model([40, 64, 5])._network.layout, 50, 2) == 2
"""
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@pytest.mark.slow
@needs_fork
@pytest.mark.parametrize("used_before", [True, False])
def test_in_forked_children(used_before, run_python):
    source = """
warnings.simplefilter("ignore", DeprecationWarning)  # from Python 3.12 on: "may lead to deadlocks in the child"
before = fit() if USED else None
with multiprocessing.get_context("fork").Pool(2) as pool:
    results = pool.map_async(fit, [2, 1, 2, None]).get(timeout=600)
assert set(results) == {fit(1)} and before in (None, results[0])
print("done")
"""
    assert run_python(FIT + source.replace("USED", str(used_before))).stdout == "done\n"


@pytest.mark.slow
def test_in_a_spawned_child(run_python, tmp_path):
    source = """
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map_async(fit, [2]).get(timeout=600) == [fit(1)]
    print("done")
"""
    script = tmp_path / "script.py"
    script.write_text(FIT + source)
    start = f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')"
    assert run_python(start).stdout == "done\n"


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_inside_joblib(backend, run_python):
    pytest.importorskip("joblib", reason="joblib is not installed")
    source = """
import joblib
warnings.simplefilter("ignore", DeprecationWarning)
results = joblib.Parallel(n_jobs=2, backend="BACKEND")(joblib.delayed(fit)(t) for t in (1, 2, None, 2))
assert set(results) == {fit(1)}
print("done")
"""
    assert run_python(FIT + source.replace("BACKEND", backend)).stdout == "done\n"


def test_four_threads_that_fit_and_predict_at_once(run_python):
    source = """
threads.available_threads = lambda: 5  # more than there are cores
expected, wrong, start = fit(1), [], threading.Barrier(4)
shared = Model([40, 64, 5], rng=0)
outputs = shared.predict(X, threads=1)

def work():
    start.wait()
    for _ in range(3):
        wrong.append(fit(5) != expected)
        wrong.append(not np.array_equal(shared.predict(X), outputs))

workers = [threading.Thread(target=work) for _ in range(4)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
assert not any(wrong) and len(wrong) == 24
print("done")
"""
    assert run_python(FIT + source).stdout == "done\n"


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["workqueue", "omp", "tbb", "default"])
def test_with_each_threading_layer(layer, run_python):
    source = """
model = Model([40, 64, 5], rng=0)
try:
    model.predict(np.tile(X, (40, 1)))
except ValueError as error:  # Numba's: this layer is not installed
    assert "threading layer" in str(error)
assert fit(2) == fit(1)
print("done")
"""
    assert run_python(FIT + source, NUMBA_THREADING_LAYER=layer).stdout == "done\n"


@pytest.mark.skipif(os.name == "nt", reason="a process cannot send itself Ctrl-C on Windows")
def test_ctrl_c_on_two_threads(run_python):
    source = """
import psutil, time
train = entry.train
before = psutil.Process().num_threads()
model = Model([40, 64, 5], rng=0)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it

def interrupted(*arguments):
    # The signal comes while a call works, or soon after it, when an epoch has ended.
    if arguments[-3]["epoch"][0] > 0:
        entry.train = train
        threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT)).start()
    return train(*arguments)

entry.train = interrupted
try:
    model.fit(X, y, epochs=10**6, batch_size=50, threads=2)
except KeyboardInterrupt:
    done = len(model.history.loss)
    same = Model([40, 64, 5], rng=0)
    same.fit(X, y, epochs=done, batch_size=50, threads=1)
    assert done > 0 and same.parameters.tobytes() == model.parameters.tobytes()
    while psutil.Process().num_threads() > before:  # the helper may be about to end
        time.sleep(0.001)
    print("done")
"""
    assert run_python(FIT + source).stdout == "done\n"
