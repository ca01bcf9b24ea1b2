"""Sort the rows of files with DuckDB, in bounded memory.

DuckDB gets the columns to sort by and a number for each row, and nothing else: no file, no extension, no value that
it might change. It holds `memory_mb` and spills the rest into a folder of its own. The rows are written there as they
are, and read in the order that it found. Rows that are equal keep the order of the files.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import ipc

from asgi_export.columns.plain import portable_array
from asgi_export.columns.shared_values import shares
from asgi_export.declared import Kind
from asgi_export.errors import ExportError, SourceFailed, Unavailable
from asgi_export.extras import extra
from asgi_export.sources.files.batch_bounds import batch_rows
from asgi_export.sources.files.sort_keys import keys_of
from asgi_export.table import BlockingCursor, Sort

SORT_MEMORY_MB = 256
THREADS = 1
"""Each takes memory of its own for its part of the sort."""

SORTS_AT_ONCE = 2
"""In a process; each takes its memory until its order is found, and the others wait."""

ORDER_ROWS = 64 * 1024
_FILE_BITS = 40
"""A row is known by its place in a file of rows, and the number of that file above."""

_places = threading.BoundedSemaphore(SORTS_AT_ONCE)


@dataclass(frozen=True, slots=True)
class Order:
    """What to sort by: columns of the rows by their places, with their kinds."""

    sort: Sequence[Sort]
    places: Sequence[int]
    kinds: Sequence[Kind]
    limit: int | None
    memory_mb: int

    def statement(self, counts: Sequence[int]) -> str:
        """Return the query, for so many keys of each column."""
        keys: list[str] = []
        for found, count in zip(self.sort, counts, strict=True):
            direction = "DESC" if found.descending else "ASC"
            keys += [f"k{len(keys) + place} {direction} NULLS LAST" for place in range(count)]
        end = "" if self.limit is None else f" LIMIT {self.limit:d}"
        return f"SELECT place FROM keys ORDER BY {', '.join([*keys, 'number'])}{end}"


class SortedCursor:
    """The first `width` columns of the rows of another cursor, sorted; a `BlockingCursor`.

    All rows are read before the first comes. Raises `Unavailable` if memory or disk do not suffice.
    """

    def __init__(self, name: str, rows: BlockingCursor, schema: pa.Schema, width: int, order: Order) -> None:
        self._name = name
        self._rows = rows
        self._schema = schema
        self._width = width
        self._order = order
        self._interrupted = threading.Event()
        self._lock = threading.Lock()
        self._connection: Any = None
        self._left = ExitStack()
        self._sorted: Iterator[pa.RecordBatch] | None = None

    def __enter__(self) -> Iterator[Any]:
        self._left.push(self._rows)
        self._batches = self._rows.__enter__()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._sorted = iter(())
        self._left.close()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        """Return the next batch; the first takes as long as reading and sorting all rows."""
        if self._sorted is None:
            with self._failures(), _place(self._interrupted):
                self._sorted = self._sort()
        if self._interrupted.is_set():
            raise SourceFailed(f"{self._name}: interrupted")
        return next(self._sorted)

    def interrupt(self) -> None:
        """End the sort, or make the next batch fail."""
        self._interrupted.set()
        self._rows.interrupt()
        with self._lock:
            if self._connection is not None:
                self._connection.interrupt()

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Raise what failed in the words of an export; the cause is for the log."""
        try:
            yield
        except ExportError:
            raise
        except (OSError, MemoryError, _duckdb().Error, pa.ArrowException) as error:
            if self._interrupted.is_set():
                raise SourceFailed(f"{self._name}: interrupted") from error
            raise Unavailable(f"{self._name}: the rows could not be sorted") from error

    def _sort(self) -> Iterator[pa.RecordBatch]:
        folder = tempfile.mkdtemp(prefix="asgi-export-sort-")
        self._left.callback(shutil.rmtree, folder, ignore_errors=True)
        spill = _Spill(folder)
        self._left.callback(spill.close)
        order = os.path.join(folder, "order")
        with self._connected(folder) as connection:
            self._find_order(connection, spill, order)
        self._rows.__exit__(None, None, None)
        rows = spill.rows(order, self._width)
        shutil.rmtree(folder, ignore_errors=True)  # the files stay until they are closed
        return rows

    def _find_order(self, connection: Any, spill: _Spill, path: str) -> None:
        """Write the places of the rows in their order into a file."""
        source = _Keys(self._batches, spill, self._order, self._schema)
        connection.register("keys", pa.RecordBatchReader.from_batches(source.schema, source.batches()))
        try:
            found = connection.sql(self._order.statement(source.counts))
            reader = (getattr(found, "to_arrow_reader", None) or found.fetch_arrow_reader)(ORDER_ROWS)
            with pa.OSFile(path, "wb") as file, ipc.new_file(file, reader.schema) as writer:
                for batch in reader:
                    writer.write_batch(batch)
        except _duckdb().Error:
            if source.failure is not None:
                raise source.failure from None
            raise
        spill.finish()

    @contextmanager
    def _connected(self, folder: str) -> Iterator[Any]:
        """Open a database in memory that reaches no file but those that it spills."""
        options = {
            "memory_limit": f"{self._order.memory_mb}MB",
            "temp_directory": os.path.join(folder, "spilled"),
            "threads": str(THREADS),
            "preserve_insertion_order": "false",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        }
        connection = _duckdb().connect(":memory:", config=options)
        try:
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
            with self._lock:
                self._connection = connection
            yield connection
        finally:
            with self._lock:
                self._connection = None
            connection.close()


def _duckdb() -> Any:
    with extra("duckdb"):
        import duckdb
    return duckdb


@contextmanager
def _place(interrupted: threading.Event) -> Iterator[None]:
    while not _places.acquire(timeout=0.05):
        if interrupted.is_set():
            raise SourceFailed("interrupted before the sort began")
    try:
        yield
    finally:
        _places.release()


class _Keys:
    """What DuckDB gets of the rows, which are written on the way; `failure` is what a row's source raised."""

    def __init__(self, batches: Iterator[Any], spill: _Spill, order: Order, schema: pa.Schema) -> None:
        self._batches = batches
        self._spill = spill
        self._order = order
        self._number = 0
        self.failure: BaseException | None = None
        keys = [keys_of(pa.nulls(0, schema.field(place).type), kind) for place, kind in self._columns()]
        self.counts = [len(found) for found in keys]
        arrays = [array for found in keys for array in found]
        fields = [pa.field(f"k{place}", array.type) for place, array in enumerate(arrays)]
        self.schema = pa.schema([*fields, ("number", pa.int64()), ("place", pa.int64())])

    def _columns(self) -> Iterator[tuple[int, Kind]]:
        return zip(self._order.places, self._order.kinds, strict=True)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Iterate the keys, in a thread of DuckDB; whatever is raised ends its query."""
        try:
            for batch in self._batches:
                yield self._of(batch)
        except BaseException as error:
            self.failure = error
            raise

    def _of(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        arrays = [array for place, kind in self._columns() for array in keys_of(batch.column(place), kind)]
        numbers = pa.array(range(self._number, self._number + batch.num_rows), pa.int64())
        self._number += batch.num_rows
        places = pa.array(self._spill.add(batch), pa.int64())
        return pa.RecordBatch.from_arrays([*arrays, numbers, places], schema=self.schema)


class _File(Protocol):
    def close(self) -> None: ...


class _Spill:
    """Rows in files, one for each combination of types: INT96 has several."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._schemas: list[pa.Schema] = []
        self._writers: list[Any] = []
        self._counts: list[int] = []
        self._bytes = 0
        self._open: list[_File] = []

    def add(self, batch: pa.RecordBatch) -> range:
        """Write rows, and return their places."""
        batch = _own(batch)
        if batch.schema not in self._schemas:
            file = pa.OSFile(self._path(len(self._schemas)), "wb")
            self._schemas.append(batch.schema)
            self._counts.append(0)
            self._open.append(file)
            self._writers.append(ipc.new_file(file, batch.schema))
        number = self._schemas.index(batch.schema)
        self._writers[number].write_batch(batch)
        start = (number << _FILE_BITS) + self._counts[number]
        self._counts[number] += batch.num_rows
        self._bytes += batch.nbytes
        return range(start, start + batch.num_rows)

    def finish(self) -> None:
        """Write what is left."""
        for writer, file in zip(self._writers, self._open, strict=True):
            writer.close()
            file.close()
        self._writers, self._open = [], []

    def rows(self, order: str, width: int) -> Iterator[pa.RecordBatch]:
        """Open the files, and return an iterator of the rows in the order of another file."""
        tables = [self._table(self._path(number), width) for number in range(len(self._schemas))]
        places = self._table(order, 1)
        return self._batches(tables, places, batch_rows(width, self._bytes / max(1, sum(self._counts)), None))

    def close(self) -> None:
        """Close the files; nothing may be read any more."""
        for file in self._open:
            file.close()
        self._open = []

    def _path(self, number: int) -> str:
        return os.path.join(self._folder, f"rows{number}")

    def _table(self, path: str, width: int) -> pa.Table:
        mapped = pa.memory_map(path)
        self._open.append(mapped)
        return ipc.open_file(mapped).read_all().select(range(width))

    def _batches(self, tables: Sequence[pa.Table], places: pa.Table, rows: int) -> Iterator[pa.RecordBatch]:
        for start in range(0, places.num_rows, rows):
            found = places.column(0).slice(start, rows).combine_chunks()
            numbers = pc.shift_right(found, _FILE_BITS)
            within = pc.bit_wise_and(found, (1 << _FILE_BITS) - 1)
            at = 0
            for number, run in groupby(numbers.to_pylist()):
                count = len(list(run))
                yield from _taken(tables[number], within.slice(at, count))
                at += count


def _taken(table: pa.Table, places: pa.Array) -> Iterator[pa.RecordBatch]:
    batches: list[pa.RecordBatch] = table.take(places).combine_chunks().to_batches()
    yield from batches


def _own(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Write out values that rows share: rows cannot be taken from views and runs, nor dictionaries written."""
    if not any(shares(column.type) for column in batch.columns):
        return batch
    columns = [portable_array(column) if shares(column.type) else column for column in batch.columns]
    fields = [field.with_type(column.type) for field, column in zip(batch.schema, columns, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))
