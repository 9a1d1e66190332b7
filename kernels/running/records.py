"""Runs of training: how far each is, what members of a population have, and how threads share them."""

import numpy as np

from ..vector.barriers import CLAIMED, MAILBOX, exchange, grow, wait
from ..vector.cache import inner
from .interpreter import address

RESTS = 1_000  # how often a thread that waits for others to come offers its CPU, until the caller looks at the clock
AS_IS, DRAWN, GIVEN = range(3)  # the orders of samples
RUNNING, DIVERGED, STALLED = range(3)  # values of a run's status

# A run of training, and how far it is: epochs, steps of the next one, samples of the next step. It stalls when more
# than `patience` epochs in a row had a loss above `best` - `tol`; a negative patience never ends.
RUN = np.dtype(
    [
        *((name, "i8") for name in ("n_samples", "batch_size", "ordered", "batch_means")),
        *((name, "i8") for name in ("epochs", "epoch", "step", "row", "status")),
        ("count", "f8"),  # samples of the epoch so far, by their weights
        *((name, "i8") for name in ("patience", "waited")),
        *((name, "f8") for name in ("best", "tol", "loss_scale")),  # loss_scale multiplies the losses
        ("rows", "i8"),  # the address of the int32 numbers of the rows it trains on, 0 where they are the first ones
    ]
)
# Where a member of a population finds its samples. `rows` is the address of the int32 numbers of those that it sees, n
# of them; 0 where they are the first n. `rates` is the address of the learning rate at position 0, where it changes;
# `outputs` where the outputs go, 0 where nobody wants them, and `gradient` where the unpadded gradient goes, if any.
PLACE = np.dtype(
    [(name, "i8") for name in ("inputs", "targets", "weights", "rows", "n", "rates", "outputs", "gradient")]
)
# What members of a population that are trained by one kind of fit have in common: addresses, and bytes between members.
# Parameters and each of the optimizer's vectors are n_words words of 4 bytes, unpadded; word i of one lies at words[i],
# int64, of a padded vector of n_bytes. `start` is a record STATE: the number of this fit's optimizer, and its numbers.
# `affine` is where the first member's operand lies that shifts its inputs, see `Layout.affine`.
TASK = np.dtype(
    [
        *((name, "i8") for name in ("words", "n_words", "n_bytes", "n_vectors", "block_rows")),
        *((name, "i8") for name in ("vectors", "optimizer_vectors", "optimizer_stride", "states", "start")),
        *((name, "i8") for name in ("settings", "settings_stride", "settings_bytes", "order")),
        *((name, "i8") for name in ("input_stride", "target_stride", "weight_stride")),  # bytes between samples
        *((name, "i8") for name in ("output_stride", "affine", "affine_stride")),
    ]
)
_PRESENT, _DONE, _POSTED, _STOPPED = (MAILBOX.fields[name][1] for name in ("present", "done", "posted", "stopped"))
_OPEN = MAILBOX.fields["begins"][1]  # whether worker 0 of a call on members has come


@inner
def ends_epoch(this, losses, finite):
    """Note in a run's record that an epoch has ended; gives whether it is to be kept.

    It is not where its loss is not finite, or a parameter, as `finite` says. Then the run has diverged.
    """
    if this.count != 0.0:  # else no sample had any weight
        losses[this.epoch] = losses[this.epoch] / this.count * this.loss_scale
    this.count = 0.0
    loss = losses[this.epoch]
    if not (loss - loss == 0.0 and finite):
        this.status = DIVERGED
        return False
    this.waited = this.waited + 1 if loss > this.best - this.tol else 0
    if loss < this.best:
        this.best = loss
    this.epoch += 1
    this.step = 0
    if 0 <= this.patience < this.waited:
        this.status = STALLED
    return True


@inner
def next_place(mailbox):
    """The next place of a queue, of which each thread gets another one."""
    return grow(address(mailbox) + _POSTED, 1)


@inner
def enters(mailbox, worker):
    """Whether a thread takes part in a call (gives 0), or comes too late (1), or worker 0 has not come so far (2)."""
    box_at = address(mailbox)
    if worker == 0:
        exchange(box_at + _OPEN, 0, 1)
        return 0
    if wait(box_at + _OPEN, 1, box_at + _STOPPED, RESTS) != 0:
        return 2
    return 0 if grow(box_at + _PRESENT, 1) < CLAIMED else 1


@inner
def leave(mailbox, worker):
    """End a thread's part of a call. Worker 0 lets nobody in any more, and waits for those who are in it."""
    box_at = address(mailbox)
    if worker > 0:
        grow(box_at + _DONE, 1)
    else:
        wait(box_at + _DONE, grow(box_at + _PRESENT, CLAIMED), box_at + _STOPPED, -1)
