"""The kinds of files, and how each is read: pulled a batch at a time, in the thread that asks.

A CSV file has no types, so all of its columns are text: 007 stays 007, and what was written is read. A field
that is empty and unquoted is null; a quoted one is empty text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import pyarrow as pa  # type: ignore[import-untyped, unused-ignore]
import pyarrow.parquet as pq  # type: ignore[import-untyped, unused-ignore]
from pyarrow import csv, ipc  # type: ignore[import-untyped, unused-ignore]

BATCH_CELLS = 64 * 1024
"""About a megabyte of text: below this polars' price of a call shows, above it only memory grows."""

BATCH_BYTES = 1024 * 1024
"""Where values are large, fewer rows."""

READ_BYTES = 64 * 1024
CSV_BLOCK_BYTES = 1024 * 1024
"""A row of a CSV file must fit into a block."""


class Kind(Protocol):
    """One kind of file. `batches` gives the named columns, in any order and maybe with others."""

    def schema(self, file: Any) -> pa.Schema: ...
    def batches(self, file: Any, names: Sequence[str], limit: int | None) -> Iterator[pa.RecordBatch]: ...


class Parquet:
    """A row group's columns page by page: with neither threads nor read-ahead."""

    def schema(self, file: Any) -> pa.Schema:
        return pq.read_schema(file)

    def batches(self, file: Any, names: Sequence[str], limit: int | None) -> Iterator[pa.RecordBatch]:
        parquet = pq.ParquetFile(file, pre_buffer=False, buffer_size=READ_BYTES)
        rows = _batch_rows(len(names), _bytes_a_row(parquet.metadata, names), limit)
        found: Iterator[pa.RecordBatch] = parquet.iter_batches(rows, columns=list(names), use_threads=False)
        return found


class Csv:
    """RFC 4180 in UTF-8, with a header line. Raises `pa.ArrowInvalid` for a row with another number of fields."""

    def schema(self, file: Any) -> pa.Schema:
        with self._reader(file, csv.ConvertOptions()) as reader:
            return pa.schema([(name, pa.string()) for name in reader.schema.names])

    def batches(self, file: Any, names: Sequence[str], limit: int | None) -> Iterator[pa.RecordBatch]:
        options = csv.ConvertOptions(
            include_columns=list(names),
            column_types={name: pa.string() for name in names},
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
        )
        with self._reader(file, options) as reader:
            yield from reader

    def _reader(self, file: Any, options: csv.ConvertOptions) -> Any:
        return csv.open_csv(
            file,
            read_options=csv.ReadOptions(use_threads=False, block_size=CSV_BLOCK_BYTES),
            parse_options=csv.ParseOptions(newlines_in_values=True),
            convert_options=options,
        )


class ArrowIpc:
    """The file format and the stream format. A record batch is read whole, so its writer bounds the memory.

    It is not mapped into memory: a file that is cut off meanwhile would end the process.
    """

    def schema(self, file: Any) -> pa.Schema:
        return _ipc_reader(file, []).schema

    def batches(self, file: Any, names: Sequence[str], limit: int | None) -> Iterator[pa.RecordBatch]:
        reader = _ipc_reader(file, names)
        rows = _batch_rows(len(names), 1, limit)
        for batch in _ipc_batches(reader):
            for start in range(0, batch.num_rows, rows):
                yield batch.slice(start, rows)


def _ipc_reader(file: Any, names: Sequence[str]) -> Any:
    if file.read(6) == b"ARROW1":
        places = [ipc.open_file(file).schema.get_field_index(name) for name in names]
        return ipc.open_file(file, options=ipc.IpcReadOptions(included_fields=places, use_threads=False))
    file.seek(0)
    return ipc.open_stream(file)


def _ipc_batches(reader: Any) -> Iterator[pa.RecordBatch]:
    if isinstance(reader, ipc.RecordBatchFileReader):
        return (reader.get_batch(place) for place in range(reader.num_record_batches))
    return iter(reader)


def _batch_rows(width: int, bytes_a_row: int, limit: int | None) -> int:
    rows = min(BATCH_CELLS // max(1, width), BATCH_BYTES // max(1, bytes_a_row))
    return max(1, rows if limit is None else min(rows, limit))


def _bytes_a_row(metadata: Any, names: Sequence[str]) -> int:
    """On average, over all row groups; values that a dictionary holds once count once."""
    wanted = set(names)
    columns = [place for place in range(metadata.num_columns) if _top(metadata, place) in wanted]
    groups = [metadata.row_group(place) for place in range(metadata.num_row_groups)]
    size = sum(group.column(place).total_uncompressed_size for group in groups for place in columns)
    return int(size // max(1, metadata.num_rows))


def _top(metadata: Any, place: int) -> str:
    return str(metadata.schema.column(place).path).partition(".")[0]


KINDS: dict[str, Kind] = {"parquet": Parquet(), "csv": Csv(), "arrow": ArrowIpc()}
