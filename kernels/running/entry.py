"""Every function that Python calls, but those that predict rows; see `loops.functions`, which says what they take."""

from typing import Any

from .compiled_loops import CompiledLoop

train, help_train, train_step = map(CompiledLoop, ("train", "help_train", "train_step"))
train_members, train_groups, sweep_members = map(CompiledLoop, ("train_members", "train_groups", "sweep_members"))
sweep = CompiledLoop("sweep")
forward, backward, outside_step = map(CompiledLoop, ("forward", "backward", "outside_step"))
same_bytes, copy_all, blend = map(CompiledLoop, ("same_bytes", "copy_all", "blend"))
draw_numbers = CompiledLoop("draw_numbers")
encode_words, place_rows = map(CompiledLoop, ("encode_words", "place_rows"))
standardise_groups, transform_groups = map(CompiledLoop, ("standardise_groups", "transform_groups"))


def sweep_parallel(*arguments: Any) -> None:
    """`sweep` on Numba's threads; see `loops.parallel`."""
    from ..loops import parallel

    parallel.sweep_parallel(*arguments)
