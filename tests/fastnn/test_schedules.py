"""Dropout and weight decay that change by epoch: against the reference, by hand, and in populations."""

import functools
import pickle
from types import SimpleNamespace

import numpy as np
import pytest

import fastnn
from fastnn import (
    Adam,
    AdamW,
    CosineDecay,
    ExponentialDecay,
    History,
    Lion,
    MLPClassifier,
    Model,
    OneCycle,
    Population,
    ReduceOnPlateau,
    StepDecay,
    Stream,
)
from fastnn.kernels import reference
from fastnn.settings import optimizers

from ..cases import DTYPES

rng = np.random.default_rng(5)
SIZES = [5, 9, 8, 3]
DROPOUT, DECAY = [0.3, 0.0, 0.55, 0.1, 0.45, 0.2], [0.2, 0.5, 0.0, 0.9, 0.05, 0.3]
OPTIMIZERS = {"adamw": AdamW, "lion": Lion}


def data(rows=61, n_in=5, n_out=3):
    return rng.standard_normal((rows, n_in)), rng.integers(0, n_out, rows)


def new(**arguments):
    return Model(SIZES, **{"rng": 0} | arguments)


def decaying(make, rate=0.01):
    return make(rate, weight_decay=DECAY.__getitem__)


def left(model):
    """All that training leaves in a model but its history."""
    _, vectors, numbers = model._network.optimizer_state()
    return model.parameters.tobytes(), model._network.random, model._network.noise, vectors.tobytes(), numbers.tobytes()


def by_hand(model, X, y, epochs, make, first=0, **options):
    """Fits of an epoch each, whose numbers are constant: the optimizer's state is carried by hand."""
    numbers = None
    for epoch in range(first, first + epochs):
        optimizer = make(DECAY[epoch])
        if numbers is not None:
            model._network.restore_optimizer(optimizer, *numbers)
        model.fit(X, y, epochs=1, optimizer=optimizer, dropout=[DROPOUT[epoch], 0.25], **options)
        numbers = model._network.optimizer_state()[1:]
    return model


# ---- a model ----


@pytest.mark.pairs
@pytest.mark.parametrize("how", ["row-major", "feature-major"])
@pytest.mark.parametrize("batch_size", [1, 7, 61])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_as_the_reference(optimizer, batch_size, how, orientation):
    orientation(how)
    X, y = data()
    epochs, steps = 4, -(-61 // batch_size)
    order = np.array([rng.permutation(61) for _ in range(epochs)])
    model = new(dtype="float64")
    start = [(w.T.copy(), b.copy(), "sigmoid") for w, b in zip(model.weights, model.biases, strict=True)]
    seed = model._network.noise
    rate = ExponentialDecay(0.02, 0.9, per="step")
    made = OPTIMIZERS[optimizer](rate, weight_decay=DECAY.__getitem__)
    history = model.fit(
        X,
        y,
        epochs=epochs,
        batch_size=batch_size,
        shuffle=order,
        optimizer=made,
        dropout=[StepDecay(0.4, 2, 0.5), DROPOUT.__getitem__],
    )
    constants = {"adamw": (0.9, 0.999, 1e-8), "lion": (0.9, 0.99)}[optimizer]
    settings = [(r, *constants, DECAY[i // steps]) for i, r in enumerate(rate.rates(0, epochs * steps))]
    off = {"input_noise": 0.0, "label_smoothing": 0.0, "min_derivative": 0.0}
    off |= {"clip_value": None, "clip_norm": None, "max_norm": None}
    rules = [SimpleNamespace(dropout=(0.4 * 0.5 ** (i // 2), DROPOUT[i], 0.0), **off) for i in range(epochs)]
    losses, network = reference.train(
        start, X, np.eye(3)[y], order, batch_size, optimizer=optimizer, rates=np.array(settings), rules=rules, seed=seed
    )
    assert history.loss == pytest.approx(losses, rel=1e-9)
    for w, b, layer in zip(model.weights, model.biases, network, strict=True):
        np.testing.assert_allclose(w.T, layer[0], rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(b, layer[1], rtol=1e-8, atol=1e-10)


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("calls_are", ["long", "of one step"])
@pytest.mark.parametrize("batch_size", [1, 7, 61])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_fits_of_an_epoch_each_by_hand(optimizer, batch_size, calls_are, dtype, short_calls):
    """The numbers of each epoch, passed as constants."""
    X, y = data()
    if calls_are == "of one step":
        short_calls()
    model, make = new(dtype=dtype), OPTIMIZERS[optimizer]
    history = model.fit(
        X, y, epochs=5, batch_size=batch_size, optimizer=decaying(make), dropout=[DROPOUT.__getitem__, 0.25]
    )
    hand = by_hand(new(dtype=dtype), X, y, 5, lambda decay: make(0.01, weight_decay=decay), batch_size=batch_size)
    assert model.parameters.tobytes() == hand.parameters.tobytes()
    assert (model._network.noise, model._network.random) == (hand._network.noise, hand._network.random)
    assert history.learning_rate == [0.01] * 5


@pytest.mark.parametrize("batch_size", [1, 7, 61])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_schedule_of_one_number_is_that_number(optimizer, batch_size):
    X, y = data()
    constant, scheduled = new(), new()
    make, options = OPTIMIZERS[optimizer], {"epochs": 4, "batch_size": batch_size}
    constant.fit(X, y, optimizer=make(0.01, weight_decay=0.3), dropout=0.2, **options)
    steady = StepDecay(0.3, every=10)
    scheduled.fit(X, y, optimizer=make(0.01, weight_decay=steady), dropout=StepDecay(0.2, every=10), **options)
    assert constant.parameters.tobytes() == scheduled.parameters.tobytes()
    assert constant._network.noise == scheduled._network.noise


def test_a_dropout_of_zero_draws_numbers_and_changes_nothing():
    X, y = data()
    plain, zero = new(), new()
    for model, dropout in ((plain, 0.0), (zero, lambda epoch: 0)):
        model.fit(X, y, epochs=3, batch_size=7, dropout=dropout)
    assert plain.parameters.tobytes() == zero.parameters.tobytes()
    assert plain._network.noise != zero._network.noise
    Model([5, 3]).fit(X, y, epochs=1, batch_size=7, dropout=lambda epoch: 0.1)  # there is nothing to drop


def test_threads_give_the_same_bits(monkeypatch):
    monkeypatch.setattr("fastnn.network.threads.available_threads", lambda: 2)
    monkeypatch.setattr("fastnn.network.threads.FIT_MULTIPLY_ADDS", 0)
    monkeypatch.setattr("fastnn.training.thread_tuner.ThreadTuner.choose", lambda self: (self.threads, 1.0))
    monkeypatch.setattr("fastnn.kernels.programs.strategy.THREAD_MULTIPLY_ADDS", 1)
    X, y = data(300, 20, 40)
    models = [Model([20, 70, 40], rng=0) for _ in range(2)]
    for model, threads in zip(models, (1, 2), strict=True):
        model.fit(
            X, y, epochs=3, batch_size=32, threads=threads, optimizer=decaying(AdamW), dropout=DROPOUT.__getitem__
        )
    assert left(models[0]) == left(models[1])


@pytest.mark.parametrize("rate", [0.01, CosineDecay(0.01, 6), CosineDecay(0.01, 60, per="step")], ids=repr)
@pytest.mark.parametrize("at", [1, 4])
def test_a_fit_that_goes_on(at, rate, tmp_path):
    """After a file and a pickle, as after a restart of the process; weight decay goes on with the optimizer alone."""
    X, y = data()
    decay, dropout = CosineDecay(0.3, 6, warmup=1), [CosineDecay(0.4, 6, hold=2), StepDecay(0.5, 2, 0.5)]
    options = {"batch_size": 7, "optimizer": AdamW(rate, weight_decay=decay), "dropout": dropout}
    once, first = new(), new()
    once.fit(X, y, epochs=6, **options)
    history = first.fit(X, y, epochs=at, **options)
    first.save(tmp_path / "file")
    for then in (fastnn.load(tmp_path / "file"), pickle.loads(pickle.dumps(first))):
        kept = pickle.loads(pickle.dumps(history))
        then.fit(X, y, epochs=6 - at, history=kept, **options)
        assert left(then) == left(once)
        assert kept.loss == once.history.loss
    afresh = fastnn.load(tmp_path / "file")
    afresh.fit(X, y, epochs=6 - at, **options)
    later = fastnn.load(tmp_path / "file")
    shifted = [lambda epoch, each=each: each.rates(epoch - at, 1)[0] for each in dropout]
    later.fit(X, y, epochs=6 - at, history=pickle.loads(pickle.dumps(history)), **options | {"dropout": shifted})
    assert left(afresh) == left(later) != left(once)


@pytest.mark.parametrize("count", [2, 3, 20, 25, 44])
def test_an_interrupted_fit_goes_on(count, interrupt_after):
    """From what the last finished epoch left: the bits are those of a fit without Ctrl-C."""
    X, y = data()
    options = {"batch_size": 7, "optimizer": decaying(AdamW), "dropout": [DROPOUT.__getitem__, 0.25]}
    once, cut, history = new(), new(), History()
    once.fit(X, y, epochs=6, **options)
    with interrupt_after(count):
        cut.fit(X, y, epochs=6, history=history, **options)
    done = len(history.loss)
    assert done == (count - 1) // 9
    cut.fit(X, y, epochs=6 - done, history=history, **options)
    assert left(cut) == left(once)
    assert history.loss == once.history.loss


def test_files_of_before():
    """A schedule had no `hold`, and a file says so: it has none."""
    before = {"learning_rate": 0.1, "length": 5, "warmup": 1, "final": 0.0, "per": "epoch"}
    schedule = {"name": "CosineDecay", "settings": before}
    settings = {"learning_rate": schedule, "weight_decay": 0.1, "clip_value": None, "clip_norm": None}
    restored = optimizers.restored({"name": "AdamW", "settings": settings})
    assert restored == AdamW(CosineDecay(0.1, 5, warmup=1), weight_decay=0.1)
    again = AdamW(0.1, weight_decay=CosineDecay(0.1, 5, hold=1))
    assert optimizers.restored(optimizers.described(again)) == again
    assert optimizers.described(AdamW(weight_decay=lambda epoch: 0.1)) is None


def test_callbacks_that_change_the_fit():
    """A rate that a callback sets, and frozen layers, which let the optimizer begin afresh but not dropout."""
    X, y = data()
    options = {"epochs": 5, "batch_size": 7, "dropout": [DROPOUT.__getitem__, 0.25]}
    models, make = [new(), new()], functools.partial(ReduceOnPlateau, "loss", patience=0, min_delta=10, factor=0.5)
    rates = [
        model.fit(X, y, optimizer=AdamW(0.01, weight_decay=decay), callbacks=[make()], **options).learning_rate
        for model, decay in zip(models, (0.3, lambda epoch: 0.3), strict=True)
    ]
    assert rates[0] == rates[1]
    assert len(set(rates[0])) > 2
    assert models[0].parameters.tobytes() == models[1].parameters.tobytes()

    def freeze(model):
        if len(model.history.loss) == 2:
            model.freeze(0)

    frozen, hand = new(), new()
    frozen.fit(X, y, optimizer=decaying(AdamW), callbacks=[freeze], **options)
    history = hand.fit(X, y, optimizer=decaying(AdamW), **options | {"epochs": 2})
    hand.freeze(0)
    hand.fit(X, y, optimizer=decaying(AdamW), history=history, **options | {"epochs": 3})
    assert left(frozen) == left(hand)


def test_a_stream():
    """Weight decay as in memory, and dropout as in streams of an epoch each."""
    X, y = data()
    stream = Stream.from_arrays(X, y, buffer_rows=20)
    memory, streamed, dropped, hand = (new() for _ in range(4))
    options = {"batch_size": 10, "shuffle": False, "optimizer": decaying(AdamW)}
    memory.fit(X, y, epochs=4, **options)
    streamed.fit(stream, epochs=4, **options)
    assert left(memory) == left(streamed)
    dropped.fit(stream, epochs=4, dropout=DROPOUT.__getitem__, **options)
    for dropout in DROPOUT[:4]:
        hand.fit(stream, epochs=1, dropout=StepDecay(dropout, 1) if dropout else lambda epoch: 0.0, **options)
    assert left(dropped) == left(hand)


def test_steps_count_as_epochs():
    """Of `partial_fit`, and of `step` on gradients of the outputs, alone and in a population."""
    X, y = data(20)
    one, other, decay = new(), new(), CosineDecay(0.9, 5)
    made = AdamW(0.01, weight_decay=decay)
    one.fit(X, y, epochs=6, batch_size=20, shuffle=False, optimizer=made)
    for _ in range(6):
        other.partial_fit(X, y, optimizer=made)
    assert left(one) == left(other)
    stepping, hand, numbers = new(), new(), None
    for epoch in range(6):
        d = stepping.forward(X) - np.eye(3)[y]
        stepping.step(X, d.astype("f4"), optimizer=made)
        optimizer = AdamW(0.01, weight_decay=float(decay.rates(epoch, 1)[0]))
        if numbers is not None:
            hand._network.restore_optimizer(optimizer, *numbers)
        hand.step(X, (hand.forward(X) - np.eye(3)[y]).astype("f4"), optimizer=optimizer)
        numbers = hand._network.optimizer_state()[1:]
        assert stepping.parameters.tobytes() == hand.parameters.tobytes()
    population = Population(SIZES, 2, rng=0)
    for _ in range(6):
        d = population.predict_each(np.array([X, X])) - np.eye(3)[y]
        population.step(np.array([X, X]), d.astype("f4"), optimizer=made)
    np.testing.assert_allclose(population[0].parameters, stepping.parameters, rtol=1e-5, atol=1e-6)


def test_a_solver_of_an_estimator():
    X, y = data()
    fits = []
    for decay in (StepDecay(0.3, 2, 0.1), lambda epoch: 0.3 * 0.1 ** (epoch // 2), 0.3):
        made = MLPClassifier((9,), solver=AdamW(0.01, weight_decay=decay), max_iter=5, random_state=0)
        with pytest.warns(UserWarning, match="Maximum iterations"):
            fits.append(made.fit(X, y).coefs_[0])
    np.testing.assert_allclose(fits[0], fits[1], rtol=1e-12)
    assert not np.allclose(fits[0], fits[2])


# ---- errors ----


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"dropout": lambda epoch: [0.1, 0.2, 1.0][epoch]},
            "dropout of epoch 2 must be a finite number at least 0 and below 1, got 1.0",
        ),
        (
            {"dropout": [0.1, lambda epoch: 0.1 - epoch / 15]},
            "dropout of epoch 2 must be a finite number .* got -0.0",
        ),
        (
            {"dropout": StepDecay(0.3, 1, 2.0)},
            r"dropout must be finite and at least 0 and below 1, got 1.2 for epoch 2 from StepDecay\(learning_rate=0.3",
        ),
        (
            {"optimizer": AdamW(weight_decay=lambda epoch: 1 - epoch)},
            "weight_decay of epoch 2 must be a finite number at least 0, got -1",
        ),
        (
            {"optimizer": Lion(weight_decay=StepDecay(1e-300, 1, 1e200))},
            r"weight_decay must be finite and at least 0, got inf for epoch 2 from StepDecay\(learning_rate=1e-300",
        ),
    ],
)
@pytest.mark.parametrize("kind", ["model", "population"])
def test_a_number_that_cannot_be(kind, arguments, message):
    """Of an epoch: the model, and each member, keep what the last finished epoch left."""
    X, y = data()
    options = {"batch_size": 10, "optimizer": Adam(0.01)} | arguments
    made, twin = (new() if kind == "model" else Population(SIZES, 3, rng=0) for _ in range(2))
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=message):
        made.fit(X, y, epochs=5, **options)
    twin.fit(X, y, epochs=2, **options)
    if kind == "model":
        assert left(made) == left(twin)
        assert made.history.loss == twin.history.loss
    else:
        assert made.vectors.tobytes() == twin.vectors.tobytes()
        assert made.history.epochs.tolist() == [2] * 3


@pytest.mark.parametrize("dropout", [StepDecay(2.0, every=2), lambda epoch: 1.0])
@pytest.mark.parametrize("kind", ["model", "population"])
def test_a_dropout_that_the_first_epoch_cannot_have(kind, dropout):
    """It is found before anything is changed."""
    made = new() if kind == "model" else Population(SIZES, 3, rng=0)
    made.fit(*data(), epochs=2, batch_size=10)
    parameters = "parameters" if kind == "model" else "vectors"
    history, before = made.history, getattr(made, parameters).copy()
    with pytest.raises(ValueError, match=r"dropout .*, got [12]"):
        made.fit(*data(), epochs=2, batch_size=10, dropout=dropout)
    assert made.history is history
    np.testing.assert_array_equal(getattr(made, parameters), before)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: AdamW(weight_decay=OneCycle(0.3, 10)),
            ValueError,
            "weight_decay must change by epoch, per='epoch', got",
        ),
        (lambda: Lion(weight_decay="0.1"), TypeError, "weight_decay must be a number, got '0.1'"),
        (lambda: AdamW(weight_decay=-0.1), ValueError, "weight_decay must be a finite number at least 0, got -0.1"),
        (
            lambda: new().fit(*data(), epochs=1, batch_size=7, dropout=CosineDecay(0.2, 9, per="step")),
            ValueError,
            r"dropout must change by epoch, per='epoch', got CosineDecay\(learning_rate=0.2",
        ),
        (
            lambda: new().fit(*data(), epochs=1, batch_size=7, dropout=lambda epoch: "0.1"),
            TypeError,
            "dropout of epoch 0 must be a number, got '0.1'",
        ),
        (
            lambda: new().fit(*data(), epochs=1, batch_size=7, dropout=[lambda epoch: 0.1]),
            ValueError,
            "dropout must be a number, or one a hidden layer, 2, got",
        ),
        (
            lambda: new().fit(*data(), epochs=1, batch_size=7, dropout=CosineDecay(np.array([0.1, 0.2]), 3)),
            ValueError,
            "learning_rate of CosineDecay must be a number here, got an array; Population.fit takes arrays",
        ),
        (
            lambda: new().partial_fit(*data(), optimizer=AdamW(weight_decay=CosineDecay(np.array([0.1, 0.2]), 3))),
            ValueError,
            "learning_rate of CosineDecay must be|weight_decay of AdamW must be|must be a number here, got an array",
        ),
        (
            lambda: Population(SIZES, 3).fit(*data(), epochs=1, batch_size=7, dropout=CosineDecay(np.ones(2) / 2, 3)),
            ValueError,
            "learning_rate of CosineDecay must be a number, or an array of one for each of 3 members, got 2",
        ),
        (
            lambda: Population(SIZES, 3).fit(
                *data(), epochs=1, batch_size=7, optimizer=AdamW(weight_decay=CosineDecay(np.ones(2) / 2, 3))
            ),
            ValueError,
            "weight_decay of AdamW must be a number, or an array of one for each of 3 members, got 2",
        ),
        (lambda: new().forward(data()[0], dropout=CosineDecay(0.2, 3)), TypeError, "dropout must be a number or a seq"),
        (lambda: new().predict(data()[0], dropout=[lambda e: 0.1] * 2), TypeError, "dropout must be a number, got"),
        (
            lambda: new().fit(*data(), epochs=1, batch_size=61, optimizer=fastnn.LBFGS(), dropout=lambda epoch: 0.0),
            ValueError,
            "optimizer LBFGS takes l2, but no l1, max_norm, dropout",
        ),
    ],
)
def test_what_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
