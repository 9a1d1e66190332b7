"""Single steps of training, as `Model.partial_fit` takes them."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ..data import arrays
from ..data.samples import Samples
from ..kernels.programs.program import SAMPLES, TARGETS
from ..kernels.running import entry
from ..network.network import Network
from ..reports.history import DivergenceError, History
from ..settings import optimizers
from ..settings.optimizers import Optimizer
from .arguments import Subject, check_rows, check_trainable, inputs_of, targets_of
from .options import Options
from .plan import plan_for
from .steps import Steps

LONG_STEP = 10**9  # multiply-adds of a step, above which it is cut like a fit


class Stepper:
    """Single steps of training, for `Model.partial_fit`: as little Python as can be.

    It serves X (n, n_inputs) in the network's dtype or uint8, and y int64 (n,) or (n, n_out) in the network's dtype,
    for any n, in arrays of the kinds that it was made for.
    """

    def __init__(self, network: Network, optimizer: Optimizer, samples: Samples, labels_or_targets: NDArray[Any]):
        """The network's optimizer is an equal one. `samples.targets` was made of labels_or_targets, which y is."""
        inputs = samples.inputs
        options = Options(1, 0, optimizer, any_rows=True, in_place=True)
        self.plan = plan = plan_for(network, options, samples)
        plan.bind(options, samples)
        plan.bindings["address"][[SAMPLES, TARGETS]] = 0  # each step brings its own
        self.requested: Optimizer | str = optimizer  # the argument of `partial_fit`
        self.x_dtype, self.y_dtype, self.labels = inputs.dtype, labels_or_targets.dtype, np.zeros(0, np.int32)
        self._turn_to(inputs.shape, labels_or_targets.shape)

    def takes(self, X: NDArray[Any], y: NDArray[Any]) -> bool:
        """Whether these are as it was made for."""
        shapes = X.shape, y.shape
        return (
            X.dtype is self.x_dtype
            and y.dtype is self.y_dtype
            and X.flags.carray
            and y.flags.carray
            and (shapes == self.bound[0] or self._turns_to(*shapes))
        )

    def _turns_to(self, x_shape: tuple[int, ...], y_shape: tuple[int, ...]) -> bool:
        """Whether it can serve another number of rows; then it does from now on."""
        n, layout, (x_bound, y_bound) = x_shape[0] if x_shape else 0, self.plan.layout, self.bound[0]
        alike = n > 0 and x_shape[1:] == x_bound[1:] and y_shape == (n, *y_bound[1:])
        alike = alike and (not layout.whole_batch or 1 < n <= layout.block_rows)
        if not alike or 3 * n * layout.multiply_adds > LONG_STEP:
            return False
        self._turn_to(x_shape, y_shape)
        return True

    def _turn_to(self, x_shape: tuple[int, ...], y_shape: tuple[int, ...]) -> None:
        n, plan, programs = x_shape[0], self.plan, self.plan.programs
        programs.prepare(n)
        if len(y_shape) == 1 and n > len(self.labels):
            self.labels = np.zeros(n, np.int32)
        code, labels = programs.code, self.labels if len(y_shape) == 1 else self.labels[:0]
        arrays = code.operations, code.patches, code.parts, programs.pick, plan.bindings, programs.work.step
        # Whatever belongs together, in one step: the shapes, and what the compiled function takes for them.
        self.bound = (x_shape, y_shape), (*arrays, n, labels, plan.layout.sizes[-1])
        self.total = programs.work.step["total"]

    def __call__(self, X: NDArray[Any], y: NDArray[Any]) -> tuple[int, float]:
        """One step; gives the status of `entry.train_step` and the mean loss."""
        shapes, arguments = self.bound
        status = entry.train_step(*arguments, X, y)
        return status, self.total.item() / shapes[0][0]


def explain(subject: Subject, X: Any, y: Any) -> NoReturn:
    """Raise the error of a step that was not done."""
    inputs_of(subject.architecture, X, subject.feature_names)
    targets_of(subject.architecture, y, len(X))
    raise DivergenceError("training diverged in this step; try a lower learning_rate", 1)


def first_step(subject: Subject, X: Any, y: Any, requested: Optimizer | str, sample_weight: Any) -> float:
    """A step on rows unlike the last ones, with weights if there are any; gives the mean loss before it.

    Further steps on rows like these use the network's `stepper`.
    """
    network, optimizer = subject.network, optimizers.resolve(requested)
    if sample_weight is not None:
        return _whole_step(subject, X, y, optimizer, sample_weight)
    inputs = inputs_of(subject.architecture, X, subject.feature_names)
    check_rows(network.layout, len(inputs))
    other = network.optimizer != optimizer  # if the step diverges, the old one's state must stay
    sparse, varies = arrays.is_sparse(X), bool(optimizers.per_of(optimizer))
    if other or sparse or varies or 3 * len(inputs) * network.layout.multiply_adds > LONG_STEP:
        return _whole_step(subject, X if sparse else inputs, y, optimizer)
    targets = targets_of(subject.architecture, y, len(inputs)).array
    check_trainable(subject.architecture)
    labels_or_targets = targets.astype(np.int64) if targets.ndim == 1 else np.require(targets, requirements="W")
    inputs = np.require(inputs, requirements="W")
    stepper = Stepper(network, optimizer, Samples(inputs, targets), labels_or_targets)
    stepper.requested = requested
    # The step itself does not check probabilities or counts.
    if subject.architecture.targets in arrays.UNCHECKED or targets.ndim == 1:
        network.stepper = stepper
    status, loss = stepper(inputs, labels_or_targets)
    if network.stepper is not stepper:
        stepper.plan.release(network)
    if status:
        explain(subject, inputs, labels_or_targets)
    return loss


def _whole_step(subject: Subject, X: Any, y: Any, optimizer: Optimizer, sample_weight: Any = None) -> float:
    """A step with weights, or on so many rows that Ctrl-C must not wait: an epoch of a single batch."""
    network, architecture = subject.network, subject.architecture
    inputs = inputs_of(architecture, X, subject.feature_names)
    check_rows(network.layout, len(inputs))
    targets = targets_of(architecture, y, len(inputs))
    weights = arrays.weights(sample_weight, len(inputs), architecture.dtype)
    check_trainable(architecture)
    steps = Steps(network, Samples(inputs, targets.array, weights), Options(1, len(inputs), optimizer), History())
    try:
        steps.run(lambda ended: False)
    finally:
        steps.close()
    return float(steps.losses[0])
