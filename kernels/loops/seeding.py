"""NumPy's generators of many seeds at once: `numpy.random.SeedSequence` and PCG64, whose streams NumPy keeps stable.

A generator of NumPy takes 19 us to make; here a seed takes less than one.
"""

import numpy as np

from ..programs.records import POOL
from .compiler import inner

_U32, _U64 = np.uint32, np.uint64
# Constants of O'Neill's seed_seq_fe, as `numpy/random/bit_generator.pyx` has them.
_INIT_A, _MULT_A, _INIT_B, _MULT_B = map(_U32, (0x43B0D7E5, 0x931E8875, 0x8B51F9DD, 0x58F38DED))
_MIX_L, _MIX_R, _SHIFT = map(_U32, (0xCA01F9DD, 0x4973F715, 16))
_FACTOR = _U64(0x2360ED051FC65DA4), _U64(0x4385DF649FCCF645)  # of PCG's 128-bit step
_LOW = _U64(0xFFFFFFFF)
_N1, _N8, _N32, _N58, _N63, _N64 = map(_U64, (1, 8, 32, 58, 63, 64))


@inner
def _mixed_words(words, pool, state):
    """Fill state, 8 words, with what SeedSequence(seed).generate_state gives of a seed of 4 words."""
    factor = _INIT_A
    for i in range(POOL):
        value = _U32(words[i] ^ factor)
        factor = _U32(factor * _MULT_A)
        value = _U32(value * factor)
        pool[i] = _U32(value ^ (value >> _SHIFT))
    for source in range(POOL):
        for out in range(POOL):
            if source != out:
                value = _U32(pool[source] ^ factor)
                factor = _U32(factor * _MULT_A)
                value = _U32(value * factor)
                value = _U32(value ^ (value >> _SHIFT))
                value = _U32(_U32(_MIX_L * pool[out]) - _U32(_MIX_R * value))
                pool[out] = _U32(value ^ (value >> _SHIFT))
    factor = _INIT_B
    for i in range(2 * POOL):
        value = _U32(pool[i % POOL] ^ factor)
        factor = _U32(factor * _MULT_B)
        value = _U32(value * factor)
        state[i] = _U32(value ^ (value >> _SHIFT))


@inner
def _high(a, b):
    """The upper 64 bits of a product."""
    a0, a1, b0, b1 = a & _LOW, a >> _N32, b & _LOW, b >> _N32
    middle = a1 * b0 + ((a0 * b0) >> _N32)
    other = a0 * b1 + (middle & _LOW)
    return a1 * b1 + (middle >> _N32) + (other >> _N32)


@inner
def _step(high, low, inc_high, inc_low):
    """The next state of a generator: 128 bits, high and low ones."""
    product = low * _FACTOR[1]
    above = _high(low, _FACTOR[1]) + low * _FACTOR[0] + high * _FACTOR[1]
    new = product + inc_low
    carry = _U64(1) if new < product else _U64(0)
    return above + inc_high + carry, new


@inner
def _output(high, low):
    """What a generator gives in a state: 64 bits (PCG XSL-RR)."""
    value, turn = high ^ low, high >> _N58
    return (value >> turn) | (value << ((_N64 - turn) & _N63))


@inner
def _number(state, k):
    """Number k of 64 bits in a state's words of 32."""
    return _U64(state[2 * k]) | (_U64(state[2 * k + 1]) << _N32)


@inner
def draw(words, scratch, uniform, last):
    """What default_rng(seed) of each row of words gives; see `entry.draw_numbers`."""
    pool, state = scratch[:POOL], scratch[POOL:]
    for i in range(words.shape[0]):
        _mixed_words(words[i], pool, state)
        third, fourth = _number(state, 2), _number(state, 3)
        inc_high, inc_low = (third << _N1) | (fourth >> _N63), (fourth << _N1) | _N1
        high, low = _step(_U64(0), _U64(0), inc_high, inc_low)
        sum_low = low + _number(state, 1)
        carry = _U64(1) if sum_low < low else _U64(0)
        high, low = _step(high + _number(state, 0) + carry, sum_low, inc_high, inc_low)
        k, n = 0, uniform.shape[1]
        while k < n:
            high, low = _step(high, low, inc_high, inc_low)
            value = _output(high, low)
            uniform[i, k] = np.float32((value & _LOW) >> _N8) * np.float32(2.0**-24)
            if k + 1 < n:
                uniform[i, k + 1] = np.float32((value >> _N32) >> _N8) * np.float32(2.0**-24)
            k += 2
        for k in range(last.shape[1]):
            high, low = _step(high, low, inc_high, inc_low)
            last[i, k] = _output(high, low)
