"""EarlyStopping against a fit of single epochs that is watched by hand."""

import numpy as np
import pytest

from fastnn import SGD, EarlyStopping, Model


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
    with pytest.raises(ValueError, match="monitor must be 'loss' in a fit without validation data, got 'val_loss'"):
        Model([6, 3], rng=0).fit(*blobs, epochs=2, batch_size=10, callbacks=[EarlyStopping()])


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        (
            {"monitor": "accuracy"},
            ValueError,
            "monitor must be one of 'loss', 'val_loss', 'val_metric', got 'accuracy'",
        ),
        ({"patience": 0}, ValueError, "patience must be at least 1, got 0"),
        ({"min_delta": -1}, ValueError, "min_delta must be a finite number at least 0, got -1"),
        ({"mode": "less"}, ValueError, "mode must be one of 'min', 'max', got 'less'"),
        ({"restore_best": 1}, TypeError, "restore_best must be True or False, got 1"),
    ],
)
def test_bad_arguments(arguments, error, match):
    with pytest.raises(error, match=match):
        EarlyStopping(**arguments)
