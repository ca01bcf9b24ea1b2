"""Batches of columns of any library: pyarrow, polars, DuckDB, ADBC, by the Arrow PyCapsule interface.

https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from asgi_export.errors import SourceFailed
from asgi_export.table import ArrowArray, ArrowStream, Batch

MAX_CELLS = 256 * 1024
"""Cells that are encoded at once: a table of any size takes the memory of their text, some 4 MB."""


def record_batches(batch: Batch, width: int, most: int | None = None) -> Iterator[pa.RecordBatch]:
    """Iterate the record batches of a batch of columns, without a copy.

    A stream is read as it is asked for. Batches come in slices of `most` rows, by default of `MAX_CELLS` cells.
    Raises `SourceFailed` if there are not `width` columns, or if the batch does not speak Arrow.
    """
    rows = most or max(1, MAX_CELLS // max(1, width))
    for found in _whole(batch):
        if found.num_columns != width:
            raise SourceFailed(f"a batch has {found.num_columns} columns; expected {width}")
        for start in range(0, found.num_rows, rows):
            yield found.slice(start, rows)


def _whole(batch: Batch) -> Iterator[pa.RecordBatch]:
    if isinstance(batch, ArrowArray):
        yield pa.record_batch(batch)
    elif isinstance(batch, ArrowStream):
        with pa.RecordBatchReader.from_stream(batch) as reader:
            yield from reader
    else:
        raise SourceFailed(f"a batch is {type(batch).__name__}; expected rows, bytes or Arrow columns")
