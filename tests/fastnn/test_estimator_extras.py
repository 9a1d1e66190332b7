"""What MLPClassifier and MLPRegressor have beside scikit-learn's parameters; all of it is off by default."""

import dataclasses
import itertools
import pickle
import warnings

import numpy as np
import pandas
import pytest
import scipy.sparse
import sklearn
import sklearn.callback
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics import accuracy_score, get_scorer, log_loss
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastnn
from fastnn.kernels import reference
from fastnn.settings.optimizers import BY_NAME

from ..cases import name_of

rng = np.random.default_rng(3)
X = rng.standard_normal((90, 6))
LABELS = np.array(["ash", "elm", "oak"])[(X[:, 0] > 0).astype(int) + (X[:, 1] > 1)]
NUMBERS = np.tanh(X[:, 0]) + 0.3 * X[:, 1]
FURTHER = sorted(set(reference.ACTIVATIONS) - {"exp"})


def classifier(**parameters):
    return fastnn.MLPClassifier(**{"hidden_layer_sizes": (7, 5), "max_iter": 5, "random_state": 1} | parameters)


def regressor(**parameters):
    return fastnn.MLPRegressor(**{"hidden_layer_sizes": (7, 5), "max_iter": 5, "random_state": 1} | parameters)


def fitted(estimator, *data, **options):
    """Fitted without the warning of too few epochs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(*data, **options)


def forward(estimator, inputs, names):
    """The outputs, in plain NumPy."""
    a = inputs
    for w, b, name in zip(estimator.coefs_, estimator.intercepts_, names, strict=True):
        a = reference.ACTIVATIONS[name][0](a @ w + b)
    return a


def model_like(estimator, activation="relu", loss="quadratic"):
    """A model with the coefficients that the estimator begins with."""
    start = clone(estimator).set_params(learning_rate_init=1e-300, solver="adam", learning_rate="constant", max_iter=1)
    fitted(start, X, NUMBERS)
    sizes = [6, *(w.shape[1] for w in start.coefs_)]
    model = fastnn.Model(sizes, activation=activation, output="identity", loss=loss, dtype="float64")
    for weights, biases, w, b in zip(model.weights, model.biases, start.coefs_, start.intercepts_, strict=True):
        weights[...], biases[...] = w.T, b
    return model


def follow(estimator, optimizer, **options):
    """Both must train the same, without a penalty and in the order of the samples."""
    estimator.set_params(alpha=0, shuffle=False, batch_size=20)
    model = model_like(estimator, **options)
    fitted(estimator, X, NUMBERS)
    history = model.fit(X, NUMBERS, epochs=5, batch_size=20, shuffle=False, optimizer=optimizer)
    np.testing.assert_allclose(estimator.loss_curve_, history.loss, rtol=1e-9)
    np.testing.assert_allclose(estimator.predict(X), model.predict(X)[:, 0], rtol=1e-9, atol=1e-12)


# ---- activations ----


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("name", ["relu", "logistic", "tanh"])
def test_a_list_of_one_activation_is_that_activation(name, solver):
    one, many = (fitted(classifier(activation=a, solver=solver), X, LABELS) for a in (name, [name, name]))
    for got, want in zip(many.coefs_, one.coefs_, strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("names", [*itertools.pairwise(FURTHER), ("logistic", "sigmoid")], ids="-".join)
def test_an_activation_of_each_layer(names):
    made = fitted(regressor(activation=names), X, NUMBERS)
    names = [{"logistic": "sigmoid"}.get(name, name) for name in names]
    np.testing.assert_allclose(made.predict(X), forward(made, X, [*names, "identity"])[:, 0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", FURTHER)
def test_further_activations_train(name):
    made = fitted(regressor(activation=name, solver="lbfgs", max_iter=30), X, NUMBERS)
    assert made.score(X, NUMBERS) > (0.05 if name == "step" else 0.5)


def test_each_layer_is_drawn_by_its_own_activation():
    """Glorot's bounds, with a factor of 2 for the logistic one; the last layer goes by the last hidden one."""
    sizes = {"hidden_layer_sizes": (200, 300), "solver": "sgd", "learning_rate_init": 1e-300, "max_iter": 1}
    for names, factors in (((("logistic", "relu")), (2, 6, 6)), (("relu", "logistic"), (6, 2, 2))):
        made = fitted(regressor(activation=names, **sizes), X, NUMBERS)
        for w, factor in zip(made.coefs_, factors, strict=True):
            assert np.abs(w).max() == pytest.approx(np.sqrt(factor / sum(w.shape)), rel=0.05)


def softsign(z):
    return z / (1 + abs(z))


def slope(z):
    return 1 / (1 + abs(z)) ** 2


def test_an_activation_of_ones_own():
    made = fitted(regressor(activation=[fastnn.Activation(softsign, slope), "relu"]), X, NUMBERS)
    hidden = softsign(X @ made.coefs_[0] + made.intercepts_[0])
    want = np.maximum(hidden @ made.coefs_[1] + made.intercepts_[1], 0) @ made.coefs_[2] + made.intercepts_[2]
    np.testing.assert_allclose(made.predict(X), want[:, 0], rtol=1e-9)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(made)).predict(X), made.predict(X))


# ---- rules ----


def test_l1_is_divided_by_the_weight_of_the_batch():
    weights = rng.uniform(0.5, 2, 90)
    for given, total in ((None, 90), (weights, weights.sum())):
        plain, with_l1 = (regressor(alpha=0, l1=c, max_iter=1, batch_size=90) for c in (0, 0.7))
        for each in (plain, with_l1):
            fitted(each, X, NUMBERS, sample_weight=given)
        start = fitted(regressor(learning_rate_init=1e-300, max_iter=1), X, NUMBERS)
        want = plain.loss_ + 0.7 * sum(np.abs(w).sum() for w in start.coefs_) / total
        assert with_l1.loss_ == pytest.approx(want, rel=1e-9)


def test_max_norm():
    made = fitted(classifier(max_norm=0.6, learning_rate_init=0.05, max_iter=20), X, LABELS)
    norms = np.concatenate([np.linalg.norm(w, axis=0) for w in made.coefs_])
    assert norms.max() == pytest.approx(0.6, rel=1e-6)


@pytest.mark.parametrize("clip", ["clip_norm", "clip_value"])
def test_clipped_gradients(clip):
    """The step of plain gradient descent is the rate times the clipped gradient."""
    settings = {"solver": "sgd", "momentum": 0, "nesterovs_momentum": False, "batch_size": 90, "max_iter": 1}
    start = fitted(regressor(**settings, learning_rate_init=1e-300), X, NUMBERS)
    plain, clipped = (
        fitted(regressor(**settings, learning_rate_init=0.5, **more), X, NUMBERS) for more in ({}, {clip: 0.01})
    )
    begin = start.coefs_ + start.intercepts_
    full, short = (
        np.concatenate([(a - b).ravel() / 0.5 for a, b in zip(e.coefs_ + e.intercepts_, begin, strict=True)])
        for e in (plain, clipped)
    )
    factor = 0.01 / (np.linalg.norm(full) + 1e-6)
    want = full * factor if clip == "clip_norm" else np.clip(full, -0.01, 0.01)
    np.testing.assert_allclose(short, want, rtol=1e-6, atol=1e-12)


def test_dropout_of_a_linear_network_has_the_expected_loss():
    """The mean of many batches' losses: that of the outputs, and half the variance that dropout adds to them."""
    settings = {"hidden_layer_sizes": 40, "activation": "identity", "alpha": 0, "batch_size": 90, "tol": 0}
    settings |= {"solver": "sgd", "learning_rate_init": 1e-12, "max_iter": 400, "n_iter_no_change": np.inf}
    made = fitted(regressor(dropout=0.5, **settings), X, np.zeros(90))
    hidden = X @ made.coefs_[0] + made.intercepts_[0]
    want = (made.predict(X) ** 2 + (hidden**2 * made.coefs_[1][:, 0] ** 2).sum(axis=1)) / 2
    assert np.mean(made.loss_curve_) == pytest.approx(want.mean(), rel=0.05)


def test_dropout_follows_the_seed_and_goes_on_in_a_copy():
    again = [fitted(classifier(dropout=[0.5, 0.2]), X, LABELS).loss_curve_ for _ in range(2)]
    other = fitted(classifier(dropout=[0.5, 0.2], random_state=2), X, LABELS).loss_curve_
    assert again[0] == again[1] != other
    once, copied = (classifier(dropout=0.5) for _ in range(2))
    for _ in range(3):
        once.partial_fit(X, LABELS, classes=np.unique(LABELS))
        copied.partial_fit(X, LABELS, classes=np.unique(LABELS))
        copied = pickle.loads(pickle.dumps(copied))
        copied.predict(X)
        copied = pickle.loads(pickle.dumps(copied))
    assert once.loss_curve_ == copied.loss_curve_


# ---- solvers and learning rates ----


@pytest.mark.parametrize("name", sorted(set(BY_NAME) - {"sgd", "adam", "rprop"}))
def test_optimizers_by_name(name):
    follow(regressor(solver=name), BY_NAME[name]())


@pytest.mark.parametrize(
    "solver", [fastnn.AdamW(0.01, weight_decay=0.3), fastnn.SGD(0.2, clip_norm=0.1), fastnn.Lion(0.01)], ids=repr
)
def test_optimizer_objects(solver):
    follow(regressor(solver=solver), solver)
    decay = fastnn.StepDecay(0.01, 2)
    follow(regressor(solver=solver, learning_rate=decay), dataclasses.replace(solver, learning_rate=decay))


@pytest.mark.parametrize("per", ["step", "epoch"])
def test_learning_rates(per):
    rate = fastnn.ExponentialDecay(0.02, 0.8, per=per)
    follow(regressor(solver="sgd", learning_rate=rate), fastnn.Momentum(rate, momentum=0.9, nesterov=True))
    follow(regressor(solver="adam", learning_rate=rate), fastnn.Adam(rate, epsilon_hat=True))
    follow(regressor(solver=fastnn.RMSprop(), learning_rate=rate), fastnn.RMSprop(rate))
    made = regressor(solver=fastnn.SGD(), learning_rate=rate)
    follow(made, fastnn.SGD(rate))
    assert made._optimizer.learning_rate == pytest.approx(0.02 * 0.8 ** (24 if per == "step" else 4))


@pytest.mark.parametrize("n", [80, 90])  # a height, and a sum of two, whose gradients are added in another order
def test_partial_fit_goes_on_with_the_schedule(n):
    rate = fastnn.ExponentialDecay(0.02, 0.5)
    parts, whole = (regressor(solver="rmsprop", learning_rate=rate, shuffle=False, max_iter=3) for _ in range(2))
    for _ in range(3):
        parts = pickle.loads(pickle.dumps(parts.partial_fit(X[:n], NUMBERS[:n])))
    expected = fitted(whole, X[:n], NUMBERS[:n]).loss_curve_
    np.testing.assert_allclose(parts.loss_curve_, expected, rtol=0 if n == 80 else 1e-14)


def test_rprop_takes_the_whole_set():
    large = rng.standard_normal((300, 6))
    made = fitted(regressor(solver="rprop", max_iter=60), large, large[:, 0])
    assert made.score(large, large[:, 0]) > 0.9
    with pytest.raises(ValueError, match="solver Rprop needs all 300 samples in a batch, got batch_size=100"):
        made.set_params(batch_size=100).fit(large, large[:, 0])


def test_a_fit_with_an_optimizer_object_stops_by_tol():
    made = regressor(solver=fastnn.AdamW(0.01), max_iter=2000, tol=1e-3, n_iter_no_change=5).fit(X, NUMBERS)
    losses = np.array(made.loss_curve_)
    waits = losses[1:] > np.minimum.accumulate(losses)[:-1] - 1e-3
    assert made.n_iter_ < 2000
    assert made.stopped_by_ == "tol"
    assert waits[-6:].all()
    assert not waits[-7]


# ---- validation ----

VALID = rng.standard_normal((40, 6))
VALID_LABELS = np.array(["ash", "elm", "oak"])[(VALID[:, 0] > 0).astype(int) + (VALID[:, 1] > 1)]
VALID_WEIGHTS = rng.uniform(0.1, 2, 40)


@pytest.mark.parametrize("weights", [None, VALID_WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_matrix])
def test_a_validation_set_is_recorded_without_early_stopping(form, weights):
    plain = fitted(classifier(), X, LABELS)
    made = fitted(classifier(), X, LABELS, X_val=form(VALID), y_val=VALID_LABELS, sample_weight_val=weights)
    assert made.loss_curve_ == plain.loss_curve_
    assert made.validation_scores_ is plain.validation_scores_ is plain.validation_loss_curve_ is None
    assert len(made.validation_loss_curve_) == 5
    want = log_loss(VALID_LABELS, made.predict_proba(VALID), sample_weight=weights)
    assert made.validation_loss_curve_[-1] == pytest.approx(want, rel=1e-9)


def test_the_loss_of_several_outputs_is_their_mean():
    targets = np.stack([NUMBERS, -NUMBERS], axis=1)
    made = fitted(regressor(), X, targets, X_val=X[:30], y_val=targets[:30])
    want = ((made.predict(X[:30]) - targets[:30]) ** 2).mean() / 2
    assert made.validation_loss_curve_[-1] == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize("weights", [None, VALID_WEIGHTS], ids=["plain", "weighted"])
def test_early_stopping_on_a_given_set(weights):
    made = classifier(early_stopping=True, max_iter=300, learning_rate_init=0.01, n_iter_no_change=5)
    fitted(made, X, LABELS, X_val=VALID, y_val=VALID_LABELS, sample_weight_val=weights)
    assert made.t_ == 90 * made.n_iter_  # all samples train
    assert made.n_iter_ == len(made.validation_scores_) == len(made.validation_loss_curve_) < 300
    assert made.best_validation_score_ == max(made.validation_scores_)
    assert made.best_validation_score_ == accuracy_score(VALID_LABELS, made.predict(VALID), sample_weight=weights)


@pytest.mark.parametrize("scoring", ["loss", "neg_log_loss", get_scorer("balanced_accuracy")], ids=str)
def test_scoring_of_a_classifier(scoring):
    made = classifier(scoring=scoring, early_stopping=True, max_iter=300, learning_rate_init=0.02, n_iter_no_change=5)
    fitted(made, X, LABELS, X_val=VALID, y_val=VALID_LABELS)
    assert made.stopped_by_ == "tol"
    scorer = get_scorer("neg_log_loss") if isinstance(scoring, str) else scoring
    assert max(made.validation_scores_) == pytest.approx(scorer(made, VALID, VALID_LABELS), rel=1e-6)
    if scoring == "loss":
        assert made.validation_scores_ == [-loss for loss in made.validation_loss_curve_]


def mean_error(estimator, inputs, targets):
    assert targets.ndim == 1
    return -np.abs(estimator.predict(inputs) - targets).mean()


def test_scoring_of_a_held_out_part():
    """A frame's column names cause no warning, because the part was checked before."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcdef"))
    given = [
        fitted(regressor(scoring=s, early_stopping=True), frame, NUMBERS)
        for s in (mean_error, "neg_mean_absolute_error")
    ]
    assert given[0].validation_scores_ == pytest.approx(given[1].validation_scores_)
    assert len(given[0].validation_loss_curve_) == 5


def test_a_pipeline_transforms_the_validation_set():
    with sklearn.config_context(enable_metadata_routing=True):
        mlp = classifier().set_fit_request(X_val=True, y_val=True)
        made = fitted(
            make_pipeline(StandardScaler(), mlp, transform_input=["X_val"]), X, LABELS, X_val=VALID, y_val=VALID_LABELS
        )
    want = log_loss(VALID_LABELS, made.predict_proba(VALID))
    assert made[-1].validation_loss_curve_[-1] == pytest.approx(want, rel=1e-9)


# ---- what watches and ends a fit ----


def test_callbacks_see_each_epoch_and_end_the_fit():
    seen = []

    def watch(estimator):
        seen.append((estimator.n_iter_, estimator.loss_, estimator.score(X, LABELS)))
        return estimator.n_iter_ == 4

    plain = fitted(classifier(max_iter=4), X, LABELS)
    made = classifier(max_iter=50, callbacks=[watch]).fit(X, LABELS)
    assert made.stopped_by_ == "callbacks"
    assert [epoch for epoch, *_ in seen] == [1, 2, 3, 4]
    assert [loss for _, loss, _ in seen] == made.loss_curve_ == plain.loss_curve_
    assert seen[-1][2] == made.score(X, LABELS)


@pytest.mark.parametrize("how", ["in place", "assigned"])
def test_what_callbacks_do_to_the_coefficients_stays(how):
    def change(estimator):
        if how == "in place":
            estimator.coefs_[0][:] = 0
        else:
            estimator.coefs_ = [np.zeros_like(estimator.coefs_[0]), *estimator.coefs_[1:]]

    made = fitted(regressor(callbacks=[change]), X, NUMBERS)
    assert not made.coefs_[0].any()
    assert np.ptp(made.predict(X)) == 0


class Recorded:
    """A callback of scikit-learn's protocol."""

    def __init__(self, last=None):
        self.events, self.last = [], last

    def setup(self, estimator, context):
        self.events.append(("setup", context.max_subtasks))

    def teardown(self, estimator, context):
        self.events.append(("teardown",))

    def on_fit_task_begin(self, estimator, context):
        self.events.append(("begin", context.task_name, context.task_id))

    def on_fit_task_end(self, estimator, context, *, X, y, metadata, fitted_estimator):
        score = fitted_estimator.score(X, y, **(metadata or {}))
        self.events.append(("end", context.task_name, context.task_id, score, fitted_estimator, X, y))
        return context.parent is not None and context.task_id == self.last


@pytest.mark.parametrize("kind", ["labels", "numbers", "several labels"])
@pytest.mark.parametrize("weights", [None, rng.uniform(1, 2, 90)], ids=["plain", "weighted"])
def test_the_callbacks_of_scikit_learn(kind, weights):
    y = {"labels": LABELS, "numbers": NUMBERS, "several labels": (X[:, :3] > 0).astype(int)}[kind]
    make = regressor if kind == "numbers" else classifier
    seen = Recorded(last=2)
    made = make(max_iter=8).set_callbacks(seen).fit(X, y, weights)
    assert made.stopped_by_ == "callbacks"
    names = [event[:3] for event in seen.events]
    epochs = [(what, "epoch", i) for i in range(3) for what in ("begin", "end")]
    assert names == [("setup", 8), ("begin", "fit", 0), *epochs, ("end", "fit", 0), ("teardown",)]
    for epoch, event in enumerate([event for event in seen.events if event[:2] == ("end", "epoch")], start=1):
        want = fitted(make(max_iter=epoch), X, y, sample_weight=weights)
        score, at_the_time, inputs, targets = event[3:]
        assert score == want.score(X, y, weights)
        np.testing.assert_array_equal(at_the_time.predict(X), want.predict(X))
        np.testing.assert_array_equal(inputs, X)
        np.testing.assert_array_equal(targets, y)
    plain = fitted(make(max_iter=3), X, y, sample_weight=weights)
    assert made.loss_curve_ == plain.loss_curve_


def test_scikit_learns_own_callback():
    monitor = sklearn.callback.ScoringMonitor(scoring="neg_log_loss")
    made = fitted(classifier(max_iter=3).set_callbacks(monitor), X, LABELS)
    scores = [row["neg_log_loss"] for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert scores[-1] == pytest.approx(-log_loss(LABELS, made.predict_proba(X)), rel=1e-12)
    assert len(scores) == 3
    again = clone(made)
    assert again._skl_callbacks == [monitor]
    again.set_callbacks()
    assert not hasattr(again, "_skl_callbacks")


def test_callbacks_of_scikit_learn_where_they_are_not_called():
    seen = Recorded()
    with pytest.warns(UserWarning, match="MLPClassifier ignores callbacks with solver='lbfgs'"):
        made = classifier(solver="lbfgs", tol=1).set_callbacks(seen)
    fitted(made, X, LABELS)
    classifier().set_callbacks(seen).partial_fit(X, LABELS, classes=np.unique(LABELS))
    assert seen.events == []
    with pytest.raises(TypeError, match="FitCallback"):
        classifier().set_callbacks(print)

    class Failing(Recorded):
        def on_fit_task_end(self, estimator, context):
            raise OSError("disk full")

    failing = Failing()
    with pytest.raises(OSError, match="disk full"):
        classifier().set_callbacks(failing).fit(X, LABELS)
    assert failing.events[-1] == ("teardown",)


@pytest.mark.parametrize("kind", ["whole", "int8", "list", "column", "strings", "flags", "floats", "several labels"])
@pytest.mark.parametrize("weights", [None, rng.uniform(1, 2, 90)], ids=["plain", "weighted"])
def test_the_score_is_scikit_learns_accuracy(kind, weights):
    """Whole numbers go without its checks. A class that was not trained on counts as an error."""
    codes, several = np.unique(LABELS, return_inverse=True)[1], (X[:, :3] > 0).astype(int)
    kinds = {"whole": codes, "int8": codes.astype(np.int8), "list": codes.tolist(), "column": codes[:, None]}
    kinds |= {"strings": LABELS, "flags": codes > 0, "floats": codes.astype(float), "several labels": several}
    y = kinds[kind]
    made = fitted(classifier(), X, np.ravel(y) if kind == "column" else y)
    seen = y[:-1] if kind == "list" else np.roll(y, 5, axis=0)[:-1]
    if kind in ("whole", "int8"):
        seen[3] = 77
    weights = None if weights is None else weights[:-1]
    expected = accuracy_score(seen, made.predict(X[:-1]), sample_weight=weights)
    assert made.score(X[:-1], seen, weights) == expected
    assert type(made.score(X[:-1], seen, weights)) is float
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        made.score(X, seen)


def test_max_time_ends_the_first_epoch_after_it():
    made = regressor(max_time=1e-9, max_iter=50).fit(X, NUMBERS)
    assert (made.n_iter_, made.stopped_by_) == (1, "max_time")
    assert fitted(regressor(max_time=1e9), X, NUMBERS).stopped_by_ == "max_iter"


@pytest.mark.parametrize("options", [{"progress": True}, {"threads": 1}, {"threads": 2}], ids=str)
def test_what_changes_no_number(options, capsys):
    made = fitted(regressor(**options), X, NUMBERS)
    assert made.loss_curve_ == fitted(regressor(), X, NUMBERS).loss_curve_
    assert ("5/5" in capsys.readouterr().err) == ("progress" in options)


# ---- losses of the regressor ----

E = np.linspace(-3, 3, 61)


def pinball(e):
    return np.where(e < 0, -0.9 * e, 0.1 * e)


@pytest.mark.parametrize(
    ("loss", "value"),
    [
        ("absolute_error", np.abs),
        ("huber", lambda e: np.where(abs(e) < 1, e**2 / 2, abs(e) - 0.5)),
        (fastnn.Huber(2.0), lambda e: np.where(abs(e) < 2, e**2 / 2, 2 * abs(e) - 2)),
        ("log_cosh", lambda e: np.log(np.cosh(e))),
        ("quantile", lambda e: np.abs(e) / 2),
        (fastnn.Quantile(0.9), pinball),
    ],
    ids=name_of,
)
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_losses(loss, value, solver):
    made = fitted(regressor(loss=loss, solver=solver, alpha=0), X, 3 * NUMBERS)
    before = fitted(regressor(loss=loss, alpha=0, batch_size=90, learning_rate_init=1e-300, max_iter=1), X, 3 * NUMBERS)
    assert before.loss_ == pytest.approx(value(before.predict(X) - 3 * NUMBERS).mean(), rel=1e-9)
    after = value(made.predict(X) - 3 * NUMBERS).mean()
    assert after < before.loss_
    if solver == "lbfgs":
        assert made.loss_ == pytest.approx(after, rel=1e-6)


# ---- in the company of scikit-learn ----

EVERYTHING = {
    "activation": ["gelu", "logistic"],
    "solver": fastnn.AdamW(0.01),
    "learning_rate": fastnn.CosineDecay(0.01, 20),
    "dropout": (0.1, 0.2),
    "l1": 0.01,
    "max_norm": 3.0,
    "clip_norm": 1.0,
    "scoring": "loss",
    "early_stopping": True,
    "callbacks": [print],
    "threads": 1,
    "max_time": 100.0,
}


def test_clone_repr_and_pickle(capsys):
    made = fitted(classifier(**EVERYTHING), X, LABELS)
    assert capsys.readouterr().out.count("MLPClassifier") == 5
    assert {name: made.get_params()[name] for name in EVERYTHING} == EVERYTHING
    assert clone(made).get_params() == made.get_params()
    assert "solver=AdamW(learning_rate=0.01" in repr(made)
    copied = pickle.loads(pickle.dumps(made))
    assert copied.get_params() == made.get_params()
    np.testing.assert_array_equal(copied.predict_proba(X), made.predict_proba(X))
    assert made.solver is EVERYTHING["solver"]


def test_grid_search():
    grid = {"activation": ["gelu", ["relu", "tanh"]], "solver": ["lion", fastnn.AdamW(0.01)], "dropout": [0.0, 0.1]}
    search = fitted(GridSearchCV(classifier(), grid, cv=2, error_score="raise"), X, LABELS)
    assert len(search.cv_results_["params"]) == 8
    assert search.best_estimator_.get_params()["dropout"] == search.best_params_["dropout"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": ["relu"]}, "activation must be one, or one a hidden layer, 2, got"),
        ({"activation": ["relu", "softmax"]}, "activation must be one of 'logistic', 'identity'"),
        ({"dropout": [0.5, 1.0]}, "dropout must be a finite number at least 0 and below 1, got 1.0"),
        ({"dropout": 1.0}, "The 'dropout' parameter of MLPRegressor must be"),
        ({"clip_norm": 1.0, "clip_value": 1.0}, "clip_norm and clip_value exclude each other, got 1.0, 1.0"),
        ({"solver": "lbfgs", "dropout": 0.5}, "dropout needs a stochastic solver, got dropout=0.5 and solver='lbfgs'"),
        ({"solver": "lbfgs", "l1": 1}, "l1 needs a stochastic solver"),
        ({"solver": "lbfgs", "max_norm": 1.0}, "max_norm needs a stochastic solver"),
        ({"solver": "lbfgs", "clip_norm": 1.0}, "clip_norm needs a stochastic solver"),
        ({"solver": "lbfgs", "callbacks": [print]}, "callbacks needs a stochastic solver"),
        ({"solver": "lbfgs", "learning_rate": fastnn.StepDecay(1.0, 1)}, "learning_rate can be a schedule with a sto"),
        ({"solver": fastnn.LBFGS()}, "The 'solver' parameter of MLPRegressor must be"),
        ({"solver": "newton"}, "The 'solver' parameter of MLPRegressor must be"),
        ({"loss": "hinge"}, "The 'loss' parameter of MLPRegressor must be"),
        ({"scoring": "beauty", "early_stopping": True}, "beauty"),
        ({"callbacks": [1]}, "callbacks must be callables"),
        ({"callbacks": [fastnn.TimeLimit(1)]}, "callbacks must be callables that take the estimator, got"),
        ({"threads": 0}, "The 'threads' parameter of MLPRegressor must be"),
    ],
    ids=name_of,
)
def test_errors_come_before_anything_is_changed(options, message):
    made = regressor(**options)
    before = dict(vars(made))
    with pytest.raises((ValueError, TypeError), match=message):
        made.fit(X, NUMBERS)
    assert vars(made) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"X_val": X}, "X_val and y_val must be given together"),
        ({"y_val": LABELS}, "X_val and y_val must be given together"),
        ({"sample_weight_val": np.ones(90)}, "sample_weight_val with them alone"),
        ({"X_val": X[:, :5], "y_val": LABELS}, "X has 5 features, but MLPClassifier is expecting 6"),
        ({"X_val": X, "y_val": np.full(90, "fir")}, "y_val must hold classes of y, got .*fir"),
        ({"X_val": X, "y_val": LABELS[1:]}, "inconsistent numbers of samples"),
    ],
    ids=str,
)
def test_errors_of_a_validation_set(options, message):
    with pytest.raises(ValueError, match=message):
        classifier().fit(X, LABELS, **options)
    with pytest.raises(ValueError, match="X_val"):
        classifier(solver="lbfgs").fit(X, LABELS, X_val=X, y_val=LABELS)


@pytest.mark.parametrize(
    "options", [{"activation": "gelu"}, {"solver": "adamw"}, {"dropout": 0.5}, {"l1": 1.0}], ids=str
)
def test_scikit_learn_cannot_take_over_what_it_does_not_have(options):
    made = fitted(classifier(**options), X, LABELS)
    with pytest.raises(ValueError, match=next(iter(options))):
        made.to_sklearn()


def test_scikit_learn_cannot_go_on_with_another_optimizer():
    made = fitted(classifier(solver="adamw"), X, LABELS).set_params(solver="adam")
    with pytest.raises(ValueError, match="solver must be one of scikit-learn's in the last fit"):
        made.to_sklearn()


# ---- derivatives by the inputs ----

TARGETS = {
    "binary": LABELS == "ash",
    "classes": LABELS,
    "labels": np.stack([X[:, 0] > 0, X[:, 1] > 0], axis=1).astype(int),
    "values": np.stack([NUMBERS, -NUMBERS], axis=1),
    "counts": rng.poisson(2, 90),
}


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("activation", [("gelu", "tanh"), ["logistic", fastnn.Activation(softsign, slope)]], ids=str)
def test_derivatives_by_the_inputs(activation, kind):
    """Central differences of the outputs."""
    make = {"values": regressor, "counts": regressor}.get(kind, classifier)
    options = {"loss": "poisson"} if kind == "counts" else {}
    made = fitted(make(activation=activation, **options), X, TARGETS[kind])

    def outputs(inputs):
        given = made.predict(inputs) if make is regressor else made.predict_proba(inputs)
        given = given.reshape(len(inputs), -1)
        return given[:, 1:] if kind == "binary" else given

    steps = 1e-5 * np.eye(6)
    want = np.stack([(outputs(X + step) - outputs(X - step)) / 2e-5 for step in steps], axis=2)
    got = made.input_gradients(X)
    assert got.shape == (90, made.n_outputs_, 6)
    np.testing.assert_allclose(got, want, atol=1e-8)
    np.testing.assert_allclose(made.input_gradients(scipy.sparse.csr_matrix(X)), got, atol=1e-12)
    if isinstance(activation, tuple):  # whose functions the reference knows
        np.testing.assert_allclose(got, reference.input_gradients(exact(made), X), atol=1e-12)


def exact(estimator):
    """The network for `reference`, in float64."""
    names = [*estimator.activation, estimator.out_activation_]
    names = ["sigmoid" if name == "logistic" else name for name in names]
    parts = zip(estimator.coefs_, estimator.intercepts_, names, strict=True)
    return [(w.astype("f8"), b.astype("f8"), name) for w, b, name in parts]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", TARGETS)
def test_hidden_outputs_and_input_gradients_against_the_reference(kind, dtype):
    """After a fit, and with coefficients that somebody assigned; "step" with a derivative of 1."""
    make = {"values": regressor, "counts": regressor}.get(kind, classifier)
    options = {"loss": "poisson"} if kind == "counts" else {}
    for name, assigned in itertools.product(("logistic", "relu", "gelu", "selu", "step"), (False, True)):
        made = fitted(make(activation=(name, "tanh"), **options), X.astype(dtype), TARGETS[kind])
        if assigned:
            made.coefs_ = [(w * 0.7).astype(dtype) for w in made.coefs_]
        want = reference.forward(exact(made), X.astype(dtype).astype("f8"))[1:-1]
        slopes = reference.input_gradients(exact(made), X.astype(dtype).astype("f8"))
        tolerance = 1e-12 if dtype is np.float64 else 1e-4
        for n in (1, 2, 90):
            got, inside = made.input_gradients(X[:n].astype(dtype)), made.hidden_activations(X[:n].astype(dtype))
            assert got.dtype == inside[0].dtype == inside[1].dtype == dtype
            np.testing.assert_allclose(got, slopes[:n], atol=tolerance)
            for a, b in zip(inside, want, strict=True):
                np.testing.assert_allclose(a, b[:n], atol=tolerance)


def test_hidden_outputs_and_input_gradients_of_two_classes_are_those_of_the_second_one():
    made = fitted(classifier(), X, LABELS == "ash")
    step = np.array([0, 0, 1e-5, 0, 0, 0])
    want = (made.predict_proba(X + step) - made.predict_proba(X - step))[:, 1] / 2e-5
    np.testing.assert_allclose(made.input_gradients(X)[:, 0, 2], want, atol=1e-8)


def test_hidden_outputs_and_input_gradients_refuse_what_predict_refuses():
    frame, holed = pandas.DataFrame(X, columns=list("abcdef")), X.copy()
    holed[3, 2] = np.nan
    made, named = fitted(regressor(), X, NUMBERS), fitted(regressor(), frame, NUMBERS)
    np.testing.assert_array_equal(named.input_gradients(frame), made.input_gradients(X.tolist()))
    wrong = [(X[:, 1:], "X has 5 features"), (X[:0], "0 sample"), (X[0], "2D array"), (holed, "NaN")]
    cases = [(made, *each) for each in wrong] + [(named, frame[list("abcdfe")], "must be in the same order")]
    for estimator, given, message in cases:
        for call in (estimator.predict, estimator.hidden_activations, estimator.input_gradients):
            with pytest.raises(ValueError, match=message):
                call(given)
    for call in (regressor().hidden_activations, regressor().input_gradients):
        with pytest.raises(NotFittedError):
            call(X)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_outputs_of_the_hidden_layers(dtype):
    made = fitted(regressor(activation=["softplus", "silu"]), X.astype(dtype), NUMBERS.astype(dtype))
    first, second = made.hidden_activations(X.astype(dtype))
    tolerance = 1e-12 if dtype is np.float64 else 1e-5
    assert first.dtype == second.dtype == dtype
    np.testing.assert_allclose(first, np.log1p(np.exp(X @ made.coefs_[0] + made.intercepts_[0])), atol=tolerance)
    want = second @ made.coefs_[2] + made.intercepts_[2]
    np.testing.assert_allclose(made.predict(X.astype(dtype)), want[:, 0], atol=tolerance)
    assert fitted(regressor(hidden_layer_sizes=()), X, NUMBERS).hidden_activations(X) == []
