"""Inputs become (x - shift) * scale, in every call of a model and of a population, whatever their mean is."""

import copy
import pickle
import re

import numpy as np
import pytest
import scipy.sparse

import fastnn
from fastnn import SGD, Adam, Dense, Model, Population, Stream
from fastnn.kernels.programs import strategy

from .test_storage import rewrite

DTYPES = ("float32", "float64")
# The error of x, which is about as large as 1, in units of the largest: what the promise is, and rounding of float64.
LEFT = {"float32": 2e-6, "float64": 1e-13}


def table(n, width, kind, ratio=1e6, seed=0):
    """(X as it is stored, shift, scale): a mean of so many deviations in either direction; bytes for "uint8"."""
    rng = np.random.default_rng(seed)
    if kind == "uint8":
        X = rng.integers(0, 256, (n, width)).astype(np.uint8)
    else:
        deviation = rng.uniform(0.1, 10, width)
        X = (deviation * (rng.standard_normal((n, width)) + ratio * rng.choice([-1, 1], width))).astype(kind)
    return X, *fastnn.standardize(X)


def reference(X, shift, scale):
    """What inputs become, from the stored rows, in float64."""
    return (np.asarray(X, np.float64) - shift) * scale


def mirror(width, dtype="float32", **options):
    """A model whose outputs are its inputs as they are loaded."""
    model = Model([width, width], output="identity", init="zeros", dtype=dtype, **options)
    model.weights[0][...] = np.eye(width)
    return model


# ---- what inputs become ----


@pytest.mark.pairs
@pytest.mark.parametrize("how", ["row-major", "feature-major"])
@pytest.mark.parametrize("ratio", [1, 1e3, 1e6])
@pytest.mark.parametrize("kind", ["float32", "float64", "uint8"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 5, 16, 37])
def test_predictions(width, dtype, kind, ratio, how, orientation):
    """Of one row, of a few, of several blocks on threads; of a hidden layer; and the loss."""
    orientation(how)
    X, shift, scale = table(3000, width, kind, ratio)
    want, model = reference(X, shift, scale), mirror(width, dtype, input_shift=shift, input_scale=scale)
    for rows in (slice(0, 1), slice(3, 10), slice(0, 3000)):
        np.testing.assert_allclose(model.predict(X[rows]), want[rows], rtol=LEFT[dtype], atol=LEFT[dtype])
    np.testing.assert_array_equal(model.predict(X, threads=2), model.predict(X))
    np.testing.assert_allclose(model.forward(X[:40]), want[:40], rtol=LEFT[dtype], atol=LEFT[dtype])
    assert model.loss(X, np.zeros_like(want)) == pytest.approx((want**2).sum() / 6000, rel=1e-6)
    hidden = Model(
        [width, Dense(width, "identity"), 1], init="zeros", dtype=dtype, input_shift=shift, input_scale=scale
    )
    hidden.weights[0][...] = np.eye(width)
    np.testing.assert_allclose(hidden.hidden_activations(X[:40])[0], want[:40], rtol=LEFT[dtype], atol=LEFT[dtype])


def step_of_training(subject, X, batch_size=None, **arguments):
    """Let zero weights become the rows of X as they were loaded: a step of SGD(n) on targets that are a unit matrix."""
    n = len(X)
    return subject.fit(X, np.eye(n), epochs=1, batch_size=n, optimizer=SGD(float(n)), shuffle=False, **arguments)


@pytest.mark.pairs
@pytest.mark.parametrize("how", ["row-major", "feature-major"])
@pytest.mark.parametrize("kind", ["float32", "float64", "uint8", "sparse"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 5, 37])
def test_training(width, dtype, kind, how, orientation):
    """Of a fit, a single step, a stream, a step on a gradient from outside, and an optimizer of the whole set."""
    orientation(how)
    n, options = 16, {"output": "identity", "init": "zeros", "dtype": dtype}
    X, shift, scale = table(n, width, "float64" if kind == "sparse" else kind)
    if kind == "sparse":
        X[np.random.default_rng(0).random(X.shape) < 0.3] = 0
        shift, scale = fastnn.standardize(X)
    want, given = reference(X, shift, scale), scipy.sparse.csr_array(X) if kind == "sparse" else X
    models = [Model([width, n], input_shift=shift, input_scale=scale, **options) for _ in range(4)]
    models[0].fit(given, np.eye(n), epochs=1, batch_size=n, optimizer=SGD(float(n)))
    models[1].partial_fit(given, np.eye(n), optimizer=SGD(float(n)))
    if kind == "sparse":
        models[2].step(given, -np.eye(n), optimizer=SGD(1.0))
    else:
        stream = Stream([(X[:5], np.eye(n)[:5]), (X[5:], np.eye(n)[5:])])
        models[2].fit(stream, epochs=1, batch_size=n, optimizer=SGD(float(n)))
    models[3].forward(given)
    models[3].step(given, -np.eye(n), optimizer=SGD(1.0))
    for model in models:
        np.testing.assert_allclose(model.weights[0], want, rtol=LEFT[dtype], atol=LEFT[dtype])
    gradient = Model([width, n], input_shift=shift, input_scale=scale, **options).gradients(given, np.eye(n))[0][0]
    np.testing.assert_allclose(-n * gradient, want, rtol=LEFT[dtype], atol=LEFT[dtype])


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_a_fit_is_that_on_rows_in_float64(kind):
    """Several epochs on drawn orders, with a last batch, on threads, validation and several optimizers."""
    X, shift, scale = table(700, 30, kind)
    y, want = np.random.default_rng(1).integers(0, 3, 700), reference(X, shift, scale)
    plain = Model([30, 24, 3], dtype="float64", loss="cross_entropy", rng=0)
    model = Model([30, 24, 3], loss="cross_entropy", input_shift=shift, input_scale=scale, rng=0)
    plain.vector = model.vector
    for optimizer in (SGD(0.1), Adam(0.001), "lbfgs"):
        size = 700 if optimizer == "lbfgs" else 64
        optimizer = fastnn.LBFGS() if optimizer == "lbfgs" else optimizer
        for each, rows in ((model, X), (plain, want)):
            each.fit(rows, y, epochs=3, batch_size=size, optimizer=optimizer, validation_data=(rows[:50], y[:50]))
    np.testing.assert_allclose(model.vector, plain.vector, atol=5e-5)
    assert model.history.val_loss == pytest.approx(plain.history.val_loss, rel=1e-4)
    assert model.evaluate(X, y)["loss"] == pytest.approx(plain.evaluate(want, y)["loss"], rel=1e-4)


@pytest.mark.parametrize("kind", [Model, Population])
def test_two_fits_have_the_bits_of_one(kind):
    """float64 rows that many epochs read are rounded once, without their shift; with callbacks that freeze too."""
    (X, shift, scale), y = table(300, 6, "float64"), np.random.default_rng(1).integers(0, 3, 300)
    members = () if kind is Model else (5,)
    one, two = (kind([6, 8, 3], *members, input_shift=shift, input_scale=scale, rng=0) for _ in range(2))
    options = {"batch_size": 32, "validation_data": (X[:40], y[:40])}
    losses = np.array(one.fit(X, y, epochs=2, **options).val_loss)
    two.fit(X, y, epochs=1, **options)
    second = np.array(two.fit(X, y, epochs=1, **options).val_loss)
    found = [each.vector if kind is Model else each.vectors for each in (one, two)]
    np.testing.assert_array_equal(*found)
    np.testing.assert_array_equal(losses[..., -1], second[..., -1])


def test_a_callback_may_freeze_a_layer():
    (X, shift, scale), y = table(300, 6, "float64"), np.random.default_rng(1).integers(0, 3, 300)
    one, two = (Model([6, 8, 3], input_shift=shift, input_scale=scale, rng=0) for _ in range(2))
    one.fit(X, y, epochs=2, batch_size=32, callbacks=[lambda model: model.freeze(0)])
    two.fit(X, y, epochs=1, batch_size=32)
    two.freeze(0)
    two.fit(X, y, epochs=1, batch_size=32)
    np.testing.assert_array_equal(one.vector, two.vector)


def test_threads_have_the_bits_of_one():
    X, shift, scale = table(3000, 400, "float32")
    y = np.random.default_rng(1).integers(0, 10, 3000)
    models = [Model([400, 300, 10], input_shift=shift, input_scale=scale, rng=0) for _ in range(2)]
    for threads, model in enumerate(models, 1):
        model.fit(X, y, epochs=1, batch_size=1000, threads=threads)
    np.testing.assert_array_equal(models[0].parameters, models[1].parameters)
    np.testing.assert_array_equal(models[0].predict(X, threads=2), models[0].predict(X, threads=1))


@pytest.mark.parametrize("kind", ["float32", "uint8"])
def test_equal_numbers_have_the_bits_of_one(kind):
    """An array of equal scales and a shift of zero."""
    X, y = table(400, 21, kind, 1)[0], np.random.default_rng(1).integers(0, 3, 400)
    inputs = (
        {"input_scale": np.full(21, 1 / 255)},
        {"input_scale": 1 / 255},
        {"input_scale": 1 / 255, "input_shift": 0.0},
    )
    models = [Model([21, 8, 3], rng=0, **each) for each in inputs]
    for model in models:
        model.fit(X, y, epochs=2, batch_size=7)
        model.partial_fit(X[:50], y[:50])
    for model in models[1:]:
        np.testing.assert_array_equal(model.parameters, models[0].parameters)
        np.testing.assert_array_equal(model.predict(X), models[0].predict(X))
        np.testing.assert_allclose(model.input_gradients(X), models[0].input_gradients(X), rtol=1e-6, atol=1e-9)


def test_a_number_is_for_all_inputs():
    X = np.random.default_rng(0).normal(1e5, 1, (50, 4))
    one, two = mirror(4, input_shift=1e5, input_scale=-2.5), mirror(4, input_shift=[1e5] * 4, input_scale=[-2.5] * 4)
    np.testing.assert_array_equal(one.predict(X), two.predict(X))
    np.testing.assert_allclose(one.predict(X), (X - 1e5) * -2.5, rtol=1e-6, atol=1e-6)
    assert (one.input_shift, one.input_scale, mirror(4).input_shift) == (1e5, -2.5, None)
    np.testing.assert_array_equal(two.input_shift, [1e5] * 4)
    assert two.input_shift.dtype == np.float64


def test_integers_and_frames_are_subtracted_in_float64():
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame({"time": 1_700_000_000 + rng.integers(0, 1000, 200), "size": rng.normal(5, 2, 200)})
    shift, scale = fastnn.standardize(frame)
    model = mirror(2, input_shift=shift, input_scale=scale)
    np.testing.assert_allclose(model.predict(frame), reference(frame, shift, scale), rtol=1e-6, atol=1e-6)
    whole = frame[["time"]].to_numpy()
    model = mirror(1, input_shift=shift[:1], input_scale=scale[:1])
    np.testing.assert_allclose(model.predict(whole), reference(whole, shift[:1], scale[:1]), rtol=1e-6, atol=1e-6)


def test_sparse_rows_with_a_column_twice():
    """Its numbers are added before they are shifted."""
    X = scipy.sparse.csr_array((np.array([1.0, 2, 4, 8]), np.array([2, 0, 2, 1]), np.array([0, 3, 3, 4])), (3, 4))
    model = mirror(4, input_shift=[1, 2, 3, 4], input_scale=[1, 2, 0.5, 1])
    want = reference(X.toarray(), [1, 2, 3, 4], [1, 2, 0.5, 1])
    np.testing.assert_array_equal(want[0], [1, -4, 1, -4])
    np.testing.assert_array_equal(model.predict(X), want)
    np.testing.assert_array_equal(X.data, [1, 2, 4, 8])


def test_nan_in_gives_nan_out():
    model = mirror(3, input_shift=[1, 2, 3])
    X = np.array([[1, np.nan, 2], [1, 2, 3]])
    for rows in (X, X.astype(np.float32)):
        found = model.predict(rows)
        assert np.isnan(found[0]).all()  # a product of NaN and the zeros of a unit matrix
        np.testing.assert_array_equal(found[1], 0)


# ---- derivatives are of X as passed ----


@pytest.mark.parametrize("kind", DTYPES)
def test_derivatives(kind):
    X, shift, scale = table(9, 5, kind)
    model = Model([5, Dense(8, "tanh"), 3], dtype="float64", input_shift=shift, input_scale=scale, rng=0)
    plain, want = Model([5, Dense(8, "tanh"), 3], dtype="float64", rng=0), reference(X, shift, scale)
    rng = np.random.default_rng(1)
    V, d_a = rng.standard_normal((9, 5)), rng.standard_normal((9, 3))
    for name in ("input_gradients", "jacobian"):
        np.testing.assert_allclose(getattr(model, name)(X), getattr(plain, name)(want) * scale, rtol=1e-9)
    np.testing.assert_allclose(model.jvp(X, V), plain.jvp(want, V * scale), rtol=1e-9)
    of_plain = plain.hessian(want, output=1)
    np.testing.assert_allclose(model.hessian(X, output=1), of_plain * scale[:, None] * scale, rtol=1e-9)
    np.testing.assert_allclose(
        model.hessian(X, diagonal=True), plain.hessian(want, diagonal=True) * scale**2, rtol=1e-9
    )
    gradient, d_x = model.backward(X, d_a, inputs=True)
    of_plain, d_plain = plain.backward(want, d_a, inputs=True)
    np.testing.assert_allclose(gradient, of_plain, rtol=1e-9)
    np.testing.assert_allclose(d_x, d_plain * scale, rtol=1e-9)
    np.testing.assert_allclose(model.hidden_activations(X)[0], plain.hidden_activations(want)[0], rtol=1e-9)


def test_noise_is_added_to_what_inputs_become():
    X, y = np.full((200, 6), 1e6, np.float32), np.random.default_rng(0).integers(0, 2, 200)
    shifted, plain = Model([6, 3, 2], input_shift=1e6, rng=0), Model([6, 3, 2], rng=0)
    shifted.fit(X, y, epochs=2, batch_size=10, input_noise=0.5)
    plain.fit(np.zeros_like(X), y, epochs=2, batch_size=10, input_noise=0.5)
    np.testing.assert_array_equal(shifted.parameters, plain.parameters)


# ---- copies and files ----


def models_with_inputs():
    """Models with numbers and arrays."""
    numbers = {"input_shift": [1 / 3, -1e6, 0, 2**-60], "input_scale": (1, 0.1, -7, 1e-3)}
    for options in (
        numbers,
        {"input_shift": 0.1},
        {"input_scale": numbers["input_scale"]},
        {"input_shift": [1, 2, 3, 4]},
    ):
        for dtype in DTYPES:
            yield Model([4, 5, 2], output="identity", rng=0, dtype=dtype, **options)


def same_inputs(one, other):
    for name in ("input_shift", "input_scale"):
        first, second = getattr(one, name), getattr(other, name)
        assert type(first) is type(second)
        np.testing.assert_array_equal(first, second)


def test_files_and_copies_keep_them(tmp_path):
    X, path = np.random.default_rng(0).normal(1, 3, (9, 4)), tmp_path / "model.safetensors"
    for model in models_with_inputs():
        model.fit(X, X[:, :2], epochs=2, batch_size=4)
        model.save(path)
        for other in (fastnn.load(path), pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
            same_inputs(other, model)
            assert repr(other) == repr(model)
            np.testing.assert_array_equal(other.predict(X), model.predict(X))
            other.freeze(0)
            other.replace_head(3)
            same_inputs(other, model)
            assert other.predict(X).shape == (9, 3)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"input_shift": [1.0, 2.0]}, r"input_shift must have shape \(4,\), got \(2,\)"),
        ({"input_shift": []}, r"input_shift must have shape \(4,\), got \(0,\)"),
        ({"input_shift": [1.0, 2.0, 3.0, None]}, "input_shift must be finite"),
        ({"input_shift": "big"}, "input_shift must be a number"),
        ({"input_scale": [[1.0, 2.0, 3.0, 4.0]]}, r"input_scale must have shape \(4,\), got \(1, 4\)"),
        ({"input_scale": {"a": 1}}, "input_scale must be a number"),
    ],
)
def test_damaged_files_are_refused(change, reason, tmp_path):
    path = tmp_path / "model.safetensors"
    Model([4, 2], input_shift=[1, 2, 3, 4], rng=0).save(path)
    rewrite(path, model=change)
    with pytest.raises(ValueError, match=reason):
        fastnn.load(path)


def test_repr_and_summary_say_it():
    model = Model([3, 2], input_shift=[1, 2, 3], input_scale=0.5)
    assert "input_shift=(1.0, 2.0, 3.0), input_scale=0.5" in repr(model)
    assert "3 inputs, input_shift of each input, input_scale 0.5, loss quadratic" in model.summary()
    population = Population([3, 2], 4, input_shift=np.zeros((4, 3)))
    assert "<input_shift and input_scale of each member>" in repr(population)
    assert "input_shift and input_scale of each member" in population.summary()


@pytest.mark.parametrize(
    ("options", "kind", "reason"),
    [
        ({"input_shift": [1, 2]}, ValueError, r"input_shift must have shape (3,), got (2,)"),
        ({"input_scale": np.ones((3, 1))}, ValueError, r"input_scale must have shape (3,), got (3, 1)"),
        ({"input_scale": ()}, ValueError, r"input_scale must have shape (3,), got (0,)"),
        (
            {"input_shift": [1, np.nan, 2]},
            ValueError,
            "input_shift must be finite in float64, got input_shift[1] = nan",
        ),
        (
            {"input_scale": [1, 2, np.inf]},
            ValueError,
            "input_scale must be finite in float64, got input_scale[2] = inf",
        ),
        (
            {"input_scale": [1, 1e300, 2]},
            ValueError,
            "input_scale must be finite in float32, got input_scale[1] = 1e+300",
        ),
        ({"input_shift": ["a", "b", "c"]}, TypeError, "input_shift must hold numbers, got an array of dtype <U1"),
        ({"input_shift": "mean"}, TypeError, "input_shift must be a number, got 'mean'"),
        ({"input_shift": True}, TypeError, "input_shift must be a number, got True"),
        ({"input_shift": np.inf}, ValueError, "input_shift must be a finite number, got inf"),
    ],
)
def test_wrong_arguments(options, kind, reason):
    with pytest.raises(kind, match=re.escape(reason)):
        Model([3, 2], **options)


def test_x_must_be_finite_in_the_dtype():
    """Also where float64 X stays so."""
    X, y = np.ones((10, 3)), np.ones((10, 2))
    X[4, 1] = 1e300
    for model in (Model([3, 2], input_shift=[1, 2, 3]), Model([3, 2])):
        for call in (lambda: model.fit(X, y, epochs=1, batch_size=5), lambda: model.partial_fit(X, y)):  # noqa: B023
            with pytest.raises(ValueError, match=re.escape("X must be finite in float32, got X[4, 1] = 1e+300")):
                call()


# ---- populations ----


def each(n, width, seed=3):
    rng = np.random.default_rng(seed)
    return rng.normal(0, 5, (n, width)), rng.uniform(0.1, 2, (n, width))


@pytest.mark.pairs
@pytest.mark.parametrize("in_lanes", [True, False])
@pytest.mark.parametrize("kind", ["float32", "float64", "uint8", "sparse"])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("own", [True, False])
def test_members_are_models(own, threads, kind, in_lanes, monkeypatch, orientation):
    """By their own shift and scale, or by one for all; with their bits, which lanes have of row-major models."""
    if in_lanes:
        orientation("row-major")
    monkeypatch.setattr(strategy, "lanes_pay", lambda layout, batch_size: in_lanes)
    n, (X, *common) = 21, table(50, 5, "float64" if kind == "sparse" else kind, 30)
    shifts, scales = each(n, 5) if own else common
    shifts = shifts + common[0] if own else shifts
    X = scipy.sparse.csr_array(X) if kind == "sparse" else X
    y = np.random.default_rng(0).uniform(0.2, 0.8, (50, 2))
    population = Population([5, Dense(7, "tanh"), 2], n, input_shift=shifts, input_scale=scales, rng=0)
    held = X[:8], y[:8]
    history = population.fit(X, y, epochs=3, batch_size=8, optimizer="adam", validation_data=held, threads=threads)
    outputs = population.predict(X)
    for i in range(n):
        its = (
            {"input_shift": shifts[i], "input_scale": scales[i]}
            if own
            else dict(zip(("input_shift", "input_scale"), common, strict=True))
        )
        model = Model([5, Dense(7, "tanh"), 2], rng=i, **its)
        model.fit(X, y, epochs=3, batch_size=8, optimizer="adam", validation_data=held, threads=1)
        np.testing.assert_allclose(history.loss[i], model.history.loss, rtol=1e-13)
        np.testing.assert_allclose(history.val_loss[i], model.history.val_loss, rtol=1e-13)
        member = population[i]
        same_inputs(member, model)
        np.testing.assert_array_equal(outputs[i], member.predict(X))
        np.testing.assert_array_equal(population.vectors[i], model.vector)


@pytest.mark.parametrize("in_lanes", [True, False])
@pytest.mark.parametrize("kind", DTYPES)
def test_members_far_from_each_other(kind, in_lanes, monkeypatch):
    """Each with samples of its own, or the same ones, whose mean is a million deviations."""
    monkeypatch.setattr(strategy, "lanes_pay", lambda layout, batch_size: in_lanes)
    n, rows, found = 19, 16, [table(16, 5, kind, seed=seed) for seed in range(19)]
    shifts, scales = (np.array([each[k] for each in found]) for k in (1, 2))
    population = Population([5, rows], n, output="identity", init="zeros", input_shift=shifts, input_scale=scales)
    X = np.stack([each[0] for each in found])
    step_of_members(population, X, rows)
    for i, (its, shift, scale) in enumerate(found):
        np.testing.assert_allclose(population[i].weights[0], reference(its, shift, scale), rtol=2e-6, atol=2e-6)
    shared = Population([5, rows], n, output="identity", init="zeros", input_shift=found[0][1] + each(n, 5)[0])
    step_of_members(shared, X[0], rows)
    for i, member in enumerate(shared):
        want = reference(X[0], shared.input_shift[i], 1)
        np.testing.assert_allclose(member.weights[0], want, rtol=2e-6, atol=2e-6)


def step_of_members(population, X, n):
    population.fit(X, np.eye(n), epochs=1, batch_size=n, optimizer=SGD(float(n)), shuffle=False)


def test_populations_keep_them(tmp_path):
    X, path = np.random.default_rng(0).normal(1, 3, (9, 4)), tmp_path / "population.safetensors"
    shifts, scales = each(6, 4)
    options = {"output": "identity", "rng": 0}
    population = Population([4, 3, 2], 6, input_shift=shifts, input_scale=scales, **options)
    population.fit(X, X[:, :2], epochs=2, batch_size=4)
    outputs = population.predict(X)
    np.testing.assert_array_equal(population.input_shift, shifts)
    np.testing.assert_array_equal(population.input_scale, scales)
    population.save(path)
    loaded, pickled = fastnn.load(path), pickle.loads(pickle.dumps(population))
    models = Population.from_models(population)
    joined = Population.concatenate([population[:2], population[[2, 3]], population[np.arange(6) > 3]])
    for other in (loaded, pickled, models, joined):
        np.testing.assert_array_equal(other.input_shift, shifts)
        np.testing.assert_array_equal(other.predict(X), outputs)
    np.testing.assert_array_equal(population[4:].predict(X), outputs[4:])
    population.replace([0], [5])
    np.testing.assert_array_equal(population.input_shift[0], shifts[5])
    np.testing.assert_array_equal(population.predict(X)[0], outputs[5])


def test_models_of_different_inputs_become_a_population():
    X = np.random.default_rng(0).normal(1, 3, (9, 4))
    options = {"input_shift": 3.0}, {"input_shift": [1, 2, 3, 4], "input_scale": 0.5}, {}, {"input_scale": 7.0}
    models = [Model([4, 3, 2], rng=i, **each) for i, each in enumerate(options)]
    population = Population.from_models(models)
    np.testing.assert_array_equal(population.input_shift, [[3] * 4, [1, 2, 3, 4], [0] * 4, [0] * 4])
    np.testing.assert_array_equal(population.input_scale, [[1] * 4, [0.5] * 4, [1] * 4, [7] * 4])
    for model, outputs in zip(models, population.predict(X), strict=True):
        np.testing.assert_allclose(outputs, model.predict(X), rtol=1e-5)
    alike = Population.from_models([models[1], copy.deepcopy(models[1])])
    assert (alike.input_scale, alike.input_shift.shape) == (0.5, (4,))
    joined = Population.concatenate([alike, population])
    assert joined.input_shift.shape == (6, 4)
    with pytest.raises(ValueError, match="models must have one architecture"):
        Population.from_models([models[0], Model([4, 5, 2])])


def test_wrong_arrays_of_members(tmp_path):
    for options, reason in (
        ({"input_shift": np.ones((3, 2))}, "input_shift must have shape (4, 2), got (3, 2)"),
        ({"input_scale": np.ones((4, 3))}, "input_scale must have shape (4, 2), got (4, 3)"),
        (
            {"input_scale": np.full((4, 2), np.nan)},
            "input_scale must be finite in float64, got input_scale[0, 0] = nan",
        ),
        ({"input_scale": np.ones((4, 2)), "input_shift": [1]}, "input_shift must have shape (2,), got (1,)"),
        ({"input_scale": np.ones(4)}, "input_scale must have shape (2,), got (4,)"),
    ):
        with pytest.raises(ValueError, match=re.escape(reason)):
            Population([2, 1], 4, **options)
    path = tmp_path / "population.safetensors"
    Population([2, 1], 4, input_shift=np.ones((4, 2))).save(path)
    rewrite(path, tensors={"inputs": np.ones((4, 2, 3))})
    with pytest.raises(ValueError, match="inputs"):
        fastnn.load(path)


# ---- standardize ----


@pytest.mark.parametrize("ratio", [0, 1, 1e3, 1e6])
def test_standardize(ratio):
    """Against NumPy in long doubles; of rows as they are stored."""
    X = table(1003, 7, "float64", ratio)[0]
    exact = X.astype(np.longdouble)
    mean, deviation = exact.mean(axis=0), exact.std(axis=0)
    stream = Stream([(X[first : first + 100], np.zeros(100)[: len(X) - first]) for first in range(0, 1003, 100)])
    for given in (X, X.tolist(), scipy.sparse.csr_array(X), scipy.sparse.coo_matrix(X), stream):
        shift, scale = fastnn.standardize(given)
        assert shift.dtype == scale.dtype == np.float64
        np.testing.assert_allclose(((shift - mean) / deviation).astype(float), 0, atol=1e-14 * max(1, ratio))
        np.testing.assert_allclose((scale * deviation).astype(float), 1, rtol=1e-9)


def test_standardize_sparse_and_constant_columns():
    X = np.zeros((50, 5))
    X[:, 1], X[::7, 2], X[:, 3] = 0.1, 3.5, np.arange(50)
    shift, scale = fastnn.standardize(X)
    np.testing.assert_allclose(shift, X.mean(axis=0), rtol=1e-14)
    np.testing.assert_array_equal(scale[[0, 1, 4]], 1)
    np.testing.assert_allclose(scale[2:4], 1 / X.std(axis=0)[2:4])
    for matrix in (scipy.sparse.csr_array(X), scipy.sparse.csc_matrix(X)):
        np.testing.assert_allclose(fastnn.standardize(matrix), (shift, scale), rtol=1e-14)
    twice = scipy.sparse.coo_array((np.array([1.0, 2]), ([0, 0], [1, 1])), (2, 3))
    np.testing.assert_allclose(fastnn.standardize(twice), fastnn.standardize(twice.toarray()), rtol=1e-14)
    np.testing.assert_allclose(fastnn.standardize(X[:, 3:4].astype(np.uint8)), (shift[3:4], scale[3:4]), rtol=1e-14)


def test_standardize_reads_files(tmp_path):
    X = table(1000, 3, "float32")[0]
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", np.zeros(1000))
    stream = Stream.from_npy(tmp_path / "X.npy", tmp_path / "y.npy", buffer_rows=64)
    np.testing.assert_allclose(fastnn.standardize(stream), fastnn.standardize(X), rtol=1e-9)
    model = Model([3, 2, 1], input_shift=fastnn.standardize(stream)[0])
    model.fit(stream, epochs=2, batch_size=100)


@pytest.mark.parametrize(
    ("X", "kind", "reason"),
    [
        (np.zeros((0, 3)), ValueError, "X must hold at least one sample"),
        (np.zeros(3), ValueError, "X must have shape (n, n_inputs), got (3,)"),
        ([[1, np.nan]], ValueError, "X must be finite in float64, got X[0, 1] = nan"),
        ([["a", "b"]], TypeError, "X must hold numbers"),
        (scipy.sparse.csr_array([[1.0, np.inf]]), ValueError, "X.data must be finite in float64"),
        (Stream([(np.ones((2, 3)), np.ones(2)), (np.ones((2, 4)), np.ones(2))]), ValueError, "X must have 3 columns"),
    ],
)
def test_standardize_refuses(X, kind, reason):
    with pytest.raises(kind, match=re.escape(reason)):
        fastnn.standardize(X)
