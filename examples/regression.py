"""Two regressions beside scikit-learn's MLPRegressor: diabetes (442 samples) and Friedman's function (20,000).

    python examples/regression.py

R2 is that of a fifth of the samples, which were held out. Both sides get the same network, optimizer, batches and
epochs. Inputs and targets are scaled to mean 0 and deviation 1.
"""

import time
import warnings

from sklearn.datasets import load_diabetes, make_friedman1
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import StandardScaler

import fastnn

PROBLEMS = {  # the samples, hidden neurons, epochs, batch size, l2
    "diabetes": (lambda: load_diabetes(return_X_y=True), 20, 60, 20, 0.05),
    "Friedman 1": (lambda: make_friedman1(20_000, noise=0.5, random_state=0), 50, 40, 100, 1e-4),
}


def main():
    warnings.simplefilter("ignore", ConvergenceWarning)  # of scikit-learn, whose epochs are counted
    for name, (load, hidden, epochs, batch_size, l2) in PROBLEMS.items():
        parts = train_test_split(*load(), test_size=0.2, random_state=0)
        X, X_test = (StandardScaler().fit(parts[0]).transform(part) for part in parts[:2])
        y, y_test = (StandardScaler().fit(parts[2][:, None]).transform(part[:, None])[:, 0] for part in parts[2:])
        model = fastnn.Model([X.shape[1], fastnn.Dense(hidden, "relu"), 1], output="identity", dtype="float64", rng=0)
        start = time.perf_counter()
        model.fit(X, y, epochs=epochs, batch_size=batch_size, optimizer="adam", l2=l2)
        mine = time.perf_counter() - start
        theirs = MLPRegressor(
            hidden_layer_sizes=hidden,
            batch_size=batch_size,
            alpha=l2 * batch_size,
            max_iter=epochs,
            tol=0,
            random_state=0,
        )
        start = time.perf_counter()
        theirs.fit(X, y)
        its = time.perf_counter() - start
        print(f"{name}, {len(X):,} samples")
        print(f"R2 of {name}: {r2_score(y_test, model.predict(X_test)[:, 0]):.3f} in {mine:.3f} s")
        print(f"R2 of {name}, scikit-learn: {r2_score(y_test, theirs.predict(X_test)):.3f} in {its:.3f} s")


if __name__ == "__main__":
    main()
