"""Which limit the products of wide layers meet on this CPU: tiles of several shapes, their operands in several places.

Two products of 512-512-512-10 in batches of 256, on one thread: the forward one, C (256, 512) = A (256, 512) @ B, and
the gradient's, C (512, 512) = A.T @ B, whose sums are 256 long. Each line has its operands in another place; there is a
column for each shape of tile, rows x lines of 64 bytes. A figure is the fraction of the multiply-add peak, which is
that of the best tile with everything in the L1 cache: the median of the rounds, in turn. What a line loses to one above
it says where the time goes:

- "in L1": the tile itself. Below 1 its multiply-adds wait for loads or for each other.
- "C of the whole product": the first loads and the last stores of each tile.
- "B packed": B's panel, k rows of a tile's width, in one piece. It comes from the L2 cache where it exceeds the L1.
- "k cut to": the same panel by pieces of so many rows, which stay in the L1 cache; C is loaded and stored for each.
- "B in rows": as a matrix of the model lies in memory; its rows lie 2,112 bytes apart.
- "A in rows": A as it lies in memory too, so this is the whole product. The lines before have a single tile of A.
- "A packed": each tile's rows of A side by side, step by step of k. The engine's gradient does so with "B in rows".
- "huge pages": the same memory in pages of 2 MiB.

Below each table stand the engine's own product, and those of NumPy and PyTorch (MKL) where they are installed, which
pack operands themselves. The last lines are whole fits of wide networks, SGD, shuffling and gathering included.
"""

import contextlib
import functools
import mmap
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

import fastnn
from fastnn.kernels.cpu.target import HOST
from fastnn.kernels.programs.matmul import matmul, matmul_tn
from fastnn.kernels.programs.program import Code, Program
from fastnn.kernels.vector import tile
from fastnn.kernels.vector.library import functions, library
from fastnn.kernels.vector.matrix import LINE_BYTES, Matrix

from .cases import LEARNING_RATE, Case, data
from .machine import print_host
from .markdown import Table, printed
from .roofline import L1_BYTES, fma_peak, repeat
from .timing import in_turn, medians, repeats, seconds

ROUNDS, OPTIONS = 15, {}
FIGURES = printed("wide-forward", "wide-gradient", "wide-fits")
DTYPE, ITEMSIZE, LEAST_ACCUMULATORS = np.float32, 4, 8
LANES = LINE_BYTES // ITEMSIZE
ROW_BYTES, HUGE_PAGE = 2112, 2**21
TURN_SECONDS, FIT_SECONDS, QUICK_SECONDS = 0.005, 0.05, 1e-4
SHAPES = (4, 1), (5, 1), (6, 1), (12, 1), (14, 1), (28, 1), (2, 2), (6, 2), (8, 2), (14, 2), (4, 3), (8, 3), (9, 3)
NETWORKS = (
    Case((512, 512, 512, 10), 256, 5120),
    Case((1024, 1024, 10), 256, 5120),
    Case((784, 128, 64, 10), 128, 25_600),
)
PRODUCTS = {"forward": (256, 512, 512), "gradient": (512, 256, 512)}  # m, k, n


@dataclass(frozen=True)
class Place:
    """Where the operands of a line of the table lie."""

    a: str  # "tile": the same for all, "rows", "packed"
    b: str  # "L1": so few rows that all operands fit there, "packed", "rows"
    whole_c: bool = True
    cut: int = 0  # rows of B at a time
    huge: bool = False


PLACES = {
    "in L1": Place("tile", "L1", whole_c=False),
    "C of the whole product": Place("tile", "L1"),
    "B packed": Place("tile", "packed"),
    "B packed, k cut to 256": Place("tile", "packed", cut=256),
    "B packed, k cut to 128": Place("tile", "packed", cut=128),
    "B packed, huge pages": Place("tile", "packed", huge=True),
    "B in rows": Place("tile", "rows"),
    "B in rows, huge pages": Place("tile", "rows", huge=True),
    "B packed, A in rows": Place("rows", "packed"),
    "B packed, A in rows, k cut to 128": Place("rows", "packed", cut=128),
    "B in rows, A in rows": Place("rows", "rows"),
    "B in rows, A in rows, huge pages": Place("rows", "rows", huge=True),
    "B in rows, A packed": Place("packed", "rows"),
    "B packed, A packed": Place("packed", "packed"),
    "B packed, A packed, k cut to 128": Place("packed", "packed", cut=128),
}


class Memory:
    """Matrices of random numbers in pages of 4 KiB, or in huge ones where the system gives some."""

    def __init__(self, huge: bool):
        self._advice, self._parts = (mmap.MADV_HUGEPAGE if huge else mmap.MADV_NOHUGEPAGE), {}

    def matrix(self, name: str, rows: int, cols: int, row_bytes: int) -> Matrix:
        """A matrix at the beginning of the 2 MiB that have this name."""
        if name not in self._parts:
            part = mmap.mmap(-1, 2 * HUGE_PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            with contextlib.suppress(OSError):  # a kernel without huge pages
                part.madvise(self._advice)
            array = np.frombuffer(part, DTYPE)
            array[:] = np.random.default_rng(0).random(array.size, DTYPE) / 1000
            self._parts[name] = array
        address = -(-self._parts[name].ctypes.data // HUGE_PAGE) * HUGE_PAGE
        return Matrix.row_major(address, rows, cols, row_bytes, "float32", name)


@functools.cache
def memory_of(huge: bool) -> Memory:
    """The memory of all products."""
    return Memory(huge)


def has_huge_pages() -> bool:
    """Whether this process's memory has some now."""
    with contextlib.suppress(OSError), open("/proc/self/smaps_rollup") as lines:
        return any(line.startswith("AnonHugePages:") and int(line.split()[1]) for line in lines)
    return False


def tile_name(rows: int, lines: int) -> str:
    """The name of a tile, which is added to the library where it is not there."""
    name, known = f"tiles_{rows}x{lines}", functions(HOST)
    if (rows, lines) not in HOST.tiles:
        known.state(name, tile.tiles, rows, lines, "rows", signature=tile.tiles_signature("rows"))
    return name


def shapes() -> list[tuple[int, int]]:
    """The tiles of 8 accumulators or more, which fit the registers of this CPU beside vectors of B and one of A."""
    per_line, found = HOST.vectors_per_line, []
    for rows, lines in SHAPES:
        if rows * lines * per_line >= LEAST_ACCUMULATORS and (rows + 1) * lines * per_line + 1 <= HOST.registers:
            found.append((rows, lines))
    return found


class Product:
    """One product by tiles of one shape, its operands in one place."""

    def __init__(self, product: str, place: Place, shape: tuple[int, int]):
        (m, k, n), (rows, lines) = PRODUCTS[product], shape
        width, transposed = lines * LANES, product == "gradient"
        if place.b == "L1":
            k = min(k, L1_BYTES // ((rows + width) * ITEMSIZE))
        memory, self.program = memory_of(place.huge), Program(HOST, "float32")
        down, across, panel = m // rows, n // width, width * ITEMSIZE
        c = memory.matrix("C", m, n, ROW_BYTES)
        b = memory.matrix("B", k, n, ROW_BYTES)
        if place.b != "rows":  # a panel behind the other; in L1 it is one for all
            panels = memory.matrix("panels", k * across, width, panel)
        a = memory.matrix("A", *((k, m) if transposed else (m, k)), ROW_BYTES)
        a = a.T if transposed else a
        if place.a != "rows":  # a tile behind the other
            tiles = memory.matrix("tiles", k * down, rows, rows * ITEMSIZE)
        self.multiply_adds = 0
        for j in range(across):
            for first in range(0, k, place.cut or k):
                part = slice(first, min(k, first + (place.cut or k)))
                if place.b == "rows":
                    b_part = b[part, j * width : (j + 1) * width]
                else:
                    number = 0 if place.b == "L1" else j
                    b_part = panels[number * k : (number + 1) * k, :][part, :]
                for i in range(down):
                    number = 0 if place.a == "tile" else i
                    if place.a == "rows":
                        a_part = a[i * rows : (i + 1) * rows, part]
                    else:
                        a_part = tiles[number * k : (number + 1) * k, :].T[:, part]
                    row, col = (i, j) if place.whole_c else (0, 0)
                    c_part = c[row * rows : (row + 1) * rows, col * width : (col + 1) * width]
                    self.program.add(tile_name(rows, lines), C=c_part, A=a_part, B=b_part, C0=c_part, tiles=1)
                    self.multiply_adds += rows * width * (part.stop - part.start)

    def turn(self) -> Callable[[], None]:
        """A function that computes it once."""
        return functools.partial(repeat, Code([self.program], library("float32")).operations, 1)


def engine(product: str) -> Callable[[], None]:
    """The product as the engine computes it, its packing included."""
    (m, k, n), memory, program = PRODUCTS[product], memory_of(False), Program(HOST, "float32")
    c, b = memory.matrix("C", m, n, ROW_BYTES), memory.matrix("B", k, n, ROW_BYTES)
    if product == "forward":
        matmul(program, c, memory.matrix("A", m, k, ROW_BYTES), b, c)
    else:
        buffer = memory.matrix("buffer", k, HOST.buffer_lines * LANES, HOST.buffer_lines * LINE_BYTES)
        zeros = memory.matrix("zeros", 1, n, ROW_BYTES)
        matmul_tn(program, c, memory.matrix("A", k, m, ROW_BYTES), b, c, pack_buffer=buffer, zeros=zeros)
    return functools.partial(repeat, Code([program], library("float32")).operations, 1)


def others(product: str) -> dict[str, Callable[[], object]]:
    """The products of NumPy and PyTorch on one thread, of contiguous arrays."""
    (m, k, n), rng = PRODUCTS[product], np.random.default_rng(0)
    a, b = rng.random((m, k), DTYPE), rng.random((k, n), DTYPE)
    if product == "gradient":
        a = np.ascontiguousarray(a.T).T
    out = np.empty((m, n), DTYPE)
    found: dict[str, Callable[[], object]] = {"NumPy": lambda: np.matmul(a, b, out=out)}
    if find_spec("torch"):
        import torch

        torch.set_num_threads(1)
        tensors = [torch.from_numpy(x) for x in (a, b, out)]
        found["PyTorch"] = lambda: torch.mm(tensors[0], tensors[1], out=tensors[2])
    return found


def one_thread() -> contextlib.AbstractContextManager[object]:
    """OpenBLAS takes one thread in here, where threadpoolctl is there to tell it."""
    if not find_spec("threadpoolctl"):
        print("threadpoolctl is not installed: NumPy may take more than one thread")
        return contextlib.nullcontext()
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1)


def fractions(turns, peak, rounds, total):
    """{name: the fraction of the peak} of {name: (function, multiply-adds)}, in turn."""
    sides = {}
    for name, (function, multiply_adds) in turns.items():
        function()
        calls = repeats(lambda n, f=function: n * seconds(f, n), total)
        gflops = 2e-9 * multiply_adds
        sides[name] = lambda f=function, n=calls, g=gflops: g / seconds(f, n) / peak
    return medians(in_turn(sides, rounds))


def print_product(product, rounds, total):
    """The table of a product."""
    m, k, n = PRODUCTS[product]
    tiles, turns = shapes(), {}
    for text, place in PLACES.items():
        for shape in tiles:
            each = Product(product, place, shape)
            turns[text, shape] = each.turn(), each.multiply_adds
    whole = {"the engine": engine(product), **others(product)}
    turns |= {(name, None): (function, m * k * n) for name, function in whole.items()}
    if not has_huge_pages():
        print("there are no huge pages here: lines that name them have small ones")
    found = fractions(turns, fma_peak(rounds=min(rounds, 10)), rounds, total)
    best = max(value for (text, _), value in found.items() if text == "in L1")
    title = f"{product}: m, k, n = {m}, {k}, {n}; fractions of the peak, {best:.2f} of the roofline's figure"
    shown = [f"{rows}x{lines}" for rows, lines in tiles]
    table = Table(f"wide-{product}", "tiles of", *shown, "the whole product", title=title)
    for text in PLACES:
        table.add(text, *(f"{found[text, shape] / best:.2f}" for shape in tiles), "")
    for name in whole:
        table.add(name, *[""] * len(tiles), f"{found[name, None] / best:.2f}")


def print_training(rounds, quick):
    """Each network's fraction of the peak in a fit of an epoch on one thread."""
    turns = {}
    for case in (case.cut(2 * case.batch_size) if quick else case for case in NETWORKS):
        model, (X, y) = fastnn.Model(case.sizes, rng=0), data(case)
        options = {"batch_size": case.batch_size, "optimizer": fastnn.SGD(LEARNING_RATE), "threads": 1}
        fit = functools.partial(model.fit, X, y, epochs=1, **options)
        turns[case.name] = fit, case.n_samples * case.flops // 2
    for shape in shapes():  # in turn with the fits, because other work on this machine slows both
        tile_in_l1 = Product("forward", PLACES["in L1"], shape)
        turns[shape] = tile_in_l1.turn(), tile_in_l1.multiply_adds
    found = fractions(turns, 1, rounds, QUICK_SECONDS if quick else FIT_SECONDS)
    best = max(found.pop(shape) for shape in shapes())
    table = Table("wide-fits", "network, batch", "of the peak", title="Whole fits, one thread")
    for name, fraction in found.items():
        table.add(name, f"{fraction / best:.2f}")


def run(options):
    """Print a table for each product, and what whole fits reach."""
    print_host()
    with one_thread():
        for product in PRODUCTS:
            print_product(product, options.rounds, QUICK_SECONDS if options.quick else TURN_SECONDS)
        print_training(options.rounds, options.quick)
