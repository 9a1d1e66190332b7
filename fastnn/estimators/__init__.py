"""scikit-learn's estimators."""
