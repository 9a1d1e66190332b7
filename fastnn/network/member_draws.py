"""Drawing the parameters of many networks, each from a seed of its own, with the bits of `Model`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels.programs import records
from ..kernels.running import entry
from ..settings import initialisers
from ..settings.layers import Architecture
from .network import OTHER, Network, programs_of, without_parameter

AT_A_TIME = 2**22  # how many numbers are drawn at a time


def drawn(
    architecture: Architecture, inits: Sequence[Any], seeds: Sequence[int]
) -> tuple[NDArray[Any], NDArray[np.uint64], NDArray[np.int64]]:
    """(unpadded vectors (n, P), the states of the generators of orders (n,), the seeds of held-out sets (n,))."""
    layout = programs_of(without_parameter(architecture)).layout
    vectors, n = np.empty((len(seeds), len(layout.elements)), layout.dtype), len(seeds)
    random, split_seeds = np.empty(n, np.uint64), np.empty(n, np.int64)
    count = initialisers.uniform_numbers(architecture.numbered, inits)
    if count is None or max(seeds) >= 2**128:
        _one_by_one(architecture, inits, seeds, (vectors, random, split_seeds))
        return vectors, random, split_seeds
    words = _words(seeds)
    step, scratch = max(1, AT_A_TIME // max(1, count)), np.empty(records.SCRATCH, np.uint32)
    for first in range(0, n, step):
        some = slice(first, min(first + step, n))
        uniform, last = np.empty((some.stop - first, count), np.float32), np.empty((some.stop - first, 2), np.uint64)
        entry.draw_numbers(words[some], scratch, uniform, last)
        initialisers.set_members(vectors[some], architecture.numbered, inits, uniform)
        random[some], split_seeds[some] = last[:, 0], last[:, 1] >> np.uint64(1)  # as `integers(2**63)` takes it
    return vectors, random, split_seeds


def _words(seeds: Sequence[int]) -> NDArray[np.uint32]:
    """The words of 32 bits of each seed, (n, 4), the lowest first."""
    if isinstance(seeds, range) and seeds[-1] < 2**64:
        found = np.arange(seeds.start, seeds.stop, dtype=np.uint64)
    elif max(seeds) < 2**64:
        found = np.array(seeds, np.uint64)
    else:
        return np.array([[seed >> shift & 0xFFFFFFFF for shift in (0, 32, 64, 96)] for seed in seeds], np.uint32)
    words = np.zeros((len(seeds), 4), np.uint32)
    words[:, 0], words[:, 1] = found & np.uint64(0xFFFFFFFF), found >> np.uint64(32)
    return words


def _one_by_one(
    architecture: Architecture, inits: Sequence[Any], seeds: Sequence[int], out: tuple[NDArray[Any], ...]
) -> None:
    """Draw by NumPy's generators what is drawn in another way, such as orthogonal matrices."""
    network, (vectors, random, split_seeds) = Network(architecture), out
    for i, seed in enumerate(seeds):
        generator = np.random.default_rng(seed)
        initialisers.set_layers(network.tensors, architecture.numbered, inits, generator)
        vectors[i] = network.parameters[network.layout.elements]
        random[i] = generator.integers(2**64, dtype=np.uint64)
        split_seeds[i] = generator.integers(2**63)


def noise_of(random: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The states of the generators of dropout and noise, as `Network.seed` sets them."""
    return random ^ np.uint64(OTHER)
