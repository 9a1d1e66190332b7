"""Matrix: where the operands of vector functions lie. It holds no memory; its address may be known only later."""

from __future__ import annotations

from dataclasses import dataclass

from ..cpu.target import LINE_BYTES

ITEMSIZE = {"float32": 4, "float64": 8, "uint8": 1, "int32": 4, "int64": 8}
# Where a lane of the vector is a network, an element is a number of each network of a group: a line of numbers of the
# networks' dtype, or as many float64.
GROUP = {dtype: LINE_BYTES // ITEMSIZE[dtype] for dtype in ("float32", "float64")}
GROUPED = {f"{dtype}x{n}": (dtype, n) for dtype, n in GROUP.items()} | {
    f"float64x{n}": ("float64", n) for n in GROUP.values()
}
ITEMSIZE |= {name: ITEMSIZE[dtype] * n for name, (dtype, n) in GROUPED.items()}


def grouped(dtype: str, n: int = 0) -> str:
    """The dtype of a number of each network of a group, whose size is n unless it follows from the dtype."""
    return f"{dtype}x{n or GROUP[dtype]}"


def networks_of(dtype: str) -> tuple[str, int]:
    """(the dtype of a network's number, how many networks an element has numbers of)."""
    return GROUPED.get(dtype, (dtype, 1))


def padded(n_bytes: int) -> int:
    """n_bytes rounded up to whole cache lines."""
    return -(-n_bytes // LINE_BYTES) * LINE_BYTES


@dataclass(frozen=True, slots=True)
class Symbol:
    """An address or a number that changes between runs, such as that of the samples; an offset in bytes is added."""

    name: str
    offset: int = 0

    def __add__(self, offset: int) -> Symbol:
        return Symbol(self.name, self.offset + offset)

    def __str__(self) -> str:
        return f"<{self.name}{f' + {self.offset}' if self.offset else ''}>"


Address = int | Symbol


@dataclass(frozen=True, slots=True)
class Matrix:
    """rows x cols elements of a dtype from an address on; strides in bytes, and a stride of 0 repeats an element.

    `name` is for a person to read; `base` is the named matrix that this one is a view of.
    """

    address: Address
    rows: int
    cols: int
    row_stride: int
    col_stride: int
    dtype: str
    name: str = ""
    base: Matrix | None = None

    @classmethod
    def row_major(cls, address: Address, rows: int, cols: int, row_stride: int, dtype: str, name: str = "") -> Matrix:
        """A matrix whose rows are contiguous."""
        return cls(address, rows, cols, row_stride, ITEMSIZE[dtype], dtype, name)

    @classmethod
    def feature_major(cls, address: Address, rows: int, cols: int, stride: int, dtype: str, name: str = "") -> Matrix:
        """A matrix whose columns are contiguous, `stride` bytes apart: a neuron's samples lie side by side."""
        return cls(address, rows, cols, ITEMSIZE[dtype], stride, dtype, name)

    @property
    def itemsize(self) -> int:
        return ITEMSIZE[self.dtype]

    @property
    def is_row_major(self) -> bool:
        """Whether each row is contiguous. A single column may be both."""
        return self.col_stride == self.itemsize

    @property
    def T(self) -> Matrix:
        """The transpose, of the same memory."""
        return self._view(self.address, self.cols, self.rows, self.col_stride, self.row_stride)

    def __getitem__(self, index: tuple[slice, slice]) -> Matrix:
        rows, cols = index
        if rows.step or cols.step:
            raise IndexError("a view of a matrix has all rows and columns between two")
        first, stop, last_column, column = rows.start or 0, rows.stop, cols.stop, cols.start or 0
        stop = self.rows if stop is None else stop
        last_column = self.cols if last_column is None else last_column
        if not (0 <= first <= stop <= self.rows and 0 <= column <= last_column <= self.cols):
            raise IndexError(f"[{first}:{stop}, {column}:{last_column}] is not a part of {self}")
        address = self.address + (first * self.row_stride + column * self.col_stride)
        return self._view(address, stop - first, last_column - column, self.row_stride, self.col_stride)

    def broadcast(self, rows: int) -> Matrix:
        """This single row, repeated."""
        if self.rows != 1:
            raise ValueError(f"only a single row can be repeated, not {self}")
        return self._view(self.address, rows, self.cols, 0, self.col_stride)

    def taller(self, rows: int) -> Matrix:
        """This matrix with so many further rows, which must lie behind these."""
        return self._view(self.address, self.rows + rows, self.cols, self.row_stride, self.col_stride)

    def flat(self) -> Matrix:
        """This matrix for functions of each element: contiguous rows, or one row with the padding where that can be."""
        m, base = (self, self.base or self) if self.is_row_major else (self.T, (self.base or self).T)
        whole = m.cols == base.cols or m.row_stride == padded(m.cols * m.itemsize)
        if not whole:
            return m
        cols = m.rows * m.row_stride // m.itemsize
        return Matrix(m.address, 1, cols, 0, m.itemsize, m.dtype, m.name, m.base or m)

    @property
    def row_bytes(self) -> int:
        """The bytes of a row, padded to whole lines."""
        return padded(self.cols * self.itemsize)

    @property
    def padded_cols(self) -> int:
        return self.row_bytes // self.itemsize

    @property
    def lines(self) -> int:
        return self.row_bytes // LINE_BYTES

    def with_padding(self) -> Matrix:
        """This matrix with its rows to the end of their last line."""
        return self._view(self.address, self.rows, self.padded_cols, self.row_stride, self.col_stride)

    def _view(self, address: Address, rows: int, cols: int, row_stride: int, col_stride: int) -> Matrix:
        return Matrix(address, rows, cols, row_stride, col_stride, self.dtype, self.name, self.base or self)

    def __str__(self) -> str:
        """The name of the base, and which of its rows and columns this matrix has, where it has not all."""
        base = self.base or self
        offset = _offset(self.address) - _offset(base.address)
        name = self.name or f"{self.dtype}@{self.address}"
        if self.row_stride == 0 and self.rows > 1:
            return f"{name} in each row"
        if self.col_stride == 0 and base.rows == 1 and base.col_stride:  # a row, or some of its elements, as a column
            index = f"[0:1, {offset // base.col_stride}:{offset // base.col_stride + self.rows}]"
            return f"{name}{'' if self.rows == base.cols else index}.T"
        if self.row_stride == 0 and base.row_stride:  # flat
            return name if offset == 0 else f"{name} + {offset}"
        strides = base.row_stride, base.col_stride
        transposed = base.row_stride != base.col_stride and strides == (self.col_stride, self.row_stride)
        rows, cols = (self.cols, self.rows) if transposed else (self.rows, self.cols)
        if strides[0] >= strides[1] and strides[0]:
            row, column = offset // strides[0], offset % strides[0] // (strides[1] or 1)
        else:
            row, column = offset % (strides[1] or 1) // (strides[0] or 1), offset // (strides[1] or 1)
        whole = (row, column, rows, cols) == (0, 0, base.rows, base.cols)
        index = "" if whole else f"[{row}:{row + rows}, {column}:{column + cols}]"
        return f"{name}{index}{'.T' if transposed else ''}"


def _offset(address: Address) -> int:
    return address.offset if isinstance(address, Symbol) else address
