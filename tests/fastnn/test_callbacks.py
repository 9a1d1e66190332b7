"""Callbacks: EarlyStopping against a fit of single epochs that is watched by hand, the others against their rules."""

import os
import pickle
import shutil

import numpy as np
import pandas
import pytest

from fastnn import (
    LBFGS,
    SGD,
    Adam,
    CSVLogger,
    EarlyStopping,
    History,
    LevenbergMarquardt,
    Metric,
    Model,
    ModelCheckpoint,
    ReduceOnPlateau,
    StepDecay,
    Stream,
    TargetReached,
    TimeLimit,
    load,
)
from fastnn.reports import callbacks


def watched(monitor, mode, patience, min_delta, make, fit):
    """(epochs, best epoch, its value, its parameters, the values) of training epoch by epoch."""
    model, values, best = make(), [], None
    for epoch in range(1, 41):
        fit(model, 1)
        values.append(getattr(model.history, monitor)[-1])
        gain = 0 if best is None else (best[1] - values[-1] if mode == "min" else values[-1] - best[1])
        if best is None or gain > min_delta:
            best = epoch, values[-1], model.parameters.copy()
        if epoch - best[0] >= patience:
            break
    return epoch, *best, values


@pytest.mark.parametrize("min_delta", [0.0, 0.01])
@pytest.mark.parametrize("patience", [1, 3, 100])
@pytest.mark.parametrize(("monitor", "mode"), [("loss", "min"), ("val_loss", "min"), ("val_metric", "max")])
def test_early_stopping(monitor, mode, patience, min_delta, blobs):
    X, y = blobs

    def make():
        return Model([6, 9, 3], rng=0)

    def fit(model, epochs, **options):
        held = {"validation_data": (X[200:], y[200:])}
        return model.fit(X[:200], y[:200], epochs=epochs, batch_size=7, optimizer=SGD(4.0), **held | options)

    epochs, best_epoch, best, parameters, values = watched(monitor, mode, patience, min_delta, make, fit)
    for restored in (True, False):
        model, stopping = make(), EarlyStopping(monitor, patience=patience, min_delta=min_delta, restore_best=restored)
        history = fit(model, 40, callbacks=[stopping])
        assert getattr(history, monitor) == values
        assert len(history.loss) == epochs
        assert (stopping.best, stopping.best_epoch) == (best, best_epoch)
        if restored:
            np.testing.assert_array_equal(model.parameters, parameters)
    assert best_epoch == epochs or not np.array_equal(model.parameters, parameters)


def test_it_can_watch_one_fit_after_another(blobs):
    X, y = blobs
    stopping, results = EarlyStopping("loss", patience=2, min_delta=0.02), []
    for _ in range(2):
        model = Model([6, 3], rng=0)
        model.fit(X, y, epochs=50, batch_size=10, callbacks=[stopping])
        results.append((len(model.history.loss), stopping.best_epoch, model.parameters.tobytes()))
    assert results[0] == results[1]


def test_the_end_of_a_fit_is_told_but_not_of_one_that_fails(blobs):
    class Told:
        ended = 0

        def __call__(self, model):
            if self.ended:
                raise OSError("mine")

        def on_end(self, model):
            self.ended += 1

    told, model = Told(), Model([6, 3], rng=0)
    model.fit(*blobs, epochs=2, batch_size=10, callbacks=[told])
    assert told.ended == 1
    with pytest.raises(OSError, match="mine"):
        model.fit(*blobs, epochs=2, batch_size=10, callbacks=[told])
    assert told.ended == 1


def test_a_value_that_is_not_there(blobs):
    with pytest.raises(ValueError, match="monitor must be one of 'loss', which this fit records, got 'val_loss'"):
        Model([6, 3], rng=0).fit(*blobs, epochs=2, batch_size=10, callbacks=[EarlyStopping()])


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"monitor": 3}, TypeError, "monitor must be a string, got 3"),
        ({"patience": 0}, ValueError, "patience must be at least 1, got 0"),
        ({"min_delta": -1}, ValueError, "min_delta must be a finite number at least 0, got -1"),
        ({"mode": "less"}, ValueError, "mode must be one of 'min', 'max', got 'less'"),
        ({"restore_best": 1}, TypeError, "restore_best must be True or False, got 1"),
    ],
)
def test_bad_arguments(arguments, error, match):
    with pytest.raises(error, match=match):
        EarlyStopping(**arguments)


# ---- a value that the test decides ----


class Given:
    """Fits with metrics "score" and "score_error", its negative, whose values the test gives, one an epoch."""

    def __init__(self, values):
        self.values, self.model = values, Model([2, 1], rng=0)

    def score(self, *_):
        return self.values[len(self.model.history.loss) - 1]

    def fit(self, epochs, callbacks, **options):
        metrics = [Metric(self.score, "score"), Metric(lambda *_: -self.score(), "score_error")]
        X, y = np.zeros((1, 2)), [0]
        more = {"validation_data": (X, y), "metric": metrics, "callbacks": callbacks}
        return self.model.fit(X, y, epochs=epochs, batch_size=1, **more | options)


RISING = [0.1, 0.2, 0.3, 0.3, 0.25, np.nan, 0.4, 0.39, 0.38, 0.37, 0.5]


@pytest.mark.parametrize(
    ("monitor", "mode", "best"),
    [
        ("val_score", None, 0.5),
        ("val_metric", None, 0.5),
        ("val_score_error", None, -0.5),  # less is better by its name
        ("val_score_error", "max", -0.1),
        ("val_score", "min", 0.1),
    ],
)
def test_any_recorded_value_can_be_watched(monitor, mode, best):
    stopping = EarlyStopping(monitor, mode=mode, patience=100)
    Given(RISING).fit(11, [stopping])
    assert stopping.best == best
    assert stopping.best_epoch == (11 if abs(best) == 0.5 else 1)


def test_a_monitor_that_is_not_there_is_found_before_the_first_epoch(blobs, tmp_path):
    for watching in (
        EarlyStopping("accuracy"),
        ModelCheckpoint(tmp_path / "x", "accuracy"),
        TargetReached("accuracy", 1),
        ReduceOnPlateau("accuracy"),
    ):
        model = Model([6, 3], rng=0)
        before = model.parameters.copy()
        with pytest.raises(
            ValueError, match=r"monitor must be one of 'loss', 'val_loss', 'val_metric', 'val_accuracy', "
        ):
            model.fit(*blobs, epochs=2, batch_size=10, callbacks=[watching], validation_data=blobs)
        np.testing.assert_array_equal(model.parameters, before)
        assert len(model.history.loss) == 0
        model.fit(*blobs, epochs=1, batch_size=300, callbacks=[watching], validation_data=blobs, train_metric=True)


def test_early_stopping_goes_on_with_a_history(blobs):
    X, y = blobs

    def fit(model, epochs, stopping, **options):
        held = {"validation_data": (X[200:], y[200:]), "optimizer": SGD(4.0)}
        return model.fit(X[:200], y[:200], epochs=epochs, batch_size=7, callbacks=[stopping], **held | options)

    once, parts = Model([6, 9, 3], rng=0), Model([6, 9, 3], rng=0)
    whole, cut = (EarlyStopping(patience=6, restore_best=False) for _ in range(2))
    fit(once, 60, whole)
    n = len(once.history.loss)
    assert n < 60
    fit(parts, whole.best_epoch + 2, cut)  # it waits for improvement at the end of the first fit
    fit(parts, 60, cut, history=parts.history)
    assert (cut.best, cut.best_epoch, len(parts.history.loss)) == (whole.best, whole.best_epoch, n)
    np.testing.assert_array_equal(parts.parameters, once.parameters)


def test_the_best_of_two_fits_with_one_history():
    given, stopping, ends = Given([0.5, 0.9, 0.1, 0.2, 0.3]), EarlyStopping("val_score", patience=100), []
    history = given.fit(3, [stopping])
    best = given.model.parameters.copy()
    given.fit(2, [stopping, lambda m: ends.append(m.parameters.copy())], history=history)
    assert len(history.loss) == 5
    assert (ends[-1] != best).any()
    np.testing.assert_array_equal(given.model.parameters, best)


# ---- reducing the rate ----


def reduced(values, rate, factor, patience, threshold, cooldown, min_lr, mode):
    """The rates in the epochs of a fit: PyTorch's ReduceLROnPlateau with threshold_mode="abs", `step` line by line."""
    best, bad, cooling, rates = (np.inf if mode == "min" else -np.inf), 0, 0, []
    for value in values:
        rates.append(rate)
        if value < best - threshold if mode == "min" else value > best + threshold:
            best, bad = value, 0
        else:
            bad += 1
        if cooling > 0:
            cooling -= 1
            bad = 0
        if bad > patience:
            new = max(rate * factor, min_lr)
            if rate - new > 1e-8:
                rate = new
            cooling, bad = cooldown, 0
    return rates


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("min_rate", [0.0, 0.004])
@pytest.mark.parametrize("cooldown", [0, 1, 4])
@pytest.mark.parametrize(("patience", "factor"), [(0, 0.9), (1, 0.5), (3, 0.1)])
def test_reduce_on_plateau_as_pytorchs(patience, factor, cooldown, min_rate, mode):
    rng = np.random.default_rng(patience + cooldown)
    values = (np.exp(-np.arange(60) / 10) + 0.1 * rng.random(60)) * (1 if mode == "min" else -1)
    values[rng.integers(60)] = np.nan
    given = Given(values.tolist())
    settings = {"factor": factor, "patience": patience, "cooldown": cooldown, "min_rate": min_rate}
    plateau = ReduceOnPlateau("val_score", min_delta=0.01, mode=mode, **settings)
    history = given.fit(60, [plateau], optimizer=Adam(0.02))
    expected = reduced(values, 0.02, factor, patience, 0.01, cooldown, min_rate, mode)
    assert len(set(expected)) > 1
    assert history.learning_rate == expected


def test_the_state_of_a_plateau_goes_on_with_a_history(blobs):
    X, y = blobs

    def fit(model, epochs, plateau, **options):
        return model.fit(X, y, epochs=epochs, batch_size=7, optimizer=Adam(0.1), callbacks=[plateau], **options)

    def plateau():
        return ReduceOnPlateau("loss", patience=0, factor=0.5, min_delta=0.001)

    once, parts, state = Model([6, 3], rng=0), Model([6, 3], rng=0), plateau()
    fit(once, 30, plateau())
    assert len(set(once.history.learning_rate)) > 2
    fit(parts, 1, state)
    for _ in range(29):
        fit(parts, 1, state, history=parts.history)
    assert parts.history.learning_rate == once.history.learning_rate
    np.testing.assert_array_equal(parts.parameters, once.parameters)
    assert fit(parts, 1, state).learning_rate == [0.1]  # a new history


@pytest.mark.parametrize("optimizer", [SGD(StepDecay(0.1, every=3)), LBFGS()], ids=repr)
def test_a_plateau_needs_a_rate_that_it_can_set(optimizer, blobs):
    with pytest.raises(ValueError, match="learning_rate can be set where the optimizer's is a number"):
        Model([6, 3], rng=0).fit(
            *blobs, epochs=2, batch_size=300, optimizer=optimizer, callbacks=[ReduceOnPlateau("loss")]
        )


# ---- ends ----


def test_target_reached():
    for monitor, mode, value, epochs in (
        ("val_score", None, 0.3, 3),
        ("val_score", None, 0.31, 7),
        ("val_score_error", None, -0.4, 7),
        ("val_score", "min", 0.1, 1),
        ("val_score", None, 0.6, 11),
    ):
        history = Given(RISING).fit(11, [TargetReached(monitor, value, mode=mode)])
        assert len(history.loss) == epochs


def test_time_limit(blobs, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: now[0])

    def pass_time(model):
        now[0] += 10

    limit, model = TimeLimit(35), Model([6, 3], rng=0)
    for _ in range(2):  # each fit has the whole time
        assert len(model.fit(*blobs, epochs=9, batch_size=300, callbacks=[pass_time, limit]).loss) == 4


# ---- files ----


def test_checkpoints_of_the_best_epochs(tmp_path):
    values = [0.1, 0.3, 0.2, 0.5, 0.5]
    given, kept = Given(values), []
    saving = ModelCheckpoint(tmp_path / "{epoch:03}-{{}}.safetensors", "val_score")
    given.fit(5, [saving, lambda m: kept.append(m.parameters.copy())])
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"00{i}-{{}}.safetensors" for i in (1, 2, 4)]
    assert (saving.best, saving.best_epoch, saving.saved) == (0.5, 4, tmp_path / "004-{}.safetensors")
    for epoch in (1, 2, 4):
        saved = load(tmp_path / f"00{epoch}-{{}}.safetensors")
        np.testing.assert_array_equal(saved.parameters, kept[epoch - 1])


def test_checkpoints_of_every_epoch(tmp_path, blobs):
    model, kept = Model([6, 3], rng=0), []
    one, each = tmp_path / "one.safetensors", str(tmp_path / "{epoch}.safetensors")
    saving = [ModelCheckpoint(path, save_best_only=False) for path in (one, each)]
    model.fit(*blobs, epochs=3, batch_size=300, callbacks=[*saving, lambda m: kept.append(m.parameters.copy())])
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["1", "2", "3", "one"]
    np.testing.assert_array_equal(load(one).parameters, kept[2])
    for epoch in (1, 2, 3):
        np.testing.assert_array_equal(load(each.format(epoch=epoch)).parameters, kept[epoch - 1])


def test_a_csv_file(tmp_path, blobs):
    path, model, lengths = tmp_path / "log.csv", Model([6, 3], rng=0), []
    fit = {"batch_size": 300, "validation_data": blobs, "metric": ["accuracy", "top_2"], "train_metric": True}
    logger = CSVLogger(path)
    for _ in range(2):  # the file begins anew
        model.fit(
            *blobs, epochs=3, callbacks=[logger, lambda m: lengths.append(len(path.read_text().splitlines()))], **fit
        )
        pandas.testing.assert_frame_equal(pandas.read_csv(path), model.history.to_frame())
    assert lengths == [2, 3, 4] * 2


def test_a_csv_file_that_goes_on(tmp_path, blobs):
    path, model = tmp_path / "log.csv", Model([6, 3], rng=0)
    logger = CSVLogger(path, append=True)
    for _ in range(2):
        model.fit(*blobs, epochs=2, batch_size=300, callbacks=[logger], history=model.history)
    pandas.testing.assert_frame_equal(pandas.read_csv(path), model.history.to_frame())
    before = path.read_text()
    with pytest.raises(ValueError, match=r"path must name a CSV file with the columns .*'val_loss'.*, got .* with"):
        model.fit(*blobs, epochs=2, batch_size=300, callbacks=[logger], validation_data=blobs)
    assert path.read_text() == before


COLUMNS, LINES = "epoch,loss,learning_rate,seconds", ["1,0.5,0.1,0.25", "2,0.25,0.1,0.125"]


@pytest.mark.parametrize(
    ("found", "kept"),
    [
        ("", []),
        ("epoch,lo", []),  # columns that were cut
        ("epoch,loss,learning_rate,sec", []),
        (COLUMNS, []),
        (f"{COLUMNS}\n", []),
        (f"{COLUMNS}\n{LINES[0]}\n2,0.2", LINES[:1]),
        (f"{COLUMNS}\n{LINES[0]}\n2", LINES[:1]),
        (f"{COLUMNS}\n{LINES[0]}\n2,0.25,0.1,", LINES[:1]),
        (f"{COLUMNS}\n{LINES[0]}\n2,0.25,0.1,1.25e-", LINES[:1]),
        (f"{COLUMNS}\n{LINES[0]}\n{LINES[1]}", LINES),
        (f"{COLUMNS}\n{LINES[0]}\n{LINES[1]}\n", LINES),
        (f"{COLUMNS}\r\n{LINES[0]}\r\n{LINES[1]}\r", LINES),
        (f"{COLUMNS}\r\n{LINES[0]}\r\n{LINES[1]}\r\n", LINES),
    ],
    ids=repr,
)
def test_a_csv_file_whose_last_line_has_no_end(found, kept, tmp_path, blobs):
    path, model = tmp_path / "log.csv", Model([6, 3], rng=0)
    path.write_bytes(found.encode())
    history = model.fit(*blobs, epochs=1, batch_size=300, callbacks=[CSVLogger(path, append=True)])
    lines = path.read_bytes().decode().split("\n")
    last = f"1,{history.loss[0]!r},0.1,"
    assert [line.rstrip("\r") for line in lines[:-2]] == [COLUMNS, *kept]
    assert lines[-2].startswith(last)
    assert lines[-1] == ""


@pytest.mark.parametrize("append", [False, True])
def test_a_csv_file_has_the_same_line_ends_everywhere(append, tmp_path, blobs):
    path = tmp_path / "log.csv"
    Model([6, 3], rng=0).fit(*blobs, epochs=2, batch_size=300, callbacks=[CSVLogger(path, append=append)])
    assert (path.read_bytes().count(b"\n"), path.read_bytes().count(b"\r")) == (3, 0)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no device that is full")
def test_a_full_disk_is_an_error_that_names_the_file(blobs):
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        Model([6, 3], rng=0).fit(*blobs, epochs=1, batch_size=300, callbacks=[CSVLogger("/dev/full")])
    Model([6, 3], rng=0).fit(*blobs, epochs=1, batch_size=300, callbacks=[CSVLogger(os.devnull)])


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no device that is full")
def test_a_device_is_not_read_for_lines_to_go_on_with(blobs):
    """What is read from this one has no end."""
    model = Model([6, 3], rng=0)
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        model.fit(*blobs, epochs=1, batch_size=300, callbacks=[CSVLogger("/dev/full", append=True)])
    model.fit(*blobs, epochs=1, batch_size=300, callbacks=[CSVLogger(os.devnull, append=True)])
    assert len(model.history.loss) == 1


def test_a_checkpoint_whose_folder_is_gone(tmp_path, blobs):
    """The fit ends; the model holds the epoch, and can be saved elsewhere."""
    (tmp_path / "folder").mkdir()
    model = Model([6, 3], rng=0)
    saving = ModelCheckpoint(tmp_path / "folder" / "{epoch}", save_best_only=False)
    remove = [lambda m: shutil.rmtree(tmp_path / "folder") if len(m.history.loss) == 2 else None]
    with pytest.raises(FileNotFoundError, match=r"path must lie in a folder that exists, got .*3'"):
        model.fit(*blobs, epochs=5, batch_size=300, callbacks=[saving, *remove])
    assert len(model.history.loss) == 3
    model.save(tmp_path / "here")
    assert load(tmp_path / "here").parameters.tobytes() == model.parameters.tobytes()


# ---- the last of equally good epochs ----

LESS = np.nextafter(0.5, 0)
EQUAL = {  # values, then (best epoch, epochs done) where the first, and where the last of equally good epochs is kept
    "equal ones count for patience": ([0.2, 0.5, 0.5, 0.4, 0.5, 0.5, 0.1, 0.6], (2, 5), (5, 5)),
    "until a better one": ([0.5, 0.5, 0.5, 0.6, 0.6, 0.1, 0.2, 0.6], (4, 7), (5, 7)),
    "not what is merely near": ([LESS, 0.5, LESS, 0.5, LESS, 0.5], (2, 5), (4, 5)),
    "NaN": ([np.nan, 0.5, np.nan, 0.5, 0.3, 0.5], (2, 5), (4, 5)),
    "none is equal": ([0.1, 0.2, 0.3, 0.2, 0.1, 0.0], (3, 6), (3, 6)),
}


@pytest.mark.parametrize("less", [False, True])
@pytest.mark.parametrize("name", EQUAL)
def test_the_last_of_equally_good_epochs(name, less, tmp_path):
    """What is restored, and saved, is the last of them; how long the fit goes on is the same."""
    values, *expected = EQUAL[name]
    monitor = "val_score_error" if less else "val_score"
    for keep_last, (best_epoch, done) in zip((False, True), expected, strict=True):
        given, kept = Given(values), []
        stopping = EarlyStopping(monitor, patience=3, keep_last=keep_last)
        saving = ModelCheckpoint(tmp_path / "best", monitor, keep_last=keep_last)
        callbacks = [stopping, saving, lambda m, kept=kept: kept.append(m.parameters.copy())]
        history = given.fit(len(values), callbacks)
        assert (stopping.best_epoch, len(history.loss)) == (best_epoch, done)
        assert saving.best_epoch == best_epoch
        best = kept[best_epoch - 1].tobytes()
        assert given.model.parameters.tobytes() == best == load(tmp_path / "best").parameters.tobytes()


def test_an_equal_value_is_the_best_one_exactly():
    """A better value that is no improvement, by min_delta, is not kept; nor one that equals it."""
    for keep_last, best_epoch in ((False, 1), (True, 4)):
        given = Given([0.5, 0.55, 0.55, 0.5, 0.55])
        stopping = EarlyStopping("val_score", patience=9, min_delta=0.1, keep_last=keep_last)
        given.fit(5, [stopping])
        assert (stopping.best, stopping.best_epoch) == (0.5, best_epoch)


@pytest.mark.parametrize("at", range(1, 6))
def test_a_resumed_fit_keeps_the_last_of_equally_good_epochs(at, tmp_path):
    values = [0.5, 0.2, 0.5, 0.5, 0.3, 0.2]
    callback, history, kept, model = resumed(values, at, lambda: EarlyStopping("val_score", patience=5, keep_last=True))
    assert (callback.best, callback.best_epoch, len(history.loss)) == (0.5, 4, 6)
    before = Given(values)
    before.fit(4, [])
    want = before.model.parameters if at == 4 else kept[3 - at if at < 4 else -1]
    np.testing.assert_array_equal(model.parameters, want)
    saving, _, _, _ = resumed(values, at, lambda: ModelCheckpoint(tmp_path / "best", "val_score", keep_last=True))
    assert (saving.saved is not None) == (at < 4)


@pytest.mark.parametrize("make", [EarlyStopping, lambda keep_last: ModelCheckpoint("path", keep_last=keep_last)])
def test_keep_last_is_true_or_false(make):
    with pytest.raises(TypeError, match="keep_last must be True or False, got 1"):
        make(keep_last=1)


# ---- what is known from a History alone ----


def resumed(values, at, make, epochs=None):
    """(callback, History, parameters after each epoch) of a fit that goes on, after `at` epochs, in another process."""
    given = Given(values)
    history, kept = given.fit(at, [make()]), []
    given.model, history = pickle.loads(pickle.dumps(given.model)), pickle.loads(pickle.dumps(history))
    callback = make()
    given.fit((epochs or len(values)) - at, [callback, lambda m: kept.append(m.parameters.copy())], history=history)
    return callback, history, kept, given.model


@pytest.mark.parametrize("at", range(1, 11))
def test_a_resumed_fit_stops_where_a_whole_one_does(at):
    values = [0.1, 0.2, 0.3, 0.25, 0.28, 0.5, 0.5, 0.45, 0.41, 0.38, 0.37, 0.9]

    def make():
        return EarlyStopping("val_score", patience=5, min_delta=0.01)

    whole = make()
    history = Given(values).fit(12, [whole])
    assert (whole.best, whole.best_epoch, len(history.loss)) == (0.5, 6, 11)
    callback, history, kept, model = resumed(values, at, make)
    assert (callback.best, callback.best_epoch, len(history.loss)) == (0.5, 6, 11)
    if at < 6:
        np.testing.assert_array_equal(model.parameters, kept[5 - at])
    elif at > 6:  # the best epoch's parameters went with the process before
        np.testing.assert_array_equal(model.parameters, kept[-1])


def test_a_resumed_fit_may_begin_with_the_best_parameters():
    given = Given([0.1, 0.9, 0.3, 0.2])
    history = given.fit(2, [])
    start = given.model.parameters.copy()
    given.model, history = pickle.loads(pickle.dumps(given.model)), pickle.loads(pickle.dumps(history))
    given.fit(2, [EarlyStopping("val_score")], history=history)
    np.testing.assert_array_equal(given.model.parameters, start)


@pytest.mark.parametrize("min_delta", [0.0, 0.15])
@pytest.mark.parametrize("at", range(1, 6))
def test_a_resumed_fit_keeps_a_better_checkpoint(at, min_delta, tmp_path):
    values = [0.1, 0.3, 0.2, 0.5, 0.45, 0.6]
    best = 6 if min_delta == 0 else 4

    def make():
        return ModelCheckpoint(tmp_path / "best", "val_score", min_delta=min_delta)

    whole = ModelCheckpoint(tmp_path / "whole", "val_score", min_delta=min_delta)
    Given(values).fit(6, [whole])
    callback, _, _, _ = resumed(values, at, make)
    assert (callback.best, callback.best_epoch) == (whole.best, whole.best_epoch) == (values[best - 1], best)
    assert (callback.saved is None) == (at >= best)
    assert load(tmp_path / "best").parameters.tobytes() == load(tmp_path / "whole").parameters.tobytes()


@pytest.mark.parametrize("cooldown", [0, 2])
@pytest.mark.parametrize("at", range(1, 30))
def test_a_resumed_fit_goes_on_with_the_reduced_rate(at, cooldown):
    values = (np.exp(-np.arange(30) / 5) + 0.1 * np.random.default_rng(0).random(30)).tolist()
    settings = {"factor": 0.5, "patience": 2, "cooldown": cooldown}

    def make():
        return ReduceOnPlateau("val_score", min_delta=0.01, mode="min", **settings)

    expected = reduced(values, 0.1, 0.5, 2, 0.01, cooldown, 0.0, "min")
    assert len(set(expected)) == 3
    assert resumed(values, at, make)[1].learning_rate == expected


def test_a_history_that_was_shortened_or_edited(tmp_path):
    values = [0.1, 0.9, 0.3, 0.2, 0.5, 0.4]
    given, stopping = Given(values), EarlyStopping("val_score")
    history = given.fit(4, [stopping])
    assert (stopping.best, stopping.best_epoch) == (0.9, 2)
    short = History(history.loss[:1], history.val_loss[:1], history.metrics["val_score"][:1], metric="score")
    given.values = [0.1, 0.5, 0.4]
    given.fit(2, [stopping], history=short)
    assert (stopping.best, stopping.best_epoch) == (0.5, 2)
    short.metrics["val_score"][1] = 0.0
    given.values = [0.1, 0.0, 0.4, 0.3]
    given.fit(1, [stopping], history=short)
    assert (stopping.best, stopping.best_epoch) == (0.4, 3)


def test_epochs_without_a_value_do_not_count():
    given, stopping = Given([0.1, 0.9, 0.3, 0.2, 0.5, 0.4, 0.3]), EarlyStopping("val_score", patience=3)
    history = given.fit(2, [])
    for _ in range(3):  # without validation
        given.model.fit(np.zeros((1, 2)), [0], epochs=1, batch_size=1, history=history)
    given.fit(2, [stopping], history=history)
    assert (stopping.best, stopping.best_epoch, len(history.loss)) == (0.9, 2, 7)


# ---- what fit calls ----


@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize("way", ["sgd", "stream", "lbfgs", "levenberg-marquardt"])
def test_a_callback_must_leave_finite_parameters(way, stop):
    """Also one that ends the fit. The model gets back what the epoch left."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((40, 3)), rng.standard_normal((40, 1))
    optimizers = {"lbfgs": LBFGS(), "levenberg-marquardt": LevenbergMarquardt()}
    model, seen = Model([3, 4, 1], output="identity", rng=0), []

    def spoil(model):
        seen.append(model.parameters.copy())
        if len(seen) == 2:
            model.weights[0][0, 0] = np.nan
        return stop and len(seen) == 2

    given = (Stream.from_arrays(X, y),) if way == "stream" else (X, y)
    options = {"epochs": 4, "batch_size": 40, "optimizer": optimizers.get(way, "sgd")}
    with pytest.raises(ValueError, match="callbacks must leave finite parameters, got one that is not after epoch 2"):
        model.fit(*given, **options, callbacks=[spoil])
    np.testing.assert_array_equal(model.parameters, seen[-1])
    model.fit(X, y, epochs=1, batch_size=10)  # it can be used


def test_the_begin_of_a_fit_is_told_and_may_change_the_model(blobs):
    class Begin:
        def on_begin(self, model):
            assert (len(model.history.loss), model.learning_rate) == (0, 0.1)
            model.parameters[...] = start
            model.freeze(0)
            model.learning_rate = 0.7

        def __call__(self, model):
            pass

    model, twin = Model([6, 9, 3], rng=0), Model([6, 9, 3], rng=1)
    start = twin.parameters.copy()
    twin.freeze(0)
    model.fit(*blobs, epochs=2, batch_size=10, shuffle=False, callbacks=[Begin()])
    twin.fit(*blobs, epochs=2, batch_size=10, shuffle=False, optimizer=SGD(0.7))
    np.testing.assert_array_equal(model.parameters, twin.parameters)
    assert model.history.learning_rate == [0.7, 0.7]


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: ModelCheckpoint("{name}"), ValueError, r"path must hold no braces but \{epoch\}, .*, got '\{name\}'"),
        (lambda: ModelCheckpoint("{"), ValueError, r"path must hold no braces but \{epoch\}, .*, got '\{'"),
        (lambda: ModelCheckpoint(3), TypeError, "path must be a string or a path object, got 3"),
        (lambda: ModelCheckpoint("x", save_best_only=1), TypeError, "save_best_only must be True or False, got 1"),
        (lambda: CSVLogger(None), TypeError, "path must be a string or a path object, got None"),
        (lambda: CSVLogger("x", append="yes"), TypeError, "append must be True or False, got 'yes'"),
        (lambda: TimeLimit(0), ValueError, "seconds must be a finite number above 0, got 0"),
        (lambda: TargetReached("loss", np.nan), ValueError, "value must be a finite number, got nan"),
        (lambda: ReduceOnPlateau(factor=1), ValueError, "factor must be a finite number above 0 and below 1, got 1"),
        (lambda: ReduceOnPlateau(patience=-1), ValueError, "patience must be at least 0, got -1"),
        (lambda: ReduceOnPlateau(cooldown=0.5), TypeError, r"cooldown must be an integer, got 0\.5"),
        (lambda: ReduceOnPlateau(min_rate=-1), ValueError, "min_rate must be a finite number at least 0, got -1"),
    ],
)
def test_bad_arguments_of_the_others(make, error, match):
    with pytest.raises(error, match=match):
        make()
