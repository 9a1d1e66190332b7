"""The other packages' ways from a table to predictions, with their defaults, for `python -m bench tables`.

A method is a function (kind, X, y, seed) that fits and gives a function of X: probabilities (n, classes), the classes
in the order of numpy.unique(y), or values (n,). X is a frame as `Table.load` gives it, kind "classes" or "numbers".
"""

import numpy as np
import pandas as pd

import fastnn

from .tables_data import CLASSES


def dates_as_numbers(X):
    """The frame with each date as its day since 1970, its month, its day of the year and its day of the week."""
    X = X.copy()
    for column in X.columns:
        if X[column].dtype.kind == "M":
            date = X.pop(column)
            X[f"{column}: day"] = (date - pd.Timestamp("1970-01-01")) / pd.Timedelta(days=1)
            for part in ("month", "day_of_year", "day_of_week"):
                X[f"{column}: {part}"] = getattr(date.dt, part).astype(float)
    return X


def is_number(column):
    """Whether a column of a frame holds numbers."""
    return column.dtype.kind in "biuf"


def _numbers(X):
    return [column for column in X.columns if is_number(X[column])]


def _texts(X):
    return [column for column in X.columns if not is_number(X[column])]


def _scaled():
    """Median imputation and standard scaling of numbers, one-hot with unknown ignored of strings."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    texts = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return ColumnTransformer([("numbers", numbers, _numbers), ("texts", texts, _texts)])


class _Categories:
    """Strings as pandas' categories of the training set, in which others are gaps; or without gaps."""

    def __init__(self, gaps):
        self.gaps = gaps

    def fit_transform(self, X, y=None):
        """Learn categories and medians of X; the frame with them."""
        self.categories = {column: pd.Index(X[column].dropna().unique()) for column in _texts(X)}
        self.medians = X[_numbers(X)].median()
        return self.transform(X)

    def transform(self, X):
        """The frame with categories; without gaps medians and the category "" are in their places."""
        X = X.copy()
        for column, known in self.categories.items():
            X[column] = pd.Categorical(X[column], categories=known)
            if not self.gaps:
                X[column] = X[column].cat.add_categories("").fillna("")
        return X if self.gaps else X.fillna(self.medians)


def _fitted(estimator, transformer, kind, X, y):
    inputs = transformer.fit_transform(dates_as_numbers(X))
    estimator.fit(inputs, y)
    predict = estimator.predict_proba if kind == CLASSES else estimator.predict
    return lambda X: predict(transformer.transform(dates_as_numbers(X)))


def tabular(kind, X, y, seed):
    """TabularClassifier or TabularRegressor with defaults."""
    made = (fastnn.TabularClassifier if kind == CLASSES else fastnn.TabularRegressor)(random_state=seed, threads=1)
    made.fit(X, y)
    return made.predict_proba if kind == CLASSES else made.predict


def linear(kind, X, y, seed):
    """LogisticRegression, or Ridge."""
    from sklearn.linear_model import LogisticRegression, Ridge

    return _fitted(LogisticRegression(max_iter=1000) if kind == CLASSES else Ridge(), _scaled(), kind, X, y)


def boosting(kind, X, y, seed):
    """HistGradientBoosting, which knows categories and gaps by itself."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    estimator = HistGradientBoostingClassifier if kind == CLASSES else HistGradientBoostingRegressor
    return _fitted(estimator(random_state=seed), _Categories(gaps=True), kind, X, y)


def sklearn_mlp(kind, X, y, seed):
    """scikit-learn's MLP."""
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    estimator = MLPClassifier if kind == CLASSES else MLPRegressor
    return _fitted(estimator(random_state=seed), _scaled(), kind, X, y)


def realmlp(kind, X, y, seed):
    """RealMLP-TD of pytabkit, one network, on one thread."""
    from pytabkit import RealMLP_TD_Classifier, RealMLP_TD_Regressor

    estimator = RealMLP_TD_Classifier if kind == CLASSES else RealMLP_TD_Regressor
    settings = {"device": "cpu", "random_state": seed, "n_threads": 1, "verbosity": 0}
    y = y if kind == CLASSES else y.astype(np.float32)
    predict = _fitted(estimator(**settings), _Categories(gaps=False), kind, X, y)
    return lambda X: np.asarray(predict(X), np.float64)
