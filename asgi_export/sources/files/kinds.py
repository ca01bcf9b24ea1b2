"""The kinds of files, and how each is read: pulled a batch at a time, in the thread that asks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import ipc

from asgi_export.sources.files.delimited import Csv

BATCH_ROWS = 16 * 1024
BATCH_CELLS = 128 * 1024
"""About a megabyte of text: below this polars' price of a call shows (half as many cells: 15 % slower), above it
only memory grows."""

BATCH_BYTES = 1024 * 1024
"""Where values are large, fewer rows."""

READ_BYTES = 64 * 1024


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
    rows = min(BATCH_ROWS, BATCH_CELLS // max(1, width), BATCH_BYTES // max(1, bytes_a_row))
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
