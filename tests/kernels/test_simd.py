"""simd: exp and its kin over the whole range of numbers, against 80-bit arithmetic where the platform has it."""

import numpy as np
import pytest

from ..cases import DTYPES, EPS
from .kernel_calls import EVERY_TARGET, activate, on_targets

rng = np.random.default_rng(0)
NAMES = ["exp", "sigmoid", "tanh"]


def exact(name, x):
    x = x.astype(np.longdouble)
    if name != "sigmoid":
        return {"tanh": np.tanh, "exp": np.exp}[name](x)
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("target", "name"), on_targets(NAMES))
def test_within_two_ulp_over_the_whole_range(name, dtype, target):
    ulps = 2.0 if target.has_fma else 2.1  # units in the last place of the exact result
    n, edge = 200_000, 110 if dtype == "float32" else 750
    tiny = np.log(np.finfo(dtype).tiny)
    z = np.concatenate(
        [
            rng.uniform(-edge, edge, n),
            rng.uniform(-4, 4, n),
            rng.uniform(-0.5, 0.5, n),
            np.exp(rng.uniform(tiny, np.log(edge), n)) * rng.choice([-1, 1], n),
        ]
    ).astype(dtype)
    got, want = activate(name, z, dtype, target), exact(name, z)
    largest = np.finfo(dtype).max
    np.testing.assert_array_equal(np.isinf(got), want > largest * (1 + EPS[dtype] / 4))
    got, want, z = got[want <= largest], want[want <= largest], z[want <= largest]
    ulp = np.spacing(np.abs(want).astype(dtype)).astype(np.longdouble)
    worst = np.argmax(np.abs(got - want) / ulp)
    assert abs(got[worst] - want[worst]) / ulp[worst] <= ulps, f"{name}({z[worst]!r})"


@pytest.mark.parametrize("target", EVERY_TARGET)
@pytest.mark.parametrize("dtype", DTYPES)
def test_special_values(dtype, target):
    z = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e30, -1e30]

    def values(name, points=z):
        return activate(name, points, dtype, target)

    np.testing.assert_array_equal(values("sigmoid"), [np.nan, 1, 0, 0.5, 0.5, 1, 0])
    np.testing.assert_array_equal(values("tanh"), [np.nan, 1, -1, 0, 0, 1, -1])
    assert np.signbit(values("tanh", [-0.0])[0])
    np.testing.assert_array_equal(values("exp"), [np.nan, np.inf, 0, 1, 1, np.inf, 0])
    np.testing.assert_array_equal(values("relu"), [np.nan, np.inf, 0, 0, 0, np.array(1e30, dtype), 0])
    np.testing.assert_array_equal(
        values("step", [np.nan, -1, 0, 1e-30, 5, np.inf, -np.inf]), [np.nan, 0, 0, 1, 1, 1, 0]
    )
    np.testing.assert_array_equal(values("identity"), np.array(z, dtype))


@pytest.mark.parametrize("target", EVERY_TARGET)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_a_value_is_the_same_wherever_it_stands(name, dtype, target):
    """Several vectors are computed at once, and what is left over one by one: the same bits."""
    z = rng.normal(0, 3, 1000).astype(dtype)
    together = activate(name, z, dtype, target)
    for n in (1, 7, 16, 50):
        np.testing.assert_array_equal(activate(name, z[:n], dtype, target), together[:n])
