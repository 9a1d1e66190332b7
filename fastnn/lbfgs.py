"""Fits by L-BFGS: SciPy's optimizer on the flat vector of parameters, the loss and its gradient by the kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import full_batch

NO_LIMIT = 2**31 - 1


class Fit(full_batch.Fit):
    """A fit whose epochs are the iterations of L-BFGS."""

    def _minimise(self, report: Callable[[int], None]) -> None:
        try:
            from scipy.optimize import minimize
        except ImportError:
            raise ImportError("LBFGS needs SciPy: pip install scipy") from None

        def after(intermediate_result: Any) -> None:  # SciPy knows what to give by the name
            self._finish(intermediate_result.x, float(intermediate_result.fun))
            report(1)
            if self._says_stop():
                raise StopIteration

        minimize(
            self._loss_and_gradient,
            self.network.parameters.astype(np.float64),
            method="L-BFGS-B",
            jac=True,
            callback=after,
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
        for layer, (w, _), (dw, _) in zip(self.layout.layers, self.views, self.layout.views(gradient), strict=True):
            if self.l2 and not layer.frozen:
                loss += self.l2 / 2 * float(np.vdot(w.astype(np.float64), w))
                dw += w.dtype.type(self.l2) * w
        if np.isnan(self.next_loss):
            self._start(loss, gradient)
        return loss, gradient.astype(np.float64)
