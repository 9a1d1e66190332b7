"""One model that several workers train: the same bits on any engine, and those of models that NumPy averages."""

import copy
import functools
import importlib.util
import os
import pickle
import signal
import warnings
import weakref
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import fastnn
from fastnn import Adam, BatchNorm, CosineDecay, Dense, EarlyStopping, History, Model, Momentum, OneCycle, Stream
from fastnn.data import streams
from fastnn.jobs import workers
from fastnn.jobs.engines import Here
from fastnn.network import threads
from fastnn.training import arguments

from .cluster_fits import OF_RAY

N, WIDTH = 203, 5  # rows; no multiple of what follows

cloudpickle = pytest.importorskip("cloudpickle")
needs_joblib = pytest.mark.skipif(
    not importlib.util.find_spec("joblib"), reason="joblib is not installed: it is in the extra processes"
)


@pytest.fixture(autouse=True)
def few_steps_are_meant():
    """Fits of few steps warn; most tests here make some."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "each of the . workers makes")
        yield


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.standard_normal((N, WIDTH)), rng.integers(0, 3, N)


LAYERS = Dense(7, "relu"), Dense(3, "softmax")
NORMALISED = Dense(7, "relu"), BatchNorm(), Dense(3, "softmax")


def new(dtype="float32", layers=LAYERS, **options):
    return Model([WIDTH, *layers], loss="cross_entropy", dtype=dtype, rng=1, **options)


class Put(NamedTuple):
    """What stands for a value."""

    number: int


class Elsewhere:
    """An engine that calls tasks here, from copies of their arguments, each twice, the last one first."""

    isa, timeout, chunk_seconds, n_workers = None, 10.0, 1.0, 2

    def __init__(self, forget=False):
        """forget: each call is that of a new process."""
        self.calls, self.put_values, self.forget = {}, [], forget

    def start(self):
        pass

    def put(self, value):
        self.put_values.append(pickle.dumps(value))
        return Put(len(self.put_values) - 1)

    def submit(self, function, *arguments):
        ticket = object()
        self.calls[ticket] = cloudpickle.dumps((function, arguments))
        return ticket

    def wait(self, tickets, seconds):
        function, arguments = cloudpickle.loads(self.calls.pop(tickets[-1]))
        for _ in range(2):
            if self.forget:
                workers._open.clear()
            values = (pickle.loads(self.put_values[a.number]) if isinstance(a, Put) else a for a in arguments)
            result = function(*values)
        return [(tickets[-1], result)]

    def cancel(self, tickets):
        self.calls.clear()


@pytest.fixture
def files(data, tmp_path):
    """A function of the number of files: (paths of X, paths of y), files of unequal lengths."""

    def make(n):
        edges = np.linspace(0, np.sqrt(N), n + 1) ** 2
        rows = np.split(np.arange(N), np.round(edges[1:-1]).astype(int))
        paths = [(tmp_path / f"X{n}_{i}.npy", tmp_path / f"y{n}_{i}.npy") for i in range(n)]
        for (x_path, y_path), some in zip(paths, rows, strict=True):
            np.save(x_path, data[0][some])
            np.save(y_path, data[1][some])
        return tuple(map(list, zip(*paths, strict=True)))

    return make


@pytest.fixture
def sources(data, files, tmp_path):
    """A function of a name: the arguments of `fit` that hold the samples."""

    def make(name):
        if name == "arrays":
            return data
        if name == "slices":
            return (Stream.from_arrays(*data, buffer_rows=24),)
        if name == "Parquet":
            pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed: it is in the extra parquet")
            from pyarrow import parquet

            columns = {f"x{i}": data[0][:, i] for i in range(WIDTH)} | {"y": data[1]}
            parquet.write_table(pyarrow.table(columns), tmp_path / "all.parquet", row_group_size=30)
            return (Stream.from_parquet(tmp_path / "all.parquet", "y", buffer_rows=40),)
        return (Stream.from_npy(*files(int(name.split()[0])), buffer_rows=24),)

    return make


SOURCES = ["arrays", "slices", "2 files", "7 files", "Parquet"]


def fitted(samples, engine=None, model=None, **options):
    """A model after a fit."""
    model = new() if model is None else model
    model.fit(*samples, **({"epochs": 3, "batch_size": 8, "optimizer": "adam"} | options), engine=engine)
    return model


CHANGING = {  # by step and by epoch
    "optimizer": fastnn.AdamW(OneCycle(0.02, 78), weight_decay=CosineDecay(0.1, 3, per="epoch")),
    "dropout": CosineDecay(0.3, 3, per="epoch"),
}


def same(model, *others):
    for other in others:
        np.testing.assert_array_equal(other.parameters, model.parameters)
        assert other.history.loss == model.history.loss
        assert other.history.learning_rate == model.history.learning_rate
        assert other._network.random == model._network.random
        assert other._network.noise == model._network.noise


# ---- the same bits on any engine ----


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("average", ["epoch", 3])
@pytest.mark.parametrize(("count", "rules"), [(2, {}), (3, {"dropout": 0.2}), (5, {"shuffle": False})])
def test_the_bits_of_any_engine(sources, source, average, count, rules):
    samples, options = sources(source), {"workers": count, "average": average} | rules
    here = fitted(samples, **options)
    assert np.isfinite(here.history.loss).all()
    engines = Elsewhere(), Elsewhere(forget=True), Here()
    same(here, *[fitted(samples, engine, **options) for engine in engines])


@pytest.mark.parametrize("average", ["epoch", 2])
def test_the_bits_of_any_number_of_threads(data, average, monkeypatch):
    monkeypatch.setattr(threads, "FIT_MULTIPLY_ADDS", 0)
    models = [fitted(data, workers=5, average=average, threads=count) for count in (1, 2, 3)]
    same(*models)


@needs_joblib
def test_the_bits_of_processes(sources):
    engine = fastnn.Processes(n_workers=2)
    for source in ("arrays", "7 files"):
        options = {"workers": 3, "average": 4}
        same(*[fitted(sources(source), each, **options) for each in (None, engine)])


@needs_joblib
@pytest.mark.slow
def test_a_number_of_processes_changes_no_bits(sources):
    for source in SOURCES:
        samples = sources(source)
        models = [fitted(samples, workers=4, average=3)]
        models.append(fitted(samples, fastnn.Processes(n_workers=3), workers=4, average=3))
        same(*models)


@pytest.fixture(scope="module")
def ray():
    """A local cluster of two CPUs."""
    ray = pytest.importorskip("ray", reason="ray is not installed: it is in the extra ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))  # of the workers
        try:
            memory = {"object_store_memory": 100 * 2**20}
            ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR", **memory)
        except Exception as error:  # Ray raises errors of many kinds
            pytest.skip(f"Ray cannot start here: {error}")
        yield fastnn.Ray()
        ray.shutdown()


def on_ray(test):
    """A test that takes a cluster."""
    ignored = pytest.mark.filterwarnings(*OF_RAY)
    return pytest.mark.slow(ignored(test))


@on_ray
def test_the_bits_of_ray(sources, ray):
    for source in ("arrays", "7 files"):
        for average in ("epoch", 4):
            options = {"workers": 3, "average": average}
            same(*[fitted(sources(source), each, **options) for each in (None, ray)])


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("average", ["epoch", 3])
@pytest.mark.parametrize("rules", [{}, {"dropout": 0.2, "input_noise": 0.1}, {"shuffle": False}, CHANGING])
def test_one_worker_has_the_bits_of_a_fit_without_workers(sources, source, average, rules):
    samples = sources(source)
    plain = fitted(samples, **rules)
    for engine in (None, Elsewhere()):
        one = fitted(samples, engine, workers=1, average=average, **rules)
        np.testing.assert_array_equal(one.parameters, plain.parameters)
        np.testing.assert_allclose(one.history.loss, plain.history.loss, rtol=1e-14)
        assert one.history.learning_rate == plain.history.learning_rate
        assert (one._network.random, one._network.noise) == (plain._network.random, plain._network.noise)


@pytest.mark.parametrize("kind", ["shifted", "bytes", "weights", "float64"])
def test_one_worker_on_samples_of_any_kind(data, kind):
    X, y = data
    made, rules = {"dtype": "float64"} if kind == "float64" else {}, {}
    if kind == "shifted":
        made = {"input_shift": np.full(WIDTH, 3.5), "input_scale": np.full(WIDTH, 0.5)}
    elif kind == "bytes":
        X, made = (30 * X + 100).clip(0, 255).astype(np.uint8), {"input_scale": 1 / 255}
    elif kind == "weights":
        rules = {"sample_weight": np.random.default_rng(0).uniform(0, 2, N)}
    plain = fitted((X, y), model=new(**made), **rules)
    one = fitted((X, y), Elsewhere(), new(**made), workers=1, **rules)
    np.testing.assert_array_equal(one.parameters, plain.parameters)
    np.testing.assert_allclose(one.history.loss, plain.history.loss, rtol=1e-12)


def test_a_process_keeps_few_networks(data, monkeypatch):
    monkeypatch.setattr(workers, "MOST_BYTES", 2 * new().parameters.nbytes)
    same(fitted(data, workers=4, average=3), fitted(data, Elsewhere(), workers=4, average=3))
    assert len(workers._open) == 2


def test_workers_share_the_memory_of_a_buffer(data, files, monkeypatch):
    monkeypatch.setattr(streams, "BUFFER_BYTES", 120 * (4 * WIDTH + 4))
    stream = Stream.from_npy(*files(7))

    def lengths(stream):
        check = lambda X, y, w: streams.Samples(X.astype(np.float32), y.astype(np.int32))  # noqa: E731
        return [len(samples.inputs) for samples, _ in stream._chunks(check, 8, None)]

    assert 120 <= lengths(stream)[0] < 140
    for dealt in stream._dealt(3):
        assert sum(lengths(dealt)) == dealt._rows
        assert 40 <= lengths(dealt)[0] < 60


def test_a_process_keeps_no_samples(data, monkeypatch):
    """Of arrays that all processes of a machine share, so that they can be forgotten when the fit has ended."""
    train, seen, left = workers.Shard.train, [], []

    def watched(self, samples, *arguments):
        seen.append(weakref.ref(samples.inputs))
        left.append(sum(array() is not None for array in seen))
        return train(self, samples, *arguments)

    monkeypatch.setattr(workers.Shard, "train", watched)
    fitted(data, Elsewhere(), workers=2, average=3)
    assert len(seen) > 10
    assert max(left) == 1  # those of the round alone
    assert workers._open


# ---- workers that die ----


def _dies_once(path):
    """A `Shard._train` by which a process ends by SIGKILL in the midst of a round, where the path does not exist."""
    train = workers.Shard._train

    def dies(self, *arguments):
        found = train(self, *arguments)
        if not os.path.exists(path):
            open(path, "x").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    return dies


def _call_that_dies(path, function, *arguments):
    before = workers.Shard._train
    workers.Shard._train = _dies_once(path)
    try:
        return function(*arguments)
    finally:
        workers.Shard._train = before


class _Killing:
    """An engine whose first task is killed when it has trained."""

    def __init__(self, engine, path):
        self.engine, self.path = engine, path

    def __getattr__(self, name):
        return getattr(self.engine, name)

    def submit(self, function, *arguments):
        return self.engine.submit(functools.partial(_call_that_dies, self.path), function, *arguments)


@needs_joblib
@pytest.mark.parametrize("source", ["arrays", "7 files"])
def test_a_process_that_is_killed_is_replaced(sources, source, tmp_path):
    path, samples = str(tmp_path / "killed"), sources(source)
    options = {"workers": 3, "average": 4}
    engine = _Killing(fastnn.Processes(n_workers=2), path)
    same(fitted(samples, **options), fitted(samples, engine, **options))
    assert os.path.exists(path)


@on_ray
def test_a_worker_of_ray_that_is_killed_is_replaced(sources, ray, tmp_path):
    path, samples = str(tmp_path / "killed"), sources("7 files")
    options = {"workers": 3, "average": 4}
    same(fitted(samples, **options), fitted(samples, _Killing(ray, path), **options))
    assert os.path.exists(path)


# ---- against models that NumPy averages ----


def vectors_of(model):
    """What an optimizer keeps: its vectors, its numbers."""
    state = model._network.optimizer_state()
    return state[1], state[2]


def averaged(model, shards, rounds, batch_size, optimizer, **rules):
    """Train a model as workers do: copies of it by `Model.fit` on rows of shards, and means by NumPy in float64.

    shards are arrays of row numbers of X; rounds gives, for each round, the slice of its shard that a worker takes.
    """
    X, y = rules.pop("samples")
    for some in rounds:
        copies, rows = [], []
        for shard in shards:
            part = shard[some]
            if not len(part):
                continue
            one = copy.deepcopy(model)
            one.fit(X[part], y[part], epochs=1, batch_size=batch_size, optimizer=optimizer, shuffle=False, **rules)
            copies.append(one)
            rows.append(len(part))
        parameters = np.average([one.parameters.astype(np.float64) for one in copies], axis=0, weights=rows)
        vectors = [vectors_of(one)[0].astype(np.float64) for one in copies]
        kept = copies[int(np.argmax(-(-np.array(rows) // batch_size)))]
        numbers = vectors_of(kept)[1]
        model = copy.deepcopy(kept)
        model.parameters[...] = parameters
        mean = np.average(vectors, axis=0, weights=rows)
        model._network.restore_optimizer(model._network.optimizer, mean.astype(model.dtype), numbers)
    return model


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("steps", [None, 2, 5])
@pytest.mark.parametrize("optimizer", [fastnn.SGD(0.3), Momentum(0.1), Adam(0.02), fastnn.Nadam(0.02)])
def test_the_mean_of_models_that_were_fitted_on_shards(data, count, steps, optimizer):
    shards, batch = [np.arange(N)[i::count] for i in range(count)], 8
    longest = -(-len(shards[0]) // batch)
    edges = range(0, longest * batch, (steps or longest) * batch)
    rounds = [slice(i, i + (steps or longest) * batch) for i in edges] * 2
    want = averaged(new("float64"), shards, rounds, batch, optimizer, samples=data)
    average = "epoch" if steps is None else steps
    found = fitted(
        data,
        model=new("float64"),
        workers=count,
        average=average,
        epochs=2,
        batch_size=batch,
        optimizer=optimizer,
        shuffle=False,
    )
    np.testing.assert_allclose(found.parameters, want.parameters, rtol=1e-11, atol=1e-13)
    for mine, other in zip(vectors_of(found), vectors_of(want), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("count", [2, 3])
def test_shards_of_unequal_sizes_weigh_by_their_rows(data, files, count):
    """The files have 4, 12, 21.. rows, in whole files to the worker with the fewest rows so far."""
    stream = Stream.from_npy(*files(7), buffer_rows=1000)
    sizes = [len(np.load(path)) for path in files(7)[0]]
    assert sum(sizes) == N
    assert len(set(sizes)) > 1
    edges, dealt = np.cumsum([0, *sizes]), [[] for _ in range(count)]
    for i in range(len(sizes)):
        least = min(range(count), key=lambda worker: sum(map(len, dealt[worker])))
        dealt[least].append(np.arange(edges[i], edges[i + 1]))
    shards = [np.concatenate(each) for each in dealt]
    assert len({len(shard) for shard in shards}) > 1
    longest = max(map(len, shards))
    want = averaged(new("float64"), shards, [slice(0, longest)] * 2, 8, Adam(0.02), samples=data)
    options = {"workers": count, "epochs": 2, "optimizer": Adam(0.02), "shuffle": False}
    found = fitted((stream,), model=new("float64"), **options)
    np.testing.assert_allclose(found.parameters, want.parameters, rtol=1e-11, atol=1e-13)


def test_running_statistics_are_averaged_too(data):
    shards = [np.arange(N)[i::2] for i in range(2)]
    rounds = [slice(0, N)] * 2
    want = averaged(new("float64", NORMALISED), shards, rounds, 8, Adam(0.02), samples=data)
    options = {"workers": 2, "epochs": 2, "optimizer": Adam(0.02), "shuffle": False}
    found = fitted(data, model=new("float64", NORMALISED), **options)
    np.testing.assert_allclose(found.parameters, want.parameters, rtol=1e-11, atol=1e-13)
    for name in ("running_mean", "running_variance"):
        np.testing.assert_allclose(found.tensors[1][name], want.tensors[1][name], rtol=1e-11)
        assert (found.tensors[1][name] != new("float64", NORMALISED).tensors[1][name]).all()


def test_a_shuffled_worker_is_a_shuffled_fit(data):
    """The first one draws its orders as the model would; the others from seeds of their own."""
    one, other = (new("float64") for _ in range(2))
    seed = int(np.random.SeedSequence((other._network.random, 1)).generate_state(1, np.uint64)[0])
    other._network.state["random"] = seed
    for model, rows in ((one, slice(0, None, 2)), (other, slice(1, None, 2))):
        model.fit(data[0][rows], data[1][rows], epochs=1, batch_size=8, optimizer="sgd")
    want = (102 * one.parameters + 101 * other.parameters) / N
    found = fitted(data, model=new("float64"), workers=2, epochs=1, optimizer="sgd")
    np.testing.assert_allclose(found.parameters, want, rtol=1e-13, atol=1e-15)
    losses = np.array([one.history.loss[0], other.history.loss[0]])
    assert found.history.loss[0] == pytest.approx(np.average(losses, weights=[102, 101]), rel=1e-13)


def test_what_does_not_train_stays_as_it_is(data, padding):
    model = new("float64", input_scale=0.3)
    model.freeze(0)
    before = model.weights[0].copy()
    fitted(data, model=model, workers=3, average=2, optimizer=Momentum(0.1))
    np.testing.assert_array_equal(model.weights[0], before)
    assert not padding(model).any()


@pytest.mark.parametrize("average", ["epoch", 3])
def test_learning_rates_are_those_of_a_workers_steps(data, average):
    steps = -(-68 // 8)  # of the first worker's 68 rows
    by_step = fitted(data, workers=3, average=average, optimizer=Adam(OneCycle(0.02, 3 * steps)))
    rates = OneCycle(0.02, 3 * steps).rates(0, 3 * steps)
    assert by_step.history.learning_rate == rates[steps - 1 :: steps].tolist()
    by_epoch = fitted(data, workers=3, average=average, optimizer=Adam(CosineDecay(0.02, 3, per="epoch")))
    assert by_epoch.history.learning_rate == CosineDecay(0.02, 3, per="epoch").rates(0, 3).tolist()


@pytest.mark.parametrize("average", ["epoch", 1])
def test_learning_rates_are_those_of_steps_that_were_taken(data, average):
    """A batch of no weight is no step: of the first worker's batches of 8, 3 have a weight, and of the others' all."""
    rows = np.arange(N)
    weights = np.where((rows % 3 == 0) & (rows >= 3 * 24), 0.0, 1.0)
    rates = OneCycle(0.02, 27)
    options = {"shuffle": False, "workers": 3, "average": average, "optimizer": Momentum(rates)}
    model = fitted(data, sample_weight=weights, **options)
    assert model.history.learning_rate == rates.rates(0, 27)[[8, 17, 26]].tolist()
    weights = np.where(rows >= 3 * 24, 0.0, 1.0)  # then nobody takes a step at the end
    model = fitted(data, sample_weight=weights, **options)
    assert model.history.learning_rate == rates.rates(0, 27)[[2, 5, 8]].tolist()


def test_weights_and_noise_and_penalties(data):
    weights = np.random.default_rng(2).uniform(0, 2, N)
    options = {"sample_weight": weights, "class_weight": {1: 2.0}, "l2": 0.01, "input_noise": 0.1}
    options |= {"workers": 2, "average": 3, "dropout": CosineDecay(0.3, 3, per="epoch"), "max_norm": 1.0}
    same(fitted(data, **options), fitted(data, Elsewhere(), **options))


# ---- what a fit is beside its workers ----


@pytest.mark.parametrize("average", ["epoch", 3])
@pytest.mark.parametrize("way", ["further fit", "file", "pickle"])
def test_a_fit_goes_on(data, average, way, tmp_path):
    options = {"workers": 3, "average": average, "optimizer": Adam(CosineDecay(0.02, 4, per="epoch"))}
    once, twice = fitted(data, epochs=4, **options), fitted(data, epochs=1, **options)
    history = twice.history
    if way == "file":
        twice.save(tmp_path / "m.safetensors")
        twice = fastnn.load(tmp_path / "m.safetensors")
    elif way == "pickle":
        twice = pickle.loads(pickle.dumps(twice))
    fitted(data, model=twice, epochs=3, history=history, **options)
    same(once, twice)


def test_a_driver_resumes_from_a_checkpoint(data, tmp_path):
    options, path = {"workers": 2, "epochs": 5, "average": 3}, tmp_path / "m.safetensors"
    once = fitted(data, **options)

    class Died(Exception):
        pass

    def die(model):
        if len(model.history.loss) == 3:
            raise Died

    saving = fastnn.ModelCheckpoint(path, save_best_only=False)
    with pytest.raises(Died):
        fitted(data, callbacks=[saving, die], **options)
    again = fastnn.load(path)
    fitted(data, model=again, **options | {"epochs": 2})
    np.testing.assert_array_equal(again.parameters, once.parameters)
    assert again.history.loss == once.history.loss[3:]


def test_validation_callbacks_and_early_stopping(data):
    seen, stopping = [], EarlyStopping("val_loss", patience=2)
    found = fitted(
        data,
        workers=2,
        epochs=200,
        optimizer=Adam(0.05),
        validation_data=(data[0][:40], data[1][:40][::-1].copy()),
        train_metric=True,
        callbacks=[lambda model: seen.append(model.parameters.copy()), stopping],
    )
    history = found.history
    assert len(seen) == len(history.loss) < 200
    assert stopping.best == min(history.val_loss)
    np.testing.assert_array_equal(found.parameters, seen[stopping.best_epoch - 1])
    assert found.loss(data[0][:40], data[1][:40][::-1].copy()) == pytest.approx(stopping.best)
    assert set(history.metrics) == {"val_accuracy", "accuracy"}


def test_callbacks_that_change_the_model(data):
    def change(model):
        model.learning_rate = 0.01
        if len(model.history.loss) == 2:
            model.freeze(0)
            kept.append(model.weights[0].copy())
        model.biases[1][...] = 0.5

    models, kept = [], []
    for engine in (None, Elsewhere()):
        options = {"workers": 2, "callbacks": [change], "epochs": 4, "optimizer": Adam(0.02)}
        models.append(fitted(data, engine, **options))
    same(*models)
    assert models[0].history.learning_rate == [0.02, 0.01, 0.01, 0.01]
    np.testing.assert_array_equal(models[0].weights[0], kept[0])


@pytest.mark.parametrize("average", ["epoch", 3])
def test_ctrl_c_leaves_the_last_epoch(data, average, interrupt_after):
    epochs = []
    for calls in (3, 20, 60, 150):
        model = new()
        with interrupt_after(calls):
            fitted(data, model=model, epochs=10, workers=2, average=average)
        epochs.append(len(model.history.loss))
        assert len(model.history.loss) < 10
        whole = fitted(data, epochs=len(model.history.loss), workers=2, average=average)
        np.testing.assert_array_equal(model.parameters, whole.parameters)
        fitted(data, model=model, epochs=10 - epochs[-1], workers=2, average=average, history=model.history)
        same(fitted(data, epochs=10, workers=2, average=average), model)
    assert epochs[0] == 0 < epochs[-1]


def test_ctrl_c_ends_the_tasks(data):
    class Interrupted(Elsewhere):
        def wait(self, tickets, seconds):
            if len(tickets) == 1:
                raise KeyboardInterrupt
            return super().wait(tickets, seconds)

    engine = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        fitted(data, engine, workers=2)
    assert engine.calls == {}


@pytest.mark.parametrize("engine", [None, Elsewhere()])
def test_divergence(data, engine, monkeypatch, capfd):
    monkeypatch.setattr(threads, "FIT_MULTIPLY_ADDS", 0)
    model = fitted(data, workers=2, epochs=1, optimizer="sgd")
    before = model.parameters.copy()
    with pytest.raises(fastnn.DivergenceError, match=r"diverged in epoch 1: .*the parameters after 0 epochs") as error:
        fitted((1e30 * data[0], data[1]), engine, model, workers=2, optimizer=fastnn.SGD(1e30))
    assert error.value.epoch == 1
    np.testing.assert_array_equal(model.parameters, before)
    assert capfd.readouterr().err == ""


def test_an_error_in_a_file_names_it(data, files):
    paths = files(3)
    stream = Stream.from_npy(*paths, buffer_rows=24)
    X = np.load(paths[0][2])
    X[-1, 0] = np.nan
    np.save(paths[0][2], X)
    for engine in (None, Elsewhere()):
        with pytest.raises(ValueError, match=r"X must be finite in float32, got .* = nan") as error:
            fitted((stream,), engine, workers=3)
        assert any(str(paths[0][2]) in note for note in error.value.__notes__)


def test_a_file_that_is_missing_on_a_machine(files):
    paths = files(3)
    stream = Stream.from_npy(*paths)
    paths[1][2].unlink()
    for engine in (None, Elsewhere()):
        model = new()
        before = model.parameters.copy()
        with pytest.raises(FileNotFoundError, match=r"y3_2\.npy") as error:
            fitted((stream,), engine, model, workers=3)
        assert any(note.startswith(f"in {paths[0][2]}, rows") for note in error.value.__notes__)
        np.testing.assert_array_equal(model.parameters, before)


def test_samples_that_cannot_be_sent(data):
    class Kept(np.ndarray):
        def __reduce_ex__(self, protocol):
            raise TypeError("it stays here")

    stream = Stream.from_arrays(data[0].view(Kept), data[1])
    fitted((stream,), workers=2)
    model, history = new(), History()
    with pytest.raises(TypeError, match="it stays here") as error:
        fitted((stream,), Elsewhere(), model, workers=2, history=history)
    assert "from_npy and from_parquet send the names of files" in error.value.__notes__[0]
    assert history.loss == []
    fitted((stream,), model=model, workers=2)


def test_all_files_must_be_of_one_kind(data, files):
    paths = files(3)
    np.save(paths[1][2], np.eye(3)[np.load(paths[1][2])])
    with pytest.raises(ValueError, match="class indices in y, or none; the first rows have them"):
        fitted((Stream.from_npy(*paths),), workers=3)


def test_progress_and_lines(data, capsys):
    fitted(data, workers=2, epochs=2, verbose=1)
    assert capsys.readouterr().out.count("loss") == 2


def test_few_steps_are_warned_of(data, files, monkeypatch):
    """The steps of the worker with the most rows, in the epochs of the History too."""
    stream = Stream.from_npy(*files(7))
    rows = max(each._rows for each in stream._dealt(3))
    assert 68 < rows < 100  # the files are unequal
    for samples, steps, alone in ((data, 3 * 9, 3 * 26), ((stream,), 3 * -(-rows // 8), 3 * 26)):
        text = f"each of the 3 workers makes {steps} steps in 3 epochs, a fit without workers {alone}"
        with pytest.warns(UserWarning, match=text):
            fitted(samples, workers=3)
    monkeypatch.setattr(arguments, "FEW_STEPS", 37)
    model = new()
    with pytest.warns(UserWarning, match=r"makes 36 steps .* fewer than 37 .* up to 3 times as large"):
        fitted(data, model=model, workers=3, epochs=4)
    for options in ({"workers": 3, "epochs": 1, "history": model.history}, {"workers": 1}, {}):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            fitted(data, model=model, **options)


@pytest.mark.parametrize(("average", "between"), [("epoch", 9), (8, 8), (7, None), (100, 9)])
def test_many_steps_between_averages_are_warned_of(data, monkeypatch, average, between):
    monkeypatch.setattr(arguments, "FEW_STEPS", 0)
    monkeypatch.setattr(arguments, "MANY_STEPS", 7)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        fitted(data, workers=3, average=average)
    texts = [] if between is None else [f"workers make {between} steps between two averages"]
    assert [str(each.message).partition(".")[0] for each in found] == texts
    assert all(each.filename.endswith("test_workers.py") for each in found)


# ---- dealing ----


def test_files_and_row_groups_are_dealt(files, sources):
    def rows(stream):
        return [[(piece.file, piece.first, piece.stop) for piece in each._source.pieces] for each in stream._dealt(3)]

    files_of = {path: worker for worker, dealt in enumerate(rows(Stream.from_npy(*files(7)))) for path, *_ in dealt}
    assert len(files_of) == 7
    assert set(files_of.values()) == {0, 1, 2}
    cut = rows(Stream.from_npy(*files(2)))  # parts of files
    assert sum(stop - first for dealt in cut for _, first, stop in dealt) == N
    sizes = [sum(stop - first for _, first, stop in dealt) for dealt in cut]
    assert max(sizes) - min(sizes) <= 2
    (groups,) = sources("Parquet")
    assert [len(dealt) for dealt in rows(groups)] == [3, 2, 2]  # of 7 row groups, the last one of 23 rows


# ---- refused ----


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"workers": 0}, ValueError, "workers must be at least 1"),
        ({"workers": 2.5}, TypeError, "workers must be an integer"),
        ({"workers": N + 1}, ValueError, f"workers must be at most the number of samples, {N}, got {N + 1}"),
        ({"workers": 2, "average": 0}, ValueError, "average must be at least 1"),
        ({"workers": 2, "average": "step"}, ValueError, "average must be 'epoch' or a number of steps, got 'step'"),
        ({"average": 3}, ValueError, "average needs workers="),
        ({"engine": "processes"}, ValueError, "engine needs workers="),
        ({"workers": 2, "engine": "dask"}, TypeError, "engine must be None, 'processes', 'ray'"),
        ({"workers": 2, "optimizer": fastnn.LBFGS(), "batch_size": N}, ValueError, "LBFGS takes all samples"),
        ({"workers": 2, "optimizer": "rprop", "batch_size": N}, ValueError, "rprop takes all samples"),
        ({"workers": 2, "shuffle": np.zeros((3, N), int)}, TypeError, "shuffle must be True or False with workers"),
    ],
)
def test_refused(data, options, error, text):
    model = new()
    before = model.parameters.copy()
    with pytest.raises(error, match=text):
        fitted(data, model=model, **options)
    np.testing.assert_array_equal(model.parameters, before)
    assert model.history is None


def test_refused_samples(data):
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed: it is in the extra sklearn")
    with pytest.raises(TypeError, match="X must be dense with workers"):
        fitted((sparse.csr_matrix(data[0]), data[1]), workers=2)
    with pytest.raises(ValueError, match="a Stream must be made by from_parquet, from_npy or from_arrays"):
        fitted((Stream([data]),), workers=2)
    some = data[0][:98], data[1][:98]
    fitted(some, model=new(layers=NORMALISED))
    with pytest.raises(ValueError, match="batches of two rows or more for BatchNorm, got 8 for 33 samples"):
        fitted(some, model=new(layers=NORMALISED), workers=3)  # 33, 33 and 32 rows


def test_too_few_row_groups(data, tmp_path):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: it is in the extra parquet")
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"x": data[0][:, 0], "y": data[1]}), tmp_path / "one.parquet")
    model = Model([1, 3], output="softmax", loss="cross_entropy")
    with pytest.raises(ValueError, match="a file, a row group or a row for each of the workers, 2, got 1"):
        fitted((Stream.from_parquet(tmp_path / "one.parquet", "y"),), model=model, workers=2)


def test_a_history_is_filled(data):
    history = History()
    fitted(data, workers=2, history=history)
    assert len(history.loss) == len(history.seconds) == 3
