"""What the steps of a computation are in C: the text of each, and of the functions that it calls.

The functions need no library. They take no branches, so that compilers turn loops over them into vector code without
-ffast-math: a select of floats becomes a branch there, hence masks of bits. Rounding is the same wherever
multiplications and additions are not fused. All is written for both dtypes: `real` is the type, `@` the name of the
export, words in capitals are constants of the dtype, and a number with a point is one of the type.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ..kernels.cpu.simd import Simd
from ..kernels.formulas.activations import ALPHA, LEAK, SCALE

# ---- functions of numbers ----

# In the order in which they stand in a file: each calls only those above it.
FUNCTIONS = {
    "of_bits": """
static inline real @of_bits(bits_t bits)
{
#if defined(__cplusplus) && defined(__GNUC__) /* C++ has no other way that the standard allows */
    real x;
    __builtin_memcpy(&x, &bits, sizeof x);
    return x;
#else
    union { bits_t bits; real number; } both;
    both.bits = bits;
    return both.number;
#endif
}
""",
    "bits": """
static inline bits_t @bits(real x)
{
#if defined(__cplusplus) && defined(__GNUC__)
    bits_t bits;
    __builtin_memcpy(&bits, &x, sizeof bits);
    return bits;
#else
    union { bits_t bits; real number; } both;
    both.number = x;
    return both.bits;
#endif
}
""",
    "either": """
/* a where the condition is 1, b where it is 0. */
static inline real @either(int condition, real a, real b)
{
    const bits_t mask = (bits_t)0 - (bits_t)condition;
    return @of_bits((@bits(a) & mask) | (@bits(b) & ~mask));
}
""",
    "or_nan": """
/* y, or NaN where x is NaN. */
static inline real @or_nan(real y, real x)
{
    return @of_bits(@bits(y) | (((bits_t)0 - (bits_t)(x != x)) & NAN_BITS));
}
""",
    "fabs": """
static inline real @fabs(real x)
{
    return @of_bits(@bits(x) & SIZE_BITS);
}
""",
    "signed": """
/* A number that is not negative with the sign of x. */
static inline real @signed(real size, real x)
{
    return @of_bits(@bits(size) | (@bits(x) & SIGN_BIT));
}
""",
    "within": """
/* x, or the limit with its sign where x is larger in size or NaN. */
static inline real @within(real x, real limit)
{
    const int_t size = (int_t)(@bits(x) & SIZE_BITS), most = (int_t)@bits(limit);
    return @of_bits((bits_t)(size < most ? size : most) | (@bits(x) & SIGN_BIT));
}
""",
    "power_of_two": """
static inline real @power_of_two(int32_t k)
{
    return @of_bits((bits_t)(k + BIAS) << SHIFT);
}
""",
    "halvings": """
/* How often log(2) is in x, to the nearest. */
static inline int32_t @halvings(real x)
{
    const real k = x * PER_LOG2;
    return (int32_t)(k + @signed(0.5, k));
}
""",
    "exp": """
static inline real @exp(real x)
{
    const real at = @within(x, EXP_LIMIT);
    const int32_t k = @halvings(at), half = k / 2;
    const real r = (at - (real)k * LOG2_HIGH) - (real)k * LOG2_LOW;
    const real e = (EXP_SERIES * (r * r) + r) + 1.0;
    return @or_nan(e * @power_of_two(half) * @power_of_two(k - half), x);
}
""",
    "expm1": """
/* e^x - 1 for x <= 0. */
static inline real @expm1(real x)
{
    const real at = @within(x, 60.0);
    const int32_t k = @halvings(at);
    const real r = (at - (real)k * LOG2_HIGH) - (real)k * LOG2_LOW;
    const real e = EXP_SERIES * (r * r) + r, scale = @power_of_two(k);
    return @or_nan(e * scale + (scale - 1.0), x);
}
""",
    "log1p": """
/* log(1 + x) for 0 <= x <= 1: twice the area tangent of x / (2 + x). */
static inline real @log1p(real x)
{
    const real s = x / (2.0 + x), z = s * s;
    return 2.0 * (s + s * z * LOG_SERIES);
}
""",
    "sqrt": """
/* The root of a number that is not negative and not subnormal, by Newton's steps. */
static inline real @sqrt(real x)
{
    real y = @of_bits((@bits(x) >> 1) + ROOT_BITS);
    for (int i = 0; i < ROOT_STEPS; i++) y = 0.5 * (y + x / y);
    return 0.5 * x < x ? y : x; /* 0 and infinity as they are */
}
""",
    "tanh": """
static inline real @tanh(real x)
{
    const real m = @expm1(-2.0 * @fabs(x));
    return @signed(-m / (2.0 + m), x);
}
""",
    "sigmoid": """
static inline real @sigmoid(real x)
{
    const real e = @exp(-@fabs(x));
    return @either(x < 0.0, e, 1.0) / (1.0 + e);
}
""",
    "softplus": """
static inline real @softplus(real x)
{
    return @either(x < 0.0, 0.0, x) + @log1p(@exp(-@fabs(x)));
}
""",
    "elu": """
static inline real @elu(real x)
{
    return @either(x > 0.0, x, @expm1(x));
}
""",
    "selu": """
static inline real @selu(real x)
{
    return SELU_SCALE * @either(x > 0.0, x, SELU_ALPHA * @expm1(x));
}
""",
    "gelu": """
/* x Phi(x). The tail is e^(-w^2 / 2) times a series; w^2 is a square without rounding and the rest of it. */
static inline real @gelu(real x)
{
    const real w = @fabs(@within(x, TAIL_LIMIT));
    const real high = (real)(int32_t)(w * TAIL_STEPS + 0.5) / TAIL_STEPS;
    const real rest = 0.5 * (w - high) * (w + high);
    const real less = 1.0 - rest * (1.0 - rest * (0.5 - rest * (SIXTH - rest * TWENTY_FOURTH)));
    const real t = (w - TAIL_CENTRE) / (w + TAIL_CENTRE);
    const real tail = @exp(-0.5 * (high * high)) * less * TAIL_SERIES / (w + TAIL_CENTRE);
    return @or_nan(@either(x < 0.0, tail, 1.0 - tail) * @either(x < -TAIL_LIMIT, -TAIL_LIMIT, x), x);
}
""",
    "silu": """
static inline real @silu(real x)
{
    return @sigmoid(x) * @either(x < -1000.0, -1000.0, x);
}
""",
    "mish": """
/* x n / (n + 2) with n = e^x (e^x + 2), by the exponential that is at most 1. */
static inline real @mish(real x)
{
    const real e = @exp(-@fabs(x));
    const real n = @either(x < 0.0, e * (e + 2.0), 1.0 + 2.0 * e);
    return n / (n + @either(x < 0.0, 2.0, 2.0 * e * e)) * @either(x < -1000.0, -1000.0, x);
}
""",
    # ---- functions of arrays ----
    "dense": """
/* y[m] = bias + the products of x[n] with the columns of weight[n][m]. Inputs go four at a time; the first of them one
   by one, at least one, so that no compiler takes the loop for a copy. */
static inline void @dense(const real *x, int32_t n, const real *weight, const real *bias, real *y, int32_t m)
{
    int32_t k = (n - 1) % 4 + 1;
    for (int32_t j = 0; j < m; j++) {
        real sum = bias[j];
        for (int32_t i = 0; i < k; i++) sum += weight[i * m + j] * x[i];
        y[j] = sum;
    }
    for (; k < n; k += 4) {
        const real a = x[k], b = x[k + 1], c = x[k + 2], d = x[k + 3];
        const real *w = weight + k * m;
        for (int32_t j = 0; j < m; j++) {
            y[j] += (w[j] * a + w[m + j] * b) + (w[2 * m + j] * c + w[3 * m + j] * d);
        }
    }
}
""",
    "look_up": """
/* The row of a table for a code; NaN for what is no code. The sum keeps compilers from calling memcpy. */
static inline void @look_up(real code, const real *table, int32_t rows, real *y, int32_t m)
{
    const int32_t at = code >= 0.0 && code < (real)rows ? (int32_t)code : 0;
    const real none = (real)at == code ? 0.0 : @of_bits(NAN_BITS);
    for (int32_t j = 0; j < m; j++) y[j] = none + table[at * m + j];
}
""",
    "normalise": """
static inline void @normalise(const real *x, real *y, int32_t n, real epsilon)
{
    real mean = 0.0, variance = 0.0;
    for (int32_t j = 0; j < n; j++) mean += x[j];
    mean /= (real)n;
    for (int32_t j = 0; j < n; j++) {
        y[j] = x[j] - mean;
        variance += y[j] * y[j];
    }
    const real deviation = @sqrt(variance / (real)n + epsilon);
    for (int32_t j = 0; j < n; j++) y[j] /= deviation;
}
""",
    "softmax": """
static inline void @softmax(const real *x, real *y, int32_t n)
{
    real most = x[0], sum = 0.0;
    for (int32_t j = 1; j < n; j++) most = x[j] > most ? x[j] : most;
    for (int32_t j = 0; j < n; j++) y[j] = @exp(x[j] - most);
    for (int32_t j = 0; j < n; j++) sum += y[j];
    for (int32_t j = 0; j < n; j++) y[j] /= sum;
}
""",
    "mixture": """
/* The means y[m] of several Gaussians and the deviations y[m..] of their mixture; each has means, then deviations. */
static inline void @mixture(const real *const *x, int32_t n, real *y, int32_t m)
{
    for (int32_t j = 0; j < m; j++) {
        real mean = 0.0, inner = 0.0, outer = 0.0;
        for (int32_t i = 0; i < n; i++) {
            mean += x[i][j];
            inner += x[i][m + j] * x[i][m + j];
        }
        mean /= (real)n;
        for (int32_t i = 0; i < n; i++) outer += (x[i][j] - mean) * (x[i][j] - mean);
        y[j] = mean;
        y[m + j] = @sqrt(inner / (real)n + outer / (real)n);
    }
}
""",
}
OFFERED = ("exp", "tanh", "sigmoid", "sqrt", "fabs")  # to the expressions of a user

# ---- constants ----


def number(value: float, dtype: str) -> str:
    """A number as C has it, which reads back as the same; raises ValueError for what is none."""
    if not math.isfinite(value):
        raise ValueError(f"all numbers in a C header must be finite, got {float(value)}")
    text = f"{value:.9g}" if dtype == "float32" else f"{value:.17g}"
    return (text if re.search("[.e]", text) else f"{text}.0") + ("f" if dtype == "float32" else "")


def in_comment(text: str) -> str:
    """A text that neither ends a comment nor begins one."""
    return re.sub(r"\*(?=/)|/(?=\*)", r"\g<0> ", text).replace("??", "? ?")


def _horner(x: str, coefficients: Iterable[float], dtype: str) -> str:
    """A polynomial of x, the highest power first."""
    found, *others = [number(each, dtype) for each in coefficients]
    for each in others:
        found = f"({found} * {x} - {each[1:]})" if each[0] == "-" else f"({found} * {x} + {each})"
    return found


def _constants(dtype: str) -> dict[str, str]:
    """The types and the words in capitals of the functions."""
    double = dtype == "float64"
    bits, fraction = (64, 52) if double else (32, 23)
    exponent = 2 ** (bits - fraction - 2) - 1
    unit = f"UINT{bits}_C"
    high, low = Simd._LOG2[double]
    numbers = {
        "PER_LOG2": 1 / math.log(2),
        "LOG2_HIGH": high,
        "LOG2_LOW": low,
        "EXP_LIMIT": 746.0 if double else 104.5,
        "SELU_SCALE": SCALE,
        "SELU_ALPHA": ALPHA,
        "LEAK": LEAK,
        "TAIL_LIMIT": 39.0 if double else 14.5,
        "TAIL_CENTRE": 5.0 if double else 4.0,
        "TAIL_STEPS": 2.0 ** (20 if double else 8),
        "SIXTH": 1 / 6,
        "TWENTY_FOURTH": 1 / 24,
    }
    # log(1 + x) / (2 s) = 1 + z / 3 + z^2 / 5 + .. with z = s^2 <= 1/9.
    logs = [1 / (2 * k + 1) for k in reversed(range(1, 17 if double else 8))]
    return {
        "real": "double" if double else "float",
        "bits_t": f"uint{bits}_t",
        "int_t": f"int{bits}_t",
        "BIAS": str(exponent),
        "SHIFT": str(fraction),
        "SIZE_BITS": f"{unit}({hex(2 ** (bits - 1) - 1)})",
        "SIGN_BIT": f"{unit}({hex(2 ** (bits - 1))})",
        "NAN_BITS": f"{unit}({hex((2 ** (bits - fraction) - 1) << (fraction - 1))})",
        # Half the exponent: then Newton's steps start within 4% of the root.
        "ROOT_BITS": f"{unit}({'0x1ff7a3bea91d9b1b' if double else '0x1fbd1df5'})",
        "ROOT_STEPS": "4" if double else "3",
        "EXP_SERIES": _horner("r", Simd.EXP64 if double else Simd.EXP32, dtype),
        "LOG_SERIES": _horner("z", logs, dtype),
        "TAIL_SERIES": _horner("t", Simd.TAIL64 if double else Simd.TAIL32, dtype),
        **{name: number(value, dtype) for name, value in numbers.items()},
    }


def translated(text: str, name: str, dtype: str) -> str:
    """C for a dtype and the name of an export."""
    if dtype == "float32":
        text = re.sub(r"(?<![\w.])(\d*\.\d+(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+)(?![\w.])", r"\1f", text)
    constants = _constants(dtype)
    text = re.sub(r"\b[A-Za-z]\w*\b", lambda word: constants.get(word[0], word[0]), text)
    return text.replace("@", f"{name}_")


def needed(text: str, functions: Mapping[str, str] = FUNCTIONS) -> list[str]:
    """The functions that a text calls, and those that they call, in their order."""
    found, waiting = set[str](), [text]
    while waiting:
        calls = {each for each in re.findall(r"@(\w+)", waiting.pop()) if each in functions}
        waiting += [functions[each] for each in calls - found]
        found |= calls
    return [each for each in functions if each in found]


# ---- steps ----


@dataclass(frozen=True)
class Place:
    """Where a value lies: from a number of an array on, and its width."""

    array: str
    first: int
    width: int

    @property
    def pointer(self) -> str:
        """The address of its first number."""
        return f"{self.array} + {self.first}" if self.first else self.array

    def at(self, j: str) -> str:
        """Number j of it."""
        return f"{self.array}[{self.first} + {j}]" if self.first else f"{self.array}[{j}]"


@dataclass(frozen=True)
class Call:
    """A step, as the text of it needs it: places, and operands as numbers or names of tables."""

    reads: tuple[Place, ...]
    to: Place
    operands: Mapping[str, str]


@dataclass(frozen=True)
class Writer:
    """What writes a kind of step: its text, and whether its value may lie where the first one lay that it reads."""

    text: Callable[[Call], str]
    in_place: bool = False


def looped(place: Place, expression: str) -> str:
    """A loop that gives each number of a value."""
    return f"for (int32_t j = 0; j < {place.width}; j++) {place.at('j')} = {expression};"


def _substituted(text: str, words: Mapping[str, str]) -> str:
    return re.sub(r"(?<!@)\b[a-z]\w*\b", lambda word: words.get(word[0], word[0]), text)


def each(expression: str) -> Writer:
    """A step that gives each number from those in its place: x of the first value, y of the second, operands."""

    def text(call: Call) -> str:
        words = {name: read.at("j") for name, read in zip("xy", call.reads, strict=False)}
        return looped(call.to, _substituted(expression, words | dict(call.operands)))

    return Writer(text, in_place=True)


def stated(statement: str, in_place: bool = False) -> Writer:
    """A step that calls a function of arrays: x, n and to, m are the pointers and widths of what it reads and gives."""

    def text(call: Call) -> str:
        places = {"x": call.reads[0].pointer, "to": call.to.pointer}
        widths = {"n": str(call.reads[0].width), "m": str(call.to.width)}
        return _substituted(statement, {**places, **widths, **call.operands})

    return Writer(text, in_place)


def column(call: Call) -> str:
    """Number `which[j]` of what a step reads."""
    which = call.operands["which"]  # a table, or the first of columns that follow one another
    return call.reads[0].at(f"{which} + j" if which.isdigit() else f"{which}[j]")


def _looked_up(call: Call) -> str:
    code, table, rows = call.reads[0].at(call.operands["column"]), call.operands["table"], call.operands["table_rows"]
    return f"@look_up({code}, {table}, {rows}, {call.to.pointer}, {call.to.width});"


def _mixture(call: Call) -> str:
    pointers = ", ".join(read.pointer for read in call.reads)
    members = f"const real *const members[{len(call.reads)}] = {{{pointers}}};"
    return f"{{\n    {members}\n    @mixture(members, {len(call.reads)}, {call.to.pointer}, {call.to.width // 2});\n}}"


# By the names of `numpy_steps`: a new function there is an entry here. What `joined` and `mean` read is taken before,
# see `c_memory`.
WRITERS = {
    "shifted": each("((x - high[j]) - low[j]) * scale[j]"),
    "columns": Writer(lambda call: looped(call.to, f"0.0 + {column(call)}")),
    "looked_up": Writer(_looked_up),
    "joined": each("0.0 + x"),  # of a part; the sum keeps compilers from calling memcpy
    "dense": stated("@dense(x, n, weight, bias, to, m);"),
    "affine": each("x * factor[j] + shift[j]"),
    "normalised": stated("@normalise(x, to, m, epsilon);", in_place=True),
    "added": each("x + y"),
    "sloped": each("@either(x > 0.0, x, x * slope[j])"),
    "mean": each("x / count"),
    "clipped": each("x < least[j] ? least[j] : x > most[j] ? most[j] : x"),
    "imputed": each("@either(x != x, fill[j], x)"),
    "deviations": each("@sqrt(@exp(x) + least)"),
    "mixture": Writer(_mixture),
    "sigmoid": each("@sigmoid(x)"),
    "hard_sigmoid": each("@either(x < -3.0, 0.0, @either(x > 3.0, 1.0, (x + 3.0) / 6.0))"),
    "tanh": each("@tanh(x)"),
    "exp": each("@exp(x)"),
    "step": each("@or_nan((real)(x > 0.0), x)"),
    "softplus": each("@softplus(x)"),
    "relu": each("x < 0.0 ? 0.0 : x"),
    "leaky_relu": each("@either(x > 0.0, x, LEAK * x)"),
    "elu": each("@elu(x)"),
    "selu": each("@selu(x)"),
    "gelu": each("@gelu(x)"),
    "silu": each("@silu(x)"),
    "mish": each("@mish(x)"),
    "softmax": stated("@softmax(x, to, m);", in_place=True),
}
