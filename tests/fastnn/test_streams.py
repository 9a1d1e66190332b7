"""Samples that do not fit in memory: the same steps as in memory, from each source."""

import itertools
import signal
import threading

import numpy as np
import pytest

import fastnn
from fastnn import Adam, CosineDecay, Dense, DivergenceError, Model, Momentum, OneCycle, Stream
from fastnn.data import streams
from fastnn.kernels.running import pool

from .starts import WAYS, Starts

N, WIDTH = 203, 5  # rows; no multiple of what follows


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.standard_normal((N, WIDTH)), rng.integers(0, 3, N)


def new(dtype="float64", **options):
    layers = [WIDTH, Dense(7, "relu"), Dense(3, "softmax")]
    return Model(layers, loss="cross_entropy", dtype=dtype, rng=1, **options)


def cut(X, y, *sizes):
    """Batches of these sizes in turn, and the rest."""
    sizes = itertools.cycle(sizes)
    first, batches = 0, []
    while first < len(X):
        stop = first + next(sizes)
        batches.append((X[first:stop], y[first:stop]))
        first = stop
    return batches


def same(streamed, plain):
    np.testing.assert_array_equal(streamed.parameters, plain.parameters)
    np.testing.assert_allclose(
        streamed.history.loss, plain.history.loss, rtol=1e-12 if plain.dtype == "float64" else 1e-6
    )
    np.testing.assert_array_equal(streamed.history.learning_rate, plain.history.learning_rate)


# ---- the steps of data in memory ----


@pytest.mark.parametrize("batch_size", [1, 10, 32, 203, 500])
@pytest.mark.parametrize("sizes", [(1,), (30, 7, 50), (32,), (400,)])
def test_the_bits_of_a_fit_in_memory(data, batch_size, sizes):
    plain, streamed = new(), new()
    options = {"epochs": 3, "batch_size": batch_size, "optimizer": "adam", "shuffle": False}
    plain.fit(*data, **options)
    streamed.fit(Stream(cut(*data, *sizes), buffer_rows=20), **options)
    same(streamed, plain)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("optimizer", "rules"),
    [
        (Momentum(OneCycle(0.1, 40)), {}),  # per step
        (Adam(CosineDecay(0.01, 6, per="epoch")), {}),
        (Adam(0.01), {"l1": 0.01, "l2": 0.01, "max_norm": 1.0}),
        (Adam(0.01, clip_norm=0.1), {"label_smoothing": 0.1}),
    ],
)
def test_all_of_training_goes_on_between_the_chunks(data, optimizer, rules, dtype):
    plain, streamed = new(dtype), new(dtype)
    options = {"epochs": 4, "batch_size": 16, "optimizer": optimizer, "shuffle": False} | rules
    plain.fit(*data, **options)
    streamed.fit(Stream(cut(*data, 30), buffer_rows=50), **options)
    same(streamed, plain)


def test_two_fits_are_one(data):
    once, twice = new(), new()
    stream = Stream.from_arrays(*data, buffer_rows=64)
    options = {
        "batch_size": 16,
        "optimizer": Adam(CosineDecay(0.01, 5, per="epoch")),
        "dropout": 0.3,
        "input_noise": 0.1,
    }
    once.fit(stream, epochs=5, **options)
    history = twice.fit(stream, epochs=2, **options)
    twice.fit(stream, epochs=3, history=history, **options)
    same(twice, once)


def test_bytes_and_threads(data):
    X, y = (data[0] * 20 + 100).astype(np.uint8), data[1]
    plain, one, two = (new("float32", input_scale=1 / 255) for _ in range(3))
    options = {"epochs": 2, "batch_size": 16, "shuffle": False}
    plain.fit(X, y, **options)
    one.fit(Stream(cut(X, y, 30), buffer_rows=30), threads=1, **options)
    two.fit(Stream(cut(X, y, 30), buffer_rows=30), threads=2, **options)
    same(one, plain)
    same(two, plain)


@pytest.mark.parametrize("kind", ["sample_weight", "class_weight"])
def test_weights(data, kind):
    X, y = data
    plain, streamed = new(), new()
    options = {"epochs": 2, "batch_size": 16, "shuffle": False}
    if kind == "class_weight":
        by_class = {"class_weight": {1: 3.0, 2: 0.5}}
        plain.fit(X, y, **options, **by_class)
        streamed.fit(Stream(cut(X, y, 3), buffer_rows=48), **options, **by_class)
    else:
        weights = np.random.default_rng(2).uniform(0, 2, N)
        weights[64:130] = 0  # whole batches and a whole chunk
        plain.fit(X, y, sample_weight=weights, **options)
        batches = [(X[i : i + 20], y[i : i + 20], weights[i : i + 20]) for i in range(0, N, 20)]
        streamed.fit(Stream(batches, buffer_rows=32), **options)
    same(streamed, plain)


def test_numeric_targets_and_a_single_row(data):
    X, y = data[0], data[0][:, :2].sum(axis=1)
    plain, streamed = (Model([WIDTH, 4, 1], output="identity", dtype="float64", rng=0) for _ in range(2))
    options = {"epochs": 2, "batch_size": 16, "shuffle": False}
    plain.fit(X, y, **options)
    streamed.fit(Stream([(X[i : i + 1], y[i : i + 1]) for i in range(N)], buffer_rows=20), **options)
    same(streamed, plain)


# ---- sources ----


def rows_seen(stream, batch_size=10, seed=None):
    """The first column of each chunk, and whether it was the last."""
    check = lambda X, y, w: streams.Samples(np.asarray(X), np.asarray(y), w)  # noqa: E731
    return [(samples.inputs[:, 0].copy(), last) for samples, last in stream._chunks(check, batch_size, seed)]


def numbered(n=N):
    return np.repeat(np.arange(n, dtype=np.float64)[:, None], WIDTH, axis=1), np.arange(n) % 3


def npy_files(tmp_path):
    X, y = numbered()
    names = []
    for i, (first, stop) in enumerate([(0, 50), (50, 51), (51, N)]):
        names.append((tmp_path / f"X{i}.npy", tmp_path / f"y{i}.npy"))
        np.save(names[-1][0], X[first:stop])
        np.save(names[-1][1], y[first:stop])
    return Stream.from_npy(*map(list, zip(*names, strict=True)), buffer_rows=48)


def parquet_files(tmp_path):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: it is in the extra parquet")
    X, y = numbered()
    frame = pandas.DataFrame(X, columns=list("abcde")).assign(label=y)
    paths = []
    for i, (first, stop) in enumerate([(0, 100), (100, N)]):
        paths.append(tmp_path / f"{i}.parquet")
        frame[first:stop].to_parquet(paths[-1], row_group_size=30)
    return Stream.from_parquet(paths, "label", buffer_rows=48)


def memmap(tmp_path):
    X, y = numbered()
    mapped = np.memmap(tmp_path / "X", np.float64, "w+", shape=X.shape)
    mapped[...] = X
    return Stream.from_arrays(mapped, y, buffer_rows=48)


@pytest.mark.parametrize("source", [npy_files, parquet_files, memmap])
def test_all_rows_come_once_in_whole_batches(source, tmp_path):
    stream = source(tmp_path)
    in_order, seen = rows_seen(stream), rows_seen(stream, seed=3)
    np.testing.assert_array_equal(np.concatenate([rows for rows, _ in in_order]), np.arange(N))
    np.testing.assert_array_equal(np.sort(np.concatenate([rows for rows, _ in seen])), np.arange(N))
    assert [last for _, last in seen] == [False] * (len(seen) - 1) + [True]
    assert all(len(rows) % 10 == 0 and 40 <= len(rows) <= 90 for rows, last in seen if not last)
    assert max(np.ptp(rows) for rows, last in seen if not last) > 60  # blocks of different places
    first = seen[0][0]
    again, other = rows_seen(stream, seed=3), rows_seen(stream, seed=4)
    np.testing.assert_array_equal(first, again[0][0])
    assert len(other[0][0]) != len(first) or (other[0][0] != first).any()


@pytest.mark.parametrize("source", [npy_files, parquet_files, memmap])
def test_files_train(source, tmp_path):
    plain, streamed = new(), new()
    options = {"epochs": 2, "batch_size": 16, "shuffle": False, "optimizer": Adam(1e-4)}
    plain.fit(*numbered(), **options)
    streamed.fit(source(tmp_path), **options)
    same(streamed, plain)


def test_columns_of_parquet(tmp_path):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: it is in the extra parquet")
    frame = pandas.DataFrame({"a": [1, 2], "b": [3, 4], "t": [0.5, 0.25], "u": [1.0, 2.0], "w": [1.0, 0.5]})
    path = str(tmp_path / "one.parquet")
    frame.to_parquet(path)
    given = lambda *arrays: arrays  # noqa: E731
    X, y, w = Stream.from_parquet(path, ["u", "t"], columns=["b", "a"], sample_weight="w")._first(given)
    np.testing.assert_array_equal(X, [[3, 1], [4, 2]])
    np.testing.assert_array_equal(y, [[1.0, 0.5], [2.0, 0.25]])
    np.testing.assert_array_equal(w[:], [1.0, 0.5])
    X, y, w = Stream.from_parquet(path, "t")._first(given)
    np.testing.assert_array_equal(X, frame[["a", "b", "u", "w"]])
    np.testing.assert_array_equal(y, [0.5, 0.25])
    assert w is None
    with pytest.raises(ValueError, match="must have a column 'c'"):
        Stream.from_parquet(path, "c")
    with pytest.raises(ValueError, match="target must name at least one column"):
        Stream.from_parquet(path, [], sample_weight="w")
    with pytest.raises(ValueError, match="columns must name at least one column"):
        Stream.from_parquet(path, "t", columns=[])
    frame.assign(s=["1", "2"]).to_parquet(path)
    with pytest.raises(TypeError, match=r"must hold numbers in its column 's', got .*string"):
        Stream.from_parquet(path, "t")


def test_the_order_differs_from_epoch_to_epoch_and_follows_the_seed(data):
    orders = []

    class Watched:
        shape = (N, WIDTH)

        def __getitem__(self, rows):
            orders[-1].append(rows.start)
            return data[0][rows]

    stream = Stream.from_arrays(Watched(), data[1], buffer_rows=32)
    for _ in range(2):
        orders.append([])
        new().fit(stream, epochs=1, batch_size=8)
    assert orders[0] == orders[1]
    orders.append([])
    new().fit(stream, epochs=2, batch_size=8)
    one, two = np.array_split(orders[2][-2 * 102 :], 2)
    assert sorted(one) == sorted(two) == list(range(0, N, 2))
    assert (one != two).any()


def test_an_iterator_serves_one_epoch(data):
    plain, streamed = new(), new()
    plain.fit(*data, epochs=1, batch_size=16, shuffle=False)
    batches = cut(*data, 30)
    with pytest.raises(ValueError, match="serves one epoch, got epochs 2"):
        streamed.fit(Stream(each for each in batches), epochs=2, batch_size=16)
    streamed.fit(Stream(each for each in batches), epochs=1, batch_size=16, shuffle=False)
    same(streamed, plain)


def test_a_torch_loader(data):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: it is in the extra bench")
    X, y = data
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*map(torch.tensor, (X, y))), batch_size=16)
    plain, streamed = new(), new()
    plain.fit(X, y, epochs=2, batch_size=16, shuffle=False)
    streamed.fit(Stream(loader), epochs=2, batch_size=16, shuffle=False)
    same(streamed, plain)


# ---- what surrounds the epochs ----


def test_validation_and_callbacks(data):
    seen, stop = [], lambda model: len(model.history.loss) == 3

    def note(model):
        seen.append((model.history.val_loss[-1], model.learning_rate))
        model.learning_rate = model.learning_rate / 2

    model = new()
    stream = Stream.from_arrays(*data, buffer_rows=64)
    history = model.fit(
        stream, epochs=9, batch_size=16, optimizer=Adam(0.01), validation_data=data, callbacks=[note, stop]
    )
    assert history.learning_rate == [0.01, 0.005, 0.0025]
    assert [loss for loss, _ in seen] == history.val_loss
    assert history.val_loss[-1] == pytest.approx(model.evaluate(*data)["loss"], rel=1e-12)
    assert len(history.seconds) == len(history.metrics["val_accuracy"]) == 3
    assert all(seconds > 0 for seconds in history.seconds)


def test_callbacks_may_freeze_but_not_replace(data):
    stream = Stream.from_arrays(*data, buffer_rows=64)
    model, before = new(), []

    def freeze(model):
        before.append(model.weights[0].copy())
        model.freeze(0)

    model.fit(stream, epochs=2, batch_size=16, callbacks=[freeze])
    np.testing.assert_array_equal(model.weights[0], before[0])
    with pytest.raises(RuntimeError, match="replace_head"):
        new().fit(stream, epochs=2, batch_size=16, callbacks=[lambda model: model.replace_head(4)])

    def spoil(model):
        model.weights[0][0, 0] = np.nan

    model = new()
    with pytest.raises(ValueError, match="must leave finite parameters"):
        model.fit(stream, epochs=2, batch_size=16, callbacks=[spoil])
    assert np.isfinite(model.parameters).all()


def test_a_callback_that_ends_the_fit_may_do_anything(data):
    stream = Stream.from_arrays(*data, buffer_rows=64)
    model = new()
    model.fit(stream, epochs=2, batch_size=16, callbacks=[lambda model: model.replace_head(4) or True])
    assert model.sizes == (WIDTH, 7, 4)


def test_the_order_of_batches_is_asked_for_once_an_epoch(data):
    class Counted:
        count = 0

        def __iter__(self):
            self.count += 1
            yield from cut(*data, 50)

    counted = Counted()
    new().fit(Stream(counted), epochs=3, batch_size=16)
    assert counted.count == 3


def test_batches_in_the_same_memory(data):
    X, y = data

    def batches():
        rows, labels = np.empty((20, WIDTH)), np.empty(20, np.int64)
        for i in range(0, 200, 20):
            rows[:], labels[:] = X[i : i + 20], y[i : i + 20]
            yield rows, labels

    plain, streamed = new(), new()
    plain.fit(X[:200], y[:200], epochs=1, batch_size=16, shuffle=False)
    streamed.fit(Stream(batches()), epochs=1, batch_size=16, shuffle=False)
    same(streamed, plain)


def test_empty_batches_and_files_are_passed_over(data, tmp_path):
    X, y = data
    plain, streamed, of_files = new(), new(), new()
    options = {"epochs": 2, "batch_size": 16, "shuffle": False}
    plain.fit(X, y, **options)
    nothing = X[:0], y[:0]
    streamed.fit(Stream([nothing, (X[:90], y[:90]), nothing, (X[90:], y[90:]), nothing]), **options)
    same(streamed, plain)
    for name, array in {"X": X, "y": y, "no X": X[:0], "no y": y[:0]}.items():
        np.save(tmp_path / f"{name}.npy", array)
    paths = [[tmp_path / f"{no}{name}.npy" for no in ("no ", "")] for name in "Xy"]
    of_files.fit(Stream.from_npy(*paths), **options)
    same(of_files, plain)


@pytest.mark.parametrize("rate", [CosineDecay(0.1, 4, per="epoch"), OneCycle(0.1, 40)], ids=["epoch", "step"])
@pytest.mark.parametrize("zeros", [slice(0, 100), slice(100, N), slice(64, 128)], ids=["first", "last", "middle"])
def test_a_schedule_with_chunks_of_no_weight(data, rate, zeros):
    X, y = data
    weights = np.ones(N)
    weights[zeros] = 0
    batches = [(X[i : i + 20], y[i : i + 20], weights[i : i + 20]) for i in range(0, N, 20)]
    plain, streamed = new(), new()
    options = {"epochs": 3, "batch_size": 10, "optimizer": Momentum(rate), "shuffle": False}
    plain.fit(X, y, sample_weight=weights, **options)
    streamed.fit(Stream(batches, buffer_rows=20), **options)
    np.testing.assert_array_equal(streamed.parameters, plain.parameters)
    np.testing.assert_allclose(streamed.history.loss, plain.history.loss, rtol=1e-12)


def test_a_read_that_is_stuck_does_not_hold_ctrl_c(data):
    reached, release = threading.Event(), threading.Event()

    class Slow:
        shape = (N, WIDTH)

        def __getitem__(self, rows):
            if rows.start > 20:
                reached.set()
                release.wait(600)
            return data[0][rows]

    def interrupt(model):
        raise KeyboardInterrupt

    stream = Stream.from_arrays(Slow(), data[1], buffer_rows=320)

    def train():
        with pytest.raises(KeyboardInterrupt):
            for _ in stream._chunks(lambda X, y, w: streams.Samples(np.asarray(X), np.asarray(y), w), 10, None):
                pass

    def from_outside():
        reached.wait(600)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    helper = threading.Thread(target=from_outside)
    helper.start()
    try:
        train()
    finally:
        signal.signal(signal.SIGINT, before)
        release.set()
        helper.join()


def test_an_interrupt_leaves_whole_chunks(data):
    X, y = data

    class Interrupted:
        def __iter__(self):
            yield X[:64], y[:64]
            yield X[64:128], y[64:128]
            raise KeyboardInterrupt

    model, plain = new(), new()
    with pytest.raises(KeyboardInterrupt):
        model.fit(Stream(Interrupted(), buffer_rows=32), epochs=1, batch_size=16, shuffle=False)
    plain.fit(X[:64], y[:64], epochs=1, batch_size=16, shuffle=False)
    np.testing.assert_array_equal(model.parameters, plain.parameters)
    assert model.history.loss == []


def test_a_run_that_diverges(data):
    X, y = data
    model = Model([WIDTH, 1], output="identity", dtype="float32", rng=0)
    stream = Stream.from_arrays(X * 1e18, y.astype(np.float64), buffer_rows=64)
    with pytest.raises(DivergenceError, match="diverged in epoch 1") as raised:
        model.fit(stream, epochs=3, batch_size=16, optimizer=fastnn.SGD(1.0))
    assert raised.value.epoch == 1
    assert np.isfinite(model.parameters).all()


# ---- errors ----


def test_what_a_stream_refuses(data):
    X, y = data
    model, stream = new(), Stream.from_arrays(X, y)
    before = model.parameters.copy()
    for arguments, message in [
        ({"y": y}, "y must be None with a Stream"),
        ({"sample_weight": np.ones(N)}, "sample_weight must be None with a Stream"),
        ({"shuffle": np.arange(N)[None]}, "shuffle must be True or False with a Stream"),
    ]:
        with pytest.raises(TypeError, match=message):
            model.fit(stream, epochs=1, batch_size=10, **arguments)
    for arguments, message in [
        ({"validation_fraction": 0.1}, "need samples in memory"),
        ({"train_metric": True}, "need samples in memory"),
        ({"class_weight": "balanced"}, "class_weight must be a dict for a Stream"),
        ({"optimizer": fastnn.LBFGS(), "batch_size": 2**31}, "LBFGS needs all samples in memory"),
        ({"optimizer": fastnn.Rprop(), "batch_size": 2**31}, "Rprop needs all samples in memory"),
        ({"optimizer": "rprop"}, "Rprop needs all samples in memory"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.fit(stream, epochs=1, **{"batch_size": 10} | arguments)
    with pytest.raises(ValueError, match="y must have shape"):
        model.fit(X, epochs=1, batch_size=10)
    np.testing.assert_array_equal(model.parameters, before)


@pytest.mark.parametrize(
    ("batches", "error", "message"),
    [
        ([], ValueError, "at least one sample, got none"),
        ([(np.zeros((2, WIDTH)),)], TypeError, "must be a pair"),
        ([np.zeros((2, WIDTH))], TypeError, "must be a pair"),
        ([(np.zeros((2, 4)), np.zeros(2, int))], ValueError, r"X must have shape \(n, 5\)"),
        ([(np.zeros((2, WIDTH)), np.zeros(3, int))], ValueError, "y must have shape"),
        ([(np.zeros((2, WIDTH)), np.zeros(2, int), np.full(2, 1e7))], ValueError, "below 1e6 in a Stream"),
        ([(np.zeros((2, WIDTH)), np.zeros(2, int), np.zeros(2))], ValueError, "above 1e-30 in each epoch"),
    ],
)
def test_bad_batches(batches, error, message):
    with pytest.raises(error, match=message):
        new().fit(Stream(batches), epochs=1, batch_size=2)


def test_an_error_says_of_which_samples_it_speaks(data, tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "FIRST_ROWS", 10)
    X, y = data
    bad = X.copy()
    bad[150, 2] = np.nan
    np.save(tmp_path / "X.npy", bad)
    np.save(tmp_path / "y.npy", y)
    file = Stream.from_npy(str(tmp_path / "X.npy"), str(tmp_path / "y.npy"), buffer_rows=160)
    for stream, note in [
        (Stream(cut(bad, y, 40)), "in batch 3 of the stream"),
        (Stream.from_arrays(bad, y, buffer_rows=160), "in rows 150 to 159"),
        (file, f"in {tmp_path / 'X.npy'}, rows 150 to 159"),
    ]:
        with pytest.raises(ValueError, match="X must be finite") as raised:
            new().fit(stream, epochs=1, batch_size=10, shuffle=False)
        assert raised.value.__notes__ == [note]
    with pytest.raises(ValueError, match=r"X must have shape \(n, 5\)") as raised:
        new().fit(Stream.from_arrays(X[:, :4], y), epochs=1, batch_size=10)
    assert raised.value.__notes__ == ["in the first rows of the stream"]


def test_mixed_batches(data):
    X, y = data
    rows = np.eye(3)[y]
    with pytest.raises(ValueError, match="must have class indices in y, or none; the first rows have them"):
        new().fit(Stream([(X, y), (X, rows)]), epochs=1, batch_size=300)
    with pytest.raises(ValueError, match="must have sample weights, or none; the first rows have none"):
        new().fit(Stream([(X, y), (X, y, np.ones(N))]), epochs=1, batch_size=300)
    scipy_sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
    with pytest.raises(TypeError, match="dense rows"):
        new().fit(Stream([(scipy_sparse.csr_matrix(X), y)]), epochs=1, batch_size=10)


def test_frames_behind_an_array_have_the_same_columns(data):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    X, y = data
    frame = pandas.DataFrame(X, columns=list("abcde"))
    expected = new().fit(Stream([(X, y)] * 3), epochs=1, batch_size=300).loss
    assert new().fit(Stream([(X, y), (frame, y), (frame, y)]), epochs=1, batch_size=300).loss == expected
    with pytest.raises(ValueError, match="got 'b' where 'a' was, column 0") as raised:
        new().fit(Stream([(X, y), (frame, y), (frame[list("bacde")], y)]), epochs=1, batch_size=300)
    assert raised.value.__notes__ == ["in batch 2 of the stream"]


def kinds(X, y, kind):
    """A batch of a kind, and one of another."""
    plain, weighted, rows = (X, y), (X, y, np.full(len(y), 0.5)), (X, np.eye(3)[y])
    return {
        "weights stop": (weighted, plain),
        "weights begin": (plain, weighted),
        "targets": (plain, rows),
        "class indices": (rows, plain),
    }[kind]


@pytest.mark.parametrize("kind", ["weights stop", "weights begin", "targets", "class indices"])
@pytest.mark.parametrize("buffer_rows", [20, 40, 100])
def test_the_kind_of_samples_is_that_of_the_first_ones(data, kind, buffer_rows):
    """Also where a buffer ends before a batch of another kind, and from one epoch to the next."""
    one, other = kinds(data[0][:40], data[1][:40], kind)
    options = {"epochs": 2, "batch_size": 20, "shuffle": False}
    with pytest.raises(ValueError, match=r"all batches of a Stream must have .*, or none; the first rows") as raised:
        new().fit(Stream([one, one, other], buffer_rows=buffer_rows), **options)
    assert raised.value.__notes__ == ["in batch 2 of the stream"]

    class Turning:
        epochs = 0

        def __iter__(self):
            self.epochs += 1
            return iter([other if self.epochs == 2 else one])

    model = new()
    with pytest.raises(ValueError, match="all batches of a Stream must have") as raised:
        model.fit(Stream(Turning(), buffer_rows=buffer_rows), **options)
    assert raised.value.__notes__ == ["in batch 0 of the stream"]
    assert len(model.history.loss) == 1
    with pytest.raises(ValueError, match="must have sample weights, or none"):
        new().fit(Stream(kinds(*data, "weights stop")), class_weight={0: 2.0}, **options)


def test_bytes_and_numbers_in_one_stream(data):
    X, y = (data[0] * 20 + 100).astype(np.uint8), data[1]
    parts = [X[:50], X[50:90].astype(np.float32), X[90:100] > 300, X[100:].astype(np.int64)]
    whole = np.concatenate([part.astype(np.float32) for part in parts])
    for buffer_rows in (10, 50, 300):
        plain, streamed = (new("float32", input_scale=1 / 255) for _ in range(2))
        options = {"epochs": 2, "batch_size": 10, "shuffle": False}
        plain.fit(whole, y, **options)
        ends = np.cumsum([0, *map(len, parts)])
        batches = [(part, y[i:j]) for part, i, j in zip(parts, ends, ends[1:], strict=False)]
        streamed.fit(Stream(batches, buffer_rows=buffer_rows), **options)
        same(streamed, plain)


def frame_file(tmp_path, **more):
    """A Parquet file of two columns and a target, and its frame."""
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: it is in the extra parquet")
    frame = pandas.DataFrame({"a": np.arange(60.0), "b": np.arange(60.0) * 2, "t": np.arange(60.0) * 3} | more)
    frame.to_parquet(tmp_path / "f.parquet", row_group_size=20)
    return str(tmp_path / "f.parquet"), frame


def columns_of(stream):
    return stream._first(lambda X, y, w: X.columns)


def test_the_index_of_pandas_is_no_feature(tmp_path):
    path, frame = frame_file(tmp_path)
    for index in (frame.sample(frac=0.8, random_state=0), frame.set_index(frame.a.rename("id"))):
        index.to_parquet(path)
        assert columns_of(Stream.from_parquet(path, "t")) == ["a", "b"]
    assert columns_of(Stream.from_parquet(path, "t", columns=["id", "b"])) == ["id", "b"]
    assert columns_of(Stream.from_parquet(path, "id")) == ["a", "b", "t"]
    frame.sample(frac=0.8, random_state=0).to_parquet(path)
    X, y = frame.loc[frame.sample(frac=0.8, random_state=0).index, ["a", "b"]], frame.t
    plain, streamed = (Model([2, 1], output="identity", dtype="float64", rng=0) for _ in range(2))
    options = {"epochs": 1, "batch_size": 8, "optimizer": Adam(1e-4), "shuffle": False}
    plain.fit(X, y[X.index], **options)
    streamed.fit(Stream.from_parquet(path, "t"), **options)
    same(streamed, plain)
    assert streamed.feature_names == plain.feature_names == ("a", "b")


@pytest.mark.parametrize(
    ("columns", "values", "error", "match"),
    [
        (None, "text", TypeError, "f.parquet must hold numbers in its column 's', got dictionary<values="),
        (["a", "t"], None, ValueError, "must name each column once, got 't' twice"),
        (["a", "w"], None, ValueError, "must name each column once, got 'w' twice"),
        (["a", "a"], None, ValueError, "must name each column once, got 'a' twice"),
    ],
)
def test_columns_that_parquet_refuses(columns, values, error, match, tmp_path):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    texts = {"s": pandas.Categorical(["1", "2"] * 30)} if values else {}
    path, _ = frame_file(tmp_path, w=np.ones(60), **texts)
    with pytest.raises(error, match=match):
        Stream.from_parquet(path, "t", columns=columns, sample_weight="w")


def test_files_that_are_no_parquet(tmp_path):
    path, _ = frame_file(tmp_path)
    content = (tmp_path / "f.parquet").read_bytes()
    for spoiled in (b"", b"text", content[:-9], content[:50]):
        (tmp_path / "f.parquet").write_bytes(spoiled)
        with pytest.raises(ValueError, match=r"f\.parquet must be a whole Parquet file"):
            Stream.from_parquet(path, "t")


def test_categories_that_are_numbers(tmp_path):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    path, frame = frame_file(tmp_path, s=pandas.Categorical([7, 3] * 30))
    X = Stream.from_parquet(path, "t")._first(lambda X, y, w: X)
    np.testing.assert_array_equal(X, frame[["a", "b", "s"]].astype(float)[:20])


def test_a_missing_number_of_parquet_is_named(tmp_path):
    for where, place in ({"b": "X\\[5, 1\\]"}, {"t": "y\\[5\\]"}), ({"a": "X\\[5, 0\\]"}, {"t": "y\\[5\\]"}):
        for column, cell in (where | place).items():
            path, frame = frame_file(tmp_path)
            frame.loc[45, column] = np.nan
            frame.to_parquet(path, row_group_size=20)
            with pytest.raises(ValueError, match=f"{cell} = nan in column '{column}'; fill in") as raised:
                Model([2, 1], output="identity").fit(
                    Stream.from_parquet(path, "t"), epochs=1, batch_size=20, shuffle=False
                )
            assert raised.value.__notes__ == [f"in {path}, row group 2"]


def test_files_that_change_between_epochs(tmp_path):
    path, frame = frame_file(tmp_path)
    np.save(tmp_path / "X.npy", frame[["a", "b"]])
    np.save(tmp_path / "y.npy", frame["t"])
    options = {"epochs": 3, "batch_size": 20, "optimizer": Adam(1e-4)}
    for stream, spoil, file in [
        (Stream.from_parquet(path, "t"), lambda: frame[:3].to_parquet(path), path),
        (Stream.from_parquet(path, "t"), (tmp_path / "f.parquet").unlink, path),
        (
            Stream.from_npy(tmp_path / "X.npy", tmp_path / "y.npy"),
            lambda: [np.save(tmp_path / f"{name}.npy", np.ones((9, 2)[:n])) for n, name in ((1, "y"), (2, "X"))],
            "X.npy",
        ),
        (
            Stream.from_npy(tmp_path / "X.npy", tmp_path / "y.npy"),
            lambda: (tmp_path / "X.npy").write_bytes(b""),
            "X.npy",
        ),
    ]:
        model = Model([2, 1], output="identity", rng=0)
        with pytest.raises((OSError, ValueError)) as raised:
            model.fit(stream, callbacks=[lambda model, spoil=spoil: spoil() and None], **options)
        assert file in "\n".join([str(raised.value), *raised.value.__notes__])
        assert len(model.history.loss) in (1, 2)  # the next epoch's first block may have been read
        frame.to_parquet(path, row_group_size=20)
        np.save(tmp_path / "X.npy", frame[["a", "b"]])
        np.save(tmp_path / "y.npy", frame["t"])


def test_a_stream_of_frames_has_the_columns_of_the_first_one(tmp_path):
    path, frame = frame_file(tmp_path)
    X, y = frame[["a", "b"]], frame["t"]
    model = Model([2, 1], output="identity", rng=0)
    batches = [(X[:30], y[:30]), (X[["b", "a"]][30:], y[30:])]
    with pytest.raises(ValueError, match=r"in their order, .*'b' where 'a' was, column 0") as raised:
        model.fit(Stream(batches, buffer_rows=10), epochs=1, batch_size=10, optimizer=Adam(1e-4))
    assert raised.value.__notes__ == ["in batch 1 of the stream"]
    with pytest.raises(ValueError, match="got no 'a' and also 't'"):
        model.fit(Stream.from_parquet(path, "a"), epochs=1, batch_size=10)


@pytest.mark.parametrize("polars", [False, True])
def test_slices_of_a_frame(polars, data):
    library = pytest.importorskip("polars" if polars else "pandas", reason="it is in the group dev")
    frame = library.DataFrame({name: data[0][:, i] for i, name in enumerate("abcde")} | {"y": data[1]})
    if not polars:
        frame.index = np.linspace(0, 1, N)  # labels that a slice could be taken for
    plain, streamed = new(), new()
    options = {"epochs": 2, "batch_size": 16, "shuffle": False}
    plain.fit(*data, **options)
    streamed.fit(Stream.from_arrays(frame[list("abcde")], frame["y"], buffer_rows=40), **options)
    same(streamed, plain)
    assert streamed.feature_names == tuple("abcde")
    with pytest.raises(ValueError, match="'b' where 'a' was"):
        streamed.fit(Stream.from_arrays(frame[list("bacde")], frame["y"]), **options)


def test_labels_without_samples(data):
    X, y = data
    with pytest.raises(ValueError, match=r"X must hold at least one sample") as raised:
        new().fit(Stream([(X, y), (X[:0], y)]), epochs=1, batch_size=10)
    assert raised.value.__notes__ == ["in batch 1 of the stream"]


def test_a_masked_batch(data):
    X, y = data
    masked = np.ma.masked_array(X, np.arange(X.size).reshape(X.shape) == 3 * WIDTH + 1)
    with pytest.raises(ValueError, match=r"X must hold no masked value, got X\[3, 1\]"):
        new().fit(Stream([(X, y), (masked, y)]), epochs=1, batch_size=10)


def test_bad_sources(data, tmp_path):
    X, y = data
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", y[:-1])
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "empty.npy").write_text("")
    (tmp_path / "zip.npy").write_text("PK\3\4 and nothing")
    np.savez(tmp_path / "z.npz", X)
    for call, error, message in [
        (lambda: Stream(3), TypeError, "batches must be an iterable"),
        (lambda: Stream(X), TypeError, "batches must be an iterable of pairs"),
        (lambda: Stream([], buffer_rows=0), ValueError, "buffer_rows must be at least 1"),
        (lambda: Stream.from_arrays(X, y[:-1]), ValueError, "y must have as many rows as X, 203"),
        (lambda: Stream.from_arrays(X.tolist(), y), TypeError, "X must be an array that can be sliced"),
        (lambda: Stream.from_arrays(X[:0], y[:0]), ValueError, "at least one sample"),
        (lambda: Stream.from_npy(tmp_path / "X.npy", tmp_path / "y.npy"), ValueError, "must have as many rows"),
        (
            lambda: Stream.from_npy(tmp_path / "text.npy", tmp_path / "y.npy"),
            ValueError,
            "text.npy must be a .npy file",
        ),
        *(
            (
                lambda name=name: Stream.from_npy(tmp_path / name, tmp_path / "y.npy"),
                ValueError,
                f"{name} must be a .npy",
            )
            for name in ("empty.npy", "zip.npy", "z.npz")
        ),
        (lambda: Stream.from_npy([], []), ValueError, "at least one file"),
        (lambda: Stream.from_npy([tmp_path / "X.npy"] * 2, tmp_path / "y.npy"), ValueError, "a file for each of X, 2"),
        (lambda: Stream.from_npy(3, 4), TypeError, "X must be a path or a list"),
    ]:
        with pytest.raises(error, match=message):
            call()


@pytest.mark.parametrize("way", WAYS)
def test_reading_ahead_where_no_thread_comes(way, monkeypatch):
    starts, items = Starts(), iter(range(50))
    monkeypatch.setattr(pool, "PATIENCE", 0.002)
    monkeypatch.setattr(pool, "start_new_thread", getattr(starts, way))
    assert list(streams._read_ahead(items)) == list(range(50))
    assert list(streams._read_ahead(iter(range(3)))) == [0, 1, 2]
    assert starts.asked == 2


def test_the_error_of_a_reader_is_that_of_the_caller():
    def items():
        yield 1
        raise OSError("broken")

    read = streams._read_ahead(items())
    assert next(read) == 1
    with pytest.raises(OSError, match="broken"):
        next(read)
