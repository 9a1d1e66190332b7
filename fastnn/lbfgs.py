"""Fits by L-BFGS: SciPy's optimizer on the flat vector of parameters, the loss and its gradient by the kernels."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .history import DivergenceError, History
from .inference import Inference
from .network import Network
from .optimizers import LBFGS
from .training import Samples, Validate, any_says_stop

NO_LIMIT = 2**31 - 1


class Fit:
    """A fit whose epochs are the iterations of L-BFGS, each of one or more passes over all samples.

    Trial steps have a parameter vector of their own. The network's parameters are replaced when an iteration ends.
    """

    def __init__(
        self,
        current: Callable[[], Network],
        samples: Samples,
        optimizer: LBFGS,
        epochs: int,
        l2: float,
        callbacks: Sequence[Callable[[], object]],
        history: History,
        validate: Validate | None = None,
    ):
        self.current, self.network, self.samples = current, current(), samples
        self.optimizer, self.epochs, self.l2 = optimizer, epochs, l2
        self.done = done = np.zeros(1, np.int64)  # epochs; a History reads it, and must not keep the samples
        self.callbacks, self.history, self.validate = callbacks, history, validate
        self.losses, self.next_loss = np.zeros(max(1, epochs)), np.nan
        self.started = time.perf_counter()
        network, layout = self.network, self.network.layout
        self.trial = network.parameters.copy()
        self.inference = Inference(layout, self.trial, network.scale, [])
        self.views = layout.views(self.trial)
        history._record(self.losses, lambda: int(done[0]), validate is not None)

    @property
    def epoch(self) -> int:
        """Iterations finished."""
        return int(self.done[0])

    def run(self, report: Callable[[int], None]) -> None:
        """Minimise; callbacks and validation come after each iteration."""
        try:
            from scipy.optimize import minimize
        except ImportError:
            raise ImportError("LBFGS needs SciPy: pip install scipy") from None

        def after(intermediate_result: Any) -> None:  # SciPy knows what to give by the name
            self._finish(intermediate_result.x, float(intermediate_result.fun))
            report(1)
            if self._says_stop():
                raise StopIteration

        if self.epochs:
            self.network.stepper = None
            self.network.state["optimizer"] = 0  # any other optimizer starts afresh
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

    def _loss_and_gradient(self, x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        self.trial[:] = x
        loss, gradient = self.inference.loss_and_gradient(*self.samples)
        for layer, (w, _), (dw, _) in zip(
            self.network.layout.layers, self.views, self.network.layout.views(gradient), strict=True
        ):
            if self.l2 and not layer.frozen:
                loss += self.l2 / 2 * float(np.vdot(w.astype(np.float64), w))
                dw += w.dtype.type(self.l2) * w
        if np.isnan(self.next_loss):  # at the start
            if not (np.isfinite(loss) and np.isfinite(gradient).all()):
                raise DivergenceError(f"training diverged in epoch 1: its loss is {loss:g} or a gradient not finite", 1)
            self.next_loss = loss
        return loss, gradient.astype(np.float64)

    def _finish(self, x: NDArray[np.float64], loss: float) -> None:
        """An iteration has ended at x."""
        self.trial[:] = x
        if not (np.isfinite(loss) and np.isfinite(self.trial).all()):
            raise DivergenceError(
                f"training diverged in epoch {self.epoch + 1}: its loss is {loss:g} or a parameter is not finite. "
                f"The model holds the parameters after {self.epoch} epochs.",
                self.epoch + 1,
            )
        self.losses[self.epoch], self.next_loss = self.next_loss, loss
        self.network.parameters[:] = self.trial
        self.done[0] += 1
        now = time.perf_counter()
        self.history._seconds.append(now - self.started)
        self.started = now

    def _says_stop(self) -> bool:
        if self.validate is not None:
            self.history._score(self.epoch, *self.validate())
        stop = any_says_stop(self.callbacks)
        if self.current() is not self.network or (self.network.parameters != self.trial).any():
            raise RuntimeError(
                "a callback changed the model, which L-BFGS cannot follow; return True to end the fit first"
            )
        self.started = time.perf_counter()
        return stop
