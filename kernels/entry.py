"""Every function that Python calls. Only these are compiled by Numba, and cached.

They run programs (see `program`) over the blocks of a sample set: before each run they write what its symbols stand for
into its operations, as a table of bindings says.
"""

import numpy as np
from numba import njit, prange

from .cache import cached
from .interpreter import address, flush_subnormals, restore, run_part
from .program import ORDER, SAMPLES, TARGETS
from .schedule import ADVANCE, AFTER, BEFORE, BEGIN_EPOCH, BLOCKS, CHECK, COUNT, FINISH, KEEP, RESTORE
from .threads import MAILBOX, grow, wait

AS_IS, DRAWN, GIVEN = range(3)  # the orders of samples
RESTS = 10_000  # that a helper takes until it looks whether it is still wanted
RUNNING, DIVERGED, STALLED = range(3)  # values of a run's status

# A run of training, and how far it is: epochs, steps of the next one, samples of the next step. It stalls when more
# than `patience` epochs in a row had a loss above `best` - `tol`; a negative patience never ends.
RUN = np.dtype(
    [
        *((name, "i8") for name in ("n_samples", "batch_size", "block_rows", "ordered", "batch_means")),
        *((name, "i8") for name in ("epochs", "epoch", "step", "row", "status")),
        ("count", "f8"),  # of the epoch's samples so far, by their weights
        *((name, "i8") for name in ("patience", "waited")),
        *((name, "f8") for name in ("best", "tol", "loss_scale")),  # the last multiplies the losses
    ]
)
_ARRIVED, _POSTED, _STOPPED = (MAILBOX.fields[name][1] for name in ("arrived", "posted", "stopped"))


@cached
def train(operations, patches, parts, bindings, mailbox, step, run, losses, max_blocks):
    """Train on at most `max_blocks` blocks of samples, going on from where `run` says; a batch has one or several.

    operations, patches and parts (threads, n) are a `program.Code` of `schedule.Training.programs`: this is worker 0,
    and the others run `help_train` meanwhile; it stops them. bindings (n,), mailbox (1,), step (1,) and run (1,) are
    records. losses[epoch], float64, sums the batches' losses and becomes their (weighted) mean when the epoch ends, or
    with `batch_means` the mean of the batches' means, each by its number of samples. An epoch that ends with a loss or
    a parameter that is not finite sets the status to DIVERGED and leaves what was kept.
    """
    before = flush_subnormals()
    this, box, now = run[0], mailbox[0], step[0]
    box_at, mine, helpers, posted = address(mailbox), parts[0], parts.shape[0] - 1, 0
    row, this.row = this.row, 0
    while max_blocks > 0 and this.epoch < this.epochs:
        first = this.step * this.batch_size
        stop = min(first + this.batch_size, this.n_samples)
        start = first + row
        if row == 0:
            if this.step == 0 and this.ordered == DRAWN:
                run_part(operations, patches, mine, BEGIN_EPOCH, bindings, 0)
            if helpers > 0:
                wait(box_at + _ARRIVED, helpers * (posted + 1), box_at + _STOPPED, -1)
            now.count = stop - first
            now.total = 0.0
            run_part(operations, patches, mine, COUNT, bindings, first)
            if now.count != 0.0:
                run_part(operations, patches, mine, ADVANCE, bindings, first)
            else:  # a batch of no weight changes nothing
                start = stop
                max_blocks -= 1
        while start < stop and max_blocks > 0:
            rows = min(this.block_rows, stop - start)
            if helpers > 0:  # until every helper has done the blocks posted so far
                wait(box_at + _ARRIVED, helpers * (posted + 1), box_at + _STOPPED, -1)
                box.first, box.rows = start, rows
                box.begins, box.ends = start == first, start + rows == stop
                grow(box_at + _POSTED)
                posted += 1
            if start == first:
                run_part(operations, patches, mine, BEFORE, bindings, first)
            i = BLOCKS
            while mine[i].rows != rows:
                i += 1
            run_part(operations, patches, mine, i, bindings, start + mine[i].first_row)
            start += rows
            max_blocks -= 1
            if start == stop:
                run_part(operations, patches, mine, AFTER, bindings, first)
                if mine[FINISH].operations > 0:
                    if helpers > 0:
                        wait(box_at + _ARRIVED, helpers * (posted + 1), box_at + _STOPPED, -1)
                    run_part(operations, patches, mine, FINISH, bindings, first)
        if start < stop:
            this.row = start - first
            break
        if now.count != 0.0:  # a batch counts by its weight, or by its number of samples
            share = (stop - first) / now.count if this.batch_means else 1.0
            losses[this.epoch] += share * now.total
            this.count += share * now.count
        row = 0
        this.step += 1
        if stop == this.n_samples:
            if helpers > 0:
                wait(box_at + _ARRIVED, helpers * (posted + 1), box_at + _STOPPED, -1)
            if this.count != 0.0:  # else no sample had any weight
                losses[this.epoch] = losses[this.epoch] / this.count * this.loss_scale
            this.count = 0.0
            run_part(operations, patches, mine, CHECK, bindings, 0)
            if not (losses[this.epoch] - losses[this.epoch] == 0.0 and now.spread == 0.0):
                this.status = DIVERGED
                break
            run_part(operations, patches, mine, KEEP, bindings, 0)
            if this.ordered == GIVEN:
                bindings[ORDER].address += 4 * this.n_samples
            loss = losses[this.epoch]
            this.waited = this.waited + 1 if loss > this.best - this.tol else 0
            this.best = min(this.best, loss)
            this.epoch += 1
            this.step = 0
            if 0 <= this.patience < this.waited:
                this.status = STALLED
                break
    if helpers > 0:
        wait(box_at + _ARRIVED, helpers * (posted + 1), box_at + _STOPPED, -1)
        box.stopped = 1
    restore(before)


@njit(nogil=True, fastmath={"reassoc"})
def _all_finite(x):
    total = x.dtype.type(0)
    for value in x.flat:
        total += value - value  # zero for every finite number, NaN for the others
    return total == 0


@cached
def train_step(operations, patches, parts, bindings, step, labels, n_out, x, y):
    """One step on all rows of x (n, n_inputs) and y, by the programs of a single worker whose batches are as large.

    y holds class indices (n,), which are copied to labels, int32 (n,); or targets (n, n_out) in the network's dtype.
    Gives a status and the summed loss. 0: it is done; 1: x is not finite; 2: y is no target; 3: the loss or a parameter
    is not finite. If it is not done, nothing has changed.
    """
    now, n = step[0], x.shape[0]
    if not _all_finite(x):
        return 1, 0.0
    if y.ndim == 1:
        for i in range(n):
            label = y[i]
            if label < 0 or label >= n_out:
                return 2, 0.0
            labels[i] = label
        bindings[TARGETS].address = address(labels)
    else:
        if not _all_finite(y):
            return 2, 0.0
        bindings[TARGETS].address = address(y)
    bindings[SAMPLES].address = address(x)
    before = flush_subnormals()
    run_part(operations, patches, parts, KEEP, bindings, 0)
    now.count = n
    now.total = 0.0
    run_part(operations, patches, parts, ADVANCE, bindings, 0)
    run_part(operations, patches, parts, BEFORE, bindings, 0)
    start, block_rows = 0, parts[parts.shape[0] - 1].rows  # the largest
    while start < n:
        rows = min(block_rows, n - start)
        i = BLOCKS
        while parts[i].rows != rows:
            i += 1
        run_part(operations, patches, parts, i, bindings, start)
        start += rows
    run_part(operations, patches, parts, AFTER, bindings, 0)
    run_part(operations, patches, parts, FINISH, bindings, 0)
    run_part(operations, patches, parts, CHECK, bindings, 0)
    restore(before)
    bindings[SAMPLES].address = 0
    bindings[TARGETS].address = 0
    if now.total - now.total == 0.0 and now.spread == 0.0:
        return 0, now.total
    run_part(operations, patches, parts, RESTORE, bindings, 0)
    return 3, now.total


@njit(nogil=True)
def _help(operations, patches, mine, bindings, mailbox, posted):
    box, box_at, again = mailbox[0], address(mailbox), posted > 0
    while True:
        if not again:
            grow(box_at + _ARRIVED)
            posted += 1
        again = False
        answer = wait(box_at + _POSTED, posted, box_at + _STOPPED, RESTS)
        if answer != 0:
            return 0 if answer == 1 else posted
        if box.begins != 0:
            run_part(operations, patches, mine, BEFORE, bindings, box.first)
        i = BLOCKS
        while mine[i].rows != box.rows:
            i += 1
        run_part(operations, patches, mine, i, bindings, box.first + mine[i].first_row)
        if box.ends != 0:
            run_part(operations, patches, mine, AFTER, bindings, box.first)


@cached
def help_train(operations, patches, parts, bindings, mailbox, worker, posted):
    """Another worker's part of `train`, until it is stopped, 0.

    Where no block comes for some milliseconds, it gives how many were posted and the one that it waits for. The caller
    finds out whether worker 0 is still there, and calls again with that number. The first time it is 0.
    """
    before = flush_subnormals()
    posted = _help(operations, patches, parts[worker], bindings, mailbox, posted)
    restore(before)
    return posted


@njit(nogil=True)
def _sweep(operations, patches, parts, bindings, first, stop, block_rows):
    """Run the blocks' programs over the rows from `first` to `stop`."""
    for start in range(first, stop, block_rows):
        i = 0
        while parts[i].rows != min(block_rows, stop - start):
            i += 1
        run_part(operations, patches, parts, i, bindings, start)


@cached
def sweep(operations, patches, parts, bindings, first, stop, block_rows):
    """Run the blocks' programs over the rows from `first` to `stop`, in their order: predict, evaluate, gradients.

    All blocks but the last of the sample set have block_rows rows.
    """
    _sweep(operations, patches, parts, bindings, first, stop, block_rows)


def share(first: int, stop: int, block_rows: int, t: int, threads: int) -> tuple[int, int]:
    """(first, stop) of thread t's share of the rows from `first` to `stop`, whole blocks."""
    blocks = (stop - first + block_rows - 1) // block_rows
    begin, end = blocks * t // threads, blocks * (t + 1) // threads
    return first + begin * block_rows, min(first + end * block_rows, stop)


_share = njit(nogil=True)(share)


@cached(parallel=True)
def sweep_parallel(operations, patches, parts, bindings, first, stop, block_rows):
    """`sweep` on several threads, each with operations (threads, words) and memory of its own, and whole blocks.

    The bits are the same.
    """
    threads = operations.shape[0]
    for t in prange(threads):
        begin, end = _share(first, stop, block_rows, t, threads)
        _sweep(operations[t], patches, parts, bindings, begin, end, block_rows)
