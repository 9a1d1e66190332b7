"""The CPU that vector code is written for, as a value: its registers, and what they mean for tiles and activations.

Programs can be written for any target on any machine; running them needs a CPU that has the target's instructions.
"""

import itertools
import math
import os
from dataclasses import dataclass
from functools import cached_property

import llvmlite.binding as llvm

WITHOUT_AVX = "corei7-avx", "core-avx-i", "sandybridge", "ivybridge", "nocona"  # CPUs for which Numba uses none
LINE_BYTES = 64  # bytes of a cache line: one AVX-512 register, two of AVX; every CPU's rows are padded to whole lines
MAX_ACCUMULATORS = 12  # the most lines of a tile: more take longer to load and store than neighbouring tiles overlap


@dataclass(frozen=True)
class Target:
    """A CPU as LLVM knows it (triple, name, features), and its vector registers."""

    triple: str
    cpu: str
    features: str
    vector_bytes: int
    registers: int
    has_fma: bool

    @classmethod
    def of(cls, triple: str, cpu: str, features: str) -> "Target":
        """The widest vectors that the features allow; 128 bits on everything that is not x86."""
        has = set(features.split(","))
        if not triple.startswith(("x86_64", "i686")):
            return cls(triple, cpu, features, 16, 32, True)
        if "+avx512f" in has:
            return cls(triple, cpu, features, 64, 32, True)
        if "+avx" in has:
            return cls(triple, cpu, features, 32, 16, "+fma" in has)
        return cls(triple, cpu, features, 16, 16, False)

    @property
    def vectors_per_line(self) -> int:
        return LINE_BYTES // self.vector_bytes

    @property
    def vectors_at_once(self) -> int:
        """How many vectors an activation takes side by side, because each of its steps waits for the one before."""
        return 8 if self.vector_bytes == 64 else 4

    @property
    def divides_beside(self) -> bool:
        """Whether a division of a register of float32 takes few cycles, beside multiply-adds: on AMD's CPUs."""
        return self.cpu.startswith("znver")

    def _max_tile_rows(self, lines: float) -> int:
        """The most rows whose accumulators fit the registers beside the vectors of B and one of A, on ARM one a row.

        On ARM LLVM loads all of A's first, because a multiply-add takes its factor from a register.
        """
        width = math.ceil(lines * self.vectors_per_line)
        left = self.registers - width
        rows = (left - 1) // width if self.triple.startswith(("x86_64", "i686")) else left // (width + 1)
        return min(MAX_ACCUMULATORS // math.ceil(lines), rows)

    @cached_property
    def tile_rows(self) -> tuple[int, ...]:
        """The most rows of a tile by its width in lines; wider than one line only where three rows fit."""
        wider = itertools.takewhile(lambda rows: rows >= 3, map(self._max_tile_rows, (2, 3)))
        return 0, self._max_tile_rows(1), *wider

    @cached_property
    def column_tiles(self) -> tuple[tuple[int, float], ...]:
        """(rows, width in lines) of the tiles whose sums start from a column; those of one row are as wide as rows."""
        return tuple((rows, int(width)) for rows, width in self.tiles if width == int(width) and rows > 1) + tuple(
            (1, width) for width in self.row_widths
        )

    @cached_property
    def group_tile_rows(self) -> tuple[int, ...]:
        """The most rows of a tile by its width, where an element is a vector, for `tile.group_tiles`."""
        accumulators = 16 if self.registers >= 32 else 12
        rows = [min(12, accumulators // width, (self.registers - 1) // width - 1) for width in range(1, 9)]
        return 0, *itertools.takewhile(lambda n: n >= 1, rows)

    @property
    def row_widths(self) -> tuple[int, ...]:
        """The widths of a single row's tiles, in lines.

        A wider tile has too few additions at once, a narrower one too many loads.
        """
        return (4, 2, 1) if self.vectors_per_line == 1 else (2, 1)

    @property
    def inner_tile(self) -> tuple[int, int]:
        """Rows and columns of a tile of inner products: its sums and their operands fit the registers."""
        return (4 if self.registers >= 32 else 2), 4

    @property
    def tile_lines(self) -> int:
        """The width of the widest tiles, in lines."""
        return len(self.tile_rows) - 1

    @property
    def usual_lines(self) -> int:
        """The width of most columns of tiles, in lines: two if there is a choice, so that tiles are nearly square."""
        return min(2, self.tile_lines)

    @property
    def half_line_width(self) -> float | None:
        """The width of tiles whose last line is half a one: a vector less, or half of one, which halves its time too.

        Such tiles have as many accumulators as the others, to hide the latency of a multiply-add.
        """
        return {1: self.tile_lines - 0.5, 2: self.tile_lines + 0.5}.get(self.vectors_per_line)

    def most_rows(self, lines: float) -> int:
        """The most rows of a tile of that width."""
        return self.tile_rows[math.ceil(lines)] if lines <= self.tile_lines else self._max_tile_rows(lines)

    @property
    def buffer_lines(self) -> int:
        """The whole lines that every tile's width fits."""
        return math.ceil(max(self.tile_lines, self.half_line_width or 0))

    @cached_property
    def tiles(self) -> tuple[tuple[int, float], ...]:
        """(rows, width in lines) of every tile there is."""
        widths: list[float] = list(range(1, self.tile_lines + 1))
        tiles = [(rows, width) for width in widths for rows in range(1, self.tile_rows[int(width)] + 1)]
        if narrow := self.half_line_width:
            tiles += [(rows, narrow) for rows in range(1, self.most_rows(narrow) + 1)]
        return tuple(tiles)


_X86, _ARM = "x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"
AVX512 = Target.of(_X86, "skylake-avx512", "+avx512f,+avx512vl,+avx512bw,+avx512dq,+avx512cd,+avx2,+avx,+fma")
AVX2 = Target.of(_X86, "haswell", "+avx2,+avx,+fma")
SSE = Target.of(_X86, "nehalem", "+sse4.1,+ssse3,+sse3,+sse2")
NEON = Target.of(_ARM, "generic", "+neon")


def _host() -> Target:
    """The CPU at hand, as Numba sees it: NUMBA_CPU_NAME, NUMBA_CPU_FEATURES and NUMBA_ENABLE_AVX can change it."""
    chosen = os.environ.get("NUMBA_CPU_NAME", "")
    cpu = chosen or llvm.get_host_cpu_name()
    features = os.environ.get("NUMBA_CPU_FEATURES", "" if chosen.lower() == "generic" else None)
    if features is None:
        found, avx = llvm.get_host_cpu_features(), os.environ.get("NUMBA_ENABLE_AVX", "")
        if int(avx) == 0 if avx.isdecimal() else cpu in WITHOUT_AVX:
            found |= {name: False for name in found if name.startswith("avx")}
        features = found.flatten()
    return Target.of(llvm.get_process_triple(), cpu, features)


llvm.initialize_native_target()
llvm.initialize_native_asmprinter()
HOST = _host()
