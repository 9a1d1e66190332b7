"""Derivatives of populations, and steps on gradients from outside: each member is as its model."""

import pickle
import threading

import numpy as np
import pytest
import scipy.sparse

from fastnn import (
    LBFGS,
    SGD,
    Adam,
    BatchNorm,
    CosineDecay,
    Dense,
    ExponentialDecay,
    LayerNorm,
    Model,
    Momentum,
    Population,
    PReLU,
    Residual,
    Rprop,
)
from fastnn.training import lanes, one_by_one

from ..cases import DTYPES
from .test_population import takes_lanes

rng = np.random.default_rng(0)
NETS = {
    "tanh": ([5, 9, 8, 3], {"activation": "tanh", "output": "identity"}),
    "relu": ([5, 70, 1], {"activation": "relu", "output": "identity", "input_scale": 0.7}),
    "softmax": ([5, 9, 3], {"activation": "silu", "output": "softmax", "loss": "cross_entropy"}),
    "residual": ([5, Dense(8, "tanh"), Residual(Dense(8, "gelu"), Dense(8, "identity")), Dense(2, "tanh")], {}),
    "batch norm": ([5, Dense(8, "identity"), BatchNorm(activation="tanh"), Dense(2, "identity")], {}),
    "prelu": ([5, PReLU(), Dense(8, "identity"), PReLU(), Dense(2, "identity")], {}),
    "layer norm": ([5, Dense(8, "identity"), LayerNorm(), Dense(2, "identity")], {}),
    "many outputs": ([5, 19], {"output": "sigmoid"}),
}
ENGINES = ["one by one", "in lanes"]


@pytest.fixture(autouse=True)
def many_threads_pay(monkeypatch):
    """Small calls run on the threads that they may use."""
    monkeypatch.setattr("fastnn.network.threads.FIT_MULTIPLY_ADDS", 0)
    monkeypatch.setattr("fastnn.network.threads.PARALLEL_MULTIPLY_ADDS", 0)
    monkeypatch.setattr("fastnn.network.threads.available_threads", lambda: 2)


@pytest.fixture(params=ENGINES)
def engine(request, monkeypatch):
    """Members take their steps one after another, or in lanes."""

    def lanes_pay(layout, batch_size):
        can = not layout.orientation and takes_lanes(layout)
        return request.param == "in lanes" and batch_size <= layout.block_rows and can

    monkeypatch.setattr("fastnn.kernels.programs.strategy.lanes_pay", lanes_pay)
    return request.param


def population_of(name, n, dtype="float32"):
    sizes, options = NETS[name]
    return Population(sizes, n, dtype=dtype, rng=3, **options)


def problem(population, rows, own=True):
    """(X, dA, V): for each member its own, or X and V for all."""
    n, width = len(population), population.sizes[0]
    shape = (n, rows, width) if own else (rows, width)
    X, V = rng.normal(size=(2, *shape)).astype(population.dtype)
    return X, rng.normal(size=(n, rows, population.sizes[-1])).astype(population.dtype), V


def each(array, n):
    """What each member has of an array that may be shared."""
    return array if array.ndim == 3 else [array] * n


def small_one(dtype="float32", n=3, **options):
    return Population([4, 6, 1], n, activation="tanh", output="identity", dtype=dtype, rng=1, **options)


def left(model):
    """What a step changes."""
    state = model._network.optimizer_state()
    return model.vector.tobytes(), None if state is None else (repr(state[0]), *(part.tobytes() for part in state[1:]))


# ---- derivatives ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NETS)
def test_each_member_has_the_bits_of_its_model(name, dtype):
    """Its own X or a shared one, on one thread and on two; a single block, a sum of heights, several blocks."""
    several = 200 if name == "batch norm" else 300
    for n, rows, own, threads in ((7, 33, True, 2), (7, several, False, 2), (1, 2, False, 1)):
        population = population_of(name, n, dtype)
        X, dA, V = problem(population, rows, own)
        outputs = population.forward(X, threads=threads)
        assert outputs.shape == dA.shape
        assert outputs.dtype == dtype
        gradients, dX = population.backward(X, dA, inputs=True, threads=threads)
        np.testing.assert_array_equal(population.backward(X, dA, threads=threads), gradients)
        jacobians, along = population.jacobian(X, threads=threads), population.jvp(X, V, threads=threads)
        for i, (x, v) in enumerate(zip(each(X, n), each(V, n), strict=True)):
            model = population[i]
            assert model.forward(x).tobytes() == outputs[i].tobytes()
            gradient, dx = model.backward(x, dA[i], inputs=True)
            assert gradient.tobytes() == gradients[i].tobytes()
            assert dx.tobytes() == dX[i].tobytes()
            assert model.jacobian(x).tobytes() == jacobians[i].tobytes()
            assert model.jvp(x, v).tobytes() == along[i].tobytes()


@pytest.mark.parametrize("name", ["tanh", "layer norm"])
def test_second_derivatives_are_those_of_the_models(name):
    population = population_of(name, 3)
    for own in (False, True):
        X, _, _ = problem(population, 4, own)
        for options in ({}, {"output": 1, "diagonal": True}):
            found = population.hessian(X, **options)
            for i, x in enumerate(each(X, 3)):
                np.testing.assert_array_equal(found[i], population[i].hessian(x, **options))
    np.testing.assert_array_equal(population.hessian(scipy.sparse.csr_array(x))[2], population[2].hessian(x))


@pytest.mark.parametrize("name", NETS)
def test_backward_agrees_with_central_differences(name):
    """Along directions of the parameters, and of the inputs; a relu has no kink between the two points."""
    population, h = population_of(name, 3, "float64"), 1e-6
    X, dA, V = problem(population, 6)
    gradients, dX = population.backward(X, dA, inputs=True)
    vectors = population.vectors
    moving = np.ones(vectors.shape[1], bool)
    if name == "batch norm":  # its running statistics play no part, and a variance must not be negative
        moving[-2 * 8 - 2 * 9 : -2 * 9] = False
        assert not gradients[:, ~moving].any()
    directions = rng.normal(size=vectors.shape) * moving
    costs = []
    for sign in (1, -1):
        population.vectors = vectors + sign * h * directions
        costs.append((dA * population.forward(X)).sum(axis=(1, 2)))
    want = (costs[0] - costs[1]) / (2 * h)
    np.testing.assert_allclose((gradients * directions).sum(axis=1), want, rtol=1e-6, atol=1e-7)
    population.vectors = vectors
    ahead, behind = (population.forward(X + sign * h * V) for sign in (1, -1))
    want = (dA * (ahead - behind)).sum(axis=(1, 2)) / (2 * h)
    np.testing.assert_allclose((dX * V).sum(axis=(1, 2)), want, rtol=1e-6, atol=1e-7)
    if name != "batch norm":
        np.testing.assert_allclose(population.jvp(X, V), (ahead - behind) / (2 * h), rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(np.einsum("nrkj,nrk->nrj", population.jacobian(X), dA), dX, atol=1e-12)


def test_forward_equals_predict_but_for_batch_normalisation():
    for name in ("relu", "softmax"):
        population = population_of(name, 4)
        X, _, _ = problem(population, 40, own=False)
        np.testing.assert_allclose(population.forward(X), population.predict(X), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(population.forward(X[None].repeat(4, 0)), population.predict(X), atol=1e-6)
    population = population_of("batch norm", 4, "float64")
    X, _, _ = problem(population, 40, own=False)
    z = X @ population[1].weights[0].T
    z = np.tanh((z - z.mean(axis=0)) / np.sqrt(z.var(axis=0) + 1e-5))
    np.testing.assert_allclose(population.forward(X)[1], z @ population[1].weights[-1].T, atol=1e-12)


def test_x_and_gradients_of_any_kind():
    """Lists, bytes, sparse rows; a gradient for all members, and without the axis of a single output."""
    population = small_one()
    X, dA = rng.integers(0, 3, (9, 4)), rng.normal(size=(3, 9, 1)).astype(np.float32)
    want, of_x = population.backward(X.astype(np.float32), dA, inputs=True)
    for x in (X, X.tolist(), [X.tolist()] * 3, X.astype(np.uint8), scipy.sparse.csr_array(X)):
        gradients, dX = population.backward(x, dA[:, :, 0].tolist(), inputs=True)
        np.testing.assert_allclose(gradients, want, atol=1e-5)
        np.testing.assert_allclose(dX, of_x, atol=1e-6)
        np.testing.assert_allclose(population.forward(x), population.predict(X), atol=1e-6)
    for d in (dA[0], dA[0, :, 0]):
        np.testing.assert_array_equal(population.backward(X, d), population.backward(X, np.stack([d] * 3)))
    along = population.jvp(X, np.eye(4)[[1] * 9])
    np.testing.assert_allclose(along, population.jacobian(X)[:, :, :, 1], atol=1e-6)


def test_nan_in_x_gives_nan_out_of_what_may_have_it():
    population = population_of("many outputs", 3)
    X, dA, V = problem(population, 8)
    X[1, 5, 0] = np.nan
    for found in (population.forward(X), population.jvp(X, V), population.jacobian(X), population.hessian(X)):
        there = np.isnan(found.reshape(3, 8, -1))
        assert there[1, 5].all()
        assert there.sum() == there[1, 5].sum()
    for call in (population.backward, population.step):
        with pytest.raises(ValueError, match=r"X must be finite in float32, got X\[13, 0\] = nan"):
            call(X, dA)


def test_subnormal_numbers_stay_as_a_model_keeps_them():
    population = Population([1, 1], 2, output="exp", init="zeros")
    population.vectors = np.array([[1, 0], [2, 0]])
    X = np.array([[-95.0], [-100.0], [-49.0]], np.float32)
    outputs = population.predict(X)
    assert 0 < outputs[0, 1, 0] < np.finfo(np.float32).tiny
    for i, model in enumerate(population):
        assert outputs[i].tobytes() == model.predict(X).tobytes()
        gradient = model.backward(X, np.ones((3, 1)))
        assert population.backward(X, np.ones((3, 1)))[i].tobytes() == gradient.tobytes()


def test_frozen_layers_have_no_gradient_and_stay(engine):
    models = [Model([4, 6, 5, 2], activation="tanh", output="identity", rng=i) for i in range(3)]
    whole = Population.from_models(models)
    X, dA, _ = problem(whole, 12)
    want, of_x = whole.backward(X, dA, inputs=True)
    for model in models:
        model.freeze([0, 2])
    population = Population.from_models(models)
    gradients, dX = population.backward(X, dA, inputs=True)
    np.testing.assert_array_equal(dX, of_x)
    np.testing.assert_array_equal(gradients[:, 30:65], want[:, 30:65])
    assert not np.delete(gradients, np.s_[30:65], 1).any()
    before = population.vectors
    assert population.step(X, dA, optimizer="adam").all()
    moved = population.vectors != before
    assert moved[:, 30:65].all()
    assert moved.sum() == 3 * 35


# ---- step ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["tanh", "relu", "prelu", "softmax", "residual", "batch norm"])
def test_steps_agree_with_those_of_the_models(name, dtype, engine):
    """Three of them, the models beginning each with the members' parameters and optimizers' states."""
    if engine == "in lanes" and name not in ("tanh", "relu", "prelu"):
        pytest.skip("only networks of Dense and PReLU layers, without a softmax, step in lanes")
    rates = np.geomspace(1e-3, 0.1, 7)
    for n, rows, own, threads in ((7, 33, True, 2), (1, 200, False, 1)):
        population = population_of(name, n, dtype)
        X, dA, _ = problem(population, rows, own)
        for _ in range(3):
            models = list(population)
            assert population.step(X, dA / rows, optimizer=Momentum(rates[:n]), threads=threads).all()
            for i, (model, x) in enumerate(zip(models, each(X, n), strict=True)):
                model.step(x, dA[i] / rows, optimizer=Momentum(float(rates[i])))
                tolerance = {"float32": 1e-6, "float64": 1e-13}[dtype] * max(1, np.abs(model.vector).max())
                np.testing.assert_allclose(population.vectors[i], model.vector, atol=tolerance, rtol=0)
                assert population[i]._network.optimizer == model._network.optimizer


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda r: SGD(r),
        lambda r: SGD(0.1, clip_norm=r),
        lambda r: Adam(r, beta1=0.5 * np.ones_like(r)[()]),
        lambda r: Adam(ExponentialDecay(r, gamma=0.5, per="step")),
        lambda r: SGD(CosineDecay(r, length=3), clip_value=0.1),
        lambda r: Rprop(r),
    ],
)
def test_every_number_of_an_optimizer_may_be_an_array(optimizer, engine):
    """Steps go on from the state of those before, and a fit goes on from theirs."""
    rates = np.array([0.05, 0.03, 0.02])
    population = small_one("float64")
    models = list(population)
    X, dA, _ = problem(population, 16)
    for _ in range(3):
        assert population.step(X, dA, optimizer=optimizer(rates)).all()
    population.fit(X, dA, epochs=2, batch_size=16, shuffle=False, optimizer=optimizer(rates))
    for i, model in enumerate(models):
        for _ in range(3):
            model.step(X[i], dA[i], optimizer=optimizer(rates[i]))
        model.fit(X[i], dA[i], epochs=2, batch_size=16, shuffle=False, optimizer=optimizer(rates[i]))
        np.testing.assert_allclose(population.vectors[i], model.vector, rtol=1e-9, atol=1e-11)
        state, other = (each._network.optimizer_state() for each in (population[i], model))
        assert state[0] == other[0]
        np.testing.assert_array_equal(state[2], other[2])


def test_members_may_have_optimizers_of_other_kinds():
    population = small_one("float64")
    X, dA, _ = problem(population, 16)
    found = [SGD(0.1), Adam(0.01), SGD(0.2)]
    models = list(population)
    assert population.step(X, dA, optimizer=found).all()
    for i, (model, optimizer) in enumerate(zip(models, found, strict=True)):
        model.step(X[i], dA[i], optimizer=optimizer)
        np.testing.assert_allclose(population.vectors[i], model.vector, atol=1e-13)


@pytest.mark.parametrize("optimizer", [SGD, Adam])
def test_a_member_that_diverges_keeps_what_it_has(optimizer, engine):
    """By its rate, and by outputs that are not finite; the others have the bits that they have without it."""
    rates, well = np.array([0.1, 0.2, 1e39, 0.05, 0.3]), [0, 1, 3, 4]
    population = small_one(n=5)
    X, dA, _ = problem(population, 16, own=False)
    assert population.step(X, np.ones((16, 1)), optimizer=optimizer(0.01)).all()
    before, others = left(population[2]), population[well]
    for _ in range(2):
        taken = population.step(X, dA, optimizer=optimizer(rates))
        assert taken.tolist() == [True, True, False, True, True]
        assert others.step(X, dA[well], optimizer=optimizer(rates[well])).all()
        assert left(population[2]) == before
        np.testing.assert_array_equal(population.vectors[well], others.vectors)
    vectors = population.vectors
    vectors[0] = 3e38
    population.vectors = vectors
    taken = population.step(X, np.zeros((16, 1)), optimizer=optimizer(0.1))
    assert taken.tolist() == [False, True, True, True, True]
    np.testing.assert_array_equal(population.vectors[0], vectors[0])


def test_a_step_descends_the_sum_whatever_the_rows_are(engine):
    """Of one row, of a block, and of several; a gradient as large as can be does not overflow."""
    for rows in (1, 50, 600):
        population = small_one("float64")
        X, dA, _ = problem(population, rows)
        before, gradients = population.vectors, population.backward(X, dA)
        population.step(X, dA, optimizer=SGD(0.01))
        np.testing.assert_allclose(population.vectors, before - 0.01 * gradients, rtol=1e-12, atol=1e-12)
    population = small_one()
    assert population.step(np.zeros((64, 4)), np.full((64, 1), 3e36), optimizer=SGD(1e-30)).all()


def test_a_step_leaves_history_names_and_generators():
    population = small_one()
    X, dA, _ = problem(population, 16)
    history = population.fit(X, dA, epochs=2, batch_size=8)
    states = population._members.states[["random", "noise"]].tolist()
    population.step(X, dA, optimizer="adam")
    assert population.history is history
    assert population._feature_names is None
    assert population._members.states[["random", "noise"]].tolist() == states


def test_ctrl_c_leaves_each_member_before_or_after_its_step(interrupt_after, engine, monkeypatch):
    """A further step is possible."""
    monkeypatch.setattr("fastnn.checks.calls.FIRST_SWEEP", 0)  # else the first call takes all of them
    stepped = {"one by one": range(1, 4), "in lanes": (5,)}[engine]  # a call of lanes takes all members that they hold
    for count, done in enumerate(stepped, 2):  # the first call only loads what is compiled
        population, other = small_one(n=5), small_one(n=5)
        X, dA, _ = problem(population, 16)
        before = population.vectors
        other.step(X, dA, optimizer="adam")
        with interrupt_after(count, name={"one by one": "train_members", "in lanes": "train_groups"}[engine]):
            population.step(X, dA, optimizer="adam", threads=1)
        np.testing.assert_array_equal(population.vectors[:done], other.vectors[:done])
        np.testing.assert_array_equal(population.vectors[done:], before[done:])
        assert population.step(X, dA, optimizer="adam").all()


def test_further_steps_take_the_programs_of_the_first(engine, monkeypatch):
    """Each thread has a plan, and all of them are kept."""
    for module in ("threads", "network"):
        monkeypatch.setattr(f"fastnn.network.{module}.available_threads", lambda: 4)
    module, name = {"one by one": (one_by_one, "Plan"), "in lanes": (lanes, "GroupPlan")}[engine]
    original, made = getattr(module, name), []
    monkeypatch.setattr(module, name, lambda *arguments: made.append(original(*arguments)) or made[-1])
    population = small_one(n=7)
    X, dA, _ = problem(population, 16)
    for threads in (4, 4, 1, 4):
        population.step(X, dA, threads=threads)
        assert len(made) == 4  # more than a model keeps


def test_further_steps_are_those_of_a_new_call(engine):
    """Whatever happens between them: other samples, numbers of rows, optimizers and fits; new memory; a divergence."""
    population, alone = small_one(n=5), small_one(n=5)
    adam, momentum, rates = Adam(0.01), Momentum(0.02), SGD(np.array([0.1, 0.2, 1e38, 0.3, 0.4]))
    X, dA, _ = problem(population, 16)

    def step(i, rows=16, optimizer=adam):
        some, gradient = rng.standard_normal((5, rows, X.shape[-1])).astype("f4"), dA[:, :rows] * (1 + i)
        alone._steps = None  # so that nothing is left of the last call
        taken = [each.step(some, gradient, optimizer=optimizer) for each in (population, alone)]
        np.testing.assert_array_equal(*taken)
        np.testing.assert_array_equal(population.vectors, alone.vectors)
        return taken[0]

    def both(do):
        for each in (population, alone):
            do(each)

    for i in range(3):
        step(i)
    step(3, rows=12)
    step(4, optimizer=momentum)
    step(5)
    both(lambda each: each.fit(X, dA, epochs=1, batch_size=16, optimizer=momentum))
    step(6, optimizer=momentum)
    both(lambda each: each.replace([0], [1]))
    step(7, optimizer=momentum)
    both(lambda each: setattr(each, "vectors", each.vectors / 2))
    step(8, optimizer=momentum)
    assert [step(i, optimizer=rates).tolist() for i in (9, 10)] == [[True, True, False, True, True]] * 2
    population = pickle.loads(pickle.dumps(population))
    step(11, optimizer=rates)
    own = [SGD(0.1)] * 5
    step(12, optimizer=own)
    own[2] = SGD(0.3)
    step(13, optimizer=own)


# ---- blend ----


@pytest.mark.parametrize("dtype", DTYPES)
def test_blends_are_those_of_the_models(dtype):
    for tau in (0, 0.3, 1.0, np.array([0.0, 0.25, 1.0])):
        population, others = small_one(dtype), small_one(dtype, init="normal")
        models = list(population)
        population.blend(others, tau)
        for i, (model, other) in enumerate(zip(models, others, strict=True)):
            model.blend(other, float(np.broadcast_to(tau, 3)[i]))
            assert population.vectors[i].tobytes() == model.vector.tobytes()


# ---- errors ----

X, DA = np.zeros((5, 4)), np.zeros((3, 5, 1))
WRONG = {
    "width of X": (lambda p: p.forward(X[:, 1:]), ValueError, r"X must have shape \(n, 4\), got \(5, 3\)"),
    "members of X": (lambda p: p.forward(np.zeros((2, 5, 4))), ValueError, r"X must have shape \(rows, 4\) or \(3,"),
    "ragged": (lambda p: p.forward((X, [0, 1, 2, 5])), ValueError, r"\(3, rows, 4\), got a tuple of length 2"),
    "no rows": (lambda p: p.jacobian(X[:0]), ValueError, "X must hold at least one sample"),
    "text": (lambda p: p.backward([["a"] * 4], [1]), TypeError, "X must hold numbers"),
    "rows of dA": (lambda p: p.backward(X, DA[:, 1:]), ValueError, r"dA must have shape \(5, 1\) or \(3, 5, 1\), got"),
    "members of dA": (lambda p: p.step(X, DA[1:]), ValueError, r"dA must have shape .*, got \(2, 5, 1\)"),
    "infinite dA": (lambda p: p.step(X, DA + np.inf), ValueError, r"dA must be finite .*dA\[0, 0, 0\] = inf"),
    "V": (lambda p: p.jvp(X, X[:2]), ValueError, r"V must have shape \(5, 4\) or \(3, 5, 4\), got \(2, 4\)"),
    "inputs": (lambda p: p.backward(X, DA, inputs=1), TypeError, "inputs must be"),
    "threads": (lambda p: p.step(X, DA, threads=0), ValueError, "threads must be"),
    "threads of backward": (lambda p: p.backward(X, DA, threads=1.5), TypeError, "threads must be"),
    "whole set": (lambda p: p.step(X, DA, optimizer=LBFGS()), ValueError, "must take steps by batches"),
    "optimizers": (lambda p: p.step(X, DA, optimizer=[SGD()] * 2), ValueError, "for each of 3 members, got 2"),
    "rates": (lambda p: p.step(X, DA, optimizer=SGD(np.ones(4))), ValueError, "for each of 3 members, got 4"),
    "output": (lambda p: p.hessian(X, output=1), ValueError, "output must be"),
    "no population": (lambda p: p.blend(p[0], 0.5), TypeError, "others must be a Population, got Model"),
    "fewer others": (lambda p: p.blend(p[:2], 0.5), ValueError, "others must have the layers, dtype and number"),
    "other layers": (lambda p: p.blend(Population([4, 1], 3), 0.5), ValueError, "others must have the layers"),
    "tau": (lambda p: p.blend(p, 1.5), ValueError, "tau must be"),
    "taus": (lambda p: p.blend(p, np.array([0.5, -1, 0])), ValueError, r"tau\[1\] must be"),
    "too few taus": (lambda p: p.blend(p, np.zeros(2)), ValueError, "for each of 3 members, got 2"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_errors_say_what_is_wrong_and_change_nothing(wrong):
    call, error, message = WRONG[wrong]
    population = small_one()
    before = [left(model) for model in population]
    with pytest.raises(error, match=message):
        call(population)
    assert [left(model) for model in population] == before


def test_batch_normalisation_needs_two_rows_and_a_block():
    population = population_of("batch norm", 2)
    for rows in (1, 2000):
        X, dA, _ = problem(population, rows)
        calls = population.forward, lambda x: population.backward(x, dA), lambda x: population.step(x, dA)  # noqa: B023
        for call in calls:
            with pytest.raises(ValueError, match=f"BatchNorm normalises them as a whole, got {rows}"):
                call(X)
        population.jacobian(X[:, :2])


def test_step_neurons_have_no_gradient_of_the_parameters():
    population = Population([4, 3, 1], 2, activation="step", output="identity")
    for call in (population.backward, population.step):
        with pytest.raises(ValueError, match="cannot train"):
            call(X, np.zeros((2, 5, 1)))
    assert population.backward(X, np.zeros((2, 5, 1)), inputs=True)[1].shape == (2, 5, 4)


def test_while_a_fit_runs_nothing_may_change():
    """What only reads goes on."""
    population, claim = small_one(), threading.Lock()
    before = population.vectors
    with claim:
        population._claims.take(claim)
        for call in (lambda: population.step(X, DA + 1), lambda: population.blend(population, 0.5)):
            with pytest.raises(RuntimeError, match="while it is being trained"):
                call()
        assert population.forward(X).shape == (3, 5, 1)
        assert not population.backward(X, DA).any()
    np.testing.assert_array_equal(population.vectors, before)
    assert population.step(X, DA + 1).all()


def test_names_of_columns_are_checked():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(np.arange(20.0).reshape(5, 4) / 20, columns=list("abcd"))
    population = small_one()
    population.fit(frame, np.zeros(5), epochs=1, batch_size=5)
    np.testing.assert_allclose(population.forward(frame), population.predict(frame.to_numpy()), atol=1e-6)
    for call in (population.forward, lambda x: population.step(x, DA)):
        with pytest.raises(ValueError, match="columns of the frame that trained first"):
            call(frame[list("abdc")])
