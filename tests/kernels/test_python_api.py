"""The function of Python's C API that predicts a block, and what does its work where there is none."""

import gc
import os
import pickle
import sys
import threading
import weakref

import numpy as np
import pytest

from fastnn import Dense, Model
from fastnn.kernels.programs import prediction_programs, strategy
from fastnn.kernels.running import entry, python_api

rng = np.random.default_rng(0)


def quick(model, X):
    """The function that the model's second prediction of such rows takes."""
    model.predict(X)
    function = model._network.inference.quick
    assert type(function) is type(len)
    return function


@pytest.fixture
def none_to_be_had(monkeypatch):
    """A Python whose objects are laid out in another way."""
    monkeypatch.setattr(python_api, "this_python", lambda: None)


def expected(model, X):
    """A sigmoid network's outputs, in float64."""
    a = X.astype(np.float64)
    for W, b in zip(model.weights, model.biases, strict=True):
        a = 1 / (1 + np.exp(-(a @ W.T.astype(np.float64) + b)))
    return a


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [1, 2, 7, 64, 256])
@pytest.mark.parametrize("sizes", [[1, 1], [3, 5, 2], [64, 32, 10], [784, 100, 17]], ids=str)
def test_its_outputs_are_those_of_the_formula_and_of_the_entry(sizes, rows, dtype, monkeypatch):
    model, X = Model(sizes, dtype=dtype, rng=1), rng.normal(size=(rows, sizes[0])).astype(dtype)
    function = quick(model, X)
    outputs = function(X)
    assert (outputs.dtype, outputs.shape) == (X.dtype, (rows, sizes[-1]))
    tolerance = 1e-4 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(outputs, expected(model, X), rtol=tolerance, atol=tolerance)
    monkeypatch.setattr(python_api, "this_python", lambda: None)
    other = Model(sizes, dtype=dtype, rng=1)
    assert outputs.tobytes() == other.predict(X).tobytes()


def test_it_refuses_what_it_is_not_for():
    model, X = Model([4, 3], rng=0), rng.normal(size=(2, 4)).astype(np.float32)
    function = quick(model, X)
    odd = np.frombuffer(bytearray(X.nbytes + 1), np.uint8)[1:].view(np.float32).reshape(2, 4)
    for other in (
        *(None, 5, [[0.0] * 4] * 2, X[0], X[:1], X[:, :3], X[None], X.T, np.asfortranarray(X)),
        *(np.zeros((2, 8), np.float32)[:, ::2], X.astype(np.float64), X.astype(">f4"), X.astype(np.int32)),
        *(np.ma.array(X), X.view(np.recarray), odd, np.zeros((0, 4), np.float32), np.float32(1)),
    ):
        assert function(other) is None
    assert function(X) is not None
    with pytest.raises(TypeError, match="argument"):
        function()


def test_it_takes_arrays_that_cannot_be_written():
    model, X = Model([4, 3], rng=0), rng.normal(size=(2, 4)).astype(np.float32)
    before = model.predict(X)
    X.flags.writeable = False
    np.testing.assert_array_equal(quick(model, X)(X), before)


def test_a_dtype_that_is_only_equal(monkeypatch):
    """Arrays from a pickle have a dtype of their own; only the function of blocks is called for them."""
    model, X = Model([4, 3], rng=0), rng.normal(size=(2, 4)).astype(np.float32)
    unpickled = pickle.loads(pickle.dumps(X))
    unpickled = unpickled if unpickled.dtype is not X.dtype else X.view(np.dtype("f4", copy=True))
    before = model.predict(X)
    monkeypatch.setattr(entry, "sweep", None)
    np.testing.assert_array_equal(model.predict(unpickled), before)


def test_other_dtypes_are_converted_once_and_take_it_too(monkeypatch):
    model, X = Model([4, 3], rng=0), rng.integers(-9, 9, size=(2, 4)).astype(np.float32)
    before = model.predict(X)
    monkeypatch.setattr(entry, "sweep", None)
    for same in (X.astype(np.float64), X.astype(np.int64), X.tolist(), np.asfortranarray(X)):
        np.testing.assert_array_equal(model.predict(same), before)


def test_it_sees_new_parameters():
    model, X = Model([4, 3], rng=0), rng.normal(size=(2, 4)).astype(np.float32)
    function = quick(model, X)
    model.weights[0][...], model.biases[0][...] = 0, np.log(3)
    np.testing.assert_allclose(function(X), 0.75, rtol=1e-6)
    model.fit(X, np.array([0, 1]), epochs=3, batch_size=2)
    np.testing.assert_allclose(function(X), expected(model, X), rtol=1e-5)
    assert not np.allclose(function(X), 0.75)


def test_networks_of_an_architecture_have_functions_of_their_own():
    X = rng.normal(size=(2, 4)).astype(np.float32)
    one, other = Model([4, 3], rng=0), Model([4, 3], rng=1)
    first, second = quick(one, X), quick(other, X)
    assert not np.array_equal(first(X), second(X))
    for model, function in ((one, first), (other, second), (one, first)):
        np.testing.assert_allclose(function(X), expected(model, X), rtol=1e-5)


def test_no_reference_is_kept_or_lost():
    model, X = Model([4, 3], rng=0), rng.normal(size=(2, 4)).astype(np.float32)
    function = quick(model, X)
    counted = X, X.dtype, None, function
    before = [sys.getrefcount(each) for each in counted]
    for _ in range(1000):
        function(X)
        function(None)
    after = [sys.getrefcount(each) for each in counted]
    np.testing.assert_allclose(after, before, atol=50)
    out = function(X)
    assert out.flags.owndata
    fresh = np.empty(3)
    assert sys.getrefcount(out) == sys.getrefcount(fresh)


def test_a_network_goes_with_its_last_reference():
    model, X = Model([4, 3], rng=0), rng.normal(size=(2, 4)).astype(np.float32)
    quick(model, X)
    gone = weakref.ref(model._network)
    gc.disable()
    try:
        del model
        assert gone() is None
    finally:
        gc.enable()


def test_the_function_outlives_its_model():
    model, X = Model([40, 30], rng=0), rng.normal(size=(2, 40)).astype(np.float32)
    function, before = quick(model, X), model.predict(X)
    del model
    gc.collect()
    [np.full(10_000, np.nan, np.float32) for _ in range(100)]
    np.testing.assert_array_equal(function(X), before)


def test_no_memory_for_the_outputs():
    model, X = Model([4, 3], rng=0), rng.normal(size=(2, 4)).astype(np.float32)
    function = quick(model, X)
    function.__self__["n_outputs"] = 2**40
    before = sys.getrefcount(X.dtype)
    for _ in range(100):
        with pytest.raises(MemoryError):
            function(X)
    assert abs(sys.getrefcount(X.dtype) - before) < 50


def test_where_its_buffers_are_in_use_the_entry_predicts():
    model, X = Model([4, 3], rng=0), rng.normal(size=(2, 4)).astype(np.float32)
    function, before = quick(model, X), model.predict(X)
    busy = model._network.inference.blocks.busy
    busy[0] = 1
    try:
        assert function(X) is None
        np.testing.assert_array_equal(model.predict(X), before)
    finally:
        busy[0] = 0
    assert function(X) is not None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_does_not_wait_for_a_thread_of_its_parent(run_python):
    """A child process that forks while another thread predicts a long block has its own buffers, and nobody in them."""
    source = """
import os, sys, threading, time, warnings
import numpy as np
from fastnn import Model

warnings.simplefilter("ignore", DeprecationWarning)  # from Python 3.12 on: "may lead to deadlocks in the child"
model, X = Model([4, 300, 300, 3], rng=0), np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
expected, inference, ended = model.predict(X), model._network.inference, []

def predict():
    while not ended:
        model.predict(X)

sys.setswitchinterval(1000)  # so that a thread in its block stays there until this one forks
thread = threading.Thread(target=predict)
thread.start()
while not inference.blocks.busy[0]:
    time.sleep(0)
child = os.fork()
if child == 0:
    found = inference.quick(X)
    os._exit(0 if found is not None and np.array_equal(found, expected) else 3)
ended.append(True)
thread.join()
assert os.waitpid(child, 0)[1] == 0
assert inference.blocks.busy[0] == 0
print("done")
"""
    assert run_python(source).stdout == "done\n"


def test_long_blocks_on_several_threads():
    """These let each other run; who finds the buffers in use takes others."""
    models = [Model([300, 200, 10], rng=i) for i in range(3)]
    X = rng.normal(size=(40, 300)).astype(np.float32)
    wanted = [model.predict(X) for model in models]
    assert all(len(X) >= quick(model, X).__self__["long"] for model in models)
    wrong = []

    def run(i):
        wrong.extend(i for _ in range(200) if not np.array_equal(models[i % 3].predict(X), wanted[i % 3]))

    threads = [threading.Thread(target=run, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert models[0]._network.inference.blocks.busy[0] == 0


def test_threads_that_each_find_python():
    """What one of them found is used after another's has taken its place."""
    X = rng.normal(size=(2, 4)).astype(np.float32)
    models = [Model([4, 3], rng=i) for i in range(3)]
    functions = []
    for model in models:
        python_api.this_python.cache_clear()
        functions.append(quick(model, X))
    python_api.this_python.cache_clear()
    gc.collect()
    [bytes(48) for _ in range(10_000)]
    for model, function in zip(models, functions, strict=True):
        np.testing.assert_allclose(function(X), expected(model, X), rtol=1e-5)
        assert function.__name__ == "predict_rows"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "network",
    [
        ([8, 16, 1], {"output": "identity"}),
        ([4, Dense(5, "tanh"), 3], {}),
        ([64, 1], {}),
        ([784, 100, 10], {}),
        ([10, Dense(100, "relu"), Dense(10, "softmax")], {"loss": "cross_entropy"}),
    ],
    ids=lambda network: "-".join(str(getattr(each, "units", each)) for each in network[0]),
)
def test_a_row_has_the_same_bits_in_a_prediction_of_any_number_of_rows(network, dtype):
    """From two rows on; a single one is summed in another order."""
    layers, options = network
    model, X = Model(layers, dtype=dtype, rng=0, **options), rng.normal(size=(1300, layers[0])).astype(dtype)
    all_rows = model.predict(X)
    tolerance = 1e-4 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(model.predict(X[:1]), all_rows[:1], rtol=tolerance, atol=tolerance)
    for rows in (*range(2, 150), *range(150, 1300, 23), 256, 257, 258, 1024, 1025, 3, 2):
        first = 1300 - rows if rows % 2 else 0
        some = slice(first, first + rows)
        np.testing.assert_array_equal(model.predict(X[some]), all_rows[some], err_msg=f"{rows} rows")
        if rows % 7 == 0:
            _, outputs = model._network.inference.evaluate(X[some], np.zeros((rows, all_rows.shape[1]), dtype))
            np.testing.assert_array_equal(outputs, all_rows[some], err_msg=f"evaluate, {rows} rows")
            np.testing.assert_array_equal(model.predict(X[some].tolist(), threads=2), all_rows[some])


def test_a_new_number_of_rows_costs_no_program(monkeypatch):
    """A few heights serve all; afterwards no program is written."""
    model, X = Model([10, 99, 10], rng=0), rng.normal(size=(500, 10)).astype(np.float32)
    wanted, written, write = model.predict(X), [], prediction_programs.predict_program
    monkeypatch.setattr(prediction_programs, "predict_program", lambda *a: written.append(a[3]) or write(*a))
    for rows in range(2, 501):
        np.testing.assert_array_equal(model.predict(X[:rows]), wanted[:rows])
    most = model._network.inference.blocks.most
    assert set(written) < set(strategy.heights(most))
    assert len(written) <= len(set(written)) + 1  # the largest comes first, because it makes the buffers
    written.clear()
    other = Model([10, 99, 10], rng=1)
    for rows in np.random.default_rng(0).integers(2, 501, 300):
        assert other.predict(X[:rows]).shape == (rows, 10)
    assert written == []


def networks_of_one_architecture(n_inputs, hidden):
    """Two models, rows for them, and what they predict for these, by the formula."""
    models = [Model([n_inputs, hidden, 10], rng=seed) for seed in (0, 1)]
    X = rng.normal(size=(250, n_inputs)).astype(np.float32)
    return models, X, [expected(model, X) for model in models]


@pytest.mark.slow
@pytest.mark.parametrize("interval", [1e-6, 1e-5, None])
def test_threads_that_predict_new_numbers_of_rows(interval):
    """Of models of one architecture, which share programs and their buffers."""
    before, wrong = sys.getswitchinterval(), []

    def run(seed, models, X, wanted):
        for rows in np.random.default_rng(seed).integers(1, 251, 40):
            for model, want in zip(models, wanted, strict=True):
                if not np.allclose(model.predict(X[:rows]), want[:rows], rtol=1e-3, atol=1e-4):
                    wrong.append(rows)

    if interval is not None:
        sys.setswitchinterval(interval)
    try:
        for hidden in range(2, 12):
            given = networks_of_one_architecture(4 if hidden % 2 else 17, hidden)
            threads = [threading.Thread(target=run, args=(seed, *given)) for seed in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    finally:
        sys.setswitchinterval(before)
    assert wrong == []


@pytest.mark.parametrize("rows", [1, 3, 40, 250, 2000])
@pytest.mark.parametrize("seed", range(4))
def test_a_prediction_that_begins_in_the_middle_of_another(seed, rows):
    """As a signal handler or a `__del__` does, in the same thread, between any two lines of the first one."""
    hidden, module = 30 + seed, sys.modules["fastnn.network.inference"].__file__
    models, X, wanted = networks_of_one_architecture(4, hidden)
    X = np.tile(X, (8, 1))
    wanted = [np.tile(want, (8, 1)) for want in wanted]
    r, wrong, left = np.random.default_rng([seed, rows]), [], [400]

    def check(model, want, n):
        if not np.allclose(model.predict(X[:n]), want[:n], rtol=1e-3, atol=1e-4):
            wrong.append(n)

    def trace(frame, event, _):
        if event == "line" and left[0] and r.random() < 0.3 and not inside:
            left[0] -= 1
            inside.append(1)
            i = int(r.integers(2))
            check(models[i], wanted[i], int(r.integers(1, 2001)) if r.random() < 0.2 else int(r.integers(1, 251)))
            inside.pop()
        return trace

    inside = []
    before = sys.gettrace()
    sys.settrace(lambda frame, event, _: trace if frame.f_code.co_filename == module else None)
    try:
        for n in (rows, *r.integers(1, 251, 20)):
            i = int(r.integers(2))
            check(models[i], wanted[i], int(n))
    finally:
        sys.settrace(before)
    assert wrong == []
    assert left[0] < 400


def test_there_is_none_where_arrays_are_laid_out_in_another_way(monkeypatch):
    def forget():
        python_api.this_python.cache_clear()
        python_api._has_known_fields.cache_clear()

    forget()
    array = np.arange(6.0).reshape(2, 3)
    assert python_api.address_of(array[1:]) == array.ctypes.data + 24
    forget()
    try:
        monkeypatch.setattr(python_api, "_read", lambda array: (id(np.ndarray), array.ctypes.data, 2, (3, 2), 0, 0))
        assert python_api.this_python() is None
        assert python_api.address_of(array[1:]) == array.ctypes.data + 24
    finally:
        forget()
    assert python_api.this_python() is None
    monkeypatch.undo()
    forget()


def test_without_it_all_is_the_same(none_to_be_had):
    model, X = Model([4, 3], rng=0), rng.normal(size=(2, 4)).astype(np.float32)
    for _ in range(2):
        np.testing.assert_allclose(model.predict(X), expected(model, X), rtol=1e-5)
        assert model._network.inference.quick(X) is None
