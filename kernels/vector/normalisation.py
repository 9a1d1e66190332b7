"""Layers without products: sums, factors and shifts of neurons, and normalisation over a layer or a batch.

Lanes hold neurons of a sample, or samples of a neuron in the variants for samples that are columns. So a number of each
neuron lies along the lanes, or is the same in all of them; and what is normalised over lies along the lanes, or across
the rows. Normalisation over the lanes in one orientation is that across the rows in the other.
"""

import contextlib

from ..cpu.flow import for_range, variable
from ..cpu.simd import DOUBLE, Vec, int64
from ..cpu.target import LINE_BYTES
from .function import vector_function


class _Sum:
    """A sum of vectors, kept in the stack."""

    def __init__(self, s):
        self.s, self.place = s, variable(s.b, s.vector)
        self.clear()

    def clear(self):
        self.s.b.store(self.s.const(0.0).v, self.place)

    def add(self, value):
        self.s.b.store((Vec(self.s, self.s.b.load(self.place)) + value).v, self.place)

    def add_product(self, x, y):
        self.s.b.store(self.s.fma(x, y, Vec(self.s, self.s.b.load(self.place))).v, self.place)

    @property
    def value(self):
        return Vec(self.s, self.s.b.load(self.place))

    @property
    def over_lanes(self):
        """The sum of all lanes, in every lane."""
        return self.s.splat(self.s.sum_of_lanes(self.value.v))


def _vectors(code, n):
    """A loop over the vectors of n elements, to the end of the last line: gives (offset in bytes, which lanes count).

    A line may hold several vectors, and what lies behind the last element must be zero to its end. An element of a
    group is a line, so that all lanes count: then the second is None.
    """
    b, s = code.b, code.simd()
    size = int64(s.itemsize * code.networks)

    @contextlib.contextmanager
    def loop():
        stop = b.and_(b.add(b.mul(n, size), int64(LINE_BYTES - 1)), int64(-LINE_BYTES))
        with for_range(b, int64(0), stop, int64(s.vector_bytes)) as j:
            yield j, None if code.per_network else s.lanes_below(b.sub(n, b.sdiv(j, size)))

    return loop()


def _only(s, inside, value):
    return value if inside is None else s.select(inside, value, s.const(0.0))


def _store_number(s, value, start, i):
    """Write the first lane of a vector as element i of the array at an address."""
    number = s.b.extract_element(value.v, int64(0))
    s.b.store(number, s.pointer(s.b.add(start, s.b.mul(i, int64(s.itemsize)))), align=s.itemsize)


def _clear_behind(s, start, n):
    """Write zeros behind the n numbers of a row, to the end of the line."""
    per_line = LINE_BYTES // s.itemsize
    stop = s.b.and_(s.b.add(n, int64(per_line - 1)), int64(-per_line))
    with for_range(s.b, n, stop, int64(1)) as i:
        _store_number(s, s.const(0.0), start, i)


def _count(code, n):
    """The int64 n as a vector."""
    return code.simd().splat_double(code.b.sitofp(n, DOUBLE))


_OUT = "out:w[r,c] out.row_stride"


@vector_function(f"rows=out.rows n=out.cols {_OUT} x:r[r,c] x.row_stride y:r[r,c] y.row_stride")
def total(code):
    """out = x + y; out may be x. The lanes behind the last column become zero."""
    b, s = code.b, code.simd()
    rows, n, out, out_row, x, x_row, y, y_row = code.arguments
    with for_range(b, rows) as row, _vectors(code, n) as (j, inside):
        px, py, po = (b.add(b.add(p, b.mul(row, q)), j) for p, q in ((x, x_row), (y, y_row), (out, out_row)))
        s.store(_only(s, inside, s.load(px) + s.load(py)), po)


_FACTORS = f"rows=out.rows n=out.cols {_OUT} x:r[r,c] x.row_stride factor:r*[1,m]"
SCALED, SCALED_AND_SHIFTED = _FACTORS, f"{_FACTORS} shift:r*[1,m]"


def scaled(code, columns):
    """out = x * factor + shift, a number a neuron; the shift is optional. The lanes behind the last become zero."""
    b, s = code.b, code.simd()
    rows, n, out, out_row, x, x_row, *numbers = code.arguments
    with for_range(b, rows) as row:
        of_row = [s.splat_element(p, row) for p in numbers] if columns else []
        with _vectors(code, n) as (j, inside):
            factor, *shift = of_row or [s.load(b.add(p, j)) for p in numbers]
            value = s.load(b.add(b.add(x, b.mul(row, x_row)), j))
            value = s.fma(value, factor, shift[0]) if shift else value * factor
            s.store(_only(s, inside, value), b.add(b.add(out, b.mul(row, out_row)), j))


@vector_function(f"rows=out.rows n=out.cols {_OUT} y:r[r,c] y.row_stride x:r[r,c] x.row_stride slope:r*[1,m]")
def sloped(code, columns):
    """out = y where x > 0, else y * slope, a number a neuron. The lanes behind the last become zero; out may be y."""
    b, s = code.b, code.simd()
    rows, n, out, out_row, y, y_row, x, x_row, slopes = code.arguments
    with for_range(b, rows) as row:
        of_row = s.splat_element(slopes, row) if columns else None
        with _vectors(code, n) as (j, inside):
            slope = of_row or s.load(b.add(slopes, j))
            py, px, po = (b.add(b.add(p, b.mul(row, q)), j) for p, q in ((y, y_row), (x, x_row), (out, out_row)))
            value = s.load(py)
            value = s.select(s.less(s.const(0.0), s.load(px)), value, value * slope)
            s.store(_only(s, inside, value), po)


_PRODUCTS = "rows=x.rows n=x.cols x:r[r,c] x.row_stride d:r[r,c] d.row_stride out:w*[1,m]"


@vector_function(_PRODUCTS)
def sums_of_products(code, columns, of_x=lambda s, x: x):
    """out[j] = the sum of of_x(simd, x) * d over the samples, of neuron j; zeros behind the last, to the line's end."""
    b, s = code.b, code.simd()
    rows, n, x, x_row, d, d_row, out = code.arguments
    summed = _Sum(s)

    def add(row, j, inside):
        values = (s.load(b.add(b.add(p, b.mul(row, q)), j)) for p, q in ((x, x_row), (d, d_row)))
        of_sample, delta = (_only(s, inside, value) for value in values)
        summed.add_product(of_x(s, of_sample), delta)

    if columns:
        with for_range(b, rows) as row:
            summed.clear()
            with _vectors(code, n) as (j, inside):
                add(row, j, inside)
            _store_number(s, summed.over_lanes, out, row)
        _clear_behind(s, out, rows)
        return
    with _vectors(code, n) as (j, inside):
        summed.clear()
        with for_range(b, rows) as row:
            add(row, j, inside)
        s.store(summed.value, b.add(out, j))


def below_zero(s, x):
    """min(x, 0); NaN stays."""
    return s.select(s.less(s.const(0.0), x), s.const(0.0), x)


_NUMBERS = "mean:w*[1,m] variance:w*[1,m] root:w*[1,m] epsilon:float"


@vector_function(f"rows=out.rows n=out.cols {_OUT} x:r[r,c] x.row_stride {_NUMBERS}")
def normalise(code, across):
    """out = (x - mean) * root with root = 1 / sqrt(variance + epsilon), of each row, or of each column (`across`).

    The variance is the mean of the squares of x - mean (Ba, Kiros and Hinton 2016; Ioffe and Szegedy 2015). The lanes
    behind the last become zero.
    """
    b, s = code.b, code.simd()
    rows, n, out, out_row, x, x_row, mean, variance, root, epsilon = code.arguments
    epsilon, summed = s.splat_double(b.bitcast(epsilon, DOUBLE)), _Sum(s)
    count = _count(code, rows if across else n)

    def place(start, stride, row, j):
        return b.add(b.add(start, b.mul(row, stride)), j)

    def statistics(each_vector, finish):
        """(mean, root) of the vectors that `each_vector` goes over; `finish` sums lanes and keeps a number."""
        summed.clear()
        each_vector(lambda row, j, inside: summed.add(_only(s, inside, s.load(place(x, x_row, row, j)))))
        middle = finish() / count
        summed.clear()

        def square(row, j, inside):
            difference = _only(s, inside, s.load(place(x, x_row, row, j)) - middle)
            summed.add_product(difference, difference)

        each_vector(square)
        spread = finish() / count
        inverse = s.const(1.0) / s.sqrt(spread + epsilon)
        each_vector(
            lambda row, j, inside: s.store(
                _only(s, inside, (s.load(place(x, x_row, row, j)) - middle) * inverse), place(out, out_row, row, j)
            )
        )
        return middle, spread, inverse

    if across:
        with _vectors(code, n) as (j, inside):

            def each_row(do):
                with for_range(b, rows) as row:
                    do(row, j, inside)

            for value, start in zip(statistics(each_row, lambda: summed.value), (mean, variance, root), strict=True):
                s.store(_only(s, inside, value), b.add(start, j))
        return
    with for_range(b, rows) as row:

        def each_vector(do):
            with _vectors(code, n) as (j, inside):
                do(row, j, inside)

        for value, start in zip(
            statistics(each_vector, lambda: summed.over_lanes), (mean, variance, root), strict=True
        ):
            _store_number(s, value, start, row)


@vector_function(f"rows=out.rows n=out.cols {_OUT} d:r[r,c] d.row_stride x:r[r,c] x.row_stride root:r*[1,m]")
def normalise_backward(code, across):
    """out = root * (d - mean(d) - x * mean(d * x)), means of each row, or column: dC/dx from d = dC/d(normalised x).

    x is the normalised one. The lanes behind the last become zero.
    """
    b, s = code.b, code.simd()
    rows, n, out, out_row, d, d_row, x, x_row, root = code.arguments
    of_d, of_product, count = _Sum(s), _Sum(s), _count(code, rows if across else n)

    def load(row, j, inside):
        places = (b.add(b.add(p, b.mul(row, q)), j) for p, q in ((d, d_row), (x, x_row)))
        return [_only(s, inside, s.load(p)) for p in places]

    def backward(each_vector, finish, inverse):
        of_d.clear()
        of_product.clear()

        def add(row, j, inside):
            dj, xj = load(row, j, inside)
            of_d.add(dj)
            of_product.add_product(dj, xj)

        each_vector(add)
        mean, product = (finish(each) / count for each in (of_d, of_product))

        def write(row, j, inside):
            dj, xj = load(row, j, inside)
            value = s.fma(-xj, product, dj - mean) * inverse
            s.store(_only(s, inside, value), b.add(b.add(out, b.mul(row, out_row)), j))

        each_vector(write)

    if across:
        with _vectors(code, n) as (j, inside):

            def each_row(do):
                with for_range(b, rows) as row:
                    do(row, j, inside)

            backward(each_row, lambda each: each.value, s.load(b.add(root, j)))
        return
    with for_range(b, rows) as row:

        def each_vector(do):
            with _vectors(code, n) as (j, inside):
                do(row, j, inside)

        backward(each_vector, lambda each: each.over_lanes, s.splat_element(root, row))


@vector_function("n=average.cols average:rw[1,n] x:r[1,n] momentum:float factor:float")
def follow(code):
    """average += momentum * (factor * x - average), a row."""
    b, s = code.b, code.simd()
    n, average, x, momentum, factor = code.arguments
    momentum, factor = (s.splat_double(b.bitcast(number, DOUBLE)) for number in (momentum, factor))
    with _vectors(code, n) as (j, inside):
        place = b.add(average, j)
        value = s.load(place)
        value = s.fma(momentum, s.fma(factor, s.load(b.add(x, j)), -value), value)
        s.store(_only(s, inside, value), place)


@vector_function(
    "n=mean.cols mean:r[1,n] variance:r[1,n] gain:r[1,n] bias:r[1,n] factor:w[1,n] shift:w[1,n] epsilon:float"
)
def fold(code):
    """factor = gain / sqrt(variance + epsilon) and shift = bias - mean * factor: what a layer does that is normalised
    by fixed statistics.
    """
    b, s = code.b, code.simd()
    n, mean, variance, gain, bias, factor, shift, epsilon = code.arguments
    epsilon = s.splat_double(b.bitcast(epsilon, DOUBLE))
    with _vectors(code, n) as (j, inside):
        m, v, g, beta = (s.load(b.add(p, j)) for p in (mean, variance, gain, bias))
        f = g / s.sqrt(v + epsilon)
        s.store(_only(s, inside, f), b.add(factor, j))
        s.store(_only(s, inside, beta - m * f), b.add(shift, j))
