"""History: what a fit records beside losses, and fits that go on with one."""

import itertools
import math
import pickle
import re

import numpy as np
import pandas
import pytest

import fastnn
from fastnn import LBFGS, SGD, Adam, ExponentialDecay, History, InverseScaling, Model, StepDecay
from fastnn.kernels.running import entry


@pytest.fixture(params=["as is", "one block a call"])
def chunks(request, short_calls):
    if request.param != "as is":
        short_calls()


# ---- metrics ----


def test_several_metrics_of_both_sets(blobs):
    X, y = blobs
    model, twin = Model([6, 3], rng=0), Model([6, 3], rng=0)
    weights = np.linspace(0.1, 2, 200)
    fit = {"batch_size": 7, "sample_weight": weights}
    names = ["accuracy", "top_2"]
    held = X[200:], y[200:]
    history = model.fit(
        X[:200],
        y[:200],
        epochs=3,
        validation_data=held,
        metric=names,
        train_metric=True,
        callbacks=[lambda m: None],
        **fit,
    )
    assert list(history.metrics) == ["val_accuracy", "val_top_2", "accuracy", "top_2"]
    assert history.metric == "accuracy"
    assert history.val_metric is history.metrics["val_accuracy"]
    for epoch in range(3):
        twin.fit(X[:200], y[:200], epochs=1, **fit)
        outside = twin.evaluate(*held, metric=names)
        inside = twin.evaluate(X[:200], y[:200], metric=names, sample_weight=weights)
        assert [history.metrics[f"val_{name}"][epoch] for name in names] == [outside[name] for name in names]
        assert [history.metrics[name][epoch] for name in names] == [inside[name] for name in names]
        assert history.val_loss[epoch] == outside["loss"]


def test_metrics_of_the_training_set_alone(blobs):
    model = Model([6, 3], rng=0)
    history = model.fit(*blobs, epochs=2, batch_size=7, train_metric=True)
    assert history.metrics == {"accuracy": [history.metrics["accuracy"][0], model.evaluate(*blobs)["accuracy"]]}
    assert (history.metric, history.val_loss, history.val_metric) == (None, [], [])


# ---- learning rates ----


@pytest.mark.parametrize("n", [20, 23])
def test_the_rate_of_each_epochs_last_step(n, chunks):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(n, 4)), rng.normal(size=n)
    steps = -(-n // 5)
    expected = {
        SGD(0.03): lambda t: 0.03,
        SGD(StepDecay(0.03, every=2)): lambda t: 0.03 * 0.1 ** (t // 2),
        Adam(ExponentialDecay(0.03, gamma=0.99, per="step")): lambda t: 0.03 * 0.99 ** ((t + 1) * steps - 1),
        SGD(InverseScaling(0.03, per="step")): lambda t: 0.03 / math.sqrt((t + 1) * steps),
    }
    for optimizer, rate in expected.items():
        model, found = Model([4, 1], output="identity", rng=0), []
        model.fit(X, y, epochs=3, batch_size=5, optimizer=optimizer)
        found += model.history.learning_rate
        note = [lambda m, found=found: found.append(m.learning_rate)]
        model.fit(X, y, epochs=2, batch_size=5, optimizer=optimizer, callbacks=note)
        assert found[3:] == model.history.learning_rate
        np.testing.assert_allclose(found, [rate(t) for t in range(5)], rtol=1e-12)


def test_l_bfgs_has_no_rate(blobs):
    model = Model([6, 3], rng=0)
    history = model.fit(*blobs, epochs=2, batch_size=300, optimizer=LBFGS())
    assert np.isnan(history.learning_rate).tolist() == [True, True]
    assert np.isnan(model.learning_rate)


def test_a_callback_sets_the_rate(blobs, chunks):
    """A fit by an equal optimizer at each rate; Adam's moments go on."""
    X, y = blobs
    rates = [0.01, 0.003, 0.02]
    order = np.array([np.random.default_rng(i).permutation(300) for i in range(3)])
    model, twin = Model([6, 9, 3], dtype="float64", rng=0), Model([6, 9, 3], dtype="float64", rng=0)

    def change(m):
        if len(m.history.loss) == 2:
            m.freeze(0)  # which has new programs made
        if len(m.history.loss) < 3:
            m.learning_rate = rates[len(m.history.loss)]
            assert m.learning_rate == rates[len(m.history.loss)]

    model.fit(X, y, epochs=3, batch_size=7, optimizer=Adam(0.01), shuffle=order, callbacks=[change])
    varying = Adam(lambda epoch: rates[epoch])
    twin.fit(X, y, epochs=2, batch_size=7, optimizer=varying, shuffle=order[:2])
    twin.freeze(0)  # its state begins afresh, and so does the position
    twin.fit(X, y, epochs=1, batch_size=7, optimizer=Adam(0.02), shuffle=order[2:])
    assert model.history.learning_rate == rates
    np.testing.assert_array_equal(model.parameters, twin.parameters)
    model.fit(X, y, epochs=1, batch_size=7, optimizer=Adam(0.01))
    assert model.history.learning_rate == [0.01]  # the optimizer's


def test_a_rate_that_cannot_be_set(blobs):
    model = Model([6, 3], rng=0)
    assert np.isnan(model.learning_rate)
    with pytest.raises(RuntimeError, match="learning_rate can be set by a callback of a fit alone"):
        model.learning_rate = 0.1

    def change(m):
        m.learning_rate = value

    value = 0.0
    with pytest.raises(ValueError, match=r"learning_rate must be a finite number above 0, got 0\.0"):
        model.fit(*blobs, epochs=2, batch_size=300, callbacks=[change])
    value = 0.1
    for optimizer in (SGD(StepDecay(0.1, every=2)), LBFGS()):
        with pytest.raises(ValueError, match="learning_rate can be set where the optimizer's is a number"):
            model.fit(*blobs, epochs=2, batch_size=300, optimizer=optimizer, callbacks=[change])
    with pytest.raises(RuntimeError, match="learning_rate can be set by a callback of a fit alone"):
        model.learning_rate = 0.1


# ---- a fit that goes on ----


@pytest.mark.parametrize("optimizer", [SGD(1.0), Adam(StepDecay(0.01, every=2)), LBFGS()], ids=repr)
def test_a_history_goes_on(optimizer, blobs):
    X, y = blobs
    once, parts = Model([6, 3], rng=0), Model([6, 3], rng=0)
    fit = {"batch_size": 300, "optimizer": optimizer, "validation_data": (X[:50], y[:50]), "train_metric": True}
    whole = once.fit(X, y, epochs=6, **fit)
    history = parts.fit(X, y, epochs=2, **fit)
    first = history._lists()
    first = {name: list(values) for name, values in first.items()}
    for epochs in (3, 0, 1):
        assert parts.fit(X, y, epochs=epochs, history=history, **fit) is history is parts.history
    assert len(history.loss) == len(history.seconds) == 6
    for name, values in history._lists().items():
        assert repr(values[:2]) == repr(first[name])
        if not isinstance(optimizer, LBFGS) and name != "seconds":  # two fits of LBFGS are not one
            assert values == whole._lists()[name]


def test_what_one_of_two_fits_did_not_record_is_nan(blobs):
    X, y = blobs
    model = Model([6, 3], rng=0)
    history = model.fit(X, y, epochs=2, batch_size=7)
    model.fit(X, y, epochs=1, batch_size=7, history=history, validation_data=blobs, metric=["accuracy", "top_2"])
    model.fit(X, y, epochs=2, batch_size=7, history=history, train_metric=True)
    missing = {name: np.isnan(values).astype(int).tolist() for name, values in history._lists().items()}
    outside = [1, 1, 0, 1, 1]
    assert missing == {
        "loss": [0] * 5,
        "val_loss": outside,
        "val_accuracy": outside,
        "val_top_2": outside,
        "accuracy": [1, 1, 1, 0, 0],
        "learning_rate": [0] * 5,
        "seconds": [0] * 5,
    }
    assert history.metric == "accuracy"


def test_a_history_that_goes_on_has_equal_lists_after_ctrl_c(blobs, interrupt_after):
    X, y = blobs
    model, twin = Model([6, 3], rng=0), Model([6, 3], rng=0)
    history = model.fit(X, y, epochs=2, batch_size=7, validation_data=blobs)
    with interrupt_after(60, then=lambda: history.loss):
        model.fit(X, y, epochs=9, batch_size=7, history=history, validation_data=blobs, metric="top_2")
    assert {name: len(values) for name, values in history._lists().items()} == dict.fromkeys(history._lists(), 3)
    twin.fit(X, y, epochs=3, batch_size=7)
    assert history.loss == twin.history.loss
    assert model.parameters.tobytes() == twin.parameters.tobytes()
    model.fit(X, y, epochs=2, batch_size=7, history=history)
    twin.fit(X, y, epochs=2, batch_size=7, history=twin.history)
    assert history.loss == twin.history.loss
    assert len(history.seconds) == 5


def test_a_fit_that_is_refused_leaves_the_history(blobs):
    model = Model([6, 3], rng=0)
    history = model.fit(*blobs, epochs=2, batch_size=7)
    before = repr(history)
    with pytest.raises(ValueError, match="batch_size"):
        model.fit(*blobs, epochs=2, batch_size=0, history=history, validation_data=blobs)
    assert repr(history) == before


# ---- the object ----


def test_a_history_is_made_again_by_pickle_and_repr(blobs):
    history = Model([6, 3], rng=0).fit(
        *blobs, epochs=2, batch_size=300, validation_data=blobs, train_metric=True, optimizer=LBFGS()
    )
    twin = pickle.loads(pickle.dumps(history))
    assert twin == history
    assert eval(repr(history), {"History": History, "nan": math.nan}) == history
    twin.metrics["accuracy"][0] = 7.0
    assert twin != history
    assert History([1.0], [2.0], [0.5], [0.1], "r2") == History(
        loss=[1.0], val_loss=[2.0], seconds=[0.1], metric="r2", metrics={"val_r2": [0.5]}
    )


def test_to_frame(blobs):
    history = Model([6, 3], rng=0).fit(
        *blobs, epochs=3, batch_size=7, validation_data=blobs, metric=["accuracy", "top_2"], train_metric=True
    )
    frame = history.to_frame()
    assert isinstance(frame, pandas.DataFrame)
    names = ["epoch", "loss", "val_loss", "val_accuracy", "val_top_2", "accuracy", "top_2", "learning_rate", "seconds"]
    assert frame.columns.tolist() == names
    assert frame["epoch"].tolist() == [1, 2, 3]
    for name in ("loss", "val_loss", "learning_rate", "seconds"):
        assert frame[name].tolist() == getattr(history, name)
    for name, values in history.metrics.items():
        assert frame[name].tolist() == values
    assert Model([6, 3]).fit(*blobs, epochs=0, batch_size=7).to_frame().shape == (0, 4)


# ---- printed lines ----


@pytest.mark.parametrize("progress", [False, True])
@pytest.mark.parametrize("validated", [False, True])
def test_verbose_prints_a_line_an_epoch(validated, progress, blobs, capsys):
    model = Model([6, 3], rng=0)
    more = {"validation_data": blobs} if validated else {}
    history = model.fit(*blobs, epochs=3, batch_size=7)
    capsys.readouterr()
    model.fit(*blobs, epochs=9, batch_size=7, history=history, verbose=1, progress=progress, **more)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 9
    for epoch, line in enumerate(lines, 4):
        words = f"epoch {epoch:2}/12  {history.seconds[epoch - 1]:.3g} s  loss {history.loss[epoch - 1]:.4g}"
        if validated:
            accuracy = history.metrics["val_accuracy"][epoch - 1]
            words += f"  val_loss {history.val_loss[epoch - 1]:.4g}  val_accuracy {accuracy:.4g}"
        assert line == words


@pytest.mark.parametrize("optimizer", [LBFGS(), fastnn.LevenbergMarquardt(), Adam()])
def test_verbose_prints_the_scores_of_the_epoch(optimizer, capsys):
    """And not NaN, whatever trains: scores come before the line is printed."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((60, 3)), rng.standard_normal((60, 1))
    model = Model([3, 5, 1], output="identity", dtype="float64", rng=0)
    history = model.fit(
        X[:40], y[:40], epochs=3, batch_size=40, optimizer=optimizer, validation_data=(X[40:], y[40:]), verbose=1
    )
    printed = [re.search(r"val_loss (\S+)", line)[1] for line in capsys.readouterr().out.splitlines()]
    assert printed == [f"{value:.4g}" for value in history.val_loss]
    assert len(printed) == 3


def test_verbose_changes_no_call_of_the_kernels(blobs, monkeypatch, capsys):
    train, counts = entry.train, []
    monkeypatch.setattr(entry, "train", lambda *a: (counts.append(1), train(*a))[1])
    for verbose, callbacks in itertools.product((False, True), ([], [lambda m: None])):
        counts.clear()
        Model([6, 3], rng=0).fit(*blobs, epochs=4, batch_size=300, verbose=verbose, callbacks=callbacks)
        assert len(counts) <= (5 if callbacks else 4)  # one is for making the plan
    assert len(capsys.readouterr().out.splitlines()) == 8


def test_no_line_unless_asked_for(blobs, capsys):
    for verbose in (0, False):
        fastnn.Model([6, 3]).fit(*blobs, epochs=2, batch_size=7, verbose=verbose)
    assert capsys.readouterr().out == ""
