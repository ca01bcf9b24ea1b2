"""Columns of a Parquet file, read in batches whose size adapts to what they hold."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from asgi_export.sources.files.batch_bounds import BATCH_ROWS, batch_rows
from asgi_export.sources.files.int96 import exact_moments

READ_BYTES = 64 * 1024

FIRST_ROWS = 1024
"""Rows of the first batch; nothing is known yet about the values of dictionaries."""


class ColumnBatches:
    """Read some columns of row groups, by default of all, in batches. INT96 is read twice and comes exactly."""

    def __init__(self, file: Any, parquet: pq.ParquetFile, names: Sequence[str], groups: Sequence[int] | None = None):
        self._groups = range(parquet.num_row_groups) if groups is None else groups
        paths = paths_of(parquet, names)
        self._sizes = RowSizes(parquet.metadata, paths, self._groups)
        self._moments = int96_names(parquet, names)
        self._readers = [(parquet, paths)]
        if self._moments:
            self._readers.append((open_parquet(file, "s"), paths_of(parquet, self._moments)))
        self._found: list[Iterator[pa.RecordBatch]] = []

    def next(self, most: int | None = None) -> pa.RecordBatch | None:
        """Return the next batch, of `most` rows at most; None at the end. It is not checked."""
        rows = self._sizes.rows(most)
        if not self._found:
            rows = min(FIRST_ROWS, rows)
            self._found = [
                reader.iter_batches(rows, row_groups=self._groups, columns=[*paths], use_threads=False)
                for reader, paths in self._readers
            ]
        for reader, _ in self._readers:  # which others may use meanwhile
            reader.reader.set_batch_size(rows)
        batch, *seconds = [next(batches, None) for batches in self._found]
        if batch is None:
            return None
        if not all(seconds):
            raise pa.ArrowInvalid("a column has fewer rows when it is read again")
        self._sizes.came(batch)
        return _with_moments(batch, seconds[0], self._moments) if seconds else batch


def int96_names(parquet: pq.ParquetFile, names: Sequence[str]) -> list[str]:
    """Return the names of the columns that contain INT96 at any depth."""
    columns = [parquet.metadata.schema.column(place) for place in range(parquet.metadata.num_columns)]
    paths = {column.path for column in columns if column.physical_type == "INT96"}
    return [name for name in names if paths & paths_of(parquet, [name])] if paths else []


def _with_moments(batch: pa.RecordBatch, seconds: pa.RecordBatch, names: Sequence[str]) -> pa.RecordBatch:
    """Put exact values into these columns, which were read twice, as nanoseconds and as seconds."""
    for name in names:
        place = batch.schema.get_field_index(name)
        column = exact_moments(batch.column(place), seconds.column(seconds.schema.get_field_index(name)))
        batch = batch.set_column(place, name, column)
    return batch


def open_parquet(file: Any, int96_unit: str = "ns") -> pq.ParquetFile:
    return pq.ParquetFile(file, pre_buffer=False, buffer_size=READ_BYTES, coerce_int96_timestamp_unit=int96_unit)


def paths_of(parquet: pq.ParquetFile, names: Sequence[str]) -> frozenset[str]:
    """Return the paths of the Parquet columns below these Arrow columns."""
    return frozenset([parquet.metadata.schema.column(place).path for place in places_of(parquet, names)])


def places_of(parquet: pq.ParquetFile, names: Sequence[str]) -> list[int]:
    """Return the places of the Parquet columns below these Arrow columns.

    They are found by their order: in a path, a dot that is part of a name looks like one between two names.
    """
    wanted, start = set(names), 0
    found: list[int] = []
    for field in parquet.schema_arrow:
        end = start + _width(field.type)
        found += range(start, end) if field.name in wanted else ()
        start = end
    return found


def _width(kind: pa.DataType) -> int:
    """Count the Parquet columns of an Arrow type."""
    if isinstance(kind, pa.BaseExtensionType):
        return _width(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return _width(kind.value_type)
    return sum([_width(kind.field(place).type) for place in range(kind.num_fields)]) if kind.num_fields else 1


class RowSizes:
    """Estimate the bytes of a coming row of these Parquet columns, and from that the rows of a batch.

    The metadata of a column is read only after a batch of its row group: pyarrow ends the process if the column is
    encrypted, and the batch proves that it is not. For later row groups only the size of all columns is known; if
    they are larger than the last one, the difference is attributed to these columns. A dictionary stores a value once
    for many rows, so the size of the last batch in memory counts as well.
    """

    def __init__(self, metadata: Any, paths: Collection[str], groups: Sequence[int]) -> None:
        self._groups = [metadata.row_group(place) for place in groups]
        columns = range(metadata.num_columns)
        self._columns = [place for place in columns if metadata.schema.column(place).path in paths]
        self._ahead = 0
        self._unread = 0
        self._size = self._whole = self._last = 0.0

    def came(self, batch: pa.RecordBatch) -> None:
        """Note the size of the last batch."""
        self._last = batch.nbytes / max(1, batch.num_rows)
        self._unread -= batch.num_rows
        while self._unread < 0 and self._ahead < len(self._groups):
            group = self._groups[self._ahead]
            self._unread += group.num_rows
            self._size = sum([group.column(place).total_uncompressed_size for place in self._columns]) / _rows(group)
            self._whole = group.total_byte_size / _rows(group)
            self._ahead += 1

    def rows(self, limit: int | None) -> int:
        """Return the number of rows of the next batch."""
        sizes, rows = [self._last, self._size if self._unread > 0 else 0], self._unread
        for group in islice(self._groups, self._ahead, None):
            if rows >= BATCH_ROWS:
                break
            rows += group.num_rows
            sizes.append(self._size + max(0, group.total_byte_size / _rows(group) - self._whole))
        return batch_rows(len(self._columns), max(sizes), limit)


def _rows(group: Any) -> int:
    rows: int = group.num_rows
    return max(1, rows)
