"""What Python and compiled loops tell each other of networks in lanes: numbers of rows of tables, and a record."""

import numpy as np

from .memory import GROUP

# Rows of the table of what programs know, (fields of GROUP, lanes).
SAMPLES, TARGETS, WEIGHTS, ORDER, LAST, POSITION, ORDERS, ROWS, DUE, AFFINE = range(len(GROUP.names or ()))

# What a lane holds, int64 numbers (fields, lanes): a member, -1 for none, and the epoch of it that lies outside of the
# lane; its rows and the rows of a batch; the steps of its epoch that are done; where its order begins, or 0 where its
# rows come as they are, and 1 (MOVES) in that case, else 0; where its samples, targets and weights begin. LOSS and
# WEIGHT, float64 (2, lanes), are the sums of the epoch so far: of the losses, and of the samples by their weights.
MEMBER, EPOCH, N, BATCH_SIZE, DONE, FIRST, MOVES, INPUTS, OUTPUTS, OF_WEIGHTS = range(10)
LOSS, WEIGHT = range(2)
LANE_FIELDS, LANE_SUMS = OF_WEIGHTS + 1, WEIGHT + 1
# A group of networks: how many calls it has entered, and the steps that it has done; by their addresses the memory of
# the vectors that programs change, of those that the last finished epochs left, and of the gradient (0 for none), with
# the bytes of a vector and of a network's number, and the places of a vector's padding; whether the learning rate
# changes with each step (1) or epoch (2); whether all members have as many rows, so that all lanes are at the same
# place of their epochs; whether samples have weights; whether losses are means of batches' means; and the address of a
# copy of the lanes' vectors.
GROUP_SLOT = np.dtype(
    [
        *((name, "i8") for name in ("entered", "done", "live", "kept", "gradient", "n_bytes", "itemsize")),
        *((name, "i8") for name in ("padding", "n_padding")),
        *((name, "i8") for name in ("rate_per", "in_step", "weighted", "batch_means", "copy")),
    ]
)
