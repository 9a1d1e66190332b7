"""Functions of each element: activations, backward, losses, updates; and functions of a step's scalars."""

from llvmlite import ir

from ..cpu.flow import for_range, variable, variable_of
from ..cpu.simd import DOUBLE, I32, I64, Vec, int64, load_double, store_double
from ..cpu.target import LINE_BYTES
from .function import FunctionWriter, vector_function


def _each_element(code: FunctionWriter, function, rows, n, stride, out, *inputs, at_once=1):
    """out[i, j] = function(simd, *inputs[i, j]) over rows of n bytes, whole lines; out may be one of the inputs.

    The function is written for `at_once` vectors side by side, and for one vector, for those that are left over.
    """
    b, width = code.b, code.vector_bytes
    with for_range(b, rows) as row:
        start = b.mul(row, stride)
        places = [b.add(start, place) for place in (out, *inputs)]
        first = int64(0)
        for step in sorted({at_once * width, width}, reverse=True):
            s, stop = code.simd(step), b.and_(n, int64(-step))
            with for_range(b, first, stop, int64(step)) as i:
                values = [s.load(b.add(place, i)) for place in places[1:]]
                s.store(function(s, *values), b.add(places[0], i))
            first = stop


@vector_function("rows=out.rows n=out.row_bytes out.row_stride out:w[r,c]")
def fill(code, value):
    """out = value."""
    _each_element(code, lambda s: s.const(value), *code.arguments)


@vector_function("rows=out.rows n=out.row_bytes out.row_stride out:w[r,c] x:r[r,c]")
def unary(code, function):
    """out = function(simd, x), for several vectors at once."""
    _each_element(code, function, *code.arguments, at_once=code.target.vectors_at_once)


@vector_function("n=out.row_bytes out:w[1,n] x:r[1,n] due")
def group_copy(code):
    """out = x, a row, of the networks of a group that are due; due is the address of an int64 number of each."""
    b, s = code.b, code.simd()
    n, out, x, due = code.arguments
    kind = ir.VectorType(I64, s.lanes)
    numbers = b.load(b.inttoptr(due, ir.PointerType()), typ=kind, align=8)
    is_due = b.icmp_signed("!=", numbers, ir.Constant(kind, [0] * s.lanes))
    with for_range(b, int64(0), n, int64(s.vector_bytes)) as i:
        place = b.add(out, i)
        s.store(s.select(is_due, s.load(b.add(x, i)), s.load(place)), place)


@vector_function("rows=x.rows n=x.cols x.row_stride x:rw[r,c]")
def clear_padding(code):
    """x = 0 behind the last column, to the end of its line."""
    b, s = code.b, code.simd()
    rows, n, stride, x = code.arguments
    n_bytes = b.mul(n, int64(s.itemsize))
    first = b.and_(n_bytes, int64(-s.vector_bytes))
    stop = b.and_(b.add(n_bytes, int64(LINE_BYTES - 1)), int64(-LINE_BYTES))
    with for_range(b, rows) as row:
        start = b.add(x, b.mul(row, stride))
        with for_range(b, first, stop, int64(s.vector_bytes)) as j:
            inside, place = s.lanes_below(b.sub(n, b.sdiv(j, int64(s.itemsize)))), b.add(start, j)
            s.store(s.select(inside, s.load(place), s.const(0.0)), place)


BINARY = "rows=out.rows n=out.row_bytes out.row_stride out:w[r,c] x:r[r,c] y:r[r,c]"
SHARE = " share:r*[1,1]"  # a fraction of the activation's largest derivative


@vector_function(BINARY)
def binary(code, function):
    """out = function(simd, x, y)."""
    _each_element(code, function, *code.arguments)


@vector_function(BINARY + SHARE)
def binary_with_share(code, function):
    """out = function(simd, x, y, share)."""
    *places, share = code.arguments
    share = code.double().load(share)
    _each_element(code, lambda s, x, y: function(s, x, y, code.spread(s, share)), *places)


OUTER_BACKWARD = (
    "rows=out.rows cols=out.cols out.row_stride out:w[r,c] z:r[r,c] x:r[r,1] x.row_stride y:r[1,c] y.col_stride"
)


@vector_function(OUTER_BACKWARD)
def group_outer_backward(code, backward):
    """out[i, j] = backward(simd, x[i] y[j], z[i, j]) of each network of a group: of a product whose k is 1.

    Where the operation has a share too, it is the last argument of `backward`.
    """
    b, s = code.b, code.simd()
    rows, cols, stride, out, z, x, x_row, y, y_column, *share = code.arguments
    shares = [code.spread(s, code.double().load(each)) for each in share]
    with for_range(b, rows) as row:
        start, left = b.mul(row, stride), s.load(b.add(x, b.mul(row, x_row)))
        with for_range(b, cols) as column:
            place = b.add(start, b.mul(column, int64(LINE_BYTES)))
            right = s.load(b.add(y, b.mul(column, y_column)))
            product = s.fma(left, right, s.const(0.0))  # a sum of one product, as tiles take it
            s.store(backward(s, product, s.load(b.add(z, place)), *shares), b.add(out, place))


def update_signature(vectors: tuple[str, ...]) -> str:
    """The signature of `update` for an optimizer's vectors; `scalars` are float64."""
    operands = " ".join(f"{name}:rw[1,n]" for name in vectors)
    return f"n=p.row_bytes scalars:r*[1,s] p:rw[1,n] g:r[1,n] {operands}"


def update(code, function, n_scalars):
    """p, *vectors = function(simd, scalars, p, g, *vectors), each a row."""
    b, s = code.b, code.simd()
    n, scalars, *places = code.arguments
    values = [code.number(s, scalars, i) for i in range(n_scalars)]
    with for_range(b, int64(0), n, int64(s.vector_bytes)) as i:
        p, g, *vectors = (b.add(place, i) for place in places)
        results = function(s, values, *map(s.load, (p, g, *vectors)))
        for result, place in zip(results, (p, *vectors), strict=True):
            s.store(result, place)


@vector_function("n=out.row_bytes out:rw[1,n] x:r[1,n] factors:r*[1,2]")
def decay(code, signs):
    """out += factors[0] * x, and with `signs` + factors[1] * sign(x), a row; the factors are float64."""
    b, s = code.b, code.simd()
    n, out, x, factors = code.arguments
    of_x, of_sign = (code.number(s, factors, i) for i in range(2))
    zero = s.const(0.0)
    with for_range(b, int64(0), n, int64(s.vector_bytes)) as i:
        place, value = b.add(out, i), s.load(b.add(x, i))
        result = s.fma(of_x, value, s.load(place))
        if signs:
            result += s.select(s.less(zero, value), of_sign, s.select(s.less(value, zero), -of_sign, zero))
        s.store(result, place)


@vector_function("n=x.row_bytes x:rw[1,n] bound:r*[1,1]")
def clip(code):
    """x = x limited to [-bound, bound], a row; NaN stays. The bound is float64."""
    b, s = code.b, code.simd()
    n, x, bound = code.arguments
    bound = code.number(s, bound)
    with for_range(b, int64(0), n, int64(s.vector_bytes)) as i:
        place = b.add(x, i)
        value = s.load(place)
        value = s.select(s.less(value, -bound), -bound, value)
        s.store(s.select(s.less(bound, value), bound, value), place)


@vector_function("n=x.row_bytes x:rw[1,n] factor:r*[1,1]")
def scale(code):
    """x *= factor, a row; the factor is float64."""
    b, s = code.b, code.simd()
    n, x, factor = code.arguments
    factor = code.number(s, factor)
    with for_range(b, int64(0), n, int64(s.vector_bytes)) as i:
        place = b.add(x, i)
        s.store(s.load(place) * factor, place)


@vector_function("rows=y.rows n=y.row_bytes y.row_stride y:rw[r,c] share:r*[1,1] other:float")
def smooth_labels(code):
    """y = (1 - share) * y + share * other (Szegedy et al. 2016), padding too."""
    s, numbers = code.simd(), code.double()
    rows, n, stride, y, share, other = code.arguments
    share, other = numbers.load(share), numbers.splat(code.b.bitcast(other, DOUBLE))
    kept, added = code.spread(s, numbers.const(1.0) - share), code.spread(s, share * other)
    _each_element(code, lambda s, value: value * kept + added, rows, n, stride, y, y)


@vector_function("rows=x.rows n=x.row_bytes x.row_stride x:rw[r,c] limit:r*[1,1]")
def limit_norms(code):
    """Scale each column of x whose Euclidean norm is above the limit down to it."""
    b, s = code.b, code.simd()
    rows, n, stride, x, limit = code.arguments
    limit = code.number(s, limit)
    total = variable(b, s.vector)
    with for_range(b, int64(0), n, int64(s.vector_bytes)) as j:
        b.store(s.const(0.0).v, total)
        start = b.add(x, j)
        with for_range(b, rows) as row:
            value = s.load(b.add(start, b.mul(row, stride)))
            b.store(s.fma(value, value, Vec(s, b.load(total))).v, total)
        norm = s.sqrt(Vec(s, b.load(total)))
        factor = s.select(s.less(limit, norm), limit / norm, s.const(1.0))
        with for_range(b, rows) as row:
            place = b.add(start, b.mul(row, stride))
            s.store(s.load(place) * factor, place)


@vector_function("rows=x.rows n=x.row_bytes x.row_stride x:r[r,c] out:w*[1,m]")
def column_sums(code, squared):
    """out[j] = the sum of the squares, or of the absolute values, of column j of x, padding included; float64."""
    b, s = code.b, code.simd()
    rows, n, stride, x, out = code.arguments
    wide = ir.VectorType(DOUBLE, s.lanes)
    total = variable(b, wide)
    with for_range(b, int64(0), n, int64(s.vector_bytes)) as j:
        b.store(ir.Constant(wide, [0.0] * s.lanes), total)
        with for_range(b, rows) as row:
            value = s.load(b.add(b.add(x, j), b.mul(row, stride)))
            value = s.wide(value.v if squared else s.abs(value).v)
            b.store(b.fadd(b.load(total), b.fmul(value, value) if squared else value), total)
        place = b.add(out, b.mul(b.sdiv(j, int64(s.itemsize)), int64(8)))
        b.store(b.load(total), b.inttoptr(place, ir.PointerType())).align = 8


def _sum(s, numbers, n):
    """The sum of n float64 numbers at an address, one after another; s is `FunctionWriter.double`."""
    b, total = s.b, variable_of(s.b, s.const(0.0).v)
    with for_range(b, n) as at:
        b.store((Vec(s, b.load(total)) + s.load(b.add(numbers, b.mul(at, int64(s.vector_bytes))))).v, total)
    return Vec(s, b.load(total))


@vector_function("n=values.cols c:r*[1,3] count:r*[1,1] scale:r*[1,1] values:r*[1,n] factor:w*[1,1] total:rw*[1,1]")
def penalty(code):
    """s = c[0] * count + c[1]; total += s * c[2] * the sum of the values; factor = scale * s. All are float64."""
    s = code.double()
    n, c, count, scale, values, factor, total = code.arguments
    strength = s.load(c) * s.load(count) + s.load(c, s.lanes)
    s.store(s.load(scale) * strength, factor)
    s.store(s.load(total) + strength * s.load(c, 2 * s.lanes) * _sum(s, values, n), total)


@vector_function("n=squares.cols squares:r*[1,n] limit:r*[1,1] factor:w*[1,1]")
def norm_factor(code):
    """factor = limit / (norm + 1e-6), at most 1: the norm is the root of the sum of squares (as PyTorch clips)."""
    s = code.double()
    n, squares, limit, place = code.arguments
    factor = s.load(limit) / (s.sqrt(_sum(s, squares, n)) + 1e-6)
    s.store(s.select(s.less(s.const(1.0), factor), s.const(1.0), factor), place)


@vector_function("settings:r*[1,k] state:rw*[1,s] count:r*[1,1] scale:w*[1,1] scalars:w*[1,m]")
def advance(code, function, n_settings, n_state):
    """Go on to the next step: scale, state, scalars = function(simd, count, settings, state), all float64."""
    s = code.double()
    settings, state, count, scale, scalars = code.arguments

    def numbers(start, n):
        return [s.load(start, i * s.lanes) for i in range(n)]

    results = function(s, s.load(count), *numbers(settings, n_settings), *numbers(state, n_state))
    for place, values in zip((scale, state, scalars), results, strict=True):
        for i, value in enumerate(values):
            s.store(value if isinstance(value, Vec) else s.const(value), place, i * s.lanes)


@vector_function("settings:r*[1,k] state:r*[1,s] count:r*[1,1] factor:r*[1,1] scalars:w*[1,m]")
def scalars_by_factor(code, function, names, n_state, decays):
    """The scalars of the step that `advance` is about to take, with the learning rate, settings[0], times a factor.

    Nothing else changes. `names` are those of the settings; without `decays` the weight decay counts as zero.
    """
    s = code.double()
    settings, state, count, factor, scalars = code.arguments
    values = {name: s.load(settings, i * s.lanes) for i, name in enumerate(names)}
    values["learning_rate"] *= s.load(factor)
    if not decays:
        values["weight_decay"] = s.const(0.0)
    numbers = [s.load(state, i * s.lanes) for i in range(n_state)]
    *_, results = function(s, s.load(count), *values.values(), *numbers)
    for i, value in enumerate(results):
        s.store(value if isinstance(value, Vec) else s.const(value), scalars, i * s.lanes)


@vector_function("rates position:r*[1,1] rate:w*[1,1]")
def take_rate(code):
    """rate = number `position` of the numbers at the address `rates`; all are float64."""
    b = code.b
    rates, position, rate = code.arguments
    place = b.add(rates, b.mul(b.fptosi(load_double(b, position), I64), int64(8)))
    store_double(b, load_double(b, place), rate)


@vector_function("number:rw*[1,1]")
def increment(code):
    """number += 1, a float64."""
    (place,), s = code.arguments, code.double()
    s.store(s.load(place) + 1.0, place)


@vector_function("n=x.row_bytes x:r[1,n] not_finite:w*[1,1]")
def finite_check(code):
    """not_finite = the sum of x - x, a float64, over each network's x: zero where all are finite, else NaN."""
    b, s = code.b, code.simd()
    n, x, out = code.arguments
    total = variable_of(b, ir.Constant(s.vector, [0.0] * s.lanes))
    with for_range(b, int64(0), n, int64(s.vector_bytes)) as i:
        value = s.load(b.add(x, i))
        b.store(b.fadd(b.load(total), (value - value).v), total)
    numbers = code.double()
    numbers.store(numbers.const(0.0), out)
    code.add_to_total(s, s.wide(b.load(total)), out)


LOSS = "rows=a.rows n=a.cols a.row_stride d:w[r,c] a:r[r,c] y:r[r,c] y.row_stride scale:r*[1,1] total:rw*[1,1]"
WEIGHTS = {"": "", "rows": " w:r[1,r]", "columns": " w:r[1,c]"}  # weights of samples, which are rows or columns
PARAMETER = " parameter:r*[1,1]"


def loss(code, function, weighted="", has_parameter=False):
    """total += the sum of value, and d = scale * slope, where function(simd, a, y) = (value, slope).

    Rows are padded to whole lines; the padding does not count and is written as zero. scale and total are float64; so
    is the sum. A sample's weight multiplies both; `weighted` says whether "rows" or "columns" are samples. A parameter
    is the last argument of the function.
    """
    b, s = code.b, code.simd()
    rows, n, stride, d, a, y, y_stride, scale, cell, *rest = code.arguments
    parameter = [code.number(s, rest.pop())] if has_parameter else []
    wide = ir.VectorType(DOUBLE, s.lanes)
    total = variable_of(b, ir.Constant(wide, [0.0] * s.lanes))
    scale = code.number(s, scale)
    size = int64(s.itemsize * code.networks)
    width = b.and_(b.add(b.mul(n, size), int64(LINE_BYTES - 1)), int64(-LINE_BYTES))
    with for_range(b, rows) as row:
        start = b.mul(row, stride)
        weight = code.element(s, rest[0], row) if weighted == "rows" else None
        with for_range(b, int64(0), width, int64(s.vector_bytes)) as j:
            p, q = b.add(start, j), b.add(b.mul(row, y_stride), j)
            value, slope = function(s, s.load(b.add(a, p)), s.load(b.add(y, q)), *parameter)
            if weighted:
                factor = s.load(b.add(rest[0], j)) if weighted == "columns" else weight
                value, slope = value * factor, slope * factor
            slope = slope * scale
            if not code.per_network:  # else no row has padding
                inside = s.lanes_below(b.sub(n, b.sdiv(j, size)))
                value, slope = (s.select(inside, v, s.const(0.0)) for v in (value, slope))
            s.store(slope, b.add(d, p))
            b.store(b.fadd(b.load(total), s.wide(value.v)), total)
    code.add_to_total(s, b.load(total), cell)


# The targets of a loss with several outputs for each: there are fewer of them than outputs.
JOINT_LOSS, JOINT_LOSS_COLUMNS = LOSS.replace("y:r[r,c]", "y:r[r,t]"), LOSS.replace("y:r[r,c]", "y:r[t,c]")


def joint_loss(code, function, outputs, weighted=""):
    """As `loss`, of rows in which each target has several outputs: number i of target j lies at i * targets + j.

    function(simd, *z, y) = (value, *slopes), which is computed for one target after another.
    """
    b, s = code.b, code.simd()
    rows, n, stride, d, a, y, y_stride, scale, cell, *weights = code.arguments
    scale, size = code.number(s, scale), int64(s.itemsize * code.networks)
    targets = b.sdiv(n, int64(outputs))
    width = b.and_(b.add(b.mul(n, size), int64(LINE_BYTES - 1)), int64(-LINE_BYTES))
    first = lambda vector: b.extract_element(vector, ir.Constant(I32, 0))  # noqa: E731
    nothing = int64(0)
    with for_range(b, rows) as row:
        start, of_row = b.mul(row, stride), b.add(y, b.mul(row, y_stride))
        with for_range(b, int64(0), width, int64(s.vector_bytes)) as j:
            s.store(s.const(0.0), b.add(d, b.add(start, j)))
        with for_range(b, targets) as j:
            places = [b.add(start, b.mul(b.add(j, b.mul(targets, int64(i))), size)) for i in range(outputs)]
            z = [code.element(s, b.add(a, place), nothing) for place in places]
            value, *slopes = function(s, *z, code.element(s, of_row, j))
            if weighted:
                weight = code.element(s, weights[0], row)
                value, slopes = value * weight, [slope * weight for slope in slopes]
            for place, slope in zip(places, slopes, strict=True):
                if code.per_network:
                    s.store(slope * scale, b.add(d, place))
                else:
                    b.store(first((slope * scale).v), s.pointer(b.add(d, place)), align=s.itemsize)
            if code.per_network:
                code.add_to_total(s, s.wide(value.v), cell)
            else:
                store_double(b, b.fadd(load_double(b, cell), first(s.wide(value.v))), cell)


def joint_loss_columns(code, function, outputs, weighted=""):
    """As `joint_loss`, a sample a column."""
    b, s = code.b, code.simd()
    rows, n, stride, d, a, y, y_stride, scale, cell, *weights = code.arguments
    wide = ir.VectorType(DOUBLE, s.lanes)
    total = variable_of(b, ir.Constant(wide, [0.0] * s.lanes))
    scale, size = s.splat_double(load_double(b, scale)), int64(s.itemsize)
    targets = b.sdiv(rows, int64(outputs))
    width = b.and_(b.add(b.mul(n, size), int64(LINE_BYTES - 1)), int64(-LINE_BYTES))
    with (
        for_range(b, targets) as target,
        for_range(b, int64(0), width, int64(s.vector_bytes)) as j,
    ):
        numbers = [b.add(target, b.mul(targets, int64(i))) for i in range(outputs)]
        places = [b.add(b.mul(number, stride), j) for number in numbers]
        z = [s.load(b.add(a, place)) for place in places]
        value, *slopes = function(s, *z, s.load(b.add(y, b.add(b.mul(target, y_stride), j))))
        if weighted:
            weight = s.load(b.add(weights[0], j))
            value, slopes = value * weight, [slope * weight for slope in slopes]
        inside = s.lanes_below(b.sub(n, b.sdiv(j, size)))
        for place, slope in zip(places, slopes, strict=True):
            s.store(s.select(inside, slope * scale, s.const(0.0)), b.add(d, place))
        value = s.wide(s.select(inside, value, s.const(0.0)).v)
        b.store(b.fadd(b.load(total), value), total)
    store_double(b, s.sum_of_lanes(b.load(total), load_double(b, cell)), cell)


@vector_function("n=values.rows values:rw*[n,1] total:rw*[1,1]")
def collect(code):
    """total += each of the values in their order; they become zero. A value is a float64 on a line of its own."""
    b = code.b
    n, values, total = code.arguments
    with for_range(b, n) as at:
        value = b.add(values, b.mul(at, int64(LINE_BYTES)))
        store_double(b, b.fadd(load_double(b, total), load_double(b, value)), total)
        store_double(b, ir.Constant(DOUBLE, 0.0), value)
