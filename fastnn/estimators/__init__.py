"""scikit-learn's estimators. They replace private parts of its classes, so they need the version that they know."""

import sklearn as _sklearn

KNOWN = "1.9"  # the version of scikit-learn, as in pyproject.toml; CONTRIBUTING.md says how to move to the next one

if _sklearn.__version__.split(".")[:2] != KNOWN.split("."):
    raise ImportError(
        f"the estimators and searches of fastnn need scikit-learn {KNOWN}, because they replace private parts of its "
        f"classes, but {_sklearn.__version__} is installed: pip install 'scikit-learn=={KNOWN}.*'"
    )
