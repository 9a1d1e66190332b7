"""The functions that Python calls as functions of `running.entry`. Numba compiles each for the arrays that it gets.

They run programs (see `program`) over the blocks of a sample set: before each run they write what its symbols stand for
into its operations, as a table of bindings says.
"""

from typing import Any

import numpy as np

from ..programs.memory import STATE as STATE_RECORD
from ..programs.memory import STEP
from ..programs.program import (
    AFFINE,
    BINDING,
    ORDER,
    OUTPUTS,
    PART,
    PATCH,
    RATES,
    REMAINING,
    SAMPLES,
    SYMBOLS,
    TARGETS,
    WEIGHTS,
)
from ..programs.program import STATE as STATE_SYMBOL
from ..programs.records import AS_IS, DRAWN, GIVEN, RUNNING
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
from ..vector.barriers import CLAIMED, MAILBOX
from . import grouping, groups
from .compiler import entry, inline, inner
from .copies import copy_bytes, load_int64, pack_words, renumber, unpack_words, zero_bytes
from .instructions import address, array_at, exchange, flush_subnormals, grow, least, restore, run_part, wait
from .runs import RESTS, ends_epoch, enters, leave, next_place
from .seeding import draw

_STATE_BYTES = STATE_RECORD.itemsize
_STATE_FIELDS: Any = STATE_RECORD.fields
_OPTIMIZER, _NOISE = (_STATE_FIELDS[name][1] for name in ("optimizer", "noise"))  # the number of the optimizer
_OPTIMIZER_BYTES = _NOISE - _OPTIMIZER  # of that number, and of the numbers of its state
_PRESENT, _DONE, _POSTED, _STOPPED = (MAILBOX.fields[name][1] for name in ("present", "done", "posted", "stopped"))


@entry
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
    box, now, this, last = mailbox[0], step[0], run[0], pick.shape[1] - 1
    box_at, programs, helpers, posted = address(mailbox), parts[0], parts.shape[0] - 1, 0
    if helpers > 0:  # wait until all are present, and claim them until they are stopped
        if wait(box_at + _PRESENT, helpers, box_at + _STOPPED, RESTS) != 0:
            return False
        if not exchange(box_at + _PRESENT, helpers, helpers + CLAIMED):
            return False
    before = flush_subnormals()
    row, this.row = this.row, 0
    while max_blocks > 0 and this.epoch < this.epochs:
        first = this.step * this.batch_size
        stop = least(first + this.batch_size, this.n_samples)
        start, whole = first + row, pick[BATCH, least(stop - first, last)]
        if row == 0:
            if this.step == 0 and this.ordered == DRAWN:
                run_part(operations, patches, programs, BEGIN_EPOCH, bindings, 0)
                if this.rows != 0:
                    renumber(bindings[ORDER].address, this.rows, this.n_samples)
            if helpers > 0:
                wait(box_at + _DONE, helpers * posted, box_at + _STOPPED, -1)
            now.count = stop - first
            now.total = 0.0
            run_part(operations, patches, programs, COUNT, bindings, first)
            if now.count != 0.0:
                run_part(operations, patches, programs, ADVANCE, bindings, first)
            else:  # a batch of no weight changes nothing
                start, max_blocks = stop, max_blocks - 1
        while start < stop and max_blocks > 0:
            i = whole if whole > 0 else pick[BLOCK, least(stop - start, last)]
            rows = programs[i].rows
            begins, ends = start == first, start + rows == stop
            if helpers > 0:  # until every helper has done the blocks posted so far
                wait(box_at + _DONE, helpers * posted, box_at + _STOPPED, -1)
                box.first, box.part = start, i
                box.begins, box.ends = begins and whole == 0, ends and whole == 0
                grow(box_at + _POSTED, 1)
                posted += 1
            if begins and whole == 0:
                run_part(operations, patches, programs, BEFORE, bindings, first)
            run_part(operations, patches, programs, i, bindings, start + programs[i].first_row)
            start += rows
            max_blocks -= 1
            if ends:
                if whole == 0:
                    run_part(operations, patches, programs, AFTER, bindings, first)
                if programs[FINISH].operations > 0:
                    if helpers > 0:
                        wait(box_at + _DONE, helpers * posted, box_at + _STOPPED, -1)
                    run_part(operations, patches, programs, FINISH, bindings, first)
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
            run_part(operations, patches, programs, CHECK, bindings, 0)
            if not ends_epoch(this, losses, now.not_finite == 0.0):
                break
            run_part(operations, patches, programs, KEEP, bindings, 0)
            if this.ordered == GIVEN:
                bindings[ORDER].address += 4 * this.n_samples
            if this.status != RUNNING:
                break
    if helpers > 0:
        wait(box_at + _DONE, helpers * posted, box_at + _STOPPED, -1)
        box.stopped = 1
    restore(before)
    return True


_train = inner(train.py_func)  # for compiled functions


# ---- many networks, one after another ----


@inner
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
    run_part(operations, patches, programs, RESTORE, bindings, 0)
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
    bindings[AFFINE].address = memory.affine + memory.affine_stride * i
    here.epoch = this.epoch


@inner
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


@inner
def _unload(slot, task, i):
    """Copy member i from a slot to where all members lie."""
    here, memory = slot[0], task[0]
    n = memory.n_words
    pack_words(memory.vectors + 4 * n * i, here.parameters, memory.words, n)
    for k in range(memory.n_vectors):
        out = memory.optimizer_vectors + memory.optimizer_stride * i + 4 * n * k
        pack_words(out, here.vectors + memory.n_bytes * k, memory.words, n)


@inner
def _blocks_done(this, block_rows):
    """How many blocks of samples a run has done."""
    per_batch = -(-this.batch_size // block_rows)
    whole, rest = this.n_samples // this.batch_size, this.n_samples % this.batch_size
    return (this.epoch * whole + this.step) * per_batch + this.epoch * -(-rest // block_rows) + this.row // block_rows


@entry
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
    worker,
):
    """Train members of a population one after another, each to an epoch, on about so many blocks of samples.

    Several threads may call it at once, each with a slot (a plan's programs and buffers of one thread) and with the
    same mailbox, of zeros: they take members from the queue (m,), int64, of which each shall reach the epoch in `until`
    (n,), int64, by the numbers of members. A thread whose `worker` is above 0 helps. It does nothing where it
    comes too late, or too early, for which it gives True. Worker 0 waits for those that came in time. So nothing is
    written before its call or after it.

    A member that ends its epochs here, or diverges, or is between two epochs when the blocks are used up, lies where
    its memory is, see TASK. One within an epoch stays in the slot, and its epoch goes on in the slot's next call.
    """
    here = slot[0]
    entered = enters(mailbox, worker)
    if entered != 0:
        return entered == 2
    control = flush_subnormals()
    here.entered += 1
    block_rows = task[0].block_rows
    while blocks > 0:
        i = here.resident
        if i < 0:
            k = next_place(mailbox)
            if k >= queue.shape[0]:
                break
            i = queue[k]
            _load(operations, patches, parts[0], bindings, slot, task, places[i], runs[i], i)
        runs[i].epochs = until[i]
        before = _blocks_done(runs[i], block_rows)
        _train(operations, patches, parts, bindings, mailbox, pick, step, runs[i : i + 1], losses[i], blocks)
        done = max(1, _blocks_done(runs[i], block_rows) - before)
        blocks -= done
        here.done += done
        if runs[i].epoch > here.epoch:
            _unload(slot, task, i)
            here.epoch = runs[i].epoch
        within = runs[i].status == RUNNING and runs[i].step + runs[i].row > 0
        here.resident = i if within else -1
    restore(control)
    leave(mailbox, worker)
    return False


@entry
def train_groups(
    operations,
    patches,
    parts,
    bindings,
    mailbox,
    pick,
    step,
    slot,
    lanes,
    sums,
    task,
    places,
    queue,
    until,
    runs,
    losses,
    table,
    state,
    kept_state,
    settings,
    scratch,
    max_steps,
    worker,
):
    """Train members of a population in groups, a network in each lane, each to an epoch; on about so many steps.

    Threads share the queue as in `train_members`, each with a group: slot (1,) is a record GROUP_SLOT, lanes and sums
    are what the lanes hold, see `groups`, table (fields of GROUP, L) int64 and step (8-byte numbers of STEP, L) float64
    are views of what programs know, state and kept_state (8-byte numbers of STATE, L) int64, settings (numbers of
    settings, L) float64.

    A member that ends its epochs here, or diverges, leaves its lane for its memory, see TASK. Of the others, what the
    last finished epoch left is copied there when the call ends; they go on in the lane's next call.
    """
    entered = enters(mailbox, worker)
    if entered != 0:
        return entered == 2
    before = flush_subnormals()
    slot[0].entered += 1
    of_group = operations, patches, parts[0], bindings, pick, step, slot[0], lanes, sums, task[0]
    arrays = table, state, kept_state, settings, scratch
    groups.train_group(of_group, mailbox, places, queue, until, runs, losses, arrays, max_steps)
    restore(before)
    leave(mailbox, worker)
    return False


@entry
def draw_numbers(words, scratch, uniform, last):
    """Fill rows with what a new generator of NumPy gives of each seed, words (n, 4) of 32 bits, the lowest first.

    uniform (n, k), float32: what default_rng(seed).random(k, float32) gives. last (n, m), uint64: what
    integers(2**64, dtype=uint64) gives then. Both are C-ordered. scratch is uint32 (seeding.SCRATCH,).
    """
    draw(words, scratch, uniform, last)


# ---- rows of groups ----


@entry
def encode_words(words, codes, table, found, rows, n, first):
    """Number the different words, in the order in which they come: codes[i] is the number of words[i].

    words, found and rows int64, codes and table int32. found holds the words that have a number, n of them, and rows
    where each came first; words[0] is in row `first`. table, of a power of two, holds the numbers by the words' hashes,
    and -1 where there is none; all must have room. Gives the new n.
    """
    return grouping.encode(words, codes, table, found, rows, n, first)


@entry
def place_rows(codes, following, first, rows):
    """Put row numbers, from `first` on, to their groups: rows, int32, has those of a group side by side, in order.

    codes, int32, are the numbers of groups; following, int64, is where the next row of each goes.
    """
    grouping.place(codes, following, first, rows)


@entry
def standardise_groups(values, edges, out, column, means, deviations, kinds):
    """Subtract from numbers the mean of their group, and divide by its standard deviation; zeros where it has none.

    values, float64, has the numbers of the groups between edges, int64 (groups + 1,); none is empty. They go to a
    column of out (rows, columns). means and deviations, float64, and kinds, int8, get a value for each group: of one
    with a number that is not finite the mean of the others, and no deviation.
    """
    grouping.standardise(values, edges, out, column, means, deviations, kinds)


@entry
def transform_groups(values, edges, out, column, means, factors):
    """Subtract from numbers the mean of their group, and multiply by its factor; zeros where that is zero.

    The arguments are as for `standardise_groups`.
    """
    grouping.transform(values, edges, out, column, means, factors)


@inner(fastmath={"reassoc"})
def _all_finite(x):
    total = x.dtype.type(0)
    for value in x.flat:
        total += value - value  # zero for every finite number, NaN for the others
    return total == 0


@entry
def train_step(operations, patches, parts, pick, bindings, step, n, labels, n_out, x, y):
    """One step on all n rows of x (n, n_inputs) and y, by the programs of a single worker.

    pick gives the part that is due, see `training_programs.pick`.

    y holds class indices (n,), which are copied to labels, int32 (n,); or targets (n, n_out) in the network's dtype,
    and labels is empty. Gives a status. 0: it is done, and step.total is the summed loss; 1: x is not finite; 2: y is
    no target; 3: the loss or a parameter is not finite. If it is not done, nothing has changed.

    Another thread may have set the shapes of x and y, but not their numbers of bytes, since the caller checked them.
    """
    now = step[0]
    if not _all_finite(x):
        return 1
    if (y.ndim == 1) != (labels.shape[0] > 0):
        return 2
    if y.ndim == 1:
        if y.shape[0] != n:
            return 2
        for i in range(n):
            label = y[i]
            if label < 0 or label >= n_out:
                return 2
            labels[i] = label
        bindings[TARGETS].address = address(labels)
    else:
        if not _all_finite(y):
            return 2
        bindings[TARGETS].address = address(y)
    bindings[SAMPLES].address = address(x)
    before = flush_subnormals()
    run_part(operations, patches, parts, KEEP, bindings, 0)
    now.count = n
    now.total = 0.0
    run_part(operations, patches, parts, ADVANCE, bindings, 0)
    last = pick.shape[1] - 1
    whole = pick[BATCH, least(n, last)]
    if whole > 0:
        run_part(operations, patches, parts, whole, bindings, 0)
    else:
        run_part(operations, patches, parts, BEFORE, bindings, 0)
        start = 0
        while start < n:
            i = pick[BLOCK, least(n - start, last)]
            run_part(operations, patches, parts, i, bindings, start)
            start += parts[i].rows
        run_part(operations, patches, parts, AFTER, bindings, 0)
    run_part(operations, patches, parts, FINISH, bindings, 0)
    run_part(operations, patches, parts, CHECK, bindings, 0)
    restore(before)
    bindings[SAMPLES].address = 0
    bindings[TARGETS].address = 0
    if now.total - now.total == 0.0 and now.not_finite == 0.0:
        return 0
    run_part(operations, patches, parts, RESTORE, bindings, 0)
    return 3


@inline
def _bytes_of(x):
    return array_at(address(x), (x.size * x.itemsize,), np.uint8)


@inner
def _same_words(p, q):
    found = 0
    for i in range(p.shape[0]):
        found |= p[i] ^ q[i]
    return found == 0


@inner
def _same_bytes(p, q):
    whole, same = p.shape[0] // 8 * 8, True
    for i in range(whole, p.shape[0]):
        same = same and p[i] == q[i]
    return same and _same_words(p[:whole].view(np.int64), q[:whole].view(np.int64))


@entry
def same_bytes(x, y):
    """Whether two C-ordered arrays of one shape and dtype hold the same bytes."""
    return _same_bytes(_bytes_of(x), _bytes_of(y))


@inner
def _copy(p, q):
    for i in range(p.shape[0]):
        q[i] = p[i]


@inline
def _code_of(tape):
    return (
        array_at(tape[0], (tape[1],), np.int64),
        array_at(tape[2], (tape[3],), PATCH),
        array_at(tape[4], (tape[5],), PART),
        array_at(tape[6], (tape[7], tape[8]), np.int64),
        array_at(tape[9], (4,), np.int64),
        array_at(tape[10], (len(SYMBOLS),), BINDING),
        array_at(tape[11], (1,), STEP),
    )


@inline
def _kept_of(tape):
    return (
        array_at(tape[12], (tape[13],), np.uint8),
        array_at(tape[14], (tape[17],), np.int64),
        array_at(tape[15], (tape[17],), np.int64),
    )


@entry
def forward(tape, first, stop, x, out):
    """The outputs of the rows of x (n, n_inputs) from `first` to `stop`, to those of out (n, n_outputs); see TAPE.

    Where the tape keeps as many bytes, x and the parameters are copied, and the activations are there from now on.
    """
    operations, patches, parts, picks, use, bindings, step = _code_of(tape)
    kept_x, parameters, kept = _kept_of(tape)
    step[0].held = 0
    keeps = kept_x.shape[0] == x.size * x.itemsize
    if keeps:  # before: what another thread changes meanwhile differs from it afterwards
        _copy(_bytes_of(x), kept_x)
        _copy(parameters, kept)
    bindings[SAMPLES].address, bindings[OUTPUTS].address = address(x), address(out)
    bindings[OUTPUTS].row_stride = out.shape[1] * out.itemsize
    if first == 0 and use[3] >= 0:
        run_part(operations, patches, parts, use[3], bindings, 0)
    start, most = first, picks.shape[1] - 1
    while start < stop:
        i = picks[use[0], least(stop - start, most)]
        run_part(operations, patches, parts, i, bindings, start)
        start += parts[i].rows
    bindings[SAMPLES].address = 0
    bindings[OUTPUTS].address = 0
    if keeps:
        step[0].held = stop


@inner
def _back(tape, first, stop, x, d_a, d_x):
    """Add the gradient of the rows to the tape's, by the activations that are there if x and the parameters made them.

    The gradient by the inputs goes to d_x, if there are parts that give it. What is in `kept` stays if it is the same
    as the parameters, else nobody needs it any more.
    """
    operations, patches, parts, picks, use, bindings, step = _code_of(tape)
    kept_x, parameters, kept = _kept_of(tape)
    bindings[SAMPLES].address, bindings[TARGETS].address = address(x), address(d_a)
    bindings[OUTPUTS].address, bindings[OUTPUTS].row_stride = address(d_x), d_x.shape[1] * d_x.itemsize
    there = use[1] >= 0 and first == 0 and step[0].held == stop and kept_x.shape[0] == x.size * x.itemsize
    there = there and _same_bytes(_bytes_of(x), kept_x) and _same_words(parameters, kept)
    if not there:
        step[0].held = 0
        if first == 0:
            _copy(parameters, kept)
            array_at(tape[16], (tape[17],), np.int64)[:] = 0
    start, most = first, picks.shape[1] - 1
    while start < stop:
        i = picks[use[1] if there else use[2], least(stop - start, most)]
        run_part(operations, patches, parts, i, bindings, start)
        start += parts[i].rows
    bindings[SAMPLES].address = 0
    bindings[TARGETS].address = 0
    bindings[OUTPUTS].address = 0


@entry
def backward(tape, first, stop, x, d_a, d_x, gradient, elements, flat):
    """The gradient of the sum of d_a * outputs over the rows from `first` to `stop`, added to that of the rows before.

    By the parameters it goes to `gradient`, of which flat gets the elements when all rows are done; by the inputs to
    d_x, if there are parts that give it. Gives a status: 0: it is done; 1: x is not finite; 2: d_a is not.
    """
    if not _all_finite(x[first:stop]):
        return 1
    if not _all_finite(d_a[first:stop]):
        return 2
    _code_of(tape)[6][0].scale = 1.0
    _back(tape, first, stop, x, d_a, d_x)
    if stop == tape[18]:
        for i in range(flat.shape[0]):
            flat[i] = gradient[elements[i]]
    return 0


@entry
def outside_step(tape, around, first, stop, x, d_a):
    """One step of an optimizer on the gradient of the sum of d_a * outputs over all rows of x; see `backward`.

    Each call adds the rows from `first` to `stop`; the one with the last row takes the step. `around` is the number of
    the first of the programs BEGIN_EPOCH to RESTORE. Gives a status: 0: it is done; 1: x is not finite; 2: d_a is not;
    3: an output or a parameter is not. If the step was not taken, nothing has changed.
    """
    operations, patches, parts, _, _, bindings, step = _code_of(tape)
    now = step[0]
    if not _all_finite(x[first:stop]):
        return 1
    if not _all_finite(d_a[first:stop]):
        return 2
    before = flush_subnormals()
    if first == 0:
        run_part(operations, patches, parts, around + KEEP, bindings, 0)
        now.count = 1.0  # d_a is the gradient of what the step descends, whatever the number of rows is
        now.total = 0.0
        run_part(operations, patches, parts, around + ADVANCE, bindings, 0)
    restore(before)  # else the activations would depend on whether `forward` made them
    _back(tape, first, stop, x, d_a, d_a)
    if stop < tape[18]:
        return 0
    before = flush_subnormals()
    run_part(operations, patches, parts, around + AFTER, bindings, 0)
    run_part(operations, patches, parts, around + FINISH, bindings, 0)
    run_part(operations, patches, parts, around + CHECK, bindings, 0)
    finite = now.total - now.total == 0.0 and now.not_finite == 0.0
    if not finite:
        run_part(operations, patches, parts, around + RESTORE, bindings, 0)
    restore(before)
    return 0 if finite else 3


@entry
def copy_all(parameters, vectors, state, kept_parameters, kept_vectors, kept_state):
    """Copy what a step has made to where it is kept, all of it before an exception can come."""
    _copy(parameters, kept_parameters)
    _copy(vectors, kept_vectors)
    _copy(_bytes_of(state), _bytes_of(kept_state))


@entry
def blend(parameters, others, tau):
    """parameters += tau * (others - parameters)."""
    factor = parameters.dtype.type(tau)
    for i in range(parameters.shape[0]):
        parameters[i] += factor * (others[i] - parameters[i])


@inner
def _is_claimed(box_at):
    """Be present until worker 0 claims this helper (gives 0), stops it (1), or does not come, and it has left (2)."""
    grow(box_at + _PRESENT, 1)
    answer = wait(box_at + _PRESENT, CLAIMED, box_at + _STOPPED, RESTS)
    if answer == 2 and grow(box_at + _PRESENT, -1) >= CLAIMED:
        answer = 0  # claimed meanwhile
    return answer


@inner
def _help(operations, patches, programs, bindings, mailbox):
    box, box_at, posted = mailbox[0], address(mailbox), 0
    while True:
        posted += 1
        if wait(box_at + _POSTED, posted, box_at + _STOPPED, -1) != 0:
            return
        i = box.part
        if box.begins != 0:
            run_part(operations, patches, programs, BEFORE, bindings, box.first)
        run_part(operations, patches, programs, i, bindings, box.first + programs[i].first_row)
        if box.ends != 0:
            run_part(operations, patches, programs, AFTER, bindings, box.first)
        grow(box_at + _DONE, 1)


@entry
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


@inner
def _sweep(operations, patches, parts, pick, bindings, first, stop):
    """Run the programs of blocks over the rows from `first` to `stop`."""
    start, most = first, pick.shape[0] - 1
    while start < stop:
        i = pick[least(stop - start, most)]
        run_part(operations, patches, parts, i, bindings, start)
        start += parts[i].rows


@entry
def sweep(operations, patches, parts, pick, bindings, first, stop):
    """Run the programs of blocks over the rows from `first` to `stop`, in their order: predict, evaluate, gradients.

    pick[n], int64, is the number of the part that is due where n rows are left; its last element is for all larger n.
    """
    _sweep(operations, patches, parts, pick, bindings, first, stop)


@entry
def sweep_members(
    operations,
    patches,
    parts,
    pick,
    bindings,
    step,
    mailbox,
    slot,
    task,
    places,
    queue,
    counts,
    losses,
    scratch,
    worker,
):
    """Run the programs of blocks over the samples of each member of a population: evaluate, predict, gradients.

    Threads take members from the queue, as in `train_members`. Member queue[k] has its samples at places[k]; its loss,
    the sum divided by counts[k], float64, is losses[k]; its outputs go to where places[k] says, or to scratch. Where
    the slot has a gradient, the programs add to it, and places[k] says where that of the member goes.
    """
    here, memory, now = slot[0], task[0], step[0]
    entered = enters(mailbox, worker)
    if entered != 0:
        return entered == 2
    k = next_place(mailbox)
    while k < queue.shape[0]:
        n = memory.n_words
        unpack_words(here.parameters, memory.words, memory.vectors + 4 * n * queue[k], n)
        _bind_samples(bindings, memory, places[k], False)
        bindings[AFFINE].address = memory.affine + memory.affine_stride * queue[k]
        bindings[OUTPUTS].address = places[k].outputs
        bindings[OUTPUTS].row_stride = memory.output_stride
        if places[k].outputs == 0:
            bindings[OUTPUTS].address = address(scratch)
        now.scale = 1.0 / counts[k]
        now.total = 0.0
        if here.gradient != 0:
            zero_bytes(here.gradient, memory.n_bytes)
        _sweep(operations, patches, parts, pick, bindings, 0, places[k].n)
        if here.gradient != 0:
            pack_words(places[k].gradient, here.gradient, memory.words, n)
        losses[k] = now.total / counts[k]
        k = next_place(mailbox)
    leave(mailbox, worker)
    return False
