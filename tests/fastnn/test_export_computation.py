"""What a network computes, as steps: its outputs and predictions are those of the network."""

import shutil

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the extra sklearn is not installed")

import fastnn
from fastnn import BatchNorm, Dense, Embedding, LayerNorm, Model, Population, PReLU, Residual, Scale
from fastnn.exchange.computation import CLASSES, LABELS, NUMBERS
from fastnn.exchange.describing import computation_of
from fastnn.exchange.self_test import SelfTest
from fastnn.settings.layers import HIDDEN

from ..cases import DTYPES

rng = np.random.default_rng(0)
ATOL = {"float32": 2e-6, "float64": 1e-12}
# Layers between 6 inputs and an output layer.
NETWORKS = {
    "dense": [Dense(9, "tanh"), Dense(5, "relu")],
    "scale in front": [Scale(), Dense(9, "gelu")],
    "scale behind": [Dense(9, "identity"), Scale(), Dense(7, "silu")],
    "batch norm": [Dense(9, "identity"), BatchNorm(activation="relu"), Dense(4, "tanh"), BatchNorm()],
    "slopes": [Dense(9, "identity"), PReLU(0.3), PReLU(-0.5)],
    "batch norm first": [BatchNorm(), Dense(5, "mish")],
    "layer norm": [Dense(9, "identity"), LayerNorm(activation="elu"), LayerNorm(), Dense(4, "selu")],
    "residual": [Dense(8, "relu"), Residual(LayerNorm(), Dense(12, "relu"), Dense(8, "identity"), activation="tanh")],
    "residual of inputs": [Residual(Dense(6, "tanh")), Residual(Residual(Dense(6, "identity")), BatchNorm())],
    "two readers": [Dense(6, "identity"), Residual(Scale(), Scale()), Scale()],
}


def trained(sizes, dtype="float32", **how):
    """A model whose parameters and running statistics are all different."""
    model = Model(sizes, dtype=dtype, rng=1, **how)
    for tensors in model.tensors:
        for name, tensor in tensors.items():
            tensor += (
                0.3 + rng.random(tensor.shape) if "variance" in name else rng.normal(0, 0.3, tensor.shape)
            ).astype(dtype)
    return model


def same(computation, predicted, X, atol):
    outputs = computation.outputs(X)
    assert outputs.dtype == computation.dtype
    assert outputs.shape == (len(X), computation.n_outputs)
    np.testing.assert_allclose(outputs, predicted, atol=atol, rtol=atol)
    exact = computation.outputs(X, "float64")
    np.testing.assert_allclose(exact, predicted, atol=atol, rtol=atol)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NETWORKS)
def test_layers(name, dtype):
    model = trained([6, *NETWORKS[name], Dense(3, "softmax")], dtype, loss="cross_entropy")
    X = rng.normal(0, 2, (40, 6))
    computation = computation_of(model)
    same(computation, model.predict(X), X, ATOL[dtype])
    assert computation.decision.kind == CLASSES
    np.testing.assert_array_equal(computation.predictions(computation.outputs(X)), model.classify(X))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", HIDDEN)
def test_activations(activation, dtype):
    model = trained([6, Dense(50, activation), Dense(2, "identity")], dtype)
    X = np.concatenate([rng.normal(0, 2, (40, 6)), rng.normal(0, 60, (20, 6))])
    found = model.predict(X)
    scale = np.abs(found).max()
    np.testing.assert_allclose(computation_of(model).outputs(X) / scale, found / scale, atol=3 * ATOL[dtype])
    assert computation_of(model).decision.kind == NUMBERS


def test_factors_and_shifts_are_folded_into_dense_layers():
    assert [step.function for step in computation_of(trained([6, *NETWORKS["batch norm"], 2])).steps] == [
        *("dense", "relu", "dense", "tanh", "dense", "sigmoid")
    ]
    kept = computation_of(trained([6, *NETWORKS["two readers"], Dense(2, "identity")])).steps
    assert [step.function for step in kept] == ["dense", "affine", "affine", "added", "dense"]


@pytest.mark.parametrize("ratio", [1, 1e3, 1e6])
def test_shifts_of_inputs(ratio):
    """2e-6 of float64 on the same stored rows."""
    X = (rng.standard_normal((300, 6)) + ratio).astype(np.float32)
    shift, scale = fastnn.standardize(X)
    model = trained([6, Dense(16, "tanh"), Dense(1, "identity")], input_shift=shift, input_scale=scale)
    z = (X.astype(np.float64) - shift) * scale
    (w, v), (b, c) = model.weights, model.biases
    expected = np.tanh(z @ w.T.astype(float) + b) @ v.T.astype(float) + c
    for given in (X, X.astype(np.float64)):
        np.testing.assert_allclose(computation_of(model).outputs(given), expected, atol=2e-6 * np.abs(expected).max())


def test_a_scale_of_inputs_and_codes():
    X = rng.integers(0, 256, (30, 6)).astype(np.uint8)
    model = trained([6, Dense(5, "tanh"), 1], input_scale=1 / 255)
    same(computation_of(model), model.predict(X), X, 2e-6)
    coded = trained([4, Embedding([1, 3], [7, 5]), Dense(8, "relu"), Dense(2, "identity")])
    X = np.stack([*rng.standard_normal((2, 30)), *rng.integers(0, 5, (2, 30))], axis=1)[:, [0, 2, 1, 3]]
    same(computation_of(coded), coded.predict(X), X, 2e-6)
    X[3, 1], X[4, 3], X[5, 1] = 7, 0.5, np.nan
    found = computation_of(coded).outputs(X)
    np.testing.assert_array_equal(np.isnan(found).all(axis=1), np.isin(np.arange(30), [3, 4, 5]))


def test_means_of_populations():
    X = rng.standard_normal((30, 6))
    population = Population([6, Dense(5, "tanh"), Dense(3, "softmax")], 4, loss="cross_entropy", rng=0)
    same(computation_of(population), population.predict(X, "mean"), X, 2e-6)
    shifts = rng.standard_normal((4, 6))
    own = Population([6, Dense(5, "tanh"), 2], 4, input_shift=shifts, rng=0)
    same(computation_of(own), own.predict(X, "mean"), X, 2e-6)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_deviations():
    X = rng.standard_normal((60, 6))
    model = trained([6, Dense(5, "tanh"), Dense(4, "identity")], loss="gaussian")
    means, deviations = model.predict(X, return_std=True)
    computation = computation_of(model)
    same(computation, np.hstack([means, deviations]), X, 2e-6)
    np.testing.assert_allclose(computation.predictions(computation.outputs(X)), means, atol=2e-6)
    ensemble = fastnn.MLPEnsembleRegressor(
        hidden_layer_sizes=5, loss="gaussian", n_estimators=3, max_iter=300, random_state=0
    )
    ensemble.fit(X, X[:, 0])
    pair = ensemble.predict(X, return_std=True)
    computation = computation_of(ensemble)
    same(computation, np.stack(pair, axis=1), X, 2e-6)
    assert computation.predictions(computation.outputs(X)).shape == (60,)


LABELLED = {
    "text": ["low", "high", "middle"],
    "bool": [False, True],
    "int": [2**62, 5, -1],
    "float": [1.0, 2.0],
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("kind", [fastnn.MLPClassifier, fastnn.MLPEnsembleClassifier])
@pytest.mark.parametrize("labels", LABELLED)
def test_classifiers(labels, kind):
    X, y = rng.standard_normal((90, 6)), np.array(LABELLED[labels])[np.arange(90) % len(LABELLED[labels])]
    classifier = kind(hidden_layer_sizes=8, max_iter=5, random_state=0).fit(X, y)
    computation = computation_of(classifier)
    outputs = computation.outputs(X)
    np.testing.assert_allclose(computation.probabilities(outputs), classifier.predict_proba(X), atol=2e-6)
    found = computation.predictions(outputs)
    assert found.dtype == y.dtype
    np.testing.assert_array_equal(found, classifier.predict(X))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_labels_and_numbers_of_estimators():
    X = rng.standard_normal((60, 6))
    several = fastnn.MLPClassifier(8, max_iter=5, random_state=0).fit(X, (X[:, :3] > 0).astype(int))
    computation = computation_of(several)
    assert computation.decision.kind == LABELS
    np.testing.assert_array_equal(computation.predictions(computation.outputs(X)), several.predict(X))
    for y in (X[:, 0], X[:, :2], np.exp(X[:, 0])):
        loss = "poisson" if y.min() > 0 else "squared_error"
        regressor = fastnn.MLPRegressor(loss, 8, max_iter=5, random_state=0).fit(X, y)
        computation = computation_of(regressor)
        found = computation.predictions(computation.outputs(X))
        np.testing.assert_allclose(found, regressor.predict(X), rtol=1e-6, atol=1e-6)
    named = fastnn.MLPEnsembleRegressor(hidden_layer_sizes=5, n_estimators=3, max_iter=3, random_state=0).fit(
        X, X[:, 0]
    )
    computation = computation_of(named)
    np.testing.assert_allclose(computation.predictions(computation.outputs(X)), named.predict(X), atol=2e-6)


def test_labels_of_models():
    model = Model([6, 5, 3], rng=0)
    X = rng.standard_normal((20, 6))
    computation = computation_of(model, labels=["a", "b", "c"])
    assert (
        computation.predictions(computation.outputs(X)).tolist()
        == np.array(["a", "b", "c"])[model.classify(X)].tolist()
    )
    single = computation_of(Model([6, 5, Dense(1, "tanh")], rng=0), labels=[7, 8])
    found = Model([6, 5, Dense(1, "tanh")], rng=0).classify(X) + 7
    np.testing.assert_array_equal(single.predictions(single.outputs(X)), found)
    with pytest.raises(ValueError, match=r"labels must have shape \(3,\)"):
        computation_of(model, labels=["a", "b"])
    with pytest.raises(ValueError, match="labels must differ"):
        computation_of(model, labels=["a", "b", "a"])
    with pytest.raises(ValueError, match="labels must be None for the loss 'gaussian'"):
        computation_of(Model([6, Dense(2, "identity")], loss="gaussian"), labels=[0, 1])
    with pytest.raises(TypeError, match="what is exported must be a Model"):
        computation_of("model")
    with pytest.raises(TypeError, match="labels are those of the estimator"):
        computation_of(fastnn.MLPClassifier(), labels=[0, 1])


def test_functions_of_a_user_are_a_step_of_their_own():
    def softsign(z):
        return z / (1 + abs(z))

    def slope(z):
        return 1 / (1 + abs(z)) ** 2

    model = Model([6, Dense(5, fastnn.Activation(softsign, slope)), Dense(1, "identity")], rng=0)
    computation = computation_of(model)
    assert [step.own is not None for step in computation.steps] == [False, True, False]
    assert computation.functions == {"dense"}
    X = rng.standard_normal((20, 6))
    same(computation, model.predict(X), X, 2e-6)


@pytest.mark.parametrize("name", ["dense", "affine", "mean", "joined", "shifted", "date_parts", "numbers"])
def test_a_function_of_a_user_may_have_any_name(name, tmp_path):
    """Also that of a step."""

    def softsign(z):
        return z / (1 + abs(z))

    def slope(z):
        return 1 / (1 + abs(z)) ** 2

    own = fastnn.Activation(softsign, slope, name=name)
    model = trained([6, Dense(5, own), Scale(), Dense(4, own), Dense(1, "identity")])
    X = rng.standard_normal((20, 6))
    same(computation_of(model), model.predict(X), X, 2e-6)
    for suffix, text in ((".py", "x / (1 + abs(x))"), (".h", "x / (1.0 + fabs(x))"), (".mjs", "x / (1 + Math.abs(x))")):
        model.export(tmp_path / f"net{suffix}", rows=X, expressions={name: text})
        if suffix == ".py" or shutil.which({".h": "cc", ".mjs": "node"}[suffix]):
            assert fastnn.verify(tmp_path / f"net{suffix}").passed


def table(n=400, ranked=True):
    """Columns of every kind, with gaps and without, and with what training has not."""
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pd.DataFrame(
        {
            "area": rng.uniform(20, 120, n).round(1),
            "rooms": rng.integers(1, 6, n),
            "lift": rng.random(n) < 0.4,
            "town": rng.choice(["Bern", "Oslo", "Rome"], n),
            "side": rng.choice(["left", "right"], n),
            "street": [f"s{i}" for i in rng.integers(0, 30, n)],
            "built": pd.Timestamp("1899-12-25") + pd.to_timedelta(rng.uniform(0, 60000, n), "D"),
            "empty": np.nan,
            "wait": pd.to_timedelta(rng.uniform(0, 1e5, n), "s"),
        }
    )
    for i, name in enumerate(("area", "town", "built", "wait", "street", "side")):
        frame.loc[i::17, name] = None
    frame["on"] = rng.choice(np.array([True, False, None], dtype=object), n)
    return frame


def new_rows(frame):
    """Rows with categories, gaps and numbers that training had not."""
    other = frame.copy()
    other.loc[::5, "town"], other.loc[1::5, "street"], other.loc[2::5, "side"] = "Paris", "s99", "middle"
    other.loc[3::7, "area"] = 1e9
    other["rooms"] = other["rooms"].astype(float)
    other.loc[4::7, "rooms"] = np.nan
    return other


def fitted_to_table(frame, kind, columns=None):
    """An estimator of what follows from some columns of a table, or from all."""
    area = frame["area"].fillna(50).to_numpy()
    y = {
        "classes": np.where(area > 60, "large", "small"),
        "numbers": area + 10 * (frame["town"] == "Oslo").to_numpy(),
        "logarithms": np.exp(area / 25),
        "several": np.stack([area, np.exp(area / 25)], axis=1),
    }[kind]
    estimator = (fastnn.TabularClassifier if kind == "classes" else fastnn.TabularRegressor)(
        n_members=2, epochs=4, random_state=0
    )
    return estimator.fit(frame if columns is None else frame[columns], y)


@pytest.mark.parametrize("ranked", [False, True])
def test_columns_of_tables(ranked):
    from fastnn.data.tables import Table
    from fastnn.exchange.computation import Computation, Decision, Steps
    from fastnn.exchange.describing import add_table, matrix_of

    frame = table()
    made = Table.of(frame, ranked=ranked)
    steps = Steps(sum(bool(each.suffixes()) for each in made.encodings), "float64")
    _, inputs = add_table(steps, made)
    assert [each.name for each in inputs] == [name for name in frame if name != "empty"]
    computation = Computation("float64", len(inputs), tuple(steps.made), Decision(NUMBERS), inputs=inputs)
    for rows in (frame, new_rows(frame)):
        found = computation.outputs(matrix_of(made, rows))
        np.testing.assert_allclose(found, made.transform(rows, "float64"), rtol=1e-12, atol=5e-11)


@pytest.mark.parametrize("kind", ["classes", "numbers", "logarithms", "several"])
def test_tabular_estimators(kind):
    from fastnn.exchange.describing import matrix_of

    frame = table()
    estimator = fitted_to_table(frame, kind)
    computation = computation_of(estimator)
    rows = new_rows(frame)
    outputs = computation.outputs(matrix_of(estimator.table_, rows))
    expected = estimator.predict(rows)
    if kind == "classes":
        np.testing.assert_allclose(outputs, estimator.predict_proba(rows), atol=3e-6)
        np.testing.assert_array_equal(computation.predictions(outputs), expected)
    else:
        np.testing.assert_allclose(computation.predictions(outputs), expected, rtol=1e-5)


def test_the_tolerance_of_a_self_test_is_above_the_error_of_any_order_of_sums():
    """Even of a single row, whose error by one order may be near 0; layer normalisation makes it 200 times as large."""

    def sums_in(order):
        def value(step, x):
            if step.function != "dense":
                return step.value(x)
            weight, found = step.operands["weight"], np.tile(step.operands["bias"], (len(x), 1))
            for k in range(x.shape[1])[::order]:
                found = found + x[:, k, None] * weight[:, k]
            return found

        return value

    shares, shares_by_numpy = [], []
    for _ in range(100):
        model = trained([20, Dense(30, "identity"), LayerNorm(), Dense(2, "identity")])
        model.weights[0][...] /= 200
        model.biases[0][...] = 1
        computation = computation_of(model)
        test = SelfTest.of(computation, rng.normal(0, 1, (1, 20)))
        exact = computation.outputs(test.inputs, "float64")
        found = [computation.values(test.inputs, evaluate=sums_in(order))[-1] for order in (1, -1)]
        assert found[0].dtype == np.float32
        apart = np.abs(np.array(found) - exact) / np.maximum(1, np.abs(exact))
        shares.append(apart.max() / test.tolerance)
        by_numpy = np.abs(computation.outputs(test.inputs) - exact) / np.maximum(1, np.abs(exact))
        shares_by_numpy.append(by_numpy.max() * 4 / apart.max())
    assert 0.1 < max(shares) < 1
    assert min(shares_by_numpy) < 0.9  # so that 4 times the error of one order is too little
