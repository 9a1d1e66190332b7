"""Values that no function expects: each has a name to print, and is made afresh for every call."""

import decimal
import fractions
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from fastnn import SGD, Dense, Model


class MineError(Exception):
    """Raised by objects here that fail when they are used: a function may let it through."""


class Sub(np.ndarray):
    """A subclass of an array."""


def failing(*names):
    """An object whose special methods of these names raise MineError."""

    def fail(self, *_, **__):
        raise MineError("mine")

    return type("Failing", (), dict.fromkeys(names, fail))()


def answering(**values):
    """An object whose special methods give these values."""
    return type("Answering", (), {name: lambda self, *_, v=value, **__: v for name, value in values.items()})()


def nested(depth):
    """A list in a list in a list."""
    value = []
    for _ in range(depth):
        value = [value]
    return value


def fails_later():
    """A generator that gives a value, then raises MineError."""
    yield 1
    raise MineError("mine")


def itself():
    """A list that holds itself."""
    value = [1]
    value.append(value)
    return value


class OwnRate(SGD):
    """An optimizer of the user's own."""


SCALARS = (
    *(None, True, False, 0, 1, 2, 3, -1, 2**31, 2**62, 2**63, 2**64, -(2**63) - 1, 10**400, 10**5000, -(10**5000)),
    *(0.5, 1.0, 0.0, -0.0, -0.5, float("nan"), float("inf"), -float("inf"), 1e308, 5e-324, 2.5, 1j, complex("nan")),
    *(
        "",
        "0",
        "sigmoid",
        "adam",
        "accuracy",
        "\0",
        "\ud800",
        "x" * 300,
        b"",
        b"sigmoid",
        bytearray(b"12"),
        ...,
        object,
    ),
    *(NotImplemented, int, print, Model, SGD, slice(3), range(3), range(2**62), (), (1,), (None, None), {}, {1: 2}),
    *(
        {1, 2},
        frozenset({0}),
        [],
        [[]],
        [None],
        [[1, 2], [3]],
        [1, "a"],
        ["0"],
        [True],
        [1.5],
        [-1],
        [0],
        [0, 0],
        [2**70],
    ),
    *(fractions.Fraction(1, 3), decimal.Decimal("0.5"), decimal.Decimal("NaN"), np.float16(1), np.float64("nan")),
    *(np.int8(1), np.uint64(2**63), np.bool_(True), np.longdouble(1), np.complex64(1), np.str_("0"), np.bytes_(b"1")),
    *(np.datetime64("2020"), np.timedelta64(1, "D"), np.void(b"1"), Path("nowhere"), Path(), Path("x" * 300)),
    *(Dense(3), Dense(2, "softmax"), SGD(), OwnRate(0.1), SGD, np.random.default_rng, np.ma.masked, memoryview(b"123")),
)
MADE = {
    "a generator": lambda: (i for i in range(3)),
    "an iterator that fails": fails_later,
    "an object": object,
    "a nested list": lambda: nested(100),
    "a list nested very deeply": lambda: nested(5000),
    "a list of itself": itself,
    "a random generator": lambda: np.random.default_rng(0),
    "a random state": lambda: np.random.RandomState(0),
    "a scalar that fails": lambda: failing("__index__", "__float__", "__int__"),
    "an array that fails": lambda: failing("__array__"),
    "a sequence that fails": lambda: failing("__len__", "__getitem__", "__iter__"),
    "a comparison that fails": lambda: failing("__eq__", "__bool__", "__lt__"),
    "a hash that fails": lambda: failing("__hash__"),
    "a path that fails": lambda: failing("__fspath__"),
    "a path of bytes": lambda: answering(__fspath__=b"nowhere"),
    "a path of a number": lambda: answering(__fspath__=3),
    "an index of 2": lambda: answering(__index__=2),
    "an index of text": lambda: answering(__index__="2"),
    "a length below zero": lambda: answering(__len__=-1, __getitem__=1),
    "an array interface of nothing": lambda: answering(__array_interface__={}),
    "a model": lambda: Model([4, 3], rng=1),
    "endless rows": lambda: np.broadcast_to(np.float32(1), (2**40, 4)),
}
# As a row in (12, 4) and in (12,): what fit takes, and others.
SHAPES = (
    (12, 4),
    (12,),
    (12, 1),
    (12, 3),
    (12, 2),
    (2, 12),
    (1, 12),
    (11, 4),
    (0, 4),
    (12, 0),
    (0,),
    (),
    (1,),
    (1, 1),
    (3, 12, 4),
)
TYPES = (
    *(
        "f8",
        "f4",
        "i8",
        "u1",
        "?",
        "f2",
        "i1",
        "i2",
        "i4",
        "u2",
        "u4",
        "u8",
        "g",
        "F",
        "D",
        "S3",
        "U3",
        "O",
        "M8[s]",
        "m8[D]",
    ),
    *(">f8", ">f4", ">i4", ">u8", ">M8[D]", "V4", [("a", "f4"), ("b", "i4")], "f4,f4", np.dtypes.StringDType()),
)
CONTENTS = (
    "zeros",
    "ones",
    "classes",
    "normal",
    "negative",
    "one nan",
    "one infinity",
    "huge",
    "tiny",
    "large integers",
)
FORMS = (
    *(
        "plain",
        "plain",
        "plain",
        "columns first",
        "backwards",
        "every second",
        "of no stride",
        "read-only",
        "unaligned",
    ),
    *("a subclass", "masked", "a memoryview", "lists", "tuples", "objects", "a generator", "an array method", "bytes"),
)


def numbers(content, shape):
    """A float64 array."""
    rng = np.random.default_rng(0)
    array = {
        "zeros": np.zeros,
        "ones": np.ones,
        "classes": lambda s: rng.integers(0, 2, s).astype(float),
        "huge": lambda s: np.full(s, 1e200),
        "tiny": lambda s: np.full(s, 5e-324),
        "large integers": lambda s: np.full(s, 2.0**62),
    }.get(content, rng.standard_normal)(shape)
    if content == "negative":
        array = -np.abs(array)
    array = np.asarray(array)
    if content.startswith("one ") and array.size:
        array.reshape(-1)[-1] = np.nan if content == "one nan" else np.inf
    return array


def formed(array, form):
    """The array in another form."""
    if form == "of no stride":
        return np.broadcast_to(array[:1], array.shape) if array.ndim else array
    if form == "every second":
        return np.repeat(array, 2, axis=0)[::2] if array.ndim else array
    if form == "unaligned" and not array.dtype.hasobject and array.dtype.kind != "T":
        raw = np.zeros(array.nbytes + 1, np.uint8)
        other = raw[1:].view(array.dtype) if array.nbytes else raw[:0].view(array.dtype)
        other = other[: array.size].reshape(array.shape)
        other[...] = array
        return other
    if form == "read-only":
        array.flags.writeable = False
    makers = {
        "columns first": np.asfortranarray,
        "backwards": lambda a: a[::-1] if a.ndim else a,
        "a subclass": lambda a: a.view(Sub),
        "masked": lambda a: np.ma.masked_array(a, mask=np.arange(a.size).reshape(a.shape) % 2 == 0),
        "a memoryview": lambda a: memoryview(a) if a.dtype.kind in "iuf" and a.dtype.isnative else a,
        "lists": np.ndarray.tolist,
        "tuples": lambda a: tuple(map(tuple, a.tolist())) if a.ndim == 2 else a,
        "objects": lambda a: a.astype(object),
        "a generator": lambda a: (row for row in a) if a.ndim else a,
        "an array method": lambda a: answering(__array__=a),
        "bytes": lambda a: a.tobytes() if a.dtype.kind in "iuf" else a,
    }
    return makers.get(form, lambda a: a)(array)


@dataclass(frozen=True)
class Value:
    """How to make a value."""

    name: str
    arguments: Any = None  # of an array; else the name says it all

    def __repr__(self):
        return f"<{self.name}>"

    def make(self):
        """The value itself, a new one where it can change."""
        if self.arguments is None:
            return MADE[self.name]() if self.name in MADE else NAMED[self.name]
        shape, dtype, content, form = self.arguments
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            array = numbers(content, shape)
            record = isinstance(dtype, list) or (isinstance(dtype, str) and ("," in dtype or dtype[0] == "V"))
            array = np.zeros(shape, dtype) if record else array.astype(dtype)
            return formed(array, form)


def short(value):
    """A name for a scalar, with its type."""
    text = f"{type(value).__name__} of {value.bit_length()} bits" if isinstance(value, int) and value > 2**70 else None
    return text or (
        f"{type(value).__name__} below -10**4999" if isinstance(value, int) and value < -(2**70) else repr(value)[:60]
    )


NAMED = {f"{short(value)} ({i})": value for i, value in enumerate(SCALARS)}


def array_of(shape, dtype, content, form):
    """An array as a value."""
    return Value(f"{content} {dtype} {shape} {form}", (shape, dtype, content, form))


ARRAYS = st.builds(array_of, *(st.sampled_from(choices) for choices in (SHAPES, TYPES, CONTENTS, FORMS)))
FITTING = st.builds(  # arrays that are right but for one thing
    array_of,
    st.sampled_from(SHAPES[:5]),
    st.sampled_from(TYPES[:8]),
    st.sampled_from(CONTENTS),
    st.sampled_from(FORMS),
)
ANYTHING = st.one_of(st.sampled_from([Value(name) for name in (*NAMED, *MADE)]), ARRAYS, FITTING)
