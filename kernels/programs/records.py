"""What Python and compiled loops tell each other: records of runs of training, of members of a population, of lanes."""

import numpy as np

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

# The memory in which a thread trains members, by addresses: the padded vectors that the last finished epoch left, the
# live ones that programs change, a buffer for an order, a padded gradient of a pass that gives one, else 0. `resident`
# is the member within an epoch, -1 if there is none; `epoch` is how many epochs of it lie where all members do;
# `entered` counts calls, and `done` blocks of samples.
SLOT = np.dtype(
    [
        *((name, "i8") for name in ("resident", "epoch", "entered", "done")),
        *((name, "i8") for name in ("parameters", "vectors", "live_vectors", "live_state", "settings", "order")),
        ("gradient", "i8"),
    ]
)

# What the functions of a tape take: addresses, each followed by numbers of elements, so that a call has few arguments.
#
# - operations, patches and parts: a `program.Code`.
# - picks, int64 (rows, m): rows that give the part that is due by the rows left.
# - use, int64 (4,): which row goes forward, backward, and both ways; the number of a part that is run first, or -1.
# - bindings, and step, a record STEP. Its `held` is the number of rows whose activations are in the buffers.
# - kept_x: the samples that these are of, as bytes.
# - parameters, kept and gradient, as int64: those of the network, a copy of those that the activations were made with,
#   and the gradient. A part that goes backward alone writes it, one that goes both ways adds to it.
# - n: the number of rows of x, because another thread may set the shape of the array.
TAPE = (
    *("operations", "n_words", "patches", "n_patches", "parts", "n_parts", "picks", "n_rows", "n_columns"),
    *("use", "bindings", "step", "kept_x", "n_x", "parameters", "kept", "gradient", "n_values", "n"),
)

FINE, CONSTANT, MISSING, INFINITE = range(4)  # what `standardise_groups` finds of the numbers of a group
POOL = 4  # words of 32 bits in which a seed sequence mixes its seed; longer seeds are not for this
SCRATCH = 3 * POOL  # words of 32 bits: the pool, and a generator's state
