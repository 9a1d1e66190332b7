"""Activations: value and derivative, a pair of vector functions each.

The value takes z. The derivative takes the activation's output a, which determines it for all of these, and
multiplies the delta d by it. Both write LLVM vector code (see `simd.Simd`). A new activation is a row of
`ACTIVATIONS` and its twin in `reference`.
"""


def _if_positive(s, x, value):
    """value where x > 0 or x is NaN, zero elsewhere."""
    return s.select(s.b.fcmp_unordered(">", x.v, s.const(0.0).v), value, s.const(0.0))


def _step(s, z):
    one = s.select(s.less(s.const(0.0), z), s.const(1.0), s.const(0.0))
    return s.select(s.b.fcmp_unordered("uno", z.v, z.v), z, one)


# The step has no useful derivative: its delta passes as it is, and so a single layer of step neurons learns by the
# perceptron rule (Rosenblatt 1958).
ACTIVATIONS = {
    "identity": (lambda s, z: z, lambda s, d, a: d),
    "sigmoid": (lambda s, z: s.sigmoid(z), lambda s, d, a: d * (a - a * a)),
    "tanh": (lambda s, z: s.tanh(z), lambda s, d, a: d * (s.const(1.0) - a * a)),
    "relu": (lambda s, z: _if_positive(s, z, z), lambda s, d, a: _if_positive(s, a, d)),
    "step": (_step, lambda s, d, a: d),
}
UNIT_SLOPE = ("identity", "step")  # nothing to multiply the delta by
