"""Every function that Python calls. Only these are compiled by Numba, and cached.

They run programs (see `program`) over the blocks of a sample set: before each run they write what its symbols stand for
into its operations, as a table of bindings says.
"""

from typing import Any

import numpy as np
from numba import njit, prange

from ..programs.memory import STATE as STATE_RECORD
from ..programs.program import (
    ORDER,
    OUTPUTS,
    RATES,
    REMAINING,
    SAMPLES,
    TARGETS,
    WEIGHTS,
)
from ..programs.program import STATE as STATE_SYMBOL
from ..programs.training_programs import (
    ADVANCE,
    AFTER,
    BATCH,
    BEFORE,
    BEGIN_EPOCH,
    BLOCK,
    CHECK,
    COUNT,
    FINISH,
    KEEP,
    RESTORE,
)
from ..vector.barriers import CLAIMED, MAILBOX, exchange, grow, wait
from ..vector.cache import cached
from .copies import copy_bytes, load_int64, pack_words, renumber, unpack_words, zero_bytes
from .interpreter import address, flush_subnormals, restore, run_part
from .seeding import draw

AS_IS, DRAWN, GIVEN = range(3)  # the orders of samples
RESTS = 1_000  # how often a thread that waits for others to come offers its CPU, until the caller looks at the clock
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
# of them; 0 where they are the first n. `rates` is the address of the learning rate at position 0, where it changes.
PLACE = np.dtype([(name, "i8") for name in ("inputs", "targets", "weights", "rows", "n", "rates")])
# What members of a population that are trained by one kind of fit have in common: addresses, and bytes between members.
# Parameters and each of the optimizer's vectors are n_words words of 4 bytes, unpadded; word i of one lies at words[i],
# int64, of a padded vector of n_bytes. `start` is a record STATE: the number of this fit's optimizer, and its numbers.
TASK = np.dtype(
    [
        *((name, "i8") for name in ("words", "n_words", "n_bytes", "n_vectors", "block_rows")),
        *((name, "i8") for name in ("vectors", "optimizer_vectors", "optimizer_stride", "states", "start")),
        *((name, "i8") for name in ("settings", "settings_stride", "settings_bytes", "order")),
        *((name, "i8") for name in ("input_stride", "target_stride", "weight_stride")),  # bytes between samples
        *((name, "i8") for name in ("outputs", "outputs_stride", "output_stride")),  # bytes between members, samples
    ]
)
# The memory in which a thread trains members, by addresses: the padded vectors that the last finished epoch left, the
# live ones that programs change, a buffer for an order. `resident` is the member within an epoch, -1 if there is none;
# `epoch` is how many epochs of it lie where all members do; `entered` counts calls, and `done` blocks of samples.
SLOT = np.dtype(
    [
        *((name, "i8") for name in ("worker", "resident", "epoch", "entered", "done")),
        *((name, "i8") for name in ("parameters", "vectors", "live_vectors", "live_state", "settings", "order")),
    ]
)
_STATE_BYTES = STATE_RECORD.itemsize
_STATE_FIELDS: Any = STATE_RECORD.fields
_OPTIMIZER, _NOISE = (_STATE_FIELDS[name][1] for name in ("optimizer", "noise"))  # the number of the optimizer
_OPTIMIZER_BYTES = _NOISE - _OPTIMIZER  # of that number, and of the numbers of its state
_PRESENT, _DONE, _POSTED, _STOPPED = (MAILBOX.fields[name][1] for name in ("present", "done", "posted", "stopped"))
_OPEN = MAILBOX.fields["begins"][1]  # whether worker 0 of a call on members has come


@njit(nogil=True)
def _claim(box_at, helpers):
    """Wait until all helpers are present, and claim them until they are stopped; gives whether they came."""
    if wait(box_at + _PRESENT, helpers, box_at + _STOPPED, RESTS) != 0:
        return False
    return exchange(box_at + _PRESENT, helpers, helpers + CLAIMED)


@njit(nogil=True)
def _train(operations, patches, parts, bindings, mailbox, pick, step, this, losses, max_blocks, network):
    """What `train` does, for one of the networks that the bindings know; `this` is its record RUN."""
    box, now, last = mailbox[0], step[0], pick.shape[1] - 1
    box_at, programs, helpers, posted = address(mailbox), parts[0], parts.shape[0] - 1, 0
    if helpers > 0 and not _claim(box_at, helpers):
        return False
    row, this.row = this.row, 0
    while max_blocks > 0 and this.epoch < this.epochs:
        first = this.step * this.batch_size
        stop = min(first + this.batch_size, this.n_samples)
        start, whole = first + row, pick[BATCH, min(stop - first, last)]
        if row == 0:
            if this.step == 0 and this.ordered == DRAWN:
                run_part(operations, patches, programs, BEGIN_EPOCH, bindings, 0, network)
                if this.rows != 0:
                    renumber(bindings[ORDER].address, this.rows, this.n_samples)
            if helpers > 0:
                wait(box_at + _DONE, helpers * posted, box_at + _STOPPED, -1)
            now.count = stop - first
            now.total = 0.0
            run_part(operations, patches, programs, COUNT, bindings, first, network)
            if now.count != 0.0:
                run_part(operations, patches, programs, ADVANCE, bindings, first, network)
            else:  # a batch of no weight changes nothing
                start, max_blocks = stop, max_blocks - 1
        while start < stop and max_blocks > 0:
            i = whole if whole > 0 else pick[BLOCK, min(stop - start, last)]
            rows = programs[i].rows
            begins, ends = start == first, start + rows == stop
            if helpers > 0:  # until every helper has done the blocks posted so far
                wait(box_at + _DONE, helpers * posted, box_at + _STOPPED, -1)
                box.first, box.part = start, i
                box.begins, box.ends = begins and whole == 0, ends and whole == 0
                grow(box_at + _POSTED, 1)
                posted += 1
            if begins and whole == 0:
                run_part(operations, patches, programs, BEFORE, bindings, first, network)
            run_part(operations, patches, programs, i, bindings, start + programs[i].first_row, network)
            start += rows
            max_blocks -= 1
            if ends:
                if whole == 0:
                    run_part(operations, patches, programs, AFTER, bindings, first, network)
                if programs[FINISH].operations > 0:
                    if helpers > 0:
                        wait(box_at + _DONE, helpers * posted, box_at + _STOPPED, -1)
                    run_part(operations, patches, programs, FINISH, bindings, first, network)
        if start < stop:
            this.row = start - first
            break
        if now.count != 0.0:  # a batch counts by its weight, or by its number of samples
            factor = (stop - first) / now.count if this.batch_means else 1.0
            losses[this.epoch] += factor * now.total
            this.count += factor * now.count
        row, this.step = 0, this.step + 1
        if stop == this.n_samples:
            if helpers > 0:
                wait(box_at + _DONE, helpers * posted, box_at + _STOPPED, -1)
            if not _end_epoch(operations, patches, programs, bindings, step, this, losses, network):
                break
    if helpers > 0:
        wait(box_at + _DONE, helpers * posted, box_at + _STOPPED, -1)
        box.stopped = 1
    return True


@njit(nogil=True)
def _end_epoch(operations, patches, programs, bindings, step, this, losses, network):
    """Check and keep what an epoch left; gives whether training goes on."""
    if this.count != 0.0:  # else no sample had any weight
        losses[this.epoch] = losses[this.epoch] / this.count * this.loss_scale
    this.count = 0.0
    loss = losses[this.epoch]
    run_part(operations, patches, programs, CHECK, bindings, 0, network)
    if not (loss - loss == 0.0 and step[0].not_finite == 0.0):
        this.status = DIVERGED
        return False
    run_part(operations, patches, programs, KEEP, bindings, 0, network)
    if this.ordered == GIVEN:
        bindings[ORDER].address += 4 * this.n_samples
    this.waited = this.waited + 1 if loss > this.best - this.tol else 0
    this.best = min(this.best, loss)
    this.epoch += 1
    this.step = 0
    if 0 <= this.patience < this.waited:
        this.status = STALLED
    return this.status == RUNNING


@cached
def train(operations, patches, parts, bindings, mailbox, pick, step, run, losses, max_blocks):
    """Train on at most `max_blocks` blocks of samples, going on from where `run` says; a batch has one or several.

    operations, patches and parts (threads, n) are a `program.Code` of `training_programs.Training.programs`. This is
    worker 0; the others run `help_train` meanwhile, and it stops them. pick gives the part that is due, see BATCH.
    bindings (n,), mailbox (1,), step (1,) and run (1,) are records. Each call of several threads takes a new mailbox,
    of zeros. Gives False where not all of the others have come for some time. Then nothing has been done, and the
    caller may try again with them, or without.

    losses[epoch], float64, sums the batches' losses. When the epoch ends it becomes their (weighted) mean, or with
    `batch_means` the mean of the batches' means, each by its number of samples. An epoch that ends with a loss or a
    parameter that is not finite sets the status to DIVERGED and leaves what was kept.
    """
    before = flush_subnormals()
    done = _train(operations, patches, parts, bindings, mailbox, pick, step, run[0], losses, max_blocks, 0)
    restore(before)
    return done


# ---- many networks, one after another ----


@njit(nogil=True)
def _load(operations, patches, programs, bindings, slot, task, place, this, i):
    """Make a slot hold member i, as its last finished epoch left it; by a fresh optimizer unless this one trained."""
    here, memory = slot[0], task[0]
    n, n_bytes = memory.n_words, memory.n_bytes
    unpack_words(here.parameters, memory.words, memory.vectors + 4 * n * i, n)
    for k in range(memory.n_vectors):
        vector = memory.optimizer_vectors + memory.optimizer_stride * i + 4 * n * k
        unpack_words(here.vectors + n_bytes * k, memory.words, vector, n)
    copy_bytes(here.settings, memory.settings + memory.settings_stride * i, memory.settings_bytes)
    state = memory.states + _STATE_BYTES * i
    bindings[STATE_SYMBOL].address = state
    run_part(operations, patches, programs, RESTORE, bindings, 0, 0)
    if load_int64(state + _OPTIMIZER) != load_int64(memory.start + _OPTIMIZER):
        zero_bytes(here.live_vectors, memory.n_vectors * n_bytes)
        copy_bytes(here.live_state + _OPTIMIZER, memory.start + _OPTIMIZER, _OPTIMIZER_BYTES)
    _bind_samples(bindings, memory, place, this.ordered != AS_IS)
    if this.ordered == DRAWN:
        bindings[ORDER].address = here.order
    elif this.ordered == GIVEN:
        bindings[ORDER].address = memory.order + 4 * this.n_samples * this.epoch
    this.rows = place.rows
    bindings[RATES].address = place.rates
    here.epoch = this.epoch


@njit(nogil=True)
def _bind_samples(bindings, memory, place, ordered):
    """Enter where a member's samples lie; `ordered` says that an order follows, else they come as its rows say."""
    ordered = ordered or place.rows != 0
    for symbol, start, stride in (
        (SAMPLES, place.inputs, memory.input_stride),
        (TARGETS, place.targets, memory.target_stride),
        (WEIGHTS, place.weights, memory.weight_stride),
    ):
        bindings[symbol].address = start
        bindings[symbol].row_stride = 0 if ordered else stride
    bindings[ORDER].address = place.rows
    bindings[ORDER].row_stride = 4 if ordered else 0
    bindings[REMAINING].address = place.n if ordered else 0
    bindings[REMAINING].row_stride = -1 if ordered else 0


@njit(nogil=True)
def _unload(slot, task, i):
    """Copy member i from a slot to where all members lie."""
    here, memory = slot[0], task[0]
    n = memory.n_words
    pack_words(memory.vectors + 4 * n * i, here.parameters, memory.words, n)
    for k in range(memory.n_vectors):
        out = memory.optimizer_vectors + memory.optimizer_stride * i + 4 * n * k
        pack_words(out, here.vectors + memory.n_bytes * k, memory.words, n)


@njit(nogil=True)
def _blocks_done(this, block_rows):
    """How many blocks of samples a run has done."""
    per_batch = -(-this.batch_size // block_rows)
    whole, rest = this.n_samples // this.batch_size, this.n_samples % this.batch_size
    return (this.epoch * whole + this.step) * per_batch + this.epoch * -(-rest // block_rows) + this.row // block_rows


@njit(nogil=True)
def _next_place(mailbox):
    """The next place of a queue, of which each thread gets another one."""
    return grow(address(mailbox) + _POSTED, 1)


@njit(nogil=True)
def _enters(mailbox, worker):
    """Whether a thread takes part in a call (gives 0), or comes too late (1), or worker 0 has not come so far (2)."""
    box_at = address(mailbox)
    if worker == 0:
        exchange(box_at + _OPEN, 0, 1)
        return 0
    if wait(box_at + _OPEN, 1, box_at + _STOPPED, RESTS) != 0:
        return 2
    return 0 if grow(box_at + _PRESENT, 1) < CLAIMED else 1


@njit(nogil=True)
def _leave(mailbox, worker):
    """End a thread's part of a call. Worker 0 lets nobody in any more, and waits for those who are in it."""
    box_at = address(mailbox)
    if worker > 0:
        grow(box_at + _DONE, 1)
    else:
        wait(box_at + _DONE, grow(box_at + _PRESENT, CLAIMED), box_at + _STOPPED, -1)


@cached
def train_members(
    operations,
    patches,
    parts,
    bindings,
    mailbox,
    pick,
    step,
    slot,
    task,
    places,
    queue,
    until,
    runs,
    losses,
    blocks,
):
    """Train members of a population one after another, each to an epoch, on about so many blocks of samples.

    Several threads may call it at once, each with a slot (a plan's programs and buffers of one thread) and with the
    same mailbox, of zeros: they take members from the queue (m,), int64, of which each shall reach the epoch in `until`
    (n,), int64, by the numbers of members. A thread whose slot[0].worker is above 0 helps. It does nothing where it
    comes too late, or too early, for which it gives True. Worker 0 waits for those that came in time. So nothing is
    written before its call or after it.

    A member that ends its epochs here, or diverges, or is between two epochs when the blocks are used up, lies where
    its memory is, see TASK. One within an epoch stays in the slot, and its epoch goes on in the slot's next call.
    """
    here = slot[0]
    entered = _enters(mailbox, here.worker)
    if entered != 0:
        return entered == 2
    control = flush_subnormals()
    here.entered += 1
    block_rows = task[0].block_rows
    while blocks > 0:
        i = here.resident
        if i < 0:
            k = _next_place(mailbox)
            if k >= queue.shape[0]:
                break
            i = queue[k]
            _load(operations, patches, parts[0], bindings, slot, task, places[i], runs[i], i)
        runs[i].epochs = until[i]
        before = _blocks_done(runs[i], block_rows)
        _train(operations, patches, parts, bindings, mailbox, pick, step, runs[i], losses[i], blocks, 0)
        done = max(1, _blocks_done(runs[i], block_rows) - before)
        blocks -= done
        here.done += done
        if runs[i].epoch > here.epoch:
            _unload(slot, task, i)
            here.epoch = runs[i].epoch
        within = runs[i].status == RUNNING and runs[i].step + runs[i].row > 0
        here.resident = i if within else -1
    restore(control)
    _leave(mailbox, here.worker)
    return False


@cached
def draw_numbers(words, uniform, last):
    """Fill rows with what a new generator of NumPy gives of each seed, words (n, 4) of 32 bits, the lowest first.

    uniform (n, k), float32: what default_rng(seed).random(k, float32) gives. last (n, m), uint64: what
    integers(2**64, dtype=uint64) gives then. Both are C-ordered.
    """
    draw(words, uniform, last)


@njit(nogil=True, fastmath={"reassoc"})
def _all_finite(x):
    total = x.dtype.type(0)
    for value in x.flat:
        total += value - value  # zero for every finite number, NaN for the others
    return total == 0


@cached
def train_step(operations, patches, parts, pick, bindings, step, n, labels, n_out, x, y):
    """One step on all n rows of x (n, n_inputs) and y, by the programs of a single worker.

    pick gives the part that is due, see `training_programs.pick`.

    y holds class indices (n,), which are copied to labels, int32 (n,); or targets (n, n_out) in the network's dtype,
    and labels is empty. Gives a status and the summed loss. 0: it is done; 1: x is not finite; 2: y is no target; 3:
    the loss or a parameter is not finite. If it is not done, nothing has changed.

    Another thread may have set the shapes of x and y, but not their numbers of bytes, since the caller checked them.
    """
    now = step[0]
    if not _all_finite(x):
        return 1, 0.0
    if (y.ndim == 1) != (labels.shape[0] > 0):
        return 2, 0.0
    if y.ndim == 1:
        if y.shape[0] != n:
            return 2, 0.0
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
    run_part(operations, patches, parts, KEEP, bindings, 0, 0)
    now.count = n
    now.total = 0.0
    run_part(operations, patches, parts, ADVANCE, bindings, 0, 0)
    last = pick.shape[1] - 1
    whole = pick[BATCH, min(n, last)]
    if whole > 0:
        run_part(operations, patches, parts, whole, bindings, 0, 0)
    else:
        run_part(operations, patches, parts, BEFORE, bindings, 0, 0)
        start = 0
        while start < n:
            i = pick[BLOCK, min(n - start, last)]
            run_part(operations, patches, parts, i, bindings, start, 0)
            start += parts[i].rows
        run_part(operations, patches, parts, AFTER, bindings, 0, 0)
    run_part(operations, patches, parts, FINISH, bindings, 0, 0)
    run_part(operations, patches, parts, CHECK, bindings, 0, 0)
    restore(before)
    bindings[SAMPLES].address = 0
    bindings[TARGETS].address = 0
    if now.total - now.total == 0.0 and now.not_finite == 0.0:
        return 0, now.total
    run_part(operations, patches, parts, RESTORE, bindings, 0, 0)
    return 3, now.total


@njit(nogil=True)
def _is_claimed(box_at):
    """Be present until worker 0 claims this helper (gives 0), stops it (1), or does not come, and it has left (2)."""
    grow(box_at + _PRESENT, 1)
    answer = wait(box_at + _PRESENT, CLAIMED, box_at + _STOPPED, RESTS)
    if answer == 2 and grow(box_at + _PRESENT, -1) >= CLAIMED:
        answer = 0  # claimed meanwhile
    return answer


@njit(nogil=True)
def _help(operations, patches, programs, bindings, mailbox):
    box, box_at, posted = mailbox[0], address(mailbox), 0
    while True:
        posted += 1
        if wait(box_at + _POSTED, posted, box_at + _STOPPED, -1) != 0:
            return
        i = box.part
        if box.begins != 0:
            run_part(operations, patches, programs, BEFORE, bindings, box.first, 0)
        run_part(operations, patches, programs, i, bindings, box.first + programs[i].first_row, 0)
        if box.ends != 0:
            run_part(operations, patches, programs, AFTER, bindings, box.first, 0)
        grow(box_at + _DONE, 1)


@cached
def help_train(operations, patches, parts, bindings, mailbox, worker):
    """What another worker does for `train`, until it is stopped. Gives whether worker 0 did not claim it for some time.

    Then it has done nothing and has left: the caller finds out whether worker 0 is still there, and calls again. A
    worker that is claimed reads and writes only the plan's memory, until worker 0 has waited for its last block.
    """
    before = flush_subnormals()
    claimed = _is_claimed(address(mailbox))
    if claimed == 0:
        _help(operations, patches, parts[worker], bindings, mailbox)
    restore(before)
    return claimed == 2


@njit(nogil=True)
def _sweep(operations, patches, parts, pick, bindings, first, stop):
    """Run the programs of blocks over the rows from `first` to `stop`."""
    start, most = first, pick.shape[0] - 1
    while start < stop:
        i = pick[min(stop - start, most)]
        run_part(operations, patches, parts, i, bindings, start, 0)
        start += parts[i].rows


@cached
def sweep(operations, patches, parts, pick, bindings, first, stop):
    """Run the programs of blocks over the rows from `first` to `stop`, in their order: predict, evaluate, gradients.

    pick[n], int64, is the number of the part that is due where n rows are left; its last element is for all larger n.
    """
    _sweep(operations, patches, parts, pick, bindings, first, stop)


@cached
def sweep_members(
    operations, patches, parts, pick, bindings, step, mailbox, slot, task, places, queue, counts, losses, scratch
):
    """Run the programs of blocks over the samples of each member of a population: evaluate or predict.

    Threads take members from the queue, as in `train_members`. Member queue[k] has its samples at places[k]; its loss,
    the sum divided by counts[k], float64, is losses[k]; outputs lie as TASK says. Where that says no place they are
    written to the slot's own.
    """
    here, memory, now = slot[0], task[0], step[0]
    entered = _enters(mailbox, here.worker)
    if entered != 0:
        return entered == 2
    before = flush_subnormals()
    k = _next_place(mailbox)
    while k < queue.shape[0]:
        n = memory.n_words
        unpack_words(here.parameters, memory.words, memory.vectors + 4 * n * queue[k], n)
        _bind_samples(bindings, memory, places[k], False)
        bindings[OUTPUTS].address = memory.outputs + memory.outputs_stride * k
        bindings[OUTPUTS].row_stride = memory.output_stride
        if memory.outputs == 0:
            bindings[OUTPUTS].address = address(scratch)
        now.scale = 1.0 / counts[k]
        now.total = 0.0
        _sweep(operations, patches, parts, pick, bindings, 0, places[k].n)
        losses[k] = now.total / counts[k]
        k = _next_place(mailbox)
    restore(before)
    _leave(mailbox, here.worker)
    return False


def shard(first: int, stop: int, t: int, threads: int) -> tuple[int, int]:
    """(first, stop) of thread t's shard of the rows from `first` to `stop`: sixteens, the last shard with the rest."""
    sixteens = (stop - first) // 16
    begin, end = sixteens * t // threads * 16, sixteens * (t + 1) // threads * 16
    return first + begin, stop if t == threads - 1 else first + end


_shard = njit(nogil=True)(shard)


@cached(parallel=True)
def sweep_parallel(operations, patches, parts, pick, bindings, first, stop):
    """`sweep` on several threads, with the same bits. There must be 16 rows for each thread.

    operations (threads, words): each thread has other operations, which use other memory.
    """
    threads = operations.shape[0]
    for t in prange(threads):
        begin, end = _shard(first, stop, t, threads)
        _sweep(operations[t], patches, parts, pick, bindings, begin, end)
