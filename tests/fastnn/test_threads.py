"""Threads: the same bits for any number, one model called from many, forked children, environment variables."""

import os
import pickle
import sys
import threading

import numpy as np
import pytest

import fastnn
from fastnn import LBFGS, History, Model, Stream, load
from fastnn.kernels.running import entry, pool
from fastnn.network import claims, threads
from fastnn.training import thread_tuner

from ..twin import Twin
from .starts import WAYS, Starts

# Every script starts with a model and rows that are worth more than one thread, and the outputs of one thread.
MODEL = """
import os, sys, threading, warnings
import numpy as np
from fastnn import Model; from fastnn.network import threads
from fastnn.kernels.running import entry, pool

threads.available_threads, pool.PATIENCE = lambda: 2, 300.0  # on any machine, however slow
model = Model([40, 60, 5], rng=0)
X = np.random.default_rng(0).normal(size=(20_000, 40)).astype(np.float32)
calls = []
kernel = entry.sweep_parallel
entry.sweep_parallel = lambda *arguments: (calls.append(1), kernel(*arguments))
expected = model.predict(X, threads=1)
assert not calls
"""


@pytest.fixture
def several(monkeypatch):
    """A list that notes calls of the parallel kernel, on a machine with eight CPUs, however small it is."""
    calls, kernel = [], entry.sweep_parallel
    monkeypatch.setattr(threads, "available_threads", lambda: 8)
    monkeypatch.setattr(pool, "PATIENCE", 300.0)  # however slow the machine is
    monkeypatch.setattr(entry, "sweep_parallel", lambda *arguments: (calls.append(1), kernel(*arguments)))
    return calls


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [2000, 5000, 20_001])
@pytest.mark.parametrize("stored", ["floats", "bytes"])
def test_any_number_of_threads_gives_the_same_bits(stored, n, dtype, several, monkeypatch):
    monkeypatch.setattr(threads, "PARALLEL_MULTIPLY_ADDS", 0)
    monkeypatch.setattr("fastnn.network.inference.LONGEST_BLOCK", 0)
    X = np.random.default_rng(0).integers(0, 256, (n, 20), dtype=np.uint8)
    X = X if stored == "bytes" else X.astype(dtype)
    model = Model([20, 30, 18, 3], dtype=dtype, input_scale=1 / 255, rng=0)
    alone = model.predict(X, threads=1)
    assert not several
    for most in (2, 3, 8, None):
        np.testing.assert_array_equal(model.predict(X, threads=most), alone)
    assert len(several) == 4
    np.testing.assert_allclose(alone, Twin(model).predict(X / 255), rtol=1e-4)


def test_nan_stays_in_its_row_on_several_threads(several):
    X = np.random.default_rng(0).normal(size=(20_000, 40)).astype(np.float32)
    model = Model([40, 60, 5], rng=0)
    expected = model.predict(X, threads=1)
    X[[0, 9_999, 19_999], 3] = np.nan
    out = model.predict(X, threads=2)
    assert several
    assert np.isnan(out[[0, 9_999, 19_999]]).all()
    others = ~np.isin(np.arange(20_000), [0, 9_999, 19_999])
    np.testing.assert_array_equal(out[others], expected[others])


def test_little_work_is_not_spread(several):
    Model([40, 60, 5], rng=0).predict(np.zeros((10, 40)))
    assert not several


@pytest.mark.parametrize("rows", [7, 900, 20_000])
def test_one_model_in_four_threads_at_once(rows, several):
    rng = np.random.default_rng(0)
    model = Model([40, 60, 5], rng=0)
    inputs = [rng.normal(size=(rows, 40)).astype(np.float32) for _ in range(4)]
    expected = [
        (model.predict(X, threads=1), *model.hidden_activations(X), model.input_gradients(X[:100])) for X in inputs
    ]
    start, wrong = threading.Barrier(4), []

    def work(X, right):
        start.wait()
        for i in range(20):
            found = model.predict(X), *model.hidden_activations(X), model.input_gradients(X[:100])
            wrong.extend(i for a, b in zip(found, right, strict=True) if not np.array_equal(a, b))

    workers = [threading.Thread(target=work, args=pair) for pair in zip(inputs, expected, strict=True)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_two_models_train_in_two_threads(blobs):
    X, y = blobs

    def train(seed):
        model = Model([6, 20, 3], rng=seed)
        model.fit(X, y, epochs=30, batch_size=5, validation_data=(X, y))
        return model.parameters.tobytes()

    expected, results = [train(0), train(1)], {}
    workers = [threading.Thread(target=lambda seed=seed: results.update({seed: train(seed)})) for seed in (0, 1)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [results[0], results[1]] == expected


def test_first_use_in_four_threads_at_once(run_python):
    source = """
import threading
import numpy as np
from fastnn import Model

X, start, results = np.eye(6), threading.Barrier(4), {}

def work(i):
    start.wait()
    model = Model([6, 20, 3], dtype=("float32", "float64")[i % 2], rng=0)
    for _ in range(50):
        model.predict(X)
    model.fit(X, [0, 1, 2, 0, 1, 2], epochs=2, batch_size=2)
    results[i] = model.parameters.tobytes()

workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
assert results[0] == results[2] and results[1] == results[3]
print("done")
"""
    assert run_python(source).stdout == "done\n"


@pytest.mark.parametrize("way", WAYS)
def test_tasks_whose_threads_do_not_come(way, monkeypatch):
    starts, found = Starts(), np.zeros(7, int)
    monkeypatch.setattr(pool, "start_new_thread", getattr(starts, way))
    threads.run_on_threads([lambda i=i: found.__setitem__(i, i * i) for i in range(7)])
    np.testing.assert_array_equal(found, np.arange(7) ** 2)
    assert starts.asked


def test_a_task_whose_thread_dies_is_done_by_the_caller():
    caller, begun, found = threading.get_ident(), threading.Event(), np.zeros(2, int)

    def task(i):
        if threading.get_ident() != caller:
            begun.set()
            raise IndexError("as an exception from elsewhere would end it")
        begun.wait()  # until the other task has been begun
        found[i] = 1

    threads.run_on_threads([lambda: task(0), lambda: task(1)])
    np.testing.assert_array_equal(found, 1)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_whether_threads_can_start(way, monkeypatch):
    with monkeypatch.context() as patient:
        patient.setattr(pool, "PATIENCE", 300.0)
        assert pool.can_start(3)
    monkeypatch.setattr(pool, "start_new_thread", getattr(Starts(), way))
    assert not pool.can_start(7)


# ---- fork ----

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
FORK = """
warnings.simplefilter("ignore", DeprecationWarning)  # from Python 3.12 on: "may lead to deadlocks in the child"
"""


@needs_fork
def test_predict_in_a_forked_child(run_python):
    source = """
assert np.array_equal(model.predict(X, threads=2), expected) and calls
before = len(calls)
child = os.fork()
if child == 0:
    import signal
    signal.alarm(600)
    try:
        right = np.array_equal(model.predict(X, threads=2), expected)
        model.fit(X, np.arange(20_000) % 5, epochs=1, batch_size=100)
        os._exit(0 if right and len(calls) == before else 3)
    finally:
        os._exit(4)
assert os.waitpid(child, 0)[1] == 0
assert np.array_equal(model.predict(X, threads=2), expected) and len(calls) > before
print("done")
"""
    assert run_python(MODEL + FORK + source).stdout == "done\n"


@needs_fork
def test_a_forked_child_does_not_use_numbas_threads(run_python):
    source = """
child = os.fork()
if child == 0:
    import signal
    signal.alarm(600)
    try:
        right = np.array_equal(model.predict(X, threads=2), expected)
        os._exit(0 if right and not calls else 3)
    finally:
        os._exit(4)
assert os.waitpid(child, 0)[1] == 0
assert np.array_equal(model.predict(X, threads=2), expected) and calls
print("done")
"""
    assert run_python(MODEL + FORK + source).stdout == "done\n"


@needs_fork
def test_a_pool_of_forked_workers(run_python):
    source = """
import multiprocessing

def work(i):
    return np.array_equal(model.predict(X[i:], threads=2), expected[i:])

assert np.array_equal(model.predict(X, threads=2), expected) and calls
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map_async(work, [0, 0, 0, 0]).get(timeout=600) == [True] * 4
print("done")
"""
    assert run_python(MODEL + FORK + source).stdout == "done\n"


# ---- Numba's own threading layers ----


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["workqueue", "default"])
def test_a_threading_layer_entered_from_four_threads(layer, run_python):
    source = """
import numba
start, wrong = threading.Barrier(4), []

def work():
    start.wait()
    wrong.extend(i for i in range(15) if not np.array_equal(model.predict(X), expected))

workers = [threading.Thread(target=work) for _ in range(4)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
assert not wrong
print(bool(calls))
"""
    entered = run_python(MODEL + source, NUMBA_THREADING_LAYER=layer).stdout.strip()
    assert entered == str(layer != "workqueue" and pool.layer() != "workqueue")


SCARCE = """
import resource
threads.available_threads = lambda: 2
warnings.filterwarnings("ignore", "fastnn keeps no compiled code")  # the other user cannot write to the folder
if os.getuid() == 0:  # no limit holds for root
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
try:
    threading.Thread(target=print).start()
    print("there is no limit")
except RuntimeError:
    print(np.array_equal(model.predict(X, threads=2), expected), calls)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_NPROC counts threads on Linux alone")
@pytest.mark.parametrize("layer", ["omp", "workqueue"])
def test_no_more_threads(layer, run_python):
    """OpenMP would end the process, and "workqueue" would wait for ever."""
    out = run_python(MODEL + SCARCE, NUMBA_THREADING_LAYER=layer).stdout.strip()
    if out.endswith("there is no limit"):
        pytest.skip("this user is free of RLIMIT_NPROC")
    assert out == "True []"


@pytest.mark.skipif(pool.layer() == "tbb", reason="TBB is installed here")
def test_a_layer_that_is_not_installed(run_python):
    source = "print(np.array_equal(model.predict(X, threads=2), expected), calls)"
    assert run_python(MODEL + source, NUMBA_THREADING_LAYER="tbb").stdout == "True []\n"


USERS_OWN = """
import os, warnings
import numba
import numpy as np

@numba.njit(parallel=True, nogil=True)
def own(a):
    total = 0.0
    for i in numba.prange(len(a)):
        total += a[i] * a[i]
    return total

own(np.ones(1000))
"""
IN_A_CHILD = """
if child == 0:
    import signal
    signal.alarm(600)
    os._exit(0 if np.array_equal(model.predict(X, threads=2), expected) and not calls else 3)
assert os.waitpid(child, 0)[1] == 0
print("done")
"""


@pytest.mark.slow
@needs_fork
@pytest.mark.parametrize("order", ["prange, import, fork", "import, prange, fork", "prange, fork, import"])
def test_a_child_of_a_process_that_used_prange_of_its_own(order, run_python):
    steps = {"prange": USERS_OWN, "import": MODEL, "fork": FORK + "child = os.fork()\n"}
    source = "".join(steps[step] for step in order.split(", ")) + IN_A_CHILD
    assert run_python("import os, warnings\n" + source).stdout.endswith("done\n")


@pytest.mark.slow
def test_prange_of_the_user_beside_predict(run_python):
    """With a layer that only one thread may enter."""
    source = """
end = threading.Event()

def work():
    while not end.is_set():
        own(np.ones(100_000))

user = threading.Thread(target=work)
user.start()
right = all(np.array_equal(model.predict(X, threads=2), expected) for _ in range(30))
end.set()
user.join()
print(right, calls)
"""
    out = run_python(MODEL + USERS_OWN + source, NUMBA_THREADING_LAYER="workqueue").stdout
    assert out == "True []\n"


def test_numbas_error_is_no_error_of_predict(several, monkeypatch):
    X = np.random.default_rng(0).normal(size=(20_000, 40)).astype(np.float32)
    model = Model([40, 60, 5], rng=0)
    expected = model.predict(X, threads=1)

    def broken(*_):
        several.append(1)
        raise ValueError("No threading layer could be loaded.")

    monkeypatch.setattr(entry, "sweep_parallel", broken)
    np.testing.assert_array_equal(model.predict(X, threads=2), expected)
    assert several


# ---- how many ----


CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, CPUS),
        ({"OMP_NUM_THREADS": "1"}, 1),
        ({"NUMBA_NUM_THREADS": "1"}, 1),
        ({"OMP_NUM_THREADS": "1000", "NUMBA_NUM_THREADS": "1"}, 1),
        ({"OMP_NUM_THREADS": "1000"}, CPUS),
        ({"OMP_NUM_THREADS": "1,2"}, 1),
        ({"OMP_NUM_THREADS": ""}, CPUS),
        ({"OMP_NUM_THREADS": "0"}, CPUS),
        ({"OMP_NUM_THREADS": "many"}, CPUS),
        ({"OMP_NUM_THREADS": "²"}, CPUS),
    ],
)
def test_available_threads(variables, expected, monkeypatch):
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert threads.available_threads() == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "NUMBA_NUM_THREADS"])
def test_a_limit_of_one_thread_is_kept(name, run_python):
    source = (
        MODEL.replace("threads.available_threads, ", "_, ")
        + """
assert np.array_equal(model.predict(X), expected)
assert np.array_equal(model.predict(X, threads=2), expected)
print(threads.available_threads(), len(calls), threading.active_count())
"""
    )
    assert run_python(source, **{name: "1"}).stdout == "1 0 1\n"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no CPU affinity")
def test_the_cpu_affinity_is_kept(run_python):
    source = (
        MODEL.replace("threads.available_threads, ", "_, ")
        + """
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
assert np.array_equal(model.predict(X), expected)
print(threads.available_threads(), len(calls))
"""
    )
    assert run_python(source, OMP_NUM_THREADS="").stdout == "1 0\n"


@pytest.mark.parametrize(("asked", "given"), [(None, 8), (1, 1), (3, 3), (8, 8), (100, 8), (np.int64(2), 2)])
def test_threads_is_a_maximum(asked, given, several):
    assert threads.resolve_threads(asked) == given


def test_the_pool_lets_one_in():
    with threads.numba_pool() as first:
        assert first
        with threads.numba_pool() as second:
            assert not second
    with threads.numba_pool() as again:
        assert again


def test_the_pool_is_free_again_after_an_error():
    with pytest.raises(OSError, match="x"), threads.numba_pool():
        raise OSError("x")
    with threads.numba_pool() as opened:
        assert opened


# ---- which number is faster now ----


def test_the_tuner_decides_for_the_faster_number():
    tuner = thread_tuner.ThreadTuner(2, call_seconds=0.05)

    def run(count, step):
        """Two calls of 100 steps with the number chosen: the first one's cold caches do not count."""
        assert tuner.choose() == (count, thread_tuner.WARM_UP)
        tuner.note(count, 0.03, 100)
        assert tuner.choose()[0] == count
        tuner.note(count, 100 * step, 100)

    run(2, 1e-4)
    run(1, 5e-5)
    assert tuner.choose() == (1, 1.0)
    tuner.note(1, 0.02, 100)  # now it is the slower
    run(2, 1e-4)
    assert tuner.choose() == (2, 1.0)
    waited = []
    for _ in range(7):  # one thread is tried again, later each time that it is slower
        tuner.measured_at[1] -= 1.01 * tuner.patience
        waited.append(tuner.patience)
        run(1, 2e-4)
        run(2, 1e-4)
        assert tuner.choose() == (2, 1.0)
    assert waited[0] == thread_tuner.FIRST_PATIENCE
    assert waited[-1] == thread_tuner.MAX_PATIENCE
    tuner.note(2, 0.04, 100)  # another process wants a core
    assert tuner.patience == thread_tuner.FIRST_PATIENCE
    run(1, 4e-5)
    assert tuner.choose() == (1, 1.0)


def test_the_tuner_waits_longer_where_a_change_takes_longer():
    tuner = thread_tuner.ThreadTuner(2, call_seconds=0.05)
    for count, seconds in ((2, 0.01), (1, 0.02)):
        for _ in range(2):
            assert tuner.choose()[0] == count
            tuner.note(count, seconds, 100)
    tuner.note(2, 0.01, 100)
    tuner.switch_seconds = 1.0
    tuner.measured_at[1] -= 2 * thread_tuner.MAX_PATIENCE
    assert tuner.choose() == (2, 1.0)
    tuner.measured_at[1] -= 30.0
    assert tuner.choose() == (1, thread_tuner.WARM_UP)


def test_the_tuner_of_one_thread_has_no_choice():
    tuner = thread_tuner.ThreadTuner(1, call_seconds=0.05)
    for _ in range(3):
        assert tuner.choose() == (1, 1.0)
        tuner.note(1, 0.04, 100)


# ---- a model that changes meanwhile ----


@pytest.mark.slow
def test_predict_while_the_head_is_replaced():
    """A call sees the old network or the new one, never half of each."""
    model = Model([6, 20, 3], rng=0)
    X, done, wrong = np.random.default_rng(0).random((40, 6), dtype=np.float32), threading.Event(), []

    def predict():
        while not done.is_set():
            out = model.predict(X)
            if out.shape[1] not in (1, 3, 900) or not np.isfinite(out).all():
                wrong.append(out.shape)

    workers = [threading.Thread(target=predict) for _ in range(3)]
    for worker in workers:
        worker.start()
    for i in range(300):
        model.replace_head((1, 900, 3)[i % 3], rng=i)
    done.set()
    for worker in workers:
        worker.join()
    assert not wrong
    fresh = Model([6, 20, 3], rng=1)
    for mine, other in zip((*fresh.weights, *fresh.biases), (*model.weights, *model.biases), strict=True):
        mine[...] = other
    np.testing.assert_array_equal(model.predict(X), fresh.predict(X))


# ---- a call within a call, and calls at once ----

SMALL = np.random.default_rng(0).random((61, 5), np.float32)
LABELS = np.random.default_rng(1).integers(0, 3, 61)


def prepared():
    """A model that has a plan and programs, and a step's program in use."""
    model = Model([5, 7, 3], rng=3)
    model.fit(SMALL, LABELS, epochs=1, batch_size=7, optimizer="adam")
    model.partial_fit(SMALL, LABELS, optimizer="adam")
    return model


# What each gives is compared, and the parameters that it leaves.
CALLS = {
    "fit": lambda m: m.fit(SMALL, LABELS, epochs=2, batch_size=7, optimizer="adam", validation_data=(SMALL, LABELS)),
    "partial_fit": lambda m: [m.partial_fit(SMALL[:n], LABELS[:n], optimizer="adam") for n in (61, 61, 20)],
    "predict": lambda m: m.predict(np.tile(SMALL, (50, 1))).tobytes(),
    "evaluate": lambda m: m.evaluate(SMALL, LABELS),
    "gradients": lambda m: [a.tobytes() for pair in m.gradients(SMALL, LABELS) for a in pair],
    "pickle": lambda m: pickle.loads(pickle.dumps(m)).parameters.tobytes(),
    "freeze": lambda m: (m.freeze(0), m.partial_fit(SMALL, LABELS, optimizer="adam"))[1],
    "lbfgs": lambda m: m.fit(SMALL, LABELS, epochs=2, batch_size=61, optimizer=LBFGS()),
    "stream": lambda m: m.fit(Stream([(SMALL, LABELS)]), epochs=2, batch_size=7),
}


def outcome(name, model):
    given = CALLS[name](model)
    return given.loss if isinstance(given, History) else given, model.parameters.tobytes()


class Interruption:
    """Calls something before the `at`th instruction of fastnn's Python code, as a signal handler or `__del__` may."""

    def __init__(self, at, call):
        self.count, self.at, self.call, self.given = 0, at, call, None

    def __enter__(self):
        if sys.version_info >= (3, 12):  # whose trace functions miss instructions
            tool, instruction = sys.monitoring.PROFILER_ID, sys.monitoring.events.INSTRUCTION
            sys.monitoring.use_tool_id(tool, "interruption")
            sys.monitoring.register_callback(tool, instruction, self._of_code)
            sys.monitoring.restart_events()
            sys.monitoring.set_events(tool, instruction)
        else:
            self.before = sys.gettrace()
            sys.settrace(self._of_frame)
        return self

    def __exit__(self, *_):
        if sys.version_info >= (3, 12):
            sys.monitoring.set_events(sys.monitoring.PROFILER_ID, 0)
            sys.monitoring.free_tool_id(sys.monitoring.PROFILER_ID)
        else:
            sys.settrace(self.before)

    def _of_code(self, code, offset):
        if os.path.dirname(code.co_filename) != os.path.dirname(fastnn.__file__):
            return sys.monitoring.DISABLE
        self._of_instruction(None, "opcode", None)
        return None

    def _of_frame(self, frame, event, argument):
        if frame.f_globals.get("__name__", "").rpartition(".")[0] != "fastnn":
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._of_instruction

    def _of_instruction(self, frame, event, argument):
        self.count += event == "opcode"
        if event == "opcode" and self.count == self.at:
            self.given = self.call()
        return self._of_instruction


@pytest.mark.parametrize("inner", CALLS)
@pytest.mark.parametrize("outer", CALLS)
def test_a_call_within_a_call_on_another_model(outer, inner):
    """Both share plans and programs, which are those of an architecture."""
    wanted = outcome(outer, prepared()), outcome(inner, prepared())
    model = prepared()
    with Interruption(0, None) as whole:
        outcome(outer, model)
    for at in np.random.default_rng(0).integers(1, whole.count + 1, 6):
        model, other = prepared(), prepared()
        with Interruption(at, lambda other=other: outcome(inner, other)) as interruption:
            given = outcome(outer, model)
        assert (given, interruption.given) == wanted


@pytest.mark.parametrize("outer", ["fit", "partial_fit", "freeze", "lbfgs", "stream"])
def test_a_step_within_a_call_on_the_same_model(outer):
    """It is refused, or comes before or after all that the call does."""

    def step(model):
        try:
            return model.partial_fit(SMALL, LABELS, optimizer="adam")
        except RuntimeError as error:
            return str(error)

    wanted = outcome(outer, prepared())
    model = prepared()
    with Interruption(0, None) as whole:
        outcome(outer, model)
    refused = 0
    for at in np.linspace(1, whole.count, 60).astype(int):
        model = prepared()
        with Interruption(at, lambda model=model: step(model)) as interruption:
            given = outcome(outer, model)
        if isinstance(interruption.given, str):
            assert interruption.given == claims.BUSY
            assert given == wanted
            refused += 1
    assert refused


def test_one_model_in_any_mix_of_calls(tmp_path):
    """Each call gives a result, or says that the model is being trained."""
    model, wrong, done = Model([5, 7, 3], output="identity", rng=0), [], []
    X, y = SMALL, LABELS

    def replace(i):
        model.replace_head((3, 1)[i % 2], rng=i)

    def save(i):
        path = tmp_path / f"{threading.get_ident()}.safetensors"
        model.save(path)
        load(path)

    mix = [
        lambda i: model.fit(X, y, epochs=2, batch_size=7, optimizer=("adam", "sgd")[i % 2]),
        lambda i: model.partial_fit(X[: 1 + i % 40], y[: 1 + i % 40], optimizer=("adam", "momentum")[i % 2]),
        lambda i: model.predict(X),
        lambda i: model.evaluate(X, y, metric="rmse" if model.sizes[-1] == 1 else "accuracy"),
        lambda i: model.gradients(X, y),
        lambda i: pickle.loads(pickle.dumps(model)),
        lambda i: model.freeze([0] if i % 2 else []),
        replace,
        save,
    ]

    def work(seed):
        for i in np.random.default_rng(seed).integers(0, 9 * 40, 150):
            try:
                mix[i % 9](int(i))
                done.append(i)
            except RuntimeError as error:
                wrong.extend([] if str(error) == claims.BUSY else [repr(error)])
            except ValueError as error:  # of a head that was replaced meanwhile
                wrong.extend([] if "must" in str(error) or "needs" in str(error) else [repr(error)])

    interval = sys.getswitchinterval()
    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    sys.setswitchinterval(1e-6)
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        sys.setswitchinterval(interval)
    assert not wrong
    assert done
    model.replace_head(3, rng=0)
    assert np.isfinite(model.fit(X, y, epochs=1, batch_size=7).loss).all()


def test_models_of_one_architecture_each_in_a_thread_of_its_own():
    def work(seed, results):
        model, given = Model([5, 7, 3], rng=seed), []
        for i in range(5):
            given += [outcome(name, model) for name in CALLS]
            model.freeze([0] if i % 2 else [])
        results[seed] = given, model.parameters.tobytes()

    expected, results, interval = {}, {}, sys.getswitchinterval()
    for seed in range(4):
        work(seed, expected)
    workers = [threading.Thread(target=work, args=(seed, results)) for seed in range(4)]
    sys.setswitchinterval(1e-6)
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        sys.setswitchinterval(interval)
    assert results == expected
