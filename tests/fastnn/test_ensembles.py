"""MLPEnsembleClassifier and MLPEnsembleRegressor: their members are models trained alone, their results plain means."""

import collections
import json
import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastnn
from fastnn import Adam, Dense, MLPEnsembleClassifier, MLPEnsembleRegressor, Model, Momentum

from .test_estimators import CHECKS

rng = np.random.default_rng(3)
SMALL = {"hidden_layer_sizes": (6,), "activation": "tanh", "max_iter": 5, "random_state": 2, "batch_size": 16}
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def samples(n=60, dtype="float64"):
    X = rng.standard_normal((n, 4)).astype(dtype)
    return X, np.sin(X[:, 0]) + X[:, 1] ** 2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize(("solver", "optimizer"), [("adam", Adam(0.01)), ("sgd", Momentum(0.01, nesterov=True))])
def test_members_are_models_trained_alone(dtype, outputs, solver, optimizer):
    X, y = samples(dtype=dtype)
    y = y if outputs == 1 else np.stack([y, -2 * y], axis=1)
    ensemble = MLPEnsembleRegressor(3, solver=solver, learning_rate_init=0.01, alpha=0.3, tol=0, **SMALL).fit(X, y)
    seeds = np.random.RandomState(2).randint(2**31 - 1, size=3)
    found = []
    for seed in seeds.tolist():
        model = Model([4, Dense(6, "tanh"), outputs], output="identity", dtype=dtype, rng=seed)
        targets = y.reshape(60, -1).astype(dtype)
        model.fit(X, targets, epochs=5, batch_size=16, optimizer=optimizer, l2=0.3 * outputs / 16)
        found.append(model.predict(X))
    mean, std = ensemble.predict(X, return_std=True)
    shape = (60,) if outputs == 1 else (60, 2)
    rtol = 1e-9 if dtype == "float64" else 1e-4
    np.testing.assert_allclose(mean, np.mean(found, axis=0).reshape(shape), rtol=rtol, atol=rtol)
    np.testing.assert_allclose(std, np.std(found, axis=0).reshape(shape), rtol=100 * rtol, atol=rtol)
    np.testing.assert_array_equal(ensemble.predict(X), mean)
    assert mean.dtype == dtype
    assert ensemble.population_.seeds == seeds.tolist()
    assert ensemble.history_.loss.shape == (3, 5)


def test_each_network_has_a_bootstrap_sample_of_its_own():
    X, y = samples()
    ensemble = MLPEnsembleRegressor(4, bootstrap=True, solver=Adam(0.01), alpha=0, tol=0, **SMALL).fit(X, y)
    chosen = []
    for i, seed in enumerate(ensemble.population_.seeds):
        rows = np.random.default_rng((seed, 60)).integers(60, size=60)
        model = Model([4, Dense(6, "tanh"), 1], output="identity", dtype="float64", rng=seed)
        model.fit(X[rows], y[rows, None], epochs=5, batch_size=16, optimizer=Adam(0.01))
        np.testing.assert_allclose(ensemble.population_[i].predict(X), model.predict(X), rtol=1e-9, atol=1e-9)
        chosen.append(set(rows))
    assert all(20 < len(rows) < 60 for rows in chosen)
    assert chosen[0] != chosen[1]
    two = MLPEnsembleRegressor(50, bootstrap=True, early_stopping=True, **SMALL).fit(X[:2], y[:2])
    assert np.isfinite(two.history_.val_loss[:, 0]).all()  # one of the two rows is left out for each


@pytest.mark.parametrize("bootstrap", [False, True])
def test_early_stopping_watches_rows_that_are_held_out(bootstrap):
    X, y = samples(100)
    how = {**SMALL, "max_iter": 300}
    ensemble = MLPEnsembleRegressor(
        3, bootstrap=bootstrap, early_stopping=True, n_iter_no_change=3, learning_rate_init=0.05, **how
    ).fit(X, y)
    history = ensemble.history_
    assert (history.epochs < 300).all()
    assert ensemble.n_iter_ == history.epochs.max()
    for i, epoch in enumerate(history.best_epoch):
        assert history.epochs[i] - epoch == 3
    without = MLPEnsembleRegressor(3, learning_rate_init=0.05, **how, tol=10.0, n_iter_no_change=2).fit(X, y)
    assert without.history_.epochs.tolist() == [3, 3, 3]


@pytest.mark.parametrize("labels", [["oak", "elm"], ["oak", "elm", "ash"], [7, -3], [0, 1, 2]])
def test_probabilities_are_means(labels):
    X, y = samples(90)
    codes = np.digitize(y, [0.5, 1.5][: len(labels) - 1])
    y = np.array(labels)[codes]
    ensemble = MLPEnsembleClassifier(5, **{**SMALL, "max_iter": 100}, learning_rate_init=0.01).fit(X, y)
    assert ensemble.classes_.tolist() == sorted(labels)
    each = ensemble.population_.predict(X)
    found = each.mean(axis=0)
    expected = found if len(labels) > 2 else np.hstack([1 - found, found])
    np.testing.assert_allclose(ensemble.predict_proba(X), expected, rtol=1e-12)
    np.testing.assert_allclose(ensemble.predict_proba(X).sum(axis=1), 1)
    assert ensemble.predict(X).tolist() == ensemble.classes_[expected.argmax(axis=1)].tolist()
    assert ensemble.score(X, y) > 0.8


def test_the_mean_is_better_than_its_members():
    X, y = load_diabetes(return_X_y=True)
    X, y = StandardScaler().fit_transform(X), (y - y.mean()) / y.std()
    ensemble = MLPEnsembleRegressor(
        20, bootstrap=True, hidden_layer_sizes=10, activation="tanh", solver=Adam(0.01), max_iter=30, random_state=0
    ).fit(X[:300], y[:300])
    mean, std = ensemble.predict(X[300:], return_std=True)
    alone = ensemble.population_.predict(X[300:])[:, :, 0]
    errors = ((alone - y[300:]) ** 2).mean(axis=1)
    np.testing.assert_allclose(((mean - y[300:]) ** 2).mean(), errors.mean() - (std**2).mean(), rtol=1e-9)
    assert ((mean - y[300:]) ** 2).mean() < 0.95 * errors.mean()
    np.testing.assert_allclose((alone - mean).std(axis=0), std, rtol=1e-9)
    far = ensemble.predict(X[300:] * 10, return_std=True)[1]
    assert far.mean() > 2 * std.mean()  # it says that it does not know


def likelihood(y, mean, std):
    """The mean negative log likelihood of Gaussians, without its constant."""
    return (np.log(std) + ((y - mean) / std) ** 2 / 2).mean()


@pytest.mark.parametrize("outputs", [1, 2])
def test_a_deep_ensemble_of_gaussians_is_more_likely_than_one(outputs):
    X, y = load_diabetes(return_X_y=True)
    X, y = StandardScaler().fit_transform(X), (y - y.mean()) / y.std()
    y = y if outputs == 1 else np.stack([y, -y], axis=1)
    ensemble = MLPEnsembleRegressor(
        20, loss="gaussian", hidden_layer_sizes=10, activation="tanh", solver=Adam(0.01), max_iter=60, random_state=0
    ).fit(X[:300], y[:300])
    mean, std = ensemble.predict(X[300:], return_std=True)
    alone = [model.predict(X[300:], return_std=True) for model in ensemble.population_]
    means, deviations = (np.array(each).reshape(20, *y[300:].shape) for each in zip(*alone, strict=True))
    np.testing.assert_allclose(mean, means.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(std**2, (deviations**2 + means**2).mean(axis=0) - mean**2, rtol=1e-9)
    np.testing.assert_array_equal(ensemble.predict(X[300:]), mean)
    each = [likelihood(y[300:], m, s) for m, s in zip(means, deviations, strict=True)]
    assert likelihood(y[300:], mean, std) < np.mean(each) - 0.02


def test_the_same_seed_gives_the_same_bits_whatever_the_threads(monkeypatch):
    monkeypatch.setattr("fastnn.network.threads.FIT_MULTIPLY_ADDS", 0)
    monkeypatch.setattr("fastnn.network.threads.available_threads", lambda: 3)
    X, y = samples()
    ensemble = MLPEnsembleRegressor(4, dropout=0.2, threads=1, bootstrap=True, **SMALL)
    first = ensemble.fit(X, y).predict(X)
    np.testing.assert_array_equal(clone(ensemble).set_params(threads=3).fit(X, y).predict(X), first)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(ensemble)).predict(X), first)
    few = clone(ensemble).set_params(n_estimators=2).fit(X, y)
    np.testing.assert_array_equal(few.population_.vectors, ensemble.population_.vectors[:2])


def test_in_pipelines_searches_and_with_frames():
    X, y = load_iris(return_X_y=True, as_frame=True)
    model = make_pipeline(StandardScaler(), MLPEnsembleClassifier(3, solver=Adam(0.01), **{**SMALL, "max_iter": 60}))
    search = GridSearchCV(model, {"mlpensembleclassifier__alpha": [0.01, 10.0]}, cv=3).fit(X, y)
    assert search.best_params_ == {"mlpensembleclassifier__alpha": 0.01}
    assert search.best_score_ > 0.9
    alone = MLPEnsembleClassifier(2, **SMALL).fit(X, y)
    assert alone.feature_names_in_.tolist() == list(X)
    with pytest.raises(ValueError, match="feature names"):
        alone.predict(X[list(X)[::-1]])
    assert isinstance(X, pd.DataFrame)


def test_networks_that_diverge_are_left_out():
    X, y = samples()
    with np.errstate(all="ignore"):
        with pytest.raises(ValueError, match="Solver produced non-finite parameter weights"):
            MLPEnsembleRegressor(2, solver=fastnn.SGD(1e6), **{**SMALL, "max_iter": 50, "activation": "relu"}).fit(X, y)
        rates = np.array([0.01, 1e6, 0.02])
        with pytest.warns(UserWarning, match="1 of 3 networks diverged and are left out"):
            some = MLPEnsembleRegressor(
                3, solver=fastnn.SGD(rates), **{**SMALL, "max_iter": 50, "activation": "relu"}
            ).fit(X, y)
    assert len(some.population_) == 2
    assert len(some.history_) == 3
    assert np.isfinite(some.predict(X)).all()


@pytest.mark.filterwarnings("default::sklearn.exceptions.ConvergenceWarning")
def test_a_warning_of_networks_that_have_not_converged():
    X, y = samples()
    with pytest.warns(ConvergenceWarning, match="2 of 2 networks reached max_iter=5 epochs and have not converged yet"):
        MLPEnsembleRegressor(2, **SMALL).fit(X, y)


def test_a_warning_of_targets_that_are_too_large_to_learn():
    X, y = samples()
    for loss in ("squared_error", "gaussian"):
        with pytest.warns(UserWarning, match="but predicting the mean of y has .* scale it"):
            MLPEnsembleRegressor(2, loss=loss, **SMALL).fit(X, y * 100 + 1e4)


def test_ctrl_c_leaves_what_the_last_finished_epochs_left(monkeypatch):
    X, y = samples()
    once = MLPEnsembleRegressor(2, **{**SMALL, "max_iter": 2}, tol=0).fit(X, y)
    rounds = fastnn.population.PopulationFit._after_round

    def interrupted(fit, which):
        rounds(fit, which)
        if fit.runs["epoch"].max() == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("fastnn.population.PopulationFit._after_round", interrupted)
    ensemble = MLPEnsembleRegressor(2, **SMALL, tol=0)
    with pytest.raises(KeyboardInterrupt):
        ensemble.fit(X, y)
    np.testing.assert_array_equal(ensemble.population_.vectors, once.population_.vectors)
    np.testing.assert_array_equal(ensemble.predict(X), once.predict(X))


def test_a_fit_that_fails_leaves_the_estimator_as_it_was(monkeypatch):
    X, y = samples()
    labels = np.arange(len(X)) % 3
    classifier = MLPEnsembleClassifier(2, **SMALL).fit(X, labels)
    found, network = classifier.predict_proba(X), classifier.population_
    with pytest.raises(ValueError, match=r"y must hold two classes at least, got 1 class, 7$"):
        classifier.fit(X, labels * 0 + 7)
    classifier.set_params(activation=["relu", "relu"])
    with pytest.raises(ValueError, match="activation must be one, or one a hidden layer"):
        classifier.fit(X[:, :1], labels % 2 + 10)
    np.testing.assert_array_equal(classifier.classes_, [0, 1, 2])
    np.testing.assert_array_equal(classifier.predict_proba(X), found)
    regressor = MLPEnsembleRegressor(2, **SMALL).fit(X, y)
    found = regressor.predict(X)
    for parameters, message in (
        ({"activation": ["relu", "relu"], "loss": "gaussian"}, "activation must be one"),
        ({"activation": "relu", "loss": "squared_error", "solver": "sgd", "learning_rate_init": 1e30}, "non-finite"),
    ):
        with pytest.raises(ValueError, match=message):
            regressor.set_params(**parameters).fit(X, np.stack([y, y], axis=1))
        np.testing.assert_array_equal(regressor.predict(X), found)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("fastnn.estimators.ensembles.check_random_state", interrupted)
    with pytest.raises(KeyboardInterrupt):
        classifier.set_params(activation="relu").fit(X[:, :1], labels % 2)
    assert classifier.population_ is network
    assert (classifier.n_features_in_, len(classifier.classes_)) == (X.shape[1], 3)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_estimators": 0}, "'n_estimators' parameter"),
        ({"bootstrap": "yes"}, "'bootstrap' parameter"),
        ({"solver": "lbfgs"}, "'solver' parameter"),
        ({"solver": fastnn.LBFGS()}, "'solver' parameter"),
        ({"solver": "rprop"}, "optimizer Rprop needs all 60 samples in a batch, got batch_size 16"),
        ({"activation": ["relu", "relu"]}, "activation must be one, or one a hidden layer"),
        ({"hidden_layer_sizes": (0,)}, "units must be at least 1"),
        ({"dropout": 1.0}, "'dropout' parameter"),
        ({"learning_rate_init": 0}, "'learning_rate_init' parameter"),
        ({"validation_fraction": 1.0}, "'validation_fraction' parameter"),
        ({"threads": True}, "'threads' parameter"),
    ],
)
def test_wrong_parameters(parameters, message):
    X, y = samples()
    with pytest.raises(ValueError, match=message):
        MLPEnsembleRegressor(**{**SMALL, **parameters}).fit(X, y)


def test_wrong_targets():
    X, _ = samples()
    with pytest.raises(ValueError, match="y must hold two classes at least, got 1 class"):
        MLPEnsembleClassifier(**SMALL).fit(X, np.zeros(60, int))
    with pytest.raises(ValueError, match="Unknown label type"):
        MLPEnsembleClassifier(**SMALL).fit(X, X[:, 0])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "passed"), [("MLPEnsembleClassifier", 55), ("MLPEnsembleRegressor", 53)])
def test_the_checks_of_scikit_learn(name, passed, run_python):
    results = json.loads(run_python(CHECKS, name, SCIPY_ARRAY_API=1).stdout)
    assert [result for result in results if result[1] != "passed"] == []
    assert collections.Counter(status for _, status, _ in results) == {"passed": passed}
