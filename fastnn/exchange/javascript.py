"""JavaScript out: one ES module without imports, for node and browsers."""

from __future__ import annotations

import json
import shutil
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

from . import verifying
from .computation import CLASSES, LABELS, NUMBERS, Computation
from .scripts import CHANGED, LINE, Script, plain_labels
from .self_test import SelfTest


def _of_each(expression: str) -> str:
    """A function of the numbers of a row, each for itself."""
    return f"(x) => x.map((v) => {expression})"


# By the names of `numpy_steps`: the same of one row. A value is a Float64Array (width), an operand (n,) an array of
# floats, one (n, m) an array of n of them. What gives NaN for NaN in NumPy does so here.
FUNCTIONS = {
    "shifted": "(x, high, low, scale) => x.map((v, i) => (v - high[i] - low[i]) * scale[i])",
    "columns": "(x, which) => Float64Array.from(which, (i) => x[i])",
    "looked_up": "(x, column, table) => Float64Array.from(table[x[column]] ?? table[0].map(() => NaN))",
    "joined": "(...x) => Float64Array.from(x.flatMap((each) => [...each]))",
    "dense": """(x, weight, bias) => {
  const y = new Float64Array(bias);
  weight.forEach((row, i) => {
    let sum = y[i];
    for (let j = 0; j < row.length; j++) sum += row[j] * x[j];
    y[i] = sum;
  });
  return y;
}""",
    "affine": "(x, factor, shift) => x.map((v, i) => v * factor[i] + shift[i])",
    "normalised": """(x, epsilon) => {
  const mean = (y) => y.reduce((sum, v) => sum + v, 0) / y.length, middle = mean(x);
  const scale = Math.sqrt(mean(x.map((v) => (v - middle) ** 2)) + epsilon);
  return x.map((v) => (v - middle) / scale);
}""",
    "added": "(x, y) => x.map((v, i) => v + y[i])",
    "sloped": "(x, slope) => x.map((v, i) => (v > 0 ? v : v * slope[i]))",
    "mean": "(...x) => x[0].map((_, i) => x.reduce((sum, each) => sum + each[i], 0) / x.length)",
    "clipped": "(x, least, most) => x.map((v, i) => Math.min(Math.max(v, least[i]), most[i]))",
    "deviations": "(x, least) => x.map((v) => Math.sqrt(Math.exp(v) + least))",
    "mixture": """(...x) => {
  const n = x[0].length / 2, mean = (of) => x.reduce((sum, y) => sum + of(y), 0) / x.length;
  const means = x[0].slice(0, n).map((_, i) => mean((y) => y[i]));
  return Float64Array.of(...means, ...means.map((m, i) => Math.sqrt(mean((y) => y[n + i] ** 2 + (y[i] - m) ** 2))));
}""",
    "sigmoid": _of_each("1 / (1 + Math.exp(-v))"),
    "hard_sigmoid": _of_each("Math.min(Math.max((v + 3) / 6, 0), 1)"),
    "tanh": _of_each("Math.tanh(v)"),
    "exp": _of_each("Math.exp(v)"),
    "step": _of_each("(v > 0 ? 1 : v <= 0 ? 0 : v)"),
    "softplus": _of_each("Math.max(v, 0) + Math.log1p(Math.exp(-Math.abs(v)))"),
    "relu": _of_each("Math.max(v, 0)"),
    "leaky_relu": _of_each("(v > 0 ? v : 0.01 * v)"),
    "elu": _of_each("(v > 0 ? v : Math.expm1(v))"),
    "selu": _of_each("1.0507009873554805 * (v > 0 ? v : 1.6732632423543772 * Math.expm1(v))"),
    # Near 0 the series of erf, all of whose terms are positive, far from it the continued fraction of erfc: errors of
    # both are below 1e-15 (Abramowitz and Stegun, 7.1.6 and 7.1.14).
    "gelu": """(x) => x.map((v) => {
  if (v < -40) return 0;
  const z = Math.abs(v) / Math.SQRT2, e = Math.exp(-z * z) / Math.sqrt(Math.PI);
  let tail = 0;
  if (z < 2) {
    let term = 2 * z, sum = term;
    for (let n = 1; term > 1e-18; n++) sum += term *= (2 * z * z) / (2 * n + 1);
    tail = 1 - e * sum;
  } else {
    for (let n = 60; n > 0; n--) tail = n / 2 / (z + tail);
    tail = e / (z + tail);
  }
  return v * (v < 0 ? tail / 2 : 1 - tail / 2);
})""",
    "silu": _of_each("Math.max(v, -1000) / (1 + Math.exp(-v))"),
    "mish": _of_each("Math.max(v, -1000) * Math.tanh(Math.max(v, 0) + Math.log1p(Math.exp(-Math.abs(v))))"),
    "softmax": """(x) => {
  const most = x.reduce((a, b) => Math.max(a, b)), e = x.map((v) => Math.exp(v - most));
  const sum = e.reduce((a, b) => a + b, 0);
  return e.map((v) => v / sum);
}""",
}

FILE = Template("""\
// $name: a trained network of $n_inputs inputs, $n_outputs outputs and $n_parameters parameters, which fastnn wrote.
// A row x is an array or a typed array of $n_inputs numbers. It is computed in float64$rounding.
// Run by node, it tests itself: it computes the rows that are recorded here.

export const features = $features;
export const labels = $labels;

const PARAMETERS = "$parameters";
const ROWS = "$rows";
$recorded
const floats = (text) => new $array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);

function arrays(shapes) {
  const numbers = floats(PARAMETERS);
  let at = 0;
  const take = (n) => numbers.subarray(at, (at += n));
  return shapes.map(([n, m]) => (m ? Array.from({ length: n }, () => take(m)) : take(n)));
}

$functions

const w = arrays($shapes);

function outputs(row) {
  if (row?.length !== $n_inputs) throw new RangeError("a row must have $n_inputs numbers, got " + row?.length);
  const x = Float64Array.from(row);
$calls
  return $last;
}

$predictions
export const predictRows = (rows) => Array.from(rows, (x) => predict(x));

function crc32(text) {
  let c = -1;
  for (let i = 0; i < text.length; i++) {
    c ^= text.charCodeAt(i);
    for (let k = 0; k < 16; k++) c = (c >>> 1) ^ (c & 1 && 0xedb88320);
  }
  return ~c >>> 0;
}

// How far the recorded rows are off.
export function selfTest() {
  const numbers = floats(ROWS), expected = numbers.subarray($n_rows * $n_inputs);
  const worse = (a, b) => Math.max(a, b >= 0 ? b : Infinity);
  let error = 0, ulp = 0, wrong = 0;
  for (let r = 0; r < $n_rows; r++) {
    const row = numbers.subarray(r * $n_inputs, (r + 1) * $n_inputs);
    outputs(row).forEach((v, i) => {
      const y = expected[r * $n_outputs + i], size = Math.abs(y);
      if (v === y || Object.is(v, y)) return;
      error = worse(error, Math.abs(v - y) / Math.max(1, size));
      ulp = worse(ulp, Math.abs(v - y) / 2 ** (Math.max(Math.floor(Math.log2(size)), $least) - $digits));
    });
$wrong  }
  const bytes = (label) => (typeof label === "number" ? new Uint8Array(Float64Array.of(label).buffer) : label);
  const intact = crc32([PARAMETERS, features, labels?.map(bytes)].join()) === $checksum;
  return { rows: $n_rows, error, ulp, wrong, intact, passed: error <= $tolerance && !wrong && intact };
}

const script = globalThis.process?.argv?.[1]?.split(/[\\\\/]/).pop();
if (script && decodeURIComponent(import.meta.url).endsWith("/" + script)) {
  const { error, ulp, wrong, intact, passed } = selfTest(), digits = (number) => Number(number.toPrecision(3));
  const line = "$line";
  console.log(intact ? line : line + "$changed");
  process.exitCode = passed ? 0 : 1;
}
""")
LARGEST = "labels[outputs(x).reduce((best, v, i, y) => (v > y[best] ? i : best), 0)]"
# Of a dtype: the exponent of the smallest normal number, and the bits behind the point.
EXPONENTS = {"float32": (-126, 23), "float64": (-1022, 52)}


def written(computation: Computation, test: SelfTest, name: str, expressions: Mapping[str, str]) -> bytes:
    """The file, in ASCII but for the expressions, which are of a number x."""
    script, decision = Script.of(computation, test, expressions), computation.decision
    single, (least, digits) = computation.dtype == "float32", EXPONENTS[computation.dtype]
    functions = [f"const {each} = {FUNCTIONS[each]};" for each in script.functions]
    functions += [f"const {each} = (x) => x.map((x) => (\n{text}\n));" for each, text in script.own.items()]
    rounded = ".map(Math.fround)" if single else ""
    steps = [f"const v0 = x{rounded};"] if script.reads_rounded else []
    steps += [f"const v{i} = {call};" for i, call in enumerate(script.calls, 1)]
    checked = [script.parameters, ",".join(computation.feature_names or ())]
    facts: dict[str, Any] = {"labels": "null", "recorded": "", "wrong": ""}
    if decision.labels is not None:
        labels = plain_labels(decision.labels)
        big = any(isinstance(label, int) and abs(label) > 2**53 for label in labels)
        checked.append(",".join(_checked(label, big) for label in labels))
        facts["labels"] = _literal(labels, big)
        facts["recorded"] = f"const LABELS = {_literal(test.predictions.tolist(), big)};\n"
        facts["wrong"] = "    if (String(classify(row)) !== String(LABELS[r])) wrong++;\n"
    else:
        checked.append("")
    facts |= {
        "name": name,
        "n_inputs": computation.n_inputs,
        "n_outputs": computation.n_outputs,
        "n_parameters": f"{computation.n_parameters:,}",
        "n_rows": len(test.inputs),
        "rounding": "; inputs and outputs are float32" if single else "",
        "array": "Float32Array" if single else "Float64Array",
        "features": json.dumps(computation.feature_names),
        "parameters": script.parameters,
        "rows": script.rows,
        "functions": "\n".join(functions),
        "shapes": script.shapes,
        "calls": "\n".join(f"  {step}" for step in steps),
        "last": f"v{len(script.calls)}{rounded}",
        "predictions": "\n".join(f"export const {each} = (x) => {how};" for each, how in _predictions(computation)),
        "least": least,
        "digits": digits,
        "tolerance": test.tolerance,
        "checksum": zlib.crc32(",".join(checked).encode("utf-16-le", "surrogatepass")),
        "line": LINE.format(
            rows=len(test.inputs), error='" + digits(error) + "', ulp='" + digits(ulp) + "', wrong='" + wrong + "'
        ),
        "changed": CHANGED,
    }
    return FILE.substitute(facts).encode()


def verify(path: Path) -> verifying.Verification:
    """What the self test of a file says, run by node."""
    node = shutil.which("node")
    if node is None:
        raise FileNotFoundError(f"node must be installed to run {str(path)!r}, and there is no such program")
    return verifying.of_command([node, str(path.resolve())], path)


def _literal(values: list[Any], big: bool) -> str:
    """Labels in JavaScript; integers as BigInt where one of them is no float64."""
    return f"[{', '.join(f'{each}n' if big and type(each) is int else json.dumps(each) for each in values)}]"


def _checked(label: Any, big: bool) -> str:
    """A label as the checksum reads it: a number is the bytes of its float64."""
    if isinstance(label, (bool, str)):
        return label if isinstance(label, str) else json.dumps(label)
    return str(label) if big and isinstance(label, int) else ",".join(map(str, struct.pack("<d", label)))


def _predictions(computation: Computation) -> list[tuple[str, str]]:
    """What is exported for a row x: names, and expressions of x."""
    decision, n = computation.decision, computation.n_outputs
    if decision.deviations:
        return [("predict", f"outputs(x).subarray(0, {n // 2})"), ("predictStd", f"outputs(x).subarray({n // 2})")]
    found = [("predict", "outputs(x)")]
    if decision.kind == NUMBERS:
        return found
    one = decision.kind == CLASSES and n == 1
    if decision.probabilities:
        found.append(("probabilities", "Float64Array.of(1 - outputs(x)[0], outputs(x)[0])" if one else "outputs(x)"))
    above = f"> {decision.threshold!r} ? 1 : 0"
    if decision.kind == LABELS:
        return [*found, ("classify", f"Array.from(outputs(x), (v) => (v {above}))")]
    return [*found, ("classify", f"labels[outputs(x)[0] {above}]" if one else LARGEST)]
