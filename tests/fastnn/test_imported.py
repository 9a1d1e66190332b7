"""Networks of other systems, as they are put together."""

import numpy as np
import pytest

from fastnn import Dense, Residual, Scale
from fastnn.exchange.imported import Imported, Unfit

rng = np.random.default_rng(0)
X = rng.normal(size=(20, 3))
W, B = rng.normal(size=(4, 3)), rng.normal(size=4)


def test_affine_maps_are_folded():
    """Of the inputs into their shift and scale, elsewhere into dense layers below or above."""
    network = Imported(3)
    network.affine(1.0, -2.0)
    network.affine(np.array([0.5, 2.0, 4.0]), 0.0)
    network.dense(W, B)
    network.affine(np.arange(4.0), 1.0)
    network.activate("tanh")
    network.affine(3.0, 0.5)
    network.dense(W.T, B[:3])
    model = network.model(None, None, "float64", 0)
    assert model.layers == (Dense(4, "tanh"), Dense(3, "identity"))
    assert model.input_shift == 2.0
    np.testing.assert_array_equal(model.input_scale, [0.5, 2.0, 4.0])
    hidden = 3 * np.tanh(((X - 2) * [0.5, 2, 4] @ W.T + B) * np.arange(4) + 1) + 0.5
    np.testing.assert_allclose(model.predict(X), hidden @ W + B[:3], 1e-12)


def test_a_factor_without_an_offset_is_a_layer():
    network = Imported(3)
    network.affine(np.array([0.0, 1, 2]), 0.0)  # inputs cannot be scaled by zero and shifted afterwards
    block = Imported(3, inner=True)
    block.dense(W[:3], B[:3])
    network.add_residual(block)
    network.dense(W, B)
    model = network.model(None, None, "float64", 0)
    assert model.layers == (Scale(), Residual(Dense(3, "identity")), Dense(4, "identity"))
    inputs = X * [0, 1, 2]
    np.testing.assert_allclose(model.predict(X), (inputs @ W[:3].T + B[:3] + inputs) @ W.T + B, 1e-12)


def test_an_offset_without_a_dense_layer_is_refused():
    network = Imported(3)
    network.affine(0.0, 1.0)
    with pytest.raises(Unfit, match="it adds an offset where no dense layer is beside it"):
        network.add(Scale(), weight=np.ones(3))


def test_without_pytorch(run_python):
    source = """
import sys
sys.modules["torch"] = None
import fastnn
for call in (lambda: fastnn.from_torch(3), fastnn.Model([2, 1]).to_torch):
    try:
        call()
    except ModuleNotFoundError as error:
        print(error)
"""
    expected = "modules of PyTorch need PyTorch: pip install 'fastnn-numba[torch]'\n"
    assert run_python(source).stdout == 2 * expected
