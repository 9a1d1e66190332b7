"""Training on samples in memory, by mini-batch steps."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import calls
from ..data.samples import Samples
from ..kernels.programs import records
from ..network.network import Network
from ..reports.history import History, Recorder
from ..reports.scoring import Scored
from ..settings.learning_rates import LearningRate, schedule_of
from .fit import Rate, Trainer, diverged
from .options import Options
from .plan import Plan, plan_for

EPOCH, STEP, ROW, STATUS = map((records.RUN.names or ()).index, ("epoch", "step", "row", "status"))  # each of 8 bytes


class Steps(Trainer):
    """Mini-batch steps on samples in memory. The compiled code alone counts the epochs."""

    def __init__(
        self,
        network: Network,
        samples: Samples,
        options: Options,
        history: History,
        scored: Sequence[Scored] = (),
        rate: Rate | None = None,
    ):
        self.loading = network.loading
        if options.epochs > 1:
            inputs, self.loading = self.loading.rounded(network.layout, samples.inputs)
            samples = samples._replace(inputs=inputs)
        self.network, self.samples, self.options, self.epochs = network, samples, options, options.epochs
        self.by_epoch = options.by_epoch
        weights = samples.weights  # a batch of none takes no step, and so no rate
        self.skips = options.rate_per == "step" and weights is not None and not weights.all()
        self.losses = np.zeros(1)  # the epochs' losses; `advance` makes it longer
        self.plan = self._bound_plan(network, options.order)
        self.run_record = record = self.plan.run
        self.position = position = record.view(np.int64).item  # reads a field of it, by its number
        self.recorder = Recorder(history, self.losses, lambda: int(position(EPOCH)), scored)
        self.rate = Rate.of(options.optimizer) if rate is None else rate
        batch, rows = options.batch_size, self.network.layout.block_rows
        whole, rest = divmod(len(samples.inputs), batch)
        self.steps_per_epoch = whole + bool(rest)
        self.blocks_per_batch = -(-batch // rows)
        self.blocks_per_epoch = whole * self.blocks_per_batch + -(-rest // rows)
        self.length = calls.CallLength(3 * min(batch, rows) * self.network.layout.multiply_adds, calls.FIRST_CALL)
        self.window = [0.0, 0]  # seconds and blocks since the last finished epoch

    def _bound_plan(self, network: Network, order: NDArray[np.int32] | None) -> Plan:
        plan = plan_for(network, self.options, self.samples)
        plan.bind(self.options, self.samples, order)
        plan.bind_loading(self.loading)
        self._load(plan, network)
        return plan

    def _load(self, plan: Plan, network: Network) -> None:
        plan.load(network, self.options.optimizer, fresh=self.options.fresh and plan.run["epoch"][0] == 0)

    @property
    def epoch(self) -> int:
        """The number of epochs that have ended."""
        return int(self.position(EPOCH))

    def _blocks(self) -> int:
        """Blocks done."""
        epoch, step, row = (self.position(field) for field in (EPOCH, STEP, ROW))
        rows = self.network.layout.block_rows
        return int(epoch * self.blocks_per_epoch + step * self.blocks_per_batch + row // rows)

    def advance(self, until: int) -> None:
        """One kernel call: about CALL_SECONDS of blocks, but not past the epoch `until`, nor past one that changes."""
        plan, position = self.plan, self.position
        if self.by_epoch or self.skips:
            until = min(until, self.epoch + 1)
        if self.by_epoch:
            self.options.write_epoch(plan.settings, self.epoch, plan.position("epoch"))
        before, begun = self._blocks(), (self.epoch, position(STEP) + bool(position(ROW)))
        if self.rate.requested is not None:
            plan.optimizer_settings[0] = self.rate.requested
        rate = plan.optimizer_settings[0]
        if until > len(self.losses):
            longer = np.zeros(max(until, min(2 * len(self.losses), self.epochs)))
            longer[: len(self.losses)] = self.losses
            self.losses = longer
            self.recorder.losses_are_in(longer)
        self.run_record[0]["epochs"] = until
        threads, part = plan.tuner.choose()
        switched = time.perf_counter()
        plan.take(threads)
        start = time.perf_counter()
        if threads != plan.tuner.last:
            plan.tuner.switch_seconds = start - switched
        blocks = max(1, int(self.length.blocks * part))
        if plan.kind.rate_per:
            most = min(until - self.epoch, blocks // self.blocks_per_epoch + 2)
            if plan.kind.rate_per == "step":  # the rate of a batch that has begun was taken
                most = min(blocks, (until - self.epoch) * self.steps_per_epoch - begun[1])
            constant, learning_rate = self.rate.constant, self.options.optimizer.learning_rate
            plan.bind_rates(schedule_of(float(rate) if constant else learning_rate), most)
        plan.train(self.losses, blocks)
        seconds = time.perf_counter() - start
        self._note_rates(*begun, rate)
        if position(STATUS) == records.DIVERGED:
            raise diverged(self.epoch + 1, self.losses[self.epoch])
        done = self._blocks() - before
        plan.tuner.note(threads, seconds, done)
        self._clock(time.perf_counter() - switched, done)

    def resume(self, network: Network) -> None:
        """Go on with the parameters that callbacks left, or with the network that `freeze` made."""
        plan = self.plan
        if network is self.network:
            self._load(plan, network)
            return
        order = None if self.options.order is None else self.options.order[self.epoch :]
        before, bound = self.network, self._bound_plan(network, order)
        bound.run = self.run_record
        self.network, self.plan = network, bound
        plan.release(before)

    def close(self) -> None:
        """Give the plan back."""
        self.plan.release(self.network)

    def kept(self) -> NDArray[Any]:
        """The parameters that the last epoch left."""
        self.plan.take(1)
        return self.plan.buffers.parameters

    def _note_rates(self, epoch: int, steps: int, rate: float) -> None:
        """Note the rates of the epochs that a call ended. Before it so many epochs and steps had begun, at `rate`."""
        ended, learning_rate = self.epoch - epoch, self.options.optimizer.learning_rate
        self.rate.note(float(self.plan.optimizer_settings[0]))
        if not isinstance(learning_rate, LearningRate):
            self.recorder.rates(self.epoch, [float(rate)] * ended)
        elif self.plan.kind.rate_per == "epoch":
            self.recorder.rates(self.epoch, self.plan.rates[:ended].tolist())
        elif self.skips:
            self.recorder.rates(self.epoch, [self.rate.now] * ended)
        else:
            last = self.steps_per_epoch * np.arange(1, ended + 1) - steps - 1  # the first may be the call's before
            self.recorder.rates(self.epoch, np.append(self.plan.rates, rate)[last].tolist())

    def _clock(self, seconds: float, done: int) -> None:
        """Share the seconds among the epochs that ended, and choose the length of the next call."""
        self.window[0] += seconds
        self.window[1] += done
        recorder = self.recorder
        while recorder.timed < self.epoch and self.window[1] > 0:
            share = self.window[0] * self.blocks_per_epoch / self.window[1]
            recorder.seconds(share)
            self.window[0] -= share
            self.window[1] -= self.blocks_per_epoch
        self.length.note(seconds, done)
