"""matmul: the products on random shapes, whichever way the operands lie, remainders of rows, columns and k included."""

import numpy as np
import pytest

from fastnn.kernels import reference
from fastnn.kernels.cpu.target import HOST
from fastnn.kernels.programs import matmul
from fastnn.kernels.programs.program import Program
from fastnn.kernels.vector.matrix import LINE_BYTES, grouped

from ..cases import DTYPES, EPS
from .kernel_calls import EVERY_TARGET, matrix, on_targets, padded, run

rng = np.random.default_rng(1)
EDGES = [(1, 1, 1), (1, 300, 1), (300, 1, 1), (1, 1, 300), (12, 16, 32), (13, 17, 33), (24, 48, 64), (11, 31, 49)]
SHAPES = EDGES + [tuple(int(v) for v in np.exp(rng.uniform(0, np.log(300), 3))) for _ in range(40)]
FEW = EDGES[1:4] + EDGES[5:] + SHAPES[8:14]  # for other targets than the CPU at hand


def shapes_for(target):
    return SHAPES if target == HOST else FEW


def draw(dtype, *shapes):
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def laid(array, kind):
    """(memory, view): an array whose rows, or whose columns, are contiguous and padded; or "as is"."""
    if kind == "as is":
        return array, array
    memory = padded(array if kind == "rows" else array.T)
    rows, cols = array.shape
    return memory, memory[:, :cols] if kind == "rows" else memory[:, :rows].T


def pack_buffer(target, dtype, k, n_bytes=0):
    """Room for k rows, up to whole vectors of them, or for n bytes, and a guard behind it."""
    row, lanes = (n // np.dtype(dtype).itemsize for n in (target.buffer_lines * LINE_BYTES, target.vector_bytes))
    rows = max(-(-k // lanes) * lanes, -(-n_bytes // (target.buffer_lines * LINE_BYTES)))
    pack = np.full((rows + 1, row), np.nan, dtype)
    pack[-1] = 7
    return pack


def multiply(target, c, a, b, c0, pack=None):
    """Run the product of these matrices; `pack` is from `pack_buffer`."""
    given = {} if pack is None else {"pack_buffer": matrix(pack[:1]), "zeros": matrix(np.zeros((1, 512), c.dtype))}
    run(c.dtype, lambda program: matmul.matmul(program, c, a, b, c0, **given), target)


def close(got, want, k, *case):
    tolerance = 4 * EPS[got.dtype.name] * (k + 4)
    np.testing.assert_allclose(got, want, atol=tolerance, err_msg=" x ".join(map(str, case)))


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("start", ["zeros", "bias", "itself"])
@pytest.mark.parametrize("kind_of_a", ["as is", "columns"])
@pytest.mark.parametrize("target", EVERY_TARGET)
def test_row_major(dtype, kind_of_a, start, target):
    """C's rows are contiguous. B's may be, or are not and B is transposed: the same bits."""
    for m, k, n in shapes_for(target):
        a, b, c, row = draw(dtype, (m, k), (k, n), (m, n), (1, n))
        row *= start == "bias"
        want = reference.matmul(a.astype("f8"), b.astype("f8"), (c if start == "itself" else row).astype("f8"))
        results = []
        for kind_of_b in ("rows", "columns"):
            memory, view = laid(c, "rows")
            c0 = matrix(view) if start == "itself" else matrix(laid(row, "rows")[1]).broadcast(m)
            pack = pack_buffer(target, dtype, k) if kind_of_b == "columns" else None
            operands = matrix(laid(a, kind_of_a)[1]), matrix(laid(b, kind_of_b)[1])
            multiply(target, matrix(view), *operands, c0, pack)
            close(view, want, k, m, k, n, kind_of_b)
            assert not memory[:, n:].any()
            assert pack is None or (pack[-1] == 7).all()
            results.append(view)
        np.testing.assert_array_equal(*results, err_msg=f"{m} x {k} x {n}")


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("start", ["zeros", "itself"])
@pytest.mark.parametrize("kind_of_a", ["rows", "columns"])
@pytest.mark.parametrize("kind_of_b", ["as is", "columns"])
@pytest.mark.parametrize("target", EVERY_TARGET)
def test_feature_major(dtype, kind_of_a, kind_of_b, start, target):
    """C's columns are contiguous: the transposed product. The padding of the columns stays zero."""
    for m, k, n in shapes_for(target):
        a, b, c = draw(dtype, (m, k), (k, n), (m, n))
        want = reference.matmul(a.astype("f8"), b.astype("f8"), c.astype("f8") if start == "itself" else 0)
        memory, view = laid(c, "columns")
        zeros = matrix(padded(np.zeros((1, m), dtype)))[:, :m].broadcast(n).T
        pack = pack_buffer(target, dtype, k) if kind_of_a == "rows" else None
        operands = matrix(laid(a, kind_of_a)[1]), matrix(laid(b, kind_of_b)[1])
        multiply(target, matrix(view), *operands, matrix(view) if start == "itself" else zeros, pack)
        close(view, want, k, m, k, n)
        assert not memory[:, m:].any()
        assert pack is None or (pack[-1] == 7).all()


@pytest.mark.parametrize("target", EVERY_TARGET)
@pytest.mark.parametrize("dtype", DTYPES)
def test_b_in_several_parts(dtype, target):
    """D @ W.T with the columns of W in two shards, one line and the others: the same bits; padding becomes zero."""
    line = LINE_BYTES // np.dtype(dtype).itemsize
    for m, k, n in shapes_for(target):
        a, w = draw(dtype, (m, k), (n, k))
        want = reference.matmul_nt(a.astype("f8"), w.astype("f8"))
        results = []
        for parts in [[w], [w[:, :line], w[:, line:]]] if k > line else [[w]]:
            memory = np.full_like(padded(np.zeros((m, n), dtype)), np.nan)
            zeros, pack = matrix(padded(np.zeros((1, n), dtype))[:, :n]), pack_buffer(target, dtype, k)
            blocks = [matrix(laid(part, "rows")[1]).T for part in parts]
            multiply(target, matrix(memory[:, :n]), matrix(laid(a, "rows")[1]), blocks, zeros.broadcast(m), pack)
            close(memory[:, :n], want, k, m, k, n)
            assert not memory[:, n:].any()
            assert (pack[-1] == 7).all()
            results.append(memory)
            np.testing.assert_array_equal(memory, results[0])


@pytest.mark.parametrize("target", EVERY_TARGET)
@pytest.mark.parametrize("dtype", DTYPES)
def test_half_of_the_last_line(dtype, target):
    """Neurons that fill at most half of it: the same bits as with all of it."""
    half = LINE_BYTES // np.dtype(dtype).itemsize // 2
    left_alone = 0  # halves of lines
    for lines in range(6):
        for m, k, n in [(1, 9, 1), (5, 30, half), (37, 12, half - 1)]:
            n = n + 2 * half * lines
            a, b, c0 = draw(dtype, (m, k), (k, n), (1, n))
            want = reference.matmul(a.astype("f8"), b.astype("f8"), c0.astype("f8"))
            b, c0, results = padded(b), padded(c0), []
            for width in (b.shape[1], n):
                c = np.full((m, b.shape[1]), 7, dtype)
                start = matrix(c0[:, :width]).broadcast(m)
                multiply(target, matrix(c[:, :width]), matrix(a), matrix(b[:, :width]), start)
                results.append(c[:, :n])
            left_alone += (c[:, n:] == 7).any()
            np.testing.assert_array_equal(*results)
            close(results[1], want, k, m, k, n)
    assert bool(left_alone) == (target.half_line_width is not None)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", EVERY_TARGET)
def test_affine(dtype, target):
    """x @ W + b, the same bits whichever way the samples lie, but for a single one."""
    for m, k, n in shapes_for(target)[:20]:
        x, w, b = draw(dtype, (m, k), (k, n), (1, n))
        want = reference.matmul(x.astype("f8"), w.astype("f8"), b.astype("f8"))
        both, results = padded(np.vstack([w, b])), []
        for kind in ("rows", "columns"):
            _, view = laid(np.full((m, n), np.nan, dtype), kind)
            given = [matrix(array) for array in (view, laid(x, kind)[1], both[:k, :n], both[k:, :n])]
            run(dtype, lambda program, given=given: matmul.affine(program, *given), target)
            close(view, want, k, m, k, n)
            results.append(view)
        if m > 1:
            np.testing.assert_array_equal(results[1], results[0], err_msg=f"{m} x {k} x {n}")


@pytest.mark.pairs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("start", ["zeros", "itself"])
@pytest.mark.parametrize("way", ["row-major", "inner products", "transposed"])
@pytest.mark.parametrize("target", EVERY_TARGET)
def test_sums_over_the_samples(dtype, start, way, target, monkeypatch):
    """The gradient of W, C0 + x.T @ d, in each of its ways."""
    monkeypatch.setattr(matmul, "_inner_pays", lambda *_: way == "inner products")
    monkeypatch.setattr(matmul, "PACKED_COLUMNS", 2**20)
    function = {"inner products": "inner", "transposed": "transpose"}.get(way)
    kind = "rows" if way == "row-major" else "columns"
    for m, samples, n in shapes_for(target)[:20]:
        x, d, c = draw(dtype, (samples, m), (samples, n), (m, n))
        want = reference.matmul(x.T.astype("f8"), d.astype("f8"), c.astype("f8") if start == "itself" else 0)
        memory, view = laid(c, "rows")
        pack, zeros, out = pack_buffer(target, dtype, samples), matrix(np.zeros((1, 512), dtype)), matrix(view)
        c0 = out if start == "itself" else zeros[:, :n].broadcast(m)
        operands, functions = [out, *(matrix(laid(array, kind)[1]) for array in (x, d)), c0], []

        def write(program, operands=operands, pack=pack, zeros=zeros, functions=functions):
            matmul.matmul_tn(program, *operands, pack_buffer=matrix(pack[:1]), zeros=zeros)
            functions += [name for name, *_ in program.operations]

        run(dtype, write, target)
        assert [name for name in ("inner", "transpose") if name in functions] == [function] * bool(function)
        close(view, want, samples, m, samples, n)
        assert not memory[:, n:].any()
        assert (pack[-1] == 7).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("start", ["zeros", "itself"])
@pytest.mark.parametrize("target", EVERY_TARGET)
def test_sums_over_the_samples_with_x_packed(dtype, start, target, monkeypatch):
    """Some rows of C at a time: the same bits, with other operations in between too, and nothing behind the buffer."""
    monkeypatch.setattr(matmul, "L1_BYTES", 1)
    monkeypatch.setattr(matmul, "PACKED_ROWS", 2 * target.most_rows(target.usual_lines))
    line, packed = LINE_BYTES // np.dtype(dtype).itemsize, 0
    for m, samples, n in [
        *shapes_for(target),
        (2, 3, 4 * line),
        (61, 5, 9 * line + 1),
        (100, 70, 6 * line + line // 2),
    ]:
        x, d, c = draw(dtype, (samples, m), (samples, n), (m, n))
        want = reference.matmul(x.T.astype("f8"), d.astype("f8"), c.astype("f8") if start == "itself" else 0)
        results = []
        for least, count in ((2**20, 0), (2, 0), (2, 3)):
            monkeypatch.setattr(matmul, "PACKED_COLUMNS", least)
            memory, view = laid(c, "rows")
            pack = pack_buffer(target, dtype, samples, matmul.packed_bytes(samples, padded(d).strides[0], dtype))
            zeros, out, functions = matrix(np.zeros((1, 512), dtype)), matrix(view), []
            cells = [matrix(np.zeros((2, line), dtype)) for _ in range(count)]
            interleave = [("copy", {"out": cell[1:, :], "x": cell[:1, :]}) for cell in cells]
            operands = [out, *(matrix(laid(array, "rows")[1]) for array in (x, d))]
            operands += [out if start == "itself" else zeros[:, :n].broadcast(m)]
            places = {"pack_buffer": matrix(pack[:1]), "zeros": zeros, "interleave": interleave}

            def write(program, operands=operands, places=places, functions=functions):
                matmul.matmul_tn(program, *operands, **places)
                functions += [name for name, *_ in program.operations]

            run(dtype, write, target)
            close(view, want, samples, m, samples, n)
            assert not memory[:, n:].any()
            assert (pack[-1] == 7).all()
            assert functions.count("copy") == count
            assert least == 2 or not any(name.startswith("pack") for name in functions)
            packed += any(name.startswith("packed_tiles") for name in functions)
            results.append(memory)
        np.testing.assert_array_equal(results[1], results[0], err_msg=f"{m} x {samples} x {n}")
        np.testing.assert_array_equal(results[2], results[0], err_msg=f"{m} x {samples} x {n}")
    assert packed >= 4


@pytest.mark.parametrize("target", EVERY_TARGET)
def test_x_is_packed_where_the_deltas_exceed_the_cache(target):
    """And where there are two columns of tiles that pay for it, all of one width, and two rows or more."""
    for m, samples, n, packs in ((8, 64, 128, True), (8, 63, 128, False), (1, 64, 128, False), (8, 2048, 16, False)):
        x, d, c = (matrix(laid(array, "rows")[1]) for array in draw("float32", (samples, m), (samples, n), (m, n)))
        program, zeros = Program(target, "float32"), matrix(np.zeros((1, 512), "f4"))
        matmul.matmul_tn(program, c, x, d, c, pack_buffer=zeros, zeros=zeros)
        assert any(name.startswith("pack") for name, *_ in program.operations) == packs, (m, samples, n)
    with pytest.raises(ValueError, match="the shapes do not fit"):
        matmul._multiply_packed(program, c, x[:, 1:], d, c, zeros, ())
    assert matmul.packed_bytes(64, 512, "float32") == matmul.PACKED_ROWS * 64 * 4 + LINE_BYTES
    assert matmul.packed_bytes(63, 512, "float32") == 0
    assert matmul.packed_bytes(64, 512, grouped("float32")) == 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["rows", "columns"])
@pytest.mark.parametrize("target", EVERY_TARGET)
def test_column_sums(dtype, kind, target):
    """The gradient of b. What is added to b are whole lines, so the padding must come out as zero."""
    for n in [1, 7, 16, 17, 33, 40, 72, 100, 300]:
        for samples in (2, 23, 64):
            (d,) = draw(dtype, (samples, n))
            sums = np.full_like(padded(np.zeros((1, n), dtype)), np.nan)
            ones, zeros = padded(np.ones((1, samples), dtype))[:, :samples], np.zeros((1, 512), dtype)
            given = [matrix(array) for array in (sums[:, :n], laid(d, kind)[1], ones, zeros)]
            run(dtype, lambda program, given=given: matmul.column_sums(program, *given), target)
            close(sums[:, :n], d.astype("f8").sum(axis=0, keepdims=True), samples, samples, n)
            assert not sums[:, n:].any()


@pytest.mark.parametrize("target", EVERY_TARGET)
def test_operations_are_spread_through_a_product(target):
    """Each of them once, in their order, with about as many tiles between any two; and the same bits."""
    m, k, n = 200, 5, 100
    a, b = draw("float32", (m, k), (k, n))
    results = []
    for count in (0, 1, 7, 1000):
        numbers = np.zeros((2, 16 * max(1, count)), "f4")
        numbers[0, ::16] = np.arange(1, max(1, count) + 1)
        cells = [matrix(numbers)[:, 16 * i : 16 * i + 1] for i in range(count)]
        given = [{"out": cell[1:, :], "x": cell[:1, :]} for cell in cells]
        memory, view = laid(np.zeros((m, n), "f4"), "rows")
        operands = matrix(view), matrix(a), matrix(laid(b, "rows")[1]), matrix(view)
        written = []

        def write(program, operands=operands, given=given, written=written):
            matmul.matmul(program, *operands, interleave=[("copy", arguments) for arguments in given])
            written += program.operations

        run("float32", write, target)
        results.append(memory)
        assert [arguments for name, arguments, _ in written if name == "copy"] == given
        np.testing.assert_array_equal(numbers[1, : 16 * count : 16], numbers[0, : 16 * count : 16])
        tiles = [0]
        for name, arguments, _ in written:
            if name == "copy":
                tiles.append(0)
            else:
                tiles[-1] += arguments["tiles"]
        assert max(tiles) - min(tiles) <= 1
    for memory in results[1:]:
        np.testing.assert_array_equal(memory, results[0])


def test_what_does_not_fit_is_refused_before_anything_is_written():
    program = Program(HOST, "float32")
    a, b, c = (matrix(laid(array, "rows")[1]) for array in draw("float32", (3, 4), (4, 5), (3, 5)))
    for wrong in ((c, a.T, b), (c, a, b[:3, :]), (c[:2, :], a, b), (c[:, :4], a, b), (c, a, [b[:2, :], b[2:, :4]])):
        with pytest.raises(ValueError, match="the shapes do not fit"):
            matmul.matmul(program, *wrong, wrong[0])
    turned = matrix(laid(np.zeros((4, 5), "f4"), "columns")[1])
    with pytest.raises(ValueError, match="has to be packed, and there is no pack buffer"):
        matmul.matmul(program, c, a, turned, c)
    assert len(program) == 0


@pytest.mark.parametrize(("target", "m"), on_targets([*range(1, 40), 100, 300]))
def test_columns_of_tiles_are_as_even_as_they_come(m, target):
    """They cover the rows and the lines with tiles that exist, of at most two heights a column."""
    for lines in np.arange(0.5, 30, 0.5):
        widths = list(matmul._tile_widths(target, lines))
        assert 0 <= sum(widths) - lines < 1
        for width in widths:
            heights = matmul._tile_heights(target, m, width)
            assert sum(rows * count for rows, count in heights) == m
            assert {(rows, width) for rows, _ in heights} <= set(target.tiles)
            tallest, *others = (rows for rows, _ in heights)
            assert others in ([], [tallest - 1])
