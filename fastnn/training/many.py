"""Training of many networks of one architecture, each with values of its own, in one compiled call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.samples import Samples
from ..kernels.programs import program
from ..kernels.programs.memory import STATE, aligned_zeros
from ..kernels.programs.program import bind
from ..kernels.running import entry
from ..network.network import Network, without_parameter
from .options import Options
from .plan import NOBODY, Plan, kind_of, plan_for, run_record


class Stack:
    """The memory of many networks of one layout: arrays with a row for each, where one plan reaches all of them."""

    def __init__(self, plan: Plan, n: int):
        layout = plan.layout

        def rows(n_bytes: int, dtype: Any) -> NDArray[Any]:
            return aligned_zeros(n * n_bytes, dtype).reshape(n, n_bytes // np.dtype(dtype).itemsize)

        self.parameters = rows(layout.n_bytes, layout.dtype)
        self.vectors = rows(plan.buffers.vectors.nbytes, layout.dtype)
        self.states = rows(STATE.itemsize, STATE)
        self.settings = rows(layout.settings_dtype.itemsize, layout.settings_dtype)

    def bind(self, table: NDArray[Any]) -> None:
        """Enter where the networks lie."""
        for symbol, array in (
            (program.PARAMETERS, self.parameters),
            (program.VECTORS, self.vectors),
            (program.STATE, self.states),
            (program.SETTINGS, self.settings),
        ):
            bind(table, symbol, array.ctypes.data, network_stride=array.strides[0])


def train_many(
    networks: Sequence[Network], fits: Sequence[Options], samples: Samples
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Train networks of one architecture on the same samples, each as one of the fits says, on one thread.

    The fits may differ in every value, but not in what programs depend on, and their learning rates are constant.
    Gives the records RUN of all, and the losses of their epochs, (networks, most epochs). Each network ends with the
    bits of a fit by itself. One that diverges keeps what its last finished epoch left, and the others go on.
    """
    kind, order = kind_of(fits[0], samples), fits[0].order
    for options in fits:
        if kind_of(options, samples) != kind or options.order is not order or options.ordered != fits[0].ordered:
            raise ValueError("fits must be of one kind, and see the samples in orders of one kind")
    if kind.rate_per or kind.any_rows or kind.in_place or kind.max_threads != 1:
        raise ValueError("fits must have constant learning rates, whole epochs and one thread")
    architecture = without_parameter(networks[0].architecture)
    for network in networks:
        if without_parameter(network.architecture) != architecture:
            raise ValueError("networks must be of one architecture, but for the loss's parameter")
        network.forget_stepper()
    n = len(samples.inputs)
    plan = plan_for(networks[0], fits[0], samples)
    try:
        plan.bind(fits[0], samples, order)
        stack = Stack(plan, len(networks))
        stack.bind(plan.bindings)
        for i, (network, options) in enumerate(zip(networks, fits, strict=True)):
            plan.load(network, options.optimizer, options.fresh)
            stack.parameters[i], stack.vectors[i], stack.states[i] = plan.buffers
            stack.settings["loss_parameter"][i] = network.settings["loss_parameter"]
            options.write(stack.settings[i])
        runs = np.concatenate([run_record(options, n) for options in fits])
        runs["epochs"] = [options.epochs for options in fits]
        losses = np.zeros((len(networks), max(1, *runs["epochs"])))
        made = plan.programs
        entry.train_many(*made.arguments(plan, NOBODY), made.pick, made.work.step, runs, losses)
    finally:
        plan.release(networks[0])
    for i, (network, options) in enumerate(zip(networks, fits, strict=True)):
        if runs["epoch"][i]:
            network.parameters[:], network.state[:] = stack.parameters[i], stack.states[i]
            network.vectors_for(options.optimizer)[:] = stack.vectors[i]
    return runs, losses
