"""Samples that do not fit in memory: where they come from, and a fit on them."""

from __future__ import annotations

import functools
import itertools
import json
import re
from _queue import Empty, SimpleQueue  # and not what a package may have put into `queue`
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..checks import file_paths, scalars
from ..checks.scalars import shown
from ..kernels.running import pool
from . import arrays
from .samples import Samples

BUFFER_BYTES = 2**27  # how many bytes of samples are mixed with each other, where `buffer_rows` does not say
BLOCKS_A_BUFFER = 16  # that are read from different places
FIRST_ROWS = 2**10  # that are looked at before a fit
Paths = Any  # a path or a sequence of them
_Given = tuple[Any, Any, Any]  # X, y, sample_weight: not checked, and not in the model's dtype
Check = Callable[[Any, Any, Any], Samples]
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class FileRows:
    """Samples that lie behind each other in a source, and are read together."""

    name: str  # for errors
    read: Callable[[], Iterable[tuple[Any, ...]]]  # gives (X, y) or (X, y, sample_weight) of all its rows


@dataclass(frozen=True)
class Piece:
    """Samples that lie behind each other in a file: what a stream reads, and what it is dealt to workers in."""

    file: str  # pieces of one have equal names
    first: int
    stop: int  # rows `first` to `stop` - 1 of what it is a piece of
    block: Any  # gives the FileRows of first, stop, and how many rows a block has about
    whole: bool = False  # whether it cannot be cut

    @property
    def rows(self) -> int:
        """How many there are."""
        return self.stop - self.first

    def blocks(self, rows: int) -> list[FileRows]:
        """All of it, in blocks of about so many rows."""
        if self.whole:
            return [self.block(self.first, self.stop, rows)]
        spans = _spans(self.rows, rows)
        return [self.block(self.first + first, self.first + stop, rows) for first, stop in spans]

    def cut(self, parts: int) -> list[Piece]:
        """It in as many parts, as equal as can be, but none without rows."""
        if self.whole:
            return [self]
        edges = [self.first + self.rows * i // parts for i in range(parts + 1)]
        return [replace(self, first=first, stop=stop) for first, stop in itertools.pairwise(edges) if first < stop]


class OneKind:
    """A check of a stream's samples, which refuses those of another kind than the first ones.

    Compiled code is bound to whether there are class indices, and weights. All frames must have the columns of the
    first one.
    """

    def __init__(self, check: Callable[[Any, Any, Any], Any]):
        """check gives (inputs, Targets, weights)."""
        self.check = check
        self.kind: dict[str, bool] = {}  # what the first rows have
        self.names: tuple[str, ...] | None = None  # the columns of the first frame

    def __call__(self, X: Any, y: Any, sample_weight: Any) -> Any:
        """What check gives."""
        found = self.check(X, y, sample_weight)
        arrays.same_columns("X", X, self.names)
        self.names = self.names or arrays.column_names(X)
        kind = {"class indices in y": found[1].array.ndim == 1, "sample weights": sample_weight is not None}
        if not self.kind:
            self.kind = kind
        for what, first in self.kind.items():
            if kind[what] != first:
                others = "the first rows have them" if first else "the first rows have none"
                raise ValueError(f"all batches of a Stream must have {what}, or none; {others}")
        return found


class Stream:
    """Samples that do not fit in memory, for `Model.fit`: `model.fit(stream, epochs=.., batch_size=..)`.

    An epoch reads all samples once. Rows are gathered in a buffer; then the network trains on them in batches, and rows
    that do not fill a batch wait for the next ones. So an epoch has as many steps as if all samples were in memory.
    Memory is needed for a buffer, which grows by doubling, and
    for what is read at a time: a block and the next one, with Parquet a page of each column too.

    Parameters
    ----------
    batches : iterable
        Gives (X, y) or (X, y, sample_weight) of any number of rows, as arrays that `Model.fit` takes: a list, a
        `torch.utils.data.DataLoader`, or an object of yours. Each epoch iterates over it once, so a generator serves
        for a single epoch. Its order stays as it is. All batches must have weights or none, and class indices or
        numeric targets; those of frames must have the same columns.
    buffer_rows : int or None
        How many rows the buffer holds, and so how far they are mixed by `shuffle=True`. None is as many as fill
        128 MiB. It is never less than a batch.

    `Stream.from_arrays`, `from_npy` and `from_parquet` read from files instead. With `shuffle=True` they take blocks of
    rows in random order, mix the rows of a whole buffer, and read ahead in a thread. A block is a 16th of a buffer, or
    a row group of Parquet.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> class Parity:
    ...     def __iter__(self):
    ...         rng = np.random.default_rng(0)
    ...         for _ in range(100):
    ...             X = rng.integers(0, 2, (50, 2))
    ...             yield X, X.sum(axis=1) % 2
    >>> model = fastnn.Model([2, 8, 1], activation="tanh", loss="cross_entropy", rng=0)
    >>> history = model.fit(fastnn.Stream(Parity()), epochs=10, batch_size=25, optimizer=fastnn.Adam(0.01))
    >>> model.classify([[0, 0], [0, 1], [1, 0], [1, 1]])
    array([0, 1, 1, 0])
    """

    def __init__(self, batches: Iterable[Sequence[Any]], *, buffer_rows: int | None = None):
        if isinstance(batches, (str, bytes, np.ndarray)) or not hasattr(batches, "__iter__"):
            raise TypeError(f"batches must be an iterable of pairs (X, y), got {shown(batches)}")
        if buffer_rows is not None:
            buffer_rows = scalars.integer("buffer_rows", buffer_rows, 1)
        self._buffer_rows = buffer_rows
        self._source: _Batches | _FileSource = _Batches(batches)

    @classmethod
    def _of_pieces(cls, pieces: list[Piece], buffer_rows: int | None, shared_by: int = 1) -> Stream:
        stream = cls((), buffer_rows=buffer_rows)
        stream._source = _FileSource(pieces, shared_by)
        return stream

    @classmethod
    def from_arrays(cls, X: Any, y: Any, sample_weight: Any = None, *, buffer_rows: int | None = None) -> Stream:
        """A stream of arrays X (n, n_inputs), y and sample_weight, read by slices: `numpy.memmap`, h5py, zarr, a frame.

        Examples
        --------
        >>> import numpy as np, fastnn
        >>> X, y = np.eye(4), np.array([0, 1, 1, 0])
        >>> stream = fastnn.Stream.from_arrays(X, y, buffer_rows=2)
        >>> _ = fastnn.Model([4, 2]).fit(stream, epochs=2, batch_size=2)
        """
        columns = {"X": X, "y": y} | ({} if sample_weight is None else {"sample_weight": sample_weight})
        for name, array in columns.items():
            if not (hasattr(array, "shape") and hasattr(array, "__getitem__")) or arrays.is_sparse(array):
                raise TypeError(f"{name} must be an array that can be sliced, got {shown(array)}")
        n = _some_rows("X", _same_length({name: array.shape for name, array in columns.items()}))

        return cls._of_pieces([Piece("X", 0, n, functools.partial(_rows_of, tuple(columns.values())))], buffer_rows)

    @classmethod
    def from_npy(cls, X: Paths, y: Paths, sample_weight: Paths = None, *, buffer_rows: int | None = None) -> Stream:
        """A stream of .npy files: X is a path or a list of them, y and sample_weight as many, with the rows of their X.

        The files are mapped, not read as a whole, so one may be larger than memory.
        """
        lists = {"X": _paths("X", X), "y": _paths("y", y)}
        if sample_weight is not None:
            lists["sample_weight"] = _paths("sample_weight", sample_weight)
        for name, paths in lists.items():
            if len(paths) != len(lists["X"]):
                raise ValueError(f"{name} must name a file for each of X, {len(lists['X'])}, got {len(paths)}")
        files = list(zip(*lists.values(), strict=True))
        lengths = [_same_length({path: _mapped(path).shape for path in each}) for each in files]
        _some_rows("X", sum(lengths))

        pairs = zip(files, lengths, strict=True)
        pieces = [Piece(each[0], 0, n, functools.partial(_rows_of_files, each)) for each, n in pairs if n]
        return cls._of_pieces(pieces, buffer_rows)

    @classmethod
    def from_parquet(
        cls,
        paths: Paths,
        target: str | Sequence[str],
        *,
        columns: Sequence[str] | None = None,
        sample_weight: str | None = None,
        buffer_rows: int | None = None,
    ) -> Stream:
        """A stream of Parquet files, a path or a list of them; needs pyarrow: the extra `parquet`.

        target names the column of y, or several; sample_weight that of the weights. columns are those of X, in this
        order; None is all others, in the order of the first file, but not pandas' index, which `to_parquet` adds. A
        block is a row group of a file.
        """
        try:
            from pyarrow import parquet, types
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("from_parquet needs pyarrow: pip install 'fastnn-numba[parquet]'") from error

        files = _paths("paths", paths)
        targets = [target] if isinstance(target, str) else scalars.items("target", target, "a name or several")
        weights = [] if sample_weight is None else [sample_weight]
        schema = _read(files[0], lambda: parquet.read_schema(files[0]))
        index = _pandas_index(schema)
        chosen = None if columns is None else scalars.items("columns", columns, "names of columns")
        others = [name for name in schema.names if name not in (*targets, *weights, *index)]
        inputs = others if chosen is None else chosen
        for what, given in {"columns": inputs, "target": targets}.items():
            if not given:
                raise ValueError(f"{what} must name at least one column, got none of {shown(schema.names)}")
        used = [*inputs, *targets, *weights]
        for name in used:
            if used.count(name) > 1:
                raise ValueError(f"columns, target and sample_weight must name each column once, got {name!r} twice")
        pieces = []
        for path in files:
            with _read(path, lambda path=path: parquet.ParquetFile(path)) as file:  # type: ignore[misc]
                for name in used:
                    _check_column(path, file.schema_arrow, name, types)
                group = functools.partial(_ParquetGroup, path, file.metadata, (inputs, targets, weights))
                lengths = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
                pieces += [Piece(path, 0, n, group(i), whole=True) for i, n in enumerate(lengths) if n]
        if not pieces:
            raise ValueError(f"paths must name files with at least one row, got {shown(files)}")
        return cls._of_pieces(pieces, buffer_rows)

    # ---- what a fit asks for ----

    def _first(self, check: Callable[[Any, Any, Any], _Item]) -> _Item:
        """What check makes of the first rows, before a fit begins."""
        with _noted("in the first rows of the stream"):
            return check(*self._source.first())

    def _inputs(self) -> Iterator[NDArray[Any]]:
        """The X of all samples, some rows after others, as they were given."""

        def check(X: Any, y: Any, sample_weight: Any) -> Samples:
            rows = arrays.numeric("X", X)
            return Samples(rows, np.zeros(len(rows), np.int8))

        for part in self._source.parts(check, self._buffer_rows, None):
            yield part.inputs

    @property
    def _rows(self) -> int:
        """How many samples files hold."""
        assert isinstance(self._source, _FileSource)
        return sum(piece.rows for piece in self._source.pieces)

    def _dealt(self, workers: int) -> list[Stream]:
        """A stream for each worker, which together hold all samples, see `_FileSource.dealt`."""
        if not isinstance(self._source, _FileSource):
            raise ValueError(
                "a Stream must be made by from_parquet, from_npy or from_arrays for workers, which read files or rows "
                "of their own, got one of batches"
            )
        return [Stream._of_pieces(pieces, self._buffer_rows, workers) for pieces in self._source.dealt(workers)]

    def _check_epochs(self, epochs: int) -> None:
        """Raise where the source serves fewer epochs."""
        if epochs > 1 and self._source.once:
            raise ValueError(
                f"a Stream of an iterator serves one epoch, got epochs {epochs}: give it an iterable that can be "
                "iterated again, such as a list or an object with __iter__"
            )

    def _chunks(self, check: Check, batch_size: int, seed: int | None) -> Iterator[tuple[Samples, bool]]:
        """An epoch: (samples, whether they are its last), whole batches but the last one.

        check makes arrays what the kernels read. seed is that of the order of blocks, None for the order they have.
        """
        rows, buffer = self._buffer_rows, _Buffer()
        for part in self._source.parts(check, rows, seed):
            rows = rows or _default_rows(part, self._source.shared_by)
            if buffer.n >= max(rows, batch_size):
                whole = buffer.n - buffer.n % batch_size
                yield buffer.first(whole), False
                buffer.drop(whole)
            buffer.add(part)
        if not buffer.n:
            raise ValueError("a Stream must hold at least one sample an epoch, got none")
        yield buffer.first(buffer.n), True


class _Buffer:
    """Samples of one kind that wait to be trained on. Their arrays are used again, and grow where they have to."""

    def __init__(self) -> None:
        self.inputs, self.targets = (np.empty(0, np.uint8) for _ in range(2))
        self.weights: NDArray[Any] | None = None
        self.n = 0  # rows that wait

    def add(self, part: Samples) -> None:
        """Copy some more."""
        stop = self.n + len(part.inputs)
        self.inputs = self._with(self.inputs, part.inputs, stop)
        self.targets = self._with(self.targets, part.targets, stop)
        if part.weights is not None:
            self.weights = self._with(np.empty(0) if self.weights is None else self.weights, part.weights, stop)
        self.n = stop

    def _with(self, array: NDArray[Any], rows: NDArray[Any], stop: int) -> NDArray[Any]:
        """The array with the rows behind those that wait, or another one that has room for them, and their dtype."""
        dtype = np.promote_types(array.dtype, rows.dtype) if self.n else rows.dtype
        if len(array) < stop or array.dtype != dtype or array.shape[1:] != rows.shape[1:]:
            waiting, array = array[: self.n], np.empty((max(stop, 2 * self.n), *rows.shape[1:]), dtype)
            if self.n:
                array[: self.n] = waiting
        array[self.n : stop] = rows
        return array

    def first(self, n: int) -> Samples:
        """The first n, as long as none is dropped or added."""
        return Samples(self.inputs[:n], self.targets[:n], None if self.weights is None else self.weights[:n])

    def drop(self, n: int) -> None:
        """Forget the first n; the others move to the front."""
        for array in (self.inputs, self.targets, self.weights):
            if array is not None:
                array[: self.n - n] = array[n : self.n]
        self.n -= n


class _Batches:
    """What an iterable gives, in its order. Batches of no rows are passed over."""

    shared_by = 1

    def __init__(self, batches: Iterable[Any]):
        self.batches, self.once = batches, isinstance(batches, Iterator)
        self.opened: Iterator[Any] | None = None  # an epoch that `first` began: its first batch and the others

    def first(self) -> _Given:
        batches = self.opened or iter(self.batches)
        found = next((each for each in map(_given, batches) if _has_rows(*each)), None)
        if found is None:
            raise ValueError("a Stream must hold at least one sample, got none")
        self.opened = itertools.chain([found], batches)
        return found

    def parts(self, check: Check, rows: int | None, seed: int | None) -> Iterator[Samples]:
        batches, self.opened = self.opened or iter(self.batches), None
        for i, batch in enumerate(batches):
            with _noted(f"in batch {i} of the stream"):
                X, y, weights = _given(batch)
                if _has_rows(X, y, weights):
                    yield check(X, y, weights)


class _FileSource:
    """What pieces of files hold, in blocks, in any order."""

    once = False

    def __init__(self, pieces: list[Piece], shared_by: int = 1):
        """shared_by: how many workers share the memory of a buffer whose rows nobody gives."""
        self.pieces, self.shared_by = pieces, shared_by
        self.default_rows: int | None = None  # that fill a buffer, once that is known

    def blocks(self, rows: int) -> list[FileRows]:
        """All samples, in blocks of about so many rows."""
        return [block for piece in self.pieces for block in piece.blocks(rows)]

    def dealt(self, workers: int) -> list[list[Piece]]:
        """The pieces of each worker: whole files where there are enough, else row groups or equal parts of the files.

        In the order they have, each goes to the worker with the fewest rows so far, the first one of several.
        """
        by_file: dict[str, list[Piece]] = {}
        for piece in self.pieces:
            by_file.setdefault(piece.file, []).append(piece)
        units = list(by_file.values())
        if len(units) < workers:
            units = [[part] for piece in self.pieces for part in piece.cut(workers)]
        if len(units) < workers:
            what = f"{workers}, got {len(units)} that cannot be cut"
            raise ValueError(f"a Stream must have a file, a row group or a row for each of the workers, {what}")
        found: list[list[Piece]] = [[] for _ in range(workers)]
        rows = [0] * workers
        for unit in units:
            least = rows.index(min(rows))
            found[least] += unit
            rows[least] += sum(piece.rows for piece in unit)
        return found

    def first(self) -> _Given:
        block = self.blocks(FIRST_ROWS)[0]
        with _noted(f"in {block.name}"):
            return _given(next(iter(block.read())))

    def parts(self, check: Check, rows: int | None, seed: int | None) -> Iterator[Samples]:
        if rows is None:
            rows = self.default_rows = self.default_rows or _default_rows(check(*self.first()), self.shared_by)
        blocks = self.blocks(max(1, rows // BLOCKS_A_BUFFER))
        if seed is not None:
            blocks = [blocks[i] for i in np.random.default_rng(seed).permutation(len(blocks))]
        return _read_ahead(_checked(blocks, check))


def _checked(blocks: list[FileRows], check: Check) -> Iterator[Samples]:
    for block in blocks:
        with _noted(f"in {block.name}"):
            for part in block.read():
                yield check(*_given(part))


def _read_ahead(items: Iterator[_Item]) -> Iterator[_Item]:
    """The items, while a thread reads the next one; read here where no thread comes.

    Nobody waits for the thread after an exception: it ends by itself, with the read that it is at. Its queues have no
    lock of Python's, in which Ctrl-C could leave it.
    """
    wanted: SimpleQueue[bool] = SimpleQueue()
    found: SimpleQueue[tuple[list[_Item], BaseException | None]] = SimpleQueue()

    def read() -> None:
        try:
            while wanted.get():
                found.put((list(itertools.islice(items, 1)), None))
        except BaseException as error:
            found.put(([], error))

    try:
        wanted.put(True)
        if pool.start(read):
            while (answer := _answer(wanted, found)) is not None:
                item, error = answer
                if error is not None:
                    raise error
                if not item:
                    return
                wanted.put(True)
                yield item.pop()
        yield from items
    finally:
        wanted.put(False)


def _answer(wanted: SimpleQueue[bool], found: SimpleQueue[_Item]) -> _Item | None:
    """What the thread found; None if it has not taken up what is wanted, and then it does not."""
    with suppress(Empty):
        return found.get(timeout=pool.PATIENCE)
    with suppress(Empty):
        wanted.get_nowait()
        return None
    return found.get()  # it is reading


@contextmanager
def _noted(where: str) -> Iterator[None]:
    """Say in an error of what samples it speaks."""
    try:
        yield
    except Exception as error:
        error.add_note(where)
        raise


def _given(batch: Any) -> _Given:
    """(X, y, sample_weight) of (X, y) or those three."""
    if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
        raise TypeError(f"each batch of a Stream must be a pair (X, y) or (X, y, sample_weight), got {shown(batch)}")
    if arrays.is_sparse(batch[0]):
        raise TypeError("each batch of a Stream must hold dense rows, got a sparse matrix; partial_fit takes those")
    X, y, *weights = batch
    return X, y, weights[0] if weights else None


def _has_rows(*batch: Any) -> bool:
    """Whether an array of a batch has rows."""
    return any(np.shape(each)[:1] != (0,) for each in batch if each is not None)


def _default_rows(samples: Samples, shared_by: int) -> int:
    """How many rows like these fill a buffer, where so many workers share its memory."""
    return max(1, BUFFER_BYTES // shared_by // sum(array[:1].nbytes for array in samples if array is not None))


def _same_length(shapes: dict[str, tuple[int, ...]]) -> int:
    (first, shape), *_ = shapes.items()
    for name, other in shapes.items():
        if not other or other[0] != shape[0]:
            raise ValueError(f"{name} must have as many rows as {first}, {shape[0]}, got shape {other}")
    return shape[0]


def _some_rows(name: str, n: int) -> int:
    if n == 0:
        raise ValueError(f"{name} must hold at least one sample, got none")
    return n


def _spans(n: int, rows: int) -> list[tuple[int, int]]:
    return [(first, min(n, first + rows)) for first in range(0, n, rows)]


def _rows_of(arrays: tuple[Any, ...], first: int, stop: int, rows: int) -> FileRows:
    def read() -> list[tuple[Any, ...]]:
        return [tuple(_slice(array, first, stop) for array in arrays)]

    return FileRows(f"rows {first} to {stop - 1}", read)


def _rows_of_files(paths: tuple[str, ...], first: int, stop: int, rows: int) -> FileRows:
    def read() -> list[tuple[Any, ...]]:
        return [tuple(_slice(_mapped(path), first, stop) for path in paths)]

    return FileRows(f"{paths[0]}, rows {first} to {stop - 1}", read)


class _ParquetGroup(NamedTuple):
    """A row group of a Parquet file, whose columns of X, y and weights have these names."""

    path: str
    metadata: Any  # of the file
    columns: tuple[list[str], ...]
    number: int

    def __call__(self, first: int, stop: int, rows: int) -> FileRows:
        """All of it, in a buffer of whose blocks have so many rows."""
        most = rows * BLOCKS_A_BUFFER // 4  # at once: fewer have more overhead
        return FileRows(f"{self.path}, row group {self.number}", functools.partial(self._read, most))

    def _read(self, rows: int) -> Iterator[tuple[Any, ...]]:
        found = self._tables(rows)
        while (table := _read(self.path, lambda: next(found, None))) is not None:
            parts = [_columns(table, each) for each in self.columns if each]
            yield tuple(part[:, 0] if i and part.shape[1] == 1 else part for i, part in enumerate(parts))

    def _tables(self, rows: int) -> Iterator[Any]:
        from pyarrow import parquet

        lean = {"pre_buffer": False, "buffer_size": 2**16}  # else a whole group is in memory
        with parquet.ParquetFile(self.path, metadata=self.metadata, **lean) as file:
            yield from file.iter_batches(rows, [self.number], [name for each in self.columns for name in each])


def _slice(array: Any, first: int, stop: int) -> Any:
    """Rows of an array, read now, not when they are used; a frame stays one, for the names of its columns."""
    rows = getattr(array, "iloc", array)[first:stop]
    if arrays.column_names(rows) is None:
        rows = np.array(rows)
    if rows.shape[:1] != (stop - first,):
        raise ValueError(f"an array must have the rows that it had when the stream was made, got shape {rows.shape}")
    return rows


def _mapped(path: str) -> NDArray[Any]:
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except ValueError as error:  # pickled objects, no content, or something else
        raise ValueError(f"{path} must be a .npy file of numbers: {error}") from None
    if array.ndim == 0:
        raise ValueError(f"{path} must be a .npy file of an array with rows, got {shown(array)}")
    return array


def _paths(name: str, value: Paths) -> list[str]:
    """Their names, of at least one."""
    try:
        found = [file_paths.path(value)]
    except TypeError:
        found = [file_paths.path(each) for each in scalars.items(name, value, "a path or a list of them")]
    if not found:
        raise ValueError(f"{name} must name at least one file, got {shown(value)}")
    return [str(path) for path in found]


class _Columns(np.ndarray):
    """Columns of a file, which have names as those of a frame have."""

    columns: list[str] = []  # noqa: RUF012

    def __array_finalize__(self, source: Any) -> None:
        self.columns = getattr(source, "columns", [])


def _columns(table: Any, names: list[str]) -> NDArray[Any]:
    """Columns of a table, (n, number of names)."""
    array = np.column_stack([table.column(name).to_numpy(zero_copy_only=False) for name in names]).view(_Columns)
    array.columns = names
    return array


def _pandas_index(schema: Any) -> list[str]:
    """The columns of a Parquet file that hold the index of the pandas frame that was written."""
    try:
        found = json.loads((schema.metadata or {})[b"pandas"])["index_columns"]
    except (KeyError, TypeError, ValueError):
        found = []
    named = [each for each in found if isinstance(each, str)]  # a range is a dict
    return [*named, *(name for name in schema.names if re.fullmatch("__index_level_[0-9]+__", name))]


def _check_column(path: str, schema: Any, name: Any, types: Any) -> None:
    """Raise where a Parquet file has no column of numbers of that name, or several."""
    count = schema.names.count(name)
    if count != 1:
        much = "a column" if count == 0 else "only one column"
        raise ValueError(f"{path} must have {much} {name!r}, got {shown(schema.names)}")
    kind = of_file = schema.field(name).type
    if types.is_dictionary(kind):
        kind = kind.value_type
    if not any(test(kind) for test in (types.is_integer, types.is_floating, types.is_boolean)):
        raise TypeError(f"{path} must hold numbers in its column {name!r}, got {of_file}")


def _read(path: str, read: Callable[[], _Item]) -> _Item:
    """What read gives; an error of a file's library says which file it is."""
    try:
        return read()
    except (OSError, EOFError, ValueError) as error:
        if path in str(error):
            raise
        what = OSError if isinstance(error, OSError) else ValueError
        raise what(
            f"{path} must be a whole Parquet file, and stay as it is for a Stream to read it: {error}"
        ) from error
