"""TabularClassifier and TabularRegressor: members are models trained alone, and every row is judged by strangers."""

import datetime
import json
import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import parametrize_with_checks

import fastnn
from fastnn import AdamW, CosineDecay, Dense, EarlyStopping, Model, TabularClassifier, TabularRegressor
from fastnn.data.tables import Table
from fastnn.estimators import tabular
from fastnn.estimators.tabular_recipe import recipe
from fastnn.files import storage

rng = np.random.default_rng(0)
QUICK = {"n_members": 5, "hidden_layer_sizes": 8, "epochs": 4, "random_state": 0}
BOTH = [TabularClassifier, TabularRegressor]


def numbers(n=80):
    X = rng.standard_normal((n, 3))
    return X, 3 * X[:, 0] - X[:, 1] + 0.1 * rng.standard_normal(n) + 7


def mixed(n=60):
    """A frame of text, gaps, dates and numbers, and a target that depends on all but the noise."""
    town, area = rng.choice(["Bern", "Oslo", "Rome"], n), rng.uniform(20, 90, n)
    day = datetime.date(2023, 1, 2)
    built = [day + datetime.timedelta(days=int(each)) for each in rng.integers(0, 900, n)]
    frame = {
        "town": [None if i % 9 == 4 else str(each) for i, each in enumerate(town)],
        "area": [None if i % 7 == 3 else float(each) for i, each in enumerate(area)],
        "built": built,
        "lift": [bool(each) for each in rng.integers(0, 2, n)],
        "street": [f"street {each}" for each in rng.integers(0, 15, n)],
    }
    return frame, area * 3 + 40 * (town == "Oslo")


# ---- scikit-learn's checks ----

UNEQUAL = {
    "check_sample_weight_equivalence_on_dense_data": "a row that comes twice is in two batches and two folds; one of "
    "weight two is in one"
}


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(
    [kind(n_members=2, hidden_layer_sizes=8, epochs=30) for kind in BOTH], expected_failed_checks=lambda _: UNEQUAL
)
def test_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.parametrize("kind", BOTH)
def test_scikit_learn_clones_searches_and_pickles(kind):
    X, y = load_iris(return_X_y=True)
    search = GridSearchCV(kind(**QUICK), {"hidden_layer_sizes": [4, (8, 8)]}, cv=2).fit(X, y)
    assert search.best_params_["hidden_layer_sizes"] in (4, (8, 8))
    made = search.best_estimator_
    assert clone(made).get_params() == made.get_params()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(made)).predict(X), made.predict(X))


# ---- training ----


def folds_of(labels, n_members, n_folds):
    """(seeds, the fold of each row), as documented: drawn by random_state=0, each fold with its share of each label."""
    random = np.random.RandomState(0)
    seeds = random.randint(2**31 - 1, size=n_members)
    order = random.permutation(len(labels))
    order = np.array(sorted(order, key=lambda i: labels[i]))  # keeps the order of equal ones
    folds = np.empty(len(labels), int)
    folds[order] = np.arange(len(labels)) % n_folds
    return seeds.tolist(), folds


@pytest.mark.parametrize("classes", [False, True])
def test_members_are_models_trained_alone(classes):
    X, y = numbers()
    how = {"epochs": 6, "batch_size": 16, "learning_rate": 0.02, "weight_decay": 0.1, "random_state": 0}
    labels = np.digitize(y, [5, 9]) if classes else np.zeros(80, int)
    made = (TabularClassifier if classes else TabularRegressor)(n_members=5, hidden_layer_sizes=(8,), **how)
    made.fit(X, labels if classes else y)
    table = Table.of(X, ranked=True)
    Z, without = table.transform(X), np.array([0.0 if "piece" in name else 1.0 for name in table.feature_names])
    targets = labels if classes else ((y - y.mean()) / y.std()).astype("f4")[:, None]
    seeds, folds = folds_of(labels, 10, 5)
    outputs, held_out = [], np.zeros((80, 3 if classes else 1))
    for i, seed in enumerate(seeds):
        head = Dense(3, "softmax") if classes else Dense(1, "identity")
        how_made = {"loss": "cross_entropy" if classes else "quadratic", "rng": seed}
        scale = without if i >= 5 else np.ones(len(without))
        model = Model([len(without), Dense(8, "relu"), head], input_scale=scale, **how_made)
        seen = folds != i % 5
        rate = CosineDecay(0.02, 6 * int(np.ceil(seen.sum() / 16)), per="step")
        model.fit(
            Z[seen],
            targets[seen],
            epochs=6,
            batch_size=16,
            optimizer=AdamW(rate, beta2=0.95, weight_decay=0.1),
            validation_data=(Z[~seen], targets[~seen]),
            callbacks=[EarlyStopping("val_loss", patience=10)],
        )
        np.testing.assert_allclose(made.population_[i].predict(Z), model.predict(Z), rtol=1e-3, atol=1e-3)
        outputs.append(model.predict(Z))
        held_out[~seen] += model.predict(Z[~seen]) / 2
    mean = np.mean(outputs, axis=0)
    if classes:
        np.testing.assert_allclose(made.predict_proba(X), mean, atol=1e-3)
        assert (made.predict(X) == made.predict_proba(X).argmax(axis=1)).all()
        assert made.validation_score_ == pytest.approx((held_out.argmax(axis=1) == labels).mean(), abs=0.02)
        return
    np.testing.assert_allclose(made.predict(X), mean[:, 0] * y.std() + y.mean(), rtol=1e-3, atol=1e-3)
    assert made.validation_score_ == pytest.approx(r2_score(y, held_out[:, 0] * y.std() + y.mean()), abs=1e-3)
    residuals = np.sort(np.abs(held_out[:, 0] * y.std() + y.mean() - y))
    lower, upper = made.predict_interval(X[:4], 0.75)
    np.testing.assert_allclose(upper - lower, 2 * residuals[60], rtol=0.01)  # the 61st of 80: 81 * 0.75 is 60.75


def test_each_member_stops_by_itself_with_its_best_epoch():
    X, y = numbers(200)
    made = TabularRegressor(n_members=5, hidden_layer_sizes=32, epochs=200, learning_rate=0.05, random_state=0)
    history = made.fit(X, np.sign(X[:, 0] * y) + rng.standard_normal(200)).history_
    assert len(set(history.epochs.tolist())) > 1
    assert (history.epochs - history.best_epoch == made.recipe_.patience).all()
    assert made.n_iter_ == history.epochs.max()


def test_refit_trains_on_all_rows_as_long_as_the_best_epochs():
    X, y = numbers()
    how = {**QUICK, "epochs": 30, "learning_rate": 0.1}
    first = TabularRegressor(**how).fit(X, y)
    made = TabularRegressor(**how, refit=True).fit(X, y)
    assert made.population_.history.epochs.tolist() == first.history_.best_epoch.tolist()
    assert np.isnan(made.population_.history.val_loss).all()
    assert made.validation_score_ == first.validation_score_
    assert made.population_.seeds == first.population_.seeds
    assert not np.array_equal(made.predict(X), first.predict(X))


def test_a_row_without_weight_is_not_trained_on():
    X, y = numbers()
    weights = np.ones(80)
    weights[[3, 50]] = 0
    first = TabularRegressor(**QUICK).fit(X, y, sample_weight=weights)
    changed = np.where(weights == 0, 1e6, y)
    np.testing.assert_array_equal(
        TabularRegressor(**QUICK).fit(X, changed, sample_weight=weights).predict(X), first.predict(X)
    )
    labels = np.where(X[:, 0] > 0, "up", "down")
    by_class = TabularClassifier(**QUICK, class_weight={"up": 3, "down": 1}).fit(X, labels)
    by_row = TabularClassifier(**QUICK).fit(X, labels, sample_weight=np.where(labels == "up", 3.0, 1.0))
    np.testing.assert_array_equal(by_class.predict_proba(X), by_row.predict_proba(X))
    assert not np.array_equal(by_class.predict_proba(X), TabularClassifier(**QUICK).fit(X, labels).predict_proba(X))


@pytest.mark.parametrize("kind", BOTH)
def test_so_few_rows_that_none_is_held_out(kind):
    X, y = numbers(12)
    y = (y > np.median(y)) if kind is TabularClassifier else y
    made = kind(**QUICK).fit(X, y)
    assert made.history_.epochs.tolist() == [4] * 10  # two for each of five members
    assert np.isnan(made.history_.val_loss).all()
    assert np.isnan(made.validation_score_)
    assert np.isnan(made.feature_importances_).all()
    assert made.predict(X).shape == (12,)
    if kind is TabularRegressor:
        with pytest.raises(ValueError, match="predict_interval needs held-out rows, got a fit on fewer than 20 rows"):
            made.predict_interval(X)


def test_a_row_that_is_alone_in_its_class_is_seen_by_all():
    X, _ = numbers(40)
    labels = np.where(X[:, 0] > 0, "up", "down").astype(object)
    labels[7] = "once"
    made = TabularClassifier(**{**QUICK, "epochs": 60}).fit(X, labels)
    assert made.classes_.tolist() == ["down", "once", "up"]
    assert made.predict_proba(X[[7]])[0, 1] > 2 * made.predict_proba(X[np.arange(40) != 7])[:, 1].mean()


def test_the_recipe_follows_from_the_size():
    small, large = recipe(1000, False), recipe(100_000, False)
    assert (small.n_members, recipe(50_000, False).n_members) == (6, 8)
    assert large.n_members < 8
    assert large.batch_size > small.batch_size
    assert [small._replace(n_members=n).n_folds for n in (1, 5, 8, 30)] == [5, 5, 8, 10]
    X, y = numbers(40)
    made = TabularRegressor(n_members=2, epochs=1).fit(X, y)
    assert made.recipe_ == recipe(40, False)._replace(n_members=2, epochs=1)


def test_the_same_seed_gives_the_same_bits_whatever_the_threads(monkeypatch):
    monkeypatch.setattr("fastnn.network.threads.FIT_MULTIPLY_ADDS", 0)
    monkeypatch.setattr("fastnn.network.threads.available_threads", lambda: 3)
    X, y = numbers()
    found = [TabularRegressor(**QUICK, threads=threads).fit(X, y) for threads in (1, 3)]
    np.testing.assert_array_equal(found[0].predict(X), found[1].predict(X))
    np.testing.assert_array_equal(found[0].predict(X[5:6]), found[0].predict(X)[5:6])  # whatever the other rows are


def test_a_time_limit():
    X, y = numbers()
    assert TabularRegressor(**QUICK, max_time=1e-9).fit(X, y).history_.epochs.tolist() == [1] * 10


def test_what_a_fit_tells(capsys):
    X, y = numbers()
    TabularRegressor(**QUICK, verbose=1).fit(X, y)
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["1", "2", "3", "4"]
    TabularRegressor(**QUICK, progress=True).fit(X, y)
    assert "40/40" in capsys.readouterr().err


# ---- Ctrl-C ----


def interrupts(monkeypatch, epoch, held=True):
    """Let a fit, with or without held-out rows, be interrupted after an epoch."""
    after = fastnn.population.PopulationFit._after_round

    def interrupted(fit, which):
        after(fit, which)
        if (fit.request.held is not None) == held and fit.runs["epoch"].max() >= epoch:
            raise KeyboardInterrupt

    monkeypatch.setattr("fastnn.population.PopulationFit._after_round", interrupted)


def test_ctrl_c_leaves_what_the_last_finished_epochs_left(monkeypatch):
    X, y = numbers()
    made = TabularRegressor(**QUICK)
    interrupts(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        made.fit(X, y)
    assert made.history_.epochs.tolist() == [2] * 10
    assert made.predict(X).shape == (80,)
    np.testing.assert_allclose(
        made.predict_interval(X)[1] - made.predict(X), made.predict(X) - made.predict_interval(X)[0]
    )


def test_ctrl_c_leaves_each_network_with_its_best_epoch(monkeypatch):
    """The one whose loss on held-out rows, as the history has it, is the least: so a fit of that many epochs ends."""
    X, y = numbers()
    how = {**QUICK, "epochs": 12, "learning_rate": 0.3}
    made, rate = TabularRegressor(**how), fastnn.CosineDecay
    interrupts(monkeypatch, 9)
    with pytest.raises(KeyboardInterrupt):
        made.fit(X, y)
    best = np.nanargmin(made.history_.val_loss, axis=1) + 1
    assert best.min() < 9
    # The rate falls over 12 epochs here too, whatever the number of epochs is.
    monkeypatch.undo()
    monkeypatch.setattr("fastnn.estimators.tabular.CosineDecay", lambda r, n, per: rate(r, n * 12 // epochs, per=per))
    for i, epochs in enumerate(best.tolist()):
        other = TabularRegressor(**how | {"epochs": epochs}).fit(X, y)
        np.testing.assert_array_equal(made.population_.vectors[i], other.population_.vectors[i])


def test_ctrl_c_in_the_refit_leaves_the_first_networks(monkeypatch):
    X, y = numbers()
    first, made = TabularRegressor(**QUICK).fit(X, y), TabularRegressor(**QUICK, refit=True)
    interrupts(monkeypatch, 1, held=False)
    with pytest.raises(KeyboardInterrupt):
        made.fit(X, y)
    np.testing.assert_array_equal(made.predict(X), first.predict(X))


@pytest.mark.parametrize("place", ["population.PopulationFit._reach", "TabularRegressor._importances"])
def test_ctrl_c_before_the_first_epoch_or_at_the_end_leaves_the_estimator(place, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    X, y = numbers()
    made = TabularRegressor(**QUICK)
    again = TabularRegressor(**QUICK).fit({"a": X[:, 0]}, y)
    expected = again.predict({"a": X[:, 0]})
    monkeypatch.setattr(f"fastnn.{place}", interrupted)
    with pytest.raises(KeyboardInterrupt):
        made.fit(X, y)
    with pytest.raises(NotFittedError):
        made.predict(X)
    with pytest.raises(KeyboardInterrupt):
        again.fit(X, y)
    np.testing.assert_array_equal(again.predict({"a": X[:, 0]}), expected)
    assert again.feature_names_in_.tolist() == ["a"]


# ---- targets ----


@pytest.mark.parametrize(
    "labels",
    [
        [True, False, True],
        [3, -7, 12],
        [2.0, 5.0, 9.0],
        ["oak", "elm", "ash"],
        pd.Series(["oak", "elm", "ash"], dtype="category"),
        pl.Series(["oak", "elm", "ash"]),
    ],
    ids=["bools", "integers", "floats", "text", "categories", "polars"],
)
def test_labels_of_any_dtype(labels):
    X, _ = numbers(60)
    places = np.arange(60) % 3
    X[:, 0] += 5 * np.unique(list(labels), return_inverse=True)[1][places]
    y = (
        labels.iloc[places]
        if isinstance(labels, pd.Series)
        else labels[places]
        if isinstance(labels, pl.Series)
        else np.array(labels)[places]
    )
    made = TabularClassifier(**{**QUICK, "epochs": 60}).fit(X, y)
    plain = list(labels)
    assert made.classes_.tolist() == sorted(set(plain))
    assert np.mean(made.predict(X) == np.array(plain)[places]) > 0.9
    assert made.predict_proba(X).shape == (60, len(set(plain)))


def test_predictions_have_the_units_of_the_targets():
    X, y = numbers()
    first = TabularRegressor(**QUICK).fit(X, y).predict(X)
    np.testing.assert_array_equal(TabularRegressor(**QUICK).fit(X, 1024 * y).predict(X), 1024 * first)
    both = TabularRegressor(**QUICK).fit(X, np.stack([y, -y], axis=1))
    assert both.predict(X).shape == (80, 2)
    assert [each.shape for each in both.predict_interval(X)] == [(80, 2)] * 2


def held_out_outputs(monkeypatch):
    """A list that gets what networks give for the rows that they have not seen, in later fits."""
    found, outputs = [], tabular.HeldOut.outputs

    def recorded(self, inputs, folds):
        found.append(outputs(self, inputs, folds))
        return found[-1]

    monkeypatch.setattr(tabular.HeldOut, "outputs", recorded)
    return found


@pytest.mark.parametrize("weighted", [False, True])
def test_logarithms_of_targets(monkeypatch, weighted):
    X, y = numbers()
    skewed, given = np.exp(y / 2), {"sample_weight": rng.uniform(0.5, 2, len(y))} if weighted else {}
    weights = given.get("sample_weight")
    how = {**QUICK, "epochs": 60}
    held_out = held_out_outputs(monkeypatch)
    made = TabularRegressor(**how).fit(X, skewed, **given)
    logs = TabularRegressor(**how, log_target=False).fit(X, np.log(skewed), **given)
    np.testing.assert_array_equal(held_out[0], held_out[1])
    before = np.exp(held_out[0][:, 0] * np.log(skewed).std() + np.log(skewed).mean())
    factor = np.average(skewed, weights=weights) / np.average(before, weights=weights)
    assert abs(factor - 1) > 0.01
    found = made.predict(X)
    np.testing.assert_allclose(found, np.clip(np.exp(logs.predict(X)) * factor, skewed.min(), skewed.max()), rtol=1e-6)
    lower, upper = made.predict_interval(X)
    inner = (found > skewed.min()) & (found < skewed.max())
    np.testing.assert_allclose((lower * upper)[inner], (found**2)[inner], rtol=1e-6)
    plain = TabularRegressor(**QUICK, log_target=False).fit(X, skewed)
    assert not np.allclose(plain.predict(X), made.predict(X), rtol=0.01)
    with pytest.raises(ValueError, match="y must be above 0 for log_target=True"):
        TabularRegressor(**QUICK, log_target=True).fit(X, y - y.max())


def test_means_of_both_signs_warn_of_nothing(monkeypatch):
    """Of targets without logarithms predictions are not shifted, whatever their means are."""
    X, y = numbers()
    y = y - y.mean() + 0.01
    held_out = tabular.HeldOut.outputs
    monkeypatch.setattr(tabular.HeldOut, "outputs", lambda *given: held_out(*given) - 1)
    made = TabularRegressor(**QUICK).fit(X, y)
    assert made._shift.tolist() == [0.0]


def test_predictions_stay_in_the_range_of_the_targets():
    X, y = numbers()
    made = TabularRegressor(**{**QUICK, "epochs": 60}, log_target=False).fit(X, y)
    found = made.predict(np.array([[1e6, -1e6, 0], [-1e6, 1e6, 0]]))
    np.testing.assert_allclose(found, [y.max(), y.min()], rtol=1e-5)


def test_intervals_cover_new_targets():
    inside, widths = np.zeros(2), np.zeros(2)
    for _ in range(5):
        X = rng.uniform(-2, 2, (1600, 2))
        y = np.sin(2 * X[:, 0]) + X[:, 1] + 0.3 * rng.standard_normal(1600)
        made = TabularRegressor(n_members=5, hidden_layer_sizes=32, epochs=60, random_state=0).fit(X[:600], y[:600])
        for i, coverage in enumerate((0.5, 0.9)):
            lower, upper = made.predict_interval(X[600:], coverage)
            inside[i] += ((lower <= y[600:]) & (y[600:] <= upper)).mean() / 5
            widths[i] += (upper - lower).mean() / 5
    np.testing.assert_allclose(inside, [0.5, 0.9], atol=0.035)
    assert (widths < 1.2 * 2 * 0.3 * np.array([0.674, 1.645])).all()  # those of the noise alone, and a fifth
    with pytest.raises(ValueError, match=r"coverage must be at most 0.998336 with 600 held-out rows, got 0.999"):
        made.predict_interval(X, 0.999)
    with pytest.raises(ValueError, match="coverage must be"):
        made.predict_interval(X, 0)


# ---- columns ----


FRAMES = {"dict": dict, "pandas": pd.DataFrame, "polars": pl.DataFrame}


@pytest.mark.parametrize("library", FRAMES)
def test_columns_are_found_by_their_names(library):
    make = FRAMES[library]
    frame, y = mixed()
    made = TabularRegressor(**QUICK).fit(make(frame), y)
    assert made.feature_names_in_.tolist() == [*frame]
    expected = made.predict(make(frame))
    with pytest.warns(UserWarning, match="columns that the training had not, and they are ignored: 'rent'") as warned:
        found = made.predict(make({"rent": y, **dict(reversed(frame.items()))}))
    assert len(warned) == 1
    assert warned[0].filename == __file__
    np.testing.assert_array_equal(found, expected)
    some = {name: column for name, column in frame.items() if name != "built"}
    with pytest.raises(ValueError, match="X must have the columns of the training, got none called 'built'"):
        made.predict(make(some))
    with pytest.raises(ValueError, match="X must hold at least one row, got none"):
        made.predict(make({name: column[:0] for name, column in frame.items()}))


def test_plain_and_structured_arrays():
    X, y = numbers()
    expected = TabularRegressor(**QUICK).fit(X, y).predict(X)
    structured = np.rec.fromarrays(list(X.T), names="a,b,c").view(np.ndarray)
    np.testing.assert_array_equal(TabularRegressor(**QUICK).fit(structured, y).predict(structured), expected)
    np.testing.assert_array_equal(TabularRegressor(**QUICK).fit(X.tolist(), y.tolist()).predict(X), expected)
    rows = [[town, area] for town, area in zip(["Rome", "Oslo"] * 20, range(40), strict=True)]
    made = TabularRegressor(**QUICK).fit(rows, np.arange(40.0))
    assert [row.kind for row in made.table_.summary] == ["categories", "numbers"]
    assert made.predict([["Oslo", 3]]).shape == (1,)


def test_what_columns_are_can_be_overridden():
    frame = {"code": [1, 2, 3] * 20, "price": ["1.5", "2.5", "3.5"] * 20, "id": [f"row {i}" for i in range(60)]}
    made = TabularRegressor(**QUICK, categorical=["code"], numeric=["price"], drop=["id"]).fit(frame, np.arange(60.0))
    assert [row.kind for row in made.table_.summary] == ["categories", "numbers", "dropped"]
    text = str(made.table_)
    assert [line.split()[:3] for line in text.splitlines()[1:]] == [
        ["code", "categories", "3"],
        ["price", "numbers", "4"],
        ["id", "dropped", "0"],
    ]
    assert made.feature_importances_[2] == 0
    with pytest.raises(ValueError, match="drop must name columns of X"):
        TabularRegressor(drop=["name"]).fit(frame, np.arange(60.0))


def test_unknown_categories_and_columns_without_values():
    frame, y = mixed()
    made = TabularRegressor(**QUICK).fit(frame, y)
    unknown, missing = ({**frame, "town": [town] * 60} for town in ("Paris", None))
    unknown_street, missing_street = ({**frame, "street": [street] * 60} for street in ("unknown", None))
    inputs = [made.table_.transform(each) for each in (unknown, missing)]
    gap = made.table_.feature_names.index("town missing")
    assert (inputs[0][:, gap] == 0).all()  # an unknown town is none of the three, and not missing
    assert (inputs[1][:, gap] == 1).all()
    for each in (unknown, missing, {**frame, "area": [None] * 60}):
        assert np.isfinite(made.predict(each)).all()
    np.testing.assert_array_equal(made.predict(unknown_street), made.predict(missing_street))
    made = TabularRegressor(**QUICK).fit({**frame, "area": [None] * 60}, y)  # nothing is learned of such a column
    assert made.table_.summary[1].becomes == "all missing"
    np.testing.assert_array_equal(made.predict(frame), made.predict({**frame, "area": ["what", "ever"] * 30}))


def test_columns_that_changed_their_dtype():
    frame, y = mixed()
    made = TabularRegressor(**QUICK).fit(frame, y)
    expected = made.predict(frame)
    same = {
        "area": [None if each is None else str(each) for each in frame["area"]],
        "built": [each.isoformat() for each in frame["built"]],
        "lift": [int(each) for each in frame["lift"]],
    }
    np.testing.assert_array_equal(made.predict({**frame, **same}), expected)
    with pytest.raises(ValueError, match="column 'area' of X must hold numbers, got 'wide' in row 0"):
        made.predict({**frame, "area": ["wide"] * 60})
    with pytest.raises(ValueError, match="column 'lift' of X must hold truth values"):
        made.predict({**frame, "lift": [2] * 60})
    with pytest.raises(ValueError, match="column 'built' of X must hold dates, as in training, got numbers"):
        made.predict({**frame, "built": [20230102] * 60})


@pytest.mark.parametrize("kind", BOTH)
def test_many_categories_have_vectors_of_their_own(kind):
    """An unknown one has that of code 0, zeros, as long as no row of training had it."""
    keys = [f"{i % 14:02}" for i in range(84)]
    frame = {"key": keys, "x": rng.standard_normal(84).tolist()}
    made = kind(**QUICK | {"epochs": 60}).fit(frame, [int(key) > 6 for key in keys])
    (embedding, *_), population = made.population_.layers, made.population_
    assert (embedding.columns, embedding.categories) == ((10,), (15,))
    unknown = [model.tensors[0]["embedding_10"][0] for model in population]
    np.testing.assert_array_equal(unknown, np.zeros((len(population), *embedding.widths)))
    assert made.score(frame, [int(key) > 6 for key in keys]) > 0.9
    x = {"x": [0.0, 0.0, 0.0]}
    found = made.predict({"key": ["99", None, "00"], **x})
    assert found[0] == found[1]
    matrix = made.table_.transform({"key": ["99", None, "00"], **x})
    np.testing.assert_array_equal(matrix[:, 10], [0, 0, 1])


def test_importances_tell_which_columns_matter():
    frame, y = mixed(200)
    frame["noise"], frame["same"] = rng.standard_normal(200), [1] * 200
    made = TabularRegressor(n_members=5, epochs=30, random_state=0).fit(frame, y)
    found = dict(zip(frame, made.feature_importances_, strict=True))
    assert 5 < found["area"] / found["town"] < 20  # the variances that they explain are 3,700 and 360
    assert found["town"] > 2 * abs(found["noise"])
    assert found["same"] == 0
    labels = np.where(y > np.median(y), "dear", "cheap")
    made = TabularClassifier(n_members=5, epochs=30, random_state=0).fit(frame, labels)
    assert made.feature_importances_.argmax() == 1


# ---- files ----

PREDICT = """
import json, sys, warnings
import fastnn, pandas as pd
warnings.simplefilter("ignore")
found = []
for path, data in zip(sys.argv[1::2], sys.argv[2::2]):
    found.append(fastnn.load(path).predict(pd.read_pickle(data)).tolist())
print(json.dumps(found))
"""


def test_another_process_predicts_the_same_bits(run_python, tmp_path):
    frame, y = mixed()
    data = pd.DataFrame(frame)
    data["built"] = pd.to_datetime(data["built"])
    models = [
        TabularRegressor(**QUICK).fit(data, y),
        TabularClassifier(**QUICK, refit=True).fit(data, np.where(y > np.median(y), "dear", "cheap")),
    ]
    shuffled = data.assign(further=1.0)[["street", "further", *reversed([*data.columns[:-1]])]]
    shuffled.to_pickle(tmp_path / "data")
    arguments = []
    for i, model in enumerate(models):
        model.save(tmp_path / f"{i}.safetensors")
        arguments += [tmp_path / f"{i}.safetensors", tmp_path / "data"]
    found = json.loads(run_python(PREDICT, *arguments).stdout)
    assert found == [model.predict(data).tolist() for model in models]


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("rows", [12, 60])
def test_a_file_has_all_that_the_estimator_has(kind, rows, tmp_path):
    frame, y = mixed(rows)
    del frame["street"]
    y = np.where(y > np.median(y), 2, 5) if kind is TabularClassifier else np.exp(y / 30)
    made = kind(**QUICK, drop=("lift",), refit=True).fit(frame, y)
    made.save(tmp_path / "model.safetensors")
    loaded = fastnn.load(tmp_path / "model.safetensors")
    assert loaded.get_params() == made.get_params()
    assert vars(loaded).keys() == vars(made).keys()
    assert loaded.table_.to_dict() == made.table_.to_dict()
    assert loaded.recipe_ == made.recipe_
    for name in ("feature_importances_", "feature_names_in_", "validation_score_", "n_iter_", "n_features_in_"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(made, name))
    np.testing.assert_array_equal(loaded.history_.val_loss, made.history_.val_loss)
    np.testing.assert_array_equal(loaded.predict(frame), made.predict(frame))
    if kind is TabularRegressor and rows == 60:
        np.testing.assert_array_equal(loaded.predict_interval(frame), made.predict_interval(frame))
    loaded.save(tmp_path / "again.safetensors")
    files = [storage.read(tmp_path / f"{name}.safetensors") for name in ("model", "again")]
    assert files[0][0] == files[1][0]
    assert all((files[0][1][name] == files[1][1][name]).all() for name in files[0][1].keys() | files[1][1].keys())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d, t: d["table"]["columns"].pop(), "feature_importances_ must have shape"),
        (lambda d, t: d["table"].pop("labels"), "a table must have 'columns' and 'labels'"),
        (lambda d, t: d["table"]["columns"][0].update(gaps=True), "the networks must read 31 inputs, got 30"),
        (lambda d, t: d["targets"].update(means=[1.0, 2.0]), "must be a list, one for each target"),
        (lambda d, t: d.pop("targets"), "targets"),
        (lambda d, t: t.update(residuals=t["residuals"][::-1]), "residuals must have shape"),
        (lambda d, t: t.update(residuals=t["residuals"][:, 0]), "residuals must have shape"),
        (lambda d, t: d["estimator"]["attributes"].pop("recipe_"), "attributes must have"),
        (lambda d, t: d["estimator"]["attributes"].update(recipe_=3), "recipe_ must be a tuple of 11 values"),
        (lambda d, t: d["estimator"]["attributes"].update(_limits=3), "_limits must be an array of float64"),
        (lambda d, t: d["estimator"].update(kind="TabularClassifier"), "must have the parameters"),
    ],
)
def test_files_that_do_not_fit(change, message, tmp_path):
    path, (X, y) = tmp_path / "model.safetensors", numbers(40)
    TabularRegressor(**QUICK).fit(X, y).save(path)
    text, tensors = storage.read(path)
    description = json.loads(text)
    change(description, tensors)
    storage.write(path, description, tensors)
    with pytest.raises(ValueError, match=message):
        fastnn.load(path)


# ---- errors ----


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_members": 0}, "'n_members' parameter"),
        ({"epochs": 0.5}, "'epochs' parameter"),
        ({"hidden_layer_sizes": (8, 0)}, "hidden_layer_sizes must be"),
        ({"learning_rate": 0}, "'learning_rate' parameter"),
        ({"log_target": "yes"}, "'log_target' parameter"),
        ({"categorical": [5]}, "categorical must"),
        ({"max_time": 0}, "'max_time' parameter"),
        ({"threads": True}, "'threads' parameter"),
    ],
)
def test_wrong_parameters(parameters, message):
    X, y = numbers(30)
    with pytest.raises(ValueError, match=message):
        TabularRegressor(**{**QUICK, **parameters}).fit(X, y)


def test_wrong_samples():
    X, y = numbers(30)
    with pytest.raises(ValueError, match="y must hold two classes at least, got 1 class, 'oak'"):
        TabularClassifier(**QUICK).fit(X, ["oak"] * 30)
    labels = np.where(np.arange(30) % 2, "oak", None)
    for missing in (labels, labels.tolist(), pd.Series(labels).astype("string"), pd.Series(labels).fillna(np.nan)):
        with pytest.raises(ValueError, match="y must hold no missing value, got one in row 0; leave out its row"):
            TabularClassifier(**QUICK).fit(X, missing)
    with pytest.raises(TypeError, match="y must hold values of one kind, got 'oak' in row 1 among numbers"):
        TabularClassifier(**QUICK).fit(X, np.where(np.arange(30) % 2, "oak", np.array(1, object)))
    for weight, what in ((-1, "-1"), (np.nan, "nan"), (None, "None"), (np.inf, "inf")):
        with pytest.raises(ValueError, match=f"class_weight must hold finite numbers .*, got {what} for 'oak'"):
            TabularClassifier(**QUICK, class_weight={"oak": weight, "fir": 1}).fit(X, ["fir", "oak"] * 15)
    with pytest.raises(ValueError, match="Unknown label type"):
        TabularClassifier(**QUICK).fit(X, y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        TabularRegressor(**QUICK).fit({"a": X[:, 0]}, y[:-1])
    with pytest.raises(ValueError, match="Input y contains NaN"):
        TabularRegressor(**QUICK).fit(X, np.where(y > 7, y, np.nan))
    with pytest.raises(ValueError, match="X must hold two rows at least, got 1 sample"):
        TabularRegressor(**QUICK).fit(X[:1], y[:1])
    with pytest.raises(ValueError, match=r"column 0 of X must hold numbers up to .*, got inf in row 3"):
        TabularRegressor(**QUICK).fit(np.where(np.arange(90).reshape(30, 3) == 9, np.inf, X), y)
    with pytest.raises(ValueError, match="X has 2 features, but TabularRegressor is expecting 3"):
        TabularRegressor(**QUICK).fit(X, y).predict(X[:, :2])
    with pytest.raises(TypeError, match="Sparse data was passed"):
        TabularRegressor(**QUICK).fit(sparse.dok_array(X), y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match="finite"):
            TabularRegressor(**{**QUICK, "learning_rate": 1e38}).fit(X, y)


def test_a_target_of_text_is_named():
    table = pd.DataFrame({"a": np.arange(60.0)})
    with pytest.raises(TypeError, match=r"y must hold numbers, got .* y\[59\] = '246.21x'"):
        TabularRegressor().fit(table, pd.Series([1.5] * 59 + ["246.21x"]))
