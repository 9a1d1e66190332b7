"""Training of members of a population in groups: each lane of the vector holds a network.

A lane takes the next member when its own has ended, and each is at its own place in its epochs. No number of a member
depends on what other lanes hold.
"""

from typing import Any

import numpy as np
from numba import njit

from ..formulas.update_rules import POSITIONS
from ..programs.memory import GROUP, STATE, STEP
from ..programs.training_programs import ADVANCE, BATCH, BEGIN_EPOCH, CHECK, COUNT, FINISH, KEEP
from .copies import clear_words, copy_word, load_float64, load_int64, pack_words, renumber, store_int64, unpack_words
from .interpreter import run_part
from .runs import AS_IS, DRAWN, GIVEN, RUNNING, ends_epoch, next_member

SAMPLES, TARGETS, WEIGHTS, ORDER, LAST, POSITION, ORDERS, ROWS, DUE = range(len(GROUP.names or ()))
_STEP_FIELDS: Any = STEP.fields
_STATE_FIELDS: Any = STATE.fields
_TOTAL, _COUNT, _NOT_FINITE = (_STEP_FIELDS[name][1] // 8 for name in ("total", "count", "not_finite"))
_OPTIMIZER, _NUMBERS, _NOISE = (_STATE_FIELDS[name][1] // 8 for name in ("optimizer", "numbers", "noise"))
_STATE_BYTES = STATE.itemsize
_COUNTS = 0  # the row of a group's scratch memory with each batch's count; the rows behind it are for a STATE
_STEPS, _EPOCHS = (_NUMBERS + POSITIONS[name] for name in ("step", "epoch"))

# What a lane holds: a member, -1 for none; and the epoch of it that lies outside of the lane.
LANE = np.dtype([(name, "i8") for name in ("member", "epoch")])
# A group of networks: the memory of the vectors that programs change and of those that the last finished epochs left,
# by addresses, with the bytes of a vector and of a network's number; whether the learning rate changes with each step
# (1) or epoch (2); whether all members have as many rows, so that all lanes are at the same place of their epochs; and
# a copy of a lane's vectors.
GROUP_SLOT = np.dtype(
    [
        *((name, "i8") for name in ("worker", "entered", "live", "kept", "n_bytes", "itemsize")),
        *((name, "i8") for name in ("rate_per", "in_step", "copy")),
    ]
)


@njit(nogil=True)
def _load_vectors(memory, lane, here, task, i, fresh):
    """Write a member's vectors to a lane of a group's memory."""
    n, out = task.n_words, memory + lane * here.itemsize
    unpack_words(out, task.words, task.vectors + 4 * n * i, n)
    for k in range(task.n_vectors):
        out += here.n_bytes
        if fresh:
            clear_words(out, task.words, n)
        else:
            unpack_words(out, task.words, task.optimizer_vectors + task.optimizer_stride * i + 4 * n * k, n)


@njit(nogil=True)
def _store_vectors(memory, lane, here, task, i):
    """Write what a lane of a group's memory holds to a member's vectors."""
    n, source = task.n_words, memory + lane * here.itemsize
    pack_words(task.vectors + 4 * n * i, source, task.words, n)
    for k in range(task.n_vectors):
        source += here.n_bytes
        pack_words(task.optimizer_vectors + task.optimizer_stride * i + 4 * n * k, source, task.words, n)


@njit(nogil=True)
def _load(lane, here, lanes, task, i, run, table, state, kept_state, settings):
    """Make a lane hold member i, as its last finished epoch left it; by a fresh optimizer unless this one trained."""
    of_member = task.states + _STATE_BYTES * i
    fresh = load_int64(of_member + 8 * _OPTIMIZER) != load_int64(task.start + 8 * _OPTIMIZER)
    _load_vectors(here.live, lane, here, task, i, fresh)
    _load_vectors(here.kept, lane, here, task, i, fresh)
    for k in range(state.shape[0]):
        source = task.start if fresh and _OPTIMIZER <= k < _NOISE else of_member
        state[k, lane] = load_int64(source + 8 * k)
        kept_state[k, lane] = state[k, lane]
    for k in range(settings.shape[0]):
        settings[k, lane] = load_float64(task.settings + task.settings_stride * i + 8 * k)
    table[ROWS, lane] = run.n_samples
    lanes[lane].member, lanes[lane].epoch = i, run.epoch


@njit(nogil=True)
def _unload(lane, here, lanes, task, run, kept_state):
    """Copy what a lane's last finished epoch left to where all members lie, unless that is there."""
    i = lanes[lane].member
    if run.epoch > lanes[lane].epoch:
        _store_vectors(here.kept, lane, here, task, i)
        for k in range(kept_state.shape[0]):
            store_int64(task.states + _STATE_BYTES * i + 8 * k, kept_state[k, lane])
        lanes[lane].epoch = run.epoch


@njit(nogil=True)
def _fill(of_group, mailbox, places, queue, runs, arrays):
    """Give each lane that holds nothing the next member of the queue; gives how many lanes hold one."""
    here, lanes, task = of_group[6:]
    table, state, kept_state, settings, _ = arrays
    held = between = 0
    for lane in range(lanes.shape[0]):
        i = lanes[lane].member
        held += i >= 0
        between += i >= 0 and runs[i].step > 0
    if here.in_step != 0 and between > 0:  # a lane that began now would be at another place of its epoch
        return held
    for lane in range(lanes.shape[0]):
        if lanes[lane].member >= 0:
            continue
        k = next_member(mailbox)
        if k >= queue.shape[0]:
            break
        i = queue[k]
        _load(lane, here, lanes, task, i, runs[i], table, state, kept_state, settings)
        if held == 0:  # lanes without a member compute too, on the first row of another's
            for other in range(lanes.shape[0]):
                if lanes[other].member < 0:
                    table[SAMPLES, other], table[TARGETS, other] = places[i].inputs, places[i].targets
                    table[WEIGHTS, other] = places[i].weights
                    table[ORDER, other] = table[LAST, other] = table[POSITION, other] = 0
        held += 1
    return held


@njit(nogil=True)
def _point(lane, task, place, run, table):
    """Write where a lane's next batch lies."""
    first = run.step * run.batch_size
    skip = 0 if run.ordered != AS_IS or place.rows != 0 else first
    table[SAMPLES, lane] = place.inputs + skip * task.input_stride
    table[TARGETS, lane] = place.targets + skip * task.target_stride
    table[WEIGHTS, lane] = place.weights + skip * task.weight_stride if place.weights != 0 else 0
    table[ORDER, lane] = 0
    if run.ordered == DRAWN:
        table[ORDER, lane] = table[ORDERS, lane] + 4 * first
    elif run.ordered == GIVEN:
        table[ORDER, lane] = task.order + 4 * (run.n_samples * run.epoch + first)
    elif place.rows != 0:
        table[ORDER, lane] = place.rows + 4 * first
    table[POSITION, lane] = first
    table[LAST, lane] = min(run.batch_size, run.n_samples - first) - 1


@njit(nogil=True)
def _begin_epochs(of_group, places, runs, arrays):
    """Draw the orders of the lanes whose epoch begins."""
    operations, patches, programs, bindings, _, _, _, lanes, _ = of_group
    table, begins = arrays[0], 0
    for lane in range(lanes.shape[0]):
        i = lanes[lane].member
        due = i >= 0 and runs[i].step == 0 and runs[i].ordered == DRAWN
        table[DUE, lane] = due
        begins += due
    if begins == 0:
        return
    run_part(operations, patches, programs, BEGIN_EPOCH, bindings, 0, 0)
    for lane in range(lanes.shape[0]):
        if table[DUE, lane] != 0:
            place = places[lanes[lane].member]
            if place.rows != 0:
                renumber(table[ORDERS, lane], place.rows, place.n)


@njit(nogil=True)
def _point_lanes(of_group, places, runs, arrays):
    """Write where the next batches of all lanes lie, and their numbers of samples; gives the largest of these."""
    now, _, lanes, task = of_group[5:]
    table, rows = arrays[0], 1
    for lane in range(lanes.shape[0]):
        i = lanes[lane].member
        now[_TOTAL, lane] = 0.0
        if i >= 0:
            _point(lane, task, places[i], runs[i], table)
        now[_COUNT, lane] = table[LAST, lane] + 1
        rows = max(rows, table[LAST, lane] + 1)
    return rows


@njit(nogil=True)
def _counted(of_group, places, arrays):
    """Keep how many samples the batch of each lane counts, and take its learning rate; gives how many count none."""
    now, here, lanes, _ = of_group[5:]
    _, state, _, settings, scratch = arrays
    numbers, weightless = state.view(np.float64), 0
    for lane in range(lanes.shape[0]):
        i = lanes[lane].member
        scratch[_COUNTS, lane] = now[_COUNT, lane]
        if now[_COUNT, lane] == 0.0:
            now[_COUNT, lane] = 1.0
            weightless += i >= 0
        elif i >= 0 and here.rate_per != 0:
            position = numbers[_STEPS if here.rate_per == 1 else _EPOCHS, lane]
            settings[0, lane] = load_float64(places[i].rates + 8 * np.int64(position))
            numbers[_STEPS, lane] += 1.0
    return weightless


@njit(nogil=True)
def _step(of_group, places, runs, losses, arrays):
    """One step of training of all lanes; gives whether an epoch has ended."""
    operations, patches, programs, bindings, pick, now, here, lanes, task = of_group
    table, state, _, _, scratch = arrays
    rows = _point_lanes(of_group, places, runs, arrays)
    run_part(operations, patches, programs, COUNT, bindings, 0, 0)
    weightless = _counted(of_group, places, arrays)
    if weightless > 0:  # a batch of no weight changes nothing
        scratch[_COUNTS + 1 :] = state.view(np.float64)
        _copy_lanes(here.copy, here.live, here, task, scratch[_COUNTS])
    run_part(operations, patches, programs, ADVANCE, bindings, 0, 0)
    run_part(operations, patches, programs, pick[BATCH, min(rows, pick.shape[1] - 1)], bindings, 0, 0)
    run_part(operations, patches, programs, FINISH, bindings, 0, 0)
    if weightless > 0:
        _copy_lanes(here.live, here.copy, here, task, scratch[_COUNTS])
        for lane in range(lanes.shape[0]):
            if scratch[_COUNTS, lane] == 0.0:
                state.view(np.float64)[:, lane] = scratch[_COUNTS + 1 :, lane]
    ended = False
    for lane in range(lanes.shape[0]):
        i, count = lanes[lane].member, scratch[_COUNTS, lane]
        if i < 0:
            continue
        if count != 0.0:
            factor = (table[LAST, lane] + 1) / count if runs[i].batch_means else 1.0
            losses[i, runs[i].epoch] += factor * now[_TOTAL, lane]
            runs[i].count += factor * count
        runs[i].step += 1
        ended = ended or runs[i].step * runs[i].batch_size >= runs[i].n_samples
    return ended


@njit(nogil=True)
def _copy_lanes(out, source, here, task, counts):
    """Copy the vectors of the lanes whose count is zero from one memory of a group to another."""
    for lane in range(counts.shape[0]):
        if counts[lane] != 0.0:
            continue
        at = lane * here.itemsize
        for k in range(task.n_vectors + 1):
            for j in range(task.n_words):
                place = at + here.n_bytes * k + 4 * load_int64(task.words + 8 * j)
                copy_word(out + place, source + place)


@njit(nogil=True)
def _end_epochs(of_group, until, runs, losses, arrays):
    """Check and keep what lanes have left whose epoch has ended; members that have ended leave their lanes."""
    operations, patches, programs, bindings, _, now, here, lanes, task = of_group
    table, state, kept_state, _, _ = arrays
    numbers = state.view(np.float64)
    run_part(operations, patches, programs, CHECK, bindings, 0, 0)
    for lane in range(lanes.shape[0]):
        i = lanes[lane].member
        table[DUE, lane] = 0
        ended = i >= 0 and runs[i].step * runs[i].batch_size >= runs[i].n_samples
        if ended and ends_epoch(runs[i], losses[i], now[_NOT_FINITE, lane] == 0.0):
            table[DUE, lane] = 1
            if here.rate_per != 0:
                numbers[_EPOCHS, lane] += 1.0
    run_part(operations, patches, programs, KEEP, bindings, 0, 0)
    for lane in range(lanes.shape[0]):
        i = lanes[lane].member
        if table[DUE, lane] != 0:
            kept_state[:, lane] = state[:, lane]
        if i >= 0 and (runs[i].status != RUNNING or runs[i].epoch >= until[i]):
            _unload(lane, here, lanes, task, runs[i], kept_state)
            lanes[lane].member = -1


@njit(nogil=True)
def train_group(of_group, mailbox, places, queue, until, runs, losses, arrays, max_steps):
    """Train members of the queue in the lanes of a group, see `entry.train_groups`.

    of_group: operations, patches, programs, bindings, pick, step, the records of the group and of its lanes, and of the
    task. arrays: table, state, kept_state, settings, scratch.
    """
    while max_steps > 0 and _fill(of_group, mailbox, places, queue, runs, arrays) > 0:
        _begin_epochs(of_group, places, runs, arrays)
        if _step(of_group, places, runs, losses, arrays):
            _end_epochs(of_group, until, runs, losses, arrays)
        max_steps -= 1
    here, lanes, task = of_group[6:]
    for lane in range(lanes.shape[0]):
        if lanes[lane].member >= 0:
            _unload(lane, here, lanes, task, runs[lanes[lane].member], arrays[2])
