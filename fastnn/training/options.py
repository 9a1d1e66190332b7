"""How a fit by mini-batch steps goes, and the record of settings that its programs read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..kernels.formulas.update_rules import OPTIMIZERS
from ..kernels.programs import block_programs, records
from ..kernels.programs.block_programs import Rules
from ..settings import optimizers
from ..settings.learning_rates import LearningRate
from ..settings.optimizers import Optimizer, decay_schedule

AS_IS, DRAWN, GIVEN = records.AS_IS, records.DRAWN, records.GIVEN


class Penalty(NamedTuple):
    """The strength c of c / 2 times the sum of W^2, or of c times the sum of |W|, by what it is added to."""

    of_mean: float = 0.0  # the mean of a batch's losses
    of_sum: float = 0.0  # their sum


NO_PENALTY = Penalty()


class RuleValues(NamedTuple):
    """The values of the rules of a fit, see `block_programs.Rules`; all are off by default."""

    dropout: tuple[float | LearningRate, ...] = ()  # the share of each layer's outputs that becomes zero; empty: none
    input_noise: float = 0.0  # the standard deviation of the noise that is added to the samples
    label_smoothing: float = 0.0  # the share of each target that is spread over all classes
    max_norm: float | None = None  # the largest norm of a neuron's weights after a step
    clip_value: float | None = None  # the largest size of an element of the gradient
    clip_norm: float | None = None  # the largest norm of the whole gradient
    min_derivative: float = 0.0  # a derivative counts as at least this share of the activation's largest one

    @property
    def kinds(self) -> Rules:
        """Which rules are on: what programs depend on."""
        if self is NO_RULES:  # as in most fits
            return block_programs.NO_RULES
        return Rules(
            dropped=tuple([i for i, rate in enumerate(self.dropout) if rate]),
            input_noise=self.input_noise > 0,
            label_smoothing=self.label_smoothing > 0,
            max_norm=self.max_norm is not None,
            clip_value=self.clip_value is not None,
            clip_norm=self.clip_norm is not None,
            min_derivative=self.min_derivative > 0,
        )


NO_RULES = RuleValues()


@dataclass(frozen=True)
class Options:
    """How a fit by mini-batch steps goes, and what it minimises, after its arguments were checked."""

    epochs: int
    batch_size: int  # with any_rows the usual one, or 0
    optimizer: Optimizer
    ordered: int = AS_IS
    order: NDArray[np.int32] | None = None  # (epochs, n) where it is given
    max_threads: int = 1
    l2: Penalty = NO_PENALTY
    l1: Penalty = NO_PENALTY
    batch_means: bool = False  # report the mean of the batches' means, each by its number of samples
    n_means: int = 1  # report the losses divided by it, but not the penalty
    rules: RuleValues = NO_RULES
    partial: bool = False  # whether more samples of the epoch follow, in another fit
    any_rows: bool = False  # whether fits on other numbers of samples follow
    in_place: bool = False  # whether the network's own memory is trained, see Plan
    fresh: bool = False  # whether the optimizer starts afresh, also where an equal one has trained
    rate_per: str | None = None  # see `optimizers.per_of`, which is asked once
    first_epoch: int = 0  # where a schedule of dropout begins: the epochs of the History before

    def __post_init__(self) -> None:
        if self.rate_per is None:
            object.__setattr__(self, "rate_per", optimizers.per_of(self.optimizer))
        clips = self.optimizer.clip_value, self.optimizer.clip_norm
        if clips != (self.rules.clip_value, self.rules.clip_norm):
            object.__setattr__(self, "rules", self.rules._replace(clip_value=clips[0], clip_norm=clips[1]))

    def write(self, settings: NDArray[Any]) -> None:
        """Write all values that the programs of this fit read to a record of settings."""
        numbers = optimizer_settings(self.optimizer)
        factors = self.optimizer._factors
        write_settings(settings, numbers, self.l2, self.l1, self.rules, self.n_means, [*factors.values()])

    @property
    def by_epoch(self) -> bool:
        """Whether `write_epoch` has to write something."""
        return any(isinstance(each, LearningRate) for each in (decay_schedule(self.optimizer), *self.rules.dropout))

    def write_epoch(self, settings: NDArray[Any], epoch: int, position: int) -> None:
        """Write what changes by epoch, for the next one: so many are done in the fit, and by the optimizer."""
        write_weight_decay(settings, self.optimizer, position)
        for i, rate in enumerate(self.rules.dropout):
            if isinstance(rate, LearningRate):
                settings["dropout"][0, i] = rate._checked_rates("dropout", "epoch", self.first_epoch + epoch, 1)[0]


def optimizer_settings(optimizer: Optimizer) -> list[float]:
    """The numbers of an optimizer as its kernel takes them; NaN for one that changes."""
    return _constants(getattr(optimizer, name) for name in OPTIMIZERS[optimizer._kernel].settings)


def _constants(values: Iterable[float | LearningRate]) -> list[float]:
    return [np.nan if isinstance(value, LearningRate) else value for value in values]


def write_weight_decay(settings: NDArray[Any], optimizer: Optimizer, position: int) -> None:
    """Write the weight decay of an epoch of the optimizer, counted from 0, where it changes."""
    decay = decay_schedule(optimizer)
    if decay is not None:
        place = OPTIMIZERS[optimizer._kernel].settings.index("weight_decay")
        settings["optimizer"][0, place] = decay._checked_rates("weight_decay", "epoch", position, 1)[0]


def write_settings(
    settings: NDArray[Any],
    optimizer: Sequence[float],
    l2: Sequence[float] = NO_PENALTY,
    l1: Sequence[float] = NO_PENALTY,
    rules: RuleValues = NO_RULES,
    n_means: int = 1,
    factors: Sequence[float] = (),
) -> None:
    """Write an optimizer's numbers and the values of what is on to a record of settings, an array of one.

    The loss's parameter stays: it belongs to the network.
    """
    settings["optimizer"][0, : len(optimizer)] = optimizer
    if factors:
        settings["factors"][0, : len(factors)] = factors
    if l2 != NO_PENALTY or l1 != NO_PENALTY:
        settings["l2"], settings["l1"] = (*l2, n_means / 2), (*l1, n_means)
    if rules is not NO_RULES:
        for name, value in zip(rules._fields, rules, strict=True):
            if value:
                settings[name] = _constants(rules.dropout) if name == "dropout" else value
