"""A network of integers as a header of C99 and C++11, which needs neither a library nor a unit for floats.

Inputs and outputs are float, whose bits are taken apart and put together as integers. Functions are those of
`integer_steps`, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from . import c_functions
from .c_functions import needed, translated
from .c_text import Header
from .computation import LABELS
from .integer_steps import FIXED_MOST, FRACTION, LEAST, MOST, PER_LOG2, POWERS, UNIT
from .quantizing import Layer, Quantized
from .self_test import SelfTest

POWER = str(POWERS[-1])
for _each in POWERS[-2::-1]:
    POWER = f"({_each} + @multiplied({POWER}, fraction, {FRACTION}))"

# In the order in which they stand in a file: each calls only those above it.
FUNCTIONS = {
    **{name: c_functions.FUNCTIONS[name] for name in ("bits", "of_bits")},
    "halved": """
/* x / 2^shift, rounded down. */
static inline int64_t @halved(int64_t x, int shift)
{
    return x < 0 ? ~(~x >> shift) : x >> shift;
}
""",
    "multiplied": """
/* x * y / 2^shift, rounded down. */
static inline int64_t @multiplied(int64_t x, int64_t y, int shift)
{
    return @halved(x * y, shift);
}
""",
    "scaled": """
/* x * multiplier / 2^shift, rounded to the nearest. */
static inline int64_t @scaled(int32_t x, int32_t multiplier, int shift)
{
    return @halved((int64_t)x * multiplier + ((int64_t)1 << (shift - 1)), shift);
}
""",
    "int8": f"""
static inline int8_t @int8(int64_t x, int32_t least)
{{
    return (int8_t)(x < least ? least : x > {MOST} ? {MOST} : x);
}}
""",
    "fixed": f"""
/* x * 2^bits, rounded to the nearest, at most 2^30 in size, by the bits of x, which is no NaN. */
static inline int32_t @fixed(uint32_t x, int bits)
{{
    const uint32_t exponent = x >> 23 & 255, part = x & 0x7fffff, number = exponent ? part | 0x800000 : part;
    const int shift = (int)(exponent ? exponent : 1) - 150 + bits;
    int32_t size = 0;
    if (shift > 6) size = {FIXED_MOST};
    else if (shift >= 0) size = (int32_t)(number << shift);
    else if (shift > -26) size = (int32_t)((number + ((uint32_t)1 << (-shift - 1))) >> -shift);
    return x >> 31 ? -size : size;
}}
""",
    "number": """
/* x / 2^bits, rounded to the nearest, even in doubt. */
static inline float @number(int32_t x, int bits)
{
    uint32_t size = x < 0 ? (uint32_t)0 - (uint32_t)x : (uint32_t)x;
    int32_t exponent = 127 + 23 - bits;
    if (size == 0) return @of_bits(0);
    while (size < 0x800000) {
        size <<= 1;
        exponent--;
    }
    if (size > 0xffffff) {
        int drop = 1;
        while (size >> drop > 0xffffff) drop++;
        size = (size + (((uint32_t)1 << (drop - 1)) - 1) + (size >> drop & 1)) >> drop;
        exponent += drop;
    }
    return @of_bits(((uint32_t)exponent << 23) + (size - 0x800000) + (x < 0 ? 0x80000000u : 0));
}
""",
    "exponential": f"""
/* e^-x for x >= 0 in fixed point, times 2^{UNIT}. */
static inline int32_t @exponential(int32_t x, int bits)
{{
    const int64_t exponent = @multiplied(x, {PER_LOG2}, {UNIT - FRACTION} + bits), whole = exponent >> {FRACTION};
    const int64_t fraction = exponent & {2**FRACTION - 1};
    return (int32_t)({POWER} >> (whole > {UNIT} ? {UNIT + 1} : whole));
}}
""",
    "inverse": f"""
/* 2^(2 * {UNIT} + *shift) / x for x >= 2^{UNIT}, by one of Newton's steps. */
static inline int64_t @inverse(int64_t x, int *shift)
{{
    for (*shift = 0; x >> {UNIT + 1}; ++*shift) x >>= 1;
    const int64_t first = (int64_t)(0xffffffffu / (uint32_t)(x >> 15));
    return (first * (((int64_t)1 << {UNIT + 1}) - ((x * first) >> 17))) >> 17;
}}
""",
    "sigmoid": f"""
/* 1 / (1 + e^-x), times 2^{UNIT}. */
static inline int32_t @sigmoid(int32_t x, int bits)
{{
    const int32_t e = @exponential(x < 0 ? -x : x, bits);
    int shift;
    const int64_t y = @inverse(((int64_t)1 << {UNIT}) + e, &shift);
    return (int32_t)((x < 0 ? e : (int64_t)1 << {UNIT}) * y >> ({UNIT} + shift));
}}
""",
    "softmax": f"""
/* e^x / the sum of e^x, times 2^{UNIT}, in place. */
static inline void @softmax(int32_t *x, int bits, int32_t n)
{{
    int32_t most = x[0];
    int64_t sum = 0;
    int shift;
    for (int32_t j = 1; j < n; j++) most = x[j] > most ? x[j] : most;
    for (int32_t j = 0; j < n; j++) sum += x[j] = @exponential(most - x[j], bits);
    const int64_t y = @inverse(sum, &shift);
    for (int32_t j = 0; j < n; j++) x[j] = (int32_t)(x[j] * y >> ({UNIT} + shift));
}}
""",
    "interpolated": """
/* A function by its values at first and at each 2^shift further, n + 1 of them. */
static inline int32_t @interpolated(int32_t x, const int32_t *table, int32_t first, int shift, int32_t n)
{
    const int64_t most = ((int64_t)n << shift) - 1, beyond = (int64_t)x - first;
    const int64_t at = beyond < 0 ? 0 : beyond > most ? most : beyond, place = at >> shift;
    const int64_t low = table[place];
    return (int32_t)(low + @multiplied(table[place + 1] - low, at - (place << shift), shift));
}
""",
    "sum": """
/* sum + x w, of n numbers. */
static inline int32_t @sum(const int8_t *x, const int8_t *w, int32_t n, int32_t sum)
{
    for (int32_t j = 0; j < n; j++) sum += (int32_t)x[j] * w[j];
    return sum;
}
""",
    "layer": """
/* m sums of n numbers, as int8. */
static inline void @layer(const int8_t *x, int32_t n, const int8_t *w, const int32_t *bias, const int32_t *multiplier,
                          const uint8_t *shift, int32_t zero, int32_t least, int8_t *y, int32_t m)
{
    for (int32_t i = 0; i < m; i++, w += n) {
        y[i] = @int8(@scaled(@sum(x, w, n, bias[i]), multiplier[i], shift[i]) + zero, least);
    }
}
""",
    "curved": f"""
/* What a table says of n numbers, in place. */
static inline void @curved(int8_t *y, const int8_t *table, int32_t n)
{{
    for (int32_t i = 0; i < n; i++) y[i] = table[y[i] + {-LEAST}];
}}
""",
}


class IntegerHeader(Header):
    """A header of a network of integers."""

    def __init__(self, network: Quantized, name: str):
        super().__init__(network.computation, name)
        self.network = network

    def text(self, test: SelfTest) -> str:
        """The whole file."""
        parts = [self._quantize(), self._sums(), self._outputs(), *self._predict(), *self._decisions()]
        code = "\n\n".join([*(FUNCTIONS[each].strip() for each in needed("\n".join(parts), FUNCTIONS)), *parts])
        layers = self.network.layers
        weights, biases = sum(layer.weight.size for layer in layers), sum(len(layer.bias) for layer in layers)
        stack = (
            self.computation.n_inputs + sum(layer.weight.shape[0] for layer in layers[:-1]) + 4 * len(layers[-1].bias)
        )
        comment = [
            f"{weights + biases:,} parameters, {weights:,} multiply-adds a row, int8.",
            f"{self.table_bytes:,} bytes of tables, which are constant; {stack:,} bytes of numbers on the stack.",
            "All arithmetic is of integers: the functions take float and give float by the bits of it.",
        ]
        return self.whole(comment, [translated(code, self.name, "float32")], test)

    # ---- functions ----

    def _quantize(self) -> str:
        inputs = self.network.inputs
        names = [
            self.table(what, array, kind)
            for what, array, kind in (
                ("bits", inputs.bits, "int16_t"),
                ("zero", inputs.zero, "int32_t"),
                ("multiplier", inputs.multiplier, "int32_t"),
                ("shift", inputs.shift, "uint8_t"),
            )
        ]
        bits, zero, multiplier, shift = names
        return f"""/* Inputs x[{self.macro}_INPUTS] as int8, each in a scale of its own; NaN is the middle of it. */
static inline void @quantize(const float *x, int8_t *q)
{{
    for (int32_t j = 0; j < {self.macro}_INPUTS; j++) {{
        const uint32_t word = @bits(x[j]);
        const int64_t at = @scaled(@fixed(word, {bits}[j]) - {zero}[j], {multiplier}[j], {shift}[j]);
        q[j] = (word & 0x7fffffff) > 0x7f800000 ? (int8_t)0 : @int8(at, {LEAST});
    }}
}}"""

    def _operands(self, layer: Layer) -> str:
        """The arguments of a layer's function up to its shifts."""
        weight = self.table("weight", layer.weight, "int8_t")
        arrays = [
            ("bias", layer.bias, "int32_t"),
            ("multiplier", layer.multiplier, "int32_t"),
            ("shift", layer.shift, "uint8_t"),
        ]
        return ", ".join([str(layer.weight.shape[1]), weight, *(self.table(*each) for each in arrays)])

    def _statements(self) -> Iterator[str]:
        read = "q"
        for i, layer in enumerate(self.network.layers[:-1]):
            units, y = len(layer.bias), f"y{i}"
            yield f"int8_t {y}[{units}];"
            yield f"@layer({read}, {self._operands(layer)}, {layer.zero}, {layer.least}, {y}, {units});"
            if layer.table is not None:
                yield f"@curved({y}, {self.table('table', layer.table, 'int8_t')}, {units});"
            read = y
        n, weight, bias, multiplier, shift = self._operands(self.network.head).split(", ")
        yield f"for (int32_t i = 0; i < {self.macro}_OUTPUTS; i++) {{"
        yield f"    const int32_t sum = @sum({read}, {weight} + i * {n}, {n}, {bias}[i]);"
        yield f"    z[i] = (int32_t)@scaled(sum, {multiplier}[i], {shift}[i]);"
        yield "}"

    def _sums(self) -> str:
        body = "\n".join(f"    {line}" for line in self._statements())
        return (
            f"/* The last layer's sums z[{self.macro}_OUTPUTS], times 2^{self.network.bits}, of int8. */\n"
            f"static inline void @sums(const int8_t *q, int32_t *z)\n{{\n{body}\n}}"
        )

    def _outputs(self) -> str:
        network, n = self.network, f"{self.macro}_OUTPUTS"
        function, bits = network.head.function, network.fixed_outputs(np.zeros((1, 1), np.int64))[1]
        each = {"sigmoid": f"@sigmoid(z[j], {network.bits})", "relu": "z[j] < 0 ? 0 : z[j]", "step": "z[j] > 0"}.get(
            function
        )
        if network.curve is not None:
            curve = network.curve
            table = self.table("curve", curve.table, "int32_t")
            each = f"@interpolated(z[j], {table}, {curve.first}, {curve.shift}, {len(curve.table) - 1})"
        lines = [f"for (int32_t j = 0; j < {n}; j++) z[j] = {each};"] if each else []
        lines += [f"@softmax(z, {network.bits}, {n});"] if function == "softmax" else []
        body = "\n".join(f"    {line}" for line in lines) or "    (void)z;"
        return f"/* Sums become outputs, times 2^{bits}. */\nstatic inline void @activate(int32_t *z)\n{{\n{body}\n}}"

    def _predict(self) -> list[str]:
        macro, bits = self.macro, self.network.fixed_outputs(np.zeros((1, 1), np.int64))[1]
        return [
            f"""/* The outputs y[{macro}_OUTPUTS] for inputs x[{macro}_INPUTS]; the arrays must not overlap. */
static inline void @predict(const float *x, float *y)
{{
    int8_t q[{macro}_INPUTS];
    int32_t z[{macro}_OUTPUTS];
    @quantize(x, q);
    @sums(q, z);
    @activate(z);
    for (int32_t j = 0; j < {macro}_OUTPUTS; j++) y[j] = @number(z[j], {bits});
}}""",
            f"""/* The same for n rows, one after another. */
static inline void @predict_rows(const float *x, float *y, int32_t n)
{{
    for (; n > 0; n--) {{
        @predict(x, y);
        x += {macro}_INPUTS;
        y += {macro}_OUTPUTS;
    }}
}}""",
        ]

    def _decisions(self) -> list[str]:
        """The functions that decide."""
        by_sums = self.network.decides_by_sums
        lines = [
            f"int8_t q[{self.macro}_INPUTS];",
            f"int32_t z[{self.macro}_OUTPUTS];",
            "@quantize(x, q);",
            "@sums(q, z);",
        ]
        lines += [] if by_sums else ["@activate(z);"]
        by = f"the sums of {self.name}_sums" if by_sums else f"sums after {self.name}_activate"
        return self.decisions("z", "int32_t", by, str(self.network.threshold), lines)

    def decided(self, test: SelfTest) -> NDArray[np.int32]:
        """All decisions of the self test, none of which rounding can turn."""
        labels = self.computation.decision.labels
        if labels is None or self.computation.decision.kind == LABELS:
            return test.predictions.astype(np.int32)
        order = {label: i for i, label in enumerate(labels.tolist())}
        return np.array([[order[each]] for each in test.predictions.tolist()], np.int32)
