"""Every activation with every loss, output and optimizer that go together: some steps against the reference."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from fastnn import Dense, Model
from fastnn.kernels import reference
from fastnn.kernels.formulas import loss_functions

from .. import cases
from ..covering import covering

HIDDEN = [name for name in cases.ACTIVATIONS if name not in cases.STEPS]
OUTPUTS = [*HIDDEN, *cases.ROW_WISE]
PAIRS = [
    (loss, out)
    for loss, out in itertools.product(loss_functions.NAMES, OUTPUTS)
    if loss_functions.kernel_name(loss, out)
]
OPTIMIZERS = {name: replace(optimizer, learning_rate=1e-3) for name, optimizer in cases.OPTIMIZERS.items()}
EVERY = list(itertools.product(OPTIMIZERS, PAIRS, HIDDEN))
PAIRED = {EVERY[i] for i in covering(EVERY, 2)}  # each optimizer with each loss and output, each activation with both
THREES = {EVERY[i] for i in covering([(name, *pair, hidden) for name, pair, hidden in EVERY], 3)} - PAIRED
CHOSEN = {"pairs": PAIRED, "threes": THREES, "others": {*EVERY} - PAIRED - THREES}
ROWS, BATCH = 8, 4


def targets(loss, output, rng):
    """Numbers that the loss takes, away from where its derivative jumps."""
    y = rng.uniform(0.05, 0.95, (ROWS, 3))
    if output == "softmax":
        return y / y.sum(axis=1, keepdims=True)
    if loss == "hinge":
        return np.round(y)
    return y if "cross_entropy" in loss or loss == "poisson" else y + 3


def test_which_pairs_there_are():
    """13 outputs with any numbers, and the others with the losses that go with an output."""
    by_loss = {loss: [out for each, out in PAIRS if each == loss] for loss in loss_functions.NAMES}
    assert {loss: len(outs) for loss, outs in by_loss.items()} == {
        **dict.fromkeys(("quadratic", "absolute_error", "huber", "log_cosh", "quantile"), 13),
        "arctanh_error": 3,
        **dict.fromkeys(("cross_entropy", "clipped_cross_entropy"), 2),
        **dict.fromkeys(("poisson", "hinge", "gaussian"), 1),
    }
    assert len(HIDDEN) == 13


@pytest.mark.filterwarnings("ignore:y holds numbers:UserWarning")  # out of the outputs' reach, on purpose
@pytest.mark.parametrize(
    ("chosen", "name"),
    [
        pytest.param(chosen, name, marks=marks)
        for chosen, marks in (
            ("pairs", []),
            ("threes", [pytest.mark.slow]),
            ("others", [pytest.mark.slow, pytest.mark.every]),
        )
        for name in OPTIMIZERS
    ],
)
def test_some_steps(chosen, name):
    """Two batches in each of two epochs, in float64. An optimizer of the whole set has one batch."""
    optimizer, rng, whole_set = OPTIMIZERS[name], np.random.default_rng(4), name in cases.WHOLE_SET
    batch, settings = ROWS if whole_set else BATCH, cases.settings_of(optimizer)
    X, order = 0.3 * rng.standard_normal((ROWS, 4)), np.array([rng.permutation(ROWS) for _ in range(2)])
    for pair, hidden in itertools.product(PAIRS, HIDDEN):
        if (name, pair, hidden) not in CHOSEN[chosen]:
            continue
        loss, output = pair
        units = 3 * loss_functions.LOSSES[loss_functions.kernel_name(loss, output)].outputs
        model = Model([4, Dense(5, hidden), Dense(units, output)], loss=loss, dtype="float64", rng=1)
        y = targets(loss, output, rng)
        twin = [(model.weights[0].T.copy(), model.biases[0].copy(), hidden)]
        twin.append((model.weights[1].T.copy(), model.biases[1].copy(), output))
        options = {"loss_name": loss_functions.kernel_name(loss, output), "optimizer": optimizer._kernel}
        shuffle = False if whole_set else order
        want_losses, want = reference.train(
            twin, X, y, [np.arange(ROWS)] * 2 if whole_set else order, batch, *settings, **options
        )
        history = model.fit(X, y, epochs=2, batch_size=batch, optimizer=optimizer, shuffle=shuffle)
        what = f"{hidden}, {output}, {loss}"
        np.testing.assert_allclose(history.loss, want_losses, rtol=1e-9, err_msg=what)
        for w, b, (want_w, want_b, _) in zip(model.weights, model.biases, want, strict=True):
            np.testing.assert_allclose(w.T, want_w, atol=1e-9, err_msg=what)
            np.testing.assert_allclose(b, want_b, atol=1e-9, err_msg=what)
