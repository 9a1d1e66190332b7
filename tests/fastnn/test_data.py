"""IDX files, the digits, one-hot rows, windows of a series."""

import gzip
import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits as sklearn_digits

import fastnn

TYPES = {0x08: "u1", 0x09: "i1", 0x0B: "i2", 0x0C: "i4", 0x0D: "f4", 0x0E: "f8"}


def idx(array, code):
    """The bytes of an IDX file, written as http://yann.lecun.com/exdb/mnist says: everything big-endian."""
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, code, array.ndim]) + sizes + array.astype(">" + TYPES[code]).tobytes()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data-idx"


@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (4, 2, 3), (2, 1, 2, 2), (0,), (0, 28, 28)])
@pytest.mark.parametrize("code", TYPES)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_load_idx(code, shape, pack, path):
    numbers = np.random.default_rng(0).integers(-100, 100, shape) * (1 if code not in (0x0D, 0x0E) else 0.37)
    array = np.abs(numbers).astype(TYPES[code]) if code == 0x08 else np.asarray(numbers).astype(TYPES[code])
    path.write_bytes(pack(idx(array, code)))
    loaded = fastnn.load_idx(path)
    np.testing.assert_array_equal(loaded, array)
    assert loaded.shape == shape
    assert loaded.dtype == np.dtype(TYPES[code])
    assert loaded.dtype.isnative
    assert loaded.flags.writeable
    assert loaded.flags.c_contiguous


def test_load_idx_takes_a_string(path):
    path.write_bytes(idx(np.arange(3), 0x0B))
    np.testing.assert_array_equal(fastnn.load_idx(str(path)), [0, 1, 2])


def test_no_such_file(path):
    with pytest.raises(FileNotFoundError, match="data-idx"):
        fastnn.load_idx(path)


WHOLE = idx(np.arange(24).reshape(2, 3, 4), 0x0C)


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 15, 16, 17, len(WHOLE) - 1])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_truncated_file(size, pack, path):
    path.write_bytes(pack(WHOLE[:size]))
    with pytest.raises(ValueError, match=r"path must name .*data-idx"):
        fastnn.load_idx(path)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("more", [b"\0", b"\0" * 4, WHOLE])
def test_a_file_that_is_too_long(more, pack, path):
    path.write_bytes(pack(WHOLE + more))
    expected = rf"data-idx.* with at least {len(WHOLE) + 1} bytes where its header says {len(WHOLE)}"
    with pytest.raises(ValueError, match=expected):
        fastnn.load_idx(path)


@pytest.mark.parametrize(
    "content",
    [
        b"PK\3\4 a zip file",
        b"\0\0\7\1\0\0\0\0",
        b"\0\1\10\1\0\0\0\0",
        b"5.1,3.5,1.4\n",
        b"\x89PNG\r\n\x1a\n",
        b"\0" * 16,
    ],
)
def test_a_foreign_file(content, path):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"path must name an IDX file, got .*data-idx.* which starts with"):
        fastnn.load_idx(path)


def test_sizes_that_overflow(path):
    path.write_bytes(bytes([0, 0, 8, 3]) + b"\xff" * 12)
    with pytest.raises(ValueError, match=f"header says {16 + (2**32 - 1) ** 3}"):
        fastnn.load_idx(path)


def test_a_damaged_gzip_file(path):
    """The data are as long as the header says, so that nothing but the damage is wrong."""
    content = bytearray(gzip.compress(idx(np.arange(1200), 0x0C)))
    path.write_bytes(content)
    np.testing.assert_array_equal(fastnn.load_idx(path), np.arange(1200))
    for place in (3, 10, 12, 20, len(content) // 2, len(content) - 5, len(content) - 1):
        damaged = content.copy()
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="data-idx"):
            fastnn.load_idx(path)
    for size in (2, 9, 30, len(content) // 2, len(content) - 8, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"path must name a whole gzip file, got .*data-idx"):
            fastnn.load_idx(path)


@pytest.mark.parametrize("place", [-8, -5, -4, -1])
def test_a_wrong_checksum_or_length_at_the_end_of_a_gzip_file(place, path):
    content = bytearray(gzip.compress(WHOLE))
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"path must name a whole gzip file, got .*data-idx"):
        fastnn.load_idx(path)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("n", [64, 65, 255])
def test_the_dimensions_of_an_array(n, pack, path):
    """NumPy's arrays have at most 64."""
    path.write_bytes(pack(bytes([0, 0, 8, n]) + struct.pack(f">{n}I", *[1] * n) + b"\7"))
    if n == 64:
        assert fastnn.load_idx(path).shape == (1,) * 64
        assert fastnn.load_idx(path).item() == 7
        return
    with pytest.raises(
        ValueError, match=rf"path must name an IDX file of at most 64 dimensions, got .*data-idx' of {n}$"
    ):
        fastnn.load_idx(path)


def test_a_shape_without_elements_that_no_array_can_have(path):
    path.write_bytes(bytes([0, 0, 8, 4]) + struct.pack(">4I", 0, *[2**32 - 1] * 3))
    with pytest.raises(ValueError, match=r"path must name an IDX file of a possible shape, got .*data-idx"):
        fastnn.load_idx(path)


def peak(function):
    """The most bytes of Python's and NumPy's memory that are in use at once while the function runs."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


MIB = 2**20


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_long_file_takes_no_memory_where_its_header_promises_little(pack, path):
    """The header promises 11 bytes, 64 MiB follow."""
    path.write_bytes(pack(idx(np.arange(3), 0x08) + bytes(64 * MIB)))

    def load():
        with pytest.raises(ValueError, match="with at least 12 bytes where its header says 11"):
            fastnn.load_idx(path)

    load()  # what is allocated only once
    assert peak(load) < 2 * MIB


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_header_that_promises_much_takes_no_memory(pack, path):
    """It promises 4 GiB, 1 MiB follows."""
    path.write_bytes(pack(bytes([0, 0, 8, 2]) + struct.pack(">2I", 2**16, 2**16) + bytes(MIB)))

    def load():
        with pytest.raises(ValueError, match=f"with {12 + MIB} bytes where its header says {12 + 2**32}"):
            fastnn.load_idx(path)

    load()
    assert peak(load) < 4 * MIB


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("code", [0x08, 0x0C])
def test_the_data_are_not_copied(code, pack, path):
    """16 MiB of them: the array, an eighth more for its growth, and what is being read."""
    n = 16 * MIB // np.dtype(TYPES[code]).itemsize
    path.write_bytes(pack(idx(np.ones(n, TYPES[code]), code)))
    assert fastnn.load_idx(path).sum(dtype=np.int64) == n
    assert peak(lambda: fastnn.load_idx(path)) < 18 * MIB + 3 * MIB


@pytest.mark.parametrize(
    ("value", "shown"), [(3, "3"), (None, "None"), (b"data", "b'data'"), (["data"], r"\['data'\]")], ids=repr
)
def test_a_path_is_a_string_or_a_path_object(value, shown):
    with pytest.raises(TypeError, match=rf"^path must be a string or a path object, got {shown}$"):
        fastnn.load_idx(value)


@pytest.mark.skipif(os.name == "nt", reason="Windows encodes such names")
def test_a_path_can_be_encoded():
    with pytest.raises(ValueError, match=r"^path must be a name that the system can encode, got '\\ud800'$"):
        fastnn.load_idx("\ud800")


def test_a_path_holds_no_null_character():
    with pytest.raises(ValueError, match=r"^path must not hold a null character, got 'a\\x00b'$"):
        fastnn.load_idx("a\0b")


def test_load_digits():
    X, y = fastnn.load_digits()
    assert X.shape == (1797, 64)
    assert X.dtype == np.float32
    assert X.flags.c_contiguous
    assert X.min() == 0
    assert X.max() == 1
    assert y.shape == (1797,)
    assert y.dtype == np.int64
    expected, classes = sklearn_digits(return_X_y=True)
    rows = sorted((*row, label) for row, label in zip((X * 16).tolist(), y.tolist(), strict=True))
    assert rows == sorted((*row, label) for row, label in zip(expected.tolist(), classes.tolist(), strict=True))
    assert np.array_equal(fastnn.load_digits()[1], y)
    assert min(np.bincount(y[1500:])) > 15  # mixed: every class is in the last rows


@pytest.mark.parametrize("dtype", ["int64", "uint8", ">i2"])
def test_one_hot(dtype):
    labels = np.array([2, 0, 1, 2], dtype)
    rows = fastnn.one_hot(labels, 4)
    np.testing.assert_array_equal(rows, [[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    assert rows.dtype == np.float32


def test_one_hot_of_nothing():
    assert fastnn.one_hot(np.zeros(0, int), 3).shape == (0, 3)


def test_one_hot_takes_the_memory_of_its_rows():
    """1.2 MB here; a unit matrix of that many classes would have 360 GB."""
    rows = fastnn.one_hot([299_999], 300_000)
    assert rows.shape == (1, 300_000)
    assert np.flatnonzero(rows).tolist() == [299_999]
    assert rows[0, 299_999] == 1
    assert peak(lambda: fastnn.one_hot([0], 300_000)) < 1.5e6


@pytest.mark.parametrize(
    ("labels", "n", "error", "message"),
    [
        ([0, 3], 3, ValueError, r"labels must lie in \[0, 3\), got 0 to 3"),
        ([-1, 1], 3, ValueError, r"labels must lie in \[0, 3\), got -1 to 1"),
        ([0.0, 1.0], 3, ValueError, r"labels must be integers of shape \(n,\), got float64 of shape \(2,\)"),
        ([[0, 1]], 3, ValueError, r"labels must be integers of shape \(n,\), got int64 of shape \(1, 2\)"),
        (["a"], 3, ValueError, r"labels must be integers of shape \(n,\), got <U1"),
        (2, 3, ValueError, r"labels must be integers of shape \(n,\), got int64 of shape \(\): 2$"),
        ("a", 3, ValueError, r"labels must be integers of shape \(n,\), got <U1 of shape \(\): 'a'$"),
        (None, 3, ValueError, r"labels must be integers of shape \(n,\), got object of shape \(\): None$"),
        (["a", "b"], 3, ValueError, r"labels must be integers .* got <U1 of shape \(2,\): \['a', 'b'\]$"),
        ([[1], [1, 2]], 3, ValueError, r"^labels must be a rectangular array of numbers, got \[\[1\], \[1, 2\]\]$"),
        ([0.5], 3, ValueError, r"labels must be integers of shape \(n,\), got float64 of shape \(1,\): \[0.5\]$"),
        ([0], 0, ValueError, r"n_classes must be at least 1, got 0"),
        ([0], 2.0, TypeError, r"n_classes must be an integer, got 2.0"),
    ],
)
def test_one_hot_errors(labels, n, error, message):
    with pytest.raises(error, match=message):
        fastnn.one_hot(labels, n)


MNIST = Path(os.environ.get("FASTNN_MNIST") or Path(__file__).resolve().parents[3] / "shared" / "data" / "mnist")


@pytest.mark.skipif(not MNIST.is_dir(), reason="MNIST's files are in neither $FASTNN_MNIST nor ../shared/data/mnist")
@pytest.mark.parametrize(("name", "n"), [("train", 60_000), ("t10k", 10_000)])
def test_mnist(name, n):
    images = fastnn.load_idx(MNIST / f"{name}-images-idx3-ubyte.gz")
    labels = fastnn.load_idx(MNIST / f"{name}-labels-idx1-ubyte.gz")
    assert images.shape == (n, 28, 28)
    assert images.dtype == labels.dtype == np.uint8
    assert labels.shape == (n,)
    assert images.min() == 0
    assert images.max() == 255
    assert np.array_equal(np.unique(labels), np.arange(10))


# ---- windows of a series ----


@pytest.mark.parametrize("channels", [0, 1, 3])
@pytest.mark.parametrize(("n", "lags", "horizon", "stride"), [(10, 3, 1, 1), (9, 4, 5, 2), (23, 5, 2, 3)])
def test_windows_are_what_slices_are(n, lags, horizon, stride, channels):
    series = np.random.default_rng(0).standard_normal((n, channels or 1)).astype(np.float32)
    given = series if channels else series[:, 0]
    starts = range(0, n - lags - horizon + 1, stride)
    for target in (None, 0, -1):
        X, y = fastnn.windows(given, lags=lags, horizon=horizon, stride=stride, target=target)
        goals = series if target is None else series[:, [target]]
        np.testing.assert_array_equal(X, [series[i : i + lags].ravel() for i in starts])
        np.testing.assert_array_equal(y, [goals[i + lags : i + lags + horizon].ravel() for i in starts])
        assert X.dtype == y.dtype == np.float32
        assert np.shares_memory(X, series)
        assert np.shares_memory(y, series)
        assert not X.flags.writeable
        assert not y.flags.writeable


def test_windows_of_a_column_are_views():
    table = np.arange(20.0).reshape(10, 2)
    X, y = fastnn.windows(table[:, 1], lags=2)
    assert np.shares_memory(X, table)
    np.testing.assert_array_equal(X, np.c_[table[:8, 1], table[1:9, 1]])
    np.testing.assert_array_equal(y, table[2:, 1:])
    X, y = fastnn.windows(np.asfortranarray(table), lags=2)
    np.testing.assert_array_equal(X[3], [6, 7, 8, 9])
    np.testing.assert_array_equal(y[3], [10, 11])


def test_windows_train_a_model():
    """The next step of a sine is a sum of the last two; X of overlapping rows is that of copied ones."""
    series = np.sin(0.3 * np.arange(400))
    X, y = fastnn.windows(series, lags=2)
    fits = [fastnn.Model([2, 1], output="identity", dtype="float64", rng=0) for _ in range(3)]
    options = {"epochs": 200, "batch_size": 20, "optimizer": fastnn.SGD(0.3), "shuffle": False}
    fits[0].fit(X, y, **options)
    fits[1].fit(X.copy(), y.copy(), **options)
    fits[2].fit(fastnn.Stream.from_arrays(X, y, buffer_rows=100), **options)
    np.testing.assert_array_equal(fits[0].parameters, fits[1].parameters)
    np.testing.assert_array_equal(fits[0].parameters, fits[2].parameters)
    np.testing.assert_allclose(fits[0].weights[0], [[-1, 2 * np.cos(0.3)]], atol=0.05)
    np.testing.assert_array_equal(fits[0].predict(X), fits[0].predict(X.copy()))


def test_windows_of_frames():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"load": np.arange(8.0), "heat": np.arange(8) ** 2})
    X, y = fastnn.windows(frame, lags=2, horizon=2, target=1)
    np.testing.assert_array_equal(X[0], [0, 0, 1, 1])
    np.testing.assert_array_equal(y[0], [4, 9])
    np.testing.assert_array_equal(fastnn.windows(frame["load"], lags=3)[1][:, 0], np.arange(3, 8))


@pytest.mark.parametrize(
    ("series", "options", "error", "match"),
    [
        (
            np.zeros(5),
            {"lags": 4, "horizon": 2},
            ValueError,
            r"series must have at least lags \+ horizon = 6 steps, got 5",
        ),
        (
            np.zeros((5, 2, 2)),
            {"lags": 1},
            ValueError,
            r"series must have shape \(n,\) or \(n, channels\), got \(5, 2, 2\)",
        ),
        (np.zeros((5, 0)), {"lags": 1}, ValueError, r"series must have shape .* got \(5, 0\)"),
        (["a", "b"], {"lags": 1}, TypeError, "series must hold numbers"),
        (np.zeros(5), {"lags": 0}, ValueError, "lags must be at least 1, got 0"),
        (np.zeros(5), {"lags": 1.5}, TypeError, "lags must be an integer"),
        (np.zeros(5), {"lags": 1, "horizon": 0}, ValueError, "horizon must be at least 1, got 0"),
        (np.zeros(5), {"lags": 1, "stride": 0}, ValueError, "stride must be at least 1, got 0"),
        (np.zeros((5, 2)), {"lags": 1, "target": 2}, ValueError, "target must be at most 1, got 2"),
        (np.zeros((5, 2)), {"lags": 1, "target": -3}, ValueError, "target must be"),
    ],
)
def test_windows_with_wrong_arguments(series, options, error, match):
    with pytest.raises(error, match=match):
        fastnn.windows(series, **options)
