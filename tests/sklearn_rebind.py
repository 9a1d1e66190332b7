"""A plugin for pytest: scikit-learn's own tests of its MLP get fastnn's classes instead.

python -m pytest -p tests.sklearn_rebind --pyargs sklearn.neural_network.tests.test_mlp
"""

import sklearn.neural_network

import fastnn

sklearn.neural_network.MLPClassifier = fastnn.MLPClassifier
sklearn.neural_network.MLPRegressor = fastnn.MLPRegressor
