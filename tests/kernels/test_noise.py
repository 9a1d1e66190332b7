"""noise: random numbers from counters against their twin, and their distribution."""

import numpy as np
import pytest

from fastnn.kernels import reference
from fastnn.kernels.programs.memory import STEP, aligned_zeros, field
from fastnn.kernels.programs.program import Code, Program, bindings
from fastnn.kernels.running import entry
from fastnn.kernels.vector.matrix import Matrix

from ..cases import DTYPES
from .kernel_calls import ONLY, library, matrix, on_targets

KEY = 0x0123456789ABCDEF
SHAPES = [(1, 1), (3, 17), (16, 16), (37, 5), (64, 100)]


def run(name, x, dtype, target, columns, **given):
    """What a function makes of x, samples by neurons, from sample 5 and neuron 2 of 300 on."""
    step = aligned_zeros(STEP.itemsize, STEP)
    step["key"] = KEY
    held = x.T if columns else x
    rows, cols = held.shape
    per_line = 64 // np.dtype(dtype).itemsize
    buffer = aligned_zeros(rows * -(-cols // per_line) * 64, dtype).reshape(rows, -1)
    buffer[:, :cols] = held
    out = Matrix.row_major(buffer.ctypes.data, rows, cols, buffer.strides[0], dtype)
    program = Program(target, dtype, rows=1)
    place = {"key": field(step, "key"), "position": 5, "width": 300, "begin": 2, "salt": 3}
    program.add(f"{name}{'_columns' * columns}", out=out, **place, **given, **({"x": out} if name == "dropout" else {}))
    code = Code([program], library(dtype, target))
    entry.sweep(code.operations, code.patches, code.parts, ONLY, bindings(), 0, 1)
    result = buffer[:, :cols]
    return (result.T if columns else result), buffer[:, cols:]


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("rate", [0.0, 0.25, 0.9])
@pytest.mark.parametrize(("target", "shape"), on_targets(SHAPES))
def test_dropout_against_the_reference(shape, rate, columns, dtype, target):
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    got, _ = run("dropout", x, dtype, target, columns, rate=matrix(np.array([rate])))
    factors = reference.dropout_factors(KEY, 3, 5, shape[0], 300, rate)[:, 2 : 2 + shape[1]]
    np.testing.assert_allclose(got, x * factors, rtol=1e-6 if dtype == "float32" else 1e-15)


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize(("target", "shape"), on_targets(SHAPES))
def test_noise_against_the_reference(shape, columns, dtype, target):
    got, padding = run("add_noise", np.ones(shape), dtype, target, columns, deviation=matrix(np.array([0.5])))
    want = 1 + 0.5 * reference.normal(KEY, 3, 5, shape[0], 300)[:, 2 : 2 + shape[1]]
    np.testing.assert_allclose(got, want, atol=2e-6)
    assert not padding.any()


def test_the_bits_are_even_and_independent():
    """Of neighbours, layers and steps: a mean of products of standard numbers has the deviation 1 / sqrt(n)."""
    n = 1000 * 300
    keys, state = [], 0
    for _ in range(6):
        key, state = reference.split_mix(state)
        keys.append(key)
    uniform = reference.random_bits(keys[0], 1, 0, 1000, 300) / 2**32
    assert abs(uniform.mean() - 0.5) < 4 / np.sqrt(12 * n)
    counts = np.bincount((uniform.ravel() * 64).astype(int), minlength=64)
    assert ((counts - n / 64) ** 2 / (n / 64)).sum() < 120  # chi squared of 63 degrees: 120 has a probability of 1e-5
    standard = (uniform - 0.5) * np.sqrt(12)
    others = [np.roll(standard, 1, axis) for axis in (0, 1)]
    streams = [(keys[0], 2), (keys[0], 3), *((key, 1) for key in keys[1:])]
    others += [(reference.random_bits(*stream, 0, 1000, 300) / 2**32 - 0.5) * np.sqrt(12) for stream in streams]
    for other in others:
        assert abs((standard * other).mean()) < 4 / np.sqrt(n)


def test_normal_numbers():
    values = reference.normal(KEY, 0, 0, 100, 500)
    assert abs(values.mean()) < 4 / np.sqrt(values.size)
    assert abs(values.std() - 1) < 4 / np.sqrt(2 * values.size)


@pytest.mark.parametrize(("target", "seed"), on_targets([0, 2**64 - 3]))
def test_a_key_is_the_next_number_of_the_generator(seed, target):
    step, state = aligned_zeros(STEP.itemsize, STEP), np.array([seed], np.uint64)
    program = Program(target, "float32", rows=1)
    program.add("draw_key", state=state.ctypes.data, key=field(step, "key"))
    code, want_state = Code([program], library("float32", target)), seed
    for _ in range(3):
        entry.sweep(code.operations, code.patches, code.parts, ONLY, bindings(), 0, 1)
        want, want_state = reference.split_mix(want_state)
        assert (int(step["key"][0]), int(state[0])) == (want, want_state)
