"""Runs of training: how an epoch ends, and how threads share members of a population."""

from ..programs.records import DIVERGED, STALLED
from ..vector.barriers import CLAIMED, MAILBOX
from .compiler import inner
from .instructions import address, exchange, grow, wait

RESTS = 1_000  # how often a thread that waits for others to come offers its CPU, until the caller looks at the clock
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
