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
    "imputed": "(x, fill) => x.map((v, i) => (Number.isNaN(v) ? fill[i] : v))",
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

# And by the names of `numpy_columns`.
FUNCTIONS_OF_COLUMNS = {
    "numbers": """(x, column, centre, scale, limit, cuts, edges) => {
  const gone = Number.isNaN(x[column]), v = gone ? centre : x[column];
  const within = (y, least, most) => Math.min(Math.max(y, least), most);
  const z = within((v - centre) / scale, -1e100, 1e100), parts = [z / Math.sqrt(1 + (z / limit) ** 2)];
  if (cuts.length) {
    const n = cuts.length - 1, next = cuts.findIndex((cut) => v < cut), i = next - 1;
    const rank = next < 0 ? n : next && i + (v - cuts[i]) / (cuts[next] - cuts[i]);
    parts.push(1.7 * ((2 * rank) / n - 1));
  }
  for (let i = 1; i < edges.length; i++) parts.push(within((v - edges[i - 1]) / (edges[i] - edges[i - 1]), 0, 1));
  return Float64Array.from(parts, (part) => (gone ? 0 : part));
}""",
    "shifted_columns": "(x, which, shift, scale) => Float64Array.from(which, (i, j) => (x[i] - shift[j]) * scale[j])",
    "contrast": "(x, column, low, high) => Float64Array.of((x[column] === high) - (x[column] === low))",
    "one_hot": "(x, column, places) => Float64Array.from(places, (place) => (x[column] === place ? 1 : 0))",
    "codes": "(x, column) => Float64Array.of(x[column] || 0)",
    "missing": "(x, column) => Float64Array.of(Number.isNaN(x[column]) ? 1 : 0)",
    "date_parts": """(x, column) => {
  const { floor } = Math, v = x[column], day = floor(v), shifted = day + 719468, era = floor(shifted / 146097);
  const ofEra = shifted - era * 146097;
  const years = floor((ofEra - floor(ofEra / 1460) + floor(ofEra / 36524) - floor(ofEra / 146096)) / 365);
  const ofYears = ofEra - (365 * years + floor(years / 4) - floor(years / 100));
  const year = years + era * 400 + (ofYears >= 306 ? 1 : 0), before = year - 1;
  const first = 365 * before + floor(before / 4) - floor(before / 100) + floor(before / 400) - 719162;
  const leap = year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0), ofYear = (v - first) / (leap ? 366 : 365);
  return Float64Array.of(year + ofYear, ofYear, v - day, (((day + 3) % 7) + 7) % 7);
}""",
    "cycle": """(x, column) => {
  const v = 2 * Math.PI * x[column];
  return Number.isNaN(v) ? new Float64Array(2) : Float64Array.of(Math.sin(v), Math.cos(v));
}""",
}
# Of each kind of column: the number of a value that is there, and NaN for one that is none.
READERS = {
    "number": r"""(v) => {
  const none = typeof v === "string" ? !/^\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*$/i.test(v) : typeof v === "object";
  return none ? NaN : Number(v);
}""",
    "boolean": '(v) => ["false", "False", "0"].includes(String(v)) ? 0 : '
    '["true", "True", "1"].includes(String(v)) ? 1 : NaN',
    "date": r"""(v) => {
  if (v instanceof Date) return v.getTime() / 864e5;
  const part = /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d)(?::(\d\d)(?::(\d\d)(?:[.,](\d{1,6})\d*)?)?)?(?:Z|[+-]\d\d:?\d\d)?)?$/;
  const [, day, hour = "00", minute = "00", second = "00", rest = ""] = part.exec(v) ?? [];
  const time = new Date(`${day}T${hour}:${minute}:${second}Z`), there = time.getTime();
  if (Number.isNaN(there) || !time.toISOString().startsWith(day)) return NaN;
  return (there * 1000 + Number(rest.padEnd(6, "0"))) / 864e8;
}""",
    "duration": '(v) => (typeof v === "number" ? v : NaN)',
    "category": """(v, places, ofText) => {
  const number = readers.number(v);
  if (!ofText) return Math.abs(number) <= 1e300 ? places.get(number) ?? 0 : NaN;
  if (typeof v === "string") return places.get(v) ?? 0;
  return places.get(v === true ? "True" : v === false ? "False" : String(number)) ?? NaN;
}""",
}
READERS["known category"] = "(v, places, ofText) => readers.category(v, places, ofText) || NaN"
READERS["known category or nothing"] = READERS["known category"]
READ_ROW = Template("""\
function read(row) {
  if (row?.length !== $n) throw new RangeError("a row must have $n numbers, got " + row?.length);
  return Float64Array.from(row);
}""")
READ_COLUMNS = Template("""\
const places = COLUMNS.map(([, , known]) => new Map(known.map((value, i) => [value, i + 1])));
const readers = {
$readers
};

function read(row) {
  if ($wrong) throw new RangeError("a row must be $expected, got " + $found);
  return Float64Array.from(COLUMNS, ([key, kind, known], i) => {
    if (!(key in row)) throw new RangeError("a row must have the column " + JSON.stringify(key));
    const v = row[key];
    const gone = v === null || v === undefined || (v instanceof Date ? Number.isNaN(v.getTime()) : Number.isNaN(v));
    if (gone && kind !== "known category") return NaN;
    const found = gone ? NaN : readers[kind](v, places[i], typeof known[0] === "string");
    if (Math.abs(found) <= 1e300) return found;
    const what = kind.startsWith("known") ? kind : kind + " or nothing";
    throw new RangeError("column " + JSON.stringify(key) + " must hold a " + what + ", got " + String(v));
  });
}""")

FILE = Template("""\
// $name: a trained network of $n_inputs inputs, $n_outputs outputs and $n_parameters parameters, which fastnn wrote.
// A row x is $takes. It is computed in float64$rounding.
// Run by node, it tests itself.

${columns}export const features = $features;
export const labels = $labels;

const PARAMETERS = "$parameters";
const ROWS = "$rows";
$recorded
const floats = (text, kind = $array) => new kind(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);

function arrays(numbers, shapes) {
  let at = 0;
  const take = (n) => numbers.subarray(at, (at += n));
  return shapes.map(([n, m]) => (m ? Array.from({ length: n }, () => take(m)) : take(n)));
}

$functions

const w = arrays(floats(PARAMETERS), $shapes);
${statistics}
$read

function outputs(x) {
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
  const numbers = floats(ROWS$recorded_kind), expected = numbers.subarray($n_rows * $n_inputs);
  const worse = (a, b) => Math.max(a, b >= 0 ? b : Infinity);
  let error = 0, ulp = 0, wrong = 0;
  for (let r = 0; r < $n_rows; r++) {
    const found = outputs(new Float64Array(numbers.subarray(r * $n_inputs, (r + 1) * $n_inputs)));
    found.forEach((v, i) => {
      const y = expected[r * $n_outputs + i], size = Math.abs(y);
      if (v === y || Object.is(v, y)) return;
      error = worse(error, Math.abs(v - y) / Math.max(1, size));
      ulp = worse(ulp, Math.abs(v - y) / 2 ** (Math.max(Math.floor(Math.log2(size)), $least) - $digits));
    });
$wrong  }
  const bytes = (label) => (typeof label === "number" ? new Uint8Array(Float64Array.of(label).buffer) : label);
  const intact = crc32([PARAMETERS, $checked, labels?.map(bytes)].join()) === $checksum;
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
LARGEST = "labels[y.reduce((best, v, i) => (v > y[best] ? i : best), 0)]"
# Of a dtype: the exponent of the smallest normal number, and the bits behind the point.
EXPONENTS = {"float32": (-126, 23), "float64": (-1022, 52)}


def written(computation: Computation, test: SelfTest, name: str, expressions: Mapping[str, str]) -> bytes:
    """The file, in ASCII but for the expressions, which are of a number x."""
    script, decision = Script.of(computation, test, expressions), computation.decision
    single, (least, digits) = computation.dtype == "float32", EXPONENTS[computation.dtype]
    functions = [f"const {each} = {(FUNCTIONS | FUNCTIONS_OF_COLUMNS)[each]};" for each in script.functions]
    functions += [f"const {each} = (x) => x.map((x) => (\n{text}\n));" for each, text in script.own.items()]
    rounded = ".map(Math.fround)" if single else ""
    steps = [f"const v0 = x{rounded};"] if script.reads_rounded else []
    steps += [f"const v{i} = {call};" for i, call in enumerate(script.calls, 1)]
    facts = _of_inputs(computation, script)
    checked = [script.parameters, *facts.pop("checked_texts")]
    facts |= {"labels": "null", "recorded": "", "wrong": ""}
    if decision.labels is not None:
        labels = plain_labels(decision.labels)
        big = any(isinstance(label, int) and abs(label) > 2**53 for label in labels)
        checked.append(",".join(_checked(label, big) for label in labels))
        facts["labels"] = _literal(labels, big)
        facts["recorded"] = f"const LABELS = {_literal(test.predictions.tolist(), big)};\n"
        facts["wrong"] = "    if (String(decide(found)) !== String(LABELS[r])) wrong++;\n"
    else:
        checked.append("")
    facts |= {
        "name": name,
        "n_inputs": computation.n_inputs,
        "n_outputs": computation.n_outputs,
        "n_parameters": f"{computation.n_parameters:,}",
        "n_rows": len(test.inputs),
        "rounding": f"; {'' if computation.inputs else 'inputs and '}outputs are float32" if single else "",
        "array": "Float32Array" if single else "Float64Array",
        "parameters": script.parameters,
        "rows": script.rows,
        "functions": "\n".join(functions),
        "shapes": script.shapes,
        "calls": "\n".join(f"  {step}" for step in steps),
        "last": f"v{len(script.calls)}{rounded}",
        "predictions": "\n".join(_predictions(computation)),
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


def _of_inputs(computation: Computation, script: Script) -> dict[str, Any]:
    """What a file says of its rows; "checked" is what the checksum is of beside parameters and labels."""
    if not computation.inputs:
        n, names = computation.n_inputs, computation.feature_names
        return {
            "takes": f"an array or a typed array of {n} numbers",
            "columns": "",
            "statistics": "",
            "recorded_kind": "",
            "features": json.dumps(names),
            "read": READ_ROW.substitute(n=n),
            "checked": "features",
            "checked_texts": [",".join(names or ())],
        }
    columns, n = [[each.key, each.kind, list(each.values)] for each in computation.inputs], computation.n_positions
    if len({str(each.key) for each in computation.inputs}) < len(columns):
        raise ValueError(f"JavaScript takes columns whose names differ as text, got {[key for key, *_ in columns]}")
    kinds = {each.kind for each in computation.inputs}
    kinds |= {"category", "number"} if any("category" in kind for kind in kinds) else set()
    takes = f"an array of {n} values" if n else "an object of columns"
    return {
        "takes": takes,
        "columns": f"const COLUMNS = {json.dumps(columns)};\n",
        "statistics": f'const STATISTICS = "{script.statistics}";\n'
        f"const c = arrays(floats(STATISTICS, Float64Array), {script.column_shapes});\n",
        "recorded_kind": ", Float64Array",
        "features": "null" if n else "COLUMNS.map(([key]) => key)",
        "read": READ_COLUMNS.substitute(
            readers="\n".join(f"  {json.dumps(each)}: {text}," for each, text in READERS.items() if each in kinds),
            wrong=f"row?.length !== {n}" if n else 'row === null || typeof row !== "object"',
            expected=takes,
            found="row?.length" if n else "row",
        ),
        "checked": "STATISTICS, COLUMNS.flat(2).map(bytes)",
        "checked_texts": [script.statistics, ",".join(map(_flat, columns))],
    }


def _flat(column: list[Any]) -> str:
    """A column as the checksum reads it. Raises ValueError for known values that are no float64."""
    key, kind, values = column
    for value in values:
        if isinstance(value, int) and abs(value) > 2**53:
            raise ValueError(f"JavaScript takes categories up to 2**53 in size, column {key!r} has {value}")
    return ",".join(_checked(each, False) for each in (key, kind, *values))


def _literal(values: list[Any], big: bool) -> str:
    """Labels in JavaScript; integers as BigInt where one of them is no float64."""
    return f"[{', '.join(f'{each}n' if big and type(each) is int else json.dumps(each) for each in values)}]"


def _checked(label: Any, big: bool) -> str:
    """A label as the checksum reads it: a number is the bytes of its float64."""
    if isinstance(label, (bool, str)):
        return label if isinstance(label, str) else json.dumps(label)
    return str(label) if big and isinstance(label, int) else ",".join(map(str, struct.pack("<d", label)))


def _predictions(computation: Computation) -> list[str]:
    """The functions of a row x, and of outputs y where there are classes."""
    decision, n = computation.decision, computation.n_outputs
    found = {"predict": "outputs(read(x))"}
    if decision.deviations:
        found = {
            "predict": f"outputs(read(x)).subarray(0, {n // 2})",
            "predictStd": f"outputs(read(x)).subarray({n // 2})",
        }
    one, lines = decision.kind == CLASSES and n == 1, list[str]()
    if decision.kind != NUMBERS:
        above = f"> {decision.threshold!r} ? 1 : 0"
        several = f"Array.from(y, (v) => (v {above}))"
        decided = several if decision.kind == LABELS else f"labels[y[0] {above}]" if one else LARGEST
        lines.append(f"const decide = (y) => {decided};")
        if decision.probabilities:
            lines += ["const both = ([v]) => Float64Array.of(1 - v, v);"] if one else []
            found["probabilities"] = "both(outputs(read(x)))" if one else "outputs(read(x))"
        found["classify"] = "decide(outputs(read(x)))"
    return lines + [f"export const {each} = (x) => {how};" for each, how in found.items()]
