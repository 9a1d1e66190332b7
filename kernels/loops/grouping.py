"""Groups of a frame's rows, for `fit_groups`: which group a row belongs to, its place there, columns standardised."""

import math

import numpy as np

from ..programs.records import CONSTANT, FINE, INFINITE, MISSING
from .compiler import inner

_LEAST_RANGE = 1e-290  # of numbers that are not taken for equal: its reciprocal is finite
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio: multiplicative hashing (Knuth)


@inner
def encode(words, codes, table, found, rows, n, first):
    """Number the different words, in the order in which they come; see `entry.encode_words`."""
    mask, shift = table.shape[0] - 1, 64
    while (1 << (64 - shift)) < table.shape[0]:
        shift -= 1
    for i in range(words.shape[0]):
        word = words[i]
        if i > 0 and word == words[i - 1]:
            codes[i] = codes[i - 1]
            continue
        slot = np.int64((np.uint64(word) * _FACTOR) >> np.uint64(shift))
        while table[slot] >= 0 and found[table[slot]] != word:
            slot = (slot + 1) & mask
        if table[slot] < 0:
            table[slot] = n
            found[n], rows[n] = word, first + i
            n += 1
        codes[i] = table[slot]
    return n


@inner
def place(codes, following, first, rows):
    """Put the numbers of rows to their groups; see `entry.place_rows`."""
    for i in range(codes.shape[0]):
        where = following[codes[i]]
        rows[where] = first + i
        following[codes[i]] = where + 1


@inner(fastmath={"reassoc"})
def _centre(values):
    """(mean, standard deviation, what was found) of some numbers. The mean is right where all are equal."""
    first = values[0]
    low, high, total = first, first, 0.0
    for value in values:
        low, high = min(low, value), max(high, value)
        total += value - first
    if not (total - total == 0.0 and high - low < math.inf):  # a NaN or an infinite number is among them
        return 0.0, 0.0, INFINITE
    mean, spread = first + total / values.shape[0], high - low
    if spread < _LEAST_RANGE:
        return first, 0.0, CONSTANT
    total, inverse = 0.0, 1.0 / spread
    for value in values:
        total += ((value - mean) * inverse) ** 2
    return mean, spread * math.sqrt(total / values.shape[0]), FINE


@inner
def _finite_mean(values):
    """(the mean of the finite numbers, NaN where there is none; MISSING where one is NaN, else INFINITE)."""
    total, n, kind = 0.0, 0, INFINITE
    for value in values:
        if value - value == 0.0:
            n += 1
            total += value / n - total / n
        elif value != value:
            kind = MISSING
    return total if n else math.nan, kind


@inner
def standardise(values, edges, out, column, means, deviations, kinds):
    """Standardise the numbers of each group; see `entry.standardise_groups`."""
    for g in range(edges.shape[0] - 1):
        some = values[edges[g] : edges[g + 1]]
        mean, deviation, kind = _centre(some)
        if kind == INFINITE:
            mean, kind = _finite_mean(some)
        means[g], deviations[g], kinds[g] = mean, deviation, kind
        inverse = 1.0 / deviation if deviation > 0.0 else 0.0
        for i in range(some.shape[0]):
            out[edges[g] + i, column] = (some[i] - mean) * inverse if inverse > 0.0 else 0.0


@inner
def transform(values, edges, out, column, means, factors):
    """Subtract each group's mean from its numbers, and multiply by its factor; see `entry.transform_groups`."""
    for g in range(edges.shape[0] - 1):
        mean, factor = means[g], factors[g]
        for i in range(edges[g], edges[g + 1]):
            out[i, column] = (values[i] - mean) * factor if factor != 0.0 else 0.0
