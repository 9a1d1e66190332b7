"""What tests of exported files share: a computation for each function of the steps, rows, the networks of all kinds."""

import inspect

import numpy as np

import fastnn
from fastnn import Dense, Embedding
from fastnn.exchange import numpy_steps
from fastnn.exchange.computation import INPUTS, NUMBERS, Computation, Decision, Steps

from .test_export_computation import NETWORKS, trained

rng = np.random.default_rng(0)
N = 6  # inputs
FUNCTIONS = [
    name
    for name, function in vars(numpy_steps).items()
    if inspect.isfunction(function) and function.__module__ == numpy_steps.__name__
]


def numbers(*shape):
    """Operands that float32 holds."""
    return rng.standard_normal(shape).astype(np.float32).astype(np.float64)


# Of functions that are no activations: how many values they read, the width of theirs, and their operands.
OPERANDS = {
    "shifted": (1, N, {"high": numbers(N), "low": 1e-9 * numbers(N), "scale": numbers(N)}),
    "columns": (1, 3, {"which": np.array([4, 0, 4])}),
    "looked_up": (1, 3, {"column": 2, "table": numbers(5, 3)}),
    "joined": (3, 3 * N, {}),
    "dense": (1, 4, {"weight": numbers(4, N), "bias": numbers(4)}),
    "affine": (1, N, {"factor": numbers(N), "shift": numbers(N)}),
    "normalised": (1, N, {"epsilon": 1e-5}),
    "added": (2, N, {}),
    "sloped": (1, N, {"slope": numbers(N)}),
    "mean": (3, N, {}),
    "clipped": (1, N, {"least": numbers(N) - 2, "most": numbers(N) + 2}),
    "imputed": (1, N, {"fill": numbers(N)}),
    "deviations": (1, N, {"least": 1e-6}),
    "mixture": (3, N, {}),
}
POPULATIONS = {  # what several networks give together
    "mean": ([N, Dense(5, "tanh"), Dense(3, "softmax")], {"loss": "cross_entropy"}),
    "mixture": ([N, Dense(5, "tanh"), Dense(4, "identity")], {"loss": "gaussian"}),
    "shifts": ([N, Dense(5, "tanh"), Dense(2, "identity")], {"input_shift": numbers(3, N)}),
}
HEADS = {  # and what the classes or numbers of a single network are
    "two classes": (Dense(1, "sigmoid"), {}),
    "two signs": (Dense(1, "tanh"), {}),
    "one number": (Dense(1, "identity"), {}),
    "three numbers": (Dense(3, "identity"), {}),
    "counts": (Dense(2, "exp"), {"loss": "poisson"}),
    "deviations": (Dense(4, "identity"), {"loss": "gaussian"}),
    "three sigmoids": (Dense(3, "sigmoid"), {}),
}
EVERYTHING = [*NETWORKS, *POPULATIONS, *HEADS, "codes", "scaled"]


def computation(function, dtype):
    """That of one function, which reads the inputs and what is 1 to 2 above them; and what it gives in float64."""
    reads, width, operands = OPERANDS.get(function, (1, N, {}))
    steps = Steps(N, dtype)
    others = [steps.add("affine", INPUTS, factor=np.ones(N), shift=np.full(N, float(i))) for i in range(1, reads)]
    steps.add(function, INPUTS, *others, width=width, **operands)

    def expected(X):
        exact = function == "shifted"  # inputs are subtracted from before they are rounded
        x = X.astype(np.float64) if exact else X.astype(dtype).astype(np.float64)
        operands_there = {name: rounded(each, dtype) for name, each in operands.items()}
        with np.errstate(all="ignore"):
            found = getattr(numpy_steps, function)(*(x + i for i in range(reads)), **operands_there)
            return found.astype(dtype)

    return Computation(dtype, N, tuple(steps.made), Decision(NUMBERS)), expected


def rounded(operand, dtype):
    """An operand as the computation has it, in float64."""
    is_floats = isinstance(operand, np.ndarray) and operand.dtype.kind == "f"
    return operand.astype(dtype).astype(np.float64) if is_floats else operand


def rows(n=200):
    """Rows (n, N) float64 near 0 and far from it, codes, zeros, NaN and infinities."""
    X = np.concatenate([rng.normal(0, 2, (n // 2, N)), rng.normal(0, 60, (n - n // 2, N))])
    X[::3, 2] = rng.integers(-1, 6, len(X[::3]))
    X[5], X[6, 1], X[7], X[8, 3], X[9, 4] = 0, np.nan, np.nan, np.inf, -np.inf
    return X


def network(name, dtype):
    """A model or a population of EVERYTHING."""
    if name in POPULATIONS:
        sizes, how = POPULATIONS[name]
        return fastnn.Population(sizes, 3, dtype=dtype, rng=0, **how)
    if name == "codes":
        layers = [N, Embedding([1, 3], [7, 5]), Dense(8, "relu"), Dense(2, "identity")]
        return trained(layers, dtype)
    if name == "scaled":
        return trained([N, Dense(7, "gelu"), Dense(2, "identity")], dtype, input_shift=numbers(N), input_scale=0.25)
    if name in HEADS:
        head, how = HEADS[name]
        return trained([N, Dense(7, "tanh"), head], dtype, **how)
    return trained([N, *NETWORKS[name], Dense(3, "softmax")], dtype, loss="cross_entropy")


def ordinary(name, n=1000):
    """Rows (n, N) for a network of EVERYTHING, without NaN."""
    X = rng.normal(0, 2, (n, N))
    if name == "codes":
        X[:, [1, 3]] = rng.integers(0, 5, (n, 2))
    return X


def outputs_of(what, X):
    """What a model or the members of a population predict together, standard deviations beside means."""
    if not isinstance(what, fastnn.Model):
        each = np.array([outputs_of(member, X) for member in what], np.float64)
        if what[0].loss_name != "gaussian":
            return each.mean(axis=0)
        n = each.shape[2] // 2
        mean = each[:, :, :n].mean(axis=0)
        return np.hstack([mean, np.sqrt((each[:, :, n:] ** 2 + each[:, :, :n] ** 2).mean(axis=0) - mean**2)])
    return np.hstack(what.predict(X, return_std=True)) if what.loss_name == "gaussian" else what.predict(X)


def close(found, expected, dtype):
    """Whether outputs are equal up to rounding, where a float32 network itself rounds in each step."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape
    bound = {"float32": 2e-6, "float64": 1e-12}[dtype]
    np.testing.assert_allclose(found, expected, rtol=bound, atol=bound)
