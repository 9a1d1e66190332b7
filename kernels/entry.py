"""Every function that Python calls. Only these are compiled for their own sake and cached.

They run programs (see `library`) over the blocks of a sample set. A program starts with loading its block: operation 0
gathers X, operation 1 the targets where the sweep has any; or the first few operations read X where it lies. Here
those, and the place of the outputs, are pointed at the block's rows; everything else in a program stays as written.
"""

import numpy as np
from numba import njit, prange

from .barrier import ARRIVED, BEGINS, COUNT, ENDS, FIRST, JOB_SIZE, OF, ORDER_AT, POSTED, STOPPED, grow, wait
from .batches import draw_order
from .cache import cached
from .library import IN_PLACE, LEFT, NAMES, ORDER, SOURCE, UNPAD_OUT, WIDTH, fill_table, run_program
from .optimizers import KEPT_1, KEPT_2, POWER_1, POWER_2, TOTAL, prepare
from .simd import address

# The vector `run` of `train`: what to do, and how far it is.
N_SAMPLES, BATCH_SIZE, BLOCK_ROWS, EPOCHS, ORDERED, EPOCH, STEP, STATUS = range(8)
AS_IS, DRAWN, GIVEN = range(3)  # values of ORDERED
RUNNING, DIVERGED = range(2)  # values of STATUS


@cached
def fill_library(dt, table):
    """Fill the int64 table (len(NAMES),) with the library's addresses, for the dtype of the scalar dt."""
    fill_table(dt, address(table))


_libraries = {}


def library(dtype):
    """{name: address} of the vector functions for a dtype. They live as long as the process."""
    dtype = np.dtype(dtype)
    if dtype not in _libraries:
        table = np.zeros(len(NAMES), np.int64)
        fill_library(dtype.type(0), table)
        _libraries[dtype] = dict(zip(NAMES, table.tolist(), strict=True))
    return _libraries[dtype]


@njit(nogil=True)
def _point(code, operation, sources, i, first, n, order):
    """Point a gather at the rows from `first` on of sources[i] (address, row stride), or of an order that is not 0."""
    if order != 0:
        code[operation, ORDER] = order + 4 * first
        code[operation, LEFT] = n - first
        code[operation, SOURCE] = sources[i, 0]
    else:
        code[operation, SOURCE] = sources[i, 0] + first * sources[i, 1]


@njit(nogil=True)
def _all_finite(x):
    total = x[0] * 0
    for i in range(x.size):
        total += abs(x[i] - x[i])  # zero for every finite number
    return total == 0


@njit(nogil=True)
def _copy(source, out):
    for i in range(source.size):
        out[i] = source[i]


@njit(nogil=True)
def _part(parts, i, rows):
    """The index, from i on, of the program for blocks of so many rows; see `programs.Code`."""
    while parts[i, 2] != rows:
        i += 1
    return i


@njit(nogil=True)
def _await_helpers(job_at, helpers, posted):
    """Until every helper has done the blocks posted so far."""
    wait(job_at + 8 * ARRIVED, helpers * (posted + 1), job_at + 8 * STOPPED)


@cached
def train(code, parts, sources, cells, job, live, kept, order, random, settings, run, losses, steps):
    """Do at most `steps` batches of training, going on from where `run` says.

    parts, int64 (threads, n, 4): for each thread the program before a batch, the one after it, then those of blocks;
    this is thread 0, and the others run `help_train` meanwhile. sources, int64 (2, 2): address and row stride of X
    and of the targets. cells and settings are float64, see `optimizers`; job is int64, see `barrier`. live is a pair
    of 1-D arrays, the parameters and the optimizer's own vectors; order is int32: (1, n) to draw into, (epochs, n)
    given, or (1, 0). random is uint64 (2,): the generator's state, and what it was at the end of the last finished
    epoch; kept holds the arrays of `live` as they were then. losses[epoch], float64, sums the batches' losses and
    becomes their mean when the epoch ends. An epoch that ends with a loss or a parameter that is not finite sets
    STATUS to DIVERGED and leaves what was kept.
    """
    n, helpers, posted, mine = run[N_SAMPLES], parts.shape[0] - 1, 0, parts[0]
    job_at, code_at = address(job), address(code)
    while steps > 0 and run[EPOCH] < run[EPOCHS]:
        steps -= 1
        epoch = run[EPOCH]
        indices = order[epoch if run[ORDERED] == GIVEN else 0]
        if run[ORDERED] == DRAWN and run[STEP] == 0:
            draw_order(indices, random)
        order_at = address(indices) if run[ORDERED] != AS_IS else 0
        first = run[STEP] * run[BATCH_SIZE]
        count = min(run[BATCH_SIZE], n - first)
        if helpers > 0:
            _await_helpers(job_at, helpers, posted)
        prepare(settings, cells, count)
        for start in range(first, first + count, run[BLOCK_ROWS]):
            rows = min(run[BLOCK_ROWS], first + count - start)
            begins, ends = start == first, start + rows == first + count
            if helpers > 0:
                _await_helpers(job_at, helpers, posted)
                job[FIRST], job[COUNT], job[OF] = start, rows, n
                job[ORDER_AT], job[BEGINS], job[ENDS] = order_at, begins, ends
                grow(job_at + 8 * POSTED)
                posted += 1
            if begins:
                run_program(code_at + mine[0, 0] * (8 * WIDTH), mine[0, 1])
            i = _part(mine, 2, rows)
            _point(code, mine[i, 0], sources, 0, start + mine[i, 3], n, order_at)
            _point(code, mine[i, 0] + 1, sources, 1, start + mine[i, 3], n, order_at)
            run_program(code_at + mine[i, 0] * (8 * WIDTH), mine[i, 1])
            if ends:
                run_program(code_at + mine[1, 0] * (8 * WIDTH), mine[1, 1])
        losses[epoch] += cells[TOTAL]
        run[STEP] += 1
        if first + count == n:
            if helpers > 0:
                _await_helpers(job_at, helpers, posted)
            losses[epoch] /= n
            if not (losses[epoch] - losses[epoch] == 0 and _all_finite(live[0])):
                run[STATUS] = DIVERGED
                return
            _copy(live[0], kept[0])
            _copy(live[1], kept[1])
            random[1] = random[0]
            settings[KEPT_1], settings[KEPT_2] = settings[POWER_1], settings[POWER_2]
            run[EPOCH] += 1
            run[STEP] = 0
    if helpers > 0:
        _await_helpers(job_at, helpers, posted)


@cached
def help_train(code, parts, sources, job, thread):
    """Another thread's part of `train`, until job[STOPPED] is set."""
    at, code_at, posted, mine = address(job), address(code), 0, parts[thread]
    while True:
        grow(at + 8 * ARRIVED)
        posted += 1
        if wait(at + 8 * POSTED, posted, at + 8 * STOPPED) != 0:
            return
        if job[BEGINS] != 0:
            run_program(code_at + mine[0, 0] * (8 * WIDTH), mine[0, 1])
        i = _part(mine, 2, job[COUNT])
        _point(code, mine[i, 0], sources, 0, job[FIRST] + mine[i, 3], job[OF], job[ORDER_AT])
        _point(code, mine[i, 0] + 1, sources, 1, job[FIRST] + mine[i, 3], job[OF], job[ORDER_AT])
        run_program(code_at + mine[i, 0] * (8 * WIDTH), mine[i, 1])
        if job[ENDS] != 0:
            run_program(code_at + mine[1, 0] * (8 * WIDTH), mine[1, 1])


def compile_help(code, parts, sources):
    """Compile `help_train`, or load it from the cache."""
    job = np.zeros(JOB_SIZE, np.int64)
    job[STOPPED] = 1
    help_train(code, parts, sources, job, 0)


@njit(nogil=True)
def _sweep(code, parts, sources, first, stop, block_rows):
    """`sweep` of the rows from `first` to `stop`."""
    for start in range(first, stop, block_rows):
        i = _part(parts, 0, min(block_rows, stop - start))
        operation, count, in_place = parts[i, 0], parts[i, 1], parts[i, 3]
        if in_place == 0:
            _point(code, operation, sources, 0, start, stop, 0)
        else:  # the first of them reads the block's first sample
            move = sources[0, 0] + start * sources[0, 1] - code[operation, IN_PLACE]
            for j in range(operation, operation + in_place):
                code[j, IN_PLACE] += move
        if sources[1, 0] != 0:
            _point(code, operation + 1, sources, 1, start, stop, 0)
        if sources[2, 0] != 0:
            code[operation + count - 1, UNPAD_OUT] = sources[2, 0] + start * sources[2, 1]
        run_program(address(code) + operation * (8 * WIDTH), count)


@cached
def sweep(code, parts, sources, n, block_rows):
    """Run the blocks' programs over all n samples, in their order.

    code and parts as in `train`, parts of blocks alone. sources, int64 (3, 2): address and row stride of X, of the
    targets and of the outputs, which the program's last operation writes; 0 where there are none.
    """
    _sweep(code, parts, sources, 0, n, block_rows)


@cached
def run_block(code, x, out):
    """Run the one program `code` on all rows of x and out, (n, n_inputs) and (n, n_out) in the network's dtype."""
    code[0, SOURCE] = address(x)
    code[code.shape[0] - 1, UNPAD_OUT] = address(out)
    run_program(address(code), code.shape[0])


@cached(parallel=True)
def sweep_parallel(codes, parts, sources, n, block_rows):
    """`sweep` on len(codes) threads, each with a program and workspace of its own and whole blocks: the same bits."""
    blocks = (n + block_rows - 1) // block_rows
    threads = codes.shape[0]
    for t in prange(threads):
        first, stop = blocks * t // threads * block_rows, min(blocks * (t + 1) // threads * block_rows, n)
        _sweep(codes[t], parts, sources, first, stop, block_rows)
