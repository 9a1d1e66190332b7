"""Training by Levenberg and Marquardt: least squares, with the derivative of every output by every parameter."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .whole_set import WholeSet

JACOBIAN_BYTES = 2**24  # so many bytes of the Jacobian are held at a time
LARGEST_DAMPING = 1e12


class LevenbergMarquardtTrainer(WholeSet):
    """Accepted steps: (J'J / n + l2 + damping) step = gradient, with the Jacobian J.

    A step that does not lower the loss is tried again with a larger damping.
    """

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.damping = self.optimizer.damping
        self.trained, self.penalised = self._marks()

    def advance(self, until: int) -> None:
        """Take one accepted step; none where the gradient is zero or no step is small enough: it is the last one."""
        self.started = time.perf_counter()
        start = self.trial.astype(np.float64)
        loss, hessian, gradient = self._normal_equations()
        if np.isnan(self.next_loss):
            self._start(loss, gradient)
        if np.abs(gradient).max(initial=0) <= self.optimizer.tolerance:
            self.epochs = self.epoch
            return
        while self.damping < LARGEST_DAMPING:
            damped = hessian + self.damping * np.eye(len(hessian))
            step = np.zeros_like(start)
            step[self.trained] = np.linalg.solve(damped, gradient)
            loss = self._loss(start - step)
            if loss < self.next_loss:
                break
            self.damping *= self.optimizer.factor
        else:
            self.epochs = self.epoch
            return
        self.damping = max(self.damping / self.optimizer.factor, 1e-15)
        self._finish(self.trial.copy(), loss)

    def _marks(self) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """(which elements of the vector train, which of these are weights)."""
        trained, weights = (np.zeros(self.trial.size, bool) for _ in range(2))
        marks = zip(self.layout.layers, self.layout.tensors(trained), self.layout.tensors(weights), strict=True)
        for layer, trains, is_weight in marks:
            for tensor in layer.tensors if layer.trains else ():
                trains[tensor.name][...], is_weight[tensor.name][...] = tensor.trains, tensor.decays
        return np.flatnonzero(trained), weights[trained]

    def _penalty(self) -> float:
        weights = self.trial[self.trained][self.penalised].astype(np.float64)
        return self.l2 / 2 * float(weights @ weights)

    @np.errstate(all="ignore")  # such a step is not kept
    def _loss(self, x: NDArray[np.float64]) -> float:
        self.trial[:] = x
        loss = self.inference.evaluate(*self.samples)[0] + self._penalty()
        return loss if np.isfinite(self.trial).all() else math.inf

    @np.errstate(all="ignore")  # then the fit diverges
    def _normal_equations(self) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
        """(loss, J'J / n, gradient), of the parameters that train; samples' weights take the place of 1 / n."""
        inputs, targets, weights = self.samples
        n = len(inputs)
        loss, outputs = self.inference.evaluate(inputs, targets, weights)
        if targets.ndim == 1:  # class indices
            targets = np.eye(outputs.shape[1], dtype=outputs.dtype)[targets]
        shares = np.full(n, 1 / n) if weights is None else weights / weights.sum(dtype=np.float64)
        size = len(self.trained)
        hessian, gradient = np.zeros((size, size)), np.zeros(size)
        rows = max(1, JACOBIAN_BYTES // (8 * self.trial.size))
        for first in range(0, n, rows):
            part = slice(first, first + rows)
            for k in range(outputs.shape[1]):
                jacobian = self.inference.jacobian(inputs[part], outputs[part], k)[:, self.trained].astype(np.float64)
                scaled = jacobian * shares[part, None]
                hessian += scaled.T @ jacobian
                gradient += scaled.T @ (outputs[part, k].astype(np.float64) - targets[part, k])
        diagonal = np.where(self.penalised, self.l2, 0.0)
        hessian[np.diag_indices(size)] += diagonal
        gradient += diagonal * self.trial[self.trained]
        return loss + self._penalty(), hessian, gradient
