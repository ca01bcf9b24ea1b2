"""Parquet and Arrow: typed columns, streamed a row group or a record batch at a time.

Importing this room needs pyarrow. The schema is that of the source (a source of columns), or that of the first batch
of columns; for rows, their first `SAMPLE_ROWS` and the declared types determine it (`schema_of_rows`). It is written
as soon as it is known. A later value that does not fit breaks the export off. No reader takes a broken export for a
complete one: Parquet lacks its footer, Arrow its end-of-stream marker and its last batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from asgi_export.columns.plain import portable
from asgi_export.errors import DoesNotFit, SourceFailed
from asgi_export.formats.arrow.batches import record_batches
from asgi_export.formats.arrow.exact import Inexact, cast_exactly
from asgi_export.formats.arrow.schema import promised_type, schema_of_columns, schema_of_rows, values_for
from asgi_export.table import Batch, Column, Dialect, Row, Rows, flatten

SAMPLE_ROWS = 4096
GROUP_ROWS = 128 * 1024
GROUP_BYTES = 16 * 1024 * 1024
"""A row group is held in memory until it is complete: readers want large ones, a service small ones."""

BATCH_ROWS = 8192
"""Rows of a record batch of an Arrow stream that was made of rows."""

PARQUET_MAGIC = b"PAR1"


class _Sink:
    """A file whose written bytes are taken out again; its position still counts them.

    `prepend` writes the beginning of the file before its writer does; the writer's own beginning is dropped.
    """

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._position = 0
        self._prepended = 0

    def prepend(self, data: bytes) -> None:
        self._parts.append(data)
        self._prepended += len(data)

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._position += len(part)
        dropped = min(self._prepended, len(part))
        self._prepended -= dropped
        self._parts.append(part[dropped:] if dropped else part)
        return len(part)

    def tell(self) -> int:
        return self._position

    def flush(self) -> None:
        """Do nothing: nothing is held back."""

    def close(self) -> None:
        """Do nothing: there is nothing to give back."""

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def take(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


class ColumnarEncoder:
    """The common part of both formats: convert rows to columns, collect batches into groups, and write groups.

    Memory: one group. Raises `SourceFailed` for a value or a batch that does not fit the schema.
    """

    group_rows = GROUP_ROWS

    def __init__(self, columns: Sequence[Column], dialect: Dialect | None = None) -> None:
        self.rows = 0
        self._columns = columns
        self._names = [column.name for column in columns]
        self._schema: pa.Schema | None = None
        self._sample: list[Row] = []
        self._group: list[pa.RecordBatch] = []
        self._group_size = 0
        self._group_bytes = 0
        self._sink = _Sink()
        self._writer: Any = None

    def head(self) -> bytes:
        """Return the beginning of the file, as far as it is known before the first rows."""
        self._begin()
        known = schema_of_columns(self._columns)
        if known is not None:
            self._fix(known)
        return self._sink.take()

    def feed(self, batch: Batch) -> bytes:
        """Add a batch; return the groups that it completes, often none."""
        if isinstance(batch, bytes):
            raise SourceFailed("a batch of ready text has no types; expected rows or columns")
        if isinstance(batch, Sequence):
            self._add_rows(cast("Rows", batch))
        else:
            for found in record_batches(batch, len(self._names)):
                self._add_columns(portable(found).rename_columns(self._names))
        return self._sink.take()

    def flush(self) -> bytes:
        """Write the group so far, if it has rows; this fixes the types by the rows so far."""
        if self.rows:
            self._settle()
            self._write_group()
        return self._sink.take()

    def tail(self) -> bytes:
        """Return the last group and the end of the file; a file without rows has columns all the same."""
        self._settle()
        self._write_group()
        self._open_writer().close()
        return self._sink.take()

    def _add_rows(self, rows: Rows) -> None:
        self.rows += len(rows)
        if self._schema is not None:
            self._add(self._columns_of(rows))
            return
        self._sample += rows
        if len(self._sample) >= SAMPLE_ROWS:
            self._settle()

    def _add_columns(self, batch: pa.RecordBatch) -> None:
        self.rows += batch.num_rows
        if self._schema is None and not self._sample:
            self._fix(self._with_promises(batch.schema.remove_metadata()))
        self._settle()
        self._add(batch if batch.schema == self._schema else self._fit(batch))

    def _with_promises(self, schema: pa.Schema) -> pa.Schema:
        """Complete the schema of a first batch: a column of nulls gets the type that its source declares."""
        for place, column in enumerate(self._columns):
            if pa.types.is_null(schema.field(place).type):
                schema = schema.set(place, pa.field(column.name, promised_type(column)))
        return schema

    def _fit(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        fields = cast("Any", self._schema)
        try:
            columns = [cast_exactly(column, field.type) for column, field in zip(batch.columns, fields, strict=True)]
            return pa.RecordBatch.from_arrays(columns, schema=fields)
        except (Inexact, pa.ArrowInvalid):
            kinds = f"{_kinds_of(batch.schema)} where {_kinds_of(fields)} came first"
            raise DoesNotFit(f"a batch does not fit the types of the first: {kinds}") from None

    def _fix(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._begin_with(schema)

    def _settle(self) -> None:
        """Fix the schema, and add the rows that it was read from."""
        if self._schema is None:
            self._fix(schema_of_rows(self._columns, self._sample))
        sample, self._sample = self._sample, []
        if sample:
            self._add(self._columns_of(sample))

    def _columns_of(self, rows: Rows) -> pa.RecordBatch:
        width = len(self._names)
        flat = flatten(rows, width)
        arrays = [values_for(field, flat[place::width]) for place, field in enumerate(cast("Any", self._schema))]
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)

    def _add(self, batch: pa.RecordBatch) -> None:
        self._group.append(batch)
        self._group_size += batch.num_rows
        self._group_bytes += batch.nbytes
        if self._group_size >= self.group_rows or self._group_bytes >= GROUP_BYTES:
            self._write_group()

    def _write_group(self) -> None:
        group, self._group = self._group, []
        self._group_size = self._group_bytes = 0
        if group:
            self._write(self._open_writer(), pa.Table.from_batches(group, self._schema))

    def _open_writer(self) -> Any:
        if self._writer is None:
            self._writer = self._open(self._sink)
        return self._writer

    def _begin(self) -> None:
        """Prepend the part of the beginning that does not depend on the schema."""

    def _begin_with(self, schema: pa.Schema) -> None:
        """Prepend the part of the beginning that depends on the schema."""

    def _open(self, sink: _Sink) -> Any:
        raise NotImplementedError

    def _write(self, writer: Any, table: pa.Table) -> None:
        raise NotImplementedError


class ParquetEncoder(ColumnarEncoder):
    """One Parquet file, a row group at a time. https://parquet.apache.org/docs/file-format/"""

    def _begin(self) -> None:
        self._sink.prepend(PARQUET_MAGIC)

    def _open(self, sink: _Sink) -> Any:
        return pq.ParquetWriter(pa.PythonFile(sink, mode="w"), self._schema)

    def _write(self, writer: Any, table: pa.Table) -> None:
        writer.write_table(table, row_group_size=max(1, table.num_rows))


class ArrowEncoder(ColumnarEncoder):
    """An Arrow IPC stream. https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format"""

    group_rows = BATCH_ROWS

    def _begin_with(self, schema: pa.Schema) -> None:
        self._sink.prepend(schema.serialize().to_pybytes())

    def _open(self, sink: _Sink) -> Any:
        return pa.ipc.new_stream(pa.PythonFile(sink, mode="w"), self._schema)

    def _write(self, writer: Any, table: pa.Table) -> None:
        writer.write_table(table.combine_chunks())


def _kinds_of(schema: pa.Schema) -> str:
    return ", ".join([str(field.type) for field in schema])
