"""scikit-learn's searches and cross-validation for fastnn's estimators, in one process on all threads."""

try:
    from .. import estimators as _  # noqa: F401 - it checks scikit-learn's version before private parts are imported
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("fastnn.search needs scikit-learn: pip install 'fastnn-numba[sklearn]'") from error

from .searches import GridSearchCV, HalvingRandomSearchCV, RandomizedSearchCV, cross_val_predict, cross_validate

__all__ = ["GridSearchCV", "HalvingRandomSearchCV", "RandomizedSearchCV", "cross_val_predict", "cross_validate"]
