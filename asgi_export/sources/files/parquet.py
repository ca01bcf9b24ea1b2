"""Parquet files, read a few pages at a time in the calling thread, without read-ahead."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from asgi_export.sources.files.batch_bounds import BATCH_ROWS, batch_rows
from asgi_export.sources.files.damage import DAMAGE, check_batch
from asgi_export.sources.files.int96 import differ_in_units_only, exact_moments

READ_BYTES = 64 * 1024

FIRST_ROWS = 1024
"""Rows of the first batch; nothing is known yet about the values of dictionaries."""


class Parquet:
    """Read row group after row group. Raises `pa.ArrowException` or `OSError` for a damaged file."""

    def schema(self, file: Any) -> pa.Schema:
        """Return the columns as Arrow types; INT96 has microseconds unless the first rows need nanoseconds."""
        parquet = _open_parquet(file)
        moments = _int96_names(parquet, parquet.schema_arrow.names)
        if not moments:
            return parquet.schema_arrow
        schema = _open_parquet(file, "us").schema_arrow
        for field in self._first_types(file, moments):
            place = schema.get_field_index(field.name)
            if differ_in_units_only(schema.field(place).type, field.type):  # it is no ExactText
                schema = schema.set(place, schema.field(place).with_type(field.type))
        return schema

    def batches(self, file: Any, names: Sequence[str], limit: int | None) -> Iterator[pa.RecordBatch]:
        """Read batches of these columns, rarely with others: if a column `a.b` is beside a column `a` with a `b`.

        The first batch is small; the size of the others is adapted to earlier batches and the file's metadata.
        """
        parquet = _open_parquet(file)
        paths = _paths(parquet, names)
        sizes = RowSizes(parquet.metadata, paths)
        moments = _int96_names(parquet, names)
        readers = [(parquet, paths), *([(_open_parquet(file, "s"), _paths(parquet, moments))] if moments else ())]
        rows = min(FIRST_ROWS, sizes.rows(limit))
        found = [reader.iter_batches(rows, columns=[*asked], use_threads=False) for reader, asked in readers]
        for batch, *seconds in zip(*found, strict=True):
            sizes.came(batch)
            for reader, _ in readers:
                reader.reader.set_batch_size(sizes.rows(limit))
            yield check_batch(_with_moments(batch, seconds[0], moments) if seconds else batch)

    def _first_types(self, file: Any, names: Sequence[str]) -> pa.Schema:
        """Return the types of the first batch; none if it cannot be read, which the export will report."""
        try:
            return next((batch.schema for batch in self.batches(file, names, FIRST_ROWS)), pa.schema([]))
        except DAMAGE:
            return pa.schema([])


def _int96_names(parquet: pq.ParquetFile, names: Sequence[str]) -> list[str]:
    """Return the names of the columns that contain INT96 at any depth."""
    columns = [parquet.metadata.schema.column(place) for place in range(parquet.metadata.num_columns)]
    paths = {column.path for column in columns if column.physical_type == "INT96"}
    return [name for name in names if paths & _paths(parquet, [name])] if paths else []


def _with_moments(batch: pa.RecordBatch, seconds: pa.RecordBatch, names: Sequence[str]) -> pa.RecordBatch:
    """Put exact values into these columns, which were read twice, as nanoseconds and as seconds."""
    for name in names:
        place = batch.schema.get_field_index(name)
        column = exact_moments(batch.column(place), seconds.column(seconds.schema.get_field_index(name)))
        batch = batch.set_column(place, name, column)
    return batch


def _open_parquet(file: Any, int96_unit: str = "ns") -> pq.ParquetFile:
    return pq.ParquetFile(file, pre_buffer=False, buffer_size=READ_BYTES, coerce_int96_timestamp_unit=int96_unit)


def _paths(parquet: pq.ParquetFile, names: Sequence[str]) -> frozenset[str]:
    """Return the paths of the Parquet columns below these Arrow columns.

    They are found by their order: in a path, a dot that is part of a name looks like one between two names.
    """
    wanted, start = set(names), 0
    found: list[int] = []
    for field in parquet.schema_arrow:
        end = start + _width(field.type)
        found += range(start, end) if field.name in wanted else ()
        start = end
    return frozenset([parquet.metadata.schema.column(place).path for place in found])


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

    def __init__(self, metadata: Any, paths: Collection[str]) -> None:
        self._groups = [metadata.row_group(place) for place in range(metadata.num_row_groups)]
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
