"""Training by L-BFGS: SciPy's optimizer on the flat vector of parameters, the loss and its gradient by the kernels."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .whole_set import WholeSet

NO_LIMIT = 2**31 - 1


class LBFGSTrainer(WholeSet):
    """The iterations of L-BFGS."""

    def run(self, after: Callable[[int], bool]) -> None:
        """Minimise. SciPy has the loop, so `after` is called from it."""
        if not self.epochs:
            return
        try:
            from scipy.optimize import minimize
        except ImportError:
            raise ImportError("LBFGS needs SciPy: pip install scipy") from None

        def iteration_ended(intermediate_result: Any) -> None:  # SciPy knows what to give by the name
            self._finish(intermediate_result.x, float(intermediate_result.fun))
            if after(1):
                raise StopIteration
            self.started = time.perf_counter()

        minimize(
            self._loss_and_gradient,
            self.network.parameters.astype(np.float64),
            method="L-BFGS-B",
            jac=True,
            callback=iteration_ended,
            options={
                "maxiter": self.epochs,
                "maxfun": NO_LIMIT,
                "maxcor": self.optimizer.memory,
                "gtol": self.optimizer.tolerance,
                "ftol": 64 * np.finfo(float).eps,
            },
        )

    @np.errstate(all="ignore")
    def _loss_and_gradient(self, x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        self.trial[:] = x
        loss, gradient = self.inference.loss_and_gradient(*self.samples)
        all_gradients = self.layout.tensors(gradient)
        for layer, tensors, gradients in zip(self.layout.layers, self.tensors, all_gradients, strict=True):
            for weight in layer.weights if self.l2 and layer.trains else ():
                w, dw = tensors[weight.name].T, gradients[weight.name].T
                loss += self.l2 / 2 * float(np.vdot(w.astype(np.float64), w))
                dw += w.dtype.type(self.l2) * w
        if np.isnan(self.next_loss):
            self._start(loss, gradient)
        return loss, gradient.astype(np.float64)
