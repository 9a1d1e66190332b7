"""Training of members of a population in groups of networks: each lane of the vector holds one.

A lane takes the next member when its own has ended, and each is at its own place in its epochs. No number of a member
depends on what other lanes hold.
"""

from typing import Any

import numpy as np

from ..formulas.update_rules import POSITIONS
from ..programs.lane_records import (
    AFFINE,
    BATCH_SIZE,
    DONE,
    DUE,
    EPOCH,
    FIRST,
    INPUTS,
    LAST,
    LOSS,
    MEMBER,
    MOVES,
    OF_WEIGHTS,
    ORDER,
    ORDERS,
    OUTPUTS,
    POSITION,
    ROWS,
    SAMPLES,
    TARGETS,
    WEIGHT,
    WEIGHTS,
    N,
)
from ..programs.memory import STATE, STEP
from ..programs.records import DRAWN, GIVEN, RUNNING
from ..programs.training_programs import ADVANCE, BATCH, BEGIN_EPOCH, CHECK, COUNT, FINISH, KEEP
from .compiler import inner
from .copies import clear_words, copy_word, load_float64, load_int64, pack_words, renumber, store_int64, unpack_words
from .instructions import run_part
from .runs import ends_epoch, next_place

_STEP_FIELDS: Any = STEP.fields
_STATE_FIELDS: Any = STATE.fields
_TOTAL, _COUNT, _NOT_FINITE = (_STEP_FIELDS[name][1] // 8 for name in ("total", "count", "not_finite"))
_OPTIMIZER, _NUMBERS, _NOISE = (_STATE_FIELDS[name][1] // 8 for name in ("optimizer", "numbers", "noise"))
_STATE_BYTES = STATE.itemsize
_COUNTS = 0  # the row of a group's scratch memory with each batch's count; the rows behind it are for a STATE
_STEPS, _EPOCHS = (_NUMBERS + POSITIONS[name] for name in ("step", "epoch"))


@inner
def _load_vectors(lane, here, task, i, fresh):
    """Write a member's vectors to a lane of those that programs change.

    The padding gets zeros: a member that diverged, or the lane while it held none, may have left NaN there.
    """
    n, out = task.n_words, here.live + lane * here.itemsize
    unpack_words(out, task.words, task.vectors + 4 * n * i, n)
    clear_words(out, here.padding, here.n_padding)
    if here.gradient != 0:
        clear_words(here.gradient + lane * here.itemsize, here.padding, here.n_padding)
    for k in range(task.n_vectors):
        out += here.n_bytes
        clear_words(out, here.padding, here.n_padding)
        if fresh:
            clear_words(out, task.words, n)
        else:
            unpack_words(out, task.words, task.optimizer_vectors + task.optimizer_stride * i + 4 * n * k, n)


@inner
def _store_vectors(lane, here, task, i):
    """Write what the last finished epoch of a lane left to a member's vectors."""
    n, source = task.n_words, here.kept + lane * here.itemsize
    pack_words(task.vectors + 4 * n * i, source, task.words, n)
    for k in range(task.n_vectors):
        source += here.n_bytes
        pack_words(task.optimizer_vectors + task.optimizer_stride * i + 4 * n * k, source, task.words, n)


@inner
def _load(of_group, lane, i, run, place, arrays):
    """Make a lane hold member i, as its last finished epoch left it; by a fresh optimizer unless this one trained."""
    here, lanes, sums, task = of_group[6:]
    table, state, _, settings, _ = arrays
    of_member = task.states + _STATE_BYTES * i
    fresh = load_int64(of_member + 8 * _OPTIMIZER) != load_int64(task.start + 8 * _OPTIMIZER)
    _load_vectors(lane, here, task, i, fresh)
    for k in range(state.shape[0]):
        source = task.start if fresh and _OPTIMIZER <= k < _NOISE else of_member
        state[k, lane] = load_int64(source + 8 * k)
    for k in range(settings.shape[0]):
        settings[k, lane] = load_float64(task.settings + task.settings_stride * i + 8 * k)
    table[ROWS, lane] = run.n_samples
    table[AFFINE, lane] = task.affine + task.affine_stride * i
    lanes[MEMBER, lane], lanes[EPOCH, lane], lanes[DONE, lane] = i, run.epoch, 0
    lanes[N, lane], lanes[BATCH_SIZE, lane] = run.n_samples, run.batch_size
    lanes[INPUTS, lane], lanes[OUTPUTS, lane], lanes[OF_WEIGHTS, lane] = place.inputs, place.targets, place.weights
    sums[:, lane] = 0.0


@inner
def _unload(of_group, lane, run, kept_state):
    """Copy what a lane has left of a member, at the end of an epoch that it finished here, to where all members lie."""
    here, lanes, _, task = of_group[6:]
    i = lanes[MEMBER, lane]
    if run.epoch > lanes[EPOCH, lane]:
        _store_vectors(lane, here, task, i)
        for k in range(kept_state.shape[0]):
            store_int64(task.states + _STATE_BYTES * i + 8 * k, kept_state[k, lane])
        lanes[EPOCH, lane] = run.epoch


@inner
def _leave(of_group, lane):
    """Let a lane hold no member. It computes on, with one row."""
    lanes = of_group[7]
    lanes[MEMBER, lane] = -1
    lanes[N, lane] = lanes[BATCH_SIZE, lane] = 1
    lanes[DONE, lane] = lanes[FIRST, lane] = lanes[MOVES, lane] = 0


@inner
def _fill(of_group, mailbox, places, queue, runs, arrays):
    """Give each lane that holds nothing the next member of the queue; gives how many lanes hold one."""
    here, lanes, _, task = of_group[6:]
    held = between = 0
    for lane in range(lanes.shape[1]):
        held += lanes[MEMBER, lane] >= 0
        between += lanes[MEMBER, lane] >= 0 and lanes[DONE, lane] > 0
    if here.in_step != 0 and between > 0:  # a lane that began now would be at another place of its epoch
        return held
    for lane in range(lanes.shape[1]):
        if lanes[MEMBER, lane] >= 0:
            continue
        k = next_place(mailbox)
        if k >= queue.shape[0]:
            break
        i = queue[k]
        if held == 0:  # lanes without a member compute too, on the first row of another's
            for other in range(lanes.shape[1]):
                _leave(of_group, other)
                lanes[INPUTS, other], lanes[OUTPUTS, other] = places[i].inputs, places[i].targets
                lanes[OF_WEIGHTS, other] = places[i].weights
                arrays[0][AFFINE, other] = task.affine + task.affine_stride * i
        _load(of_group, lane, i, runs[i], places[i], arrays)
        held += 1
    return held


@inner
def _begin_epochs(of_group, places, runs, arrays):
    """Find the orders of the lanes whose epoch begins."""
    operations, patches, programs, bindings, _, _, _, lanes, _, task = of_group
    table, drawn = arrays[0], 0
    for lane in range(lanes.shape[1]):
        i = lanes[MEMBER, lane]
        table[DUE, lane] = 0
        if i < 0 or lanes[DONE, lane] > 0:
            continue
        run, place = runs[i], places[i]
        lanes[FIRST, lane] = place.rows
        if run.ordered == DRAWN:
            lanes[FIRST, lane] = table[ORDERS, lane]
            table[DUE, lane] = 1
            drawn += 1
        elif run.ordered == GIVEN:
            lanes[FIRST, lane] = task.order + 4 * run.n_samples * run.epoch
        lanes[MOVES, lane] = lanes[FIRST, lane] == 0
    if drawn == 0:
        return
    run_part(operations, patches, programs, BEGIN_EPOCH, bindings, 0)
    for lane in range(lanes.shape[1]):
        if table[DUE, lane] != 0:
            place = places[lanes[MEMBER, lane]]
            if place.rows != 0:
                renumber(table[ORDERS, lane], place.rows, place.n)


@inner
def _point_lanes(of_group, table):
    """Write where the next batches of all lanes lie, and their numbers of samples; gives the largest of these."""
    now, here, lanes, _, task = of_group[5:]
    counts, totals, rows = now[_COUNT], now[_TOTAL], 1
    for lane in range(lanes.shape[1]):
        first = lanes[DONE, lane] * lanes[BATCH_SIZE, lane]
        count = min(lanes[BATCH_SIZE, lane], lanes[N, lane] - first)
        moved = first * lanes[MOVES, lane]
        table[SAMPLES, lane] = lanes[INPUTS, lane] + moved * task.input_stride
        table[TARGETS, lane] = lanes[OUTPUTS, lane] + moved * task.target_stride
        table[ORDER, lane] = lanes[FIRST, lane] + 4 * (first - moved)
        table[LAST, lane], table[POSITION, lane] = count - 1, first
        counts[lane], totals[lane] = count, 0.0
        rows = max(rows, count)
    if here.weighted != 0:
        for lane in range(lanes.shape[1]):
            start, moved = lanes[OF_WEIGHTS, lane], table[POSITION, lane] * lanes[MOVES, lane]
            table[WEIGHTS, lane] = start + (moved * task.weight_stride if start != 0 else 0)
    return rows


@inner
def _take_rates(of_group, places, arrays):
    """Take the learning rates of the steps, where they change."""
    now, here, lanes = of_group[5:8]
    numbers, settings = arrays[1].view(np.float64), arrays[3]
    for lane in range(lanes.shape[1]):
        i = lanes[MEMBER, lane]
        if i >= 0 and now[_COUNT, lane] != 0.0:
            position = numbers[_STEPS if here.rate_per == 1 else _EPOCHS, lane]
            settings[0, lane] = load_float64(places[i].rates + 8 * np.int64(position))
            numbers[_STEPS, lane] += 1.0


@inner
def _without_weight(of_group, counts):
    """Keep how many samples the batch of each lane counts; gives how many lanes count none, which 1 replaces."""
    now, _, lanes = of_group[5:8]
    found = 0
    for lane in range(lanes.shape[1]):
        counts[lane] = now[_COUNT, lane]
        if now[_COUNT, lane] == 0.0:
            now[_COUNT, lane] = 1.0
            found += lanes[MEMBER, lane] >= 0
    return found


@inner
def _step(of_group, places, arrays):
    """One step of training of all lanes; gives whether an epoch has ended."""
    operations, patches, programs, bindings, pick, now, here, lanes, sums, task = of_group
    table, state, _, _, scratch = arrays
    counts, weightless = now[_COUNT], 0
    rows = _point_lanes(of_group, table)
    run_part(operations, patches, programs, COUNT, bindings, 0)
    if here.rate_per != 0:
        _take_rates(of_group, places, arrays)
    if here.weighted != 0:
        counts = scratch[_COUNTS]
        weightless = _without_weight(of_group, counts)
    if weightless > 0:  # a batch of no weight changes nothing
        for k in range(state.shape[0]):
            for lane in range(lanes.shape[1]):
                scratch[_COUNTS + 1 + k, lane] = state.view(np.float64)[k, lane]
        _copy_lanes(here.copy, here.live, here, task, counts)
    run_part(operations, patches, programs, ADVANCE, bindings, 0)
    run_part(operations, patches, programs, pick[BATCH, min(rows, pick.shape[1] - 1)], bindings, 0)
    run_part(operations, patches, programs, FINISH, bindings, 0)
    if weightless > 0:
        _copy_lanes(here.live, here.copy, here, task, counts)
        for lane in range(lanes.shape[1]):
            if counts[lane] == 0.0:
                now[_TOTAL, lane] = 0.0
                for k in range(state.shape[0]):
                    state.view(np.float64)[k, lane] = scratch[_COUNTS + 1 + k, lane]
    for lane in range(lanes.shape[1]):
        factor = 1.0
        if here.batch_means != 0 and counts[lane] != 0.0:
            factor = (table[LAST, lane] + 1) / counts[lane]
        sums[LOSS, lane] += factor * now[_TOTAL, lane]
        sums[WEIGHT, lane] += factor * counts[lane]
    ended = 0
    for lane in range(lanes.shape[1]):
        held = np.int64(lanes[MEMBER, lane] >= 0)
        lanes[DONE, lane] += held  # else the lane stays at its one row
        ended += held & np.int64(lanes[DONE, lane] * lanes[BATCH_SIZE, lane] >= lanes[N, lane])
    return ended > 0


@inner
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


@inner
def _end_epochs(of_group, until, runs, losses, arrays):
    """Check and keep what lanes have left whose epoch has ended; members that have ended leave their lanes."""
    operations, patches, programs, bindings, _, now, here, lanes, sums, _ = of_group
    table, state, kept_state, _, _ = arrays
    numbers = state.view(np.float64)
    run_part(operations, patches, programs, CHECK, bindings, 0)
    for lane in range(lanes.shape[1]):
        i = lanes[MEMBER, lane]
        table[DUE, lane] = 0
        if i < 0 or lanes[DONE, lane] * lanes[BATCH_SIZE, lane] < lanes[N, lane]:
            continue
        losses[i, runs[i].epoch] = sums[LOSS, lane]
        runs[i].count = sums[WEIGHT, lane]
        sums[:, lane] = 0.0
        lanes[DONE, lane] = 0
        if ends_epoch(runs[i], losses[i], now[_NOT_FINITE, lane] == 0.0):
            table[DUE, lane] = 1
            if here.rate_per != 0:
                numbers[_EPOCHS, lane] += 1.0
    run_part(operations, patches, programs, KEEP, bindings, 0)
    for lane in range(lanes.shape[1]):
        i = lanes[MEMBER, lane]
        if table[DUE, lane] != 0:
            for k in range(state.shape[0]):
                kept_state[k, lane] = state[k, lane]
        if i >= 0 and (runs[i].status != RUNNING or runs[i].epoch >= until[i]):
            _unload(of_group, lane, runs[i], kept_state)
            _leave(of_group, lane)


@inner
def train_group(of_group, mailbox, places, queue, until, runs, losses, arrays, max_steps):
    """Train members of the queue in the lanes of a group, see `entry.train_groups`.

    of_group: operations, patches, programs, bindings, pick, step, the group's record, what its lanes hold (two arrays)
    and the record of the task. arrays: table, state, kept_state, settings, scratch.
    """
    lanes, between = of_group[7], True
    while max_steps > 0:
        if between:
            if _fill(of_group, mailbox, places, queue, runs, arrays) == 0:
                break
            _begin_epochs(of_group, places, runs, arrays)
        between = _step(of_group, places, arrays)
        if between:
            _end_epochs(of_group, until, runs, losses, arrays)
        max_steps -= 1
        of_group[6].done += 1
    for lane in range(lanes.shape[1]):
        i = lanes[MEMBER, lane]
        if i >= 0:
            _unload(of_group, lane, runs[i], arrays[2])
            runs[i].step = lanes[DONE, lane]
