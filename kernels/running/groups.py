"""Training of members of a population in groups: each lane of the vector holds a network.

A lane takes the next member when its own has ended, and each is at its own place in its epochs. No number of a member
depends on what other lanes hold.
"""

import numpy as np
from numba import njit

from ..programs.memory import GROUP, STATE, STEP
from ..programs.training_programs import ADVANCE, BATCH, BEGIN_EPOCH, CHECK, COUNT, FINISH, KEEP
from .copies import copy_numbers, pack_words, renumber, unpack_words
from .interpreter import run_part

SAMPLES, TARGETS, WEIGHTS, ORDER, LAST, POSITION, ORDERS, ROWS, DUE = range(len(GROUP.names or ()))
_TOTAL, _COUNT, _NOT_FINITE = (STEP.fields[name][1] // 8 for name in ("total", "count", "not_finite"))
_RANDOM, _OPTIMIZER, _NOISE = (STATE.fields[name][1] // 8 for name in ("random", "optimizer", "noise"))
