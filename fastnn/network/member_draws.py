"""Drawing the parameters of many networks, each from a seed of its own, with the bits of `Model`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..settings import initialisers
from ..settings.layers import Architecture
from .network import OTHER, Network


def drawn(
    architecture: Architecture, inits: Sequence[Any], seeds: Sequence[int]
) -> tuple[NDArray[Any], NDArray[np.uint64], NDArray[np.int64]]:
    """(unpadded vectors (n, P), the states of the generators of orders (n,), the seeds of held-out sets (n,))."""
    network = Network(architecture)
    elements, n = network.layout.elements, len(seeds)
    vectors = np.empty((n, len(elements)), network.layout.dtype)
    random, split_seeds = np.empty(n, np.uint64), np.empty(n, np.int64)
    for i, seed in enumerate(seeds):
        generator = np.random.default_rng(int(seed))
        initialisers.set_layers(network.tensors, architecture.numbered, inits, generator)
        vectors[i] = network.parameters[elements]
        random[i] = generator.integers(2**64, dtype=np.uint64)
        split_seeds[i] = generator.integers(2**63)
    return vectors, random, split_seeds


def noise_of(random: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The states of the generators of dropout and noise, as `Network.seed` sets them."""
    return random ^ np.uint64(OTHER)
