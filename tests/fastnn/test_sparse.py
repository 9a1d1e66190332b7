"""Sparse samples: as dense ones, in every call of a model."""

import numpy as np
import pytest
import scipy.sparse

from fastnn import SGD, Model
from fastnn.data import arrays

from ..twin import Twin

FORMATS = {
    "csr array": scipy.sparse.csr_array,
    "csc matrix": scipy.sparse.csc_matrix,
    "coo array": scipy.sparse.coo_array,
    "lil array": scipy.sparse.lil_array,
}


def samples(n, width, dtype="float32"):
    """(X, nine tenths of it zeros, and a row without any value; class indices)."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, width)) * (rng.random((n, width)) < 0.1)
    X[3] = 0
    return X.astype(dtype), rng.integers(0, 3, n)


@pytest.mark.pairs
@pytest.mark.parametrize("how", ["row-major", "feature-major"])
@pytest.mark.parametrize("batch_size", [1, 7, 61, 700])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FORMATS)
def test_as_dense(name, dtype, batch_size, how, orientation):
    """The same bits in training, because the batches that the network sees are the same."""
    orientation(how)
    X, y = samples(700, 50, dtype)
    given = FORMATS[name](X)
    models = [Model([50, 20, 3], dtype=dtype, input_scale=0.5, rng=0) for _ in range(2)]
    for model, data in zip(models, (X, given), strict=True):
        model.fit(data, y, epochs=2, batch_size=batch_size, validation_data=(data, y), metric="accuracy")
        model.fit(data, y, epochs=2, batch_size=batch_size, validation_fraction=0.2, optimizer="adam", l2=0.01)
        model.partial_fit(data[:64] if name != "coo array" else FORMATS[name](X[:64]), y[:64], optimizer="adam")
    dense, sparse = models
    np.testing.assert_array_equal(sparse.parameters, dense.parameters)
    assert sparse.history.loss == dense.history.loss
    assert sparse.history.val_loss == dense.history.val_loss
    error = 1e-5 if dtype == "float32" else 1e-13
    np.testing.assert_allclose(sparse.predict(given), dense.predict(X), rtol=error)
    np.testing.assert_array_equal(sparse.classify(given), dense.classify(X))
    assert sparse.evaluate(given, y) == pytest.approx(dense.evaluate(X, y), rel=error)
    assert sparse.loss(given, y) == pytest.approx(dense.loss(X, y), rel=error)
    for got, want in zip(sparse.gradients(given, y), dense.gradients(X, y), strict=True):
        np.testing.assert_allclose(got[0], want[0], atol=error)
        np.testing.assert_allclose(got[1], want[1], atol=error)


def test_against_plain_numpy():
    X, y = samples(61, 30, "float64")
    model = Model([30, 8, 3], dtype="float64", rng=0)
    twin, order = Twin(model), np.array([np.random.default_rng(1).permutation(61) for _ in range(3)])
    model.fit(scipy.sparse.csr_array(X), y, epochs=3, batch_size=7, shuffle=order, optimizer=SGD(0.5))
    twin.sgd(X, np.eye(3)[y], order, 7, 0.5)
    assert twin.relative_error(model) < 1e-11


def test_on_several_threads(monkeypatch):
    X, y = samples(3000, 400)
    given = scipy.sparse.csr_array(X)
    models = [Model([400, 100, 100, 3], rng=0) for _ in range(2)]
    for model, threads in zip(models, (1, 2), strict=True):
        model.fit(given, y, epochs=2, batch_size=500, threads=threads)
    np.testing.assert_array_equal(models[0].parameters, models[1].parameters)
    np.testing.assert_array_equal(models[0].predict(given, threads=1), models[0].predict(given, threads=2))


def test_integers_and_bools():
    X, y = samples(61, 30)
    for data in (X > 0, (X > 0).astype(np.int8)):
        models = [Model([30, 8, 3], rng=0) for _ in range(2)]
        for model, given in zip(models, (data.astype(np.float32), scipy.sparse.csr_array(data)), strict=True):
            model.fit(given, y, epochs=2, batch_size=7)
        np.testing.assert_array_equal(models[0].parameters, models[1].parameters)


def test_values_of_a_column_that_is_there_twice_are_added():
    X = scipy.sparse.csr_array((np.array([1.0, 2.0, 4.0]), np.array([1, 1, 0]), np.array([0, 2, 3])), shape=(2, 3))
    model = Model([3, 2], rng=0)
    np.testing.assert_array_equal(model.predict(X), model.predict([[0, 3, 0], [4, 0, 0]]))


def test_what_a_table_leads_to_lives_as_long_as_a_part_of_it():
    X, _ = samples(61, 30)
    table = arrays.inputs(scipy.sparse.csr_array(X), 30, "float32")
    for part in (table[5:], table[[7, 3]], arrays.take_rows(table, np.arange(9)), table.copy()):
        assert all(mine is its for mine, its in zip(part.arrays, table.arrays, strict=True))
    assert len(table.arrays) == 2


def test_a_caller_who_writes_to_its_values_while_it_trains():
    """The values were copied: training sees the old ones, and no column number leads out of the network."""
    X, y = samples(61, 30)
    given, models = scipy.sparse.csr_array(X), [Model([30, 8, 3], rng=0) for _ in range(2)]

    def write(model):
        given.data[:], given.indices[:] = np.nan, 2**30

    models[0].fit(X, y, epochs=3, batch_size=7, callbacks=[lambda model: None])
    models[1].fit(given, y, epochs=3, batch_size=7, callbacks=[write])
    np.testing.assert_array_equal(models[0].parameters, models[1].parameters)


def broken(**changes):
    X = scipy.sparse.csr_array(samples(61, 30)[0])
    for name, change in changes.items():
        setattr(X, name, change(getattr(X, name)))
    return X


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (scipy.sparse.csr_array((61, 31)), ValueError, r"X must have shape \(n, 30\), got \(61, 31\)"),
        (scipy.sparse.csr_array((0, 30)), ValueError, "X must hold at least one sample"),
        (scipy.sparse.csr_array((61, 30), dtype=complex), TypeError, "X must hold numbers, .* dtype complex128"),
        (broken(data=lambda a: a * np.nan), ValueError, r"X.data must be finite in float32, got X.data\[0\] = nan"),
        (broken(data=lambda a: 1e300 * a.astype(float)), ValueError, "X.data must be finite in float32, got .*e\\+"),
        (broken(indices=lambda a: a + 25), ValueError, "X must be a sparse matrix whose indptr and indices lie within"),
        (broken(indices=lambda a: a - 1), ValueError, "X must be a sparse matrix whose indptr and indices lie within"),
    ],
)
def test_what_cannot_be_used(X, error, message, state):
    model = Model([30, 8, 3], rng=0)
    before = state(model)
    for call in (
        lambda: model.fit(X, np.zeros(61, int), epochs=1, batch_size=7),
        lambda: model.partial_fit(X, np.zeros(61, int)),
        lambda: model.evaluate(X, np.zeros(61, int)),
    ):
        with pytest.raises(error, match=message):
            call()
    assert state(model) == before
