"""Learning rates that change while a model trains: formulas, positions, and training against the reference."""

import itertools
import math
import pickle

import numpy as np
import pytest

import fastnn
from fastnn import (
    SGD,
    Adam,
    CosineDecay,
    ExponentialDecay,
    InverseScaling,
    Model,
    Momentum,
    OneCycle,
    Population,
    RateFunction,
    StepDecay,
)
from fastnn.kernels import reference
from fastnn.kernels.programs import strategy
from fastnn.kernels.running import entry
from fastnn.settings import learning_rates


class Turns(learning_rates.LearningRate):
    """Its `per` is another one each time that it is asked for."""

    per = property(lambda self: self.turns.pop() if self.turns else "never")

    def __init__(self, *turns):
        self.turns = list(turns)

    def rates(self, first, n):
        return np.full(n, 0.05)


SCHEDULES = {
    "step decay": StepDecay(0.02, every=3, gamma=0.5),
    "exponential": ExponentialDecay(0.02, gamma=0.9, per="step"),
    "inverse scaling": InverseScaling(0.02, per="step"),
    "cosine": CosineDecay(0.02, length=5, warmup=2, final=0.001),
    "one cycle": OneCycle(0.02, length=40),
    "function": RateFunction(lambda epoch: 0.02 / (1 + epoch)),
    "function of the step": RateFunction(lambda step: 0.02 / (1 + step / 9), per="step"),
}
OPTIMIZERS = {"sgd": SGD, "momentum": Momentum, "adam": Adam}


def samples(n, sizes, dtype="float64"):
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, sizes[0])).astype(dtype), rng.integers(0, sizes[-1], n)


# ---- formulas ----


def test_rates_by_recurrence():
    """From one position to the next, as PyTorch computes them."""
    decayed = [0.3]
    for t in range(1, 30):
        decayed.append(decayed[-1] * (0.7 if t % 4 == 0 else 1))
    np.testing.assert_allclose(StepDecay(0.3, every=4, gamma=0.7).rates(0, 30), decayed)
    np.testing.assert_allclose(ExponentialDecay(0.3, 0.7).rates(0, 9), np.cumprod([0.3, *[0.7] * 8]))
    np.testing.assert_allclose(InverseScaling(0.3, 0.5).rates(0, 9), [0.3 / math.sqrt(t) for t in range(1, 10)])
    cosine = [0.3]
    for t in range(1, 20):
        ratio = (1 + math.cos(math.pi * t / 20)) / (1 + math.cos(math.pi * (t - 1) / 20))
        cosine.append(0.05 + ratio * (cosine[-1] - 0.05))
    np.testing.assert_allclose(CosineDecay(0.3, 20, final=0.05).rates(0, 20), cosine)


def test_cosine_with_warm_up():
    rates = CosineDecay(0.8, length=12, warmup=4, final=0.1).rates(0, 15)
    np.testing.assert_allclose(rates[:5], [0.2, 0.4, 0.6, 0.8, 0.8])
    assert rates[8] == pytest.approx(0.45)  # half way
    assert (np.diff(rates[4:13]) < 0).all()
    assert rates[12:].tolist() == [0.1] * 3


def test_cosine_that_holds_its_top():
    """Flat, then half a cosine; the cosine is that of a shorter schedule that begins later."""
    rates = CosineDecay(0.8, length=10, warmup=2, hold=3, final=0.1).rates(0, 12)
    np.testing.assert_allclose(rates[:6], [0.4, 0.8, 0.8, 0.8, 0.8, 0.8])
    np.testing.assert_array_equal(rates[5:], CosineDecay(0.8, length=5, final=0.1).rates(0, 7))
    flat = [1.0] * 8 + [0.5 * (1 + math.cos(math.pi * (2 * t / 16 - 1))) for t in range(8, 16)]  # RealMLP's flat_cos
    np.testing.assert_allclose(CosineDecay(1.0, 16, hold=8).rates(0, 17), [*flat, 0.0], atol=1e-12)


def test_one_cycle():
    """The ends of its two phases, which lie between positions; each a half cosine."""
    cycle = OneCycle(1.0, length=20, rise=0.25, div_factor=10, final_div_factor=100)
    rates = cycle.rates(0, 23)
    assert rates[[0, 4, 19]] == pytest.approx([0.1, 1.0, 0.001])
    assert rates[2] == pytest.approx(0.55)
    assert rates[[11, 12]].mean() == pytest.approx((1.0 + 0.001) / 2)
    assert rates[19:] == pytest.approx([0.001] * 4)
    short = OneCycle(1.0, length=4, rise=0.25).rates(0, 4)  # no position before the top
    assert short[0] == 1
    assert (np.diff(short) < 0).all()


@pytest.mark.parametrize("name", SCHEDULES)
def test_any_part_of_the_rates(name):
    schedule = SCHEDULES[name]
    np.testing.assert_array_equal(schedule.rates(7, 20), schedule.rates(0, 27)[7:])


# ---- training ----


@pytest.mark.pairs
@pytest.mark.parametrize("how", ["row-major", "feature-major"])
@pytest.mark.parametrize("batch_size", [1, 7, 61])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", SCHEDULES)
def test_as_the_reference(name, optimizer, batch_size, how, orientation):
    orientation(how)
    sizes, epochs, schedule = [5, 9, 3], 4, SCHEDULES[name]
    X, y = samples(61, sizes)
    order = np.array([np.random.default_rng(i).permutation(61) for i in range(epochs)])
    model = Model(sizes, dtype="float64", rng=0)
    start = [(w.T.copy(), b.copy(), "sigmoid") for w, b in zip(model.weights, model.biases, strict=True)]
    made = OPTIMIZERS[optimizer](schedule)
    history = model.fit(X, y, epochs=epochs, batch_size=batch_size, shuffle=order, optimizer=made)
    steps = -(-61 // batch_size)
    rates = schedule.rates(0, epochs * steps) if schedule.per == "step" else schedule.rates(0, epochs).repeat(steps)
    constants = {"sgd": (), "momentum": (0.9,), "adam": (0.9, 0.999, 1e-8)}[optimizer]
    losses, network = reference.train(
        start, X, np.eye(3)[y], order, batch_size, None, *constants, optimizer=optimizer, rates=rates
    )
    assert history.loss == pytest.approx(losses, rel=1e-10)
    for w, b, layer in zip(model.weights, model.biases, network, strict=True):
        np.testing.assert_allclose(w.T, layer[0], rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(b, layer[1], rtol=1e-9, atol=1e-11)


@pytest.mark.pairs
@pytest.mark.parametrize("calls_are", ["long", "of one step"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", SCHEDULES)
def test_two_fits_are_one_longer_fit(name, optimizer, calls_are, short_calls):
    """The position is part of the optimizer's state, and goes with a pickle, where the schedule can."""
    X, y = samples(61, [5, 9, 3])
    made = OPTIMIZERS[optimizer](SCHEDULES[name])
    once, twice = Model([5, 9, 3], rng=0), Model([5, 9, 3], rng=0)
    once.fit(X, y, epochs=5, batch_size=7, optimizer=made)
    if calls_are == "of one step":
        short_calls()
    twice.fit(X, y, epochs=2, batch_size=7, optimizer=made)
    if not name.startswith("function"):
        twice, made = pickle.loads(pickle.dumps((twice, made)))
    twice.fit(X, y, epochs=3, batch_size=7, optimizer=made)
    np.testing.assert_array_equal(once.parameters, twice.parameters)


def test_threads_give_the_same_bits(monkeypatch):
    monkeypatch.setattr("fastnn.network.threads.available_threads", lambda: 2)
    monkeypatch.setattr("fastnn.network.threads.FIT_MULTIPLY_ADDS", 0)
    monkeypatch.setattr("fastnn.training.thread_tuner.ThreadTuner.choose", lambda self: (self.threads, 1.0))
    monkeypatch.setattr(strategy, "THREAD_MULTIPLY_ADDS", 1)
    X, y = samples(300, [20, 70, 40], "float32")
    models = [Model([20, 70, 40], rng=0) for _ in range(2)]
    for model, threads in zip(models, (1, 2), strict=True):
        model.fit(X, y, epochs=3, batch_size=32, threads=threads, optimizer=Adam(CosineDecay(0.01, 25, per="step")))
    np.testing.assert_array_equal(models[0].parameters, models[1].parameters)


def test_steps_of_partial_fit_count_as_epochs():
    X, y = samples(20, [5, 9, 3])
    one, other = Model([5, 9, 3], rng=0), Model([5, 9, 3], rng=0)
    made = Momentum(SCHEDULES["step decay"])
    one.fit(X, y, epochs=7, batch_size=20, shuffle=False, optimizer=made)
    for _ in range(7):
        other.partial_fit(X, y, optimizer=made)
    np.testing.assert_array_equal(one.parameters, other.parameters)


def test_an_equal_schedule_goes_on_and_another_starts_afresh():
    X, y = samples(61, [5, 9, 3])
    results = []
    for second in (CosineDecay(0.5, 10), CosineDecay(0.5, 11)):
        model = Model([5, 9, 3], rng=0)
        model.fit(X, y, epochs=5, batch_size=7, optimizer=SGD(CosineDecay(0.5, 10)))
        model.fit(X, y, epochs=1, batch_size=7, optimizer=SGD(second))
        fresh = Model([5, 9, 3], rng=0)
        fresh.fit(X, y, epochs=5, batch_size=7, optimizer=SGD(CosineDecay(0.5, 10)))
        fresh.fit(X, y, epochs=1, batch_size=7, optimizer=SGD(second.rates(5 if second.length == 10 else 0, 1)[0]))
        results.append((model.parameters.copy(), fresh.parameters.copy()))
    for got, want in results:
        np.testing.assert_array_equal(got, want)


def test_a_rate_of_zero_changes_nothing():
    X, y = samples(61, [5, 9, 3])
    model = Model([5, 9, 3], rng=0)
    before = model.parameters.copy()
    model.fit(X, y, epochs=2, batch_size=7, optimizer=SGD(lambda epoch: 0))
    np.testing.assert_array_equal(model.parameters, before)


# ---- errors ----


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StepDecay(0.0, 3), "learning_rate must be a finite number above 0, got 0.0"),
        (lambda: StepDecay(0.1, 0), "every must be at least 1, got 0"),
        (lambda: StepDecay(0.1, 3, per="batch"), "per must be one of 'epoch', 'step', got 'batch'"),
        (lambda: ExponentialDecay(0.1, -1), "gamma must be a finite number above 0, got -1"),
        (lambda: InverseScaling(0.1, 0), "power must be a finite number above 0, got 0"),
        (lambda: CosineDecay(0.1, 5, warmup=5), "warmup must be at most 4, got 5"),
        (lambda: CosineDecay(0.1, 5, warmup=2, hold=3), "hold must be at most 2, got 3"),
        (lambda: CosineDecay(0.1, 5, hold=-1), "hold must be at least 0, got -1"),
        (lambda: CosineDecay(0.1, 5, final=-1), "final must be a finite number at least 0, got -1"),
        (lambda: OneCycle(0.1, 2), "length must be at least 3, got 2"),
        (lambda: OneCycle(0.1, 5, rise=1.0), "rise must be a finite number above 0 and below 1, got 1.0"),
        (lambda: SGD(0.0), "learning_rate must be a finite number above 0, got 0.0"),
    ],
)
def test_what_is_no_schedule(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(("rate", "shown"), [(-1.0, "-1.0"), (np.nan, "nan"), (np.inf, "inf")])
def test_a_function_that_gives_no_rate(rate, shown):
    """The model keeps what the last finished epoch left."""
    X, y = samples(61, [5, 9, 3])
    model, twin = Model([5, 9, 3], rng=0), Model([5, 9, 3], rng=0)
    twin.fit(X, y, epochs=3, batch_size=7)
    seen = itertools.count()

    def stop_chunks(model):
        next(seen)

    with pytest.raises(ValueError, match=f"learning_rate of epoch 3 must be a finite number at least 0, got {shown}"):
        model.fit(
            X,
            y,
            epochs=5,
            batch_size=7,
            optimizer=SGD(lambda epoch: 0.1 if epoch < 3 else rate),
            callbacks=[stop_chunks],
        )
    assert next(seen) == 3
    assert len(model.history.loss) == 3
    np.testing.assert_array_equal(model.parameters, twin.parameters)


@pytest.mark.parametrize("callbacks", [[], [lambda model: None]])
@pytest.mark.parametrize("per", ["epoch", "step"])
def test_no_rate_is_asked_for_behind_the_last(per, callbacks):
    X, y = samples(61, [5, 9, 3])
    n = 3 if per == "epoch" else 3 * 9
    rates = [0.1 / (1 + i) for i in range(n)]
    seen = []

    def rate(t):
        seen.append(t)
        return rates[t]

    Model([5, 9, 3], rng=0).fit(
        X, y, epochs=3, batch_size=7, optimizer=SGD(RateFunction(rate, per)), callbacks=callbacks
    )
    assert set(seen) == set(range(n))


def test_a_schedule_of_ones_own():
    class Constant(learning_rates.LearningRate):
        per = "step"

        def _at(self, t):
            return 0.1

    class Wrong(Constant):
        def rates(self, first, n):
            return np.array(0.1)

    X, y = samples(61, [5, 9, 3])
    one, other = Model([5, 9, 3], rng=0), Model([5, 9, 3], rng=0)
    one.fit(X, y, epochs=2, batch_size=7, optimizer=SGD(Constant()))
    other.fit(X, y, epochs=2, batch_size=7, optimizer=SGD(0.1))
    np.testing.assert_array_equal(one.parameters, other.parameters)
    with pytest.raises(ValueError, match=r"learning_rate must give 18 rates, got shape"):
        one.fit(X, y, epochs=2, batch_size=7, optimizer=SGD(Wrong()))


@pytest.mark.parametrize("per", ["step", "epoch"])
def test_what_a_rate_changes_with_is_asked_once(per, blobs, state):
    X, y = blobs
    model, twin = Model([6, 9, 3], rng=0), Model([6, 9, 3], rng=0)
    schedule = Turns(per)
    history = model.fit(X, y, epochs=7, batch_size=10, optimizer=SGD(schedule), callbacks=[lambda m: m.freeze(())])
    twin.fit(X, y, epochs=7, batch_size=10, optimizer=SGD(0.05))
    assert history.learning_rate == [0.05] * 7
    np.testing.assert_array_equal(model.parameters, twin.parameters)
    before = state(model)
    with pytest.raises(ValueError, match="per must be one of 'epoch', 'step', got 'never'"):
        model.fit(X, y, epochs=7, batch_size=10, optimizer=SGD(schedule))
    assert state(model) == before


def test_rates_that_change_after_they_were_checked(blobs, monkeypatch):
    """An array of the user's may be changed when the compiled call begins."""
    X, y = blobs
    rates = np.full(1000, 0.05)

    class Own(learning_rates.LearningRate):
        per = "step"

        def rates(self, first, n):
            return rates[:n]

    train = entry.train
    monkeypatch.setattr(entry, "train", lambda *a: (rates.fill(np.nan), train(*a), rates.fill(0.05))[1])
    model, twin = Model([6, 9, 3], rng=0), Model([6, 9, 3], rng=0)
    model.fit(X, y, epochs=3, batch_size=10, optimizer=SGD(Own()))
    monkeypatch.undo()
    twin.fit(X, y, epochs=3, batch_size=10, optimizer=SGD(0.05))
    np.testing.assert_array_equal(model.parameters, twin.parameters)


# ---- functions of one's own ----


@pytest.mark.parametrize("per", ["epoch", "step"])
def test_members_by_a_function_are_models(per):
    """In fits that go on, of members that take different numbers of steps. No rate behind the last is asked for."""
    X, y = samples(61, [5, 9, 3])
    seen, batches = [], np.array([7, 7, 31])
    optimizer, noted = (
        Momentum(RateFunction(function, per))
        for function in (lambda t: 0.05 / (1 + t), lambda t: seen.append(t) or 0.05 / (1 + t))
    )
    population = Population([5, 9, 3], 3, dtype="float64", rng=0)
    models = [Model([5, 9, 3], dtype="float64", rng=i) for i in range(3)]
    for epochs in (np.array([2, 1, 3]), np.array([0, 3, 2])):
        population.fit(X, y, epochs=epochs, batch_size=batches, optimizer=noted)
        for model, n, size in zip(models, epochs.tolist(), batches.tolist(), strict=True):
            model.fit(X, y, epochs=n, batch_size=size, optimizer=optimizer)
    assert set(seen) == set(range({"epoch": 5, "step": 4 * 9}[per]))
    for i, model in enumerate(models):
        np.testing.assert_allclose(population[i].parameters, model.parameters, rtol=1e-9, atol=1e-12)


def test_a_function_of_the_step_goes_on_from_fit_to_fit():
    """As a plain fit whose rates are those of a schedule with the same formula."""
    X, y = samples(61, [5, 9, 3])
    one, other = Model([5, 9, 3], rng=0), Model([5, 9, 3], rng=0)
    rate = RateFunction(lambda step: 0.6 / (step + 1) ** 0.5, per="step")
    for epochs in (1, 3, 2):
        one.fit(X, y, epochs=epochs, batch_size=7, optimizer=SGD(rate))
    other.fit(X, y, epochs=6, batch_size=7, optimizer=SGD(InverseScaling(0.6, per="step")))
    np.testing.assert_array_equal(one.parameters, other.parameters)


@pytest.mark.parametrize("rate", [-0.5, np.nan])
@pytest.mark.parametrize("per", ["epoch", "step"])
def test_a_rate_that_is_none_names_where_it_is(per, rate):
    """Of a model, of a population, and of a step on a gradient from outside; nothing changes by then."""
    X, y = samples(60, [5, 9, 3])
    at = {"epoch": 2, "step": 2 * 6}[per]
    optimizer = SGD(RateFunction(lambda t: 0.1 if t < at else rate, per))
    message = f"learning_rate of {per} {at} must be a finite number at least 0, got {rate}"
    model, twin = Model([5, 9, 3], rng=0), Model([5, 9, 3], rng=0)
    for each, epochs in ((model, 2), (twin, 2)):
        each.fit(X, y, epochs=epochs, batch_size=10, optimizer=optimizer)
    with pytest.raises(ValueError, match=message):
        model.fit(X, y, epochs=1, batch_size=10, optimizer=optimizer)
    np.testing.assert_array_equal(model.parameters, twin.parameters)
    population = Population.from_models([twin, twin])
    with pytest.raises(ValueError, match=message):
        population.fit(X, y, epochs=1, batch_size=10, optimizer=optimizer)
    np.testing.assert_array_equal(population[1].parameters, twin.parameters)


def test_steps_from_outside_by_a_function_of_the_step():
    X, _ = samples(60, [5, 9, 3])
    model, twin = Model([5, 9, 3], dtype="float64", rng=0), Model([5, 9, 3], dtype="float64", rng=0)
    population = Population.from_models([twin])
    optimizer = SGD(RateFunction(lambda step: 0.1 / (1 + step), per="step"))
    for t in range(3):
        d_a = model.forward(X) / 60
        gradient, before = model.backward(X, d_a), model.vector.copy()
        model.step(X, d_a, optimizer=optimizer)
        np.testing.assert_allclose(model.vector, before - 0.1 / (1 + t) * gradient, rtol=1e-12)
        population.step(X, d_a[None], optimizer=optimizer)
        np.testing.assert_allclose(population[0].vector, model.vector, rtol=1e-12)


def test_what_is_no_function():
    with pytest.raises(TypeError, match=r"function must be callable with the number of an epoch or step, got 0.1"):
        RateFunction(0.1)
    with pytest.raises(ValueError, match=r"per must be one of 'epoch', 'step', got 'batch'"):
        RateFunction(lambda t: 0.1, per="batch")
    X, y = samples(60, [5, 9, 3])
    with pytest.raises(TypeError, match=r"learning_rate of step 0 must be a number, got None"):
        Model([5, 9, 3]).fit(X, y, epochs=1, batch_size=7, optimizer=SGD(RateFunction(lambda t: None, per="step")))


def slower(step):
    return 0.1 / (1 + step)


def test_what_of_a_function_is_kept(tmp_path):
    """A pickle has a function of a module, and goes on; a file leaves the optimizer's state out, and says so."""
    X, y = samples(60, [5, 9, 3])
    rate = RateFunction(slower, per="step")
    assert rate == RateFunction(slower, "step") != RateFunction(slower)
    for made in (Model([5, 9, 3], rng=0), Population([5, 9, 3], 2, rng=0)):
        made.fit(X, y, epochs=2, batch_size=10, optimizer=Adam(rate))
        copied, again = pickle.loads(pickle.dumps((made, rate)))
        with pytest.warns(UserWarning, match="not saved, because (its|a) learning rate"):
            made.save(tmp_path / "file")
        loaded = fastnn.load(tmp_path / "file")
        for each in (made, copied, loaded):
            each.fit(X, y, epochs=1, batch_size=10, optimizer=Adam(again))
        np.testing.assert_array_equal(copied.predict(X), made.predict(X))
        assert (loaded.predict(X) != made.predict(X)).any()
