"""What Numba has compiled, called by a function of Python's C API, and by ctypes."""

import gc
import pickle
import sys
import threading
import time

import numpy as np
import pytest

from fastnn.kernels.loops import functions
from fastnn.kernels.loops.compiler import entry
from fastnn.kernels.running import compiled_loops, python_api
from fastnn.kernels.running.compiled_loops import CompiledLoop
from fastnn.kernels.vector.cache import CodeFiles

PAIR = np.dtype([("first", "i8"), ("second", "f8")])


@entry
def total(x, n, factor):
    found = 0.0
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            found += x[i, j] * factor
    x[0, 0] = found
    return x.shape[0] * 100 + x.strides[0] // x.itemsize + n


@entry
def is_more(pairs, n):
    return pairs[0].first > n


@entry
def store(out, value):
    out[0] = value


@entry
def divide(x, y):
    return x // y


@entry
def count_until(flag, out):
    while flag[0] == 0:
        out[0] += 1


@pytest.fixture(params=["Python's C API", "ctypes"])
def loop(request, monkeypatch):
    """A function: the loop of a name, called in one of the two ways."""
    for each in (total, is_more, store, divide, count_until):
        monkeypatch.setattr(functions, each.__name__, each, raising=False)
    if request.param == "ctypes":
        monkeypatch.setattr(python_api, "this_python", lambda: None)
    elif python_api.this_python() is None:
        pytest.skip("this Python has other fields")
    monkeypatch.setattr(compiled_loops, "host_symbol", lambda name: f"test.{id(request)}.{name}")
    monkeypatch.setattr(CodeFiles, "folder", None)
    return CompiledLoop


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8"])
def test_arrays_and_numbers(loop, dtype):
    called, x = loop("total"), np.arange(12, dtype=dtype).reshape(3, 4)
    assert called(x, 5, 0.5) == 300 + 4 + 5
    assert x[0, 0] == 33  # half of the sum
    assert called(x, np.int64(-5), np.float64(0.0)) == 300 + 4 - 5
    assert x[0, 0] == 0


def test_records_and_results_of_other_kinds(loop):
    pairs, out = np.zeros(2, PAIR), np.zeros(1)
    pairs["first"] = 3
    called = loop("is_more")
    assert (called(pairs, 2), called(pairs, 3)) == (1, 0)
    assert loop("store")(out, 2.5) == 0  # it returns nothing
    assert out[0] == 2.5


def test_each_kind_of_array_has_a_loop_of_its_own(loop):
    called = loop("total")
    for dtype in ("float32", "float64", "float32", "float64"):
        x = np.ones((2, 3), dtype)
        called(x, 0, 1.0)
        assert x[0, 0] == 6
    assert len(called._known) == 2


def test_it_remembers_a_few_kinds(loop):
    called = loop("is_more")
    for i in range(2 * compiled_loops.MAX_KNOWN):  # equal dtypes that are other objects
        pairs = np.zeros(1, np.dtype([("first", "i8"), ("second", "f8")]))
        assert called(pairs, i - 5) == (i < 5)
    assert 1 <= len(called._known) <= compiled_loops.MAX_KNOWN


def test_an_equal_dtype_that_is_another_object(loop):
    """As arrays have that come back from a pickle."""
    called, x = loop("total"), np.ones((2, 3), np.float32)
    called(x, 0, 1.0)
    other = pickle.loads(pickle.dumps(np.dtype("float32")))
    y = np.ones((2, 3), other)
    assert y.dtype is not x.dtype
    assert called(y, 0, 1.0) == 203
    assert y[0, 0] == 6
    assert len(called._known) == 1


def unaligned(x):
    return np.frombuffer(bytearray(x.nbytes + 1), np.uint8)[1:].view(x.dtype).reshape(x.shape)


OTHERS = [np.asfortranarray, np.ma.array, unaligned]
OTHERS += [lambda x: x[:, ::2], lambda x: x.tolist(), lambda x: x.astype(">f4")]


@pytest.mark.parametrize("which", OTHERS)
def test_other_arguments_are_refused(loop, which):
    called, x = loop("total"), np.ones((4, 6), np.float32)
    called(x.copy(), 0, 1.0)
    with pytest.raises(TypeError, match="a compiled loop takes arrays in C order and numbers, got"):
        called(which(x), 0, 1.0)
    assert (x == 1).all()


def test_numbers(loop):
    called = loop("divide")
    numbers = 7, -7, -2, True, 2**62, np.int32(5), np.bool_(False)
    assert [called(x, 2) for x in numbers] == [3, -4, -1, 0, 2**61, 2, 0]
    with pytest.raises(TypeError, match="divide must return an integer or nothing"):
        called(1.5, 2)
    out = np.zeros(1)
    for value in (1, 0.5, np.float32(0.25), 2):  # whichever comes first
        loop("store")(out, value)
        assert out[0] == value


def test_a_number_that_is_too_large(loop):
    called = loop("divide")
    assert called(1, 1) == 1
    if python_api.this_python() is not None:  # ctypes cuts it off
        with pytest.raises(OverflowError):
            called(2**63, 1)


def test_an_exception_in_a_loop(loop):
    called = loop("divide")
    for _ in range(3):
        with pytest.raises(RuntimeError, match="a compiled loop has raised an exception"):
            called(1, 0)
    assert called(6, 3) == 2


def test_other_threads_run_meanwhile(loop):
    called, flag, out = loop("count_until"), np.ones(1, np.int64), np.zeros(1, np.int64)
    called(flag, out)  # compiles
    flag[0] = 0
    thread = threading.Thread(target=called, args=(flag, out))
    thread.start()
    while out[0] == 0:
        time.sleep(0.001)
    flag[0] = 1
    thread.join()
    assert out[0] > 0


def test_arguments_and_results_have_the_references_that_they_had(loop):
    called, x = loop("total"), np.ones((2, 3), np.float32)
    called(x, 10**6, 1.0)
    before = [sys.getrefcount(each) for each in (x, x.dtype, NotImplemented)]
    for _ in range(1000):
        assert called(x, 10**6, 1.0) == 203 + 10**6
    for _ in range(1000):
        assert called._latest() is NotImplemented
    after = [sys.getrefcount(each) for each in (x, x.dtype, NotImplemented)]
    assert max(abs(a - b) for a, b in zip(after, before, strict=True)) < 20
    gc.collect()
    assert called(x, 1, 1.0) == 204


def test_threads_that_ask_for_a_loop_at_once(loop):
    called, found = loop("total"), []

    def call():
        found.append(called(np.ones((2, 3), np.float32), 0, 1.0))

    threads = [threading.Thread(target=call) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert found == [203] * 4
