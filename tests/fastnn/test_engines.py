"""Engines: what is cut into tasks has the bits that it has in one call, whatever happens to workers."""

import itertools
import os
import signal
import time
from contextlib import suppress

import numpy as np
import pytest

import fastnn
from fastnn import SGD, Adam, AdamW, CosineDecay, Halving, Momentum, Patience, Population, RateFunction, StepDecay
from fastnn.jobs import engines
from fastnn.jobs.checkpoints import digest
from fastnn.jobs.cuts import Cuts
from fastnn.jobs.nodes import ENVIRONMENTS, Node
from fastnn.kernels.cpu.target import HOST

from . import cluster_fits
from .engines import Calls

rng = np.random.default_rng(3)
N, ROWS = 90, 60
RECORDED = "loss", "val_loss", "epochs", "status", "best_epoch"
KEPT = "random", "noise", "numbers"


@pytest.fixture(autouse=True)
def short_parts(monkeypatch):
    """Parts are of few members, so that there are many."""
    monkeypatch.setattr("fastnn.jobs.cuts.GROWTH", 1e-3)


def population(n=N, **settings):
    settings = {"activation": "tanh", "output": "identity", "rng": 11} | settings
    return Population([3, 8, 1], n, **settings)


def samples(*shape):
    X = rng.standard_normal((*shape, 3))
    return X, np.sin(X[..., 0]) + 0.1 * rng.standard_normal(shape)


def common(**others):
    X, y = samples(ROWS)
    return {"X": X, "y": y, "epochs": 5, "batch_size": 16, "optimizer": Adam(0.01)} | others


def own_numbers():
    """Every number is an array."""
    ones = np.linspace(0.01, 0.2, N)
    return common(
        epochs=np.arange(N) % 6 + 1,
        batch_size=np.array([8, 16, 30])[np.arange(N) % 3],
        optimizer=Adam(ones, beta1=1 - ones, clip_norm=10 * ones),
        l2=ones * (np.arange(N) % 2),
        l1=ones,
        max_norm=np.where(np.arange(N) % 4, np.nan, 2.0),
        dropout=ones * (np.arange(N) > 20),
        input_noise=ones * (np.arange(N) < 3),
        validation_fraction=0.2,
    )


def own_samples():
    X, y = samples(N, ROWS)
    held = samples(N, 9)
    return common(X=X, y=y, sample_weight=rng.uniform(0.1, 2, (N, ROWS)), validation_data=held)


def ragged_samples():
    edges = np.append(0, np.cumsum(rng.integers(2, 30, N)))
    X, y = samples(edges[-1])
    return common(X=(X, edges), y=y, sample_weight=rng.uniform(0.1, 2, len(X)))


def rows_of_members():
    return common(rows=rng.integers(0, 3, (N, ROWS)), validation_data="rest", optimizer=Momentum(0.01))


def schedules():
    start = np.linspace(0.01, 0.3, N)
    return common(
        optimizer=AdamW(CosineDecay(start / 10, length=5), weight_decay=CosineDecay(start, length=4)),
        dropout=StepDecay(start, every=2),
    )


def one_for_each():
    kinds = SGD(0.1), Adam(0.02), Momentum(0.05, nesterov=True)
    return common(optimizer=[kinds[i % 3] for i in range(N)], validation_data=(*samples(20), np.ones(20)))


def halving(validation_fraction=None):
    start = np.linspace(0.01, 0.3, N)
    rates = np.append(np.geomspace(1e-4, 0.1, N - 1), 1e6)
    order = validation_fraction is not None or np.array([rng.permutation(ROWS) for _ in range(30)])
    stopping = Halving(eta=3, min_epochs=3)
    further = {"shuffle": order, "validation_fraction": validation_fraction}
    return common(epochs=30, optimizer=SGD(rates), stopping=stopping, dropout=StepDecay(start, every=4), **further)


def patient():
    patience = Patience(np.arange(N) % 3 + 1, keep_last=True)
    return common(epochs=20, optimizer=SGD(np.geomspace(0.01, 1.5, N)), stopping=patience, validation_fraction=0.25)


def diverging():
    return common(optimizer=SGD(np.where(np.arange(N) % 5, 0.1, 1e30)), epochs=np.where(np.arange(N) % 3, 3, 0))


CASES = {
    "own numbers": own_numbers,
    "own samples": own_samples,
    "ragged samples": ragged_samples,
    "rows of members": rows_of_members,
    "schedules": schedules,
    "one for each": one_for_each,
    "halving": halving,
    "halving by validation": lambda: halving(validation_fraction=0.2),
    "patient": patient,
    "diverging": diverging,
    "of a function": lambda: common(optimizer=Adam(RateFunction(lambda t: 0.01 / (1 + t)))),
}


def assert_same(found, expected):
    """Equal members, whose further fits are equal too, and equal histories."""
    np.testing.assert_array_equal(found.vectors, expected.vectors)
    for name in KEPT:
        np.testing.assert_array_equal(found._members.states[name], expected._members.states[name])
    for name in RECORDED:
        np.testing.assert_array_equal(getattr(found.history, name), getattr(expected.history, name))


def fitted(arguments, made=population, **others):
    found = made()
    X, y = arguments["X"], arguments["y"]
    given = found.fit(X, y, **{name: value for name, value in arguments.items() if name not in ("X", "y")}, **others)
    assert given is found.history
    return found


# ---- the same bits ----


@pytest.mark.parametrize("case", CASES)
def test_members_have_the_bits_of_one_fit(case):
    arguments, engine = CASES[case](), Calls()
    expected, found = fitted(arguments), fitted(arguments, engine=engine)
    assert engine.ended > 2
    assert len(engine.puts) == 1
    assert_same(found, expected)
    again = common(epochs=2, optimizer=arguments["optimizer"])
    for each in (found, expected):
        each.fit(again["X"], again["y"], epochs=2, batch_size=16, optimizer=arguments["optimizer"])
    assert_same(found, expected)


@pytest.mark.parametrize("case", [name for name in CASES if name != "of a function"])
def test_a_checkpoint_is_gone_on_from(case, tmp_path):
    """A fit that is interrupted in the middle leaves chunks that another one takes over."""
    arguments, engine = CASES[case](), Calls()
    expected = fitted(arguments)
    engine.before = interrupting_after(2)
    with pytest.raises(KeyboardInterrupt):
        fitted(arguments, engine=engine, checkpoint=tmp_path)
    further = Calls()
    assert_same(fitted(arguments, engine=further, checkpoint=tmp_path), expected)
    done = further.ended
    assert done > 0
    assert_same(fitted(arguments, engine=further, checkpoint=tmp_path), expected)
    assert_same(fitted(arguments, checkpoint=tmp_path), expected)
    assert further.ended == done


def interrupting_after(n):
    def before(engine):
        if engine.ended == n:
            raise KeyboardInterrupt

    return before


@pytest.mark.parametrize(
    "settings",
    [
        {"dtype": "float64"},
        {"input_shift": np.linspace(-1, 1, 3 * N).reshape(N, 3), "input_scale": np.ones(3)},
        {"input_shift": [1e3, 2, 3]},
        {"rng": range(N, 0, -1)},
        {"rng": None},
    ],
    ids=repr,
)
def test_populations_of_other_kinds(settings, tmp_path):
    arguments, start = own_numbers(), population(**settings)
    expected = fitted(arguments, lambda: start[:])
    assert_same(fitted(arguments, lambda: start[:], engine=Calls()), expected)
    for _ in range(2):
        assert_same(fitted(arguments, lambda: start[:], checkpoint=tmp_path), expected)


def test_layers_that_lanes_do_not_hold_and_own_functions(tmp_path):
    def value(z):
        return z / (1 + abs(z))

    def slope(z):
        return 1 / (1 + abs(z)) ** 2

    def made():
        layers = [3, fastnn.Dense(6, fastnn.Activation(value, slope)), fastnn.LayerNorm(), 1]
        return Population(layers, 9, output="identity", rng=0)

    arguments = common()
    expected = fitted(arguments, made)
    assert_same(fitted(arguments, made, engine=Calls()), expected)
    for _ in range(2):
        assert_same(fitted(arguments, made, checkpoint=tmp_path), expected)


def test_a_further_fit_goes_on_where_optimizers_are_equal(tmp_path):
    """The others begin theirs afresh."""
    arguments = common(optimizer=Adam(np.linspace(0.01, 0.02, N)))
    start = fitted(arguments)
    further = common(optimizer=Adam(np.where(np.arange(N) % 2, 0.015, np.linspace(0.01, 0.02, N))))
    expected = fitted(further, lambda: start[:])
    assert_same(fitted(further, lambda: start[:], engine=Calls()), expected)
    for _ in range(2):
        assert_same(fitted(further, lambda: start[:], checkpoint=tmp_path), expected)
    assert (
        expected[2]._network.optimizer_state()[2].ravel().tolist()
        != expected[3]._network.optimizer_state()[2].ravel().tolist()
    )


def test_processes_have_the_same_bits():
    arguments = own_numbers()
    expected = fitted(arguments)
    assert_same(fitted(arguments, engine=fastnn.Processes(2)), expected)


# ---- ends before the end ----


def test_ctrl_c_keeps_the_chunks_that_have_ended():
    arguments, engine = common(), Calls()
    expected, start, found = fitted(arguments), population(), population()
    engine.before = interrupting_after(2)
    with pytest.raises(KeyboardInterrupt):
        fitted(arguments, lambda: found, engine=engine)
    done = found.history.epochs == 5
    assert 0 < done.sum() < N
    assert set(found.history.epochs.tolist()) == {0, 5}
    assert set(found.history.status[~done].tolist()) == {"stopped"}
    np.testing.assert_array_equal(found.vectors, np.where(done[:, None], expected.vectors, start.vectors))
    np.testing.assert_array_equal(found.history.loss[done], expected.history.loss[done])
    assert len(engine.cancelled) == len(engine.begun) - 2


def test_max_time_ends_a_fit_between_chunks(tmp_path):
    """A chunk that has begun ends its epoch; what was cut short is trained again from a checkpoint."""
    arguments, engine = common(epochs=4000, validation_fraction=0.2), Calls()
    engine.before = lambda _: time.sleep(0.2)
    found = fitted(arguments, max_time=0.1, engine=engine, checkpoint=tmp_path)
    epochs = found.history.epochs
    assert 0 < epochs.max() < 4000
    assert set(found.history.status.tolist()) == {"stopped"}
    with pytest.raises(ValueError, match="max_time must be a finite number above 0"):
        fitted(arguments, max_time=0.0, engine=engine)
    short = common(epochs=3)
    assert_same(fitted(short, engine=Calls(), max_time=1e4), fitted(short))
    assert not list(tmp_path.glob("*.safetensors"))


def test_progress_counts_the_epochs_of_chunks_that_have_ended(capsys):
    fitted(common(), engine=Calls(), verbose=1, progress=True)
    out, bar = capsys.readouterr()
    assert f"{N} of {N} members have ended  least loss " in out
    assert f"{5 * N}/{5 * N}" in bar


# ---- errors ----


def test_an_error_of_a_task_names_its_members():
    def rate(t):
        return 0.1 if t < 20 else -1.0

    with pytest.raises(ValueError, match="learning_rate of step 20 must be a finite number at least 0") as error:
        fitted(common(epochs=9, optimizer=SGD(RateFunction(rate, per="step"))), engine=Calls())
    assert error.value.__notes__[0].startswith("in the fit of members [")


def test_a_worker_of_another_kind_is_refused():
    here = Node.here()
    for other, what in (
        (here._replace(cpu="AMD, 256 bits"), "a node of the engine must have cpu .*isa='avx2'"),
        (here._replace(fastnn="0.0"), "a node of the engine must have fastnn .* got 0.0"),
    ):
        found = population()
        with pytest.raises(ValueError, match=what):
            fitted(common(), lambda found=found: found, engine=Calls(node=other))
        np.testing.assert_array_equal(found.vectors, population().vectors)
    engine = Calls(node=here._replace(cpu="avx2"))
    engine.isa, arguments = "avx2", common()
    assert_same(fitted(arguments, engine=engine), fitted(arguments))


def test_a_wait_ends():
    engine = Calls()
    engine.wait, engine.timeout = lambda tickets, seconds: [], 0.5
    with pytest.raises(TimeoutError, match=r"no task of 6 ended in 0.5 s .*: the fit of members \["):
        fitted(common(), engine=engine)


@pytest.mark.parametrize("wrong", ["dask", 3, object()], ids=["name", "number", "object"])
def test_what_is_no_engine(wrong):
    with pytest.raises(TypeError, match=r"engine must be None, 'processes', 'ray', or a fastnn\.Processes"):
        fitted(common(), engine=wrong)


def test_a_name_stands_for_one_engine():
    assert isinstance(engines.engine_of("processes"), fastnn.Processes)
    assert engines.engine_of("processes") is engines.engine_of("processes")
    assert engines.engine_of(None) is None


# ---- checkpoints ----

CHANGES = {
    "epochs": {"epochs": 6},
    "batch_size": {"batch_size": 15},
    "optimizer": {"optimizer": Adam(0.02)},
    "l2": {"l2": 0.1},
    "dropout": {"dropout": StepDecay(0.1, every=2)},
    "stopping": {"stopping": Patience(3)},
    "shuffle": {"shuffle": False},
    "X": {"X": np.ones((ROWS, 3))},
    "y": {"y": np.ones(ROWS)},
    "sample_weight or class_weight": {"sample_weight": np.ones(ROWS)},
    "rows or validation_fraction": {"rows": np.ones((N, ROWS), bool)},
    "validation_data": {"validation_data": (np.ones((4, 3)), np.ones(4))},
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_checkpoint_of_another_call_is_refused(name, tmp_path):
    arguments = common()
    fitted(arguments, checkpoint=tmp_path)
    found = population()
    with pytest.raises(ValueError, match=f"where these differ: {name};"):
        fitted(arguments | CHANGES[name], lambda: found, checkpoint=tmp_path)
    np.testing.assert_array_equal(found.vectors, population().vectors)
    assert found.history is None


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"rng": 12}, "parameters, seeds"),
        ({"loss": "huber"}, "architecture"),
        ({"n": 80}, "parameters, seeds, the optimizers' state, X, y"),
    ],
    ids=["seed", "architecture", "members"],
)
def test_a_checkpoint_of_another_population_is_refused(settings, names, tmp_path):
    arguments = common()
    fitted(arguments, checkpoint=tmp_path)
    with pytest.raises(ValueError, match=f"where these differ: {names}"):
        fitted(arguments, lambda: population(**settings), checkpoint=tmp_path)


def test_a_checkpoint_of_another_machine_or_version_is_refused(tmp_path, monkeypatch):
    arguments, here = common(), Node.here()
    fitted(arguments, checkpoint=tmp_path)
    monkeypatch.setattr(Node, "here", lambda: here._replace(cpu="other", fastnn="0.0"))
    with pytest.raises(ValueError, match=r"differ: fastnn \(.* then, 0.0 now\), cpu \(.* then, other now\)"):
        fitted(arguments, checkpoint=tmp_path)


def test_a_checkpoint_takes_no_function(tmp_path):
    for arguments in (
        common(optimizer=SGD(RateFunction(lambda t: 0.1 + 0 * t))),
        common(dropout=RateFunction(lambda t: 0.1 + 0 * t, per="epoch")),
    ):
        with pytest.raises(ValueError, match="must hold no function with checkpoint"):
            fitted(arguments, checkpoint=tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_a_folder_holds(tmp_path):
    """A chunk's file is a population's, which `load` reads. A file that was changed is refused."""
    arguments = common()
    found = fitted(arguments, checkpoint=tmp_path / "deep" / "run")
    files = sorted((tmp_path / "deep" / "run").iterdir())
    assert [each.name for each in files] == [
        *(f"chunk-{i:06}.safetensors" for i in range(len(files) - 1)),
        "manifest.json",
    ]
    parts = [fastnn.load(each) for each in files[:-1]]
    seeds = np.concatenate([part.seeds for part in parts])
    vectors = np.concatenate([part.vectors for part in parts])
    np.testing.assert_array_equal(vectors[np.argsort(seeds)], found.vectors)
    content = bytearray(files[0].read_bytes())
    content[-1] ^= 1
    files[0].write_bytes(content)
    with pytest.raises(ValueError, match="does not match the checksum"):
        fitted(arguments, checkpoint=files[0].parent)


def test_folders_that_are_none(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="checkpoint must name a folder"):
        fitted(common(), checkpoint=tmp_path / "file")
    with pytest.raises(TypeError, match="checkpoint must be a string or a path object, got 3"):
        fitted(common(), checkpoint=3)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(ValueError, match="checkpoint must be a folder of fastnn's"):
        fitted(common(), checkpoint=tmp_path)


def test_checksums_tell_values_apart():
    values = [0, 0.0, "0", None, [0], [[0]], [0, 0], {"a": 0}, np.zeros(1), np.zeros((1, 1)), np.zeros(1, np.float32)]
    values += [np.zeros(0), StepDecay, [0, [0]], [[0, 0]]]
    found = [digest(each) for each in values]
    assert len(set(found)) == len(values)
    assert found == [digest(each) for each in values]


# ---- how long tasks are ----


def test_parts_last_about_as_long_as_wanted(monkeypatch):
    monkeypatch.setattr("fastnn.jobs.cuts.GROWTH", 1e9)
    work = rng.uniform(1, 3, 1000)
    cuts, parts = Cuts(work, seconds=1.0, workers=3, least=8), []
    while (part := cuts.next()) is not None:
        parts.append(part)
        cuts.note(part, work[part.items].sum() * 0.01)
    assert (parts[0].start, parts[-1].stop) == (0, 1000)
    assert all(a.stop == b.start for a, b in itertools.pairwise(parts))
    lengths = [part.stop - part.start for part in parts]
    assert lengths[0] == 8
    assert all(each % 8 == 0 for each in lengths[:-1])
    middle = [work[part.items].sum() * 0.01 for part in parts[1:] if part.stop < 800]
    assert all(0.8 < each < 1.3 for each in middle)
    assert lengths[-1] <= 8  # the end is shared among workers


# ---- workers die ----


class Deadly(fastnn.Processes):
    """Kills a worker when the first task has ended, so many times."""

    kills = 1
    tries = 0

    def wait(self, tickets, seconds):
        found = super().wait(tickets, seconds)
        if self.kills and found:
            self.kills -= 1
            os.kill(next(iter(self._executor._processes)), signal.SIGKILL)
        return found

    def _begin(self, ticket, tries, call):
        self.tries += tries > 0
        super()._begin(ticket, tries, call)


@pytest.mark.slow
def test_a_process_that_is_killed_is_replaced():
    arguments = common(epochs=300)
    engine = Deadly(2)
    found = fitted(arguments, engine=engine)
    assert engine.kills == 0
    assert engine.tries > 0
    assert_same(found, fitted(arguments))


@pytest.mark.slow
def test_processes_that_die_between_two_fits_are_replaced():
    arguments, engine = common(), fastnn.Processes(1)
    expected = fitted(arguments)
    for _ in range(2):
        assert_same(fitted(arguments, engine=engine), expected)
        for pid, process in list(engine._executor._processes.items()):
            os.kill(pid, signal.SIGKILL)
            process.join()


@pytest.mark.slow
def test_a_process_that_always_dies_is_an_error():
    class Dying(fastnn.Processes):
        def _begin(self, ticket, tries, call):
            super()._begin(ticket, tries, (os._exit, 3))

    engine, found = Dying(1, retries=1), population()
    with pytest.raises(RuntimeError, match="a task's process died 2 times"):
        fitted(common(), lambda: found, engine=engine)
    assert found.history.epochs.sum() == 0
    with suppress(AttributeError):
        engine._executor.shutdown(kill_workers=True)


@pytest.mark.slow
def test_an_instruction_set_has_its_bits_on_any_cpu(run_python, tmp_path):
    """Those of a process that has AVX2 code from its start, which gives a reference."""
    if "+avx2" not in HOST.features:
        pytest.skip("this CPU has no AVX2")
    source = (
        "import sys, numpy as np; from tests.fastnn.cluster_fits import fitted; np.save(sys.argv[1], fitted().vectors)"
    )
    run_python(source, tmp_path / "vectors.npy", **ENVIRONMENTS["avx2"])
    found = cluster_fits.fitted(engine=fastnn.Processes(2, isa="avx2"), checkpoint=tmp_path / "run")
    np.testing.assert_array_equal(found.vectors, np.load(tmp_path / "vectors.npy"))
    with pytest.raises(ValueError, match=r"differ: cpu \(avx2 then"):
        cluster_fits.fitted(checkpoint=tmp_path / "run")


def test_a_fork_has_processes_of_its_own():
    """And leaves the files of its parent alone."""
    engine = fastnn.Processes(1)
    reference = engine.put(np.arange(5))
    child = os.fork()
    if child == 0:
        ticket = engine.submit(len, [1, 2])
        right = engine.wait([ticket], 60) == [(ticket, 2)]
        engine.cancel([])
        del reference
        os._exit(0 if right else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert os.path.exists(reference.place.path)


def test_a_process_leaves_no_files():
    engine = fastnn.Processes(1)
    reference = engine.put({"x": np.arange(5.0), "f": lambda: 3})
    path = reference.place.path
    ticket = engine.submit(_look, reference)
    ((found, result),) = engine.wait([ticket], 60)
    assert (found, result) == (ticket, (10.0, 3, False))
    assert os.path.exists(path)
    del reference
    assert not os.path.exists(path)
    engine.cancel([])


def _look(value):
    return float(value["x"].sum()), value["f"](), value["x"].flags.writeable


# ---- networks of groups ----


def table():
    """Groups of all kinds: some are too small, constant, with a missing number, or a category without rows."""
    pandas = pytest.importorskip("pandas")
    counts = rng.integers(1, 30, 150)
    keys = np.repeat(np.arange(150), counts)
    frame = pandas.DataFrame({"a": rng.standard_normal(len(keys)), "b": rng.standard_normal(len(keys))})
    frame["y"] = np.where(keys % 9, np.sin(frame["a"] + keys), 1.0)
    frame.loc[np.flatnonzero(keys == 5)[:1], "a"] = np.nan
    frame["key"] = pandas.Categorical(keys, categories=[*range(150), 999])
    return frame.iloc[rng.permutation(len(frame))]


def groups(frame, **others):
    arguments = {"layers": [5], "epochs": 6, "batch_size": 8, "rng": 3} | others
    return fastnn.fit_groups(frame, by="key", target="y", **arguments)


def assert_same_groups(found, expected):
    assert list(found) == list(expected)
    for name in ("status", "n_rows", "epochs", "loss", "input_means", "input_stds", "target_means", "target_stds"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    for name in ("random", "noise"):
        np.testing.assert_array_equal(found.population._members.states[name], expected.population._members.states[name])
    np.testing.assert_array_equal(found.population.vectors, expected.population.vectors)
    np.testing.assert_array_equal(found._contents.statistics.overall, expected._contents.statistics.overall)
    np.testing.assert_array_equal(found.population._split_seeds, expected.population._split_seeds)
    assert found.population.seeds == expected.population.seeds


OF_GROUPS = {
    "plain": dict,
    "patient": lambda: {"stopping": Patience(2), "validation_fraction": 0.3, "min_rows": 8, "epochs": 20},
    "scheduled": lambda: {
        "optimizer": AdamW(CosineDecay(0.01, length=6)),
        "dropout": StepDecay(0.2, every=2),
        "rng": np.random.default_rng(0),
    },
}


@pytest.mark.parametrize("case", OF_GROUPS)
def test_groups_have_the_same_networks(case, tmp_path):
    frame, engine, arguments = table(), Calls(), OF_GROUPS[case]
    expected = groups(frame, **arguments())
    assert len({*expected.status.tolist()}) > 4
    assert_same_groups(groups(frame, **arguments(), engine=engine), expected)
    assert engine.ended > 5
    assert len(engine.puts) == 1
    engine.before, engine.ended = interrupting_after(3), 0
    with pytest.raises(KeyboardInterrupt):
        groups(frame, **arguments(), engine=engine, checkpoint=tmp_path)
    for further in (Calls(), None):
        assert_same_groups(groups(frame, **arguments(), engine=further, checkpoint=tmp_path), expected)
        assert further is None or 0 < further.ended < len(engine.begun)


def test_a_checkpoint_of_other_groups_is_refused(tmp_path):
    frame = table()
    groups(frame, checkpoint=tmp_path)
    for change, names in (
        ({"epochs": 7}, "epochs"),
        ({"layers": [6]}, "architecture, init"),
        ({"rng": 4}, "rng"),
        ({"stopping": Patience()}, "stopping"),
        ({"init": "zeros"}, "init"),
    ):
        with pytest.raises(ValueError, match=f"where these differ: {names};"):
            groups(frame, checkpoint=tmp_path, **change)
    with pytest.raises(ValueError, match="where these differ: frame;"):
        groups(frame[::-1], checkpoint=tmp_path)
    with pytest.raises(ValueError, match="where these differ: the function"):
        fitted(common(), checkpoint=tmp_path)
    with pytest.raises(ValueError, match="dropout must hold no function"):
        groups(frame, checkpoint=tmp_path, dropout=lambda epoch: 0.1)


def test_max_time_of_groups(tmp_path):
    engine = Calls(n_workers=1)
    found = groups(table(), epochs=10**5, max_time=0.3, engine=engine, checkpoint=tmp_path)
    assert 0 < found.epochs.max() < 10**5
    assert not list(tmp_path.glob("*.safetensors"))
    with pytest.raises(ValueError, match="batch_size must be") as error:
        groups(table(), batch_size=0, engine=engine)
    assert error.value.__notes__ == ["in the fits of groups 16 to 31"]
