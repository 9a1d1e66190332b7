"""Samples in and out: gathering a batch, its transpose or class indices, fetching the next one, giving outputs.

`order` is the address of int32 row numbers, or 0 for the rows as they come.
"""

import contextlib

from llvmlite import ir

from ..cpu.flow import declared, for_range, variable, variable_of
from ..cpu.simd import DOUBLE, I32, I64, Vec, int64, load_double, prefetch_line, splat, store_double
from ..cpu.target import LINE_BYTES
from .function import vector_function
from .reductions import transposed


@contextlib.contextmanager
def _each_row(b, rows, order, first=None, last=None):
    """A loop over i < rows: gives (i, the number of its row in the source).

    The number of its row is the int32 in place first + i at `order`, but not behind place `last`. Where order is 0 it
    is first + i.
    """
    nothing = variable_of(b, ir.Constant(I32, 0))
    ordered = b.icmp_signed("!=", order, int64(0))
    with for_range(b, rows) as at:
        i = at if first is None else b.add(first, at)
        i = i if last is None else b.select(b.icmp_signed("<", i, last), i, last)
        place = b.select(ordered, b.add(order, b.mul(i, int64(4))), b.ptrtoint(nothing, I64))
        yield at, b.select(ordered, _load_int32(b, place), i)


def _load_int32(b, p):
    return b.sext(b.load(b.inttoptr(p, ir.PointerType()), typ=I32, align=4), I64)


class _Affine:
    """(x - shift) * scale of the numbers of a row, by an operand of rows in the network's dtype, see `Layout.affine`.

    The shift is high + low, two numbers of the dtype: one of float32 would be off by more than what is left of x where
    that is large. float64 numbers of a float32 network take the shift in float64, and their difference is rounded. The
    operand's padding is zero, so that of a row stays zero.
    """

    def __init__(self, s, start, stride):
        self.s, self.rows = s, [s.b.add(start, s.b.mul(stride, int64(i))) for i in range(4)]

    def __call__(self, x, element):
        """What becomes of x, a vector or a number of the row from an element on, an LLVM value."""
        b, s = self.s.b, self.s
        high, low, scale = (self.load(i, element, self._kind(x, s.scalar)) for i in range(3))
        if self._kind(x, DOUBLE) == x.type and not s.double:
            difference = b.fptrunc(b.fsub(x, self.load(3, element, x.type)), high.type)
        else:
            difference = b.fsub(b.fsub(x, high), low)
        return b.fmul(difference, scale)

    @staticmethod
    def _kind(x, scalar):
        """The type of as many numbers as x has."""
        return ir.VectorType(scalar, x.type.count) if isinstance(x.type, ir.VectorType) else scalar

    def load(self, i, element, kind):
        """The numbers of a row of the operand from an element on; row 3 is the shift in float64."""
        b, size = self.s.b, 8 if i == 3 else self.s.itemsize
        place = b.add(self.rows[i], b.mul(element, int64(size)))
        return b.load(b.inttoptr(place, ir.PointerType()), typ=kind, align=size)


def _loading(s, arguments):
    """What becomes of the numbers x of a row from an element on: a function of both.

    The last arguments of a gather say it: a scale, or an operand of `_Affine` and the stride of its rows.
    """
    if len(arguments) == 2:
        return _Affine(s, *arguments)
    scale = s.splat_double(s.b.bitcast(arguments[0], DOUBLE))
    return lambda x, element: (Vec(s, x) * scale).v


class _Reader:
    """Reads whole vectors of a source, of the network's dtype, uint8 or float64, as the network's dtype."""

    def __init__(self, s, source, loading):
        """`loading` is what becomes of the numbers, see `_loading`."""
        self.s, self.loading = s, loading
        self.is_bytes, double = source == "uint8", source == "float64" or s.double
        self.itemsize = 1 if self.is_bytes else 8 if double else 4
        scalar = ir.IntType(8) if self.is_bytes else DOUBLE if double else s.scalar
        self.kind = ir.VectorType(scalar, s.lanes)
        mask = ir.VectorType(ir.IntType(1), s.lanes)
        signature = ir.FunctionType(self.kind, [ir.PointerType(), I32, mask, self.kind])
        name = f"llvm.masked.load.v{s.lanes}{'i' if self.is_bytes else 'f'}{8 * self.itemsize}.p0"
        self.masked_load = declared(s.b.module, signature, name)

    def pointer(self, start, element):
        b = self.s.b
        return b.inttoptr(b.add(start, b.mul(element, int64(self.itemsize))), ir.PointerType())

    def whole(self, start, element):
        """The vector at an element of the row at the address `start`."""
        return self._loaded(self.s.b.load(self.pointer(start, element), typ=self.kind, align=self.itemsize), element)

    def first(self, n, start, element):
        """The first n lanes of the vector at an element, zeros behind; memory behind them is not read."""
        arguments = ir.Constant(I32, self.itemsize), self.s.lanes_below(n), ir.Constant(self.kind, [0] * self.s.lanes)
        return self._loaded(self.s.b.call(self.masked_load, [self.pointer(start, element), *arguments]), element)

    def _loaded(self, x, element):
        x = self.s.b.uitofp(x, self.s.vector) if self.is_bytes else x
        return Vec(self.s, self.loading(x, element))


# A prefetch finds these three behind the gather whose next rows it fetches.
_ORDER, _REMAINING, _SOURCE, _STRIDE = range(1, 5)
_GATHER = "rows=out.rows order remaining source:r*[m,n] source.row_stride"


_SCALED, _SHIFTED = "scale:float", "affine:r[a,n] affine.row_stride"  # see `_loading`
_ROWS = f"{_GATHER} out:w[r,n] out.row_stride n=out.cols"
GATHER_SHIFTED = f"{_ROWS} {_SHIFTED}"


@vector_function(f"{_ROWS} {_SCALED}")
def gather(code, source_dtype):
    """out[i] = scale * source[order[i]], or (source[order[i]] - shift) * scale; see `_loading` and `_Reader`.

    The rest of an output row's last vector becomes zero. `remaining` numbers are left in the order; see `prefetch`.
    """
    b, s = code.b, code.simd()
    rows, order, _, source, row, out, out_row, n, *how = code.arguments
    reader = _Reader(s, source_dtype, _loading(s, how))
    whole, size = b.and_(n, int64(-s.lanes)), int64(s.itemsize)
    with _each_row(b, rows, order) as (i, j):
        start, end = b.add(source, b.mul(row, j)), b.add(out, b.mul(out_row, i))
        with for_range(b, int64(0), whole, int64(s.lanes)) as k:
            s.store(reader.whole(start, k), b.add(end, b.mul(k, size)))
        with b.if_then(b.icmp_signed("<", whole, n)):
            s.store(reader.first(b.sub(n, whole), start, whole), b.add(end, b.mul(whole, size)))


_GATHER_COLUMNS = "rows=out.cols order remaining source:r*[m,n] source.row_stride out:w[n,r] out.row_stride n=out.rows"


GATHER_SHIFTED_COLUMNS = f"{_GATHER_COLUMNS} {_SHIFTED}"


@vector_function(f"{_GATHER_COLUMNS} {_SCALED}")
def gather_columns(code, source_dtype):
    """out[k, i] = scale * source[order[i], k], or shifted, as in `gather`; zeros behind, up to whole vectors."""
    b, s = code.b, code.simd()
    rows, order, _, source, row, out, out_row, n, *how = code.arguments
    reader, step = _Reader(s, source_dtype, _loading(s, how)), int64(s.lanes)
    starts = variable(b, I64, size=s.lanes)
    place = [b.gep(starts, [int64(r)], source_etype=I64) for r in range(s.lanes)]
    with for_range(b, int64(0), rows, step) as i0:
        with _each_row(b, step, order, i0, b.sub(rows, int64(1))) as (r, j):
            b.store(b.add(source, b.mul(row, j)), b.gep(starts, [r], source_etype=I64))
        inside = s.lanes_below(b.sub(rows, i0))
        with for_range(b, int64(0), n, step) as k0:
            left = b.sub(n, k0)
            rows_read = (reader.first(left, b.load(p, typ=I64), k0) for p in place)
            for k, column in enumerate(transposed(s, rows_read)):
                with b.if_then(b.icmp_signed("<", int64(k), left)):
                    start = b.add(b.mul(out_row, b.add(k0, int64(k))), b.mul(i0, int64(s.itemsize)))
                    s.store(s.select(inside, column, s.const(0.0)), b.add(out, start))


@vector_function("rows order last numbers")
def group_rows(code):
    """Write the numbers of the rows of a batch that the networks of a group see: numbers[i], int32, one a network.

    `order` and `last` are addresses of int64 numbers, one a network: where the row numbers of its batch lie, or 0 for
    the rows as they come; and the last place of its batch, behind which it sees some row again. As many numbers are
    written as fill whole squares, a row a network.
    """
    b, s = code.b, code.simd()
    rows, order, last, numbers = code.arguments
    lanes = code.networks
    kind = ir.VectorType(I32, lanes)
    iota, zeros = ir.Constant(kind, list(range(lanes))), ir.Constant(kind, [0] * lanes)
    mask = ir.VectorType(ir.IntType(1), lanes)
    signature = ir.FunctionType(kind, [ir.PointerType(), I32, mask, kind])
    masked_load = declared(b.module, signature, f"llvm.masked.load.v{lanes}i32.p0")

    def of_table(table, lane):
        return b.load(b.inttoptr(b.add(table, int64(8 * lane)), ir.PointerType()), typ=I64)

    with for_range(b, int64(0), rows, int64(lanes)) as i:
        here = b.add(splat(b, b.trunc(i, I32), kind), iota)
        vectors = []
        for lane in range(lanes):
            start, most = of_table(order, lane), splat(b, b.trunc(of_table(last, lane), I32), kind)
            inside, ordered = b.icmp_signed("<=", here, most), b.icmp_signed("!=", start, int64(0))
            place = b.inttoptr(b.add(start, b.mul(i, int64(4))), ir.PointerType())
            read = b.select(splat(b, ordered, mask), inside, ir.Constant(mask, [False] * lanes))
            drawn = b.call(masked_load, [place, ir.Constant(I32, 4), read, zeros])
            vectors.append(Vec(s, b.select(ordered, drawn, b.select(inside, here, most))))
        for j, vector in enumerate(transposed(s, vectors)):
            place = b.add(numbers, b.mul(b.add(i, int64(j)), int64(4 * lanes)))
            b.store(vector.v, b.inttoptr(place, ir.PointerType()), align=4)


# Samples of a group of networks: `numbers` is where `group_rows` wrote, `source` the address of int64 numbers, one a
# network: where its source begins.
_GATHER_GROUP = "rows=out.rows numbers source row_stride out:w[r,n] out.row_stride"


class _GroupRows:
    """Where the rows of a batch lie that the networks of a group see: a loop over them, and their addresses."""

    def __init__(self, code, numbers, source, row_stride):
        self.b, self.networks, self.numbers = code.b, code.networks, numbers
        kind = ir.VectorType(I64, code.networks)
        self.places = variable(code.b, kind)
        self.sources = code.b.load(code.b.inttoptr(source, ir.PointerType()), typ=kind, align=8)
        self.strides = splat(code.b, row_stride, kind)

    @contextlib.contextmanager
    def each(self, rows):
        """A loop over i < rows, with the addresses as `starts`."""
        b, n = self.b, self.networks
        with for_range(b, rows) as at:
            place = b.inttoptr(b.add(self.numbers, b.mul(at, int64(4 * n))), ir.PointerType())
            numbers = b.sext(b.load(place, typ=ir.VectorType(I32, n), align=4), self.sources.type)
            b.store(b.add(self.sources, b.mul(numbers, self.strides)), self.places)
            yield at

    def start(self, lane):
        place = self.b.add(self.b.ptrtoint(self.places, I64), int64(8 * lane))
        return self.b.load(self.b.inttoptr(place, ir.PointerType()), typ=I64)


def _group_columns(s, rows, k, width, source_dtype, affines):
    """Columns k to k + width of the rows at some addresses, a vector each whose lanes are the rows.

    `affines` has what becomes of the numbers of each row; it is empty where they stay as they are.
    """
    b, is_bytes = s.b, source_dtype == "uint8"
    scalar = ir.IntType(8) if is_bytes else DOUBLE if source_dtype == "float64" else s.scalar
    itemsize = _source_bytes(s, source_dtype)
    kind, offset = ir.VectorType(scalar, width), b.mul(k, int64(itemsize))

    def part(lane):
        value = b.load(b.inttoptr(b.add(rows[lane], offset), ir.PointerType()), typ=kind, align=itemsize)
        value = b.uitofp(value, ir.VectorType(s.scalar, width)) if is_bytes else value
        return affines[lane](value, k) if affines else value

    vectors = []
    for i in range(width):
        parts = [part(lane) for lane in range(i, len(rows), width)]
        n = width
        while len(parts) > 1:  # join them, two by two
            n *= 2
            both = ir.Constant(ir.VectorType(I32, n), list(range(n)))
            parts = [b.shuffle_vector(x, y, both) for x, y in zip(parts[::2], parts[1::2], strict=True)]
        vectors.append(Vec(s, parts[0]))
    return transposed(s, vectors, width)


def _source_bytes(s, source_dtype):
    """The bytes of a number of a source."""
    return {"uint8": 1, "float64": 8}.get(source_dtype, s.itemsize)


def _group_affines(code, s, how):
    """What becomes of the numbers of each network's rows; nothing where all have a scale in common.

    `how` is that scale; or the address of a table, int64, of where each network's operand of `_Affine` lies, and the
    stride of its rows.
    """
    if len(how) == 1:
        return []
    (table, stride), b = how, code.b
    places = (b.add(table, int64(8 * lane)) for lane in range(code.networks))
    return [_Affine(s, b.load(b.inttoptr(place, ir.PointerType()), typ=I64), stride) for place in places]


GROUP_GATHER_SHIFTED = f"{_GATHER_GROUP} n=out.cols affine affine_stride"


@vector_function(f"{_GATHER_GROUP} n=out.cols {_SCALED}")
def group_gather(code, source_dtype):
    """out[i, k] of each network = scale * element k of its row i; or with its own shift and scale, as in `gather`."""
    b, s = code.b, code.simd()
    rows, numbers, source, row_stride, out, out_row, n, *how = code.arguments
    sources, affines = _GroupRows(code, numbers, source, row_stride), _group_affines(code, s, how)
    scale = None if affines else s.splat_double(b.bitcast(how[0], DOUBLE))

    def columns(k, width, end):
        starts = [sources.start(lane) for lane in range(code.networks)]
        for j, value in enumerate(_group_columns(s, starts, k, width, source_dtype, affines)):
            value = value if affines else value * scale
            s.store(value, b.add(end, b.mul(b.add(k, int64(j)), int64(LINE_BYTES))))

    with sources.each(rows) as i:
        end, widest = b.add(out, b.mul(out_row, i)), code.networks
        done = b.and_(n, int64(-widest))
        with for_range(b, int64(0), done, int64(widest)) as k:
            columns(k, widest, end)
        width = widest // 2
        while width:
            with b.if_then(b.icmp_signed("!=", b.and_(n, int64(width)), int64(0))):
                columns(b.and_(n, int64(-2 * width)), width, end)
            width //= 2


@vector_function(_GATHER_GROUP.replace("[r,n]", "[r,k]") + " n=out.cols")
def group_one_hot(code):
    """out[i, k] of each network = 1 where k is its row i, an int32 class index, else 0."""
    b, s = code.b, code.simd()
    rows, numbers, source, row_stride, out, out_row, n = code.arguments
    sources, kind = _GroupRows(code, numbers, source, row_stride), ir.VectorType(I32, code.networks)
    with sources.each(rows) as i:
        labels, end = ir.Constant(kind, ir.Undefined), b.add(out, b.mul(out_row, i))
        for lane in range(code.networks):
            place = b.inttoptr(sources.start(lane), ir.PointerType())
            labels = b.insert_element(labels, b.load(place, typ=I32, align=4), ir.Constant(I32, lane))
        with for_range(b, n) as k:
            here = splat(b, b.trunc(k, I32), kind)
            value = s.select(b.icmp_signed("==", labels, here), s.const(1.0), s.const(0.0))
            s.store(value, b.add(end, b.mul(k, int64(LINE_BYTES))))


@vector_function(_GATHER_GROUP.replace("[r,n]", "[r,1]") + " last count:w*[1,1]")
def group_weights(code):
    """out[i] of each network = the weight of its row i, and 0 behind its last row; count = their sum, in float64.

    Where no source is there (0) each row has the weight 1.
    """
    b, s, numbers = code.b, code.simd(), code.double()
    rows, rows_at, source, row_stride, out, out_row, last, count = code.arguments
    sources, kind = _GroupRows(code, rows_at, source, row_stride), ir.VectorType(I64, code.networks)
    one = variable_of(b, ir.Constant(s.scalar, 1.0))
    lasts = b.load(b.inttoptr(last, ir.PointerType()), typ=kind, align=8)
    tables = b.load(b.inttoptr(source, ir.PointerType()), typ=kind, align=8)
    numbers.store(numbers.const(0.0), count)
    with sources.each(rows) as i:
        value = ir.Constant(s.vector, ir.Undefined)
        for lane in range(code.networks):
            there = b.icmp_signed("!=", b.extract_element(tables, ir.Constant(I32, lane)), int64(0))
            place = b.select(there, sources.start(lane), b.ptrtoint(one, I64))
            value = b.insert_element(value, s.load_scalar(place), ir.Constant(I32, lane))
        weight = s.select(b.icmp_signed("<=", splat(b, i, kind), lasts), Vec(s, value), s.const(0.0))
        s.store(weight, b.add(out, b.mul(out_row, i)))
        numbers.store(numbers.load(count) + Vec(numbers, s.wide(weight.v)), count)


def _clear(s, start, n_bytes):
    """Write zeros to whole vectors, up to n_bytes or a little further."""
    with for_range(s.b, int64(0), n_bytes, int64(s.vector_bytes)) as i:
        s.store(s.const(0.0), s.b.add(start, i))


# A sparse row of three int64 numbers: the addresses of its int32 column numbers and of its values, and how many.
_SPARSE = {name: 8 * i for i, name in enumerate(("columns", "values", "count"))}


@contextlib.contextmanager
def _each_value(code, row, double=False):
    """A loop over the values of the sparse row at an address: gives (its column, the value).

    Values have the network's dtype, or are float64.
    """
    b, s = code.b, code.simd()
    scalar, size = (DOUBLE, 8) if double else (s.scalar, s.itemsize)
    columns, values, count = (
        b.load(b.inttoptr(b.add(row, int64(offset)), ir.PointerType()), typ=I64, align=8) for offset in _SPARSE.values()
    )
    with for_range(b, count) as at:
        place = b.inttoptr(b.add(values, b.mul(at, int64(size))), ir.PointerType())
        value = b.load(place, typ=scalar, align=size)
        yield _load_int32(b, b.add(columns, b.mul(at, int64(4)))), value


def _sparse_factor(code, scale):
    """The scale in the network's dtype."""
    b, s = code.b, code.simd()
    factor = b.bitcast(scale, DOUBLE)
    return factor if s.double else b.fptrunc(factor, s.scalar)


def _add_to(code, address, value):
    """Add to a number; a column may be there twice."""
    b, s = code.b, code.simd()
    place = b.inttoptr(address, ir.PointerType())
    b.store(b.fadd(b.load(place, typ=s.scalar, align=s.itemsize), value), place).align = s.itemsize


@vector_function(f"{_GATHER} out:w[r,k] out.row_stride {_SCALED}")
def gather_sparse(code):
    """out[i] = scale * the sparse row source[order[i]]."""
    b, s = code.b, code.simd()
    rows, order, _, source, row, out, out_row, scale = code.arguments
    factor = _sparse_factor(code, scale)
    with _each_row(b, rows, order) as (i, j):
        start = b.add(out, b.mul(out_row, i))
        _clear(s, start, out_row)
        with _each_value(code, b.add(source, b.mul(row, j))) as (column, value):
            _add_to(code, b.add(start, b.mul(column, int64(s.itemsize))), b.fmul(value, factor))


@vector_function(f"{_GATHER_COLUMNS.replace('[n,r]', '[k,r]')} {_SCALED}")
def gather_sparse_columns(code):
    """out[k, i] = scale * column k of the sparse row source[order[i]]; zeros behind."""
    b, s = code.b, code.simd()
    rows, order, _, source, row, out, out_row, n, scale = code.arguments
    factor = _sparse_factor(code, scale)
    with for_range(b, n) as k:
        _clear(s, b.add(out, b.mul(out_row, k)), b.mul(rows, int64(s.itemsize)))
    with _each_row(b, rows, order) as (i, j):
        start = b.add(out, b.mul(i, int64(s.itemsize)))
        with _each_value(code, b.add(source, b.mul(row, j))) as (column, value):
            _add_to(code, b.add(start, b.mul(out_row, column)), b.fmul(value, factor))


@vector_function(f"{_GATHER} out:w[r,k] out.row_stride n=out.cols affine:r[a,k] affine.row_stride")
def gather_shifted_sparse(code):
    """out[i] = (the sparse row source[order[i]] - shift) * scale, of rows of float64 values with each column once."""
    b, s = code.b, code.simd()
    rows, order, _, source, row, out, out_row, n, *how = code.arguments
    affine, zeros = _Affine(s, *how), ir.Constant(ir.VectorType(DOUBLE, s.lanes), [0.0] * s.lanes)
    with _each_row(b, rows, order) as (i, j):
        start = b.add(out, b.mul(out_row, i))
        with for_range(b, int64(0), n, int64(s.lanes)) as k:
            s.store(Vec(s, affine(zeros, k)), b.add(start, b.mul(k, int64(s.itemsize))))
        with _each_value(code, b.add(source, b.mul(row, j)), double=True) as (column, value):
            b.store(affine(value, column), s.pointer(b.add(start, b.mul(column, int64(s.itemsize)))))


@vector_function(_GATHER_COLUMNS.replace("[n,r]", "[k,r]") + " affine:r[a,k] affine.row_stride")
def gather_shifted_sparse_columns(code):
    """out[k, i] = column k of row i of `gather_shifted_sparse`; zeros behind."""
    b, s = code.b, code.simd()
    rows, order, _, source, row, out, out_row, n, *how = code.arguments
    affine = _Affine(s, *how)
    with for_range(b, n) as k:
        start, of_zero = b.add(out, b.mul(out_row, k)), s.splat(affine(ir.Constant(DOUBLE, 0.0), k))
        with for_range(b, int64(0), rows, int64(s.lanes)) as i:
            inside = s.lanes_below(b.sub(rows, i))
            s.store(s.select(inside, of_zero, s.const(0.0)), b.add(start, b.mul(i, int64(s.itemsize))))
    with _each_row(b, rows, order) as (i, j):
        start = b.add(out, b.mul(i, int64(s.itemsize)))
        with _each_value(code, b.add(source, b.mul(row, j)), double=True) as (column, value):
            b.store(affine(value, column), s.pointer(b.add(start, b.mul(out_row, column))))


@vector_function(f"{_GATHER} out:w[r,k] out.row_stride")
def one_hot(code):
    """out[i] = zeros with a one at source[order[i]], an int32 class index."""
    b, s = code.b, code.simd()
    rows, order, _, labels, _, out, out_row = code.arguments
    with _each_row(b, rows, order) as (i, j):
        start = b.add(out, b.mul(out_row, i))
        _clear(s, start, out_row)
        label = _load_int32(b, b.add(labels, b.mul(j, int64(4))))
        b.store(ir.Constant(s.scalar, 1.0), s.pointer(b.add(start, b.mul(label, int64(s.itemsize)))))


@vector_function(_GATHER_COLUMNS.replace("[n,r]", "[k,r]"))
def one_hot_columns(code):
    """out[k, i] = 1 where k = source[order[i]], 0 elsewhere."""
    b, s = code.b, code.simd()
    rows, order, _, labels, _, out, out_row, n = code.arguments
    with for_range(b, n) as k:
        _clear(s, b.add(out, b.mul(out_row, k)), b.mul(rows, int64(s.itemsize)))
    with _each_row(b, rows, order) as (i, j):
        start = b.add(out, b.mul(out_row, _load_int32(b, b.add(labels, b.mul(j, int64(4))))))
        b.store(ir.Constant(s.scalar, 1.0), s.pointer(b.add(start, b.mul(i, int64(s.itemsize)))))


@vector_function("order source:r* source.row_stride count:rw*[1,1]")
def sum_of_weights(code):
    """count = the sum of source[order[i]] over the `count` samples of a batch, in float64 and in their order."""
    b, s = code.b, code.simd()
    order, source, row, count = code.arguments
    total = variable_of(b, ir.Constant(DOUBLE, 0.0))
    with _each_row(b, b.fptosi(load_double(b, count), I64), order) as (_, j):
        weight = s.load_scalar(b.add(source, b.mul(row, j)))
        b.store(b.fadd(b.load(total), weight if s.double else b.fpext(weight, DOUBLE)), total)
    store_double(b, b.load(total), count)


@vector_function("first stop start end ahead gather:operation")
def prefetch(code, level):
    """Fetch bytes `start` to `end` of rows `first` to `stop` of the next batch into the cache of a level, 1 or 2.

    The next batch's rows come `ahead` numbers further in the order of this one's gather.
    """
    b = code.b
    first, stop, start, end, ahead, distance = code.arguments
    batch = b.add(code.operation, distance)
    order, remaining, source, row = (code.load_argument(batch, i) for i in (_ORDER, _REMAINING, _SOURCE, _STRIDE))
    left = b.sub(remaining, ahead)
    stop = b.select(b.icmp_signed("<", left, stop), left, stop)
    with for_range(b, first, stop, int64(1)) as i:
        place = b.add(source, b.mul(row, _load_int32(b, b.add(order, b.mul(b.add(ahead, i), int64(4))))))
        with for_range(b, start, end, int64(64)) as k:
            prefetch_line(b, b.add(place, k), level)


@vector_function("n_bytes ahead source:r*")
def prefetch_in_place(code):
    """Fetch n bytes that lie `ahead` bytes behind the source's start into the L2 cache."""
    b = code.b
    n, ahead, start = code.arguments
    start = b.add(start, ahead)
    with for_range(b, int64(0), n, int64(64)) as k:
        prefetch_line(b, b.add(start, k), 2)


@vector_function("rows=source.rows n=source.cols source:r[r,n] source.row_stride out:w[r,n] out.row_stride")
def unpad(code):
    """out = source, whole vectors, then element by element: nothing behind a row is written."""
    b, s = code.b, code.simd()
    rows, n, source, row, out, out_row = code.arguments
    whole = b.and_(n, int64(-s.lanes))
    with for_range(b, rows) as at:
        start, end = b.add(source, b.mul(row, at)), b.add(out, b.mul(out_row, at))
        with for_range(b, int64(0), whole, int64(s.lanes)) as k:
            j = b.mul(k, int64(s.itemsize))
            s.store(s.load(b.add(start, j)), b.add(end, j))
        with for_range(b, whole, n, int64(1)) as k:
            j = b.mul(k, int64(s.itemsize))
            b.store(s.load_scalar(b.add(start, j)), s.pointer(b.add(end, j)), align=s.itemsize)
